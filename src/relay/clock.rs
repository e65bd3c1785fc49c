//! The relay's time: milliseconds since the epoch that never run backwards while the process lives.
//!
//! The wall clock is read once at the start and carried on by the monotonic one, so that a clock set by hours in between neither
//! doubles nor loses a timer. Once a minute the difference is closed by at most one second, which follows a clock that drifts but
//! not one that jumps. Tests put a clock of their own in this place and play days in seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::policy::Millis;

/// Where the relay's time comes from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real(Arc<Real>),
    Manual(watch::Receiver<Millis>),
}

#[derive(Debug)]
struct Real {
    started: Instant,
    wall_at_start: Millis,
    correction: AtomicI64,
    corrected_at: AtomicI64,
}

/// The hand that moves a manual clock.
#[derive(Clone, Debug)]
pub struct Hand(watch::Sender<Millis>);

const CORRECTION_INTERVAL: Millis = 60_000;
const LARGEST_CORRECTION: Millis = 1_000;

impl Clock {
    #[must_use]
    pub fn real() -> Self {
        Self(Source::Real(Arc::new(Real {
            started: Instant::now(),
            wall_at_start: wall(),
            correction: AtomicI64::new(0),
            corrected_at: AtomicI64::new(0),
        })))
    }

    /// A clock that stands at `now` until its hand is moved.
    #[must_use]
    pub fn manual(now: Millis) -> (Self, Hand) {
        let (sender, receiver) = watch::channel(now);
        (Self(Source::Manual(receiver)), Hand(sender))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn now(&self) -> Millis {
        match &self.0 {
            Source::Real(real) => real.now(),
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Returns at `at` or later; at once if that has passed.
    pub async fn sleep_until(&self, at: Millis) {
        match &self.0 {
            Source::Real(real) => loop {
                let left = at - real.now();
                if left <= 0 {
                    return;
                }
                // In steps, because the correction may bring the moment nearer.
                tokio::time::sleep(Duration::from_millis(left.min(CORRECTION_INTERVAL).unsigned_abs())).await;
            },
            Source::Manual(now) => {
                // The hand is gone only when the test is over: then nothing shall wake any more.
                if now.clone().wait_for(|now| *now >= at).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    pub async fn sleep(&self, millis: Millis) {
        self.sleep_until(self.now() + millis).await;
    }
}

impl Hand {
    /// Moves the clock on; a clock never goes back.
    pub fn advance_to(&self, at: Millis) {
        self.0.send_if_modified(|now| {
            let moved = at > *now;
            *now = (*now).max(at);
            moved
        });
    }
}

impl Real {
    fn now(&self) -> Millis {
        let elapsed = millis(self.started.elapsed());
        let due = self.corrected_at.load(Ordering::Relaxed) + CORRECTION_INTERVAL;
        if elapsed >= due
            && self
                .corrected_at
                .compare_exchange(due - CORRECTION_INTERVAL, elapsed, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let ours = self.wall_at_start + elapsed + self.correction.load(Ordering::Relaxed);
            let step = (wall() - ours).clamp(-LARGEST_CORRECTION, LARGEST_CORRECTION);
            self.correction.fetch_add(step, Ordering::Relaxed);
        }
        self.wall_at_start + elapsed + self.correction.load(Ordering::Relaxed)
    }
}

fn wall() -> Millis {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(millis).unwrap_or_default()
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_when_its_hand_passes_them_and_never_goes_back() {
        let (clock, hand) = Clock::manual(1_000);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(5_000).await;
                clock.now()
            }
        });
        hand.advance_to(4_999);
        hand.advance_to(2_000);
        assert_eq!(clock.now(), 4_999);
        hand.advance_to(6_000);
        assert_eq!(sleeper.await.unwrap(), 6_000);
    }
}
