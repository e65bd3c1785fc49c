//! Two replicas, and an API server that goes away.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use maxchannel::api::MaxChannel;
use maxchannel::controller;
use serde_json::json;

use crate::audit;
use crate::world::{Cluster, Controller, PATIENCE, World, until};

async fn replica(world: &World, agent: &str) -> Controller {
    world.install("rights", &["--set", "replicaCount=0"]);
    let mut config = world.as_controller("rights").await;
    config.headers.push((http::header::USER_AGENT, agent.parse().unwrap()));
    let (client, watching) = controller::clients(config).unwrap();
    let mut settings = world.settings();
    settings.identity = agent.to_owned();
    Controller::start(settings, client, watching).await
}

async fn handled(world: &World, value: &str) {
    let body = json!({"metadata": {"annotations": {"maxchannel.dev/reconcile-at": value}}});
    world.api::<MaxChannel>().patch("support", &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
    until("the annotation is echoed", PATIENCE, || async {
        let status = world.api::<MaxChannel>().get("support").await.unwrap().status?;
        (status.last_handled_reconcile_at.as_deref() == Some(value)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_replica_takes_over_within_the_lease_time_and_never_do_both_write() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let mark = audit::mark(&cluster);
    let first = replica(&world, "replica-one").await;
    world.put_secrets().await;
    world.apply(&world.manifest("support")).await;
    world.until_ready("support").await;
    let second = replica(&world, "replica-two").await;
    handled(&world, "1").await;
    let crashed = jiff::Timestamp::now();
    first.crash().await;
    handled(&world, "2").await;
    // A stop gives the lease up: the next leads at once.
    let third = replica(&world, "replica-three").await;
    let stopped = jiff::Timestamp::now();
    second.stop().await;
    handled(&world, "3").await;
    third.stop().await;

    let user = format!("system:serviceaccount:{}:rights-maxchannel", world.namespace);
    let requests = audit::since(&cluster, mark, |who| who == user);
    let mut writes: Vec<_> = requests.iter().filter(|request| request.is_write() && request.code < 300).collect();
    writes.sort_by_key(|request| request.at);
    let mut order: Vec<&str> = writes.iter().map(|request| request.agent.as_str()).collect();
    order.dedup();
    assert_eq!(order, ["replica-one", "replica-two", "replica-three"], "writes of two replicas are mixed");
    let began = |agent: &str| writes.iter().find(|request| request.agent == agent).unwrap().at;
    let lease = world.settings().lease_duration.as_secs_f64();
    let took = began("replica-two").duration_since(crashed).as_secs_f64();
    assert!(took <= lease + 2.0, "{took} s after the crash, the lease lasts {lease} s");
    let took = began("replica-three").duration_since(stopped).as_secs_f64();
    assert!(took < 3.0, "{took} s after the lease was given up");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_for_a_minute_stops_no_message_and_everything_goes_on_when_it_is_back() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::alone(&cluster).await;
    let controller = world.ready_channel().await;
    let customer = world.customer();
    world.say(&customer, "до");
    world.accept(&customer).await;
    cluster.script("apiserver.sh", &["stop"]);
    world.say(&customer, "без него");
    until("messages flow without the API server", Duration::from_secs(20), || async {
        (world.received(&customer).len() == 2).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    cluster.script("apiserver.sh", &["start"]);
    let mut manifest = world.manifest("support");
    manifest["spec"]["autoReplies"] = json!([]);
    world.apply(&manifest).await;
    // The kubelet's own watches take up to a minute to come back, and only then does it bring a
    // changed configuration.
    let limit = PATIENCE * 2;
    world.until_condition("support", "AutoRepliesActive", "False", "AutoRepliesNotConfigured", limit).await;
    world.until_condition("support", "Ready", "True", "Ready", limit).await;
    world.say(&customer, "после");
    // A call that the node still refuses is repeated by MAX after 60 s.
    until("messages flow again", PATIENCE, || async { (world.received(&customer).len() == 3).then_some(()) }).await;
    assert_eq!(world.received(&customer), ["до", "без него", "после"]);
    controller.stop().await;
    world.end().await;
}
