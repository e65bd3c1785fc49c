//! The site of a bench: the simulators in this process, the program under measure beside it, and
//! those who write to it.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use maxchannel::contract::RelayConfig;
use maxchannel_simulator::{creatio, mango, max};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::relay_config::{TOKEN, relay_config};

/// How long anything may take before the bench fails.
const PATIENCE: Duration = Duration::from_mins(1);
/// POSTs under way at once; what comes later waits, and its time counts.
const AT_ONCE: usize = 64;
/// As many as the resource allows, so that the client's own limit is not what is measured.
pub const IN_FLIGHT: usize = 256;

/// The simulators, their people, and the folder of the program's files.
pub struct Site {
    pub max: max::Simulator,
    mango: mango::Simulator,
    pub crm: creatio::Simulator,
    pub bot: i64,
    folder: tempfile::TempDir,
    pub port: u16,
    /// What the CRM's clock showed at a moment; it goes on as the machine's steady clock does.
    epoch: (Instant, f64),
}

/// A running program; killed with the bench.
pub struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Resident memory of a process in bytes: all of it, and what of it is not mapped from the
/// program's file.
#[derive(Clone, Copy)]
pub struct Memory {
    pub all: f64,
    pub own: f64,
}

impl Site {
    pub async fn new(crm_work: u64) -> Self {
        let max = max::Simulator::start(max::Options::default()).await.expect("a free port");
        let mango = mango::Simulator::start(mango::Options::default()).await.expect("a free port");
        let crm = creatio::Options { work_ms: crm_work, ..creatio::Options::default() };
        let epoch = (Instant::now(), wall_ms());
        let crm = creatio::Simulator::start(crm).await.expect("a free port");
        let bot = max.control().create_bot(max::NewBot::new("Служба поддержки", TOKEN)).expect("the first bot").user_id;
        crm.control().add_agent("Иван Агентов", "ivan@example.com");
        mango.control().put_employee(mango::Employee {
            name: "Иван Агентов".to_owned(),
            email: Some("ivan@example.com".to_owned()),
            extension: Some("101".to_owned()),
            ..mango::Employee::default()
        });
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder beside the build");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let site = Self { max, mango, crm, bot, folder, port: free.expect("a free port").port(), epoch };
        site.write_manifests();
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_manifests(&self) {
        let (crm, mango) = (creatio::Options::default(), mango::Options::default());
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: max-bot}}\nstringData: {{token: {TOKEN}}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: mango-api}}\nstringData: {{apiKey: {}, apiSalt: {}}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: creatio}}\nstringData: {{clientId: {}, clientSecret: {}}}\n---\n\
             apiVersion: maxchannel.dev/v1alpha1\nkind: MaxChannel\nmetadata: {{name: support}}\nspec:\n  \
             tokenSecretRef: {{name: max-bot}}\n  mango: {{accountNumber: \"400012345\", credentialsSecretRef: {{name: mango-api}}}}\n  \
             creatio:\n    url: {}\n    identityUrl: {}\n    credentialsSecretRef: {{name: creatio}}\n    \
             limits: {{requestsPerSecond: 10000, inFlight: {IN_FLIGHT}}}\n  receiver:\n    employee: {{extension: \"101\"}}\n",
            mango.api_key,
            mango.api_salt,
            crm.client_id,
            crm.client_secret,
            self.crm.url(),
            self.crm.identity_url()
        );
        fs::write(self.path("channel.yaml"), text).expect("the folder can be written");
    }

    /// The folder that a controller mounts for `maxchannel relay`.
    pub fn write_relay_config(&self, change: impl FnOnce(&mut RelayConfig)) {
        let mut config = relay_config(&self.max, &self.crm, self.bot);
        change(&mut config);
        fs::create_dir_all(self.path("config")).expect("the folder can be written");
        for (name, content) in config.files().expect("settings can be written down") {
            fs::write(self.path("config").join(name), content.expose_secret()).expect("the folder can be written");
        }
    }

    /// Starts the program on this site's port; `data` names its data folder.
    pub fn start(&self, data: &str, args: &[&str]) -> Program {
        let program = std::env::var_os("BENCH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_maxchannel").into());
        let mut command = Command::new(program);
        command
            .args(args)
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .arg("--data-dir")
            .arg(self.path(data))
            .env("MAXCHANNEL_MAX_URL", self.max.url())
            .env("MAXCHANNEL_MANGO_URL", self.mango.url())
            .env_remove("MAXCHANNEL_LOG");
        self.start_command(command)
    }

    /// Starts what is to be measured; what it prints goes to the site's log.
    pub fn start_command(&self, mut command: Command) -> Program {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log.txt")).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Program(command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}")))
    }

    pub fn start_run(&self) -> Program {
        let manifests = self.path("channel.yaml");
        let public = format!("http://127.0.0.1:{}", self.port);
        self.start("run", &["run", "-f", manifests.to_str().expect("a path of ours"), "--public-url", &public])
    }

    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.port)).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    pub async fn until_ready(&self) {
        self.until("Ready in /status", async || {
            let (_, body) = self.get("/status").await?;
            let status: Value = serde_json::from_str(&body).ok()?;
            let conditions = status["channels"][0]["status"]["conditions"].as_array()?;
            conditions.iter().any(|found| found["type"] == "Ready" && found["status"] == "True").then_some(())
        })
        .await;
    }

    pub async fn until<T>(&self, what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            if begin.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.path("log.txt")).unwrap_or_default();
                panic!("this did not come about: {what}\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn customers(&self, count: usize) -> Vec<i64> {
        let control = self.max.control();
        (0..count)
            .map(|number| {
                let user = max::NewUser::named(&format!("Клиент {number}"));
                let user = control.create_user(user).expect("a new user");
                control.start(user, self.bot).expect("a new dialog");
                user
            })
            .collect()
    }

    /// Customers whose first message is in the CRM.
    pub async fn open_dialogs(&self, count: usize) -> Vec<i64> {
        let customers = self.customers(count);
        for customer in &customers {
            self.max.control().say(*customer, self.bot, "Здравствуйте, у меня вопрос").expect("a dialog");
        }
        let open = async || customers.iter().all(|customer| !self.received(*customer).is_empty()).then_some(());
        self.until("every dialog is open", open).await;
        customers
    }

    /// What the CRM has of a customer: id and text of each message, and when it was stored
    /// (milliseconds since the epoch).
    pub fn received(&self, customer: i64) -> Vec<(String, String, i64)> {
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let transcript = self.crm.control().transcript(&format!("max:{customer}"));
        let incoming = transcript.iter().filter(|entry| entry["direction"] == "incoming");
        incoming
            .map(|entry| (text(entry, "externalId"), text(entry, "text"), entry["storedMs"].as_i64().unwrap_or(0)))
            .collect()
    }

    /// Messages that the CRM was handed, repeats included.
    pub fn calls(&self) -> u64 {
        self.crm.control().counters()["calls"]["POST /rest/MaxChannelService/receive"].as_u64().unwrap_or(0)
    }

    /// The CRM's time, milliseconds since the epoch.
    pub fn crm_ms(&self) -> f64 {
        self.epoch.1 + self.epoch.0.elapsed().as_secs_f64() * 1_000.0
    }

    pub fn assert_contract_kept(&self) {
        let violations = self.crm.control().violations();
        assert!(violations.is_empty(), "the contract with the CRM was broken: {violations:?}");
    }
}

