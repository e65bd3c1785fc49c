//! Dialogs that a bot holds, through the whole relay (see `docs/bots.en.md`).

use maxchannel::contract::Trouble;
use maxchannel::contract::config::Intake;
use maxchannel::policy::{AutoReply, Receiver, Rules};
use maxchannel_simulator::creatio::{self, Answer};
use maxchannel_simulator::max::{Draft, PressWhat};
use serde_json::json;

use crate::rasa::{Does, Rasa};
use crate::world::{Customer, Setup, World};

fn rules() -> Rules {
    Rules {
        receiver: Receiver::Bot, close_message: Some("Спасибо за обращение!".to_owned()), ..Rules::default()
    }
}

async fn world(rules: Rules, bot: &Rasa, intake: Intake) -> World {
    let setup = Setup { bot: Some(bot.url.clone()), ..Setup::default() };
    World::start_with(rules, intake, setup).await
}

fn stands_by(world: &World, customer: &Customer) -> Vec<bool> {
    world.history(customer).iter().filter(|entry| entry.direction == "incoming").map(|entry| entry.stand_by).collect()
}

pub async fn a_bot_talks_while_creatio_stands_by_and_its_answers_enter_the_history_behind_the_first_message(
    intake: Intake,
) {
    let bot = Rasa::start(Does::Answers(vec![json!({"text": "Здравствуйте! Чем помочь?"})])).await;
    let world = world(rules(), &bot, intake).await;
    let anna = world.customer("Анна");
    world.until_true("the bot greets at the start", || world.seen(&anna) == ["Здравствуйте! Чем помочь?"]).await;
    assert!(world.history(&anna).is_empty(), "the greeting called the CRM before the customer wrote");
    bot.says([json!({"text": "Он в пути."}), json!({"image": "https://bot.example/map.png"})]);
    world.say(&anna, "Где мой заказ?");
    world
        .until_true("both answers are with the customer and in the history", || {
            world.seen(&anna).len() == 3 && world.history(&anna).len() == 4
        })
        .await;
    let entries = world.history(&anna);
    let lines: Vec<(&str, &str)> = entries.iter().map(|entry| (entry.author.as_str(), entry.text.as_str())).collect();
    assert_eq!(
        lines,
        [
            ("customer", "Где мой заказ?"),
            ("bot", "Здравствуйте! Чем помочь?"),
            ("bot", "Он в пути."),
            ("bot", "https://bot.example/map.png"),
        ]
    );
    assert_eq!(stands_by(&world, &anna), [true]);
    let transcript = world.max.control().transcript(anna.id, world.bot).unwrap();
    let greeting = transcript.messages.iter().find(|entry| entry.from_bot).unwrap();
    assert_eq!(entries[1].timestamp, greeting.timestamp, "the greeting lost its true time");
    assert_eq!(bot.heard(), ["/start", "Где мой заказ?"]);
    assert!(bot.asked().iter().all(|body| body["sender"] == anna.sender.as_str()));
    world.assert_contract_kept();
}

/// What stops the writing is over when others have written.
pub async fn an_answer_that_cannot_be_written_down_is_kept_and_the_bot_is_asked_once(intake: Intake) {
    let bot = Rasa::start(Does::Answers(vec![json!({"text": "Здравствуйте!"})])).await;
    let mut world = world(rules(), &bot, intake).await;
    world.stop().await;
    let store = rusqlite::Connection::open(world.data_dir().join("relay.db")).unwrap();
    let full = "CREATE TRIGGER full BEFORE DELETE ON to_bot WHEN (SELECT count(*) FROM inbox) < 4
                BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    store.execute_batch(full).unwrap();
    drop(store);
    world.run().await;
    let anna = world.begins("Анна");
    world.until_true("the bot is asked", || !bot.asked().is_empty()).await;
    for _ in 0..100 {
        world.moment().await;
    }
    assert_eq!((bot.heard(), world.seen(&anna)), (vec![world.beginning().to_owned()], Vec::new()));
    let boris = world.customer("Борис");
    for text in ["1", "2", "3"] {
        world.say(&boris, text);
    }
    world.until_true("the customer has the answer", || world.seen(&anna) == ["Здравствуйте!"]).await;
    let of_anna = bot.asked().into_iter().filter(|body| body["sender"] == anna.sender.as_str());
    assert_eq!(of_anna.count(), 1);
}

