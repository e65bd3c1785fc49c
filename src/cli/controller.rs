//! `maxchannel controller`: the Kubernetes half, as it runs in a pod of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::USAGE;
use super::installation::InstallationArgs;
use super::run::stop_on_signals;
use crate::api;
use crate::channel::Installation;
use crate::channel::schedule::Cadence;
use crate::controller::{self, RelayDefaults, RelayLink, RelayPods, Settings, StatusPage, lease};
use crate::telemetry;

/// Watch the MaxChannels of a cluster and bring everything they need about.
///
/// Runs in a pod of the Helm chart, which gives the settings by environment variables; outside a
/// cluster the current kubeconfig serves. More than one may run: one of them leads. Exit code 0:
/// stopped by a signal; 1: a task of the program has ended by itself; 2: wrong usage, or the
/// cluster or the address cannot be used.
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
    /// Into how many shards the channels are divided. Each has a Lease of its own, so that as many
    /// replicas work at once; a replica takes as many shards as are left to it.
    #[arg(long, value_name = "NUMBER", env = "MAXCHANNEL_SHARDS", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(lease::MOST)))]
    shards: u32,
    /// The image of the relays.
    #[arg(long, value_name = "IMAGE", env = "MAXCHANNEL_RELAY_IMAGE")]
    relay_image: String,
    /// The pull policy of the relays' image.
    #[arg(long, value_name = "POLICY", env = "MAXCHANNEL_RELAY_IMAGE_PULL_POLICY")]
    relay_image_pull_policy: Option<String>,
    /// What relays have where their channels say nothing (JSON: resources, volumeClaim {size,
    /// storageClassName}, imagePullSecrets [{name}], nodeSelector, tolerations), and in `pod` what
    /// all have (affinity, topologySpreadConstraints, priorityClassName, labels, annotations).
    #[arg(long, value_name = "JSON", env = "MAXCHANNEL_RELAY_DEFAULTS")]
    relay_defaults: Option<String>,
    /// How many relays are replaced at once when their pods change, as by a new image: a number, or
    /// a share such as 10%. None are after one that does not come up.
    #[arg(long, value_name = "NUMBER", env = "MAXCHANNEL_ROLLOUT_PARALLELISM", default_value = "1")]
    rollout_parallelism: controller::Parallelism,
    /// Where the relays listen in their pods: `::` is every address of both families.
    #[arg(long, value_name = "ADDRESS", env = "MAXCHANNEL_RELAY_LISTEN", default_value = "::")]
    relay_listen: IpAddr,
    /// The user and group of the relays; none: the platform's choice.
    #[arg(long, value_name = "ID", env = "MAXCHANNEL_RELAY_RUN_AS_USER", value_parser = clap::value_parser!(i64).range(1..))]
    relay_run_as_user: Option<i64>,
    /// Who may reach the relays and where they may go (JSON: controller, ingress and monitoring are
    /// lists of NetworkPolicyPeers, egress of NetworkPolicyEgressRules; an empty list is no limit).
    #[arg(long, value_name = "JSON", env = "MAXCHANNEL_RELAY_NETWORK")]
    relay_network: Option<String>,
    /// The hosts (`acme.creatio.com`) and domains (`*.creatio.com`) at which a channel's CRM,
    /// identity service and bots may be, with commas between; none: everywhere.
    #[arg(long, value_name = "HOSTS", env = "MAXCHANNEL_ALLOWED_HOSTS", default_value = "")]
    allowed_hosts: String,
    /// The public host of channels that name no intake, and of those that MANGO OFFICE calls; none:
    /// they poll.
    #[arg(long, value_name = "HOST", env = "MAXCHANNEL_WEBHOOK_HOST")]
    webhook_host: Option<String>,
    /// The ingress (JSON: className, annotations, tlsSecretName) of channels with a host that have
    /// none of their own.
    #[arg(long, value_name = "JSON", env = "MAXCHANNEL_WEBHOOK_INGRESS")]
    webhook_ingress: Option<String>,
    /// The Gateway (JSON: name, namespace, sectionName) at which channels with a host and without
    /// an ingress of their own get a route.
    #[arg(long, value_name = "JSON", env = "MAXCHANNEL_WEBHOOK_GATEWAY")]
    webhook_gateway: Option<String>,
    /// Between two checks of the subscription in MAX.
    #[arg(long, value_name = "DURATION", env = "MAXCHANNEL_INTERVAL_SUBSCRIPTION", default_value = "45s", value_parser = interval)]
    interval_subscription: api::Duration,
    /// Between two checks of a relay.
    #[arg(long, value_name = "DURATION", env = "MAXCHANNEL_INTERVAL_RELAY", default_value = "30s", value_parser = interval)]
    interval_relay: api::Duration,
    /// Between two checks of the bot.
    #[arg(long, value_name = "DURATION", env = "MAXCHANNEL_INTERVAL_BOT", default_value = "5m", value_parser = interval)]
    interval_bot: api::Duration,
    /// Between two checks of MANGO OFFICE.
    #[arg(long, value_name = "DURATION", env = "MAXCHANNEL_INTERVAL_MANGO", default_value = "10m", value_parser = interval)]
    interval_mango: api::Duration,
    /// Between two checks of the CRM.
    #[arg(long, value_name = "DURATION", env = "MAXCHANNEL_INTERVAL_CRM", default_value = "10m", value_parser = interval)]
    interval_crm: api::Duration,
    /// How long a deletion tries to take away what is outside, counted from the first try of this
    /// process; then it says what is left there and lets the channel go. Undelivered messages are
    /// waited for without end.
    #[arg(long, value_name = "DURATION", env = "MAXCHANNEL_DELETION_PATIENCE", default_value = "2m", value_parser = interval)]
    deletion_patience: api::Duration,
    /// A file with the log level (info, debug, or a filter like
    /// `info,maxchannel::controller=debug`), taken up within a second when it changes, here and in
    /// the relays. Beats MAXCHANNEL_LOG.
    #[arg(long, value_name = "FILE", env = "MAXCHANNEL_LOG_LEVEL_FILE")]
    log_level_file: Option<PathBuf>,
    /// Where to serve the status page; none: there is none. Reading it needs its token, unless this
    /// is an address of this machine alone; trying a dead letter again always does.
    #[arg(long, value_name = "ADDRESS", env = "MAXCHANNEL_STATUS_PAGE", requires = "status_page_token_file")]
    status_page: Option<SocketAddr>,
    /// The file with the status page's token, of at least 16 characters; one that is replaced
    /// counts at once.
    #[arg(long, value_name = "FILE", env = "MAXCHANNEL_STATUS_PAGE_TOKEN_FILE")]
    status_page_token_file: Option<PathBuf>,
    /// Where all relays are played, each under `/<namespace>/<name>`: for measuring the controller
    /// without pods.
    #[arg(long, value_name = "URL", env = "MAXCHANNEL_PLAYED_RELAYS", hide = true)]
    played_relays: Option<String>,
    #[command(flatten)]
    installation: InstallationArgs,
}

