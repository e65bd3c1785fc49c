//! Uploads, downloads, edits, and the faults that meet them.

use maxchannel_simulator::max::{Draft, DraftAttachment, Fault, Outcome, Switches, VideoUrl};
use serde_json::{Value, json};

use super::bench::{Bench, LONG};

#[tokio::test]
async fn uploads_answer_by_their_kind_and_the_customer_gets_the_bytes() {
    let switches = Switches {
        host_per_second: 0,
        chat_per_second: 0,
        not_ready_sends: 1,
        xml_declaration: true,
        ..Switches::for_tests()
    };
    let bench = Bench::start(switches, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    control.start(user, bot).unwrap();
    let path = format!("/messages?user_id={user}");
    for kind in ["image", "video", "audio", "file"] {
        let content = format!("content of {kind}");
        let payload = bench.upload(kind, "имя.bin", content.as_bytes()).await;
        let body = json!({"attachments": [{"type": kind, "payload": payload}]});
        if kind != "image" {
            let (status, answer) = bench.call("POST", &path, body.clone()).await;
            let expected = format!("Key: errors.process.attachment.{kind}.not.processed");
            assert_eq!(
                (status, &answer["code"], &answer["message"]),
                (400, &json!("attachment.not.ready"), &json!(expected))
            );
        }
        bench.ok("POST", &path, body).await;
        let transcript = control.transcript(user, bot).unwrap();
        let attachment = &transcript.messages.last().unwrap().attachments[0];
        assert_eq!((attachment.kind.as_str(), attachment.name.as_deref()), (kind, Some("имя.bin")));
        assert_eq!(control.file(attachment.file.unwrap()).unwrap(), content);
    }
    // Chunks, out of order.
    let slot = bench.ok("POST", "/uploads?type=video", Value::Null).await;
    let url = slot["url"].as_str().unwrap();
    assert_eq!(bench.chunk(url, "bytes 4-8/9", b"56789").await, (201, "4-8/9".to_owned()));
    let (status, body) = bench.chunk(url, "bytes 0-3/9", b"1234").await;
    assert!(status == 200 && body.ends_with("<retval>1</retval>"), "{status} {body}");
    // An address serves one upload, needs the field, and never the token.
    assert_eq!(bench.chunk(url, "bytes 0-3/4", b"1234").await.0, 403);
    let slot = bench.ok("POST", "/uploads?type=file", Value::Null).await;
    let url = slot["url"].as_str().unwrap();
    assert_eq!(bench.form(url, "file", "a", b"x", None).await.0, 400);
    assert_eq!(bench.form(url, "data", "a", b"x", Some(&bench.token)).await.0, 403);
    assert_eq!(control.statistics().tokens_at_file_hosts, 1);
    assert_eq!(bench.form(url, "data", "a", b"x", None).await.0, 200);
    // The incident of June 2026.
    control.set_switches(|switches| switches.movie_not_owner = true);
    let payload = bench.upload("video", "a.mp4", b"film").await;
    let (status, answer) =
        bench.call("POST", &path, json!({"attachments": [{"type": "video", "payload": payload}]})).await;
    assert_eq!((status, answer["message"].as_str()), (400, Some("Key: errors.process.attachment.movie.not.owner")));
}

#[tokio::test]
async fn a_download_address_expires_and_the_message_gives_a_new_one() {
    let switches = Switches { download_url_life_ms: 0, video_url: VideoUrl::Absent, ..Switches::for_tests() };
    let bench = Bench::start(switches, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    control.start(user, bot).unwrap();
    let file = DraftAttachment::File { name: "a.txt".to_owned(), data: None };
    let mid = control.write(user, bot, Draft::attachment(file)).unwrap();
    let url_of = |message: &Value| message["body"]["attachments"][0]["payload"]["url"].as_str().unwrap().to_owned();
    let old = url_of(&bench.ok("GET", &format!("/messages/{mid}"), Value::Null).await);
    assert!(old.starts_with(&bench.files_url()) && old.contains("expires="));
    assert_eq!(bench.get(&old, None).await.0, 403);
    control.set_switches(|switches| switches.download_url_life_ms = 60_000);
    let new = url_of(&bench.ok("GET", &format!("/messages/{mid}"), Value::Null).await);
    assert_eq!(bench.get(&new, None).await, (200, b"contents of a file\n".to_vec()));
    assert_eq!(bench.get(&new, Some(&bench.token)).await.0, 403);
    assert_eq!(bench.get(&new.replace("sig=", "sig=0"), None).await.0, 403);
    let statistics = control.statistics();
    assert_eq!((statistics.downloads, statistics.expired_downloads, statistics.tokens_at_file_hosts), (1, 1, 1));
    let film = control.write(user, bot, Draft::attachment(DraftAttachment::Video { data: None })).unwrap();
    let message = bench.call("GET", &format!("/messages/{film}"), Value::Null).await.1;
    assert_eq!(message["body"]["attachments"][0]["payload"]["url"], Value::Null);
    let token = message["body"]["attachments"][0]["payload"]["token"].as_str().unwrap();
    let video = bench.ok("GET", &format!("/videos/{token}"), Value::Null).await;
    assert_eq!(bench.get(video["urls"]["mp4_720"].as_str().unwrap(), None).await.0, 200);
}

#[tokio::test]
async fn a_fault_meets_the_request_with_or_without_its_effect() {
    let bench = Bench::start(Switches { host_per_second: 0, chat_per_second: 0, ..Switches::for_tests() }, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    control.start(user, bot).unwrap();
    let path = format!("/messages?user_id={user}");
    for (effect, outcome, status) in [
        (true, Outcome::Drop, None),
        (false, Outcome::Drop, None),
        (true, Outcome::Reset, None),
        (false, Outcome::Reset, None),
        (true, Outcome::error(500, "internal", "Oops"), Some(500)),
        (false, Outcome::html(502), Some(502)),
        (false, Outcome::Answer, Some(200)),
    ] {
        let before = control.transcript(user, bot).unwrap().messages.len();
        let takes = effect || outcome == Outcome::Answer;
        let fault = Fault {
            method: Some("POST".to_owned()),
            path: Some("/messages".to_owned()),
            bot: Some(bot),
            effect,
            outcome,
            ..Fault::default()
        };
        control.add_fault(fault.clone());
        assert_eq!(bench.status("POST", &path, json!({"text": "t"})).await, status, "{fault:?}");
        let after = control.transcript(user, bot).unwrap().messages.len();
        assert_eq!(after - before, usize::from(takes), "{fault:?}");
        assert_eq!(bench.status("POST", &path, json!({"text": "t"})).await, Some(200), "the rule has ended");
    }
    // A hanging answer ends when the caller gives up; the effect took place.
    let before = control.transcript(user, bot).unwrap().messages.len();
    control.add_fault(Fault { effect: true, outcome: Outcome::Hang, ..Fault::default() });
    let hanging = bench.status("POST", &path, json!({"text": "t"}));
    let seen =
        control.wait(LONG, |control| (control.transcript(user, bot).ok()?.messages.len() > before).then_some(()));
    tokio::select! {
        status = hanging => panic!("answered {status:?}"),
        seen = seen => seen.unwrap(),
    }
    // A download cut off in the middle.
    let mid = control.write(user, bot, Draft::attachment(DraftAttachment::Image { data: None })).unwrap();
    let message = bench.ok("GET", &format!("/messages/{mid}"), Value::Null).await;
    let url = message["body"]["attachments"][0]["payload"]["url"].as_str().unwrap();
    control.add_fault(Fault { path: Some("/i".to_owned()), outcome: Outcome::Truncate(10), ..Fault::default() });
    assert!(bench.try_get(url).await.is_none());
    assert!(bench.try_get(url).await.is_some());
}

#[tokio::test]
async fn an_echo_comes_only_where_the_switch_says_so_and_edits_obey_their_age() {
    let switches = Switches { polls_per_second: 0, host_per_second: 0, chat_per_second: 0, ..Switches::for_tests() };
    let bench = Bench::start(switches, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    control.start(user, bot).unwrap();
    let path = format!("/messages?user_id={user}");
    for (echo, expected) in [(false, 0), (true, 1)] {
        control.set_switches(|switches| switches.echo_own_messages = echo);
        let before = control.updates(bot).unwrap().len();
        bench.ok("POST", &path, json!({"text": "t"})).await;
        let after = control.updates(bot).unwrap();
        assert_eq!(after.len() - before, expected);
    }
    let sent = bench.ok("POST", &path, json!({"text": "t"})).await;
    let mid = sent["message"]["body"]["mid"].as_str().unwrap().to_owned();
    let edit = format!("/messages?message_id={mid}");
    control.set_switches(|switches| switches.edit_age_hours = 0);
    let too_old = loop {
        let (status, answer) = bench.call("PUT", &edit, json!({"text": "u"})).await;
        assert_eq!(status, 200);
        if answer["success"] == json!(false) {
            break answer;
        }
    };
    assert_eq!(too_old["message"], "Message is too old");
}
