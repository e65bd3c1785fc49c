//! The commands of the documents that are for a cluster, word for word, on a cluster of their own:
//! from `helm install` of the packaged chart by the guide alone to Ready, and back to nothing.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use maxchannel_simulator::{creatio, mango};
use serde_json::json;

use crate::documented::{Story, blocks, manifests, root};
use crate::world::{Cluster, PATIENCE, World, helm, tool, until};

const CONTROLLER: &str = "app.kubernetes.io/component=controller";

/// A node of its own, ended also where the test fails.
struct Node(PathBuf);

impl Node {
    fn start() -> Self {
        let node = Self(root().join("target").join(format!("documents-{}", uuid::Uuid::new_v4().simple())));
        node.script("up.sh", &[]);
        node
    }

    fn script(&self, name: &str, arguments: &[&str]) {
        let mut command = Command::new(root().join("tests/kubernetes").join(name));
        // What is set for the cluster of the other tests is not meant here.
        let output = command.env_remove("KUBECONFIG").arg(&self.0).args(arguments).output().expect("the script runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn cluster(&self) -> Cluster {
        let told = std::fs::read_to_string(self.0.join("env")).unwrap();
        let host = told.lines().find_map(|line| line.strip_prefix("export CLUSTER_HOST='")).unwrap();
        let file = Kubeconfig::read_from(self.0.join("kubeconfig")).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        Cluster {
            client: kube::Client::try_from(config).unwrap(),
            host: host.trim_end_matches('\'').parse().unwrap(),
            mode: "node".to_owned(),
            state: self.0.clone(),
            kubectl: self.0.join("kubectl"),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = Command::new(root().join("tests/kubernetes/down.sh")).arg(&self.0).output();
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_documents_say_of_a_cluster_works_word_for_word_from_the_first_install_to_nothing() {
    if Cluster::with_node().await.is_none() {
        return;
    }
    let node = Node::start();
    let image = root().join("target/maxchannel-image.tar");
    node.script("import-image.sh", &[image.to_str().unwrap(), &pushed()]);
    let cluster = node.cluster().await;
    cluster.volumes(3);
    let world = World::elsewhere(&cluster).await;
    world.mango.control().put_group(mango::Group {
        name: "Поддержка".to_owned(),
        members: vec![world.mango.control().put_employee(mango::Employee {
            name: "Борис Агентов".to_owned(),
            email: Some("boris@example.com".to_owned()),
            extension: Some("102".to_owned()),
            ..mango::Employee::default()
        })],
        ..mango::Group::default()
    });
    world.crm.control().add_agent("Борис Агентов", "boris@example.com");

    let folder = tempfile::tempdir().unwrap();
    let mut story = begin(&world, &folder);
    let page_at = free_port();
    story.instead.push(("port-forward svc/maxchannel-status 8081".to_owned(), {
        format!("port-forward svc/maxchannel-status {page_at}:8081")
    }));

    // The guide.
    for block in 1..=4 {
        story.run("docs/install.md", block);
    }
    story.run("docs/install.en.md", 4);
    assert_eq!(world.subscriptions().len(), 1, "the bot is subscribed");
    story.run("docs/install.md", 5);
    until("the status page answers", PATIENCE, || async {
        let answer = reqwest::get(format!("http://127.0.0.1:{page_at}/")).await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    story.stop();
    story.run("docs/install.md", 6);
    // The way back.
    until_carried(&cluster);
    story.run("docs/install.md", 7);
    story.run("docs/install.md", 8);
    until_carried(&cluster);
    story.run("docs/receipt.md", 2);

    // Day two.
    for kind in ["PodMonitor", "PrometheusRule"] {
        cluster.kubectl(&["apply", "-f", &definition_of(&folder, kind)]);
    }
    story.run("docs/alerts/README.md", 1);
    cluster.kubectl(&["-n", "maxchannel", "get", "podmonitors,prometheusrules", "-o", "name"]);
    story.run("docs/moving.md", 1);
    story.run("docs/moving.md", 4);
    story.run("docs/uninstall.md", 2);
    story.run("docs/uninstall.md", 1);
    assert_eq!(world.subscriptions(), Vec::<String>::new(), "nothing is left outside");
    story.run("docs/uninstall.md", 3);
    assert!(!cluster.kubectl(&["get", "crd", "-o", "name"]).contains("maxchannels"), "the definition is gone");

    // Once more, as the first page says it.
    story.run("README.md", 4);
    story.run("charts/maxchannel/README.md", 1);
    // From a laptop to the cluster, with the store.
    story.also("kubectl delete mxc support");
    let laptop = format!("127.0.0.1:{}", free_port());
    story.also(&format!("maxchannel run -f channel.yaml -f secrets.yaml --listen {laptop}"));
    until("the channel is ready on the laptop", PATIENCE, || async {
        let answer = reqwest::get(format!("http://{laptop}/readyz")).await.ok()?;
        let ready = answer.status().is_success() && world.crm.control().rows("Channel")[0]["IsActive"] == true;
        ready.then_some(())
    })
    .await;
    story.also("kubectl apply -f channel.yaml");
    until("the cluster sees whose the bot is", PATIENCE, || async {
        cluster.kubectl(&["get", "mxc", "support", "-o", "json"]).contains("OwnedElsewhere").then_some(())
    })
    .await;
    cluster.kubectl(&["rollout", "status", "statefulset/support-relay", "--timeout=90s"]);
    story.run("docs/moving.md", 2);
    cluster.kubectl(&["wait", "--for=condition=Ready", "mxc/support", "--timeout=90s"]);
    story.stop();

    // With the controller gone, a channel hangs in its deletion until its finalizer is taken off.
    cluster.kubectl(&["-n", "maxchannel", "scale", "deployment", "maxchannel", "--replicas=0"]);
    cluster.kubectl(&["-n", "maxchannel", "wait", "--for=delete", "pod", "-l", CONTROLLER, "--timeout=60s"]);
    cluster.kubectl(&["delete", "mxc", "support", "--wait=false"]);
    story.run("docs/uninstall.md", 4);
    until("the channel is gone", Duration::from_mins(1), || async {
        cluster.kubectl(&["get", "mxc", "-o", "name"]).is_empty().then_some(())
    })
    .await;
    story.run("docs/uninstall.md", 5);
    assert_eq!(world.crm.control().rows("Channel")[0]["IsActive"], false, "nothing is left outside");
    story.assert_whole();
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A new pod is up, and the channel is ready again.
fn until_carried(cluster: &Cluster) {
    cluster.kubectl(&["-n", "maxchannel", "rollout", "status", "deployment/maxchannel", "--timeout=90s"]);
    cluster.kubectl(&["rollout", "status", "statefulset/support-relay", "--timeout=90s"]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "mxc/support", "--timeout=90s"]);
}

/// The image that the guide pushes.
fn pushed() -> String {
    let guide = blocks().into_iter().find(|block| block.page == "docs/install.md").unwrap();
    let push = guide.commands.iter().find_map(|command| command.strip_prefix("docker push "));
    push.expect("the guide pushes the image").to_owned()
}

/// A folder with the packaged chart and the manifests, and a Helm that tells the controller where
/// the simulators are.
fn begin(world: &World, folder: &tempfile::TempDir) -> Story {
    let mut story = Story::new(folder.path(), true);
    let run = |program: &mut Command| {
        let output = program.current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(Command::new(helm()).args(["package", root().join("charts/maxchannel").to_str().unwrap()]));
    run(Command::new("bash").args(["-euc", "mkdir charts && tar -xzf maxchannel-*.tgz -C charts"]));
    let (crm, pbx) = (creatio::Options::default(), mango::Options::default());
    let (channel, secrets) = manifests(
        &world.crm.url(),
        &world.crm.identity_url(),
        &[
            ("token", &world.token),
            ("apiKey", &pbx.api_key),
            ("apiSalt", &pbx.api_salt),
            ("clientId", &crm.client_id),
            ("clientSecret", &crm.client_secret),
        ],
    );
    std::fs::write(folder.path().join("channel.yaml"), channel).unwrap();
    std::fs::write(folder.path().join("secrets.yaml"), secrets).unwrap();

    let variables = json!([
        {"name": "MAXCHANNEL_MAX_URL", "value": world.max.url()},
        {"name": "MAXCHANNEL_MANGO_URL", "value": world.mango.url()}]);
    let bin = folder.path().join("bin");
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\ninstall|upgrade) exec {helm} \"$@\" --set-json 'extraEnv={variables}' ;;\n\
         *) exec {helm} \"$@\" ;;\nesac\n",
        helm = helm().display()
    );
    std::fs::write(bin.join("helm"), script).unwrap();
    run(Command::new("chmod").arg("755").arg(bin.join("helm")));
    std::os::unix::fs::symlink(tool("kubectl"), bin.join("kubectl")).unwrap();
    story.instead.push(("/usr/local/bin/".to_owned(), format!("{}/", bin.display())));
    let kubeconfig = world.cluster.state.join("kubeconfig").display().to_string();
    story.environment.push(("KUBECONFIG".to_owned(), kubeconfig));
    story.environment.push(("MAXCHANNEL_MAX_URL".to_owned(), world.max.url()));
    story.environment.push(("MAXCHANNEL_MANGO_URL".to_owned(), world.mango.url()));
    story
}

/// What the Prometheus Operator brings, with room for anything.
fn definition_of(folder: &tempfile::TempDir, kind: &str) -> String {
    let plural = kind.to_lowercase() + "s";
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        }
    });
    let file = folder.path().join(format!("{plural}.json"));
    std::fs::write(&file, definition.to_string()).unwrap();
    file.display().to_string()
}
