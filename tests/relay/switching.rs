//! The way in changes on a running channel, in every direction, with messages under way on both
//! sides: the customer writes to a bot whose token MANGO OFFICE has, too, so what they write is
//! with both, and what either brings is theirs.

use std::time::Duration;

use maxchannel::contract::config::Intake;
use maxchannel_simulator::mango::{self, EventFaults, Outage};
use maxchannel_simulator::max::{Fault, Outcome};

use crate::ways::bare;
use crate::world::{Customer, Sends, Setup, World, quiet_rules};

const WAYS: [Intake; 3] = [Intake::Webhook, Intake::LongPoll, Intake::MangoDialogs];

/// A channel whose bot is connected in MANGO's cabinet, whatever the way in.
struct Both {
    world: World,
}

impl Both {
    async fn start(intake: &Intake) -> Self {
        let setup = Setup { is_connected: true, ..Setup::default() };
        Self { world: World::start_with(quiet_rules(), intake.clone(), setup).await }
    }

    fn mango(&self) -> mango::Control {
        self.world.mango.as_ref().unwrap().control()
    }

    /// The customer writes: the message is with MAX, and soon with MANGO OFFICE.
    async fn say(&self, customer: &Customer, text: &str) {
        self.world.say(customer, text);
        // Neither side puts two messages into one millisecond.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }

    /// Nothing comes or goes the way that is in force.
    fn cut(&self, way: &Intake) {
        match way {
            Intake::Webhook => self.world.max.control().pause_webhooks(true),
            Intake::LongPoll => self.world.max.control().add_fault(Fault {
                path: Some("/updates".to_owned()),
                times: 0,
                outcome: Outcome::html(502),
                ..Fault::default()
            }),
            Intake::None => {}
            Intake::MangoDialogs => {
                self.mango().event_faults(EventFaults { hold: true, ..EventFaults::default() });
                self.mango().outage(Some(Outage::BadGateway));
            }
        }
    }

    fn mend(&self) {
        self.world.max.control().pause_webhooks(false);
        self.world.max.control().clear_faults();
        self.mango().event_faults(EventFaults::default());
        self.mango().outage(None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_way_in_loses_doubles_and_reorders_nothing_and_open_dialogs_go_on() {
    for from in WAYS {
        for to in WAYS.into_iter().filter(|to| *to != from) {
            changes(&from, &to).await;
        }
    }
}

async fn changes(from: &Intake, to: &Intake) {
    let case = format!("from {from:?} to {to:?}");
    let mut both = Both::start(from).await;
    let anna = both.world.customer("Анна");
    both.say(&anna, "раз").await;
    let chat = both.world.accept(&anna).await;
    let agent = both.world.agent;
    let answer = |both: &Both, text: &str| both.world.crm.control().send(chat, agent, text, Vec::new()).unwrap();
    answer(&both, "ответ на раз");
    both.world.until_true("the first answer is shown", || both.world.seen(&anna) == ["ответ на раз"]).await;

    // Under way when the way changes: an answer that has left, one behind it, and two messages of
    // the customer's.
    both.world.sends(Sends::AnswerLost, 0, 1);
    answer(&both, "да");
    both.world.until_true("the second answer is shown", || both.world.seen(&anna).len() == 2).await;
    both.cut(from);
    both.say(&anna, "два").await;
    answer(&both, "ответ на два");
    both.say(&anna, "Алло?").await;
    both.world.switch(to.clone()).await;
    both.mend();
    both.say(&anna, "Алло?").await;
    both.say(&anna, "три").await;

    let said = ["раз", "два", "Алло?", "Алло?", "три"];
    let shown = ["ответ на раз", "да", "ответ на два"];
    both.world
        .until_true(&format!("{case}: all is told and shown"), || {
            both.world.received(&anna).len() >= said.len() && both.world.seen(&anna).len() >= shown.len()
        })
        .await;
    both.world.pass(120_000).await;
    assert_told(&both.world.received(&anna), &said, &case);
    assert_eq!(both.world.seen(&anna), shown, "{case}");
    assert_eq!(both.world.open_chat(&anna), Some(chat), "{case}: the dialog goes on");

    answer(&both, "до свидания");
    both.world.until_true(&format!("{case}: the last answer is shown"), || both.world.seen(&anna).len() > 3).await;
    // Nothing that either side still knows of the time before comes back.
    both.world.pass(900_000).await;
    both.say(&anna, "спасибо").await;
    both.world.until_true(&format!("{case}: the last word is told"), || both.world.received(&anna).len() > 5).await;
    assert_told(&both.world.received(&anna), &[&said[..], &["спасибо"]].concat(), &case);
    assert_eq!(both.world.seen(&anna), [&shown[..], &["до свидания"]].concat(), "{case}");
    assert_eq!(both.world.open_chat(&anna), Some(chat), "{case}: the dialog goes on");
    both.world.assert_contract_kept();
}

/// The agents were told all of this once, and in the order in which it was written but for what
/// says itself that it is late.
fn assert_told(received: &[String], said: &[&str], case: &str) {
    let mut told = bare(received.to_vec());
    let mut all: Vec<&str> = said.to_vec();
    told.sort();
    all.sort_unstable();
    assert_eq!(told, all, "{case}: {received:?}");
    let mut rest = said.iter();
    for text in received.iter().filter(|text| !says_late(text)) {
        assert!(rest.any(|next| next == text), "{case}: «{text}» is not in its place: {received:?}");
    }
}

fn says_late(text: &str) -> bool {
    text.contains("получено с опозданием")
}

/// A channel that leaves MANGO OFFICE while that has what nobody has been told, with two identical
/// words on both sides of the change.
async fn leaves_mango() -> (Both, Customer) {
    let mut both = Both::start(&Intake::MangoDialogs).await;
    let anna = both.world.customer("Анна");
    both.say(&anna, "раз").await;
    both.world.accept(&anna).await;
    both.cut(&Intake::MangoDialogs);
    both.say(&anna, "два").await;
    both.say(&anna, "Алло?").await;
    both.world.switch(Intake::Webhook).await;
    (both, anna)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mango_had_when_it_ceased_to_be_the_way_stands_where_max_shows_it() {
    let (both, anna) = leaves_mango().await;
    both.say(&anna, "Алло?").await;
    both.say(&anna, "три").await;
    let said = ["раз", "два", "Алло?", "Алло?", "три"];
    both.world.until_true("all is told", || both.world.received(&anna).len() >= said.len()).await;
    both.mend();
    both.world.pass(120_000).await;
    assert_eq!(both.world.received(&anna), said);
    both.world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_mango_shows_after_it_ceased_to_be_the_way_says_that_it_is_late() {
    let (both, anna) = leaves_mango().await;
    both.world.max.control().add_fault(Fault {
        method: Some("GET".to_owned()),
        path: Some("/messages".to_owned()),
        times: 0,
        effect: false,
        outcome: Outcome::error(403, "access.denied", "made to fail"),
        ..Fault::default()
    });
    both.say(&anna, "Алло?").await;
    both.say(&anna, "три").await;
    both.world.until_true("the youngest is told", || both.world.received(&anna).len() == 3).await;
    both.mango().event_faults(EventFaults::default());
    both.mango().outage(None);
    both.world.until_true("all is told", || both.world.received(&anna).len() == 5).await;
    both.world.pass(120_000).await;
    let received = both.world.received(&anna);
    assert_told(&received, &["раз", "два", "Алло?", "Алло?", "три"], "MAX shows nothing");
    let late: Vec<bool> = received.iter().map(|text| says_late(text)).collect();
    assert_eq!(late, [false, false, false, true, true], "{received:?}");
    both.world.assert_contract_kept();
}

/// MANGO OFFICE was cut off from MAX for a while, so that all it has of that time bears a time far
/// behind MAX's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mango_got_long_after_max_comes_once_whoever_brings_it_first() {
    for mango_first in [true, false] {
        let case = format!("MANGO OFFICE first: {mango_first}");
        let mut both = Both::start(&Intake::MangoDialogs).await;
        let anna = both.world.customer("Анна");
        both.say(&anna, "раз").await;
        both.world.until_true("the first is told", || both.world.received(&anna).len() == 1).await;
        both.mango().deaf(true);
        both.say(&anna, "Алло?").await;
        both.say(&anna, "Алло?").await;
        both.say(&anna, "два").await;
        // Forty minutes by MANGO's clock.
        both.mango().advance(2_400_000);
        if mango_first {
            both.mango().deaf(false);
            both.world.until_true("MANGO OFFICE brings them", || both.world.received(&anna).len() == 4).await;
        }
        both.world.switch(Intake::Webhook).await;
        both.say(&anna, "три").await;
        both.world.until_true(&format!("{case}: all is told"), || both.world.received(&anna).len() >= 5).await;
        both.mango().deaf(false);
        let knows = |text: &str| both.mango().dialogs().iter().any(|one| one.to_string().contains(text));
        both.world.until_true("MANGO OFFICE has all of it", || knows("три")).await;
        both.world.pass(300_000).await;
        for _ in 0..60 {
            both.world.moment().await;
        }
        assert_told(&both.world.received(&anna), &["раз", "Алло?", "Алло?", "два", "три"], &case);
        both.world.assert_contract_kept();
    }
}
