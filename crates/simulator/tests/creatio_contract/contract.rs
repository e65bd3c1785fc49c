//! The promises of the contract, each for both columns.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::site::{SENDER, SOURCE, Site, guid, message, names, read, with};

/// Each promise once for the simulator and once for every build of the package.
macro_rules! promises {
    ($($name:ident)*) => {
        mod simulator {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Site::simulator().await).await;
            })*
        }
        mod package {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                for variant in super::super::site::VARIANTS {
                    let Some(site) = super::Site::package(variant).await else { return };
                    super::$name(site).await;
                }
            })*
        }
    };
}

promises! {
    ping_tells_the_version_and_the_contract
    a_message_reaches_the_agent_and_the_answer_stands_in_the_outbox
    a_repeat_gets_the_first_answer_and_stores_nothing
    a_body_that_breaks_the_contract_is_bad_request
    edits_and_removals_carry_what_they_replace
    unknown_and_inactive_channels_and_missing_files_have_their_codes
    a_file_of_a_customer_becomes_part_of_its_message
    time_stamps_of_incoming_messages_strictly_grow
    a_queued_message_is_acknowledged_only_by_the_repeat_that_finds_it_stored
    a_key_that_was_taken_and_lost_is_processed_anew_after_120_seconds
    history_joins_the_newest_chat_and_opens_none
    stand_by_ends_by_hand_over_or_by_the_customers_next_message_without_a_closed_row
    a_bots_dialog_is_not_closed_by_the_clock
    a_transfer_is_told_once_and_only_a_closing_writes_closed
    rows_of_a_chat_name_who_wrote_in_it_though_its_contact_has_two_identities
    the_relay_closes_a_chat_once_and_an_empty_one_not_at_all
    files_of_an_agent_follow_the_text_with_their_sizes
    an_agent_is_told_where_his_message_cannot_be_handed_on
    an_outbox_row_may_end_anew_until_it_is_delivered_and_the_agent_is_told_of_failures
    a_chat_that_is_closed_by_the_clock_says_so
    a_written_row_gives_a_hint_with_the_secret
}

async fn kept(site: &Site) {
    assert_eq!(site.rules_broken().await, Vec::<String>::new());
}

async fn ping_tells_the_version_and_the_contract(site: Site) {
    let ping = site.get("/rest/MaxChannelService/ping").await;
    assert_eq!(ping, json!({"success": true, "version": "1.0.0", "contract": 1}));
}

async fn a_message_reaches_the_agent_and_the_answer_stands_in_the_outbox(site: Site) {
    let first = site.receive(&message("mid.1", 1000)).await;
    assert_eq!(
        (&first["success"], &first["duplicate"], &first["queued"]),
        (&json!(true), &json!(false), &json!(false))
    );
    let chat = guid(&first["chatId"]);
    assert_eq!(site.chat(chat).await["directedAgentId"], site.agent.to_string(), "agents are called");
    assert!(site.accept(chat, site.agent).await);
    assert!(!site.accept(chat, site.agent).await, "the second to accept is too late");
    let sent = site.send(chat, site.agent, "Здравствуйте").await;
    assert_eq!(sent["sent"], true, "{sent}");
    let rows = site.outbox().await;
    assert_eq!(names(&rows, "Kind"), ["accepted", "message"]);
    assert_eq!(rows[1]["Recipient"], SENDER);
    assert_eq!(rows[1]["Text"], "Здравствуйте");
    assert_eq!(rows[1]["MessageType"], "text");
    assert_eq!(rows[1]["Files"], "");
    assert_eq!(rows[1]["MessageId"], sent["messageIds"][0]);
    assert_eq!(rows[1]["ParentChatId"], Uuid::nil().to_string());
    assert_eq!((guid(&rows[1]["AgentId"]), &rows[1]["AgentName"]), (site.agent, &json!("Иван Орлов")));
    let path = format!("/odata/MaxOutbox({})", rows[1]["Id"].as_str().unwrap().to_uppercase());
    let patched = site.call(Method::PATCH, &path, Some(&json!({"State": "Delivered"}))).await;
    assert_eq!(patched.status(), 204);
    assert_eq!(names(&site.outbox().await, "Kind"), ["accepted"]);
    let transcript = site.transcript(SENDER).await;
    assert_eq!(
        names(&transcript, "text"),
        ["text of mid.1", "Здравствуйте"],
        "a delivery as it should be makes no line"
    );
    assert_eq!(transcript[1]["outbox"]["state"], "Delivered");
    kept(&site).await;
}

