//! The Creatio simulator keeps the rules of the Creatio reference, and what it adds to the package
//! contract: a record of what the relay does wrong, switches, faults. Driven over HTTP by a plain
//! client that shares no type with it. The contract itself, which the package keeps too, is in
//! `creatio_contract`.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use maxchannel_simulator::creatio::{
    Answer, Control, Dialect, Expired, Fault, Options, OutFile, Outage, Runtime, Simulator, Switches,
};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

const SOURCE: &str = "max-bot:254700011";
const SENDER: &str = "max:91234567";

struct Site {
    simulator: Simulator,
    control: Control,
    client: Client,
    token: String,
    base: String,
    agent: Uuid,
    queue: Uuid,
    channel: Uuid,
}

fn client() -> Client {
    // The first test of the process installs it for all.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn steady() -> Switches {
    Switches {
        late_row_every: 0,
        files_after_ms: 0,
        rotate_cookies_every: 0,
        etags: false,
        page_size: 0,
        ..Switches::default()
    }
}

async fn site_with(options: Options) -> Site {
    let simulator = Simulator::start(options).await.unwrap();
    let control = simulator.control();
    let agent = control.add_agent("Иван Орлов", "orlov@acme.example");
    let (channel, queue) = control.add_channel(SOURCE, &[agent]).unwrap();
    let client = client();
    let mut site =
        Site { base: simulator.url(), simulator, control, client, token: String::new(), agent, queue, channel };
    site.sign_in().await;
    site
}

async fn site() -> Site {
    site_with(Options { switches: steady(), ..Options::default() }).await
}

fn message(id: &str, timestamp: i64) -> Value {
    json!({"externalId": id, "channelSource": SOURCE, "sender": SENDER, "name": "Анна Петрова", "phone": "", "timestamp": timestamp,
        "direction": "incoming", "author": "customer", "text": format!("text of {id}"), "type": "text",
        "replacesExternalId": "", "standBy": false, "attachments": []})
}

fn with(mut value: Value, changes: &Value) -> Value {
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    value
}

impl Site {
    async fn sign_in(&mut self) {
        let options = Options::default();
        let answer = self
            .client
            .post(format!("{}/connect/token", self.simulator.identity_url()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!(
                "client_id={}&client_secret={}&grant_type=client_credentials",
                options.client_id, options.client_secret
            ))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        read(answer).await["access_token"].as_str().unwrap().clone_into(&mut self.token);
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        self.try_call(method, path, body).await.unwrap()
    }

    async fn try_call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, reqwest::Error> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await
    }

    async fn receive(&self, body: &Value) -> Value {
        let answer = self.call(Method::POST, "/rest/MaxChannelService/receive", Some(body)).await;
        assert_eq!(answer.status(), 200);
        read(answer).await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, None).await;
        assert_eq!(answer.status(), 200, "{path}");
        read(answer).await
    }

    async fn outbox(&self) -> Vec<Value> {
        let filter = format!("ChannelSource%20eq%20'{SOURCE}'%20and%20State%20eq%20'Pending'%20and%20Seq%20gt%200");
        let body = self.get(&format!("/odata/MaxOutbox?$filter={filter}&$orderby=Seq%20asc&$top=100")).await;
        body["value"].as_array().unwrap().clone()
    }

    /// A chat of the customer, accepted by the agent.
    async fn accepted_chat(&self) -> Uuid {
        let chat = guid(&self.receive(&message("mid.1", 1000)).await["chatId"]);
        assert!(self.control.accept(chat, self.agent).unwrap());
        chat
    }

    fn rules_broken(&self) -> Vec<String> {
        self.control.violations().iter().map(|entry| entry["rule"].as_str().unwrap().to_owned()).collect()
    }
}

