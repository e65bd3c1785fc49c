//! The promises of the relay on each of the three ways in, as a table: a promise is a function of
//! its room, and each way is a column. Where a way cannot have the situation, the table says why,
//! and [`ALONE`] says it of the tests that have no columns.
//!
//! What they have in common is in [`crate::world`]: customers write to the bot at MAX, whose token
//! MANGO OFFICE has where that is the way, agents answer in the CRM, and [`crate::world::Sends`]
//! befalls the side that takes the answers.

use std::collections::BTreeSet;
use std::path::Path;
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

/// Makes a test of each promise and way, and [`PROMISES`] of the whole.
macro_rules! promises {
    ($($room:ident :: $promise:ident on $($way:ident)+ $(, not $other:ident: $why:literal)*;)+) => {
        $(mod $promise {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $way() {
                crate::$room::$promise(crate::ways::$way()).await;
            })+
        })+

        /// Each promise, the ways that it has, and those that it has not, with the reason.
        const PROMISES: &[(&str, &[&str], &[(&str, &str)])] = &[
            $((stringify!($promise), &[$(stringify!($way)),+], &[$((stringify!($other), $why)),*]),)+
        ];
    };
}

/// Tests that have no column, by the reason: a whole room, or one test of it.
const ALONE: &[(&str, &[&str])] = &[
    (
        "the three ways are what they are about",
        &["switching", "ways::every_test_of_the_relay_has_three_columns_or_says_why_not"],
    ),
    (
        "they are about what MANGO OFFICE alone has: sessions, its cabinet and desk, its signatures, and what its \
         webhooks lose",
        &[
            "mango",
            "mango_odd",
            "ways::webhooks_of_mango_lost_for_ten_minutes_lose_and_double_nothing",
            "ways::mango_away_for_an_hour_with_kills_loses_doubles_and_reorders_nothing",
        ],
    ),
    (
        "they are about MAX's subscription, which the other ways have not: long poll keeps its place, and what \
         MANGO OFFICE's webhooks lose has tests of its own",
        &[
            "gaps::what_max_dropped_between_two_subscriptions_arrives_whenever_and_however_it_is_told",
            "gaps::what_no_poll_fetched_for_longer_than_max_keeps_it_is_read_back",
            "gaps::updates_and_messages_that_are_too_much_at_once_are_asked_for_in_smaller_numbers",
            "gaps::a_gap_that_could_not_be_read_before_a_restart_is_read_after_it",
            "gaps::what_is_older_than_an_erasure_in_a_new_store_is_not_read_back_whatever_the_machines_clock_shows",
            "gaps::the_first_word_of_a_customer_that_a_new_store_missed_is_read_back_by_a_machine_that_is_ahead",
            "interleavings::an_edit_that_max_dropped_between_two_subscriptions_is_shown_once_however_late_it_is_told",
            "interleavings::what_max_dropped_between_two_subscriptions_is_read_back_without_another_update",
            "interleavings::where_reading_back_is_refused_a_late_message_carries_its_time_in_words",
            "admin::a_reading_back_that_is_under_way_does_not_bring_an_erased_person_back",
        ],
    ),
    (
        "updates of MAX are brought word by word, past every way: changes, removals, departures, presses, groups, \
         and odd ones; what MANGO OFFICE may say oddly is in a room of its own",
        &[
            "strange",
            "order::what_happens_in_a_group_touches_no_dialog_and_makes_nobody_a_contact",
            "order::a_press_that_opens_the_chat_stands_before_what_it_brought_about",
            "order::a_departure_or_a_start_that_comes_late_changes_nothing",
            "order::what_was_written_before_leaving_reaches_the_agents_though_it_comes_later_and_nobody_comes_back_by_it",
            "order::an_original_that_comes_after_its_own_edit_or_removal_is_not_shown_as_new",
            "order::an_edit_or_a_removal_after_the_close_opens_no_chat",
            "order::an_edit_or_a_removal_opens_no_chat_though_the_closing_has_not_been_told_yet",
            "order::a_forwarded_file_whose_address_has_expired_is_asked_for_by_the_dialogs_own_message",
            "order::an_edit_that_may_have_been_told_is_told_again_in_the_same_words_though_the_chat_is_closed_meanwhile",
            "admin::of_an_erased_person_no_byte_is_left_in_any_file_and_no_repeat_brings_one_back",
        ],
    ),
    (
        "they are about MAX's webhook itself; that of MANGO OFFICE has the same in its room, and no long text",
        &[
            "strangers::every_stranger_gets_the_same_answer_before_sending_a_body_and_a_missing_channel_is_none",
            "strangers::an_authentic_update_of_any_length_is_taken_once_and_the_agent_has_its_words",
        ],
    ),
    (
        "no message comes by any way",
        &[
            "hostile",
            "shares",
            "admin::without_a_relay_the_command_says_what_is_missing",
            "upgrade::a_store_that_is_newer_is_refused_in_one_sentence_and_stays_as_it_is",
        ],
    ),
    (
        "what waits in it is written into an old store by hand, as MAX brought it",
        &["upgrade::the_store_of_every_version_opens_in_this_one_and_what_waited_in_it_goes_on"],
    ),
];

