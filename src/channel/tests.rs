//! The pure steps as tables: validate, plan, report. Whole statuses are snapshots.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::claims::Conflict;
use super::observe::{CrmView, Failure, Observation, Rows};
use super::plan::{self, Action, KnownBot, crm_basis};
use super::receiver::{Directory, Person, PersonGroup};
use super::report::{Held, RelayState, View, report};
use super::schedule::Trouble;
use super::validate::{Desired, Secrets, validate};
use super::{ChannelRef, Installation, webhook};
use crate::api::{self, ErrorReasons, Language, MaxChannel, MaxChannelStatus, Reason};
use crate::creatio::{self, ids};
use crate::max;
use crate::relay::{Facts, SideFacts};

const TOKEN: &str = "canary-token-0001";
const NOW: i64 = 1_800_000_000_000;
const BOT: i64 = 254_700_011;

fn manifest(change: impl FnOnce(&mut Value)) -> MaxChannel {
    let mut value = json!({
        "apiVersion": "maxchannel.dev/v1alpha1",
        "kind": "MaxChannel",
        "metadata": {"name": "support", "namespace": "crm", "generation": 3},
        "spec": {
            "tokenSecretRef": {"name": "bot"},
            "mango": {"accountNumber": "400012345", "credentialsSecretRef": {"name": "mango"}},
            "creatio": {
                "url": "https://acme.creatio.com",
                "identityUrl": "https://acme-is.creatio.com",
                "credentialsSecretRef": {"name": "crm"},
            },
            "receiver": {"group": {"name": "Поддержка"}},
            "autoReplies": [{"after": "30s", "text": "Ищем агента"}],
        },
    });
    change(&mut value);
    api::parse(&value).unwrap()
}

fn secrets() -> Secrets {
    let secret = |entries: &[(&str, &str)]| {
        entries.iter().map(|(key, value)| ((*key).to_owned(), SecretString::from(*value))).collect::<BTreeMap<_, _>>()
    };
    BTreeMap::from([
        ("bot".to_owned(), secret(&[("token", " canary-token-0001\r\n")])),
        ("mango".to_owned(), secret(&[("apiKey", "canary-key"), ("apiSalt", "canary-salt")])),
        (
            "crm".to_owned(),
            secret(&[("clientId", "client"), ("clientSecret", "canary-client"), ("notifySecret", "canary-notify")]),
        ),
    ])
}

fn installation() -> Installation {
    let url = |text: &str| Url::parse(text).unwrap();
    Installation {
        max_url: url("https://platform-api2.max.ru"),
        max_overridden: false,
        max_ca_pem: None,
        mango_url: url("https://app.mango-office.ru"),
        public_url: Some(url("https://max.acme.ru")),
        max_error_reasons: ErrorReasons::default(),
        language: Language::English,
    }
}

fn desired(change: impl FnOnce(&mut Value)) -> Desired {
    validate(&manifest(change), &secrets(), &installation()).unwrap()
}

fn bot() -> KnownBot {
    KnownBot {
        user_id: BOT, username: Some("id7700000000_bot".to_owned()), name: "Служба поддержки".to_owned()
    }
}

fn user(number: u128, name: &str, email: &str) -> creatio::User {
    creatio::User { id: Uuid::from_u128(number), name: name.to_owned(), email: email.to_owned(), contact_id: None }
}

fn person(id: i64, extension: &str, email: &str) -> Person {
    Person {
        id,
        extension: extension.to_owned(),
        name: format!("Person {id}"),
        email: email.to_owned(),
        groups: Vec::new(),
    }
}

