//! What a side has asked for by `Retry-After`, kept over a restart: a relay that is started again
//! and again would otherwise ask at every start a side that wants to be left alone.
//!
//! On disk stands how long was asked for, and when by the wall. After a start what is left of it
//! binds again: never more than was asked for, however the clock was set meanwhile.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};

use super::active::Active;
use super::state::Shared;
use super::store::{Store, StoreError, Tx, meta};
use super::timers::changed;
use crate::policy::BotRole;
use crate::time::Millis;
use crate::transport::{Changes, Hold};

/// Somebody who may ask to be left alone.
struct Side {
    /// The name of the fact on disk.
    key: &'static str,
    /// Another address is another side.
    address: String,
    hold: Hold,
}

/// A pause that the other side asked for, as it stands on disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    address: String,
    /// By the wall.
    asked_at: Millis,
    millis: Millis,
}

fn sides(active: &Active) -> Vec<Side> {
    let channel = &active.config.channel;
    let mut sides =
        vec![Side { key: "hold_max", address: channel.max.base_url.to_string(), hold: active.max.hold().clone() }];
    if let (Some(settings), Some(creatio)) = (&channel.creatio, &active.creatio) {
        sides.push(Side { key: "hold_crm", address: settings.url.to_string(), hold: creatio.hold().clone() });
    }
    if let Some(mango) = active.mango.as_ref().or(active.left.as_ref()) {
        let address = mango.config.base_url.to_string();
        sides.push(Side { key: "hold_mango", address, hold: mango.client.hold().clone() });
    }
    for (key, role, bot) in [
        ("hold_bot", BotRole::Receiver, &channel.bot),
        ("hold_off_hours_bot", BotRole::OffHours, &channel.off_hours_bot),
    ] {
        if let Some(bot) = bot {
            sides.push(Side { key, address: bot.url.to_string(), hold: active.bot_hold(role).clone() });
        }
    }
    sides
}

/// Lets what was asked for before the start, or under other settings for the same side, bind again.
pub(super) async fn restore(store: &Store, active: &Active, now: Millis) -> Result<(), StoreError> {
    for side in sides(active) {
        let key = side.key;
        let kept = store.transact(move |tx| meta::get(tx, key)).await?;
        // One that cannot be read binds nobody.
        let kept = kept.and_then(|text| serde_json::from_str::<Kept>(&text).ok());
        if let Some(kept) = kept.filter(|kept| kept.address == side.address) {
            side.hold.for_at_least(left(&kept, now));
        }
    }
    Ok(())
}

fn left(kept: &Kept, now: Millis) -> Duration {
    let passed = now.saturating_sub(kept.asked_at).max(0);
    Duration::from_millis(u64::try_from(kept.millis.saturating_sub(passed)).unwrap_or(0))
}

/// Writes down what every side asks for until the relay stops.
pub(super) async fn run(shared: &Shared) {
    let mut settings = shared.active.subscribe();
    loop {
        let active = settings.borrow_and_update().clone();
        let sides = active.as_deref().map(sides).unwrap_or_default();
        let mut changes = FuturesUnordered::new();
        for side in &sides {
            let next = side.hold.changes();
            // What came while nobody listened.
            keep(shared, side).await;
            changes.push(next_of(side, next));
        }
        loop {
            tokio::select! {
                Some((side, next)) = changes.next() => {
                    keep(shared, side).await;
                    changes.push(next_of(side, next));
                }
                () = changed(&mut settings) => break,
            }
        }
    }
}

/// Writes down what binds now.
pub(super) async fn keep_all(shared: &Shared) {
    for side in shared.active().as_deref().map(sides).unwrap_or_default() {
        keep(shared, &side).await;
    }
}

async fn next_of(side: &Side, mut changes: Changes) -> (&Side, Changes) {
    changes.next().await;
    (side, changes)
}

async fn keep(shared: &Shared, side: &Side) {
    let Some(left) = side.hold.left() else { return };
    let kept = Kept {
        address: side.address.clone(),
        asked_at: shared.clock.now(),
        millis: Millis::try_from(left.as_millis()).unwrap_or(Millis::MAX),
    };
    let key = side.key;
    let kept = shared.store.transact(move |tx| write(tx, key, &kept)).await;
    if let Err(error) = kept {
        shared.store_failed(&error);
    }
}

fn write(tx: &Tx<'_>, key: &str, kept: &Kept) -> Result<(), StoreError> {
    meta::set(tx, key, &serde_json::to_string(kept)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_clock_makes_a_wish_longer_than_it_was() {
        let kept = Kept { address: String::new(), asked_at: 1_000_000, millis: 30_000 };
        for (now, seconds) in [(1_000_000, 30), (1_010_000, 20), (1_030_000, 0), (2_000_000, 0), (0, 30), (-5, 30)] {
            assert_eq!(left(&kept, now), Duration::from_secs(seconds), "{now}");
        }
    }
}
