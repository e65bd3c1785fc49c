//! The runner between three simulators, its manifests in a folder.

use std::sync::Arc;
use std::time::Duration;

use maxchannel::api::{ErrorReasons, Language};
use maxchannel::channel::Installation;
use maxchannel::channel::reconciler::{self, Done, May, Reconciler, Side};
use maxchannel::channel::schedule::Cadence;
use maxchannel::contract::InstallationId;
use maxchannel::local::{self, Options, Registry, Running};
use maxchannel::time::Clock;
use maxchannel_simulator::{creatio, mango, max};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const TOKEN: &str = "canary-token-of-the-first-bot-0001";
/// How long a test waits for something before it fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// The simulators, and what the runner is started with.
pub struct World {
    pub max: max::Simulator,
    pub mango: mango::Simulator,
    pub crm: creatio::Simulator,
    pub bot: i64,
    pub anna: Uuid,
    pub boris: Uuid,
    pub group: i64,
    pub folder: tempfile::TempDir,
    pub data: tempfile::TempDir,
    pub port: u16,
    pub cadence: Cadence,
    pub error_reasons: ErrorReasons,
    /// Whether there is a public address.
    pub public: bool,
    pub installation_id: String,
    /// MANGO OFFICE elsewhere than at the simulator.
    pub mango_url: Option<String>,
    pub clock: Clock,
    running: Option<(Running, CancellationToken)>,
    pub registry: Registry,
}

impl World {
    pub async fn new() -> Self {
        Self::among(max::Options::default().switches, creatio::Runtime::Net).await
    }

