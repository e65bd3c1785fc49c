//! Sessions and messages of Манго Диалоги: what clients write, what employees do in their desk, and
//! what the API does with both (MANGO OFFICE API reference, 3 and 4).
//!
//! Owns: the states of a session with every refusal, the messages of a chat, and which event
//! follows from what. Events are put into a queue; [`super::events`] delivers them. Pure: the time
//! is handed in.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Switches;
use super::account::Account;

/// The longest text that is taken, characters (MANGO OFFICE API reference, 4).
const LONGEST_TEXT: usize = 10_000;
/// The largest file that is taken, bytes (MANGO OFFICE API reference, 4).
const LARGEST_FILE: usize = 50 * 1024 * 1024;

/// A message on its way to a client's messenger.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub social_user_id: String,
    pub payload: Value,
    /// The content where it is a file.
    pub file: Option<Bytes>,
}

/// One webhook call to be made.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Behind the base address, without a slash at its end.
    pub path: &'static str,
    pub body: Value,
}

/// What a client writes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ClientMessage {
    /// The id in the messenger.
    pub social_user_id: String,
    pub first_name: String,
    pub last_name: String,
    pub text: String,
    /// A file instead of a text: `{type, name, link, file_size}`.
    pub file: Option<Value>,
    /// 0: the first MAX channel.
    pub channel_id: i64,
}

/// One appeal.
#[derive(Clone, Debug)]
struct Session {
    id: String,
    widget: Value,
    social_user: Value,
    state: &'static str,
    update_time: i64,
    group_id: Option<i64>,
    abonent_id: Option<i64>,
    chat_id: String,
    parent: Option<String>,
    root: Option<String>,
    closed_by: Option<i64>,
}

impl Session {
    /// As the API shows it: the chat only once somebody has the session (MANGO OFFICE API
    /// reference, 3).
    fn json(&self) -> Value {
        let mut shown = json!({"session_id": self.id, "widget": self.widget, "state": self.state,
            "update_time": self.update_time, "variables": {"social_user": self.social_user}, "group_id": self.group_id});
        for (name, value) in [("abonent_id", self.abonent_id), ("closed_by_abonent_id", self.closed_by)] {
            if let Some(value) = value {
                shown[name] = json!(value);
            }
        }
        for (name, value) in [("parent_session_id", &self.parent), ("root_session_id", &self.root)] {
            if let Some(value) = value {
                shown[name] = json!(value);
            }
        }
        if self.state != "pending" {
            shown["chat"] = json!({"chat_id": self.chat_id, "client_id": self.client()});
        }
        shown
    }

    fn client(&self) -> String {
        format!("client-{}", self.social_user["social_user_id"].as_str().unwrap_or_default())
    }

    fn social_user_id(&self) -> &str {
        self.social_user["social_user_id"].as_str().unwrap_or_default()
    }
}

/// All sessions of the account with their chats.
#[derive(Debug, Default)]
pub(super) struct Dialogs {
    sessions: Vec<Session>,
    /// Messages by chat, oldest first.
    chats: BTreeMap<String, Vec<Value>>,
    local_ids: HashSet<String>,
    /// Files of outgoing messages, by the message.
    pub files: BTreeMap<String, Bytes>,
    /// Where outgoing messages go.
    pub messenger: Option<mpsc::UnboundedSender<Outgoing>>,
    numbers: i64,
    /// See [`Switches::messages_move_time`].
    pub stands_still: bool,
    pub events: VecDeque<Event>,
}

/// A text of the refusals (MANGO OFFICE API reference, 4.1).
type Refusal = &'static str;

impl Dialogs {
    fn number(&mut self) -> i64 {
        self.numbers += 1;
        self.numbers
    }

    fn event(&mut self, path: &'static str, mut body: Value) {
        body["id"] = json!(format!("event-{}", self.number()));
        self.events.push_back(Event { path, body });
    }

    fn session_event(&mut self, path: &'static str, at: usize) {
        let session = self.sessions[at].json();
        self.event(path, json!({"session": session}));
    }

