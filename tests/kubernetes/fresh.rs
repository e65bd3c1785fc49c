//! A cluster that has never heard of MaxChannels: an API server of its own, onto which the chart is
//! installed for the first time.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use maxchannel::api::MaxChannel;
use serde_json::{Value, json};

use crate::world::{Cluster, PATIENCE, helm, root, until};

const DEFINITION: &str = "customresourcedefinitions/maxchannels.maxchannel.dev";

/// An API server with etcd and nothing else, ended also where the test fails.
struct Server(PathBuf);

impl Server {
    fn start() -> Self {
        let server = Self(root().join("target").join(format!("fresh-{}", uuid::Uuid::new_v4().simple())));
        server.script("up.sh", &["--mode", "api"], &[]);
        server
    }

    fn script(&self, name: &str, before: &[&str], after: &[&str]) {
        let mut command = Command::new(root().join("tests/kubernetes").join(name));
        // What is set for the cluster of the other tests is not meant here.
        command.env_remove("KUBECONFIG").args(before).arg(&self.0).args(after);
        let output = command.output().expect("the script runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", self.0.join("kubeconfig"));
        command
    }

    /// `kubectl` or `helm`, which must succeed.
    fn run(&self, program: PathBuf, arguments: &[&str]) {
        let output = self.command(program).args(arguments).output().expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn client(&self, user: Option<&str>) -> Client {
        let file = Kubeconfig::read_from(self.0.join("kubeconfig")).unwrap();
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        config.auth_info.impersonate = user.map(str::to_owned);
        config.auth_info.impersonate_groups = user.map(|_| vec!["system:authenticated".to_owned()]);
        Client::try_from(config).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new(root().join("tests/kubernetes/down.sh")).arg(&self.0).output();
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Somebody who has nothing to do with MaxChannels and writes all the time, one thing after the
/// other.
struct Neighbour {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU32>,
    /// What each refusal said.
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Neighbour {
    fn start(client: Client) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, count) = (stop.clone(), written.clone());
        let task = tokio::spawn(async move {
            let secrets: Api<Secret> = Api::namespaced(client.clone(), "people");
            let accounts: Api<ServiceAccount> = Api::namespaced(client, "people");
            let by = PatchParams::apply("anna").force();
            let mut refused = Vec::new();
            let labels = json!({"app.kubernetes.io/managed-by": "maxchannel", "app.kubernetes.io/component": "relay",
                "app.kubernetes.io/instance": "support"});
            while !stopped.load(Ordering::Relaxed) {
                let number = count.fetch_add(1, Ordering::Relaxed).to_string();
                let object = |kind: &str, name: &str, labels: &Value| {
                    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels,
                        "annotations": {"number": number}}})
                };
                let mut outcomes = vec![
                    secrets.patch("hers", &by, &Patch::Apply(object("Secret", "hers", &json!({})))).await.map(drop),
                    accounts
                        .patch("hers", &by, &Patch::Apply(object("ServiceAccount", "hers", &json!({}))))
                        .await
                        .map(drop),
                ];
                // As a backup tool brings it back that has once saved a relay's.
                let like_ours = object("Secret", "support-relay", &labels);
                outcomes.push(secrets.patch("support-relay", &by, &Patch::Apply(like_ours)).await.map(drop));
                outcomes.push(secrets.delete("support-relay", &DeleteParams::default()).await.map(drop));
                for outcome in outcomes {
                    // A server that has just begun does not know its roles at once.
                    let refusal = outcome.err().filter(|error| !error.to_string().contains("User \"anna\" cannot"));
                    refused.extend(refusal.map(|error| error.to_string()));
                }
            }
            refused
        });
        Self { stop, written, task }
    }

    async fn writes_on(&self) {
        let before = self.written.load(Ordering::Relaxed);
        until("the neighbour writes", PATIENCE, || async {
            (self.written.load(Ordering::Relaxed) > before + 20).then_some(())
        })
        .await;
    }

    async fn refusals(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// From before the definition is there until the admission policies that ask for channels do their
/// work, and when the definition is taken away below them.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_installation_refuses_nobody_elses_writes_at_any_moment_nor_does_what_is_left_without_a_definition() {
    if Cluster::with_node().await.is_none() {
        return;
    }
    let server = Server::start();
    let kubectl = |arguments: &[&str]| server.run(server.0.join("kubectl"), arguments);
    kubectl(&["create", "namespace", "people"]);
    kubectl(&["-n", "people", "create", "role", "writer", "--verb=*", "--resource=secrets,serviceaccounts"]);
    kubectl(&["-n", "people", "create", "rolebinding", "anna", "--role=writer", "--user=anna"]);
    let hers: Api<Secret> = Api::namespaced(server.client(Some("anna")).await, "people");
    until("she may write", PATIENCE, || async { hers.list(&ListParams::default()).await.ok() }).await;
    let anna = Neighbour::start(server.client(Some("anna")).await);
    anna.writes_on().await;

    let chart = root().join("charts/maxchannel");
    let release = ["install", "mx", chart.to_str().unwrap(), "--namespace", "system", "--create-namespace"];
    server.run(helm(), &release);
    let upgrade = ["upgrade", "mx", chart.to_str().unwrap(), "--namespace", "system", "--set", "logLevel=warn"];
    server.run(helm(), &upgrade);
    let minimal = root().join("examples/minimal.yaml");
    kubectl(&["create", "namespace", "crm"]);
    kubectl(&["apply", "-f", minimal.to_str().unwrap()]);

    // Now a rule that asks for channels keeps from the controller's account what an earlier one has
    // left.
    let admin = server.client(None).await;
    let channels: Api<MaxChannel> = Api::namespaced(admin.clone(), "crm");
    let channel = channels.list(&ListParams::default()).await.unwrap().items.pop().expect("the example's").metadata;
    let (name, uid) = (channel.name.unwrap(), channel.uid.unwrap());
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(admin, "crm");
    let controller = server.client(Some("system:serviceaccount:system:mx-maxchannel")).await;
    let its: Api<PersistentVolumeClaim> = Api::namespaced(controller, "crm");
    let claim = format!("data-{name}-relay-0");
    let of = |uid: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim,
            "labels": {"app.kubernetes.io/managed-by": "maxchannel", "app.kubernetes.io/component": "relay",
                "app.kubernetes.io/instance": name},
            "annotations": {"maxchannel.dev/channel": uid}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}})
    };
    let (by, only_tried) = (PatchParams::apply("person").force(), DeleteParams::default().dry_run());
    claims.patch(&claim, &by, &Patch::Apply(of("an-earlier-one"))).await.unwrap();
    until("the rules know the channels", PATIENCE, || async {
        let said = its.delete(&claim, &only_tried).await;
        said.is_err_and(|said| said.to_string().contains("by its uid")).then_some(())
    })
    .await;
    claims.patch(&claim, &by, &Patch::Apply(of(&uid))).await.unwrap();
    its.delete(&claim, &only_tried).await.expect("what is of the channel is the controller's");
    anna.writes_on().await;

    // The policies outlive the definition, and a server that starts anew looks for it in vain.
    kubectl(&["delete", DEFINITION]);
    anna.writes_on().await;
    let mut refused = anna.refusals().await;
    server.script("apiserver.sh", &[], &["stop"]);
    server.script("apiserver.sh", &[], &["start"]);
    let anna = Neighbour::start(server.client(Some("anna")).await);
    anna.writes_on().await;
    refused.extend(anna.refusals().await);
    assert_eq!(refused, Vec::<String>::new());
}
