//! Each documented error and its like: what the status says, and that it mends itself.

use std::time::Duration;

use maxchannel::time::Clock;
use maxchannel_simulator::max;

use crate::world::{TOKEN, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_1_a_missing_secret_and_a_missing_key_are_named_and_found_when_they_come() {
    let mut world = World::new().await;
    world.write("support.yaml", &world.channel("support", ""));
    world.write("secrets.yaml", &world.secrets(TOKEN).replace("name: bot}", "name: other}"));
    world.run().await;
    let message = world.until_condition("support", "TokenAuthorized", "False", "TokenNotFound").await;
    assert!(message.contains("the Secret bot is not there"), "{message}");
    world.write("secrets.yaml", &world.secrets(TOKEN).replace("{token: ", "{tokken: "));
    world
        .until("the missing key is named", || {
            world.condition("support", "TokenAuthorized").2.contains("the Secret bot has no key token")
        })
        .await;
    world.write("secrets.yaml", &world.secrets(TOKEN));
    world.until_ready("support").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_3_by_a_row_of_the_installation_and_error_5_without_one() {
    let mut world = World::new().await;
    let rows = r#"[{"status": 403, "messageContains": "moderation", "reason": "BotUnderModeration"}]"#;
    world.error_reasons = serde_json::from_str(rows).unwrap();
    let refuse = |message: &str| {
        world.max.control().clear_faults();
        world.max.control().add_fault(max::Fault {
            path: Some("/me".to_owned()),
            times: 0,
            outcome: max::Outcome::error(403, "bot.denied", message),
            ..max::Fault::default()
        });
    };
    refuse("still under moderation");
    world.write("support.yaml", &world.channel("support", ""));
    world.run().await;
    world.until_condition("support", "TokenAuthorized", "False", "BotUnderModeration").await;
    world.max.control().clear_faults();
    world.max.control().add_fault(max::Fault {
        path: Some("/me".to_owned()),
        times: 0,
        outcome: max::Outcome::error(403, "bot.denied", "something new"),
        ..max::Fault::default()
    });
    let message = world.until_condition("support", "TokenAuthorized", "False", "AuthorizationFailed").await;
    assert!(message.contains("something new"), "MAX's own words are told: {message}");
    world.max.control().clear_faults();
    world.until_ready("support").await;
    world.stop().await;
}

/// What MAX said stays told until the subscription stands, whatever else is looked at meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_subscription_is_told_in_the_words_of_max_until_it_is_taken() {
    let mut world = World::new().await;
    world.max.control().add_fault(max::Fault {
        method: Some("POST".to_owned()),
        path: Some("/subscriptions".to_owned()),
        times: 0,
        outcome: max::Outcome::error(400, "proto.payload", "The certificate of this host is not trusted"),
        ..max::Fault::default()
    });
    world.write("support.yaml", &world.channel("support", ""));
    world.run().await;
    let message = world.until_condition("support", "IntakeReady", "False", "CertificateRejected").await;
    assert!(message.contains("of this host is not trusted"), "{message}");
    // That MAX does not show the subscriptions says nothing about the refusal.
    world.max.control().add_fault(max::Fault {
        method: Some("GET".to_owned()),
        path: Some("/subscriptions".to_owned()),
        times: 0,
        outcome: max::Outcome::error(503, "service.unavailable", "later"),
        ..max::Fault::default()
    });
    let looks = || -> u64 {
        let requests = world.max.control().statistics().requests;
        requests.iter().filter(|(call, _)| call.starts_with("GET /subscriptions")).map(|(_, count)| count).sum()
    };
    let before = looks();
    world
        .until("MAX was asked twice more", || {
            assert_eq!(world.condition("support", "IntakeReady").1, "CertificateRejected");
            looks() > before + 1
        })
        .await;
    world.max.control().clear_faults();
    world.until_ready("support").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_6_without_a_receiver_messages_are_kept_until_somebody_takes_them() {
    let mut world = World::new().await;
    world.write("support.yaml", &world.channel_with("support", ""));
    world.run().await;
    world.until_condition("support", "ReceiverResolved", "False", "ReceiverNotSelected").await;
    world.until_condition("support", "IntakeReady", "True", "Subscribed").await;
    assert!(world.channel_row().is_none(), "a channel without anybody to take dialogs was made");
    let customer = world.max.control().create_user(max::NewUser::named("Мария")).unwrap();
    world.max.control().start(customer, world.bot).unwrap();
    world.max.control().say(customer, world.bot, "Есть кто?").unwrap();
    world.write("support.yaml", &world.channel("support", ""));
    world.until_ready("support").await;
    let sender = format!("max:{customer}");
    world.until("the kept message is in the CRM", || !world.crm.control().chats(Some(&sender)).is_empty()).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_channel_with_the_same_account_stands_back_and_touches_nothing() {
    let mut world = World::new().await;
    let other = "canary-token-of-the-second-bot-0001";
    let bot = world.max.control().create_bot(max::NewBot::new("Вторая служба", other)).unwrap().user_id;
    world.write("a.yaml", &world.channel("first", ""));
    world.write("b.yaml", &world.channel("second", "").replace("{name: bot}", "{name: bot-two}"));
    let secret = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: bot-two}}\nstringData: {{token: {other}}}\n");
    world.write("more.yaml", &secret);
    world.run().await;
    world.until_ready("first").await;
    let message = world.until_condition("second", "AccountReady", "False", "AccountInUse").await;
    assert!(message.contains("default/first"), "{message}");
    assert!(world.max.control().bot(bot).unwrap().subscriptions.is_empty());
    assert_eq!(world.rows("MaxChannelSettings").len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_edit_is_told_with_its_line_and_the_last_good_state_goes_on() {
    let mut world = World::ready().await;
    world.write("support.yaml", "apiVersion: maxchannel.dev/v1alpha1\nkind: [\n");
    let message = world.until_condition("support", "SpecValid", "False", "InvalidSpec").await;
    assert!(message.contains("support.yaml:3: "), "{message}");
    let long = "я".repeat(251);
    world.write("support.yaml", &world.channel("support", &format!("  closeMessage: {{text: {long}}}\n")));
    world
        .until("the field and its line are named", || {
            world.condition("support", "SpecValid").2.contains("support.yaml:9: spec.closeMessage.text")
        })
        .await;
    assert_eq!(world.condition("support", "RelayAvailable").0, "True");
    world.write("support.yaml", &world.channel("support", ""));
    world.until_ready("support").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_owner_is_not_overruled_until_the_channel_is_adopted() {
    let mut world = World::ready().await;
    world.stop().await;
    let id = world.rows("MaxChannelSettings")[0]["Id"].as_str().unwrap().parse().unwrap();
    let change = serde_json::json!({"Owner": "elsewhere/support"});
    world.crm.control().update("MaxChannelSettings", id, &change).unwrap();
    world.run().await;
    let message = world.until_condition("support", "CrmConnected", "False", "OwnedElsewhere").await;
    assert!(message.contains("elsewhere/support"), "{message}");
    assert_eq!(world.rows("MaxChannelSettings")[0]["Owner"], "elsewhere/support");
    let adopted = world.channel("support", "").replace(
        "metadata: {name: support}",
        "metadata: {name: support, annotations: {maxchannel.dev/adopt: \"true\"}}",
    );
    world.write("support.yaml", &adopted);
    world.until_ready("support").await;
    assert_eq!(world.rows("MaxChannelSettings")[0]["Owner"], "laptop/default/support");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_bots_token_is_refused_until_it_is_accepted() {
    let mut world = World::ready().await;
    let other = "canary-token-of-the-second-bot-0001";
    let bot = world.max.control().create_bot(max::NewBot::new("Вторая служба", other)).unwrap().user_id;
    world.write("secrets.yaml", &world.secrets(other));
    let message = world.until_condition("support", "TokenAuthorized", "False", "BotChanged").await;
    assert!(message.contains(&bot.to_string()), "{message}");
    assert!(world.max.control().bot(bot).unwrap().subscriptions.is_empty());
    let accepted = world.channel("support", "").replace(
        "metadata: {name: support}",
        &format!("metadata: {{name: support, annotations: {{maxchannel.dev/accept-bot: \"{bot}\"}}}}"),
    );
    world.write("support.yaml", &accepted);
    world.until("the new bot is subscribed", || world.max.control().bot(bot).unwrap().subscriptions.len() == 1).await;
    world.until_ready("support").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_max_throttles_is_told_as_throttled_whatever_else_succeeds() {
    for intake in ["", "  intake: {longPoll: {}}\n"] {
        let mut world = World::new().await;
        let (clock, manual) = Clock::manual(Clock::real().now());
        world.clock = clock.clone();
        let driver = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            loop {
                ticks.tick().await;
                manual.advance_to(clock.now() + 100);
            }
        });
        let more = format!("{intake}  autoReplies: [{{after: 0s, text: Здравствуйте!}}]\n");
        world.write("support.yaml", &world.channel("support", &more));
        world.run().await;
        world.until_ready("support").await;
        world.max.control().add_fault(max::Fault {
            method: Some("POST".to_owned()),
            path: Some("/messages".to_owned()),
            times: 0,
            outcome: max::Outcome::error(429, "too.many.requests", "Too many requests"),
            ..max::Fault::default()
        });
        let customer = world.max.control().create_user(max::NewUser::named("Мария")).unwrap();
        world.max.control().start(customer, world.bot).unwrap();
        let mut asked = 0;
        world
            .until(&format!("the throttling is told with {intake:?}"), || {
                // What MAX brings meanwhile is no sign that it takes anything again.
                asked += 1;
                if asked % 20 == 1 {
                    world.max.control().say(customer, world.bot, "Есть кто?").unwrap();
                }
                world.condition("support", "DeliveryHealthy").1 == "MaxThrottled"
            })
            .await;
        world.max.control().clear_faults();
        world
            .until("the end of the throttling is told", || world.condition("support", "DeliveryHealthy").0 == "True")
            .await;
        world.stop().await;
        driver.abort();
    }
}
