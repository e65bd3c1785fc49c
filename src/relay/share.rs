//! How much of the CRM's limit is this relay's, where others share it.
//!
//! It is told by the controller and kept on disk, so that a restart goes on with it. A relay that
//! was never told asks next to nothing, for all may be others'; where nobody tells it for
//! [`PATIENCE`], it goes on slowly rather than not at all. A smaller share than before counts as in
//! force only when what was sent under the larger one counts no more: then others may have the
//! rest. One that stands back, and so knows of no CRM, goes on being told: its share is in force
//! again as soon as it may go on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::active::Active;
use super::state::Shared;
use super::store::meta;
use super::store::{Store, StoreError};
use crate::contract::share::{CrmShare, Share};
use crate::creatio::{Client, site};

/// How long a relay waits to be told.
const PATIENCE: Duration = Duration::from_secs(30);

/// What this relay was told.
#[derive(Debug, Default)]
pub(super) struct CrmLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
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
    /// What an earlier run was told.
    pub async fn of(store: &Store) -> Result<Self, StoreError> {
        let kept = store.transact(|tx| meta::get(tx, meta::CRM_SHARE)).await?;
        let told = kept.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Self(Mutex::new(State { told, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the client to the share, where the limit is shared.
    pub fn hold(&self, active: &Active) {
        if let (Some(site), Some(client)) = (shared_site(active), &active.creatio) {
            client.set_pace(self.state().share(&site).pace());
        }
    }
}

/// Whether the relay stands back: it has no CRM until the bot is the channel's again.
const fn stands_back(active: &Active) -> bool {
    active.config.channel.creatio.is_none()
}

/// The CRM, where its limit is shared.
fn shared_site(active: &Active) -> Option<String> {
    let creatio = active.config.channel.creatio.as_ref().filter(|creatio| creatio.limit_is_shared)?;
    Some(site(&creatio.url))
}

impl Shared {
    /// The share that is in force, or will be when the relay goes on; none: the limit is not
    /// shared, or it stands back and was never told.
    pub(super) fn crm_share(&self) -> Option<CrmShare> {
        let active = self.active()?;
        let mut state = self.crm_limit.state();
        if stands_back(&active) {
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
        if !stands_back(&active) && shared_site(&active).as_ref() != Some(&told.site) {
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
    tokio::time::sleep(PATIENCE).await;
    shared.crm_limit.state().is_forgotten = true;
    if let Some(active) = shared.active() {
        shared.crm_limit.hold(&active);
    }
    std::future::pending::<()>().await;
}
