//! What waits and what was given up, over all tables. What is kept is counted by the database
//! itself at every change: counting thousands of rows would hold the one writer. What waits stands
//! in indexes of its own.

use rusqlite::Connection;

use super::{StoreError, Tx};
use crate::contract::Undelivered;
use crate::time::Millis;

/// How things stand.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::relay) struct Counts {
    /// When the oldest came that waits in either direction.
    pub oldest: Option<Millis>,
    pub undelivered: Undelivered,
    pub open_dialogs: i64,
}

pub(in crate::relay) fn read(tx: &Tx<'_>) -> Result<Counts, StoreError> {
    let oldest = tx
        .connection
        .prepare_cached(
            "SELECT min(at) FROM (SELECT min(created_at) AS at FROM to_crm WHERE dead = 0
                                  UNION ALL SELECT min(created_at) FROM to_max WHERE state = 'queued'
                                  UNION ALL SELECT min(received_at) FROM inbox WHERE done = 0)",
        )?
        .query_row([], |row| row.get(0))?;
    let kept = |name: &str| {
        tx.connection
            .prepare_cached("SELECT count FROM tally WHERE name = ?1")?
            .query_row([name], |row| row.get::<_, i64>(0))
    };
    let (dead_letters, open_dialogs) = (kept("dead")?, kept("open")?);
    let undelivered = tx
        .connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM to_crm WHERE dead = 0) + (SELECT count(*) FROM inbox WHERE done = 0),
                    (SELECT count(*) FROM to_max WHERE state = 'queued')",
        )?
        .query_row([], |row| Ok(Undelivered { to_crm: row.get(0)?, to_max: row.get(1)?, dead_letters }))?;
    Ok(Counts { oldest, undelivered, open_dialogs })
}

/// What would be lost with a store that no relay has open.
pub(super) fn undelivered(connection: &Connection) -> rusqlite::Result<Undelivered> {
    connection.query_row(
        "SELECT (SELECT count(*) FROM to_crm WHERE dead = 0) + (SELECT count(*) FROM inbox WHERE done = 0),
                (SELECT count(*) FROM to_max WHERE state = 'queued'),
                (SELECT count(*) FROM to_crm WHERE dead = 1) + (SELECT count(*) FROM to_max WHERE state = 'failed')",
        [],
        |row| Ok(Undelivered { to_crm: row.get(0)?, to_max: row.get(1)?, dead_letters: row.get(2)? }),
    )
}
