//! A channel from its first pass to its removal.

use maxchannel_simulator::max;
use serde_json::json;

use crate::world::{TOKEN, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_becomes_ready_and_carries_messages_both_ways() {
    let mut world = World::ready().await;
    let row = world.channel_row().unwrap();
    assert_eq!((&row["Name"], &row["IsActive"]), (&json!("MAX: Служба поддержки"), &json!(true)));
    let mut agents = [world.anna.to_string(), world.boris.to_string()];
    agents.sort();
    assert_eq!(world.queue_agents(), agents, "e-mails are compared without case");
    assert_eq!(world.subscriptions().len(), 1);

    let customer = world.max.control().create_user(max::NewUser::named("Мария")).unwrap();
    world.max.control().start(customer, world.bot).unwrap();
    world.max.control().say(customer, world.bot, "Здравствуйте").unwrap();
    let sender = format!("max:{customer}");
    world.until("the message is in the CRM", || !world.crm.control().chats(Some(&sender)).is_empty()).await;
    let chat = world.crm.control().chats(Some(&sender))[0].clone();
    let chat = chat["Id"].as_str().or(chat["id"].as_str()).unwrap().parse().unwrap();
    assert!(world.crm.control().accept(chat, world.anna).unwrap());
    world.crm.control().send(chat, world.anna, "Слушаю вас", Vec::new()).unwrap();
    let told = || world.max.control().transcript(customer, world.bot).unwrap();
    world.until("the answer is in MAX", || told().texts_of_bot() == ["Слушаю вас"]).await;

    let status = world.status("support").unwrap();
    assert_eq!(status["bot"]["userId"], world.bot);
    assert_eq!(status["intake"], "Webhook");
    assert!(!status.to_string().contains("canary"), "a token is in the status: {status}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_subscription_is_made_again_and_nothing_else_is_written() {
    let mut world = World::new().await;
    world.write("support.yaml", &world.channel("support", ""));
    world.cadence.subscriptions = 500;
    world.run().await;
    world.until_ready("support").await;
    let rows = || ["MaxChannelSettings", "Channel", "ChatQueue", "ChatQueueOperator"].map(|entity| world.rows(entity));
    let before = rows();
    world.max.control().drop_subscriptions(world.bot).unwrap();
    world.until("the subscription is there again", || world.subscriptions().len() == 1).await;
    assert_eq!(rows(), before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_takes_effect_without_a_restart_and_leaves_one_subscription() {
    let mut world = World::ready().await;
    let before = world.subscriptions();
    let token = "canary-token-of-the-first-bot-0002";
    world.max.control().issue_token(world.bot, Some(token.to_owned())).unwrap();
    world.write("secrets.yaml", &world.secrets(token));
    world
        .until("the new address is the only one", || {
            let now = world.subscriptions();
            now.len() == 1 && now != before
        })
        .await;
    world.until_ready("support").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_told_and_the_right_one_goes_on_serving() {
    let mut world = World::ready().await;
    world.write("secrets.yaml", &world.secrets("canary-token-that-max-does-not-know"));
    let message = world.until_condition("support", "TokenAuthorized", "False", "TokenInvalid").await;
    assert!(!message.contains("canary"), "{message}");
    let customer = world.max.control().create_user(max::NewUser::named("Мария")).unwrap();
    world.max.control().start(customer, world.bot).unwrap();
    world.max.control().say(customer, world.bot, "Здравствуйте").unwrap();
    let sender = format!("max:{customer}");
    world.until("messages still arrive", || !world.crm.control().chats(Some(&sender)).is_empty()).await;
    world.write("secrets.yaml", &world.secrets(TOKEN));
    world.until_ready("support").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_while_max_is_away_still_relays() {
    let mut world = World::ready().await;
    world.stop().await;
    world.max.control().add_fault(max::Fault {
        path: Some("/me".to_owned()),
        times: 0,
        outcome: max::Outcome::error(503, "service.unavailable", ""),
        ..max::Fault::default()
    });
    world.run().await;
    world.until_condition("support", "TokenAuthorized", "False", "MaxUnreachable").await;
    let customer = world.max.control().create_user(max::NewUser::named("Мария")).unwrap();
    world.max.control().start(customer, world.bot).unwrap();
    world.max.control().say(customer, world.bot, "Здравствуйте").unwrap();
    let sender = format!("max:{customer}");
    world.until("the message is in the CRM", || !world.crm.control().chats(Some(&sender)).is_empty()).await;
    world.max.control().clear_faults();
    world.until_ready("support").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_file_stops_the_channel_here_and_changes_nothing_outside() {
    let mut world = World::ready().await;
    world.delete("support.yaml");
    world.until("the channel is gone from the status", || world.status("support").is_none()).await;
    assert_eq!(world.subscriptions().len(), 1, "the subscription stays");
    assert_eq!(world.channel_row().unwrap()["IsActive"], true, "the channel in the CRM stays active");
    world.write("support.yaml", &world.channel("support", ""));
    world.until_ready("support").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_group_leaves_the_queue_and_an_outage_takes_nobody_away() {
    let mut world = World::new().await;
    world.cadence.mango = 300;
    world.cadence.crm = 300;
    world.write("support.yaml", &world.channel("support", ""));
    world.run().await;
    world.until_ready("support").await;
    world.mango.control().outage(Some(maxchannel_simulator::mango::Outage::Unavailable));
    world.until_condition("support", "AccountReady", "False", "MangoUnreachable").await;
    assert_eq!(world.condition("support", "Ready").0, "True", "an outage after a success is forgiven for a while");
    assert_eq!(world.queue_agents().len(), 2);
    world.mango.control().outage(None);
    let mut group = maxchannel_simulator::mango::Group {
        id: world.group,
        name: "Поддержка".to_owned(),
        ..maxchannel_simulator::mango::Group::default()
    };
    world.mango.control().put_group(group.clone());
    world.until_condition("support", "ReceiverResolved", "False", "GroupEmpty").await;
    assert_eq!(world.queue_agents().len(), 2, "an empty group takes nobody away");
    group.members = vec![world.mango.control().put_employee(maxchannel_simulator::mango::Employee {
        name: "Анна Агентова".to_owned(),
        email: Some("anna@example.com".to_owned()),
        extension: Some("103".to_owned()),
        ..maxchannel_simulator::mango::Employee::default()
    })];
    world.mango.control().put_group(group);
    world.until("only Anna is left in the queue", || world.queue_agents() == [world.anna.to_string()]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_public_address_max_is_polled_and_a_strangers_subscription_is_named() {
    let mut world = World::new().await;
    world.public = false;
    world.cadence.subscriptions = 300;
    world.write("support.yaml", &world.channel("support", ""));
    world.run().await;
    world.until_ready("support").await;
    assert_eq!(world.condition("support", "IntakeReady").1, "Polling");
    assert!(world.subscriptions().is_empty());
    let customer = world.max.control().create_user(max::NewUser::named("Мария")).unwrap();
    world.max.control().start(customer, world.bot).unwrap();
    world.max.control().say(customer, world.bot, "Здравствуйте").unwrap();
    let sender = format!("max:{customer}");
    world.until("the message is in the CRM", || !world.crm.control().chats(Some(&sender)).is_empty()).await;

    world.subscribe_stranger("http://127.0.0.1:1/stranger?key=canary").await;
    let message = world.until_condition("support", "IntakeReady", "False", "ForeignSubscription").await;
    assert!(message.contains("127.0.0.1:1/stranger") && !message.contains("canary"), "{message}");
    let remove = "  intake: {longPoll: {}, onForeignSubscription: Remove}\n";
    world.write("support.yaml", &world.channel("support", remove));
    world.until("the stranger is gone", || world.subscriptions().is_empty()).await;
    world.until_ready("support").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulators_in_their_harder_position_make_no_difference() {
    let mut world = World::among(max::Switches::hostile(), maxchannel_simulator::creatio::Runtime::Framework).await;
    world.public = false;
    world.write("support.yaml", &world.channel("support", ""));
    world.run().await;
    world.until_ready("support").await;
    assert_eq!(world.queue_agents().len(), 2);
    world.stop().await;
}
