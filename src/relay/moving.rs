//! A store is taken to another installation, or brought here: as one file, complete, and never in
//! two places at work.
//!
//! A folder is held by a file in it ([`HOLD`]): while that holds, whoever runs the relay keeps the
//! store closed, takes and sends nothing, and opens it again once it is released. A hold that
//! passes lasts as long as its holder lives, by a lock on the file, so that an import that was
//! killed stops nobody. An export leaves the folder held for good, so that what has left is not
//! delivered from here too; MAX keeps what it cannot hand over. Nothing of this needs the relay to
//! run.
//!
//! Must not: change anything in a store that is refused, or throw a store away.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::store::FILE;
use super::store::file::{Alone, bot_of_copy};
use crate::contract::Trouble;
use crate::time::Millis;

/// The name of the file that holds a folder.
pub const HOLD: &str = "hold";
/// What stands in it after an export; anything else passes with its holder.
const MOVED: &str = "moved";
/// A store that is being brought, until it is known to be good.
const INCOMING: &str = "import.db";
/// How long the relay may take to close the store: what is under way is brought to its end first.
const CLOSING: Duration = Duration::from_secs(30);
/// How long whoever looks whether a folder is held may stand in the way of who is to hold it.
const LOOKING: Duration = Duration::from_secs(2);

/// Why a store cannot be moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error("there is no store in {0}: has the channel ever run here?")]
    Absent(PathBuf),
    #[error("the store in {0} was taken away already: `maxchannel export --undo` puts it to work here again")]
    Moved(PathBuf),
    #[error("the relay does not let go of the store in {folder} ({reason}): stop it, and try again")]
    InUse { folder: PathBuf, reason: String },
    #[error("another export or import of the store in {0} is under way: wait for its end, and try again")]
    Busy(PathBuf),
    #[error("what is brought is not a relay's store ({0})")]
    NotAStore(String),
    #[error("the store is of bot {brought}, and this channel's is of bot {here}: nothing is changed")]
    OtherBot { brought: i64, here: i64 },
    #[error(
        "the store here holds {0} undelivered messages, which would be set aside with it: let them be delivered first"
    )]
    Undelivered(i64),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MoveError + '_ {
    |source| MoveError::Io { path: path.to_owned(), source }
}

/// Whether the store of a folder must stay closed now.
#[must_use]
pub fn is_held(folder: &Path) -> bool {
    why_held(folder).is_some()
}

/// Why the store of a folder must stay closed now.
#[must_use]
pub fn why_held(folder: &Path) -> Option<Trouble> {
    let mut file = File::open(folder.join(HOLD)).ok()?;
    let mut why = String::new();
    if file.read_to_string(&mut why).is_ok() && why.trim() == MOVED {
        return Some(Trouble::StoreMoved);
    }
    // Whoever holds it has it locked, and a lock ends with its process.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then_some(Trouble::StoreHeld)
}

/// Whether the store has left by an export.
#[must_use]
pub fn has_moved(folder: &Path) -> bool {
    fs::read_to_string(folder.join(HOLD)).is_ok_and(|why| why.trim() == MOVED)
}

/// Holds a folder as long as what is returned lives; for good where that says so.
fn hold(folder: &Path, why: &str) -> Result<File, MoveError> {
    let path = folder.join(HOLD);
    let mut file = lock(folder, &path)?;
    let mut write = || {
        file.set_len(0)?;
        writeln!(file, "{why}")?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    };
    write().map_err(at(&path))?;
    Ok(file)
}

/// The file of a hold, made where there is none, and locked.
fn lock(folder: &Path, path: &Path) -> Result<File, MoveError> {
    let began = Instant::now();
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(at(path))?;
        match file.try_lock() {
            // The holder before may have taken it away between the two.
            Ok(()) if is_at(&file, path) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(at(path)(error)),
            Err(TryLockError::WouldBlock) if began.elapsed() >= LOOKING => {
                return Err(MoveError::Busy(folder.to_owned()));
            }
            Ok(()) | Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let there = fs::metadata(path).and_then(|there| Ok((there, file.metadata()?)));
    there.is_ok_and(|(there, own)| (there.dev(), there.ino()) == (own.dev(), own.ino()))
}

/// Lets the relay open the store again, as after an export that was a mistake.
///
/// # Errors
/// The folder cannot be written.
pub fn release(folder: &Path) -> Result<(), MoveError> {
    let path = folder.join(HOLD);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
        _ => Ok(()),
    }
}

