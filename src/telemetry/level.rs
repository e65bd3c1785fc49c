//! How much is logged, and how that changes while the process runs.
//!
//! A level that is not understood changes nothing and is named.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

/// Between two looks at the file with the level.
const INTERVAL: Duration = Duration::from_secs(1);

/// The level of this process; empty until logging has been started.
static KEPT: OnceLock<Kept> = OnceLock::new();

struct Kept {
    handle: reload::Handle<EnvFilter, Registry>,
    /// What held at the start.
    first: String,
    /// What holds now.
    now: Mutex<String>,
}

/// A level or filter that cannot be used; the one before stays in force.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the log level {level:?} is not understood ({reason}): write trace, debug, info, warn, error or off, or a filter such as \
     \"info,maxchannel::relay=debug\"; the level before stays"
)]
pub struct LevelError {
    level: String,
    reason: String,
}

/// A filter from its words. A word that stands alone must be a level: the library would take a mistyped one for the name of a module
/// and silence everything else.
pub(super) fn parse(level: &str) -> Result<EnvFilter, LevelError> {
    let refused = |reason: String| LevelError { level: level.to_owned(), reason };
    let mut words = level.split(',').map(str::trim).filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        return Err(refused("it is empty".to_owned()));
    }
    if let Some(word) = words.find(|word| !word.contains('=') && LevelFilter::from_str(word).is_err()) {
        return Err(refused(format!("{word:?} is no level")));
    }
    EnvFilter::try_new(level).map_err(|error| refused(error.to_string()))
}

/// Keeps what changes the level of the subscriber that was just made.
pub(super) fn keep(handle: reload::Handle<EnvFilter, Registry>, first: &str) {
    // Only the first subscriber of a process comes here.
    let _ = KEPT.set(Kept { handle, first: first.to_owned(), now: Mutex::new(first.to_owned()) });
}

/// Sets what is said from now on; none: what held at the start. Without [`super::start`] nothing happens.
///
/// # Errors
/// The level is not understood; the one before stays in force.
pub fn set_level(level: Option<&str>) -> Result<(), LevelError> {
    let Some(kept) = KEPT.get() else { return level.map_or(Ok(()), |level| parse(level).map(drop)) };
    let level = level.unwrap_or(&kept.first);
    let mut now = kept.now.lock().unwrap_or_else(PoisonError::into_inner);
    if *now == level {
        return Ok(());
    }
    let filter = parse(level)?;
    kept.handle.reload(filter).map_err(|error| LevelError { level: level.to_owned(), reason: error.to_string() })?;
    level.clone_into(&mut now);
    drop(now);
    tracing::info!("the log level is {level} now");
    Ok(())
}

/// Keeps to the level that a file names, from now on and whenever the file changes; without the file, what held at the start. What is
/// returned is the last level that was understood, none without a file. `None` as the file: nothing is followed.
///
/// Must be called in a runtime. The task ends with it.
pub fn follow(file: Option<PathBuf>) -> watch::Receiver<Option<String>> {
    let (sender, receiver) = watch::channel(None);
    let Some(file) = file else { return receiver };
    let mut complaint = String::new();
    let mut look = move || match take(&file) {
        Ok(level) => {
            complaint.clear();
            sender.send_if_modified(|before| std::mem::replace(before, level.clone()) != level);
        }
        Err(error) if error != complaint => {
            tracing::error!("{}: {error}", file.display());
            complaint = error;
        }
        Err(_) => {}
    };
    look();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(INTERVAL).await;
            look();
        }
    });
    receiver
}

fn take(file: &std::path::Path) -> Result<Option<String>, String> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("it cannot be read ({error}); the log level stays")),
    };
    set_level(text.as_deref()).map_err(|error| error.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_known_word_or_a_filter_and_anything_else_is_named() {
        for (level, good) in [
            ("debug", true),
            ("INFO", true),
            ("off", true),
            ("info,maxchannel::relay=debug", true),
            ("maxchannel=trace", true),
            ("warn, kube=info", true),
            ("verbose", false),
            ("info,maxchannel", false),
            ("maxchannel=loud", false),
            ("", false),
            (" , ", false),
        ] {
            let parsed = parse(level);
            assert_eq!(parsed.is_ok(), good, "{level:?}");
            if let Err(error) = parsed {
                assert!(error.to_string().contains(&format!("{level:?}")), "{error}");
            }
        }
    }

    /// The one test of this process that may start logging: it is global.
    #[tokio::test(start_paused = true)]
    async fn a_file_changes_the_level_a_mistyped_one_changes_nothing_and_without_it_the_first_one_holds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log-level");
        super::super::start(super::super::Format::Text, "error");
        let shows = |level: tracing::Level| match level {
            tracing::Level::DEBUG => tracing::enabled!(tracing::Level::DEBUG),
            _ => tracing::enabled!(tracing::Level::INFO),
        };
        let held = || (shows(tracing::Level::INFO), shows(tracing::Level::DEBUG));
        let mut level = follow(Some(file.clone()));
        assert_eq!((held(), level.borrow_and_update().clone()), ((false, false), None));
        for (text, shown, told) in [
            (Some("info\n"), (true, false), Some("info")),
            (Some("debug"), (true, true), Some("debug")),
            (Some("verbose"), (true, true), Some("debug")),
            (None, (false, false), None),
        ] {
            match text {
                Some(text) => std::fs::write(&file, text).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            // Paused time goes on as soon as everybody waits.
            tokio::time::sleep(INTERVAL * 2).await;
            assert_eq!(held(), shown, "{text:?}");
            assert_eq!(level.borrow_and_update().as_deref(), told, "{text:?}");
        }
    }
}
