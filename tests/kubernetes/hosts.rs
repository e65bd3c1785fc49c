//! Hosts that the installation no longer allows are not talked to any more, neither by the
//! controller nor by a relay that was told of them.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::world::{Cluster, PATIENCE, World, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_told_of_a_host_that_is_no_longer_allowed_is_held_back_and_goes_on_when_it_is_allowed() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let controller = world.ready_channel().await;
    let customer = world.customer();
    world.say(&customer, "Первое");
    let chat = world.accept(&customer).await;
    controller.stop().await;

    let mut settings = world.settings();
    settings.allowed_hosts = "*.creatio.example".parse().unwrap();
    let controller = world.controller_with(settings.clone()).await;
    let words = world.until_condition("support", "SpecValid", "False", "InvalidSpec", PATIENCE).await;
    assert!(words.contains("spec.creatio.url") && words.contains("allowedHosts"), "{words}");
    let told = || async {
        let mut data = world.api::<Secret>().get("support-relay").await.unwrap().data.unwrap();
        let settings: Value = serde_json::from_slice(&data.remove("channel.json").unwrap().0).unwrap();
        (settings, data.into_keys().collect::<Vec<_>>())
    };
    until("the relay is told of no CRM and no credentials for one", PATIENCE, || async {
        let (settings, files) = told().await;
        (settings["creatio"].is_null() && settings["suspended"] == true && files == ["token", "webhookSecrets"])
            .then_some(())
    })
    .await;
    until("the status says what that means", PATIENCE, || async {
        let (_, _, words) = world.condition("support", "SpecValid").await?;
        words.contains("the relay takes and sends nothing").then_some(())
    })
    .await;
    until("it was told in an event", PATIENCE, || async {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        events.iter().any(|event| event.reason.as_deref() == Some("RelayWithheld")).then_some(())
    })
    .await;
    until("the CRM is not called any more", PATIENCE, || async {
        let calls = || world.crm.control().counters()["calls"].clone();
        let before = calls();
        // The relay would ask for what agents write every two seconds.
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        (calls() == before).then_some(())
    })
    .await;
    world.say(&customer, "Второе");
    world.crm.control().send(chat, world.agent, "Ответ", Vec::new()).unwrap();
    assert_eq!(world.received(&customer), ["Первое"]);
    controller.stop().await;

    // The next process with the same settings leaves it as it is.
    let version = world.api::<Secret>().get("support-relay").await.unwrap().metadata.resource_version;
    let controller = world.controller_with(settings.clone()).await;
    until("it says so, too", PATIENCE, || async {
        let (_, _, words) = world.condition("support", "SpecValid").await?;
        words.contains("the relay takes and sends nothing").then_some(())
    })
    .await;
    assert_eq!(world.api::<Secret>().get("support-relay").await.unwrap().metadata.resource_version, version);
    controller.stop().await;

    settings.allowed_hosts = cluster.host.to_string().parse().unwrap();
    let controller = world.controller_with(settings).await;
    world.until_ready("support").await;
    until("what was kept meanwhile is brought", PATIENCE, || async {
        (world.received(&customer) == ["Первое", "Второе"] && world.seen(&customer).contains(&"Ответ".to_owned()))
            .then_some(())
    })
    .await;

    // A wrong edit leaves the host in force that is allowed.
    let mut manifest = world.manifest("support");
    manifest["spec"]["creatio"]["url"] = json!("https://crm.elsewhere.example");
    world.apply(&manifest).await;
    world.until_condition("support", "SpecValid", "False", "InvalidSpec", PATIENCE).await;
    world.say(&customer, "Третье");
    until("the relay works as before", PATIENCE, || async { (world.received(&customer).len() == 3).then_some(()) })
        .await;
    assert_eq!(
        told().await.0["creatio"]["url"].as_str().map(|url| url.trim_end_matches('/').to_owned()),
        Some(world.crm.url().trim_end_matches('/').to_owned())
    );
    world.apply(&world.manifest("support")).await;
    world.until_ready("support").await;
    world.api::<maxchannel::api::MaxChannel>().delete("support", &DeleteParams::default()).await.unwrap();
    until("it is gone", PATIENCE, || async { world.leftovers("support").await.is_empty().then_some(()) }).await;
    controller.stop().await;
    world.end().await;
}
