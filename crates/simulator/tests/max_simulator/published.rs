//! The published shapes: our schemas of answers and updates, and their agreement with the published
//! document where it is at hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use maxchannel_simulator::max::VideoUrl;
use serde_json::{Value, json};

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas/max/answers")
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

static OBJECTS: LazyLock<Value> = LazyLock::new(|| read(&schemas().join("objects.json")));
static OPERATIONS: LazyLock<Value> = LazyLock::new(|| read(&schemas().join("operations.json")));
static VALIDATORS: LazyLock<BTreeMap<String, jsonschema::Validator>> = LazyLock::new(|| {
    let names = OBJECTS["$defs"].as_object().unwrap().keys();
    let one = |name: &String| {
        let mut schema = OBJECTS.clone();
        schema["$ref"] = json!(format!("#/$defs/{name}"));
        (name.clone(), jsonschema::validator_for(&schema).unwrap())
    };
    names.map(one).collect()
});

/// The value is an object of this name.
pub fn check(name: &str, value: &Value) {
    let errors: Vec<String> =
        VALIDATORS[name].iter_errors(value).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    assert!(errors.is_empty(), "not a {name}: {errors:#?}\n{value:#}");
}

/// The answer is what the operation promises, or the error envelope.
pub fn check_answer(method: &str, path: &str, status: u16, answer: &Value, video: VideoUrl) {
    if status != 200 {
        return check("Error", answer);
    }
    let path = path.split('?').next().unwrap();
    let fits = |pattern: &str| {
        let (wanted, found): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
        wanted.len() == found.len()
            && wanted.iter().zip(&found).all(|(wanted, found)| wanted == found || wanted.starts_with('{'))
    };
    let literal_first = |(pattern, _): &(&String, &Value)| pattern.matches('{').count();
    let mut operations: Vec<_> = OPERATIONS.as_object().unwrap().iter().collect();
    operations.sort_by_key(literal_first);
    let (_, name) = operations
        .into_iter()
        .find(|(operation, _)| {
            operation.split_once(' ').is_some_and(|(wanted, pattern)| wanted == method && fits(pattern))
        })
        .unwrap_or_else(|| panic!("no operation {method} {path}"));
    // A video without an address is a position of a switch that breaks the published shape on
    // purpose.
    if video != VideoUrl::Absent || !answer.to_string().contains("\"video\"") {
        check(name.as_str().unwrap(), answer);
    }
}

