//! `maxchannel simulator`: runs the simulators of the external systems.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;

use super::USAGE;
use maxchannel_simulator::{creatio, mango, max};

/// Run simulators of MAX, MANGO OFFICE and Creatio, with a control for customers, agents and
/// faults.
///
/// Prints one JSON line with the addresses and the invented credentials and serves until Ctrl-C or
/// SIGTERM. `GET <address>/control` lists what the control of each simulator offers. They start
/// empty: bots, people and agents are made through the control. The simulators keep everything in
/// memory and reach loopback and private addresses only.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  maxchannel simulator\n  maxchannel simulator --time-scale 60 --for 10m")]
pub(super) struct Args {
    /// Where the MAX Bot API and its control listen; port 0: any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8701")]
    max_listen: SocketAddr,
    /// Where the file hosts of MAX listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8702")]
    files_listen: SocketAddr,
    /// Where the API of MANGO OFFICE listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8703")]
    mango_listen: SocketAddr,
    /// Where the site of Creatio listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8704")]
    creatio_listen: SocketAddr,
    /// Where the Identity Service of Creatio listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8705")]
    identity_listen: SocketAddr,
    /// Long periods, such as the pauses between repeats, are divided by this.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    time_scale: f64,
    /// Every open question about MAX in the position that is harder on a client.
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
    let switches = if args.hostile { max::Switches::hostile() } else { max::Switches::for_tests() };
    let max = max::Simulator::start(max::Options {
        listen: args.max_listen,
        files_listen: args.files_listen,
        time_scale: args.time_scale,
        switches,
        ..max::Options::default()
    })
    .await?;
    let mango_options =
        mango::Options { listen: args.mango_listen, time_scale: args.time_scale, ..mango::Options::default() };
    let creatio_options = creatio::Options {
        listen: args.creatio_listen,
        identity_listen: args.identity_listen,
        time_scale: args.time_scale,
        ..creatio::Options::default()
    };
    // The credentials are inventions of the simulators; whoever wants to talk to them needs to know
    // them.
    let mango_keys = json!({"apiKey": mango_options.api_key, "apiSalt": mango_options.api_salt});
    let creatio_keys = json!({
        "clientId": creatio_options.client_id,
        "clientSecret": creatio_options.client_secret,
        "username": creatio_options.login,
        "password": creatio_options.password,
        "notifySecret": creatio_options.notify_secret,
    });
    let mango = mango::Simulator::start(mango_options).await?;
    let creatio = creatio::Simulator::start(creatio_options).await?;
    let control = |url: String| format!("{url}/control");
    let addresses = json!({
        "max": {"url": max.url(), "files": max.files_url(), "control": control(max.url())},
        "mango": {"url": mango.url(), "control": control(mango.url()), "credentials": mango_keys},
        "creatio": {
            "url": creatio.url(),
            "identity": creatio.identity_url(),
            "control": control(creatio.url()),
            "credentials": creatio_keys,
        },
    });
    super::print(&format!("{addresses}\n"));
    tokio::select! {
        ended = ended() => ended?,
        () = elapsed(args.duration) => {}
    }
    max.stop().await;
    mango.stop().await;
    creatio.stop().await;
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