pub async fn buttons_are_a_keyboard_and_a_press_brings_the_bot_its_payload_and_an_answer_the_words_as_written(
    intake: Intake,
) {
    let buttons = json!([{"title": "Доставка", "payload": "/delivery{\"city\":\"Тверь\"}"}]);
    let bot = Rasa::start(Does::Answers(vec![json!({"text": "Что вас интересует?", "buttons": buttons})])).await;
    let world = world(rules(), &bot, intake).await;
    let anna = world.customer("Анна");
    let asked = world
        .until("the question with its button is shown", || {
            world
                .max
                .control()
                .transcript(anna.id, world.bot)
                .unwrap()
                .messages
                .into_iter()
                .find(|entry| entry.from_bot)
        })
        .await;
    assert!(asked.attachments.iter().any(|one| one.kind == "inline_keyboard"), "{:?}", asked.attachments);
    bot.says([json!({"text": "Завтра"})]);
    world.max.control().press(anna.id, &asked.mid, &PressWhat::Text("Доставка".to_owned())).unwrap();
    world.until_true("the press is answered", || world.seen(&anna).last().unwrap() == "Завтра").await;
    let draft = Draft { text: "А дешевле?".to_owned(), reply_to: Some(asked.mid.clone()), ..Draft::default() };
    world.max.control().write(anna.id, world.bot, draft).unwrap();
    world.until_true("the bot heard the reply", || bot.heard().len() == 3).await;
    assert_eq!(bot.heard(), ["/start", "/delivery{\"city\":\"Тверь\"}", "А дешевле?"]);
    world.until_true("the agent reads both", || world.received(&anna).len() == 2).await;
    assert!(world.received(&anna)[0].starts_with("[Нажата кнопка]"));
    world.assert_contract_kept();
}

pub async fn a_bot_hands_over_with_its_last_words_and_hears_nothing_more(intake: Intake) {
    let rules = Rules {
        auto_replies: vec![AutoReply {
            after: 0, repeat_every: None, repeat_limit: 0, text: "Ищем агента".to_owned()
        }],
        ..rules()
    };
    let bot = Rasa::start(Does::Answers(Vec::new())).await;
    let mut world = world(rules, &bot, intake).await;
    let anna = world.begins("Анна");
    world.until_true("the bot hears of the beginning", || bot.heard() == [world.beginning()]).await;
    let began = world.words_of_beginning();
    bot.says([json!({"text": "Зову коллегу"}), json!({"custom": {"maxchannel": "handOver"}})]);
    world.say(&anna, "Позовите человека");
    world.until_true("the replies of the queue run", || world.seen(&anna) == ["Зову коллегу", "Ищем агента"]).await;
    let chat = world.accept(&anna).await;
    world.restart(false).await;
    world.crm.control().send(chat, world.agent, "Слушаю", Vec::new()).unwrap();
    world.until_true("the agent answers", || world.seen(&anna).last().unwrap() == "Слушаю").await;
    world.say(&anna, "Спасибо");
    world.until_true("the agent has it", || world.received(&anna).len() == began + 2).await;
    assert_eq!(stands_by(&world, &anna)[began..], [true, false]);
    assert_eq!(bot.heard(), [world.beginning(), "Позовите человека"]);
    assert_eq!(world.seen(&anna), ["Зову коллегу", "Ищем агента", "Слушаю"]);
    world.assert_contract_kept();
}

