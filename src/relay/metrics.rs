//! What a relay counts. Labels are bounded words; no name, id, address or text is ever one.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::contract::admin::Tally;
use crate::time::Millis;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpdateLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    kind: &'static str,
}

/// Why an update of a customer's changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It happened in another chat than the dialog's.
    OtherChat,
    /// Something younger had decided the same before.
    Late,
    /// An original whose edit or removal the agents have seen.
    Merged,
    /// An edit or a removal, and there is no chat that it could go into.
    NoChat,
    /// It came the other way already, around a change of the way in.
    Twin,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LeftLabels {
    reason: &'static str,
}

impl From<Left> for LeftLabels {
    fn from(left: Left) -> Self {
        let reason = match left {
            Left::OtherChat => "other_chat",
            Left::Late => "late",
            Left::Merged => "merged",
            Left::NoChat => "no_chat",
            Left::Twin => "twin",
        };
        Self { reason }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StartLabels {
    source: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReceiptLabels {
    direction: &'static str,
    outcome: &'static str,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ToCrm,
    ToMax,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

impl From<Way> for DirectionLabels {
    fn from(way: Way) -> Self {
        let direction = match way {
            Way::ToCrm => "to_crm",
            Way::ToMax => "to_max",
        };
        Self { direction }
    }
}

/// What kind of element could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// A row of the CRM's outbox.
    OutboxRow,
    /// A file named in such a row.
    OutboxFile,
    /// A message of a bot.
    BotMessage,
    /// A button under such a message.
    BotButton,
    /// A row of the relay's own store.
    StoreRow,
    /// An update that is too long to be read whole.
    LongUpdate,
}

impl Odd {
    const ALL: [Self; 6] =
        [Self::OutboxRow, Self::OutboxFile, Self::BotMessage, Self::BotButton, Self::StoreRow, Self::LongUpdate];

    fn name(self) -> &'static str {
        match self {
            Self::OutboxRow => "outbox_row",
            Self::OutboxFile => "outbox_file",
            Self::BotMessage => "bot_message",
            Self::BotButton => "bot_button",
            Self::StoreRow => "store_row",
            Self::LongUpdate => "long_update",
        }
    }
}

/// The counters and gauges of one relay.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    updates: Family<UpdateLabels, Counter>,
    left: Family<LeftLabels, Counter>,
    starts: Family<StartLabels, Counter>,
    crm_calls: Family<CallLabels, Gauge>,
    delivered: Family<DirectionLabels, Counter>,
    last_success: Family<DirectionLabels, Gauge>,
    queue_depth: Family<DirectionLabels, Gauge>,
    receipt: Family<ReceiptLabels, Gauge>,
    receipt_imbalance: Family<ReceiptLabels, Gauge>,
    pub dead_letters_made: Counter,
    pub uncertain: Counter,
    pub late: Counter,
    pub overdue: Counter,
    pub read_back: Counter,
    pub read_backs_refused: Counter,
    pub look_backs: Counter,
    pub throttled: Counter,
    pub forbidden: Counter,
    pub store_failures: Counter,
    set_aside: Family<CallLabels, Counter>,
    pub oldest_seconds: Gauge,
    pub dead_letters: Gauge,
    pub open_dialogs: Gauge,
    pub crm_requests_per_second: Gauge<f64, AtomicU64>,
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
        let metrics = Self {
            updates: register!("updates", "Updates received from MAX, by kind, and whether they were new"),
            left: register!("updates_left", "Updates of customers that changed nothing, by the reason"),
            starts: register!(
                "starts",
                "Starts of the bot by the source in their link: a name of spec.widget.sources, _other, or _none"
            ),
            // A gauge by type, because the client owns the count; it only grows, so it is named
            // like a counter.
            crm_calls: register!("crm_calls_total", "Calls made to Creatio since the start: its plans count them"),
            delivered: register!(
                "delivered",
                "Messages delivered: of customers, acknowledged by Creatio (to_crm), and of agents, taken by MAX (to_max)"
            ),
            last_success: register!(
                "last_success_timestamp_seconds",
                "When the last message was delivered, in seconds since 1970; absent before the first one since the start"
            ),
            dead_letters_made: register!("dead_letters_made", "Messages that were given up"),
            uncertain: register!("uncertain", "Agents' messages of which nobody can prove whether they arrived"),
            late: register!("late", "Customer messages delivered after a later one, with their time in words"),
            overdue: register!(
                "overdue_skipped",
                "Automatic replies and close messages that came too late to be shown"
            ),
            read_back: register!("read_back_messages", "Customer messages found by reading a dialog back after a gap"),
            read_backs_refused: register!("read_backs_refused", "Dialogs that MAX did not let us read back"),
            look_backs: register!("look_backs", "Looks for a send whose answer was lost"),
            throttled: register!("throttled", "Sends that MAX answered 429"),
            forbidden: register!("forbidden_webhooks", "Webhook calls without our secret"),
            store_failures: register!("store_failures", "Steps that could not be written to disk"),
            set_aside: register!(
                "set_aside",
                "Elements that could not be read and were set aside alone, by kind: of the CRM's outbox, of a bot's answer, of the store"
            ),
            queue_depth: register!(
                "queue_depth",
                "Customers for whom something waits for Creatio (to_crm) or MAX (to_max)"
            ),
            receipt: register!(
                "receipt_messages",
                "Messages since counting began, by what became of them; received is the sum of the others but repeated"
            ),
            receipt_imbalance: register!(
                "receipt_imbalance",
                "Messages of which more (doubled) or less (lost) was told than was received; always 0"
            ),
            oldest_seconds: register!(
                "oldest_message_age_seconds",
                "Age of the oldest message waiting in either direction"
            ),
            dead_letters: register!("dead_letters", "Messages that were given up and are kept"),
            open_dialogs: register!("open_dialogs", "Dialogs that are open"),
            crm_requests_per_second: register!(
                "crm_requests_per_second",
                "What this relay may ask of Creatio: the limit, or its share where other channels use the same CRM"
            ),
            registry,
        };
        // From the start: where a series begins with its first element, no increase is seen.
        for odd in Odd::ALL {
            drop(metrics.set_aside.get_or_create(&CallLabels { kind: odd.name() }));
        }
        metrics
    }

