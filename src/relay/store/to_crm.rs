//! The queues towards the CRM, one per customer: receive, history, hand-over, close.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::customer::Customer;
use super::receipt::{self, Counted};
use super::{Position, StoreError, Tx, text_of};
use crate::contract::CustomerId;
use crate::contract::admin::Direction;
use crate::creatio::Author;
use crate::relay::render::Incoming;
use crate::time::Millis;

/// What one entry of the queue towards the CRM does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(in crate::relay) enum CrmTask {
    /// A message of the customer's, or (`own` false) an edit or removal of one.
    Message { incoming: Incoming, stand_by: bool, own: bool },
    /// An entry of the history that the customer has seen already.
    History { external_id: String, author: Author, text: String, sent_at: Millis },
    /// Ends stand-by in the dialog's chat.
    HandOver,
    /// Closes a chat. `refused`: how often the CRM could not.
    Close {
        chat: Uuid,
        #[serde(default)]
        refused: u32,
    },
}

/// The head of a queue, as it stands on disk.
pub(in crate::relay) struct Row {
    pub id: i64,
    /// None: it cannot be read.
    pub task: Option<CrmTask>,
    pub attempts: u32,
    pub position: Position,
    /// As it was sent, once attempted.
    pub timestamp: Option<Millis>,
    pub attempted: bool,
}

/// The head of a customer's queue, marked as attempted.
#[derive(Debug, PartialEq)]
pub(in crate::relay) struct Head {
    pub id: i64,
    pub task: CrmTask,
    pub attempts: u32,
    pub position: Position,
    pub timestamp: Millis,
    /// It is a new appeal, and nobody is chosen to take any.
    pub waits: bool,
    pub customer: Customer,
}

/// A dead letter.
pub(in crate::relay) struct Dead {
    pub id: i64,
    pub customer: CustomerId,
    pub task: Option<CrmTask>,
    pub reason: String,
    pub created_at: Millis,
}

/// Puts a task into its place of the customer's queue; see `relay`, "Order". `day`: on which it is
/// counted, none for words of the relay's own.
pub(in crate::relay) fn push(
    tx: &Tx<'_>,
    customer: &Customer,
    task: &CrmTask,
    (at, seq): Position,
    day: Option<i64>,
    now: Millis,
) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "INSERT INTO to_crm (id, customer, body, barrier, at, seq, created_at, day)
             VALUES ((SELECT 1 + max(coalesce((SELECT max(id) FROM to_crm), 0),
                             coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'last_row'), 0))),
                     ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![customer.id, serde_json::to_string(task)?, customer.barrier, at, seq, now, day])?;
    tx.wake(|woken| woken.crm.push(customer.id));
    Ok(())
}

/// Keeps as a dead letter what can never be delivered.
pub(in crate::relay) fn push_dead(
    tx: &Tx<'_>,
    customer: &Customer,
    task: &CrmTask,
    (at, seq): Position,
    day: Option<i64>,
    reason: &str,
    now: Millis,
) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "INSERT INTO to_crm (id, customer, body, barrier, at, seq, dead, error, created_at, day)
             VALUES ((SELECT 1 + max(coalesce((SELECT max(id) FROM to_crm), 0),
                             coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'last_row'), 0))),
                     ?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8)",
        )?
        .execute(params![customer.id, serde_json::to_string(task)?, customer.barrier, at, seq, reason, now, day])?;
    tx.wake(|woken| woken.dead_letters += 1);
    Ok(())
}

/// What is next for a customer: what was attempted once stays first.
pub(in crate::relay) fn head(tx: &Tx<'_>, id: CustomerId) -> Result<Option<Row>, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT id, body, attempts, at, seq, timestamp, attempted FROM to_crm WHERE customer = ?1 AND dead = 0
         ORDER BY attempted DESC, barrier, at, seq, id LIMIT 1",
    )?;
    let head = statement.query_row([id], |row| {
        Ok(Row {
            id: row.get(0)?,
            task: serde_json::from_str(&text_of(row, 1)?).ok(),
            attempts: row.get(2)?,
            position: (row.get(3)?, row.get(4)?),
            timestamp: row.get(5)?,
            attempted: row.get(6)?,
        })
    });
    Ok(head.optional()?)
}

pub(in crate::relay) fn exists(tx: &Tx<'_>, row: i64) -> Result<bool, StoreError> {
    Ok(tx.connection.prepare_cached("SELECT 1 FROM to_crm WHERE id = ?1")?.exists([row])?)
}

/// From now on it may have taken effect: nothing passes it, and its repeats bear the same time.
pub(in crate::relay) fn mark_attempted(tx: &Tx<'_>, row: i64, timestamp: Millis) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached("UPDATE to_crm SET attempted = 1, timestamp = ?2 WHERE id = ?1 AND attempted = 0")?
        .execute(params![row, timestamp])?;
    Ok(())
}

/// One more attempt was made in vain; `changed`: what it does from now on.
pub(in crate::relay) fn postpone(tx: &Tx<'_>, row: i64, changed: Option<&CrmTask>) -> Result<(), StoreError> {
    let body = changed.map(serde_json::to_string).transpose()?;
    tx.connection
        .prepare_cached("UPDATE to_crm SET attempts = attempts + 1, body = coalesce(?2, body) WHERE id = ?1")?
        .execute(params![row, body])?;
    Ok(())
}

