//! "Leave me alone for so long": a `Retry-After` binds everything towards that side.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Response, retry_after};

/// Until when a side is left alone. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Hold(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    until: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Hold {
    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the `Retry-After` of a 429 or a 5xx. A longer one before it stays in force.
    pub fn on_answer(&self, answer: &Response) {
        let status = answer.status();
        if (status == http::StatusCode::TOO_MANY_REQUESTS || status.is_server_error())
            && let Some(after) = retry_after(answer.headers())
        {
            self.for_at_least(after);
        }
    }

    /// Nothing is sent for so long from now on, or longer where that was asked for before.
    pub fn for_at_least(&self, time: Duration) {
        let wanted = Some(Instant::now() + time);
        let mut until = self.until();
        if wanted > *until {
            *until = wanted;
            self.0.changed.notify_waiters();
        }
    }

    /// How long nothing may be sent yet.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let until = *self.until();
        until.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Tells of everything that is asked for from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes { hold: self.clone(), seen: *self.until() }
    }
}

/// See [`Hold::changes`].
#[derive(Debug)]
pub struct Changes {
    hold: Hold,
    seen: Option<Instant>,
}

impl Changes {
    /// Returns when more is asked for.
    pub async fn next(&mut self) {
        loop {
            // It is told of what comes from here on, also before it is first polled.
            let changed = self.hold.0.changed.notified();
            let now = *self.hold.until();
            if now != self.seen {
                self.seen = now;
                return;
            }
            changed.await;
        }
    }
}
