//! The stage of the demo: the three simulators with people in them, a temporary folder with
//! manifests, and `maxchannel run` on them.
//!
//! The runner is a process of its own, started from this very program with what a user would type,
//! so that it can be killed for real. Dropping the stage ends that process (by its own handle) and
//! removes the folder. Where the demo itself is killed, the processes that it has started end by
//! the end of their stdin, and the runner removes the folder.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::child;
use super::crm::{Choice, Crm};
use crate::api::Language;
use crate::time::{Clock, Millis};
use maxchannel_simulator::connection::Connection;
use maxchannel_simulator::{mango, max};

/// The manifests, which the program carries along.
pub(super) const MANIFESTS: &[(&str, &str)] = &[
    ("support.yaml", include_str!("../../../examples/demo/support.yaml")),
    ("orders.yaml", include_str!("../../../examples/demo/orders.yaml")),
    ("secrets.yaml", include_str!("../../../examples/demo/secrets.yaml")),
];
/// Where the manifests look for Creatio and its Identity Service; replaced by the addresses of the
/// demo's own simulator.
pub(super) const CREATIO_IN_MANIFESTS: [&str; 2] = ["http://127.0.0.1:8704", "http://127.0.0.1:8705"];
/// The namespace and the names of the channels in the manifests.
pub(super) const NAMESPACE: &str = "demo";
pub(super) const SUPPORT: &str = "support";
pub(super) const ORDERS: &str = "orders";
/// Values of `secrets.yaml` that the simulators must know beyond their own defaults.
pub(super) const SUPPORT_TOKEN: &str = "invented-token-of-the-support-bot";
const ORDERS_TOKEN: &str = "invented-token-that-was-revoked";
const ORDERS_MANGO: [&str; 2] = ["inventedsecondkey", "inventedsecondsalt"];
/// What refusals of MAX mean: the file, and rows for two states that MAX shows by no call of its
/// own.
const REFUSALS: (&str, &str) = (
    "refusals.yaml",
    "- {status: 403, messageContains: модерац, reason: BotUnderModeration}\n\
     - {status: 403, messageContains: юридич, reason: LegalEntityAccessDenied}\n",
);
/// MAX repeats a lost call after 60 s, 150 s and so on; the demo does not wait that long.
const TIME_SCALE: f64 = 60.0;
/// Between two checks of something that is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// Where the lines of the runner go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// To the terminal.
    Shown,
    /// Into a file of the stage's folder.
    Kept,
}

/// How messages come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum IntakeChoice {
    /// MAX calls the relay.
    #[value(name = "webhook")]
    Webhook,
    /// The relay asks MAX.
    #[value(name = "longPoll")]
    LongPoll,
    /// MANGO OFFICE has the bot and stands between the two.
    #[value(name = "mangoDialogs")]
    MangoDialogs,
}

impl IntakeChoice {
    /// The line of the manifest.
    fn manifest(self) -> &'static str {
        match self {
            // What a manifest without the line means where there is a public address.
            Self::Webhook => "",
            Self::LongPoll => "  intake: {longPoll: {}}\n",
            Self::MangoDialogs => "  intake: {mangoDialogs: {}}\n",
        }
    }
}

/// Who answers in Creatio.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub name: &'static str,
    pub id: Uuid,
}

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Stage {
    pub runner: Runner,
    pub max: max::Simulator,
    pub mango: mango::Simulator,
    pub crm: Crm,
    /// The user id of the bot «Служба поддержки».
    pub bot: i64,
    pub agents: [Agent; 2],
    /// Name and user id of those who have pressed start.
    pub customers: Vec<(String, i64)>,
    pub language: Language,
    pub intake: IntakeChoice,
    /// Between MAX and MANGO OFFICE, where the bot is connected there.
    connection: Option<tokio::task::JoinHandle<()>>,
    // The last field: removed when the runner has ended.
    pub folder: Folder,
}

