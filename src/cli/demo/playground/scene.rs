//! What the page shows: looked at from outside, at the simulators and at the runner's own
//! `/status`. Nothing of it is remembered here.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use maxchannel_simulator::max::{Entry, Transcript};
use serde_json::{Value, json};

use super::{Playground, edit};
use crate::cli::check;
use crate::cli::demo::stage::{NAMESPACE, SUPPORT, Stage};
use crate::cli::status;
use crate::local::{Shown, ShownChannel};
use crate::policy::Rules;
use crate::policy::timeline::{self, Act, Party};
use crate::time::{Clock, Millis};
use crate::web;
use crate::web::live::Parts;

/// Between two questions to the runner.
const RUNNER: Duration = Duration::from_millis(400);
/// How far ahead the page tells what will be sent by itself.
const AHEAD: Millis = 86_400_000;
/// The next replies of one dialog that are shown.
const NEXT: usize = 4;

/// Asks the runner again and again.
pub(super) async fn watch_runner(playground: Arc<Playground>) {
    loop {
        let url = playground.stage.lock().await.runner.url.clone();
        let answer = status::ask(&url).await.ok();
        *playground.said.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        tokio::time::sleep(RUNNER).await;
    }
}

/// One look at everything.
pub(super) async fn observe(playground: &Playground) -> Parts {
    let mut scene = Parts::new();
    let mut show = |name: &str, value: Value| {
        scene.insert(name.to_owned(), value.to_string().into());
    };
    let shown = playground.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (manifest, on) = {
        let switches = playground.switches();
        (switches.manifest.clone(), switches.on.clone())
    };
    let rules = edit::rules_of(&manifest);
    let stage = playground.stage.lock().await;
    let moved = stage.runner.moved;
    let now = moved.shown_at(Clock::real().now());
    let outbox = stage.crm.outbox();
    let mut customers = Vec::new();
    for (name, user) in &stage.customers {
        let sender = format!("max:{user}");
        let phone = stage.max.control().transcript(*user, stage.bot).ok();
        let desk = stage.crm.transcript(&sender);
        if let Some(rules) = &rules {
            let mut acts = acts(playground, phone.as_ref(), &desk, &outbox, &sender);
            // The simulators tell the real time.
            for (at, _) in &mut acts {
                *at = moved.shown_at(*at);
            }
            show(&format!("dialog {user}"), dialog(rules, &acts, now));
        }
        show(&format!("phone {user}"), phone.map_or(Value::Null, |phone| phone_json(&phone)));
        show(&format!("desk {user}"), desk.iter().map(desk_json).collect());
        customers.push(json!({"user": user, "name": name, "sender": sender}));
    }
    let agents: Vec<Value> = stage.agents.iter().map(|agent| json!({"id": agent.id, "name": agent.name})).collect();
    show("people", json!({"customers": customers, "agents": agents, "bot": "Служба поддержки"}));
    let hours = rules.as_ref().and_then(|rules| rules.working_hours.as_ref());
    let is_open = hours.is_none_or(|hours| hours.is_open(now));
    let zone = hours.and_then(|hours| hours.zone().iana_name());
    show("clock", json!({"by": moved.by, "zone": zone, "open": is_open}));
    show("chats", json!(stage.crm.chats(None)));
    show("mango", mango_json(&stage));
    show("channels", shown.as_ref().map_or(Value::Null, |shown| shown.channels.iter().map(channel_json).collect()));
    show("relay", relay_json(&stage, shown.as_ref(), &outbox));
    let lost = subscriptions(&stage) == 0;
    let mut faults = json!(on);
    if let Some(faults) = faults.as_array_mut() {
        faults.retain(|fault| fault != "subscriptionLost");
        if lost && on.iter().any(|fault| json!(fault) == "subscriptionLost") {
            faults.push(json!("subscriptionLost"));
        }
    }
    show("faults", faults);
    show("manifest", json!({"text": manifest, "findings": check::of_text(&manifest)}));
    scene
}

fn subscriptions(stage: &Stage) -> usize {
    stage.max.control().bot(stage.bot).map_or(0, |bot| bot.subscriptions.len())
}

fn phone_json(phone: &Transcript) -> Value {
    let messages: Vec<Value> = phone.messages.iter().map(entry_json).collect();
    let notice = phone.notifications.last().map(|(_, text)| text);
    json!({"state": phone.state, "messages": messages, "notice": notice})
}

