//! What MANGO OFFICE may say oddly, late or not at all costs nothing but itself.

use std::time::Duration;

use maxchannel::contract::CustomerId;
use maxchannel::contract::config::Intake;
use maxchannel::policy::Rules;
use maxchannel_simulator::mango::{Answer, ClientMessage, EventFaults, Fault, Outage, Switches};
use serde_json::{Value, json};

use crate::mango::{LOST, MARIA, Office, accepted, office, office_with};
use crate::ways::assert_in_order_or_late;
use crate::world::{Customer, IVAN, Sends, World, quiet_rules};

impl Office {
    /// Brings one call of MANGO OFFICE's, word by word.
    async fn call(&self, event: &str) {
        assert_eq!(self.world.mango_calls(event).await, http::StatusCode::OK, "{event}");
    }

    fn say_as(&self, name: &str, customer: &Customer, text: &str) {
        let said = ClientMessage {
            social_user_id: customer.id.to_string(),
            first_name: name.to_owned(),
            text: text.to_owned(),
            ..ClientMessage::default()
        };
        self.mango.control().say(&said).unwrap();
    }

    /// What MANGO's clock showed when something last happened in that customer's session.
    fn mango_now(&self, customer: &Customer) -> i64 {
        self.sessions(customer).pop().unwrap()["update_time"].as_i64().unwrap()
    }

