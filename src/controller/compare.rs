//! Whether an object in the cluster is as it shall be. Pure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

/// Whether everything that is wanted stands in `live`. What the server or others have added to maps
/// does not matter; in lists it does, because there an addition cannot be told from a change.
#[must_use]
pub fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, value)| match live.get(key) {
            Some(live) => contains(live, value),
            // The server leaves empty things out.
            None => is_empty(value),
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        _ => live == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// A hash of an object without what changes by itself.
#[must_use]
pub fn hash(object: &Value) -> u64 {
    let mut object = object.clone();
    if let Some(members) = object.as_object_mut() {
        members.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for by_itself in ["resourceVersion", "managedFields", "generation", "uid", "creationTimestamp"] {
            metadata.remove(by_itself);
        }
    }
    let mut hasher = DefaultHasher::new();
    object.to_string().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_of_the_server_are_no_difference_and_edits_are() {
        let wanted =
            json!({"spec": {"replicas": 1, "ports": [{"name": "http", "port": 80}], "empty": {}, "none": null}});
        for (live, same) in [
            (
                json!({"spec": {"replicas": 1, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}, "status": {}}),
                true,
            ),
            (json!({"spec": {"replicas": 0, "ports": [{"name": "http", "port": 80}]}}), false),
            (
                json!({"spec": {"replicas": 1, "ports": [{"name": "http", "port": 80}, {"name": "more", "port": 81}]}}),
                false,
            ),
            (json!({"spec": {"replicas": 1, "ports": []}}), false),
            (json!({"spec": {"replicas": 1}}), false),
        ] {
            assert_eq!(contains(&live, &wanted), same, "{live}");
        }
    }

    #[test]
    fn a_status_or_a_new_version_is_no_other_object() {
        let before =
            json!({"metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"a": 1}, "status": {"ready": 0}});
        let after =
            json!({"metadata": {"name": "a", "resourceVersion": "2"}, "spec": {"a": 1}, "status": {"ready": 1}});
        let edited =
            json!({"metadata": {"name": "a", "resourceVersion": "2"}, "spec": {"a": 2}, "status": {"ready": 1}});
        assert_eq!(hash(&before), hash(&after));
        assert_ne!(hash(&before), hash(&edited));
    }
}
