//! From what was seen to what is done.

use super::*;

#[test]
fn the_first_plan_makes_everything_in_the_safe_order_and_the_second_is_empty() {
    let desired = desired(|_| {});
    let seen = fresh(&desired);
    let first = plan::plan(&desired, &seen, Some(&bot()));
    insta::assert_snapshot!(lines(&first).join("\n"));
    let settled = applied(seen, &first);
    assert_eq!(lines(&plan::plan(&desired, &settled, Some(&bot()))), Vec::<String>::new());
    assert!(!format!("{first:?}{}", serde_json::to_string(&first).unwrap()).contains("canary"));
}

/// What is planned when one thing differs from a settled state.
fn drift(change_manifest: impl FnOnce(&mut Value), change_outside: impl FnOnce(&mut Observation)) -> Vec<String> {
    let before = desired(|_| {});
    let seen = fresh(&before);
    let first = plan::plan(&before, &seen, Some(&bot()));
    let mut settled = applied(seen, &first);
    change_outside(&mut settled);
    lines(&plan::plan(&desired(change_manifest), &settled, Some(&bot())))
}

#[test]
fn only_what_differs_is_changed() {
    let queue = ids::queue(&bot().source());
    let channel = ids::channel(&bot().source());
    let anna = ids::queue_agent(&bot().source(), Uuid::from_u128(0xa));
    let same = |_: &mut Value| {};
    let cases: Vec<(&str, Vec<String>, Vec<String>)> = vec![
        (
            "the channel was switched off by hand",
            drift(same, |seen| rows(seen).channel.as_mut().unwrap().is_active = false),
            vec![format!("~ Creatio Channel {channel}: IsActive=true")],
        ),
        (
            "somebody set a time-out",
            drift(same, |seen| rows(seen).queue.as_mut().unwrap().chat_timeout = 10),
            vec![format!("~ Creatio ChatQueue {queue}: ChatTimeout=0")],
        ),
        (
            "offered to everyone",
            drift(|value| value["spec"]["receiver"]["group"]["distribution"] = json!("Everyone"), |_| {}),
            vec![format!("~ Creatio ChatQueue {queue}: OperatorRoutingRuleId=\"{}\"", Uuid::from_u128(2))],
        ),
        (
            "more dialogs per agent",
            drift(|value| value["spec"]["receiver"]["group"]["maxDialogsPerAgent"] = json!(9), |_| {}),
            vec![format!("~ Creatio ChatQueue {queue}: SimultaneousChats=9")],
        ),
        (
            "Anna has left the group",
            drift(same, |seen| seen.mango.seen.as_mut().unwrap().groups[0].members.retain(|id| *id != 1)),
            vec![format!("- Creatio ChatQueueOperator {anna}")],
        ),
        (
            "Anna has left the group, but MANGO does not answer now",
            drift(same, |seen| {
                seen.mango.seen.as_mut().unwrap().groups[0].members.retain(|id| *id != 1);
                let basis = seen.mango.basis.clone();
                seen.mango.take(&basis, NOW, Err(outage(Reason::MangoUnreachable)));
            }),
            vec![],
        ),
        ("the group is empty", drift(same, |seen| seen.mango.seen.as_mut().unwrap().groups[0].members.clear()), vec![]),
        (
            "no user of the CRM is found any more",
            drift(same, |seen| Arc::make_mut(&mut seen.crm.seen.as_mut().unwrap().users).clear()),
            vec![],
        ),
        (
            "the CRM does not answer",
            drift(same, |seen| {
                rows(seen).channel = None;
                let basis = seen.crm.basis.clone();
                seen.crm.take(&basis, NOW, Err(outage(Reason::CrmUnreachable)));
            }),
            vec![],
        ),
        (
            "an agent added by hand stays",
            drift(same, |seen| {
                rows(seen).agents.push(creatio::ChatQueueAgent {
                    id: Uuid::from_u128(0xdead),
                    chat_queue_id: Some(queue),
                    agent_id: Some(Uuid::from_u128(0xc)),
                });
            }),
            vec![],
        ),
        (
            "no receiver any more",
            drift(|value| drop(value["spec"].as_object_mut().unwrap().remove("receiver")), |_| {}),
            vec![],
        ),
        ("suspended", drift(|value| value["spec"]["suspend"] = json!(true), |seen| rows(seen).channel = None), vec![]),
        (
            "another owner, and our own address still with MAX",
            drift(same, |seen| rows(seen).settings.as_mut().unwrap().owner = "else/where".to_owned()),
            vec!["- MAX subscription https://max.acme.ru/webhooks/max/crm/support/prod/e7ad7d0b".to_owned()],
        ),
        (
            "another owner, adopted",
            drift(
                |value| value["metadata"]["annotations"] = json!({"maxchannel.dev/adopt": "true"}),
                |seen| rows(seen).settings.as_mut().unwrap().owner = "else/where".to_owned(),
            ),
            vec![format!(
                "~ Creatio MaxChannelSettings {}: Owner=\"prod/crm/support\"",
                ids::settings(&bot().source())
            )],
        ),
        (
            "another installation's mark",
            drift(same, |seen| {
                rows(seen).settings.as_mut().unwrap().owner = "staging/crm/support".to_owned();
                rows(seen).channel = None;
                seen.subscriptions.seen = Some(vec![]);
            }),
            vec![],
        ),
        (
            "a mark from before installations had ids",
            drift(same, |seen| rows(seen).settings.as_mut().unwrap().owner = "crm/support".to_owned()),
            vec![format!(
                "~ Creatio MaxChannelSettings {}: Owner=\"prod/crm/support\"",
                ids::settings(&bot().source())
            )],
        ),
    ];
    for (case, planned, expected) in cases {
        assert_eq!(planned, expected, "{case}");
    }
}

