//! From `helm install` to a message both ways, and back to nothing.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use maxchannel::api::MaxChannel;
use maxchannel_simulator::{creatio, mango, max};
use serde_json::json;

use crate::canary;
use crate::world::{Cluster, PATIENCE, RECOVERY, World, helm, root, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_installed_chart_makes_a_channel_that_carries_messages_both_ways_and_deleting_it_leaves_nothing() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    cluster.volumes(1);
    // As talkative as it can be, for the canaries.
    world.install("mx", &["--set", "logLevel=debug\\,maxchannel=trace"]);
    world.put_secrets().await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["relay"] = json!({"storage": {"volumeClaim": {"size": "1Gi"}}});
    world.apply(&manifest).await;

    // As a person waits for it.
    cluster.kubectl(&["-n", &world.namespace, "wait", "--for=condition=Ready", "mxc/support", "--timeout=90s"]);
    let pod = world.api::<Pod>().get("support-relay-0").await.unwrap();
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Running"));
    let table = cluster.kubectl(&["-n", &world.namespace, "get", "mxc"]);
    let row = table.lines().nth(1).unwrap_or_default();
    assert!(row.contains("support") && row.contains("True") && row.contains("Webhook"), "{table}");
    assert_eq!(world.subscriptions().len(), 1);

    let customer = world.customer();
    world.say(&customer, "Где мой заказ?");
    let chat = world.accept(&customer).await;
    world.crm.control().send(chat, world.agent, "Уже едет", Vec::new()).unwrap();
    until("the agent's answer reaches the customer", PATIENCE, || async {
        world.seen(&customer).contains(&"Уже едет".to_owned()).then_some(())
    })
    .await;
    assert_eq!(world.received(&customer), ["Где мой заказ?"]);

    canary::assert_nothing_leaks(&world, &["Где мой заказ?", "Уже едет"]).await;
    assert_the_log_level_reaches_both_halves(&world).await;

    world.delete("support").await;
    world.until_gone_outside("support", Duration::from_mins(1)).await;
    let settings = world.crm.control().rows("MaxChannelSettings");
    assert!(settings.iter().all(|row| row["Owner"] == ""), "{settings:?}");
    until("the objects are gone", Duration::from_mins(1), || async {
        world.leftovers("support").await.is_empty().then_some(())
    })
    .await;
    world.end().await;
}

/// Another user than the usual one, as OpenShift gives each namespace, and none: then the image's.
#[tokio::test(flavor = "multi_thread")]
async fn controller_and_relays_run_as_whoever_they_are_told_to() {
    let Some(cluster) = Cluster::with_node().await else { return };
    for (user, expected) in [("null", None), ("1000650000", Some(1_000_650_000))] {
        let world = World::start(&cluster).await;
        cluster.volumes(1);
        world.install("user", &["--set", &format!("runAsUser={user}")]);
        world.put_secrets().await;
        let mut manifest = world.manifest("support");
        manifest["spec"]["relay"] = json!({"storage": {"volumeClaim": {"size": "1Gi"}}});
        world.apply(&manifest).await;
        world.until_ready("support").await;
        let customer = world.customer();
        world.say(&customer, "Здравствуйте");
        world.accept(&customer).await;
        for pod in world.api::<Pod>().list(&ListParams::default()).await.unwrap() {
            assert_eq!(pod.spec.unwrap().security_context.unwrap().run_as_user, expected, "{:?}", pod.metadata.name);
        }
        world.end().await;
    }
}

