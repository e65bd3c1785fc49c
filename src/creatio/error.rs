//! What went wrong at the CRM, as a class to act on and one sentence to read.
//!
//! Creatio has no registry of error codes; the shapes of Creatio API reference, 2.6, are tried in
//! their order and the deepest inner message is taken.

use std::fmt;
use std::time::Duration;

use http::{StatusCode, header};
use serde_json::Value;

use crate::transport::Response;

/// What can be done about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The sign-in is refused: a person must put the right credentials in place.
    CredentialsInvalid,
    /// Signed in, but the technical user lacks a right.
    AccessDenied,
    /// The package MaxChannel is not installed on the site, or not the version needed.
    PackageMissing,
    /// Something answers, but it is no Creatio or no Identity Service: the address in the spec is
    /// wrong.
    WrongAddress,
    /// The object is not there.
    NotFound,
    /// An object with this id (or unique key) is there already.
    AlreadyExists,
    /// The object cannot be deleted while others refer to it.
    InUse,
    /// The site refuses the request as such; the same request will be refused again.
    BadRequest,
    /// Too many requests; wait at least so long where the site says how long.
    Throttled { retry_after: Option<Duration> },
    /// The answer is longer than the caller allows.
    TooLarge,
    /// The site answered, but not in a shape that is known: it is not away.
    NotUnderstood,
    /// The site is there and fails at the moment: try again with growing pauses.
    Transient,
    /// No answer came: try again with growing pauses.
    Unreachable,
}

/// One failed call. `Display` is one sentence: what happened, to which object, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    class: Class,
    may_have_been_done: bool,
    status: Option<u16>,
    retry_after: Option<Duration>,
    gave_way: bool,
    sentence: String,
}

impl Error {
    pub(super) fn new(class: Class, may_have_been_done: bool, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { class, may_have_been_done, status: None, retry_after: None, gave_way: false, sentence }
    }

    /// The status of the answer that this error is made of, and how long it asks to be left alone.
    pub(super) fn answered(mut self, answer: &Response) -> Self {
        self.status = Some(answer.status().as_u16());
        self.retry_after = retry_after(answer);
        self
    }

    pub(super) fn retry_after_of(mut self, left: Duration) -> Self {
        self.retry_after = Some(left);
        self
    }

    pub(super) fn giving_way(mut self) -> Self {
        self.gave_way = true;
        self
    }

    /// The HTTP status, where the site answered.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// How long the site asks to be left alone, whatever it refused.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The call was slow and others waited for its place: its answer was not awaited, which says
    /// nothing about the site.
    pub fn gave_way(&self) -> bool {
        self.gave_way
    }

    /// What can be done about it.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether the site may have done what was asked although the answer says or is nothing of the
    /// kind. Read back by id, or repeat the call under the same key.
    pub fn may_have_been_done(&self) -> bool {
        self.may_have_been_done
    }

    pub(super) fn map_sentence(mut self, map: impl FnOnce(String) -> String) -> Self {
        self.sentence = map(self.sentence);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Error {}

/// What a body says about a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// The deepest message, at most 200 characters.
    pub message: String,
    /// Every message and type name on the way there, for looking for codes in.
    pub everything: String,
    /// No such collection or service: shape 3.
    pub routing_miss: bool,
    /// The body is HTML.
    pub html: bool,
}

/// Longest piece of a foreign text in a sentence, in characters.
const EXCERPT: usize = 200;

/// Whether the answer is a page for people, by its content type or, where that is absent, by its
/// first character.
pub(super) fn is_html(answer: &Response) -> bool {
    let start = answer.body().trim_ascii_start();
    if start.is_empty() {
        return false;
    }
    match answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
        Some(kind) => {
            let kind = kind.to_ascii_lowercase();
            kind.contains("text/html") || kind.contains("application/xhtml")
        }
        None => start.starts_with(b"<"),
    }
}

