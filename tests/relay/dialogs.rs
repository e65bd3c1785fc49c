//! The rules of the product page through the whole relay, days in seconds, with restarts in
//! between.

use std::collections::HashSet;
use std::sync::OnceLock;

use maxchannel::contract::CustomerId;
use maxchannel::contract::config::Intake;
use maxchannel::policy::{AutoReply, OffHours, Rules, WorkingHours};
use maxchannel_simulator::creatio::{Answer, Fault, Outage};
use maxchannel_simulator::max::DialogAction;
use serde_json::json;

use crate::world::{Customer, World, quiet_rules};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const GOODBYE: &str = "Спасибо за обращение!";

/// The first Monday that is at least two days away in Moscow, and so many days after it.
fn date(days_after: i64) -> jiff::civil::Date {
    static MONDAY: OnceLock<jiff::civil::Date> = OnceLock::new();
    let monday = MONDAY.get_or_init(|| {
        let zone = jiff::tz::TimeZone::get("Europe/Moscow").unwrap();
        let soon = jiff::Timestamp::now().to_zoned(zone).date();
        (2..9)
            .map(|days| soon.checked_add(jiff::Span::new().days(days)).unwrap())
            .find(|day| day.weekday() == jiff::civil::Weekday::Monday)
            .unwrap()
    });
    monday.checked_add(jiff::Span::new().days(days_after)).unwrap()
}

/// A moment of that Monday, or of a day after it, in Moscow.
pub fn monday(time: &str, days_after: i64) -> i64 {
    let time: jiff::civil::Time = time.parse().unwrap();
    date(days_after).to_datetime(time).in_tz("Europe/Moscow").unwrap().timestamp().as_millisecond()
}

/// Monday to Friday, nine to six in Moscow; holidays by the days after that Monday.
pub fn weekdays_nine_to_six(holidays: &[i64]) -> WorkingHours {
    hours("09:00", "18:00", holidays)
}

fn hours(from: &str, to: &str, holidays: &[i64]) -> WorkingHours {
    let holidays: Vec<String> = holidays.iter().map(|days| date(*days).to_string()).collect();
    serde_json::from_value(json!({
        "timeZone": "Europe/Moscow",
        "week": [{"days": ["Mon", "Tue", "Wed", "Thu", "Fri"], "from": from, "to": to}],
        "holidays": holidays,
    }))
    .unwrap()
}

fn reply(after: i64, text: &str) -> AutoReply {
    AutoReply { after, repeat_every: None, repeat_limit: 0, text: text.to_owned() }
}

fn repeated(after: i64, every: i64, limit: u32, text: &str) -> AutoReply {
    AutoReply { repeat_every: Some(every), repeat_limit: limit, ..reply(after, text) }
}

fn farewell(auto_close: Option<i64>) -> Rules {
    Rules { close_message: Some(GOODBYE.to_owned()), auto_close, ..quiet_rules() }
}

fn count(world: &World, customer: &Customer, text: &str) -> usize {
    world.seen(customer).iter().filter(|seen| *seen == text).count()
}

async fn taken(world: &World, customer: &Customer, messages: usize) {
    world.until_true("the CRM has what was written", || world.received(customer).len() == messages).await;
}

