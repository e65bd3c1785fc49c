//! The reading back of dialogs after a gap in what MAX brings.
//!
//! A gap is noted on disk together with its bound (`store::gap`): at a start, after an answer other
//! than 200, when the intake changes, and when our subscription had to be made again. It stays
//! noted until every dialog that it concerns has been read, however often that fails: those that
//! are open and, where MAX does not repeat what was missed, all others are read by and by without
//! an update of theirs.
//!
//! A customer's first message after a gap waits for the reading at most [`PATIENCE`], its queue
//! included; then it goes on, and what is found later is delivered late, with its time in words.
//! Reading has a pace of its own below the limit of MAX, so that sends are never starved.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::active::Active;
use super::intake::Arrival;
use super::pause;
use super::state::Shared;
use super::store::gap::{self, Kind, Pending};
use super::store::{StoreError, Tx, inbox, meta, restored};
use super::unseen_edits::Reading;
use crate::contract::CustomerId;
use crate::max::update::is_time;
use crate::max::{Class, FEWER, History, Message};
use crate::time::Millis;
use crate::transport::Limiter;

/// How long a message waits for the reading back of what may belong before it.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Dialogs read at once.
pub(super) const READERS: usize = 8;
/// Pages read in any one second; the rest of MAX's 25 is for what is sent.
const PAGES_PER_SECOND: usize = 15;
/// How long MAX may take for one page.
const PAGE_LIMIT: Duration = Duration::from_secs(10);
/// Messages in a page, the most that MAX gives.
const PAGE: usize = 100;
/// Pages that are read of one dialog at the most.
const PAGES: usize = 100;
/// Between two checks of what is still to be read.
const INTERVAL: Millis = 5_000;
/// Dialogs put into the queue at one look.
const FILL: usize = 200;

/// MAX keeps for a day what no poll fetches (MAX Bot API reference, 3.2); less the doubt of when
/// the last one was.
const KEPT_BY_MAX: Millis = 22 * HOUR;
const HOUR: Millis = 3_600_000;

/// A poll was answered. After a longer silence than MAX keeps updates for, everybody is read back.
/// `noted_at`: when that was last on disk, at most an hour ago.
pub(super) async fn polled(shared: &Shared, noted_at: &mut Option<Millis>) -> Result<(), StoreError> {
    let now = shared.clock.now();
    if noted_at.is_some_and(|at| (at..at + HOUR).contains(&now)) {
        return Ok(());
    }
    let note = move |tx: &Tx<'_>| {
        if meta::number(tx, meta::POLLED_AT)?.is_some_and(|before| now - before > KEPT_BY_MAX) {
            gap::note(tx, gap::newest_update(tx, Millis::MAX)?, Kind::Lasting, now)?;
        }
        meta::set(tx, meta::POLLED_AT, &now.to_string())
    };
    shared.store.transact(note).await?;
    *noted_at = Some(now);
    Ok(())
}

/// Who is to be read back, and who waits for it. In memory; what is to be read stands on disk.
#[derive(Debug)]
pub(super) struct Readings {
    state: Mutex<State>,
    changed: Notify,
    pace: Limiter,
}

#[derive(Debug, Default)]
struct State {
    /// A message waits: of an open dialog, of another.
    urgent: [VecDeque<CustomerId>; 2],
    /// Nobody waits, or not any more.
    later: VecDeque<CustomerId>,
    entries: HashMap<CustomerId, Entry>,
    /// Answers of MAX that failed in a row, and until when it is left alone.
    failures: u32,
    not_before: Option<Instant>,
    /// The oldest update that was answered with another status than 200 and is in no gap yet.
    refused: Option<Millis>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The gap for which a message waits, and until when.
    waits: Option<(i64, Instant)>,
    /// It stands in a queue, or is being read.
    queued: bool,
}

