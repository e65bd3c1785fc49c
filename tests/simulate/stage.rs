//! The relay between the simulators, without a network and in the time of a paused runtime:
//! what happens here happens at once, and time moves only while everybody waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use maxchannel::contract::config::{BotConfig, MangoConfig, MangoEmployee, RelayConfig};
use maxchannel::contract::webhook;
use maxchannel::creatio::Runtime;
use maxchannel::relay::{Ground, Relay};
use maxchannel::time::{Clock, ManualClock};
use maxchannel::transport::{Options, Request, Response, Transport, TransportError};
use maxchannel_simulator::connection::{Connection, Inbound, ToMax};
use maxchannel_simulator::{creatio, mango, max};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::bot::Bot;
use crate::plan::{Habits, Setting, Way};
use crate::random::Random;
use crate::relay_config::{TOKEN, WEBHOOK_SECRET, relay_config};

/// What MAX waits for long (repeats after 60 s and more, the end of a subscription after 8 h) is so
/// much shorter here.
const SCALE: f64 = 20.0;
/// A Monday at noon in Moscow.
pub const BEGINNING: i64 = 1_796_634_000_000;
const CONTROLLER_INTERVAL: Duration = Duration::from_secs(45);
/// The agents as employees of MANGO OFFICE, and one more, who works in MANGO's own desk only.
const EMPLOYEES: [i64; 2] = [300_052_407, 300_052_408];
pub const AT_THE_DESK: i64 = 300_052_409;

/// The ways between the relay and the outside.
pub struct Network {
    max: Arc<max::Simulator>,
    mango: Option<Arc<mango::Simulator>>,
    crm: Arc<creatio::Simulator>,
    pub bot: Bot,
    slowest: u64,
    random: Mutex<Random>,
    /// Or MANGO OFFICE, where that is the way.
    pub max_unreachable: AtomicBool,
    pub crm_unreachable: AtomicBool,
    /// What asking has brought, with the time.
    pub polled: Mutex<Vec<(tokio::time::Instant, bytes::Bytes)>>,
}

impl Network {
    async fn way(&self) {
        let millis = self.random.lock().unwrap().below(self.slowest);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    async fn exchange(&self, request: Request) -> Result<Response, TransportError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let mango = self.mango.as_ref().filter(|_| host.starts_with("mango."));
        let is_max = host.starts_with("max.");
        self.way().await;
        if host.starts_with("bot.") {
            let answer = self.bot.call(request).await;
            self.way().await;
            return Ok(answer);
        }
        let is_way = if self.mango.is_some() { mango.is_some() } else { is_max };
        let unreachable = if is_way { &self.max_unreachable } else { &self.crm_unreachable };
        let is_away = is_way || !is_max;
        if is_away && unreachable.load(Ordering::Relaxed) {
            return Err(TransportError::NotSent { host, reason: "connection refused".to_owned() });
        }
        let path = request.uri().path();
        let is_poll = (is_max && path == "/updates") || (mango.is_some() && path.ends_with("/history"));
        let answer = match mango {
            Some(mango) => mango.call(request).await,
            None if is_max => self.max.call(request).await,
            None => self.crm.call(request).await,
        };
        self.way().await;
        if let Some(answer) = answer.as_ref().filter(|_| is_poll) {
            self.polled.lock().unwrap().push((tokio::time::Instant::now(), answer.body().clone()));
        }
        answer.ok_or(TransportError::Lost { host, reason: "connection reset".to_owned() })
    }
}

/// What the relay is given as its transport.
struct Wire(Arc<Network>);

impl Transport for Wire {
    fn send(&self, request: Request, options: Options) -> BoxFuture<'_, Result<Response, TransportError>> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        Box::pin(async move {
            match tokio::time::timeout(options.timeout, self.0.exchange(request)).await {
                Ok(Ok(answer)) if answer.body().len() > options.max_answer => {
                    Err(TransportError::TooLarge { host, limit: options.max_answer })
                }
                Ok(answer) => answer,
                Err(_) => Err(TransportError::Lost { host, reason: "no answer in time".to_owned() }),
            }
        })
    }
}

