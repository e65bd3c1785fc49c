//! The line to the package MaxChannel: contract version 1, exactly. Names on the wire are the
//! contract's.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::error::{Class, Error, is_html};
use super::lenient;
use super::odata::text_literal;
use super::wire::{Call, FILE_TIMEOUT, Kind, encode};
use super::{Client, Query};
use crate::transport::whole_characters;

/// Rows on one page of the outbox (contract, "From the CRM to the relay").
pub const OUTBOX_PAGE: usize = 100;
/// Keys of one customer that are read.
const NEWEST_KEYS: usize = 20;
/// Longest `Error` of an outbox row, in UTF-16 units; longer is refused (contract, same table).
const REPORT_TEXT: usize = 250;
/// The package version of the wire that this client speaks.
const CONTRACT: i64 = 1;
/// Longest address sent (Creatio API reference, 2.1: below about 2 000 characters).
const LONGEST_PATH: usize = 1_800;

/// Answer of the package's `ping`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Ping {
    /// Version of the package, like `1.0.0`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub version: String,
    /// Version of the wire contract; always the one this client speaks.
    #[serde(default, deserialize_with = "lenient::int")]
    pub contract: i64,
}

/// What became of an uploaded file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileUpload {
    /// It is in the CRM. `duplicate`: it was so before this call.
    Stored { duplicate: bool },
    /// The CRM takes no file of that size; `max_bytes` where it says what it takes.
    TooBig { max_bytes: Option<u64> },
}

/// A file of the CRM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// The whole file.
    pub bytes: Bytes,
    /// Its MIME type as the CRM names it, without parameters; empty where it names none.
    pub mime_type: String,
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// From the customer; goes with [`Author::Customer`].
    Incoming,
    /// To the customer, without an agent: history only, never sent back to the relay.
    Outgoing,
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Author {
    Customer,
    AutoReply,
    CloseMessage,
    Bot,
}

/// What a message is, or a file of one.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum MessageType {
    #[default]
    Text,
    File,
    Image,
    Audio,
    Video,
}

impl MessageType {
    /// Unknown names are files where there are files, so that nothing is lost by a new name.
    fn from_wire(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "text" => Self::Text,
            "file" => Self::File,
            "image" => Self::Image,
            "audio" => Self::Audio,
            "video" => Self::Video,
            _ => return None,
        })
    }
}

/// An uploaded file named in a message.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The id given to [`Client::upload_file`].
    pub id: Uuid,
    #[serde(serialize_with = "clean")]
    pub name: String,
    #[serde(serialize_with = "clean")]
    pub mime_type: String,
    /// Bytes.
    pub size: u64,
    #[serde(rename = "type")]
    pub kind: MessageType,
}

/// One message for the history of a customer (contract, `receive`).
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Receive {
    /// The duplicate key within the channel: `<mid>`, `<mid>:edit:<ms>`, `<mid>:removed` or
    /// `out:<id of the outbox row>`.
    #[serde(serialize_with = "clean")]
    pub external_id: String,
    /// `max-bot:<user id of the bot>`.
    #[serde(serialize_with = "clean")]
    pub channel_source: String,
    /// The customer, `max:<user id>`, also for outgoing entries.
    #[serde(serialize_with = "clean")]
    pub sender: String,
    /// The customer's name; may be empty.
    #[serde(default, serialize_with = "clean")]
    pub name: String,
    /// The customer's telephone number; may be empty.
    #[serde(default, serialize_with = "clean")]
    pub phone: String,
    /// Milliseconds since 1970, UTC; strictly increasing for incoming messages of one sender.
    pub timestamp: i64,
    pub direction: Direction,
    pub author: Author,
    #[serde(default, serialize_with = "clean")]
    pub text: String,
    /// The type of the last attachment, else text.
    #[serde(rename = "type")]
    pub kind: MessageType,
    /// The message that this edit or removal is about; else empty.
    #[serde(default, serialize_with = "clean")]
    pub replaces_external_id: String,
    /// A bot holds the dialog; agents are not called.
    #[serde(default)]
    pub stand_by: bool,
    #[serde(default)]
    pub attachments: Vec<Attachment>,
}

