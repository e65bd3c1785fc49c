//! One function for each kind of text that comes from outside: it reads the bytes as the program
//! does and throws the result away. None may panic, and none may use memory or time beyond measure,
//! whatever the bytes are.
//!
//! The fuzz targets call them, and so does a test of the ordinary suite, over `corpus/` and over
//! what was found (`found/`).

#![allow(dead_code, reason = "each target needs one of them")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use maxchannel::api::manifest::Manifests;
use maxchannel::policy::Rules;
use maxchannel::policy::timeline::{self, Act};
use maxchannel::time::Millis;
use maxchannel::transport::{Options, Request, Response, Transport, TransportError};
use maxchannel::{api, creatio, mango, max, relay};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

/// A reader by the name of its target.
pub type Reader = fn(&[u8]);

pub const ALL: &[(&str, Reader)] = &[
    ("updates", updates),
    ("outbox_pages", outbox_pages),
    ("bot_answers", bot_answers),
    ("manifests", manifests),
    ("schedules", schedules),
    ("mango_answers", mango_answers),
    ("max_answers", max_answers),
];

/// Updates of MAX, one in each line, all taken into one store.
pub fn updates(bytes: &[u8]) {
    relay::hostile::updates(bytes);
}

/// What a bot answers.
pub fn bot_answers(bytes: &[u8]) {
    relay::hostile::bot_answer(bytes);
}

/// What the CRM answers when it is asked for its outbox and for what else the relay reads there.
/// The first byte is the status.
pub fn outbox_pages(bytes: &[u8]) {
    let Some((answer, _)) = Answer::of(bytes) else { return };
    let settings = creatio::Settings {
        url: address("https://crm.example.org"),
        identity_url: Some(address("https://crm-is.example.org")),
        runtime: creatio::Runtime::Net,
        credentials: creatio::Credentials::OAuth {
            client_id: "invented".to_owned(),
            client_secret: SecretString::from("invented"),
        },
        requests_per_second: 1_000,
        in_flight: 8,
    };
    let client = creatio::Client::new(Arc::new(answer), settings);
    at_once(async {
        let _ = client.outbox("max-bot:1", 0).await;
        let _ = client.completed_chats(Uuid::nil(), jiff::Timestamp::UNIX_EPOCH).await;
        let _ = client.hand_over(Uuid::nil()).await;
        let _ = client.ping().await;
    });
}

/// What MANGO OFFICE answers. The first byte is the status.
pub fn mango_answers(bytes: &[u8]) {
    let Some((answer, _)) = Answer::of(bytes) else { return };
    let client = || {
        let (base_url, key) = (address("https://mango.example.org"), SecretString::from("invented"));
        let settings = mango::Settings { base_url, api_key: key.clone(), api_salt: key, dialogs_per_second: 9 };
        mango::Client::new(Arc::new(answer.clone()), settings)
    };
    at_once(async {
        let _ = client().employees().await;
        let _ = client().groups(true).await;
        let _ = client().balance().await;
        let _ = client().widgets().await;
    });
}

/// What MAX answers. The first byte is the status.
pub fn max_answers(bytes: &[u8]) {
    let Some((answer, _)) = Answer::of(bytes) else { return };
    let settings =
        max::Settings { base_url: address("https://max.example.org"), token: SecretString::from("invented") };
    let transport = Arc::new(answer);
    let client = max::Client::new(transport.clone(), transport, settings);
    let message = max::NewMessage { text: Some("text".to_owned()), attachments: None };
    at_once(async {
        let _ = client.me().await;
        let _ = client.subscriptions().await;
        if let Ok(updates) = client.updates(None, maxchannel::max::POLL_LIMIT, Duration::ZERO).await {
            updates.updates.iter().for_each(|update| drop(max::update::parse(update.get())));
        }
        let _ = client.send(max::Recipient::User(1), &message).await;
        let history = max::History { before: None, after: None, count: 100 };
        for message in client.messages(max::ChatId::new(1), history).await.unwrap_or_default() {
            for attachment in &message.attachments {
                let _ = format!("{attachment:?}");
            }
        }
        let _ = client.message(&max::MessageId::new("mid.1")).await;
        let _ = client.video("token").await;
        let _ = client.upload(max::UploadKind::File, "a", "text/plain", Bytes::from_static(b"a")).await;
        let _ = client.download(&address("https://max.example.org/file"), 1_000).await;
    });
}

/// Manifests, in YAML or (after a byte 0) in JSON.
pub fn manifests(bytes: &[u8]) {
    let (name, bytes) = match bytes.split_first() {
        Some((0, rest)) => ("a.json", rest),
        _ => ("a.yaml", bytes),
    };
    let text = String::from_utf8_lossy(bytes);
    let mut manifests = Manifests::default();
    manifests.add(name, &text);
    for channel in &manifests.channels {
        for (place, finding) in channel.findings() {
            assert!(place.line <= text.lines().count() + 1, "a finding behind the end: {finding}");
        }
        if let Ok(channel) = channel.parse() {
            let _ = Rules::from_spec(&channel.spec);
        }
    }
    let _ = api::across(&manifests);
    let _ = manifests.doubts().count();
}