async fn a_repeat_gets_the_first_answer_and_stores_nothing(site: Site) {
    let first = site.receive(&message("mid.1", 1000)).await;
    let again = site.receive(&message("mid.1", 1000)).await;
    assert_eq!(again, with(first.clone(), &json!({"duplicate": true})));
    assert_eq!(site.transcript(SENDER).await.len(), 1);
    // Also while the channel is switched off: what is stored is not sent again.
    site.update("Channel", site.channel, &json!({"IsActive": false})).await;
    assert_eq!(site.receive(&message("mid.1", 1000)).await, again);
    site.update("Channel", site.channel, &json!({"IsActive": true})).await;
    // Also when the chat is over, and another one goes on.
    let chat = guid(&first["chatId"]);
    site.accept(chat, site.agent).await;
    site.close(chat, site.agent).await;
    assert_ne!(site.receive(&message("mid.2", 2000)).await["chatId"], first["chatId"]);
    assert_eq!(site.receive(&message("mid.1", 1000)).await, again);
    kept(&site).await;
}

async fn a_body_that_breaks_the_contract_is_bad_request(site: Site) {
    let mut table = vec![
        json!({"externalId": ""}),
        json!({"channelSource": null}),
        json!({"sender": ""}),
        json!({"timestamp": null}),
        json!({"timestamp": 0}),
        json!({"direction": "inbound"}),
        json!({"author": "bot"}),
        json!({"direction": "outgoing"}),
        json!({"type": "sticker"}),
        json!({"type": "image"}),
        json!({"sender": "x".repeat(51)}),
        json!({"externalId": "x".repeat(251)}),
        json!({"text": "a\u{0}b"}),
        json!({"externalId": "mid.1:removed"}),
        json!({"externalId": "mid.1:edit:5", "replacesExternalId": "mid.2"}),
        json!({"replacesExternalId": "mid.0"}),
        json!({"attachments": [{"id": "no guid", "name": "a", "mimeType": "b/c", "size": 1, "type": "file"}], "type": "file"}),
        json!({"attachments": [{"id": Uuid::nil(), "name": "a", "mimeType": "b/c", "type": "file"}], "type": "file"}),
        json!({"attachments": [{"id": Uuid::nil(), "name": "", "mimeType": "b/c", "size": 1, "type": "file"}], "type": "file"}),
    ];
    if site.is_simulator() {
        // A site's serializer reads a number from a text and passes over a member that it does not
        // know.
        table.extend([json!({"timestamp": "1000"}), json!({"externalID": "typo"})]);
    }
    for change in &table {
        let answer = site.receive(&with(message("mid.1", 1000), change)).await;
        assert_eq!((&answer["success"], &answer["errorCode"]), (&json!(false), &json!("bad_request")), "{change}");
    }
    if site.is_simulator() {
        assert_eq!(site.rules_broken().await.len(), table.len());
    }
    assert!(site.transcript(SENDER).await.is_empty());
}

async fn edits_and_removals_carry_what_they_replace(site: Site) {
    for (id, at) in [("mid.1:edit:1700", 1000), ("mid.1:removed", 2000)] {
        let answer = site.receive(&with(message(id, at), &json!({"replacesExternalId": "mid.1"}))).await;
        assert_eq!(answer["success"], true, "{answer}");
    }
    assert_eq!(names(&site.transcript(SENDER).await, "replacesExternalId"), ["mid.1", "mid.1"]);
    kept(&site).await;
}

fn image(id: u128, size: usize) -> Value {
    json!({"type": "image", "attachments":
        [{"id": Uuid::from_u128(id), "name": "ф.jpg", "mimeType": "image/jpeg", "size": size, "type": "image"}]})
}

