//! `maxchannel export` and `maxchannel import`: a channel's store goes to another installation.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::USAGE;
use super::admin::SocketArgs;
use crate::relay::moving::{self, MoveError};
use crate::time::Clock;

/// Take a channel's store out, to bring it to another installation.
///
/// The running relay closes the store, which is then written out whole, and keeps it closed:
/// nothing is delivered from here any more, and MAX keeps what comes in. The file holds customers'
/// messages. Exit code 0: it is written; 1: there is no store, or it has left already; 2: wrong
/// usage, or an I/O error; then the relay goes on as before.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel export --channel default/support > support.store\n  kubectl exec support-relay-0 -- \
                        /maxchannel export --data-dir /var/lib/maxchannel > support.store\n\nSee docs/moving.md."
)]
pub(super) struct ExportArgs {
    /// Where to write it; `-` is stdout.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Go on here: the file is a backup, for the place of a store that is lost. Never bring it
    /// anywhere while this relay works.
    #[arg(long, conflicts_with = "undo")]
    keep: bool,
    /// Put a store that was taken out to work here again. Only where the file was not brought
    /// anywhere.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    place: SocketArgs,
}

/// Bring a channel's store here that `maxchannel export` has written.
///
/// The running relay closes its store, which is set aside, and goes on with the one that is
/// brought. Refused where that is another bot's, and where the one here has undelivered messages.
/// Exit code 0: it is in force; 1: refused, nothing has changed; 2: wrong usage, or an I/O error.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel import --channel default/support support.store\n  kubectl exec -i support-relay-0 -- \
                        /maxchannel import --data-dir /var/lib/maxchannel < support.store\n\nSee docs/moving.md."
)]
pub(super) struct ImportArgs {
    /// Where to read it; `-` is stdin.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    place: SocketArgs,
}

pub(super) fn export(args: &ExportArgs) -> ExitCode {
    ended("export", args.place.folder().and_then(|folder| take_out(args, &folder)))
}

pub(super) fn import(args: &ImportArgs) -> ExitCode {
    ended("import", args.place.folder().and_then(|folder| bring(args, &folder)))
}

fn ended(command: &str, outcome: Result<Result<String, MoveError>, String>) -> ExitCode {
    let (code, message) = match outcome {
        Ok(Ok(message)) => (0, message),
        Ok(Err(error)) => {
            let is_refusal = !matches!(error, MoveError::Io { .. } | MoveError::InUse { .. });
            (if is_refusal { 1 } else { USAGE }, error.to_string())
        }
        Err(message) => (USAGE, message),
    };
    // Stdout may be the store.
    eprintln!("maxchannel {command}: {message}");
    ExitCode::from(code)
}

fn take_out(args: &ExportArgs, folder: &Path) -> Result<Result<String, MoveError>, String> {
    if args.undo {
        return Ok(moving::release(folder).map(|()| "the store works here again".to_owned()));
    }
    let kept = args.keep.then(|| Clock::real().now());
    let stays = if args.keep { "the relay goes on" } else { "the relay here takes and sends nothing any more" };
    let told = |bytes: u64| format!("{bytes} bytes are written; {stays}");
    if args.file != Path::new("-") {
        let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.file);
        let mut file = options.map_err(|error| format!("{} cannot be made: {error}", args.file.display()))?;
        let outcome = moving::export(folder, &mut file, kept);
        if outcome.is_err() {
            // Empty or half of it: nobody shall take it for the store.
            let _ = std::fs::remove_file(&args.file);
        } else if let Err(error) = file.sync_all() {
            return Err(format!("{} cannot be written: {error}", args.file.display()));
        }
        return Ok(outcome.map(told));
    }
    let mut stdout = std::io::stdout().lock();
    if stdout.is_terminal() {
        return Err("the store is no text for a terminal: name a file, or redirect stdout".to_owned());
    }
    let outcome = moving::export(folder, &mut stdout, kept);
    stdout.flush().map_err(|error| format!("stdout cannot be written: {error}"))?;
    Ok(outcome.map(told))
}

fn bring(args: &ImportArgs, folder: &Path) -> Result<Result<String, MoveError>, String> {
    let outcome = if args.file == Path::new("-") {
        moving::import(folder, &mut std::io::stdin().lock())
    } else {
        let mut file = std::fs::File::open(&args.file)
            .map_err(|error| format!("{} cannot be read: {error}", args.file.display()))?;
        moving::import(folder, &mut file)
    };
    Ok(outcome.map(|imported| {
        let aside = imported
            .set_aside
            .map_or_else(String::new, |aside| format!("; the one that was here is in {}", aside.display()));
        format!("the store of bot {} is in force{aside}", imported.bot)
    }))
}
