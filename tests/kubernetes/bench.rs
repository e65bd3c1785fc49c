//! How the controller grows with its channels:
//! `cargo test --test kubernetes -- --ignored --nocapture bench_controller`.
//!
//! The controller is a process of its own (this program again), so that its memory is its own.
//! Relays' `/status` is a fake's and no pod runs. `MAXCHANNEL_BENCH_CHANNELS` lists how many,
//! `100,1000,5000` unless set.

use std::process::Command;
use std::time::{Duration, Instant};

use futures::StreamExt as _;

use maxchannel::controller::RelayLink;

use crate::audit;
use crate::fleet::Fleet;
use crate::world::{Cluster, Controller, World, as_controller, settings};

const CHILD: &str = "MAXCHANNEL_BENCH_CONTROLLER";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the controller's half of the bench, started by it"]
async fn bench_child() {
    let Ok(given) = std::env::var(CHILD) else { return };
    let Some(_) = Cluster::get().await else { return };
    let words: Vec<&str> = given.split(' ').collect();
    let [namespace, max, mango, relays, listen] = words.as_slice() else { panic!("{CHILD} is made by the bench") };
    let mut settings = settings(namespace, max, mango);
    settings.relay_link = RelayLink::Fake { base: (*relays).to_owned() };
    settings.listen = listen.parse().unwrap();
    let (client, watching) = maxchannel::controller::clients(as_controller(namespace, "rights").await).unwrap();
    Controller::start(settings, client, watching).await.running.stopped().await;
}

struct Child(std::process::Child);

impl Child {
    /// A line of /proc/PID/status, in MiB.
    fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    }

    /// Processor time so far, user and system, in seconds.
    fn processor(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // After the name, which ends with the last parenthesis, the 12th and 13th: hundredths of a
        // second (proc(5)).
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The sum of a metric over all its labels.
fn sum(metrics: &str, name: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

const CALLS: &str = "maxchannel_controller_saas_requests_total";
const READY: &str = "maxchannel_controller_condition{type=\"Ready\",status=\"True\"}";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make bench-controller"]
async fn bench_controller() {
    let Some(cluster) = Cluster::get().await else { return };
    let given = std::env::var("MAXCHANNEL_BENCH_CHANNELS").unwrap_or_else(|_| "100,1000,5000".to_owned());
    let mut rows = Vec::new();
    for count in given.split(',').map(|text| text.trim().parse::<u32>().unwrap()) {
        rows.push(measure(&cluster, count).await);
    }
    println!(
        "| Channels | All Ready after | Processor time | Memory | API requests | of them writes | Calls outside |\n|---|---|---|---|---|---|---|"
    );
    for (first, _) in &rows {
        println!("{first}");
    }
    println!(
        "\n| Channels | Processor | Memory, most | API requests | of them writes | Calls outside |\n|---|---|---|---|---|---|"
    );
    for (_, steady) in &rows {
        println!("{steady}");
    }
}

/// A row about the beginning and one about the steady state after it.
async fn measure(cluster: &Cluster, count: u32) -> (String, String) {
    let world = World::start(cluster).await;
    world.install("rights", &["--set", "replicaCount=0"]);
    let fleet = Fleet::start(&world).await;
    world.put_other_secrets().await;
    let making = futures::stream::iter(0..count as usize).for_each_concurrent(16, |number| fleet.add(&world, number));
    making.await;

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let words = [world.namespace.clone(), world.max.url(), fleet.mango.clone(), fleet.relays.clone(), port.to_string()];
    let mark = audit::mark(cluster);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "bench::bench_child", "--nocapture"]).env(CHILD, words.join(" "));
    let began = Instant::now();
    let child = Child(command.stdout(std::process::Stdio::null()).spawn().unwrap());
    let http = reqwest::Client::new();
    let scrape = || async {
        let answer = http.get(format!("http://{port}/metrics")).send().await.ok()?;
        answer.text().await.ok()
    };
    let mut told = Instant::now();
    let metrics = loop {
        let metrics = scrape().await.unwrap_or_default();
        let ready = sum(&metrics, READY);
        if ready >= f64::from(count) {
            break metrics;
        }
        assert!(began.elapsed() < Duration::from_mins(30), "not all are Ready:\n{metrics}");
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            eprintln!("{ready} of {count} are Ready after {:.0} s", began.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let (took, processor, memory) = (began.elapsed().as_secs_f64(), child.processor(), child.memory("VmRSS"));
    let user = format!("system:serviceaccount:{}:rights-maxchannel", world.namespace);
    let requests = |mark| {
        let all = audit::since(cluster, mark, |who| who == user).into_iter();
        let all: Vec<_> = all.filter(|request| request.resource != "leases").collect();
        let writes = all.iter().filter(|request| request.is_write()).count();
        (u32::try_from(all.len()).unwrap(), u32::try_from(writes).unwrap())
    };
    let each = |sum: f64| sum / f64::from(count);
    let (all, writes) = requests(mark);
    let first = format!(
        "| {count} | {took:.1} s, {:.0} a second | {:.0} ms each | {memory} MiB | {:.1} each | {:.1} each | {:.1} each |",
        f64::from(count) / took,
        each(processor) * 1_000.0,
        each(all.into()),
        each(writes.into()),
        each(sum(&metrics, CALLS)),
    );

    // What the API server itself still makes of it, the pods that nobody runs for instance, ends
    // meanwhile.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let (mark, processor, before) = (audit::mark(cluster), child.processor(), scrape().await.unwrap());
    let began = Instant::now();
    tokio::time::sleep(Duration::from_mins(1)).await;
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let (after, (all, writes)) = (scrape().await.unwrap(), requests(mark));
    let steady = format!(
        "| {count} | {:.1} % of a core | {} MiB | {:.2} each a minute | {writes} in all | {:.2} each a minute |",
        (child.processor() - processor) / minutes / 60.0 * 100.0,
        child.memory("VmHWM"),
        each(f64::from(all) / minutes),
        each((sum(&after, CALLS) - sum(&before, CALLS)) / minutes),
    );
    eprintln!("{first}\n{steady}");
    drop(child);
    world.end().await;
    (first, steady)
}
