//! How the controller grows with its channels: `cargo test --test kubernetes -- --ignored --nocapture bench_controller`.
//!
//! The controller is a process of its own (this program again), so that its memory is its own. Relays' `/status` is played and no pod
//! runs. `MAXCHANNEL_BENCH_CHANNELS` lists how many, `100,1000,5000` unless set.

use std::process::Command;
use std::time::{Duration, Instant};

use futures::StreamExt as _;

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
    settings.played_relays = Some((*relays).to_owned());
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
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make bench-controller"]
async fn bench_controller() {
    let Some(cluster) = Cluster::get().await else { return };
    let given = std::env::var("MAXCHANNEL_BENCH_CHANNELS").unwrap_or_else(|_| "100,1000,5000".to_owned());
    println!(
        "| Channels | All Ready after | Memory, steady | Memory, most | API requests per channel | of them writes | Calls outside per channel |"
    );
    println!("|---|---|---|---|---|---|---|");
    for count in given.split(',').map(|text| text.trim().parse::<usize>().unwrap()) {
        let world = World::start(&cluster).await;
        world.install("rights", &["--set", "replicaCount=0"]);
        let fleet = Fleet::start(&world).await;
        world.put_other_secrets().await;
        let making = futures::stream::iter(0..count).for_each_concurrent(16, |number| fleet.add(&world, number));
        making.await;

        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let words =
            [world.namespace.clone(), world.max.url(), fleet.mango.clone(), fleet.relays.clone(), port.to_string()];
        let mark = audit::mark(&cluster);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "bench::bench_child", "--nocapture"]).env(CHILD, words.join(" "));
        let began = Instant::now();
        let child = Child(command.stdout(std::process::Stdio::null()).spawn().unwrap());
        let wanted = format!("maxchannel_controller_condition{{type=\"Ready\",status=\"True\"}} {count}");
        loop {
            let metrics = match reqwest::get(format!("http://{port}/metrics")).await {
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(_) => String::new(),
            };
            if metrics.lines().any(|line| line == wanted) {
                break;
            }
            assert!(began.elapsed() < Duration::from_mins(20), "not all are Ready:\n{metrics}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let took = began.elapsed();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let user = format!("system:serviceaccount:{}:rights-maxchannel", world.namespace);
        let requests = audit::since(&cluster, mark, |who| who == user);
        let writes = requests.iter().filter(|request| request.is_write()).count();
        let max: u64 = world.max.control().statistics().requests.values().sum();
        let crm = world.crm.control().counters()["total"].as_u64().unwrap();
        let each = |sum: f64| sum / f64::from(u32::try_from(count).unwrap());
        let as_float = |number: usize| f64::from(u32::try_from(number).unwrap());
        println!(
            "| {count} | {:.1} s | {} MiB | {} MiB | {:.1} | {:.1} | {:.1} |",
            took.as_secs_f64(),
            child.memory("VmRSS"),
            child.memory("VmHWM"),
            each(as_float(requests.len())),
            each(as_float(writes)),
            each(f64::from(u32::try_from(max + crm).unwrap())),
        );
        drop(child);
        world.end().await;
    }
}
