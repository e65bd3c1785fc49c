//! Dead letters and erasure, through the real socket and the real program.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use maxchannel::relay::config::Intake;
use maxchannel_simulator::creatio;
use maxchannel_simulator::max::{DialogAction, Fault, Outcome};
use serde_json::{Value, json};

use crate::world::{World, quiet_rules};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_message_of_a_customer_is_told_to_the_agent_listed_and_replayed() {
    for first in [true, false] {
        let mut world = World::start(quiet_rules(), Intake::Webhook).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_and_an_uncertain_answer_of_the_agent_are_sent_again_and_reported_delivered() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_person_is_nowhere_on_disk_and_starts_afresh() {
    let mut world = World::start(quiet_rules(), Intake::Webhook).await;
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
    assert!(String::from_utf8_lossy(&output.stderr).contains("is it running?"), "{output:?}");
}
