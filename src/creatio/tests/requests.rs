//! What goes over the wire, whole.

use uuid::{Uuid, uuid};

use super::*;
use crate::creatio::package::cut;

const ID: Uuid = uuid!("0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11");
const OTHER: Uuid = uuid!("1f6c0000-0000-4000-8000-00000000000a");

fn message() -> Receive {
    Receive {
        external_id: "mid.0001a2b3".into(),
        channel_source: "max-bot:254700011".into(),
        sender: "max:91234567".into(),
        name: "Анна Петрова".into(),
        phone: String::new(),
        timestamp: 1_790_000_000_123,
        direction: Direction::Incoming,
        author: Author::Customer,
        text: "Здравствуйте".into(),
        kind: MessageType::Text,
        replaces_external_id: String::new(),
        stand_by: false,
        attachments: vec![Attachment {
            id: ID,
            name: "photo.jpg".into(),
            mime_type: "image/jpeg".into(),
            size: 34567,
            kind: MessageType::Image,
        }],
    }
}

#[tokio::test]
async fn receive_sends_the_contracts_json_to_the_letter() {
    let (client, site) = signed_in(|_| {
        json(
            200,
            r#"{"success":true,"duplicate":false,"queued":false,"messageId":"0D5BB5B1-7A4C-5E43-9D0E-7B8E2F2F4C11","chatId":"00000000-0000-0000-0000-000000000000","contactId":"","errorCode":null,"errorMessage":null}"#,
        )
    });
    let answer = client.receive(&message()).await.unwrap();
    assert_eq!(
        site.last(),
        "POST https://acme.example/rest/MaxChannelService/receive\n\
         content-type: application/json; charset=utf-8\n\
         authorization: Bearer token-1\n\
         {\"externalId\":\"mid.0001a2b3\",\"channelSource\":\"max-bot:254700011\",\"sender\":\"max:91234567\",\
         \"name\":\"Анна Петрова\",\"phone\":\"\",\"timestamp\":1790000000123,\"direction\":\"incoming\",\
         \"author\":\"customer\",\"text\":\"Здравствуйте\",\"type\":\"text\",\"replacesExternalId\":\"\",\"standBy\":false,\
         \"attachments\":[{\"id\":\"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11\",\"name\":\"photo.jpg\",\
         \"mimeType\":\"image/jpeg\",\"size\":34567,\"type\":\"image\"}]}"
    );
    assert_eq!(
        answer,
        ReceiveAnswer {
            success: true,
            duplicate: false,
            queued: false,
            message_id: Some(ID),
            chat_id: None,
            contact_id: None,
            error_code: None,
            error_message: String::new()
        }
    );
}

#[test]
fn outgoing_authors_have_the_contracts_names() {
    let names = [Author::Customer, Author::AutoReply, Author::CloseMessage, Author::Bot]
        .map(|author| serde_json::to_value(author).unwrap());
    assert_eq!(names, ["customer", "autoReply", "closeMessage", "bot"]);
    assert_eq!(serde_json::to_value(Direction::Outgoing).unwrap(), "outgoing");
}

