//! The first moment of a start.

use serde_json::{Value, json};

use crate::company::Company;

const STARTS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_knows_the_secret_is_refused_at_no_moment_of_a_start() {
    let mut company = Company::new(true).await;
    company.start();
    company.until_ready().await;
    let anna = company.customer("Анна");
    company.say(&anna, "начало");
    company.until("the first message", async || (company.received(&anna).len() == 1).then_some(())).await;
    let control = company.max.control();
    let subscription = control.bot(company.bot).unwrap().subscriptions.remove(0);
    let (url, secret) = (subscription.url, subscription.secret.unwrap());
    let updates = control.updates(company.bot).unwrap();
    let said = updates.iter().rfind(|record| record.update["update_type"] == "message_created").unwrap();
    let pattern: Value = (*said.update).clone();
    // A connection to the one before is nobody's any more.
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    for start in 1..=STARTS {
        company.kill();
        company.start();
        let mut update = pattern.clone();
        update["message"]["body"]["mid"] = json!(format!("mid.{start:032x}"));
        let seq = pattern["message"]["body"]["seq"].as_i64().unwrap();
        update["message"]["body"]["seq"] = json!(seq + i64::try_from(start).unwrap());
        update["message"]["body"]["text"] = json!(format!("{start}"));
        let answer = company
            .until("the port is open", async || {
                let request = client.post(&url).header("X-Max-Bot-Api-Secret", &secret).body(update.to_string());
                match request.send().await {
                    Err(error) if error.is_connect() => None,
                    answer => Some(answer.map(|answer| answer.status().as_u16())),
                }
            })
            .await;
        assert_eq!(answer.unwrap(), 200, "start {start}: the first who came was refused");
        let stranger = client.post(&url).header("X-Max-Bot-Api-Secret", "another").body(update.to_string());
        assert_eq!(stranger.send().await.unwrap().status().as_u16(), 403, "start {start}");
    }
    let expected: Vec<String> = (1..=STARTS).map(|start| start.to_string()).collect();
    company
        .until("all that was taken is with the agent", async || (company.received(&anna).len() > STARTS).then_some(()))
        .await;
    assert_eq!(company.received(&anna)[1..], expected);
}
