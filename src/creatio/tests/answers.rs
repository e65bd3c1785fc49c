//! What answers mean.

use uuid::{Uuid, uuid};

use super::*;

const ID: Uuid = uuid!("0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11");

/// Creatio API reference, 2.6: status, content type, body; the class, whether it may have been
/// done, and words of the sentence.
#[tokio::test]
async fn every_error_shape_has_its_class_and_its_deepest_words() {
    let html = "text/html; charset=utf-8";
    let js = "application/json";
    let odata = |message: &str, kind: &str| {
        format!(
            r#"{{"error":{{"code":"","message":"An error has occurred.","innererror":{{"message":"outer","type":"Terrasoft.Common.DbOperationException","stacktrace":"at X","internalexception":{{"message":"{message}","type":"{kind}","stacktrace":"at Y"}}}}}}}}"#
        )
    };
    for (status, kind, body, class, done, piece) in [
        (500, js, odata("42P01: relation does not exist", "Npgsql.PostgresException"), Class::Transient, true, "42P01"),
        (400, js, odata("Could not find a property named 'X'", ""), Class::BadRequest, false, "named 'X'"),
        (500, js, odata("Could not find a property named 'X'", ""), Class::BadRequest, false, "named 'X'"),
        (500, js, odata("22001: value too long for type character varying(50)", ""), Class::BadRequest, false, "22001"),
        (500, js, odata("no access", "System.Security.SecurityException"), Class::AccessDenied, false, "no access"),
        (500, js, odata("23503: update or delete violates foreign key constraint", ""), Class::InUse, false, "23503"),
        (500, js, odata("The DELETE statement conflicted with the REFERENCE constraint \\\"FK\\\"", ""), Class::InUse, false, "REFERENCE"),
        (400, js, r#"{"error":{"code":"","message":"Bad filter"}}"#.into(), Class::BadRequest, false, "Bad filter"),
        (500, js, r#"{"Message":"An error has occurred.","ExceptionMessage":"real cause","ExceptionType":"T","StackTrace":"at"}"#.into(), Class::Transient, true, "real cause"),
        (405, js, r#"{"Message":"not allowed"}"#.into(), Class::BadRequest, false, "not allowed"),
        (200, js, r#"{"responseStatus":{"ErrorCode":"DbOperationException","Message":"db is away","Errors":[]},"success":false}"#.into(), Class::Transient, true, "db is away"),
        (200, js, r#"{"success":false,"errorInfo":{"errorCode":"SecurityException","message":"no right","stackTrace":null}}"#.into(), Class::AccessDenied, false, "no right"),
        (500, html, "<html><head><title>Server Error</title><script>var a='<b>';</script></head><body>Runtime &amp; Error</body>".into(), Class::Transient, true, "Server Error Runtime & Error"),
        (502, html, "<html>Bad gateway</html>".into(), Class::Transient, true, "HTML"),
        (503, "", "busy".into(), Class::Transient, true, "busy"),
        (504, "", String::new(), Class::Transient, true, "504"),
        (422, js, "{}".into(), Class::BadRequest, false, "422"),
        (429, js, "{}".into(), Class::Throttled { retry_after: None }, false, "429"),
    ] {
        let shown = body.clone();
        let (client, _) = signed_in(move |_| answer(status, kind, &body));
        let error = client.delete("Channel", ID).await.unwrap_err();
        assert_eq!((error.class(), error.may_have_been_done()), (class, done), "{shown} -> {error}");
        let sentence = error.to_string();
        assert!(sentence.contains(piece) && sentence.contains("deleting Channel"), "{shown} -> {sentence}");
        assert!(sentence.chars().count() < 400 && !sentence.contains('<') && !sentence.contains("at Y"), "{sentence}");
    }
}

#[tokio::test]
async fn a_long_page_is_quoted_with_at_most_200_characters() {
    let (client, _) = signed_in(|_| answer(500, "text/html", &format!("<p>{}</p>", "ы".repeat(5000))));
    let error = client.chat(ID).await.unwrap_err().to_string();
    assert_eq!(error.matches('ы').count(), 200);
}

#[tokio::test]
async fn retry_after_is_kept() {
    let (client, _) = signed_in(|_| {
        Ok(http::Response::builder().status(429).header("retry-after", "17").body(Bytes::new()).unwrap())
    });
    let class = client.chat(ID).await.unwrap_err().class();
    assert_eq!(class, Class::Throttled { retry_after: Some(Duration::from_secs(17)) });
}

#[tokio::test]
async fn making_a_row_twice_is_no_error_in_either_databases_words_nor_with_either_status() {
    for (status, words) in [
        (
            500,
            "Violation of PRIMARY KEY constraint 'PKChannel'. Cannot insert duplicate key in object 'dbo.Channel'. The duplicate key value is (x).",
        ),
        (400, "Violation of PRIMARY KEY constraint 'PKChannel'."),
        (500, r#"23505: duplicate key value violates unique constraint \"PKChannel\""#),
        (409, r#"23505: duplicate key value violates unique constraint \"PKChannel\""#),
    ] {
        let body = format!(r#"{{"error":{{"message":"x","innererror":{{"message":"{words}"}}}}}}"#);
        let (client, _) = signed_in(move |_| json(status, &body));
        let made = client.create("Channel", ID, &serde_json::json!({ "Name": "n" })).await.unwrap();
        assert_eq!(made, Created::AlreadyThere);
    }
    // A site that hides its details is asked whether the row is there.
    for there in [true, false] {
        let (client, _) = signed_in(move |request| match request.method().as_str() {
            "POST" => json(500, r#"{"error":{"code":"","message":"An error has occurred."}}"#),
            _ if there => json(200, &format!(r#"{{"Id":"{ID}"}}"#)),
            _ => answer(404, "", ""),
        });
        let made = client.create("Channel", ID, &serde_json::json!({})).await;
        assert_eq!(
            made.map_err(|error| error.class()),
            if there { Ok(Created::AlreadyThere) } else { Err(Class::Transient) }
        );
    }
    // A reference to a row that is not there has the same number as a row that is still referred
    // to.
    let (client, _) = signed_in(|_| json(500, r#"{"error":{"message":"23503: foreign key"}}"#));
    let error = client.create("Channel", ID, &serde_json::json!({})).await.unwrap_err();
    assert_eq!(error.class(), Class::BadRequest);
}

#[tokio::test]
async fn what_is_not_there_is_told_apart_from_what_the_site_does_not_know() {
    const MISS: &str = r#"{"Message":"No HTTP resource was found that matches the request URI 'x'.","MessageDetail":"No type was found that matches the controller named 'MaxOutbox'."}"#;
    let (client, _) = signed_in(|_| answer(404, "", ""));
    assert_eq!(client.chat(ID).await.unwrap(), None);
    assert_eq!(client.get::<Channel>(ID).await.unwrap(), None);
    assert_eq!(client.delete("Channel", ID).await.unwrap(), Deleted::Gone);
    assert_eq!(client.report(ID, &Report::Delivered).await.unwrap_err().class(), Class::NotFound);
    assert_eq!(client.download_file(ID, 10).await.unwrap(), None);
    for status in [200, 404] {
        let (client, _) = signed_in(move |_| json(status, MISS));
        assert_eq!(client.outbox("max-bot:1", 0).await.unwrap_err().class(), Class::PackageMissing);
        assert_eq!(client.get::<MaxChannelSettings>(ID).await.unwrap_err().class(), Class::PackageMissing);
        assert_eq!(client.chat(ID).await.unwrap_err().class(), Class::NotFound);
        assert_eq!(client.delete("Channel", ID).await.unwrap_err().class(), Class::NotFound);
        let made = client.create("MaxChannelSettings", ID, &serde_json::json!({})).await;
        assert_eq!(made.unwrap_err().class(), Class::PackageMissing);
        assert_eq!(client.report(ID, &Report::Delivered).await.unwrap_err().class(), Class::PackageMissing);
    }
}

#[tokio::test]
async fn a_missing_package_and_one_of_another_contract_are_named() {
    for reply in
        [page(404), answer(404, "", ""), json(404, "{}"), json(200, r#"{"success":true,"version":"9","contract":2}"#)]
    {
        let reply = Mutex::new(reply);
        let (client, _) = signed_in(move |_| reply.lock().unwrap().clone());
        let error = client.ping().await.unwrap_err();
        assert_eq!(error.class(), Class::PackageMissing);
        assert!(error.to_string().contains("install the package"), "{error}");
    }
}

#[tokio::test]
async fn a_list_without_rows_in_it_is_an_error_even_with_200_and_so_is_one_cut_short() {
    for (body, piece) in
        [("{}", "gives no reason"), (r#"{"value":{}}"#, "gives no reason"), (r#"{"value":[{"Id""#, "ends too early")]
    {
        let (client, _) = signed_in(move |_| json(200, body));
        let error = client.list::<Channel>(Query::new()).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient);
        assert!(error.to_string().contains(piece), "{error}");
    }
    let (client, _) = signed_in(|_| json(200, r#"{"success":true,"messa"#));
    assert!(client.hand_over(ID).await.unwrap_err().may_have_been_done());
}

#[tokio::test]
async fn the_next_page_is_followed_on_the_sites_own_host_only() {
    let page_two = r#"{"value":[{"Id":"00000000-0000-0000-0000-000000000002"}]}"#;
    for (link, followed) in [
        ("https://acme.example/odata/Channel?$skiptoken=2", true),
        ("http://acme.example:8080/odata/Channel?$skiptoken=2", true),
        ("Channel?$skiptoken=2", true),
        ("https://evil.example/odata/Channel?$skiptoken=2", false),
        ("https://acme.example.evil.example/odata/Channel", false),
        ("https://acme.example@evil.example/odata/Channel", false),
    ] {
        let (client, site) = signed_in(move |request| {
            if request.uri().query().unwrap_or_default().contains("skiptoken") {
                return json(200, page_two);
            }
            json(
                200,
                &format!(r#"{{"value":[{{"Id":"00000000-0000-0000-0000-000000000001"}}],"@odata.nextLink":"{link}"}}"#),
            )
        });
        let rows = client.list::<Channel>(Query::new()).await;
        if followed {
            assert_eq!(rows.unwrap().len(), 2, "{link}");
            assert!(
                site.last().starts_with("GET https://acme.example/odata/Channel?$skiptoken=2\n"),
                "{}",
                site.last()
            );
        } else {
            assert!(rows.unwrap_err().to_string().contains("another host"), "{link}");
            assert_eq!(site.count("evil"), 0);
        }
    }
}

#[tokio::test]
async fn receive_answers_are_read_as_the_contract_says() {
    for (body, expected) in [
        (
            r#"{"success":true,"duplicate":true,"queued":true,"messageId":null,"chatId":null,"contactId":null}"#,
            (true, true, true, None),
        ),
        (
            r#"{"success":false,"errorCode":"channel_not_found","errorMessage":"none"}"#,
            (false, false, false, Some(ErrorCode::ChannelNotFound)),
        ),
        (
            r#"{"success":false,"errorCode":"channel_inactive"}"#,
            (false, false, false, Some(ErrorCode::ChannelInactive)),
        ),
        (r#"{"success":false,"errorCode":"file_not_found"}"#, (false, false, false, Some(ErrorCode::FileNotFound))),
        (r#"{"success":false,"errorCode":"bad_request"}"#, (false, false, false, Some(ErrorCode::BadRequest))),
        (r#"{"success":false,"errorCode":"internal"}"#, (false, false, false, Some(ErrorCode::Internal))),
        (r#"{"success":false,"errorCode":"later"}"#, (false, false, false, Some(ErrorCode::Other("later".into())))),
    ] {
        let (client, _) = signed_in(move |_| json(200, body));
        let message: Receive = serde_json::from_str(
            r#"{"externalId":"m","channelSource":"s","sender":"max:1","timestamp":1,"direction":"incoming","author":"customer","type":"text"}"#,
        )
        .unwrap();
        let answer = client.receive(&message).await.unwrap();
        assert_eq!((answer.success, answer.duplicate, answer.queued, answer.error_code), expected);
    }
    let (client, _) = signed_in(|_| json(200, r#"{"success":false,"errorInfo":{"errorCode":"X","message":"broken"}}"#));
    assert_eq!(client.hand_over(ID).await.unwrap_err().class(), Class::Transient);
}

#[tokio::test]
async fn a_file_too_big_is_an_answer_and_not_an_error() {
    let (client, _) = signed_in(|_| json(200, r#"{"success":false,"errorCode":"file_too_big","maxBytes":10485760}"#));
    let too_big = client.upload_file(ID, "a", "b/c", Bytes::new()).await.unwrap();
    assert_eq!(too_big, FileUpload::TooBig { max_bytes: Some(10_485_760) });
    let (client, _) = signed_in(|_| page(413));
    let too_big = client.upload_file(ID, "a", "b/c", Bytes::new()).await.unwrap();
    assert_eq!(too_big, FileUpload::TooBig { max_bytes: None });
}

#[tokio::test]
async fn a_page_that_is_the_wanted_file_is_a_file_and_a_sign_in_page_is_not() {
    let (client, site) = signed_in(|_| {
        let file =
            http::Response::builder().header("content-type", "text/html").header("content-disposition", "attachment");
        Ok(file.body(Bytes::from_static(b"<html>")).unwrap())
    });
    assert_eq!(&client.download_file(ID, 100).await.unwrap().unwrap().bytes[..], b"<html>");
    assert_eq!(site.shown().len(), 2);
    let (client, _) = signed_in(|_| Err(TransportError::TooLarge { host: "acme.example".into(), limit: 100 }));
    assert_eq!(client.download_file(ID, 100).await.unwrap_err().class(), Class::TooLarge);
}

#[tokio::test]
async fn outbox_rows_are_read_with_empty_values_as_none_and_what_is_unreadable_marked() {
    let rows = r#"{"@odata.context":"x","value":[
      {"Id":"0D5BB5B1-7A4C-5E43-9D0E-7B8E2F2F4C11","Seq":"12","Kind":"message","ChannelSource":"max-bot:1","ChatId":"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11",
       "ParentChatId":"00000000-0000-0000-0000-000000000000","Recipient":"max:2","AgentId":"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11","AgentName":"Иван",
       "MessageId":"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11","MessageType":"image","Text":"","Reason":"","State":"Pending","Error":"","CreatedOn":"2026-08-01T09:15:27.361994Z",
       "Files":"[{\"id\":\"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11\",\"name\":\"a.jpg\",\"mimeType\":\"image/jpeg\",\"size\":\"5\",\"type\":\"image\"},{\"id\":\"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11\",\"type\":\"hologram\"}]"},
      {"Id":"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c12","Seq":13,"Kind":"closed","Reason":"timeout","Files":null,"AgentId":"","CreatedOn":"0001-01-01T00:00:00Z"},
      {"Id":"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c13","Seq":14,"Kind":"message","MessageType":"text","Files":"[{"},
      {"Id":"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c14","Seq":15,"Kind":"sung"}]}"#;
    let (client, _) = signed_in(move |_| json(200, rows));
    let rows = client.outbox("max-bot:1", 0).await.unwrap().rows;
    let first = &rows[0];
    assert_eq!((first.id, first.seq, first.kind.clone(), first.parent_chat_id), (ID, 12, OutboxKind::Message, None));
    assert_eq!(
        (first.message_type, first.state.clone(), first.agent_id),
        (MessageType::Image, OutboxState::Pending, Some(ID))
    );
    assert_eq!(first.created_on, Some("2026-08-01T09:15:27.361994Z".parse().unwrap()));
    assert_eq!(
        first.files.iter().map(|file| (file.size, file.kind)).collect::<Vec<_>>(),
        [(5, MessageType::Image), (0, MessageType::File)]
    );
    assert_eq!(
        (rows[1].reason.clone(), rows[1].agent_id, rows[1].created_on),
        (Some(CloseReason::Timeout), None, None)
    );
    assert_eq!(rows.iter().map(|row| row.files_unreadable).collect::<Vec<_>>(), [false, false, true, false]);
    assert_eq!(rows[3].kind, OutboxKind::Other("sung".into()));
}

#[tokio::test]
async fn chats_are_read_by_status_id_and_without_an_agent_while_waiting() {
    for (id, status) in [
        ("79BCCFFA-8C8B-4863-B376-A69D2244182B", ChatStatus::Waiting),
        ("81737BDD-60C7-4EF7-BB75-52C53D5C38C1", ChatStatus::InProgress),
        ("A1B0184B-0A54-4A47-BA08-A5772105D3B2", ChatStatus::Completed),
        ("B05FBF72-69ED-41A7-BE7C-AF3EC13B08C7", ChatStatus::BotProcessing),
        ("8E7CC4AA-261B-4F62-9C7B-7D7F1E68C86A", ChatStatus::CompletedByBot),
        ("179601AE-58D9-425D-880B-FA4B3AACE644", ChatStatus::HandedOverToAgent),
        ("0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11", ChatStatus::Other(ID)),
    ] {
        let (client, _) = signed_in(move |_| {
            json(
                200,
                &format!(
                    r#"{{"Id":"{ID}","StatusId":"{id}","OperatorId":"00000000-0000-0000-0000-000000000000","LastMessageDirection":1,"CompletionDate":"0001-01-01T00:00:00Z"}}"#
                ),
            )
        });
        let chat = client.chat(ID).await.unwrap().unwrap();
        assert_eq!((chat.status, chat.status.id().to_string()), (status, id.to_lowercase()));
        assert_eq!((chat.agent, chat.completed_on, chat.last_message_incoming), (None, None, true));
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    /// Whole pages of chats that changed at one and the same time lose none and repeat none.
    #[test]
    fn the_look_at_completed_chats_finds_each_once_over_all_pages(sizes in proptest::collection::vec(1_usize..320, 1..5)) {
        let mut chats = Vec::new();
        for (second, size) in sizes.iter().enumerate() {
            for _ in 0..*size {
                let id = Uuid::from_u128(chats.len() as u128 + 1);
                chats.push((format!("2026-08-01T09:15:{second:02}.123456Z"), id));
            }
        }
        let expected: Vec<_> = chats.iter().map(|(_, id)| *id).collect();
        let (client, _) = signed_in(move |request| {
            let query: std::collections::HashMap<_, _> =
                url::form_urlencoded::parse(request.uri().query().unwrap().as_bytes()).into_owned().collect();
            let since = query["$filter"].split("ModifiedOn ge ").nth(1).unwrap().to_owned();
            let since: jiff::Timestamp = since.parse().unwrap();
            let skip = query.get("$skip").map_or(0, |skip| skip.parse().unwrap());
            let rows: Vec<_> = chats
                .iter()
                .filter(|(at, _)| at.parse::<jiff::Timestamp>().unwrap() >= since)
                .filter(|_| query["$filter"].contains("a1b0184b"))
                .skip(skip)
                .take(200)
                .map(|(at, id)| serde_json::json!({ "Id": id, "ModifiedOn": at }))
                .collect();
            json(200, &serde_json::json!({ "value": rows }).to_string())
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let found = runtime.block_on(client.completed_chats(ID, "2026-08-01T09:00:00Z".parse().unwrap())).unwrap();
        proptest::prop_assert_eq!(found.iter().map(|chat| chat.id).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn users_are_the_active_ones_with_the_contacts_email_first() {
    let row =
        |n: usize, more: &str| format!(r#"{{"Id":"00000000-0000-0000-0000-00000000000{n}","Name":"user{n}"{more}}}"#);
    let rows = [
        row(1, r#","Email":"own@acme.example","Active":true,"SysAdminUnitTypeValue":4,"Contact":{"Id":"0d5bb5b1-7a4c-5e43-9d0e-7b8e2f2f4c11","Email":" Ivan@ACME.example "}"#),
        row(2, r#","Email":"maria@acme.example","Active":true,"SysAdminUnitTypeValue":4,"Contact":null"#),
        row(3, r#","Email":"gone@acme.example","Active":false,"SysAdminUnitTypeValue":4"#),
        row(4, r#","Email":"","Active":true,"SysAdminUnitTypeValue":1"#),
    ]
    .join(",");
    // A site that knows no such column finds nothing by it or refuses.
    for strict in [None, Some(200), Some(400)] {
        let rows = rows.clone();
        let (client, _) = signed_in(move |request| match (request.uri().query().unwrap().contains("filter"), strict) {
            (true, Some(200)) => json(200, r#"{"value":[]}"#),
            (true, Some(status)) => json(status, r#"{"error":{"message":"Could not find a property named 'Active'"}}"#),
            _ => json(200, &format!(r#"{{"value":[{rows}]}}"#)),
        });
        let users = client.users().await.unwrap();
        assert_eq!(
            users.iter().map(|user| user.email.as_str()).collect::<Vec<_>>(),
            ["Ivan@ACME.example", "maria@acme.example"]
        );
        assert!(users[0].has_email("ivan@acme.EXAMPLE") && !users[0].has_email("own@acme.example"));
        assert!(!users[0].has_email("") && users[1].has_name("USER2") && !users[1].has_name(" "));
        assert_eq!(users[0].contact_id, Some(ID));
    }
    let (client, _) = signed_in(|_| json(200, r#"{"value":[]}"#));
    assert_eq!(client.users().await.unwrap_err().class(), Class::AccessDenied);
}

#[tokio::test]
async fn who_finds_the_same_users_as_another_holds_the_others_list_and_whoever_finds_others_holds_these() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let (client, _) = signed_in(move |_| {
        // Somebody comes before the third look.
        let names =
            if asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 { vec!["a"] } else { vec!["a", "b"] };
        let row = |(number, name): (usize, &&str)| {
            format!(
                r#"{{"Id":"00000000-0000-0000-0000-00000000000{number}","Name":"{name}","SysAdminUnitTypeValue":4}}"#
            )
        };
        let rows = names.iter().enumerate().map(row).collect::<Vec<_>>().join(",");
        json(200, &format!(r#"{{"value":[{rows}]}}"#))
    });
    let another = client.clone();
    let (first, second) = (client.users().await.unwrap(), another.users().await.unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    let third = client.users().await.unwrap();
    assert_eq!((first.len(), third.len()), (1, 2));
    assert!(Arc::ptr_eq(&third, &another.users().await.unwrap()));
}
