//! Asking Манго Диалоги: what webhooks have lost, whom a session is to be given to, and which
//! sessions are over here.
//!
//! Every step is one that may be repeated: what is asked for is compared with what is on disk, and
//! a step that failed is found undone in the next round.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::super::active::Active;
use super::super::state::Shared;
use super::super::store::gap::KEYS_KEPT;
use super::super::store::mango::{self as store, Known, State};
use super::super::store::{StoreError, Tx, meta};
use super::super::{switching, timers};
use super::Mango;
use super::intake::{Source, Taking, take_events};
use super::rounds::Asked;
use crate::mango::dialogs::{DialogRefusal, Event, Listing};
use crate::mango::{AbonentId, Class, Error};
use crate::max::update::is_time;
use crate::time::{self, Millis};

const A_DAY: Millis = 86_400_000;
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
/// A session in which nothing is known to have changed is read again after so long, a few in a
/// round: no document says that a message changes its time.
const AGAIN: Millis = 30_000;
const AGAIN_AT_ONCE: usize = 3;
/// What is read behind what was read before: a message may be shown later than it was written.
const BEHIND: Millis = 60_000;
/// How long a reading may take, its turn included.
const READING: Duration = Duration::from_secs(15);
/// Readings of one session that fail before the others do not wait for it any more.
const FAILURES: u32 = 3;
/// A closed session that cannot be read is told as closed after so long.
const UNREAD: Millis = 600_000;
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
    let pause = pause.max(error.retry_after().map_or(0, time::millis));
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
    let Listing { sessions, ids, is_whole } = sessions;
    take_events(shared, bot, Source::List, sessions.into_iter().map(Event::Session).collect()).await?;
    let work = compare(shared, bot, Listing { sessions: Vec::new(), ids, is_whole }, active.mango.is_some()).await?;
    let Work { unread, waiting, finished } = work;
    let (mut is_whole, mut found) = (unread.changed <= CHATS, false);
    let readable = unread.readable;
    // All at once: one that hangs keeps only itself.
    let reads = unread.sessions.into_iter().map(|(known, failures)| async move {
        let limited = tokio::time::timeout(READING, read(shared, bot, mango, known, began)).await;
        (failures, limited)
    });
    for (failures, outcome) in futures::future::join_all(reads).await {
        let Ok(outcome) = outcome else {
            is_whole &= failures + 1 >= FAILURES;
            continue;
        };
        match outcome? {
            Ok(new) => found |= new,
            // One that fails keeps nobody else waiting.
            Err(error) if is_of_one(&error) => {
                is_whole &= failures + 1 >= FAILURES;
                tracing::debug!(%error, "the messages of a session could not be read; it is tried again");
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    shared.mango_rounds.note_round(&readable);
    wake_waiting(shared, asked, is_whole, found);
    // On a quiet site nobody else notes that all is heard again.
    let _ = shared.heard(active);
    // Of what it was the way for, only the messages are of interest.
    if active.mango.is_none() {
        return Ok(Ok(()));
    }
    for (known, employee) in waiting {
        if let Err(error) = mango.client.take_session(&known.id, AbonentId(employee)).await
            && error.dialog_refusal().is_none()
            && error.class() != Class::Transient
        {
            return Ok(Err(error));
        }
    }
    for (known, employee) in finished {
        match mango.client.close_session(&known.id, AbonentId(employee)).await {
            Ok(()) => {
                let ended = move |tx: &Tx<'_>| match store::get(tx, &known.id)? {
                    Some(now) => store::put(tx, &Known { ended_here: true, ..now }),
                    None => Ok(()),
                };
                shared.store.transact(ended).await?;
            }
            Err(error) => match error.dialog_refusal() {
                Some(DialogRefusal::SessionClosed | DialogRefusal::SessionNotFound) => {
                    // The person may have been erased meanwhile.
                    let closed_at = shared.clock.now();
                    let closed = move |tx: &Tx<'_>| match store::get(tx, &known.id)? {
                        Some(now) => store::put(tx, &Known { state: State::Closed, closed_at, ..now }),
                        None => Ok(()),
                    };
                    shared.store.transact(closed).await?;
                }
                Some(_) => {}
                None if error.class() == Class::Transient => {}
                None => return Ok(Err(error)),
            },
        }
    }
    Ok(Ok(()))
}

