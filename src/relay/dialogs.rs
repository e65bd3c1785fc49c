//! One step of a customer's dialog, inside the transaction that also records what follows from it.
//!
//! Owns the row of a customer and the rows that the rules' effects become: messages for the CRM and for MAX, questions to a bot.
//! Must not do I/O: it works on a connection inside [`super::store::Store::change`] and says in [`Woken`] whom to wake after the commit.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::config::Source;
pub(super) use super::lanes::CustomerId;
use super::metrics::Left;
use super::placing::{self, Scene};
use super::render::{self, Incoming};
use super::start;
pub(super) use super::store::Woken;
use super::store::{StoreError, text_of};
use crate::creatio::Author;
use crate::max::update::{self, Update};
use crate::max::{OutgoingAttachment, text};
use crate::policy::{self, BotRole, Context, Dialog, Effect, Event, Note, Phase, ReplyPlace, Rules};
use crate::time::Millis;

/// The place of a message in its dialog: (timestamp, seq) of MAX.
pub(super) type Position = (Millis, i64);

/// A row of `customer`.
#[derive(Clone, Debug, Default)]
pub(super) struct Customer {
    pub id: CustomerId,
    pub chat_id: Option<i64>,
    pub name: String,
    pub dialog: Dialog,
    pub barrier: i64,
    pub taken: Option<Position>,
    /// The newest message or press: the history goes behind it.
    pub newest: Option<Position>,
    /// The newest start, message, press or departure, by MAX's clock: what is older decides nothing about who is there.
    pub presence_at: Option<Millis>,
    pub delivered: Option<Position>,
    pub crm_timestamp: Millis,
    pub bot_seq: Option<i64>,
}

/// What one entry of the queue towards the CRM does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum CrmTask {
    /// A message of the customer's, or (`own` false) an edit or removal of one.
    Message { incoming: Incoming, stand_by: bool, own: bool },
    /// An entry of the history that the customer has seen already.
    History { external_id: String, author: Author, text: String, sent_at: Millis },
    /// Ends stand-by in the dialog's chat.
    HandOver,
    /// Closes a chat. `refused`: how often the CRM could not.
    Close {
        chat: Uuid,
        #[serde(default)]
        refused: u32,
    },
}

/// Whose words go to the customer, and who wants to know what became of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Origin {
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
pub(super) struct Part {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A file of the CRM that is to be fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<OutFile>,
    /// The same once MAX has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<OutgoingAttachment>,
    /// What stands here cannot be read: why, in the words for the agent. It is never sent, and the message has failed with it.
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

/// What was tried in vain, each cause by itself: one never uses up the patience for another, and an outage none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Tries {
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
pub(super) struct OutFile {
    pub id: Uuid,
    pub name: String,
    pub mime_type: String,
    pub kind: crate::creatio::MessageType,
}

/// A button of a bot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Button {
    pub title: String,
    pub payload: String,
}

/// A question to a bot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Question {
    pub bot: BotRole,
    /// [`Dialog::number`] at the time of asking: an answer that comes in another dialog is dropped.
    pub dialog: u32,
    pub text: String,
}

/// What a step needs beside the customer.
pub(super) struct Stepper<'a> {
    pub connection: &'a Connection,
    pub rules: &'a Rules,
    pub context: Context,
    pub woken: Woken,
}

/// A dialog as it stands on disk. One that cannot be read begins anew: a customer must not be stuck for ever, nor stop the others.
pub(super) fn read_dialog(json: &str) -> Dialog {
    serde_json::from_str(json).unwrap_or_else(|error| {
        tracing::error!(%error, "the state of a dialog in the store cannot be read; the dialog begins anew");
        Dialog::default()
    })
}

impl Customer {
    /// The customer's row, or a new one that is not on disk before [`Customer::save`].
    pub fn load(connection: &Connection, id: CustomerId) -> Result<Self, StoreError> {
        let mut statement = connection.prepare_cached(
            "SELECT chat_id, name, dialog, barrier, taken_at, taken_seq, delivered_at, delivered_seq, crm_timestamp,
                    bot_seq, newest_at, newest_seq, presence_at
             FROM customer WHERE id = ?1",
        )?;
        let found = statement
            .query_row([id], |row| {
                let pair = |at, seq| -> rusqlite::Result<Option<Position>> {
                    Ok(row.get::<_, Option<i64>>(at)?.zip(row.get::<_, Option<i64>>(seq)?))
                };
                Ok((
                    Self {
                        id,
                        chat_id: row.get(0)?,
                        name: text_of(row, 1)?,
                        dialog: Dialog::default(),
                        barrier: row.get(3)?,
                        taken: pair(4, 5)?,
                        delivered: pair(6, 7)?,
                        crm_timestamp: row.get(8)?,
                        bot_seq: row.get(9)?,
                        newest: pair(10, 11)?,
                        presence_at: row.get(12)?,
                    },
                    text_of(row, 2)?,
                ))
            })
            .optional()?;
        match found {
            Some((customer, dialog)) => Ok(Self { dialog: read_dialog(&dialog), ..customer }),
            None => Ok(Self { id, ..Self::default() }),
        }
    }

