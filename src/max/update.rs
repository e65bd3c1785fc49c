//! Reading of one update, whether it came by webhook or by long poll (MAX Bot API reference,
//! "Update types").
//!
//! [`parse`] never fails: what it does not know is [`Event::Unknown`], a known type without the
//! part it is about is [`Event::Incomplete`]. The raw text stays with the caller.

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::ids::{ChatId, MessageId};
use super::lenient;
use super::message::{Addressee, Message, User};

/// One update.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// MAX's word, for example `message_created`; empty where the text is no update at all.
    pub update_type: String,
    /// Unix milliseconds; that of a new message where the update gives none, else 0.
    pub timestamp: i64,
    /// The dialog, group or channel, where known.
    pub chat_id: Option<ChatId>,
    /// Who did it, where known. For `message_removed` only the id is.
    pub user_id: Option<i64>,
    /// Who did it, with names, where MAX gave them.
    pub user: Option<User>,
    /// Where the message was written that this is about; empty where it is about none.
    pub recipient: Addressee,
    /// It names the user's language, which MAX does for dialogs only.
    pub in_dialog: bool,
    pub event: Event,
    key: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A new message. In a group or channel too: see [`Update::recipient`]. The bot's own may be
    /// echoed: compare the sender.
    MessageCreated(Message),
    /// The message as it is now; `timestamp` of the update is the time of the edit.
    MessageEdited(Message),
    /// A message was deleted, by its `mid`.
    MessageRemoved { message_id: MessageId },
    /// A button was pressed, at `pressed_at` (Unix milliseconds). `message` is the one that holds
    /// the button, `None` if it is gone. Without an id it cannot be answered.
    MessageCallback { callback_id: Option<String>, pressed_at: i64, payload: Option<String>, message: Option<Message> },
    /// The customer pressed start, for the first time or again after a stop; `payload` comes from
    /// the deep link.
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
    /// A known type without the part it is about, such as a `message_created` with no `message`
    /// (seen live for voice messages).
    Incomplete { update_type: String },
}

impl Update {
    /// The same for every delivery of one event, different for different events (MAX Bot API
    /// reference, "Webhook delivery").
    #[must_use]
    pub fn dedup_key(&self) -> &str {
        &self.key
    }
}

/// Reads one update. Never fails and keeps no copy of `raw`.
#[must_use]
pub fn parse(raw: &str) -> Update {
    let digest = || {
        let digest = Sha256::digest(raw.trim().as_bytes());
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest[..16])
    };
    let mut value = lenient::value(raw).filter(Value::is_object).unwrap_or_default();
    name_message(&mut value, &digest);
    let torn = value.get("message").and_then(|message| Torn::deserialize(message).ok()).unwrap_or_default();
    let wire: Wire = serde_json::from_value(value).unwrap_or_default();
    let update_type = wire.kind();
    // Who wrote and where stand in a message that cannot be read as one, too.
    let (sender, recipient) = match &wire.message {
        Some(message) => (message.sender.clone(), message.recipient.clone()),
        None => (torn.sender, torn.recipient),
    };
    let user = match update_type.as_str() {
        "message_callback" => wire.callback.as_ref().and_then(|callback| callback.user.clone()).or(wire.user.clone()),
        _ => wire.user.clone().or(sender),
    };
    // The bot's message was written to whoever pressed its button.
    let addressee = recipient.user_id.filter(|_| update_type == "message_callback");
    let user_id = user.as_ref().map(|user| user.id).or(wire.user_id).or(addressee);
    let chat_id = wire.chat_id.or(recipient.chat_id);
    // Of an edit and of a press the message only says when it was written.
    let written_at =
        wire.message.as_ref().map(|message| message.timestamp).filter(|_| update_type == "message_created");
    let timestamp = wire.timestamp.or(written_at).unwrap_or_default();
    let in_dialog = wire.user_locale.is_some();
    let removed_comment = wire.message_id.clone().filter(|_| update_type == "comment_removed");
    let event = wire.event(&update_type);
    let key = match removed_comment {
        Some(id) => format!("{update_type}:{id}"),
        None => key(&update_type, &event, (chat_id, user_id), timestamp, &digest),
    };
    Update { update_type, timestamp, chat_id, user_id, user, recipient, in_dialog, event, key }
}

/// A message whose id is missing gets one made of the update, the same whenever it is repeated.
fn name_message(update: &mut Value, digest: &dyn Fn() -> String) {
    let Some(message) = update.get_mut("message").and_then(Value::as_object_mut) else { return };
    // Without a body and without anything that it forwards there is nothing to be read.
    if !message.get("body").is_some_and(Value::is_object) {
        if !message.get("link").is_some_and(Value::is_object) {
            return;
        }
        message.insert("body".to_owned(), Value::Object(serde_json::Map::new()));
    }
    let Some(body) = message.get_mut("body").and_then(Value::as_object_mut) else { return };
    if body.get("mid").and_then(lenient::as_text).is_none_or(|mid| mid.trim().is_empty()) {
        body.insert("mid".to_owned(), Value::String(format!("unnamed.{}", digest())));
    }
}

