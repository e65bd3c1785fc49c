//! The same channel on one machine, no cluster: manifests from files, one task per channel, all
//! relays behind one port.
//!
//! Owns: the files and their watch, the data folders (`<data-dir>/<namespace>/<name>/`), the port
//! with `/status`, and the stop. What a channel needs is decided in [`crate::channel`], dialogs in
//! [`crate::relay`].
//!
//! A file that vanishes takes nothing away outside: after [`files::GRACE`] its channel stops here,
//! its subscription and rows stay, and MAX keeps what it cannot deliver. Taking away is
//! `maxchannel remove`. One channel's trouble never stops another.

pub mod disk;
pub mod files;
mod memory;
mod registry;
mod runner;
mod ui;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use crate::api::ChannelRef;
use crate::api::{self, MaxChannel};
use crate::channel::Installation;
use crate::channel::observe::Clients;
use crate::channel::schedule::Cadence;
use crate::channel::validate::{Secrets, validate};
use crate::relay;
use crate::relay::http::{Beginning, Relays};
use crate::status_page::{Page, Token};
use crate::telemetry;
use crate::time::Clock;

pub use memory::{Lock, Memory, installation_id, known_installation_id};
pub use registry::{Registry, Shown, ShownChannel};
pub use ui::TOKEN as PAGE_TOKEN;

/// Between two checks of the files.
const FILES_INTERVAL: Duration = Duration::from_secs(1);
/// A stop is over after this, whatever hangs.
const STOP_LIMIT: Duration = Duration::from_millis(9_500);
/// How long the first changes outside wait for the first probes of all channels, which may show
/// that two have one bot.
const SETTLING: Duration = Duration::from_secs(5);

/// How the runner is started.
#[derive(Debug)]
pub struct Options {
    /// Files and folders with manifests.
    pub paths: Vec<PathBuf>,
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    pub installation: Installation,
    pub cadence: Cadence,
    /// By which dialogs, statuses and the relays go.
    pub clock: Clock,
}

/// Why the runner cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Files(String),
    #[error("cannot listen on {address}: {source}; give another address with --listen")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the data folder {folder} cannot be used: {reason}", folder = folder.display())]
    DataDir { folder: PathBuf, reason: String },
    #[error("{0}")]
    Settings(String),
}

/// What a channel's task is given whenever the files change.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// The manifest, or what is wrong with it, each with its place.
    pub manifest: Result<MaxChannel, Vec<String>>,
    pub secrets: Secrets,
}

/// A runner that listens.
#[derive(Debug)]
pub struct Running {
    /// Where it listens; the port is known even where 0 was asked for.
    pub address: SocketAddr,
    pub registry: Registry,
    task: JoinHandle<()>,
}

impl Running {
    /// Returns when the runner has stopped.
    pub async fn stopped(self) {
        // A panic has been told by its own message.
        let _ = self.task.await;
    }
}

/// Starts the runner; it goes on until `stop` is cancelled, and is then over within 10 s with
/// everything on disk.
///
/// # Errors
/// A path, the address or the data folder cannot be used.
pub async fn start(options: Options, stop: CancellationToken) -> Result<Running, RunError> {
    begin(options, false, stop).await
}

/// The same with the status page under `/`.
///
/// # Errors
/// A path, the address or the data folder cannot be used.
pub async fn start_with_page(options: Options, stop: CancellationToken) -> Result<Running, RunError> {
    begin(options, true, stop).await
}

async fn begin(options: Options, with_page: bool, stop: CancellationToken) -> Result<Running, RunError> {
    let Options { paths, listen, data_dir, installation, cadence, clock } = options;
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        return Err(RunError::Files(format!(
            "{} is not there: give a file or folder with manifests",
            missing.display()
        )));
    }
    let lock = Lock::take(&data_dir).map_err(|reason| RunError::DataDir { folder: data_dir.clone(), reason })?;
    if !installation.id.is_known() {
        let id = installation_id(&data_dir).map_err(|reason| RunError::DataDir { folder: data_dir.clone(), reason })?;
        installation.id.set(id, None);
    }
    let clients = Clients::new(Arc::new(installation)).map_err(RunError::Settings)?;
    let listener =
        crate::transport::listen(listen).await.map_err(|source| RunError::Listen { address: listen, source })?;
    let address = listener.local_addr().map_err(|source| RunError::Listen { address: listen, source })?;
    let (registry, relays) = (Registry::default(), Relays::default());
    let page = if with_page {
        let place = [
            format!("It lies in the data folder of the program, in the file {PAGE_TOKEN}."),
            format!("Он лежит в папке данных программы, в файле {PAGE_TOKEN}."),
        ];
        let token = Token { file: data_dir.join(PAGE_TOKEN), place };
        token.make().map_err(|error| RunError::DataDir { folder: data_dir.clone(), reason: error.to_string() })?;
        let here = ui::Here { registry: registry.clone(), relays: relays.clone() };
        Some(Page::new(Arc::new(here), token, address.ip().is_loopback()))
    } else {
        None
    };
    let shared = Shared {
        clients: Arc::new(clients),
        clock,
        relays: relays.clone(),
        registry: registry.clone(),
        data_dir,
        cadence,
    };
    let routes = Router::new()
        .route("/status", get(status))
        .with_state((registry.clone(), relays.clone()))
        .merge(relay::http::router(relays))
        .merge(page.map(Page::router).unwrap_or_default());
    let closing = stop.clone();
    let beginning = shared.relays.begin();
    let server = tokio::spawn(relay::http::serve(listener, routes, closing));
    let task = tokio::spawn(async move {
        let _lock = lock;
        supervise(shared, files::Files::new(paths), beginning, stop).await;
        // Idle connections of keep-alive clients are not waited for.
        server.abort();
    });
    Ok(Running { address, registry, task })
}