    pub fn save(&self, connection: &Connection, rules: &Rules) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "INSERT INTO customer (id, chat_id, name, dialog, due_at, open, barrier, taken_at, taken_seq, delivered_at,
                                       delivered_seq, crm_timestamp, bot_seq, newest_at, newest_seq, presence_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
                 ON CONFLICT (id) DO UPDATE SET chat_id = ?2, name = ?3, dialog = ?4, due_at = ?5, open = ?6, barrier = ?7,
                    taken_at = ?8, taken_seq = ?9, delivered_at = ?10, delivered_seq = ?11, crm_timestamp = ?12, bot_seq = ?13,
                    newest_at = ?14, newest_seq = ?15, presence_at = ?16",
            )?
            .execute(params![
                self.id,
                self.chat_id,
                self.name,
                serde_json::to_string(&self.dialog)?,
                policy::next_due(rules, &self.dialog),
                self.dialog.phase() != Phase::Idle,
                self.barrier,
                self.taken.map(|(at, _)| at),
                self.taken.map(|(_, seq)| seq),
                self.delivered.map(|(at, _)| at),
                self.delivered.map(|(_, seq)| seq),
                self.crm_timestamp,
                self.bot_seq,
                self.newest.map(|(at, _)| at),
                self.newest.map(|(_, seq)| seq),
                self.presence_at,
            ])?;
        Ok(())
    }

    /// Whose dialog has that chat in MAX.
    pub fn in_chat(connection: &Connection, chat: i64) -> Result<Option<CustomerId>, StoreError> {
        let mut statement = connection.prepare_cached("SELECT id FROM customer WHERE chat_id = ?1")?;
        Ok(statement.query_row([chat], |row| row.get(0)).optional()?)
    }

    /// The newest message known in the dialog, whoever wrote it.
    pub fn newest_seq(&self) -> Option<i64> {
        self.bot_seq.max(self.taken.map(|(_, seq)| seq))
    }
}

