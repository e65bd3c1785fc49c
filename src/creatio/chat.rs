//! Chats of stock Creatio: the row of `OmniChat` and the closing (Creatio API reference, 3.1, 3.2,
//! 3.5, 5.4).

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use uuid::{Uuid, uuid};

use super::error::Error;
use super::odata::{guid_literal, time_literal};
use super::wire::{Call, Kind};
use super::{Client, Query, lenient};

/// The columns read, as in Creatio API reference, 5.4.
const COLUMNS: &str = "Id,StatusId,OperatorId,ParentId,ContactId,LastMessageDirection,ModifiedOn,CompletionDate";
const COLLECTION: &str = "OmniChat";
/// Rows on one page of the look at the chats (Creatio API reference, 5.4).
const PAGE: usize = 200;

const WAITING: Uuid = uuid!("79bccffa-8c8b-4863-b376-a69d2244182b");
const IN_PROGRESS: Uuid = uuid!("81737bdd-60c7-4ef7-bb75-52c53d5c38c1");
const COMPLETED: Uuid = uuid!("a1b0184b-0a54-4a47-ba08-a5772105d3b2");
const BOT_PROCESSING: Uuid = uuid!("b05fbf72-69ed-41a7-be7c-af3ec13b08c7");
const COMPLETED_BY_BOT: Uuid = uuid!("8e7cc4aa-261b-4f62-9c7b-7d7f1e68c86a");
const HANDED_OVER_TO_AGENT: Uuid = uuid!("179601ae-58d9-425d-880b-fa4b3aace644");

/// Status of a chat, by id and never by its localised name (Creatio API reference, 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatStatus {
    /// In the queue, no agent.
    Waiting,
    /// An agent has it.
    InProgress,
    /// Over, or gone on into a child.
    Completed,
    /// A bot holds the dialog.
    BotProcessing,
    /// Over, closed while a bot held it; since 8.2.
    CompletedByBot,
    /// Gone on into a child, for which agents are called; since 8.2. Never closed.
    HandedOverToAgent,
    /// A status of a later Creatio.
    Other(Uuid),
}

impl ChatStatus {
    /// The status with that id.
    pub fn from_id(id: Uuid) -> Self {
        match id {
            WAITING => Self::Waiting,
            IN_PROGRESS => Self::InProgress,
            COMPLETED => Self::Completed,
            BOT_PROCESSING => Self::BotProcessing,
            COMPLETED_BY_BOT => Self::CompletedByBot,
            HANDED_OVER_TO_AGENT => Self::HandedOverToAgent,
            other => Self::Other(other),
        }
    }

    /// Its id in `OmnichannelChatStatus`.
    pub fn id(self) -> Uuid {
        match self {
            Self::Waiting => WAITING,
            Self::InProgress => IN_PROGRESS,
            Self::Completed => COMPLETED,
            Self::BotProcessing => BOT_PROCESSING,
            Self::CompletedByBot => COMPLETED_BY_BOT,
            Self::HandedOverToAgent => HANDED_OVER_TO_AGENT,
            Self::Other(id) => id,
        }
    }
}

/// A row of `OmniChat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    pub id: Uuid,
    pub status: ChatStatus,
    /// The agent: a `SysAdminUnit`; none while waiting.
    pub agent: Option<Uuid>,
    /// The chat that this one was transferred from.
    pub parent: Option<Uuid>,
    pub contact: Option<Uuid>,
    /// The last message came from the customer. System messages count as outgoing, so "false" does
    /// not mean that an agent wrote.
    pub last_message_incoming: bool,
    pub modified_on: Option<Timestamp>,
    pub completed_on: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireChat {
    id: Uuid,
    #[serde(default, deserialize_with = "lenient::guid")]
    status_id: Option<Uuid>,
    #[serde(default, deserialize_with = "lenient::guid")]
    operator_id: Option<Uuid>,
    #[serde(default, deserialize_with = "lenient::guid")]
    parent_id: Option<Uuid>,
    #[serde(default, deserialize_with = "lenient::guid")]
    contact_id: Option<Uuid>,
    #[serde(default, deserialize_with = "lenient::int")]
    last_message_direction: i64,
    #[serde(default, deserialize_with = "lenient::time")]
    modified_on: Option<Timestamp>,
    #[serde(default, deserialize_with = "lenient::time")]
    completion_date: Option<Timestamp>,
}