/// Everything outside is as it is before the first pass: people and users are there, nothing of ours.
fn fresh(desired: &Desired) -> Observation {
    let mut seen = Observation::default();
    let token = desired.token_fingerprint();
    let shown =
        json!({"user_id": BOT, "first_name": "Служба поддержки", "username": "id7700000000_bot", "is_bot": true});
    seen.bot.take(&token, NOW, Ok(serde_json::from_value::<max::Bot>(shown).unwrap()));
    seen.subscriptions.take(&token, NOW, Ok(Vec::new()));
    let directory = Directory {
        people: vec![person(1, "101", "Anna@example.com"), person(2, "102", "boris@example.com")],
        groups: vec![PersonGroup { id: 7, name: "Поддержка".to_owned(), members: vec![1, 2] }],
    };
    if let Ok(access) = &desired.mango {
        seen.mango.take(&access.fingerprint, NOW, Ok(directory));
    }
    let rule = |number: u128, code: &str| creatio::RoutingRule { id: Uuid::from_u128(number), code: code.to_owned() };
    let view = CrmView {
        package: "1.0.0".to_owned(),
        users: vec![
            user(0xa, "anna", "anna@example.com"),
            user(0xb, "boris", "BORIS@example.com"),
            user(0xc, "clara", "clara@example.com"),
        ],
        rules: vec![rule(0x1, "ForFree"), rule(0x2, "ForEveryone")],
        rows: Some(Rows::default()),
    };
    if let Ok(access) = &desired.crm_access {
        seen.crm.take(&crm_basis(&access.fingerprint, Some(&bot().source())), NOW, Ok(view));
    }
    seen
}

fn subscription(url: &str) -> max::Subscription {
    max::Subscription { url: url.to_owned(), time: NOW, update_types: None }
}

/// A row after a write.
fn read<T: serde::Serialize, U: serde::de::DeserializeOwned>(
    before: Option<&T>,
    write: impl FnOnce(Option<Value>) -> Value,
) -> U {
    serde_json::from_value(write(before.map(|row| serde_json::to_value(row).unwrap()))).unwrap()
}

/// The outside after the actions: a slow and obvious model of both systems.
fn applied(mut seen: Observation, actions: &[Action]) -> Observation {
    for action in actions {
        match action {
            Action::Subscribe { address } => seen.subscriptions.seen.as_mut().unwrap().push(subscription(address)),
            Action::Unsubscribe { address, .. } => {
                seen.subscriptions.seen.as_mut().unwrap().retain(|seen| seen.url != *address);
            }
            Action::Create { collection, id, columns } | Action::Change { collection, id, columns } => {
                let write = |before: Option<Value>| {
                    let mut row = before.unwrap_or_else(|| json!({}));
                    row["Id"] = json!(id);
                    columns.iter().for_each(|(name, value)| row[name.as_str()] = value.clone());
                    row
                };
                let rows = rows(&mut seen);
                match *collection {
                    "MaxChannelSettings" => rows.settings = Some(read(rows.settings.as_ref(), write)),
                    "Channel" => rows.channel = Some(read(rows.channel.as_ref(), write)),
                    "ChatQueue" => rows.queue = Some(read(rows.queue.as_ref(), write)),
                    "ChatQueueOperator" => rows.agents.push(read(None::<&Value>, write)),
                    other => panic!("{other} is none of our collections"),
                }
            }
            Action::Delete { id, .. } => rows(&mut seen).agents.retain(|row| row.id != *id),
        }
    }
    seen
}

fn lines(actions: &[Action]) -> Vec<String> {
    actions.iter().map(ToString::to_string).collect()
}

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

fn rows(seen: &mut Observation) -> &mut Rows {
    seen.crm.seen.as_mut().unwrap().rows.as_mut().unwrap()
}

fn outage(reason: Reason) -> Failure {
    Failure { reason, detail: "no connection to outside".to_owned(), trouble: Trouble::Outage }
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
            drift(same, |seen| seen.crm.seen.as_mut().unwrap().users.clear()),
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
            "another owner",
            drift(same, |seen| rows(seen).settings.as_mut().unwrap().owner = "else/where".to_owned()),
            vec![],
        ),
        (
            "another owner, adopted",
            drift(
                |value| value["metadata"]["annotations"] = json!({"maxchannel.dev/adopt": "true"}),
                |seen| rows(seen).settings.as_mut().unwrap().owner = "else/where".to_owned(),
            ),
            vec![format!("~ Creatio MaxChannelSettings {}: Owner=\"crm/support\"", ids::settings(&bot().source()))],
        ),
    ];
    for (case, planned, expected) in cases {
        assert_eq!(planned, expected, "{case}");
    }
}

