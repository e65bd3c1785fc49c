//! The control API: what a test, a demo or a person does with the site (table in [`super`]).
//!
//! Owns: [`Control`], the same actions over HTTP, and how chats and the transcript are shown. Must
//! not have an effect of its own: it calls the chat engine and the tables.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::auth::Login;
use super::chat::{Agent, Attachment, Direction, File, Message};
use super::installer::Installation;
use super::package::is_completed;
use super::schema::{self, COMPLETED, FOR_FREE, WAITING};
use super::site::{Site, World};
use super::store::{self, Reading, Row, Shown};
use super::{Expired, Switches};
use crate::floor::control::{self, Common, bad, done, ok};
use crate::floor::faults::{Fault, Outage};
use crate::floor::wire::{Call, Reply, hex};

/// UUIDv5 of the DNS name `maxchannel.dev` (package contract, ids of rows).
const NAMESPACE: Uuid = uuid::uuid!("bab06c62-a577-5588-8533-7dd877152375");

/// Drives a running site. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    site: Arc<Site>,
}

impl fmt::Debug for Control {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Control")
    }
}

/// A file that an agent sends.
#[derive(Clone, Debug)]
pub struct OutFile {
    pub name: String,
    pub mime_type: String,
    pub bytes: Vec<u8>,
}

/// What an agent's "send" came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The chat that the messages are in; another one where the agent wrote into a completed chat.
    pub chat: Uuid,
    /// The text's message, then that of the files.
    pub messages: Vec<Uuid>,
}