async fn read(answer: Response) -> Value {
    let text = answer.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

fn guid(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

fn names(values: &[Value], name: &str) -> Vec<String> {
    values.iter().map(|value| value[name].as_str().unwrap_or("").to_owned()).collect()
}

#[tokio::test]
async fn time_stamps_of_incoming_messages_strictly_grow_and_a_repeat_keeps_its_values() {
    let site = site().await;
    site.receive(&message("mid.1", 1000)).await;
    assert_eq!(site.receive(&message("mid.2", 1000)).await["errorCode"], "bad_request");
    assert_eq!(site.receive(&message("mid.2", 1001)).await["success"], true);
    let old = json!({"direction": "outgoing", "author": "autoReply"});
    assert_eq!(site.receive(&with(message("out:1", 500), &old)).await["success"], true, "history keeps its true time");
    site.receive(&with(message("mid.2", 1001), &json!({"text": "another"}))).await;
    assert_eq!(site.rules_broken(), ["timestamp", "repeat"]);
    site.control.switches(|switches| switches.refuse_disorder = false);
    assert_eq!(site.receive(&message("mid.3", 900)).await["success"], true);
    assert_eq!(site.rules_broken(), ["timestamp", "repeat", "timestamp"]);
}

#[tokio::test]
async fn a_queued_message_is_acknowledged_only_by_the_repeat_that_finds_it_stored() {
    let site = site().await;
    site.receive(&message("mid.0", 500)).await;
    site.control.lock(SOURCE, SENDER, 2);
    let first = site.receive(&message("mid.1", 1000)).await;
    assert_eq!((&first["queued"], &first["duplicate"], &first["chatId"]), (&json!(true), &json!(false), &Value::Null));
    let second = site.receive(&message("mid.1", 1000)).await;
    assert_eq!(
        (&second["queued"], &second["duplicate"], &second["contactId"]),
        (&json!(true), &json!(true), &Value::Null)
    );
    assert_eq!(site.control.transcript(SENDER).len(), 1);
    let third = site.receive(&message("mid.1", 1000)).await;
    assert_eq!((&third["queued"], &third["duplicate"]), (&json!(false), &json!(true)));
    assert!(third["chatId"].is_string() && third["contactId"].is_string());
    assert!(site.control.violations().is_empty());
    site.control.lock(SOURCE, SENDER, 1);
    site.receive(&message("mid.2", 2000)).await;
    site.receive(&message("mid.3", 3000)).await;
    assert_eq!(site.rules_broken(), ["overtaking"]);
}

#[tokio::test]
async fn a_slow_receive_answers_its_repeat_queued_and_a_parallel_call_is_a_breach() {
    let site = site().await;
    site.control.fault(Fault {
        path: "/rest/MaxChannelService/receive".to_owned(),
        work_ms: 3_600_000,
        ..Fault::default()
    });
    let (one, other) = (message("mid.1", 1000), message("mid.2", 2000));
    let slow = site.receive(&one);
    let meanwhile = async {
        while site.control.counters()["inFlight"] == 0 {
            tokio::task::yield_now().await;
        }
        let repeat = loop {
            // The first call must have taken its key.
            let answer = site.receive(&one).await;
            if answer["duplicate"] == true {
                break answer;
            }
        };
        let parallel = site.receive(&other).await;
        site.control.advance(3_600_000);
        (repeat, parallel)
    };
    let (first, (repeat, parallel)) = tokio::join!(slow, meanwhile);
    assert_eq!((&repeat["queued"], &parallel["queued"]), (&json!(true), &json!(true)));
    assert_eq!((&first["queued"], &first["success"]), (&json!(false), &json!(true)));
    assert!(site.rules_broken().contains(&"in_flight".to_owned()));
    assert_eq!(
        names(&site.control.transcript(SENDER), "externalId"),
        ["mid.1", "mid.2"],
        "the holder drains the queue"
    );
}

#[tokio::test]
async fn stand_by_ends_by_hand_over_or_by_the_customers_next_message_without_a_closed_row() {
    let site = site().await;
    let by_bot = json!({"standBy": true});
    let bot = guid(&site.receive(&with(message("mid.1", 1000), &by_bot)).await["chatId"]);
    assert!(!site.control.accept(bot, site.agent).unwrap(), "agents are not called");
    let answer = json!({"standBy": false, "direction": "outgoing", "author": "bot"});
    site.receive(&with(message("out:1", 1500), &answer)).await;
    assert_eq!(site.control.chat(bot).unwrap()["status"], "Processed by bot", "outgoing entries change nothing");
    let hand_over = |chat: Uuid| json!({"chatId": chat});
    let over = site.call(Method::POST, "/rest/MaxChannelService/handOver", Some(&hand_over(bot))).await;
    let over = read(over).await;
    let child = guid(&over["chatId"]);
    assert_eq!((&over["success"], &over["queued"]), (&json!(true), &json!(false)));
    assert_eq!(site.control.chat(child).unwrap()["parentId"], bot.to_string());
    let again = site.call(Method::POST, "/rest/MaxChannelService/handOver", Some(&hand_over(bot))).await;
    assert_eq!(guid(&read(again).await["chatId"]), child, "a repeat finds the open chat");
    assert!(site.control.accept(child, site.agent).unwrap());
    assert_eq!(names(&site.outbox().await, "Kind"), ["accepted"]);
    let other = json!({"sender": "max:2", "standBy": true});
    let first = guid(&site.receive(&with(message("mid.a", 1000), &other)).await["chatId"]);
    let second = guid(&site.receive(&with(message("mid.b", 2000), &json!({"sender": "max:2"}))).await["chatId"]);
    assert_ne!(first, second);
    assert_eq!(site.control.chat(second).unwrap()["status"], "Waiting for processing");
    site.control.switches(|switches| switches.hand_over_same_chat = true);
    let third =
        guid(&site.receive(&with(message("mid.c", 1), &json!({"sender": "max:3", "standBy": true}))).await["chatId"]);
    let same = site.call(Method::POST, "/rest/MaxChannelService/handOver", Some(&hand_over(third))).await;
    assert_eq!(guid(&read(same).await["chatId"]), third);
    site.control.lock(SOURCE, "max:3", 1);
    let queued = site.call(Method::POST, "/rest/MaxChannelService/handOver", Some(&hand_over(third))).await;
    assert_eq!(read(queued).await, json!({"success": true, "queued": true, "chatId": null}));
    assert!(site.control.violations().is_empty(), "{:?}", site.control.violations());
}

#[tokio::test]
async fn a_transfer_makes_the_child_first_and_only_a_closing_writes_closed() {
    let site = site().await;
    let chat = site.accepted_chat().await;
    let second = site.control.add_agent("Мария Ким", "kim@acme.example");
    let child = site.control.transfer_to_agent(chat, site.agent, second).unwrap();
    let waiting = site.control.transfer_to_queue(child, second, site.queue).unwrap();
    assert!(site.control.send(child, second, "late", Vec::new()).is_err());
    assert!(site.control.accept(waiting, site.agent).unwrap());
    site.control.close(waiting, site.agent).unwrap();
    site.control.close(waiting, site.agent).unwrap();
    let rows = site.outbox().await;
    assert_eq!(names(&rows, "Kind"), ["accepted", "transferred", "transferred", "accepted", "closed"]);
    assert_eq!((guid(&rows[1]["ChatId"]), guid(&rows[1]["ParentChatId"])), (child, chat));
    assert_eq!((guid(&rows[1]["AgentId"]), &rows[1]["AgentName"]), (second, &json!("Мария Ким")));
    assert_eq!((guid(&rows[2]["AgentId"]), &rows[2]["AgentName"]), (Uuid::nil(), &json!("")));
    assert_eq!(rows[4]["Reason"], "agent");
    let seqs: Vec<i64> = rows.iter().map(|row| row["Seq"].as_i64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|left, right| left < right));
    assert!(seqs.windows(2).any(|pair| pair[1] - pair[0] > 1), "gaps are normal: {seqs:?}");
    let all = read(
        site.call(Method::POST, "/rest/OmnichannelChatService/GetConversation", Some(&json!({"chatId": waiting})))
            .await,
    )
    .await;
    assert_eq!(all[0]["text"], "text of mid.1");
    assert_eq!(all[0]["time"], "1970-01-01T00:00:01");
}

#[tokio::test]
async fn files_of_an_agent_follow_the_text_and_can_be_downloaded_when_his_request_has_ended() {
    let site = site().await;
    site.control.switches(|switches| switches.files_after_ms = 60_000);
    let chat = site.accepted_chat().await;
    let file =
        |name: &str, mime: &str| OutFile { name: name.to_owned(), mime_type: mime.to_owned(), bytes: name.into() };
    let files = vec![file("договор.pdf", "application/pdf"), file("фото.jpg", "image/jpeg")];
    site.control.send(chat, site.agent, "смотрите", files).unwrap();
    let rows = site.outbox().await;
    assert_eq!(names(&rows, "MessageType"), ["", "text", "image"]);
    assert_eq!(rows[2]["Text"], "");
    let sent: Value = serde_json::from_str(rows[2]["Files"].as_str().unwrap()).unwrap();
    assert_eq!(names(sent.as_array().unwrap(), "name"), ["договор.pdf", "фото.jpg"]);
    let path = format!("/rest/FileService/Download/OmnichannelMessageFile/{}", sent[0]["id"].as_str().unwrap());
    assert_eq!(site.call(Method::GET, &path, None).await.status(), 404);
    site.control.advance(60_000);
    let found = site.call(Method::GET, &path, None).await;
    assert_eq!(found.status(), 200);
    assert_eq!(found.text().await.unwrap(), "договор.pdf");
    site.control.break_outbox(true);
    assert!(site.control.send(chat, site.agent, "lost", Vec::new()).is_err(), "the agent sees that sending failed");
    assert_eq!(site.outbox().await.len(), 3);
}

#[tokio::test]
async fn a_late_commit_shows_a_lower_number_after_a_higher_one_but_keeps_a_customers_order() {
    let site = site().await;
    let chat = site.accepted_chat().await;
    site.control.hold_outbox(SENDER, 60_000);
    site.control.send(chat, site.agent, "раз", Vec::new()).unwrap();
    site.control.send(chat, site.agent, "два", Vec::new()).unwrap();
    let other = guid(&site.receive(&with(message("mid.x", 1000), &json!({"sender": "max:2"}))).await["chatId"]);
    site.control.accept(other, site.agent).unwrap();
    let before = site.outbox().await;
    assert_eq!(names(&before, "Kind"), ["accepted", "accepted"]);
    site.control.advance(60_000);
    let after = site.outbox().await;
    assert_eq!(names(&after, "Text"), ["", "раз", "два", ""]);
}

#[tokio::test]
async fn a_chat_closes_by_time_only_after_an_answer_and_never_while_it_waits() {
    let mut site = site().await;
    site.control.update("ChatQueue", site.queue, &json!({"ChatTimeout": 10})).unwrap();
    let chat = guid(&site.receive(&message("mid.1", 1000)).await["chatId"]);
    site.control.update("OmniChat", chat, &json!({"CloseDate": "2026-01-01T00:00:00Z"})).unwrap();
    site.control.advance(3_600_000);
    assert_eq!(site.control.chat(chat).unwrap()["completed"], false);
    site.control.accept(chat, site.agent).unwrap();
    site.control.send(chat, site.agent, "ответ", Vec::new()).unwrap();
    site.control.advance(11 * 60_000);
    assert_eq!(site.control.chat(chat).unwrap()["completed"], true);
    site.sign_in().await;
    assert_eq!(names(&site.outbox().await, "Reason"), ["", "", "timeout"]);
}

/// The cookies of a forms login as a header, and the CSRF value.
async fn log_in(client: &Client, base: &str, password: &str) -> (Value, String, String) {
    let body = json!({"UserName": "max.relay", "UserPassword": password});
    let answer =
        client.post(format!("{base}/ServiceModel/AuthService.svc/Login")).body(body.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200, "also a wrong password is answered 200");
    let pairs: Vec<String> = answer
        .headers()
        .get_all("set-cookie")
        .iter()
        .map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned())
        .collect();
    let csrf = pairs.iter().find_map(|pair| pair.strip_prefix("BPMCSRF=")).unwrap_or("").to_owned();
    (read(answer).await, pairs.join("; "), csrf)
}

