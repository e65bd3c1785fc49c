//! The controller, as a whole and from outside, over an API server that does what a real one cannot
//! be made to do on time ([`server`]): random edits, drift, crashes, lost answers, conflicts,
//! watches that are late, doubled and broken off, and people who put their own objects under our
//! names. Held against:
//!
//! - it never writes or deletes what is not the channel's by the uid of its controller reference;
//! - it converges once things are quiet, and then writes nothing;
//! - it makes nothing twice, neither in the cluster nor outside;
//! - after the deletion nothing is left, in the cluster or outside.
//!
//! Not tried: somebody else's object that is made between the controller's look for a name that is
//! free and its own making. Server-side apply knows no "only if there is none".
//!
//! A sequence is chosen by its seed; how its steps meet those of the controller is up to the
//! machine. `MAXCHANNEL_SEED=7` plays one, `MAXCHANNEL_SEQUENCES=200` plays many.

#![cfg(feature = "simulator")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/any_account.rs"]
mod any_account;
#[path = "../support/controller_settings.rs"]
mod controller_settings;
mod hanging;
mod random;
mod server;
mod shares;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maxchannel::channel::schedule::Cadence;
use maxchannel::controller::{self, Running, Settings};
use maxchannel_simulator::{creatio, mango, max};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use any_account::any_account;
use controller_settings::controller_settings;
use random::Random;
use server::{NAMESPACE, OWNED, Server};

/// Sequences, unless the environment says otherwise.
const SEQUENCES: u64 = 24;
/// So many at once.
const AT_ONCE: usize = 12;
const STEPS: u64 = 24;
/// How long it may take to converge, which it does in seconds: many sequences share two cores.
const PATIENCE: Duration = Duration::from_mins(3);
/// Nothing is written for so long once it has converged.
const QUIET: Duration = Duration::from_secs(3);
const CHANNELS: [&str; 2] = ["sales", "support"];

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn serve(routes: Router) -> String {
    let listener = tokio::net::TcpListener::bind(local()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
    url
}

/// MANGO OFFICE with one employee, which knows every account.
async fn mango_of_all() -> (String, mango::Simulator) {
    let mango = mango::Simulator::start(mango::Options { listen: local(), ..mango::Options::default() }).await.unwrap();
    mango.control().put_employee(mango::Employee {
        name: "Иван Агентов".to_owned(),
        email: Some("ivan@example.com".to_owned()),
        extension: Some("101".to_owned()),
        ..mango::Employee::default()
    });
    (any_account(mango.url(), local()).await, mango)
}

/// One controller that has nothing left to do, and the account of its channels.
async fn settled() -> (World, mango::Simulator) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mango, account) = mango_of_all().await;
    let world = World::start(1, &mango).await;
    world.until(World::amiss).await.unwrap();
    (world, account)
}

/// A relay that has taken up whatever it was told.
async fn relay(State(server): State<Server>, Path((_, name)): Path<(String, String)>) -> Response {
    status(&server, &name, |told| facts(told, 0))
}

/// The same with a dead letter.
async fn relay_with_letter(State(server): State<Server>, Path((_, name)): Path<(String, String)>) -> Response {
    status(&server, &name, |told| facts(told, 1))
}

/// The same with a receipt, which does not add up.
async fn relay_with_receipt(State(server): State<Server>, Path((_, name)): Path<(String, String)>) -> Response {
    status(&server, &name, |told| {
        let mut facts = facts(told, 0);
        facts["receipt"] =
            json!({"toCrm": {"received": 5, "delivered": 4, "lost": 1}, "toMax": {"received": 3, "delivered": 3}});
        facts
    })
}

fn status(server: &Server, name: &str, facts: impl FnOnce(&Value) -> Value) -> Response {
    let told = server.get("secrets", &format!("{name}-relay")).and_then(|secret| told(&secret));
    told.map_or(StatusCode::SERVICE_UNAVAILABLE.into_response(), |told| axum::Json(facts(&told)).into_response())
}

fn facts(told: &Value, dead_letters: u32) -> Value {
    let well = json!({"ok": true, "code": null, "since": 0});
    json!({
        "revision": told["revision"], "version": "0", "max": well, "crm": well, "bot": well, "oldestSeconds": 0,
        "deadLetters": dead_letters, "openDialogs": 3, "lastUpdateAt": null, "autoClose": [],
    })
}

