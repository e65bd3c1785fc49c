//! What is kept over restarts, over the retention, and what is found again where the store was
//! lost.

use maxchannel::contract::CustomerId;
use maxchannel::contract::config::Intake;
use maxchannel::policy::{AutoReply, Receiver, Rules};
use maxchannel::relay::moving;
use maxchannel_simulator::creatio::{self, Answer};
use maxchannel_simulator::max::{Fault, Outcome};

use crate::rasa::{Does, Rasa};
use crate::world::{Sends, Setup, World, quiet_rules};

const HOUR: i64 = 3_600_000;

/// So long that whoever wanted to call has called.
async fn moments(world: &World) {
    for _ in 0..60 {
        world.moment().await;
    }
}

/// From now on the CRM takes no report of what became of a message.
fn lost_reports() -> creatio::Fault {
    creatio::Fault {
        method: Some("PATCH".to_owned()),
        count: 1_000,
        effect: false,
        answer: Answer::Drop,
        ..creatio::Fault::default()
    }
}

/// So many messages wait for their customers.
async fn until_waiting(world: &World, count: i64) {
    for _ in 0..10_000 {
        if world.relay.facts().await.undelivered.to_max == count {
            return;
        }
        world.moment().await;
    }
    panic!("{count} messages should wait for MAX");
}

fn calls(world: &World, side: &str) -> u64 {
    match side {
        "crm" => world.crm.control().counters()["total"].as_u64().unwrap(),
        _ => world.requests_seen(),
    }
}

pub async fn a_retry_after_binds_after_a_restart_and_an_edit_too(intake: Intake) {
    for side in ["customers", "crm"] {
        let mut world = World::start(quiet_rules(), intake.clone()).await;
        let anna = world.customer("Анна");
        world.say(&anna, "вопрос");
        world.until_true("it is with the agents", || world.received(&anna).len() == 1).await;
        if side == "crm" {
            let answer = Answer::Busy { status: 503, retry_after: "36000".to_owned() };
            world.crm.control().fault(creatio::Fault { effect: false, answer, ..creatio::Fault::default() });
            world.until_true("the CRM has asked", || world.crm.control().faults_left() == 0).await;
        } else {
            let chat = world.accept(&anna).await;
            let before = world.sends_seen();
            world.sends(Sends::Busy("36000"), 0, 0);
            world.crm.control().send(chat, world.agent, "ответ", Vec::new()).unwrap();
            world.until_true("they want to be left alone", || world.sends_seen() > before).await;
        }
        // What was under way when it said so may still come.
        moments(&world).await;
        let before = calls(&world, side);
        for _ in 0..3 {
            world.restart(false).await;
            moments(&world).await;
            assert_eq!(calls(&world, side), before, "{side} was asked although it wants to be left alone");
        }
        // And under other settings for the same side.
        world.set_poll_interval(3_000);
        world.apply(quiet_rules(), 2).await;
        moments(&world).await;
        assert_eq!(calls(&world, side), before, "{side} was asked after an edit");
    }
}

pub async fn a_bot_that_asks_to_be_left_alone_is_and_its_dialogs_go_to_the_fallback(intake: Intake) {
    let bot = Rasa::start(Does::Busy("36000")).await;
    let setup = Setup { bot: Some(bot.url.clone()), ..Setup::default() };
    let rules = Rules { receiver: Receiver::Bot, ..Rules::default() };
    let mut world = World::start_with(rules, intake, setup).await;
    for number in 0..6 {
        let customer = world.customer(&format!("Клиент {number}"));
        world.say(&customer, "вопрос");
        world.accept(&customer).await;
        assert_eq!(bot.heard().len(), 1, "it was asked although it wants to be left alone");
        // Longer than a bot that fails is left alone, and over a restart.
        world.pass(60_000).await;
        if number == 3 {
            world.restart(false).await;
        }
    }
}

pub async fn a_bot_that_wants_a_moment_within_its_time_has_it_and_answers(intake: Intake) {
    let bot = Rasa::start(Does::Busy("1")).await;
    bot.does([Does::Busy("1"), Does::Answers(vec![serde_json::json!({"text": "Здравствуйте"})])]);
    let setup = Setup { bot: Some(bot.url.clone()), bot_timeout_millis: Some(8_000), ..Setup::default() };
    let rules = Rules { receiver: Receiver::Bot, ..Rules::default() };
    let world = World::start_with(rules, intake, setup).await;
    let anna = world.begins("Анна");
    world.until_true("the bot has answered", || world.seen(&anna) == ["Здравствуйте"]).await;
    assert_eq!(bot.heard().len(), 2);
}

