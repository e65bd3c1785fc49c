//! When the outside is looked at: how often while all is well, how soon again while something fails. Pure data and arithmetic.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::ChannelRef;
use crate::policy::Millis;

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

/// Why the last look failed, as far as it decides about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It may pass by itself.
    Outage,
    /// Somebody has to mend it, and we find out by asking again.
    Refused,
    /// Asking again soon makes it worse: a password that locks its user.
    Delicate,
    /// Asking again sooner than MANGO's two minutes blocks the key (MANGO OFFICE API reference, "Penalty box for wrong requests").
    Penalty,
}

/// The pauses between looks, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cadence {
    pub bot: Millis,
    pub subscriptions: Millis,
    pub mango: Millis,
    pub crm: Millis,
    /// Every pause is changed by up to so many hundredths either way, so that many channels do not look at the same moment.
    pub spread_percent: i64,
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

    /// The pause after a look at `at` that was the `failures`-th failure in a row for `trouble`, or a success.
    #[must_use]
    pub fn pause(&self, channel: &ChannelRef, subject: Subject, at: Millis, failing: Option<(Trouble, u32)>) -> Millis {
        let steady = self.steady(subject);
        let pause = match failing {
            None => steady,
            Some((trouble, failures)) => {
                let (first, most) = match trouble {
                    Trouble::Outage => (5_000, 30_000),
                    Trouble::Refused => (10_000, 60_000),
                    Trouble::Delicate => (60_000, 600_000),
                    // With the spread still beyond the two minutes.
                    Trouble::Penalty => (165_000, 600_000),
                };
                let doubled = first << failures.saturating_sub(1).min(10);
                // A failing look is never rarer than a steady one, but for those where haste does harm.
                if matches!(trouble, Trouble::Outage | Trouble::Refused) {
                    doubled.min(most).min(steady)
                } else {
                    doubled.min(most)
                }
            }
        };
        let mut hasher = DefaultHasher::new();
        (channel, subject, at).hash(&mut hasher);
        let spread = self.spread_percent.clamp(0, 90);
        let hundredths = 100 - spread + i64::try_from(hasher.finish() % 1_000).unwrap_or(0) * 2 * spread / 999;
        pause * hundredths / 100
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
        assert!(seen.len() > 20, "the looks of many channels must not fall together");
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
