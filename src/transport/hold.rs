//! "Leave me alone for so long": a `Retry-After` binds everything towards that side.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Response, retry_after};

/// Until when a side is left alone. Clones share it.
#[derive(Clone, Debug)]
pub struct Hold(Arc<watch::Sender<Option<Instant>>>);

impl Default for Hold {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Hold {
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
        self.0.send_if_modified(|until| {
            let longer = wanted > *until;
            *until = wanted.max(*until);
            longer
        });
    }

    /// How long nothing may be sent yet.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let until = *self.0.borrow();
        until.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Tells of everything that is asked for from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.0.subscribe())
    }
}

/// See [`Hold::changes`].
#[derive(Debug)]
pub struct Changes(watch::Receiver<Option<Instant>>);

impl Changes {
    /// Returns when more is asked for; never where nobody is left who could.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
