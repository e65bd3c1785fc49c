//! The power goes at any moment: every write and sync of the store is recorded under `strace`, and
//! the store made anew as it may be after a cut at some point. It opens, and holds whatever MAX was
//! answered 200 for, and a note of whatever may have left for MAX.
//!
//! `make power-cut` tries more points than the tests do, from another seed if `SEED` is given. The
//! same recording without its syncs must be found out: that is the proof that this can fail.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::company::Company;
use crate::disk::{Disk, Event, events};

const POINTS: u64 = 400;
const CUSTOMERS: usize = 3;
/// Long enough that the log is folded into the file more than once.
const MESSAGES: usize = 60;
const LENGTH: usize = 3_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| value.parse().expect("a number"))
}

fn generator(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed ^ (seed >> 29)) % below
    }
}

/// An exchange both ways, an erasure, and an orderly end.
async fn record() -> (Company, Vec<Event>) {
    let mut company = Company::new(true).await;
    let recording = company.folder.path().join("recording");
    company.recording = Some(recording.clone());
    company.start();
    company.until_ready().await;
    let customers: Vec<_> = ["Анна", "Борис", "Вера"].iter().map(|name| company.customer(name)).collect();
    let mut chats = Vec::new();
    for customer in &customers {
        company.say(customer, "начало");
        chats.push(company.accept(customer).await);
    }
    for number in 0..MESSAGES {
        let which = number % CUSTOMERS;
        company.say(&customers[which], &format!("вопрос {number} {}", "x".repeat(LENGTH)));
        if number % 4 == 0 {
            company.crm.control().send(chats[which], company.agent, &format!("answer-{number}."), Vec::new()).unwrap();
        }
        if number % 10 == 9 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    for (which, customer) in customers.iter().enumerate() {
        let answers = (0..MESSAGES).filter(|number| number % 4 == 0 && number % CUSTOMERS == which).count();
        company
            .until("both sides have everything", async || {
                let both =
                    company.received(customer).len() > MESSAGES / CUSTOMERS && company.seen(customer).len() >= answers;
                both.then_some(())
            })
            .await;
    }
    // The file is written anew as a whole, and nothing of the others' may go with it.
    let somebody = company.customer("Глеб");
    company.say(&somebody, "забудьте меня");
    company.until("it is there", async || (!company.received(&somebody).is_empty()).then_some(())).await;
    let erased = company
        .program()
        .args(["erase", "--customer", &somebody.id.to_string(), "--data-dir"])
        .arg(company.folder.path().join("data"))
        .output()
        .unwrap();
    assert!(erased.status.success(), "{}", String::from_utf8_lossy(&erased.stderr));
    company.ask_to_stop();
    company.ended().await;
    company.recording = None;
    let recording = std::fs::read_to_string(recording).unwrap();
    let events = events(&recording, &company.folder.path().join("data"));
    // What is asked for below is not asked of a person who is gone.
    let events = events.into_iter().filter(|event| match event {
        Event::Answered(heard) => !heard.contains("забудьте меня"),
        _ => true,
    });
    (company, events.collect())
}

/// The ids of messages in a webhook call of MAX.
fn messages(heard: &str) -> Vec<String> {
    if !heard.starts_with("POST /webhooks/max/") || !heard.contains("\"message_created\"") {
        return Vec::new();
    }
    heard.split("\"mid\":\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

/// The words of an agent in what leaves for MAX.
fn answer(text: &str) -> Option<String> {
    let begin = text.find("answer-").filter(|_| text.starts_with("POST /messages"))?;
    Some(text[begin..].split('.').next()?.to_owned())
}

/// What is wrong with the store that is left.
fn wrong(left: &[(PathBuf, Vec<u8>)], acknowledged: &BTreeSet<String>, sent: &BTreeSet<String>) -> Option<String> {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for (path, bytes) in left {
        std::fs::write(folder.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    let file = folder.path().join("relay.db");
    if !file.exists() {
        return (!acknowledged.is_empty()).then(|| "there is no store".to_owned());
    }
    let read = || -> rusqlite::Result<Vec<String>> {
        let store = Connection::open(&file)?;
        store.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        store.pragma_update(None, "journal_mode", "WAL")?;
        let verdict: String = store.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Ok(vec![verdict]);
        }
        if acknowledged.is_empty() {
            return Ok(Vec::new());
        }
        let mut known = store.prepare("SELECT 1 FROM inbox WHERE key = 'message_created:' || ?1")?;
        let mut noted = store.prepare(
            "SELECT 1 FROM to_max WHERE instr(parts, ?1 || '.') > 0 AND (sending IS NOT NULL OR state <> 'queued')",
        )?;
        let mut missing = Vec::new();
        for message in acknowledged {
            if !known.exists([message])? {
                missing.push(format!("{message} was acknowledged"));
            }
        }
        for answer in sent {
            if !noted.exists([answer])? {
                missing.push(format!("{answer} has left, and no note says so"));
            }
        }
        Ok(missing)
    };
    match read() {
        Ok(missing) if missing.is_empty() => None,
        Ok(missing) => Some(missing.join(", ")),
        Err(error) => Some(error.to_string()),
    }
}

/// Cuts the power at `points` of the recording. Returns what went wrong where.
fn cut(events: &[Event], points: u64, seed: u64, never_syncs: bool) -> Vec<String> {
    let mut random = generator(seed);
    let mut chosen: Vec<usize> = (0..points).map(|_| usize::try_from(random(events.len() as u64)).unwrap()).collect();
    chosen.sort_unstable();
    let mut disk = Disk::new(never_syncs);
    let (mut acknowledged, mut sent, mut found) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let mut next = chosen.into_iter().peekable();
    for (place, event) in events.iter().enumerate() {
        disk.apply(event);
        match event {
            Event::Answered(heard) => acknowledged.extend(messages(heard)),
            Event::Sent(text) => sent.extend(answer(text)),
            _ => {}
        }
        while next.next_if_eq(&place).is_some() {
            if let Some(wrong) = wrong(&disk.cut(&mut random), &acknowledged, &sent) {
                found.push(format!("after {place} of {} events (seed {seed}): {wrong}", events.len()));
            }
        }
    }
    assert!(acknowledged.len() > MESSAGES, "only {} messages are seen in the recording", acknowledged.len());
    assert!(sent.len() >= MESSAGES / 4, "only {} answers are seen in the recording", sent.len());
    found
}

fn count(events: &[Event], is: impl Fn(&Event) -> bool) -> usize {
    events.iter().filter(|event| is(event)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_power_cut_leaves_opens_and_nothing_that_was_acknowledged_is_missing() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing: install the package of that name");
        println!("left out: strace is not installed");
        return;
    }
    let (mut company, events) = record().await;
    let is_file = |path: &Path| path.extension().is_some_and(|end| end == "db");
    let folded = count(&events, |event| matches!(event, Event::Wrote { file, .. } if is_file(file)));
    let synced = count(&events, |event| matches!(event, Event::Synced(_)));
    println!("{} events, {synced} syncs, {folded} writes to the file itself", events.len());
    assert!(folded > 100, "the log was never folded into the file: {folded}");
    let (points, seed) = (setting("POINTS").unwrap_or(POINTS), setting("SEED").unwrap_or(20_261_129));
    let wrong = cut(&events, points, seed, false);
    assert!(wrong.is_empty(), "{} of {points} cuts:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
    let without = cut(&events, 40, seed, true);
    assert!(without.len() > 10, "without any sync only {} of 40 cuts are found out", without.len());

    // And the program goes on with it.
    let mut disk = Disk::new(false);
    let half = events.len() / 2;
    events[..half].iter().for_each(|event| disk.apply(event));
    let left = disk.cut(&mut generator(seed));
    for name in ["relay.db", "relay.db-wal"] {
        let _ = std::fs::remove_file(company.folder.path().join("data/default/support").join(name));
    }
    for (path, bytes) in left {
        std::fs::write(path, bytes).unwrap();
    }
    company.start();
    company.until_ready().await;
    let anna = company.customer("Дарья");
    company.say(&anna, "снова здесь");
    company.until("it is with the agents", async || (!company.received(&anna).is_empty()).then_some(())).await;
}
