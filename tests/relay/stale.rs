//! What waits for its turn at MAX is judged once more when the turn has come.

use std::process::Command;

use maxchannel::contract::config::Intake;
use maxchannel::policy::{AutoReply, Rules};
use maxchannel_simulator::max::{Fault, Outcome};

use crate::world::{World, quiet_rules};

/// As many as MAX is sent at once.
const AT_ONCE: u32 = 25;
/// How long those hold everybody else's turn; longer than an automatic reply may be late.
const HELD_MS: u64 = 9_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_overtaken_while_it_waits_for_its_turn_is_not_sent() {
    let reply = AutoReply { after: 0, repeat_every: None, repeat_limit: 0, text: "Ищем агента".to_owned() };
    let world = World::start(Rules { auto_replies: vec![reply], ..quiet_rules() }, Intake::Webhook).await;
    world.max.control().add_fault(Fault {
        method: Some("POST".to_owned()),
        path: Some("/messages".to_owned()),
        times: AT_ONCE,
        effect: true,
        delay_ms: HELD_MS,
        outcome: Outcome::Answer,
        ..Fault::default()
    });
    let others: Vec<_> = (0..AT_ONCE).map(|number| world.customer(&format!("Клиент {number}"))).collect();
    world.until_true("they hold every turn", || others.iter().all(|one| world.seen(one).len() == 1)).await;
    let (anna, boris) = (world.customer("Анна"), world.customer("Борис"));
    while !world.relay.metrics().await.contains("queue_depth{direction=\"to_max\"} 27") {
        world.moment().await;
    }
    // An agent takes the one, the other is erased.
    world.say(&anna, "вопрос");
    let chat = world.accept(&anna).await;
    world.crm.control().send(chat, world.agent, "Слушаю вас", Vec::new()).unwrap();
    let erased = Command::new(env!("CARGO_BIN_EXE_maxchannel"))
        .args(["erase", "--customer", &boris.id.to_string(), "--data-dir"])
        .arg(world.data_dir())
        .status()
        .unwrap();
    assert!(erased.success());
    world.until_true("the agent's answer is there", || world.seen(&anna).contains(&"Слушаю вас".to_owned())).await;
    assert_eq!(world.seen(&anna), ["Слушаю вас"]);
    assert!(world.seen(&boris).is_empty(), "somebody who was erased was written to");
}
