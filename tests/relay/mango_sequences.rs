//! Sequences of what can happen between a customer, MANGO OFFICE, the relay and the CRM, each made
//! of a seed, against the plain promise: what was said is with the other side once, and in its
//! order or with the words that it is late. `SEED=7 SEQUENCES=1` plays one again.

use std::time::Duration;

use maxchannel_simulator::creatio;
use maxchannel_simulator::mango::{EventFaults, Outage, Switches};

use crate::mango::{Office, office};
use crate::ways::assert_in_order_or_late;
use crate::world::Customer;

/// So many with the other tests.
const SEQUENCES: u64 = 12;
const STEPS: usize = 18;

/// Of the next number, a small generator: the same seed is the same sequence.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[derive(Default)]
struct Talk {
    said: Vec<String>,
    answered: Vec<String>,
}

/// What the customer was shown, in all sessions; a transfer copies what was before it.
fn shown(office: &Office, customer: &Customer) -> Vec<String> {
    let mut ids = Vec::new();
    let mut texts = Vec::new();
    for session in office.sessions(customer) {
        for message in session["messages"].as_array().into_iter().flatten() {
            if message["direction"] == "outgoing" && !ids.contains(&message["message_id"]) {
                ids.push(message["message_id"].clone());
                texts.push(message["payload"]["text"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    texts
}

async fn say(office: &Office, customer: &Customer, talk: &mut Talk) {
    let text = format!("вопрос {}", talk.said.len());
    office.say(customer, &text);
    talk.said.push(text);
    // MANGO's own order is by milliseconds.
    tokio::time::sleep(Duration::from_millis(3)).await;
}

/// Everything is mended, and what was said is there.
async fn settle(office: &Office, customer: &Customer, talk: &Talk) {
    office.mango.control().outage(None);
    office.mango.control().event_faults(EventFaults::default());
    office.world.crm.control().outage(None);
    let is_told = || office.world.received(customer).len() >= talk.said.len();
    office.world.until_true("the agents have everything", is_told).await;
    office
        .world
        .until_true("the customer has everything", || shown(office, customer).len() >= talk.answered.len())
        .await;
}

async fn play(seed: u64) {
    let mut random = Random(seed);
    random.below(2);
    let ids_differ = random.below(2) == 0;
    let switches = Switches {
        abonent_offset: if ids_differ { 1_000_000 } else { 0 },
        messages_move_time: random.below(3) > 0,
        transfer_tells_close: random.below(2) == 0,
        auto_distribution: random.below(3) == 0,
        ..Switches::friendly()
    };
    let mut office = office(switches).await;
    if random.below(4) > 0 {
        office.listens();
    }
    let anna = Office::customer();
    let mut talk = Talk::default();
    say(&office, &anna, &mut talk).await;
    for _ in 0..STEPS {
        match random.below(11) {
            0..3 => say(&office, &anna, &mut talk).await,
            3 | 4 => {
                if let Some(chat) = office.world.open_chat(&anna) {
                    let crm = office.world.crm.control();
                    let _ = crm.accept(chat, office.world.agent);
                    let text = format!("ответ {}", talk.answered.len());
                    if crm.send(chat, office.world.agent, &text, Vec::new()).is_ok() {
                        talk.answered.push(text);
                    }
                }
            }
            5 => {
                let count = |random: &mut Random| u32::try_from(random.below(4)).unwrap();
                let (lose, double, swap) = (count(&mut random), count(&mut random), count(&mut random));
                office.mango.control().event_faults(EventFaults { lose, double, swap, hold: false });
            }
            6 => {
                let outages = [Outage::Drop, Outage::BadGateway, Outage::Unavailable];
                office.mango.control().outage(Some(outages[usize::try_from(random.below(3)).unwrap()]));
            }
            7 => office.mango.control().outage(None),
            8 => {
                office.world.kill().await;
                office.world.run().await;
            }
            9 => {
                let outage = (random.below(2) == 0).then_some(creatio::Outage::BadGateway);
                office.world.crm.control().outage(outage);
            }
            _ => {
                // What was said last, no call tells, and then the session is over.
                settle(&office, &anna, &talk).await;
                office.mango.control().event_faults(EventFaults { lose: u32::MAX, ..EventFaults::default() });
                if office.sessions(&anna).last().is_some_and(|session| session["state"] == "dialog") {
                    say(&office, &anna, &mut talk).await;
                    office.mango.control().desk("expire", &anna.id.to_string(), 0, "").unwrap();
                }
            }
        }
        for _ in 0..random.below(12) {
            office.world.moment().await;
        }
    }
    settle(&office, &anna, &talk).await;
    office.world.pass(120_000).await;
    assert_in_order_or_late(&office.world.received(&anna), &talk.said);
    assert_eq!(shown(&office, &anna), talk.answered);
    office.world.assert_contract_kept();
}

#[test]
fn the_promises_hold_in_every_sequence_through_mango() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = setting("SEED").unwrap_or(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for seed in first..first + setting("SEQUENCES").unwrap_or(SEQUENCES) {
        // So that a failure names what to play again.
        println!("SEED={seed}");
        runtime.block_on(play(seed));
    }
}
