//! What the administrator of one channel may do to its store: dead letters shown and replayed, a person erased.
//!
//! Served as HTTP with JSON on a unix socket ([`SOCKET`]) in the channel's data folder, so that whoever may read the store may ask,
//! and nobody else: the socket has mode 0600 before it listens. The store itself has one holder, the relay; that is why it is asked.
//!
//! - `GET /dead-letters[?text=true]` → [`DeadLetters`]
//! - `POST /dead-letters/replay` [`Replay`] → [`Replayed`]
//! - `POST /erase` [`Erase`] → [`Erased`]
//!
//! Must not: write a message's text to a log, or answer with one unless it is asked for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixSocket};

use super::Shared;
use super::dialogs::{CrmTask, Customer, Origin, Part, Woken};
use super::lanes::CustomerId;
use super::store::{StoreError, erased, meta};
use crate::creatio::Report;
use crate::time::Millis;

/// The name of the socket in the channel's data folder.
pub const SOCKET: &str = "admin.sock";
/// The most dead letters listed at once, oldest first; `more` says that there are others.
const LISTED: usize = 1_000;

/// Which way a message was going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// From the customer to the CRM.
    ToCrm,
    /// To the customer in MAX.
    ToMax,
}

/// One message that was not delivered, or of which nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// `crm-<n>` or `max-<n>`: what a replay names.
    pub id: String,
    pub direction: Direction,
    /// `max:<user id>`.
    pub customer: String,
    /// Whose words: `customer`, `agent`, `autoReply`, `closeMessage`, `bot`; `relay` where there are none.
    pub author: String,
    /// True: MAX never confirmed it, and it may be with the customer.
    pub uncertain: bool,
    pub age_seconds: i64,
    /// Why, as the agent was told.
    pub reason: String,
    /// Only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The answer to `GET /dead-letters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetters {
    pub dead_letters: Vec<DeadLetter>,
    /// There are more than are shown.
    pub more: bool,
}

/// Which dead letters to replay: those of `ids`, or with `all` every one that has certainly failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Replay {
    pub ids: Vec<String>,
    /// Uncertain ones are left out: the customer may have them, so each must be named.
    pub all: bool,
}

/// What became of a [`Replay`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    pub replayed: Vec<String>,
    /// Ids that name no dead letter.
    pub unknown: Vec<String>,
}

/// Whom to erase, by the user id in MAX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erase {
    pub customer: CustomerId,
}

/// How many rows of a person are gone; all zero: nothing was known of that person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erased {
    /// The person's dialog.
    pub dialogs: usize,
    /// Updates of MAX as they came in.
    pub updates: usize,
    /// Entries of the queue towards the CRM, dead letters among them.
    pub to_crm: usize,
    /// Messages to the customer, sent or not.
    pub to_max: usize,
    /// Ids of sent messages.
    pub sent: usize,
    /// Questions to a bot.
    pub to_bot: usize,
}

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

/// Answers until the relay stops.
pub(super) async fn run(shared: &Arc<Shared>, listener: UnixListener) {
    let routes = Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/replay", post(replay))
        .route("/erase", post(erase))
        .with_state(Arc::clone(shared));
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "dead letters can be neither listed nor replayed until the relay is started again");
    }
}

fn failed(error: &StoreError) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

async fn list(State(shared): State<Arc<Shared>>, Query(listing): Query<Listing>) -> Answer<DeadLetters> {
    let now = shared.clock.now();
    let found = shared.store.write(move |connection| dead_letters(connection, now, listing.text)).await;
    found.map(Json).map_err(|error| failed(&error))
}

async fn replay(State(shared): State<Arc<Shared>>, Json(wanted): Json<Replay>) -> Answer<Replayed> {
    let done = shared.store.change(move |connection| replay_rows(connection, &wanted)).await;
    let replayed = done.map_err(|error| failed(&error))?;
    tracing::info!(count = replayed.replayed.len(), "dead letters are tried again");
    Ok(Json(replayed))
}

async fn erase(State(shared): State<Arc<Shared>>, Json(Erase { customer }): Json<Erase>) -> Answer<Erased> {
    let now = shared.clock.now();
    let done = shared
        .store
        .change(move |connection| {
            let woken = Woken { reports: true, timers: true, ..Woken::default() };
            Ok((erase_rows(connection, customer, now)?, woken))
        })
        .await;
    let erased = done.map_err(|error| failed(&error))?;
    shared.store.purge().await.map_err(|error| failed(&error))?;
    tracing::info!("a person was erased from the store");
    Ok(Json(erased))
}

