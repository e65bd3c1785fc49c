//! Time as everything here speaks of it: moments and spans in milliseconds, the clock that tests
//! set by hand, and the pauses between attempts.
//!
//! Must not: know what is waited for.

mod backoff;
mod clock;

pub use backoff::{Backoff, Jitter};
pub use clock::{Clock, ManualClock};

/// Milliseconds since 1970-01-01T00:00:00Z, or a span in milliseconds.
pub type Millis = i64;

/// A span as [`Millis`]; what is too long for them is the longest.
#[must_use]
pub fn millis(span: std::time::Duration) -> Millis {
    Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX)
}