/// What of the environment relays are given too, where this program can export traces. Not the
/// headers, which may hold a key.
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
    let webhook_ingress = json("MAXCHANNEL_WEBHOOK_INGRESS", args.webhook_ingress.as_deref())?;
    let gateway = json("MAXCHANNEL_WEBHOOK_GATEWAY", args.webhook_gateway.as_deref())?;
    if gateway.is_some() && webhook_ingress.is_some() {
        return Err("webhook.ingress and webhook.gateway are both set: give the one that serves the host".to_owned());
    }
    let network = json("MAXCHANNEL_RELAY_NETWORK", args.relay_network.as_deref())?.unwrap_or_default();
    let relay_defaults: RelayDefaults =
        json("MAXCHANNEL_RELAY_DEFAULTS", args.relay_defaults.as_deref())?.unwrap_or_default();
    let extras = relay_defaults.pod.clone();
    let webhook_host = args.webhook_host.clone().filter(|host| !host.is_empty());
    let mango_base = webhook_host.as_ref().map(|host| {
        Url::parse(&format!("https://{host}"))
            .map_err(|error| format!("--webhook-host {host:?} is no host ({error}): write it like max.acme.ru"))
    });
    let namespaces = args.watch_namespaces.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(Settings {
        listen: args.listen,
        installation: Installation { mango_base: mango_base.transpose()?, ..args.installation.installation()? },
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
        // A pod that starts again is another holder: what it did before the crash is not known
        // here.
        identity: format!("{}_{}", args.pod_name, uuid::Uuid::new_v4().simple()),
        lease: args.lease.clone(),
        shards: args.shards,
        lease_duration: lease::DURATION,
        namespaces: namespaces.map(ToOwned::to_owned).collect(),
        relay_image: args.relay_image.clone(),
        relay_pull_policy: args.relay_image_pull_policy.clone().filter(|policy| !policy.is_empty()),
        relay_defaults,
        rollout_parallelism: args.rollout_parallelism,
        relay_env: relay_env().chain(args.installation.proxy.env()?).collect(),
        relay_pods: RelayPods {
            listen: args.relay_listen,
            run_as_user: args.relay_run_as_user,
            network,
            gateway,
            extras,
        },
        allowed_hosts: args.allowed_hosts.parse()?,
        log_level: telemetry::follow(args.log_level_file.clone()),
        webhook_host,
        webhook_ingress,
        relay_link: args.played_relays.clone().map_or_else(RelayLink::default, |base| RelayLink::Fake { base }),
        status_page: args
            .status_page
            .zip(args.status_page_token_file.clone())
            .map(|(listen, token)| StatusPage { listen, token }),
    })
}

