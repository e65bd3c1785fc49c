//! What the relay costs and how fast it is, between the simulators of MAX, MANGO OFFICE and
//! Creatio: `cargo bench --bench relay`.
//!
//! The program is the real one, a process of its own built as a release is. The simulators live in
//! this process, on the same cores. Every figure is the median of several runs on fresh stores;
//! what each means and what it is on one machine stands in `benches/README.md`.
//!
//! `BENCH_RUNS` sets the number of runs (3), `BENCH_ONLY` one of `memory`, `latency`, `drain`,
//! `restart`, `strangers`, `BENCH_PROGRAM` the program in place of the one that cargo built beside
//! the bench, which has the simulators in it.

#[path = "../tests/support/relay_config.rs"]
mod relay_config;

use std::collections::HashMap;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use maxchannel_simulator::{creatio, mango, max};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use relay_config::{TOKEN, relay_config};

/// How long anything may take before the bench fails.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a process is left alone before its memory is read: the first looks outside are over,
/// connections are idle.
const IDLE: Duration = Duration::from_secs(4);
const CUSTOMERS: usize = 200;
const LATENCY_MESSAGES: usize = 1_000;
const LATENCY_PAUSE: Duration = Duration::from_millis(10);
/// Dialogs that are open at a start, messages sent from that moment on, and how long reading all
/// back may take.
const OPEN_DIALOGS: usize = 1_000;
const AFTER_START: usize = 2_000;
const READ_BACK: Duration = Duration::from_mins(3);
const STRANGERS: usize = 1_000;
const BACKLOG: usize = 5_000;
/// What the CRM works on each message of the backlog, in milliseconds.
const CRM_WORK: u64 = 5;
/// How often, and how far apart, the machine itself is measured beside.
const PROBES: usize = 300;
const PROBE_PAUSE: Duration = Duration::from_millis(5);
/// Bytes that a commit of the relay writes.
const COMMIT: usize = 5 * 4096;

/// As many as the resource allows, so that the client's own limit is not what is measured.
const IN_FLIGHT: usize = 256;

/// The simulators, their people, and the folder of the program's files.
struct Site {
    max: max::Simulator,
    mango: mango::Simulator,
    crm: creatio::Simulator,
    bot: i64,
    folder: tempfile::TempDir,
    port: u16,
    /// What the CRM's clock showed at a moment; it goes on as the machine's steady clock does.
    epoch: (Instant, f64),
}

/// A running program; killed with the bench.
struct Program(Child);

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
struct Memory {
    all: f64,
    own: f64,
}

impl Site {
    async fn new(crm_work: u64) -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
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
    fn write_relay_config(&self) {
        let config = relay_config(&self.max, &self.crm, self.bot);
        fs::create_dir_all(self.path("config")).expect("the folder can be written");
        for (name, content) in config.files().expect("settings can be written down") {
            fs::write(self.path("config").join(name), content.expose_secret()).expect("the folder can be written");
        }
    }

