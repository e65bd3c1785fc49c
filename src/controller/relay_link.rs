//! How the controller reaches relays: asks how they are, and tells them of a subscription and of
//! their share of a CRM.
//!
//! All are tasks of their own. A pass works with the last answer, so that a relay that hangs
//! delays no edit of its channel.
//!
//! Must not: change anything in the cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::Api;
use kube::runtime::reflector::ObjectRef;
use secrecy::{ExposeSecret as _, SecretString};

use super::channel_state::ChannelState;
use super::context::Context;
use super::names;
use super::objects::{PORT, PORT_NAME};
use super::owned::{is_ours, own_pod, own_set};
use super::pending::Pending;
use super::relay_state::{self, PodState};
use super::resource::Channel;
use super::scope::Scope;
use crate::api::{ChannelRef, Reason};
use crate::channel::report::RelayState;
use crate::channel::shares::Holds;
use crate::contract::admin::{DeadLetter, DeadLetters, Replay, Replayed, route};
use crate::contract::config::file;
use crate::contract::share::{self, CrmShare};
use crate::contract::webhook::SECRET_HEADER;
use crate::contract::{Facts, RelayConfig, status};
use crate::creatio;
use crate::telemetry;
use crate::time::Millis;
use crate::transport::{Options, Transport};

/// How long a relay may take to state its facts.
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// A relay that does not know our key.
const REFUSED: &str = "its /status answers 403";

/// How relays are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RelayLink {
    /// Each in its pod, and by its Service.
    #[default]
    Pods,
    /// All under one address, as `<base>/<namespace>/<name>`: fake ones, for measuring the
    /// controller without pods.
    Fake { base: String },
}

impl RelayLink {
    /// Whether there are pods to ask and to touch.
    #[must_use]
    pub const fn has_pods(&self) -> bool {
        matches!(self, Self::Pods)
    }
}

/// What is asked of a relay and told to it, and what it has said.
#[derive(Debug, Default)]
pub struct Talk {
    asking: Pending<Place, Answer>,
    /// Of which subscription, and where.
    telling: Pending<(String, Millis), bool>,
    /// Of which share, and where.
    sharing: Pending<(String, CrmShare), Option<CrmShare>>,
    heard: Option<Heard>,
}

/// The last answer.
#[derive(Debug)]
struct Heard {
    /// Of the relay at this address.
    base: String,
    /// Whether its Service led to it, or why there was no answer.
    outcome: Result<bool, String>,
}

/// What came of asking once.
#[derive(Debug)]
struct Answer {
    by_service: bool,
    facts: Result<Facts, String>,
}

/// Where one relay is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    base: String,
    /// As the kubelet sees it.
    ready: bool,
    /// It is not ready for longer than a start takes.
    late: bool,
    service: Option<SocketAddr>,
    /// It is open to others only by its Service.
    needs_service: bool,
}

/// How it stands with the relay, as far as it has answered.
pub async fn probe(
    context: &Context,
    scope: &Arc<Scope>,
    state: &mut ChannelState,
    name: &ChannelRef,
    config: Option<&RelayConfig>,
) -> RelayState {
    let Some(place) = place(context, scope, name) else {
        state.facts = None;
        state.talk = Talk::default();
        return with_words(context, scope, state, name).await;
    };
    if place.ready {
        state.warnings.clear();
    }
    if state.talk.heard.as_ref().is_some_and(|heard| heard.base != place.base) {
        state.facts = None;
        state.talk.heard = None;
    }
    if !state.talk.asking.is_to(&place) {
        let key = status_key(context, name, config).await;
        let work = ask_both_ways(context.relays.clone(), place.clone(), key);
        let (scope, name) = (scope.clone(), name.clone());
        state.talk.asking.begin(place.clone(), work, move || scope.kick(&name));
    }
    if let Some(answer) = state.talk.asking.answer().await {
        context.hear_receipt(name, answer.facts.as_ref().ok().and_then(|facts| facts.receipt));
        hear(state, &place, answer, config);
    }
    meaning(state, &place, config)
}

/// Takes in what a relay has answered.
fn hear(state: &mut ChannelState, place: &Place, answer: Answer, config: Option<&RelayConfig>) {
    let outcome = match answer.facts {
        Ok(facts) => {
            state.reconciler.hear(state.facts.as_ref(), &facts);
            state.undelivered = facts.undelivered_if_known().or(state.undelivered);
            state.facts = Some(facts);
            Ok(answer.by_service)
        }
        // A token was replaced, and the relay is not under the new one yet: it is as it was when it
        // was asked last.
        Err(detail) if detail == REFUSED && is_behind(state.facts.as_ref(), config) => return,
        Err(detail) => Err(detail),
    };
    state.talk.heard = Some(Heard { base: place.base.clone(), outcome });
}