impl Control {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self { site }
    }

    /// Adds an active agent: a Contact with the e-mail and a user of type 4. Answers the
    /// SysAdminUnit's id.
    pub fn add_agent(&self, name: &str, email: &str) -> Uuid {
        self.site.with(|world| add_agent(world, &json!({"name": name, "email": email})).0)
    }

    /// A person with a forms login.
    pub fn add_login(&self, name: &str, login: &str, password: &str) -> Uuid {
        self.site.with(|world| add_agent(world, &json!({"name": name, "login": login, "password": password})).0)
    }

    /// All chats as `/control/chats` shows them, those of one customer where one is named.
    pub fn chats(&self, sender: Option<&str>) -> Vec<Value> {
        self.site.with(|world| chats(world, sender))
    }

    /// One chat with its conversation as the agent sees it; none where there is no such chat.
    pub fn chat(&self, chat: Uuid) -> Option<Value> {
        self.site.with(|world| chat_with_conversation(world, chat))
    }

    /// Whether the agent got the chat; false where another was faster. Fails where there is no such
    /// chat.
    pub fn accept(&self, chat: Uuid, agent: Uuid) -> Result<bool, String> {
        self.site.with(|world| world.accept(chat, agent)).map_err(|error| error.text().to_owned())
    }

    /// The text first, then one message with all files. Fails with the words that the agent would
    /// see.
    pub fn send(&self, chat: Uuid, agent: Uuid, message: &str, files: Vec<OutFile>) -> Result<Sent, String> {
        let files = files
            .into_iter()
            .map(|file| File { name: file.name, mime: file.mime_type, bytes: Bytes::from(file.bytes) })
            .collect();
        self.site
            .with(|world| world.agent_send(chat, agent, message, files))
            .map(|(chat, messages)| Sent { chat, messages })
            .map_err(|error| error.text().to_owned())
    }

    /// The child chat, which has the new agent.
    pub fn transfer_to_agent(&self, chat: Uuid, agent: Uuid, to: Uuid) -> Result<Uuid, String> {
        self.site.with(|world| world.transfer(chat, agent, Some(to), None)).map_err(|error| error.text().to_owned())
    }

    /// The child chat, which waits in the queue.
    pub fn transfer_to_queue(&self, chat: Uuid, agent: Uuid, queue: Uuid) -> Result<Uuid, String> {
        self.site.with(|world| world.transfer(chat, agent, None, Some(queue))).map_err(|error| error.text().to_owned())
    }

    /// Completes the chat, reason `agent`.
    pub fn close(&self, chat: Uuid, agent: Uuid) -> Result<(), String> {
        self.site.with(|world| world.close(chat, agent, "agent")).map_err(|error| error.text().to_owned())
    }

    /// The site dies in a hand-over, between the bot's chat and its child.
    pub fn break_hand_over(&self, chat: Uuid) -> Result<(), String> {
        self.site.with(|world| world.break_hand_over(chat)).map_err(|error| error.text().to_owned())
    }

    /// Everything of one customer in the order of storing.
    pub fn transcript(&self, sender: &str) -> Vec<Value> {
        self.site.with(|world| transcript(world, sender))
    }

    /// All customers that ever wrote.
    pub fn customers(&self) -> Vec<String> {
        self.site.with(|world| customers(world))
    }

    /// The bytes of a stored file.
    pub fn file(&self, id: Uuid) -> Option<Bytes> {
        self.site.with(|world| world.files.get(&id).cloned())
    }

    /// All outbox rows in the order of `Seq`, also those not visible yet.
    pub fn outbox(&self) -> Vec<Value> {
        self.site.with(|world| outbox(world))
    }

    /// The customer's rows stay invisible for `ms` simulated milliseconds.
    pub fn hold_outbox(&self, sender: &str, ms: i64) {
        self.site.with(|world| world.hold_outbox(sender, ms));
    }

    /// Broken rules of the contract, each `{atMs, rule, sender, detail}`.
    pub fn violations(&self) -> Vec<Value> {
        self.site.with(|world| world.violations.clone())
    }

    /// `{calls: {"<METHOD> <path>": n}, total, highestInOneSecond, inFlight, inFlightMax}`.
    pub fn counters(&self) -> Value {
        self.site.with(|world| world.counters.json())
    }

    /// Counts from zero.
    pub fn reset_counters(&self) {
        self.site.with(|world| world.counters.reset());
    }

    /// From now on OData lists show `raw` in the place of a row's column, which need not be JSON
    /// (`"\\ud83d"`).
    pub fn spoil(&self, id: Uuid, column: &str, raw: &str) {
        self.site.with(|world| world.spoiled.insert((id, column.to_owned()), raw.to_owned()));
    }

    /// Whether the technical user may not see one row.
    pub fn hide(&self, id: Uuid, hidden: bool) {
        self.site.with(|world| hide(world, id, hidden));
    }

    /// Forgets the rules in force.
    pub fn clear_faults(&self) {
        self.site.with(|world| world.faults.rules.clear());
    }

    /// How many rules are in force.
    pub fn faults_left(&self) -> usize {
        self.site.with(|world| world.faults.rules.len())
    }

    /// Adds a rule for the next calls.
    pub fn fault(&self, fault: Fault) {
        self.site.with(|world| world.faults.rules.push(fault));
    }

    /// The whole site is away, or back.
    pub fn outage(&self, outage: Option<Outage>) {
        self.site.with(|world| world.faults.outage = outage);
    }

    /// Sessions, memory queues and calls under way are lost.
    pub fn restart(&self) {
        self.site.with(World::restart);
    }

    /// Signs out everybody with cookies; with a shape, ended sessions are refused in it from now
    /// on.
    pub fn expire_sessions(&self, shape: Option<Expired>) {
        self.site.with(|world| {
            world.auth.expire_sessions();
            if let Some(shape) = shape {
                world.switches.expired = shape;
            }
        });
    }

    /// Ends all bearer tokens.
    pub fn revoke_tokens(&self) {
        self.site.with(|world| world.auth.revoke_tokens());
    }

    /// The next `calls` `receive` or `handOver` of the customer find the lock taken.
    pub fn lock(&self, channel_source: &str, sender: &str, calls: u32) {
        self.site.with(|world| world.package.lock(channel_source, sender, calls));
    }

    /// What the package's service answers, how the next installations end, and how long a restart
    /// takes.
    pub fn installer(&self, version: &str, outcome: Installation, restart_ms: i64) {
        self.site.with(|world| {
            version.clone_into(&mut world.installer.version);
            world.installer.outcome = outcome;
            world.installer.restart_ms = restart_ms;
        });
    }

    /// Whether the package is installed.
    pub fn install_package(&self, installed: bool) {
        self.site.with(|world| world.package_installed = installed);
    }

    /// Takes the technical user's rights on an object away, or gives them back.
    pub fn deny(&self, object: &str, denied: bool) {
        self.site.with(|world| deny(world, object, denied));
    }

    /// Gives a user the operation CanUseMaxChannel, which the technical user has from the start, or
    /// takes it away.
    pub fn admit(&self, user: Uuid, admitted: bool) {
        self.site.with(|world| {
            if admitted {
                world.admitted.insert(user)
            } else {
                world.admitted.remove(&user)
            };
        });
    }

    /// While broken, an agent's send fails.
    pub fn break_outbox(&self, broken: bool) {
        self.site.with(|world| world.outbox.broken = broken);
    }

    /// Changes what is unsettled about the site.
    pub fn switches(&self, change: impl FnOnce(&mut Switches)) {
        self.site.with(|world| change(&mut world.switches));
    }

    /// Moves simulated time on.
    pub fn advance(&self, ms: i64) {
        self.site.with(|world| world.clock.advance(ms));
        self.site.with(|_| ());
    }

    /// Rows of an object as OData shows them, whatever the rights.
    pub fn rows(&self, entity: &str) -> Vec<Value> {
        self.site.with(|world| rows(world, entity))
    }

    /// Adds a row as an administrator does; the id, or why not.
    pub fn insert(&self, entity: &str, row: &Value) -> Result<Uuid, String> {
        self.site.with(|world| insert(world, entity, row))
    }

    /// Changes a row as an administrator does.
    pub fn update(&self, entity: &str, id: Uuid, row: &Value) -> Result<(), String> {
        self.site.with(|world| update(world, entity, id, row))
    }

    /// Makes a queue with its agents and an active channel, as the set-up of the package contract
    /// does, the channel under the id that the contract names; answers channel and queue.
    pub fn add_channel(&self, channel_source: &str, agents: &[Uuid]) -> Result<(Uuid, Uuid), String> {
        let queue = self.insert(
            "ChatQueue",
            &json!({"Name": format!("MAX: {channel_source}"), "OperatorRoutingRuleId": FOR_FREE, "SimultaneousChats": 5, "ChatTimeout": 0}),
        )?;
        for agent in agents {
            self.insert("ChatQueueOperator", &json!({"ChatQueueId": queue, "OperatorId": agent}))?;
        }
        let settings = self.insert("MaxChannelSettings", &json!({"Name": channel_source}))?;
        let channel = self.insert(
            "Channel",
            &json!({"Id": Uuid::new_v5(&NAMESPACE, format!("channel/{channel_source}").as_bytes()),
                "Name": format!("MAX: {channel_source}"), "ProviderId": schema::PROVIDER_MAX, "MsgSettingsId": settings,
                "Source": channel_source, "ChatQueueId": queue, "IsActive": true}),
        )?;
        Ok((channel, queue))
    }
}

