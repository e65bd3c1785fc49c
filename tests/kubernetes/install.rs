//! From `helm install` to a message both ways, and back to nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use maxchannel::api::MaxChannel;
use serde_json::json;

use crate::canary;
use crate::world::{Cluster, PATIENCE, World, until};

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
