//! The simulator of the MAX Bot API: the API host, the file hosts, the webhook dispatcher, and the
//! customers.
//!
//! Written from the published description (schema 0.0.33 and the documentation pages); its types
//! are its own. Two ports: the API host, where also the control lives under `/control/` (see
//! [`control_http`]), and the file hosts, which refuse the bot's token. What the documents leave
//! open is a switch ([`Switches`]). Everything is kept in memory within bounds and gone with the
//! process.
//!
//! Simplifications, none of which a relay for dialogs can see: no channels and no comments; in
//! groups one owner and no other administrators but the bot; films all show one size; GET on an
//! upload address is not answered; no moderation of bots beyond the special states of [`BotState`].

mod actions;
mod api;
mod compose;
mod control;
pub mod control_http;
mod dispatch;
mod faults;
mod files;
mod link;
mod markup;
mod operations;
mod rates;
mod refusal;
mod render;
mod statistics;
mod switches;
mod updates;
mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::routing::any;
use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use actions::DialogAction;
pub use control::{
    BotChange, BotView, Content, Control, ControlError, Draft, DraftAttachment, Entry, EntryAttachment, NewBot,
    NewUser, PressWhat, SubscriptionView, Transcript,
};
pub use dispatch::{Receiver, WebhookCall};
pub use faults::{Fault, Outcome, Twist, UpdateFault};
pub use rates::ChatCall;
pub use statistics::{HighestInChat, StatisticsReport, WebhookAttempt};
pub use switches::{
    BotAnswer, CheckOrder, DeliveryOrder, OmittedMarker, ParallelPollers, PollUnderWebhook, RateScope, RemovedDialog,
    SuspendedIn, Switches, TextUnit, UnsubscribeWindow, VideoUrl,
};
pub use updates::UpdateRecord;
pub use world::{BotState, MediaKind};

use self::world::World;
use super::clock::Clock;

/// How a simulator is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The API host and the control; port 0: any free one.
    pub listen: SocketAddr,
    /// The file hosts; port 0: any free one.
    pub files_listen: SocketAddr,
    /// Long periods (retry pauses, 24 h, 8 h, lives of addresses) are divided by this. Rates per
    /// second are not.
    pub time_scale: f64,
    /// The open questions.
    pub switches: Switches,
    /// The time that it shows at the start, Unix ms; none: the real one.
    pub starts_at: Option<i64>,
}

impl Default for Options {
    /// Any free loopback ports, true time, webhooks over plain HTTP on any port.
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { listen: any, files_listen: any, time_scale: 1.0, switches: Switches::for_tests(), starts_at: None }
    }
}

/// A running simulator.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    url: String,
    files_url: String,
}

impl Simulator {
    /// Binds both ports and serves.
    ///
    /// # Errors
    /// An address cannot be bound, or the HTTP client of the dispatcher cannot be built.
    pub async fn start(options: Options) -> io::Result<Self> {
        Self::start_with(options, None).await
    }

