//! The manifest on the page: what the switches change in its text, and what its rules say
//! beforehand. Pure.

use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan as _};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api;
use crate::api::manifest::Manifests;
use crate::cli::rules;
use crate::policy::{Rules, WorkingHours};
use crate::time::Millis;

const HOUR: Millis = 3_600_000;
const MINUTE: Millis = 60_000;
/// The most times at which the picture of a week changes: more than any manifest can bring about.
const CHANGES: usize = 400;

/// A text split around a member of `spec`: before it, the member with its lines, after it.
fn around<'a>(text: &'a str, key: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let begin = format!("  {key}:");
    let mut from = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        match from {
            None if line.starts_with(&begin) => from = Some(at),
            Some(from) if !line.starts_with("   ") && !line.trim().is_empty() => {
                return Some((&text[..from], &text[from..at], &text[at..]));
            }
            _ => {}
        }
        at += line.len();
    }
    from.map(|from| (&text[..from], &text[from..], ""))
}

/// The member of `spec` with its lines; empty where there is none.
pub(super) fn member(text: &str, key: &str) -> String {
    around(text, key).map_or_else(String::new, |(_, member, _)| member.to_owned())
}

/// The text with these lines in the member's place, at the end of `spec` where there was none.
/// Empty lines take it away.
pub(super) fn with_member(text: &str, key: &str, lines: &str) -> String {
    match around(text, key) {
        Some((before, _, after)) => format!("{before}{lines}{after}"),
        None if text.is_empty() || text.ends_with('\n') => format!("{text}{lines}"),
        None => format!("{text}\n{lines}"),
    }
}

/// The zone without summer time in which it is `hour` o'clock at that moment.
fn zone_at(now: Millis, hour: i64) -> (String, TimeZone) {
    let ahead = (hour - now.div_euclid(HOUR).rem_euclid(24) + 36).rem_euclid(24) - 12;
    let zone = i8::try_from(ahead).ok().and_then(|hours| Offset::from_hours(hours).ok());
    // In these names the sign is that of the way back to UTC.
    let name = if ahead == 0 { "Etc/GMT".to_owned() } else { format!("Etc/GMT{:+}", -ahead) };
    (name, zone.map_or(TimeZone::UTC, Offset::to_time_zone))
}

/// The manifest with hours, in a zone in which it is eleven in the morning of a working day, and
/// tomorrow a holiday: so whoever looks meets the company at work, and the evening and a holiday
/// are still to come.
pub(super) fn with_hours(text: &str, now: Millis) -> String {
    let (name, zone) = zone_at(now, 11);
    let today = Timestamp::from_millisecond(now).unwrap_or_default().to_zoned(zone).date();
    let tomorrow = today.saturating_add(1.day());
    let text = with_member(
        text,
        "workingHours",
        &format!(
            "  workingHours:\n    timeZone: {name}\n    week: [{{days: [Mon, Tue, Wed, Thu, Fri, Sat, Sun], \
             from: \"09:00\", to: \"18:00\"}}]\n    holidays: [\"{tomorrow}\"]\n"
        ),
    );
    let replies =
        "  offHours:\n    autoReplies: [{after: 0s, text: \"Мы ответим в рабочее время, с 9 до 18 часов.\"}]\n";
    with_member(&text, "offHours", replies)
}

/// A minute after the company closes next.
///
/// # Errors
/// One sentence: by this manifest it never does.
pub(super) fn evening(manifest: &str, now: Millis) -> Result<Millis, String> {
    let hours = hours_of(manifest)?;
    let opens = if hours.is_open(now) { Some(now) } else { hours.next_change(now) };
    let closes = opens.and_then(|opens| hours.next_change(opens));
    closes.map(|closes| closes + MINUTE).ok_or_else(|| "by the manifest's working hours no day ends".to_owned())
}

/// Eleven o'clock on the next holiday.
///
/// # Errors
/// One sentence: the manifest names none.
pub(super) fn holiday(manifest: &str, now: Millis) -> Result<Millis, String> {
    let hours = hours_of(manifest)?;
    let written = api::WorkingHours::from(hours.clone());
    let at = |date: jiff::civil::Date| date.at(11, 0, 0, 0).to_zoned(hours.zone().clone());
    let moments = written.holidays.iter().filter_map(|date| Some(at(date.0).ok()?.timestamp().as_millisecond()));
    let next = moments.filter(|at| *at > now).min();
    next.ok_or_else(|| "the manifest names no holiday that is still to come: write one below workingHours".to_owned())
}

fn hours_of(manifest: &str) -> Result<WorkingHours, String> {
    let hours = rules_of(manifest).and_then(|rules| rules.working_hours);
    hours.ok_or_else(|| "the manifest has no working hours, so the company is always open".to_owned())
}

/// The rules of a manifest that has no errors.
pub(super) fn rules_of(manifest: &str) -> Option<Rules> {
    let mut manifests = Manifests::default();
    manifests.add("manifest.yaml", manifest);
    Rules::from_spec(&manifests.channels.first()?.parse().ok()?.spec).ok()
}

/// What the rules explorer asks.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    manifest: String,
    /// When the dialog begins, as `maxchannel rules --at` takes it.
    at: String,
    /// What happens in it, as `maxchannel rules --events` takes it.
    events: String,
}

