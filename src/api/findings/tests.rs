//! Each mistake of a manifest, told with its field and its remedy.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::manifest::Manifests;

fn good() -> Value {
    json!({
        "apiVersion": "maxchannel.dev/v1alpha1",
        "kind": "MaxChannel",
        "metadata": {"name": "support", "namespace": "crm"},
        "spec": {
            "tokenSecretRef": {"name": "max-bot"},
            "mango": {"accountNumber": "400012345", "credentialsSecretRef": {"name": "mango-api"}},
            "creatio": {
                "url": "https://acme.creatio.com",
                "identityUrl": "https://acme-is.creatio.com",
                "credentialsSecretRef": {"name": "creatio"}
            },
            "receiver": {"employee": {"extension": "101"}}
        }
    })
}

/// The good manifest with one value put at a path; `null` removes.
fn with(path: &str, value: Value) -> Value {
    let mut manifest = good();
    put(&mut manifest, path, value);
    manifest
}

fn put(manifest: &mut Value, path: &str, value: Value) {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = manifest;
    for key in parents.split('.').filter(|key| !key.is_empty()) {
        place = &mut place[key];
    }
    if value.is_null() {
        place.as_object_mut().unwrap().remove(last);
    } else {
        place[last] = value;
    }
}

fn shown(manifest: &Value) -> Vec<String> {
    findings(manifest).iter().map(|finding| format!("{} {finding}", finding.severity)).collect()
}

const WEEK: &str = r#"{"timeZone": "Europe/Moscow", "week": [{"days": ["Mon"], "from": "09:00", "to": "18:00"}]}"#;

fn hours(change: impl FnOnce(&mut Value)) -> Value {
    let mut hours: Value = serde_json::from_str(WEEK).unwrap();
    change(&mut hours);
    let mut manifest = with("spec.workingHours", hours);
    put(&mut manifest, "spec.offHours", json!({"autoReplies": [{"after": "0s", "text": "Завтра"}]}));
    manifest
}

#[test]
fn good_manifests_have_no_findings() {
    let bot = json!({"url": "https://bot.acme.ru", "fallback": {"group": {"name": "Поддержка"}}});
    let reply = json!({"after": "24h", "repeatEvery": "1m", "repeatLimit": 100, "text": "ы".repeat(250)});
    for manifest in [
        good(),
        with("spec.receiver", json!({"group": {"id": 7, "distribution": "Everyone", "maxDialogsPerAgent": 100}})),
        with("spec.receiver", json!({"employee": {"userId": 300_052_407, "crmUser": "a.petrova"}})),
        with("spec.receiver", json!({ "bot": bot })),
        with(
            "spec.autoReplies",
            Value::Array((0..20).map(|n| json!({"after": format!("{n}m"), "text": "Ждите"})).collect()),
        ),
        with("spec.autoReplies", json!([reply])),
        with("spec.autoClose", json!({"after": "1m"})),
        with("spec.autoClose", json!({"after": "30d"})),
        with("spec.intake", json!({"longPoll": {}})),
        with("spec.intake", json!({"mangoDialogs": {}, "onForeignSubscription": "Remove"})),
        with("spec.intake", json!({"mangoDialogs": {"unsignedFrom": ["81.88.80.132/32", "2001:db8::/32"]}})),
        with("spec.intake", json!({"webhook": {"url": "https://gate.acme.ru/max"}})),
        with("spec.intake", json!({"webhook": {"host": "max.acme.ru", "ingress": {"annotations": {"a.b/c": "d"}}}})),
        with("spec.relay", json!({"storage": {"volumeClaim": {"size": "2Gi"}}, "resources": {"limits": {"cpu": 1}}})),
        with(
            "spec.relay",
            json!({"tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoSchedule"}]}),
        ),
        with(
            "spec.botCard",
            json!({"name": "Я", "username": "abcdefghbot", "phone": "+79999999999", "site": "https://acme.ru"}),
        ),
        with("spec.botCard", json!({"description": "🙂".repeat(200), "phone": "+7 (495) 123-45-67"})),
        with("metadata.name", json!("a".repeat(46))),
        with("status", json!({"whatever": [1, null]})),
        hours(|_| ()),
        hours(|hours| hours["week"] = json!([{"days": ["Mon", "Tue"], "from": "22:00", "to": "06:00"}])),
        hours(|hours| hours["week"] = json!([{"days": ["Sun"], "from": "00:00", "to": "24:00"}])),
        hours(|hours| {
            hours["workdays"] = json!([{"date": "2026-12-26", "from": "09:00", "to": "12:00"},
                                       {"date": "2026-12-26", "from": "12:00", "to": "16:00"}]);
        }),
    ] {
        assert_eq!(shown(&manifest), [""; 0], "{manifest}");
        parse(&manifest).unwrap();
    }
}

