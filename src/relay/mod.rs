//! The message half: from MAX to Creatio and back, one relay per channel.
//!
//! # Promises
//!
//! 1. An update is acknowledged (HTTP 200, or the poll marker) only after it is on disk. What is on disk is worked on, whatever has
//!    become of the caller: the commit itself wakes the lanes, and a slow sweep finds rows without one. What was told as failed is
//!    not on disk, however the disk fails.
//!    What MAX may not have brought is a gap: noted on disk with its bound before anything behind it is taken, and kept until every
//!    dialog that it concerns has been read back, by a timer if nobody writes. A message waits for that at most 1.5 s.
//! 2. Each MAX message takes effect in Creatio once, whatever is repeated on either side: the message id travels as the key.
//! 3. Per customer, order is kept in both directions; a stuck customer never delays another.
//!    Every event has its place by MAX's time: a late one changes nothing that a younger one has decided, an original that comes after
//!    its own edit or removal is merged with it, and what a message or a press brings about stands behind it.
//!    Whose, where and when is judged before anything is stored: what happens in a group touches no dialog.
//!    What is slow holds nothing that the quick need: files have places of their own each way, the outbox and the reports theirs, and
//!    of the other calls those that hang keep half of the places at most while others wait.
//! 4. An agent's message reaches the customer; where an answer is lost after sending, the relay looks before it sends again; what
//!    cannot be proved is marked uncertain, shown, and never silently dropped. MAX has no idempotency key. Pauses go by passed time,
//!    and MAX's messages are held against MAX's own times: no clock that is wrong or set delays, doubles or hides anything.
//! 5. Auto-replies, the close message and the auto-close fire once per trigger, across restarts and clock changes. What had to wait is
//!    judged once more when it is sent, by the rules of that moment. Only an appeal opens a chat: an edit or a removal goes into the
//!    newest one or is left and counted. Without a receiver new appeals wait; a dialog whose chat the agents have goes on.
//! 6. Nothing is dropped: a message that cannot be delivered becomes a dead letter with its reason, and the agent is told; so does one
//!    that cannot be read, while what is odd in one field costs only that field. What the customer sees, the agent sees. A report
//!    counts only while it is the one that was sent, so that a replay is never undone by the failure before it. Each patience counts
//!    its own cause, an outage uses up none, and a chat that cannot be seen is told as a missing right, never as closed.
//! 7. Unknown update types, unknown fields and bodies without their required part are stored raw, counted and acknowledged.
//!    What of the CRM's outbox, of a bot's answer or of the store cannot be read is set aside alone, told with its reason and counted;
//!    the others pass, and "answered, but not understood" is never taken for "away".
//!    A body that is too long to be read is kept in its beginning, counted and acknowledged, never refused for ever.
//! 8. The limits of MAX and Creatio are kept by the sender: at most that many requests in any one second. A `Retry-After` binds
//!    everything towards that side, sign-in included; a side that is away is asked seldom, and its first answer wakes whoever waits.
//! 9. Who was erased is in no file any more, and neither a repeat nor a reading back brings anything of that person back.
//! 10. Who knows no secret costs little, keeps no webhook waiting, and learns nothing: not even which channels there are.
//! 11. Keys against repeats outlive the repeats of MAX and of the CRM, whatever the retention of messages.
//!
//! # How
//!
//! [`intake`] writes updates to the inbox. A lane per customer lets the rules of `policy` take them inside the transaction that also
//! writes the dialog, its next tick, and the queues: [`to_crm`], [`to_max`] and [`bot`], each again a lane per customer with limits
//! and pauses of its own. [`outbox`] brings what the agents do; [`admin`] answers the administrator. The store has one writer, which commits in groups.
//!
//! # Order
//!
//! Towards Creatio a customer's messages go by (timestamp, seq) of MAX among what is on disk, not by arrival: a repeated webhook comes
//! after younger ones. Hand-overs and closings are barriers that nothing passes, and what was attempted once stays first.
//!
//! Must not: know Kubernetes, set anything up outside, or write a condition; [`Facts`] states facts, others judge them.

