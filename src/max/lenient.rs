//! Reading of what is odd: one field that is not as expected never costs a message (MAX Bot API
//! reference, "Wire conventions": optional means absent or null; tolerance rules of "Update
//! types").
//!
//! [`value`] reads a text piece by piece where it cannot be read whole: half an emoji is replaced,
//! a number that no number holds or a nesting that is too deep becomes null, of two equal keys the
//! last counts. The functions below it read single fields: absent, null and "not of the expected
//! type" are the same, and a number written as a text is a number.

use std::borrow::Cow;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::Value;

use super::ids::ChatId;
use crate::transport::{readable, whole_characters};

/// Reads a JSON text as far as it can be read. None: it is no JSON.
pub(super) fn value(raw: &str) -> Option<Value> {
    readable(raw.as_bytes())
}

/// The text with each lone half of a surrogate pair replaced by U+FFFD: some clients cut a text in
/// the middle of an emoji, and no string can hold a half.
pub(super) fn sound(raw: &str) -> Cow<'_, str> {
    whole_characters(raw.as_bytes())
}

/// For `#[serde(default, deserialize_with = "lenient::option")]`.
pub(super) fn option<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

/// The same with the type's default in the place of what is not there.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(option(deserializer)?.unwrap_or_default())
}

/// A text; a number or a truth value is one as well.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(as_text(&Value::deserialize(deserializer)?))
}

/// The same, empty where there is none.
pub(super) fn text_or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(text(deserializer)?.unwrap_or_default())
}

/// A whole number, also one that is written as a text or with a fraction of zero.
pub(super) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(as_integer(&Value::deserialize(deserializer)?))
}

/// The id of a chat.
pub(super) fn chat<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ChatId>, D::Error> {
    Ok(integer(deserializer)?.map(ChatId::new))
}

/// The same, 0 where there is none.
pub(super) fn integer_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(integer(deserializer)?.unwrap_or_default())
}

/// A whole number without which the thing around it has no name.
pub(super) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    integer(deserializer)?.ok_or_else(|| serde::de::Error::custom("an id is a whole number"))
}

/// A number with a fraction.
pub(super) fn float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    })
}

pub(super) fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

pub(super) fn as_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            #[expect(clippy::cast_possible_truncation, reason = "only whole numbers that a double holds exactly")]
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9.0e15)? as i64;
            Some(whole)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A list whose elements are each read or left out; a single thing in its place is a list of one.
pub(super) fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let items = match Value::deserialize(deserializer)? {
        Value::Array(items) => items,
        Value::Object(single) if !single.is_empty() => vec![Value::Object(single)],
        _ => Vec::new(),
    };
    Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_an_emoji_is_replaced_and_everything_else_stays_as_it_is() {
        for (raw, expected) in [
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\ude00x""#, "\u{fffd}x"),
            (r#""a\ud83d\ude00b""#, "a😀b"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\ud83d\\ude00""#, "\u{fffd}\\ude00"),
            (r#""\\ud83d""#, "\\ud83d"),
            (r#""\D83D""#, ""),
            (r#""\uD83Dé""#, "\u{fffd}é"),
            (r#""plain""#, "plain"),
        ] {
            let read = value(raw).and_then(|value| as_text(&value)).unwrap_or_default();
            assert_eq!(read, expected, "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_read_costs_only_itself() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for odd in ["1e999", "-1e999", &deep] {
            let raw = format!(
                r#"{{"a": {{"odd": {odd}, "text": "x"}}, "list": [{odd}, 1], "a": {{"odd": {odd}, "text": "y"}}}}"#
            );
            let read = value(&raw).unwrap();
            assert_eq!((read["a"]["text"].as_str(), &read["list"][1]), (Some("y"), &Value::from(1)), "{raw}");
        }
        assert_eq!(value(r#"{"a": 1"#), None);
    }

    proptest! {
        #[test]
        fn whatever_stands_in_a_text_it_is_read_without_a_panic(raw in "(\\\\|u|d83d|\\\\ud83d|\\\\ude00|é|\"|\\{|:|,){0,20}") {
            let quoted = format!("\"{raw}\"");
            let _ = value(&quoted);
            let _ = value(&raw);
        }
    }
}
