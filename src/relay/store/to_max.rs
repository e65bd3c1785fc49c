//! The queues towards MAX, one per customer, and what has become of the messages in them.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::receipt::{self, Counted};
use super::{StoreError, Tx, text_of};
use crate::contract::CustomerId;
use crate::contract::admin::Direction;
use crate::max::OutgoingAttachment;
use crate::policy::ReplyPlace;
use crate::time::Millis;

/// What has become of a message. Statements that go along an index of one of these write it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum State {
    Queued,
    Sent,
    Failed,
    /// MAX never confirmed it, and it may be with the customer.
    Uncertain,
}

impl State {
    const ALL: [Self; 4] = [Self::Queued, Self::Sent, Self::Failed, Self::Uncertain];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Uncertain => "uncertain",
        }
    }
}

impl ToSql for State {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.as_str()))
    }
}

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        let known = Self::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| FromSqlError::Other(format!("{text:?} is no state of a message").into()))
    }
}

/// Whose words go to the customer, and who wants to know what became of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(in crate::relay) enum Origin {
    /// An agent's, by the row of the CRM's outbox.
    Agent {
        row: Uuid,
        /// Who wrote it; none in rows of an earlier version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Uuid>,
    },
    AutoReply {
        /// Which one; none in rows of an earlier version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply: Option<ReplyPlace>,
    },
    CloseMessage,
    Bot,
    /// The end of the spinner on a pressed button.
    Press,
}

/// One send of a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::relay) struct Part {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A file of the CRM that is to be fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<OutFile>,
    /// The same once MAX has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<OutgoingAttachment>,
    /// What stands here cannot be read: why, in the words for the agent. It is never sent, and the
    /// message has failed with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odd: Option<String>,
    /// Buttons under the text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<Button>,
    /// How often it was tried in vain, by cause.
    #[serde(skip_serializing_if = "Tries::is_none")]
    pub tries: Tries,
    /// The press that is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_id: Option<String>,
    /// The message in MAX that it became.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
    /// When MAX took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Millis>,
}

/// What was tried in vain, each cause by itself: one never uses up the patience for another, and an
/// outage none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::relay) struct Tries {
    /// MAX was still processing the file.
    pub not_ready: u32,
    /// The CRM had not written the file yet.
    pub absent: u32,
    /// The CRM refused the file.
    pub refused: u32,
    /// The CRM failed to give the file while it was well otherwise.
    pub failed: u32,
}

impl Tries {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A file of an agent's message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::relay) struct OutFile {
    pub id: Uuid,
    pub name: String,
    pub mime_type: String,
    pub kind: crate::creatio::MessageType,
}

/// A button of a bot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::relay) struct Button {
    pub title: String,
    pub payload: String,
}

/// The note of a send that may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::relay) struct Sending {
    /// The newest message known in the dialog before the send; what we look for comes after it.
    pub after_seq: Option<i64>,
    /// Where no message is known: what we look for is not older than this.
    pub since: Millis,
    /// When it is looked for next, in the passed time of this run; none before its answer was lost,
    /// and after a start.
    #[serde(default)]
    pub look_at: Option<Millis>,
    /// How many looks have found nothing.
    pub looks: usize,
    /// It went by MANGO OFFICE, where a repeat under the same name is harmless.
    #[serde(default)]
    pub by_mango: bool,
    /// It was told as uncertain, and only now it can be looked for: what is not found stays so.
    #[serde(default)]
    pub told: bool,
    /// A store that is lost may have sent the whole message: where this part is found, the next is
    /// looked for too before it is sent.
    #[serde(default)]
    pub whole: bool,
}

impl Sending {
    /// Of what leaves now.
    pub const fn now(after_seq: Option<i64>, since: Millis, by_mango: bool) -> Self {
        Self { after_seq, since, look_at: None, looks: 0, by_mango, told: false, whole: false }
    }

    /// Of a message that a store which is lost may have sent at `since` or later, by MAX's time.
    pub const fn by_a_lost_store(since: Millis, by_mango: bool) -> Self {
        Self { whole: true, ..Self::now(None, since, by_mango) }
    }
}

