//! The package's outbox: rows written on chat events, and what the package does after the relay's
//! report (package contract, "From the CRM to the relay").
//!
//! Owns: `Seq` (growing, with gaps), the moment at which a row becomes visible, the hints. Must not
//! know HTTP.

use std::collections::HashMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::chat::{empty_as_null, row_of};
use super::site::World;
use super::store::{self, Row};

#[derive(Clone, Debug, Default)]
pub(super) struct OutboxState {
    seq: i64,
    written: u32,
    /// Rows whose transaction commits late, with the time of the commit.
    late: Vec<(i64, Row)>,
    shown_until: HashMap<String, i64>,
    pub broken: bool,
}

impl OutboxState {
    pub fn late_rows(&self) -> impl Iterator<Item = &Row> {
        self.late.iter().map(|(_, row)| row)
    }
}

impl World {
    /// Writes a row in a transaction of its own; it may become visible late, but never before an
    /// earlier row of the same customer.
    pub fn outbox_row<const N: usize>(
        &mut self,
        chat: Uuid,
        kind: &str,
        agent: Uuid,
        agent_name: &str,
        more: [(&str, Value); N],
    ) {
        let Some(chat_row) = self.chat(chat) else { return };
        let (source, customer) = (self.source_of(chat_row), self.customer_of(chat_row));
        if source.is_empty() || !self.package_installed {
            return;
        }
        let now = self.now_ms();
        self.outbox.written += 1;
        let gap = if self.switches.seq_gaps && self.outbox.written.is_multiple_of(3) { 2 } else { 1 };
        self.outbox.seq += gap;
        let late = self.switches.late_row_every > 0 && self.outbox.written.is_multiple_of(self.switches.late_row_every);
        let own = if late { now + self.switches.late_row_ms } else { now };
        let shown = own.max(self.outbox.shown_until.get(&customer).copied().unwrap_or(0));
        let mut fields = row_of([
            ("Seq", json!(self.outbox.seq)),
            ("Kind", json!(kind)),
            ("ChannelSource", json!(source)),
            ("ChatId", json!(chat)),
            ("Recipient", json!(customer)),
            ("AgentId", if agent.is_nil() { Value::Null } else { json!(agent) }),
            ("AgentName", empty_as_null(agent_name)),
            ("State", json!("Pending")),
            ("CreatedOn", json!(now * 1000)),
        ]);
        fields.extend(row_of(more));
        self.outbox.shown_until.insert(customer, shown);
        self.outbox.late.push((shown, fields));
        self.show_late_rows();
    }

    /// From now on the customer's rows stay invisible for `ms`.
    pub fn hold_outbox(&mut self, customer: &str, ms: i64) {
        let until = self.now_ms() + ms;
        self.outbox.shown_until.insert(customer.to_owned(), until);
    }

    /// Rows whose transaction has committed become visible, and each gives rise to a hint.
    pub fn show_late_rows(&mut self) {
        if self.outbox.late.is_empty() {
            return;
        }
        let now = self.now_ms();
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.outbox.late).into_iter().partition(|(at, _)| *at <= now);
        self.outbox.late = rest;
        for (_, row) in due {
            let source = store::text(&row, "ChannelSource").to_owned();
            let seq = store::int(&row, "Seq").unwrap_or(0);
            self.insert("MaxOutbox", row);
            let settings = self
                .db
                .rows("Channel")
                .find(|row| store::text(row, "Source") == source)
                .and_then(|row| self.db.row("MaxChannelSettings", store::guid(row, "MsgSettingsId")?));
            if let Some(url) = settings.map(|row| store::text(row, "NotifyUrl")).filter(|url| !url.is_empty()) {
                let hint = (url.to_owned(), json!({"channelSource": source, "seq": seq}));
                self.hints.push(hint);
            }
        }
    }

    /// What the package does after the relay's report: a system line for the agent where something
    /// went wrong, or was put right.
    pub fn reported(&mut self, before: &Row, state: &str, error: &str) {
        let chat = store::guid(before, "ChatId").unwrap_or_default();
        match state {
            "Failed" => self.system_line(chat, format!("Not delivered: {error}")),
            "Uncertain" => self.system_line(chat, format!("Delivery is uncertain: {error}")),
            "Delivered" if store::text(before, "State") != "Pending" => {
                self.system_line(chat, "Delivered after all".to_owned());
            }
            _ => {}
        }
    }
}
