//! How long to wait before the next attempt: pauses that grow with the failures in a row, and
//! chance in them.

use std::hash::{BuildHasher as _, DefaultHasher, Hash, Hasher, RandomState};
use std::time::Duration;

use super::{Millis, millis};

/// Pauses that grow with the failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Each pause is twice as long as the one before it, up to `most`.
    Doubling { first: Duration, most: Duration },
    /// One after the other; the last one stays.
    Steps(&'static [Duration]),
}

impl Backoff {
    #[must_use]
    pub const fn doubling(first: Duration, most: Duration) -> Self {
        Self::Doubling { first, most }
    }

    /// The pause after a failure that had `failures` before it.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        match self {
            Self::Doubling { first, most } => first.saturating_mul(1 << failures.min(30)).min(*most),
            Self::Steps(steps) => {
                let step = usize::try_from(failures).unwrap_or(usize::MAX).min(steps.len().saturating_sub(1));
                steps.get(step).copied().unwrap_or_default()
            }
        }
    }

    /// [`Backoff::after`] in milliseconds.
    #[must_use]
    pub fn millis_after(&self, failures: u32) -> Millis {
        millis(self.after(failures))
    }
}

/// How far chance may change a pause, so that those who failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jitter {
    /// The shortest and the longest, in hundredths of the pause.
    from: u32,
    to: u32,
}

impl Jitter {
    /// Up to so many hundredths longer or shorter.
    #[must_use]
    pub const fn either_way(percent: u32) -> Self {
        let percent = if percent > 90 { 90 } else { percent };
        Self { from: 100 - percent, to: 100 + percent }
    }

    /// Up to so many hundredths longer, never shorter.
    #[must_use]
    pub const fn longer(percent: u32) -> Self {
        Self { from: 100, to: 100 + percent }
    }

    /// Up to so many hundredths shorter, never longer.
    #[must_use]
    pub const fn shorter(percent: u32) -> Self {
        let percent = if percent > 90 { 90 } else { percent };
        Self { from: 100 - percent, to: 100 }
    }

    /// A pause changed by chance.
    #[must_use]
    pub fn of(self, pause: Duration) -> Duration {
        self.changed(pause, RandomState::new().build_hasher().finish())
    }

    /// A pause changed as `seed` says: the same for the same seed.
    #[must_use]
    pub fn by(self, pause: Duration, seed: impl Hash) -> Duration {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        self.changed(pause, hasher.finish())
    }

    fn changed(self, pause: Duration, chance: u64) -> Duration {
        let (from, to) = (self.from * 10, self.to * 10);
        let thousandths = from + u32::try_from(chance % u64::from(to - from + 1)).unwrap_or(0);
        pause * thousandths / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(backoff: Backoff, failures: impl IntoIterator<Item = u32>) -> Vec<u64> {
        failures.into_iter().map(|failures| backoff.after(failures).as_secs()).collect()
    }

    #[test]
    fn a_pause_grows_with_each_failure_up_to_the_longest() {
        const STEPS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
        let doubling = Backoff::doubling(Duration::from_secs(1), Duration::from_mins(1));
        assert_eq!(seconds(doubling, 0..8), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(seconds(doubling, [u32::MAX]), [60]);
        assert_eq!(seconds(Backoff::Steps(&STEPS), [0, 1, 2, 3, u32::MAX]), [1, 2, 5, 5, 5]);
    }

    #[test]
    fn chance_changes_a_pause_within_its_bounds_and_not_every_pause_alike() {
        let pause = Duration::from_secs(100);
        for (jitter, from, to) in
            [(Jitter::either_way(20), 80, 120), (Jitter::longer(20), 100, 120), (Jitter::shorter(50), 50, 100)]
        {
            let seen: std::collections::BTreeSet<_> = (0..500).map(|seed| jitter.by(pause, seed)).collect();
            assert!(seen.iter().all(|pause| (from..=to).contains(&pause.as_secs())), "{jitter:?}: {seen:?}");
            assert!(seen.len() > 50, "{jitter:?} hardly changes anything");
            assert!((from..=to).contains(&jitter.of(pause).as_secs()));
        }
    }
}
