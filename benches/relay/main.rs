//! What the relay costs and how fast it is, between the simulators of MAX, MANGO OFFICE and
//! Creatio: `cargo bench --bench relay`.
//!
//! The program is the real one, a process of its own built as a release is. The simulators live in
//! this process, on the same cores. Every figure is the median of several runs on fresh stores;
//! what each means and what it is on one machine stands in `benches/README.md`.
//!
//! `BENCH_RUNS` sets the number of runs (3), `BENCH_ONLY` one of `memory`, `latency`, `drain`,
//! `restart`, `strangers`, or `peers`, which `make bench-peers` prepares; `BENCH_PROGRAM` the
//! program in place of the one that cargo built beside the bench, which has the simulators in it.

mod peers;
#[path = "../../tests/support/relay_config.rs"]
mod relay_config;
mod site;

use std::fs;
use std::io::{Seek as _, Write as _};
use std::time::{Duration, Instant};

use maxchannel_simulator::creatio;

use site::{Senders, Site, Table, quantile};

/// How long a process is left alone before its memory is read: the first looks outside are over,
/// connections are idle.
const IDLE: Duration = Duration::from_secs(4);
const CUSTOMERS: usize = 200;
const LATENCY_MESSAGES: usize = 1_000;
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

const MIB: f64 = 1024.0 * 1024.0;

async fn memory(table: &mut Table) {
    let site = Site::new(0).await;
    let program = site.start_run();
    site.until_ready().await;
    tokio::time::sleep(IDLE).await;
    let whole = program.memory();
    drop(program);
    // The set-up in the CRM is there, made by the run before.
    site.write_relay_config(|_| {});
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
    let customers = site.open_dialogs(CUSTOMERS).await;
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

/// A start with a thousand open dialogs, all of which are read back, while messages come from the
/// first moment on.
async fn restart(table: &mut Table) {
    let site = Site::new(0).await;
    let program = site.start_run();
    site.until_ready().await;
    let customers = site.open_dialogs(OPEN_DIALOGS).await;
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
    let customers = site.open_dialogs(CUSTOMERS).await;
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
        // Needs what `make bench-peers` builds.
        if only == "peers" {
            peers::compare(runs).await;
        }
        // Minutes, most of which MAX's limit takes.
        if wanted("restart") {
            restart(&mut table).await;
        }
    });
    println!("{before}; at the end {}; {runs} runs in {:.0} s", machine(), begin.elapsed().as_secs_f64());
    table.print();
}
