//! What is slow holds nothing that the quick need: files and texts have places of their own, each
//! way.

use std::time::Duration;

use maxchannel::contract::config::Intake;
use maxchannel_simulator::creatio::{self, OutFile};
use maxchannel_simulator::max::{Content, Draft, DraftAttachment, Fault, Outcome};

use crate::world::{Customer, Sends, World, quiet_rules};

/// Long before anything that hangs here is given up.
const SOON: Duration = Duration::from_secs(10);
/// More than are worked on at once in either direction.
const MANY: usize = 40;

pub async fn a_file_host_that_hangs_holds_up_no_text_of_others(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    world.max.control().add_fault(Fault {
        method: Some("GET".to_owned()),
        path: Some("/i".to_owned()),
        times: 0,
        outcome: Outcome::Hang,
        ..Fault::default()
    });
    for number in 0..MANY {
        let customer = world.customer(&format!("Фото {number}"));
        let data = Some(Content(b"\xff\xd8picture".to_vec().into()));
        world.max.control().write(customer.id, world.bot, Draft::attachment(DraftAttachment::Image { data })).unwrap();
        world.say(&customer, "после фото");
    }
    let texts: Vec<_> = ["Анна", "Борис", "Вера"].into_iter().map(|name| world.customer(name)).collect();
    for customer in &texts {
        world.say(customer, "текст");
    }
    let all = world.until_true("every text is with the agents", || {
        texts.iter().all(|customer| world.received(customer) == ["текст"])
    });
    tokio::time::timeout(SOON, all).await.expect("texts waited for files");
    world.assert_contract_kept();
}

pub async fn agents_files_that_hang_hold_up_no_text_of_others(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let mut chats = Vec::new();
    for number in 0..=MANY {
        let customer = world.customer(&format!("Клиент {number}"));
        world.say(&customer, "вопрос");
        chats.push((world.accept(&customer).await, customer));
    }
    world.crm.control().fault(creatio::Fault {
        path: "/rest/FileService/Download".to_owned(),
        count: 1_000,
        delay_ms: 600_000,
        ..creatio::Fault::default()
    });
    for (chat, _) in &chats[..MANY] {
        let file =
            OutFile { name: "а.pdf".to_owned(), mime_type: "application/pdf".to_owned(), bytes: b"%PDF".to_vec() };
        world.crm.control().send(*chat, world.agent, "", vec![file]).unwrap();
    }
    while world.relay.facts().await.undelivered.to_max < i64::try_from(MANY).unwrap() {
        world.moment().await;
    }
    let (chat, customer) = &chats[MANY];
    world.crm.control().send(*chat, world.agent, "текст", Vec::new()).unwrap();
    let all = world.until_true("the text is with the customer", || world.seen(customer) == ["текст"]);
    tokio::time::timeout(SOON, all).await.expect("a text waited for files");
    world.say(customer, "ответ");
    let all = world.until_true("the answer is with the agent", || world.received(customer).len() == 2);
    tokio::time::timeout(SOON, all).await.expect("a text waited for files");
}

pub async fn a_crm_that_hangs_for_some_customers_holds_up_nobody_else_in_either_direction(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let talker = world.customer("Собеседник");
    world.say(&talker, "вопрос");
    let chat = world.accept(&talker).await;
    for number in 0..9 {
        let stuck = world.customer(&format!("Застрявший {number}"));
        world.crm.control().fault(creatio::Fault {
            path: "/rest/MaxChannelService/receive".to_owned(),
            body: format!("\"{}\"", stuck.sender),
            count: 1_000,
            delay_ms: 600_000,
            ..creatio::Fault::default()
        });
        world.say(&stuck, "не дойдёт");
    }
    let others: Vec<_> = ["Анна", "Борис", "Вера", "Глеб"].into_iter().map(|name| world.customer(name)).collect();
    for customer in &others {
        world.say(customer, "текст");
    }
    world.crm.control().send(chat, world.agent, "ответ", Vec::new()).unwrap();
    let all = world.until_true("everybody else is served, both ways", || {
        others.iter().all(|customer| world.received(customer) == ["текст"])
            && world.seen(&talker) == ["ответ"]
            && world.reports() == [("Delivered".to_owned(), String::new())]
    });
    tokio::time::timeout(SOON, all).await.expect("others waited for those who are stuck");
}

