//! The small value types of the resource: spans of time, times of day, dates, quantities.
//!
//! Each keeps to one grammar, refuses everything else when it is read, and prints what it was read
//! from. None knows a clock.

use std::{borrow::Cow, fmt, str::FromStr, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The pattern of [`Duration`], as it stands in the schema.
pub(crate) const DURATION_PATTERN: &str = "^(0|[1-9][0-9]{0,8})[smhd]$";
/// The pattern of [`TimeOfDay`], as it stands in the schema.
pub(crate) const TIME_OF_DAY_PATTERN: &str = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$";
/// The pattern of [`Date`], as it stands in the schema; which days exist is a rule of `findings`.
pub(crate) const DATE_PATTERN: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$";

/// The value of a label or of a taint, which may be empty.
pub(crate) const LABEL_VALUE_PATTERN: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
/// The key of a taint.
pub(crate) const TAINT_KEY_PATTERN: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
                                            [A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";

/// A text that is not of the grammar of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not {1}")]
pub struct ValueError(String, &'static str);

/// A span of time: a whole number and one unit, `s`, `m`, `h` or `d` (24 hours): `90s`, `15m`,
/// `24h`, `30d`.
///
/// `60s` and `1m` compare as equal; each is printed as it was written.
#[derive(Clone, Copy, Debug)]
pub struct Duration {
    amount: u32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug)]
enum Unit {
    Seconds,
    Minutes,
    Hours,
    Days,
}

impl Unit {
    const fn seconds(self) -> u64 {
        match self {
            Self::Seconds => 1,
            Self::Minutes => 60,
            Self::Hours => 3_600,
            Self::Days => 86_400,
        }
    }
}

impl Duration {
    pub const ZERO: Self = Self::from_secs(0);

    pub const fn from_secs(seconds: u32) -> Self {
        Self { amount: seconds, unit: Unit::Seconds }
    }

    pub const fn from_minutes(minutes: u32) -> Self {
        Self { amount: minutes, unit: Unit::Minutes }
    }

    pub const fn from_days(days: u32) -> Self {
        Self { amount: days, unit: Unit::Days }
    }

    pub const fn seconds(self) -> u64 {
        // Widening; `From` is not const.
        self.amount as u64 * self.unit.seconds()
    }

    /// Milliseconds; the greatest writable span, 999999999d, is 8.7e16 and fits.
    pub const fn millis(self) -> i64 {
        (self.seconds() * 1_000).cast_signed()
    }

    pub const fn to_std(self) -> time::Duration {
        time::Duration::from_secs(self.seconds())
    }
}

impl PartialEq for Duration {
    fn eq(&self, other: &Self) -> bool {
        self.seconds() == other.seconds()
    }
}

impl Eq for Duration {}

impl PartialOrd for Duration {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Duration {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.seconds().cmp(&other.seconds())
    }
}

impl From<Duration> for time::Duration {
    fn from(value: Duration) -> Self {
        value.to_std()
    }
}

impl FromStr for Duration {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError(text.to_owned(), "a duration like 90s, 15m, 24h or 30d");
        let mut digits = text.chars();
        let unit = match digits.next_back() {
            Some('s') => Unit::Seconds,
            Some('m') => Unit::Minutes,
            Some('h') => Unit::Hours,
            Some('d') => Unit::Days,
            _ => return Err(error()),
        };
        let digits = digits.as_str();
        let plain = digits.len() <= 9
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        if !plain {
            return Err(error());
        }
        digits.parse().map(|amount| Self { amount, unit }).map_err(|_| error())
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Seconds => 's',
            Unit::Minutes => 'm',
            Unit::Hours => 'h',
            Unit::Days => 'd',
        };
        write!(f, "{}{unit}", self.amount)
    }
}

