//! `make soak`: a week of a busy channel, a day in half a minute, and a store of ten million rows.
//!
//! The program is the real one, by a clock that is moved on by a day at a time. Each day has an
//! edit of the channel and outages of both sides, every second one a deploy, and some a new token.
//! Nothing is lost, doubled or out of order, and at the end of the week the program takes what it
//! took on its second day: memory, open files, time from the customer to the CRM. So does a long
//! day without a deploy, from part to part. The file of the store holds one day of messages; what
//! grows in it are the keys against repeats, of which those of updates are kept for seven days and
//! those of the CRM for 31. A month later nothing of them is left.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use maxchannel_simulator::creatio::Outage;
use maxchannel_simulator::max::{self, Outcome};
use rusqlite::Connection;
use uuid::Uuid;

use crate::company::{Company, Customer, TOKEN, text, wall_ms};

const DAYS: i64 = 7;
const SECONDS_A_DAY: i64 = 86_400;
/// Longer than any key is kept.
const MONTH: i64 = 32;
const CUSTOMERS: usize = 12;
/// Messages each way and customer on a day.
const MESSAGES: usize = 30;
/// MAX takes two messages a second for one dialog.
const PAUSE: Duration = Duration::from_millis(550);
const PATIENCE: Duration = Duration::from_mins(3);
/// In the first third of a day nothing fails: there it is measured how long messages take.
const QUIET: usize = MESSAGES / 3;
const ROWS: u64 = 10_000_000;

/// The bounds. Memory at the end against the second day, or the first part: so many per cent.
const MEMORY: u64 = 120;
/// So many files and connections more.
const FILES: usize = 4;
/// A message takes at most so many times what it took, and a quarter of a second.
const TIMES: i64 = 2;
const SLACK_MS: i64 = 250;
/// Bytes on disk for the keys of one message, with their places in the indexes.
const KEYS: u64 = 700;
/// A store of ten million rows: memory and start, so many times those of an empty one.
const MEMORY_WITH_ROWS: u64 = 150;
const START: u32 = 3;

/// What the program takes.
#[derive(Clone, Copy, Debug)]
struct Figures {
    memory: u64,
    files: usize,
    /// The files of the store, bytes.
    store: u64,
    /// From a customer to the CRM, milliseconds: half of the messages, and all but one in a hundred
    /// took no longer.
    median: i64,
    slow: i64,
}

impl Figures {
    fn of(company: &Company, mut took: Vec<i64>) -> Self {
        took.sort_unstable();
        let (memory, files) = (company.memory(), company.open_files());
        let store = size(&company.data().join("default/support"));
        Self { memory, files, store, median: took[took.len() / 2], slow: took[took.len() * 99 / 100] }
    }

    fn print(&self, when: &str) {
        let Self { memory, files, store, median, slow } = self;
        println!("{when:<34}{:>9}{files:>7}{:>13}{median:>10}{slow:>10}", memory / 1_024, store / 1_024);
    }

    /// It takes no more than before, but for the store, of which each says what it may hold.
    fn assert_flat(&self, before: &Self) {
        assert!(self.memory * 100 <= before.memory * MEMORY, "memory has grown: {self:?}, before {before:?}");
        assert!(self.files <= before.files + FILES, "files are left open: {self:?}, before {before:?}");
        self.assert_as_fast(before);
    }

    fn assert_as_fast(&self, before: &Self) {
        let most = |before: i64| before * TIMES + SLACK_MS;
        assert!(self.median <= most(before.median), "messages take longer: {self:?}, before {before:?}");
        assert!(self.slow <= most(before.slow), "some messages take longer: {self:?}, before {before:?}");
    }
}

fn head() {
    let columns = ["KiB", "files", "store, KiB", "p50, ms", "p99, ms"];
    let [memory, files, store, median, slow] = columns;
    println!("\n{:<34}{memory:>9}{files:>7}{store:>13}{median:>10}{slow:>10}", "");
}

fn size(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().metadata().map_or(0, |data| data.len())).sum()
}

/// Customers with an agent each, who have had a word with each other.
struct Talk {
    customers: Vec<(Customer, Uuid)>,
    prefix: String,
}

impl Talk {
    async fn begin(company: &Company, prefix: &str) -> Self {
        let mut customers = Vec::new();
        for number in 0..CUSTOMERS {
            let customer = company.customer(&format!("Клиент {prefix}{number}"));
            company.say(&customer, "здравствуйте");
            let chat = company.accept(&customer).await;
            company.crm.control().send(chat, company.agent, "слушаю", Vec::new()).unwrap();
            customers.push((customer, chat));
        }
        for (customer, _) in &customers {
            company
                .until("the agent's first words", async || {
                    company.seen(customer).iter().any(|text| text == "слушаю").then_some(())
                })
                .await;
        }
        Self { customers, prefix: prefix.to_owned() }
    }

