//! Gaps in what MAX has brought: what may be missing, from when on, and who has been read back
//! since.
//!
//! A gap's bound is fixed when the gap is noted, from what was on disk before it, so that nothing
//! that arrives later moves it. It stays until every dialog that it concerns has been read back.

use rusqlite::{OptionalExtension, params};

use super::meta::{self, Moment};
use super::{StoreError, Tx};
use crate::contract::CustomerId;
use crate::max::ChatId;
use crate::max::update::is_time;
use crate::time::Millis;

/// How far behind its beginning a gap is read: MAX repeats for a while before it gives up, so what
/// was missed may be older than what came last. What is known already is found by its key.
const OVERLAP: Millis = 3_600_000;
/// Gaps closer together than this are one that began with the first.
const SPACING: Millis = 60_000;
/// How long updates are remembered by their keys at the least, whatever the retention: longer than
/// MAX repeats (8 h), and no reading back reaches further.
pub(in crate::relay) const KEYS_KEPT: Millis = 7 * 86_400_000;
/// A gap is forgotten after this, read or not.
const KEPT: Millis = 31 * 86_400_000;
/// For how long those who were unknown before it are read back after a gap that MAX does not
/// repeat.
const STRANGERS: Millis = 86_400_000;

/// Whether MAX repeats what was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum Kind {
    /// It does: reading back only keeps the order, so that only open dialogs and whoever writes are
    /// read.
    Repeated,
    /// It does not: everybody is read back.
    Lasting,
}

/// A dialog that is to be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) struct Pending {
    /// The newest gap that the reading closes.
    pub gap: i64,
    pub chat_id: ChatId,
    /// Nothing older is read, by MAX's time.
    pub since: Millis,
    pub open: bool,
    /// MAX repeats nothing of it, edits neither.
    pub is_lasting: bool,
    /// Which life of the customer's row: one that was erased meanwhile is another.
    pub known_at: Option<Millis>,
}

/// Notes a gap that began at `since` by MAX's time.
pub(in crate::relay) fn note(tx: &Tx<'_>, since: Millis, kind: Kind, now: Millis) -> Result<(), StoreError> {
    tx.wake(|woken| woken.gaps = true);
    let lasting = kind == Kind::Lasting;
    let newest = tx
        .connection
        .prepare_cached("SELECT id, since, lasting, noted_at FROM gap ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Millis>(1)?, row.get::<_, bool>(2)?, row.get::<_, Millis>(3)?))
        })
        .optional()?;
    let (mut id, mut begun) = (0, since);
    if let Some((newest, begun_before, lasting_before, noted_at)) = newest {
        id = newest + 1;
        if lasting_before == lasting && (0..SPACING).contains(&(now - noted_at)) {
            begun = since.min(begun_before);
            tx.connection.execute("DELETE FROM gap WHERE id = ?1", [newest])?;
        }
    }
    tx.connection
        .prepare_cached("INSERT INTO gap (id, since, lasting, noted_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id, begun, lasting, now])?;
    tx.connection.execute("DELETE FROM gap WHERE noted_at < ?1 AND id < ?2", params![now - KEPT, id])?;
    Ok(())
}

/// From when on keys are needed for what is being read back, by MAX's time: of gaps of the last
/// day.
pub(in crate::relay) fn reads_from(tx: &Tx<'_>, now: Millis) -> Result<Option<Millis>, StoreError> {
    let sql = "SELECT min(since) FROM gap WHERE noted_at > ?1";
    let since: Option<Millis> = tx.connection.prepare_cached(sql)?.query_row([now - 86_400_000], |row| row.get(0))?;
    Ok(since.map(|since| since.saturating_sub(OVERLAP)))
}

/// When the newest update came that is older than `before`, by MAX's time; where there is none,
/// all may be missing that is younger than the store.
pub(in crate::relay) fn newest_update(tx: &Tx<'_>, before: Millis) -> Result<Millis, StoreError> {
    let newest = tx
        .connection
        .prepare_cached("SELECT at FROM inbox WHERE at < ?1 AND at > 0 ORDER BY id DESC LIMIT 1")?
        .query_row([before], |row| row.get(0))
        .optional()?;
    Ok(newest.unwrap_or(0))
}

/// Whether this store knows the customer by an update: nobody else has anything that could be
/// missing.
pub(in crate::relay) fn is_known(tx: &Tx<'_>, id: CustomerId) -> Result<bool, StoreError> {
    Ok(tx.connection.prepare_cached("SELECT 1 FROM customer WHERE id = ?1 AND known_at IS NOT NULL")?.exists([id])?)
}

/// When the oldest update of a customer that is not taken was made, by MAX's time.
pub(in crate::relay) fn first_waiting(tx: &Tx<'_>, id: CustomerId) -> Result<Option<Millis>, StoreError> {
    Ok(tx
        .connection
        .prepare_cached("SELECT min(at) FROM inbox WHERE customer = ?1 AND done = 0 AND at > 0")?
        .query_row([id], |row| row.get(0))?)
}

/// The first updates of a customer are taken, of which the oldest was made at `first`. What is
/// older than the store or than an erasure is never read, and a gap that MAX closes by itself is
/// none of theirs.
pub(in crate::relay) fn introduce(
    tx: &Tx<'_>,
    id: CustomerId,
    first: Option<Millis>,
    now: Millis,
) -> Result<(), StoreError> {
    let floor = meta::moment(tx, Moment::Made)?.max(meta::moment(tx, Moment::Erased)?);
    // What waits was not erased, whatever is known of MAX's clock.
    let known_at = floor.map(|floor| floor.min(first.unwrap_or(floor)));
    tx.connection
        .prepare_cached(
            "UPDATE customer SET known_at = ?2, read_back = coalesce(
                (SELECT min(id) - 1 FROM gap WHERE lasting = 1 AND noted_at > ?3), (SELECT max(id) FROM gap), -1)
             WHERE id = ?1",
        )?
        .execute(params![id, known_at.unwrap_or(0), now - STRANGERS])?;
    Ok(())
}

