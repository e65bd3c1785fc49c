//! Dead letters and erasure, through the real socket and the real program.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use maxchannel::contract::CustomerId;
use maxchannel::contract::config::Intake;
use maxchannel_simulator::creatio;
use maxchannel_simulator::max::{DialogAction, Fault, Outcome};
use serde_json::{Value, json};

use crate::world::{Sends, World, quiet_rules};

fn maxchannel(world: &World, arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_maxchannel"))
        .args(arguments)
        .arg("--data-dir")
        .arg(world.data_dir())
        .output()
        .unwrap()
}

fn answered(world: &World, arguments: &[&str]) -> Value {
    let output = maxchannel(world, &[arguments, &["-o", "json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refuse_next_receive(world: &World) {
    world.crm.control().fault(creatio::Fault {
        path: "/rest/MaxChannelService/receive".to_owned(),
        effect: false,
        answer: creatio::Answer::Json {
            status: 200,
            body: json!({"success": false, "duplicate": false, "queued": false, "messageId": null, "chatId": null,
                         "contactId": null, "errorCode": "bad_request", "errorMessage": "invented refusal"}),
        },
        ..creatio::Fault::default()
    });
}

pub async fn a_refused_message_of_a_customer_is_told_to_the_agent_listed_and_replayed(intake: Intake) {
    for first in [true, false] {
        let mut world = World::start(quiet_rules(), intake.clone()).await;
        let anna = world.customer("Анна");
        if !first {
            world.say(&anna, "Здравствуйте");
            world.until_true("the first is taken", || world.received(&anna).len() == 1).await;
        }
        refuse_next_receive(&world);
        world.say(&anna, "Секретный вопрос");
        world
            .until_true("the agent is told in an open chat", || {
                world
                    .history(&anna)
                    .iter()
                    .any(|entry| entry.text.contains("invented refusal") && !entry.chat.is_empty())
            })
            .await;
        world.restart(false).await;
        assert_eq!(world.relay.facts().await.dead_letters, 1);
        let listed = answered(&world, &["dead-letters", "list"]);
        let letter = &listed["deadLetters"][0];
        assert_eq!(letter["direction"], "toCrm");
        assert_eq!(letter["customer"], anna.sender.as_str());
        assert_eq!(letter["reason"], "invented refusal");
        assert!(!listed.to_string().contains("Секретный"), "a text was shown unasked");
        let listed = answered(&world, &["dead-letters", "list", "--show-text"]);
        assert_eq!(listed["deadLetters"][0]["text"], "Секретный вопрос");
        let id = letter["id"].as_str().unwrap();
        let replayed = answered(&world, &["dead-letters", "replay", id]);
        assert_eq!(replayed["replayed"], json!([id]));
        world
            .until_true("the CRM has it", || {
                world.received(&anna).iter().any(|text| text.ends_with("Секретный вопрос"))
            })
            .await;
        assert_eq!(answered(&world, &["dead-letters", "list"])["deadLetters"], json!([]));
        world.assert_contract_kept();
    }
}

pub async fn a_failed_and_an_uncertain_answer_of_the_agent_are_sent_again_and_reported_delivered(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    let chat = world.accept(&anna).await;
    world.max.control().act(anna.id, world.bot, DialogAction::Stop).unwrap();
    world.crm.control().send(chat, world.agent, "Вы тут?", Vec::new()).unwrap();
    world
        .until_true("the agent reads why", || {
            world.reports() == [("Failed".to_owned(), "клиент остановил бота или удалил диалог".to_owned())]
        })
        .await;
    world.max.control().act(anna.id, world.bot, DialogAction::Start(None)).unwrap();
    let replayed = answered(&world, &["dead-letters", "replay", "--all"]);
    assert_eq!(replayed["replayed"].as_array().unwrap().len(), 1);
    world.until_true("it is reported delivered", || world.reports()[0].0 == "Delivered").await;
    assert_eq!(world.seen(&anna), ["Вы тут?"]);

    for (method, outcome) in [("POST", Outcome::Drop), ("GET", Outcome::error(403, "chat.denied", "not an admin"))] {
        world.max.control().add_fault(Fault {
            method: Some(method.to_owned()),
            path: Some("/messages".to_owned()),
            times: u32::from(method != "GET"),
            effect: false,
            outcome,
            ..Fault::default()
        });
    }
    let chat = world.open_chat(&anna).unwrap();
    world.crm.control().send(chat, world.agent, "Деньги вернули", Vec::new()).unwrap();
    world.until_true("it is uncertain", || world.reports().iter().any(|(state, _)| state == "Uncertain")).await;
    let none = answered(&world, &["dead-letters", "replay", "--all"]);
    assert_eq!(none["replayed"], json!([]), "what the customer may have was sent again unasked");
    let listed = answered(&world, &["dead-letters", "list"]);
    assert_eq!(listed["deadLetters"][0]["uncertain"], true);
    let id = listed["deadLetters"][0]["id"].as_str().unwrap().to_owned();
    answered(&world, &["dead-letters", "replay", &id]);
    world
        .until_true("it is reported delivered", || world.reports().iter().all(|(state, _)| state == "Delivered"))
        .await;
    assert_eq!(world.seen(&anna), ["Вы тут?", "Деньги вернули"]);
    let again = maxchannel(&world, &["dead-letters", "replay", &id]);
    assert_eq!(again.status.code(), Some(1), "a delivered message was taken for a dead letter");
    world.assert_contract_kept();
}

pub async fn an_answer_that_is_sent_again_is_reported_as_it_ends_each_time(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    let chat = world.accept(&anna).await;
    let act = |action| world.max.control().act(anna.id, world.bot, action).unwrap();
    act(DialogAction::Stop);
    world.crm.control().send(chat, world.agent, "Вы тут?", Vec::new()).unwrap();
    world.until_true("it has failed", || world.reports()[0].0 == "Failed").await;
    let id = answered(&world, &["dead-letters", "list"])["deadLetters"][0]["id"].as_str().unwrap().to_owned();

    act(DialogAction::Start(None));
    for (method, outcome) in [("POST", Outcome::Drop), ("GET", Outcome::error(403, "chat.denied", "not an admin"))] {
        world.max.control().add_fault(Fault {
            method: Some(method.to_owned()),
            path: Some("/messages".to_owned()),
            times: u32::from(method != "GET"),
            effect: false,
            outcome,
            ..Fault::default()
        });
    }
    answered(&world, &["dead-letters", "replay", &id]);
    world.until_true("the agent reads that it is uncertain", || world.reports()[0].0 == "Uncertain").await;

    act(DialogAction::Stop);
    answered(&world, &["dead-letters", "replay", &id]);
    world.until_true("the agent reads that it has failed", || world.reports()[0].0 == "Failed").await;

    act(DialogAction::Start(None));
    answered(&world, &["dead-letters", "replay", &id]);
    world.until_true("it is reported delivered", || world.reports()[0].0 == "Delivered").await;
    assert_eq!(world.seen(&anna), ["Вы тут?"]);
    world.assert_contract_kept();
}

pub async fn an_erased_person_is_nowhere_on_disk_and_starts_afresh(intake: Intake) {
    let mut world = World::start(quiet_rules(), intake).await;
    let mode = std::fs::metadata(world.data_dir().join("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (anna, boris) = (world.customer("Аннабелла"), world.customer("Борис"));
    for customer in [&anna, &boris] {
        world.say(customer, "канарейка-входящая");
        let chat = world.accept(customer).await;
        world.crm.control().send(chat, world.agent, "канарейка-ответная", Vec::new()).unwrap();
        world.until_true("the answer is shown", || world.seen(customer).len() == 1).await;
    }
    world.until_true("all is reported", || world.reports().iter().all(|(state, _)| state == "Delivered")).await;
    let on_disk = |world: &World, words: &str| {
        ["relay.db", "relay.db-wal"].iter().any(|name| {
            std::fs::read(world.data_dir().join(name))
                .is_ok_and(|bytes| bytes.windows(words.len()).any(|window| window == words.as_bytes()))
        })
    };
    assert!(on_disk(&world, "Аннабелла"));
    let customer = anna.id.to_string();
    let erased = answered(&world, &["erase", "--customer", &customer]);
    assert_eq!(erased["dialogs"], 1);
    for what in ["updates", "toMax", "sent"] {
        assert!(erased[what].as_u64().unwrap() > 0, "{what}: {erased}");
    }
    for words in ["Аннабелла", &customer] {
        assert!(!on_disk(&world, words), "{words} is still on disk");
    }
    let nothing = answered(&world, &["erase", "--customer", &customer]);
    assert_eq!(nothing["dialogs"], 0);
    // Not even a restart, after which dialogs are read back from MAX, brings the past back.
    world.restart(false).await;
    world.say(&anna, "Снова я");
    world.say(&boris, "И я");
    world.until_true("both are taken", || world.received(&anna).len() == 2 && world.received(&boris).len() == 2).await;
    assert_eq!(world.received(&anna), ["канарейка-входящая", "Снова я"]);
    let updates = answered(&world, &["erase", "--customer", &customer])["updates"].as_u64().unwrap();
    assert_eq!(updates, 1, "the past was read back from MAX");
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_relay_the_command_says_what_is_missing() {
    let mut world = World::start(quiet_rules(), Intake::Webhook).await;
    world.stop().await;
    let output = maxchannel(&world, &["dead-letters", "list"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nobody answers in") && said.contains("`maxchannel relay` started"), "{said}");
}

/// Everything in the folder and below, as bytes.
fn files_below(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if let Ok(bytes) = std::fs::read(&path) {
            found.push((path, bytes));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_erased_person_no_byte_is_left_in_any_file_and_no_repeat_brings_one_back() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(world.data_dir()), 0o700);
    assert_eq!(mode(&world.data_dir().join("relay.db")), 0o600);
    let (user, chat) = (987_650_123_i64, 987_650_999_i64);
    let update = |number: i64| {
        json!({
            "update_type": "message_created", "timestamp": 1_790_000_000_000_i64 + number,
            "message": {
                "sender": {"user_id": user, "first_name": "Аннабелла", "is_bot": false},
                "recipient": {"chat_id": chat, "chat_type": "dialog", "user_id": 1},
                "timestamp": 1_790_000_000_000_i64 + number,
                "body": {"mid": format!("mid.{number}"), "seq": number, "attachments": null,
                         "text": format!("канарейка {number} {}", "слово ".repeat(200))},
            },
        })
        .to_string()
    };
    let post = async |body: String| {
        let secret = String::from_utf8(World::webhook_call("{}")).unwrap();
        let path = secret.split(' ').nth(1).unwrap().to_owned();
        let secret = secret.lines().find_map(|line| line.strip_prefix("X-Max-Bot-Api-Secret: ")).unwrap().to_owned();
        let answer = reqwest::Client::new()
            .post(format!("http://{}{path}", world.address()))
            .header("X-Max-Bot-Api-Secret", secret)
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    };
    // Among those of others, so that pages are divided and filled again.
    let boris = world.customer("Борис");
    for number in 0..60 {
        post(update(number)).await;
        if number % 3 == 0 {
            world.say(&boris, &format!("другое {number}"));
        }
    }
    // What cannot be read belongs to nobody's dialog, and names the person all the same.
    post(format!(
        r#"{{"update_type":"message_created","message":{{"sender":{{"user_id":{user},"first_name":"Аннабелла"}}"#
    ))
    .await;
    post(format!(r#"{{"update_type":"not_known_yet","who":"Аннабелла","user":{{"user_id":{user}}}}}"#)).await;
    let sender = format!("max:{user}");
    world
        .until_true("all is in the CRM", || {
            world.crm.control().transcript(&sender).len() >= 60 && world.received(&boris).len() == 20
        })
        .await;
    answered(&world, &["erase", "--customer", &user.to_string()]);
    let left = |words: &str| {
        let found = files_below(world.data_dir())
            .into_iter()
            .filter(|(_, bytes)| bytes.windows(words.len()).any(|window| window == words.as_bytes()));
        found.map(|(path, _)| path).collect::<Vec<_>>()
    };
    for words in ["Аннабелла", "канарейка", &user.to_string(), &chat.to_string()] {
        assert!(left(words).is_empty(), "{words} is left in {:?}", left(words));
    }
    assert!(!left("Борис").is_empty(), "somebody else was erased, too");
    // MAX has not got our answer, or so it thinks.
    post(update(7)).await;
    let nothing = answered(&world, &["erase", "--customer", &user.to_string()]);
    assert_eq!(nothing["updates"], 0, "a repeat brought the person back: {nothing}");
    world.assert_contract_kept();
}

/// MAX is slow to show the dialog, and the person is erased meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_back_that_is_under_way_does_not_bring_an_erased_person_back() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    world.say(&anna, "раньше");
    world.until_true("it is taken", || world.received(&anna).len() == 1).await;
    world.relay.subscribed(1).await;
    world.max.control().drop_subscriptions(world.bot).unwrap();
    world.say(&anna, "в перерыве");
    world.max.control().add_fault(Fault {
        method: Some("GET".to_owned()),
        path: Some("/messages".to_owned()),
        delay_ms: 1_500,
        outcome: Outcome::Answer,
        ..Fault::default()
    });
    let asked = || world.max.control().statistics().requests.values().sum::<u64>();
    let answered_by_max = || world.max.control().statistics().answers.values().sum::<u64>();
    let (before, answers) = (asked(), answered_by_max());
    world.relay.subscribed(jiff::Timestamp::now().as_millisecond()).await;
    world.until_true("the reading has begun", || asked() > before).await;
    answered(&world, &["erase", "--customer", &anna.id.to_string()]);
    world.until_true("MAX has answered", || answered_by_max() > answers).await;
    world.pass(600_000).await;
    let nothing = answered(&world, &["erase", "--customer", &anna.id.to_string()]);
    assert_eq!((&nothing["dialogs"], &nothing["updates"]), (&json!(0), &json!(0)), "{nothing}");
    assert_eq!(world.received(&anna), ["раньше"]);
}

/// The answer of a call that was under way in the moment of an erasure ends nothing that came after
/// it.
pub async fn what_comes_after_an_erasure_is_not_ended_by_what_was_under_way_before_it(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    let id = CustomerId::new(anna.id);
    let receives = || world.crm.control().counters()["calls"]["POST /rest/MaxChannelService/receive"].as_u64();
    world.crm.control().fault(creatio::Fault {
        path: "/rest/MaxChannelService/receive".to_owned(),
        hold_ms: 1_000,
        ..creatio::Fault::default()
    });
    world.say(&anna, "первое");
    world.until_true("the CRM has it and is slow to say so", || receives().is_some()).await;
    world.relay.erase(id).await.unwrap();
    world.say(&anna, "второе");
    world.until_true("both are with the agent", || world.received(&anna) == ["первое", "второе"]).await;

    let chat = world.accept(&anna).await;
    world.sends(Sends::Slow(1_000), 0, 1);
    world.crm.control().send(chat, world.agent, "ответ", Vec::new()).unwrap();
    world.until_true("it is out and nobody says so yet", || world.sends_seen() > 0).await;
    world.relay.erase(id).await.unwrap();
    world.crm.control().send(chat, world.agent, "ещё ответ", Vec::new()).unwrap();
    world.until_true("both are with the customer", || world.seen(&anna) == ["ответ", "ещё ответ"]).await;
    world.assert_contract_kept();
}

/// The counts of one direction of the newest day.
fn tally(world: &World, direction: &str) -> Value {
    let receipt = answered(world, &["receipt"]);
    let channel = &receipt["channels"][0];
    assert_eq!(channel["channel"], "default/support");
    channel["days"][0][direction].clone()
}

pub async fn the_receipt_says_of_every_message_what_became_of_it_and_keeps_it_when_the_rows_go(intake: Intake) {
    let by_mango = intake == Intake::MangoDialogs;
    let setup = crate::world::Setup { retention_seconds: Some(60), ..crate::world::Setup::default() };
    let mut world = World::start_with(quiet_rules(), intake, setup).await;
    let anna = world.customer("Анна");
    for number in 0..5 {
        world.say(&anna, &number.to_string());
        world.until_true("it is with the agents", || world.received(&anna).len() == number + 1).await;
    }
    world.repeat(&anna, "3").await;
    world.deliver(&json!({"update_type": "not_known_yet", "timestamp": 1_790_000_000_009_i64})).await;
    refuse_next_receive(&world);
    world.say(&anna, "6");
    let chat = world.accept(&anna).await;
    world.crm.control().send(chat, world.agent, "Добрый день", Vec::new()).unwrap();
    world.until_true("the answer is reported", || world.reports().iter().any(|(state, _)| state == "Delivered")).await;
    world
        .until_true("the agents are told of what was refused", || {
            world.history(&anna).iter().any(|entry| entry.text.contains("invented refusal"))
        })
        .await;
    let of_max = json!({"received": 1, "delivered": 1, "dead": 0, "uncertain": 0, "withheld": 0, "erased": 0,
                        "waiting": 0, "repeated": 0, "lost": 0, "doubled": 0});
    assert_eq!(tally(&world, "toMax"), of_max);
    let seen = tally(&world, "toCrm");
    // The start, the unknown update, and the messages.
    let (received, withheld) = (seen["received"].as_i64().unwrap(), seen["withheld"].as_i64().unwrap());
    assert_eq!((received - withheld, withheld >= 1), (6, true), "{seen}");
    assert_eq!((&seen["delivered"], &seen["dead"]), (&json!(5), &json!(1)), "{seen}");
    // A session may be read before its event comes, which then repeats what is known.
    let repeated = seen["repeated"].as_i64().unwrap();
    assert!(repeated == 1 || (by_mango && repeated > 1), "{seen}");
    assert_eq!((&seen["waiting"], &seen["lost"], &seen["doubled"]), (&json!(0), &json!(0), &json!(0)), "{seen}");
    // A replay that succeeds is a delivery.
    answered(&world, &["dead-letters", "replay", "--all"]);
    world.until_true("the CRM has it", || world.received(&anna).iter().any(|text| text.ends_with('6'))).await;
    world
        .until_true("it is counted", || {
            let seen = tally(&world, "toCrm");
            (&seen["delivered"], &seen["dead"]) == (&json!(6), &json!(0))
        })
        .await;
    let day = answered(&world, &["receipt"])["channels"][0]["days"][0]["day"].as_str().unwrap().to_owned();
    // What was before the counts is not known, rather than nothing.
    let before = answered(&world, &["receipt", "--day", "2020-01-01"]);
    assert_eq!(before["channels"][0]["days"], json!([{"day": "2020-01-01", "known": false}]));
    let output = maxchannel(&world, &["receipt", "--day", "2020-01-01"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("not known"), "{output:?}");
    let output = maxchannel(&world, &["receipt", "--day", "2999-01-01"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // The rows go, the counts stay, across a restart too.
    world.pass(26 * 3_600_000).await;
    world.restart(false).await;
    let old = answered(&world, &["receipt", "--day", &day]);
    assert_eq!(old["channels"][0]["days"][0]["toMax"], of_max);
    assert_eq!(old["channels"][0]["days"][0]["toCrm"]["delivered"], 6);
    let metrics = world.relay.metrics().await;
    let line = "maxchannel_relay_receipt_messages{direction=\"to_crm\",outcome=\"delivered\"} 6";
    assert!(metrics.contains(line), "{line} is missing:\n{metrics}");
    world.assert_contract_kept();
}
