//! The controller's status page, as the chart serves it: off unless asked for, read through a
//! port-forward or the Service, by its token alone.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use maxchannel_simulator::{creatio, mango};
use serde_json::{Value, json};

use crate::world::{Cluster, PATIENCE, World, helm, root, until};

const SERVICE: &str = "page-maxchannel-status";
const TOKEN: &str = "an-invented-token-of-the-page";

/// `kubectl port-forward`, ended with the test.
struct Forward {
    child: Child,
    /// Kept open: it writes a line for each connection.
    _told: BufReader<ChildStdout>,
    url: String,
}

impl Forward {
    fn start(world: &World) -> Self {
        let mut child = Command::new(&world.cluster.kubectl)
            .args(["-n", &world.namespace, "port-forward", &format!("svc/{SERVICE}"), ":8081"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        let (mut told, mut line) = (BufReader::new(child.stdout.take().unwrap()), String::new());
        told.read_line(&mut line).unwrap();
        let port: u16 = line.split(':').nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect(&line);
        Self { child, _told: told, url: format!("http://127.0.0.1:{port}") }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and text of an answer of the page.
async fn ask(url: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let request = reqwest::Client::new().get(format!("{url}{path}"));
    let answer = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn controller(world: &World) -> Pod {
    let ours = ListParams::default().labels("app.kubernetes.io/component=controller");
    // One that is still ending would be forwarded to as well.
    until("one controller is there and ready", PATIENCE, || async {
        let mut pods = world.api::<Pod>().list(&ours).await.unwrap().items;
        let is_ready = |pod: &Pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
        };
        (pods.len() == 1 && is_ready(&pods[0])).then(|| pods.remove(0))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_is_off_unless_asked_for_and_then_shows_channels_to_its_token_alone_and_nothing_secret() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::start(&cluster).await;
    world.install("page", &[]);
    world.put_secrets().await;
    world.apply(&world.manifest("support")).await;
    world.until_ready("support").await;
    let ports = async || {
        let policy = world.api::<NetworkPolicy>().get("page-maxchannel").await.unwrap().spec.unwrap();
        let ports = policy.ingress.into_iter().flatten().flat_map(|rule| rule.ports.into_iter().flatten());
        ports.map(|port| serde_json::to_value(port.port).unwrap()).collect::<Vec<Value>>()
    };
    assert!(world.api::<Service>().get_opt(SERVICE).await.unwrap().is_none(), "it is off");
    assert_eq!(ports().await, ["http"]);
    let before = controller(&world).await.status.unwrap().pod_ip.unwrap();
    assert!(reqwest::get(format!("http://{before}:8081/")).await.is_err(), "nobody listens");

    world.put_secret("status-page", json!({"token": TOKEN})).await;
    let mut upgrade = Command::new(helm());
    upgrade.args(["upgrade", "page"]).arg(root().join("charts/maxchannel")).args(["--namespace", &world.namespace]);
    upgrade.args(["--reuse-values", "--set", "statusPage.enabled=true,statusPage.tokenSecretRef.name=status-page"]);
    let output = upgrade.output().unwrap();
    assert!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    cluster.kubectl(&["-n", &world.namespace, "rollout", "status", "deployment", "--timeout=90s"]);
    assert_eq!(ports().await, ["http", "status"]);
    let customer = world.customer();
    world.say(&customer, "Где мой заказ?");
    world.accept(&customer).await;
    let pod = controller(&world).await.metadata.name.unwrap();

    let forward = Forward::start(&world);
    let service = world.api::<Service>().get(SERVICE).await.unwrap().spec.unwrap().cluster_ip.unwrap();
    let by_service = format!("http://{service}:8081");
    for url in [&forward.url, &by_service] {
        let (status, page) = ask(url, "/", None).await;
        assert_eq!((status, page.contains("<html")), (200, true), "the page itself tells nothing: {page}");
        assert!(!page.contains("support"), "{page}");
        for token in [None, Some("another-invented-token"), Some("")] {
            for path in ["/ui/state", "/ui/events"] {
                let (status, words) = ask(url, path, token).await;
                assert_eq!((status, words.contains("support")), (401, false), "{path} {token:?}: {words}");
            }
        }
        let seen = until("the channel and its relay are shown", PATIENCE, || async {
            let (status, text) = ask(url, "/ui/state", Some(TOKEN)).await;
            assert_eq!(status, 200, "{text}");
            let seen: Value = serde_json::from_str(&text).unwrap();
            (seen["channels"][0]["relay"]["openDialogs"] == 1).then_some(seen)
        })
        .await;
        let channels = seen["channels"].as_array().unwrap();
        assert_eq!(channels.len(), 1, "{seen}");
        assert_eq!((&channels[0]["namespace"], &channels[0]["name"]), (&json!(world.namespace), &json!("support")));
        let conditions = channels[0]["conditions"].as_array().unwrap();
        let of = |type_: &str| conditions.iter().find(|one| one["type"] == type_).map(|one| one["status"].clone());
        for type_ in ["Ready", "TokenAuthorized", "CrmConnected", "RelayAvailable"] {
            assert_eq!(of(type_), Some(json!("True")), "{type_}: {seen}");
        }
        let (crm, mango, text) = (creatio::Options::default(), mango::Options::default(), seen.to_string());
        let (id, sender) = (customer.id.to_string(), customer.sender.as_str());
        let secrets = [world.token.as_str(), &crm.client_secret, &mango.api_key, &mango.api_salt, TOKEN];
        for canary in secrets.into_iter().chain(["Где мой заказ?", "Анна", &id, sender]) {
            assert!(!text.contains(canary), "{canary:?} is shown: {text}");
        }
    }

    // Another token: the one before counts no more, and nothing is started anew.
    let next = "the-next-invented-token";
    world.put_secret("status-page", json!({"token": next})).await;
    cluster.kubectl(&["-n", &world.namespace, "annotate", "pod", &pod, "tests/touched=once"]);
    until("the next token is asked for", PATIENCE, || async {
        (ask(&by_service, "/ui/state", Some(next)).await.0 == 200).then_some(())
    })
    .await;
    assert_eq!(ask(&by_service, "/ui/state", Some(TOKEN)).await.0, 401);
    assert_eq!(controller(&world).await.metadata.name.unwrap(), pod);
    let log = cluster.kubectl(&["-n", &world.namespace, "logs", &pod]);
    assert!(!log.contains(TOKEN) && !log.contains(next), "{log}");
    drop(forward);
    world.end().await;
}