/// The head of a queue.
pub(in crate::relay) struct Row {
    pub id: i64,
    pub origin: serde_json::Result<Origin>,
    pub parts: serde_json::Result<Vec<Part>>,
    pub part: usize,
    pub sending: serde_json::Result<Option<Sending>>,
    pub attempts: u32,
    pub created_at: Millis,
}

/// A message that was not delivered, or of which nobody knows.
pub(in crate::relay) struct Dead {
    pub id: i64,
    pub customer: CustomerId,
    pub origin: serde_json::Result<Origin>,
    pub parts: Vec<Part>,
    pub state: State,
    pub reason: String,
    pub created_at: Millis,
}

/// A message that the customer has been shown and the CRM does not know yet.
pub(in crate::relay) struct Unrecorded {
    pub id: i64,
    pub origin: serde_json::Result<Origin>,
    pub parts: Vec<Part>,
    pub ended_at: Option<Millis>,
}

/// Puts a message behind all others of the customer's queue. Returns its row.
pub(in crate::relay) fn push(
    tx: &Tx<'_>,
    id: CustomerId,
    origin: &Origin,
    parts: &[Part],
    now: Millis,
) -> Result<i64, StoreError> {
    // An agent's words are in the CRM already, and a press leaves none.
    let recorded = matches!(origin, Origin::Agent { .. } | Origin::Press);
    // A press says nothing to anybody; an agent's message was received with its row of the outbox.
    let day = Some(receipt::day(now)).filter(|_| *origin != Origin::Press);
    if let (Some(day), Origin::AutoReply { .. } | Origin::CloseMessage | Origin::Bot) = (day, origin) {
        receipt::count(tx, day, Direction::ToMax, Counted::Received, 1)?;
    }
    tx.connection
        .prepare_cached(
            "INSERT INTO to_max (id, customer, origin, parts, recorded, created_at, day)
             VALUES ((SELECT 1 + max(coalesce((SELECT max(id) FROM to_max), 0),
                             coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'last_row'), 0))),
                     ?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![id, serde_json::to_string(origin)?, serde_json::to_string(parts)?, recorded, now, day])?;
    tx.wake(|woken| woken.max.push(id));
    Ok(tx.connection.last_insert_rowid())
}

/// What is next for a customer.
pub(in crate::relay) fn head(tx: &Tx<'_>, id: CustomerId) -> Result<Option<Row>, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT id, origin, parts, part, sending, attempts, created_at FROM to_max
         WHERE customer = ?1 AND state = 'queued' ORDER BY id LIMIT 1",
    )?;
    let head = statement.query_row([id], |row| {
        let sending = Some(text_of(row, 4)?).filter(|text| !text.is_empty());
        Ok(Row {
            id: row.get(0)?,
            origin: serde_json::from_str(&text_of(row, 1)?),
            parts: serde_json::from_str(&text_of(row, 2)?),
            part: usize::try_from(row.get::<_, u32>(3)?).unwrap_or(usize::MAX),
            sending: sending.map(|json| serde_json::from_str(&json)).transpose(),
            attempts: row.get(5)?,
            created_at: row.get(6)?,
        })
    });
    Ok(head.optional()?)
}

pub(in crate::relay) fn exists(tx: &Tx<'_>, row: i64) -> Result<bool, StoreError> {
    Ok(tx.connection.prepare_cached("SELECT 1 FROM to_max WHERE id = ?1")?.exists([row])?)
}

/// A send may be under way.
pub(in crate::relay) fn note_sending(tx: &Tx<'_>, row: i64, sending: &Sending) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached("UPDATE to_max SET sending = ?2 WHERE id = ?1")?
        .execute(params![row, serde_json::to_string(sending)?])?;
    Ok(())
}

