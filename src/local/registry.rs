//! What the tasks of one process know of each other: who holds which account and bot, and how each
//! channel stands.
//!
//! Memory only, no I/O but the lines that tell of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::Level;

use crate::api::ChannelRef;
use crate::api::{MaxChannel, MaxChannelStatus};
use crate::channel::claims::{Claim, Conflict, conflicts};
use crate::channel::validate::Desired;
use crate::contract::Facts;
use crate::creatio;
use crate::telemetry;

/// Shared by all tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    conflicts: watch::Sender<BTreeMap<ChannelRef, Conflict>>,
    settled: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    claims: BTreeMap<ChannelRef, Claim>,
    /// Each channel's word in the limit of its CRM.
    crms: BTreeMap<ChannelRef, creatio::Place>,
    statuses: BTreeMap<ChannelRef, MaxChannelStatus>,
    problems: Vec<String>,
    /// Channels of the beginning whose first probe is not over.
    waiting: BTreeSet<ChannelRef>,
}

/// The answer of `/status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Shown {
    pub channels: Vec<ShownChannel>,
    /// What of the files cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// One channel in it, with the same status as in a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShownChannel {
    pub namespace: String,
    pub name: String,
    pub status: MaxChannelStatus,
    /// What the channel's relay knows of itself, as a relay in a cluster shows it under its own
    /// `/status`: what waits, and which dialogs will be closed for silence when. Absent while there
    /// is no relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<Facts>,
}

impl Default for Registry {
    fn default() -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            conflicts: watch::Sender::new(BTreeMap::new()),
            settled: watch::Sender::new(false),
        }))
    }
}

impl Registry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is shown under `/status`, but for the relays' own words.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let state = self.state();
        let channels = state.statuses.iter().map(|(channel, status)| ShownChannel {
            namespace: channel.namespace.clone(),
            name: channel.name.clone(),
            status: status.clone(),
            relay: None,
        });
        Shown { channels: channels.collect(), problems: state.problems.clone() }
    }

    /// What a channel asks for by its manifest; the bot is kept.
    pub(super) fn claim(
        &self,
        channel: &ChannelRef,
        place: usize,
        manifest: &MaxChannel,
        desired: &Desired,
        sites: &creatio::Sites,
    ) {
        let mut state = self.state();
        let pace = creatio::Pace::per_second(desired.crm.requests_per_second);
        state.crms.insert(channel.clone(), sites.enter(&desired.crm.url, pace));
        let bot = state.claims.get(channel).and_then(|claim| claim.bot);
        let claim = Claim {
            channel: channel.clone(),
            created: manifest.metadata.creation_timestamp.as_ref().map(|time| time.0),
            place,
            account_number: desired.account_number.clone(),
            api_key: desired.mango.as_ref().ok().map(|access| access.key_fingerprint.clone()),
            bot,
        };
        state.claims.insert(channel.clone(), claim);
        self.settle_claims(&state);
    }

    /// The bot that a channel has.
    pub(super) fn claim_bot(&self, channel: &ChannelRef, bot: i64) {
        let mut state = self.state();
        if let Some(claim) = state.claims.get_mut(channel).filter(|claim| claim.bot != Some(bot)) {
            claim.bot = Some(bot);
            self.settle_claims(&state);
        }
    }

    fn settle_claims(&self, state: &State) {
        let claims: Vec<Claim> = state.claims.values().cloned().collect();
        let found = conflicts(&claims);
        self.0.conflicts.send_if_modified(|before| {
            let changed = *before != found;
            *before = found;
            changed
        });
    }

    /// Who must stand back, and why.
    pub(super) fn conflicts(&self) -> watch::Receiver<BTreeMap<ChannelRef, Conflict>> {
        self.0.conflicts.subscribe()
    }

    /// A channel whose first probe the others wait for.
    pub(super) fn expect(&self, channel: &ChannelRef) {
        if !*self.0.settled.borrow() {
            self.state().waiting.insert(channel.clone());
        }
    }

    /// A channel's probe is over; with the last one expected everything is settled.
    pub(super) fn looked(&self, channel: &ChannelRef) {
        let mut state = self.state();
        state.waiting.remove(channel);
        if state.waiting.is_empty() {
            self.0.settled.send_if_modified(|settled| !std::mem::replace(settled, true));
        }
    }

    pub(super) fn settle(&self) {
        self.0.settled.send_if_modified(|settled| !std::mem::replace(settled, true));
    }

    /// Returns once all channels of the beginning have been looked at, or have taken too long.
    pub(super) async fn settled(&self) {
        // The sender lives as long as the registry.
        let _ = self.0.settled.subscribe().wait_for(|settled| *settled).await;
    }

    pub(super) fn set_problems(&self, problems: Vec<String>) {
        let mut state = self.state();
        if state.problems != problems {
            for problem in &problems {
                self.say(Level::WARN, problem);
            }
            if problems.is_empty() {
                self.say(Level::INFO, "all files can be read again");
            }
            state.problems = problems;
        }
    }

    /// Shows a channel's status, and tells of every condition that has changed.
    pub(super) fn publish(&self, channel: &ChannelRef, status: &MaxChannelStatus) {
        let before = self.state().statuses.insert(channel.clone(), status.clone());
        let before = before.map(|status| status.conditions).unwrap_or_default();
        for condition in &status.conditions {
            let known = before.iter().find(|known| known.type_ == condition.type_);
            let same = |known: &Condition| {
                (&known.status, &known.reason, &known.message)
                    == (&condition.status, &condition.reason, &condition.message)
            };
            // What is not known yet is no news.
            if !known.is_some_and(same) && condition.status != "Unknown" {
                let level = if is_good(condition) { Level::INFO } else { Level::WARN };
                self.say(level, &line(channel, condition));
            }
        }
    }

    pub(super) fn remove(&self, channel: &ChannelRef) {
        let mut state = self.state();
        state.statuses.remove(channel);
        state.claims.remove(channel);
        state.crms.remove(channel);
        state.waiting.remove(channel);
        self.settle_claims(&state);
    }

    /// One line for people on stdout.
    // The registry is where news is told; a method keeps the tasks from printing by themselves.
    #[allow(clippy::unused_self)]
    pub(super) fn say(&self, level: Level, line: &str) {
        telemetry::tell(level, line);
    }
}

fn is_good(condition: &Condition) -> bool {
    (condition.status == "True") != (condition.type_ == "Stalled")
}

/// Good news in green, bad news in red, on a terminal.
fn line(channel: &ChannelRef, condition: &Condition) -> String {
    let Condition { type_, status, reason, message, .. } = condition;
    let (on, off) = match (telemetry::colours(&std::io::stdout()), is_good(condition)) {
        (false, _) => ("", ""),
        (true, true) => ("\u{1b}[32m", "\u{1b}[0m"),
        (true, false) => ("\u{1b}[31m", "\u{1b}[0m"),
    };
    let (reason, message) = (telemetry::plain(reason), telemetry::plain(message));
    format!("{channel}: {on}{type_}={status} {reason}{off}: {message}")
}
