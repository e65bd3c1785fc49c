//! The site as a whole: its state behind one lock, and the way of a call through outage, faults,
//! sign-in and the services.
//!
//! Owns: [`World`], the dispatch by path, the order fault -> sign-in -> work -> answer, the ticker,
//! and the hints to `NotifyUrl`. No lock is held across an await.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::auth::{self, Auth, Caller, Login};
use super::chat::{Agent, Message};
use super::installer::Installer;
use super::outbox::OutboxState;
use super::package::{self, Begin, PackageState};
use super::schema;
use super::store::{Db, Row};
use super::{Options, Switches, control, odata, services};
use crate::floor::faults::{Counters, Fault, Faults, Outage};
use crate::floor::wire::{Call, Clock, Reply};

/// Everything that the site holds.
pub(super) struct World {
    pub options: Options,
    pub switches: Switches,
    pub clock: Clock,
    pub url: String,
    pub db: Db,
    pub auth: Auth,
    /// The technical user, who alone may read `MaxOutbox`.
    pub technical: Uuid,
    /// Who else has the operation CanUseMaxChannel, without which the package's service is closed.
    pub admitted: HashSet<Uuid>,
    pub agents: HashMap<Uuid, Agent>,
    /// The raw table of live messages, in the order of storing.
    pub messages: Vec<Message>,
    pub messages_of_chat: HashMap<Uuid, Vec<usize>>,
    /// Contacts by channel and sender: the cache of `InternalReceive`.
    pub bound: HashMap<(Uuid, String), Uuid>,
    /// Bytes of files; a file of an agent appears when his request has ended.
    pub files: HashMap<Uuid, bytes::Bytes>,
    pub late_files: Vec<(i64, Uuid, Row, bytes::Bytes)>,
    pub uploads: HashMap<Uuid, Vec<u8>>,
    pub outbox: OutboxState,
    pub package: PackageState,
    pub package_installed: bool,
    pub installer: Installer,
    pub denied: Vec<String>,
    /// Rows that the technical user may not see, although others of their object.
    pub hidden: HashSet<Uuid>,
    /// What OData shows in the place of a row's column, as raw JSON.
    pub spoiled: HashMap<(Uuid, String), String>,
    pub faults: Faults,
    pub counters: Counters,
    pub violations: Vec<Value>,
    /// Grows with each restart: work begun before it is lost.
    pub generation: u64,
    pub hints: Vec<(String, Value)>,
}

impl World {
    fn new(options: Options) -> Self {
        let technical = Uuid::new_v4();
        let mut world = Self {
            switches: options.switches.clone(),
            clock: match options.starts_at {
                Some(base_ms) => Clock::starting_at(base_ms, options.time_scale),
                None => Clock::new(options.time_scale),
            },
            options,
            url: String::new(),
            db: Db::default(),
            auth: Auth::default(),
            technical,
            admitted: HashSet::new(),
            agents: HashMap::new(),
            messages: Vec::new(),
            messages_of_chat: HashMap::new(),
            bound: HashMap::new(),
            files: HashMap::new(),
            late_files: Vec::new(),
            uploads: HashMap::new(),
            outbox: OutboxState::default(),
            package: PackageState::default(),
            package_installed: true,
            installer: Installer::default(),
            denied: Vec::new(),
            hidden: HashSet::new(),
            spoiled: HashMap::new(),
            faults: Faults::default(),
            counters: Counters::default(),
            violations: Vec::new(),
            generation: 0,
            hints: Vec::new(),
        };
        world.preload();
        world
    }

