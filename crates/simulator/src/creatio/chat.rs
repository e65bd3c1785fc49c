//! The chat engine: contacts, chats and their states, live messages, agents' actions (Creatio API
//! reference, 3.7 and 4).
//!
//! Owns: every change of an `OmniChat` row that people or messages bring about. Must not know HTTP.

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::schema::{self, COMPLETED, IN_PROGRESS, WAITING};
use super::site::World;
use super::store::{self, DbError, Row};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Incoming = 1,
    Outgoing = 2,
}

/// `UnifiedMessage.MessageType` (Creatio API reference, 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageType {
    Text = 0,
    File = 1,
    Image = 2,
    Audio = 3,
    Video = 4,
    System = 5,
}

impl MessageType {
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::File => "file",
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::System => "system",
        }
    }

    /// A word of the package contract.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Text, Self::File, Self::Image, Self::Audio, Self::Video].into_iter().find(|kind| kind.word() == word)
    }

    /// By the major part of the MIME type.
    pub fn from_mime(mime: &str) -> Self {
        match mime.split('/').next() {
            Some("image") => Self::Image,
            Some("audio") => Self::Audio,
            Some("video") => Self::Video,
            _ => Self::File,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Attachment {
    pub id: Uuid,
    pub name: String,
    pub mime: String,
    pub size: usize,
    pub kind: MessageType,
}

impl Attachment {
    pub fn json(&self) -> Value {
        json!({"id": self.id, "name": self.name, "mimeType": self.mime, "size": self.size, "type": self.kind.word()})
    }
}

/// A row of the live messages.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub id: Uuid,
    pub chat: Uuid,
    pub channel_source: String,
    pub customer: String,
    pub direction: Direction,
    pub kind: MessageType,
    /// `customer`, `agent`, `system`, or a word of the package contract.
    pub author: String,
    pub agent: Option<Uuid>,
    pub text: String,
    pub timestamp: i64,
    pub external_id: String,
    pub replaces: String,
    pub stand_by: bool,
    pub attachments: Vec<Attachment>,
    pub stored_ms: i64,
}

/// What only the chats know about a user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agent {
    pub active: bool,
}

/// A file that an agent sends.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub name: String,
    pub mime: String,
    pub bytes: Bytes,
}

/// Why a chat action fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ChatError {
    NoChat,
    /// A chat without messages cannot be completed (Creatio API reference, 3.1).
    Empty,
    Refused(&'static str),
}

impl ChatError {
    pub fn text(&self) -> &'static str {
        match self {
            Self::NoChat => "There is no such chat.",
            Self::Empty => "Sequence contains no elements",
            Self::Refused(why) => why,
        }
    }
}

impl World {
    pub fn chat(&self, chat: Uuid) -> Option<&Row> {
        self.db.row("OmniChat", chat)
    }

    pub fn status(&self, chat: Uuid) -> Option<Uuid> {
        store::guid(self.chat(chat)?, "StatusId")
    }

    /// The channel with this source, and whether it is active.
    pub fn channel_by_source(&self, source: &str) -> Option<(Uuid, bool)> {
        self.db
            .rows("Channel")
            .filter(|row| {
                store::text(row, "Source") == source && store::guid(row, "ProviderId") == Some(schema::PROVIDER_MAX)
            })
            .map(|row| (store::guid(row, "Id").unwrap_or_default(), row.get("IsActive") == Some(&json!(true))))
            .max_by_key(|(_, active)| *active)
    }

    pub fn source_of(&self, chat: &Row) -> String {
        store::guid(chat, "ChannelId")
            .and_then(|channel| self.db.row("Channel", channel))
            .map_or_else(String::new, |row| store::text(row, "Source").to_owned())
    }