impl Stage {
    /// Starts the simulators and puts people into them, writes the manifests, and starts the runner
    /// on them.
    ///
    /// # Errors
    /// One sentence.
    pub(super) async fn set(
        lines: Lines,
        language: Language,
        choice: Choice,
        intake: IntakeChoice,
    ) -> Result<Self, String> {
        let fails = |error: std::io::Error| format!("a simulator cannot be started: {error}");
        let max = max::Simulator::start(max::Options { time_scale: TIME_SCALE, ..max::Options::default() });
        let max = max.await.map_err(fails)?;
        let mango = mango::Simulator::start(mango::Options::default()).await.map_err(fails)?;
        let folder = Folder::make()?;
        let crm = Crm::start(choice, folder.path()).await?;
        let refused = |error: max::ControlError| error.to_string();
        let bot = max.control().create_bot(max::NewBot::new("Служба поддержки", SUPPORT_TOKEN)).map_err(refused)?;
        let orders = max.control().create_bot(max::NewBot::new("Приём заказов", ORDERS_TOKEN)).map_err(refused)?;
        max.control().revoke_token(orders.user_id).map_err(refused)?;
        mango.control().add_keys(ORDERS_MANGO[0], ORDERS_MANGO[1]);
        let people = [("Мария Кузнецова", "maria@acme.example", "101"), ("Пётр Соколов", "petr@acme.example", "102")];
        let members = people.map(|(name, email, extension)| {
            mango.control().put_employee(mango::Employee {
                name: name.to_owned(),
                email: Some(email.to_owned()),
                extension: Some(extension.to_owned()),
                ..mango::Employee::default()
            })
        });
        let group = mango.control().put_group(mango::Group {
            name: "Поддержка".to_owned(),
            members: members.to_vec(),
            ..mango::Group::default()
        });
        let mut agents = people.map(|(name, _, _)| Agent { name, id: Uuid::nil() });

        for (agent, (name, email, _)) in agents.iter_mut().zip(people) {
            agent.id = crm.add_agent(name, email)?;
        }
        for (name, text) in MANIFESTS {
            let intake = if name.starts_with(SUPPORT) { intake.manifest() } else { "" };
            folder.write(&Path::new("channels").join(name), &(with_addresses(text, &crm) + intake))?;
        }
        folder.write(Path::new(REFUSALS.0), REFUSALS.1)?;
        let runner = Runner::start(&folder, &max.url(), &mango.url(), lines, language)?;
        let mut connection = None;
        if intake == IntakeChoice::MangoDialogs {
            let control = mango.control();
            control.max_channel_for_group(group);
            control.switches(|switches| switches.auto_distribution = true);
            control.set_webhook(Some(&format!("{}/webhooks/mango/{NAMESPACE}/{SUPPORT}", runner.url)));
            let carrier = Connection {
                mango: control,
                max: max.control(),
                max_url: max.url(),
                bot: bot.user_id,
                token: SUPPORT_TOKEN.to_owned(),
            };
            connection = Some(tokio::spawn(carrier.run()));
        }
        let (bot, customers) = (bot.user_id, Vec::new());
        Ok(Self { runner, max, mango, crm, bot, agents, customers, language, intake, connection, folder })
    }

    /// A person who presses start in the dialog with the bot; answers the user id.
    ///
    /// # Errors
    /// One sentence of the simulator.
    pub(super) fn customer(&mut self, name: &str) -> Result<i64, String> {
        let control = self.max.control();
        let id = control.create_user(max::NewUser::named(name)).map_err(|error| error.to_string())?;
        control.start(id, self.bot).map_err(|error| error.to_string())?;
        self.customers.push((name.to_owned(), id));
        Ok(id)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.abort();
        }
    }
}

/// A manifest of the demo with the addresses of its own Creatio.
pub(super) fn with_addresses(text: &str, crm: &Crm) -> String {
    text.replace(CREATIO_IN_MANIFESTS[0], &crm.url()).replace(CREATIO_IN_MANIFESTS[1], &crm.identity_url())
}

/// `maxchannel run` on the stage's manifests.
#[derive(Debug)]
pub(super) struct Runner {
    program: PathBuf,
    arguments: Vec<String>,
    variables: [(&'static str, String); 2],
    folder: PathBuf,
    /// Both streams go there; none: to the terminal.
    log: Option<PathBuf>,
    child: Option<Child>,
    pub url: String,
    pub moved: Moved,
}

/// How far the runner's clock is ahead of the real one, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub by: Millis,
    /// By the real clock.
    pub since: Millis,
}

impl Moved {
    /// What the runner's clock showed at a real moment.
    pub(super) const fn shown_at(self, real: Millis) -> Millis {
        if real < self.since { real } else { real.saturating_add(self.by) }
    }
}

impl Runner {
    fn start(folder: &Folder, max: &str, mango: &str, lines: Lines, language: Language) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let url = format!("http://{address}");
        let language = if language == Language::Russian { "ru" } else { "en" };
        let shown = |path: &str| folder.path().join(path).display().to_string();
        let arguments = ["run", "-f", &shown("channels"), "--listen", &address, "--public-url", &url]
            .into_iter()
            .chain(["--data-dir", &shown("data"), "--lang", language, "--max-error-reasons", &shown(REFUSALS.0)])
            .map(str::to_owned)
            .collect();
        let mut runner = Self {
            program,
            arguments,
            folder: folder.path().to_owned(),
            variables: [("MAXCHANNEL_MAX_URL", max.to_owned()), ("MAXCHANNEL_MANGO_URL", mango.to_owned())],
            log: (lines == Lines::Kept).then(|| folder.path().join("run.log")),
            child: None,
            url,
            moved: Moved::default(),
        };
        runner.spawn()?;
        Ok(runner)
    }

