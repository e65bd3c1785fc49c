//! The calls of Манго Диалоги, what they bring, and what their refusals mean (MANGO OFFICE API
//! reference, sections 3 and 4).
//!
//! Readings never fail on one odd element: it is left out. Numbers may be texts, and optional
//! members may be missing.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::Method;
use super::wire::{AbonentId, ChannelType, GroupId, as_int};
use super::{Client, Error, Upload};

/// Where an appeal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Nobody has it.
    Pending,
    /// An employee has it.
    Dialog,
    /// Over for good: what comes later is another session.
    Closed,
}

/// An appeal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: String,
    pub state: SessionState,
    /// Unix milliseconds; 0 where it is not told.
    pub updated_at: i64,
    pub channel_id: Option<i64>,
    pub channel_type: Option<ChannelType>,
    pub client: Option<SocialUser>,
    /// Only once an employee has it.
    pub chat_id: Option<String>,
    pub employee: Option<AbonentId>,
    /// Whom the channel itself names, where it is one employee.
    pub serves: Option<AbonentId>,
    pub group: Option<GroupId>,
    /// The session that was handed on as this one.
    pub parent: Option<String>,
}

/// The answer to the question which appeals are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Those that can be read.
    pub sessions: Vec<Session>,
    /// The ids of all of them, also of those that cannot be read.
    pub ids: HashSet<String>,
    /// What it does not name is not open: nothing in it is without an id.
    pub is_whole: bool,
}

/// The client, by the messenger's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocialUser {
    /// The id in the messenger.
    pub id: String,
    pub name: String,
}

/// A message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    pub id: String,
    /// Of an outgoing message: what its sender called it.
    pub local_id: String,
    /// Unix milliseconds.
    pub time: i64,
    pub from_client: bool,
    pub employee: Option<AbonentId>,
    pub payload: Payload,
}

/// What a message holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// `text`, `image`, `file`, `video`, `audio`, `buttons`, `info` or a later word.
    pub kind: String,
    pub text: String,
    pub name: String,
    pub link: String,
}

/// A webhook event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The session as it is now.
    Session(Session),
    Message {
        session_id: String,
        chat_id: String,
        message: ChatMessage,
    },
    /// An outgoing message did not reach the client.
    Undelivered {
        chat_id: String,
        message_id: String,
        error: String,
    },
    /// An outgoing message reached the client, or was read.
    Delivered {
        chat_id: String,
        message_id: String,
    },
    /// Somebody types, or a word of a later version.
    Other,
}

/// A refusal of Манго Диалоги, which gives nearly all of them the code 5000 and tells them apart by
/// text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialogRefusal {
    AlreadyTaken,
    SessionClosed,
    SessionNotFound,
    ChatNotFound,
    SessionNotTaken,
    SessionExists,
    EmployeeNotFound,
    GroupNotFound,
    NotAssigned,
    AlreadyAssigned,
    /// The message was taken before: `local_message_id` is the handle against repeats.
    NotUnique,
    /// The group of channels or the channel is off, or there is none.
    ChannelOff,
    /// MAX refuses the token in the cabinet.
    TokenRefused,
}