/// The texts that went to a customer at those times.
pub(in crate::relay) fn sent_between(
    tx: &Tx<'_>,
    id: CustomerId,
    (from, to): (Millis, Millis),
) -> Result<Vec<String>, StoreError> {
    let parts = tx
        .connection
        .prepare_cached("SELECT parts FROM to_max WHERE customer = ?1 AND state = 'sent'")?
        .query_map([id], |row| text_of(row, 0))?
        .collect::<Result<Vec<String>, _>>()?;
    let parts = parts.iter().flat_map(|parts| serde_json::from_str::<Vec<Part>>(parts).unwrap_or_default());
    let is_of_then = |part: &Part| part.sent_at.is_some_and(|at| (from..=to).contains(&at));
    Ok(parts.filter(is_of_then).filter_map(|part| part.text).collect())
}

/// The customer's dialog is known: sends that are uncertain because nobody could look for them are
/// looked for.
pub(in crate::relay) fn look_for_unseen(tx: &Tx<'_>, id: CustomerId) -> Result<(), StoreError> {
    let queued = tx
        .connection
        .prepare_cached(
            "UPDATE to_max SET state = 'queued', ended_at = NULL
             WHERE customer = ?1 AND state = 'uncertain' AND sending IS NOT NULL",
        )?
        .execute([id])?;
    if queued > 0 {
        tx.wake(|woken| woken.max.push(id));
    }
    Ok(())
}

/// The sends that were under way when the last run ended are looked for from now on.
pub(in crate::relay) fn begin_looks_anew(tx: &Tx<'_>) -> Result<(), StoreError> {
    let sending = tx
        .connection
        .prepare("SELECT id, sending FROM to_max WHERE state = 'queued' AND sending IS NOT NULL")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, String)>, _>>()?;
    for (row, json) in sending {
        // One that cannot be read is told when its turn comes.
        let Ok(sending) = serde_json::from_str::<Sending>(&json) else { continue };
        note_sending(tx, row, &Sending { look_at: None, looks: 0, ..sending })?;
    }
    Ok(())
}

/// Everything that waits may have been sent by a store that is lost.
pub(super) fn doubt_all(tx: &Tx<'_>, doubt: impl Fn(Millis) -> Sending) -> Result<(), StoreError> {
    let waiting = tx
        .connection
        .prepare("SELECT id, created_at FROM to_max WHERE state = 'queued'")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, Millis)>, _>>()?;
    for (row, created_at) in waiting {
        note_sending(tx, row, &doubt(created_at))?;
    }
    Ok(())
}

/// One more attempt was made in vain.
pub(in crate::relay) fn postpone(
    tx: &Tx<'_>,
    row: i64,
    sending: Option<&Sending>,
    parts: &[Part],
) -> Result<(), StoreError> {
    let sending = sending.map(serde_json::to_string).transpose()?;
    tx.connection
        .prepare_cached("UPDATE to_max SET sending = ?2, parts = ?3, attempts = attempts + 1 WHERE id = ?1")?
        .execute(params![row, sending, serde_json::to_string(parts)?])?;
    Ok(())
}

/// The next part has its turn.
pub(in crate::relay) fn advance(tx: &Tx<'_>, row: i64, parts: &[Part], part: usize) -> Result<(), StoreError> {
    settle(tx, row, parts, part, State::Queued, None, None)
}

/// A message has ended.
pub(in crate::relay) fn end(
    tx: &Tx<'_>,
    row: i64,
    parts: &[Part],
    part: usize,
    (state, error): (State, Option<&str>),
    now: Millis,
) -> Result<(), StoreError> {
    settle(tx, row, parts, part, state, error, Some(now))
}

fn settle(
    tx: &Tx<'_>,
    row: i64,
    parts: &[Part],
    part: usize,
    state: State,
    error: Option<&str>,
    ended_at: Option<Millis>,
) -> Result<(), StoreError> {
    let (parts, part) = (serde_json::to_string(parts)?, i64::try_from(part).unwrap_or(i64::MAX));
    tx.connection
        .prepare_cached(
            "UPDATE to_max SET parts = ?2, part = ?3, sending = NULL, attempts = 0, state = ?4, error = ?5,
                               ended_at = ?6 WHERE id = ?1",
        )?
        .execute(params![row, parts, part, state, error, ended_at])?;
    Ok(())
}