/// PostgreSQL refuses U+0000 (Creatio API reference, 7.8); lone surrogates cannot be in a Rust
/// string.
fn clean<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if text.contains('\0') { serializer.serialize_str(&text.replace('\0', "")) } else { serializer.serialize_str(text) }
}

/// Why the package refused (contract, table of `errorCode`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// No `Channel` with that source: keep the message and try again slowly.
    ChannelNotFound,
    /// The channel is switched off: the same.
    ChannelInactive,
    /// An attachment is not there: upload it again, once.
    FileNotFound,
    /// The message will never be taken: a dead letter.
    BadRequest,
    /// A fault inside: try again as after any transient one.
    Internal,
    /// A code that the contract does not name; treat as [`ErrorCode::Internal`].
    Other(String),
}

impl ErrorCode {
    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::ChannelNotFound => "channel_not_found",
            Self::ChannelInactive => "channel_inactive",
            Self::FileNotFound => "file_not_found",
            Self::BadRequest => "bad_request",
            Self::Internal => "internal",
            Self::Other(name) => name,
        }
    }
}

fn error_code<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<ErrorCode>, D::Error> {
    let name = lenient::text(deserializer)?;
    Ok(match name.trim() {
        "" => None,
        "channel_not_found" => Some(ErrorCode::ChannelNotFound),
        "channel_inactive" => Some(ErrorCode::ChannelInactive),
        "file_not_found" => Some(ErrorCode::FileNotFound),
        "bad_request" => Some(ErrorCode::BadRequest),
        "internal" => Some(ErrorCode::Internal),
        other => Some(ErrorCode::Other(other.to_owned())),
    })
}

/// Answer of `receive`. Only `success` with `queued` false is an acknowledgement.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ReceiveAnswer {
    #[serde(default, deserialize_with = "lenient::flag")]
    pub success: bool,
    /// The key was known; the rest repeats the first answer.
    #[serde(default, deserialize_with = "lenient::flag")]
    pub duplicate: bool,
    /// No acknowledgement: repeat the call after 1, 2, 5, then every 5 s.
    #[serde(default, deserialize_with = "lenient::flag")]
    pub queued: bool,
    #[serde(default, deserialize_with = "lenient::guid")]
    pub message_id: Option<Uuid>,
    /// None while queued, and for an outgoing entry of a customer without any chat.
    #[serde(default, deserialize_with = "lenient::guid")]
    pub chat_id: Option<Uuid>,
    #[serde(default, deserialize_with = "lenient::guid")]
    pub contact_id: Option<Uuid>,
    /// Why `success` is false.
    #[serde(default, deserialize_with = "error_code")]
    pub error_code: Option<ErrorCode>,
    /// The same in words, at most 200 characters, without the message's own words.
    #[serde(default, deserialize_with = "lenient::text")]
    pub error_message: String,
}

/// Answer of `handOver`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HandOverAnswer {
    #[serde(default, deserialize_with = "lenient::flag")]
    pub success: bool,
    /// No acknowledgement: repeat as for `receive`.
    #[serde(default, deserialize_with = "lenient::flag")]
    pub queued: bool,
    /// The chat to which agents are called, normally a child of the one named; none while queued.
    #[serde(default, deserialize_with = "lenient::guid")]
    pub chat_id: Option<Uuid>,
    /// Why `success` is false.
    #[serde(default, deserialize_with = "error_code")]
    pub error_code: Option<ErrorCode>,
    /// The same in words.
    #[serde(default, deserialize_with = "lenient::text")]
    pub error_message: String,
}

