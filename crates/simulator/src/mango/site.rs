//! The way of a request: limits, penalty box, form, signature, JSON, method.
//!
//! Owns: the order of these checks, the failure envelopes of the two families, and the windows of
//! §1.5 and §1.6. Must not know what an employee is.

use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::account::{Account, loosen, sign};
use super::control;
use super::dialogs::Dialogs;
use super::events::{Delivery, EventFaults};
use super::{Options, Switches};
use crate::floor::faults::{Counters, Faults};
use crate::floor::wire::{Call, Clock, Reply};

/// After a wrong request the next one within this time blocks the key (§1.5).
const PENALTY_MS: i64 = 120_000;

/// What `ext_fields` may name (§2.2).
const EXT_FIELDS: [&str; 12] = [
    "general.user_id",
    "general.sips",
    "general.access_role_id",
    "general.mobile",
    "general.login",
    "general.use_status",
    "general.use_cc_numbers",
    "groups",
    "telephony.dial_alg",
    "telephony.numbers.schedule",
    "telephony.line_id",
    "telephony.trunk_number_id",
];

/// Which envelope failures come in (§1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Vpbx,
    Dialogs,
}

pub(super) struct World {
    pub options: Options,
    pub switches: Switches,
    pub clock: Clock,
    pub account: Account,
    pub faults: Faults,
    pub counters: Counters,
    pub violations: Vec<Value>,
    pub dialogs: Dialogs,
    /// Where events go.
    pub webhook: Option<String>,
    pub event_faults: EventFaults,
    pub deliveries: Vec<Delivery>,
    pub throttled: u32,
    /// What clients write waits in their messenger.
    pub is_deaf: bool,
    /// Salts of further keys that open the same account.
    pub more_keys: HashMap<String, String>,
    /// By key: the time of the first wrong request in force, and whether the key is blocked.
    penalties: HashMap<String, (i64, bool)>,
    /// By key and kind of call.
    windows: HashMap<(String, &'static str), VecDeque<i64>>,
}

pub(super) struct Site {
    world: Mutex<World>,
    /// Whoever delivers events looks again.
    pub woken: Arc<Notify>,
}

/// The world for somebody alone; what has changed is looked at afterwards.
pub(super) struct Locked<'a> {
    world: MutexGuard<'a, World>,
    woken: &'a Notify,
}

impl Deref for Locked<'_> {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let waits = !self.world.event_faults.hold && !self.world.dialogs.events.is_empty();
        if waits {
            self.woken.notify_one();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.woken.notify_one();
    }
}

impl World {
    pub fn forgive(&mut self) {
        self.penalties.clear();
        self.windows.clear();
        self.throttled = 0;
    }

    /// The salt of a key that is taken.
    fn salt(&self, key: &str) -> Option<&str> {
        let own = (key == self.options.api_key).then_some(&self.options.api_salt);
        own.or_else(|| self.more_keys.get(key)).map(String::as_str)
    }

    /// Whether one more call fits into `limit` per `window_ms`; it counts either way.
    fn fits(&mut self, key: &str, name: &'static str, limit: usize, window_ms: i64) -> bool {
        let now = self.clock.now_ms();
        let window = self.windows.entry((key.to_owned(), name)).or_default();
        while window.front().is_some_and(|first| now - first >= window_ms) {
            window.pop_front();
        }
        if window.len() >= limit {
            return false;
        }
        window.push_back(now);
        true
    }

    fn over_limit(&mut self, key: &str, path: &str, family: Family) -> bool {
        if self.throttled > 0 {
            self.throttled -= 1;
            return true;
        }
        let general = if family == Family::Vpbx { "vpbx" } else { "dialogs" };
        let mut fits = self.fits(key, general, 10, 1000);
        fits &= match path {
            "/vpbx/config/users/request" => self.fits(key, "users", 1, 2000),
            "/vpbx/account/balance" => self.fits(key, "balance", 2, 1000),
            "/cc/md/session/chat/history" => self.fits(key, "history", 4, 1000),
            "/cc/md/session/chat/send_message" => self.fits(key, "send", 4, 1000),
            _ => true,
        };
        if !fits {
            self.violations.push(json!({"path": path, "code": 429}));
        }
        !fits
    }