    /// Like [`Simulator::start`], but both ports speak TLS with this certificate: its chain and its
    /// key, as PEM. A client must be given the root, or refuse to talk.
    ///
    /// # Errors
    /// As for [`Simulator::start`]; or the certificate or the key cannot be used.
    pub async fn start_tls(options: Options, chain_pem: &str, key_pem: &str) -> io::Result<Self> {
        let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(io::Error::other)?;
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(chain.map_err(io::Error::other)?, key)
            .map_err(io::Error::other)?;
        Self::start_with(options, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_with(options: Options, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind(options.listen).await?;
        let files_listener = TcpListener::bind(options.files_listen).await?;
        let url = format!("{scheme}://{}", listener.local_addr()?);
        let files_url = format!("{scheme}://{}", files_listener.local_addr()?);
        let shared = Shared::new(options, &files_url, None);
        shared.set_client(dispatch::client("").map_err(io::Error::other)?);
        let control = any(control_http::handle).with_state(Control { shared: shared.clone() });
        let api = Router::new()
            .route("/control", control.clone())
            .route("/control/{*rest}", control)
            .fallback(api::handle)
            .with_state(shared.clone());
        let files = Router::new().fallback(files::handle).layer(DefaultBodyLimit::disable()).with_state(shared.clone());
        for (listener, router) in [(listener, api), (files_listener, files)] {
            let service = router.into_make_service_with_connect_info::<link::Link>();
            let (stop, tls) = (shared.stop.clone(), tls.clone());
            shared.tasks.spawn(async move {
                let serve = axum::serve(link::Links { listener, tls }, service);
                tokio::select! {
                    // Serving ends with an error only when the listener is gone, and then there is
                    // nobody to tell.
                    _ = serve => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        Ok(Self { shared, url, files_url })
    }

    /// A simulator without a network: [`Simulator::call`] is its way in and `receiver` takes its
    /// webhooks, so that a test which pauses the time of the async runtime moves everything in it.
    /// To be made inside that runtime.
    pub fn inside(options: Options, receiver: Receiver) -> Self {
        let (url, files_url) = ("http://max.simulator:1".to_owned(), "http://max.simulator:2".to_owned());
        Self { shared: Shared::new(options, &files_url, Some(receiver)), url, files_url }
    }

    /// One request to the API host or to a file host, by its address; none: the connection was cut
    /// without a whole answer.
    pub async fn call(&self, request: http::Request<Bytes>) -> Option<http::Response<Bytes>> {
        let link = link::Link::whole();
        let to_files = self.files_url.ends_with(&format!(":{}", request.uri().port_u16().unwrap_or_default()));
        let request = request.map(Body::from);
        let (state, from) = (State(self.shared.clone()), ConnectInfo(link.clone()));
        let answer =
            if to_files { files::handle(state, from, request).await } else { api::handle(state, from, request).await };
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.ok()?;
        link.is_whole().then(|| http::Response::from_parts(parts, body))
    }

    /// The address of the API host and the control, without a slash at the end.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The address of the file hosts.
    pub fn files_url(&self) -> String {
        self.files_url.clone()
    }

    /// The control.
    pub fn control(&self) -> Control {
        Control { shared: self.shared.clone() }
    }

    /// Stops listening and delivering; the ports are free afterwards.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// What the servers, the dispatcher and the control share.
struct Shared {
    world: Mutex<World>,
    clock: Clock,
    /// Grows with every change: whoever waits for something listens here.
    version: watch::Sender<u64>,
    paused: watch::Sender<bool>,
    posts: Semaphore,
    client: RwLock<Option<reqwest::Client>>,
    /// Takes the webhooks in the place of the network.
    receiver: Option<Receiver>,
    stop: CancellationToken,
    tasks: TaskTracker,
    runtime: tokio::runtime::Handle,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("world", &self.world).finish_non_exhaustive()
    }
}

impl Shared {
    fn new(options: Options, files_url: &str, receiver: Option<Receiver>) -> Arc<Self> {
        let clock = match options.starts_at {
            Some(base_ms) => Clock::starting_at(base_ms, options.time_scale),
            None => Clock::new(options.time_scale),
        };
        Arc::new(Self {
            world: Mutex::new(World::new(clock, options.switches, files_url.to_owned())),
            clock,
            version: watch::Sender::new(0),
            paused: watch::Sender::new(false),
            posts: Semaphore::new(dispatch::POSTS_AT_ONCE),
            client: RwLock::new(None),
            receiver,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads.
    fn read<R>(&self, read: impl FnOnce(&World) -> R) -> R {
        read(&self.lock())
    }

    /// Changes without waking those who wait for changes: what the change touches is nothing they
    /// look at.
    fn change_quietly<R>(&self, change: impl FnOnce(&mut World) -> R) -> R {
        change(&mut self.lock())
    }

    /// Changes, sends out what the change produced, and wakes who waits.
    fn change<R>(self: &Arc<Self>, change: impl FnOnce(&mut World) -> R) -> R {
        let (result, lanes) = {
            let mut world = self.lock();
            let result = change(&mut world);
            (result, std::mem::take(&mut world.new_lanes))
        };
        for (bot, subscription, lane) in lanes {
            self.spawn(dispatch::work(self.clone(), bot, subscription, lane));
        }
        self.version.send_modify(|version| *version += 1);
        result
    }

    /// Runs a task until it ends or the simulator stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn_on(
            async move {
                tokio::select! {
                    () = task => {}
                    () = stop.cancelled() => {}
                }
            },
            &self.runtime,
        );
    }

    fn client(&self) -> Result<reqwest::Client, String> {
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner).clone();
        client.ok_or_else(|| "this simulator is not on a network".to_owned())
    }

    fn set_client(&self, client: reqwest::Client) {
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = Some(client);
    }

    /// The platform ends a subscription without a word.
    fn unsubscribe_silent(self: &Arc<Self>, bot: i64, subscription: u64) {
        self.change(|world| {
            let Some(found) = world.bots.get_mut(&bot) else { return };
            let before = found.subscriptions.len();
            found.subscriptions.retain(|found| found.id != subscription);
            world.statistics.report.unsubscribed += u64::from(found.subscriptions.len() < before);
        });
    }
}