pub mod admin;
mod bot;
pub mod config;
mod dialogs;
mod facts;
mod gaps;
pub mod http;
mod intake;
mod lanes;
mod listener;
mod metrics;
pub mod moving;
mod outbox;
mod owner;
mod placing;
mod render;
mod store;
mod sweep;
mod timers;
mod to_crm;
mod to_max;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::field;
use uuid::Uuid;

use bot::BotState;
pub use config::RelayConfig;
use facts::Health;
pub use facts::{AutoClose, Facts, SideFacts, Undelivered};
use lanes::{Lanes, Outcome};
use metrics::{Metrics, Odd};
pub use store::{FILE as STORE, bot_of, set_aside};
use store::{Store, StoreError, Tx, Woken, customer, gap, meta};

use crate::policy::{BotRole, Context, Rules};
use crate::time::{self, Backoff, Clock, Jitter, Millis};
use crate::transport::{Addresses, ReqwestTransport, Transport, Trust};
use crate::{creatio, max};

/// The longest file carried, bytes: each stands whole in memory for a moment.
const LARGEST_FILE: usize = 50 * 1024 * 1024;
/// Files under way at once, each way.
const FILES_AT_ONCE: usize = 3;
/// Lanes worked on at once, where no limit of the other side sets the number.
const DIALOG_PLACES: usize = 16;
const MAX_PLACES: usize = 32;
const BOT_PLACES: usize = 16;
/// Workers towards the CRM at the least. More than the spec lets be under way: the client keeps that limit, and lets the slow give way
/// only while others wait there.
const CRM_WORKERS: usize = 32;
/// How many elements that cannot be read are remembered, so that each is counted once.
const ODD_REMEMBERED: usize = 1_000;
/// Between attempts of whatever the relay does, unless a flow says otherwise.
const BETWEEN_TRIES: Backoff = Backoff::Steps(&[
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_mins(1),
]);
/// How long a stop waits for what is under way.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// One channel's relay. Cheap to clone; it runs until [`Relay::stop`].
#[derive(Clone, Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    tasks: Arc<tokio::sync::Mutex<JoinSet<()>>>,
}

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the relay of {channel} cannot start: {reason}")]
    Settings { channel: String, reason: String },
}

/// The settings in force with the clients made of them.
#[derive(Debug)]
struct Active {
    config: RelayConfig,
    rules: Arc<Rules>,
    max: max::Client,
    creatio: Option<creatio::Client>,
    bots: BotTransport,
}

/// The transport to bots, whose `Debug` says nothing.
#[derive(Clone)]
struct BotTransport(Arc<dyn Transport>);

impl std::fmt::Debug for BotTransport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("BotTransport")
    }
}