promises! {
    both_ways::a_customer_and_an_agent_talk on webhook long_poll mango_dialogs;
    both_ways::files_go_both_ways_byte_for_byte on webhook long_poll mango_dialogs;
    both_ways::films_reach_the_agent_whatever_address_they_come_with on webhook long_poll,
        not mango_dialogs: "MANGO OFFICE gives the addresses of files itself";
    both_ways::what_waits_says_goodbye_as_the_manifest_does_by_then_or_not_at_all on webhook long_poll mango_dialogs;
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
    dialogs::what_an_agent_said_while_the_crm_could_not_be_asked_keeps_the_dialog_open
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

    keeping::a_retry_after_binds_after_a_restart_and_an_edit_too on webhook long_poll mango_dialogs;
    keeping::a_bot_that_asks_to_be_left_alone_is_and_its_dialogs_go_to_the_fallback
        on webhook long_poll mango_dialogs;
    keeping::a_bot_that_wants_a_moment_within_its_time_has_it_and_answers on webhook long_poll mango_dialogs;
    keeping::a_short_retention_forgets_the_words_and_not_what_repeats_are_known_by
        on webhook long_poll mango_dialogs;
    keeping::after_the_loss_of_the_store_a_pending_message_is_looked_for_although_nobody_writes
        on webhook long_poll mango_dialogs;
    keeping::a_backup_in_the_place_of_a_lost_store_loses_doubles_and_reorders_nothing
        on webhook long_poll mango_dialogs;
    keeping::a_search_that_is_under_way_does_not_bring_an_erased_person_back on webhook,
        not long_poll: "a poll from the beginning brings the last update again, and with it the dialog",
        not mango_dialogs: "an agent's message bears the same name in every store: nothing is searched for";
    keeping::after_the_loss_of_the_store_a_message_of_several_parts_is_sent_from_where_it_broke_off
        on webhook long_poll mango_dialogs;
    upgrade::the_way_back_from_a_newer_version_loses_and_doubles_nothing on webhook long_poll mango_dialogs;

    admin::a_failed_and_an_uncertain_answer_of_the_agent_are_sent_again_and_reported_delivered
        on webhook long_poll, not mango_dialogs: "what goes out there under a name of its own is never uncertain";
    admin::an_answer_that_is_sent_again_is_reported_as_it_ends_each_time
        on webhook long_poll, not mango_dialogs: "what goes out there under a name of its own is never uncertain";
    admin::an_erased_person_is_nowhere_on_disk_and_starts_afresh on webhook long_poll mango_dialogs;
    admin::what_comes_after_an_erasure_is_not_ended_by_what_was_under_way_before_it
        on webhook long_poll mango_dialogs;
    admin::the_receipt_says_of_every_message_what_became_of_it_and_keeps_it_when_the_rows_go
        on webhook long_poll mango_dialogs;

    both_ways::what_creatio_cannot_show_becomes_a_readable_line
        on webhook long_poll, not mango_dialogs: "MANGO OFFICE shows texts and files only, and no change of them";
    both_ways::answers_of_agents_keep_their_order_though_the_crm_shows_few_rows_at_a_time
        on webhook long_poll mango_dialogs;

    bots::a_bot_talks_while_creatio_stands_by_and_its_answers_enter_the_history_behind_the_first_message
        on webhook long_poll, not mango_dialogs: "MANGO OFFICE tells of a customer with the first message only";
    bots::an_answer_that_cannot_be_written_down_is_kept_and_the_bot_is_asked_once on webhook long_poll mango_dialogs;
    bots::buttons_are_a_keyboard_and_a_press_brings_the_bot_its_payload_and_an_answer_the_words_as_written
        on webhook long_poll, not mango_dialogs: "MANGO OFFICE has no buttons: their titles are lines there";
    bots::a_hand_over_in_which_the_site_dies_ends_no_dialog_and_calls_the_agents on webhook long_poll mango_dialogs;
    bots::a_bot_hands_over_with_its_last_words_and_hears_nothing_more on webhook long_poll mango_dialogs;
    bots::a_bot_closes_and_the_close_message_comes_once_and_the_next_word_is_a_new_dialog
        on webhook long_poll mango_dialogs;
    bots::the_last_words_of_a_bot_that_closes_stand_in_the_chat_that_it_closed on webhook long_poll mango_dialogs;
    bots::a_dead_or_slow_bot_hands_over_and_gets_new_dialogs_again_when_it_is_well
        on webhook long_poll mango_dialogs;
    bots::outside_the_hours_the_off_hours_bot_takes_new_dialogs_with_its_own_key on webhook long_poll mango_dialogs;

    dialogs::a_dialog_that_turns_out_to_be_another_repeats_no_reply_that_the_customer_has_seen_in_it
        on webhook long_poll mango_dialogs;
    dialogs::hours_over_midnight_are_one_shift on webhook long_poll mango_dialogs;
    dialogs::a_chat_that_is_closed_before_the_relay_knows_that_it_opened_it_ends_with_the_close_message
        on webhook long_poll mango_dialogs;
    dialogs::who_was_erased_and_writes_on_into_an_open_chat_is_said_goodbye_at_its_closing_alone
        on webhook long_poll mango_dialogs;
    dialogs::what_was_said_while_the_relay_was_away_keeps_the_dialog_open on webhook long_poll mango_dialogs;
    dialogs::who_was_erased_is_not_said_goodbye_whatever_becomes_of_the_chat on webhook long_poll mango_dialogs;

    gaps::after_a_start_nobody_waits_for_a_reading_that_hangs_and_newcomers_least_of_all
        on webhook long_poll mango_dialogs;
    hang_ups::what_was_stored_for_a_caller_that_hung_up_reaches_the_crm_without_a_restart
        on webhook mango_dialogs, not long_poll: "nobody calls there";
    hang_ups::dead_letters_whose_replay_was_cut_off_are_delivered_all_the_same on webhook long_poll mango_dialogs;
    strangers::a_webhook_comes_through_a_thousand_connections_that_say_nothing
        on webhook mango_dialogs, not long_poll: "nobody calls there";

    interleavings::a_message_in_a_gap_of_the_webhooks_is_read_back_and_keeps_its_place
        on webhook long_poll mango_dialogs;
    interleavings::a_send_without_an_answer_is_looked_for_and_neither_lost_nor_doubled
        on webhook long_poll mango_dialogs;
    interleavings::what_cannot_be_looked_for_is_uncertain_and_never_sent_again
        on webhook long_poll, not mango_dialogs: "what goes out there under a name of its own is never uncertain";
    interleavings::a_file_that_the_crm_does_not_give_is_told_and_holds_nobody_up_for_ever
        on webhook long_poll mango_dialogs;

    odd::a_row_of_the_outbox_that_cannot_be_read_fails_alone on webhook long_poll mango_dialogs;
    odd::a_row_that_becomes_visible_late_is_found_at_the_next_look_once_a_long_backlog_is_done_with
        on webhook long_poll mango_dialogs;
    odd::a_file_entry_that_cannot_be_read_fails_its_message_and_the_rest_of_it_is_sent
        on webhook long_poll mango_dialogs;
    odd::a_damaged_row_of_the_store_is_set_aside_alone on webhook long_poll mango_dialogs;
    odd::what_a_bot_says_that_is_not_understood_takes_nobody_else_from_it on webhook long_poll mango_dialogs;

    order::replies_that_waited_for_max_are_judged_when_they_are_sent on webhook long_poll mango_dialogs;
    patience::a_clock_set_back_by_an_hour_delays_no_lost_answer_and_no_lost_report
        on webhook long_poll mango_dialogs;
    patience::a_clock_set_back_puts_off_no_closing_of_a_quiet_dialog on webhook long_poll mango_dialogs;
    patience::a_lost_answer_with_a_link_is_found_with_the_preview_that_nobody_sent on webhook long_poll mango_dialogs;
    patience::a_machine_ahead_of_max_or_behind_it_doubles_no_first_reply on webhook long_poll mango_dialogs;
    patience::refusals_for_haste_use_up_no_patience_for_a_file_that_is_not_ready
        on webhook long_poll, not mango_dialogs: "only MAX asks for patience with a file";
    patience::a_replay_is_not_undone_by_the_slow_report_of_the_failure_before_it on webhook long_poll mango_dialogs;
    patience::an_outage_of_the_site_uses_up_no_patience_for_an_agents_file on webhook long_poll mango_dialogs;

    places::a_file_host_that_hangs_holds_up_no_text_of_others on webhook long_poll mango_dialogs;
    places::agents_files_that_hang_hold_up_no_text_of_others on webhook long_poll mango_dialogs;
    places::a_retry_after_binds_everything_towards_that_side_sign_in_and_polls_included
        on webhook long_poll mango_dialogs;
    places::the_first_answer_of_a_side_wakes_whoever_waited_for_it on webhook long_poll mango_dialogs;
    places::a_side_that_is_away_is_asked_seldom_by_all_together_and_after_a_restart_too
        on webhook long_poll mango_dialogs;

    starts::the_agent_reads_first_where_the_customer_came_from
        on webhook long_poll, not mango_dialogs: "MANGO OFFICE does not tell by which link a customer came";
    starts::a_start_in_an_open_dialog_is_told_there_once
        on webhook long_poll, not mango_dialogs: "MANGO OFFICE does not tell by which link a customer came";
    starts::an_unknown_or_forged_payload_is_shown_as_text_and_counted_without_a_name_of_its_own
        on webhook long_poll, not mango_dialogs: "MANGO OFFICE does not tell by which link a customer came";
}