/// Writes the store out whole. It stays held, unless it is `kept` at work here: then what is
/// written is a backup of that moment, which must not be brought anywhere while this one works.
///
/// # Errors
/// There is none, it has left already, or it cannot be read; then it goes on here as before.
pub fn export(folder: &Path, to: &mut impl Write, kept: Option<Millis>) -> Result<u64, MoveError> {
    let path = folder.join(FILE);
    if has_moved(folder) {
        return Err(MoveError::Moved(folder.to_owned()));
    }
    if !path.exists() {
        return Err(MoveError::Absent(folder.to_owned()));
    }
    let _held = hold(folder, if kept.is_some() { "export" } else { MOVED })?;
    let copied = alone(folder).and_then(|store| {
        mark(folder, &store, kept)?;
        // The log is folded into the file, so that the file is all.
        drop(store);
        let mut file = File::open(&path).map_err(at(&path))?;
        let bytes = io::copy(&mut file, to).map_err(at(&path))?;
        to.flush().map_err(at(&path))?;
        if kept.is_some() {
            mark(folder, &alone(folder)?, None)?;
        }
        Ok(bytes)
    });
    if kept.is_some() || copied.is_err() {
        release(folder)?;
    }
    copied
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub bot: i64,
    /// Where the store that was here has gone.
    pub set_aside: Option<PathBuf>,
}

/// Puts a store in the place of the one that is here, which is set aside.
///
/// # Errors
/// It is no store, or another bot's, or the one here has messages of its own; then nothing has
/// changed.
pub fn import(folder: &Path, from: &mut impl Read) -> Result<Imported, MoveError> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    let incoming = folder.join(INCOMING);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&incoming);
    let mut file = file.map_err(at(&incoming))?;
    match file.try_lock() {
        // Another import may have put it into the store's place between the two.
        Ok(()) if is_at(&file, &incoming) => {}
        Ok(()) | Err(TryLockError::WouldBlock) => return Err(MoveError::Busy(folder.to_owned())),
        Err(TryLockError::Error(error)) => return Err(at(&incoming)(error)),
    }
    file.set_len(0).map_err(at(&incoming))?;
    let outcome = take_in(folder, &incoming, &mut file, from);
    if outcome.is_err() {
        // Refused: what was written of it is of no use.
        let _ = fs::remove_file(&incoming);
    }
    outcome
}

fn take_in(folder: &Path, incoming: &Path, file: &mut File, from: &mut impl Read) -> Result<Imported, MoveError> {
    io::copy(from, file).and_then(|_| file.sync_all()).map_err(at(incoming))?;
    let brought = bot_of_copy(incoming).map_err(MoveError::NotAStore)?;
    let had_moved = has_moved(folder);
    let _held = if had_moved { None } else { Some(hold(folder, "import")?) };
    let replaced = replace(folder, incoming, brought, had_moved);
    if replaced.is_ok() || !had_moved {
        release(folder)?;
    }
    replaced.map(|set_aside| Imported { bot: brought, set_aside })
}