fn dead_letters(connection: &Connection, now: Millis, with_text: bool) -> Result<DeadLetters, StoreError> {
    let age = |created_at: Millis| ((now - created_at) / 1_000).max(0);
    let mut found = Vec::new();
    let most = i64::try_from(LISTED).unwrap_or(i64::MAX) + 1;
    let rows = connection
        .prepare_cached(
            "SELECT id, customer, body, coalesce(error, ''), created_at FROM to_crm WHERE dead = 1 ORDER BY id LIMIT ?1",
        )?
        .query_map([most], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?
        .collect::<Result<Vec<(i64, CustomerId, String, String, Millis)>, _>>()?;
    for (id, customer, body, reason, created_at) in rows {
        // One that cannot be read is listed all the same, without its words.
        let (author, text) = match serde_json::from_str(&body) {
            Ok(CrmTask::Message { incoming, .. }) => ("customer".to_owned(), Some(incoming.text)),
            Ok(CrmTask::History { author, text, .. }) => (author_name(author)?, Some(text)),
            Ok(CrmTask::HandOver | CrmTask::Close { .. }) | Err(_) => ("relay".to_owned(), None),
        };
        let letter = DeadLetter {
            id: format!("crm-{id}"),
            direction: Direction::ToCrm,
            customer: format!("max:{customer}"),
            author,
            uncertain: false,
            age_seconds: age(created_at),
            reason,
            text: text.filter(|_| with_text),
        };
        found.push((created_at, letter));
    }
    let rows = connection
        .prepare_cached(
            "SELECT id, customer, origin, parts, state, coalesce(error, ''), created_at FROM to_max
             WHERE state IN ('failed', 'uncertain') ORDER BY id LIMIT ?1",
        )?
        .query_map([most], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
        })?
        .collect::<Result<Vec<(i64, CustomerId, String, String, String, String, Millis)>, _>>()?;
    for (id, customer, origin, parts, state, reason, created_at) in rows {
        let author = match serde_json::from_str(&origin) {
            Ok(Origin::Agent { .. }) => "agent",
            Ok(Origin::AutoReply { .. }) => "autoReply",
            Ok(Origin::CloseMessage) => "closeMessage",
            Ok(Origin::Bot) => "bot",
            Ok(Origin::Press) | Err(_) => "relay",
        };
        let text = if with_text {
            let parts: Vec<Part> = serde_json::from_str(&parts).unwrap_or_default();
            let words = parts.into_iter().map(|part| part.text.or_else(|| part.file.map(|file| file.name)));
            Some(words.flatten().collect::<Vec<_>>().join("\n"))
        } else {
            None
        };
        let letter = DeadLetter {
            id: format!("max-{id}"),
            direction: Direction::ToMax,
            customer: format!("max:{customer}"),
            author: author.to_owned(),
            uncertain: state == "uncertain",
            age_seconds: age(created_at),
            reason,
            text,
        };
        found.push((created_at, letter));
    }
    found.sort_by_key(|(created_at, _)| *created_at);
    let more = found.len() > LISTED;
    Ok(DeadLetters { dead_letters: found.into_iter().take(LISTED).map(|(_, letter)| letter).collect(), more })
}

fn author_name(author: crate::creatio::Author) -> Result<String, StoreError> {
    Ok(serde_json::to_value(author)?.as_str().unwrap_or_default().to_owned())
}

