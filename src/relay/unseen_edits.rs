//! Edits that fell into a gap which MAX does not repeat: no update tells of them, but the message,
//! when it is read back, says something else than was told of it.
//!
//! Such an edit is written down behind the newest message that was read. What MAX tells later of
//! the same message was read with it where it is older or says the same, and is not shown again.
//! Not found: removals, which leave nothing that could be read, edits of what was written so long
//! before the gap that it is not read back, and what a lost store may have seen after its backup.

use serde_json::{Value, json};

use super::store::inbox::{self, Told};
use super::store::{StoreError, Tx};
use crate::contract::CustomerId;
use crate::max::update::{self, Event};
use crate::max::{Attachment, Message, MessageId};
use crate::time::Millis;

/// When a message was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// When the newest message that was read was written, by MAX's clock.
    pub newest: Millis,
    /// The newest row of the inbox when it was asked for.
    pub known_to: i64,
}

/// An edit, as MAX would have told it, and its key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub key: String,
    pub raw: String,
}

/// What has become of a message that is known; `raw` is an update that tells it as it is now.
pub(super) fn find(tx: &Tx<'_>, id: CustomerId, raw: &str, reading: Reading) -> Result<Option<Edit>, StoreError> {
    let Event::MessageCreated(now) = update::parse(raw).event else { return Ok(None) };
    let told = inbox::told(tx, id, &now.mid)?.pop();
    Ok(told.filter(|told| differs(told, &now, reading)).and_then(|told| edit(&told, &now, raw, reading)))
}

/// Whether an edit that MAX tells now was read back before; `row` is its own, of the time `at`.
pub(super) fn was_read(
    tx: &Tx<'_>,
    id: CustomerId,
    edited: &Message,
    (row, at): (i64, Millis),
) -> Result<bool, StoreError> {
    let mut others = inbox::told(tx, id, &edited.mid)?;
    others.retain(|told| told.row != row);
    Ok(is_covered(&others, edited, at))
}

/// The same, of all else that was told of the message, in the order of MAX.
fn is_covered(others: &[Told], edited: &Message, at: Millis) -> bool {
    let prefix = key_of(&edited.mid, "");
    let is_read = |told: &Told| told.key.starts_with(&prefix);
    let Some(read) = others.iter().rfind(|told| is_read(told)) else { return false };
    if at <= read.at {
        return true;
    }
    let Event::MessageEdited(words) = update::parse(&read.raw).event else { return false };
    let says_it = |message: &Message| is_certainly_the_same(&words, message);
    // The very edit that was read, or one before it, which is told after it.
    let since = others.iter().filter(|told| told.at >= read.at && !is_read(told));
    let told_later = |told: &Told| told.at >= at && tells(told).is_some_and(|message| says_it(&message));
    let is_next = !since.clone().any(|told| told.at < at);
    (is_next && says_it(edited)) || since.clone().any(told_later)
}

fn tells(told: &Told) -> Option<Message> {
    match update::parse(&told.raw).event {
        Event::MessageCreated(message) | Event::MessageEdited(message) => Some(message),
        // A removal, or its content is forgotten.
        _ => None,
    }
}

fn key_of(mid: &MessageId, at: &str) -> String {
    format!("message_edited:{mid}:read.{at}")
}

fn differs(told: &Told, now: &Message, reading: Reading) -> bool {
    // What came while it was read may be the younger one.
    told.row <= reading.known_to && tells(told).is_some_and(|then| said(&then) != said(now))
}

/// What only the customer changes: MAX itself adds previews of links and what it hears in voice
/// messages, and gives other addresses for the same file.
fn said(message: &Message) -> (&str, Vec<std::mem::Discriminant<Attachment>>) {
    (message.text.as_deref().unwrap_or_default().trim(), sent(message).map(std::mem::discriminant).collect())
}

fn sent(message: &Message) -> impl Iterator<Item = &Attachment> {
    message.attachments.iter().filter(|attachment| attachment.is_sent())
}

/// Whether two edits say the same for all who read them; what cannot be told is another, for an
/// edit shown twice is better than one that is not shown.
fn is_certainly_the_same(one: &Message, other: &Message) -> bool {
    let files = |message| sent(message).map(identity).collect::<Option<Vec<_>>>();
    one.text == other.text && one.marks == other.marks && files(one).is_some_and(|of_one| Some(of_one) == files(other))
}

