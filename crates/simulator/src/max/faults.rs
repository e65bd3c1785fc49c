//! Faults to inject: into the answers of the API and file hosts, and into the stream of updates.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One rule for requests. The first rule that fits and has something left takes the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// HTTP method; none: any.
    pub method: Option<String>,
    /// Path, exactly, or a prefix when it ends in `*`; none: any. The paths of the file hosts count
    /// too.
    pub path: Option<String>,
    /// The bot whose token the request carries; none: any.
    pub bot: Option<i64>,
    /// Let so many fitting requests pass first.
    pub skip: u32,
    /// Meet so many fitting requests; 0: all, until the rules are cleared.
    pub times: u32,
    /// Whether the request takes effect before the outcome. True with `drop`, `reset`, `hang` or a
    /// 5xx is the uncertain POST.
    pub effect: bool,
    /// Wait so long before the outcome (after the effect), milliseconds, not scaled.
    pub delay_ms: u64,
    /// What the caller gets.
    pub outcome: Outcome,
}

impl Default for Fault {
    fn default() -> Self {
        Self {
            method: None,
            path: None,
            bot: None,
            skip: 0,
            times: 1,
            effect: false,
            delay_ms: 0,
            outcome: Outcome::Drop,
        }
    }
}

/// What a request that met a [`Fault`] gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// The true answer (useful with `delay_ms`); implies the effect.
    Answer,
    /// The connection ends (FIN) without an answer.
    Drop,
    /// The connection is reset (RST) without an answer.
    Reset,
    /// No answer, ever; the connection stays open.
    Hang,
    /// The true answer, cut off after so many bytes of its body; implies the effect.
    Truncate(usize),
    /// This answer.
    Respond {
        /// HTTP status.
        status: u16,
        /// The body as text.
        body: String,
        /// Its content type, for example `text/html`.
        content_type: String,
    },
    /// An empty answer with this status and `Retry-After`, in seconds or as an HTTP date.
    Busy {
        /// HTTP status.
        status: u16,
        /// The header.
        retry_after: String,
    },
}

impl Outcome {
    /// 502 with an HTML page, as a gateway answers.
    pub fn html(status: u16) -> Self {
        Self::Respond {
            status,
            body: format!(
                "<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>"
            ),
            content_type: "text/html".to_owned(),
        }
    }

    /// An error envelope.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::Respond {
            status,
            body: json!({"code": code, "message": message}).to_string(),
            content_type: "application/json".to_owned(),
        }
    }
}

/// One rule for updates, applied when they come into being.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateFault {
    /// The bot; none: any.
    pub bot: Option<i64>,
    /// `update_type`; none: any.
    pub update_type: Option<String>,
    /// Let so many fitting updates pass first.
    pub skip: u32,
    /// Meet so many fitting updates; 0: all, until the rules are cleared.
    pub times: u32,
    /// What happens to them.
    pub twist: Twist,
}

impl Default for UpdateFault {
    fn default() -> Self {
        Self { bot: None, update_type: None, skip: 0, times: 1, twist: Twist::Duplicate }
    }
}

/// What can happen to an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Twist {
    /// It comes twice.
    Duplicate,
    /// It comes after the bot's next update.
    OutOfOrder,
    /// It never comes.
    Lose,
    /// It comes without `message` (voice messages in August 2026).
    WithoutMessage,
    /// Its `update_type` is one nobody knows.
    UnknownType,
    /// Its message carries an attachment of a type nobody knows.
    UnknownAttachment,
    /// Every object in it carries a field nobody knows.
    ExtraFields,
    /// Optional fields without a value are null.
    Nulls,
}

/// The rules in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    requests: Vec<(Fault, u32)>,
    updates: Vec<(UpdateFault, u32)>,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.requests.push((fault, 0));
    }

    pub(super) fn add_for_updates(&mut self, fault: UpdateFault) {
        self.updates.push((fault, 0));
    }

    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.updates.clear();
    }

    /// The fault that this request meets.
    pub(super) fn meet(&mut self, method: &str, path: &str, bot: Option<i64>) -> Option<Fault> {
        let (at, fault) = self.requests.iter_mut().enumerate().find_map(|(at, (fault, seen))| {
            let fits = fault.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
                && fault.path.as_deref().is_none_or(|wanted| fits_path(wanted, path))
                && (fault.bot.is_none() || fault.bot == bot);
            (fits && take(seen, fault.skip)).then(|| (at, fault.clone()))
        })?;
        if fault.times > 0 && self.requests[at].1 >= fault.skip + fault.times {
            self.requests.remove(at);
        }
        Some(fault)
    }

    /// What happens to this update.
    pub(super) fn twist(&mut self, bot: i64, update_type: &str) -> Option<Twist> {
        let (at, fault) = self.updates.iter_mut().enumerate().find_map(|(at, (fault, seen))| {
            let fits = fault.bot.is_none_or(|wanted| wanted == bot)
                && fault.update_type.as_deref().is_none_or(|wanted| wanted == update_type);
            (fits && take(seen, fault.skip)).then(|| (at, fault.clone()))
        })?;
        if fault.times > 0 && self.updates[at].1 >= fault.skip + fault.times {
            self.updates.remove(at);
        }
        Some(fault.twist)
    }
}

fn take(seen: &mut u32, skip: u32) -> bool {
    *seen = seen.saturating_add(1);
    *seen > skip
}

fn fits_path(wanted: &str, path: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == path, |prefix| path.starts_with(prefix))
}

/// Gives every object a field that nobody knows.
pub(super) fn add_fields(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(add_fields);
            map.insert("unannounced".to_owned(), json!({"since": 1, "of": ["tomorrow", null]}));
        }
        Value::Array(items) => items.iter_mut().for_each(add_fields),
        _ => {}
    }
}

/// Makes optional fields without a value null; only where the schema calls them nullable.
pub(super) fn add_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(add_nulls);
            let has = |map: &Map<String, Value>, names: [&str; 2]| names.iter().all(|name| map.contains_key(*name));
            let mut optional: Vec<&str> = Vec::new();
            if has(map, ["mid", "seq"]) {
                optional.extend(["text", "attachments", "markup"]);
            }
            if has(map, ["recipient", "body"]) {
                optional.extend(["sender", "link", "stat", "url"]);
            }
            if has(map, ["user_id", "first_name"]) {
                optional.extend(["last_name", "username", "last_activity_time"]);
            }
            if has(map, ["chat_type", "chat_id"]) {
                optional.extend(["user_id", "post_id"]);
            }
            match map.get("update_type").and_then(Value::as_str) {
                Some("message_created") => optional.push("user_locale"),
                Some("message_callback") => optional.extend(["user_locale", "message"]),
                Some("bot_started") => optional.push("payload"),
                _ => {}
            }
            for name in optional {
                map.entry(name).or_insert(Value::Null);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(add_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_skips_meets_and_ends() {
        let mut faults = Faults::default();
        faults.add(Fault { path: Some("/messages*".into()), skip: 1, times: 2, ..Fault::default() });
        let met: Vec<bool> = (0..4).map(|_| faults.meet("POST", "/messages", None).is_some()).collect();
        assert_eq!(met, [false, true, true, false]);
        assert!(faults.meet("GET", "/me", None).is_none());
    }
}
