//! Whose, where and when: the one place that judges an update of MAX before anything is stored from
//! it. Pure.
//!
//! - *Whose*: who wrote, pressed or removed; where MAX does not name the person, whoever has the
//!   dialog with that chat id.
//! - *Where*: the bot may be in groups, too. What says that it comes from one, by the type of its
//!   chat or by a negative id, is left and counted. An event that only names a chat belongs to the
//!   customer's dialog if it is the one that we know. Only a start or a message of the dialog
//!   itself tells us the dialog's chat.
//! - *When*: the time of the thing itself, else that of the update, else that of its receipt. Where
//!   two bear the same millisecond, a message comes before what happened to it, and a departure
//!   comes last.

use super::store::Position;
use crate::contract::CustomerId;
use crate::max::ChatId;
use crate::max::update::{Event, Update, is_time};
use crate::time::Millis;

/// How far MAX's clock may be ahead of ours. What lies further ahead is no time, and would make
/// everything after it late.
const AHEAD: Millis = 24 * 3_600_000;

/// What an update says of the chat in which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    /// The dialog itself, by its own word.
    Dialog { chat: Option<ChatId> },
    /// It says nothing of the kind, at most the id of a chat.
    Unsaid { chat: Option<ChatId> },
    /// A group or a channel.
    Elsewhere,
}

impl Scene {
    pub fn of(update: &Update) -> Self {
        let chat = update.recipient.chat_id.or(update.chat_id);
        match (&update.event, update.recipient.chat_type.as_str()) {
            (Event::Elsewhere, _) | (_, "chat" | "channel") => Self::Elsewhere,
            (_, "dialog") => Self::Dialog { chat },
            _ if chat.is_some_and(ChatId::is_negative) => Self::Elsewhere,
            // Whatever the type is called: a positive chat and a user are a dialog.
            (Event::BotStarted { .. } | Event::MessageCreated(_) | Event::MessageEdited(_), _) => Self::Dialog { chat },
            _ => Self::Unsaid { chat },
        }
    }

    /// Whether it happened in the dialog that has the chat `known`.
    pub fn is_in_dialog(self, known: Option<ChatId>) -> bool {
        match self {
            Self::Dialog { .. } => true,
            Self::Unsaid { chat } => chat.is_none() || known.is_none() || chat == known,
            Self::Elsewhere => false,
        }
    }

    pub fn chat(self) -> Option<ChatId> {
        match self {
            Self::Dialog { chat } | Self::Unsaid { chat } => chat,
            Self::Elsewhere => None,
        }
    }
}

/// Whose an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Customer(CustomerId),
    /// Of whoever has the dialog with that chat.
    DialogOf(ChatId),
    /// The bot's own, of a group, or of nobody who can be told.
    Nobody,
}

impl Whose {
    pub fn of(update: &Update, bot: i64) -> Self {
        let scene = Scene::of(update);
        let of_dialog = !matches!(scene, Scene::Elsewhere) && !matches!(update.event, Event::Unknown { .. });
        // The bot's own messages may be echoed (MAX Bot API, "Who gets what"); those without a
        // sender tell by whom they were written to.
        let is_press = matches!(update.event, Event::MessageCallback { .. });
        let from_bot = update.user_id == Some(bot)
            || (update.user_id.is_none() && !is_press && update.recipient.user_id.is_some_and(|to| to != bot));
        match (update.user_id, scene.chat()) {
            _ if !of_dialog || from_bot => Self::Nobody,
            (Some(user), _) => Self::Customer(CustomerId::new(user)),
            (None, Some(chat)) => Self::DialogOf(chat),
            (None, None) => Self::Nobody,
        }
    }
}

/// When it happened, by MAX's clock; none: MAX does not say.
pub(super) fn said_time(update: &Update, received_at: Millis) -> Option<Millis> {
    let of_itself = match &update.event {
        Event::MessageCreated(message) => Some(message.timestamp),
        Event::MessageCallback { pressed_at, .. } => Some(*pressed_at),
        _ => None,
    };
    let is_plausible = |at: &Millis| is_time(*at) && *at <= received_at.saturating_add(AHEAD);
    of_itself.into_iter().chain([update.timestamp]).find(is_plausible)
}

