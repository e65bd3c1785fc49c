//! The message half: from MAX to Creatio and back, one relay per channel.
//!
//! # Promises
//!
//! 1. An update is acknowledged (HTTP 200, or the poll marker) only after it is on disk. What is on
//!    disk is worked on, whatever has become of the caller: the commit itself wakes the lanes, and
//!    a slow sweep finds rows without one. What was told as failed is not on disk, however the disk
//!    fails. What MAX may not have brought is a gap: noted on disk with its bound before anything
//!    behind it is taken, and kept until every dialog that it concerns has been read back, by a
//!    timer if nobody writes. A message waits for that at most 1.5 s.
//! 2. Each MAX message takes effect in Creatio once, whatever is repeated on either side: the
//!    message id travels as the key. What may have been told once is told again in the same words,
//!    a kill or a closing between the two notwithstanding.
//! 3. Per customer, order is kept in both directions; a stuck customer never delays another. Every
//!    event has its place by MAX's time: a late one changes nothing that a younger one has decided,
//!    an original that comes after its own edit or removal is merged with it, and what a message or
//!    a press brings about stands behind it. Whose, where and when is judged before anything is
//!    stored: what happens in a group touches no dialog. What is slow holds nothing that the quick
//!    need: files have permits of their own each way, the outbox and the reports theirs, and of the
//!    other calls those that hang keep half of the permits at most while others wait.
//! 4. An agent's message reaches the customer; where an answer is lost after sending, the relay
//!    looks before it sends again; what cannot be proved is marked uncertain, shown, and never
//!    silently dropped. MAX has no idempotency key. After the loss of the store what is pending is
//!    looked for first: in the dialog that the CRM's keys lead to, else once the customer has
//!    written. Pauses go by passed time, and MAX's messages are held against MAX's own times: no
//!    clock that is wrong or set delays, doubles or hides anything.
//! 5. Auto-replies, the close message and the auto-close fire once per trigger, across restarts and
//!    clock changes, and no dialog is closed for silence before what was said while the relay was
//!    away is here ([`catching_up`]). What had to wait is judged once more when its turn at MAX has
//!    come, by the rules of that moment. Only an appeal opens a chat: an edit or a removal goes
//!    into the newest one or is left and counted. Without a receiver new appeals wait; a dialog
//!    whose chat the agents have goes on.
//! 6. Nothing is dropped: a message that cannot be delivered becomes a dead letter with its reason,
//!    and the agent is told; so does one that cannot be read, while what is odd in one field costs
//!    only that field. What the customer sees, the agent sees. A report counts only while it is the
//!    one that was sent, so that a replay is never undone by the failure before it. Each patience
//!    counts its own cause, an outage uses up none, and a chat that cannot be seen is told as a
//!    missing right, never as closed.
//! 7. Unknown update types, unknown fields and bodies without their required part are stored raw,
//!    counted and acknowledged. What of the CRM's outbox, of a bot's answer or of the store cannot
//!    be read is set aside alone, told with its reason and counted; the others pass, and "answered,
//!    but not understood" is never taken for "away". An update that is too long to be read is cut
//!    where it is long, and what the customer said in it reaches the agent.
//! 8. The limits of MAX and Creatio are kept by the sender: at most that many requests in any one
//!    second, and of a CRM that several relays ask, this relay's share ([`share`]). A `Retry-After`
//!    binds everything towards that side, a bot too, sign-in included and over a restart; a side
//!    that is away is asked seldom, and its first answer wakes whoever waits.
//! 9. Who was erased is in no file any more, and neither a repeat nor a reading back brings
//!    anything of that person back: no text, no name. What they write afterwards is taken, whatever
//!    any clock shows.
//! 10. Who knows no secret costs little, keeps no webhook waiting, and learns nothing: not even
//!     which channels there are.
//! 11. Keys against repeats outlive the repeats of MAX and of the CRM, whatever the retention of
//!     messages. What a new store has never known is not brought back into it by a clock that is
//!     wrong: what is held against MAX's times is noted by MAX's clock ([`moments`]).
//! 12. The way in may become another at any time ([`switching`]): what came both ways is told once,
//!     what was on its way is found and stands where MAX shows it or says that it is late, and
//!     dialogs that are open go on.
//! 13. What became of every message is counted where it happens, and adds up day by day:
//!     [`receipt`] shows one that is missing as lost, and one too many as doubled.
//!
//! # How
//!
//! [`intake`] writes updates to the inbox. A lane per customer lets the rules of `policy` take them
//! inside the transaction that also writes the dialog, its next tick, and the queues: [`to_crm`],
//! [`to_max`] and [`bot`], each again a lane per customer with limits and pauses of its own.
//! [`outbox`] brings what the agents do; [`admin`] answers the administrator. The store has one
//! writer, which commits in groups.
//!
//! # Order
//!
//! Towards Creatio a customer's messages go by (timestamp, seq) of MAX among what is on disk, not
//! by arrival: a repeated webhook comes after younger ones. Hand-overs and closings are barriers
//! that nothing passes, and what was attempted once stays first.
//!
//! Must not: know Kubernetes, set anything up outside, or write a condition; [`Facts`] states
//! facts, others judge them.

