//! The package's web service `MaxChannelService`: ping, file, receive, handOver, by the package
//! contract, "From the relay into the CRM".
//!
//! Owns: the keys (Taken, Done), the customer's lock and the queue in the site's memory, the order
//! rules and the record of their breach. `receive` and `handOver` have two halves, between which
//! the site works and the customer's lock is held. Must not touch sign-in.

use std::collections::{HashMap, HashSet};

use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::chat::{Attachment, Direction, Message, row};
use super::receive::Receive;
use super::schema::{BOT_PROCESSING, COMPLETED, FILE_TYPE, WAITING};
use super::site::{World, not_found};
use super::store;
use crate::floor::wire::{Call, Reply};

/// A key that was taken so long ago is looked for among the stored messages.
const TAKEN_MS: i64 = 120_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Receive,
    HandOver,
}

/// Channel source and sender: whose lock it is.
type Customer = (String, String);
/// Channel source and external id.
type Key = (String, String);

/// The first half's outcome.
#[derive(Debug)]
pub(super) enum Begin {
    Answer(Reply),
    Work(Work),
}

/// What the second half does; the customer's lock is held meanwhile.
#[derive(Debug)]
pub(super) enum Work {
    Receive(Customer, Key, bool),
    HandOver(Customer, Uuid),
}

/// A call under way, to be landed when it is answered.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    customer: Customer,
    name: String,
}

#[derive(Debug)]
struct Inbound {
    request: Receive,
    message: Uuid,
    /// The customer's last time stamp before this one: a refused call does not count.
    previous: i64,
    taken_ms: i64,
    done: Option<(Option<Uuid>, Option<Uuid>)>,
}

#[derive(Debug, Default)]
struct Lane {
    last_timestamp: i64,
    in_flight: Vec<String>,
    /// What was answered `queued:true` last and not repeated to its end.
    unacknowledged: Option<String>,
    /// So many calls still find the lock taken by a request that nobody sees.
    locked_calls: u32,
    locked: bool,
    queue: Vec<Queued>,
}

#[derive(Clone, Debug, PartialEq)]
enum Queued {
    Receive(Key),
    HandOver(Uuid),
}

#[derive(Debug, Default)]
pub(super) struct PackageState {
    inbound: HashMap<Key, Inbound>,
    lanes: HashMap<Customer, Lane>,
    /// When a chat was offered to its directed agent.
    pub offered: HashMap<Uuid, i64>,
    /// Chats in whose hand-over the site died.
    pub broken_hand_overs: HashSet<Uuid>,
    pub next_distribution: i64,
    pub next_closing: i64,
}

impl PackageState {
    /// What stands only in the site's memory is lost.
    pub fn restart(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.in_flight.clear();
            lane.queue.clear();
            lane.locked = false;
            lane.locked_calls = 0;
        }
    }

    pub fn lock(&mut self, source: &str, sender: &str, calls: u32) {
        self.lanes.entry((source.to_owned(), sender.to_owned())).or_default().locked_calls = calls;
    }

    /// The call has been answered.
    pub fn land(&mut self, flight: &Flight) {
        if let Some(lane) = self.lanes.get_mut(&flight.customer) {
            lane.in_flight.retain(|name| *name != flight.name);
        }
    }
}

fn refusal(code: &str, message: &str) -> Reply {
    Reply::json(
        StatusCode::OK,
        &json!({"success": false, "duplicate": false, "queued": false, "messageId": null, "chatId": null,
            "contactId": null, "errorCode": code, "errorMessage": message}),
    )
}

fn answer(duplicate: bool, queued: bool, message: Uuid, chat: Option<Uuid>, contact: Option<Uuid>) -> Reply {
    Reply::json(
        StatusCode::OK,
        &json!({"success": true, "duplicate": duplicate, "queued": queued, "messageId": message, "chatId": chat,
            "contactId": contact, "errorCode": null, "errorMessage": null}),
    )
}

fn hand_over_answer(queued: bool, chat: Option<Uuid>) -> Reply {
    Reply::json(StatusCode::OK, &json!({"success": true, "queued": queued, "chatId": chat}))
}

