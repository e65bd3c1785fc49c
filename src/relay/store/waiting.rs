//! Who has something waiting, whatever it is.

use rusqlite::params;

use super::{StoreError, Tx};
use crate::contract::CustomerId;

/// Where something may wait: each is asked along the index of its queue.
#[derive(Clone, Copy, Debug)]
pub(in crate::relay) enum Queue {
    Inbox,
    ToCrm,
    ToMax,
    ToBot,
}

impl Queue {
    pub const ALL: [Self; 4] = [Self::Inbox, Self::ToCrm, Self::ToMax, Self::ToBot];

    /// Wakes the next customers after this one, in the order of their ids, at most `most`. Returns
    /// the last of them, none where there are no more behind.
    pub fn wake(self, tx: &Tx<'_>, after: CustomerId, most: usize) -> Result<Option<CustomerId>, StoreError> {
        let rows = match self {
            Self::Inbox => "inbox WHERE done = 0 AND customer IS NOT NULL",
            Self::ToCrm => "to_crm WHERE dead = 0",
            Self::ToMax => "to_max WHERE state = 'queued'",
            Self::ToBot => "to_bot WHERE 1",
        };
        let sql = format!("SELECT DISTINCT customer FROM {rows} AND customer > ?1 ORDER BY customer LIMIT ?2");
        let mut statement = tx.connection.prepare_cached(&sql)?;
        let customers = statement
            .query_map(params![after, i64::try_from(most).unwrap_or(i64::MAX)], |row| row.get(0))?
            .collect::<Result<Vec<CustomerId>, _>>()?;
        let last = customers.last().copied().filter(|_| customers.len() == most);
        tx.wake(|woken| {
            (woken.reports, woken.timers) = (true, true);
            match self {
                Self::Inbox => &mut woken.dialogs,
                Self::ToCrm => &mut woken.crm,
                Self::ToMax => &mut woken.max,
                Self::ToBot => &mut woken.bot,
            }
            .extend(customers);
        });
        Ok(last)
    }
}
