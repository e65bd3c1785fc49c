//! Many channels on one CRM.

use std::fmt::Write as _;

use maxchannel_simulator::max;

use crate::any_account::any_account;
use crate::world::World;

const CHANNELS: usize = 20;
const LIMIT: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_channels_on_one_crm_keep_one_limit_together_the_lowest_of_theirs() {
    let mut world = World::new().await;
    world.mango_url = Some(any_account(world.mango.url(), "127.0.0.1:0".parse().unwrap()).await);
    let mut bots = Vec::new();
    for number in 0..CHANNELS {
        let name = format!("support-{number}");
        let token = format!("canary-token-of-a-bot-{number:04}");
        bots.push(world.max.control().create_bot(max::NewBot::new(&name, &token)).unwrap().user_id);
        let mut text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{token: {token}, apiKey: canarykey{number:04}, \
             apiSalt: canarysalt{number:04}}}\n---\n"
        );
        let limit = if number == 7 { LIMIT } else { LIMIT + 10 };
        // The same site under another spelling.
        let site = if number % 2 == 0 { world.crm.url() } else { format!("{}/", world.crm.url()) };
        write!(
            text,
            "apiVersion: maxchannel.dev/v1alpha1\nkind: MaxChannel\nmetadata: {{name: {name}}}\nspec:\n  \
             tokenSecretRef: {{name: {name}}}\n  mango: {{accountNumber: \"4000{number:05}\", credentialsSecretRef: {{name: {name}}}}}\n  \
             creatio: {{url: \"{site}\", identityUrl: \"{}\", credentialsSecretRef: {{name: crm}}, pollInterval: 1s,\n    \
             limits: {{requestsPerSecond: {limit}, inFlight: 8}}}}\n  receiver: {{employee: {{extension: \"101\"}}}}\n",
            world.crm.identity_url()
        )
        .unwrap();
        world.write(&format!("{name}.yaml"), &text);
    }
    world.run().await;
    for number in 0..CHANNELS {
        world.until_condition(&format!("support-{number}"), "CrmConnected", "True", "Connected").await;
        world.until_condition(&format!("support-{number}"), "IntakeReady", "True", "Subscribed").await;
    }
    let mut senders = Vec::new();
    for (number, bot) in bots.iter().enumerate() {
        let customer = world.max.control().create_user(max::NewUser::named(&format!("Мария {number}"))).unwrap();
        world.max.control().start(customer, *bot).unwrap();
        for text in ["Здравствуйте", "Где заказ?", "Жду"] {
            world.max.control().say(customer, *bot, text).unwrap();
        }
        senders.push(format!("max:{customer}"));
    }
    for sender in &senders {
        let told = || world.crm.control().transcript(sender).len() >= 3;
        world.until("no channel is kept from its share", told).await;
    }
    let counters = world.crm.control().counters();
    let highest = counters["highestInOneSecond"].as_u64().unwrap();
    assert!(highest <= LIMIT, "{highest} requests in one second: {counters:#}");
    world.stop().await;
}