impl std::ops::Deref for BotTransport {
    type Target = dyn Transport;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

#[derive(Debug)]
struct Shared {
    store: Store,
    clock: Clock,
    active: watch::Sender<Option<Arc<Active>>>,
    dialogs: Lanes,
    to_crm: Lanes,
    to_max: Lanes,
    to_bot: Lanes,
    /// Customers whose next message waits for its files: towards the CRM, and towards MAX. Each has places of its own, so that a file
    /// host that hangs holds up no text and not the other way.
    files_in: Lanes,
    files_out: Lanes,
    /// Files that MAX gave since the start.
    files_fetched: AtomicU64,
    /// How far MAX's clock is ahead of passed time, by what it has sent; [`Millis::MIN`]: not known.
    max_ahead: AtomicI64,
    /// Rows reported a moment ago, when in passed time.
    reported: Mutex<HashMap<Uuid, Millis>>,
    metrics: Metrics,
    health: Mutex<Health>,
    readings: gaps::Readings,
    /// Nothing is sent to MAX before [`Clock::passed`] says so.
    send_from: Millis,
    last_update_at: AtomicI64,
    /// The subscription whose gap is known, by its time; 0 for none.
    subscribed_at: AtomicI64,
    ownership: owner::Ownership,
    /// A dialog is open, so the outbox is looked at often.
    any_open: AtomicBool,
    largest_file: AtomicUsize,
    outbox_wake: Notify,
    report_wake: Notify,
    timer_wake: Notify,
    gap_wake: Notify,
    /// The CRM's hints reach us, so that looks without one may be rare.
    hints_work: AtomicBool,
    hinted: AtomicBool,
    store_broken: AtomicBool,
    /// Elements of the outbox that cannot be read and have no id to be told by.
    odd_seen: Mutex<HashSet<creatio::OddRow>>,
    stopping: watch::Sender<bool>,
}

/// After so many attempts; with a fifth of chance in it, so that lanes do not march in step.
fn pause(attempts: u32) -> Millis {
    time::millis(Jitter::longer(20).of(BETWEEN_TRIES.after(attempts)))
}

/// The public name of a webhook secret: the first 8 hex digits of its SHA-256.
#[must_use]
pub fn fingerprint(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes())[..4])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

impl Relay {
    /// Opens the store in `data_dir` and starts. What an earlier run left goes on.
    ///
    /// # Errors
    /// The store cannot be opened, or an address or certificate of the settings is not usable.
    pub async fn open(config: RelayConfig, data_dir: &Path, clock: Clock) -> Result<Self, RelayError> {
        let active = Active::new(config, None)?;
        let store = Store::open(&data_dir.join(store::FILE))?;
        let now = clock.now();
        let channel = active.config.channel.clone();
        let subscribed_at = store.transact(move |tx| prepare(tx, now, &channel)).await?;
        // Without it messages are carried all the same.
        let admin = admin::bind(data_dir)
            .inspect_err(|error| {
                let path = data_dir.join(admin::SOCKET);
                tracing::error!(%error, path = %path.display(), "dead letters and erasure need a socket, which cannot be made here");
            })
            .ok();
        let healthy = SideFacts { ok: true, code: None, since: now };
        let in_flight = active.config.channel.creatio.as_ref().map_or(8, |creatio| creatio.in_flight);
        let shared = Arc::new(Shared {
            dialogs: Lanes::new(clock.clone(), DIALOG_PLACES),
            to_crm: Lanes::new(clock.clone(), in_flight.max(CRM_WORKERS)),
            to_max: Lanes::new(clock.clone(), MAX_PLACES),
            to_bot: Lanes::new(clock.clone(), BOT_PLACES),
            files_in: Lanes::new(clock.clone(), FILES_AT_ONCE),
            files_out: Lanes::new(clock.clone(), FILES_AT_ONCE),
            files_fetched: AtomicU64::new(0),
            max_ahead: AtomicI64::new(Millis::MIN),
            reported: Mutex::default(),
            store,
            send_from: clock.passed() + 1_000,
            clock,
            active: watch::Sender::new(None),
            metrics: Metrics::new(),
            health: Mutex::new(Health {
                max: healthy.clone(),
                crm: healthy.clone(),
                bot: healthy,
                bot_away_until: [Millis::MIN; 2],
                hidden_chats: HashMap::new(),
            }),
            readings: gaps::Readings::new(),
            last_update_at: AtomicI64::new(0),
            subscribed_at: AtomicI64::new(subscribed_at),
            ownership: owner::Ownership::default(),
            any_open: AtomicBool::new(true),
            largest_file: AtomicUsize::new(LARGEST_FILE),
            outbox_wake: Notify::new(),
            report_wake: Notify::new(),
            timer_wake: Notify::new(),
            gap_wake: Notify::new(),
            hints_work: AtomicBool::new(false),
            hinted: AtomicBool::new(false),
            store_broken: AtomicBool::new(false),
            odd_seen: Mutex::default(),
            stopping: watch::Sender::new(false),
        });
        shared.activate(Arc::new(active));
        // Weak, for the store's thread ends when the last handle is gone.
        let announced = Arc::downgrade(&shared);
        shared.store.set_announce(move |woken| {
            if let Some(shared) = announced.upgrade() {
                shared.announce(&woken);
            }
        });
        sweep::once(&shared).await?;
        let mut tasks = start_tasks(&shared, in_flight);
        if let Some(listener) = admin {
            let shared = Arc::clone(&shared);
            tasks.spawn(async move {
                let mut stopping = shared.stopping.subscribe();
                tokio::select! {
                    () = admin::run(&shared, listener) => {}
                    _ = stopping.wait_for(|stopping| *stopping) => {}
                }
            });
        }
        let relay = Self { tasks: Arc::new(tokio::sync::Mutex::new(tasks)), shared };
        Ok(relay)
    }

