//! `maxchannel plan`: what would change outside, without changing it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::external::{self, Seen};
use super::installation::{InstallationArgs, data_dir};
use super::{Output, USAGE};
use crate::telemetry;

/// Show what would change outside, without changing it.
///
/// Asks MAX, MANGO OFFICE and Creatio how things are and prints one line per change that
/// `maxchannel run` would make: `+` something new, `~` other values, `-` something taken away. Exit
/// code 0: everything could be looked at; 1: not everything; 2: wrong usage, or a file cannot be
/// read.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel plan -f channels/ --public-url https://max.acme.ru\n  maxchannel plan -f channel.yaml \
                        -o json"
)]
pub(super) struct Args {
    /// Files or folders with manifests; `-` is stdin.
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1.., required = true)]
    paths: Vec<PathBuf>,
    /// The data folder of `maxchannel run`, which knows the bots of the channels. Default
    /// ~/.local/share/maxchannel.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub(super) fn run(args: &Args) -> ExitCode {
    telemetry::start(telemetry::Format::Text, "warn");
    let looked = super::in_runtime(async {
        let folder = data_dir(args.data_dir.clone())?;
        external::observe(&args.paths, &folder, &args.installation).await
    });
    let seen = match looked {
        Ok(seen) => seen,
        Err(message) => {
            super::complain("plan", args.output, &message);
            return ExitCode::from(USAGE);
        }
    };
    let text = match args.output {
        Output::Json => as_json(&seen),
        Output::Text => as_text(&seen),
    };
    let printed = super::print(&telemetry::redacted(&text));
    if seen.iter().all(|one| one.problems.is_empty()) { printed } else { ExitCode::from(1) }
}

fn as_text(seen: &[Seen]) -> String {
    seen.iter().fold(String::new(), |mut text, one| {
        let actions = one.reconciler.plan();
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}: {}", one.channel, counted(actions.len()));
        for action in actions {
            let _ = writeln!(text, "  {action}");
        }
        for problem in &one.problems {
            let _ = writeln!(text, "  ! {problem}");
        }
        text
    })
}

fn counted(changes: usize) -> String {
    match changes {
        0 => "nothing to change".to_owned(),
        1 => "1 change".to_owned(),
        changes => format!("{changes} changes"),
    }
}

fn as_json(seen: &[Seen]) -> String {
    let channels: Vec<_> = seen
        .iter()
        .map(|one| {
            json!({
                "namespace": one.channel.namespace,
                "name": one.channel.name,
                "actions": one.reconciler.plan(),
                "problems": one.problems,
            })
        })
        .collect();
    format!("{:#}\n", json!({ "channels": channels }))
}