async fn unknown_and_inactive_channels_and_missing_files_have_their_codes(site: Site) {
    let missing = image(7, 3);
    let answer = site.receive(&with(message("mid.1", 1000), &missing)).await;
    assert_eq!(answer["errorCode"], "file_not_found");
    assert_eq!(site.upload(Uuid::from_u128(7), vec![1, 2, 3]).await, json!({"success": true, "duplicate": false}));
    assert_eq!(site.upload(Uuid::from_u128(7), vec![1, 2, 3]).await, json!({"success": true, "duplicate": true}));
    let answer = site.receive(&with(message("mid.1", 1000), &missing)).await;
    assert_eq!(answer["success"], true, "a refused call does not count: {answer}");
    let answer = site.receive(&with(message("mid.2", 2000), &json!({"channelSource": "max-bot:1"}))).await;
    assert_eq!(answer["errorCode"], "channel_not_found");
    site.update("Channel", site.channel, &json!({"IsActive": false})).await;
    let answer = site.receive(&message("mid.2", 2000)).await;
    assert_eq!(answer["errorCode"], "channel_inactive");
    let big = site.upload(Uuid::from_u128(8), vec![0; 10_485_761]).await;
    assert_eq!(big, json!({"success": false, "errorCode": "file_too_big", "maxBytes": 10_485_760}));
    kept(&site).await;
}

