//! The store of each version that was released opens in this one, and what waited in it goes on;
//! a newer one is refused in words.

use maxchannel::contract::config::Intake;
use maxchannel::relay::{Relay, RelayError, STORE, STORE_FORMAT, make_of_format, moving};
use maxchannel::time::Clock;
use serde_json::json;

use crate::relay_config::relay_config;
use crate::world::{Customer, World, quiet_rules};

/// What a store of the first version may hold, by its columns: a message and an answer that wait,
/// one of each that was given up, an update that nobody has taken yet, one that is known, and a row
/// of the CRM's outbox that was answered.
fn fill(path: &std::path::Path, bot: i64, anna: &Customer, now: i64) {
    let message = |mid: &str, text: &str| {
        json!({
            "update_type": "message_created", "timestamp": now,
            "message": {
                "sender": {"user_id": anna.id, "first_name": "Анна", "is_bot": false}, "timestamp": now,
                "recipient": {"chat_id": anna.chat, "chat_type": "dialog", "user_id": bot},
                "body": {"mid": mid, "seq": 30, "text": text, "attachments": null},
            },
        })
        .to_string()
    };
    let task = |id: &str, text: &str| {
        json!({"task": "message", "incoming": {"externalId": id, "text": text}, "standBy": false, "own": true})
            .to_string()
    };
    let part = |text: &str| json!([{"text": text}]).to_string();
    let store = rusqlite::Connection::open(path).unwrap();
    let insert = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        store.execute(sql, values).unwrap_or_else(|error| panic!("{sql}: {error}"));
    };
    insert("INSERT INTO meta VALUES ('bot_user_id', ?1)", &[&bot.to_string()]);
    insert("INSERT INTO meta VALUES ('made_at', ?1)", &[&(now - 1_000).to_string()]);
    insert(
        "INSERT INTO customer (id, chat_id, name, taken_at, taken_seq) VALUES (?1, ?2, 'Анна', ?3, 20)",
        &[&anna.id, &anna.chat, &(now - 10)],
    );
    let inbox =
        "INSERT INTO inbox (key, customer, at, seq, raw, received_at, done) VALUES (?1, ?2, ?3, ?4, ?5, ?3, ?6)";
    insert(inbox, &[&"message_created:mid.old", &anna.id, &(now - 10), &20, &message("mid.old", "уже известное"), &1]);
    insert(inbox, &[&"message_created:mid.new", &anna.id, &now, &30, &message("mid.new", "ещё не взятое"), &0]);
    let to_crm = "INSERT INTO to_crm (customer, body, barrier, at, seq, dead, error, created_at) VALUES (?1, ?2, 0, ?3, 20, ?4, ?5, ?3)";
    insert(to_crm, &[&anna.id, &task("mid.old", "уже известное"), &(now - 10), &0, &None::<String>]);
    insert(to_crm, &[&anna.id, &task("mid.dead", "отклонённое"), &(now - 20), &1, &Some("prohibited")]);
    let to_max = "INSERT INTO to_max (customer, origin, parts, state, recorded, created_at, ended_at) VALUES (?1, '{\"from\":\"bot\"}', ?2, ?3, 1, ?4, ?5)";
    insert(to_max, &[&anna.id, &part("ответ из очереди"), &"queued", &now, &None::<i64>]);
    insert(to_max, &[&anna.id, &part("не ушедшее"), &"failed", &now, &Some(now)]);
    insert(to_max, &[&anna.id, &part("давно ушедшее"), &"sent", &now, &Some(now)]);
    insert("INSERT INTO sent VALUES ('mid.sent', ?1, ?2)", &[&anna.id, &now]);
    insert(
        "INSERT INTO outbox VALUES ('5f0c0000-0000-4000-8000-000000000001', '{\"state\":\"delivered\"}', ?1, 1, ?1)",
        &[&now],
    );
    insert("INSERT INTO closing VALUES ('5f0c0000-0000-4000-8000-000000000002', ?1)", &[&now]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_of_every_version_opens_in_this_one_and_what_waited_in_it_goes_on() {
    for format in 1..=STORE_FORMAT {
        let mut world = World::start(quiet_rules(), Intake::Webhook).await;
        let anna = world.customer("Анна");
        world.stop().await;
        let path = world.data_dir().join(STORE);
        for name in [STORE, "relay.db-wal", "relay.db-shm"] {
            let _ = std::fs::remove_file(world.data_dir().join(name));
        }
        make_of_format(&path, format).unwrap();
        fill(&path, world.bot, &anna, world.now());
        world.run().await;
        world
            .until_true(&format!("what waited in format {format} is with the agents"), || {
                world.received(&anna) == ["уже известное", "ещё не взятое"]
            })
            .await;
        world
            .until_true(&format!("the answer in format {format} is with the customer"), || {
                world.seen(&anna) == ["ответ из очереди"]
            })
            .await;
        let letters = world.relay.dead_letters().await.unwrap().dead_letters;
        let mut reasons: Vec<_> = letters.iter().map(|letter| (letter.id.as_str(), letter.reason.as_str())).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, [("crm-2", "prohibited"), ("max-2", "")], "format {format}");
        // What came before the counts is counted nowhere, and what comes now is.
        world.say(&anna, "после обновления");
        world.until_true("it is with the agents", || world.received(&anna).len() == 3).await;
        let receipt = world.relay.receipt(None).await.unwrap();
        let [today] = &receipt.days[..] else { panic!("{receipt:?}") };
        assert!(today.adds_up(), "format {format}: {today:?}");
        assert!(today.to_crm.unwrap().received < 5, "format {format}: {today:?}");
        world.assert_contract_kept();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_newer_is_refused_in_one_sentence_and_stays_as_it_is() {
    let mut world = World::start(quiet_rules(), Intake::Webhook).await;
    world.stop().await;
    let path = world.data_dir().join(STORE);
    let store = rusqlite::Connection::open(&path).unwrap();
    store.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    let before = std::fs::read(&path).unwrap();
    let config = relay_config(&world.max, &world.crm, world.bot);
    let refused = Relay::open(config, world.data_dir(), Clock::real()).await;
    let Err(RelayError::Store(error)) = refused else { panic!("it was opened") };
    let words = error.to_string();
    for said in ["is of format 99", "start the newer version again", "a backup from before the upgrade"] {
        assert!(words.contains(said), "{said:?} is missing in: {words}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before, "the file was changed");
}

/// As docs/install.md says it: a backup before the upgrade; the newer store is sealed, and the
/// older version goes on with the backup.
pub async fn the_way_back_from_a_newer_version_loses_and_doubles_nothing(intake: Intake) {
    let mut world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "до обновления");
    let chat = world.accept(&anna).await;
    world.crm.control().send(chat, world.agent, "ответ до", Vec::new()).unwrap();
    world.until_true("the answer is there", || world.seen(&anna) == ["ответ до"]).await;
    world.stop().await;
    let mut backup = Vec::new();
    moving::export(world.data_dir(), &mut backup, Some(world.now())).unwrap();
    world.run().await;
    world.say(&anna, "после обновления");
    world.crm.control().send(chat, world.agent, "ответ после", Vec::new()).unwrap();
    world.until_true("both are there", || world.seen(&anna).len() == 2 && world.received(&anna).len() == 2).await;
    world.stop().await;
    let store = rusqlite::Connection::open(world.data_dir().join(STORE)).unwrap();
    store.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    moving::export(world.data_dir(), &mut Vec::new(), None).unwrap();
    moving::import(world.data_dir(), &mut backup.as_slice()).unwrap();
    world.run().await;
    world.say(&anna, "и снова");
    world.crm.control().send(chat, world.agent, "и снова ответ", Vec::new()).unwrap();
    world
        .until_true("all is there", || {
            world.seen(&anna) == ["ответ до", "ответ после", "и снова ответ"] && world.received(&anna).len() == 3
        })
        .await;
    assert!(world.received(&anna)[2].ends_with("и снова"));
    let receipt = world.relay.receipt(None).await.unwrap();
    assert!(receipt.restored.is_some(), "the time of the newer store is not named: {receipt:?}");
    world.assert_contract_kept_after_a_loss();
}