#[test]
fn each_mistake_is_told_with_its_field_and_its_remedy() {
    let table: Vec<(Value, &[&str])> = vec![
        (json!(null), &["error this is no channel: write apiVersion: maxchannel.dev/v1alpha1 and kind: MaxChannel"]),
        (
            with("apiVersion", json!("maxchannel.dev/v1")),
            &["error this is no channel: write apiVersion: maxchannel.dev/v1alpha1 and kind: MaxChannel"],
        ),
        // Shape.
        (with("spec", Value::Null), &["error spec: is missing: add it"]),
        (with("sepc", json!({})), &["error sepc: is not a known field: remove it, or write \"spec\" if that is meant"]),
        (with("spec.mango", Value::Null), &["error spec.mango: is missing: add it"]),
        (with("spec.mango", json!("x")), &["error spec.mango: must be a mapping of fields, not a text"]),
        (with("spec.suspend", json!("yes")), &["error spec.suspend: must be true or false, not a text"]),
        (with("spec.colour", json!(1)), &["error spec.colour: is not a known field: remove it"]),
        (with("spec.autoreply", json!([])), &["error spec.autoreply: is not a known field: remove it"]),
        (
            with("spec.auto_replies", json!([])),
            &["error spec.auto_replies: is not a known field: remove it, or write \"autoReplies\" if that is meant"],
        ),
        (
            with("spec.mango", json!({"acountNumber": "1", "credentialsSecretRef": {"name": "a"}})),
            &[
                "error spec.mango.acountNumber: is not a known field: remove it, or write \"accountNumber\" if that is meant",
            ],
        ),
        (
            with("spec.intake", json!({"longPoll": {"timeout": "5s"}})),
            &["error spec.intake.longPoll.timeout: is not a known field: remove it"],
        ),
        (
            with("spec.intake", json!({"longPoll": null})),
            &["error spec.intake.longPoll: is empty: give a mapping of fields, or remove it"],
        ),
        (
            with("spec.deletionPolicy", json!("Keep")),
            &["error spec.deletionPolicy: is not one of the known values: write one of Delete, Retain"],
        ),
        // Names.
        (with("metadata", json!({})), &["error metadata.name: is missing: give the channel a name, a text"]),
        (
            with("metadata.name", json!("Support")),
            &[
                "error metadata.name: is not a name: lower-case Latin letters, digits and hyphens, with a letter or digit at both ends",
            ],
        ),
        (
            with("metadata.namespace", json!("a_b")),
            &[
                "error metadata.namespace: is not a namespace: lower-case Latin letters, digits and hyphens, with a letter or digit at both \
             ends",
            ],
        ),
        (
            with("metadata.name", json!("a".repeat(47))),
            &["error the name may have at most 46 characters, because the names of pods are made from it"],
        ),
        (
            with("spec.tokenSecretRef.name", json!("f9LH_secret")),
            &[
                "error spec.tokenSecretRef.name: is not the name of a Secret: lower-case Latin letters, digits, hyphens and dots, with a letter or digit at both ends and \
             around each dot",
            ],
        ),
        (
            with("spec.tokenSecretRef.key", json!("a b")),
            &[
                "error spec.tokenSecretRef.key: is not a key of a Secret: Latin letters, digits, dots, hyphens and underscores",
            ],
        ),
        (
            with("spec.mango.accountNumber", json!(400_012_345)),
            &["error spec.mango.accountNumber: must be a text: put it in quotes"],
        ),
        (
            with("spec.mango.accountNumber", json!("4000-12345")),
            &["error spec.mango.accountNumber: must be digits only"],
        ),
        // Creatio.
        (
            with("spec.creatio.url", json!("acme.creatio.com")),
            &["error spec.creatio.url: must be an address that begins with https:// or http://"],
        ),
        (
            with("spec.creatio.url", json!("https://acme:99999")),
            &["error spec.creatio.url: is not an address (invalid port number): write it like https://crm.acme.ru"],
        ),
        (
            with("spec.creatio.url", json!("http://crm.local")),
            &["warning spec.creatio.url: is not encrypted: use https:// unless the way there is private"],
        ),
        (
            with("spec.creatio.url", json!("https://u:p@acme.creatio.com/?a=1")),
            &[
                "error spec.creatio.url: must be a host and perhaps a path, and end before ? and #, without spaces: remove what follows",
            ],
        ),
        (
            with("spec.creatio.url", json!("https://crm.acme.ru/0")),
            &[
                "warning spec.creatio.url: ends with /0, which is added where the CRM needs it: remove it, or set creatio.runtime",
            ],
        ),
        (
            with("spec.creatio.identityUrl", json!("http://is.local")),
            &["warning spec.creatio.identityUrl: is not encrypted: use https:// unless the way there is private"],
        ),
        (
            with("spec.creatio.pollInterval", json!("6m")),
            &["error spec.creatio.pollInterval: give a duration from 1s to 5m"],
        ),
        (
            with("spec.creatio.pollInterval", json!(2)),
            &["error spec.creatio.pollInterval: must be a text: put it in quotes"],
        ),
        (
            with("spec.creatio.limits", json!({"requestsPerSecond": 0, "inFlight": 257})),
            &[
                "error spec.creatio.limits.inFlight: is 257, the most is 256",
                "error spec.creatio.limits.requestsPerSecond: is 0, the least is 1",
            ],
        ),
        (
            with("spec.creatio.runtime", json!("net")),
            &["error spec.creatio.runtime: is not one of the known values: write one of Auto, Net, Framework"],
        ),
        // Receiver.
        (
            with("spec.receiver", Value::Null),
            &[
                "warning spec.receiver: is missing, so customers are not answered (documented error 6): name an employee, a group or a bot",
            ],
        ),
        (with("spec.receiver", json!({})), &["error spec.receiver: give exactly one of employee, group and bot"]),
        (
            with("spec.receiver", json!({"employee": {"extension": "1"}, "group": {"id": 1}})),
            &["error spec.receiver: give exactly one of employee, group and bot"],
        ),
        (
            with("spec.receiver", json!({"employee": {}})),
            &["error spec.receiver.employee: give exactly one of extension and userId"],
        ),
        (
            with("spec.receiver", json!({"employee": {"extension": 101}})),
            &["error spec.receiver.employee.extension: must be a text: put it in quotes"],
        ),
        (
            with("spec.receiver", json!({"employee": {"userId": "101"}})),
            &["error spec.receiver.employee.userId: must be a number: remove the quotes"],
        ),
        (
            with("spec.receiver", json!({"group": {"name": "a", "id": 1}})),
            &["error spec.receiver.group: give exactly one of name and id"],
        ),
        (
            with("spec.receiver", json!({"group": {"id": 1, "maxDialogsPerAgent": 101, "distribution": "Random"}})),
            &[
                "error spec.receiver.group.distribution: is not one of the known values: write one of LeastLoaded, Everyone",
                "error spec.receiver.group.maxDialogsPerAgent: is 101, the most is 100",
            ],
        ),
        (
            with(
                "spec.receiver",
                json!({"group": {"id": 1, "crmUsers": [{"extension": "1", "crmUser": "a"}, {"extension": "1", "crmUser": "b"}]}}),
            ),
            &["error spec.receiver.group.crmUsers[1]: is a duplicate: remove one"],
        ),
        (
            with("spec.receiver", json!({"bot": {"url": "https://bot.acme.ru"}})),
            &[
                "error spec.receiver.bot.fallback: a bot needs a fallback: name the employee or the group that takes dialogs while the bot \
             is away",
            ],
        ),
        (
            with(
                "spec.receiver",
                json!({"bot": {"url": "http://bot", "timeout": "61s", "fallback": {"employee": {"extension": "1"}, "group": {"id": 1}}}}),
            ),
            &[
                "error spec.receiver.bot.fallback: give exactly one of employee and group",
                "error spec.receiver.bot.timeout: give a duration from 1s to 60s",
                "warning spec.receiver.bot.url: is not encrypted: use https:// unless the way there is private",
            ],
        ),
        // Replies and texts.
        (
            with("spec.autoReplies", json!([{"after": "25h", "text": "a"}])),
            &["error spec.autoReplies[0].after: give a duration from 0s to 24h"],
        ),
        (
            with("spec.autoReplies", json!([{"after": "5 min", "text": ""}])),
            &[
                "error spec.autoReplies[0].after: \"5 min\" is not a duration: write a whole number and one of s, m, h, d, like 90s, 15m, \
             24h or 30d",
                "error spec.autoReplies[0].text: is empty: fill it in, or remove it",
            ],
        ),
        (
            with("spec.autoReplies", json!([{"text": "a".repeat(251)}])),
            &[
                "error spec.autoReplies[0].after: is missing: add it",
                "error spec.autoReplies[0].text: has 251 characters, at most 250 are allowed: shorten it",
            ],
        ),
        (
            with("spec.autoReplies", json!([{"after": "1s", "repeatEvery": "59s", "text": "a"}])),
            &["error spec.autoReplies[0].repeatEvery: give a duration from 1m to 24h"],
        ),
        (
            with("spec.autoReplies", json!([{"after": "1s", "repeatLimit": 2, "text": "a"}])),
            &[
                "error spec.autoReplies[0].repeatLimit: repeatLimit counts repeats: give repeatEvery, or remove repeatLimit",
            ],
        ),
        (
            with("spec.autoReplies", json!([{"after": "1s", "repeatEvery": "1m", "repeatLimit": 101, "text": " \n"}])),
            &[
                "error spec.autoReplies[0].repeatLimit: is 101, the most is 100",
                "error spec.autoReplies[0].text: is blank, and MAX sends no blank messages: write a text",
            ],
        ),
        (
            with("spec.autoReplies", json!([{"after": "60s", "text": "a"}, {"after": "1m", "text": "a"}])),
            &[
                "warning spec.autoReplies[1]: says the same at the same time as another one, so the customer reads it twice: remove one",
            ],
        ),
        (
            with(
                "spec.autoReplies",
                Value::Array((0..21).map(|n| json!({"after": format!("{n}m"), "text": "a"})).collect()),
            ),
            &["error spec.autoReplies: has 21 entries, at most 20 are allowed"],
        ),
        (
            with("spec.closeMessage", json!({"text": "ы".repeat(251)})),
            &["error spec.closeMessage.text: has 251 characters, at most 250 are allowed: shorten it"],
        ),
        (
            with("spec.closeMessage", json!({"text": " "})),
            &["error spec.closeMessage.text: is blank, and MAX sends no blank messages: write a text"],
        ),
        (
            with("spec.autoClose", json!({"after": "59s"})),
            &["error spec.autoClose.after: give a duration from 1m to 30d"],
        ),
        (
            with("spec.autoClose", json!({"after": "31d"})),
            &["error spec.autoClose.after: give a duration from 1m to 30d"],
        ),
        // Hours.
        (
            with("spec.workingHours", serde_json::from_str(WEEK).unwrap()),
            &[
                "warning spec.workingHours: has no effect without offHours: say there what happens outside of it, or remove it",
            ],
        ),
        (
            with("spec.offHours", json!({"autoReplies": [{"after": "0s", "text": "a"}]})),
            &["error spec.offHours: offHours needs workingHours: say when the company works, or remove offHours"],
        ),
        (
            hours(|hours| hours["timeZone"] = json!("Moscow")),
            &["error spec.workingHours.timeZone: \"Moscow\" is not a time zone: write an IANA name like Europe/Moscow"],
        ),
        (
            hours(|hours| hours["timeZone"] = json!("asia/yekaterinburg")),
            &[
                "error spec.workingHours.timeZone: \"asia/yekaterinburg\" is not a time zone: write an IANA name like Asia/Yekaterinburg",
            ],
        ),
        (
            hours(|hours| hours["week"] = json!([])),
            &["warning spec.workingHours: has no working hour at all, so it is always off hours: fill in week"],
        ),
        (
            hours(|hours| hours["week"][0]["to"] = json!("24:01")),
            &["error spec.workingHours.week[0].to: \"24:01\" is not a time of day: write hours and minutes like 09:30"],
        ),
        (
            hours(|hours| hours["week"][0]["from"] = json!("24:00")),
            &["error spec.workingHours.week[0].from: an interval cannot begin at 24:00: write 00:00 of the next day"],
        ),
        (
            hours(|hours| hours["week"][0]["days"] = json!(["Mon", "Monday"])),
            &[
                "error spec.workingHours.week[0].days[1]: is not one of the known values: write one of Mon, Tue, Wed, Thu, Fri, Sat, Sun",
            ],
        ),
        (
            hours(|hours| hours["week"][0]["days"] = json!(["Mon", "Mon"])),
            &["error spec.workingHours.week[0].days[1]: is a duplicate: remove one"],
        ),
        (
            hours(|hours| {
                hours["week"] = json!([{"days": ["Sun"], "from": "22:00", "to": "06:00"},
                                       {"days": ["Mon"], "from": "05:59", "to": "18:00"}]);
            }),
            &["error spec.workingHours.week[1]: overlaps week[0]: change the times or the days of one of them"],
        ),
        (hours(|hours| hours["week"] = json!([{"days": ["Mon", "Tue"], "from": "09:00", "to": "09:00"}])), &[]),
        (
            hours(|hours| hours["holidays"] = json!(["2027-02-29", "01.01.2027", "2027-1-1"])),
            &[
                "error spec.workingHours.holidays[0]: 2027-02-29 is not in the calendar: write a day that exists",
                "error spec.workingHours.holidays[1]: \"01.01.2027\" is not a date: write it like 2027-01-01",
                "error spec.workingHours.holidays[2]: \"2027-1-1\" is not a date: write it like 2027-01-01",
            ],
        ),
        (
            hours(|hours| {
                hours["holidays"] = json!(["2027-01-01", "2027-01-01"]);
                hours["workdays"] = json!([{"date": "2027-01-01", "from": "09:00", "to": "12:00"},
                                           {"date": "2027-01-01", "from": "11:00", "to": "12:00"}]);
            }),
            &[
                "error spec.workingHours.holidays[1]: is a duplicate: remove one",
                "error spec.workingHours.workdays[0].date: 2027-01-01 is a holiday as well: remove one of the two",
                "error spec.workingHours.workdays[1]: overlaps workdays[0]: change the date or the times of one of them",
                "error spec.workingHours.workdays[1].date: 2027-01-01 is a holiday as well: remove one of the two",
            ],
        ),
        (
            {
                let mut manifest = hours(|_| ());
                put(&mut manifest, "spec.offHours.bot", json!({"url": "https://bot.acme.ru"}));
                manifest
            },
            &[
                "error spec.offHours: off hours either autoReplies or a bot answer, never both: give exactly one of autoReplies and bot",
            ],
        ),
        // Card.
        (
            with(
                "spec.botCard",
                json!({"name": "Служба 🙂", "username": "Support_bot", "phone": "+7 999", "site": "http://acme.ru",
                       "description": "ы".repeat(201)}),
            ),
            &[
                "error spec.botCard.description: has 201 characters, at most 200 are allowed: shorten it",
                "error spec.botCard.name: may have Latin and Cyrillic letters, digits and spaces only, no emoji: remove the others",
                "error spec.botCard.phone: is not a telephone of the card: write +7 and 7 to 10 digits in groups, like +7 999-99-99",
                "error spec.botCard.site: must be https:// and a name of Latin letters, digits, dots and hyphens, without a path, like https://acme.ru",
                "error spec.botCard.username: must begin with a lower-case Latin letter, have only Latin letters, digits and _, and end \
                 in bot",
            ],
        ),
        (
            with("spec.botCard", json!({"name": "a".repeat(60), "username": "short_bot", "site": "https://пример.рф"})),
            &[
                "error spec.botCard.name: has 60 characters, at most 59 are allowed: shorten it",
                "error spec.botCard.site: must be https:// and a name of Latin letters, digits, dots and hyphens, without a path, like https://acme.ru",
                "error spec.botCard.username: has 9 characters, at least 11 are needed",
            ],
        ),
        // Intake.
        (
            with("spec.intake", json!({})),
            &["error spec.intake: give exactly one of webhook, longPoll and mangoDialogs, or remove intake"],
        ),
        (
            with("spec.intake", json!({"longPoll": {}, "mangoDialogs": {}})),
            &["error spec.intake: give exactly one of webhook, longPoll and mangoDialogs, or remove intake"],
        ),
        (
            with("spec.intake", json!({"mangoDialogs": {"unsignedFrom": ["81.88.80.132/33", "0.0.0.0/0"]}})),
            &[
                "error spec.intake.mangoDialogs.unsignedFrom[0]: is not a network: write it like 81.88.80.132/32",
                "error spec.intake.mangoDialogs.unsignedFrom[1]: lets everybody call without a signature: name the addresses of MANGO OFFICE only",
            ],
        ),
        (with("spec.intake", json!({"webhook": {}})), &["error spec.intake.webhook: give exactly one of host and url"]),
        (
            with("spec.intake", json!({"webhook": {"host": "https://max.acme.ru"}})),
            &[
                "error spec.intake.webhook.host: must be a bare name like max.acme.ru, in lower-case letters, without scheme, port and path",
            ],
        ),
        (
            with("spec.intake", json!({"webhook": {"host": "127.0.0.1"}})),
            &[
                "warning spec.intake.webhook.host: is not a public name, and MAX will not reach it: write one like max.acme.ru",
            ],
        ),
        (
            with("spec.intake", json!({"webhook": {"url": "https://max.acme.ru:8443", "ingress": {}}})),
            &[
                "error spec.intake.webhook.ingress: an ingress is made for a host: give host, or remove ingress where you route yourself",
                "warning spec.intake.webhook.url: names a port, and MAX calls port 443 only: route 443 to the relay and remove the port",
            ],
        ),
        (
            {
                let mut manifest = with("spec.intake", json!({"mangoDialogs": {}}));
                put(&mut manifest, "spec.widget", json!({"sources": [{"name": "delivery", "title": "Доставка"}]}));
                manifest
            },
            &[
                "warning spec.widget.sources: are not told by MANGO OFFICE: the links work, but with intake.mangoDialogs nobody learns \
                 by which of them a customer came",
            ],
        ),
        // Relay.
        (
            with("spec.relay", json!({"storage": {"ephemeral": {}}})),
            &[
                "warning spec.relay.storage.ephemeral: is for trials only: undelivered messages die with the pod; use volumeClaim for \
             customers",
            ],
        ),
        (
            with("spec.relay", json!({"storage": {}})),
            &["error spec.relay.storage: give exactly one of volumeClaim and ephemeral, or remove storage"],
        ),
        (
            with(
                "spec.relay",
                json!({"storage": {"volumeClaim": {"size": "1GB"}}, "resources": {"limits": {"cpu": true}}}),
            ),
            &[
                "error spec.relay.resources.limits.cpu: is not a quantity: write it like 500m, 64Mi or 1Gi",
                "error spec.relay.storage.volumeClaim.size: is not a quantity: write it like 500m, 64Mi or 1Gi",
            ],
        ),
        (
            with("spec.relay", json!({"tolerations": [{"operator": "Exists", "value": "a"}, {"value": "b"}]})),
            &[
                "error spec.relay.tolerations[0].value: is not compared with the operator Exists: remove one of the two",
                "error spec.relay.tolerations[1]: has no key: give one, or set the operator Exists to tolerate everything",
            ],
        ),
    ];
    let mut wrong = Vec::new();
    for (manifest, expected) in table {
        let found = shown(&manifest);
        if found != expected {
            wrong.push(format!("{}\n  expected {expected:#?}\n  found    {found:#?}", manifest["spec"]));
        }
        let has_errors = expected.iter().any(|line| line.starts_with("error"));
        assert_eq!(parse(&manifest).is_err(), has_errors, "{manifest}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_summary_names_five_errors_and_counts_the_rest() {
    let finding =
        |severity, field: &str| Finding { severity, field: field.parse().unwrap(), message: "is wrong".to_owned() };
    let mut found = vec![finding(Severity::Warning, "w"), finding(Severity::Error, "a"), finding(Severity::Error, "b")];
    assert_eq!(summary(&found), "a: is wrong; b: is wrong");
    found.extend(["c", "d", "e", "f", "g"].map(|field| finding(Severity::Error, field)));
    assert_eq!(summary(&found), "a: is wrong; b: is wrong; c: is wrong; d: is wrong; e: is wrong; and 2 more");
}

#[test]
fn the_account_cannot_be_changed() {
    let old: MaxChannel = serde_json::from_value(good()).unwrap();
    let new: MaxChannel = serde_json::from_value(with("spec.mango.accountNumber", json!("400099999"))).unwrap();
    let schema = crate::api::crd::schema();
    let value = |channel: &MaxChannel| serde_json::to_value(channel).unwrap();
    let validator = kube::core::cel::Validator::new();
    assert!(validator.validate(schema, &value(&old), Some(&value(&old))).is_ok());
    let errors = validator.validate(schema, &value(&new), Some(&value(&old))).unwrap_err();
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "spec.mango.accountNumber: accountNumber cannot be changed: delete the channel and make a new one for the other account"
        ]
    );
}