async fn a_file_of_a_customer_becomes_part_of_its_message(site: Site) {
    site.upload(Uuid::from_u128(7), b"a photo".to_vec()).await;
    let answer = site.receive(&with(message("mid.1", 1000), &image(7, 7))).await;
    let transcript = site.transcript(SENDER).await;
    assert_eq!(
        (transcript.len(), &transcript[0]["type"], &transcript[0]["id"]),
        (1, &json!("image"), &answer["messageId"])
    );
    assert_eq!(transcript[0]["text"], "text of mid.1", "text and file are one message");
    let file = &transcript[0]["attachments"][0];
    assert_eq!((guid(&file["id"]), &file["name"], &file["size"]), (Uuid::from_u128(7), &json!("ф.jpg"), &json!(7)));
    assert_eq!(file["sha256"], sha256(b"a photo"));
    kept(&site).await;
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

async fn time_stamps_of_incoming_messages_strictly_grow(site: Site) {
    site.receive(&message("mid.1", 1000)).await;
    assert_eq!(site.receive(&message("mid.2", 1000)).await["errorCode"], "bad_request");
    assert_eq!(site.receive(&message("mid.2", 1001)).await["success"], true);
    let old = json!({"direction": "outgoing", "author": "autoReply"});
    assert_eq!(site.receive(&with(message("out:1", 500), &old)).await["success"], true, "history keeps its true time");
    let other = json!({"sender": "max:2"});
    assert_eq!(site.receive(&with(message("mid.3", 1), &other)).await["success"], true, "each customer has his own");
    if site.is_simulator() {
        assert_eq!(site.rules_broken().await, ["timestamp"]);
    }
}

async fn a_queued_message_is_acknowledged_only_by_the_repeat_that_finds_it_stored(site: Site) {
    site.receive(&message("mid.0", 500)).await;
    site.lock(SENDER, 2).await;
    let first = site.receive(&message("mid.1", 1000)).await;
    assert_eq!((&first["queued"], &first["duplicate"], &first["chatId"]), (&json!(true), &json!(false), &Value::Null));
    let second = site.receive(&message("mid.1", 1000)).await;
    assert_eq!(
        (&second["queued"], &second["duplicate"], &second["contactId"]),
        (&json!(true), &json!(true), &Value::Null)
    );
    assert_eq!(site.transcript(SENDER).await.len(), 1);
    let third = site.receive(&message("mid.1", 1000)).await;
    assert_eq!((&third["queued"], &third["duplicate"]), (&json!(false), &json!(true)));
    assert!(third["chatId"].is_string() && third["contactId"].is_string());
    assert_eq!(third["messageId"], first["messageId"]);
    assert_eq!(site.transcript(SENDER).await.len(), 2);
    kept(&site).await;
}

async fn a_key_that_was_taken_and_lost_is_processed_anew_after_120_seconds(site: Site) {
    site.take_and_lose(&message("mid.1", 1000)).await;
    let taken = site.receive(&message("mid.1", 1000)).await;
    assert_eq!((&taken["queued"], &taken["duplicate"]), (&json!(true), &json!(true)));
    assert!(site.transcript(SENDER).await.is_empty());
    site.advance(120_001).await;
    let anew = site.receive(&message("mid.1", 1000)).await;
    assert_eq!((&anew["queued"], &anew["success"]), (&json!(false), &json!(true)));
    assert_eq!(site.transcript(SENDER).await.len(), 1);
    assert_eq!(site.chats(SENDER).await.len(), 1);
}

async fn history_joins_the_newest_chat_and_opens_none(site: Site) {
    let close = json!({"direction": "outgoing", "author": "closeMessage"});
    let early = site.receive(&with(message("out:0", 100), &close)).await;
    assert_eq!((&early["success"], &early["chatId"]), (&json!(true), &Value::Null));
    assert_eq!(site.receive(&with(message("out:0", 100), &close)).await["duplicate"], true);
    let chat = site.accepted_chat().await;
    site.close(chat, site.agent).await;
    let late = site.receive(&with(message("out:1", 2000), &close)).await;
    assert_eq!(guid(&late["chatId"]), chat);
    assert_eq!(site.chats(SENDER).await.len(), 1);
    let entry = site.transcript(SENDER).await.into_iter().find(|one| one["externalId"] == "out:1").unwrap();
    assert_eq!((&entry["direction"], &entry["timestamp"]), (&json!("outgoing"), &json!(2000)));
    let next = site.receive(&message("mid.2", 3000)).await;
    assert_ne!(guid(&next["chatId"]), chat, "after completion the customer opens a new chat");
    assert!(site.outbox().await.iter().all(|row| row["Kind"] != "message"), "history is never sent back");
}

async fn stand_by_ends_by_hand_over_or_by_the_customers_next_message_without_a_closed_row(site: Site) {
    let by_bot = json!({"standBy": true});
    let bot = guid(&site.receive(&with(message("mid.1", 1000), &by_bot)).await["chatId"]);
    assert!(!site.accept(bot, site.agent).await, "agents are not called");
    let answer = json!({"standBy": false, "direction": "outgoing", "author": "bot"});
    site.receive(&with(message("out:1", 1500), &answer)).await;
    assert_eq!(site.chat(bot).await["status"], "Processed by bot", "outgoing entries change nothing");
    let over = site.hand_over(bot).await;
    let child = guid(&over["chatId"]);
    assert_eq!((&over["success"], &over["queued"]), (&json!(true), &json!(false)));
    assert_eq!(site.chat(child).await["parentId"], bot.to_string());
    assert_eq!(guid(&site.hand_over(bot).await["chatId"]), child, "a repeat finds the open chat");
    assert!(site.accept(child, site.agent).await);
    assert_eq!(names(&site.outbox().await, "Kind"), ["accepted"]);
    let other = json!({"sender": "max:2", "standBy": true});
    let first = guid(&site.receive(&with(message("mid.a", 1000), &other)).await["chatId"]);
    let second = guid(&site.receive(&with(message("mid.b", 2000), &json!({"sender": "max:2"}))).await["chatId"]);
    assert_ne!(first, second);
    assert_eq!(site.chat(second).await["status"], "Waiting for processing");
    assert_eq!(site.chat(second).await["parentId"], first.to_string());
    site.lock("max:2", 1).await;
    assert_eq!(site.hand_over(second).await, json!({"success": true, "queued": true, "chatId": null}));
    assert_eq!(guid(&site.hand_over(second).await["chatId"]), second);
    assert_eq!(site.hand_over(Uuid::from_u128(1)).await["success"], false);
    site.close(child, site.agent).await;
    assert_eq!(names(&site.outbox().await, "Kind"), ["accepted", "closed"]);
}

async fn a_bots_dialog_is_not_closed_by_the_clock(site: Site) {
    let by_bot = json!({"standBy": true});
    let bot = guid(&site.receive(&with(message("mid.1", 1000), &by_bot)).await["chatId"]);
    site.receive(&with(message("mid.2", 2000), &by_bot)).await;
    site.advance(90 * 60_000).await;
    assert_eq!(site.chat(bot).await["completed"], false, "Creatio would close it an hour after the second message");
}

async fn a_transfer_is_told_once_and_only_a_closing_writes_closed(site: Site) {
    let chat = site.accepted_chat().await;
    let second = site.add_agent("Мария Ким", "kim@acme.example").await;
    let child = site.transfer(chat, site.agent, &json!({"toAgentId": second})).await;
    let waiting = site.transfer(child, second, &json!({"toQueueId": site.queue})).await;
    assert_eq!(site.send(child, second, "late").await["sent"], false);
    assert!(site.accept(waiting, site.agent).await);
    site.close(waiting, site.agent).await;
    site.close(waiting, site.agent).await;
    let rows = site.outbox().await;
    assert_eq!(names(&rows, "Kind"), ["accepted", "transferred", "transferred", "accepted", "closed"]);
    assert_eq!((guid(&rows[1]["ChatId"]), guid(&rows[1]["ParentChatId"])), (child, chat));
    assert_eq!((guid(&rows[1]["AgentId"]), &rows[1]["AgentName"]), (second, &json!("Мария Ким")));
    assert_eq!((guid(&rows[2]["AgentId"]), &rows[2]["AgentName"]), (Uuid::nil(), &json!("")));
    assert_eq!(rows[4]["Reason"], "agent");
    assert!(names(&rows, "Recipient").iter().all(|recipient| recipient == SENDER));
    let seqs: Vec<i64> = rows.iter().map(|row| row["Seq"].as_i64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|left, right| left < right), "{seqs:?}");
    assert_eq!(site.receive(&message("mid.2", 2000)).await["success"], true);
}

