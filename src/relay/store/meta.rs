//! Single facts by name.

use rusqlite::{Connection, OptionalExtension};

use super::{StoreError, Tx};
use crate::time::Millis;

/// The user id of the bot whose messages these are.
pub(in crate::relay) const BOT: &str = "bot_user_id";

/// A moment by MAX's clock, milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum Moment {
    /// The store was made: nothing older is imported.
    Made,
    /// Somebody was last erased: of a customer who is not known, nothing older is read back.
    Erased,
    /// The way in last became another.
    Switched,
}

impl Moment {
    /// Its name, and the name of the note that it stands there by our own clock.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Made => ("made_at", "made_at_by_own_clock"),
            Self::Erased => ("erased_at", "erased_at_by_own_clock"),
            Self::Switched => ("switched_at", "switched_at_by_own_clock"),
        }
    }
}

/// When MAX says that the subscription last told of was made, milliseconds since the epoch.
pub(in crate::relay) const SUBSCRIBED_AT: &str = "subscribed_at";

/// When a long poll was last answered, to the hour, milliseconds since the epoch.
pub(in crate::relay) const POLLED_AT: &str = "polled_at";

/// Where the long poll goes on.
pub(in crate::relay) const MARKER: &str = "marker";

/// Set once the store has seen the whole outbox of the CRM.
pub(in crate::relay) const OUTBOX_LOOKED: &str = "outbox_looked";

/// In a file that was written out while its store went on: when that was, milliseconds since the
/// epoch.
pub(super) const BACKUP_OF: &str = "backup_of";

/// In a store that such a file was brought into, until a relay has opened it: the same moment.
pub(super) const RESTORED_FROM: &str = "restored_from";

/// In a store that was such a file: the same moment, and when a relay first opened it.
pub(super) const RESTORED_SINCE: &str = "restored_since";
pub(super) const RESTORED_AT: &str = "restored_at";

/// The newest change of a chat that was seen, by the CRM's clock.
pub(in crate::relay) const CHATS_SEEN: &str = "chats_seen";

/// The way in, as it was when last it was noted.
pub(in crate::relay) const INTAKE: &str = "intake";

/// When MANGO OFFICE ceased to be the way in.
pub(in crate::relay) const LEFT_MANGO_AT: &str = "left_mango_at";

/// The highest number that a row of a queue had when a customer's rows were taken away. It is not
/// given again: a call that is under way ends the row of its number.
pub(in crate::relay) const LAST_ROW: &str = "last_row";

/// What the relay may ask of the CRM, as it was last told.
pub(in crate::relay) const CRM_SHARE: &str = "crm_share";

/// When it was last tried whether the disk takes anything.
pub(in crate::relay) const TRIED_AT: &str = "tried_at";

/// The fact of that name, if it was ever set.
pub(in crate::relay) fn get(tx: &Tx<'_>, key: &str) -> Result<Option<String>, StoreError> {
    Ok(read(tx.connection, key)?)
}

/// Notes [`LAST_ROW`] before rows are taken away.
pub(in crate::relay) fn keep_last_row(tx: &Tx<'_>) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "INSERT INTO meta (key, value)
             SELECT ?1, max(coalesce((SELECT max(id) FROM to_crm), 0), coalesce((SELECT max(id) FROM to_max), 0),
                            coalesce((SELECT max(id) FROM to_bot), 0),
                            coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?1), 0))
             WHERE true ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )?
        .execute([LAST_ROW])?;
    Ok(())
}

/// The same where it is a whole number.
pub(in crate::relay) fn number(tx: &Tx<'_>, key: &str) -> Result<Option<i64>, StoreError> {
    Ok(number_in(tx.connection, key)?)
}

/// A moment, if it ever was.
pub(in crate::relay) fn moment(tx: &Tx<'_>, moment: Moment) -> Result<Option<Millis>, StoreError> {
    number(tx, moment.names().0)
}

/// Notes a moment; `known`: by MAX's clock, not by ours.
pub(in crate::relay) fn set_moment(tx: &Tx<'_>, moment: Moment, at: Millis, known: bool) -> Result<(), StoreError> {
    let (name, by_own_clock) = moment.names();
    set(tx, name, &at.to_string())?;
    if known { remove(tx, by_own_clock) } else { set(tx, by_own_clock, "1") }
}

/// Whether a moment stands there by our own clock.
pub(in crate::relay) fn is_by_own_clock(tx: &Tx<'_>, moment: Moment) -> Result<bool, StoreError> {
    Ok(get(tx, moment.names().1)?.is_some())
}

/// A whole number of a store that no relay has open.
pub(super) fn number_in(connection: &Connection, key: &str) -> rusqlite::Result<Option<i64>> {
    Ok(read(connection, key)?.and_then(|text| text.parse().ok()))
}

fn read(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
}

/// Forgets a fact.
pub(in crate::relay) fn remove(tx: &Tx<'_>, key: &str) -> Result<(), StoreError> {
    tx.connection.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key])?;
    Ok(())
}

/// Sets a fact.
pub(in crate::relay) fn set(tx: &Tx<'_>, key: &str, value: &str) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")?
        .execute([key, value])?;
    Ok(())
}
