//! Two installations with the same manifests: only one of them has the bot, and it can be moved.

use maxchannel::channel::Installation;
use maxchannel::contract::InstallationId;
use maxchannel::local::{self, Options, Registry, Running};
use maxchannel_simulator::max;
use serde_json::Value;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::world::{TOKEN, World};

const ADOPT: &str = "metadata: {name: support, annotations: {maxchannel.dev/adopt: \"true\"}}";
const PATIENCE: Duration = Duration::from_mins(1);

/// Another installation between the same simulators, with a folder, a store and a public address of
/// its own.
struct Other {
    id: &'static str,
    folder: tempfile::TempDir,
    data: tempfile::TempDir,
    port: u16,
    registry: Registry,
    running: Option<(Running, CancellationToken)>,
}

impl Other {
    fn beside(world: &World, id: &'static str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("secrets.yaml"), world.secrets(TOKEN)).unwrap();
        let other = Self { id, folder, data, port, registry: Registry::default(), running: None };
        other.write(&world.channel("support", ""));
        other
    }

    fn write(&self, text: &str) {
        std::fs::write(self.folder.path().join("support.yaml"), text).unwrap();
    }

    async fn run(&mut self, world: &World) {
        let stop = CancellationToken::new();
        let public = world.public.then(|| format!("http://127.0.0.1:{}", self.port).parse().unwrap());
        let options = Options {
            paths: vec![self.folder.path().to_owned()],
            listen: ([127, 0, 0, 1], self.port).into(),
            data_dir: self.data.path().to_owned(),
            installation: Installation { id: InstallationId::of(self.id), public_url: public, ..world.installation() },
            cadence: world.cadence.clone(),
            clock: world.clock.clone(),
        };
        let running = local::start(options, stop.clone()).await.unwrap();
        self.registry = running.registry.clone();
        self.running = Some((running, stop));
    }

    async fn stop(&mut self) {
        if let Some((running, stop)) = self.running.take() {
            stop.cancel();
            running.stopped().await;
        }
    }

    /// Reason and message of a condition that fails; none while it does not.
    fn failure(&self, kind: &str) -> Option<(String, String)> {
        failure(&self.registry, kind)
    }

    fn is_ready(&self) -> bool {
        let shown = serde_json::to_value(self.registry.shown()).unwrap();
        let conditions = shown["channels"][0]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|one| one["type"] == "Ready" && one["reason"] == "Ready" && one["status"] == "True")
    }
}