#[tokio::test]
async fn a_forms_session_needs_its_cookies_and_for_changes_its_csrf_value() {
    for runtime in [Runtime::Net, Runtime::Framework] {
        let site = site_with(Options { runtime, switches: steady(), ..Options::default() }).await;
        let (client, root) = (&site.client, &site.base);
        let base = format!("{root}{}", runtime.prefix());
        let (wrong, none, _) = log_in(client, root, "wrong").await;
        assert_eq!((&wrong["Code"], none.as_str()), (&json!(1), ""));
        let (right, cookies, csrf) = log_in(client, root, &Options::default().password).await;
        assert_eq!(right["Code"], 0);
        for name in ["BPMLOADER", ".ASPXAUTH", "BPMCSRF", "UserName"] {
            assert!(cookies.contains(&format!("{name}=")), "{name}");
        }
        let get = |url: String| client.get(url).header("cookie", &cookies).header("ForceUseSession", "true").send();
        let list = format!("{base}/odata/SysAdminUnit?$top=1&$select=Id");
        assert_eq!(get(list.clone()).await.unwrap().status(), 200);
        assert_eq!(client.get(&list).header("cookie", &cookies).send().await.unwrap().status(), 401);
        let post = |csrf: String| {
            client
                .post(format!("{base}/odata/Contact"))
                .header("cookie", &cookies)
                .header("ForceUseSession", "true")
                .header("content-type", "application/json")
                .header("BPMCSRF", csrf)
                .body(r#"{"Name":"Anna K."}"#)
                .send()
        };
        assert_eq!(post(String::new()).await.unwrap().status(), 403);
        assert_eq!(post(csrf.clone()).await.unwrap().status(), 201);
        let wrong_prefix = if runtime == Runtime::Net { "/0" } else { "" };
        let missed = get(format!("{root}{wrong_prefix}/odata/Contact")).await.unwrap();
        assert_eq!(missed.status(), 404);
        assert!(missed.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
        let prefixed =
            client.post(format!("{root}/0/ServiceModel/AuthService.svc/Login")).body("{}").send().await.unwrap();
        assert_eq!(prefixed.status(), 401);
        let ping = client.get(format!("{base}/api/HealthCheck/Ping")).send().await.unwrap();
        assert_eq!(ping.status(), 200);
        let shapes = [
            (Expired::Unauthorized, 401),
            (Expired::Forbidden, 403),
            (Expired::Redirect, 302),
            (Expired::LoginPage, 200),
        ];
        for (shape, status) in shapes {
            site.control.expire_sessions(Some(shape));
            let dead = get(list.clone()).await.unwrap();
            assert_eq!(dead.status(), status);
            let text = dead.text().await.unwrap();
            assert!(!text.starts_with('{'), "{text}");
        }
        site.control.switches(|switches| switches.rotate_cookies_every = 2);
        let (_, cookies, _) = log_in(client, root, &Options::default().password).await;
        let call = || client.get(&list).header("cookie", &cookies).header("ForceUseSession", "true").send();
        let rotated: Vec<bool> = [call().await, call().await]
            .into_iter()
            .map(|answer| answer.unwrap().headers().contains_key("set-cookie"))
            .collect();
        assert_eq!(rotated, [false, true]);
        assert_eq!(call().await.unwrap().status(), 200, "calls under way during the rotation still pass");
    }
}

#[tokio::test]
async fn a_user_is_locked_after_too_many_wrong_passwords() {
    let site = site().await;
    for _ in 0..5 {
        assert_eq!(log_in(&site.client, &site.base, "wrong").await.0["Code"], 1);
    }
    let (locked, ..) = log_in(&site.client, &site.base, &Options::default().password).await;
    assert_eq!((&locked["Code"], locked["Message"].as_str().unwrap().contains("locked")), (&json!(1), true));
}

#[tokio::test]
async fn bearer_tokens_come_from_the_identity_service_only_and_end() {
    let mut site = site().await;
    let identity = site.simulator.identity_url();
    let ask = |url: String, body: &'static str| {
        site.client.post(url).header("content-type", "application/x-www-form-urlencoded").body(body).send()
    };
    let token = format!("{identity}/connect/token");
    for (body, error) in [
        ("client_id=a&client_secret=b&grant_type=client_credentials", "invalid_client"),
        ("client_id=a&client_secret=b&grant_type=password", "unsupported_grant_type"),
    ] {
        let answer = ask(token.clone(), body).await.unwrap();
        assert_eq!(answer.status(), 400);
        assert_eq!(read(answer).await, json!({"error": error}));
    }
    let page = ask(format!("{}/connect/token", site.base), "grant_type=client_credentials").await.unwrap();
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"), "the CRM's host gives a page");
    assert_eq!(site.call(Method::GET, "/odata/Contact", None).await.status(), 200);
    site.control.revoke_tokens();
    assert_eq!(site.call(Method::GET, "/odata/Contact", None).await.status(), 401);
    site.sign_in().await;
    site.control.restart();
    assert_eq!(site.call(Method::GET, "/odata/Contact", None).await.status(), 200, "a restart leaves tokens alone");
    site.control.advance(3_600_000);
    assert_eq!(site.call(Method::GET, "/odata/Contact", None).await.status(), 401);
}

#[tokio::test]
async fn rows_are_made_read_changed_and_deleted_as_in_odata_4() {
    let site = site().await;
    let id = Uuid::from_u128(0x0d5b_b5b1_7a4c_5e43_9d0e_7b8e_2f2f_4c11);
    let made = site
        .call(Method::POST, "/odata/Contact", Some(&json!({"Id": id.to_string().to_uppercase(), "Name": "Anna K."})))
        .await;
    assert_eq!(made.status(), 201);
    assert_eq!(made.headers()["odata-version"], "4.0");
    assert_eq!(made.headers()["location"].to_str().unwrap(), format!("{}/odata/Contact({id})", site.base));
    let made = read(made).await;
    let digits = |row: &Value| row["CreatedOn"].as_str().unwrap().split_once('.').unwrap().1.len() - 1;
    assert_eq!((digits(&made), made["AccountId"].clone(), &made["Email"]), (7, json!(Uuid::nil()), &json!("")));
    assert!(made["@odata.context"].as_str().unwrap().ends_with("$metadata#Contact/$entity"));
    let path = format!("/odata/Contact({})", id.to_string().to_uppercase());
    assert_eq!(digits(&site.get(&path).await), 6);
    assert_eq!(site.call(Method::PATCH, &path, Some(&json!({"Email": "a@b.example"}))).await.status(), 204);
    assert_eq!(site.get(&format!("{path}/Email")).await["value"], "a@b.example");
    let raw = site.call(Method::GET, &format!("{path}/Name/$value"), None).await;
    assert_eq!(raw.text().await.unwrap(), "Anna K.");
    let count = site.call(Method::GET, "/odata/Contact/$count", None).await;
    assert!(count.text().await.unwrap().parse::<u32>().unwrap() >= 1);
    let counted = site.get("/odata/Contact?$count=true&$top=0").await;
    assert!(counted["@odata.count"].as_u64().unwrap() >= 1 && counted["value"] == json!([]));
    assert_eq!(site.call(Method::DELETE, &path, None).await.status(), 204);
    for method in [Method::DELETE, Method::GET] {
        assert_eq!(site.call(method, &path, None).await.status(), 404);
    }
    let metadata = site.call(Method::GET, "/odata/$metadata", None).await.text().await.unwrap();
    assert!(metadata.contains("<EntityType Name=\"MaxOutbox\">"));
}

#[tokio::test]
async fn filters_take_what_works_on_every_site_and_refuse_the_rest() {
    let site = site().await;
    for (name, email) in [("Анна", "anna@acme.example"), ("О'Нил", "ONEIL@acme.example"), ("Борис", "")] {
        site.control.insert("Contact", &json!({"Name": name, "Email": email, "Notes": "ours"})).unwrap();
    }
    let agent = site.agent;
    let encode =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let good = [
        ("Contact", "Notes eq 'ours' and Name eq 'О''Нил'".to_owned(), 1),
        ("Contact", "Notes eq 'ours' and (Name eq 'Анна' or Name eq 'Борис')".to_owned(), 2),
        ("Contact", "Notes eq 'ours' and not contains(Email,'acme')".to_owned(), 1),
        ("Contact", "startswith(Email,'anna') and endswith(Email,'example')".to_owned(), 1),
        (
            "Contact",
            "Notes eq 'ours' and CreatedOn ge 2020-01-01T00:00:00Z and CreatedOn lt 2200-01-01T00:00:00Z".to_owned(),
            3,
        ),
        ("Contact", "Notes eq 'ours' and Email eq ''".to_owned(), 1),
        ("Contact", "Email eq 'oneil@acme.example'".to_owned(), 0),
        ("SysAdminUnit", "Active eq true and SysAdminUnitTypeValue eq 4 and Contact/Email ne ''".to_owned(), 1),
        ("SysAdminUnit", format!("Id eq {}", agent.to_string().to_uppercase()), 1),
        ("ChatQueueOperator", format!("Operator/Id eq {agent} and ChatQueue/Id eq {}", site.queue), 1),
        ("OperatorRoutingRules", "Code eq 'ForFree'".to_owned(), 1),
    ];
    for (entity, filter, count) in good {
        let body = site.get(&format!("/odata/{entity}?$filter={}", encode(&filter))).await;
        assert_eq!(body["value"].as_array().unwrap().len(), count, "{filter}");
    }
    let bad = [
        ("Contact", "Nmae eq 'x'".to_owned()),
        ("Contact", "Name eq Анна".to_owned()),
        ("Contact", "Name eq 'Анна".to_owned()),
        ("Contact", "Name = 'Анна'".to_owned()),
        ("Contact", "Id eq 'a1b0184b-0a54-4a47-ba08-a5772105d3b2'".to_owned()),
        ("Contact", "tolower(Name) eq 'анна'".to_owned()),
        ("Contact", "Name in ('Анна')".to_owned()),
        ("Contact", "CreatedOn ge datetime'2026-01-01'".to_owned()),
        ("ChatQueueOperator", format!("OperatorId eq {agent}")),
    ];
    for (entity, filter) in bad {
        let answer = site.call(Method::GET, &format!("/odata/{entity}?$filter={}", encode(&filter)), None).await;
        assert_eq!(answer.status(), 400, "{filter}");
    }
    site.control.switches(|switches| *switches = Switches::friendly());
    for filter in [format!("OperatorId eq {agent}"), format!("OperatorId in ({agent})")] {
        let body = site.get(&format!("/odata/ChatQueueOperator?$filter={}", encode(&filter))).await;
        assert_eq!(body["value"].as_array().unwrap().len(), 1, "{filter}");
    }
    let plus = site.call(Method::GET, "/odata/Contact?$filter=Name+eq+'x'", None).await;
    assert_eq!(plus.status(), 400, "a plus is no blank");
}

#[tokio::test]
async fn lists_are_ordered_paged_and_expanded() {
    let site = site().await;
    for name in ["Б", "А", "В"] {
        site.control.insert("Contact", &json!({"Name": name, "Notes": "ours"})).unwrap();
    }
    let ours = "$filter=Notes%20eq%20'ours'&$select=Name&$orderby=Notes%20asc,Name%20desc";
    let body = site.get(&format!("/odata/Contact?{ours}&$top=2&$skip=1")).await;
    assert_eq!(body["value"], json!([{"Name": "Б"}, {"Name": "А"}]));
    site.control.switches(|switches| switches.page_size = 2);
    let first = site.get(&format!("/odata/Contact?{ours}")).await;
    let next = first["@odata.nextLink"].as_str().unwrap().strip_prefix(&site.base).unwrap().to_owned();
    let second = site.get(&next).await;
    assert_eq!((&second["value"], second.get("@odata.nextLink")), (&json!([{"Name": "А"}]), None));
    let one = site.get(&format!("/odata/SysAdminUnit({})?$expand=Contact", site.agent)).await;
    assert_eq!(one["Contact"]["Email"], "orlov@acme.example");
    let chat = site.accepted_chat().await;
    let child = site.control.transfer_to_queue(chat, site.agent, site.queue).unwrap();
    let chat = site.get(&format!("/odata/OmniChat({chat})?$expand=OmniChatCollectionByParent")).await;
    assert_eq!(chat["OmniChatCollectionByParent"][0]["Id"], child.to_string());
    site.control.switches(|switches| switches.nested_expand_options = true);
    let deep = "/odata/ChatQueueOperator?$expand=Operator($expand=Contact($expand=Account))";
    assert_eq!(site.call(Method::GET, deep, None).await.status(), 400);
    let fits = site.get("/odata/ChatQueueOperator?$expand=Operator($select=Id;$expand=Contact($select=Name))").await;
    assert_eq!(fits["value"][0]["Operator"]["Contact"], json!({"Name": "Иван Орлов"}));
}

#[tokio::test]
async fn the_database_refuses_in_its_own_words() {
    for (dialect, duplicate, too_long, chats) in [
        (Dialect::PostgreSql, "23505: duplicate key", "22001: value too long for type character varying(50)", "23503"),
        (
            Dialect::SqlServer,
            "Cannot insert duplicate key",
            "String or binary data would be truncated",
            "REFERENCE constraint",
        ),
    ] {
        let site = site_with(Options { dialect, switches: steady(), ..Options::default() }).await;
        site.receive(&message("mid.1", 1000)).await;
        let identity = |sender: &str, contact: Value| json!({"ChannelIdentity": sender, "ChannelId": site.channel, "ContactId": contact});
        let contact = site.control.chats(None)[0]["contactId"].clone();
        let provider = json!({"Id": "889213f3-6d22-55a4-8421-4a8a63914f71", "Name": "MAX"});
        let channel = format!("/odata/Channel({})", site.channel);
        let table = [
            (Method::POST, "/odata/ChannelProvider", Some(provider), duplicate),
            (Method::POST, "/odata/ContactIdentity", Some(identity(SENDER, contact.clone())), duplicate),
            (Method::POST, "/odata/ContactIdentity", Some(identity(&"x".repeat(51), contact)), too_long),
            (Method::POST, "/odata/ContactIdentity", Some(identity("max:9", json!(Uuid::from_u128(9)))), "FOREIGN KEY"),
            (Method::POST, "/odata/Contact", Some(json!({"Email": "a@b.example"})), "null"),
            (Method::DELETE, channel.as_str(), None, chats),
        ];
        for (method, path, body, words) in table {
            let answer = site.call(method, path, body.as_ref()).await;
            assert_eq!(answer.status(), 500, "{path}");
            let text = answer.text().await.unwrap();
            let words = if words == "FOREIGN KEY" && dialect == Dialect::PostgreSql { "23503" } else { words };
            assert!(text.to_lowercase().contains(&words.to_lowercase()), "{words}: {text}");
        }
        assert_eq!(site.call(Method::PATCH, &channel, Some(&json!({"IsActive": false}))).await.status(), 204);
    }
}

#[tokio::test]
async fn missing_rights_and_a_missing_package_look_as_on_a_real_site() {
    let site = site().await;
    assert_eq!(
        site.get("/rest/MaxChannelService/ping").await,
        json!({"success": true, "version": "1.0.0", "contract": 1})
    );
    site.control.deny("Channel", true);
    assert_eq!(site.call(Method::GET, "/odata/Channel", None).await.status(), 403);
    site.control.deny("Channel", false);
    assert_eq!(site.call(Method::GET, "/odata/Channel", None).await.status(), 200);
    site.control.install_package(false);
    let ping = site.call(Method::GET, "/rest/MaxChannelService/ping", None).await;
    assert_eq!(ping.status(), 404);
    assert!(ping.text().await.unwrap().starts_with("<!DOCTYPE"));
    for (ok, status) in [(true, 200), (false, 404)] {
        site.control.switches(|switches| switches.unknown_collection_ok = ok);
        let answer = site.call(Method::GET, "/odata/MaxOutbox", None).await;
        assert_eq!(answer.status(), status);
        assert!(read(answer).await.get("Message").is_some());
    }
}

#[tokio::test]
async fn faults_take_hold_of_the_next_calls_before_or_after_their_effect() {
    let site = site().await;
    let receive = |effect: bool, answer: Answer| Fault {
        method: Some("POST".to_owned()),
        path: "/rest/MaxChannelService/receive".to_owned(),
        effect,
        answer,
        ..Fault::default()
    };
    let html = |status: u16| Answer::Html { status, text: "Bad Gateway".to_owned() };
    let table = [
        (receive(false, Answer::Drop), None, 0),
        (receive(true, Answer::Drop), None, 1),
        (receive(true, html(500)), Some(500), 1),
        (receive(false, html(502)), Some(502), 0),
        (receive(true, Answer::Truncate), Some(200), 1),
        (receive(false, Answer::Empty { status: 503 }), Some(503), 0),
        (receive(false, Answer::Json { status: 400, body: json!({"Message": "x"}) }), Some(400), 0),
        (receive(false, Answer::Redirect { location: "/Login/Login.html".to_owned() }), Some(302), 0),
        (receive(true, Answer::Shape { status: 500, number: 4 }), Some(500), 1),
    ];
    for (number, (fault, status, stored)) in (1_i64..).zip(table) {
        let before = site.control.transcript(SENDER).len();
        let shown = format!("{fault:?}");
        site.control.fault(fault);
        let body = message(&format!("mid.{number}"), number * 1000);
        let answer = site.try_call(Method::POST, "/rest/MaxChannelService/receive", Some(&body)).await;
        assert_eq!(answer.as_ref().ok().map(|answer| answer.status().as_u16()), status, "{shown}");
        assert_eq!(site.control.transcript(SENDER).len() - before, stored, "{shown}");
        let repeat = site.receive(&body).await;
        assert_eq!((&repeat["success"], &repeat["duplicate"]), (&json!(true), &json!(stored == 1)), "{shown}");
    }
    assert!(site.control.violations().is_empty());
    for (outage, status) in [(Outage::Drop, None), (Outage::BadGateway, Some(502)), (Outage::Unavailable, Some(503))] {
        site.control.outage(Some(outage));
        let answer = site.try_call(Method::GET, "/odata/Contact", None).await;
        assert_eq!(answer.ok().map(|answer| answer.status().as_u16()), status);
    }
    site.control.outage(None);
    site.control.fault(Fault {
        path: "/odata/contact".to_owned(),
        skip: 1,
        count: 2,
        answer: html(503),
        ..Fault::default()
    });
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(site.call(Method::GET, "/odata/Contact", None).await.status().as_u16());
    }
    assert_eq!(seen, [200, 503, 503, 200]);
}

