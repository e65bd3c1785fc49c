//! The Kubernetes half: watches channels, owns their objects, and tells how it stands with them.
//!
//! Owns the watches, the owned objects (one builder each in [`objects`]), the lease, events, status
//! and metrics. What a channel needs is decided in [`crate::channel`], the same as without a
//! cluster; dialogs are the relay's.
//!
//! - [`scope`]: caches and kicks; one per watched namespace, or one for all.
//! - [`pass`]: one pass over one channel; [`cleanup`]: over one that is being deleted.
//! - [`writer`]: every write, none that changes nothing, none without the lease.
//! - [`lease`]: who leads. Followers keep their caches warm and write nothing.
//!
//! Nothing is decided from memory that could not be found out again: a crash after any single write
//! costs nothing.

mod action;
mod cache;
mod channel_state;
mod cleanup;
mod compare;
mod context;
mod events;
mod http;
pub mod lease;
mod metrics;
pub mod names;
pub mod objects;
mod owned;
mod pass;
mod pending;
mod queue;
mod refusal;
mod relay_link;
mod relay_state;
mod resource;
mod rollouts;
mod scope;
mod serve;
mod settings;
mod start;
mod status;
mod status_page;
mod volume;
mod warnings;
mod withheld;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::runtime::controller::{self, Action, Config, Controller};
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, field};

use channel_state::ChannelState;
use context::Context;
use lease::{Election, Fence, Lost};
use metrics::{Counted, Metrics, OutcomeLabels, ReasonLabels};
pub use objects::{Gateway, NetworkAccess, PodExtras};
pub use relay_link::RelayLink;
pub use resource::Channel;
pub use rollouts::Parallelism;
use scope::{Lane, Scope};
pub use settings::{RelayDefaults, RelayPods, Settings, StatusPage};
use writer::Writer;

use crate::api::ChannelRef;
use crate::channel::observe::Clients;
use crate::time::Backoff;
use crate::transport::{self, Addresses, ReqwestTransport, Trust};
use crate::{max, telemetry};

/// Passes at once in one scope, by what asks for them.
const fn concurrency(lane: Lane) -> u16 {
    match lane {
        Lane::Usual | Lane::Leaving => 32,
        Lane::Edits => 16,
    }
}
/// Changes of one channel within this time share a pass.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// A pass that takes longer is given up and begun again.
const PASS_LIMIT: Duration = Duration::from_secs(150);
/// How long a stop waits for passes under way.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks for the definition.
const CRD_PAUSE: Duration = Duration::from_secs(5);
/// After a pass that failed. Somebody changed the object meanwhile: the watch brings it at once.
const AFTER_CONFLICT: Backoff = Backoff::doubling(Duration::from_millis(200), Duration::from_secs(10));
/// Only a person can mend it.
const AFTER_REFUSAL: Backoff = Backoff::doubling(Duration::from_secs(5), Duration::from_mins(2));
const AFTER_BUG: Backoff = Backoff::doubling(Duration::from_mins(1), Duration::from_mins(10));
const AFTER_OUTAGE: Backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_mins(1));

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("the pass took more than {} s", PASS_LIMIT.as_secs())]
    Late,
    /// An object with a name that the channel needs, which is not the channel's: it is left alone.
    #[error("{0}")]
    Foreign(String),
    #[error("an object cannot be written as JSON ({0}): this is a bug")]
    Bug(String),
    #[error("the pass broke off: this is a bug, its own message stands before this one")]
    Panicked,
}