impl Stepper<'_> {
    fn now(&self) -> Millis {
        self.context.now
    }

    /// Applies one event and records its effects. `subject` is the message that the event is about, with its place in the dialog.
    pub fn step(
        &mut self,
        customer: &mut Customer,
        event: &Event,
        subject: Option<(&Incoming, Position)>,
    ) -> Result<Vec<Effect>, StoreError> {
        let effects = policy::step(self.rules, &mut customer.dialog, event, self.context);
        for effect in &effects {
            self.record(customer, effect, event, subject)?;
        }
        self.woken.timers = true;
        Ok(effects)
    }

    fn record(
        &mut self,
        customer: &mut Customer,
        effect: &Effect,
        event: &Event,
        subject: Option<(&Incoming, Position)>,
    ) -> Result<(), StoreError> {
        match effect {
            Effect::Receive { stand_by } => {
                if let Some((incoming, position)) = subject {
                    let own = matches!(event, Event::Wrote { .. } | Event::WroteBeforeLeaving { .. });
                    let task = CrmTask::Message { incoming: incoming.clone(), stand_by: *stand_by, own };
                    self.queue_for_crm(customer, &task, position)?;
                }
            }
            Effect::ReleaseHistory => self.release_history(customer, None)?,
            Effect::DropHistory => {
                // A close message belongs to the chat before and is kept.
                self.connection
                    .prepare_cached(
                        "UPDATE to_max SET recorded = 1
                         WHERE customer = ?1 AND recorded = 0 AND json_extract(origin, '$.from') <> 'closeMessage'",
                    )?
                    .execute([customer.id])?;
            }
            Effect::SendAutoReply { set, index, occurrence, text } => {
                let dialog = customer.dialog.number();
                let reply = ReplyPlace { dialog, set: *set, index: *index, occurrence: *occurrence };
                self.queue_for_max(customer, &Origin::AutoReply { reply: Some(reply) }, &text_parts(text))?;
            }
            Effect::SendCloseMessage { text } => {
                self.queue_for_max(customer, &Origin::CloseMessage, &text_parts(text))?;
            }
            Effect::AskBot { bot } => {
                let text = subject.map_or_else(|| "/start".to_owned(), |(incoming, _)| incoming.question.clone());
                let question = Question { bot: *bot, dialog: customer.dialog.number(), text };
                self.connection
                    .prepare_cached("INSERT INTO to_bot (customer, body, created_at) VALUES (?1, ?2, ?3)")?
                    .execute(params![customer.id, serde_json::to_string(&question)?, self.now()])?;
                self.woken.bot.push(customer.id);
            }
            // Whoever stepped the bot's answer looks for this effect and sends what he holds.
            Effect::SendBotAnswer => {}
            Effect::HandOver => self.control(customer, &CrmTask::HandOver)?,
            Effect::CloseChat { chat } => self.control(customer, &CrmTask::Close { chat: *chat, refused: 0 })?,
            Effect::TellAgent { note, .. } => {
                let text = match note {
                    Note::CustomerLeft => "[Клиент остановил бота или удалил диалог: сообщения до него не доходят]",
                };
                let external_id = format!("note:{}", Uuid::new_v4());
                self.history(customer, external_id, Author::Bot, text.to_owned(), self.now())?;
            }
        }
        Ok(())
    }

    /// A message behind everything of its own time; see `relay`, "Order".
    pub fn queue_for_crm(
        &mut self,
        customer: &Customer,
        task: &CrmTask,
        (at, seq): Position,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO to_crm (customer, body, barrier, at, seq, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![customer.id, serde_json::to_string(task)?, customer.barrier, at, seq, self.now()])?;
        self.woken.crm.push(customer.id);
        Ok(())
    }

    /// A hand-over or a closing: nothing of this customer passes it in either direction.
    fn control(&mut self, customer: &mut Customer, task: &CrmTask) -> Result<(), StoreError> {
        customer.barrier += 1;
        self.queue_for_crm(customer, task, (0, 0))
    }

    /// An entry of the history goes behind the newest message that the dialog has.
    pub fn history(
        &mut self,
        customer: &Customer,
        external_id: String,
        author: Author,
        text: String,
        sent_at: Millis,
    ) -> Result<(), StoreError> {
        let task = CrmTask::History { external_id, author, text, sent_at };
        self.queue_for_crm(customer, &task, customer.newest.max(customer.taken).unwrap_or((0, 0)))
    }

    pub fn queue_for_max(&mut self, customer: &Customer, origin: &Origin, parts: &[Part]) -> Result<(), StoreError> {
        // An agent's words are in the CRM already, and a press leaves none.
        let recorded = matches!(origin, Origin::Agent { .. } | Origin::Press);
        self.connection
            .prepare_cached(
                "INSERT INTO to_max (customer, origin, parts, recorded, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                customer.id,
                serde_json::to_string(origin)?,
                serde_json::to_string(parts)?,
                recorded,
                self.now()
            ])?;
        self.woken.max.push(customer.id);
        Ok(())
    }

    /// Writes the history entries of what the customer has been shown and the CRM does not know yet: of one row of `to_max`, or of all.
    pub fn release_history(&mut self, customer: &Customer, only: Option<i64>) -> Result<(), StoreError> {
        let rows = self
            .connection
            .prepare_cached(
                "SELECT id, origin, parts, ended_at FROM to_max
                 WHERE customer = ?1 AND recorded = 0 AND state IN ('sent', 'uncertain') AND (?2 IS NULL OR id = ?2) ORDER BY id",
            )?
            .query_map(params![customer.id, only], |row| Ok((row.get(0)?, text_of(row, 1)?, text_of(row, 2)?, row.get(3)?)))?
            .collect::<Result<Vec<(i64, String, String, Option<Millis>)>, _>>()?;
        for (id, origin, parts, ended_at) in rows {
            let author = match serde_json::from_str(&origin) {
                Ok(Origin::AutoReply { .. }) => Some(Author::AutoReply),
                Ok(Origin::CloseMessage) => Some(Author::CloseMessage),
                Ok(Origin::Bot) => Some(Author::Bot),
                // What cannot be read has no entry, and holds up none.
                Ok(Origin::Agent { .. } | Origin::Press) | Err(_) => None,
            };
            let parts: Vec<Part> = serde_json::from_str(&parts).unwrap_or_default();
            for (index, part) in parts.into_iter().enumerate() {
                let (Some(author), Some(text)) = (author, part.text) else { continue };
                let external_id = part.mid.unwrap_or_else(|| format!("out:{id}:{index}"));
                let sent_at = part.sent_at.or(ended_at).unwrap_or(self.context.now);
                self.history(customer, external_id, author, text, sent_at)?;
            }
            self.connection.prepare_cached("UPDATE to_max SET recorded = 1 WHERE id = ?1")?.execute([id])?;
        }
        Ok(())
    }

    /// Takes the updates of one customer that wait, at most `limit`, in the order of MAX. Returns whether there may be more.
    pub fn take_inbox(&mut self, id: CustomerId, limit: u32, sources: &[Source]) -> Result<bool, StoreError> {
        let rows = self
            .connection
            .prepare_cached(
                "SELECT id, raw, at, seq, received_at FROM inbox WHERE customer = ?1 AND done = 0 ORDER BY at, seq, id LIMIT ?2",
            )?
            .query_map(params![id, limit], |row| {
                Ok((row.get(0)?, row.get(1)?, (row.get(2)?, row.get(3)?), row.get(4)?))
            })?
            .collect::<Result<Vec<(i64, String, Position, Millis)>, _>>()?;
        if rows.is_empty() {
            return Ok(false);
        }
        let mut customer = Customer::load(self.connection, id)?;
        for (row, raw, position, received_at) in &rows {
            let update = update::parse(raw);
            let taken = Taken { update: &update, position: *position, received_at: *received_at, raw, sources };
            let fate = self.take_update(&mut customer, &taken)?;
            let done = match fate {
                Fate::Done => 1,
                Fate::Unseen => 2,
                Fate::Left(left) => {
                    self.woken.left.push(left);
                    if left == Left::NoChat { 2 } else { 1 }
                }
            };
            self.connection.prepare_cached("UPDATE inbox SET done = ?2 WHERE id = ?1")?.execute([*row, done])?;
        }
        customer.save(self.connection, self.rules)?;
        Ok(rows.len() == limit as usize)
    }

    fn take_update(&mut self, customer: &mut Customer, taken: &Taken<'_>) -> Result<Fate, StoreError> {
        let Taken { update, position, received_at, .. } = *taken;
        let scene = Scene::of(update);
        if !scene.is_in_dialog(customer.chat_id) {
            return Ok(Fate::Left(Left::OtherChat));
        }
        let said = placing::said_time(update, received_at);
        let is_late = said.is_some_and(|at| Some(at) < customer.presence_at);
        if let (Scene::Dialog { chat: Some(chat) }, true) = (scene, tells_the_chat(&update.event))
            && (!is_late || customer.chat_id.is_none())
        {
            customer.chat_id = Some(chat);
        }
        if !is_late && let Some(name) = update.user.as_ref().map(crate::max::User::name).filter(|name| !name.is_empty())
        {
            customer.name = render::name(&name);
        }
        match &update.event {
            update::Event::MessageCreated(message) => {
                let Some(incoming) = self.unless_merged(customer, message, update, position)? else {
                    return Ok(Fate::Left(Left::Merged));
                };
                customer.taken = customer.taken.max(Some(position));
                self.wrote(customer, &incoming, taken, said)?;
            }
            update::Event::MessageCallback { callback_id, .. } => {
                if let Some(callback_id) = callback_id {
                    let part = Part { callback_id: Some(callback_id.clone()), ..Part::default() };
                    self.queue_for_max(customer, &Origin::Press, &[part])?;
                }
                if let Some(incoming) = render::incoming(update, position.0) {
                    self.wrote(customer, &incoming, taken, said)?;
                }
            }
            update::Event::MessageEdited(_) | update::Event::MessageRemoved { .. } => {
                let Some(incoming) = render::incoming(update, position.0) else { return Ok(Fate::Done) };
                return self.amended(customer, &incoming, position);
            }
            update::Event::BotStarted { payload } if is_late => {
                self.came_from(customer, payload.as_deref(), taken)?;
                return Ok(Fate::Left(Left::Late));
            }
            update::Event::BotStopped | update::Event::DialogRemoved if is_late => {
                return Ok(Fate::Left(Left::Late));
            }
            update::Event::BotStarted { payload } => {
                customer.presence_at = customer.presence_at.max(said);
                self.step(customer, &Event::Started, None)?;
                self.came_from(customer, payload.as_deref(), taken)?;
            }
            update::Event::BotStopped | update::Event::DialogRemoved => {
                customer.presence_at = customer.presence_at.max(said);
                self.step(customer, &Event::Left, None)?;
            }
            update::Event::Incomplete { update_type } => {
                // Of what is no message nothing is lost.
                if matches!(update_type.as_str(), "message_created" | "message_callback") {
                    self.unreadable(customer, taken, said)?;
                }
            }
            update::Event::Unknown { .. } => super::mango::take(self, customer, taken.raw, position)?,
            update::Event::DialogCleared
            | update::Event::DialogMuted { .. }
            | update::Event::DialogUnmuted
            | update::Event::Elsewhere => {}
        }
        Ok(Fate::Done)
    }

    /// A message or a press of the customer's. `said`: its time, if MAX told it.
    fn wrote(
        &mut self,
        customer: &mut Customer,
        incoming: &Incoming,
        taken: &Taken<'_>,
        said: Option<Millis>,
    ) -> Result<(), StoreError> {
        let position = taken.position;
        let message = incoming.external_id.clone();
        let with_origin = self.with_origin(customer, incoming, taken)?;
        let incoming = with_origin.as_ref().unwrap_or(incoming);
        // Who has left since stays away; what he wrote before that reaches the agents all the same.
        let event = if customer.dialog.is_gone() && said.is_some_and(|at| Some(at) <= customer.presence_at) {
            Event::WroteBeforeLeaving { message }
        } else {
            Event::Wrote { message }
        };
        customer.newest = customer.newest.max(Some(position));
        customer.presence_at = customer.presence_at.max(said);
        self.step(customer, &event, Some((incoming, position)))?;
        Ok(())
    }

    /// A start in a dialog in which the customer has written is told at once; before that it waits for the first message, for a
    /// start alone opens no chat.
    fn came_from(&mut self, customer: &Customer, payload: Option<&str>, taken: &Taken<'_>) -> Result<(), StoreError> {
        self.woken.starts.push(start::label(payload, taken.sources));
        let Some(line) = start::line(payload, taken.sources).filter(|_| has_talked(customer)) else { return Ok(()) };
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, taken.update.dedup_key().as_bytes());
        self.history(customer, format!("note:{id}"), Author::Bot, line, taken.position.0)
    }

    /// The customer's first message with where they came from, if the start before it said so.
    fn with_origin(
        &self,
        customer: &Customer,
        incoming: &Incoming,
        taken: &Taken<'_>,
    ) -> Result<Option<Incoming>, StoreError> {
        if has_talked(customer) {
            return Ok(None);
        }
        let mut starts = self.connection.prepare_cached(
            "SELECT raw FROM inbox
             WHERE ((key >= ?1 AND key < ?2) OR (key >= ?3 AND key < ?4)) AND customer = ?5 AND at <= ?6 AND at > ?7
             ORDER BY at DESC",
        )?;
        let (chat, id) = (customer.chat_id.unwrap_or_default(), customer.id);
        let raws = starts.query_map(
            params![
                format!("bot_started:{chat}:{id}:"),
                format!("bot_started:{chat}:{id};"),
                format!("bot_started::{id}:"),
                format!("bot_started::{id};"),
                id,
                taken.position.0,
                customer.newest.map_or(Millis::MIN, |(at, _)| at)
            ],
            |row| text_of(row, 0),
        )?;
        for raw in raws {
            if let update::Event::BotStarted { payload } = update::parse(&raw?).event
                && let Some(line) = start::line(payload.as_deref(), taken.sources)
            {
                let text = [line.as_str(), &incoming.text].join("\n").trim_end().to_owned();
                return Ok(Some(Incoming { text, ..incoming.clone() }));
            }
        }
        Ok(None)
    }

    /// An edit or a removal goes where the message is. It opens no chat: where none is open it joins the newest one.
    fn amended(
        &mut self,
        customer: &mut Customer,
        incoming: &Incoming,
        position: Position,
    ) -> Result<Fate, StoreError> {
        let message = incoming.external_id.clone();
        let effects = self.step(customer, &Event::Amended { message }, Some((incoming, position)))?;
        if effects.iter().any(|effect| matches!(effect, Effect::Receive { .. })) {
            return Ok(Fate::Done);
        }
        if customer.delivered.is_none() {
            return Ok(Fate::Left(Left::NoChat));
        }
        let task = after_the_close(incoming, self.now());
        self.queue_for_crm(customer, &task, customer.newest.max(customer.taken).unwrap_or((0, 0)))?;
        Ok(Fate::Unseen)
    }

    /// What the agents are to get of an original that may come after its own edit or removal: as it is, in the words of the edit, or
    /// nothing, where they know all of it.
    fn unless_merged(
        &self,
        customer: &Customer,
        message: &crate::max::Message,
        update: &Update,
        position: Position,
    ) -> Result<Option<Incoming>, StoreError> {
        let original = render::incoming(update, position.0);
        let (edits, after_edits) =
            (format!("message_edited:{}:", message.mid), format!("message_edited:{};", message.mid));
        let known = self
            .connection
            .prepare_cached(
                "SELECT raw, done FROM inbox
                 WHERE customer = ?1 AND done > 0 AND (key = ?2 OR (key >= ?3 AND key < ?4)) ORDER BY at, seq, id",
            )?
            .query_map(params![customer.id, format!("message_removed:{}", message.mid), edits, after_edits], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<Vec<(String, i64)>, _>>()?;
        // What still waits in the queue comes behind the original by its own place.
        if known.is_empty() || self.waits_for_crm(customer, &message.mid)? {
            return Ok(original);
        }
        let mut newest = None;
        for (raw, done) in &known {
            match update::parse(raw).event {
                update::Event::MessageEdited(edited) if *done == 2 => newest = Some(edited),
                _ => return Ok(None),
            }
        }
        Ok(newest.map(|edited| render::edited_before_it_came(&edited, &message.mid)).or(original))
    }

    /// Whether an edit or removal of that message waits for the CRM and has not been attempted.
    fn waits_for_crm(&self, customer: &Customer, mid: &str) -> Result<bool, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT body FROM to_crm WHERE customer = ?1 AND dead = 0 AND attempted = 0")?;
        let bodies = statement.query_map([customer.id], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        for body in bodies {
            if let CrmTask::Message { incoming, own: false, .. } = serde_json::from_str(&body)?
                && incoming.replaces == render::id_in_crm(mid)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is a message and cannot be read is kept as a dead letter, and the agents are called to it.
    fn unreadable(
        &mut self,
        customer: &mut Customer,
        taken: &Taken<'_>,
        said: Option<Millis>,
    ) -> Result<(), StoreError> {
        let (letter, note) = render::unreadable(taken.raw, taken.update.dedup_key());
        let task = CrmTask::Message { incoming: letter, stand_by: false, own: true };
        self.connection
            .prepare_cached(
                "INSERT INTO to_crm (customer, body, barrier, at, seq, dead, error, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7)",
            )?
            .execute(params![
                customer.id,
                serde_json::to_string(&task)?,
                customer.barrier,
                taken.position.0,
                taken.position.1,
                "MAX прислал сообщение, в котором нет того, что в нём обязательно",
                self.now()
            ])?;
        self.woken.dead_letters += 1;
        self.wrote(customer, &note, taken, said)
    }
}

/// An update with what its row says of it.
#[derive(Clone, Copy)]
struct Taken<'a> {
    update: &'a Update,
    position: Position,
    received_at: Millis,
    raw: &'a str,
    sources: &'a [Source],
}

/// What became of an update.
enum Fate {
    Done,
    /// It stands behind a closed chat, where nobody looks for an appeal.
    Unseen,
    Left(Left),
}

/// Whether what happens now joins what the customer has written before.
fn has_talked(customer: &Customer) -> bool {
    customer.dialog.has_written() && !matches!(customer.dialog.phase(), Phase::Closing | Phase::Left)
}

/// Only a start or a message of the dialog itself tells its chat.
fn tells_the_chat(event: &update::Event) -> bool {
    matches!(event, update::Event::BotStarted { .. } | update::Event::MessageCreated(_))
}

/// An edit or removal as an entry of the newest chat, which opens none (wire contract, "An outgoing entry without an open chat").
pub(super) fn after_the_close(incoming: &Incoming, now: Millis) -> CrmTask {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, incoming.external_id.as_bytes());
    CrmTask::History {
        external_id: format!("note:{id}"),
        author: Author::Bot,
        text: render::after_the_close(incoming),
        sent_at: now,
    }
}

/// A text as the sends that it takes.
pub(super) fn text_parts(text: &str) -> Vec<Part> {
    text::split(text).into_iter().map(|part| Part { text: Some(part.to_owned()), ..Part::default() }).collect()
}