    /// New settings or credentials take effect at once; what waits goes on under them.
    ///
    /// # Errors
    /// An address or certificate is not usable; the settings in force stay.
    pub async fn apply(&self, config: RelayConfig) -> Result<(), RelayError> {
        let before = self.shared.active();
        if before.as_ref().is_some_and(|before| before.config.channel.revision == config.channel.revision) {
            return Ok(());
        }
        let active = Arc::new(Active::new(config, before.as_deref())?);
        let now = self.shared.clock.now();
        // Between two ways in MAX may have brought things to neither.
        let gap = before.is_some_and(|before| before.config.channel.intake != active.config.channel.intake);
        // What is due under the new rules is decided by a tick of every open dialog.
        self.shared
            .store
            .transact(move |tx| {
                customer::tick_open(tx, now)?;
                if gap {
                    gap::note(tx, gap::newest_update(tx, Millis::MAX)?, gap::Kind::Lasting, now)?;
                }
                // What was suspended goes on.
                tx.wake(|woken| woken.gaps = true);
                Ok(())
            })
            .await?;
        self.shared.activate(active);
        Ok(())
    }

    /// Whether an address that names this installation is this relay's. One that names none is from before installations had ids.
    #[must_use]
    pub fn is_of(&self, installation: Option<&str>) -> bool {
        let Some(active) = self.shared.active() else { return true };
        match (&active.config.channel.installation, installation) {
            (Some(ours), Some(named)) => ours == named,
            _ => true,
        }
    }

    /// Takes one webhook call of MAX.
    pub async fn webhook(&self, fingerprint: &str, secret: Option<&str>, body: &[u8]) -> StatusCode {
        intake::webhook(&self.shared, fingerprint, secret, body).await
    }

    /// Whether a webhook call comes from MAX: the fingerprint in its path and the secret in its header belong to one of ours.
    #[must_use]
    pub fn is_from_max(&self, fingerprint: &str, secret: Option<&str>) -> bool {
        let is_ours = self.shared.active().is_some_and(|active| intake::is_authentic(&active, fingerprint, secret));
        if !is_ours {
            self.shared.metrics.forbidden.inc();
        }
        is_ours
    }

    /// Takes the beginning of a webhook call of MAX whose body is longer than anything that is taken whole.
    pub async fn huge_webhook(&self, beginning: &[u8], length: usize) -> StatusCode {
        intake::huge(&self.shared, beginning, length).await
    }

    /// The CRM says that there is something in the outbox. False: that was not the CRM.
    #[must_use]
    pub fn hint(&self, bearer: &str) -> bool {
        let Some(active) = self.shared.active() else { return false };
        let Some(secret) = &active.config.secrets.notify else { return false };
        if !bool::from(secret.expose_secret().as_bytes().ct_eq(bearer.as_bytes())) {
            return false;
        }
        self.shared.hints_work.store(true, Ordering::Relaxed);
        self.shared.hinted.store(true, Ordering::Relaxed);
        self.shared.outbox_wake.notify_one();
        true
    }