/// What an outbox row tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxKind {
    /// An agent's message for the customer.
    Message,
    /// An agent took the chat.
    Accepted,
    /// The chat went on to another agent or queue; `chat_id` is the child.
    Transferred,
    /// The chat is over; see [`OutboxRow::reason`].
    Closed,
    /// A kind of a later package: report it as failed rather than wait for it for ever.
    Other(String),
}

/// Who closed a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    Agent,
    Timeout,
    /// The relay's own closing.
    Relay,
    /// None given, or a new one.
    Other(String),
}

/// Where a row stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxState {
    Pending,
    Delivered,
    Failed,
    Uncertain,
    Other(String),
}

/// A file of an agent's message; its bytes come by [`Client::download_file`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OutboxFile {
    pub id: Uuid,
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: String,
    #[serde(default, deserialize_with = "lenient::text")]
    pub mime_type: String,
    /// Bytes; 0 where not told.
    #[serde(default, deserialize_with = "lenient::int")]
    pub size: i64,
    #[serde(default, rename = "type", deserialize_with = "file_type")]
    pub kind: MessageType,
}

fn file_type<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<MessageType, D::Error> {
    Ok(MessageType::from_wire(&lenient::text(deserializer)?).unwrap_or(MessageType::File))
}

/// One row of `MaxOutbox`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    pub id: Uuid,
    /// Grows, unique on the site, with gaps; a lower one may become visible later.
    pub seq: i64,
    pub kind: OutboxKind,
    /// `max-bot:<user id of the bot>`.
    pub channel_source: String,
    pub chat_id: Option<Uuid>,
    pub parent_chat_id: Option<Uuid>,
    /// The customer, `max:<user id>`.
    pub recipient: String,
    /// The agent's user in the CRM; none for a transfer to a queue.
    pub agent_id: Option<Uuid>,
    pub agent_name: String,
    /// Of messages only.
    pub message_id: Option<Uuid>,
    /// Of messages only.
    pub message_type: MessageType,
    pub text: String,
    pub files: Vec<OutboxFile>,
    /// The places, from 1 on, of the files whose entry cannot be read.
    pub odd_files: Vec<usize>,
    /// `Files` could not be read; the row must be reported as failed, since sending it would leave
    /// something out.
    pub files_unreadable: bool,
    /// Of closings only.
    pub reason: Option<CloseReason>,
    pub state: OutboxState,
    pub error: String,
    pub created_on: Option<jiff::Timestamp>,
}

/// One page of the outbox, as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxPage {
    /// In the order of `Seq`.
    pub rows: Vec<OutboxRow>,
    /// What is no row of the contract, each set aside alone.
    pub odd: Vec<OddRow>,
    /// There are no rows behind it.
    pub last: bool,
}

/// An element of the outbox that cannot be read: half an emoji, a Guid or a time that is none,
/// another type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OddRow {
    /// None: nothing can be reported of it.
    pub id: Option<Uuid>,
    pub seq: Option<i64>,
    /// The members that cannot be read; empty where it is no object.
    pub members: Vec<String>,
}

