//! What a relay answers on its port. Thin: it takes requests apart and hands them to the relay that
//! they name; [`serve`] bounds what connections may cost.
//!
//! Path and secret are judged before the body is read. Everybody who does not know a secret of ours
//! gets the same answer, whatever channel was named and whether or not it exists.
//!
//! While the process begins, a webhook waits until its channel's relay is there: refused, it would
//! come again only after a minute (docs/reference/max-bot-api.md, webhooks).
//!
//! `/readyz` says that the beginning is over, the stores are open and the listener is up, and
//! nothing else: a dead CRM must not take a pod out of its Service, for then MAX could not hand
//! over what it must keep.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use futures::StreamExt as _;
use tokio::sync::{Semaphore, watch};

use super::Relay;
use super::listener::Caller;
pub use super::listener::serve;
use super::oversized::Shortened;
use crate::contract::share::{self, CrmShare};
use crate::contract::webhook::{SECRET_HEADER, route};

/// The longest webhook body that is taken without more ado, bytes.
const LONG_BODY: usize = 1024 * 1024;
/// The longest that is taken whole, a few of them at a time.
const LONGEST_BODY: usize = 8 * 1024 * 1024;
const LONG_BODIES: usize = 2;
/// A body that goes on for ever is not read for ever.
const HUGEST_BODY: usize = 256 * 1024 * 1024;
/// How long a webhook waits for a part of the process's beginning.
const BEGINNING_LIMIT: Duration = Duration::from_secs(20);
/// The longest body that tells of a share.
const LONGEST_SHARE: usize = 4 * 1024;
/// How long a body may take.
const BODY_LIMIT: Duration = Duration::from_secs(30);

/// The relays behind one port, by namespace and name. Cheap to clone; clones share the map.
#[derive(Clone, Debug)]
pub struct Relays {
    open: Arc<RwLock<BTreeMap<(String, String), Relay>>>,
    /// Channels whose store cannot be opened, so that they have no relay.
    closed: Arc<RwLock<BTreeSet<(String, String)>>>,
    /// How much of the process's beginning is under way.
    beginnings: watch::Sender<usize>,
    long_bodies: Arc<Semaphore>,
}

/// A part of the process's beginning; over when it is dropped.
#[derive(Debug)]
pub struct Beginning(watch::Sender<usize>);

impl Drop for Beginning {
    fn drop(&mut self) {
        self.0.send_modify(|under_way| *under_way -= 1);
    }
}

impl Default for Relays {
    fn default() -> Self {
        Self {
            open: Arc::default(),
            closed: Arc::default(),
            beginnings: watch::Sender::new(0),
            long_bodies: Arc::new(Semaphore::new(LONG_BODIES)),
        }
    }
}

impl Relays {
    /// Begins something after which there may be relays that are not there yet.
    #[must_use]
    pub fn begin(&self) -> Beginning {
        self.beginnings.send_modify(|under_way| *under_way += 1);
        Beginning(self.beginnings.clone())
    }

    /// The relay of a channel; while the process begins, once it is there.
    async fn awaited(&self, namespace: &str, name: &str) -> Option<Relay> {
        let mut beginnings = self.beginnings.subscribe();
        loop {
            // Looked at first: a relay may come between the look and the question.
            let is_over = *beginnings.borrow_and_update() == 0;
            let relay = self.get(namespace, name);
            if is_over || relay.is_some() {
                return relay;
            }
            // The sender lives as long as the map.
            let _ = tokio::time::timeout(BEGINNING_LIMIT, beginnings.changed()).await.ok()?;
        }
    }

    /// Puts a relay behind the port; the one that stood there under the same name is given back.
    pub fn insert(&self, namespace: &str, name: &str, relay: Relay) -> Option<Relay> {
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert((namespace.to_owned(), name.to_owned()), relay)
    }

    pub fn remove(&self, namespace: &str, name: &str) -> Option<Relay> {
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&(namespace.to_owned(), name.to_owned()))
    }

    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Relay> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Whether this channel's store cannot be opened.
    pub fn set_closed(&self, namespace: &str, name: &str, closed: bool) {
        let mut channels = self.closed.write().unwrap_or_else(PoisonError::into_inner);
        let channel = (namespace.to_owned(), name.to_owned());
        if closed {
            channels.insert(channel);
        } else {
            channels.remove(&channel);
        }
    }

    /// Every relay with its namespace and name, in their order.
    fn named(&self) -> Vec<((String, String), Relay)> {
        let relays = self.open.read().unwrap_or_else(PoisonError::into_inner);
        relays.iter().map(|(name, relay)| (name.clone(), relay.clone())).collect()
    }

    /// Every relay, in the order of its name.
    #[must_use]
    pub fn all(&self) -> Vec<Relay> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// The routes that every relay has; `/status` belongs to whoever runs it.
pub fn router(relays: Relays) -> Router {
    Router::new()
        .route(route::MAX, post(max_webhook))
        .route(route::MAX_WITHOUT_INSTALLATION, post(max_webhook_without_installation))
        .route(route::MANGO, post(mango_webhook))
        .route(route::CREATIO, post(creatio_hint))
        .route(share::ROUTE, put(crm_share))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(relays)
}

