//! What a relay counts. Labels are bounded words; no name, id, address or text is ever one.

use std::fmt::Write as _;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpdateLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    kind: &'static str,
}

/// The counters and gauges of one relay.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    updates: Family<UpdateLabels, Counter>,
    crm_calls: Family<CallLabels, Gauge>,
    pub delivered_to_crm: Counter,
    pub delivered_to_max: Counter,
    pub dead_letters_made: Counter,
    pub uncertain: Counter,
    pub late: Counter,
    pub read_back: Counter,
    pub read_backs_refused: Counter,
    pub look_backs: Counter,
    pub throttled: Counter,
    pub forbidden: Counter,
    pub store_failures: Counter,
    pub waiting_to_crm: Gauge,
    pub waiting_to_max: Gauge,
    pub oldest_seconds: Gauge,
    pub dead_letters: Gauge,
    pub open_dialogs: Gauge,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("maxchannel_relay");
        macro_rules! register {
            ($name:literal, $help:literal) => {{
                let metric = <_>::default();
                registry.register($name, $help, Clone::clone(&metric));
                metric
            }};
        }
        Self {
            updates: register!("updates", "Updates received from MAX, by kind, and whether they were new"),
            // A gauge by type, because the client owns the count; it only grows, so it is named like a counter.
            crm_calls: register!("crm_calls_total", "Calls made to Creatio since the start: its plans count them"),
            delivered_to_crm: register!("delivered_to_crm", "Customer messages that Creatio has acknowledged"),
            delivered_to_max: register!("delivered_to_max", "Agents' messages that MAX has taken"),
            dead_letters_made: register!("dead_letters_made", "Messages that were given up"),
            uncertain: register!("uncertain", "Agents' messages of which nobody can prove whether they arrived"),
            late: register!("late", "Customer messages delivered after a later one, with their time in words"),
            read_back: register!("read_back_messages", "Customer messages found by reading a dialog back after a gap"),
            read_backs_refused: register!("read_backs_refused", "Dialogs that MAX did not let us read back"),
            look_backs: register!("look_backs", "Looks for a send whose answer was lost"),
            throttled: register!("throttled", "Sends that MAX answered 429"),
            forbidden: register!("forbidden_webhooks", "Webhook calls without our secret"),
            store_failures: register!("store_failures", "Steps that could not be written to disk"),
            waiting_to_crm: register!("waiting_to_crm", "Entries waiting for Creatio"),
            waiting_to_max: register!("waiting_to_max", "Messages waiting for MAX"),
            oldest_seconds: register!(
                "oldest_message_age_seconds",
                "Age of the oldest message waiting in either direction"
            ),
            dead_letters: register!("dead_letters", "Messages that were given up and are kept"),
            open_dialogs: register!("open_dialogs", "Dialogs that are open"),
            registry,
        }
    }

    /// Counts one update received.
    pub fn update(&self, kind: &'static str, new: bool) {
        let outcome = if new { "new" } else { "repeated" };
        self.updates.get_or_create(&UpdateLabels { kind, outcome }).inc();
    }

    pub fn set_crm_calls(&self, calls: &[(&'static str, u64)]) {
        for (kind, count) in calls {
            self.crm_calls.get_or_create(&CallLabels { kind }).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// The text of `/metrics`, without the end mark, with `channel` on each line where several relays share a page.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = write!(text, "# the metrics cannot be written");
        }
        text
    }
}