    /// What the customer has said so far, which is with the agents.
    async fn said(&self, customer: &Customer, wrote_before: bool) -> Vec<&'static str> {
        if !wrote_before {
            return Vec::new();
        }
        self.say(customer, "канарейка");
        self.received(customer, &["канарейка"]).await;
        vec!["канарейка"]
    }

    /// The customer is erased, and what they write then is heard.
    async fn erase_and_hear(&self, customer: &Customer, expected: &mut Vec<&'static str>) {
        self.world.relay.erase(CustomerId::new(customer.id)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
        self.say(customer, "раз");
        expected.push("раз");
        self.received(customer, expected).await;
    }

    fn calls(&self) -> u64 {
        self.mango.control().counters()["total"].as_u64().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_wrote_arrives_however_oddly_the_event_is_written() {
    let office = office(Switches::friendly()).await;
    office.listens();
    let anna = Office::customer();
    office.say(&anna, "Здравствуйте");
    office.until_state(&anna, "dialog").await;
    let session = office.sessions(&anna).pop().unwrap();
    let (id, chat) = (&session["session_id"], &session["chat_id"]);
    let incoming = r#""direction": "incoming", "client_id": "x""#;
    for (number, message) in [
        format!(r#""message": {{"message_id": "odd-0", {incoming}, "payload": {{"type": "text", "text": "слово-0 \\ud83d"}}}}"#),
        format!(r#""message_id": {{"message_id": "odd-1", {incoming}, "payload": {{"type": "text", "text": "слово-1"}}}}"#),
        r#""message": {"message_id": "odd-2", "client_id": "x", "payload": {"text": "слово-2"}}"#.to_owned(),
        format!(r#""message": {{"message_id": "odd-3", {incoming}, "payload": "слово-3", "time": 1e999}}"#),
        format!(r#""message": {{"message_id": "odd-4", {incoming}, "payload": {{"text": "слово-4"}}, "time": "вчера"}}"#),
        format!(r#""message": {{"message_id": 5, {incoming}, "payload": {{"text": "слово-5"}}, "time": 9e18}}"#),
    ]
    .into_iter()
    .enumerate()
    {
        // The session or only its chat.
        let place = if number % 2 == 0 { format!(r#""session_id": {id}, "chat_id": {chat}"#) } else { format!(r#""chat_id": {chat}"#) };
        office.call(&format!(r#"{{"id": "odd", {place}, {message}}}"#)).await;
        let word = format!("слово-{number}");
        office
            .world
            .until_true(&word, || office.world.received(&anna).iter().filter(|text| text.contains(&word)).count() == 1)
            .await;
    }
    // Signed and not understood: kept and acknowledged.
    for event in ["[]", "nonsense", r#"{"id": "e", "invented": true}"#] {
        office.call(event).await;
    }
    office.world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_odd_row_of_the_list_of_sessions_keeps_no_other_from_being_found() {
    let office = office(Switches::friendly()).await;
    let anna = Office::customer();
    office.say(&anna, "Здравствуйте");
    let session = office.sessions(&anna).pop().unwrap();
    let odd =
        r#"{"session_id": "odd", "state": "unheard of", "variables": {"social_user": {"first_name": "\\ud83d"}}}"#;
    let body = format!(r#"{{"name": "OK", "status": 200, "code": 1000, "sessions": [null, 7, {odd}, {session}]}}"#);
    let answer = Answer::Raw { status: 200, body: body.replace(r"\\ud83d", r"\ud83d") };
    office.mango.control().fault(Fault { path: "/cc/md/sessions".to_owned(), count: 2, answer, ..Fault::default() });
    office.until_state(&anna, "dialog").await;
    office.received(&anna, &["Здравствуйте"]).await;
}

/// Not to be listed for a moment is not to be closed, and what was closed by mistake goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_a_list_misses_is_not_taken_for_closed_and_its_answers_get_out() {
    let none = json!({"name": "OK", "status": 200, "code": 1000});
    let with = |sessions: Value| json!({"name": "OK", "status": 200, "code": 1000, "sessions": sessions});
    for (answer, count, may_close) in [
        (&none, 1, false),
        (&with(json!("odd")), 30, false),
        (&with(json!([null])), 30, false),
        (&with(json!([{"session_id": "ANNA", "state": "unheard of"}])), 30, false),
        (&json!({}), 30, false),
        (&none, 30, true),
    ] {
        let (office, anna, chat) = accepted().await;
        let session = office.sessions(&anna).pop().unwrap()["session_id"].as_str().unwrap().to_owned();
        let answer: Value = serde_json::from_str(&answer.to_string().replace("ANNA", &session)).unwrap();
        office.mango.control().fault(Fault {
            path: "/cc/md/sessions".to_owned(),
            count,
            answer: Answer::Json { status: 200, body: answer.clone() },
            ..Fault::default()
        });
        let before = office.calls();
        office.world.until_true("the list was asked for", || office.calls() >= before + u64::from(count).min(4)).await;
        office.world.pass(60_000).await;
        office.world.rounds(4).await;
        if may_close {
            office.world.until_true("it counts as closed", || office.world.open_chat(&anna).is_none()).await;
        } else {
            assert_eq!(office.world.open_chat(&anna), Some(chat), "{answer}");
        }
        office.say(&anna, "Вы здесь?");
        office.received(&anna, &["Здравствуйте", "Вы здесь?"]).await;
        let chat = if may_close { office.world.accept(&anna).await } else { chat };
        office.world.crm.control().send(chat, office.world.agent, "Здесь", Vec::new()).unwrap();
        office.world.until_true("the answer is shown", || office.shown(&anna) == ["Здесь"]).await;
        assert_eq!(office.sessions(&anna).len(), 1, "a second dialog was begun");
        // Once it is listed again it ends with its dialog.
        office.mango.control().clear_faults();
        office.world.rounds(2).await;
        office.world.crm.control().close(chat, office.world.agent).unwrap();
        office.until_state(&anna, "closed").await;
        office.world.assert_contract_kept();
    }
}

/// Two lists in a row miss it, which is no long time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_not_listed_for_a_moment_is_open_all_along() {
    let (office, anna, chat) = accepted().await;
    office.mango.control().fault(Fault {
        path: "/cc/md/sessions".to_owned(),
        count: 2,
        answer: Answer::Json { status: 200, body: json!({"name": "OK", "status": 200, "code": 1000}) },
        ..Fault::default()
    });
    office.world.rounds(6).await;
    office.world.pass(120_000).await;
    office.world.rounds(6).await;
    assert_eq!(office.world.open_chat(&anna), Some(chat), "the chat was closed");
    office.world.assert_contract_kept();
}

/// MANGO OFFICE closes a session that is handed on before it shows the other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_handed_on_ends_no_chat_although_its_child_is_shown_a_moment_later() {
    let (office, anna, chat) = accepted().await;
    office.mango.control().event_faults(LOST);
    let mut closed = office.sessions(&anna).pop().unwrap();
    let mut child = closed.clone();
    closed["state"] = json!("closed");
    child["session_id"] = json!("child");
    child["parent_session_id"] = closed["session_id"].clone();
    let list = |sessions: &[Value]| json!({"name": "OK", "status": 200, "code": 1000, "sessions": sessions});
    for (body, count) in [(list(&[]), 2), (list(&[child]), u32::MAX)] {
        let answer = Answer::Json { status: 200, body };
        office.mango.control().fault(Fault { path: "/cc/md/sessions".to_owned(), count, answer, ..Fault::default() });
    }
    office.call(&json!({"id": "e", "session": closed}).to_string()).await;
    office.world.rounds(8).await;
    assert_eq!(office.world.open_chat(&anna), Some(chat), "the chat was closed");
    office.world.assert_contract_kept();
}

/// What is handed on brings the client's words along and is the same appeal, also where only asking
/// shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farewell_is_said_into_the_session_that_a_transfer_has_made_of_its_own() {
    for is_told in [true, false] {
        let rules =
            Rules { close_message: Some("Спасибо за обращение!".to_owned()), ..quiet_rules() };
        let office = office_with(Switches::friendly(), rules, false).await;
        let (mango, crm) = (office.mango.control(), office.world.crm.control());
        office.listens();
        let anna = Office::customer();
        let id = anna.id.to_string();
        office.say(&anna, "Здравствуйте");
        office.received(&anna, &["Здравствуйте"]).await;
        mango.desk("take", &id, IVAN, "").unwrap();
        let chat = office.world.accept(&anna).await;
        if is_told {
            office.world.sends(Sends::Away, 0, 0);
            crm.close(chat, office.world.agent).unwrap();
            office.world.until_true("the farewell is on its way", || office.world.sends_seen() > 0).await;
            mango.desk("transfer", &id, MARIA, "").unwrap();
            office.world.rounds(3).await;
            office.world.sends_are_well();
        } else {
            mango.event_faults(LOST);
            let mut ended = office.sessions(&anna).pop().unwrap();
            ended["state"] = json!("closed");
            let body = json!({"name": "OK", "status": 200, "code": 1000, "sessions": []});
            let answer = Answer::Json { status: 200, body };
            mango.fault(Fault { path: "/cc/md/sessions".to_owned(), count: 1, answer, ..Fault::default() });
            mango.desk("transfer", &id, MARIA, "").unwrap();
            office.call(&json!({"id": "e", "session": ended}).to_string()).await;
            office.world.rounds(1).await;
            crm.close(chat, office.world.agent).unwrap();
        }
        office.world.until_true("the farewell is shown", || office.shown(&anna) == ["Спасибо за обращение!"]).await;
        let are_closed = || mango.dialogs().iter().all(|session| session["state"] == "closed");
        office.world.until_true("the session is closed, too", are_closed).await;
        office.world.assert_contract_kept();
    }
}

/// The relay's clock stands still, so that no later round does what this one has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_whose_messages_cannot_be_read_keeps_no_session_of_others_from_being_taken() {
    let office = office(Switches::friendly()).await;
    office.listens();
    let (anna, boris) = (Office::customer(), Office::customer());
    office.say(&anna, "Здравствуйте");
    office.until_state(&anna, "dialog").await;
    office.received(&anna, &["Здравствуйте"]).await;
    let chat = office.sessions(&anna).pop().unwrap()["chat_id"].as_str().unwrap().to_owned();
    office.mango.control().fault(Fault {
        path: "/cc/md/session/chat/history".to_owned(),
        body: format!("{chat}%22"),
        count: u32::MAX,
        answer: Answer::Json { status: 200, body: json!({"status": 200, "code": 5000, "error": "Internal error"}) },
        ..Fault::default()
    });
    office.say(&anna, "Вы здесь?");
    office.say(&boris, "Здравствуйте");
    let is_taken = || office.sessions(&boris).last().is_some_and(|session| session["state"] == "dialog");
    for _ in 0..2_000 {
        if is_taken() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the session of somebody else is not taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_whose_messages_cannot_be_read_keeps_no_other_waiting() {
    let fails = Answer::Json { status: 200, body: json!({"status": 200, "code": 5000, "error": "Internal error"}) };
    for (answer, hold_ms) in [(fails, 0), (Answer::Normal, 600_000)] {
        let office = office(Switches::friendly()).await;
        office.listens();
        let (anna, boris) = (Office::customer(), Office::customer());
        for customer in [&anna, &boris] {
            office.say(customer, "Здравствуйте");
            office.until_state(customer, "dialog").await;
        }
        let chat = office.sessions(&anna).pop().unwrap()["chat_id"].as_str().unwrap().to_owned();
        office.mango.control().fault(Fault {
            path: "/cc/md/session/chat/history".to_owned(),
            body: format!("{chat}%22"),
            count: u32::MAX,
            hold_ms,
            answer,
            ..Fault::default()
        });
        office.mango.control().event_faults(LOST);
        for customer in [&anna, &boris] {
            office.say(customer, "Вы здесь?");
        }
        office.received(&boris, &["Здравствуйте", "Вы здесь?"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_at_all_is_asked_for_while_mango_asks_to_be_left_alone() {
    let (office, _, chat) = accepted().await;
    let before = office.calls();
    office.mango.control().fault(Fault {
        path: "/cc/md/sessions".to_owned(),
        effect: false,
        answer: Answer::Busy { status: 503, retry_after: "3600".to_owned() },
        ..Fault::default()
    });
    office.world.crm.control().send(chat, office.world.agent, "Слушаю вас", Vec::new()).unwrap();
    office.world.until_true("it was asked once more", || office.calls() > before).await;
    // What was under way ends; whoever went on asking would never come to rest.
    let mut rests = office.calls();
    for round in 0.. {
        office.world.pass(30_000).await;
        // The simulator counts on a clock of its own.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        if office.calls() == rests {
            break;
        }
        assert!(round < 10, "it is asked on and on");
        rests = office.calls();
    }
    office.world.pass(600_000).await;
    assert_eq!(office.calls(), rests, "it was asked while it wanted to be left alone");
}

/// The last words of a session that is closed are not listed any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_before_a_session_was_closed_is_found_although_no_webhook_told_it() {
    for restarts in [false, true] {
        let mut office = office(Switches::friendly()).await;
        office.listens();
        let anna = Office::customer();
        office.say(&anna, "Здравствуйте");
        office.until_state(&anna, "dialog").await;
        office.received(&anna, &["Здравствуйте"]).await;
        office.mango.control().event_faults(LOST);
        office.mango.control().outage(Some(Outage::BadGateway));
        office.say(&anna, "Последнее слово");
        office.mango.control().desk("expire", &anna.id.to_string(), 0, "").unwrap();
        if restarts {
            office.world.restart(false).await;
        }
        office.world.pass(120_000).await;
        office.mango.control().outage(None);
        office.received(&anna, &["Здравствуйте", "Последнее слово"]).await;
        office.world.until_true("the chat is closed", || office.world.open_chat(&anna).is_none()).await;
        office.world.assert_contract_kept();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_webhooks_are_found_although_messages_leave_the_time_of_their_session_as_it_is() {
    let office = office(Switches { messages_move_time: false, ..Switches::friendly() }).await;
    office.listens();
    let anna = Office::customer();
    office.say(&anna, "раз");
    office.until_state(&anna, "dialog").await;
    office.received(&anna, &["раз"]).await;
    office.world.pass(120_000).await;
    office.mango.control().event_faults(LOST);
    let texts = ["раз", "два", "три"];
    for text in &texts[1..] {
        office.say(&anna, text);
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    office.world.until_true("all are found", || office.world.received(&anna).len() == 3).await;
    assert_in_order_or_late(&office.world.received(&anna), &texts);
}

impl World {
    /// Whether any file of the store has these words.
    fn has_on_disk(&self, words: &str) -> bool {
        ["relay.db", "relay.db-wal"].iter().any(|name| {
            std::fs::read(self.data_dir().join(name))
                .is_ok_and(|bytes| bytes.windows(words.len()).any(|window| window == words.as_bytes()))
        })
    }
}

fn say_as(world: &World, customer: &Customer, text: &str) {
    let said = ClientMessage {
        social_user_id: customer.id.to_string(),
        first_name: "Аннабелла".to_owned(),
        text: text.to_owned(),
        ..ClientMessage::default()
    };
    world.mango.as_ref().unwrap().control().say(&said).unwrap();
}

/// MANGO OFFICE goes on showing the open appeal with everything that was said in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_erased_person_no_list_and_no_history_brings_anything_back_until_they_write() {
    for (way, loses) in [(Intake::MangoDialogs, false), (Intake::MangoDialogs, true), (Intake::LongPoll, false)] {
        let setup = crate::world::Setup { is_connected: true, ..crate::world::Setup::default() };
        let mut world = World::start_with(quiet_rules(), way.clone(), setup).await;
        let mango = world.mango.as_ref().unwrap().control();
        if loses {
            mango.event_faults(LOST);
        }
        let anna = world.customer("Аннабелла");
        world.say(&anna, "канарейка-раз");
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        world.say(&anna, "канарейка-два");
        world.until_true("both are with the agent", || world.received(&anna).len() == 2).await;
        let id = anna.id.to_string();
        let knows = || mango.dialogs().iter().any(|session| session["messages"].as_array().unwrap().len() == 2);
        world.until_true("MANGO OFFICE has them, too", knows).await;
        world.pass(60_000).await;
        world.relay.erase(CustomerId::new(anna.id)).await.unwrap();
        if way != Intake::MangoDialogs {
            world.switch(Intake::MangoDialogs).await;
        }
        world.pass(300_000).await;
        for _ in 0..20 {
            world.moment().await;
        }
        world.restart(false).await;
        world.pass(300_000).await;
        for words in ["Аннабелла", "канарейка", &id] {
            assert!(!world.has_on_disk(words), "{way:?}: {words} is back on disk");
        }
        assert_eq!(world.received(&anna), ["канарейка-раз", "канарейка-два"], "{way:?}");
        mango.event_faults(EventFaults::default());
        say_as(&world, &anna, "Снова я");
        world.until_true("they begin afresh", || world.received(&anna).len() == 3).await;
        assert_eq!(world.received(&anna), ["канарейка-раз", "канарейка-два", "Снова я"], "{way:?}");
        world.assert_contract_kept();
    }
}

/// The chat is slow to be shown, and the person is erased meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_is_under_way_does_not_bring_an_erased_person_back() {
    let office = office(Switches::friendly()).await;
    office.listens();
    let anna = Office::customer();
    office.say(&anna, "раз");
    office.until_state(&anna, "dialog").await;
    office.received(&anna, &["раз"]).await;
    office.world.pass(120_000).await;
    office.mango.control().event_faults(LOST);
    office.mango.control().fault(Fault {
        path: "/cc/md/session/chat/history".to_owned(),
        count: 1,
        hold_ms: 1_500,
        ..Fault::default()
    });
    office.say(&anna, "канарейка");
    let under_way = || office.mango.control().counters()["inFlight"].as_u64().unwrap() > 0;
    let asked =
        |office: &Office| office.mango.control().counters()["calls"]["POST /cc/md/session/chat/history"].as_u64();
    let before = asked(&office);
    office.world.until_true("it is being read", || asked(&office) > before && under_way()).await;
    office.world.relay.erase(CustomerId::new(anna.id)).await.unwrap();
    office.world.until_true("it was answered", || !under_way()).await;
    office.world.pass(300_000).await;
    assert!(!office.world.has_on_disk("канарейка"));
    assert_eq!(office.world.received(&anna), ["раз"]);
}

/// The session is closed at MANGO OFFICE while the relay closes it, and the person is erased
/// meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_is_under_way_does_not_bring_an_erased_person_back() {
    let (office, anna, chat) = accepted().await;
    let control = office.mango.control();
    control.fault(Fault { path: "/cc/md/session/close".to_owned(), delay_ms: 1_500, ..Fault::default() });
    office.world.crm.control().close(chat, office.world.agent).unwrap();
    let is_closing = || control.counters()["calls"]["POST /cc/md/session/close"].as_u64() > Some(0);
    office.world.until_true("the close is on its way", is_closing).await;
    control.desk("close", &anna.id.to_string(), IVAN, "").unwrap();
    let session = office.sessions(&anna).pop().unwrap()["session_id"].as_str().unwrap().to_owned();
    assert!(office.world.has_on_disk(&session));
    office.world.relay.erase(CustomerId::new(anna.id)).await.unwrap();
    let under_way = || control.counters()["inFlight"].as_u64().unwrap() > 0;
    office.world.until_true("it was answered", || !under_way()).await;
    office.world.pass(300_000).await;
    assert_eq!(office.world.received(&anna), ["Здравствуйте"]);
    assert!(!office.world.has_on_disk("Анна"), "the name is on disk again");
}

/// MANGO OFFICE is slow to say that the session is closed which an answer is for, and the person is
/// erased meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_under_way_neither_brings_an_erased_person_back_nor_is_sent_again() {
    let (office, anna, chat) = accepted().await;
    let control = office.mango.control();
    control.fault(Fault {
        path: "/cc/md/session/chat/send_message".to_owned(),
        delay_ms: 1_500,
        effect: false,
        answer: Answer::Json { status: 200, body: json!({"status": 200, "code": 5000, "error": "Session closed"}) },
        ..Fault::default()
    });
    office.world.crm.control().send(chat, office.world.agent, "Ваш заказ готов", Vec::new()).unwrap();
    let sends = || control.counters()["calls"]["POST /cc/md/session/chat/send_message"].as_u64();
    office.world.until_true("the answer is on its way", || sends() > Some(0)).await;
    office.world.relay.erase(CustomerId::new(anna.id)).await.unwrap();
    let under_way = || control.counters()["inFlight"].as_u64().unwrap() > 0;
    office.world.until_true("it was refused", || !under_way()).await;
    office.world.pass(300_000).await;
    assert!(office.shown(&anna).is_empty(), "it was sent to who was erased");
    assert!(!office.world.has_on_disk("Анна"), "the name is on disk again");
}

/// A session may stay open for longer than the keys of its messages are kept, and is read again and
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_in_a_session_that_stays_open_for_weeks_comes_once() {
    let (office, anna, _) = accepted().await;
    let received = async || {
        let days = office.world.relay.receipt(None).await.unwrap().days;
        let counts = days.into_iter().filter_map(|day| Some((day.day, day.to_crm?.received)));
        counts.filter(|(_, received)| *received > 0).collect::<Vec<_>>()
    };
    let once = received().await;
    assert_eq!(once.len(), 1);
    let reads = || office.mango.control().counters()["calls"]["POST /cc/md/session/chat/history"].as_u64();
    for _ in 0..2 {
        office.world.jump_to(office.world.now() + 45 * 86_400_000);
        let before = reads();
        office.world.until_true("it is read again", || reads() > before.map(|reads| reads + 3)).await;
    }
    let again = received().await;
    assert!(again.iter().all(|day| once.contains(day)), "the agents have it again: {again:?}");
    assert_eq!(office.world.received(&anna), ["Здравствуйте"]);
}

/// The calls of a session as MANGO OFFICE makes them: its client's messages, and how it stands.
fn calls_of(session: &Value) -> Vec<String> {
    let (id, chat) = (&session["session_id"], &session["chat_id"]);
    let message = |message: &Value| json!({"id": "e", "session_id": id, "chat_id": chat, "message": message});
    let mut calls: Vec<Value> = session["messages"].as_array().into_iter().flatten().map(message).collect();
    let mut pending = session.clone();
    pending["state"] = json!("pending");
    calls.extend([json!({"id": "e", "session": pending}), json!({"id": "e", "session": session})]);
    calls.iter().map(Value::to_string).collect()
}

/// What stood in a session when its person was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Was {
    Open,
    Closed,
    /// Not told of: its message waits for it.
    Held,
    /// Nothing of it had reached us at all.
    Unheard,
}

/// MANGO OFFICE repeats what it has told, or makes a call late, and shows old sessions anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mango_tells_of_before_an_erasure_stays_forgotten_and_what_is_written_after_it_arrives() {
    let hours = 3_600_000;
    for (wall, was) in [
        (0, Was::Open),
        (3 * hours, Was::Closed),
        (-3 * hours, Was::Held),
        (3 * hours, Was::Unheard),
        (-3 * hours, Was::Closed),
        (0, Was::Held),
    ] {
        let mut office = office(Switches::friendly()).await;
        office.world.set_wall(wall);
        office.listens();
        let control = office.mango.control();
        let (anna, boris) = (Office::customer(), Office::customer());
        let told = match was {
            Was::Open | Was::Closed => &["канарейка-раз", "канарейка-два"][..],
            Was::Held | Was::Unheard => &[],
        };
        if told.is_empty() {
            control.event_faults(LOST);
            control.outage(Some(Outage::BadGateway));
        }
        for text in ["канарейка-раз", "канарейка-два"] {
            office.say_as("Аннабелла", &anna, text);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        office.received(&anna, told).await;
        if told.is_empty() {
            // Somebody else is heard, so that MANGO's clock is known.
            let shown = json!({"id": "e", "session": {"session_id": "s", "state": "dialog", "update_time": office.mango_now(&anna)}});
            office.call(&shown.to_string()).await;
        } else {
            office.until_state(&anna, "dialog").await;
            control.desk("answer", &anna.id.to_string(), IVAN, "канарейка-ответ").unwrap();
            let is_told = || office.world.history(&anna).iter().any(|entry| entry.text.contains("канарейка-ответ"));
            office.world.until_true("the answer of the desk is told", is_told).await;
        }
        if was == Was::Closed {
            control.desk("expire", &anna.id.to_string(), 0, "").unwrap();
            office.world.until_true("the chat is closed", || office.world.open_chat(&anna).is_none()).await;
        }
        let session = office.sessions(&anna).pop().unwrap();
        if was == Was::Held {
            office.call(&calls_of(&session)[0]).await;
            assert!(office.world.has_on_disk("канарейка-раз"), "it waits");
        }
        office.world.relay.erase(CustomerId::new(anna.id)).await.unwrap();
        for restarts in [false, true] {
            if restarts {
                office.world.restart(false).await;
            }
            for call in calls_of(&session) {
                office.call(&call).await;
            }
            control.outage(None);
            control.event_faults(EventFaults::default());
            for _ in 0..20 {
                office.world.moment().await;
            }
            for words in ["Аннабелла", "канарейка", &anna.id.to_string()] {
                assert!(!office.world.has_on_disk(words), "{was:?} {wall}: {words} is on disk ({restarts})");
            }
        }
        office.say_as("Аннабелла", &anna, "Снова я");
        let expected = [told, &["Снова я"]].concat();
        office.received(&anna, &expected).await;
        // The same by asking, when as much time has passed there as here.
        control.event_faults(LOST);
        control.advance(600_000);
        office.say_as("Аннабелла", &anna, "Слышно?");
        office.received(&anna, &[&expected[..], &["Слышно?"]].concat()).await;
        assert!(!office.world.has_on_disk("канарейка"), "{was:?} {wall}: it came back with the person");
        office.say(&boris, "Здравствуйте");
        office.received(&boris, &["Здравствуйте"]).await;
        office.world.assert_contract_kept();
    }
}

/// Whoever asks only, has nothing by which to know MANGO's clock after a start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_after_an_erasure_is_heard_by_asking_alone_whatever_the_machines_clock_shows() {
    for wall in [3 * 3_600_000, -3 * 3_600_000] {
        for wrote_before in [false, true] {
            let mut office = office(Switches::friendly()).await;
            office.world.set_wall(wall);
            let anna = Office::customer();
            let mut expected = office.said(&anna, wrote_before).await;
            office.world.restart(false).await;
            office.erase_and_hear(&anna, &mut expected).await;
            assert!(!office.world.has_on_disk("канарейка"), "what was erased is back");
            office.world.assert_contract_kept();
        }
    }
}

/// Whose a message is only its session tells, and the person is erased before that comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_waits_for_its_session_is_forgotten_with_its_person() {
    let office = office(Switches::friendly()).await;
    office.listens();
    office.mango.control().event_faults(EventFaults { hold: true, ..EventFaults::default() });
    office.mango.control().outage(Some(Outage::BadGateway));
    let anna = Office::customer();
    office.say(&anna, "канарейка");
    let session = office.sessions(&anna).pop().unwrap();
    let (id, chat, message) = (&session["session_id"], &session["chat_id"], &session["messages"][0]);
    office.call(&json!({"id": "e", "session_id": id, "chat_id": chat, "message": message}).to_string()).await;
    assert!(office.world.has_on_disk("канарейка"), "it waits");
    office.world.relay.erase(CustomerId::new(anna.id)).await.unwrap();
    office.mango.control().outage(None);
    office.mango.control().event_faults(EventFaults::default());
    office.until_state(&anna, "dialog").await;
    office.world.pass(300_000).await;
    for _ in 0..20 {
        office.world.moment().await;
    }
    assert!(!office.world.has_on_disk("канарейка"), "it is on disk still");
    assert!(office.world.received(&anna).is_empty());
}

/// Nothing is known of MANGO's clock after a start, and the machine's own is far ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_after_an_erasure_is_heard_whatever_the_machines_clock_shows() {
    for wrote_before in [false, true] {
        let mut office = office(Switches::friendly()).await;
        office.world.set_wall(3 * 3_600_000);
        office.listens();
        let anna = Office::customer();
        let mut expected = office.said(&anna, wrote_before).await;
        if wrote_before {
            office.world.restart(false).await;
        }
        office.erase_and_hear(&anna, &mut expected).await;
        office.mango.control().event_faults(LOST);
        office.say(&anna, "два");
        expected.push("два");
        office.received(&anna, &expected).await;
        assert!(!office.world.has_on_disk("канарейка"), "what was erased is back");
        office.world.assert_contract_kept();
    }
}
