//! The promises of the relay on each of the three ways in, as a table: a promise is a function of
//! its room, and each way is a column. Where a way cannot have the situation, the table says why.

use std::time::Duration;

use maxchannel::contract::config::Intake;
use maxchannel_simulator::creatio;
use maxchannel_simulator::mango::EventFaults;
use maxchannel_simulator::max::{Twist, UpdateFault};

use crate::world::{Customer, World, quiet_rules};

const HOUR: i64 = 3_600_000;

fn webhook() -> Intake {
    Intake::Webhook
}

fn long_poll() -> Intake {
    Intake::LongPoll
}

fn mango_dialogs() -> Intake {
    Intake::MangoDialogs
}

/// Makes a test of each promise and way.
macro_rules! promises {
    ($($room:ident :: $promise:ident on $($way:ident)+ $(, not $other:ident: $why:literal)*;)+) => {
        $(mod $promise {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $way() {
                crate::$room::$promise(crate::ways::$way()).await;
            })+
        })+
    };
}

promises! {
    both_ways::a_customer_and_an_agent_talk on webhook long_poll mango_dialogs;
    both_ways::files_go_both_ways_byte_for_byte on webhook long_poll mango_dialogs;
    both_ways::a_changed_text_takes_effect_in_an_open_dialog_without_a_restart on webhook long_poll mango_dialogs;
    ways::customers_files_reach_the_agent on webhook long_poll mango_dialogs;

    ways::nothing_is_lost_doubled_or_reordered_while_the_crm_is_down_for_an_hour on webhook long_poll mango_dialogs;
    ways::repeats_and_mixed_up_updates_change_nothing on webhook long_poll mango_dialogs;
    ways::a_kill_in_the_middle_of_everything_loses_doubles_and_reorders_nothing on webhook long_poll mango_dialogs;
    interleavings::a_restart_in_the_middle_of_everything_loses_doubles_and_reorders_nothing on long_poll,
        not webhook: "what MAX could not deliver it repeats after a minute of its own; the next line has this way",
        not mango_dialogs: "sixty answers take MANGO OFFICE longer than a test waits: it takes four a second";
    ways::a_restart_again_and_again_loses_doubles_and_reorders_nothing on webhook long_poll mango_dialogs;
    interleavings::what_the_crm_only_queues_is_repeated_until_it_is_stored on webhook long_poll mango_dialogs;
    interleavings::after_the_loss_of_the_store_nothing_that_was_sent_is_sent_again on webhook long_poll mango_dialogs;
    places::a_crm_that_hangs_for_some_customers_holds_up_nobody_else_in_either_direction
        on webhook long_poll mango_dialogs;
    admin::a_refused_message_of_a_customer_is_told_to_the_agent_listed_and_replayed
        on webhook long_poll mango_dialogs;

    interleavings::a_message_in_the_closing_moment_opens_a_new_dialog_and_is_never_left_in_a_closed_chat
        on webhook long_poll mango_dialogs;
    interleavings::two_reports_of_one_closing_are_one_closing on webhook long_poll mango_dialogs;
    interleavings::a_chat_that_was_transferred_in_the_closing_moment_goes_on_as_its_child
        on webhook long_poll mango_dialogs;
    dialogs::an_agents_closing_says_goodbye_once_over_a_restart_and_the_next_word_opens_another_dialog
        on webhook long_poll mango_dialogs;
    dialogs::silence_closes_a_dialog_at_the_time_that_was_shown_and_says_goodbye_once
        on webhook long_poll mango_dialogs;
    patience::an_outage_uses_up_no_patience_for_closing on webhook long_poll mango_dialogs;
    patience::a_chat_that_cannot_be_seen_is_told_and_is_never_taken_for_closed on webhook long_poll mango_dialogs;

    dialogs::replies_repeat_over_restarts_and_stop_for_good_at_the_agents_answer on webhook long_poll mango_dialogs;
    dialogs::replies_are_held_back_from_the_history_until_the_customer_writes_and_keep_their_true_times
        on webhook long_poll, not mango_dialogs: "MANGO OFFICE tells of a customer with the first message only";
    both_ways::replies_come_until_an_agent_answers_and_enter_the_history_behind_the_first_message
        on webhook long_poll, not mango_dialogs: "MANGO OFFICE tells of a customer with the first message only";
    dialogs::the_off_hours_set_answers_over_a_holiday_and_the_normal_one_when_the_hour_strikes
        on webhook long_poll, not mango_dialogs: "it begins with a start; the rules are the same code";
    ways::off_hours_have_replies_of_their_own on webhook long_poll mango_dialogs;
    dialogs::a_customer_who_leaves_is_left_alone_the_agent_is_told_and_may_come_back
        on webhook long_poll, not mango_dialogs: "MANGO OFFICE does not tell that a customer has left";

    order::a_dialog_that_the_agents_have_goes_on_without_a_receiver_and_new_appeals_wait_for_one
        on webhook long_poll mango_dialogs;
    order::a_long_answer_with_a_blank_tail_is_delivered on webhook long_poll mango_dialogs;
}