    /// A failure of the request; codes 3xxx count as wrong requests.
    fn failure(&mut self, key: &str, family: Family, path: &str, code: i64, text: &str) -> Reply {
        if (3000..4000).contains(&code) {
            self.violations.push(json!({"path": path, "code": code}));
            let now = self.clock.now_ms();
            match self.penalties.get_mut(key) {
                Some((first, blocked)) if now - *first < PENALTY_MS => {
                    *blocked = true;
                    return Reply::empty(StatusCode::UNAUTHORIZED);
                }
                _ => self.penalties.insert(key.to_owned(), (now, false)),
            };
        }
        match family {
            Family::Dialogs => {
                Reply::json(StatusCode::OK, &json!({"name": "Error", "status": 200, "code": code, "error": text}))
            }
            Family::Vpbx => {
                let status = StatusCode::from_u16(self.switches.failure_status).unwrap_or(StatusCode::BAD_REQUEST);
                let key = if self.switches.failure_as_code { "code" } else { "result" };
                Reply::json(status, &json!({key: code, "message": text}))
            }
        }
    }
}

impl Site {
    pub fn new(options: Options) -> Self {
        let world = World {
            switches: options.switches.clone(),
            clock: options
                .starts_at
                .map_or_else(|| Clock::new(options.time_scale), |at| Clock::starting_at(at, options.time_scale)),
            options,
            account: Account { balance: 963_592.45, ..Account::default() },
            faults: Faults::default(),
            counters: Counters::default(),
            violations: Vec::new(),
            dialogs: Dialogs::default(),
            webhook: None,
            event_faults: EventFaults::default(),
            deliveries: Vec::new(),
            throttled: 0,
            is_deaf: false,
            more_keys: HashMap::new(),
            penalties: HashMap::new(),
            windows: HashMap::new(),
        };
        Self { world: Mutex::new(world), woken: Arc::default() }
    }

    pub fn lock(&self) -> Locked<'_> {
        Locked { world: self.world.lock().unwrap_or_else(PoisonError::into_inner), woken: &self.woken }
    }

    pub async fn call(&self, call: Call) -> Option<Reply> {
        if call.path == "/control" || call.path.starts_with("/control/") {
            return Some(control::http(self, &call));
        }
        let fault = {
            let mut world = self.lock();
            if let Some(outage) = world.faults.outage {
                return outage.reply();
            }
            world.counters.begin(call.method.as_str(), &call.path);
            world.faults.take(&call, &call.path)
        };
        let answer = match fault {
            None => Some(answer(&mut self.lock(), &call)),
            Some(fault) => {
                self.wait(fault.delay_ms + fault.work_ms).await;
                let own = if fault.effect { answer(&mut self.lock(), &call) } else { Reply::empty(StatusCode::OK) };
                self.wait(fault.hold_ms).await;
                fault.answer.apply(own)
            }
        };
        self.lock().counters.end();
        answer
    }

    /// Until so much simulated time is over; control may move it on meanwhile.
    async fn wait(&self, ms: u64) {
        let until = self.lock().clock.after(ms);
        loop {
            let clock = self.lock().clock;
            let Some(pause) = clock.pause(until) else { return };
            tokio::time::sleep(pause).await;
        }
    }
}

