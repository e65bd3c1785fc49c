//! The bot's messages in MAX that are ours, so that a look back tells them from one that we lost
//! sight of.

use rusqlite::params;

use super::{StoreError, Tx};
use crate::contract::CustomerId;
use crate::max::MessageId;
use crate::time::Millis;

pub(in crate::relay) fn insert(
    tx: &Tx<'_>,
    mid: &MessageId,
    customer: CustomerId,
    now: Millis,
) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached("INSERT OR IGNORE INTO sent (mid, customer, at) VALUES (?1, ?2, ?3)")?
        .execute(params![mid, customer, now])?;
    Ok(())
}

/// Which of these messages are ours.
pub(in crate::relay) fn are_ours(tx: &Tx<'_>, mids: &[MessageId]) -> Result<Vec<bool>, StoreError> {
    let mut known = tx.connection.prepare_cached("SELECT 1 FROM sent WHERE mid = ?1")?;
    mids.iter().map(|mid| Ok(known.exists([mid])?)).collect()
}

/// Takes every message of a customer's away. Returns how many that were.
pub(in crate::relay) fn remove_of(tx: &Tx<'_>, id: CustomerId) -> Result<usize, StoreError> {
    Ok(tx.connection.execute("DELETE FROM sent WHERE customer = ?1", [id])?)
}