impl Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Api(kube::Error::Api(status)) if status.is_conflict() => "Conflict",
            Self::Api(kube::Error::Api(status)) if status.is_forbidden() => "Forbidden",
            Self::Api(kube::Error::Api(status)) if status.is_invalid() => "Invalid",
            Self::Api(kube::Error::Api(_)) => "Refused",
            Self::Api(_) => "Unreachable",
            Self::Lost(_) => "NotLeader",
            Self::Late => "Late",
            Self::Foreign(_) => "ForeignObject",
            Self::Bug(_) | Self::Panicked => "Bug",
        }
    }

    /// How long after the `attempts`-th failure in a row the next pass comes.
    fn pause(&self, attempts: u32) -> Duration {
        let backoff = match self {
            Self::Api(kube::Error::Api(status)) if status.is_conflict() => AFTER_CONFLICT,
            Self::Api(kube::Error::Api(status)) if status.is_forbidden() || status.is_invalid() => AFTER_REFUSAL,
            Self::Foreign(_) => AFTER_REFUSAL,
            Self::Bug(_) | Self::Panicked => AFTER_BUG,
            Self::Api(_) | Self::Lost(_) | Self::Late => AFTER_OUTAGE,
        };
        backoff.after(attempts.saturating_sub(1))
    }
}

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {source}; give another address by MAXCHANNEL_LISTEN")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("the status page cannot listen on {address}: {source}; give another address by MAXCHANNEL_STATUS_PAGE")]
    StatusPage { address: std::net::SocketAddr, source: std::io::Error },
    #[error("{0}")]
    Settings(String),
}

/// One client for calls, which must end, and one for watches, which are silent for minutes and have
/// their own bounds.
///
/// # Errors
/// The configuration cannot be used.
pub fn clients(mut config: kube::Config) -> Result<(Client, Client), kube::Error> {
    // The library takes the environment's; this program takes proxies from its settings, and none
    // for the API server.
    config.proxy_url = None;
    let mut calls = config.clone();
    calls.connect_timeout = Some(Duration::from_secs(5));
    calls.read_timeout = Some(Duration::from_secs(20));
    calls.write_timeout = Some(Duration::from_secs(20));
    calls.reset_reader_on_write = true;
    // A pass that failed comes again by itself, with pauses of its own.
    calls.default_retry = false;
    Ok((Client::try_from(calls)?, Client::try_from(config)?))
}

/// A controller that listens.
#[derive(Debug)]
pub struct Running {
    /// Where /healthz, /readyz and /metrics are.
    pub address: std::net::SocketAddr,
    /// Where the status page is.
    pub status_page: Option<std::net::SocketAddr>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Returns when the controller has stopped.
    pub async fn stopped(self) {
        // A panic has been told by its own message.
        let _ = self.task.await;
    }

