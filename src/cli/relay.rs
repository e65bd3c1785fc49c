//! `maxchannel relay`: the message half of one channel, as it runs in a cluster.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};

use super::USAGE;
use super::installation::{ProxyArgs, data_dir};
use super::run::stop_on_signals;
use crate::contract::{Facts, RelayConfig, admin, webhook};
use crate::relay::http::Relays;
use crate::relay::{self, Relay, moving};
use crate::time::Clock;
use crate::time::Millis;
use crate::{telemetry, transport};

/// The program of its own that this command becomes.
const PROGRAM: &str = "maxchannel-relay";
/// Where a relay listens unless it is told.
const ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080));
/// The longest list of dead letters to try again, bytes.
const LONGEST_REPLAY: usize = 64 * 1024;
/// Between two checks of the configuration.
const CONFIG_INTERVAL: Duration = Duration::from_millis(500);

/// Carry the messages of one channel, as a pod beside the controller does.
///
/// Reads the folder that the controller mounts (channel.json and one file per credential), takes a
/// changed configuration up within a second, and states facts under /status: for the controller,
/// and for everybody where --listen is an address of this machine alone.
///
/// Exit code 0: stopped by a signal; 1: the relay cannot start; 2: wrong usage, or the
/// configuration or the address cannot be used.
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(
    after_help = "Example:\n  maxchannel relay --config /etc/maxchannel --listen [::]:8080 --data-dir /var/lib/maxchannel"
)]
pub(super) struct Args {
    /// The folder with channel.json and the credentials.
    #[arg(long, value_name = "DIR")]
    config: PathBuf,
    /// Where to listen for webhooks, /status, /readyz, /healthz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value_t = ADDRESS)]
    listen: SocketAddr,
    /// The folder of the store. Default ~/.local/share/maxchannel.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    proxy: ProxyArgs,
}

/// What `maxchannel-relay` says of itself; the options are those of `maxchannel relay`.
const HELP: &str = "Carry the messages of one channel: what `maxchannel relay` becomes.\n\n\
                    Usage: maxchannel-relay --config <DIR> [--listen <ADDRESS>] [--data-dir <DIR>] [--proxy <URL>]\n       \
                    [--proxy-except <NAMES>] [--ca-bundle <FILE>]\n\n\
                    `maxchannel relay --help` explains the options.\n";

/// What the arguments of `maxchannel-relay` ask for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Carry(Args),
    Help,
    Version,
}

/// Parses the arguments of `maxchannel-relay` and carries messages. Nothing that a relay does not
/// need is reached from here, so nothing of it is linked in: it takes half of the memory.
pub fn main() -> ExitCode {
    match parse(lexopt::Parser::from_env(), |name| std::env::var(name).ok()) {
        Ok(Asked::Carry(args)) => carry(&args),
        Ok(Asked::Help) => super::print(HELP),
        Ok(Asked::Version) => super::print(concat!("maxchannel-relay ", env!("CARGO_PKG_VERSION"), "\n")),
        Err(error) => {
            eprintln!("{PROGRAM}: {error}; `{PROGRAM} --help` shows the options");
            ExitCode::from(USAGE)
        }
    }
}

/// The same options as [`Args`], which clap parses: a test holds the two together.
fn parse(mut given: lexopt::Parser, env: impl Fn(&str) -> Option<String>) -> Result<Asked, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut config, mut listen, mut data_dir) = (None, None, None);
    let mut proxy = ProxyArgs::of_environment(env);
    while let Some(argument) = given.next()? {
        match argument {
            Long("config") => config = Some(folder(given.value()?)?),
            Long("listen") => listen = Some(given.value()?.parse()?),
            Long("data-dir") => data_dir = Some(folder(given.value()?)?),
            Long("help") | Short('h') => return Ok(Asked::Help),
            Long("version") | Short('V') => return Ok(Asked::Version),
            Long(name) => match proxy.option(name) {
                Some(value) => *value = Some(given.value()?.string()?),
                None => return Err(argument.unexpected()),
            },
            _ => return Err(argument.unexpected()),
        }
    }
    let config = config.ok_or("--config is missing: it names the folder with channel.json and the credentials")?;
    Ok(Asked::Carry(Args { config, listen: listen.unwrap_or(ADDRESS), data_dir, proxy }))
}

