//! What the API server itself says about manifests: the schema and its rules, with the server's own
//! messages, and the cost budget, which it checks when it takes the definition.

use serde_json::{Value, json};

use crate::world::{Cluster, World};

#[tokio::test(flavor = "multi_thread")]
async fn the_server_takes_good_manifests_and_says_what_is_wrong_with_bad_ones() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let with = |path: &str, value: Value| {
        let mut manifest = world.manifest("x");
        set(&mut manifest, path, value);
        manifest
    };
    for (name, manifest) in [
        ("the least", with("/spec/receiver", Value::Null)),
        ("a group", with("/spec/receiver", json!({"group": {"name": "Поддержка"}}))),
        (
            "hours",
            with(
                "/spec/workingHours",
                json!({"timeZone": "Europe/Moscow", "week": [{"days": ["Mon"], "from": "22:00", "to": "06:00"}]}),
            ),
        ),
        ("a long poll", with("/spec/intake", json!({"longPoll": {}}))),
        ("a volume", with("/spec/relay/storage", json!({"volumeClaim": {"size": "2Gi"}}))),
    ] {
        world.try_apply(&manifest).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        world.delete("x").await;
    }
    for (manifest, expected) in [
        (
            with("/spec/receiver", json!({"employee": {"extension": "1"}, "group": {"name": "x"}})),
            "exactly one of employee, group and bot",
        ),
        (with("/spec/receiver", json!({})), "exactly one of employee, group and bot"),
        (with("/spec/receiver", json!({"employee": {}})), "exactly one of"),
        (
            with("/spec/intake", json!({"longPoll": {}, "webhook": {"host": "max.acme.ru"}})),
            "exactly one of webhook, longPoll and mangoDialogs",
        ),
        (
            with("/spec/intake", json!({"webhook": {"host": "a.ru", "url": "https://a.ru"}})),
            "exactly one of host and url",
        ),
        (
            with("/spec/intake", json!({"webhook": {"url": "https://a.ru", "ingress": {}}})),
            "an ingress is made for a host",
        ),
        (
            with("/spec/relay/storage", json!({"ephemeral": {}, "volumeClaim": {}})),
            "exactly one of volumeClaim and ephemeral",
        ),
        (with("/spec/offHours", json!({"autoReplies": [{"after": "0s", "text": "x"}]})), "offHours needs workingHours"),
        (with("/spec/autoReplies", json!([{"after": "25h", "text": "x"}])), "24h"),
        (with("/spec/autoReplies", json!([{"after": "soon", "text": "x"}])), "autoReplies[0].after"),
        (with("/spec/autoReplies", json!([{"after": "1s", "text": ""}])), "autoReplies[0].text"),
        (with("/spec/autoReplies", json!([{"after": "1s", "text": "x".repeat(251)}])), "autoReplies[0].text"),
        (with("/spec/autoReplies", json!([{"after": "1s", "repeatLimit": 3, "text": "x"}])), "repeatEvery"),
        (with("/spec/autoClose", json!({"after": "10s"})), "1m"),
        (with("/spec/mango/accountNumber", json!("a1")), "accountNumber"),
        (with("/spec/botCard", json!({"username": "short"})), "botCard.username"),
        (with("/spec/creatio/url", json!("ftp://crm")), "creatio.url"),
        (with("/spec/creatio/limits", json!({"requestsPerSecond": 0})), "requestsPerSecond"),
        (with("/spec/deletionPolicy", json!("Forget")), "deletionPolicy"),
        (with("/metadata/name", json!("a".repeat(47))), "at most 46 characters"),
    ] {
        let shown = manifest.to_string();
        let Err(kube::Error::Api(refusal)) = world.try_apply(&manifest).await else { panic!("taken: {shown}") };
        assert!(refusal.message.contains(expected), "{expected:?} is not in {:?}", refusal.message);
    }
    world.apply(&world.manifest("x")).await;
    let Err(kube::Error::Api(refusal)) = world.try_apply(&with("/spec/mango/accountNumber", json!("400099999"))).await
    else {
        panic!("the account has changed")
    };
    assert!(refusal.message.contains("accountNumber cannot be changed"), "{}", refusal.message);
    world.end().await;
}

fn set(manifest: &mut Value, path: &str, value: Value) {
    let (parent, key) = path.rsplit_once('/').unwrap();
    let parent = manifest.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(key);
    } else {
        parent.insert(key.to_owned(), value);
    }
}
