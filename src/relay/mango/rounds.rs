//! The order of what webhooks bring and what only asking finds: while anything may be missing, a
//! message waits for the end of a round of asking, for a moment. In memory: after a start something
//! may be missing. Beside it, what is known of MANGO's clock, which erasures are held against.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::contract::CustomerId;
use crate::time::Millis;

/// How long a message waits for what may belong before it.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// How long webhooks are distrusted after one was lost.
const LOSSY: Millis = 600_000;

/// Whether something may be missing, and who waits for it.
#[derive(Debug)]
pub(in crate::relay) struct Rounds(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Nobody has asked for everything since something may have been missed.
    is_open: bool,
    /// Webhooks have been lost lately, and may be until then.
    lossy_until: Millis,
    /// Since when, and until when.
    waiting: HashMap<CustomerId, (Instant, Instant)>,
    /// Whose wait is over; each goes on once.
    released: HashSet<CustomerId>,
    /// What is known of asking for each session, in passed time.
    asked: HashMap<String, Asked>,
    /// How far MANGO's clock is ahead of passed time, at the least.
    ahead: Option<Millis>,
    /// Who was erased before anything was known of it, and stands on disk by our own.
    erased: Vec<Erased>,
}

/// An erasure, in passed time.
#[derive(Clone, Copy, Debug)]
struct Erased {
    customer: CustomerId,
    passed: Millis,
    /// By MANGO's clock it was not before.
    at_least: Millis,
}

/// What is known of asking for one session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// Since when it is not listed.
    pub missing_since: Option<Millis>,
    /// When its messages were last read.
    pub read_at: Option<Millis>,
    /// Readings that failed in a row.
    pub failures: u32,
}

impl Rounds {
    pub fn new() -> Self {
        Self(Mutex::new(State {
            is_open: true,
            lossy_until: Millis::MIN,
            waiting: HashMap::new(),
            released: HashSet::new(),
            asked: HashMap::new(),
            ahead: None,
            erased: Vec::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What MANGO's clock shows, at the least; none: it has told nothing in this run.
    pub fn time(&self, passed: Millis) -> Option<Millis> {
        self.lock().ahead.map(|ahead| passed + ahead)
    }

    /// MANGO has told of something of this time.
    pub(super) fn heard(&self, at: Millis, passed: Millis) {
        let mut state = self.lock();
        state.ahead = state.ahead.max(Some(at - passed));
    }

    /// A person was erased now, by our own clock, since MANGO's is not known; by MANGO's it was not
    /// before `at_least`.
    pub fn note_erased(&self, customer: CustomerId, passed: Millis, at_least: Millis) {
        self.lock().erased.push(Erased { customer, passed, at_least });
    }

    /// MANGO has called, with something that has just happened: answers when those were erased by
    /// its clock who stand on disk by ours. What it lists may be as old as it likes.
    pub(super) fn corrected(&self, at: Millis, passed: Millis) -> Vec<(CustomerId, Millis)> {
        let mut state = self.lock();
        let ahead = state.ahead.max(Some(at - passed)).unwrap_or_default();
        state.ahead = Some(ahead);
        let by_mango = |one: &Erased| (one.customer, (one.passed + ahead).max(one.at_least));
        state.erased.iter().map(by_mango).collect()
    }

    /// That is on disk.
    pub(super) fn written(&self, corrected: &[(CustomerId, Millis)]) {
        let is_written = |one: &Erased| corrected.iter().any(|(customer, _)| *customer == one.customer);
        self.lock().erased.retain(|one| !is_written(one));
    }

    /// How much longer a message of this customer's waits; none: it goes on.
    pub fn wait_for(&self, customer: CustomerId, now: Millis) -> Option<Duration> {
        let mut state = self.lock();
        if state.released.remove(&customer) || (!state.is_open && now >= state.lossy_until) {
            return None;
        }
        let now = Instant::now();
        let (_, until) = *state.waiting.entry(customer).or_insert((now, now + PATIENCE));
        let left = until.checked_duration_since(now).filter(|left| !left.is_zero());
        if left.is_none() {
            state.waiting.remove(&customer);
        }
        left
    }

    pub(super) fn asked(&self) -> HashMap<String, Asked> {
        self.lock().asked.clone()
    }

    /// Notes what is known of the sessions that are of interest; the others are forgotten.
    pub(super) fn note_asked(&self, asked: HashMap<String, Asked>) {
        self.lock().asked = asked;
    }

    pub(super) fn note_read(&self, session: &str, passed: Millis, failed: bool) {
        let mut state = self.lock();
        let asked = state.asked.entry(session.to_owned()).or_default();
        asked.read_at = Some(passed);
        asked.failures = if failed { asked.failures.saturating_add(1) } else { 0 };
    }

    /// An event was not taken.
    pub fn note_loss(&self) {
        self.lock().is_open = true;
    }

    /// A round that began then has ended: whether it asked for everything, and whether it found
    /// what a webhook ought to have brought before. Answers who waits no longer.
    pub fn ended(&self, began: Instant, is_whole: bool, found: bool, now: Millis) -> Vec<CustomerId> {
        let mut state = self.lock();
        state.is_open = !is_whole;
        if found {
            state.lossy_until = now + LOSSY;
        }
        if !is_whole {
            return Vec::new();
        }
        // What came while it asked may stand behind what it has not seen.
        let over = state.waiting.extract_if(|_, (since, _)| *since <= began).map(|(customer, _)| customer);
        let over: Vec<CustomerId> = over.collect();
        state.released.extend(&over);
        over
    }
}
