//! What the controller counts. Labels are bounded words; no name, id, address or text is ever one.

use std::sync::Mutex;
use std::time::Duration;

use futures::future::BoxFuture;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::contract::ReceiptFacts;
use crate::transport::{Options, Request, Response, Transport, TransportError, Waited};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OutcomeLabels {
    pub outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReasonLabels {
    pub reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CallLabels {
    pub provider: &'static str,
    pub operation: &'static str,
    pub code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ProviderLabels {
    pub provider: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ConditionLabels {
    pub r#type: String,
    pub status: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RolloutLabels {
    pub state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReceiptLabels {
    pub direction: &'static str,
    pub outcome: &'static str,
}

/// All of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    pub reconcile_duration: Histogram,
    pub reconciles: Family<OutcomeLabels, Counter>,
    pub reconcile_errors: Family<ReasonLabels, Counter>,
    pub objects_in_backoff: Gauge,
    pub calls: Family<CallLabels, Counter>,
    pub call_duration: Family<ProviderLabels, Histogram>,
    pub limiter_wait: Family<ProviderLabels, Histogram>,
    pub drift_repairs: Counter,
    pub time_to_ready: Histogram,
    pub leader: Gauge,
    pub crd_missing: Gauge,
    pub unserved: Gauge,
    pub queue_depth: Gauge,
    pub channels: Gauge,
    pub conditions: Family<ConditionLabels, Gauge>,
    pub rollout: Family<RolloutLabels, Gauge>,
    receipt: Family<ReceiptLabels, Gauge>,
    receipt_imbalance: Family<ReceiptLabels, Gauge>,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 14))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("maxchannel_controller");
        macro_rules! register {
            ($name:literal, $help:literal) => {
                register!($name, $help, Default::default())
            };
            ($name:literal, $help:literal, $new:expr) => {{
                let metric = $new;
                registry.register($name, $help, Clone::clone(&metric));
                metric
            }};
        }
        Self {
            reconcile_duration: register!("reconcile_duration_seconds", "How long a pass takes", seconds()),
            reconciles: register!("reconciles", "Passes by outcome: changed, unchanged, waiting, error"),
            reconcile_errors: register!(
                "reconcile_errors",
                "Passes that the API server's refusals or silence ended, by reason"
            ),
            objects_in_backoff: register!("objects_in_backoff", "Channels whose last pass ended in an error"),
            calls: register!("saas_requests", "Calls to MAX, MANGO OFFICE and Creatio by provider, operation and code"),
            call_duration: register!(
                "saas_request_duration_seconds",
                "How long calls to external systems take",
                Family::new_with_constructor(seconds as fn() -> Histogram)
            ),
            limiter_wait: register!(
                "saas_limiter_wait_seconds",
                "How long calls to external systems are held back by the limits that are kept here",
                Family::new_with_constructor(seconds as fn() -> Histogram)
            ),
            drift_repairs: register!("drift_repairs", "Owned objects that somebody else had changed"),
            time_to_ready: register!(
                "time_to_ready_seconds",
                "From the making of a channel to its first Ready",
                Histogram::new(exponential_buckets(1.0, 2.0, 14))
            ),
            leader: register!("leader", "1 while this replica leads"),
            crd_missing: register!("crd_missing", "1 while the MaxChannel definition is not installed"),
            unserved: register!(
                "namespaces_unserved",
                "Watched namespaces that the API server does not show: they are gone, or the role in them is"
            ),
            queue_depth: register!(
                "queue_depth",
                "Channels that a pass is due for and has not begun: something has happened, or the time of the next probe has come"
            ),
            channels: register!("channels", "Channels that are watched"),
            rollout: register!(
                "rollout_relays",
                "Relays whose pods are to change, by state: replacing, waiting for others, failed to come up"
            ),
            receipt: register!(
                "receipt_messages",
                "Messages of all channels by what became of them, as their relays have answered last"
            ),
            receipt_imbalance: register!(
                "receipt_imbalance",
                "Messages of all channels of which more (doubled) or less (lost) was told than was received; always 0"
            ),
            conditions: register!("condition", "Channels by type and status of their conditions"),
            registry: Mutex::new(registry),
        }
    }
}

impl Metrics {
    /// Sets what became of the messages of all channels.
    pub fn set_receipt(&self, receipt: &ReceiptFacts) {
        for (direction, tally) in [("to_crm", &receipt.to_crm), ("to_max", &receipt.to_max)] {
            let set = |family: &Family<ReceiptLabels, Gauge>, (outcome, count): (&'static str, i64)| {
                family.get_or_create(&ReceiptLabels { direction, outcome }).set(count);
            };
            tally.outcomes().into_iter().for_each(|count| set(&self.receipt, count));
            tally.imbalance().into_iter().for_each(|count| set(&self.receipt_imbalance, count));
        }
    }

    /// The text that a scrape is answered.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing to a String does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

/// A transport that counts.
pub struct Counted {
    inner: std::sync::Arc<dyn Transport>,
    provider: &'static str,
    metrics: std::sync::Arc<Metrics>,
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Counted").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl Counted {
    pub fn over(
        inner: std::sync::Arc<dyn Transport>,
        provider: &'static str,
        metrics: &std::sync::Arc<Metrics>,
    ) -> std::sync::Arc<dyn Transport> {
        std::sync::Arc::new(Self { inner, provider, metrics: metrics.clone() })
    }
}

impl Transport for Counted {
    fn send(&self, request: Request, options: Options) -> BoxFuture<'_, Result<Response, TransportError>> {
        let operation = operation(self.provider, request.uri().path());
        Box::pin(async move {
            if let Some(Waited(waited)) = request.extensions().get() {
                let labels = ProviderLabels { provider: self.provider };
                self.metrics.limiter_wait.get_or_create(&labels).observe(waited.as_secs_f64());
            }
            let began = tokio::time::Instant::now();
            let outcome = self.inner.send(request, options).await;
            let code = match &outcome {
                Ok(response) => response.status().as_u16().to_string(),
                Err(error) if error.certainly_not_sent() => "unreachable".to_owned(),
                Err(_) => "lost".to_owned(),
            };
            self.metrics.calls.get_or_create(&CallLabels { provider: self.provider, operation, code }).inc();
            let taken: Duration = began.elapsed();
            self.metrics
                .call_duration
                .get_or_create(&ProviderLabels { provider: self.provider })
                .observe(taken.as_secs_f64());
            outcome
        })
    }
}

/// What a call is about, from a closed list: paths hold ids.
fn operation(provider: &str, path: &str) -> &'static str {
    let table: &[(&str, &str)] = match provider {
        "max" => &[("/me", "me"), ("/subscriptions", "subscriptions"), ("/chats", "chats"), ("/messages", "messages")],
        "mango" => &[
            ("employee", "employees"),
            ("member", "employees"),
            ("user", "employees"),
            ("group", "groups"),
            ("balance", "balance"),
        ],
        _ => &[
            ("/connect/token", "signIn"),
            ("/Login", "signIn"),
            ("/rest/MaxChannel", "package"),
            ("/odata/", "odata"),
            ("/rest/", "rest"),
        ],
    };
    table.iter().find(|(part, _)| path.contains(part)).map_or("other", |(_, operation)| operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Answers;

    impl Transport for Answers {
        fn send(&self, _: Request, _: Options) -> BoxFuture<'_, Result<Response, TransportError>> {
            Box::pin(std::future::ready(Ok(Response::new(bytes::Bytes::new()))))
        }
    }

    /// Dashboards and alerts are built on these: a name or label that changes breaks them.
    #[tokio::test(start_paused = true)]
    async fn these_are_all_figures_of_the_controller_with_their_labels() {
        let metrics = std::sync::Arc::new(Metrics::default());
        metrics.reconciles.get_or_create(&OutcomeLabels { outcome: "changed" }).inc();
        metrics.reconcile_errors.get_or_create(&ReasonLabels { reason: "Conflict" }).inc();
        metrics
            .conditions
            .get_or_create(&ConditionLabels { r#type: "Ready".to_owned(), status: "True".to_owned() })
            .set(1);
        metrics.rollout.get_or_create(&RolloutLabels { state: "waiting" }).set(1);
        metrics.set_receipt(&ReceiptFacts::default());
        metrics.reconcile_duration.observe(0.1);
        metrics.time_to_ready.observe(1.0);
        let mut request = http::Request::get("https://platform.example/me").body(bytes::Bytes::new()).unwrap();
        request.extensions_mut().insert(Waited(Duration::from_secs(2)));
        Counted::over(std::sync::Arc::new(Answers), "max", &metrics).send(request, Options::default()).await.unwrap();
        let text = metrics.text();
        // Of a histogram the sum: the buckets are not what anybody relies on.
        let mut figures: Vec<&str> = text.lines().filter(|line| !line.contains("_bucket{")).collect();
        figures.sort_unstable();
        insta::assert_snapshot!("figures", figures.join("\n"));
    }

    #[test]
    fn operations_come_from_a_closed_list() {
        assert_eq!(operation("max", "/subscriptions"), "subscriptions");
        assert_eq!(operation("creatio", "/0/odata/Channel(00000000-0000-0000-0000-000000000000)"), "odata");
        assert_eq!(operation("creatio", "/elsewhere/4711"), "other");
    }
}