/// A call to the relay.
#[derive(Clone)]
enum Call {
    OfMax(max::WebhookCall),
    OfMango(mango::WebhookCall),
}

impl Call {
    fn body(&self) -> &bytes::Bytes {
        match self {
            Self::OfMax(call) => &call.body,
            Self::OfMango(call) => &call.body,
        }
    }

    /// What it says, without the form in which it comes.
    fn words(&self) -> Vec<u8> {
        let body = self.body();
        let is_form = matches!(self, Self::OfMango(_)) && body.starts_with(b"vpbx_api_key=");
        let json = url::form_urlencoded::parse(body).find(|(name, _)| is_form && name == "json");
        json.map_or_else(|| body.to_vec(), |(_, json)| json.into_owned().into_bytes())
    }

    async fn bring_to(&self, relay: &Relay) -> u16 {
        let status = match self {
            Self::OfMax(call) => {
                let shown = call.url.rsplit('/').next().unwrap_or_default();
                relay.webhook(shown, call.secret.as_deref(), &call.body).await
            }
            Self::OfMango(call) => relay.mango_webhook(None, &call.body).await,
        };
        status.as_u16()
    }
}

/// Where the calls of MAX, or of MANGO OFFICE, reach the relay.
pub struct Door {
    relay: Mutex<Option<Relay>>,
    /// Grows when a relay ends: its connections are reset.
    ended: watch::Sender<u32>,
    pub hang_ups: AtomicU32,
    pub lost_answers: AtomicU32,
    /// The relay is killed when a body with this text is answered.
    pub deadly: Mutex<Option<String>>,
    random: Mutex<Random>,
    /// What was said in calls that were answered 200, with the time.
    pub acknowledged: Mutex<HashMap<Vec<u8>, tokio::time::Instant>>,
    /// Every call that came, in its order.
    seen: Mutex<Vec<Call>>,
}

impl Door {
    async fn take(&self, call: Call) -> Result<u16, String> {
        let (before, after, patience) = {
            let mut random = self.random.lock().unwrap();
            (random.below(20), random.below(20), random.below(4))
        };
        tokio::time::sleep(Duration::from_millis(before)).await;
        let Some(relay) = self.relay.lock().unwrap().clone() else { return Err("connection refused".to_owned()) };
        let mut ended = self.ended.subscribe();
        self.seen.lock().unwrap().push(call.clone());
        let patience = (take_one(&self.hang_ups)).then_some(Duration::from_millis(patience));
        let hung_up = async {
            match patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        let status = tokio::select! {
            biased;
            _ = ended.changed() => return Err("connection reset".to_owned()),
            status = call.bring_to(&relay) => status,
            () = hung_up => return Err("hung up".to_owned()),
        };
        // From here on whoever called may believe that it was taken, or not.
        if status == 200 {
            let words = call.words();
            let text = String::from_utf8_lossy(&words).into_owned();
            self.acknowledged.lock().unwrap().entry(words).or_insert_with(tokio::time::Instant::now);
            let kills = self.deadly.lock().unwrap().take_if(|deadly| text.contains(deadly.as_str())).is_some();
            if kills {
                self.relay.lock().unwrap().take();
                relay.kill().await;
                self.ended.send_modify(|ended| *ended += 1);
                return Ok(status);
            }
        }
        tokio::time::sleep(Duration::from_millis(after)).await;
        if take_one(&self.lost_answers) {
            return Err("the answer was lost".to_owned());
        }
        Ok(status)
    }
}

fn take_one(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1)).is_ok()
}

pub struct Stage {
    pub max: Arc<max::Simulator>,
    /// Where it is the way.
    pub mango: Option<Arc<mango::Simulator>>,
    /// What customers write on its way to MANGO OFFICE.
    inbound: Mutex<Option<Inbound>>,
    pub crm: Arc<creatio::Simulator>,
    pub network: Arc<Network>,
    pub door: Arc<Door>,
    pub bot: i64,
    pub agents: [Uuid; 2],
    setting: Setting,
    data: tempfile::TempDir,
    started: tokio::time::Instant,
    /// How far the relay's wall clock is ahead.
    ahead: i64,
    manual: ManualClock,
}

