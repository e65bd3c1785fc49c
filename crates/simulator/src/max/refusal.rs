//! The refusals of the Bot API: HTTP status, `code`, `message` (MAX Bot API, catalogue of errors).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::switches::{BotAnswer, SuspendedIn};

/// One refusal, ready to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) retry_after: Option<u32>,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), retry_after: None }
    }

    /// 400 `proto.payload`: parameters or body are wrong.
    pub(super) fn payload(message: impl Into<String>) -> Self {
        Self::new(400, "proto.payload", message)
    }

    pub(super) fn body() -> Self {
        Self::payload("Can't deserialize body")
    }

    pub(super) fn missing(parameter: &str) -> Self {
        Self::payload(format!("Missing required parameter: {parameter}"))
    }

    pub(super) fn at_most(field: &str, value: i64, bound: i64) -> Self {
        Self::payload(format!("Field '{field}' value ({value}) must be at most {bound}"))
    }

    pub(super) fn at_least(field: &str, value: i64, bound: i64) -> Self {
        Self::payload(format!("Field '{field}' value ({value}) must be at least {bound}"))
    }

    pub(super) fn too_long(field: &str, size: usize, bound: usize) -> Self {
        Self::payload(format!("Field '{field}' size ({size}) must be at most {bound}"))
    }

    pub(super) fn message_id(mid: &str) -> Self {
        Self::payload(format!("Invalid message_id: {mid}"))
    }

    pub(super) fn token(message: &str) -> Self {
        Self::new(401, "verify.token", message)
    }

    pub(super) fn token_in_query() -> Self {
        Self::new(403, "deprecated.token", "Query parameter access_token is deprecated, use Authorization header")
    }

    pub(super) fn path(path: &str) -> Self {
        Self::new(
            404,
            "method.not.found",
            format!("Path {path} is not recognized. Please check docs at https://dev.max.ru/docs"),
        )
    }

    pub(super) fn no_dialog() -> Self {
        Self::new(404, "dialog.not.found", "Dialog not found")
    }

    pub(super) fn no_chat(chat: i64) -> Self {
        Self::new(404, "chat.not.found", format!("Chat {chat} not found"))
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::new(404, "not.found", what)
    }

    pub(super) fn denied(message: &str) -> Self {
        Self::new(403, "chat.denied", message)
    }

    pub(super) fn suspended(place: SuspendedIn) -> Self {
        match place {
            SuspendedIn::Message => Self::denied("error.dialog.suspended"),
            SuspendedIn::Code => Self::new(403, "error.dialog.suspended", "Dialog is suspended"),
        }
    }

    pub(super) fn not_ready(kind: &str) -> Self {
        Self::new(400, "attachment.not.ready", format!("Key: errors.process.attachment.{kind}.not.processed"))
    }

    pub(super) fn too_many(retry_after: Option<u32>) -> Self {
        Self { retry_after, ..Self::new(429, "too.many.requests", "Too many requests") }
    }
}

impl From<&BotAnswer> for Refusal {
    fn from(answer: &BotAnswer) -> Self {
        Self::new(answer.status, &answer.code, answer.message.clone())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::Json(json!({"code": self.code, "message": self.message}));
        let mut response = (status, body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