    /// The rows that every site has, and those that come with the package.
    fn preload(&mut self) {
        let statuses = [
            (schema::WAITING, "Waiting for processing"),
            (schema::IN_PROGRESS, "In progress"),
            (schema::COMPLETED, "Completed"),
            (schema::BOT_PROCESSING, "Processed by bot"),
        ];
        for (id, name) in statuses {
            self.must_insert("OmnichannelChatStatus", json!({"Id": id, "Name": name}));
        }
        for (id, code) in [(schema::FOR_EVERYONE, "ForEveryone"), (schema::FOR_FREE, "ForFree")] {
            self.must_insert("OperatorRoutingRules", json!({"Id": id, "Name": code, "Code": code}));
        }
        for (id, name) in [(schema::PROVIDER_MAX, "MAX"), (schema::PROVIDER_TELEGRAM, "Telegram")] {
            self.must_insert("ChannelProvider", json!({"Id": id, "Name": name}));
        }
        for (id, code, available) in [
            ("a2922ee1-9bc4-4524-979a-d6e804fc1f56", "Active", true),
            ("314cce15-9847-4db3-b93c-d1e6ea175b23", "Inactive", false),
        ] {
            self.must_insert(
                "OperatorState",
                json!({"Id": id, "Name": code, "Code": code, "OperatorAvailable": available}),
            );
        }
        let contact = self.must_insert("Contact", json!({"Name": self.options.login}));
        let row = json!({"Id": self.technical, "Name": self.options.login, "SysAdminUnitTypeValue": 4, "Active": true, "ContactId": contact});
        self.must_insert("SysAdminUnit", row);
        let login =
            Login { password: self.options.password.clone(), user: self.technical, wrong: 0, must_change: false };
        self.auth.logins.insert(self.options.login.to_lowercase(), login);
        self.auth.clients.insert(self.options.client_id.clone(), (self.options.client_secret.clone(), self.technical));
    }

    /// Adds a row that cannot be refused: its columns are given in stored form by this crate.
    pub fn must_insert(&mut self, entity: &str, row: Value) -> Uuid {
        let Value::Object(row) = row else { return Uuid::nil() };
        self.insert(entity, row).unwrap_or_default()
    }

    /// Adds a row in stored form, made now by the technical user.
    pub fn insert(&mut self, entity: &str, row: Row) -> Option<Uuid> {
        let entity = schema::entity(entity)?;
        let now = self.now_us();
        self.db.insert(entity, row, now, self.technical).ok()
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub fn now_us(&self) -> i64 {
        self.clock.now_ms().saturating_mul(1000)
    }

    pub fn violation(&mut self, rule: &str, sender: &str, detail: impl Into<String>) {
        let at = self.now_ms();
        self.violations.push(json!({"atMs": at, "rule": rule, "sender": sender, "detail": detail.into()}));
    }

    /// Sessions, memory queues and the work under way are lost; what is in the database stays.
    pub fn restart(&mut self) {
        self.generation += 1;
        self.auth.expire_sessions();
        self.package.restart();
        self.uploads.clear();
    }

    /// What time has brought about: late rows, ended requests, the minute job that closes chats.
    pub fn catch_up(&mut self) {
        self.end_agent_requests();
        self.show_late_rows();
        self.close_by_time();
        self.redistribute();
    }
}

/// The site's state and its calls.
pub(super) struct Site {
    world: Mutex<World>,
    hints: Option<reqwest::Client>,
    work: Duration,
}

/// Where a call goes, its prefix taken off.
struct Target {
    path: String,
    /// The path has the prefix of this runtime, or needs none.
    right: bool,
    prefixed: bool,
}

impl Site {
    /// `hints`: they leave over the network.
    pub fn new(options: Options, hints: bool) -> Self {
        let work = Duration::from_millis(options.work_ms);
        // Without a TLS provider no client can be built, and then no hints leave.
        let client = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(crate::floor::loopback_tls())
                .no_proxy()
                .timeout(Duration::from_secs(2))
                .redirect(reqwest::redirect::Policy::none())
                .build()
        };
        let hints = hints.then(client).and_then(Result::ok);
        Self { world: Mutex::new(World::new(options)), hints, work }
    }

    pub fn set_url(&self, url: String) {
        self.lock().url = url;
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `action` on the state that is right for now, then sends the hints that it gave rise to.
    pub fn with<T>(&self, action: impl FnOnce(&mut World) -> T) -> T {
        let (result, hints, secret) = {
            let mut world = self.lock();
            world.catch_up();
            let result = action(&mut world);
            world.show_late_rows();
            (result, std::mem::take(&mut world.hints), world.options.notify_secret.clone())
        };
        if let Some(client) = self.hints.as_ref().filter(|_| !hints.is_empty())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            for (url, body) in hints {
                let request = client
                    .post(url)
                    .header("authorization", format!("Bearer {secret}"))
                    .header("content-type", "application/json")
                    .body(body.to_string());
                // Two seconds, no retry: a hint may be lost (package contract, "Optional hint").
                runtime.spawn(async move { drop(request.send().await) });
            }
        }
        result
    }

