//! How the controller grows with its channels:
//! `cargo test --test kubernetes -- --ignored --nocapture bench_controller`.
//!
//! The controller is a process of its own, so that its memory is its own: the program that
//! `BENCH_PROGRAM` names (a release build), or else this test program again. Relays' `/status` is a
//! fake's and no pod runs. `MAXCHANNEL_BENCH_CHANNELS` lists how many, `1000` unless set.
//!
//! The floor is a bare client that makes the very same requests for as many channels, as many at
//! once, and decides nothing: what takes longer is the controller's own.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource, ResourceExt as _};
use maxchannel::api::MaxChannel;
use maxchannel::controller::RelayLink;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::audit::{self, Request};
use crate::fleet::Fleet;
use crate::world::{Cluster, Controller, IMAGE, World, as_controller, settings, until};

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
    let given = std::env::var("MAXCHANNEL_BENCH_CHANNELS").unwrap_or_else(|_| "1000".to_owned());
    let mut rows = Vec::new();
    for count in given.split(',').map(|text| text.trim().parse::<u32>().unwrap()) {
        rows.push(measure(&cluster, count).await);
    }
    println!(
        "| Channels | All Ready after | A bare client takes | Processor time | Memory | API requests | of them reads | of them events | Calls outside |\n|---|---|---|---|---|---|---|---|---|"
    );
    for (first, _) in &rows {
        println!("{first}");
    }
    println!(
        "\n| Channels | Processor | Memory, most | API requests | of them writes | Calls outside | Edit to applied, p50 | p99 |\n|---|---|---|---|---|---|---|---|"
    );
    for (_, steady) in &rows {
        println!("{steady}");
    }
}

/// The program to be measured, as the ServiceAccount of the release.
async fn program(world: &World, fleet: &Fleet, port: std::net::SocketAddr) -> Command {
    let words = [world.namespace.clone(), world.max.url(), fleet.mango.clone(), fleet.relays.clone(), port.to_string()];
    let Some(program) = std::env::var_os("BENCH_PROGRAM") else {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "bench::bench_child", "--nocapture"]).env(CHILD, words.join(" "));
        return command;
    };
    let read = std::fs::read_to_string(std::env::var("KUBECONFIG").unwrap()).unwrap();
    let mut kubeconfig: kube::config::Kubeconfig = kube::config::Kubeconfig::from_yaml(&read).unwrap();
    let account = as_controller(&world.namespace, "rights").await.auth_info;
    for user in &mut kubeconfig.auth_infos {
        let info = user.auth_info.get_or_insert_default();
        info.impersonate.clone_from(&account.impersonate);
        info.impersonate_groups.clone_from(&account.impersonate_groups);
    }
    let path = world.cluster.state.join(format!("{}.kubeconfig", world.namespace));
    std::fs::write(&path, serde_json::to_string(&kubeconfig).unwrap()).unwrap();
    let [namespace, max, mango, relays, _] = &words;
    let mut command = Command::new(program);
    command.arg("controller").env("KUBECONFIG", path);
    command.envs([
        ("MAXCHANNEL_LISTEN", port.to_string().as_str()),
        ("MAXCHANNEL_WATCH_NAMESPACES", namespace),
        ("POD_NAMESPACE", namespace),
        ("MAXCHANNEL_LEASE", "rights-maxchannel"),
        ("MAXCHANNEL_RELAY_IMAGE", IMAGE),
        ("MAXCHANNEL_MAX_URL", max),
        ("MAXCHANNEL_MANGO_URL", mango),
        ("MAXCHANNEL_PLAYED_RELAYS", relays),
        ("MAXCHANNEL_LOG", "error"),
    ]);
    command
}

/// What the controller has made of a kind for each channel, to be made again elsewhere.
async fn made<K>(world: &World) -> BTreeMap<String, Value>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let selector =
        ListParams::default().labels("app.kubernetes.io/managed-by=maxchannel,app.kubernetes.io/component=relay");
    let all = world.api::<K>().list(&selector).await.unwrap();
    let bare = all.into_iter().map(|mut object| {
        let (labels, annotations) = (object.labels().clone(), object.annotations().clone());
        let name = object.name_any();
        *object.meta_mut() = kube::core::ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..Default::default()
        };
        let mut value = serde_json::to_value(object).unwrap();
        value.as_object_mut().unwrap().remove("status");
        if let Some(spec) = value["spec"].as_object_mut() {
            // The server gives another.
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        (name, value)
    });
    bare.collect()
}

