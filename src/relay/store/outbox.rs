//! Rows of the CRM's outbox that were taken, and what is to be reported of them.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::receipt::{self, Counted};
use super::{StoreError, Tx, text_of};
use crate::contract::admin::Direction;
use crate::creatio::Report;
use crate::time::Millis;

/// A report as it stands on disk.
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "error", rename_all = "camelCase")]
enum StoredReport {
    Delivered,
    Failed(String),
    Uncertain(String),
}

/// A report that waits, with its text on disk.
pub(in crate::relay) struct Waiting {
    pub row: Uuid,
    pub stored: String,
    pub report: Report,
    pub attempts: u32,
}

/// Notes that a row is taken.
pub(in crate::relay) fn insert(tx: &Tx<'_>, row: Uuid, now: Millis) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached("INSERT INTO outbox (id, taken_at) VALUES (?1, ?2)")?
        .execute(params![row.to_string(), now])?;
    Ok(())
}

/// Whether any of these rows was not taken.
pub(in crate::relay) fn any_unknown(tx: &Tx<'_>, rows: &[Uuid]) -> Result<bool, StoreError> {
    let mut known = tx.connection.prepare_cached("SELECT 1 FROM outbox WHERE id = ?1")?;
    for row in rows {
        if !known.exists([row.to_string()])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether more rows than that wait for MAX, or wait to be reported: the CRM shows them at each
/// look.
pub(in crate::relay) fn more_wait_than(tx: &Tx<'_>, number: usize) -> Result<bool, StoreError> {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    for row in [
        "SELECT 1 FROM to_max WHERE state = 'queued' LIMIT 1 OFFSET ?1",
        "SELECT 1 FROM outbox WHERE report IS NOT NULL AND reported = 0 LIMIT 1 OFFSET ?1",
    ] {
        if tx.connection.prepare_cached(row)?.exists([number])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a row that waits in the CRM was taken before. Reported and not `fresh`: then the report
/// was lost, and repeating it tells the customer nothing twice.
pub(in crate::relay) fn is_known(tx: &Tx<'_>, row: Uuid, fresh: bool, now: Millis) -> Result<bool, StoreError> {
    let id = row.to_string();
    let known: Option<Millis> = tx
        .connection
        .prepare_cached("SELECT reported FROM outbox WHERE id = ?1")?
        .query_row([&id], |found| found.get(0))
        .optional()?;
    if known.is_some_and(|reported| reported > 0) && !fresh {
        receipt::count(tx, receipt::day(now), Direction::ToMax, Counted::Repeated, 1)?;
        tx.connection
            .prepare_cached("UPDATE outbox SET reported = 0 WHERE id = ?1 AND report IS NOT NULL")?
            .execute([&id])?;
        tx.wake(|woken| woken.reports = true);
    }
    Ok(known.is_some())
}

/// Notes what is to be reported of a row.
pub(in crate::relay) fn note_report(tx: &Tx<'_>, row: Uuid, report: &Report) -> Result<(), StoreError> {
    let stored = match report.clone() {
        Report::Delivered => StoredReport::Delivered,
        Report::Failed(words) => StoredReport::Failed(words),
        Report::Uncertain(words) => StoredReport::Uncertain(words),
    };
    tx.connection
        .prepare_cached("UPDATE outbox SET report = ?2, reported = 0, attempts = 0 WHERE id = ?1")?
        .execute(params![row.to_string(), serde_json::to_string(&stored)?])?;
    tx.wake(|woken| woken.reports = true);
    Ok(())
}

/// A report counts only if it is still the one that was sent: a replay may have brought another
/// meanwhile, which has its turn yet.
pub(in crate::relay) fn note_sent(
    tx: &Tx<'_>,
    row: Uuid,
    sent: &str,
    done: bool,
    now: Millis,
) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "UPDATE outbox SET attempts = attempts + 1, reported = CASE WHEN ?3 THEN ?4 ELSE 0 END
             WHERE id = ?1 AND report = ?2",
        )?
        .execute(params![row.to_string(), sent, done, now])?;
    Ok(())
}

/// The reports that wait, and how many could not be read: those are told as failed, so that neither
/// they nor the others wait for ever.
pub(in crate::relay) fn waiting(tx: &Tx<'_>) -> Result<(Vec<Waiting>, usize), StoreError> {
    let rows = tx
        .connection
        .prepare_cached(
            "SELECT id, report, attempts FROM outbox WHERE report IS NOT NULL AND reported = 0
             ORDER BY attempts, taken_at LIMIT 256",
        )?
        .query_map([], |row| Ok((text_of(row, 0)?, text_of(row, 1)?, row.get(2)?)))?
        .collect::<Result<Vec<(String, String, u32)>, _>>()?;
    let mut waiting = Vec::new();
    let mut odd = 0;
    for (id, stored, attempts) in rows {
        let Ok(row) = id.parse::<Uuid>() else {
            // Nobody can be told anything of it.
            odd += 1;
            tx.connection.prepare_cached("UPDATE outbox SET reported = taken_at WHERE id = ?1")?.execute([&id])?;
            continue;
        };
        let report = match serde_json::from_str(&stored) {
            Ok(StoredReport::Delivered) => Report::Delivered,
            Ok(StoredReport::Failed(words)) => Report::Failed(words),
            Ok(StoredReport::Uncertain(words)) => Report::Uncertain(words),
            Err(_) => {
                odd += 1;
                let words = "запись о доставке не читается: уточните у клиента, прежде чем отправлять снова";
                note_report(tx, row, &Report::Failed(words.to_owned()))?;
                continue;
            }
        };
        waiting.push(Waiting { row, stored, report, attempts });
    }
    Ok((waiting, odd))
}