    /// Starts the program on this site's port; `data` names its data folder.
    fn start(&self, data: &str, args: &[&str]) -> Program {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log.txt")).expect("a log");
        let program = std::env::var_os("BENCH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_maxchannel").into());
        let child = Command::new(program)
            .args(args)
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .arg("--data-dir")
            .arg(self.path(data))
            .env("MAXCHANNEL_MAX_URL", self.max.url())
            .env("MAXCHANNEL_MANGO_URL", self.mango.url())
            .env_remove("MAXCHANNEL_LOG")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        Program(child.expect("the program can be started"))
    }

    fn start_run(&self) -> Program {
        let manifests = self.path("channel.yaml");
        let public = format!("http://127.0.0.1:{}", self.port);
        self.start("run", &["run", "-f", manifests.to_str().expect("a path of ours"), "--public-url", &public])
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.port)).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    async fn until_ready(&self) {
        self.until("Ready in /status", async || {
            let (_, body) = self.get("/status").await?;
            let status: Value = serde_json::from_str(&body).ok()?;
            let conditions = status["channels"][0]["status"]["conditions"].as_array()?;
            conditions.iter().any(|found| found["type"] == "Ready" && found["status"] == "True").then_some(())
        })
        .await;
    }

    async fn until<T>(&self, what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
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

    fn customers(&self, count: usize) -> Vec<i64> {
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

    /// What the CRM has of a customer: id and text of each message, and when it was stored
    /// (milliseconds since the epoch).
    fn received(&self, customer: i64) -> Vec<(String, String, i64)> {
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let transcript = self.crm.control().transcript(&format!("max:{customer}"));
        let incoming = transcript.iter().filter(|entry| entry["direction"] == "incoming");
        incoming
            .map(|entry| (text(entry, "externalId"), text(entry, "text"), entry["storedMs"].as_i64().unwrap_or(0)))
            .collect()
    }

    /// Messages that the CRM was handed, repeats included.
    fn calls(&self) -> u64 {
        self.crm.control().counters()["calls"]["POST /rest/MaxChannelService/receive"].as_u64().unwrap_or(0)
    }

    /// The CRM's time, milliseconds since the epoch.
    fn crm_ms(&self) -> f64 {
        self.epoch.1 + self.epoch.0.elapsed().as_secs_f64() * 1_000.0
    }

    fn assert_contract_kept(&self) {
        let violations = self.crm.control().violations();
        assert!(violations.is_empty(), "the contract with the CRM was broken: {violations:?}");
    }
}

impl Program {
    fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("Linux and a living process");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a field of /proc/PID/status");
            let kib: f64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number of kB");
            kib * 1024.0
        };
        Memory { all: field("VmRSS:"), own: field("RssAnon:") }
    }
}

fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs_f64() * 1_000.0
}

/// The value below which `share` of the samples lie.
fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
    let index = ((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len());
    samples[index - 1]
}

/// Figures by name in the order of their first coming.
#[derive(Default)]
struct Table {
    rows: Vec<(&'static str, &'static str, Vec<f64>)>,
}

impl Table {
    fn add(&mut self, name: &'static str, aim: &'static str, value: f64) {
        match self.rows.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., values)) => values.push(value),
            None => self.rows.push((name, aim, vec![value])),
        }
    }

    fn print(&mut self) {
        println!("| figure | median | runs | aim |\n|---|---|---|---|");
        for (name, aim, values) in &mut self.rows {
            let runs: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
            println!("| {name} | {:.2} | {} | {aim} |", quantile(values, 0.5), runs.join(", "));
        }
    }
}

const MIB: f64 = 1024.0 * 1024.0;

async fn memory(table: &mut Table) {
    let site = Site::new(0).await;
    let program = site.start_run();
    site.until_ready().await;
    tokio::time::sleep(IDLE).await;
    let whole = program.memory();
    drop(program);
    // The set-up in the CRM is there, made by the run before.
    site.write_relay_config();
    let config = site.path("config");
    let program = site.start("relay", &["relay", "--config", config.to_str().expect("a path of ours")]);
    let answers = async || site.get("/readyz").await.filter(|(status, _)| *status == 200);
    site.until("200 from /readyz", answers).await;
    tokio::time::sleep(IDLE).await;
    let relay = program.memory();
    table.add("idle, `relay`: resident, MiB", "≤ 8", relay.all / MIB);
    table.add("idle, `relay`: of it not mapped from the program file, MiB", "", relay.own / MIB);
    table.add("idle, `run`: resident, MiB", "", whole.all / MIB);
    table.add("idle, `run`: of it not mapped from the program file, MiB", "", whole.own / MIB);
}

async fn latency(table: &mut Table) {
    let site = Site::new(0).await;
    let _program = site.start_run();
    site.until_ready().await;
    let customers = site.customers(CUSTOMERS);
    let control = site.max.control();
    for customer in &customers {
        control.say(*customer, site.bot, "Здравствуйте, у меня вопрос").expect("a dialog");
    }
    let warm = async || customers.iter().all(|customer| !site.received(*customer).is_empty()).then_some(());
    site.until("every customer's first message is in the CRM", warm).await;
    let senders = Senders::new(&site);
    let client = reqwest::Client::new();
    let sent = senders.send(&site, &client, &customers, 0, LATENCY_MESSAGES).await;
    let mut answers = sent.answers.clone();
    let mut carried = sent.carried(&site, &customers).await;
    site.assert_contract_kept();
    let mut requests = idle_request_cost(&site, &client).await;
    let mut syncs = sync_cost(&site);
    table.add("webhook POST to its 200, p50, ms", "", quantile(&mut answers, 0.5));
    table.add("webhook POST to its 200, p99, ms", "≤ 8", quantile(&mut answers, 0.99));
    table.add("webhook POST to the message in the CRM, p50, ms", "", quantile(&mut carried, 0.5));
    table.add("webhook POST to the message in the CRM, p99, ms", "", quantile(&mut carried, 0.99));
    table.add("beside it: GET /healthz, p50, ms", "", quantile(&mut requests, 0.5));
    table.add("beside it: GET /healthz, p99, ms", "", quantile(&mut requests, 0.99));
    table.add("beside it: 20 KiB written and synced, p50, ms", "", quantile(&mut syncs, 0.5));
    table.add("beside it: 20 KiB written and synced, p99, ms", "", quantile(&mut syncs, 0.99));
}

