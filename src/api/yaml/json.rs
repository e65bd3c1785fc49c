//! JSON as JSON: documents one after another, with the line of every field.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

use super::{Document, Lines, MAX_DEPTH, MAX_DOCUMENT, Misread, YamlError, scalar};
use crate::api::path::{FieldPath, Segment};

/// Reads all documents of a text; a line `---` between them is passed over, as kubectl does.
pub(super) fn documents(text: &str) -> Result<Vec<Document>, YamlError> {
    if text.len() > MAX_DOCUMENT {
        return Err(YamlError::new(1, format!("the document is longer than {MAX_DOCUMENT} bytes: split it")));
    }
    let mut reader = Reader { text, at: 0, line: 1, path: Vec::new(), misread: Vec::new() };
    let mut documents = Vec::new();
    loop {
        reader.space();
        while reader.rest().starts_with("---") {
            reader.at += 3;
            reader.space();
        }
        if reader.rest().is_empty() {
            return Ok(documents);
        }
        let (value, lines) = reader.value()?;
        documents.push(Document { value, lines, misread: std::mem::take(&mut reader.misread) });
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    path: Vec<Segment>,
    misread: Vec<Misread>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        for byte in self.rest().bytes() {
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                _ => break,
            }
            self.at += 1;
        }
    }

    fn fails<T>(&self, what: &str) -> Result<T, YamlError> {
        Err(YamlError::new(self.line, format!("not valid JSON: {what}")))
    }

    /// Takes the mark if it comes next.
    fn takes(&mut self, mark: char) -> bool {
        self.space();
        let found = self.rest().starts_with(mark);
        if found {
            self.at += 1;
        }
        found
    }

    fn note(&mut self, line: usize, mild: bool, message: String) {
        let field = FieldPath::from_segments(self.path.clone());
        self.misread.push(Misread { field, line, mild, message });
    }

    fn value(&mut self) -> Result<(Value, Lines), YamlError> {
        self.space();
        if self.path.len() > MAX_DEPTH {
            return self.fails("there are too many values within each other");
        }
        let line = self.line;
        let word = |reader: &mut Self, length, value| {
            reader.at += length;
            Ok((value, Lines::of_value(line)))
        };
        let rest = self.rest();
        match rest.bytes().next() {
            Some(b'{') => self.object(line),
            Some(b'[') => self.array(line),
            Some(b'"') => Ok((Value::String(self.string()?), Lines::of_value(line))),
            Some(b'-' | b'0'..=b'9') => Ok((self.number()?, Lines::of_value(line))),
            _ if rest.starts_with("true") => word(self, 4, Value::Bool(true)),
            _ if rest.starts_with("false") => word(self, 5, Value::Bool(false)),
            _ if rest.starts_with("null") => word(self, 4, Value::Null),
            None => self.fails("it ends too early"),
            _ => self.fails("a value is missing, or is not in quotes"),
        }
    }

    fn object(&mut self, line: usize) -> Result<(Value, Lines), YamlError> {
        self.at += 1;
        let (mut values, mut lines) = (Map::new(), HashMap::<String, (usize, Lines)>::new());
        if !self.takes('}') {
            loop {
                self.space();
                if !self.rest().starts_with('"') {
                    return self.fails("the name of a field in quotes is missing");
                }
                let at = self.line;
                let key = self.string()?;
                if !self.takes(':') {
                    return self.fails("the colon after the name of a field is missing");
                }
                self.path.push(Segment::Key(key.clone()));
                if let Some((first, _)) = lines.get(&key) {
                    self.note(at, false, format!("is given twice, first on line {first}: remove one"));
                }
                let (value, below) = self.value()?;
                self.path.pop();
                lines.insert(key.clone(), (at, below));
                values.insert(key, value);
                if self.takes('}') {
                    break;
                }
                if !self.takes(',') {
                    return self.fails("a comma or } is missing");
                }
            }
        }
        Ok((Value::Object(values), Lines::of_members(line, lines)))
    }

    fn array(&mut self, line: usize) -> Result<(Value, Lines), YamlError> {
        self.at += 1;
        let (mut values, mut lines) = (Vec::new(), Vec::new());
        if !self.takes(']') {
            loop {
                self.path.push(Segment::Index(values.len()));
                let (value, below) = self.value()?;
                self.path.pop();
                values.push(value);
                lines.push(below);
                if self.takes(']') {
                    break;
                }
                if !self.takes(',') {
                    return self.fails("a comma or ] is missing");
                }
            }
        }
        Ok((Value::Array(values), Lines::of_items(line, lines)))
    }

    fn string(&mut self) -> Result<String, YamlError> {
        let rest = self.rest();
        let mut escaped = false;
        let end = rest.bytes().enumerate().skip(1).find(|(_, byte)| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        let Some((end, _)) = end else { return self.fails("a text has no closing quote") };
        let Ok(text) = serde_json::from_str(&rest[..=end]) else {
            return self.fails("a text has a bad escape, half of a surrogate pair or a control character");
        };
        self.at += end + 1;
        Ok(text)
    }

    fn number(&mut self) -> Result<Value, YamlError> {
        let rest = self.rest();
        let length = rest.bytes().take_while(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
        let text = &rest[..length.count()];
        let Ok(number) = serde_json::from_str::<Number>(text) else { return self.fails("a number is malformed") };
        self.at += text.len();
        let value = match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => scalar::number(float),
            None => Value::Number(number),
        };
        if value.is_i64() && text.contains(['.', 'e', 'E']) {
            self.note(self.line, true, format!("is written as a fraction: write {value}"));
        }
        Ok(value)
    }
}