    /// Counts one update received.
    pub fn update(&self, kind: &'static str, new: bool) {
        let outcome = if new { "new" } else { "repeated" };
        self.updates.get_or_create(&UpdateLabels { kind, outcome }).inc();
    }

    /// Counts one update that was left.
    pub fn left(&self, left: Left) {
        self.left.get_or_create(&left.into()).inc();
    }

    /// Counts one start of the bot.
    pub fn start(&self, source: &str) {
        self.starts.get_or_create(&StartLabels { source: source.to_owned() }).inc();
    }

    /// Counts one message delivered now.
    pub fn delivered(&self, way: Way, now: Millis) {
        self.delivered.get_or_create(&way.into()).inc();
        self.last_success.get_or_create(&way.into()).set(now / 1_000);
    }

    /// Counts elements that could not be read, so that the others go on without them.
    pub fn set_aside(&self, odd: Odd, count: usize) {
        if count > 0 {
            let labels = CallLabels { kind: odd.name() };
            self.set_aside.get_or_create(&labels).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }

    pub fn set_queue_depth(&self, way: Way, depth: usize) {
        self.queue_depth.get_or_create(&way.into()).set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    pub fn set_receipt(&self, way: Way, tally: &Tally) {
        let DirectionLabels { direction } = way.into();
        let set = |family: &Family<ReceiptLabels, Gauge>, outcome, count: i64| {
            family.get_or_create(&ReceiptLabels { direction, outcome }).set(count);
        };
        tally.outcomes().into_iter().for_each(|(outcome, count)| set(&self.receipt, outcome, count));
        tally.imbalance().into_iter().for_each(|(outcome, count)| set(&self.receipt_imbalance, outcome, count));
    }

    pub fn set_crm_calls(&self, calls: &[(&'static str, u64)]) {
        for (kind, count) in calls {
            self.crm_calls.get_or_create(&CallLabels { kind }).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// The text of this relay alone; [`page`] makes one of several.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = write!(text, "# the metrics cannot be written");
        }
        text
    }
}

/// One page of the texts of several relays, by the names of their channels. Each figure stands once
/// with the lines of all, which are told apart by the label `channel`; a relay that is alone needs
/// none.
pub(super) fn page(relays: &[(String, String)]) -> String {
    if let [(_, alone)] = relays {
        return alone.clone();
    }
    // In the order in which they first come: head (help and type) and lines of a figure.
    let mut figures: Vec<(String, String, String)> = Vec::new();
    for (channel, text) in relays {
        let mut at = None;
        for line in text.lines() {
            let named = |mark: &str| line.strip_prefix(mark).and_then(|rest| rest.split(' ').next());
            if let Some(name) = named("# HELP ") {
                let known = figures.iter().position(|(known, ..)| known == name);
                at = Some(known.unwrap_or_else(|| {
                    figures.push((name.to_owned(), String::new(), String::new()));
                    figures.len() - 1
                }));
            }
            let Some((_, head, lines)) = at.and_then(|at| figures.get_mut(at)) else { continue };
            if line.starts_with('#') {
                if line != "# EOF" && !head.lines().any(|known| known == line) {
                    let _ = writeln!(head, "{line}");
                }
            } else {
                let split = line.find(['{', ' ']).unwrap_or(line.len());
                let (name, rest) = line.split_at(split);
                let _ = match rest.strip_prefix('{') {
                    Some(labels) => writeln!(lines, "{name}{{channel=\"{channel}\",{labels}"),
                    None => writeln!(lines, "{name}{{channel=\"{channel}\"}}{rest}"),
                };
            }
        }
    }
    let mut page: String = figures.into_iter().map(|(_, head, lines)| head + &lines).collect();
    page.push_str("# EOF\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        let metrics = Metrics::new();
        metrics.update("message_created", true);
        metrics.start("delivery");
        metrics.set_crm_calls(&[("package", 3)]);
        metrics.set_aside(Odd::OutboxRow, 1);
        for way in [Way::ToCrm, Way::ToMax] {
            metrics.delivered(way, 1_800_000_000_123);
            metrics.set_queue_depth(way, 2);
            metrics.set_receipt(way, &Tally { received: 4, delivered: 3, waiting: 1, ..Tally::default() });
        }
        metrics
    }

    /// Dashboards and alerts are built on these: a name or label that changes breaks them.
    #[test]
    fn these_are_all_figures_of_a_relay_with_their_labels() {
        let text = metrics().text();
        let mut figures: Vec<&str> = text.lines().collect();
        // Lines of one figure come in any order.
        figures.sort_unstable();
        insta::assert_snapshot!("figures", figures.join("\n"));
    }

    #[test]
    fn several_relays_share_one_page_on_which_every_figure_stands_once() {
        let text = metrics().text();
        let lines = |text: &str, comments: bool| text.lines().filter(|line| line.starts_with('#') == comments).count();
        let shared = page(&[("a/b".to_owned(), text.clone()), ("c/d".to_owned(), text.clone())]);
        assert_eq!(lines(&shared, true), lines(&text, true), "{shared}");
        assert_eq!(lines(&shared, false), 2 * lines(&text, false), "{shared}");
        assert!(shared.ends_with("\n# EOF\n"), "{shared}");
        let depth: Vec<&str> = shared.lines().filter(|line| line.contains("_queue_depth{")).collect();
        assert_eq!(depth.len(), 4);
        for line in [
            "maxchannel_relay_queue_depth{channel=\"c/d\",direction=\"to_max\"} 2",
            "maxchannel_relay_dead_letters{channel=\"a/b\"} 0",
        ] {
            assert!(shared.lines().any(|found| found == line), "{line} is missing:\n{shared}");
        }
        assert_eq!(page(&[("a/b".to_owned(), text.clone())]), text);
    }
}