impl OddRow {
    /// What can be said of an element that is no [`WireRow`].
    fn of(raw: &RawValue) -> Self {
        let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(raw.get())
            .or_else(|_| serde_json::from_str(&whole_characters(raw.get().as_bytes())))
            .unwrap_or_default();
        let member = |name: &str| members.get(name).map(|value| value.get());
        let id = member("Id").and_then(|text| serde_json::from_str::<Uuid>(text).ok());
        let seq = member("Seq").and_then(|text| lenient::int(&mut serde_json::Deserializer::from_str(text)).ok());
        // Each member is tried in a row that has no other.
        let reads = |name: &str, value: &str| {
            let (id, seq) = if name == "Id" { (value, "0") } else { (NO_ID, if name == "Seq" { value } else { "0" }) };
            let other = if name == "Id" || name == "Seq" { String::new() } else { format!(",{name:?}:{value}") };
            serde_json::from_str::<WireRow>(&format!(r#"{{"Id":{id},"Seq":{seq}{other}}}"#)).is_ok()
        };
        let mut odd: Vec<String> =
            members.iter().filter(|(name, value)| !reads(name, value.get())).map(|(name, _)| name.clone()).collect();
        let missing = ["Id", "Seq"].into_iter().filter(|name| !members.is_empty() && !members.contains_key(*name));
        odd.extend(missing.map(str::to_owned));
        Self { id: id.filter(|id| !id.is_nil()), seq, members: odd }
    }
}

const NO_ID: &str = r#""00000000-0000-0000-0000-000000000000""#;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireRow {
    id: Uuid,
    #[serde(deserialize_with = "lenient::int")]
    seq: i64,
    #[serde(default, deserialize_with = "lenient::only_text")]
    kind: String,
    #[serde(default, deserialize_with = "lenient::only_text")]
    channel_source: String,
    #[serde(default, deserialize_with = "lenient::guid")]
    chat_id: Option<Uuid>,
    #[serde(default, deserialize_with = "lenient::guid")]
    parent_chat_id: Option<Uuid>,
    #[serde(default, deserialize_with = "lenient::only_text")]
    recipient: String,
    #[serde(default, deserialize_with = "lenient::guid")]
    agent_id: Option<Uuid>,
    #[serde(default, deserialize_with = "lenient::only_text")]
    agent_name: String,
    #[serde(default, deserialize_with = "lenient::guid")]
    message_id: Option<Uuid>,
    #[serde(default, deserialize_with = "lenient::only_text")]
    message_type: String,
    #[serde(default, deserialize_with = "lenient::only_text")]
    text: String,
    #[serde(default, deserialize_with = "lenient::text")]
    files: String,
    #[serde(default, deserialize_with = "lenient::only_text")]
    reason: String,
    #[serde(default, deserialize_with = "lenient::only_text")]
    state: String,
    #[serde(default, deserialize_with = "lenient::only_text")]
    error: String,
    #[serde(default, deserialize_with = "lenient::time")]
    created_on: Option<jiff::Timestamp>,
}

impl From<WireRow> for OutboxRow {
    fn from(row: WireRow) -> Self {
        let entries = if row.files.trim().is_empty() {
            Ok(Vec::new())
        } else {
            serde_json::from_str::<Option<Vec<Box<RawValue>>>>(&row.files).map(Option::unwrap_or_default)
        };
        let files_unreadable = entries.is_err();
        let mut files = Vec::new();
        let mut odd_files = Vec::new();
        for (index, entry) in entries.unwrap_or_default().iter().enumerate() {
            match serde_json::from_str(entry.get()) {
                Ok(file) => files.push(file),
                Err(_) => odd_files.push(index + 1),
            }
        }
        Self {
            id: row.id,
            seq: row.seq,
            kind: match row.kind.as_str() {
                "message" => OutboxKind::Message,
                "accepted" => OutboxKind::Accepted,
                "transferred" => OutboxKind::Transferred,
                "closed" => OutboxKind::Closed,
                other => OutboxKind::Other(other.to_owned()),
            },
            channel_source: row.channel_source,
            chat_id: row.chat_id,
            parent_chat_id: row.parent_chat_id,
            recipient: row.recipient,
            agent_id: row.agent_id,
            agent_name: row.agent_name,
            message_id: row.message_id,
            message_type: MessageType::from_wire(&row.message_type).unwrap_or_default(),
            text: row.text,
            files_unreadable,
            files,
            odd_files,
            reason: (row.kind == "closed").then(|| match row.reason.as_str() {
                "agent" => CloseReason::Agent,
                "timeout" => CloseReason::Timeout,
                "relay" => CloseReason::Relay,
                other => CloseReason::Other(other.to_owned()),
            }),
            state: match row.state.as_str() {
                "Pending" => OutboxState::Pending,
                "Delivered" => OutboxState::Delivered,
                "Failed" => OutboxState::Failed,
                "Uncertain" => OutboxState::Uncertain,
                other => OutboxState::Other(other.to_owned()),
            },
            error: row.error,
            created_on: row.created_on,
        }
    }
}

/// What became of an outbox row; the text is what the agent should read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    Delivered,
    Failed(String),
    Uncertain(String),
}