/// The first half: checks, key, lock.
pub(super) fn begin(world: &mut World, method: Method, call: &Call) -> (Begin, Option<Flight>) {
    if !call.method.as_str().eq_ignore_ascii_case("POST") {
        return (Begin::Answer(Reply::html(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")), None);
    }
    if !call.header("content-type").to_ascii_lowercase().starts_with("application/json") {
        world.violation("content-type", "", "receive and handOver take application/json");
        return (Begin::Answer(Reply::html(StatusCode::UNSUPPORTED_MEDIA_TYPE, "415 Unsupported Media Type")), None);
    }
    match method {
        Method::Receive => begin_receive(world, &call.body),
        Method::HandOver => begin_hand_over(world, &call.body),
    }
}

fn begin_receive(world: &mut World, body: &[u8]) -> (Begin, Option<Flight>) {
    let request = match Receive::read(body) {
        Ok(request) => request,
        Err(why) => {
            let sender =
                serde_json::from_slice::<Value>(body).unwrap_or_default()["sender"].as_str().unwrap_or("").to_owned();
            world.violation("bad_request", &sender, why.clone());
            return (Begin::Answer(refusal("bad_request", &why)), None);
        }
    };
    let customer = (request.channel_source.clone(), request.sender.clone());
    let key = (request.channel_source.clone(), request.external_id.clone());
    // What is stored is answered for as it was, whatever has become of the channel. The request
    // that nobody sees has let go of the lock: what it left in the queue is stored first.
    let free = world.package.lanes.get(&customer).is_none_or(|lane| !lane.locked && lane.locked_calls == 0);
    if free {
        drain(world, &customer);
    }
    if let Some((message, chat, contact)) = done(world, &key) {
        check_repeat(world, &key, &request);
        let lane = world.package.lanes.entry(customer).or_default();
        if lane.unacknowledged.as_ref() == Some(&request.external_id) {
            lane.unacknowledged = None;
        }
        lane.in_flight.retain(|name| *name != request.external_id);
        return (Begin::Answer(answer(true, false, message, chat, contact)), None);
    }
    match world.channel_by_source(&request.channel_source) {
        None => return (Begin::Answer(refusal("channel_not_found", "There is no channel with this source.")), None),
        Some((_, false)) => return (Begin::Answer(refusal("channel_inactive", "The channel is not active.")), None),
        Some((_, true)) => {}
    }
    if let Err(refused) = check_order(world, &customer, &key, &request) {
        return (Begin::Answer(refused), None);
    }
    if let Some(missing) = request.attachments.iter().find(|file| !world.files.contains_key(&file.id)) {
        let why = format!("The file {} was not uploaded.", missing.id);
        return (Begin::Answer(refusal("file_not_found", &why)), None);
    }
    for file in &request.attachments {
        let stored = world.files.get(&file.id).map_or(0, |bytes| bytes.len() as u64);
        if stored != file.size {
            world.violation("size", &request.sender, format!("{} has {stored} bytes, not {}", file.id, file.size));
        }
    }
    let now = world.now_ms();
    let repeated = world.package.inbound.contains_key(&key);
    if repeated {
        check_repeat(world, &key, &request);
    }
    let flight = Flight { customer: customer.clone(), name: request.external_id.clone() };
    let external = request.external_id.clone();
    if let Some(inbound) = world.package.inbound.get_mut(&key) {
        let message = inbound.message;
        let fresh = now - inbound.taken_ms < TAKEN_MS;
        if fresh {
            let lane = world.package.lanes.entry(customer).or_default();
            lane.locked_calls = lane.locked_calls.saturating_sub(1);
            lane.unacknowledged = Some(external);
            return (Begin::Answer(answer(true, true, message, None, None)), None);
        }
        inbound.taken_ms = now;
    } else {
        let lane = world.package.lanes.entry(customer.clone()).or_default();
        let previous = lane.last_timestamp;
        if request.incoming {
            lane.last_timestamp = previous.max(request.timestamp);
        }
        let inbound = Inbound { request, message: Uuid::new_v4(), previous, taken_ms: now, done: None };
        world.package.inbound.insert(key.clone(), inbound);
    }
    let Some(inbound) = world.package.inbound.get(&key) else {
        return (Begin::Answer(refusal("internal", "The key is gone.")), None);
    };
    let (message, incoming) = (inbound.message, inbound.request.incoming);
    let lane = world.package.lanes.entry(customer.clone()).or_default();
    lane.in_flight.push(external.clone());
    // History entries go past `InternalReceive` and its lock.
    if incoming && (lane.locked || lane.locked_calls > 0) {
        lane.locked_calls = lane.locked_calls.saturating_sub(1);
        lane.queue.push(Queued::Receive(key));
        lane.unacknowledged = Some(external);
        return (Begin::Answer(answer(repeated, true, message, None, None)), Some(flight));
    }
    if incoming {
        lane.locked = true;
    }
    (Begin::Work(Work::Receive(customer, key, repeated)), Some(flight))
}

fn done(world: &mut World, key: &Key) -> Option<(Uuid, Option<Uuid>, Option<Uuid>)> {
    let now = world.now_ms();
    let inbound = world.package.inbound.get_mut(key)?;
    if inbound.done.is_none() && now - inbound.taken_ms >= TAKEN_MS {
        // An old Taken key is looked for among the stored messages.
        let stored = world.messages.iter().find(|message| message.id == inbound.message)?;
        let contact = world.db.row("OmniChat", stored.chat).and_then(|row| store::guid(row, "ContactId"));
        inbound.done = Some((Some(stored.chat), contact));
    }
    let (chat, contact) = inbound.done?;
    Some((inbound.message, chat, contact))
}

/// A repeat carries the same values.
fn check_repeat(world: &mut World, key: &Key, request: &Receive) {
    let same = world.package.inbound.get(key).is_some_and(|inbound| {
        // Names may change between two attempts, and stand-by may have ended.
        let first = Receive { name: request.name.clone(), phone: request.phone.clone(), ..inbound.request.clone() };
        first == Receive { stand_by: first.stand_by, ..request.clone() }
    });
    if !same {
        world.violation("repeat", &request.sender, format!("{} was repeated with other values", request.external_id));
    }
}

/// One call in flight, nothing before what is queued, and growing time stamps.
fn check_order(world: &mut World, customer: &Customer, key: &Key, request: &Receive) -> Result<(), Reply> {
    let lane = world.package.lanes.entry(customer.clone()).or_default();
    let mut broken = Vec::new();
    if let Some(other) = lane.in_flight.iter().find(|name| **name != request.external_id) {
        broken.push(("in_flight", format!("{} came while {other} was under way", request.external_id)));
    }
    if let Some(other) = lane.unacknowledged.as_ref().filter(|name| **name != request.external_id) {
        broken.push(("overtaking", format!("{} came before {other}, which is queued", request.external_id)));
    }
    let known = world.package.inbound.contains_key(key);
    if request.incoming && !known && request.timestamp <= lane.last_timestamp {
        let (own, last) = (request.timestamp, lane.last_timestamp);
        broken.push(("timestamp", format!("{} has {own}, after {last}", request.external_id)));
    }
    let refuse = broken.iter().any(|(rule, _)| *rule == "timestamp") && world.switches.refuse_disorder;
    let sender = request.sender.clone();
    for (rule, detail) in broken {
        world.violation(rule, &sender, detail);
    }
    if refuse {
        return Err(refusal("bad_request", "The timestamp does not grow."));
    }
    Ok(())
}

fn begin_hand_over(world: &mut World, body: &[u8]) -> (Begin, Option<Flight>) {
    let refused = |why: &str| {
        let body =
            json!({"success": false, "queued": false, "chatId": null, "errorCode": "bad_request", "errorMessage": why});
        (Begin::Answer(Reply::json(StatusCode::OK, &body)), None)
    };
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(chat) = value["chatId"].as_str().and_then(|text| Uuid::try_parse(text).ok()) else {
        world.violation("bad_request", "", "handOver without chatId");
        return refused("chatId is missing");
    };
    let Some(row) = world.chat(chat) else {
        world.violation("bad_request", "", format!("handOver of the unknown chat {chat}"));
        return refused("There is no such chat.");
    };
    let sender = world.customer_of(row);
    let source = store::guid(row, "ChannelId")
        .and_then(|channel| world.db.row("Channel", channel))
        .map_or_else(String::new, |row| store::text(row, "Source").to_owned());
    let customer = (source, sender.clone());
    let free = world.package.lanes.get(&customer).is_none_or(|lane| !lane.locked && lane.locked_calls == 0);
    if free {
        drain(world, &customer);
    }
    let name = format!("handOver {chat}");
    let lane = world.package.lanes.entry(customer.clone()).or_default();
    let broken = lane.in_flight.iter().chain(&lane.unacknowledged).find(|other| **other != name).cloned();
    if let Some(other) = broken {
        world.violation("in_flight", &sender, format!("handOver came while {other} was under way or queued"));
    }
    let lane = world.package.lanes.entry(customer.clone()).or_default();
    let flight = Flight { customer: customer.clone(), name: name.clone() };
    if lane.locked || lane.locked_calls > 0 {
        lane.locked_calls = lane.locked_calls.saturating_sub(1);
        if !lane.queue.contains(&Queued::HandOver(chat)) {
            lane.queue.push(Queued::HandOver(chat));
        }
        lane.unacknowledged = Some(name);
        return (Begin::Answer(hand_over_answer(true, None)), None);
    }
    lane.locked = true;
    lane.in_flight.push(name);
    (Begin::Work(Work::HandOver(customer, chat)), Some(flight))
}

/// The second half: the message is stored, the queue is drained, the lock is released.
pub(super) fn finish(world: &mut World, work: Work) -> Reply {
    match work {
        Work::Receive(customer, key, repeated) => {
            let external = key.1.clone();
            let incoming = world.package.inbound.get(&key).is_some_and(|inbound| inbound.request.incoming);
            let stored = store_inbound(world, &key);
            release(world, &customer, &external, incoming);
            let message = world.package.inbound.get(&key).map(|inbound| inbound.message);
            match (stored, message) {
                (Ok((chat, contact)), Some(message)) => answer(repeated, false, message, chat, contact),
                (Err(why), _) => refusal("internal", &why),
                (Ok(_), None) => refusal("internal", "The key is gone."),
            }
        }
        Work::HandOver(customer, chat) => {
            let outcome = hand_over(world, chat);
            release(world, &customer, &format!("handOver {chat}"), true);
            match outcome {
                Ok(chat) => hand_over_answer(false, chat),
                Err(why) => Reply::json(
                    StatusCode::OK,
                    &json!({"success": false, "queued": false, "chatId": null, "errorCode": "internal", "errorMessage": why}),
                ),
            }
        }
    }
}

fn release(world: &mut World, customer: &Customer, name: &str, locked: bool) {
    let lane = world.package.lanes.entry(customer.clone()).or_default();
    if lane.unacknowledged.as_deref() == Some(name) {
        lane.unacknowledged = None;
    }
    if locked {
        drain(world, customer);
        world.package.lanes.entry(customer.clone()).or_default().locked = false;
    }
}

/// Stores what waits in the site's memory, in its order.
fn drain(world: &mut World, customer: &Customer) {
    let queue = world.package.lanes.get_mut(customer).map(|lane| std::mem::take(&mut lane.queue)).unwrap_or_default();
    for queued in queue {
        // A queued failure is only in the site's log; the repeat of the call finds it undone.
        match queued {
            Queued::Receive(key) => drop(store_inbound(world, &key)),
            Queued::HandOver(chat) => drop(hand_over(world, chat)),
        }
    }
}

/// Ends stand-by; a chat that no longer stands by gives the customer's open chat.
fn hand_over(world: &mut World, chat: Uuid) -> Result<Option<Uuid>, String> {
    if world.status(chat) == Some(BOT_PROCESSING) || world.package.broken_hand_overs.contains(&chat) {
        return world.end_stand_by(chat).map(Some).map_err(|error| error.text().to_owned());
    }
    let row = world.chat(chat).ok_or("There is no such chat.")?;
    let (Some(channel), Some(contact)) = (store::guid(row, "ChannelId"), store::guid(row, "ContactId")) else {
        return Ok(None);
    };
    Ok(world.open_chat(channel, contact))
}

/// What `InternalReceive` or, for history, `MessageManager.Receive` does; the key becomes Done. A
/// failure frees the key.
fn store_inbound(world: &mut World, key: &Key) -> Result<(Option<Uuid>, Option<Uuid>), String> {
    let Some(inbound) = world.package.inbound.get(key) else {
        return Err("The key is gone.".to_owned());
    };
    if let Some(done) = inbound.done {
        return Ok(done);
    }
    let (request, message) = (inbound.request.clone(), inbound.message);
    let outcome = if request.incoming {
        store_incoming(world, &request, message)
    } else {
        store_outgoing(world, &request, message)
    };
    match outcome {
        Ok(done) => {
            if let Some(inbound) = world.package.inbound.get_mut(key) {
                inbound.done = Some(done);
            }
            world.insert(
                "MaxInbound",
                row([
                    ("ChannelSource", json!(request.channel_source)),
                    ("ExternalId", json!(request.external_id)),
                    ("Sender", json!(request.sender)),
                    ("State", json!("Done")),
                    ("MessageId", json!(message)),
                    ("ChatId", json!(done.0)),
                    ("ContactId", json!(done.1)),
                ]),
            );
            Ok(done)
        }
        Err(why) => {
            let lane = world.package.lanes.entry((request.channel_source, request.sender)).or_default();
            if let Some(inbound) = world.package.inbound.remove(key)
                && request.incoming
                && lane.last_timestamp == request.timestamp
            {
                lane.last_timestamp = inbound.previous;
            }
            Err(why)
        }
    }
}

fn store_incoming(world: &mut World, request: &Receive, message: Uuid) -> Result<(Option<Uuid>, Option<Uuid>), String> {
    let (channel, _) =
        world.channel_by_source(&request.channel_source).ok_or("There is no channel with this source.")?;
    let wording = |world: &World, error: super::store::DbError| error.wording(world.options.dialect).1;
    let contact = world
        .contact_for(channel, &request.sender, &request.name, &request.phone)
        .map_err(|error| wording(world, error))?;
    let mut open = world.open_chat(channel, contact);
    if let Some(chat) = open
        && !request.stand_by
        && world.status(chat) == Some(BOT_PROCESSING)
    {
        open = Some(world.end_stand_by(chat).map_err(|error| error.text().to_owned())?);
    }
    let preview =
        if request.text.is_empty() && !request.attachments.is_empty() { "File" } else { request.text.as_str() };
    let technical = world.technical;
    let chat = if let Some(chat) = open {
        let unread = world.chat(chat).and_then(|row| store::int(row, "UnprocessedMsgCount")).unwrap_or(0);
        // Stock Creatio would set 60 minutes for stand-by; the package clears it, since closing is
        // the relay's.
        world.save_chat(
            chat,
            technical,
            [
                ("UnprocessedMsgCount", json!(unread + 1)),
                ("ChatPreview", json!(preview)),
                ("LastMessageDirection", json!(1)),
                ("CloseDate", Value::Null),
            ],
        );
        chat
    } else {
        let status = if request.stand_by { BOT_PROCESSING } else { WAITING };
        let more = row([("ChatPreview", json!(preview)), ("LastMessageDirection", json!(1))]);
        world.new_chat(channel, contact, status, more).map_err(|error| wording(world, error))?
    };
    world.keep(request, message, chat);
    if !request.stand_by {
        world.distribute_new(chat);
    }
    Ok((Some(chat), Some(contact)))
}

/// History: joins the open chat, else the newest, and opens none.
fn store_outgoing(world: &mut World, request: &Receive, message: Uuid) -> Result<(Option<Uuid>, Option<Uuid>), String> {
    let (channel, _) =
        world.channel_by_source(&request.channel_source).ok_or("There is no channel with this source.")?;
    let contact = world.known_contact(&request.sender);
    let chat = contact.and_then(|contact| {
        world.open_chat(channel, contact).or_else(|| world.newest_chat(channel, contact, |_| true))
    });
    if let Some(chat) = chat {
        world.keep(request, message, chat);
    }
    Ok((chat, contact))
}

impl World {
    fn keep(&mut self, request: &Receive, message: Uuid, chat: Uuid) {
        let attachments: Vec<Attachment> = request
            .attachments
            .iter()
            .map(|file| Attachment {
                id: file.id,
                name: file.name.clone(),
                mime: file.mime.clone(),
                size: usize::try_from(file.size).unwrap_or(usize::MAX),
                kind: file.kind,
            })
            .collect();
        for file in &attachments {
            self.db.set("OmnichannelMessageFile", file.id, &[("MessageId", json!(message))]);
        }
        let now = self.now_ms();
        self.store_message(Message {
            id: message,
            chat,
            channel_source: request.channel_source.clone(),
            customer: request.sender.clone(),
            direction: if request.incoming { Direction::Incoming } else { Direction::Outgoing },
            kind: request.kind,
            author: request.author.clone(),
            agent: None,
            text: request.text.clone(),
            timestamp: request.timestamp,
            external_id: request.external_id.clone(),
            replaces: request.replaces.clone(),
            stand_by: request.stand_by,
            attachments,
            stored_ms: now,
        });
    }

    fn distribute_new(&mut self, chat: Uuid) {
        let undirected = self.chat(chat).is_some_and(|row| {
            store::guid(row, "StatusId") == Some(WAITING) && store::guid(row, "DirectedOperatorId").is_none()
        });
        if undirected {
            self.distribute(chat);
        }
    }
}

/// What a user without the operation CanUseMaxChannel is answered; `ping` says all the same what is
/// there.
pub(super) fn denied(world: &World, user: Uuid, method: &str) -> Option<Reply> {
    if user == world.technical || world.admitted.contains(&user) {
        return None;
    }
    let body = match method {
        "ping" => json!({"success": false, "version": &world.installer.version, "contract": 1}),
        _ => json!({"success": false, "errorCode": "access_denied"}),
    };
    Some(Reply::json(StatusCode::FORBIDDEN, &body))
}

/// `ping` and `file`, which need no lock.
pub(super) fn plain(world: &mut World, call: &Call, method: &str) -> Reply {
    match (method, call.method.as_str()) {
        ("ping", "GET") => {
            let version = &world.installer.version;
            Reply::json(StatusCode::OK, &json!({"success": true, "version": version, "contract": 1}))
        }
        ("file", "POST") => file(world, call),
        ("ping" | "file", _) => Reply::html(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
        _ => not_found(),
    }
}

fn file(world: &mut World, call: &Call) -> Reply {
    let pairs = call.pairs();
    let value = |name: &str| pairs.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value.as_str());
    let refused = |code: &str| json!({"success": false, "errorCode": code});
    let (Ok(id), false) = (Uuid::try_parse(value("id")), value("name").is_empty()) else {
        world.violation("bad_request", "", "file without id or name");
        return Reply::json(StatusCode::OK, &refused("bad_request"));
    };
    if value("mimeType").is_empty()
        || !call.header("content-type").to_ascii_lowercase().starts_with("application/octet-stream")
    {
        world.violation("bad_request", "", format!("file {id} without mimeType or not as application/octet-stream"));
        return Reply::json(StatusCode::OK, &refused("bad_request"));
    }
    let most = world.switches.max_file_size;
    if call.body.len() > most {
        return Reply::json(StatusCode::OK, &json!({"success": false, "errorCode": "file_too_big", "maxBytes": most}));
    }
    if let Some(stored) = world.files.get(&id) {
        if *stored != call.body {
            world.violation("repeat", "", format!("file {id} was repeated with other bytes"));
        }
        return Reply::json(StatusCode::OK, &json!({"success": true, "duplicate": true}));
    }
    let row = row([
        ("Id", json!(id)),
        ("Name", json!(value("name"))),
        ("TypeId", json!(FILE_TYPE)),
        ("Size", json!(call.body.len())),
        ("Version", json!(1)),
    ]);
    if world.insert("OmnichannelMessageFile", row).is_none() {
        return Reply::json(StatusCode::OK, &refused("internal"));
    }
    world.files.insert(id, call.body.clone());
    Reply::json(StatusCode::OK, &json!({"success": true, "duplicate": false}))
}

/// Whether a chat is over, for control.
pub(super) fn is_completed(world: &World, chat: Uuid) -> bool {
    world.status(chat) == Some(COMPLETED)
}
