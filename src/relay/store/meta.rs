//! Single facts by name.

use rusqlite::{Connection, OptionalExtension};

use super::{StoreError, Tx};

/// The user id of the bot whose messages these are.
pub(in crate::relay) const BOT: &str = "bot_user_id";

/// When the store was made, milliseconds since the epoch: nothing older is imported.
pub(in crate::relay) const MADE_AT: &str = "made_at";

/// When somebody was last erased, milliseconds since the epoch: of a customer who is not known,
/// nothing older is read back.
pub(in crate::relay) const ERASED_AT: &str = "erased_at";

/// When MAX says that the subscription last told of was made, milliseconds since the epoch.
pub(in crate::relay) const SUBSCRIBED_AT: &str = "subscribed_at";

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

/// When the way in last became another, by MAX's clock.
pub(in crate::relay) const SWITCHED_AT: &str = "switched_at";

/// When MANGO OFFICE ceased to be the way in.
pub(in crate::relay) const LEFT_MANGO_AT: &str = "left_mango_at";

/// The highest number that a row of a queue had when a customer's rows were taken away. It is not
/// given again: a call that is under way ends the row of its number.
pub(in crate::relay) const LAST_ROW: &str = "last_row";

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

/// The same of a store that no relay has open.
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
