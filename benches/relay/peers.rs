//! What a user would take instead of the relay, and the least that anything can cost: forwarders
//! without disk or order, beside the relay on the same simulators. `make bench-peers` builds them.
//!
//! Each contender gets the same messages: straight from the bench where latency and processor time
//! are measured, through MAX where the CRM is away, so that MAX repeats what was refused.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use maxchannel::contract::webhook;
use maxchannel_simulator::creatio;
use secrecy::SecretString;
use serde_json::json;

use super::relay_config::{TOKEN, WEBHOOK_SECRET};
use super::site::{IN_FLIGHT, Program, Senders, Sent, Site, Table, quantile};
use super::{CUSTOMERS, IDLE, MIB};

/// Messages a second, how many of them, and the names of their figures.
const RATES: [Rate; 3] = [
    Rate {
        pause: Duration::from_millis(100),
        count: 200,
        processor: "processor time per 1 000 messages at 10/s, s",
        quantiles: ["POST to the CRM at 10/s, p50, ms", "the same, p99, ms (10/s)", "the same, p99.9, ms (10/s)"],
        answer: "POST to its 200 at 10/s, p99, ms",
        lost: "lost at 10/s",
    },
    Rate {
        pause: Duration::from_millis(10),
        count: 2_000,
        processor: "processor time per 1 000 messages at 100/s, s",
        quantiles: ["POST to the CRM at 100/s, p50, ms", "the same, p99, ms (100/s)", "the same, p99.9, ms (100/s)"],
        answer: "POST to its 200 at 100/s, p99, ms",
        lost: "lost at 100/s",
    },
    Rate {
        pause: Duration::from_millis(2),
        count: 5_000,
        processor: "processor time per 1 000 messages at 500/s, s",
        quantiles: ["POST to the CRM at 500/s, p50, ms", "the same, p99, ms (500/s)", "the same, p99.9, ms (500/s)"],
        answer: "POST to its 200 at 500/s, p99, ms",
        lost: "lost at 500/s",
    },
];
/// How long the CRM is away, and what customers write meanwhile.
const AWAY: Duration = Duration::from_secs(5);
const WRITTEN: usize = 500;
/// How long MAX is given to repeat what was refused, once the CRM is back: its first pause is a
/// minute.
const AFTERWARDS: Duration = Duration::from_secs(80);
/// Without anything new for so long, nothing more comes.
const QUIET: Duration = Duration::from_secs(5);
/// Of the user ids that the bench makes up.
const FIRST: i64 = 91_000_000;