impl Readings {
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            pace: Limiter::new(PAGES_PER_SECOND, Duration::from_secs(1)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An update of this time was not taken.
    pub fn note_refused(&self, at: Millis) {
        let mut state = self.lock();
        state.refused = Some(state.refused.map_or(at, |before| before.min(at)));
    }

    /// Takes the note over into a transaction; [`Readings::note_refused`] gives it back where that
    /// fails.
    pub fn take_refused(&self) -> Option<Millis> {
        self.lock().refused.take()
    }

    /// A message of this customer's came. How much longer it waits for the reading; none: it goes
    /// on.
    pub fn wait_for(&self, id: CustomerId, pending: &Pending) -> Option<Duration> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let entry = state.entries.entry(id).or_default();
        let until = match entry.waits {
            Some((gap, until)) if gap >= pending.gap => until,
            _ => {
                let until = Instant::now() + PATIENCE;
                entry.waits = Some((pending.gap, until));
                // Where it stands in the queue of the patient already it stands twice; the second
                // is skipped.
                entry.queued = true;
                state.urgent[usize::from(!pending.open)].push_back(id);
                self.changed.notify_one();
                until
            }
        };
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Puts those into the queue who are not in it.
    fn add(&self, customers: Vec<CustomerId>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        for customer in customers {
            let entry = state.entries.entry(customer).or_default();
            if !entry.queued {
                entry.queued = true;
                state.later.push_back(customer);
            }
        }
        drop(guard);
        self.changed.notify_waiters();
    }

    fn is_empty(&self) -> bool {
        let state = self.lock();
        state.later.is_empty() && state.urgent.iter().all(VecDeque::is_empty)
    }

    async fn next(&self) -> CustomerId {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let not_before = {
                let mut guard = self.lock();
                let state = &mut *guard;
                let not_before = state.not_before.filter(|until| *until > Instant::now());
                if not_before.is_none()
                    && let Some(customer) = state.pop()
                {
                    drop(guard);
                    self.changed.notify_one();
                    return customer;
                }
                not_before
            };
            match not_before {
                Some(until) => tokio::time::sleep_until(until).await,
                None => changed.await,
            }
        }
    }

    /// A dialog is read, or need not be.
    fn done(&self, id: CustomerId) {
        let mut state = self.lock();
        state.entries.remove(&id);
        state.failures = 0;
        state.not_before = None;
    }

    /// MAX did not answer: it is left alone for a while, and the dialog asked for again.
    fn failed(&self, id: CustomerId) {
        let mut state = self.lock();
        state.not_before = Some(Instant::now() + Duration::from_millis(pause(state.failures).unsigned_abs()));
        state.failures = state.failures.saturating_add(1);
        state.later.push_back(id);
    }
}

impl State {
    /// Who is read next. Those for whom nothing waits any more have the time of the others.
    fn pop(&mut self) -> Option<CustomerId> {
        let now = Instant::now();
        for class in 0..self.urgent.len() {
            while let Some(customer) = self.urgent[class].pop_front() {
                match self.entries.get(&customer).and_then(|entry| entry.waits) {
                    Some((_, until)) if until > now => return Some(customer),
                    _ => self.later.push_back(customer),
                }
            }
        }
        // Read meanwhile: its entry is gone.
        while let Some(customer) = self.later.pop_front() {
            if self.entries.contains_key(&customer) {
                return Some(customer);
            }
        }
        None
    }
}

/// Sees to it that what is still to be read is read, until the relay stops.
pub(super) async fn run(shared: &Shared) {
    let (mut open, mut all) = (CustomerId::FIRST, CustomerId::FIRST);
    loop {
        let suspended = shared.active().is_none_or(|active| active.config.channel.suspended);
        if !suspended {
            if let Err(error) = note_refused(shared).await {
                shared.store_failed(&error);
            }
            if shared.readings.is_empty() {
                match fill(shared, open, all).await {
                    Ok(next) => (open, all) = next,
                    Err(error) => drop(shared.store_failed(&error)),
                }
            }
        }
        tokio::select! { () = shared.clock.sleep(INTERVAL) => {}, () = shared.gap_wake.notified() => {} }
    }
}

/// Puts the next dialogs into the queue: those that are open, and when there are none left all
/// others. Gives back where to go on; the end of a list is followed by its beginning.
async fn fill(shared: &Shared, open: CustomerId, all: CustomerId) -> Result<(CustomerId, CustomerId), StoreError> {
    let (found, everybody) = shared
        .store
        .transact(move |tx| {
            let found = gap::open_dialogs(tx, open, FILL)?;
            let everybody = if found.is_empty() { gap::everybody(tx, all, FILL)? } else { Vec::new() };
            Ok((found, everybody))
        })
        .await?;
    let after = |customers: &[CustomerId]| customers.last().copied().unwrap_or(CustomerId::FIRST);
    let next = (after(&found), if found.is_empty() { after(&everybody) } else { all });
    shared.readings.add(found);
    shared.readings.add(everybody);
    Ok(next)
}

/// Notes a gap for what was answered with another status than 200, once the store can be written
/// again.
async fn note_refused(shared: &Shared) -> Result<(), StoreError> {
    let Some(since) = shared.readings.take_refused() else { return Ok(()) };
    let now = shared.clock.now();
    let noted = shared.store.transact(move |tx| gap::note(tx, since, Kind::Repeated, now));
    noted.await.inspect_err(|_| shared.readings.note_refused(since))
}

/// Reads dialog after dialog, until the relay stops.
pub(super) async fn read(shared: &Shared) {
    loop {
        let id = shared.readings.next().await;
        let Some(active) = shared.active().filter(|active| !active.config.channel.suspended) else {
            shared.readings.failed(id);
            continue;
        };
        match read_one(shared, &active, id).await {
            Ok(true) => {
                shared.readings.done(id);
                shared.dialogs.hurry(id);
            }
            Ok(false) => shared.readings.failed(id),
            Err(error) => {
                shared.store_failed(&error);
                shared.readings.failed(id);
            }
        }
    }
}

