//! What went wrong in a call, and what it means for the caller (MAX Bot API reference, "Catalogue
//! of errors").

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::transport::{Response, TransportError};

/// What a failure asks of the caller. The set of codes is open: what is not known is
/// [`Class::Refused`] with MAX's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// The token is not accepted (any 401, `deprecated.token`): stop using it, no repeats.
    Unauthorized,
    /// The bot as a whole is blocked: pause, look at GET /me with long pauses.
    AccountBlocked,
    /// The customer has stopped the bot, removed the dialog or never started it: close the dialog,
    /// no repeats until `bot_started`.
    RecipientGone,
    /// An attachment is still being processed: repeat the same send after 1, 2, 4 s, then longer.
    NotReady,
    /// A video or audio token counts as another owner's: upload once more, then send as a file.
    ForeignMedia,
    /// The thing asked for is not there (any more): a message, a video, an expired download
    /// address.
    NotFound,
    /// Long polling is not possible now (405 or 409 of GET /updates): look at the subscriptions.
    PollRefused,
    /// Too many requests; wait at least this long where MAX says so.
    Throttled { retry_after: Option<Duration> },
    /// The request itself is wrong or not allowed: a repeat would be refused again.
    Refused,
    /// The file is longer than the caller takes.
    TooLarge,
    /// An attachment's address leads to a host or address from which nothing is fetched; nothing
    /// was sent.
    ForbiddenAddress,
    /// No answer, a 5xx, or an answer that is not of this API: may pass. See
    /// [`Error::may_have_been_sent`] before repeating a send.
    Transient,
}

/// A failed call. `Display` is one sentence: what happened, to which call, what to do. It never
/// holds the token or a body.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    pub(super) class: Class,
    pub(super) call: &'static str,
    pub(super) status: Option<u16>,
    pub(super) code: Option<String>,
    pub(super) message: String,
    pub(super) may_have_been_sent: bool,
    pub(super) retry_after: Option<Duration>,
}

impl Error {
    /// How long MAX asks to be left alone, whatever it refused.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// It answered, but what nobody understands: it is not away.
    #[must_use]
    pub fn is_not_understood(&self) -> bool {
        self.class == Class::Transient && self.status.is_some_and(|status| (200..300).contains(&status))
    }

    #[must_use]
    pub fn class(&self) -> &Class {
        &self.class
    }

    /// The HTTP status, where there was an answer. 200 with a class other than [`Class::Transient`]
    /// is `success: false`.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// MAX's code, for example `verify.token`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// MAX's own words, else what happened in ours; at most 300 characters, one line.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the change that the call asks for (a message, an edit, a subscription) may have
    /// taken effect all the same: the connection was lost after the request may have left, a
    /// time-out, a 5xx, an answer that cannot be read. Always false for reads and for uploads and
    /// downloads, which put nothing before a customer.
    #[must_use]
    pub fn may_have_been_sent(&self) -> bool {
        self.may_have_been_sent
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Error({:?}: {self})", self.class)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, message, .. } = self;
        match (self.status, &self.code) {
            (None, _) => write!(formatter, "{call}: {message}")?,
            (Some(status), None) => write!(formatter, "{call} was answered {status}: {message}")?,
            (Some(status), Some(code)) => write!(formatter, "{call} was answered {status} {code}: {message}")?,
        }
        formatter.write_str("; ")?;
        formatter.write_str(match self.class {
            Class::Unauthorized => "take the current token from the bot's settings",
            Class::AccountBlocked => "ask the support of MAX why the bot is blocked",
            Class::RecipientGone => "the customer has to start the bot again",
            Class::NotReady => "send the same again in a few seconds",
            Class::ForeignMedia => "upload it again, or send it as a file",
            Class::NotFound => "it is not there (any more), or the address is not of this API",
            Class::PollRefused => "look for a webhook subscription or a second poller of this bot",
            Class::Throttled { .. } => "slow down",
            Class::Refused => "a repeat would be refused again",
            Class::TooLarge => "raise the limit or ask for it in another way",
            Class::ForbiddenAddress => "attachments are fetched from hosts of MAX only",
            Class::Transient if self.may_have_been_sent => "look whether it took effect before it is sent again",
            Class::Transient => "try again later",
        })
    }
}

