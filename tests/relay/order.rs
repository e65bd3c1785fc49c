//! Every event of a customer has its place: in his dialog and in no other chat, by MAX's time and
//! not by its arrival.

use maxchannel::contract::config::Intake;
use maxchannel::policy::{AutoReply, Receiver, Rules};
use maxchannel_simulator::max::{Draft, DraftAttachment, Fault, Outcome, Twist, UpdateFault};
use serde_json::{Value, json};

use crate::world::{Customer, Sends, World, quiet_rules};

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600_000;
const GROUP: i64 = -70_801_234_567_890;
const GOODBYE: &str = "Спасибо за обращение!";

/// The simulators' time.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

pub fn user(id: i64) -> Value {
    json!({"user_id": id, "first_name": "Анна", "last_name": "Петрова", "is_bot": false})
}

/// A message of the customer's in the dialog.
pub fn message(world: &World, customer: &Customer, mid: &str, at: i64, text: &str) -> Value {
    json!({"sender": user(customer.id), "timestamp": at, "body": {"mid": mid, "seq": at << 16, "text": text},
        "recipient": {"chat_id": customer.chat, "chat_type": "dialog", "user_id": world.bot}})
}

pub fn created(message: &Value) -> Value {
    json!({"update_type": "message_created", "timestamp": message["timestamp"], "user_locale": "ru", "message": message})
}

/// The same with other words.
pub fn edited(message: &Value, at: i64, text: &str) -> Value {
    let mut message = message.clone();
    message["body"]["text"] = json!(text);
    json!({"update_type": "message_edited", "timestamp": at, "user_locale": "ru", "message": message})
}

fn removed(customer: &Customer, mid: &str, at: i64) -> Value {
    json!({"update_type": "message_removed", "timestamp": at, "message_id": mid, "chat_id": customer.chat, "user_id": customer.id})
}

fn about(update_type: &str, customer: &Customer, at: i64) -> Value {
    json!({"update_type": update_type, "timestamp": at, "chat_id": customer.chat, "user": user(customer.id), "user_locale": "ru"})
}

fn pressed(world: &World, customer: &Customer, at: i64, payload: &str) -> Value {
    json!({"update_type": "message_callback", "timestamp": at, "user_locale": "ru",
        "callback": {"callback_id": format!("press-{at}"), "timestamp": at, "payload": payload, "user": user(customer.id)},
        "message": {"sender": {"user_id": world.bot, "is_bot": true}, "timestamp": at - 5,
            "recipient": {"chat_id": customer.chat, "chat_type": "dialog", "user_id": customer.id},
            "body": {"mid": "mid.of.the.keyboard", "seq": (at - 5) << 16, "text": "Что показать?"}}})
}

fn reply(after: i64, text: &str) -> AutoReply {
    AutoReply { after, repeat_every: None, repeat_limit: 0, text: text.to_owned() }
}

fn after_the_close(world: &World, customer: &Customer) -> usize {
    world.history(customer).iter().filter(|entry| entry.text.starts_with("[После закрытия диалога]")).count()
}

/// So many looks at the outbox have been made since the start.
async fn looks(world: &World) -> u64 {
    let metrics = world.relay.metrics().await;
    let looks = metrics.lines().find_map(|line| line.strip_prefix("maxchannel_relay_crm_calls_total{kind=\"odata\"} "));
    looks.map_or(0, |count| count.parse().unwrap())
}

