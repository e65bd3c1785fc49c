//! What the administrator of one channel may do to its store: dead letters shown and replayed, a
//! person erased.
//!
//! Served as HTTP with JSON on a unix socket ([`SOCKET`]) in the channel's data folder, so that
//! whoever may read the store may ask, and nobody else: the socket has mode 0600 before it listens.
//! The store itself has one holder, the relay; that is why it is asked.
//!
//! - `GET /dead-letters[?text=true]` → [`DeadLetters`]
//! - `POST /dead-letters/replay` [`Replay`] → [`Replayed`]
//! - `GET /receipt[?day=2026-11-29]` → [`Receipt`]
//! - `POST /erase` [`Erase`] → [`Erased`]
//!
//! Must not: write a message's text to a log, or answer with one unless it is asked for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::{UnixListener, UnixSocket};

use super::mango::{keys_of_mango, while_held};
use super::receipt::ReceiptError;
use super::state::Shared;
use super::store::customer::{self, Customer};
use super::store::meta::{self, Moment};
use super::store::to_crm::{self, CrmTask};
use super::store::to_max::{self, Origin, State as Ended};
use super::store::{StoreError, Tx, erased, inbox, mango, outbox, receipt, sent, to_bot};
use crate::contract::CustomerId;
use crate::contract::admin::{
    DeadLetter, DeadLetters, Direction, Erase, Erased, Receipt, Replay, Replayed, SOCKET, route,
};
use crate::creatio::Report;
use crate::max::update::is_time;
use crate::time::Millis;

/// The most dead letters listed at once, oldest first; `more` says that there are others.
const LISTED: usize = 1_000;
/// No clock that is right is further ahead of another.
const A_MINUTE: Millis = 60_000;
/// How long an erasure waits for what MANGO OFFICE shows.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    text: bool,
}

type Answer<T> = Result<Json<T>, (StatusCode, String)>;

/// Makes the socket. A stale one is taken away: the store, which has one holder, is held by now.
pub(super) fn bind(data_dir: &Path) -> std::io::Result<UnixListener> {
    let path = data_dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(&path)?;
    // Nobody can connect before it listens, so no moment is left in which others may.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(8)
}

/// Takes the socket away, while the store is held still: nobody else can have made one there yet.
pub(super) fn unbind(data_dir: &Path) {
    let path = data_dir.join(SOCKET);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "the socket of a relay that stops stays behind");
    }
}

/// Answers until the relay stops.
pub(super) async fn run(shared: &Arc<Shared>, listener: UnixListener) {
    let routes = Router::new()
        .route(route::DEAD_LETTERS, get(list))
        .route(route::REPLAY, post(replay))
        .route(route::ERASE, post(erase))
        .route(route::RECEIPT, get(receipt_of))
        .with_state(Arc::clone(shared));
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "dead letters can be neither listed nor replayed until the relay is started again");
    }
}

fn failed(error: &StoreError) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

async fn list(State(shared): State<Arc<Shared>>, Query(listing): Query<Listing>) -> Answer<DeadLetters> {
    list_letters(&shared, listing.text).await.map(Json).map_err(|error| failed(&error))
}

pub(super) async fn list_letters(shared: &Shared, with_text: bool) -> Result<DeadLetters, StoreError> {
    let now = shared.clock.now();
    shared.store.transact(move |tx| dead_letters(tx, now, with_text)).await
}

#[derive(Deserialize)]
struct Wanted {
    day: Option<String>,
}

async fn receipt_of(State(shared): State<Arc<Shared>>, Query(wanted): Query<Wanted>) -> Answer<Receipt> {
    super::receipt::of(&shared, wanted.day.as_deref()).await.map(Json).map_err(|error| {
        let status = match &error {
            ReceiptError::Malformed(_) | ReceiptError::Future(_) => StatusCode::BAD_REQUEST,
            ReceiptError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, error.to_string())
    })
}

async fn replay(State(shared): State<Arc<Shared>>, Json(wanted): Json<Replay>) -> Answer<Replayed> {
    replay_letters(&shared, wanted).await.map(Json).map_err(|error| failed(&error))
}

pub(super) async fn replay_letters(shared: &Shared, wanted: Replay) -> Result<Replayed, StoreError> {
    let replayed = shared.store.transact(move |tx| replay_rows(tx, &wanted)).await?;
    tracing::info!(count = replayed.replayed.len(), "dead letters are tried again");
    Ok(replayed)
}

