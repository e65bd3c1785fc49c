//! How much of the CRM's limit is this relay's, where others share it.
//!
//! It is told by the controller and kept on disk, so that a restart goes on with it. A relay that
//! was never told asks next to nothing, for all may be others'; where nobody tells it for
//! [`PATIENCE`], it goes on slowly rather than not at all. A smaller share than before counts as in
//! force only when what was sent under the larger one counts no more: then others may have the
//! rest. One that is suspended, be it because another has the bot, or goes to another CRM gives its
//! share up for good, and is told anew when it comes back. One that only has no credentials for the
//! CRM goes on being told: its share is in force again as soon as it has them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::active::Active;
use super::state::Shared;
use super::store::meta;
use super::store::{StoreError, Tx};
use crate::contract::share::{CrmShare, Share};
use crate::creatio::{Client, site};

/// How long a relay waits to be told.
const PATIENCE: Duration = Duration::from_secs(30);

/// What this relay was told.
#[derive(Debug, Default)]
pub(super) struct CrmLimit {
    state: Mutex<State>,
    /// The relay has begun to ask a CRM that it did not ask before.
    begins: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The CRM that the relay asks, where its limit is shared.
    asks: Option<String>,
    told: Option<CrmShare>,
    /// In force until what was sent under it counts no more.
    before: Option<Share>,
    is_forgotten: bool,
}

impl State {
    fn share(&self, site: &str) -> Share {
        let told = self.told.as_ref().filter(|told| told.site == site).map(|told| told.share);
        told.unwrap_or(if self.is_forgotten { Share::FORGOTTEN } else { Share::UNTOLD })
    }
}

impl CrmLimit {
    pub const fn new(told: Option<CrmShare>) -> Self {
        let state = State { asks: None, told, before: None, is_forgotten: false };
        Self { state: Mutex::new(state), begins: Notify::const_new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the client to the share under these settings, where the limit is shared.
    pub fn hold(&self, active: &Active) {
        let mut state = self.state();
        state.told.take_if(|told| is_given_up(told, active));
        let asks = asked_site(active);
        if !lacks_crm(active) && state.asks != asks {
            (state.asks, state.before, state.is_forgotten) = (asks, None, false);
            self.begins.notify_one();
        }
        if let (Some(site), Some(client)) = (shared_site(active), &active.creatio) {
            client.set_pace(state.share(&site).pace());
        }
    }
}

/// What an earlier run, or the settings before these, leave of what was told.
pub(super) fn keep(tx: &Tx<'_>, active: &Active) -> Result<Option<CrmShare>, StoreError> {
    let kept = meta::get(tx, meta::CRM_SHARE)?;
    let told = kept.as_ref().and_then(|text| serde_json::from_str(text).ok());
    let told = told.filter(|told| !is_given_up(told, active));
    if kept.is_some() && told.is_none() {
        meta::remove(tx, meta::CRM_SHARE)?;
    }
    Ok(told)
}

/// Whether others may have a share of this relay's, under these settings: it asks that CRM no more.
fn is_given_up(told: &CrmShare, active: &Active) -> bool {
    !lacks_crm(active) && asked_site(active).as_ref() != Some(&told.site)
}

/// Whether the relay works without its CRM until it has credentials for it.
const fn lacks_crm(active: &Active) -> bool {
    active.config.channel.creatio.is_none() && !active.config.channel.suspended
}

/// The CRM that the relay asks, where its limit is shared.
fn asked_site(active: &Active) -> Option<String> {
    shared_site(active).filter(|_| !active.config.channel.suspended)
}

/// The CRM, where its limit is shared.
fn shared_site(active: &Active) -> Option<String> {
    let creatio = active.config.channel.creatio.as_ref().filter(|creatio| creatio.limit_is_shared)?;
    Some(site(&creatio.url))
}

impl Shared {
    /// The share that is in force, or will be when the relay goes on; none: the limit is not
    /// shared, or it has no CRM now and was never told.
    pub(super) fn crm_share(&self) -> Option<CrmShare> {
        let active = self.active()?;
        let mut state = self.crm_limit.state();
        if lacks_crm(&active) {
            state.before = None;
            return state.told.clone();
        }
        let site = shared_site(&active)?;
        if active.creatio.as_ref().is_none_or(Client::keeps_pace) {
            state.before = None;
        }
        let share = state.before.unwrap_or_else(|| state.share(&site));
        Some(CrmShare { site, share })
    }

    /// How much this relay may ask of the CRM, whether that is shared or not.
    pub(super) fn crm_requests_per_second(&self) -> f64 {
        let whole = || {
            let active = self.active();
            let limit = active.as_ref().and_then(|active| active.config.channel.creatio.as_ref());
            limit.map_or(0, |creatio| u32::try_from(creatio.requests_per_second).unwrap_or(u32::MAX)).into()
        };
        self.crm_share().map_or_else(whole, |held| held.share.per_second())
    }

    /// Takes a share. False: it is not of the CRM of the settings in force.
    ///
    /// # Errors
    /// It could not be kept, so the one before stays in force.
    pub(super) async fn take_share(&self, told: CrmShare) -> Result<bool, StoreError> {
        let Some(active) = self.active() else { return Ok(false) };
        if is_given_up(&told, &active) {
            return Ok(false);
        }
        let Ok(text) = serde_json::to_string(&told) else { return Ok(false) };
        self.store.transact(move |tx| meta::set(tx, meta::CRM_SHARE, &text)).await?;
        {
            let mut state = self.crm_limit.state();
            let held = state.before.unwrap_or_else(|| state.share(&told.site));
            state.before = Some(held).filter(|held| held.weight() > told.share.weight());
            if let Some(client) = &active.creatio {
                client.set_pace(told.share.pace());
            }
            state.told = Some(told);
        }
        // The settings may have become others meanwhile.
        if let Some(active) = self.active() {
            self.crm_limit.hold(&active);
        }
        Ok(true)
    }
}

/// Goes on slowly where nobody says how much there is.
pub(super) async fn run(shared: &Shared) {
    let limit = &shared.crm_limit;
    loop {
        if tokio::time::timeout(PATIENCE, limit.begins.notified()).await.is_ok() {
            continue;
        }
        limit.state().is_forgotten = true;
        if let Some(active) = shared.active() {
            limit.hold(&active);
        }
        limit.begins.notified().await;
    }
}
