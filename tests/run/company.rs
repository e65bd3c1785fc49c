//! A company with a bot, a MANGO account and a CRM, and `maxchannel run` on its machine.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maxchannel_simulator::{creatio, mango, max};
use serde_json::Value;
use uuid::Uuid;

pub const TOKEN: &str = "invented-token-CANARY-0001";
/// How long a test waits for something before it fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// How messages come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Webhook,
    LongPoll,
    MangoDialogs,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Webhook, Self::LongPoll, Self::MangoDialogs];

    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::LongPoll => "longPoll",
            Self::MangoDialogs => "mangoDialogs",
        }
    }
}

pub struct Company {
    pub max: max::Simulator,
    pub mango: mango::Simulator,
    pub crm: creatio::Simulator,
    pub bot: i64,
    pub agent: Uuid,
    pub folder: tempfile::TempDir,
    pub port: u16,
    /// Further environment variables of the program.
    pub env: Vec<(&'static str, String)>,
    /// Where the calls are recorded that the program makes to the disk and the network.
    pub recording: Option<PathBuf>,
    webhook: bool,
    child: Option<Child>,
    clock: Option<OwnClock>,
    /// The data folder is a disk of its own, of a size that can be filled.
    has_small_disk: bool,
}

/// The program goes by a clock that the test sets, as the one of the demo does, and ends with the
/// line by which it is told.
#[derive(Default)]
struct OwnClock {
    /// Seconds.
    ahead: i64,
    line: Option<ChildStdin>,
}

/// How large a disk is that can be filled: what the program needs, and little more.
const SMALL_DISK: &str = "size=8m,mode=777";

impl Company {
    pub async fn new(webhook: bool) -> Self {
        Self::by(if webhook { Way::Webhook } else { Way::LongPoll }).await
    }

    pub async fn by(way: Way) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let max = max::Simulator::start(max::Options::default()).await.unwrap();
        let mut options = mango::Options::default();
        if way == Way::MangoDialogs {
            options.switches = mango::Switches::friendly();
        }
        let mango = mango::Simulator::start(options).await.unwrap();
        let crm = creatio::Simulator::start(creatio::Options::default()).await.unwrap();
        let bot = max.control().create_bot(max::NewBot::new("Служба поддержки", TOKEN)).unwrap().user_id;
        let agent = crm.control().add_agent("Иван Агентов", "ivan@example.com");
        let employee = mango::Employee {
            name: "Иван Агентов".to_owned(),
            email: Some("Ivan@Example.com".to_owned()),
            extension: Some("101".to_owned()),
            ..mango::Employee::default()
        };
        let employee = mango.control().put_employee(employee);
        let group = mango.control().put_group(mango::Group {
            name: "Поддержка".to_owned(),
            members: vec![employee],
            ..mango::Group::default()
        });
        if way == Way::MangoDialogs {
            mango.control().max_channel_for_group(group);
            mango.control().switches(|switches| switches.auto_distribution = true);
        }
        let webhook = way == Way::Webhook;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let company = Self {
            max,
            mango,
            crm,
            bot,
            agent,
            folder,
            port,
            env: Vec::new(),
            recording: None,
            webhook,
            child: None,
            clock: None,
            has_small_disk: false,
        };
        company.write_secrets(TOKEN);
        company.write_channel(if way == Way::MangoDialogs { "  intake: {mangoDialogs: {}}\n" } else { "" });
        company
    }

