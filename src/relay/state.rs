//! What all flows of a running relay share: the store, the lanes, and what is known of either side.
//! In memory; what must outlive it is in the store.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::active::Active;
use super::bot::{self, BotState};
use super::catching_up::CatchingUp;
use super::facts::Health;
use super::ground::Ground;
use super::lanes::{Lanes, Outcome};
use super::metrics::{Metrics, Odd};
use super::moments::Moments;
use super::share::CrmLimit;
use super::store::to_crm::Head;
use super::store::{Store, StoreError, Woken};
use super::{gaps, mango, owner, start, trouble};
use crate::contract::{CustomerId, SideFacts, Trouble};
use crate::policy::{BotRole, Context};
use crate::time::{self, Clock, Millis};
use crate::{creatio, max};

/// The longest file carried, bytes: each stands whole in memory for a moment.
pub(super) const LARGEST_FILE: usize = 50 * 1024 * 1024;
/// How many elements that cannot be read are remembered, so that each is counted once.
const ODD_REMEMBERED: usize = 1_000;

#[derive(Debug)]
pub(super) struct Shared {
    pub ground: Ground,
    pub store: Store,
    pub clock: Clock,
    pub active: watch::Sender<Option<Arc<Active>>>,
    pub dialogs: Lanes,
    pub to_crm: Lanes,
    pub to_max: Lanes,
    pub to_bot: Lanes,
    /// Customers whose next message waits for its files: towards the CRM, and towards MAX. Each has
    /// permits of its own, so that a file host that hangs holds up no text and not the other way.
    pub files_in: Lanes,
    pub files_out: Lanes,
    /// Files that MAX gave since the start.
    pub files_fetched: AtomicU64,
    /// How far MAX's clock is ahead of passed time, by what it has sent; [`Millis::MIN`]: not
    /// known.
    pub max_ahead: AtomicI64,
    pub moments: Moments,
    /// Rows reported a moment ago, when in passed time.
    pub reported: Mutex<HashMap<Uuid, Millis>>,
    pub metrics: Metrics,
    pub health: Mutex<Health>,
    pub readings: gaps::Readings,
    /// Nothing is sent to MAX before [`Clock::passed`] says so.
    pub send_from: Millis,
    pub last_update_at: AtomicI64,
    /// The subscription whose gap is known, by its time; 0 for none.
    pub subscribed_at: AtomicI64,
    pub ownership: owner::Ownership,
    pub crm_limit: CrmLimit,
    pub catching_up: CatchingUp,
    /// A dialog is open, so the outbox is looked at often.
    pub any_open: AtomicBool,
    pub largest_file: AtomicUsize,
    pub outbox_wake: Notify,
    pub report_wake: Notify,
    /// What the last commit has marked to be sent at once. The next one forgets it.
    marked: Mutex<Option<Box<Head>>>,
    pub timer_wake: Notify,
    /// When the timer looks by itself; what is due later need not wake it. [`Millis::MAX`]: it does
    /// not know.
    pub next_tick: AtomicI64,
    pub gap_wake: Notify,
    pub mango_wake: Notify,
    pub mango_rounds: mango::Rounds,
    /// The CRM's hints reach us, so that looks without one may be rare.
    pub hints_work: AtomicBool,
    pub hinted: AtomicBool,
    pub store_broken: AtomicBool,
    /// Elements of the outbox that cannot be read and have no id to be told by.
    pub odd_seen: Mutex<HashSet<creatio::OddRow>>,
    pub stopping: watch::Sender<bool>,
}

