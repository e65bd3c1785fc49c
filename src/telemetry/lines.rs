//! The form of what a process writes line by line, and the lines that go to stdout because they are
//! what the process is asked for: news of a local run. They look as the log does, with time and
//! level.

use std::io::Write as _;
use std::sync::OnceLock;

use jiff::Timestamp;
use serde_json::json;
use tracing::Level;

use super::redacted;

/// The environment variable that chooses the form where no argument does: `text` or `json`.
pub(super) const FORMAT: &str = "MAXCHANNEL_LOG_FORMAT";

static IN_FORCE: OnceLock<Format> = OnceLock::new();

/// How a process logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Whatever a command's own form is, this one is used. To be called before logging starts.
pub fn choose(format: Format) {
    let _ = IN_FORCE.set(format);
}

/// The form of this process, and what the environment says where that is none.
pub(super) fn settle(default: Format) -> (Format, Option<String>) {
    let wanted = std::env::var(FORMAT).ok().filter(|wanted| !wanted.is_empty());
    let (named, unknown) = match wanted.as_deref() {
        None => (None, None),
        Some("text") => (Some(Format::Text), None),
        Some("json") => (Some(Format::Json), None),
        Some(other) => (None, Some(other.to_owned())),
    };
    (*IN_FORCE.get_or_init(|| named.unwrap_or(default)), unknown)
}

/// Writes one line to stdout, without what has been hidden.
pub fn tell(level: Level, line: &str) {
    let told = told(IN_FORCE.get().copied().unwrap_or_default(), Timestamp::now(), level, &redacted(line));
    // A reader that has gone is no reason to stop.
    let _ = writeln!(std::io::stdout().lock(), "{told}");
}

fn told(format: Format, at: Timestamp, level: Level, line: &str) -> String {
    let at = format!("{at:.6}");
    match format {
        Format::Text => format!("{at} {level:>5} {line}"),
        Format::Json => json!({"timestamp": at, "level": level.as_str(), "fields": {"message": line}}).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_time_and_level_in_both_forms() {
        let at: Timestamp = "2026-11-29T08:46:54Z".parse().unwrap();
        for (format, expected) in [
            (Format::Text, "2026-11-29T08:46:54.000000Z  INFO a \"b\""),
            (
                Format::Json,
                r#"{"fields":{"message":"a \"b\""},"level":"INFO","timestamp":"2026-11-29T08:46:54.000000Z"}"#,
            ),
        ] {
            assert_eq!(told(format, at, Level::INFO, "a \"b\""), expected);
        }
    }
}
