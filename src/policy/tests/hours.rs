//! Working hours against a calendar read minute by minute.

use std::collections::BTreeSet;

use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::{Date, date},
    tz::TimeZone,
};
use proptest::prelude::*;
use serde_json::json;

use crate::policy::WorkingHours;
use crate::time::Millis;

const MINUTE: Millis = 60_000;
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Working hours as lists, and the reading of them that is obvious.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    zone: &'static str,
    week: Vec<(&'static str, u16, u16)>,
    holidays: BTreeSet<Date>,
    workdays: Vec<(Date, u16, u16)>,
}

impl Plan {
    pub(super) fn hours(&self) -> WorkingHours {
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let week: Vec<_> = self
            .week
            .iter()
            .map(|(day, from, to)| json!({"days": [day], "from": time(*from), "to": time(*to)}))
            .collect();
        let workdays: Vec<_> = self
            .workdays
            .iter()
            .map(|(date, from, to)| json!({"date": date, "from": time(*from), "to": time(*to)}))
            .collect();
        let written = json!({"timeZone": self.zone, "week": week, "holidays": self.holidays, "workdays": workdays});
        serde_json::from_value(written).unwrap()
    }

    /// Looks at the wall clock and the calendar, and runs through every line of the plan.
    pub(super) fn is_open(&self, at: Millis) -> bool {
        let local = TimeZone::get(self.zone).unwrap().to_datetime(Timestamp::from_millisecond(at).unwrap());
        let minute = u16::try_from(local.hour()).unwrap() * 60 + u16::try_from(local.minute()).unwrap();
        let of = |date: Date| -> Vec<(u16, u16)> {
            let special: Vec<_> =
                self.workdays.iter().filter(|line| line.0 == date).map(|line| (line.1, line.2)).collect();
            if !special.is_empty() {
                return special;
            }
            if self.holidays.contains(&date) {
                return Vec::new();
            }
            self.week
                .iter()
                .filter(|line| line.0 == WEEKDAYS[usize::try_from(date.weekday().to_monday_zero_offset()).unwrap()])
                .map(|line| (line.1, line.2))
                .collect()
        };
        let today = of(local.date()).into_iter().any(|(from, to)| minute >= from && (to <= from || minute < to));
        let since_yesterday =
            of(local.date().yesterday().unwrap()).into_iter().any(|(from, to)| to <= from && minute < to);
        today || since_yesterday
    }
}

pub(super) fn plans() -> impl Strategy<Value = Plan> {
    let zone = prop_oneof![
        Just("Europe/Moscow"),
        Just("Europe/Berlin"),
        Just("America/New_York"),
        Just("Asia/Kolkata"),
        Just("UTC")
    ];
    let minute = || prop_oneof![(0u16..24).prop_map(|hour| hour * 60), 0u16..1440];
    let end = || prop_oneof![(0u16..=24).prop_map(|hour| hour * 60), 0u16..=1440];
    let weekday = prop::sample::select(&WEEKDAYS[..]);
    // Near the days on which Berlin and New York change their clocks in 2026: 8 and 29 March, 25
    // October, 1 November.
    let near = || {
        (
            prop_oneof![
                Just(date(2026, 3, 8)),
                Just(date(2026, 3, 29)),
                Just(date(2026, 10, 25)),
                Just(date(2026, 11, 1))
            ],
            -3i64..4,
        )
            .prop_map(|(date, days)| date.checked_add(days.days()).unwrap())
    };
    (
        zone,
        prop::collection::vec((weekday, minute(), end()), 0..9),
        prop::collection::btree_set(near(), 0..4),
        prop::collection::vec((near(), minute(), end()), 0..4),
    )
        .prop_map(|(zone, week, holidays, workdays)| Plan { zone, week, holidays, workdays })
}

/// Moments around the changes of the clocks, to the second.
pub(super) fn moments() -> impl Strategy<Value = Millis> {
    let change = prop_oneof![
        Just("2026-03-08T07:00:00Z"),
        Just("2026-03-29T01:00:00Z"),
        Just("2026-10-25T01:00:00Z"),
        Just("2026-11-01T06:00:00Z")
    ];
    (change, -3 * 86_400i64..3 * 86_400).prop_map(|(at, seconds)| {
        (at.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)).as_millisecond()
    })
}

proptest! {
    #![proptest_config(super::cases(1500))]

    #[test]
    fn hours_agree_with_the_calendar_read_minute_by_minute(plan in plans(), at in moments()) {
        let hours = plan.hours();
        prop_assert_eq!(hours.is_open(at), plan.is_open(at));

        let change = hours.next_change(at);
        let mut minute = at - at.rem_euclid(MINUTE) + MINUTE;
        let end = change.unwrap_or(Millis::MAX).min(at + 1500 * MINUTE);
        while minute < end {
            prop_assert_eq!(plan.is_open(minute), hours.is_open(at), "no change before the one that is named");
            minute += MINUTE;
        }
        if let Some(change) = change {
            prop_assert!(change > at);
            prop_assert_eq!(plan.is_open(change), !plan.is_open(at));
            prop_assert_eq!(plan.is_open(change - 1), plan.is_open(at));
        }
    }

    #[test]
    fn hours_survive_being_written_down(plan in plans()) {
        let hours = plan.hours();
        let text = serde_json::to_string(&hours).unwrap();
        prop_assert_eq!(serde_json::from_str::<WorkingHours>(&text).unwrap(), hours);
    }
}

