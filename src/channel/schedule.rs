//! When external systems are probed: how often while all is well, how soon again while something
//! fails. Pure data and arithmetic.

use std::time::Duration;

use crate::api::ChannelRef;
use crate::time::{self, Backoff, Jitter, Millis};

/// After the first failed probe in a row, and at most.
const OUTAGE: Backoff = Backoff::doubling(Duration::from_secs(5), Duration::from_secs(30));
const REFUSED: Backoff = Backoff::doubling(Duration::from_secs(10), Duration::from_mins(1));
const DELICATE: Backoff = Backoff::doubling(Duration::from_mins(1), Duration::from_mins(10));
/// Beyond MANGO's two minutes even when the spread shortens it.
const PENALTY: Backoff = Backoff::doubling(Duration::from_secs(165), Duration::from_mins(10));

/// What is looked at in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// GET /me: the token and the bot's card.
    Bot,
    /// GET /subscriptions.
    Subscriptions,
    /// Employees, groups and balance at MANGO OFFICE.
    Mango,
    /// The package, the users and our rows in Creatio.
    Crm,
}

/// Why the last probe failed, as far as it decides about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It may pass by itself.
    Outage,
    /// Somebody has to mend it, and we find out by asking again.
    Refused,
    /// Asking again soon makes it worse: a password that locks its user.
    Delicate,
    /// Asking again sooner than MANGO's two minutes blocks the key (MANGO OFFICE API reference,
    /// "Penalty box for wrong requests").
    Penalty,
}

/// The pauses between probes, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cadence {
    pub bot: Millis,
    pub subscriptions: Millis,
    pub mango: Millis,
    pub crm: Millis,
    /// Every pause is changed by up to so many hundredths either way, so that many channels are not
    /// probed at the same moment.
    pub spread_percent: u32,
}

impl Default for Cadence {
    fn default() -> Self {
        Self { bot: 5 * 60_000, subscriptions: 45_000, mango: 10 * 60_000, crm: 10 * 60_000, spread_percent: 20 }
    }
}

impl Cadence {
    const fn steady(&self, subject: Subject) -> Millis {
        match subject {
            Subject::Bot => self.bot,
            Subject::Subscriptions => self.subscriptions,
            Subject::Mango => self.mango,
            Subject::Crm => self.crm,
        }
    }

    /// The pause after a probe at `at` that was the `failures`-th failure in a row for `trouble`,
    /// or a success.
    #[must_use]
    pub fn pause(&self, channel: &ChannelRef, subject: Subject, at: Millis, failing: Option<(Trouble, u32)>) -> Millis {
        let steady = self.steady(subject);
        let pause = match failing {
            None => steady,
            Some((trouble, failures)) => {
                let backoff = match trouble {
                    Trouble::Outage => OUTAGE,
                    Trouble::Refused => REFUSED,
                    Trouble::Delicate => DELICATE,
                    Trouble::Penalty => PENALTY,
                };
                let grown = backoff.millis_after(failures.saturating_sub(1));
                // A failing probe is never rarer than a steady one, but for those where haste does
                // harm.
                if matches!(trouble, Trouble::Outage | Trouble::Refused) { grown.min(steady) } else { grown }
            }
        };
        let pause = Duration::from_millis(pause.unsigned_abs());
        time::millis(Jitter::either_way(self.spread_percent).by(pause, (channel, subject, at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_within_a_fifth_of_their_measure() {
        let cadence = Cadence::default();
        let channel = ChannelRef::new("crm", "support");
        let all = [Subject::Bot, Subject::Subscriptions, Subject::Mango, Subject::Crm];
        let mut seen = std::collections::BTreeSet::new();
        for at in 0..2_000 {
            for subject in all {
                let pause = cadence.pause(&channel, subject, at, None);
                let steady = cadence.steady(subject);
                assert!((steady * 80 / 100..=steady * 120 / 100).contains(&pause), "{subject:?}: {pause}");
                if subject == Subject::Subscriptions {
                    seen.insert(pause);
                    assert!(pause < 60_000, "a lost subscription must be found within 60 s");
                }
            }
        }
        assert!(seen.len() > 20, "the probes of many channels must not fall together");
    }

    #[test]
    fn failing_looks_come_sooner_and_grow_rarer_and_never_hurt() {
        let cadence = Cadence { spread_percent: 0, ..Cadence::default() };
        let channel = ChannelRef::new("crm", "support");
        let pauses = |subject, trouble| -> Vec<Millis> {
            (1..=8).map(|failures| cadence.pause(&channel, subject, 0, Some((trouble, failures))) / 1_000).collect()
        };
        assert_eq!(pauses(Subject::Crm, Trouble::Outage), [5, 10, 20, 30, 30, 30, 30, 30]);
        assert_eq!(pauses(Subject::Bot, Trouble::Refused), [10, 20, 40, 60, 60, 60, 60, 60]);
        assert_eq!(pauses(Subject::Subscriptions, Trouble::Refused), [10, 20, 40, 45, 45, 45, 45, 45]);
        assert_eq!(pauses(Subject::Crm, Trouble::Delicate), [60, 120, 240, 480, 600, 600, 600, 600]);
        assert_eq!(pauses(Subject::Mango, Trouble::Penalty), [165, 330, 600, 600, 600, 600, 600, 600]);
        let hasty = Cadence::default();
        assert!((0..1_000).all(|at| hasty.pause(&channel, Subject::Mango, at, Some((Trouble::Penalty, 1))) > 120_000));
    }
}
