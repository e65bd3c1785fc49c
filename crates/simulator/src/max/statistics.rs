//! What went on: counted per path, status, webhook attempt and file host.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::rates::ChatCall;

/// Webhook attempts kept in the list; the oldest go first.
const ATTEMPTS: usize = 50_000;

/// One POST of the dispatcher, or the reason why there was none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookAttempt {
    /// When it ended, Unix ms.
    pub at: i64,
    /// The bot.
    pub bot: i64,
    /// The subscribed address.
    pub url: String,
    /// Number of the update in the bot's log.
    pub number: i64,
    /// Chat of the update.
    pub chat_id: i64,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// HTTP status of the receiver, if it answered in time.
    pub status: Option<u16>,
    /// Why there was no answer.
    pub error: Option<String>,
}

/// A copy of all figures.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StatisticsReport {
    /// Requests per method and path pattern, for example `POST /messages`.
    pub requests: BTreeMap<String, u64>,
    /// Answers per method, path pattern and status, for example `POST /messages 200`.
    pub answers: BTreeMap<String, u64>,
    /// Answers 429.
    pub too_many_requests: u64,
    /// Requests that an injected fault met.
    pub faults: u64,
    /// The most requests within any one second, per bot.
    pub highest_per_second: BTreeMap<i64, usize>,
    /// The most calls of one kind within any one second, per chat.
    pub highest_per_second_in_chat: Vec<HighestInChat>,
    /// Webhook attempts.
    pub webhook_attempts: u64,
    /// Webhook attempts answered 200 in time.
    pub webhook_successes: u64,
    /// Updates given up after the last retry.
    pub webhook_given_up: u64,
    /// Subscriptions removed for want of a 200.
    pub unsubscribed: u64,
    /// Requests at the file hosts that carried an `Authorization` header or a known token: a leak
    /// in the client.
    pub tokens_at_file_hosts: u64,
    /// Completed uploads.
    pub uploads: u64,
    /// Completed downloads.
    pub downloads: u64,
    /// Downloads refused because the address had expired.
    pub expired_downloads: u64,
}

/// See [`StatisticsReport::highest_per_second_in_chat`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HighestInChat {
    /// The chat.
    pub chat_id: i64,
    /// The kind of call.
    pub call: ChatCall,
    /// The most of them within any one second.
    pub highest: usize,
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    pub(super) report: StatisticsReport,
    pub(super) attempts: VecDeque<WebhookAttempt>,
}

impl Statistics {
    pub(super) fn request(&mut self, name: &str) {
        *self.report.requests.entry(name.to_owned()).or_default() += 1;
    }

    pub(super) fn answer(&mut self, name: &str, status: u16) {
        *self.report.answers.entry(format!("{name} {status}")).or_default() += 1;
        if status == 429 {
            self.report.too_many_requests += 1;
        }
    }

    pub(super) fn attempt(&mut self, attempt: WebhookAttempt) {
        self.report.webhook_attempts += 1;
        if attempt.status == Some(200) {
            self.report.webhook_successes += 1;
        }
        if self.attempts.len() >= ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
    }
}
