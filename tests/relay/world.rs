//! A relay between two simulators. Its clock stands still but for what a test lets pass:
//! [`World::pass`] days, and every look of [`World::until`] a moment.

use std::time::Duration;

use maxchannel::contract::config::{BotConfig, Intake, MangoConfig, MangoEmployee, RelayConfig, Source};
use maxchannel::contract::webhook;
use maxchannel::policy::{Receiver, Rules};
use maxchannel::relay::Relay;
use maxchannel::relay::http::{Relays, router, serve};
use maxchannel::time::Clock;
use maxchannel::time::ManualClock;
use maxchannel_simulator::connection::Connection;
use maxchannel_simulator::max::{Fault, Outcome};
use maxchannel_simulator::{creatio, mango, max};
use secrecy::SecretString;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use crate::relay_config::TOKEN;
use crate::relay_config::{WEBHOOK_SECRET, relay_config};

/// How much time passes for the relay between two looks of a test that waits for something.
const MOMENT: i64 = 200;
/// Where MANGO OFFICE takes what is sent to a customer.
const SEND: &str = "/cc/md/session/chat/send_message";
/// How long a test waits for something before it fails, in real time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What stands in the address of the webhook.
fn webhook_fingerprint() -> String {
    webhook::fingerprint(&SecretString::from(WEBHOOK_SECRET))
}

/// Both simulators, one bot, one agent, one customer, and the relay.
pub struct World {
    pub max: max::Simulator,
    pub crm: creatio::Simulator,
    pub bot: i64,
    pub agent: Uuid,
    pub relay: Relay,
    pub relays: Relays,
    clock: Clock,
    data: tempfile::TempDir,
    rules: Rules,
    intake: Intake,
    setup: Setup,
    manual: ManualClock,
    base: String,
    /// Of the settings in force.
    revision: u32,
    /// MANGO OFFICE, where the bot is connected in its cabinet.
    pub mango: Option<mango::Simulator>,
    server: tokio::task::JoinHandle<()>,
    connection: Option<tokio::task::JoinHandle<()>>,
}

/// What only some worlds have.
#[derive(Clone, Default)]
pub struct Setup {
    /// Addresses of bots.
    pub bot: Option<String>,
    pub off_hours_bot: Option<String>,
    pub off_hours_key: Option<String>,
    pub sources: Vec<Source>,
    /// MANGO OFFICE, where the test has it.
    pub at_mango: Option<mango::Control>,
    /// The address of MANGO OFFICE, and who the agents are there.
    pub mango: Option<(String, Vec<MangoEmployee>)>,
    /// Networks from which MANGO OFFICE may call without a signature.
    pub unsigned_from: Vec<String>,
    /// Agents' files do not go through MANGO OFFICE.
    pub keeps_files: bool,
    /// MANGO OFFICE has the bot although it may not be the way in.
    pub is_connected: bool,
    pub bot_timeout_millis: Option<u64>,
    pub retention_seconds: Option<u64>,
    pub poll_interval_millis: Option<u64>,
}

/// What becomes of what is sent to a customer, at MAX or, where that is the way, at MANGO OFFICE.
#[derive(Clone, Copy, Debug)]
pub enum Sends {
    /// It arrives, and the answer is lost.
    AnswerLost,
    /// It is lost with its answer.
    Lost,
    /// Whoever takes it is ill.
    Away,
    /// There are too many.
    Hasty,
    /// They want to be left alone for so many seconds.
    Busy(&'static str),
    /// It arrives, and the answer comes so many milliseconds later.
    Slow(u64),
    /// It is refused for good.
    Refused,
}

impl Sends {
    fn at_max(self) -> Fault {
        let (effect, delay_ms, outcome) = match self {
            Self::AnswerLost => (true, 0, Outcome::Drop),
            Self::Lost => (false, 0, Outcome::Drop),
            Self::Away => (false, 0, Outcome::error(503, "service.unavailable", "")),
            Self::Hasty => (false, 0, Outcome::error(429, "too.many.requests", "made to fail")),
            Self::Busy(after) => (false, 0, Outcome::Busy { status: 429, retry_after: after.to_owned() }),
            Self::Slow(millis) => (true, millis, Outcome::Answer),
            Self::Refused => (false, 0, Outcome::error(400, "proto.payload", "invented refusal")),
        };
        let (method, path) = (Some("POST".to_owned()), Some("/messages".to_owned()));
        Fault { method, path, effect, delay_ms, outcome, ..Fault::default() }
    }