fn add_agent(world: &mut World, body: &Value) -> (Uuid, Uuid) {
    let name = body["name"].as_str().unwrap_or("Agent");
    let or_null =
        |name: &str| body[name].as_str().filter(|text| !text.is_empty()).map_or(Value::Null, |text| json!(text));
    let contact = world.must_insert("Contact", json!({"Name": name, "Email": or_null("email")}));
    let id = body["id"].as_str().and_then(|text| Uuid::try_parse(text).ok()).unwrap_or_else(Uuid::new_v4);
    let active = body["active"].as_bool().unwrap_or(true);
    let login = body["login"].as_str().unwrap_or(name);
    world.must_insert(
        "SysAdminUnit",
        json!({"Id": id, "Name": login, "SysAdminUnitTypeValue": 4, "Active": active, "ContactId": contact, "Email": or_null("userEmail")}),
    );
    world.agents.insert(id, Agent { active });
    if let Some(password) = body["password"].as_str() {
        let login_of = Login {
            password: password.to_owned(),
            user: id,
            wrong: 0,
            must_change: body["mustChangePassword"] == true,
        };
        world.auth.logins.insert(login.to_lowercase(), login_of);
    }
    (id, contact)
}

fn hide(world: &mut World, id: Uuid, hidden: bool) {
    if hidden {
        world.hidden.insert(id);
    } else {
        world.hidden.remove(&id);
    }
}

fn deny(world: &mut World, object: &str, denied: bool) {
    world.denied.retain(|name| name != object);
    if denied {
        world.denied.push(object.to_owned());
    }
}