    pub fn write_secrets(&self, token: &str) {
        let crm = creatio::Options::default();
        let mango = mango::Options::default();
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: max-bot}}\nstringData: {{token: \"{token}\\n\"}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: mango-api}}\nstringData: {{apiKey: {}, apiSalt: {}}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: creatio}}\nstringData: {{clientId: {}, clientSecret: {}}}\n",
            mango.api_key, mango.api_salt, crm.client_id, crm.client_secret
        );
        self.write("secrets.yaml", &text);
    }

    /// `more`: further lines of the spec, indented by two.
    pub fn write_channel(&self, more: &str) {
        let text = format!(
            "apiVersion: maxchannel.dev/v1alpha1\nkind: MaxChannel\nmetadata: {{name: support}}\nspec:\n  \
             tokenSecretRef: {{name: max-bot}}\n  mango: {{accountNumber: \"400012345\", credentialsSecretRef: {{name: mango-api}}}}\n  \
             creatio:\n    url: {}\n    identityUrl: {}\n    credentialsSecretRef: {{name: creatio}}\n    pollInterval: 1s\n    \
             limits: {{requestsPerSecond: 10000, inFlight: 8}}\n  receiver:\n    group: {{name: Поддержка}}\n{more}",
            self.crm.url(),
            self.crm.identity_url()
        );
        self.write("channel.yaml", &text);
    }

    pub fn write(&self, name: &str, text: &str) {
        // As editors and git do it: a new file in the place of the old.
        let new = self.folder.path().join(format!(".{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.manifests().join(name)).unwrap();
    }

    pub fn manifests(&self) -> PathBuf {
        let folder = self.folder.path().join("manifests");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maxchannel"));
        command
            .env("MAXCHANNEL_MAX_URL", self.max.url())
            .env("MAXCHANNEL_MANGO_URL", self.mango.url())
            .env("LANG", "C");
        command
    }

    /// The program, under `strace` where it is recorded: a grandchild then, so that the process is
    /// the program's own.
    fn recorded(&self) -> Command {
        let program = self.program();
        let Some(recording) = &self.recording else { return program };
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-q", "-xx", "-s", "10000000", "-e", crate::disk::CALLS, "-o"]);
        strace.arg(recording).arg(program.get_program());
        strace.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        strace
    }

    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.recorded();
        command.arg(if self.clock.is_some() { "demo-runner" } else { "run" });
        command.arg("-f").arg(self.manifests());
        command.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        command.arg("--data-dir").arg(self.data());
        if self.webhook {
            command.args(["--public-url", &format!("http://127.0.0.1:{}", self.port)]);
        }
        command.env("MAXCHANNEL_LOG", "debug").envs(self.env.iter().cloned());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command.stdin(if self.clock.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().unwrap();
        if let Some(clock) = &mut self.clock {
            clock.line = child.stdin.take();
        }
        self.child = Some(child);
        self.tell_time();
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Before its start: the program goes by a clock of its own, which shows the right time.
    pub fn take_own_clock(&mut self) {
        self.clock = Some(OwnClock::default());
    }

    /// Sets its clock so many seconds ahead of the right time, or (negative) behind.
    pub fn set_clock(&mut self, ahead: i64) {
        self.clock.as_mut().unwrap().ahead = ahead;
        if self.child.is_some() {
            self.tell_time();
        }
    }

    fn tell_time(&mut self) {
        let Some(OwnClock { ahead, line: Some(line) }) = &mut self.clock else { return };
        writeln!(line, "{}", *ahead * 1_000).unwrap();
    }

    /// Seconds by which the program's clock is ahead.
    pub fn clock_ahead(&self) -> i64 {
        self.clock.as_ref().map_or(0, |clock| clock.ahead)
    }

    /// Before its start: puts the data on a disk of its own. False: that is root's alone.
    pub fn take_small_disk(&mut self) -> bool {
        std::fs::create_dir_all(self.data()).unwrap();
        self.has_small_disk =
            as_root(Command::new("mount").args(["-t", "tmpfs", "-o", SMALL_DISK, "tmpfs"]), self.data());
        self.has_small_disk
    }

    /// Leaves no room on that disk.
    pub fn fill_disk(&self) {
        let mut file = std::fs::File::create(self.data().join("filler")).unwrap();
        while file.write(&[0; 4_096]).is_ok_and(|written| written > 0) {}
    }

    pub fn empty_disk(&self) {
        std::fs::remove_file(self.data().join("filler")).unwrap();
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to stop, as a service manager does.
    pub fn ask_to_stop(&self) {
        self.signal("-TERM");
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Resident memory of the program, bytes.
    pub fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.as_ref().unwrap().id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// How many files and connections the program has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.as_ref().unwrap().id())).unwrap().count()
    }

    /// The exit code, once it has ended.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        tokio::task::spawn_blocking(move || child.wait().unwrap().code()).await.unwrap()
    }

    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("log.txt")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.port)).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// (status, reason, message) of a condition, as `/status` shows it.
    pub async fn condition(&self, kind: &str) -> Option<(String, String, String)> {
        let (_, body) = self.get("/status").await?;
        let status: Value = serde_json::from_str(&body).ok()?;
        let conditions = status["channels"][0]["status"]["conditions"].as_array()?.clone();
        let found = conditions.iter().find(|condition| condition["type"] == kind)?;
        Some((text(found, "status"), text(found, "reason"), text(found, "message")))
    }

    pub async fn until_ready(&self) {
        self.until("Ready=True in /status and 200 from /readyz", async || {
            let ready = self.condition("Ready").await.is_some_and(|(status, ..)| status == "True");
            (ready && self.get("/readyz").await.is_some_and(|(status, _)| status == 200)).then_some(())
        })
        .await;
    }

    pub async fn until<T>(&self, what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            if tokio::time::Instant::now() >= deadline {
                let log = self.log();
                let tail: Vec<&str> = log.lines().rev().take(40).collect();
                let status = self.get("/status").await;
                panic!(
                    "this did not come about: {what}\n{status:?}\n{}",
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn customer(&self, name: &str) -> Customer {
        let id = self.max.control().create_user(max::NewUser::named(name)).unwrap();
        self.max.control().start(id, self.bot).unwrap();
        Customer { id, sender: format!("max:{id}") }
    }

    pub fn say(&self, customer: &Customer, text: &str) {
        self.max.control().say(customer.id, self.bot, text).unwrap();
    }

    pub fn seen(&self, customer: &Customer) -> Vec<String> {
        let transcript = self.max.control().transcript(customer.id, self.bot).unwrap();
        transcript.texts_of_bot().into_iter().map(str::to_owned).collect()
    }

    pub fn received(&self, customer: &Customer) -> Vec<String> {
        let transcript = self.crm.control().transcript(&customer.sender);
        let incoming = transcript.iter().filter(|entry| entry["direction"] == "incoming");
        incoming.map(|entry| text(entry, "text")).collect()
    }

    pub fn open_chat(&self, customer: &Customer) -> Option<Uuid> {
        let chats = self.crm.control().chats(Some(&customer.sender));
        let open = chats.iter().find(|chat| !chat.to_string().to_lowercase().contains("completed"))?;
        open["id"].as_str()?.parse().ok()
    }

    pub async fn accept(&self, customer: &Customer) -> Uuid {
        let chat = self.until("the customer has a chat", async || self.open_chat(customer)).await;
        assert!(self.crm.control().accept(chat, self.agent).unwrap());
        chat
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.has_small_disk {
            as_root(&mut Command::new("umount"), self.data());
        }
    }
}

/// Runs a command on that folder, by `sudo` where this is not root. False: it is not allowed.
fn as_root(command: &mut Command, folder: PathBuf) -> bool {
    command.arg(folder);
    let mut sudo = Command::new("sudo");
    sudo.arg("-n").arg(command.get_program()).args(command.get_args());
    let succeeds = |command: &mut Command| command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    succeeds(command) || succeeds(&mut sudo)
}

pub struct Customer {
    pub id: i64,
    pub sender: String,
}

/// What the clock on the wall shows, in milliseconds.
pub fn wall_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

pub fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