/// The week around a moment, and the timeline of a dialog that begins then.
///
/// # Errors
/// One sentence.
pub(super) fn explore(question: &Question) -> Result<Value, String> {
    let mut told = rules::of_text(&question.manifest, &question.at, &question.events)?;
    let rules = rules_of(&question.manifest).unwrap_or_default();
    let begin = told["at"].as_str().and_then(|at| at.parse::<Timestamp>().ok()).unwrap_or_default();
    told["week"] = week(&rules, begin);
    Ok(told)
}

/// Seven days from the Monday before that moment, each with the minutes at which the company opens
/// and closes.
fn week(rules: &Rules, moment: Timestamp) -> Value {
    let Some(hours) = &rules.working_hours else { return Value::Null };
    let today = moment.to_zoned(hours.zone().clone()).date();
    let monday = today.saturating_sub(i64::from(today.weekday().to_monday_zero_offset()).days());
    let start_of = |day: i64| {
        let date = monday.saturating_add(day.days());
        date.to_zoned(hours.zone().clone()).map_or(0, |midnight| midnight.timestamp().as_millisecond())
    };
    let days = (0..7).map(|day| {
        let (begin, end) = (start_of(day), start_of(day + 1));
        let minute = |at: Millis| (at - begin) / 60_000;
        let mut open = Vec::new();
        let mut at = begin;
        for _ in 0..CHANGES {
            let next = hours.next_change(at).unwrap_or(end).min(end);
            if hours.is_open(at) {
                open.push(json!([minute(at), minute(next)]));
            }
            at = next;
            if at >= end {
                break;
            }
        }
        let date = monday.saturating_add(day.days());
        json!({"date": date, "today": date == today, "minutes": minute(end), "open": open})
    });
    json!({"zone": hours.zone().iana_name(), "days": days.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check;

    const TEXT: &str = include_str!("../../../../examples/demo/support.yaml");

    #[test]
    fn a_member_is_taken_out_and_put_back_with_its_lines() {
        for key in ["creatio", "receiver", "autoReplies", "closeMessage"] {
            let lines = member(TEXT, key);
            assert!(lines.starts_with(&format!("  {key}:")), "{lines}");
            let without = with_member(TEXT, key, "");
            assert!(member(&without, key).is_empty());
            assert_eq!(member(&with_member(&without, key, &lines), key), lines);
        }
        assert!(member(TEXT, "autoReplies").contains("repeatEvery"), "with all its lines");
        assert_eq!(member(TEXT, "workingHours"), "");
    }

    #[test]
    fn at_any_hour_the_company_is_at_work_and_an_evening_and_a_holiday_are_to_come() {
        for hour in 0..48 {
            let now = 1_795_910_400_000 + hour * HOUR;
            let text = with_hours(TEXT, now);
            assert_eq!(check::of_text(&text).iter().filter(|one| one["severity"] == "error").count(), 0, "{text}");
            let rules = rules_of(&text).unwrap();
            assert!(rules.is_open(now) && rules.is_open(now + 6 * HOUR), "{text}");
            let evening = evening(&text, now).unwrap();
            assert!(
                !rules.is_open(evening) && rules.is_open(evening - 2 * MINUTE) && evening < now + 8 * HOUR,
                "{text}"
            );
            let holiday = holiday(&text, now).unwrap();
            assert!(!rules.is_open(holiday) && !rules.is_open(holiday + 6 * HOUR) && holiday > evening, "{text}");
        }
    }

    #[test]
    fn where_the_manifest_knows_no_hours_or_holidays_the_clock_stays_and_it_is_said_why() {
        let hours = |hours: &str| with_member(TEXT, "workingHours", hours);
        let now = 1_795_910_400_000;
        assert!(evening(TEXT, now).unwrap_err().contains("no working hours"));
        assert!(holiday(TEXT, now).unwrap_err().contains("no working hours"));
        let past = hours(
            "  workingHours: {timeZone: Europe/Moscow, week: [{days: [Mon], from: \"09:00\", to: \"18:00\"}], \
             holidays: [\"2020-01-01\"]}\n",
        );
        assert!(holiday(&past, now).unwrap_err().contains("no holiday"));
        assert!(!hours_of(&past).unwrap().is_open(evening(&past, now).unwrap()), "of the next working day");
    }

    #[test]
    fn a_week_is_drawn_from_monday_with_its_holidays() {
        let question = Question {
            manifest: with_member(
                TEXT,
                "workingHours",
                "  workingHours: {timeZone: Europe/Moscow, week: [{days: [Mon, Tue], from: \"09:00\", to: \"18:00\"}], \
                 holidays: [\"2026-12-01\"]}\n",
            ),
            at: "2026-12-02 10:00".to_owned(),
            events: "- {at: 0s, customer: writes}".to_owned(),
        };
        let told = explore(&question).unwrap();
        let week = &told["week"];
        assert_eq!(
            week["days"][0],
            json!({"date": "2026-11-30", "today": false, "minutes": 1440, "open": [[540, 1080]]})
        );
        assert_eq!(week["days"][1]["open"], json!([]), "a holiday");
        assert_eq!((&week["days"][2]["today"], &week["zone"]), (&json!(true), &json!("Europe/Moscow")));
        assert!(told["timeline"].as_array().unwrap().len() > 1);
        assert!(explore(&Question { manifest: "a: [".to_owned(), ..question }).is_err());
    }
}
