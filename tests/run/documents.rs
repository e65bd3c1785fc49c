//! The commands of the documents: those for one machine are run here, those for a cluster in
//! `tests/kubernetes/documents.rs`, and of the few that cannot be run what they name is looked for.

use std::collections::BTreeSet;
use std::process::Command;

use maxchannel_simulator::{creatio, mango};

use crate::company::{Company, TOKEN};
use crate::documented::{HELD, Story, blocks, held, manifests, root};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_documents_say_of_one_machine_works_word_for_word() {
    let company = Company::new(false).await;
    let folder = company.folder.path().join("story");
    let mut story = Story::new(&folder, false);
    for name in ["charts", "examples"] {
        std::os::unix::fs::symlink(root().join(name), folder.join(name)).unwrap();
    }
    let (crm, pbx) = (creatio::Options::default(), mango::Options::default());
    let (channel, secrets) = manifests(
        &company.crm.url(),
        &company.crm.identity_url(),
        &[
            ("token", TOKEN),
            ("apiKey", &pbx.api_key),
            ("apiSalt", &pbx.api_salt),
            ("clientId", &crm.client_id),
            ("clientSecret", &crm.client_secret),
        ],
    );
    std::fs::write(folder.join("channel.yaml"), channel).unwrap();
    std::fs::write(folder.join("secrets.yaml"), secrets).unwrap();
    let host = url::Url::parse(&company.crm.url()).unwrap().host_str().unwrap().to_owned();
    std::fs::write(folder.join("values.yaml"), format!("allowedHosts: [\"{host}\"]\n")).unwrap();
    let server = format!("127.0.0.1:{}", company.port);
    for (from, to) in [
        // Another program of this machine may have the usual port.
        ("maxchannel run ", format!("maxchannel run --listen {server} ")),
        ("maxchannel status", format!("maxchannel status --server http://{server}")),
        ("localhost:8080", server.clone()),
    ] {
        story.instead.push((from.to_owned(), to));
    }
    story.environment.push(("MAXCHANNEL_MAX_URL".to_owned(), company.max.url()));
    story.environment.push(("MAXCHANNEL_MANGO_URL".to_owned(), company.mango.url()));

    // Before anything runs.
    story.run("docs/gitops.md", 1);
    story.run("docs/rules.md", 1);

    // The first page, and what one looks at then.
    story.run("README.md", 2);
    company.until_ready().await;
    story.run("README.md", 3);
    company.until("the states are shown", async || shows(&story, "maxchannel status --watch")).await;
    story.stop();

    // The first steps, with a customer.
    story.run("docs/start.md", 3);
    company.until_ready().await;
    let anna = company.customer("Анна");
    company.say(&anna, "Здравствуйте");
    company.accept(&anna).await;
    story.instead.push(("max:91234567".to_owned(), anna.sender.clone()));
    story.run("docs/start.md", 4);
    story.run("README.ru.md", 2);
    story.run("docs/receipt.md", 1);
    story.run("docs/backup.md", 1);
    assert!(std::fs::metadata(folder.join("support.store")).unwrap().len() > 0);
    story.run("docs/backup.md", 2);
    company
        .until("the relay is back with the store that was brought", async || {
            let mut command = company.program();
            command.args(["dead-letters", "list", "--data-dir"]).arg(folder.join(".local/share/maxchannel"));
            command.output().unwrap().status.success().then_some(())
        })
        .await;
    story.run("docs/security.md", 1);
    story.run("docs/playground.md", 2);
    company.until("the states are shown", async || shows(&story, "maxchannel status --watch")).await;
    story.stop();

    // And away.
    story.run("docs/start.md", 5);
    assert!(company.max.control().bot(company.bot).unwrap().subscriptions.is_empty());
    story.assert_whole();
}

fn shows(story: &Story, command: &str) -> Option<()> {
    let text = std::fs::read_to_string(story.log_of(command)).unwrap_or_default();
    text.contains("support").then_some(())
}

