//! A relay whose `/status` never answers: a pass works with what is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use maxchannel::controller::RelayLink;
use serde_json::Value;

use crate::{CHANNELS, World, serve, settled, told};

const EDITS: u64 = 5;

/// The calls of one channel's `/status`.
#[derive(Default)]
struct Calls {
    begun: AtomicU64,
    given_up: AtomicU64,
}

struct Call(Arc<Calls>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.given_up.fetch_add(1, Ordering::SeqCst);
    }
}

/// Never answers; ends when the caller gives up.
async fn hang(State(calls): State<Arc<Calls>>, Path((_, name)): Path<(String, String)>) -> StatusCode {
    let call = (name == CHANNELS[0]).then(|| {
        calls.begun.fetch_add(1, Ordering::SeqCst);
        Call(calls)
    });
    std::future::pending::<()>().await;
    drop(call);
    StatusCode::OK
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_applied_and_told_while_the_relay_hangs_and_nobody_waits_for_it() {
    let (mut world, _account) = settled().await;
    world.stop_all(false).await;
    let calls = Arc::new(Calls::default());
    let routes = Router::new()
        .route("/{namespace}/{name}/status", get(hang))
        .route("/{namespace}/{name}/subscription/{made}", put(std::future::pending::<StatusCode>))
        .with_state(calls.clone());
    world.settings.relay_link = RelayLink::Fake { base: serve(routes).await };
    world.run().await;
    let name = CHANNELS[0];
    let relay = format!("{name}-relay");
    let mut in_time = 0;
    for edit in 0..EDITS {
        let begun = calls.begun.load(Ordering::SeqCst);
        let next = |_: &World| (calls.begun.load(Ordering::SeqCst) == begun).then(|| "nobody asks".to_owned());
        world.until(next).await.unwrap();
        let given_up = calls.given_up.load(Ordering::SeqCst);
        world.texts[0] = format!("Правка {edit}");
        let spec = world.spec(0);
        world.server.edit("maxchannels", name, |channel| channel["spec"] = spec);
        let is_told = |world: &World| {
            let channel = world.server.get("maxchannels", name).unwrap();
            let config = world
                .server
                .get("secrets", &relay)
                .and_then(|secret| told(&secret))
                .map(|told: Value| told.to_string());
            let is_applied = config.is_some_and(|config| config.contains(&world.texts[0]));
            let is_seen = channel["status"]["observedGeneration"] == channel["metadata"]["generation"];
            (!is_applied || !is_seen).then(|| format!("edit {edit} is not told: {}", channel["status"]))
        };
        world.until(is_told).await.unwrap();
        in_time += u64::from(calls.given_up.load(Ordering::SeqCst) == given_up);
    }
    // On a machine that stands still for seconds a call may end meanwhile, and not each time.
    assert!(in_time > 0, "each edit was told only after a call of the relay had been given up");
    let channel = world.server.get("maxchannels", name).unwrap();
    let said = channel["status"]["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "RelayAvailable");
    assert_eq!(said.unwrap()["reason"], "RelayUnreachable", "and how it stands with the relay is told as well");
    world.stop_all(true).await;
}
