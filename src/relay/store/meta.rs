//! Single facts by name.

use rusqlite::{Connection, OptionalExtension};

use super::StoreError;

/// When the store was made, milliseconds since the epoch: nothing older is imported.
pub(in crate::relay) const MADE_AT: &str = "made_at";

/// When somebody was last erased, milliseconds since the epoch: of a customer who is not known, nothing older is read back.
pub(in crate::relay) const ERASED_AT: &str = "erased_at";

/// When MAX says that the subscription last told of was made, milliseconds since the epoch.
pub(in crate::relay) const SUBSCRIBED_AT: &str = "subscribed_at";

/// The fact of that name, if it was ever set.
pub(in crate::relay) fn get(connection: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?)
}

/// The same where it is a whole number.
pub(in crate::relay) fn number(connection: &Connection, key: &str) -> Result<Option<i64>, StoreError> {
    Ok(get(connection, key)?.and_then(|text| text.parse().ok()))
}

/// Sets a fact.
pub(in crate::relay) fn set(connection: &Connection, key: &str, value: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")?
        .execute([key, value])?;
    Ok(())
}
