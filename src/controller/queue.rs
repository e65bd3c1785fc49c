//! Which channels wait for a pass: for a metric, and to leave time for them. The order of passes is
//! the library's, and no fair one: where probes of what is well took all the time there is, some
//! would wait for ever.
//!
//! A channel waits from the moment when something has happened to it, or when the time of its next
//! probe has come, until a pass over it begins; what happens during a pass waits for the next one.
//! A probe that lies in the future is no waiting.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::ChannelRef;

/// As long as fewer wait, each has its turn at once.
const FEW: usize = 10;
/// So many that wait make a pause as long again.
const MANY: usize = 100;
/// A pause is not stretched further than this.
const MOST: usize = 4;
/// Between two counts of those that wait.
const COUNTED: Duration = Duration::from_secs(1);

/// When the next pass over each channel is due.
#[derive(Debug, Default)]
pub struct Queue {
    due: Mutex<HashMap<ChannelRef, Instant>>,
    /// How many waited, and when they were counted.
    counted: Mutex<Option<(usize, Instant)>>,
}

impl Queue {
    fn due(&self) -> MutexGuard<'_, HashMap<ChannelRef, Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pass is due after `pause`, unless one is due earlier.
    pub fn put(&self, channel: &ChannelRef, pause: Duration) {
        let at = Instant::now() + pause;
        let mut due = self.due();
        match due.get_mut(channel) {
            Some(before) => *before = at.min(*before),
            None => drop(due.insert(channel.clone(), at)),
        }
    }

    /// A pass begins, or the channel is gone.
    pub fn take(&self, channel: &ChannelRef) {
        self.due().remove(channel);
    }

    /// The pause before the next probe of a channel that is well: longer while many wait.
    pub fn eased(&self, pause: Duration) -> Duration {
        pause * u32::try_from((1 + self.waiting() / MANY).min(MOST)).unwrap_or(1)
    }

    /// Whether so many wait that everything takes longer.
    pub fn is_busy(&self) -> bool {
        self.waiting() >= FEW
    }

    /// How many waited when they were counted last, a moment ago at most.
    pub fn waiting(&self) -> usize {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        match *counted {
            Some((waiting, at)) if at.elapsed() < COUNTED => waiting,
            _ => counted.insert((self.depth(), Instant::now())).0,
        }
    }

    /// How many wait now.
    pub fn depth(&self) -> usize {
        let now = Instant::now();
        self.due().values().filter(|due| **due <= now).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_channel_waits_from_its_kick_or_its_time_until_a_pass_begins() {
        let (queue, a, b) = (Queue::default(), ChannelRef::new("n", "a"), ChannelRef::new("n", "b"));
        queue.put(&a, Duration::ZERO);
        queue.put(&b, Duration::from_secs(30));
        assert_eq!(queue.depth(), 1, "b has time");
        queue.take(&a);
        assert_eq!(queue.depth(), 0);
        queue.put(&a, Duration::ZERO);
        queue.put(&a, Duration::from_mins(1));
        assert_eq!(queue.depth(), 1, "what happened during the pass is not put off by its end");
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(queue.depth(), 2);
        queue.take(&a);
        queue.take(&b);
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_at_what_is_well_give_way_while_many_wait_and_only_then() {
        let (queue, usual) = (Queue::default(), Duration::from_secs(30));
        for (waiting, times) in [(0, 1), (99, 1), (100, 2), (250, 3), (5_000, 4), (0, 1)] {
            let channels: Vec<_> = (0..waiting).map(|number| ChannelRef::new("n", number.to_string())).collect();
            for channel in &channels {
                queue.put(channel, Duration::ZERO);
            }
            tokio::time::advance(COUNTED).await;
            assert_eq!(queue.eased(usual), usual * times, "{waiting} wait");
            for channel in &channels {
                queue.take(channel);
            }
        }
    }
}
