//! Pauses go by passed time, looks back by MAX's own times, and each patience counts its own cause.

use maxchannel::contract::Trouble;
use maxchannel::contract::config::Intake;
use maxchannel::policy::{AutoReply, Rules};
use maxchannel_simulator::creatio::{self, Answer, OutFile, Outage};
use maxchannel_simulator::max::{Fault, Outcome};

use crate::world::{Sends, World, quiet_rules};

const HOUR: i64 = 3_600_000;

pub async fn a_clock_set_back_by_an_hour_delays_no_lost_answer_and_no_lost_report(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    let chat = world.accept(&anna).await;
    world.sends(Sends::AnswerLost, 0, 1);
    world.crm.control().send(chat, world.agent, "ответ", Vec::new()).unwrap();
    world.until_true("the answer is lost", || world.seen(&anna) == ["ответ"]).await;
    world.set_wall(-HOUR);
    // The report is answered, but takes no effect.
    world.crm.control().fault(creatio::Fault {
        method: Some("PATCH".to_owned()),
        effect: false,
        answer: Answer::Empty { status: 204 },
        ..creatio::Fault::default()
    });
    world.until_true("it is found and reported", || world.reports() == [("Delivered".to_owned(), String::new())]).await;
    assert_eq!(world.seen(&anna), ["ответ"]);
}