pub async fn a_retry_after_binds_everything_towards_that_side_sign_in_and_polls_included(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    let chat = world.accept(&anna).await;
    let busy = creatio::Answer::Busy { status: 503, retry_after: "3".to_owned() };
    world.crm.control().fault(creatio::Fault { effect: false, answer: busy, ..creatio::Fault::default() });
    world.sends(Sends::Busy("3"), 0, 1);
    world.crm.control().revoke_tokens();
    let calls = || world.crm.control().counters()["total"].as_u64().unwrap();
    world.until_true("the CRM asks to be left alone", || calls() > 0 && world.crm.control().faults_left() == 0).await;
    let answered = calls();
    for _ in 0..300 {
        world.moment().await;
    }
    // What was under way when it said so may still come.
    assert!(calls() <= answered + 2, "{} calls although it asked to be left alone", calls() - answered);
    world.crm.control().send(chat, world.agent, "ответ", Vec::new()).unwrap();
    world.say(&anna, "ещё вопрос");
    world
        .until_true("both go on afterwards", || world.received(&anna).len() == 2 && world.seen(&anna) == ["ответ"])
        .await;
}

/// The clock stands still once the first was answered: whoever then waits out a pause waits for
/// ever.
pub async fn the_first_answer_of_a_side_wakes_whoever_waited_for_it(intake: Intake) {
    for side in ["CRM", "customers"] {
        let world = World::start(quiet_rules(), intake.clone()).await;
        let mut customers = Vec::new();
        for number in 0..4 {
            let customer = world.customer(&format!("Клиент {number}"));
            world.say(&customer, "раз");
            customers.push((world.accept(&customer).await, customer));
        }
        if side == "CRM" {
            world.crm.control().outage(Some(creatio::Outage::Unavailable));
            for (_, customer) in &customers {
                world.say(customer, "два");
            }
        } else {
            world.sends(Sends::Hasty, 0, 0);
            for (chat, _) in &customers {
                world.crm.control().send(*chat, world.agent, "два", Vec::new()).unwrap();
            }
        }
        // Until each waits for a minute.
        let began = world.now();
        while world.now() < began + 1_800_000 {
            world.jump_to(world.now() + 2_000);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        world.crm.control().outage(None);
        world.sends_are_well();
        let done = || {
            let served = |customer: &Customer| match side {
                "CRM" => world.received(customer).len() == 2,
                _ => world.seen(customer) == ["два"],
            };
            customers.iter().filter(|(_, customer)| served(customer)).count()
        };
        world.until_true(&format!("the {side} answers again"), || done() > 0).await;
        let all = async {
            while done() < customers.len() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(2 * SOON, all).await;
        assert!(waited.is_ok(), "{side}: {} of {} were served", done(), customers.len());
        world.assert_contract_kept();
    }
}

pub async fn a_side_that_is_away_is_asked_seldom_by_all_together_and_after_a_restart_too(intake: Intake) {
    let mut world = World::start(quiet_rules(), intake).await;
    let customers: Vec<_> = (0..6).map(|number| world.customer(&format!("Клиент {number}"))).collect();
    for customer in &customers {
        world.say(customer, "раз");
    }
    world.until_true("all are served", || customers.iter().all(|one| world.received(one).len() == 1)).await;
    world.crm.control().outage(Some(creatio::Outage::Unavailable));
    for customer in &customers {
        world.say(customer, "два");
    }
    for _ in 0..2 {
        let (calls, began) = (world.crm.control().counters()["total"].as_u64().unwrap(), world.now());
        world.until_true("a minute and a half have passed", || world.now() > began + 90_000).await;
        let calls = world.crm.control().counters()["total"].as_u64().unwrap() - calls;
        assert!(calls < 180, "{calls} calls in a minute and a half");
        world.restart(false).await;
    }
    world.crm.control().outage(None);
    world.until_true("all are served again", || customers.iter().all(|one| world.received(one).len() == 2)).await;
    world.assert_contract_kept();
}
