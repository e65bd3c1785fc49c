//! `check` held against the API server itself, over small variations of one manifest that has every
//! field: whatever the server refuses, `check` refuses. Where `check` is stricter, the reason
//! stands here.

use maxchannel::api::{self, Severity};
use serde_json::{Value, json};

use crate::world::{Cluster, World};

/// Why `check` refuses what the server takes, by words of the finding. Everything else that it
/// refuses alone is a fault.
const STRICTER: [(&str, &str); 28] = [
    ("is not a quantity", "the server takes any text and any number for one, and refuses the claim or the pod later"),
    ("is more than the limit", "the server refuses the pod later"),
    ("is no resource of a container", "the server refuses the pod later"),
    ("is nothing: give the size", "the server refuses the claim later"),
    ("is not the key of", "the server refuses the pod or the Ingress later"),
    ("is not a time zone", "no rule of a schema knows the names of zones"),
    ("is not in the calendar", "no pattern knows the lengths of months"),
    ("is a duplicate", "no rule may compare all entries of so long a list"),
    ("overlaps", "no rule may compare all entries of so long a list"),
    ("is a holiday as well", "no rule may compare all entries of so long a list"),
    ("is blank", "the server's patterns know no Unicode classes of characters that cannot be seen"),
    ("no emoji", "the server's patterns know no Unicode classes of letters"),
    ("is not a telephone of the card", "its groups are beyond a pattern"),
    ("has two dots in a row", "the server's patterns cannot look ahead"),
    ("is not an address", "the server knows no addresses"),
    ("MAX calls https:// only", "a rule would lock objects that are stored already"),
    ("is not the user id of a bot", "the server knows no values of annotations"),
    ("names the port 0", "the server knows no addresses"),
    ("holds a login", "the server knows no addresses"),
    ("is the address of a page of the CRM", "the server knows no addresses of Creatio"),
    ("is not compared with the operator Exists", "the server refuses the pod later"),
    ("has no key: give one, or set the operator", "the server refuses the pod later"),
    ("NoExecute only", "the server refuses the pod later"),
    (
        "begins with a digit",
        "the server refuses the Service later, and a rule would lock objects that are stored already",
    ),
    (
        "is not a name: lower-case",
        "the server refuses the Service later, and a rule would lock objects that are stored already",
    ),
    ("cannot be read: invalid type: null, expected a string", "the server reads an empty text"),
    (
        "cannot be read: invalid type: floating point `3.0`",
        "the server takes it for 3; in JSON only, as YAML 3.0 is read so here, too",
    ),
    ("is empty: give", "the server drops an empty field, and takes the manifest for another one than was written"),
];

/// Every field, each with a value that is right.
fn whole() -> Value {
    json!({
        "apiVersion": "maxchannel.dev/v1alpha1",
        "kind": "MaxChannel",
        "metadata": {"name": "verdict", "labels": {"team": "support"}, "annotations": {"acme.ru/note": "Поддержка"}},
        "spec": {
            "tokenSecretRef": {"name": "max-bot", "key": "token"},
            "mango": {"accountNumber": "400012345", "credentialsSecretRef": {"name": "mango-api"}},
            "creatio": {
                "url": "https://acme.creatio.com", "identityUrl": "https://acme-is.creatio.com",
                "credentialsSecretRef": {"name": "creatio"}, "runtime": "Auto", "pollInterval": "2s",
                "limits": {"requestsPerSecond": 20, "inFlight": 8}, "caSecretRef": {"name": "ca", "key": "ca.crt"}
            },
            "receiver": {"bot": {
                "url": "https://bot.acme.ru", "credentialsSecretRef": {"name": "bot", "key": "token"}, "timeout": "5s",
                "fallback": {"group": {
                    "name": "Поддержка", "distribution": "LeastLoaded", "maxDialogsPerAgent": 5,
                    "crmUsers": [{"extension": "101", "crmUser": "a.petrova"}]
                }}
            }},
            "autoReplies": [{"after": "30s", "repeatEvery": "5m", "repeatLimit": 3, "text": "Ждите"}],
            "workingHours": {
                "timeZone": "Europe/Moscow", "week": [{"days": ["Mon", "Tue"], "from": "09:00", "to": "18:00"}],
                "holidays": ["2027-01-01"], "workdays": [{"date": "2026-12-26", "from": "10:00", "to": "15:00"}]
            },
            "offHours": {"autoReplies": [{"after": "0s", "text": "Завтра"}]},
            "closeMessage": {"text": "Спасибо"},
            "autoClose": {"after": "24h"},
            "botCard": {
                "name": "Служба", "username": "id7700000000_bot", "phone": "+7 999-99-99", "site": "https://acme.ru",
                "description": "Поддержка"
            },
            "intake": {
                "webhook": {"host": "max.acme.ru", "ingress": {
                    "className": "nginx", "annotations": {"acme.ru/a": "b"}, "tlsSecretName": "tls"
                }},
                "onForeignSubscription": "Report"
            },
            "relay": {
                "storage": {"volumeClaim": {"size": "1Gi", "storageClassName": "fast"}}, "retention": "30d",
                "resources": {"requests": {"cpu": "10m"}, "limits": {"cpu": "1", "memory": "64Mi"}},
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5}],
                "imagePullSecrets": [{"name": "registry"}]
            },
            "suspend": false,
            "deletionPolicy": "Delete"
        }
    })
}

