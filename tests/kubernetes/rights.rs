//! The rights that the chart grants are those that are used, no more and no fewer.
//!
//! Read from the audit log of all tests before it, so it is run after them:
//! `cargo test --test kubernetes -- --ignored rights`.

use std::collections::BTreeSet;
use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::audit::{self, Request, Right, Rights};
use crate::world::{Cluster, PATIENCE, World, helm, root, until};

/// Granted and not seen in the log.
const UNSEEN: &[(&str, &str, &str, &str)] = &[(
    "maxchannel.dev",
    "maxchannels/finalizers",
    "update",
    "asked for by an admission plugin (OwnerReferencesPermissionEnforcement), which is off by default",
)];

fn granted() -> BTreeSet<Right> {
    let mut command = Command::new(helm());
    command.args(["template", "x"]).arg(root().join("charts/maxchannel")).args(["--set", "watchNamespaces={n}"]);
    // The rights in routes are granted where there is a Gateway, and only there.
    command.args(["--set-json", r#"webhook.gateway={"name": "public", "namespace": "edge", "sectionName": "https"}"#]);
    let output = command.output().unwrap();
    assert!(output.status.success());
    let documents = serde_yaml::Deserializer::from_slice(&output.stdout);
    let objects: Vec<Value> = documents.map(|document| serde::Deserialize::deserialize(document).unwrap()).collect();
    objects.iter().filter(|object| object["kind"] == "Role").flat_map(rights_in).collect()
}

/// The rights that a role gives.
fn rights_in(role: &Value) -> BTreeSet<Right> {
    let texts = |rule: &Value, member: &str| -> Vec<String> {
        rule[member].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                for verb in texts(rule, "verbs") {
                    rights.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    rights
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "reads what all other tests have done: run after them"]
async fn the_rights_granted_are_the_rights_used() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let (superfluous, missing) =
        differences(&granted(), &audit::rights(&cluster, audit::beginning(), audit::is_controller));
    assert!(
        superfluous.is_empty() && missing.is_empty(),
        "granted and not used: {superfluous:#?}\nused and not granted: {missing:#?}"
    );
}

/// Granted and not used, used and not granted. What is not granted is refused, so the refusals show
/// it; a right that the chart grants and a test has taken away is no difference.
fn differences(granted: &BTreeSet<Right>, rights: &Rights) -> (Vec<Right>, Vec<Right>) {
    let unseen: BTreeSet<Right> =
        UNSEEN.iter().map(|(group, resource, verb, _)| ((*group).into(), (*resource).into(), (*verb).into())).collect();
    let Rights { used, refused } = rights;
    let superfluous = granted.iter().filter(|right| !used.contains(*right) && !unseen.contains(*right));
    let missing = used.union(refused).filter(|right| !granted.contains(*right));
    (superfluous.cloned().collect(), missing.cloned().collect())
}

/// The comparison by itself: without any one of the rights of a granted, a log that is well with it
/// names that right and no other.
#[test]
fn whichever_right_is_taken_from_a_role_is_named() {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let granted = json!({"kind": "Role", "rules": [
        rule("", &["secrets", "services"], &["get", "create", "patch"]),
        rule("maxchannel.dev", &["maxchannels/status"], &["patch"]),
    ]});
    let granted = rights_in(&granted);
    assert_eq!(granted.len(), 7);
    let line = |(group, resource, verb): &Right, code: u64, decision: &str| {
        let (resource, sub) = resource.split_once('/').map_or((resource.as_str(), None), |(one, sub)| (one, Some(sub)));
        Request::read(&json!({
            "user": {"username": "admin"}, "impersonatedUser": {"username": "system:serviceaccount:t1:rights-maxchannel"},
            "verb": verb, "objectRef": {"apiGroup": group, "resource": resource, "subresource": sub},
            "responseStatus": {"code": code}, "annotations": {"authorization.k8s.io/decision": decision},
            "requestReceivedTimestamp": "2026-11-29T08:00:00.000000Z",
        }))
        .unwrap()
    };
    let used = || granted.iter().map(|right| line(right, 200, "allow"));
    assert_eq!(differences(&granted, &audit::rights_of(used())), (vec![], vec![]));
    for taken in &granted {
        let mut reduced = granted.clone();
        reduced.remove(taken);
        // What was used while it was granted, or is refused now that it is not.
        let refused = line(taken, 403, "forbid");
        for log in [used().collect::<Vec<_>>(), used().filter(|used| !used.asks(taken)).chain([refused]).collect()] {
            assert_eq!(differences(&reduced, &audit::rights_of(log)), (vec![], vec![taken.clone()]));
        }
        // What a quota or a policy refuses is no missing right, and no use of one.
        let log = used().filter(|used| !used.asks(taken)).chain([line(taken, 403, "allow")]);
        assert_eq!(differences(&granted, &audit::rights_of(log)), (vec![taken.clone()], vec![]));
    }
    // An apply that makes an object needs the right to create one, too.
    let made = [line(&(String::new(), "pods".to_owned(), "patch".to_owned()), 201, "allow")];
    let missing = differences(&BTreeSet::new(), &audit::rights_of(made)).1;
    assert_eq!(missing.iter().map(|(_, _, verb)| verb.as_str()).collect::<Vec<_>>(), ["create", "patch"]);
}

/// Both halves of the test above can fail: a right that is taken away is missed, and one too many
/// is seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_used_and_not_granted_shows_in_the_audit_log_and_so_does_one_too_many() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let mark = audit::mark(&cluster);
    // Not the ServiceAccount of a release: the real comparison must not see this one.
    let user = format!("system:serviceaccount:{}:somebody", world.namespace);
    let mut config = kube::Config::infer().await.unwrap();
    config.auth_info.impersonate = Some(user.clone());
    let client = kube::Client::try_from(config).unwrap();
    let pods: Api<Pod> = Api::namespaced(client, &world.namespace);
    let refusal = pods.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refusal, kube::Error::Api(status) if status.is_forbidden()), "{refusal}");
    let right = |resource: &str, verb: &str| -> Right { (String::new(), resource.to_owned(), verb.to_owned()) };
    let rights = until("the audit log has it", PATIENCE, || async {
        Some(audit::rights(&cluster, mark, |who| who == user)).filter(|rights| !rights.refused.is_empty())
    })
    .await;
    assert_eq!(differences(&BTreeSet::new(), &rights), (vec![], vec![right("pods", "list")]));
    let granted = BTreeSet::from([right("pods", "list"), right("pods", "delete")]);
    assert_eq!(differences(&granted, &rights).0, [right("pods", "delete"), right("pods", "list")], "granted, not used");
    world.end().await;
}