pub async fn a_short_retention_forgets_the_words_and_not_what_repeats_are_known_by(intake: Intake) {
    let setup = Setup { retention_seconds: Some(3_600), ..Setup::default() };
    let mut world = World::start_with(quiet_rules(), intake, setup).await;
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    world.until_true("it is with the agents", || world.received(&anna).len() == 1).await;
    // As long as MAX repeats an update, and MANGO OFFICE shows its open session all the while.
    world.pass(8 * HOUR).await;
    world.stop().await;
    let connection = rusqlite::Connection::open(world.data_dir().join("relay.db")).unwrap();
    let words = "SELECT count(*) FROM inbox WHERE raw LIKE '%вопрос%'";
    assert_eq!(connection.query_row(words, [], |row| row.get::<_, i64>(0)).unwrap(), 0, "the words are kept");
    drop(connection);
    world.run().await;
    let calls = || world.crm.control().counters()["calls"]["POST /rest/MaxChannelService/receive"].as_u64().unwrap();
    let before = calls();
    world.repeat(&anna, "вопрос").await;
    world.say(&anna, "другой вопрос");
    world.until_true("the next is with the agents", || world.received(&anna).len() == 2).await;
    assert_eq!(calls(), before + 1, "a repeat was handed to the CRM again");
}

/// An agent's message that was on its way when the store was lost, and a customer who writes
/// nothing: (it reached the customer, the CRM says which messages it has, what becomes of it, what
/// the customer sees).
pub async fn after_the_loss_of_the_store_a_pending_message_is_looked_for_although_nobody_writes(intake: Intake) {
    for (arrived, may_ask, state) in
        [(true, true, "Delivered"), (false, true, "Delivered"), (true, false, "Uncertain"), (false, false, "Uncertain")]
    {
        // MANGO OFFICE knows what it has by the name under which it was sent.
        let is_named = intake == Intake::MangoDialogs;
        let (may_ask, state) = if is_named { (true, "Delivered") } else { (may_ask, state) };
        let mut world = World::start(quiet_rules(), intake.clone()).await;
        let anna = world.customer("Анна");
        world.say(&anna, "Здравствуйте");
        let chat = world.accept(&anna).await;
        world.crm.control().fault(lost_reports());
        if !arrived {
            world.sends(Sends::Away, 0, 0);
        }
        world.crm.control().send(chat, world.agent, "Ваш заказ в пути", Vec::new()).unwrap();
        if arrived {
            world.until_true("the customer has it", || !world.seen(&anna).is_empty()).await;
        }
        world.stop().await;
        world.sends_are_well();
        world.crm.control().clear_faults();
        world.crm.control().deny("MaxInbound", !may_ask);
        world.restart(true).await;
        world.until_true("it is finished", || world.reports().iter().all(|(state, _)| state != "Pending")).await;
        assert_eq!(world.reports()[0].0, state, "arrived: {arrived}");
        let expected: &[&str] = if arrived || may_ask { &["Ваш заказ в пути"] } else { &[] };
        assert_eq!(world.seen(&anna), expected);
        if !may_ask {
            // As soon as the dialog is known it is looked for after all; what is not found is never
            // sent unasked.
            world.say(&anna, "Когда он будет?");
            if arrived {
                world.until_true("it is put right", || world.reports()[0].0 == "Delivered").await;
            }
            world.crm.control().send(chat, world.agent, "Завтра", Vec::new()).unwrap();
            world.until_true("dialogs go on", || world.seen(&anna).last().is_some_and(|last| last == "Завтра")).await;
            assert_eq!(world.seen(&anna).len(), expected.len() + 1);
            assert_eq!(world.reports()[0].0, if arrived { "Delivered" } else { "Uncertain" });
        }
        assert!(world.received(&anna).len() <= 2, "old history was imported");
        world.assert_contract_kept();
    }
}

