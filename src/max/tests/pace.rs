//! The limits, as counted at the other side.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::*;
use super::{answer, client, settings};
use crate::transport::{Options, Request, Response, Transport, TransportError, Waited};

/// Writes down when each request arrives, a random while after it was sent, and answers a random
/// while later.
struct Clock {
    delays: Vec<(u64, u64)>,
    seen: Mutex<Vec<(Instant, String)>>,
    count: Mutex<usize>,
}

impl Transport for Clock {
    fn send(&self, request: Request, _: Options) -> BoxFuture<'_, Result<Response, TransportError>> {
        async move {
            let (there, back) = {
                let mut count = self.count.lock().unwrap();
                *count += 1;
                self.delays[*count % self.delays.len()]
            };
            tokio::time::sleep(Duration::from_millis(there)).await;
            let dialog = String::from_utf8(request.body().to_vec()).unwrap();
            let what = if request.uri().path() == "/updates" { "poll".to_owned() } else { dialog };
            self.seen.lock().unwrap().push((Instant::now(), what));
            tokio::time::sleep(Duration::from_millis(back)).await;
            let message = r#"{"message":{"body":{"mid":"m"}},"messages":[],"user_id":1}"#;
            Ok(answer(200, message))
        }
        .boxed()
    }
}

fn most_in_a_second(times: &mut [Instant]) -> usize {
    times.sort();
    let within =
        |first: &Instant| times.iter().filter(|at| *at >= first && **at < *first + Duration::from_secs(1)).count();
    times.iter().map(within).max().unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Sends, edits and answers count together per dialog, everything counts for the host, whatever
    /// client clone or token it comes by.
    #[test]
    fn no_second_at_the_other_side_holds_more_than_the_limits(
        calls in prop::collection::vec((0_u8..6, 0_i64..6, 0_u64..1500), 1..150),
        delays in prop::collection::vec((0_u64..400, 0_u64..400), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let mut seen = runtime.block_on(async {
            let clock = Arc::new(Clock { delays, seen: Mutex::default(), count: Mutex::default() });
            let first = Client::new(clock.clone(), clock.clone(), settings("http://127.0.0.1:1"));
            let second = first.with_settings(settings("http://127.0.0.1:1"));
            let tasks: Vec<_> = calls.into_iter().enumerate().map(|(index, (what, user, delay))| {
                let client = if index % 2 == 0 { first.clone() } else { second.clone() };
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                    let (dialog, message) = (Recipient::User(user), NewMessage::text(format!("dialog {user}")));
                    match what {
                        0 => drop(client.send(dialog, &message).await.unwrap()),
                        1 => client.edit(dialog, &MessageId::new("m"), &message).await.unwrap(),
                        2 => {
                            let answer = CallbackAnswer { message: Some(message), notification: None };
                            client.answer_callback(dialog, "c", &answer).await.unwrap();
                        }
                        3 => drop(client.updates(None, POLL_LIMIT, Duration::ZERO).await.unwrap()),
                        4 => drop(client.me().await.unwrap()),
                        _ => {
                            let history = History { before: None, after: None, count: 1 };
                            drop(client.messages(ChatId::new(1), history).await.unwrap());
                        }
                    }
                })
            }).collect();
            for task in tasks { task.await.unwrap(); }
            std::mem::take(&mut *clock.seen.lock().unwrap())
        });
        let mut all: Vec<Instant> = seen.iter().map(|(at, _)| *at).collect();
        prop_assert!(most_in_a_second(&mut all) <= 25);
        let mut scoped: HashMap<String, Vec<Instant>> = HashMap::new();
        for (at, what) in seen.drain(..) {
            let scope = if what == "poll" { what } else { what.chars().filter(char::is_ascii_digit).collect() };
            if !scope.is_empty() { scoped.entry(scope).or_default().push(at); }
        }
        for (scope, mut times) in scoped {
            prop_assert!(most_in_a_second(&mut times) <= 2, "dialog or poll {}", scope);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_dialog_does_not_hold_up_another() {
    let clock = Arc::new(Clock { delays: vec![(0, 0)], seen: Mutex::default(), count: Mutex::default() });
    let client = Client::new(clock.clone(), clock.clone(), settings("http://127.0.0.1:1"));
    for _ in 0..100 {
        let client = client.clone();
        tokio::spawn(async move { client.send(Recipient::User(1), &NewMessage::text("dialog 1")).await });
    }
    tokio::task::yield_now().await;
    let start = Instant::now();
    client.send(Recipient::User(2), &NewMessage::text("dialog 2")).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn each_request_says_how_long_the_limits_held_it_back() {
    let (client, api, _) = client();
    for _ in 0..=limits::REQUESTS_PER_SECOND {
        api.answer(200, r#"{"user_id":1}"#);
        client.me().await.unwrap();
    }
    let waited: Vec<Duration> =
        api.take().iter().map(|(request, _)| request.extensions().get::<Waited>().unwrap().0).collect();
    let (last, first) = waited.split_last().unwrap();
    assert!(first.iter().all(Duration::is_zero), "{waited:?}");
    assert!(*last >= Duration::from_millis(900), "{waited:?}");
}