/// It does something else from now on, and its attempts begin anew.
pub(in crate::relay) fn change(tx: &Tx<'_>, row: i64, task: &CrmTask) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached("UPDATE to_crm SET body = ?2, attempts = 0 WHERE id = ?1")?
        .execute(params![row, serde_json::to_string(task)?])?;
    Ok(())
}

/// It is done with: `what` has become of it.
pub(in crate::relay) fn remove(tx: &Tx<'_>, row: i64, what: Counted) -> Result<(), StoreError> {
    receipt::remove(tx, Direction::ToCrm, row, what)
}

/// It becomes a dead letter.
pub(in crate::relay) fn bury(tx: &Tx<'_>, row: i64, reason: &str) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached("UPDATE to_crm SET dead = 1, error = ?2 WHERE id = ?1")?
        .execute(params![row, reason])?;
    Ok(())
}

/// It becomes a dead letter, and another task takes its place in the queue.
pub(in crate::relay) fn replace(tx: &Tx<'_>, row: i64, by: &CrmTask, reason: &str) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "INSERT INTO to_crm (id, customer, body, barrier, at, seq, created_at)
             SELECT (SELECT 1 + max(coalesce((SELECT max(id) FROM to_crm), 0),
                             coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'last_row'), 0))),
                    customer, ?2, barrier, at, seq, created_at FROM to_crm WHERE id = ?1",
        )?
        .execute(params![row, serde_json::to_string(by)?])?;
    bury(tx, row, reason)
}

/// What waits for the CRM and has not been attempted.
pub(in crate::relay) fn untried(tx: &Tx<'_>, id: CustomerId) -> Result<Vec<CrmTask>, StoreError> {
    let bodies = tx
        .connection
        .prepare_cached("SELECT body FROM to_crm WHERE customer = ?1 AND dead = 0 AND attempted = 0")?
        .query_map([id], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    // One that cannot be read is told when its turn comes.
    Ok(bodies.iter().filter_map(|body| serde_json::from_str(body).ok()).collect())
}

/// Moves a message that has not been attempted to another place of its customer's queue.
pub(in crate::relay) fn move_to(
    tx: &Tx<'_>,
    id: CustomerId,
    external_id: &str,
    (at, seq): Position,
) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "UPDATE to_crm SET at = ?3, seq = ?4 WHERE customer = ?1 AND dead = 0 AND attempted = 0
             AND CASE WHEN json_valid(body) THEN json_extract(body, '$.incoming.externalId') END = ?2",
        )?
        .execute(params![id, external_id, at, seq])?;
    Ok(())
}

/// Whether something of the customer's was attempted and is not settled.
pub(in crate::relay) fn is_under_way(tx: &Tx<'_>, id: CustomerId) -> Result<bool, StoreError> {
    let mut statement =
        tx.connection.prepare_cached("SELECT 1 FROM to_crm WHERE customer = ?1 AND dead = 0 AND attempted = 1")?;
    Ok(statement.exists([id])?)
}

/// The dead letters, oldest first.
pub(in crate::relay) fn dead(tx: &Tx<'_>, most: i64) -> Result<Vec<Dead>, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT id, customer, body, coalesce(error, ''), created_at FROM to_crm WHERE dead = 1 ORDER BY id LIMIT ?1",
    )?;
    let dead = statement.query_map([most], |row| {
        Ok(Dead {
            id: row.get(0)?,
            customer: row.get(1)?,
            task: serde_json::from_str(&text_of(row, 2)?).ok(),
            reason: row.get(3)?,
            created_at: row.get(4)?,
        })
    })?;
    Ok(dead.collect::<Result<_, _>>()?)
}

pub(in crate::relay) fn dead_ids(tx: &Tx<'_>) -> Result<Vec<i64>, StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT id FROM to_crm WHERE dead = 1 ORDER BY id")?;
    let ids = statement.query_map([], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Whose dead letter that is, and what it does; none: there is no such.
pub(in crate::relay) fn dead_task(tx: &Tx<'_>, row: i64) -> Result<Option<(CustomerId, CrmTask)>, StoreError> {
    let found: Option<(CustomerId, String)> = tx
        .connection
        .prepare_cached("SELECT customer, body FROM to_crm WHERE id = ?1 AND dead = 1")?
        .query_row([row], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    found.map(|(id, body)| Ok((id, serde_json::from_str(&body)?))).transpose()
}

/// Puts a dead letter back into its place of the queue, as if it had never been tried.
pub(in crate::relay) fn revive(tx: &Tx<'_>, row: i64, id: CustomerId, task: &CrmTask) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "UPDATE to_crm SET dead = 0, error = NULL, attempted = 0, attempts = 0, timestamp = NULL, body = ?2
             WHERE id = ?1",
        )?
        .execute(params![row, serde_json::to_string(task)?])?;
    tx.wake(|woken| woken.crm.push(id));
    Ok(())
}

/// Takes every entry of a customer's away. Returns how many that were.
pub(in crate::relay) fn remove_of(tx: &Tx<'_>, id: CustomerId) -> Result<usize, StoreError> {
    Ok(tx.connection.execute("DELETE FROM to_crm WHERE customer = ?1", [id])?)
}
