//! Who reaches a relay where NetworkPolicies are enforced: the controller, what brings webhooks and
//! what reads metrics, and nobody else.
//!
//! The enforcer is kube-router, whose firewall alone is started on the node for this one test.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::world::{Cluster, IMAGE, PATIENCE, World, until};

/// Ends the enforcement, also where the test fails.
struct Enforced<'a>(&'a Cluster);

impl Drop for Enforced<'_> {
    fn drop(&mut self) {
        self.0.script("policies.sh", &["stop"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_reached_by_the_controller_the_way_in_and_the_monitoring_and_by_nobody_else() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::alone(&cluster).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let monitoring = format!("{}-monitoring", world.namespace);
    let object = serde_json::from_value(json!({"metadata": {"name": monitoring}})).unwrap();
    namespaces.create(&PostParams::default(), &object).await.unwrap();
    cluster.script("policies.sh", &["start"]);
    let enforced = Enforced(&cluster);
    // What brings webhooks stands on the machine here.
    let way_in = json!([{"ipBlock": {"cidr": format!("{}/32", cluster.host)}}]);
    let scrape = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": monitoring}}}]);
    world.put_secret("status-page", json!({"token": "an-invented-token-of-the-page"})).await;
    world.install(
        "np",
        &[
            "--set-json",
            &format!("networkPolicy.ingressFrom={way_in}"),
            "--set-json",
            &format!("networkPolicy.scrapeFrom={scrape}"),
            "--set",
            "statusPage.enabled=true,statusPage.tokenSecretRef.name=status-page",
            "--set-json",
            &format!("statusPage.from={scrape}"),
        ],
    );
    world.put_secrets().await;
    world.apply(&world.manifest("support")).await;
    // Ready says that the controller reaches the relay; the webhook comes by the way in.
    world.until_ready("support").await;
    let customer = world.customer();
    world.say(&customer, "Здравствуйте");
    world.accept(&customer).await;

    let relay = world.api::<Pod>().get("support-relay-0").await.unwrap().status.unwrap().pod_ip.unwrap();
    let ours = ListParams::default().labels("app.kubernetes.io/component=controller");
    let controller = world.api::<Pod>().list(&ours).await.unwrap().items.pop().unwrap();
    let controller = controller.status.unwrap().pod_ip.unwrap();
    for place in [format!("{relay}:8080"), format!("{controller}:8080"), format!("{controller}:8081")] {
        assert!(reaches(&world, &monitoring, &place).await, "the monitoring's namespace reaches {place}");
        assert!(!reaches(&world, &world.namespace, &place).await, "any other pod reaches {place}");
    }
    drop(enforced);
    assert!(reaches(&world, &world.namespace, &format!("{relay}:8080")).await, "it was the policy that kept it away");
    namespaces.delete(&monitoring, &DeleteParams::default()).await.unwrap();
    world.end().await;
}

/// Whether a pod of the namespace is answered at this place: the program's own client says in its
/// log whether somebody did. It asks again and again from the same address, for a new one is let in
/// only when the enforcer has heard of it.
async fn reaches(world: &World, namespace: &str, place: &str) -> bool {
    const TIMES: i32 = 8;
    let name = format!("asks-{}", uuid::Uuid::new_v4().simple());
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "restartPolicy": "Always",
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "asks", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
            "args": ["status", "--server", format!("http://{place}")],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
    }});
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), namespace);
    pods.patch(&name, &PatchParams::apply("person").force(), &Patch::Apply(pod)).await.unwrap();
    let answered = until("it has asked", PATIENCE, || async {
        let status = pods.get(&name).await.unwrap().status?;
        let times = status.container_statuses?.first()?.restart_count;
        let log = pods.logs(&name, &LogParams { previous: true, ..LogParams::default() }).await.unwrap_or_default();
        if log.contains("is not answered by") { Some(true) } else { (times >= TIMES).then_some(false) }
    })
    .await;
    pods.delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
    answered
}