fn identity(attachment: &Attachment) -> Option<String> {
    match attachment {
        Attachment::Image(image) => Some(format!("image {}", image.photo_id?)),
        Attachment::File(file) => Some(format!("file {} {}", file.size?, file.filename.as_ref()?)),
        _ => None,
    }
}

fn edit(told: &Told, now: &Message, raw: &str, reading: Reading) -> Option<Edit> {
    let at = reading.newest.max(now.timestamp).max(told.at + 1);
    let mut update: Value = serde_json::from_str(raw).ok()?;
    update["update_type"] = json!("message_edited");
    update["timestamp"] = json!(at);
    Some(Edit { key: key_of(&now.mid, &at.to_string()), raw: update.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Millis = 1_796_000_000_000;

    fn update(kind: &str, body: &Value) -> String {
        json!({"update_type": kind, "timestamp": AT, "message": {"timestamp": AT, "body": body}}).to_string()
    }

    fn message(raw: &str) -> Message {
        let told = Told { row: 1, key: String::new(), raw: raw.to_owned(), at: AT };
        tells(&told).unwrap()
    }

    fn body(text: &str, attachments: &Value) -> Value {
        json!({"mid": "m", "text": text, "attachments": attachments})
    }

    #[test]
    fn only_what_the_customer_changed_before_it_was_read_is_an_edit() {
        let picture = |url: &str| json!({"type": "image", "payload": {"photo_id": 1, "url": url}});
        let preview = json!({"type": "share", "payload": {"url": "https://example.org/"}});
        let (one, other) = (picture("https://i.example.org/1"), picture("https://i.example.org/2"));
        let then = update("message_created", &body("было", &json!([one])));
        let removed = r#"{"update_type":"message_removed","message_id":"m"}"#.to_owned();
        let edited = update("message_edited", &body("стало", &json!([])));
        let reading = Reading { newest: AT + 500, known_to: 7 };
        for (then, text, files, row, is_edited, why) in [
            (&then, "стало", json!([one]), 7, true, "other words"),
            (&then, "было", json!([]), 7, true, "a picture taken away"),
            (&then, "было", json!([other]), 7, false, "the same picture at another address"),
            (&then, "было", json!([one, preview]), 7, false, "a preview that MAX added"),
            (&then, "стало", json!([]), 8, false, "what came meanwhile may be younger"),
            (&String::new(), "стало", json!([]), 7, false, "nobody knows what it said"),
            (&removed, "было", json!([]), 7, false, "a removal"),
            (&edited, "стало", json!([]), 7, false, "a known edit"),
        ] {
            let now = update("message_created", &body(text, &files));
            let told = Told { row, key: "message_created:m".to_owned(), raw: then.clone(), at: AT };
            assert_eq!(differs(&told, &message(&now), reading), is_edited, "{why}");
            let edit = edit(&told, &message(&now), &now, reading).unwrap();
            let expected = (AT + 500, "message_edited:m:read.1796000000500");
            assert_eq!((update::parse(&edit.raw).timestamp, edit.key.as_str()), expected);
        }
    }

    #[test]
    fn what_was_read_is_not_told_again_whenever_it_comes_and_everything_else_is() {
        let voice = json!([{"type": "audio", "payload": {"url": "https://a.example.org/1"}}]);
        let edit = |text: &str, files: &Value| update("message_edited", &body(text, files));
        let told = |key: &str, at, raw: String| Told { row: 1, key: format!("message_edited:m:{key}"), raw, at };
        let nothing = json!([]);
        let read = || told("read.10", AT + 10, edit("Б", &nothing));
        for (others, text, files, at, covered, why) in [
            (vec![], "Б", &nothing, AT + 20, false, "nothing was read"),
            (vec![read()], "А", &nothing, AT + 10, true, "older than what was read"),
            (vec![read()], "Б", &nothing, AT + 20, true, "the very edit, which MAX tells after all"),
            (vec![read()], "В", &nothing, AT + 20, false, "one after it"),
            (
                vec![read(), told("20", AT + 20, edit("В", &nothing))],
                "Б",
                &nothing,
                AT + 30,
                false,
                "back to what it was",
            ),
            (
                vec![read(), told("30", AT + 30, edit("Б", &nothing))],
                "А",
                &nothing,
                AT + 20,
                true,
                "told behind a later one",
            ),
            (vec![read()], "Б", &voice, AT + 20, false, "with something that was not read"),
            (vec![told("read.10", AT + 10, String::new())], "Б", &nothing, AT + 20, false, "forgotten what it said"),
        ] {
            assert_eq!(is_covered(&others, &message(&edit(text, files)), at), covered, "{why}");
        }
    }
}
