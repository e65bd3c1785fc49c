//! The program itself: `run` and `relay` as processes, stopped by signals.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use maxchannel::channel::pass;
use maxchannel_simulator::max::NewUser;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::crashes::{clients, keeper_of, now};
use crate::world::{World, act};

/// A process that does not outlive its test.
struct Process(Child);

impl Process {
    fn start(arguments: &[&str], world: &World) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_maxchannel"))
            .args(arguments)
            .env("MAXCHANNEL_MAX_URL", world.max.url())
            .env("MAXCHANNEL_MANGO_URL", world.mango.url())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Asks the process to stop, and gives its exit code and everything it said.
    fn stop(self) -> (Option<i32>, String) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.ended()
    }

    /// Waits for its end.
    fn ended(mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(10), "the stop took longer than 10 s");
            std::thread::sleep(Duration::from_millis(20));
        }
        let code = self.0.wait().unwrap().code();
        let mut said = String::new();
        for mut pipe in [
            self.0.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read>),
            self.0.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read>),
        ]
        .into_iter()
        .flatten()
        {
            std::io::Read::read_to_string(&mut pipe, &mut said).unwrap();
        }
        (code, said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn get(port: u16, path: &str) -> Option<Value> {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}{path}")).await.ok()?;
    serde_json::from_str(&answer.text().await.ok()?).ok()
}