/// The site dies in a hand-over: the bot's chat looks closed, until the hand-over is tried again.
pub async fn a_hand_over_in_which_the_site_dies_ends_no_dialog_and_calls_the_agents(intake: Intake) {
    const HAND_OVER: &str = "/rest/MaxChannelService/handOver";
    let bot = Rasa::start(Does::Answers(Vec::new())).await;
    let world = world(rules(), &bot, intake).await;
    let crm = world.crm.control();
    let anna = world.begins("Анна");
    world.until_true("the bot hears of the beginning", || bot.heard() == [world.beginning()]).await;
    bot.says([json!({"custom": {"maxchannel": "handOver"}})]);
    crm.fault(creatio::Fault {
        path: HAND_OVER.to_owned(),
        count: 1_000,
        effect: false,
        answer: Answer::Json { status: 200, body: json!({"success": true, "queued": true, "chatId": null}) },
        ..creatio::Fault::default()
    });
    let calls = |call: &str| crm.counters()["calls"][call].as_u64().unwrap_or_default();
    world.say(&anna, "Позовите человека");
    world.until_true("the bot hands over", || calls(&format!("POST {HAND_OVER}")) > 0).await;
    let chat = world.open_chat(&anna).unwrap();
    crm.break_hand_over(chat).unwrap();
    let looks = calls("GET /odata/OmniChat");
    world.until_true("the chats are looked at", || calls("GET /odata/OmniChat") > looks + 4).await;
    let looks = calls("GET /odata/MaxOutbox");
    world.until_true("what follows has followed", || calls("GET /odata/MaxOutbox") > looks + 4).await;
    crm.clear_faults();
    let chat = world.accept(&anna).await;
    crm.send(chat, world.agent, "Слушаю", Vec::new()).unwrap();
    world.until_true("the agent answers", || world.seen(&anna) == ["Слушаю"]).await;
    world.assert_contract_kept();
}

pub async fn a_bot_closes_and_the_close_message_comes_once_and_the_next_word_is_a_new_dialog(intake: Intake) {
    let bot = Rasa::start(Does::Answers(Vec::new())).await;
    let mut world = world(rules(), &bot, intake).await;
    let anna = world.begins("Анна");
    world.until_true("the bot hears of the beginning", || bot.heard() == [world.beginning()]).await;
    bot.says([json!({"text": "Готово"}), json!({"custom": {"maxchannel": "close"}})]);
    world.say(&anna, "Отмените заказ");
    world.until_true("it is closed", || world.seen(&anna) == ["Готово", "Спасибо за обращение!"]).await;
    let first = world.history(&anna)[0].chat.clone();
    world.restart(false).await;
    bot.says([json!({"text": "Снова здравствуйте"})]);
    world.say(&anna, "Ещё вопрос");
    world.until_true("the next dialog runs", || world.seen(&anna).last().unwrap() == "Снова здравствуйте").await;
    assert_eq!(world.seen(&anna), ["Готово", "Спасибо за обращение!", "Снова здравствуйте"]);
    let second = world.history(&anna).into_iter().find(|entry| entry.text == "Ещё вопрос").unwrap().chat;
    assert_ne!(first, second);
    world.assert_contract_kept();
}

/// The chat is over before MAX lets the last of them through.
pub async fn the_last_words_of_a_bot_that_closes_stand_in_the_chat_that_it_closed(intake: Intake) {
    let bot = Rasa::start(Does::Answers(Vec::new())).await;
    let world = world(rules(), &bot, intake).await;
    let anna = world.begins("Анна");
    world.until_true("the bot hears of the beginning", || bot.heard() == [world.beginning()]).await;
    let words = ["Готово", "Заказ отменён", "До свидания"];
    let close = json!({"custom": {"maxchannel": "close"}});
    bot.says(words.iter().map(|text| json!({"text": text})).chain([close]));
    world.say(&anna, "Отмените заказ");
    let of_bot = || {
        let entries = world.history(&anna).into_iter().filter(|entry| words.contains(&entry.text.as_str()));
        entries.map(|entry| (entry.chat, entry.text)).collect::<Vec<_>>()
    };
    world.until_true("it is closed", || world.seen(&anna).last().is_some_and(|text| text.starts_with("Спасибо"))).await;
    world.until_true("all of it is in the history", || of_bot().len() == words.len()).await;
    bot.says([json!({"text": "Снова здравствуйте"})]);
    world.say(&anna, "Ещё вопрос");
    world.until_true("the next dialog runs", || world.seen(&anna).last().unwrap() == "Снова здравствуйте").await;
    let first = world.history(&anna).into_iter().find(|entry| entry.text == "Отмените заказ").unwrap().chat;
    assert_eq!(of_bot(), words.map(|text| (first.clone(), text.to_owned())));
    world.assert_contract_kept();
}