fn chat_json(world: &World, row: &Row) -> Value {
    let status = store::guid(row, "StatusId").and_then(|id| world.db.row("OmnichannelChatStatus", id));
    let name = |entity: &str, column: &str| {
        let id = store::guid(row, column)?;
        world.db.row(entity, id).map(|row| store::text(row, "Name").to_owned())
    };
    let channel = store::guid(row, "ChannelId").and_then(|id| world.db.row("Channel", id));
    json!({"id": store::guid(row, "Id"), "status": status.map(|row| store::text(row, "Name")),
        "statusId": store::guid(row, "StatusId"), "parentId": store::guid(row, "ParentId"), "sender": world.customer_of(row),
        "contactId": store::guid(row, "ContactId"), "contact": name("Contact", "ContactId"),
        "channelSource": channel.map(|row| store::text(row, "Source")), "queueId": store::guid(row, "QueueId"),
        "agentId": store::guid(row, "OperatorId"), "directedAgentId": store::guid(row, "DirectedOperatorId"),
        "unread": store::int(row, "UnprocessedMsgCount").unwrap_or(0), "preview": store::text(row, "ChatPreview")})
}

fn chats(world: &World, sender: Option<&str>) -> Vec<Value> {
    let mut rows: Vec<&Row> = world.db.rows("OmniChat").collect();
    rows.sort_by_key(|row| store::int(row, "CreatedOn"));
    rows.into_iter()
        .map(|row| chat_json(world, row))
        .filter(|chat| sender.is_none_or(|sender| chat["sender"] == sender))
        .collect()
}

fn message_json(world: &World, message: &Message) -> Value {
    let attachments: Vec<Value> = message.attachments.iter().map(|file| attachment_json(world, file)).collect();
    let direction = if message.direction == Direction::Incoming { "incoming" } else { "outgoing" };
    json!({"id": message.id, "chatId": message.chat, "direction": direction, "author": message.author,
        "agentId": message.agent, "agent": message.agent.map(|agent| world.user_name(agent)), "type": message.kind.word(),
        "text": message.text, "timestamp": message.timestamp, "storedMs": message.stored_ms, "externalId": message.external_id,
        "replacesExternalId": message.replaces, "standBy": message.stand_by, "attachments": attachments})
}

fn attachment_json(world: &World, file: &Attachment) -> Value {
    let mut shown = file.json();
    shown["sha256"] = world.files.get(&file.id).map_or(Value::Null, |bytes| json!(hex(&Sha256::digest(bytes))));
    shown
}

fn chat_with_conversation(world: &World, chat: Uuid) -> Option<Value> {
    let mut shown = chat_json(world, world.chat(chat)?);
    let messages = world.messages_in(&world.chain(chat));
    shown["messages"] = messages.into_iter().map(|message| message_json(world, message)).collect();
    shown["completed"] = json!(is_completed(world, chat));
    Some(shown)
}

fn customers(world: &World) -> Vec<String> {
    let mut names: Vec<String> = world.messages.iter().map(|message| message.customer.clone()).collect();
    names.sort();
    names.dedup();
    names
}

fn transcript(world: &World, sender: &str) -> Vec<Value> {
    let states: Vec<(Uuid, Value)> = world
        .db
        .rows("MaxOutbox")
        .filter(|row| store::text(row, "Recipient") == sender)
        .filter_map(|row| {
            let state = json!({"seq": store::int(row, "Seq"), "state": store::text(row, "State"), "error": store::text(row, "Error")});
            Some((store::guid(row, "MessageId")?, state))
        })
        .collect();
    let of =
        |message: Uuid| states.iter().find(|(id, _)| *id == message).map_or(Value::Null, |(_, state)| state.clone());
    world
        .messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message.customer == sender)
        .map(|(order, message)| {
            let mut shown = message_json(world, message);
            shown["order"] = json!(order);
            shown["outbox"] = of(message.id);
            shown
        })
        .collect()
}

fn outbox(world: &World) -> Vec<Value> {
    let mut all: Vec<Value> = rows(world, "MaxOutbox");
    all.extend(
        world
            .outbox
            .late_rows()
            .map(|row| json!({"late": true, "Seq": row["Seq"], "Kind": row["Kind"], "Recipient": row["Recipient"]})),
    );
    all.sort_by_key(|row| row["Seq"].as_i64());
    all
}

fn rows(world: &World, entity: &str) -> Vec<Value> {
    let Some(entity) = schema::entity(entity) else { return Vec::new() };
    let shown = |row: &Row| {
        let columns = entity.columns().map(|column| {
            let value = row.get(column.name).unwrap_or(&Value::Null);
            (column.name.to_owned(), store::shown(column, value, world.options.dialect, Shown::Read))
        });
        Value::Object(columns.collect())
    };
    world.db.rows(entity.name).map(shown).collect()
}