/// False: MAX did not answer, and the gap stays.
async fn read_one(shared: &Shared, active: &Active, id: CustomerId) -> Result<bool, StoreError> {
    let now = shared.clock.now();
    let begun = move |tx: &Tx<'_>| Ok((gap::pending(tx, id, now)?, inbox::newest_row(tx)?));
    let (Some(pending), known_to) = shared.store.transact(begun).await? else { return Ok(true) };
    let bot = active.config.channel.bot_user_id;
    let Missed { arrivals, bot_seq, newest } = match missed(shared, active, &pending).await {
        Ok(found) => found,
        Err(error) if is_final(error.class()) => {
            shared.metrics.read_backs_refused.inc();
            Missed::default()
        }
        Err(error) => {
            tracing::debug!(%error, "a dialog could not be read back; it is tried again");
            return Ok(false);
        }
    };
    let reading = Reading { newest, known_to };
    let found = shared
        .store
        .transact(move |tx| {
            // The person may have been erased while MAX was asked: then nothing of it is kept.
            if !gap::is_same(tx, id, &pending)? {
                return Ok(0);
            }
            let mut found = 0;
            // What a lost store saw may be with the agents, under a key that only it knew.
            let was_seen = restored::unknown(tx)?.is_some_and(|(_, until)| pending.since < until);
            let has_unseen = pending.is_lasting && !was_seen;
            for arrival in &arrivals {
                // Only of this dialog's customer, whatever a page holds.
                if !arrival.is_of(id) {
                    continue;
                }
                let mut is_new = arrival.store(tx, now)?.0;
                if !is_new
                    && has_unseen
                    && let Some(edit) = arrival.unseen_edit(tx, id, (bot, now), reading)?
                {
                    is_new = edit.store(tx, now)?.0;
                }
                found += u64::from(is_new);
            }
            gap::close(tx, id, &pending, bot_seq)?;
            Ok(found)
        })
        .await?;
    shared.metrics.read_back.inc_by(found);
    Ok(true)
}

/// Whether asking again would change nothing.
fn is_final(class: &Class) -> bool {
    matches!(class, Class::Refused | Class::NotFound | Class::RecipientGone)
}

/// What a dialog shows since a gap began.
#[derive(Default)]
struct Missed {
    /// The customer's messages.
    arrivals: Vec<Arrival>,
    /// The newest message of the bot's.
    bot_seq: Option<i64>,
    /// When the newest message was written.
    newest: Millis,
}

async fn missed(shared: &Shared, active: &Active, pending: &Pending) -> Result<Missed, crate::max::Error> {
    let (bot, now) = (active.config.channel.bot_user_id, shared.clock.now());
    let mut missed = Missed::default();
    let mut before = None;
    let (mut count, mut left) = (PAGE, PAGES * PAGE);
    while left > 0 {
        let _paced = shared.readings.pace.acquire().await;
        let history = History { before, after: None, count: u32::try_from(count).unwrap_or(1) };
        let page = match active.max.messages_raw(pending.chat_id, history, PAGE_LIMIT).await {
            // Many together are too much.
            Err(error) if error.class() == &Class::TooLarge && count > 1 => {
                count = (count / FEWER).max(1);
                continue;
            }
            // Behind that one nothing can be asked for; what came before it is not lost for it.
            Err(error) if error.class() == &Class::TooLarge => {
                shared.metrics.read_backs_refused.inc();
                break;
            }
            page => page?,
        };
        left = left.saturating_sub(count);
        let (mut oldest, mut beside): (Option<Millis>, Option<Millis>) = (None, None);
        let mut reached = page.len() < count;
        for raw in &page {
            let Some(message) = Message::parse(raw.get()) else { continue };
            // Without a time of its own it has that of the one beside it.
            let at = Some(message.timestamp).filter(|at| is_time(*at)).or(beside).unwrap_or(now);
            beside = Some(at);
            missed.newest = missed.newest.max(at);
            oldest = Some(oldest.map_or(at, |oldest| oldest.min(at)));
            if at < pending.since {
                reached = true;
                continue;
            }
            match &message.sender {
                Some(sender) if sender.id == bot => missed.bot_seq = missed.bot_seq.max(Some(message.seq)),
                Some(_) => {
                    let update =
                        format!(r#"{{"update_type":"message_created","timestamp":{at},"message":{}}}"#, raw.get());
                    missed.arrivals.push(Arrival::read(update, bot, now));
                }
                None => {}
            }
        }
        if reached || oldest.is_none() || oldest == before {
            break;
        }
        before = oldest;
    }
    Ok(missed)
}
