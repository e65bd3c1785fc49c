//! The log of a bot's updates: who gets them, how long they are kept, and what a poll sees of them
//! (MAX Bot API, GET /updates; POST /subscriptions).

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::dispatch::Job;
use super::faults::{Twist, add_fields, add_nulls};
use super::switches::{DeliveryOrder, OmittedMarker};
use super::world::World;

/// The number of a bot's first update; like the live ones, not near zero.
const FIRST: i64 = 50_000_001;
/// Updates kept per bot, whatever their age; the oldest go first.
const KEPT: usize = 100_000;
/// Updates are kept 24 hours (notice of May 2026), scaled.
const RETENTION_MS: u64 = 24 * 3_600_000;

/// One update as it came into being.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpdateRecord {
    /// Its number in the bot's log, which is what markers count.
    pub number: i64,
    /// Unix ms.
    pub at: i64,
    /// Its chat.
    pub chat_id: i64,
    /// Whether it waits for a poll (no subscription existed when it came into being).
    pub for_poll: bool,
    /// The body.
    pub update: Arc<Value>,
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) entries: VecDeque<UpdateRecord>,
    next: i64,
    /// Everything below is acknowledged.
    acknowledged: i64,
    held: Vec<(i64, Value)>,
    pub(super) pollers: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self { entries: VecDeque::new(), next: FIRST, acknowledged: FIRST, held: Vec::new(), pollers: 0 }
    }
}

impl Log {
    /// Answers one look of a poll: the updates and the next marker. A marker acknowledges
    /// everything before it; a smaller one than before reads again what is still kept.
    pub(super) fn read(
        &mut self,
        marker: Option<i64>,
        limit: usize,
        types: Option<&[String]>,
        omitted: OmittedMarker,
        filter_acknowledges: bool,
    ) -> (Vec<Arc<Value>>, i64) {
        let from = match (marker, omitted) {
            (Some(marker), _) => {
                self.acknowledged = self.acknowledged.max(marker.min(self.next));
                marker
            }
            (None, OmittedMarker::Unread) => self.acknowledged,
            (None, OmittedMarker::Latest) => {
                self.entries.iter().rev().find(|entry| entry.for_poll).map_or(self.next, |entry| entry.number)
            }
        };
        let wanted = |entry: &&UpdateRecord| {
            types.is_none_or(|types| {
                entry.update["update_type"].as_str().is_some_and(|name| types.iter().any(|wanted| wanted == name))
            })
        };
        let due = || self.entries.iter().filter(|entry| entry.for_poll && entry.number >= from);
        let found: Vec<&UpdateRecord> = due().filter(wanted).take(limit).collect();
        let next = match found.last() {
            Some(last) if found.len() == limit => last.number + 1,
            Some(last) if !filter_acknowledges => last.number + 1,
            None if !filter_acknowledges => due().next().map_or(self.next, |first| first.number),
            _ => self.next,
        };
        (found.into_iter().map(|entry| entry.update.clone()).collect(), next)
    }
}

impl World {
    /// An update of a chat comes into being.
    pub(super) fn emit(&mut self, bot: i64, chat: i64, mut update: Value) {
        if self.switches.nulls {
            add_nulls(&mut update);
        }
        if self.switches.extra_fields {
            add_fields(&mut update);
        }
        let update_type = update["update_type"].as_str().unwrap_or_default().to_owned();
        let twist = self.faults.twist(bot, &update_type);
        let held = match self.bots.get_mut(&bot) {
            Some(found) => std::mem::take(&mut found.log.held),
            None => return,
        };
        match twist {
            None => self.record(bot, chat, update),
            Some(Twist::Lose) => {}
            Some(Twist::Duplicate) => {
                self.record(bot, chat, update.clone());
                self.record(bot, chat, update);
            }
            Some(Twist::OutOfOrder) => {
                if let Some(found) = self.bots.get_mut(&bot) {
                    found.log.held.push((chat, update));
                }
            }
            Some(twist) => {
                bend(&mut update, twist);
                self.record(bot, chat, update);
            }
        }
        for (chat, update) in held {
            self.record(bot, chat, update);
        }
    }

    fn record(&mut self, bot: i64, chat: i64, update: Value) {
        let now = self.clock.now_ms();
        let oldest = now - self.clock.shortened_ms(RETENTION_MS);
        let order = self.switches.delivery_order;
        let Some(found) = self.bots.get_mut(&bot) else { return };
        let number = found.log.next;
        found.log.next += 1;
        while found.log.entries.front().is_some_and(|first| first.at < oldest) || found.log.entries.len() >= KEPT {
            found.log.entries.pop_front();
        }
        let update = Arc::new(update);
        let for_poll = found.subscriptions.is_empty();
        found.log.entries.push_back(UpdateRecord { number, at: now, chat_id: chat, for_poll, update: update.clone() });
        let update_type = update["update_type"].as_str().unwrap_or_default();
        for subscription in &mut found.subscriptions {
            if subscription.wants(update_type) {
                let lane = if order == DeliveryOrder::Unordered { number } else { chat };
                let job = Job { number, chat, update: update.clone(), attempt: 1 };
                if subscription.enqueue(lane, job) {
                    self.new_lanes.push((bot, subscription.id, lane));
                }
            }
        }
    }