async fn status(State((registry, relays)): State<(Registry, Relays)>) -> impl IntoResponse {
    let mut shown = registry.shown();
    for channel in &mut shown.channels {
        if let Some(relay) = relays.get(&channel.namespace, &channel.name) {
            channel.relay = Some(relay.facts().await);
        }
    }
    axum::Json(shown)
}

/// What all tasks use.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub clients: Arc<Clients>,
    pub clock: Clock,
    pub relays: Relays,
    pub registry: Registry,
    pub data_dir: PathBuf,
    pub cadence: Cadence,
}

/// One channel's task.
struct Task {
    input: watch::Sender<Input>,
    stop: CancellationToken,
    handle: JoinHandle<()>,
}

/// Keeps one task per channel in the files until the stop.
async fn supervise(shared: Shared, mut files: files::Files, beginning: Beginning, stop: CancellationToken) {
    let mut tasks: BTreeMap<ChannelRef, Task> = BTreeMap::new();
    let mut beginning = Some(beginning);
    loop {
        let now = shared.clock.now();
        // Reading blocks for as long as the disk does.
        let polled = tokio::task::spawn_blocking(move || {
            let snapshot = files.poll(now);
            (files, snapshot)
        });
        let Ok((back, snapshot)) = polled.await else {
            tracing::error!("the files cannot be watched any more; the channels go on as they are");
            drop(beginning);
            stop.cancelled().await;
            break;
        };
        files = back;
        if let Some(snapshot) = snapshot {
            take(&shared, &mut tasks, &snapshot, beginning.is_some(), &stop).await;
        }
        if beginning.take().is_some() {
            let registry = shared.registry.clone();
            tokio::spawn(async move {
                tokio::time::sleep(SETTLING).await;
                registry.settle();
            });
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(FILES_INTERVAL) => {}
        }
    }
    let ended = futures::future::join_all(tasks.into_values().map(|task| {
        task.stop.cancel();
        task.handle
    }));
    if tokio::time::timeout(STOP_LIMIT, ended).await.is_err() {
        tracing::error!("some relays did not stop in time; what was acknowledged is on disk");
    }
}

/// Brings the tasks in line with the files.
async fn take(
    shared: &Shared,
    tasks: &mut BTreeMap<ChannelRef, Task>,
    snapshot: &files::Snapshot,
    is_beginning: bool,
    stop: &CancellationToken,
) {
    shared.registry.set_problems(snapshot.problems.iter().map(|problem| problem.sentence.clone()).collect());
    let mut inputs = BTreeMap::new();
    for (place, channel) in snapshot.channels.iter().enumerate() {
        let name = ChannelRef::new(&channel.namespace, &channel.name);
        let secrets = snapshot.secrets.get(&channel.namespace).cloned().unwrap_or_default();
        secrets.values().flat_map(BTreeMap::values).for_each(telemetry::hide);
        let mut manifest = channel.parse().map_err(|findings| {
            let errors = findings.iter().filter(|(_, finding)| finding.severity == api::Severity::Error);
            errors.map(|(place, finding)| format!("{place}: {finding}")).collect::<Vec<_>>()
        });
        // The file is broken and this is what it said before.
        let broken: Vec<String> = snapshot
            .problems
            .iter()
            .filter(|problem| problem.file == channel.source.file)
            .map(|problem| problem.sentence.clone())
            .collect();
        if let Ok(good) = &manifest
            && let Ok(desired) = validate(good, &secrets, shared.clients.installation())
        {
            // Files have no time of creation: a channel that has run here before is the older one,
            // then the order of the files decides.
            let is_new = Memory::of(&shared.data_dir, &name).bot().is_none();
            let place = if is_new { place + snapshot.channels.len() } else { place };
            shared.registry.claim(&name, place, good, &desired, shared.clients.sites());
        }
        if !broken.is_empty() && tasks.contains_key(&name) {
            manifest = Err(broken);
        }
        inputs.insert(name, Input { manifest, secrets });
    }
    let gone: Vec<ChannelRef> = tasks.keys().filter(|name| !inputs.contains_key(*name)).cloned().collect();
    for name in gone {
        if let Some(task) = tasks.remove(&name) {
            shared.registry.say(Level::INFO, &format!(
                "{name}: its manifest is gone, so its relay stops here; nothing outside is changed (maxchannel remove does that)"
            ));
            task.stop.cancel();
            let _ = task.handle.await;
            shared.registry.remove(&name);
        }
    }
    for (name, input) in inputs {
        if let Some(task) = tasks.get(&name) {
            task.input.send_replace(input);
        } else {
            let (sender, receiver) = watch::channel(input);
            let token = stop.child_token();
            shared.registry.expect(&name);
            let beginning = is_beginning.then(|| shared.relays.begin());
            let handle = tokio::spawn(runner::run(shared.clone(), name.clone(), receiver, beginning, token.clone()));
            tasks.insert(name, Task { input: sender, stop: token, handle });
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Task").finish_non_exhaustive()
    }
}
