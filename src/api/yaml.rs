//! YAML in and out, the only place that knows a YAML library. No I/O.
//!
//! Reading is bounded: a document is at most [`MAX_DOCUMENT`] long, and what its anchors expand to is counted before anything is built.

use std::{cell::Cell, fmt};

use serde::{
    Deserializer, Serialize,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::path::{FieldPath, Segment};

/// The longest document, in bytes; etcd takes objects of 1.5 MiB.
const MAX_DOCUMENT: usize = 1024 * 1024;
/// The most that a document may expand to, in bytes of text and 16 per value.
const MAX_EXPANDED: usize = 16 * MAX_DOCUMENT;

/// A document that cannot be read. It never quotes a value, because the value may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct YamlError {
    /// Counted from 1 within the document's text.
    pub line: usize,
    pub message: String,
}

/// The documents of a text, each with the number of lines before it. One that is broken does not touch the others.
pub(super) fn documents(text: &str) -> Vec<(usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut lines_before, mut place) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let mark = line.trim_end();
        let begins = mark == "---" || mark.starts_with("--- ") || mark.starts_with("---\t") || mark == "...";
        if begins && place > start {
            documents.push((lines_before, &text[start..place]));
            (start, lines_before) = (place, number);
        }
        place += line.len();
    }
    documents.push((lines_before, &text[start..]));
    documents
}

/// Reads one document; an empty one is `Null`.
pub(crate) fn read(document: &str) -> Result<Value, YamlError> {
    let document = document.strip_prefix("...").unwrap_or(document);
    if document.len() > MAX_DOCUMENT {
        let message = format!("the document is longer than {MAX_DOCUMENT} bytes: split it");
        return Err(YamlError { line: 1, message });
    }
    let budget = Cell::new(MAX_EXPANDED);
    Count(&budget).deserialize(serde_yaml::Deserializer::from_str(document)).map_err(|error| syntax(&error))?;
    let mut value: serde_yaml::Value = serde_yaml::from_str(document).map_err(|error| syntax(&error))?;
    let bad_shape = |message: &str| YamlError { line: 1, message: message.to_owned() };
    value
        .apply_merge()
        .map_err(|_| bad_shape("a merge key `<<` does not stand for a mapping: write the fields out"))?;
    serde_json::to_value(&value).map_err(|_| bad_shape("a key is not a text: put it in quotes"))
}

/// The line, counted from 1 within the document, on which a field stands or, where it is missing, the nearest thing around it.
pub(super) fn line_of(document: &str, path: &FieldPath) -> Option<usize> {
    let document = document.strip_prefix("...").unwrap_or(document);
    // The library tells positions in errors only, so the way to the field ends in one on purpose.
    let error = Seek(path.segments()).deserialize(serde_yaml::Deserializer::from_str(document)).err()?;
    error.location().map(|location| location.line())
}

/// Writes a value as one document.
pub(super) fn write(value: &impl Serialize) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|error| error.to_string())
}

fn syntax(error: &serde_yaml::Error) -> YamlError {
    let line = error.location().map_or(1, |location| location.line());
    let text = error.to_string();
    // "… at line 3 column 5" would repeat the line that is told beside it.
    let text = text.split(" at line ").next().unwrap_or(&text);
    let text = if text.contains("invalid type") || text.contains("invalid value") {
        "a value is of the wrong type"
    } else {
        text
    };
    YamlError { line, message: format!("not valid YAML: {text}") }
}

/// Counts what a document expands to, and stops when it is too much.
#[derive(Clone, Copy)]
struct Count<'a>(&'a Cell<usize>);