/// How long a bare client takes for the same requests as the controller made, with channels of the
/// same manifests in another namespace.
async fn floor(cluster: &Cluster, world: &World, count: u32, events: u32) -> f64 {
    let other = World::start(cluster).await;
    let fleet = Fleet::start(&other).await;
    other.put_other_secrets().await;
    let making = futures::stream::iter(0..count as usize).for_each_concurrent(16, |number| fleet.add(&other, number));
    making.await;
    let (accounts, secrets, services) =
        (made::<ServiceAccount>(world).await, made::<Secret>(world).await, made::<Service>(world).await);
    let (policies, sets) = (made::<NetworkPolicy>(world).await, made::<StatefulSet>(world).await);
    let statuses: BTreeMap<String, Value> = {
        let all = world.api::<MaxChannel>().list(&ListParams::default()).await.unwrap();
        all.into_iter().map(|channel| (channel.name_any(), serde_json::to_value(channel.status).unwrap())).collect()
    };
    let began = Instant::now();
    let (here, statuses) = (&other, &statuses);
    let (accounts, secrets, services, policies, sets) = (&accounts, &secrets, &services, &policies, &sets);
    let work = futures::stream::iter(0..count).for_each_concurrent(32, |number| async move {
        let name = format!("c{number}");
        let relay = format!("{name}-relay");
        let channels: Api<MaxChannel> = here.api();
        for secret in [format!("bot-{number}"), format!("mango-{number}")] {
            here.api::<Secret>().get(&secret).await.unwrap();
        }
        let finalizer = json!({"metadata": {"finalizers": ["bench/floor"]}});
        channels.patch(&name, &PatchParams::default(), &Patch::Merge(finalizer)).await.unwrap();
        macro_rules! make {
            ($($kind:ty: $made:expr),*) => {$(
                let object: $kind = serde_json::from_value($made[&relay].clone()).unwrap();
                here.api::<$kind>().create(&PostParams::default(), &object).await.unwrap();
            )*};
        }
        make!(ServiceAccount: accounts, Secret: secrets, Service: services, NetworkPolicy: policies, StatefulSet: sets);
        for event in 0..events {
            let event: Event = serde_json::from_value(json!({
                "metadata": {"name": format!("{name}.{event}")}, "eventTime": "2026-01-01T00:00:00.000000Z",
                "type": "Normal", "reason": "Bench", "action": "Bench", "note": "What the controller tells is as long as this.",
                "reportingController": "bench", "reportingInstance": "bench",
                "regarding": {"kind": "MaxChannel", "namespace": here.namespace, "name": name},
            }))
            .unwrap();
            here.api::<Event>().create(&PostParams::default(), &event).await.unwrap();
        }
        let status = json!({"apiVersion": "maxchannel.dev/v1alpha1", "kind": "MaxChannel", "status": statuses[&name]});
        channels.patch_status(&name, &PatchParams::apply("floor").force(), &Patch::Apply(status)).await.unwrap();
    });
    work.await;
    let took = began.elapsed().as_secs_f64();
    other.end().await;
    took
}

