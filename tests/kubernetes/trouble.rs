//! A relay that cannot run says why, and a new image comes to one relay at a time.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::json;

use maxchannel::controller::RelayLink;

use crate::fleet::Fleet;
use crate::world::{Cluster, IMAGE, PATIENCE, World, until};

/// Another name of the same image.
const NEXT: &str = "localhost/maxchannel:next";

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_without_an_image_or_a_volume_says_so_and_runs_when_it_has_them() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let mut settings = world.settings();
    settings.relay_image = "localhost/maxchannel:never-built".to_owned();
    settings.relay_pull_policy = Some("Never".to_owned());
    let controller = world.controller_with(settings).await;
    world.put_secrets().await;
    world.apply(&world.manifest("support")).await;
    world.until_condition("support", "RelayAvailable", "False", "ImagePullFailed", PATIENCE).await;
    assert_eq!(world.subscriptions(), Vec::<String>::new(), "nobody listens yet, so MAX is not told the address");
    controller.stop().await;

    // With another image the pod is replaced, although the one before never became ready.
    let controller = world.controller().await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["relay"] =
        json!({"storage": {"volumeClaim": {"size": "1Gi", "storageClassName": "nobody-makes-these"}}});
    world.apply(&manifest).await;
    world.until_condition("support", "RelayAvailable", "False", "VolumePending", PATIENCE).await;
    world.apply(&world.manifest("support")).await;
    world.until_ready("support").await;
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_image_comes_to_one_relay_at_a_time() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let image = crate::world::root().join("target/maxchannel-image.tar");
    cluster.script("import-image.sh", &[image.to_str().unwrap(), NEXT]);
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    let pods = || async { world.api::<Pod>().list(&ListParams::default()).await.unwrap().items };
    let image_of = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    let is_ready = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    // Accounts of the fake, real pods.
    let mut settings = fleet.settings(&world);
    settings.relay_link = RelayLink::Pods;
    let controller = world.controller_with(settings.clone()).await;
    world.put_other_secrets().await;
    for number in 1..=3 {
        fleet.prepare(&world, number).await;
        let mut manifest = fleet.manifest(&world, number);
        manifest["spec"]["relay"].as_object_mut().unwrap().remove("nodeSelector");
        world.apply(&manifest).await;
    }
    crate::fleet::until_ready(&world, 3, PATIENCE).await;
    controller.stop().await;
    settings.relay_image = NEXT.to_owned();
    let controller = world.controller_with(settings).await;
    until("all have the new image", Duration::from_mins(2), || async {
        let pods = pods().await;
        let away = 3 - pods.iter().filter(|pod| is_ready(pod)).count();
        assert!(away <= 1, "{away} relays are away at once");
        (away == 0 && pods.iter().all(|pod| image_of(pod) == NEXT)).then_some(())
    })
    .await;
    assert_ne!(IMAGE, NEXT);
    controller.stop().await;
    world.end().await;
}
