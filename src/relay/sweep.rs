//! The slow look at what waits on disk: rows whose lane is not known are worked on all the same.
//!
//! Every commit wakes the lanes that it gives work to, and a lane is only left when nothing waits
//! in it, so this finds something after a start, and else only what an error of this program has
//! left behind.

use super::state::Shared;
use super::store::StoreError;
use super::store::waiting::Queue;
use crate::contract::CustomerId;
use crate::time::Millis;

const INTERVAL: Millis = 30_000;
/// Customers looked at in one piece of work, so that a long queue holds nobody up.
const PAGE: usize = 1_000;

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
        let mut after = CustomerId::FIRST;
        loop {
            let page = shared.store.transact(move |tx| queue.wake(tx, after, PAGE)).await?;
            match page {
                Some(last) => after = last,
                None => break,
            }
        }
    }
    Ok(())
}
