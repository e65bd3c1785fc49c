//! What has to change outside, as data: one [`Action`] per change, in the order in which they are
//! safe. Pure.
//!
//! Nothing is planned from a probe that failed: rows are compared only with what the CRM has just
//! said, and an agent leaves a queue only after MANGO OFFICE and the CRM have both just answered
//! and somebody is left in it. All ids are made from the bot (wire contract, "Set-up through
//! OData"), so that a repeated action changes nothing.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::observe::{Observation, Rows};
use super::receiver::{self, Agents, Resolved};
use super::subscription::{self, Whose};
use super::validate::{Desired, DesiredIntake};
use crate::api::ForeignSubscription;
use crate::contract::config::MangoEmployee;
use crate::contract::webhook;
use crate::creatio::{self, Entity, ids};
use crate::max;

/// The bot of a channel: the one that it was first authorised with, until another is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownBot {
    pub user_id: i64,
    pub username: Option<String>,
    pub name: String,
}

impl KnownBot {
    /// The bot's name in Creatio (wire contract, `channelSource`).
    #[must_use]
    pub fn source(&self) -> String {
        format!("max-bot:{}", self.user_id)
    }

    fn title(&self) -> String {
        let name = match (self.name.trim(), &self.username) {
            ("", Some(username)) => username.clone(),
            ("", None) => self.user_id.to_string(),
            (name, _) => name.to_owned(),
        };
        format!("MAX: {name}")
    }
}

impl From<&crate::max::Bot> for KnownBot {
    fn from(bot: &crate::max::Bot) -> Self {
        Self { user_id: bot.user_id, username: bot.username.clone(), name: bot.name.clone() }
    }
}

/// One change outside.
#[derive(Clone, Debug, PartialEq, Hash, Serialize)]
#[serde(tag = "do", rename_all = "camelCase")]
pub enum Action {
    /// POST /subscriptions at MAX, with the secret that belongs to the address.
    Subscribe { address: String },
    /// DELETE /subscriptions at MAX.
    Unsubscribe {
        #[serde(serialize_with = "without_query")]
        address: String,
        foreign: bool,
    },
    /// A new row in the CRM.
    Create { collection: &'static str, id: Uuid, columns: Map<String, Value> },
    /// Other values in a row of the CRM.
    Change { collection: &'static str, id: Uuid, columns: Map<String, Value> },
    /// A row less in the CRM.
    Delete { collection: &'static str, id: Uuid },
}

fn without_query<S: Serializer>(address: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&subscription::shown(address))
}

impl Action {
    /// Whether the action is one at MAX.
    #[must_use]
    pub const fn is_intake(&self) -> bool {
        matches!(self, Self::Subscribe { .. } | Self::Unsubscribe { .. })
    }
}

/// One line for people.
impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |columns: &Map<String, Value>| {
            columns.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Subscribe { address } => write!(formatter, "+ MAX subscription {address}"),
            Self::Unsubscribe { address, foreign } => {
                let whose = if *foreign { ", another program's" } else { "" };
                write!(formatter, "- MAX subscription {}{whose}", subscription::shown(address))
            }
            Self::Create { collection, id, columns } => {
                write!(formatter, "+ Creatio {collection} {id}: {}", list(columns))
            }
            Self::Change { collection, id, columns } => {
                write!(formatter, "~ Creatio {collection} {id}: {}", list(columns))
            }
            Self::Delete { collection, id } => write!(formatter, "- Creatio {collection} {id}"),
        }
    }
}

/// The owner's mark in the CRM, as far as there is one.
#[must_use]
pub fn mark(observation: &Observation) -> Option<&str> {
    let owner = observation.crm.seen.as_ref()?.rows.as_ref()?.settings.as_ref()?.owner.trim();
    Some(owner).filter(|owner| !owner.is_empty())
}

/// Another owner of the channel's rows in the CRM, whom nobody has allowed to be overruled.
#[must_use]
pub fn other_owner(desired: &Desired, observation: &Observation) -> Option<String> {
    marked_elsewhere(desired, observation).filter(|_| !desired.adopt)
}