/// An empty path is a mistake, as of a variable that is not set.
fn folder(value: OsString) -> Result<PathBuf, lexopt::Error> {
    if value.is_empty() { Err("the name of a folder is empty".into()) } else { Ok(PathBuf::from(value)) }
}

/// Becomes `maxchannel-relay` where that lies beside this program, and serves by itself where it
/// does not.
pub(super) fn run(args: &Args, log_format: Option<super::Output>) -> ExitCode {
    let beside = std::env::current_exe().ok().map(|path| path.with_file_name(PROGRAM)).filter(|path| path.is_file());
    if let Some(program) = beside {
        let mut command = std::process::Command::new(&program);
        command.args(of_relay(std::env::args_os()));
        if let Some(format) = log_format {
            command.env("MAXCHANNEL_LOG_FORMAT", if format == super::Output::Json { "json" } else { "text" });
        }
        // It comes back only where the other cannot be started.
        let error = command.exec();
        eprintln!(
            "maxchannel relay: {} cannot be started ({error}), this program serves in its place",
            program.display()
        );
    }
    carry(args)
}

/// The arguments of `maxchannel relay` that are the other program's too: what stands behind the
/// command, without the form of the log.
fn of_relay(all: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut behind = all.skip_while(|argument| argument != "relay").skip(1);
    let mut kept = Vec::new();
    while let Some(argument) = behind.next() {
        if argument == "--log-format" {
            behind.next();
        } else if !argument.to_string_lossy().starts_with("--log-format=") {
            kept.push(argument);
        }
    }
    kept
}

fn carry(args: &Args) -> ExitCode {
    let _telemetry = telemetry::start_service(telemetry::Format::Json, "warn,maxchannel=info", "maxchannel-relay");
    match in_runtime(serve(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("maxchannel relay: {message}");
            ExitCode::from(code)
        }
    }
}

/// One thread carries a channel, beside the store's: a second one costs more in waking each other
/// than it does (`benches/README.md`, "Where the time goes").
fn in_runtime<T>(work: impl Future<Output = Result<T, (u8, String)>>) -> Result<T, (u8, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(super::RuntimeError)?.block_on(work)
}

