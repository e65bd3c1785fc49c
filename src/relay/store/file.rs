//! The store as a file among others: whose it is, whose it was, and what is in it while no relay
//! has it open.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::{StoreError, Tx, counts, meta, schema};
use crate::time::Millis;

/// The store's file in the data folder; its companions begin with the same name.
pub const FILE: &str = "relay.db";

/// The bot whose messages the store in this folder holds; none where there is no store that can be
/// read.
#[must_use]
pub fn bot_of(folder: &Path) -> Option<i64> {
    let path = folder.join(FILE);
    if !path.exists() {
        return None;
    }
    let _ = make_private(&path);
    meta::number_in(&Connection::open(path).ok()?, meta::BOT).ok()?
}

/// Puts the store of a former bot into a folder of its own beside (`bot-<id>`): another bot's
/// dialogs are others. None where there was no store. No relay may run on it.
///
/// # Errors
/// The files cannot be moved.
pub fn set_aside(folder: &Path, former: i64) -> std::io::Result<Option<PathBuf>> {
    let files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(FILE)))
        .collect();
    if files.is_empty() {
        return Ok(None);
    }
    let mut aside = folder.join(format!("bot-{former}"));
    for number in 2.. {
        if !aside.exists() {
            break;
        }
        aside = folder.join(format!("bot-{former}-{number}"));
    }
    std::fs::create_dir(&aside)?;
    for file in files {
        std::fs::rename(&file, aside.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(Some(aside))
}

/// The file of the store and its companions are for its owner only, and so is its folder; one that
/// belongs to somebody else, such as a volume's, stays as it is.
pub(super) fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700));
    }
    // SQLite gives its log the mode of the file.
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut companion = path.as_os_str().to_owned();
        companion.push(end);
        let _ = std::fs::set_permissions(companion, std::fs::Permissions::from_mode(0o600));
    }
    Ok(())
}

/// From now on the file must not grow, as on a full disk; or (false) it may again.
pub(in crate::relay) fn fill(tx: &Tx<'_>, full: bool) -> Result<(), StoreError> {
    let most = if full { tx.connection.query_row("PRAGMA page_count", [], |row| row.get(0))? } else { u32::MAX - 1 };
    tx.connection.query_row(&format!("PRAGMA max_page_count = {most}"), [], |_| Ok(()))?;
    Ok(())
}

/// A store with nobody else in it, its log folded into the file.
pub(in crate::relay) struct Alone(Connection);

impl Alone {
    /// # Errors
    /// A relay has it open, still after `patience`: why.
    pub fn open(folder: &Path, patience: Duration) -> Result<Self, String> {
        let open = || -> Result<Connection, rusqlite::Error> {
            let connection = Connection::open_with_flags(folder.join(FILE), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.busy_timeout(patience)?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            Ok(connection)
        };
        // Whoever holds it without end makes some versions answer at once instead of waiting.
        let began = Instant::now();
        loop {
            match open() {
                Ok(connection) => return Ok(Self(connection)),
                Err(error) if began.elapsed() >= patience => return Err(error.to_string()),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    pub fn bot(&self) -> Option<i64> {
        meta::number_in(&self.0, meta::BOT).ok().flatten()
    }

    /// Marks the file as a backup that is being written out, or takes the mark away.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn mark_as_backup(&self, of: Option<Millis>) -> rusqlite::Result<()> {
        let done = match of {
            Some(of) => self.0.execute(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                [meta::BACKUP_OF, &of.to_string()],
            ),
            None => self.0.execute("DELETE FROM meta WHERE key = ?1", [meta::BACKUP_OF]),
        };
        done.and_then(|_| self.0.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
    }

    /// How many messages would be lost with it.
    pub fn undelivered(&self) -> i64 {
        counts::undelivered(&self.0).map_or(0, crate::contract::Undelivered::total)
    }
}

/// The bot of a file that is to become a store.
///
/// # Errors
/// It is damaged, or no store: why.
pub(in crate::relay) fn bot_of_copy(file: &Path) -> Result<i64, String> {
    let read = || -> rusqlite::Result<(String, String)> {
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        if let Some(format) = schema::newer(&connection)? {
            let verdict =
                format!("it is of format {format}, and this version of MaxChannel knows up to {}", schema::FORMAT);
            return Ok((verdict, String::new()));
        }
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        let bot = connection.query_row("SELECT value FROM meta WHERE key = ?1", [meta::BOT], |row| row.get(0))?;
        // A backup becomes a store again, which knows that it was one.
        connection
            .execute("UPDATE OR REPLACE meta SET key = ?2 WHERE key = ?1", [meta::BACKUP_OF, meta::RESTORED_FROM])?;
        Ok((verdict, bot))
    };
    match read().map_err(|error| error.to_string())? {
        (verdict, bot) if verdict == "ok" => bot.parse().map_err(|_| format!("{bot:?} is no bot")),
        (verdict, _) => Err(verdict),
    }
}

/// Makes a file one of a format that nobody knows yet.
#[cfg(test)]
pub(in crate::relay) fn make_newer(folder: &Path) {
    let connection = Connection::open(folder.join(FILE)).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

/// A file as far as it matters to whoever moves it, with one message that waits or none.
#[cfg(test)]
pub(in crate::relay) fn make(folder: &Path, bot: i64, waiting: bool) {
    std::fs::create_dir_all(folder).unwrap();
    let connection = Connection::open(folder.join(FILE)).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT); CREATE TABLE to_crm (dead INTEGER);
             CREATE TABLE to_max (state TEXT); CREATE TABLE inbox (done INTEGER);",
        )
        .unwrap();
    connection.execute("INSERT INTO meta VALUES (?1, ?2)", [meta::BOT, &bot.to_string()]).unwrap();
    if waiting {
        connection.execute("INSERT INTO to_max VALUES ('queued')", []).unwrap();
    }
}
