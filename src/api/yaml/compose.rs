//! From the parser's events to values and lines, in one pass.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use libyaml_safer::{Event, EventData, Mark, Parser, ScalarStyle};
use serde_json::{Map, Value};

use super::{Document, Lines, MAX_DEPTH, MAX_EXPANDED, Misread, NODE, YamlError, scalar};
use crate::api::path::{FieldPath, Segment};

const PREFIX: &str = "tag:yaml.org,2002:";

/// Reads a text that holds one document; lines count from those before it.
pub(super) fn document(text: &str, lines_before: usize) -> Result<Document, YamlError> {
    let mut parser = Parser::new();
    parser.set_encoding(libyaml_safer::Encoding::Utf8);
    // The parser looks behind a backslash without asking whether anything is there.
    let ended = text.ends_with('\\').then(|| format!("{text}\n"));
    parser.set_input(ended.as_deref().unwrap_or(text).as_bytes());
    let mut composer = Composer {
        parser,
        lines_before,
        reached: 1,
        anchors: HashMap::new(),
        left: MAX_EXPANDED,
        path: Vec::new(),
        misread: Vec::new(),
    };
    let mut found = None;
    loop {
        let event = composer.next()?;
        match event.data {
            EventData::StreamStart { .. } | EventData::DocumentStart { .. } | EventData::DocumentEnd { .. } => {}
            EventData::StreamEnd => break,
            _ if found.is_some() => {
                return Err(YamlError::new(
                    composer.line(event.start_mark),
                    "not valid YAML: a second document without --- before it",
                ));
            }
            _ => found = Some(composer.node(event)?),
        }
    }
    let (value, lines) = found.unwrap_or_default();
    Ok(Document { value, lines, misread: composer.misread })
}

thread_local! {
    /// What panics in this thread is an answer, and no news for whoever reads stderr.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}
static HOOK: Once = Once::new();

/// Runs what may panic; an error then, without a word on stderr.
fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, ()> {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    QUIET.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    outcome.map_err(drop)
}

struct Composer<'a> {
    parser: Parser<&'a [u8]>,
    lines_before: usize,
    /// The line at which the last event ended.
    reached: usize,
    anchors: HashMap<String, Anchored>,
    left: usize,
    path: Vec<Segment>,
    misread: Vec<Misread>,
}

/// What an anchor stands for, and what a copy of it costs.
struct Anchored {
    value: Value,
    lines: Lines,
    cost: usize,
}

type Node = (Value, Lines);
/// Where each member stands, and what is in it.
type LinesOfMembers = HashMap<String, (usize, Lines)>;

/// A mapping while it is read.
#[derive(Default)]
struct Members {
    values: Map<String, Value>,
    lines: LinesOfMembers,
    /// What merge keys bring along; the mapping's own members win.
    merged: Vec<(Map<String, Value>, LinesOfMembers)>,
}