async fn serve(args: &Args) -> Result<(), (u8, String)> {
    let usage = |message: String| (USAGE, message);
    args.proxy.take().map_err(usage)?;
    let folder = data_dir(args.data_dir.clone()).map_err(usage)?;
    std::fs::create_dir_all(&folder)
        .map_err(|error| usage(format!("the data folder {} cannot be made: {error}", folder.display())))?;
    let stop = stop_on_signals().map_err(|error| usage(format!("signals cannot be watched: {error}")))?;
    let config = read(&args.config).map_err(usage)?;
    take_level(&config);
    let listener = transport::listen(args.listen)
        .await
        .map_err(|error| usage(format!("cannot listen on {}: {error}", args.listen)))?;
    // Who reaches this machine's own address is on it.
    let guarded = !listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let (namespace, name) = (config.channel.namespace.clone(), config.channel.name.clone());
    let mut revision = config.channel.revision.clone();
    let bot = config.channel.bot_user_id;
    if let Some(former) = relay::bot_of(&folder).filter(|former| *former != bot) {
        let aside = relay::set_aside(&folder, former).map_err(|error| {
            (1, format!("the store of bot {former} cannot be set aside in {}: {error}", folder.display()))
        })?;
        let aside = aside.unwrap_or_default();
        tracing::warn!(former, bot, folder = %aside.display(), "the channel has another bot now; the messages of the one before are set aside");
    }
    let relays = Relays::default();
    let mut relay = if moving::is_held(&folder) {
        tracing::warn!(folder = %folder.display(), "the store is being moved, or has left: nothing is carried from here");
        None
    } else {
        let relay = Relay::open(config, &folder, Clock::real()).await.map_err(|error| (1, error.to_string()))?;
        relays.insert(&namespace, &name, relay.clone());
        Some(relay)
    };
    let in_force = Arc::new(Mutex::new(revision.clone()));
    let routes = Router::new()
        .route(crate::contract::status::PATH, get(facts))
        .route("/subscription/{made}", put(subscription))
        .route(admin::route::DEAD_LETTERS, get(dead_letters))
        .route(admin::route::REPLAY, post(replay))
        .with_state(At {
            relays: relays.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
            folder: folder.clone(),
            in_force: in_force.clone(),
            guarded,
        })
        .merge(relay::http::router(relays.clone()));
    let closing = stop.clone();
    let server = tokio::spawn(relay::http::serve(listener, routes, closing));
    let mut complaint = String::new();
    let mut changed_bot = false;
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(CONFIG_INTERVAL) => {}
        }
        let is_held = moving::is_held(&folder);
        if let (true, Some(held)) = (is_held, &relay) {
            relays.remove(&namespace, &name);
            held.stop().await;
            tracing::warn!(folder = %folder.display(), "the store is being moved, or has left: nothing is carried from here");
            relay = None;
        }
        let outcome = match read(&args.config) {
            Ok(config) if relay.is_none() && !is_held && config.channel.bot_user_id == bot => {
                revision.clone_from(&config.channel.revision);
                in_force.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&revision);
                take_level(&config);
                let opened =
                    Relay::open(config, &folder, Clock::real()).await.map_err(|error| (1, error.to_string()))?;
                relays.insert(&namespace, &name, opened.clone());
                relay = Some(opened);
                tracing::info!("the store is here: messages are carried again");
                Ok(None)
            }
            Ok(config) if config.channel.revision == revision => Ok(None),
            Ok(config) if config.channel.bot_user_id != bot => {
                changed_bot = true;
                break;
            }
            Ok(config) => {
                let next = config.channel.revision.clone();
                take_level(&config);
                match &relay {
                    Some(relay) => relay.apply(config).await.map(|()| Some(next)).map_err(|error| error.to_string()),
                    None => Ok(Some(next)),
                }
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(Some(next)) => {
                tracing::info!(revision = %next, "a changed configuration is in force");
                in_force.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&next);
                revision = next;
                complaint.clear();
            }
            Ok(None) => complaint.clear(),
            // The last good configuration stays in force; the same complaint is told once.
            Err(error) if error != complaint => {
                tracing::error!("{error}; the configuration before stays in force");
                complaint = error;
            }
            Err(_) => {}
        }
    }
    relays.remove(&namespace, &name);
    if let Some(relay) = relay {
        relay.stop().await;
    }
    server.abort();
    // Whoever keeps it running, a kubelet for instance, starts it anew on a store of its own.
    if changed_bot {
        Err((1, "the channel has another bot now: the relay ends and starts anew".to_owned()))
    } else {
        Ok(())
    }
}

fn read(folder: &Path) -> Result<RelayConfig, String> {
    let config = RelayConfig::read(folder).map_err(|error| error.to_string())?;
    let secrets = &config.secrets;
    telemetry::hide(&secrets.token);
    secrets
        .webhook
        .iter()
        .chain(&secrets.notify)
        .chain(&secrets.bot)
        .chain(&secrets.off_hours_bot)
        .for_each(telemetry::hide);
    match &secrets.creatio {
        Some(
            crate::creatio::Credentials::OAuth { client_secret: secret, .. }
            | crate::creatio::Credentials::Forms { password: secret, .. },
        ) => telemetry::hide(secret),
        None => {}
    }
    Ok(config)
}

/// What the routes of this process need.
#[derive(Clone)]
struct At {
    relays: Relays,
    namespace: String,
    name: String,
    folder: PathBuf,
    /// The revision of the configuration in force.
    in_force: Arc<Mutex<String>>,
    /// The port is reached from elsewhere.
    guarded: bool,
}