/// Pointers to everything in a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    if !at.is_empty() {
        found.push(at.to_owned());
    }
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(key, below)| places(below, &format!("{at}/{}", escaped(key)), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, below)| places(below, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

/// What is tried in place of a value.
fn others(value: &Value) -> Vec<Value> {
    let mut others =
        vec![json!(null), json!(true), json!(7), json!(-1), json!(1.5), json!("x"), json!(""), json!([]), json!({})];
    match value {
        Value::String(text) => {
            others.extend(
                [text.to_uppercase(), format!("{text} "), format!("-{text}"), format!("{text}."), text.repeat(300)]
                    .map(Value::from),
            );
            others.extend(
                [
                    "1s",
                    "0s",
                    "25h",
                    "59s",
                    "4000d",
                    "24:00",
                    "9:00",
                    "2027-02-30",
                    "a..b",
                    "a_b",
                    "1a",
                    "https://",
                    "http://a?b",
                    "https://a/b#c",
                    "ftp://a",
                    "None",
                    "Mon",
                    "\u{a0}",
                    "🙂",
                    "a/b",
                ]
                .map(Value::from),
            );
        }
        Value::Number(_) => others.extend([json!(0), json!(101), json!(i64::MAX), json!(3.0), json!("3")]),
        Value::Array(items) => {
            others.push(Value::Array(items.iter().cycle().take(items.len() * 2).cloned().collect()));
            others.push(Value::Array(items.iter().cycle().take(500).cloned().collect()));
            others.push(json!([null]));
        }
        Value::Object(members) => {
            let mut more = members.clone();
            more.insert("nobodyKnowsThis".to_owned(), json!(1));
            others.push(Value::Object(more));
            others.push(Value::Object((0..40).map(|n| (format!("k{n}"), json!("v"))).collect()));
        }
        _ => {}
    }
    others
}

fn variations() -> Vec<(String, Value)> {
    let whole = whole();
    let mut places_found = Vec::new();
    places(&whole, "", &mut places_found);
    let mut found = vec![("nothing".to_owned(), whole.clone())];
    for place in places_found.iter().filter(|place| !matches!(place.as_str(), "/apiVersion" | "/kind")) {
        let old = whole.pointer(place).unwrap();
        for new in others(old) {
            let mut manifest = whole.clone();
            *manifest.pointer_mut(place).unwrap() = new.clone();
            let shown: String = new.to_string().chars().take(60).collect();
            found.push((format!("{place} = {shown}"), manifest));
        }
        let (parent, key) = place.rsplit_once('/').unwrap();
        let mut manifest = whole.clone();
        if let Some(members) = manifest.pointer_mut(parent).and_then(Value::as_object_mut) {
            members.remove(&key.replace("~1", "/"));
            found.push((format!("{place} away"), manifest));
        }
    }
    let mut with = |place: &str, key: &str, value: Value| {
        let mut manifest = whole.clone();
        manifest.pointer_mut(place).unwrap()[key] = value.clone();
        found.push((format!("{place}/{key} = {value}"), manifest));
    };
    for (place, key, value) in [
        ("/metadata", "lables", json!({"a": "b"})),
        ("/metadata", "labels", json!({"a": 1})),
        ("/metadata", "labels", json!({"a": "b c"})),
        ("/metadata", "labels", json!({"a/b/c": "d"})),
        ("/metadata", "labels", json!({"A.b/c": "d"})),
        ("/metadata", "annotations", json!({"a b": "c"})),
        ("/metadata", "annotations", json!({"A/b": "c"})),
        ("/metadata", "annotations", json!({"a": "b".repeat(300_000)})),
        ("/metadata", "annotations", json!({"maxchannel.dev/accept-bot": "the other"})),
        ("/metadata", "annotations", json!({"maxchannel.dev/accept-bot": "4711"})),
        ("/metadata", "finalizers", json!(["keep"])),
        ("/metadata", "finalizers", json!(["acme.ru/keep"])),
        ("/metadata", "finalizers", json!([1])),
        ("/metadata", "ownerReferences", json!([{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "b"}])),
        ("/metadata", "ownerReferences", json!([{"apiVersion": "v1", "kind": "Pod", "name": "a"}])),
        ("/metadata", "creationTimestamp", json!("yesterday")),
        ("/metadata", "generation", json!("1")),
        ("/metadata", "name", json!("1c-support")),
        ("/metadata", "name", json!("24x7")),
        ("/metadata", "name", json!("a.b")),
        ("/metadata", "name", json!("a".repeat(46))),
        ("/metadata", "name", json!("a".repeat(47))),
        ("/spec", "receiver", json!({"employee": {"extension": "1"}, "group": {"id": 1}})),
        ("/spec", "receiver", json!({"employee": {"extension": "1", "userId": 1}})),
        ("/spec", "receiver", json!({"employee": {"userId": 0}})),
        ("/spec", "receiver", json!({"bot": {"url": "https://a"}})),
        ("/spec", "intake", json!({"longPoll": {}})),
        ("/spec", "intake", json!({"longPoll": {}, "mangoDialogs": {}})),
        ("/spec", "intake", json!({"longPoll": {"a": 1}})),
        ("/spec", "intake", json!({"webhook": {"url": "https://a.ru/b"}})),
        ("/spec", "intake", json!({"webhook": {"url": "http://a.ru/b"}})),
        ("/spec", "intake", json!({"webhook": {"url": "https://a.ru", "ingress": {}}})),
        ("/spec", "offHours", json!({"bot": {"url": "https://a"}})),
        // Both take it; `check` warns of the second.
        ("/spec", "autoReplies", json!([{"after": "30s", "text": "a"}, {"after": "30s", "text": "a"}])),
        ("/spec", "autoReplies", json!([{"after": "30s", "text": "a"}, {"after": "30s", "text": "b"}])),
        ("/spec/relay", "storage", json!({"ephemeral": {}, "volumeClaim": {}})),
        ("/spec/botCard", "site", json!("https://acme.ru/shop")),
        ("/spec/creatio", "url", json!("https://acme.ru?a")),
    ] {
        with(place, key, value);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_api_server_refuses_check_refuses_and_where_it_is_stricter_there_is_a_reason() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let address = format!(
        "/apis/maxchannel.dev/v1alpha1/namespaces/{}/maxchannels?dryRun=All&fieldValidation=Strict",
        world.namespace
    );
    let (mut agree, mut stricter, mut faults) = (0, Vec::new(), Vec::new());
    for (name, manifest) in variations() {
        let request = http::Request::post(&address)
            .header("content-type", "application/json")
            .body(manifest.to_string().into_bytes())
            .unwrap();
        let refusal = match cluster.client.request::<Value>(request).await {
            Ok(_) => None,
            Err(kube::Error::Api(status)) => Some(status.message),
            Err(error) => panic!("{name}: {error}"),
        };
        let errors: Vec<String> = api::findings(&manifest)
            .into_iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| finding.to_string())
            .collect();
        match (refusal, errors.is_empty()) {
            (None, true) | (Some(_), false) => agree += 1,
            (Some(refusal), true) => faults.push(format!("{name}\n  server: {refusal}\n  check: nothing")),
            (None, false) => {
                let reason = |error: &String| STRICTER.iter().any(|(words, _)| error.contains(words));
                if errors.iter().all(reason) {
                    stricter.push(format!("{name}: {}", errors.join("; ")));
                } else {
                    faults.push(format!("{name}\n  server: takes it\n  check: {}", errors.join("; ")));
                }
            }
        }
    }
    println!("{agree} agree, {} stricter:\n{}", stricter.len(), stricter.join("\n"));
    assert!(agree > 1_000, "only {agree} rows agree");
    assert!(faults.is_empty(), "{} rows, agreeing {agree}:\n{}", faults.len(), faults.join("\n"));
    world.end().await;
}
