//! The table that gives answers of MAX to GET /me their reasons: the setting `maxErrorReasons`, and
//! what is built in.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Reason, yaml};

/// The reasons into which an answer of MAX to GET /me may be put.
const TOKEN_REASONS: [Reason; 5] = [
    Reason::TokenInvalid,
    Reason::BotUnderModeration,
    Reason::LegalEntityAccessDenied,
    Reason::AuthorizationFailed,
    Reason::MaxUnreachable,
];

/// One row of the table that gives an answer of GET /me its reason. What a row leaves out matches
/// everything; it gives at least one of `status`, `code` and `messageContains`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ErrorReason {
    /// The HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The member `code` of the answer, in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A part of the member `message`; upper and lower case are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_contains: Option<String>,
    /// A reason of `TokenAuthorized`.
    pub reason: Reason,
}

/// Gives answers of MAX to GET /me their reasons (the setting `maxErrorReasons`). MAX shows neither
/// moderation nor the company's status by any documented answer (MAX Bot API reference, section
/// 2.6); who learns such an answer adds a row without a release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ErrorReasons(Vec<ErrorReason>);

impl ErrorReasons {
    /// Takes rows that go before the built-in ones.
    ///
    /// # Errors
    /// One sentence that names the row, counted from 1, and what to change.
    pub fn new(rows: Vec<ErrorReason>) -> Result<Self, String> {
        for (row, number) in rows.iter().zip(1..) {
            if !TOKEN_REASONS.contains(&row.reason) {
                let known = TOKEN_REASONS.map(Reason::as_str).join(", ");
                return Err(format!(
                    "maxErrorReasons, row {number}: {} cannot follow from an answer of MAX; use one of {known}",
                    row.reason
                ));
            }
            let empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
            if row.status.is_none() && empty(&row.code) && empty(&row.message_contains) {
                return Err(format!(
                    "maxErrorReasons, row {number} matches every answer: give status, code or messageContains"
                ));
            }
        }
        Ok(Self(rows))
    }

    /// The reason of an answer other than success; the first row that matches decides.
    pub fn reason(&self, status: u16, code: &str, message: &str) -> Reason {
        let message = message.to_lowercase();
        let matches = |row: &&ErrorReason| {
            row.status.is_none_or(|wanted| wanted == status)
                && row.code.as_ref().is_none_or(|wanted| wanted == code)
                && row.message_contains.as_ref().is_none_or(|part| message.contains(&part.to_lowercase()))
        };
        if let Some(row) = self.0.iter().find(matches) {
            return row.reason;
        }
        match (status, code) {
            (401, "verify.token") => Reason::TokenInvalid,
            (429 | 500..=599, _) => Reason::MaxUnreachable,
            _ => Reason::AuthorizationFailed,
        }
    }
}

/// Reads the rows from YAML or JSON; an empty text is no rows.
impl FromStr for ErrorReasons {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value =
            yaml::read(text).map_err(|error| format!("maxErrorReasons, line {}: {}", error.line, error.message))?;
        if value.is_null() {
            return Ok(Self::default());
        }
        serde_json::from_value(value).map_err(|error| {
            let text = error.to_string();
            if text.starts_with("maxErrorReasons") { text } else { format!("maxErrorReasons: {text}") }
        })
    }
}

impl<'de> Deserialize<'de> for ErrorReasons {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_max_becomes_a_reason_and_own_rows_go_first() {
        let built_in = ErrorReasons::default();
        let rows = r#"[{"status": 403, "messageContains": "МОДЕРАЦ", "reason": "BotUnderModeration"},
                       {"code": "org.denied", "reason": "LegalEntityAccessDenied"},
                       {"status": 401, "code": "verify.token", "messageContains": "blocked", "reason": "AuthorizationFailed"}]"#;
        let own: ErrorReasons = serde_json::from_str(rows).unwrap();
        for (status, code, message, built_in_reason, own_reason) in [
            (401, "verify.token", "Invalid access_token", Reason::TokenInvalid, Reason::TokenInvalid),
            (401, "verify.token", "Bot is Blocked", Reason::TokenInvalid, Reason::AuthorizationFailed),
            (401, "", "<html>", Reason::AuthorizationFailed, Reason::AuthorizationFailed),
            (403, "x", "Бот на модерации", Reason::AuthorizationFailed, Reason::BotUnderModeration),
            (403, "org.denied", "", Reason::AuthorizationFailed, Reason::LegalEntityAccessDenied),
            (403, "account.blocked", "", Reason::AuthorizationFailed, Reason::AuthorizationFailed),
            (418, "teapot", "", Reason::AuthorizationFailed, Reason::AuthorizationFailed),
            (429, "too.many.requests", "", Reason::MaxUnreachable, Reason::MaxUnreachable),
            (503, "service.unavailable", "", Reason::MaxUnreachable, Reason::MaxUnreachable),
        ] {
            assert_eq!(built_in.reason(status, code, message), built_in_reason, "{status} {code}");
            assert_eq!(own.reason(status, code, message), own_reason, "{status} {code}");
        }
    }

    #[test]
    fn rows_are_read_from_yaml_as_well() {
        let rows: ErrorReasons =
            "- {status: 403, code: org.denied, reason: LegalEntityAccessDenied}\n".parse().unwrap();
        assert_eq!(rows.reason(403, "org.denied", ""), Reason::LegalEntityAccessDenied);
        assert_eq!("".parse(), Ok(ErrorReasons::default()));
        for (text, part) in [
            ("- {reason: TokenInvalid}", "maxErrorReasons, row 1 matches every answer"),
            ("- [", "maxErrorReasons, line 2: not valid YAML"),
            ("a: 1", "maxErrorReasons: invalid type"),
        ] {
            let error = text.parse::<ErrorReasons>().unwrap_err();
            assert!(error.starts_with(part), "{error}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_meant_is_refused_with_its_number() {
        for (rows, part) in [
            (
                r#"[{"status": 403, "reason": "BotUnderModeration"}, {"status": 403, "reason": "GroupEmpty"}]"#,
                "row 2: GroupEmpty",
            ),
            (r#"[{"reason": "TokenInvalid"}]"#, "row 1 matches every answer"),
            (r#"[{"code": "", "reason": "TokenInvalid"}]"#, "row 1 matches every answer"),
            (r#"[{"status": 403, "reason": "Nonsense"}]"#, "\"Nonsense\" is not a known reason"),
            (r#"[{"stauts": 403, "reason": "TokenInvalid"}]"#, "stauts"),
        ] {
            let error = serde_json::from_str::<ErrorReasons>(rows).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
