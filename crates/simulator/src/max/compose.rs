//! `NewMessageBody` checked and turned into the content of a message (MAX Bot API, POST /messages;
//! inline keyboard; attachments).

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::Value;

use super::markup::{Span, html, markdown};
use super::refusal::Refusal;
use super::world::{Attachment, Linked, MediaKind, Message, World, is_mid};

const TEXT: usize = 4000;
const MEDIA: usize = 12;
const BUTTONS: usize = 210;
const BUTTONS_IN_ROW: usize = 7;
const WIDE_BUTTONS_IN_ROW: usize = 3;

/// The checked content.
#[derive(Clone, Debug)]
pub(super) struct Composed {
    pub(super) text: String,
    pub(super) markup: Vec<Span>,
    /// None: absent or null, which keeps what an edited message has.
    pub(super) attachments: Option<Vec<Attachment>>,
    pub(super) link: Option<Linked>,
    pub(super) notify: bool,
}

impl Composed {
    pub(super) fn into_message(self, sender: i64) -> Message {
        Message {
            seq: 0,
            timestamp: 0,
            sender,
            text: self.text,
            markup: self.markup,
            attachments: self.attachments.unwrap_or_default(),
            link: self.link,
            edited_at: None,
            deleted: false,
            notify: self.notify,
        }
    }
}

/// The external pictures that a body names by address; they are fetched before the body is checked.
pub(super) fn external_pictures(body: &Value) -> Vec<String> {
    let attachments = body["attachments"].as_array().into_iter().flatten();
    attachments
        .filter(|attachment| attachment["type"] == "image")
        .filter_map(|attachment| attachment.pointer("/payload/url")?.as_str().map(str::to_owned))
        .collect()
}

impl World {
    /// Checks a body for `bot`. `keeps`: an edit whose message keeps its attachments counts as
    /// having content.
    pub(super) fn compose(
        &mut self,
        bot: i64,
        body: &Value,
        fetched: &HashMap<String, Bytes>,
        keeps: bool,
    ) -> Result<Composed, Refusal> {
        let body = body.as_object().ok_or_else(Refusal::body)?;
        let field = |name: &str| body.get(name).filter(|value| !value.is_null());
        let text = match field("text") {
            None => "",
            Some(text) => text.as_str().ok_or_else(Refusal::body)?,
        };
        let size = self.switches.text_unit.length(text);
        if size > TEXT {
            return Err(Refusal::too_long("text", size, TEXT));
        }
        let notify = match field("notify") {
            None => true,
            Some(notify) => notify.as_bool().ok_or_else(Refusal::body)?,
        };
        let (text, markup) = match field("format") {
            None => (text.to_owned(), Vec::new()),
            Some(format) => match format.as_str().ok_or_else(Refusal::body)?.to_ascii_lowercase().as_str() {
                "markdown" => markdown(text),
                "html" => html(text),
                other => return Err(Refusal::payload(format!("Unknown format: {other}"))),
            },
        };
        let link = field("link").map(|link| self.linked(bot, link)).transpose()?;
        if link.as_ref().is_some_and(|link| link.forward) && !text.trim().is_empty() {
            return Err(Refusal::payload("errors.forward.text.not-empty"));
        }
        let mut attachments = match field("attachments") {
            None => None,
            Some(list) => {
                let list = list.as_array().ok_or_else(Refusal::body)?;
                check_mix(list)?;
                let mut all = Vec::new();
                for attachment in list {
                    all.extend(self.attachment(bot, attachment, fetched)?);
                }
                Some(all)
            }
        };
        let empty = text.trim().is_empty() && link.is_none();
        if empty && attachments.as_ref().map_or(!keeps, Vec::is_empty) {
            return Err(Refusal::payload("Message must have text, attachments or link"));
        }
        if let Some(url) = text.split_whitespace().find(|word| word.starts_with("https://"))
            && self.switches.link_previews
        {
            let preview = Attachment::Share { url: url.to_owned(), title: None, description: None };
            attachments.get_or_insert_default().push(preview);
        }
        Ok(Composed { text, markup, attachments, link, notify })
    }

    fn linked(&self, bot: i64, link: &Value) -> Result<Linked, Refusal> {
        let forward = match link["type"].as_str() {
            Some("forward") => true,
            Some("reply") => false,
            _ => return Err(Refusal::body()),
        };
        let mid = link["mid"].as_str().ok_or_else(Refusal::body)?;
        if !is_mid(mid) {
            return Err(Refusal::message_id(mid));
        }
        let (chat, seq) = self.find(bot, mid).ok_or_else(|| Refusal::message_id(mid))?;
        let (_, message) = self.message(chat, seq).ok_or_else(|| Refusal::message_id(mid))?;
        Ok(linked_to(forward, chat, message))
    }

