//! Deletions in bad times: messages that wait, a CRM that is away, a controller that was.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, PostParams};
use maxchannel::api::MaxChannel;
use maxchannel_simulator::creatio::Outage;
use maxchannel_simulator::max;
use serde_json::json;

use crate::fleet::{self, Fleet};
use crate::world::{Cluster, Customer, PATIENCE, World, until};

async fn gone(world: &World, name: &str) {
    until("the channel is gone", PATIENCE, || async {
        world.api::<MaxChannel>().get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
}

/// The agents have the customer's dialog; then the CRM is away, and the relay takes these words.
async fn leave_undelivered(world: &World, customer: &Customer, words: &[&str]) {
    world.say(customer, "раз");
    world.accept(customer).await;
    world.crm.control().outage(Some(Outage::Unavailable));
    for text in words {
        world.say(customer, text);
    }
    // The start and the first word came before.
    let expected = words.len() + 2;
    let taken = || world.max.control().webhook_attempts().iter().filter(|one| one.status == Some(200)).count();
    until("the relay has taken them", PATIENCE, || async { (taken() >= expected).then_some(()) }).await;
}

async fn event(world: &World, reason: &str) -> Option<String> {
    let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
    let found = events.into_iter().filter(|event| event.reason.as_deref() == Some(reason));
    found.max_by_key(|event| event.event_time.as_ref().map(|time| time.0)).and_then(|event| event.note)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_what_is_undelivered_says_for_how_much_and_delivers_it() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let mut settings = world.settings();
    // What is outside is given up long before.
    settings.deletion_patience = Duration::from_secs(1);
    let controller = world.controller_with(settings).await;
    world.put_secrets().await;
    world.apply(&world.manifest("support")).await;
    world.until_ready("support").await;
    let customer = world.customer();
    leave_undelivered(&world, &customer, &["два", "три"]).await;
    world.delete("support").await;
    let message = world.until_condition("support", "Ready", "False", "DeletionWaits", PATIENCE).await;
    assert!(message.contains("2 undelivered messages: 2 to the CRM"), "{message}");
    let note = until("an event says so too", PATIENCE, || event(&world, "DeletionWaits")).await;
    assert!(note.contains("2 undelivered messages"), "{note}");
    // Longer than a deletion waited before it threw them away.
    tokio::time::sleep(Duration::from_secs(35)).await;
    assert!(world.api::<MaxChannel>().get_opt("support").await.unwrap().is_some());
    world.crm.control().outage(None);
    gone(&world, "support").await;
    assert_eq!(world.received(&customer), ["раз", "два", "три"]);
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_deletion_names_what_it_drops() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let mut settings = world.settings();
    settings.deletion_patience = Duration::from_secs(2);
    let controller = world.controller_with(settings).await;
    world.put_secrets().await;
    world.apply(&world.manifest("support")).await;
    world.until_ready("support").await;
    let customer = world.customer();
    world.say(&customer, "раз");
    world.accept(&customer).await;
    world.crm.control().outage(Some(Outage::Unavailable));
    world.say(&customer, "два");
    world.delete("support").await;
    world.until_condition("support", "Ready", "False", "DeletionWaits", PATIENCE).await;
    let force = "maxchannel.dev/force-delete=true";
    cluster.kubectl(&["-n", &world.namespace, "annotate", "mxc/support", force]);
    gone(&world, "support").await;
    let note = until("an event names it", PATIENCE, || event(&world, "UndeliveredDropped")).await;
    assert!(note.contains("1 undelivered message: 1 to the CRM"), "{note}");
    controller.stop().await;
    world.end().await;
}

/// Whatever became of the pod and of the controller, which remembers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_the_word_of_a_relay_that_does_not_run() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    cluster.volumes(1);
    let mut settings = world.settings();
    settings.deletion_patience = Duration::from_secs(1);
    let controller = world.controller_with(settings.clone()).await;
    world.put_secrets().await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["relay"]["storage"] = json!({"volumeClaim": {"size": "1Gi"}});
    world.apply(&manifest).await;
    world.until_ready("support").await;
    let customer = world.customer();
    leave_undelivered(&world, &customer, &["два"]).await;
    controller.stop().await;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    let quotas = world.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    until("the quota is in force", PATIENCE, || async { quotas.get("none").await.unwrap().status?.hard }).await;
    let pods = world.api::<Pod>();
    pods.delete("support-relay-0", &DeleteParams::default()).await.unwrap();
    until("the relay is away", PATIENCE, || async {
        pods.get_opt("support-relay-0").await.unwrap().is_none().then_some(())
    })
    .await;
    let controller = world.controller_with(settings).await;
    world.delete("support").await;
    let unknown = "which is not known while it does not run";
    until("it says what it waits for", PATIENCE, || async {
        let (_, reason, message) = world.condition("support", "Ready").await?;
        (reason == "DeletionWaits" && message.contains(unknown)).then_some(())
    })
    .await;
    let note = until("an event says so too", PATIENCE, || async {
        event(&world, "DeletionWaits").await.filter(|note| note.contains(unknown))
    })
    .await;
    assert!(note.contains("maxchannel.dev/force-delete"), "{note}");
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    world.crm.control().outage(None);
    // The StatefulSet's controller comes back more and more rarely.
    until("the channel is gone", Duration::from_mins(4), || async {
        world.api::<MaxChannel>().get_opt("support").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(world.received(&customer), ["раз", "два"]);
    controller.stop().await;
    world.end().await;
}

/// It has said that it holds nothing, and then something came in.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_does_not_take_the_last_word_of_a_relay_that_comes_back() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    cluster.volumes(1);
    let mut settings = world.settings();
    settings.relay_interval = Duration::from_hours(1);
    settings.deletion_patience = Duration::from_mins(5);
    let controller = world.controller_with(settings).await;
    world.put_secrets().await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["relay"]["storage"] = json!({"volumeClaim": {"size": "1Gi"}});
    world.apply(&manifest).await;
    world.until_ready("support").await;
    let customer = world.customer();
    leave_undelivered(&world, &customer, &["два"]).await;
    // Nothing is in its place until the quota goes.
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    let quotas = world.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    until("the quota is in force", PATIENCE, || async { quotas.get("none").await.unwrap().status?.hard }).await;
    let pods = world.api::<Pod>();
    pods.delete("support-relay-0", &DeleteParams::default().grace_period(0)).await.unwrap();
    until("the relay is away", PATIENCE, || async {
        pods.get_opt("support-relay-0").await.unwrap().is_none().then_some(())
    })
    .await;
    world.delete("support").await;
    until("it waits for the relay", PATIENCE, || event(&world, "DeletionWaits")).await;
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    until("the relay is back", Duration::from_mins(4), || pod_ip(&world)).await;
    world.crm.control().outage(None);
    gone(&world, "support").await;
    assert_eq!(world.received(&customer), ["раз", "два"]);
    controller.stop().await;
    world.end().await;
}

async fn pod_ip(world: &World) -> Option<String> {
    world.api::<Pod>().get_opt("support-relay-0").await.unwrap()?.status?.pod_ip
}

#[tokio::test(flavor = "multi_thread")]
async fn patience_counts_from_the_first_try_and_not_from_the_deletion() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    let mut settings = fleet.settings(&world);
    settings.deletion_patience = Duration::from_secs(15);
    let controller = world.controller_with(settings.clone()).await;
    world.put_other_secrets().await;
    fleet.add(&world, 1).await;
    fleet::until_ready(&world, 1, PATIENCE).await;
    controller.stop().await;
    world.delete("c1").await;
    tokio::time::sleep(Duration::from_secs(16)).await;
    // The first look after the long time fails.
    world.max.control().add_fault(max::Fault {
        path: Some("/subscriptions".to_owned()),
        times: 0,
        outcome: max::Outcome::error(503, "service.unavailable", ""),
        ..max::Fault::default()
    });
    let controller = world.controller_with(settings).await;
    until("it waits", PATIENCE, || event(&world, "DeletionWaits")).await;
    world.max.control().clear_faults();
    gone(&world, "c1").await;
    let subscribed: usize = world.max.control().bots().iter().map(|bot| bot.subscriptions.len()).sum();
    assert_eq!(subscribed, 0, "nothing is left outside");
    assert_eq!(event(&world, "ExternalObjectsLeft").await, None);
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_suspended_is_as_it_is_wanted() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    world.put_other_secrets().await;
    let controller = world.controller_with(fleet.settings(&world)).await;
    fleet.prepare(&world, 1).await;
    let mut manifest = fleet.manifest(&world, 1);
    manifest["spec"]["suspend"] = json!(true);
    world.apply(&manifest).await;
    // What Flux and Argo CD wait for: Ready of the newest generation, and nothing stalled.
    world.until_condition("c1", "Ready", "True", "Suspended", PATIENCE).await;
    world.until_condition("c1", "Stalled", "False", "NotStalled", PATIENCE).await;
    assert!(world.subscriptions().is_empty());
    controller.stop().await;
    world.end().await;
}
