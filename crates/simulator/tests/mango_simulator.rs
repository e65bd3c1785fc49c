//! The MANGO OFFICE simulator keeps the rules of the MANGO OFFICE reference: driven over HTTP by a
//! plain client that shares no type with it but the signature under test.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "mango_simulator/dialogs.rs"]
mod dialogs;

use maxchannel_simulator::mango::{
    Answer, Control, Employee, Fault, Group, Options, Outage, Simulator, Switches, sign,
};
use reqwest::{Client, Response};
use serde_json::{Value, json};

/// Time stands still unless a test moves it on.
const STILL: f64 = 1e-9;

struct Account {
    simulator: Simulator,
    control: Control,
    client: Client,
}

async fn account_with(switches: Switches) -> Account {
    // The first test of the process installs it for all.
    drop(rustls::crypto::ring::default_provider().install_default());
    let simulator = Simulator::start(Options { switches, time_scale: STILL, ..Options::default() }).await.unwrap();
    let control = simulator.control();
    for (id, name, email, extension) in [
        (300_052_407, "Иван Орлов", "orlov@acme.example", "101"),
        (300_052_408, "Мария Ким", "kim@acme.example", "102"),
    ] {
        control.put_employee(Employee {
            user_id: id,
            name: name.to_owned(),
            email: Some(email.to_owned()),
            extension: Some(extension.to_owned()),
            ..Employee::default()
        });
    }
    control.put_group(Group {
        id: 10_048_964,
        name: "Поддержка".to_owned(),
        extension: "200".to_owned(),
        members: vec![300_052_408],
    });
    Account { simulator, control, client: Client::builder().no_proxy().build().unwrap() }
}

async fn account() -> Account {
    account_with(Switches::friendly()).await
}

fn form(key: &str, signature: &str, json: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .append_pair("vpbx_api_key", key)
        .append_pair("sign", signature)
        .append_pair("json", json)
        .finish()
}