    /// The subscription in force was made at `at`, by MAX's clock. Another one than before: updates may have been missed between the
    /// two, which MAX does not repeat, so everybody is read back, open dialogs first. Harmless when it is repeated.
    pub async fn subscribed(&self, at: Millis) {
        if self.shared.subscribed_at.load(Ordering::Acquire) == at {
            return;
        }
        let now = self.shared.clock.now();
        let noted = self
            .shared
            .store
            .transact(move |tx| {
                let before = meta::number(tx, meta::SUBSCRIBED_AT)?;
                // The first one has no gap before it, and a start has its own.
                if before.is_some_and(|before| before != at) {
                    // What came by the new subscription already is behind the gap.
                    gap::note(tx, gap::newest_update(tx, at)?, gap::Kind::Lasting, now)?;
                }
                meta::set(tx, meta::SUBSCRIBED_AT, &at.to_string())?;
                Ok(())
            })
            .await;
        // Else it is not known yet, and whoever told it tells it again.
        if noted.is_ok() {
            self.shared.subscribed_at.store(at, Ordering::Release);
        }
    }

    /// Whether `secret` is one that MAX was given for this channel.
    #[must_use]
    pub fn is_ours(&self, secret: &str) -> bool {
        self.shared.active().is_some_and(|active| active.webhook_secret(secret).is_some())
    }

    /// Whether who shows this may read what this relay knows of its customers.
    #[must_use]
    pub fn may_read_status(&self, shown: &str) -> bool {
        let Some(active) = self.shared.active() else { return false };
        let key = active.config.status_key();
        bool::from(key.expose_secret().as_bytes().ct_eq(shown.as_bytes()))
    }

    /// Whether the last step could be written to disk.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.store.is_alive() && !self.shared.store_broken.load(Ordering::Relaxed)
    }

    /// Whether the store can be written, tried anew where the last step could not: while a pod is out of its Service nothing comes
    /// in whose storing would show that there is space again.
    pub async fn can_write(&self) -> bool {
        if !self.is_open() && self.shared.store.is_alive() {
            let now = self.shared.clock.now();
            let tried = self.shared.store.transact(move |tx| meta::set(tx, meta::TRIED_AT, &now.to_string())).await;
            self.shared.store_broken.store(tried.is_err(), Ordering::Relaxed);
        }
        self.is_open()
    }

    /// What is known now.
    pub async fn facts(&self) -> Facts {
        self.shared.facts().await
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        self.shared.refresh_metrics().await;
        self.shared.metrics.text()
    }

    /// Stops taking and sending, lets what is under way end, and closes the store. Everything is on disk when it returns.
    pub async fn stop(&self) {
        self.shared.stopping.send_replace(true);
        let mut tasks = self.tasks.lock().await;
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, ended).await.is_err() {
            tasks.shutdown().await;
        }
        self.shared.store.close().await;
    }
}