    /// All say what they have to say, and everything must arrive. Returns how long the messages of
    /// customers took while nothing failed.
    async fn run(&self, company: &Company, with_outages: bool) -> Vec<i64> {
        let (crm, max) = (company.crm.control(), company.max.control());
        let mut sent: HashMap<String, i64> = HashMap::new();
        for number in 0..MESSAGES {
            if with_outages && number == QUIET {
                crm.outage(Some(Outage::Unavailable));
                let (method, path) = (Some("POST".to_owned()), Some("/messages".to_owned()));
                let outcome = Outcome::html(503);
                max.add_fault(max::Fault { method, path, times: 6, outcome, ..max::Fault::default() });
            }
            if number == 2 * QUIET {
                crm.outage(None);
            }
            for (customer, chat) in &self.customers {
                let text = |who: char| format!("{}{who}{number}", self.prefix);
                if number < QUIET {
                    sent.insert(format!("{} {}", customer.sender, text('q')), wall_ms());
                }
                company.say(customer, &text('q'));
                crm.send(*chat, company.agent, &text('a'), Vec::new()).unwrap();
            }
            tokio::time::sleep(PAUSE).await;
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.is_there(company) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // What would come twice comes soon after the first.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut took = Vec::new();
        for (customer, chat) in &self.customers {
            let [with_agents, with_customer] = self.found(company, customer);
            assert_eq!(with_customer, self.expected('a'), "{}: lost, doubled or out of order", customer.sender);
            // What a gap had kept back stands out of its order and says so.
            let mut in_order = with_agents;
            in_order.sort_by_key(|text| text[self.prefix.len() + 1..].parse::<usize>().unwrap());
            assert_eq!(in_order, self.expected('q'), "{}: lost or doubled", customer.sender);
            for entry in crm.transcript(&customer.sender) {
                let at = sent.get(&format!("{} {}", customer.sender, text(&entry, "text")));
                took.extend(at.map(|at| entry["storedMs"].as_i64().unwrap() - at));
            }
            crm.close(*chat, company.agent).unwrap();
        }
        assert_eq!(took.len(), QUIET * CUSTOMERS, "what came while nothing failed says that it is late");
        took
    }

    fn expected(&self, who: char) -> Vec<String> {
        (0..MESSAGES).map(|number| format!("{}{who}{number}", self.prefix)).collect()
    }

    /// What the agents have of the customer's, and the customer of theirs.
    fn found(&self, company: &Company, customer: &Customer) -> [Vec<String>; 2] {
        let of = |texts: Vec<String>, who: char| {
            let start = format!("{}{who}", self.prefix);
            let last = texts.into_iter().filter_map(|text| text.split_whitespace().last().map(str::to_owned));
            last.filter(|text| text.starts_with(&start)).collect()
        };
        [of(company.received(customer), 'q'), of(company.seen(customer), 'a')]
    }

    fn is_there(&self, company: &Company) -> bool {
        let all = |(customer, _): &(Customer, Uuid)| {
            self.found(company, customer).iter().all(|found| found.len() >= MESSAGES)
        };
        self.customers.iter().all(all)
    }
}

async fn stop(company: &mut Company) {
    company.ask_to_stop();
    assert_eq!(company.ended().await, Some(0));
}

async fn start(company: &mut Company) {
    company.start();
    company.until_ready().await;
}

async fn assert_receipt_adds_up(company: &Company) {
    let (_, page) = company.get("/metrics").await.unwrap();
    let lines = page.lines().filter(|line| line.starts_with("maxchannel_relay_receipt_imbalance"));
    let lines: Vec<&str> = lines.collect();
    assert!(lines.len() == 4 && lines.iter().all(|line| line.ends_with(" 0")), "{lines:?}");
}

/// Bytes of the store that hold something; no program has it open.
fn in_use(company: &Company) -> u64 {
    let store = Connection::open(company.data().join("default/support/relay.db")).unwrap();
    let figure = |name: &str| store.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).unwrap();
    u64::try_from((figure("page_count") - figure("freelist_count")) * figure("page_size")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: `make soak`"]
async fn soak_a_week_of_a_busy_channel_leaves_the_program_as_it_was_on_the_second_day() {
    let mut company = Company::new(true).await;
    company.take_own_clock();
    let mut days: Vec<Figures> = Vec::new();
    head();
    for day in 0..DAYS {
        let spec = format!("  relay: {{retention: 24h}}\n  closeMessage: {{text: \"День {day}\"}}\n");
        company.write_channel(&spec);
        company.set_clock(day * SECONDS_A_DAY);
        if day == 0 {
            start(&mut company).await;
        } else if day % 2 == 1 {
            stop(&mut company).await;
            start(&mut company).await;
        }
        if day % 3 == 2 {
            let token = format!("{TOKEN}-{day}");
            company.max.control().issue_token(company.bot, Some(token.clone())).unwrap();
            company.write_secrets(&token);
        }
        company.until_ready().await;
        let talk = Talk::begin(&company, &format!("d{day}")).await;
        let took = talk.run(&company, true).await;
        let today = Figures::of(&company, took);
        today.print(&format!("day {}", day + 1));
        assert_receipt_adds_up(&company).await;
        days.push(today);
    }
    let (second, last) = (days[1], days[days.len() - 1]);
    last.assert_flat(&second);
    let messages = 2 * CUSTOMERS * MESSAGES * (days.len() - 2);
    let keys = KEYS * u64::try_from(messages).unwrap();
    assert!(last.store <= second.store + keys, "the store has grown by more than keys: {days:#?}");

    // A long day without a deploy.
    let mut parts = Vec::new();
    for part in 0..3 {
        let talk = Talk::begin(&company, &format!("p{part}")).await;
        let took = talk.run(&company, false).await;
        parts.push(Figures::of(&company, took));
        parts[part].print(&format!("a long day, part {}", part + 1));
    }
    parts[2].assert_flat(&parts[0]);

    stop(&mut company).await;
    let week = in_use(&company);
    company.set_clock((DAYS + MONTH) * SECONDS_A_DAY);
    start(&mut company).await;
    // A start forgets first and answers meanwhile.
    let talk = Talk::begin(&company, "m").await;
    drop(talk);
    stop(&mut company).await;
    let month = in_use(&company);
    println!("of the store is in use: after the week {} KiB, a month later {} KiB", week / 1_024, month / 1_024);
    assert!(month * 4 <= week, "what is past its time stays: {week} and {month} bytes");
}

/// Puts rows that are done with into a store that no program has open: of customers, updates of
/// both kinds, what was sent, and what was taken from the CRM's outbox.
fn fill(file: &Path, rows: u64) {
    let store = Connection::open(file).unwrap();
    store.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; PRAGMA cache_size = -400000").unwrap();
    let (now, each) = (wall_ms(), i64::try_from(rows / 5).unwrap());
    let customers = each / 20;
    let of = |name: &str, columns: &str, values: &str, count: i64| {
        let numbers = format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})");
        let values =
            values.replace("CUSTOMER", &format!("90000000 + i % {customers}")).replace("AT", &format!("{now} - i"));
        store.execute(&format!("INSERT INTO {name} ({columns}) {numbers} SELECT {values} FROM n"), []).unwrap();
    };
    of("customer", "id, name", "CUSTOMER, 'Клиент'", customers);
    for kind in ["message_created", "message_callback"] {
        let values = format!("'{kind}:filled.' || i, CUSTOMER, AT, i, '{{}}', AT, 1");
        of("inbox", "key, customer, at, seq, raw, received_at, done", &values, each);
    }
    let columns = "customer, origin, parts, state, recorded, created_at, ended_at";
    of("to_max", columns, "CUSTOMER, '{}', '[]', 'sent', 1, AT, AT", each);
    of("sent", "mid, customer, at", "'mid.filled.' || i, CUSTOMER, AT", each);
    let id = "printf('00000000-0000-4000-8000-%012d', i)";
    of("outbox", "id, report, reported, taken_at", &format!("{id}, '{{}}', AT, AT"), each);
    store.execute_batch("PRAGMA journal_mode = WAL").unwrap();
}