    fn attachment(
        &mut self,
        bot: i64,
        value: &Value,
        fetched: &HashMap<String, Bytes>,
    ) -> Result<Vec<Attachment>, Refusal> {
        let kind = value["type"].as_str().ok_or_else(Refusal::body)?;
        let payload = &value["payload"];
        let text = |name: &str| payload[name].as_str().map(str::to_owned);
        let one = match kind {
            "image" => return self.pictures(bot, payload, fetched),
            "video" | "audio" | "file" => {
                let token =
                    text("token").ok_or_else(|| Refusal::payload(format!("Missing `token` in {kind} attachment")))?;
                Attachment::Media(self.usable(bot, &token, MediaKind::from_name(kind))?)
            }
            "sticker" => Attachment::Sticker { code: text("code").ok_or_else(|| Refusal::payload("errors.required"))? },
            "contact" => {
                let user = payload["contact_id"].as_i64();
                let named = text("name").zip(text("vcf_phone"));
                let vcf = match (text("vcf_info"), named, user.and_then(|id| self.people.get(&id))) {
                    (Some(vcf), ..) => vcf,
                    (None, Some((name, phone)), _) => vcard(&name, &phone),
                    (None, None, Some(person)) => vcard(&person.first_name, &person.phone),
                    _ => return Err(Refusal::payload("errors.required")),
                };
                Attachment::Contact { vcf, hash: None, user }
            }
            "share" => Attachment::Share {
                url: text("url").or_else(|| text("token")).ok_or_else(|| Refusal::payload("errors.required"))?,
                title: None,
                description: None,
            },
            "location" => match (value["latitude"].as_f64(), value["longitude"].as_f64()) {
                (Some(latitude), Some(longitude)) => Attachment::Location { latitude, longitude },
                _ => return Err(Refusal::payload("errors.required")),
            },
            "inline_keyboard" => {
                let rows = check_keyboard(&payload["buttons"], self.switches.max_keyboard_rows)?;
                Attachment::Keyboard { callback_id: self.opaque(110), rows }
            }
            _ => return Err(Refusal::body()),
        };
        Ok(vec![one])
    }

    fn pictures(
        &mut self,
        bot: i64,
        payload: &Value,
        fetched: &HashMap<String, Bytes>,
    ) -> Result<Vec<Attachment>, Refusal> {
        let mut tokens: Vec<String> = payload["token"].as_str().map(str::to_owned).into_iter().collect();
        if let Some(photos) = payload["photos"].as_object() {
            tokens.extend(photos.values().filter_map(|photo| photo["token"].as_str().map(str::to_owned)));
        }
        if !tokens.is_empty() {
            return tokens
                .iter()
                .map(|token| self.usable(bot, token, Some(MediaKind::Image)).map(Attachment::Media))
                .collect();
        }
        let Some(url) = payload["url"].as_str() else {
            return Err(Refusal::payload("No `photos`, `url` or `token` provided. Check payload."));
        };
        let bytes = fetched.get(url).cloned().ok_or_else(|| Refusal::payload("Failed to upload image."))?;
        let id = self.store(MediaKind::Image, bot, "picture".to_owned(), "image/webp".to_owned(), Some(bytes));
        Ok(vec![Attachment::Media(id)])
    }

    /// The media of a token: of this bot, of this kind, uploaded and ready.
    fn usable(&mut self, bot: i64, token: &str, kind: Option<MediaKind>) -> Result<u64, Refusal> {
        let now = self.clock.now_ms();
        let not_owner = self.switches.movie_not_owner;
        let found = self.media_tokens.get(token).and_then(|id| self.media.get_mut(id));
        let moving = matches!(kind, Some(MediaKind::Video | MediaKind::Audio));
        let media = match found {
            Some(media) if media.bot == bot && Some(media.kind) == kind && !(moving && not_owner) => media,
            _ if moving => return Err(Refusal::payload("Key: errors.process.attachment.movie.not.owner")),
            _ if kind == Some(MediaKind::Image) => {
                return Err(Refusal::payload(format!("Invalid photo token provided: {token}")));
            }
            _ => return Err(Refusal::payload(format!("Invalid file token provided: {token}"))),
        };
        if media.bytes.is_none() || media.ready_at > now || media.refusals_left > 0 {
            media.refusals_left = media.refusals_left.saturating_sub(1);
            return Err(Refusal::not_ready(media.kind.name()));
        }
        Ok(media.id)
    }
}