    /// A call to the Identity Service.
    pub async fn identity(&self, call: Call) -> Option<Reply> {
        let fault = {
            let mut world = self.lock();
            if let Some(outage) = world.faults.outage {
                return outage.reply();
            }
            world.counters.begin(call.method.as_str(), &call.path);
            world.faults.take(&call, &call.path)
        };
        let answer = self
            .through(fault.as_ref(), || {
                self.with(|world| {
                    if call.method == Method::POST && call.path == "/connect/token" {
                        let (switches, now, scale) = (world.switches.clone(), world.now_ms(), world.options.time_scale);
                        return Some(world.auth.token(&call, &switches, now, scale));
                    }
                    Some(Reply::html(StatusCode::NOT_FOUND, "404 Not Found"))
                })
            })
            .await;
        self.lock().counters.end();
        answer
    }

    /// A call to the site.
    pub async fn crm(&self, call: Call) -> Option<Reply> {
        if call.path == "/control" || call.path.starts_with("/control/") {
            return Some(control::http(self, &call));
        }
        let (target, fault, generation) = {
            let mut world = self.lock();
            if let Some(outage) = world.faults.outage {
                return outage.reply();
            }
            if world.is_restarting() {
                return Outage::Unavailable.reply();
            }
            let target = target(&call.path, world.options.runtime);
            world.counters.begin(call.method.as_str(), &target.path);
            let fault = world.faults.take(&call, &target.path);
            (target, fault, world.generation)
        };
        let answer = self.answer(&call, &target, fault.as_ref(), generation).await;
        self.lock().counters.end();
        answer
    }

    /// Delay, effect, hold and the disguise of the answer.
    async fn through(&self, fault: Option<&Fault>, effect: impl FnOnce() -> Option<Reply>) -> Option<Reply> {
        let Some(fault) = fault else { return effect() };
        self.wait(fault.delay_ms + fault.work_ms).await;
        let own = if fault.effect { effect()? } else { Reply::empty(StatusCode::OK) };
        self.wait(fault.hold_ms).await;
        fault.answer.apply(own)
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

    async fn answer(&self, call: &Call, target: &Target, fault: Option<&Fault>, generation: u64) -> Option<Reply> {
        let name = target.path.to_ascii_lowercase();
        let method = match name.as_str() {
            "/rest/maxchannelservice/receive" => Some(package::Method::Receive),
            "/rest/maxchannelservice/handover" => Some(package::Method::HandOver),
            _ => None,
        };
        let Some(method) = method.filter(|_| target.right) else {
            if !self.work.is_zero() {
                tokio::time::sleep(self.work).await;
            }
            let reply = self.through(fault, || {
                self.with(|world| (world.generation == generation).then(|| dispatch(world, call, target)))
            });
            return reply.await;
        };
        let quiet = Fault::default();
        let fault = fault.unwrap_or(&quiet);
        self.wait(fault.delay_ms).await;
        if !fault.effect {
            self.wait(fault.hold_ms).await;
            return fault.answer.apply(Reply::empty(StatusCode::OK));
        }
        let begun = self.with(|world| {
            if world.generation != generation {
                return None;
            }
            Some(match entry(world, call, target) {
                Err(refusal) => (Begin::Answer(refusal), Vec::new(), None),
                Ok(caller) => {
                    let (begin, flight) = match package::denied(world, caller.user, "") {
                        Some(refusal) => (Begin::Answer(refusal), None),
                        None => package::begin(world, method, call),
                    };
                    (begin, caller.cookies, flight)
                }
            })
        })?;
        let (first, cookies, flight) = begun;
        let own = match first {
            Begin::Answer(reply) => Some(reply),
            Begin::Work(work) => {
                if !self.work.is_zero() {
                    tokio::time::sleep(self.work).await;
                }
                self.wait(fault.work_ms).await;
                self.with(|world| (world.generation == generation).then(|| package::finish(world, work)))
            }
        };
        self.wait(fault.hold_ms).await;
        if let Some(flight) = flight {
            self.lock().package.land(&flight);
        }
        fault.answer.apply(cookies.into_iter().fold(own?, |reply, cookie| reply.with("set-cookie", cookie)))
    }
}

/// Moves the site on even when nobody calls.
pub(super) fn tick(site: Arc<Site>, every: Duration) -> tokio_util::sync::DropGuard {
    let stop = tokio_util::sync::CancellationToken::new();
    let guard = stop.clone().drop_guard();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => site.with(|_| ()),
            }
        }
    });
    guard
}