async fn left(world: &World, reason: &str, at_least: u64) {
    let line = format!("maxchannel_relay_updates_left_total{{reason=\"{reason}\"}} ");
    for _ in 0..2_000 {
        let metrics = world.relay.metrics().await;
        let count =
            metrics.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap());
        if count >= at_least {
            return;
        }
        world.moment().await;
    }
    panic!("fewer than {at_least} updates were left as {reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_in_a_group_touches_no_dialog_and_makes_nobody_a_contact() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    let chat = world.accept(&anna).await;
    let stranger = anna.id + 1_000_000;
    for who in [anna.id, stranger] {
        let at = now();
        let recipient = |kind: Value| json!({"chat_id": GROUP, "chat_type": kind});
        let of_group = |kind: Value, sender: i64, mid: &str| {
            json!({"sender": user(sender), "recipient": recipient(kind), "timestamp": at,
                "body": {"mid": format!("{mid}.{who}"), "seq": at << 16, "text": "в группе"}})
        };
        let press = |message: Value| {
            json!({"update_type": "message_callback", "timestamp": at, "message": message,
                "callback": {"callback_id": format!("group-{who}-{message}"), "timestamp": at, "payload": "p", "user": user(who)}})
        };
        for update in [
            created(&of_group(json!("chat"), who, "one")),
            created(&of_group(Value::Null, who, "two")),
            created(&of_group(json!("channel"), who, "three")),
            edited(&of_group(json!("chat"), who, "one"), at, "в группе иначе"),
            press(of_group(json!("chat"), world.bot, "keyboard")),
            press(of_group(json!("new kind"), world.bot, "keyboard")),
            json!({"update_type": "message_removed", "timestamp": at, "message_id": "one", "chat_id": GROUP, "user_id": who}),
            json!({"update_type": "bot_stopped", "timestamp": at, "chat_id": GROUP, "user": user(who)}),
            json!({"update_type": "dialog_removed", "timestamp": at, "chat_id": GROUP, "user_id": who}),
            json!({"update_type": "bot_started", "timestamp": at, "chat_id": GROUP, "user": user(who)}),
        ] {
            world.deliver(&update).await;
        }
    }
    // Of another chat than the dialog's by its number alone.
    let mut elsewhere = removed(&anna, "two", now());
    elsewhere["chat_id"] = json!(anna.chat + 1);
    world.deliver(&elsewhere).await;
    left(&world, "other_chat", 1).await;
    // A lost answer is looked for in the dialog.
    world.max.control().add_fault(Fault {
        method: Some("POST".to_owned()),
        path: Some("/messages".to_owned()),
        effect: true,
        outcome: Outcome::Drop,
        ..Fault::default()
    });
    world.crm.control().send(chat, world.agent, "Да", Vec::new()).unwrap();
    world
        .until_true("the agent's row is finished", || world.reports().iter().all(|(state, _)| state == "Delivered"))
        .await;
    assert_eq!(world.seen(&anna), ["Да"]);
    world.say(&anna, "Спасибо");
    world.until_true("the next word is with the agent", || world.received(&anna).len() >= 2).await;
    assert_eq!(world.received(&anna), ["Здравствуйте", "Спасибо"]);
    assert_eq!(world.crm.control().customers(), std::slice::from_ref(&anna.sender));
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_press_that_opens_the_chat_stands_before_what_it_brought_about() {
    let world =
        World::start(Rules { auto_replies: vec![reply(0, "Ищем агента")], ..quiet_rules() }, Intake::Webhook).await;
    let anna = world.customer("Анна");
    world.until_true("the reply is shown", || world.seen(&anna) == ["Ищем агента"]).await;
    world.deliver(&pressed(&world, &anna, now(), "меню")).await;
    world.until_true("both stand in the history", || world.history(&anna).len() == 2).await;
    let texts: Vec<String> = world.history(&anna).into_iter().map(|entry| entry.text).collect();
    assert_eq!(texts, ["[Нажата кнопка] меню", "Ищем агента"]);
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_departure_or_a_start_that_comes_late_changes_nothing() {
    let rules = Rules { close_message: Some(GOODBYE.to_owned()), ..quiet_rules() };
    let world = World::start(rules, Intake::Webhook).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    let chat = world.accept(&anna).await;
    for (number, kind) in ["bot_stopped", "dialog_removed", "bot_started"].into_iter().enumerate() {
        world.deliver(&about(kind, &anna, now() - HOUR)).await;
        left(&world, "late", number as u64 + 1).await;
    }
    world.crm.control().close(chat, world.agent).unwrap();
    world.until_true("the close message is shown", || world.seen(&anna) == [GOODBYE]).await;
    // A start from before the closing opens no dialog after it.
    world.deliver(&about("bot_started", &anna, now() - 2 * HOUR)).await;
    left(&world, "late", 4).await;
    assert_eq!(world.history(&anna).iter().filter(|entry| entry.text.contains("остановил")).count(), 0);
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_before_leaving_reaches_the_agents_though_it_comes_later_and_nobody_comes_back_by_it() {
    for wrote_first in [true, false] {
        let rules = Rules { auto_replies: vec![reply(60 * SECOND, "Вы в очереди")], ..quiet_rules() };
        let world = World::start(rules, Intake::Webhook).await;
        let anna = world.customer("Анна");
        let at = now();
        let mut expected = Vec::new();
        if wrote_first {
            world.deliver(&created(&message(&world, &anna, "first", at, "первое"))).await;
            world.until_true("the first is with the agents", || world.received(&anna).len() == 1).await;
            expected.push("первое".to_owned());
        }
        world.deliver(&about("bot_stopped", &anna, at + 20)).await;
        let told = || world.history(&anna).iter().filter(|entry| entry.text.contains("остановил бота")).count();
        if wrote_first {
            world.until_true("the agent is told", || told() == 1).await;
        }
        world.deliver(&created(&message(&world, &anna, "late", at + 10, "напоследок"))).await;
        expected.push("напоследок".to_owned());
        world.until_true("the last word is with the agents", || world.received(&anna) == expected).await;
        world.until_true("the agent knows that she has left", || told() == 1).await;
        world.pass(600 * SECOND).await;
        assert!(world.seen(&anna).is_empty(), "something was sent to somebody who has left");
        world.assert_contract_kept();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_original_that_comes_after_its_own_edit_or_removal_is_not_shown_as_new() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    world.accept(&anna).await;
    let at = now();
    let both = message(&world, &anna, "both", at, "опечтка");
    world.deliver(&edited(&both, at + 10, "опечатка")).await;
    world.until_true("the edit is with the agent", || world.received(&anna).len() == 2).await;
    world.deliver(&removed(&anna, "both", at + 20)).await;
    world.until_true("the removal is with the agent", || world.received(&anna).len() == 3).await;
    world.deliver(&created(&both)).await;
    left(&world, "merged", 1).await;
    let only_edited = message(&world, &anna, "edited", at + 30, "раз");
    world.deliver(&edited(&only_edited, at + 40, "два")).await;
    world.until_true("the edit is with the agent", || world.received(&anna).len() == 4).await;
    world.deliver(&created(&only_edited)).await;
    left(&world, "merged", 2).await;
    world.say(&anna, "Спасибо");
    world.until_true("the next word is with the agent", || world.received(&anna).len() >= 5).await;
    assert_eq!(
        world.received(&anna),
        [
            "Здравствуйте",
            "[Сообщение изменено]\nопечатка",
            "[Клиент удалил сообщение]",
            "[Сообщение изменено]\nдва",
            "Спасибо"
        ]
    );
    // Where no chat was open the edit is left, and the original opens one, in the words of the
    // edit.
    let boris = world.customer("Борис");
    let first = message(&world, &boris, "first", at, "где закз");
    world.deliver(&edited(&first, at + 10, "где заказ")).await;
    left(&world, "no_chat", 1).await;
    world.deliver(&created(&first)).await;
    world.until_true("the appeal is with the agents", || !world.received(&boris).is_empty()).await;
    assert_eq!(world.received(&boris), ["[Сообщение изменено]\nгде заказ"]);
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_or_a_removal_after_the_close_opens_no_chat() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    let at = now();
    let first = message(&world, &anna, "first", at, "вопрос");
    world.deliver(&created(&first)).await;
    let chat = world.accept(&anna).await;
    world.crm.control().close(chat, world.agent).unwrap();
    let open = async || {
        let metrics = world.relay.metrics().await;
        metrics.lines().find_map(|line| line.strip_prefix("maxchannel_relay_open_dialogs ")).unwrap().to_owned()
    };
    let until_open = async |count: &str| {
        while open().await != count {
            world.moment().await;
        }
    };
    until_open("0").await;
    world.deliver(&edited(&first, at + 10, "вопрос о заказе")).await;
    world.deliver(&removed(&anna, "first", at + 20)).await;
    world.until_true("the closed chat shows both", || after_the_close(&world, &anna) == 2).await;
    assert!(world.history(&anna).iter().all(|entry| entry.chat == chat.to_string()));
    assert!(world.open_chat(&anna).is_none(), "a chat was opened");
    // And of somebody who never appealed they are left.
    let boris = world.customer("Борис");
    world.deliver(&removed(&boris, "unknown", at)).await;
    left(&world, "no_chat", 1).await;
    assert!(world.history(&boris).is_empty() && world.open_chat(&boris).is_none());
    // Only his start is a dialog; MAX may bring it after what was delivered here.
    until_open("1").await;
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_or_a_removal_opens_no_chat_though_the_closing_has_not_been_told_yet() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    let at = now();
    let first = message(&world, &anna, "first", at, "вопрос");
    world.deliver(&created(&first)).await;
    let chat = world.accept(&anna).await;
    world.crm.control().hold_outbox(&anna.sender, 600_000);
    world.crm.control().close(chat, world.agent).unwrap();
    world.deliver(&edited(&first, at + 10, "вопрос о заказе")).await;
    world.deliver(&removed(&anna, "first", at + 20)).await;
    world.until_true("the closed chat shows both", || after_the_close(&world, &anna) == 2).await;
    assert!(world.history(&anna).iter().all(|entry| entry.chat == chat.to_string()));
    assert!(world.open_chat(&anna).is_none(), "a chat was opened");
    world.assert_contract_kept();
}

pub async fn replies_that_waited_for_max_are_judged_when_they_are_sent(intake: Intake) {
    let rules = Rules {
        auto_replies: vec![
            reply(0, "раз"),
            reply(30 * SECOND, "два"),
            reply(60 * SECOND, "три"),
            reply(90 * SECOND, "четыре"),
        ],
        ..quiet_rules()
    };
    for answered in [true, false] {
        let world = World::start(rules.clone(), intake.clone()).await;
        world.crm.control().switches(|switches| switches.late_row_every = 0);
        world.sends(Sends::Hasty, 0, 0);
        let anna = world.customer("Анна");
        world.say(&anna, "Здравствуйте");
        let chat = world.accept(&anna).await;
        world.pass(100 * SECOND).await;
        if answered {
            world.crm.control().send(chat, world.agent, "Слушаю", Vec::new()).unwrap();
            let before = looks(&world).await;
            while looks(&world).await < before + 12 {
                world.moment().await;
            }
        }
        // What waits for its turn in the dialog is refused, too, unless it is too late by then.
        let before = world.sends_seen();
        for _ in 0..60 {
            if world.sends_seen() >= before + 2 {
                break;
            }
            world.pass(SECOND).await;
        }
        world.sends_are_well();
        world.until_true("messages are taken again", || !world.seen(&anna).is_empty()).await;
        world.pass(60 * SECOND).await;
        assert_eq!(world.seen(&anna), [if answered { "Слушаю" } else { "четыре" }]);
    }
}

pub async fn a_dialog_that_the_agents_have_goes_on_without_a_receiver_and_new_appeals_wait_for_one(intake: Intake) {
    let mut world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    let chat = world.accept(&anna).await;
    world.apply(Rules { receiver: Receiver::Absent, ..quiet_rules() }, 2).await;
    let boris = world.customer("Борис");
    world.say(&boris, "Добрый день");
    world.say(&anna, "Вы тут?");
    world.until_true("the dialog goes on", || world.received(&anna) == ["Здравствуйте", "Вы тут?"]).await;
    world.crm.control().send(chat, world.agent, "Да", Vec::new()).unwrap();
    world.until_true("both ways", || world.seen(&anna) == ["Да"]).await;
    world.restart(false).await;
    world.pass(120 * SECOND).await;
    assert!(world.received(&boris).is_empty(), "a new appeal did not wait");
    world.apply(quiet_rules(), 3).await;
    world.until_true("it waits no longer", || world.received(&boris) == ["Добрый день"]).await;
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forwarded_file_whose_address_has_expired_is_asked_for_by_the_dialogs_own_message() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    let bytes = b"%PDF forwarded".to_vec();
    let data = Some(maxchannel_simulator::max::Content(bytes.clone().into()));
    let file = DraftAttachment::File { name: "счёт.pdf".to_owned(), data };
    let inner = world.max.control().write(anna.id, world.bot, Draft::attachment(file)).unwrap();
    world.until_true("the first is with the agent", || world.history(&anna).len() == 1).await;
    world.max.control().add_update_fault(UpdateFault { twist: Twist::Lose, ..UpdateFault::default() });
    let mid =
        world.max.control().write(anna.id, world.bot, Draft { forward: Some(inner), ..Draft::default() }).unwrap();
    let mut forward = message(&world, &anna, &mid, now(), "");
    forward["link"] = json!({"type": "forward", "sender": user(1), "chat_id": 1, "message": {"mid": "of.another.chat", "seq": 1,
        "attachments": [{"type": "file", "filename": "счёт.pdf", "size": bytes.len(),
            "payload": {"url": format!("{}/expired", world.max.files_url()), "token": "t"}}]}});
    world.deliver(&created(&forward)).await;
    world.until_true("the forward is with the agent", || world.history(&anna).len() == 2).await;
    let entry = world.history(&anna).pop().unwrap();
    assert_eq!(entry.attachments.len(), 1, "{entry:?}");
    let id = entry.attachments[0]["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(world.crm.control().file(id).unwrap().to_vec(), bytes);
    world.assert_contract_kept();
}

pub async fn a_long_answer_with_a_blank_tail_is_delivered(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    let chat = world.accept(&anna).await;
    let words = "слово ".repeat(660);
    world.crm.control().send(chat, world.agent, &format!("{words}{}", "\n \u{a0}".repeat(100)), Vec::new()).unwrap();
    world.crm.control().send(chat, world.agent, &format!("{words}{words}"), Vec::new()).unwrap();
    world
        .until_true("all is reported", || {
            let reports = world.reports();
            reports.len() == 2 && reports.iter().all(|(state, _)| state != "Pending")
        })
        .await;
    assert!(world.reports().iter().all(|(state, _)| state == "Delivered"), "{:?}", world.reports());
    world.until_true("all three parts are with the customer", || world.seen(&anna).len() == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_may_have_been_told_is_told_again_in_the_same_words_though_the_chat_is_closed_meanwhile() {
    let mut world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    let at = now();
    let first = message(&world, &anna, "first", at, "вопрос");
    world.deliver(&created(&first)).await;
    let chat = world.accept(&anna).await;
    // The CRM takes it and works on it when the relay is killed.
    let receive = "/rest/MaxChannelService/receive".to_owned();
    world.crm.control().fault(maxchannel_simulator::creatio::Fault {
        path: receive,
        work_ms: 1_000,
        ..maxchannel_simulator::creatio::Fault::default()
    });
    world.deliver(&edited(&first, at + 10, "вопрос о заказе")).await;
    world.until_true("the edit is on its way", || world.crm.control().faults_left() == 0).await;
    world.relay.kill().await;
    world.crm.control().close(chat, world.agent).unwrap();
    world.restart(false).await;
    world.until_true("the edit is with the agents", || world.received(&anna).len() == 2).await;
    world.say(&anna, "Спасибо");
    world.until_true("what comes behind it, too", || world.received(&anna).len() == 3).await;
    let told = world.history(&anna).into_iter().filter(|entry| entry.text.contains("вопрос о заказе")).count();
    assert_eq!(told, 1);
    world.assert_contract_kept();
}
