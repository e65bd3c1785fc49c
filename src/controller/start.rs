//! A channel on its way to its first Ready: what was made for it in the cluster is told by the one
//! event that says Ready, and a status that only tells of progress is written with pauses. What is
//! changed outside is told by itself at once.
//!
//! A person wants to know that the channel works; each step is for whoever asks why it does not. So
//! the start is over as soon as anything is wrong, and after a while in any case: then what was
//! kept is told, and everything after it at once. Lost with the process are the words of what went
//! well, and nothing else: what waits stands in the status.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::EventType;

use crate::api::{ConditionType, MaxChannelStatus};
use crate::time::{Backoff, Millis};

/// Between two statuses of progress.
const STATUS: Backoff = Backoff::doubling(Duration::from_secs(5), Duration::from_mins(1));
/// What is not Ready by then is told of step by step.
const LATE: Millis = 60_000;
/// The same while many channels wait, which then take longer.
const LATE_WHILE_BUSY: Millis = 600_000;
/// The server takes no longer note.
const LONGEST_NOTE: usize = 1_000;

/// One event to be told.
#[derive(Clone, Debug)]
pub struct News {
    pub type_: EventType,
    pub reason: String,
    pub action: String,
    pub note: String,
    /// Something is as it should be; else it is waited for, or wrong.
    pub is_done: bool,
}