pub async fn replies_repeat_over_restarts_and_stop_for_good_at_the_agents_answer(intake: Intake) {
    let rules = Rules {
        auto_replies: vec![reply(0, "Ищем агента"), repeated(3 * MINUTE, 5 * MINUTE, 2, "Вы в очереди")],
        ..quiet_rules()
    };
    let mut world = World::start(rules, intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    world.until_true("the first is shown", || count(&world, &anna, "Ищем агента") == 1).await;
    world.restart(false).await;
    let boris = world.customer("Борис");
    world.say(&boris, "Добрый день");
    let chat = world.accept(&boris).await;
    world.crm.control().send(chat, world.agent, "Слушаю", Vec::new()).unwrap();
    world.until_true("the agent answers", || count(&world, &boris, "Слушаю") == 1).await;
    let before = world.seen(&boris);
    for repetitions in 1..=3 {
        world.pass(if repetitions == 1 { 3 * MINUTE } else { 5 * MINUTE }).await;
        world.until_true("it is repeated", || count(&world, &anna, "Вы в очереди") >= repetitions).await;
        world.restart(false).await;
    }
    world.pass(24 * HOUR).await;
    world.restart(false).await;
    assert_eq!(world.seen(&anna), ["Ищем агента", "Вы в очереди", "Вы в очереди", "Вы в очереди"]);
    assert_eq!(world.seen(&boris), before, "a reply came after the agent's answer");
    world.assert_contract_kept();
}

pub async fn a_dialog_that_turns_out_to_be_another_repeats_no_reply_that_the_customer_has_seen_in_it(intake: Intake) {
    let rules =
        Rules { auto_replies: vec![repeated(MINUTE, 2 * MINUTE, 2, "Вы в очереди")], ..farewell(None) };
    for message_first in [true, false] {
        let world = World::start(rules.clone(), intake.clone()).await;
        // By itself the channel begins no session there, and the first one may be closed already.
        let at_least = if intake == Intake::MangoDialogs { 2 } else { 3 };
        let anna = world.customer("Анна");
        world.say(&anna, "Здравствуйте");
        let chat = world.accept(&anna).await;
        let is_told = |row: &serde_json::Value| row["Kind"] == "accepted" && row["State"] == "Delivered";
        world.until_true("the relay knows the chat", || world.crm.control().outbox().iter().any(is_told)).await;
        // The chat is closed, and the CRM is away before it could be told.
        world.crm.control().outage(Some(Outage::Drop));
        world.crm.control().close(chat, world.agent).unwrap();
        if message_first {
            world.crm.control().hold_outbox(&anna.sender, 1_000);
        }
        world.say(&anna, "Забыла спросить");
        world.until_true("it counts", || count(&world, &anna, "Вы в очереди") == 1).await;
        world.pass(2 * MINUTE).await;
        world.until_true("it is repeated", || count(&world, &anna, "Вы в очереди") == 2).await;
        world.crm.control().outage(None);
        taken(&world, &anna, 2).await;
        world.until_true("the closing is known", || count(&world, &anna, GOODBYE) == 1).await;
        for _ in 0..10 {
            world.pass(MINUTE).await;
            world.moment().await;
        }
        let chats: HashSet<String> = world.history(&anna).into_iter().map(|entry| entry.chat).collect();
        assert_eq!(chats.len(), 2, "both messages are in one chat");
        let count = count(&world, &anna, "Вы в очереди");
        assert!((at_least..=3).contains(&count), "{count} times, the rule says 3 (message first: {message_first})");
    }
}

pub async fn replies_are_held_back_from_the_history_until_the_customer_writes_and_keep_their_true_times(
    intake: Intake,
) {
    let rules = Rules {
        auto_replies: vec![reply(0, "Ищем агента"), reply(3 * MINUTE, "Вы в очереди")],
        ..quiet_rules()
    };
    let mut world = World::start(rules, intake).await;
    let anna = world.customer("Анна");
    world.until_true("the first is shown", || world.seen(&anna).len() == 1).await;
    world.restart(false).await;
    world.pass(3 * MINUTE).await;
    world.until_true("the second is shown", || world.seen(&anna).len() == 2).await;
    assert!(world.history(&anna).is_empty());
    world.say(&anna, "Здравствуйте");
    world.until_true("all stand in the history", || world.history(&anna).len() == 3).await;
    let history = world.history(&anna);
    let texts: Vec<&str> = history.iter().map(|entry| entry.text.as_str()).collect();
    assert_eq!(texts, ["Здравствуйте", "Ищем агента", "Вы в очереди"]);
    let shown = world.max.control().transcript(anna.id, world.bot).unwrap();
    let times: Vec<i64> = shown.messages.iter().filter(|entry| entry.from_bot).map(|entry| entry.timestamp).collect();
    assert_eq!([history[1].timestamp, history[2].timestamp], times[..]);
    world.assert_contract_kept();
}

pub async fn the_off_hours_set_answers_over_a_holiday_and_the_normal_one_when_the_hour_strikes(intake: Intake) {
    let rules = Rules {
        auto_replies: vec![reply(0, "Ищем агента")],
        working_hours: Some(weekdays_nine_to_six(&[1])),
        off_hours: OffHours::AutoReplies(vec![reply(0, "Мы ответим в рабочее время")]),
        ..quiet_rules()
    };
    let mut world = World::start(rules, intake).await;
    world.jump_to(monday("17:00", 0));
    let anna = world.customer("Анна");
    world.until_true("the normal set within the hours", || world.seen(&anna) == ["Ищем агента"]).await;
    // Tuesday noon is a holiday.
    world.jump_to(monday("12:00", 1));
    let boris = world.customer("Борис");
    world.say(&boris, "Вы работаете?");
    world.until_true("the other set on a holiday", || world.seen(&boris) == ["Мы ответим в рабочее время"]).await;
    world.restart(false).await;
    world.jump_to(monday("08:55", 2));
    world.pass(6 * MINUTE).await;
    world.until_true("the normal set from the hour on", || world.seen(&boris).len() == 2).await;
    assert_eq!(world.seen(&boris), ["Мы ответим в рабочее время", "Ищем агента"]);
    world.assert_contract_kept();
}

pub async fn hours_over_midnight_are_one_shift(intake: Intake) {
    let rules = Rules {
        auto_replies: vec![reply(0, "Ищем агента")],
        working_hours: Some(hours("22:00", "06:00", &[])),
        off_hours: OffHours::AutoReplies(vec![reply(0, "Мы работаем ночью")]),
        ..quiet_rules()
    };
    let world = World::start(rules, intake).await;
    for (time, day, expected) in [
        ("21:00", 0, "Мы работаем ночью"),
        ("23:30", 0, "Ищем агента"),
        ("05:30", 1, "Ищем агента"),
        ("06:30", 1, "Мы работаем ночью"),
    ] {
        world.jump_to(monday(time, day));
        let customer = world.begins("Анна");
        world.until_true(&format!("{expected} at {time}"), || world.seen(&customer) == [expected]).await;
    }
    world.assert_contract_kept();
}

pub async fn silence_closes_a_dialog_at_the_time_that_was_shown_and_says_goodbye_once(intake: Intake) {
    let mut world = World::start(farewell(Some(24 * HOUR)), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    let chat = world.accept(&anna).await;
    world.crm.control().send(chat, world.agent, "Готово", Vec::new()).unwrap();
    world.until_true("the agent answers", || world.seen(&anna) == ["Готово"]).await;
    world.pass(23 * HOUR).await;
    world.restart(false).await;
    let shown = world.relay.facts().await.auto_close;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].customer, anna.sender);
    assert!(shown[0].at > world.now() && shown[0].at < world.now() + HOUR, "not a day after the last word");
    assert_eq!(world.seen(&anna), ["Готово"]);
    world.jump_to(shown[0].at);
    world.until_true("the close message is shown", || world.seen(&anna).len() == 2).await;
    assert!(world.open_chat(&anna).is_none(), "the chat stayed open");
    world.restart(false).await;
    world.pass(48 * HOUR).await;
    assert_eq!(world.seen(&anna), ["Готово", GOODBYE]);
    assert!(world.relay.facts().await.auto_close.is_empty());
    world.assert_contract_kept();
}