/// One text after the other, since neither MAX nor MANGO OFFICE tells the order within a
/// millisecond.
async fn say(world: &World, customer: &Customer, texts: &[String]) {
    for text in texts {
        world.say(customer, text);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

fn numbered(what: &str, from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("{what} {number}")).collect()
}

/// Every message came once, in its order, or says in a line before it that it came behind a younger
/// one; and what says so has come behind one.
pub fn assert_in_order_or_late(received: &[String], said: &[impl AsRef<str>]) {
    let place = |text: &str| said.iter().position(|one| one.as_ref() == text).expect("nobody said this");
    let places: Vec<(usize, bool)> = received
        .iter()
        .map(|text| (place(text.rsplit('\n').next().unwrap_or_default()), text.contains('\n')))
        .collect();
    let mut all: Vec<usize> = places.iter().map(|(place, _)| *place).collect();
    all.sort_unstable();
    assert_eq!(all, (0..said.len()).collect::<Vec<_>>(), "lost or doubled: {received:#?}");
    let mut newest = None;
    for (place, says_late) in places {
        let is_late = newest > Some(place);
        assert_eq!(says_late, is_late, "a message out of its order has to say so, and no other: {received:#?}");
        newest = newest.max(Some(place));
    }
}

/// A message that came behind a younger one says so in a line before it.
pub fn bare(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().map(|text| text.rsplit('\n').next().unwrap_or_default().to_owned()).collect()
}

async fn nothing_is_lost_doubled_or_reordered_while_the_crm_is_down_for_an_hour(intake: Intake) {
    let mut world = World::start(quiet_rules(), intake).await;
    let customers = ["Анна", "Борис"].map(|name| world.customer(name));
    for customer in &customers {
        say(&world, customer, &numbered("вопрос", 0, 1)).await;
        world.until_true("the first is there", || world.received(customer).len() == 1).await;
    }
    world.crm.control().outage(Some(creatio::Outage::BadGateway));
    for customer in &customers {
        say(&world, customer, &numbered("вопрос", 1, 5)).await;
    }
    world.pass(HOUR / 2).await;
    world.restart(false).await;
    for customer in &customers {
        say(&world, customer, &numbered("вопрос", 5, 8)).await;
    }
    world.pass(HOUR / 2).await;
    world.crm.control().outage(None);
    for customer in &customers {
        world.until_true("all are there", || world.received(customer).len() >= 8).await;
    }
    world.pass(120_000).await;
    for customer in &customers {
        assert_eq!(world.received(customer), numbered("вопрос", 0, 8));
    }
    world.assert_contract_kept();
}

async fn repeats_and_mixed_up_updates_change_nothing(intake: Intake) {
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    // What MAX mixes up before MANGO OFFICE has it is MANGO's order.
    if let Some(mango) = &world.mango {
        mango.control().event_faults(EventFaults { double: 4, swap: 3, ..EventFaults::default() });
    } else {
        for twist in [Twist::Duplicate, Twist::OutOfOrder] {
            world.max.control().add_update_fault(UpdateFault { twist, times: 3, ..UpdateFault::default() });
        }
    }
    say(&world, &anna, &numbered("вопрос", 0, 12)).await;
    world.until_true("all are there", || world.received(&anna).len() >= 12).await;
    world.pass(120_000).await;
    assert_in_order_or_late(&world.received(&anna), &numbered("вопрос", 0, 12));
    world.assert_contract_kept();
}

async fn a_restart_again_and_again_loses_doubles_and_reorders_nothing(intake: Intake) {
    interrupted(intake, false).await;
}

async fn a_kill_in_the_middle_of_everything_loses_doubles_and_reorders_nothing(intake: Intake) {
    interrupted(intake, true).await;
}

/// The relay ends four times, each time somewhere else in what is under way.
async fn interrupted(intake: Intake, kills: bool) {
    let mut world = World::start(quiet_rules(), intake).await;
    let customers = ["Анна", "Борис"].map(|name| world.customer(name));
    let mut chats = Vec::new();
    for customer in &customers {
        say(&world, customer, &numbered("вопрос", 0, 1)).await;
        chats.push(world.accept(customer).await);
    }
    for round in 0..4 {
        for (customer, chat) in customers.iter().zip(&chats) {
            say(&world, customer, &numbered("вопрос", 1 + round * 3, 4 + round * 3)).await;
            for text in numbered("ответ", round * 2, 2 + round * 2) {
                world.crm.control().send(*chat, world.agent, &text, Vec::new()).unwrap();
            }
        }
        // Each time somewhere else in it.
        for _ in 0..round * 4 {
            world.moment().await;
        }
        if kills {
            world.kill().await;
            world.run().await;
        } else {
            world.restart(false).await;
        }
    }
    for customer in &customers {
        world.until_true("the agent has everything", || world.received(customer).len() >= 13).await;
        world.until_true("the customer has everything", || world.seen(customer).len() >= 8).await;
    }
    world.pass(120_000).await;
    for customer in &customers {
        assert_in_order_or_late(&world.received(customer), &numbered("вопрос", 0, 13));
        assert_eq!(world.seen(customer), numbered("ответ", 0, 8));
    }
    world.assert_contract_kept();
}

async fn customers_files_reach_the_agent(intake: Intake) {
    use maxchannel_simulator::max::{Content, Draft, DraftAttachment};
    let world = World::start(quiet_rules(), intake).await;
    let anna = world.customer("Анна");
    let data = |bytes: &[u8]| Some(Content(bytes.to_vec().into()));
    for attachment in [
        DraftAttachment::Image { data: data(b"\xff\xd8picture") },
        DraftAttachment::File { name: "счёт.pdf".to_owned(), data: data(b"%PDF bill") },
    ] {
        world.max.control().write(anna.id, world.bot, Draft::attachment(attachment)).unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let files = || {
        let entries = world.history(&anna).into_iter().flat_map(|entry| entry.attachments);
        let content = entries.map(|file| {
            let id = file["id"].as_str().unwrap().parse().unwrap();
            world.crm.control().file(id).unwrap().to_vec()
        });
        content.collect::<Vec<_>>()
    };
    world.until_true("both are there", || files() == [&b"\xff\xd8picture"[..], b"%PDF bill"]).await;
    world.assert_contract_kept();
}

async fn off_hours_have_replies_of_their_own(intake: Intake) {
    use crate::dialogs::{monday, weekdays_nine_to_six};
    use maxchannel::policy::{AutoReply, OffHours, Rules};
    let reply = |text: &str| AutoReply { after: 0, repeat_every: None, repeat_limit: 0, text: text.to_owned() };
    let rules = Rules {
        auto_replies: vec![reply("Ищем агента")],
        working_hours: Some(weekdays_nine_to_six(&[])),
        off_hours: OffHours::AutoReplies(vec![reply("Мы ответим в рабочее время")]),
        ..quiet_rules()
    };
    for (time, expected) in [("12:00", "Ищем агента"), ("21:00", "Мы ответим в рабочее время")]
    {
        let world = World::start(rules.clone(), intake.clone()).await;
        world.jump_to(monday(time, 0));
        let anna = world.customer("Анна");
        world.say(&anna, "Вы работаете?");
        world.until_true("the set of the hour is shown", || world.seen(&anna) == [expected]).await;
        world.assert_contract_kept();
    }
}

/// Only where somebody calls the relay can calls be lost; they are found by asking for what
/// happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_of_mango_lost_for_ten_minutes_lose_and_double_nothing() {
    let world = World::start(quiet_rules(), Intake::MangoDialogs).await;
    let customers = ["Анна", "Борис", "Вера"].map(|name| world.customer(name));
    world.mango.as_ref().unwrap().control().event_faults(EventFaults { lose: u32::MAX, ..EventFaults::default() });
    for minute in 0..10 {
        for customer in &customers {
            say(&world, customer, &numbered("вопрос", minute, minute + 1)).await;
        }
        world.pass(60_000).await;
    }
    world.mango.as_ref().unwrap().control().event_faults(EventFaults::default());
    for customer in &customers {
        say(&world, customer, &numbered("вопрос", 10, 11)).await;
        world.until_true("all are there", || world.received(customer).len() >= 11).await;
    }
    world.pass(120_000).await;
    for customer in &customers {
        assert_in_order_or_late(&world.received(customer), &numbered("вопрос", 0, 11));
    }
    world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mango_away_for_an_hour_with_kills_loses_doubles_and_reorders_nothing() {
    use maxchannel_simulator::mango::Outage;
    let mut world = World::start(quiet_rules(), Intake::MangoDialogs).await;
    let anna = world.customer("Анна");
    say(&world, &anna, &numbered("вопрос", 0, 1)).await;
    let chat = world.accept(&anna).await;
    world.crm.control().send(chat, world.agent, "ответ 0", Vec::new()).unwrap();
    world.until_true("the first answer is shown", || world.seen(&anna).len() == 1).await;
    let mango = world.mango.as_ref().unwrap().control();
    for (round, outage) in [Outage::BadGateway, Outage::Drop, Outage::Unavailable].into_iter().enumerate() {
        mango.outage(Some(outage));
        mango.event_faults(EventFaults { lose: u32::MAX, ..EventFaults::default() });
        say(&world, &anna, &numbered("вопрос", 1 + round, 2 + round)).await;
        world.crm.control().send(chat, world.agent, &format!("ответ {}", 1 + round), Vec::new()).unwrap();
        world.pass(HOUR / 3).await;
        world.kill().await;
        world.run().await;
    }
    mango.outage(None);
    mango.event_faults(EventFaults::default());
    world.until_true("all are there", || world.received(&anna).len() >= 4 && world.seen(&anna).len() >= 4).await;
    world.pass(HOUR).await;
    assert_in_order_or_late(&world.received(&anna), &numbered("вопрос", 0, 4));
    assert_eq!(world.seen(&anna), numbered("ответ", 0, 4));
    world.assert_contract_kept();
}
