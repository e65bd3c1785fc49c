//! What a relay knows of itself and of both sides. Facts only: conditions are made of them
//! elsewhere.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::mango;
use super::metrics::Way;
use super::receipt;
use super::state::Shared;
use super::store::counts::{self, Counts};
use super::store::{StoreError, Tx, customer};
use crate::contract::{AutoClose, Facts, ReceiptFacts, SideFacts, Trouble};
use crate::policy::Rules;
use crate::time::Millis;

#[derive(Debug)]
pub(super) struct Health {
    pub max: SideFacts,
    pub crm: SideFacts,
    pub bot: SideFacts,
    pub throttled: Option<Throttled>,
    /// In passed time.
    pub bot_away_until: [Millis; 2],
    /// Chats that are to be closed and that the technical user cannot see, since when.
    pub hidden_chats: HashMap<Uuid, Millis>,
}

impl Shared {
    pub(super) async fn refresh_metrics(&self) {
        let facts = self.facts().await;
        self.metrics.oldest_seconds.set(facts.oldest_seconds);
        self.metrics.dead_letters.set(facts.dead_letters);
        self.metrics.open_dialogs.set(facts.open_dialogs);
        self.metrics.crm_requests_per_second.set(self.crm_requests_per_second());
        self.metrics.set_queue_depth(Way::ToCrm, self.to_crm.count() + self.files_in.count());
        self.metrics.set_queue_depth(Way::ToMax, self.to_max.count() + self.files_out.count());
        if let Some(ReceiptFacts { to_crm, to_max }) = &facts.receipt {
            self.metrics.set_receipt(Way::ToCrm, to_crm);
            self.metrics.set_receipt(Way::ToMax, to_max);
        }
        if let Some(creatio) = self.active().and_then(|active| active.creatio.clone()) {
            self.metrics.set_crm_calls(&creatio.calls().by_kind());
        }
    }

    pub(super) async fn facts(&self) -> Facts {
        let now = self.clock.now();
        let active = self.active();
        let rules = active.as_ref().map(|active| active.rules.clone()).unwrap_or_default();
        let by_mango = active.as_ref().is_some_and(|active| active.mango.is_some());
        let (Counts { oldest, undelivered, open_dialogs }, auto_close, mango, receipt) = self
            .store
            .transact(move |tx| {
                let (counts, auto_close) = state_of(tx, &rules)?;
                let mango = by_mango.then(|| mango::noted_facts(tx, now)).transpose()?;
                Ok((counts, auto_close, mango, Some(receipt::in_all(tx)?)))
            })
            .await
            .unwrap_or_default();
        let crm_share = self.crm_share();
        let health = self.health();
        let mut crm = health.of_crm();
        if self.ownership.is_elsewhere() && active.as_ref().is_some_and(|active| !active.config.channel.suspended) {
            crm.set_failed(Trouble::OwnedElsewhere, now);
        }
        let last = self.last_update_at.load(Ordering::Relaxed);
        Facts {
            revision: active.map(|active| active.config.channel.revision.clone()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max: health.of_max(self.clock.passed()),
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
            mango,
            crm_share,
            receipt,
        }
    }
}

/// How long after the last refusal for too many requests MAX counts as throttling, unless it asks
/// for longer: what it takes meanwhile, such as a poll or every tenth send, does not end it. Longer
/// than the longest pause between two probes, or it would end and begin anew with each.
const THROTTLED_FOR: Millis = 45_000;

/// MAX refuses for too many requests, again and again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttled {
    /// By the wall.
    since: Millis,
    /// In passed time.
    until: Millis,
}

impl Health {
    /// MAX has refused a request for too many, and asks to be left alone for so long.
    pub(super) fn note_throttled(&mut self, now: Millis, passed: Millis, asked: Millis) {
        let since = self.throttled.filter(|before| passed < before.until).map_or(now, |before| before.since);
        self.throttled = Some(Throttled { since, until: passed.saturating_add(asked).saturating_add(THROTTLED_FOR) });
    }

    /// Throttling is told although other calls succeed, but no worse trouble is hidden by it.
    fn of_max(&self, passed: Millis) -> SideFacts {
        match self.throttled {
            Some(throttled)
                if passed < throttled.until && (self.max.ok || self.max.code == Some(Trouble::Throttled)) =>
            {
                SideFacts { ok: false, code: Some(Trouble::Throttled), since: throttled.since }
            }
            _ => self.max.clone(),
        }
    }

    /// A right that is missing for some rows is told although every other call succeeds.
    fn of_crm(&self) -> SideFacts {
        match self.hidden_chats.values().min() {
            Some(since) if self.crm.ok => SideFacts { ok: false, code: Some(Trouble::AccessDenied), since: *since },
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
