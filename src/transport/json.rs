//! JSON as others write it: a text may hold half of a surrogate pair (`"\ud83d"`), which serde
//! refuses together with everything around it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// How deep the pieces of a text are looked into.
const DEPTH: usize = 16;

/// Reads a JSON text as far as it can be read: half a character is replaced, a number that no
/// number holds or a nesting that is too deep becomes null, of two equal keys the last counts.
/// None: it is no JSON.
#[must_use]
pub fn readable(json: &[u8]) -> Option<Value> {
    pieces(whole_characters(json).trim_start_matches('\u{feff}'), DEPTH)
}

fn pieces(raw: &str, depth: usize) -> Option<Value> {
    if let Ok(whole) = serde_json::from_str(raw) {
        return Some(whole);
    }
    if depth == 0 {
        return None;
    }
    let piece = |raw: &RawValue| pieces(raw.get(), depth - 1).unwrap_or(Value::Null);
    if let Ok(fields) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(raw) {
        return Some(fields.into_iter().map(|(key, raw)| (key.into_owned(), piece(raw))).collect());
    }
    let items = serde_json::from_str::<Vec<&RawValue>>(raw).ok()?;
    Some(items.into_iter().map(piece).collect())
}

/// The same JSON with U+FFFD in place of every lone surrogate and of every byte that is not UTF-8.
#[must_use]
pub fn whole_characters(json: &[u8]) -> Cow<'_, str> {
    let json = String::from_utf8_lossy(json);
    let lone = lone_surrogates(&json);
    if lone.is_empty() {
        return json;
    }
    let mut mended = String::with_capacity(json.len());
    let mut from = 0;
    for at in lone {
        mended.push_str(&json[from..at]);
        mended.push_str("\\ufffd");
        from = at + ESCAPE;
    }
    mended.push_str(&json[from..]);
    Cow::Owned(mended)
}

/// Bytes of `\uXXXX`.
const ESCAPE: usize = 6;

/// Where the escapes of lone surrogates begin. Outside of texts JSON has no backslash.
fn lone_surrogates(json: &str) -> Vec<usize> {
    let bytes = json.as_bytes();
    let code = |at: usize| {
        let digits = bytes.get(at..at + ESCAPE)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut lone = Vec::new();
    let mut at = 0;
    while let Some(next) = json.get(at..).and_then(|rest| rest.find('\\')) {
        at += next;
        match code(at) {
            Some(0xd800..=0xdbff) if matches!(code(at + ESCAPE), Some(0xdc00..=0xdfff)) => at += 2 * ESCAPE,
            Some(0xd800..=0xdfff) => {
                lone.push(at);
                at += ESCAPE;
            }
            Some(_) => at += ESCAPE,
            // Another escape: a backslash and one character, of which the first byte is enough to
            // pass an escaped backslash.
            None => {
                at += 2;
                while at < json.len() && !json.is_char_boundary(at) {
                    at += 1;
                }
            }
        }
    }
    lone
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lone_surrogate_becomes_a_replacement_character_and_nothing_else_changes() {
        for (json, text) in [
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\ude00""#, "\u{fffd}"),
            (r#""\ud83d\ude00""#, "😀"),
            (r#""\uD83D\uDE00 and \ud83d""#, "😀 and \u{fffd}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
            (r#""\\ud83d""#, "\\ud83d"),
            (r#""\\\ud83d""#, "\\\u{fffd}"),
            (r#""\u0041\ud83dA""#, "A\u{fffd}A"),
        ] {
            assert_eq!(serde_json::from_str::<String>(&whole_characters(json.as_bytes())).unwrap(), text, "{json}");
        }
        assert_eq!(whole_characters(b"\"\xed\xa0\xbd\""), "\"\u{fffd}\u{fffd}\u{fffd}\"");
    }

    proptest! {
        #[test]
        fn what_is_whole_stays_as_it_is_and_whatever_comes_is_read(text in any::<String>(), noise in r#"(\\|u|d83d|dc00|é|"){0,12}"#) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(whole_characters(json.as_bytes()), json.as_str());
            let _ = whole_characters(noise.as_bytes());
        }
    }
}