impl Stage {
    pub async fn new(setting: Setting, seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5EED);
        let mut switches = if setting.hard { creatio::Switches::default() } else { creatio::Switches::friendly() };
        switches.lock_user_after = 0;
        let crm = Arc::new(creatio::Simulator::inside(creatio::Options {
            switches,
            starts_at: Some(BEGINNING),
            ..creatio::Options::default()
        }));
        let door = Arc::new(Door {
            relay: Mutex::new(None),
            ended: watch::Sender::new(0),
            hang_ups: AtomicU32::new(0),
            lost_answers: AtomicU32::new(0),
            deadly: Mutex::default(),
            random: Mutex::new(Random::new(random.next())),
            acknowledged: Mutex::default(),
            seen: Mutex::default(),
        });
        let mut switches = max::Switches::for_tests();
        if setting.hard {
            switches.echo_own_messages = true;
            switches.extra_fields = true;
            switches.nulls = true;
            switches.not_ready_sends = 1;
            switches.dialog_chat_id_accepted = false;
        }
        switches.dialog_reading_allowed = setting.reading;
        let mango = match setting.way {
            Way::MangoDialogs(habits) => Some(office(habits, setting, &door)),
            Way::Webhook | Way::LongPoll => None,
        };
        if mango.is_some() {
            // MANGO OFFICE has limits of its own.
            switches.chat_per_second = 0;
        }
        if setting.unordered {
            switches.delivery_order = max::DeliveryOrder::Unordered;
        }
        let at = Arc::clone(&door);
        let receiver: max::Receiver = Arc::new(move |call| {
            let door = Arc::clone(&at);
            Box::pin(async move { door.take(Call::OfMax(call)).await })
        });
        let options =
            max::Options { time_scale: SCALE, switches, starts_at: Some(BEGINNING), ..max::Options::default() };
        let max = Arc::new(max::Simulator::inside(options, receiver));
        let bot = max.control().create_bot(max::NewBot::new("Служба поддержки", TOKEN)).unwrap().user_id;
        let agents = [
            crm.control().add_agent("Иван Агентов", "ivan@example.com"),
            crm.control().add_agent("Мария Агентова", "maria@example.com"),
        ];
        crm.control().add_channel(&format!("max-bot:{bot}"), &agents).unwrap();
        let inbound = mango.as_ref().map(|mango| {
            let (token, max_url) = (TOKEN.to_owned(), max.url());
            let connection = Connection { mango: mango.control(), max: max.control(), max_url, bot, token };
            let (inbound, outgoing) = (connection.inbound(), connection.mango.connect_messenger());
            let at = Arc::clone(&max);
            let to_max: ToMax = Arc::new(move |request| {
                let max = Arc::clone(&at);
                Box::pin(async move { max.call(request).await })
            });
            tokio::spawn(async move { connection.outbound(outgoing, &to_max).await });
            inbound
        });
        let network = Arc::new(Network {
            mango: mango.clone(),
            max: Arc::clone(&max),
            crm: Arc::clone(&crm),
            bot: Bot::new(),
            slowest: setting.slowest,
            random: Mutex::new(Random::new(random.next())),
            max_unreachable: AtomicBool::new(false),
            crm_unreachable: AtomicBool::new(false),
            polled: Mutex::default(),
        });
        let (_, manual) = Clock::of_runtime(BEGINNING);
        let mut stage = Self {
            max,
            mango,
            inbound: Mutex::new(inbound),
            crm,
            network,
            door,
            bot,
            agents,
            setting,
            data: folder(),
            started: tokio::time::Instant::now(),
            ahead: setting.clock_ahead,
            manual,
        };
        stage.run().await;
        stage.look_after_subscription().await;
        stage
    }

    /// The true time.
    pub fn now(&self) -> i64 {
        BEGINNING + i64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    /// The true time of a moment.
    pub fn time_of(&self, moment: tokio::time::Instant) -> i64 {
        BEGINNING + i64::try_from(moment.duration_since(self.started).as_millis()).unwrap()
    }

    pub async fn pass(&self, millis: i64) {
        tokio::time::sleep(Duration::from_millis(millis.unsigned_abs())).await;
    }

    pub fn relay(&self) -> Relay {
        self.door.relay.lock().unwrap().clone().expect("a step leaves a relay running")
    }

    pub async fn run(&mut self) {
        let (clock, manual) = Clock::of_runtime(self.now() + self.ahead);
        self.manual = manual;
        let wire: Arc<dyn Transport> = Arc::new(Wire(Arc::clone(&self.network)));
        let config = self.config();
        let relay = Relay::open_on(Ground::Simulated(wire), config, self.data.path(), clock).await.unwrap();
        *self.door.relay.lock().unwrap() = Some(relay);
    }

    /// Ends the relay, in good order or (`kill`) not.
    pub async fn end(&mut self, kill: bool) {
        // It may have been killed already.
        let Some(relay) = self.door.relay.lock().unwrap().take() else { return };
        if kill {
            self.door.ended.send_modify(|ended| *ended += 1);
            relay.kill().await;
        } else {
            relay.stop().await;
            self.door.ended.send_modify(|ended| *ended += 1);
        }
    }

    /// Ends the relay in the middle of everything and takes its store away.
    pub async fn lose_store(&mut self) {
        self.end(true).await;
        for entry in std::fs::read_dir(self.data.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    /// Somebody sets the relay's machine.
    pub fn set_clock(&mut self, by: i64) {
        self.ahead += by;
        self.manual.set_wall(by);
    }

    /// Whether MAX calls the relay.
    pub fn has_subscription(&self) -> bool {
        self.setting.way == Way::Webhook
    }

    /// What customers have written reaches MANGO OFFICE, where it is the way.
    pub fn carry(&self) {
        if let Some(inbound) = self.inbound.lock().unwrap().as_mut() {
            inbound.carry();
        }
    }

    pub fn folder(&self) -> &std::path::Path {
        self.data.path()
    }

    /// What a controller does with the webhook: makes the subscription where there is none, and
    /// tells the relay of it.
    pub async fn look_after_subscription(&self) {
        if !self.has_subscription() {
            return;
        }
        let url = format!(
            "http://relay.simulator:1/webhooks/max/default/support/{}",
            webhook::fingerprint(&SecretString::from(WEBHOOK_SECRET))
        );
        if self.subscriptions().await.is_none() {
            let body = json!({"url": url, "secret": WEBHOOK_SECRET});
            self.ask_max("POST", "/subscriptions", &body).await;
        }
        let relay = self.door.relay.lock().unwrap().clone();
        if let (Some(relay), Some(at)) = (relay, self.subscriptions().await) {
            relay.subscribed(at).await;
        }
    }

    /// When the subscription was made.
    async fn subscriptions(&self) -> Option<i64> {
        let answer = self.ask_max("GET", "/subscriptions", &Value::Null).await;
        answer["subscriptions"].as_array()?.first()?["time"].as_i64()
    }

    async fn ask_max(&self, method: &str, path: &str, body: &Value) -> Value {
        for _ in 0..20 {
            let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
            let request = http::Request::builder()
                .method(method)
                .uri(format!("{}{path}", self.max.url()))
                .header("Authorization", TOKEN)
                .header("Content-Type", "application/json")
                .body(body.into())
                .unwrap();
            // A fault may be meant for somebody else.
            let asked = tokio::time::timeout(Duration::from_secs(5), self.max.call(request));
            if let Ok(Some(answer)) = asked.await
                && answer.status() == 200
            {
                return serde_json::from_slice(answer.body()).unwrap_or_default();
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        Value::Null
    }

    /// Lets time pass while a controller looks every now and then.
    pub async fn pass_under_control(&self, millis: i64) {
        let until = tokio::time::Instant::now() + Duration::from_millis(millis.unsigned_abs());
        loop {
            let next = tokio::time::Instant::now() + CONTROLLER_INTERVAL;
            tokio::time::sleep_until(next.min(until)).await;
            if next > until {
                return;
            }
            self.look_after_subscription().await;
        }
    }

    fn config(&self) -> RelayConfig {
        let mut config = relay_config(&self.max, &self.crm, self.bot);
        config.channel.intake = self.setting.intake();
        if let Some(mango) = &self.mango {
            let employees = self.agents.into_iter().zip(EMPLOYEES);
            config.channel.mango = Some(MangoConfig {
                base_url: mango.url().parse().unwrap(),
                employees: employees.map(|(crm_user, id)| MangoEmployee { crm_user, id }).collect(),
                unsigned_from: Vec::new(),
                sends_files: matches!(self.setting.way, Way::MangoDialogs(Habits { takes_files: true, .. })),
            });
            let account = mango::Options::default();
            config.secrets.mango = Some((account.api_key.into(), account.api_salt.into()));
        }
        config.channel.rules = self.setting.rules();
        config.channel.off_hours_bot = self
            .setting
            .has_bot()
            .then(|| BotConfig { url: "http://bot.simulator".parse().unwrap(), timeout_millis: 5_000 });
        if let Some(creatio) = &mut config.channel.creatio {
            creatio.runtime = Runtime::Net;
            creatio.poll_interval_millis = 3_000;
        }
        config
    }

    /// Brings a call that came before once more, counted from the newest.
    pub async fn bring_again(&self, back: usize) {
        let call = {
            let seen = self.door.seen.lock().unwrap();
            (!seen.is_empty()).then(|| seen[seen.len() - 1 - back % seen.len()].clone())
        };
        if let Some(call) = call {
            // Whatever becomes of it.
            let _ = self.door.take(call).await;
        }
    }

    /// Brings an update as MAX does, past MAX, or an event as MANGO OFFICE does.
    pub async fn bring(&self, body: Vec<u8>) {
        if self.mango.is_some() {
            let account = mango::Options::default();
            let signature = mango::sign(&account.api_key, &body, &account.api_salt);
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("vpbx_api_key", &account.api_key)
                .append_pair("sign", &signature)
                .append_pair("json", &String::from_utf8_lossy(&body))
                .finish();
            let call = mango::WebhookCall { url: String::new(), body: form.into() };
            let _ = self.door.take(Call::OfMango(call)).await;
            return;
        }
        let url = format!(
            "http://relay.simulator:1/webhooks/max/default/support/{}",
            webhook::fingerprint(&SecretString::from(WEBHOOK_SECRET))
        );
        let call = max::WebhookCall { url, secret: Some(WEBHOOK_SECRET.to_owned()), body: body.into() };
        // Whatever becomes of it.
        let _ = self.door.take(Call::OfMax(call)).await;
    }
}

/// The account whose channel of MAX has the bot and is served by the first agent.
fn office(habits: Habits, setting: Setting, door: &Arc<Door>) -> Arc<mango::Simulator> {
    let switches = mango::Switches {
        loose_numbers: setting.hard,
        abonent_offset: if habits.ids_differ { 1_000_000 } else { 0 },
        body_form: habits.form,
        messages_move_time: habits.messages_move_time,
        transfer_tells_close: habits.transfer_tells_close,
        auto_distribution: habits.auto_distribution,
        ..mango::Switches::default()
    };
    let at = Arc::clone(door);
    let receiver: mango::Receiver = Arc::new(move |call| {
        let door = Arc::clone(&at);
        Box::pin(async move { door.take(Call::OfMango(call)).await })
    });
    let options = mango::Options { switches, starts_at: Some(BEGINNING), ..mango::Options::default() };
    let mango = mango::Simulator::inside(options, receiver);
    let control = mango.control();
    for (user_id, name) in EMPLOYEES.into_iter().chain([AT_THE_DESK]).zip(["Иван", "Мария", "Ольга"]) {
        control.put_employee(mango::Employee { user_id, name: name.to_owned(), ..mango::Employee::default() });
    }
    control.max_channel_for_employee(EMPLOYEES[0]);
    control.set_webhook(habits.calls.then_some("http://relay.simulator:1/webhooks/mango/default/support"));
    if setting.unordered {
        control.event_faults(mango::EventFaults { swap: u32::MAX, ..mango::EventFaults::default() });
    }
    Arc::new(mango)
}

/// The store's folder, in memory where the machine has a place for that.
fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}