/// Whether it may be this session's own trouble.
fn is_of_one(error: &Error) -> bool {
    matches!(error.class(), Class::Transient | Class::Unreachable) && error.retry_after().is_none()
}

/// A round has ended: whoever waited for it goes on.
fn wake_waiting(shared: &Shared, began: Instant, is_whole: bool, found: bool) {
    for customer in shared.mango_rounds.ended(began, is_whole, found, shared.clock.now()) {
        shared.dialogs.hurry(customer);
    }
}

/// What is to be done about sessions.
struct Work {
    unread: Unread,
    /// To be taken for somebody, and to be closed by somebody.
    waiting: Vec<(Known, i64)>,
    finished: Vec<(Known, i64)>,
}

/// Sessions to be read in this round, with how often that has failed.
struct Unread {
    sessions: Vec<(Known, u32)>,
    /// So many have changed or are closed, also beyond this round.
    changed: usize,
    /// All that can be read.
    readable: Vec<String>,
}

/// Holds what MANGO lists against what is on disk.
async fn compare(shared: &Shared, bot: i64, listing: Listing, closes: bool) -> Result<Work, StoreError> {
    let (now, passed) = (shared.clock.now(), shared.clock.passed());
    let before = shared.mango_rounds.asked();
    let (work, asked) = shared
        .store
        .transact(move |tx| {
            let mut asked: HashMap<String, Asked> = HashMap::new();
            let mut candidates = Vec::new();
            let mut waiting = Vec::new();
            for known in store::open(tx)? {
                let mut one = before.get(&known.id).copied().unwrap_or_default();
                if !listing.ids.contains(&known.id) {
                    // A list may miss one for a moment.
                    let since = *one.missing_since.get_or_insert(passed);
                    if listing.is_whole && passed - since >= GRACE {
                        store::put(tx, &Known { state: State::Closed, is_assumed: true, closed_at: now, ..known })?;
                    } else {
                        asked.insert(known.id.clone(), one);
                        // It may be over, and what was last written in it stands before whatever is
                        // written in the next one.
                        if listing.is_whole && has_left_unread(one) && is_readable(&known) {
                            candidates.push((known, one));
                        }
                    }
                    continue;
                }
                one.missing_since = None;
                asked.insert(known.id.clone(), one);
                if known.is_max != Some(true) {
                    continue;
                }
                if known.chat.is_some() {
                    candidates.push((known.clone(), one));
                }
                if let (State::Pending, Some(employee)) = (known.state, known.serves) {
                    waiting.push((known, employee));
                }
            }
            let mut taking = Taking { tx, bot, source: Source::List, now, taken: Vec::new(), forgets: false };
            for known in store::untold(tx)? {
                let one = before.get(&known.id).copied().unwrap_or_default();
                let for_so_long = (now - known.closed_at).abs();
                if is_readable(&known) && !known.is_drained && for_so_long < UNREAD {
                    asked.insert(known.id.clone(), one);
                    candidates.push((known, one));
                } else if closes && (known.is_assumed || for_so_long >= GRACE) {
                    taking.closed(&known)?;
                    store::put(tx, &Known { told: true, ..known })?;
                }
            }
            let unread = unread(candidates, passed);
            let mut finished = Vec::new();
            for known in store::finished(tx)? {
                if let (State::Dialog, Some(employee), true) = (known.state, known.employee, known.brought) {
                    finished.push((known, employee));
                }
            }
            Ok((Work { unread, waiting, finished }, asked))
        })
        .await?;
    shared.mango_rounds.note_asked(asked);
    Ok(work)
}