/// How messages of customers are sent by the bench itself, so that it holds the watch: like those
/// that MAX has sent for them.
struct Senders {
    patterns: HashMap<i64, Value>,
    url: String,
    secret: String,
}

/// Messages that were sent: when each was, and what each POST took, milliseconds.
struct Sent {
    at: HashMap<String, f64>,
    answers: Vec<f64>,
}

impl Senders {
    fn new(site: &Site) -> Self {
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
        Self { patterns, url: subscription.url, secret: subscription.secret.unwrap_or_default() }
    }

    /// Sends `count` messages, each customer in turn, a hundred a second; `first` counts those
    /// before.
    async fn send(&self, site: &Site, client: &reqwest::Client, customers: &[i64], first: usize, count: usize) -> Sent {
        let mut schedule = tokio::time::interval(LATENCY_PAUSE);
        schedule.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let mut posts = Vec::new();
        for number in first..first + count {
            let due = schedule.tick().await;
            let mut update = self.patterns[&customers[number % customers.len()]].clone();
            let mid = format!("mid.{:032x}", 0x00be_0000_0000 + number);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
            let now = i64::try_from(now).expect("milliseconds fit");
            let seq = update["message"]["body"]["seq"].as_i64().expect("a message")
                + 1
                + i64::try_from(number).expect("small");
            update["timestamp"] = json!(now);
            update["message"]["timestamp"] = json!(now);
            update["message"]["body"]["seq"] = json!(seq);
            update["message"]["body"]["mid"] = json!(mid);
            let request = client
                .post(&self.url)
                .header("Content-Type", "application/json; charset=utf-8")
                .header("X-Max-Bot-Api-Secret", &self.secret)
                .body(update.to_string());
            let sent = site.crm_ms();
            posts.push(tokio::spawn(async move {
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
    async fn carried(&self, site: &Site, customers: &[i64]) -> Vec<f64> {
        site.until("all messages are in the CRM", async || {
            let stored = customers.iter().flat_map(|customer| site.received(*customer));
            // The double's clock cuts to whole milliseconds, twice: one in the mean.
            #[allow(clippy::cast_precision_loss, reason = "milliseconds since the epoch are exact in a f64")]
            let carried: Vec<f64> =
                stored.filter_map(|(mid, _, at)| Some(at as f64 + 1.0 - self.at.get(&mid)?)).collect();
            assert!(carried.len() <= self.at.len(), "a message is there twice");
            (carried.len() == self.at.len()).then_some(carried)
        })
        .await
    }
}

/// A start with a thousand open dialogs, all of which are read back, while messages come from the
/// first moment on.
async fn restart(table: &mut Table) {
    let site = Site::new(0).await;
    let program = site.start_run();
    site.until_ready().await;
    let customers = site.customers(OPEN_DIALOGS);
    for customer in &customers {
        site.max.control().say(*customer, site.bot, "Здравствуйте, у меня вопрос").expect("a dialog");
    }
    let open = async || customers.iter().all(|customer| !site.received(*customer).is_empty()).then_some(());
    site.until("every dialog is open", open).await;
    let senders = Senders::new(&site);
    let client = reqwest::Client::new();
    drop(program);
    let readings = || site.max.control().statistics().requests.get("GET /messages").copied().unwrap_or(0);
    let before = readings();
    let program = site.start_run();
    let up = async || site.get("/readyz").await.filter(|(status, _)| *status == 200);
    site.until("200 from /readyz", up).await;
    let sent = senders.send(&site, &client, &customers, 0, AFTER_START).await;
    let mut carried = sent.carried(&site, &customers).await;
    let begin = Instant::now();
    while readings() < before + OPEN_DIALOGS as u64 {
        assert!(begin.elapsed() < READ_BACK, "{} of the dialogs are read back", readings() - before);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(IDLE).await;
    let sent = senders.send(&site, &client, &customers, AFTER_START, LATENCY_MESSAGES).await;
    let mut later = sent.carried(&site, &customers).await;
    site.assert_contract_kept();
    let memory = program.memory();
    table.add(
        "start with 1 000 open dialogs: POST to the message in the CRM, p50, ms",
        "",
        quantile(&mut carried, 0.5),
    );
    table.add("the same, p99, ms", "≤ 2 000", quantile(&mut carried, 0.99));
    table.add("the same, the longest, ms", "", quantile(&mut carried, 1.0));
    table.add("the same once all are read back, p50, ms", "", quantile(&mut later, 0.5));
    table.add("the same once all are read back, p99, ms", "≤ 10", quantile(&mut later, 0.99));
    table.add("afterwards, `run`: resident, MiB", "", memory.all / MIB);
}

/// A thousand strangers who connect and say nothing, or begin what they never end, while webhooks
/// come in.
async fn strangers(table: &mut Table) {
    let site = Site::new(0).await;
    let program = site.start_run();
    site.until_ready().await;
    let customers = site.customers(CUSTOMERS);
    for customer in &customers {
        site.max.control().say(*customer, site.bot, "Здравствуйте, у меня вопрос").expect("a dialog");
    }
    let open = async || customers.iter().all(|customer| !site.received(*customer).is_empty()).then_some(());
    site.until("every dialog is open", open).await;
    let (senders, client) = (Senders::new(&site), reqwest::Client::new());
    let alone = senders.send(&site, &client, &customers, 0, LATENCY_MESSAGES).await;
    let mut alone = alone.answers;
    let before = program.memory();
    let mut silent = Vec::with_capacity(STRANGERS);
    for number in 0..STRANGERS {
        let mut stranger = std::net::TcpStream::connect(("127.0.0.1", site.port)).expect("a connection");
        let said: &[u8] = match number % 3 {
            0 => b"",
            1 => b"POST /webhooks/max/default/support/0 HTTP/1.1\r\nHost:",
            _ => b"POST /webhooks/max/default/support/0 HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n{",
        };
        // Whoever gave way to a newcomer cannot say anything any more.
        let _ = stranger.write_all(said);
        silent.push(stranger);
    }
    let sent = senders.send(&site, &client, &customers, LATENCY_MESSAGES, LATENCY_MESSAGES).await;
    let after = program.memory();
    let mut beside = sent.answers.clone();
    sent.carried(&site, &customers).await;
    drop(silent);
    table.add("1 000 silent strangers: memory more than before, MiB", "≤ 20", (after.all - before.all) / MIB);
    table.add("webhook POST to its 200 without them, p99, ms", "", quantile(&mut alone, 0.99));
    table.add("webhook POST to its 200 beside them, p99, ms", "", quantile(&mut beside, 0.99));
}

/// What the disk takes for a commit of the relay's usual size: five pages over a file that has its
/// length already, as SQLite's log has.
fn sync_cost(site: &Site) -> Vec<f64> {
    let mut file = fs::File::create(site.path("synced")).expect("the folder can be written");
    file.write_all(&vec![0; PROBES * COMMIT]).and_then(|()| file.sync_all()).expect("the disk can be written");
    file.rewind().expect("a plain file");
    let commit = vec![7; COMMIT];
    let probe = |_| {
        std::thread::sleep(PROBE_PAUSE);
        let begin = Instant::now();
        file.write_all(&commit).and_then(|()| file.sync_all()).expect("the disk can be written");
        begin.elapsed().as_secs_f64() * 1_000.0
    };
    (0..PROBES).map(probe).collect()
}

/// What a request takes that does nothing: this machine's share in every latency.
async fn idle_request_cost(site: &Site, client: &reqwest::Client) -> Vec<f64> {
    let url = format!("http://127.0.0.1:{}/healthz", site.port);
    let mut costs = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        tokio::time::sleep(PROBE_PAUSE).await;
        let begin = Instant::now();
        client.get(&url).send().await.expect("an answer").bytes().await.expect("an answer");
        costs.push(begin.elapsed().as_secs_f64() * 1_000.0);
    }
    costs
}

async fn drain(table: &mut Table) {
    let site = Site::new(CRM_WORK).await;
    let program = site.start_run();
    site.until_ready().await;
    let customers = site.customers(CUSTOMERS);
    site.crm.control().outage(Some(creatio::Outage::Unavailable));
    let control = site.max.control();
    let begin = Instant::now();
    for number in 0..BACKLOG {
        control.say(customers[number % CUSTOMERS], site.bot, &number.to_string()).expect("a dialog");
    }
    let all = u64::try_from(CUSTOMERS + BACKLOG).expect("small");
    let acknowledged = async || (site.max.control().statistics().webhook_successes >= all).then_some(());
    site.until("MAX has a 200 for every message", acknowledged).await;
    table.add("webhooks of the backlog acknowledged, messages/s", "", rate(BACKLOG, begin.elapsed()));
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    let taken = async || {
        (metric(&site, "maxchannel_relay_queue_depth{direction=\"to_crm\"}").await? >= CUSTOMERS as f64).then_some(())
    };
    site.until("every customer has a message waiting for the CRM", taken).await;
    // The rest of the inbox is taken; nothing tells when, and a message that is still there is
    // carried all the same.
    tokio::time::sleep(IDLE).await;
    drop(program);
    site.crm.control().outage(None);
    assert_eq!(site.calls(), 0, "the CRM was to know nothing of the backlog");

    let started = site.crm_ms();
    let program = site.start_run();
    site.until("the whole backlog is in the CRM", async || (site.calls() >= BACKLOG as u64).then_some(())).await;
    let mut stored = Vec::new();
    for (place, customer) in customers.iter().enumerate() {
        let expected: Vec<String> = (place..BACKLOG).step_by(CUSTOMERS).map(|number| number.to_string()).collect();
        let got = site
            .until("the customer's messages are stored", async || {
                let got = site.received(*customer);
                (got.len() >= expected.len()).then_some(got)
            })
            .await;
        let texts: Vec<&String> = got.iter().map(|(_, text, _)| text).collect();
        assert_eq!(texts, expected.iter().collect::<Vec<_>>(), "lost, doubled or out of order");
        stored.extend(got.iter().map(|(_, _, at)| *at));
    }
    site.assert_contract_kept();
    let (first, last) = (stored.iter().min().expect("messages"), stored.iter().max().expect("messages"));
    #[allow(clippy::cast_precision_loss, reason = "milliseconds since the epoch are exact in a f64")]
    let recovery = (*first as f64 + 1.0 - started) / 1_000.0;
    let drained = Duration::from_millis((last - first).unsigned_abs());
    table.add("drain of 5 000 messages of 200 customers in order, messages/s", "≥ 1 000", rate(BACKLOG, drained));
    table.add("from the start after kill -9 to the first message in the CRM, s", "≤ 1", recovery);
    let after = program.memory();
    table.add("after the drain, `run`: resident, MiB", "", after.all / MIB);
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn rate(messages: usize, time: Duration) -> f64 {
    messages as f64 / time.as_secs_f64()
}

async fn metric(site: &Site, name: &str) -> Option<f64> {
    let (_, text) = site.get("/metrics").await?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("{cores} cores, load {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

fn main() {
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");
    let runs: usize = std::env::var("BENCH_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only == name;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let begin = Instant::now();
    let before = machine();
    let mut table = Table::default();
    runtime.block_on(async {
        for _ in 0..runs {
            if wanted("memory") {
                memory(&mut table).await;
            }
            if wanted("latency") {
                latency(&mut table).await;
            }
            if wanted("drain") {
                drain(&mut table).await;
            }
            if wanted("strangers") {
                strangers(&mut table).await;
            }
        }
        // Minutes, most of which MAX's limit takes.
        if wanted("restart") {
            restart(&mut table).await;
        }
    });
    println!("{before}; at the end {}; {runs} runs in {:.0} s", machine(), begin.elapsed().as_secs_f64());
    table.print();
}
