//! What the site does by itself: offers waiting chats, closes chats by time, lets files of agents
//! appear (Creatio API reference, 4.2 and 4.4).
//!
//! Owns: the minute jobs. Must not know HTTP or the package.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::schema::{self, COMPLETED, WAITING};
use super::site::World;
use super::store::{self, Row};

/// Time after which a chat offered by `ForFree` goes to the next agent.
const ACCEPT_MS: i64 = 5 * 60_000;

impl World {
    /// The agents of the chat's queue, in the order of their rows.
    fn queue_agents(&self, queue: Uuid) -> Vec<Uuid> {
        self.db
            .rows("ChatQueueOperator")
            .filter(|row| store::guid(row, "ChatQueueId") == Some(queue))
            .filter_map(|row| store::guid(row, "OperatorId"))
            .collect()
    }

    fn is_free_rule(&self, queue: Uuid) -> bool {
        self.db.row("ChatQueue", queue).and_then(|row| store::guid(row, "OperatorRoutingRuleId"))
            == Some(schema::FOR_FREE)
    }

    /// Offers a waiting chat: `ForFree` directs it to the least loaded active agent of the queue,
    /// past the entity layer.
    pub fn distribute(&mut self, chat: Uuid) {
        let Some(row) = self.chat(chat) else { return };
        let Some(queue) = store::guid(row, "QueueId").filter(|queue| self.is_free_rule(*queue)) else { return };
        let most = self
            .db
            .row("ChatQueue", queue)
            .and_then(|row| store::int(row, "SimultaneousChats"))
            .filter(|most| *most > 0);
        let mut loads: HashMap<Uuid, i64> = HashMap::new();
        for row in self.db.rows("OmniChat").filter(|row| store::guid(row, "StatusId") != Some(COMPLETED)) {
            if let Some(agent) = store::guid(row, "OperatorId").or_else(|| store::guid(row, "DirectedOperatorId")) {
                *loads.entry(agent).or_default() += 1;
            }
        }
        let best = self
            .queue_agents(queue)
            .into_iter()
            .filter(|agent| self.agents.get(agent).is_some_and(|agent| agent.active))
            .map(|agent| (loads.get(&agent).copied().unwrap_or(0), agent))
            .filter(|(load, _)| most.is_none_or(|most| *load < most))
            .min();
        if let Some((_, agent)) = best {
            let now = self.now_ms();
            self.db.set("OmniChat", chat, &[("DirectedOperatorId", json!(agent))]);
            self.package.offered.insert(chat, now);
        }
    }

    /// The minute job: who has not accepted in time becomes inactive, and waiting chats are offered
    /// again.
    pub fn redistribute(&mut self) {
        let now = self.now_ms();
        if now < self.package.next_distribution {
            return;
        }
        self.package.next_distribution = now + 60_000;
        let waiting: Vec<(Uuid, Option<Uuid>)> = self
            .db
            .rows("OmniChat")
            .filter(|row| store::guid(row, "StatusId") == Some(WAITING))
            .filter_map(|row| Some((store::guid(row, "Id")?, store::guid(row, "DirectedOperatorId"))))
            .collect();
        for (chat, directed) in waiting {
            if let Some(agent) = directed {
                if self.package.offered.get(&chat).is_some_and(|at| now - at < ACCEPT_MS) {
                    continue;
                }
                if let Some(agent) = self.agents.get_mut(&agent) {
                    agent.active = false;
                }
                self.db.set("OmniChat", chat, &[("DirectedOperatorId", Value::Null)]);
            }
            self.distribute(chat);
        }
    }

    /// `OmnichannelChatCloser`: chats whose close date has come, unless they wait.
    pub fn close_by_time(&mut self) {
        let now = self.now_us();
        if now < self.package.next_closing {
            return;
        }
        self.package.next_closing = now + 1_000_000;
        let due: Vec<Uuid> = self
            .db
            .rows("OmniChat")
            .filter(|row| store::int(row, "CloseDate").is_some_and(|date| date <= now))
            .filter(|row| !matches!(store::guid(row, "StatusId"), Some(COMPLETED | WAITING)))
            .filter_map(|row| store::guid(row, "Id"))
            .collect();
        for chat in due {
            // An empty chat cannot be closed: the job logs that and goes on.
            drop(self.close(chat, Uuid::nil(), "timeout"));
        }
    }

    /// Files of agents appear when the request that sent them has ended.
    pub fn end_agent_requests(&mut self) {
        let now = self.now_ms();
        let (due, rest) = std::mem::take(&mut self.late_files).into_iter().partition(|(at, ..)| *at <= now);
        self.late_files = rest;
        let due: Vec<(i64, Uuid, Row, Bytes)> = due;
        for (_, id, row, bytes) in due {
            self.insert("OmnichannelMessageFile", row);
            self.files.insert(id, bytes);
        }
    }
}