fn told(secret: &Value) -> Option<Value> {
    let text = STANDARD.decode(secret["data"]["channel.json"].as_str()?).ok()?;
    serde_json::from_slice(&text).ok()
}

/// One cluster with its controllers, and what is outside of it.
struct World {
    server: Server,
    max: max::Simulator,
    crm: creatio::Simulator,
    bots: Vec<i64>,
    settings: Settings,
    running: Vec<(Running, CancellationToken)>,
    /// The text of each channel's automatic reply.
    texts: Vec<String>,
    polls: Vec<bool>,
    dice: Random,
    log: Vec<String>,
}

impl World {
    async fn start(seed: u64, mango: &str) -> Self {
        let max =
            max::Simulator::start(max::Options { listen: local(), files_listen: local(), ..max::Options::default() });
        let max = max.await.unwrap();
        let options = creatio::Options { listen: local(), identity_listen: local(), ..creatio::Options::default() };
        let crm = creatio::Simulator::start(options).await.unwrap();
        crm.control().add_agent("Иван Агентов", "ivan@example.com");
        let server = Server::new(seed ^ 0x5EED);
        let routes = Router::new()
            .route("/{namespace}/{name}/status", get(relay))
            .route("/{namespace}/{name}/subscription/{made}", put(|| async { StatusCode::NO_CONTENT }))
            .with_state(server.clone());
        let relays = serve(routes).await;
        let bots = CHANNELS.iter().map(|name| {
            let token = format!("invented-token-of-{name}");
            max.control().create_bot(max::NewBot::new(name, &token)).unwrap().user_id
        });
        let (bots, settings) = (bots.collect(), settings(&max.url(), mango, relays));
        let mut world = Self {
            server,
            max,
            crm,
            bots,
            settings,
            running: Vec::new(),
            texts: vec!["Текст 0".to_owned(); CHANNELS.len()],
            polls: vec![false; CHANNELS.len()],
            dice: Random::new(seed),
            log: Vec::new(),
        };
        world.put_secrets();
        world.put_channels();
        world.run().await;
        world
    }

    fn put_secrets(&self) {
        let put = |name: &str, data: Value| {
            let encoded: serde_json::Map<String, Value> = data
                .as_object()
                .unwrap()
                .iter()
                .map(|(key, value)| (key.clone(), json!(STANDARD.encode(value.as_str().unwrap()))))
                .collect();
            if self.server.get("secrets", name).is_none() {
                self.server.create("secrets", name, json!({"metadata": {}, "type": "Opaque", "data": encoded}));
            }
        };
        for name in CHANNELS {
            put(&format!("bot-{name}"), json!({"token": format!("invented-token-of-{name}")}));
            put(
                &format!("mango-{name}"),
                json!({"apiKey": format!("invented{name}"), "apiSalt": format!("inventedsalt{name}")}),
            );
        }
        let crm = creatio::Options::default();
        put("creatio", json!({"clientId": crm.client_id, "clientSecret": crm.client_secret}));
    }

    fn spec(&self, number: usize) -> Value {
        let name = CHANNELS[number];
        let storage = if number == 0 { json!({"ephemeral": {}}) } else { json!({"volumeClaim": {"size": "1Gi"}}) };
        let intake = if self.polls[number] {
            json!({"longPoll": {}})
        } else {
            json!({"webhook": {"url": "http://127.0.0.1:9"}})
        };
        json!({
            "tokenSecretRef": {"name": format!("bot-{name}"), "key": "token"},
            "mango": {"accountNumber": format!("40000000{number}"), "credentialsSecretRef": {"name": format!("mango-{name}")}},
            "creatio": {"url": self.crm.url(), "identityUrl": self.crm.identity_url(),
                "credentialsSecretRef": {"name": "creatio"}, "limits": {"requestsPerSecond": 1000, "inFlight": 64}},
            "receiver": {"employee": {"extension": "101"}},
            "autoReplies": [{"after": "1h", "text": self.texts[number]}],
            "intake": intake,
            "relay": {"storage": storage},
        })
    }

