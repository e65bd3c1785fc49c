//! Signing in and staying so.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

const LOGIN: &str = r#"{"Code":0,"Message":"","Exception":null,"PasswordChangeUrl":null,"RedirectUrl":null}"#;

fn with_cookies(reply: Reply, cookies: &[&str]) -> Reply {
    reply.map(|mut answer| {
        for cookie in cookies {
            answer.headers_mut().append("set-cookie", cookie.parse().unwrap());
        }
        answer
    })
}

fn is_sign_in(request: &Request) -> bool {
    ["/connect/token", "/ServiceModel/AuthService.svc/Login"].contains(&request.uri().path())
}

/// A good sign-in of either kind, the n-th with its own proof.
fn sign_in(request: &Request, n: usize) -> Reply {
    if request.uri().path() == "/connect/token" {
        json(200, &format!(r#"{{"access_token":"token-{n}","expires_in":"3600"}}"#))
    } else {
        let cookies = [format!(".ASPXAUTH=ticket-{n}; path=/; HttpOnly"), format!("BPMCSRF=csrf-{n}/x; path=/")];
        with_cookies(json(200, LOGIN), &[&cookies[0], &cookies[1]])
    }
}

#[tokio::test]
async fn oauth_asks_the_identity_service_with_the_form_documented() {
    let (client, site) = signed_in(|_| json(200, r#"{"value":[]}"#));
    client.list::<Channel>(Query::new()).await.unwrap();
    assert_eq!(
        site.shown()[0],
        "POST https://acme-is.example/connect/token\ncontent-type: application/x-www-form-urlencoded\n\
         client_id=C0FFEE&client_secret=s3cret%26canary&grant_type=client_credentials"
    );
}

#[tokio::test]
async fn the_cloud_needs_no_identity_url() {
    for (url, sign_in) in [
        ("https://acme.creatio.com", Some("https://acme-is.creatio.com/connect/token")),
        ("https://crm.acme.example", None),
    ] {
        let site = Site::new(|_| json(200, TOKEN));
        let settings = Settings { url: url.parse().unwrap(), identity_url: None, ..settings(oauth()) };
        let error = Client::new(site.clone(), settings).ping().await.unwrap_err();
        let first = site.shown().first().map(|request| request.lines().next().unwrap().replace("POST ", ""));
        assert_eq!(first.as_deref(), sign_in);
        if sign_in.is_none() {
            assert_eq!(error.class(), Class::WrongAddress);
            assert!(error.to_string().contains("identityUrl"), "{error}");
        }
    }
}

#[tokio::test]
async fn forms_sign_in_at_the_root_and_every_call_carries_cookies_and_csrf_also_after_a_rotation() {
    let site = Site::new(|request| match request.uri().path() {
        "/ServiceModel/AuthService.svc/Login" => with_cookies(
            json(200, LOGIN),
            &[
                "BPMLOADER=loader; path=/0; HttpOnly",
                ".ASPXAUTH=ticket; path=/0; HttpOnly",
                "BPMCSRF=OpK/NuJJ; path=/",
                "UserName=83|117; path=/",
            ],
        ),
        // Any answer may rotate cookies or take them back, also a failure.
        "/0/odata/Channel" => {
            with_cookies(page(500), &["BPMCSRF=second; path=/", "UserName=; expires=Thu, 01 Jan 1970 00:00:00 GMT"])
        }
        _ => answer(204, "", ""),
    });
    let client = Client::new(site.clone(), Settings { runtime: Runtime::Framework, ..settings(forms()) });
    client.list::<Channel>(Query::new()).await.unwrap_err();
    client.delete("Channel", uuid::Uuid::nil()).await.unwrap();
    let shown = site.shown();
    assert_eq!(
        shown[0],
        "POST https://acme.example/ServiceModel/AuthService.svc/Login\ncontent-type: application/json; charset=utf-8\n\
         forceusesession: true\n{\"UserName\":\"max.relay\",\"UserPassword\":\"s3cret&canary\"}"
    );
    let headers = |request: &str| request.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        headers(&shown[1]),
        [
            "forceusesession: true",
            "cookie: BPMLOADER=loader; .ASPXAUTH=ticket; BPMCSRF=OpK/NuJJ; UserName=83|117",
            "bpmcsrf: OpK/NuJJ"
        ]
    );
    let after = headers(&shown[2]);
    assert!(after.contains(&"cookie: BPMLOADER=loader; .ASPXAUTH=ticket; BPMCSRF=second".to_owned()), "{after:?}");
    assert!(after.contains(&"bpmcsrf: second".to_owned()), "{after:?}");
}

/// The shapes of an expired session (Creatio API reference, 1.1).
fn expired(shape: usize) -> Reply {
    let redirect = |location: &str| {
        answer(302, "", "").map(|mut answer| {
            answer.headers_mut().insert("location", location.parse().unwrap());
            answer
        })
    };
    match shape {
        0 => answer(401, "", ""),
        1 => page(401),
        2 => answer(403, "", ""),
        3 => redirect("/Login/NuiLogin.aspx?ReturnUrl=%2f"),
        4 => redirect("https://acme.example/0/Login/Login.html"),
        5 => page(200),
        _ => answer(307, "", ""),
    }
}
const SHAPES: usize = 7;

#[tokio::test]
async fn every_shape_of_an_expired_session_means_one_new_sign_in_and_one_replay() {
    for credentials in [oauth(), forms()] {
        for shape in 0..SHAPES {
            let sign_ins = AtomicUsize::new(0);
            let site = Site::new(move |request| {
                if is_sign_in(request) {
                    return sign_in(request, sign_ins.fetch_add(1, Ordering::SeqCst) + 1);
                }
                let proof = format!("{:?}", request.headers().get("cookie").or(request.headers().get("authorization")));
                // Sensitive values do not show in Debug, which is a promise of its own.
                assert!(!proof.contains("token-") && !proof.contains("ticket"), "{proof}");
                if show(request).contains("-1") { expired(shape) } else { json(200, r#"{"success":true}"#) }
            });
            let client = Client::new(site.clone(), settings(credentials.clone()));
            client.hand_over(uuid::Uuid::from_u128(7)).await.unwrap();
            assert_eq!(client.calls().sign_in, 2, "shape {shape}");
            assert_eq!(site.count("handOver"), 2, "shape {shape}");
        }
    }
}

#[tokio::test]
async fn what_is_still_refused_after_a_new_sign_in_is_named_and_not_tried_again() {
    for (shape, class) in [
        (0, Class::CredentialsInvalid),
        (1, Class::CredentialsInvalid),
        (2, Class::AccessDenied),
        (3, Class::AccessDenied),
        (5, Class::PackageMissing),
    ] {
        let site = Site::new(move |request| if is_sign_in(request) { sign_in(request, 1) } else { expired(shape) });
        let client = Client::new(site.clone(), settings(forms()));
        let error = client.ping().await.unwrap_err();
        assert_eq!((error.class(), error.may_have_been_done()), (class, false), "{error}");
        assert_eq!((client.calls().sign_in, client.calls().package), (2, 2), "shape {shape}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_does_not_cost_a_sign_in_per_call() {
    let site = Site::new(|request| match request.uri().path() {
        _ if is_sign_in(request) => sign_in(request, 1),
        "/odata/MaxOutbox" => answer(403, "", ""),
        _ => json(200, r#"{"value":[]}"#),
    });
    let client = Client::new(site.clone(), settings(forms()));
    for seq in 0..10 {
        assert_eq!(client.outbox("max-bot:1", seq).await.unwrap_err().class(), Class::AccessDenied);
    }
    client.list::<Channel>(Query::new()).await.unwrap();
    assert_eq!(client.calls().sign_in, 2);
    tokio::time::advance(Duration::from_secs(61)).await;
    client.outbox("max-bot:1", 0).await.unwrap_err();
    assert_eq!(client.calls().sign_in, 3, "the right may have been given meanwhile");
}

#[tokio::test]
async fn a_redirect_to_another_address_is_named_and_gets_no_password() {
    let site = Site::new(|request| {
        if is_sign_in(request) {
            return sign_in(request, 1);
        }
        let moved = http::Response::builder().status(301).header("location", "https://new.example/0/odata/Channel");
        Ok(moved.body(Bytes::new()).unwrap())
    });
    let client = Client::new(site.clone(), settings(forms()));
    let error = client.list::<Channel>(Query::new()).await.unwrap_err();
    assert_eq!(error.class(), Class::WrongAddress);
    assert!(error.to_string().contains("https://new.example"), "{error}");
    assert_eq!(site.shown().len(), 2);
}

#[tokio::test]
async fn a_failed_transport_is_not_taken_for_an_expired_session() {
    for (lost, done) in [
        (TransportError::Lost { host: "acme.example".into(), reason: "reset".into() }, true),
        (TransportError::NotSent { host: "acme.example".into(), reason: "refused".into() }, false),
    ] {
        let (client, site) = signed_in(move |_| Err(lost.clone()));
        let error = client.hand_over(uuid::Uuid::nil()).await.unwrap_err();
        assert_eq!((error.class(), error.may_have_been_done()), (Class::Unreachable, done), "{error}");
        assert_eq!(site.shown().len(), 2, "neither replayed nor signed in again");
        let error = client.chat(uuid::Uuid::nil()).await.unwrap_err();
        assert!(!error.may_have_been_done(), "a read does nothing: {error}");
    }
}

#[tokio::test]
async fn a_sign_in_that_fails_says_how() {
    let wrong =
        r#"{"Code":1,"Message":"Неверный логин или пароль","Exception":{"Message":"x"},"PasswordChangeUrl":null}"#;
    let change = r#"{"Code":"2","Message":"x","PasswordChangeUrl":"/change"}"#;
    for (credentials, reply, class, piece) in [
        (forms(), json(200, wrong), Class::CredentialsInvalid, "Неверный логин"),
        (forms(), json(200, change), Class::CredentialsInvalid, "password must be changed"),
        (forms(), answer(401, "", ""), Class::CredentialsInvalid, "401"),
        (forms(), page(404), Class::WrongAddress, "spec.creatio.url"),
        (forms(), page(503), Class::Transient, "503"),
        (oauth(), json(400, r#"{"error":"invalid_client"}"#), Class::CredentialsInvalid, "invalid_client"),
        (oauth(), page(200), Class::WrongAddress, "wrong identity service URL"),
        (oauth(), page(404), Class::WrongAddress, "wrong identity service URL"),
        (oauth(), json(200, "{}"), Class::WrongAddress, "wrong identity service URL"),
        (oauth(), page(502), Class::Transient, "502"),
        (oauth(), answer(429, "", ""), Class::Throttled { retry_after: None }, "429"),
    ] {
        let reply = Mutex::new(reply);
        let site = Site::new(move |_| reply.lock().unwrap().clone());
        let error = Client::new(site, settings(credentials)).ping().await.unwrap_err();
        assert_eq!((error.class(), error.may_have_been_done()), (class, false), "{error}");
        assert!(error.to_string().contains(piece), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_password_is_tried_again_only_after_growing_pauses() {
    let site = Site::new(|_| json(200, r#"{"Code":1,"Message":"no"}"#));
    let client = Client::new(site.clone(), settings(forms()));
    let start = Instant::now();
    for _ in 0..3600 {
        assert_eq!(client.ping().await.unwrap_err().class(), Class::CredentialsInvalid);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let at: Vec<u64> = site.times().iter().map(|time| (*time - start).as_secs()).collect();
    assert_eq!(at, [0, 30, 90, 210, 450, 930, 1830, 2730]);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_ends_and_serves_on_while_the_identity_service_is_away() {
    let tokens = AtomicUsize::new(0);
    let site = Site::new(move |request| match request.uri().path() {
        "/connect/token" => match tokens.fetch_add(1, Ordering::SeqCst) {
            0 | 3 => json(200, TOKEN),
            _ => page(503),
        },
        _ => json(200, r#"{"value":[]}"#),
    });
    let client = Client::new(site.clone(), settings(oauth()));
    let mut asked = Vec::new();
    for second in 0..3500 {
        client.list::<Channel>(Query::new()).await.unwrap();
        if client.calls().sign_in > asked.len() as u64 {
            asked.push(second);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(asked, [0, 3060, 3075, 3090]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// However many calls meet an expired session at once, and in whatever shape: exactly one
    /// sign-in, and every call is served.
    #[test]
    fn many_calls_with_an_expired_session_make_one_sign_in(
        starts in prop::collection::vec(0_u64..80, 1..40),
        shape in 0..SHAPES,
        takes in 1_u64..60,
        by_form in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let sign_ins = runtime.block_on(async {
            let count = AtomicUsize::new(0);
            let site = Site::slow(Duration::from_millis(takes), move |request| {
                if is_sign_in(request) {
                    return sign_in(request, count.fetch_add(1, Ordering::SeqCst) + 1);
                }
                // What the first sign-in gave out holds for the first call only.
                let first = show(request).contains("-1");
                if first && request.method() != "GET" { expired(shape) } else { json(200, r#"{"value":[],"success":true}"#) }
            });
            let client = Client::new(site.clone(), settings(if by_form { forms() } else { oauth() }));
            client.list::<Channel>(Query::new()).await.unwrap();
            let calls = starts.iter().map(|start| {
                let client = client.clone();
                let start = Duration::from_millis(*start);
                tokio::spawn(async move {
                    tokio::time::sleep(start).await;
                    client.hand_over(uuid::Uuid::from_u128(7)).await.unwrap();
                })
            });
            for call in calls.collect::<Vec<_>>() { call.await.unwrap(); }
            client.calls().sign_in
        });
        prop_assert_eq!(sign_ins, 2);
    }
}

#[tokio::test]
async fn those_who_waited_for_a_failed_sign_in_share_its_failure() {
    tokio::time::pause();
    let site = Site::slow(Duration::from_millis(50), |_| page(503));
    let client = Client::new(site.clone(), settings(forms()));
    let calls: Vec<_> = (0..20).map(|_| client.ping()).collect();
    for result in futures::future::join_all(calls).await {
        assert_eq!(result.unwrap_err().class(), Class::Transient);
    }
    assert_eq!(site.shown().len(), 1);
}

#[tokio::test]
async fn the_runtime_is_found_once_by_its_health_address_or_its_sign_in_page() {
    for (there, prefix) in [
        ("/api/HealthCheck/Ping", Some("")),
        ("/0/api/HealthCheck/Ping", Some("/0")),
        ("/Login/Login.html", Some("")),
        ("/0/Login/NuiLogin.aspx", Some("/0")),
        ("/nothing", None),
    ] {
        let site = Site::new(move |request| match request.uri().path() {
            "/connect/token" => json(200, TOKEN),
            path if path.contains("odata") => json(200, r#"{"value":[]}"#),
            path if path == there && path.contains("Ping") => answer(200, "text/plain", "Healthy"),
            path if path == there => page(200),
            // Some sites answer anything unknown with their sign-in page.
            path if path.contains("Ping") => page(200),
            _ => page(404),
        });
        let client = Client::new(site.clone(), Settings { runtime: Runtime::Auto, ..settings(oauth()) });
        for _ in 0..2 {
            let result = client.list::<Channel>(Query::new()).await;
            match prefix {
                Some(prefix) => {
                    result.unwrap();
                    assert!(site.last().starts_with(&format!("GET https://acme.example{prefix}/odata/")), "{there}");
                }
                None => assert_eq!(result.unwrap_err().class(), Class::WrongAddress),
            }
        }
        if prefix.is_some() {
            assert_eq!(site.count(there), 1, "asked once");
        }
    }
}

#[tokio::test]
async fn a_site_that_is_down_is_not_remembered_as_of_no_runtime() {
    let probes = AtomicUsize::new(0);
    let site = Site::new(move |request| match request.uri().path() {
        "/connect/token" => json(200, TOKEN),
        "/api/HealthCheck/Ping" => match probes.fetch_add(1, Ordering::SeqCst) {
            0 => Err(TransportError::NotSent { host: "acme.example".into(), reason: "refused".into() }),
            1 => page(503),
            _ => answer(200, "", "Healthy"),
        },
        _ => json(200, r#"{"value":[]}"#),
    });
    let client = Client::new(site, Settings { runtime: Runtime::Auto, ..settings(oauth()) });
    assert_eq!(client.list::<Channel>(Query::new()).await.unwrap_err().class(), Class::Unreachable);
    assert_eq!(client.list::<Channel>(Query::new()).await.unwrap_err().class(), Class::Transient);
    client.list::<Channel>(Query::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_the_spec_hold_in_any_second_and_at_any_moment() {
    let site = Site::slow(Duration::from_millis(130), |request| {
        if is_sign_in(request) { sign_in(request, 1) } else { json(200, r#"{"value":[]}"#) }
    });
    let client = Client::new(site.clone(), Settings { requests_per_second: 7, in_flight: 3, ..settings(oauth()) });
    let calls = (0..40).map(|_| client.list::<Channel>(Query::new()));
    for result in futures::future::join_all(calls).await {
        result.unwrap();
    }
    let times = site.times();
    assert_eq!(times.len(), 41, "the sign-in counts too");
    for (index, first) in times.iter().enumerate() {
        let within = times[index..].iter().filter(|time| **time < *first + Duration::from_secs(1)).count();
        assert!(within <= 7, "{within} requests in one second");
    }
    assert!(site.most_at_once() <= 3);
}

/// A hostile site quotes everything that it was sent.
#[tokio::test]
async fn no_secret_and_no_word_of_a_message_is_in_any_error_or_debug() {
    let secrets = ["s3cret&canary", "token-1", "ticket-1", "csrf-1", "Моя тайна", "Тайна Т.", "+79990000000"];
    for credentials in [oauth(), forms()] {
        for shape in 0..4 {
            let site = Site::new(move |request| {
                if is_sign_in(request) && shape != 3 {
                    return sign_in(request, 1);
                }
                let echo = show(request).replace('"', "'").replace(['\n', '\\'], " ");
                match shape {
                    0 => json(500, &format!(r#"{{"error":{{"message":"{echo}"}}}}"#)),
                    1 => answer(500, "text/html", &format!("<p>{echo}</p>")),
                    2 => json(200, &format!(r#"{{"success":false,"errorCode":"internal","errorMessage":"{echo}"}}"#)),
                    _ => json(400, &format!(r#"{{"error":"invalid","Code":1,"Message":"{echo}"}}"#)),
                }
            });
            let client = Client::new(site.clone(), settings(credentials.clone()));
            let message = Receive {
                external_id: "m".into(),
                channel_source: "s".into(),
                sender: "max:1".into(),
                name: "Тайна Т.".into(),
                phone: "+79990000000".into(),
                timestamp: 1,
                direction: Direction::Incoming,
                author: Author::Customer,
                text: "Моя тайна, которую никто не должен прочесть в журнале программы, даже в начале".into(),
                kind: MessageType::Text,
                replaces_external_id: String::new(),
                stand_by: false,
                attachments: Vec::new(),
            };
            let result = client.receive(&message).await;
            let shown = format!("{result:?} {client:?} {:?}", settings(credentials.clone()));
            let shown = match &result {
                Ok(answer) => format!("{shown} {}", answer.error_message),
                Err(error) => format!("{shown} {error}"),
            };
            for secret in secrets {
                assert!(!shown.contains(secret), "{secret} in {shown}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_says_how_long_the_limits_held_it_back() {
    let site = Site::new(|request| {
        if request.uri().path() == "/connect/token" { json(200, TOKEN) } else { json(200, r#"{"value":[]}"#) }
    });
    let client = Client::new(site.clone(), Settings { requests_per_second: 1, ..settings(oauth()) });
    client.list::<Channel>(Query::new()).await.unwrap();
    let waits = site.waits();
    assert!(waits.len() > 1 && waits[0].is_zero(), "{waits:?}");
    assert!(waits[1..].iter().all(|waited| *waited >= Duration::from_millis(900)), "{waits:?}");
}
