//! The keys of updates of people who were erased. MAX may repeat such an update, or show it when a
//! dialog is read back, and neither may bring the person back. Kept is a keyed digest, nothing that
//! names anybody.

use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::{StoreError, Tx, meta};
use crate::contract::CustomerId;
use crate::time::Millis;

const SALT: &str = "erased_salt";

/// Remembers an update that is erased.
pub(in crate::relay) fn remember(tx: &Tx<'_>, key: &str, now: Millis) -> Result<(), StoreError> {
    let salt = if let Some(salt) = meta::get(tx, SALT)? {
        salt
    } else {
        let salt = uuid::Uuid::new_v4().to_string();
        meta::set(tx, SALT, &salt)?;
        salt
    };
    tx.connection
        .prepare_cached("INSERT OR IGNORE INTO erased (digest, at) VALUES (?1, ?2)")?
        .execute(params![digest(&salt, key), now])?;
    Ok(())
}

/// Remembers that a person was erased now.
pub(in crate::relay) fn remember_person(tx: &Tx<'_>, id: CustomerId, now: Millis) -> Result<(), StoreError> {
    let key = of_person(id);
    remember(tx, &key, now)?;
    if let Some(salt) = meta::get(tx, SALT)? {
        let mut statement = tx.connection.prepare_cached("UPDATE erased SET at = ?2 WHERE digest = ?1")?;
        statement.execute(params![digest(&salt, &key), now])?;
    }
    Ok(())
}

/// When that person was last erased.
pub(in crate::relay) fn person(tx: &Tx<'_>, id: CustomerId) -> Result<Option<Millis>, StoreError> {
    let Some(salt) = meta::get(tx, SALT)? else { return Ok(None) };
    let mut statement = tx.connection.prepare_cached("SELECT at FROM erased WHERE digest = ?1")?;
    Ok(statement.query_row([digest(&salt, &of_person(id))], |row| row.get(0)).optional()?)
}

fn of_person(id: CustomerId) -> String {
    format!("customer:{id}")
}

/// Whether this update was erased.
pub(in crate::relay) fn contains(tx: &Tx<'_>, key: &str) -> Result<bool, StoreError> {
    let Some(salt) = meta::get(tx, SALT)? else { return Ok(false) };
    Ok(tx.connection.prepare_cached("SELECT 1 FROM erased WHERE digest = ?1")?.exists([digest(&salt, key)])?)
}

fn digest(salt: &str, key: &str) -> Vec<u8> {
    Sha256::new().chain_update(salt).chain_update([0]).chain_update(key).finalize()[..16].to_vec()
}