async fn until(what: &str, port: u16, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        if let Some(value) = get(port, path).await.filter(|value| is_so(value)) {
            return value;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "this did not come about: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn ready(status: &Value) -> bool {
    let conditions = status["channels"][0]["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_is_ready_stops_in_time_tells_no_secret_and_remove_takes_all_away() {
    let world = World::new().await;
    world.write("support.yaml", &world.channel("support", ""));
    let (port, public) = (world.port, format!("http://127.0.0.1:{}", world.port));
    let (files, data) = (world.folder.path().display().to_string(), world.data.path().display().to_string());
    let listen = format!("127.0.0.1:{port}");
    let process = Process::start(
        &["run", "-f", &files, "--listen", &listen, "--public-url", &public, "--data-dir", &data, "--lang", "en"],
        &world,
    );
    until("the channel is ready", port, "/status", ready).await;
    let (code, said) = process.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("default/support: Ready=True Ready"), "{said}");
    assert!(!said.contains("canary"), "{said}");
    assert!(!world.data.path().join("default/support/admin.sock").exists(), "nobody is to be asked there");

    // With the id of another installation nothing is ours, and whose it is is told.
    world.mango.control().forgive();
    let arguments = ["remove", "-f", &files, "--public-url", &public, "--data-dir", &data];
    let foreign = [&arguments[..], &["--installation-id", "another"]].concat();
    let (code, said) = tokio::task::block_in_place(|| Process::start(&foreign, &world).ended());
    assert_eq!(code, Some(1), "{said}");
    for words in ["the channel in the CRM belongs to", "the subscription in MAX", "give that one's --inst"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!((world.subscriptions().len(), &world.channel_row().unwrap()["IsActive"]), (1, &true.into()));

    world.mango.control().forgive();
    let removed = Process::start(&arguments, &world);
    let output = tokio::task::spawn_blocking(move || {
        let mut removed = removed;
        removed.0.wait().unwrap().code()
    });
    assert_eq!(output.await.unwrap(), Some(0));
    assert!(world.subscriptions().is_empty());
    assert_eq!(world.channel_row().unwrap()["IsActive"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_takes_a_changed_configuration_up_and_keeps_the_good_one_when_it_is_broken() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (unhurt, _) = clients(&world, 1_000);
    let mut reconciler = keeper_of(&world, &world.channel("support", ""), unhurt.clone(), None);
    pass::observe(&mut reconciler, &now).await;
    act(&mut reconciler, &now).await;
    let write = |config: &maxchannel::contract::RelayConfig| {
        for (name, value) in config.files().unwrap() {
            std::fs::write(folder.path().join(name), value.expose_secret()).unwrap();
        }
    };
    let first = reconciler.relay().unwrap();
    write(&first);
    let port = world.port;
    let (config, data) = (folder.path().display().to_string(), world.data.path().display().to_string());
    let listen = format!("127.0.0.1:{port}");
    let process = Process::start(&["relay", "--config", &config, "--listen", &listen, "--data-dir", &data], &world);
    let revision = first.channel.revision.clone();
    until("the facts are told", port, "/status", |facts| facts["revision"] == revision.as_str()).await;
    let program = std::fs::read_link(format!("/proc/{}/exe", process.0.id())).unwrap();
    assert!(
        program.ends_with("maxchannel-relay"),
        "{} carries, the small program beside it does not",
        program.display()
    );

    let tell = async |secret: &str| {
        let url = format!("http://127.0.0.1:{port}/subscription/1767225600000");
        let told = reqwest::Client::new().put(url).header("X-Max-Bot-Api-Secret", secret).send().await.unwrap();
        (told.status().as_u16(), get(port, "/status").await.unwrap()["subscribedAt"].as_i64())
    };
    assert_eq!(tell("a-guess").await, (403, None), "only who knows MAX's secret may tell of a subscription");
    let known = first.secrets.webhook[0].expose_secret().to_owned();
    assert_eq!(tell(&known).await, (204, Some(1_767_225_600_000)));

    std::fs::write(folder.path().join("channel.json"), "{").unwrap();
    let changed = world.channel("support", "  closeMessage: {text: До свидания}\n");
    let second = keeper_of(&world, &changed, unhurt, reconciler.bot().cloned()).relay().unwrap();
    assert_ne!(second.channel.revision, revision);
    assert_eq!(get(port, "/status").await.unwrap()["revision"], revision.as_str(), "a broken file changes nothing");
    write(&second);
    let revision = second.channel.revision.clone();
    until("the change is in force", port, "/status", |facts| facts["revision"] == revision.as_str()).await;

    // Another bot's dialogs are others: it ends, and starts anew on a store of its own.
    let mut other = second.channel.clone();
    other.bot_user_id += 1;
    other.revision = "of another bot".to_owned();
    std::fs::write(folder.path().join("channel.json"), serde_json::to_string(&other).unwrap()).unwrap();
    let (code, said) = process.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another bot"), "{said}");
    let process = Process::start(&["relay", "--config", &config, "--listen", &listen, "--data-dir", &data], &world);
    until("the other bot's relay runs", port, "/status", |facts| facts["revision"] == "of another bot").await;
    let aside = world.data.path().join(format!("bot-{}", other.bot_user_id - 1));
    assert!(aside.join("relay.db").exists(), "what the bot before left is kept");
    let (code, said) = process.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("canary"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_the_controllers_key_sees_dead_letters_without_words_or_people_and_tries_them_again() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (unhurt, _) = clients(&world, 1_000);
    let mut reconciler = keeper_of(&world, &world.channel("support", ""), unhurt, None);
    pass::observe(&mut reconciler, &now).await;
    act(&mut reconciler, &now).await;
    let told = reconciler.relay().unwrap();
    for (name, value) in told.files().unwrap() {
        std::fs::write(folder.path().join(name), value.expose_secret()).unwrap();
    }
    let port = world.port;
    let (config, data) = (folder.path().display().to_string(), world.data.path().display().to_string());
    let listen = format!("127.0.0.1:{port}");
    let process = Process::start(&["relay", "--config", &config, "--listen", &listen, "--data-dir", &data], &world);
    until("the relay runs", port, "/status", |facts| facts["revision"].is_string()).await;

    world.crm.control().fault(maxchannel_simulator::creatio::Fault {
        path: "/rest/MaxChannelService/receive".to_owned(),
        effect: false,
        answer: maxchannel_simulator::creatio::Answer::Json {
            status: 200,
            body: json!({"success": false, "duplicate": false, "queued": false, "messageId": null, "chatId": null,
                         "contactId": null, "errorCode": "bad_request", "errorMessage": "invented refusal"}),
        },
        ..maxchannel_simulator::creatio::Fault::default()
    });
    let customer = world.max.control().create_user(NewUser::named("Анна")).unwrap();
    world.max.control().start(customer, world.bot).unwrap();
    world.max.control().say(customer, world.bot, "Секретный вопрос").unwrap();
    until("a message is given up", port, "/status", |facts| facts["deadLetters"] == 1).await;

    let url = format!("http://127.0.0.1:{port}/dead-letters");
    let client = reqwest::Client::new();
    let known = maxchannel::contract::status::key(&told.secrets.token, "default", "support");
    for stranger in ["", "a-guess", told.secrets.token.expose_secret(), told.secrets.webhook[0].expose_secret()] {
        let answered = client.get(&url).bearer_auth(stranger).send().await.unwrap();
        assert_eq!((answered.status().as_u16(), answered.text().await.unwrap().as_str()), (403, ""));
        let replay = client.post(format!("{url}/replay")).bearer_auth(stranger).body(r#"{"all":true}"#);
        assert_eq!(replay.send().await.unwrap().status(), 403);
    }
    let answered = client.get(&url).bearer_auth(known.expose_secret()).send().await.unwrap().text().await.unwrap();
    let letters: Value = serde_json::from_str(&answered).unwrap();
    assert_eq!(letters["deadLetters"][0]["reason"], "invented refusal");
    for hidden in ["Секретный", "Анна", &customer.to_string()] {
        assert!(!answered.contains(hidden), "{hidden} is shown: {answered}");
    }
    let replay = client.post(format!("{url}/replay")).bearer_auth(known.expose_secret()).body("no JSON");
    assert_eq!(replay.send().await.unwrap().status(), 400);
    let wanted = json!({"ids": [letters["deadLetters"][0]["id"]]}).to_string();
    let replay = client.post(format!("{url}/replay")).bearer_auth(known.expose_secret()).body(wanted);
    let done: Value = serde_json::from_str(&replay.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(done["replayed"], json!([letters["deadLetters"][0]["id"]]));
    until("nothing is given up any more", port, "/status", |facts| facts["deadLetters"] == 0).await;
    let has_it = |entry: &Value| entry["direction"] == "incoming" && entry.to_string().contains("Секретный вопрос");
    let transcript = || world.crm.control().transcript(&format!("max:{customer}"));
    world.until("the CRM has it", || transcript().iter().any(has_it)).await;
    let (code, said) = process.stop();
    assert_eq!(code, Some(0), "{said}");
}
