//! What the client promises, against a scripted MANGO OFFICE.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use proptest::prelude::*;
use tokio::time::Instant;

use super::client::sign;
use super::*;
use crate::transport::{Options, Request, Response, Transport, TransportError, Waited};

type Reply = Result<Response, TransportError>;
type Script = dyn Fn(&Request) -> Reply + Send + Sync;

struct Site {
    script: Box<Script>,
    takes: Duration,
    seen: Mutex<Vec<(Instant, Request)>>,
}

impl Site {
    fn new(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { script: Box::new(script), takes: Duration::from_millis(20), seen: Mutex::default() })
    }

    /// Path and time since the start of every request.
    fn log(&self, start: Instant) -> Vec<(String, u64)> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(at, request)| (request.uri().path().to_owned(), (*at - start).as_secs())).collect()
    }

    fn last(&self) -> Request {
        self.seen.lock().unwrap().last().unwrap().1.clone()
    }
}

impl Transport for Site {
    fn send(&self, request: Request, _options: Options) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            self.seen.lock().unwrap().push((Instant::now(), request.clone()));
            tokio::time::sleep(self.takes).await;
            (self.script)(&request)
        })
    }
}

#[allow(clippy::unnecessary_wraps)] // A reply as a script gives it.
fn json(status: u16, body: &str) -> Reply {
    let answer = http::Response::builder().status(status).header("content-type", "application/json");
    Ok(answer.header("x-uuid", "req-77").body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
}

const BALANCE: &str = r#"{"result":1000,"balance":963592.45,"currency":"RUB"}"#;

fn client(site: &Arc<Site>) -> Client {
    let settings = Settings {
        base_url: DEFAULT_URL.parse().unwrap(),
        api_key: "canary-key/+".into(),
        api_salt: "canary-salt".into(),
        dialogs_per_second: OF_RELAY,
    };
    Client::new(site.clone(), settings)
}

/// A good answer to each method.
fn good(request: &Request) -> Reply {
    json(
        200,
        match request.uri().path() {
            "/vpbx/config/users/request" => r#"{"users":[]}"#,
            "/vpbx/groups" => r#"{"result":1000,"groups":[]}"#,
            "/cc/md/widgets" => r#"{"name":"OK","status":200,"code":1000}"#,
            _ => BALANCE,
        },
    )
}

/// MANGO OFFICE API reference, 1.3: the official vectors, and those computed beside them.
#[test]
fn signatures_are_those_of_the_published_vectors() {
    for (key, salt, json, expected) in [
        (
            "<YOUR_API_KEY>",
            "<YOUR_API_SALT>",
            r#"{"key":"<REQUEST_KEY>"}"#,
            "515069b8c079df62f408e36dd7933912b8e86d833c5927ee77eb4b68d766c4f5",
        ),
        (
            "<YOUR_API_KEY>",
            "<YOUR_API_SALT>",
            r#"{"command_id":"your-command-id","call_id":"<CALL_ID>"}"#,
            "2d1d01246f52cec1fdb44f2a4d7091dc54f67e318369c0628201d66b5d336ef0",
        ),
        (
            "<YOUR_API_KEY>",
            "<YOUR_API_SALT>",
            r#"{"command_id":"your-command-id","from":{"extension":"<extension>","number":""},"to_number":"<to_number>"}"#,
            "afdeb462cd5e0e422a9c9220390124608df06a4472cb1add6ebd6e24184bd15a",
        ),
        ("testkey", "testsalt", "{}", "f0c542ce31ff8bf6e48f9cd67b7299bf1b3e94f7fc2dfcff7482e084a7630b48"),
        ("testkey", "testsalt", r#"{"id":"fc30"}"#, "a322087fa6ea0eba4fa10c90002f1226e003f5efbd5c2f2f8332d94639f91367"),
        (
            "testkey",
            "testsalt",
            r#"{"id":"fc30","chat_id":"847b","abonent_id":3645,"local_message_id":"1678","payload":{"type":"text","text":"Привет!"}}"#,
            "e0ad8f640cc0628f566839bcd3dbfaa736506e3e2cab5240687348c699cdde5f",
        ),
    ] {
        assert_eq!(sign(key, salt, json), expected, "{json}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_is_a_signed_form_to_its_address() {
    let site = Site::new(good);
    let client = client(&site);
    let check = |path: &str, json: Option<&str>| {
        let request = site.last();
        assert_eq!((request.method().as_str(), request.uri().to_string()), ("POST", format!("{DEFAULT_URL}{path}")));
        assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
        let form: HashMap<_, _> = url::form_urlencoded::parse(request.body()).into_owned().collect();
        assert_eq!(form.len(), 3);
        assert_eq!(form["vpbx_api_key"], "canary-key/+");
        assert_eq!(form["sign"], sign("canary-key/+", "canary-salt", &form["json"]));
        if let Some(json) = json {
            assert_eq!(form["json"], json);
        }
        form["json"].clone()
    };
    client.employees().await.unwrap();
    check("/vpbx/config/users/request", Some(r#"{"ext_fields":["general.user_id","groups"]}"#));
    client.groups(true).await.unwrap();
    check("/vpbx/groups", Some(r#"{"show_users":1}"#));
    client.groups(false).await.unwrap();
    check("/vpbx/groups", Some(r#"{"show_users":0}"#));
    client.balance().await.unwrap();
    check("/vpbx/account/balance", Some("{}"));
    assert_eq!(client.widgets().await.unwrap(), []);
    let id: HashMap<String, uuid::Uuid> = serde_json::from_str(&check("/cc/md/widgets", None)).unwrap();
    assert!(!id["id"].is_nil());
}

#[tokio::test(start_paused = true)]
async fn answers_are_read_with_numbers_as_texts_and_members_missing_or_null() {
    let site = Site::new(|request| {
        json(
            200,
            match request.uri().path() {
                "/vpbx/config/users/request" => {
                    r#"{"users":[
                {"general":{"name":"Иван","email":" ivan@acme.example ","user_id":"300052407","mobile":null},"telephony":{"extension":"101","numbers":[]},"groups":["10048964",7]},
                {"general":{"name":"Робот","email":null},"telephony":{"extension":null},"groups":null},
                {"general":{"name":"Без телефона","user_id":5}}]}"#
                }
                "/vpbx/groups" => {
                    r#"{"result":"1000","groups":[{"id":"7","name":"Поддержка","description":null,"extension":"200","operators":[{"id":300052407,"name":"Иван","extension":101,"priority":"1","order":"0"}]},{"id":8}]}"#
                }
                "/vpbx/account/balance" => r#"{"result":1000,"balance":"-12.30","currency":"RUB"}"#,
                _ => {
                    r#"{"name":"OK","status":200,"code":"1000","widgets":[{"widget_id":"1","name":"Сайт","enabled":1,"channels":[
                {"channel_id":2,"type":"15","mode":"group","group_id":"7"},
                {"channel_id":"3","type":6,"mode":"abonent","abonent_id":3645},
                {"channel_id":4,"type":99,"mode":"robot"},
                {"channel_id":5,"type":2,"mode":"question","questions":[{"id":"1","question":"Что?","mode":"group","group_id":null}]}]}]}"#
                }
            },
        )
    });
    let client = client(&site);
    let employees = client.employees().await.unwrap();
    assert_eq!(
        employees[0],
        Employee {
            user_id: Some(UserId(300_052_407)),
            name: "Иван".into(),
            email: "ivan@acme.example".into(),
            extension: "101".into(),
            groups: vec![GroupId(10_048_964), GroupId(7)]
        }
    );
    assert_eq!((employees[1].user_id, employees[1].email.as_str(), employees[1].groups.len()), (None, "", 0));
    assert_eq!(employees[2].extension, "");
    let groups = client.groups(true).await.unwrap();
    assert_eq!(
        (groups[0].id, groups[0].members[0].id, groups[0].members[0].extension.as_str()),
        (GroupId(7), UserId(300_052_407), "101")
    );
    assert_eq!(groups[1].members, []);
    assert_eq!(client.balance().await.unwrap(), Balance { amount: "-12.30".into(), currency: "RUB".into() });
    let widgets = client.widgets().await.unwrap();
    let channels = &widgets[0].channels;
    assert!(widgets[0].enabled);
    assert_eq!(
        channels[0],
        Channel { channel_id: 2, kind: ChannelType::Max, serving: Serving::Group(Some(GroupId(7))) }
    );
    assert_eq!(
        (channels[1].kind, &channels[1].serving),
        (ChannelType::Other(6), &Serving::Employee(Some(AbonentId(3645))))
    );
    assert_eq!(channels[2].serving, Serving::Other("robot".into()));
    let question = Question { id: 1, question: "Что?".into(), serving: Serving::Group(None) };
    assert_eq!(channels[3].serving, Serving::Question(vec![question]));
}

/// All three envelopes and bare HTTP failures; the call is that of the balance, or of the widgets
/// where a code differs there.
#[tokio::test(start_paused = true)]
async fn every_refusal_has_its_class_by_its_nearest_known_code() {
    let balance = "balance";
    let widgets = "widgets";
    for (call, status, body, class) in [
        (balance, 420, r#"{"code":3104}"#, Class::Refused { code: 3104 }),
        (balance, 420, r#"{"result":"3100"}"#, Class::Refused { code: 3100 }),
        (balance, 420, r#"{"code":3102}"#, Class::CredentialsInvalid),
        (balance, 200, r#"{"result":3105}"#, Class::CredentialsInvalid),
        (
            widgets,
            200,
            r#"{"name":"Error","status":200,"code":3100,"error":"Authorization failed"}"#,
            Class::CredentialsInvalid,
        ),
        (balance, 420, r#"{"result":2110}"#, Class::Billing { code: 2110 }),
        (balance, 420, r#"{"result":2219}"#, Class::Billing { code: 2219 }),
        (balance, 420, r#"{"result":2999}"#, Class::Billing { code: 2999 }),
        (balance, 420, r#"{"result":4999}"#, Class::Refused { code: 4999 }),
        (balance, 420, r#"{"result":4290}"#, Class::Throttled),
        (balance, 500, r#"{"result":5004}"#, Class::Transient),
        (balance, 503, r#"{"result":5008}"#, Class::Throttled),
        (balance, 200, r#"{"result":5228}"#, Class::Refused { code: 5228 }),
        (balance, 200, r#"{"result":5302}"#, Class::Refused { code: 5302 }),
        (
            balance,
            503,
            r#"{"name":"Service Unavailable","message":"Rate limit exceeded.","code":0,"status":429}"#,
            Class::Throttled,
        ),
        (balance, 429, "", Class::Throttled),
        (balance, 502, "<html>", Class::Transient),
        (balance, 403, "", Class::Refused { code: 403 }),
        (balance, 404, "<html>", Class::Unreachable),
        (balance, 302, "", Class::Unreachable),
        (balance, 400, "The plain HTTP request was sent to HTTPS port", Class::Unreachable),
        (balance, 200, "<html>", Class::Transient),
        (balance, 200, "", Class::Transient),
        (widgets, 200, r#"{"code":5000,"error":"Widget disabled"}"#, Class::Refused { code: 5000 }),
        (widgets, 200, r#"{"code":5000,"error":"Something new"}"#, Class::Transient),
        (balance, 200, r#"{"result":1001,"balance":1}"#, Class::Unreachable),
        (balance, 200, r#"{"result":1090,"balance":1}"#, Class::Unreachable),
    ] {
        let site = Site::new(move |_| json(status, body));
        let client = client(&site);
        let result = if call == widgets { client.widgets().await.map(drop) } else { client.balance().await.map(drop) };
        match result {
            // The last two rows: other successes.
            Ok(()) => assert_eq!(class, Class::Unreachable, "{body}"),
            Err(error) => {
                assert_eq!(error.class(), class, "{body} -> {error}");
                assert!(error.to_string().contains("(request req-77)"), "{error}");
            }
        }
    }
    let site = Site::new(|_| Err(TransportError::Lost { host: "h".into(), reason: "reset".into() }));
    assert_eq!(client(&site).balance().await.unwrap_err().class(), Class::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn after_a_wrong_request_nothing_of_its_kind_leaves_for_two_minutes_and_other_kinds_do() {
    let site = Site::new(|request| match request.uri().path() {
        "/vpbx/groups" => json(420, r#"{"code":3104}"#),
        _ => good(request),
    });
    let client = client(&site);
    let start = Instant::now();
    assert_eq!(client.groups(true).await.unwrap_err().class(), Class::Refused { code: 3104 });
    for second in 1..=250_u64 {
        tokio::time::sleep_until(start + Duration::from_secs(second)).await;
        let error = client.groups(true).await.unwrap_err();
        if let Class::Penalty { left } = error.class() {
            assert!(error.to_string().contains(&format!("{} s", left.as_secs() + 1)), "{error}");
        }
        if second == 60 {
            client.balance().await.unwrap();
        }
    }
    let groups: Vec<u64> =
        site.log(start).into_iter().filter(|(path, _)| path == "/vpbx/groups").map(|(_, at)| at).collect();
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert!(groups[1] - groups[0] > 120);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_key_costs_one_wrong_request_in_two_minutes_however_many_ask_at_once() {
    let site = Site::new(|_| json(420, r#"{"code":3105}"#));
    let client = client(&site);
    let start = Instant::now();
    for _ in 0..300 {
        let (a, b, c, d) = tokio::join!(client.employees(), client.groups(true), client.balance(), client.widgets());
        for class in [a.unwrap_err(), b.unwrap_err(), c.unwrap_err(), d.unwrap_err()].map(|error| error.class()) {
            assert_eq!(class, Class::CredentialsInvalid);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let times: Vec<u64> = site.log(start).into_iter().map(|(_, at)| at).collect();
    assert_eq!(times.len(), 3, "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] > 120), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_401_is_first_taken_for_the_block_and_a_harmless_call_proves_the_key_after_two_minutes() {
    for bad_for_ever in [false, true] {
        let start = Instant::now();
        let site = Site::new(move |request| {
            let over = Instant::now() - start > Duration::from_secs(100);
            if over && !bad_for_ever { good(request) } else { json(401, "") }
        });
        let client = client(&site);
        let (first, second) = tokio::join!(client.employees(), client.groups(true));
        for error in [first.unwrap_err(), second.unwrap_err()] {
            assert!(matches!(error.class(), Class::Penalty { .. }), "{error}");
        }
        tokio::time::sleep(Duration::from_secs(110)).await;
        assert!(matches!(client.employees().await.unwrap_err().class(), Class::Penalty { .. }));
        assert_eq!(site.log(start).len(), 1, "nothing leaves while the key is blocked");
        tokio::time::sleep(Duration::from_secs(20)).await;
        let result = client.employees().await;
        let paths: Vec<String> = site.log(start).into_iter().map(|(path, _)| path).skip(1).collect();
        if bad_for_ever {
            assert_eq!(result.unwrap_err().class(), Class::CredentialsInvalid);
            assert_eq!(paths, ["/vpbx/account/balance"]);
            assert_eq!(client.groups(true).await.unwrap_err().class(), Class::CredentialsInvalid);
        } else {
            result.unwrap();
            assert_eq!(paths, ["/vpbx/account/balance", "/vpbx/config/users/request"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_when_the_block_begins_do_not_make_the_key_wrong() {
    let start = Instant::now();
    let site = Site::new(
        move |request| {
            if Instant::now() - start > Duration::from_secs(5) { json(401, "") } else { good(request) }
        },
    );
    let client = client(&site);
    client.balance().await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    for result in futures::future::join_all((0..5).map(|_| client.groups(true))).await {
        assert!(matches!(result.unwrap_err().class(), Class::Penalty { .. }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// MANGO OFFICE API reference, 1.6: per product, in any window.
    #[test]
    fn no_window_holds_more_requests_than_documented(kinds in prop::collection::vec(0_u8..4, 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let seen = runtime.block_on(async {
            let site = Site::new(good);
            let client = client(&site);
            let calls = kinds.iter().map(|kind| {
                let client = client.clone();
                let kind = *kind;
                tokio::spawn(async move {
                    match kind {
                        0 => client.employees().await.map(drop),
                        1 => client.groups(true).await.map(drop),
                        2 => client.balance().await.map(drop),
                        _ => client.widgets().await.map(drop),
                    }
                    .unwrap();
                })
            });
            for call in calls.collect::<Vec<_>>() { call.await.unwrap(); }
            let seen = site.seen.lock().unwrap();
            seen.iter().map(|(at, request)| (*at, request.uri().path().to_owned())).collect::<Vec<_>>()
        });
        for (path, limit, window) in [("/", 10, 1), ("/cc/", OF_RELAY, 1), ("users", 1, 2), ("balance", 2, 1)] {
            let times: Vec<_> = seen.iter().filter(|(_, of)| of.contains(path)).map(|(at, _)| *at).collect();
            for (index, first) in times.iter().enumerate() {
                let within = times[index..].iter().filter(|at| **at < *first + Duration::from_secs(window)).count();
                prop_assert!(within <= limit, "{} requests to {} in {} s", within, path, window);
            }
        }
    }
}

/// A hostile MANGO quotes everything that it was sent.
#[tokio::test(start_paused = true)]
async fn neither_key_nor_salt_is_in_any_error_or_debug() {
    let site = Site::new(|request| {
        let form: HashMap<_, _> = url::form_urlencoded::parse(request.body()).into_owned().collect();
        json(
            420,
            &serde_json::json!({ "code": 3105, "error": format!("canary-salt {}", form["vpbx_api_key"]) }).to_string(),
        )
    });
    let client = client(&site);
    let mut shown = format!("{client:?}");
    for _ in 0..2 {
        let error = client.balance().await.unwrap_err();
        shown = format!("{shown} {error} {error:?}");
    }
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_request_says_how_long_the_limits_held_it_back() {
    let site = Site::new(good);
    let client = client(&site);
    for least in [0, 1_900] {
        client.employees().await.unwrap();
        let Waited(waited) = *site.last().extensions().get().unwrap();
        assert!(waited >= Duration::from_millis(least), "{waited:?}");
        assert_eq!(waited.is_zero(), least == 0, "{waited:?}");
    }
}