    fn at_mango(self) -> mango::Fault {
        let (effect, hold_ms, answer) = match self {
            Self::AnswerLost => (true, 0, mango::Answer::Drop),
            Self::Lost => (false, 0, mango::Answer::Drop),
            Self::Away => (false, 0, mango::Answer::Empty { status: 503 }),
            Self::Hasty => (false, 0, mango::Answer::Empty { status: 429 }),
            Self::Busy(after) => (false, 0, mango::Answer::Busy { status: 429, retry_after: after.to_owned() }),
            Self::Slow(millis) => (true, millis, mango::Answer::Normal),
            Self::Refused => {
                let body =
                    serde_json::json!({"name": "Error", "status": 200, "code": 5000, "error": "Message not found"});
                (false, 0, mango::Answer::Json { status: 200, body })
            }
        };
        mango::Fault { path: SEND.to_owned(), effect, hold_ms, answer, ..mango::Fault::default() }
    }
}

/// What a customer says who begins a dialog by saying something.
pub const HELLO: &str = "Здравствуйте!";

pub fn quiet_rules() -> Rules {
    Rules { receiver: Receiver::People, ..Rules::default() }
}

impl World {
    pub async fn start(rules: Rules, intake: Intake) -> Self {
        Self::start_with(rules, intake, Setup::default()).await
    }

    pub async fn start_with(rules: Rules, intake: Intake, mut setup: Setup) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let max = max::Simulator::start(max::Options::default()).await.unwrap();
        let crm = creatio::Simulator::start(creatio::Options::default()).await.unwrap();
        let bot = max.control().create_bot(max::NewBot::new("Служба поддержки", TOKEN)).unwrap().user_id;
        let agent = crm.control().add_agent("Иван Агентов", "ivan@example.com");
        crm.control().add_channel(&format!("max-bot:{bot}"), &[agent]).unwrap();
        let (clock, manual) = Clock::manual(jiff::Timestamp::now().as_millisecond());
        let data = tempfile::tempdir().unwrap();
        let relays = Relays::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let app = router(relays.clone());
        let server = tokio::spawn(serve(listener, app, CancellationToken::new()));
        let wants_mango = setup.is_connected || intake == Intake::MangoDialogs;
        let (mut mango, mut connection) = (None, None);
        if wants_mango && setup.mango.is_none() {
            let connected = connect(&max, bot, &base).await;
            setup.mango = Some((connected.0.url(), vec![MangoEmployee { crm_user: agent, id: IVAN }]));
            setup.at_mango = Some(connected.0.control());
            (mango, connection) = (Some(connected.0), Some(connected.1));
        }
        let config = config(&max, &crm, bot, rules.clone(), intake.clone(), &setup, 1);
        let relay = Relay::open(config, data.path(), clock.clone()).await.unwrap();
        relays.insert("default", "support", relay.clone());
        let revision = 1;
        let world = Self {
            max,
            crm,
            bot,
            agent,
            relay,
            relays,
            clock,
            data,
            rules,
            intake,
            setup,
            manual,
            base,
            revision,
            mango,
            server,
            connection,
        };
        if world.intake == Intake::Webhook {
            world.subscribe().await;
        }
        world
    }