impl From<WireChat> for Chat {
    fn from(row: WireChat) -> Self {
        Self {
            id: row.id,
            status: ChatStatus::from_id(row.status_id.unwrap_or_default()),
            agent: row.operator_id,
            parent: row.parent_id,
            contact: row.contact_id,
            last_message_incoming: row.last_message_direction == 1,
            modified_on: row.modified_on,
            completed_on: row.completion_date,
        }
    }
}

impl Client {
    /// Closes a chat. Does nothing to a completed one; the site answers 500 for a chat without
    /// messages.
    ///
    /// # Errors
    /// The site refuses, or no answer came; then read [`Client::chat`] before anything else is sent
    /// for this customer.
    pub async fn close_chat(&self, chat: Uuid) -> Result<(), Error> {
        let path = "rest/OmnichannelChatService/CloseActiveChat";
        let about = format!("the closing of chat {chat}");
        let call = Call::post_json(Kind::Chat, path, about, &json!({ "chatId": chat }));
        let answer = self.wire.send(&call).await?;
        self.wire.expect_done(&call, &answer)
    }

    /// One chat, or none where it is not there or the technical user may not see it.
    ///
    /// # Errors
    /// The site refuses, or no answer came.
    pub async fn chat(&self, id: Uuid) -> Result<Option<Chat>, Error> {
        let row: Option<WireChat> = self.row(COLLECTION, id, &Query::new().select(COLUMNS)).await?;
        Ok(row.map(Chat::from))
    }

    /// The chats that a chat was transferred into; empty for one that has really ended.
    ///
    /// # Errors
    /// The site refuses, or no answer came.
    pub async fn children(&self, parent: Uuid) -> Result<Vec<Chat>, Error> {
        let query = Query::new()
            .select(COLUMNS)
            .filter(format!("Parent/Id eq {}", guid_literal(parent)))
            .order_by("ModifiedOn asc,Id asc")
            .top(PAGE);
        let rows: Vec<WireChat> = self.rows(COLLECTION, &query).await?;
        Ok(rows.into_iter().map(Chat::from).collect())
    }

    /// All completed chats of a channel that changed since a time, those that were closed while a
    /// bot held them included, of each status the oldest change first. Take the newest
    /// `modified_on` of the last look less an overlap of 10 to 30 s, since long transactions become
    /// visible late (Creatio API reference, 5.4). Whether one of them has ended or gone on says
    /// [`Client::children`].
    ///
    /// # Errors
    /// The site refuses, or no answer came.
    pub async fn completed_chats(&self, channel: Uuid, modified_since: Timestamp) -> Result<Vec<Chat>, Error> {
        let mut chats = self.chats_in(channel, COMPLETED, modified_since).await?;
        // Asked for apart: sites before 8.2 have no such status, and no row with it.
        chats.extend(self.chats_in(channel, COMPLETED_BY_BOT, modified_since).await?);
        Ok(chats)
    }

    async fn chats_in(&self, channel: Uuid, status: Uuid, modified_since: Timestamp) -> Result<Vec<Chat>, Error> {
        let mut since = modified_since;
        let mut skip = 0;
        let mut seen = HashSet::new();
        let mut chats = Vec::new();
        loop {
            let query = Query::new()
                .select(COLUMNS)
                .filter(format!(
                    "Channel/Id eq {} and Status/Id eq {} and ModifiedOn ge {}",
                    guid_literal(channel),
                    guid_literal(status),
                    time_literal(since)
                ))
                .order_by("ModifiedOn asc,Id asc")
                .top(PAGE)
                .skip(skip);
            let rows: Vec<WireChat> = self.rows(COLLECTION, &query).await?;
            let full = rows.len() >= PAGE;
            let newest = rows.iter().filter_map(|row| row.modified_on).max();
            let known = chats.len();
            chats.extend(rows.into_iter().map(Chat::from).filter(|chat| seen.insert(chat.id)));
            // A site that does not know `$skip` would give the same page for ever.
            if !full || (skip > 0 && chats.len() == known) {
                return Ok(chats);
            }
            // Go on from the last change rather than by number: a chat that changes meanwhile moves
            // to the end, and the others would slip past a number. Only within one and the same
            // time the number is left.
            match newest.map(whole_milliseconds) {
                Some(newest) if newest > since => (since, skip) = (newest, 0),
                _ => skip += PAGE,
            }
        }
    }
}

/// What [`time_literal`] writes: databases keep 3 or 6 digits.
fn whole_milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}
