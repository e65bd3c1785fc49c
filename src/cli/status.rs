//! `maxchannel status` and `kubectl maxchannel`: how channels stand, with cause and remedy, asked
//! of a running `maxchannel run` or of a cluster. Both show the same status.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};

use super::installation::language;
use super::{Output, USAGE};
use crate::api::{ConditionType, Language, Reason, catalogue};
use crate::controller::Channel;
use crate::local::{Shown, ShownChannel};
use crate::transport::{Options, ReqwestTransport, Transport as _, Trust};

/// Show how the channels stand, with cause and remedy.
///
/// Asks a running `maxchannel run`, or with --cluster a Kubernetes. Exit code 0: all channels are
/// ready; 1: not all; 2: wrong usage, or nobody answers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel status\n  maxchannel status support --lang ru\n  maxchannel status --server \
                        http://127.0.0.1:9090 -o json\n  maxchannel status --cluster -A\n  maxchannel status --watch\n\nInstalled under the name \
                        kubectl-maxchannel it is `kubectl maxchannel`, and asks the cluster:\n  kubectl maxchannel -n crm support"
)]
pub(super) struct Args {
    /// Only this channel: `name` or `namespace/name`.
    name: Option<String>,
    /// Where `maxchannel run` listens.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// Ask the cluster of the kubeconfig instead.
    #[arg(long, conflicts_with = "server")]
    cluster: bool,
    /// Namespace in the cluster. Default: that of the context.
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "server")]
    namespace: Option<String>,
    /// All namespaces of the cluster.
    #[arg(short = 'A', long, conflicts_with_all = ["server", "namespace"])]
    all_namespaces: bool,
    /// Context of the kubeconfig. Default: the current one.
    #[arg(long, value_name = "NAME", conflicts_with = "server")]
    context: Option<String>,
    /// The language: `en` or `ru`. Default: by LC_ALL, LC_MESSAGES, LANG.
    #[arg(long, value_name = "LANGUAGE")]
    lang: Option<Language>,
    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Show it again whenever it changes, in the same place of the terminal, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
}

/// Between two checks of --watch.
const WATCH: Duration = Duration::from_secs(2);

pub(super) fn run(args: &Args) -> ExitCode {
    if args.watch {
        return super::in_runtime(async {
            tokio::select! {
                never = watch(args) => Ok(never),
                ended = tokio::signal::ctrl_c() => ended.map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string()),
            }
        })
        .unwrap_or_else(|message: String| fails(args, &message));
    }
    match super::in_runtime(observe(args)) {
        Ok((text, ready)) => {
            let printed = super::print(&text);
            if ready { printed } else { ExitCode::from(1) }
        }
        Err(message) => fails(args, &message),
    }
}

fn fails(args: &Args, message: &str) -> ExitCode {
    super::complain("status", args.output, message);
    ExitCode::from(USAGE)
}

/// What is to be printed, and whether all channels are ready.
async fn observe(args: &Args) -> Result<(String, bool), String> {
    let asks_cluster = args.cluster || args.namespace.is_some() || args.all_namespaces || args.context.is_some();
    let mut shown = if asks_cluster { ask_cluster(args).await? } else { ask(&args.server).await? };
    if let Some(name) = &args.name {
        shown.channels.retain(|one| one.name == *name || format!("{}/{}", one.namespace, one.name) == *name);
        if shown.channels.is_empty() {
            return Err(format!("there is no channel {name}; without a name all are shown"));
        }
    }
    let text = match args.output {
        Output::Json => serde_json::to_string_pretty(&shown).map_err(|error| error.to_string())? + "\n",
        Output::Text => as_text(&shown, language(args.lang), super::colours()),
    };
    let ready = shown.problems.is_empty() && shown.channels.iter().all(|one| state(one, "Ready").0 == "True");
    Ok((text, ready))
}

/// Shows it whenever it has changed; on a terminal in the same place. Who does not answer is asked
/// again.
async fn watch(args: &Args) -> ExitCode {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let mut before = None;
    loop {
        let text = observe(args)
            .await
            .map_or_else(|message| format!("! {}\n", crate::telemetry::plain(&message)), |told| told.0);
        if before.as_ref() != Some(&text) {
            let printed = if terminal { in_place(&text) } else { format!("{text}\n") };
            if super::print(&printed) != ExitCode::SUCCESS {
                return ExitCode::from(USAGE);
            }
            before = Some(text);
        }
        tokio::time::sleep(WATCH).await;
    }
}

/// From the upper left corner, each line to its end and the rest of the screen cleared: nothing
/// flickers.
fn in_place(text: &str) -> String {
    format!("\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n"))
}

/// What `maxchannel run` shows under its address.
pub(super) async fn ask(server: &str) -> Result<Shown, String> {
    let address = format!("{}/status", server.trim_end_matches('/'));
    let request =
        http::Request::get(&address).body(Bytes::new()).map_err(|_| format!("--server {server} is no address"))?;
    let transport = ReqwestTransport::direct(Trust::public())?;
    let options = Options { timeout: Duration::from_secs(10), ..Options::default() };
    let answer = transport
        .send(request, options)
        .await
        .map_err(|error| format!("{error}; is `maxchannel run` started, and is --server its --listen?"))?;
    serde_json::from_slice(answer.body()).map_err(|_| format!("{address} is not answered by `maxchannel run`"))
}

