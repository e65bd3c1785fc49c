//! The relay's disk: one SQLite file (WAL, `synchronous=FULL`) and the one thread that owns it.
//!
//! Every piece of work is a closure over a connection inside a transaction. The thread takes all that wait, runs each within a
//! savepoint, commits once, and only then tells the callers: an answer from [`Store::write`] means "on disk". A closure that fails
//! takes back its own changes and nobody else's. Nothing outside this folder and the closures handed in touches the database.

pub(super) mod meta;
mod schema;

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

/// How many pieces of work share one commit at the most, so that no caller waits for ever.
const LARGEST_GROUP: usize = 512;
/// How many pieces of work may wait; more make their callers wait before handing in.
const QUEUE: usize = 1024;

/// Why something is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the store {path} cannot be opened ({source}): check the folder's rights and the disk, or move a damaged file away"
    )]
    Open { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the store could not be written ({0}): nothing of this step was kept")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the store could not be written ({0}): nothing of this step was kept")]
    Commit(String),
    #[error("what the store holds is not understood ({0}): was it written by a newer version?")]
    Malformed(#[from] serde_json::Error),
    #[error("the store is closed")]
    Closed,
}

/// The store's file in the data folder; its companions begin with the same name.
pub const FILE: &str = "relay.db";

/// The bot whose messages the store in this folder holds; none where there is no store that can be read.
#[must_use]
pub fn bot_of(folder: &Path) -> Option<i64> {
    let path = folder.join(FILE);
    if !path.exists() {
        return None;
    }
    meta::number(&Connection::open(path).ok()?, "bot_user_id").ok()?
}

/// Puts the store of a former bot into a folder of its own beside (`bot-<id>`): another bot's dialogs are others. None where there was
/// no store. No relay may run on it.
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

/// A handle to the store. Cheap to clone; when the last is gone the thread ends.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::Sender<Order>,
}

enum Order {
    Work(Job),
    /// Fold the log into the file and say how it went.
    Fold(oneshot::Sender<Result<(), String>>),
    /// Let go of the file and say so.
    Close(oneshot::Sender<()>),
}

/// Runs inside the transaction and gives back what to do once its outcome is known.
type Job = Box<dyn FnOnce(&Connection) -> Finish + Send>;
type Finish = Box<dyn FnOnce(Result<(), &str>) + Send>;

impl Store {
    /// Opens or makes the file and brings its tables up to date.
    ///
    /// # Errors
    /// The file cannot be opened, is damaged or is newer than this program.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Open { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(error.into()))?;
        }
        let mut connection = Connection::open(path).map_err(|error| failed(error.into()))?;
        // Two relays on one file would each deliver the same rows: the second must not start.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(|error| failed(error.into()))?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(|error| failed(error.into()))?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(|error| failed(error.into()))?;
        connection.pragma_update(None, "cache_size", -2_000).map_err(|error| failed(error.into()))?;
        connection.busy_timeout(std::time::Duration::from_secs(1)).map_err(|error| failed(error.into()))?;
        connection.set_prepared_statement_cache_capacity(64);
        schema::migrate(&mut connection).map_err(|error| failed(error.into()))?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work(connection, queue))
            .map_err(|error| failed(error.into()))?;
        Ok(Self { jobs })
    }

    /// Runs `work` inside a transaction; returns after the commit. `work` must not block on anything but the connection.
    ///
    /// # Errors
    /// `work` failed or the disk refused; then nothing of it was kept.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let outcome = in_savepoint(connection, work);
            Box::new(move |committed: Result<(), &str>| {
                let outcome = match (outcome, committed) {
                    (Ok(value), Ok(())) => Ok(value),
                    (Ok(_), Err(reason)) => Err(StoreError::Commit(reason.to_owned())),
                    (Err(error), _) => Err(error),
                };
                // The caller may have gone; what is on disk is on disk.
                let _ = reply.send(outcome);
            })
        });
        self.jobs.send(Order::Work(job)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Folds the log into the file, so that what was deleted stands in neither.
    ///
    /// # Errors
    /// The disk refused, or the store is closed.
    pub async fn fold(&self) -> Result<(), StoreError> {
        let (reply, folded) = oneshot::channel();
        self.jobs.send(Order::Fold(reply)).await.map_err(|_| StoreError::Closed)?;
        folded.await.map_err(|_| StoreError::Closed)?.map_err(StoreError::Commit)
    }

    /// Lets go of the file after what was handed in before; later writes fail.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.jobs.send(Order::Close(reply)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.execute_batch("SAVEPOINT job")?;
    match work(connection) {
        Ok(value) => {
            connection.execute_batch("RELEASE job")?;
            Ok(value)
        }
        Err(error) => {
            connection.execute_batch("ROLLBACK TO job; RELEASE job")?;
            Err(error)
        }
    }
}