fn answer(world: &mut World, call: &Call) -> Reply {
    let path = call.path.trim_end_matches('/');
    let family = if path.starts_with("/vpbx/") {
        Family::Vpbx
    } else if path.starts_with("/cc/md/") {
        Family::Dialogs
    } else {
        return Reply::html(StatusCode::NOT_FOUND, "404 Not Found");
    };
    let Form { fields: form, file } = Form::read(call);
    // Limits and the penalty box are kept per key (§1.5, §1.6); unknown keys share one place, so
    // that they cannot pile up.
    let key = form.get("vpbx_api_key").filter(|key| world.salt(key).is_some()).map_or("", String::as_str);
    if world.over_limit(key, path, family) {
        let status = if world.switches.limit_status { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
        return Reply::json(
            status,
            &json!({"name": "Service Unavailable", "message": "Rate limit exceeded.", "code": 0, "status": 429}),
        );
    }
    let now = world.clock.now_ms();
    if let Some((first, blocked)) = world.penalties.get(key).copied() {
        if now - first >= PENALTY_MS {
            world.penalties.remove(key);
        } else if blocked {
            return Reply::empty(StatusCode::UNAUTHORIZED);
        }
    }
    let request = match request(world, key, call, &form, family, path) {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    let mut body = match method(world, key, path, family, &request, file) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    if world.switches.loose_numbers {
        // The code of success stays a number in today's answers (§1.4).
        let result = body.get("result").cloned();
        let code = body.get("code").cloned();
        loosen(&mut body, &mut 0);
        for (name, kept) in [("result", result), ("code", code)] {
            if let Some(kept) = kept {
                body[name] = kept;
            }
        }
    }
    let id = uuid::Uuid::new_v4().to_string();
    Reply::json(StatusCode::OK, &body).with("x-uuid", id)
}

/// The fields of a call, and the file in it.
#[derive(Default)]
struct Form {
    fields: HashMap<String, String>,
    file: Option<Bytes>,
}

impl Form {
    fn read(call: &Call) -> Self {
        let content_type = call.header("content-type");
        let Some((_, boundary)) = content_type.split_once("boundary=") else {
            return Self { fields: url::form_urlencoded::parse(&call.body).into_owned().collect(), file: None };
        };
        let mut form = Self::default();
        let line = format!("--{}", boundary.trim_matches('"'));
        let mut rest = &call.body[..];
        while let Some(at) = find(rest, line.as_bytes()) {
            let part = &rest[..at];
            rest = &rest[at + line.len()..];
            let Some(end) = find(part, b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&part[..end]).into_owned();
            let content = &part[end + 4..part.len().saturating_sub(2).max(end + 4)];
            let name = head.split("name=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            match name {
                "file" => form.file = Some(Bytes::copy_from_slice(content)),
                // What a form calls json is the request here (MANGO OFFICE API reference, 4).
                "request" => drop(form.fields.insert("json".to_owned(), String::from_utf8_lossy(content).into_owned())),
                name => drop(form.fields.insert(name.to_owned(), String::from_utf8_lossy(content).into_owned())),
            }
        }
        form
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The JSON of a signed form.
fn request(
    world: &mut World,
    key: &str,
    call: &Call,
    form: &HashMap<String, String>,
    family: Family,
    path: &str,
) -> Result<Value, Reply> {
    if call.method != Method::POST {
        return Err(world.failure(key, family, path, 3101, "The request is not POST"));
    }
    let content_type = call.header("content-type").to_ascii_lowercase();
    let is_file = content_type.starts_with("multipart/form-data") && path.ends_with("/send_message");
    if !is_file && !content_type.starts_with("application/x-www-form-urlencoded") {
        return Err(world.failure(key, family, path, 3103, "A required parameter is missing"));
    }
    let (Some(given), Some(signature), Some(json)) = (form.get("vpbx_api_key"), form.get("sign"), form.get("json"))
    else {
        return Err(world.failure(key, family, path, 3103, "A required parameter is missing"));
    };
    let Some(salt) = world.salt(given).map(str::to_owned) else {
        let code = if family == Family::Vpbx { 3105 } else { 3100 };
        return Err(world.failure(key, family, path, code, "Authorization failed"));
    };
    let is_taken = !is_file || world.switches.multipart_signed_as_forms;
    if !is_taken || *signature != sign(key, json.as_bytes(), &salt) {
        let code = if family == Family::Vpbx { 3102 } else { 3100 };
        return Err(world.failure(key, family, path, code, "Authorization failed"));
    }
    match serde_json::from_str::<Value>(json) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err(world.failure(key, family, path, 3104, "A parameter has a wrong format")),
        Err(_) => Err(world.failure(key, family, path, 3400, "Malformed JSON")),
    }
}

fn method(
    world: &mut World,
    key: &str,
    path: &str,
    family: Family,
    request: &Value,
    file: Option<Bytes>,
) -> Result<Value, Reply> {
    let wrong = |world: &mut World| Err(world.failure(key, family, path, 3104, "A parameter has a wrong format"));
    match path {
        "/vpbx/config/users/request" => {
            let ext = match &request["ext_fields"] {
                Value::Null => Some(Vec::new()),
                Value::Array(list) => list.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
                _ => None,
            };
            let Some(ext) = ext else { return wrong(world) };
            if ext.iter().any(|field| !EXT_FIELDS.contains(field)) {
                return wrong(world);
            }
            match &request["extension"] {
                Value::Null => Ok(world.account.users(None, &ext)),
                Value::String(extension) => Ok(world.account.users(Some(extension), &ext)),
                _ => wrong(world),
            }
        }
        "/vpbx/groups" => {
            let ids = ["group_id", "operator_id", "show_users"];
            if ids.iter().any(|name| !request[name].is_null() && request[name].as_i64().is_none()) {
                return wrong(world);
            }
            let listed = world.account.group_list(
                request["group_id"].as_i64(),
                request["operator_id"].as_i64(),
                request["operator_extension"].as_str(),
                request["show_users"] == 1,
            );
            listed.ok_or_else(|| world.failure(key, family, path, 3300, "The object does not exist"))
        }
        "/vpbx/account/balance" => Ok(json!({"result": 1000, "balance": world.account.balance, "currency": "RUB",
            "response_at": "2026-08-01 12:00:00"})),
        "/cc/md/widgets" | "/cc/md/sessions" => {
            if !request["id"].is_string() {
                return Err(world.failure(key, family, path, 3100, "id is required"));
            }
            let mut body = json!({"name": "OK", "status": 200, "code": 1000});
            if path == "/cc/md/sessions" {
                if let (Value::Object(body), Value::Object(open)) = (&mut body, world.dialogs.open_sessions(request)) {
                    body.extend(open);
                }
                return Ok(body);
            }
            let wanted = request["widget_id"].as_i64();
            let widgets: Vec<Value> = world
                .account
                .widgets
                .iter()
                .filter(|widget| wanted.is_none_or(|id| widget["widget_id"] == id))
                .cloned()
                .collect();
            if !widgets.is_empty() {
                body["widgets"] = json!(widgets);
            }
            Ok(body)
        }
        "/cc/md/session/create"
        | "/cc/md/session/take"
        | "/cc/md/session/transfer"
        | "/cc/md/session/close"
        | "/cc/md/session/chat/send_message"
        | "/cc/md/session/chat/history" => {
            if !request["id"].is_string() {
                return Err(world.failure(key, family, path, 3100, "id is required"));
            }
            let now = world.clock.now_ms();
            let method = path.trim_start_matches("/cc/md/session/");
            let World { dialogs, account, switches, .. } = world;
            match dialogs.call(account, switches, method, request, file, now) {
                Ok(answer) => {
                    let mut body = json!({"name": "OK", "status": 200, "code": 1000});
                    if let (Value::Object(body), Value::Object(answer)) = (&mut body, answer) {
                        body.extend(answer);
                    }
                    Ok(body)
                }
                Err(text) => Err(world.failure(key, family, path, 5000, text)),
            }
        }
        _ if world.switches.unknown_path_punished => Err(world.failure(key, family, path, 3000, "Bad request")),
        _ => Err(Reply::html(StatusCode::NOT_FOUND, "404 Not Found")),
    }
}
