//! How much is logged, and how that changes while the process runs.
//!
//! A level that is not understood changes nothing and is named.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

/// Between two checks of the file with the level.
const INTERVAL: Duration = Duration::from_secs(1);

/// The level of this process; empty until logging has been started.
static LEVEL: OnceLock<Level> = OnceLock::new();

/// The level of one subscriber.
pub(super) struct Level {
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

/// A filter from its words. A word that stands alone must be a level: the library would take a
/// mistyped one for the name of a module and silence everything else.
pub(super) fn parse(level: &str) -> Result<EnvFilter, LevelError> {
    let refused = |reason: String| LevelError { level: level.to_owned(), reason };
    let words: Vec<&str> = level.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    if let Some(word) = words.iter().find(|word| !word.contains('=') && LevelFilter::from_str(word).is_err()) {
        return Err(refused(format!("{word:?} is no level")));
    }
    EnvFilter::try_new(words.join(",")).map_err(|error| refused(error.to_string()))
}

impl Level {
    pub(super) fn new(handle: reload::Handle<EnvFilter, Registry>, first: &str) -> Self {
        Self { handle, first: first.to_owned(), now: Mutex::new(first.to_owned()) }
    }

    /// Makes it the level of this process.
    pub(super) fn keep(self) {
        // Only the first subscriber of a process comes here.
        let _ = LEVEL.set(self);
    }

    fn set(&self, level: Option<&str>) -> Result<(), LevelError> {
        let level = level.unwrap_or(&self.first);
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == level {
            return Ok(());
        }
        let filter = parse(level)?;
        self.handle
            .reload(filter)
            .map_err(|error| LevelError { level: level.to_owned(), reason: error.to_string() })?;
        level.clone_into(&mut now);
        drop(now);
        tracing::info!("the log level is {level} now");
        Ok(())
    }
}

/// Sets what is said from now on; none: what held at the start. Before [`super::start`] nothing can
/// be set, only checked.
///
/// # Errors
/// The level is not understood; the one before stays in force.
pub fn set_level(level: Option<&str>) -> Result<(), LevelError> {
    match LEVEL.get() {
        Some(kept) => kept.set(level),
        None => level.map_or(Ok(()), |level| parse(level).map(drop)),
    }
}

/// Keeps to the level that a file names, from now on and whenever the file changes; without the
/// file, what held at the start. What is returned is the last level that was understood, none
/// without a file. `None` as the file: nothing is followed.
///
/// Must be called in a runtime. The task ends with it.
pub fn follow(file: Option<PathBuf>) -> watch::Receiver<Option<String>> {
    let (sender, receiver) = watch::channel(None);
    let Some(file) = file else { return receiver };
    let mut complaint = String::new();
    let mut read = move || match take(&file, set_level) {
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
    read();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(INTERVAL).await;
            read();
        }
    });
    receiver
}

fn take(file: &Path, set: impl FnOnce(Option<&str>) -> Result<(), LevelError>) -> Result<Option<String>, String> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("it cannot be read ({error}); the log level stays")),
    };
    set(text.as_deref()).map_err(|error| error.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::layer::SubscriberExt as _;

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

    #[derive(Clone, Default)]
    struct Lines(std::sync::Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_file_changes_what_is_said_a_mistyped_one_changes_nothing_and_without_it_the_first_level_holds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log-level");
        let (filter, handle) = reload::Layer::new(parse("error").unwrap());
        let (lines, level) = (Lines::default(), Level::new(handle, "error"));
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_filter(filter);
        let _local = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let said = || {
            lines.0.lock().unwrap().clear();
            tracing::info!("an-info");
            tracing::debug!("a-detail");
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            (text.contains("an-info"), text.contains("a-detail"))
        };
        assert_eq!(said(), (false, false));
        for (text, shown, taken) in [
            (Some("info\n"), (true, false), Ok(Some("info".to_owned()))),
            (Some("debug"), (true, true), Ok(Some("debug".to_owned()))),
            (Some("verbose"), (true, true), Err("\"verbose\"")),
            (None, (false, false), Ok(None)),
        ] {
            match text {
                Some(text) => std::fs::write(&file, text).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            match (take(&file, |level_now| level.set(level_now)), taken) {
                (Err(error), Err(named)) => assert!(error.contains(named), "{error}"),
                (found, expected) => assert_eq!(found.ok(), expected.ok(), "{text:?}"),
            }
            assert_eq!(said(), shown, "{text:?}");
        }
    }
}
