//! The relay's disk: one SQLite file (WAL, `synchronous=FULL`) and the one thread that owns it.
//!
//! Every piece of work is a closure over a [`Tx`]. The thread takes all that wait, runs each within
//! a savepoint (the first needs none), commits once, and only then tells the callers: an answer
//! from [`Store::transact`] means "on disk". A closure that fails takes back its own changes and
//! nobody else's. Where SQLite itself takes the transaction back (a full disk), everyone who shared
//! it is told so.
//!
//! What a commit gives others to do is noted in the [`Tx`] by whoever writes it, and announced by
//! this thread, not by the caller: a caller that has gone meanwhile (an HTTP client that hung up)
//! leaves no work behind that nobody knows of.
//!
//! One file per table holds its rows, its states and its queries by name. SQL stands nowhere else:
//! the connection in a [`Tx`] is seen in this folder only.

pub(super) mod closing;
pub(super) mod counts;
pub(super) mod customer;
pub(super) mod erased;
pub(super) mod file;
pub(super) mod forget;
pub(super) mod gap;
mod ids;
pub(super) mod inbox;
pub(super) mod mango;
pub(super) mod meta;
pub(super) mod outbox;
pub(super) mod receipt;
pub(super) mod restored;
mod schema;
pub(super) mod sent;
pub(super) mod to_bot;
pub(super) mod to_crm;
pub(super) mod to_max;
pub(super) mod waiting;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

pub use file::{FILE, bot_of, set_aside};

use super::metrics::Left;
use crate::contract::CustomerId;
use crate::time::Millis;

/// How many pieces of work share one commit at the most, so that no caller waits for ever.
const LARGEST_GROUP: usize = 512;
/// How many pieces of work may wait; more make their callers wait before handing in.
const QUEUE: usize = 1024;

/// Why a whole group of work fails although each piece of it did not.
const TAKEN_BACK: &str = "the database took the whole transaction back";

/// Why something is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the store {path} cannot be opened ({source}): check the folder's rights and the disk, or move a damaged file away"
    )]
    Open { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(
        "the store {path} is of format {format}, and this version of MaxChannel knows formats up to {known}: start the \
         newer version again, or bring in a backup from before the upgrade"
    )]
    Newer { path: PathBuf, format: usize, known: usize },
    #[error("the store could not be written ({0}): nothing of this step was kept")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the store could not be written ({0}): nothing of this step was kept")]
    Commit(String),
    #[error("what the store holds is not understood ({0}): was it written by a newer version?")]
    Malformed(#[from] serde_json::Error),
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether one row holds what cannot be read, which says nothing about the disk.
    pub(super) fn is_odd_row(&self) -> bool {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
        matches!(
            self,
            Self::Malformed(_)
                | Self::Sqlite(FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..))
        )
    }
}

/// One piece of work inside a transaction, with what it gives others to do.
pub(super) struct Tx<'a> {
    connection: &'a Connection,
    woken: RefCell<Woken>,
    taking: Cell<receipt::Taking>,
}

impl Tx<'_> {
    /// Notes what is to be done once this is on disk.
    pub fn wake(&self, note: impl FnOnce(&mut Woken)) {
        note(&mut self.woken.borrow_mut());
    }
}

/// The place of a message in its dialog: (timestamp, seq) of MAX.
pub(super) type Position = (Millis, i64);

