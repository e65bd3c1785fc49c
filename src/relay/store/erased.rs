//! The keys of updates of people who were erased. MAX may repeat such an update, or show it when a
//! dialog is read back, and neither may bring the person back. Kept is a keyed digest, nothing that
//! names anybody.
//!
//! Of a person it is also kept when that was by the clock of MANGO OFFICE, which calls messages by
//! other names than MAX: never later than it was, so that nothing that is written afterwards is
//! taken for older.

use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::{StoreError, Tx, meta};
use crate::contract::CustomerId;
use crate::contract::digest::hex;
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

/// When a person was erased, by MANGO's clock, which is known in part only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::relay) struct Before {
    /// As far as its clock was known. 0: not at all.
    pub by_clock: Millis,
    /// MANGO OFFICE had told of something of this time.
    pub heard: Millis,
}

/// Remembers that a person was erased now, by our own clock, and when that was by MANGO's.
pub(in crate::relay) fn remember_person(
    tx: &Tx<'_>,
    id: CustomerId,
    now: Millis,
    before: Before,
) -> Result<(), StoreError> {
    note(tx, &of_person(id), now)?;
    if let Some(mark) = person(tx, id)? {
        note(tx, &by_clock(&mark), before.by_clock)?;
        note(tx, &heard(&mark), before.heard)?;
    }
    Ok(())
}

/// MANGO's clock is known better: a person was erased later by it than was thought.
pub(in crate::relay) fn put_right(tx: &Tx<'_>, id: CustomerId, at: Millis) -> Result<(), StoreError> {
    match person(tx, id)? {
        Some(mark) if before(tx, &mark)?.by_clock < at => note(tx, &by_clock(&mark), at),
        _ => Ok(()),
    }
}

/// The mark of a person who was erased: names nobody, and tells when that was.
pub(in crate::relay) fn person(tx: &Tx<'_>, id: CustomerId) -> Result<Option<String>, StoreError> {
    let Some(salt) = meta::get(tx, SALT)? else { return Ok(None) };
    let key = of_person(id);
    Ok(contains(tx, &key)?.then(|| hex(&digest(&salt, &key))))
}

/// When that was, by the mark of the person.
pub(in crate::relay) fn before(tx: &Tx<'_>, mark: &str) -> Result<Before, StoreError> {
    let at = |key: &str| Ok::<_, StoreError>(noted(tx, key)?.unwrap_or(0));
    Ok(Before { by_clock: at(&by_clock(mark))?, heard: at(&heard(mark))? })
}

fn of_person(id: CustomerId) -> String {
    format!("customer:{id}")
}

fn by_clock(mark: &str) -> String {
    format!("by_clock:{mark}")
}

fn heard(mark: &str) -> String {
    format!("heard:{mark}")
}

/// Remembers a key with a time, whatever was remembered with it before.
fn note(tx: &Tx<'_>, key: &str, at: Millis) -> Result<(), StoreError> {
    remember(tx, key, at)?;
    if let Some(salt) = meta::get(tx, SALT)? {
        let mut statement = tx.connection.prepare_cached("UPDATE erased SET at = ?2 WHERE digest = ?1")?;
        statement.execute(params![digest(&salt, key), at])?;
    }
    Ok(())
}

fn noted(tx: &Tx<'_>, key: &str) -> Result<Option<Millis>, StoreError> {
    let Some(salt) = meta::get(tx, SALT)? else { return Ok(None) };
    let mut statement = tx.connection.prepare_cached("SELECT at FROM erased WHERE digest = ?1")?;
    Ok(statement.query_row([digest(&salt, key)], |row| row.get(0)).optional()?)
}

/// Whether this update was erased.
pub(in crate::relay) fn contains(tx: &Tx<'_>, key: &str) -> Result<bool, StoreError> {
    Ok(noted(tx, key)?.is_some())
}

fn digest(salt: &str, key: &str) -> Vec<u8> {
    Sha256::new().chain_update(salt).chain_update([0]).chain_update(key).finalize()[..16].to_vec()
}
