//! Choices in the life of a channel: who keeps an account, a pause, and what a deletion leaves.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use maxchannel::api::MaxChannel;
use maxchannel::controller;
use maxchannel_simulator::max;
use serde_json::json;

use crate::fleet::{self, Fleet};
use crate::world::{Cluster, Controller, PATIENCE, RECOVERY, World, until};

async fn gone(world: &World, name: &str, limit: Duration) {
    until("the channel is gone", limit, || async {
        world.api::<MaxChannel>().get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_channel_keeps_account_and_bot_and_the_newer_has_them_when_it_goes() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    let controller = world.controller_with(fleet.settings(&world)).await;
    world.put_other_secrets().await;
    for number in [1, 2] {
        fleet.add(&world, number).await;
    }
    fleet::until_ready(&world, 2, PATIENCE).await;
    // Times of creation count whole seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for (name, change) in [
        ("same-number", json!({"accountNumber": "400000001", "credentialsSecretRef": {"name": "mango-3"}})),
        ("same-key", json!({"accountNumber": "400000009", "credentialsSecretRef": {"name": "mango-2"}})),
    ] {
        let token = format!("invented-token-{name}-{}", world.namespace);
        world.max.control().create_bot(max::NewBot::new(name, &token)).unwrap();
        world.put_secret(name, json!({"token": token})).await;
        world.put_secret("mango-3", json!({"apiKey": "inventedkey3", "apiSalt": "inventedsalt3"})).await;
        let mut manifest = fleet.manifest(&world, 3);
        manifest["metadata"]["name"] = json!(name);
        manifest["spec"]["tokenSecretRef"]["name"] = json!(name);
        manifest["spec"]["mango"] = change;
        world.apply(&manifest).await;
        let message = world.until_condition(name, "AccountReady", "False", "AccountInUse", RECOVERY).await;
        let holder = if name == "same-number" { "c1" } else { "c2" };
        assert!(message.contains(&format!("{}/{holder}", world.namespace)), "{message}");
        assert_eq!(world.leftovers(name).await, Vec::<String>::new(), "the loser has no relay");
    }
    let mut manifest = fleet.manifest(&world, 4);
    world.put_secret("mango-4", json!({"apiKey": "inventedkey4", "apiSalt": "inventedsalt4"})).await;
    manifest["spec"]["tokenSecretRef"]["name"] = json!("bot-1");
    world.apply(&manifest).await;
    let message = world.until_condition("c4", "TokenAuthorized", "False", "BotInUse", RECOVERY).await;
    assert!(message.contains(&format!("{}/c1", world.namespace)), "{message}");
    assert_eq!(world.leftovers("c4").await, Vec::<String>::new());
    // The remedy: a bot of its own, which needs no permission, since the other never was this
    // channel's.
    fleet.prepare(&world, 4).await;
    world.apply(&fleet.manifest(&world, 4)).await;
    world.until_condition("c4", "Ready", "True", "Ready", PATIENCE).await;
    world.put_secret("mango-5", json!({"apiKey": "inventedkey5", "apiSalt": "inventedsalt5"})).await;
    let mut manifest = fleet.manifest(&world, 5);
    manifest["spec"]["tokenSecretRef"]["name"] = json!("bot-1");
    world.apply(&manifest).await;
    world.until_condition("c5", "TokenAuthorized", "False", "BotInUse", RECOVERY).await;
    assert_eq!(world.max.control().bots().iter().map(|bot| bot.subscriptions.len()).sum::<usize>(), 3);

    world.delete("c1").await;
    gone(&world, "c1", PATIENCE).await;
    world.until_condition("same-number", "Ready", "True", "Ready", RECOVERY).await;
    world.until_condition("c5", "TokenAuthorized", "True", "Authorized", RECOVERY).await;
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_vanishes_while_nobody_watches_holds_its_account_no_longer() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::alone(&cluster).await;
    let fleet = Fleet::start(&world).await;
    world.install("rights", &["--set", "replicaCount=0"]);
    let config = world.as_controller("rights").await;
    let gate = Gate::before(&config.cluster_url).await;
    let mut by_gate = config.clone();
    by_gate.tls_server_name = config.cluster_url.host().map(str::to_owned);
    by_gate.cluster_url = gate.url.parse().unwrap();
    let (_, watching) = controller::clients(by_gate).unwrap();
    let (client, _) = controller::clients(config).unwrap();
    let controller = Controller::start(fleet.settings(&world), client, watching).await;
    world.put_other_secrets().await;
    fleet.add(&world, 1).await;
    fleet::until_ready(&world, 1, PATIENCE).await;
    // Times of creation count whole seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    fleet.prepare(&world, 2).await;
    let mut manifest = fleet.manifest(&world, 2);
    manifest["spec"]["mango"]["accountNumber"] = fleet.manifest(&world, 1)["spec"]["mango"]["accountNumber"].clone();
    world.apply(&manifest).await;
    world.until_condition("c2", "AccountReady", "False", "AccountInUse", RECOVERY).await;
    gate.close();
    world.delete("c1").await;
    let forced = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.api::<MaxChannel>().patch("c1", &PatchParams::default(), &forced).await.unwrap();
    gone(&world, "c1", RECOVERY).await;
    // A server that has just begun knows nothing of what was before: the watches cannot go on where
    // they were.
    cluster.script("apiserver.sh", &["stop"]);
    cluster.script("apiserver.sh", &["start"]);
    gate.open();
    world.until_condition("c2", "Ready", "True", "Ready", PATIENCE).await;
    controller.stop().await;
    world.end().await;
}

/// A way to the API server that can be shut.
struct Gate {
    url: String,
    open: tokio::sync::watch::Sender<bool>,
}

impl Gate {
    async fn before(server: &http::Uri) -> Self {
        let server = server.authority().unwrap().to_string();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let open = tokio::sync::watch::Sender::new(true);
        let gate = open.clone();
        tokio::spawn(async move {
            while let Ok((mut inner, _)) = listener.accept().await {
                let (server, mut open) = (server.clone(), gate.subscribe());
                tokio::spawn(async move {
                    let Ok(mut outer) = tokio::net::TcpStream::connect(server).await else { return };
                    tokio::select! {
                        biased;
                        _ = open.wait_for(|open| !open) => {}
                        _ = tokio::io::copy_bidirectional(&mut inner, &mut outer) => {}
                    }
                });
            }
        });
        Self { url, open }
    }

    fn close(&self) {
        self.open.send_replace(false);
    }

    fn open(&self) {
        self.open.send_replace(true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_channel_takes_nothing_and_has_everything_when_it_goes_on() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let controller = world.ready_channel().await;
    let customer = world.customer();
    world.say(&customer, "до паузы");
    world.accept(&customer).await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["suspend"] = json!(true);
    world.apply(&manifest).await;
    world.until_condition("support", "Ready", "True", "Suspended", RECOVERY).await;
    world.until_condition("support", "RelayAvailable", "True", "Available", RECOVERY).await;
    world.say(&customer, "в паузе");
    let attempts = || world.max.control().webhook_attempts().last().and_then(|attempt| attempt.status);
    until("the webhook is refused for now", RECOVERY, || async { (attempts() == Some(503)).then_some(()) }).await;
    assert_eq!(world.received(&customer), ["до паузы"]);
    world.apply(&world.manifest("support")).await;
    world.until_ready("support").await;
    until("what was kept has come", PATIENCE, || async { (world.received(&customer).len() == 2).then_some(()) }).await;
    assert_eq!(world.received(&customer), ["до паузы", "в паузе"]);
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_max_dropped_while_the_subscription_was_gone_is_read_back_though_the_controller_had_crashed() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let controller = world.ready_channel().await;
    let customer = world.customer();
    world.say(&customer, "до перерыва");
    world.accept(&customer).await;
    controller.crash().await;
    let bot = world.max.control().bots()[0].user_id;
    world.max.control().drop_subscriptions(bot).unwrap();
    world.say(&customer, "в перерыве");
    let controller = world.controller().await;
    until("what was missed is with the agent, though the customer wrote nothing more", PATIENCE, || async {
        (world.received(&customer) == ["до перерыва", "в перерыве"]).then_some(())
    })
    .await;
    assert_eq!(world.subscriptions().len(), 1);
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_leaves_the_outside_and_the_volume_alone() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    cluster.volumes(1);
    let controller = world.controller().await;
    world.put_secrets().await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["deletionPolicy"] = json!("Retain");
    manifest["spec"]["relay"] = json!({});
    world.apply(&manifest).await;
    world.until_ready("support").await;
    world.delete("support").await;
    gone(&world, "support", RECOVERY).await;
    assert_eq!(world.subscriptions().len(), 1);
    assert!(world.crm.control().rows("Channel").iter().any(|row| row["IsActive"] == true));
    assert!(world.api::<PersistentVolumeClaim>().get_opt("data-support-relay-0").await.unwrap().is_some());
    until("only the volume claim is left", PATIENCE, || async {
        (world.leftovers("support").await.len() == 1).then_some(())
    })
    .await;
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_with_all_secrets_at_once_still_cleans_up_outside_and_one_that_cannot_says_what_is_left() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    let controller = world.controller_with(fleet.settings(&world)).await;
    world.put_other_secrets().await;
    for number in [1, 2] {
        fleet.add(&world, number).await;
    }
    fleet::until_ready(&world, 2, PATIENCE).await;
    let secrets = world.api::<Secret>();
    let subscribed = || world.max.control().bots().iter().map(|bot| bot.subscriptions.len()).sum::<usize>();
    let active = || world.crm.control().rows("Channel").iter().filter(|row| row["IsActive"] == true).count();
    for name in ["bot-1", "mango-1"] {
        secrets.delete(name, &DeleteParams::default()).await.unwrap();
    }
    world.delete("c1").await;
    gone(&world, "c1", PATIENCE).await;
    assert_eq!((subscribed(), active()), (1, 1), "what the relay was told served");

    // Now that is gone too. The controller puts it back as long as it can, so it is stopped
    // meanwhile.
    controller.stop().await;
    world.delete("c2").await;
    for name in ["bot-2", "creatio", "c2-relay"] {
        secrets.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let controller = world.controller_with(fleet.settings(&world)).await;
    gone(&world, "c2", Duration::from_mins(3)).await;
    let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
    let event = events.iter().find(|event| event.reason.as_deref() == Some("ExternalObjectsLeft"));
    let note = event.and_then(|event| event.note.clone()).expect("an event says what is left");
    assert!(note.contains("bot-2") && note.contains("creatio"), "{note}");
    let waiting: Vec<_> = events.iter().filter(|event| event.reason.as_deref() == Some("DeletionWaits")).collect();
    assert_eq!(waiting.len(), 1, "and one before, what it waits for: {waiting:?}");
    controller.stop().await;
    world.end().await;
}
