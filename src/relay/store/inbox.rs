//! Updates of MAX as they came in.

use rusqlite::params;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use super::receipt::{self, Counted};
use super::{Position, StoreError, Tx, erased};
use crate::contract::CustomerId;
use crate::contract::admin::Direction;
use crate::max::{ChatId, MessageId};
use crate::time::Millis;

/// What has become of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum State {
    Waiting,
    Taken,
    /// Taken; an edit or removal that the agents have not been shown.
    Unseen,
}

impl ToSql for State {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(match self {
            Self::Waiting => 0_i64,
            Self::Taken => 1,
            Self::Unseen => 2,
        }))
    }
}

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match i64::column_result(value)? {
            0 => Ok(Self::Waiting),
            1 => Ok(Self::Taken),
            2 => Ok(Self::Unseen),
            other => Err(FromSqlError::OutOfRange(other)),
        }
    }
}

/// An update that waits.
pub(in crate::relay) struct Row {
    pub id: i64,
    pub raw: String,
    pub position: Position,
    pub received_at: Millis,
    /// On which it is counted.
    pub day: Option<i64>,
}

/// Writes an update down and wakes whose it is, unless it is known, or of somebody who was erased.
/// What is nobody's waits for nothing. Returns whether it was new.
pub(in crate::relay) fn insert(
    tx: &Tx<'_>,
    key: &str,
    customer: Option<CustomerId>,
    position: Position,
    raw: &str,
    now: Millis,
) -> Result<bool, StoreError> {
    let state = if customer.is_some() { State::Waiting } else { State::Taken };
    let is_new = write(tx, key, customer, position, raw, now, state)?;
    if is_new && state == State::Taken {
        receipt::count(tx, receipt::day(now), Direction::ToCrm, Counted::Withheld, 1)?;
    }
    if is_new {
        tx.wake(|woken| woken.dialogs.extend(customer));
    }
    Ok(is_new)
}

/// The same of an update that the rules take at once. Returns its row, if it is new.
pub(in crate::relay) fn insert_taken(
    tx: &Tx<'_>,
    key: &str,
    customer: CustomerId,
    position: Position,
    raw: &str,
    now: Millis,
) -> Result<Option<i64>, StoreError> {
    let is_new = write(tx, key, Some(customer), position, raw, now, State::Taken)?;
    Ok(is_new.then(|| tx.connection.last_insert_rowid()))
}

