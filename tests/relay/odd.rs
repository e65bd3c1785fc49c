//! One odd thing stops nobody else, is told with its reason, and is not taken for an outage.

use std::time::Duration;

use maxchannel::contract::Trouble;
use maxchannel::contract::config::Intake;
use maxchannel::policy::{Receiver, Rules};
use maxchannel_simulator::creatio::OutFile;
use serde_json::json;

use crate::rasa::{Does, Rasa};
use crate::world::{Customer, Setup, World, quiet_rules};

const HOUR: i64 = 3_600_000;
const QUEUED: &str = "maxchannel_relay_queue_depth{direction=\"to_crm\"} 1";

fn file(name: &str) -> OutFile {
    OutFile { name: name.to_owned(), mime_type: "application/pdf".to_owned(), bytes: b"%PDF".to_vec() }
}

/// The messages of agents in the outbox: text, state and error.
fn rows(world: &World) -> Vec<(String, String, String)> {
    let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let messages = world.crm.control().outbox().into_iter().filter(|row| row["Kind"] == "message");
    messages.map(|row| (text(&row, "Text"), text(&row, "State"), text(&row, "Error"))).collect()
}

async fn talk(world: &World, name: &str) -> (Customer, uuid::Uuid) {
    let customer = world.customer(name);
    world.say(&customer, "Здравствуйте");
    let chat = world.accept(&customer).await;
    (customer, chat)
}

