//! The appeals of Манго Диалоги that are known, and messages of appeals that are not known yet.

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{StoreError, Tx, text_of};
use crate::contract::CustomerId;
use crate::mango::dialogs::ChatMessage;
use crate::time::Millis;

/// Appended to the schema by a migration of its own.
pub(super) const TABLES: &str = "
CREATE TABLE mango_session (
    id       TEXT PRIMARY KEY,
    customer INTEGER,                              -- NULL: not told yet, or no client of MAX
    chat     TEXT,
    open     INTEGER NOT NULL,
    body     TEXT NOT NULL                         -- JSON, a `Known`
) WITHOUT ROWID;
CREATE INDEX mango_session_customer ON mango_session (customer);
CREATE INDEX mango_session_open ON mango_session (open) WHERE open = 1;

-- Messages that came before their session did.
CREATE TABLE mango_held (
    message TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    chat    TEXT NOT NULL,
    body    TEXT NOT NULL,                         -- JSON, a `ChatMessage`
    at      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX mango_held_session ON mango_held (session);
";

/// In the order in which an appeal goes through them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::relay) enum State {
    #[default]
    Pending,
    Dialog,
    Closed,
}

/// What is known of an appeal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(in crate::relay) struct Known {
    pub id: String,
    pub state: State,
    pub customer: Option<CustomerId>,
    /// The client's id in the messenger, and name.
    pub social_user: String,
    pub name: String,
    pub chat: Option<String>,
    pub channel: Option<i64>,
    /// The channel is one of MAX. None: not told yet.
    pub is_max: Option<bool>,
    /// Who has it.
    pub employee: Option<i64>,
    /// The employee whom the channel itself names.
    pub serves: Option<i64>,
    /// By MANGO's clock.
    pub updated_at: Millis,
    /// When MANGO last named it as open, by ours; and when it was found closed.
    pub seen_at: Millis,
    pub closed_at: Millis,
    /// Messages up to here were read, by MANGO's clock.
    pub read_to: Millis,
    /// The time of the newest message that a reading has shown.
    pub taken_to: Millis,
    /// It was read once more since: of two messages in one millisecond the second may have come
    /// behind the reading.
    pub is_settled: bool,
    /// A message of the client's came from it, or one of ours went there.
    pub brought: bool,
    /// When that was first the client's, by our clock; of what was handed on, in the session that
    /// it began with.
    pub appealed_at: Millis,
    /// The rules know that it is closed.
    pub told: bool,
    /// It was closed from here, because the dialog was over: what the client wrote into it in that
    /// moment begins another one, which that does not close.
    pub ended_here: bool,
    /// The cabinet said something in it by itself.
    pub automatic: bool,
    /// It counts as closed only because MANGO lists it no more.
    pub is_assumed: bool,
    /// Its messages were read since it was closed: what webhooks lost last is not listed any more.
    pub is_drained: bool,
    /// Of a person who was erased: nothing older is taken, and nothing names them but a mark (see
    /// [`super::erased`]).
    #[serde(alias = "erasedAt", deserialize_with = "mark")]
    pub of_erased: Option<String>,
}

/// A store of before has a time in the place of the mark.
fn mark<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => None,
        value => Some(value.as_str().unwrap_or_default().to_owned()),
    })
}

/// The messages that wait for session `?1`, which has the chat `?2`.
const WAITS_FOR: &str = "(session = ?1 OR (session = '' AND chat = ?2))";

fn read(row: &Row<'_>) -> rusqlite::Result<String> {
    text_of(row, 0)
}

fn known(bodies: &[String]) -> Vec<Known> {
    // What cannot be read is asked of MANGO again.
    bodies.iter().filter_map(|body| serde_json::from_str(body).ok()).collect()
}

pub(in crate::relay) fn get(tx: &Tx<'_>, id: &str) -> Result<Option<Known>, StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT body FROM mango_session WHERE id = ?1")?;
    let body = statement.query_row([id], read).optional()?;
    Ok(body.and_then(|body| serde_json::from_str(&body).ok()))
}

pub(in crate::relay) fn put(tx: &Tx<'_>, known: &Known) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "INSERT INTO mango_session (id, customer, chat, open, body) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET customer = ?2, chat = ?3, open = ?4, body = ?5",
        )?
        .execute(params![
            known.id,
            known.customer,
            known.chat,
            known.state != State::Closed,
            serde_json::to_string(known)?
        ])?;
    Ok(())
}

/// Those of a customer, the newest last.
pub(in crate::relay) fn of_customer(tx: &Tx<'_>, customer: CustomerId) -> Result<Vec<Known>, StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT body FROM mango_session WHERE customer = ?1")?;
    let mut found = known(&statement.query_map([customer], read)?.collect::<Result<Vec<_>, _>>()?);
    found.sort_by_key(|known| (known.state != State::Closed, known.updated_at));
    Ok(found)
}

pub(in crate::relay) fn open(tx: &Tx<'_>) -> Result<Vec<Known>, StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT body FROM mango_session WHERE open = 1")?;
    Ok(known(&statement.query_map([], read)?.collect::<Result<Vec<_>, _>>()?))
}

/// MANGO OFFICE is the way in again: which messages came from its open appeals is read anew, and
/// what it closed meanwhile is nobody's business.
pub(in crate::relay) fn begin_anew(tx: &Tx<'_>) -> Result<(), StoreError> {
    tx.connection.execute(
        "UPDATE mango_session SET body = json_set(body, '$.brought', json('false'), '$.readTo', 0) WHERE open = 1",
        [],
    )?;
    tx.connection
        .execute("UPDATE mango_session SET body = json_set(body, '$.told', json('true')) WHERE open = 0", [])?;
    Ok(())
}

