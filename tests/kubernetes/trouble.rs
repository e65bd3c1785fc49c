//! A relay that cannot run says why, and a new image comes to one relay at a time, and to no other
//! while one does not come up.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::json;

use maxchannel::controller::RelayLink;

use crate::fleet::Fleet;
use crate::world::{Cluster, IMAGE, PATIENCE, World, until};

/// Lets the node speak again, also where the test fails.
struct Silenced<'a>(&'a Cluster);

impl Drop for Silenced<'_> {
    fn drop(&mut self) {
        self.0.script("node.sh", &["resume"]);
    }
}

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
async fn a_new_image_comes_to_one_relay_at_a_time_and_to_no_other_until_the_first_comes_up() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    // Another name of the same image, which the node does not know yet.
    let next = format!("localhost/maxchannel:{}", world.namespace);
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
    settings.relay_pull_policy = Some("Never".to_owned());
    let controller = world.controller_with(settings.clone()).await;
    world.put_other_secrets().await;
    fleet.apply_on_any_node(&world, 3).await;
    crate::fleet::until_ready(&world, 3, PATIENCE).await;
    controller.stop().await;
    settings.relay_image.clone_from(&next);
    let controller = world.controller_with(settings).await;
    let told = |reason: &'static str| {
        let events = world.api::<Event>();
        async move {
            let events = events.list(&ListParams::default()).await.unwrap().items;
            events.into_iter().find(|event| event.reason.as_deref() == Some(reason))
        }
    };
    let halted = until("the rollout halts", PATIENCE, || told("RolloutHalted")).await;
    let first = halted.regarding.unwrap().name.unwrap();
    world.until_condition(&first, "RelayAvailable", "False", "ImagePullFailed", PATIENCE).await;
    for other in ["c1", "c2", "c3"].into_iter().filter(|name| *name != first) {
        let why = world.until_condition(other, "ObjectsApplied", "True", "RolloutHalted", PATIENCE).await;
        assert!(why.contains(&first), "{why}");
        world.until_ready(other).await;
    }
    let metrics = controller.metrics().await;
    for line in ["rollout_relays{state=\"failed\"} 1", "rollout_relays{state=\"waiting\"} 2"] {
        assert!(metrics.contains(line), "{line} is not in the metrics: {metrics}");
    }
    let on_new = pods().await.iter().filter(|pod| image_of(pod) == next).count();
    assert_eq!(on_new, 1, "nobody else has the new image");

    // Mended: the node has the image.
    let image = crate::world::root().join("target/maxchannel-image.tar");
    cluster.script("import-image.sh", &[image.to_str().unwrap(), &next]);
    until("all have the new image", Duration::from_mins(3), || async {
        let pods = pods().await;
        let away = 3 - pods.iter().filter(|pod| is_ready(pod)).count();
        assert!(away <= 1, "{away} relays are away at once");
        (away == 0 && pods.iter().all(|pod| image_of(pod) == next)).then_some(())
    })
    .await;
    until("who came up is told", PATIENCE, || told("RelayUpdated")).await;
    crate::fleet::until_ready(&world, 3, PATIENCE).await;
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_of_which_no_relay_runs_tries_a_new_image_on_one_at_a_time_too() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    let with = |image: &str| {
        let mut settings = fleet.settings(&world);
        settings.relay_link = RelayLink::Pods;
        settings.relay_pull_policy = Some("Never".to_owned());
        settings.relay_image = image.to_owned();
        settings
    };
    let of_image = |image: &'static str| {
        let pods = world.api::<Pod>();
        async move {
            let pods = pods.list(&ListParams::default()).await.unwrap().items;
            pods.into_iter()
                .filter(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(image))
                .count()
        }
    };
    let [broken, worse] = ["localhost/maxchannel:broken", "localhost/maxchannel:worse"];
    let controller = world.controller_with(with(broken)).await;
    world.put_other_secrets().await;
    fleet.apply_on_any_node(&world, 3).await;
    let channels = ["c1", "c2", "c3"];
    for name in channels {
        world.until_condition(name, "RelayAvailable", "False", "ImagePullFailed", PATIENCE).await;
    }
    assert_eq!(of_image(broken).await, 3);
    controller.stop().await;

    let controller = world.controller_with(with(worse)).await;
    let waits = async |name: &str| {
        let applied = world.condition(name, "ObjectsApplied").await;
        applied.is_some_and(|(_, reason, _)| reason == "RolloutHalted")
    };
    until("one is tried, and the two others are told of it", PATIENCE, || async {
        assert!(of_image(worse).await <= 1, "they take the image all at once");
        let mut waiting = 0;
        for name in channels {
            waiting += usize::from(waits(name).await);
        }
        (waiting == 2).then_some(())
    })
    .await;
    assert_eq!((of_image(worse).await, of_image(broken).await), (1, 2));
    // What is changed of one alone, and may be what mends it, waits for nobody.
    let mut halted = "c1";
    for name in channels {
        halted = if waits(name).await { name } else { halted };
    }
    let mut manifest = fleet.manifest(&world, halted[1..].parse().unwrap());
    manifest["spec"]["relay"]["nodeSelector"] = json!({"kubernetes.io/hostname": "node1"});
    world.apply(&manifest).await;
    until("its pod is made anew, of the image that it has", PATIENCE, || async {
        let pod = world.api::<Pod>().get_opt(&format!("{halted}-relay-0")).await.unwrap()?.spec?;
        let is_changed = pod.node_selector.is_some_and(|selector| selector.contains_key("kubernetes.io/hostname"));
        (is_changed && pod.containers[0].image.as_deref() == Some(broken)).then_some(())
    })
    .await;
    controller.stop().await;

    let controller = world.controller_with(with(IMAGE)).await;
    crate::fleet::until_ready(&world, 3, PATIENCE).await;
    assert_eq!(of_image(IMAGE).await, 3);
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_told_as_such_and_the_relay_is_back_with_it() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::alone(&cluster).await;
    let controller = world.ready_channel().await;
    cluster.script("node.sh", &["pause"]);
    let silenced = Silenced(&cluster);
    // The control plane waits for most of a minute before it gives a node up.
    let limit = Duration::from_mins(3);
    let words = world.until_condition("support", "RelayAvailable", "False", "NodeLost", limit).await;
    assert!(words.contains("the node at"), "{words}");
    world.until_condition("support", "Ready", "False", "NodeLost", PATIENCE).await;
    drop(silenced);
    world.until_condition("support", "Ready", "True", "Ready", limit).await;
    controller.stop().await;
    world.end().await;
}