    /// Makes the channels that are not there, and writes what is wanted of the others.
    fn put_channels(&self) {
        for (number, name) in CHANNELS.iter().enumerate() {
            let spec = self.spec(number);
            if self.server.get("maxchannels", name).is_none() {
                self.server.create("maxchannels", name, json!({"metadata": {}, "spec": spec}));
            } else {
                self.server.edit("maxchannels", name, |channel| channel["spec"] = spec);
            }
        }
    }

    async fn run(&mut self) {
        let mut settings = self.settings.clone();
        settings.identity = format!("controller-{}", self.dice.throw());
        let stop = CancellationToken::new();
        let (calls, watches) = (self.server.client(), self.server.client());
        let running = controller::start(settings, calls, watches, stop.clone()).await.unwrap();
        self.running.push((running, stop));
    }

    async fn stop_all(&mut self, crash: bool) {
        for (running, stop) in self.running.drain(..) {
            if crash {
                running.crash().await;
            } else {
                stop.cancel();
                running.stopped().await;
            }
        }
    }

    /// Something happens.
    async fn step(&mut self) {
        let number = usize::try_from(self.dice.below(2)).unwrap();
        let name = CHANNELS[number];
        let relay = format!("{name}-relay");
        let kind = *self.dice.pick(&OWNED[..5]);
        let what = self.dice.below(16);
        let told = match what {
            0 | 1 => {
                self.texts[number] = format!("Текст {}", self.dice.below(1_000));
                let spec = self.spec(number);
                self.server.edit("maxchannels", name, |channel| channel["spec"] = spec);
                format!("{name} is edited")
            }
            2 => {
                self.polls[number] = !self.polls[number];
                let spec = self.spec(number);
                self.server.edit("maxchannels", name, |channel| channel["spec"] = spec);
                format!("{name} has another intake")
            }
            3 => {
                self.server.edit("maxchannels", name, |channel| channel["spec"]["suspend"] = json!(true));
                format!("{name} is suspended")
            }
            4 => {
                self.server.delete(kind, &relay);
                format!("{kind} {relay} is deleted")
            }
            5 => {
                self.server.edit(kind, &relay, |object| {
                    object["metadata"]["labels"]["app.kubernetes.io/component"] = json!("drifted");
                });
                format!("{kind} {relay} has another label")
            }
            6 => {
                self.server
                    .edit("secrets", &relay, |secret| secret["data"]["token"] = json!(STANDARD.encode("garbled")));
                self.server.edit("services", &relay, |service| service["spec"]["selector"] = json!({"app": "another"}));
                self.server.edit("networkpolicies", &relay, |policy| policy["spec"]["podSelector"] = json!({}));
                self.server.edit("statefulsets", &relay, |set| {
                    set["metadata"]["labels"]["app.kubernetes.io/component"] = json!("drifted");
                });
                format!("objects of {name} are edited")
            }
            7 => {
                self.server.swap(kind, &relay);
                format!("{kind} {relay} is a person's now")
            }
            8 => {
                self.stop_all(true).await;
                self.run().await;
                "the controllers crash, one starts".to_owned()
            }
            9 => {
                self.stop_all(false).await;
                self.run().await;
                "the controllers stop, one starts".to_owned()
            }
            10 if self.running.len() == 1 => {
                self.run().await;
                "another controller starts".to_owned()
            }
            10 => {
                // The first, which may lead.
                self.running.remove(0).0.crash().await;
                "one of two controllers crashes".to_owned()
            }
            11 => {
                self.server.away(true);
                tokio::time::sleep(Duration::from_millis(500 + self.dice.below(1_500))).await;
                self.server.away(false);
                "the API server was away".to_owned()
            }
            12 => {
                self.server.delete("secrets", &format!("mango-{name}"));
                format!("mango-{name} is deleted")
            }
            13 => {
                self.put_secrets();
                "the Secrets are put back".to_owned()
            }
            14 => {
                // With all that a deletion needs.
                self.put_secrets();
                self.server.delete("maxchannels", name);
                format!("{name} is deleted")
            }
            _ => {
                self.server.edit("maxchannels", name, |channel| {
                    if channel["metadata"]["deletionTimestamp"].is_null() {
                        channel["metadata"]["finalizers"] = json!([]);
                    }
                });
                self.put_channels();
                format!("the finalizer of {name} is taken away")
            }
        };
        self.log.push(told);
        let pause = self.dice.below(900);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    /// What is not as it should be yet.
    fn amiss(&self) -> Option<String> {
        for (number, name) in CHANNELS.iter().enumerate() {
            if let Some(why) = self.server.not_ready(name) {
                return Some(why);
            }
            for kind in &OWNED[..5] {
                if let Some(drift) = self.server.drift(kind, &format!("{name}-relay")) {
                    return Some(drift);
                }
            }
            let told = self.server.get("secrets", &format!("{name}-relay")).and_then(|secret| told(&secret));
            if !told.is_some_and(|told| told.to_string().contains(&self.texts[number])) {
                return Some(format!("the relay of {name} is not told of {}", self.texts[number]));
            }
            let subscriptions = self.subscriptions(number);
            let expected = usize::from(!self.polls[number]);
            if subscriptions.len() != expected {
                return Some(format!("{name} has the subscriptions {subscriptions:?} and should have {expected}"));
            }
        }
        None
    }

    fn subscriptions(&self, number: usize) -> Vec<String> {
        let bot = self.max.control().bot(self.bots[number]).unwrap();
        bot.subscriptions.into_iter().map(|subscription| subscription.url).collect()
    }

    /// Waits until nothing is amiss; answers what is, if that takes too long.
    async fn until(&self, mut amiss: impl FnMut(&Self) -> Option<String>) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let violations = self.server.violations();
            if !violations.is_empty() {
                return Err(format!("written onto what is not ours:\n{}", violations.join("\n")));
            }
            let Some(what) = amiss(self) else { return Ok(()) };
            if began.elapsed() > PATIENCE {
                return Err(format!("after {PATIENCE:?}: {what}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether everything that was made outside was made once.
    fn twice(&self) -> Option<String> {
        for collection in ["Channel", "ChatQueue", "MaxChannelSettings"] {
            let rows = self.crm.control().rows(collection);
            let ours = rows.iter().filter(|row| {
                let text = row.to_string();
                self.bots.iter().any(|bot| text.contains(&format!("max-bot:{bot}")) || text.contains(&bot.to_string()))
            });
            let count = ours.count();
            if count > self.bots.len() {
                return Some(format!("{count} rows of {collection}: {rows:?}"));
            }
        }
        let left = self.server.told("ExternalObjectsLeft");
        (!left.is_empty()).then(|| format!("left outside, which was well all the time: {left:?}"))
    }

    /// The whole sequence; what is wrong, if anything is.
    async fn play(&mut self) -> Result<(), String> {
        self.server.storm(true);
        for _ in 0..STEPS {
            self.step().await;
        }
        self.server.storm(false);
        // Things are mended.
        self.put_secrets();
        self.server.give_way();
        if self.running.is_empty() {
            self.run().await;
        }
        // Those that are being deleted go first.
        self.until(|world| {
            world.put_channels();
            let leaving = CHANNELS.iter().find(|name| {
                world
                    .server
                    .get("maxchannels", name)
                    .is_some_and(|channel| channel["metadata"]["deletionTimestamp"].is_string())
            });
            leaving.map(|name| format!("{name} is still being deleted"))
        })
        .await?;
        // Whatever was swapped last.
        self.server.give_way();
        self.until(Self::amiss).await?;
        let mut last = (self.server.writes(), Instant::now());
        self.until(|world| {
            let writes = world.server.writes();
            if writes != last.0 {
                last = (writes, Instant::now());
            }
            (last.1.elapsed() < QUIET).then(|| format!("it goes on writing: {writes} so far"))
        })
        .await?;
        self.until(Self::amiss).await?;
        if let Some(twice) = self.twice() {
            return Err(twice);
        }
        // The end, in bad weather at first.
        self.server.storm(true);
        for name in CHANNELS {
            self.server.delete("maxchannels", name);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.server.storm(false);
        self.server.give_way();
        self.until(|world| {
            let left = world.server.left();
            (!left.is_empty()).then(|| format!("left in the cluster: {left:#?}"))
        })
        .await?;
        for number in 0..CHANNELS.len() {
            let subscriptions = self.subscriptions(number);
            if !subscriptions.is_empty() {
                return Err(format!("left at MAX: {subscriptions:?}"));
            }
        }
        let marks = self.crm.control().rows("MaxChannelSettings");
        if marks.iter().any(|row| row["Owner"].as_str().is_some_and(|owner| !owner.is_empty())) {
            return Err(format!("a mark is left in the CRM: {marks:?}"));
        }
        self.twice().map_or(Ok(()), Err)
    }
}

fn settings(max: &str, mango: &str, relays: String) -> Settings {
    let often = Cadence { bot: 4_000, subscriptions: 2_000, mango: 8_000, crm: 4_000, spread_percent: 20 };
    Settings {
        cadence: often,
        relay_interval: Duration::from_secs(2),
        deletion_patience: PATIENCE,
        relay_link: controller::RelayLink::Fake { base: relays },
        ..controller_settings(NAMESPACE, max, mango)
    }
}

/// A world with other relays, in which no controller runs yet.
async fn stopped_with(mango: &str, relays: Router<Server>) -> World {
    let mut world = World::start(1, mango).await;
    world.stop_all(false).await;
    let relays = relays
        .route("/{namespace}/{name}/subscription/{made}", put(|| async { StatusCode::NO_CONTENT }))
        .with_state(world.server.clone());
    world.settings.relay_link = controller::RelayLink::Fake { base: serve(relays).await };
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_tells_how_channels_and_relays_stand_and_tries_dead_letters_again_for_its_token_only() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mango, _account) = mango_of_all().await;
    let letters = json!({"deadLetters": [{"id": "crm-7", "direction": "toCrm", "customer": "max:4711", "author": "customer",
        "uncertain": false, "ageSeconds": 60, "reason": "the CRM refuses it", "text": "invented words"}], "more": false});
    let routes = Router::new()
        .route("/{namespace}/{name}/status", get(relay_with_letter))
        .route("/{namespace}/{name}/dead-letters", get(async move || axum::Json(letters)))
        .route(
            "/{namespace}/{name}/dead-letters/replay",
            post(async |axum::Json(wanted): axum::Json<Value>| {
                axum::Json(json!({"replayed": wanted["ids"], "unknown": []}))
            }),
        );
    let mut world = stopped_with(&mango, routes).await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "an-invented-token-of-the-page").unwrap();
    world.settings.status_page = Some(controller::StatusPage { listen: local(), token });
    world.run().await;
    let page = format!("http://{}", world.running[0].0.status_page.unwrap());
    let client = reqwest::Client::new();
    let is_known = |seen: &Value| {
        let channels = seen["channels"].as_array().unwrap();
        channels.len() == CHANNELS.len()
            && channels.iter().all(|one| {
                one["relay"]["openDialogs"] == 3
                    && one["letters"][0]["reason"] == "the CRM refuses it"
                    && one["conditions"].as_array().is_some_and(|conditions| !conditions.is_empty())
            })
    };
    let patience = Instant::now() + PATIENCE;
    loop {
        let text = client.get(format!("{page}/ui/state")).send().await.unwrap().text().await.unwrap();
        for secret in ["4711", "invented words", "invented-token"] {
            assert!(!text.contains(secret), "{text}");
        }
        if is_known(&serde_json::from_str(&text).unwrap()) {
            break;
        }
        assert!(Instant::now() < patience, "{text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let replay = async |token: Option<&str>| {
        let wanted = json!({"namespace": NAMESPACE, "name": "support", "ids": ["crm-7"]});
        let request = client.post(format!("{page}/ui/replay")).header("Origin", &page).header("X-MaxChannel-Page", "1");
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        let request = request.header("Content-Type", "application/json").body(wanted.to_string());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(replay(None).await.0, 401);
    assert_eq!(replay(Some("another-invented-token")).await.0, 401);
    let (status, text) = replay(Some("an-invented-token-of-the-page")).await;
    assert_eq!((status, text.contains(r#""replayed":["crm-7"]"#)), (200, true), "{text}");
    world.stop_all(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipts_of_all_relays_are_summed_in_the_controllers_metrics() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mango, _account) = mango_of_all().await;
    let routes = Router::new().route("/{namespace}/{name}/status", get(relay_with_receipt));
    let mut world = stopped_with(&mango, routes).await;
    world.run().await;
    let metrics = format!("http://{}/metrics", world.running[0].0.address);
    let of =
        |what: &str, figure: usize| format!("maxchannel_controller_receipt_{what}\"}} {}", figure * CHANNELS.len());
    let expected = [
        of("messages{direction=\"to_crm\",outcome=\"received", 5),
        of("messages{direction=\"to_crm\",outcome=\"delivered", 4),
        of("messages{direction=\"to_max\",outcome=\"delivered", 3),
        of("imbalance{direction=\"to_crm\",outcome=\"lost", 1),
        of("imbalance{direction=\"to_max\",outcome=\"lost", 0),
    ];
    let patience = Instant::now() + PATIENCE;
    loop {
        let text = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
        if expected.iter().all(|line| text.lines().any(|found| found == line)) {
            break;
        }
        assert!(Instant::now() < patience, "{text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.stop_all(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_channel_that_becomes_ready_without_trouble_costs_few_requests_and_tells_only_what_was_done() {
    let (mut world, _account) = settled().await;
    // An event comes after the status that it is about.
    let untold =
        |world: &World| (world.server.told("Ready").len() < CHANNELS.len()).then(|| "Ready is not told".to_owned());
    world.until(untold).await.unwrap();
    world.stop_all(false).await;
    let mut told = world.server.all_told();
    told.sort();
    let reasons: Vec<&str> = told.iter().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(
        reasons,
        ["CrmChannelCreated", "CrmChannelCreated", "EphemeralStorage", "Ready", "Ready", "Subscribed", "Subscribed"],
        "{told:?}"
    );
    assert_eq!(told.iter().filter(|(_, note)| note.contains("The relay is made")).count(), 1, "{told:?}");
    let mut requests = world.server.requests();
    // As often as its objects are looked at.
    requests.remove("GET persistentvolumeclaims");
    // One more on a slow machine, which first tells of what is on its way.
    let statuses = requests.remove("PATCH maxchannels/status").unwrap_or(0);
    assert!((2..=4).contains(&statuses), "{statuses} statuses");
    let shown: Vec<String> = requests.iter().map(|(request, times)| format!("{request} {times}")).collect();
    assert_eq!(
        shown,
        [
            "GET secrets 5",
            "PATCH maxchannels 2",
            "POST events 7",
            "POST networkpolicies 2",
            "POST secrets 2",
            "POST serviceaccounts 2",
            "POST services 2",
            "POST statefulsets 2",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_leads_again_after_an_outage_reads_no_secret_that_has_not_changed() {
    let (mut world, _account) = settled().await;
    let metrics = format!("http://{}/metrics", world.running[0].0.address);
    let leads = async |expected: u8| {
        let line = format!("maxchannel_controller_leader {expected}");
        let began = Instant::now();
        while !reqwest::get(&metrics).await.unwrap().text().await.unwrap().lines().any(|found| found == line) {
            assert!(began.elapsed() < PATIENCE, "{line}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let before = world.server.requests()["GET secrets"];
    world.server.away(true);
    leads(0).await;
    world.server.away(false);
    leads(1).await;
    // A change shows that both are looked at again.
    for text in &mut world.texts {
        *text = "Текст после перерыва".to_owned();
    }
    world.put_channels();
    world.until(World::amiss).await.unwrap();
    // One relay's Secret each is written, and read for that.
    assert_eq!(world.server.requests()["GET secrets"] - before, CHANNELS.len() as u64);
    world.stop_all(false).await;
}

/// Nobody but the relay's own Secret may have the right one any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_controller_leaves_the_relay_its_token_until_max_has_taken_the_manifests() {
    let (mut world, _account) = settled().await;
    let held = |world: &World, number: usize| {
        let secret = world.server.get("secrets", &format!("{}-relay", CHANNELS[number])).unwrap();
        String::from_utf8(STANDARD.decode(secret["data"]["token"].as_str().unwrap()).unwrap()).unwrap()
    };
    let right: Vec<String> = (0..CHANNELS.len()).map(|number| held(&world, number)).collect();
    world.stop_all(true).await;
    world.max.control().create_bot(max::NewBot::new("Чужой", "invented-token-of-another-bot")).unwrap();
    // One that MAX does not know, and one of another bot.
    for (name, wrong) in CHANNELS.iter().zip(["invented-token-that-is-wrong", "invented-token-of-another-bot"]) {
        world
            .server
            .edit("secrets", &format!("bot-{name}"), |secret| secret["data"]["token"] = json!(STANDARD.encode(wrong)));
    }
    world.texts[0] = "Текст при неверном токене".to_owned();
    world.put_channels();
    world.run().await;
    let told = |world: &World| -> Option<String> {
        for (number, reason) in ["TokenInvalid", "BotChanged"].into_iter().enumerate() {
            assert_eq!(held(world, number), right[number], "{}", CHANNELS[number]);
            if let Some(why) = world.server.not_for(CHANNELS[number], "TokenAuthorized", reason) {
                return Some(why);
            }
        }
        let secret = world.server.get("secrets", &format!("{}-relay", CHANNELS[0])).unwrap();
        let is_new = told(&secret).is_some_and(|told| told.to_string().contains(&world.texts[0]));
        (!is_new).then(|| "the relay is not told of the new text".to_owned())
    };
    world.until(told).await.unwrap();
    world.stop_all(false).await;
}

fn image(world: &World, name: &str) -> Value {
    let set = world.server.get("statefulsets", &format!("{name}-relay")).unwrap_or_default();
    set["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

/// Lets what was written of a relay come up, as far as its StatefulSet says.
fn come_up(world: &World, name: &str) {
    world.server.edit("statefulsets", &format!("{name}-relay"), |set| {
        let generation = set["metadata"]["generation"].clone();
        set["status"] = json!({"observedGeneration": generation, "replicas": 1, "readyReplicas": 1,
            "currentRevision": "newest", "updateRevision": "newest"});
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_secret_is_anothers_takes_no_turn_from_those_that_are_replaced() {
    let (mut world, _account) = settled().await;
    world.stop_all(true).await;
    world.server.swap("secrets", "sales-relay");
    world.settings.relay_image = "localhost/maxchannel:newer".to_owned();
    world.run().await;
    let newer = |world: &World| image(world, "support") == json!("localhost/maxchannel:newer");
    world.until(|world| (!newer(world)).then(|| "support has the old image".to_owned())).await.unwrap();
    let refused = |world: &World| {
        let status = world.server.get("maxchannels", "sales").unwrap()["status"].to_string();
        (!status.contains("ForeignObject")).then(|| format!("sales is not refused: {status}"))
    };
    world.until(refused).await.unwrap();
    come_up(&world, "support");
    world.server.edit("maxchannels", "support", |channel| {
        channel["spec"]["relay"]["resources"] = json!({"limits": {"memory": "512Mi"}});
    });
    let changed = |world: &World| {
        let set = world.server.get("statefulsets", "support-relay").unwrap();
        let memory = &set["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"];
        (*memory != json!("512Mi")).then(|| format!("support waits for its turn: {memory}"))
    };
    world.until(changed).await.unwrap();
    world.stop_all(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_turn_of_a_relay_whose_channel_is_gone() {
    let (mut world, _account) = settled().await;
    world.stop_all(true).await;
    world.settings.relay_image = "localhost/maxchannel:newer".to_owned();
    world.run().await;
    let newer = |world: &World| -> Vec<&str> {
        CHANNELS.into_iter().filter(|name| image(world, name) == json!("localhost/maxchannel:newer")).collect()
    };
    world.until(|world| newer(world).is_empty().then(|| "nobody has the new image".to_owned())).await.unwrap();
    let first = newer(&world)[0];
    world.server.edit("maxchannels", first, |channel| channel["metadata"]["finalizers"] = json!([]));
    world.server.delete("maxchannels", first);
    let other = CHANNELS.into_iter().find(|name| *name != first).unwrap();
    world.until(|world| (!newer(world).contains(&other)).then(|| format!("{other} waits for {first}"))).await.unwrap();
    world.stop_all(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_back_for_the_account_takes_what_is_its_own_away_and_drops_nothing_unasked() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mango, _account) = mango_of_all().await;
    let routes = Router::new().route("/{namespace}/{name}/status", get(relay_with_letter));
    let mut world = stopped_with(&mango, routes).await;
    world.run().await;
    world.until(|world| world.server.not_for("support", "DeliveryHealthy", "DeadLetters")).await.unwrap();
    assert_eq!(world.subscriptions(1).len(), 1);
    let account = world.spec(0)["mango"]["accountNumber"].clone();
    world.server.edit("maxchannels", "support", |channel| channel["spec"]["mango"]["accountNumber"] = account);
    world.until(|world| world.server.not_for("support", "AccountReady", "AccountInUse")).await.unwrap();
    world.server.delete("maxchannels", "support");
    let waits = |world: &World| world.server.told("DeletionWaits").is_empty().then(|| "nobody waits".to_owned());
    world.until(waits).await.unwrap();
    assert!(world.server.get("maxchannels", "support").is_some(), "it is gone with what it held");
    assert_eq!(world.subscriptions(1), Vec::<String>::new());
    let rows = world.crm.control().rows("MaxChannelSettings");
    let bot = world.bots[1].to_string();
    let own = rows.iter().find(|row| row["BotUserId"] == bot.as_str()).unwrap();
    assert_eq!(own["Owner"], "", "the mark is left");
    world.server.edit("maxchannels", "support", |channel| {
        channel["metadata"]["annotations"] = json!({"maxchannel.dev/force-delete": "true"});
    });
    let gone = |world: &World| world.server.get("maxchannels", "support").map(|_| "it is there".to_owned());
    world.until(gone).await.unwrap();
    assert_eq!(world.server.told("UndeliveredDropped").len(), 1);
    world.stop_all(false).await;
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_it_converges_touches_only_its_own_makes_nothing_twice_and_leaves_nothing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let level = std::env::var("MAXCHANNEL_LOG").unwrap_or_else(|_| "off".to_owned());
    maxchannel::telemetry::start(maxchannel::telemetry::Format::Text, &level);
    let (mango, _account) = mango_of_all().await;
    let seeds: Vec<u64> = if let Some(seed) = number("MAXCHANNEL_SEED") {
        vec![seed]
    } else {
        let first = u64::from(uuid::Uuid::new_v4().as_fields().0);
        (0..number("MAXCHANNEL_SEQUENCES").unwrap_or(SEQUENCES)).map(|place| first + place).collect()
    };
    let began = Instant::now();
    let played = futures::StreamExt::buffer_unordered(
        futures::stream::iter(seeds.iter().map(|seed| {
            let (seed, mango) = (*seed, mango.clone());
            tokio::spawn(async move {
                let mut world = World::start(seed, &mango).await;
                let outcome = world.play().await;
                world.stop_all(true).await;
                let counts = world.server.counts();
                outcome.map(|()| counts).map_err(|what| {
                    format!(
                        "MAXCHANNEL_SEED={seed} plays it again; what happened:\n{}\nand then: {what}",
                        world.log.join("\n")
                    )
                })
            })
        })),
        AT_ONCE,
    );
    let outcomes: Vec<_> = futures::StreamExt::collect(played).await;
    let (mut failures, mut counts) = (Vec::new(), std::collections::BTreeMap::<&str, u64>::new());
    for outcome in outcomes {
        match outcome.unwrap() {
            Ok(faults) => faults.into_iter().for_each(|(fault, times)| *counts.entry(fault).or_default() += times),
            Err(failure) => failures.push(failure),
        }
    }
    eprintln!("{} sequences in {:?}; faults: {counts:?}", seeds.len(), began.elapsed());
    assert!(failures.is_empty(), "{} of {} sequences:\n{}", failures.len(), seeds.len(), failures.join("\n\n"));
    // Dice that never fall prove nothing.
    if seeds.len() as u64 >= SEQUENCES {
        assert!(
            counts.len() == 6 && counts.values().all(|times| *times > 0),
            "not every fault has happened: {counts:?}"
        );
    }
}
