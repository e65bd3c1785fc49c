//! Many channels without pods: relays' `/status` is a fake's, one answer of MANGO OFFICE serves
//! every account, and no node takes the pods.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use maxchannel::api::MaxChannel;
use maxchannel::contract::{Facts, SideFacts};
use maxchannel::controller::{RelayLink, Settings};
use maxchannel_simulator::{creatio, max};
use serde_json::{Value, json};

use crate::any_account::any_account;
use crate::world::World;

pub struct Fleet {
    /// Of MANGO OFFICE for all accounts.
    pub mango: String,
    /// Of all relays.
    pub relays: String,
}

impl Fleet {
    /// Applies the first so many channels, whose relays may run on any node.
    pub async fn apply_on_any_node(&self, world: &World, channels: usize) {
        for number in 1..=channels {
            self.prepare(world, number).await;
            let mut manifest = self.manifest(world, number);
            manifest["spec"]["relay"].as_object_mut().unwrap().remove("nodeSelector");
            world.apply(&manifest).await;
        }
    }

    pub async fn start(world: &World) -> Self {
        let at = SocketAddr::new(world.cluster.host, 0);
        let mango = any_account(world.mango.url(), at).await;
        let (told, writer) = reflector::store();
        let config = watcher::Config::default().labels("app.kubernetes.io/managed-by=maxchannel");
        let watching = watcher(world.api(), config).default_backoff().reflect(writer);
        // Ends with the test.
        tokio::spawn(watching.for_each(|_| std::future::ready(())));
        let routes = Router::new()
            .route("/{namespace}/{name}/status", get(status))
            .route("/{namespace}/{name}/subscription/{made}", put(|| async { StatusCode::NO_CONTENT }))
            .with_state(told);
        let listener = tokio::net::TcpListener::bind(at).await.unwrap();
        let relays = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
        Self { mango, relays }
    }

    pub fn settings(&self, world: &World) -> Settings {
        let mut settings = world.settings();
        settings.installation.mango_url = self.mango.parse().unwrap();
        settings.relay_link = RelayLink::Fake { base: self.relays.clone() };
        settings
    }

    /// Makes the Secrets and the channel `c<number>`.
    pub async fn add(&self, world: &World, number: usize) {
        self.prepare(world, number).await;
        world.apply(&self.manifest(world, number)).await;
    }

    /// Makes the bot and the Secrets of the channel `c<number>`.
    pub async fn prepare(&self, world: &World, number: usize) {
        let token = format!("invented-token-of-bot-{number}-{}", world.namespace);
        // There already where a test adds it again.
        let _ = world.max.control().create_bot(max::NewBot::new(&format!("Бот {number}"), &token));
        world.put_secret(&format!("bot-{number}"), json!({"token": token})).await;
        let keys = json!({"apiKey": format!("inventedkey{number}"), "apiSalt": format!("inventedsalt{number}")});
        world.put_secret(&format!("mango-{number}"), keys).await;
    }

    #[allow(clippy::unused_self, reason = "a channel of this fleet")]
    pub fn manifest(&self, world: &World, number: usize) -> Value {
        let mut manifest = world.manifest(&format!("c{number}"));
        manifest["spec"]["tokenSecretRef"]["name"] = json!(format!("bot-{number}"));
        manifest["spec"]["mango"] = json!({"accountNumber": format!("4{number:08}"), "credentialsSecretRef": {"name": format!("mango-{number}")}});
        manifest["spec"]["relay"]["nodeSelector"] = json!({"nowhere": "true"});
        manifest["spec"]["creatio"]["limits"] = json!({"requestsPerSecond": 1000, "inFlight": 64});
        manifest
    }
}

/// Waits until `count` channels are Ready.
pub async fn until_ready(world: &World, count: usize, limit: Duration) {
    let began = Instant::now();
    let api: Api<MaxChannel> = world.api();
    loop {
        let all = api.list(&ListParams::default()).await.unwrap();
        let is_ready = |channel: &&MaxChannel| {
            let conditions = channel.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        let ready = all.iter().filter(is_ready).count();
        if ready == count {
            return;
        }
        if began.elapsed() > limit {
            let failing = all.iter().find(|channel| !is_ready(channel)).map(|channel| &channel.status);
            panic!("{ready} of {count} channels are Ready after {limit:?}, one is {failing:#?}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// All calls of a simulator of the CRM that may have changed something; sign-ins aside.
pub fn crm_writes(crm: &creatio::Simulator) -> HashMap<String, u64> {
    let counters = crm.control().counters();
    let calls = counters["calls"].as_object().cloned().unwrap_or_default();
    calls
        .into_iter()
        .filter(|(call, _)| !call.starts_with("GET ") && !call.contains("/connect/token") && !call.contains("/Login"))
        .map(|(call, count)| (call, count.as_u64().unwrap_or(0)))
        .collect()
}

/// All calls of a simulator of MAX that may have changed something.
pub fn max_writes(max: &max::Simulator) -> HashMap<String, u64> {
    let requests = max.control().statistics().requests;
    requests.into_iter().filter(|(call, _)| !call.starts_with("GET ")).collect()
}

/// A relay that has taken up whatever it was told. Its Secret is watched: asking the API server for
/// it each time would take from the controller what is to be measured.
async fn status(State(told): State<Store<Secret>>, Path((namespace, name)): Path<(String, String)>) -> Response {
    let secret = told.get(&ObjectRef::new(&format!("{name}-relay")).within(&namespace));
    let Some(told) = secret.as_ref().and_then(|secret| secret.data.as_ref()?.get("channel.json")) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let told: Value = serde_json::from_slice(&told.0).unwrap();
    let well = SideFacts { ok: true, code: None, since: 0 };
    axum::Json(Facts {
        revision: told["revision"].as_str().unwrap().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        max: well.clone(),
        crm: well.clone(),
        bot: well,
        oldest_seconds: 0,
        dead_letters: 0,
        undelivered: maxchannel::contract::Undelivered::default(),
        open_dialogs: 0,
        last_update_at: None,
        store_writable: true,
        subscribed_at: None,
        auto_close: Vec::new(),
        mango: None,
        crm_share: None,
        receipt: None,
    })
    .into_response()
}
