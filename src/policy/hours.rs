//! Working hours: a week of intervals in a time zone, with holidays and extra workdays.
//!
//! Open is what the clock on the company's wall says: a moment is within the hours if its local
//! date and time are. So in an hour that the clock shows twice (end of summer time) both passes
//! count, and an hour that it skips does not exist.
//!
//! An interval belongs to the date on which it begins, also where it ends on the next one: a
//! holiday takes away what begins on it, and the shift of the evening before runs to its end. Extra
//! workdays (the Russian transfers of working days) replace what their weekday says, also on a
//! holiday.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::api;
use crate::time::Millis;

const SECOND: i64 = 1000;
const DAY: i64 = 86_400;

/// Working hours cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time zone {0:?} of workingHours is not known; use a name of the IANA database such as Europe/Moscow")]
pub struct UnknownZone(String);

/// An interval in seconds after the midnight with which its date begins; its end may lie in the
/// next day.
type Interval = (i64, i64);

/// When the company is open: `spec.workingHours`, made ready for use. As text it is what the
/// manifest says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "api::WorkingHours", into = "api::WorkingHours")]
pub struct WorkingHours {
    written: api::WorkingHours,
    zone: TimeZone,
    /// Monday first.
    week: [Vec<Interval>; 7],
    /// Dates, as days since the epoch, that do not follow their weekday; a holiday has no
    /// intervals.
    dates: BTreeMap<i64, Vec<Interval>>,
}

impl TryFrom<api::WorkingHours> for WorkingHours {
    type Error = UnknownZone;

    fn try_from(written: api::WorkingHours) -> Result<Self, UnknownZone> {
        let zone = TimeZone::get(&written.time_zone).map_err(|_| UnknownZone(written.time_zone.clone()))?;
        let mut week: [Vec<Interval>; 7] = Default::default();
        for line in &written.week {
            for day in &line.days {
                week[*day as usize].push(interval(line.from, line.to));
            }
        }
        let mut dates: BTreeMap<_, _> = written.holidays.iter().map(|date| (days(date.0), Vec::new())).collect();
        for line in &written.workdays {
            dates.entry(days(line.date.0)).or_default().push(interval(line.from, line.to));
        }
        Ok(Self { written, zone, week, dates })
    }
}

impl From<WorkingHours> for api::WorkingHours {
    fn from(hours: WorkingHours) -> Self {
        hours.written
    }
}

impl WorkingHours {
    /// The time zone in which the times are meant.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Whether the company is open at that moment.
    pub fn is_open(&self, at: Millis) -> bool {
        let second = at.div_euclid(SECOND);
        self.is_open_locally(second + self.offset(second))
    }

    /// The first moment after `at` at which [`WorkingHours::is_open`] changes; none: it never does
    /// again.
    pub fn next_change(&self, at: Millis) -> Option<Millis> {
        let mut second = at.div_euclid(SECOND);
        let offset = self.offset(second);
        let open = self.is_open_locally(second + offset);
        // A week and its neighbours beyond the last date that is named: what has not changed by
        // then never will.
        let last =
            self.dates.last_key_value().map_or(i64::MIN, |(day, _)| *day).max((second + offset).div_euclid(DAY)) + 16;
        loop {
            let offset = self.offset(second);
            // Until the zone changes its offset, local time runs evenly, and only an interval's
            // begin or end can change anything.
            let boundary = self.boundary_after(second + offset, last)? - offset;
            second = self.transition_after(second).map_or(boundary, |transition| transition.min(boundary));
            if self.is_open(second * SECOND) != open {
                return Some(second * SECOND);
            }
        }
    }

    fn offset(&self, second: i64) -> i64 {
        Timestamp::from_second(second).map_or(0, |at| i64::from(self.zone.to_offset(at).seconds()))
    }

    fn transition_after(&self, second: i64) -> Option<i64> {
        let at = Timestamp::from_second(second).ok()?;
        self.zone.following(at).next().map(|transition| transition.timestamp().as_second())
    }

    fn intervals(&self, day: i64) -> &[Interval] {
        // Day 0 of the epoch was a Thursday.
        self.dates.get(&day).unwrap_or_else(|| &self.week[usize::try_from((day + 3).rem_euclid(7)).unwrap_or(0)])
    }

    fn is_open_locally(&self, local: i64) -> bool {
        let day = local.div_euclid(DAY);
        [day - 1, day].into_iter().any(|day| {
            let second = local - day * DAY;
            self.intervals(day).iter().any(|(from, to)| *from <= second && second < *to)
        })
    }

    /// The first begin or end of an interval after that local second, of intervals that begin up to
    /// that day.
    fn boundary_after(&self, local: i64, last: i64) -> Option<i64> {
        let today = local.div_euclid(DAY);
        let mut first: Option<i64> = None;
        for day in today - 1..=last {
            if first.is_some_and(|found| found < day * DAY) {
                break;
            }
            let ends = self.intervals(day).iter().flat_map(|(from, to)| [day * DAY + from, day * DAY + to]);
            first = ends.filter(|end| *end > local).chain(first).min();
        }
        first
    }
}

fn interval(from: api::TimeOfDay, to: api::TimeOfDay) -> Interval {
    let over_midnight = if to > from { 0 } else { DAY };
    (i64::from(from.minutes()) * 60, i64::from(to.minutes()) * 60 + over_midnight)
}

fn days(date: civil::Date) -> i64 {
    civil::date(1970, 1, 1).until(date).map_or(0, |span| i64::from(span.get_days()))
}