fn read(entity: &str, row: &Value) -> Result<(&'static schema::Entity, Row), String> {
    let entity = schema::entity(entity).ok_or_else(|| format!("There is no object {entity}."))?;
    let reading = Reading { unknown_ignored: false, zoneless_refused: true, zero_guid_clears: true };
    let row = row.as_object().ok_or("The row is no JSON object.")?;
    let row = store::read_body(entity, row, reading).map_err(|wrong| format!("The row is refused: {wrong:?}."))?;
    Ok((entity, row))
}

fn insert(world: &mut World, entity: &str, row: &Value) -> Result<Uuid, String> {
    let (entity, row) = read(entity, row)?;
    let (now, by, dialect) = (world.now_us(), world.technical, world.options.dialect);
    world.db.insert(entity, row, now, by).map_err(|error| error.wording(dialect).1)
}

fn update(world: &mut World, entity: &str, id: Uuid, row: &Value) -> Result<(), String> {
    let (entity, row) = read(entity, row)?;
    let (now, by, dialect) = (world.now_us(), world.technical, world.options.dialect);
    match world.db.update(entity, id, row, Some((now, by))) {
        None => Err(format!("There is no row {id}.")),
        Some(result) => result.map_err(|error| error.wording(dialect).1),
    }
}

/// What the agent is offered and what he holds.
fn chats_of_agent(world: &World, agent: Uuid) -> Vec<Value> {
    let queues: Vec<Uuid> = world
        .db
        .rows("ChatQueueOperator")
        .filter(|row| store::guid(row, "OperatorId") == Some(agent))
        .filter_map(|row| store::guid(row, "ChatQueueId"))
        .collect();
    let free = |queue: Uuid| {
        world.db.row("ChatQueue", queue).and_then(|row| store::guid(row, "OperatorRoutingRuleId")) == Some(FOR_FREE)
    };
    let mine = |row: &&Row| {
        let queue = store::guid(row, "QueueId").unwrap_or_default();
        match store::guid(row, "StatusId") {
            Some(COMPLETED) => false,
            Some(WAITING) if free(queue) => store::guid(row, "DirectedOperatorId") == Some(agent),
            Some(WAITING) => queues.contains(&queue),
            _ => store::guid(row, "OperatorId") == Some(agent),
        }
    };
    world.db.rows("OmniChat").filter(mine).map(|row| chat_json(world, row)).collect()
}

fn outcome(result: Result<Value, String>) -> Reply {
    match result {
        Ok(body) => ok(&body),
        Err(why) => Reply::json(StatusCode::CONFLICT, &json!({"error": why})),
    }
}

/// The routes that `GET /control` lists.
const ROUTES: &[&str] = &[
    "POST /control/agents",
    "PATCH /control/agents/{id}",
    "GET /control/agents",
    "GET /control/agents/{id}/chats",
    "GET /control/chats",
    "GET /control/chats/{id}",
    "POST /control/chats/{id}/accept",
    "POST /control/chats/{id}/send",
    "POST /control/chats/{id}/transfer",
    "POST /control/chats/{id}/close",
    "GET /control/customers",
    "GET /control/transcript/{sender}",
    "GET /control/files/{id}",
    "GET /control/outbox",
    "POST /control/outbox/hold",
    "POST /control/outbox/broken",
    "GET|DELETE /control/violations",
    "GET|DELETE /control/counters",
    "GET|POST|DELETE /control/faults",
    "POST /control/outage",
    "POST /control/restart",
    "POST /control/sessions/expire",
    "POST /control/tokens/revoke",
    "POST /control/lock",
    "POST /control/package",
    "POST /control/rights",
    "POST /control/rows/hide",
    "POST /control/rows/spoil",
    "GET|PATCH /control/switches",
    "POST /control/clock",
    "GET|POST /control/odata/{entity}",
    "PATCH|DELETE /control/odata/{entity}/{id}",
];

/// A call under `/control`.
pub(super) fn http(site: &Site, call: &Call) -> Reply {
    let request = match control::Request::read(call) {
        Ok(request) => request,
        Err(answer) => return answer,
    };
    let parts: Vec<&str> = request.parts.iter().map(String::as_str).collect();
    site.with(|world| route(world, call, &parts, &request.body))
}