    fn add_message(&mut self, at: usize, now: i64, message: Value, file: Option<Bytes>) -> Value {
        let number = self.number();
        let session = &self.sessions[at];
        let mut message = message;
        // Grows, so that "all smaller ids" means something (MANGO OFFICE API reference, 4.3).
        message["message_id"] = json!(format!("{:012}", 700_000 + number));
        message["time"] = json!(now);
        if message["local_message_id"].is_null() {
            message["local_message_id"] = json!(format!("desk-{number}"));
        }
        let (id, chat) = (session.id.clone(), session.chat_id.clone());
        self.chats.entry(chat.clone()).or_default().push(message.clone());
        if !self.stands_still {
            self.sessions[at].update_time = now;
        }
        if let (Some(file), Some(id)) = (&file, message["message_id"].as_str()) {
            self.files.insert(id.to_owned(), file.clone());
        }
        if let Some(messenger) = self.messenger.as_ref().filter(|_| message["direction"] == "outgoing") {
            let social_user_id = self.sessions[at].social_user_id().to_owned();
            // Whoever took them may have gone.
            let _ = messenger.send(Outgoing { social_user_id, payload: message["payload"].clone(), file });
        }
        self.event(
            "/events/cc/md/session/chat/on_message",
            json!({"session_id": id, "chat_id": chat, "message": message}),
        );
        message
    }

    /// A client writes: into his open session, or a new one is made.
    pub fn say(
        &mut self,
        account: &Account,
        switches: &Switches,
        said: &ClientMessage,
        now: i64,
    ) -> Result<Value, String> {
        self.stands_still = !switches.messages_move_time;
        let open = self
            .sessions
            .iter()
            .position(|session| session.state != "closed" && session.social_user_id() == said.social_user_id);
        let is_new = open.is_none();
        let at = match open {
            Some(at) => at,
            None => self.open(account, said, now)?,
        };
        let client = self.sessions[at].client();
        let payload = match &said.file {
            Some(file) => file.clone(),
            None => json!({"type": "text", "text": said.text}),
        };
        // First the message, then its session (MANGO OFFICE API reference, 4.3).
        let message = self.add_message(
            at,
            now,
            json!({"direction": "incoming", "client_id": client, "payload": payload, "local_message_id": ""}),
            None,
        );
        if is_new {
            self.session_event("/events/cc/md/session/on_pending", at);
            if switches.auto_distribution {
                self.distribute(account, switches, at, now);
            }
        }
        Ok(json!({"session_id": self.sessions[at].id, "message_id": message["message_id"]}))
    }

    fn open(&mut self, account: &Account, said: &ClientMessage, now: i64) -> Result<usize, String> {
        let mut found = account.widgets.iter().flat_map(|widget| {
            let channels = widget["channels"].as_array().cloned().unwrap_or_default();
            channels.into_iter().map(move |channel| (widget, channel))
        });
        let found = found.find(|(_, channel)| match said.channel_id {
            0 => channel["type"] == 15,
            id => channel["channel_id"] == id,
        });
        let Some((widget, channel)) = found else { return Err("There is no such channel.".to_owned()) };
        if widget["enabled"] == false {
            return Err("The group of channels is off: nothing arrives.".to_owned());
        }
        let mut widget = widget.clone();
        let group_id = channel["group_id"].as_i64();
        widget["channels"] = json!([channel]);
        let number = self.number();
        self.sessions.push(Session {
            id: format!("session-{number}"),
            widget,
            social_user: json!({"social_user_id": said.social_user_id, "first_name": said.first_name,
                "last_name": said.last_name, "photo": null}),
            state: "pending",
            update_time: now,
            group_id,
            abonent_id: None,
            chat_id: format!("chat-{number}"),
            parent: None,
            root: None,
            closed_by: None,
        });
        Ok(self.sessions.len() - 1)
    }

    /// The account's own distribution gives a session to the channel's employee, or to the first of
    /// its group.
    fn distribute(&mut self, account: &Account, switches: &Switches, at: usize, now: i64) {
        let channel = &self.sessions[at].widget["channels"][0];
        let abonent = match channel["group_id"].as_i64() {
            Some(group) => account
                .groups
                .get(&group)
                .and_then(|group| group.members.first())
                .map(|member| account.abonent(*member, switches.abonent_offset)),
            None => channel["abonent_id"].as_i64(),
        };
        if let Some(abonent) = abonent {
            self.give(at, abonent, now);
        }
    }