/// A minute of the day on the wall clock, `00:00` to `24:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// Minutes since midnight, 0 to 1440.
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl FromStr for TimeOfDay {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let read = || {
            let (hours, minutes) = text.split_once(':')?;
            let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            if !two_digits(hours) || !two_digits(minutes) {
                return None;
            }
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            let total = hours * 60 + minutes;
            (minutes < 60 && total <= 24 * 60).then_some(Self(total))
        };
        read().ok_or_else(|| ValueError(text.to_owned(), "a time of day like 09:30"))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// A day of the calendar that exists, like `2027-01-01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(pub jiff::civil::Date);

impl FromStr for Date {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError(text.to_owned(), "a date like 2027-01-01");
        if text.len() != 10 {
            return Err(error());
        }
        jiff::civil::Date::strptime("%Y-%m-%d", text).map(Self).map_err(|_| error())
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An amount of a resource in Kubernetes' notation, like `500m`, `64Mi` or `1Gi`; a bare number is
/// taken too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity(String);

impl Quantity {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Quantity {
    /// The amount in units of the resource, near enough to compare two.
    pub fn amount(&self) -> Option<f64> {
        let digits = self.0.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match &self.0[digits.len()..] {
            "" => 1.0,
            "n" => 1e-9,
            "u" => 1e-6,
            "m" => 1e-3,
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "T" => 1e12,
            "P" => 1e15,
            "E" => 1e18,
            "Ki" => 2_f64.powi(10),
            "Mi" => 2_f64.powi(20),
            "Gi" => 2_f64.powi(30),
            "Ti" => 2_f64.powi(40),
            "Pi" => 2_f64.powi(50),
            "Ei" => 2_f64.powi(60),
            _ => return None,
        };
        digits.parse::<f64>().ok().map(|number| number * factor)
    }
}

impl FromStr for Quantity {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let mut rest = &text[digits..];
        let mut whole = digits > 0;
        if let Some(fraction) = rest.strip_prefix('.') {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            whole = whole || digits > 0;
            rest = &fraction[digits..];
        }
        let suffixes = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        if whole && text.len() <= 32 && suffixes.contains(&rest) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError(text.to_owned(), "a quantity like 500m, 64Mi or 1Gi"))
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum NumberOrText {
            Number(u64),
            Text(String),
        }
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(number) => Ok(Self(number.to_string())),
            NumberOrText::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

macro_rules! written_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
macro_rules! read_from_text {
    ($($type:ty: $pattern:expr),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "maxLength": 10, "pattern": $pattern})
            }
        }
    )*};
}
written_as_text!(Duration, TimeOfDay, Date, Quantity);
read_from_text!(Duration: DURATION_PATTERN, TimeOfDay: TIME_OF_DAY_PATTERN, Date: DATE_PATTERN);

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The one form in which Kubernetes takes both a number and a text without a type of its
        // own.
        json_schema!({"x-kubernetes-int-or-string": true})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_one_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("15m", 900), ("24h", 86_400), ("30d", 2_592_000)] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!((duration.seconds(), duration.to_string().as_str()), (seconds, text));
            assert_eq!(duration.millis(), i64::try_from(seconds).unwrap() * 1_000);
        }
        assert_eq!("60s".parse::<Duration>(), "1m".parse());
        assert_eq!("999999999d".parse::<Duration>().unwrap().millis(), 86_399_999_913_600_000);
        for text in ["", "s", "5", "5 s", "-5s", "+5s", "1.5h", "1h30m", "05s", "1000000000s", "5ms", "5S", "५s", "5ы"]
        {
            assert!(text.parse::<Duration>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_time_of_day_has_two_digits_each_and_ends_with_the_day() {
        for (text, minutes) in [("00:00", 0), ("09:30", 570), ("23:59", 1_439), ("24:00", 1_440)] {
            let time: TimeOfDay = text.parse().unwrap();
            assert_eq!((time.minutes(), time.to_string().as_str()), (minutes, text));
        }
        for text in ["", "9:30", "09:60", "24:01", "25:00", "0930", "09:30:00", "+9:30", "ab:cd"] {
            assert!(text.parse::<TimeOfDay>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_date_exists() {
        assert_eq!("2028-02-29".parse::<Date>().unwrap().to_string(), "2028-02-29");
        for text in ["2027-02-29", "2027-13-01", "27-01-01", "2027-1-1", "2027-01-01T00:00", "01.01.2027"] {
            assert!(text.parse::<Date>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_quantity_is_a_number_and_a_known_suffix() {
        for text in ["1", "500m", "64Mi", "1Gi", "1.5G", ".5"] {
            assert_eq!(text.parse::<Quantity>().unwrap().as_str(), text);
        }
        assert_eq!(serde_json::from_str::<Quantity>("2").unwrap().as_str(), "2");
        for text in ["", "-1", "1gb", "1 Gi", "Gi", ".", "1..5"] {
            assert!(text.parse::<Quantity>().is_err(), "{text} was taken");
        }
    }
}
