//! The schema and the CEL rules of the CRD, in sentences.

use std::{collections::HashSet, sync::LazyLock};

use jsonschema::{
    ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
    paths::{Location, LocationSegment},
};
use kube::core::cel::{self, CompiledSchema, ErrorKind};
use serde_json::{Map, Value};

use super::{
    Finding,
    metadata::{LABEL_VALUE, QUALIFIED, SUBDOMAIN},
};
use crate::api::{
    crd,
    path::FieldPath,
    values::{DATE_PATTERN, DURATION_PATTERN, LABEL_VALUE_PATTERN, TAINT_KEY_PATTERN, TIME_OF_DAY_PATTERN},
    yaml::{TEMPLATE, is_template},
};

/// The schema with everything closed that has members of its own, so that an unknown field is an
/// error.
static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let mut schema = crd::schema().clone();
    close(&mut schema);
    // What every object has, and the API server checks by itself.
    for member in ["apiVersion", "kind", "metadata"] {
        schema["properties"][member] = Value::Object(Map::new());
    }
    jsonschema::validator_for(&schema).expect("the generated schema is a JSON schema")
});
static RULES: LazyLock<CompiledSchema> = LazyLock::new(|| cel::compile_schema(crd::schema()));

fn close(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    let open = members.contains_key("additionalProperties");
    if let Some(properties) = members.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(close);
    }
    for below in ["items", "additionalProperties"] {
        if let Some(schema) = members.get_mut(below) {
            close(schema);
        }
    }
    if !open && members.get("type").is_some_and(|kind| kind == "object") {
        members.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}

/// What the schema says about a manifest without status.
pub(super) fn findings(manifest: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    for error in SCHEMA.iter_errors(manifest) {
        describe(&error, manifest, &mut found);
    }
    // A text that is empty is also of no pattern; the first is enough.
    let mut told = HashSet::new();
    found.retain(|finding| told.insert(finding.field.clone()));
    // A member that is missing as well as misspelt is one mistake, not two.
    let misspelt: Vec<String> = found.iter().filter_map(|finding| suggestion(&finding.message)).collect();
    found.retain(|finding| {
        !misspelt.iter().any(|name| finding.field.last_key() == Some(name) && finding.message == MISSING)
    });
    found
}

/// What the CEL rules say: failures, and apart from them what could not be evaluated, which rules
/// cannot on values of a wrong type.
pub(super) fn rules(manifest: &Value) -> (Vec<Finding>, Vec<Finding>) {
    let errors = cel::Validator::new().validate_compiled(&RULES, manifest, None).err();
    let (failed, stumbled): (Vec<_>, Vec<_>) =
        errors.into_iter().flatten().partition(|error| error.kind == ErrorKind::ValidationFailure);
    let finding = |error: cel::ValidationError, message: String| {
        Finding::error(error.field_path.parse().unwrap_or_default(), message)
    };
    let failed = failed.into_iter().map(|error| finding(error.clone(), error.message)).collect();
    let stumbled = stumbled
        .into_iter()
        .map(|error| finding(error.clone(), format!("a rule could not be applied: {}", error.message)))
        .collect();
    (failed, stumbled)
}

const MISSING: &str = "is missing: add it";
const UNKNOWN: &str = "is not a known field: remove it";

/// What there is to say of a field that nobody knows.
pub(super) fn unknown_field(name: &str, known: &[&str]) -> String {
    let near = nearest(name, known).map(|near| format!(", or write {near:?} if that is meant"));
    format!("{UNKNOWN}{}", near.unwrap_or_default())
}

pub(super) fn is_unknown(finding: &Finding) -> bool {
    finding.message.starts_with(UNKNOWN)
}

fn describe(error: &ValidationError<'_>, manifest: &Value, found: &mut Vec<Finding>) {
    let field = path(error.instance_path(), manifest);
    let value = error.instance();
    let message = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = known_members(error);
            for name in unexpected {
                found.push(Finding::error(field.key(name), unknown_field(name, &known)));
            }
            return;
        }
        // An object without any member of its own; the error speaks of the object, and its value is
        // that of the member.
        ValidationErrorKind::FalseSchema => {
            let object = manifest.pointer(error.instance_path().as_str()).and_then(Value::as_object);
            for name in object.into_iter().flat_map(Map::keys) {
                found.push(Finding::error(field.key(name), UNKNOWN));
            }
            return;
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            found.push(Finding::error(field.key(name), MISSING));
            return;
        }
        ValidationErrorKind::Type { kind: TypeKind::Single(wanted) } => {
            let wanted = wanted.to_string();
            type_message(&wanted, value)
        }
        ValidationErrorKind::MaxLength { limit } => {
            let length = value.as_str().map_or(0, |text| text.chars().count());
            format!("has {length} characters, at most {limit} are allowed: shorten it")
        }
        ValidationErrorKind::MinLength { limit: 1 } => "is empty: fill it in, or remove it".to_owned(),
        ValidationErrorKind::MinLength { limit } => {
            let length = value.as_str().map_or(0, |text| text.chars().count());
            format!("has {length} characters, at least {limit} are needed")
        }
        ValidationErrorKind::Pattern { pattern } => pattern_message(pattern, &field, value),
        ValidationErrorKind::Enum { options } => {
            let options: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            format!("is not one of the known values: write one of {}", options.join(", "))
        }
        ValidationErrorKind::Minimum { limit } => format!("is {value}, the least is {}", whole(limit)),
        ValidationErrorKind::Maximum { limit } => format!("is {value}, the most is {}", whole(limit)),
        ValidationErrorKind::MaxItems { limit } => {
            let count = value.as_array().map_or(0, Vec::len);
            format!("has {count} entries, at most {limit} are allowed")
        }
        ValidationErrorKind::MinItems { .. } => "is empty: add an entry, or remove it".to_owned(),
        ValidationErrorKind::MaxProperties { limit } => {
            let count = value.as_object().map_or(0, Map::len);
            format!("has {count} entries, at most {limit} are allowed")
        }
        // The schema uses no other keyword; should one come, its own words are better than silence,
        // without the value.
        _ => error.masked().to_string(),
    };
    let template = value.as_str().is_some_and(is_template);
    found.push(Finding::error(field, if template { TEMPLATE.to_owned() } else { message }));
}