pub async fn a_dead_or_slow_bot_hands_over_and_gets_new_dialogs_again_when_it_is_well(intake: Intake) {
    for illness in [Does::Fails, Does::Hangs] {
        let bot = Rasa::start(Does::Answers(vec![json!({"text": "Здравствуйте"})])).await;
        let world = world(rules(), &bot, intake.clone()).await;
        let anna = world.begins("Анна");
        world.until_true("the bot greets", || world.seen(&anna).len() == 1).await;
        bot.does([illness]);
        world.say(&anna, "Где мой заказ?");
        let chat = world.accept(&anna).await;
        let twice = [world.beginning(), "Где мой заказ?", "Где мой заказ?"];
        assert_eq!(bot.heard(), twice, "it gets one more chance");
        let facts = world.relay.facts().await.bot;
        assert_eq!((facts.ok, facts.code), (false, Some(Trouble::BotUnreachable)));
        world.crm.control().send(chat, world.agent, "Отвечаю за бота", Vec::new()).unwrap();
        world.until_true("the agent answers", || world.seen(&anna).len() == 2).await;

        bot.says([json!({"text": "Я снова здесь"})]);
        world.pass(60_000).await;
        let boris = world.begins("Борис");
        let began = world.words_of_beginning();
        world.until_true("the bot takes the new dialog", || world.seen(&boris) == ["Я снова здесь"]).await;
        world.say(&boris, "Привет");
        world.until_true("the bot hears him", || bot.heard().last().unwrap() == "Привет").await;
        world.until_true("the CRM has it", || world.received(&boris).len() == began + 1).await;
        assert_eq!(stands_by(&world, &boris)[began..], [true]);
        assert!(world.relay.facts().await.bot.ok);
        world.assert_contract_kept();
    }
}

pub async fn outside_the_hours_the_off_hours_bot_takes_new_dialogs_with_its_own_key(intake: Intake) {
    let off_hours = Rasa::start(Does::Answers(vec![json!({"text": "Ночной бот слушает"})])).await;
    let setup = Setup {
        off_hours_bot: Some(off_hours.url.clone()),
        off_hours_key: Some("invented-key".to_owned()),
        ..Setup::default()
    };
    let rules = Rules {
        off_hours: maxchannel::policy::OffHours::Bot,
        working_hours: Some(crate::dialogs::weekdays_nine_to_six(&[])),
        auto_replies: vec![AutoReply {
            after: 0, repeat_every: None, repeat_limit: 0, text: "Ищем агента".to_owned()
        }],
        ..crate::world::quiet_rules()
    };
    let world = World::start_with(rules, intake, setup).await;
    world.jump_to(crate::dialogs::monday("20:00", 0));
    let anna = world.customer("Анна");
    world.say(&anna, "Есть кто?");
    world.until_true("the bot answers", || world.seen(&anna).contains(&"Ночной бот слушает".to_owned())).await;
    assert!(off_hours.keys().iter().all(|key| key == "Bearer invented-key"));
    // The hour strikes: the bot keeps what it holds, and only new dialogs follow the hour.
    world.jump_to(crate::dialogs::monday("09:00", 1));
    world.say(&anna, "Доброе утро");
    world.until_true("the bot still holds it", || off_hours.heard().last().unwrap() == "Доброе утро").await;
    let boris = world.begins("Борис");
    world.until_true("a new dialog goes to the agents", || world.seen(&boris) == ["Ищем агента"]).await;
    assert!(!world.seen(&anna).contains(&"Ищем агента".to_owned()), "a reply was sent while the bot held the dialog");
    world.until_true("the CRM has both", || world.received(&anna).len() == 2).await;
    assert_eq!(stands_by(&world, &anna), [true, true]);
    world.assert_contract_kept();
}