    /// Simulators that answer what is not settled in their own way.
    pub async fn among(switches: max::Switches, runtime: creatio::Runtime) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let max = max::Simulator::start(max::Options { switches, ..max::Options::default() }).await.unwrap();
        let mango =
            mango::Simulator::start(mango::Options { time_scale: 20.0, ..mango::Options::default() }).await.unwrap();
        let crm = creatio::Simulator::start(creatio::Options { runtime, ..creatio::Options::default() }).await.unwrap();
        let bot = max.control().create_bot(max::NewBot::new("Служба поддержки", TOKEN)).unwrap().user_id;
        let employee = |name: &str, email: &str, extension: &str| mango::Employee {
            name: name.to_owned(),
            email: Some(email.to_owned()),
            extension: Some(extension.to_owned()),
            ..mango::Employee::default()
        };
        let members = vec![
            mango.control().put_employee(employee("Анна Агентова", "Anna@example.com", "101")),
            mango.control().put_employee(employee("Борис Агентов", "boris@example.com", "102")),
        ];
        let group = mango.control().put_group(mango::Group {
            name: "Поддержка".to_owned(),
            extension: "500".to_owned(),
            members,
            ..mango::Group::default()
        });
        let anna = crm.control().add_agent("Анна Агентова", "anna@example.com");
        let boris = crm.control().add_agent("Борис Агентов", "BORIS@example.com");
        // Taken and given back, so that the public address is known before the start.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let world = Self {
            max,
            mango,
            crm,
            bot,
            anna,
            boris,
            group,
            folder: tempfile::tempdir().unwrap(),
            data: tempfile::tempdir().unwrap(),
            port,
            cadence: Cadence::default(),
            error_reasons: ErrorReasons::default(),
            public: true,
            installation_id: "laptop".to_owned(),
            mango_url: None,
            clock: Clock::real(),
            running: None,
            registry: Registry::default(),
        };
        world.write("secrets.yaml", &world.secrets(TOKEN));
        world
    }

    /// A world whose one channel `support` is ready.
    pub async fn ready() -> Self {
        let mut world = Self::new().await;
        world.write("support.yaml", &world.channel("support", ""));
        world.run().await;
        world.until_ready("support").await;
        world
    }

    pub fn write(&self, file: &str, text: &str) {
        // As an editor does: whole, under another name first.
        let temporary = self.folder.path().join(format!(".{file}.new"));
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.folder.path().join(file)).unwrap();
    }

    pub fn delete(&self, file: &str) {
        std::fs::remove_file(self.folder.path().join(file)).unwrap();
    }

    pub fn secrets(&self, token: &str) -> String {
        let crm = creatio::Options::default();
        let mango = mango::Options::default();
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: bot}}\nstringData: {{token: \"{token}\\n\"}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: mango}}\nstringData: {{apiKey: {}, apiSalt: {}}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: crm}}\nstringData: {{clientId: {}, clientSecret: {}}}\n",
            mango.api_key, mango.api_salt, crm.client_id, crm.client_secret
        )
    }

    /// A channel with the group as its receiver; `more` are further lines of the spec, each with
    /// its line end.
    pub fn channel(&self, name: &str, more: &str) -> String {
        self.channel_with(name, &format!("  receiver: {{group: {{name: Поддержка}}}}\n{more}"))
    }

    pub fn channel_with(&self, name: &str, more: &str) -> String {
        format!(
            "apiVersion: maxchannel.dev/v1alpha1\nkind: MaxChannel\nmetadata: {{name: {name}}}\nspec:\n  tokenSecretRef: {{name: bot}}\n  \
             mango: {{accountNumber: \"400012345\", credentialsSecretRef: {{name: mango}}}}\n  creatio: {{url: \"{}\", identityUrl: \"{}\", \
             credentialsSecretRef: {{name: crm}}, pollInterval: 1s}}\n{more}",
            self.crm.url(),
            self.crm.identity_url()
        )
    }

    pub fn installation(&self) -> Installation {
        Installation {
            id: InstallationId::of(&self.installation_id),
            max_url: self.max.url().parse().unwrap(),
            max_overridden: true,
            max_ca_pem: None,
            mango_url: self.mango_url.clone().unwrap_or_else(|| self.mango.url()).parse().unwrap(),
            public_url: self.public.then(|| format!("http://127.0.0.1:{}", self.port).parse().unwrap()),
            mango_base: None,
            max_error_reasons: self.error_reasons.clone(),
            language: Language::English,
        }
    }

    /// Starts the runner.
    pub async fn run(&mut self) {
        let stop = CancellationToken::new();
        let options = Options {
            paths: vec![self.folder.path().to_owned()],
            listen: ([127, 0, 0, 1], self.port).into(),
            data_dir: self.data.path().to_owned(),
            installation: self.installation(),
            cadence: self.cadence.clone(),
            clock: self.clock.clone(),
        };
        let running = local::start(options, stop.clone()).await.unwrap();
        self.registry = running.registry.clone();
        self.running = Some((running, stop));
    }

    pub async fn stop(&mut self) {
        if let Some((running, stop)) = self.running.take() {
            stop.cancel();
            tokio::time::timeout(Duration::from_secs(10), running.stopped())
                .await
                .expect("the stop took longer than 10 s");
        }
    }

    /// The status of a channel as `/status` shows it.
    pub fn status(&self, name: &str) -> Option<Value> {
        let shown = serde_json::to_value(self.registry.shown()).unwrap();
        shown["channels"].as_array().unwrap().iter().find(|one| one["name"] == name).map(|one| one["status"].clone())
    }

    /// Status, reason and message of a condition.
    pub fn condition(&self, name: &str, kind: &str) -> (String, String, String) {
        let status = self.status(name).unwrap_or_default();
        let found = status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == kind).cloned();
        let text = |member: &str| found.as_ref().and_then(|one| one[member].as_str()).unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    pub async fn until_ready(&self, name: &str) {
        self.until_condition(name, "Ready", "True", "Ready").await;
    }

    /// Waits for a condition and gives its message.
    pub async fn until_condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (is, why, message) = self.condition(name, kind);
            if (is.as_str(), why.as_str()) == (status, reason) {
                return message;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{name}: {kind} is {is} {why} ({message}), not {status} {reason}; all: {:#}",
                self.status(name).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn until(&self, what: &str, mut ask: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !ask() {
            assert!(tokio::time::Instant::now() < deadline, "this did not come about: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The addresses that MAX calls for the first bot.
    pub fn subscriptions(&self) -> Vec<String> {
        let bot = self.max.control().bot(self.bot).unwrap();
        bot.subscriptions.into_iter().map(|subscription| subscription.url).collect()
    }

    /// Another program subscribes to the bot.
    pub async fn subscribe_stranger(&self, url: &str) {
        let request = reqwest::Client::new()
            .post(format!("{}/subscriptions", self.max.url()))
            .header("Authorization", TOKEN)
            .header("Content-Type", "application/json")
            .body(serde_json::json!({ "url": url }).to_string());
        let answer = request.send().await.unwrap().text().await.unwrap();
        assert!(answer.contains("true"), "{answer}");
    }

    /// The rows of a collection in the CRM.
    pub fn rows(&self, entity: &str) -> Vec<Value> {
        self.crm.control().rows(entity)
    }

    /// The row of the channel that is ours, by its source.
    pub fn channel_row(&self) -> Option<Value> {
        let source = format!("max-bot:{}", self.bot);
        self.rows("Channel").into_iter().find(|row| row["Source"] == source.as_str())
    }

    /// The agents of our queue, sorted.
    pub fn queue_agents(&self) -> Vec<String> {
        let Some(queue) = self.channel_row().map(|row| row["ChatQueueId"].clone()) else { return Vec::new() };
        let rows = self.rows("ChatQueueOperator");
        let ours = rows.iter().filter(|row| row["ChatQueueId"] == queue);
        let mut agents: Vec<String> = ours.filter_map(|row| row["OperatorId"].as_str().map(str::to_owned)).collect();
        agents.sort();
        agents
    }
}

/// Carries out what the plan asks for, at the CRM and then at MAX, as a pass does while the relay
/// listens.
pub async fn act(reconciler: &mut Reconciler, now: reconciler::Clock<'_>) -> Vec<Done> {
    let may: May = Arc::new(|| true);
    let mut done = Vec::new();
    for side in [Side::Crm, Side::Max] {
        if let Some(errand) = reconciler.errand(side, true, &may, now()) {
            let brought = errand.run().await;
            done.extend(reconciler.take(brought, now()).done);
        }
    }
    done
}
