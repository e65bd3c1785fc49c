//! What the program tells while it runs, and how it is told to end.

use maxchannel_simulator::creatio::{Answer, Fault};

use crate::company::Company;

/// (what stands in the place of the store)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_whose_store_cannot_be_opened_is_not_ready_until_it_can() {
    let mut company = Company::new(true).await;
    company.start();
    company.until_ready().await;
    company.kill();
    let store = find(&company.folder.path().join("data"), "relay.db").unwrap();
    let aside = store.with_extension("aside");
    std::fs::rename(&store, &aside).unwrap();
    std::fs::create_dir(&store).unwrap();
    company.start();
    company
        .until("alive and not ready", async || {
            let (alive, ready) = (company.get("/healthz").await?, company.get("/readyz").await?);
            (alive.0 == 200 && ready.0 == 503).then_some(())
        })
        .await;
    std::fs::remove_dir(&store).unwrap();
    std::fs::rename(&aside, &store).unwrap();
    company.until_ready().await;
}

fn find(folder: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(folder).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|found| found == name) {
            Some(path)
        } else if path.is_dir() {
            find(&path, name)
        } else {
            None
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_level_changes_without_a_restart_and_a_mistyped_one_is_named_and_changes_nothing() {
    let mut company = Company::new(true).await;
    company.env.push(("MAXCHANNEL_LOG", "warn".to_owned()));
    company.start();
    company.until_ready().await;
    let file = company.folder.path().join("data/log-level");
    let anna = company.customer("Анна");
    let detail = "an update of MAX is on disk";
    company.say(&anna, "раз");
    company.until("the first message", async || (company.received(&anna).len() == 1).then_some(())).await;
    assert!(!company.log().contains(detail), "more is logged than was asked for");
    std::fs::write(&file, "verbose\n").unwrap();
    company.until("the level is refused", async || company.log().contains("\"verbose\"").then_some(())).await;
    std::fs::write(&file, "info,maxchannel::relay=debug\n").unwrap();
    company
        .until("the level has changed", async || {
            company.log().contains("the log level is info,maxchannel::relay=debug now").then_some(())
        })
        .await;
    company.say(&anna, "два");
    company.until("a detail is logged", async || company.log().contains(detail).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_at_once_what_the_first_one_would_have_finished() {
    let mut company = Company::new(true).await;
    company.start();
    company.until_ready().await;
    // A message under way, which the stop waits for: the CRM holds it for longer than anybody
    // waits.
    company.crm.control().fault(Fault {
        path: "/rest/MaxChannelService/receive".to_owned(),
        hold_ms: 600_000,
        answer: Answer::default(),
        ..Fault::default()
    });
    let anna = company.customer("Анна");
    company.say(&anna, "раз");
    company.until("the CRM works on it", async || (company.received(&anna).len() == 1).then_some(())).await;
    company.ask_to_stop();
    company
        .until("it takes no more calls", async || {
            std::net::TcpStream::connect(("127.0.0.1", company.port)).is_err().then_some(())
        })
        .await;
    assert!(company.is_running(), "it finishes what is under way");
    company.ask_to_stop();
    assert_eq!(company.ended().await, Some(130), "forced, not finished");
}