    /// The customer's id in the messenger: who wrote in the chat, or in its parent; an identity of
    /// the contact, which may have several, where nobody did.
    pub fn customer_of(&self, chat: &Row) -> String {
        let mut ids = ["Id", "ParentId"].into_iter().filter_map(|column| store::guid(chat, column));
        if let Some(written) = ids.find_map(|id| self.messages_of_chat.get(&id)?.last()) {
            return self.messages[*written].customer.clone();
        }
        let Some(contact) = store::guid(chat, "ContactId") else { return String::new() };
        let channel = store::guid(chat, "ChannelId");
        self.db
            .rows("ContactIdentity")
            .filter(|row| store::guid(row, "ContactId") == Some(contact))
            .max_by_key(|row| store::guid(row, "ChannelId") == channel)
            .map_or_else(String::new, |row| store::text(row, "ChannelIdentity").to_owned())
    }

    pub fn user_name(&self, user: Uuid) -> String {
        let Some(row) = self.db.row("SysAdminUnit", user) else { return String::new() };
        store::guid(row, "ContactId")
            .and_then(|contact| self.db.row("Contact", contact))
            .map_or_else(|| store::text(row, "Name").to_owned(), |contact| store::text(contact, "Name").to_owned())
    }

    /// The contact of a sender, found in any channel.
    pub fn known_contact(&self, sender: &str) -> Option<Uuid> {
        let row = self.db.rows("ContactIdentity").find(|row| store::text(row, "ChannelIdentity") == sender)?;
        store::guid(row, "ContactId")
    }

    /// Step 1 of `InternalReceive`: the contact, made where nobody is known.
    pub fn contact_for(&mut self, channel: Uuid, sender: &str, name: &str, phone: &str) -> Result<Uuid, DbError> {
        if let Some(contact) = self.bound.get(&(channel, sender.to_owned())) {
            return Ok(*contact);
        }
        let (now, by) = (self.now_us(), self.technical);
        let known = self.known_contact(sender).or_else(|| {
            let row =
                self.db.rows("Contact").find(|row| !phone.is_empty() && store::text(row, "MobilePhone") == phone)?;
            store::guid(row, "Id")
        });
        let contact = if let Some(contact) = known {
            contact
        } else {
            let name = if name.is_empty() { format!("New contact (Max - {sender})") } else { name.to_owned() };
            let row = row([("Name", json!(name)), ("MobilePhone", empty_as_null(phone))]);
            self.db.insert(entity("Contact"), row, now, by)?
        };
        let identity = row([
            ("ContactId", json!(contact)),
            ("ChannelId", json!(channel)),
            ("ChannelIdentity", json!(sender)),
            ("IsGuestUser", json!(false)),
        ]);
        match self.db.insert(entity("ContactIdentity"), identity, now, by) {
            Ok(_) | Err(DbError::Duplicate { .. }) => {}
            Err(error) => return Err(error),
        }
        self.bound.insert((channel, sender.to_owned()), contact);
        Ok(contact)
    }

    /// The newest chat of the contact in the channel, of those that `wanted` takes.
    pub fn newest_chat(&self, channel: Uuid, contact: Uuid, wanted: impl Fn(&Row) -> bool) -> Option<Uuid> {
        self.db.chats_of(contact).iter().rev().copied().find(|chat| {
            self.chat(*chat).is_some_and(|row| store::guid(row, "ChannelId") == Some(channel) && wanted(row))
        })
    }

    pub fn open_chat(&self, channel: Uuid, contact: Uuid) -> Option<Uuid> {
        self.newest_chat(channel, contact, |row| store::guid(row, "StatusId") != Some(COMPLETED))
    }

    /// A new chat; empty where its channel has no queue.
    pub fn new_chat(&mut self, channel: Uuid, contact: Uuid, status: Uuid, more: Row) -> Result<Uuid, DbError> {
        let queue = self.db.row("Channel", channel).and_then(|row| store::guid(row, "ChatQueueId"));
        let now = self.now_us();
        let name = self.db.row("Contact", contact).map_or_else(String::new, |row| store::text(row, "Name").to_owned());
        let stamp = jiff::Timestamp::from_microsecond(now)
            .map_or_else(|_| String::new(), |at| at.strftime("%d-%m-%Y %H:%M:%S").to_string());
        let name: String = format!("{name} - {stamp}").chars().take(200).collect();
        let mut chat = row([
            ("Name", json!(name)),
            ("StatusId", json!(status)),
            ("ContactId", json!(contact)),
            ("ChannelId", json!(channel)),
            ("QueueId", queue.map_or(Value::Null, |queue| json!(queue))),
            ("UnprocessedMsgCount", json!(1)),
        ]);
        chat.extend(more);
        self.db.insert(entity("OmniChat"), chat, now, self.technical)
    }

