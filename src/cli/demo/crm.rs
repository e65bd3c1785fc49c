//! Who plays Creatio in the demo: its simulator, or the package itself, which runs over its engine
//! in a process of its own.
//!
//! The sources of the package and of its engine come along with the program; Mono compiles and runs
//! them. Dropping it ends that process.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use bytes::Bytes;
use maxchannel_simulator::creatio::{self, OutFile};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::creatio_package::definition;

/// What `--creatio` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Choice {
    Simulator,
    Package,
}

macro_rules! source {
    ($path:literal) => {
        ($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path)))
    };
}

/// The engine, and what it and the package both read.
const ENGINE: &[(&str, &str)] = &[
    source!("creatio/engine/Control.cs"),
    source!("creatio/engine/Host.cs"),
    source!("creatio/engine/OData.cs"),
    source!("creatio/engine/Site.cs"),
    source!("creatio/engine/build.sh"),
    source!("creatio/engine/stubs/Common.Logging.cs"),
    source!("creatio/engine/stubs/Database.cs"),
    source!("creatio/engine/stubs/Json.cs"),
    source!("creatio/engine/stubs/OmnichannelMessaging.cs"),
    source!("creatio/engine/stubs/OmnichannelProviders.cs"),
    source!("creatio/engine/stubs/Terrasoft.Common.cs"),
    source!("creatio/engine/stubs/Terrasoft.Configuration.cs"),
    source!("creatio/engine/stubs/Terrasoft.Core.cs"),
    source!("creatio/engine/stubs/Terrasoft.ServiceModel.Primitives.cs"),
    source!("creatio/engine/stubs/Terrasoft.Web.Common.cs"),
    source!("creatio/engine/stubs/Terrasoft.Web.Http.Abstractions.cs"),
    source!("creatio/objects.json"),
];
/// The build that the demo runs: .NET, the chat code of 8.2.
const BUILD: &str = "net-8.2";
const VERSION: &str = "8.2";

/// The CRM of the stage.
#[derive(Debug)]
pub(super) enum Crm {
    Simulator(creatio::Simulator),
    Package(Host),
}

impl Crm {
    /// # Errors
    /// One sentence.
    pub(super) async fn start(choice: Choice, folder: &Path) -> Result<Self, String> {
        match choice {
            Choice::Simulator => creatio::Simulator::start(creatio::Options::default())
                .await
                .map(Self::Simulator)
                .map_err(|error| format!("a simulator cannot be started: {error}")),
            Choice::Package => Host::start(folder).map(Self::Package),
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Simulator(simulator) => simulator.url(),
            Self::Package(host) => host.url.clone(),
        }
    }

    pub(super) fn identity_url(&self) -> String {
        match self {
            Self::Simulator(simulator) => simulator.identity_url(),
            Self::Package(host) => host.url.clone(),
        }
    }

    /// The switches that only the simulator has.
    ///
    /// # Errors
    /// One sentence: the package itself plays Creatio.
    pub(super) fn simulator(&self) -> Result<creatio::Control, String> {
        match self {
            Self::Simulator(simulator) => Ok(simulator.control()),
            Self::Package(_) => Err("the package itself plays Creatio, which has no such switch".to_owned()),
        }
    }

    pub(super) fn add_agent(&self, name: &str, email: &str) -> Result<Uuid, String> {
        match self {
            Self::Simulator(simulator) => Ok(simulator.control().add_agent(name, email)),
            Self::Package(host) => id(&host.post("/agents", &json!({"name": name, "email": email}))?, "id"),
        }
    }

    pub(super) fn chats(&self, sender: Option<&str>) -> Vec<Value> {
        match self {
            Self::Simulator(simulator) => simulator.control().chats(sender),
            Self::Package(host) => {
                host.list(&sender.map_or_else(|| "/chats".to_owned(), |sender| format!("/chats?sender={sender}")))
            }
        }
    }

    pub(super) fn accept(&self, chat: Uuid, agent: Uuid) -> Result<bool, String> {
        match self {
            Self::Simulator(simulator) => simulator.control().accept(chat, agent),
            Self::Package(host) => host
                .post(&format!("/chats/{chat}/accept"), &json!({"agentId": agent}))
                .map(|answer| answer["accepted"] == true),
        }
    }

    pub(super) fn send(&self, chat: Uuid, agent: Uuid, text: &str, files: Vec<OutFile>) -> Result<(), String> {
        match self {
            Self::Simulator(simulator) => simulator.control().send(chat, agent, text, files).map(drop),
            Self::Package(host) => {
                let encoded = |file: OutFile| {
                    let bytes = base64::engine::general_purpose::STANDARD.encode(&file.bytes);
                    json!({"name": file.name, "mimeType": file.mime_type, "base64": bytes})
                };
                let files: Vec<Value> = files.into_iter().map(encoded).collect();
                let body = json!({"agentId": agent, "text": text, "files": files});
                let answer = host.post(&format!("/chats/{chat}/send"), &body)?;
                let why = answer["error"].as_str().unwrap_or("the message was not sent");
                if answer["sent"] == true { Ok(()) } else { Err(why.to_owned()) }
            }
        }
    }