#[tokio::test]
async fn strings_lose_their_nulls_before_they_are_sent() {
    let (client, site) = signed_in(|request| {
        if request.uri().path().contains("odata") { json(201, "{}") } else { json(200, r#"{"success":true}"#) }
    });
    let mut with_null = message();
    with_null.text = "a\0b".into();
    with_null.attachments[0].name = "c\0d".into();
    client.receive(&with_null).await.unwrap();
    client.create("Contact", ID, &serde_json::json!({ "Name": "e\0f", "Deep": [{ "g": "h\0" }] })).await.unwrap();
    for request in site.shown() {
        assert!(!request.contains('\0') && !request.contains("\\u0000"), "{request}");
    }
    assert!(site.last().contains(r#""Name":"ef""#));
}

/// One call each, and the request that it makes after the sign-in.
#[tokio::test]
async fn every_call_makes_the_documented_request() {
    let bearer = "authorization: Bearer token-1";
    let odata = "content-type: application/json; charset=utf-8; IEEE754Compatible=true";
    let (client, site) = signed_in(|request| match request.uri().path() {
        path if path.ends_with("/ping") => json(200, r#"{"success":true,"version":"1.0.0","contract":1}"#),
        path if path.contains("Download") => answer(200, "image/jpeg", "bytes"),
        path if path.contains("CloseActiveChat") => answer(200, "", ""),
        path if path.contains("/rest/") => json(200, r#"{"success":true,"queued":false,"duplicate":true}"#),
        path if path.ends_with(')') && request.method() != "GET" => answer(204, "", ""),
        path if path.ends_with(')') => json(200, r#"{"Id":"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11"}"#),
        _ if request.method() == "POST" => json(201, r#"{"Id":"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11","Message":""}"#),
        _ => json(200, r#"{"value":[]}"#),
    });
    let root = "https://acme.example";
    let chat_columns =
        "$select=Id,StatusId,OperatorId,ParentId,ContactId,LastMessageDirection,ModifiedOn,CompletionDate";

    assert_eq!(client.ping().await.unwrap(), Ping { version: "1.0.0".into(), contract: 1 });
    assert_eq!(site.last(), format!("GET {root}/rest/MaxChannelService/ping\n{bearer}"));

    let stored = client.upload_file(ID, "отчёт 1.pdf", "application/pdf", Bytes::from_static(b"abc")).await.unwrap();
    assert_eq!(stored, FileUpload::Stored { duplicate: true });
    assert_eq!(
        site.last(),
        format!(
            "POST {root}/rest/MaxChannelService/file?id={ID}&name=%D0%BE%D1%82%D1%87%D1%91%D1%82%201.pdf&\
             mimeType=application%2Fpdf\ncontent-type: application/octet-stream\n{bearer}\nabc"
        )
    );

    client.hand_over(ID).await.unwrap();
    assert_eq!(
        site.last(),
        format!(
            "POST {root}/rest/MaxChannelService/handOver\ncontent-type: application/json; charset=utf-8\n{bearer}\n\
             {{\"chatId\":\"{ID}\"}}"
        )
    );

    client.close_chat(ID).await.unwrap();
    assert_eq!(
        site.last(),
        format!(
            "POST {root}/rest/OmnichannelChatService/CloseActiveChat\ncontent-type: application/json; charset=utf-8\n\
             {bearer}\n{{\"chatId\":\"{ID}\"}}"
        )
    );

    client.outbox("max-bot:254700011", 7).await.unwrap();
    assert_eq!(
        site.last(),
        format!(
            "GET {root}/odata/MaxOutbox?$filter=ChannelSource%20eq%20%27max-bot%3A254700011%27%20and%20State%20eq%20\
             %27Pending%27%20and%20Seq%20gt%207&$orderby=Seq%20asc&$top=100\n{bearer}"
        )
    );

    client.report(ID, &Report::Delivered).await.unwrap();
    assert_eq!(
        site.last(),
        format!("PATCH {root}/odata/MaxOutbox({ID})\n{odata}\n{bearer}\n{{\"State\":\"Delivered\"}}")
    );
    client.report(ID, &Report::Uncertain("нет ответа".into())).await.unwrap();
    assert!(site.last().ends_with("{\"Error\":\"нет ответа\",\"State\":\"Uncertain\"}"), "{}", site.last());

    let file = client.download_file(ID, 100).await.unwrap().unwrap();
    assert_eq!((file.mime_type.as_str(), &file.bytes[..]), ("image/jpeg", &b"bytes"[..]));
    assert_eq!(site.last(), format!("GET {root}/rest/FileService/Download/OmnichannelMessageFile/{ID}\n{bearer}"));

    client.chat(ID).await.unwrap().unwrap();
    assert_eq!(site.last(), format!("GET {root}/odata/OmniChat({ID})?{chat_columns}\n{bearer}"));

    client.children(ID).await.unwrap();
    assert_eq!(
        site.last(),
        format!(
            "GET {root}/odata/OmniChat?{chat_columns}&$filter=Parent%2FId%20eq%20{ID}&\
             $orderby=ModifiedOn%20asc,Id%20asc&$top=200\n{bearer}"
        )
    );

    client.completed_chats(OTHER, "2026-08-01T09:15:00.1239Z".parse().unwrap()).await.unwrap();
    // Before it the same for those that an agent has closed.
    assert_eq!(
        site.last(),
        format!(
            "GET {root}/odata/OmniChat?{chat_columns}&$filter=Channel%2FId%20eq%20{OTHER}%20and%20Status%2FId%20eq%20\
             8e7cc4aa-261b-4f62-9c7b-7d7f1e68c86a%20and%20ModifiedOn%20ge%202026-08-01T09%3A15%3A00.123Z&\
             $orderby=ModifiedOn%20asc,Id%20asc&$top=200\n{bearer}"
        )
    );

    let queue = ChatQueue {
        id: ID,
        name: "MAX: Поддержка".into(),
        operator_routing_rule_id: Some(OTHER),
        simultaneous_chats: 5,
        chat_timeout: 0,
    };
    assert_eq!(client.create(ChatQueue::COLLECTION, queue.id, &queue).await.unwrap(), Created::New);
    assert_eq!(
        site.last(),
        format!(
            "POST {root}/odata/ChatQueue\n{odata}\n{bearer}\n{{\"ChatTimeout\":0,\"Id\":\"{ID}\",\
             \"Name\":\"MAX: Поддержка\",\"OperatorRoutingRuleId\":\"{OTHER}\",\"SimultaneousChats\":5}}"
        )
    );

    client.get::<Channel>(ID).await.unwrap().unwrap();
    assert_eq!(
        site.last(),
        format!(
            "GET {root}/odata/Channel({ID})?$select=Id,Name,ProviderId,MsgSettingsId,Source,ChatQueueId,IsActive\n{bearer}"
        )
    );

    client.queue_agents(ID).await.unwrap();
    assert_eq!(
        site.last(),
        format!(
            "GET {root}/odata/ChatQueueOperator?$select=Id,ChatQueueId,OperatorId&$filter=ChatQueue%2FId%20eq%20{ID}\n\
             {bearer}"
        )
    );

    client.routing_rules().await.unwrap();
    assert_eq!(site.last(), format!("GET {root}/odata/OperatorRoutingRules?$select=Id,Code\n{bearer}"));

    assert_eq!(client.delete("ChatQueueOperator", ID).await.unwrap(), Deleted::Now);
    assert_eq!(site.last(), format!("DELETE {root}/odata/ChatQueueOperator({ID})\n{bearer}"));

    let calls = client.calls();
    assert_eq!(calls.total(), site.shown().len() as u64);
    assert_eq!((calls.sign_in, calls.package, calls.chat, calls.file), (1, 2, 1, 2));
}

#[tokio::test]
async fn on_net_framework_every_path_has_its_prefix_and_a_site_may_live_below_a_path() {
    for (url, expected) in [
        ("https://acme.example/0", "https://acme.example/0/odata/Channel"),
        ("https://acme.example/crm/", "https://acme.example/crm/0/odata/Channel"),
    ] {
        let site = Site::new(|request| match request.uri().path() {
            "/connect/token" => json(200, TOKEN),
            _ => json(200, r#"{"value":[]}"#),
        });
        let settings = Settings { url: url.parse().unwrap(), runtime: Runtime::Framework, ..settings(oauth()) };
        Client::new(site.clone(), settings).list::<Channel>(Query::new()).await.unwrap();
        assert!(site.last().starts_with(&format!("GET {expected}?")), "{}", site.last());
    }
}

#[test]
fn literals_cannot_leave_their_quotes() {
    assert_eq!(text_literal("O'Neil' or '1' eq '1\0"), "'O''Neil'' or ''1'' eq ''1'");
}

#[tokio::test]
async fn a_long_file_name_keeps_its_extension_and_the_address_short() {
    let (client, site) = signed_in(|_| json(200, r#"{"success":true}"#));
    client.upload_file(ID, &format!("{}.pdf", "ы".repeat(2000)), "application/pdf", Bytes::new()).await.unwrap();
    let request = site.last();
    let address = request.lines().next().unwrap();
    assert!(address.len() < 2000 && address.contains(".pdf&"), "{} {address}", address.len());
}

proptest::proptest! {
    /// `Error` of the outbox takes 250 UTF-16 units, and whoever reads it sees whole characters.
    #[test]
    fn a_report_fits_its_column_and_parts_no_character(text in "[aж👍🏽\u{301}\u{200d}\0 ]{0,400}", units in 2_usize..260) {
        let short = cut(&text, units);
        proptest::prop_assert!(short.encode_utf16().count() <= units);
        proptest::prop_assert!(!short.contains('\0'));
        let clean = text.replace('\0', "");
        if clean.encode_utf16().count() <= units {
            proptest::prop_assert_eq!(short, clean);
        } else {
            let kept = short.strip_suffix('…').unwrap();
            let next = clean.strip_prefix(kept).unwrap().chars().next().unwrap();
            let parted = ['\u{301}', '\u{200d}', '\u{1f3fd}'].contains(&next) || kept.ends_with('\u{200d}');
            proptest::prop_assert!(kept.is_empty() || !parted, "{:?} of {:?}", kept, clean);
        }
    }
}

#[test]
fn the_ids_of_the_contract_come_out() {
    assert_eq!(ids::namespace(), Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"maxchannel.dev"));
    assert_eq!(ids::namespace(), uuid!("bab06c62-a577-5588-8533-7dd877152375"));
    assert_eq!(ids::provider(), uuid!("889213f3-6d22-55a4-8421-4a8a63914f71"));
    let source = "max-bot:254700011";
    assert_eq!(
        ids::queue_agent(source, ID),
        Uuid::new_v5(&ids::namespace(), format!("queue-agent/{source}/{ID}").as_bytes())
    );
    let all = [ids::provider(), ids::settings(source), ids::channel(source), ids::queue(source)];
    assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
}
