//! What a plain scalar (one without quotes) is to kubectl, and whether a reader of YAML 1.2 takes
//! it for the same.
//!
//! kubectl reads with go-yaml v2, which keeps much of YAML 1.1: `yes` is true, `0400` is octal,
//! `12_000` is a number. It knows no numbers to the base of 60, so `1:30` and `09:00` are texts,
//! and a date stays the text it was.

use serde_json::{Number, Value};

/// What a plain scalar is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Value(Value),
    Text,
    /// Infinite or not a number: JSON has no word for it, so it never arrives at the API server.
    NoJson,
}

/// The value as kubectl sends it, and what to tell the user where another reader takes it for
/// something else.
pub(super) fn read(text: &str) -> Result<(Value, Option<&'static str>), &'static str> {
    let (kubectl, core) = (kubectl(text), core(text));
    if kubectl == Scalar::NoJson {
        return Err("is no number that JSON can carry: put it in quotes, or write a number");
    }
    let note = match (&kubectl, &core) {
        (one, other) if one == other => None,
        (Scalar::Value(Value::Bool(true)), _) => {
            Some("is true for kubectl and a text for others: put it in quotes, or write true")
        }
        (Scalar::Value(Value::Bool(false)), _) => {
            Some("is false for kubectl and a text for others: put it in quotes, or write false")
        }
        (Scalar::Value(_), Scalar::Value(_)) => {
            Some("is octal for kubectl and decimal for others: put it in quotes, or remove the 0 in front")
        }
        (Scalar::Value(_), _) => {
            Some("is a number for kubectl and a text for others: put it in quotes, or write the number in digits only")
        }
        _ => Some("is a text for kubectl and a number for others: put it in quotes"),
    };
    let value = match kubectl {
        Scalar::Value(value) => value,
        _ => Value::String(text.to_owned()),
    };
    Ok((value, note))
}

/// By go-yaml v2, `resolve.go`.
pub(super) fn kubectl(text: &str) -> Scalar {
    let known = match text {
        "" | "~" | "null" | "Null" | "NULL" => Some(Value::Null),
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(Value::Bool(true)),
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            Some(Value::Bool(false))
        }
        _ => None,
    };
    if let Some(value) = known {
        return Scalar::Value(value);
    }
    if is_endless(text) {
        return Scalar::NoJson;
    }
    match text.as_bytes().first() {
        Some(b'.') => float(&text.replace('_', "")),
        Some(b'+' | b'-' | b'0'..=b'9') => {
            let plain = text.replace('_', "");
            go_integer(&plain).map_or_else(|| float(&plain), |number| Scalar::Value(number.into()))
        }
        _ => Scalar::Text,
    }
}

/// By the core schema of YAML 1.2.
fn core(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Value(Value::Null),
        "true" | "True" | "TRUE" => return Scalar::Value(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Scalar::Value(Value::Bool(false)),
        _ if is_endless(text) => return Scalar::NoJson,
        _ => {}
    }
    let based = text
        .strip_prefix("0x")
        .map(|digits| (digits, 16))
        .or_else(|| text.strip_prefix("0o").map(|digits| (digits, 8)));
    if let Some((digits, base)) = based {
        let integer = magnitude(digits, base).and_then(|number| integer(false, number));
        return integer.map_or(Scalar::Text, |number| Scalar::Value(number.into()));
    }
    let (negative, digits) = signed(text);
    let decimal = magnitude(digits, 10).and_then(|number| integer(negative, number));
    decimal.map_or_else(|| float(text), |number| Scalar::Value(number.into()))
}