pub async fn an_agents_closing_says_goodbye_once_over_a_restart_and_the_next_word_opens_another_dialog(intake: Intake) {
    let mut world = World::start(farewell(None), intake).await;
    let anna = world.customer("Анна");
    for round in 1..=2 {
        world.say(&anna, "Вопрос");
        taken(&world, &anna, round).await;
        let chat = world.accept(&anna).await;
        world.stop().await;
        world.crm.control().close(chat, world.agent).unwrap();
        world.run().await;
        world.until_true("the close message is shown", || count(&world, &anna, GOODBYE) == round).await;
        world.restart(false).await;
        world.pass(HOUR).await;
        assert_eq!(count(&world, &anna, GOODBYE), round);
    }
    let chats: std::collections::BTreeSet<String> = world
        .history(&anna)
        .into_iter()
        .filter(|entry| entry.direction == "incoming")
        .map(|entry| entry.chat)
        .collect();
    assert_eq!(chats.len(), 2);
    world.assert_contract_kept();
}

/// The relay begins with an empty store, the answer to its first message is lost, and its first
/// look at the outbox shows the chat as closed already.
pub async fn a_chat_that_is_closed_before_the_relay_knows_that_it_opened_it_ends_with_the_close_message(
    intake: Intake,
) {
    const RECEIVE: &str = "/rest/MaxChannelService/receive";
    let away = |method: &str, path: &str| Fault {
        method: Some(method.to_owned()),
        path: path.to_owned(),
        count: 1_000,
        effect: false,
        answer: Answer::Empty { status: 503 },
        ..Fault::default()
    };
    for says_more in [false, true] {
        let mut world = World::start(farewell(None), intake.clone()).await;
        world.stop().await;
        world.lose_store();
        let crm = world.crm.control();
        crm.fault(Fault { path: RECEIVE.to_owned(), answer: Answer::Drop, ..Fault::default() });
        crm.fault(away("POST", RECEIVE));
        crm.fault(away("GET", "/odata/MaxOutbox"));
        world.run().await;
        let anna = world.customer("Анна");
        world.say(&anna, "Вопрос");
        let chat = world.until("the CRM has it", || world.open_chat(&anna)).await;
        // Nobody has accepted it, so that nothing else names the chat.
        crm.close(chat, world.agent).unwrap();
        if says_more {
            world.say(&anna, "Ещё вопрос");
        }
        // The outbox is the first to be seen.
        crm.clear_faults();
        crm.fault(away("POST", RECEIVE));
        let told = || crm.outbox().iter().all(|row| row["State"] == "Delivered");
        world.until_true("the closing is known", told).await;
        crm.clear_faults();
        world.until_true("the close message is shown", || count(&world, &anna, GOODBYE) == 1).await;
        world.restart(false).await;
        world.pass(HOUR).await;
        assert_eq!(count(&world, &anna, GOODBYE), 1);
        assert_eq!(world.received(&anna).len(), 1 + usize::from(says_more));
        assert_eq!(world.open_chat(&anna).is_some(), says_more);
        world.assert_contract_kept();
    }
}

