//! A store that was a backup: what happened since it was written is not in it, and may have reached
//! the customer or the CRM all the same.
//!
//! The CRM knows what it has by its keys. MAX has none, so whatever this store would send is looked
//! for in the dialog first: what waited when the backup was written, rows of the CRM's outbox that
//! it does not know, and for a while what the channel says by itself. What customers wrote since
//! then MAX repeats no more: every dialog is read back.

use super::gap::{self, Kind};
use super::to_max::{self, Sending};
use super::{StoreError, Tx, meta};
use crate::time::Millis;

/// How long after the start the channel's own words may be repetitions: as long as reading
/// everybody back takes, and more.
const REPEATS: Millis = 600_000;

/// A relay opens the store. What it finds in a restored one counts as done by the store that is
/// lost, until it is known.
pub(in crate::relay) fn prepare(tx: &Tx<'_>, now: Millis, by_mango: bool) -> Result<(), StoreError> {
    // Left where a writing out was cut short.
    meta::remove(tx, meta::BACKUP_OF)?;
    let Some(since) = meta::number(tx, meta::RESTORED_FROM)? else { return Ok(()) };
    to_max::doubt_all(tx, |created_at| Sending::by_a_lost_store(created_at.min(since), by_mango))?;
    meta::remove(tx, meta::OUTBOX_LOOKED)?;
    gap::note(tx, gap::newest_update(tx, Millis::MAX)?.min(since), Kind::Lasting, now)?;
    meta::set(tx, meta::RESTORED_SINCE, &since.to_string())?;
    meta::set(tx, meta::RESTORED_AT, &now.to_string())?;
    meta::remove(tx, meta::RESTORED_FROM)
}

/// What the channel says by itself may have been said before: the note with which it is looked for.
pub(in crate::relay) fn doubt(tx: &Tx<'_>, now: Millis, by_mango: bool) -> Result<Option<Sending>, StoreError> {
    let Some(at) = meta::number(tx, meta::RESTORED_AT)? else { return Ok(None) };
    if !(0..REPEATS).contains(&(now - at)) {
        return Ok(None);
    }
    let since = meta::number(tx, meta::RESTORED_SINCE)?;
    Ok(since.map(|since| Sending::by_a_lost_store(since, by_mango)))
}

/// From when until when a lost store worked on without this one, if there was such a time.
pub(in crate::relay) fn unknown(tx: &Tx<'_>) -> Result<Option<(Millis, Millis)>, StoreError> {
    Ok(meta::number(tx, meta::RESTORED_SINCE)?.zip(meta::number(tx, meta::RESTORED_AT)?))
}
