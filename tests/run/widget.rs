//! From the button of a page to the agent's first line, in a real browser where there is one; and
//! the files of `maxchannel widget`.

use std::path::{Path, PathBuf};
use std::process::Command;

use axum::Router;
use axum::response::Html;
use maxchannel_simulator::max::{DialogAction, NewUser};
use serde_json::{Value, json};

use crate::company::{Company, Customer};

const NICK: &str = "id7700000000_bot";
const SPEC: &str = "  botCard: {username: id7700000000_bot}\n  widget:\n    greeting: Ответим за 5 минут\n    sources:\n    \
                    - {name: delivery, title: Доставка}\n    - {name: leaflet, title: Листовка}\n";

fn widget(company: &Company, arguments: &[&str]) -> std::process::Output {
    let mut command = company.program();
    command.args(["widget", "-f"]).arg(company.manifests()).args(arguments);
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_links_the_codes_and_the_button_of_every_source_are_made() {
    let company = Company::new(true).await;
    company.write_channel(SPEC);
    let made = widget(&company, &["-o", "json"]);
    assert!(made.status.success(), "{made:?}");
    let list: Value = serde_json::from_slice(&made.stdout).unwrap();
    let link = |source: Value, title: Value, end: &str| json!({"source": source, "title": title, "link": format!("https://max.ru/{NICK}{end}")});
    assert_eq!(
        list["links"],
        json!([
            link(Value::Null, Value::Null, ""),
            link(json!("delivery"), json!("Доставка"), "?start=delivery"),
            link(json!("leaflet"), json!("Листовка"), "?start=leaflet"),
        ])
    );
    let folder = company.folder.path().join("site");
    let made = widget(&company, &["--dir", folder.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, 12, "four files for each of the two sources and for none");
    let begins = |name: &str, with: &[u8]| std::fs::read(folder.join(name)).unwrap().starts_with(with);
    assert!(
        begins("leaflet.png", b"\x89PNG\r\n\x1a\n") && begins("leaflet.svg", b"<svg") && begins("max.html", b"<!--")
    );
    for (arguments, complaint) in [
        (&["--source", "nowhere", "--as", "link"][..], "has no source \"nowhere\": there are delivery, leaflet"),
        (&["--source", "delivery", "--page", "order"], "is not the path of a page"),
        (&["--bot", "https://max.ru/x"], "is not the nick of a bot"),
    ] {
        let refused = widget(&company, arguments);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains(complaint), "{said}");
    }
}

/// Where the browser and what drives it are; none where they cannot be had here.
fn browser() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/browser.sh");
    let found = Command::new(script).output().unwrap();
    if found.status.success() {
        return Some(PathBuf::from(String::from_utf8(found.stdout).unwrap().trim()));
    }
    let why = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(std::env::var_os("CI").is_none(), "there must be a browser in CI: {why}");
    eprintln!("not tried in a browser: {why}");
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_comes_by_the_button_of_a_page_and_the_agent_reads_from_where() {
    let Some(modules) = browser() else { return };
    let mut company = Company::new(true).await;
    company.write_channel(SPEC);
    let made = widget(&company, &["--source", "delivery", "--as", "button", "--lang", "ru"]);
    let button = String::from_utf8(made.stdout).unwrap();
    assert!(button.len() < 5 * 1024);
    let page = move |language: &'static str| {
        let page =
            format!("<!doctype html><html lang=\"{language}\"><title>Магазин</title><body><h1>Заказ</h1>{button}");
        move || async move { Html(page.clone()) }
    };
    let site = Router::new()
        .route("/order", axum::routing::get(page("ru")))
        .route("/en/{*rest}", axum::routing::get(page("en")))
        .route("/plain", axum::routing::get(page("de")));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let site = tokio::spawn(async move { axum::serve(listener, site).await });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run/button.mjs");
    let seen = tokio::task::spawn_blocking(move || {
        Command::new("node").arg(script).arg(address).env("NODE_MODULES", modules).output().unwrap()
    });
    let seen = seen.await.unwrap();
    assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
    let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(
        [&seen["order"]["name"], &seen["english"]["name"], &seen["plain"]["name"]],
        [
            "Написать в MAX (откроется в новой вкладке)",
            "Write to us in MAX (opens in a new tab)",
            "Написать в MAX (откроется в новой вкладке)"
        ]
    );
    assert_eq!([&seen["order"]["region"], &seen["english"]["region"]], ["Связаться с нами", "Contact us"]);
    assert_eq!(seen["order"]["greeting"], "Ответим за 5 минут");
    assert_eq!(seen["foreign"], json!([]), "the button asks nobody but the site itself");
    assert_eq!(seen["errors"], json!([]));
    assert_eq!(seen["order"]["byClick"], seen["order"]["byKeyboard"]);
    // Without scripts it is a link all the same.
    assert_eq!(seen["withoutScripts"], format!("https://max.ru/{NICK}?start=delivery"));

    company.start();
    company.until_ready().await;
    for (place, line) in [
        ("order", "[Клиент пришёл: Доставка, страница /order]\nЗдравствуйте"),
        ("english", "[Клиент пришёл: Доставка, страница /en/заказ №1]\nЗдравствуйте"),
    ] {
        let opened = seen[place]["byClick"].as_str().unwrap();
        let payload =
            opened.strip_prefix(&format!("https://max.ru/{NICK}?start=")).unwrap_or_else(|| panic!("{opened}"));
        let id = company.max.control().create_user(NewUser::named(place)).unwrap();
        let customer = Customer { id, sender: format!("max:{id}") };
        let start = DialogAction::Start(Some(payload.to_owned()));
        company.max.control().act(customer.id, company.bot, start).unwrap();
        company.say(&customer, "Здравствуйте");
        company.until("the agent has it", async || (company.received(&customer) == [line]).then_some(())).await;
    }
    site.abort();
}
