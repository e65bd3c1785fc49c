//! What became of every message, counted by the day on which it came and in the transaction in
//! which it happens, so that rows may be forgotten and the counts stay.
//!
//! For each day and direction
//! `received = delivered + dead + uncertain + withheld + erased + waiting`, where what waits is not
//! counted but is there, as rows. A row that goes without a word of what became of it is therefore
//! missing in the sum, and one that is told twice exceeds it.
//!
//! `received`: updates written to the inbox; agents' messages taken from the CRM's outbox; what a
//! bot and the channel itself say. `withheld`: what nobody is to be shown, such as a start, what
//! happens in a group, an unknown update, or a reply that is overdue. The relay's own notes are
//! counted nowhere, nor is what came before the counts.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::{StoreError, Tx, meta};
use crate::contract::CustomerId;
use crate::contract::admin::Direction;
use crate::time::Millis;

/// Appended to the schema by a migration of its own.
pub(super) const TABLES: &str = "
CREATE TABLE receipt (
    day       INTEGER NOT NULL,                    -- on which the message came: days since 1970, UTC
    to_max    INTEGER NOT NULL,                    -- 0: from the customer to the CRM; 1: to the customer
    received  INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    dead      INTEGER NOT NULL DEFAULT 0,
    uncertain INTEGER NOT NULL DEFAULT 0,
    withheld  INTEGER NOT NULL DEFAULT 0,
    erased    INTEGER NOT NULL DEFAULT 0,
    repeated  INTEGER NOT NULL DEFAULT 0,          -- came again, and was known
    doubled   INTEGER NOT NULL DEFAULT 0,          -- went into a queue again although it was done with
    PRIMARY KEY (day, to_max)
) WITHOUT ROWID;

-- On which day the message came; NULL: it is not counted.
ALTER TABLE inbox ADD COLUMN day INTEGER;
ALTER TABLE to_crm ADD COLUMN day INTEGER;
ALTER TABLE to_max ADD COLUMN day INTEGER;

-- What waits is counted along these.
DROP INDEX inbox_waiting;
CREATE INDEX inbox_waiting ON inbox (received_at, day) WHERE done = 0;
DROP INDEX to_crm_age;
CREATE INDEX to_crm_age ON to_crm (created_at, day) WHERE dead = 0;
DROP INDEX to_max_waiting;
CREATE INDEX to_max_waiting ON to_max (created_at, day) WHERE state = 'queued';

CREATE TRIGGER to_crm_receipt_insert AFTER INSERT ON to_crm WHEN new.dead = 1 AND new.day IS NOT NULL BEGIN
    INSERT INTO receipt (day, to_max, dead) VALUES (new.day, 0, 1)
    ON CONFLICT (day, to_max) DO UPDATE SET dead = dead + 1;
END;
CREATE TRIGGER to_crm_receipt_update AFTER UPDATE OF dead ON to_crm
WHEN new.dead <> old.dead AND new.day IS NOT NULL BEGIN
    INSERT INTO receipt (day, to_max, dead) VALUES (new.day, 0, new.dead - old.dead)
    ON CONFLICT (day, to_max) DO UPDATE SET dead = dead + excluded.dead;
END;
CREATE TRIGGER to_max_receipt_update AFTER UPDATE OF state ON to_max
WHEN new.state <> old.state AND new.day IS NOT NULL BEGIN
    INSERT INTO receipt (day, to_max, delivered, dead, uncertain, doubled)
    VALUES (new.day, 1, (new.state = 'sent') - (old.state = 'sent'), (new.state = 'failed') - (old.state = 'failed'),
            (new.state = 'uncertain') - (old.state = 'uncertain'), old.state = 'sent')
    ON CONFLICT (day, to_max) DO UPDATE SET delivered = delivered + excluded.delivered, dead = dead + excluded.dead,
        uncertain = uncertain + excluded.uncertain, doubled = doubled + excluded.doubled;
END;
";

/// Since when messages are counted in this store, milliseconds since the epoch.
const SINCE: &str = "receipt_since";

const DAY: Millis = 86_400_000;

/// What is counted where it happens; the rest the database counts by itself, where a row changes
/// its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum Counted {
    Received,
    Delivered,
    Withheld,
    Erased,
    Repeated,
    Doubled,
}

/// The counts of some time in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::relay) struct Counts {
    pub received: i64,
    pub delivered: i64,
    pub dead: i64,
    pub uncertain: i64,
    pub withheld: i64,
    pub erased: i64,
    pub repeated: i64,
    pub doubled: i64,
    /// Rows that are there.
    pub waiting: i64,
}

/// An update that the rules take: on which day it came, and how often it went into the queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taking {
    day: Option<i64>,
    handed: i64,
}

/// The day of a moment.
pub(in crate::relay) const fn day(at: Millis) -> i64 {
    at.div_euclid(DAY)
}