/// Working hours, replies and what happens in a dialog, made of bytes: what it would come to.
pub fn schedules(bytes: &[u8]) {
    let mut bytes = bytes.iter().copied();
    let mut next = || bytes.next().unwrap_or(0);
    let zone = ZONES[usize::from(next()) % ZONES.len()];
    let time = |byte: u8| format!("{:02}:{:02}", (byte / 10).min(24), if byte >= 240 { 0 } else { byte % 10 * 6 });
    let date =
        |year: u8, day: u8| format!("{}-{:02}-{:02}", 2020 + u16::from(year % 20), 1 + day / 31 % 12, 1 + day % 28);
    let duration = |byte: u8| match byte {
        0..100 => format!("{byte}s"),
        100..200 => format!("{}m", byte - 100),
        _ => format!("{}h", byte - 200),
    };
    let week: Vec<_> = (0..next() % 5)
        .map(|_| {
            let days: Vec<_> =
                DAYS.iter().zip(0..).filter(|(_, bit)| next() >> bit & 1 == 1).map(|(day, _)| *day).collect();
            json!({"days": days, "from": time(next()), "to": time(next())})
        })
        .collect();
    let holidays: Vec<_> = (0..next() % 4).map(|_| date(next(), next())).collect();
    let workdays: Vec<_> = (0..next() % 3)
        .map(|_| json!({"date": date(next(), next()), "from": time(next()), "to": time(next())}))
        .collect();
    let mut reply = || {
        let repeat = next();
        if repeat % 2 == 0 {
            json!({"after": duration(next()), "text": "text"})
        } else {
            json!({"after": duration(next()), "repeatEvery": duration(repeat), "repeatLimit": next(), "text": "text"})
        }
    };
    let spec = json!({
        "tokenSecretRef": {"name": "max-bot"},
        "mango": {"accountNumber": "400012345", "credentialsSecretRef": {"name": "mango-api"}},
        "creatio": {"url": "https://crm.example.org", "credentialsSecretRef": {"name": "creatio"}},
        "receiver": {"employee": {"extension": "101"}},
        "autoReplies": [reply(), reply()],
        "workingHours": {"timeZone": zone, "week": week, "holidays": holidays, "workdays": workdays},
        "offHours": {"autoReplies": [reply()]},
        "autoClose": {"after": duration(next())},
    });
    let manifest = json!({
        "apiVersion": "maxchannel.dev/v1alpha1", "kind": "MaxChannel", "metadata": {"name": "support"}, "spec": spec,
    });
    let _ = api::findings(&manifest);
    let Ok(spec) = serde_json::from_value::<api::MaxChannelSpec>(spec) else { return };
    let Ok(rules) = Rules::from_spec(&spec) else { return };
    let mut at = 1_577_836_800_000 + Millis::from(next()) * 86_400_000 * 29 + Millis::from(next()) * 617_000;
    let mut acts = Vec::new();
    for _ in 0..next() % 16 {
        at += Millis::from(next()) * Millis::from(next()) * 1_000;
        acts.push((at, act(next())));
    }
    let (lines, _) = timeline::play(&rules, &acts, at + 31 * 86_400_000);
    assert!(lines.windows(2).all(|two| two[0].at <= two[1].at), "time goes back");
}

const ZONES: &[&str] = &[
    "Europe/Moscow",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "Africa/Cairo",
    "UTC",
    "No/Where",
];
const DAYS: &[&str] = &["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

fn act(byte: u8) -> Act {
    match byte % 14 {
        0 => Act::CustomerStarts,
        1 => Act::CustomerEdits,
        2 => Act::CustomerLeaves,
        3 => Act::AgentAccepts,
        4 => Act::AgentAnswers("text".to_owned()),
        5 => Act::AgentTransfers,
        6 => Act::AgentCloses,
        7 => Act::BotAnswers("text".to_owned()),
        8 => Act::BotHandsOver,
        9 => Act::BotCloses,
        10 => Act::BotFails,
        11 => Act::BotsAway,
        12 => Act::BotsBack,
        _ => Act::CustomerWrites("text".to_owned()),
    }
}

/// The same answer to every request but a sign-in.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    kind: &'static str,
    body: Bytes,
}

impl Answer {
    /// The first byte says which status and type of content the rest has.
    fn of(bytes: &[u8]) -> Option<(Self, u8)> {
        const STATUSES: [u16; 10] = [200, 204, 302, 400, 401, 403, 404, 429, 500, 503];
        let (first, body) = bytes.split_first()?;
        // Printable ones are the beginning of a body: an answer as it is recorded, with 200.
        let status = if *first < 32 { STATUSES[usize::from(*first) % STATUSES.len()] } else { 200 };
        let body = Bytes::copy_from_slice(if *first < 32 { body } else { bytes });
        let kind = if *first >= 20 && *first < 32 { "text/html" } else { "application/json" };
        Some((Self { status, kind, body }, *first))
    }
}

impl Transport for Answer {
    fn send(&self, request: Request, _: Options) -> BoxFuture<'_, Result<Response, TransportError>> {
        let sign_in = request.uri().path().ends_with("/connect/token");
        let (status, body) = if sign_in {
            let token = json!({"access_token": "invented", "expires_in": 3_600, "token_type": "Bearer"});
            (200, Bytes::from(token.to_string()))
        } else {
            (self.status, self.body.clone())
        };
        let kind = if sign_in { "application/json" } else { self.kind };
        let answer = http::Response::builder().status(status).header("content-type", kind).header("retry-after", "1");
        async { Ok(answer.body(body).expect("a status and plain headers")) }.boxed()
    }
}

fn address<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("an address of ours"))
}

/// Runs it with a clock that jumps to wherever somebody waits for.
fn at_once(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime of one thread").block_on(work);
}
