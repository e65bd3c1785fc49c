//! YAML and JSON in, YAML out; the only place that knows a YAML library. No I/O.
//!
//! Documents are read as kubectl reads them (go-yaml v2 behind sigs.k8s.io/yaml, whose parser is
//! libyaml's, as ours is): what kubectl would send is the value, and where a reader of YAML 1.2
//! would see something else there is a [`Misread`]. One pass gives the values and the line of every
//! field, so the cost is linear in the size of the text.
//!
//! Reading is bounded: in length, in depth, in the number of values, and in what anchors expand to.
//! No error quotes a value, because the value may be a secret.

mod compose;
mod json;
mod lines;
mod scalar;

use serde::Serialize;
use serde_json::Value;

use super::path::FieldPath;

pub(super) use lines::Lines;

/// The longest document, in bytes.
const MAX_DOCUMENT: usize = 16 * 1024 * 1024;
/// The most that a document may expand to: bytes of text and [`NODE`] for each value.
const MAX_EXPANDED: usize = 64 * 1024 * 1024;
/// What a value without its text counts for.
const NODE: usize = 64;
/// The most values within each other; a Kubernetes object has a dozen.
const MAX_DEPTH: usize = 100;

/// A document that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct YamlError {
    /// Counted from 1 within the text.
    pub line: usize,
    pub message: String,
}

impl YamlError {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// A value that others may read differently than kubectl, or that is probably not meant so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misread {
    pub field: FieldPath,
    /// Counted from 1 within the text.
    pub line: usize,
    /// One that is a warning only.
    pub mild: bool,
    pub message: String,
}

/// A document that could be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Document {
    /// As kubectl sends it.
    pub value: Value,
    /// Counted from 1 within the text.
    pub lines: Lines,
    pub misread: Vec<Misread>,
}

/// The documents of a file, each by itself: one that is broken does not touch the others. Lines
/// count from the start of the text.
pub(super) fn documents(text: &str, is_json: bool) -> Vec<Result<Document, YamlError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // As kubectl: what begins with a brace is JSON, and YAML if it turns out not to be.
    if is_json || text.trim_start().starts_with('{') {
        match json::documents(text) {
            Ok(found) => return found.into_iter().map(Ok).collect(),
            Err(error) if is_json => return vec![Err(templated(text, 0).unwrap_or(error))],
            Err(_) => {}
        }
    }
    split(text).into_iter().filter_map(|part| part.read().transpose()).collect()
}

/// Reads one document in YAML; an empty one is `Null`.
pub(crate) fn read(document: &str) -> Result<Value, YamlError> {
    let part = Part { lines_before: 0, text: document, begin: Begin::Text };
    Ok(part.read()?.map_or(Value::Null, |document| document.value))
}

/// Writes a value as one document.
pub(super) fn write(value: &impl Serialize) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|error| error.to_string())
}

/// How a document begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// The beginning of the text.
    Text,
    /// `---`
    Mark,
    /// `...`, after which kubectl reads nothing up to the next `---`.
    AfterEnd,
}

/// The text of one document.
#[derive(Clone, Copy)]
struct Part<'a> {
    lines_before: usize,
    text: &'a str,
    begin: Begin,
}

fn split(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut part = Part { lines_before: 0, text: "", begin: Begin::Text };
    let (mut start, mut place) = (0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let mark = line.trim_end();
        let begin = match mark {
            "..." => Some(Begin::AfterEnd),
            _ if mark == "---" || mark.starts_with("--- ") || mark.starts_with("---\t") => Some(Begin::Mark),
            _ => None,
        };
        if let Some(begin) = begin {
            parts.push(Part { text: &text[start..place], ..part });
            start = place;
            part = Part { lines_before: number, text: "", begin };
        }
        place += line.len();
    }
    parts.push(Part { text: &text[start..], ..part });
    parts
}

impl Part<'_> {
    /// `None` where the document says nothing.
    fn read(self) -> Result<Option<Document>, YamlError> {
        self.compose().map_err(|error| templated(self.text, self.lines_before).unwrap_or(error))
    }

    fn compose(self) -> Result<Option<Document>, YamlError> {
        let text = self.text.strip_prefix("...").unwrap_or(self.text);
        let fails = |line: usize, message: String| Err(YamlError::new(self.lines_before + line, message));
        if text.len() > MAX_DOCUMENT {
            return fails(1, format!("the document is longer than {MAX_DOCUMENT} bytes: split it"));
        }
        let Some(content) = text.lines().position(|line| !says_nothing(line)) else { return Ok(None) };
        if text.lines().nth(content).is_some_and(|line| line.starts_with('%')) {
            return fails(
                content + 1,
                "a line with a directive like %YAML, which kubectl cannot read: remove it".to_owned(),
            );
        }
        let first = text.lines().next().unwrap_or_default();
        if self.begin == Begin::Mark && !says_nothing(first) {
            return fails(1, "kubectl reads nothing beside ---: begin the document on the next line".to_owned());
        }
        let document = compose::document(text, self.lines_before)?;
        if self.begin == Begin::AfterEnd && !document.value.is_null() {
            return fails(
                content + 1,
                "kubectl reads nothing after `...`: write --- before the next document".to_owned(),
            );
        }
        Ok((!document.value.is_null()).then_some(document))
    }
}

fn says_nothing(line: &str) -> bool {
    let line = line.trim();
    let rest = line.strip_prefix("---").unwrap_or(line).trim_start();
    rest.is_empty() || rest.starts_with('#') || line == "..."
}

/// What there is to say of a text that cannot be read because it is a template still.
fn templated(text: &str, lines_before: usize) -> Option<YamlError> {
    let placeholder = |line: &str| encloses(line, "{{", "}}") || encloses(line, "{%", "%}");
    let line = text.lines().position(|line| !line.trim_start().starts_with('#') && placeholder(line))?;
    Some(YamlError::new(lines_before + line + 1, TEMPLATE))
}

/// Of a file or a value that a tool shall fill in first.
pub(super) const TEMPLATE: &str =
    "is a template that is not filled in: check what comes out of it, such as of `helm template`";

fn encloses(text: &str, open: &str, close: &str) -> bool {
    text.find(open).is_some_and(|at| text[at..].contains(close))
}

/// Whether a value has a place for Helm, Jinja or `envsubst` to fill in.
pub(super) fn is_template(value: &str) -> bool {
    encloses(value, "{{", "}}") || encloses(value, "{%", "%}") || encloses(value, "${", "}")
}

#[cfg(test)]
mod tests;