impl Shared {
    pub fn new(
        ground: Ground,
        store: Store,
        clock: Clock,
        active: &Active,
        subscribed_at: Millis,
        crm_limit: CrmLimit,
    ) -> Arc<Self> {
        let now = clock.now();
        let healthy = SideFacts { ok: true, code: None, since: now };
        Arc::new(Self {
            ground,
            dialogs: Lanes::new(clock.clone(), start::DIALOG_PLACES),
            to_crm: Lanes::new(clock.clone(), start::crm_workers(active)),
            to_max: Lanes::new(clock.clone(), start::MAX_PLACES),
            to_bot: Lanes::new(clock.clone(), start::BOT_PLACES),
            files_in: Lanes::new(clock.clone(), start::FILES_AT_ONCE),
            files_out: Lanes::new(clock.clone(), start::FILES_AT_ONCE),
            files_fetched: AtomicU64::new(0),
            max_ahead: AtomicI64::new(Millis::MIN),
            moments: Moments::default(),
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
                throttled: None,
                bot_away_until: [Millis::MIN; 2],
                hidden_chats: HashMap::new(),
            }),
            readings: gaps::Readings::new(),
            catching_up: CatchingUp::new(),
            last_update_at: AtomicI64::new(0),
            subscribed_at: AtomicI64::new(subscribed_at),
            ownership: owner::Ownership::default(),
            crm_limit,
            any_open: AtomicBool::new(true),
            largest_file: AtomicUsize::new(LARGEST_FILE),
            outbox_wake: Notify::new(),
            report_wake: Notify::new(),
            marked: Mutex::default(),
            timer_wake: Notify::new(),
            next_tick: AtomicI64::new(Millis::MAX),
            gap_wake: Notify::new(),
            mango_wake: Notify::new(),
            mango_rounds: mango::Rounds::new(),
            hints_work: AtomicBool::new(false),
            hinted: AtomicBool::new(false),
            store_broken: AtomicBool::new(false),
            odd_seen: Mutex::default(),
            stopping: watch::Sender::new(false),
        })
    }

    pub fn active(&self) -> Option<Arc<Active>> {
        self.active.borrow().clone()
    }

    pub fn activate(&self, active: Arc<Active>) {
        let running = !active.config.channel.suspended;
        if running && self.active().is_none_or(|before| before.config.channel.suspended) {
            self.catching_up.begin(self.clock.passed());
        }
        let has_crm = active.creatio.is_some();
        self.to_crm.set_permits(start::crm_workers(&active));
        self.crm_limit.hold(&active);
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

    pub fn context(&self) -> Context {
        let health = self.health();
        let away = |role: usize| health.bot_away_until[role] > self.clock.passed();
        Context { now: self.clock.now(), bot_away: away(0), off_hours_bot_away: away(1), may_lack_words: false }
    }

    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn marked(&self) -> MutexGuard<'_, Option<Box<Head>>> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head of that customer's queue towards the CRM, if the last commit has marked it: nothing
    /// has changed since.
    pub fn marked_head(&self, customer: CustomerId) -> Option<Head> {
        self.marked().take_if(|head| head.customer.id == customer).map(|head| *head)
    }

    pub fn announce(&self, mut woken: Woken) {
        if woken.written {
            self.store_broken.store(false, Ordering::Relaxed);
            *self.marked() = woken.head.take();
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
        if woken.timers || woken.due.is_some_and(|due| due < self.next_tick.load(Ordering::Relaxed)) {
            self.timer_wake.notify_one();
        }
        for left in &woken.left {
            self.metrics.left(*left);
        }
        for source in &woken.starts {
            self.metrics.start(source);
        }
        self.metrics.dead_letters_made.inc_by(woken.dead_letters);
        self.metrics.overdue.inc_by(woken.overdue);
        if woken.gaps {
            self.gap_wake.notify_one();
        }
    }

    /// Whether an element that cannot be read was not seen before, as far as is remembered.
    pub fn is_first_look_at(&self, odd: &creatio::OddRow) -> bool {
        let mut seen = self.odd_seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= ODD_REMEMBERED {
            seen.clear();
        }
        seen.insert(odd.clone())
    }

    pub fn largest_file(&self) -> usize {
        self.largest_file.load(Ordering::Relaxed)
    }

    pub fn set_largest_file(&self, bytes: u64) {
        self.largest_file.store(usize::try_from(bytes).unwrap_or(LARGEST_FILE).min(LARGEST_FILE), Ordering::Relaxed);
    }

    /// MAX has just given a message this time.
    pub fn note_max_time(&self, time: Millis) {
        self.max_ahead.fetch_max(time - self.clock.passed(), Ordering::Relaxed);
    }

    /// What MAX's clock shows, as far as is known.
    pub fn max_time(&self) -> Millis {
        match self.max_ahead.load(Ordering::Relaxed) {
            Millis::MIN => self.clock.now(),
            ahead => self.clock.passed() + ahead,
        }
    }

    /// The first answer after a failure wakes all who wait for MAX.
    pub fn max_answered(&self) {
        if self.health().max.set_ok(self.clock.now()) {
            self.to_max.release();
            self.files_in.release();
            self.files_out.release();
        }
    }

    /// What a failed call says about MAX; `otherwise` where it says nothing about it by itself.
    pub fn max_failed(&self, error: &max::Error, otherwise: Option<Trouble>) {
        let Some(trouble) = trouble::of_max(error).or(otherwise) else { return };
        let (now, passed) = (self.clock.now(), self.clock.passed());
        let mut health = self.health();
        if trouble == Trouble::Throttled {
            health.note_throttled(now, passed, error.retry_after().map_or(0, time::millis));
        }
        health.max.set_failed(trouble, now);
    }

    /// The first answer after a failure wakes all who wait for the CRM.
    pub fn crm_answered(&self) {
        if self.health().crm.set_ok(self.clock.now()) {
            self.to_crm.release();
            self.files_in.release();
            self.files_out.release();
            self.report_wake.notify_one();
        }
    }

    /// Nothing of the CRM answers, as far as is known.
    pub fn crm_is_away(&self) -> bool {
        let health = self.health();
        let away = [Trouble::CrmUnreachable, Trouble::Throttled, Trouble::CredentialsInvalid];
        !health.crm.ok && health.crm.code.as_ref().is_some_and(|trouble| away.contains(trouble))
    }

    /// Whether the technical user cannot see a chat that it has to close.
    pub fn note_hidden_chat(&self, chat: Uuid, hidden: bool) {
        let now = self.clock.now();
        let mut health = self.health();
        if hidden {
            health.hidden_chats.entry(chat).or_insert(now);
        } else {
            health.hidden_chats.remove(&chat);
        }
    }

    pub fn crm_is_well(&self) -> bool {
        self.health().crm.ok
    }

    pub fn crm_failed(&self, trouble: Trouble) {
        let now = self.clock.now();
        self.health().crm.set_failed(trouble, now);
    }

    /// `left`: how long the bot has asked to be left alone.
    pub fn note_bot(&self, role: BotRole, state: BotState, left: Option<Duration>) {
        let (now, passed) = (self.clock.now(), self.clock.passed());
        let mut health = self.health();
        let away_until = match state {
            BotState::Away => {
                let left = left.map_or(0, |left| Millis::try_from(left.as_millis()).unwrap_or(Millis::MAX));
                passed.saturating_add(left.max(bot::AWAY))
            }
            BotState::Well | BotState::NotUnderstood => Millis::MIN,
        };
        health.bot_away_until[usize::from(role == BotRole::OffHours)] = away_until;
        match state {
            BotState::Well => drop(health.bot.set_ok(now)),
            BotState::NotUnderstood => health.bot.set_failed(Trouble::BotNotUnderstood, now),
            BotState::Away => health.bot.set_failed(Trouble::BotUnreachable, now),
        }
    }

    /// A step that could not be written is tried again; it took no effect.
    pub fn store_failed(&self, error: &StoreError) -> Outcome {
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