impl Program {
    pub fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("Linux and a living process");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a field of /proc/PID/status");
            let kib: f64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number of kB");
            kib * 1024.0
        };
        Memory { all: field("VmRSS:"), own: field("RssAnon:") }
    }

    /// Processor time that it has taken, seconds, in steps of a hundredth.
    pub fn processor_time(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("Linux and a living process");
        let fields = stat.rsplit_once(") ").expect("a name in brackets").1.split(' ');
        fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number of ticks")).sum::<f64>() / 100.0
    }
}

fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs_f64() * 1_000.0
}

/// The value below which `share` of the samples lie.
pub fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
    let index = ((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len());
    samples[index - 1]
}

/// Figures by name in the order of their first coming.
#[derive(Default)]
pub struct Table {
    rows: Vec<(&'static str, &'static str, Vec<f64>)>,
}

impl Table {
    pub fn add(&mut self, name: &'static str, aim: &'static str, value: f64) {
        match self.rows.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., values)) => values.push(value),
            None => self.rows.push((name, aim, vec![value])),
        }
    }

    pub fn print(&mut self) {
        println!("| figure | median | runs | aim |\n|---|---|---|---|");
        for (name, aim, values) in &mut self.rows {
            let runs: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
            println!("| {name} | {:.2} | {} | {aim} |", quantile(values, 0.5), runs.join(", "));
        }
    }
}