#[test]
fn a_page_has_the_same_commands_in_both_languages() {
    let blocks = blocks();
    let of = |page: &str| {
        let own = blocks.iter().filter(|block| block.page == page);
        // But for the language that they ask for.
        let plain = |command: &String| command.replace(" --lang ru", "").replace(" --set language=ru", "");
        own.map(|block| block.commands.iter().map(plain).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let english: BTreeSet<&str> =
        blocks.iter().map(|block| block.page.as_str()).filter(|page| page.ends_with(".en.md")).collect();
    assert!(english.len() > 8, "only {} pages in English have commands", english.len());
    for page in english {
        let russian = page.replace(".en.md", ".md");
        assert_eq!(of(page), of(&russian), "{page} and {russian}");
    }
}

/// What cannot be run is at least there: targets, files, images, flags. (Every command of the
/// program itself is read by its own parser, in `src/cli/documented.rs`.)
#[test]
fn what_no_test_runs_names_only_what_is_there() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let mut seen = BTreeSet::new();
    for block in blocks() {
        let place = format!("{}, block {}", block.page, block.number);
        let held = block.commands.iter().filter(|command| held(command));
        // A chain of commands holds all of its links.
        for command in held.flat_map(|command| command.split(" && ")) {
            seen.extend(HELD.iter().map(|(beginning, _)| *beginning).filter(|one| command.starts_with(one)));
            let words: Vec<&str> = command.split_whitespace().collect();
            match words.as_slice() {
                ["make", more @ ..] => {
                    for word in more {
                        match word.split_once('=') {
                            Some((name, _)) => assert!(makefile.contains(&format!("$({name})")), "{place}: no {name}"),
                            None => assert!(makefile.contains(&format!("\n{word}: ")), "{place}: no target {word}"),
                        }
                    }
                    let output = Command::new("make").arg("-n").args(more).current_dir(root()).output().unwrap();
                    let complaint = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success(), "{place}: {complaint}");
                }
                ["docker", "build", "-t", image, "."] => {
                    assert!(root().join("Dockerfile").exists(), "{place}");
                    let pushed = format!("docker push {image}");
                    assert!(block.commands.iter().any(|one| one.contains(&pushed)), "{place}: {image} is not pushed");
                }
                ["docker", "push", image] => {
                    let (repository, tag) = image.split_once(':').unwrap();
                    let chart = std::fs::read_to_string(root().join("charts/maxchannel/Chart.yaml")).unwrap();
                    assert!(chart.contains(&format!("appVersion: \"{tag}\"")) || chart.contains(tag), "{place}: {tag}");
                    assert_eq!(repository, "registry.acme.ru/maxchannel", "{place}: the chart is told another one");
                }
                ["cargo", "install", "--locked", "--path", path] => {
                    let manifest = std::fs::read_to_string(root().join(path).join("Cargo.toml")).unwrap();
                    assert!(manifest.contains("name = \"maxchannel\""), "{place}");
                }
                ["sops", "--encrypt", "--encrypted-regex", expression, "--in-place", "secrets.yaml"] => {
                    assert_eq!(*expression, "'^(data|stringData)$'", "{place}: the fields of a Secret");
                }
                ["open", "http://localhost:8080/"] | ["maxchannel", ..] => {}
                ["kubectl", more @ ..] => {
                    let verb = more.iter().find(|word| !word.starts_with('-') && !["old", "new"].contains(word));
                    assert!(["exec", "annotate", "delete"].contains(verb.unwrap()), "{place}: {command}");
                    if let Some(inner) = command.split(" -- ").nth(1) {
                        assert!(inner.starts_with("/maxchannel "), "{place}: {inner}");
                        assert!(inner.contains(" --data-dir /var/lib/maxchannel"), "{place}: {inner}");
                    }
                }
                _ => panic!("{place}: nothing is known of this command: {command}"),
            }
        }
    }
    let unused: Vec<_> = HELD.iter().filter(|(beginning, _)| !seen.contains(beginning)).collect();
    assert!(unused.is_empty(), "no page has these: {unused:?}");
}