impl Composer<'_> {
    fn next(&mut self) -> Result<Event, YamlError> {
        let parser = &mut self.parser;
        // The parser has places that it has not finished. Its state is not used after one of them.
        let Ok(parsed) = quietly(|| parser.parse()) else {
            let what = "not valid YAML: nothing can be read after this, as behind a tag that a comma follows; put spaces around \
                        tags, or leave them out";
            return Err(YamlError::new(self.lines_before + self.reached, what));
        };
        let event = parsed.map_err(|error| {
            let line = error.problem_mark().map_or(1, |mark| usize::try_from(mark.line).map_or(1, |line| line + 1));
            YamlError::new(self.lines_before + line, format!("not valid YAML: {}", error.problem()))
        })?;
        self.reached = usize::try_from(event.end_mark.line).map_or(1, |line| line + 1);
        Ok(event)
    }

    fn line(&self, mark: Mark) -> usize {
        usize::try_from(mark.line).unwrap_or(0) + 1 + self.lines_before
    }

    fn spend(&mut self, bytes: usize, line: usize) -> Result<(), YamlError> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            YamlError::new(line, "the document is too much, with what its anchors expand to: split it")
        })?;
        Ok(())
    }

    fn note(&mut self, line: usize, mild: bool, message: impl Into<String>) {
        let field = FieldPath::from_segments(self.path.clone());
        self.misread.push(Misread { field, line, mild, message: message.into() });
    }

    fn node(&mut self, event: Event) -> Result<Node, YamlError> {
        let line = self.line(event.start_mark);
        if self.path.len() > MAX_DEPTH {
            return Err(YamlError::new(line, format!("more than {MAX_DEPTH} values within each other")));
        }
        let before = self.left;
        self.spend(NODE, line)?;
        let (anchor, node) = match event.data {
            EventData::Alias { anchor } => return self.copy(&anchor, line),
            EventData::Scalar { anchor, tag, value, style, .. } => {
                self.spend(value.len(), line)?;
                (anchor, (self.scalar(tag.as_deref(), value, style, line)?, Lines::of_value(line)))
            }
            EventData::SequenceStart { anchor, tag, .. } => {
                only(tag.as_deref(), "seq", line)?;
                (anchor, self.sequence(line)?)
            }
            EventData::MappingStart { anchor, tag, .. } => {
                only(tag.as_deref(), "map", line)?;
                (anchor, self.mapping(line)?)
            }
            _ => return Err(YamlError::new(line, "not valid YAML: a value is missing")),
        };
        if let Some(anchor) = anchor {
            let cost = before - self.left;
            self.spend(cost, line)?;
            let (value, lines) = node.clone();
            self.anchors.insert(anchor, Anchored { value, lines, cost });
        }
        Ok(node)
    }

    fn copy(&mut self, anchor: &str, line: usize) -> Result<Node, YamlError> {
        let Some(Anchored { value, lines, cost }) = self.anchors.get(anchor) else {
            return Err(YamlError::new(line, "not valid YAML: unknown anchor"));
        };
        self.left = self.left.checked_sub(*cost).ok_or_else(|| {
            YamlError::new(line, "the document is too much, with what its anchors expand to: write the values out")
        })?;
        Ok((value.clone(), lines.clone()))
    }

    fn scalar(&mut self, tag: Option<&str>, text: String, style: ScalarStyle, line: usize) -> Result<Value, YamlError> {
        let plain = matches!(style, ScalarStyle::Plain | ScalarStyle::Any);
        let resolved = || scalar::kubectl(&text);
        let wrong = || YamlError::new(line, "a value does not fit its tag: remove the tag");
        match tag.map(|tag| tag.strip_prefix(PREFIX).unwrap_or(tag)) {
            None if plain => {
                let (value, note) = match scalar::read(&text) {
                    Ok((value, note)) => (value, note),
                    Err(message) => (Value::String(text.clone()), Some(message)),
                };
                if let Some(message) = note {
                    self.note(line, false, message);
                } else if value.is_i64() && text.contains(['.', 'e', 'E']) && !text.starts_with("0x") {
                    self.note(line, true, format!("is written as a fraction: write {value}"));
                }
                Ok(value)
            }
            None | Some("!" | "str" | "timestamp") => Ok(Value::String(text)),
            Some("int") => match resolved() {
                scalar::Scalar::Value(value) if value.is_i64() || value.is_u64() => Ok(value),
                _ => Err(wrong()),
            },
            Some("float") => match resolved() {
                scalar::Scalar::Value(value) if value.is_number() => Ok(value),
                _ => Err(wrong()),
            },
            Some("bool") => match resolved() {
                scalar::Scalar::Value(value) if value.is_boolean() => Ok(value),
                _ => Err(wrong()),
            },
            Some("null") => match resolved() {
                scalar::Scalar::Value(Value::Null) => Ok(Value::Null),
                _ => Err(wrong()),
            },
            Some("binary") => Err(YamlError::new(
                line,
                "!!binary is not understood here: write the text itself, or in a Secret put the base64 under data",
            )),
            Some(_) => Err(YamlError::new(line, "tags like !name are not understood: remove the tag")),
        }
    }

    fn sequence(&mut self, line: usize) -> Result<Node, YamlError> {
        let (mut values, mut lines) = (Vec::new(), Vec::new());
        loop {
            let event = self.next()?;
            if event.data == EventData::SequenceEnd {
                return Ok((Value::Array(values), Lines::of_items(line, lines)));
            }
            self.path.push(Segment::Index(values.len()));
            let (value, below) = self.node(event)?;
            self.path.pop();
            values.push(value);
            lines.push(below);
        }
    }

    fn mapping(&mut self, line: usize) -> Result<Node, YamlError> {
        let mut members = Members::default();
        loop {
            let event = self.next()?;
            if event.data == EventData::MappingEnd {
                for (values, lines) in members.merged {
                    for (key, value) in values {
                        members.values.entry(key).or_insert(value);
                    }
                    for (key, line) in lines {
                        members.lines.entry(key).or_insert(line);
                    }
                }
                return Ok((Value::Object(members.values), Lines::of_members(line, members.lines)));
            }
            self.member(event, &mut members)?;
        }
    }

    fn member(&mut self, event: Event, members: &mut Members) -> Result<(), YamlError> {
        let at = self.line(event.start_mark);
        let mut merges = false;
        let key = match event.data {
            EventData::Scalar { anchor: None, tag: None, value, style: ScalarStyle::Plain, .. } => {
                self.spend(NODE + value.len(), at)?;
                merges = value == "<<";
                self.plain_key(&value, at)?
            }
            EventData::Scalar { .. } | EventData::Alias { .. } => match self.node(event)?.0 {
                Value::String(key) => key,
                _ => return Err(YamlError::new(at, "a key is not a text: put it in quotes")),
            },
            _ => return Err(YamlError::new(at, "a key is not a text: put it in quotes")),
        };
        self.path.push(Segment::Key(key));
        let event = self.next()?;
        let (value, below) = self.node(event)?;
        let Some(Segment::Key(key)) = self.path.pop() else { return Ok(()) };
        if merges {
            return merge(value, below, members, at);
        }
        if let Some((first, _)) = members.lines.get(&key) {
            let message = format!("is given twice, first on line {first}: remove one");
            self.path.push(Segment::Key(key.clone()));
            self.note(at, false, message);
            self.path.pop();
        }
        members.lines.insert(key.clone(), (at, below));
        members.values.insert(key, value);
        Ok(())
    }

    /// kubectl makes texts of numbers and of `yes`, which then is "true".
    fn plain_key(&mut self, text: &str, line: usize) -> Result<String, YamlError> {
        let (value, note) = match scalar::read(text) {
            Ok(read) => read,
            Err(message) => (Value::String(text.to_owned()), Some(message)),
        };
        let key = match value {
            Value::String(key) => key,
            Value::Null => return Err(YamlError::new(line, "a key is empty: write a name in quotes")),
            value => value.to_string(),
        };
        if let Some(message) = note {
            self.path.push(Segment::Key(key.clone()));
            self.note(line, false, format!("the key {message}"));
            self.path.pop();
        }
        Ok(key)
    }
}

fn only(tag: Option<&str>, known: &str, line: usize) -> Result<(), YamlError> {
    match tag.map(|tag| tag.strip_prefix(PREFIX).unwrap_or(tag)) {
        None | Some("!") => Ok(()),
        Some(tag) if tag == known => Ok(()),
        Some(_) => Err(YamlError::new(line, "tags like !name are not understood: remove the tag")),
    }
}

fn merge(value: Value, lines: Lines, members: &mut Members, line: usize) -> Result<(), YamlError> {
    let wrong = || YamlError::new(line, "a merge key `<<` does not stand for a mapping: write the fields out");
    match value {
        Value::Object(values) => members.merged.push((values, lines.into_members())),
        Value::Array(items) => {
            for (item, lines) in items.into_iter().zip(lines.into_items()) {
                let Value::Object(values) = item else { return Err(wrong()) };
                members.merged.push((values, lines.into_members()));
            }
        }
        _ => return Err(wrong()),
    }
    Ok(())
}