impl Count<'_> {
    fn spend<E: serde::de::Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(bytes.saturating_add(16));
        self.0.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or_else(|| E::custom("its anchors expand to too much: write the values out"))
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.spend(0)
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.spend(0)
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.spend(0)
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<(), E> {
        self.spend(0)
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<(), E> {
        self.spend(0)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.spend(0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.spend(text.len())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.spend(0)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.spend(0)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.spend(0)?;
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.spend(0)?;
        while entries.next_key_seed(self)?.is_some() {
            entries.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom("tags like !name are not understood: remove the tag"))
    }
}

/// Walks to a field and ends in an error there, which carries the position.
struct Seek<'a>(&'a [Segment]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0.first() {
            None => deserializer.deserialize_any(Here),
            Some(Segment::Key(_)) => deserializer.deserialize_map(self),
            Some(Segment::Index(_)) => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the way to the field")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Some((Segment::Key(wanted), rest)) = self.0.split_first() else { return Err(A::Error::custom("here")) };
        while let Some(found) = entries.next_key_seed(SeekKey { wanted, last: rest.is_empty() })? {
            if found {
                return entries.next_value_seed(Seek(rest));
            }
            entries.next_value::<IgnoredAny>()?;
        }
        Err(A::Error::custom("missing"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Segment::Index(wanted), rest)) = self.0.split_first() else { return Err(A::Error::custom("here")) };
        for _ in 0..*wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Err(A::Error::custom("missing"));
            }
        }
        items.next_element_seed(Seek(rest))?;
        Err(A::Error::custom("missing"))
    }
}

/// Takes nothing, so that the error carries the position of the value.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

/// Compares a key; of the last segment the key itself is the place, not its value.
struct SeekKey<'a> {
    wanted: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for SeekKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SeekKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        match (key == self.wanted, self.last) {
            (true, true) => Err(E::custom("here")),
            (found, _) => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_the_line_on_which_its_key_or_item_stands() {
        let text = "---\n# comment\nspec:\n  intake:\n    webhook:\n      host: max.acme.ru\n  autoReplies:\n  - after: 1s\n    \
                    text: a\n  - {after: 2s,\n     text: b}\n";
        for (path, line) in [
            ("spec", 3),
            ("spec.intake", 4),
            ("spec.intake.webhook.host", 6),
            ("spec.autoReplies", 7),
            ("spec.autoReplies[0]", 8),
            ("spec.autoReplies[0].text", 9),
            ("spec.autoReplies[1]", 10),
            ("spec.autoReplies[1].after", 10),
            ("spec.autoReplies[1].text", 11),
            ("spec.autoReplies[1].missing", 10),
            ("spec.intake.longPoll", 5),
        ] {
            assert_eq!(line_of(text, &path.parse().unwrap()), Some(line), "{path}");
        }
    }

    #[test]
    fn documents_are_apart_and_know_the_lines_before_them() {
        let text = "\u{feff}a: 1\r\n---\r\nb: |\n  ---\n  text\n--- # c\nc: 3\n...\n---\n";
        let found = documents(text);
        assert_eq!(found.iter().map(|(before, _)| *before).collect::<Vec<_>>(), [0, 1, 5, 7, 8]);
        let values: Vec<Value> = found.iter().map(|(_, document)| read(document).unwrap()).collect();
        let null = Value::Null;
        let expected = [
            serde_json::json!({"a": 1}),
            serde_json::json!({"b": "---\ntext\n"}),
            serde_json::json!({"c": 3}),
            null.clone(),
            null,
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line_and_without_its_values() {
        let laughs = (0..30).fold("a0: &a0 [secret]\n".to_owned(), |text, n| {
            format!("{text}a{next}: &a{next} [*a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}]\n", next = n + 1)
        });
        let wide = format!("a: &a {}\nb: [{}]\n", "secret".repeat(50_000), "*a, ".repeat(100));
        let table = [
            ("a: [1\nb: 2\n", 2, "did not find expected"),
            ("a: 1\nb: secret\nb: secret\n", 1, "duplicate entry"),
            ("a: !secret x\n", 1, "tags like !name"),
            ("<<: secret\n", 1, "merge key"),
            ("a: *missing\n", 1, "unknown anchor"),
            (laughs.as_str(), 1, ""),
            (wide.as_str(), 1, "expand to too much"),
        ];
        for (text, line, part) in table {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(part) && !error.message.contains("secret"), "{}", error.message);
            assert!(part.is_empty() || error.line >= line, "{}: line {}", error.message, error.line);
        }
    }

    #[test]
    fn merge_keys_and_aliases_are_resolved() {
        let value = read("base: &base {a: 1, b: 2}\nuse: {<<: *base, b: 3}\n").unwrap();
        assert_eq!(value["use"], serde_json::json!({"a": 1, "b": 3}));
    }
}
