//! `maxchannel run`: the real thing on one machine, no cluster.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::USAGE;
use super::installation::{InstallationArgs, data_dir};
use crate::channel::schedule::Cadence;
use crate::local::{self, Options};
use crate::telemetry;
use crate::time::Clock;

/// Run channels from manifests on this machine, without a cluster.
///
/// Reads MaxChannel and Secret manifests, connects each channel to MAX, MANGO OFFICE and Creatio,
/// and carries messages until it is stopped. The files are watched: a changed text or token takes
/// effect within seconds. A file that vanishes takes nothing away outside; `maxchannel remove`
/// does. Every change of a condition is told on stdout; how all channels stand is under /status,
/// and `maxchannel status` shows it, and so does the status page under `/` in a browser. Whoever
/// does not sit at this machine needs the token in the file `status-page-token` of the data folder
/// to read that page, and everybody needs it to act on it.
///
/// Exit code 0: stopped by a signal; 2: a path, the address or the data folder cannot be used.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel run -f channels/ --public-url https://max.acme.ru\n  maxchannel run -f channel.yaml \
                        -f secrets.yaml --data-dir /var/lib/maxchannel\n\nBehind a proxy on port 443 route /webhooks/ to --listen. \
                        What is logged is set by MAXCHANNEL_LOG (info, debug, ...) at the \
                        start, and while it runs by a file:\n  echo debug > ~/.local/share/maxchannel/log-level"
)]
pub(super) struct Args {
    /// Files or folders with manifests.
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1.., required = true)]
    paths: Vec<PathBuf>,
    /// Where to listen for webhooks, /status, /readyz, /healthz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The folder for undelivered messages and what is remembered. Default
    /// ~/.local/share/maxchannel.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A file with the log level (info, debug, or a filter like `info,maxchannel::relay=debug`),
    /// taken up within a second when it is made, changed or removed. Beats MAXCHANNEL_LOG. Default
    /// `log-level` in the data folder.
    #[arg(long, value_name = "FILE", env = "MAXCHANNEL_LOG_LEVEL_FILE")]
    log_level_file: Option<PathBuf>,
    /// Serve no status page under `/`.
    #[arg(long)]
    no_ui: bool,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub(super) fn run(args: Args) -> ExitCode {
    run_by(args, Clock::real())
}

/// The same by another clock.
pub(super) fn run_by(args: Args, clock: Clock) -> ExitCode {
    let _telemetry = telemetry::start_service(telemetry::Format::Text, "warn,maxchannel=info", "maxchannel");
    let fails = |message: &str| {
        eprintln!("maxchannel run: {message}");
        ExitCode::from(USAGE)
    };
    if args.paths.iter().any(|path| path.as_os_str() == "-") {
        return fails("stdin cannot be watched: give files or folders");
    }
    let options = match (args.installation.installation(), data_dir(args.data_dir)) {
        (Ok(installation), Ok(data_dir)) => {
            let cadence = Cadence::default();
            Options { paths: args.paths, listen: args.listen, data_dir, installation, cadence, clock }
        }
        (Err(message), _) | (_, Err(message)) => return fails(&message),
    };
    let level_file = args.log_level_file.unwrap_or_else(|| options.data_dir.join("log-level"));
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fails(&format!("the runtime cannot be started: {error}")),
    };
    runtime.block_on(async {
        let stop = match stop_on_signals() {
            Ok(stop) => stop,
            Err(error) => return fails(&format!("signals cannot be watched: {error}")),
        };
        let _level = telemetry::follow(Some(level_file));
        let token = options.data_dir.join(local::PAGE_TOKEN);
        let started =
            if args.no_ui { local::start(options, stop).await } else { local::start_with_page(options, stop).await };
        match started {
            Ok(running) => {
                let address = running.address;
                telemetry::tell(Level::INFO, &format!("listening on {address}; how it goes: http://{address}/status"));
                if !args.no_ui {
                    let token = token.display();
                    let line = format!("the status page is http://{address}/; its token is in {token}");
                    telemetry::tell(Level::INFO, &line);
                }
                running.stopped().await;
                ExitCode::SUCCESS
            }
            Err(error) => fails(&error.to_string()),
        }
    })
}

/// Cancelled by the first SIGTERM or SIGINT; the second one ends the process at once.
pub(super) fn stop_on_signals() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        for code in [None, Some(130)] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if let Some(code) = code {
                std::process::exit(code);
            }
            told.cancel();
        }
    });
    Ok(stop)
}
