//! Gaps in what MAX brings: their bound is fixed when they begin, and they stay noted until they
//! are read.

use maxchannel::contract::CustomerId;
use maxchannel::contract::config::Intake;
use maxchannel_simulator::mango;
use maxchannel_simulator::max::{Draft, DraftAttachment, Fault, Outcome, Twist, UpdateFault};

use crate::world::{Customer, World, quiet_rules};

const READING: &str = "/messages";
const HOUR: i64 = 3_600_000;

/// A subscription is lost, something is written, and it is made again. Whoever tells the relay of
/// it comes late.
async fn lost_and_made_again(world: &World, customer: &Customer) {
    world.relay.subscribed(1).await;
    world.max.control().drop_subscriptions(world.bot).unwrap();
    world.say(customer, "в перерыве");
    world.subscribe().await;
}

fn fail_readings(world: &World, times: u32, outcome: Outcome) {
    world.max.control().add_fault(Fault {
        method: Some("GET".to_owned()),
        path: Some(READING.to_owned()),
        times,
        effect: false,
        outcome,
        ..Fault::default()
    });
}

#[derive(Clone, Copy, Debug)]
enum Case {
    /// The customer writes on before the relay hears of the new subscription.
    WritesBeforeItIsTold,
    /// The customer just waits, with the dialog open.
    Waits,
    /// So does one whose dialog is over.
    WaitsWithoutADialog,
    /// MAX fails when the dialog is read.
    ReadingFails,
    /// The call that tells of the new subscription is cut off, and repeated.
    TellingIsCutOff,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_max_dropped_between_two_subscriptions_arrives_whenever_and_however_it_is_told() {
    use Case::{ReadingFails, TellingIsCutOff, Waits, WaitsWithoutADialog, WritesBeforeItIsTold};
    for case in [WritesBeforeItIsTold, Waits, WaitsWithoutADialog, ReadingFails, TellingIsCutOff] {
        let world = World::start(quiet_rules(), Intake::Webhook).await;
        let anna = world.customer("Анна");
        world.say(&anna, "до перерыва");
        world.until_true("the first is with the agent", || world.received(&anna).len() == 1).await;
        if matches!(case, WaitsWithoutADialog) {
            let chat = world.accept(&anna).await;
            world.crm.control().close(chat, world.agent).unwrap();
        }
        lost_and_made_again(&world, &anna).await;
        // By MAX's clock, which stands between what was missed and what came after.
        let made_at = jiff::Timestamp::now().as_millisecond();
        match case {
            WritesBeforeItIsTold => {
                world.until_true("time has passed", || jiff::Timestamp::now().as_millisecond() > made_at).await;
                world.say(&anna, "после перерыва");
                world.until_true("the later one is with the agent", || world.received(&anna).len() == 2).await;
            }
            ReadingFails => fail_readings(&world, 3, Outcome::error(500, "internal", "made to fail")),
            TellingIsCutOff => {
                // A quick disk may be faster than that: then it is told twice.
                let _ = futures::poll!(std::pin::pin!(world.relay.subscribed(made_at)));
            }
            Waits | WaitsWithoutADialog => {}
        }
        world.relay.subscribed(made_at).await;
        world
            .until_true(&format!("{case:?}: what was missed is with the agent"), || {
                world.received(&anna).iter().any(|text| text.ends_with("в перерыве"))
            })
            .await;
        world.assert_contract_kept();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_that_could_not_be_read_before_a_restart_is_read_after_it() {
    let mut world = World::start(quiet_rules(), Intake::Webhook).await;
    let anna = world.customer("Анна");
    world.say(&anna, "до перерыва");
    world.until_true("the first is with the agent", || world.received(&anna).len() == 1).await;
    lost_and_made_again(&world, &anna).await;
    fail_readings(&world, 0, Outcome::error(500, "internal", "made to fail"));
    world.relay.subscribed(jiff::Timestamp::now().as_millisecond()).await;
    world.say(&anna, "после перерыва");
    world.until_true("who writes does not wait for ever", || world.received(&anna).len() == 2).await;
    world.stop().await;
    world.max.control().clear_faults();
    world.run().await;
    world
        .until_true("what was missed is with the agent", || {
            world.received(&anna).iter().any(|text| text.ends_with("в перерыве"))
        })
        .await;
    assert_eq!(world.received(&anna).len(), 3);
    world.assert_contract_kept();
}

/// Whoever is asked for messages hangs: nobody waits for that.
pub async fn after_a_start_nobody_waits_for_a_reading_that_hangs_and_newcomers_least_of_all(intake: Intake) {
    let mut world = World::start(quiet_rules(), intake).await;
    let known: Vec<Customer> = (0..30).map(|number| world.customer(&format!("Клиент {number}"))).collect();
    for customer in &known {
        world.say(customer, "раньше");
    }
    world.until_true("all are known", || known.iter().all(|customer| world.received(customer).len() == 1)).await;
    world.restart(false).await;
    fail_readings(&world, 0, Outcome::Hang);
    if let Some(mango) = &world.mango {
        let path = "/cc/md/session/chat/history".to_owned();
        let hangs = mango::Fault { path, count: u32::MAX, hold_ms: 600_000, ..mango::Fault::default() };
        mango.control().fault(hangs);
    }
    let new: Vec<Customer> = (0..30).map(|number| world.customer(&format!("Новый {number}"))).collect();
    for customer in known.iter().chain(&new) {
        world.say(customer, "сейчас");
    }
    world
        .until_true("everybody's message is with the agents", || {
            known.iter().all(|customer| world.received(customer).len() == 2)
                && new.iter().all(|customer| world.received(customer).len() == 1)
        })
        .await;
    world.assert_contract_kept();
}

/// A message of the customer's as MAX brings it now.
fn message(world: &World, customer: &Customer, text: &str) -> serde_json::Value {
    let now = jiff::Timestamp::now().as_millisecond();
    serde_json::json!({"update_type": "message_created", "timestamp": now, "message": {
        "sender": {"user_id": customer.id, "first_name": "Анна", "is_bot": false},
        "recipient": {"chat_id": customer.chat, "chat_type": "dialog", "user_id": world.bot},
        "timestamp": now, "body": {"mid": format!("mid.{text}"), "seq": now << 16, "text": text}}})
}

/// Everybody is read back for what was missed behind this moment.
async fn miss_and_read(world: &World, customer: &Customer) {
    lost_and_made_again(world, customer).await;
    world.relay.subscribed(jiff::Timestamp::now().as_millisecond()).await;
    world
        .until_true("what was missed is with the agent", || {
            world.received(customer).iter().any(|text| text.ends_with("в перерыве"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_an_erasure_in_a_new_store_is_not_read_back_whatever_the_machines_clock_shows() {
    for ahead in [-3 * HOUR, -180_000, 0, 3 * HOUR] {
        for restarts in [false, true] {
            let mut world = World::start(quiet_rules(), Intake::Webhook).await;
            world.set_wall(ahead);
            let anna = world.customer("Анна");
            world.say(&anna, "давнее");
            world.until_true("it is with the agent", || world.received(&anna).len() == 1).await;
            world.restart(true).await;
            let before = jiff::Timestamp::now().as_millisecond();
            world.until_true("time has passed", || jiff::Timestamp::now().as_millisecond() > before).await;
            world.relay.erase(CustomerId::new(anna.id)).await.unwrap();
            if restarts {
                world.restart(false).await;
            }
            // The first that the new store hears of MAX.
            world.deliver(&message(&world, &anna, "новое")).await;
            world.until_true("it is with the agent, too", || world.received(&anna).len() == 2).await;
            miss_and_read(&world, &anna).await;
            world.stop().await;
            let bytes: Vec<u8> = std::fs::read_dir(world.data_dir())
                .unwrap()
                .flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap_or_default())
                .collect();
            let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(holds("в перерыве"), "{ahead} {restarts}");
            assert!(!holds("давнее"), "{ahead} {restarts}: what was erased is back");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_word_of_a_customer_that_a_new_store_missed_is_read_back_by_a_machine_that_is_ahead() {
    for ahead in [0, 3 * HOUR] {
        let mut world = World::start(quiet_rules(), Intake::LongPoll).await;
        world.set_wall(ahead);
        // The new store has heard nothing of her, not even her start.
        let anna = world.customer("Анна");
        world.switch(Intake::Webhook).await;
        world.stop().await;
        world.lose_store();
        world.run().await;
        lost_and_made_again(&world, &anna).await;
        // A store that is made in the moment in which it first hears of MAX has missed nothing.
        world.pass(60_000).await;
        world.relay.subscribed(jiff::Timestamp::now().as_millisecond()).await;
        world.deliver(&message(&world, &anna, "второе")).await;
        world.until_true(&format!("{ahead}: both are with the agent"), || world.received(&anna).len() == 2).await;
        world.assert_contract_kept();
    }
}

/// MAX keeps what nobody fetches for a day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_poll_fetched_for_longer_than_max_keeps_it_is_read_back() {
    for hours in [10, 60] {
        let mut world = World::start(quiet_rules(), Intake::LongPoll).await;
        let anna = world.customer("Анна");
        world.say(&anna, "до перерыва");
        world.until_true("the first is with the agent", || world.received(&anna).len() == 1).await;
        let chat = world.accept(&anna).await;
        world.crm.control().close(chat, world.agent).unwrap();
        world.until_true("the dialog is over", || world.reports().iter().all(|(state, _)| state == "Delivered")).await;
        world.stop().await;
        let lost = UpdateFault { twist: Twist::Lose, ..UpdateFault::default() };
        world.max.control().add_update_fault(lost);
        world.say(&anna, "в перерыве");
        world.jump_to(world.now() + hours * HOUR);
        world.run().await;
        world.say(&anna, "после перерыва");
        // Within a day the update is MAX's to keep: nothing is read, and what it loses is lost.
        let received: &[&str] = if hours < 24 {
            &["до перерыва", "после перерыва"]
        } else {
            &["до перерыва", "в перерыве", "после перерыва"]
        };
        world.until_true("the later one is with the agent", || world.received(&anna).len() == received.len()).await;
        world.pass(HOUR).await;
        let texts = world.received(&anna);
        assert!(texts.iter().zip(received).all(|(text, expected)| text.ends_with(expected)), "{hours} h: {texts:?}");
        world.assert_contract_kept();
    }
}

/// Many long updates together are more than an answer may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_and_messages_that_are_too_much_at_once_are_asked_for_in_smaller_numbers() {
    for intake in [Intake::LongPoll, Intake::Webhook] {
        let mut world = World::start(quiet_rules(), intake).await;
        let anna = world.customer("Анна");
        world.say(&anna, "до перерыва");
        world.until_true("the first is with the agent", || world.received(&anna).len() == 1).await;
        world.stop().await;
        let long = serde_json::json!({ "type": "hologram", "payload": "x".repeat(3_000_000) });
        for _ in 0..6 {
            let draft = Draft::attachment(DraftAttachment::Unknown(long.clone()));
            world.max.control().write(anna.id, world.bot, draft).unwrap();
        }
        world.run().await;
        world.until_true("all of them are with the agent", || world.received(&anna).len() == 7).await;
        world.assert_contract_kept();
    }
}