impl DialogRefusal {
    /// By the words, without case. None: unknown words, which may mean anything.
    #[must_use]
    pub fn of(words: &str) -> Option<Self> {
        const WORDS: &[(&str, DialogRefusal)] = &[
            ("session already taken", DialogRefusal::AlreadyTaken),
            ("session closed", DialogRefusal::SessionClosed),
            ("session not found", DialogRefusal::SessionNotFound),
            ("chat not found", DialogRefusal::ChatNotFound),
            ("session not taken", DialogRefusal::SessionNotTaken),
            ("session already exists", DialogRefusal::SessionExists),
            ("operator not found", DialogRefusal::EmployeeNotFound),
            ("group not found", DialogRefusal::GroupNotFound),
            ("operator not assigned", DialogRefusal::NotAssigned),
            ("operator already assigned", DialogRefusal::AlreadyAssigned),
            ("must be unique", DialogRefusal::NotUnique),
            ("widget disabled", DialogRefusal::ChannelOff),
            ("channel disabled", DialogRefusal::ChannelOff),
            ("channel not found", DialogRefusal::ChannelOff),
            // A wrong key is told without the dash.
            ("authorization-failed", DialogRefusal::TokenRefused),
        ];
        let words = words.to_lowercase();
        WORDS.iter().find(|(known, _)| words.contains(known)).map(|(_, refusal)| *refusal)
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

fn word(value: &Value) -> Option<String> {
    Some(text(value)).filter(|text| !text.is_empty())
}

impl Session {
    fn read(value: &Value) -> Option<Self> {
        let channel = &value["widget"]["channels"][0];
        // The examples have it among the variables, the table of the object beside them.
        let client = [&value["variables"]["social_user"], &value["social_user"]].into_iter().find_map(SocialUser::read);
        Some(Self {
            id: word(&value["session_id"])?,
            state: match value["state"].as_str()?.to_lowercase().as_str() {
                "pending" => SessionState::Pending,
                "dialog" => SessionState::Dialog,
                "closed" => SessionState::Closed,
                _ => return None,
            },
            updated_at: as_int(&value["update_time"]).unwrap_or(0),
            channel_id: as_int(&channel["channel_id"]),
            channel_type: as_int(&channel["type"]).map(ChannelType::from),
            client,
            chat_id: word(&value["chat"]["chat_id"]),
            employee: as_int(&value["abonent_id"]).map(AbonentId),
            serves: as_int(&channel["abonent_id"]).map(AbonentId),
            group: as_int(&value["group_id"]).map(GroupId),
            parent: word(&value["parent_session_id"]),
        })
    }
}

impl Listing {
    fn read(answer: &Value) -> Self {
        let rows = answer["sessions"].as_array();
        let ids: Vec<Option<String>> = rows.into_iter().flatten().map(|row| word(&row["session_id"])).collect();
        // Where there are none the member is absent, and the code says that this is the answer.
        let is_none = answer["sessions"].is_null() && as_int(&answer["code"]) == Some(1_000);
        Self {
            sessions: rows.into_iter().flatten().filter_map(Session::read).collect(),
            is_whole: (rows.is_some() || is_none) && ids.iter().all(Option::is_some),
            ids: ids.into_iter().flatten().collect(),
        }
    }
}

impl SocialUser {
    fn read(value: &Value) -> Option<Self> {
        let id = word(&value["social_user_id"])?;
        let parts: Vec<String> = ["first_name", "last_name"].iter().filter_map(|name| word(&value[*name])).collect();
        let name = if parts.is_empty() { text(&value["nickname"]) } else { parts.join(" ") };
        Some(Self { id, name })
    }
}

impl ChatMessage {
    fn read(value: &Value) -> Option<Self> {
        let payload = &value["payload"];
        // Blanks and line ends are the client's.
        let words = |value: &Value| value.as_str().map_or_else(|| text(value), str::to_owned);
        let employee = as_int(&value["abonent_id"]).map(AbonentId);
        Some(Self {
            id: word(&value["message_id"])?,
            local_id: text(&value["local_message_id"]),
            time: as_int(&value["time"]).unwrap_or(0),
            from_client: match value["direction"].as_str().unwrap_or_default().to_lowercase().as_str() {
                "incoming" => true,
                "outgoing" => false,
                // An outgoing one names the employee, an incoming one the client.
                _ => employee.is_none() && (word(&value["client_id"]).is_some() || !payload.is_null()),
            },
            employee,
            payload: Payload {
                kind: text(&payload["type"]),
                text: if payload.is_object() { words(&payload["text"]) } else { words(payload) },
                name: text(&payload["name"]),
                link: text(&payload["link"]),
            },
        })
    }
}

impl Event {
    /// The time that it tells, by MANGO's clock; 0: none.
    #[must_use]
    pub fn time(&self) -> i64 {
        match self {
            Self::Session(session) => session.updated_at,
            Self::Message { message, .. } => message.time,
            Self::Undelivered { .. } | Self::Delivered { .. } | Self::Other => 0,
        }
    }

    /// Reads the JSON of a webhook by the members that are there; paths and examples of the
    /// documents disagree.
    #[must_use]
    pub fn read(value: &Value) -> Self {
        if let Some(session) = Session::read(&value["session"]) {
            return Self::Session(session);
        }
        // The table calls the object `message_id`, the example `message`.
        let message = ["message", "message_id"].iter().find_map(|name| ChatMessage::read(&value[*name]));
        if let Some(message) = message {
            let (session_id, chat_id) = (text(&value["session_id"]), text(&value["chat_id"]));
            return Self::Message { session_id, chat_id, message };
        }
        let chat_id = text(&value["chat_id"]);
        match (word(&value["message_id"]), word(&value["error"])) {
            (Some(message_id), Some(error)) => Self::Undelivered { chat_id, message_id, error },
            // Who types names no message.
            (Some(message_id), None) => Self::Delivered { chat_id, message_id },
            _ => Self::Other,
        }
    }
}

impl Client {
    /// The appeals that are open.
    ///
    /// # Errors
    /// See [`super::Class`].
    pub async fn sessions(&self) -> Result<Listing, Error> {
        let answer: Value = self.call(Method::Sessions, &with_id(json!({}))).await?;
        Ok(Listing::read(&answer))
    }

    /// Gives a pending appeal to an employee.
    ///
    /// # Errors
    /// See [`super::Class`] and [`DialogRefusal`].
    pub async fn take_session(&self, session: &str, employee: AbonentId) -> Result<(), Error> {
        self.command(Method::Take, json!({"session_id": session, "abonent_id": employee})).await
    }

    /// Hands an appeal to another employee: it closes, and goes on as another session that names it
    /// as its parent.
    ///
    /// # Errors
    /// See [`super::Class`] and [`DialogRefusal`].
    pub async fn transfer_session(&self, session: &str, employee: AbonentId) -> Result<(), Error> {
        self.command(Method::Transfer, json!({"session_id": session, "abonent_id": employee})).await
    }

    /// Ends an appeal that an employee has.
    ///
    /// # Errors
    /// See [`super::Class`] and [`DialogRefusal`].
    pub async fn close_session(&self, session: &str, employee: AbonentId) -> Result<(), Error> {
        self.command(Method::Close, json!({"session_id": session, "abonent_id": employee})).await
    }

    /// Begins an appeal with somebody who wrote before. Answers its id.
    ///
    /// # Errors
    /// See [`super::Class`] and [`DialogRefusal`].
    pub async fn create_session(
        &self,
        channel: i64,
        social_user: &str,
        employee: AbonentId,
    ) -> Result<Option<String>, Error> {
        let request = json!({"channel_id": channel, "social_user_id": social_user, "abonent_id": employee});
        let answer: Value = self.call(Method::Create, &with_id(request)).await?;
        Ok(word(&answer["session_id"]))
    }

    /// Sends a text. `local_id` makes a repeat harmless: it is refused as
    /// [`DialogRefusal::NotUnique`]. Answers id and time of the message.
    ///
    /// # Errors
    /// See [`super::Class`] and [`DialogRefusal`].
    pub async fn send_text(
        &self,
        chat: &str,
        employee: AbonentId,
        local_id: &str,
        text: &str,
    ) -> Result<(String, i64), Error> {
        let request = json!({"chat_id": chat, "abonent_id": employee, "local_message_id": local_id,
            "payload": {"type": "text", "text": text}});
        let answer: Value = self.call(Method::Send, &with_id(request)).await?;
        Ok(taken(&answer))
    }

    /// Sends a file in the same way. No document tells how such a form is signed; where MANGO
    /// OFFICE does not let it in, no other is sent for two minutes.
    ///
    /// # Errors
    /// See [`super::Class`] and [`DialogRefusal`].
    pub async fn send_file(
        &self,
        chat: &str,
        employee: AbonentId,
        local_id: &str,
        file: &Upload<'_>,
    ) -> Result<(String, i64), Error> {
        let request = json!({"chat_id": chat, "abonent_id": employee, "local_message_id": local_id,
            "payload": {"type": "file", "name": file.name}});
        let answer: Value = self.call_with(Method::SendFile, &with_id(request), Some(file)).await?;
        Ok(taken(&answer))
    }

    /// The messages of a chat from that time on, Unix milliseconds, oldest first.
    ///
    /// # Errors
    /// See [`super::Class`] and [`DialogRefusal`].
    pub async fn chat_history(&self, chat: &str, since: i64) -> Result<Vec<ChatMessage>, Error> {
        let request = json!({"chat_id": chat, "since_time": since});
        let answer: Value = self.call(Method::History, &with_id(request)).await?;
        let mut messages: Vec<ChatMessage> =
            answer["messages"].as_array().into_iter().flatten().filter_map(ChatMessage::read).collect();
        messages.sort_by(|one, other| (one.time, &one.id).cmp(&(other.time, &other.id)));
        Ok(messages)
    }

    async fn command(&self, method: Method, request: Value) -> Result<(), Error> {
        self.call::<Value>(method, &with_id(request)).await.map(drop)
    }
}

/// Id and time of a message that was taken.
fn taken(answer: &Value) -> (String, i64) {
    let message = &answer["message"];
    (text(&message["message_id"]), as_int(&message["time"]).unwrap_or(0))
}

fn with_id(mut request: Value) -> Value {
    request["id"] = json!(Uuid::new_v4());
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_by_its_members_whatever_its_path_and_the_form_of_its_numbers() {
        let session = json!({"session_id": "s", "state": "dialog", "update_time": "1677577204267", "abonent_id": "3002",
            "widget": {"widget_id": 1, "channels": [{"channel_id": "7", "type": "15", "mode": "abonent", "abonent_id": 5}]},
            "chat": {"chat_id": "c", "client_id": "x"}, "group_id": null, "parent_session_id": "p"});
        let user = json!({"social_user_id": 4711, "first_name": "Анна", "last_name": null});
        // The examples have the client among the variables, the table beside them.
        for (place, value) in [("variables", json!({ "social_user": user })), ("social_user", user.clone())] {
            let mut session = session.clone();
            session[place] = value;
            let Event::Session(read) = Event::read(&json!({"id": "e", "session": session})) else {
                panic!("{session}")
            };
            assert_eq!((read.id.as_str(), read.state, read.updated_at), ("s", SessionState::Dialog, 1_677_577_204_267));
            assert_eq!((read.employee, read.serves), (Some(AbonentId(3002)), Some(AbonentId(5))));
            assert_eq!((read.channel_id, read.channel_type), (Some(7), Some(ChannelType::Max)));
            assert_eq!(read.client, Some(SocialUser { id: "4711".to_owned(), name: "Анна".to_owned() }));
            assert_eq!((read.chat_id.as_deref(), read.parent.as_deref()), (Some("c"), Some("p")));
        }
        let message = json!({"message_id": 9, "local_message_id": "", "time": "5", "direction": "incoming",
            "payload": {"type": "text", "text": " раз\n"}});
        for name in ["message", "message_id"] {
            let event = json!({"id": "e", "session_id": "s", "chat_id": "c", name: message});
            let Event::Message { session_id, chat_id, message } = Event::read(&event) else { panic!("{event}") };
            assert_eq!((session_id.as_str(), chat_id.as_str(), message.id.as_str()), ("s", "c", "9"));
            assert_eq!((message.time, message.from_client, message.payload.text.as_str()), (5, true, " раз\n"));
        }
        let failed = json!({"id": "e", "chat_id": "c", "message_id": "m", "error": "authorization-failed"});
        assert!(matches!(Event::read(&failed), Event::Undelivered { error, .. } if error == "authorization-failed"));
        let delivered = json!({"id": "e", "chat_id": "c", "message_id": "m", "abonent_id": 5});
        assert!(matches!(Event::read(&delivered), Event::Delivered { message_id, .. } if message_id == "m"));
        for other in
            [json!({"id": "e", "typing": true}), json!({"session": {"session_id": "s", "state": "new"}}), json!(7)]
        {
            assert_eq!(Event::read(&other), Event::Other, "{other}");
        }
    }

    #[test]
    fn an_odd_row_of_the_list_costs_nothing_but_itself_and_only_a_whole_list_says_who_is_missing() {
        let good = json!({"session_id": "a", "state": "Dialog"});
        for (answer, read, ids, is_whole) in [
            (json!({"code": 1000, "sessions": [good]}), 1, 1, true),
            (json!({"code": 1000, "sessions": [good, {"session_id": 7, "state": "waiting"}]}), 1, 2, true),
            (json!({"code": 1000, "sessions": [good, {"state": "dialog"}]}), 1, 1, false),
            (json!({"code": 1000, "sessions": [good, null, "odd"]}), 1, 1, false),
            (json!({"code": "1000"}), 0, 0, true),
            (json!({"code": 1000, "sessions": null}), 0, 0, true),
            (json!({"code": 1000, "sessions": "odd"}), 0, 0, false),
            (json!({}), 0, 0, false),
        ] {
            let listing = Listing::read(&answer);
            assert_eq!(
                (listing.sessions.len(), listing.ids.len(), listing.is_whole),
                (read, ids, is_whole),
                "{answer}"
            );
        }
    }

    #[test]
    fn what_a_client_wrote_is_read_however_oddly_it_is_told() {
        for odd in [
            json!({"message_id": "m", "client_id": "x", "payload": {"type": "text", "text": "12"}}),
            json!({"message_id": "m", "direction": "Incoming", "payload": {"text": 12}}),
            json!({"message_id": "m", "direction": null, "time": "odd", "payload": "12"}),
        ] {
            let read = ChatMessage::read(&odd).unwrap();
            assert!(read.from_client && read.payload.text == "12", "{odd}: {read:?}");
        }
        let employee = json!({"message_id": "m", "abonent_id": 5, "payload": {"text": "x"}});
        assert!(!ChatMessage::read(&employee).unwrap().from_client);
    }

    #[test]
    fn a_refusal_is_known_by_its_words_and_an_unknown_one_is_not_guessed() {
        assert_eq!(DialogRefusal::of("Session already taken"), Some(DialogRefusal::AlreadyTaken));
        assert_eq!(DialogRefusal::of("LOCAL_MESSAGE_ID must be unique."), Some(DialogRefusal::NotUnique));
        assert_eq!(DialogRefusal::of("Operator not assigned"), Some(DialogRefusal::NotAssigned));
        assert_eq!(DialogRefusal::of("Internal error"), None);
    }
}