impl std::error::Error for Error {}

/// One call of the API, for words and for what a lost answer means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Method and path pattern, for example `POST /messages`.
    pub name: &'static str,
    /// Whether it changes anything outside.
    pub effect: bool,
}

impl Call {
    pub(super) const fn read(name: &'static str) -> Self {
        Self { name, effect: false }
    }

    pub(super) const fn change(name: &'static str) -> Self {
        Self { name, effect: true }
    }

    fn error(self, class: Class, status: Option<u16>, code: Option<String>, message: String, lost: bool) -> Error {
        let may_have_been_sent = lost && self.effect;
        Error { class, call: self.name, status, code, message, may_have_been_sent, retry_after: None }
    }

    /// The request cannot be made; nothing was sent.
    pub(super) fn not_made(self, class: Class, reason: &str) -> Error {
        self.error(class, None, None, reason.to_owned(), false)
    }

    /// MAX asked to be left alone so long; nothing was sent.
    pub(super) fn held(self, left: Duration) -> Error {
        let message = format!("MAX asked to be left alone for another {} s", left.as_secs() + 1);
        let error = self.not_made(Class::Throttled { retry_after: Some(left) }, &message);
        Error { retry_after: Some(left), ..error }
    }

    pub(super) fn transport(self, error: &TransportError) -> Error {
        let class = match error {
            TransportError::PrivateAddress { .. } => Class::ForbiddenAddress,
            TransportError::TooLarge { .. } => Class::TooLarge,
            _ => Class::Transient,
        };
        self.error(class, None, None, error.to_string(), !error.certainly_not_sent())
    }

    /// An answer of the API other than 2xx.
    pub(super) fn refused(self, answer: &Response, secrets: &[&str]) -> Error {
        let status = answer.status().as_u16();
        let (code, message) = words(answer, secrets);
        let class = classify(status, code.as_deref().unwrap_or_default(), &message, retry_after(answer), self);
        let error = self.error(class, Some(status), code, message, status >= 500);
        Error { retry_after: retry_after(answer), ..error }
    }

    /// `success: false` with status 200.
    pub(super) fn unsuccessful(self, answer: &Response, secrets: &[&str]) -> Error {
        let status = answer.status().as_u16();
        let (code, message) = words(answer, secrets);
        let class = classify(status, code.as_deref().unwrap_or_default(), &message, retry_after(answer), self);
        self.error(class, Some(status), code, message, false)
    }

    /// 2xx with a body that is not what the call answers with: whatever sent it, the change may
    /// have been made.
    pub(super) fn unreadable(self, answer: &Response) -> Error {
        let message = match shape(answer.body()) {
            Some(shape) => format!("{shape} where JSON was expected: check the address and what stands before it"),
            None => "JSON without the parts this answer must have".to_owned(),
        };
        self.error(Class::Transient, Some(answer.status().as_u16()), None, message, true)
    }

    /// An answer of an upload or download host other than 2xx. Those know nothing of the token, so
    /// nothing they say is about it.
    pub(super) fn foreign(self, answer: &Response, gone: Class) -> Error {
        let status = answer.status().as_u16();
        let (code, message) = words(answer, &[]);
        let class = match status {
            429 => Class::Throttled { retry_after: retry_after(answer) },
            500.. => Class::Transient,
            401 | 403 | 404 | 410 => gone,
            _ => Class::Refused,
        };
        Error { retry_after: retry_after(answer), ..self.error(class, Some(status), code, message, false) }
    }