fn work(connection: Connection, mut queue: mpsc::Receiver<Order>) {
    let mut closing = None;
    while closing.is_none() {
        let mut next = match queue.blocking_recv() {
            Some(Order::Work(job)) => Some(job),
            Some(Order::Fold(reply)) => {
                let _ = reply.send(fold(&connection));
                continue;
            }
            Some(Order::Close(reply)) => {
                closing = Some(reply);
                break;
            }
            None => break,
        };
        let mut finishes = Vec::new();
        let mut folding = None;
        let begun = connection.execute_batch("BEGIN IMMEDIATE");
        if begun.is_ok() {
            while let Some(job) = next {
                finishes.push(job(&connection));
                next = None;
                if finishes.len() < LARGEST_GROUP {
                    match queue.try_recv() {
                        Ok(Order::Work(job)) => next = Some(job),
                        Ok(Order::Fold(reply)) => folding = Some(reply),
                        Ok(Order::Close(reply)) => closing = Some(reply),
                        Err(_) => {}
                    }
                }
            }
        } else if let Some(job) = next.take() {
            // The savepoint inside fails in the same way and tells the caller why.
            finishes.push(job(&connection));
        }
        let committed = begun.and_then(|()| connection.execute_batch("COMMIT")).map_err(|error| {
            let _ = connection.execute_batch("ROLLBACK");
            error.to_string()
        });
        for finish in finishes {
            finish(committed.as_ref().copied().map_err(String::as_str));
        }
        if let Some(reply) = folding {
            let _ = reply.send(fold(&connection));
        }
    }
    // A clean close folds the log into the file; where it cannot, the next start does.
    let _ = fold(&connection);
    drop(connection);
    if let Some(reply) = closing {
        let _ = reply.send(());
    }
}

fn fold(connection: &Connection) -> Result<(), String> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failing_piece_of_work_takes_back_its_own_changes_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("relay.db")).unwrap();
        let set = |key: &'static str, fail: bool| {
            let store = store.clone();
            async move {
                store
                    .write(move |connection| {
                        connection.execute("INSERT INTO meta (key, value) VALUES (?1, '1')", [key])?;
                        if fail { Err(StoreError::Commit("made to fail".to_owned())) } else { Ok(()) }
                    })
                    .await
            }
        };
        let (first, second, third) = tokio::join!(set("a", false), set("b", true), set("c", false));
        assert!(first.is_ok() && second.is_err() && third.is_ok());
        let keys = store
            .write(|connection| {
                let mut statement = connection.prepare("SELECT key FROM meta WHERE value = '1' ORDER BY key")?;
                let keys = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
                Ok(keys)
            })
            .await
            .unwrap();
        assert_eq!(keys, ["a", "c"]);
    }

    #[tokio::test]
    async fn a_second_relay_cannot_open_the_same_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.db");
        let _first = Store::open(&path).unwrap();
        assert!(Store::open(&path).is_err());
    }
}
