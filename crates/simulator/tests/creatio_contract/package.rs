//! What only the package can show: its host is killed at every step of every call, requests come at
//! once, and the load is that of a busy day. Nothing is lost and nothing is doubled.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::site::{SENDER, SOURCE, Site, Variant, guid, message, names, with};

/// Both versions of the chat code.
const VERSIONS: [Variant; 2] =
    [Variant { runtime: "net", version: "8.1" }, Variant { runtime: "framework", version: "8.2" }];

const RECEIVE: &str = "/rest/MaxChannelService/receive";
const HAND_OVER: &str = "/rest/MaxChannelService/handOver";

/// Calls with a host that kills itself at its n-th step from now; whether the call has come to its
/// end before.
async fn call_and_kill(site: &Site, step: usize, path: &str, body: &Value) -> bool {
    site.point(&json!({"killAfter": step})).await;
    let ended = site.try_call(Method::POST, path, Some(body)).await.is_ok();
    // Also where it has ended: the step stands in the process.
    site.restart().await;
    ended
}

/// The customer's own texts in the order of storing, and whether all are in one line of chats.
fn of_customer(transcript: &[Value]) -> Vec<String> {
    names(&transcript.iter().filter(|one| one["author"] == "customer").cloned().collect::<Vec<_>>(), "externalId")
}

