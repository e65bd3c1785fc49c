//! Dialogs through MANGO OFFICE: the same promises with Манго Диалоги between the customer and the
//! relay.

use std::sync::atomic::{AtomicI64, Ordering};

use maxchannel::contract::MangoFacts;
use maxchannel::contract::config::{Intake, MangoEmployee};
use maxchannel::policy::{AutoReply, Receiver, Rules};
use maxchannel_simulator::creatio;
use maxchannel_simulator::mango::{self, Answer, BodyForm, ClientMessage, EventFaults, Fault, Outage, Switches};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::rasa::{Does, Rasa};
use crate::ways::assert_in_order_or_late;
use crate::world::{Customer, Sends, Setup, World, quiet_rules};

const IVAN: i64 = 300_052_407;
pub const MARIA: i64 = 300_052_408;
const GROUP: i64 = 10_048_964;
pub const LOST: EventFaults = EventFaults { lose: u32::MAX, double: 0, swap: 0, hold: false };

pub struct Office {
    pub world: World,
    pub mango: mango::Simulator,
}

/// A relay behind an account whose MAX channel is served by an employee, or by a group.
pub async fn office_with(switches: Switches, rules: Rules, by_group: bool) -> Office {
    office_of(switches, rules, by_group, false).await
}

/// `keeps_files`: the manifest does not send agents' files this way.
async fn office_of(switches: Switches, rules: Rules, by_group: bool, keeps_files: bool) -> Office {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mango = mango::Simulator::start(mango::Options { switches, ..mango::Options::default() }).await.unwrap();
    let control = mango.control();
    for (user_id, name) in [(IVAN, "Иван Агентов"), (MARIA, "Мария Ким")] {
        control.put_employee(mango::Employee { user_id, name: name.to_owned(), ..mango::Employee::default() });
    }
    control.put_group(mango::Group {
        id: GROUP,
        name: "Поддержка".to_owned(),
        members: vec![MARIA],
        ..mango::Group::default()
    });
    if by_group {
        control.max_channel_for_group(GROUP)
    } else {
        control.max_channel_for_employee(IVAN)
    };
    // The agent of the world is Ivan in both programs.
    let (at_mango, address) = (Some(control), Some((mango.url(), Vec::new())));
    let setup = Setup { at_mango, mango: address, keeps_files, ..Setup::default() };
    let mut world = World::start_with(rules.clone(), Intake::MangoDialogs, setup).await;
    let employees = vec![MangoEmployee { crm_user: world.agent, id: IVAN }];
    world.set_mango(mango.url(), employees);
    world.apply(rules, 2).await;
    Office { world, mango }
}

pub async fn office(switches: Switches) -> Office {
    office_with(switches, quiet_rules(), false).await
}

/// The same with a customer whose first words an agent has accepted: that dialog and its chat.
pub async fn accepted() -> (Office, Customer, Uuid) {
    let office = office(Switches::friendly()).await;
    office.listens();
    let anna = Office::customer();
    office.say(&anna, "Здравствуйте");
    let chat = office.world.accept(&anna).await;
    office.until_state(&anna, "dialog").await;
    (office, anna, chat)
}

impl Office {
    pub fn listens(&self) {
        let base = format!("http://{}/webhooks/mango/default/support/connector", self.world.address());
        self.mango.control().set_webhook(Some(&base));
    }

    pub fn customer() -> Customer {
        static NUMBERS: AtomicI64 = AtomicI64::new(91_000_001);
        let id = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Customer { id, sender: format!("max:{id}"), chat: 0 }
    }

    pub fn say(&self, customer: &Customer, text: &str) {
        let said = ClientMessage {
            social_user_id: customer.id.to_string(),
            first_name: "Анна".to_owned(),
            text: text.to_owned(),
            ..ClientMessage::default()
        };
        self.mango.control().say(&said).unwrap();
    }

    /// Sessions of a customer, oldest first.
    pub fn sessions(&self, customer: &Customer) -> Vec<Value> {
        let id = customer.id.to_string();
        let all = self.mango.control().dialogs();
        all.into_iter().filter(|one| one["variables"]["social_user"]["social_user_id"] == id).collect()
    }