/// Whether a relay runs under another configuration than it shall.
fn is_behind(facts: Option<&Facts>, config: Option<&RelayConfig>) -> bool {
    facts.zip(config).is_some_and(|(facts, config)| facts.revision != config.channel.revision)
}

/// What the last answer means now.
fn meaning(state: &ChannelState, place: &Place, config: Option<&RelayConfig>) -> RelayState {
    match (state.talk.heard.as_ref().map(|heard| &heard.outcome), &state.facts) {
        (Some(Ok(by_service)), Some(facts)) => RelayState::Running {
            facts: Box::new(facts.clone()),
            open: place.ready && (*by_service || !place.needs_service),
            wanted: config.map_or_else(|| facts.revision.clone(), |config| config.channel.revision.clone()),
        },
        (Some(Err(detail)), _) if place.ready || place.late => {
            RelayState::Failed { reason: Reason::RelayUnreachable, detail: detail.clone() }
        }
        (Some(Err(_)), _) => RelayState::Absent { detail: String::new() },
        (None | Some(Ok(_)), _) => RelayState::Unheard,
    }
}

/// Asks by the way that everybody else takes, and over a connection of its own: for a moment after
/// the pod is ready its Service leads nowhere yet, and a connection from before the API server was
/// away goes on where a new one is refused. Else asks the pod.
async fn ask_both_ways(relays: Arc<dyn Transport>, place: Place, key: Option<SecretString>) -> Answer {
    if let Some(service) = place.service.filter(|_| place.ready) {
        let request = status_request(&format!("http://{service}"), key.as_ref());
        if let Ok(facts) = ask_at(&*relays, request.header(CONNECTION, "close")).await {
            return Answer { by_service: true, facts: Ok(facts) };
        }
    }
    let facts = ask_at(&*relays, status_request(&place.base, key.as_ref())).await;
    Answer { by_service: false, facts }
}

/// Why there is no pod to ask, in the cluster's own words.
async fn with_words(context: &Context, scope: &Scope, state: &mut ChannelState, name: &ChannelRef) -> RelayState {
    let pod = own_pod(scope, name);
    let is_made = scope.stateful_sets.seen(&name.namespace, &names::relay(&name.name)).is_some();
    if is_made || pod.is_some() {
        let about = relay_state::tells(pod.as_deref(), &names::relay(&name.name), &names::claim(&name.name));
        state.warnings.read(context, name, &about).await;
    } else {
        state.warnings.clear();
    }
    match relay_state::of_pod(pod.as_deref(), &state.warnings.all, context.clock.now()) {
        PodState::Down(state) => state,
        PodState::Running { .. } => RelayState::Absent { detail: String::new() },
    }
}

/// The relay's own words. The error changes only with its kind.
pub async fn ask(
    context: &Context,
    name: &ChannelRef,
    place: &Place,
    config: Option<&RelayConfig>,
) -> Result<Facts, String> {
    let key = status_key(context, name, config).await;
    ask_at(&*context.relays, status_request(&place.base, key.as_ref())).await
}

fn status_request(base: &str, key: Option<&SecretString>) -> http::request::Builder {
    with_key(http::Request::get(format!("{base}{}", status::PATH)), key)
}