fn is_open(chat: &Value) -> bool {
    chat["completed"] == false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_of_receive_loses_and_doubles_nothing() {
    for variant in VERSIONS {
        let Some(site) = Site::package(variant).await else { return };
        let mut sent = Vec::new();
        for step in 1.. {
            let body = message(&format!("mid.{step}"), 1000 * i64::try_from(step).unwrap());
            let ended = call_and_kill(&site, step, RECEIVE, &body).await;
            let answer = site.deliver(&body).await;
            assert!(answer["chatId"].is_string(), "{variant:?}, step {step}: {answer}");
            sent.push(format!("mid.{step}"));
            if ended {
                break;
            }
        }
        assert!(sent.len() > 10, "{variant:?}: only {} steps", sent.len());
        assert_eq!(of_customer(&site.transcript(SENDER).await), sent, "{variant:?}");
        assert_eq!(site.chats(SENDER).await.len(), 1, "{variant:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_of_the_first_message_of_a_customer_makes_one_contact_and_one_chat() {
    for variant in VERSIONS {
        let Some(site) = Site::package(variant).await else { return };
        for step in 1.. {
            let sender = format!("max:{step}");
            let body = with(message(&format!("mid.{step}"), 1000), &json!({"sender": sender}));
            let ended = call_and_kill(&site, step, RECEIVE, &body).await;
            site.deliver(&body).await;
            assert_eq!(site.transcript(&sender).await.len(), 1, "{variant:?}, step {step}");
            assert_eq!(site.chats(&sender).await.len(), 1, "{variant:?}, step {step}");
            if ended {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_of_a_hand_over_leaves_one_chat_that_agents_are_called_to() {
    for variant in VERSIONS {
        let Some(site) = Site::package(variant).await else { return };
        for (way, path) in [("call", HAND_OVER), ("message", RECEIVE)] {
            for step in 1.. {
                let sender = format!("max:{way}{step}");
                let by_bot = json!({"sender": sender, "standBy": true});
                let bot = guid(&site.receive(&with(message(&format!("{way}.{step}"), 1000), &by_bot)).await["chatId"]);
                let next = with(message(&format!("{way}.{step}.next"), 2000), &json!({"sender": sender}));
                let body = if path == RECEIVE { next.clone() } else { json!({"chatId": bot}) };
                let ended = call_and_kill(&site, step, path, &body).await;
                let mut over = json!({"queued": true});
                for _ in 0..5 {
                    over = if path == RECEIVE { site.receive(&body).await } else { site.hand_over(bot).await };
                    if over["queued"] == false {
                        break;
                    }
                    site.advance(121_000).await;
                }
                assert_eq!(
                    (&over["success"], &over["queued"]),
                    (&json!(true), &json!(false)),
                    "{variant:?} {way} {step}"
                );
                let chats = site.chats(&sender).await;
                let open: Vec<&Value> = chats.iter().filter(|chat| is_open(chat)).collect();
                assert_eq!((chats.len(), open.len()), (2, 1), "{variant:?} {way} {step}: {chats:?}");
                assert_eq!(open[0]["status"], "Waiting for processing", "{variant:?} {way} {step}");
                assert_eq!(open[0]["parentId"], bot.to_string(), "{variant:?} {way} {step}");
                assert_eq!(guid(&over["chatId"]), guid(&open[0]["id"]), "{variant:?} {way} {step}");
                let stored = of_customer(&site.transcript(&sender).await).len();
                assert_eq!(stored, if path == RECEIVE { 2 } else { 1 }, "{variant:?} {way} {step}");
                if ended {
                    break;
                }
            }
        }
        let rows = site.outbox().await;
        assert!(rows.is_empty(), "a hand-over tells the relay nothing: {:?}", names(&rows, "Kind"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_of_an_agents_send_keeps_what_he_was_told() {
    for variant in VERSIONS {
        let Some(site) = Site::package(variant).await else { return };
        let chat = site.accepted_chat().await;
        let mut told = Vec::new();
        let mut last = 0;
        for step in 1.. {
            site.point(&json!({"killAfter": step})).await;
            let body = json!({"agentId": site.agent, "text": format!("answer {step}")});
            let answer = site.try_act(Method::POST, &format!("/chats/{chat}/send"), &body).await;
            let ended = answer.is_ok();
            if let Ok((_, answer)) = answer {
                assert_eq!(answer["sent"], true, "{answer}");
                told.push(format!("answer {step}"));
            }
            site.restart().await;
            // Between two kills everything works.
            assert_eq!(site.send(chat, site.agent, &format!("well {step}")).await["sent"], true);
            told.push(format!("well {step}"));
            last = step;
            if ended {
                break;
            }
        }
        assert!(last > 5, "{variant:?}: only {last} steps");
        let rows = site.outbox().await;
        let texts: Vec<String> = names(&rows, "Text").into_iter().filter(|text| !text.is_empty()).collect();
        for text in &told {
            assert_eq!(texts.iter().filter(|one| *one == text).count(), 1, "{variant:?}: {text}");
        }
        for step in 1..=last {
            let text = format!("answer {step}");
            assert!(texts.iter().filter(|one| **one == text).count() <= 1, "{variant:?}: {text} is doubled");
            let shown = site.transcript(SENDER).await;
            let shown = shown.iter().filter(|one| one["text"] == text).count();
            assert!(
                shown <= texts.iter().filter(|one| **one == text).count(),
                "{variant:?}: {text} is shown and not sent"
            );
        }
        // The customer's order is that of the agent.
        let order: Vec<&String> = texts.iter().filter(|text| text.starts_with("well")).collect();
        assert_eq!(order, (1..=last).map(|step| format!("well {step}")).collect::<Vec<_>>().iter().collect::<Vec<_>>());
        let seqs: Vec<i64> = rows.iter().map(|row| row["Seq"].as_i64().unwrap()).collect();
        assert!(seqs.is_sorted_by(|left, right| left < right), "{seqs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_the_worker_and_the_row_sends_the_message_once() {
    for variant in VERSIONS {
        let Some(site) = Site::package(variant).await else { return };
        let chat = site.accepted_chat().await;
        site.point(&json!({"killAt": "betweenWorkerAndRow"})).await;
        let body = json!({"agentId": site.agent, "text": "half"});
        assert!(site.try_act(Method::POST, &format!("/chats/{chat}/send"), &body).await.is_err());
        site.restart().await;
        let rows = site.outbox().await;
        assert_eq!(names(&rows, "Text"), ["", "half"], "the customer gets it");
        assert_eq!(names(&site.transcript(SENDER).await, "text"), ["text of mid.1"], "the chat does not show it");
        // The report on such a row finds its chat all the same.
        let path = format!("/odata/MaxOutbox({})", rows[1]["Id"].as_str().unwrap());
        let failed = json!({"State": "Failed", "Error": "blocked"});
        assert_eq!(site.call(Method::PATCH, &path, Some(&failed)).await.status(), 204);
        assert_eq!(names(&site.transcript(SENDER).await, "author"), ["customer", "system"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_of_an_upload_leaves_no_file_without_its_bytes() {
    for variant in VERSIONS {
        let Some(site) = Site::package(variant).await else { return };
        for file_api in [false, true] {
            for step in 1_u16.. {
                let id = Uuid::from_u128(u128::from(step) + if file_api { 1000 } else { 0 });
                let switched = json!({"fileApi": file_api});
                site.try_act(Method::PATCH, "/switches", &switched).await.unwrap();
                site.point(&json!({"killAfter": step})).await;
                let ended = site.try_upload(id, b"bytes".to_vec()).await.is_ok();
                site.restart().await;
                site.try_act(Method::PATCH, "/switches", &switched).await.unwrap();
                assert_eq!(site.upload(id, b"bytes".to_vec()).await["success"], true, "{variant:?}, step {step}");
                let path = format!("/rest/FileService/Download/OmnichannelMessageFile/{id}");
                assert_eq!(site.call(Method::GET, &path, None).await.text().await.unwrap(), "bytes");
                if ended {
                    break;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_receives_of_one_customer_at_once_store_both_once_in_one_chat() {
    for variant in VERSIONS {
        let Some(site) = Site::package(variant).await else { return };
        let site = Arc::new(site);
        for round in 0..20_i64 {
            let sender = format!("max:{round}");
            let one = with(message(&format!("one.{round}"), 1000), &json!({"sender": sender}));
            let other = with(message(&format!("other.{round}"), 2000), &json!({"sender": sender}));
            // The same message from two requests, and another one beside them.
            let repeat = until_stored(Arc::clone(&site), one.clone());
            let (first, second, third) =
                tokio::join!(until_stored(Arc::clone(&site), one), repeat, until_stored(Arc::clone(&site), other));
            // Both say the same of it, also where the later message was stored between the two.
            assert_eq!(first["messageId"], second["messageId"], "{variant:?}, round {round}: {first} {second}");
            let mut expected = vec![format!("one.{round}")];
            // What the site took later with an earlier time is refused, as it would be by any order
            // of calls.
            if third["success"] == true {
                expected.push(format!("other.{round}"));
            }
            let mut stored = of_customer(&site.transcript(&sender).await);
            stored.sort();
            if first["success"] == false {
                expected.remove(0);
            }
            assert_eq!(stored, expected, "{variant:?}, round {round}");
            assert_eq!(site.chats(&sender).await.len(), 1, "{variant:?}, round {round}");
        }
    }
}

/// Whatever is wrong with a message, two requests with it that come at once are answered alike.
#[tokio::test(flavor = "multi_thread")]
async fn two_receives_of_one_message_at_once_are_answered_alike_also_where_it_is_refused() {
    for variant in VERSIONS {
        let Some(site) = Site::package(variant).await else { return };
        let site = Arc::new(site);
        for round in 0..10_i64 {
            let sender = json!({"sender": format!("max:{round}")});
            let image = json!({"type": "image", "attachments": [{"id": Uuid::from_u128(u128::MAX), "name": "a.jpg",
                "mimeType": "image/jpeg", "size": 1, "type": "image"}]});
            let history = json!({"direction": "outgoing", "author": "bot"});
            until_stored(Arc::clone(&site), with(message(&format!("first.{round}"), 1000), &sender)).await;
            for (kind, id, wrong) in [("bad_request", "time", &json!({})), ("file_not_found", "file", &image)] {
                let time = if id == "time" { 1000 } else { 2000 };
                let body = with(with(message(&format!("{id}.{round}"), time), &sender), wrong);
                let twin = until_stored(Arc::clone(&site), body.clone());
                let (one, other) = tokio::join!(until_stored(Arc::clone(&site), body), twin);
                assert_eq!((&one["errorCode"], &other["errorCode"]), (&json!(kind), &json!(kind)), "{variant:?}");
            }
            let body = with(with(message(&format!("history.{round}"), 1), &sender), &history);
            let twin = until_stored(Arc::clone(&site), body.clone());
            let (one, other) = tokio::join!(until_stored(Arc::clone(&site), body), twin);
            assert_eq!((&one["success"], &one["messageId"]), (&json!(true), &other["messageId"]));
            let stored = site.transcript(sender["sender"].as_str().unwrap()).await;
            let expected = [format!("text of first.{round}"), format!("text of history.{round}")];
            assert_eq!(names(&stored, "text"), expected, "{variant:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_uploads_of_one_file_at_once_both_succeed() {
    for variant in VERSIONS {
        let Some(site) = Site::package(variant).await else { return };
        for round in 0..10_u128 {
            let id = Uuid::from_u128(round + 1);
            let (one, other) = tokio::join!(site.upload(id, b"bytes".to_vec()), site.upload(id, b"bytes".to_vec()));
            assert_eq!((&one["success"], &other["success"]), (&json!(true), &json!(true)), "{one} {other}");
        }
    }
}

/// Repeats while the answer is `queued`; a refused order of times is an answer.
async fn until_stored(site: Arc<Site>, body: Value) -> Value {
    loop {
        let answer = site.receive(&body).await;
        if answer["queued"] == false {
            return answer;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receive_answers_its_repeat_queued_and_what_comes_after_waits() {
    for variant in VERSIONS {
        let Some(site) = Site::package(variant).await else { return };
        let site = Arc::new(site);
        site.point(&json!({"hold": "beforeMessage"})).await;
        let slow = tokio::spawn({
            let site = Arc::clone(&site);
            async move { site.receive(&message("mid.1", 1000)).await }
        });
        while site.look("/points").await["held"] != 1 {
            tokio::task::yield_now().await;
        }
        let repeat = site.receive(&message("mid.1", 1000)).await;
        assert_eq!((&repeat["queued"], &repeat["duplicate"]), (&json!(true), &json!(true)));
        let parallel = site.receive(&message("mid.2", 2000)).await;
        assert_eq!((&parallel["queued"], &parallel["duplicate"]), (&json!(true), &json!(false)));
        site.point(&json!({"release": true})).await;
        let first = slow.await.unwrap();
        assert_eq!((&first["queued"], &first["duplicate"]), (&json!(false), &json!(false)));
        site.deliver(&message("mid.2", 2000)).await;
        assert_eq!(of_customer(&site.transcript(SENDER).await), ["mid.1", "mid.2"]);
        assert_eq!(site.chats(SENDER).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_of_a_hundred_customers_are_stored_in_order() {
    for variant in VERSIONS {
        let Some(site) = Site::package(variant).await else { return };
        let site = Arc::new(site);
        let places = Arc::new(tokio::sync::Semaphore::new(8));
        let mut customers = tokio::task::JoinSet::new();
        for customer in 0..100 {
            let (site, places) = (Arc::clone(&site), Arc::clone(&places));
            customers.spawn(async move {
                for number in 1..=10 {
                    let _place = places.acquire().await.unwrap();
                    let id = format!("mid.{customer}.{number}");
                    let body = with(message(&id, number), &json!({"sender": format!("max:{customer}")}));
                    let answer = site.receive(&body).await;
                    assert_eq!((&answer["success"], &answer["queued"]), (&json!(true), &json!(false)), "{answer}");
                }
            });
        }
        while let Some(customer) = customers.join_next().await {
            customer.unwrap();
        }
        for customer in 0..100 {
            let sender = format!("max:{customer}");
            let expected: Vec<String> = (1..=10).map(|number| format!("mid.{customer}.{number}")).collect();
            assert_eq!(of_customer(&site.transcript(&sender).await), expected, "{variant:?}");
            assert_eq!(site.chats(&sender).await.len(), 1, "{variant:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_reads_the_report_in_the_language_of_his_profile() {
    let Some(site) = Site::package(VERSIONS[0]).await else { return };
    for (culture, words) in
        [("ru-RU", "Сообщение не доставлено: заблокирован"), ("en-US", "The message was not delivered: ")]
    {
        let sender = json!({"sender": format!("max:{culture}")});
        site.try_act(Method::PATCH, "/switches", &json!({"culture": culture})).await.unwrap();
        let agent = site.add_agent(culture, "").await;
        let chat = guid(&site.receive(&with(message(&format!("mid.{culture}"), 1000), &sender)).await["chatId"]);
        assert!(site.accept(chat, agent).await);
        site.send(chat, agent, "ответ").await;
        let row = site.outbox().await.pop().unwrap();
        let failed = json!({"State": "Failed", "Error": "заблокирован"});
        let path = format!("/odata/MaxOutbox({})", row["Id"].as_str().unwrap());
        assert_eq!(site.call(Method::PATCH, &path, Some(&failed)).await.status(), 204);
        let line = site.transcript(sender["sender"].as_str().unwrap()).await.pop().unwrap();
        assert!(line["text"].as_str().unwrap().starts_with(words), "{line}");
    }
}

/// Whether listeners share the transaction of what they listen to is not known: the package must do
/// with either.
#[tokio::test(flavor = "multi_thread")]
async fn a_dialog_is_told_the_same_whether_or_not_listeners_share_the_transaction() {
    for variant in VERSIONS {
        for shared in [true, false] {
            let Some(site) = Site::package(variant).await else { return };
            site.try_act(Method::PATCH, "/switches", &json!({"listenersInTransaction": shared})).await.unwrap();
            let chat = site.accepted_chat().await;
            site.act("/outbox/broken", &json!({"broken": true})).await;
            let failed = site.act(&format!("/chats/{chat}/close"), &json!({"agentId": site.agent})).await.0 != 200;
            site.act("/outbox/broken", &json!({"broken": false})).await;
            if !failed {
                // The row was lost with the listener; the relay finds the closed chat by looking at
                // the chats.
                assert_eq!(site.chat(chat).await["completed"], true);
                assert_eq!(names(&site.outbox().await, "Kind"), ["accepted"]);
                continue;
            }
            assert_eq!(site.chat(chat).await["completed"], false, "all of it or nothing");
            site.close(chat, site.agent).await;
            assert_eq!(names(&site.outbox().await, "Kind"), ["accepted", "closed"]);
        }
    }
}

/// In 8.2 a bot's chat that is closed is Completed by bot, and tells so; in 8.1 it cannot be told
/// from a hand-over and tells nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_bots_chat_that_is_closed_is_no_hand_over() {
    for variant in VERSIONS {
        let Some(site) = Site::package(variant).await else { return };
        let bot = guid(&site.receive(&with(message("mid.1", 1000), &json!({"standBy": true}))).await["chatId"]);
        let path = "/rest/OmnichannelChatService/CloseActiveChat";
        assert_eq!(site.call(Method::POST, path, Some(&json!({"chatId": bot}))).await.status(), 200);
        let told = names(&site.outbox().await, "Reason");
        assert_eq!(told, if variant.version == "8.2" { vec!["relay"] } else { vec![] }, "{variant:?}");
        // Neither is opened again by a hand-over that comes too late.
        assert_eq!(site.hand_over(bot).await, json!({"success": true, "queued": false, "chatId": null}));
        let next = site.receive(&message("mid.2", 2000)).await;
        assert_ne!(guid(&next["chatId"]), bot);
        assert_eq!(site.chats(SENDER).await.len(), 2);
        assert!(site.outbox().await.iter().all(|row| row["ChannelSource"] == SOURCE));
    }
}