#[test]
fn the_subscription_is_made_moved_and_cleaned_up_and_strangers_go_only_where_they_shall() {
    let wanted = desired(|_| {});
    let address = plan::wanted_address(&wanted).unwrap();
    let old = "https://max.acme.ru/webhooks/max/crm/support/00000000";
    let stranger = "https://stranger.example/hook?key=canary";
    let with = |urls: &[&str]| {
        let urls = urls.iter().map(|url| subscription(url)).collect();
        move |seen: &mut Observation| seen.subscriptions.seen = Some(urls)
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
        ("a stranger beside ours", drift(same, with(&[&address, stranger])), vec![]),
        (
            "a stranger that shall go",
            drift(remove, with(&[&address, stranger])),
            vec!["- MAX subscription https://stranger.example/hook, another program's".to_owned()],
        ),
        ("long poll needs none", drift(poll, with(&[&address, stranger])), vec![gone(&address)]),
        ("the stranger may be MANGO itself", drift(mango, with(&[stranger])), vec![]),
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
}

#[test]
fn a_manifest_that_cannot_be_used_says_why_with_its_field() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 4] = [
        (
            |value| {
                value["spec"]["receiver"] = json!({"bot": {"url": "https://bot.example",
                    "credentialsSecretRef": {"name": "rasa"}, "fallback": {"group": {"name": "Поддержка"}}}});
            },
            "spec.receiver.bot.credentialsSecretRef: the Secret rasa is not there",
        ),
        (
            |value| value["metadata"]["annotations"] = json!({"maxchannel.dev/accept-bot": "the other"}),
            "metadata.annotations[maxchannel.dev/accept-bot]: \"the other\" is not the user id of a bot",
        ),
        (
            |value| value["spec"]["creatio"]["url"] = json!("https://:80"),
            "spec.creatio.url: \"https://:80\" is not an address; write it like https://acme.example",
        ),
        (
            |value| value["spec"]["intake"] = json!({"webhook": {"url": "http://max.acme.ru"}}),
            "spec.intake.webhook: MAX calls https:// addresses only, http://max.acme.ru/ is none; serve it with a certificate on \
             port 443",
        ),
    ];
    for (change, expected) in cases {
        let mut value = serde_json::to_value(manifest(|_| {})).unwrap();
        change(&mut value);
        let manifest: MaxChannel = serde_json::from_value(value).unwrap();
        let own = Installation { public_url: None, ..installation() };
        assert_eq!(validate(&manifest, &secrets(), &own).unwrap_err(), [expected]);
    }
}

#[test]
fn a_missing_credential_names_secret_and_key_and_fails_only_what_needs_it() {
    let mut without = secrets();
    without.get_mut("bot").unwrap().insert("token".to_owned(), SecretString::from("canary token"));
    without.get_mut("mango").unwrap().remove("apiSalt");
    without.remove("crm");
    let desired = validate(&manifest(|_| {}), &without, &installation()).unwrap();
    assert_eq!(
        desired.token.unwrap_err().sentence(),
        "the key token of the Secret bot cannot be used: it has a blank or a line end inside: copy it once more, in one piece"
    );
    assert_eq!(desired.mango.unwrap_err().sentence(), "the Secret mango has no key apiSalt");
    assert_eq!(desired.crm_access.unwrap_err().sentence(), "the Secret crm is not there");
}

#[test]
fn the_public_address_of_the_installation_beats_the_manifests_and_without_any_max_is_polled() {
    use super::validate::IntakeWish;
    let host = |value: &mut Value| value["spec"]["intake"] = json!({"webhook": {"host": "own.acme.ru"}});
    let private = Installation { public_url: None, ..installation() };
    let base = |text: &str| IntakeWish::Webhook { base: Url::parse(text).unwrap() };
    let of = |manifest: MaxChannel, installation: &Installation| {
        validate(&manifest, &secrets(), installation).unwrap().intake
    };
    assert_eq!(of(manifest(host), &installation()), base("https://max.acme.ru"));
    assert_eq!(of(manifest(host), &private), base("https://own.acme.ru"));
    assert_eq!(of(manifest(|_| {}), &installation()), base("https://max.acme.ru"));
    assert_eq!(of(manifest(|_| {}), &private), IntakeWish::LongPoll);
    let poll = |value: &mut Value| value["spec"]["intake"] = json!({"longPoll": {}});
    assert_eq!(of(manifest(poll), &installation()), IntakeWish::LongPoll);
}