impl Account {
    async fn raw(&self, path: &str, body: String) -> Response {
        self.client
            .post(format!("{}{path}", self.simulator.url()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .unwrap()
    }

    async fn call(&self, path: &str, json: &str) -> (u16, Value) {
        let options = Options::default();
        let signature = sign(&options.api_key, json.as_bytes(), &options.api_salt);
        let answer = self.raw(path, form(&options.api_key, &signature, json)).await;
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
    }
}

#[test]
fn the_signature_is_that_of_the_official_vectors() {
    let official = ("<YOUR_API_KEY>", "<YOUR_API_SALT>");
    let own = ("testkey", "testsalt");
    let table = [
        (official, r#"{"key":"<REQUEST_KEY>"}"#, "515069b8c079df62f408e36dd7933912b8e86d833c5927ee77eb4b68d766c4f5"),
        (
            official,
            r#"{"command_id":"your-command-id","call_id":"<CALL_ID>"}"#,
            "2d1d01246f52cec1fdb44f2a4d7091dc54f67e318369c0628201d66b5d336ef0",
        ),
        (
            official,
            r#"{"command_id":"your-command-id","from":{"extension":"<extension>","number":""},"to_number":"<to_number>"}"#,
            "afdeb462cd5e0e422a9c9220390124608df06a4472cb1add6ebd6e24184bd15a",
        ),
        (own, "{}", "f0c542ce31ff8bf6e48f9cd67b7299bf1b3e94f7fc2dfcff7482e084a7630b48"),
        (own, r#"{"id":"fc30"}"#, "a322087fa6ea0eba4fa10c90002f1226e003f5efbd5c2f2f8332d94639f91367"),
        (
            own,
            r#"{"id":"fc30","chat_id":"847b","abonent_id":3645,"local_message_id":"1678","payload":{"type":"text","text":"Привет!"}}"#,
            "e0ad8f640cc0628f566839bcd3dbfaa736506e3e2cab5240687348c699cdde5f",
        ),
    ];
    for ((key, salt), json, expected) in table {
        assert_eq!(sign(key, json.as_bytes(), salt), expected, "{json}");
    }
}

#[tokio::test]
async fn employees_have_ids_and_groups_only_where_they_are_asked_for_and_no_result() {
    let account = account().await;
    let (status, bare) = account.call("/vpbx/config/users/request", "{}").await;
    assert_eq!(status, 200);
    assert!(bare.get("result").is_none());
    assert_eq!(bare["users"].as_array().unwrap().len(), 2);
    assert_eq!(bare["users"][0]["general"]["email"], "orlov@acme.example");
    assert_eq!(bare["users"][0]["telephony"]["extension"], "101");
    assert!(bare["users"][0]["general"].get("user_id").is_none());
    assert!(bare["users"][0].get("groups").is_none());
    account.control.forgive();
    let (_, full) = account.call("/vpbx/config/users/request", r#"{"ext_fields":["general.user_id","groups"]}"#).await;
    assert_eq!(full["users"][1]["general"]["user_id"], 300_052_408);
    assert_eq!(full["users"][1]["groups"], json!([10_048_964]));
}

#[tokio::test]
async fn groups_name_their_members_on_demand() {
    let account = account().await;
    let (_, bare) = account.call("/vpbx/groups", "{}").await;
    assert_eq!(bare["result"], 1000);
    assert!(bare["groups"][0].get("operators").is_none());
    let (_, full) = account.call("/vpbx/groups", r#"{"show_users":1}"#).await;
    assert_eq!(full["groups"][0]["operators"][0]["id"], 300_052_408);
}

#[tokio::test]
async fn channels_of_max_are_of_type_15_and_may_name_another_id() {
    let account = account_with(Switches { abonent_offset: 500, ..Switches::friendly() }).await;
    let (_, none) = account.call("/cc/md/widgets", r#"{"id":"1"}"#).await;
    assert_eq!(none, json!({"name": "OK", "status": 200, "code": 1000}));
    let channel = account.control.max_channel_for_employee(300_052_407);
    account.control.max_channel_for_group(10_048_964);
    let (_, body) = account.call("/cc/md/widgets", r#"{"id":"2"}"#).await;
    let first = &body["widgets"][0]["channels"][0];
    assert_eq!(first, &json!({"channel_id": channel, "type": 15, "mode": "abonent", "abonent_id": 300_052_907}));
    assert_eq!(body["widgets"][1]["channels"][0]["mode"], "group");
}

#[tokio::test]
async fn numbers_may_come_as_texts() {
    let account = account_with(Switches { loose_numbers: true, ..Switches::friendly() }).await;
    let (_, body) = account.call("/vpbx/groups", "{}").await;
    let values: Vec<&Value> = body["groups"][0].as_object().unwrap().values().collect();
    let numeric = |text: &&&Value| text.as_str().is_some_and(|text| text.parse::<i64>().is_ok());
    assert!(values.iter().any(|value| numeric(&value) && value.as_str() != Some("200")));
    assert!(values.iter().any(|value| value.is_i64()));
    assert_eq!(body["result"], 1000);
}

#[tokio::test]
async fn a_wrong_request_gets_its_code_in_the_envelope_of_its_family() {
    let options = Options::default();
    let (key, salt) = (options.api_key.as_str(), options.api_salt.as_str());
    let good = |json: &str| sign(key, json.as_bytes(), salt);
    let hmac_like = sign(salt, b"{}", key);
    let table = [
        ("/vpbx/groups", form(key, &hmac_like, "{}"), 420, 3102),
        ("/vpbx/groups", form("otherkey", &good("{}"), "{}"), 420, 3105),
        ("/vpbx/groups", form(key, &good("{}"), "{ }"), 420, 3102),
        ("/vpbx/groups", format!("vpbx_api_key={key}&json=%7B%7D"), 420, 3103),
        ("/vpbx/groups", form(key, &good("{"), "{"), 420, 3400),
        ("/vpbx/groups", form(key, &good(r#"{"group_id":"1"}"#), r#"{"group_id":"1"}"#), 420, 3104),
        ("/vpbx/groups", form(key, &good(r#"{"group_id":1}"#), r#"{"group_id":1}"#), 420, 3300),
        ("/cc/md/widgets", form(key, &hmac_like, r#"{"id":"1"}"#), 200, 3100),
        ("/cc/md/widgets", form("otherkey", &good(r#"{"id":"1"}"#), r#"{"id":"1"}"#), 200, 3100),
    ];
    for (path, body, status, code) in table {
        let account = account().await;
        let answer = account.raw(path, body.clone()).await;
        assert_eq!(answer.status(), status, "{body}");
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(answer["code"], code, "{body}");
    }
    let account = account().await;
    let answer = account.client.get(format!("{}/vpbx/groups", account.simulator.url())).send().await.unwrap();
    assert_eq!(answer.status(), 420);
    assert!(answer.text().await.unwrap().contains("3101"));
}

#[tokio::test]
async fn a_second_wrong_request_within_two_minutes_blocks_the_key_until_they_are_over() {
    let account = account().await;
    let (status, body) = account.call("/vpbx/groups", r#"{"group_id":1}"#).await;
    assert_eq!((status, &body["code"]), (420, &json!(3300)));
    assert_eq!(account.call("/vpbx/groups", "{}").await.0, 200, "right requests still pass");
    account.control.advance(60_000);
    assert_eq!(account.call("/vpbx/groups", r#"{"group_id":1}"#).await.0, 401);
    assert_eq!(account.call("/vpbx/groups", "{}").await.0, 401, "now right ones are refused too");
    account.control.advance(60_000);
    assert_eq!(account.call("/vpbx/groups", "{}").await.0, 200, "the two minutes count from the first");
    assert_eq!(account.control.violations().len(), 2);
}

#[tokio::test]
async fn calls_over_a_limit_get_429_and_the_documented_body() {
    let table = [
        ("/vpbx/config/users/request", "{}", 1),
        ("/vpbx/account/balance", "{}", 2),
        ("/vpbx/groups", "{}", 10),
        ("/cc/md/widgets", r#"{"id":"1"}"#, 10),
    ];
    for (path, json, limit) in table {
        let account = account().await;
        for number in 0..limit {
            assert_eq!(account.call(path, json).await.0, 200, "{path} {number}");
        }
        let (status, body) = account.call(path, json).await;
        assert_eq!(status, 429, "{path}");
        assert_eq!(
            body,
            json!({"name": "Service Unavailable", "message": "Rate limit exceeded.", "code": 0, "status": 429})
        );
        account.control.advance(2000);
        assert_eq!(account.call(path, json).await.0, 200, "{path} after the window");
    }
}

#[tokio::test]
async fn faults_outages_new_keys_and_shared_limits_are_at_hand() {
    let account = account().await;
    account.control.fault(Fault {
        path: "/vpbx/groups".to_owned(),
        answer: Answer::Html { status: 503, text: "Сервис недоступен".to_owned() },
        ..Fault::default()
    });
    assert_eq!(account.call("/vpbx/account/balance", "{}").await.0, 200, "another path");
    assert_eq!(account.call("/vpbx/groups", "{}").await.0, 503);
    assert_eq!(account.call("/vpbx/groups", "{}").await.0, 200);
    account.control.throttle(1);
    assert_eq!(account.call("/vpbx/groups", "{}").await.0, 429);
    account.control.outage(Some(Outage::BadGateway));
    assert_eq!(account.call("/vpbx/groups", "{}").await.0, 502);
    account.control.outage(None);
    account.control.set_keys("newkey", "newsalt");
    assert_eq!(account.call("/vpbx/groups", "{}").await.1["code"], 3105);
    assert!(account.control.violations().iter().any(|entry| entry["code"] == 3105));
}

#[tokio::test]
async fn a_blocked_key_leaves_a_key_beside_it_alone() {
    let account = account().await;
    account.control.add_keys("second", "salt");
    for (json, status) in [(r#"{"group_id":1}"#, 420), (r#"{"group_id":1}"#, 401), ("{}", 401)] {
        assert_eq!(account.call("/vpbx/groups", json).await.0, status);
    }
    let answer = account.raw("/vpbx/groups", form("second", &sign("second", b"{}", "salt"), "{}")).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn control_over_http_sets_people_and_groups() {
    let account = account().await;
    let base = format!("{}/control", account.simulator.url());
    let post = |path: &str, body: Value| account.client.post(format!("{base}{path}")).body(body.to_string()).send();
    let made =
        post("/employees", json!({"name": "Новый", "email": "new@acme.example", "extension": "103"})).await.unwrap();
    assert_eq!(made.text().await.unwrap(), r#"{"user_id":300052409}"#);
    let refused = post("/employees", json!({"nmae": "Опечатка"})).await.unwrap();
    assert_eq!(refused.status(), 400);
    post("/groups", json!({"id": 7, "name": "Ночь", "members": [300_052_409]})).await.unwrap();
    let (_, body) = account.call("/vpbx/groups", r#"{"operator_id":300052409}"#).await;
    assert_eq!(body["groups"][0]["id"], 7);
    account.client.delete(format!("{base}/employees/300052409")).send().await.unwrap();
    let (_, body) = account.call("/vpbx/groups", r#"{"group_id":7,"show_users":1}"#).await;
    assert_eq!(body["groups"][0]["operators"], json!([]));
}