/// A setting in JSON; none where it is not given or empty.
fn json<T: DeserializeOwned>(name: &str, text: Option<&str>) -> Result<Option<T>, String> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    text.map(|text| serde_json::from_str(text).map_err(|error| format!("{name}: {error}"))).transpose()
}

/// A pause between two checks, in the one grammar of durations; without any pause the other side
/// would be asked without end.
fn interval(text: &str) -> Result<api::Duration, String> {
    let pause: api::Duration = text.parse().map_err(|error: api::ValueError| error.to_string())?;
    if pause == api::Duration::ZERO { Err("it must be at least 1s".to_owned()) } else { Ok(pause) }
}

fn relay_env() -> impl Iterator<Item = (String, String)> {
    RELAY_ENV.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
}

/// One client for calls, which must end, and one for watches, which are silent for minutes.
async fn clients() -> Result<(kube::Client, kube::Client), String> {
    // Another part of the program may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::infer().await.map_err(|error| format!("the cluster is not known: {error}"))?;
    controller::clients(config).map_err(|error| format!("the cluster cannot be reached: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the chart takes the program takes too, and the other way round: a value that passes
    /// `helm` must not end the pod.
    #[test]
    fn the_chart_and_the_program_read_the_same_intervals() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../charts/maxchannel/values.schema.json")).unwrap();
        let pattern = &schema["definitions"]["interval"];
        for name in schema["properties"]["intervals"]["properties"].as_object().unwrap().values() {
            assert_eq!(name["$ref"], "#/definitions/interval");
        }
        let taken = |text: &str| jsonschema::is_valid(pattern, &serde_json::json!(text));
        for (text, good) in [
            ("1s", true),
            ("90m", true),
            ("24h", true),
            ("30d", true),
            ("999999999s", true),
            ("0s", false),
            ("0m", false),
            ("1h30m", false),
            ("1000000000s", false),
            ("05s", false),
            ("5ms", false),
            ("1.5h", false),
            ("30", false),
            ("", false),
            ("1s\n", false),
        ] {
            assert_eq!((taken(text), interval(text).is_ok()), (good, good), "{text:?}");
        }
    }

    #[test]
    fn the_chart_and_the_program_read_the_same_addresses_of_a_proxy() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../charts/maxchannel/values.schema.json")).unwrap();
        let pattern = &schema["properties"]["proxy"]["properties"]["url"];
        for (url, good) in [
            ("http://proxy.acme.ru:3128", true),
            ("https://proxy.acme.ru/", true),
            ("http://proxy", true),
            ("http://proxy_1.acme.ru.:65535", true),
            ("http://10.0.0.9:8080", true),
            ("http://[2001:db8::9]:3128", true),
            ("http://proxy.acme.ru:99999", false),
            ("http://proxy.acme.ru:65536", false),
            ("http://proxy.acme.ru:0", false),
            ("http://proxy.acme.ru:port", false),
            ("http://10.0.0.256:3128", false),
            ("http://10.0.0.1.1:3128", false),
            ("http://:3128", false),
            ("http://[proxy]:3128", false),
            ("http://[2001:db8::9:3128", false),
            ("http://proxy|acme.ru", false),
            ("http://proxy.acme.ru/way", false),
            ("proxy.acme.ru:3128", false),
            ("socks5://proxy.acme.ru:1080", false),
        ] {
            let taken = jsonschema::is_valid(pattern, &serde_json::json!(url));
            assert_eq!((taken, crate::transport::Proxy::new(url, "").is_ok()), (good, good), "{url}");
        }
    }
}