#[test]
fn a_revision_changes_with_every_setting_and_credential_and_tells_none() {
    use super::relay_config::{Access, relay_config};
    let token = SecretString::from(TOKEN);
    let revision = |desired: &Desired, token: &SecretString, retired: &[SecretString], ours| {
        let config = relay_config(desired, &installation(), BOT, token, retired, Access { ours });
        assert!(!serde_json::to_string(&config.channel).unwrap().contains("canary"));
        config.channel.revision
    };
    let base = desired(|_| {});
    let mut other_notify = secrets();
    other_notify.get_mut("crm").unwrap().insert("notifySecret".to_owned(), SecretString::from("canary-other"));
    let renotified = validate(&manifest(|_| {}), &other_notify, &installation()).unwrap();
    let text = desired(|value| value["spec"]["autoReplies"][0]["text"] = json!("Другой текст"));
    let next = SecretString::from("canary-token-0002");
    let all = [
        revision(&base, &token, &[], true),
        revision(&base, &next, &[], true),
        revision(&base, &next, std::slice::from_ref(&token), true),
        revision(&base, &token, &[], false),
        revision(&renotified, &token, &[], true),
        revision(&text, &token, &[], true),
    ];
    let different: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "{all:?}");
    assert_eq!(all[0], revision(&base, &token, &[], true), "the same gives the same");
}

fn facts() -> Facts {
    let well = SideFacts { ok: true, code: None, since: NOW };
    Facts {
        revision: "r1".to_owned(),
        version: "0.1.0".to_owned(),
        max: well.clone(),
        crm: well.clone(),
        bot: well,
        oldest_seconds: 0,
        dead_letters: 0,
        open_dialogs: 0,
        last_update_at: None,
        store_writable: true,
        subscribed_at: None,
        auto_close: Vec::new(),
    }
}

fn running(change: impl FnOnce(&mut Facts)) -> RelayState {
    let mut facts = facts();
    change(&mut facts);
    RelayState::Running { facts: Box::new(facts), open: true, wanted: "r1".to_owned() }
}

/// A status out of what is given, everything else being well.
struct Case {
    desired: Desired,
    seen: Observation,
    problems: Vec<String>,
    conflict: Option<Conflict>,
    stranger: Option<i64>,
    intake_failure: Option<Failure>,
    crm_failure: Option<Failure>,
    relay: RelayState,
    held: Option<Held>,
    language: Language,
    now: i64,
}

impl Case {
    fn new() -> Self {
        Self::of(desired(|_| {}))
    }

