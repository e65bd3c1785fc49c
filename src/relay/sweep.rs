//! The slow look at what waits on disk: rows whose lane is not known are worked on all the same.
//!
//! Every commit wakes the lanes that it gives work to, and a lane is only left when nothing waits in it,
//! so this finds something after a start, and else only what an error of this program has left behind.

use rusqlite::{Connection, params};

use super::Shared;
use super::lanes::CustomerId;
use super::store::{StoreError, Woken};
use crate::time::Millis;

const INTERVAL: Millis = 30_000;
/// Customers looked at in one piece of work, so that a long queue holds nobody up.
const PAGE: usize = 1_000;

/// Where the customers stand who have something waiting: each query goes along the index of its queue.
#[derive(Clone, Copy)]
enum Queue {
    Inbox,
    ToCrm,
    ToMax,
    ToBot,
}

impl Queue {
    const ALL: [Self; 4] = [Self::Inbox, Self::ToCrm, Self::ToMax, Self::ToBot];

    /// The next customers after this one, in the order of their ids.
    fn waiting(self, connection: &Connection, after: CustomerId) -> Result<Vec<CustomerId>, StoreError> {
        let rows = match self {
            Self::Inbox => "inbox WHERE done = 0 AND customer IS NOT NULL",
            Self::ToCrm => "to_crm WHERE dead = 0",
            Self::ToMax => "to_max WHERE state = 'queued'",
            Self::ToBot => "to_bot WHERE 1",
        };
        let sql = format!("SELECT DISTINCT customer FROM {rows} AND customer > ?1 ORDER BY customer LIMIT ?2");
        let page = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let mut statement = connection.prepare_cached(&sql)?;
        let customers = statement.query_map(params![after, page], |row| row.get(0))?;
        Ok(customers.collect::<Result<_, _>>()?)
    }

    fn woken(self, customers: Vec<CustomerId>) -> Woken {
        let mut woken = Woken { reports: true, timers: true, ..Woken::default() };
        match self {
            Self::Inbox => woken.dialogs = customers,
            Self::ToCrm => woken.crm = customers,
            Self::ToMax => woken.max = customers,
            Self::ToBot => woken.bot = customers,
        }
        woken
    }
}

/// Looks again and again until the relay stops.
pub(super) async fn run(shared: &Shared) {
    loop {
        shared.clock.sleep(INTERVAL).await;
        if let Err(error) = once(shared).await {
            shared.store_failed(&error);
        }
    }
}

/// Wakes every lane that has something on disk.
pub(super) async fn once(shared: &Shared) -> Result<(), StoreError> {
    for queue in Queue::ALL {
        let mut after = CustomerId::MIN;
        loop {
            let page = shared
                .store
                .change(move |connection| {
                    let page = queue.waiting(connection, after)?;
                    let last = page.last().copied().filter(|_| page.len() == PAGE);
                    Ok((last, queue.woken(page)))
                })
                .await?;
            match page {
                Some(last) => after = last,
                None => break,
            }
        }
    }
    Ok(())
}
