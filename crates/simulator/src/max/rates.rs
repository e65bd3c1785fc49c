//! Requests per second: counted for every host and chat, and refused above the limits (MAX Bot API,
//! rate limits).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::refusal::Refusal;
use super::switches::{RateScope, Switches};

const ONE_SECOND: Duration = Duration::from_secs(1);

/// The kinds of calls that are counted per chat, each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatCall {
    /// POST /messages.
    Send,
    /// PUT /messages.
    Edit,
    /// DELETE /messages.
    Delete,
    /// POST /answers.
    Answer,
}

/// One sliding window.
#[derive(Debug, Default)]
struct Meter {
    /// All arrivals of the last second.
    seen: VecDeque<Instant>,
    /// What fills the limit.
    admitted: VecDeque<Instant>,
    highest: usize,
}

impl Meter {
    /// Counts one arrival; false: above the limit.
    fn arrive(&mut self, now: Instant, limit: u32, window: Duration, refused_count: bool) -> bool {
        forget(&mut self.seen, now, ONE_SECOND);
        self.seen.push_back(now);
        self.highest = self.highest.max(self.seen.len());
        forget(&mut self.admitted, now, window);
        let fits = limit == 0 || self.admitted.len() < limit as usize;
        if limit > 0 && (fits || refused_count) {
            self.admitted.push_back(now);
            // Only whether the window is full matters: more than twice the limit need not be
            // remembered.
            if self.admitted.len() > 2 * limit as usize {
                self.admitted.pop_front();
            }
        }
        fits
    }
}

fn forget(times: &mut VecDeque<Instant>, now: Instant, window: Duration) {
    while times.front().is_some_and(|first| now.duration_since(*first) >= window) {
        times.pop_front();
    }
}

/// All windows.
#[derive(Debug, Default)]
pub(super) struct Rates {
    hosts: HashMap<i64, Meter>,
    polls: HashMap<i64, Meter>,
    chats: HashMap<(i64, ChatCall), Meter>,
}

/// The bot under which all are counted when the scope is the address.
const EVERYBODY: i64 = 0;

impl Rates {
    /// One request of a bot to the API host.
    pub(super) fn host(&mut self, bot: i64, now: Instant, switches: &Switches) -> Result<(), Refusal> {
        let key = if switches.rate_scope == RateScope::Token { bot } else { EVERYBODY };
        if key == EVERYBODY {
            // The statistic stays per bot, whatever the limit is counted for.
            self.hosts.entry(bot).or_default().arrive(now, 0, ONE_SECOND, false);
        }
        admit(self.hosts.entry(key).or_default(), now, switches.host_per_second, switches)
    }

    /// One GET /updates.
    pub(super) fn poll(&mut self, bot: i64, now: Instant, switches: &Switches) -> Result<(), Refusal> {
        admit(self.polls.entry(bot).or_default(), now, switches.polls_per_second, switches)
    }

    /// One call into a chat.
    pub(super) fn chat(&mut self, chat: i64, call: ChatCall, now: Instant, switches: &Switches) -> Result<(), Refusal> {
        admit(self.chats.entry((chat, call)).or_default(), now, switches.chat_per_second, switches)
    }

    /// The most requests within one second, per bot.
    pub(super) fn highest_of_hosts(&self) -> impl Iterator<Item = (i64, usize)> {
        self.hosts.iter().filter(|(bot, _)| **bot != EVERYBODY).map(|(bot, meter)| (*bot, meter.highest))
    }

    /// The most calls within one second, per chat and kind.
    pub(super) fn highest_of_chats(&self) -> impl Iterator<Item = (i64, ChatCall, usize)> {
        self.chats.iter().map(|((chat, call), meter)| (*chat, *call, meter.highest))
    }

    /// Forgets the highest figures; the windows stay in force.
    pub(super) fn reset_highest(&mut self) {
        for meter in self.hosts.values_mut().chain(self.polls.values_mut()).chain(self.chats.values_mut()) {
            meter.highest = 0;
        }
    }
}

fn admit(meter: &mut Meter, now: Instant, limit: u32, switches: &Switches) -> Result<(), Refusal> {
    let window = Duration::from_millis(switches.rate_window_ms);
    if meter.arrive(now, limit, window, switches.refused_requests_count) {
        Ok(())
    } else {
        Err(Refusal::too_many(switches.retry_after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_the_limit_fits_into_any_one_second_and_every_arrival_is_counted() {
        let switches = Switches::default();
        let mut rates = Rates::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut send = |ms| rates.chat(7, ChatCall::Send, at(ms), &switches).is_ok();
        assert_eq!(
            [send(0), send(600), send(999), send(1_000), send(1_599), send(1_600)],
            [true, true, false, true, false, true]
        );
        assert!(rates.chat(7, ChatCall::Edit, at(1_600), &switches).is_ok(), "each kind for itself");
        assert!(rates.chat(8, ChatCall::Send, at(1_600), &switches).is_ok(), "each chat for itself");
        assert_eq!(
            rates.highest_of_chats().find(|(chat, call, _)| (*chat, *call) == (7, ChatCall::Send)),
            Some((7, ChatCall::Send, 4))
        );
    }

    #[test]
    fn where_refused_requests_count_hammering_never_gets_through() {
        let switches = Switches { refused_requests_count: true, ..Switches::default() };
        let mut rates = Rates::default();
        let start = Instant::now();
        let passed = (0..40)
            .filter(|n| rates.chat(7, ChatCall::Send, start + Duration::from_millis(n * 100), &switches).is_ok())
            .count();
        assert_eq!(passed, 2);
    }
}
