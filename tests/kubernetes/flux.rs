//! The real Flux applies `examples/gitops` from a git server: its source-, kustomize- and
//! helm-controller run on this machine beside the cluster. `make test-flux`.
//!
//! Of the examples only what is a company's own is other here: the addresses of git and of the
//! registry, the CRM's address and the namespace; and the chart's values say which image and where
//! the simulators are.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use maxchannel::api::{self, MaxChannel};
use maxchannel_simulator::mango;
use serde_json::{Value, json};

use crate::definition;
use crate::world::{Cluster, PATIENCE, World, helm, root, tool, until};

/// For what Flux does at a pace of its own.
const LIMIT: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the controllers of Flux compile for minutes: make test-flux"]
async fn flux_brings_the_examples_to_ready_says_what_is_wrong_and_takes_away_what_git_no_longer_has() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let world = World::alone(&cluster).await;
    cluster.volumes(1);
    world.put_secrets().await;
    world.crm.control().add_agent("Борис Агентов", "boris@example.com");
    let member = mango::Employee {
        name: "Борис Агентов".to_owned(),
        email: Some("boris@example.com".to_owned()),
        extension: Some("102".to_owned()),
        ..mango::Employee::default()
    };
    let members = vec![world.mango.control().put_employee(member)];
    let group = mango::Group { name: "Поддержка".to_owned(), members, ..mango::Group::default() };
    world.mango.control().put_group(group);
    // The chart brings it.
    definition::remove(&world).await;

    let company = Company::start(&world).await;
    let flux = Flux::start(&cluster);
    flux.publish_the_chart();
    flux.apply_the_example(&world, &company);

    // Synced and ready: the program by its chart, then the channel.
    flux.until_ready("helmrelease", "maxchannel").await;
    flux.until_applied(&company).await;
    world.until_ready("support").await;
    assert_eq!(world.subscriptions().len(), 1, "the bot is subscribed");
    let inventory = flux.object("kustomization", "channels")["status"]["inventory"].to_string();
    assert!(inventory.contains("_support_maxchannel.dev_MaxChannel"), "{inventory}");

    flux.assert_reconciling_again_writes_nothing(&world).await;

    // Refused, with the field in Flux's own words, and the channel goes on as it was.
    let before = world.api::<MaxChannel>().get("support").await.unwrap();
    for (right, wrong, told) in [
        (r#"accountNumber: "400012345""#, r#"accountNumber: "forty""#, "spec.mango.accountNumber"),
        ("receiver:", "reciever:", "reciever"),
        ("closeMessage: {text: \"Спасибо за обращение!\"}", "closeMessage: {text: [1]}", "closeMessage.text"),
        ("url: http", "url: gopher", "spec.creatio.url"),
    ] {
        company.push(|manifest| manifest.replacen(right, wrong, 1));
        let message = flux.until_refused(&company).await;
        assert!(message.contains("support") && message.contains(told), "{wrong}: {message}");
        let now = world.api::<MaxChannel>().get("support").await.unwrap();
        assert_eq!(now.metadata.generation, before.metadata.generation, "{wrong}: the channel was changed");
    }

    // Only a person can mend it: that is said at once, and not after the patience of five
    // minutes.
    company.push(|manifest| manifest.replace("name: Поддержка", "name: Никто"));
    let message = flux.until_refused(&company).await;
    assert!(message.contains("support"), "{message}");
    world.until_condition("support", "ReceiverResolved", "False", "GroupNotFound", PATIENCE).await;

    // A deliberate pause is no failure.
    company.push(|manifest| format!("{manifest}  suspend: true\n"));
    flux.until_applied(&company).await;
    world.until_condition("support", "Ready", "True", "Suspended", PATIENCE).await;
    company.push(str::to_owned);
    flux.until_applied(&company).await;
    world.until_ready("support").await;

    // Taken out of git: the channel goes, and what it has outside with it.
    company.push(|_| "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nothing-else}\n".to_owned());
    flux.until_applied(&company).await;
    world.until_gone_outside("support", LIMIT).await;
    until("the objects are gone", PATIENCE, || async { world.leftovers("support").await.is_empty().then_some(()) })
        .await;

    // And the program, but not the definition.
    cluster.kubectl(&["-n", NAMESPACE, "delete", "helmrelease/maxchannel", "--timeout=90s"]);
    let left = cluster.kubectl(&["-n", "maxchannel", "get", "deployments", "-o", "name"]);
    assert_eq!(left, "", "the release is uninstalled");
    assert!(cluster.kubectl(&["get", "crd", "-o", "name"]).contains("maxchannels.maxchannel.dev"));
    flux.leave();
    drop(flux);
    definition::install(&world, &api::crd()).await;
    world.end().await;
}

