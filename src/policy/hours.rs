//! Working hours: a week of intervals in a time zone, with holidays and extra workdays.
//!
//! Open is what the clock on the company's wall says: a moment is within the hours if its local date and time are. So in an hour that
//! the clock shows twice (end of summer time) both passes count, and an hour that it skips does not exist.
//!
//! An interval belongs to the date on which it begins, also where it ends on the next one: a holiday takes away what begins on it, and
//! the shift of the evening before runs to its end. Extra workdays (the Russian transfers of working days) replace what their weekday
//! says, also on a holiday.

use std::collections::BTreeMap;

use jiff::{
    Timestamp,
    civil::{Date, Weekday},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};

use super::Millis;

const SECOND: i64 = 1000;
const DAY: i64 = 86_400;
const MINUTES_OF_A_DAY: u16 = 1440;

/// A part of a day in minutes after midnight by the wall clock: `from` 0 to 1439, `to` 0 to 1440.
/// Where `to` is not later than `from`, it is a time of the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    from: u16,
    to: u16,
}

impl Interval {
    /// From minutes after midnight; refused where one is out of range.
    pub fn new(from: u16, to: u16) -> Result<Self, HoursError> {
        for (minute, last) in [(from, MINUTES_OF_A_DAY - 1), (to, MINUTES_OF_A_DAY)] {
            if minute > last {
                return Err(HoursError::Time(clock_face(minute)));
            }
        }
        Ok(Self { from, to })
    }

    /// From times such as `09:00` and `18:00`; the end may be `24:00`.
    pub fn parse(from: &str, to: &str) -> Result<Self, HoursError> {
        let minutes = |text: &str| {
            let digits = |part: &str| {
                (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()))
                    .then(|| part.parse::<u16>().ok())
                    .flatten()
            };
            let (hour, minute) = text.split_once(':')?;
            let (hour, minute) = (digits(hour)?, digits(minute)?);
            (minute < 60 && hour <= 24).then_some(hour * 60 + minute)
        };
        let minutes = |text: &str| minutes(text).ok_or_else(|| HoursError::Time(text.to_owned()));
        Self::new(minutes(from)?, minutes(to)?)
    }

    /// Begin and end in seconds after the midnight with which the interval's date begins.
    fn seconds(self) -> (i64, i64) {
        let end = if self.to > self.from { self.to } else { self.to + MINUTES_OF_A_DAY };
        (i64::from(self.from) * 60, i64::from(end) * 60)
    }
}

fn clock_face(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
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
    #[error("{0:?} is not a day of the week; write Mon, Tue, Wed, Thu, Fri, Sat or Sun")]
    Weekday(String),
}

/// When the company is open. Made by [`WorkingHours::new`], which proves that the zone and the times exist.
///
/// As text it is what `spec.workingHours` says: `{timeZone, week: [{days, from, to}], holidays, workdays: [{date, from, to}]}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct WorkingHours {
    zone: TimeZone,
    /// Monday first.
    week: [Vec<Interval>; 7],
    /// Dates, as days since the epoch, that do not follow their weekday; a holiday has no intervals.
    dates: BTreeMap<i64, Vec<Interval>>,
}

impl WorkingHours {
    /// `week`: the weekdays' intervals. `workdays`: what replaces them on a date; several intervals of one date add up.
    pub fn new(
        zone: &str,
        week: impl IntoIterator<Item = (Weekday, Interval)>,
        holidays: impl IntoIterator<Item = Date>,
        workdays: impl IntoIterator<Item = (Date, Interval)>,
    ) -> Result<Self, HoursError> {
        let mut hours = Self {
            zone: TimeZone::get(zone).map_err(|_| HoursError::Zone(zone.to_owned()))?,
            week: Default::default(),
            dates: holidays.into_iter().map(|date| (days(date), Vec::new())).collect(),
        };
        for (weekday, interval) in week {
            hours.week[usize::from(weekday.to_monday_zero_offset().unsigned_abs())].push(interval);
        }
        for (date, interval) in workdays {
            hours.dates.entry(days(date)).or_default().push(interval);
        }
        Ok(hours)
    }

    /// Whether the company is open at that moment.
    pub fn is_open(&self, at: Millis) -> bool {
        let second = at.div_euclid(SECOND);
        self.is_open_locally(second + self.offset(second))
    }

