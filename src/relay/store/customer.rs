//! Customers, each with the state of the dialog.

use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::{Position, StoreError, Tx, text_of};
use crate::contract::CustomerId;
use crate::max::ChatId;
use crate::policy::{self, Dialog, Phase, Rules};
use crate::time::Millis;

/// A row of `customer`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::relay) struct Customer {
    pub id: CustomerId,
    pub chat_id: Option<ChatId>,
    pub name: String,
    pub dialog: Dialog,
    pub barrier: i64,
    pub taken: Option<Position>,
    /// The newest message or press: the history goes behind it.
    pub newest: Option<Position>,
    /// The newest start, message, press or departure, by MAX's clock: what is older decides nothing
    /// about who is there.
    pub presence_at: Option<Millis>,
    pub delivered: Option<Position>,
    pub crm_timestamp: Millis,
    pub bot_seq: Option<i64>,
}

/// A dialog as it stands on disk. One that cannot be read begins anew: a customer must not be stuck
/// for ever, nor stop the others.
fn read_dialog(json: &str) -> Dialog {
    serde_json::from_str(json).unwrap_or_else(|error| {
        tracing::error!(%error, "the state of a dialog in the store cannot be read; the dialog begins anew");
        Dialog::default()
    })
}

impl Customer {
    /// The customer's row, or a new one that is not on disk before [`Customer::save`].
    pub fn load(tx: &Tx<'_>, id: CustomerId) -> Result<Self, StoreError> {
        let mut statement = tx.connection.prepare_cached(
            "SELECT chat_id, name, dialog, barrier, taken_at, taken_seq, delivered_at, delivered_seq, crm_timestamp,
                    bot_seq, newest_at, newest_seq, presence_at
             FROM customer WHERE id = ?1",
        )?;
        let found = statement
            .query_row([id], |row| {
                let pair = |at, seq| -> rusqlite::Result<Option<Position>> {
                    Ok(row.get::<_, Option<i64>>(at)?.zip(row.get::<_, Option<i64>>(seq)?))
                };
                Ok(Self {
                    id,
                    chat_id: row.get(0)?,
                    name: text_of(row, 1)?,
                    dialog: read_dialog(&text_of(row, 2)?),
                    barrier: row.get(3)?,
                    taken: pair(4, 5)?,
                    delivered: pair(6, 7)?,
                    crm_timestamp: row.get(8)?,
                    bot_seq: row.get(9)?,
                    newest: pair(10, 11)?,
                    presence_at: row.get(12)?,
                })
            })
            .optional()?;
        Ok(found.unwrap_or_else(|| Self { id, ..Self::default() }))
    }

    /// Writes the row. What is found by an index is written where it has changed: each index that
    /// is touched is one more page to write.
    pub fn save(&self, tx: &Tx<'_>, rules: &Rules) -> Result<(), StoreError> {
        let due = policy::next_due(rules, &self.dialog);
        tx.wake(|woken| woken.is_due(due));
        let row = params![
            self.id,
            self.name,
            serde_json::to_string(&self.dialog)?,
            self.barrier,
            self.taken.map(|(at, _)| at),
            self.taken.map(|(_, seq)| seq),
            self.delivered.map(|(at, _)| at),
            self.delivered.map(|(_, seq)| seq),
            self.crm_timestamp,
            self.bot_seq,
            self.newest.map(|(at, _)| at),
            self.newest.map(|(_, seq)| seq),
            self.presence_at,
        ];
        let known = tx
            .connection
            .prepare_cached(
                "UPDATE customer SET name = ?2, dialog = ?3, barrier = ?4, taken_at = ?5, taken_seq = ?6,
                    delivered_at = ?7, delivered_seq = ?8, crm_timestamp = ?9, bot_seq = ?10, newest_at = ?11,
                    newest_seq = ?12, presence_at = ?13 WHERE id = ?1",
            )?
            .execute(row)?;
        if known == 0 {
            tx.connection
                .prepare_cached(
                    "INSERT INTO customer (id, name, dialog, barrier, taken_at, taken_seq, delivered_at, delivered_seq,
                                           crm_timestamp, bot_seq, newest_at, newest_seq, presence_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
                )?
                .execute(row)?;
        }
        tx.connection
            .prepare_cached("UPDATE customer SET due_at = ?2 WHERE id = ?1 AND due_at IS NOT ?2")?
            .execute(params![self.id, due])?;
        let open = self.dialog.phase() != Phase::Idle;
        tx.connection
            .prepare_cached(
                "UPDATE customer SET chat_id = ?2, open = ?3
                 WHERE id = ?1 AND (chat_id IS NOT ?2 OR open IS NOT ?3)",
            )?
            .execute(params![self.id, self.chat_id, open])?;
        Ok(())
    }

