//! Reading of one update, whether it came by webhook or by long poll (MAX Bot API reference, "Update types").
//!
//! [`parse`] never fails: what it does not know is [`Event::Unknown`], a known type without the part it is about is
//! [`Event::Incomplete`]. The raw text stays with the caller.

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
    /// A button was pressed. `message` is the one that holds the button, `None` if it is gone.
    MessageCallback { callback_id: String, payload: Option<String>, message: Option<Message> },
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
    let _ = raw;
    todo!()
}
