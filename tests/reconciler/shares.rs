//! Many channels on one CRM: the controller tells each relay its share, and all real relays
//! together keep the limit, also while channels come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maxchannel::api::ChannelRef;
use maxchannel::contract::RelayConfig;
use maxchannel::contract::share::{CrmShare, Share};
use maxchannel::controller::{self, RelayLink, Settings};
use maxchannel::relay::Relay;
use maxchannel::time::Clock;
use maxchannel_simulator::{creatio, max};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::controller_settings::controller_settings;
use crate::server::{NAMESPACE, Server};
use crate::{PATIENCE, local, mango_of_all, serve};

const LIMIT: u32 = 40;

/// The relays of a cluster, each of which starts when it is first asked.
#[derive(Clone)]
struct Pods {
    server: Server,
    running: Arc<Mutex<BTreeMap<String, Pod>>>,
    /// What a relay was told, in order.
    told: Arc<Mutex<Vec<(String, Share)>>>,
}

struct Pod {
    relay: Relay,
    _data: tempfile::TempDir,
}

impl Pods {
    /// The relay under the configuration of the moment.
    async fn relay(&self, name: &str) -> Option<Relay> {
        let secret = self.server.get("secrets", &format!("{name}-relay"))?;
        let folder = tempfile::tempdir().unwrap();
        for (file, data) in secret["data"].as_object()? {
            std::fs::write(folder.path().join(file), STANDARD.decode(data.as_str()?).unwrap()).unwrap();
        }
        let config = RelayConfig::read(folder.path()).unwrap();
        let mut running = self.running.lock().await;
        if let Some(pod) = running.get(name) {
            pod.relay.apply(config).await.unwrap();
            return Some(pod.relay.clone());
        }
        let data = tempfile::tempdir().unwrap();
        let relay = Relay::open(config, data.path(), Clock::real()).await.unwrap();
        running.insert(name.to_owned(), Pod { relay: relay.clone(), _data: data });
        Some(relay)
    }

    /// What each relay may ask now, but for the next to nothing that it has before it is told.
    async fn shares(&self) -> BTreeMap<String, Share> {
        let mut shares = BTreeMap::new();
        for (name, pod) in self.running.lock().await.iter() {
            let held = pod.relay.facts().await.crm_share.map(|held| held.share);
            shares.extend(held.filter(|share| *share != Share::UNTOLD).map(|share| (name.clone(), share)));
        }
        shares
    }

