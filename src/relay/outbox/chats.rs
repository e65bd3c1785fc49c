//! The look at the chats that stands behind the outbox: what was closed without a row is found by
//! it.

use std::collections::HashSet;

use uuid::Uuid;

use super::PollError;
use crate::creatio;
use crate::policy::{ClosedBy, Event};
use crate::relay::active::Active;
use crate::relay::state::Shared;
use crate::relay::store::customer::{self, Customer};
use crate::relay::store::{closing, meta, to_crm};
use crate::time::Millis;

/// How far a look at the chats reaches back behind the newest change seen: long transactions become
/// visible late (Creatio API, 5.4).
const CHATS_OVERLAP: Millis = 30_000;
/// How far the first look reaches back behind the making of the store, for a CRM whose clock is
/// behind ours.
const CHATS_FIRST_OVERLAP: Millis = 24 * 3_600_000;

/// A chat that is completed, has no child and no `closed` row counts as closed; the row has the
/// first word, so the chats count only after a full sweep of the outbox that began after they were
/// read.
pub(super) async fn poll(shared: &Shared, active: &Active, creatio: &creatio::Client) -> Result<(), PollError> {
    let open = shared.store.transact(customer::open_chats).await?;
    let since = shared
        .store
        .transact(|tx| {
            Ok(match meta::number(tx, meta::CHATS_SEEN)? {
                Some(seen) => seen - CHATS_OVERLAP,
                None => meta::moment(tx, meta::Moment::Made)?.unwrap_or(0) - CHATS_FIRST_OVERLAP,
            })
        })
        .await?;
    let since = jiff::Timestamp::from_millisecond(since).unwrap_or_default();
    let completed = creatio.completed_chats(active.config.channel.channel_id(), since).await?;
    let newest = completed.iter().filter_map(|chat| chat.modified_on).map(jiff::Timestamp::as_millisecond).max();
    let completed: HashSet<Uuid> = completed.into_iter().map(|chat| chat.id).collect();
    let mut over = Vec::new();
    for (customer, chat) in open.into_iter().filter(|(_, chat)| completed.contains(chat)) {
        if creatio.children(chat).await?.is_empty() {
            over.push((customer, chat));
        }
    }
    if !over.is_empty() {
        super::poll(shared, active, creatio, &mut 0).await?;
    }
    shared
        .step(active, move |stepper| {
            let tx = stepper.tx;
            let mut waits = false;
            for (customer, chat) in over {
                // The site may have died in a hand-over: its repeat makes the child.
                if to_crm::is_under_way(tx, customer)? {
                    waits = true;
                    continue;
                }
                if closing::note(tx, chat, stepper.context.now)? {
                    let mut customer = Customer::load(tx, customer)?;
                    stepper.step(&mut customer, &Event::ChatClosed { chat, by: ClosedBy::Agent }, None)?;
                    customer.save(tx, stepper.rules)?;
                }
            }
            // What waits is looked at again. By the CRM's own clock; before the first change of a
            // chat there is nothing to go by but ours.
            if !waits && newest > meta::number(tx, meta::CHATS_SEEN)? {
                meta::set(tx, meta::CHATS_SEEN, &newest.unwrap_or_default().to_string())?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}
