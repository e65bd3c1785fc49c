//! What is forgotten by its age: the content of messages after the retention, the keys against
//! repeats later, whatever it is.

use rusqlite::params;

use super::gap::{self, KEYS_KEPT};
use super::{StoreError, Tx};
use crate::time::Millis;

/// `?1` is the end of the retention, `?2` of updates' keys, `?3` of the CRM's.
const FORGOTTEN: [&str; 7] = [
    "UPDATE inbox SET raw = '' WHERE id IN
        (SELECT id FROM inbox WHERE done > 0 AND received_at < ?1 AND raw <> '' LIMIT ?4)",
    "DELETE FROM inbox WHERE id IN (SELECT id FROM inbox WHERE done > 0 AND received_at < min(?1, ?2) LIMIT ?4)",
    "DELETE FROM to_max WHERE id IN (SELECT id FROM to_max WHERE ended_at < ?1 AND recorded = 1 LIMIT ?4)",
    "DELETE FROM sent WHERE mid IN (SELECT mid FROM sent WHERE at < min(?1, ?2) LIMIT ?4)",
    "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE reported > 0 AND reported < min(?1, ?3) LIMIT ?4)",
    "DELETE FROM closing WHERE chat IN (SELECT chat FROM closing WHERE at < min(?1, ?3) LIMIT ?4)",
    "DELETE FROM erased WHERE digest IN (SELECT digest FROM erased WHERE at < ?3 LIMIT ?4)",
];
/// Rows forgotten in one piece of work, so that none holds the writer.
const PIECE: usize = 500;
/// The package keeps rows of its outbox for 30 days, so that they may be seen so long.
const CRM_KEYS_KEPT: Millis = 31 * 86_400_000;

/// One of the kinds of what is forgotten.
#[derive(Clone, Copy, Debug)]
pub(in crate::relay) struct Forgotten(&'static str);

impl Forgotten {
    pub fn all() -> impl Iterator<Item = Self> {
        FORGOTTEN.into_iter().map(Self)
    }

    /// Forgets a piece of what came before `before`. Returns whether there may be more.
    pub fn forget(self, tx: &Tx<'_>, now: Millis, before: Millis) -> Result<bool, StoreError> {
        let piece = i64::try_from(PIECE).unwrap_or(i64::MAX);
        let (updates, crm) = (now - KEYS_KEPT, now - CRM_KEYS_KEPT);
        let updates = gap::reads_from(tx, now)?.map_or(updates, |since| since.min(updates));
        let gone = tx.connection.prepare_cached(self.0)?.execute(params![before, updates, crm, piece])?;
        Ok(gone >= PIECE)
    }
}