    fn give(&mut self, at: usize, abonent: i64, now: i64) {
        let session = &mut self.sessions[at];
        session.state = "dialog";
        session.abonent_id = Some(abonent);
        session.update_time = now;
        self.session_event("/events/cc/md/session/on_dialog", at);
    }

    fn end(&mut self, at: usize, by: Option<i64>, now: i64) {
        let session = &mut self.sessions[at];
        session.state = "closed";
        session.closed_by = by;
        session.update_time = now;
        self.session_event("/events/cc/md/session/on_closed", at);
    }

    fn find(&self, request: &Value) -> Result<usize, Refusal> {
        let id = request["session_id"].as_str().unwrap_or_default();
        self.sessions.iter().position(|session| session.id == id).ok_or("Session not found")
    }

    fn find_chat(&self, request: &Value) -> Result<usize, Refusal> {
        let id = request["chat_id"].as_str().unwrap_or_default();
        self.sessions.iter().rposition(|session| session.chat_id == id).ok_or("Chat not found")
    }

    /// The open session of somebody, for the desk.
    fn open_of(&self, social_user: &str) -> Option<usize> {
        self.sessions.iter().rposition(|session| session.state != "closed" && session.social_user_id() == social_user)
    }

    /// What an employee does in the desk with somebody's open session: `take`, `answer`,
    /// `transfer`, `close`; `expire` is nobody's, and what is `automatic` the cabinet says itself.
    pub fn desk(
        &mut self,
        switches: &Switches,
        what: &str,
        social_user: &str,
        abonent: i64,
        text: &str,
        now: i64,
    ) -> Result<(), String> {
        let at = self.open_of(social_user).ok_or("This client has no open session.")?;
        match what {
            "take" => self.give(at, abonent, now),
            "answer" => {
                if self.sessions[at].state == "pending" {
                    self.give(at, abonent, now);
                }
                let payload = json!({"type": "text", "text": text});
                let said = json!({"direction": "outgoing", "abonent_id": abonent, "payload": payload});
                self.add_message(at, now, said, None);
            }
            "automatic" => {
                let payload = json!({"type": "text", "text": text});
                let by = (abonent > 0).then_some(abonent);
                let said = json!({"direction": "outgoing", "abonent_id": by, "payload": payload});
                self.add_message(at, now, said, None);
            }
            "transfer" if self.sessions[at].state == "pending" => {
                return Err("This session is nobody's yet.".to_owned());
            }
            "transfer" => {
                let child = self.hand_on(at, None, switches, now);
                self.give(child, abonent, now);
            }
            "close" => self.end(at, Some(abonent), now),
            "expire" => self.end(at, None, now),
            _ => return Err(format!("The desk knows no {what:?}.")),
        }
        Ok(())
    }

    /// The message was delivered to the client's messenger.
    pub fn delivered(&mut self, chat: &str, message: &str) {
        let abonent = self.find_chat(&json!({"chat_id": chat})).ok().and_then(|at| self.sessions[at].abonent_id);
        self.event(
            "/events/cc/md/session/chat/on_recv_message",
            json!({"chat_id": chat, "message_id": message, "abonent_id": abonent}),
        );
    }

    /// The message could not be delivered to the client's messenger.
    pub fn not_delivered(&mut self, chat: &str, message: &str, error: &str) {
        self.event(
            "/events/cc/md/session/chat/on_error_message",
            json!({"chat_id": chat, "message_id": message, "error": error}),
        );
    }

    /// Everything, for control: sessions with their chats in full.
    pub fn json(&self) -> Value {
        let sessions: Vec<Value> = self
            .sessions
            .iter()
            .map(|session| {
                let mut shown = session.json();
                shown["chat_id"] = json!(session.chat_id);
                shown["messages"] = json!(self.chats.get(&session.chat_id));
                shown
            })
            .collect();
        json!({ "sessions": sessions })
    }