fn write(
    tx: &Tx<'_>,
    key: &str,
    customer: Option<CustomerId>,
    (at, seq): Position,
    raw: &str,
    now: Millis,
    state: State,
) -> Result<bool, StoreError> {
    if erased::contains(tx, key)? {
        return Ok(false);
    }
    let day = receipt::day(now);
    let inserted = tx
        .connection
        .prepare_cached(
            "INSERT OR IGNORE INTO inbox (key, customer, at, seq, raw, received_at, done, day)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![key, customer, at, seq, raw, now, state, day])?;
    if inserted > 0 {
        receipt::count(tx, day, Direction::ToCrm, Counted::Received, 1)?;
    }
    Ok(inserted > 0)
}

/// Whether an update of that customer's waits.
pub(in crate::relay) fn any_waiting(tx: &Tx<'_>, id: CustomerId) -> Result<bool, StoreError> {
    Ok(tx.connection.prepare_cached("SELECT 1 FROM inbox WHERE customer = ?1 AND done = 0")?.exists([id])?)
}

/// Whether nothing ever came, or all is forgotten.
pub(in crate::relay) fn is_empty(tx: &Tx<'_>) -> Result<bool, StoreError> {
    Ok(!tx.connection.prepare_cached("SELECT 1 FROM inbox LIMIT 1")?.exists([])?)
}

/// The updates of one customer that wait, in the order of MAX.
pub(in crate::relay) fn waiting(tx: &Tx<'_>, id: CustomerId, most: u32) -> Result<Vec<Row>, StoreError> {
    // Counted here: a bound LIMIT has SQLite parse the statement anew each time.
    let mut statement = tx.connection.prepare_cached(
        "SELECT id, raw, at, seq, received_at, day FROM inbox
         WHERE customer = ?1 AND done = 0 ORDER BY at, seq, id",
    )?;
    let rows = statement.query_map([id], |row| {
        Ok(Row {
            id: row.get(0)?,
            raw: row.get(1)?,
            position: (row.get(2)?, row.get(3)?),
            received_at: row.get(4)?,
            day: row.get(5)?,
        })
    })?;
    Ok(rows.take(usize::try_from(most).unwrap_or(usize::MAX)).collect::<Result<_, _>>()?)
}

/// A message that was taken.
pub(in crate::relay) struct Message {
    pub id: i64,
    pub at: Millis,
    pub seq: i64,
    pub raw: String,
    /// The message of MAX that it came twice with.
    pub twin: Option<i64>,
}

/// The messages of one customer's that were taken, of those times.
pub(in crate::relay) fn messages_between(
    tx: &Tx<'_>,
    id: CustomerId,
    (from, to): (Millis, Millis),
) -> Result<Vec<Message>, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT id, at, raw, twin, seq FROM inbox
         WHERE customer = ?1 AND at BETWEEN ?2 AND ?3 AND done > 0
           AND key >= 'message_created:' AND key < 'message_created;' ORDER BY at, id",
    )?;
    let rows = statement.query_map(params![id, from, to], |row| {
        Ok(Message { id: row.get(0)?, at: row.get(1)?, raw: row.get(2)?, twin: row.get(3)?, seq: row.get(4)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A message of MANGO OFFICE is the same as one of MAX.
pub(in crate::relay) fn set_twin(tx: &Tx<'_>, of_mango: i64, of_max: i64) -> Result<(), StoreError> {
    tx.connection.prepare_cached("UPDATE inbox SET twin = ?2 WHERE id = ?1")?.execute([of_mango, of_max])?;
    Ok(())
}

/// The starts of the bot by a customer, later than `after` and not later than `until`, the newest
/// first.
pub(in crate::relay) fn starts(
    tx: &Tx<'_>,
    id: CustomerId,
    chat: Option<ChatId>,
    (after, until): (Millis, Millis),
) -> Result<Vec<String>, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT raw FROM inbox
         WHERE ((key >= ?1 AND key < ?2) OR (key >= ?3 AND key < ?4)) AND customer = ?5 AND at > ?6 AND at <= ?7
         ORDER BY at DESC",
    )?;
    let chat = chat.map_or_else(|| "0".to_owned(), |chat| chat.to_string());
    let raws = statement.query_map(
        params![
            format!("bot_started:{chat}:{id}:"),
            format!("bot_started:{chat}:{id};"),
            format!("bot_started::{id}:"),
            format!("bot_started::{id};"),
            id,
            after,
            until
        ],
        |row| row.get(0),
    )?;
    Ok(raws.collect::<Result<_, _>>()?)
}

pub(in crate::relay) fn set_state(tx: &Tx<'_>, row: i64, state: State) -> Result<(), StoreError> {
    tx.connection.prepare_cached("UPDATE inbox SET done = ?2 WHERE id = ?1")?.execute(params![row, state])?;
    Ok(())
}

/// The edits and the removal of one message that are taken, in the order of MAX. Found by the key:
/// the customer may have very many others.
pub(in crate::relay) fn amendments(
    tx: &Tx<'_>,
    id: CustomerId,
    mid: &MessageId,
) -> Result<Vec<(String, State)>, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT raw, done FROM inbox
         WHERE +customer = ?1 AND done > 0 AND (key = ?2 OR (key >= ?3 AND key < ?4)) ORDER BY at, seq, id",
    )?;
    let removal = format!("message_removed:{mid}");
    let (edits, behind_edits) = (format!("message_edited:{mid}:"), format!("message_edited:{mid};"));
    let found = statement.query_map(params![id, removal, edits, behind_edits], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// What was told of a message: its own update, an edit or its removal.
pub(in crate::relay) struct Told {
    pub row: i64,
    pub key: String,
    /// Empty where it is forgotten.
    pub raw: String,
    /// By MAX's clock.
    pub at: Millis,
}

/// What was told of one message, taken or not, in the order of MAX. Found by the key: the customer
/// may have very many others.
pub(in crate::relay) fn told(tx: &Tx<'_>, id: CustomerId, mid: &MessageId) -> Result<Vec<Told>, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT key, raw, at, id FROM inbox
         WHERE +customer = ?1 AND (key IN (?2, ?3) OR (key >= ?4 AND key < ?5)) ORDER BY at, seq, id",
    )?;
    let (created, removal) = (format!("message_created:{mid}"), format!("message_removed:{mid}"));
    let (edits, behind_edits) = (format!("message_edited:{mid}:"), format!("message_edited:{mid};"));
    let told = statement.query_map(params![id, created, removal, edits, behind_edits], |row| {
        Ok(Told { key: row.get(0)?, raw: row.get(1)?, at: row.get(2)?, row: row.get(3)? })
    })?;
    Ok(told.collect::<Result<_, _>>()?)
}

/// The newest row; 0 where there is none.
pub(in crate::relay) fn newest_row(tx: &Tx<'_>) -> Result<i64, StoreError> {
    Ok(tx.connection.prepare_cached("SELECT coalesce(max(id), 0) FROM inbox")?.query_row([], |row| row.get(0))?)
}

/// MAX's time of the customer's newest update.
pub(in crate::relay) fn heard_at(tx: &Tx<'_>, id: CustomerId) -> Result<Option<Millis>, StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT max(at) FROM inbox WHERE customer = ?1")?;
    Ok(statement.query_row([id], |row| row.get(0))?)
}

/// Takes every update of a customer's away, and the update of nobody's that name the person; their
/// keys are remembered as those of somebody who was erased. Returns how many that were.
pub(in crate::relay) fn erase(tx: &Tx<'_>, id: CustomerId, now: Millis) -> Result<usize, StoreError> {
    let keys = tx
        .connection
        .prepare("SELECT key FROM inbox WHERE customer = ?1")?
        .query_map([id], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    for key in keys {
        erased::remember(tx, &key, now)?;
    }
    let strangers = tx
        .connection
        .prepare("SELECT id, key, raw FROM inbox WHERE customer IS NULL AND instr(raw, ?1) > 0")?
        .query_map([id.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<Vec<(i64, String, String)>, _>>()?;
    let mut gone = 0;
    for (row, key, raw) in strangers {
        if names(&raw, id) {
            erased::remember(tx, &key, now)?;
            gone += tx.connection.execute("DELETE FROM inbox WHERE id = ?1", [row])?;
        }
    }
    Ok(gone + tx.connection.execute("DELETE FROM inbox WHERE customer = ?1", [id])?)
}

/// Whether an update that belongs to no dialog names this person, as far as it can be read at all:
/// the number must stand by itself.
fn names(raw: &str, id: CustomerId) -> bool {
    let number = id.to_string();
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    raw.match_indices(&number).any(|(at, found)| {
        let bytes = raw.as_bytes();
        !is_digit(at.checked_sub(1).and_then(|before| bytes.get(before))) && !is_digit(bytes.get(at + found.len()))
    })
}