/// Another owner of the channel's rows in the CRM, whether it may be overruled or not.
#[must_use]
pub fn marked_elsewhere(desired: &Desired, observation: &Observation) -> Option<String> {
    let owner = mark(observation)?;
    (!desired.installation.has_marked(owner, &desired.channel)).then(|| owner.to_owned())
}

/// Another installation, or another channel of this one, whose address MAX calls for this bot, and
/// whom nobody has allowed to be overruled: who it is, and where.
///
/// Where two have subscribed at the same moment the older subscription counts, for both, so that
/// one of them goes on.
#[must_use]
pub fn other_address(desired: &Desired, observation: &Observation) -> Option<String> {
    if desired.adopt {
        return None;
    }
    let seen = subscriptions(desired, observation);
    let oldest = |wanted: Whose| {
        let ofs =
            seen.iter().filter(move |(_, whose)| *whose == wanted).map(|(seen, _)| (seen.time, seen.url.as_str()));
        ofs.min()
    };
    let (ours, elsewhere) = (oldest(Whose::Current), oldest(Whose::Elsewhere)?);
    if ours.is_some_and(|ours| ours < elsewhere) {
        return None;
    }
    Some(format!("{} ({})", subscription::holder(elsewhere.1)?, subscription::shown(elsewhere.1)))
}

/// Whether nothing outside says that the bot is another's: the channel's own mark stands in the
/// CRM, and MAX calls nobody else of this program. None: not all of it has been seen.
#[must_use]
pub fn is_undisputed(desired: &Desired, observation: &Observation) -> Option<bool> {
    observation.subscriptions.current(desired.token_fingerprint())?;
    observation.crm.seen.as_ref()?.rows.as_ref()?;
    let marked = mark(observation).is_some_and(|owner| desired.installation.has_marked(owner, &desired.channel));
    let elsewhere = subscriptions(desired, observation).iter().any(|(_, whose)| *whose == Whose::Elsewhere);
    Some(marked && !elsewhere)
}

/// Who shall take the dialogs, from the last directory seen; none while that or the receiver is
/// missing.
#[must_use]
pub fn resolved(desired: &Desired, observation: &Observation) -> Option<Resolved> {
    receiver::resolve(desired.receiver.as_ref(), observation.mango.seen.as_ref()?).ok()
}

/// The receiver's people with their numbers at MANGO OFFICE, for dialogs that come through it.
#[must_use]
pub fn mango_employees(desired: &Desired, observation: &Observation) -> Vec<MangoEmployee> {
    let users = observation.crm.seen.as_ref().map(|view| view.users.as_slice()).unwrap_or_default();
    let found = resolved(desired, observation).filter(|_| desired.intake == DesiredIntake::MangoDialogs);
    found.map(|resolved| receiver::employees(&resolved, users)).unwrap_or_default()
}

/// Everything that has to change. Empty while the channel is suspended or its bot is unknown; where
/// another has it no more than our own subscription is taken back.
#[must_use]
pub fn plan(desired: &Desired, observation: &Observation, bot: Option<&KnownBot>) -> Vec<Action> {
    let Some(bot) = bot else { return Vec::new() };
    if desired.suspended {
        return Vec::new();
    }
    // Whoever stands back takes its own address away, and only that: two that subscribed at the
    // same moment would each wait for the other otherwise.
    if other_owner(desired, observation).is_some() || other_address(desired, observation).is_some() {
        let mut seen = subscriptions(desired, observation);
        seen.retain(|(_, whose)| *whose == Whose::Current);
        return seen.into_iter().map(|(seen, _)| unsubscribe(seen, false)).collect();
    }
    let mut actions = rows(desired, observation, bot);
    actions.extend(intake(desired, observation));
    actions
}

fn unsubscribe(seen: &max::Subscription, foreign: bool) -> Action {
    Action::Unsubscribe { address: seen.url.clone(), foreign }
}

/// What is under our control in a row, as it shall be.
struct Wanted {
    collection: &'static str,
    id: Uuid,
    columns: Map<String, Value>,
}

impl Wanted {
    fn new<T: Entity>(id: Uuid, columns: Value) -> Self {
        let columns = if let Value::Object(columns) = columns { columns } else { Map::new() };
        Self { collection: T::COLLECTION, id, columns }
    }

