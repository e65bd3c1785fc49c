//! `maxchannel export` and `maxchannel import`: a channel's store goes to another installation.

use std::fs::{File, OpenOptions, TryLockError};
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
            let is_refusal = !matches!(error, MoveError::Io { .. } | MoveError::InUse { .. } | MoveError::Busy(_));
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
        let (mut file, unfinished) = begin(&args.file)?;
        let outcome = moving::export(folder, &mut file, kept);
        if outcome.is_err() {
            let _ = std::fs::remove_file(&unfinished);
        } else {
            finish(&file, &unfinished, &args.file)
                .or_else(|message| stays_after_all(args.keep, folder, &unfinished, &message))?;
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

/// What is not safe in the file has not left: the relay goes on, and nobody shall bring the file
/// anywhere.
fn stays_after_all(keep: bool, folder: &Path, unfinished: &Path, message: &str) -> Result<(), String> {
    let _ = std::fs::remove_file(unfinished);
    if !keep {
        moving::release(folder).map_err(|error| format!("{message}; {error}: run `maxchannel export --undo`"))?;
    }
    Err(format!("{message}; nothing has left, and the relay goes on"))
}

/// The file as long as it is empty or half of the store, under a name of its own: nobody shall take
/// it for the store. What an export has left that was killed is written anew.
pub(super) fn begin(wanted: &Path) -> Result<(File, PathBuf), String> {
    let fails = |path: &Path, error: String| format!("{} cannot be made: {error}", path.display());
    if wanted.symlink_metadata().is_ok() {
        return Err(fails(wanted, "it is there already; take it away, or give another name".to_owned()));
    }
    let mut name = wanted.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let path = wanted.with_file_name(name);
    if path.symlink_metadata().is_ok() {
        if File::open(&path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))) {
            return Err(fails(&path, "another export writes it".to_owned()));
        }
        std::fs::remove_file(&path).map_err(|error| fails(&path, error.to_string()))?;
    }
    // Nobody's link is followed and nobody's file written to: it is ours alone from its first byte.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let file = file.map_err(|error| fails(&path, error.to_string()))?;
    file.lock().map_err(|error| fails(&path, error.to_string()))?;
    Ok((file, path))
}

/// Gives a file that holds the whole store the name that was asked for.
pub(super) fn finish(file: &File, unfinished: &Path, wanted: &Path) -> Result<(), String> {
    file.sync_all().map_err(|error| format!("{} cannot be written: {error}", unfinished.display()))?;
    std::fs::rename(unfinished, wanted)
        .map_err(|error| format!("{} cannot be renamed to {}: {error}", unfinished.display(), wanted.display()))
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

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_cannot_be_finished_has_not_left() {
        let folder = tempfile::tempdir().unwrap();
        let (wanted, unfinished) = (folder.path().join("support.store"), folder.path().join("support.store.part"));
        std::fs::write(folder.path().join("hold"), "moved").unwrap();
        let (file, path) = begin(&wanted).unwrap();
        std::fs::create_dir(&wanted).unwrap();
        let message = finish(&file, &path, &wanted).unwrap_err();
        let told = stays_after_all(false, folder.path(), &unfinished, &message).unwrap_err();
        assert!(told.ends_with("nothing has left, and the relay goes on"), "{told}");
        assert!(!unfinished.exists() && !moving::has_moved(folder.path()));
    }

    #[test]
    fn what_a_killed_export_has_left_is_written_anew_and_a_finished_one_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let (wanted, unfinished) = (folder.path().join("support.store"), folder.path().join("support.store.part"));
        let other = folder.path().join("other");
        std::fs::write(&other, "somebody's").unwrap();
        std::os::unix::fs::symlink(&other, &unfinished).unwrap();
        drop(begin(&wanted).unwrap());
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "somebody's", "a link was followed");
        std::fs::write(&unfinished, "half of a store").unwrap();
        std::fs::set_permissions(&unfinished, Permissions::from_mode(0o666)).unwrap();
        let (file, path) = begin(&wanted).unwrap();
        let made = file.metadata().unwrap();
        assert_eq!((path, made.len(), made.permissions().mode() & 0o777), (unfinished, 0, 0o600));
        assert!(!wanted.exists());
        assert!(begin(&wanted).unwrap_err().ends_with("another export writes it"));
        std::fs::write(&wanted, "a store").unwrap();
        assert!(begin(&wanted).unwrap_err().contains("it is there already"));
        assert_eq!(std::fs::read_to_string(&wanted).unwrap(), "a store");
    }
}