    /// Saves columns of a chat through the entity layer.
    pub fn save_chat<const N: usize>(&mut self, chat: Uuid, by: Uuid, changes: [(&str, Value); N]) {
        let now = self.now_us();
        // The columns are this engine's own: nothing to refuse.
        drop(self.db.update(entity("OmniChat"), chat, row(changes), Some((now, by))));
    }

    pub fn store_message(&mut self, message: Message) {
        self.messages_of_chat.entry(message.chat).or_default().push(self.messages.len());
        self.messages.push(message);
    }

    /// A line that the agent sees and the customer does not.
    pub fn system_line(&mut self, chat: Uuid, text: String) {
        let Some(row) = self.chat(chat) else { return };
        let (source, customer) = (self.source_of(row), self.customer_of(row));
        let now = self.now_ms();
        self.store_message(Message {
            id: Uuid::new_v4(),
            chat,
            channel_source: source,
            customer,
            direction: Direction::Outgoing,
            kind: MessageType::System,
            author: "system".to_owned(),
            agent: None,
            text,
            timestamp: now,
            external_id: String::new(),
            replaces: String::new(),
            stand_by: false,
            attachments: Vec::new(),
            stored_ms: now,
        });
    }

    /// The chat and those it was transferred from, oldest first.
    pub fn chain(&self, chat: Uuid) -> Vec<Uuid> {
        let mut chain = vec![chat];
        while let Some(parent) = chain.last().and_then(|chat| store::guid(self.chat(*chat)?, "ParentId")) {
            if chain.contains(&parent) {
                break;
            }
            chain.push(parent);
        }
        chain.reverse();
        chain
    }

    pub fn messages_in(&self, chats: &[Uuid]) -> Vec<&Message> {
        let indexes = chats.iter().filter_map(|chat| self.messages_of_chat.get(chat)).flatten();
        let mut messages: Vec<&Message> = indexes.filter_map(|index| self.messages.get(*index)).collect();
        messages.sort_by_key(|message| message.timestamp);
        messages
    }

    /// Whether the user is the one who got the chat.
    pub fn accept(&mut self, chat: Uuid, user: Uuid) -> Result<bool, ChatError> {
        let row = self.chat(chat).ok_or(ChatError::NoChat)?;
        if store::guid(row, "OperatorId").is_some() || store::guid(row, "StatusId") != Some(WAITING) {
            return Ok(false);
        }
        let now = self.now_us();
        self.save_chat(
            chat,
            user,
            [
                ("StatusId", json!(IN_PROGRESS)),
                ("OperatorId", json!(user)),
                ("AcceptDate", json!(now)),
                ("DirectedOperatorId", Value::Null),
                ("CloseDate", Value::Null),
            ],
        );
        let name = self.user_name(user);
        self.outbox_row(chat, "accepted", user, &name, []);
        Ok(true)
    }