/// What a program takes over a store with so many rows, how long it takes to start, and its page of
/// metrics, which counts what waits.
async fn with_rows(rows: u64) -> (Figures, [Duration; 2]) {
    let mut company = Company::new(true).await;
    start(&mut company).await;
    stop(&mut company).await;
    if rows > 0 {
        let file = company.data().join("default/support/relay.db");
        tokio::task::spawn_blocking(move || fill(&file, rows)).await.unwrap();
    }
    let began = Instant::now();
    start(&mut company).await;
    let started = began.elapsed();
    let talk = Talk::begin(&company, "s").await;
    let took = talk.run(&company, false).await;
    let mut pages = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        company.get("/metrics").await.unwrap();
        pages.push(began.elapsed());
    }
    pages.sort_unstable();
    let (figures, page) = (Figures::of(&company, took), pages[pages.len() / 2]);
    figures.print(&format!("{rows} rows"));
    println!("{:<34}ready {started:.1?} after its start, /metrics in {page:.1?}", "");
    stop(&mut company).await;
    (figures, [started, page])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes and some gigabytes of disk: `make soak`"]
async fn soak_a_store_of_ten_million_rows_answers_as_fast_as_an_empty_one() {
    head();
    let (empty, [start_of_empty, page_of_empty]) = with_rows(0).await;
    let (full, [start, page]) = with_rows(ROWS).await;
    full.assert_as_fast(&empty);
    assert!(full.memory * 100 <= empty.memory * MEMORY_WITH_ROWS, "memory: {full:?}, of an empty one {empty:?}");
    assert!(start <= start_of_empty * START + Duration::from_secs(1), "start: {start:?}, {start_of_empty:?}");
    assert!(page <= page_of_empty * START + Duration::from_millis(50), "/metrics: {page:?}, {page_of_empty:?}");
}
