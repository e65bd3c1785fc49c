//! Reading of one update, whether it came by webhook or by long poll (MAX Bot API reference, "Update types").
//!
//! [`parse`] never fails: what it does not know is [`Event::Unknown`], a known type without the part it is about is
//! [`Event::Incomplete`]. The raw text stays with the caller.

use base64::Engine as _;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::lenient;
use super::message::{Message, User};

/// One update.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// MAX's word, for example `message_created`; empty where the text is no update at all.
    pub update_type: String,
    /// Unix milliseconds; that of the message where the update gives none, else 0.
    pub timestamp: i64,
    /// The dialog, group or channel, where known.
    pub chat_id: Option<i64>,
    /// Who did it, where known. For `message_removed` only the id is.
    pub user_id: Option<i64>,
    /// Who did it, with names, where MAX gave them.
    pub user: Option<User>,
    pub event: Event,
    key: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A new message. In a group or channel too: see [`super::Addressee::is_dialog`]. The bot's own may be echoed: compare the sender.
    MessageCreated(Message),
    /// The message as it is now; `timestamp` of the update is the time of the edit.
    MessageEdited(Message),
    /// A message was deleted, by its `mid`.
    MessageRemoved { message_id: String },
    /// A button was pressed, at `pressed_at` (Unix milliseconds). `message` is the one that holds the button, `None` if it is gone.
    MessageCallback { callback_id: String, pressed_at: i64, payload: Option<String>, message: Option<Message> },
    /// The customer pressed start, for the first time or again after a stop; `payload` comes from the deep link.
    BotStarted { payload: Option<String> },
    /// The customer stopped the bot: sends are refused until it is started again.
    BotStopped,
    /// The customer cleared the history.
    DialogCleared,
    /// The customer deleted the dialog; comes together with `bot_stopped`.
    DialogRemoved,
    /// Notifications off until this time, Unix milliseconds.
    DialogMuted { until: Option<i64> },
    /// Notifications on.
    DialogUnmuted,
    /// Something in a group or channel that concerns no dialog: members, titles, rights, comments.
    Elsewhere,
    /// A type this program does not know.
    Unknown { update_type: String },
    /// A known type without the part it is about, such as a `message_created` with no `message` (seen live for voice messages).
    Incomplete { update_type: String },
}

impl Update {
    /// The same for every delivery of one event, different for different events (MAX Bot API reference, "Webhook delivery").
    #[must_use]
    pub fn dedup_key(&self) -> &str {
        &self.key
    }
}

/// Reads one update. Never fails and keeps no copy of `raw`.
#[must_use]
pub fn parse(raw: &str) -> Update {
    let wire: Wire = serde_json::from_str(raw).unwrap_or_default();
    let update_type = wire.update_type.clone();
    let message = wire.message.as_ref();
    let user = match update_type.as_str() {
        "message_callback" => wire.callback.as_ref().and_then(|callback| callback.user.clone()),
        _ => wire.user.clone().or_else(|| message.and_then(|message| message.sender.clone())),
    };
    let user_id = user.as_ref().map(|user| user.id).or(wire.user_id);
    let chat_id = wire.chat_id.or_else(|| message.and_then(|message| message.recipient.chat_id));
    let timestamp = wire.timestamp.or_else(|| message.map(|message| message.timestamp)).unwrap_or_default();
    let removed_comment = wire.message_id.clone().filter(|_| update_type == "comment_removed");
    let event = wire.event();
    let key = match removed_comment {
        Some(id) => format!("{update_type}:{id}"),
        None => key(&update_type, &event, [chat_id, user_id], timestamp, raw),
    };
    Update { update_type, timestamp, chat_id, user_id, user, event, key }
}

/// MAX Bot API reference, "Webhook delivery", table of keys.
fn key(update_type: &str, event: &Event, [chat_id, user_id]: [Option<i64>; 2], timestamp: i64, raw: &str) -> String {
    let named = |id: &str| format!("{update_type}:{id}");
    match event {
        Event::MessageCreated(message) => named(&message.mid),
        Event::MessageEdited(message) => named(&format!("{}:{timestamp}", message.mid)),
        Event::MessageRemoved { message_id } => named(message_id),
        Event::MessageCallback { callback_id, pressed_at, .. } => named(&format!("{callback_id}:{pressed_at}")),
        _ if chat_id.is_none() && user_id.is_none() => {
            // Two customers' voice messages without a `message` may bear the same millisecond: only the text tells them apart.
            let digest = Sha256::digest(raw.trim().as_bytes());
            named(&format!("{timestamp}:{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest[..16])))
        }
        _ => {
            let id = |id: Option<i64>| id.map(|id| id.to_string()).unwrap_or_default();
            named(&format!("{}:{}:{timestamp}", id(chat_id), id(user_id)))
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    #[serde(deserialize_with = "lenient::or_default")]
    update_type: String,
    #[serde(deserialize_with = "lenient::option")]
    timestamp: Option<i64>,
    #[serde(deserialize_with = "lenient::option")]
    chat_id: Option<i64>,
    #[serde(deserialize_with = "lenient::option")]
    user_id: Option<i64>,
    #[serde(deserialize_with = "lenient::option")]
    user: Option<User>,
    #[serde(deserialize_with = "lenient::option")]
    message: Option<Message>,
    #[serde(deserialize_with = "lenient::option")]
    message_id: Option<String>,
    #[serde(deserialize_with = "lenient::option")]
    callback: Option<Callback>,
    #[serde(deserialize_with = "lenient::option")]
    payload: Option<String>,
    #[serde(deserialize_with = "lenient::option")]
    muted_until: Option<i64>,
}

#[derive(Deserialize)]
struct Callback {
    #[serde(rename = "callback_id")]
    id: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    timestamp: i64,
    #[serde(default, deserialize_with = "lenient::option")]
    payload: Option<String>,
    #[serde(default, deserialize_with = "lenient::option")]
    user: Option<User>,
}

impl Wire {
    fn event(self) -> Event {
        let update_type = self.update_type;
        let in_dialog = |event: Event| {
            // Without a chat or a user nobody knows whose dialog it was.
            if self.chat_id.is_some() || self.user.is_some() || self.user_id.is_some() { Some(event) } else { None }
        };
        let event = match update_type.as_str() {
            "message_created" => self.message.map(Event::MessageCreated),
            "message_edited" => self.message.map(Event::MessageEdited),
            "message_removed" => self.message_id.map(|message_id| Event::MessageRemoved { message_id }),
            "message_callback" => self.callback.map(|callback| Event::MessageCallback {
                callback_id: callback.id,
                pressed_at: callback.timestamp,
                payload: callback.payload,
                message: self.message,
            }),
            "bot_started" => in_dialog(Event::BotStarted { payload: self.payload }),
            "bot_stopped" => in_dialog(Event::BotStopped),
            "dialog_cleared" => in_dialog(Event::DialogCleared),
            "dialog_removed" => in_dialog(Event::DialogRemoved),
            "dialog_muted" => in_dialog(Event::DialogMuted { until: self.muted_until }),
            "dialog_unmuted" => in_dialog(Event::DialogUnmuted),
            "bot_added"
            | "bot_removed"
            | "user_added"
            | "user_removed"
            | "chat_title_changed"
            | "bot_admin_permissions_changed"
            | "comment_created"
            | "comment_edited"
            | "comment_removed" => Some(Event::Elsewhere),
            _ => return Event::Unknown { update_type },
        };
        event.unwrap_or(Event::Incomplete { update_type })
    }
}
