//! What the cluster refuses or cannot do is told in its own words, everything else goes on, and it
//! goes by itself once mended.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use maxchannel::api::MaxChannel;
use maxchannel::controller::RelayDefaults;
use serde_json::{Value, json};

use crate::world::{Cluster, PATIENCE, World, until};

async fn quota(world: &World, hard: Value) {
    let body = json!({"metadata": {"name": "tight"}, "spec": {"hard": hard}});
    let quota: ResourceQuota = serde_json::from_value(body).unwrap();
    let api: Api<ResourceQuota> = world.api();
    api.create(&PostParams::default(), &quota).await.unwrap();
    until("the quota is in force", PATIENCE, || async {
        api.get("tight").await.unwrap().status.and_then(|status| status.hard)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_quota_refuses_is_told_and_the_rest_goes_on() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    quota(&world, json!({"services": "0"})).await;
    let controller = world.controller().await;
    world.put_secrets().await;
    world.apply(&world.manifest("support")).await;
    let words = world.until_condition("support", "ObjectsApplied", "False", "QuotaExceeded", PATIENCE).await;
    assert!(words.contains("exceeded quota: tight") && words.contains("Service support-relay"), "{words}");
    world.until_condition("support", "Stalled", "True", "QuotaExceeded", PATIENCE).await;
    until("the relay's pod is there all the same", PATIENCE, || async {
        world.api::<Pod>().get_opt("support-relay-0").await.unwrap()
    })
    .await;
    world.until_condition("support", "CrmConnected", "True", "Connected", PATIENCE).await;
    let quotas: Api<ResourceQuota> = world.api();
    quotas.delete("tight", &DeleteParams::default()).await.unwrap();
    world.until_ready("support").await;
    world.api::<Service>().get("support-relay").await.unwrap();
    until("what was done outside is told", PATIENCE, || async {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let told = |reason: &str| events.iter().any(|event| event.reason.as_deref() == Some(reason));
        (told("Subscribed") && told("CrmChannelCreated") && told("QuotaExceeded")).then_some(())
    })
    .await;
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_refused_and_one_that_fits_nowhere_say_so_in_the_clusters_words() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    quota(&world, json!({"pods": "0"})).await;
    let mut settings = world.settings();
    settings.relay_defaults = serde_json::from_value::<RelayDefaults>(json!({
        "resources": {"requests": {"memory": "40Mi"}}, "imagePullSecrets": [{"name": "registry"}]}))
    .unwrap();
    let controller = world.controller_with(settings).await;
    world.put_secrets().await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["relay"]["nodeSelector"] = json!({"nowhere": "true"});
    world.apply(&manifest).await;
    let words = world.until_condition("support", "RelayAvailable", "False", "PodRefused", PATIENCE).await;
    assert!(words.contains("exceeded quota: tight"), "{words}");
    world.until_condition("support", "Stalled", "True", "PodRefused", PATIENCE).await;
    let quotas: Api<ResourceQuota> = world.api();
    quotas.delete("tight", &DeleteParams::default()).await.unwrap();
    let limit = Duration::from_mins(3);
    let words = world.until_condition("support", "RelayAvailable", "False", "Unschedulable", limit).await;
    assert!(words.contains("0/1 nodes are available"), "{words}");
    world.apply(&world.manifest("support")).await;
    world.until_ready("support").await;
    let pod = world.api::<Pod>().get("support-relay-0").await.unwrap().spec.unwrap();
    let requests = pod.containers[0].resources.as_ref().and_then(|resources| resources.requests.clone()).unwrap();
    assert_eq!(requests["memory"].0, "40Mi");
    assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "registry");
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_cannot_be_enlarged_is_told_and_the_relay_runs_on() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    cluster.volumes(1);
    let controller = world.controller().await;
    world.put_secrets().await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["relay"] = json!({"storage": {"volumeClaim": {"size": "1Gi"}}});
    world.apply(&manifest).await;
    world.until_ready("support").await;
    let before = world.api::<Pod>().get("support-relay-0").await.unwrap().metadata.uid;
    manifest["spec"]["relay"]["storage"]["volumeClaim"]["size"] = json!("2Gi");
    world.apply(&manifest).await;
    let words = world.until_condition("support", "ObjectsApplied", "False", "VolumeNotResized", PATIENCE).await;
    assert!(words.contains("resize"), "{words}");
    manifest["spec"]["relay"]["storage"]["volumeClaim"]["size"] = json!("1Gi");
    world.apply(&manifest).await;
    world.until_ready("support").await;
    assert_eq!(world.api::<Pod>().get("support-relay-0").await.unwrap().metadata.uid, before, "no restart");
    world.api::<PersistentVolumeClaim>().get("data-support-relay-0").await.unwrap();
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_cannot_be_mounted_is_told_in_the_kubelets_words_and_the_relay_runs_once_it_can() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    world.install("rights", &["--set", "replicaCount=0"]);
    world.put_secrets().await;
    // The relay's own Secret is one too many.
    let secrets = world.api::<Secret>().list(&ListParams::default()).await.unwrap().items.len();
    quota(&world, json!({"secrets": secrets.to_string()})).await;
    let controller = world.controller().await;
    world.apply(&world.manifest("support")).await;
    let limit = Duration::from_mins(3);
    let words = world.until_condition("support", "RelayAvailable", "False", "MountFailed", limit).await;
    assert!(words.contains("support-relay") && words.contains("not found"), "{words}");
    let words = world.until_condition("support", "ObjectsApplied", "False", "QuotaExceeded", PATIENCE).await;
    assert!(words.contains("Secret support-relay"), "{words}");
    let quotas: Api<ResourceQuota> = world.api();
    quotas.delete("tight", &DeleteParams::default()).await.unwrap();
    // The kubelet tries a mount again after up to two minutes.
    world.until_condition("support", "Ready", "True", "Ready", limit).await;
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_claim_is_enlarged_in_place_where_its_class_allows_it() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let class = format!("{}-grows", world.namespace);
    let folder = tempfile::tempdir_in(&cluster.state).unwrap();
    let permissions = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
    std::fs::set_permissions(folder.path(), permissions).unwrap();
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": class},
            "provisioner": "kubernetes.io/no-provisioner", "allowVolumeExpansion": true},
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": class}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": folder.path(), "type": "Directory"}}},
    ]});
    let file = folder.path().with_extension("json");
    std::fs::write(&file, objects.to_string()).unwrap();
    cluster.kubectl(&["create", "-f", file.to_str().unwrap()]);
    let controller = world.controller().await;
    world.put_secrets().await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["relay"] = json!({"storage": {"volumeClaim": {"size": "1Gi", "storageClassName": class}}});
    world.apply(&manifest).await;
    world.until_ready("support").await;
    let before = world.api::<Pod>().get("support-relay-0").await.unwrap().metadata.uid;
    manifest["spec"]["relay"]["storage"]["volumeClaim"]["size"] = json!("2Gi");
    world.apply(&manifest).await;
    until("the claim asks for more", PATIENCE, || async {
        let claim = world.api::<PersistentVolumeClaim>().get("data-support-relay-0").await.unwrap();
        (claim.spec?.resources?.requests?.get("storage")?.0 == "2Gi").then_some(())
    })
    .await;
    until("that is told", PATIENCE, || async {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        events.iter().any(|event| event.reason.as_deref() == Some("VolumeEnlarged")).then_some(())
    })
    .await;
    world.until_condition("support", "ObjectsApplied", "True", "Applied", PATIENCE).await;
    world.until_ready("support").await;
    assert_eq!(world.api::<Pod>().get("support-relay-0").await.unwrap().metadata.uid, before, "no restart");
    controller.stop().await;
    world.end().await;
    cluster.kubectl(&["delete", "--wait=false", "-f", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_is_refused_says_so_and_ends_once_it_is_allowed() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let controller = world.ready_channel().await;
    let roles = world.api::<Role>();
    let name = "rights-maxchannel-channels";
    let mut role = roles.get(name).await.unwrap();
    let whole = role.rules.clone();
    for rule in role.rules.iter_mut().flatten() {
        if rule.resources.iter().flatten().any(|resource| resource == "statefulsets") {
            rule.verbs.retain(|verb| verb != "delete");
        }
    }
    roles.replace(name, &PostParams::default(), &role).await.unwrap();
    world.delete("support").await;
    let words = world.until_condition("support", "ObjectsApplied", "False", "RightsMissing", PATIENCE).await;
    assert!(words.contains("cannot delete resource \"statefulsets\""), "{words}");
    world.until_condition("support", "Stalled", "True", "RightsMissing", PATIENCE).await;
    role = roles.get(name).await.unwrap();
    role.rules = whole;
    roles.replace(name, &PostParams::default(), &role).await.unwrap();
    until("the channel is gone", PATIENCE, || async {
        world.api::<MaxChannel>().get_opt("support").await.unwrap().is_none().then_some(())
    })
    .await;
    // Its pod takes as long as a pod takes.
    until("nothing is left", PATIENCE, || async { world.leftovers("support").await.is_empty().then_some(()) }).await;
    controller.stop().await;
    world.end().await;
}
