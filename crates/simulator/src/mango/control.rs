//! The control API: what a test, a demo or a person does with the account (table in [`super`]).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::account::{Employee, Group};
use super::dialogs::{ClientMessage, Outgoing};
use super::events::EventFaults;
use super::site::{Site, World};
use super::{Fault, Outage, Switches};
use crate::floor::control::{self, Common, bad, done, ok};
use crate::floor::faults::Faults;
use crate::floor::wire::{Call, Reply};

/// Drives a running account. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    site: Arc<Site>,
}

impl fmt::Debug for Control {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Control")
    }
}

impl Control {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self { site }
    }

    /// Adds or replaces an employee; answers `user_id`.
    pub fn put_employee(&self, employee: Employee) -> i64 {
        self.site.lock().account.put_employee(employee)
    }

    /// Everybody of the account.
    pub fn employees(&self) -> Vec<Employee> {
        self.site.lock().account.employees.values().cloned().collect()
    }

    /// Its groups.
    pub fn groups(&self) -> Vec<Group> {
        self.site.lock().account.groups.values().cloned().collect()
    }

    /// Takes an employee away, also from its groups; whether there was one.
    pub fn remove_employee(&self, user_id: i64) -> bool {
        self.site.lock().account.remove_employee(user_id)
    }

    /// Adds or replaces a group; answers its id.
    pub fn put_group(&self, group: Group) -> i64 {
        self.site.lock().account.put_group(group)
    }

    /// Whether there was one.
    pub fn remove_group(&self, id: i64) -> bool {
        self.site.lock().account.groups.remove(&id).is_some()
    }

    /// Puts a group of channels with one MAX channel (type 15) there that serves the employee;
    /// answers `channel_id`.
    pub fn max_channel_for_employee(&self, user_id: i64) -> i64 {
        let mut world = self.site.lock();
        let offset = world.switches.abonent_offset;
        let abonent = world.account.abonent(user_id, offset);
        max_channel(&mut world, json!({"mode": "abonent", "abonent_id": abonent}))
    }

    /// The same for a group.
    pub fn max_channel_for_group(&self, group_id: i64) -> i64 {
        max_channel(&mut self.site.lock(), json!({"mode": "group", "group_id": group_id}))
    }

    /// Replaces key and salt, as when the account's owner makes new ones.
    pub fn set_keys(&self, api_key: &str, api_salt: &str) {
        let mut world = self.site.lock();
        api_key.clone_into(&mut world.options.api_key);
        api_salt.clone_into(&mut world.options.api_salt);
    }

    /// Takes another key too. It shows the same people, so that two channels, each with an account
    /// of its own, can stand side by side.
    pub fn add_keys(&self, api_key: &str, api_salt: &str) {
        self.site.lock().more_keys.insert(api_key.to_owned(), api_salt.to_owned());
    }

    pub fn set_balance(&self, balance: f64) {
        self.site.lock().account.balance = balance;
    }

    /// Outgoing messages from now on go there, too: to the messenger of the clients.
    pub fn connect_messenger(&self) -> mpsc::UnboundedReceiver<Outgoing> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.site.lock().dialogs.messenger = Some(sender);
        receiver
    }

    /// MANGO OFFICE does not hear of what clients write until this is taken back; then it hears of
    /// all of it, and has it from that time on.
    pub fn deaf(&self, is_deaf: bool) {
        self.site.lock().is_deaf = is_deaf;
    }

    /// See [`Control::deaf`].
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.site.lock().is_deaf
    }

    /// The content of an outgoing message that is a file.
    pub fn file(&self, message_id: &str) -> Option<Bytes> {
        self.site.lock().dialogs.files.get(message_id).cloned()
    }

    /// Takes away what was put in the way of calls and of webhooks.
    pub fn clear_faults(&self) {
        let mut world = self.site.lock();
        world.faults = Faults::default();
        world.event_faults = EventFaults::default();
        world.throttled = 0;
    }

    /// Adds a rule for the next calls.
    pub fn fault(&self, fault: Fault) {
        self.site.lock().faults.rules.push(fault);
    }

    /// The whole API is away, or back.
    pub fn outage(&self, outage: Option<Outage>) {
        self.site.lock().faults.outage = outage;
    }

    /// The next calls are over the limit that all customers share.
    pub fn throttle(&self, calls: u32) {
        self.site.lock().throttled = calls;
    }

    /// Empties the penalty box and the limits.
    pub fn forgive(&self) {
        self.site.lock().forgive();
    }

    /// Wrong requests and calls over the limit, each `{path, code}`.
    pub fn violations(&self) -> Vec<Value> {
        self.site.lock().violations.clone()
    }

    /// `{calls: {"<METHOD> <path>": n}, total, highestInOneSecond, inFlight, inFlightMax}`.
    pub fn counters(&self) -> Value {
        self.site.lock().counters.json()
    }

    /// Where webhooks go: their paths are appended to this address.
    pub fn set_webhook(&self, base: Option<&str>) {
        self.site.lock().webhook = base.map(str::to_owned);
    }

    /// A client writes; answers `{session_id, message_id}`.
    pub fn say(&self, said: &ClientMessage) -> Result<Value, String> {
        let World { dialogs, account, switches, clock, .. } = &mut *self.site.lock();
        dialogs.say(account, switches, said, clock.now_ms())
    }

    /// An employee works in MANGO's own desk: `take`, `answer`, `close`; `expire`: the time of the
    /// session is over; `automatic`: the cabinet says something by itself, with `user_id` 0 as
    /// nobody.
    pub fn desk(&self, what: &str, social_user: &str, user_id: i64, text: &str) -> Result<(), String> {
        let World { dialogs, account, switches, clock, .. } = &mut *self.site.lock();
        let abonent = account.abonent(user_id, switches.abonent_offset);
        dialogs.desk(switches, what, social_user, abonent, text, clock.now_ms())
    }

    /// The message reached the client.
    pub fn delivered(&self, chat: &str, message: &str) {
        self.site.lock().dialogs.delivered(chat, message);
    }

    /// The message did not reach the client.
    pub fn not_delivered(&self, chat: &str, message: &str, error: &str) {
        self.site.lock().dialogs.not_delivered(chat, message, error);
    }

    /// Sessions with their messages, closed ones included.
    pub fn dialogs(&self) -> Vec<Value> {
        self.site.lock().dialogs.json()["sessions"].as_array().cloned().unwrap_or_default()
    }

    /// What happens to the next webhooks.
    pub fn event_faults(&self, faults: EventFaults) {
        self.site.lock().event_faults = faults;
    }

    /// What was delivered: `{path, status}`.
    pub fn deliveries(&self) -> Vec<Value> {
        self.site.lock().deliveries.clone()
    }

    /// Changes what is unsettled about the API.
    pub fn switches(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.site.lock().switches);
    }

    /// Moves simulated time on.
    pub fn advance(&self, ms: i64) {
        self.site.lock().clock.advance(ms);
    }
}