impl Active {
    fn new(config: RelayConfig, before: Option<&Self>) -> Result<Self, RelayError> {
        let channel = &config.channel;
        let failed = |reason: String| RelayError::Settings {
            channel: format!("{}/{}", channel.namespace, channel.name),
            reason,
        };
        let (api, files) =
            max::transports(channel.max.overridden, channel.max.ca_pem.as_deref(), &channel.max.base_url)
                .map_err(failed)?;
        let settings = max::Settings { base_url: channel.max.base_url.clone(), token: config.secrets.token.clone() };
        let max = match before {
            Some(before) if before.config.channel.max == channel.max => before.max.with_settings(settings),
            _ => max::Client::new(api, files, settings),
        };
        // The same client goes on where nothing of it has changed: its limits count what was sent a moment ago.
        let unchanged = before.filter(|before| {
            before.config.channel.creatio == channel.creatio
                && same_credentials(before.config.secrets.creatio.as_ref(), config.secrets.creatio.as_ref())
        });
        let creatio = match (&channel.creatio, &config.secrets.creatio) {
            _ if unchanged.is_some() => unchanged.and_then(|before| before.creatio.clone()),
            (Some(settings), Some(credentials)) => {
                let trust = match &settings.ca_pem {
                    Some(pem) => Trust::with_pem(pem).map_err(failed)?,
                    None => Trust::public(),
                };
                let transport = ReqwestTransport::outside(trust, Addresses::Any).map_err(failed)?;
                let settings = creatio::Settings {
                    url: settings.url.clone(),
                    identity_url: settings.identity_url.clone(),
                    runtime: settings.runtime,
                    credentials: credentials.clone(),
                    requests_per_second: settings.requests_per_second,
                    in_flight: settings.in_flight,
                };
                Some(creatio::Client::new(Arc::new(transport), settings))
            }
            _ => None,
        };
        let bots = ReqwestTransport::outside(Trust::public(), Addresses::Any).map_err(failed)?;
        let rules = Arc::new(channel.rules.clone());
        Ok(Self { rules, max, creatio, bots: BotTransport(Arc::new(bots)), config })
    }
}

impl Active {
    /// Ours that `shown` is equal to, if any.
    fn webhook_secret(&self, shown: &str) -> Option<&SecretString> {
        let mut ours = self.config.secrets.webhook.iter();
        ours.find(|ours| bool::from(ours.expose_secret().as_bytes().ct_eq(shown.as_bytes())))
    }
}

fn same_credentials(one: Option<&creatio::Credentials>, other: Option<&creatio::Credentials>) -> bool {
    use creatio::Credentials::{Forms, OAuth};
    let same = |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
    match (one, other) {
        (Some(OAuth { client_id, client_secret }), Some(OAuth { client_id: id, client_secret: secret })) => {
            client_id == id && same(client_secret, secret)
        }
        (Some(Forms { username, password }), Some(Forms { username: name, password: word })) => {
            username == name && same(password, word)
        }
        (None, None) => true,
        _ => false,
    }
}

/// Takes up what an earlier run left. Returns which subscription was the last that is known.
fn prepare(tx: &Tx<'_>, now: Millis, channel: &config::ChannelConfig) -> Result<Millis, StoreError> {
    let bot_user_id = channel.bot_user_id;
    if meta::get(tx, meta::MADE_AT)?.is_none() {
        meta::set(tx, meta::MADE_AT, &now.to_string())?;
    }
    // The store belongs to one bot: its messages and marker mean nothing to another.
    match meta::number(tx, meta::BOT)? {
        Some(known) if known != bot_user_id => {
            return Err(StoreError::Commit(format!("it belongs to the bot {known}, not to {bot_user_id}")));
        }
        Some(_) => {}
        None => meta::set(tx, meta::BOT, &bot_user_id.to_string())?,
    }
    store::to_max::begin_looks_anew(tx)?;
    customer::tick_open(tx, now)?;
    // Of a long poll the marker goes on where it was; webhooks have been answered by nobody since.
    if channel.intake == config::Intake::Webhook {
        gap::note(tx, gap::newest_update(tx, Millis::MAX)?, gap::Kind::Repeated, now)?;
    }
    Ok(meta::number(tx, meta::SUBSCRIBED_AT)?.unwrap_or(0))
}

