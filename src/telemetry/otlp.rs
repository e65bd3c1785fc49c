//! The export of spans over OTLP (HTTP, protobuf).
//!
//! Spans of this program only, without the events inside them: those are the log's. The collector
//! is reached by the same transport as everything else, from a thread of the exporter's own, so
//! that neither a slow collector nor the end of the program's runtime matters. Nothing about a
//! trace is told to MAX, MANGO OFFICE or Creatio.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Array, KeyValue, StringValue, Value};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::Span;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use super::{Running, redacted};
use crate::transport::{Options, ReqwestTransport, Transport as _, Trust};

/// Names the tracer, and is the crate whose spans are exported.
const SCOPE: &str = env!("CARGO_CRATE_NAME");

/// The variables that say where spans go, the narrower one first (OpenTelemetry specification,
/// "OTLP Exporter Configuration").
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// A PEM file with the collector's authority.
const CERTIFICATES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];

/// The export; it ends with this.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

/// None: the environment names no endpoint, or switches all of it off.
///
/// # Errors
/// One sentence about a variable or file that cannot be used.
pub fn start(service: &'static str) -> Result<Option<Traces>, String> {
    let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none");
    if off || ENDPOINTS.into_iter().find_map(set).is_none() {
        return Ok(None);
    }
    let trust = match CERTIFICATES.into_iter().find_map(set) {
        None => Trust::public(),
        Some(file) => std::fs::read_to_string(&file)
            .map_err(|error| error.to_string())
            .and_then(|pem| Trust::with_pem(&pem))
            .map_err(|error| format!("{file}: {error}"))?,
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_http_client(Client::new(trust)?)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Some(Traces::over(exporter, service)))
}

fn set(variable: &str) -> Option<String> {
    std::env::var(variable).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

impl Traces {
    fn over(exporter: impl SpanExporter + 'static, service: &'static str) -> Self {
        let named = Resource::builder().build();
        let is_named =
            named.get(&"service.name".into()).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
        let resource = Resource::builder();
        let resource = if is_named { resource } else { resource.with_service_name(service) };
        let resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(Blotted(exporter)).with_resource(resource).build();
        Self { provider }
    }

    /// Takes the spans of this program, whatever the log's level is.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let ours = |metadata: &tracing::Metadata<'_>| {
            metadata.is_span() && metadata.target().split("::").next() == Some(SCOPE)
        };
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(SCOPE))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(tracing_subscriber::filter::filter_fn(ours))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // What could not be sent has been told by the client.
        let _ = self.provider.shutdown_with_timeout(Running::FLUSH);
    }
}

pub fn record_trace_id(span: &Span) {
    if !span.is_disabled() {
        let context = span.context();
        let context = context.span().span_context().clone();
        if context.is_valid() {
            span.record("trace_id", context.trace_id().to_string());
        }
    }
}

/// Exports what is left after redaction.
#[derive(Debug)]
struct Blotted<E>(E);

impl<E: SpanExporter> SpanExporter for Blotted<E> {
    fn export(&self, mut batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        for span in &mut batch {
            span.attributes.iter_mut().for_each(|attribute| redact(&mut attribute.value));
        }
        self.0.export(batch)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn redact(value: &mut Value) {
    let clean = |text: &StringValue| StringValue::from(redacted(text.as_str()));
    match value {
        Value::String(text) => *text = clean(text),
        Value::Array(Array::String(texts)) => texts.iter_mut().for_each(|text| *text = clean(text)),
        _ => {}
    }
}

/// The exporter's way to the collector. It has a runtime of its own and blocks: the exporter calls
/// it from its own thread only.
struct Client {
    runtime: tokio::runtime::Runtime,
    transport: ReqwestTransport,
    /// The last batch could not be sent; told once until one is.
    failing: AtomicBool,
}

impl Client {
    fn new(trust: Trust) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("a runtime for them cannot be started: {error}"))?;
        let transport = ReqwestTransport::direct(trust)?;
        Ok(Self { runtime, transport, failing: AtomicBool::new(false) })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").finish_non_exhaustive()
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: http::Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        // Spans of the export itself would have to be exported too, without end.
        let options = Options { timeout: Duration::from_secs(10), max_answer: 1024 * 1024 };
        let sent = async { self.transport.send(request, options).await }.with_subscriber(NoSubscriber::default());
        let answer = self.runtime.block_on(sent);
        let problem = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("the collector answers {}", answer.status().as_u16())),
            Err(error) => Some(error.to_string()),
        };
        let failed_before = self.failing.swap(problem.is_some(), Ordering::Relaxed);
        if let Some(problem) = problem.filter(|_| !failed_before) {
            tracing::warn!("spans cannot be exported and are dropped: {problem}; check OTEL_EXPORTER_OTLP_ENDPOINT");
        }
        Box::pin(std::future::ready(answer.map_err(HttpError::from)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use secrecy::SecretString;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Collected(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Collected {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    #[test]
    fn only_our_spans_are_exported_without_what_is_said_in_them_and_without_secrets() {
        super::super::hide(&SecretString::from("canary-4713-token"));
        let collected = Collected::default();
        let traces = Traces::over(collected.clone(), "a-test");
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        let trace_id = tracing::subscriber::with_default(subscriber, || {
            let outer =
                super::super::traced(tracing::info_span!("pass", name = "support", trace_id = tracing::field::Empty));
            let _entered = outer.enter();
            tracing::error!("a customer wrote canary-text");
            let _foreign = tracing::info_span!(target: "hyper::client", "connection", token = "canary-text").entered();
            let _inner = tracing::debug_span!("call", about = "GET /me with canary-4713-token").entered();
            outer.context().span().span_context().trace_id()
        });
        drop(traces);
        let spans = collected.0.lock().unwrap();
        let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["call", "pass"]);
        assert!(spans.iter().all(|span| span.span_context.trace_id() == trace_id), "one trace");
        assert_eq!(spans[0].parent_span_id, spans[1].span_context.span_id());
        let shown = format!("{spans:?}");
        assert!(shown.contains(&trace_id.to_string()) && shown.contains("GET /me with [secret]"), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}