    /// What `SendMessageWithAttachments` does: the text first, then one message with all files.
    /// Answers the chat and the ids of the messages.
    pub fn agent_send(
        &mut self,
        chat: Uuid,
        user: Uuid,
        text: &str,
        files: Vec<File>,
    ) -> Result<(Uuid, Vec<Uuid>), ChatError> {
        let chat = self.chat_to_write_in(chat, user)?;
        let mut sent = Vec::new();
        if !text.is_empty() {
            sent.push(self.agent_message(chat, user, text, MessageType::Text, Vec::new())?);
        }
        if files.is_empty() {
            return Ok((chat, sent));
        }
        if files.iter().any(|file| file.bytes.len() > self.switches.max_file_size) {
            return Err(ChatError::Refused("The file is too big."));
        }
        let appear = self.now_ms() + self.switches.files_after_ms;
        let mut attachments = Vec::new();
        let mut rows = Vec::new();
        for file in files {
            let attachment = Attachment {
                id: Uuid::new_v4(),
                kind: MessageType::from_mime(&file.mime),
                size: file.bytes.len(),
                name: file.name,
                mime: file.mime,
            };
            let row = row([
                ("Id", json!(attachment.id)),
                ("Name", json!(attachment.name)),
                ("TypeId", json!(schema::FILE_TYPE)),
                ("Size", json!(attachment.size)),
                ("Version", json!(1)),
            ]);
            rows.push((appear, attachment.id, row, file.bytes));
            attachments.push(attachment);
        }
        let kind = attachments.last().map_or(MessageType::File, |last| last.kind);
        let message = self.agent_message(chat, user, "", kind, attachments)?;
        for (_, _, row, _) in &mut rows {
            row.insert("MessageId".to_owned(), json!(message));
        }
        self.late_files.extend(rows);
        self.end_agent_requests();
        sent.push(message);
        Ok((chat, sent))
    }

    /// The chat itself where it is the agent's own; a new one where the last one is over.
    fn chat_to_write_in(&mut self, chat: Uuid, user: Uuid) -> Result<Uuid, ChatError> {
        let row = self.chat(chat).ok_or(ChatError::NoChat)?;
        let (Some(channel), Some(contact)) = (store::guid(row, "ChannelId"), store::guid(row, "ContactId")) else {
            return Err(ChatError::NoChat);
        };
        match store::guid(row, "StatusId") {
            Some(IN_PROGRESS) if store::guid(row, "OperatorId") == Some(user) => Ok(chat),
            Some(COMPLETED) => {
                let open = self.open_chat(channel, contact);
                if let Some(open) = open {
                    let own = self.chat(open).and_then(|row| store::guid(row, "OperatorId")) == Some(user);
                    return if own { Ok(open) } else { Err(ChatError::Refused("The chat belongs to another agent.")) };
                }
                let more = row_of([("OperatorId", json!(user)), ("UnprocessedMsgCount", json!(0))]);
                self.new_chat(channel, contact, IN_PROGRESS, more)
                    .map_err(|_| ChatError::Refused("The chat cannot be opened."))
            }
            _ => Err(ChatError::Refused("The chat belongs to another agent.")),
        }
    }

    fn agent_message(
        &mut self,
        chat: Uuid,
        user: Uuid,
        text: &str,
        kind: MessageType,
        attachments: Vec<Attachment>,
    ) -> Result<Uuid, ChatError> {
        let row = self.chat(chat).ok_or(ChatError::NoChat)?;
        let (source, customer) = (self.source_of(row), self.customer_of(row));
        let now = self.now_ms();
        let timeout = store::guid(row, "QueueId")
            .and_then(|queue| store::int(self.db.row("ChatQueue", queue)?, "ChatTimeout"))
            .filter(|minutes| *minutes > 0);
        let close = timeout.map_or(Value::Null, |minutes| json!((now + minutes * 60_000) * 1000));
        let preview = if text.is_empty() { "File".to_owned() } else { text.to_owned() };
        self.save_chat(
            chat,
            user,
            [("ChatPreview", json!(preview)), ("LastMessageDirection", json!(2)), ("CloseDate", close)],
        );
        if self.outbox.broken {
            return Err(ChatError::Refused("error: the message could not be handed on"));
        }
        let id = Uuid::new_v4();
        let files = if attachments.is_empty() {
            Value::Null
        } else {
            json!(Value::from(attachments.iter().map(Attachment::json).collect::<Vec<_>>()).to_string())
        };
        let name = self.user_name(user);
        self.outbox_row(
            chat,
            "message",
            user,
            &name,
            [
                ("MessageId", json!(id)),
                ("MessageType", json!(kind.word())),
                ("Text", empty_as_null(text)),
                ("Files", files),
            ],
        );
        self.store_message(Message {
            id,
            chat,
            channel_source: source,
            customer,
            direction: Direction::Outgoing,
            kind,
            author: "agent".to_owned(),
            agent: Some(user),
            text: text.to_owned(),
            timestamp: now,
            external_id: String::new(),
            replaces: String::new(),
            stand_by: false,
            attachments,
            stored_ms: now,
        });
        Ok(id)
    }