pub async fn a_clock_set_back_puts_off_no_closing_of_a_quiet_dialog(intake: Intake) {
    let rules =
        Rules {
            auto_close: Some(2 * HOUR), close_message: Some("Диалог завершён".to_owned()), ..quiet_rules()
        };
    let world = World::start(rules, intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    world.accept(&anna).await;
    let began = world.now();
    world.pass(2 * HOUR - 600_000).await;
    world.set_wall(-HOUR);
    world.pass(12 * 60_000).await;
    world.until_true("it is closed", || world.seen(&anna) == ["Диалог завершён"]).await;
    let passed = world.now() + HOUR - began;
    assert!((2 * HOUR - 60_000..2 * HOUR + 600_000).contains(&passed), "closed after {} minutes", passed / 60_000);
    world.assert_contract_kept();
}

/// MAX adds a preview of the page to a message with a link.
pub async fn a_lost_answer_with_a_link_is_found_with_the_preview_that_nobody_sent(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    world.max.control().set_switches(|switches| switches.link_previews = true);
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    let chat = world.accept(&anna).await;
    world.sends(Sends::AnswerLost, 0, 1);
    let words = "Подробности: https://example.ru/order";
    world.crm.control().send(chat, world.agent, words, Vec::new()).unwrap();
    world.until_true("it is found and reported", || world.reports() == [("Delivered".to_owned(), String::new())]).await;
    assert_eq!(world.seen(&anna), [words]);
    world.assert_contract_kept();
}

pub async fn a_machine_ahead_of_max_or_behind_it_doubles_no_first_reply(intake: Intake) {
    for minutes in [3, -3, 60, -60] {
        let reply =
            AutoReply { after: 0, repeat_every: None, repeat_limit: 0, text: "Ищем агента".to_owned() };
        let world = World::start(Rules { auto_replies: vec![reply], ..quiet_rules() }, intake.clone()).await;
        world.set_wall(minutes * 60_000);
        world.sends(Sends::AnswerLost, 0, 1);
        let anna = world.begins("Анна");
        world.until_true("the reply is with the customer, its answer is lost", || !world.seen(&anna).is_empty()).await;
        world.say(&anna, "вопрос");
        world
            .until_true("it is found, and stands in the history", || {
                world.history(&anna).iter().any(|entry| entry.author == "autoReply")
            })
            .await;
        assert_eq!(world.seen(&anna), ["Ищем агента"], "{minutes} minutes");
    }
}

pub async fn refusals_for_haste_use_up_no_patience_for_a_file_that_is_not_ready(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    let chat = world.accept(&anna).await;
    for (times, outcome) in [
        (12, Outcome::error(429, "too.many.requests", "")),
        (3, Outcome::error(400, "attachment.not.ready", "")),
        (3, Outcome::error(503, "service.unavailable", "")),
    ] {
        let (method, path) = (Some("POST".to_owned()), Some("/messages".to_owned()));
        world.max.control().add_fault(Fault { method, path, times, outcome, ..Fault::default() });
    }
    let file = OutFile { name: "а.pdf".to_owned(), mime_type: "application/pdf".to_owned(), bytes: b"%PDF".to_vec() };
    world.crm.control().send(chat, world.agent, "", vec![file]).unwrap();
    world.until_true("the file is delivered", || world.reports() == [("Delivered".to_owned(), String::new())]).await;
}

pub async fn an_outage_uses_up_no_patience_for_closing(intake: Intake) {
    let rules = Rules {
        auto_close: Some(60_000), close_message: Some("Диалог завершён".to_owned()), ..quiet_rules()
    };
    let world = World::start(rules, intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    world.accept(&anna).await;
    world.crm.control().fault(creatio::Fault {
        path: "/rest/OmnichannelChatService/CloseActiveChat".to_owned(),
        count: 9,
        effect: false,
        answer: Answer::Empty { status: 503 },
        ..creatio::Fault::default()
    });
    world.until_true("it is closed after all", || world.seen(&anna) == ["Диалог завершён"]).await;
    assert_eq!(world.relay.facts().await.dead_letters, 0, "the closing was given up");
}

pub async fn a_chat_that_cannot_be_seen_is_told_and_is_never_taken_for_closed(intake: Intake) {
    let rules = Rules {
        auto_close: Some(60_000), close_message: Some("Диалог завершён".to_owned()), ..quiet_rules()
    };
    let world = World::start(rules, intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    let chat = world.accept(&anna).await;
    world.crm.control().hide(chat, true);
    let denied = async {
        while world.relay.facts().await.crm.code != Some(Trouble::AccessDenied) {
            world.moment().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), denied).await.expect("nobody was told");
    // Others are served, and that hides nothing.
    let boris = world.customer("Борис");
    world.say(&boris, "вопрос");
    world.until_true("others are served", || world.received(&boris) == ["вопрос"]).await;
    assert!(world.seen(&anna).is_empty(), "a waiting chat was told to be over");
    assert_eq!(world.relay.facts().await.crm.code, Some(Trouble::AccessDenied));
    world.crm.control().hide(chat, false);
    world.until_true("it is closed once it is seen", || world.seen(&anna) == ["Диалог завершён"]).await;
    assert!(world.relay.facts().await.crm.ok);
}

pub async fn a_replay_is_not_undone_by_the_slow_report_of_the_failure_before_it(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    let chat = world.accept(&anna).await;
    world.sends(Sends::Refused, 0, 1);
    world.crm.control().fault(creatio::Fault {
        method: Some("PATCH".to_owned()),
        // Other rows are reported, too.
        body: "Failed".to_owned(),
        delay_ms: 2_500,
        hold_ms: 500,
        ..creatio::Fault::default()
    });
    world.crm.control().send(chat, world.agent, "ответ", Vec::new()).unwrap();
    let dead = async {
        while world.relay.facts().await.dead_letters == 0 {
            world.moment().await;
        }
    };
    dead.await;
    let replayed = std::process::Command::new(env!("CARGO_BIN_EXE_maxchannel"))
        .args(["dead-letters", "replay", "--all", "--data-dir"])
        .arg(world.data_dir())
        .status()
        .unwrap();
    assert!(replayed.success());
    world.until_true("the customer has it", || world.seen(&anna) == ["ответ"]).await;
    world.until_true("so says the CRM", || world.reports().iter().all(|(state, _)| state == "Delivered")).await;
}

pub async fn an_outage_of_the_site_uses_up_no_patience_for_an_agents_file(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    let chat = world.accept(&anna).await;
    let file = OutFile { name: "а.pdf".to_owned(), mime_type: "application/pdf".to_owned(), bytes: b"%PDF".to_vec() };
    world.crm.control().fault(creatio::Fault {
        path: "/rest/FileService/Download".to_owned(),
        count: 2,
        effect: false,
        answer: Answer::Empty { status: 500 },
        ..creatio::Fault::default()
    });
    world.crm.control().send(chat, world.agent, "", vec![file]).unwrap();
    world.pass(5_000).await;
    world.crm.control().outage(Some(Outage::Unavailable));
    world.pass(20 * 60_000).await;
    world.crm.control().outage(None);
    world.until_true("the file is delivered", || world.reports() == [("Delivered".to_owned(), String::new())]).await;
}