/// Counts messages of a day.
pub(in crate::relay) fn count(
    tx: &Tx<'_>,
    day: i64,
    direction: Direction,
    what: Counted,
    number: i64,
) -> Result<(), StoreError> {
    let column = match what {
        Counted::Received => "received",
        Counted::Delivered => "delivered",
        Counted::Withheld => "withheld",
        Counted::Erased => "erased",
        Counted::Repeated => "repeated",
        Counted::Doubled => "doubled",
    };
    let sql = format!(
        "INSERT INTO receipt (day, to_max, {column}) VALUES (?1, ?2, ?3)
         ON CONFLICT (day, to_max) DO UPDATE SET {column} = {column} + ?3"
    );
    let to_max = direction == Direction::ToMax;
    tx.connection.prepare_cached(&sql)?.execute(params![day, to_max, number])?;
    Ok(())
}

/// The rules take an update of that day.
pub(in crate::relay) fn begin(tx: &Tx<'_>, day: Option<i64>) {
    tx.taking.set(Taking { day, handed: 0 });
}

/// What the update says goes into the queue now: the day that its row bears. A second row for one
/// update would be shown twice.
pub(in crate::relay) fn hand_over(tx: &Tx<'_>) -> Result<Option<i64>, StoreError> {
    let Taking { day, handed } = tx.taking.get();
    tx.taking.set(Taking { day, handed: handed + 1 });
    match day {
        Some(day) if handed > 0 => {
            count(tx, day, Direction::ToCrm, Counted::Doubled, 1)?;
            Ok(None)
        }
        day => Ok(day),
    }
}

/// What goes into the queue for this update from now on are words of the relay's own.
pub(in crate::relay) fn leave_it_at_that(tx: &Tx<'_>) {
    tx.taking.set(Taking { day: None, ..tx.taking.get() });
}

/// The update is taken. One that went into no queue is withheld where that may be; else nothing is
/// told of it, and it is missing in the sum.
pub(in crate::relay) fn end(tx: &Tx<'_>, may_be_withheld: bool) -> Result<(), StoreError> {
    match tx.taking.take() {
        Taking { day: Some(day), handed: 0 } if may_be_withheld => {
            count(tx, day, Direction::ToCrm, Counted::Withheld, 1)
        }
        _ => Ok(()),
    }
}

/// What of a customer's still waits is about to be erased.
pub(in crate::relay) fn erase(tx: &Tx<'_>, id: CustomerId) -> Result<(), StoreError> {
    for (direction, rows) in [
        (Direction::ToCrm, "inbox WHERE done = 0"),
        (Direction::ToCrm, "to_crm WHERE dead = 0"),
        (Direction::ToMax, "to_max WHERE state = 'queued'"),
    ] {
        let waiting = tx
            .connection
            .prepare(&format!("SELECT day, count(*) FROM {rows} AND customer = ?1 AND day IS NOT NULL GROUP BY day"))?
            .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<Vec<(i64, i64)>, _>>()?;
        for (day, number) in waiting {
            count(tx, day, direction, Counted::Erased, number)?;
        }
    }
    Ok(())
}

/// Counting begins with the first relay that opens the store and counts.
pub(in crate::relay) fn prepare(tx: &Tx<'_>, now: Millis) -> Result<(), StoreError> {
    if meta::number(tx, SINCE)?.is_none() {
        meta::set(tx, SINCE, &now.to_string())?;
    }
    Ok(())
}

/// Since when messages are counted.
pub(in crate::relay) fn since(tx: &Tx<'_>) -> Result<Option<Millis>, StoreError> {
    meta::number(tx, SINCE)
}

/// The counts of one day (none: of each), by the day, to the CRM and to MAX.
pub(in crate::relay) fn read(tx: &Tx<'_>, day: Option<i64>) -> Result<[BTreeMap<i64, Counts>; 2], StoreError> {
    let of = |direction: Direction| -> Result<BTreeMap<i64, Counts>, StoreError> {
        let to_max = direction == Direction::ToMax;
        let mut days = tx
            .connection
            .prepare_cached(
                "SELECT day, received, delivered, dead, uncertain, withheld, erased, repeated, doubled
                 FROM receipt WHERE to_max = ?1 AND (?2 IS NULL OR day = ?2)",
            )?
            .query_map(params![to_max, day], |row| {
                let counts = Counts {
                    received: row.get(1)?,
                    delivered: row.get(2)?,
                    dead: row.get(3)?,
                    uncertain: row.get(4)?,
                    withheld: row.get(5)?,
                    erased: row.get(6)?,
                    repeated: row.get(7)?,
                    doubled: row.get(8)?,
                    waiting: 0,
                };
                Ok((row.get(0)?, counts))
            })?
            .collect::<Result<BTreeMap<i64, Counts>, _>>()?;
        let rows: &[&str] = if to_max {
            &["to_max WHERE state = 'queued'"]
        } else {
            &["inbox WHERE done = 0", "to_crm WHERE dead = 0"]
        };
        for rows in rows {
            let sql = format!(
                "SELECT day, count(*) FROM {rows} AND day IS NOT NULL AND (?1 IS NULL OR day = ?1) GROUP BY day"
            );
            let mut statement = tx.connection.prepare_cached(&sql)?;
            for waiting in statement.query_map([day], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))? {
                let (day, number) = waiting?;
                days.entry(day).or_default().waiting += number;
            }
        }
        Ok(days)
    };
    Ok([of(Direction::ToCrm)?, of(Direction::ToMax)?])
}