    /// A transfer: the child is made before the old chat is completed.
    pub fn transfer(
        &mut self,
        chat: Uuid,
        by: Uuid,
        agent: Option<Uuid>,
        queue: Option<Uuid>,
    ) -> Result<Uuid, ChatError> {
        let row = self.chat(chat).ok_or(ChatError::NoChat)?;
        let (Some(channel), Some(contact)) = (store::guid(row, "ChannelId"), store::guid(row, "ContactId")) else {
            return Err(ChatError::NoChat);
        };
        if store::guid(row, "StatusId") != Some(IN_PROGRESS) || store::guid(row, "OperatorId") != Some(by) {
            return Err(ChatError::Refused("Only the agent of a chat in progress can transfer it."));
        }
        let preview = row.get("ChatPreview").cloned().unwrap_or(Value::Null);
        let target = queue.or_else(|| store::guid(row, "QueueId"));
        let status = if agent.is_some() { IN_PROGRESS } else { WAITING };
        let more = row_of([
            ("ParentId", json!(chat)),
            ("ChatPreview", preview),
            ("OperatorId", agent.map_or(Value::Null, |agent| json!(agent))),
            ("QueueId", target.map_or(Value::Null, |queue| json!(queue))),
        ]);
        let child = self
            .new_chat(channel, contact, status, more)
            .map_err(|_| ChatError::Refused("There is no such agent or queue."))?;
        let name = agent.map_or_else(String::new, |agent| self.user_name(agent));
        self.outbox_row(child, "transferred", agent.unwrap_or_default(), &name, [("ParentChatId", json!(chat))]);
        self.system_line(chat, "The chat was transferred".to_owned());
        self.save_chat(
            chat,
            by,
            [("ChatPreview", json!("The chat was transferred")), ("LastMessageDirection", json!(2))],
        );
        self.system_line(child, "The chat was transferred".to_owned());
        self.finish_chat(chat, by)?;
        if agent.is_none() {
            self.distribute(child);
        }
        Ok(child)
    }

    /// The site dies in a hand-over: the bot's chat is completed, and its child is not made.
    pub fn break_hand_over(&mut self, chat: Uuid) -> Result<(), ChatError> {
        self.finish_chat(chat, self.technical)?;
        self.package.broken_hand_overs.insert(chat);
        Ok(())
    }

    /// Completes a chat for good and writes its `closed` row; nothing happens to a completed one.
    pub fn close(&mut self, chat: Uuid, by: Uuid, reason: &str) -> Result<(), ChatError> {
        let row = self.chat(chat).ok_or(ChatError::NoChat)?;
        if store::guid(row, "StatusId") == Some(COMPLETED) {
            return Ok(());
        }
        let agent = store::guid(row, "OperatorId");
        self.finish_chat(chat, by)?;
        let name = agent.map_or_else(String::new, |agent| self.user_name(agent));
        self.outbox_row(chat, "closed", agent.unwrap_or_default(), &name, [("Reason", json!(reason))]);
        if agent.is_some() {
            self.system_line(chat, "The chat was closed".to_owned());
        }
        Ok(())
    }