/// The files of examples/ as they stand, but for what only the company's own network knows: the
/// CRM's address and the public host.
#[tokio::test(flavor = "multi_thread")]
async fn the_examples_applied_by_kubectl_become_ready() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    cluster.volumes(2);
    let controller = world.controller().await;
    let (control, mango) = (world.max.control(), world.mango.control());
    let bot = |name: &str, username: &str, token: &str| max::NewBot {
        username: Some(username.to_owned()),
        ..max::NewBot::new(name, token)
    };
    let support = bot("Служба поддержки Акме", "id7700000000_bot", "invented-token-of-the-support-bot");
    let description = Some("Отвечаем по рабочим дням с 9 до 18 по Москве.".to_owned());
    control.create_bot(max::NewBot { description, ..support }).unwrap();
    control.create_bot(bot("Линия Акме", "id7700000001_bot", "invented-token-of-the-hotline-bot")).unwrap();
    mango.add_keys("inventedkeyofthepbx000000000001", "inventedsaltofthepbx00000000001");
    mango.add_keys("inventedkeyofthepbx000000000002", "inventedsaltofthepbx00000000002");
    let employee = |extension: &str, email: &str| {
        mango.put_employee(mango::Employee {
            name: format!("Сотрудник {extension}"),
            email: Some(email.to_owned()),
            extension: Some(extension.to_owned()),
            ..mango::Employee::default()
        })
    };
    let members = vec![employee("104", "other@example.com"), employee("105", "boris@example.com")];
    employee("110", "night@example.com");
    mango.put_group(mango::Group { name: "Поддержка".to_owned(), members, ..mango::Group::default() });
    for (name, email) in
        [("a.petrova", "anna@example.com"), ("boris", "boris@example.com"), ("night", "night@example.com")]
    {
        world.crm.control().add_agent(name, email);
    }

    let crm = creatio::Options::default();
    let folder = tempfile::tempdir().unwrap();
    for name in ["channel.yaml", "minimal.yaml", "secrets.yaml"] {
        let text = std::fs::read_to_string(root().join("examples").join(name)).unwrap();
        let text = text
            .replace("namespace: crm", &format!("namespace: {}", world.namespace))
            .replace("https://acme.creatio.com", &world.crm.url())
            .replace("https://acme-is.creatio.com", &world.crm.identity_url())
            .replace("0A1B2C3D4E5F60718293A4B5C6D7E8F9", &crm.client_id)
            .replace("9F8E7D6C5B4A39281706F5E4D3C2B1A0-invented", &crm.client_secret);
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    cluster.kubectl(&["apply", "-f", folder.path().to_str().unwrap()]);
    for name in ["support", "hotline"] {
        world.until_ready(name).await;
    }
    world.until_condition("support", "BotCardInSync", "True", "InSync", RECOVERY).await;
    let addresses = |username: &str| {
        let bots = control.bots();
        let bot = bots.iter().find(|bot| bot.username.as_deref() == Some(username)).unwrap();
        bot.subscriptions.iter().map(|one| one.url.clone()).collect::<Vec<_>>()
    };
    let [webhook] = addresses("id7700000000_bot").try_into().expect("one subscription");
    assert!(webhook.starts_with("https://max.acme.ru/webhooks/max/"), "{webhook}");
    assert_eq!(addresses("id7700000001_bot"), Vec::<String>::new(), "without a public host MAX is polled");
    let ingress = world.api::<k8s_openapi::api::networking::v1::Ingress>().get("support-relay").await.unwrap();
    assert_eq!(ingress.spec.unwrap().ingress_class_name.as_deref(), Some("nginx"));
    cluster.kubectl(&["delete", "-f", folder.path().to_str().unwrap(), "--timeout=90s"]);
    assert_eq!(addresses("id7700000000_bot"), Vec::<String>::new());
    controller.stop().await;
    world.end().await;
}

