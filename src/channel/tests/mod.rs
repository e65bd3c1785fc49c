//! The pure steps as tables: validate, plan, report. Whole statuses are snapshots.

mod desired;
mod planning;
mod rivals;
mod statuses;

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::Installation;
use super::claims::Conflict;
use super::observe::{CrmView, Failure, Observation, Observed, Rows};
use super::plan::{self, Action, KnownBot, crm_basis};
use super::receiver::{Directory, Person, PersonGroup};
use super::report::{Held, RelayState, Unapplied, View, report};
use super::schedule::Trouble;
use super::validate::{Desired, Secrets, validate};
use crate::api::ChannelRef;
use crate::api::{self, ErrorReasons, Language, MaxChannel, MaxChannelStatus, Reason};
use crate::contract::{Facts, SideFacts};
use crate::contract::{InstallationId, webhook};
use crate::creatio::{self, ids};
use crate::max;

const TOKEN: &str = "canary-token-0001";
const NOW: i64 = 1_800_000_000_000;
const BOT: i64 = 254_700_011;
/// The address of another installation with the same token, under the same host.
const STAGING: &str = "https://max.acme.ru/webhooks/max/crm/support/staging/e7ad7d0b";

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
        id: InstallationId::of("prod"),
        max_url: url("https://platform-api2.max.ru"),
        max_overridden: false,
        max_ca_pem: None,
        mango_url: url("https://app.mango-office.ru"),
        public_url: Some(url("https://max.acme.ru")),
        mango_base: None,
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

/// Everything outside is as it is before the first pass: people and users are there, nothing of
/// ours.
fn fresh(desired: &Desired) -> Observation {
    let mut seen = Observation::default();
    let token = desired.token_fingerprint();
    let shown =
        json!({"user_id": BOT, "first_name": "Служба поддержки", "username": "id7700000000_bot", "is_bot": true});
    seen.bot.take(token, NOW, Ok(serde_json::from_value::<max::Bot>(shown).unwrap()));
    seen.subscriptions.take(token, NOW, Ok(Vec::new()));
    let directory = Directory {
        people: vec![person(1, "101", "Anna@example.com"), person(2, "102", "boris@example.com")],
        groups: vec![PersonGroup { id: 7, name: "Поддержка".to_owned(), members: vec![1, 2] }],
        channels: Vec::new(),
    };
    if let Ok(access) = &desired.mango {
        seen.mango.take(&access.fingerprint, NOW, Ok(directory));
    }
    let rule = |number: u128, code: &str| creatio::RoutingRule { id: Uuid::from_u128(number), code: code.to_owned() };
    let view = CrmView {
        package: "1.0.0".to_owned(),
        users: Arc::new(vec![
            user(0xa, "anna", "anna@example.com"),
            user(0xb, "boris", "BORIS@example.com"),
            user(0xc, "clara", "clara@example.com"),
        ]),
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

fn outage(reason: Reason) -> Failure {
    Failure { reason, detail: "no connection to outside".to_owned(), trouble: Trouble::Outage }
}

fn rows(seen: &mut Observation) -> &mut Rows {
    seen.crm.seen.as_mut().unwrap().rows.as_mut().unwrap()
}
