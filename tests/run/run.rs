//! From the start to the first answer, and what changes while it runs.

use crate::company::Company;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_ready_and_carries_messages_both_ways() {
    for webhook in [true, false] {
        let mut company = Company::new(webhook).await;
        company.start();
        company.until_ready().await;
        let anna = company.customer("Анна");
        company.say(&anna, "Здравствуйте CANARY-TEXT");
        let chat = company.accept(&anna).await;
        company.crm.control().send(chat, company.agent, "Слушаю вас", Vec::new()).unwrap();
        company.until("the answer is shown", async || (company.seen(&anna) == ["Слушаю вас"]).then_some(())).await;
        assert_eq!(company.received(&anna), ["Здравствуйте CANARY-TEXT"]);
        let violations = company.crm.control().violations();
        assert!(violations.is_empty(), "{violations:#?}");
        let (_, status) = company.get("/status").await.unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["channels"][0]["relay"]["openDialogs"], 1, "{status}");
        for path in ["/status", "/metrics"] {
            let (_, page) = company.get(path).await.unwrap();
            assert!(!page.contains("CANARY"), "{path} shows a token or a text");
        }
        assert!(!company.log().contains("CANARY"), "the log shows a token or a text");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_named_with_its_remedy_and_a_new_one_takes_effect_without_a_restart() {
    let mut company = Company::new(true).await;
    company.start();
    company.until_ready().await;
    let anna = company.customer("Анна");
    company.say(&anna, "раз");
    company.accept(&anna).await;
    company.max.control().revoke_token(company.bot).unwrap();
    // A person who looks at it makes the file new, wrong once and right then.
    company.write_secrets("invented-token-that-is-wrong");
    let message = company
        .until("documented error 2 is in /status", async || {
            let (status, reason, message) = company.condition("TokenAuthorized").await?;
            (status == "False" && reason == "TokenInvalid").then_some(message)
        })
        .await;
    assert!(message.len() > 60, "no remedy in it: {message}");
    let token = company.max.control().issue_token(company.bot, Some("invented-token-CANARY-0002".to_owned())).unwrap();
    company.say(&anna, "два");
    company.write_secrets(&token);
    company.until_ready().await;
    company.say(&anna, "три");
    company.until("all three are with the agent", async || (company.received(&anna).len() >= 3).then_some(())).await;
    assert_eq!(company.received(&anna), ["раз", "два", "три"]);
    assert!(!company.log().contains("CANARY"), "the log shows a token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_edit_leaves_the_last_good_settings_and_a_good_one_takes_effect() {
    let mut company = Company::new(true).await;
    company.write_channel("  closeMessage: {text: \"До свидания\"}\n");
    company.start();
    company.until_ready().await;
    let close = async |name: &str, expected: &str| {
        let customer = company.customer(name);
        company.say(&customer, "вопрос");
        let chat = company.accept(&customer).await;
        company.crm.control().close(chat, company.agent).unwrap();
        company.until(expected, async || (company.seen(&customer) == [expected]).then_some(())).await;
    };
    close("Анна", "До свидания").await;
    company.write_channel("  closeMessage: {text: [\n");
    company.until("the broken file is named", async || company.log().contains("channel.yaml").then_some(())).await;
    close("Борис", "До свидания").await;
    company.write_channel("  closeMessage: {text: \"Всего доброго\"}\n");
    close_until(&company, "Всего доброго").await;
}

/// Closes one dialog after the other until the close message is the new one.
async fn close_until(company: &Company, expected: &str) {
    for _ in 0..20 {
        let customer = company.customer("Вера");
        company.say(&customer, "вопрос");
        let chat = company.accept(&customer).await;
        company.crm.control().close(chat, company.agent).unwrap();
        let shown = company.until("a close message", async || company.seen(&customer).pop()).await;
        if shown == expected {
            return;
        }
    }
    panic!("the new text did not take effect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_subscription_is_made_again_and_what_was_missed_is_read_back() {
    let mut company = Company::new(true).await;
    company.start();
    company.until_ready().await;
    let anna = company.customer("Анна");
    company.say(&anna, "раз");
    company.accept(&anna).await;
    company.max.control().drop_subscriptions(company.bot).unwrap();
    company.say(&anna, "в перерыве");
    company
        .until("the subscription is there again", async || {
            (!company.max.control().bot(company.bot).unwrap().subscriptions.is_empty()).then_some(())
        })
        .await;
    company
        .until("what was missed is with the agent, though the customer wrote nothing more", async || {
            (company.received(&anna) == ["раз", "в перерыве"]).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_online_asks_the_outside_before_anything_is_applied() {
    let company = Company::new(false).await;
    let check = async || {
        let mut command = company.program();
        command.args(["check", "--online", "-f"]).arg(company.manifests());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = check().await;
    assert_eq!(code, Some(0), "{text}");
    company.write_secrets("invented-token-that-is-wrong");
    let (code, text) = check().await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("TokenInvalid") && text.contains("channel.yaml"), "{text}");
    assert!(!text.contains("invented-token"), "{text}");
}
