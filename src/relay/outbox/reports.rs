//! What became of the rows of the CRM's outbox, reported to it: several at once, one of each row at
//! a time.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use uuid::Uuid;

use super::ready;
use crate::creatio;
use crate::relay::metrics::Odd;
use crate::relay::pause;
use crate::relay::state::Shared;
use crate::relay::store::outbox::{self as rows, Waiting};
use crate::time::Millis;

/// A report that the CRM does not show after so long was lost.
const REPORT_VISIBLE: Millis = 10_000;
const REPORTS_AT_ONCE: usize = 4;

impl Shared {
    /// A row was reported a moment ago.
    fn note_reported(&self, row: Uuid) {
        let now = self.clock.passed();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.retain(|_, at| now - *at <= REPORT_VISIBLE);
        reported.insert(row, now);
    }

    /// Rows that may be shown as pending still although their report has arrived. Of an earlier run
    /// none is known: repeating a report does no harm.
    pub(super) fn fresh_reports(&self) -> HashSet<Uuid> {
        let now = self.clock.passed();
        let reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.iter().filter(|(_, at)| now - **at <= REPORT_VISIBLE).map(|(row, _)| *row).collect()
    }
}

/// Reports finished rows until the relay stops: several at once, one of each row at a time. One
/// that fails waits by itself.
pub(in crate::relay) async fn run(shared: &Shared) {
    let mut under_way = FuturesUnordered::new();
    // Rows under way, with whether they had failed before.
    let mut busy: HashMap<Uuid, bool> = HashMap::new();
    // Rows that failed, until when, in passed time.
    let mut later: HashMap<Uuid, Millis> = HashMap::new();
    loop {
        let now = shared.clock.passed();
        later.retain(|_, until| *until > now);
        // While the CRM is away the look at the outbox asks for all.
        if let Some((_, creatio)) = ready(shared).filter(|_| !shared.crm_is_away()) {
            let (waiting, odd) = shared.store.transact(rows::waiting).await.unwrap_or_default();
            shared.metrics.set_aside(Odd::StoreRow, odd);
            for report in waiting {
                let again = report.attempts > 0;
                let retries = busy.values().filter(|again| **again).count();
                let full = busy.len() >= REPORTS_AT_ONCE || (again && retries >= REPORTS_AT_ONCE / 2);
                if full || busy.contains_key(&report.row) || later.contains_key(&report.row) {
                    continue;
                }
                busy.insert(report.row, again);
                under_way.push(send_report(shared, creatio.clone(), report));
            }
        }
        let due = later.values().min().copied();
        tokio::select! {
            Some((row, failed)) = under_way.next(), if !under_way.is_empty() => {
                busy.remove(&row);
                if let Some(pause) = failed {
                    later.insert(row, shared.clock.passed() + pause);
                }
            }
            () = shared.clock.sleep_until_passed(due.unwrap_or_default()), if due.is_some() => {}
            () = shared.report_wake.notified() => {}
        }
    }
}

/// Reports one row. Returns how long it has to wait where that failed.
async fn send_report(shared: &Shared, creatio: creatio::Client, waiting: Waiting) -> (Uuid, Option<Millis>) {
    let Waiting { row, stored, report, attempts } = waiting;
    let done = match creatio.report(row, &report).await {
        Ok(()) => true,
        // The package deletes finished rows after 30 days.
        Err(error) => error.class() == creatio::Class::NotFound,
    };
    if done {
        shared.note_reported(row);
    }
    let now = shared.clock.now();
    let written = shared.store.transact(move |tx| rows::note_sent(tx, row, &stored, done, now)).await;
    let failed = !done || written.is_err();
    (row, failed.then(|| pause(attempts)))
}
