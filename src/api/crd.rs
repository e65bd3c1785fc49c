//! The CustomResourceDefinition, generated from the types, and its text.
//!
//! Three things differ from what the derive gives: nothing is `nullable` (an empty field would
//! count as given, and is refused with a sentence instead), an enumeration never lists `null`, and
//! a description breaks its lines between paragraphs only, not where the source does.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::Value;

use super::{MaxChannel, yaml};

/// API group of the resource.
pub const GROUP: &str = "maxchannel.dev";
/// Version of the resource.
pub const VERSION: &str = "v1alpha1";
/// Kind of the resource.
pub const KIND: &str = "MaxChannel";
/// `apiVersion` of the resource.
pub const API_VERSION: &str = "maxchannel.dev/v1alpha1";

static CRD: LazyLock<Value> = LazyLock::new(|| {
    let mut crd = serde_json::to_value(MaxChannel::crd()).expect("a CRD is made of maps with text keys");
    tidy(&mut crd);
    crd
});

/// The CustomResourceDefinition as it is installed.
pub fn crd() -> CustomResourceDefinition {
    serde_json::from_value(CRD.clone()).expect("it was a CRD before it became a value")
}

/// The CustomResourceDefinition as the text of `crds/maxchannels.yaml`.
pub fn crd_yaml() -> String {
    let text = yaml::write(&*CRD).expect("a CRD is made of maps with text keys");
    format!("# Generated from src/api by `make generate`; do not edit.\n{text}")
}

/// The schema of the one version.
pub(super) fn schema() -> &'static Value {
    &CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|key, member| key != "nullable" || !member.is_boolean());
            if let Some(Value::Array(values)) = members.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if let Some(Value::String(text)) = members.get_mut("description") {
                let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
                *text = paragraphs.collect::<Vec<_>>().join("\n\n");
            }
            members.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_crd_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/maxchannels.yaml");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == crd_yaml(), "crds/maxchannels.yaml is stale: run `make generate` and commit the result");
    }

    /// Every schema in the CRD with the way to it.
    fn walk<'a>(path: &str, schema: &'a Value, visit: &mut impl FnMut(&str, &'a serde_json::Map<String, Value>)) {
        let Some(members) = schema.as_object() else { return };
        visit(path, members);
        for (name, property) in members.get("properties").and_then(Value::as_object).into_iter().flatten() {
            walk(&format!("{path}.{name}"), property, visit);
        }
        for below in ["items", "additionalProperties"] {
            if let Some(schema) = members.get(below) {
                walk(&format!("{path}.{below}"), schema, visit);
            }
        }
    }

    #[test]
    fn the_schema_is_structural_and_everything_in_the_spec_is_bounded_and_explained() {
        let mut seen = 0;
        walk("", schema(), &mut |path, members| {
            seen += 1;
            for forbidden in
                ["oneOf", "anyOf", "allOf", "not", "$ref", "nullable", "definitions", "$defs", "uniqueItems"]
            {
                assert!(!members.contains_key(forbidden), "{path} has {forbidden}");
            }
            let format = members.get("format").and_then(Value::as_str).unwrap_or("int64");
            assert!(["int32", "int64", "date-time"].contains(&format), "{path} has the format {format}");
            let typed = members.contains_key("type") || members.contains_key("x-kubernetes-int-or-string");
            assert!(typed, "{path} has no type");
            assert!(
                members.get("enum").is_none_or(|values| !values.as_array().unwrap().contains(&Value::Null)),
                "{path}"
            );
            if !path.starts_with(".spec") {
                return;
            }
            let bounded = match members.get("type").and_then(Value::as_str) {
                Some("array") => members.contains_key("maxItems"),
                Some("string") => members.contains_key("maxLength") || members.contains_key("enum"),
                Some("object") => members.contains_key("properties") || members.contains_key("maxProperties"),
                _ => true,
            };
            let empty_member = ["longPoll", "mangoDialogs", "ephemeral"].iter().any(|name| path.ends_with(name));
            let bounded = bounded || empty_member || path.ends_with(".additionalProperties");
            assert!(bounded, "{path} has no bound");
            let part = ["items", "additionalProperties"].contains(&path.rsplit('.').next().unwrap_or_default());
            assert!(part || members.contains_key("description"), "{path} is not explained");
        });
        assert!(seen > 100, "only {seen} schemas were looked at");
    }

    #[test]
    fn names_and_columns_are_those_of_the_design() {
        let spec = crd().spec;
        assert_eq!(
            (spec.group.as_str(), spec.names.plural.as_str(), spec.scope.as_str()),
            (GROUP, "maxchannels", "Namespaced")
        );
        assert_eq!(spec.names.short_names.as_deref(), Some(&["mxc".to_owned()][..]));
        assert_eq!(spec.names.categories.as_deref(), Some(&["maxchannel".to_owned()][..]));
        let columns = spec.versions[0].additional_printer_columns.clone().unwrap();
        let (narrow, wide): (Vec<_>, Vec<_>) = columns.iter().partition(|column| column.priority.unwrap_or(0) == 0);
        assert_eq!(
            narrow.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["Ready", "Reason", "Bot", "Intake", "Age"]
        );
        assert_eq!(
            wide.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["Account", "Receiver", "Relay", "Message"]
        );
        assert!(spec.versions[0].subresources.as_ref().unwrap().status.is_some());
    }

    #[test]
    fn fields_with_a_fixed_value_say_it_in_the_schema() {
        let default = |pointer: &str| schema().pointer(pointer).and_then(|field| field.get("default")).cloned();
        for (pointer, value) in [
            ("/properties/spec/properties/tokenSecretRef/properties/key", serde_json::json!("token")),
            ("/properties/spec/properties/creatio/properties/pollInterval", serde_json::json!("2s")),
            ("/properties/spec/properties/creatio/properties/runtime", serde_json::json!("Auto")),
            (
                "/properties/spec/properties/creatio/properties/limits/properties/requestsPerSecond",
                serde_json::json!(20),
            ),
            (
                "/properties/spec/properties/receiver/properties/group/properties/distribution",
                serde_json::json!("LeastLoaded"),
            ),
            (
                "/properties/spec/properties/receiver/properties/group/properties/maxDialogsPerAgent",
                serde_json::json!(5),
            ),
            ("/properties/spec/properties/receiver/properties/bot/properties/timeout", serde_json::json!("5s")),
            ("/properties/spec/properties/relay/properties/retention", serde_json::json!("30d")),
            ("/properties/spec/properties/deletionPolicy", serde_json::json!("Delete")),
        ] {
            assert_eq!(default(pointer), Some(value), "{pointer}");
        }
    }
}
