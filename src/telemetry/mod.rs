//! Logs and traces: where they go, how much is said, and that nothing secret is in them.
//!
//! Owns the process's one subscriber, its [level](set_level), which changes without a restart, and
//! behind the feature `otlp` the export of spans. Must not decide what is worth saying: that is
//! with whoever says it.
//!
//! Credentials live in `SecretString`, whose `Debug` is silent, and no error quotes one; spans
//! carry names, kinds and outcomes, never a text of a customer. What has been [`hide`]n is redacted
//! out of every line and every exported span, whoever wrote it: the second lock.

mod level;
mod lines;
#[cfg(feature = "otlp")]
mod otlp;
mod redact;
mod terminal;

use std::io;

use tracing::Span;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use level::{LevelError, follow, set_level};
pub use lines::{Format, choose, tell};
pub use redact::{hide, redacted};
pub(crate) use terminal::{colours, plain};

/// Ends the export of traces when it is dropped: what has not been sent yet is sent then, for at
/// most [`Running::FLUSH`].
#[derive(Debug, Default)]
#[must_use = "spans that were not sent yet are lost with it"]
pub struct Running {
    #[cfg(feature = "otlp")]
    _traces: Option<otlp::Traces>,
}

impl Running {
    /// How long a collector that does not answer holds up the end of the process.
    pub const FLUSH: std::time::Duration = std::time::Duration::from_secs(3);
}

/// Starts logging to stderr. The environment variable `MAXCHANNEL_LOG` sets what is said, as
/// `info`, `debug` or `maxchannel::relay=debug,info`; without it `default` holds. `format` is that
/// of a process for which none was [chosen](choose). A second call changes nothing.
pub fn start(format: Format, default: &str) {
    let _none = begin(format, default, None);
}

/// As [`start`], for what runs until it is stopped: with the feature `otlp` and an endpoint in the
/// environment (`OTEL_EXPORTER_OTLP_ENDPOINT`) its spans are exported under the name `service`,
/// unless `OTEL_SERVICE_NAME` gives another.
pub fn start_service(format: Format, default: &str, service: &'static str) -> Running {
    begin(format, default, Some(service))
}

fn begin(format: Format, default: &str, service: Option<&'static str>) -> Running {
    let (format, unknown) = lines::settle(format);
    let wanted = std::env::var("MAXCHANNEL_LOG").ok();
    let parsed = wanted.as_deref().map(level::parse).transpose();
    let first = match (&parsed, &wanted) {
        (Ok(Some(_)), Some(wanted)) => wanted.as_str(),
        _ => default,
    };
    let (filter, complaint) = match parsed {
        Ok(Some(filter)) => (filter, None),
        Ok(None) => (tracing_subscriber::EnvFilter::new(default), None),
        Err(error) => (tracing_subscriber::EnvFilter::new(default), Some(error)),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(terminal::colours(&io::stderr()))
        .with_writer(redact::Redacting(io::stderr));
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    #[cfg(feature = "otlp")]
    let (traces, problem) = match service.map(otlp::start) {
        None | Some(Ok(None)) => (None, None),
        Some(Ok(Some(traces))) => (Some(traces), None),
        Some(Err(problem)) => (None, Some(problem)),
    };
    #[cfg(feature = "otlp")]
    let subscriber = subscriber.with(traces.as_ref().map(otlp::Traces::layer));
    #[cfg(not(feature = "otlp"))]
    let _ = service;
    if subscriber.try_init().is_err() {
        // Logging has been started before.
        return Running::default();
    }
    level::Level::new(handle, first).keep();
    if let Some(error) = complaint {
        tracing::error!("MAXCHANNEL_LOG: {error}");
    }
    if let Some(unknown) = unknown {
        tracing::error!("{}: {unknown:?} is neither text nor json", lines::FORMAT);
    }
    #[cfg(feature = "otlp")]
    if let Some(problem) = problem {
        tracing::error!("traces are not exported: {problem}");
    }
    Running {
        #[cfg(feature = "otlp")]
        _traces: traces,
    }
}

/// Writes the id of the trace into the field `trace_id` of a span that has it, where traces are
/// exported: so a line of the log leads to its trace.
#[must_use]
pub fn traced(span: Span) -> Span {
    #[cfg(feature = "otlp")]
    otlp::record_trace_id(&span);
    span
}