#[test]
fn the_subscription_is_made_moved_and_cleaned_up_and_foreign_go_only_where_they_shall() {
    let wanted = desired(|_| {});
    let address = plan::wanted_address(&wanted).unwrap();
    let old = "https://max.acme.ru/webhooks/max/crm/support/prod/00000000";
    let former = "https://max.acme.ru/webhooks/max/crm/support/00000000";
    let foreign = "https://stranger.example/hook?key=canary";
    let with = |urls: &[&str]| {
        let urls = urls.iter().map(|url| subscription(url)).collect();
        move |seen: &mut Observation| seen.subscriptions.seen = Some(urls)
    };
    let beside = |time| {
        let ours = address.clone();
        move |seen: &mut Observation| {
            let other = max::Subscription { time, ..subscription(STAGING) };
            seen.subscriptions.seen = Some(vec![subscription(&ours), other]);
        }
    };
    let same = |_: &mut Value| {};
    let remove = |value: &mut Value| {
        value["spec"]["intake"] = json!({"webhook": {"host": "max.acme.ru"}, "onForeignSubscription": "Remove"});
    };
    let poll = |value: &mut Value| value["spec"]["intake"] = json!({"longPoll": {}});
    let mango = |value: &mut Value| {
        value["spec"]["intake"] = json!({"mangoDialogs": {}, "onForeignSubscription": "Remove"});
    };
    let gone = |url: &str| format!("- MAX subscription {url}");
    let cases: Vec<(&str, Vec<String>, Vec<String>)> = vec![
        ("lost", drift(same, with(&[])), vec![format!("+ MAX subscription {address}")]),
        ("of the token before", drift(same, with(&[old])), vec![format!("+ MAX subscription {address}"), gone(old)]),
        (
            "of the form before",
            drift(same, with(&[former])),
            vec![format!("+ MAX subscription {address}"), gone(former)],
        ),
        ("another installation's", drift(same, with(&[STAGING])), vec![]),
        ("another installation's, where foreign ones are to go", drift(remove, with(&[STAGING])), vec![]),
        ("another installation's, younger than ours", drift(same, beside(NOW + 1)), vec![]),
        (
            "another installation's, older than ours: ours is taken back",
            drift(same, beside(NOW - 1)),
            vec![gone(&address)],
        ),
        (
            "another installation's, adopted",
            drift(|value| value["metadata"]["annotations"] = json!({"maxchannel.dev/adopt": "true"}), with(&[STAGING])),
            vec![format!("+ MAX subscription {address}"), format!("- MAX subscription {STAGING}, another program's")],
        ),
        ("a foreign one beside ours", drift(same, with(&[&address, foreign])), vec![]),
        (
            "a foreign one that is to go",
            drift(remove, with(&[&address, foreign])),
            vec!["- MAX subscription https://stranger.example/hook, another program's".to_owned()],
        ),
        ("long poll needs none", drift(poll, with(&[&address, foreign])), vec![gone(&address)]),
        ("the foreign one may be MANGO itself", drift(mango, with(&[foreign])), vec![]),
        (
            "not looked at under this token yet",
            drift(same, |seen| {
                seen.subscriptions.seen = Some(Vec::new());
                seen.subscriptions.basis = "another".to_owned();
            }),
            vec![],
        ),
    ];
    for (case, planned, expected) in cases {
        assert_eq!(planned, expected, "{case}");
    }
}

#[test]
fn removal_touches_what_is_ours_and_nothing_else() {
    let desired = desired(|_| {});
    let seen = fresh(&desired);
    let mut settled = applied(seen.clone(), &plan::plan(&desired, &seen, Some(&bot())));
    settled.subscriptions.seen.as_mut().unwrap().push(subscription("https://stranger.example/hook"));
    insta::assert_snapshot!(lines(&plan::removal(&desired, &settled, Some(&bot()))).join("\n"));
    rows(&mut settled).settings.as_mut().unwrap().owner = "else/where".to_owned();
    let kept = plan::removal(&desired, &settled, Some(&bot()));
    assert_eq!(kept.len(), 1, "the rows are another owner's: {kept:?}");
    settled.subscriptions.seen = Some(vec![subscription(STAGING)]);
    for adopt in [false, true] {
        let desired = Desired { adopt, ..desired.clone() };
        let kept = plan::removal(&desired, &settled, Some(&bot()));
        assert_eq!(lines(&kept), Vec::<String>::new(), "nothing is this installation's any more");
    }
}
