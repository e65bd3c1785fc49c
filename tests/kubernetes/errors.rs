//! The documented errors, each provoked on the cluster: its condition, its reason, a message with
//! the remedy, and that it goes by itself once the cause is mended.

use maxchannel::api::{ConditionType, ErrorReasons, Language, Reason, catalogue};
use maxchannel_simulator::max;
use serde_json::json;

use crate::world::{Cluster, PATIENCE, RECOVERY, World};

/// Waits for the failure and checks that `Ready` names it and that the message ends in the
/// catalogue's remedy.
async fn fails(world: &World, condition: ConditionType, reason: Reason) {
    let message = world.until_condition("support", condition.as_str(), "False", reason.as_str(), PATIENCE).await;
    let remedy = catalogue::entry(condition, reason).unwrap().text(Language::English).remedy;
    assert!(message.contains(remedy), "{condition}/{reason:?}: {message}");
    if condition != ConditionType::AutoRepliesActive {
        let (status, ready, _) = world.condition("support", "Ready").await.unwrap();
        assert_eq!((status.as_str(), ready.as_str()), ("False", reason.as_str()));
    }
}

async fn recovers(world: &World, condition: ConditionType, reason: Reason) {
    world.until_condition("support", condition.as_str(), "True", reason.as_str(), RECOVERY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_documented_error_is_shown_with_its_remedy_and_goes_by_itself_when_mended() {
    use ConditionType::{AutoRepliesActive, ReceiverResolved, TokenAuthorized};
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    let mut settings = world.settings();
    settings.installation.max_error_reasons = serde_json::from_value::<ErrorReasons>(json!([
        {"status": 403, "messageContains": "moderation", "reason": "BotUnderModeration"},
        {"status": 403, "messageContains": "legal entity", "reason": "LegalEntityAccessDenied"},
    ]))
    .unwrap();
    let controller = world.controller_with(settings).await;
    let control = world.max.control();

    // 1: the Secret is not there, then its key is not, then it is empty.
    world.apply(&world.manifest("support")).await;
    fails(&world, TokenAuthorized, Reason::TokenNotFound).await;
    world.put_other_secrets().await;
    world.put_secret("max-bot", json!({"other": "value"})).await;
    fails(&world, TokenAuthorized, Reason::TokenNotFound).await;
    world.put_secret("max-bot", json!({"token": "  "})).await;
    fails(&world, TokenAuthorized, Reason::TokenNotFound).await;
    world.put_token(&world.token).await;
    recovers(&world, TokenAuthorized, Reason::Authorized).await;
    world.until_ready("support").await;

    // 2: MAX does not take the token.
    world.put_token("invented-token-of-nobody").await;
    fails(&world, TokenAuthorized, Reason::TokenInvalid).await;
    world.put_token(&world.token).await;
    recovers(&world, TokenAuthorized, Reason::Authorized).await;

    // 3, 4, 5: answers that only the table, or nobody, knows.
    for (message, reason) in [
        ("Bot is under moderation", Reason::BotUnderModeration),
        ("No access for this legal entity", Reason::LegalEntityAccessDenied),
        ("Something new", Reason::AuthorizationFailed),
    ] {
        let answer = max::BotAnswer { status: 403, code: "access.denied".to_owned(), message: message.to_owned() };
        control.set_bot_state(world.bot, max::BotState::Refused(answer)).unwrap();
        world.apply(&annotated(&world, message)).await;
        fails(&world, TokenAuthorized, reason).await;
        control.set_bot_state(world.bot, max::BotState::Active).unwrap();
        // Nothing tells us: asked again by itself within the pause of a refusal.
        world.until_condition("support", "TokenAuthorized", "True", "Authorized", 2 * RECOVERY).await;
    }
    world.until_ready("support").await;

    // 6: no receiver.
    let mut manifest = world.manifest("support");
    manifest["spec"].as_object_mut().unwrap().remove("receiver");
    world.apply(&manifest).await;
    fails(&world, ReceiverResolved, Reason::ReceiverNotSelected).await;

    // 7: no automatic replies; informational.
    let mut manifest = world.manifest("support");
    manifest["spec"].as_object_mut().unwrap().remove("autoReplies");
    world.apply(&manifest).await;
    recovers(&world, ReceiverResolved, Reason::Resolved).await;
    fails(&world, AutoRepliesActive, Reason::AutoRepliesNotConfigured).await;
    world.until_ready("support").await;
    world.apply(&world.manifest("support")).await;
    recovers(&world, AutoRepliesActive, Reason::Active).await;
    world.until_ready("support").await;

    controller.stop().await;
    world.end().await;
}

/// Asks for a look now, as `kubectl annotate` does.
fn annotated(world: &World, value: &str) -> serde_json::Value {
    let mut manifest = world.manifest("support");
    manifest["metadata"]["annotations"] = json!({"maxchannel.dev/reconcile-at": value});
    manifest
}