/// A fixed number of tasks, whatever is carried: none is left behind per message.
fn start_tasks(shared: &Arc<Shared>, crm_places: usize) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    macro_rules! workers {
        ($count:expr, $lanes:ident, $serve:path) => {
            for _ in 0..$count {
                let shared = Arc::clone(shared);
                tasks.spawn(async move {
                    let mut stopping = shared.stopping.subscribe();
                    loop {
                        let lease = tokio::select! {
                            lease = shared.$lanes.next() => lease,
                            _ = stopping.wait_for(|stopping| *stopping) => return,
                        };
                        let customer = lease.customer();
                        lease.finish($serve(&shared, customer).await);
                        if *stopping.borrow() {
                            return;
                        }
                    }
                });
            }
        };
    }
    workers!(DIALOG_PLACES, dialogs, intake::serve);
    workers!(crm_places.max(CRM_WORKERS), to_crm, to_crm::serve);
    workers!(MAX_PLACES, to_max, to_max::serve);
    workers!(BOT_PLACES, to_bot, bot::serve);
    workers!(FILES_AT_ONCE, files_in, to_crm::serve_files);
    workers!(FILES_AT_ONCE, files_out, to_max::serve_files);
    macro_rules! background {
        ($run:path) => {{
            let shared = Arc::clone(shared);
            tasks.spawn(async move {
                let mut stopping = shared.stopping.subscribe();
                tokio::select! { () = $run(&shared) => {}, _ = stopping.wait_for(|stopping| *stopping) => {} }
            });
        }};
    }
    background!(intake::poll);
    background!(gaps::run);
    for _ in 0..gaps::READERS {
        background!(gaps::read);
    }
    background!(outbox::run);
    background!(outbox::run_reports);
    background!(sweep::run);
    background!(timers::run);
    background!(timers::run_housekeeping);
    tasks
}

impl Active {
    /// The span of one thing that is carried: which way, for which channel, and what came of it; never what or whose.
    fn delivery(&self, to: &'static str) -> tracing::Span {
        let channel = &self.config.channel;
        crate::telemetry::traced(tracing::info_span!(
            "delivery",
            to,
            namespace = %channel.namespace,
            name = %channel.name,
            outcome = field::Empty,
            trace_id = field::Empty,
        ))
    }
}

impl Shared {
    fn active(&self) -> Option<Arc<Active>> {
        self.active.borrow().clone()
    }

    fn activate(&self, active: Arc<Active>) {
        let running = !active.config.channel.suspended;
        let has_crm = active.creatio.is_some();
        if let Some(creatio) = &active.config.channel.creatio {
            self.to_crm.set_places(creatio.in_flight.max(CRM_WORKERS));
        }
        self.active.send_replace(Some(active));
        self.dialogs.enable(true);
        self.to_crm.enable(running && has_crm);
        self.to_max.enable(running);
        self.to_bot.enable(running);
        self.files_in.enable(running && has_crm);
        self.files_out.enable(running);
        for lanes in [&self.to_crm, &self.to_max, &self.to_bot, &self.files_in, &self.files_out] {
            lanes.rouse_all();
        }
        self.outbox_wake.notify_one();
        self.report_wake.notify_one();
    }

    fn context(&self) -> Context {
        let health = self.health();
        let away = |role: usize| health.bot_away_until[role] > self.clock.passed();
        Context { now: self.clock.now(), bot_away: away(0), off_hours_bot_away: away(1) }
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, woken: &Woken) {
        if woken.written {
            self.store_broken.store(false, Ordering::Relaxed);
        }
        // The first word of a dialog: from now on agents may answer at any moment.
        if !woken.crm.is_empty() && !self.any_open.swap(true, Ordering::Relaxed) {
            self.outbox_wake.notify_one();
        }
        for customer in &woken.dialogs {
            self.dialogs.wake(*customer);
        }
        for customer in &woken.crm {
            self.to_crm.wake(*customer);
        }
        for customer in &woken.max {
            self.to_max.wake(*customer);
        }
        for customer in &woken.bot {
            self.to_bot.wake(*customer);
        }
        if woken.reports {
            self.report_wake.notify_one();
        }
        if woken.timers {
            self.timer_wake.notify_one();
        }
        for left in &woken.left {
            self.metrics.left(*left);
        }
        self.metrics.dead_letters_made.inc_by(woken.dead_letters);
        self.metrics.overdue.inc_by(woken.overdue);
        if woken.gaps {
            self.gap_wake.notify_one();
        }
    }