    /// Subscribes the relay's webhook at MAX, as a controller does.
    pub async fn subscribe(&self) {
        let url = format!("{}/webhooks/max/default/support/{}", self.base, webhook_fingerprint());
        let body = serde_json::json!({ "url": url, "secret": WEBHOOK_SECRET }).to_string();
        let answer = reqwest::Client::new()
            .post(format!("{}/subscriptions", self.max.url()))
            .header("Authorization", TOKEN)
            .header("Content-Type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        assert!(answer.text().await.unwrap().contains("true"));
    }

    /// Takes the relay's webhook away at MAX, as a controller does.
    async fn unsubscribe(&self) {
        let url = format!("{}/webhooks/max/default/support/{}", self.base, webhook_fingerprint());
        let client = reqwest::Client::new();
        let url = percent_encoding::utf8_percent_encode(&url, percent_encoding::NON_ALPHANUMERIC);
        let call = client.delete(format!("{}/subscriptions?url={url}", self.max.url()));
        let answer = call.header("Authorization", TOKEN).send().await.unwrap();
        assert!(answer.text().await.unwrap().contains("true"));
    }

    /// The bytes of a webhook call as MAX makes it.
    pub fn webhook_call(body: &str) -> Vec<u8> {
        let path = format!("/webhooks/max/default/support/{}", webhook_fingerprint());
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: relay\r\nX-Max-Bot-Api-Secret: {WEBHOOK_SECRET}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }

    /// Where the relay listens, `host:port`.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// Stops the relay and starts another on the same store, or (`wipe`) on an empty one.
    pub async fn restart(&mut self, wipe: bool) {
        self.stop().await;
        if wipe {
            self.data = tempfile::tempdir().unwrap();
        }
        self.run().await;
    }

    /// The volume is lost; the relay must not run.
    pub fn lose_store(&mut self) {
        self.data = tempfile::tempdir().unwrap();
    }

    /// Ends the relay at once, as a process that is killed.
    pub async fn kill(&mut self) {
        self.relays.remove("default", "support");
        self.relay.kill().await;
    }

    pub async fn stop(&mut self) {
        self.relays.remove("default", "support");
        self.relay.stop().await;
    }

    pub async fn run(&mut self) {
        let config = config(&self.max, &self.crm, self.bot, self.rules.clone(), self.intake.clone(), &self.setup, 1);
        let data = self.data.path().to_owned();
        self.relay = Relay::open(config, &data, self.clock.clone()).await.unwrap();
        self.relays.insert("default", "support", self.relay.clone());
    }

    pub async fn apply(&mut self, rules: Rules, revision: u32) {
        self.rules = rules.clone();
        self.revision = revision;
        let config = config(&self.max, &self.crm, self.bot, rules, self.intake.clone(), &self.setup, revision);
        self.relay.apply(config).await.unwrap();
    }

    /// The channel is suspended, or goes on.
    pub async fn suspend(&mut self, is_suspended: bool) {
        self.revision += 1;
        let rules = self.rules.clone();
        let intake = self.intake.clone();
        let mut config = config(&self.max, &self.crm, self.bot, rules, intake, &self.setup, self.revision);
        config.channel.suspended = is_suspended;
        self.relay.apply(config).await.unwrap();
    }

    /// Messages come another way from now on; what a controller does about it at MAX is done.
    pub async fn switch(&mut self, intake: Intake) {
        let before = std::mem::replace(&mut self.intake, intake);
        let revision = self.revision + 1;
        self.apply(self.rules.clone(), revision).await;
        if before == Intake::Webhook {
            self.unsubscribe().await;
        }
        if self.intake == Intake::Webhook {
            self.subscribe().await;
            self.relay.subscribed(self.now()).await;
        }
    }

    /// Who the agents are at MANGO OFFICE; takes effect with the next settings.
    pub fn set_mango(&mut self, url: String, employees: Vec<MangoEmployee>) {
        self.setup.mango = Some((url, employees));
    }

    /// How often the CRM is looked at; takes effect with the next settings.
    pub fn set_poll_interval(&mut self, millis: u64) {
        self.setup.poll_interval_millis = Some(millis);
    }

    /// From where MANGO OFFICE may call without a signature; takes effect with the next settings.
    pub fn set_unsigned_from(&mut self, networks: &[&str]) {
        self.setup.unsigned_from = networks.iter().map(|network| (*network).to_owned()).collect();
    }

    /// The channel's data folder.
    pub fn data_dir(&self) -> &std::path::Path {
        self.data.path()
    }

    /// The relay's time.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// So much time passes for the relay, in steps that leave its timers their turn: a day takes a
    /// second or two.
    pub async fn pass(&self, millis: i64) {
        const STEP: i64 = 60_000;
        let until = self.clock.now() + millis;
        while self.clock.now() < until {
            self.manual.advance_to((self.clock.now() + STEP).min(until));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A moment passes for the relay, and as much for the calls under way as they need in truth.
    pub async fn moment(&self) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.manual.advance_to(self.clock.now() + MOMENT);
    }

    /// The relay's clock stands at `at` at once, as after a night in which nothing happened.
    pub fn jump_to(&self, at: i64) {
        self.manual.advance_to(at);
    }

    /// Somebody sets the relay's machine to another time: forwards, or (negative) back.
    pub fn set_wall(&self, by: i64) {
        self.manual.set_wall(by);
    }

    pub fn customer(&self, name: &str) -> Customer {
        let id = self.max.control().create_user(max::NewUser::named(name)).unwrap();
        let chat = self.max.control().start(id, self.bot).unwrap();
        Customer { id, chat, sender: format!("max:{id}") }
    }

    /// A customer who begins a dialog: by pressing start, or, where nobody tells of that, by saying
    /// [`HELLO`].
    pub fn begins(&self, name: &str) -> Customer {
        let customer = self.customer(name);
        if self.intake == Intake::MangoDialogs {
            self.say(&customer, HELLO);
        }
        customer
    }

    /// What a bot hears of a dialog that began so.
    pub fn beginning(&self) -> &'static str {
        if self.intake == Intake::MangoDialogs { HELLO } else { "/start" }
    }

    /// How many messages the agents have of a dialog that only began.
    pub fn words_of_beginning(&self) -> usize {
        usize::from(self.intake == Intake::MangoDialogs)
    }

    /// What becomes of the next `times` sends to customers behind the next `skip`; 0: of all.
    pub fn sends(&self, what: Sends, skip: u32, times: u32) {
        match self.way_by_mango() {
            Some(mango) => {
                let count = if times == 0 { u32::MAX } else { times };
                mango.fault(mango::Fault { skip, count, ..what.at_mango() });
            }
            None => self.max.control().add_fault(Fault { skip, times, ..what.at_max() }),
        }
    }

    /// Nothing is in the way of what is sent any more.
    pub fn sends_are_well(&self) {
        self.max.control().clear_faults();
        if let Some(mango) = &self.setup.at_mango {
            mango.clear_faults();
        }
    }

    /// MANGO OFFICE, where it is the way.
    fn way_by_mango(&self) -> Option<&mango::Control> {
        self.setup.at_mango.as_ref().filter(|_| self.intake == Intake::MangoDialogs)
    }

    /// Sends that have come so far.
    pub fn sends_seen(&self) -> u64 {
        if let Some(mango) = self.way_by_mango() {
            return mango.counters()["calls"][format!("POST {SEND}")].as_u64().unwrap_or_default();
        }
        let requests = self.max.control().statistics().requests;
        requests.iter().filter(|(call, _)| call.starts_with("POST /messages")).map(|(_, count)| count).sum()
    }

    /// All requests that have come so far where customers are.
    pub fn requests_seen(&self) -> u64 {
        if let Some(mango) = self.way_by_mango() {
            return mango.counters()["total"].as_u64().unwrap();
        }
        self.max.control().statistics().requests.values().sum()
    }

    /// Waits until MANGO OFFICE has been asked for its sessions so many times more: what it closed
    /// is told, and what was to be closed there is closed.
    pub async fn rounds(&self, count: u64) {
        let mango = self.setup.at_mango.as_ref().expect("MANGO OFFICE is not in this world");
        let lists = || mango.counters()["calls"]["POST /cc/md/sessions"].as_u64().unwrap_or_default();
        let before = lists();
        self.until_true("MANGO OFFICE is asked for its sessions", || lists() >= before + count).await;
    }

    /// What the customer wrote comes once more, as if our answer had been lost.
    pub async fn repeat(&self, customer: &Customer, text: &str) {
        if let Some(mango) = self.way_by_mango() {
            let dialogs = mango.dialogs();
            let id = customer.id.to_string();
            let theirs = dialogs.iter().filter(|one| one["variables"]["social_user"]["social_user_id"] == id.as_str());
            let said = theirs.flat_map(|session| {
                let messages = session["messages"].as_array().into_iter().flatten();
                messages.map(move |message| (session, message))
            });
            let mut said = said.filter(|(_, message)| message["payload"]["text"] == text);
            let (session, message) = said.next().expect("nobody said this");
            let (id, chat) = (&session["session_id"], &session["chat_id"]);
            let event =
                serde_json::json!({"id": "again", "session_id": id, "chat_id": chat, "message": message}).to_string();
            assert_eq!(self.mango_calls(&event).await, http::StatusCode::OK);
            return;
        }
        let updates = self.max.control().updates(self.bot).unwrap();
        let is_it = |update: &Value| update["message"]["body"]["text"] == text;
        self.deliver(&updates.iter().find(|one| is_it(&one.update)).expect("nobody said this").update).await;
    }

    /// Brings one call of MANGO OFFICE's, word by word.
    pub async fn mango_calls(&self, event: &str) -> http::StatusCode {
        self.relay.mango_webhook(None, &mango_body(event)).await
    }

    /// Brings one webhook call of MAX's, word by word.
    pub async fn bring(&self, raw: &str) -> http::StatusCode {
        self.relay.webhook(&webhook_fingerprint(), Some(WEBHOOK_SECRET), raw.as_bytes()).await
    }

    /// The same, and it is taken.
    pub async fn deliver(&self, update: &Value) {
        assert_eq!(self.bring(&update.to_string()).await, http::StatusCode::OK, "{update}");
    }

    pub fn say(&self, customer: &Customer, text: &str) -> String {
        self.max.control().say(customer.id, self.bot, text).unwrap()
    }

    /// What the bot has told the customer.
    pub fn seen(&self, customer: &Customer) -> Vec<String> {
        let transcript = self.max.control().transcript(customer.id, self.bot).unwrap();
        transcript.texts_of_bot().into_iter().map(str::to_owned).collect()
    }

    /// The customer's messages as Creatio has them.
    pub fn received(&self, customer: &Customer) -> Vec<String> {
        self.history(customer)
            .into_iter()
            .filter(|entry| entry.direction == "incoming")
            .map(|entry| entry.text)
            .collect()
    }

    pub fn history(&self, customer: &Customer) -> Vec<History> {
        self.crm.control().transcript(&customer.sender).iter().filter_map(History::read).collect()
    }

    /// The customer's open chat.
    pub fn open_chat(&self, customer: &Customer) -> Option<Uuid> {
        self.crm
            .control()
            .chats(Some(&customer.sender))
            .iter()
            .filter(|chat| !chat.to_string().to_lowercase().contains("completed"))
            .find_map(|chat| chat["id"].as_str().or_else(|| chat["Id"].as_str())?.parse().ok())
    }

    /// Waits for the customer's chat and accepts it.
    pub async fn accept(&self, customer: &Customer) -> Uuid {
        // While a bot holds it, it is offered to nobody; the hand-over may make it another chat.
        self.until("the customer's chat is offered to the agents", || {
            let chat = self.open_chat(customer)?;
            self.crm.control().accept(chat, self.agent).unwrap().then_some(chat)
        })
        .await
    }

    /// The states of the outbox rows of messages, in their order.
    pub fn reports(&self) -> Vec<(String, String)> {
        self.crm
            .control()
            .outbox()
            .iter()
            .filter(|row| row["Kind"] == "message")
            .map(|row| (text(row, "State"), text(row, "Error")))
            .collect()
    }

    /// Asks again and again, a moment apart, until there is an answer.
    pub async fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(found) = ask() {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "this did not come about: {what}\n{}", self.shown());
            self.moment().await;
        }
    }

    /// Whether it comes about while the relay's clock stands still.
    pub async fn is_so_still(&self, patience: Duration, mut ask: impl FnMut() -> bool) -> bool {
        let deadline = tokio::time::Instant::now() + patience;
        while !ask() {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// What the agents have, for a test that fails.
    fn shown(&self) -> String {
        let line = |entry: Value| {
            History::read(&entry)
                .map(|entry| format!("{} {} {}: {}", entry.chat, entry.direction, entry.external_id, entry.text))
        };
        let control = self.crm.control();
        if let Some(mango) = &self.mango {
            let mango = mango.control();
            for session in mango.dialogs() {
                eprintln!("{} {} {}", session["session_id"], session["state"], session["messages"]);
            }
            eprintln!("{:?} {}", mango.violations(), mango.counters());
        }
        let lines = control.customers().into_iter().flat_map(|sender| control.transcript(&sender)).filter_map(line);
        lines.collect::<Vec<_>>().join("\n")
    }

    pub async fn until_true(&self, what: &str, mut ask: impl FnMut() -> bool) {
        self.until(what, || ask().then_some(())).await;
    }

    /// Nothing that the contract forbids has happened.
    pub fn assert_contract_kept(&self) {
        let violations = self.crm.control().violations();
        assert!(violations.is_empty(), "the package's contract was broken: {violations:#?}");
    }

    /// The same after the loss of a store that had handed messages over: what is read back is
    /// handed over again, which the CRM knows by its key, and may say by then that it is late.
    pub fn assert_contract_kept_after_a_loss(&self) {
        let violations: Vec<_> = self.crm.control().violations();
        let others: Vec<_> = violations.iter().filter(|violation| violation["rule"] != "repeat").collect();
        assert!(others.is_empty(), "the package's contract was broken: {others:#?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
        if let Some(connection) = &self.connection {
            connection.abort();
        }
    }
}

/// What a call of MANGO OFFICE's bears.
pub fn mango_body(event: &str) -> Vec<u8> {
    let mango::Options { api_key, api_salt, .. } = mango::Options::default();
    let signature = mango::sign(&api_key, event.as_bytes(), &api_salt);
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("vpbx_api_key", &api_key).append_pair("sign", &signature).append_pair("json", event);
    form.finish().into_bytes()
}

/// The bytes of such a call.
pub fn mango_call(event: &str) -> Vec<u8> {
    let body = mango_body(event);
    let head = format!(
        "POST /webhooks/mango/default/support/events/cc/md/session/chat/on_message HTTP/1.1\r\nHost: relay\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// The agent of every world, as an employee of MANGO OFFICE.
pub const IVAN: i64 = 300_052_407;

/// An account of MANGO OFFICE whose channel of MAX has the bot and is served by the agent, and
/// which calls the relay.
async fn connect(max: &max::Simulator, bot: i64, base: &str) -> (mango::Simulator, tokio::task::JoinHandle<()>) {
    let options = mango::Options { switches: mango::Switches::friendly(), ..mango::Options::default() };
    let mango = mango::Simulator::start(options).await.unwrap();
    let control = mango.control();
    let ivan =
        mango::Employee { user_id: IVAN, name: "Иван Агентов".to_owned(), ..mango::Employee::default() };
    control.put_employee(ivan);
    control.max_channel_for_employee(IVAN);
    control.set_webhook(Some(&format!("{base}/webhooks/mango/default/support")));
    let (max_url, token) = (max.url(), TOKEN.to_owned());
    let connection = Connection { mango: control, max: max.control(), max_url, bot, token };
    (mango, tokio::spawn(connection.run()))
}

pub struct Customer {
    pub id: i64,
    /// The dialog's chat in MAX.
    pub chat: i64,
    pub sender: String,
}

/// One entry of Creatio's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub direction: String,
    pub author: String,
    pub text: String,
    pub external_id: String,
    pub chat: String,
    pub timestamp: i64,
    pub stand_by: bool,
    pub attachments: Vec<Value>,
}

impl History {
    fn read(entry: &Value) -> Option<Self> {
        Some(Self {
            direction: entry["direction"].as_str()?.to_owned(),
            author: text(entry, "author"),
            text: text(entry, "text"),
            external_id: text(entry, "externalId"),
            chat: text(entry, "chatId"),
            timestamp: entry["timestamp"].as_i64()?,
            stand_by: entry["standBy"].as_bool().unwrap_or_default(),
            attachments: entry["attachments"].as_array().cloned().unwrap_or_default(),
        })
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn config(
    max: &max::Simulator,
    crm: &creatio::Simulator,
    bot: i64,
    rules: Rules,
    intake: Intake,
    setup: &Setup,
    revision: u32,
) -> RelayConfig {
    let bot_config = |url: &Option<String>| {
        let timeout_millis = setup.bot_timeout_millis.unwrap_or(1_000);
        url.as_ref().map(|url| BotConfig { url: url.parse().unwrap(), timeout_millis })
    };
    let mut config = relay_config(max, crm, bot);
    let channel = &mut config.channel;
    channel.revision = revision.to_string();
    channel.intake = intake;
    channel.rules = rules;
    if let Some(creatio) = &mut channel.creatio {
        creatio.requests_per_second = 10_000;
        creatio.poll_interval_millis = setup.poll_interval_millis.unwrap_or(creatio.poll_interval_millis);
    }
    channel.bot = bot_config(&setup.bot);
    channel.off_hours_bot = bot_config(&setup.off_hours_bot);
    channel.retention_seconds = setup.retention_seconds.unwrap_or(channel.retention_seconds);
    channel.sources.clone_from(&setup.sources);
    if let Some((url, employees)) = &setup.mango {
        let unsigned_from = setup.unsigned_from.clone();
        let (base_url, employees) = (url.parse().unwrap(), employees.clone());
        let sends_files = !setup.keeps_files;
        channel.mango = Some(MangoConfig { base_url, employees, unsigned_from, sends_files });
        let options = maxchannel_simulator::mango::Options::default();
        config.secrets.mango = Some((options.api_key.into(), options.api_salt.into()));
    }
    config.secrets.off_hours_bot = setup.off_hours_key.clone().map(SecretString::from);
    config
}