    fn of(desired: Desired) -> Self {
        let seen = fresh(&desired);
        let seen = applied(seen.clone(), &plan::plan(&desired, &seen, Some(&bot())));
        Self {
            desired,
            seen,
            problems: Vec::new(),
            conflict: None,
            stranger: None,
            intake_failure: None,
            crm_failure: None,
            relay: running(|_| {}),
            held: None,
            language: Language::English,
            now: NOW,
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut case = Self::new();
        change(&mut case);
        case
    }

    fn without(name: &str, key: Option<&str>) -> Self {
        let mut secrets = secrets();
        match key {
            Some(key) => drop(secrets.get_mut(name).unwrap().insert(key.to_owned(), SecretString::from("a b"))),
            None => drop(secrets.remove(name)),
        }
        Self::of(validate(&manifest(|_| {}), &secrets, &installation()).unwrap())
    }

    fn status(&self) -> MaxChannelStatus {
        let bot = bot();
        let view = View {
            desired: Some(&self.desired),
            problems: &self.problems,
            observation: &self.seen,
            conflict: self.conflict.as_ref(),
            bot: Some(&bot),
            stranger: self.stranger,
            intake_failure: self.intake_failure.as_ref(),
            crm_failure: self.crm_failure.as_ref(),
            relay: &self.relay,
            held: self.held,
            generation: 3,
            reconcile_at: None,
            now: self.now,
            language: self.language,
        };
        report(&view, &MaxChannelStatus::default())
    }

    fn shown(&self, kind: &str) -> (String, String) {
        let status = self.status();
        let found = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        (found.status.clone(), found.reason.clone())
    }
}

#[test]
fn a_status_in_whole() {
    insta::assert_json_snapshot!("ready", Case::new().status());
    let mut away = Case::with(|case| {
        let basis = case.seen.crm.basis.clone();
        case.seen.crm.take(&basis, NOW, Err(outage(Reason::CrmUnreachable)));
        case.seen.subscriptions.seen = Some(vec![subscription("https://stranger.example/hook")]);
        case.problems = vec!["support.yaml:9: spec.closeMessage.text: too long".to_owned()];
    });
    insta::assert_json_snapshot!("troubled", away.status());
    away.language = Language::Russian;
    insta::assert_json_snapshot!("troubled_in_russian", away.status());
}

#[test]
fn every_reason_can_be_reached() {
    let holder = ChannelRef::new("crm", "older");
    let refused = |reason| Failure { reason, detail: "said so".to_owned(), trouble: Trouble::Refused };
    let bot_failed = |reason| {
        Case::with(|case| {
            let basis = case.seen.bot.basis.clone();
            case.seen.bot.take(&basis, NOW, Err(refused(reason)));
        })
    };
    let mango_failed = |reason| {
        Case::with(|case| {
            let basis = case.seen.mango.basis.clone();
            case.seen.mango.take(&basis, NOW, Err(refused(reason)));
        })
    };
    let crm_failed = |reason| {
        Case::with(|case| {
            let basis = case.seen.crm.basis.clone();
            case.seen.crm.take(&basis, NOW, Err(refused(reason)));
        })
    };
    let manifest_of = |change: fn(&mut Value)| Case::of(desired(change));
    let held = |reason| Case::with(|case| case.held = Some(Held { reason, since: NOW - 60_000 }));
    let relay = |relay| Case::with(|case| case.relay = relay);
    let failed = |reason| RelayState::Failed { reason, detail: String::new() };
    let receiver = |change: fn(&mut Value)| manifest_of(change);
    let off_hours_bot: fn(&mut Value) = |value| {
        value["spec"]["workingHours"] = json!({"timeZone": "Europe/Moscow", "week": []});
        value["spec"]["offHours"] = json!({"bot": {"url": "https://bot.example"}});
    };
    let behind_bot: fn(&mut Value) = |value| {
        value["spec"]["receiver"] =
            json!({"bot": {"url": "https://bot.example", "fallback": {"employee": {"extension": "101"}}}});
    };
    let cases: Vec<(&str, Case, &str, Reason)> = vec![
        ("SpecValid", Case::with(|case| case.problems = vec!["x".to_owned()]), "False", Reason::InvalidSpec),
        ("TokenAuthorized", Case::without("bot", None), "False", Reason::TokenNotFound),
        ("TokenAuthorized", Case::without("bot", Some("token")), "False", Reason::TokenInvalid),
        ("TokenAuthorized", bot_failed(Reason::TokenInvalid), "False", Reason::TokenInvalid),
        ("TokenAuthorized", bot_failed(Reason::BotUnderModeration), "False", Reason::BotUnderModeration),
        ("TokenAuthorized", bot_failed(Reason::LegalEntityAccessDenied), "False", Reason::LegalEntityAccessDenied),
        ("TokenAuthorized", bot_failed(Reason::AuthorizationFailed), "False", Reason::AuthorizationFailed),
        ("TokenAuthorized", bot_failed(Reason::MaxUnreachable), "False", Reason::MaxUnreachable),
        ("TokenAuthorized", Case::with(|case| case.stranger = Some(1)), "False", Reason::BotChanged),
        (
            "TokenAuthorized",
            Case::with(|case| case.conflict = Some(Conflict::Bot { holder: holder.clone() })),
            "False",
            Reason::BotInUse,
        ),
        (
            "BotCardInSync",
            manifest_of(|value| value["spec"]["botCard"] = json!({"name": "Другое имя"})),
            "False",
            Reason::CardDiffers,
        ),
        (
            "BotCardInSync",
            manifest_of(|value| value["spec"]["botCard"] = json!({"name": "Служба поддержки"})),
            "True",
            Reason::InSync,
        ),
        ("AccountReady", Case::without("mango", None), "False", Reason::CredentialsNotFound),
        ("AccountReady", Case::without("mango", Some("apiKey")), "False", Reason::CredentialsInvalid),
        ("AccountReady", mango_failed(Reason::CredentialsInvalid), "False", Reason::CredentialsInvalid),
        ("AccountReady", mango_failed(Reason::Throttled), "False", Reason::Throttled),
        ("AccountReady", mango_failed(Reason::MangoUnreachable), "False", Reason::MangoUnreachable),
        (
            "AccountReady",
            Case::with(|case| case.conflict = Some(Conflict::Account { holder: holder.clone() })),
            "False",
            Reason::AccountInUse,
        ),
        ("ReceiverResolved", mango_failed(Reason::MangoUnreachable), "True", Reason::Resolved),
        (
            "ReceiverResolved",
            receiver(|value| drop(value["spec"].as_object_mut().unwrap().remove("receiver"))),
            "False",
            Reason::ReceiverNotSelected,
        ),
        (
            "ReceiverResolved",
            receiver(|value| value["spec"]["receiver"] = json!({"employee": {"extension": "999"}})),
            "False",
            Reason::EmployeeNotFound,
        ),
        (
            "ReceiverResolved",
            receiver(|value| value["spec"]["receiver"] = json!({"group": {"name": "Продажи"}})),
            "False",
            Reason::GroupNotFound,
        ),
        (
            "ReceiverResolved",
            Case::with(|case| case.seen.mango.seen.as_mut().unwrap().groups[0].members.clear()),
            "False",
            Reason::GroupEmpty,
        ),
        (
            "ReceiverResolved",
            receiver(|value| {
                value["spec"]["receiver"] = json!({"employee": {"extension": "101", "crmUser": "nobody"}});
            }),
            "False",
            Reason::AgentsMissingInCrm,
        ),
        (
            "ReceiverResolved",
            Case::with(|case| case.seen.crm.seen.as_mut().unwrap().users.retain(|user| user.name != "boris")),
            "True",
            Reason::AgentsMissingInCrm,
        ),
        (
            "ReceiverResolved",
            {
                let mut case = manifest_of(behind_bot);
                case.relay = running(|facts| facts.bot.ok = false);
                case
            },
            "True",
            Reason::FallbackServing,
        ),
        (
            "AutoRepliesActive",
            manifest_of(|value| value["spec"]["autoReplies"] = json!([])),
            "False",
            Reason::AutoRepliesNotConfigured,
        ),
        ("AutoRepliesActive", manifest_of(off_hours_bot), "False", Reason::OffHoursBotActive),
        ("CrmConnected", Case::without("crm", None), "False", Reason::CredentialsNotFound),
        ("CrmConnected", Case::without("crm", Some("clientSecret")), "False", Reason::CredentialsInvalid),
        ("CrmConnected", crm_failed(Reason::CredentialsInvalid), "False", Reason::CredentialsInvalid),
        ("CrmConnected", crm_failed(Reason::PackageMissing), "False", Reason::PackageMissing),
        ("CrmConnected", crm_failed(Reason::CrmUnreachable), "False", Reason::CrmUnreachable),
        (
            "CrmConnected",
            Case::with(|case| case.crm_failure = Some(refused(Reason::AccessDenied))),
            "False",
            Reason::AccessDenied,
        ),
        ("CrmConnected", Case::with(|case| rows(&mut case.seen).channel = None), "False", Reason::ChannelMissing),
        (
            "CrmConnected",
            Case::with(|case| rows(&mut case.seen).channel.as_mut().unwrap().is_active = false),
            "False",
            Reason::ChannelInactive,
        ),
        (
            "CrmConnected",
            Case::with(|case| rows(&mut case.seen).settings.as_mut().unwrap().owner = "else/where".to_owned()),
            "False",
            Reason::OwnedElsewhere,
        ),
        ("IntakeReady", Case::with(|case| case.seen.subscriptions.seen = Some(vec![])), "False", Reason::NotSubscribed),
        (
            "IntakeReady",
            Case::with(|case| {
                case.seen.subscriptions.seen = Some(vec![]);
                case.intake_failure = Some(refused(Reason::CertificateRejected));
            }),
            "False",
            Reason::CertificateRejected,
        ),
        (
            "IntakeReady",
            {
                let mut case = manifest_of(|value| value["spec"]["intake"] = json!({"longPoll": {}}));
                case.seen.subscriptions.seen = Some(vec![subscription("https://stranger.example/hook")]);
                case
            },
            "False",
            Reason::ForeignSubscription,
        ),
        (
            "IntakeReady",
            Case::with(|case| {
                case.seen.subscriptions.seen.as_mut().unwrap().push(subscription("https://stranger.example/hook"));
            }),
            "True",
            Reason::ForeignSubscription,
        ),
        (
            "IntakeReady",
            manifest_of(|value| value["spec"]["intake"] = json!({"mangoDialogs": {}})),
            "False",
            Reason::MangoNotConnected,
        ),
        ("RelayAvailable", relay(RelayState::Absent { detail: String::new() }), "False", Reason::RelayStarting),
        (
            "RelayAvailable",
            relay(RelayState::Running { facts: Box::new(facts()), open: true, wanted: "r2".to_owned() }),
            "False",
            Reason::ConfigPending,
        ),
        (
            "RelayAvailable",
            relay(RelayState::Running { facts: Box::new(facts()), open: false, wanted: facts().revision }),
            "False",
            Reason::RelayStarting,
        ),
        ("RelayAvailable", relay(running(|facts| facts.store_writable = false)), "False", Reason::StoreUnwritable),
        ("RelayAvailable", relay(failed(Reason::VolumePending)), "False", Reason::VolumePending),
        ("RelayAvailable", relay(failed(Reason::ImagePullFailed)), "False", Reason::ImagePullFailed),
        ("RelayAvailable", relay(failed(Reason::CrashLooping)), "False", Reason::CrashLooping),
        ("RelayAvailable", relay(failed(Reason::RelayUnreachable)), "False", Reason::RelayUnreachable),
        ("DeliveryHealthy", held(Reason::Backlog), "False", Reason::Backlog),
        ("DeliveryHealthy", held(Reason::DeadLetters), "False", Reason::DeadLetters),
        ("DeliveryHealthy", held(Reason::CrmDown), "False", Reason::CrmDown),
        ("DeliveryHealthy", held(Reason::MaxThrottled), "False", Reason::MaxThrottled),
        ("Ready", manifest_of(|value| value["spec"]["suspend"] = json!(true)), "False", Reason::Suspended),
    ];
    let mut reached = std::collections::BTreeSet::new();
    for (kind, case, status, reason) in &cases {
        assert_eq!(case.shown(kind), ((*status).to_owned(), reason.to_string()), "{kind} {reason}");
        assert!(!serde_json::to_string(&case.status()).unwrap().contains("canary"), "{kind} {reason} tells a secret");
        reached.insert(((*kind).to_owned(), *reason));
    }
    for entry in api::catalogue::ENTRIES {
        assert!(
            reached.contains(&(entry.condition.to_string(), entry.reason)),
            "no case reaches {} {}",
            entry.condition,
            entry.reason
        );
    }
}

#[test]
fn trouble_with_the_delivery_is_written_down_only_after_it_has_held() {
    use super::report::hold;
    let behind = running(|facts| facts.oldest_seconds = 61);
    let first = hold(None, &behind, NOW).unwrap();
    assert_eq!((first.reason, first.since), (Reason::Backlog, NOW));
    assert_eq!(hold(Some(first), &behind, NOW + 59_000), Some(first), "it is the same trouble");
    assert_eq!(hold(Some(first), &running(|_| {}), NOW + 60_000), None);
    let down = running(|facts| facts.crm.ok = false);
    assert_eq!(hold(Some(first), &down, NOW + 60_000).unwrap().since, NOW + 60_000, "another trouble begins anew");
    let early = Case::with(|case| case.held = Some(Held { reason: Reason::CrmDown, since: NOW - 59_999 }));
    assert_eq!(early.shown("DeliveryHealthy"), ("True".to_owned(), "Delivering".to_owned()));
}

#[test]
fn the_secret_of_the_address_is_that_of_the_token_in_force() {
    let desired = desired(|_| {});
    let secret = webhook::secret(&SecretString::from(TOKEN), &desired.channel);
    assert!(plan::wanted_address(&desired).unwrap().ends_with(&webhook::fingerprint(&secret)));
}
