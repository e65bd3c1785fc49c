//! kill -9 at any moment.

use std::time::Duration;

use crate::company::Company;

const MESSAGES: usize = 200;
const CUSTOMERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_in_an_exchange_nothing_is_lost_doubled_or_reordered() {
    for webhook in [true, false] {
        let mut company = Company::new(webhook).await;
        company.start();
        company.until_ready().await;
        let customers: Vec<_> = ["Анна", "Борис", "Вера", "Глеб"].iter().map(|name| company.customer(name)).collect();
        let mut chats = Vec::new();
        for customer in &customers {
            company.say(customer, "начало");
            chats.push(company.accept(customer).await);
        }
        // Not by chance, so that a failure can be played again: a small generator with a fixed
        // seed.
        let mut seed = 20_261_124_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut kills = 0;
        for number in 0..MESSAGES {
            let which = number % CUSTOMERS;
            let word = format!("{number}");
            if number % 8 < 4 {
                company.say(&customers[which], &word);
            } else {
                company.crm.control().send(chats[which], company.agent, &word, Vec::new()).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(random(30))).await;
            if random(25) == 0 {
                company.kill();
                kills += 1;
                tokio::time::sleep(Duration::from_millis(random(100))).await;
                company.start();
                tokio::time::sleep(Duration::from_millis(random(1_500))).await;
            }
        }
        assert!(kills >= 5, "the generator killed only {kills} times");
        company.until_ready().await;
        for (which, customer) in customers.iter().enumerate() {
            let words = |from_customer: bool| -> Vec<String> {
                (0..MESSAGES)
                    .filter(|number| number % CUSTOMERS == which && (number % 8 < 4) == from_customer)
                    .map(|number| number.to_string())
                    .collect()
            };
            let (said, answered) = (words(true), words(false));
            company
                .until("both sides have everything", async || {
                    (company.received(customer).len() > said.len() && company.seen(customer).len() >= answered.len())
                        .then_some(())
                })
                .await;
            assert_eq!(company.received(customer)[1..], said, "towards the agent, webhook: {webhook}");
            assert_eq!(company.seen(customer), answered, "towards the customer, webhook: {webhook}");
        }
        let violations = company.crm.control().violations();
        assert!(violations.is_empty(), "{violations:#?}");
    }
}
