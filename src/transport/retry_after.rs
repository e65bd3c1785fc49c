//! `Retry-After`, in both of its forms.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use jiff::Timestamp;

/// Longest time believed.
const LONGEST: Duration = Duration::from_hours(24);

/// How long the other side asks to be left alone: seconds, or an HTTP date, which is held against
/// the date of the same answer, since the clocks of both sides may differ.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let wanted = text(RETRY_AFTER)?;
    let after = if let Ok(seconds) = wanted.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let until = date(wanted)?;
        let now = text(DATE).and_then(date).unwrap_or_else(Timestamp::now);
        Duration::try_from(until.duration_since(now)).unwrap_or_default()
    };
    Some(after.min(LONGEST))
}

fn date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_obeyed_in_full_and_nonsense_is_none() {
        for (wanted, now, seconds) in [
            ("7", "", Some(7)),
            (" 3600 ", "", Some(3_600)),
            ("Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", Some(30)),
            ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:30 GMT", Some(0)),
            ("99999999999", "", Some(86_400)),
            ("soon", "", None),
            ("-1", "", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, wanted.parse().unwrap());
            if !now.is_empty() {
                headers.insert(DATE, now.parse().unwrap());
            }
            assert_eq!(retry_after(&headers), seconds.map(Duration::from_secs), "{wanted}");
        }
    }
}
