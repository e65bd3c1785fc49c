//! What each call writes, and what it makes of the answer.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use url::Url;

use super::super::*;
use super::{Script, TOKEN, answer, client, render, schemas, settings};
use crate::transport::{Options, Request, TransportError};

const MESSAGE: &str = r#"{"sender":{"user_id":254700011,"first_name":"Служба поддержки","username":"id7700000000_bot","is_bot":true},
    "recipient":{"chat_id":184500123,"chat_type":"dialog","user_id":91234567},"timestamp":1790000011789,
    "body":{"mid":"mid.000000000aff3f9b01a0c4509a0d4d02","seq":117309440772623618,"text":"Заказ 512 в пути"}}"#;
const DONE: &str = r#"{"success":true}"#;

fn sent(token: &str, kind: UploadKind) -> OutgoingAttachment {
    OutgoingAttachment::uploaded(kind, token.to_owned())
}

/// Makes every call of the client once or more, each answered as MAX does, and returns what was
/// written to the API.
async fn every_call() -> Vec<(Request, Options)> {
    let (client, api, files) = client();
    let to = Recipient::User(91_234_567);
    api.answer(200, r#"{"user_id":254700011,"first_name":"Служба поддержки","is_bot":true}"#);
    client.me().await.unwrap();
    api.answer(200, r#"{"subscriptions":[]}"#);
    client.subscriptions().await.unwrap();
    api.answer(200, DONE).answer(200, DONE);
    client
        .subscribe("https://max.example.org/webhooks/max/crm/support/0a1b2c3d", &"wh_secret-0".to_owned().into())
        .await
        .unwrap();
    client.unsubscribe("https://max.example.org/webhooks/max/crm/support/0a1b2c3d?a=b&c").await.unwrap();
    api.answer(200, r#"{"updates":[],"marker":7}"#).answer(200, r#"{"updates":[],"marker":7}"#);
    client.updates(None, POLL_LIMIT, Duration::from_secs(90)).await.unwrap();
    client.updates(Some(50_211_938), POLL_LIMIT, Duration::from_millis(1500)).await.unwrap();
    let long = format!(r#"{{"message":{MESSAGE}}}"#);
    api.answer(200, &long).answer(200, &long).answer(200, &long).answer(200, &long);
    client.send(to, &NewMessage::text("Здравствуйте!")).await.unwrap();
    let attachments = vec![sent("PHOTO", UploadKind::Image), sent("VIDEO", UploadKind::Video)];
    client
        .send(
            Recipient::Chat(ChatId::new(-70_801_234_567_890)),
            &NewMessage { text: None, attachments: Some(attachments) },
        )
        .await
        .unwrap();
    let file = NewMessage::attachment(sent("FILE", UploadKind::File), Some("Счёт".to_owned()));
    client.send(Recipient::User(1), &file).await.unwrap();
    let button = |title: &str, payload: &str| (title.to_owned(), payload.to_owned());
    let rows = vec![
        vec![button("Статус", "order:512:status"), button("Отмена", "order:512:cancel")],
        vec![button("Ещё", "more")],
    ];
    let question = NewMessage::attachment(OutgoingAttachment::keyboard(rows), Some("Что показать?".to_owned()));
    client.send(Recipient::User(1), &question).await.unwrap();
    api.answer(200, DONE).answer(200, DONE);
    client
        .edit(to, &MessageId::new("mid.000000000aff3f9b01a0c4509a0d4d02"), &NewMessage::text("Заказ 512 доставлен"))
        .await
        .unwrap();
    let without = NewMessage { text: Some("Без файла".to_owned()), attachments: Some(vec![]) };
    client.edit(Recipient::User(2), &MessageId::new("mid.000000000aff3f9b01a0c4509a0d4d02"), &without).await.unwrap();
    api.answer(200, MESSAGE);
    client.message(&MessageId::new("mid.000000000aff3f9b01a0c4509a0d4d02")).await.unwrap();
    let list = format!(r#"{{"messages":[{MESSAGE}]}}"#);
    api.answer(200, &list).answer(200, &list);
    client.messages(ChatId::new(184_500_123), History { before: None, after: None, count: 500 }).await.unwrap();
    let query = History { before: Some(1_790_000_011_790), after: Some(1_790_000_000_000), count: 20 };
    client.messages_raw(ChatId::new(184_500_123), query, Duration::from_secs(20)).await.unwrap();
    api.answer(200, DONE).answer(200, DONE);
    let notice = CallbackAnswer { message: None, notification: Some("Принято".to_owned()) };
    client.answer_callback(Recipient::User(3), "f9LH+odD/0c=", &notice).await.unwrap();
    let replace = CallbackAnswer { message: Some(NewMessage::text("Готово")), notification: None };
    client.answer_callback(Recipient::User(3), "f9LH", &replace).await.unwrap();
    for action in [
        Action::TypingOn,
        Action::SendingPhoto,
        Action::SendingVideo,
        Action::SendingAudio,
        Action::SendingFile,
        Action::MarkSeen,
    ] {
        api.answer(200, DONE);
        client.action(ChatId::new(184_500_123), action).await.unwrap();
    }
    for kind in [UploadKind::Image, UploadKind::Video, UploadKind::Audio, UploadKind::File] {
        api.answer(200, r#"{"url":"https://iu.oneme.ru/upload?sig=1&expires=2","token":"STEP1"}"#);
        files.answer(200, r#"{"token":"STEP2"}"#);
        client.upload(kind, "a.bin", "application/octet-stream", Bytes::from_static(b"abc")).await.unwrap();
    }
    api.answer(200, r#"{"token":"t","urls":null,"width":1,"height":1,"duration":1}"#);
    client.video("video/token ё").await.unwrap();
    api.take()
}

#[tokio::test(start_paused = true)]
async fn every_call_is_written_exactly_as_the_reference_says() {
    let written: Vec<String> = every_call().await.iter().map(|(request, options)| render(request, *options)).collect();
    insta::assert_snapshot!(written.join("\n\n"));
}

#[test]
fn an_attachment_that_was_stored_is_the_same_when_it_is_read_again() {
    for attachment in [
        sent("T", UploadKind::Image),
        sent("T", UploadKind::Video),
        sent("T", UploadKind::Audio),
        sent("T", UploadKind::File),
        OutgoingAttachment::keyboard(vec![vec![("a".to_owned(), "b".to_owned())]]),
    ] {
        let stored = serde_json::to_string(&attachment).unwrap();
        assert_eq!(serde_json::from_str::<OutgoingAttachment>(&stored).unwrap(), attachment, "{stored}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_is_valid_against_the_schemas_of_requests() {
    let mut named = BTreeSet::new();
    for (request, _) in every_call().await {
        named.insert(schemas::validate(&request));
    }
    assert_eq!(named, schemas::known_calls(), "each call of the schemas is made, and no other");
}

#[tokio::test]
async fn answers_are_read_as_the_reference_shows_them() {
    let (client, api, _) = client();
    api.answer(
        200,
        r#"{"user_id":254700011,"first_name":"Служба поддержки","username":"id7700000000_bot","is_bot":true,"last_name":null,
            "name":"x","description":"Вопросы по заказам","commands":[{"name":"start"}],"new_field":{}}"#,
    );
    let bot = client.me().await.unwrap();
    api.answer(200, r#"{"subscriptions":[{"url":"https://a.example/x","time":1790000000000,"update_types":null},{"url":"https://b.example","update_types":["bot_started"]}]}"#);
    let subscriptions = client.subscriptions().await.unwrap();
    api.answer(200, &format!(r#"{{"message":{MESSAGE}}}"#));
    let message = client.send(Recipient::User(1), &NewMessage::text("x")).await.unwrap();
    api.answer(200, r#"{"token":"t","urls":{"mp4_144":"https://vd.okcdn.ru/144","mp4_1080":null,"mp4_720":"https://vd.okcdn.ru/720","hls":"https://vd.okcdn.ru/hls"},"width":1280,"height":720,"duration":12}"#);
    let video = client.video("t").await.unwrap();
    insta::assert_debug_snapshot!((bot, subscriptions, message, video));
}

#[tokio::test]
async fn updates_and_history_are_handed_on_letter_by_letter() {
    let (client, api, _) = client();
    let update = r#"{ "update_type" : "new_kind", "seq": 117309440772623618123456789, "x": 1.0e3 }"#;
    api.answer(200, &format!(r#"{{"marker":null,"updates":[{update}]}}"#));
    let updates = client.updates(Some(1), POLL_LIMIT, Duration::ZERO).await.unwrap();
    assert_eq!((updates.updates[0].get(), updates.marker), (update, None), "an answer without a marker moves nothing");
    api.answer(200, &format!(r#"{{"messages":[{MESSAGE},{{"no":"body"}}]}}"#));
    let raw = client
        .messages_raw(ChatId::new(1), History { before: None, after: None, count: 2 }, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(raw.iter().map(|raw| raw.get()).collect::<Vec<_>>(), [MESSAGE, r#"{"no":"body"}"#]);
}

#[tokio::test(start_paused = true)]
async fn a_200_with_success_false_is_a_failure_of_every_call_and_without_success_of_none() {
    let (client, api, _) = client();
    let text = NewMessage::text("x");
    let to = Recipient::User(1);
    let refusal = r#"{"success":false,"message":"Message not found"}"#;
    for (body, expected) in [(refusal, Some(Class::NotFound)), ("{}", None)] {
        let class = |outcome: Result<(), Error>| outcome.err().map(|error| error.class().clone());
        for _ in 0..6 {
            api.answer(200, body);
        }
        assert_eq!(class(client.edit(to, &MessageId::new("m"), &text).await), expected);
        assert_eq!(class(client.answer_callback(to, "c", &CallbackAnswer::default()).await), expected);
        assert_eq!(class(client.action(ChatId::new(1), Action::TypingOn).await), expected);
        assert_eq!(class(client.unsubscribe("https://a.example").await), expected);
        assert_eq!(class(client.subscribe("https://a.example", &"wh_secret".to_owned().into()).await), expected);
        let send = client.send(to, &text).await.unwrap_err();
        assert_eq!(send.class(), &expected.unwrap_or(Class::Transient), "a send without a message is no answer");
    }
    api.answer(200, refusal).answer(200, refusal);
    assert_eq!(client.subscriptions().await.unwrap_err().class(), &Class::NotFound);
    assert_eq!(client.updates(None, POLL_LIMIT, Duration::ZERO).await.unwrap_err().class(), &Class::NotFound);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_system_is_no_answer_at_all() {
    let (client, api, _) = client();
    for body in ["", "<html>welcome</html>", "OK", "[]", "{}", r#"{"user_id":"x"}"#] {
        api.answer(200, body).answer(200, body).answer(200, body);
        assert_eq!(client.me().await.unwrap_err().class(), &Class::Transient, "{body}");
        assert_eq!(client.subscriptions().await.unwrap_err().class(), &Class::Transient, "{body}");
        let send = client.send(Recipient::User(1), &NewMessage::text("x")).await.unwrap_err();
        assert!(send.may_have_been_sent(), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_and_a_refused_connection_are_told_apart() {
    let (client, api, _) = client();
    let host = || "platform-api2.max.ru".to_owned();
    for (error, sent) in [
        (TransportError::Lost { host: host(), reason: "reset".to_owned() }, true),
        (TransportError::NotSent { host: host(), reason: "refused".to_owned() }, false),
    ] {
        api.fail(error);
        let error = client.send(Recipient::User(1), &NewMessage::text("x")).await.unwrap_err();
        assert_eq!((error.class(), error.status(), error.may_have_been_sent()), (&Class::Transient, None, sent));
    }
}

#[tokio::test]
async fn an_upload_goes_to_the_address_max_names_without_the_token() {
    let (client, api, files) = client();
    api.answer(200, r#"{"url":"https://fu.oneme.ru/api/upload.do?sig=EXAMPLE&expires=1790086405456","token":null}"#);
    files.answer(200, r#"{"fileId":3399100200,"token":"FILE_TOKEN"}"#);
    let bytes = Bytes::from_static(b"%PDF-1.7 \r\n--x");
    let file = client.upload(UploadKind::File, "сч\"ёт\r\n.pdf", "application/pdf", bytes).await.unwrap();
    assert_eq!(file, sent("FILE_TOKEN", UploadKind::File));
    let (request, options) = &files.take()[0];
    let written = render(request, *options);
    let (_, boundary) = written.split_once("boundary=").unwrap();
    let boundary = boundary.lines().next().unwrap().to_owned();
    insta::assert_snapshot!(written.replace(&boundary, "BOUNDARY"));
}

#[tokio::test(start_paused = true)]
async fn what_an_upload_or_download_host_says_is_never_about_the_token() {
    let (client, api, files) = client();
    let url: Url = "https://fd.oneme.ru/getfile?sig=1".parse().unwrap();
    for (status, body, upload, download) in [
        (401, "", Class::Refused, Class::NotFound),
        (403, "expired", Class::Refused, Class::NotFound),
        (404, "", Class::Refused, Class::NotFound),
        (400, "File extension is forbidden", Class::Refused, Class::Refused),
        (302, "", Class::Refused, Class::Refused),
        (429, "", Class::Throttled { retry_after: None }, Class::Throttled { retry_after: None }),
        (502, "<html>", Class::Transient, Class::Transient),
    ] {
        api.answer(200, r#"{"url":"https://fu.oneme.ru/upload"}"#);
        files.answer(status, body).answer(status, body);
        let error = client.upload(UploadKind::File, "x", "text/plain", Bytes::new()).await.unwrap_err();
        assert_eq!(error.class(), &upload, "{status}");
        assert!(!error.may_have_been_sent());
        assert_eq!(client.download(&url, 10).await.unwrap_err().class(), &download, "{status}");
    }
}

#[tokio::test]
async fn an_upload_host_that_gives_no_token_is_quoted() {
    let (client, api, files) = client();
    api.answer(200, r#"{"url":"https://fu.oneme.ru/upload"}"#);
    files.answer(200, "File extension is forbidden");
    let error = client.upload(UploadKind::File, "x.exe", "text/plain", Bytes::new()).await.unwrap_err();
    assert_eq!(error.class(), &Class::Refused);
    assert!(error.message().contains("File extension is forbidden"), "{error}");
}

#[tokio::test]
async fn a_download_brings_bytes_type_and_name_and_keeps_to_the_limit_and_to_hosts_of_max() {
    let (client, _, files) = client();
    let mut found = answer(200, "PDF");
    found.headers_mut().insert("content-type", "application/PDF; charset=binary".parse().unwrap());
    found.headers_mut().insert("content-disposition", "attachment; filename=\"a.pdf\"".parse().unwrap());
    files.answers.lock().unwrap().push_back(Ok(found));
    let got = client.download(&"http://vd1.okcdn.ru/x?srcIp=10.0.0.1".parse().unwrap(), 4096).await.unwrap();
    assert_eq!(
        (got.bytes.as_ref(), got.mime.as_str(), got.name.as_deref()),
        (&b"PDF"[..], "application/pdf", Some("a.pdf"))
    );
    let (request, options) = &files.take()[0];
    assert_eq!(
        (request.uri().to_string().as_str(), options.max_answer),
        ("https://vd1.okcdn.ru/x?srcIp=10.0.0.1", 4096)
    );
    assert!(request.headers().is_empty(), "{:?}", request.headers());

    files.fail(TransportError::TooLarge { host: "fd.oneme.ru".to_owned(), limit: 4096 });
    files.fail(TransportError::PrivateAddress { host: "fd.oneme.ru".to_owned() });
    let url: Url = "https://fd.oneme.ru/x".parse().unwrap();
    assert_eq!(client.download(&url, 4096).await.unwrap_err().class(), &Class::TooLarge);
    assert_eq!(client.download(&url, 4096).await.unwrap_err().class(), &Class::ForbiddenAddress);
    let foreign = client.download(&"https://example.org/x?sig=private".parse().unwrap(), 4096).await.unwrap_err();
    assert_eq!(foreign.class(), &Class::ForbiddenAddress);
    assert!(!foreign.to_string().contains("sig"), "{foreign}");
    assert_eq!(files.take().len(), 2, "nothing was asked of the foreign host");
}

#[tokio::test]
async fn a_base_address_may_have_a_path_and_a_slash_at_its_end() {
    for base in ["http://127.0.0.1:8081/max", "http://127.0.0.1:8081/max/", "http://127.0.0.1:8081/max/?x#y"] {
        let api = std::sync::Arc::new(Script::default());
        api.answer(200, r#"{"user_id":1}"#);
        Client::new(api.clone(), api.clone(), settings(base)).me().await.unwrap();
        assert_eq!(api.take()[0].0.uri().to_string(), "http://127.0.0.1:8081/max/me");
    }
}

#[tokio::test]
async fn a_token_is_trimmed_and_one_that_no_header_can_carry_is_refused_before_anything_is_sent() {
    let script = std::sync::Arc::new(Script::default());
    let client = |token: &str| {
        let settings = Settings { token: token.to_owned().into(), ..settings(DEFAULT_BASE_URL) };
        Client::new(script.clone(), script.clone(), settings)
    };
    script.answer(200, r#"{"user_id":1}"#);
    client(&format!(" {TOKEN}\r\n")).me().await.unwrap();
    assert_eq!(script.take()[0].0.headers()["authorization"], TOKEN);
    for token in ["", " \n", "a b", "a\nb", "a\u{7}b", "токен"] {
        let error = client(token).me().await.unwrap_err();
        assert_eq!((error.class(), error.status()), (&Class::Unauthorized, None), "{token:?}");
    }
    assert!(script.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_token_is_in_no_debug_no_error_no_address_and_at_no_other_host() {
    let (client, api, files) = client();
    let mut told = vec![format!("{client:?} {:?}", settings(DEFAULT_BASE_URL))];
    for body in
        [format!(r#"{{"code":"{TOKEN}","message":"bad {TOKEN}"}}"#), format!("<b>{TOKEN}</b>"), format!("no {TOKEN}")]
    {
        for status in [200, 302, 400, 401, 502] {
            api.answer(status, &body);
            let error = client.me().await.unwrap_err();
            told.push(format!("{error} {error:?} {:?} {}", error.code(), error.message()));
        }
    }
    api.answer(200, &format!(r#"{{"success":false,"message":"{TOKEN}"}}"#));
    told.push(format!("{:?}", client.action(ChatId::new(1), Action::TypingOn).await));
    let secret = "wh_secret_of_a_webhook";
    api.answer(400, &format!(r#"{{"code":"proto.payload","message":"'{secret}' does not match"}}"#));
    told.push(format!("{:?}", client.subscribe("https://a.example", &secret.to_owned().into()).await));
    api.answer(200, r#"{"url":"https://fu.oneme.ru/upload"}"#);
    files.answer(200, r#"{"token":"x"}"#).answer(200, "");
    client.upload(UploadKind::File, "x", "text/plain", Bytes::from_static(b"x")).await.unwrap();
    client.download(&"https://fd.oneme.ru/x".parse().unwrap(), 1).await.unwrap();
    told.extend(files.take().iter().map(|(request, options)| render(request, *options)));
    for (request, _) in api.take() {
        assert!(request.headers()["authorization"].is_sensitive());
        told.push(format!("{} {request:?}", request.uri()).replace("body: b\"{\\\"url\\\"", ""));
    }
    for text in told {
        assert!(!text.contains(TOKEN), "{text}");
        assert!(!text.contains(secret) || text.contains("POST"), "{text}");
    }
}

#[tokio::test]
async fn a_client_under_a_new_token_writes_that_one() {
    let (client, api, _) = client();
    api.answer(200, r#"{"user_id":1}"#);
    let renewed = Settings { token: "another-token".to_owned().into(), ..settings(DEFAULT_BASE_URL) };
    client.with_settings(renewed).me().await.unwrap();
    assert_eq!(api.take()[0].0.headers()["authorization"], "another-token");
}

#[test]
fn a_send_can_run_in_a_task_of_its_own() {
    fn needs_send<T: Send + 'static>(_: T) {}
    let (client, ..) = client();
    needs_send(async move { client.send(Recipient::User(1), &NewMessage::text("x")).map(drop).await });
}
