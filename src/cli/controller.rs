//! `maxchannel controller`: the Kubernetes half, as it runs in a pod of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::USAGE;
use super::installation::InstallationArgs;
use super::run::stop_on_signals;
use crate::api;
use crate::channel::schedule::Cadence;
use crate::controller::{self, Settings, lease};
use crate::telemetry;

/// Watch the MaxChannels of a cluster and bring everything they need about.
///
/// Runs in a pod of the Helm chart, which gives the settings by environment variables; outside a cluster the current kubeconfig serves.
/// More than one may run: one of them leads. Exit code 0: stopped by a signal; 1: a task of the program has ended by itself; 2: wrong
/// usage, or the cluster or the address cannot be used.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  maxchannel controller --relay-image ghcr.io/acme/maxchannel:0.1.0 --pod-namespace maxchannel"
)]
pub(super) struct Args {
    /// Where to listen for /healthz, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", env = "MAXCHANNEL_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The namespaces whose channels are served, with commas between; none: all.
    #[arg(long, value_name = "NAMES", env = "MAXCHANNEL_WATCH_NAMESPACES", default_value = "")]
    watch_namespaces: String,
    /// The name of this pod.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "maxchannel-controller")]
    pod_name: String,
    /// The namespace of this pod, in which the Lease is.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "default")]
    pod_namespace: String,
    /// The name of the Lease that says which replica leads.
    #[arg(long, value_name = "NAME", env = "MAXCHANNEL_LEASE", default_value = "maxchannel")]
    lease: String,
    /// The image of the relays.
    #[arg(long, value_name = "IMAGE", env = "MAXCHANNEL_RELAY_IMAGE")]
    relay_image: String,
    /// The pull policy of the relays' image.
    #[arg(long, value_name = "POLICY", env = "MAXCHANNEL_RELAY_IMAGE_PULL_POLICY")]
    relay_image_pull_policy: Option<String>,
    /// The public host of channels that name no intake; none: they poll.
    #[arg(long, value_name = "HOST", env = "MAXCHANNEL_WEBHOOK_HOST")]
    webhook_host: Option<String>,
    /// The ingress (JSON: className, annotations, tlsSecretName) of channels with a host that have none of their own.
    #[arg(long, value_name = "JSON", env = "MAXCHANNEL_WEBHOOK_INGRESS")]
    webhook_ingress: Option<String>,
    /// Between two looks at the subscription in MAX.
    #[arg(long, value_name = "DURATION", env = "MAXCHANNEL_INTERVAL_SUBSCRIPTION", default_value = "45s")]
    interval_subscription: api::Duration,
    /// Between two looks at a relay.
    #[arg(long, value_name = "DURATION", env = "MAXCHANNEL_INTERVAL_RELAY", default_value = "30s")]
    interval_relay: api::Duration,
    /// Between two looks at the bot.
    #[arg(long, value_name = "DURATION", env = "MAXCHANNEL_INTERVAL_BOT", default_value = "5m")]
    interval_bot: api::Duration,
    /// Between two looks at MANGO OFFICE.
    #[arg(long, value_name = "DURATION", env = "MAXCHANNEL_INTERVAL_MANGO", default_value = "10m")]
    interval_mango: api::Duration,
    /// Between two looks at the CRM.
    #[arg(long, value_name = "DURATION", env = "MAXCHANNEL_INTERVAL_CRM", default_value = "10m")]
    interval_crm: api::Duration,
    /// How long a deletion tries to take away what is outside, counted from the first try of this process; then it says what is left
    /// there and lets the channel go. Undelivered messages are waited for without end.
    #[arg(long, value_name = "DURATION", env = "MAXCHANNEL_DELETION_PATIENCE", default_value = "2m")]
    deletion_patience: api::Duration,
    /// A file with the log level (info, debug, or a filter like `info,maxchannel::controller=debug`), taken up within a second when it
    /// changes, here and in the relays. Beats MAXCHANNEL_LOG.
    #[arg(long, value_name = "FILE", env = "MAXCHANNEL_LOG_LEVEL_FILE")]
    log_level_file: Option<PathBuf>,
    #[command(flatten)]
    installation: InstallationArgs,
}

/// What of the environment relays are given too, where this program can export traces. Not the headers, which may hold a key.
const RELAY_ENV: &[&str] =
    if cfg!(feature = "otlp") { &["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] } else { &[] };

pub(super) fn run(args: &Args) -> ExitCode {
    let _telemetry = telemetry::start_service(telemetry::Format::Json, "warn,maxchannel=info", "maxchannel-controller");
    match super::in_runtime(serve(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("maxchannel controller: {message}");
            ExitCode::from(code)
        }
    }
}

async fn serve(args: &Args) -> Result<(), (u8, String)> {
    let usage = |message: String| (USAGE, message);
    let settings = settings(args).map_err(usage)?;
    let stop: CancellationToken =
        stop_on_signals().map_err(|error| usage(format!("signals cannot be watched: {error}")))?;
    let (client, watching) = clients().await.map_err(usage)?;
    let running =
        controller::start(settings, client, watching, stop.clone()).await.map_err(|error| usage(error.to_string()))?;
    running.stopped().await;
    if stop.is_cancelled() { Ok(()) } else { Err((1, "a task has ended by itself: the pod starts again".to_owned())) }
}

fn settings(args: &Args) -> Result<Settings, String> {
    let webhook_ingress = match args.webhook_ingress.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(serde_json::from_str(text).map_err(|error| format!("MAXCHANNEL_WEBHOOK_INGRESS: {error}"))?),
    };
    let namespaces = args.watch_namespaces.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(Settings {
        listen: args.listen,
        installation: args.installation.installation()?,
        cadence: Cadence {
            bot: args.interval_bot.millis(),
            subscriptions: args.interval_subscription.millis(),
            mango: args.interval_mango.millis(),
            crm: args.interval_crm.millis(),
            ..Cadence::default()
        },
        relay_interval: Duration::from_millis(args.interval_relay.millis().unsigned_abs()),
        deletion_patience: Duration::from_millis(args.deletion_patience.millis().unsigned_abs()),
        namespace: args.pod_namespace.clone(),
        pod: args.pod_name.clone(),
        // A pod that starts again is another holder: what it did before the crash is not known here.
        identity: format!("{}_{}", args.pod_name, uuid::Uuid::new_v4().simple()),
        lease: args.lease.clone(),
        lease_duration: lease::DURATION,
        namespaces: namespaces.map(ToOwned::to_owned).collect(),
        relay_image: args.relay_image.clone(),
        relay_pull_policy: args.relay_image_pull_policy.clone().filter(|policy| !policy.is_empty()),
        relay_env: relay_env(),
        log_level: telemetry::follow(args.log_level_file.clone()),
        webhook_host: args.webhook_host.clone().filter(|host| !host.is_empty()),
        webhook_ingress,
        played_relays: None,
    })
}

fn relay_env() -> BTreeMap<String, String> {
    RELAY_ENV.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect()
}

/// One client for calls, which must end, and one for watches, which are silent for minutes.
async fn clients() -> Result<(kube::Client, kube::Client), String> {
    // Another part of the program may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::infer().await.map_err(|error| format!("the cluster is not known: {error}"))?;
    controller::clients(config).map_err(|error| format!("the cluster cannot be reached: {error}"))
}