#[test]
fn a_value_that_might_be_a_secret_is_never_quoted() {
    let canary = "canary 7f-TOKEN";
    for path in [
        "spec.tokenSecretRef.name",
        "spec.tokenSecretRef.key",
        "spec.tokenSecretRef",
        "spec.mango.accountNumber",
        "spec.mango.credentialsSecretRef.name",
        "spec.creatio.url",
        "spec.creatio.credentialsSecretRef",
        "spec.receiver",
        "spec.deletionPolicy",
        "spec.token",
        "metadata.name",
    ] {
        let found = shown(&with(path, json!(canary)));
        assert!(!found.is_empty() && !found.join(" ").contains("canary"), "{path}: {found:?}");
    }
}

#[test]
fn manifests_that_take_each_others_account_or_lack_keys_are_told_together() {
    let channel = |name: &str, account: &str, token: &str| {
        let mut manifest = good();
        put(&mut manifest, "metadata.name", json!(name));
        put(&mut manifest, "spec.mango.accountNumber", json!(account));
        put(&mut manifest, "spec.tokenSecretRef.name", json!(token));
        put(&mut manifest, "spec.creatio.identityUrl", Value::Null);
        manifest.to_string()
    };
    let secret = |name: &str, data: Value| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "crm"}, "stringData": data}).to_string()
    };
    let text = [
        channel("a", "1", "bot-a"),
        channel("b", "1", "bot-a"),
        channel("c", "3", "bot-c"),
        secret("bot-a", json!({"token": "one two"})),
        secret("bot-c", json!({"tokem": "x"})),
        secret("mango-api", json!({"apiKey": "k", "apiSalt": "s"})),
        secret("creatio", json!({"clientId": "a"})),
    ]
    .join("\n---\n");
    let mut manifests = Manifests::default();
    manifests.add("x.yaml", &text);
    assert_eq!(manifests.errors, []);
    let found: Vec<String> =
        across(&manifests).iter().map(|(channel, finding)| format!("{} {finding}", channel.name)).collect();
    let blank = "the key token of the Secret bot-a (x.yaml:7): it has a space or a line break inside: copy it once more, in one piece";
    let creatio = |name: &str| {
        [
            format!(
                "{name} spec.creatio.credentialsSecretRef: the key clientSecret of the Secret creatio (x.yaml:13): has no such key: add it"
            ),
            format!(
                "{name} spec.creatio.identityUrl: is missing, and clientId is used there: give the address of the identity service"
            ),
        ]
    };
    let mut expected = vec![format!("a spec.tokenSecretRef: {blank}")];
    expected.extend(creatio("a"));
    expected.push("b spec.mango.accountNumber: is the account of crm/a (x.yaml:1) already: one account carries one channel, remove one of the two".to_owned());
    expected.push("b spec.tokenSecretRef: is the token of crm/a (x.yaml:1) already: one bot serves one channel, give this one its own".to_owned());
    expected.push(format!("b spec.tokenSecretRef: {blank}"));
    expected.extend(creatio("b"));
    let keys = |name: &str, line: u32| {
        format!(
            "c spec.mango.credentialsSecretRef: are the keys of the account of crm/{name} (x.yaml:{line}): a key opens one account, name the Secret of this one's own"
        )
    };
    expected.push(keys("a", 1));
    expected.push(
        "c spec.tokenSecretRef: the key token of the Secret bot-c (x.yaml:9): has no such key: add it".to_owned(),
    );
    expected.extend(creatio("c"));
    assert_eq!(found, expected);
}