fn max_channel(world: &mut World, receiver: Value) -> i64 {
    let number = i64::try_from(world.account.widgets.len()).unwrap_or(0);
    let mut channel = json!({"channel_id": 70_001 + number, "type": 15});
    if let (Value::Object(channel), Value::Object(receiver)) = (&mut channel, receiver) {
        channel.extend(receiver);
    }
    world
        .account
        .widgets
        .push(json!({"widget_id": 5001 + number, "name": "MAX", "enabled": true, "channels": [channel]}));
    70_001 + number
}

/// The routes that `GET /control` lists.
const ROUTES: &[&str] = &[
    "GET|POST /control/employees",
    "DELETE /control/employees/{user_id}",
    "GET|POST /control/groups",
    "DELETE /control/groups/{id}",
    "GET|POST|DELETE /control/widgets",
    "POST /control/keys",
    "POST /control/balance",
    "GET|POST|DELETE /control/faults",
    "POST /control/outage",
    "POST /control/throttle",
    "POST /control/forgive",
    "GET|DELETE /control/counters",
    "GET|DELETE /control/violations",
    "POST /control/webhook",
    "POST /control/say",
    "POST /control/desk",
    "POST /control/delivered",
    "POST /control/not-delivered",
    "GET /control/dialogs",
    "GET|POST /control/events",
    "GET|PATCH /control/switches",
    "POST /control/clock",
];

/// A call under `/control`.
pub(super) fn http(site: &Site, call: &Call) -> Reply {
    let request = match control::Request::read(call) {
        Ok(request) => request,
        Err(answer) => return answer,
    };
    let parts: Vec<&str> = request.parts.iter().map(String::as_str).collect();
    route(&mut site.lock(), call.method.as_str(), &parts, &request.body)
}