fn route(world: &mut World, call: &Call, parts: &[&str], body: &Value) -> Reply {
    let sender = call.pairs().into_iter().find(|(name, _)| name == "sender").map(|(_, value)| value);
    match (call.method.as_str(), parts) {
        ("GET", [""]) => ok(&json!({"routes": ROUTES, "violations": world.violations.len(), "nowMs": world.now_ms()})),
        ("GET", ["agents"]) => ok(&json!(rows(world, "SysAdminUnit"))),
        ("POST", ["agents"]) => {
            let (id, contact) = add_agent(world, body);
            ok(&json!({"id": id, "contactId": contact}))
        }
        (_, ["agents", id, rest @ ..]) => match Uuid::try_parse(id) {
            Ok(id) => agent_route(world, call, id, rest, body),
            Err(_) => bad("The agent's id is no Guid."),
        },
        ("GET", ["chats"]) => ok(&json!(chats(world, sender.as_deref()))),
        (_, ["chats", id, rest @ ..]) => match Uuid::try_parse(id) {
            Ok(id) => chat_route(world, call, id, rest, body),
            Err(_) => bad("The chat's id is no Guid."),
        },
        ("GET", ["customers"]) => ok(&json!(customers(world))),
        ("GET", ["transcript", sender]) => ok(&json!(transcript(world, sender))),
        ("GET", ["files", id]) => match Uuid::try_parse(id).ok().and_then(|id| world.files.get(&id)) {
            Some(bytes) => Reply::body(StatusCode::OK, "application/octet-stream", bytes.clone()),
            None => Reply::json(StatusCode::NOT_FOUND, &json!({"error": "There is no such file."})),
        },
        ("GET", ["outbox"]) => ok(&json!(outbox(world))),
        ("POST", ["outbox", "hold"]) => {
            world.hold_outbox(body["sender"].as_str().unwrap_or(""), body["ms"].as_i64().unwrap_or(0));
            done()
        }
        ("POST", ["outbox", "broken"]) => {
            world.outbox.broken = body["broken"] == true;
            done()
        }
        (_, ["odata", entity, rest @ ..]) => odata_route(world, call, entity, rest, body),
        _ => site_route(world, call, parts, body),
    }
}

fn site_route(world: &mut World, call: &Call, parts: &[&str], body: &Value) -> Reply {
    match (call.method.as_str(), parts) {
        ("POST", ["restart"]) => {
            world.restart();
            done()
        }
        ("POST", ["sessions", "expire"]) => {
            match serde_json::from_value::<Option<Expired>>(body["shape"].clone()) {
                Ok(shape) => world.switches.expired = shape.unwrap_or(world.switches.expired),
                Err(error) => return bad(&error.to_string()),
            }
            world.auth.expire_sessions();
            done()
        }
        ("POST", ["tokens", "revoke"]) => {
            world.auth.revoke_tokens();
            done()
        }
        ("POST", ["lock"]) => {
            let calls = body["calls"].as_u64().and_then(|calls| u32::try_from(calls).ok()).unwrap_or(1);
            world.package.lock(
                body["channelSource"].as_str().unwrap_or(""),
                body["sender"].as_str().unwrap_or(""),
                calls,
            );
            done()
        }
        ("POST", ["package"]) => {
            if let Some(installed) = body["installed"].as_bool() {
                world.package_installed = installed;
            }
            if let Some(version) = body["version"].as_str() {
                version.clone_into(&mut world.installer.version);
            }
            if let Some(ms) = body["restartMs"].as_i64() {
                world.installer.restart_ms = ms;
            }
            if let Some(outcome) = body.get("installation") {
                match serde_json::from_value(outcome.clone()) {
                    Ok(outcome) => world.installer.outcome = outcome,
                    Err(error) => return bad(&error.to_string()),
                }
            }
            done()
        }
        ("POST", ["rights"]) => {
            deny(world, body["object"].as_str().unwrap_or(""), body["denied"] != false);
            done()
        }
        ("POST", ["rows", change]) => {
            let Some(id) = body["id"].as_str().and_then(|id| Uuid::try_parse(id).ok()) else {
                return bad("The row's id is no Guid.");
            };
            if *change == "hide" {
                hide(world, id, body["hidden"] != false);
            } else {
                let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
                world.spoiled.insert((id, text("column")), text("raw"));
            }
            done()
        }
        ("POST", ["clock"]) => {
            world.clock.advance(body["advanceMs"].as_i64().unwrap_or(0));
            world.catch_up();
            ok(&json!({"nowMs": world.now_ms()}))
        }
        (method, parts) => {
            let World { faults, counters, violations, switches, .. } = world;
            Common { faults, counters, violations, switches }.answer(method, parts, body, ROUTES)
        }
    }
}