/// Where the example has Flux's objects.
const NAMESPACE: &str = "flux-system";

/// A git server on loopback with the repository of a company: `channels/` of the examples.
struct Company {
    folder: tempfile::TempDir,
    url: String,
    /// The manifest as it is right.
    manifest: String,
}

impl Company {
    async fn start(world: &World) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/company/.git", listener.local_addr().unwrap());
        let projects = folder.path().to_owned();
        let routes = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let projects = projects.clone();
            async move {
                tokio::task::spawn_blocking(move || git_http(&projects, &method, &uri, &headers, &body)).await.unwrap()
            }
        });
        tokio::spawn(async move { drop(axum::serve(listener, routes).await) });

        let channels = folder.path().join("company/channels");
        std::fs::create_dir_all(&channels).unwrap();
        let own = |name: &str| {
            let text = std::fs::read_to_string(root().join("examples/gitops/channels").join(name)).unwrap();
            text.replace("namespace: crm", &format!("namespace: {}", world.namespace))
                .replace("https://acme.creatio.com", &world.crm.url())
                .replace("https://acme-is.creatio.com", &world.crm.identity_url())
        };
        std::fs::write(channels.join("kustomization.yaml"), own("kustomization.yaml")).unwrap();
        let company = Self { manifest: own("support.yaml"), folder, url };
        company.git(&["init", "--quiet", "--initial-branch=main"]);
        company.push(str::to_owned);
        company
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Anna", "-c", "user.email=anna@example.com", "-c", "commit.gpgsign=false"]);
        let output = command.args(arguments).current_dir(self.folder.path().join("company")).output().expect("git");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits the manifest with a change.
    fn push(&self, change: impl Fn(&str) -> String) {
        let file = self.folder.path().join("company/channels/support.yaml");
        let changed = change(&self.manifest);
        assert!(
            std::fs::read_to_string(&file).is_ok_and(|text| text != changed) || !file.exists(),
            "the change changes nothing"
        );
        std::fs::write(file, changed).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--message", "Change the channel"]);
    }

    fn revision(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }
}

