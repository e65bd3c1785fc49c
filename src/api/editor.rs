//! The schema of a manifest for editors, as plain JSON Schema: completion, descriptions and red
//! lines while one writes.
//!
//! What an API server alone understands is left out; what it fills in (the status) nobody writes.
//! Unknown fields are refused, as `check` refuses them. The CEL rules cannot be said in it: their
//! sentences stand in the descriptions.

use serde_json::{Value, json};

use super::crd::{self, API_VERSION, KIND};

/// The JSON Schema (draft 7, which every editor knows) of a MaxChannel manifest.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = crd::schema().clone();
    plain(&mut schema);
    let spec = schema["properties"]["spec"].take();
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "MaxChannel",
        "description": schema["description"],
        "type": "object",
        "additionalProperties": false,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": API_VERSION, "description": "The version of the resource"},
            "kind": {"const": KIND, "description": "The kind of the resource"},
            "metadata": {
                "type": "object",
                "description": "What every object of Kubernetes has",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "description": "The channel's name within its namespace"},
                    "namespace": {"type": "string", "description": "The namespace, in which its Secrets are, too"},
                    "labels": {"description": "Labels, by which tools select", "allOf": [texts]},
                    "annotations": {"description": "Annotations, for tools and for maxchannel.dev/…", "allOf": [texts]},
                },
            },
            "spec": spec,
            "status": {"description": "Written by the program: what it has found"},
        },
    })
}

/// Leaves JSON Schema of what the API server reads.
fn plain(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    if let Some(rules) = members.remove("x-kubernetes-validations") {
        let sentences = rules.as_array().into_iter().flatten().filter_map(|rule| rule["message"].as_str());
        let sentences = sentences.collect::<Vec<_>>().join("; ");
        let before = members.get("description").and_then(Value::as_str).unwrap_or_default();
        let whole = if before.is_empty() { sentences } else { format!("{before}\n\n{sentences}") };
        members.insert("description".to_owned(), Value::String(whole));
    }
    if members.get("x-kubernetes-int-or-string").is_some_and(|marked| marked == true) {
        members.remove("anyOf");
        members.insert("type".to_owned(), json!(["integer", "string"]));
    }
    members.retain(|key, _| !key.starts_with("x-kubernetes-"));
    let open = members.contains_key("additionalProperties");
    if let Some(properties) = members.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(plain);
        if !open {
            members.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
    }
    for below in ["items", "additionalProperties"] {
        if let Some(schema) = members.get_mut(below) {
            plain(schema);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    /// Every schema under `path`, with its path.
    fn each<'a>(path: &str, schema: &'a Value, seen: &mut Vec<(String, &'a Map<String, Value>)>) {
        let Some(members) = schema.as_object() else { return };
        seen.push((path.to_owned(), members));
        for (name, below) in members.get("properties").and_then(Value::as_object).into_iter().flatten() {
            each(&format!("{path}.{name}"), below, seen);
        }
        for below in ["items", "additionalProperties"] {
            if let Some(schema) = members.get(below) {
                each(&format!("{path}[]"), schema, seen);
            }
        }
    }

    #[test]
    fn every_field_is_described_and_nothing_of_kubernetes_own_dialect_is_left() {
        let schema = json_schema();
        let mut seen = Vec::new();
        each("", &schema, &mut seen);
        assert!(seen.len() > 100, "{}", seen.len());
        for (path, members) in seen {
            assert!(members.keys().all(|key| !key.starts_with("x-kubernetes-")), "{path}");
            let field = !path.ends_with("[]") && !path.is_empty();
            assert!(!field || members.get("description").is_some_and(|text| text != ""), "{path} is not described");
        }
    }

    #[test]
    fn it_takes_the_examples_and_refuses_what_check_refuses() {
        let validator = jsonschema::validator_for(&json_schema()).unwrap();
        let text = include_str!("../../examples/channel.yaml");
        let good: Value = serde_yaml::from_str(text).unwrap();
        let refused = |value: &Value| validator.iter_errors(value).map(|error| error.to_string()).collect::<Vec<_>>();
        assert_eq!(refused(&good), Vec::<String>::new());
        for (place, value) in [
            ("/kind", json!("MaxChanel")),
            ("/spec/tokenSecretRef", json!({"nam": "max-bot"})),
            ("/spec/creatio/url", json!(7)),
            ("/spec/relay/storage", json!({"volumeClaim": {"size": "1Gi", "sise": "2Gi"}})),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(place).unwrap_or_else(|| panic!("{place} is not in the example")) = value;
            assert!(!refused(&bad).is_empty(), "{place}");
        }
    }
}