    async fn until_each_has(&self, channels: usize, share: Share) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // They are asked one after another: only what is the same a second time was in force
            // all at once.
            let (before, shares) = (self.shares().await, self.shares().await);
            let sum: f64 = shares.values().map(|share| share.per_second()).sum();
            let is_within = sum <= f64::from(LIMIT) + 1e-6;
            assert!(is_within || before != shares, "{sum} requests a second in all: {shares:?}");
            if shares.len() == channels && shares.values().all(|one| *one == share) {
                return;
            }
            assert!(Instant::now() < deadline, "not each of {channels} has {share:?}: {shares:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn status(State(pods): State<Pods>, Path((_, name)): Path<(String, String)>) -> Response {
    match pods.relay(&name).await {
        Some(relay) => Json(relay.facts().await).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn crm_share(
    State(pods): State<Pods>,
    Path((_, name, ..)): Path<(String, String, String, String)>,
    Json(told): Json<CrmShare>,
) -> Response {
    let Some(relay) = pods.relay(&name).await else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    pods.told.lock().await.push((name, told.share));
    relay
        .take_crm_share(told)
        .await
        .unwrap()
        .map_or(StatusCode::CONFLICT.into_response(), |held| Json(held).into_response())
}

fn channel_name(number: usize) -> String {
    format!("channel-{number:02}")
}

/// A cluster whose channels are all on one CRM.
struct Company {
    server: Server,
    max: max::Simulator,
    crm: creatio::Simulator,
    pods: Pods,
    bots: Vec<i64>,
}

impl Company {
    async fn start() -> Self {
        let max = max::Options { listen: local(), files_listen: local(), ..max::Options::default() };
        let crm = creatio::Options { listen: local(), identity_listen: local(), ..creatio::Options::default() };
        let (max, crm) = (max::Simulator::start(max).await.unwrap(), creatio::Simulator::start(crm).await.unwrap());
        crm.control().add_agent("Иван Агентов", "ivan@example.com");
        let server = Server::new(7);
        let pods = Pods { server: server.clone(), running: Arc::default(), told: Arc::default() };
        let company = Self { server, max, crm, pods, bots: Vec::new() };
        let options = creatio::Options::default();
        company.put_secret("creatio", &json!({"clientId": options.client_id, "clientSecret": options.client_secret}));
        company
    }

    fn put_secret(&self, name: &str, data: &Value) {
        let data: serde_json::Map<String, Value> = { data.as_object().unwrap().iter() }
            .map(|(key, value)| (key.clone(), json!(STANDARD.encode(value.as_str().unwrap()))))
            .collect();
        self.server.create("secrets", name, json!({"metadata": {}, "type": "Opaque", "data": data}));
    }

    fn add_channel(&mut self) {
        let number = self.bots.len();
        let name = channel_name(number);
        let token = format!("invented-token-of-{name}");
        self.bots.push(self.max.control().create_bot(max::NewBot::new(&name, &token)).unwrap().user_id);
        let account = format!("invented{number}");
        self.put_secret(&name, &json!({"token": token, "apiKey": account, "apiSalt": account}));
        // The lowest counts, and one site is one whatever its spelling.
        let limit = if number == 1 { LIMIT } else { LIMIT + 5 };
        let site = if number.is_multiple_of(2) { self.crm.url() } else { self.crm.url().to_uppercase() + "/" };
        let spec = json!({
            "tokenSecretRef": {"name": name, "key": "token"},
            "mango": {"accountNumber": format!("4000{number:05}"), "credentialsSecretRef": {"name": name}},
            "creatio": {"url": site.replace("HTTP:", "http:"), "identityUrl": self.crm.identity_url(),
                "credentialsSecretRef": {"name": "creatio"}, "limits": {"requestsPerSecond": limit, "inFlight": 8}},
            "receiver": {"employee": {"extension": "101"}},
            "intake": {"longPoll": {}},
            "relay": {"storage": {"ephemeral": {}}},
        });
        self.server.create("maxchannels", &name, json!({"metadata": {}, "spec": spec}));
    }

    async fn until_all_are_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        for number in 0..self.bots.len() {
            while let Some(why) = self.server.not_ready(&channel_name(number)) {
                assert!(Instant::now() < deadline, "{why}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn settings(&self, mango: &str) -> Settings {
        let routes = Router::new()
            .route("/{namespace}/{name}/status", get(status))
            .route("/{namespace}/{name}/crm-share/{again}/{once_more}", put(crm_share))
            .with_state(self.pods.clone());
        let base = serve(routes).await;
        let settings = controller_settings(NAMESPACE, &self.max.url(), mango);
        Settings { relay_link: RelayLink::Fake { base }, relay_interval: Duration::from_secs(2), ..settings }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_relays_on_one_crm_keep_one_limit_together_also_while_their_shares_move() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mango, _account) = mango_of_all().await;
    let mut company = Company::start().await;
    for _ in 0..10 {
        company.add_channel();
    }
    let settings = company.settings(&mango).await;
    let server = company.server.clone();
    let start = async |identity: &str| {
        let stop = CancellationToken::new();
        let settings = Settings { identity: identity.to_owned(), ..settings.clone() };
        (controller::start(settings, server.client(), server.client(), stop.clone()).await.unwrap(), stop)
    };
    let (running, _stop) = start("first").await;
    company.pods.until_each_has(10, Share { requests: 4, millis: 1_000 }).await;
    // Another controller knows of the shares only what the relays say, and of the relays not by the
    // status: the first may have been killed before it wrote that.
    running.crash().await;
    for number in 0..10 {
        let without_status = |channel: &mut Value| channel.as_object_mut().unwrap().remove("status");
        company.server.edit("maxchannels", &channel_name(number), |channel| drop(without_status(channel)));
    }
    // Nor does it hear at once whose the bots are: relays that stand back meanwhile go on later
    // with what they held, so that nobody else may have it.
    let slow = creatio::Fault { count: 40, delay_ms: 600, ..creatio::Fault::default() };
    company.crm.control().fault(slow);
    let (running, stop) = start("second").await;
    for _ in 0..10 {
        company.add_channel();
    }
    let half = Share { requests: 2, millis: 1_000 };
    company.pods.until_each_has(20, half).await;
    // One that still stands back would do so until the next controller.
    company.until_all_are_ready().await;

    // From here on only the relays ask.
    stop.cancel();
    running.stopped().await;
    let told = company.pods.told.lock().await.len();
    company.crm.control().reset_counters();
    let mut senders = Vec::new();
    for (number, bot) in company.bots.iter().enumerate() {
        let customer = company.max.control().create_user(max::NewUser::named(&format!("Мария {number}"))).unwrap();
        company.max.control().start(customer, *bot).unwrap();
        for text in ["Здравствуйте", "Где заказ?", "Жду"] {
            company.max.control().say(customer, *bot, text).unwrap();
        }
        senders.push(format!("max:{customer}"));
    }
    let deadline = Instant::now() + PATIENCE;
    let crm = company.crm.control();
    while let Some(waits) = senders.iter().find(|sender| crm.transcript(sender).len() < 3) {
        assert!(Instant::now() < deadline, "{waits} is kept from the CRM: {:#}", crm.counters());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let highest = crm.counters()["highestInOneSecond"].as_u64().unwrap();
    assert!(highest <= u64::from(LIMIT), "{highest} requests in one second: {:#}", crm.counters());
    // A steady state tells nobody anything, and shares are no writes in the cluster. While channels
    // come one by one a relay may be told of some of the numbers between, and again where a pass
    // was given up for an edit: a few times each, and not with each pass.
    let all = company.pods.told.lock().await;
    assert_eq!(all.len(), told);
    assert!(told <= 5 * company.bots.len(), "told {told} times: {all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_limit_counts_also_for_the_relays_that_another_replica_leads() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mango, _account) = mango_of_all().await;
    let mut company = Company::start().await;
    for _ in 0..4 {
        company.add_channel();
    }
    let settings = Settings { shards: 2, ..company.settings(&mango).await };
    let server = company.server.clone();
    let mut running = Vec::new();
    for identity in ["first", "second"] {
        let settings = Settings { identity: identity.to_owned(), ..settings.clone() };
        running.push(
            controller::start(settings, server.client(), server.client(), CancellationToken::new()).await.unwrap(),
        );
    }
    company.pods.until_each_has(4, Share { requests: 10, millis: 1_000 }).await;
    for one in &running {
        let metrics = format!("http://{}/metrics", one.address);
        let deadline = Instant::now() + PATIENCE;
        while !reqwest::get(&metrics).await.unwrap().text().await.unwrap().contains("maxchannel_controller_leader 1") {
            assert!(Instant::now() < deadline, "one replica leads all");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let shards: Vec<u32> = (0..4)
        .map(|number| controller::lease::shard_of(&ChannelRef::new(NAMESPACE, channel_name(number)), 2))
        .collect();
    assert!(shards.contains(&0) && shards.contains(&1), "all channels are in one shard");
    company.server.edit("maxchannels", &channel_name(0), |channel| {
        channel["spec"]["creatio"]["limits"]["requestsPerSecond"] = json!(4);
    });
    company.pods.until_each_has(4, Share { requests: 1, millis: 1_000 }).await;
    for one in running {
        one.crash().await;
    }
}
