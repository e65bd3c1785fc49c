//! The alerts and dashboards of the chart in a real Prometheus: each alert fires by its fault and
//! resolves, each panel shows something.
//!
//! The scrape configuration is that of docs/alerts; only who is scraped is told from here, for
//! Debian's Prometheus cannot ask an API server. Times and thresholds are shortened: the true ones
//! are tested by `promtool test rules`.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use maxchannel::api::MaxChannel;
use maxchannel::controller::Settings;
use maxchannel_simulator::creatio::Outage;
use maxchannel_simulator::max::{DialogAction, Fault, Outcome, Twist, UpdateFault};
use serde_json::{Value, json};

use crate::definition;
use crate::world::{Cluster, Controller, World, root, until};

/// Long enough for a window of the shortened rules to pass.
const LIMIT: Duration = Duration::from_mins(2);
/// Tells of a fault of the program itself, which nothing outside can make. The tests of the rules
/// let it fire; here its series is there and stays at nought.
const OF_THE_PROGRAM: &str = "MaxChannelReceiptOff";
/// A bucket of the rules in place of minutes and hours.
const WINDOW: &str = "15s";

struct Prometheus {
    folder: tempfile::TempDir,
    process: Child,
    url: String,
    began: f64,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn program() -> PathBuf {
    let output = Command::new(root().join("scripts/tools.sh")).arg("prometheus").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// The rules with times that a test can wait for.
fn shortened(rules: &str) -> String {
    let lines = rules.lines().map(|line| {
        let line = if line.trim_start().starts_with("for: ") {
            line.split("for:").next().unwrap().to_owned() + "for: 1s"
        } else {
            line.to_owned()
        };
        let line = ["[1h]", "[15m]", "[10m]", "[5m]"]
            .iter()
            .fold(line, |line, long| line.replace(long, &format!("[{WINDOW}]")));
        line.replace("_age_seconds > 300", "_age_seconds > 3")
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Prometheus {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = std::fs::read_to_string(root().join("charts/maxchannel/files/alerts.yaml")).unwrap();
        std::fs::write(folder.path().join("alerts.yaml"), shortened(&rules)).unwrap();
        let text = std::fs::read_to_string(root().join("docs/alerts/prometheus.yaml")).unwrap();
        let mut settings: Value = serde_yaml::from_str(&text).unwrap();
        settings["global"] = json!({"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"});
        for job in settings["scrape_configs"].as_array_mut().unwrap() {
            let file = folder.path().join(format!("{}.json", job["job_name"].as_str().unwrap()));
            std::fs::write(&file, "[]").unwrap();
            job.as_object_mut()
                .unwrap()
                .remove("kubernetes_sd_configs")
                .expect("it is found by the API server elsewhere");
            job["file_sd_configs"] = json!([{"files": [file], "refresh_interval": "1s"}]);
        }
        let config = folder.path().join("prometheus.yaml");
        std::fs::write(&config, settings.to_string()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(program())
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { folder, process, url: format!("http://127.0.0.1:{port}"), began: now() }
    }

    /// Tells whom to scrape, with what service discovery would know of each.
    fn scrape(&self, job: &str, targets: &Value) {
        let file = self.folder.path().join(format!("{job}.json"));
        let new = file.with_extension("new");
        std::fs::write(&new, targets.to_string()).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    fn scrape_controller(&self, world: &World, controller: &Controller) {
        let labels = json!({
            "__meta_kubernetes_namespace": world.namespace, "__meta_kubernetes_pod_name": "controller",
            "__meta_kubernetes_pod_container_port_name": "http"});
        let targets = json!([{"targets": [controller.running.address.to_string()], "labels": labels}]);
        self.scrape("maxchannel-controller", &targets);
    }

    async fn scrape_relay(&self, world: &World, name: &str) {
        let pod = world.api::<Pod>().get(name).await.unwrap();
        let mut labels = json!({
            "__meta_kubernetes_namespace": world.namespace, "__meta_kubernetes_pod_name": name,
            "__meta_kubernetes_pod_container_port_name": pod.spec.unwrap().containers[0].ports.as_ref().unwrap()[0].name});
        for (label, value) in pod.metadata.labels.unwrap() {
            let plain = label.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            labels[format!("__meta_kubernetes_pod_label_{plain}")] = json!(value);
        }
        let address = pod.status.unwrap().pod_ip.unwrap();
        self.scrape("maxchannel-relays", &json!([{"targets": [format!("{address}:8080")], "labels": labels}]));
    }

    async fn ask(&self, path: &str, parameters: &[(&str, String)]) -> Option<Value> {
        let mut address: url::Url = format!("{}/api/v1/{path}", self.url).parse().unwrap();
        address.query_pairs_mut().extend_pairs(parameters);
        let answer = reqwest::get(address).await;
        let answer: Value = serde_json::from_slice(&answer.ok()?.bytes().await.ok()?).ok()?;
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        Some(answer["data"]["result"].clone())
    }

    async fn firing(&self, alert: &str) -> Option<Vec<Value>> {
        let query = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}");
        Some(self.ask("query", &[("query", query)]).await?.as_array()?.clone())
    }

    async fn fires(&self, alert: &str) -> Value {
        until(&format!("{alert} fires"), LIMIT, || async { self.firing(alert).await?.first().cloned() }).await["metric"]
            .clone()
    }

    async fn resolves(&self, alert: &str) {
        until(&format!("{alert} resolves"), LIMIT, || async { self.firing(alert).await?.is_empty().then_some(()) })
            .await;
    }

    /// What a panel has shown at any time since the start.
    async fn shown(&self, query: &str) -> usize {
        let parameters = [
            ("query", query.to_owned()),
            ("start", self.began.to_string()),
            ("end", now().to_string()),
            ("step", "1".to_owned()),
        ];
        let series = self.ask("query_range", &parameters).await.unwrap();
        let points = series.as_array().unwrap().iter().flat_map(|one| one["values"].as_array().unwrap());
        points.filter(|point| point[1] != "NaN").count()
    }
}

fn sends(method: &str, times: u32, effect: bool, outcome: Outcome) -> Fault {
    let path = Some("/messages".to_owned());
    Fault { method: Some(method.to_owned()), path, times, effect, outcome, ..Fault::default() }
}

/// Looks often, so that a test need not wait.
fn hasty(world: &World) -> Settings {
    let mut settings = world.settings();
    settings.cadence.subscriptions = 1_000;
    settings.cadence.bot = 2_000;
    settings.cadence.crm = 2_000;
    settings.relay_interval = Duration::from_secs(1);
    settings
}

async fn touch(world: &World, mark: &str) {
    let body = json!({"metadata": {"annotations": {"maxchannel.dev/reconcile-at": mark}}});
    world.api::<MaxChannel>().patch("support", &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_fires_by_its_fault_and_resolves_and_every_panel_shows_something() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::alone(&cluster).await;
    let prometheus = Prometheus::start();
    let channel = format!("{}/support", world.namespace);
    prometheus.fires("MaxChannelControllerGone").await;

    // One of the watched namespaces is not there yet.
    let mut settings = hasty(&world);
    let other = format!("{}-other", world.namespace);
    settings.namespaces.push(other.clone());
    let controller = world.controller_with(settings.clone()).await;
    prometheus.scrape_controller(&world, &controller);
    prometheus.resolves("MaxChannelControllerGone").await;
    prometheus.fires("MaxChannelNamespaceUnserved").await;
    serve(&world, &other).await;
    prometheus.resolves("MaxChannelNamespaceUnserved").await;

    world.put_secrets().await;
    let disk = Disk::new(&world);
    let mut manifest = world.manifest("support");
    manifest["spec"]["relay"] = json!({"storage": {"volumeClaim": {"size": "1Gi"}}});
    world.apply(&manifest).await;
    world.until_ready("support").await;
    prometheus.scrape_relay(&world, "support-relay-0").await;
    let customer = world.customer();
    world.max.control().add_update_fault(UpdateFault { twist: Twist::Duplicate, ..UpdateFault::default() });
    world.say(&customer, "Здравствуйте");
    let chat = world.accept(&customer).await;
    let answer = |text: &str| world.crm.control().send(chat, world.agent, text, Vec::new()).unwrap();
    let control = world.max.control();

    // The CRM is away and comes back.
    world.crm.control().outage(Some(Outage::Unavailable));
    world.say(&customer, "Вы тут?");
    let labels = prometheus.fires("MaxChannelMessagesWait").await;
    assert_eq!(labels["channel"], json!(channel), "{labels}");
    assert_eq!(prometheus.fires("MaxChannelOutsideUnreachable").await["provider"], "creatio");
    world.crm.control().outage(None);
    prometheus.resolves("MaxChannelMessagesWait").await;
    prometheus.resolves("MaxChannelOutsideUnreachable").await;

    // Refused for good, and then: nobody knows.
    control.act(customer.id, world.bot, DialogAction::Stop).unwrap();
    answer("Да");
    prometheus.fires("MaxChannelMessagesGivenUp").await;
    control.act(customer.id, world.bot, DialogAction::Start(None)).unwrap();
    control.add_fault(sends("POST", 1, true, Outcome::Drop));
    control.add_fault(sends("GET", 0, false, Outcome::error(403, "chat.denied", "not an admin")));
    answer("Деньги вернули");
    prometheus.fires("MaxChannelDeliveryUncertain").await;
    control.clear_faults();
    control.add_fault(sends("POST", 6, false, Outcome::error(429, "too.many.requests", "slow down")));
    answer("Проверьте счёт");
    prometheus.fires("MaxChannelThrottled").await;
    control.clear_faults();

    let webhook = world.subscriptions().pop().unwrap();
    for _ in 0..40 {
        let client = reqwest::Client::new();
        let refused = client.post(&webhook).header("x-max-bot-api-secret", "guessed").body("{}").send().await.unwrap();
        assert!(!refused.status().is_success(), "{}", refused.status());
    }
    prometheus.fires("MaxChannelForbiddenWebhooks").await;
    // The row must be odd before the relay reads it for the first time.
    world.crm.control().outage(Some(Outage::Unavailable));
    let sent = answer("Нечитаемо").messages[0].to_string();
    let row = world.crm.control().outbox().into_iter().find(|row| row["MessageId"] == json!(sent)).unwrap();
    world.crm.control().spoil(row["Id"].as_str().unwrap().parse().unwrap(), "Files", "7");
    world.crm.control().outage(None);
    assert_eq!(prometheus.fires("MaxChannelElementsSetAside").await["channel"], json!(channel));

    disk.fill();
    world.say(&customer, "Ещё вопрос");
    answer("Слушаю");
    prometheus.fires("MaxChannelStoreFails").await;
    disk.empty();

    // The token is revoked; the API server takes no status.
    control.revoke_token(world.bot).unwrap();
    prometheus.fires("MaxChannelStalled").await;
    prometheus.fires("MaxChannelNotReady").await;
    let token = control.issue_token(world.bot, None).unwrap();
    world.put_token(&token).await;
    prometheus.resolves("MaxChannelStalled").await;
    prometheus.resolves("MaxChannelNotReady").await;
    let rights = Rights::without_the_status(&world).await;
    touch(&world, "1").await;
    prometheus.fires("MaxChannelPassesFail").await;
    rights.give_back(&world).await;
    touch(&world, "2").await;
    prometheus.resolves("MaxChannelPassesFail").await;

    // An image that nobody has, and the one before again.
    controller.stop().await;
    let good = settings.relay_image.clone();
    settings.relay_image = "localhost/maxchannel:never-built".to_owned();
    settings.relay_pull_policy = Some("Never".to_owned());
    let controller = world.controller_with(settings.clone()).await;
    prometheus.scrape_controller(&world, &controller);
    prometheus.fires("MaxChannelRelayUnavailable").await;
    prometheus.fires("MaxChannelRolloutFailed").await;
    controller.stop().await;
    settings.relay_image = good;
    let controller = world.controller_with(settings).await;
    prometheus.scrape_controller(&world, &controller);
    prometheus.resolves("MaxChannelRelayUnavailable").await;
    prometheus.resolves("MaxChannelRolloutFailed").await;
    world.until_ready("support").await;

    for alert in ["GivenUp", "Uncertain", "Throttled", "Webhooks", "SetAside", "StoreFails"] {
        let alert = alerts().into_iter().find(|name| name.ends_with(alert) || name.contains(alert)).unwrap();
        prometheus.resolves(&alert).await;
    }
    assert_panels_show(&prometheus, &channel).await;

    // What was given up above would be waited for.
    let force = json!({"metadata": {"annotations": {"maxchannel.dev/force-delete": "true"}}});
    world.api::<MaxChannel>().patch("support", &PatchParams::default(), &Patch::Merge(force)).await.unwrap();
    world.delete("support").await;
    until("the channel is gone", LIMIT, || async {
        world.api::<MaxChannel>().get_opt("support").await.unwrap().is_none().then_some(())
    })
    .await;
    definition::remove(&world).await;
    prometheus.fires("MaxChannelDefinitionMissing").await;
    definition::install(&world, &maxchannel::api::crd()).await;
    prometheus.resolves("MaxChannelDefinitionMissing").await;
    assert!(prometheus.shown("maxchannel_relay_receipt_imbalance == 0").await > 0, "no relay tells of its receipt");
    assert_eq!(prometheus.shown("maxchannel_relay_receipt_imbalance != 0").await, 0, "the receipt was off");
    for alert in alerts().into_iter().filter(|alert| alert != OF_THE_PROGRAM) {
        let times = prometheus.shown(&format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}")).await;
        assert!(times > 0, "nothing here makes {alert} fire");
    }
    controller.stop().await;
    world.end().await;
}

fn alerts() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("charts/maxchannel/files/alerts.yaml")).unwrap();
    let rules: Value = serde_yaml::from_str(&text).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    rules.map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect()
}

async fn assert_panels_show(prometheus: &Prometheus, channel: &str) {
    let mut empty = Vec::new();
    for name in ["installation", "channel"] {
        let file = root().join(format!("charts/maxchannel/files/dashboards/{name}.json"));
        let board: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap();
                let words =
                    [("$__rate_interval", WINDOW), ("$__range", "5m"), ("$namespace", ".*"), ("$channel", channel)];
                let query = words.iter().fold(query.to_owned(), |query, (word, value)| query.replace(word, value));
                if prometheus.shown(&query).await == 0 {
                    empty.push(format!("{name}: {}: {query}", panel["title"]));
                }
            }
        }
    }
    assert!(empty.is_empty(), "these panels show nothing:\n{}", empty.join("\n"));
}

/// Makes a namespace, with the role that the chart gives in those that it knows.
async fn serve(world: &World, other: &str) {
    let object: Namespace = serde_json::from_value(json!({"metadata": {"name": other}})).unwrap();
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.create(&PostParams::default(), &object).await.unwrap();
    for kind in ["role", "rolebinding"] {
        let text =
            world.cluster.kubectl(&["-n", &world.namespace, "get", kind, "rights-maxchannel-channels", "-o", "json"]);
        let mut copy: Value = serde_json::from_str(&text).unwrap();
        copy["metadata"] = json!({"name": copy["metadata"]["name"], "namespace": other});
        let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        std::fs::write(file.path(), copy.to_string()).unwrap();
        world.cluster.kubectl(&["create", "-f", file.path().to_str().unwrap()]);
    }
}

/// The controller's role, and what it was before.
struct Rights(Role);

impl Rights {
    const NAME: &str = "rights-maxchannel-channels";

    async fn without_the_status(world: &World) -> Self {
        let before = world.api::<Role>().get(Self::NAME).await.unwrap();
        let mut less = before.clone();
        let of_status =
            |resources: &Option<Vec<String>>| resources.iter().flatten().any(|one| one == "maxchannels/status");
        less.rules.as_mut().unwrap().retain(|rule| !of_status(&rule.resources));
        assert_ne!(less.rules, before.rules);
        Self::put(world, &less).await;
        Self(before)
    }

    async fn give_back(self, world: &World) {
        Self::put(world, &self.0).await;
    }

    async fn put(world: &World, role: &Role) {
        let body = json!({"rules": role.rules});
        world.api::<Role>().patch(Self::NAME, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
    }
}

/// A small volume for a relay, which can be filled up: memory of the node's, mounted where the
/// test's volumes are.
struct Disk {
    folder: PathBuf,
    node: String,
}

impl Disk {
    fn new(world: &World) -> Self {
        let volumes = world.cluster.state.join("volumes");
        let known = || std::fs::read_dir(&volumes).into_iter().flatten().map(|entry| entry.unwrap().path());
        let before: Vec<_> = known().collect();
        world.cluster.volumes(1);
        let folder = known().find(|folder| !before.contains(folder)).expect("a volume was made");
        let record = std::fs::read_to_string(world.cluster.state.join("pids/node")).unwrap();
        let output = Command::new("pgrep").args(["-P", record.split(' ').next().unwrap()]).output().unwrap();
        let node = String::from_utf8(output.stdout).unwrap().lines().next().unwrap().to_owned();
        let disk = Self { folder, node };
        disk.run(&["mount", "-t", "tmpfs", "-o", "size=16m,mode=0777", "tmpfs"]);
        disk
    }

    fn run(&self, command: &[&str]) {
        let mut whole = Command::new("nsenter");
        whole.args(["--target", &self.node, "--mount", "--"]).args(command);
        if command[0] == "mount" {
            whole.arg(&self.folder);
        }
        let output = whole.output().unwrap();
        let expected = output.status.success() || command[0] == "dd";
        assert!(expected, "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// To the last byte.
    fn fill(&self) {
        self.run(&["dd", "if=/dev/zero", &format!("of={}", self.folder.join("filler").display()), "bs=4096"]);
    }

    fn empty(&self) {
        self.run(&["rm", self.folder.join("filler").to_str().unwrap()]);
    }
}
