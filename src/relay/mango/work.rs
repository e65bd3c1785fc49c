//! Asking Манго Диалоги: what webhooks have lost, whom a session is to be given to, and which
//! sessions are over here.
//!
//! Every step is one that may be repeated: what is asked for is compared with what is on disk, and
//! a step that failed is found undone in the next round.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::super::active::Active;
use super::super::state::Shared;
use super::super::store::mango::{self as store, Known, State};
use super::super::store::{StoreError, meta};
use super::super::{switching, timers};
use super::Mango;
use super::intake::{Taking, take_events};
use crate::mango::dialogs::{DialogRefusal, Event};
use crate::mango::{AbonentId, Class, Error};
use crate::time::Millis;

/// Between two rounds.
const INTERVAL: Millis = 3_000;
/// After an outage.
const OUTAGE: Millis = 10_000;
/// Another session of the same client may come so long after one has closed: a transfer.
const GRACE: Millis = 5_000;
/// A webhook that comes at all has come after so long.
const WEBHOOK: Millis = 2_000;
/// Chats read in one round: MANGO gives four a second.
const CHATS: usize = 12;
/// Nothing is asked before, by the wall clock: a program that is started again and again must not
/// get the key blocked.
const ASK_FROM: &str = "mango_ask_from";

/// Asks while the configuration says so, until the relay stops.
pub(in crate::relay) async fn run(shared: &Shared) {
    let mut settings = shared.active.subscribe();
    loop {
        let active = settings.borrow_and_update().clone();
        let active = active.filter(|active| !active.config.channel.suspended);
        let Some(active) = active.filter(|active| active.mango.is_some() || active.left.is_some()) else {
            timers::changed(&mut settings).await;
            continue;
        };
        if matches!(is_way(shared, &active).await, Ok(false)) {
            wake_waiting(shared, Instant::now(), true, false);
            timers::changed(&mut settings).await;
            continue;
        }
        let pause = match round(shared, &active).await {
            Ok(pause) => pause,
            Err(error) => {
                shared.store_failed(&error);
                OUTAGE
            }
        };
        tokio::select! {
            () = shared.clock.sleep(pause) => {}
            // An event may want an answer at once.
            () = shared.mango_wake.notified(), if pause <= INTERVAL => {}
            () = timers::changed(&mut settings) => {}
        }
    }
}

/// Whether MANGO OFFICE brings the messages, or did until a while ago.
pub(super) async fn is_way(shared: &Shared, active: &Active) -> Result<bool, StoreError> {
    if active.mango.is_some() {
        return Ok(true);
    }
    let now = shared.clock.now();
    shared.store.transact(move |tx| Ok(now < switching::asked_until(tx)?)).await
}