fn agent_route(world: &mut World, call: &Call, id: Uuid, rest: &[&str], body: &Value) -> Reply {
    match (call.method.as_str(), rest) {
        ("GET", ["chats"]) => ok(&json!(chats_of_agent(world, id))),
        ("PATCH", []) => {
            if let Some(active) = body["active"].as_bool() {
                world.db.set("SysAdminUnit", id, &[("Active", json!(active))]);
            }
            if let Some(state) = body["state"].as_str() {
                world.agents.insert(id, Agent { active: state == "Active" });
            }
            ok(&json!({"ok": true}))
        }
        _ => bad("There is no such route of an agent."),
    }
}

fn chat_route(world: &mut World, call: &Call, chat: Uuid, rest: &[&str], body: &Value) -> Reply {
    let id = |name: &str| body[name].as_str().and_then(|text| Uuid::try_parse(text).ok());
    let agent = id("agentId");
    match (call.method.as_str(), rest, agent) {
        ("GET", [], _) => match chat_with_conversation(world, chat) {
            Some(shown) => ok(&shown),
            None => Reply::json(StatusCode::NOT_FOUND, &json!({"error": "There is no such chat."})),
        },
        ("POST", ["accept"], Some(agent)) => outcome(
            world
                .accept(chat, agent)
                .map(|accepted| json!({"accepted": accepted}))
                .map_err(|error| error.text().to_owned()),
        ),
        ("POST", ["send"], Some(agent)) => {
            let empty = Vec::new();
            let files: Option<Vec<File>> = body["files"]
                .as_array()
                .unwrap_or(&empty)
                .iter()
                .map(|file| {
                    let bytes = base64::engine::general_purpose::STANDARD.decode(file["base64"].as_str()?).ok()?;
                    Some(File {
                        name: file["name"].as_str()?.to_owned(),
                        mime: file["mimeType"].as_str()?.to_owned(),
                        bytes: bytes.into(),
                    })
                })
                .collect();
            let Some(files) = files else { return bad("A file has name, mimeType and base64.") };
            match world.agent_send(chat, agent, body["text"].as_str().unwrap_or(""), files) {
                Ok((chat, messages)) => {
                    ok(&json!({"sent": true, "chatId": chat, "messageIds": messages, "error": null}))
                }
                Err(error) => ok(&json!({"sent": false, "chatId": chat, "messageIds": [], "error": error.text()})),
            }
        }
        ("POST", ["transfer"], Some(agent)) => outcome(
            world
                .transfer(chat, agent, id("toAgentId"), id("toQueueId"))
                .map(|child| json!({"chatId": child}))
                .map_err(|error| error.text().to_owned()),
        ),
        ("POST", ["close"], Some(agent)) => outcome(
            world.close(chat, agent, "agent").map(|()| json!({"ok": true})).map_err(|error| error.text().to_owned()),
        ),
        ("POST", _, None) => bad("agentId is missing."),
        _ => bad("There is no such route of a chat."),
    }
}

fn odata_route(world: &mut World, call: &Call, entity: &str, rest: &[&str], body: &Value) -> Reply {
    let id = rest.first().and_then(|id| Uuid::try_parse(id).ok());
    match (call.method.as_str(), id) {
        ("GET", None) => ok(&json!(rows(world, entity))),
        ("POST", None) => outcome(insert(world, entity, body).map(|id| json!({"id": id}))),
        ("PATCH", Some(id)) => outcome(update(world, entity, id, body).map(|()| json!({"ok": true}))),
        ("DELETE", Some(id)) => {
            let dialect = world.options.dialect;
            outcome(match schema::entity(entity).and_then(|entity| world.db.delete(entity, id)) {
                None => Err("There is no such row.".to_owned()),
                Some(result) => result.map(|()| json!({"ok": true})).map_err(|error| error.wording(dialect).1),
            })
        }
        _ => bad("There is no such route of an object."),
    }
}