impl News {
    pub fn done(reason: impl Into<String>, action: &str, note: impl Into<String>) -> Self {
        let (reason, action, note) = (reason.into(), action.to_owned(), note.into());
        Self { type_: EventType::Normal, reason, action, note, is_done: true }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Start {
    news: Vec<News>,
    /// Since when there is something to tell.
    since: Option<Millis>,
    statuses: u32,
    /// Before that no status of progress is written.
    pause: Option<Millis>,
    is_holding: bool,
    /// Many channels wait, so that everything takes longer.
    pub is_busy: bool,
}

impl Start {
    /// Takes in what is to be told later. What a condition says takes the place of what it said
    /// before; of one that holds again nobody needs to know that it had not held yet.
    pub fn keep(&mut self, news: News, now: Millis) {
        self.since.get_or_insert(now);
        self.put(news);
    }

    fn put(&mut self, news: News) {
        let is_check = ConditionType::ALL.iter().any(|condition| news.action == check(condition.as_str()));
        let place = self.news.iter().position(|kept| is_check && kept.action == news.action);
        match place {
            Some(place) if news.is_done => drop(self.news.remove(place)),
            Some(place) => self.news[place] = news,
            None => self.news.push(news),
        }
    }

    /// Whether it takes longer than what was kept may wait.
    #[must_use]
    pub fn is_late(&self, now: Millis) -> bool {
        self.late_at().is_some_and(|late| late <= now)
    }

    fn late_at(&self) -> Option<Millis> {
        Some(self.since? + if self.is_busy { LATE_WHILE_BUSY } else { LATE })
    }

    /// When the next pass has something to do for it.
    #[must_use]
    pub fn due(&self) -> Option<Millis> {
        [self.pause.filter(|_| self.is_holding), self.late_at()].into_iter().flatten().min()
    }

    /// Whether a status that only tells of progress has to wait.
    pub fn holds_status(&mut self, now: Millis) -> bool {
        self.is_holding = self.pause.is_some_and(|pause| now < pause);
        self.is_holding
    }

    pub fn wrote_status(&mut self, now: Millis) {
        let pause = STATUS.millis_after(self.statuses) * if self.is_busy { 4 } else { 1 };
        self.statuses = self.statuses.saturating_add(1);
        self.pause = Some(now + pause);
        self.is_holding = false;
    }

    /// It is Ready, with the news of the status that says so: one event says all.
    #[must_use]
    pub fn ready(mut self, news: Vec<News>) -> Vec<News> {
        let is_ready = |news: &News| news.action == check(ConditionType::Ready.as_str());
        let (ready, others): (Vec<News>, Vec<News>) = news.into_iter().partition(is_ready);
        for news in others {
            self.put(news);
        }
        let Some(mut all) = ready.into_iter().next() else { return self.news };
        let notes = self.news.iter().map(|news| news.note.as_str());
        let note = std::iter::once(all.note.as_str()).chain(notes).collect::<Vec<_>>().join("; ");
        let is_well = self.news.iter().all(|news| matches!(news.type_, EventType::Normal));
        if is_well && note.len() <= LONGEST_NOTE {
            all.note = note;
            return vec![all];
        }
        self.news.push(all);
        self.news
    }

    /// What is still to be told.
    #[must_use]
    pub fn end(self) -> Vec<News> {
        self.news
    }
}

/// The action of an event about a condition.
#[must_use]
pub fn check(condition: &str) -> String {
    format!("Check{condition}")
}

/// Whether a condition fails as it does until everything is done that has to be.
#[must_use]
pub fn is_expected(condition: &Condition) -> bool {
    let expected = ["RelayStarting", "NotSubscribed", "ConfigPending", "AutoRepliesNotConfigured", "OffHoursBotActive"];
    expected.contains(&condition.reason.as_str())
}

/// Whether a condition says that something is wrong. A channel that is still to be made in the CRM
/// is not, nor is a relay that nobody has heard of yet.
#[must_use]
pub fn is_trouble(condition: &Condition, has_heard_relay: bool) -> bool {
    let is_sum = |sum: ConditionType| condition.type_ == sum.as_str();
    condition.status == "False"
        && !is_sum(ConditionType::Ready)
        && !is_sum(ConditionType::Stalled)
        && !is_expected(condition)
        && condition.reason != "ChannelMissing"
        && (condition.reason != "RelayUnreachable" || has_heard_relay)
}

/// Whether two statuses answer the same wish of a person.
#[must_use]
pub fn is_of_same_wish(before: &MaxChannelStatus, now: &MaxChannelStatus) -> bool {
    before.observed_generation == now.observed_generation
        && before.last_handled_reconcile_at == now.last_handled_reconcile_at
        && before.adopted == now.adopted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(condition: &str, note: &str) -> News {
        News { is_done: false, ..News::done("Waits", &check(condition), note) }
    }

    fn ready() -> News {
        News::done("Ready", "CheckReady", "Messages flow")
    }

    fn told(news: Vec<News>) -> Vec<(String, String)> {
        news.into_iter().map(|news| (news.reason, news.note)).collect()
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(reason, note)| ((*reason).to_owned(), (*note).to_owned())).collect()
    }

    #[test]
    fn a_start_without_trouble_is_one_event_that_says_what_was_made_and_not_what_was_waited_for() {
        let mut start = Start::default();
        start.keep(News::done("RelayCreated", "CreateRelay", "made"), 0);
        start.keep(waits("RelayAvailable", "it starts"), 0);
        start.keep(waits("IntakeReady", "not yet subscribed"), 0);
        start.keep(waits("AutoRepliesActive", "no replies"), 0);
        start.keep(News::done("Available", "CheckRelayAvailable", "it runs"), 1);
        start.keep(News::done("Subscribed", "Subscribe", "subscribed"), 2);
        let last = vec![ready(), News::done("Subscribed", "CheckIntakeReady", "MAX calls")];
        assert_eq!(told(start.ready(last)), pairs(&[("Ready", "Messages flow; made; no replies; subscribed")]));
    }

    #[test]
    fn what_does_not_fit_into_one_event_or_is_a_warning_is_told_by_itself() {
        let mut start = Start::default();
        let long = "x".repeat(LONGEST_NOTE);
        start.keep(News::done("CrmChannelCreated", "CreateInCrm", long.clone()), 0);
        let expected = pairs(&[("CrmChannelCreated", &long), ("Ready", "Messages flow")]);
        assert_eq!(told(start.ready(vec![ready()])), expected);
        let mut start = Start::default();
        start.keep(News { type_: EventType::Warning, ..waits("CrmConnected", "no channel") }, 0);
        assert_eq!(told(start.ready(vec![ready()])), pairs(&[("Waits", "no channel"), ("Ready", "Messages flow")]));
    }

    #[test]
    fn a_start_that_takes_long_is_told_step_by_step_and_later_while_many_wait() {
        let mut start = Start::default();
        assert!(!start.is_late(LATE) && start.due().is_none(), "nothing to tell");
        start.keep(waits("RelayAvailable", "it starts"), 1_000);
        start.keep(waits("RelayAvailable", "it still starts"), 50_000);
        assert!(!start.is_late(LATE) && start.is_late(LATE + 1_000));
        assert_eq!(start.due(), Some(LATE + 1_000));
        start.is_busy = true;
        assert!(!start.is_late(LATE + 1_000) && start.is_late(LATE_WHILE_BUSY + 1_000));
        assert_eq!(told(start.end()), pairs(&[("Waits", "it still starts")]));
    }

    #[test]
    fn statuses_of_progress_come_with_growing_pauses_the_first_at_once() {
        let mut start = Start::default();
        assert!(!start.holds_status(0));
        start.wrote_status(0);
        assert!(start.holds_status(4_999) && start.due() == Some(5_000));
        assert!(!start.holds_status(5_000));
        start.wrote_status(5_000);
        assert!(start.holds_status(14_999) && !start.holds_status(15_000));
        start.is_busy = true;
        start.wrote_status(15_000);
        assert!(start.holds_status(94_999) && !start.holds_status(95_000), "longer while many wait");
    }

    #[test]
    fn only_what_passes_by_itself_is_no_trouble() {
        let condition = |type_: &str, status: &str, reason: &str| Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
        };
        for (type_, status, reason, is_wrong) in [
            ("Ready", "False", "TokenInvalid", false),
            ("Stalled", "False", "NotStalled", false),
            ("TokenAuthorized", "False", "TokenInvalid", true),
            ("TokenAuthorized", "Unknown", "NotChecked", false),
            ("CrmConnected", "False", "ChannelMissing", false),
            ("CrmConnected", "False", "CrmUnreachable", true),
            ("IntakeReady", "False", "NotSubscribed", false),
            ("RelayAvailable", "False", "RelayStarting", false),
            ("RelayAvailable", "False", "RelayUnreachable", false),
            ("RelayAvailable", "False", "CrashLooping", true),
            ("ReceiverResolved", "True", "AgentsMissingInCrm", false),
        ] {
            assert_eq!(is_trouble(&condition(type_, status, reason), false), is_wrong, "{type_} {status} {reason}");
        }
        assert!(is_trouble(&condition("RelayAvailable", "False", "RelayUnreachable"), true));
    }
}