async fn erase(State(shared): State<Arc<Shared>>, Json(Erase { customer }): Json<Erase>) -> Answer<Erased> {
    erase_person(&shared, customer).await.map(Json).map_err(|error| failed(&error))
}

pub(super) async fn erase_person(shared: &Shared, customer: CustomerId) -> Result<Erased, StoreError> {
    // What MANGO OFFICE shows is known by its names first, so that it is known as forgotten later.
    if shared.active().is_some_and(|active| active.mango.is_some()) && !shared.mango_rounds.is_settled() {
        shared.mango_wake.notify_one();
        let settles = async {
            while !shared.mango_rounds.is_settled() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // One that is away cannot be waited for.
        let _ = tokio::time::timeout(LOOK, settles).await;
    }
    let (now, passed) = (shared.clock.now(), shared.clock.passed());
    let (max_time, mango_time) = (shared.moments.time(passed), shared.mango_rounds.time(passed));
    let clocks = Clocks { now, max: max_time, mango: mango_time, mango_told: shared.mango_rounds.newest() };
    let (erased, at_least) = shared.store.transact(move |tx| erase_rows(tx, customer, &clocks)).await?;
    shared.moments.note(Moment::Erased, passed, at_least);
    shared.mango_rounds.note_erased(customer, passed);
    shared.store.purge().await?;
    tracing::info!("a person was erased from the store");
    Ok(erased)
}

fn dead_letters(tx: &Tx<'_>, now: Millis, with_text: bool) -> Result<DeadLetters, StoreError> {
    let age = |created_at: Millis| ((now - created_at) / 1_000).max(0);
    let mut found = Vec::new();
    let most = i64::try_from(LISTED).unwrap_or(i64::MAX) + 1;
    for dead in to_crm::dead(tx, most)? {
        // One that cannot be read is listed all the same, without its words.
        let (author, text) = match dead.task {
            Some(CrmTask::Message { incoming, .. }) => ("customer".to_owned(), Some(incoming.text)),
            Some(CrmTask::History { author, text, .. }) => (author_name(author)?, Some(text)),
            Some(CrmTask::HandOver | CrmTask::Close { .. }) | None => ("relay".to_owned(), None),
        };
        let letter = DeadLetter {
            id: format!("crm-{}", dead.id),
            direction: Direction::ToCrm,
            customer: format!("max:{}", dead.customer),
            author,
            uncertain: false,
            age_seconds: age(dead.created_at),
            reason: dead.reason,
            text: text.filter(|_| with_text),
        };
        found.push((dead.created_at, letter));
    }
    for dead in to_max::dead(tx, most)? {
        let author = match dead.origin {
            Ok(Origin::Agent { .. }) => "agent",
            Ok(Origin::AutoReply { .. }) => "autoReply",
            Ok(Origin::CloseMessage) => "closeMessage",
            Ok(Origin::Bot) => "bot",
            Ok(Origin::Press) | Err(_) => "relay",
        };
        let words = dead.parts.into_iter().filter_map(|part| part.text.or_else(|| part.file.map(|file| file.name)));
        let letter = DeadLetter {
            id: format!("max-{}", dead.id),
            direction: Direction::ToMax,
            customer: format!("max:{}", dead.customer),
            author: author.to_owned(),
            uncertain: dead.state == Ended::Uncertain,
            age_seconds: age(dead.created_at),
            reason: dead.reason,
            text: with_text.then(|| words.collect::<Vec<_>>().join("\n")),
        };
        found.push((dead.created_at, letter));
    }
    found.sort_by_key(|(created_at, _)| *created_at);
    let more = found.len() > LISTED;
    Ok(DeadLetters { dead_letters: found.into_iter().take(LISTED).map(|(_, letter)| letter).collect(), more })
}

fn author_name(author: crate::creatio::Author) -> Result<String, StoreError> {
    Ok(serde_json::to_value(author)?.as_str().unwrap_or_default().to_owned())
}

fn replay_rows(tx: &Tx<'_>, wanted: &Replay) -> Result<Replayed, StoreError> {
    let ids = if wanted.all {
        let crm = to_crm::dead_ids(tx)?.into_iter().map(|row| format!("crm-{row}"));
        let mut all: Vec<String> = crm.collect();
        all.extend(to_max::failed_ids(tx)?.into_iter().map(|row| format!("max-{row}")));
        all.extend(wanted.ids.iter().cloned());
        all
    } else {
        wanted.ids.clone()
    };
    let mut outcome = Replayed::default();
    for id in ids {
        let found = match id.split_once('-').map(|(queue, row)| (queue, row.parse::<i64>())) {
            Some(("crm", Ok(row))) => replay_to_crm(tx, row)?,
            Some(("max", Ok(row))) => to_max::revive(tx, row)?,
            _ => None,
        };
        match found {
            Some(_) => outcome.replayed.push(id),
            None if outcome.replayed.contains(&id) => {}
            None => outcome.unknown.push(id),
        }
    }
    Ok(outcome)
}

/// Puts a dead row back into its queue, in its own place. Who stands by is decided anew: a bot may
/// have handed over since.
fn replay_to_crm(tx: &Tx<'_>, row: i64) -> Result<Option<CustomerId>, StoreError> {
    let Some((id, task)) = to_crm::dead_task(tx, row)? else { return Ok(None) };
    let task = match task {
        CrmTask::Message { incoming, own, .. } => {
            let stand_by = Customer::load(tx, id)?.dialog.bot().is_some();
            // It was refused, so where it goes is decided anew, too.
            CrmTask::Message { incoming: super::render::Incoming { placed: false, ..incoming }, stand_by, own }
        }
        task => task,
    };
    to_crm::revive(tx, row, id, &task)?;
    Ok(Some(id))
}

/// What the clocks show, as far as they are known.
struct Clocks {
    now: Millis,
    max: Option<Millis>,
    mango: Option<Millis>,
    /// The newest time that MANGO OFFICE has told of.
    mango_told: Option<Millis>,
}

/// Takes away every row of a customer's. What an agent wrote and MAX has not got is reported as
/// failed; what was on its way, as uncertain, for nobody will look for it any more. Answers also
/// before when that was not, by MAX's clock.
fn erase_rows(tx: &Tx<'_>, id: CustomerId, clocks: &Clocks) -> Result<(Erased, Millis), StoreError> {
    let Clocks { now, max, mango: mango_time, mango_told } = *clocks;
    for (row, may_have_left) in to_max::agents_waiting(tx, id)? {
        let words = "данные клиента удалены администратором MaxChannel".to_owned();
        let report = if may_have_left { Report::Uncertain(words) } else { Report::Failed(words) };
        outbox::note_report(tx, row, &report)?;
    }
    let customer = Customer::load(tx, id)?;
    // Else a gap in the webhooks would bring back from MAX what is erased here. Later than the last
    // erasure: what is being read back is for the row that was.
    let newest = inbox::heard_at(tx, id)?.max(customer.taken.map(|(at, _)| at));
    let last = meta::moment(tx, Moment::Erased)?;
    let at_least = newest.max(last).unwrap_or(0) + 1;
    let erased_at = max.unwrap_or(now).max(at_least);
    // What lies ahead of every clock is odd, and would keep the person from being heard again.
    let is_past = |at: &Millis| is_time(*at) && *at <= mango_time.unwrap_or(now).max(now) + A_MINUTE;
    let told = mango::times_told(tx, id)?.into_iter().chain(mango_told).filter(is_past).max().unwrap_or(0);
    // What MAX has brought late says too little of its clock, and the next update may be this
    // person's own: until it puts this right, the later of the two clocks counts.
    meta::set_moment(tx, Moment::Erased, erased_at.max(now), false)?;
    meta::keep_last_row(tx)?;
    for message in mango::erase(tx, id)? {
        for key in keys_of_mango(&message) {
            erased::remember(tx, &key, now)?;
        }
    }
    // Whose they are their sessions tell, which may come later.
    for message in mango::held(tx)? {
        erased::remember(tx, &while_held(&message, id), now)?;
    }
    receipt::erase(tx, id)?;
    // What is said in the same millisecond is said afterwards.
    let by_clock = mango_time.or(max).map_or(0, |at| at - 1).max(told);
    erased::remember_person(tx, id, now, erased::Before { by_clock, heard: told })?;
    let erased = Erased {
        dialogs: customer::remove(tx, id)?,
        updates: inbox::erase(tx, id, now)?,
        to_crm: to_crm::remove_of(tx, id)?,
        to_max: to_max::remove_of(tx, id)?,
        sent: sent::remove_of(tx, id)?,
        to_bot: to_bot::remove_of(tx, id)?,
    };
    Ok((erased, at_least))
}