mod active;
pub mod admin;
mod bot;
mod came_from;
mod catching_up;
mod dialogs;
mod facts;
mod finding;
mod gaps;
mod ground;
mod holds;
#[doc(hidden)]
pub mod hostile;
pub mod http;
mod intake;
mod lanes;
mod listener;
mod mango;
mod metrics;
mod moments;
pub mod moving;
mod outbox;
mod oversized;
mod owner;
mod placing;
mod receipt;
mod render;
mod share;
mod start;
mod state;
mod step;
mod store;
mod sweep;
mod switching;
mod timers;
mod to_crm;
mod to_max;
mod trouble;
mod unseen_edits;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::http::StatusCode;
use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;
use tokio::task::JoinSet;

use active::Active;
pub use ground::Ground;
pub use receipt::ReceiptError;
use state::Shared;
use store::meta::{self, Moment};
pub use store::{FILE as STORE, bot_of, set_aside};
#[doc(hidden)]
pub use store::{FORMAT as STORE_FORMAT, make_of_format};
use store::{Store, StoreError, Tx, customer, gap};

use crate::contract::admin::{DeadLetters, Erased, Receipt, Replay, Replayed, SOCKET};
use crate::contract::share::CrmShare;
use crate::contract::{CustomerId, Facts, RelayConfig};
use crate::creatio::Sites;
use crate::time::{self, Backoff, Clock, Jitter, Millis};

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
    /// Where the administrator's socket is; none where none was made.
    admin: Option<Arc<Path>>,
}

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the relay of {channel} cannot start: {reason}")]
    Settings { channel: String, reason: String },
}

/// After so many attempts; with a fifth of chance in it, so that lanes do not march in step.
fn pause(attempts: u32) -> Millis {
    time::millis(Jitter::longer(20).of(BETWEEN_TRIES.after(attempts)))
}

impl Relay {
    /// Opens the store in `data_dir` and starts. What an earlier run left goes on.
    ///
    /// # Errors
    /// The store cannot be opened, or an address or certificate of the settings is not usable.
    pub async fn open(config: RelayConfig, data_dir: &Path, clock: Clock) -> Result<Self, RelayError> {
        Self::open_on(Ground::Real(Sites::default()), config, data_dir, clock).await
    }

    /// The same on another ground.
    ///
    /// # Errors
    /// As for [`Relay::open`].
    pub async fn open_on(
        ground: Ground,
        config: RelayConfig,
        data_dir: &Path,
        clock: Clock,
    ) -> Result<Self, RelayError> {
        let active = Arc::new(Active::new(config, None, &ground)?);
        let store = Store::open_in(&data_dir.join(store::FILE), ground.place_of_store())?;
        let now = clock.now();
        let settings = Arc::clone(&active);
        let prepare =
            move |tx: &Tx<'_>| Ok((start::prepare(tx, now, &settings.config.channel)?, share::keep(tx, &settings)?));
        let ((subscribed_at, moments), share) = store.transact(prepare).await?;
        holds::restore(&store, &active, now).await?;
        // Without it messages are carried all the same.
        let admin = ground
            .is_real()
            .then(|| admin::bind(data_dir))
            .transpose()
            .inspect_err(|error| {
                let path = data_dir.join(SOCKET);
                tracing::error!(%error, path = %path.display(), "dead letters and erasure need a socket, which cannot be made here");
            })
            .ok()
            .flatten();
        let crm_limit = share::CrmLimit::new(share);
        let shared = Shared::new(ground, store, clock, &active, subscribed_at, crm_limit);
        for moment in moments {
            shared.moments.note(moment, shared.clock.passed(), Millis::MIN);
        }
        shared.activate(active);
        // Weak, for the store's thread ends when the last handle is gone.
        let announced = Arc::downgrade(&shared);
        shared.store.set_announce(move |woken| {
            if let Some(shared) = announced.upgrade() {
                shared.announce(woken);
            }
        });
        sweep::once(&shared).await?;
        let mut tasks = start::tasks(&shared);
        let folder = admin.is_some().then(|| Arc::from(data_dir));
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
        Ok(Self { tasks: Arc::new(tokio::sync::Mutex::new(tasks)), shared, admin: folder })
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
        let active = Arc::new(Active::new(config, before.as_deref(), &self.shared.ground)?);
        let (now, passed) = (self.shared.clock.now(), self.shared.clock.passed());
        let max_time = self.shared.moments.time(passed);
        let intake = active.config.channel.intake.clone();
        let is_to_be_read = before.is_some_and(|before| {
            let (before, now) = (&before.config.channel, &active.config.channel);
            before.intake != intake || (before.suspended && !now.suspended)
        });
        let settings = Arc::clone(&active);
        // What was refused meanwhile is missing before the first dialog is closed for silence.
        let refused = self.shared.readings.take_refused();
        // What is due under the new rules is decided by a tick of every open dialog.
        let has_switched = self
            .shared
            .store
            .transact(move |tx| {
                customer::tick_open(tx, now)?;
                if let Some(since) = refused {
                    gap::note(tx, since, gap::Kind::Repeated, now)?;
                }
                let has_switched = switching::note(tx, &intake, max_time, now)?;
                share::keep(tx, &settings)?;
                // What was suspended goes on.
                tx.wake(|woken| woken.gaps = true);
                Ok(has_switched)
            })
            .await
            .inspect_err(|_| refused.into_iter().for_each(|since| self.shared.readings.note_refused(since)))?;
        holds::restore(&self.shared.store, &active, now).await?;
        if has_switched {
            self.shared.moments.note(Moment::Switched, passed, Millis::MIN);
        }
        // What MANGO OFFICE told of meanwhile was not taken.
        if is_to_be_read {
            self.shared.mango_rounds.begin_anew();
        }
        self.shared.activate(active);
        Ok(())
    }