    /// `/sessions`: those that are open.
    pub fn open_sessions(&self, request: &Value) -> Value {
        let chat = request["chat_id"].as_str();
        let open: Vec<Value> = self
            .sessions
            .iter()
            .filter(|session| session.state != "closed")
            .filter(|session| chat.is_none_or(|chat| session.chat_id == chat))
            .map(Session::json)
            .collect();
        if open.is_empty() { json!({}) } else { json!({ "sessions": open }) }
    }

    /// `/session/…`.
    pub fn call(
        &mut self,
        account: &Account,
        switches: &Switches,
        method: &str,
        request: &Value,
        file: Option<Bytes>,
        now: i64,
    ) -> Result<Value, Refusal> {
        let employee = |name: &str| {
            let id = request[name].as_i64().ok_or("Operator not found")?;
            let known = account.employees.keys().any(|user| account.abonent(*user, switches.abonent_offset) == id);
            if known { Ok(id) } else { Err("Operator not found") }
        };
        match method {
            "create" => self.create(request, employee("abonent_id")?, now),
            "take" => {
                let at = self.find(request)?;
                let abonent = employee("abonent_id")?;
                match self.sessions[at].state {
                    "pending" => self.give(at, abonent, now),
                    "dialog" => return Err("Session already taken"),
                    _ => return Err("Session closed"),
                }
                Ok(json!({}))
            }
            "transfer" => self.transfer(account, switches, request, now),
            "close" => {
                let at = self.find(request)?;
                let abonent = employee("abonent_id")?;
                match self.sessions[at].state {
                    "pending" => return Err("Session not taken"),
                    "closed" => return Err("Session closed"),
                    _ => self.end(at, Some(abonent), now),
                }
                Ok(json!({}))
            }
            "chat/send_message" => {
                let at = self.find_chat(request)?;
                self.send(at, request, file, employee("abonent_id")?, now)
            }
            "chat/history" => {
                let at = self.find_chat(request)?;
                Ok(json!({"messages": self.history(at, request)}))
            }
            _ => Err("Not found"),
        }
    }

    fn create(&mut self, request: &Value, abonent: i64, now: i64) -> Result<Value, Refusal> {
        let social_user = request["social_user_id"].as_str().unwrap_or_default();
        let channel = request["channel_id"].as_i64().unwrap_or_default();
        let before = self.sessions.iter().rposition(|session| {
            session.social_user_id() == social_user && session.widget["channels"][0]["channel_id"] == channel
        });
        // Only to those who wrote before (MANGO OFFICE API reference, 4).
        let Some(before) = before else { return Err("Channel not found") };
        if self.open_of(social_user).is_some() {
            return Err("Session already exists");
        }
        let number = self.number();
        let made = Session {
            id: format!("session-{number}"),
            chat_id: format!("chat-{number}"),
            parent: None,
            root: None,
            closed_by: None,
            ..self.sessions[before].clone()
        };
        self.sessions.push(made);
        let at = self.sessions.len() - 1;
        self.give(at, abonent, now);
        let mut answer = json!({"session_id": self.sessions[at].id});
        if let Some(text) = request["message"].as_str() {
            let payload = json!({"type": "text", "text": text});
            let said = json!({"direction": "outgoing", "abonent_id": abonent, "payload": payload});
            answer["message"] = short(&self.add_message(at, now, said, None));
        }
        Ok(answer)
    }

    fn transfer(
        &mut self,
        account: &Account,
        switches: &Switches,
        request: &Value,
        now: i64,
    ) -> Result<Value, Refusal> {
        let at = self.find(request)?;
        let group = request["group_id"].as_i64();
        let abonent = request["abonent_id"].as_i64();
        if group.is_some_and(|group| !account.groups.contains_key(&group)) {
            return Err("Group not found");
        }
        let known =
            |id: i64| account.employees.keys().any(|user| account.abonent(*user, switches.abonent_offset) == id);
        if group.is_none() && !abonent.is_some_and(known) {
            return Err("Operator not found");
        }
        match self.sessions[at].state {
            "closed" => return Err("Session closed"),
            "pending" => return Err("Session not taken"),
            _ => {}
        }
        if abonent.is_some() && abonent == self.sessions[at].abonent_id {
            return Err("Operator already assigned");
        }
        let child = self.hand_on(at, group, switches, now);
        if let Some(abonent) = abonent {
            self.give(child, abonent, now);
            return Ok(json!({}));
        }
        if switches.group_transfer_pends {
            self.session_event("/events/cc/md/session/on_pending", child);
        }
        let first = group.and_then(|group| account.groups.get(&group)?.members.first().copied());
        if let Some(member) = first.filter(|_| switches.auto_distribution) {
            self.give(child, account.abonent(member, switches.abonent_offset), now);
        }
        Ok(json!({}))
    }

