//! Requests against schemas written from the reference, and those against the published schema
//! where it is at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use url::Url;

use crate::transport::Request;

fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas/max/requests").join(name);
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .unwrap()
}

fn queries() -> serde_json::Map<String, Value> {
    let Value::Object(mut queries) = schema("queries.json") else { panic!("queries.json is an object") };
    queries.remove("$comment");
    queries
}

pub(super) fn known_calls() -> BTreeSet<String> {
    queries().keys().cloned().collect()
}

fn assert_valid(schema: &Value, instance: &Value, what: &str) {
    let validator = jsonschema::validator_for(schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(instance).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{what} {instance}: {errors:?}");
}

/// Checks query and body of a request; returns the call it is.
pub(super) fn validate(request: &Request) -> String {
    let url: Url = request.uri().to_string().parse().unwrap();
    let path: Vec<&str> = url.path_segments().unwrap().collect();
    let path = match path.as_slice() {
        ["messages", _] => "messages/{messageId}".to_owned(),
        ["videos", _] => "videos/{videoToken}".to_owned(),
        ["chats", _, "actions"] => "chats/{chatId}/actions".to_owned(),
        other => other.join("/"),
    };
    let call = format!("{} /{path}", request.method());
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let known = queries();
    let query_schema = known.get(&call).unwrap_or_else(|| panic!("{call} is not a call of the schemas"));
    assert_valid(query_schema, &serde_json::to_value(query).unwrap(), &call);
    let body_schema = match call.as_str() {
        "POST /messages" | "PUT /messages" => Some("message.json"),
        "POST /answers" => Some("answer.json"),
        "POST /subscriptions" => Some("subscription.json"),
        "POST /chats/{chatId}/actions" => Some("action.json"),
        _ => None,
    };
    match body_schema {
        None => assert!(request.body().is_empty(), "{call} has no body"),
        Some(name) => {
            let body: Value = serde_json::from_slice(request.body()).unwrap();
            assert_valid(&schema(name), &body, &call);
            if let (true, Some(message)) = (name == "answer.json", body.get("message")) {
                assert_valid(&schema("message.json"), message, &call);
            }
        }
    }
    call
}

/// Every part of our schemas that names an object of the published one has the same fields, the
/// same required ones, the same words.
#[test]
fn the_schemas_of_requests_agree_with_the_published_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/max-openapi.json");
    let Ok(published) = std::fs::read_to_string(path) else { return };
    let published: Value = serde_json::from_str(&published).unwrap();
    let mut compared = 0;
    for name in ["message.json", "answer.json", "subscription.json", "action.json", "queries.json"] {
        compare(&schema(name), &published, &mut compared);
    }
    assert!(compared >= 17, "only {compared} objects were compared");
    for (call, ours) in queries() {
        let (method, path) = call.split_once(' ').unwrap();
        let operation = &published["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{call}");
        let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().collect();
        let names = |required: bool| -> BTreeSet<&str> {
            let in_query = parameters.iter().filter(|parameter| parameter["in"] == "query");
            in_query.filter(|p| !required || p["required"] == true).map(|p| p["name"].as_str().unwrap()).collect()
        };
        assert_eq!(fields(&ours).0, names(false), "{call}");
        assert_eq!(fields(&ours).1, names(true), "{call}");
    }
}

fn compare(ours: &Value, published: &Value, compared: &mut usize) {
    match ours {
        Value::Object(object) => {
            if let Some(title) = object.get("title").and_then(Value::as_str) {
                let theirs = &published["components"]["schemas"][title];
                assert!(theirs.is_object(), "{title} is not in the published schema");
                let mut flat = (BTreeSet::new(), BTreeSet::new());
                flatten(theirs, published, &mut flat);
                assert_eq!(fields(ours), flat, "{title}");
                assert_eq!(words(ours), words(theirs), "{title}");
                *compared += 1;
            }
            object.values().for_each(|value| compare(value, published, compared));
        }
        Value::Array(items) => items.iter().for_each(|item| compare(item, published, compared)),
        _ => {}
    }
}

type Fields<'a> = (BTreeSet<&'a str>, BTreeSet<&'a str>);

fn fields(schema: &Value) -> Fields<'_> {
    let names = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    (names, words_of(&schema["required"]))
}

/// The fields of an object and of all that it is composed of.
fn flatten<'a>(schema: &'a Value, published: &'a Value, into: &mut Fields<'a>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return flatten(&published["components"]["schemas"][name], published, into);
    }
    let (names, required) = fields(schema);
    into.0.extend(names);
    into.1.extend(required);
    schema["allOf"].as_array().into_iter().flatten().for_each(|part| flatten(part, published, into));
}

fn words(schema: &Value) -> BTreeSet<&str> {
    words_of(&schema["enum"])
}

fn words_of(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