/// Whether it is one of MAX, and MANGO has told by which name its messages are read.
fn is_readable(known: &Known) -> bool {
    known.is_max == Some(true) && known.chat.is_some()
}

/// Whether a session has left the list and was not read since.
fn has_left_unread(asked: Asked) -> bool {
    asked.missing_since.is_some_and(|since| asked.read_at.is_none_or(|read_at| read_at < since))
}

/// Which sessions are read now: what has changed first, then what was not read since the start,
/// and what fails behind everything else.
fn unread(candidates: Vec<(Known, Asked)>, passed: Millis) -> Unread {
    let urgency = |known: &Known, asked: Asked| {
        if known.state == State::Closed {
            0
        } else if known.updated_at > known.read_to || has_left_unread(asked) {
            1
        } else if !asked.is_heard {
            2
        } else {
            u8::from(known.is_settled) + 3
        }
    };
    let mut candidates: Vec<_> =
        candidates.into_iter().map(|(known, asked)| (urgency(&known, asked), known, asked)).collect();
    candidates.sort_by_key(|(urgency, known, asked)| (asked.failures, *urgency, asked.read_at, known.id.clone()));
    let changed = candidates.iter().filter(|(urgency, _, asked)| *urgency < 2 && asked.failures < FAILURES).count();
    let readable = candidates.iter().map(|(_, known, _)| known.id.clone()).collect();
    let mut again = 0;
    candidates.retain(|(urgency, _, asked)| {
        let is_idle = *urgency == 4;
        again += usize::from(is_idle);
        let is_due = |pause: Millis| asked.read_at.is_none_or(|read_at| passed - read_at >= pause);
        // What fails is tried more and more seldom.
        is_due(AGAIN * Millis::from(asked.failures.min(10))) && (!is_idle || (again <= AGAIN_AT_ONCE && is_due(AGAIN)))
    });
    let sessions = candidates.into_iter().take(CHATS).map(|(_, known, asked)| (known, asked.failures)).collect();
    Unread { sessions, changed, readable }
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
    let session = known.id.clone();
    // Noted before: whoever gives up on it has seen it fail.
    shared.mango_rounds.note_read(&known.id, shared.clock.passed(), true);
    let answer = mango.client.chat_history(&chat, known.read_to.saturating_sub(BEHIND).max(0)).await;
    let is_refused = answer.as_ref().err().is_some_and(|error| error.dialog_refusal().is_some());
    shared.mango_rounds.note_read(&known.id, shared.clock.passed(), answer.is_err() && !is_refused);
    let messages = match answer {
        Ok(messages) => messages,
        // Nothing can be read any more, and nothing is waited for.
        Err(_) if is_refused => Vec::new(),
        Err(error) => return Ok(Err(error)),
    };
    // It may be open for longer than keys are kept, and shows everything again.
    let newest = messages.iter().map(|message| message.time).max();
    let forgotten = known.taken_to.min(shared.clock.now() - KEYS_KEPT + A_DAY);
    let messages = messages.into_iter().filter(|message| !is_time(message.time) || message.time > forgotten);
    let event = |message| Event::Message { session_id: known.id.clone(), chat_id: chat.clone(), message };
    let (old, young): (Vec<_>, Vec<_>) = messages.partition(|message| message.time < began - WEBHOOK);
    let found = take_events(shared, bot, Source::History, old.into_iter().map(event).collect()).await?;
    take_events(shared, bot, Source::History, young.into_iter().map(event).collect()).await?;
    shared
        .store
        .transact(move |tx| {
            if let Some(now) = store::get(tx, &known.id)? {
                let is_settled = known.updated_at <= known.read_to;
                // It was closed before it was read, or is read once more.
                let is_drained = now.state == State::Closed && known.state == State::Closed;
                let taken_to = now.taken_to.max(newest.unwrap_or(0));
                store::put(tx, &Known { read_to: known.updated_at, taken_to, is_settled, is_drained, ..now })?;
            }
            Ok(())
        })
        .await?;
    shared.mango_rounds.note_heard(&session);
    Ok(Ok(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 10_000_000;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Is {
        Closed,
        Changed,
        /// Read once since it changed.
        Fresh,
        Idle,
        /// Idle as well, and just gone from the list.
        Gone,
    }

    /// A session with its chat, how often in a row it could not be read, and how long ago that was.
    fn candidate(id: &str, is: Is, failures: u32, ago: Millis) -> (Known, Asked) {
        let known = Known {
            id: id.to_owned(),
            state: if is == Is::Closed { State::Closed } else { State::Dialog },
            updated_at: 2,
            read_to: if is == Is::Changed { 1 } else { 2 },
            is_settled: matches!(is, Is::Idle | Is::Gone),
            ..Known::default()
        };
        (
            known,
            Asked {
                missing_since: (is == Is::Gone).then_some(NOW),
                read_at: Some(NOW - ago),
                failures,
                is_heard: true,
            },
        )
    }

    #[test]
    fn what_has_changed_is_read_first_what_is_idle_seldom_and_what_fails_behind_everything_else() {
        let unread_yet = |(known, asked): (Known, Asked)| (known, Asked { is_heard: false, ..asked });
        for (what, candidates, read, changed) in [
            (
                "closed, changed, read once, idle",
                vec![
                    candidate("idle", Is::Idle, 0, AGAIN),
                    candidate("fresh", Is::Fresh, 0, 1),
                    candidate("changed", Is::Changed, 0, 1),
                    candidate("closed", Is::Closed, 0, 1),
                ],
                vec!["closed", "changed", "fresh", "idle"],
                2,
            ),
            ("idle ones wait for their time", vec![candidate("idle", Is::Idle, 0, AGAIN - 1)], vec![], 0),
            ("one that leaves the list is read once more", vec![candidate("gone", Is::Gone, 0, 1)], vec!["gone"], 1),
            ("and no more than that", vec![candidate("gone", Is::Gone, 0, 0)], vec![], 0),
            (
                "a few idle ones at once, the longest unread first",
                (0..5).map(|n| candidate(&format!("idle {n}"), Is::Idle, 0, AGAIN + n)).collect(),
                vec!["idle 4", "idle 3", "idle 2"],
                0,
            ),
            (
                "all that was not read since the start, behind what has changed",
                (0..4)
                    .map(|n| unread_yet(candidate(&format!("idle {n}"), Is::Idle, 0, 0)))
                    .chain([candidate("changed", Is::Changed, 0, 1)])
                    .collect(),
                vec!["changed", "idle 0", "idle 1", "idle 2", "idle 3"],
                1,
            ),
            (
                "what fails stands behind, and is waited for three times",
                vec![
                    candidate("fails", Is::Changed, FAILURES - 1, NOW),
                    candidate("given up", Is::Changed, FAILURES, NOW),
                    candidate("idle", Is::Idle, 0, AGAIN),
                ],
                vec!["idle", "fails", "given up"],
                1,
            ),
            (
                "and is tried more and more seldom",
                vec![candidate("soon", Is::Changed, 2, 2 * AGAIN), candidate("later", Is::Changed, 3, 3 * AGAIN - 1)],
                vec!["soon"],
                1,
            ),
            (
                "no more than a round can read",
                (0..20).map(|n| candidate(&format!("{n:02}"), Is::Changed, 0, 1)).collect(),
                ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11"].to_vec(),
                20,
            ),
        ] {
            let unread = unread(candidates, NOW);
            let ids: Vec<&str> = unread.sessions.iter().map(|(known, _)| known.id.as_str()).collect();
            assert_eq!((ids, unread.changed), (read, changed), "{what}");
        }
    }
}
