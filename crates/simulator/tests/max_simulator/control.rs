//! The control over HTTP, the limits, TLS, and the end of it.

use maxchannel_simulator::max::{ChatCall, Options, Switches};
use serde_json::{Value, json};

use super::bench::{Bench, LONG};

#[tokio::test]
async fn more_than_the_limits_within_one_second_is_refused_and_the_highest_figure_is_kept() {
    let bench = Bench::start(Switches { rate_window_ms: 600_000, ..Switches::for_tests() }, 1.0).await;
    let (control, bot, user) = (bench.control(), bench.bot, bench.user);
    let chat = control.start(user, bot).unwrap();
    let path = format!("/messages?user_id={user}");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(bench.call("POST", &path, json!({"text": "t"})).await.0);
    }
    assert_eq!(statuses, [200, 200, 429]);
    let (_, headers, answer) = bench.raw("POST", &path, json!({"text": "t"})).await;
    assert_eq!(answer["code"], "too.many.requests");
    assert_eq!(headers.get("retry-after").unwrap(), "1");
    control.set_switches(|switches| switches.retry_after = None);
    assert!(!bench.raw("POST", &path, json!({"text": "t"})).await.1.contains_key("retry-after"));
    let mut passed = 0;
    while bench.call("GET", "/me", Value::Null).await.0 == 200 {
        passed += 1;
    }
    assert_eq!(passed, 25, "30 in all, five of them were sends");
    let statistics = control.statistics();
    assert_eq!(statistics.too_many_requests, 4);
    let sends = statistics
        .highest_per_second_in_chat
        .iter()
        .find(|entry| entry.chat_id == chat && entry.call == ChatCall::Send);
    assert!(sends.is_some_and(|entry| entry.highest >= 1));
    assert!(statistics.highest_per_second[&bot] >= 1);
    assert_eq!(control.transcript(user, bot).unwrap().messages.len(), 2, "what was refused did not take effect");
}

#[tokio::test]
async fn the_control_over_http_does_what_it_lists() {
    let bench = Bench::start(Switches::for_tests(), 1.0).await;
    let listed = bench.control_call("GET", "", Value::Null).await.1;
    for entry in listed["controls"].as_array().unwrap() {
        let (method, path) = entry.as_str().unwrap().split_once(' ').unwrap();
        let path = path.trim_start_matches("/control").replace("<number>", "1");
        let (status, answer) = bench.control_call(method, &path, json!({})).await;
        let known = status != 404 || answer["error"] == "There is no file 1.";
        assert!(known, "{entry}: {status} {answer}");
    }
    bench.control().clear_faults();
    let ok = async |method: &str, path: &str, body: Value| {
        let (status, answer) = bench.control_call(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    };
    let bot =
        ok("POST", "/bots", json!({"name": "Вторая поддержка", "token": "token-of-two"})).await["user_id"].clone();
    let user = ok("POST", "/users", json!({"first_name": "Олег"})).await["user_id"].clone();
    ok("POST", "/dialog", json!({"user": user, "bot": bot, "action": {"start": "from_site"}})).await;
    let said = ok(
        "POST",
        "/write",
        json!({"user": user, "bot": bot, "text": "раз", "attachments": [
            {"type": "file", "name": "a.txt", "data": "0KTQsNC50Ls="}
        ]}),
    )
    .await;
    ok("POST", "/edit", json!({"user": user, "mid": said["mid"], "text": "два"})).await;
    let transcript = ok("GET", &format!("/transcript?user={user}&bot={bot}&at_least=1"), Value::Null).await;
    assert_eq!(transcript["messages"][0]["text"], "два");
    let file = &transcript["messages"][0]["attachments"][0]["file"];
    let bytes = bench.get(&format!("{}/control/files/{file}", bench.url()), None).await;
    assert_eq!(bytes, (200, "Файл".as_bytes().to_vec()));
    let updates = ok("GET", &format!("/updates?bot={bot}"), Value::Null).await;
    assert_eq!(updates.as_array().unwrap().len(), 3);
    ok("POST", "/faults", json!({"path": "/me", "outcome": {"respond": {"status": 500, "body": "{}", "content_type": "application/json"}}})).await;
    assert_eq!(bench.call_as(Some("token-of-two"), "GET", "/me", Value::Null).await.0, 500);
    assert_eq!(bench.call_as(Some("token-of-two"), "GET", "/me", Value::Null).await.0, 200);
    ok("PATCH", "/switches", json!({"echo_own_messages": true, "suspended_in": "code"})).await;
    assert!(bench.control().switches().echo_own_messages);
    let (status, answer) = bench.control_call("PATCH", "/switches", json!({"echo": true})).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("echo"), "{answer}");
    ok("POST", "/bots/state", json!({"bot": bot, "state": "blocked"})).await;
    assert_eq!(bench.call_as(Some("token-of-two"), "GET", "/me", Value::Null).await.0, 403);
    let statistics = ok("GET", "/statistics", Value::Null).await;
    assert_eq!(statistics["requests"]["GET /me"], 3);
}

#[tokio::test]
async fn over_tls_only_a_client_that_trusts_the_root_is_answered() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let issue = || rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (issued, stranger) = (issue(), issue());
    let (pem, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
    let simulator = maxchannel_simulator::max::Simulator::start_tls(Options::default(), &pem, &key).await.unwrap();
    assert!(simulator.url().starts_with("https://127.0.0.1:"));
    for (root, expected) in [(stranger.cert.pem(), None), (pem, Some(401))] {
        let root = reqwest::Certificate::from_pem(root.as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).timeout(LONG).build().unwrap();
        let answer = client.get(format!("{}/me", simulator.url())).send().await;
        assert_eq!(answer.as_ref().ok().map(|answer| answer.status().as_u16()), expected, "{answer:?}");
    }
}

#[tokio::test]
async fn a_stopped_simulator_frees_its_ports() {
    let bench = Bench::start(Switches::for_tests(), 1.0).await;
    let address = bench.url().trim_start_matches("http://").to_owned();
    bench.stop().await;
    drop(tokio::net::TcpListener::bind(address).await.expect("the port is still taken"));
}
