//! A JSON text of any length cut down to one that can be read: what is long in it becomes shorter,
//! and the rest stays.
//!
//! MAX repeats an update until it is answered 200, so one that is refused for its length is refused
//! for ever; and what makes it long is hardly the customer's words, which MAX itself bounds. So it
//! is copied through as it arrives: a text goes on for [`LONGEST_TEXT`] bytes, a list or an object
//! to its bound, and whatever is open where the copy has to end is closed. Memory is bounded by
//! [`LONGEST`] and a little.

/// The longest copy, bytes.
const LONGEST: usize = 8 * 1024 * 1024;
/// The longest that the innermost lists and objects may be.
const SHORTEST_BOUND: usize = 64 * 1024;
/// The longest text within.
const LONGEST_TEXT: usize = 64 * 1024;
/// Values within each other; what is deeper is left out.
const DEPTH: usize = 64;

/// Copies a JSON text, and cuts what is long.
#[derive(Debug, Default)]
pub(super) struct Shortened {
    copy: Vec<u8>,
    open: Vec<Container>,
    state: State,
    /// Objects and lists within what is left out.
    skipped_depth: usize,
}

#[derive(Debug)]
struct Container {
    closer: u8,
    begin: usize,
    /// Where the copy is whole if it ends here: behind the last element, or behind the opening
    /// bracket.
    whole: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Between,
    /// In a text, with so many bytes of it copied, and so many of an escape still to come.
    Text {
        copied: usize,
        escape: u8,
    },
    /// The rest of a text that was cut.
    RestOfText {
        escaped: bool,
    },
    /// The rest of a list or an object that has reached its bound.
    Skipping,
    SkippingText {
        escaped: bool,
    },
}