/// The days on which something was counted, not before that one, the newest first.
pub(in crate::relay) fn days(tx: &Tx<'_>, from: i64) -> Result<Vec<i64>, StoreError> {
    let mut statement =
        tx.connection.prepare_cached("SELECT DISTINCT day FROM receipt WHERE day >= ?1 ORDER BY day DESC")?;
    let days = statement.query_map([from], |row| row.get(0))?;
    Ok(days.collect::<Result<_, _>>()?)
}

/// Takes a row out of a queue, of which `what` has become.
pub(super) fn remove(tx: &Tx<'_>, direction: Direction, row: i64, what: Counted) -> Result<(), StoreError> {
    // One statement that gives back what it deletes makes a table for that at each call.
    let (find, delete) = match direction {
        Direction::ToCrm => ("SELECT day FROM to_crm WHERE id = ?1", "DELETE FROM to_crm WHERE id = ?1"),
        Direction::ToMax => ("SELECT day FROM to_max WHERE id = ?1", "DELETE FROM to_max WHERE id = ?1"),
    };
    let day: Option<Option<i64>> = tx.connection.prepare_cached(find)?.query_row([row], |row| row.get(0)).optional()?;
    tx.connection.prepare_cached(delete)?.execute([row])?;
    match day.flatten() {
        Some(day) => count(tx, day, direction, what, 1),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FILE, Store, inbox};
    use super::*;
    use crate::relay::store::customer::Customer;
    use crate::relay::store::to_crm::{self, CrmTask};
    use crate::relay::store::to_max::{self, Origin, Part, State};

    const NOW: Millis = 1_796_000_000_000;

    /// One message each way, each in its queue.
    fn make(tx: &Tx<'_>) -> Result<i64, StoreError> {
        let id = CustomerId::new(7);
        inbox::insert(tx, "message_created:a", Some(id), (NOW, 1), "{}", NOW)?;
        let customer = Customer { id, ..Customer::default() };
        for row in inbox::waiting(tx, id, 9)? {
            begin(tx, row.day);
            let day = hand_over(tx)?;
            to_crm::push(tx, &customer, &CrmTask::HandOver, row.position, day, NOW)?;
            end(tx, false)?;
            inbox::set_state(tx, row.id, inbox::State::Taken)?;
        }
        to_max::push(tx, id, &Origin::Bot, &[Part::default()], NOW)
    }

    /// All is of one day.
    fn read_one(tx: &Tx<'_>) -> Result<[Counts; 2], StoreError> {
        let days = read(tx, None)?;
        assert!(days.iter().all(|days| days.len() == 1 && days.contains_key(&day(NOW))), "{days:?}");
        Ok(days.map(|days| days.into_values().next().unwrap_or_default()))
    }

    fn off(counts: [Counts; 2]) -> [i64; 2] {
        counts.map(|of| of.received - of.delivered - of.dead - of.uncertain - of.withheld - of.erased - of.waiting)
    }

    #[tokio::test]
    async fn a_row_that_goes_without_a_word_is_missing_in_the_sum() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join(FILE)).unwrap();
        let before = store.transact(|tx| make(tx).and_then(|_| read_one(tx))).await.unwrap();
        assert_eq!((off(before), before[0].waiting, before[1].waiting), ([0, 0], 1, 1));
        let gone = store
            .transact(|tx| {
                tx.connection.execute("DELETE FROM to_crm", [])?;
                tx.connection.execute("DELETE FROM to_max", [])?;
                read_one(tx)
            })
            .await
            .unwrap();
        assert_eq!(off(gone), [1, 1]);
    }

    #[tokio::test]
    async fn what_is_sent_twice_and_what_is_queued_twice_is_doubled() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join(FILE)).unwrap();
        let counts = store
            .transact(|tx| {
                let row = make(tx)?;
                to_max::end(tx, row, &[], 1, (State::Sent, None), NOW)?;
                to_max::advance(tx, row, &[], 0)?;
                begin(tx, Some(day(NOW)));
                assert_eq!((hand_over(tx)?, hand_over(tx)?), (Some(day(NOW)), None));
                end(tx, true)?;
                read_one(tx)
            })
            .await
            .unwrap();
        assert_eq!(counts.map(|of| of.doubled), [1, 1]);
    }
}