pub async fn who_was_erased_and_writes_on_into_an_open_chat_is_said_goodbye_at_its_closing_alone(intake: Intake) {
    let world = World::start(farewell(None), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Вопрос");
    let chat = world.accept(&anna).await;
    world.relay.erase(CustomerId::new(anna.id)).await.unwrap();
    // The relay's clock runs ahead of the played ones, by which it is written afterwards.
    let erased_at = world.now();
    let is_later = || jiff::Timestamp::now().as_millisecond() > erased_at;
    world.until_true("it is later where customers write", is_later).await;
    world.say(&anna, "Ещё вопрос");
    taken(&world, &anna, 2).await;
    world.pass(HOUR).await;
    assert_eq!((world.open_chat(&anna), count(&world, &anna, GOODBYE)), (Some(chat), 0));
    // Who has written again has a dialog again, and that one ends with the chat.
    world.crm.control().close(chat, world.agent).unwrap();
    world.until_true("the close message is shown", || count(&world, &anna, GOODBYE) == 1).await;
    world.say(&anna, "Новый вопрос");
    taken(&world, &anna, 3).await;
    world.pass(HOUR).await;
    assert_eq!(count(&world, &anna, GOODBYE), 1);
    world.assert_contract_kept();
}

/// The chat of somebody who was erased goes on in the CRM: whatever becomes of it there, nothing is
/// said to the person, and no dialog of the person's comes back.
pub async fn who_was_erased_is_not_said_goodbye_whatever_becomes_of_the_chat(intake: Intake) {
    const RECEIVE: &str = "/rest/MaxChannelService/receive";
    for (is_known, is_transferred) in [(true, false), (true, true), (false, false)] {
        let world = World::start(farewell(None), intake.clone()).await;
        let crm = world.crm.control();
        let anna = world.customer("Анна");
        if !is_known {
            // The CRM opens the chat, and the relay does not come to know of it.
            crm.fault(Fault { path: RECEIVE.to_owned(), answer: Answer::Drop, ..Fault::default() });
            crm.fault(Fault {
                path: RECEIVE.to_owned(),
                count: 1_000,
                effect: false,
                answer: Answer::Empty { status: 503 },
                ..Fault::default()
            });
        }
        world.say(&anna, "Вопрос");
        let mut chat = world.until("the CRM has it", || world.open_chat(&anna)).await;
        if is_known {
            world.accept(&anna).await;
            taken(&world, &anna, 1).await;
        }
        world.relay.erase(CustomerId::new(anna.id)).await.unwrap();
        crm.clear_faults();
        let mut by = world.agent;
        if is_transferred {
            by = crm.add_agent("Пётр Агентов", "petr@example.com");
            chat = crm.transfer_to_agent(chat, world.agent, by).unwrap();
        }
        crm.close(chat, by).unwrap();
        let told = || crm.outbox().iter().all(|row| row["State"] == "Delivered");
        world.until_true("the closing is known", told).await;
        world.pass(HOUR).await;
        assert_eq!(count(&world, &anna, GOODBYE), 0, "known {is_known}, transferred {is_transferred}");
        let erased = world.relay.erase(CustomerId::new(anna.id)).await.unwrap();
        assert_eq!(erased.dialogs, 0, "the outbox brought the person back");
        world.say(&anna, "Снова я");
        let chat = world.until("another chat is opened", || world.open_chat(&anna)).await;
        crm.close(chat, world.agent).unwrap();
        world.until_true("the close message is shown", || count(&world, &anna, GOODBYE) == 1).await;
        world.assert_contract_kept();
    }
}

/// The agents work on while nothing of it reaches the relay.
pub async fn what_an_agent_said_while_the_crm_could_not_be_asked_keeps_the_dialog_open(intake: Intake) {
    let world = World::start(farewell(Some(30 * MINUTE)), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Вопрос");
    let chat = world.accept(&anna).await;
    world.crm.control().send(chat, world.agent, "Минуту", Vec::new()).unwrap();
    world.until_true("the agent has answered", || count(&world, &anna, "Минуту") == 1).await;
    world.crm.control().outage(Some(Outage::Drop));
    // A relay that has noticed: days pass in seconds here.
    while world.relay.facts().await.crm.ok {
        world.moment().await;
    }
    world.pass(25 * MINUTE).await;
    world.crm.control().send(chat, world.agent, "Готово", Vec::new()).unwrap();
    world.pass(15 * MINUTE).await;
    world.crm.control().outage(None);
    world.until_true("the customer has it", || count(&world, &anna, "Готово") == 1).await;
    assert_eq!((world.open_chat(&anna), count(&world, &anna, GOODBYE)), (Some(chat), 0));
    world.pass(HOUR).await;
    world.until_true("silence ends it", || count(&world, &anna, GOODBYE) == 1).await;
    world.assert_contract_kept();
}

/// Silence is what nobody has said, not what the relay has not heard.
pub async fn what_was_said_while_the_relay_was_away_keeps_the_dialog_open(intake: Intake) {
    for (is_suspended, agent_writes) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::start(farewell(Some(15 * MINUTE)), intake.clone()).await;
        let anna = world.customer("Анна");
        world.say(&anna, "Вопрос");
        let chat = world.accept(&anna).await;
        world.crm.control().send(chat, world.agent, "Минуту", Vec::new()).unwrap();
        world.until_true("the agent has answered", || count(&world, &anna, "Минуту") == 1).await;
        if is_suspended {
            world.suspend(true).await;
        } else {
            world.stop().await;
        }
        if agent_writes {
            world.crm.control().send(chat, world.agent, "Готово", Vec::new()).unwrap();
        } else {
            let attempts = || world.max.control().webhook_attempts().len();
            let before = attempts();
            world.say(&anna, "Ещё вопрос");
            let is_tried = || intake != Intake::Webhook || attempts() > before;
            world.until_true("MAX has tried in vain", is_tried).await;
        }
        world.jump_to(world.now() + 20 * MINUTE);
        if is_suspended {
            world.suspend(false).await;
        } else {
            world.run().await;
        }
        if agent_writes {
            world.until_true("the customer has it", || count(&world, &anna, "Готово") == 1).await;
        } else {
            taken(&world, &anna, 2).await;
        }
        let state = (world.open_chat(&anna), count(&world, &anna, GOODBYE));
        assert_eq!(state, (Some(chat), 0), "suspended: {is_suspended}, the agent writes: {agent_writes}");
        world.pass(HOUR).await;
        world.until_true("silence ends it", || count(&world, &anna, GOODBYE) == 1).await;
        world.assert_contract_kept();
    }
}

pub async fn a_customer_who_leaves_is_left_alone_the_agent_is_told_and_may_come_back(intake: Intake) {
    for leaving in [DialogAction::Stop, DialogAction::Remove] {
        let rules = Rules {
            auto_replies: vec![repeated(5 * MINUTE, 5 * MINUTE, 9, "Вы в очереди")], ..farewell(None)
        };
        let mut world = World::start(rules, intake.clone()).await;
        let anna = world.customer("Анна");
        world.say(&anna, "Здравствуйте");
        let chat = world.accept(&anna).await;
        world.max.control().act(anna.id, world.bot, leaving.clone()).unwrap();
        let told = |world: &World| {
            world.history(&anna).iter().filter(|entry| entry.text.starts_with("[Клиент остановил бота")).count()
        };
        world.until_true("the agent is told", || told(&world) == 1).await;
        world.restart(false).await;
        let shown = world.seen(&anna);
        let sends = || world.max.control().statistics().requests.get("POST /messages").copied().unwrap_or_default();
        let before = sends();
        world.pass(2 * HOUR).await;
        assert_eq!(sends(), before, "something was sent to somebody who has left ({leaving:?})");
        world.crm.control().send(chat, world.agent, "Вы тут?", Vec::new()).unwrap();
        world
            .until_true("the agent's row is reported", || world.reports().iter().any(|(state, _)| state == "Failed"))
            .await;
        assert_eq!(world.reports()[0].1, "клиент остановил бота или удалил диалог");
        world.max.control().act(anna.id, world.bot, DialogAction::Start(None)).unwrap();
        world.say(&anna, "Я вернулась");
        taken(&world, &anna, 2).await;
        world.crm.control().send(world.open_chat(&anna).unwrap(), world.agent, "С возвращением", Vec::new()).unwrap();
        world
            .until_true("the answer is with her", || {
                world.seen(&anna).last().is_some_and(|last| last == "С возвращением")
            })
            .await;
        assert_eq!(told(&world), 1);
        assert!(shown.iter().all(|text| text != GOODBYE));
        world.assert_contract_kept();
    }
}