impl Shortened {
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.byte(*byte);
        }
    }

    /// The copy, closed where the text ended before its time.
    pub fn finish(mut self) -> Vec<u8> {
        if let Some(last) = self.open.last() {
            self.copy.truncate(last.whole);
        }
        while let Some(container) = self.open.pop() {
            self.copy.push(container.closer);
        }
        self.copy
    }

    fn byte(&mut self, byte: u8) {
        match self.state {
            State::Between => self.between(byte),
            State::Text { copied, escape } => self.text(byte, copied, escape),
            State::RestOfText { escaped: true } => self.state = State::RestOfText { escaped: false },
            State::RestOfText { escaped: false } => match byte {
                b'\\' => self.state = State::RestOfText { escaped: true },
                b'"' => {
                    self.copy.extend_from_slice("…\"".as_bytes());
                    self.state = State::Between;
                }
                _ => {}
            },
            State::Skipping => match byte {
                b'"' => self.state = State::SkippingText { escaped: false },
                b'{' | b'[' => self.skipped_depth += 1,
                b'}' | b']' if self.skipped_depth > 0 => self.skipped_depth -= 1,
                b'}' | b']' => {
                    self.state = State::Between;
                    self.close();
                }
                _ => {}
            },
            State::SkippingText { escaped: true } => self.state = State::SkippingText { escaped: false },
            State::SkippingText { escaped: false } => match byte {
                b'\\' => self.state = State::SkippingText { escaped: true },
                b'"' => self.state = State::Skipping,
                _ => {}
            },
        }
    }

    fn between(&mut self, byte: u8) {
        let full = self.is_full();
        match byte {
            b',' | b'{' | b'[' if full => self.skip(byte),
            // Digits without end, or anything else that is no JSON.
            _ if self.copy.len() > LONGEST + LONGEST_TEXT => {}
            b'"' => {
                self.copy.push(byte);
                self.state = State::Text { copied: 0, escape: 0 };
            }
            b'{' | b'[' if self.open.len() >= DEPTH => self.skip(byte),
            b'{' | b'[' => {
                let closer = if byte == b'{' { b'}' } else { b']' };
                self.copy.push(byte);
                let begin = self.copy.len();
                self.open.push(Container { closer, begin, whole: begin });
            }
            b'}' | b']' => {
                if let Some(last) = self.open.last_mut() {
                    last.whole = self.copy.len();
                }
                self.close();
            }
            b',' => {
                if let Some(last) = self.open.last_mut() {
                    last.whole = self.copy.len();
                }
                self.copy.push(byte);
            }
            // Nothing of it is needed.
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => self.copy.push(byte),
        }
    }

    /// Leaves out the rest of the innermost container: at a comma what was is whole, at a bracket
    /// the element that begins is none.
    fn skip(&mut self, byte: u8) {
        if byte == b',' {
            if let Some(last) = self.open.last_mut() {
                last.whole = self.copy.len();
            }
        } else {
            self.skipped_depth = 1;
        }
        self.state = State::Skipping;
    }

    fn close(&mut self) {
        if let Some(container) = self.open.pop() {
            self.copy.truncate(container.whole.max(container.begin));
            self.copy.push(container.closer);
        }
    }

    /// The deeper, the less: what follows a long list in the object around it still finds room.
    fn is_full(&self) -> bool {
        let Some(last) = self.open.last() else { return self.copy.len() > LONGEST };
        let bound = (LONGEST >> (self.open.len() - 1).min(16)).max(SHORTEST_BOUND);
        self.copy.len() - last.begin > bound || self.copy.len() > LONGEST
    }

    fn text(&mut self, byte: u8, copied: usize, escape: u8) {
        let begins_character = escape == 0 && byte & 0xc0 != 0x80;
        if begins_character && byte != b'"' && copied >= LONGEST_TEXT {
            self.state = State::RestOfText { escaped: byte == b'\\' };
            return;
        }
        self.copy.push(byte);
        let escape = match (escape, byte) {
            (0, b'"') => {
                self.state = State::Between;
                return;
            }
            (0, b'\\') => 1,
            // `\u` and four digits.
            (1, b'u') => 5,
            (0..=2, _) => 0,
            (left, _) => left - 1,
        };
        self.state = State::Text { copied: copied + 1, escape };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn shortened(text: &[u8]) -> Vec<u8> {
        let mut shortened = Shortened::default();
        for piece in text.chunks(1_000) {
            shortened.push(piece);
        }
        shortened.finish()
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::hash_map(".{0,4}", inner, 0..8).prop_map(Value::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_short_stays_as_it_is(value in any_json()) {
            for text in [value.to_string(), format!("{value:#}")] {
                prop_assert_eq!(serde_json::from_slice::<Value>(&shortened(text.as_bytes())).unwrap(), value.clone());
            }
        }

        #[test]
        fn an_object_that_is_cut_off_anywhere_is_still_one(value in any_json(), cut in any::<prop::sample::Index>()) {
            let text = json!({ "value": value, "other": 1 }).to_string();
            let end = 1 + cut.index(text.len() - 1);
            let short = shortened(&text.as_bytes()[..end]);
            prop_assert!(serde_json::from_str::<Value>(&String::from_utf8_lossy(&short)).is_ok());
        }

        #[test]
        fn nothing_makes_it_panic_or_grow(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert!(shortened(&bytes).len() <= 2 * bytes.len() + 8);
        }
    }

    #[test]
    fn whatever_is_long_in_it_the_words_beside_stay() {
        let long = 5 * 1024 * 1024;
        let numbers = format!("[{}0]", "1234567,".repeat(long / 8));
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let objects = format!("[{}{{}}]", r#"{"a":{"b":["x"]}},"#.repeat(long / 18));
        let backslashes = format!("\"{}\"", "\\\\\\u0416".repeat(long / 8));
        let text = format!("\"{}\"", "ж".repeat(long / 2));
        for (what, part) in
            [("numbers", numbers), ("deep", deep), ("objects", objects), ("escapes", backslashes), ("text", text)]
        {
            for document in [
                format!(r#"{{"long":{part},"message":{{"body":{{"text":"words"}}}}}}"#),
                format!(r#"{{"message":{{"body":{{"long":{part},"text":"words"}}}},"last":[1]}}"#),
            ] {
                let copy = shortened(document.as_bytes());
                assert!(copy.len() < LONGEST + 2 * LONGEST_TEXT, "{what}: {} bytes", copy.len());
                let value: Value = serde_json::from_slice(&copy).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(value["message"]["body"]["text"], "words", "{what}");
            }
        }
    }
}
