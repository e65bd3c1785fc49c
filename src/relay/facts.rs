//! What a relay knows of itself and of both sides. Facts only: conditions are made of them elsewhere.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::Shared;
use super::lanes::CustomerId;
use super::metrics::Way;
use super::store::{StoreError, text_of};
use crate::contract::{AutoClose, Facts, SideFacts, Trouble, Undelivered};
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
        let (oldest, undelivered, open_dialogs, auto_close) =
            self.store.write(move |connection| state_of(connection, &rules)).await.unwrap_or_default();
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
        }
    }
}

/// How long after the last refusal for too many requests MAX counts as throttling, unless it asks for
/// longer: what it takes meanwhile, such as a poll or every tenth send, does not end it.
const THROTTLED_FOR: Millis = 15_000;

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

type State = (Option<Millis>, Undelivered, i64, Vec<AutoClose>);

fn state_of(connection: &rusqlite::Connection, rules: &Rules) -> Result<State, StoreError> {
    let oldest = connection.query_row(
        "SELECT min(at) FROM (SELECT min(created_at) AS at FROM to_crm WHERE dead = 0
                              UNION ALL SELECT min(created_at) FROM to_max WHERE state = 'queued'
                              UNION ALL SELECT min(received_at) FROM inbox WHERE done = 0)",
        [],
        |row| row.get(0),
    )?;
    // What is kept is counted by the database itself at every change: counting thousands of rows would hold the one writer. What waits
    // stands in indexes of its own.
    let count = |name: &str| {
        connection
            .prepare_cached("SELECT count FROM tally WHERE name = ?1")?
            .query_row([name], |row| row.get::<_, i64>(0))
    };
    let (dead_letters, open) = (count("dead")?, count("open")?);
    let undelivered = connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM to_crm WHERE dead = 0) + (SELECT count(*) FROM inbox WHERE done = 0),
                    (SELECT count(*) FROM to_max WHERE state = 'queued')",
        )?
        .query_row([], |row| Ok(Undelivered { to_crm: row.get(0)?, to_max: row.get(1)?, dead_letters }))?;
    let mut closing = Vec::new();
    if rules.auto_close.is_some() {
        let rows = connection
            .prepare_cached(
                "SELECT id, dialog FROM customer WHERE open = 1 AND due_at IS NOT NULL ORDER BY due_at LIMIT 200",
            )?
            .query_map([], |row| Ok((row.get(0)?, text_of(row, 1)?)))?
            .collect::<Result<Vec<(CustomerId, String)>, _>>()?;
        for (id, dialog) in rows {
            let dialog = super::dialogs::read_dialog(&dialog);
            if let Some(at) = dialog.auto_close_at(rules) {
                closing.push(AutoClose { customer: format!("max:{id}"), at });
            }
        }
        closing.sort_by_key(|closing| closing.at);
        closing.truncate(20);
    }
    Ok((oldest, undelivered, open, closing))
}

pub(super) fn undelivered(connection: &rusqlite::Connection) -> rusqlite::Result<Undelivered> {
    connection.query_row(
        "SELECT (SELECT count(*) FROM to_crm WHERE dead = 0) + (SELECT count(*) FROM inbox WHERE done = 0),
                (SELECT count(*) FROM to_max WHERE state = 'queued'),
                (SELECT count(*) FROM to_crm WHERE dead = 1) + (SELECT count(*) FROM to_max WHERE state = 'failed')",
        [],
        |row| Ok(Undelivered { to_crm: row.get(0)?, to_max: row.get(1)?, dead_letters: row.get(2)? }),
    )
}
