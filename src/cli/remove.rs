//! `maxchannel remove`: takes the objects of channels outside away.

use std::path::PathBuf;
use std::process::ExitCode;

use super::installation::{InstallationArgs, data_dir};
use super::{USAGE, external};
use crate::local::Lock;
use crate::telemetry;
use crate::time::Clock;

/// Take the objects of channels outside away.
///
/// Removes our webhook subscriptions in MAX, makes the channels in Creatio inactive (Creatio keeps
/// channels that have chats) and empties their owner marks. What belongs to another installation
/// stays, and is named: after a cluster whose controller is gone, --installation-id is the uid of
/// its namespace kube-system. Stop `maxchannel run` first, or it makes everything again. Stored
/// messages stay in the data folder. Exit code 0: all is away; 1: something could not be taken
/// away; 2: wrong usage, or a file cannot be read.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel remove -f channels/\n  maxchannel plan -f channels/   # what is there before"
)]
pub(super) struct Args {
    /// Files or folders with the manifests of the channels and their Secrets; `-` is stdin.
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1.., required = true)]
    paths: Vec<PathBuf>,
    /// The data folder of `maxchannel run`. Default ~/.local/share/maxchannel.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub(super) fn run(args: &Args) -> ExitCode {
    telemetry::start(telemetry::Format::Text, "warn");
    let outcome = super::in_runtime(async {
        let folder = data_dir(args.data_dir.clone())?;
        let _held = Lock::take(&folder).map_err(|reason| format!("the data folder {}: {reason}", folder.display()))?;
        let mut seen = external::observe(&args.paths, &folder, &args.installation).await?;
        let clock = Clock::real();
        let mut lines = Vec::new();
        let mut complete = true;
        for one in &mut seen {
            let done = one.reconciler.remove(&|| clock.now()).await;
            // What could not be looked at may hold something of ours.
            let mut left = one.reconciler.unseen();
            left.extend(one.reconciler.of_others());
            complete &= left.is_empty() && done.iter().all(|step| step.outcome.is_ok());
            if done.is_empty() && left.is_empty() {
                lines.push(format!("{}: nothing of ours is there", one.channel));
            }
            for step in done {
                lines.push(match step.outcome {
                    Ok(()) => format!("{}: {}", one.channel, step.action),
                    Err(failure) => format!("{}: ! {} did not succeed: {}", one.channel, step.action, failure.detail),
                });
            }
            lines.extend(left.into_iter().map(|sentence| format!("{}: ! {sentence}", one.channel)));
        }
        Ok::<_, String>((lines, complete))
    });
    match outcome {
        Ok::<_, String>((lines, complete)) => {
            let printed = super::print(&telemetry::redacted(&(lines.join("\n") + "\n")));
            if complete { printed } else { ExitCode::from(1) }
        }
        Err(message) => {
            eprintln!("maxchannel remove: {message}");
            ExitCode::from(USAGE)
        }
    }
}