    /// The action that makes `found` so; none where it is so.
    fn against(self, found: Option<&impl Serialize>) -> Option<Action> {
        let Self { collection, id, mut columns } = self;
        let Some(found) = found else { return Some(Action::Create { collection, id, columns }) };
        let found = serde_json::to_value(found).unwrap_or_default();
        columns.retain(|name, value| found.get(name.as_str()) != Some(value));
        (!columns.is_empty()).then_some(Action::Change { collection, id, columns })
    }
}

fn rows(desired: &Desired, observation: &Observation, bot: &KnownBot) -> Vec<Action> {
    let source = bot.source();
    let Ok(access) = &desired.crm_access else { return Vec::new() };
    let Some(view) = observation.crm.current(&crm_basis(&access.fingerprint, Some(&source))) else { return Vec::new() };
    let Some(seen) = &view.rows else { return Vec::new() };
    let resolved = resolved(desired, observation);
    let agents = resolved.as_ref().map(|resolved| receiver::agents(resolved, &view.users)).unwrap_or_default();
    if resolved.is_none() && seen.channel.is_none() {
        // Without a receiver a dialog would reach nobody: nothing is made yet, and the relay keeps
        // the messages.
        return Vec::new();
    }
    let mut actions: Vec<Action> = Vec::new();
    let settings = Wanted::new::<creatio::MaxChannelSettings>(
        ids::settings(&source),
        json!({
            "Name": bot.title(),
            "NotifyUrl": desired.notify_url(),
            "BotUserId": bot.user_id.to_string(),
            "Owner": desired.mark(),
        }),
    );
    actions.extend(settings.against(seen.settings.as_ref()));
    if let Some(resolved) = &resolved {
        actions.extend(queue(bot, resolved, view, seen));
        actions.extend(new_agents(&source, &agents, seen));
    }
    if seen.queue.is_some() || resolved.is_some() {
        let channel = Wanted::new::<creatio::Channel>(
            ids::channel(&source),
            json!({
                "Name": bot.title(),
                "ProviderId": ids::provider(),
                "MsgSettingsId": ids::settings(&source),
                "Source": source,
                "ChatQueueId": ids::queue(&source),
                "IsActive": true,
            }),
        );
        actions.extend(channel.against(seen.channel.as_ref()));
    }
    let mango_is_fresh =
        desired.mango.as_ref().is_ok_and(|access| observation.mango.current(&access.fingerprint).is_some());
    if mango_is_fresh && !agents.found.is_empty() {
        actions.extend(former_agents(&source, &agents, seen));
    }
    actions
}

fn queue(bot: &KnownBot, resolved: &Resolved, view: &super::observe::CrmView, seen: &Rows) -> Option<Action> {
    let rule = view.rules.iter().find(|rule| rule.code.eq_ignore_ascii_case(resolved.routing.code()));
    let mut columns = json!({
        "Name": bot.title(),
        "SimultaneousChats": resolved.dialogs_per_agent,
        // The relay closes dialogs, Creatio never by itself.
        "ChatTimeout": 0,
    });
    if let (Some(rule), Some(columns)) = (rule, columns.as_object_mut()) {
        columns.insert("OperatorRoutingRuleId".to_owned(), json!(rule.id));
    }
    Wanted::new::<creatio::ChatQueue>(ids::queue(&bot.source()), columns).against(seen.queue.as_ref())
}

fn new_agents(source: &str, agents: &Agents, seen: &Rows) -> Vec<Action> {
    agents
        .found
        .iter()
        .filter(|(agent, _)| seen.agents.iter().all(|row| row.agent_id != Some(*agent)))
        .map(|(agent, _)| Action::Create {
            collection: creatio::ChatQueueAgent::COLLECTION,
            id: ids::queue_agent(source, *agent),
            columns: Map::from_iter([
                ("ChatQueueId".to_owned(), json!(ids::queue(source))),
                ("OperatorId".to_owned(), json!(agent)),
            ]),
        })
        .collect()
}

/// Those of our own making only: whom the CRM's administrator has added by hand stays.
fn former_agents(source: &str, agents: &Agents, seen: &Rows) -> Vec<Action> {
    seen.agents
        .iter()
        .filter(|row| {
            row.agent_id.is_some_and(|agent| {
                row.id == ids::queue_agent(source, agent) && agents.found.iter().all(|(wanted, _)| *wanted != agent)
            })
        })
        .map(|row| Action::Delete { collection: creatio::ChatQueueAgent::COLLECTION, id: row.id })
        .collect()
}