/// A message that cannot be read has ended. From now on it is kept as long as others, however old
/// it is.
pub(in crate::relay) fn end_unread(
    tx: &Tx<'_>,
    row: i64,
    state: State,
    error: &str,
    now: Millis,
) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached("UPDATE to_max SET state = ?2, error = ?3, recorded = 1, ended_at = ?4 WHERE id = ?1")?
        .execute(params![row, state, error, now])?;
    Ok(())
}

/// Whether a row may stand in the CRM's history already.
pub(in crate::relay) fn is_recorded(tx: &Tx<'_>, row: i64) -> Result<bool, StoreError> {
    Ok(tx.connection.prepare_cached("SELECT 1 FROM to_max WHERE id = ?1 AND recorded = 1")?.exists([row])?)
}

/// What waits says something else.
pub(in crate::relay) fn put_in_other_words(tx: &Tx<'_>, row: i64, parts: &[Part]) -> Result<(), StoreError> {
    let parts = serde_json::to_string(parts)?;
    tx.connection.prepare_cached("UPDATE to_max SET parts = ?2 WHERE id = ?1")?.execute(params![row, parts])?;
    Ok(())
}

/// It is not to be shown any more.
pub(in crate::relay) fn withhold(tx: &Tx<'_>, row: i64) -> Result<(), StoreError> {
    receipt::remove(tx, Direction::ToMax, row, Counted::Withheld)
}

/// Its entry in the CRM's history is made or not wanted.
pub(in crate::relay) fn mark_recorded(tx: &Tx<'_>, row: i64) -> Result<(), StoreError> {
    tx.connection.prepare_cached("UPDATE to_max SET recorded = 1 WHERE id = ?1")?.execute([row])?;
    Ok(())
}

/// The customer's dialog is over, in which the agents were called: what still waits for MAX belongs
/// to it, and gets its entry in the CRM's history by itself when it is sent.
pub(in crate::relay) fn outlive(tx: &Tx<'_>, id: CustomerId) -> Result<(), StoreError> {
    let sql = "UPDATE to_max SET recorded = 2 WHERE customer = ?1 AND state = 'queued' AND recorded = 0";
    tx.connection.prepare_cached(sql)?.execute([id])?;
    Ok(())
}

/// Whether a row has outlived its dialog.
pub(in crate::relay) fn has_outlived(tx: &Tx<'_>, row: i64) -> Result<bool, StoreError> {
    Ok(tx.connection.prepare_cached("SELECT 1 FROM to_max WHERE id = ?1 AND recorded = 2")?.exists([row])?)
}

/// The messages whose entries in the CRM's history are to be made: of one row, or of all that have
/// not outlived their dialog.
pub(in crate::relay) fn unrecorded(
    tx: &Tx<'_>,
    id: CustomerId,
    only: Option<i64>,
) -> Result<Vec<Unrecorded>, StoreError> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Unrecorded {
            id: row.get(0)?,
            origin: serde_json::from_str(&text_of(row, 1)?),
            parts: serde_json::from_str(&text_of(row, 2)?).unwrap_or_default(),
            ended_at: row.get(3)?,
        })
    };
    let rows = match only {
        Some(row) => tx
            .connection
            .prepare_cached(
                "SELECT id, origin, parts, ended_at FROM to_max
                 WHERE id = ?1 AND recorded <> 1 AND state IN ('sent', 'uncertain')",
            )?
            .query_map([row], read)?
            .collect::<Result<_, _>>()?,
        None => tx
            .connection
            .prepare_cached(
                "SELECT id, origin, parts, ended_at FROM to_max
                 WHERE customer = ?1 AND recorded = 0 AND state IN ('sent', 'uncertain') ORDER BY id",
            )?
            .query_map([id], read)?
            .collect::<Result<_, _>>()?,
    };
    Ok(rows)
}