/// The controller says when the subscription in force was made; it shows MAX's own secret for this
/// channel, which both know.
async fn subscription(
    State(At { relays, namespace, name, .. }): State<At>,
    axum::extract::Path(made): axum::extract::Path<Millis>,
    headers: HeaderMap,
) -> StatusCode {
    let secret = headers.get(webhook::SECRET_HEADER).and_then(|value| value.to_str().ok());
    match (relays.get(&namespace, &name), secret) {
        (Some(relay), Some(secret)) if relay.is_ours(secret) => {
            relay.subscribed(made).await;
            StatusCode::NO_CONTENT
        }
        (Some(_), _) => StatusCode::FORBIDDEN,
        (None, _) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The relay, for whoever shows the controller's key: on loopback too, for this acts, and tells of
/// single messages.
fn for_controller(at: &At, headers: &HeaderMap) -> Result<Relay, StatusCode> {
    let relay = at.relays.get(&at.namespace, &at.name).ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    let may = relay::http::bearer(headers).is_some_and(|shown| relay.may_read_status(shown));
    if may { Ok(relay) } else { Err(StatusCode::FORBIDDEN) }
}

/// What was not delivered and why, without a word of it and without whose it is.
async fn dead_letters(State(at): State<At>, headers: HeaderMap) -> Result<Response, StatusCode> {
    let found = for_controller(&at, &headers)?.dead_letters().await;
    let mut found = found.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    found.dead_letters.iter_mut().for_each(|letter| letter.customer.clear());
    Ok(axum::Json(found).into_response())
}

/// Tries again what the status page of the controller names.
async fn replay(State(at): State<At>, headers: HeaderMap, body: Body) -> Result<Response, StatusCode> {
    let relay = for_controller(&at, &headers)?;
    let body = axum::body::to_bytes(body, LONGEST_REPLAY).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    let wanted = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let done = relay.replay(wanted).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(axum::Json(done).into_response())
}

/// Logs as the installation wants it.
fn take_level(config: &RelayConfig) {
    if let Err(error) = telemetry::set_level(config.channel.log_level.as_deref()) {
        tracing::error!("channel.json: {error}");
    }
}

/// What the relay knows of its customers is for the controller, which shows a key of the bot's
/// token, and for this machine.
async fn facts(State(at): State<At>, headers: HeaderMap) -> Response {
    let facts = match at.relays.get(&at.namespace, &at.name) {
        Some(relay)
            if at.guarded && !relay::http::bearer(&headers).is_some_and(|shown| relay.may_read_status(shown)) =>
        {
            return StatusCode::FORBIDDEN.into_response();
        }
        Some(relay) => relay.facts().await,
        None => {
            let Some(trouble) = moving::why_held(&at.folder) else {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            };
            let revision = at.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Facts::without_store(&revision, trouble, Clock::real().now())
        }
    };
    axum::Json(facts).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_small_program_reads_the_options_of_the_command_as_the_command_does() {
        for words in [
            "--config /etc/maxchannel",
            "--config=/etc/maxchannel --listen [::]:8080 --data-dir /var/lib/maxchannel",
            "--listen 0.0.0.0:80 --config c --proxy http://proxy.acme.ru:3128 --proxy-except .acme.ru,crm --ca-bundle ca.pem",
            "--config c --proxy= --data-dir=",
            "",
            "--config",
            "--config c --listen nowhere",
            "--config c --listen",
            "--config c extra",
            "--config c --loud",
            "-c c",
        ] {
            let words = words.split(' ').filter(|word| !word.is_empty());
            let by_clap = <Command as clap::Parser>::try_parse_from(["maxchannel"].into_iter().chain(words.clone()));
            let own = parse(lexopt::Parser::from_args(words.clone()), |_| None);
            match (by_clap, own) {
                (Ok(Command { args }), Ok(asked)) => assert_eq!(asked, Asked::Carry(args)),
                (Err(_), Err(_)) => {}
                (by_clap, own) => panic!("{words:?}: {:?} and {own:?}", by_clap.map(|command| command.args)),
            }
        }
        for (words, asked) in [("--help", Asked::Help), ("-h", Asked::Help), ("--version", Asked::Version)] {
            assert_eq!(parse(lexopt::Parser::from_args([words]), |_| None).unwrap(), asked);
        }
        let set =
            |name: &str| (name == crate::transport::PROXY_ADDRESS).then(|| "http://proxy.acme.ru:3128".to_owned());
        let Asked::Carry(args) = parse(lexopt::Parser::from_args(["--config", "c"]), set).unwrap() else { panic!() };
        assert_eq!(args.proxy.env().unwrap().collect::<Vec<_>>().len(), 1, "the environment is not read");
    }

    #[test]
    fn the_program_of_its_own_gets_the_arguments_behind_the_command() {
        for (all, expected) in [
            ("maxchannel relay --data-dir /d", "--data-dir /d"),
            ("maxchannel --log-format json relay --listen [::]:8080", "--listen [::]:8080"),
            ("maxchannel relay --log-format json --listen a --log-format=text -x", "--listen a -x"),
            ("maxchannel relay", ""),
        ] {
            let kept = of_relay(all.split(' ').map(OsString::from));
            assert_eq!(kept.join(std::ffi::OsStr::new(" ")), expected);
        }
    }
}
