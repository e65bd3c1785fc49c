//! A limiter that keeps "at most N requests in *any* window", as the other side counts them.
//!
//! A token bucket whose burst adds to its rate lets through twice its limit in the first second,
//! and even a paced one bunches when the network does. Here a request counts from its start until
//! one whole window after its end, so wherever in between the other side saw it, no window of its
//! own clock holds more than the limit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
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
    limit: usize,
    window: Duration,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    in_flight: usize,
    ended: VecDeque<Instant>,
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
        let shared = Shared { limit: limit.max(1), window, state: Mutex::default(), freed: Notify::new() };
        Self { shared: Arc::new(shared) }
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
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while state.ended.front().is_some_and(|ended| *ended + self.shared.window <= now) {
            state.ended.pop_front();
        }
        if state.in_flight + state.ended.len() < self.shared.limit {
            state.in_flight += 1;
            return Ok(Permit { shared: Arc::clone(&self.shared) });
        }
        Err(state.ended.front().map(|ended| *ended + self.shared.window))
    }

    /// Whether nothing was taken within the last window, so that the limiter may be forgotten.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.in_flight == 0 && state.ended.iter().all(|ended| *ended + self.shared.window <= now)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
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
}