/// No history of the customer's is wanted, but for close messages: they belong to the chat before.
pub(in crate::relay) fn drop_history(tx: &Tx<'_>, id: CustomerId) -> Result<(), StoreError> {
    let rows = tx
        .connection
        .prepare_cached(
            "SELECT id, origin FROM to_max WHERE customer = ?1 AND state = 'queued' AND recorded = 0
             UNION ALL SELECT id, origin FROM to_max
                       WHERE customer = ?1 AND recorded = 0 AND state IN ('sent', 'uncertain')",
        )?
        .query_map([id], |row| Ok((row.get(0)?, text_of(row, 1)?)))?
        .collect::<Result<Vec<(i64, String)>, _>>()?;
    for (row, origin) in rows {
        if serde_json::from_str(&origin).ok() != Some(Origin::CloseMessage) {
            mark_recorded(tx, row)?;
        }
    }
    Ok(())
}

/// The messages that were not delivered, oldest first.
pub(in crate::relay) fn dead(tx: &Tx<'_>, most: i64) -> Result<Vec<Dead>, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT id, customer, origin, parts, state, coalesce(error, ''), created_at FROM to_max
         WHERE state IN ('failed', 'uncertain') ORDER BY id LIMIT ?1",
    )?;
    let dead = statement.query_map([most], |row| {
        Ok(Dead {
            id: row.get(0)?,
            customer: row.get(1)?,
            origin: serde_json::from_str(&text_of(row, 2)?),
            parts: serde_json::from_str(&text_of(row, 3)?).unwrap_or_default(),
            state: row.get(4)?,
            reason: row.get(5)?,
            created_at: row.get(6)?,
        })
    })?;
    Ok(dead.collect::<Result<_, _>>()?)
}

/// The messages that have certainly failed.
pub(in crate::relay) fn failed_ids(tx: &Tx<'_>) -> Result<Vec<i64>, StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT id FROM to_max WHERE state IN ('failed', 'uncertain') AND state = 'failed' ORDER BY id",
    )?;
    let ids = statement.query_map([], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Sends a message again from the part that was not delivered; what was sent before it is not
/// repeated. Returns whose it is; none: there is no such message.
pub(in crate::relay) fn revive(tx: &Tx<'_>, row: i64) -> Result<Option<CustomerId>, StoreError> {
    let found: Option<(CustomerId, String, State)> = tx
        .connection
        .prepare_cached(
            "SELECT customer, origin, state FROM to_max WHERE id = ?1 AND state IN ('failed', 'uncertain')",
        )?
        .query_row([row], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((id, origin, state)) = found else { return Ok(None) };
    // A failed one has no entry in the CRM's history yet, an uncertain one has.
    let wants_entry = state == State::Failed
        && matches!(serde_json::from_str(&origin)?, Origin::AutoReply { .. } | Origin::CloseMessage | Origin::Bot);
    tx.connection
        .prepare_cached(
            "UPDATE to_max SET state = ?2, error = NULL, sending = NULL, attempts = 0, ended_at = NULL,
                               recorded = CASE WHEN ?3 THEN 0 ELSE recorded END WHERE id = ?1",
        )?
        .execute(params![row, State::Queued, wants_entry])?;
    tx.wake(|woken| woken.max.push(id));
    Ok(Some(id))
}

/// The rows of the CRM's outbox whose messages wait for MAX, each with whether it may have left
/// already.
pub(in crate::relay) fn agents_waiting(tx: &Tx<'_>, id: CustomerId) -> Result<Vec<(Uuid, bool)>, StoreError> {
    let waiting = tx
        .connection
        .prepare("SELECT origin, sending IS NOT NULL FROM to_max WHERE customer = ?1 AND state = 'queued'")?
        .query_map([id], |row| Ok((text_of(row, 0)?, row.get(1)?)))?
        .collect::<Result<Vec<(String, bool)>, _>>()?;
    let rows = waiting.iter().filter_map(|(origin, may_have_left)| match serde_json::from_str(origin) {
        Ok(Origin::Agent { row, .. }) => Some((row, *may_have_left)),
        _ => None,
    });
    Ok(rows.collect())
}

/// Takes every message of a customer's away. Returns how many that were.
pub(in crate::relay) fn remove_of(tx: &Tx<'_>, id: CustomerId) -> Result<usize, StoreError> {
    Ok(tx.connection.execute("DELETE FROM to_max WHERE customer = ?1", [id])?)
}