/// Whose lanes have new work once the transaction is on disk.
#[derive(Debug, Default, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each says by itself whether one thing is woken")]
pub(super) struct Woken {
    /// Rows were changed: the disk takes what is written.
    pub written: bool,
    /// There are updates in the inbox.
    pub dialogs: Vec<CustomerId>,
    pub crm: Vec<CustomerId>,
    /// The head that was marked for one of those, so that it need not be read again.
    pub head: Option<Box<to_crm::Head>>,
    pub max: Vec<CustomerId>,
    pub bot: Vec<CustomerId>,
    /// There is something to report to the CRM's outbox.
    pub reports: bool,
    /// Some dialog's next tick may have moved, none says to when.
    pub timers: bool,
    /// When the first of the dialogs that were written wants its next tick.
    pub due: Option<Millis>,
    /// Updates that changed nothing, to be counted.
    pub left: Vec<Left>,
    /// Starts of the bot by where they came from, to be counted.
    pub starts: Vec<String>,
    /// Messages that became dead letters, to be counted.
    pub dead_letters: u64,
    /// Messages of the channel's own that came too late to be shown, to be counted.
    pub overdue: u64,
    /// A gap in what MAX brings was noted.
    pub gaps: bool,
}

impl Woken {
    /// A dialog wants its next tick then, if it wants any.
    pub fn is_due(&mut self, due: Option<Millis>) {
        self.due = self.due.into_iter().chain(due).min();
    }
}

/// How much of a piece of work is tried in one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    /// What must be, though the rest cannot.
    Least,
}

/// A handle to the store. Cheap to clone; when the last is gone the thread ends.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Order>,
    announce: Arc<OnceLock<Announce>>,
    /// What waits is not worked off any more.
    abandoned: Arc<AtomicBool>,
}

/// Called by the store's thread after each commit that gave somebody work.
type Announce = Box<dyn Fn(Woken) + Send + Sync>;

enum Order {
    Work(Job),
    /// Leave nothing of what was deleted in any file and say how it went.
    Purge(oneshot::Sender<Result<(), String>>),
    /// Let go of the file and say so.
    Close(oneshot::Sender<()>),
}

