//! A little bot that takes dialogs when it is asked to, and can be away: the Rasa REST channel, as
//! the relay speaks it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::time::{Clock, Millis};

/// Cheap to clone; clones share the state.
#[derive(Clone, Debug)]
pub(super) struct Bot {
    pub url: String,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    away: AtomicBool,
    /// When it has called for an agent, by customer.
    handed_over: Mutex<BTreeMap<String, Vec<Millis>>>,
}

impl Bot {
    /// # Errors
    /// One sentence.
    pub(super) async fn start() -> Result<Self, String> {
        let fails = |error: std::io::Error| format!("the bot of the demo cannot be started: {error}");
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.map_err(fails)?;
        let url = format!("http://{}", listener.local_addr().map_err(fails)?);
        let shared = Arc::<Shared>::default();
        let routes = Router::new().route("/webhooks/rest/webhook", post(answer)).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { url, shared })
    }

    pub(super) fn set_away(&self, away: bool) {
        self.shared.away.store(away, Ordering::Relaxed);
    }

    pub(super) fn handed_over(&self, sender: &str) -> Vec<Millis> {
        let all = self.shared.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(sender).cloned().unwrap_or_default()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, Json(question): Json<Value>) -> Response {
    if shared.away.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let text = question["message"].as_str().unwrap_or_default().to_lowercase();
    let sender = question["sender"].as_str().unwrap_or_default();
    let wants_person = ["оператор", "человек", "agent", "human"].iter().any(|word| text.contains(word));
    let answer = if wants_person {
        let mut all = shared.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(sender.to_owned()).or_default().push(Clock::real().now());
        json!([{"recipient_id": sender, "text": "Зову оператора."},
            {"recipient_id": sender, "custom": {"maxchannel": "handOver"}}])
    } else {
        let buttons = json!([{"title": "Где мой заказ?", "payload": "Где мой заказ?"},
            {"title": "Позвать оператора", "payload": "Позвать оператора"}]);
        json!([{"recipient_id": sender, "text": "Я бот. Чем помочь?", "buttons": buttons}])
    };
    Json(answer).into_response()
}
