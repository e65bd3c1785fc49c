//! The clock of the simulators: wall time that is told as it is, and long waits that can be
//! shortened.
//!
//! Times that a simulator *tells* (timestamps of messages, `expires`) are Unix times that go with
//! the time of the async runtime, so that whoever reads them can compare them with its own clock,
//! and a test that pauses that time moves these, too. Periods that it *waits* (retry pauses, the 24
//! hours that updates are kept, lives of addresses) are divided by the scale. Rates per second are
//! never scaled.

use std::time::Duration;

use tokio::time::Instant;

/// Tells the time and shortens periods.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    scale: f64,
    started: Instant,
    base_ms: i64,
}

impl Clock {
    /// `scale` 1.0 keeps periods as they are; 60.0 turns a minute into a second. Values that are
    /// not positive numbers count as 1.0.
    pub fn new(scale: f64) -> Self {
        Self::starting_at(jiff::Timestamp::now().as_millisecond(), scale)
    }

    /// The same, showing another time now.
    pub fn starting_at(base_ms: i64, scale: f64) -> Self {
        let scale = if scale.is_finite() && scale > 0.0 { scale } else { 1.0 };
        Self { scale, started: Instant::now(), base_ms }
    }

    /// Unix time, milliseconds.
    pub fn now_ms(self) -> i64 {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.base_ms.saturating_add(elapsed)
    }

    /// How long `period` lasts here.
    pub fn shortened(self, period: Duration) -> Duration {
        period.div_f64(self.scale)
    }

    /// How many milliseconds a period of `ms` lasts here, for comparisons of Unix times.
    pub fn shortened_ms(self, ms: u64) -> i64 {
        i64::try_from(self.shortened(Duration::from_millis(ms)).as_millis()).unwrap_or(i64::MAX)
    }

    /// Waits for `period`, shortened.
    pub async fn sleep(self, period: Duration) {
        tokio::time::sleep(self.shortened(period)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_divides_periods_and_a_senseless_one_leaves_them() {
        for (scale, expected) in [(1.0, 60_000), (60.0, 1_000), (0.5, 120_000), (0.0, 60_000), (f64::NAN, 60_000)] {
            assert_eq!(Clock::new(scale).shortened_ms(60_000), expected, "scale {scale}");
        }
    }
}