fn at(text: &str) -> Millis {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

#[test]
fn hours_are_kept_over_midnight_on_holidays_on_transferred_days_and_when_the_clocks_change() {
    let office = json!({
        "timeZone": "Europe/Moscow",
        "week": [{"days": ["Mon", "Tue", "Wed", "Thu", "Fri"], "from": "09:00", "to": "13:00"},
                 {"days": ["Mon", "Tue", "Wed", "Thu", "Fri"], "from": "14:00", "to": "18:00"}],
        "holidays": ["2027-01-01", "2026-11-04"],
        "workdays": [{"date": "2026-12-26", "from": "10:00", "to": "16:00"}, {"date": "2027-01-01", "from": "12:00", "to": "13:00"}],
    });
    let night = |zone: &str| {
        json!({"timeZone": zone, "week": [{"days": ["Sat"], "from": "22:00", "to": "06:00"}, {"days": ["Sun"], "from": "20:00", "to": "24:00"}],
            "holidays": ["2026-10-31"]})
    };
    let half_past_two =
        json!({"timeZone": "Europe/Berlin", "week": [{"days": ["Sun"], "from": "02:00", "to": "02:30"}]});
    for (hours, moment, open, why) in [
        (&office, "2026-11-24T06:00:00Z", true, "Tuesday 09:00"),
        (&office, "2026-11-24T05:59:59.999Z", false, "a millisecond before"),
        (&office, "2026-11-24T10:00:00Z", false, "the end is not within"),
        (&office, "2026-11-24T10:59:59Z", false, "the lunch break"),
        (&office, "2026-11-24T11:00:00Z", true, "the second interval of the day"),
        (&office, "2026-11-21T09:00:00Z", false, "Saturday"),
        (&office, "2026-11-04T09:00:00Z", false, "a holiday"),
        (&office, "2026-12-26T07:00:00Z", true, "a Saturday that is worked, with hours of its own"),
        (&office, "2026-12-26T06:30:00Z", false, "not the hours of a weekday"),
        (&office, "2027-01-01T09:30:00Z", true, "hours of a date count also on a holiday"),
        (&office, "2027-01-01T06:30:00Z", false, "and nothing else does"),
        (&night("Europe/Moscow"), "2026-11-21T19:00:00Z", true, "Saturday 22:00"),
        (&night("Europe/Moscow"), "2026-11-22T02:59:00Z", true, "Sunday 05:59, still the shift of Saturday"),
        (&night("Europe/Moscow"), "2026-11-22T03:00:00Z", false, "Sunday 06:00"),
        (&night("Europe/Moscow"), "2026-11-22T20:59:59Z", true, "Sunday 23:59:59, to 24:00"),
        (&night("Europe/Moscow"), "2026-11-22T21:00:00Z", false, "Monday 00:00"),
        (
            &night("Europe/Moscow"),
            "2026-10-31T23:00:00Z",
            false,
            "Sunday 02:00: the shift of the holiday before is off",
        ),
        (&night("America/New_York"), "2026-03-08T09:59:59Z", true, "05:59:59, though the night is an hour shorter"),
        (&night("America/New_York"), "2026-03-08T10:00:00Z", false, "06:00 of summer time"),
        (&night("Europe/Berlin"), "2026-10-25T04:59:59Z", true, "05:59:59, though the night is an hour longer"),
        (&night("Europe/Berlin"), "2026-10-25T05:00:00Z", false, "06:00 of winter time"),
        (&half_past_two, "2026-10-25T00:15:00Z", true, "02:15 for the first time"),
        (&half_past_two, "2026-10-25T00:45:00Z", false, "02:45"),
        (&half_past_two, "2026-10-25T01:15:00Z", true, "02:15 again"),
        (&half_past_two, "2026-03-29T01:00:00Z", false, "02:00 does not exist"),
    ] {
        let hours: WorkingHours = serde_json::from_value(hours.clone()).unwrap();
        assert_eq!(hours.is_open(at(moment)), open, "{moment}: {why}");
    }
    let closed: WorkingHours = serde_json::from_value(json!({"timeZone": "Europe/Moscow"})).unwrap();
    assert_eq!((closed.is_open(0), closed.next_change(0)), (false, None), "hours without a line never begin");
}

#[test]
fn hours_in_an_unknown_time_zone_are_refused_with_what_to_write_instead() {
    let refusal = serde_json::from_value::<WorkingHours>(json!({"timeZone": "Mars/Olympus", "week": []}))
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("\"Mars/Olympus\"") && refusal.contains("Europe/Moscow"), "{refusal}");
}