    /// `message_created` or `message_edited` for a message.
    pub(super) fn emit_message(&mut self, update_type: &str, chat: i64, seq: i64) {
        let Some((found, message)) = self.message(chat, seq) else { return };
        let bot = found.bot;
        let timestamp = message.edited_at.unwrap_or(message.timestamp);
        let mut update =
            json!({"update_type": update_type, "timestamp": timestamp, "message": self.message_json(found, message)});
        if update_type == "message_created"
            && let Some(locale) = self.locale(found.user())
        {
            update["user_locale"] = json!(locale);
        }
        self.emit(bot, chat, update);
    }

    /// An update about a person and a chat (`bot_started`, `dialog_muted`, `user_added`, …) with
    /// `more` fields.
    pub(super) fn emit_about(&mut self, update_type: &str, chat: i64, person: i64, more: Value) {
        let Some(found) = self.chats.get(&chat) else { return };
        let bot = found.bot;
        let locale = self.locale(found.user());
        let mut update = Map::new();
        update.insert("update_type".to_owned(), json!(update_type));
        update.insert("timestamp".to_owned(), json!(self.clock.now_ms()));
        update.insert("chat_id".to_owned(), json!(chat));
        update.insert("user".to_owned(), self.user_with_photo_json(person));
        if let Value::Object(more) = more {
            update.extend(more);
        }
        if let Some(locale) = locale {
            update.insert("user_locale".to_owned(), json!(locale));
        }
        let told = ["bot_added", "bot_removed", "bot_started", "chat_title_changed", "user_added", "user_removed"];
        if self.switches.live_extras && told.contains(&update_type) {
            update.insert("user_id".to_owned(), json!(person));
        }
        self.emit(bot, chat, Value::Object(update));
    }

    fn locale(&self, person: Option<i64>) -> Option<String> {
        Some(self.people.get(&person?)?.locale.clone())
    }
}

fn bend(update: &mut Value, twist: Twist) {
    match twist {
        Twist::WithoutMessage => {
            if let Value::Object(map) = update {
                map.remove("message");
            }
        }
        Twist::UnknownType => update["update_type"] = json!("message_teleported"),
        Twist::UnknownAttachment => {
            let unknown = json!({"type": "hologram", "payload": {"depth": 3}});
            if let Some(body) = update.pointer_mut("/message/body").and_then(Value::as_object_mut) {
                match body.get_mut("attachments").and_then(Value::as_array_mut) {
                    Some(attachments) => attachments.push(unknown),
                    None => {
                        body.insert("attachments".to_owned(), json!([unknown]));
                    }
                }
            }
        }
        Twist::ExtraFields => add_fields(update),
        Twist::Nulls => add_nulls(update),
        Twist::Duplicate | Twist::OutOfOrder | Twist::Lose => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(count: i64) -> Log {
        let mut log = Log::default();
        for n in 0..count {
            let update = Arc::new(json!({"update_type": if n % 2 == 0 { "even" } else { "odd" }}));
            log.entries.push_back(UpdateRecord { number: FIRST + n, at: 0, chat_id: 1, for_poll: true, update });
            log.next += 1;
        }
        log
    }

    #[test]
    fn a_marker_acknowledges_what_is_before_it_and_reads_what_follows() {
        use OmittedMarker::{Latest, Unread};

        let mut log = log(5);
        let mut read = |marker, limit, omitted| {
            let (updates, next) = log.read(marker, limit, None, omitted, false);
            (updates.len(), next - FIRST)
        };
        assert_eq!(read(None, 2, Unread), (2, 2));
        assert_eq!(read(None, 100, Unread), (5, 5), "nothing is acknowledged yet");
        assert_eq!(read(Some(FIRST + 2), 100, Unread), (3, 5));
        assert_eq!(read(None, 100, Unread), (3, 5), "the marker acknowledged two");
        assert_eq!(read(None, 100, Latest), (1, 5));
        assert_eq!(read(Some(FIRST + 5), 100, Unread), (0, 5), "an empty look has a usable marker");
        assert_eq!(read(Some(FIRST), 100, Unread), (5, 5), "a smaller marker reads again");
    }

    #[test]
    fn a_filter_acknowledges_what_it_hides_only_where_the_switch_says_so() {
        let even = ["even".to_owned()];
        for (acknowledges, hidden) in [(false, 1), (true, 0)] {
            let mut log = log(4);
            let (updates, next) = log.read(Some(FIRST), 100, Some(&even), OmittedMarker::Unread, acknowledges);
            assert_eq!(updates.len(), 2);
            assert_eq!(log.read(Some(next), 100, None, OmittedMarker::Unread, false).0.len(), hidden);
        }
    }
}
