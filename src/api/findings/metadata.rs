//! What the API server checks of every object by itself: names, labels, annotations, owners, and
//! fields that it does not know.

use serde_json::{Map, Value};

use super::{Finding, schema::unknown_field};
use crate::api::path::FieldPath;

/// The annotation that accepts another bot in the place of the channel's: its user id.
pub const ACCEPT_BOT: &str = "maxchannel.dev/accept-bot";
/// The most bytes of all annotations together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// What a name must be.
pub(super) const LABEL: &str = "lower-case Latin letters, digits and hyphens, with a letter or digit at both ends";
pub(super) const SUBDOMAIN: &str =
    "lower-case Latin letters, digits, hyphens and dots, with a letter or digit at both ends and around each dot";
pub(super) const LABEL_VALUE: &str =
    "at most 63 Latin letters, digits, hyphens, underscores and dots, with a letter or digit at both ends";
pub(super) const QUALIFIED: &str = "at most 63 Latin letters, digits, hyphens, underscores and dots, with a letter or digit at \
                         both ends, perhaps behind a domain and a slash, like acme.ru/team";

/// The fields of `metadata`, and what each holds.
const FIELDS: [(&str, Holds); 15] = [
    ("name", Holds::Text),
    ("generateName", Holds::Text),
    ("namespace", Holds::Text),
    ("selfLink", Holds::Text),
    ("uid", Holds::Text),
    ("resourceVersion", Holds::Text),
    ("generation", Holds::Number),
    ("creationTimestamp", Holds::Time),
    ("deletionTimestamp", Holds::Time),
    ("deletionGracePeriodSeconds", Holds::Number),
    ("labels", Holds::Texts),
    ("annotations", Holds::Texts),
    ("ownerReferences", Holds::Owners),
    ("finalizers", Holds::List),
    ("managedFields", Holds::Anything),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Text,
    Number,
    Time,
    Texts,
    Owners,
    List,
    Anything,
}

/// A label as of a host name: RFC 1123.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// Labels with dots between them; only the whole is bounded.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// The value of a label, which may be empty.
pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty()
        || (text.len() <= 63
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric()))
}

/// The key of a label.
pub(super) fn is_qualified(text: &str) -> bool {
    let (domain, name) = text.split_once('/').map_or((None, text), |(domain, name)| (Some(domain), name));
    domain.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}

/// What is wrong with the value of a label, if anything.
pub(super) fn label_value(text: &str, at: &FieldPath, found: &mut Vec<Finding>) {
    if !is_label_value(text) {
        found.push(Finding::error(at.clone(), format!("is not the value of a label: {LABEL_VALUE}")));
    }
}

/// What is wrong with the key of a label, if anything.
pub(super) fn label_key(text: &str, at: &FieldPath, found: &mut Vec<Finding>) {
    if !is_qualified(text) {
        found.push(Finding::error(at.clone(), format!("is not the key of a label: {QUALIFIED}")));
    }
}

/// Of a channel. The name of a channel is the beginning of the name of a Service, and is stricter
/// than the API server's own rule.
pub(super) fn of_channel(manifest: &Value, found: &mut Vec<Finding>) {
    let at = FieldPath::default().key("metadata");
    match manifest.pointer("/metadata/name") {
        Some(Value::String(name)) if !is_label(name) => {
            found.push(Finding::error(at.key("name"), format!("is not a name: {LABEL}")));
        }
        Some(Value::String(name)) if name.starts_with(|c: char| c.is_ascii_digit()) => {
            let message = "begins with a digit, and the Service that is named after it may not: begin with a letter";
            found.push(Finding::error(at.key("name"), message));
        }
        Some(Value::String(_)) => {}
        _ => found.push(Finding::error(at.key("name"), "is missing: give the channel a name, a text")),
    }
    let accepted = manifest.get("metadata").and_then(|metadata| metadata.get("annotations")?.get(ACCEPT_BOT)?.as_str());
    if accepted.is_some_and(|text| text.trim().parse::<i64>().is_err()) {
        let message = "is not the user id of a bot: write its number, as TokenAuthorized names it, in quotes";
        found.push(Finding::error(at.key("annotations").key(ACCEPT_BOT), message));
    }
    of_all(manifest, found);
}

/// Of a Secret: what is wrong with each field.
pub(in crate::api) fn secret_problems(manifest: &Value) -> Vec<(FieldPath, String)> {
    let mut found = Vec::new();
    let at = FieldPath::default();
    let known = ["apiVersion", "kind", "metadata", "data", "stringData", "type", "immutable"];
    for name in manifest.as_object().into_iter().flat_map(Map::keys) {
        if !known.contains(&name.as_str()) {
            found.push(Finding::error(at.key(name), unknown_field(name, &known)));
        }
    }
    if manifest.pointer("/metadata/name").and_then(Value::as_str).is_some_and(|name| !is_subdomain(name)) {
        found.push(Finding::error(at.key("metadata").key("name"), format!("is not the name of a Secret: {SUBDOMAIN}")));
    }
    if manifest.get("type").is_some_and(|kind| !kind.is_string() && !kind.is_null()) {
        found.push(Finding::error(at.key("type"), "must be a text: put it in quotes"));
    }
    if manifest.get("immutable").is_some_and(|value| !value.is_boolean() && !value.is_null()) {
        found.push(Finding::error(at.key("immutable"), "must be true or false"));
    }
    for member in ["data", "stringData"] {
        for key in manifest.get(member).and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
            if !plain || key.is_empty() || key.len() > 253 || key == "." || key.starts_with("..") {
                let message = "is not a key of a Secret: Latin letters, digits, dots, hyphens and underscores";
                found.push(Finding::error(at.key(member).key(key), message));
            }
        }
    }
    of_all(manifest, &mut found);
    found.into_iter().map(|finding| (finding.field, finding.message)).collect()
}

