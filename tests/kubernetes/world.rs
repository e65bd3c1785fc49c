//! A namespace with simulators around it, and a controller: in this process, or as the chart
//! installs it.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use maxchannel::api::{self, MaxChannel};
use maxchannel::controller::{self, Running, Settings};
use maxchannel_simulator::{creatio, mango, max};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::controller_settings::controller_settings;

/// How long a test waits for something on the cluster before it fails.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// After a cause is mended.
pub const RECOVERY: Duration = Duration::from_secs(10);
pub const IMAGE: &str = "localhost/maxchannel:dev";

/// Tests that touch the whole cluster are alone.
static GATE: RwLock<()> = RwLock::const_new(());
static DEFINITION: OnceCell<()> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A test's place on the cluster: others run beside it, or none do.
#[derive(Debug)]
pub enum Turn {
    Shared(#[allow(dead_code)] RwLockReadGuard<'static, ()>),
    Alone(#[allow(dead_code)] RwLockWriteGuard<'static, ()>),
    /// On a cluster of the test's own.
    Elsewhere,
}

/// The cluster that the environment names.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    pub host: IpAddr,
    pub mode: String,
    pub state: PathBuf,
    pub kubectl: PathBuf,
}

impl Cluster {
    /// None: there is none, and that was said.
    pub async fn get() -> Option<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        maxchannel::telemetry::start(maxchannel::telemetry::Format::Text, "error,maxchannel=warn");
        let mode = std::env::var("CLUSTER_MODE").unwrap_or_default();
        if std::env::var_os("KUBECONFIG").is_none() || mode.is_empty() {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI must run these tests: start a cluster by tests/kubernetes/up.sh and source its env"
            );
            eprintln!("SKIPPED, nothing was tested: no cluster (make test-kubernetes starts one)");
            return None;
        }
        let client = Client::try_default().await.expect("KUBECONFIG names a cluster");
        let var = |name: &str| std::env::var(name).unwrap_or_default();
        let cluster = Self {
            client,
            host: var("CLUSTER_HOST").parse().unwrap_or(IpAddr::from([127, 0, 0, 1])),
            mode,
            state: var("CLUSTER_STATE").into(),
            kubectl: var("CLUSTER_KUBECTL").into(),
        };
        DEFINITION
            .get_or_init(|| async {
                let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
                let parameters = PatchParams::apply("test").force();
                api.patch("maxchannels.maxchannel.dev", &parameters, &Patch::Apply(api::crd()))
                    .await
                    .expect("the server takes the definition");
                let established = kube::runtime::conditions::is_crd_established();
                let wait = kube::runtime::wait::await_condition(api, "maxchannels.maxchannel.dev", established);
                tokio::time::timeout(PATIENCE, wait).await.expect("in time").expect("established");
            })
            .await;
        Some(cluster)
    }

    /// With a node that runs pods.
    pub async fn with_node() -> Option<Self> {
        let cluster = Self::get().await?;
        if cluster.mode == "node" {
            return Some(cluster);
        }
        assert!(std::env::var_os("CI").is_none(), "CI must have a node of ours");
        eprintln!("SKIPPED, nothing was tested: the cluster's mode is {}, a node is needed", cluster.mode);
        None
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.kubectl).args(arguments).output().expect("kubectl runs");
        assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn script(&self, name: &str, arguments: &[&str]) {
        let script = root().join("tests/kubernetes").join(name);
        let output = Command::new(script).arg(&self.state).args(arguments).output().expect("the script runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn volumes(&self, count: usize) {
        self.script("persistent-volumes.sh", &[&count.to_string()]);
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Simulators, a namespace, and what a channel needs in them.
pub struct World {
    pub cluster: Cluster,
    pub client: Client,
    pub namespace: String,
    pub max: max::Simulator,
    pub mango: mango::Simulator,
    pub crm: creatio::Simulator,
    pub bot: i64,
    pub token: String,
    pub agent: Uuid,
    /// What the world sees of the relays.
    pub public: String,
    releases: std::sync::Mutex<Vec<String>>,
    proxy: tokio::task::JoinHandle<()>,
    _turn: Turn,
}

impl World {
    pub async fn start(cluster: &Cluster) -> Self {
        Self::begin(cluster, Turn::Shared(GATE.read().await)).await
    }

    /// With no other test beside it.
    pub async fn alone(cluster: &Cluster) -> Self {
        Self::begin(cluster, Turn::Alone(GATE.write().await)).await
    }

    /// On a cluster that no other test knows.
    pub async fn elsewhere(cluster: &Cluster) -> Self {
        Self::begin(cluster, Turn::Elsewhere).await
    }

    async fn begin(cluster: &Cluster, turn: Turn) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("t{}-{number}", std::process::id());
        let at = SocketAddr::new(cluster.host, 0);
        let max = max::Simulator::start(max::Options { listen: at, files_listen: at, ..max::Options::default() })
            .await
            .unwrap();
        let options = mango::Options { listen: at, ..mango::Options::default() };
        let mango = mango::Simulator::start(options).await.unwrap();
        let options = creatio::Options { listen: at, identity_listen: at, ..creatio::Options::default() };
        let crm = creatio::Simulator::start(options).await.unwrap();
        let token = format!("invented-token-{}", Uuid::new_v4().simple());
        let bot = max.control().create_bot(max::NewBot::new("Служба поддержки", &token)).unwrap().user_id;
        let agent = crm.control().add_agent("Иван Агентов", "ivan@example.com");
        mango.control().put_employee(mango::Employee {
            name: "Иван Агентов".to_owned(),
            email: Some("ivan@example.com".to_owned()),
            extension: Some("101".to_owned()),
            ..mango::Employee::default()
        });
        let client = cluster.client.clone();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let object: Namespace = serde_json::from_value(json!({"metadata": {
            "name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}))
        .unwrap();
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        let (public, proxy) = proxy(at, client.clone()).await;
        Self {
            cluster: cluster.clone(),
            client,
            namespace,
            max,
            mango,
            crm,
            bot,
            token,
            agent,
            public,
            releases: std::sync::Mutex::default(),
            proxy,
            _turn: turn,
        }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn put_secret(&self, name: &str, data: Value) {
        let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        self.api::<Secret>().patch(name, &PatchParams::apply("person").force(), &Patch::Apply(body)).await.unwrap();
    }

    pub async fn put_secrets(&self) {
        self.put_token(&self.token).await;
        self.put_other_secrets().await;
    }

    pub async fn put_token(&self, token: &str) {
        self.put_secret("max-bot", json!({"token": token})).await;
    }

    pub async fn put_other_secrets(&self) {
        let (mango, crm) = (mango::Options::default(), creatio::Options::default());
        self.put_secret("mango-api", json!({"apiKey": mango.api_key, "apiSalt": mango.api_salt})).await;
        self.put_secret("creatio", json!({"clientId": crm.client_id, "clientSecret": crm.client_secret})).await;
    }

    /// A channel that works once its Secrets are there; on the pod's own disk, because volumes are
    /// made one by one here.
    pub fn manifest(&self, name: &str) -> Value {
        json!({
            "apiVersion": "maxchannel.dev/v1alpha1", "kind": "MaxChannel",
            "metadata": {"name": name},
            "spec": {
                "tokenSecretRef": {"name": "max-bot"},
                "mango": {"accountNumber": "400012345", "credentialsSecretRef": {"name": "mango-api"}},
                "creatio": {"url": self.crm.url(), "identityUrl": self.crm.identity_url(), "credentialsSecretRef": {"name": "creatio"}},
                "receiver": {"employee": {"extension": "101"}},
                "autoReplies": [{"after": "1h", "text": "Здравствуйте! Ищем свободного оператора."}],
                "intake": {"webhook": {"url": self.public}},
                "relay": {"storage": {"ephemeral": {}}},
            }
        })
    }

    pub async fn apply(&self, manifest: &Value) -> MaxChannel {
        let name = manifest["metadata"]["name"].as_str().unwrap();
        self.try_apply(manifest).await.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub async fn try_apply(&self, manifest: &Value) -> Result<MaxChannel, kube::Error> {
        let name = manifest["metadata"]["name"].as_str().unwrap();
        self.api::<MaxChannel>().patch(name, &PatchParams::apply("person").force(), &Patch::Apply(manifest)).await
    }

    pub async fn delete(&self, name: &str) {
        self.api::<MaxChannel>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Status, reason and message of a condition; `observedGeneration` must be the newest.
    pub async fn condition(&self, name: &str, type_: &str) -> Option<(String, String, String)> {
        let channel = self.api::<MaxChannel>().get_opt(name).await.unwrap()?;
        let status = channel.status?;
        let condition = status.conditions.into_iter().find(|condition| condition.type_ == type_)?;
        (condition.observed_generation == channel.metadata.generation
            && status.observed_generation == channel.metadata.generation)
            .then_some((condition.status, condition.reason, condition.message))
    }

    /// Waits for a condition to have a status and reason; answers its message.
    pub async fn until_condition(
        &self,
        name: &str,
        type_: &str,
        status: &str,
        reason: &str,
        limit: Duration,
    ) -> String {
        let began = Instant::now();
        loop {
            let now = self.condition(name, type_).await;
            if let Some((s, r, message)) = &now
                && s == status
                && r == reason
            {
                return message.clone();
            }
            if began.elapsed() > limit {
                let channel = self.api::<MaxChannel>().get_opt(name).await.unwrap();
                let status_now = serde_json::to_string_pretty(&channel.and_then(|channel| channel.status)).unwrap();
                panic!("{type_} of {name} is {now:?} and not {status}/{reason} after {limit:?}\n{status_now}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn until_ready(&self, name: &str) {
        self.until_condition(name, "Ready", "True", "Ready", PATIENCE).await;
    }

    /// How a controller for this namespace is set up.
    pub fn settings(&self) -> Settings {
        settings(&self.namespace, &self.max.url(), &self.mango.url())
    }

    /// A controller in this process, with the rights that the chart gives and no others.
    pub async fn controller(&self) -> Controller {
        self.controller_with(self.settings()).await
    }

    /// A controller whose channel `support` is ready.
    pub async fn ready_channel(&self) -> Controller {
        let controller = self.controller().await;
        self.put_secrets().await;
        self.apply(&self.manifest("support")).await;
        self.until_ready("support").await;
        controller
    }

    pub async fn controller_with(&self, settings: Settings) -> Controller {
        self.install("rights", &["--set", "replicaCount=0"]);
        let (client, watching) = controller::clients(self.as_controller("rights").await).unwrap();
        Controller::start(settings, client, watching).await
    }

    /// The client configuration of the ServiceAccount of a release.
    pub async fn as_controller(&self, release: &str) -> kube::Config {
        as_controller(&self.namespace, release).await
    }

    /// `helm install` into the namespace, for its channels only.
    pub fn install(&self, release: &str, more: &[&str]) {
        if self.releases.lock().unwrap().iter().any(|known| known == release) {
            return;
        }
        let chart = root().join("charts/maxchannel");
        let mut command = Command::new(helm());
        command.args(["install", release]).arg(chart).args(["--namespace", &self.namespace]);
        command.args(["--set", "crds.install=false,image.tag=dev,rbac.aggregate=false"]);
        command.args(["--set", &format!("watchNamespaces={{{}}}", self.namespace)]);
        command.args([
            "--set-json",
            &format!(
                "extraEnv={}",
                json!([
                    {"name": "MAXCHANNEL_MAX_URL", "value": self.max.url()},
                    {"name": "MAXCHANNEL_MANGO_URL", "value": self.mango.url()},
                ])
            ),
        ]);
        let output = command.args(more).output().expect("helm runs");
        assert!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
        self.releases.lock().unwrap().push(release.to_owned());
    }

    /// The channel is gone, its webhook at MAX too, and its row in Creatio is switched off.
    pub async fn until_gone_outside(&self, name: &str, limit: Duration) {
        until("the channel is gone", limit, || async {
            self.api::<MaxChannel>().get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
        assert_eq!(self.subscriptions(), Vec::<String>::new(), "the subscription");
        let channels = self.crm.control().rows("Channel");
        let source = format!("max-bot:{}", self.bot);
        let ours = channels.iter().find(|row| row["Source"] == source).expect("Creatio keeps it");
        assert_eq!(ours["IsActive"], false, "{ours}");
    }

    /// Whether no object of the channel's labels is left.
    pub async fn leftovers(&self, channel: &str) -> Vec<String> {
        use k8s_openapi::api::{apps::v1::StatefulSet, core::v1, networking::v1 as networking};
        let selector = format!("app.kubernetes.io/instance={channel},app.kubernetes.io/managed-by=maxchannel");
        let parameters = kube::api::ListParams::default().labels(&selector);
        let mut left = Vec::new();
        macro_rules! look {
            ($($kind:ty),* $(,)?) => {
                $(for object in self.api::<$kind>().list(&parameters).await.unwrap() {
                    left.push(format!("{} {}", std::any::type_name::<$kind>(), object.metadata.name.unwrap_or_default()));
                })*
            };
        }
        look!(
            StatefulSet,
            v1::Pod,
            v1::Secret,
            v1::Service,
            v1::ServiceAccount,
            v1::PersistentVolumeClaim,
            networking::NetworkPolicy,
            networking::Ingress,
        );
        left
    }

    /// A customer who has opened the bot.
    pub fn customer(&self) -> Customer {
        let id = self.max.control().create_user(max::NewUser::named("Анна")).unwrap();
        self.max.control().start(id, self.bot).unwrap();
        Customer { id, sender: format!("max:{id}") }
    }

    pub fn say(&self, customer: &Customer, text: &str) {
        self.max.control().say(customer.id, self.bot, text).unwrap();
    }

    /// The customer's messages as Creatio has them.
    pub fn received(&self, customer: &Customer) -> Vec<String> {
        let transcript = self.crm.control().transcript(&customer.sender);
        let incoming = transcript.iter().filter(|entry| entry["direction"] == "incoming");
        incoming.map(|entry| entry["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What the bot has told the customer.
    pub fn seen(&self, customer: &Customer) -> Vec<String> {
        let transcript = self.max.control().transcript(customer.id, self.bot).unwrap();
        transcript.texts_of_bot().into_iter().map(str::to_owned).collect()
    }

    pub fn open_chat(&self, customer: &Customer) -> Option<Uuid> {
        let chats = self.crm.control().chats(Some(&customer.sender));
        let open = chats.iter().find(|chat| !chat.to_string().to_lowercase().contains("completed"))?;
        open["id"].as_str().or_else(|| open["Id"].as_str())?.parse().ok()
    }

    /// The agent takes the customer's chat.
    pub async fn accept(&self, customer: &Customer) -> Uuid {
        let chat = until("the customer has a chat", PATIENCE, || async { self.open_chat(customer) }).await;
        assert!(self.crm.control().accept(chat, self.agent).unwrap());
        chat
    }

    pub fn subscriptions(&self) -> Vec<String> {
        self.max.control().bot(self.bot).unwrap().subscriptions.into_iter().map(|one| one.url).collect()
    }

    /// Ends what this test has made; the namespace's content goes with it.
    pub async fn end(self) {
        for release in self.releases.lock().unwrap().drain(..) {
            let _ = Command::new(helm()).args(["uninstall", &release, "--namespace", &self.namespace]).output();
        }
        let api: Api<MaxChannel> = self.api();
        for channel in api.list(&kube::api::ListParams::default()).await.unwrap() {
            let name = channel.metadata.name.unwrap_or_default();
            let _ =
                api.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": []}}))).await;
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let _ = namespaces.delete(&self.namespace, &DeleteParams::default()).await;
        self.proxy.abort();
    }
}

pub struct Customer {
    pub id: i64,
    pub sender: String,
}

/// The client configuration of the ServiceAccount of a release.
pub async fn as_controller(namespace: &str, release: &str) -> kube::Config {
    let mut config = kube::Config::infer().await.unwrap();
    config.auth_info.impersonate = Some(format!("system:serviceaccount:{namespace}:{release}-maxchannel"));
    config.auth_info.impersonate_groups =
        Some(vec!["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()]);
    config
}

/// How a controller for a namespace is set up.
pub fn settings(namespace: &str, max: &str, mango: &str) -> Settings {
    Settings {
        lease: "rights-maxchannel".to_owned(),
        relay_image: IMAGE.to_owned(),
        relay_pull_policy: Some("IfNotPresent".to_owned()),
        ..controller_settings(namespace, max, mango)
    }
}

/// A controller in this process.
pub struct Controller {
    pub running: Running,
    stop: CancellationToken,
}

impl Controller {
    pub async fn start(settings: Settings, client: Client, watching: Client) -> Self {
        let stop = CancellationToken::new();
        let running = controller::start(settings, client, watching, stop.clone()).await.unwrap();
        Self { running, stop }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.running.stopped().await;
    }

    pub async fn crash(self) {
        self.running.crash().await;
    }

    pub async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.running.address);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }
}

/// Asks again and again until there is an answer.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(began.elapsed() < limit, "this did not come about within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub fn helm() -> PathBuf {
    static HELM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    HELM.get_or_init(|| tool("helm")).clone()
}

/// What `scripts/tools.sh` has of that name.
pub fn tool(name: &str) -> PathBuf {
    let output = Command::new(root().join("scripts/tools.sh")).arg(name).output().expect("tools.sh runs");
    assert!(output.status.success(), "{name} is not to be had: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().into()
}

/// What stands before the relays in place of an Ingress controller: sends each call to the Service
/// that its path names.
async fn proxy(at: SocketAddr, client: Client) -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let public = format!("http://{}", listener.local_addr().unwrap());
    let front = Front { client, http: reqwest::Client::new(), known: std::sync::Arc::default() };
    let routes = Router::new().fallback(forward).with_state(front);
    (public, tokio::spawn(async move { drop(axum::serve(listener, routes).await) }))
}

#[derive(Clone)]
struct Front {
    client: Client,
    http: reqwest::Client,
    /// Addresses by namespace and name: they serve while the API server is away.
    known: std::sync::Arc<std::sync::Mutex<std::collections::HashMap<(String, String), String>>>,
}

async fn forward(State(front): State<Front>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let parts: Vec<&str> = uri.path().split('/').collect();
    let ["", "webhooks", _, namespace, name, ..] = parts.as_slice() else { return StatusCode::NOT_FOUND };
    let key = ((*namespace).to_owned(), (*name).to_owned());
    let known = front.known.lock().unwrap().get(&key).cloned();
    let ip = if let Some(ip) = known {
        ip
    } else {
        let services: Api<Service> = Api::namespaced(front.client.clone(), namespace);
        let service = services.get_opt(&format!("{name}-relay")).await.ok().flatten();
        let Some(ip) = service.and_then(|service| service.spec?.cluster_ip) else { return StatusCode::BAD_GATEWAY };
        front.known.lock().unwrap().insert(key, ip.clone());
        ip
    };
    let url = format!("http://{ip}{}", uri.path());
    let mut request = front.http.request(method, url).timeout(Duration::from_secs(20));
    for (name, value) in headers.iter().filter(|(name, _)| !["host", "content-length"].contains(&name.as_str())) {
        request = request.header(name, value);
    }
    match request.body(body).send().await {
        Ok(answer) => answer.status(),
        Err(_) => StatusCode::BAD_GATEWAY,
    }
}