fn with_key(request: http::request::Builder, key: Option<&SecretString>) -> http::request::Builder {
    match key {
        Some(key) => request.header(AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
        None => request,
    }
}

/// What the relay lets us read its status for. Where nothing is wanted of it now, what it was told
/// last says.
pub async fn status_key(context: &Context, name: &ChannelRef, config: Option<&RelayConfig>) -> Option<SecretString> {
    if let Some(config) = config {
        return Some(config.status_key());
    }
    if !context.settings.relay_link.has_pods() {
        return None;
    }
    let api: Api<Secret> = Api::namespaced(context.writer.client().clone(), &name.namespace);
    let secret = api.get_opt(&names::relay(&name.name)).await.ok().flatten()?;
    let token = SecretString::from(String::from_utf8(secret.data?.remove(file::TOKEN)?.0).ok()?);
    telemetry::hide(&token);
    Some(status::key(&token, &name.namespace, &name.name))
}

/// Tells the relay which subscription is in force, where it knows of another: what MAX could not
/// bring between the two is read back. False: it is not told yet.
pub async fn tell_subscription(
    context: &Context,
    scope: &Arc<Scope>,
    state: &mut ChannelState,
    name: &ChannelRef,
) -> bool {
    let (Some(facts), Some((made, secret))) = (&state.facts, state.reconciler.subscribed()) else { return true };
    if facts.subscribed_at == Some(made) || context.fence.check(name).is_err() {
        return true;
    }
    let Some(place) = place(context, scope, name) else { return true };
    let whom = (place.base, made);
    if !state.talk.telling.is_to(&whom) {
        let url = format!("{}/subscription/{made}", whom.0);
        let request = http::Request::put(url).header(SECRET_HEADER, secret.expose_secret()).body(Bytes::new());
        let Ok(request) = request else { return false };
        let relays = context.relays.clone();
        let work = async move {
            let answer = relays.send(request, Options { timeout: ASK_LIMIT, max_answer: 1_024 }).await;
            // 404: a relay of an older version, which reads back when it starts. Anything else: it
            // is not under its newest configuration yet, or on its way.
            matches!(answer.map(|answer| answer.status().as_u16()), Ok(200..300 | 404))
        };
        let (scope, name) = (scope.clone(), name.clone());
        state.talk.telling.begin(whom, work, move || scope.kick(&name));
    }
    state.talk.telling.answer().await.unwrap_or(false)
}

/// Tells the relay what of its CRM's limit is its own, where that has changed and others have given
/// up what it is made of. False: it is not told yet.
pub async fn tell_share(
    context: &Context,
    scope: &Arc<Scope>,
    state: &mut ChannelState,
    (wanted, config): (&Channel, &RelayConfig),
) -> bool {
    let channel = &config.channel;
    let name = ChannelRef::new(&channel.namespace, &channel.name);
    let crm = match &channel.creatio {
        _ if channel.suspended => None,
        Some(creatio) => Some((creatio::site(&creatio.url), creatio.requests_per_second)),
        // It has no credentials now, and what it holds is in force as soon as it has them.
        None => wanted.crm(),
    };
    let Some((site, limit)) = crm else {
        if state.facts.as_ref().is_some_and(|facts| facts.revision == channel.revision) {
            context.shares_out(&name);
        }
        return true;
    };
    context.shares_in(&name, (&site, limit), Holds::Nothing);
    if let Some(holds) = state.facts.as_ref().and_then(|facts| holds(facts, config, &site)) {
        kick_all(context, &context.shares().hear(&name, holds, context.clock.passed()));
    }
    let Some(place) = place(context, scope, &name) else {
        if own_set(scope, &name).is_none() {
            context.shares().has_none(&name);
        }
        return true;
    };
    if context.fence.check(&name).is_err() {
        return true;
    }
    let Some(share) = context.shares().next(&name, context.clock.passed()) else { return true };
    let whom = (place.base, share);
    if !state.talk.sharing.is_to(&whom) {
        let url = format!("{}{}", whom.0, share::path(&name.namespace, &name.name));
        let request = with_key(http::Request::put(url), Some(&config.status_key()));
        let request = request.header(CONTENT_TYPE, "application/json");
        let Some(request) = serde_json::to_vec(&whom.1).ok().and_then(|body| request.body(body.into()).ok()) else {
            return false;
        };
        let relays = context.relays.clone();
        let work = async move {
            let answer = relays.send(request, Options { timeout: ASK_LIMIT, max_answer: 1_024 }).await.ok()?;
            serde_json::from_slice(answer.body()).ok().filter(|_| answer.status().is_success())
        };
        let (scope, name) = (scope.clone(), name.clone());
        state.talk.sharing.begin(whom.clone(), work, move || scope.kick(&name));
    }
    let answer = state.talk.sharing.answer().await.flatten().filter(|answer| answer.site == site);
    let Some(in_force) = answer.map(|answer| answer.share) else { return false };
    kick_all(context, &context.shares().answered(&name, in_force, context.clock.passed()));
    in_force == whom.1.share
}

/// What a relay holds of a CRM, by its own words; none: it is not under these settings yet.
fn holds(facts: &Facts, config: &RelayConfig, site: &str) -> Option<Holds> {
    match &facts.crm_share {
        Some(held) => Some(if held.site == site { Holds::Share(held.share) } else { Holds::Nothing }),
        None => (facts.revision == config.channel.revision).then_some(Holds::Older),
    }
}

fn kick_all(context: &Context, channels: &[ChannelRef]) {
    for channel in channels {
        context.kick(channel);
    }
}

/// Where the channel's relay is reached; none while there is nobody to ask.
pub fn place(context: &Context, scope: &Scope, name: &ChannelRef) -> Option<Place> {
    if let RelayLink::Fake { base } = &context.settings.relay_link {
        let base = format!("{base}/{}/{}", name.namespace, name.name);
        return Some(Place { base, ready: true, late: false, service: None, needs_service: false });
    }
    match relay_state::of_pod(own_pod(scope, name).as_deref(), &[], context.clock.now()) {
        PodState::Running { ip, ready, late } => Some(Place {
            base: format!("http://{}", SocketAddr::new(ip, u16::try_from(PORT).unwrap_or(8080))),
            ready,
            late,
            service: service_address(scope, name),
            needs_service: true,
        }),
        PodState::Down(_) => None,
    }
}

fn service_address(scope: &Scope, name: &ChannelRef) -> Option<SocketAddr> {
    let channel = scope.channels.get(&ObjectRef::new(&name.name).within(&name.namespace))?;
    let service: Arc<Service> = scope.services.get(&name.namespace, &names::relay(&name.name))?;
    if !is_ours(&*service, &channel) {
        return None;
    }
    let spec = service.spec.as_ref()?;
    let port = spec.ports.iter().flatten().find(|port| port.name.as_deref() == Some(PORT_NAME))?.port;
    Some(SocketAddr::new(spec.cluster_ip.as_deref()?.parse().ok()?, u16::try_from(port).ok()?))
}

/// What the status page shows of a relay: its facts, and its dead letters where it has some.
pub async fn ask_with_letters(context: &Context, place: &Place, key: Option<&SecretString>) -> Result<Told, String> {
    let facts = ask_at(&*context.relays, status_request(&place.base, key)).await?;
    let mut letters = Vec::new();
    if facts.dead_letters > 0 {
        let request = http::Request::get(format!("{}{}", place.base, route::DEAD_LETTERS));
        // One of an older version tells only how many they are.
        let answer = send(context, with_key(request, key), Bytes::new()).await.ok();
        let found = answer.and_then(|body| serde_json::from_slice::<DeadLetters>(&body).ok());
        letters = found.unwrap_or_default().dead_letters;
    }
    Ok((facts, letters))
}

/// A relay's facts and dead letters.
pub type Told = (Facts, Vec<DeadLetter>);

/// Tries dead letters of a relay again.
pub async fn replay(
    context: &Context,
    place: &Place,
    key: Option<&SecretString>,
    wanted: &Replay,
) -> Result<Replayed, String> {
    let request =
        http::Request::post(format!("{}{}", place.base, route::REPLAY)).header(CONTENT_TYPE, "application/json");
    let body = serde_json::to_vec(wanted).map_err(|error| error.to_string())?;
    let answer = send(context, with_key(request, key), body.into()).await?;
    serde_json::from_slice(&answer).map_err(|error| format!("its answer is not understood: {error}"))
}

async fn send(context: &Context, request: http::request::Builder, body: Bytes) -> Result<Bytes, String> {
    let request = request.body(body).map_err(|error| error.to_string())?;
    let options = Options { timeout: ASK_LIMIT, max_answer: 256 * 1024 };
    let answer = context.relays.send(request, options).await.map_err(|_| "it does not answer".to_owned())?;
    let code = answer.status();
    if code.is_success() { Ok(answer.into_body()) } else { Err(format!("it answers {}", code.as_u16())) }
}

async fn ask_at(relays: &dyn Transport, request: http::request::Builder) -> Result<Facts, String> {
    let request = request.body(Bytes::new()).map_err(|error| error.to_string())?;
    let options = Options { timeout: ASK_LIMIT, max_answer: 256 * 1024 };
    let answer = relays.send(request, options).await.map_err(|_| "its /status does not answer".to_owned())?;
    if !answer.status().is_success() {
        let code = answer.status().as_u16();
        return Err(if code == 403 { REFUSED.to_owned() } else { format!("its /status answers {code}") });
    }
    serde_json::from_slice(answer.body()).map_err(|error| format!("its /status is not understood: {error}"))
}