fn of_all(manifest: &Value, found: &mut Vec<Finding>) {
    let at = FieldPath::default().key("metadata");
    let Some(metadata) = manifest.get("metadata").and_then(Value::as_object) else { return };
    let known = FIELDS.map(|(name, _)| name);
    for (name, value) in metadata {
        let field = at.key(name);
        match FIELDS.iter().find(|(known, _)| known == name).map(|(_, holds)| *holds) {
            None => found.push(Finding::error(field, unknown_field(name, &known))),
            Some(_) if value.is_null() => {}
            // Said in other words above.
            Some(Holds::Text) if name == "name" => {}
            Some(holds) => member(holds, value, &field, found),
        }
    }
    match metadata.get("namespace") {
        Some(Value::String(namespace)) if !namespace.is_empty() && !is_label(namespace) => {
            found.push(Finding::error(at.key("namespace"), format!("is not a namespace: {LABEL}")));
        }
        _ => {}
    }
    let labels = metadata.get("labels").and_then(Value::as_object);
    for (key, value) in labels.into_iter().flatten() {
        let field = at.key("labels").key(key);
        label_key(key, &field, found);
        if let Some(value) = value.as_str().filter(|_| is_qualified(key)) {
            label_value(value, &field, found);
        }
    }
    let annotations = metadata.get("annotations").and_then(Value::as_object);
    annotation_keys(annotations, &at.key("annotations"), found);
    for (index, finalizer) in metadata.get("finalizers").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if finalizer.as_str().is_some_and(|name| !is_qualified(name)) {
            let message = "is not a finalizer: write a domain, a slash and a name, like acme.ru/keep";
            found.push(Finding::error(at.key("finalizers").index(index), message));
        }
    }
}

/// Keys of annotations, here and of the objects that are made.
pub(super) fn annotation_keys(annotations: Option<&Map<String, Value>>, at: &FieldPath, found: &mut Vec<Finding>) {
    let mut length = 0;
    for (key, value) in annotations.into_iter().flatten() {
        length += key.len() + value.as_str().map_or(0, str::len);
        if !is_qualified(&key.to_lowercase()) {
            found.push(Finding::error(at.key(key), format!("is not the key of an annotation: {QUALIFIED}")));
        }
    }
    if length > MAX_ANNOTATIONS {
        let message = format!("have {length} bytes together, at most {MAX_ANNOTATIONS} are allowed: shorten them");
        found.push(Finding::error(at.clone(), message));
    }
}

fn member(holds: Holds, value: &Value, at: &FieldPath, found: &mut Vec<Finding>) {
    let mut error = |field: FieldPath, message: &str| found.push(Finding::error(field, message));
    match (holds, value) {
        (Holds::Text, Value::String(_)) | (Holds::Anything, _) => {}
        (Holds::Text, _) => error(at.clone(), "must be a text: put it in quotes"),
        (Holds::Number, value) if value.is_i64() => {}
        (Holds::Number, _) => error(at.clone(), "must be a whole number"),
        (Holds::Time, Value::String(text)) if text.parse::<jiff::Timestamp>().is_ok() => {}
        (Holds::Time, _) => {
            error(at.clone(), "must be a time like 2026-11-24T17:50:00Z: remove it, the cluster sets it");
        }
        (Holds::Texts, Value::Object(members)) => {
            for (key, value) in members {
                if !value.is_string() && !value.is_null() {
                    error(at.key(key), "must be a text: put it in quotes");
                }
            }
        }
        (Holds::Texts, _) => error(at.clone(), "must be a mapping of keys to texts"),
        (Holds::List, Value::Array(items)) => {
            for (index, _) in items.iter().enumerate().filter(|(_, item)| !item.is_string()) {
                error(at.index(index), "must be a text: put it in quotes");
            }
        }
        (Holds::Owners, Value::Array(owners)) => {
            for (index, owner) in owners.iter().enumerate() {
                owner_reference(owner, &at.index(index), found);
            }
            let rules = owners.iter().filter(|owner| owner["controller"] == true).count();
            if rules > 1 {
                let message = "names more than one controller: leave controller: true with one of them";
                found.push(Finding::error(at.clone(), message));
            }
        }
        (Holds::List | Holds::Owners, _) => error(at.clone(), "must be a list"),
    }
}

fn owner_reference(owner: &Value, at: &FieldPath, found: &mut Vec<Finding>) {
    let Some(members) = owner.as_object() else {
        found.push(Finding::error(at.clone(), "must be a mapping of fields"));
        return;
    };
    let known = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    for (name, value) in members {
        let message = match name.as_str() {
            "apiVersion" | "kind" | "name" | "uid" if !value.is_string() => {
                "must be a text: put it in quotes".to_owned()
            }
            "controller" | "blockOwnerDeletion" if !value.is_boolean() && !value.is_null() => {
                "must be true or false".to_owned()
            }
            name if !known.contains(&name) => unknown_field(name, &known),
            _ => continue,
        };
        found.push(Finding::error(at.key(name), message));
    }
    for name in ["apiVersion", "kind", "name", "uid"] {
        if members.get(name).is_none_or(|value| *value == "" || value.is_null()) {
            found.push(Finding::error(at.key(name), "is missing: add it, or remove the owner"));
        }
    }
}
