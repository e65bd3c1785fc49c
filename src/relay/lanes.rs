//! Who is served next: one lane per customer, so that a customer's work is done in order and a
//! stuck customer never delays another.
//!
//! Invariants: a lane is held by at most one worker at a time; work that is announced while its
//! lane is held is not forgotten; lanes that failed before never take more than half of the
//! permits, so that fresh ones always find one; memory is a few words per customer *with work*,
//! nothing per message. While the other side as a whole seems to be away a breaker is open: one
//! lane at a time probes it, and the first answer closes the breaker for all at once.
//!
//! Must not know what the work is. Nothing here is on disk: after a start every lane with work on
//! disk is woken.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::contract::CustomerId;
use crate::time::{Backoff, Clock, Millis};

/// How many different lanes must fail, with no success between, before the other side counts as
/// away: one that is stuck by itself says nothing about the others.
const FAILURES_OF_AN_OUTAGE: usize = 3;
/// Between probes while the breaker is open: an eighth of the time that it has been, within these
/// bounds, in milliseconds.
const PROBE_SOONEST: Millis = 500;
const PROBE_LATEST: Millis = 5_000;
/// The limit of the first probe's call; doubled by each that fails, so that a slow side is found to
/// be well in the end.
const PROBE_LIMIT: Backoff = Backoff::doubling(Duration::from_secs(2), Duration::from_secs(30));

/// How long the other side is left alone between two tries, once it has been away so long.
pub(super) fn between_probes(away: Millis) -> Millis {
    (away / 8).clamp(PROBE_SOONEST, PROBE_LATEST)
}

/// The lanes of one direction. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lanes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    permits: usize,
    lanes: HashMap<CustomerId, Lane>,
    ready: VecDeque<CustomerId>,
    waiting: BTreeSet<(Millis, CustomerId)>,
    held: usize,
    held_after_failure: usize,
    enabled: bool,
    failed: Vec<CustomerId>,
    breaker: Option<OpenBreaker>,
    /// Grows with each answer of the other side.
    answers: u64,
    /// Lanes that were released before their own pause was over, and have not been served since.
    released: HashSet<CustomerId>,
}

#[derive(Debug)]
struct OpenBreaker {
    since: Millis,
    probes: u32,
    probed_at: Millis,
    probing: Option<CustomerId>,
}

#[derive(Debug)]
enum Lane {
    Ready,
    Waiting { until: Millis, outage: bool },
    Held { again: bool },
}

/// The right to work on one lane. [`Lease::finish`] says how it went; a lease that is dropped
/// instead (a cancelled or panicking worker) makes its lane ready again.
#[derive(Debug)]
pub struct Lease {
    lanes: Lanes,
    customer: CustomerId,
    after_failure: bool,
    probing: bool,
    /// [`State::answers`] when the work began.
    answers: u64,
    finished: bool,
}

/// How the work on a lane went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to do.
    Idle,
    /// A piece of work is done; there may be more.
    Done,
    /// The head of this lane must wait so many milliseconds; the other side is well.
    Wait(Millis),
    /// The other side could not be reached or is not itself; this lane waits so many milliseconds.
    Outage(Millis),
    /// This lane waits so many milliseconds for a reason that says nothing about the other side.
    Unclear(Millis),
}