/// What runs in that place of a transaction.
type Work<T> = Box<dyn FnOnce(&Connection, In) -> Result<(T, Woken), StoreError> + Send>;
/// Runs in that place, or not at all where there is no transaction, and gives back what to do once
/// the outcome is known.
type Job = Box<dyn FnOnce(Option<(&Connection, In)>) -> Finish + Send>;
/// Wakes, where it is on disk, and tells the caller.
type Finish = Box<dyn FnOnce(Result<(), &str>, Option<&Announce>) + Send>;

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or makes the file and brings its tables up to date.
    ///
    /// # Errors
    /// The file cannot be opened, is damaged or is newer than this program.
    #[cfg(test)]
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_in(path, Place::Thread)
    }

    /// The same, at work in that place.
    ///
    /// # Errors
    /// The file cannot be opened, is damaged or is newer than this program.
    pub fn open_in(path: &Path, place: Place) -> Result<Self, StoreError> {
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Open { path: path.to_owned(), source };
        file::make_private(path).map_err(|error| failed(error.into()))?;
        let mut connection = Connection::open(path).map_err(|error| failed(error.into()))?;
        // What is deleted or moved is overwritten: an erased person must not be read in a free
        // page.
        connection.pragma_update(None, "secure_delete", "ON").map_err(|error| failed(error.into()))?;
        // Two relays on one file would each deliver the same rows: the second must not start.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(|error| failed(error.into()))?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(|error| failed(error.into()))?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(|error| failed(error.into()))?;
        connection.pragma_update(None, "cache_size", -2_000).map_err(|error| failed(error.into()))?;
        connection.busy_timeout(std::time::Duration::from_secs(1)).map_err(|error| failed(error.into()))?;
        connection.set_prepared_statement_cache_capacity(256);
        if let Some(format) = schema::newer(&connection).map_err(|error| failed(error.into()))? {
            return Err(StoreError::Newer { path: path.to_owned(), format, known: schema::FORMAT });
        }
        schema::migrate(&mut connection).map_err(|error| failed(error.into()))?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let announce = Arc::new(OnceLock::new());
        let known = Arc::clone(&announce);
        let abandoned = Arc::default();
        match place {
            Place::Thread => {
                std::thread::Builder::new()
                    .name("store".to_owned())
                    .spawn(move || work(connection, queue, &known))
                    .map_err(|error| failed(error.into()))?;
            }
            Place::Runtime => {
                drop(tokio::spawn(work_in_runtime(connection, queue, known, Arc::clone(&abandoned))));
            }
        }
        Ok(Self { jobs, announce, abandoned })
    }

    /// From now on `announce` is told after each commit whose lanes have new work; only the first
    /// counts.
    pub fn set_announce(&self, announce: impl Fn(Woken) + Send + Sync + 'static) {
        let _ = self.announce.set(Box::new(announce));
    }

    /// Whether the thread that owns the file is still there.
    pub fn is_alive(&self) -> bool {
        !self.jobs.is_closed()
    }

    /// Runs `work` inside a transaction; returns after the commit. Reads go through it, too. `work`
    /// must not block on anything but the transaction. What it notes in it is announced after the
    /// commit, whatever has become of the caller.
    ///
    /// # Errors
    /// `work` failed or the disk refused; then nothing of it was kept and nobody is woken.
    pub fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        self.hand_in(Box::new(|connection, place| run(connection, place, work)))
    }

    /// Runs as much of `work` in one transaction as can be: where it fails, or panics, with
    /// [`Extent::Whole`], it is as if it had not been tried, and it runs with [`Extent::Least`].
    ///
    /// # Errors
    /// The least failed, too, or the disk refused; then nothing of it was kept and nobody is woken.
    pub fn transact_whole<T: Send + 'static>(
        &self,
        work: impl Fn(&Tx<'_>, Extent) -> Result<T, StoreError> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        self.hand_in(Box::new(move |connection, place| {
            let whole = run(connection, place, |tx| {
                catch_unwind(AssertUnwindSafe(|| work(tx, Extent::Whole)))
                    .unwrap_or_else(|_| Err(StoreError::Commit("this step panicked".to_owned())))
            });
            match whole {
                Err(_) if !connection.is_autocommit() => run(connection, place, |tx| work(tx, Extent::Least)),
                whole => whole,
            }
        }))
    }

    /// Hands in what runs in a transaction, and waits for the commit. It knows of the work no more
    /// than what comes out of it, so that the program holds it once for each of those and not for
    /// each piece of work.
    async fn hand_in<T: Send + 'static>(&self, work: Work<T>) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |place| {
            let outcome = place.map(|(connection, place)| work(connection, place));
            Box::new(move |committed: Result<(), &str>, announce: Option<&Announce>| {
                let outcome = match (outcome, committed) {
                    (Some(Ok((value, woken))), Ok(())) => {
                        if let Some(announce) = announce
                            && woken != Woken::default()
                        {
                            announce(woken);
                        }
                        Ok(value)
                    }
                    (Some(Err(error)), _) => Err(error),
                    (_, Err(reason)) => Err(StoreError::Commit(reason.to_owned())),
                    (None, Ok(())) => Err(StoreError::Closed),
                };
                // The caller may have gone; what is on disk is on disk.
                let _ = reply.send(outcome);
            })
        });
        self.jobs.send(Order::Work(job)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Writes the file anew and empties the log, so that what was deleted stands in neither: not in
    /// a free page, and not in the free part of a page in use, where what was moved about leaves
    /// copies.
    ///
    /// # Errors
    /// The disk refused, or the store is closed.
    pub async fn purge(&self) -> Result<(), StoreError> {
        let (reply, purged) = oneshot::channel();
        self.jobs.send(Order::Purge(reply)).await.map_err(|_| StoreError::Closed)?;
        purged.await.map_err(|_| StoreError::Closed)?.map_err(StoreError::Commit)
    }

    /// Lets go of the file as a process that is killed: in a simulated place nothing of what waits
    /// gets onto the disk.
    pub async fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.close().await;
    }

    /// Lets go of the file after what was handed in before; later writes fail.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.jobs.send(Order::Close(reply)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

