//! "Leave me alone for so long": a `Retry-After` binds everything towards that side.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Response, retry_after};

/// Until when a side is left alone. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Hold(Arc<Mutex<Option<Instant>>>);

impl Hold {
    /// Takes the wish of an answer: of a 429 or a 5xx. Longer wishes stay in force.
    pub fn heed(&self, answer: &Response) {
        let status = answer.status();
        if (status == http::StatusCode::TOO_MANY_REQUESTS || status.is_server_error())
            && let Some(after) = retry_after(answer.headers())
        {
            let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *until = (*until).max(Some(Instant::now() + after));
        }
    }

    /// How long nothing may be sent yet.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }
}