impl Client {
    /// Asks the package for its version.
    ///
    /// # Errors
    /// [`Class::PackageMissing`] where the package is not there or speaks another contract.
    pub async fn ping(&self) -> Result<Ping, Error> {
        let ping = self.package_json(&Self::ping_call()).await?;
        self.of_our_contract(ping)
    }

    /// The same for one who installs the package, and may not be let to use it: the package tells
    /// its version along with that refusal.
    ///
    /// # Errors
    /// As [`Self::ping`]; [`Class::AccessDenied`] only where the refusal tells no version.
    pub(super) async fn installed(&self) -> Result<Ping, Error> {
        let call = Call { though_denied: true, ..Self::ping_call() };
        let answer = self.wire.send(&call).await?;
        let told = || serde_json::from_slice::<Ping>(answer.body()).ok().filter(|ping| !ping.version.is_empty());
        match (answer.status() == StatusCode::FORBIDDEN).then(told).flatten() {
            Some(ping) => self.of_our_contract(ping),
            None => self.of_our_contract(self.package_answer(&call, &answer)?),
        }
    }

    fn ping_call() -> Call<'static> {
        Call::get(Kind::Package, "rest/MaxChannelService/ping", "the ping of the package MaxChannel")
    }

    fn of_our_contract(&self, ping: Ping) -> Result<Ping, Error> {
        if ping.contract != CONTRACT {
            return Err(Error::new(
                Class::PackageMissing,
                false,
                format!(
                    "the package MaxChannel {} on {} speaks contract {}, not {CONTRACT}: install the package of this release",
                    ping.version,
                    self.wire.host(),
                    ping.contract
                ),
            ));
        }
        Ok(ping)
    }

    /// Uploads the bytes of a file under an id made by the caller, so that repeating is harmless.
    ///
    /// # Errors
    /// Anything but "stored" and "too big".
    pub async fn upload_file(&self, id: Uuid, name: &str, mime: &str, bytes: Bytes) -> Result<FileUpload, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            #[serde(default, deserialize_with = "lenient::flag")]
            success: bool,
            #[serde(default, deserialize_with = "lenient::flag")]
            duplicate: bool,
            #[serde(default, deserialize_with = "error_code")]
            error_code: Option<ErrorCode>,
            #[serde(default, deserialize_with = "lenient::text")]
            error_message: String,
            #[serde(default, deserialize_with = "lenient::opt_int")]
            max_bytes: Option<i64>,
        }
        let path = |name: &str| {
            let (name, mime) = (encode(&name.replace('\0', "")), encode(&mime.replace('\0', "")));
            format!("rest/MaxChannelService/file?id={id}&name={name}&mimeType={mime}")
        };
        let about = format!("the upload of file {id}");
        let private = [name];
        let mut call = Call::post(Kind::File, path(name), about, bytes);
        if call.path.len() > LONGEST_PATH {
            call.path = path(&shortened(name, |name| path(name).len() <= LONGEST_PATH));
        }
        call.content_type = Some("application/octet-stream");
        call.timeout = FILE_TIMEOUT;
        call.private = &private;
        let answer = self.wire.send(&call).await?;
        if answer.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Ok(FileUpload::TooBig { max_bytes: None });
        }
        let answer: Answer = self.package_answer(&call, &answer)?;
        match answer.error_code {
            _ if answer.success => Ok(FileUpload::Stored { duplicate: answer.duplicate }),
            Some(ErrorCode::Other(code)) if code == "file_too_big" => {
                Ok(FileUpload::TooBig { max_bytes: answer.max_bytes.and_then(|max| u64::try_from(max).ok()) })
            }
            code => Err(self.refused(&call, code.as_ref(), &answer.error_message)),
        }
    }

    /// Hands one message to the package. Business refusals are answers, not errors.
    ///
    /// # Errors
    /// No answer of the contract came back.
    pub async fn receive(&self, message: &Receive) -> Result<ReceiveAnswer, Error> {
        let about = format!("the message {} of {}", message.external_id, message.sender);
        let mut private = vec![message.text.as_str(), message.name.as_str(), message.phone.as_str()];
        private.extend(message.attachments.iter().map(|attachment| attachment.name.as_str()));
        let mut call = Call::post_json(Kind::Package, "rest/MaxChannelService/receive", about, message);
        call.private = &private;
        let mut answer: ReceiveAnswer = self.package_json(&call).await?;
        if !answer.success && answer.error_code.is_none() {
            return Err(self.refused(&call, None, &answer.error_message));
        }
        answer.error_message = self.wire.excerpt(&call, &answer.error_message);
        Ok(answer)
    }

    /// Ends stand-by in a chat and calls agents. Repeating is harmless.
    ///
    /// # Errors
    /// No answer of the contract came back.
    pub async fn hand_over(&self, chat: Uuid) -> Result<HandOverAnswer, Error> {
        let about = format!("the hand-over of chat {chat}");
        let call = Call::post_json(Kind::Package, "rest/MaxChannelService/handOver", about, &json!({ "chatId": chat }));
        let mut answer: HandOverAnswer = self.package_json(&call).await?;
        if !answer.success && answer.error_code.is_none() {
            return Err(self.refused(&call, None, &answer.error_message));
        }
        answer.error_message = self.wire.excerpt(&call, &answer.error_message);
        Ok(answer)
    }

    /// One page (at most 100, fewer where the site's own pages are shorter) of the pending rows of
    /// a channel above `after_seq`, by `Seq`.
    ///
    /// # Errors
    /// [`Class::PackageMissing`] where the site knows no `MaxOutbox`.
    pub async fn outbox(&self, channel_source: &str, after_seq: i64) -> Result<OutboxPage, Error> {
        let source = text_literal(channel_source);
        let query = Query::new()
            .filter(format!("ChannelSource eq {source} and State eq 'Pending' and Seq gt {after_seq}"))
            .order_by("Seq asc")
            .top(OUTBOX_PAGE);
        let (elements, more) = self.first_rows("MaxOutbox", &query).await?;
        let last = !more && elements.len() < OUTBOX_PAGE;
        let mut page = OutboxPage { rows: Vec::new(), odd: Vec::new(), last };
        for element in elements {
            match serde_json::from_str::<WireRow>(element.get()) {
                Ok(row) => page.rows.push(row.into()),
                Err(_) => page.odd.push(OddRow::of(&element)),
            }
        }
        Ok(page)
    }

    /// The newest keys under which the CRM was handed something of a customer's, the newest first.
    ///
    /// # Errors
    /// [`Class::AccessDenied`] where the technical user may not read `MaxInbound`, which nothing
    /// else needs.
    pub async fn newest_keys(&self, channel_source: &str, sender: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Key {
            external_id: String,
        }
        let (source, sender) = (text_literal(channel_source), text_literal(sender));
        let query = Query::new()
            .select("Id,ExternalId")
            .filter(format!("ChannelSource eq {source} and Sender eq {sender}"))
            .order_by("CreatedOn desc")
            .top(NEWEST_KEYS);
        let keys: Vec<Key> = self.rows("MaxInbound", &query).await?;
        Ok(keys.into_iter().map(|key| key.external_id).collect())
    }

    /// Reports what became of a row; the package then shows the agent a line in the chat.
    ///
    /// # Errors
    /// [`Class::NotFound`] where the row is gone (the package deletes finished ones after 30 days).
    pub async fn report(&self, row: Uuid, report: &Report) -> Result<(), Error> {
        let body = match report {
            Report::Delivered => json!({ "State": "Delivered" }),
            Report::Failed(why) => json!({ "State": "Failed", "Error": cut(why, REPORT_TEXT) }),
            Report::Uncertain(why) => json!({ "State": "Uncertain", "Error": cut(why, REPORT_TEXT) }),
        };
        self.patch_as(Kind::Report, "MaxOutbox", row, &body).await
    }

    /// The bytes of a file of an agent's message. None: not there yet, as long as the agent's
    /// request lasts.
    ///
    /// # Errors
    /// [`Class::TooLarge`] where it is longer than `max_bytes`.
    pub async fn download_file(&self, id: Uuid, max_bytes: usize) -> Result<Option<Download>, Error> {
        let path = format!("rest/FileService/Download/OmnichannelMessageFile/{id}");
        let mut call = Call::get(Kind::File, path, format!("the download of file {id}"));
        call.timeout = FILE_TIMEOUT;
        call.max_answer = max_bytes;
        call.any_content = true;
        let answer = self.wire.send(&call).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if answer.status() != StatusCode::OK {
            return Err(self.wire.refusal(&call, &answer));
        }
        let mime_type = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .unwrap_or_default();
        Ok(Some(Download { mime_type: mime_type.trim().to_owned(), bytes: answer.into_body() }))
    }

    async fn package_json<T: serde::de::DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, Error> {
        let answer = self.wire.send(call).await?;
        self.package_answer(call, &answer)
    }

    fn package_answer<T: serde::de::DeserializeOwned>(
        &self,
        call: &Call<'_>,
        answer: &crate::transport::Response,
    ) -> Result<T, Error> {
        let missing = answer.status() == StatusCode::NOT_FOUND || (answer.status().is_success() && is_html(answer));
        if missing {
            return Err(self.wire.package_missing(answer));
        }
        self.wire.parse(call, answer)
    }

    /// A refusal that the contract gives no place in the answer.
    fn refused(&self, call: &Call<'_>, code: Option<&ErrorCode>, message: &str) -> Error {
        let class = match code {
            Some(ErrorCode::BadRequest) => Class::BadRequest,
            Some(ErrorCode::FileNotFound | ErrorCode::ChannelNotFound) => Class::NotFound,
            _ => Class::Transient,
        };
        let code = code.map_or("no error code", ErrorCode::as_str);
        let message = self.wire.excerpt(call, message);
        Error::new(
            class,
            false,
            format!("the package MaxChannel on {} refuses {} ({code}): {message}", self.wire.host(), call.about),
        )
    }
}

