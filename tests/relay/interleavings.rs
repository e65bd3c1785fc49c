//! The five interleavings that lose, double or reorder (see the head of `relay`), and the rule
//! against each.

use maxchannel::contract::config::Intake;
use maxchannel::policy::Rules;
use maxchannel_simulator::creatio::{self, Answer};
use maxchannel_simulator::max::{Fault, Outcome, Twist, UpdateFault};

use crate::order::{edited, message};
use crate::world::{Sends, World, quiet_rules};

pub async fn what_the_crm_only_queues_is_repeated_until_it_is_stored(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    let source = format!("max-bot:{}", world.bot);
    world.crm.control().lock(&source, &anna.sender, 3);
    world.say(&anna, "раз");
    world.say(&anna, "два");
    let calls = || world.crm.control().counters()["calls"]["POST /rest/MaxChannelService/receive"].as_u64();
    world.until_true("the CRM has taken the first into its memory", || calls() > Some(0)).await;
    // With its memory it is lost, and for two minutes the CRM believes that somebody works on it.
    world.crm.control().restart();
    world.crm.control().advance(120_000);
    world.until_true("both are stored, in order", || world.received(&anna) == ["раз", "два"]).await;
    world.assert_contract_kept();
}

pub async fn a_message_in_a_gap_of_the_webhooks_is_read_back_and_keeps_its_place(intake: Intake) {
    let is_webhook = intake == Intake::Webhook;
    let mut world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "до перерыва");
    world.until_true("the first is with the agent", || world.received(&anna).len() == 1).await;
    world.stop().await;
    let attempts = world.max.control().webhook_attempts().len();
    world.say(&anna, "в перерыве");
    if is_webhook {
        world.until_true("MAX has tried in vain", || world.max.control().webhook_attempts().len() > attempts).await;
    }
    world.run().await;
    world.say(&anna, "после перерыва");
    world
        .until_true("all are with the agent in their order, long before MAX repeats", || {
            world.received(&anna) == ["до перерыва", "в перерыве", "после перерыва"]
        })
        .await;
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_max_dropped_between_two_subscriptions_is_shown_once_however_late_it_is_told() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    let mid = world.say(&anna, "завтра в 10");
    world.say(&anna, "жду");
    world.until_true("both are with the agent", || world.received(&anna).len() == 2).await;
    world.relay.subscribed(1).await;
    world.max.control().drop_subscriptions(world.bot).unwrap();
    world.max.control().edit(anna.id, &mid, "завтра в 11").unwrap();
    world.max.control().edit(anna.id, &mid, "завтра в 12").unwrap();
    world.subscribe().await;
    world.relay.subscribed(2).await;
    let expected = ["завтра в 10", "жду", "[Сообщение изменено]\nзавтра в 12"];
    world.until_true("the agent reads what it says now", || world.received(&anna) == expected).await;
    // MAX tells of it all the same, by its own clock.
    let original = message(&world, &anna, &mid, world.now() - 60_000, "завтра в 10");
    world.deliver(&edited(&original, jiff::Timestamp::now().as_millisecond(), "завтра в 12")).await;
    // Another reading tells nothing anew, and a new word of the customer's comes behind it.
    world.relay.subscribed(3).await;
    world.say(&anna, "спасибо");
    world.until_true("the next one is with the agent", || world.received(&anna).len() == 4).await;
    world.max.control().edit(anna.id, &mid, "завтра в 13").unwrap();
    world
        .until_true("an edit after it is one", || {
            world.received(&anna)[3..] == ["спасибо", "[Сообщение изменено]\nзавтра в 13"]
        })
        .await;
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_max_dropped_between_two_subscriptions_is_read_back_without_another_update() {
    let mut world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    world.say(&anna, "до перерыва");
    world.until_true("the first is with the agent", || world.received(&anna).len() == 1).await;
    world.relay.subscribed(1).await;
    world.max.control().drop_subscriptions(world.bot).unwrap();
    world.say(&anna, "в перерыве");
    world.subscribe().await;
    world.relay.subscribed(2).await;
    let expected = ["до перерыва", "в перерыве"];
    world.until_true("what was missed is with the agent", || world.received(&anna) == expected).await;
    world.restart(false).await;
    assert_eq!(world.relay.facts().await.subscribed_at, Some(2), "it is no news after a restart");
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_reading_back_is_refused_a_late_message_carries_its_time_in_words() {
    let world = World::start(quiet_rules(), Intake::Webhook).await;
    world.max.control().add_fault(Fault {
        method: Some("GET".to_owned()),
        path: Some("/messages".to_owned()),
        times: 0,
        outcome: Outcome::error(403, "chat.denied", "not an admin"),
        ..Fault::default()
    });
    let anna = world.customer("Анна");
    world.say(&anna, "первое");
    world.until_true("the first is with the agent", || world.received(&anna).len() == 1).await;
    world.max.control().add_update_fault(UpdateFault {
        update_type: Some("message_created".to_owned()),
        twist: Twist::OutOfOrder,
        ..UpdateFault::default()
    });
    world.say(&anna, "второе");
    world.say(&anna, "третье");
    let received = world
        .until("all three are with the agent", || {
            let received = world.received(&anna);
            (received.len() == 3).then_some(received)
        })
        .await;
    let mut texts: Vec<&str> = received.iter().map(|text| text.lines().last().unwrap()).collect();
    if received[1] == "второе" {
        return; // Both were on disk before the lane delivered: their order is right and nothing is late.
    }
    assert!(received[2].starts_with("[Отправлено клиентом "), "the late one does not say so: {received:?}");
    texts.sort_unstable();
    assert_eq!(texts, ["второе", "первое", "третье"]);
}

pub async fn a_send_without_an_answer_is_looked_for_and_neither_lost_nor_doubled(intake: Intake) {
    for took_effect in [true, false] {
        let world = World::start(quiet_rules(), intake.clone()).await;
        let anna = world.customer("Анна");
        world.say(&anna, "Здравствуйте");
        let chat = world.accept(&anna).await;
        world.sends(if took_effect { Sends::AnswerLost } else { Sends::Lost }, 0, 1);
        // Two equal texts in a row are two messages.
        for _ in 0..2 {
            world.crm.control().send(chat, world.agent, "Да", Vec::new()).unwrap();
        }
        world
            .until_true("both rows are reported", || {
                world.reports().iter().filter(|(state, _)| state == "Delivered").count() == 2
            })
            .await;
        assert_eq!(world.seen(&anna), ["Да", "Да"], "took effect: {took_effect}");
    }
}

pub async fn what_cannot_be_looked_for_is_uncertain_and_never_sent_again(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    let chat = world.accept(&anna).await;
    for (method, outcome, effect) in
        [("POST", Outcome::Drop, true), ("GET", Outcome::error(403, "chat.denied", "not an admin"), false)]
    {
        world.max.control().add_fault(Fault {
            method: Some(method.to_owned()),
            path: Some("/messages".to_owned()),
            times: u32::from(method != "GET"),
            effect,
            outcome,
            ..Fault::default()
        });
    }
    world.crm.control().send(chat, world.agent, "Деньги вернули", Vec::new()).unwrap();
    world.until_true("the row is uncertain", || world.reports().iter().any(|(state, _)| state == "Uncertain")).await;
    assert!(!world.reports()[0].1.is_empty(), "the agent is not told why");
    world.crm.control().send(chat, world.agent, "Проверьте счёт", Vec::new()).unwrap();
    world
        .until_true("the next goes on", || world.seen(&anna).last().is_some_and(|last| last == "Проверьте счёт"))
        .await;
    assert_eq!(world.seen(&anna), ["Деньги вернули", "Проверьте счёт"]);
}

pub async fn a_message_in_the_closing_moment_opens_a_new_dialog_and_is_never_left_in_a_closed_chat(intake: Intake) {
    let rules = Rules {
        auto_close: Some(60_000), close_message: Some("Диалог завершён".to_owned()), ..quiet_rules()
    };
    let world = World::start(rules, intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "первый вопрос");
    let first = world.accept(&anna).await;
    // The closing takes effect but its answer is lost, while the customer writes.
    world.crm.control().fault(creatio::Fault {
        path: "/rest/OmnichannelChatService/CloseActiveChat".to_owned(),
        hold_ms: 300,
        answer: Answer::Drop,
        ..creatio::Fault::default()
    });
    world
        .until_true("the closing is under way", || {
            world.crm.control().counters().to_string().contains("CloseActiveChat")
        })
        .await;
    world.say(&anna, "второй вопрос");
    world.until_true("the second is with the agents", || world.received(&anna).len() == 2).await;
    let history = world.history(&anna);
    let second = history.iter().find(|entry| entry.text == "второй вопрос").unwrap();
    assert_ne!(second.chat, first.to_string(), "the message was left in the closed chat");
    world.until_true("the close message is shown", || !world.seen(&anna).is_empty()).await;
    assert_eq!(world.seen(&anna), ["Диалог завершён"]);
    world.assert_contract_kept();
}

pub async fn two_reports_of_one_closing_are_one_closing(intake: Intake) {
    let rules = Rules { close_message: Some("Диалог завершён".to_owned()), ..quiet_rules() };
    let world = World::start(rules, intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    let chat = world.accept(&anna).await;
    // The row of the closing becomes visible long after the chat shows that it is over.
    world.crm.control().hold_outbox(&anna.sender, 6_000);
    world.crm.control().close(chat, world.agent).unwrap();
    world.until_true("the close message is shown", || !world.seen(&anna).is_empty()).await;
    world
        .until_true("the row of the closing is reported too", || {
            world
                .crm
                .control()
                .outbox()
                .iter()
                .filter(|row| row["Kind"] == "closed")
                .all(|row| row["State"] == "Delivered")
                && world.crm.control().outbox().iter().any(|row| row["Kind"] == "closed")
        })
        .await;
    world.say(&anna, "ещё вопрос");
    world.until_true("the next dialog is open", || world.received(&anna).len() == 2).await;
    assert_eq!(world.seen(&anna), ["Диалог завершён"]);
}

pub async fn after_the_loss_of_the_store_nothing_that_was_sent_is_sent_again(intake: Intake) {
    let mut world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "Здравствуйте");
    let chat = world.accept(&anna).await;
    // The customer has it, but the report never reaches the CRM.
    world.crm.control().fault(creatio::Fault {
        method: Some("PATCH".to_owned()),
        count: 1_000,
        effect: false,
        answer: Answer::Drop,
        ..creatio::Fault::default()
    });
    world.crm.control().send(chat, world.agent, "Ваш заказ в пути", Vec::new()).unwrap();
    world.until_true("the answer is with the customer", || !world.seen(&anna).is_empty()).await;
    world.restart(true).await;
    world.say(&anna, "Когда он будет?");
    world.crm.control().clear_faults();
    world.until_true("the row is finished", || world.reports().iter().all(|(state, _)| state != "Pending")).await;
    assert_eq!(world.seen(&anna), ["Ваш заказ в пути"]);
    world.until_true("the question is with the agent", || world.received(&anna).len() >= 2).await;
    assert_eq!(world.received(&anna), ["Здравствуйте", "Когда он будет?"], "old history was imported");
}

pub async fn a_restart_in_the_middle_of_everything_loses_doubles_and_reorders_nothing(intake: Intake) {
    let rules = Rules { close_message: Some("Диалог завершён".to_owned()), ..quiet_rules() };
    let mut world = World::start(rules, intake).await;
    let customers: Vec<_> = ["Анна", "Борис", "Вера"].into_iter().map(|name| world.customer(name)).collect();
    let words = |from: usize| (from..from + 5).map(|number| format!("слово {number}")).collect::<Vec<_>>();
    for round in 0..4 {
        for customer in &customers {
            for word in words(round * 5) {
                world.say(customer, &word);
            }
        }
        world.restart(false).await;
        for customer in &customers {
            let chat = world.until("the customer has a chat", || world.open_chat(customer)).await;
            world.crm.control().accept(chat, world.agent).unwrap();
            for word in words(round * 5) {
                world.crm.control().send(chat, world.agent, &word, Vec::new()).unwrap();
            }
        }
    }
    let all = words(0).into_iter().chain(words(5)).chain(words(10)).chain(words(15)).collect::<Vec<_>>();
    for customer in &customers {
        world.until_true("the agent has everything", || world.received(customer).len() >= all.len()).await;
        world.until_true("the customer has everything", || world.seen(customer).len() >= all.len()).await;
        assert_eq!(world.received(customer), all);
        assert_eq!(world.seen(customer), all);
    }
    world.assert_contract_kept();
}

pub async fn a_chat_that_was_transferred_in_the_closing_moment_goes_on_as_its_child(intake: Intake) {
    let rules = Rules {
        auto_close: Some(60_000), close_message: Some("Диалог завершён".to_owned()), ..quiet_rules()
    };
    let world = World::start(rules, intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    let first = world.accept(&anna).await;
    let other = world.crm.control().add_agent("Пётр Агентов", "petr@example.com");
    // The transfer is there, but its row is not visible before the relay wants to close the old
    // chat.
    world.crm.control().hold_outbox(&anna.sender, 8_000);
    let child = world.crm.control().transfer_to_agent(first, world.agent, other).unwrap();
    world
        .until_true("the closing reaches the child", || {
            world.crm.control().chats(Some(&anna.sender)).iter().all(|chat| chat.to_string().contains("ompleted"))
        })
        .await;
    world.until_true("the close message is shown", || !world.seen(&anna).is_empty()).await;
    assert_eq!(world.seen(&anna), ["Диалог завершён"], "child {child}");
    world.assert_contract_kept();
}

pub async fn a_file_that_the_crm_does_not_give_is_told_and_holds_nobody_up_for_ever(intake: Intake) {
    for status in [403, 404, 500] {
        let world = World::start(quiet_rules(), intake.clone()).await;
        let anna = world.customer("Анна");
        world.say(&anna, "Здравствуйте");
        let chat = world.accept(&anna).await;
        world.crm.control().fault(creatio::Fault {
            path: "/rest/FileService/Download".to_owned(),
            count: 1_000,
            effect: false,
            answer: Answer::Empty { status },
            ..creatio::Fault::default()
        });
        let file = creatio::OutFile {
            name: "договор.pdf".to_owned(),
            mime_type: "application/pdf".to_owned(),
            bytes: b"%PDF".to_vec(),
        };
        world.crm.control().send(chat, world.agent, "", vec![file]).unwrap();
        world.crm.control().send(chat, world.agent, "Видите файл?", Vec::new()).unwrap();
        world.until_true("the next message is with the customer", || world.seen(&anna) == ["Видите файл?"]).await;
        world
            .until_true("the agent is told of the file", || {
                world.reports().iter().any(|(state, error)| state == "Failed" && error.contains("договор.pdf"))
            })
            .await;
    }
}
