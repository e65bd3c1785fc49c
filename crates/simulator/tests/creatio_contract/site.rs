//! One site of either column, driven over HTTP: the calls of the relay, and `/control` for what
//! people do.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use maxchannel_simulator::creatio::{Options, Simulator, Switches};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

pub const SOURCE: &str = "max-bot:254700011";
pub const SENDER: &str = "max:91234567";

/// A build of the package: for .NET or .NET Framework, against the chat code of 8.1 or 8.2.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub runtime: &'static str,
    pub version: &'static str,
}

pub const VARIANTS: [Variant; 4] = [
    Variant { runtime: "net", version: "8.1" },
    Variant { runtime: "net", version: "8.2" },
    Variant { runtime: "framework", version: "8.1" },
    Variant { runtime: "framework", version: "8.2" },
];

/// The process that hosts the package, its port and its journal.
struct Host {
    variant: Variant,
    folder: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Host {
    fn start(variant: Variant) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut host = Self { variant, folder: tempfile::tempdir().unwrap(), port, process: None };
        host.spawn();
        host
    }

    fn spawn(&mut self) {
        let Variant { runtime, version } = self.variant;
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut process = Command::new("mono")
            .arg(build().unwrap().join(format!("{runtime}-{version}/engine.exe")))
            .args(["--site", version, "--port", &self.port.to_string(), "--objects"])
            .arg(sources().join("objects.json"))
            .arg("--journal")
            .arg(self.folder.path().join("journal"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}{}", self.lines());
        self.process = Some(process);
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn lines(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(self.log()).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have killed itself.
            let _ = process.kill();
            process.wait().unwrap();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the lines of the package's host ({:?}):\n{}", self.variant, self.lines());
        }
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../creatio")
}

/// The folder of the compiled package, made once; none where there is no mono.
fn build() -> Option<&'static Path> {
    static BUILD: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILD
        .get_or_init(|| {
            let found = |name| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok();
            if !found("mcs") || !found("mono") {
                assert!(std::env::var_os("CI").is_none(), "mono and mcs are missing: scripts/mono.sh installs them");
                eprintln!("NOT TESTED: the package inside Creatio, because mono and mcs are missing: scripts/mono.sh installs them");
                return None;
            }
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("creatio");
            let built = Command::new(sources().join("engine/build.sh")).arg(&folder).output().unwrap();
            let said = String::from_utf8_lossy(&built.stdout).into_owned() + &String::from_utf8_lossy(&built.stderr);
            assert!(built.status.success(), "the package does not compile:\n{said}");
            assert!(!said.contains("warning"), "the package compiles with warnings:\n{said}");
            Some(folder)
        })
        .as_deref()
}

enum Column {
    #[allow(dead_code, reason = "it serves until it is dropped")]
    Simulator(Simulator),
    Package(Mutex<Host>),
}

/// A site with a channel, a queue and one agent.
pub struct Site {
    column: Column,
    pub client: Client,
    token: String,
    root: String,
    prefix: &'static str,
    pub agent: Uuid,
    pub queue: Uuid,
    pub channel: Uuid,
}

fn client() -> Client {
    // The first test of the process installs it for all.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

pub async fn read(answer: Response) -> Value {
    let text = answer.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

pub fn guid(value: &Value) -> Uuid {
    value.as_str().unwrap_or_else(|| panic!("no id: {value}")).parse().unwrap()
}

pub fn names(values: &[Value], name: &str) -> Vec<String> {
    values.iter().map(|value| value[name].as_str().unwrap_or("").to_owned()).collect()
}

pub fn message(id: &str, timestamp: i64) -> Value {
    json!({"externalId": id, "channelSource": SOURCE, "sender": SENDER, "name": "Анна Петрова", "phone": "", "timestamp": timestamp,
        "direction": "incoming", "author": "customer", "text": format!("text of {id}"), "type": "text",
        "replacesExternalId": "", "standBy": false, "attachments": []})
}

pub fn with(mut value: Value, changes: &Value) -> Value {
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    value
}

impl Site {
    pub async fn simulator() -> Self {
        let switches = Switches {
            late_row_every: 0,
            files_after_ms: 0,
            rotate_cookies_every: 0,
            etags: false,
            page_size: 0,
            ..Switches::default()
        };
        let simulator = Simulator::start(Options { switches, ..Options::default() }).await.unwrap();
        let (root, identity) = (simulator.url(), simulator.identity_url());
        Self::open(Column::Simulator(simulator), root, &identity, "").await
    }

    /// None where there is no mono.
    pub async fn package(variant: Variant) -> Option<Self> {
        let host = tokio::task::spawn_blocking(move || build().map(|_| Host::start(variant))).await.unwrap()?;
        let root = format!("http://127.0.0.1:{}", host.port);
        let prefix = if variant.runtime == "framework" { "/0" } else { "" };
        Some(Self::open(Column::Package(Mutex::new(host)), root.clone(), &root, prefix).await)
    }

    async fn open(column: Column, root: String, identity: &str, prefix: &'static str) -> Self {
        let client = client();
        let options = Options::default();
        let form = format!(
            "client_id={}&client_secret={}&grant_type=client_credentials",
            options.client_id, options.client_secret
        );
        let request = client.post(format!("{identity}/connect/token")).body(form);
        let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
        let token = read(answer).await["access_token"].as_str().unwrap().to_owned();
        let nobody = Uuid::nil();
        let mut site = Self { column, client, token, root, prefix, agent: nobody, queue: nobody, channel: nobody };
        site.agent = site.add_agent("Иван Орлов", "orlov@acme.example").await;
        let rules = site.look("/odata/OperatorRoutingRules").await;
        let free = rules.as_array().unwrap().iter().find(|rule| rule["Code"] == "ForFree").unwrap()["Id"].clone();
        let queue = json!({"Name": "MAX", "OperatorRoutingRuleId": free, "SimultaneousChats": 500, "ChatTimeout": 0});
        site.queue = site.insert("ChatQueue", queue).await;
        site.insert("ChatQueueOperator", json!({"ChatQueueId": site.queue, "OperatorId": site.agent})).await;
        let settings = site.insert("MaxChannelSettings", json!({"Name": SOURCE})).await;
        let channel = json!({"Name": "MAX", "ProviderId": "889213f3-6d22-55a4-8421-4a8a63914f71", "MsgSettingsId": settings,
            "Source": SOURCE, "ChatQueueId": site.queue, "IsActive": true});
        site.channel = site.insert("Channel", channel).await;
        site
    }

    pub fn url(&self) -> &str {
        &self.root
    }

    pub fn is_simulator(&self) -> bool {
        matches!(self.column, Column::Simulator(_))
    }

    // --- the relay's calls

    pub async fn try_call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, reqwest::Error> {
        let request = self.client.request(method, format!("{}{}{path}", self.root, self.prefix));
        let mut request = request.bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        self.try_call(method, path, body).await.unwrap()
    }

    pub async fn receive(&self, body: &Value) -> Value {
        let answer = self.call(Method::POST, "/rest/MaxChannelService/receive", Some(body)).await;
        assert_eq!(answer.status(), 200);
        read(answer).await
    }

    pub async fn hand_over(&self, chat: Uuid) -> Value {
        let body = json!({"chatId": chat});
        read(self.call(Method::POST, "/rest/MaxChannelService/handOver", Some(&body)).await).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, None).await;
        assert_eq!(answer.status(), 200, "{path}");
        read(answer).await
    }

    pub async fn outbox(&self) -> Vec<Value> {
        let filter = format!("ChannelSource%20eq%20'{SOURCE}'%20and%20State%20eq%20'Pending'%20and%20Seq%20gt%200");
        let body = self.get(&format!("/odata/MaxOutbox?$filter={filter}&$orderby=Seq%20asc&$top=1000")).await;
        body["value"].as_array().unwrap().clone()
    }

    pub async fn try_upload(&self, id: Uuid, bytes: Vec<u8>) -> Result<Value, reqwest::Error> {
        let path = format!("/rest/MaxChannelService/file?id={id}&name=%D1%84.jpg&mimeType=image%2Fjpeg");
        let request = self.client.post(format!("{}{}{path}", self.root, self.prefix)).bearer_auth(&self.token);
        let answer = request.header("content-type", "application/octet-stream").body(bytes).send().await?;
        Ok(serde_json::from_str(&answer.text().await?).unwrap())
    }

    pub async fn upload(&self, id: Uuid, bytes: Vec<u8>) -> Value {
        self.try_upload(id, bytes).await.unwrap()
    }

    /// A chat of the customer, accepted by the agent.
    pub async fn accepted_chat(&self) -> Uuid {
        let chat = guid(&self.receive(&message("mid.1", 1000)).await["chatId"]);
        assert!(self.accept(chat, self.agent).await);
        chat
    }

    // --- what people and time do

    /// Status and body of a control call; what broke on the way is an error.
    pub async fn try_act(&self, method: Method, path: &str, body: &Value) -> Result<(u16, Value), reqwest::Error> {
        let request = self.client.request(method, format!("{}/control{path}", self.root)).body(body.to_string());
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_str(&answer.text().await?).unwrap_or(Value::Null)))
    }