/// Whether that can be a time of MAX's: milliseconds since some moment after 2001. Smaller numbers
/// are no times or not in milliseconds.
#[must_use]
pub fn is_time(millis: i64) -> bool {
    millis >= 1_000_000_000_000
}

/// MAX Bot API reference, "Webhook delivery", table of keys.
fn key(
    update_type: &str,
    event: &Event,
    (chat_id, user_id): (Option<ChatId>, Option<i64>),
    timestamp: i64,
    digest: &dyn Fn() -> String,
) -> String {
    let named = |id: &str| format!("{update_type}:{id}");
    match event {
        Event::MessageCreated(message) => named(message.mid.as_str()),
        Event::MessageEdited(message) if is_time(timestamp) => named(&format!("{}:{timestamp}", message.mid)),
        Event::MessageEdited(message) => named(&format!("{}:{}", message.mid, digest())),
        Event::MessageRemoved { message_id } => named(message_id.as_str()),
        Event::MessageCallback { callback_id: Some(id), pressed_at, .. } => named(&format!("{id}:{pressed_at}")),
        // Two customers' voice messages without a `message` may bear the same millisecond, and two
        // messages of one customer that cannot be read may have no time: only the text tells them
        // apart.
        Event::MessageCallback { .. } | Event::Incomplete { .. } => named(&format!("{timestamp}:{}", digest())),
        _ if (chat_id.is_none() && user_id.is_none()) || !is_time(timestamp) => {
            named(&format!("{timestamp}:{}", digest()))
        }
        _ => {
            let chat = chat_id.map(|chat| chat.to_string()).unwrap_or_default();
            let user = user_id.map(|user| user.to_string()).unwrap_or_default();
            named(&format!("{chat}:{user}:{timestamp}"))
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    #[serde(deserialize_with = "lenient::or_default")]
    update_type: String,
    #[serde(deserialize_with = "lenient::integer")]
    timestamp: Option<i64>,
    #[serde(deserialize_with = "lenient::chat")]
    chat_id: Option<ChatId>,
    #[serde(deserialize_with = "lenient::integer")]
    user_id: Option<i64>,
    #[serde(deserialize_with = "lenient::option")]
    user: Option<User>,
    #[serde(deserialize_with = "lenient::text")]
    user_locale: Option<String>,
    #[serde(deserialize_with = "lenient::option")]
    message: Option<Message>,
    #[serde(deserialize_with = "lenient::text")]
    message_id: Option<String>,
    #[serde(deserialize_with = "lenient::option")]
    callback: Option<Callback>,
    #[serde(deserialize_with = "lenient::text")]
    payload: Option<String>,
    #[serde(deserialize_with = "lenient::integer")]
    muted_until: Option<i64>,
}

/// What can be told of a message that cannot be read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Torn {
    #[serde(deserialize_with = "lenient::option")]
    sender: Option<User>,
    #[serde(deserialize_with = "lenient::or_default")]
    recipient: Addressee,
}

#[derive(Deserialize)]
struct Callback {
    #[serde(rename = "callback_id", default, deserialize_with = "lenient::text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "lenient::integer_or_zero")]
    timestamp: i64,
    #[serde(default, deserialize_with = "lenient::text")]
    payload: Option<String>,
    #[serde(default, deserialize_with = "lenient::option")]
    user: Option<User>,
}

impl Wire {
    /// MAX's word for it. Where that is missing, the part that is there tells.
    fn kind(&self) -> String {
        match self.update_type.as_str() {
            "" if self.callback.is_some() => "message_callback".to_owned(),
            "" if self.message.is_some() => "message_created".to_owned(),
            word => word.to_owned(),
        }
    }

    fn event(self, update_type: &str) -> Event {
        let in_dialog = |event: Event| {
            // Without a chat or a user nobody knows whose dialog it was.
            if self.chat_id.is_some() || self.user.is_some() || self.user_id.is_some() { Some(event) } else { None }
        };
        let event = match update_type {
            "message_created" => self.message.map(Event::MessageCreated),
            "message_edited" => self.message.map(Event::MessageEdited),
            "message_removed" => self
                .message_id
                .filter(|id| !id.trim().is_empty())
                .map(|id| Event::MessageRemoved { message_id: MessageId::new(id) }),
            "message_callback" => self.callback.map(|callback| Event::MessageCallback {
                callback_id: callback.id.filter(|id| !id.is_empty()),
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
            _ => return Event::Unknown { update_type: update_type.to_owned() },
        };
        event.unwrap_or(Event::Incomplete { update_type: update_type.to_owned() })
    }
}