/// Closed ones that the rules have not been told of.
pub(in crate::relay) fn untold(tx: &Tx<'_>) -> Result<Vec<Known>, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT body FROM mango_session WHERE open = 0
             AND CASE WHEN json_valid(body) THEN json_extract(body, '$.told') END = 0",
    )?;
    Ok(known(&statement.query_map([], read)?.collect::<Result<Vec<_>, _>>()?))
}

/// Open ones whose dialog here is over, with nothing under way in either direction.
pub(in crate::relay) fn finished(tx: &Tx<'_>) -> Result<Vec<Known>, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT s.body FROM mango_session s JOIN customer c ON c.id = s.customer
         WHERE s.open = 1 AND c.open = 0
           AND NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.customer = c.id AND done = 0)
           AND NOT EXISTS (SELECT 1 FROM to_max WHERE to_max.customer = c.id AND state = 'queued')",
    )?;
    Ok(known(&statement.query_map([], read)?.collect::<Result<Vec<_>, _>>()?))
}

pub(in crate::relay) fn hold(
    tx: &Tx<'_>,
    session: &str,
    chat: &str,
    message: &ChatMessage,
    now: Millis,
) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "INSERT OR IGNORE INTO mango_held (message, session, chat, body, at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![message.id, session, chat, serde_json::to_string(message)?, now])?;
    Ok(())
}

/// The names of all messages that wait for a session.
pub(in crate::relay) fn held(tx: &Tx<'_>) -> Result<Vec<String>, StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT message FROM mango_held")?;
    Ok(statement.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// What waits for that session, with its chat: by its id, or where that was not told by its chat.
pub(in crate::relay) fn held_for(tx: &Tx<'_>, known: &Known) -> Result<Vec<(String, ChatMessage)>, StoreError> {
    let mut statement = tx
        .connection
        .prepare_cached(&format!("SELECT chat, body FROM mango_held WHERE {WAITS_FOR} ORDER BY message"))?;
    let rows = statement.query_map(params![known.id, known.chat], |row| Ok((text_of(row, 0)?, text_of(row, 1)?)))?;
    let rows = rows.collect::<Result<Vec<(String, String)>, _>>()?;
    Ok(rows.into_iter().filter_map(|(chat, body)| Some((chat, serde_json::from_str(&body).ok()?))).collect())
}

/// The newest times that MANGO OFFICE has told of: of messages that wait, and of a person's
/// sessions.
pub(in crate::relay) fn times_told(tx: &Tx<'_>, customer: CustomerId) -> Result<Vec<Millis>, StoreError> {
    let told = "SELECT json_extract(body, '$.time') FROM mango_held WHERE json_valid(body)
        UNION ALL SELECT json_extract(body, '$.updatedAt') FROM mango_session
            WHERE customer = ?1 AND json_valid(body)";
    let mut statement = tx.connection.prepare_cached(told)?;
    let times = statement.query_map([customer], |row| row.get::<_, Option<Millis>>(0))?;
    Ok(times.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// The session that has that chat.
pub(in crate::relay) fn with_chat(tx: &Tx<'_>, chat: &str) -> Result<Option<Known>, StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT body FROM mango_session WHERE chat = ?1")?;
    let mut found = known(&statement.query_map([chat], read)?.collect::<Result<Vec<_>, _>>()?);
    found.sort_by_key(|known| known.updated_at);
    Ok(found.pop())
}

/// Takes out what waits for that session, with its chat.
pub(in crate::relay) fn release(tx: &Tx<'_>, known: &Known) -> Result<Vec<(String, ChatMessage)>, StoreError> {
    let waiting = held_for(tx, known)?;
    tx.connection
        .prepare_cached(&format!("DELETE FROM mango_held WHERE {WAITS_FOR}"))?
        .execute(params![known.id, known.chat])?;
    Ok(waiting)
}

/// Whose session of MAX has that chat.
pub(in crate::relay) fn in_chat(tx: &Tx<'_>, chat: &str) -> Result<Option<CustomerId>, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT customer FROM mango_session
         WHERE chat = ?1 AND customer IS NOT NULL AND json_extract(body, '$.isMax') = 1",
    )?;
    Ok(statement.query_row([chat], |row| row.get(0)).optional()?)
}

/// Forgets a person. Answers the messages that waited for their sessions.
pub(in crate::relay) fn erase(tx: &Tx<'_>, customer: CustomerId) -> Result<Vec<String>, StoreError> {
    let mut waited = Vec::new();
    for known in of_customer(tx, customer)? {
        waited.extend(release(tx, &known)?.into_iter().map(|(_, message)| message.id));
    }
    tx.connection.execute("DELETE FROM mango_session WHERE customer = ?1", [customer])?;
    Ok(waited)
}

/// Forgets what is over and older than that.
pub(in crate::relay) fn forget(tx: &Tx<'_>, before: Millis) -> Result<(), StoreError> {
    tx.connection.execute(
        "DELETE FROM mango_session WHERE open = 0
             AND CASE WHEN json_valid(body) THEN json_extract(body, '$.told') END = 1
             AND CASE WHEN json_valid(body) THEN json_extract(body, '$.closedAt') END < ?1",
        [before],
    )?;
    tx.connection.execute("DELETE FROM mango_held WHERE at < ?1", [before])?;
    Ok(())
}
