//! Working hours: a week of intervals in a time zone, with holidays and extra workdays.

use jiff::{
    civil::{Date, Weekday},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};

use super::Millis;

/// A part of a day in minutes after midnight by the wall clock: `from` 0 to 1439, `to` 1 to 1440.
/// `to` ≤ `from` ends on the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    pub from: u16,
    pub to: u16,
}

/// Why working hours make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    #[error("time zone {0:?} is not known; use a name of the IANA database such as Europe/Moscow")]
    Zone(String),
    #[error("{0:?} is not a time of day; write hours and minutes such as 09:00, at the end up to 24:00")]
    Time(String),
    #[error("{0:?} is not a date; write it as 2027-01-01")]
    Date(String),
}

/// When the company is open. Made by [`WorkingHours::new`], which proves that the zone and the times exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct WorkingHours {
    zone: TimeZone,
}

impl WorkingHours {
    /// `week`: each weekday's intervals; `workdays`: dates whose intervals replace those of their weekday, also on a holiday.
    pub fn new(
        zone: &str,
        _week: impl IntoIterator<Item = (Weekday, Interval)>,
        _holidays: impl IntoIterator<Item = Date>,
        _workdays: impl IntoIterator<Item = (Date, Interval)>,
    ) -> Result<Self, HoursError> {
        Ok(Self { zone: TimeZone::get(zone).map_err(|_| HoursError::Zone(zone.to_owned()))? })
    }

    pub fn is_open(&self, _at: Millis) -> bool {
        true
    }

    /// The first moment after `at` at which [`WorkingHours::is_open`] changes; none: never again.
    pub fn next_change(&self, _at: Millis) -> Option<Millis> {
        None
    }
}

/// Working hours as they are written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    time_zone: String,
}

impl TryFrom<Written> for WorkingHours {
    type Error = HoursError;
    fn try_from(written: Written) -> Result<Self, HoursError> {
        Self::new(&written.time_zone, [], [], [])
    }
}

impl From<WorkingHours> for Written {
    fn from(hours: WorkingHours) -> Self {
        Self { time_zone: hours.zone.iana_name().unwrap_or_default().to_owned() }
    }
}
