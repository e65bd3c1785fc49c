//! What a relay knows of itself and of both sides. Facts only: conditions are made of them elsewhere.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::metrics::Way;
use super::state::Shared;
use super::store::counts::{self, Counts};
use super::store::{StoreError, Tx, customer};
use crate::policy::Rules;
use crate::time::Millis;

/// What a relay knows of itself and of both sides; conditions are made of it elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Of the settings in force.
    pub revision: String,
    /// Of the program.
    pub version: String,
    pub max: SideFacts,
    pub crm: SideFacts,
    pub bot: SideFacts,
    /// Age of the oldest message waiting in either direction.
    pub oldest_seconds: i64,
    pub dead_letters: i64,
    /// What would be lost with the store. Relays of an older version do not say.
    #[serde(default)]
    pub undelivered: Undelivered,
    pub open_dialogs: i64,
    /// When MAX last brought anything; milliseconds since the epoch.
    pub last_update_at: Option<Millis>,
    /// The last step could be written to disk.
    #[serde(default = "yes")]
    pub store_writable: bool,
    /// The subscription that the relay was last told of, by the time at which MAX says it was made.
    #[serde(default)]
    pub subscribed_at: Option<Millis>,
    /// The next dialogs to be closed for silence, soonest first, at most 20.
    pub auto_close: Vec<AutoClose>,
}

/// Relays of an older version do not say.
const fn yes() -> bool {
    true
}

/// How many messages would be lost with the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Undelivered {
    /// Customers' messages and what else waits for the CRM, or has not even been looked at.
    pub to_crm: i64,
    /// Messages that wait for MAX.
    pub to_max: i64,
    /// Messages that were given up, either way.
    pub dead_letters: i64,
}

impl Undelivered {
    #[must_use]
    pub const fn total(self) -> i64 {
        self.to_crm + self.to_max + self.dead_letters
    }
}

/// When a silent dialog will be closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoClose {
    pub customer: String,
    pub at: Millis,
}

/// How one side looks from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SideFacts {
    pub ok: bool,
    /// What it answered, where it is not well.
    pub code: Option<String>,
    /// Since when it is so; milliseconds since the epoch.
    pub since: Millis,
}

#[derive(Debug)]
pub(super) struct Health {
    pub max: SideFacts,
    pub crm: SideFacts,
    pub bot: SideFacts,
    /// In passed time.
    pub bot_away_until: [Millis; 2],
    /// Chats that are to be closed and that the technical user cannot see, since when.
    pub hidden_chats: HashMap<Uuid, Millis>,
}

impl Facts {
    /// Of a relay whose store is being moved or has left: it carries nothing, and has nothing to deliver.
    #[must_use]
    pub fn of_moved(revision: &str, now: Millis) -> Self {
        let away = SideFacts { ok: false, code: Some("StoreMoved".to_owned()), since: now };
        let well = SideFacts { ok: true, code: None, since: now };
        Self {
            revision: revision.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max: away,
            crm: well.clone(),
            bot: well,
            oldest_seconds: 0,
            dead_letters: 0,
            undelivered: Undelivered::default(),
            open_dialogs: 0,
            last_update_at: None,
            store_writable: true,
            subscribed_at: None,
            auto_close: Vec::new(),
        }
    }
}

impl Shared {
    pub(super) async fn refresh_metrics(&self) {
        let facts = self.facts().await;
        self.metrics.oldest_seconds.set(facts.oldest_seconds);
        self.metrics.dead_letters.set(facts.dead_letters);
        self.metrics.open_dialogs.set(facts.open_dialogs);
        self.metrics.set_queue_depth(Way::ToCrm, self.to_crm.count() + self.files_in.count());
        self.metrics.set_queue_depth(Way::ToMax, self.to_max.count() + self.files_out.count());
        if let Some(creatio) = self.active().and_then(|active| active.creatio.clone()) {
            self.metrics.set_crm_calls(&creatio.calls().by_kind());
        }
    }

    pub(super) async fn facts(&self) -> Facts {
        let now = self.clock.now();
        let active = self.active();
        let rules = active.as_ref().map(|active| active.rules.clone()).unwrap_or_default();
        let (Counts { oldest, undelivered, open_dialogs }, auto_close) =
            self.store.transact(move |tx| state_of(tx, &rules)).await.unwrap_or_default();
        let health = self.health();
        let mut crm = health.of_crm();
        if self.ownership.is_elsewhere() && active.as_ref().is_some_and(|active| !active.config.channel.suspended) {
            crm.set_failed("OwnedElsewhere", now);
        }
        let last = self.last_update_at.load(Ordering::Relaxed);
        Facts {
            revision: active.map(|active| active.config.channel.revision.clone()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max: health.max.clone(),
            crm,
            bot: health.bot.clone(),
            oldest_seconds: oldest.map_or(0, |oldest| ((now - oldest) / 1_000).max(0)),
            dead_letters: undelivered.dead_letters,
            undelivered,
            open_dialogs,
            last_update_at: (last > 0).then_some(last),
            store_writable: !self.store_broken.load(Ordering::Relaxed),
            subscribed_at: Some(self.subscribed_at.load(Ordering::Relaxed)).filter(|at| *at > 0),
            auto_close,
        }
    }
}

impl Health {
    /// A right that is missing for some rows is told although every other call succeeds.
    fn of_crm(&self) -> SideFacts {
        match self.hidden_chats.values().min() {
            Some(since) if self.crm.ok => SideFacts { ok: false, code: Some("AccessDenied".to_owned()), since: *since },
            _ => self.crm.clone(),
        }
    }
}

fn state_of(tx: &Tx<'_>, rules: &Rules) -> Result<(Counts, Vec<AutoClose>), StoreError> {
    let mut closing = Vec::new();
    if rules.auto_close.is_some() {
        for (id, dialog) in customer::soonest_due(tx)? {
            if let Some(at) = dialog.auto_close_at(rules) {
                closing.push(AutoClose { customer: format!("max:{id}"), at });
            }
        }
        closing.sort_by_key(|closing| closing.at);
        closing.truncate(20);
    }
    Ok((counts::read(tx)?, closing))
}

impl SideFacts {
    /// Whether it was not well before.
    pub(super) fn set_ok(&mut self, now: Millis) -> bool {
        let news = !self.ok;
        if news {
            *self = Self { ok: true, code: None, since: now };
        }
        news
    }

    pub(super) fn set_failed(&mut self, code: &str, now: Millis) {
        if self.code.as_deref() != Some(code) {
            *self = Self { ok: false, code: Some(code.to_owned()), since: now };
        }
    }
}
