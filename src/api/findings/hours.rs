//! Intervals of working hours that overlap, in an ordinary week and among extra workdays.

use crate::api::{WeekInterval, Workday};

const DAY: i64 = 24 * 60;
const WEEK: i64 = 7 * DAY;

/// The length in minutes of an interval; one that ends no later than it begins goes over midnight.
fn length(from: u16, to: u16) -> i64 {
    let length = i64::from(to) - i64::from(from);
    if length > 0 { length } else { length + DAY }
}

/// The first two entries of a week that overlap, as indices; one entry may overlap itself, from a
/// day into the next.
pub(super) fn overlap_in_week(week: &[WeekInterval]) -> Option<(usize, usize)> {
    let mut spans: Vec<(i64, i64, usize)> = Vec::new();
    for (index, interval) in week.iter().enumerate() {
        let mut days = interval.days.clone();
        days.sort_unstable();
        // A day that stands twice is a finding of its own.
        days.dedup();
        for day in days {
            let begin = day as i64 * DAY + i64::from(interval.from.minutes());
            spans.push((begin, begin + length(interval.from.minutes(), interval.to.minutes()), index));
        }
    }
    spans.sort_unstable();
    let follows = spans.iter().zip(spans.iter().skip(1));
    let within = follows.map(|(a, b)| (a, *b)).find(|(a, b)| b.0 < a.1);
    // The last night of the week goes on into its first morning.
    let around = || {
        let (last, first) = (spans.iter().max_by_key(|span| span.1)?, spans.first()?);
        (spans.len() > 1 && first.0 + WEEK < last.1).then_some((last, *first))
    };
    within.or_else(around).map(|(a, b)| (a.2.min(b.2), a.2.max(b.2)))
}

/// The first two extra workdays that overlap, as indices.
pub(super) fn overlap_of_workdays(workdays: &[Workday]) -> Option<(usize, usize)> {
    let day = |workday: &Workday| {
        let date = workday.date.0;
        i64::from(date.since(jiff::civil::date(1970, 1, 1)).map_or(0, |span| span.get_days())) * DAY
    };
    let mut spans: Vec<(i64, i64, usize)> = workdays
        .iter()
        .enumerate()
        .map(|(index, workday)| {
            let begin = day(workday) + i64::from(workday.from.minutes());
            (begin, begin + length(workday.from.minutes(), workday.to.minutes()), index)
        })
        .collect();
    spans.sort_unstable();
    let overlap = spans.iter().zip(spans.iter().skip(1)).find(|(a, b)| b.0 < a.1);
    overlap.map(|(a, b)| (a.2.min(b.2), a.2.max(b.2)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::{TimeOfDay, Weekday};

    const DAYS: [Weekday; 7] =
        [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];

    fn time(minutes: u16) -> TimeOfDay {
        format!("{:02}:{:02}", minutes / 60, minutes % 60).parse().unwrap()
    }

    /// Minute by minute: whether any minute of the endless week belongs to two intervals.
    fn model(week: &[WeekInterval]) -> bool {
        let mut taken = vec![false; usize::try_from(WEEK).unwrap()];
        for interval in week {
            for day in &interval.days {
                let begin = *day as usize * 1_440 + usize::from(interval.from.minutes());
                let minutes = usize::try_from(length(interval.from.minutes(), interval.to.minutes())).unwrap();
                for minute in begin..begin + minutes {
                    let place = &mut taken[minute % 10_080];
                    if *place {
                        return true;
                    }
                    *place = true;
                }
            }
        }
        false
    }

    proptest! {
        #[test]
        fn an_overlap_is_found_exactly_where_a_minute_belongs_to_two_intervals(
            week in prop::collection::vec(
                (prop::sample::subsequence(DAYS.to_vec(), 1..=3), 0u16..1_440, 1u16..=1_440), 0..5)
        ) {
            let week: Vec<WeekInterval> = week
                .into_iter()
                .map(|(days, from, to)| WeekInterval { days, from: time(from), to: time(to) })
                .collect();
            prop_assert_eq!(overlap_in_week(&week).is_some(), model(&week));
        }
    }
}