/// What the channels of a cluster say of themselves.
async fn ask_cluster(args: &Args) -> Result<Shown, String> {
    let namespace = if args.all_namespaces { Place::All } else { Place::Namespace(args.namespace.clone()) };
    let shown = channels(args.context.as_deref(), namespace).await?.into_iter().map(|channel| {
        let name = channel.reference();
        ShownChannel {
            status: channel.status.map(Arc::unwrap_or_clone).unwrap_or_default(),
            namespace: name.namespace,
            name: name.name,
            relay: None,
        }
    });
    Ok(Shown { channels: shown.collect(), problems: Vec::new() })
}

/// Whose channels a cluster is asked for.
pub(super) enum Place {
    All,
    /// None: the namespace of the context.
    Namespace(Option<String>),
}

/// What is said where the way to a cluster does not lead there directly.
const NO_PROXY: &str =
    "; the proxy-url of the kubeconfig, or the proxy of the environment, is not used: reach the cluster directly";

/// The channels of a cluster.
pub(super) async fn channels(context: Option<&str>, place: Place) -> Result<Vec<Channel>, String> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = match context {
        Some(_) => Config::from_kubeconfig(&options).await.map_err(|error| error.to_string()),
        None => Config::infer().await.map_err(|error| error.to_string()),
    };
    let mut config =
        config.map_err(|error| format!("no cluster can be asked ({error}): set KUBECONFIG or --context"))?;
    // The client is built without proxies.
    let is_proxied = config.proxy_url.take().is_some();
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(20));
    let default_namespace = config.default_namespace.clone();
    let address = config.cluster_url.clone();
    let client = Client::try_from(config).map_err(|error| format!("the cluster {address} cannot be asked: {error}"))?;
    let (api, place): (Api<Channel>, _) = match place {
        Place::All => (Api::all(client), "all namespaces".to_owned()),
        Place::Namespace(given) => {
            let namespace = given.unwrap_or(default_namespace);
            (Api::namespaced(client, &namespace), format!("the namespace {namespace}"))
        }
    };
    let channels = api.list(&kube::api::ListParams::default()).await.map_err(|error| match error {
        kube::Error::Api(status) if status.code == 404 => {
            format!(
                "the cluster {address} does not know MaxChannels: install the chart, or apply crds/maxchannels.yaml"
            )
        }
        error => {
            let hint = if is_proxied { NO_PROXY } else { "" };
            format!("the MaxChannels of {place} cannot be listed at {address}: {error}{hint}")
        }
    })?;
    Ok(channels.items)
}

fn state<'a>(channel: &'a ShownChannel, condition: &str) -> (&'a str, &'a str) {
    channel
        .status
        .conditions
        .iter()
        .find(|one| one.type_ == condition)
        .map_or(("Unknown", ""), |one| (one.status.as_str(), one.reason.as_str()))
}

fn as_text(shown: &Shown, language: Language, colours: bool) -> String {
    let header = match language {
        Language::English => ["CHANNEL", "READY", "REASON", "BOT", "INTAKE"],
        Language::Russian => ["КАНАЛ", "ГОТОВ", "ПРИЧИНА", "БОТ", "ПРИЁМ"],
    };
    let mut rows = vec![header.map(str::to_owned)];
    for one in &shown.channels {
        let (ready, reason) = state(one, "Ready");
        let bot = one.status.bot.as_ref().map(|bot| bot.username.clone().unwrap_or_else(|| bot.user_id.to_string()));
        let intake = one.status.intake.map(|intake| format!("{intake:?}"));
        rows.push([
            format!("{}/{}", one.namespace, one.name),
            ready.to_owned(),
            reason.to_owned(),
            bot.unwrap_or_else(|| "-".to_owned()),
            intake.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    for one in &shown.channels {
        let told =
            one.status.conditions.iter().filter(|condition| {
                !matches!(condition.type_.as_str(), "Ready" | "Stalled") && entry(condition).is_some()
            });
        for condition in told {
            let _ = write!(text, "\n{}/{}\n{}", one.namespace, one.name, explained(condition, language, colours));
        }
    }
    for problem in &shown.problems {
        let _ = writeln!(text, "\n! {problem}");
    }
    text
}

fn entry(condition: &Condition) -> Option<&'static catalogue::Entry> {
    let kind: ConditionType = condition.type_.parse().ok()?;
    let reason: Reason = condition.reason.parse().ok()?;
    catalogue::entry(kind, reason)
}

fn explained(condition: &Condition, language: Language, colours: bool) -> String {
    let Some(entry) = entry(condition) else { return String::new() };
    let words = entry.text(language);
    let [cause, remedy, who, said] = match language {
        Language::English => ["cause", "remedy", "who", "detail"],
        Language::Russian => ["причина", "решение", "кто", "подробно"],
    };
    let number = match (entry.error, language) {
        (Some(number), Language::English) => format!(" (documented error {number})"),
        (Some(number), Language::Russian) => format!(" (ошибка {number})"),
        (None, _) => String::new(),
    };
    let (on, off) = match (colours, entry.class) {
        (false, _) => ("", ""),
        (true, catalogue::Class::Informational) => ("\u{1b}[33m", "\u{1b}[0m"),
        (true, _) => ("\u{1b}[31m", "\u{1b}[0m"),
    };
    let mut text = format!(
        "  {on}{}={} {}{off}{number}\n    {cause}: {}\n    {remedy}: {}\n    {who}: {}\n",
        condition.type_,
        condition.status,
        condition.reason,
        words.cause,
        words.remedy,
        entry.mender.describe(language)
    );
    if let Some(detail) = entry.detail(&condition.message) {
        let _ = writeln!(text, "    {said}: {detail}");
    }
    text
}