    pub async fn act(&self, path: &str, body: &Value) -> (u16, Value) {
        self.try_act(Method::POST, path, body).await.unwrap()
    }

    async fn done(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.act(path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub async fn look(&self, path: &str) -> Value {
        read(self.client.get(format!("{}/control{path}", self.root)).send().await.unwrap()).await
    }

    pub async fn add_agent(&self, name: &str, email: &str) -> Uuid {
        guid(&self.done("/agents", &json!({"name": name, "email": email})).await["id"])
    }

    pub async fn insert(&self, object: &str, row: Value) -> Uuid {
        guid(&self.done(&format!("/odata/{object}"), &row).await["id"])
    }

    pub async fn update(&self, object: &str, id: Uuid, row: &Value) {
        let done = self.try_act(Method::PATCH, &format!("/odata/{object}/{id}"), row).await.unwrap();
        assert_eq!(done.0, 200, "{}", done.1);
    }

    pub async fn accept(&self, chat: Uuid, agent: Uuid) -> bool {
        self.done(&format!("/chats/{chat}/accept"), &json!({"agentId": agent})).await["accepted"] == true
    }

    /// The answer of an agent's send: `sent`, `chatId`, `messageIds`, `error`.
    pub async fn send(&self, chat: Uuid, agent: Uuid, text: &str) -> Value {
        self.done(&format!("/chats/{chat}/send"), &json!({"agentId": agent, "text": text})).await
    }

    pub async fn close(&self, chat: Uuid, agent: Uuid) {
        self.done(&format!("/chats/{chat}/close"), &json!({"agentId": agent})).await;
    }

    pub async fn transfer(&self, chat: Uuid, agent: Uuid, to: &Value) -> Uuid {
        let body = with(json!({"agentId": agent}), to);
        guid(&self.done(&format!("/chats/{chat}/transfer"), &body).await["chatId"])
    }

    pub async fn chat(&self, chat: Uuid) -> Value {
        self.look(&format!("/chats/{chat}")).await
    }

    pub async fn chats(&self, sender: &str) -> Vec<Value> {
        self.look(&format!("/chats?sender={sender}")).await.as_array().unwrap().clone()
    }

    pub async fn transcript(&self, sender: &str) -> Vec<Value> {
        self.look(&format!("/transcript/{sender}")).await.as_array().unwrap().clone()
    }

    /// The next `calls` of the customer find another request at work for him.
    pub async fn lock(&self, sender: &str, calls: u32) {
        self.done("/lock", &json!({"channelSource": SOURCE, "sender": sender, "calls": calls})).await;
    }

    pub async fn advance(&self, ms: i64) {
        self.done("/clock", &json!({"advanceMs": ms})).await;
    }

    /// Of the simulator; the package keeps no record of what the relay does wrong.
    pub async fn rules_broken(&self) -> Vec<String> {
        names(self.look("/violations").await.as_array().unwrap(), "rule")
    }

    /// Calls under way and what stands in the site's memory are lost.
    pub async fn restart(&self) {
        match &self.column {
            Column::Simulator(_) => drop(self.done("/restart", &json!({})).await),
            Column::Package(host) => tokio::task::block_in_place(|| {
                let mut host = host.lock().unwrap();
                host.kill();
                host.spawn();
            }),
        }
    }

    /// A message is taken and then lost with the site's memory.
    pub async fn take_and_lose(&self, body: &Value) {
        if self.is_simulator() {
            self.lock(SENDER, 1).await;
            assert_eq!(self.receive(body).await["queued"], true);
        } else {
            self.point(&json!({"killAt": "betweenChatAndMessage"})).await;
            let lost = self.try_call(Method::POST, "/rest/MaxChannelService/receive", Some(body)).await;
            assert!(lost.is_err(), "the host has killed itself");
        }
        self.restart().await;
    }

    /// Of the package: where its host kills itself or holds a request.
    pub async fn point(&self, body: &Value) {
        self.done("/points", body).await;
    }

    /// Calls `receive` as the relay does, until the message is stored; a held customer is waited
    /// for by the clock.
    pub async fn deliver(&self, body: &Value) -> Value {
        for _ in 0..5 {
            let answer = self.receive(body).await;
            if answer["success"] == true && answer["queued"] == false {
                return answer;
            }
            self.advance(121_000).await;
        }
        panic!("never stored: {body}");
    }
}