/// One round; how long to wait for the next.
async fn round(shared: &Shared, active: &Active) -> Result<Millis, StoreError> {
    let Some(mango) = active.mango.as_ref().or(active.left.as_ref()) else { return Ok(INTERVAL) };
    let kept = i64::try_from(active.config.channel.retention_seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
    let before = shared.clock.now().saturating_sub(kept);
    shared.store.transact(move |tx| store::forget(tx, before)).await?;
    // What an earlier run sent in its last second still counts at MANGO.
    let left = shared.send_from - shared.clock.passed();
    let from = shared.store.transact(|tx| meta::number(tx, ASK_FROM)).await?.unwrap_or(0);
    let left = left.max((from - shared.clock.now()).min(130_000));
    if left > 0 {
        return Ok(left);
    }
    if !super::super::owner::is_ours(shared, active).await {
        return Ok(OUTAGE);
    }
    match ask(shared, active, mango).await? {
        Ok(()) => Ok(INTERVAL),
        Err(error) => {
            shared.mango_rounds.note_loss();
            refused(shared, &error).await
        }
    }
}

/// How long a refusal asks us to be silent. What could block the key is on disk before the next
/// request.
pub(super) async fn refused(shared: &Shared, error: &Error) -> Result<Millis, StoreError> {
    let pause = match error.class() {
        Class::Penalty { left } => Millis::try_from(left.as_millis()).unwrap_or(OUTAGE).max(OUTAGE),
        Class::CredentialsInvalid => 125_000,
        Class::Refused { code } if (3_000..4_000).contains(&code) => 125_000,
        Class::Throttled => 2_000,
        _ => OUTAGE,
    };
    tracing::warn!(%error, pause, "Манго Диалоги refuses; it is asked again later");
    if pause > OUTAGE {
        let from = (shared.clock.now() + pause).to_string();
        shared.store.transact(move |tx| meta::set(tx, ASK_FROM, &from)).await?;
    }
    Ok(pause)
}

async fn ask(shared: &Shared, active: &Active, mango: &Mango) -> Result<Result<(), Error>, StoreError> {
    let bot = active.config.channel.bot_user_id;
    let (asked, began) = (Instant::now(), shared.clock.now());
    let sessions = match mango.client.sessions().await {
        Ok(sessions) => sessions,
        Err(error) => return Ok(Err(error)),
    };
    shared.last_update_at.store(shared.clock.now(), Ordering::Relaxed);
    let listed: Vec<String> = sessions.iter().map(|session| session.id.clone()).collect();
    take_events(shared, bot, sessions.into_iter().map(Event::Session).collect()).await?;
    let (unread, waiting, finished) = compare(shared, bot, listed, began, active.mango.is_some()).await?;
    let changed = unread.iter().filter(|known| known.updated_at > known.read_to).count();
    let (is_whole, mut found) = (changed <= CHATS, false);
    for known in unread.into_iter().take(CHATS) {
        match read(shared, bot, mango, known, began).await? {
            Ok(new) => found |= new,
            Err(error) => return Ok(Err(error)),
        }
    }
    wake_waiting(shared, asked, is_whole, found);
    // Of what it was the way for, only the messages are of interest.
    if active.mango.is_none() {
        return Ok(Ok(()));
    }
    for (known, employee) in waiting {
        if let Err(error) = mango.client.take_session(&known.id, AbonentId(employee)).await
            && error.dialog_refusal().is_none()
        {
            return Ok(Err(error));
        }
    }
    for (known, employee) in finished {
        match mango.client.close_session(&known.id, AbonentId(employee)).await {
            Ok(()) => {}
            Err(error) => match error.dialog_refusal() {
                Some(DialogRefusal::SessionClosed | DialogRefusal::SessionNotFound) => {
                    let known = Known { state: State::Closed, closed_at: shared.clock.now(), ..known };
                    shared.store.transact(move |tx| store::put(tx, &known)).await?;
                }
                Some(_) => {}
                None => return Ok(Err(error)),
            },
        }
    }
    Ok(Ok(()))
}

/// A round has ended: whoever waited for it goes on.
fn wake_waiting(shared: &Shared, began: Instant, is_whole: bool, found: bool) {
    for customer in shared.mango_rounds.ended(began, is_whole, found, shared.clock.now()) {
        shared.dialogs.hurry(customer);
    }
}

/// Sessions to be read, to be taken for somebody, and to be closed by somebody.
type Work = (Vec<Known>, Vec<(Known, i64)>, Vec<(Known, i64)>);

/// Holds what MANGO lists against what is on disk.
async fn compare(
    shared: &Shared,
    bot: i64,
    listed: Vec<String>,
    began: Millis,
    closes: bool,
) -> Result<Work, StoreError> {
    let now = shared.clock.now();
    shared
        .store
        .transact(move |tx| {
            let mut taking = Taking { tx, bot, now, taken: Vec::new() };
            let mut work: Work = (Vec::new(), Vec::new(), Vec::new());
            for known in store::open(tx)? {
                if !listed.contains(&known.id) {
                    // One that was announced while we asked may be missing.
                    if known.seen_at < began {
                        store::put(tx, &Known { state: State::Closed, closed_at: now, ..known })?;
                    }
                    continue;
                }
                if known.is_max != Some(true) {
                    continue;
                }
                if known.chat.is_some() && (known.updated_at > known.read_to || !known.is_settled) {
                    work.0.push(known.clone());
                }
                if let (State::Pending, Some(employee)) = (known.state, known.serves) {
                    work.1.push((known, employee));
                }
            }
            work.0.sort_by_key(|known| known.updated_at <= known.read_to);
            for known in store::untold(tx)?.into_iter().filter(|_| closes) {
                if now - known.closed_at >= GRACE {
                    taking.closed(&known)?;
                    store::put(tx, &Known { told: true, ..known })?;
                }
            }
            for known in store::finished(tx)? {
                if let (State::Dialog, Some(employee), true) = (known.state, known.employee, known.brought) {
                    work.2.push((known, employee));
                }
            }
            Ok(work)
        })
        .await
}

/// Reads the messages of a session that has changed; whether it found one that a webhook ought to
/// have brought.
async fn read(
    shared: &Shared,
    bot: i64,
    mango: &Mango,
    known: Known,
    began: Millis,
) -> Result<Result<bool, Error>, StoreError> {
    let Some(chat) = known.chat.clone() else { return Ok(Ok(false)) };
    let messages = match mango.client.chat_history(&chat, known.read_to).await {
        Ok(messages) => messages,
        // Nothing can be read any more, and nothing is waited for.
        Err(error) if error.dialog_refusal().is_some() => Vec::new(),
        Err(error) => return Ok(Err(error)),
    };
    let event = |message| Event::Message { session_id: known.id.clone(), chat_id: chat.clone(), message };
    let (old, young): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| message.time < began - WEBHOOK);
    let found = take_events(shared, bot, old.into_iter().map(event).collect()).await?;
    take_events(shared, bot, young.into_iter().map(event).collect()).await?;
    shared
        .store
        .transact(move |tx| {
            if let Some(now) = store::get(tx, &known.id)? {
                let is_settled = known.updated_at <= known.read_to;
                store::put(tx, &Known { read_to: known.updated_at, is_settled, ..now })?;
            }
            Ok(())
        })
        .await?;
    Ok(Ok(found))
}
