//! Chats of the CRM that are over: a closing is keyed by its chat, so that two reports of one
//! closing are one.

use rusqlite::params;
use uuid::Uuid;

use super::{StoreError, Tx, meta};
use crate::time::Millis;

/// Notes that a chat is over. False: that was known.
pub(in crate::relay) fn note(tx: &Tx<'_>, chat: Uuid, now: Millis) -> Result<bool, StoreError> {
    let inserted = tx
        .connection
        .prepare_cached("INSERT OR IGNORE INTO closing (chat, at) VALUES (?1, ?2)")?
        .execute(params![chat.to_string(), now])?;
    Ok(inserted > 0)
}

/// Whose chat it was that is over could not be told yet.
pub(in crate::relay) fn leave_unclaimed(tx: &Tx<'_>, chat: Uuid) -> Result<(), StoreError> {
    meta::set(tx, &unclaimed(chat), "1")
}

/// The chat is known now. Whether its closing was left for whoever turns out to have it.
pub(in crate::relay) fn claim(tx: &Tx<'_>, chat: Uuid) -> Result<bool, StoreError> {
    let is_left = meta::get(tx, &unclaimed(chat))?.is_some();
    if is_left {
        meta::remove(tx, &unclaimed(chat))?;
    }
    Ok(is_left)
}

fn unclaimed(chat: Uuid) -> String {
    format!("unclaimed_closing:{chat}")
}

/// Whether a chat is known to be over.
pub(in crate::relay) fn contains(tx: &Tx<'_>, chat: Uuid) -> Result<bool, StoreError> {
    Ok(tx.connection.prepare_cached("SELECT 1 FROM closing WHERE chat = ?1")?.exists([chat.to_string()])?)
}
