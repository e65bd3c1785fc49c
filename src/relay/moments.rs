//! Moments that are held against MAX's times although nothing of MAX's tells them: when the store
//! was made, when somebody was erased, when the way in became another.
//!
//! Each is noted by MAX's clock as far as that is known: it shows at least the time of the youngest
//! thing that MAX has brought, and goes on with passed time. Before anything has come a moment
//! stands there by our own clock, which may be hours off, and is put right by the first update, on
//! disk with it and before anything is judged by it. What comes with less delay later puts it right
//! again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::store::meta::{self, Moment};
use super::store::{StoreError, Tx};
use crate::time::Millis;

/// What is known of MAX's clock, and what was noted in this run.
#[derive(Debug, Default)]
pub(super) struct Moments(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How far MAX's clock is ahead of passed time, at the least.
    ahead: Option<Millis>,
    noted: Vec<Noted>,
    /// Something is known better than it stands on disk.
    unwritten: bool,
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    moment: Moment,
    passed: Millis,
    /// By MAX's clock it was not before.
    at_least: Millis,
}

/// A moment as it is to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corrected {
    moment: Moment,
    at: Millis,
}

impl Moments {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What MAX's clock shows, at the least; none: MAX has brought nothing.
    pub fn time(&self, passed: Millis) -> Option<Millis> {
        self.lock().ahead.map(|ahead| passed + ahead)
    }

    /// That moment was now, and is on disk by what was known of MAX's clock.
    pub fn note(&self, moment: Moment, passed: Millis, at_least: Millis) {
        let mut state = self.lock();
        state.noted.retain(|noted| noted.moment != moment);
        state.noted.push(Noted { moment, passed, at_least });
        // It may have become known between the writing and this.
        state.unwritten |= state.ahead.is_some();
    }

    /// MAX has brought something of this time. Gives back what is to be written with it.
    pub fn heard(&self, at: Option<Millis>, passed: Millis) -> Vec<Corrected> {
        let mut state = self.lock();
        if let Some(ahead) = at.map(|at| at - passed).filter(|ahead| Some(*ahead) > state.ahead) {
            state.ahead = Some(ahead);
            state.unwritten = true;
        }
        let Some(ahead) = state.ahead.filter(|_| state.unwritten) else { return Vec::new() };
        let corrected =
            |noted: &Noted| Corrected { moment: noted.moment, at: (noted.passed + ahead).max(noted.at_least) };
        state.noted.iter().map(corrected).collect()
    }

    /// That is on disk.
    pub fn written(&self) {
        self.lock().unwritten = false;
    }
}

/// Puts right what is known better.
pub(super) fn correct(tx: &Tx<'_>, moments: &[Corrected]) -> Result<(), StoreError> {
    for Corrected { moment, at } in moments {
        meta::set_moment(tx, *moment, *at, true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_put_right_by_the_first_update_and_again_by_one_that_came_faster() {
        let moments = Moments::default();
        moments.note(Moment::Made, 10_000, 0);
        assert_eq!((moments.time(10_000), moments.heard(None, 11_000)), (None, Vec::new()));
        let made = |at| vec![Corrected { moment: Moment::Made, at }];
        assert_eq!(moments.heard(Some(5_000_000), 12_000), made(4_998_000));
        // Not on disk yet: again.
        assert_eq!(moments.heard(None, 13_000), made(4_998_000));
        moments.written();
        assert_eq!(moments.heard(Some(5_001_000), 14_000), Vec::new(), "it was longer on its way");
        assert_eq!(moments.heard(Some(5_003_500), 15_000), made(4_998_500));
        moments.written();
        assert_eq!(moments.time(20_000), Some(5_008_500));
        // Of a moment that is noted when MAX's clock is known nothing is put right but downwards no
        // further than it may be.
        moments.note(Moment::Erased, 20_000, 6_000_000);
        let both = [made(4_998_500), vec![Corrected { moment: Moment::Erased, at: 6_000_000 }]].concat();
        assert_eq!(moments.heard(None, 21_000), both);
    }
}