    /// 2xx of an upload host that brings no token.
    pub(super) fn no_token(self, answer: &Response) -> Error {
        let (code, message) = words(answer, &[]);
        let message = format!("the upload host gave no token: {message}");
        self.error(Class::Refused, Some(answer.status().as_u16()), code, message, false)
    }
}

/// The table of MAX Bot API reference, "Catalogue of errors". Code and message are both looked at:
/// the service has been seen to put the same key into either.
fn classify(status: u16, code: &str, message: &str, retry_after: Option<Duration>, call: Call) -> Class {
    let (code, message) = (code.to_lowercase(), message.to_lowercase());
    let says = |key: &str| code.contains(key) || message.contains(key);
    let recipient_unknown =
        message.starts_with("dialog not found") || (message.starts_with("chat ") && message.ends_with("not found"));
    match status {
        401 => Class::Unauthorized,
        // Not MAX: nothing is said of the token or of the message.
        300..400 => Class::Transient,
        400 if message.contains("https") && message.contains("http request") => Class::Transient,
        _ if says("deprecated.token") || says("verify.token") => Class::Unauthorized,
        429 => Class::Throttled { retry_after },
        _ if says("too.many.requests") => Class::Throttled { retry_after },
        500.. => Class::Transient,
        405 | 409 if call.name == POLL => Class::PollRefused,
        _ if says("account.blocked") => Class::AccountBlocked,
        _ if says("dialog.suspended") || says("dialog.not.found") || says("chat.not.found") || recipient_unknown => {
            Class::RecipientGone
        }
        _ if says("attachment.not.ready") || says(".not.processed") => Class::NotReady,
        _ if says("movie.not.owner") => Class::ForeignMedia,
        404 if code == "method.not.found" => Class::Refused,
        404 | 410 => Class::NotFound,
        200..300 if says("not.found") || says("not found") => Class::NotFound,
        _ => Class::Refused,
    }
}

/// The one call whose 405 and 409 have a meaning of their own.
pub(super) const POLL: &str = "GET /updates";

fn retry_after(answer: &Response) -> Option<Duration> {
    crate::transport::retry_after(answer.headers())
}