/// What `git http-backend` answers, a program of the CGI.
fn git_http(projects: &Path, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", projects)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("REQUEST_METHOD", method.as_str())
        .env("PATH_INFO", uri.path())
        .env("QUERY_STRING", uri.query().unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git runs");
    backend.stdin.take().unwrap().write_all(body).unwrap();
    let answer = backend.wait_with_output().unwrap().stdout;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("the end of the headers");
    let mut response = answer[end + 4..].to_vec().into_response();
    response.headers_mut().clear();
    for line in String::from_utf8_lossy(&answer[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name == "Status" {
            *response.status_mut() = StatusCode::from_bytes(&value.as_bytes()[..3]).unwrap();
        } else {
            let name: axum::http::HeaderName = name.parse().unwrap();
            response.headers_mut().insert(name, value.parse().unwrap());
        }
    }
    response
}

/// Flux's controllers, and a registry with the chart.
struct Flux {
    cluster: Cluster,
    folder: tempfile::TempDir,
    programs: PathBuf,
    running: Vec<Child>,
    registry: u16,
}

impl Drop for Flux {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for log in std::fs::read_dir(self.folder.path()).unwrap().flatten() {
                if log.path().extension().is_some_and(|extension| extension == "log") {
                    let text = std::fs::read_to_string(log.path()).unwrap_or_default();
                    let last: Vec<&str> = text.lines().rev().take(12).collect();
                    eprintln!("{}, the newest line first:\n{}", log.path().display(), last.join("\n"));
                }
            }
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Flux {
    fn start(cluster: &Cluster) -> Self {
        let programs = tool("flux");
        let definitions = programs.join("definitions");
        cluster.kubectl(&["apply", "--server-side", "-f", definitions.to_str().unwrap()]);
        cluster.kubectl(&["wait", "--for=condition=Established", "-f", definitions.to_str().unwrap()]);
        cluster.kubectl(&["create", "namespace", NAMESPACE]);
        let (registry, artifacts) = (free_port(), format!("127.0.0.1:{}", free_port()));
        let folder = tempfile::tempdir().unwrap();
        let mut flux = Self { cluster: cluster.clone(), folder, programs, running: Vec::new(), registry };
        let storage = flux.folder.path().join("artifacts");
        std::fs::create_dir(&storage).unwrap();
        let common = ["--metrics-addr=0", "--health-addr=127.0.0.1:0", "--log-level=info"];
        let own = [
            format!("--storage-path={}", storage.display()),
            format!("--storage-addr={artifacts}"),
            format!("--storage-adv-addr={artifacts}"),
        ];
        let source: Vec<&str> = own.iter().map(String::as_str).chain(common).collect();
        flux.run("source-controller", &source);
        flux.run("kustomize-controller", &common);
        flux.run("helm-controller", &common);
        flux.run("crane", &["registry", "serve", "--address", &format!("127.0.0.1:{registry}")]);
        flux
    }

    /// Takes Flux away; its objects first, while somebody takes their finalizers off.
    fn leave(&self) {
        for kind in ["kustomization", "helmrelease", "gitrepository", "ocirepository"] {
            self.cluster.kubectl(&["-n", NAMESPACE, "delete", kind, "--all", "--timeout=60s"]);
        }
        self.cluster.kubectl(&["delete", "namespace", NAMESPACE, "maxchannel", "--timeout=90s"]);
    }

    fn run(&mut self, program: &str, arguments: &[&str]) {
        let log = std::fs::File::create(self.folder.path().join(format!("{program}.log"))).unwrap();
        let child = Command::new(self.programs.join(program))
            .args(arguments)
            .env("RUNTIME_NAMESPACE", NAMESPACE)
            .env("TMPDIR", self.folder.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        self.running.push(child);
    }

    fn publish_the_chart(&self) {
        let run = |arguments: &[&str]| {
            let output = Command::new(helm()).args(arguments).output().unwrap();
            assert!(output.status.success(), "helm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let chart = root().join("charts/maxchannel");
        run(&["package", chart.to_str().unwrap(), "--destination", self.folder.path().to_str().unwrap()]);
        let packages = std::fs::read_dir(self.folder.path()).unwrap().flatten().map(|entry| entry.path());
        let package = packages.into_iter().find(|path| path.extension().is_some_and(|end| end == "tgz")).unwrap();
        let repository = format!("oci://127.0.0.1:{}/maxchannel/charts", self.registry);
        run(&["push", package.to_str().unwrap(), &repository, "--plain-http"]);
    }

    fn apply_the_example(&self, world: &World, company: &Company) {
        let text = std::fs::read_to_string(root().join("examples/gitops/flux/maxchannel.yaml")).unwrap();
        let registry = format!("oci://127.0.0.1:{}", self.registry);
        let text = text
            .replace("https://git.example.com/acme/company", &company.url)
            .replace("oci://registry.example.com", &registry);
        let mut items = Vec::new();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let mut object: Value = serde::Deserialize::deserialize(document).unwrap();
            match object["kind"].as_str().unwrap() {
                "OCIRepository" => object["spec"]["insecure"] = json!(true),
                "HelmRelease" => {
                    object["spec"]["values"]["image"] = json!({"tag": "dev"});
                    object["spec"]["values"]["extraEnv"] = json!([
                        {"name": "MAXCHANNEL_MAX_URL", "value": world.max.url()},
                        {"name": "MAXCHANNEL_MANGO_URL", "value": world.mango.url()}]);
                }
                _ => {}
            }
            items.push(object);
        }
        let file = self.folder.path().join("flux.json");
        std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).unwrap();
        self.cluster.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    }

    fn object(&self, kind: &str, name: &str) -> Value {
        let text = self.cluster.kubectl(&["-n", NAMESPACE, "get", kind, name, "-o", "json"]);
        serde_json::from_str(&text).unwrap()
    }

    /// Status and message of an object's Ready, of its newest generation.
    fn ready(&self, kind: &str, name: &str) -> Option<(String, String)> {
        let object = self.object(kind, name);
        let ready = object["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == "Ready")?.clone();
        let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
        (ready["observedGeneration"] == object["metadata"]["generation"]).then(|| (text("status"), text("message")))
    }

    async fn until_ready(&self, kind: &str, name: &str) {
        let what = || format!("{kind}/{name}: {:#}", self.object(kind, name)["status"]);
        tokio::time::timeout(LIMIT, async {
            while self.ready(kind, name).is_none_or(|(status, _)| status != "True") {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{} after {LIMIT:?}", what()));
    }

    /// Asks for a reconciliation as `flux reconcile` does, and waits for it.
    async fn reconcile(&self, kind: &str, name: &str) {
        let asked = uuid::Uuid::new_v4().to_string();
        let annotation = format!("reconcile.fluxcd.io/requestedAt={asked}");
        self.cluster.kubectl(&["-n", NAMESPACE, "annotate", "--overwrite", kind, name, &annotation]);
        until(&format!("{kind}/{name} is reconciled"), LIMIT, || async {
            (self.object(kind, name)["status"]["lastHandledReconcileAt"] == asked).then_some(())
        })
        .await;
    }

    /// What became of the newest commit: Ready's status and message.
    async fn outcome(&self, company: &Company) -> (String, String) {
        let revision = company.revision();
        self.reconcile("gitrepository", "company").await;
        until("Flux has tried the newest commit", LIMIT, || async {
            let tried = self.object("kustomization", "channels")["status"]["lastAttemptedRevision"].to_string();
            let ready = self.ready("kustomization", "channels").filter(|(status, _)| status != "Unknown")?;
            // A message about an earlier commit may stand while this one is under way.
            let under_way =
                self.object("kustomization", "channels")["status"]["conditions"].as_array().is_some_and(|all| {
                    all.iter().any(|one| one["type"] == "Reconciling" && one["reason"] == "Progressing")
                });
            (tried.contains(&revision) && !under_way).then_some(ready)
        })
        .await
    }

    async fn until_applied(&self, company: &Company) {
        // Where it was tried before the chart was there it waits for its next turn.
        self.reconcile("gitrepository", "company").await;
        self.reconcile("kustomization", "channels").await;
        let (status, message) = self.outcome(company).await;
        assert_eq!(status, "True", "{message}");
    }

    async fn until_refused(&self, company: &Company) -> String {
        let (status, message) = self.outcome(company).await;
        assert_eq!(status, "False", "{message}");
        message
    }

    /// Versions of what the channel and the program consist of.
    fn versions(&self, world: &World) -> BTreeMap<String, String> {
        let kinds = "mxc,statefulsets,deployments,services,secrets,configmaps,serviceaccounts,\
                     persistentvolumeclaims,ingresses,networkpolicies,roles,rolebindings";
        let mut versions = BTreeMap::new();
        for namespace in [&world.namespace, "maxchannel"] {
            let all: Value =
                serde_json::from_str(&self.cluster.kubectl(&["-n", namespace, "get", kinds, "-o", "json"])).unwrap();
            for object in all["items"].as_array().unwrap() {
                let name = format!("{namespace} {} {}", object["kind"], object["metadata"]["name"]);
                versions.insert(name, object["metadata"]["resourceVersion"].to_string());
            }
        }
        versions
    }

    async fn assert_reconciling_again_writes_nothing(&self, world: &World) {
        let again = async || {
            self.reconcile("kustomization", "channels").await;
            self.reconcile("helmrelease", "maxchannel").await;
            self.versions(world)
        };
        // Until what the first minute still brings is written.
        let settled = until("nothing changes any more", LIMIT, || async {
            let before = self.versions(world);
            (again().await == before).then_some(before)
        })
        .await;
        assert!(settled.len() > 10, "{settled:?}");
        for _ in 0..10 {
            assert_eq!(again().await, settled, "a reconciliation without a change has written");
        }
    }
}
