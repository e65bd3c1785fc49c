//! What is another's: objects under the names that a channel needs, a bot that another installation
//! has, a namespace that is gone.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Resource, ResourceExt as _};
use maxchannel::api::MaxChannel;
use maxchannel::contract::InstallationId;
use maxchannel_simulator::creatio;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::fleet::{self, Fleet};
use crate::world::{Cluster, Controller, Customer, PATIENCE, RECOVERY, World, until};

async fn put<K>(world: &World, object: Value) -> K
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).unwrap();
    world.api::<K>().create(&PostParams::default(), &object).await.unwrap()
}

async fn gone(world: &World, name: &str) {
    until("the channel is gone", PATIENCE, || async {
        world.api::<MaxChannel>().get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
}

/// With our labels or none, and with nobody's or somebody else's reference: the name is all that it
/// shares.
fn metadata(name: &str, labelled: bool, owner: &Value) -> Value {
    let channel = name.trim_end_matches("-relay");
    let labels = json!({
        "app.kubernetes.io/name": "maxchannel", "app.kubernetes.io/component": "relay",
        "app.kubernetes.io/instance": channel, "app.kubernetes.io/managed-by": "maxchannel",
    });
    let mut metadata = json!({"name": name, "ownerReferences": owner});
    if labelled {
        metadata["labels"] = labels;
    }
    metadata
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_channels_is_left_alone_and_named_whatever_it_is_called() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    let mut settings = fleet.settings(&world);
    settings.webhook_ingress = Some(serde_json::from_value(json!({"className": "nginx"})).unwrap());
    world.put_other_secrets().await;
    let nobody = json!([]);
    let web: ConfigMap = put(&world, json!({"metadata": {"name": "web"}})).await;
    let former =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "web", "uid": web.uid(), "controller": true}]);
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let tls = put::<Secret>(
        &world,
        json!({"metadata": metadata("c1-relay", false, &nobody), "type": "kubernetes.io/tls", "immutable": true,
            "stringData": {"tls.crt": "invented", "tls.key": "invented"}}),
    )
    .await;
    let service = put::<Service>(
        &world,
        json!({"metadata": metadata("c2-relay", true, &former), "spec": {"ports": [{"port": 443}], "selector": {"app": "web"}}}),
    )
    .await;
    let set = put::<StatefulSet>(
        &world,
        json!({"metadata": metadata("c3-relay", true, &nobody), "spec": {
            "replicas": 0, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web"}]}}}}),
    )
    .await;
    let account = put::<ServiceAccount>(&world, json!({"metadata": metadata("c4-relay", false, &nobody)})).await;
    let policy = put::<NetworkPolicy>(
        &world,
        json!({"metadata": metadata("c5-relay", true, &nobody), "spec": {"podSelector": {"matchLabels": {"app": "web"}}}}),
    )
    .await;
    let ingress = put::<Ingress>(
        &world,
        json!({"metadata": metadata("c6-relay", true, &nobody), "spec": {"defaultBackend": backend}}),
    )
    .await;
    let claim = put::<PersistentVolumeClaim>(
        &world,
        json!({"metadata": {"name": "data-c7-relay-0"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}}}),
    )
    .await;
    let controller = world.controller_with(settings).await;
    let kinds =
        ["Secret", "Service", "StatefulSet", "ServiceAccount", "NetworkPolicy", "Ingress", "PersistentVolumeClaim"];
    for (number, kind) in (1..).zip(kinds) {
        fleet.prepare(&world, number).await;
        let mut manifest = fleet.manifest(&world, number);
        if kind == "Ingress" {
            manifest["spec"]["intake"] = json!({"webhook": {"host": "max.example.com"}});
        }
        if kind == "PersistentVolumeClaim" {
            manifest["spec"]["relay"]["storage"] = json!({"volumeClaim": {}});
        }
        world.apply(&manifest).await;
        let name = format!("c{number}");
        let message = world.until_condition(&name, "ObjectsApplied", "False", "ForeignObject", PATIENCE).await;
        assert!(message.contains(kind) && message.contains(&format!("{name}-relay")), "{kind}: {message}");
    }
    for number in 1..=kinds.len() {
        world.delete(&format!("c{number}")).await;
        gone(&world, &format!("c{number}")).await;
    }
    macro_rules! unchanged {
        ($($object:ident: $kind:ty),* $(,)?) => {
            $(
                let found = world.api::<$kind>().get_opt(&$object.name_any()).await.unwrap();
                let found = found.unwrap_or_else(|| panic!("{} is gone", stringify!($object)));
                assert_eq!(found.resource_version(), $object.resource_version(), "{} was written", stringify!($object));
            )*
        };
    }
    unchanged!(tls: Secret, account: ServiceAccount);
    // Others write into these: the cluster's own controllers.
    macro_rules! same {
        ($($object:ident: $kind:ty),* $(,)?) => {
            $(
                let found = world.api::<$kind>().get_opt(&$object.name_any()).await.unwrap();
                let found = found.unwrap_or_else(|| panic!("{} is gone", stringify!($object)));
                assert_eq!(
                    (found.uid(), &found.spec, found.owner_references(), found.labels()),
                    ($object.uid(), &$object.spec, $object.owner_references(), $object.labels()),
                );
            )*
        };
    }
    same!(service: Service, set: StatefulSet, policy: NetworkPolicy, ingress: Ingress, claim: PersistentVolumeClaim);
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_becomes_free_is_taken_and_the_channel_becomes_ready() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    world.put_other_secrets().await;
    let controller = world.controller_with(fleet.settings(&world)).await;
    let foreign = json!({"metadata": {"name": "c1-relay"}, "stringData": {"password": "invented"}});
    put::<Secret>(&world, foreign).await;
    fleet.add(&world, 1).await;
    world.until_condition("c1", "Ready", "False", "ForeignObject", PATIENCE).await;
    world.until_condition("c1", "Stalled", "True", "ForeignObject", PATIENCE).await;
    world.api::<Secret>().delete("c1-relay", &DeleteParams::default()).await.unwrap();
    fleet::until_ready(&world, 1, PATIENCE).await;
    controller.stop().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_namespace_that_is_gone_is_told_of_and_the_others_are_served() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    let gone = format!("{}-gone", world.namespace);
    for first in [true, false] {
        let mut settings = fleet.settings(&world);
        let place = if first { 0 } else { settings.namespaces.len() };
        settings.namespaces.insert(place, gone.clone());
        let controller = world.controller_with(settings).await;
        world.put_other_secrets().await;
        fleet.add(&world, 1).await;
        fleet::until_ready(&world, 1, PATIENCE).await;
        let answer = reqwest::get(format!("http://{}/readyz", controller.running.address)).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        until("an event says which is not served", RECOVERY * 3, || async {
            let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
            let is_it = |event: &&Event| event.reason.as_deref() == Some("NamespaceNotServed");
            let note = events.iter().find(is_it).and_then(|event| event.note.clone())?;
            note.contains(&gone).then_some(())
        })
        .await;
        assert!(controller.metrics().await.contains("namespaces_unserved 1"));
        world.delete("c1").await;
        self::gone(&world, "c1").await;
        controller.stop().await;
    }
    world.end().await;
}

/// The agent writes, and the customer reads it.
async fn answer(world: &World, customer: &Customer, chat: uuid::Uuid, text: &str) {
    world.crm.control().send(chat, world.agent, text, Vec::new()).unwrap();
    until("the customer reads it", PATIENCE, || async {
        world.seen(customer).iter().any(|seen| seen == text).then_some(())
    })
    .await;
}

/// A bot on its way from one installation to another: a dialog is open in the first, and the second
/// has the same bot and CRM.
struct Move {
    old: World,
    new: World,
    controllers: [Controller; 2],
    /// The channel's in the second.
    manifest: Value,
    customer: Customer,
    chat: uuid::Uuid,
}

impl Move {
    async fn begin(cluster: &Cluster) -> Self {
        let old = World::start(cluster).await;
        let mut settings = old.settings();
        settings.installation.id = InstallationId::of("old");
        settings.cadence.subscriptions = 1_000;
        let old_controller = old.controller_with(settings.clone()).await;
        old.put_secrets().await;
        old.apply(&old.manifest("support")).await;
        old.until_ready("support").await;
        let customer = old.customer();
        old.say(&customer, "раз");
        let chat = old.accept(&customer).await;
        answer(&old, &customer, chat, "ответ на раз").await;
        let new = World::start(cluster).await;
        new.put_token(&old.token).await;
        new.put_other_secrets().await;
        settings.namespace = new.namespace.clone();
        settings.namespaces = vec![new.namespace.clone()];
        settings.installation.id = InstallationId::of("new");
        let new_controller = new.controller_with(settings).await;
        let mut manifest = old.manifest("support");
        manifest["spec"]["intake"]["webhook"]["url"] = json!(new.public);
        new.apply(&manifest).await;
        Self { old, new, controllers: [old_controller, new_controller], manifest, customer, chat }
    }

    async fn end(worlds: [World; 2], controllers: [Controller; 2]) {
        for controller in controllers {
            controller.stop().await;
        }
        for world in worlds {
            world.end().await;
        }
    }
}

/// From cluster to cluster, as far as one machine can show it: the second has another id, and the
/// same bot and CRM.
#[tokio::test(flavor = "multi_thread")]
async fn a_bot_moves_from_one_installation_to_another_and_every_message_arrives_once() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let Move { old, new, controllers, mut manifest, customer, chat } = Move::begin(&cluster).await;
    let message = new.until_condition("support", "TokenAuthorized", "False", "BotInUse", PATIENCE).await;
    assert!(message.contains(&format!("old/{}/support", old.namespace)), "{message}");
    new.until_condition("support", "CrmConnected", "False", "OwnedElsewhere", PATIENCE).await;
    old.say(&customer, "два");
    answer(&old, &customer, chat, "ответ на два").await;

    manifest["metadata"]["annotations"] = json!({"maxchannel.dev/adopt": "true"});
    new.apply(&manifest).await;
    new.until_ready("support").await;
    let message = old.until_condition("support", "TokenAuthorized", "False", "BotInUse", PATIENCE).await;
    assert!(message.contains(&format!("new/{}/support", new.namespace)), "{message}");
    old.say(&customer, "три");
    answer(&old, &customer, chat, "ответ на три").await;
    assert_eq!(old.received(&customer), ["раз", "два", "три"]);
    let seen: Vec<String> = old.seen(&customer).into_iter().filter(|text| text.starts_with("ответ")).collect();
    assert_eq!(seen, ["ответ на раз", "ответ на два", "ответ на три"]);
    // The old one goes, and nothing of the new one with it.
    old.delete("support").await;
    gone(&old, "support").await;
    assert_eq!(old.subscriptions().len(), 1);
    assert!(old.crm.control().rows("Channel").iter().any(|row| row["IsActive"] == true));
    Move::end([old, new], controllers).await;
}