async fn rows_of_a_chat_name_who_wrote_in_it_though_its_contact_has_two_identities(site: Site) {
    let other = "max:100000008";
    let first = site.accepted_chat().await;
    let contact = site.get(&format!("/odata/OmniChat({first})")).await["ContactId"].clone();
    let identity = json!({"ContactId": contact, "ChannelId": site.channel, "ChannelIdentity": other});
    site.insert("ContactIdentity", identity).await;
    let moved = site.transfer(first, site.agent, &json!({"toQueueId": site.queue})).await;
    assert!(site.accept(moved, site.agent).await);
    site.send(moved, site.agent, "answer").await;
    site.close(moved, site.agent).await;
    assert!(names(&site.outbox().await, "Recipient").iter().all(|recipient| recipient == SENDER));

    let of_other = with(message("mid.2", 2000), &json!({"sender": other}));
    let second = guid(&site.receive(&of_other).await["chatId"]);
    assert_eq!(site.get(&format!("/odata/OmniChat({second})")).await["ContactId"], contact);
    assert!(site.accept(second, site.agent).await);
    site.send(second, site.agent, "answer").await;
    site.close(second, site.agent).await;
    let rows = site.outbox().await;
    let named: Vec<(&str, &str)> =
        rows.iter().skip(5).map(|row| (row["Kind"].as_str().unwrap(), row["Recipient"].as_str().unwrap())).collect();
    assert_eq!(named, [("accepted", other), ("message", other), ("closed", other)]);
}

async fn close_active_chat(site: &Site, chat: &str) -> u16 {
    let path = "/rest/OmnichannelChatService/CloseActiveChat";
    site.call(Method::POST, path, Some(&json!({"chatId": chat}))).await.status().as_u16()
}