#[test]
fn our_schemas_agree_with_the_published_document() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/max-openapi.json");
    if !path.exists() {
        eprintln!("the published document is not at hand: not compared");
        return;
    }
    let published = read(&path);
    let defined = OBJECTS["$defs"].as_object().unwrap();
    let mut wrong = Vec::new();
    for (name, ours) in defined {
        if let Some(alternatives) = ours["oneOf"].as_array() {
            let mapping = published["components"]["schemas"][name]["discriminator"]["mapping"].as_object();
            let Some(mapping) = mapping else {
                wrong.push(format!("{name} has no alternatives in the document"));
                continue;
            };
            let mut theirs: Vec<&str> = mapping.values().map(last).collect();
            let mut mine: Vec<&str> = alternatives.iter().map(|one| last(&one["$ref"])).collect();
            theirs.sort_unstable();
            mine.sort_unstable();
            if theirs != mine {
                wrong.push(format!("{name}: {mine:?} is not {theirs:?}"));
            }
            continue;
        }
        let title = ours["title"].as_str().unwrap();
        let (properties, mut required) = flat(&published, title);
        let mine = ours["properties"].as_object().unwrap();
        for (property, theirs) in &properties {
            match mine.get(property) {
                None => wrong.push(format!("{title}.{property} is missing")),
                Some(own) if own["$comment"] == "live" || own.get("const").is_some() => {}
                Some(own) => {
                    let (own, theirs) = (shape(own, &OBJECTS), shape(theirs, &published));
                    if own != theirs {
                        wrong.push(format!("{title}.{property}: {own} is not {theirs}"));
                    }
                }
            }
        }
        for (property, own) in mine {
            if !properties.contains_key(property) && own["$comment"] != "live" {
                wrong.push(format!("{title}.{property} is not in the document"));
            }
        }
        let mut own: Vec<String> =
            ours["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect();
        own.sort();
        required.sort();
        required.dedup();
        if own != required {
            wrong.push(format!("{title} requires {own:?}, the document {required:?}"));
        }
    }
    for (operation, object) in OPERATIONS.as_object().unwrap() {
        let Some((method, pattern)) = operation.split_once(' ') else { continue };
        let found = published["paths"].as_object().unwrap().iter().find(|(path, _)| same_path(path, pattern));
        let answer = found.map(|(_, methods)| &methods[method.to_lowercase()]["responses"]["200"]);
        let answer = match answer.and_then(|answer| answer["$ref"].as_str()) {
            Some(reference) => &published["components"]["responses"][reference.rsplit('/').next().unwrap()],
            None => answer.unwrap_or(&Value::Null),
        };
        let theirs = answer.pointer("/content/application~1json/schema/$ref").map(last);
        if theirs != object.as_str() {
            wrong.push(format!("{operation}: {object} is not {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn same_path(theirs: &str, ours: &str) -> bool {
    let (theirs, ours): (Vec<&str>, Vec<&str>) = (theirs.split('/').collect(), ours.split('/').collect());
    theirs.len() == ours.len()
        && theirs
            .iter()
            .zip(&ours)
            .all(|(theirs, ours)| theirs == ours || (theirs.starts_with('{') && ours.starts_with('{')))
}

fn last(reference: &Value) -> &str {
    reference.as_str().unwrap().rsplit('/').next().unwrap()
}

/// All properties and required names of a published object, its ancestors' included.
fn flat(published: &Value, name: &str) -> (BTreeMap<String, Value>, Vec<String>) {
    fn gather(published: &Value, schema: &Value, properties: &mut BTreeMap<String, Value>, required: &mut Vec<String>) {
        if let Some(reference) = schema.get("$ref") {
            return gather(published, &published["components"]["schemas"][last(reference)], properties, required);
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            gather(published, part, properties, required);
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            properties.insert(name.clone(), property.clone());
        }
        required
            .extend(schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()));
    }
    let (mut properties, mut required) = (BTreeMap::new(), Vec::new());
    gather(published, &published["components"]["schemas"][name], &mut properties, &mut required);
    (properties, required)
}

/// A property's type in one spelling: `integer`, `string?`, `[Message]`, `User?`,
/// `string{dialog|chat}`.
fn shape(schema: &Value, document: &Value) -> String {
    let mut nullable = schema["nullable"] == json!(true);
    let mut schema = schema;
    if let Some(parts) = schema["allOf"].as_array().or(schema["oneOf"].as_array()) {
        nullable |= parts.iter().any(|part| part["type"] == "null");
        schema = &parts[0];
    }
    let mut out = if let Some(reference) = schema.get("$ref") {
        let target = document.pointer(&format!("/components/schemas/{}", last(reference)));
        match target {
            // Named scalars are nothing but their type.
            Some(target) if target["type"] != "object" => shape(target, document),
            _ => last(reference).to_owned(),
        }
    } else {
        let kind = match &schema["type"] {
            Value::Array(kinds) => {
                nullable |= kinds.contains(&json!("null"));
                kinds[0].as_str().unwrap_or_default()
            }
            kind => kind.as_str().unwrap_or_default(),
        };
        match kind {
            "array" => format!("[{}]", shape(&schema["items"], document)),
            "object" => format!("{{{}}}", shape(&schema["additionalProperties"], document)),
            kind => {
                let values: Vec<&str> =
                    schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                if values.is_empty() { kind.to_owned() } else { format!("{kind}{{{}}}", values.join("|")) }
            }
        }
    };
    if nullable {
        out.push('?');
    }
    out
}
