//! What happens because time has passed: ticks of dialogs, and the forgetting of what is older than the retention.

use std::sync::Arc;

use tokio::sync::watch;

use super::dialogs::{Customer, Stepper, Woken};
use super::lanes::CustomerId;
use super::store::StoreError;
use super::store::gap::KEYS_KEPT;
use super::{Active, Shared};
use crate::policy::{Context, Event, Rules};
use crate::time::Millis;

const HOUSEKEEPING_INTERVAL: Millis = 600_000;

/// Waits for other settings than those last seen through `settings`.
pub(super) async fn changed(settings: &mut watch::Receiver<Option<Arc<Active>>>) {
    if settings.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Steps every dialog whose moment has come, until the relay stops.
pub(super) async fn run(shared: &Shared) {
    let mut settings = shared.active.subscribe();
    loop {
        let next = shared
            .store
            .write(|connection| {
                Ok(connection
                    .query_row("SELECT min(due_at) FROM customer", [], |row| row.get::<_, Option<Millis>>(0))?)
            })
            .await
            .unwrap_or(None);
        let now = shared.clock.now();
        match next {
            Some(due) if due <= now => {
                let active = settings.borrow_and_update().clone();
                let Some(active) = active.filter(|active| !active.config.channel.suspended) else {
                    changed(&mut settings).await;
                    continue;
                };
                let rules = active.rules.clone();
                let context = shared.context();
                match shared.store.change(move |connection| tick(connection, &rules, context)).await {
                    Ok(stuck) => {
                        if stuck {
                            shared.clock.sleep(1_000).await;
                        }
                    }
                    Err(error) => {
                        shared.store_failed(&error);
                        shared.clock.sleep(1_000).await;
                    }
                }
            }
            Some(due) => {
                tokio::select! { () = shared.clock.sleep_until(due) => {}, () = shared.timer_wake.notified() => {} }
            }
            None => shared.timer_wake.notified().await,
        }
    }
}

/// Ticks the dialogs that are due, a hundred at a time. `stuck`: one of them is due still, so that a pause is in order.
fn tick(connection: &rusqlite::Connection, rules: &Rules, context: Context) -> Result<(bool, Woken), StoreError> {
    let due = connection
        .prepare_cached("SELECT id FROM customer WHERE due_at <= ?1 ORDER BY due_at LIMIT 100")?
        .query_map([context.now], |row| row.get(0))?
        .collect::<Result<Vec<CustomerId>, _>>()?;
    let mut stepper = Stepper { connection, rules, context, woken: Woken::default() };
    let mut stuck = false;
    for id in due {
        let mut customer = Customer::load(connection, id)?;
        stepper.step(&mut customer, &Event::Tick, None)?;
        customer.save(connection, rules)?;
        stuck |= crate::policy::next_due(rules, &customer.dialog).is_some_and(|next| next <= context.now);
    }
    Ok((stuck, stepper.woken))
}

/// Forgets what is older than the retention, and keeps the count of open dialogs, until the relay stops.
pub(super) async fn run_housekeeping(shared: &Shared) {
    loop {
        if let Some(active) = shared.active() {
            let now = shared.clock.now();
            let retention =
                Millis::try_from(active.config.channel.retention_seconds).unwrap_or(Millis::MAX / 2_000) * 1_000;
            let before = now.saturating_sub(retention);
            let swept = forget(shared, now, before).await;
            if let Err(error) = swept {
                shared.store_failed(&error);
            }
        }
        shared.clock.sleep(HOUSEKEEPING_INTERVAL).await;
    }
}

/// What is forgotten, in pieces: the content of messages after the retention, the keys against repeats later, whatever it is.
/// `?1` is the end of the retention, `?2` of updates' keys, `?3` of the CRM's.
const FORGOTTEN: [&str; 7] = [
    "UPDATE inbox SET raw = '' WHERE id IN (SELECT id FROM inbox WHERE done > 0 AND received_at < ?1 AND raw <> '' LIMIT ?4)",
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

async fn forget(shared: &Shared, now: Millis, before: Millis) -> Result<(), StoreError> {
    for sql in FORGOTTEN {
        loop {
            let gone = shared
                .store
                .write(move |connection| {
                    let piece = i64::try_from(PIECE).unwrap_or(i64::MAX);
                    let mut statement = connection.prepare_cached(sql)?;
                    let (updates, crm) = (now - KEYS_KEPT, now - CRM_KEYS_KEPT);
                    Ok(statement.execute(rusqlite::params![before, updates, crm, piece])?)
                })
                .await?;
            if gone < PIECE {
                break;
            }
        }
    }
    Ok(())
}