/// A file as a version of before would have made it: for tests.
///
/// # Errors
/// The file cannot be written.
#[doc(hidden)]
pub fn make_of_format(path: &Path, format: usize) -> Result<(), StoreError> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    schema::migrate_to(&mut connection, format).map_err(|error| StoreError::Commit(error.to_string()))
}

/// The newest format that [`make_of_format`] makes.
#[doc(hidden)]
pub const FORMAT: usize = schema::FORMAT;

/// The tables in memory, for what is only tried out.
pub(super) struct Trial(Connection);

impl Trial {
    pub fn new() -> Result<Self, StoreError> {
        let mut connection = Connection::open_in_memory()?;
        schema::migrate(&mut connection).map_err(|error| StoreError::Commit(error.to_string()))?;
        Ok(Self(connection))
    }

    /// Runs `work` and takes back whatever it did.
    pub fn run(&self, work: impl FnOnce(&Tx<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.0.execute_batch("BEGIN")?;
        let outcome = work(&Tx { connection: &self.0, woken: RefCell::default(), taking: Cell::default() });
        self.0.execute_batch("ROLLBACK")?;
        outcome
    }
}

/// A column as text, whatever stands in it: a row that somebody has damaged is read and judged like
/// any other.
fn text_of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<String> {
    use rusqlite::types::ValueRef;
    Ok(match row.get_ref(column)? {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    })
}

/// Where in a transaction a piece of work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    /// Nothing stands before it: what takes the transaction back takes its own back alone.
    Head,
    /// It is taken back by itself.
    Savepoint,
}

impl In {
    const fn take_back(self) -> &'static str {
        match self {
            Self::Head => "ROLLBACK; BEGIN IMMEDIATE",
            Self::Savepoint => "ROLLBACK TO job; RELEASE job",
        }
    }
}

/// One statement without a result, parsed once.
fn say(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(drop)
}

/// Leaves the transaction as it was where `work` fails, or no transaction at all where that cannot
/// be.
fn run<T>(
    connection: &Connection,
    place: In,
    work: impl FnOnce(&Tx<'_>) -> Result<T, StoreError>,
) -> Result<(T, Woken), StoreError> {
    if place == In::Savepoint {
        say(connection, "SAVEPOINT job")?;
    }
    let tx = Tx { connection, woken: RefCell::default(), taking: Cell::default() };
    let before = connection.total_changes();
    let outcome = work(&tx).and_then(|value| keep(connection, place).map(|()| value));
    if outcome.is_err() {
        take_back(connection, place);
    }
    let mut woken = tx.woken.take();
    woken.written |= connection.total_changes() > before;
    outcome.map(|value| (value, woken))
}

/// What was done in that place stays, as far as it is there.
fn keep(connection: &Connection, place: In) -> Result<(), StoreError> {
    // A savepoint that outlived its transaction would be one of its own, and its release a commit.
    if connection.is_autocommit() {
        return Err(StoreError::Commit(TAKEN_BACK.to_owned()));
    }
    if place == In::Savepoint {
        say(connection, "RELEASE job")?;
    }
    Ok(())
}

fn take_back(connection: &Connection, place: In) {
    if !connection.is_autocommit() && connection.execute_batch(place.take_back()).is_err() {
        let _ = connection.execute_batch("ROLLBACK");
    }
}

/// How long a simulated disk takes for a commit.
const DISK: std::time::Duration = std::time::Duration::from_millis(1);

/// Where the store does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a thread of its own, so that the disk holds nobody up.
    Thread,
    /// In a task of the async runtime, whose time then waits for the disk: for tests that move
    /// time.
    Runtime,
}

fn work(connection: Connection, mut queue: mpsc::Receiver<Order>, announce: &OnceLock<Announce>) {
    while let Some(order) = queue.blocking_recv() {
        if let Some(closing) = work_off(&connection, order, &mut queue, announce) {
            return close(connection, Some(closing));
        }
    }
    close(connection, None);
}