fn entry_json(entry: &Entry) -> Value {
    let buttons = entry.attachments.iter().filter(|one| one.kind == "inline_keyboard");
    let buttons: Vec<&Value> = buttons
        .filter_map(|one| one.shown["payload"]["buttons"].as_array())
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .map(|button| &button["text"])
        .collect();
    let files = entry.attachments.iter().filter(|one| one.kind != "inline_keyboard");
    let files: Vec<Value> =
        files.map(|one| json!({"kind": one.kind, "name": one.name, "size": one.size, "file": one.file})).collect();
    json!({"id": entry.mid, "mine": !entry.from_bot, "at": entry.timestamp, "text": entry.text, "files": files,
        "buttons": buttons, "edited": entry.edited_at.is_some()})
}

fn desk_json(message: &Value) -> Value {
    json!({"id": message["id"], "chat": message["chatId"], "author": message["author"], "agent": message["agent"],
        "at": message["timestamp"], "text": message["text"], "files": message["attachments"], "type": message["type"],
        "outbox": message["outbox"]})
}

fn mango_json(stage: &Stage) -> Value {
    let mango = stage.mango.control();
    let groups = mango.groups();
    let employees: Vec<Value> = mango
        .employees()
        .iter()
        .map(|one| {
            let member = groups.iter().any(|group| group.members.contains(&one.user_id));
            json!({"id": one.user_id, "name": one.name, "extension": one.extension, "email": one.email, "member": member})
        })
        .collect();
    json!({"group": groups.first().map(|group| &group.name), "employees": employees})
}

fn channel_json(channel: &ShownChannel) -> Value {
    let status = &channel.status;
    let bot = status.bot.as_ref().map(|bot| json!({"name": bot.name, "username": bot.username}));
    json!({"namespace": channel.namespace, "name": channel.name, "bot": bot,
        "intake": status.intake.map(|intake| format!("{intake:?}")), "conditions": web::conditions(status)})
}

fn relay_json(stage: &Stage, shown: Option<&Shown>, outbox: &[Value]) -> Value {
    let of_support = |one: &&ShownChannel| one.namespace == NAMESPACE && one.name == SUPPORT;
    let relay = shown.and_then(|shown| shown.channels.iter().find(of_support)).and_then(|one| one.relay.as_ref());
    let messages = outbox.iter().filter(|row| row["Kind"] == "message");
    let mut states = BTreeMap::<&str, u32>::new();
    for row in messages {
        *states.entry(row["State"].as_str().unwrap_or("Pending")).or_default() += 1;
    }
    json!({"answers": shown.is_some(), "facts": relay, "outbox": states, "subscriptions": subscriptions(stage),
        "status": format!("{}/status", stage.runner.url), "folder": stage.folder.path().join("channels"),
        "problems": shown.map(|shown| &shown.problems)})
}

/// What has happened in a customer's dialogs, as far as both sides show it.
fn acts(
    playground: &Playground,
    phone: Option<&Transcript>,
    desk: &[Value],
    outbox: &[Value],
    sender: &str,
) -> Vec<(Millis, Act)> {
    let mut acts = Vec::new();
    if let Some(phone) = phone {
        let first = phone.messages.first().map_or(0, |first| first.timestamp);
        // The start button was pressed a moment before the first thing that the dialog shows.
        acts.push((first, Act::CustomerStarts));
        let written = phone.messages.iter().filter(|message| !message.from_bot);
        acts.extend(written.map(|message| (message.timestamp, Act::CustomerWrites(message.text.clone()))));
    }
    let of_bot = desk.iter().filter(|message| message["author"] == "bot");
    acts.extend(of_bot.filter_map(|message| Some((message["timestamp"].as_i64()?, Act::BotAnswers(String::new())))));
    acts.extend(playground.bot.handed_over(sender).into_iter().map(|at| (at, Act::BotHandsOver)));
    for row in outbox.iter().filter(|row| row["Recipient"] == sender) {
        let at = row["CreatedOn"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let act = match (row["Kind"].as_str().unwrap_or_default(), row["Reason"].as_str()) {
            ("accepted", _) => Act::AgentAccepts,
            ("message", _) => Act::AgentAnswers(String::new()),
            ("transferred", _) => Act::AgentTransfers,
            ("closed", Some("agent" | "timeout")) => Act::AgentCloses,
            _ => continue,
        };
        acts.extend(at.map(|at| (at.as_millisecond(), act)));
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

/// The dialog's state by the rules, and what they will send by themselves.
fn dialog(rules: &Rules, acts: &[(Millis, Act)], now: Millis) -> Value {
    if acts.is_empty() {
        return json!({"phase": "idle", "next": []});
    }
    let (past, phase) = timeline::play(rules, acts, now);
    let (lines, _) = timeline::play(rules, acts, now.saturating_add(AHEAD));
    let next = lines.iter().skip(past.len()).filter(|line| !line.happened && line.party == Party::Customer);
    let next: Vec<_> = next.take(NEXT).collect();
    json!({"phase": phase, "next": next, "open": rules.is_open(now)})
}