/// Reads the six shapes of Creatio API reference, 2.6. `None` where a body says nothing of a
/// failure.
pub(super) fn fault(answer: &Response) -> Option<Fault> {
    let body = answer.body();
    if is_html(answer) {
        let message = excerpt(&text_of_html(&String::from_utf8_lossy(body)));
        return Some(Fault { everything: message.clone(), message, html: true, ..Fault::default() });
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        // A page under another content type, or bare text.
        let text = String::from_utf8_lossy(body);
        let html = text.trim_start().starts_with('<');
        let message = excerpt(&if html { text_of_html(&text) } else { text.trim().to_owned() });
        return (!message.is_empty()).then(|| Fault { everything: message.clone(), message, html, ..Fault::default() });
    };
    let mut found = Fault::default();
    let mut take = |message: Option<&str>| {
        if let Some(message) = message.map(str::trim).filter(|message| !message.is_empty()) {
            found.message = excerpt(message);
            found.everything.push_str(message);
            found.everything.push('\n');
        }
    };
    let text = |value: &Value, key: &str| member(value, key).and_then(Value::as_str).map(str::to_owned);
    if let Some(mut level) = member(&value, "error").filter(|error| error.is_object()) {
        // The stack of shape 1: each level may hold the next under either name.
        for _ in 0..16 {
            for key in ["type", "code", "message"] {
                take(text(level, key).as_deref());
            }
            match member(level, "innererror").or_else(|| member(level, "internalexception")).filter(|v| v.is_object()) {
                Some(next) => level = next,
                None => break,
            }
        }
    } else if let Some(status) = member(&value, "responseStatus").filter(|status| status.is_object()) {
        for key in ["errorCode", "message"] {
            take(text(status, key).as_deref());
        }
    } else if let Some(info) = member(&value, "errorInfo").filter(|info| info.is_object()) {
        for key in ["errorCode", "message"] {
            take(text(info, key).as_deref());
        }
    } else if member(&value, "message").is_some_and(Value::is_string) {
        for key in ["exceptionType", "message", "exceptionMessage"] {
            take(text(&value, key).as_deref());
        }
        let detail = text(&value, "messageDetail").unwrap_or_default();
        found.routing_miss =
            found.message.contains("No HTTP resource was found") || detail.contains("No type was found that matches");
    } else if let Some(message) = value.as_str() {
        take(Some(message));
    } else if member(&value, "success").and_then(Value::as_bool) == Some(false) {
        for key in ["errorCode", "errorMessage"] {
            take(text(&value, key).as_deref());
        }
        if found.message.is_empty() {
            "success:false without a reason".clone_into(&mut found.message);
        }
    }
    (!found.message.is_empty()).then_some(found)
}

/// A member by name; the two runtimes differ in the case of the first letter.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The class of a refusal by its status and what its body says (Creatio API reference, 2.6).
/// `deleting`: the same foreign key error means something else there.
pub(super) fn classify(status: StatusCode, fault: &Fault, deleting: bool, retry_after: Option<Duration>) -> Class {
    let all = fault.everything.to_lowercase();
    let has = |needles: &[&str]| needles.iter().any(|needle| all.contains(needle));
    if has(&["23505", "duplicate key", "violation of primary key", "violation of unique key"]) {
        return Class::AlreadyExists;
    }
    if has(&["23503", "reference constraint", "foreign key constraint"]) {
        return if deleting { Class::InUse } else { Class::BadRequest };
    }
    // Unknown columns, values too long, required columns left empty: the same row will be refused
    // again, whatever the status.
    if has(&["could not find a property", "22001", "value too long", "would be truncated", "23502"]) {
        return Class::BadRequest;
    }
    if status == StatusCode::FORBIDDEN || status == StatusCode::UNAUTHORIZED || has(&["securityexception"]) {
        return Class::AccessDenied;
    }
    match status.as_u16() {
        429 => Class::Throttled { retry_after },
        404 | 410 => Class::NotFound,
        408 | 425 | 500..=599 => Class::Transient,
        400..=499 => Class::BadRequest,
        // A 2xx that tells of a failure.
        _ if fault.routing_miss => Class::NotFound,
        _ => Class::Transient,
    }
}

/// `Retry-After` of an answer.
pub(super) fn retry_after(answer: &Response) -> Option<Duration> {
    crate::transport::retry_after(answer.headers())
}

/// At most 200 characters on one line.
pub(super) fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // SQL Server quotes the value that was too long, which may be a customer's words.
    let line = line.find("Truncated value").map_or(line.as_str(), |at| line[..at].trim_end());
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// What a reader of the page would see: no tags, scripts or styles.
fn text_of_html(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        text.push_str(&rest[..open]);
        text.push(' ');
        let tag = &rest[open..];
        let lower = tag.get(..8).unwrap_or(tag).to_ascii_lowercase();
        let end = if lower.starts_with("<script") {
            tag.find("</script").map(|at| at + 1)
        } else if lower.starts_with("<style") {
            tag.find("</style").map(|at| at + 1)
        } else {
            None
        };
        let from = end.unwrap_or(0);
        rest = tag[from..].find('>').map_or("", |close| &tag[from + close + 1..]);
    }
    text.push_str(rest);
    text.replace("&nbsp;", " ").replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}