async fn the_relay_closes_a_chat_once_and_an_empty_one_not_at_all(site: Site) {
    let chat = guid(&site.receive(&message("mid.1", 1000)).await["chatId"]);
    for _ in 0..2 {
        assert_eq!(close_active_chat(&site, &chat.to_string().to_uppercase()).await, 200);
    }
    let rows = site.outbox().await;
    assert_eq!((names(&rows, "Kind"), names(&rows, "Reason")), (vec!["closed".to_owned()], vec!["relay".to_owned()]));
    let contact = site.chat(chat).await["contactId"].clone();
    let empty = json!({"ContactId": contact, "ChannelId": site.channel, "QueueId": site.queue, "StatusId": "79bccffa-8c8b-4863-b376-a69d2244182b"});
    let empty = site.insert("OmniChat", empty).await;
    assert_eq!(close_active_chat(&site, &empty.to_string()).await, 500);
}

async fn files_of_an_agent_follow_the_text_with_their_sizes(site: Site) {
    let chat = site.accepted_chat().await;
    let files = json!([{"name": "договор.pdf", "mimeType": "application/pdf", "base64": "0L/RgNC40LLQtdGC"},
        {"name": "фото.jpg", "mimeType": "image/jpeg", "base64": "YWJj"}]);
    let body = json!({"agentId": site.agent, "text": "смотрите", "files": files});
    let (_, sent) = site.act(&format!("/chats/{chat}/send"), &body).await;
    assert_eq!((&sent["sent"], sent["messageIds"].as_array().unwrap().len()), (&json!(true), 2), "{sent}");
    let rows = site.outbox().await;
    assert_eq!(names(&rows, "MessageType"), ["", "text", "image"]);
    assert_eq!(names(&rows, "Text"), ["", "смотрите", ""]);
    assert_eq!((&rows[1]["MessageId"], &rows[2]["MessageId"]), (&sent["messageIds"][0], &sent["messageIds"][1]));
    let files: Value = serde_json::from_str(rows[2]["Files"].as_str().unwrap()).unwrap();
    let shown: Vec<Value> = files
        .as_array()
        .unwrap()
        .iter()
        .map(|file| json!([file["name"], file["mimeType"], file["size"], file["type"]]))
        .collect();
    assert_eq!(
        json!(shown),
        json!([["договор.pdf", "application/pdf", 12, "file"], ["фото.jpg", "image/jpeg", 3, "image"]])
    );
    let path = format!("/rest/FileService/Download/OmnichannelMessageFile/{}", files[0]["id"].as_str().unwrap());
    assert_eq!(site.call(Method::GET, &path, None).await.text().await.unwrap(), "привет");
}

async fn an_agent_is_told_where_his_message_cannot_be_handed_on(site: Site) {
    let chat = site.accepted_chat().await;
    site.act("/outbox/broken", &json!({"broken": true})).await;
    let lost = site.send(chat, site.agent, "lost").await;
    assert_eq!(lost["sent"], false);
    assert!(lost["error"].as_str().unwrap().contains("error"), "{lost}");
    site.act("/outbox/broken", &json!({"broken": false})).await;
    assert_eq!(names(&site.outbox().await, "Kind"), ["accepted"]);
    assert_eq!(names(&site.transcript(SENDER).await, "text"), ["text of mid.1"]);
    assert_eq!(site.send(chat, site.agent, "again").await["sent"], true);
    assert_eq!(names(&site.outbox().await, "Text"), ["", "again"]);
}