    /// Ends it as a crash would: nothing is finished, the lease is not given up.
    pub async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Starts the controller; it goes on until `stop` is cancelled. `watching` is for watches, which
/// are silent for minutes, `client` for everything else and should have time-outs.
///
/// # Errors
/// The address or a setting cannot be used.
pub async fn start(
    settings: Settings,
    client: Client,
    watching: Client,
    stop: CancellationToken,
) -> Result<Running, StartError> {
    let metrics = Arc::new(Metrics::default());
    let fence = Fence::default();
    let installation = Arc::new(settings.installation.clone());
    let (asking, files) =
        max::transports(installation.max_overridden, installation.max_ca_pem.as_deref(), &installation.max_url)
            .map_err(StartError::Settings)?;
    let public =
        || ReqwestTransport::external(Trust::public(), Addresses::Any).map(Arc::new).map_err(StartError::Settings);
    let clients = Arc::new(Clients::over(
        installation,
        (Counted::over(asking, "max", &metrics), files),
        Counted::over(public()?, "mango", &metrics),
        Counted::over(public()?, "creatio", &metrics),
    ));
    let address = settings.listen;
    let listener = transport::listen(address).await.map_err(|source| StartError::Listen { address, source })?;
    let address = listener.local_addr().map_err(|source| StartError::Listen { address, source })?;
    let page = match &settings.status_page {
        Some(page) => {
            let address = page.listen;
            let listen = async || {
                let listener = transport::listen(address).await?;
                listener.local_addr().map(|address| (listener, address))
            };
            Some(listen().await.map_err(|source| StartError::StatusPage { address, source })?)
        }
        None => None,
    };
    let status_page = page.as_ref().map(|(_, address)| *address);
    let writer = Writer::new(client.clone(), fence.clone(), &settings.identity, metrics.clone());
    // Never through a proxy: they are in the cluster.
    let relays = ReqwestTransport::direct(Trust::public()).map(Arc::new).map_err(StartError::Settings)?;
    let context = Arc::new(Context::new(settings, clients, writer, fence, metrics, relays));
    let task = tokio::spawn(run(context, client, watching, (listener, page), stop));
    Ok(Running { address, status_page, task })
}

async fn run(
    context: Arc<Context>,
    client: Client,
    watching: Client,
    (listener, page): (TcpListener, Option<(TcpListener, std::net::SocketAddr)>),
    stop: CancellationToken,
) {
    // Dropped with this task, so that a crash in a test ends everything.
    let mut tasks = JoinSet::new();
    if let Some((listener, address)) = page {
        tasks.spawn(status_page::serve(context.clone(), listener, address));
    }
    let ready = http::Ready::default();
    let metrics = context.clone();
    tasks.spawn(http::serve(listener, ready.clone(), move || {
        metrics.count_channels();
        metrics.metrics.text()
    }));
    let settings = &context.settings;
    let election_stop = CancellationToken::new();
    let mut election = Election::new(client.clone(), settings, context.fence.clone());
    let election = {
        let stop = election_stop.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            election.run(&stop).await;
            election
        }))
    };
    if identify(&context, &client, &ready, &stop).await && wait_for_definition(&context, &client, &ready, &stop).await {
        let mut controllers = JoinSet::new();
        let namespaces: Vec<Option<String>> = if settings.namespaces.is_empty() {
            vec![None]
        } else {
            settings.namespaces.iter().cloned().map(Some).collect()
        };
        for namespace in namespaces {
            let (scope, lanes, watches) = Scope::start(&watching, namespace.as_deref(), context.clone());
            context.add_scope(scope.clone());
            for watch in watches {
                // Ended with the others.
                tasks.spawn(async move {
                    let _ended = AbortOnDropHandle::new(watch).await;
                });
            }
            for (lane, kicked) in lanes {
                controllers.spawn(drive(context.clone(), scope.clone(), lane, kicked, stop.clone()));
            }
        }
        let (following, mut level) = (context.clone(), context.settings.log_level.clone());
        tasks.spawn(async move {
            // Relays have it in their configuration.
            while level.changed().await.is_ok() {
                following.scopes().iter().for_each(|scope| scope.kick_all());
            }
        });
        for scope in context.scopes() {
            tasks.spawn(tell_refusals(context.clone(), scope));
        }
        let sharing = context.clone();
        tasks.spawn(async move { sharing.follow_shares().await });
        let (scopes, becoming_ready) = (context.scopes(), ready.clone());
        let led = context.clone();
        tasks.spawn(async move {
            let mut is_any_served = false;
            for scope in &scopes {
                // One that the server does not show, as when its namespace is gone, does not keep
                // the others waiting.
                is_any_served |= tokio::select! {
                    biased;
                    () = scope.ready() => true,
                    words = scope.refused() => {
                        becoming_ready.set(Some(format!("nothing can be watched: {words}")));
                        false
                    }
                };
            }
            if !is_any_served {
                let ready = scopes.iter().map(|scope| Box::pin(scope.ready()));
                futures::future::select_all(ready).await;
            }
            becoming_ready.set(None);
            lead(led).await;
        });
        stop.cancelled().await;
        ready.set(Some("the controller is stopping".to_owned()));
        let ended = async { while controllers.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, ended).await.is_err() {
            tracing::warn!("some passes did not end in time and are given up");
        }
    }
    election_stop.cancel();
    if let Ok(election) = election.await {
        election.vacate().await;
    }
    tasks.shutdown().await;
}

/// Says which watched namespace cannot be served, and when it can be again.
async fn tell_refusals(context: Arc<Context>, scope: Arc<Scope>) {
    let Settings { namespace, pod, .. } = &context.settings;
    let about = own_pod(namespace, pod);
    let watched =
        scope.namespace.clone().map_or_else(|| "all namespaces".to_owned(), |name| format!("the namespace {name}"));
    loop {
        let words = scope.refused().await;
        let (reason, note) = if lacks_definition(&context, &scope).await {
            context.metrics.crd_missing.set(1);
            let why =
                "the definition maxchannels.maxchannel.dev is not installed any more: apply crds/maxchannels.yaml";
            ("DefinitionMissing", format!("Channels of {watched} are not served: {why}"))
        } else {
            let why = "is the namespace gone, or the controller's role in it?";
            ("NamespaceNotServed", format!("Channels of {watched} are not served, the others are: {words}; {why}"))
        };
        tracing::warn!("{note}");
        context.metrics.unserved.inc();
        let _ = tokio::time::timeout(Duration::from_secs(30), context.fence.first()).await;
        context.writer.tell(&about, EventType::Warning, reason, "Watch", &note).await;
        let follow_definition = async {
            loop {
                tokio::time::sleep(CRD_PAUSE).await;
                context.metrics.crd_missing.set(i64::from(lacks_definition(&context, &scope).await));
            }
        };
        tokio::select! {
            () = scope.shown() => {}
            () = follow_definition => {}
        }
        context.metrics.crd_missing.set(0);
        context.metrics.unserved.dec();
        tracing::info!("channels of {watched} are served again");
        scope.kick_all();
    }
}

