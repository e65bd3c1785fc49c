//! Faults that control puts in the way of the next calls, and the counters of what was called.
//!
//! Owns: next-N rules per method and path prefix, the outage of a whole site, and how often and how
//! fast it was called. Must not know what a path means.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::wire::{Call, Reply};

/// A rule for the next calls that match. Times are simulated milliseconds.
///
/// `{"method":"POST","path":"/rest/MaxChannelService/receive","count":2,"effect":true,"answer":"drop"}`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Absent: any method.
    #[serde(default)]
    pub method: Option<String>,
    /// Beginning of the path, without the site's prefix and without case; empty: every path.
    #[serde(default)]
    pub path: String,
    /// Only calls whose body holds this text, for example one customer's `sender`; empty: all.
    #[serde(default)]
    pub body: String,
    /// So many matching calls pass before the rule takes hold.
    #[serde(default)]
    pub skip: u32,
    /// For so many calls; then the rule is gone.
    #[serde(default = "one")]
    pub count: u32,
    /// Whether the call takes effect.
    #[serde(default = "yes")]
    pub effect: bool,
    /// Waits before the site sees the call.
    #[serde(default)]
    pub delay_ms: u64,
    /// The site works so long; `receive` and `handOver` hold their customer's lock meanwhile.
    #[serde(default)]
    pub work_ms: u64,
    /// Waits after the effect, before the answer.
    #[serde(default)]
    pub hold_ms: u64,
    /// What the client gets.
    #[serde(default)]
    pub answer: Answer,
}

impl Default for Fault {
    fn default() -> Self {
        Self {
            method: None,
            path: String::new(),
            body: String::new(),
            skip: 0,
            count: 1,
            effect: true,
            delay_ms: 0,
            work_ms: 0,
            hold_ms: 0,
            answer: Answer::Normal,
        }
    }
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// What the client gets instead of the answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// The site's own answer.
    #[default]
    Normal,
    /// The connection is cut without a byte.
    Drop,
    /// The first half of the site's own answer.
    Truncate,
    /// An HTML page.
    Html { status: u16, text: String },
    /// A JSON body.
    Json { status: u16, body: Value },
    /// A status with an empty body.
    Empty { status: u16 },
    /// A status with an empty body and this `Retry-After`, in seconds or as an HTTP date.
    #[serde(rename_all = "camelCase")]
    Busy { status: u16, retry_after: String },
    /// A body that need not be JSON, under the content type of JSON.
    Raw { status: u16, body: String },
    /// 302 to the address.
    Redirect { location: String },
    /// One of the six error shapes of Creatio (Creatio API reference, 2.6), numbered 1 to 6 as
    /// there.
    Shape { status: u16, number: u8 },
}

impl Answer {
    /// The answer for the client, made of the site's own one; `None` cuts the connection.
    pub(crate) fn apply(&self, own: Reply) -> Option<Reply> {
        let status = |code: u16| StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Some(match self {
            Self::Normal => own,
            Self::Drop => return None,
            Self::Truncate => Reply { body: own.body.slice(..own.body.len() / 2), ..own },
            Self::Html { status: code, text } => Reply::html(status(*code), text),
            Self::Json { status: code, body } => Reply::json(status(*code), body),
            Self::Empty { status: code } => Reply::empty(status(*code)),
            Self::Busy { status: code, retry_after } => {
                Reply::empty(status(*code)).with("retry-after", retry_after.clone())
            }
            Self::Raw { status: code, body } => {
                Reply::body(status(*code), "application/json; charset=utf-8", body.clone())
            }
            Self::Redirect { location } => Reply::empty(StatusCode::FOUND).with("location", location.clone()),
            Self::Shape { status: code, number } => shape(status(*code), *number, "The simulated site has failed"),
        })
    }
}