fn is_endless(text: &str) -> bool {
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    matches!(bare, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

fn signed(text: &str) -> (bool, &str) {
    text.strip_prefix('-').map_or_else(|| (false, text.strip_prefix('+').unwrap_or(text)), |digits| (true, digits))
}

/// Go's `strconv.ParseInt` and, where that overflows, `ParseUint`, with the base taken from the
/// text.
fn go_integer(text: &str) -> Option<Number> {
    let (negative, bare) = signed(text);
    let lower = bare.get(..2).map(str::to_ascii_lowercase);
    let (digits, radix) = match lower.as_deref() {
        Some("0x") => (&bare[2..], 16),
        Some("0b") => (&bare[2..], 2),
        Some("0o") => (&bare[2..], 8),
        _ if bare.len() > 1 && bare.starts_with('0') => (&bare[1..], 8),
        _ => (bare, 10),
    };
    integer(negative, magnitude(digits, radix)?)
}

fn magnitude(digits: &str, base: u32) -> Option<u64> {
    let plain = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base));
    plain.then(|| u64::from_str_radix(digits, base).ok()).flatten()
}

fn integer(negative: bool, magnitude: u64) -> Option<Number> {
    if negative { 0_i64.checked_sub_unsigned(magnitude).map(Number::from) } else { Some(magnitude.into()) }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float(text: &str) -> Scalar {
    let (_, bare) = signed(text);
    let (mantissa, exponent) = match bare.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(signed(exponent).1)),
        None => (bare, None),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(whole, rest)| (whole, Some(rest)));
    let sound = digits(whole)
        && fraction.is_none_or(digits)
        && (!whole.is_empty() || fraction.is_some_and(|rest| !rest.is_empty()))
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    if !sound {
        return Scalar::Text;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite()).map_or(Scalar::Text, |n| Scalar::Value(number(n)))
}

/// A number as Go writes it into JSON: a whole one without its fraction.
pub(super) fn number(float: f64) -> Value {
    #[allow(clippy::cast_possible_truncation, reason = "it is whole and within the bounds")]
    let whole = (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64);
    whole.map_or_else(|| Number::from_f64(float).map_or(Value::Null, Value::Number), Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The values are those of go-yaml v2.4.3 and sigs.k8s.io/yaml v1.6.0, asked by
    /// `yaml.YAMLToJSON`.
    #[test]
    fn a_plain_scalar_is_what_kubectl_takes_it_for_and_is_told_of_where_others_read_it_differently() {
        let same = [
            ("", json!(null)),
            ("~", json!(null)),
            ("Null", json!(null)),
            ("True", json!(true)),
            ("0", json!(0)),
            ("-7", json!(-7)),
            ("+7", json!(7)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("3.0", json!(3)),
            ("1e3", json!(1000)),
            ("0.5", json!(0.5)),
            (".5", json!(0.5)),
            ("18446744073709551615", json!(u64::MAX)),
            ("08", json!(8)),
            ("1:30", json!("1:30")),
            ("09:00", json!("09:00")),
            ("2027-01-01", json!("2027-01-01")),
            ("2027-01-01T00:00:00Z", json!("2027-01-01T00:00:00Z")),
            ("text", json!("text")),
            ("yEs", json!("yEs")),
            ("none", json!("none")),
            ("0x", json!("0x")),
            ("1.2.3", json!("1.2.3")),
            ("1e", json!("1e")),
            ("-", json!("-")),
            ("=", json!("=")),
            ("400m", json!("400m")),
            ("0b2", json!("0b2")),
            ("1e400", json!("1e400")),
        ];
        for (text, value) in same {
            assert_eq!(read(text), Ok((value, None)), "{text}");
        }
        let differ = [
            ("yes", json!(true)),
            ("Y", json!(true)),
            ("on", json!(true)),
            ("no", json!(false)),
            ("n", json!(false)),
            ("OFF", json!(false)),
            ("0400012345", json!(67_114_213)),
            ("0101", json!(65)),
            ("-010", json!(-8)),
            ("12_000", json!(12_000)),
            ("1_0.5", json!(10.5)),
            ("0b101", json!(5)),
            ("0X1F", json!(31)),
            ("-0x1F", json!(-31)),
            ("0O17", json!(15)),
        ];
        for (text, value) in differ {
            let (read, note) = read(text).unwrap();
            assert_eq!(read, value, "{text}");
            assert!(note.is_some_and(|note| note.contains("put it in quotes")), "{text}");
        }
        for text in [".inf", "-.Inf", "+.INF", ".NaN"] {
            assert!(read(text).unwrap_err().contains("put it in quotes"), "{text}");
        }
    }
}