    pub(super) fn transfer_to_agent(&self, chat: Uuid, agent: Uuid, to: Uuid) -> Result<Uuid, String> {
        match self {
            Self::Simulator(simulator) => simulator.control().transfer_to_agent(chat, agent, to),
            Self::Package(host) => {
                let body = json!({"agentId": agent, "toAgentId": to});
                id(&host.post(&format!("/chats/{chat}/transfer"), &body)?, "chatId")
            }
        }
    }

    pub(super) fn close(&self, chat: Uuid, agent: Uuid) -> Result<(), String> {
        match self {
            Self::Simulator(simulator) => simulator.control().close(chat, agent),
            Self::Package(host) => host.post(&format!("/chats/{chat}/close"), &json!({"agentId": agent})).map(drop),
        }
    }

    pub(super) fn transcript(&self, sender: &str) -> Vec<Value> {
        match self {
            Self::Simulator(simulator) => simulator.control().transcript(sender),
            Self::Package(host) => host.list(&format!("/transcript/{sender}")),
        }
    }

    pub(super) fn outbox(&self) -> Vec<Value> {
        match self {
            Self::Simulator(simulator) => simulator.control().outbox(),
            Self::Package(host) => host.list("/outbox"),
        }
    }

    /// What the relay did against the contract; the package keeps no record of it.
    pub(super) fn violations(&self) -> Vec<Value> {
        match self {
            Self::Simulator(simulator) => simulator.control().violations(),
            Self::Package(_) => Vec::new(),
        }
    }

    pub(super) fn file(&self, id: Uuid) -> Option<Bytes> {
        match self {
            Self::Simulator(simulator) => simulator.control().file(id),
            Self::Package(host) => {
                let (status, bytes) = host.ask("GET", &format!("/files/{id}"), "").ok()?;
                (status == 200).then(|| bytes.into())
            }
        }
    }
}

fn id(answer: &Value, name: &str) -> Result<Uuid, String> {
    let text = answer[name].as_str().and_then(|text| Uuid::try_parse(text).ok());
    text.ok_or_else(|| format!("the package's host names no {name}: {answer}"))
}

/// The process in which the package runs.
#[derive(Debug)]
pub(super) struct Host {
    process: Child,
    url: String,
}

impl Host {
    fn start(folder: &Path) -> Result<Self, String> {
        let sources = folder.join("package");
        let fails =
            |what: &str, path: &Path, error: std::io::Error| format!("{} cannot be {what}: {error}", path.display());
        let package = definition::SOURCES.iter().map(|source| (format!("creatio/src/{}.cs", source.name), source.code));
        for (name, text) in package.chain(ENGINE.iter().map(|(name, text)| ((*name).to_owned(), *text))) {
            let path = sources.join(name);
            let parent: PathBuf = path.parent().map_or_else(|| sources.clone(), Path::to_path_buf);
            fs::create_dir_all(&parent).map_err(|error| fails("made", &parent, error))?;
            fs::write(&path, text).map_err(|error| fails("written", &path, error))?;
        }
        let built = sources.join("build");
        let script = sources.join("creatio/engine/build.sh");
        let made = Command::new("sh").arg(&script).arg(&built).arg(BUILD).output();
        let made = made.map_err(|error| fails("run", &script, error))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stdout) + String::from_utf8_lossy(&made.stderr);
            return Err(format!("the package cannot be compiled: {}", said.trim()));
        }
        let log = folder.join("package.log");
        let log = fs::File::create(&log).map_err(|error| fails("written", &log, error))?;
        let mut process = Command::new("mono")
            .arg(built.join(BUILD).join("engine.exe"))
            .args(["--site", VERSION, "--objects"])
            .arg(sources.join("creatio/objects.json"))
            .arg("--journal")
            .arg(folder.join("package.journal"))
            // Where the demo is killed, this ends, and so does the process.
            .args(["--ends-with", "stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("mono cannot be started: {error}"))?;
        let mut line = String::new();
        let read = process.stdout.take().map(|lines| BufReader::new(lines).read_line(&mut line));
        let url = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        let host = Self { process, url };
        if host.url.is_empty() {
            return Err(format!("the package's host does not start ({read:?}); its lines are in the demo's folder"));
        }
        Ok(host)
    }

    /// One control call. To loopback, and of a few bytes: it is not worth a client.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, Vec<u8>), String> {
        let address = self.url.trim_start_matches("http://");
        let exchange = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(address)?;
            let length = body.len();
            write!(
                stream,
                "{method} /control{path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}"
            )?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().map_err(|error| format!("the package's host does not answer: {error}"))?;
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        let status = String::from_utf8_lossy(&answer[..head]).split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.unwrap_or(0), answer[head..].to_vec()))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let (status, answer) = self.ask("POST", path, &body.to_string())?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        if status == 200 { Ok(answer) } else { Err(format!("{status}: {}", answer["error"]["message"])) }
    }

    fn list(&self, path: &str) -> Vec<Value> {
        let answer = self.ask("GET", path, "").unwrap_or_default().1;
        serde_json::from_slice(&answer).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