/// One of the six error shapes (Creatio API reference, 2.6).
pub(crate) fn shape(status: StatusCode, number: u8, message: &str) -> Reply {
    let body = match number {
        1 => json!({"error": {"code": "", "message": "An error has occurred.",
            "innererror": {"message": message, "type": "Terrasoft.Common.DbOperationException", "stacktrace": "   at Terrasoft.Core"}}}),
        2 => json!({"Message": "An error has occurred.", "ExceptionMessage": message,
            "ExceptionType": "System.InvalidOperationException", "StackTrace": "   at Terrasoft.Core"}),
        3 => json!({"Message": "No HTTP resource was found that matches the request URI.", "MessageDetail": message}),
        4 => json!({"responseStatus": {"ErrorCode": "DbOperationException", "Message": message, "Errors": []},
            "rowsAffected": -1, "nextPrcElReady": false, "success": false}),
        5 => {
            json!({"success": false, "errorInfo": {"errorCode": "SecurityException", "message": message, "stackTrace": null}})
        }
        _ => return Reply::html(status, message),
    };
    Reply::json(status, &body)
}

/// The whole site is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outage {
    /// Connections are cut without an answer.
    Drop,
    /// 502 and an HTML page of the proxy in front.
    BadGateway,
    /// 503 and an HTML page "is being updated".
    Unavailable,
}

impl Outage {
    pub(crate) fn reply(self) -> Option<Reply> {
        match self {
            Self::Drop => None,
            Self::BadGateway => Some(Reply::html(StatusCode::BAD_GATEWAY, "502 Bad Gateway")),
            Self::Unavailable => Some(Reply::html(StatusCode::SERVICE_UNAVAILABLE, "The site is being updated")),
        }
    }
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub rules: Vec<Fault>,
    pub outage: Option<Outage>,
}

impl Faults {
    /// The first rule that takes hold of this call, used up by one.
    pub fn take(&mut self, call: &Call, path: &str) -> Option<Fault> {
        let path = path.to_ascii_lowercase();
        let position = self.rules.iter_mut().position(|rule| {
            let method = rule.method.as_deref().is_none_or(|method| method.eq_ignore_ascii_case(call.method.as_str()));
            let body = rule.body.is_empty() || String::from_utf8_lossy(&call.body).contains(&rule.body);
            if !method || !body || !path.starts_with(&rule.path.to_ascii_lowercase()) {
                return false;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                return false;
            }
            true
        })?;
        let rule = &mut self.rules[position];
        rule.count = rule.count.saturating_sub(1);
        let taken = rule.clone();
        if rule.count == 0 {
            self.rules.remove(position);
        }
        Some(taken)
    }
}

/// How often and how fast the site was called. Control's own calls do not count.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    calls: BTreeMap<String, u64>,
    recent: VecDeque<Instant>,
    highest_in_one_second: usize,
    in_flight: usize,
    in_flight_max: usize,
}

impl Counters {
    pub fn begin(&mut self, method: &str, path: &str) {
        *self.calls.entry(format!("{method} {}", normal(path))).or_default() += 1;
        let now = Instant::now();
        while self.recent.front().is_some_and(|first| now.duration_since(*first) >= Duration::from_secs(1)) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.highest_in_one_second = self.highest_in_one_second.max(self.recent.len());
        self.in_flight += 1;
        self.in_flight_max = self.in_flight_max.max(self.in_flight);
    }

    pub fn end(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    pub fn reset(&mut self) {
        *self = Self { in_flight: self.in_flight, in_flight_max: self.in_flight, ..Self::default() };
    }

    pub fn json(&self) -> Value {
        json!({"calls": self.calls, "total": self.calls.values().sum::<u64>(),
            "highestInOneSecond": self.highest_in_one_second, "inFlight": self.in_flight, "inFlightMax": self.in_flight_max})
    }
}

/// The path with ids taken out, so that calls of one kind count together.
fn normal(path: &str) -> String {
    path.split('/')
        .map(|part| {
            if uuid::Uuid::try_parse(part).is_ok() {
                return "{id}".to_owned();
            }
            match part.split_once('(') {
                Some((name, rest)) => format!("{name}({{id}}){}", rest.split_once(')').map_or("", |(_, tail)| tail)),
                None => part.to_owned(),
            }
        })
        .collect::<Vec<_>>()
        .join("/")
}