impl Lanes {
    /// `permits`: how many lanes may be held at once.
    #[must_use]
    pub fn new(clock: Clock, permits: usize) -> Self {
        let state = State { permits: permits.max(1), ..State::default() };
        Self { shared: Arc::new(Shared { clock, state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// How many lanes may be held at once from now on.
    pub fn set_permits(&self, permits: usize) {
        self.lock().permits = permits.max(1);
        self.shared.changed.notify_waiters();
    }

    /// Whether lanes may be taken at all; they may not until this is called.
    pub fn enable(&self, enabled: bool) {
        self.lock().enabled = enabled;
        self.shared.changed.notify_waiters();
    }

    /// There is work for this customer.
    pub fn wake(&self, customer: CustomerId) {
        let mut state = self.lock();
        match state.lanes.get_mut(&customer) {
            Some(Lane::Held { again }) => *again = true,
            // Its head decides when it goes on; what came later stands behind it.
            Some(Lane::Ready | Lane::Waiting { .. }) => {}
            None => {
                state.lanes.insert(customer, Lane::Ready);
                state.ready.push_back(customer);
                drop(state);
                self.shared.changed.notify_one();
            }
        }
    }

    /// What this customer's lane waited for has come about: it is ready now.
    pub fn hurry(&self, customer: CustomerId) {
        let mut guard = self.lock();
        let state = &mut *guard;
        match state.lanes.get_mut(&customer) {
            Some(Lane::Held { again }) => *again = true,
            Some(Lane::Waiting { until, .. }) => {
                let until = *until;
                state.waiting.remove(&(until, customer));
                state.lanes.insert(customer, Lane::Ready);
                state.ready.push_back(customer);
                drop(guard);
                self.shared.changed.notify_one();
            }
            Some(Lane::Ready) | None => {}
        }
    }

    /// Nothing is known any more about when to try again: every waiting lane is ready and the
    /// breaker closed. For new settings.
    pub fn rouse_all(&self) {
        let mut state = self.lock();
        state.breaker = None;
        state.failed.clear();
        let waiting: Vec<CustomerId> = state.waiting.iter().map(|(_, customer)| *customer).collect();
        state.waiting.clear();
        for customer in waiting {
            state.lanes.insert(customer, Lane::Ready);
            state.ready.push_back(customer);
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// The other side has answered somebody else: those who wait only because it was away wait no
    /// longer. Each is released once before its own pause is over, so that one that fails by itself
    /// is not tried with everybody's success.
    pub fn release(&self) {
        let mut state = self.lock();
        state.answers += 1;
        state.failed.clear();
        state.breaker = None;
        state.release_outage();
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// How long the call of this customer may take, if it is a probe.
    #[must_use]
    pub fn probe_limit(&self, customer: CustomerId) -> Option<Duration> {
        let state = self.lock();
        let breaker = state.breaker.as_ref().filter(|breaker| breaker.probing == Some(customer))?;
        Some(PROBE_LIMIT.after(breaker.probes))
    }

    /// Whether new work of this customer's would be taken up at once: nothing of it waits, and
    /// nothing holds the lanes up.
    #[must_use]
    pub fn is_free(&self, customer: CustomerId) -> bool {
        let state = self.lock();
        let has_permit = state.enabled && state.held + state.ready.len() < state.permits;
        has_permit && state.breaker.is_none() && !state.lanes.contains_key(&customer)
    }

    /// How many customers have work or wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().lanes.len()
    }

    /// Waits for a lane that may be worked on.
    ///
    /// One of those who wait sleeps until the next lane is due; whoever takes a lease wakes another
    /// to watch in its place.
    pub async fn next(&self) -> Lease {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let until = match self.try_next() {
                Ok(lease) => {
                    self.shared.changed.notify_one();
                    return lease;
                }
                Err(until) => until,
            };
            match until {
                Some(until) => {
                    tokio::select! { () = changed => {}, () = self.shared.clock.sleep_until_passed(until) => {} }
                }
                None => changed.await,
            }
        }
    }

    fn try_next(&self) -> Result<Lease, Option<Millis>> {
        let now = self.shared.clock.passed();
        let mut guard = self.lock();
        let state = &mut *guard;
        if !state.enabled || state.held >= state.permits {
            return Err(None);
        }
        if let Some(breaker) = &mut state.breaker {
            if breaker.probing.is_some() {
                return Err(None);
            }
            let pause = between_probes(now - breaker.since);
            if now < breaker.probed_at + pause {
                return Err(Some(breaker.probed_at + pause));
            }
            // Whoever has not failed yet, else whoever waits shortest, is the probe, due or not; a
            // failed probe sends it to the back.
            let Some(customer) =
                state.ready.pop_front().or_else(|| state.waiting.pop_first().map(|(_, customer)| customer))
            else {
                return Err(None);
            };
            breaker.probing = Some(customer);
            return Ok(self.lease(state, customer, false, true));
        }
        let retry_permits = state.permits.div_ceil(2);
        let mut next_retry = None;
        if let Some((due, customer)) = state.waiting.first().copied() {
            if due > now {
                next_retry = Some(due);
            } else if state.held_after_failure < retry_permits {
                state.waiting.pop_first();
                return Ok(self.lease(state, customer, true, false));
            }
        }
        match state.ready.pop_front() {
            Some(customer) => Ok(self.lease(state, customer, false, false)),
            None => Err(next_retry),
        }
    }

    fn lease(&self, state: &mut State, customer: CustomerId, after_failure: bool, probing: bool) -> Lease {
        state.lanes.insert(customer, Lane::Held { again: false });
        state.held += 1;
        state.held_after_failure += usize::from(after_failure);
        let answers = state.answers;
        Lease { lanes: self.clone(), customer, after_failure, probing, answers, finished: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    #[must_use]
    pub fn customer(&self) -> CustomerId {
        self.customer
    }

    /// Gives the lane back.
    pub fn finish(mut self, outcome: Outcome) {
        self.give_back(outcome);
    }

    fn give_back(&mut self, outcome: Outcome) {
        self.finished = true;
        let now = self.lanes.shared.clock.passed();
        let mut guard = self.lanes.lock();
        let state = &mut *guard;
        state.held -= 1;
        state.held_after_failure -= usize::from(self.after_failure);
        let again = matches!(state.lanes.get(&self.customer), Some(Lane::Held { again: true }));
        let place = |state: &mut State, lane: Lane| {
            match lane {
                Lane::Ready => state.ready.push_back(self.customer),
                Lane::Waiting { until, .. } => drop(state.waiting.insert((until, self.customer))),
                Lane::Held { .. } => {}
            }
            state.lanes.insert(self.customer, lane);
        };
        match outcome {
            Outcome::Idle if !again => {
                state.lanes.remove(&self.customer);
            }
            Outcome::Idle | Outcome::Done => place(state, Lane::Ready),
            Outcome::Wait(pause) | Outcome::Unclear(pause) => {
                place(state, Lane::Waiting { until: now.saturating_add(pause), outage: false });
            }
            Outcome::Outage(pause) => {
                let outage = !state.released.contains(&self.customer);
                place(state, Lane::Waiting { until: now.saturating_add(pause), outage });
            }
        }
        state.released.remove(&self.customer);
        let mut opened = false;
        match outcome {
            Outcome::Idle | Outcome::Unclear(_) => {
                if let (Some(breaker), true) = (&mut state.breaker, self.probing) {
                    breaker.probing = None;
                    if matches!(outcome, Outcome::Unclear(_)) {
                        // The side may have been asked.
                        breaker.probed_at = now;
                    }
                }
            }
            Outcome::Done | Outcome::Wait(_) => {
                state.answers += 1;
                state.failed.clear();
                if state.breaker.take().is_some() {
                    state.release_outage();
                    opened = true;
                }
            }
            Outcome::Outage(_) => match &mut state.breaker {
                Some(breaker) if self.probing => {
                    *breaker =
                        OpenBreaker { since: breaker.since, probes: breaker.probes + 1, probed_at: now, probing: None }
                }
                Some(_) => {}
                // Others were answered meanwhile: it is this lane, not the side.
                None if state.answers > self.answers => {}
                None => {
                    if !state.failed.contains(&self.customer) {
                        state.failed.push(self.customer);
                    }
                    if state.failed.len() >= FAILURES_OF_AN_OUTAGE {
                        state.breaker = Some(OpenBreaker { since: now, probes: 0, probed_at: now, probing: None });
                    }
                }
            },
        }
        drop(guard);
        if opened {
            self.lanes.shared.changed.notify_waiters();
        } else {
            self.lanes.shared.changed.notify_one();
        }
    }
}

impl State {
    /// Those who waited only because the other side was away wait no longer.
    fn release_outage(&mut self) {
        let released: Vec<(Millis, CustomerId)> = self
            .waiting
            .iter()
            .filter(|(_, customer)| matches!(self.lanes.get(customer), Some(Lane::Waiting { outage: true, .. })))
            .copied()
            .collect();
        for (until, customer) in released {
            self.waiting.remove(&(until, customer));
            self.lanes.insert(customer, Lane::Ready);
            self.ready.push_back(customer);
            self.released.insert(customer);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.finished {
            let mut state = self.lanes.lock();
            if let Some(Lane::Held { again }) = state.lanes.get_mut(&self.customer) {
                *again = true;
            }
            drop(state);
            self.give_back(Outcome::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(permits: usize) -> (Lanes, crate::time::ManualClock) {
        let (clock, manual) = Clock::manual(0);
        let lanes = Lanes::new(clock, permits);
        lanes.enable(true);
        (lanes, manual)
    }

    const fn customer(number: i64) -> CustomerId {
        CustomerId::new(number)
    }

    #[test]
    fn a_lane_is_held_once_and_work_announced_meanwhile_is_not_forgotten() {
        let (lanes, _hand) = lanes(4);
        lanes.wake(customer(1));
        let lease = lanes.try_next().unwrap();
        lanes.wake(customer(1));
        assert!(lanes.try_next().is_err(), "a held lane was handed out twice");
        lease.finish(Outcome::Idle);
        let lease = lanes.try_next().expect("the work announced while the lane was held");
        lease.finish(Outcome::Idle);
        assert_eq!(lanes.count(), 0);
    }

    #[test]
    fn stuck_customers_leave_places_for_fresh_ones() {
        let (lanes, manual) = lanes(4);
        for number in 1..=6 {
            lanes.wake(customer(number));
            lanes.try_next().unwrap().finish(Outcome::Wait(100));
        }
        manual.advance_to(200);
        let held: Vec<Lease> = std::iter::from_fn(|| lanes.try_next().ok()).collect();
        assert_eq!(held.len(), 2, "lanes that failed before took more than half of the permits");
        lanes.wake(customer(7));
        assert_eq!(lanes.try_next().unwrap().customer(), customer(7));
    }

    #[test]
    fn an_outage_opens_the_breaker_and_the_first_answer_closes_it_for_all() {
        let (lanes, manual) = lanes(8);
        for number in 1..=5 {
            lanes.wake(customer(number));
        }
        for _ in 0..3 {
            lanes.try_next().unwrap().finish(Outcome::Outage(60_000));
        }
        assert!(lanes.lock().breaker.is_some());
        assert_eq!(lanes.try_next().unwrap_err(), Some(500));
        manual.advance_to(500);
        let probe = lanes.try_next().unwrap();
        assert!(lanes.try_next().is_err(), "two probed at once");
        probe.finish(Outcome::Outage(60_000));
        assert_eq!(lanes.try_next().unwrap_err(), Some(1_000), "a side that went away a moment ago is asked soon");
        manual.advance_to(1_000);
        lanes.try_next().unwrap().finish(Outcome::Unclear(1_000));
        assert_eq!(lanes.try_next().unwrap_err(), Some(1_500), "a disk that is full makes no haste");
        manual.advance_to(1_500);
        lanes.try_next().unwrap().finish(Outcome::Done);
        let mut served: Vec<CustomerId> =
            std::iter::from_fn(|| lanes.try_next().ok()).map(|lease| lease.customer()).take(5).collect();
        served.sort_unstable();
        served.dedup();
        assert!(served.len() >= 4, "not all came at once: {served:?}");
    }

    #[test]
    fn whoever_waits_for_an_outage_goes_on_with_the_first_answer_but_once_only() {
        let (lanes, manual) = lanes(8);
        lanes.wake(customer(1));
        lanes.try_next().unwrap().finish(Outcome::Outage(60_000));
        assert!(lanes.try_next().is_err());
        lanes.release();
        lanes.try_next().expect("the side has answered").finish(Outcome::Outage(60_000));
        for _ in 0..100 {
            lanes.release();
            assert!(lanes.try_next().is_err(), "a lane that fails by itself was tried with another's success");
        }
        manual.advance_to(60_000);
        lanes.try_next().unwrap().finish(Outcome::Outage(60_000));
        lanes.release();
        lanes.try_next().unwrap().finish(Outcome::Idle);
        assert_eq!(lanes.count(), 0);
    }

    #[test]
    fn lanes_that_hang_while_others_are_answered_open_no_breaker_and_a_probe_has_a_short_limit() {
        let (lanes, manual) = lanes(8);
        for number in 1..=5 {
            lanes.wake(customer(number));
        }
        let hanging: Vec<Lease> = (0..4).map(|_| lanes.try_next().unwrap()).collect();
        lanes.try_next().unwrap().finish(Outcome::Done);
        for lease in hanging {
            lease.finish(Outcome::Outage(500));
        }
        assert!(lanes.lock().breaker.is_none(), "the side counts as away although it answered");
        manual.advance_to(500);
        let mut failed = 0;
        while let Ok(lease) = lanes.try_next() {
            lease.finish(if failed < 3 { Outcome::Outage(500) } else { Outcome::Idle });
            failed += 1;
        }
        assert!(lanes.lock().breaker.is_some());
        manual.advance_to(1_000);
        let probe = lanes.try_next().unwrap();
        let limit = lanes.probe_limit(probe.customer()).unwrap();
        assert!(limit <= std::time::Duration::from_secs(2), "{limit:?}");
    }

    #[test]
    fn a_lease_that_is_dropped_makes_its_lane_ready_again() {
        let (lanes, _hand) = lanes(1);
        lanes.wake(customer(1));
        drop(lanes.try_next().unwrap());
        assert_eq!(lanes.try_next().unwrap().customer(), customer(1));
    }
}