    /// Makes of a session another one, which is nobody's yet. The messages move along.
    fn hand_on(&mut self, at: usize, group: Option<i64>, switches: &Switches, now: i64) -> usize {
        let number = self.number();
        let old = self.sessions[at].clone();
        self.sessions[at].state = "closed";
        self.sessions[at].update_time = now;
        if switches.transfer_tells_close {
            self.session_event("/events/cc/md/session/on_closed", at);
        }
        let child = Session {
            id: format!("session-{number}"),
            chat_id: format!("chat-{number}"),
            state: "pending",
            parent: Some(old.id.clone()),
            root: Some(old.root.clone().unwrap_or_else(|| old.id.clone())),
            group_id: group.or(old.group_id),
            abonent_id: None,
            ..old.clone()
        };
        let messages = self.chats.get(&old.chat_id).cloned().unwrap_or_default();
        self.chats.insert(child.chat_id.clone(), messages);
        self.sessions.push(child);
        self.sessions.len() - 1
    }

    fn send(
        &mut self,
        at: usize,
        request: &Value,
        file: Option<Bytes>,
        abonent: i64,
        now: i64,
    ) -> Result<Value, Refusal> {
        match self.sessions[at].state {
            "pending" => return Err("Session not taken"),
            "closed" => return Err("Session closed"),
            _ => {}
        }
        let local = request["local_message_id"].as_str().filter(|id| !id.is_empty()).ok_or("Message not found")?;
        let mut payload = request["payload"].clone();
        let is_well = match (&file, payload["type"].as_str()) {
            (Some(file), Some("file" | "image")) => file.len() <= LARGEST_FILE && payload["name"].is_string(),
            (None, Some("text")) => payload["text"].as_str().is_some_and(|text| text.chars().count() <= LONGEST_TEXT),
            _ => false,
        };
        if !is_well {
            return Err("Message not found");
        }
        if self.sessions[at].abonent_id != Some(abonent) {
            return Err("Operator not assigned");
        }
        if !self.local_ids.insert(local.to_owned()) {
            return Err("local_message_id must be unique");
        }
        if let Some(file) = &file {
            payload["file_size"] = json!(file.len());
            payload["link"] = json!(format!("https://files.mango.example/{local}"));
        }
        let said =
            json!({"direction": "outgoing", "abonent_id": abonent, "local_message_id": local, "payload": payload});
        let message = self.add_message(at, now, said, file);
        let chat = self.sessions[at].chat_id.clone();
        for path in ["/events/cc/md/session/chat/on_recv_message", "/events/cc/md/session/chat/on_read_message"] {
            self.event(path, json!({"chat_id": chat, "message_id": message["message_id"], "abonent_id": abonent}));
        }
        Ok(json!({"message": short(&message)}))
    }

    fn history(&self, at: usize, request: &Value) -> Vec<Value> {
        let all = self.chats.get(&self.sessions[at].chat_id).cloned().unwrap_or_default();
        let since = request["since_time"].as_i64().unwrap_or(i64::MIN);
        let until = request["to_time"].as_i64().unwrap_or(i64::MAX);
        let mut found: Vec<Value> = all
            .into_iter()
            .filter(|message| (since..=until).contains(&message["time"].as_i64().unwrap_or_default()))
            .collect();
        if let Some(latest) = request["latest"].as_u64().and_then(|latest| usize::try_from(latest).ok()) {
            found.drain(..found.len().saturating_sub(latest));
        }
        found
    }
}

fn short(message: &Value) -> Value {
    json!({"local_message_id": message["local_message_id"], "message_id": message["message_id"], "time": message["time"]})
}