struct Rate {
    pause: Duration,
    count: usize,
    processor: &'static str,
    quantiles: [&'static str; 3],
    answer: &'static str,
    lost: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contender {
    Relay,
    Official,
    Public,
    Floor,
}

impl Contender {
    const ALL: [Self; 4] = [Self::Relay, Self::Official, Self::Public, Self::Floor];

    fn title(self) -> &'static str {
        match self {
            Self::Relay => "maxchannel relay",
            Self::Official => "the official TypeScript client with a forwarder",
            Self::Public => "a public Rust client (maxoxide) with a forwarder",
            Self::Floor => "the floor: a webhook that forwards, without disk or order",
        }
    }

    fn path(self) -> String {
        match self {
            Self::Relay => {
                format!("/webhooks/max/default/support/{}", webhook::fingerprint(&SecretString::from(WEBHOOK_SECRET)))
            }
            _ => "/hook".to_owned(),
        }
    }

    fn start(self, site: &Site) -> Program {
        if self == Self::Relay {
            let config = site.path("config");
            return site.start("relay", &["relay", "--config", config.to_str().expect("a path of ours")]);
        }
        let peers = Path::new(env!("CARGO_MANIFEST_DIR"));
        let built = std::env::var_os("BENCH_PEERS").expect("the folder of the built peers: run make bench-peers");
        let mut command = match self {
            Self::Official => {
                let mut node = Command::new("node");
                node.arg(peers.join("tests/official_clients/typescript/forwarder.mjs"));
                node
            }
            Self::Public => Command::new(Path::new(&built).join("public-max-forwarder")),
            Self::Floor | Self::Relay => Command::new(Path::new(&built).join("floor")),
        };
        let crm = creatio::Options::default();
        command
            .env("PORT", site.port.to_string())
            .env("SECRET", WEBHOOK_SECRET)
            .env("TOKEN", TOKEN)
            .env("MAX_URL", site.max.url())
            .env("CRM_URL", site.crm.url())
            .env("IDENTITY_URL", site.crm.identity_url())
            .env("CLIENT_ID", crm.client_id)
            .env("CLIENT_SECRET", crm.client_secret)
            .env("CHANNEL_SOURCE", format!("max-bot:{}", site.bot));
        site.start_command(command)
    }
}

/// Prints a table of figures for each contender.
pub async fn compare(runs: usize) {
    for contender in Contender::ALL {
        let mut table = Table::default();
        for _ in 0..runs {
            measure(contender, &mut table).await;
        }
        println!("\n{}", contender.title());
        table.print();
    }
}

async fn measure(contender: Contender, table: &mut Table) {
    let site = Site::new(0).await;
    // The channel's row in the CRM is made by this run.
    let run = site.start_run();
    site.until_ready().await;
    drop(run);
    site.max.control().drop_subscriptions(site.bot).expect("the bot");
    site.write_relay_config(|config| {
        let limits = config.channel.creatio.as_mut().expect("a CRM");
        (limits.requests_per_second, limits.in_flight) = (10_000, IN_FLIGHT);
    });
    let people: Vec<i64> = (FIRST..).take(CUSTOMERS).collect();
    let mut senders = made_up(&site, contender, &people);
    let client = reqwest::Client::new();

    let begin = Instant::now();
    let program = contender.start(&site);
    let up = async || {
        let answer = senders.post(&client, people[0], 0).await.ok()?;
        (answer == 200).then_some(())
    };
    site.until("200 from the webhook", up).await;
    site.until("the first message is in the CRM", async || (!site.received(people[0]).is_empty()).then_some(())).await;
    table.add("start to the first message in the CRM, ms", "", begin.elapsed().as_secs_f64() * 1_000.0);
    tokio::time::sleep(IDLE).await;
    table.add("idle: resident, MiB", "", program.memory().all / MIB);

    let mut first = 1;
    // Everybody's contact is made before anything is measured.
    let warm = senders.send(&site, &client, &people, first, CUSTOMERS).await;
    first += CUSTOMERS;
    settled(&site, &warm, &people).await;
    for rate in &RATES {
        senders.pause = rate.pause;
        let before = program.processor_time();
        let sent = senders.send(&site, &client, &people, first, rate.count).await;
        first += rate.count;
        let mut answers = sent.answers.clone();
        let mut carried = settled(&site, &sent, &people).await;
        #[allow(clippy::cast_precision_loss, reason = "a small number")]
        let thousands = rate.count as f64 / 1_000.0;
        table.add(rate.processor, "", (program.processor_time() - before) / thousands);
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        table.add(rate.lost, "0", (rate.count - carried.len()) as f64);
        for (name, share) in rate.quantiles.into_iter().zip([0.5, 0.99, 0.999]) {
            table.add(name, "", quantile(&mut carried, share));
        }
        table.add(rate.answer, "", quantile(&mut answers, 0.99));
    }
    table.add("busy: resident, MiB", "", program.memory().all / MIB);
    outage(&site, contender, table).await;
    drop(program);
}

/// How long those were on their way that the CRM has once nothing more comes: who forwards without
/// a disk loses what the CRM did not take at once.
async fn settled(site: &Site, sent: &Sent, people: &[i64]) -> Vec<f64> {
    let (mut arrived, mut since) = (sent.arrived(site, people), Instant::now());
    while arrived.len() < sent.at.len() && since.elapsed() < QUIET {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = sent.arrived(site, people);
        if now.len() > arrived.len() {
            (arrived, since) = (now, Instant::now());
        }
    }
    arrived
}

/// The CRM is away for five seconds while customers write, through MAX.
async fn outage(site: &Site, contender: Contender, table: &mut Table) {
    let control = site.max.control();
    if control.bot(site.bot).expect("the bot").subscriptions.is_empty() {
        let subscription =
            json!({"url": format!("http://127.0.0.1:{}{}", site.port, contender.path()), "secret": WEBHOOK_SECRET});
        let answer = reqwest::Client::new()
            .post(format!("{}/subscriptions", site.max.url()))
            .header("Authorization", TOKEN)
            .header("Content-Type", "application/json")
            .body(subscription.to_string())
            .send()
            .await
            .expect("an answer of MAX");
        assert_eq!(answer.status().as_u16(), 200, "the subscription was refused");
    } else {
        // A client that subscribes itself names a host of its own.
        control.route_webhooks("peer.example", &format!("http://127.0.0.1:{}", site.port));
    }
    let customers = site.customers(CUSTOMERS);
    site.crm.control().outage(Some(creatio::Outage::Unavailable));
    let mut schedule = tokio::time::interval(AWAY / u32::try_from(WRITTEN).expect("small"));
    for number in 0..WRITTEN {
        schedule.tick().await;
        control.say(customers[number % CUSTOMERS], site.bot, &number.to_string()).expect("a dialog");
    }
    site.crm.control().outage(None);
    let arrived = || customers.iter().map(|customer| site.received(*customer).len()).sum::<usize>();
    let begin = Instant::now();
    while arrived() < WRITTEN && begin.elapsed() < AFTERWARDS {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut lost, mut reordered) = (0, 0);
    for (place, customer) in customers.iter().enumerate() {
        let written: Vec<usize> = (place..WRITTEN).step_by(CUSTOMERS).collect();
        let got: Vec<usize> = site.received(*customer).iter().filter_map(|(_, text, _)| text.parse().ok()).collect();
        lost += written.iter().filter(|number| !got.contains(number)).count();
        reordered += got.windows(2).filter(|pair| pair[0] > pair[1]).count();
    }
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    {
        table.add("CRM away for 5 s: lost of 500", "0", lost as f64);
        table.add("the same: out of order", "0", reordered as f64);
    }
    if lost == 0 {
        table.add("the same: from its return to the last message in it, s", "", begin.elapsed().as_secs_f64());
    }
}

/// Messages of people whom MAX's simulator does not know: they come straight from the bench.
fn made_up(site: &Site, contender: Contender, people: &[i64]) -> Senders {
    let pattern = |person: &i64| {
        let update = json!({
            "update_type": "message_created",
            "timestamp": 0,
            "message": {
                "sender": {"user_id": person, "first_name": format!("Клиент {person}"), "is_bot": false},
                "recipient": {"chat_id": person + 5_000, "chat_type": "dialog", "user_id": site.bot},
                "timestamp": 0,
                "body": {"mid": "", "seq": 117_309_440_772_623_618_i64, "text": "Где мой заказ?"},
            },
            "user_locale": "ru",
        });
        (*person, update)
    };
    Senders {
        patterns: people.iter().map(pattern).collect(),
        url: format!("http://127.0.0.1:{}{}", site.port, contender.path()),
        secret: WEBHOOK_SECRET.to_owned(),
        pause: Duration::from_millis(10),
    }
}