/// The place of an update among the events of its dialog.
pub(super) fn position(update: &Update, received_at: Millis) -> Position {
    let at = said_time(update, received_at).unwrap_or(received_at);
    let seq = match &update.event {
        Event::MessageCreated(message) => message.seq,
        Event::MessageEdited(_) | Event::MessageRemoved { .. } | Event::BotStopped | Event::DialogRemoved => i64::MAX,
        _ => 0,
    };
    (at, seq)
}

/// Whether `one` certainly comes before `other`: of those in one millisecond only messages have an
/// order, those of MAX (above 0) among themselves, and those of MANGO OFFICE (below) whose ids are
/// numbers.
pub(super) fn is_before(one: Position, other: Position) -> bool {
    let is_numbered = |(_, seq): Position| seq != 0 && seq < i64::MAX && seq > -i64::MAX;
    let are_alike = is_numbered(one) && is_numbered(other) && one.1.signum() == other.1.signum();
    one.0 < other.0 || (one.0 == other.0 && are_alike && one.1 < other.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::max::update::parse;
    use serde_json::{Value, json};

    const BOT: i64 = 254_700_011;
    const ANNA: i64 = 91_234_567;
    const DIALOG: i64 = 184_500_123;
    const GROUP: i64 = -70_801_234_567_890;
    const NOW: Millis = 1_790_000_100_000;

    fn written(recipient: &Value, sender: &Value) -> Value {
        json!({"update_type": "message_created", "timestamp": 1_790_000_000_200_i64, "message": {"sender": sender,
            "recipient": recipient, "timestamp": 1_790_000_000_100_i64, "body": {"mid": "m", "seq": 7, "text": "x"}}})
    }

    fn anna() -> Value {
        json!({"user_id": ANNA, "first_name": "Анна", "is_bot": false})
    }

    #[test]
    fn whose_and_where_is_told_by_what_the_update_says_and_a_group_is_never_a_dialog() {
        let press = |message: Value| {
            json!({"update_type": "message_callback", "timestamp": 1,
                "callback": {"callback_id": "c", "payload": "p", "user": anna()}, "message": message})
        };
        let message_of_bot = |chat: i64, kind: &str| {
            json!({"sender": {"user_id": BOT, "is_bot": true}, "recipient": {"chat_id": chat, "chat_type": kind, "user_id": ANNA},
                "body": {"mid": "b"}})
        };
        let removed =
            |chat: i64| json!({"update_type": "message_removed", "message_id": "m", "chat_id": chat, "user_id": ANNA});
        let left = |chat: i64| json!({"update_type": "bot_stopped", "chat_id": chat, "user": anna()});
        let (anna_s, nobody) = (Whose::Customer(CustomerId::new(ANNA)), Whose::Nobody);
        for (update, whose, in_dialog) in [
            (written(&json!({"chat_id": DIALOG, "chat_type": "dialog", "user_id": BOT}), &anna()), anna_s, true),
            (written(&json!({"chat_id": DIALOG, "chat_type": "Dialogue2", "user_id": BOT}), &anna()), anna_s, true),
            (written(&json!({"chat_id": "184500123", "chat_type": 5}), &anna()), anna_s, true),
            (written(&json!({"chat_id": DIALOG}), &anna()), anna_s, true),
            (written(&Value::Null, &anna()), anna_s, true),
            (written(&json!("odd"), &json!({"user_id": "91234567"})), anna_s, true),
            (
                written(&json!({"chat_id": DIALOG, "chat_type": "dialog", "user_id": BOT}), &Value::Null),
                Whose::DialogOf(ChatId::new(DIALOG)),
                true,
            ),
            (written(&json!({"chat_id": DIALOG, "chat_type": "dialog", "user_id": ANNA}), &Value::Null), nobody, true),
            (written(&json!({"chat_id": DIALOG, "chat_type": "dialog"}), &json!({"user_id": BOT})), nobody, true),
            (written(&json!({"chat_id": GROUP, "chat_type": "chat"}), &anna()), nobody, false),
            (written(&json!({"chat_id": GROUP}), &anna()), nobody, false),
            (written(&json!({"chat_id": 5, "chat_type": "channel"}), &anna()), nobody, false),
            (press(message_of_bot(DIALOG, "dialog")), anna_s, true),
            (press(message_of_bot(GROUP, "chat")), nobody, false),
            (press(message_of_bot(GROUP, "unheard of")), nobody, false),
            (press(Value::Null), anna_s, true),
            (removed(DIALOG), anna_s, true),
            (removed(GROUP), nobody, false),
            (removed(5), anna_s, false),
            (left(DIALOG), anna_s, true),
            (left(5), anna_s, false),
            (left(GROUP), nobody, false),
            (json!({"update_type": "bot_started", "chat_id": 5, "user_id": ANNA}), anna_s, true),
            (json!({"update_type": "bot_started", "chat_id": GROUP, "user": anna()}), nobody, false),
            (json!({"update_type": "user_added", "chat_id": DIALOG, "user": anna()}), nobody, false),
            (json!({"update_type": "message_created", "user_id": ANNA}), anna_s, true),
            (
                json!({"update_type": "message_created", "chat_id": DIALOG, "message": 7}),
                Whose::DialogOf(ChatId::new(DIALOG)),
                true,
            ),
            (json!({"update_type": "message_created", "message": {"sender": anna(), "body": null}}), anna_s, true),
        ] {
            let read = parse(&update.to_string());
            assert_eq!(Whose::of(&read, BOT), whose, "{update}");
            assert_eq!(Scene::of(&read).is_in_dialog(Some(ChatId::new(DIALOG))), in_dialog, "{update}");
        }
    }

    #[test]
    fn of_one_millisecond_only_numbered_messages_of_the_same_way_have_an_order() {
        const LAST: i64 = i64::MAX;
        for (one, other, expected) in [
            ((1, 9), (2, 1), true),
            ((2, 1), (1, 9), false),
            ((1, 1), (1, 2), true),
            ((1, 0), (1, 2), false),
            ((1, 1), (1, LAST), false),
            ((1, 7 - LAST), (1, 8 - LAST), true),
            ((1, 8 - LAST), (1, 7 - LAST), false),
            ((1, -LAST), (1, 7 - LAST), false),
            ((1, 7 - LAST), (1, 5), false),
        ] {
            assert_eq!(is_before(one, other), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn an_odd_time_is_replaced_by_the_updates_own_and_that_by_the_time_of_receipt() {
        let dialog = json!({"chat_id": DIALOG, "chat_type": "dialog"});
        for odd in [
            json!(null),
            json!(0),
            json!("12"),
            json!(12),
            json!(-5),
            json!(1_790_000_000),
            json!(9e18),
            json!({}),
            json!(i64::MAX),
        ] {
            let mut update = written(&dialog, &anna());
            update["message"]["timestamp"] = odd.clone();
            assert_eq!(position(&parse(&update.to_string()), NOW).0, 1_790_000_000_200, "{odd}");
            update["timestamp"] = odd.clone();
            assert_eq!(position(&parse(&update.to_string()), NOW), (NOW, 7), "{odd}");
            assert_eq!(said_time(&parse(&update.to_string()), NOW), None, "{odd}");
            update["message"].as_object_mut().unwrap().remove("timestamp");
            assert_eq!(position(&parse(&update.to_string()), NOW), (NOW, 7), "{odd}");
        }
        let whole = parse(&written(&dialog, &anna()).to_string());
        assert_eq!(position(&whole, NOW), (1_790_000_000_100, 7));
        // A machine that is some hours behind MAX changes nothing.
        assert_eq!(position(&whole, 1_789_990_000_000), (1_790_000_000_100, 7));
    }
}