fn own_pod(namespace: &str, pod: &str) -> k8s_openapi::api::core::v1::ObjectReference {
    k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(pod.to_owned()),
        ..Default::default()
    }
}

/// Whether the cluster has forgotten what a MaxChannel is: of a namespace that is gone it would
/// list none.
async fn lacks_definition(context: &Context, scope: &Scope) -> bool {
    let client = context.writer.client().clone();
    let api: Api<Channel> = match &scope.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let listed = api.list(&ListParams::default().limit(1)).await;
    matches!(listed, Err(kube::Error::Api(status)) if status.code == 404)
}

/// Waits until the cluster knows what a MaxChannel is. False: stopped before.
async fn wait_for_definition(
    context: &Context,
    client: &Client,
    ready: &http::Ready,
    stop: &CancellationToken,
) -> bool {
    let apis: Vec<Api<Channel>> = match context.settings.namespaces.as_slice() {
        [] => vec![Api::all(client.clone())],
        namespaces => namespaces.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect(),
    };
    let mut told = String::new();
    loop {
        let problem = match list_any(&apis).await {
            Ok(()) => {
                context.metrics.crd_missing.set(0);
                return true;
            }
            // The server has no Status for a path that it does not know, so only the code counts.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                context.metrics.crd_missing.set(1);
                "the definition maxchannels.maxchannel.dev is not installed: apply crds/maxchannels.yaml".to_owned()
            }
            Err(error) => format!("channels cannot be listed: {error}"),
        };
        if told != problem {
            tracing::warn!("{problem}");
            ready.set(Some(problem.clone()));
            told = problem;
            let (namespace, pod) = (&context.settings.namespace, &context.settings.pod);
            // Told by whoever leads; the pod's own /readyz says it in any case.
            let about = own_pod(namespace, pod);
            let _ = tokio::time::timeout(Duration::from_secs(2), context.fence.first()).await;
            context.writer.tell(&about, EventType::Warning, "DefinitionMissing", "Start", &told).await;
        }
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(CRD_PAUSE) => {}
        }
    }
}

