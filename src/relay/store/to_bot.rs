//! Questions to a bot, one queue per customer.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{StoreError, Tx, text_of};
use crate::contract::CustomerId;
use crate::policy::BotRole;
use crate::time::Millis;

/// A question to a bot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::relay) struct Question {
    pub bot: BotRole,
    /// The number of the dialog at the time of asking: an answer that comes in another dialog is
    /// dropped.
    pub dialog: u32,
    pub text: String,
}

pub(in crate::relay) fn push(tx: &Tx<'_>, id: CustomerId, question: &Question, now: Millis) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "INSERT INTO to_bot (id, customer, body, created_at)
             VALUES ((SELECT 1 + max(coalesce((SELECT max(id) FROM to_bot), 0),
                             coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'last_row'), 0))),
                     ?1, ?2, ?3)",
        )?
        .execute(params![id, serde_json::to_string(question)?, now])?;
    tx.wake(|woken| woken.bot.push(id));
    Ok(())
}

/// The customer's oldest question by its row; the question is none where it cannot be read.
pub(in crate::relay) fn head(tx: &Tx<'_>, id: CustomerId) -> Result<Option<(i64, Option<Question>)>, StoreError> {
    let mut statement =
        tx.connection.prepare_cached("SELECT id, body FROM to_bot WHERE customer = ?1 ORDER BY id LIMIT 1")?;
    let head = statement.query_row([id], |row| Ok((row.get(0)?, serde_json::from_str(&text_of(row, 1)?).ok())));
    Ok(head.optional()?)
}

/// False: it is gone already, with the customer.
pub(in crate::relay) fn remove(tx: &Tx<'_>, row: i64) -> Result<bool, StoreError> {
    Ok(tx.connection.prepare_cached("DELETE FROM to_bot WHERE id = ?1")?.execute([row])? > 0)
}

/// Takes every question of a customer's away. Returns how many that were.
pub(in crate::relay) fn remove_of(tx: &Tx<'_>, id: CustomerId) -> Result<usize, StoreError> {
    Ok(tx.connection.execute("DELETE FROM to_bot WHERE customer = ?1", [id])?)
}
