//! A relay's pod that dies in the middle of an exchange.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::json;

use crate::world::{Cluster, World, until};

const MESSAGES: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_in_the_middle_of_an_exchange_loses_doubles_and_reorders_nothing() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    cluster.volumes(1);
    let controller = world.controller().await;
    world.put_secrets().await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["relay"] = json!({"storage": {"volumeClaim": {}}});
    world.apply(&manifest).await;
    world.until_ready("support").await;
    let customer = world.customer();
    world.say(&customer, "вопрос 0");
    let chat = world.accept(&customer).await;
    for number in 1..MESSAGES {
        world.say(&customer, &format!("вопрос {number}"));
        world.crm.control().send(chat, world.agent, &format!("ответ {number}"), Vec::new()).unwrap();
        if number == MESSAGES / 3 || number == 2 * MESSAGES / 3 {
            let now = DeleteParams::default().grace_period(0);
            world.api::<Pod>().delete("support-relay-0", &now).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let (questions, answers) = (
        |from| (from..MESSAGES).map(|n| format!("вопрос {n}")).collect::<Vec<_>>(),
        |from| (from..MESSAGES).map(|n| format!("ответ {n}")).collect::<Vec<_>>(),
    );
    // MAX repeats a lost webhook after 60 s; the relay reads back sooner.
    until("everything has arrived", Duration::from_secs(150), || async {
        (world.received(&customer).len() >= MESSAGES && world.seen(&customer).len() >= MESSAGES - 1).then_some(())
    })
    .await;
    assert_eq!(world.received(&customer), questions(0));
    assert_eq!(world.seen(&customer), answers(1));
    world.until_ready("support").await;
    // As the help of `dead-letters` and `erase` says.
    let told = cluster.kubectl(&[
        "exec",
        "-n",
        &world.namespace,
        "support-relay-0",
        "--",
        "maxchannel",
        "dead-letters",
        "list",
        "--data-dir",
        "/var/lib/maxchannel",
        "-o",
        "json",
    ]);
    serde_json::from_str::<serde_json::Value>(&told).unwrap();
    controller.stop().await;
    world.end().await;
}