    /// Whether an address that names this installation is this relay's. One that names none is from
    /// before installations had ids.
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

    /// Whether dialogs come through MANGO OFFICE, or did a while ago.
    #[must_use]
    pub fn takes_from_mango(&self) -> bool {
        self.shared.active().is_some_and(|active| active.mango.is_some() || active.left.is_some())
    }

    /// Takes one webhook call of MANGO OFFICE; `caller`: where its connection comes from.
    pub async fn mango_webhook(&self, caller: Option<IpAddr>, body: &[u8]) -> StatusCode {
        mango::webhook(&self.shared, caller, body).await
    }

    /// Whether a webhook call comes from MAX: the fingerprint in its path and the secret in its
    /// header belong to one of ours.
    #[must_use]
    pub fn is_from_max(&self, fingerprint: &str, secret: Option<&str>) -> bool {
        let is_ours = self.shared.active().is_some_and(|active| intake::is_authentic(&active, fingerprint, secret));
        if !is_ours {
            self.shared.metrics.forbidden.inc();
        }
        is_ours
    }

    /// Takes a webhook call of MAX whose body is longer than anything that is taken whole, cut down
    /// to what can be read.
    pub async fn huge_webhook(
        &self,
        fingerprint: &str,
        secret: Option<&str>,
        body: &[u8],
        length: usize,
    ) -> StatusCode {
        intake::huge(&self.shared, fingerprint, secret, body, length).await
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

    /// The subscription in force was made at `at`, by MAX's clock. Another one than before: updates
    /// may have been missed between the two, which MAX does not repeat, so everybody is read back,
    /// open dialogs first. Harmless when it is repeated.
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

    /// From now on this relay may ask so much of the CRM. Answers what is in force after it; none:
    /// the settings in force are of another CRM, or share no limit.
    ///
    /// # Errors
    /// The store could not be written; what was in force stays.
    pub async fn take_crm_share(&self, told: CrmShare) -> Result<Option<CrmShare>, StoreError> {
        Ok(if self.shared.take_share(told).await? { self.shared.crm_share() } else { None })
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

    /// Whether the store can be written, tried anew where the last step could not: while a pod is
    /// out of its Service nothing comes in whose storing would show that there is space again.
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

    /// Ends at once and in the middle of everything, as a process that is killed; what is on disk
    /// stays as it is.
    pub async fn kill(&self) {
        self.tasks.lock().await.shutdown().await;
        self.shared.store.abandon().await;
    }

    /// From now on the store's disk takes nothing more, or (false) it does again: for tests.
    ///
    /// # Errors
    /// The store could not be asked.
    #[doc(hidden)]
    pub async fn fill_disk(&self, full: bool) -> Result<(), StoreError> {
        self.shared.store.transact(move |tx| store::file::fill(tx, full)).await
    }

    /// Erases a person: see [`admin`].
    ///
    /// # Errors
    /// The store could not be written.
    pub async fn erase(&self, customer: CustomerId) -> Result<Erased, StoreError> {
        admin::erase_person(&self.shared, customer).await
    }

    /// What was not delivered, and what is uncertain, without the words.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn dead_letters(&self) -> Result<DeadLetters, StoreError> {
        admin::list_letters(&self.shared, false).await
    }

    /// What became of every message of a day, or of each of the last days.
    ///
    /// # Errors
    /// That is no day, or the store could not be read.
    pub async fn receipt(&self, day: Option<&str>) -> Result<Receipt, ReceiptError> {
        receipt::of(&self.shared, day).await
    }

    /// Tries dead letters again.
    ///
    /// # Errors
    /// The store could not be written.
    pub async fn replay(&self, wanted: Replay) -> Result<Replayed, StoreError> {
        admin::replay_letters(&self.shared, wanted).await
    }

    /// Stops taking and sending, lets what is under way end, and closes the store. Everything is on
    /// disk when it returns.
    pub async fn stop(&self) {
        self.shared.stopping.send_replace(true);
        let mut tasks = self.tasks.lock().await;
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, ended).await.is_err() {
            tasks.shutdown().await;
        }
        holds::keep_all(&self.shared).await;
        if let Some(folder) = &self.admin {
            admin::unbind(folder);
        }
        self.shared.store.close().await;
    }
}
