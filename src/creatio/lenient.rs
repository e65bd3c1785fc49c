//! Readers for what the two runtimes and two databases write differently: null, `""`, the zero Guid
//! and 0001-01-01 mean none, and numbers and flags may come as text (Creatio API reference, 2.2 and
//! 10.3).

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

/// A Guid in any case, braces or not; none for null, empty and zero.
pub(super) fn guid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        None => Ok(None),
        Some(text) if text.trim().is_empty() => Ok(None),
        Some(text) => {
            let id: Uuid = text.trim().parse().map_err(|_| serde::de::Error::custom("not a Guid"))?;
            Ok((!id.is_nil()).then_some(id))
        }
    }
}

/// A text; empty for null. JSON in place of a text comes as its text.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Null => String::new(),
        other => other.to_string(),
    })
}

/// A text and nothing else in its place; empty for null.
pub(super) fn only_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

/// A whole number, also one in a string or one like `3.0`; 0 for null and empty.
pub(super) fn int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(opt_int(deserializer)?.unwrap_or(0))
}

/// The same, keeping "not there" apart from 0.
pub(super) fn opt_int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let wrong = || serde::de::Error::custom("not a whole number");
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        #[allow(clippy::cast_possible_truncation)]
        // Fractions and sizes beyond 2^53 do not occur in whole-number columns.
        Value::Number(number) => {
            number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)).map(Some).ok_or_else(wrong)
        }
        Value::String(text) if text.trim().is_empty() => Ok(None),
        Value::String(text) => text.trim().parse().map(Some).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// A flag; false for null.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(opt_flag(deserializer)?.unwrap_or(false))
}

/// The same, keeping "not there" apart from false.
pub(super) fn opt_flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Bool(flag) => Some(flag),
        Value::Number(number) => Some(number.as_i64() != Some(0)),
        Value::String(text) if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") || text == "0" => Some(false),
        _ => None,
    })
}

/// A time; none for null, empty and the year 1. One without a zone is UTC (Creatio API reference,
/// 3.5).
pub(super) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<jiff::Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let text = text.trim();
    if text.is_empty() || text.starts_with("0001-01-01") {
        return Ok(None);
    }
    text.parse::<jiff::Timestamp>()
        .or_else(|_| format!("{text}Z").parse())
        .map(Some)
        .map_err(|_| serde::de::Error::custom("not a time"))
}