async fn an_outbox_row_may_end_anew_until_it_is_delivered_and_the_agent_is_told_of_failures(site: Site) {
    let chat = site.accepted_chat().await;
    site.send(chat, site.agent, "ответ").await;
    let row = site.outbox().await[1].clone();
    let path = format!("/odata/MaxOutbox({})", row["Id"].as_str().unwrap());
    let table = [
        (json!({"State": "Failed", "Error": "ж".repeat(251)}), 500),
        (json!({"State": "Failed", "Error": "ж".repeat(250)}), 204),
        (json!({"State": "Failed", "Error": "ж".repeat(250)}), 204),
        (json!({"State": "Pending"}), 500),
        (json!({"Text": "другой"}), 500),
        // Tried again by an administrator, with another end each time.
        (json!({"State": "Uncertain", "Error": "нет ответа"}), 204),
        (json!({"State": "Failed", "Error": "остановлен"}), 204),
        (json!({"State": "Delivered", "Error": ""}), 204),
        (json!({"State": "Delivered"}), 204),
        (json!({"State": "Failed", "Error": "поздно"}), 500),
        (json!({"State": "Uncertain", "Error": "поздно"}), 500),
    ];
    for (body, status) in table {
        assert_eq!(site.call(Method::PATCH, &path, Some(&body)).await.status(), status, "{body}");
    }
    assert_eq!(site.get(&path).await["State"], "Delivered");
    let transcript = site.transcript(SENDER).await;
    assert_eq!(names(&transcript, "author"), ["customer", "agent", "system", "system", "system", "system"]);
    for (line, why) in [(2, "ж".repeat(250).as_str()), (3, "нет ответа"), (4, "остановлен")] {
        assert!(transcript[line]["text"].as_str().unwrap().contains(why), "the agent reads why: {}", transcript[line]);
    }
    assert_eq!(site.call(Method::DELETE, &path, None).await.status(), 403);
    let missing = format!("/odata/MaxOutbox({})", Uuid::new_v4());
    assert_eq!(site.call(Method::PATCH, &missing, Some(&json!({"State": "Delivered"}))).await.status(), 404);
}

async fn a_chat_that_is_closed_by_the_clock_says_so(site: Site) {
    site.update("ChatQueue", site.queue, &json!({"ChatTimeout": 10})).await;
    let chat = site.accepted_chat().await;
    site.send(chat, site.agent, "ответ").await;
    site.advance(11 * 60_000).await;
    assert_eq!(site.chat(chat).await["completed"], true);
    assert_eq!(names(&site.outbox().await, "Reason"), ["", "", "timeout"]);
}

async fn a_written_row_gives_a_hint_with_the_secret(site: Site) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhooks/creatio/default/support", listener.local_addr().unwrap());
    let (sender, mut hints) = tokio::sync::mpsc::unbounded_channel();
    let receiver = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let sender = sender.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 10_000).await.unwrap();
            let secret = parts.headers["authorization"].to_str().unwrap().to_owned();
            sender.send((secret, serde_json::from_slice::<Value>(&body).unwrap())).unwrap();
        }
    });
    tokio::spawn(async move { axum::serve(listener, receiver).await });
    let settings = guid(&site.get(&format!("/odata/Channel({})", site.channel)).await["MsgSettingsId"]);
    site.update("MaxChannelSettings", settings, &json!({"NotifyUrl": url})).await;
    site.accepted_chat().await;
    let (secret, body) = hints.recv().await.unwrap();
    assert_eq!(secret, "Bearer invented-notify-secret");
    assert_eq!(body, json!({"channelSource": SOURCE, "seq": site.outbox().await[0]["Seq"]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_technical_user_reads_the_outbox_and_calls_the_package() {
    // The simulator's half of this stands with its other rules of signing in.
    let Some(site) = Site::package(super::site::VARIANTS[1]).await else { return };
    site.act("/agents", &json!({"name": "Пётр", "login": "petr", "password": "invented"})).await;
    let login = json!({"UserName": "petr", "UserPassword": "invented"});
    let root = site.url();
    let answer = site.client.post(format!("{root}/ServiceModel/AuthService.svc/Login")).body(login.to_string());
    let answer = answer.send().await.unwrap();
    let cookies: Vec<String> = answer
        .headers()
        .get_all("set-cookie")
        .iter()
        .map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned())
        .collect();
    let get = |path: &str| site.client.get(format!("{root}{path}")).header("cookie", cookies.join("; ")).send();
    assert_eq!(get("/odata/Contact").await.unwrap().status(), 200);
    assert_eq!(get("/odata/MaxOutbox").await.unwrap().status(), 403);
    let ping = get("/rest/MaxChannelService/ping").await.unwrap();
    assert_eq!(ping.status(), 403);
    // Whoever installs the package need not be let to use it, and sees what is there.
    assert_eq!(read(ping).await, json!({"success": false, "version": "1.0.0", "contract": 1}));
}
