//! What a relay answers on its port. Thin: it takes requests apart and hands them to the relay that they name.
//!
//! `/readyz` says that the store is open and the listener is up, and nothing else: a dead CRM must not take a pod out of its Service,
//! for then MAX could not hand over what it must keep.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};

use super::Relay;

/// The header in which MAX shows the secret of a subscription (MAX Bot API reference, "Webhook subscriptions").
pub const SECRET_HEADER: &str = "x-max-bot-api-secret";
/// The longest webhook body taken, bytes.
const LONGEST_BODY: usize = 1024 * 1024;

/// The relays behind one port, by namespace and name. Cheap to clone; clones share the map.
#[derive(Clone, Debug, Default)]
pub struct Relays {
    relays: Arc<RwLock<BTreeMap<(String, String), Relay>>>,
}

impl Relays {
    /// Puts a relay behind the port; the one that stood there under the same name is given back.
    pub fn insert(&self, namespace: &str, name: &str, relay: Relay) -> Option<Relay> {
        self.relays
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((namespace.to_owned(), name.to_owned()), relay)
    }

    pub fn remove(&self, namespace: &str, name: &str) -> Option<Relay> {
        self.relays.write().unwrap_or_else(PoisonError::into_inner).remove(&(namespace.to_owned(), name.to_owned()))
    }

    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Relay> {
        self.relays
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Every relay with its namespace and name, in their order.
    fn named(&self) -> Vec<((String, String), Relay)> {
        let relays = self.relays.read().unwrap_or_else(PoisonError::into_inner);
        relays.iter().map(|(name, relay)| (name.clone(), relay.clone())).collect()
    }

    /// Every relay, in the order of its name.
    #[must_use]
    pub fn all(&self) -> Vec<Relay> {
        self.relays.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// The routes that every relay has; `/status` belongs to whoever runs it.
pub fn router(relays: Relays) -> Router {
    Router::new()
        .route("/webhooks/max/{namespace}/{name}/{installation}/{fingerprint}", post(max_webhook))
        // From before installations had ids: such a subscription works until the new one stands.
        .route("/webhooks/max/{namespace}/{name}/{fingerprint}", post(max_webhook_without_installation))
        .route("/webhooks/creatio/{namespace}/{name}", post(creatio_hint))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(relays)
}

async fn max_webhook(
    State(relays): State<Relays>,
    Path((namespace, name, installation, fingerprint)): Path<(String, String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    take_webhook(&relays, (&namespace, &name), Some(&installation), &fingerprint, &headers, &body).await
}

async fn max_webhook_without_installation(
    State(relays): State<Relays>,
    Path((namespace, name, fingerprint)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    take_webhook(&relays, (&namespace, &name), None, &fingerprint, &headers, &body).await
}

async fn take_webhook(
    relays: &Relays,
    (namespace, name): (&str, &str),
    installation: Option<&str>,
    fingerprint: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> StatusCode {
    let secret = headers.get(SECRET_HEADER).and_then(|value| value.to_str().ok());
    match relays.get(namespace, name) {
        // What another installation's address brings is that one's, though both stand behind one host: MAX keeps it and comes again.
        Some(relay) if !relay.is_of(installation) => StatusCode::FORBIDDEN,
        Some(relay) => relay.webhook(fingerprint, secret, body).await,
        // A channel that is about to start: MAX keeps the update and comes again.
        None => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn creatio_hint(
    State(relays): State<Relays>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> StatusCode {
    match (relays.get(&namespace, &name), bearer(&headers)) {
        (Some(relay), Some(bearer)) if relay.hint(bearer) => StatusCode::NO_CONTENT,
        _ => StatusCode::FORBIDDEN,
    }
}

/// What a caller shows as a bearer.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

async fn ready(State(relays): State<Relays>) -> (StatusCode, &'static str) {
    // A relay whose store cannot be opened is never in the map, and the port answers only while it listens.
    for relay in relays.all() {
        if !relay.can_write().await {
            return (StatusCode::SERVICE_UNAVAILABLE, "a store cannot be written\n");
        }
    }
    (StatusCode::OK, "ok\n")
}

async fn metrics(State(relays): State<Relays>) -> impl IntoResponse {
    let mut texts = Vec::new();
    for ((namespace, name), relay) in relays.named() {
        texts.push((format!("{namespace}/{name}"), relay.metrics().await));
    }
    let text = super::metrics::page(&texts);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