fn replace(folder: &Path, incoming: &Path, brought: i64, had_moved: bool) -> Result<Option<PathBuf>, MoveError> {
    let path = folder.join(FILE);
    let mut aside = None;
    if path.exists() {
        let store = alone(folder)?;
        if let Some(here) = store.bot().filter(|here| *here != brought) {
            return Err(MoveError::OtherBot { brought, here });
        }
        // What has left already may be replaced by what comes back.
        let undelivered = if had_moved { 0 } else { store.undelivered() };
        if undelivered > 0 {
            return Err(MoveError::Undelivered(undelivered));
        }
        drop(store);
        let place = (1..10_000)
            .map(|number| folder.join(if number == 1 { "replaced".to_owned() } else { format!("replaced-{number}") }))
            .find(|place| !place.exists())
            .unwrap_or_else(|| folder.join("replaced"));
        fs::create_dir(&place).map_err(at(&place))?;
        for end in ["-wal", "-shm"] {
            let from = folder.join(format!("{FILE}{end}"));
            match fs::rename(&from, place.join(format!("{FILE}{end}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&from)(error)),
                _ => {}
            }
        }
        // By a second name where the disk has such, so that there is a store at every moment.
        let kept = place.join(FILE);
        fs::hard_link(&path, &kept).or_else(|_| fs::rename(&path, &kept)).map_err(at(&path))?;
        aside = Some(place);
    }
    fs::rename(incoming, &path).map_err(at(&path))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
    Ok(aside)
}

fn mark(folder: &Path, store: &Alone, of: Option<Millis>) -> Result<(), MoveError> {
    store
        .mark_as_backup(of)
        .map_err(|error| MoveError::Io { path: folder.join(FILE), source: io::Error::other(error.to_string()) })
}

fn alone(folder: &Path) -> Result<Alone, MoveError> {
    Alone::open(folder, CLOSING).map_err(|reason| MoveError::InUse { folder: folder.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::store::file::make as store;

    fn waiting(folder: &Path) -> i64 {
        alone(folder).unwrap().undelivered()
    }

    #[test]
    fn a_store_moves_whole_and_is_held_where_it_was_until_that_is_undone() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        store(from.path(), 7, true);
        let mut file = Vec::new();
        export(from.path(), &mut file, Some(1)).unwrap();
        assert!(!is_held(from.path()), "a backup leaves it at work");
        file.clear();
        export(from.path(), &mut file, None).unwrap();
        assert!(is_held(from.path()) && has_moved(from.path()));
        assert!(matches!(export(from.path(), &mut Vec::new(), None), Err(MoveError::Moved(_))));
        store(to.path(), 7, false);
        let imported = import(to.path(), &mut file.as_slice()).unwrap();
        assert_eq!(imported.bot, 7);
        assert!(imported.set_aside.unwrap().join(FILE).exists() && !is_held(to.path()));
        assert_eq!(waiting(to.path()), 1, "what waited has come along");
        // And back.
        file.clear();
        export(to.path(), &mut file, None).unwrap();
        import(from.path(), &mut file.as_slice()).unwrap();
        assert!(!is_held(from.path()));
        release(to.path()).unwrap();
        assert!(!is_held(to.path()));
    }

    #[test]
    fn a_hold_that_passes_ends_with_its_holder_and_a_move_does_not() {
        let (from, mut file) = (tempfile::tempdir().unwrap(), Vec::new());
        store(from.path(), 7, false);
        // What a process leaves that was killed in the middle.
        for why in ["export", "import", ""] {
            fs::write(from.path().join(HOLD), why).unwrap();
            assert_eq!(why_held(from.path()), None, "{why:?}");
        }
        export(from.path(), &mut file, Some(1)).unwrap();
        fs::write(from.path().join(HOLD), "import\n").unwrap();
        import(from.path(), &mut file.as_slice()).unwrap();
        let held = hold(from.path(), "export").unwrap();
        assert_eq!(why_held(from.path()), Some(Trouble::StoreHeld));
        assert!(matches!(export(from.path(), &mut Vec::new(), Some(1)), Err(MoveError::Busy(_))));
        assert_eq!(why_held(from.path()), Some(Trouble::StoreHeld), "who was refused has not released it");
        drop(held);
        assert_eq!(why_held(from.path()), None);
        fs::write(from.path().join(HOLD), "moved\n").unwrap();
        assert_eq!(why_held(from.path()), Some(Trouble::StoreMoved));
    }

    #[test]
    fn what_may_not_be_brought_is_refused_and_nothing_has_changed() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        store(from.path(), 7, false);
        let mut file = Vec::new();
        export(from.path(), &mut file, Some(1)).unwrap();
        store(to.path(), 7, true);
        assert!(matches!(import(to.path(), &mut file.as_slice()), Err(MoveError::Undelivered(1))));
        let other = tempfile::tempdir().unwrap();
        store(other.path(), 8, false);
        assert!(matches!(import(other.path(), &mut file.as_slice()), Err(MoveError::OtherBot { brought: 7, here: 8 })));
        let half = &file[..file.len() / 2];
        for bad in [b"no store".as_slice(), &[], half] {
            assert!(matches!(import(to.path(), &mut &*bad), Err(MoveError::NotAStore(_))));
        }
        // Of a version that knows more: the relay here could not open it.
        let newer = tempfile::tempdir().unwrap();
        store(newer.path(), 7, false);
        crate::relay::store::file::make_newer(newer.path());
        let file = fs::read(newer.path().join(FILE)).unwrap();
        let refused = import(to.path(), &mut file.as_slice()).unwrap_err().to_string();
        assert!(refused.contains("of format 99, and this version of MaxChannel knows"), "{refused}");
        for folder in [to.path(), other.path()] {
            assert!(!is_held(folder) && !folder.join(INCOMING).exists() && folder.join(FILE).exists());
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(export(empty.path(), &mut Vec::new(), None), Err(MoveError::Absent(_))));
    }
}