    /// Whether the dialog's chat in MAX is known.
    pub fn has_chat(tx: &Tx<'_>, id: CustomerId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM customer WHERE id = ?1 AND chat_id IS NOT NULL";
        Ok(tx.connection.prepare_cached(sql)?.exists([id])?)
    }

    /// Whose dialog has that chat in MAX.
    pub fn in_chat(tx: &Tx<'_>, chat: ChatId) -> Result<Option<CustomerId>, StoreError> {
        let mut statement = tx.connection.prepare_cached("SELECT id FROM customer WHERE chat_id = ?1")?;
        Ok(statement.query_row([chat], |row| row.get(0)).optional()?)
    }

    /// The newest message of MAX known in the dialog, whoever wrote it; those of MANGO OFFICE have
    /// no numbers of MAX's.
    pub fn newest_seq(&self) -> Option<i64> {
        self.bot_seq.max(self.taken.map(|(_, seq)| seq).filter(|seq| *seq > 0))
    }

    /// The place behind the newest message of the dialog.
    pub fn end_of_dialog(&self) -> Position {
        self.newest.max(self.taken).unwrap_or((0, 0))
    }
}

/// Lets a tick judge every open dialog anew.
pub(in crate::relay) fn tick_open(tx: &Tx<'_>, now: Millis) -> Result<(), StoreError> {
    tx.connection.execute("UPDATE customer SET due_at = ?1 WHERE open = 1", [now])?;
    tx.wake(|woken| woken.timers = true);
    Ok(())
}

/// The open dialogs behind `after`, in the order of their ids, at most `most`.
pub(in crate::relay) fn open_after(tx: &Tx<'_>, after: CustomerId, most: usize) -> Result<Vec<CustomerId>, StoreError> {
    let mut statement =
        tx.connection.prepare_cached("SELECT id FROM customer WHERE open = 1 AND id > ?1 ORDER BY id")?;
    let ids = statement.query_map([after], |row| row.get(0))?;
    Ok(ids.take(most).collect::<Result<_, _>>()?)
}

/// When the next dialog wants a tick.
pub(in crate::relay) fn next_due(tx: &Tx<'_>) -> Result<Option<Millis>, StoreError> {
    Ok(tx.connection.prepare_cached("SELECT min(due_at) FROM customer")?.query_row([], |row| row.get(0))?)
}

/// Whose dialogs want a tick now, the longest due first, at most a hundred.
pub(in crate::relay) fn due(tx: &Tx<'_>, now: Millis) -> Result<Vec<CustomerId>, StoreError> {
    let mut statement =
        tx.connection.prepare_cached("SELECT id FROM customer WHERE due_at <= ?1 ORDER BY due_at LIMIT 100")?;
    let due = statement.query_map([now], |row| row.get(0))?;
    Ok(due.collect::<Result<_, _>>()?)
}

/// Lets a dialog wait for its next tick, however long it has been due.
pub(in crate::relay) fn put_off(tx: &Tx<'_>, id: CustomerId, until: Millis) -> Result<(), StoreError> {
    tx.connection.prepare_cached("UPDATE customer SET due_at = ?2 WHERE id = ?1")?.execute(params![id, until])?;
    Ok(())
}

/// Whether any dialog is open.
pub(in crate::relay) fn any_open(tx: &Tx<'_>) -> Result<bool, StoreError> {
    Ok(tx.connection.prepare_cached("SELECT 1 FROM customer WHERE open = 1")?.exists([])?)
}

/// The chats of the open dialogs in the CRM.
pub(in crate::relay) fn open_chats(tx: &Tx<'_>) -> Result<Vec<(CustomerId, Uuid)>, StoreError> {
    let dialogs = dialogs(tx, "SELECT id, dialog FROM customer WHERE open = 1")?;
    Ok(dialogs.into_iter().filter_map(|(id, dialog)| Some((id, dialog.chat()?))).collect())
}

/// The open dialogs that want a tick soonest, at most two hundred.
pub(in crate::relay) fn soonest_due(tx: &Tx<'_>) -> Result<Vec<(CustomerId, Dialog)>, StoreError> {
    dialogs(tx, "SELECT id, dialog FROM customer WHERE open = 1 AND due_at IS NOT NULL ORDER BY due_at LIMIT 200")
}

fn dialogs(tx: &Tx<'_>, sql: &str) -> Result<Vec<(CustomerId, Dialog)>, StoreError> {
    let mut statement = tx.connection.prepare_cached(sql)?;
    let found = statement.query_map([], |row| Ok((row.get(0)?, read_dialog(&text_of(row, 1)?))))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Takes the customer's row away. Returns how many that were.
pub(in crate::relay) fn remove(tx: &Tx<'_>, id: CustomerId) -> Result<usize, StoreError> {
    tx.wake(|woken| woken.timers = true);
    Ok(tx.connection.execute("DELETE FROM customer WHERE id = ?1", [id])?)
}