/// The times from an edit to the status that speaks of it, sorted, for edits of some channels, ten
/// a second.
async fn edits(world: &World, count: u32) -> Vec<Duration> {
    let channels: Api<MaxChannel> = world.api();
    let handled = std::sync::Arc::new(std::sync::Mutex::new(BTreeMap::<(String, i64), Instant>::new()));
    let seen = handled.clone();
    let watching = watcher(channels.clone(), watcher::Config::default()).applied_objects();
    let watching = tokio::spawn(async move {
        let mut watching = std::pin::pin!(watching);
        while let Some(Ok(channel)) = watching.next().await {
            let told = channel.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
            seen.lock().unwrap().entry((channel.name_any(), told)).or_insert_with(Instant::now);
        }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut sent = Vec::new();
    for number in 0..count.min(200) {
        let name = format!("c{}", number * (count / count.min(200)));
        let body = json!({"spec": {"autoReplies": [{"after": "2h", "text": "Скоро ответим."}]}});
        let at = Instant::now();
        let edited = channels.patch(&name, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
        sent.push((name, edited.metadata.generation.unwrap(), at));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = |all: &BTreeMap<(String, i64), Instant>| -> Option<Vec<Duration>> {
        let took = |(name, generation, at): &(String, i64, Instant)| {
            all.get(&(name.clone(), *generation)).map(|handled| handled.saturating_duration_since(*at))
        };
        sent.iter().map(took).collect()
    };
    let mut all = until("all edits are handled", Duration::from_mins(5), || {
        let took = took(&handled.lock().unwrap());
        std::future::ready(took)
    })
    .await;
    watching.abort();
    all.sort();
    all
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
    let mut command = program(&world, &fleet, port).await;
    let mark = audit::mark(cluster);
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
        assert!(began.elapsed() < Duration::from_mins(45), "not all are Ready:\n{metrics}");
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            eprintln!("{ready} of {count} are Ready after {:.0} s", began.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let (took, processor, memory) = (began.elapsed().as_secs_f64(), child.processor(), child.memory("VmRSS"));
    eprintln!(
        "all {count} are Ready after {took:.1} s: {:.0} ms of processor time each, {memory} MiB",
        processor / f64::from(count) * 1_000.0
    );
    let user = format!("system:serviceaccount:{}:rights-maxchannel", world.namespace);
    let requests = |mark| {
        let all = audit::since(cluster, mark, |who| who == user).into_iter();
        let all: Vec<_> = all.filter(|request| request.resource != "leases").collect();
        let events = all.iter().filter(|request| request.resource == "events").count();
        let writes = all.iter().filter(|request| request.is_write()).count();
        let mut kinds: BTreeMap<(String, String), u32> = BTreeMap::new();
        for Request { verb, resource, .. } in &all {
            *kinds.entry((verb.clone(), resource.clone())).or_default() += 1;
        }
        for ((verb, resource), times) in kinds {
            eprintln!("{verb} {resource}: {:.2} each", f64::from(times) / f64::from(count));
        }
        [all.len(), writes, events].map(|many| u32::try_from(many).unwrap())
    };
    let each = |sum: f64| sum / f64::from(count);
    let [all, writes, events] = requests(mark);
    let mut told: BTreeMap<String, u32> = BTreeMap::new();
    for event in world.api::<Event>().list(&ListParams::default()).await.unwrap() {
        if event.regarding.and_then(|about| about.kind).as_deref() == Some("MaxChannel") {
            *told.entry(event.reason.unwrap_or_default()).or_default() += 1;
        }
    }
    for (reason, times) in told {
        eprintln!("event {reason}: {:.2} each", f64::from(times) / f64::from(count));
    }

    // What the API server itself still makes of it, the pods that nobody runs for instance, ends
    // meanwhile, and so do the pauses of those who were Ready first: up to four times as long while
    // others wait.
    tokio::time::sleep(Duration::from_mins(4)).await;
    let (mark, processor_before, before) = (audit::mark(cluster), child.processor(), scrape().await.unwrap());
    let began = Instant::now();
    tokio::time::sleep(Duration::from_mins(1)).await;
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let (after, [steady_all, steady_writes, _]) = (scrape().await.unwrap(), requests(mark));
    let (busy, most) = ((child.processor() - processor_before) / minutes / 60.0 * 100.0, child.memory("VmHWM"));
    let edits = edits(&world, count).await;
    drop(child);
    let steady = format!(
        "| {count} | {busy:.1} % of a core | {most} MiB | {:.2} each a minute | {steady_writes} in all | {:.2} each a minute | {} ms | {} ms |",
        each(f64::from(steady_all) / minutes),
        each((sum(&after, CALLS) - sum(&before, CALLS)) / minutes),
        edits[edits.len() / 2].as_millis(),
        edits[edits.len() * 99 / 100].as_millis(),
    );
    // The floor takes as long again: who ends the bench here has this row all the same.
    eprintln!("{steady}");
    let floor = floor(cluster, &world, count, (events + count / 2) / count).await;
    let first = format!(
        "| {count} | {took:.1} s, {:.0} a second | {floor:.1} s | {:.0} ms each | {memory} MiB | {:.1} each | {:.1} each | {:.1} each | {:.1} each |",
        f64::from(count) / took,
        each(processor) * 1_000.0,
        each(all.into()),
        each((all - writes).into()),
        each(events.into()),
        each(sum(&metrics, CALLS)),
    );
    eprintln!("{first}");
    world.end().await;
    (first, steady)
}
