//! A limiter that keeps "at most N requests in *any* window", as the other side counts them.
//!
//! A token bucket whose burst adds to its rate lets through twice its limit in the first second,
//! and even a paced one bunches when the network does. Here a request counts from its start until
//! one whole window after its end, so wherever in between the other side saw it, no window of its
//! own clock holds more than the limit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// At most `limit` requests in any `window`. Cheap to clone; clones share the count.
#[derive(Clone, Debug)]
pub struct Limiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    limit: usize,
    window: Duration,
    in_flight: usize,
    ended: VecDeque<Instant>,
}

impl State {
    /// How many requests count now.
    fn counted(&mut self) -> usize {
        let now = Instant::now();
        while self.ended.front().is_some_and(|ended| *ended + self.window <= now) {
            self.ended.pop_front();
        }
        self.in_flight + self.ended.len()
    }
}

/// The right to make one request; dropping it says that the request has ended.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
}

impl Limiter {
    /// `limit` is at least 1; 0 is taken as 1.
    #[must_use]
    pub fn new(limit: usize, window: Duration) -> Self {
        let state = State { limit: limit.max(1), window, in_flight: 0, ended: VecDeque::new() };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), freed: Notify::new() }) }
    }

    /// Another limit from now on, for those who wait too. What was sent under the one before still
    /// counts.
    pub fn set(&self, limit: usize, window: Duration) {
        let mut state = self.shared.lock();
        (state.limit, state.window) = (limit.max(1), window);
        drop(state);
        self.shared.freed.notify_waiters();
    }

    /// Whether no more counts than the limit allows: after a lower one was set, whether that has
    /// come into force.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let mut state = self.shared.lock();
        state.counted() <= state.limit
    }

    /// Waits for a place. Those who wait are served in no promised order: keep order above, one
    /// request per lane.
    pub async fn acquire(&self) -> Permit {
        loop {
            let freed = self.shared.freed.notified();
            match self.try_take() {
                Ok(permit) => return permit,
                Err(Some(until)) => {
                    tokio::select! { () = tokio::time::sleep_until(until) => {}, () = freed => {} }
                }
                Err(None) => freed.await,
            }
        }
    }

    /// Takes a place if one is free now; else the time when one may be, or `None` if that hangs on
    /// a request still under way.
    ///
    /// # Errors
    /// No place is free.
    pub fn try_take(&self) -> Result<Permit, Option<Instant>> {
        let mut state = self.shared.lock();
        if state.counted() < state.limit {
            state.in_flight += 1;
            return Ok(Permit { shared: Arc::clone(&self.shared) });
        }
        Err(state.ended.front().map(|ended| *ended + state.window))
    }

    /// Whether nothing was taken within the last window, so that the limiter may be forgotten.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shared.lock().counted() == 0
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.in_flight -= 1;
        state.ended.push_back(Instant::now());
        drop(state);
        self.shared.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whenever in its life the other side sees a request, no window holds more than the limit.
        #[test]
        fn no_window_holds_more_than_the_limit(
            limit in 1_usize..5,
            requests in prop::collection::vec((0_u64..400, 1_u64..300, 0_u64..100), 1..40),
        ) {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            let window = Duration::from_secs(1);
            let seen = runtime.block_on(async {
                let limiter = Limiter::new(limit, window);
                let start = Instant::now();
                let tasks: Vec<_> = requests.iter().copied().map(|(delay, takes, seen_at)| {
                    let limiter = limiter.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(delay)).await;
                        let _permit = limiter.acquire().await;
                        let began = Instant::now();
                        tokio::time::sleep(Duration::from_millis(takes)).await;
                        began + Duration::from_millis(takes * seen_at / 100) - start
                    })
                }).collect();
                let mut seen = Vec::new();
                for task in tasks { seen.push(task.await.unwrap()); }
                seen.sort();
                seen
            });
            for (index, first) in seen.iter().enumerate() {
                let within = seen[index..].iter().filter(|at| **at < *first + window).count();
                prop_assert!(within <= limit, "{within} requests within one second, limit {limit}: {seen:?}");
            }
        }
    }
    #[tokio::test(start_paused = true)]
    async fn a_lower_limit_is_in_force_once_what_went_before_counts_no_more() {
        let second = Duration::from_secs(1);
        let limiter = Limiter::new(4, second);
        for _ in 0..4 {
            drop(limiter.acquire().await);
        }
        limiter.set(1, 2 * second);
        assert!(!limiter.is_kept(), "four went in the second before");
        let began = Instant::now();
        drop(limiter.acquire().await);
        assert!(began.elapsed() >= 2 * second && limiter.is_kept(), "{:?}", began.elapsed());
        // Who waits already has the higher one at once.
        let waits = limiter.acquire();
        let raises = async { limiter.set(2, second) };
        let began = Instant::now();
        let (_permit, ()) = tokio::join!(waits, raises);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
