//! What happens because time has passed: ticks of dialogs, also where somebody sets the clock back,
//! and the forgetting of what is older than the retention.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::active::Active;
use super::state::Shared;
use super::step::Stepper;
use super::store::StoreError;
use super::store::customer::{self, Customer};
use super::store::forget::Forgotten;
use crate::contract::CustomerId;
use crate::policy::Event;
use crate::time::Millis;

const HOUSEKEEPING_INTERVAL: Millis = 600_000;
/// Between two looks at how far the wall has gone beside passed time.
const CLOCK_INTERVAL: Millis = 60_000;
/// What is less is no clock that somebody has set.
const LARGEST_DRIFT: Millis = 1_000;
/// Dialogs in one piece of work, so that none holds the writer.
const PIECE: usize = 200;
/// When a dialog is ticked again that is due still.
const AGAIN: Millis = 5_000;

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

/// How far a clock was set forward that nobody has put right yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ahead {
    by: Millis,
    /// What it showed before.
    since: Millis,
}

/// A clock that was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SetBack {
    by: Millis,
    /// So much of it only undoes that it was ahead: no time of those who were not stepped since.
    undone: Millis,
    since: Millis,
    noticed: Millis,
}

/// What has become of the clock, which shows `now`, and shows `by` less than it would.
fn judge(ahead: &mut Option<Ahead>, by: Millis, now: Millis) -> Option<SetBack> {
    if by < -LARGEST_DRIFT {
        let before = ahead.unwrap_or(Ahead { by: 0, since: now + by });
        *ahead = Some(Ahead { by: before.by - by, ..before });
    }
    if by <= LARGEST_DRIFT {
        return None;
    }
    let was = ahead.take().unwrap_or(Ahead { by: 0, since: now });
    *ahead = Some(Ahead { by: was.by - by, ..was }).filter(|ahead| ahead.by > LARGEST_DRIFT);
    Some(SetBack { by, undone: was.by.min(by), since: was.since, noticed: now })
}

/// Sees to it that a clock which is set back puts no dialog off that nothing steps, until the relay
/// stops.
pub(super) async fn run_clock(shared: &Shared) {
    let shown = || shared.clock.now() - shared.clock.passed();
    let (mut before, mut ahead) = (shown(), None);
    loop {
        shared.clock.sleep(CLOCK_INTERVAL).await;
        let by = before - shown();
        before -= by;
        if let Some(back) = judge(&mut ahead, by, shared.clock.now()) {
            set_back(shared, back).await;
        }
    }
}

async fn set_back(shared: &Shared, back: SetBack) {
    let mut after = CustomerId::FIRST;
    while let Some(active) = shared.active() {
        let (rules, clock) = (active.rules.clone(), shared.clock.clone());
        let piece = shared.store.transact(move |tx| {
            let ids = customer::open_after(tx, after, PIECE)?;
            // Whoever was stepped since then may know of it.
            let knowing = back.noticed - CLOCK_INTERVAL - LARGEST_DRIFT..=clock.now();
            for id in &ids {
                let mut customer = match Customer::load(tx, *id) {
                    Err(error) if error.is_odd_row() => continue,
                    loaded => loaded?,
                };
                let by = if customer.dialog.is_older_than(back.since) { back.by - back.undone } else { back.by };
                if by > 0 && customer.dialog.clock_was_set_back(by, &knowing) {
                    customer.save(tx, &rules)?;
                }
            }
            Ok(ids.last().copied())
        });
        match piece.await {
            Ok(Some(last)) => after = last,
            Ok(None) => return,
            // The same piece again: one that is done must not be moved twice.
            Err(error) => {
                shared.store_failed(&error);
                shared.clock.sleep(1_000).await;
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_only_put_right_takes_no_time_from_those_who_were_not_stepped_since() {
        const HOUR: Millis = 3_600_000;
        let now = 1_796_000_000_000;
        let mut ahead = None;
        let back = |by, undone, since| Some(SetBack { by, undone, since, noticed: now });
        for (by, expected, left, why) in [
            (LARGEST_DRIFT, None, None, "a drift"),
            (HOUR, back(HOUR, 0, now), None, "set back"),
            (-HOUR, None, Some(Ahead { by: HOUR, since: now - HOUR }), "set forward"),
            (-HOUR, None, Some(Ahead { by: 2 * HOUR, since: now - HOUR }), "and once more"),
            (HOUR, back(HOUR, HOUR, now - HOUR), Some(Ahead { by: HOUR, since: now - HOUR }), "half of it undone"),
            (3 * HOUR, back(3 * HOUR, HOUR, now - HOUR), None, "and more than that"),
        ] {
            assert_eq!((judge(&mut ahead, by, now), ahead), (expected, left), "{why}");
        }
    }
}