/// What each of these says must stand in a finding of that field; nothing else may be found.
#[test]
fn what_the_server_or_the_objects_made_from_it_would_refuse_is_found_with_its_field() {
    let relay = |relay: Value| with("spec.relay", relay);
    let table: Vec<(Value, &str, &str)> = vec![
        (with("metadata.lables", json!({"a": "b"})), "metadata.lables", "or write \"labels\""),
        (with("metadata.labels", json!({"version": 1})), "metadata.labels.version", "must be a text: put it in quotes"),
        (with("metadata.labels", json!({"a": "b c"})), "metadata.labels.a", "is not the value of a label"),
        (with("metadata.labels", json!({"a": "-b"})), "metadata.labels.a", "is not the value of a label"),
        (with("metadata.labels", json!({"a b": "c"})), "metadata.labels[\"a b\"]", "is not the key of a label"),
        (with("metadata.labels", json!(["a"])), "metadata.labels", "must be a mapping"),
        (with("metadata.annotations", json!({"a": true})), "metadata.annotations.a", "must be a text"),
        (
            with("metadata.annotations", json!({"maxchannel.dev/accept-bot": "the other"})),
            "metadata.annotations[\"maxchannel.dev/accept-bot\"]",
            "is not the user id of a bot",
        ),
        (
            with("spec.intake", json!({"webhook": {"url": "http://max.acme.ru"}})),
            "spec.intake.webhook.url",
            "MAX calls https:// only",
        ),
        (with("metadata.annotations", json!({"/a": "b"})), "metadata.annotations[\"/a\"]", "is not the key of an"),
        (with("metadata.annotations", json!({"a": "b".repeat(300_000)})), "metadata.annotations", "at most 262144"),
        (with("metadata.finalizers", json!(["acme.ru/keep it"])), "metadata.finalizers[0]", "is not a finalizer"),
        (
            with("metadata.ownerReferences", json!([{"kind": "A"}])),
            "metadata.ownerReferences[0].apiVersion",
            "is missing",
        ),
        (with("metadata.name", json!("1c-support")), "metadata.name", "begins with a digit"),
        (with("metadata.name", json!("24x7")), "metadata.name", "begins with a digit"),
        (with("metadata.name", json!("a.b")), "metadata.name", "is not a name"),
        (relay(json!({"nodeSelector": {"a": "b c"}})), "spec.relay.nodeSelector.a", "is not the value of a label"),
        (relay(json!({"nodeSelector": {"a b": "c"}})), "spec.relay.nodeSelector[\"a b\"]", "is not the key of a label"),
        (relay(json!({"nodeSelector": {"a": true}})), "spec.relay.nodeSelector.a", "must be a text: put it in quotes"),
        (relay(json!({"tolerations": [{"key": "a b"}]})), "spec.relay.tolerations[0].key", "is not the key of a taint"),
        (
            relay(json!({"tolerations": [{"key": "a", "value": "b c"}]})),
            "spec.relay.tolerations[0].value",
            "is not the value of a label",
        ),
        (
            relay(json!({"tolerations": [{"key": "a", "tolerationSeconds": 5}]})),
            "spec.relay.tolerations[0].tolerationSeconds",
            "NoExecute only",
        ),
        (
            relay(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "500m"}}})),
            "spec.relay.resources.requests.cpu",
            "is more than the limit",
        ),
        (relay(json!({"resources": {"limits": {"ram": 1}}})), "spec.relay.resources.limits.ram", "is no resource"),
        (
            relay(json!({"storage": {"volumeClaim": {"size": "0"}}})),
            "spec.relay.storage.volumeClaim.size",
            "is nothing",
        ),
        (with("spec.creatio.url", json!("https://crm.acme.ru:0")), "spec.creatio.url", "names the port 0"),
        (with("spec.creatio.url", json!("https://crm.acme.ru/0/Shell/")), "spec.creatio.url", "a page of the CRM"),
        (
            with("spec.creatio.url", json!("https://crm.acme.ru/Login/NuiLogin.aspx")),
            "spec.creatio.url",
            "a page of the CRM",
        ),
        (with("spec.creatio.url", json!("https://crm.acme.ru/#a")), "spec.creatio.url", "end before ? and #"),
        (
            with("spec.intake", json!({"webhook": {"url": "https://localhost"}})),
            "spec.intake.webhook.url",
            "not a public name",
        ),
        (
            with("spec.intake", json!({"webhook": {"url": "https://[::1]/a"}})),
            "spec.intake.webhook.url",
            "not a public name",
        ),
        (with("spec.intake", json!({"webhook": {"host": "max.svc"}})), "spec.intake.webhook.host", "not a public name"),
        (with("spec.botCard", json!({"site": "https://acme.ru/shop"})), "spec.botCard.site", "without a path"),
        (with("spec.botCard", json!({"site": "https://acme..ru"})), "spec.botCard.site", "two dots"),
        (with("spec.botCard", json!({"name": " "})), "spec.botCard.name", "is blank"),
        (with("spec.closeMessage", json!({"text": "\u{a0}"})), "spec.closeMessage.text", "is blank"),
        (with("spec.closeMessage", json!({"text": "\u{200b}\u{2800}\u{3164}"})), "spec.closeMessage.text", "is blank"),
        (with("spec.closeMessage", json!({"text": "Ваш номер {{ id }}"})), "spec.closeMessage.text", "placeholder"),
        (with("spec.receiver", json!({"group": {"name": "\u{2003}"}})), "spec.receiver.group.name", "is blank"),
        (with("spec.mango.accountNumber", json!("{{ .Values.account }}")), "spec.mango.accountNumber", "is a template"),
        (with("spec.tokenSecretRef.name", json!("${BOT}")), "spec.tokenSecretRef.name", "is a template"),
        (with("spec.tokenSecretRef.name", json!("")), "spec.tokenSecretRef.name", "is empty"),
        (with("spec.tokenSecretRef.name", json!("a..b")), "spec.tokenSecretRef.name", "is not the name of a Secret"),
        (
            with("spec.receiver", json!({"employe": {"extension": "101"}})),
            "spec.receiver.employe",
            "or write \"employee\" if that is meant",
        ),
        (hours(|hours| hours["timeZone"] = json!("GMT+3")), "spec.workingHours.timeZone", "like Europe/Moscow"),
        (hours(|hours| hours["timeZone"] = json!("UTC+5")), "spec.workingHours.timeZone", "like Asia/Yekaterinburg"),
        (hours(|hours| hours["timeZone"] = json!("+07:00")), "spec.workingHours.timeZone", "like Asia/Novosibirsk"),
        (hours(|hours| hours["timeZone"] = json!("Etc/GMT+3")), "spec.workingHours.timeZone", "is 3 h behind UTC"),
        (hours(|hours| hours["timeZone"] = json!("Etc/GMT-3")), "spec.workingHours.timeZone", "is 3 h ahead of UTC"),
    ];
    let mut wrong = Vec::new();
    for (manifest, field, part) in table {
        let found = findings(&manifest);
        let told = found.iter().any(|one| one.field.to_string() == field && one.message.contains(part));
        // The owner of a kind only lacks three fields.
        let alone = found.len() == 1 || field.contains("ownerReferences");
        let suggested = found.iter().any(|one| one.severity == Severity::Error && one.message.contains("Etc/GMT"));
        if !told || !alone || suggested {
            wrong.push(format!("{field} {part}: {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_token_or_key_in_two_secrets_and_a_mistyped_name_are_told_once_a_channel() {
    let channel = |name: &str, account: &str, bot: &str, mango: &str, creatio: &str| {
        let mut manifest = with("metadata.name", json!(name));
        put(&mut manifest, "spec.mango.accountNumber", json!(account));
        put(&mut manifest, "spec.tokenSecretRef.name", json!(bot));
        put(&mut manifest, "spec.mango.credentialsSecretRef.name", json!(mango));
        put(&mut manifest, "spec.creatio.credentialsSecretRef.name", json!(creatio));
        manifest.to_string()
    };
    let secret = |name: &str, data: Value| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "crm"}, "stringData": data}).to_string()
    };
    let text = [
        channel("a", "1", "bot-a", "mango-a", "creatio"),
        channel("b", "2", "bot-b", "mango-b", "creatio"),
        channel("c", "3", "bot-cc", "mango-c", "elsewhere"),
        secret("bot-a", json!({"token": "f9LH"})),
        secret("bot-b", json!({"token": "f9LH\n"})),
        secret("bot-c", json!({"token": "other"})),
        secret("mango-a", json!({"apiKey": "k", "apiSalt": "s"})),
        secret("mango-b", json!({"apiKey": "k", "apiSalt": "s"})),
        secret("mango-c", json!({"apiKey": "l", "apiSalt": "s"})),
        secret("creatio", json!({"username": "a", "password": "b"})),
    ]
    .join("\n");
    let mut manifests = Manifests::default();
    manifests.add("x.json", &text);
    assert_eq!(manifests.errors, []);
    let found: Vec<String> =
        across(&manifests).iter().map(|(channel, one)| format!("{} {} {one}", channel.name, one.severity)).collect();
    let expected = [
        "b error spec.mango.credentialsSecretRef: holds the same apiKey as the Secret of crm/a (x.json:1)",
        "b error spec.tokenSecretRef: holds the same token as the Secret of crm/a (x.json:1)",
        "c error spec.tokenSecretRef.name: is the name of no Secret that was given: is \"bot-c\" meant?",
        "c warning spec.creatio.credentialsSecretRef.name: is the name of no Secret that was given, though others",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn a_secret_that_is_not_a_text_is_told_as_that() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: max-bot, namespace: crm}\ndata: {token: /w==}\n";
    let mut manifests = Manifests::default();
    manifests.add("x.yaml", &format!("{}\n---\n{secret}", serde_yaml_of(&good())));
    let found: Vec<String> = across(&manifests).iter().map(|(_, one)| one.to_string()).collect();
    assert!(found.iter().any(|one| one.contains("its base64 is not that of a text in UTF-8")), "{found:#?}");
}