/// Code and message of an answer, in one line each, without the secrets that were part of the
/// request.
fn words(answer: &Response, secrets: &[&str]) -> (Option<String>, String) {
    if answer.status().is_redirection() {
        return (None, "a redirect, which is not followed: check the address".to_owned());
    }
    let Ok(Value::Object(envelope)) = serde_json::from_slice::<Value>(answer.body()) else {
        let body = String::from_utf8_lossy(answer.body());
        let message = match shape(answer.body()) {
            Some(shape @ "a text") => format!("{shape}, not JSON: {body}"),
            Some(shape) => format!("{shape} instead of JSON"),
            None => "JSON, but not an error of this API".to_owned(),
        };
        return (None, tidy(&message, secrets));
    };
    let text = |keys: &[&str]| {
        keys.iter().find_map(|key| match envelope.get(*key)? {
            Value::String(text) if !text.is_empty() => Some(tidy(text, secrets)),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let message = text(&["message", "error_msg", "error"]).unwrap_or_else(|| "no reason given".to_owned());
    (text(&["code", "error_code"]), message)
}

/// What a body that is not JSON looks like.
fn shape(body: &[u8]) -> Option<&'static str> {
    let trimmed = body.trim_ascii();
    match trimmed.first() {
        None => Some("an empty body"),
        Some(b'<') => Some("a page of HTML or XML"),
        Some(_) if serde_json::from_slice::<serde::de::IgnoredAny>(trimmed).is_ok() => None,
        Some(_) => Some("a text"),
    }
}

fn tidy(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        // The whole text, before it is shortened: a cut token would not be found any more.
        text = text.replace(secret, "[secret]");
    }
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().chars().take(LONGEST_MESSAGE).collect()
}

const LONGEST_MESSAGE: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Response {
        http::Response::builder().status(status).body(bytes::Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    fn refused(call: Call, status: u16, code: &str, message: &str) -> Error {
        let body = serde_json::json!({"code": code, "message": message}).to_string();
        call.refused(&answer(status, &body), &[])
    }

    const SEND: Call = Call::change("POST /messages");

    /// MAX Bot API reference, "Catalogue of errors", row by row, and the classes below it.
    #[test]
    fn every_row_of_the_catalogue_has_its_class() {
        let throttled = Class::Throttled { retry_after: None };
        let rows = [
            (401, "verify.token", "Invalid access_token", Class::Unauthorized),
            (401, "verify.token", "No access token", Class::Unauthorized),
            (401, "verify.token", "Malformed access token", Class::Unauthorized),
            (401, "something.new", "", Class::Unauthorized),
            (
                403,
                "deprecated.token",
                "Query parameter access_token is deprecated, use Authorization header",
                Class::Unauthorized,
            ),
            (
                404,
                "method.not.found",
                "Path /x is not recognized. Please check docs at https://dev.max.ru/docs",
                Class::Refused,
            ),
            (405, "method.not.allowed", "", Class::Refused),
            (400, "proto.payload", "Missing required parameter: url", Class::Refused),
            (400, "proto.payload", "Field 'timeout' value (1500) must be at most 90", Class::Refused),
            (400, "proto.payload", "Field 'text' size (4001) must be at most 4000", Class::Refused),
            (400, "proto.payload", "Unknown recipient", Class::Refused),
            (400, "proto.payload", "Can't deserialize body", Class::Refused),
            (400, "proto.payload", "callback_id: Callback identifier is invalid", Class::Refused),
            (400, "proto.payload", "Invalid message_id: x", Class::Refused),
            (400, "proto.payload", "Invalid request. `message` or `notification` required", Class::Refused),
            (400, "proto.payload", "No `photos`, `url` or `token` provided. Check payload.", Class::Refused),
            (400, "proto.payload", "Invalid photo token provided: x", Class::Refused),
            (400, "proto.payload", "Missing `token` in video attachment", Class::Refused),
            (400, "proto.payload", "Must be only one file attachment in message", Class::Refused),
            (400, "proto.payload", "Failed to upload image.", Class::Refused),
            (400, "proto.payload", "errors.forward.text.not-empty", Class::Refused),
            (400, "proto.payload", "Must have only http/https links format in buttons", Class::Refused),
            (400, "proto.payload", "errors.maxRowSize", Class::Refused),
            (400, "proto.payload", "Key: errors.process.attachment.movie.not.owner", Class::ForeignMedia),
            (400, "proto.payload", "secret: does not match ^[\\w-]+$", Class::Refused),
            (400, "attachment.not.ready", "", Class::NotReady),
            (400, "attachment.not.ready", "Key: errors.process.attachment.file.not.processed", Class::NotReady),
            (400, "proto.payload", "Key: errors.process.attachment.video.not.processed", Class::NotReady),
            (403, "chat.denied", "error.dialog.suspended", Class::RecipientGone),
            (403, "error.dialog.suspended", "", Class::RecipientGone),
            (403, "chat.denied", "Forwarding messages from this chat or channel is prohibited", Class::Refused),
            (403, "account.blocked", "", Class::AccountBlocked),
            (404, "dialog.not.found", "Dialog not found", Class::RecipientGone),
            (404, "chat.not.found", "Chat 192607418 not found", Class::RecipientGone),
            (404, "chat.not.found", "dialog.not.found", Class::RecipientGone),
            (404, "not.found", "", Class::NotFound),
            (429, "too.many.requests", "", throttled.clone()),
            (429, "", "", throttled),
            (500, "internal.error", "", Class::Transient),
            (503, "service.unavailable", "", Class::Transient),
        ];
        for (status, code, message, class) in rows {
            let error = refused(SEND, status, code, message);
            assert_eq!(error.class(), &class, "{status} {code} {message}");
            assert_eq!(error.status(), Some(status));
            assert_eq!(error.may_have_been_sent(), status >= 500, "{status} {code}");
        }
    }

    #[test]
    fn a_success_false_is_classed_by_its_words() {
        for (message, class) in [
            ("Message not found", Class::NotFound),
            ("Chat 192607418 not found", Class::RecipientGone),
            ("Dialog not found", Class::RecipientGone),
            ("error.dialog.suspended", Class::RecipientGone),
            ("Key: errors.process.attachment.video.not.processed", Class::NotReady),
            ("Key: errors.process.attachment.movie.not.owner", Class::ForeignMedia),
            ("too.many.requests", Class::Throttled { retry_after: None }),
            ("The message is too old to be edited", Class::Refused),
        ] {
            let body = serde_json::json!({"success": false, "message": message}).to_string();
            let error = SEND.unsuccessful(&answer(200, &body), &[]);
            assert_eq!(error.class(), &class, "{message}");
            assert!(!error.may_have_been_sent(), "{message}");
        }
    }

    #[test]
    fn a_poll_that_is_refused_because_of_others_is_told_apart() {
        for status in [405, 409] {
            assert_eq!(refused(Call::read(POLL), status, "x", "").class(), &Class::PollRefused);
        }
    }

    #[test]
    fn a_retry_after_is_kept_whatever_was_refused() {
        for (status, header, expected) in [(429, "7", Some(7)), (503, " 12 ", Some(12)), (403, "soon", None)] {
            let mut refused = answer(status, "");
            refused.headers_mut().insert("retry-after", header.parse().unwrap());
            for error in [SEND.refused(&refused, &[]), SEND.foreign(&refused, Class::NotFound)] {
                assert_eq!(error.retry_after(), expected.map(Duration::from_secs), "{status}");
            }
        }
    }

    #[test]
    fn bodies_that_are_not_json_make_a_clear_sentence() {
        let sentences: Vec<String> = [
            SEND.refused(&answer(502, "<html><body>Bad Gateway</body></html>"), &[]),
            SEND.refused(&answer(503, ""), &[]),
            SEND.refused(&answer(404, "no such host\r\nhere"), &[]),
            SEND.refused(&answer(400, "[1]"), &[]),
            SEND.refused(&answer(302, ""), &[]),
            SEND.unreadable(&answer(200, "<html>welcome</html>")),
            SEND.unreadable(&answer(200, "")),
            SEND.unreadable(&answer(200, "{}")),
            refused(SEND, 403, "chat.denied", "error.dialog.suspended"),
            refused(Call::read("GET /me"), 401, "verify.token", "Invalid access_token"),
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        insta::assert_snapshot!(sentences.join("\n"));
    }

    #[test]
    fn only_a_change_whose_answer_was_lost_may_have_been_made() {
        let host = || "host".to_owned();
        let rows = [
            (TransportError::NotSent { host: host(), reason: String::new() }, false),
            (TransportError::Certificate { host: host(), reason: String::new() }, false),
            (TransportError::PrivateAddress { host: host() }, false),
            (TransportError::Lost { host: host(), reason: String::new() }, true),
            (TransportError::TooLarge { host: host(), limit: 1 }, true),
        ];
        for (error, sent) in rows {
            assert_eq!(SEND.transport(&error).may_have_been_sent(), sent, "{error}");
            assert!(!Call::read("GET /me").transport(&error).may_have_been_sent(), "{error}");
        }
        assert!(SEND.unreadable(&answer(200, "")).may_have_been_sent());
        assert!(!Call::read("GET /me").refused(&answer(502, ""), &[]).may_have_been_sent());
    }

    #[test]
    fn a_secret_that_max_repeats_is_taken_out_before_the_text_is_shortened() {
        let secret = "s".repeat(80);
        let error = SEND
            .refused(&answer(400, &format!(r#"{{"code":"x","message":"{}{secret}"}}"#, "a".repeat(260))), &[&secret]);
        assert!(!error.to_string().contains("sss"), "{error}");
    }
}