    /// Starts the process (again).
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn spawn(&mut self) -> Result<(), String> {
        let fails = |error: std::io::Error| format!("maxchannel run cannot be started: {error}");
        let mut command = Command::new(&self.program);
        command.arg(child::COMMAND).args(&self.arguments[1..]).envs(self.variables.clone());
        command.env(child::FOLDER, &self.folder).stdin(Stdio::piped());
        // Settings of the user's own installation are not the demo's.
        command.env_remove("MAXCHANNEL_MAX_CA");
        if let Some(log) = &self.log {
            let file = File::options().create(true).append(true).open(log).map_err(fails)?;
            command.stderr(file.try_clone().map_err(fails)?).stdout(file);
        }
        self.child = Some(command.spawn().map_err(fails)?);
        self.tell_time()
    }

    /// Sets its clock so far ahead of the real one; 0 is the present again.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn move_clock(&mut self, by: Millis) -> Result<(), String> {
        self.moved = Moved { by, since: Clock::real().now() };
        self.tell_time()
    }

    /// A process that does not run is told when it is started.
    fn tell_time(&mut self) -> Result<(), String> {
        let Some(line) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) else { return Ok(()) };
        writeln!(line, "{}", self.moved.by).map_err(|error| format!("the runner cannot be told the time: {error}"))
    }

    /// The process ends at once, as by `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, and then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether the process has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()))
    }

    /// The command as one would type it.
    pub(super) fn command_line(&self) -> String {
        let variables: Vec<String> = self.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{} {} {}", variables.join(" "), self.program(), self.arguments.join(" "))
    }

    /// This program, as one would type it.
    pub(super) fn program(&self) -> String {
        self.program.display().to_string()
    }

    /// The last lines that it wrote, where they are kept.
    pub(super) fn last_lines(&self, most: usize) -> String {
        let text = self.log.as_ref().and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(most)..].join("\n")
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that was free a moment ago. The runner must know it before it starts, because it is part
/// of the address that MAX calls.
fn free_port() -> Result<u16, String> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    free.map(|address| address.port()).map_err(|error| format!("there is no free port: {error}"))
}

/// A temporary folder, gone at the end.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("maxchannel-demo-{}", Uuid::new_v4().simple()));
        fs::create_dir_all(path.join("channels"))
            .map_err(|error| format!("the folder {} cannot be made: {error}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn write(&self, name: &Path, text: &str) -> Result<(), String> {
        let path = self.0.join(name);
        fs::write(&path, text).map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed from the temporary folder is left to the system.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Asks again and again until `done` says so or the time is over; answers what was there last.
pub(super) async fn watch<T>(at_most: Duration, mut ask: impl AsyncFnMut() -> T, done: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + at_most;
    loop {
        let found = ask().await;
        if done(&found) || Instant::now() >= deadline {
            return found;
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::manifest::Manifests;
    use crate::api::{self, Severity};
    use maxchannel_simulator::creatio;

    #[test]
    fn the_manifests_of_the_demo_are_right_and_speak_of_its_simulators() {
        let mut manifests = Manifests::default();
        for (name, text) in MANIFESTS {
            manifests.add(name, text);
        }
        assert!(manifests.errors.is_empty(), "{:?}", manifests.errors);
        let names: Vec<_> = manifests.channels.iter().map(|one| (one.namespace.as_str(), one.name.as_str())).collect();
        assert_eq!(names, [(NAMESPACE, SUPPORT), (NAMESPACE, ORDERS)]);
        let findings = manifests.channels.iter().flat_map(|channel| api::findings(&channel.value));
        let findings = findings.chain(api::across(&manifests).into_iter().map(|(_, finding)| finding));
        let errors: Vec<String> =
            findings.filter(|one| one.severity == Severity::Error).map(|one| one.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        let all: String = MANIFESTS.iter().map(|(_, text)| *text).collect();
        let (mango, creatio) = (mango::Options::default(), creatio::Options::default());
        let keys = [mango.api_key, mango.api_salt, creatio.client_id, creatio.client_secret, creatio.notify_secret];
        let others = [SUPPORT_TOKEN, ORDERS_TOKEN].into_iter().chain(ORDERS_MANGO).chain(CREATIO_IN_MANIFESTS);
        for value in keys.iter().map(String::as_str).chain(others) {
            assert!(all.contains(value), "{value} is not in the manifests");
        }
    }
}