    /// What the customer was shown, by the last session's chat.
    pub fn shown(&self, customer: &Customer) -> Vec<String> {
        let last = self.sessions(customer).pop().unwrap_or_default();
        let messages = last["messages"].as_array().cloned().unwrap_or_default();
        let ours = messages.iter().filter(|message| message["direction"] == "outgoing");
        ours.map(|message| message["payload"]["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    pub async fn received(&self, customer: &Customer, texts: &[&str]) {
        self.world.until_true("the agent has the messages", || self.world.received(customer) == texts).await;
    }

    /// Waits until the relay has seen so much of the cabinet.
    async fn until_noted(&self, what: &str, is_so: impl Fn(&MangoFacts) -> bool) {
        for _ in 0..1_000 {
            if is_so(&self.world.relay.facts().await.mango.unwrap()) {
                return;
            }
            self.world.moment().await;
        }
        panic!("this did not come about: {what}");
    }

    pub async fn until_state(&self, customer: &Customer, state: &str) {
        let is = || self.sessions(customer).last().is_some_and(|session| session["state"] == state);
        self.world.until_true(&format!("the session is {state}"), is).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_both_ways_and_either_side_ends_both_in_every_form_of_webhooks() {
    // The channel is Ivan's. Where employees have other numbers there, the agent's is not known.
    for (form, slash, beside, abonent_offset, agent) in [
        (BodyForm::Form, false, false, 0, IVAN),
        (BodyForm::Wrapped, true, true, 1_000_000, IVAN),
        (BodyForm::WrappedText, false, true, 0, MARIA),
    ] {
        let (slash_after_path, events_beside_chat) = (slash, beside);
        let switches =
            Switches { body_form: form, slash_after_path, events_beside_chat, abonent_offset, ..Switches::friendly() };
        let mut office = office(switches).await;
        let employees = vec![MangoEmployee { crm_user: office.world.agent, id: agent }];
        office.world.set_mango(office.mango.url(), employees);
        office.world.apply(quiet_rules(), 3).await;
        office.listens();
        let anna = Office::customer();
        office.say(&anna, "Здравствуйте & добрый день");
        office.received(&anna, &["Здравствуйте & добрый день"]).await;
        let chat = office.world.accept(&anna).await;
        office.world.crm.control().send(chat, office.world.agent, "Слушаю вас", Vec::new()).unwrap();
        office.world.until_true("the answer is shown", || office.shown(&anna) == ["Слушаю вас"]).await;
        let session = office.sessions(&anna).pop().unwrap();
        assert_eq!(session["abonent_id"], agent + abonent_offset, "under the agent's own name");
        office.say(&anna, "Спасибо");
        office.received(&anna, &["Здравствуйте & добрый день", "Спасибо"]).await;
        office.world.crm.control().close(chat, office.world.agent).unwrap();
        office.until_state(&anna, "closed").await;
        // The next appeal ends at MANGO.
        office.say(&anna, "Ещё вопрос");
        office.received(&anna, &["Здравствуйте & добрый день", "Спасибо", "Ещё вопрос"]).await;
        office.world.accept(&anna).await;
        office.until_state(&anna, "dialog").await;
        office.mango.control().desk("close", &anna.id.to_string(), IVAN, "").unwrap();
        office.world.until_true("the chat is closed", || office.world.open_chat(&anna).is_none()).await;
        office.world.assert_contract_kept();
        assert_eq!(office.mango.control().violations(), [] as [Value; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_reordered_when_webhooks_are() {
    for faults in [
        EventFaults { lose: u32::MAX, ..EventFaults::default() },
        EventFaults { lose: 1, double: 3, swap: 2, hold: false },
        EventFaults { double: 4, ..EventFaults::default() },
    ] {
        let office = office(Switches::friendly()).await;
        office.listens();
        office.mango.control().event_faults(faults);
        let anna = Office::customer();
        let texts = ["1", "2", "3", "4", "5"];
        for text in texts {
            office.say(&anna, text);
            // MANGO's own order is by milliseconds.
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        office.world.until_true("all are with the agent", || office.world.received(&anna).len() >= 5).await;
        assert_in_order_or_late(&office.world.received(&anna), &texts);
        office.world.assert_contract_kept();
    }
}

/// The list says nothing of it, and only a few quiet sessions are read at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_in_any_of_many_quiet_sessions_while_the_relay_was_away_keeps_that_dialog_open() {
    let rules = Rules { auto_close: Some(900_000), ..quiet_rules() };
    let mut office = office_with(Switches { messages_move_time: false, ..Switches::friendly() }, rules, false).await;
    office.listens();
    let customers: Vec<Customer> = (0..15).map(|_| Office::customer()).collect();
    let mut chats = Vec::new();
    for customer in &customers {
        office.say(customer, "вопрос");
        office.received(customer, &["вопрос"]).await;
        chats.push(office.world.accept(customer).await);
        office.until_state(customer, "dialog").await;
    }
    office.mango.control().set_webhook(None);
    office.world.stop().await;
    for customer in &customers {
        office.say(customer, "ещё вопрос");
    }
    office.world.jump_to(office.world.now() + 20 * 60_000);
    let path = "/cc/md/session/chat/history".to_owned();
    office.mango.control().fault(Fault { path, count: 1, answer: Answer::Empty { status: 503 }, ..Fault::default() });
    office.world.run().await;
    for customer in &customers {
        office.received(customer, &["вопрос", "ещё вопрос"]).await;
    }
    for (customer, chat) in customers.iter().zip(chats) {
        assert_eq!(office.world.open_chat(customer), Some(chat), "closed although its customer had asked");
    }
    office.world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_webhooks_asking_alone_serves_and_an_outage_loses_nothing() {
    let mut office = office(Switches::friendly()).await;
    let anna = Office::customer();
    office.say(&anna, "раз");
    office.received(&anna, &["раз"]).await;
    office.mango.control().outage(Some(Outage::BadGateway));
    office.say(&anna, "два");
    let chat = office.world.accept(&anna).await;
    office.world.crm.control().send(chat, office.world.agent, "Слушаю вас", Vec::new()).unwrap();
    office.world.pass(3_600_000).await;
    office.world.restart(false).await;
    office.mango.control().outage(None);
    office.received(&anna, &["раз", "два"]).await;
    office.world.until_true("the answer is shown once", || office.shown(&anna) == ["Слушаю вас"]).await;
    office.world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_whose_answer_is_lost_comes_once() {
    let (office, anna, chat) = accepted().await;
    office.mango.control().fault(mango::Fault {
        path: "/cc/md/session/chat/send_message".to_owned(),
        count: 2,
        answer: mango::Answer::Drop,
        ..mango::Fault::default()
    });
    office.world.crm.control().send(chat, office.world.agent, "Слушаю вас", Vec::new()).unwrap();
    office.world.crm.control().send(chat, office.world.agent, "Чем помочь?", Vec::new()).unwrap();
    office.world.until_true("both are shown", || office.shown(&anna).len() >= 2).await;
    office.world.pass(120_000).await;
    assert_eq!(office.shown(&anna), ["Слушаю вас", "Чем помочь?"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_in_mangos_own_desk_is_seen_in_the_crm_and_ends_the_automatic_replies() {
    let reply =
        AutoReply { after: 60_000, repeat_every: None, repeat_limit: 0, text: "Ищем агента".to_owned() };
    let office = office_with(Switches::friendly(), Rules { auto_replies: vec![reply], ..quiet_rules() }, true).await;
    office.listens();
    let anna = Office::customer();
    office.say(&anna, "Здравствуйте");
    office.received(&anna, &["Здравствуйте"]).await;
    office.mango.control().desk("answer", &anna.id.to_string(), MARIA, "Я из кабинета").unwrap();
    let line = "[Ответ сотрудника из MANGO OFFICE] Я из кабинета";
    office
        .world
        .until_true("the agent reads it", || office.world.history(&anna).iter().any(|entry| entry.text == line))
        .await;
    office.world.pass(600_000).await;
    assert_eq!(office.shown(&anna), ["Я из кабинета"], "an automatic reply came after an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_no_salt_is_refused_whatever_the_form_and_learns_nothing() {
    let office = office(Switches { body_form: BodyForm::Bare, ..Switches::friendly() }).await;
    office.listens();
    let anna = Office::customer();
    office.say(&anna, "Здравствуйте");
    office.world.until_true("it was tried", || !office.mango.control().deliveries().is_empty()).await;
    assert!(office.mango.control().deliveries().iter().all(|delivery| delivery["status"] == 403));
    // What was refused is found by asking, for it did happen.
    office.received(&anna, &["Здравствуйте"]).await;
    let client = reqwest::Client::new();
    for channel in ["support", "nobody"] {
        for (path, body) in [
            ("events/cc/md/session/on_pending", "{}"),
            ("events/cc/md/session/on_pending", "vpbx_api_key=inventedmangokey&sign=00&json=%7B%7D"),
        ] {
            let url = format!("http://{}/webhooks/mango/default/{channel}/{path}", office.world.address());
            assert_eq!(client.post(url).body(body).send().await.unwrap().status(), 403);
        }
        let url = format!("http://{}/webhooks/mango/default/{channel}/ping", office.world.address());
        assert_eq!(client.post(url).send().await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_signature_is_taken_from_the_named_networks_only_and_a_wrong_signature_from_nowhere() {
    for (networks, taken) in [(&["10.0.0.0/8", "2001:db8::/32"][..], false), (&["10.0.0.0/8", "127.0.0.0/8"], true)] {
        let mut office = office(Switches { body_form: BodyForm::Bare, ..Switches::friendly() }).await;
        office.world.set_unsigned_from(networks);
        office.world.apply(quiet_rules(), 3).await;
        office.listens();
        let anna = Office::customer();
        office.say(&anna, "Здравствуйте");
        office.world.until_true("it was tried", || !office.mango.control().deliveries().is_empty()).await;
        let status = if taken { 200 } else { 403 };
        assert!(
            office.mango.control().deliveries().iter().all(|delivery| delivery["status"] == status),
            "{networks:?}"
        );
        office.received(&anna, &["Здравствуйте"]).await;
        let forged = r#"{"vpbx_api_key": "inventedmangokey", "sign": "00", "json": {"id": "e"}}"#;
        let url = format!("http://{}/webhooks/mango/default/support/events", office.world.address());
        assert_eq!(reqwest::Client::new().post(url).body(forged).send().await.unwrap().status(), 403);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialogs_of_other_messengers_are_left_alone() {
    let office = office(Switches::friendly()).await;
    office.listens();
    let control = office.mango.control();
    let client = reqwest::Client::new();
    let widget = serde_json::json!({"widget_id": 9, "name": "Telegram", "enabled": true,
        "channels": [{"channel_id": 6, "type": 6, "mode": "abonent", "abonent_id": IVAN}]});
    client.post(format!("{}/control/widgets", office.mango.url())).body(widget.to_string()).send().await.unwrap();
    let stranger = Office::customer();
    let said = ClientMessage {
        social_user_id: stranger.id.to_string(),
        text: "Я из Telegram".to_owned(),
        channel_id: 6,
        ..ClientMessage::default()
    };
    control.say(&said).unwrap();
    let anna = Office::customer();
    office.say(&anna, "Здравствуйте");
    office.received(&anna, &["Здравствуйте"]).await;
    assert_eq!(office.sessions(&stranger)[0]["state"], "pending");
    assert!(office.world.received(&stranger).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farewell_for_a_dialog_that_ended_at_mango_is_neither_sent_nor_told_as_sent() {
    let rules = Rules { close_message: Some("Спасибо за обращение!".to_owned()), ..quiet_rules() };
    let office = office_with(Switches::friendly(), rules, false).await;
    office.listens();
    let anna = Office::customer();
    office.say(&anna, "Здравствуйте");
    office.world.accept(&anna).await;
    office.until_state(&anna, "dialog").await;
    office.mango.control().desk("expire", &anna.id.to_string(), IVAN, "").unwrap();
    office.world.until_true("the chat is closed", || office.world.open_chat(&anna).is_none()).await;
    office.world.pass(120_000).await;
    assert_eq!(office.sessions(&anna).len(), 1, "a farewell began a dialog");
    assert!(office.world.history(&anna).iter().all(|entry| !entry.text.contains("Спасибо")));
    while office.world.relay.facts().await.undelivered.to_max > 0 {
        office.world.moment().await;
    }
    // Closed in the CRM, it is shown before the session ends.
    office.say(&anna, "Ещё вопрос");
    let chat = office.world.accept(&anna).await;
    office.until_state(&anna, "dialog").await;
    office.world.crm.control().close(chat, office.world.agent).unwrap();
    office.until_state(&anna, "closed").await;
    assert_eq!(office.shown(&anna), ["Спасибо за обращение!"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_max_refuses_in_the_cabinet_is_told_until_a_message_is_seen_to_arrive() {
    let mut office = office(Switches::friendly()).await;
    office.listens();
    let anna = Office::customer();
    office.say(&anna, "Здравствуйте");
    let chat = office.world.accept(&anna).await;
    office.until_noted("MANGO OFFICE has our address", |seen| seen.called_at.is_some()).await;
    let mut answers = 0;
    for way in ["a later one is delivered", "a later one is taken and not refused"] {
        // The last message of ours, by its chat.
        let mut last = async |office: &Office| {
            answers += 1;
            let text = format!("ответ {answers}");
            office.world.crm.control().send(chat, office.world.agent, &text, Vec::new()).unwrap();
            office.world.until_true("it is taken", || office.shown(&anna).len() == answers).await;
            let session = office.sessions(&anna).pop().unwrap();
            let message = session["messages"].as_array().unwrap().last().unwrap().clone();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&session["chat_id"]), text(&message["message_id"]))
        };
        let (of, message) = last(&office).await;
        office.mango.control().not_delivered(&of, &message, "text-invalid");
        office.mango.control().not_delivered("chat-of-another-messenger", &message, "authorization-failed");
        office
            .world
            .until_true("the agent reads why", || {
                office.world.history(&anna).iter().any(|entry| entry.text.contains("text-invalid"))
            })
            .await;
        office.until_noted("it says nothing of the token", |seen| seen.refused_since.is_none()).await;
        office.mango.control().not_delivered(&of, &message, "Authorization_Failed");
        office.until_noted("the token is refused", |seen| seen.refused_since.is_some()).await;
        // One from before that is told late, one of another messenger's, and a restart change
        // nothing.
        let told = office.mango.control().deliveries().len();
        office.mango.control().delivered(&of, &message);
        office.mango.control().delivered(&of, "000000000001");
        office.mango.control().delivered("chat-of-another-messenger", "999999999999");
        let are_told = || office.mango.control().deliveries().len() >= told + 3;
        office.world.until_true("they are told", are_told).await;
        office.until_noted("it is refused", |seen| seen.refused_since.is_some()).await;
        office.world.restart(false).await;
        office.world.pass(300_000).await;
        office.until_noted("it is refused still", |seen| seen.refused_since.is_some()).await;
        let (of, message) = last(&office).await;
        if way == "a later one is delivered" {
            office.mango.control().delivered(&of, &message);
        } else {
            office.world.pass(60_000).await;
        }
        office.until_noted(way, |seen| seen.refused_since.is_none()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cabinet_says_by_itself_is_no_answer_and_is_told_until_a_dialog_goes_without() {
    let reply =
        AutoReply { after: 60_000, repeat_every: None, repeat_limit: 0, text: "Ищем агента".to_owned() };
    let rules = Rules { auto_replies: vec![reply], ..quiet_rules() };
    // Nobody said it, or it has our words under an employee's name.
    for (by, text) in [(0, "Вы в очереди"), (IVAN, "Ищем  агента")] {
        let office = office_with(Switches::friendly(), rules.clone(), false).await;
        office.listens();
        let anna = Office::customer();
        office.say(&anna, "Здравствуйте");
        office.received(&anna, &["Здравствуйте"]).await;
        office.until_state(&anna, "dialog").await;
        office.mango.control().desk("automatic", &anna.id.to_string(), by, text).unwrap();
        office.until_noted("it is seen", MangoFacts::is_automatic).await;
        office.world.pass(120_000).await;
        office.world.until_true("ours comes, too", || office.shown(&anna) == [text, "Ищем агента"]).await;
        let line = format!("[Автоматическое сообщение MANGO OFFICE] {text}");
        assert!(office.world.history(&anna).iter().any(|entry| entry.text == line), "the agent reads it");
        office.mango.control().desk("close", &anna.id.to_string(), IVAN, "").unwrap();
        office.until_state(&anna, "closed").await;
        office.world.until_true("the chat is closed", || office.world.open_chat(&anna).is_none()).await;
        office.until_noted("it is told still", MangoFacts::is_automatic).await;
        let boris = Office::customer();
        office.say(&boris, "Здравствуйте");
        office.received(&boris, &["Здравствуйте"]).await;
        office.until_state(&boris, "dialog").await;
        office.mango.control().desk("close", &boris.id.to_string(), IVAN, "").unwrap();
        office.until_noted("a dialog without is seen", MangoFacts::is_quiet).await;
        office.world.assert_contract_kept();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_writes_while_the_relay_closes_the_session_begins_a_dialog_that_stays_open() {
    let (office, anna, chat) = accepted().await;
    let control = office.mango.control();
    control.fault(mango::Fault { path: "/cc/md/session/close".to_owned(), delay_ms: 400, ..mango::Fault::default() });
    office.world.crm.control().close(chat, office.world.agent).unwrap();
    let is_closing = || control.counters()["calls"]["POST /cc/md/session/close"].as_u64() > Some(0);
    office.world.until_true("the close is on its way", is_closing).await;
    office.say(&anna, "Ещё вопрос");
    office.until_state(&anna, "closed").await;
    office.received(&anna, &["Здравствуйте", "Ещё вопрос"]).await;
    office.world.pass(120_000).await;
    office.world.rounds(6).await;
    assert!(office.world.open_chat(&anna).is_some(), "the close of the old session ended the new dialog");
    let chat = office.world.accept(&anna).await;
    office.world.crm.control().send(chat, office.world.agent, "Слушаю", Vec::new()).unwrap();
    office.world.until_true("the answer has a session of its own", || office.shown(&anna) == ["Слушаю"]).await;
    office.world.assert_contract_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_began_with_an_agents_message_ends_with_its_dialog() {
    let (office, anna, chat) = accepted().await;
    let control = office.mango.control();
    control.event_faults(EventFaults { lose: u32::MAX, ..EventFaults::default() });
    control.outage(Some(Outage::BadGateway));
    control.desk("expire", &anna.id.to_string(), 0, "").unwrap();
    office.world.crm.control().send(chat, office.world.agent, "Подождите", Vec::new()).unwrap();
    office.world.crm.control().close(chat, office.world.agent).unwrap();
    office.world.pass(60_000).await;
    control.outage(None);
    office.world.until_true("the message has a session of its own", || office.shown(&anna) == ["Подождите"]).await;
    office.until_state(&anna, "closed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_does_not_go_through_mango_is_told_to_the_agent_and_costs_the_key_nothing() {
    use maxchannel_simulator::creatio::OutFile;
    for (keeps_files, words, wrong_requests) in [(true, "файлы не передаются", 0), (false, "Authorization failed", 1)]
    {
        let switches = Switches { multipart_signed_as_forms: false, ..Switches::friendly() };
        let office = office_of(switches, quiet_rules(), false, keeps_files).await;
        office.listens();
        let anna = Office::customer();
        office.say(&anna, "Здравствуйте");
        let chat = office.world.accept(&anna).await;
        let file = |name: &str| OutFile {
            name: name.to_owned(),
            mime_type: "application/pdf".to_owned(),
            bytes: b"%PDF".to_vec(),
        };
        let crm = office.world.crm.control();
        crm.send(chat, office.world.agent, "Смотрите", vec![file("раз.pdf")]).unwrap();
        crm.send(chat, office.world.agent, "И это", vec![file("два.pdf")]).unwrap();
        crm.send(chat, office.world.agent, "Видно?", Vec::new()).unwrap();
        office.world.until_true("the texts go on", || office.shown(&anna) == ["Смотрите", "И это", "Видно?"]).await;
        let told = || {
            let reports = office.world.reports();
            let failed: Vec<_> = reports.iter().filter(|(state, _)| state == "Failed").cloned().collect();
            (failed.len() == 2).then_some(failed)
        };
        let failed = office.world.until("both files are told", told).await;
        assert!(failed[0].1.contains(words), "{failed:?}");
        assert_eq!(office.mango.control().violations().len(), wrong_requests, "{keeps_files}");
        office.say(&anna, "Нет");
        office.received(&anna, &["Здравствуйте", "Нет"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farewell_under_way_is_not_said_into_the_clients_next_session() {
    for (takes, is_told) in [(true, true), (false, true), (true, false), (false, false)] {
        let rules =
            Rules { close_message: Some("Спасибо за обращение!".to_owned()), ..quiet_rules() };
        let switches = Switches { auto_distribution: !is_told, ..Switches::friendly() };
        let office = office_with(switches, rules, !takes).await;
        office.listens();
        let anna = Office::customer();
        let id = anna.id.to_string();
        office.say(&anna, "Здравствуйте");
        office.received(&anna, &["Здравствуйте"]).await;
        if is_told {
            office.mango.control().desk("take", &id, if takes { IVAN } else { MARIA }, "").unwrap();
        }
        let chat = office.world.accept(&anna).await;
        let (mango, crm) = (office.mango.control(), office.world.crm.control());
        if is_told {
            office.world.sends(Sends::Away, 0, 0);
            crm.close(chat, office.world.agent).unwrap();
            office.world.until_true("the farewell is on its way", || office.world.sends_seen() > 0).await;
        } else {
            mango.event_faults(LOST);
            let body = json!({"status": 200, "code": 5000, "error": "Internal error"});
            let answer = Answer::Json { status: 200, body };
            let path = "/cc/md/session/chat/history".to_owned();
            mango.fault(Fault { path, count: 3, answer, ..Fault::default() });
        }
        mango.desk("expire", &id, 0, "").unwrap();
        office.say(&anna, "Ещё вопрос");
        if !is_told {
            crm.close(chat, office.world.agent).unwrap();
        }
        office.received(&anna, &["Здравствуйте", "Ещё вопрос"]).await;
        office.world.sends_are_well();
        let chat = office.world.accept(&anna).await;
        office.world.crm.control().send(chat, office.world.agent, "Слушаю", Vec::new()).unwrap();
        office.world.until_true("the answer is shown", || !office.shown(&anna).is_empty()).await;
        office.world.pass(120_000).await;
        assert_eq!(office.shown(&anna), ["Слушаю"]);
        assert!(office.world.open_chat(&anna).is_some(), "the next dialog was closed");
        office.world.assert_contract_kept();
    }
}

/// The bot gives up in the same moment: what it hands over is the same dialog.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_at_mango_also_ends_the_chat_that_a_hand_over_has_made() {
    let bot = Rasa::start(Does::Fails).await;
    let setup = Setup { bot: Some(bot.url.clone()), ..Setup::default() };
    let rules = Rules { receiver: Receiver::Bot, ..Rules::default() };
    let world = World::start_with(rules, Intake::MangoDialogs, setup).await;
    let mango = world.mango.as_ref().unwrap().control();
    world.crm.control().outage(Some(creatio::Outage::Unavailable));
    let anna = world.customer("Анна");
    world.say(&anna, "вопрос");
    let is = |state: &str| mango.dialogs().last().is_some_and(|session| session["state"] == state);
    world.until_true("the bot was asked", || bot.heard().len() >= 2 && is("dialog")).await;
    mango.desk("close", &anna.id.to_string(), IVAN, "").unwrap();
    world.pass(60_000).await;
    world.rounds(6).await;
    world.crm.control().outage(None);
    let chats = || world.crm.control().chats(Some(&anna.sender));
    world.until_true("the bot has handed over", || chats().len() == 2).await;
    world.until_true("both chats are closed", || world.open_chat(&anna).is_none()).await;
    world.assert_contract_kept();
}

/// The agent has closed the chat before, and nobody could be told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_at_mango_also_ends_the_chat_that_a_message_before_it_opens_later() {
    for message_first in [true, false] {
        let (office, anna, chat) = accepted().await;
        let crm = office.world.crm.control();
        let knows_the_chat = |row: &Value| row["Kind"] == "accepted" && row["State"] == "Delivered";
        office.world.until_true("the relay knows the chat", || crm.outbox().iter().any(knows_the_chat)).await;
        crm.outage(Some(creatio::Outage::Drop));
        crm.close(chat, office.world.agent).unwrap();
        if message_first {
            crm.hold_outbox(&anna.sender, 10_000);
        }
        office.say(&anna, "Ещё вопрос");
        while office.world.relay.facts().await.undelivered.to_crm == 0 {
            office.world.moment().await;
        }
        office.mango.control().desk("close", &anna.id.to_string(), IVAN, "").unwrap();
        office.world.pass(60_000).await;
        office.world.rounds(6).await;
        crm.outage(None);
        office.received(&anna, &["Здравствуйте", "Ещё вопрос"]).await;
        office.world.until_true("the chat is closed", || office.world.open_chat(&anna).is_none()).await;
        // What comes later is another appeal.
        office.say(&anna, "И ещё");
        office.received(&anna, &["Здравствуйте", "Ещё вопрос", "И ещё"]).await;
        office.world.pass(60_000).await;
        office.world.rounds(6).await;
        assert!(office.world.open_chat(&anna).is_some(), "{message_first}: the next appeal was closed, too");
        office.world.assert_contract_kept();
    }
}
