//! What the program tells while it runs, and how it is told to end.

use maxchannel_simulator::creatio::{Answer, Fault};

use crate::company::Company;

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
    // A message under way, which the stop waits for: the CRM holds it for longer than anybody waits.
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
