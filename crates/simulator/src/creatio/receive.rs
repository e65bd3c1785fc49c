//! The body of `receive`, read as strictly as the package contract is written. Pure.

use serde_json::Value;
use uuid::Uuid;

use super::chat::MessageType;

/// All members of the body.
const MEMBERS: [&str; 13] = [
    "externalId",
    "channelSource",
    "sender",
    "name",
    "phone",
    "timestamp",
    "direction",
    "author",
    "text",
    "type",
    "replacesExternalId",
    "standBy",
    "attachments",
];

/// The body of `receive`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Receive {
    pub external_id: String,
    pub channel_source: String,
    pub sender: String,
    pub name: String,
    pub phone: String,
    pub timestamp: i64,
    pub incoming: bool,
    pub author: String,
    pub text: String,
    pub kind: MessageType,
    pub replaces: String,
    pub stand_by: bool,
    pub attachments: Vec<Attached>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attached {
    pub id: Uuid,
    pub name: String,
    pub mime: String,
    pub size: u64,
    pub kind: MessageType,
}

impl Receive {
    /// Reads the body as strictly as the contract is written.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
        let object = value.as_object().ok_or("the body is no object")?;
        if let Some(unknown) = object.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
            return Err(format!("unknown member {unknown}"));
        }
        let text = |name: &str| match object.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) if text.contains('\0') => Err(format!("{name} contains U+0000")),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(format!("{name} is no text")),
        };
        let required = |name: &str| {
            text(name).and_then(|text| if text.is_empty() { Err(format!("{name} is missing")) } else { Ok(text) })
        };
        let short = |name: &str, size: usize| {
            required(name).and_then(|text| {
                if text.encode_utf16().count() > size { Err(format!("{name} is longer than {size}")) } else { Ok(text) }
            })
        };
        let incoming = match required("direction")?.as_str() {
            "incoming" => true,
            "outgoing" => false,
            other => return Err(format!("direction {other} is unknown")),
        };
        let author = required("author")?;
        let fitting = if incoming { &["customer"][..] } else { &["autoReply", "closeMessage", "bot"][..] };
        if !fitting.contains(&author.as_str()) {
            return Err(format!("author {author} does not go with the direction"));
        }
        let kind = required("type")?;
        let kind = MessageType::from_word(&kind).ok_or_else(|| format!("type {kind} is unknown"))?;
        let timestamp =
            object.get("timestamp").and_then(Value::as_i64).filter(|at| *at > 0).ok_or("timestamp is missing")?;
        let stand_by = match object.get("standBy") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => return Err("standBy is no truth value".to_owned()),
        };
        let attachments = match object.get("attachments") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list.iter().map(Attached::read).collect::<Result<Vec<_>, _>>()?,
            Some(_) => return Err("attachments is no array".to_owned()),
        };
        if attachments.last().map_or(MessageType::Text, |last| last.kind) != kind {
            return Err("type is not that of the last attachment".to_owned());
        }
        let receive = Self {
            external_id: short("externalId", 250)?,
            channel_source: short("channelSource", 50)?,
            sender: short("sender", 50)?,
            name: text("name")?,
            phone: text("phone")?,
            timestamp,
            incoming,
            author,
            text: text("text")?,
            kind,
            replaces: text("replacesExternalId")?,
            stand_by,
            attachments,
        };
        receive.check_replacement()?;
        Ok(receive)
    }

    /// An edit is `<mid>:edit:<ms>`, a removal `<mid>:removed`, both with `<mid>` as what they
    /// replace.
    fn check_replacement(&self) -> Result<(), String> {
        let id = self.external_id.as_str();
        let replaced = id.strip_suffix(":removed").or_else(|| {
            let (mid, ms) = id.rsplit_once(":edit:")?;
            (!ms.is_empty() && ms.bytes().all(|byte| byte.is_ascii_digit())).then_some(mid)
        });
        if replaced.unwrap_or("") == self.replaces {
            return Ok(());
        }
        Err("externalId and replacesExternalId do not belong together".to_owned())
    }
}

impl Attached {
    fn read(value: &Value) -> Result<Self, String> {
        let text = |name: &str| {
            value[name]
                .as_str()
                .filter(|text| !text.is_empty())
                .ok_or_else(|| format!("attachments: {name} is missing"))
        };
        let kind = text("type")?;
        Ok(Self {
            id: Uuid::try_parse(text("id")?).map_err(|_| "attachments: id is no Guid")?,
            name: text("name")?.to_owned(),
            mime: text("mimeType")?.to_owned(),
            size: value["size"].as_u64().ok_or("attachments: size is missing")?,
            kind: MessageType::from_word(kind)
                .filter(|kind| *kind != MessageType::Text)
                .ok_or_else(|| format!("attachments: type {kind} is unknown"))?,
        })
    }
}