fn target(path: &str, runtime: super::Runtime) -> Target {
    let (prefixed, rest) = match path.strip_prefix("/0") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => (true, rest),
        _ => (false, path),
    };
    Target {
        path: rest.trim_end_matches('/').to_owned(),
        right: prefixed == (runtime == super::Runtime::Framework),
        prefixed,
    }
}

/// Who calls; the refusal where nobody is signed in.
fn entry(world: &mut World, call: &Call, target: &Target) -> Result<Caller, Reply> {
    if !world.package_installed && target.path.to_ascii_lowercase().contains("/maxchannelservice/") {
        return Err(not_found());
    }
    let (runtime, switches, now) = (world.options.runtime, world.switches.clone(), world.now_ms());
    world.auth.caller(call, runtime, &switches, now)
}

pub(super) fn not_found() -> Reply {
    Reply::html(StatusCode::NOT_FOUND, "404 - File or directory not found.")
}

fn dispatch(world: &mut World, call: &Call, target: &Target) -> Reply {
    let path = target.path.as_str();
    let lower = path.to_ascii_lowercase();
    if lower.starts_with("/servicemodel/authservice.svc/") {
        // Always at the root, whatever the runtime (Creatio API reference, 1.1).
        if target.prefixed {
            return Reply::html(StatusCode::UNAUTHORIZED, "401 Unauthorized");
        }
        if lower != "/servicemodel/authservice.svc/login" || call.method != Method::POST {
            return Reply::html(StatusCode::FORBIDDEN, "403 Forbidden");
        }
        let (runtime, switches, now) = (world.options.runtime, world.switches.clone(), world.now_ms());
        return world.auth.login(call, runtime, &switches, now);
    }
    if lower == "/connect/token" {
        let status = if world.switches.token_page_at_crm { StatusCode::OK } else { StatusCode::NOT_FOUND };
        return Reply::html(status, "Creatio");
    }
    if path.is_empty() {
        return Reply::empty(StatusCode::FOUND).with("location", auth::login_path(world.options.runtime));
    }
    if !target.right {
        return not_found();
    }
    match lower.as_str() {
        "/api/healthcheck/ping" => return Reply::body(StatusCode::OK, "text/plain", "Pong"),
        "/login/login.html" | "/login/nuilogin.aspx" => return Reply::html(StatusCode::OK, "Creatio - Login"),
        _ => {}
    }
    let known = ["/odata", "/rest/", "/servicemodel/", "/dataservice/"].iter().any(|start| lower.starts_with(start));
    if !known {
        return not_found();
    }
    let caller = match entry(world, call, target) {
        Ok(caller) => caller,
        Err(refusal) => return refusal,
    };
    let reply = if lower == "/odata" || lower.starts_with("/odata/") {
        odata::http(world, call, path.get("/odata".len()..).unwrap_or(""), caller.user)
    } else if let Some(method) = lower.strip_prefix("/rest/maxchannelservice/") {
        package::denied(world, caller.user, method).unwrap_or_else(|| package::plain(world, call, method))
    } else {
        services::http(world, call, &lower, path, caller.user)
    };
    caller.cookies.into_iter().fold(reply, |reply, cookie| reply.with("set-cookie", cookie))
}
