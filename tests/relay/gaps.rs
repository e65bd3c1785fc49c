//! Gaps in what MAX brings: their bound is fixed when they begin, and they stay noted until they
//! are read.

use maxchannel::contract::config::Intake;
use maxchannel_simulator::max::{Fault, Outcome};

use crate::world::{Customer, World, quiet_rules};

const READING: &str = "/messages";

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
                assert!(futures::poll!(std::pin::pin!(world.relay.subscribed(made_at))).is_pending());
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

/// MAX hangs when it is asked for messages: nobody waits for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_start_nobody_waits_for_a_reading_that_hangs_and_newcomers_least_of_all() {
    let mut world = World::start(quiet_rules(), Intake::Webhook).await;
    let known: Vec<Customer> = (0..30).map(|number| world.customer(&format!("Клиент {number}"))).collect();
    for customer in &known {
        world.say(customer, "раньше");
    }
    world.until_true("all are known", || known.iter().all(|customer| world.received(customer).len() == 1)).await;
    world.restart(false).await;
    fail_readings(&world, 0, Outcome::Hang);
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