    /// The first moment after `at` at which [`WorkingHours::is_open`] changes; none: it never does again.
    pub fn next_change(&self, at: Millis) -> Option<Millis> {
        let mut second = at.div_euclid(SECOND);
        let offset = self.offset(second);
        let open = self.is_open_locally(second + offset);
        // A week and its neighbours beyond the last date that is named: what has not changed by then never will.
        let last =
            self.dates.last_key_value().map_or(i64::MIN, |(day, _)| *day).max((second + offset).div_euclid(DAY)) + 16;
        loop {
            let offset = self.offset(second);
            // Until the zone changes its offset, local time runs evenly, and only an interval's begin or end can change anything.
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
        self.dates.get(&day).unwrap_or_else(|| &self.week[usize::from((day + 3).rem_euclid(7).unsigned_abs() as u8)])
    }

    fn is_open_locally(&self, local: i64) -> bool {
        let day = local.div_euclid(DAY);
        [day - 1, day].into_iter().any(|day| {
            let second = local - day * DAY;
            self.intervals(day).iter().any(|interval| {
                let (from, to) = interval.seconds();
                from <= second && second < to
            })
        })
    }

    /// The first begin or end of an interval after that local second, of intervals that begin up to that day.
    fn boundary_after(&self, local: i64, last: i64) -> Option<i64> {
        let today = local.div_euclid(DAY);
        let mut first: Option<i64> = None;
        for day in today - 1..=last {
            if first.is_some_and(|found| found < day * DAY) {
                break;
            }
            let ends = self.intervals(day).iter().flat_map(|interval| {
                let (from, to) = interval.seconds();
                [day * DAY + from, day * DAY + to]
            });
            first = ends.filter(|end| *end > local).chain(first).min();
        }
        first
    }
}

fn days(date: Date) -> i64 {
    // A civil date is at most a few million days away: the division is exact.
    date.to_zoned(TimeZone::UTC).map_or(0, |midnight| midnight.timestamp().as_second().div_euclid(DAY))
}

fn date(day: i64) -> Option<Date> {
    Timestamp::from_second(day * DAY).ok().map(|at| TimeZone::UTC.to_datetime(at).date())
}

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Working hours as they are written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    time_zone: String,
    #[serde(default)]
    week: Vec<WrittenWeek>,
    #[serde(default)]
    holidays: Vec<String>,
    #[serde(default)]
    workdays: Vec<WrittenWorkday>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct WrittenWeek {
    days: Vec<String>,
    from: String,
    to: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct WrittenWorkday {
    date: String,
    from: String,
    to: String,
}

impl TryFrom<Written> for WorkingHours {
    type Error = HoursError;

    fn try_from(written: Written) -> Result<Self, HoursError> {
        let date = |text: &String| text.parse::<Date>().map_err(|_| HoursError::Date(text.clone()));
        let mut week = Vec::new();
        for line in &written.week {
            let interval = Interval::parse(&line.from, &line.to)?;
            for day in &line.days {
                week.push((weekday(day)?, interval));
            }
        }
        let holidays = written.holidays.iter().map(date).collect::<Result<Vec<_>, _>>()?;
        let mut workdays = Vec::new();
        for line in &written.workdays {
            workdays.push((date(&line.date)?, Interval::parse(&line.from, &line.to)?));
        }
        Self::new(&written.time_zone, week, holidays, workdays)
    }
}

fn weekday(name: &str) -> Result<Weekday, HoursError> {
    let position = WEEKDAYS.iter().position(|known| *known == name);
    position
        .and_then(|position| Weekday::from_monday_zero_offset(i8::try_from(position).ok()?).ok())
        .ok_or_else(|| HoursError::Weekday(name.to_owned()))
}

impl From<WorkingHours> for Written {
    fn from(hours: WorkingHours) -> Self {
        let text = |day: &i64| date(*day).map(|date| date.to_string()).unwrap_or_default();
        let mut week = Vec::new();
        for (name, intervals) in WEEKDAYS.iter().zip(&hours.week) {
            for Interval { from, to } in intervals {
                week.push(WrittenWeek { days: vec![(*name).to_owned()], from: clock_face(*from), to: clock_face(*to) });
            }
        }
        let workdays = hours.dates.iter().flat_map(|(day, intervals)| {
            let date = text(day);
            intervals.iter().map(move |interval| WrittenWorkday {
                date: date.clone(),
                from: clock_face(interval.from),
                to: clock_face(interval.to),
            })
        });
        Self {
            time_zone: hours.zone.iana_name().unwrap_or_default().to_owned(),
            week,
            holidays: hours
                .dates
                .iter()
                .filter(|(_, intervals)| intervals.is_empty())
                .map(|(day, _)| text(day))
                .collect(),
            workdays: workdays.collect(),
        }
    }
}
