//! The order of what webhooks bring and what only asking finds: while anything may be missing, a
//! message waits for the end of a round of asking, for a moment. In memory: after a start something
//! may be missing. Beside it, what is known of MANGO's clock, which erasures are held against: it
//! shows at least the time of the youngest thing that was told, and goes on with passed time.

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
/// What lies further ahead of our clock is odd, unless a second thing says the same.
const ODD: Millis = 60_000;
/// Two things of the same clock are no further apart, the time between them left out.
const ALIKE: Millis = 600_000;
/// Erasures are put right for so long.
const PUT_RIGHT: Millis = 3_600_000;

/// Whether something may be missing, and who waits for it.
#[derive(Debug)]
pub(in crate::relay) struct Rounds(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Nobody has asked for everything since something may have been missed.
    is_open: bool,
    /// Every session that can be read has been read since the relay went on.
    all_read: bool,
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
    /// The newest time that was told, but for what is odd.
    newest: Option<Millis>,
    /// Something odd: its time, and how far that is ahead of passed time.
    odd: Option<(Millis, Millis)>,
    /// Who was erased lately, and when, in passed time.
    erased: Vec<(CustomerId, Millis)>,
    /// By what they stand on disk.
    written: Option<Millis>,
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
    /// It was read, and what it showed is on disk, since the relay went on.
    pub is_heard: bool,
}

