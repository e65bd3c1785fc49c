//! From `helm install` to a message both ways, and back to nothing.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use maxchannel::api::MaxChannel;
use maxchannel::simulator::max;
use serde_json::json;

use crate::canary;
use crate::world::{Cluster, PATIENCE, World, helm, root, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_installed_chart_makes_a_channel_that_carries_messages_both_ways_and_deleting_it_leaves_nothing() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    cluster.volumes(1);
    // As talkative as it can be, for the canaries.
    world.install("mx", &["--set", "logLevel=debug\\,maxchannel=trace"]);
    world.put_secrets().await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["relay"] = json!({"storage": {"volumeClaim": {"size": "1Gi"}}});
    world.apply(&manifest).await;

    // As a person waits for it.
    cluster.kubectl(&["-n", &world.namespace, "wait", "--for=condition=Ready", "mxc/support", "--timeout=90s"]);
    let pod = world.api::<Pod>().get("support-relay-0").await.unwrap();
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Running"));
    let table = cluster.kubectl(&["-n", &world.namespace, "get", "mxc"]);
    let row = table.lines().nth(1).unwrap_or_default();
    assert!(row.contains("support") && row.contains("True") && row.contains("Webhook"), "{table}");
    assert_eq!(world.subscriptions().len(), 1);

    let customer = world.customer();
    world.say(&customer, "Где мой заказ?");
    let chat = world.accept(&customer).await;
    world.crm.control().send(chat, world.agent, "Уже едет", Vec::new()).unwrap();
    until("the agent's answer reaches the customer", PATIENCE, || async {
        world.seen(&customer).contains(&"Уже едет".to_owned()).then_some(())
    })
    .await;
    assert_eq!(world.received(&customer), ["Где мой заказ?"]);

    canary::assert_nothing_leaks(&world, &["Где мой заказ?", "Уже едет"]).await;
    assert_the_log_level_reaches_both_halves(&world).await;

    world.delete("support").await;
    until("the channel is gone", Duration::from_mins(1), || async {
        world.api::<MaxChannel>().get_opt("support").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(world.subscriptions(), Vec::<String>::new(), "the subscription");
    let channels = world.crm.control().rows("Channel");
    let ours = channels.iter().find(|row| row["Source"] == format!("max-bot:{}", world.bot)).expect("Creatio keeps it");
    assert_eq!(ours["IsActive"], false, "{ours}");
    let settings = world.crm.control().rows("MaxChannelSettings");
    assert!(settings.iter().all(|row| row["Owner"] == ""), "{settings:?}");
    until("the objects are gone", Duration::from_mins(1), || async {
        world.leftovers("support").await.is_empty().then_some(())
    })
    .await;
    world.end().await;
}

/// Outside the usual: a release of its own namespace that serves the whole cluster, with a follower, and what the installation's values say.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_for_all_namespaces_with_two_replicas_serves_another_namespace_and_survives_its_leader() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::alone(&cluster).await;
    let system = format!("{}-system", world.namespace);
    let reasons = json!([{"status": 403, "messageContains": "legal entity", "reason": "LegalEntityAccessDenied"}]);
    world.install(
        "all",
        &[
            "--namespace",
            &system,
            "--create-namespace",
            "--set",
            "watchNamespaces=null,replicaCount=2,language=ru",
            "--set-json",
            &format!("maxErrorReasons={reasons}"),
        ],
    );
    cluster.kubectl(&["-n", &system, "rollout", "status", "deployment", "--timeout=90s"]);
    world.put_secrets().await;
    world.apply(&world.manifest("support")).await;
    world.until_ready("support").await;
    let customer = world.customer();
    world.say(&customer, "Здравствуйте");
    world.accept(&customer).await;

    let refusal = max::BotAnswer {
        status: 403,
        code: "access.denied".to_owned(),
        message: "No access for this legal entity".to_owned(),
    };
    world.max.control().set_bot_state(world.bot, max::BotState::Refused(refusal)).unwrap();
    let mut manifest = world.manifest("support");
    manifest["metadata"]["annotations"] = json!({"maxchannel.dev/reconcile-at": "1"});
    world.apply(&manifest).await;
    world.until_condition("support", "TokenAuthorized", "False", "LegalEntityAccessDenied", PATIENCE).await;
    let (code, told) = status(&world, &["status", "--cluster", "-A", "--lang", "ru"]);
    assert_eq!(code, Some(1), "{told}");
    let row = format!("{}/support", world.namespace);
    assert!(told.contains(&row) && told.contains("TokenAuthorized=False LegalEntityAccessDenied (ошибка 4)"), "{told}");
    world.max.control().set_bot_state(world.bot, max::BotState::Active).unwrap();
    world.until_ready("support").await;
    let (code, told) = status(&world, &["status", "-n", &world.namespace, "support"]);
    assert_eq!(code, Some(0), "{told}");

    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &system);
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &system);
    let holder = async || leases.get("all-maxchannel").await.unwrap().spec.and_then(|spec| spec.holder_identity);
    let leader = holder().await.expect("one leads");
    let leading = pods.list(&ListParams::default()).await.unwrap().into_iter().find_map(|pod| {
        let name = pod.metadata.name?;
        leader.starts_with(&name).then_some(name)
    });
    let kill = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete(&leading.expect("the holder is a pod"), &kill).await.unwrap();
    until("the follower leads", PATIENCE, || async { (holder().await.is_some_and(|now| now != leader)).then_some(()) })
        .await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["autoReplies"] = json!([]);
    world.apply(&manifest).await;
    world.until_condition("support", "AutoRepliesActive", "False", "AutoRepliesNotConfigured", PATIENCE).await;
    world.until_ready("support").await;
    assert_eq!(world.received(&customer), ["Здравствуйте"]);

    world.delete("support").await;
    until("the channel is gone", PATIENCE, || async {
        world.api::<MaxChannel>().get_opt("support").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(world.subscriptions(), Vec::<String>::new());
    let output = Command::new(helm()).args(["uninstall", "all", "--namespace", &system]).output().unwrap();
    assert!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    Api::<Namespace>::all(world.client.clone()).delete(&system, &DeleteParams::default()).await.unwrap();
    world.end().await;
}

/// What the program says of a cluster.
fn status(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_maxchannel")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains(&world.token));
    (output.status.code(), text)
}

/// A new level in the chart's values is in force in the controller and in the relay, and no pod is another one.
async fn assert_the_log_level_reaches_both_halves(world: &World) {
    let pods = async || -> BTreeMap<String, Option<String>> {
        let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap();
        pods.into_iter().map(|pod| (pod.metadata.name.unwrap(), pod.metadata.uid)).collect()
    };
    let before = pods().await;
    let mut command = Command::new(helm());
    command.args(["upgrade", "mx"]).arg(root().join("charts/maxchannel")).args(["--namespace", &world.namespace]);
    let output = command.args(["--reuse-values", "--set", "logLevel=warn\\,maxchannel=info"]).output().unwrap();
    assert!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    // By itself the kubelet brings a changed ConfigMap within a minute; a changed pod lets it do so at once.
    let ours = "app.kubernetes.io/component=controller";
    world.cluster.kubectl(&["-n", &world.namespace, "annotate", "pod", "-l", ours, "tests/touched=once"]);
    for pod in before.keys() {
        until(&format!("{pod} logs as the chart says now"), Duration::from_secs(90), || async {
            let log = world.cluster.kubectl(&["-n", &world.namespace, "logs", pod]);
            log.contains("the log level is warn,maxchannel=info now").then_some(())
        })
        .await;
    }
    assert_eq!(pods().await, before, "a pod was started anew");
}