/// A link to a message, with its content as it is now; its keyboard is dropped (MAX Bot API, inline
/// keyboard).
pub(super) fn linked_to(forward: bool, chat: i64, message: &Message) -> Linked {
    let mut message = message.clone();
    message.attachments.retain(|attachment| !matches!(attachment, Attachment::Keyboard { .. }));
    Linked { forward, chat, message: Box::new(message) }
}

/// A card with real CR LF line ends, as the proof of a shared contact needs them.
pub(super) fn vcard(name: &str, phone: &str) -> String {
    format!(
        "BEGIN:VCARD\r\nVERSION:3.0\r\nTEL;TYPE=cell:{}\r\nFN:{name}\r\nEND:VCARD\r\n",
        phone.trim_start_matches('+')
    )
}

fn check_mix(list: &[Value]) -> Result<(), Refusal> {
    let kinds: Vec<&str> = list.iter().filter_map(|attachment| attachment["type"].as_str()).collect();
    let count = |kind: &str| kinds.iter().filter(|found| **found == kind).count();
    let others = kinds.len() - count("inline_keyboard");
    if count("inline_keyboard") > 1 {
        return Err(Refusal::payload("Must be only one inline_keyboard attachment in message"));
    }
    for single in ["file", "audio", "contact", "sticker"] {
        if count(single) > 0 && others > 1 {
            return Err(Refusal::payload(format!("Must be only one {single} attachment in message")));
        }
    }
    if others > MEDIA {
        return Err(Refusal::too_long("attachments", others, MEDIA));
    }
    Ok(())
}

/// The rows of a keyboard, checked; `intent` of requests is ignored.
fn check_keyboard(rows: &Value, max_rows: usize) -> Result<Value, Refusal> {
    let required = || Refusal::payload("errors.required");
    let rows = rows.as_array().ok_or_else(required)?;
    if rows.is_empty() {
        return Err(required());
    }
    if rows.len() > max_rows {
        return Err(Refusal::payload("errors.maxRows"));
    }
    let mut total = 0;
    let mut kept = Vec::new();
    for row in rows {
        let row = row.as_array().ok_or_else(Refusal::body)?;
        let wide = ["link", "open_app", "request_geo_location", "request_contact"];
        let has_wide = row.iter().any(|button| button["type"].as_str().is_some_and(|kind| wide.contains(&kind)));
        if row.len() > if has_wide { WIDE_BUTTONS_IN_ROW } else { BUTTONS_IN_ROW } {
            return Err(Refusal::payload("errors.maxRowSize"));
        }
        total += row.len();
        kept.push(row.iter().map(check_button).collect::<Result<Vec<Value>, _>>()?);
    }
    if total > BUTTONS {
        return Err(Refusal::payload("errors.maxButtons"));
    }
    Ok(kept.into_iter().map(Value::from).collect())
}

fn check_button(button: &Value) -> Result<Value, Refusal> {
    let required = || Refusal::payload("errors.required");
    let text = button["text"].as_str().filter(|text| !text.is_empty()).ok_or_else(required)?;
    let bounded = |name: &str, bound: usize| -> Result<Option<&str>, Refusal> {
        let value = button[name].as_str();
        match value.map(|value| value.chars().count()) {
            Some(size) if size > bound => Err(Refusal::too_long(name, size, bound)),
            _ => Ok(value),
        }
    };
    if text.chars().count() > 128 {
        return Err(Refusal::too_long("text", text.chars().count(), 128));
    }
    match button["type"].as_str() {
        Some("callback" | "clipboard") => {
            bounded("payload", 1024)?.ok_or_else(required)?;
        }
        Some("link") => {
            let url = bounded("url", 2048)?.ok_or_else(required)?;
            if !url.starts_with("https://") && !url.starts_with("http://") {
                return Err(Refusal::payload("Must have only http/https links format in buttons"));
            }
        }
        Some("open_app") => {
            button["web_app"].as_str().ok_or_else(required)?;
            let payload = bounded("payload", 512)?.unwrap_or_default();
            if !payload.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
                return Err(Refusal::payload("Field 'payload' does not match [A-Za-z0-9_-]"));
            }
        }
        Some("message" | "request_contact" | "request_geo_location") => {}
        // `chat` buttons are refused, and so is what nobody knows.
        _ => return Err(Refusal::body()),
    }
    let mut button = button.clone();
    if let Some(map) = button.as_object_mut() {
        map.remove("intent");
        map.retain(|_, value| !value.is_null());
    }
    Ok(button)
}
