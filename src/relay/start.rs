//! How a relay begins: what an earlier run left is taken up, and a fixed number of tasks starts.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::active::Active;
use super::state::Shared;
use super::store::meta::{self, Moment};
use super::store::{StoreError, Tx, customer, gap, inbox, receipt, restored, to_max as queue};
use super::{bot, gaps, holds, intake, mango, outbox, share, sweep, switching, timers, to_crm, to_max};
use crate::contract::config::{ChannelConfig, Intake};
use crate::time::Millis;

/// Files under way at once, each way.
pub(super) const FILES_AT_ONCE: usize = 3;
/// Lanes worked on at once, where no limit of the other side sets the number.
pub(super) const DIALOG_PLACES: usize = 16;
pub(super) const MAX_PLACES: usize = 32;
pub(super) const BOT_PLACES: usize = 16;
/// Workers towards the CRM at the least. More than the spec lets be under way: the client keeps
/// that limit, and lets the slow give way only while others wait there.
const CRM_WORKERS: usize = 32;

/// Workers towards the CRM for these settings.
pub(super) fn crm_workers(active: &Active) -> usize {
    active.config.channel.creatio.as_ref().map_or(CRM_WORKERS, |creatio| creatio.in_flight.max(CRM_WORKERS))
}

/// Takes up what an earlier run left. Returns which subscription was the last that is known, and
/// the moments that are now until MAX's clock is known.
pub(super) fn prepare(tx: &Tx<'_>, now: Millis, channel: &ChannelConfig) -> Result<(Millis, Vec<Moment>), StoreError> {
    let bot_user_id = channel.bot_user_id;
    let mut moments = Vec::new();
    // Of a run in which MAX brought nothing, nothing is known that would be older than this one.
    let made = meta::moment(tx, Moment::Made)?;
    if made.is_none() || (meta::is_by_own_clock(tx, Moment::Made)? && inbox::is_empty(tx)?) {
        meta::set_moment(tx, Moment::Made, now, false)?;
        moments.push(Moment::Made);
    }
    if meta::is_by_own_clock(tx, Moment::Erased)? {
        let erased = meta::moment(tx, Moment::Erased)?.map_or(now, |before| before.max(now));
        meta::set_moment(tx, Moment::Erased, erased, false)?;
        moments.push(Moment::Erased);
    }
    // The store belongs to one bot: its messages and marker mean nothing to another.
    match meta::number(tx, meta::BOT)? {
        Some(known) if known != bot_user_id => {
            return Err(StoreError::Commit(format!("it belongs to the bot {known}, not to {bot_user_id}")));
        }
        Some(_) => {}
        None => meta::set(tx, meta::BOT, &bot_user_id.to_string())?,
    }
    if switching::note(tx, &channel.intake, None, now)? {
        moments.push(Moment::Switched);
    }
    restored::prepare(tx, now, switching::is_by_mango(tx)?)?;
    receipt::prepare(tx, now)?;
    queue::begin_looks_anew(tx)?;
    customer::tick_open(tx, now)?;
    // Of a long poll the marker goes on where it was; webhooks have been answered by nobody since.
    if channel.intake == Intake::Webhook {
        gap::note(tx, gap::newest_update(tx, Millis::MAX)?, gap::Kind::Repeated, now)?;
    }
    Ok((meta::number(tx, meta::SUBSCRIBED_AT)?.unwrap_or(0), moments))
}

/// A fixed number of tasks, whatever is carried: none is left behind per message.
pub(super) fn tasks(shared: &Arc<Shared>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let crm = shared.active().map_or(CRM_WORKERS, |active| crm_workers(&active));
    macro_rules! workers {
        ($count:expr, $lanes:ident, $serve:path) => {
            for _ in 0..$count {
                let shared = Arc::clone(shared);
                tasks.spawn(async move {
                    let mut stopping = shared.stopping.subscribe();
                    loop {
                        let lease = tokio::select! {
                            lease = shared.$lanes.next() => lease,
                            _ = stopping.wait_for(|stopping| *stopping) => return,
                        };
                        let customer = lease.customer();
                        lease.finish($serve(&shared, customer).await);
                        if *stopping.borrow() {
                            return;
                        }
                    }
                });
            }
        };
    }
    workers!(DIALOG_PLACES, dialogs, intake::serve);
    workers!(crm, to_crm, to_crm::serve);
    workers!(MAX_PLACES, to_max, to_max::serve);
    workers!(BOT_PLACES, to_bot, bot::serve);
    workers!(FILES_AT_ONCE, files_in, to_crm::serve_files);
    workers!(FILES_AT_ONCE, files_out, to_max::serve_files);
    macro_rules! background {
        ($run:path) => {{
            let shared = Arc::clone(shared);
            tasks.spawn(async move {
                let mut stopping = shared.stopping.subscribe();
                tokio::select! { () = $run(&shared) => {}, _ = stopping.wait_for(|stopping| *stopping) => {} }
            });
        }};
    }
    background!(intake::poll);
    background!(mango::run);
    background!(gaps::run);
    for _ in 0..gaps::READERS {
        background!(gaps::read);
    }
    background!(outbox::run);
    background!(outbox::reports::run);
    background!(holds::run);
    background!(share::run);
    background!(sweep::run);
    background!(timers::run);
    background!(timers::run_clock);
    background!(timers::run_housekeeping);
    tasks
}
