//! What happens because time has passed: ticks of dialogs, and the forgetting of what is older than
//! the retention.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::active::Active;
use super::state::Shared;
use super::step::Stepper;
use super::store::StoreError;
use super::store::customer::{self, Customer};
use super::store::forget::Forgotten;
use crate::policy::Event;
use crate::time::Millis;

const HOUSEKEEPING_INTERVAL: Millis = 600_000;
/// When a dialog is ticked again that is due still.
const AGAIN: Millis = 1_000;

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
        // Whatever is due sooner than what is found here was written after the look, and wakes.
        shared.next_tick.store(Millis::MAX, Ordering::Relaxed);
        let next = shared.store.transact(customer::next_due).await.unwrap_or(None);
        let now = shared.clock.now();
        match next {
            Some(due) if due <= now => {
                let active = settings.borrow_and_update().clone();
                let Some(active) = active.filter(|active| !active.config.channel.suspended) else {
                    changed(&mut settings).await;
                    continue;
                };
                if let Err(error) = shared.step(&active, tick).await {
                    shared.store_failed(&error);
                    shared.clock.sleep(1_000).await;
                }
            }
            Some(due) => {
                shared.next_tick.store(due, Ordering::Relaxed);
                tokio::select! { () = shared.clock.sleep_until(due) => {}, () = shared.timer_wake.notified() => {} }
            }
            None => shared.timer_wake.notified().await,
        }
    }
}

/// Ticks the dialogs that are due, a hundred at a time.
fn tick(stepper: &Stepper<'_>) -> Result<(), StoreError> {
    let Stepper { tx, rules, context, .. } = *stepper;
    for id in customer::due(tx, context.now)? {
        let mut customer = Customer::load(tx, id)?;
        stepper.step(&mut customer, &Event::Tick, None)?;
        customer.save(tx, rules)?;
        // What must not happen yet keeps nothing waiting that may.
        if crate::policy::next_due(rules, &customer.dialog).is_some_and(|next| next <= context.now) {
            customer::put_off(tx, id, context.now + AGAIN)?;
        }
    }
    Ok(())
}

/// Forgets what is older than the retention, and keeps the count of open dialogs, until the relay
/// stops.
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

async fn forget(shared: &Shared, now: Millis, before: Millis) -> Result<(), StoreError> {
    for kind in Forgotten::all() {
        while shared.store.transact(move |tx| kind.forget(tx, now, before)).await? {}
    }
    Ok(())
}
