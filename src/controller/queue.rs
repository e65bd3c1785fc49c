//! Which channels wait for a pass, for a metric. The order of passes is the library's.
//!
//! A channel waits from the moment when something has happened to it, or when the time of its next look has come, until a pass over it
//! begins; what happens during a pass waits for the next one. A look that lies in the future is no waiting.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::channel::ChannelRef;

/// When the next pass over each channel is due.
#[derive(Debug, Default)]
pub struct Queue(Mutex<HashMap<ChannelRef, Instant>>);

impl Queue {
    fn due(&self) -> MutexGuard<'_, HashMap<ChannelRef, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
}