/// A name made shorter until it fits, keeping its extension.
fn shortened(name: &str, fits: impl Fn(&str) -> bool) -> String {
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if extension.chars().count() <= 10 => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    let stem: Vec<char> = stem.chars().collect();
    let whole = |length: usize| stem[..length].iter().collect::<String>() + &extension;
    let fitting = (0..=stem.len()).rev().find(|length| fits(&whole(*length)));
    whole(fitting.unwrap_or(0))
}

/// At most `units` UTF-16 units without U+0000, cut before a whole visible character.
pub(super) fn cut(text: &str, units: usize) -> String {
    let text = text.replace('\0', "");
    if text.encode_utf16().count() <= units {
        return text;
    }
    // Room for the mark that something is missing.
    let mut room = units - 1;
    let mut end = text.len();
    for (at, character) in text.char_indices() {
        if character.len_utf16() > room {
            end = at;
            break;
        }
        room -= character.len_utf16();
    }
    // Do not part what is drawn as one: combining marks, joiners, variation selectors, skin tones.
    let glued =
        |c: char| matches!(c, '\u{300}'..='\u{36f}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}');
    while let (Some(next), Some(last)) = (text[end..].chars().next(), text[..end].chars().next_back())
        && (glued(next) || last == '\u{200d}')
    {
        end -= last.len_utf8();
    }
    format!("{}…", &text[..end])
}