#[tokio::test]
async fn calls_are_counted_by_kind_and_rate() {
    let site = site().await;
    for id in [site.agent, Uuid::new_v4()] {
        site.call(Method::GET, &format!("/odata/SysAdminUnit({id})"), None).await;
    }
    let counters = site.control.counters();
    assert_eq!(counters["calls"]["GET /odata/SysAdminUnit({id})"], 2);
    assert_eq!(counters["calls"]["POST /connect/token"], 1);
    assert!(counters["highestInOneSecond"].as_u64().unwrap() >= 1);
    assert_eq!((&counters["inFlight"], &counters["inFlightMax"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn free_routing_directs_a_chat_and_makes_who_does_not_answer_inactive() {
    let site = site().await;
    let second = site.control.add_agent("Мария Ким", "kim@acme.example");
    site.control.insert("ChatQueueOperator", &json!({"ChatQueueId": site.queue, "OperatorId": second})).unwrap();
    let chat = guid(&site.receive(&message("mid.1", 1000)).await["chatId"]);
    let directed = || guid(&site.control.chat(chat).unwrap()["directedAgentId"]);
    let first = directed();
    site.control.advance(61_000);
    assert_eq!(directed(), first);
    site.control.advance(6 * 60_000);
    assert_ne!(directed(), first);
    assert!([site.agent, second].contains(&directed()));
}

#[tokio::test]
async fn control_over_http_does_what_an_agent_does() {
    let site = site().await;
    let control = format!("{}/control", site.base);
    let post = |path: String, body: Value| {
        let request = site.client.post(format!("{control}{path}")).body(body.to_string());
        async move { read(request.send().await.unwrap()).await }
    };
    let get = |path: &str| {
        let request = site.client.get(format!("{control}{path}"));
        async move { read(request.send().await.unwrap()).await }
    };
    let agent = post(
        "/agents".to_owned(),
        json!({"name": "Пётр", "email": "p@acme.example", "login": "petr", "password": "invented"}),
    )
    .await;
    let chat = guid(&site.receive(&message("mid.1", 1000)).await["chatId"]);
    let by = json!({"agentId": agent["id"]});
    assert_eq!(post(format!("/chats/{chat}/accept"), by.clone()).await, json!({"accepted": true}));
    let files = json!([{"name": "a.txt", "mimeType": "text/plain", "base64": "0L/RgNC40LLQtdGC"}]);
    let sent = post(format!("/chats/{chat}/send"), with(by.clone(), &json!({"text": "ответ", "files": files}))).await;
    assert_eq!((&sent["sent"], sent["messageIds"].as_array().unwrap().len()), (&json!(true), 2));
    assert_eq!(get(&format!("/agents/{}/chats", agent["id"].as_str().unwrap())).await.as_array().unwrap().len(), 1);
    let child = post(format!("/chats/{chat}/transfer"), with(by.clone(), &json!({"toAgentId": site.agent}))).await;
    let child = guid(&child["chatId"]);
    post(format!("/chats/{child}/close"), json!({"agentId": site.agent})).await;
    let transcript = get("/transcript/max:91234567").await;
    let shown = names(transcript.as_array().unwrap(), "author");
    assert_eq!(shown, ["customer", "agent", "agent", "system", "system", "system"]);
    let file = &transcript[2]["attachments"][0];
    let bytes = site.client.get(format!("{control}/files/{}", file["id"].as_str().unwrap())).send().await.unwrap();
    assert_eq!(bytes.text().await.unwrap(), "привет");
    let refused = post("/faults".to_owned(), json!({"pth": "/odata"})).await;
    assert!(refused["error"].as_str().unwrap().contains("pth"));
    post("/faults".to_owned(), json!({"path": "/odata/Contact", "answer": {"html": {"status": 503, "text": "away"}}}))
        .await;
    assert_eq!(site.call(Method::GET, "/odata/Contact", None).await.status(), 503);
    post("/faults".to_owned(), json!({"path": "/odata/Contact", "answer": "drop"})).await;
    assert!(site.try_call(Method::GET, "/odata/Contact", None).await.is_err());
    let patched = site.client.patch(format!("{control}/switches")).body(r#"{"pageSize":3}"#).send().await.unwrap();
    assert_eq!(read(patched).await["pageSize"], 3);
    assert!(get("").await["routes"].as_array().unwrap().len() > 20);
    post("/outage".to_owned(), json!({"mode": "unavailable"})).await;
    assert_eq!(site.call(Method::GET, "/odata/Contact", None).await.status(), 503);
    assert_eq!(post("/outage".to_owned(), json!({"mode": null})).await, json!({"ok": true}));
}

#[tokio::test]
async fn only_the_technical_user_reads_the_outbox() {
    let site = site().await;
    let body = json!({"name": "Пётр", "login": "petr", "password": "invented"});
    site.client.post(format!("{}/control/agents", site.base)).body(body.to_string()).send().await.unwrap();
    let body = json!({"UserName": "petr", "UserPassword": "invented"});
    let login = site.client.post(format!("{}/ServiceModel/AuthService.svc/Login", site.base)).body(body.to_string());
    let login = login.send().await.unwrap();
    let cookies: Vec<String> = login
        .headers()
        .get_all("set-cookie")
        .iter()
        .map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned())
        .collect();
    let read_as_agent = |path: &str| {
        let request = site.client.get(format!("{}{path}", site.base)).header("cookie", cookies.join("; "));
        request.header("ForceUseSession", "true").send()
    };
    assert_eq!(read_as_agent("/odata/Contact").await.unwrap().status(), 200);
    assert_eq!(read_as_agent("/odata/MaxOutbox").await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_stopped_site_refuses_connections() {
    let site = site().await;
    assert_eq!(site.call(Method::GET, "/odata/Contact", None).await.status(), 200);
    let (client, url) = (site.client, site.base);
    site.simulator.stop().await;
    assert!(client.get(url).send().await.is_err());
}

#[tokio::test]
async fn a_batch_stops_at_its_first_failure_unless_told_otherwise() {
    let site = site().await;
    let part = |id: &str, method: &str, url: &str, body: Value| json!({"id": id, "method": method, "url": url, "headers": {"Content-Type": "application/json"}, "body": body});
    let key = Uuid::from_u128(5);
    let parts = json!({"requests": [
        with(part("1", "POST", "Contact", json!({"Id": key, "Name": "А"})), &json!({"atomicityGroup": "g"})),
        part("2", "PATCH", &format!("Contact/{key}"), json!({"Name": "Б"})),
        part("3", "POST", "Contact", json!({"Id": key, "Name": "В"})),
        part("4", "GET", &format!("Contact({key})?$select=Name"), Value::Null),
    ]});
    for (prefer, seen) in [("", vec![201, 204, 500]), ("continue-on-error", vec![500, 204, 500, 200])] {
        let request = site.client.post(format!("{}/odata/$batch", site.base)).bearer_auth(&site.token);
        let request =
            request.header("content-type", "application/json").header("prefer", prefer).body(parts.to_string());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let answer = read(answer).await;
        let responses = answer["responses"].as_array().unwrap();
        let statuses: Vec<u64> = responses.iter().map(|response| response["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, seen);
        assert!(responses[0]["atomicityGroup"].as_str().unwrap().parse::<Uuid>().is_ok());
        if let Some(last) = responses.get(3) {
            assert_eq!(last["body"]["Name"], "Б");
        }
    }
    let many = json!({"requests": vec![part("1", "GET", "Contact", Value::Null); 101]});
    assert_eq!(site.call(Method::POST, "/odata/$batch", Some(&many)).await.status(), 400);
}

#[tokio::test]
async fn a_conversation_of_hostile_defaults_loses_nothing() {
    // Late rows, gaps, late files, rotating cookies: what a patient reader of the outbox sees in
    // the end.
    let site = site_with(Options { time_scale: 1e-6, ..Options::default() }).await;
    let mut chats = Vec::new();
    for number in 1..=20_i64 {
        let sender = json!({"sender": format!("max:{number}")});
        let chat = guid(&site.receive(&with(message(&format!("mid.{number}"), number), &sender)).await["chatId"]);
        assert!(site.control.accept(chat, site.agent).unwrap());
        site.control.send(chat, site.agent, "раз", Vec::new()).unwrap();
        site.control.send(chat, site.agent, "два", Vec::new()).unwrap();
        chats.push(chat);
    }
    site.control.switches(|switches| switches.page_size = 0);
    assert!(site.outbox().await.len() < 60, "some rows commit late");
    site.control.advance(Switches::default().late_row_ms);
    let rows = site.outbox().await;
    assert_eq!(rows.len(), 60);
    for chat in chats {
        let own: Vec<&Value> = rows.iter().filter(|row| row["ChatId"] == chat.to_string()).collect();
        let texts: Vec<&str> = own.iter().map(|row| row["Text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["", "раз", "два"]);
    }
}
