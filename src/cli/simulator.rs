//! `maxchannel simulator`: runs the doubles of the outside systems.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;

use super::USAGE;
use crate::simulator::{creatio, mango, max};

/// Run doubles of MAX, MANGO OFFICE and Creatio, with a control for customers, agents and faults.
///
/// Prints one JSON line with the addresses and the invented credentials, and serves until Ctrl-C or SIGTERM. `GET <address>/control`
/// lists what the control of each double offers. All of them start empty: bots, people and agents are made through the control.
/// The doubles keep everything in memory and reach loopback and private addresses only.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel simulator\n  maxchannel simulator --max-listen 127.0.0.1:0 --time-scale 60 --for 10m\n\nThen:\n  curl \
                  http://127.0.0.1:8701/control"
)]
pub(super) struct Args {
    /// Where the MAX Bot API and its control listen; port 0: any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8701")]
    max_listen: SocketAddr,
    /// Where the file hosts of MAX listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8702")]
    files_listen: SocketAddr,
    /// Where MANGO OFFICE and its control listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8703")]
    mango_listen: SocketAddr,
    /// Where the site of Creatio and its control listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8704")]
    creatio_listen: SocketAddr,
    /// Where the Identity Service of Creatio listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8705")]
    identity_listen: SocketAddr,
    /// Long periods, such as the pauses between repeats, are divided by this; in MANGO OFFICE and Creatio all times.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    time_scale: f64,
    /// Every open question about these systems in the position that is harder on a client.
    #[arg(long)]
    hostile: bool,
    /// End by itself after this time, such as 90s or 10m.
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<SignedDuration>,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fails(&format!("the runtime does not start: {error}")),
    };
    match runtime.block_on(serve(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fails(&error.to_string()),
    }
}

fn fails(why: &str) -> ExitCode {
    eprintln!("maxchannel: {why}");
    ExitCode::from(USAGE)
}

async fn serve(args: &Args) -> std::io::Result<()> {
    let max = max::Simulator::start(max::Options {
        listen: args.max_listen,
        files_listen: args.files_listen,
        time_scale: args.time_scale,
        switches: if args.hostile { max::Switches::hostile() } else { max::Switches::for_tests() },
    })
    .await?;
    let of_mango = mango::Options {
        listen: args.mango_listen,
        time_scale: args.time_scale,
        // Their defaults are the hostile ones.
        switches: if args.hostile { mango::Switches::default() } else { mango::Switches::friendly() },
        ..mango::Options::default()
    };
    let mango = mango::Simulator::start(of_mango.clone()).await?;
    let of_creatio = creatio::Options {
        listen: args.creatio_listen,
        identity_listen: args.identity_listen,
        time_scale: args.time_scale,
        switches: if args.hostile { creatio::Switches::default() } else { creatio::Switches::friendly() },
        ..creatio::Options::default()
    };
    let creatio = creatio::Simulator::start(of_creatio.clone()).await?;
    let control = |url: String| format!("{url}/control");
    let addresses = json!({
        "max": {"url": max.url(), "files": max.files_url(), "control": control(max.url())},
        "mango": {
            "url": mango.url(),
            "control": control(mango.url()),
            "apiKey": of_mango.api_key,
            "apiSalt": of_mango.api_salt,
        },
        "creatio": {
            "url": creatio.url(),
            "identityUrl": creatio.identity_url(),
            "control": control(creatio.url()),
            "clientId": of_creatio.client_id,
            "clientSecret": of_creatio.client_secret,
            "username": of_creatio.login,
            "password": of_creatio.password,
            "notifySecret": of_creatio.notify_secret,
        },
    });
    super::print(&format!("{addresses}\n"));
    tokio::select! {
        ended = ended() => ended?,
        () = elapsed(args.duration) => {}
    }
    tokio::join!(max.stop(), mango.stop(), creatio.stop());
    Ok(())
}

async fn elapsed(duration: Option<SignedDuration>) {
    match duration {
        Some(duration) => tokio::time::sleep(Duration::try_from(duration).unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

/// Ctrl-C or SIGTERM has come.
pub(super) async fn ended() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
