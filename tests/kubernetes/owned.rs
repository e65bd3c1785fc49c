//! The owned objects: what reaches a running relay without a restart, what is repaired, and what is
//! made again.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt as _};
use maxchannel::api::MaxChannel;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::fleet::{self, Fleet};
use crate::world::{Cluster, PATIENCE, RECOVERY, World, until};

async fn pod(world: &World) -> Option<(String, i32)> {
    let pod = world.api::<Pod>().get_opt("support-relay-0").await.unwrap()?;
    let restarts =
        pod.status.as_ref()?.container_statuses.iter().flatten().map(|container| container.restart_count).sum();
    Some((pod.metadata.uid?, restarts))
}

async fn revision(world: &World) -> Option<String> {
    world.api::<MaxChannel>().get("support").await.unwrap().status?.relay?.revision
}

/// Somebody changes what the object of the relay is called by, and that is repaired.
async fn repaired<K>(world: &World)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    const LABEL: &str = "app.kubernetes.io/name";
    let api = world.api::<K>();
    let body = Patch::Merge(json!({"metadata": {"labels": {LABEL: "other"}}}));
    api.patch("support-relay", &PatchParams::apply("somebody"), &body).await.unwrap();
    until(&format!("the {} is repaired", K::kind(&())), RECOVERY, || async {
        let object = api.get("support-relay").await.unwrap();
        (object.labels()[LABEL] == "maxchannel").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_texts_and_tokens_reach_the_running_relay_and_nothing_is_lost() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let controller = world.ready_channel().await;
    let (before, first) = (pod(&world).await.unwrap(), revision(&world).await.unwrap());
    let customer = world.customer();
    world.say(&customer, "раз");
    world.accept(&customer).await;

    let mut manifest = world.manifest("support");
    manifest["spec"]["autoReplies"][0]["text"] = json!("Совсем другой текст.");
    world.apply(&manifest).await;
    until("the relay has the changed text", RECOVERY, || async { revision(&world).await.filter(|now| *now != first) })
        .await;

    let mine = world.subscriptions();
    let token = world.max.control().issue_token(world.bot, None).unwrap();
    world.say(&customer, "два");
    world.put_token(&token).await;
    world.say(&customer, "три");
    until("MAX calls the address of the new token", RECOVERY, || async {
        let now = world.subscriptions();
        (now.len() == 1 && now != mine).then_some(())
    })
    .await;
    world.say(&customer, "четыре");
    until("every message is there", PATIENCE, || async { (world.received(&customer).len() >= 4).then_some(()) }).await;
    assert_eq!(world.received(&customer), ["раз", "два", "три", "четыре"]);
    world.until_ready("support").await;
    assert_eq!(pod(&world).await.unwrap(), before, "the pod is the same and was not started again");
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_edits_are_repaired_and_what_cannot_be_changed_is_made_again() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let mut settings = world.settings();
    settings.webhook_ingress = Some(serde_json::from_value(json!({"className": "nginx"})).unwrap());
    let controller = world.controller_with(settings).await;
    world.put_secrets().await;
    world.apply(&world.manifest("support")).await;
    world.until_ready("support").await;
    let merge = |body| async move { Patch::Merge(body) };
    let foreign = PatchParams::apply("somebody");

    let sets = world.api::<StatefulSet>();
    let body = merge(json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}})).await;
    sets.patch("support-relay", &foreign, &body).await.unwrap();
    until("the StatefulSet is repaired", RECOVERY, || async {
        let set = sets.get("support-relay").await.unwrap();
        (set.spec?.template.spec?.termination_grace_period_seconds == Some(30)).then_some(())
    })
    .await;
    let services = world.api::<Service>();
    let body = merge(json!({"spec": {"selector": {"app.kubernetes.io/instance": "other"}}})).await;
    services.patch("support-relay", &foreign, &body).await.unwrap();
    until("the Service is repaired", RECOVERY, || async {
        let selector = services.get("support-relay").await.unwrap().spec?.selector?;
        (selector["app.kubernetes.io/instance"] == "support").then_some(())
    })
    .await;
    // An edit that an apply cannot undo: a list of theirs, whose rows would have our names.
    let ports = json!({"spec": {"ports": [{"name": "http", "port": 81, "targetPort": 9999}]}});
    services.patch("support-relay", &foreign, &Patch::Merge(ports)).await.unwrap();
    until("the Service is made again", RECOVERY, || async {
        let ports = services.get_opt("support-relay").await.unwrap()?.spec?.ports?;
        (ports.len() == 1 && ports[0].port == 80).then_some(())
    })
    .await;
    let secrets = world.api::<Secret>();
    let told = secrets.get("support-relay").await.unwrap().data.unwrap();
    let body = merge(json!({"data": {"token": "Zm9yZWlnbg=="}})).await;
    secrets.patch("support-relay", &foreign, &body).await.unwrap();
    until("the Secret is repaired", RECOVERY, || async {
        (secrets.get("support-relay").await.unwrap().data? == told).then_some(())
    })
    .await;
    repaired::<ServiceAccount>(&world).await;
    repaired::<NetworkPolicy>(&world).await;
    let policies = world.api::<NetworkPolicy>();
    policies.delete("support-relay", &DeleteParams::default()).await.unwrap();
    until("the NetworkPolicy is there again", RECOVERY, || async { policies.get_opt("support-relay").await.unwrap() })
        .await;
    world.until_ready("support").await;

    // The Ingress comes and goes with the host.
    let mut manifest = world.manifest("support");
    manifest["spec"]["intake"] = json!({"webhook": {"host": "max.example.com"}});
    world.apply(&manifest).await;
    let ingresses = world.api::<Ingress>();
    until("an Ingress is made", RECOVERY, || async { ingresses.get_opt("support-relay").await.unwrap() }).await;
    repaired::<Ingress>(&world).await;
    world.apply(&world.manifest("support")).await;
    until("the Ingress is gone", RECOVERY, || async {
        ingresses.get_opt("support-relay").await.unwrap().is_none().then_some(())
    })
    .await;

    // Templates of claims cannot be changed.
    cluster.volumes(1);
    let before = sets.get("support-relay").await.unwrap().metadata.uid;
    let mut manifest = world.manifest("support");
    manifest["spec"]["relay"] = json!({"storage": {"volumeClaim": {}}});
    world.apply(&manifest).await;
    until("the StatefulSet is made again", RECOVERY, || async {
        let set = sets.get_opt("support-relay").await.unwrap()?;
        (set.metadata.uid != before).then_some(())
    })
    .await;
    world.until_ready("support").await;
    until("an event tells of it", RECOVERY, || async {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
        events.into_iter().find(|event| event.reason.as_deref() == Some("Recreated"))
    })
    .await;

    // Resources restart the pod.
    let before = pod(&world).await.unwrap();
    manifest["spec"]["relay"]["resources"] = json!({"requests": {"cpu": "1000m", "memory": "32Mi"}});
    manifest["spec"]["relay"]["resources"]["requests"]["cpu"] = json!("0.010");
    world.apply(&manifest).await;
    until("the pod is another", Duration::from_mins(1), || async { pod(&world).await.filter(|now| now.0 != before.0) })
        .await;
    world.until_ready("support").await;
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_wanted_of_an_object_goes_also_where_the_object_was_not_written_since_it_was_made() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    world.put_other_secrets().await;
    let secrets = world.api::<Secret>();
    let patch = |data: serde_json::Value| {
        let secrets = &secrets;
        async move { secrets.patch("creatio", &PatchParams::default(), &Patch::Merge(data)).await.unwrap() }
    };
    patch(json!({"stringData": {"notifySecret": "an-invented-secret-of-notes-that-is-long"}})).await;
    let controller = world.controller_with(fleet.settings(&world)).await;
    fleet.add(&world, 1).await;
    fleet::until_ready(&world, 1, PATIENCE).await;
    let keys = |secret: Secret| secret.data.unwrap_or_default().into_keys().collect::<Vec<_>>();
    let before = keys(secrets.get("c1-relay").await.unwrap());
    patch(json!({"data": {"notifySecret": null}})).await;
    let after = until("the relay's Secret is written", PATIENCE, || async {
        Some(keys(secrets.get("c1-relay").await.unwrap())).filter(|keys| *keys != before)
    })
    .await;
    let gone: Vec<_> = before.iter().filter(|key| !after.contains(key)).collect();
    assert!(gone.len() == 1 && after.len() + 1 == before.len(), "{before:?} -> {after:?}");
    let noted = secrets.get("c1-relay").await.unwrap().metadata.managed_fields.unwrap();
    let ours: Vec<_> = noted.iter().filter(|entry| entry.manager.as_deref() == Some("maxchannel")).collect();
    assert!(ours.len() == 1 && ours[0].operation.as_deref() == Some("Apply"), "{ours:?}");
    controller.stop().await;
    world.end().await;
}
