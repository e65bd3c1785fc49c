//! One moment that sequences hardly ever meet, as a test of its own.

use maxchannel::contract::CustomerId;
use maxchannel_simulator::max::{Fault, NewUser, Outcome};

use crate::plan::{Hours, Off, Replies, Setting, Way};
use crate::stage::{BEGINNING, Stage};

/// As many as MAX is sent at once.
const AT_ONCE: u32 = 25;
/// How long those hold everybody else's turn.
const HELD_MS: u64 = 9_000;

#[tokio::test(start_paused = true)]
async fn what_is_overtaken_while_it_waits_for_its_turn_at_max_is_not_sent() {
    let setting = Setting {
        way: Way::Webhook,
        replies: Replies::AtOnce,
        hours: Hours::Always,
        off_hours: Off::Replies,
        auto_close: None,
        close_message: false,
        clock_ahead: 0,
        slowest: 3,
        unordered: false,
        reading: true,
        hard: false,
    };
    let stage = Stage::new(setting, 1).await;
    let (max, crm) = (stage.max.control(), stage.crm.control());
    max.add_fault(Fault {
        method: Some("POST".to_owned()),
        path: Some("/messages".to_owned()),
        times: AT_ONCE,
        effect: true,
        delay_ms: HELD_MS,
        outcome: Outcome::Answer,
        ..Fault::default()
    });
    // What an earlier run may have sent in its last second is over.
    stage.pass(2_000).await;
    let person = |name: &str| max.create_user(NewUser::named(name)).unwrap();
    let seen = |id: i64| {
        let transcript = max.transcript(id, stage.bot).unwrap();
        transcript.texts_of_bot().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let others: Vec<i64> = (0..AT_ONCE).map(|number| person(&format!("Клиент {number}"))).collect();
    for other in &others {
        max.start(*other, stage.bot).unwrap();
    }
    while !others.iter().all(|other| seen(*other).len() == 1) {
        assert!(stage.now() - BEGINNING < 8_000, "they do not hold every turn");
        stage.pass(100).await;
    }
    let (anna, boris) = (person("Анна"), person("Борис"));
    max.start(anna, stage.bot).unwrap();
    max.start(boris, stage.bot).unwrap();
    stage.pass(500).await;
    let all = format!("queue_depth{{direction=\"to_max\"}} {}", AT_ONCE + 2);
    assert!(stage.relay().metrics().await.contains(&all), "the replies to both do not wait");
    // An agent answers the one, the other is erased.
    max.say(anna, stage.bot, "вопрос").unwrap();
    stage.pass(1_000).await;
    let chat = crm.chats(Some(&format!("max:{anna}")))[0]["id"].as_str().unwrap().parse().unwrap();
    assert!(crm.accept(chat, stage.agents[0]).unwrap());
    crm.send(chat, stage.agents[0], "Слушаю вас", Vec::new()).unwrap();
    stage.relay().erase(CustomerId::new(boris)).await.unwrap();
    stage.pass(60_000).await;
    assert_eq!(seen(anna), ["Слушаю вас"]);
    assert!(seen(boris).is_empty(), "somebody who was erased was written to");
    stage.relay().stop().await;
}