fn replay_rows(connection: &Connection, wanted: &Replay) -> Result<(Replayed, Woken), StoreError> {
    let ids = if wanted.all {
        let mut all = connection
            .prepare(
                "SELECT 'crm-' || id FROM to_crm WHERE dead = 1
                 UNION ALL SELECT 'max-' || id FROM to_max WHERE state = 'failed'",
            )?
            .query_map([], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        all.extend(wanted.ids.iter().cloned());
        all
    } else {
        wanted.ids.clone()
    };
    let mut outcome = Replayed::default();
    let mut woken = Woken::default();
    for id in ids {
        let found = match id.split_once('-').map(|(queue, row)| (queue, row.parse::<i64>())) {
            Some(("crm", Ok(row))) => replay_to_crm(connection, row)?.inspect(|customer| woken.crm.push(*customer)),
            Some(("max", Ok(row))) => replay_to_max(connection, row)?.inspect(|customer| woken.max.push(*customer)),
            _ => None,
        };
        match found {
            Some(_) => outcome.replayed.push(id),
            None if outcome.replayed.contains(&id) => {}
            None => outcome.unknown.push(id),
        }
    }
    Ok((outcome, woken))
}

/// Puts a dead row back into its queue, in its own place. Who stands by is decided anew: a bot may have handed over since.
fn replay_to_crm(connection: &Connection, row: i64) -> Result<Option<CustomerId>, StoreError> {
    let found: Option<(CustomerId, String)> = connection
        .prepare_cached("SELECT customer, body FROM to_crm WHERE id = ?1 AND dead = 1")?
        .query_row([row], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((id, body)) = found else { return Ok(None) };
    let task = match serde_json::from_str(&body)? {
        CrmTask::Message { incoming, own, .. } => {
            let stand_by = Customer::load(connection, id)?.dialog.bot().is_some();
            CrmTask::Message { incoming, stand_by, own }
        }
        task => task,
    };
    connection
        .prepare_cached(
            "UPDATE to_crm SET dead = 0, error = NULL, attempted = 0, attempts = 0, timestamp = NULL, body = ?2 WHERE id = ?1",
        )?
        .execute(params![row, serde_json::to_string(&task)?])?;
    Ok(Some(id))
}

/// Sends a message again from the part that was not delivered; what was sent before it is not repeated.
fn replay_to_max(connection: &Connection, row: i64) -> Result<Option<CustomerId>, StoreError> {
    let found: Option<(CustomerId, String, String)> = connection
        .prepare_cached(
            "SELECT customer, origin, state FROM to_max WHERE id = ?1 AND state IN ('failed', 'uncertain')",
        )?
        .query_row([row], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((id, origin, state)) = found else { return Ok(None) };
    // A failed one has no entry in the CRM's history yet, an uncertain one has.
    let wants_entry = state == "failed"
        && matches!(serde_json::from_str(&origin)?, Origin::AutoReply { .. } | Origin::CloseMessage | Origin::Bot);
    connection
        .prepare_cached(
            "UPDATE to_max SET state = 'queued', error = NULL, sending = NULL, attempts = 0, ended_at = NULL,
                               recorded = CASE WHEN ?2 THEN 0 ELSE recorded END WHERE id = ?1",
        )?
        .execute(params![row, wants_entry])?;
    Ok(Some(id))
}

/// Takes away every row of a customer's. What an agent wrote and MAX has not got is reported as failed.
fn erase_rows(connection: &Connection, id: CustomerId, now: Millis) -> Result<Erased, StoreError> {
    let waiting = connection
        .prepare("SELECT origin FROM to_max WHERE customer = ?1 AND state = 'queued'")?
        .query_map([id], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    for origin in waiting {
        if let Origin::Agent { row, .. } = serde_json::from_str(&origin)? {
            let words = "данные клиента удалены администратором MaxChannel".to_owned();
            super::outbox::note_report(connection, row, &Report::Failed(words))?;
        }
    }
    // The closing of a chat that nobody remembers would send a close message to somebody who asked to be forgotten.
    if let Some(chat) = Customer::load(connection, id)?.dialog.chat() {
        super::outbox::note_closing(connection, chat, now)?;
    }
    // Else a gap in the webhooks would bring back from MAX what is erased here. By MAX's time, which may be ahead of ours, and later
    // than the last erasure: what is being read back is for the row that was.
    let newest: Option<Millis> = connection.query_row(
        "SELECT max(at) FROM (SELECT max(at) AS at FROM inbox WHERE customer = ?1
                              UNION ALL SELECT taken_at FROM customer WHERE id = ?1)",
        [id],
        |row| row.get(0),
    )?;
    let last = meta::number(connection, meta::ERASED_AT)?;
    let erased_at = now.max(newest.unwrap_or(0) + 1).max(last.unwrap_or(0) + 1);
    meta::set(connection, meta::ERASED_AT, &erased_at.to_string())?;
    let keys = connection
        .prepare("SELECT key FROM inbox WHERE customer = ?1")?
        .query_map([id], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    let strangers = connection
        .prepare("SELECT id, key, raw FROM inbox WHERE customer IS NULL AND instr(raw, ?1) > 0")?
        .query_map([id.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<Vec<(i64, String, String)>, _>>()?;
    let mut updates = 0;
    for key in keys {
        erased::remember(connection, &key, now)?;
    }
    for (row, key, raw) in strangers {
        if names(&raw, id) {
            erased::remember(connection, &key, now)?;
            updates += connection.execute("DELETE FROM inbox WHERE id = ?1", [row])?;
        }
    }
    super::store::mango::erase(connection, id)?;
    let gone = |table: &str| connection.execute(&format!("DELETE FROM {table} WHERE customer = ?1"), [id]);
    Ok(Erased {
        dialogs: connection.execute("DELETE FROM customer WHERE id = ?1", [id])?,
        updates: updates + gone("inbox")?,
        to_crm: gone("to_crm")?,
        to_max: gone("to_max")?,
        sent: gone("sent")?,
        to_bot: gone("to_bot")?,
    })
}

/// Whether an update that belongs to no dialog names this person, as far as it can be read at all: the number must stand by itself.
fn names(raw: &str, id: CustomerId) -> bool {
    let number = id.to_string();
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    raw.match_indices(&number).any(|(at, found)| {
        let bytes = raw.as_bytes();
        !is_digit(at.checked_sub(1).and_then(|before| bytes.get(before))) && !is_digit(bytes.get(at + found.len()))
    })
}