/// A store that is written out and goes on, is lost later, and is replaced by what was written out.
pub async fn a_backup_in_the_place_of_a_lost_store_loses_doubles_and_reorders_nothing(intake: Intake) {
    let rules = Rules {
        auto_replies: vec![AutoReply {
            after: 0, repeat_every: None, repeat_limit: 0, text: "Ищем агента".to_owned()
        }],
        ..quiet_rules()
    };
    let mut world = World::start(rules, intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "раз");
    let chat = world.accept(&anna).await;
    world.until_true("the reply is out", || world.seen(&anna) == ["Ищем агента"]).await;
    // What waits when the backup is written: a message of two parts, and one behind it.
    world.sends(Sends::Away, 0, 0);
    let long = format!("{}. {}.", "а".repeat(3_990), "б".repeat(1_000));
    for words in [&long, "второе"] {
        world.crm.control().send(chat, world.agent, words, Vec::new()).unwrap();
    }
    until_waiting(&world, 2).await;
    world.stop().await;
    let mut backup = Vec::new();
    moving::export(world.data_dir(), &mut backup, Some(world.now())).unwrap();
    world.sends_are_well();
    world.restart(false).await;
    world.until_true("what waited is out", || world.seen(&anna).last().is_some_and(|last| last == "второе")).await;
    // What is not in it: from the customer, the agent, another customer; one report is lost.
    world.say(&anna, "два");
    world.until_true("the CRM has it", || world.received(&anna) == ["раз", "два"]).await;
    let boris = world.customer("Борис");
    world.say(&boris, "Добрый день");
    world.until_true("he is answered", || world.seen(&boris) == ["Ищем агента"]).await;
    world.crm.control().fault(lost_reports());
    world.crm.control().send(chat, world.agent, "третье", Vec::new()).unwrap();
    world.until_true("it is out", || world.seen(&anna).last().is_some_and(|last| last == "третье")).await;
    let before = (world.seen(&anna), world.seen(&boris));
    world.stop().await;
    world.crm.control().clear_faults();
    world.lose_store();
    moving::import(world.data_dir(), &mut backup.as_slice()).unwrap();
    world.restart(false).await;
    world.until_true("all is reported", || world.reports().iter().all(|(state, _)| state == "Delivered")).await;
    world.say(&anna, "три");
    world.say(&boris, "Ещё вопрос");
    world
        .until_true("the CRM has both", || {
            world.received(&anna) == ["раз", "два", "три"] && world.received(&boris) == ["Добрый день", "Ещё вопрос"]
        })
        .await;
    world.crm.control().send(chat, world.agent, "четвёртое", Vec::new()).unwrap();
    world.until_true("dialogs go on", || world.seen(&anna).last().is_some_and(|last| last == "четвёртое")).await;
    let after = [before.0, vec!["четвёртое".to_owned()]].concat();
    assert_eq!((world.seen(&anna), world.seen(&boris)), (after, before.1));
    world.assert_contract_kept_after_a_loss();
}

/// A new store asks MAX in which dialog a message is to be looked for, and the person is erased
/// before MAX answers.
pub async fn a_search_that_is_under_way_does_not_bring_an_erased_person_back(intake: Intake) {
    let mut world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    for (number, words) in ["Здравствуйте", "Как мой заказ?"].into_iter().enumerate() {
        world.say(&anna, words);
        world.until_true("it is with the agents", || world.received(&anna).len() == number + 1).await;
    }
    let chat = world.accept(&anna).await;
    world.stop().await;
    world.crm.control().send(chat, world.agent, "Ваш заказ готов", Vec::new()).unwrap();
    // The newest message is not found, the one before it tells the dialog.
    world.max.control().add_fault(Fault {
        method: Some("GET".to_owned()),
        path: Some("/messages/*".to_owned()),
        delay_ms: 1_500,
        outcome: Outcome::error(404, "not.found", "no such message"),
        ..Fault::default()
    });
    world.restart(true).await;
    let asked = |what: &str| world.max.control().statistics().requests.get(what).copied().unwrap_or_default();
    world.until_true("MAX is asked for the message", || asked("GET /messages/{mid}") == 1).await;
    let id = CustomerId::new(anna.id);
    world.relay.erase(id).await.unwrap();
    world.until_true("the dialog is found and looked into", || asked("GET /messages") > 0).await;
    world.pass(HOUR).await;
    assert_eq!(world.relay.erase(id).await.unwrap().dialogs, 0, "the search brought the person back");
    assert_eq!(world.seen(&anna), Vec::<String>::new(), "it was sent to who was erased");
}

/// What a lost store may have sent is looked for part by part.
pub async fn after_the_loss_of_the_store_a_message_of_several_parts_is_sent_from_where_it_broke_off(intake: Intake) {
    let long = ["а", "б", "в"].map(|letter| letter.repeat(3_990)).join(" ");
    for arrived in [0, 1, 2, 3] {
        let mut world = World::start(quiet_rules(), intake.clone()).await;
        let anna = world.customer("Анна");
        world.say(&anna, "Здравствуйте");
        let chat = world.accept(&anna).await;
        world.sends(Sends::Away, u32::try_from(arrived).unwrap(), 0);
        world.crm.control().fault(lost_reports());
        world.crm.control().send(chat, world.agent, &long, Vec::new()).unwrap();
        world.until_true("so many are with the customer", || world.seen(&anna).len() == arrived).await;
        if arrived < 3 {
            until_waiting(&world, 1).await;
        }
        world.stop().await;
        world.sends_are_well();
        world.crm.control().clear_faults();
        world.restart(true).await;
        world.until_true("it is finished", || world.reports()[0].0 == "Delivered").await;
        world.until_true("the customer has all of it", || world.seen(&anna).len() >= 3).await;
        let first_letters: Vec<char> = world.seen(&anna).iter().filter_map(|text| text.chars().next()).collect();
        assert_eq!(first_letters, ['а', 'б', 'в'], "{arrived} had arrived");
        world.assert_contract_kept();
    }
}