    /// What completion writes (Creatio API reference, 4.5).
    fn finish_chat(&mut self, chat: Uuid, by: Uuid) -> Result<(), ChatError> {
        let chats = if self.switches.own_messages_only { vec![chat] } else { self.chain(chat) };
        let messages = self.messages_in(&chats);
        let (Some(first), Some(last)) = (messages.first(), messages.last()) else {
            return Err(ChatError::Empty);
        };
        let (start, end) = (first.timestamp, last.timestamp);
        let asked =
            messages.iter().find(|message| message.direction == Direction::Incoming).map(|message| message.timestamp);
        let answered = messages.iter().find(|message| message.author == "agent").map(|message| message.timestamp);
        let reply = asked.zip(answered).map_or(0, |(asked, answered)| (answered - asked).max(0) / 1000);
        let conversation: Vec<Value> = self.messages_in(&[chat]).iter().map(|message| self.unified(message)).collect();
        let texts: Vec<Row> = self
            .messages_in(&[chat])
            .iter()
            .filter(|message| message.kind == MessageType::Text)
            .map(|message| {
                let incoming = message.direction == Direction::Incoming;
                let (from, to) = if incoming {
                    (&message.customer, &message.channel_source)
                } else {
                    (&message.channel_source, &message.customer)
                };
                row_of([
                    ("OmniChatId", json!(chat)),
                    ("ChannelId", self.chat(chat).and_then(|row| row.get("ChannelId")).cloned().unwrap_or(Value::Null)),
                    ("MessageDirection", json!((message.direction as u8).to_string())),
                    ("Source", json!("ThirdParty")),
                    ("Message", json!(message.text)),
                    ("Sender", json!(from)),
                    ("Recipient", json!(to)),
                    ("Timestamp", json!(message.timestamp.to_string())),
                    ("CreatedDate", json!(message.timestamp * 1000)),
                ])
            })
            .collect();
        for text in texts {
            self.insert("ChatMessages", text);
        }
        let now = self.now_us();
        self.save_chat(
            chat,
            by,
            [
                ("Conversation", json!(Value::from(conversation).to_string())),
                ("ChatStartDate", json!(start * 1000)),
                ("ChatEndDate", json!(end * 1000)),
                ("CompletionDate", json!(now)),
                ("FirstReplyTime", json!(reply)),
                ("ChatDuration", json!((end - start).max(0) / 60_000)),
                ("CloseDate", Value::Null),
                ("StatusId", json!(COMPLETED)),
            ],
        );
        Ok(())
    }

    fn unified(&self, message: &Message) -> Value {
        let incoming = message.direction == Direction::Incoming;
        let (from, to) = if incoming {
            (&message.customer, &message.channel_source)
        } else {
            (&message.channel_source, &message.customer)
        };
        let channel = self.chat(message.chat).and_then(|row| store::guid(row, "ChannelId")).unwrap_or_default();
        json!({"Id": message.id, "Sender": from, "Recipient": to, "Message": message.text, "Timestamp": message.timestamp,
            "Source": 2, "ChatId": message.chat, "ChannelId": channel, "MessageType": message.kind as u8,
            "MessageDirection": message.direction as u8, "IsStandBy": message.stand_by, "IsEcho": false, "IsGuestUser": false})
    }

    /// `TransferMessageToQueue`: the bot's chat is completed first and writes no row, then a child
    /// waits for agents.
    pub fn end_stand_by(&mut self, chat: Uuid) -> Result<Uuid, ChatError> {
        let row = self.chat(chat).ok_or(ChatError::NoChat)?;
        let (Some(channel), Some(contact)) = (store::guid(row, "ChannelId"), store::guid(row, "ContactId")) else {
            return Err(ChatError::NoChat);
        };
        let by = self.technical;
        if self.switches.hand_over_same_chat {
            self.save_chat(chat, by, [("StatusId", json!(WAITING))]);
            self.distribute(chat);
            return Ok(chat);
        }
        let more = row_of([
            ("ParentId", json!(chat)),
            ("ChatPreview", row.get("ChatPreview").cloned().unwrap_or(Value::Null)),
            ("QueueId", row.get("QueueId").cloned().unwrap_or(Value::Null)),
        ]);
        // Of one that broke off the package makes good what is missing.
        if !self.package.broken_hand_overs.remove(&chat) {
            self.finish_chat(chat, by)?;
        }
        let child = self
            .new_chat(channel, contact, WAITING, more)
            .map_err(|_| ChatError::Refused("The chat cannot be handed over."))?;
        self.distribute(child);
        Ok(child)
    }
}

pub(super) fn row<const N: usize>(columns: [(&str, Value); N]) -> Row {
    columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub(super) fn row_of<const N: usize>(columns: [(&str, Value); N]) -> Row {
    row(columns)
}

pub(super) fn empty_as_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { json!(text) }
}

fn entity(name: &'static str) -> &'static schema::Entity {
    schema::entity(name).expect("the object is part of the schema")
}