    /// Whether an element that cannot be read was not seen before, as far as is remembered.
    fn is_first_look_at(&self, odd: &creatio::OddRow) -> bool {
        let mut seen = self.odd_seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= ODD_REMEMBERED {
            seen.clear();
        }
        seen.insert(odd.clone())
    }

    fn largest_file(&self) -> usize {
        self.largest_file.load(Ordering::Relaxed)
    }

    fn set_largest_file(&self, bytes: u64) {
        self.largest_file.store(usize::try_from(bytes).unwrap_or(LARGEST_FILE).min(LARGEST_FILE), Ordering::Relaxed);
    }

    /// MAX has just given a message this time.
    fn note_max_time(&self, time: Millis) {
        self.max_ahead.fetch_max(time - self.clock.passed(), Ordering::Relaxed);
    }

    /// What MAX's clock shows, as far as is known.
    fn max_time(&self) -> Millis {
        match self.max_ahead.load(Ordering::Relaxed) {
            Millis::MIN => self.clock.now(),
            ahead => self.clock.passed() + ahead,
        }
    }

    /// The first answer after a failure wakes all who wait for MAX.
    fn max_answered(&self) {
        if self.health().max.set_ok(self.clock.now()) {
            self.to_max.release();
            self.files_in.release();
            self.files_out.release();
        }
    }

    fn max_failed(&self, code: &str) {
        let now = self.clock.now();
        self.health().max.set_failed(code, now);
    }

    /// The first answer after a failure wakes all who wait for the CRM.
    fn crm_answered(&self) {
        if self.health().crm.set_ok(self.clock.now()) {
            self.to_crm.release();
            self.files_in.release();
            self.files_out.release();
            self.report_wake.notify_one();
        }
    }

    /// Nothing of the CRM answers, as far as is known.
    fn crm_is_away(&self) -> bool {
        let health = self.health();
        let away = ["CrmUnreachable", "Throttled", "CredentialsInvalid"];
        !health.crm.ok && health.crm.code.as_deref().is_some_and(|code| away.contains(&code))
    }

    /// Whether the technical user cannot see a chat that it has to close.
    fn note_hidden_chat(&self, chat: Uuid, hidden: bool) {
        let now = self.clock.now();
        let mut health = self.health();
        if hidden {
            health.hidden_chats.entry(chat).or_insert(now);
        } else {
            health.hidden_chats.remove(&chat);
        }
    }

    fn crm_is_well(&self) -> bool {
        self.health().crm.ok
    }

    fn crm_failed(&self, code: &str) {
        let now = self.clock.now();
        self.health().crm.set_failed(code, now);
    }

    fn note_bot(&self, role: BotRole, state: BotState) {
        let (now, passed) = (self.clock.now(), self.clock.passed());
        let mut health = self.health();
        let away_until = match state {
            BotState::Away => passed + bot::AWAY,
            BotState::Well | BotState::NotUnderstood => Millis::MIN,
        };
        health.bot_away_until[usize::from(role == BotRole::OffHours)] = away_until;
        match state {
            BotState::Well => drop(health.bot.set_ok(now)),
            BotState::NotUnderstood => health.bot.set_failed("BotNotUnderstood", now),
            BotState::Away => health.bot.set_failed("BotUnreachable", now),
        }
    }

    /// A step that could not be written is tried again; it took no effect.
    fn store_failed(&self, error: &StoreError) -> Outcome {
        if error.is_odd_row() {
            // One row says nothing about the disk.
            self.metrics.set_aside(Odd::StoreRow, 1);
            tracing::error!(%error, "a row of the store cannot be read; the others go on");
            return Outcome::Unclear(60_000);
        }
        self.metrics.store_failures.inc();
        self.store_broken.store(!matches!(error, StoreError::Closed), Ordering::Relaxed);
        tracing::error!(%error, "a step could not be written to disk and is tried again");
        Outcome::Unclear(1_000)
    }
}