fn serde_yaml_of(value: &Value) -> String {
    crate::api::yaml::write(value).unwrap()
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "",
        "1m",
        "99999999999d",
        "Mon",
        "24:00",
        "2027-02-30",
        "https://a",
        "http://",
        "bot",
        "support",
        "Europe/Moscow",
        "١",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        words.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "name",
        "key",
        "bot",
        "url",
        "fallback",
        "employee",
        "group",
        "extension",
        "after",
        "text",
        "from",
        "to",
        "days",
        "date",
        "week",
        "timeZone",
        "holidays",
        "workdays",
        "webhook",
        "host",
        "size",
        "x.y/z",
        "",
    ]);
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys.clone(), inner), 0..4)
                .prop_map(|members| members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Value>()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_value_in_any_place_gives_findings_and_never_a_panic(
        path in prop::sample::select(vec![
            "metadata", "spec", "spec.tokenSecretRef", "spec.mango", "spec.creatio", "spec.receiver", "spec.autoReplies",
            "spec.workingHours", "spec.offHours", "spec.autoClose", "spec.botCard", "spec.intake", "spec.relay", "spec.suspend",
        ]),
        value in any_json(),
    ) {
        let manifest = with(path, value);
        let found = findings(&manifest);
        prop_assert_eq!(parse(&manifest).is_err(), found.iter().any(|finding| finding.severity == Severity::Error));
        for finding in found {
            prop_assert!(!finding.message.contains("cannot be read"), "the schema took what the types do not: {}", finding);
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in r"(?s)(---\n|kind: (MaxChannel|Secret)\n|apiVersion: (v1|maxchannel.dev/v1alpha1)\n|metadata: \{name: a\}\n|spec:|data:|stringData:|[&*!\[\]{}:,\- \n\t#a-c'\x22|>]|.){0,40}") {
        let mut manifests = Manifests::default();
        manifests.add("x.yaml", &text);
        for channel in &manifests.channels {
            for finding in findings(&channel.value) {
                prop_assert!(channel.place(&finding.field).line > 0);
            }
        }
        let _ = across(&manifests);
    }
}