/// Lists in the first namespace that can be listed: some may be gone.
async fn list_any(apis: &[Api<Channel>]) -> Result<(), kube::Error> {
    let mut refused = None;
    for api in apis {
        match api.list(&ListParams::default().limit(1)).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_forbidden() => refused = Some(kube::Error::Api(status)),
            Err(error) => return Err(error),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// Finds out what this installation is called, where nobody has said: by the uid of `kube-system`,
/// which is one per cluster and as old as it. Where that may not be read, the uid of the Lease
/// serves, which is as old as this release. False: stopped before.
async fn identify(context: &Context, client: &Client, ready: &http::Ready, stop: &CancellationToken) -> bool {
    let id = &context.clients.installation().id;
    if id.is_known() {
        return true;
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client.clone(), &context.settings.namespace);
    let mut told = String::new();
    loop {
        // Made by whoever leads first; until then nobody has called this installation by it.
        let lease = leases.get_opt(&context.settings.lease).await;
        let lease_id = lease.as_ref().ok().and_then(Option::as_ref).and_then(kube::ResourceExt::uid);
        let problem = match namespaces.get("kube-system").await {
            Ok(found) if lease.is_ok() => {
                id.set(found.uid().unwrap_or_default(), lease_id);
                return true;
            }
            Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_not_found() => {
                if let Some(lease_id) = lease_id {
                    tracing::warn!(
                        "the uid of the namespace kube-system cannot be read ({}): this installation is called {lease_id}, the uid of \
                         its Lease; give the right of the chart's role, or a name by the value installationId",
                        status.message
                    );
                    id.set(lease_id, None);
                    return true;
                }
                "what this installation is called is not known yet: there is no Lease, and kube-system cannot be read"
                    .to_owned()
            }
            Ok(_) => {
                format!("the Lease cannot be read: {}", lease.err().map_or(String::new(), |error| error.to_string()))
            }
            Err(error) => format!("the namespace kube-system cannot be read: {error}"),
        };
        if told != problem {
            tracing::warn!("{problem}");
            ready.set(Some(problem.clone()));
            told = problem;
        }
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Follows the leases: begins with all channels of a shard when it is won, forgets them when it is
/// lost.
async fn lead(context: Arc<Context>) {
    let mut changes = context.fence.changes();
    let (mut divided, mut before) = (0, BTreeMap::new());
    loop {
        changes.mark_unchanged();
        let (shards, held) = context.fence.held();
        context.metrics.leader.set(i64::from(!held.is_empty()));
        let is_as_before = |channel: &ChannelRef| {
            let shard = lease::shard_of(channel, shards);
            divided == shards && held.get(&shard) == before.get(&shard)
        };
        context.forget(|channel| !is_as_before(channel));
        let won: Vec<u32> =
            held.iter().filter(|(shard, win)| before.get(*shard) != Some(*win)).map(|won| *won.0).collect();
        if !won.is_empty() {
            tracing::info!(shards, ?won, "this replica leads");
            // Another may have handed out shares meanwhile.
            context.shares().forget(context.clock.passed());
        }
        for scope in context.scopes() {
            let channels = scope.channels.state();
            for channel in channels.iter().map(|channel| channel.reference()).filter(|channel| !is_as_before(channel)) {
                if held.contains_key(&lease::shard_of(&channel, shards)) {
                    scope.kick(&channel);
                }
            }
        }
        (divided, before) = (shards, held);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Turns the kicks of a lane into passes.
async fn drive(
    context: Arc<Context>,
    scope: Arc<Scope>,
    lane: Lane,
    kicked: futures::channel::mpsc::UnboundedReceiver<ObjectRef<Channel>>,
    stop: CancellationToken,
) {
    let reader = scope.channels.clone();
    let shared = Arc::new(Shared { context, scope: scope.clone(), lane });
    Controller::for_stream(futures::stream::pending(), reader)
        .with_config(Config::default().concurrency(concurrency(lane)).debounce(DEBOUNCE))
        .reconcile_on(kicked)
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(reconcile, after_error, shared)
        .for_each(|outcome| {
            // Gone meanwhile, or told already.
            if let Err(error) = outcome {
                if let controller::Error::ObjectNotFound(gone) = &error {
                    let namespace = gone.namespace.clone().unwrap_or_default();
                    scope.queue.take(&ChannelRef::new(namespace, gone.name.clone()));
                }
                tracing::trace!("{error}");
            }
            std::future::ready(())
        })
        .await;
}

struct Shared {
    context: Arc<Context>,
    scope: Arc<Scope>,
    lane: Lane,
}

impl Shared {
    fn again(&self, channel: &ChannelRef, pause: Duration) -> Action {
        self.scope.queue.put(channel, pause);
        Action::requeue(pause)
    }
}

async fn reconcile(channel: Arc<Channel>, shared: Arc<Shared>) -> Result<Action, Error> {
    let Shared { context, scope, lane } = &*shared;
    let name = channel.reference();
    scope.queue.take(&name);
    if channel.is_deleted() && *lane != Lane::Leaving {
        scope.leaves(&name);
        return Ok(Action::await_change());
    }
    let Some(under_way) = context.fence.begin(&name) else {
        // Everything is kicked when the lease is won.
        return Ok(Action::await_change());
    };
    let span = telemetry::traced(tracing::info_span!(
        "pass",
        namespace = %name.namespace,
        name = %name.name,
        id = %uuid::Uuid::new_v4().simple(),
        outcome = field::Empty,
        trace_id = field::Empty,
    ));
    let told = span.clone();
    let began = tokio::time::Instant::now();
    let interruption = context.interruption(&name);
    let state = context.channel_state(&name, || ChannelState::new(context, &channel));
    let work = {
        let shared = shared.clone();
        async move {
            let Shared { context, scope, .. } = &*shared;
            let mut state = state.lock().await;
            // Whoever had it before may have changed the channel.
            let reference = ObjectRef::from_obj(&*channel);
            let channel = scope.channels.get(&reference).unwrap_or(channel);
            let outcome = if channel.is_deleted() {
                state.errands.stop();
                cleanup::pass(context, scope, &channel, &mut state).await
            } else {
                Box::pin(pass::pass(context, scope, &channel, &mut state)).await
            };
            drop(under_way);
            outcome
        }
    };
    // A task of its own: the library would poll all passes under way whenever one of them can go
    // on, and on one core.
    let work =
        async { AbortOnDropHandle::new(tokio::spawn(work.instrument(span))).await.map_err(|_| Error::Panicked)? };
    let outcome = tokio::select! {
        biased;
        // Another may lead from now on: whatever is under way is dropped.
        () = context.fence.lost(&name) => Err(Error::Lost(Lost)),
        // A person has changed something: what is under way would finish with what is no longer
        // wanted.
        () = interruption.cancelled() => {
            return Ok(match lane {
                // A pass is asked for, and by which lane, by whoever says so.
                Lane::Usual => Action::await_change(),
                Lane::Edits | Lane::Leaving => shared.again(&name, Duration::ZERO),
            });
        }
        outcome = tokio::time::timeout(PASS_LIMIT, work) => outcome.unwrap_or(Err(Error::Late)),
    };
    context.metrics.reconcile_duration.observe(began.elapsed().as_secs_f64());
    let outcome = outcome.inspect_err(|error| {
        told.record("outcome", error.reason());
    })?;
    let label = match (&outcome.changed, &outcome.waiting) {
        (true, _) => "changed",
        (false, true) => "waiting",
        (false, false) => "unchanged",
    };
    told.record("outcome", label);
    context.metrics.reconciles.get_or_create(&OutcomeLabels { outcome: label }).inc();
    context.succeeded(&name);
    if *lane == Lane::Edits && !outcome.waiting {
        // From here on it is looked at as usual.
        scope.kick(&name);
        return Ok(Action::await_change());
    }
    let is_well = !outcome.changed && !outcome.waiting;
    let pause = if is_well { shared.scope.queue.eased(outcome.again_in) } else { outcome.again_in };
    Ok(shared.again(&name, pause))
}

#[allow(clippy::needless_pass_by_value, reason = "the library calls it so")]
fn after_error(channel: Arc<Channel>, error: &Error, shared: Arc<Shared>) -> Action {
    let Shared { context, .. } = &*shared;
    let name = channel.reference();
    context.metrics.reconciles.get_or_create(&OutcomeLabels { outcome: "error" }).inc();
    context.metrics.reconcile_errors.get_or_create(&ReasonLabels { reason: error.reason() }).inc();
    if matches!(error, Error::Lost(_)) {
        return Action::await_change();
    }
    let attempts = context.failed(&name);
    tracing::warn!(namespace = %name.namespace, name = %name.name, attempts, "{}", telemetry::redacted(&error.to_string()));
    shared.again(&name, settings::jittered(&name, error.pause(attempts), context.clock.now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_with_each_failure_and_says_who_can_mend_it() {
        let seconds = |error: &Error| -> Vec<u64> { (1..=9).map(|attempts| error.pause(attempts).as_secs()).collect() };
        let refusal = |code, reason: &str| {
            Error::Api(kube::Error::Api(Box::new(kube::core::Status {
                code,
                reason: reason.to_owned(),
                ..kube::core::Status::default()
            })))
        };
        assert_eq!(seconds(&Error::Late), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(seconds(&refusal(403, "Forbidden")), [5, 10, 20, 40, 80, 120, 120, 120, 120]);
        assert_eq!(refusal(409, "Conflict").pause(1), Duration::from_millis(200));
        assert_eq!(refusal(422, "Invalid").reason(), "Invalid");
    }
}