/// Nobody may write a test for one way and forget the others.
#[test]
fn every_test_of_the_relay_has_three_columns_or_says_why_not() {
    for (promise, ways, others) in PROMISES {
        let mut all: Vec<&str> = ways.iter().chain(others.iter().map(|(way, _)| way)).copied().collect();
        all.sort_unstable();
        assert_eq!(all, ["long_poll", "mango_dialogs", "webhook"], "{promise}");
        assert!(others.iter().all(|(_, why)| !why.is_empty()), "{promise}");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relay");
    let mut alone: BTreeSet<&str> = ALONE.iter().flat_map(|(_, tests)| *tests).copied().collect();
    let listed = alone.clone();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let Some(room) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".rs") else { continue };
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        while let Some(attribute) = lines.next() {
            if !attribute.starts_with("#[tokio::test") && !attribute.starts_with("#[test]") {
                continue;
            }
            let head = lines.find(|line| line.contains("fn ")).unwrap();
            let name = head.split("fn ").nth(1).unwrap().split('(').next().unwrap();
            let name = format!("{room}::{name}");
            let by_room = listed.contains(room);
            assert!(by_room || listed.contains(name.as_str()), "{name} has no columns, and ALONE does not say why");
            assert!(!(by_room && listed.contains(name.as_str())), "{name} stands in ALONE twice");
            alone.remove(if by_room { room } else { &name });
        }
    }
    assert!(alone.is_empty(), "ALONE names what is not there: {alone:?}");
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