/// What is to be read of a dialog, if anything.
pub(in crate::relay) fn pending(tx: &Tx<'_>, id: CustomerId, now: Millis) -> Result<Option<Pending>, StoreError> {
    let found = tx
        .connection
        .prepare_cached(
            "SELECT max(gap.id), min(gap.since), customer.chat_id, customer.open, customer.known_at, min(gap.noted_at),
                    max(gap.lasting)
             FROM customer, gap WHERE customer.id = ?1 AND gap.id > customer.read_back GROUP BY customer.id",
        )?
        .query_row([id], |row| {
            let begun = (row.get::<_, Millis>(1)?, row.get::<_, Millis>(5)?);
            let (open, is_lasting) = (row.get(3)?, row.get(6)?);
            Ok((row.get(0)?, begun, row.get(2)?, (open, is_lasting), row.get::<_, Option<Millis>>(4)?))
        })
        .optional()?;
    let Some((gap, (begun, noted_at), Some(chat_id), (open, is_lasting), known_at)) = found else { return Ok(None) };
    let floor = match known_at {
        Some(known_at) => Some(known_at),
        None => meta::moment(tx, Moment::Erased)?.max(meta::moment(tx, Moment::Made)?),
    };
    let floor = floor.unwrap_or(0);
    // Further back the keys are gone that tell what is known. Of what came after the beginning
    // nothing was known when the gap was noted, however long ago it began.
    let forgotten = now - KEYS_KEPT + 86_400_000;
    let is_unknown_since = is_time(begun) && noted_at > forgotten;
    let from = if is_unknown_since { forgotten.min(begun) } else { forgotten };
    let since = begun.saturating_sub(OVERLAP).max(floor).max(from);
    Ok(Some(Pending { gap, chat_id, since, open, is_lasting, known_at }))
}

/// Those whose dialog is open and not read back, in the order of their ids behind `after`.
pub(in crate::relay) fn open_dialogs(
    tx: &Tx<'_>,
    after: CustomerId,
    most: usize,
) -> Result<Vec<CustomerId>, StoreError> {
    customers(
        tx,
        "SELECT id FROM customer WHERE open = 1 AND chat_id IS NOT NULL AND id > ?1
         AND read_back < (SELECT max(id) FROM gap) ORDER BY id LIMIT ?2",
        after,
        most,
    )
}

/// The same of everybody, where a gap is one that MAX does not repeat.
pub(in crate::relay) fn everybody(tx: &Tx<'_>, after: CustomerId, most: usize) -> Result<Vec<CustomerId>, StoreError> {
    customers(
        tx,
        "SELECT id FROM customer WHERE chat_id IS NOT NULL AND id > ?1
         AND read_back < (SELECT max(id) FROM gap WHERE lasting = 1) ORDER BY id LIMIT ?2",
        after,
        most,
    )
}

fn customers(tx: &Tx<'_>, sql: &str, after: CustomerId, most: usize) -> Result<Vec<CustomerId>, StoreError> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut statement = tx.connection.prepare_cached(sql)?;
    let found = statement.query_map(params![after, most], |row| row.get(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Whether this is still the customer whose dialog was asked for.
pub(in crate::relay) fn is_same(tx: &Tx<'_>, id: CustomerId, pending: &Pending) -> Result<bool, StoreError> {
    Ok(tx
        .connection
        .prepare_cached("SELECT 1 FROM customer WHERE id = ?1 AND known_at IS ?2")?
        .exists(params![id, pending.known_at])?)
}

/// A dialog has been read back; `bot_seq` is the newest message of the bot's that it showed.
pub(in crate::relay) fn close(
    tx: &Tx<'_>,
    id: CustomerId,
    pending: &Pending,
    bot_seq: Option<i64>,
) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "UPDATE customer SET read_back = max(read_back, ?2), bot_seq = coalesce(max(bot_seq, ?3), bot_seq, ?3)
             WHERE id = ?1",
        )?
        .execute(params![id, pending.gap, bot_seq])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{FILE, Store};
    use super::*;
    use crate::relay::store::customer::Customer;

    const NOW: Millis = 1_796_000_000_000;
    const DAY: Millis = 86_400_000;

    #[tokio::test]
    async fn a_gap_is_read_from_its_beginning_on_unless_the_keys_behind_it_may_be_gone() {
        for (began, noted_at, since, why) in [
            (NOW - DAY, NOW, NOW - DAY - OVERLAP, "a short one, with what MAX may have repeated before it"),
            (NOW - 10 * DAY, NOW, NOW - 10 * DAY, "a long one, of which nothing was known when it was noted"),
            (NOW - 10 * DAY, NOW - 9 * DAY, NOW - KEYS_KEPT + DAY, "one that could not be read for days"),
            (0, NOW, NOW - KEYS_KEPT + DAY, "one of which nobody knows when it began"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join(FILE)).unwrap();
            let id = CustomerId::new(7);
            let pending = store.transact(move |tx| {
                let customer = Customer { id, chat_id: Some(ChatId::new(9)), ..Customer::default() };
                customer.save(tx, &crate::policy::Rules::default())?;
                introduce(tx, id, Some(1), NOW - 30 * DAY)?;
                note(tx, began, Kind::Lasting, noted_at)?;
                pending(tx, id, NOW)
            });
            assert_eq!(pending.await.unwrap().map(|pending| pending.since), Some(since), "{why}");
        }
    }
}