/// Under which credentials, and for which bot, the CRM was looked at.
#[must_use]
pub fn crm_basis(access: &str, source: Option<&str>) -> String {
    format!("{access} {}", source.unwrap_or_default())
}

/// The address that shall be subscribed; none where the intake is not a webhook or there is no
/// token.
#[must_use]
pub fn wanted_address(desired: &Desired) -> Option<String> {
    let token = desired.token.as_ref().ok()?;
    let DesiredIntake::Webhook { base } = &desired.intake else { return None };
    Some(webhook::address(base, &desired.channel, &desired.installation, &token.webhook_fingerprint))
}

/// The subscriptions seen, each with whose it is.
#[must_use]
pub fn subscriptions<'a>(desired: &Desired, observation: &'a Observation) -> Vec<(&'a max::Subscription, Whose)> {
    let Ok(token) = &desired.token else { return Vec::new() };
    let Some(seen) = observation.subscriptions.seen.as_ref().filter(|seen| !seen.is_empty()) else { return Vec::new() };
    let wanted = wanted_address(desired);
    let ours = subscription::Ours {
        base: desired.public_base.as_ref(),
        channel: &desired.channel,
        installation: &desired.installation,
        fingerprint: &token.webhook_fingerprint,
    };
    seen.iter().map(|seen| (seen, subscription::whose(&seen.url, wanted.as_deref(), ours))).collect()
}

fn intake(desired: &Desired, observation: &Observation) -> Vec<Action> {
    if observation.subscriptions.current(desired.token_fingerprint()).is_none() {
        return Vec::new();
    }
    let seen = subscriptions(desired, observation);
    let mut actions = Vec::new();
    if let Some(address) = wanted_address(desired)
        && seen.iter().all(|(_, whose)| *whose != Whose::Current)
    {
        actions.push(Action::Subscribe { address });
    }
    // With MANGO's own intake the other subscription is MANGO OFFICE's.
    let foreign_go = desired.on_foreign == ForeignSubscription::Remove && desired.intake != DesiredIntake::MangoDialogs;
    for (seen, whose) in seen {
        // Another installation's goes only where it is overruled, whatever is to become of
        // foreign ones: it would put its own back.
        let goes = match whose {
            Whose::Current => false,
            Whose::Stale => true,
            Whose::Elsewhere => desired.adopt,
            Whose::Foreign => foreign_go,
        };
        if goes {
            actions.push(unsubscribe(seen, whose != Whose::Stale));
        }
    }
    actions
}

/// What takes a channel's objects outside away: our subscriptions, the channel's activity, the
/// owner mark. Rows stay, because the CRM keeps channels that have chats (wire contract,
/// `Channel`).
#[must_use]
pub fn removal(desired: &Desired, observation: &Observation, bot: Option<&KnownBot>) -> Vec<Action> {
    let mut actions: Vec<Action> = subscriptions(desired, observation)
        .into_iter()
        .filter(|(_, whose)| matches!(whose, Whose::Current | Whose::Stale))
        .map(|(seen, _)| unsubscribe(seen, false))
        .collect();
    let rows = observation.crm.seen.as_ref().and_then(|view| view.rows.as_ref());
    let (Some(bot), Some(rows), None) = (bot, rows, marked_elsewhere(desired, observation)) else { return actions };
    let source = bot.source();
    if rows.channel.as_ref().is_some_and(|channel| channel.is_active) {
        let columns = Map::from_iter([("IsActive".to_owned(), json!(false))]);
        actions.push(Action::Change { collection: creatio::Channel::COLLECTION, id: ids::channel(&source), columns });
    }
    if rows.settings.as_ref().is_some_and(|settings| !settings.owner.is_empty() || !settings.notify_url.is_empty()) {
        let columns = Map::from_iter([("Owner".to_owned(), json!("")), ("NotifyUrl".to_owned(), json!(""))]);
        let id = ids::settings(&source);
        actions.push(Action::Change { collection: creatio::MaxChannelSettings::COLLECTION, id, columns });
    }
    actions
}