async fn work_in_runtime(
    connection: Connection,
    mut queue: mpsc::Receiver<Order>,
    announce: Arc<OnceLock<Announce>>,
    abandoned: Arc<AtomicBool>,
) {
    while let Some(order) = queue.recv().await {
        // While a disk works, others hand in more, give up, or are killed.
        tokio::time::sleep(DISK).await;
        if abandoned.load(Ordering::Relaxed) && !matches!(order, Order::Close(_)) {
            continue;
        }
        if let Some(closing) = work_off(&connection, order, &mut queue, &announce) {
            return close(connection, Some(closing));
        }
    }
    close(connection, None);
}

/// Works off one order and, if that is work, what waits behind it. Gives back whom to tell of the
/// close, if that was asked for.
fn work_off(
    connection: &Connection,
    order: Order,
    queue: &mut mpsc::Receiver<Order>,
    announce: &OnceLock<Announce>,
) -> Option<oneshot::Sender<()>> {
    let mut first = match order {
        Order::Work(job) => Some(job),
        Order::Purge(reply) => {
            let _ = reply.send(purge(connection));
            return None;
        }
        Order::Close(reply) => return Some(reply),
    };
    let (mut purging, mut closing) = (None, None);
    let next = || {
        if let Some(job) = first.take() {
            return Some(job);
        }
        // Whoever wants more than work ends the group.
        if purging.is_some() || closing.is_some() {
            return None;
        }
        match queue.try_recv() {
            Ok(Order::Work(job)) => return Some(job),
            Ok(Order::Purge(reply)) => purging = Some(reply),
            Ok(Order::Close(reply)) => closing = Some(reply),
            Err(_) => {}
        }
        None
    };
    in_transaction(connection, next, announce.get());
    if let Some(reply) = purging {
        let _ = reply.send(purge(connection));
    }
    closing
}

fn close(connection: Connection, closing: Option<oneshot::Sender<()>>) {
    // A clean close folds the log into the file; where it cannot, the next start does.
    let _ = checkpoint(&connection);
    drop(connection);
    if let Some(reply) = closing {
        let _ = reply.send(());
    }
}

/// Runs jobs in one transaction until there are no more or it is lost, commits, wakes, and tells
/// every caller.
fn in_transaction(connection: &Connection, mut next: impl FnMut() -> Option<Job>, announce: Option<&Announce>) {
    let mut finishes = Vec::new();
    let mut outcome = say(connection, "BEGIN IMMEDIATE").map_err(|error| error.to_string());
    while finishes.len() < LARGEST_GROUP
        && let Some(job) = next()
    {
        let place = if finishes.is_empty() { In::Head } else { In::Savepoint };
        let begun = outcome.is_ok().then_some((connection, place));
        match catch_unwind(AssertUnwindSafe(|| job(begun))) {
            Ok(finish) => finishes.push(finish),
            // Its caller learns it from the lost reply. What it has left half done is nobody's.
            Err(_) => drop(connection.execute_batch("ROLLBACK")),
        }
        // SQLite takes a transaction back by itself when the disk fails: then what ran in it before
        // is gone, too, and what ran after would stand alone.
        if outcome.is_ok() && connection.is_autocommit() {
            outcome = Err(TAKEN_BACK.to_owned());
        }
        if outcome.is_err() {
            break;
        }
    }
    let committed = outcome.and_then(|()| {
        say(connection, "COMMIT").map_err(|error| {
            let _ = connection.execute_batch("ROLLBACK");
            error.to_string()
        })
    });
    for finish in finishes {
        finish(committed.as_ref().copied().map_err(String::as_str), announce);
    }
}