/// Kubernetes writes bounds as fractions, `100.0`.
fn whole(limit: &Value) -> String {
    limit.as_f64().map_or_else(|| limit.to_string(), |limit| limit.to_string())
}

fn type_message(wanted: &str, value: &Value) -> String {
    let wanted_words = match wanted {
        "object" => "a mapping of fields",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "boolean" => "true or false",
        other => other,
    };
    match value {
        Value::Null => format!("is empty: give {wanted_words}, or remove it"),
        Value::Number(_) | Value::Bool(_) if wanted == "string" => "must be a text: put it in quotes".to_owned(),
        Value::String(text) if wanted == "integer" && text.parse::<i64>().is_ok() => {
            "must be a number: remove the quotes".to_owned()
        }
        _ => {
            let given = match value {
                Value::Bool(_) => "true or false",
                Value::Number(_) => "a number",
                Value::String(_) => "a text",
                Value::Array(_) => "a list",
                _ => "a mapping of fields",
            };
            format!("must be {wanted_words}, not {given}")
        }
    }
}

fn pattern_message(pattern: &str, field: &FieldPath, value: &Value) -> String {
    match (pattern, field.last_key()) {
        (DURATION_PATTERN, _) => {
            format!("{value} is not a duration: write a whole number and one of s, m, h, d, like 90s, 15m, 24h or 30d")
        }
        (TIME_OF_DAY_PATTERN, _) => format!("{value} is not a time of day: write hours and minutes like 09:30"),
        (DATE_PATTERN, _) => format!("{value} is not a date: write it like 2027-01-01"),
        (_, Some("accountNumber" | "extension")) => "must be digits only".to_owned(),
        (_, Some("className" | "storageClassName")) => format!("is not a name of the cluster: {SUBDOMAIN}"),
        (_, Some("name" | "tlsSecretName")) => format!("is not the name of a Secret: {SUBDOMAIN}"),
        (TAINT_KEY_PATTERN, _) => format!("is not the key of a taint: {QUALIFIED}"),
        (LABEL_VALUE_PATTERN, _) => format!("is not the value of a label: {LABEL_VALUE}"),
        (_, Some("key")) => "is not a key of a Secret: Latin letters, digits, dots, hyphens and underscores".to_owned(),
        (_, Some("host")) => {
            "must be a bare name like max.acme.ru, in lower-case letters, without scheme, port and path".to_owned()
        }
        (_, Some("site")) => {
            "must be https:// and a name of Latin letters, digits, dots and hyphens, without a path, like https://acme.ru"
                .to_owned()
        }
        (_, Some("username")) => {
            "must begin with a lower-case Latin letter, have only Latin letters, digits and _, and end in bot".to_owned()
        }
        (_, Some("url" | "identityUrl")) => {
            let begins = value.as_str().is_some_and(|text| text.starts_with("https://") || text.starts_with("http://"));
            if begins {
                "must be a host and perhaps a path, and end before ? and #, without spaces: remove what follows".to_owned()
            } else {
                "must be an address that begins with https:// or http://".to_owned()
            }
        }
        _ => format!("must match {pattern}"),
    }
}

/// A pointer into the manifest as a path; what is an index and what a key is told by the manifest.
fn path(location: &Location, manifest: &Value) -> FieldPath {
    let mut place = Some(manifest);
    let mut path = FieldPath::default();
    for segment in location.segments() {
        let text = segment.to_string();
        match (place, segment) {
            (Some(Value::Array(items)), LocationSegment::Index(index)) => {
                path = path.index(index);
                place = items.get(index);
            }
            (at, _) => {
                path = path.key(&text);
                place = at.and_then(|value| value.get(&text));
            }
        }
    }
    path
}

/// The members that the schema knows at the place of an error.
fn known_members(error: &ValidationError<'_>) -> Vec<&'static str> {
    let place = error.schema_path().as_str().trim_end_matches("/additionalProperties");
    let properties =
        crd::schema().pointer(place).and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    properties.map(|members| members.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// The known name that is nearest to a misspelt one, if it is near.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.chars().count() > 64 {
        return None;
    }
    let wanted = name.to_lowercase().replace(['-', '_'], "");
    known
        .iter()
        .map(|candidate| (distance(&wanted, &candidate.to_lowercase()), *candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 2 && *distance * 2 <= candidate.len())
        .map(|(_, candidate)| candidate)
}

/// The number of letters to add, remove or change.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn suggestion(message: &str) -> Option<String> {
    let rest = message.strip_prefix(UNKNOWN)?.strip_prefix(", or write \"")?;
    rest.split('"').next().map(str::to_owned)
}