async fn max_webhook(
    State(relays): State<Relays>,
    Path((namespace, name, installation, fingerprint)): Path<(String, String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> StatusCode {
    take_webhook(&relays, (&namespace, &name), Some(&installation), &fingerprint, &headers, body).await
}

async fn max_webhook_without_installation(
    State(relays): State<Relays>,
    Path((namespace, name, fingerprint)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> StatusCode {
    take_webhook(&relays, (&namespace, &name), None, &fingerprint, &headers, body).await
}

async fn take_webhook(
    relays: &Relays,
    (namespace, name): (&str, &str),
    installation: Option<&str>,
    fingerprint: &str,
    headers: &HeaderMap,
    body: Body,
) -> StatusCode {
    let secret = headers.get(SECRET_HEADER).and_then(|value| value.to_str().ok());
    let relay = relays.awaited(namespace, name).await;
    // What another installation's address brings is that one's, though both stand behind one host:
    // MAX keeps it and comes again.
    let relay = relay.filter(|relay| relay.is_of(installation) && relay.is_from_max(fingerprint, secret));
    let Some(relay) = relay else { return StatusCode::FORBIDDEN };
    match tokio::time::timeout(BODY_LIMIT, read(body, &relays.long_bodies)).await {
        Ok(Some(Read::Whole(bytes))) => relay.webhook(fingerprint, secret, &bytes).await,
        Ok(Some(Read::Shortened(bytes, length))) => relay.huge_webhook(fingerprint, secret, &bytes, length).await,
        // Cut off or too slow: whoever it was hears of it, and comes again.
        Ok(None) => StatusCode::BAD_REQUEST,
        Err(_) => StatusCode::REQUEST_TIMEOUT,
    }
}

/// An event of MANGO OFFICE. Only its body says what it is: paths differ between the documents. The
/// cabinet tries the address with a `ping`, which says nothing and is answered alike whatever
/// channel it names.
async fn mango_webhook(
    State(relays): State<Relays>,
    Path((namespace, name, path)): Path<(String, String, String)>,
    caller: Option<Extension<Caller>>,
    body: Body,
) -> StatusCode {
    if path.trim_end_matches('/').rsplit('/').next() == Some("ping") {
        return StatusCode::OK;
    }
    let relay = relays.awaited(&namespace, &name).await.filter(Relay::takes_from_mango);
    let Some(relay) = relay else { return StatusCode::FORBIDDEN };
    // The signature is over the body: it has to be read before anything is known of the caller, so
    // no more than an event can be.
    match tokio::time::timeout(BODY_LIMIT, axum::body::to_bytes(body, LONG_BODY)).await {
        Ok(Ok(bytes)) => relay.mango_webhook(caller.map(|Extension(Caller(address))| address), &bytes).await,
        Ok(Err(_)) => StatusCode::FORBIDDEN,
        Err(_) => StatusCode::REQUEST_TIMEOUT,
    }
}

/// A body as far as it is kept.
enum Read {
    Whole(Vec<u8>),
    /// Of one of this length, what is long in it cut.
    Shortened(Vec<u8>, usize),
}

async fn read(body: Body, long_bodies: &Semaphore) -> Option<Read> {
    let mut body = body.into_data_stream();
    let (mut whole, mut shortened, mut length) = (Vec::new(), None::<Shortened>, 0);
    let mut place = None;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.ok()?;
        length += chunk.len();
        if length > LONG_BODY && place.is_none() {
            place = Some(long_bodies.acquire().await.ok()?);
        }
        if length > LONGEST_BODY && shortened.is_none() {
            let mut copy = Shortened::default();
            copy.push(&std::mem::take(&mut whole));
            shortened = Some(copy);
        }
        match &mut shortened {
            Some(copy) => copy.push(&chunk),
            None => whole.extend_from_slice(&chunk),
        }
        if length > HUGEST_BODY {
            break;
        }
    }
    Some(match shortened {
        Some(copy) => Read::Shortened(copy.finish(), length),
        None => Read::Whole(whole),
    })
}

async fn creatio_hint(
    State(relays): State<Relays>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> StatusCode {
    match (relays.awaited(&namespace, &name).await, bearer(&headers)) {
        (Some(relay), Some(bearer)) if relay.hint(bearer) => StatusCode::NO_CONTENT,
        _ => StatusCode::FORBIDDEN,
    }
}

/// The controller says how much of the CRM's limit is this relay's.
async fn crm_share(
    State(relays): State<Relays>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<CrmShare>, StatusCode> {
    let shown = bearer(&headers).unwrap_or_default();
    let relay = relays.get(&namespace, &name).filter(|relay| relay.may_read_status(shown));
    let relay = relay.ok_or(StatusCode::FORBIDDEN)?;
    let body = axum::body::to_bytes(body, LONGEST_SHARE).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    let told = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let in_force = relay.take_crm_share(told).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    in_force.map(Json).ok_or(StatusCode::CONFLICT)
}

/// What a caller shows as a bearer.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

async fn ready(State(relays): State<Relays>) -> (StatusCode, &'static str) {
    if *relays.beginnings.borrow() > 0 {
        return (StatusCode::SERVICE_UNAVAILABLE, "the channels are being started\n");
    }
    if !relays.closed.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
        return (StatusCode::SERVICE_UNAVAILABLE, "a store cannot be opened\n");
    }
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