pub async fn a_row_of_the_outbox_that_cannot_be_read_fails_alone(intake: Intake) {
    let mut world = World::start(quiet_rules(), intake).await;
    let (anna, of_anna) = talk(&world, "Анна").await;
    let (boris, of_boris) = talk(&world, "Борис").await;
    world.stop().await;
    world.crm.control().switches(|switches| switches.late_row_every = 0);
    let odd = [
        ("Text", r#""\ud83d""#),
        ("Text", r#""начало \ude00 конец""#),
        ("Text", "[1]"),
        ("ChatId", r#""это не Guid""#),
        ("AgentId", "17"),
        ("CreatedOn", r#""вчера""#),
        ("Seq", r#""первая""#),
        ("Recipient", "{}"),
    ];
    for (column, raw) in odd {
        let sent = world.crm.control().send(of_anna, world.agent, &format!("{column} {raw}"), Vec::new()).unwrap();
        let row = world.crm.control().outbox().into_iter().find(|row| row["MessageId"] == json!(sent.messages[0]));
        world.crm.control().spoil(row.unwrap()["Id"].as_str().unwrap().parse().unwrap(), column, raw);
    }
    world.crm.control().send(of_anna, world.agent, "После странных", Vec::new()).unwrap();
    world.crm.control().send(of_boris, world.agent, "Борису", Vec::new()).unwrap();
    world.run().await;
    world
        .until_true("the others are with their customers", || {
            world.seen(&anna) == ["После странных"] && world.seen(&boris) == ["Борису"]
        })
        .await;
    world.until_true("every row is reported", || rows(&world).iter().all(|(_, state, _)| state != "Pending")).await;
    for ((text, state, error), (column, _)) in rows(&world).into_iter().zip(odd) {
        assert_eq!(state, "Failed", "{text}");
        assert!(error.contains(column), "{text}: {error}");
    }
    let facts = world.relay.facts().await;
    assert!(facts.crm.ok, "{facts:?}");
    let metrics = world.relay.metrics().await;
    assert!(metrics.contains("maxchannel_relay_set_aside_total{kind=\"outbox_row\"} 8"), "{metrics}");
    world.assert_contract_kept();
}

/// Rows of one customer become visible in their order, but behind those of others.
pub async fn a_row_that_becomes_visible_late_is_found_at_the_next_look_once_a_long_backlog_is_done_with(
    intake: Intake,
) {
    let mut world = World::start(quiet_rules(), intake).await;
    let (_, of_anna) = talk(&world, "Анна").await;
    let (boris, of_boris) = talk(&world, "Борис").await;
    world.stop().await;
    world.crm.control().switches(|switches| switches.late_row_every = 0);
    world.crm.control().hold_outbox(&boris.sender, HOUR);
    world.crm.control().send(of_boris, world.agent, "Борису", Vec::new()).unwrap();
    // More than one page, and nothing that would take its time with MAX.
    for number in 0..120 {
        let sent = world.crm.control().send(of_anna, world.agent, &format!("{number}"), Vec::new()).unwrap();
        if number < 119 {
            let row = world.crm.control().outbox().into_iter().find(|row| row["MessageId"] == json!(sent.messages[0]));
            world.crm.control().spoil(row.unwrap()["Id"].as_str().unwrap().parse().unwrap(), "Text", "[1]");
        }
    }
    world.run().await;
    let pending = |world: &World| rows(world).iter().filter(|(_, state, _)| state == "Pending").count();
    assert!(world.is_so_still(Duration::from_mins(1), || pending(&world) == 1).await, "the backlog is not done with");
    world.crm.control().advance(HOUR);
    // Some looks, and long before the sweep, which comes every half minute.
    for _ in 0..4 {
        world.jump_to(world.now() + 3_000);
        if world.is_so_still(Duration::from_secs(5), || world.seen(&boris) == ["Борису"]).await {
            return;
        }
    }
    panic!("the late row is not with its customer");
}

pub async fn a_file_entry_that_cannot_be_read_fails_its_message_and_the_rest_of_it_is_sent(intake: Intake) {
    let mut world = World::start(quiet_rules(), intake).await;
    let (anna, chat) = talk(&world, "Анна").await;
    world.stop().await;
    world.crm.control().switches(|switches| switches.late_row_every = 0);
    let sent = world.crm.control().send(chat, world.agent, "", vec![file("счёт.pdf")]).unwrap();
    let row = world.crm.control().outbox().into_iter().find(|row| row["MessageId"] == json!(sent.messages[0])).unwrap();
    let good = row["Files"].as_str().unwrap().trim_start_matches('[').trim_end_matches(']').to_owned();
    let entries = format!(
        r#"[{{"id":"no Guid"}},{good},{{"id":7}},null,{{"id":"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11","name":"\ud83d"}}]"#
    );
    world.crm.control().spoil(row["Id"].as_str().unwrap().parse().unwrap(), "Files", &json!(entries).to_string());
    world.crm.control().send(chat, world.agent, "Видите счёт?", Vec::new()).unwrap();
    world.run().await;
    world
        .until_true("file and text are with the customer", || {
            let transcript = world.max.control().transcript(anna.id, world.bot).unwrap();
            let of_bot: Vec<_> = transcript.messages.into_iter().filter(|entry| entry.from_bot).collect();
            of_bot.len() == 2 && of_bot[0].attachments.len() == 1 && of_bot[1].text == "Видите счёт?"
        })
        .await;
    world.until_true("both are reported", || rows(&world).iter().all(|(_, state, _)| state != "Pending")).await;
    let rows = rows(&world);
    assert_eq!(rows[0].1, "Failed");
    assert!(rows[0].2.contains("Часть 2 из 5") && rows[0].2.contains("запись файла 1"), "{rows:?}");
    assert_eq!(rows[1].1, "Delivered");
}

pub async fn a_damaged_row_of_the_store_is_set_aside_alone(intake: Intake) {
    let mut world = World::start(quiet_rules(), intake).await;
    let (anna, of_anna) = talk(&world, "Анна").await;
    let (boris, of_boris) = talk(&world, "Борис").await;
    world.crm.control().outage(Some(maxchannel_simulator::creatio::Outage::Unavailable));
    world.say(&anna, "пропадёт");
    world.say(&anna, "дойдёт");
    let both_wait = async || {
        let facts = world.relay.facts().await;
        facts.open_dialogs == 2 && facts.undelivered.to_crm == 2 && world.relay.metrics().await.contains(QUEUED)
    };
    while !both_wait().await {
        world.moment().await;
    }
    world.stop().await;
    let connection = rusqlite::Connection::open(world.data_dir().join("relay.db")).unwrap();
    for damage in [
        "UPDATE to_crm SET body = '{' WHERE id = (SELECT min(id) FROM to_crm WHERE dead = 0)",
        "UPDATE customer SET dialog = x'80' WHERE id = (SELECT max(id) FROM customer)",
        "INSERT INTO to_max (customer, origin, parts, created_at) SELECT max(id), 'x', '[]', 0 FROM customer",
        "INSERT INTO to_bot (customer, body, created_at) SELECT max(id), '7', 0 FROM customer",
        "INSERT INTO outbox (id, report, taken_at) VALUES ('no Guid', '{}', 0), ('0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11', 'x', 0)",
    ] {
        connection.execute_batch(damage).unwrap();
    }
    drop(connection);
    world.crm.control().outage(None);
    world.run().await;
    world
        .until_true("what was behind it is with the agent, and a note in its place", || {
            let received = world.received(&anna);
            received.last().is_some_and(|last| last == "дойдёт")
                && received.iter().any(|text| text.contains("не читается"))
        })
        .await;
    for (customer, chat, word) in [(&anna, of_anna, "Анне"), (&boris, of_boris, "Борису")] {
        world.crm.control().send(chat, world.agent, word, Vec::new()).unwrap();
        world.until_true("the agent's words arrive", || world.seen(customer) == [word]).await;
    }
    world.until_true("they are reported", || rows(&world).iter().all(|(_, state, _)| state == "Delivered")).await;
    assert!(world.relay.is_open(), "one row was taken for the disk");
    let facts = world.relay.facts().await;
    assert!(facts.store_writable && facts.dead_letters >= 2, "{facts:?}");
}

pub async fn what_a_bot_says_that_is_not_understood_takes_nobody_else_from_it(intake: Intake) {
    let bot = Rasa::start(Does::Answers(vec![json!({"text": "Здравствуйте"})])).await;
    let rules = Rules { receiver: Receiver::Bot, ..Rules::default() };
    let setup = Setup { bot: Some(bot.url.clone()), ..Setup::default() };
    let world = World::start_with(rules, intake, setup).await;
    let anna = world.begins("Анна");
    world.until_true("the bot greets", || world.seen(&anna).len() == 1).await;
    // Odd pieces are left out, the rest is said.
    bot.does([Does::Says(
        r#"[17, {"text": {"a": 1}}, {"text": "Что вас интересует? \ud83d", "buttons":
            [{"title": "без нагрузки"}, "кнопка", {"title": "Доставка", "payload": "/delivery"}]}]"#,
    )]);
    world.say(&anna, "Вопрос");
    world
        .until_true("what can be read is said", || {
            world.seen(&anna).last().is_some_and(|text| text.starts_with("Что вас интересует?"))
        })
        .await;
    for nonsense in [r#"{"oops": 1}"#, "<html>", r#"["text"]"#, ""] {
        let boris = world.begins("Борис");
        bot.does([Does::Answers(vec![json!({"text": "Здравствуйте"})])]);
        world.until_true("the bot greets", || world.seen(&boris).len() == 1).await;
        let heard = bot.heard().len();
        bot.does([Does::Says(nonsense), Does::Answers(vec![json!({"text": "Слышу"})])]);
        world.say(&boris, "Вопрос");
        world.accept(&boris).await;
        assert_eq!(bot.heard().len(), heard + 1, "it was told the same twice");
        let facts = world.relay.facts().await.bot;
        assert_eq!((facts.ok, facts.code), (false, Some(Trouble::BotNotUnderstood)), "{nonsense}");
        world.say(&anna, "Ещё вопрос");
        world.until_true("it still talks with the others", || world.seen(&anna).last().unwrap() == "Слышу").await;
        bot.says([json!({"text": "Снова"})]);
        world.say(&anna, "И ещё");
        world.until_true("it does", || world.seen(&anna).last().unwrap() == "Снова").await;
    }
    let metrics = world.relay.metrics().await;
    for line in ["{kind=\"bot_button\"} 2", "{kind=\"bot_message\"} 2"] {
        assert!(metrics.contains(&format!("maxchannel_relay_set_aside_total{line}")), "{line}: {metrics}");
    }
}