/// The relay's store goes along: by `kubectl exec`, as docs/moving.md says.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_and_an_import_bring_what_waits_and_nothing_is_lost_doubled_or_reordered() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let Move { old, new, controllers, mut manifest, customer, chat } = Move::begin(&cluster).await;
    new.until_condition("support", "CrmConnected", "False", "OwnedElsewhere", PATIENCE).await;
    new.until_condition("support", "RelayAvailable", "True", "Available", PATIENCE).await;

    // Acknowledged, on disk, and not in the CRM: only the store can bring it.
    old.crm.control().fault(creatio::Fault {
        path: "/rest/MaxChannelService/receive".to_owned(),
        count: 10_000,
        effect: false,
        answer: creatio::Answer::Drop,
        ..creatio::Fault::default()
    });
    old.say(&customer, "два");
    let taken = || old.max.control().webhook_attempts().iter().filter(|one| one.status == Some(200)).count();
    let before = taken();
    old.say(&customer, "три");
    until("the old relay has taken them", PATIENCE, || async { (taken() > before).then_some(()) }).await;
    let store = cluster.state.join(format!("{}.store", old.namespace));
    let script = |arguments: String| {
        let output = std::process::Command::new("sh").args(["-c", &arguments]).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let kubectl = cluster.kubectl.display();
    let data = "--data-dir /var/lib/maxchannel";
    script(format!(
        "{kubectl} -n {} exec support-relay-0 -- /maxchannel export {data} > {}",
        old.namespace,
        store.display()
    ));
    script(format!(
        "{kubectl} -n {} exec -i support-relay-0 -- /maxchannel import {data} < {}",
        new.namespace,
        store.display()
    ));
    old.crm.control().clear_faults();
    // What the agent and the customer write in between is with Creatio and MAX.
    old.say(&customer, "четыре");
    old.crm.control().send(chat, old.agent, "ответ на всё", Vec::new()).unwrap();
    manifest["metadata"]["annotations"] = json!({"maxchannel.dev/adopt": "true"});
    new.apply(&manifest).await;
    new.until_ready("support").await;
    until("the customer reads the answer", PATIENCE, || async {
        old.seen(&customer).contains(&"ответ на всё".to_owned()).then_some(())
    })
    .await;
    old.say(&customer, "пять");
    until("everything is with the agent", PATIENCE, || async { (old.received(&customer).len() >= 5).then_some(()) })
        .await;
    assert_eq!(old.received(&customer), ["раз", "два", "три", "четыре", "пять"]);
    let answers: Vec<String> = old.seen(&customer).into_iter().filter(|text| text.starts_with("ответ")).collect();
    assert_eq!(answers, ["ответ на раз", "ответ на всё"]);
    // What has left is not waited for.
    old.delete("support").await;
    gone(&old, "support").await;
    assert_eq!(old.subscriptions().len(), 1);
    Move::end([old, new], controllers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotation_of_any_length_leaves_the_status_alive() {
    let Some(cluster) = Cluster::get().await else { return };
    let world = World::start(&cluster).await;
    let fleet = Fleet::start(&world).await;
    world.put_other_secrets().await;
    let controller = world.controller_with(fleet.settings(&world)).await;
    fleet.add(&world, 1).await;
    fleet::until_ready(&world, 1, PATIENCE).await;
    let mut manifest = fleet.manifest(&world, 1);
    manifest["metadata"]["annotations"] = json!({"maxchannel.dev/reconcile-at": "я".repeat(3_000)});
    manifest["spec"]["closeMessage"] = json!({"text": "Спасибо"});
    world.apply(&manifest).await;
    until("the status follows", PATIENCE, || async {
        let status = world.api::<MaxChannel>().get("c1").await.unwrap().status?;
        (status.observed_generation == Some(2)).then_some(())?;
        status.last_handled_reconcile_at.filter(|echo| echo.starts_with("sha256:"))
    })
    .await;
    controller.stop().await;
    world.end().await;
}
