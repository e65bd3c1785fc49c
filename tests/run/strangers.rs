//! Those who know no secret cost the real program little.

use std::io::Write as _;
use std::net::TcpStream;

use crate::company::Company;

const STRANGERS: usize = 1_000;
const MOST_BYTES: u64 = 20 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_silent_strangers_cost_little_memory_and_no_webhook_waits_for_them() {
    let mut company = Company::new(true).await;
    company.start();
    company.until_ready().await;
    let anna = company.customer("Анна");
    company.say(&anna, "до них");
    company.until("the first message", async || (company.received(&anna).len() == 1).then_some(())).await;
    let before = company.memory();
    let mut silent = Vec::new();
    for number in 0..STRANGERS {
        let mut stranger = TcpStream::connect(("127.0.0.1", company.port)).unwrap();
        let said: &[u8] = match number % 3 {
            0 => b"",
            1 => b"POST /webhooks/max/default/support/0 HTTP/1.1\r\nHost:",
            _ => b"POST /webhooks/max/default/support/0 HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n{",
        };
        // Whoever gave way to a newcomer cannot say anything any more.
        let _ = stranger.write_all(said);
        if number % 3 == 2 {
            let _ = stranger.write_all(&vec![b'x'; 20_000]);
        }
        silent.push(stranger);
        if number % 100 == 0 {
            company.say(&anna, &format!("при {number}"));
        }
    }
    company.until("all messages", async || (company.received(&anna).len() == 11).then_some(())).await;
    let more = company.memory().saturating_sub(before);
    println!("{STRANGERS} silent strangers: {} KiB", more / 1024);
    assert!(more < MOST_BYTES, "{more} bytes more for {STRANGERS} strangers");
}