impl Rounds {
    pub fn new() -> Self {
        Self(Mutex::new(State {
            is_open: true,
            all_read: false,
            lossy_until: Millis::MIN,
            waiting: HashMap::new(),
            released: HashSet::new(),
            asked: HashMap::new(),
            ahead: None,
            newest: None,
            odd: None,
            erased: Vec::new(),
            written: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What MANGO's clock shows, at the least; none: it has told nothing in this run.
    pub fn time(&self, passed: Millis) -> Option<Millis> {
        self.lock().ahead.map(|ahead| passed + ahead)
    }

    /// Whether everything that MANGO shows has been asked for, as far as is known.
    pub fn is_settled(&self) -> bool {
        !self.lock().is_open
    }

    /// The same, and every session was read once: no document says that a message changes the time
    /// of its session, so one in which nothing seems to have changed may hold words, too.
    pub fn is_heard(&self) -> bool {
        let state = self.lock();
        !state.is_open && state.all_read
    }

    /// What a session showed is on disk.
    pub(super) fn note_heard(&self, session: &str) {
        if let Some(asked) = self.lock().asked.get_mut(session) {
            asked.is_heard = true;
        }
    }

    /// A round has ended in which these could be read.
    pub(super) fn note_round(&self, sessions: &[String]) {
        let mut state = self.lock();
        let all_read = sessions.iter().all(|id| state.asked.get(id).is_none_or(|asked| asked.is_heard));
        state.all_read = all_read;
    }

    /// The relay was suspended and goes on: anything may have been said meanwhile.
    pub fn begin_anew(&self) {
        let mut state = self.lock();
        (state.is_open, state.all_read) = (true, false);
        state.asked.values_mut().for_each(|asked| asked.is_heard = false);
    }

    /// The newest time that MANGO has told of in this run.
    pub fn newest(&self) -> Option<Millis> {
        self.lock().newest
    }

    /// MANGO has told of something of this time.
    pub(super) fn heard(&self, at: Millis, passed: Millis, now: Millis) {
        let mut state = self.lock();
        let (mut newest, mut ahead) = (at, at - passed);
        if at > now + ODD && state.ahead.is_none_or(|known| ahead > known + ODD) {
            // Either it is odd, or our own clock is behind.
            match state.odd {
                Some((other, known)) if other != at && (known - ahead).abs() < ALIKE => {
                    (newest, ahead) = (newest.max(other), ahead.min(known));
                }
                _ => {
                    state.odd = Some((at, ahead));
                    return;
                }
            }
        }
        state.newest = state.newest.max(Some(newest));
        state.ahead = state.ahead.max(Some(ahead));
    }

    /// A person was erased then, and stands on disk by what was known of MANGO's clock.
    pub fn note_erased(&self, customer: CustomerId, passed: Millis) {
        let mut state = self.lock();
        state.erased.retain(|(other, at)| *other != customer && passed - at < PUT_RIGHT);
        state.erased.push((customer, passed));
        // It may have become known better between the writing and this.
        state.written = None;
    }

    /// What is known of MANGO's clock, if that is better than what stands on disk, and who was
    /// erased when by it, at the least.
    pub(super) fn corrected(&self) -> Option<(Millis, Vec<(CustomerId, Millis)>)> {
        let state = self.lock();
        let ahead = state.ahead.filter(|ahead| Some(*ahead) > state.written)?;
        // What is said in the same millisecond is said afterwards.
        Some((ahead, state.erased.iter().map(|(customer, passed)| (*customer, passed + ahead - 1)).collect()))
    }

    /// That is on disk.
    pub(super) fn written(&self, ahead: Millis) {
        self.lock().written = Some(ahead);
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

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Millis = 86_400_000;
    const NOW: Millis = 20_000 * DAY;

    #[test]
    fn an_erasure_is_never_later_than_it_was_by_mangos_clock_and_is_put_right_as_that_is_known_better() {
        let (rounds, anna) = (Rounds::new(), CustomerId::new(7));
        rounds.note_erased(anna, 10_000);
        assert_eq!((rounds.time(10_000), rounds.newest(), rounds.corrected()), (None, None, None));
        // An old thing says little, one that came at once says all.
        for (at, passed, erased) in [(NOW - DAY, 20_000, NOW - DAY - 10_001), (NOW, 21_000, NOW - 11_001)] {
            rounds.heard(at, passed, NOW);
            let (ahead, corrected) = rounds.corrected().unwrap();
            assert_eq!(corrected, [(anna, erased)]);
            rounds.written(ahead);
            assert_eq!(rounds.corrected(), None, "it is on disk");
        }
        rounds.heard(NOW - 5, 22_000, NOW);
        assert_eq!(rounds.corrected(), None, "it was longer on its way");
        assert_eq!((rounds.time(30_000), rounds.newest()), (Some(NOW + 9_000), Some(NOW)));
    }

    #[test]
    fn silence_counts_when_every_session_was_read_since_the_relay_went_on() {
        let rounds = Rounds::new();
        let sessions = ["one", "other"].map(str::to_owned);
        let round = || {
            rounds.note_round(&sessions);
            rounds.ended(Instant::now(), true, false, NOW);
            (rounds.is_settled(), rounds.is_heard())
        };
        rounds.note_asked(sessions.iter().map(|id| (id.clone(), Asked::default())).collect());
        rounds.note_heard("one");
        rounds.note_read("other", 1, true);
        assert_eq!(round(), (true, false), "one could not be read");
        rounds.note_heard("other");
        assert_eq!(round(), (true, true));
        rounds.begin_anew();
        assert_eq!(round(), (true, false), "it was suspended");
    }

    #[test]
    fn one_odd_time_shows_no_clock_and_two_that_agree_do_although_ours_is_behind() {
        let rounds = Rounds::new();
        rounds.heard(NOW, 0, NOW);
        for passed in [1_000, 2_000] {
            rounds.heard(NOW + DAY / 2, passed, NOW + passed);
            assert_eq!((rounds.time(5_000), rounds.newest()), (Some(NOW + 5_000), Some(NOW)));
        }
        let rounds = Rounds::new();
        rounds.heard(NOW, 0, NOW - DAY / 2);
        assert_eq!(rounds.time(5_000), None);
        rounds.heard(NOW + 4_000, 5_000, NOW - DAY / 2);
        assert_eq!((rounds.time(5_000), rounds.newest()), (Some(NOW + 4_000), Some(NOW + 4_000)));
    }
}