/// How messages of customers are sent by the bench itself, so that it holds the watch: like those
/// that MAX has sent for them.
pub struct Senders {
    pub patterns: HashMap<i64, Value>,
    pub url: String,
    pub secret: String,
    /// Between two messages.
    pub pause: Duration,
}

/// Messages that were sent: when each was, and what each POST took, milliseconds.
pub struct Sent {
    pub at: HashMap<String, f64>,
    pub answers: Vec<f64>,
}

impl Senders {
    /// As those whose messages MAX has delivered already, a hundred a second.
    pub fn new(site: &Site) -> Self {
        let control = site.max.control();
        let patterns = control
            .updates(site.bot)
            .expect("the bot")
            .iter()
            .filter(|record| record.update["update_type"] == "message_created")
            .filter_map(|record| {
                Some((record.update["message"]["sender"]["user_id"].as_i64()?, (*record.update).clone()))
            })
            .collect();
        let subscription = control.bot(site.bot).expect("the bot").subscriptions.remove(0);
        Self {
            patterns,
            url: subscription.url,
            secret: subscription.secret.unwrap_or_default(),
            pause: Duration::from_millis(10),
        }
    }

    /// One message alone: the status of the answer.
    pub async fn post(&self, client: &reqwest::Client, customer: i64, number: usize) -> reqwest::Result<u16> {
        let (_, request) = self.request(client, customer, number);
        Ok(request.send().await?.status().as_u16())
    }

    /// The message of that number, and its id.
    fn request(&self, client: &reqwest::Client, customer: i64, number: usize) -> (String, reqwest::RequestBuilder) {
        let mut update = self.patterns[&customer].clone();
        let mid = format!("mid.{:032x}", 0x00be_0000_0000 + number);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
        let now = i64::try_from(now).expect("milliseconds fit");
        let seq = update["message"]["body"]["seq"].as_i64().expect("a message");
        let seq = seq + 1 + i64::try_from(number).expect("small");
        update["timestamp"] = json!(now);
        update["message"]["timestamp"] = json!(now);
        update["message"]["body"]["seq"] = json!(seq);
        update["message"]["body"]["mid"] = json!(mid);
        let request = client
            .post(&self.url)
            .header("Content-Type", "application/json; charset=utf-8")
            .header("X-Max-Bot-Api-Secret", &self.secret)
            .body(update.to_string());
        (mid, request)
    }

    /// Sends `count` messages, each customer in turn; `first` counts those before.
    pub async fn send(
        &self,
        site: &Site,
        client: &reqwest::Client,
        customers: &[i64],
        first: usize,
        count: usize,
    ) -> Sent {
        let mut schedule = tokio::time::interval(self.pause);
        schedule.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut posts = Vec::new();
        for number in first..first + count {
            let due = schedule.tick().await;
            let (mid, request) = self.request(client, customers[number % customers.len()], number);
            let sent = site.crm_ms();
            let turn = Arc::clone(&turns);
            posts.push(tokio::spawn(async move {
                let _turn = turn.acquire().await.expect("never closed");
                let status = request.send().await.expect("an answer").status();
                assert_eq!(status.as_u16(), 200, "the webhook was not taken");
                // From the moment that the schedule names: a late start counts as waiting.
                (mid, sent, due.elapsed().as_secs_f64() * 1_000.0)
            }));
        }
        let mut sent = Sent { at: HashMap::new(), answers: Vec::new() };
        for post in posts {
            let (mid, at, took) = post.await.expect("a post");
            sent.at.insert(mid, at);
            sent.answers.push(took);
        }
        sent
    }
}

impl Sent {
    /// How long each was on its way, once all are in the CRM: each once.
    pub async fn carried(&self, site: &Site, customers: &[i64]) -> Vec<f64> {
        site.until("all messages are in the CRM", async || {
            let carried = self.arrived(site, customers);
            (carried.len() == self.at.len()).then_some(carried)
        })
        .await
    }

    /// How long those were on their way that are in the CRM by now: each once.
    pub fn arrived(&self, site: &Site, customers: &[i64]) -> Vec<f64> {
        let stored = customers.iter().flat_map(|customer| site.received(*customer));
        // The simulator's clock cuts to whole milliseconds, twice: one in the mean.
        #[allow(clippy::cast_precision_loss, reason = "milliseconds since the epoch are exact in a f64")]
        let carried: Vec<f64> = stored.filter_map(|(mid, _, at)| Some(at as f64 + 1.0 - self.at.get(&mid)?)).collect();
        assert!(carried.len() <= self.at.len(), "a message is there twice");
        carried
    }
}
