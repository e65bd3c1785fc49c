//! Two times: that of the wall, by which dialogs go, and the time since the start, by which pauses
//! go.
//!
//! The wall clock is read at the start and carried on by the monotonic one. Once a minute the two
//! are compared: a drift of up to a second is taken over, a larger difference (a clock set by
//! somebody, a machine that slept) only when it is the same a minute later, so that a clock that
//! jumps and comes back is not noticed. Rules hold under jumps by themselves (`policy`, "Time");
//! pauses between tries never see one. Tests put a clock of their own in this place and play days
//! in seconds: one that a hand moves, or one that goes with the time of the async runtime, which a
//! test can pause and move as a whole.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::Millis;

/// Where the relay's time comes from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real(Arc<Real>),
    Manual(watch::Receiver<Moment>),
    Runtime(tokio::time::Instant, watch::Receiver<Moment>),
}

#[derive(Debug)]
struct Real {
    started: Instant,
    wall_at_start: Millis,
    correction: Mutex<Correction>,
}

#[derive(Debug, Default)]
struct Correction {
    /// To be added to the carried time.
    by: Millis,
    compared_at: Millis,
    /// A large difference that was seen at the last comparison.
    jump: Option<Millis>,
}

/// Moves the clock that [`Clock::manual`] made with it.
#[derive(Clone, Debug)]
pub struct ManualClock(watch::Sender<Moment>);

#[derive(Clone, Copy, Debug)]
struct Moment {
    passed: Millis,
    /// How far the wall shows more than has passed.
    set_by: Millis,
}

const COMPARISON_INTERVAL: Millis = 60_000;
const LARGEST_DRIFT: Millis = 1_000;

impl Clock {
    #[must_use]
    pub fn real() -> Self {
        Self(Source::Real(Arc::new(Real {
            started: Instant::now(),
            wall_at_start: wall(),
            correction: Mutex::default(),
        })))
    }

    /// A clock that stands at `now` until its hand is moved.
    #[must_use]
    pub fn manual(now: Millis) -> (Self, ManualClock) {
        let (sender, receiver) = watch::channel(Moment { passed: now, set_by: 0 });
        (Self(Source::Manual(receiver)), ManualClock(sender))
    }

    /// A clock that shows `now` at once and goes with the time of the async runtime; the manual one
    /// only sets its wall.
    #[must_use]
    pub fn of_runtime(now: Millis) -> (Self, ManualClock) {
        let (sender, receiver) = watch::channel(Moment { passed: now, set_by: 0 });
        (Self(Source::Runtime(tokio::time::Instant::now(), receiver)), ManualClock(sender))
    }

    /// Milliseconds that have passed, by a clock that nobody sets; where it began has no meaning.
    #[must_use]
    pub fn passed(&self) -> Millis {
        match &self.0 {
            Source::Real(real) => super::millis(real.started.elapsed()),
            Source::Manual(now) => now.borrow().passed,
            Source::Runtime(started, _) => super::millis(started.elapsed()),
        }
    }

    /// Returns when [`Clock::passed`] is `at` or more.
    pub async fn sleep_until_passed(&self, at: Millis) {
        match &self.0 {
            Source::Real(_) | Source::Runtime(..) => {
                tokio::time::sleep(Duration::from_millis((at - self.passed()).max(0).unsigned_abs())).await;
            }
            Source::Manual(now) => manual(now, |moment| moment.passed >= at).await,
        }
    }

    /// Milliseconds since the epoch, by the wall.
    #[must_use]
    pub fn now(&self) -> Millis {
        match &self.0 {
            Source::Real(real) => real.now(),
            Source::Manual(now) => {
                let now = *now.borrow();
                now.passed + now.set_by
            }
            Source::Runtime(started, began) => {
                let began = *began.borrow();
                began.passed + began.set_by + super::millis(started.elapsed())
            }
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
                // In steps, because a correction may bring the moment nearer.
                tokio::time::sleep(Duration::from_millis(left.min(COMPARISON_INTERVAL).unsigned_abs())).await;
            },
            Source::Manual(now) => manual(now, |moment| moment.passed + moment.set_by >= at).await,
            Source::Runtime(_, began) => {
                let mut began = began.clone();
                loop {
                    let left = at - self.now();
                    if left <= 0 {
                        return;
                    }
                    let left = Duration::from_millis(left.unsigned_abs());
                    // Until then, or until somebody sets the wall.
                    if let Ok(Err(_)) = tokio::time::timeout(left, began.changed()).await {
                        tokio::time::sleep(left).await;
                    }
                }
            }
        }
    }

    pub async fn sleep(&self, millis: Millis) {
        self.sleep_until_passed(self.passed() + millis).await;
    }
}

/// Waits for a moment of a manual clock.
async fn manual(now: &watch::Receiver<Moment>, is_it: impl Fn(&Moment) -> bool) {
    // The hand is gone only when the test is over: then nothing shall wake any more.
    if now.clone().wait_for(is_it).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl ManualClock {
    /// Moves the clock on to where the wall shows `at`; passed time never goes back.
    pub fn advance_to(&self, at: Millis) {
        self.0.send_if_modified(|now| {
            let before = now.passed;
            now.passed = before.max(at - now.set_by);
            now.passed > before
        });
    }

    /// Somebody sets the clock on the wall by so much, forwards or (negative) back; no time passes.
    pub fn set_wall(&self, by: Millis) {
        self.0.send_modify(|now| now.set_by += by);
    }
}

impl Real {
    fn now(&self) -> Millis {
        let elapsed = super::millis(self.started.elapsed());
        let mut correction = self.correction.lock().unwrap_or_else(PoisonError::into_inner);
        if elapsed - correction.compared_at >= COMPARISON_INTERVAL {
            correction.compare(elapsed, wall() - (self.wall_at_start + elapsed));
        }
        self.wall_at_start + elapsed + correction.by
    }
}

impl Correction {
    /// `off`: how far the wall clock is from the carried one, without any correction.
    fn compare(&mut self, now: Millis, off: Millis) {
        self.compared_at = now;
        let is_drift = (off - self.by).abs() <= LARGEST_DRIFT;
        let has_stayed = self.jump.is_some_and(|jump| (off - jump).abs() <= 2 * LARGEST_DRIFT);
        if is_drift || has_stayed {
            if has_stayed && !is_drift {
                tracing::warn!(
                    by_seconds = (off - self.by) / 1_000,
                    "the clock of this machine was set; its time is taken over"
                );
            }
            self.by = off;
            self.jump = None;
        } else {
            self.jump = Some(off);
        }
    }
}

fn wall() -> Millis {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(super::millis).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_is_followed_and_a_jump_only_when_it_stays() {
        let mut correction = Correction::default();
        let seen: Vec<Millis> = [300, -7_200_000, 400, 3_600_000, 3_600_500, 3_600_900]
            .into_iter()
            .enumerate()
            .map(|(minute, off)| {
                correction.compare(Millis::try_from(minute).unwrap() * COMPARISON_INTERVAL, off);
                correction.by
            })
            .collect();
        assert_eq!(seen, [300, 300, 400, 400, 3_600_500, 3_600_900]);
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_when_its_hand_passes_them_and_never_goes_back() {
        let (clock, manual) = Clock::manual(1_000);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(5_000).await;
                clock.now()
            }
        });
        manual.advance_to(4_999);
        manual.advance_to(2_000);
        assert_eq!(clock.now(), 4_999);
        manual.advance_to(6_000);
        assert_eq!(sleeper.await.unwrap(), 6_000);
    }
}