/// What the role's kinds would allow and the chart's admission policies do not: somebody else's
/// objects, and what a channel has in it.
#[tokio::test(flavor = "multi_thread")]
async fn the_controllers_account_touches_only_what_belongs_to_a_channel() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let running = world.ready_channel().await;
    // Not ours: a person's Secret, a pod, a claim, and objects that only look like ours.
    world.put_secret("persons", json!({"password": "invented"})).await;
    let ours = json!({"app.kubernetes.io/name": "maxchannel", "app.kubernetes.io/component": "relay",
        "app.kubernetes.io/instance": "other", "app.kubernetes.io/managed-by": "maxchannel"});
    let mut of_support = ours.clone();
    of_support["app.kubernetes.io/instance"] = json!("support");
    let foreign = [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other-relay", "labels": ours}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data-other", "labels": ours},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}),
        // What an earlier channel of the name has left, whose uid is another.
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data-support-relay-0",
            "labels": of_support, "annotations": {"maxchannel.dev/channel": uuid::Uuid::new_v4()}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other-relay-0", "labels": ours}, "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "x", "image": "localhost/testpod:test", "imagePullPolicy": "Never",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}}),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("foreign.json");
    std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": foreign}).to_string()).unwrap();
    cluster.kubectl(&["-n", &world.namespace, "apply", "-f", file.to_str().unwrap()]);

    // With the account's own rights and by single requests: kubectl would ask for more than the
    // controller does.
    let client = kube::Client::try_from(world.as_controller("rights").await).unwrap();
    let attempt = async |method: &str, path: &str, body: &Value| -> Result<String, String> {
        let (group, path) = path.split_once(' ').unwrap_or(("api/v1", path));
        let uri = format!("/{group}/namespaces/{}/{path}", world.namespace);
        let request = http::Request::builder().method(method).uri(uri);
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = request.header("content-type", kind).body(body.to_string().into_bytes()).unwrap();
        client.request_text(request).await.map_err(|error| error.to_string())
    };
    let touch = json!({"metadata": {"annotations": {"x": "y"}}});
    let of_another = json!({"metadata": {"ownerReferences": [{"apiVersion": "maxchannel.dev/v1alpha1", "kind": "MaxChannel",
        "name": "support", "uid": uuid::Uuid::new_v4(), "controller": true}]}});
    let labels = |name: &str, value: Value| json!({"metadata": {"labels": {name: value}}});
    let (instance, by) = ("app.kubernetes.io/instance", "app.kubernetes.io/managed-by");
    let made = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "made"}, "stringData": {"a": "b"}});
    // Of its own by every mark, and yet a way to what is others': a token of any account, a pod
    // that runs as any account or holds any Secret or the node, an address of others.
    let mut of_ghost = ours.clone();
    of_ghost["app.kubernetes.io/instance"] = json!("ghost");
    let token = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "ghost-relay", "labels": of_ghost,
            "annotations": {"kubernetes.io/service-account.name": "default"},
            "ownerReferences": [{"apiVersion": "maxchannel.dev/v1alpha1", "kind": "MaxChannel", "name": "ghost",
                "uid": uuid::Uuid::new_v4(), "controller": true}]}});
    let relay = |pod: Value| json!({"spec": {"template": {"spec": pod}}});
    let another = relay(json!({"serviceAccountName": "default"}));
    let with_token = relay(json!({"automountServiceAccountToken": true}));
    let on_the_node = relay(json!({"hostNetwork": true}));
    let beside = |volume: Value| {
        let own = json!({"name": "config", "secret": {"secretName": "support-relay"}});
        relay(json!({"volumes": [own, {"name": "data", "emptyDir": {}}, volume]}))
    };
    let of_node = beside(json!({"name": "x", "hostPath": {"path": "/"}}));
    let of_person = beside(json!({"name": "x", "secret": {"secretName": "persons"}}));
    let public = json!({"spec": {"externalIPs": ["192.0.2.1"]}});
    let outside = json!({"spec": {"type": "LoadBalancer"}});
    let set = "apis/apps/v1 statefulsets/support-relay";
    for (method, path, body) in [
        ("PATCH", "secrets/persons", &touch),
        ("DELETE", "secrets/persons", &json!({})),
        ("PATCH", "secrets/other-relay", &touch),
        ("DELETE", "secrets/other-relay", &json!({})),
        ("POST", "secrets", &made),
        ("DELETE", "persistentvolumeclaims/data-other", &json!({})),
        ("PATCH", "pods/other-relay-0", &touch),
        ("PATCH", "pods/support-relay-0", &json!({"spec": {"activeDeadlineSeconds": 900}})),
        ("PATCH", "pods/support-relay-0", &labels(instance, json!("other"))),
        ("PATCH", "secrets/support-relay", &labels(by, Value::Null)),
        ("PATCH", "secrets/support-relay", &json!({"metadata": {"ownerReferences": null}})),
        ("PATCH", "apis/maxchannel.dev/v1alpha1 maxchannels/support", &json!({"spec": {"suspend": true}})),
        // Of the same name and not of the channel that is there.
        ("PATCH", "secrets/support-relay", &of_another),
        ("DELETE", "persistentvolumeclaims/data-support-relay-0", &json!({})),
        ("POST", "secrets", &token),
        ("PATCH", set, &another),
        ("PATCH", set, &with_token),
        ("PATCH", set, &on_the_node),
        ("PATCH", set, &of_node),
        ("PATCH", set, &of_person),
        ("PATCH", "services/support-relay", &public),
        ("PATCH", "services/support-relay", &outside),
    ] {
        let said = attempt(method, path, body).await;
        let by_policy = said.as_ref().is_err_and(|said| said.contains("the controller of MaxChannels"));
        assert!(by_policy, "{method} {path} {body}: {said:?}");
    }
    for (method, path, body) in [
        ("PATCH", "secrets/support-relay", &touch),
        ("PATCH", set, &touch),
        ("PATCH", "services/support-relay", &touch),
        ("PATCH", "pods/support-relay-0", &touch),
        ("PATCH", "apis/maxchannel.dev/v1alpha1 maxchannels/support", &touch),
        ("DELETE", "services/support-relay", &json!({})),
    ] {
        let said = attempt(method, path, body).await;
        assert!(said.is_ok(), "{method} {path} {body}: {said:?}");
    }
    world.until_ready("support").await;
    running.stop().await;
    world.end().await;
}