/// Outside the usual: a release of its own namespace that serves the whole cluster, with a
/// follower, and what the installation's values say.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_for_all_namespaces_with_two_replicas_serves_another_namespace_and_survives_its_leader() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::alone(&cluster).await;
    let system = format!("{}-system", world.namespace);
    // It serves every namespace, those of tests that have just ended too.
    until("no other channel is left", PATIENCE, || async {
        let all = Api::<MaxChannel>::all(world.client.clone()).list(&ListParams::default()).await.unwrap();
        all.items.is_empty().then_some(())
    })
    .await;
    let installed = Uninstalled(system.clone());
    let reasons = json!([{"status": 403, "messageContains": "legal entity", "reason": "LegalEntityAccessDenied"}]);
    world.install(
        "all",
        &[
            "--namespace",
            &system,
            "--create-namespace",
            "--set",
            "watchNamespaces=null,replicaCount=2,language=ru",
            "--set-json",
            &format!("maxErrorReasons={reasons}"),
        ],
    );
    cluster.kubectl(&["-n", &system, "rollout", "status", "deployment", "--timeout=90s"]);
    world.put_secrets().await;
    world.apply(&world.manifest("support")).await;
    world.until_ready("support").await;
    let customer = world.customer();
    world.say(&customer, "Здравствуйте");
    world.accept(&customer).await;

    let refusal = max::BotAnswer {
        status: 403,
        code: "access.denied".to_owned(),
        message: "No access for this legal entity".to_owned(),
    };
    world.max.control().set_bot_state(world.bot, max::BotState::Refused(refusal)).unwrap();
    let mut manifest = world.manifest("support");
    manifest["metadata"]["annotations"] = json!({"maxchannel.dev/reconcile-at": "1"});
    world.apply(&manifest).await;
    world.until_condition("support", "TokenAuthorized", "False", "LegalEntityAccessDenied", PATIENCE).await;
    let (code, told) = status(&world, &["status", "--cluster", "-A", "--lang", "ru"]);
    assert_eq!(code, Some(1), "{told}");
    let row = format!("{}/support", world.namespace);
    assert!(told.contains(&row) && told.contains("TokenAuthorized=False LegalEntityAccessDenied (ошибка 4)"), "{told}");
    world.max.control().set_bot_state(world.bot, max::BotState::Active).unwrap();
    world.until_ready("support").await;
    let (code, told) = status(&world, &["status", "-n", &world.namespace, "support"]);
    assert_eq!(code, Some(0), "{told}");

    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &system);
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &system);
    let holder = async || leases.get("all-maxchannel").await.unwrap().spec.and_then(|spec| spec.holder_identity);
    let leader = holder().await.expect("one leads");
    let leading = pods.list(&ListParams::default()).await.unwrap().into_iter().find_map(|pod| {
        let name = pod.metadata.name?;
        leader.starts_with(&name).then_some(name)
    });
    let kill = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete(&leading.expect("the holder is a pod"), &kill).await.unwrap();
    until("the follower leads", PATIENCE, || async { (holder().await.is_some_and(|now| now != leader)).then_some(()) })
        .await;
    let mut manifest = world.manifest("support");
    manifest["spec"]["autoReplies"] = json!([]);
    world.apply(&manifest).await;
    world.until_condition("support", "AutoRepliesActive", "False", "AutoRepliesNotConfigured", PATIENCE).await;
    world.until_ready("support").await;
    assert_eq!(world.received(&customer), ["Здравствуйте"]);

    // With its whole namespace, where Secrets go first and nothing can be made any more.
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    until("the namespace is gone", PATIENCE, || async {
        namespaces.get_opt(&world.namespace).await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(world.subscriptions(), Vec::<String>::new());
    drop(installed);
    namespaces.delete(&system, &DeleteParams::default()).await.unwrap();
    world.end().await;
}

/// The definition as the chart brings it: made by an install, upgraded under a live channel from
/// one that knows less, kept by an uninstall.
#[tokio::test(flavor = "multi_thread")]
async fn the_chart_makes_the_definition_upgrades_it_and_leaves_it() {
    const NAME: &str = "maxchannels.maxchannel.dev";
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::alone(&cluster).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let gone = async || {
        until("no definition is there", PATIENCE, || async {
            for left in
                Api::<MaxChannel>::all(world.client.clone()).list(&ListParams::default()).await.into_iter().flatten()
            {
                let one: Api<MaxChannel> =
                    Api::namespaced(world.client.clone(), left.metadata.namespace.as_deref().unwrap());
                let body = Patch::Merge(json!({"metadata": {"finalizers": []}}));
                let _ = one.patch(left.metadata.name.as_deref().unwrap(), &PatchParams::default(), &body).await;
            }
            let _ = definitions.delete(NAME, &DeleteParams::default()).await;
            definitions.get_opt(NAME).await.unwrap().is_none().then_some(())
        })
        .await;
    };
    gone().await;

    // An earlier release of the chart: its definition lacks a field.
    let earlier = tempfile::tempdir().unwrap();
    let chart = root().join("charts/maxchannel");
    assert!(Command::new("cp").arg("-r").arg(&chart).arg(earlier.path()).status().unwrap().success());
    let old_chart = earlier.path().join("maxchannel");
    let file = old_chart.join("files/maxchannels.yaml");
    let mut definition: serde_json::Value = serde_yaml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    definition.pointer_mut(field).unwrap().as_object_mut().unwrap().remove("suspend").expect("the field is there");
    std::fs::write(&file, serde_yaml::to_string(&definition).unwrap()).unwrap();

    let helm = |arguments: &[&str]| {
        let output = Command::new(helm()).args(arguments).args(["--namespace", &world.namespace]).output().unwrap();
        assert!(output.status.success(), "helm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let watch = format!("watchNamespaces={{{}}}", world.namespace);
    let values = ["--set", "crds.install=true,rbac.aggregate=false,replicaCount=0", "--set", &watch];
    let spec = async || {
        let established = kube::runtime::conditions::is_crd_established();
        let wait = kube::runtime::wait::await_condition(definitions.clone(), NAME, established);
        tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap();
        let found = serde_json::to_value(definitions.get(NAME).await.unwrap()).unwrap();
        found.pointer(field).unwrap().clone()
    };
    helm(&[&["install", "crds", old_chart.to_str().unwrap()], &values[..]].concat());
    assert!(spec().await.get("suspend").is_none());
    let before = world.apply(&world.manifest("support")).await;

    helm(&[&["upgrade", "crds", chart.to_str().unwrap()], &values[..]].concat());
    assert!(spec().await.get("suspend").is_some(), "helm upgrades what is a template and not in crds/");
    let after = world.api::<MaxChannel>().get("support").await.unwrap();
    assert_eq!((before.metadata.uid, before.spec), (after.metadata.uid, after.spec), "the live channel is untouched");
    let mut manifest = world.manifest("support");
    manifest["spec"]["suspend"] = json!(true);
    until("the new field is kept", PATIENCE, || async { world.apply(&manifest).await.spec.suspend.then_some(()) })
        .await;

    helm(&["uninstall", "crds"]);
    assert!(spec().await.get("suspend").is_some(), "the definition stays, and so do the channels");
    assert!(world.api::<MaxChannel>().get_opt("support").await.unwrap().is_some());

    // As the other tests know it, of no release.
    gone().await;
    let body = Patch::Apply(maxchannel::api::crd());
    definitions.patch(NAME, &PatchParams::apply("test").force(), &body).await.unwrap();
    spec().await;
    world.end().await;
}

/// A release for the whole cluster must not outlive its test, also where that fails: it would
/// meddle with all others.
struct Uninstalled(String);

impl Drop for Uninstalled {
    fn drop(&mut self) {
        let _ = Command::new(helm()).args(["uninstall", "all", "--wait", "--namespace", &self.0]).output();
    }
}

/// What the program says of a cluster.
fn status(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_maxchannel")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains(&world.token));
    (output.status.code(), text)
}

/// A new level in the chart's values is in force in the controller and in the relay, and no pod is
/// another one.
async fn assert_the_log_level_reaches_both_halves(world: &World) {
    let pods = async || -> BTreeMap<String, Option<String>> {
        let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap();
        pods.into_iter().map(|pod| (pod.metadata.name.unwrap(), pod.metadata.uid)).collect()
    };
    let before = pods().await;
    let mut command = Command::new(helm());
    command.args(["upgrade", "mx"]).arg(root().join("charts/maxchannel")).args(["--namespace", &world.namespace]);
    let output = command.args(["--reuse-values", "--set", "logLevel=warn\\,maxchannel=info"]).output().unwrap();
    assert!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    // By itself the kubelet brings a changed ConfigMap within a minute; a changed pod lets it do so
    // at once.
    let ours = "app.kubernetes.io/component=controller";
    world.cluster.kubectl(&["-n", &world.namespace, "annotate", "pod", "-l", ours, "tests/touched=once"]);
    for pod in before.keys() {
        until(&format!("{pod} logs as the chart says now"), Duration::from_secs(90), || async {
            let log = world.cluster.kubectl(&["-n", &world.namespace, "logs", pod]);
            log.contains("the log level is warn,maxchannel=info now").then_some(())
        })
        .await;
    }
    assert_eq!(pods().await, before, "a pod was started anew");
}