fn purge(connection: &Connection) -> Result<(), String> {
    // The copy that is made meanwhile stands in the same folder; there may be no other to write to.
    if let Some(folder) = connection.path().and_then(|path| Path::new(path).parent()).and_then(Path::to_str) {
        let folder = folder.replace('\'', "''");
        let _ = connection.execute_batch(&format!("PRAGMA temp_store_directory = '{folder}'"));
    }
    connection.execute_batch("VACUUM").map_err(|error| error.to_string())?;
    checkpoint(connection)
}

fn checkpoint(connection: &Connection) -> Result<(), String> {
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
                    .transact(move |tx| {
                        tx.connection.execute("INSERT INTO meta (key, value) VALUES (?1, '1')", [key])?;
                        if fail { Err(StoreError::Commit("made to fail".to_owned())) } else { Ok(()) }
                    })
                    .await
            }
        };
        let (first, second, third) = tokio::join!(set("a", false), set("b", true), set("c", false));
        assert!(first.is_ok() && second.is_err() && third.is_ok());
        let keys = store
            .transact(|tx| {
                let mut statement = tx.connection.prepare("SELECT key FROM meta WHERE value = '1' ORDER BY key")?;
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

    /// As on a full volume, where SQLite takes the whole transaction back by itself.
    #[tokio::test]
    async fn what_is_told_as_written_is_on_disk_and_nothing_else_is_however_the_disk_fails() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join(FILE)).unwrap();
        store
            .transact(|tx| {
                let pages: i64 = tx.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
                tx.connection.query_row(&format!("PRAGMA max_page_count = {}", pages + 40), [], |_| Ok(()))?;
                Ok(())
            })
            .await
            .unwrap();
        // All wait before the first is worked on, so that they share their commits.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let gate = tokio::spawn({
            let store = store.clone();
            async move {
                let waited = store.transact(move |_| {
                    let _ = wait.recv();
                    Ok(())
                });
                waited.await
            }
        });
        let writers: Vec<_> = (0..300)
            .map(|number| {
                let store = store.clone();
                tokio::spawn(async move {
                    let length = if number % 3 == 0 { 60_000 } else { 50 };
                    let written =
                        store.transact(move |tx| meta::set(tx, &format!("n{number}"), &"x".repeat(length))).await;
                    (number, written.is_ok())
                })
            })
            .collect();
        tokio::task::yield_now().await;
        go.send(()).unwrap();
        // Whether it shares the lost transaction is chance.
        let _ = gate.await.unwrap();
        let mut told = Vec::new();
        for writer in writers {
            told.push(writer.await.unwrap());
        }
        let kept = store
            .transact(move |tx| {
                told.into_iter()
                    .map(|(number, ok)| Ok((number, ok, meta::get(tx, &format!("n{number}"))?.is_some())))
                    .collect::<Result<Vec<(u32, bool, bool)>, StoreError>>()
            })
            .await
            .unwrap();
        assert!(kept.iter().any(|(_, ok, _)| !ok), "the disk was never full");
        assert!(kept.iter().any(|(_, ok, _)| *ok), "nothing could be written at all");
        let wrong: Vec<_> = kept.iter().filter(|(_, ok, on_disk)| ok != on_disk).collect();
        assert!(wrong.is_empty(), "(number, told, on disk): {wrong:?}");
    }

    #[tokio::test]
    async fn what_is_on_disk_wakes_its_lane_although_its_caller_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join(FILE)).unwrap();
        let (woke, mut woken) = mpsc::unbounded_channel();
        store.set_announce(move |woken| drop(woke.send(woken.crm)));
        let waking = |customer: i64, fail: bool| {
            store.transact(move |tx| {
                tx.wake(|woken| woken.crm.push(CustomerId::new(customer)));
                if fail { Err(StoreError::Commit("made to fail".to_owned())) } else { Ok(()) }
            })
        };
        // Handed in, and left before the answer.
        let _ = futures::poll!(std::pin::pin!(waking(1, false)));
        waking(2, true).await.unwrap_err();
        waking(3, false).await.unwrap();
        assert_eq!(woken.recv().await.unwrap(), [CustomerId::new(1)]);
        assert_eq!(woken.recv().await.unwrap(), [CustomerId::new(3)], "work that failed woke somebody");
    }

    /// A savepoint keeps what it would take back, and a large one must not keep it in a file of the
    /// system's: what customers say stands in the store's own folder only.
    #[tokio::test]
    async fn what_a_large_step_would_take_back_is_written_to_no_file_outside_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join(FILE)).unwrap();
        let write = |tx: &Tx<'_>, what: &str| -> Result<(), StoreError> {
            (0..200).try_for_each(|number| meta::set(tx, &format!("n{number}"), &what.repeat(2_000)))
        };
        store.transact(move |tx| write(tx, "a")).await.unwrap();
        let outside = store
            .transact(move |tx| {
                let mut outside = Vec::new();
                run(tx.connection, In::Savepoint, |tx| {
                    write(tx, "b")?;
                    let open = std::fs::read_dir("/proc/self/fd").unwrap();
                    let open = open.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
                    outside.extend(open.filter(|path| path.to_string_lossy().contains("etilqs")));
                    Ok(())
                })?;
                Ok(outside)
            })
            .await
            .unwrap();
        assert_eq!(outside, Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn what_fails_as_a_whole_leaves_nothing_and_the_least_is_done_instead() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join(FILE)).unwrap();
        let (woke, mut woken) = mpsc::unbounded_channel();
        store.set_announce(move |woken| drop(woke.send(woken.crm)));
        let attempt = |number: i64, way: &'static str| {
            store.transact_whole(move |tx, extent| {
                meta::set(tx, &format!("least {number}"), "x")?;
                if extent == Extent::Whole {
                    meta::set(tx, &format!("whole {number}"), "x")?;
                    tx.wake(|woken| woken.crm.push(CustomerId::new(number)));
                    match way {
                        "fails" => return Err(StoreError::Commit("made to fail".to_owned())),
                        "panics" => panic!("made to panic"),
                        _ => {}
                    }
                }
                Ok(extent)
            })
        };
        // By itself, and behind others in one transaction.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let gate = store.transact(move |_| {
            let _ = wait.recv();
            Ok(())
        });
        let together = async {
            let rest = futures::future::join5(
                attempt(1, "fails"),
                attempt(2, "panics"),
                attempt(3, "is done"),
                attempt(4, "panics"),
                async { go.send(()).unwrap() },
            );
            rest.await
        };
        let (gate, (first, second, third, fourth, ())) = futures::future::join(gate, together).await;
        gate.unwrap();
        let alone = attempt(5, "fails").await;
        let extents = [first, second, third, fourth, alone].map(Result::unwrap);
        let (whole, least) = (Extent::Whole, Extent::Least);
        assert_eq!(extents, [least, least, whole, least, least]);
        let kept = store.transact(|tx| {
            let keys = (1..=5).flat_map(|number| [format!("least {number}"), format!("whole {number}")]);
            let kept = keys.filter(|key| meta::get(tx, key).unwrap().is_some()).collect::<Vec<_>>();
            Ok(kept)
        });
        assert_eq!(kept.await.unwrap(), ["least 1", "least 2", "least 3", "whole 3", "least 4", "least 5"]);
        let mut told = Vec::new();
        while let Ok(lanes) = woken.try_recv() {
            told.extend(lanes);
        }
        assert_eq!(told, [CustomerId::new(3)], "what failed woke somebody");
    }

    #[tokio::test]
    async fn work_that_panics_fails_and_the_store_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join(FILE)).unwrap();
        let panicked = store
            .transact(|tx| -> Result<(), StoreError> {
                meta::set(tx, "half", "done")?;
                panic!("made to panic")
            })
            .await;
        assert!(panicked.is_err());
        assert_eq!(store.transact(|tx| meta::get(tx, "half")).await.unwrap(), None);
        assert!(store.is_alive());
    }
}