fn failure(registry: &Registry, kind: &str) -> Option<(String, String)> {
    let shown = serde_json::to_value(registry.shown()).unwrap();
    let conditions = shown["channels"][0]["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|one| one["type"] == kind && one["status"] == "False")?;
    let text = |member: &str| found[member].as_str().unwrap_or_default().to_owned();
    Some((text("reason"), text("message")))
}

async fn until(what: &str, mut ask: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !ask() {
        assert!(tokio::time::Instant::now() < deadline, "this did not come about: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a person would see of the outside.
fn outside(world: &World) -> (Vec<String>, Vec<Vec<Value>>) {
    let entities = ["MaxChannelSettings", "Channel", "ChatQueue", "ChatQueueOperator"];
    (world.subscriptions(), entities.map(|entity| world.rows(entity)).to_vec())
}

/// A customer asks, the agent answers: what the customer has read then, and what the agent has.
async fn talk(world: &World, customer: i64, words: &str) {
    let sender = format!("max:{customer}");
    let received = |text: &str| {
        let transcript = world.crm.control().transcript(&sender);
        transcript.iter().filter(|entry| entry["direction"] == "incoming" && entry["text"] == text).count()
    };
    let answered = |text: &str| {
        let transcript = world.max.control().transcript(customer, world.bot).unwrap();
        transcript.texts_of_bot().iter().filter(|one| **one == text).count()
    };
    world.max.control().say(customer, world.bot, words).unwrap();
    until("the customer's words are in the CRM", || received(words) > 0).await;
    let chat = world.crm.control().chats(Some(&sender))[0].clone();
    let chat = chat["Id"].as_str().or(chat["id"].as_str()).unwrap().parse().unwrap();
    // Taken already the second time.
    let _ = world.crm.control().accept(chat, world.anna);
    let answers: Vec<String> = (1..=5).map(|number| format!("{words}: ответ {number}")).collect();
    for answer in &answers {
        world.crm.control().send(chat, world.anna, answer, Vec::new()).unwrap();
    }
    until("the customer has every answer", || answers.iter().all(|answer| answered(answer) > 0)).await;
    // The last answer is reported only after a relay has asked for the outbox again.
    let reported = || {
        let outbox = world.crm.control().outbox();
        !outbox.iter().any(|row| row.to_string().contains("Pending"))
    };
    until("every answer is reported", reported).await;
    assert_eq!(received(words), 1, "the agent reads the customer once");
    for answer in &answers {
        assert_eq!(answered(answer), 1, "the customer reads {answer} once");
    }
}

fn new_customer(world: &World) -> i64 {
    let customer = world.max.control().create_user(max::NewUser::named("Мария")).unwrap();
    world.max.control().start(customer, world.bot).unwrap();
    customer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_installation_with_the_same_manifests_says_whose_the_bot_is_and_changes_nothing() {
    for public in [true, false] {
        let mut world = World::new().await;
        world.public = public;
        world.cadence.subscriptions = 300;
        world.cadence.crm = 300;
        world.write("support.yaml", &world.channel("support", ""));
        world.run().await;
        world.until_ready("support").await;
        let before = outside(&world);
        let mut other = Other::beside(&world, "staging");
        other.run(&world).await;
        until("the second says whose the rows are", || {
            other.failure("CrmConnected").is_some_and(|(reason, message)| {
                reason == "OwnedElsewhere" && message.contains("laptop/default/support")
            })
        })
        .await;
        if public {
            until("the second says whose the bot is", || {
                other
                    .failure("TokenAuthorized")
                    .is_some_and(|(reason, message)| reason == "BotInUse" && message.contains("laptop/default/support"))
            })
            .await;
        }
        let customer = new_customer(&world);
        talk(&world, customer, "Здравствуйте").await;
        // It stays so when the second is started again, even where it cannot ask the CRM.
        other.stop().await;
        other.run(&world).await;
        until("it still says so", || other.failure("CrmConnected").is_some()).await;
        talk(&world, customer, "И снова здравствуйте").await;
        assert!(!other.is_ready());
        assert_eq!(outside(&world), before);
        assert_eq!(world.condition("support", "Ready").0, "True");
        other.stop().await;
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adopt_moves_the_bot_and_the_installation_before_stands_down_and_does_not_take_it_back() {
    let mut world = World::new().await;
    world.cadence.subscriptions = 300;
    world.cadence.crm = 300;
    // Both have the annotation in the end, as where both are given the same manifests.
    let adopting = world.channel("support", "").replace("metadata: {name: support}", ADOPT);
    world.write("support.yaml", &adopting);
    world.run().await;
    world.until_ready("support").await;
    let customer = new_customer(&world);
    talk(&world, customer, "Здравствуйте").await;

    let mut other = Other::beside(&world, "cluster");
    other.run(&world).await;
    until("the second waits", || other.failure("CrmConnected").is_some()).await;
    other.write(&adopting);
    until("the second has the bot", || other.is_ready()).await;
    until("the first stands down", || {
        let says =
            failure(&world.registry, "CrmConnected").into_iter().chain(failure(&world.registry, "TokenAuthorized"));
        says.into_iter().any(|(_, message)| message.contains("cluster/default/support"))
    })
    .await;
    talk(&world, customer, "Вы ещё здесь?").await;
    assert_eq!(world.rows("MaxChannelSettings")[0]["Owner"], "cluster/default/support");
    let subscriptions = world.subscriptions();
    assert!(subscriptions.len() == 1 && subscriptions[0].contains("/cluster/"), "{subscriptions:?}");
    // Started again with the annotation still there, the first does not take it back.
    world.stop().await;
    world.run().await;
    until("the first still stands back", || failure(&world.registry, "CrmConnected").is_some()).await;
    talk(&world, customer, "Спасибо").await;
    assert_eq!(world.rows("MaxChannelSettings")[0]["Owner"], "cluster/default/support");
    assert_eq!(world.subscriptions(), subscriptions);
    other.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_and_a_mark_from_before_installations_had_ids_are_taken_over() {
    let mut world = World::ready().await;
    world.stop().await;
    let new = world.subscriptions().remove(0);
    let former = new.replace("/laptop/", "/");
    assert_ne!(new, former);
    world.max.control().drop_subscriptions(world.bot).unwrap();
    world.subscribe_stranger(&former).await;
    let id = world.rows("MaxChannelSettings")[0]["Id"].as_str().unwrap().parse().unwrap();
    world.crm.control().update("MaxChannelSettings", id, &serde_json::json!({"Owner": "default/support"})).unwrap();
    world.run().await;
    world.until("the address has the installation", || world.subscriptions() == [new.clone()]).await;
    world.until("so has the mark", || world.rows("MaxChannelSettings")[0]["Owner"] == "laptop/default/support").await;
    world.until_ready("support").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_start_at_the_same_moment_no_more_than_one_has_the_bot() {
    let mut world = World::new().await;
    world.cadence.subscriptions = 300;
    world.cadence.crm = 300;
    world.write("support.yaml", &world.channel("support", ""));
    let mut other = Other::beside(&world, "green");
    world.run().await;
    other.run(&world).await;
    until("one has it and the other says so", || {
        let first = world.condition("support", "Ready")
            == ("True".into(), "Ready".into(), world.condition("support", "Ready").2);
        let stood_back = |registry: &Registry| {
            failure(registry, "TokenAuthorized").is_some_and(|(reason, _)| reason == "BotInUse")
                || failure(registry, "CrmConnected").is_some_and(|(reason, _)| reason == "OwnedElsewhere")
        };
        (first && stood_back(&other.registry)) || (other.is_ready() && stood_back(&world.registry))
    })
    .await;
    let customer = new_customer(&world);
    talk(&world, customer, "Здравствуйте").await;
    assert_eq!(world.subscriptions().len(), 1, "{:?}", world.subscriptions());
    other.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_taken_out_is_not_worked_on_any_more_and_goes_on_where_it_is_brought() {
    let mut world = World::new().await;
    world.cadence.subscriptions = 300;
    world.cadence.crm = 300;
    world.write("support.yaml", &world.channel("support", ""));
    world.run().await;
    world.until_ready("support").await;
    let customer = new_customer(&world);
    talk(&world, customer, "Здравствуйте").await;
    let mut other = Other::beside(&world, "cluster");
    other.run(&world).await;
    until("the second waits", || other.failure("CrmConnected").is_some()).await;

    let from = world.data.path().join("default/support");
    let to = other.data.path().join("default/support");
    let store = tokio::task::spawn_blocking(move || {
        let mut store = Vec::new();
        maxchannel::relay::moving::export(&from, &mut store, None).unwrap();
        store
    })
    .await
    .unwrap();
    until("the first says where its messages are", || {
        failure(&world.registry, "RelayAvailable").is_some_and(|(reason, _)| reason == "StoreMoved")
    })
    .await;
    // MAX keeps it: nobody takes it now.
    world.max.control().say(customer, world.bot, "Есть кто?").unwrap();
    // Like a stranger's call: which channels there are is nobody's business.
    until("the relay refuses it for now", || {
        world.max.control().webhook_attempts().last().and_then(|attempt| attempt.status) == Some(403)
    })
    .await;
    tokio::task::spawn_blocking(move || maxchannel::relay::moving::import(&to, &mut store.as_slice()).unwrap())
        .await
        .unwrap();
    other.write(&world.channel("support", "").replace("metadata: {name: support}", ADOPT));
    until("the second has the bot", || other.is_ready()).await;
    talk(&world, customer, "Вы здесь?").await;
    let transcript = world.crm.control().transcript(&format!("max:{customer}"));
    let incoming = transcript.iter().filter(|entry| entry["direction"] == "incoming");
    let texts: Vec<&str> = incoming.filter_map(|entry| entry["text"].as_str()).collect();
    assert_eq!(texts, ["Здравствуйте", "Есть кто?", "Вы здесь?"]);
    other.stop().await;
    world.stop().await;
}