fn route(world: &mut World, method: &str, parts: &[&str], body: &Value) -> Reply {
    let id = parts.get(1).and_then(|text| text.parse::<i64>().ok());
    match (method, parts) {
        ("GET", [""]) => ok(&json!({"routes": ROUTES})),
        ("GET", ["employees"]) => ok(&json!(world.account.employees.values().collect::<Vec<_>>())),
        ("POST", ["employees"]) => match serde_json::from_value::<Employee>(body.clone()) {
            Ok(employee) => ok(&json!({"user_id": world.account.put_employee(employee)})),
            Err(error) => bad(&error.to_string()),
        },
        ("DELETE", ["employees", _]) => ok(&json!({"ok": id.is_some_and(|id| world.account.remove_employee(id))})),
        ("GET", ["groups"]) => ok(&json!(world.account.groups.values().collect::<Vec<_>>())),
        ("POST", ["groups"]) => match serde_json::from_value::<Group>(body.clone()) {
            Ok(group) => ok(&json!({"id": world.account.put_group(group)})),
            Err(error) => bad(&error.to_string()),
        },
        ("DELETE", ["groups", _]) => {
            ok(&json!({"ok": id.is_some_and(|id| world.account.groups.remove(&id).is_some())}))
        }
        ("GET", ["widgets"]) => ok(&json!(world.account.widgets)),
        ("POST", ["widgets"]) => {
            world.account.widgets.push(body.clone());
            done()
        }
        ("DELETE", ["widgets"]) => {
            world.account.widgets.clear();
            done()
        }
        ("POST", ["keys"]) => {
            let (Some(key), Some(salt)) = (body["apiKey"].as_str(), body["apiSalt"].as_str()) else {
                return bad("apiKey and apiSalt are needed.");
            };
            if body["beside"] == true {
                world.more_keys.insert(key.to_owned(), salt.to_owned());
            } else {
                key.clone_into(&mut world.options.api_key);
                salt.clone_into(&mut world.options.api_salt);
            }
            done()
        }
        ("POST", ["balance"]) => {
            world.account.balance = body["balance"].as_f64().unwrap_or(0.0);
            done()
        }
        ("POST", ["throttle"]) => {
            world.throttled = body["calls"].as_u64().and_then(|calls| u32::try_from(calls).ok()).unwrap_or(1);
            done()
        }
        ("POST", ["forgive"]) => {
            world.forgive();
            done()
        }
        ("POST", ["webhook"]) => {
            world.webhook = body["url"].as_str().map(str::to_owned);
            done()
        }
        ("POST", ["say"]) => match serde_json::from_value::<ClientMessage>(body.clone()) {
            Ok(said) => {
                let World { dialogs, account, switches, clock, .. } = world;
                dialogs.say(account, switches, &said, clock.now_ms()).map_or_else(|error| bad(&error), |made| ok(&made))
            }
            Err(error) => bad(&error.to_string()),
        },
        ("POST", ["desk"]) => {
            let text = |name: &str| body[name].as_str().unwrap_or_default();
            let abonent = body["abonentId"].as_i64().unwrap_or_default();
            let now = world.clock.now_ms();
            let acted =
                world.dialogs.desk(&world.switches, text("what"), text("socialUserId"), abonent, text("text"), now);
            acted.map_or_else(|error| bad(&error), |()| done())
        }
        ("POST", ["delivered"]) => {
            let text = |name: &str| body[name].as_str().unwrap_or_default();
            world.dialogs.delivered(text("chatId"), text("messageId"));
            done()
        }
        ("POST", ["not-delivered"]) => {
            let text = |name: &str| body[name].as_str().unwrap_or_default();
            world.dialogs.not_delivered(text("chatId"), text("messageId"), text("error"));
            done()
        }
        ("GET", ["dialogs"]) => ok(&world.dialogs.json()),
        ("GET", ["events"]) => ok(&json!(world.deliveries)),
        ("POST", ["events"]) => match serde_json::from_value::<EventFaults>(body.clone()) {
            Ok(faults) => {
                world.event_faults = faults;
                done()
            }
            Err(error) => bad(&error.to_string()),
        },
        ("POST", ["clock"]) => {
            world.clock.advance(body["advanceMs"].as_i64().unwrap_or(0));
            ok(&json!({"nowMs": world.clock.now_ms()}))
        }
        _ => {
            let World { faults, counters, violations, switches, .. } = world;
            Common { faults, counters, violations, switches }.answer(method, parts, body, ROUTES)
        }
    }
}
