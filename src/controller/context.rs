//! What all passes share: settings, clients, who holds what, and what is kept of each channel.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::channel_state::{ChannelState, Kept, SharedSecrets};
use super::lease::Fence;
use super::metrics::{ConditionLabels, Metrics, RolloutLabels};
use super::resource::Channel;
use super::rollouts::Rollouts;
use super::scope::{Happened, Listener, Scope};
use super::writer::Writer;
use crate::api::ChannelRef;
use crate::channel::claims::{Claim, Conflict, conflicts};
use crate::channel::errands::Permits;
use crate::channel::observe::Clients;
use crate::channel::shares::{Holds, Shares};
use crate::contract::ReceiptFacts;
use crate::time::Clock;
use crate::transport::Transport;

/// How long no channel comes or goes before the shares of the others move, and how long they wait
/// for that at most.
const SHARES_QUIET: Duration = Duration::from_secs(2);
const SHARES_LATEST: Duration = Duration::from_secs(30);

/// See the module.
pub struct Context {
    pub settings: Settings,
    pub clients: Arc<Clients>,
    pub clock: Clock,
    pub writer: Writer,
    pub fence: Fence,
    pub metrics: Arc<Metrics>,
    /// Asks relays how they are.
    pub relays: Arc<dyn Transport>,
    pub rollouts: Rollouts,
    pub permits: Arc<Permits>,
    /// Who is to be told of another share of a CRM.
    pub shares_changed: Notify,
    pub secrets: SharedSecrets,
    scopes: RwLock<Vec<Arc<Scope>>>,
    state: Mutex<State>,
    shares: Mutex<Shares>,
}

#[derive(Debug, Default)]
struct State {
    channels: HashMap<ChannelRef, Record>,
    named: Named,
    /// None: to be found out anew.
    conflicts: Option<BTreeMap<ChannelRef, Conflict>>,
}

/// Everything that is kept of one channel; gone with it. Passes change [`ChannelState`], the watch
/// the rest.
#[derive(Debug, Default)]
struct Record {
    claim: Option<Claim>,
    state: Option<Arc<tokio::sync::Mutex<ChannelState>>>,
    /// Of a state that was forgotten.
    kept: Kept,
    /// Cancelled by everything that a pass under way should not ignore.
    interruption: Option<CancellationToken>,
    /// How many passes in a row have failed.
    attempts: u32,
    /// What the relay has told last of its messages.
    receipt: Option<ReceiptFacts>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Context {
    pub fn new(
        settings: Settings,
        clients: Arc<Clients>,
        writer: Writer,
        fence: Fence,
        metrics: Arc<Metrics>,
        relays: Arc<dyn Transport>,
    ) -> Self {
        let rollouts = Rollouts::new(settings.rollout_parallelism);
        Self {
            settings,
            clients,
            clock: Clock::real(),
            writer,
            fence,
            metrics,
            relays,
            rollouts,
            permits: Arc::default(),
            shares_changed: Notify::new(),
            secrets: SharedSecrets::default(),
            scopes: RwLock::default(),
            state: Mutex::default(),
            shares: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each relay may ask of its CRM.
    pub fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The CRM of a channel, as it asks for it in a pass or as the watch shows it.
    pub fn shares_in(&self, channel: &ChannelRef, crm: (&str, usize), holds: Holds) {
        if self.shares().put(channel, crm, holds, self.clock.passed()) {
            self.shares_changed.notify_one();
        }
    }

    /// The channel asks no CRM any more.
    pub fn shares_out(&self, channel: &ChannelRef) {
        if self.shares().remove(channel, self.clock.passed()) {
            self.shares_changed.notify_one();
        }
    }

    /// Kicks whoever is to be told of another share, some time after channels have come or gone: a
    /// hundred channels that are made one after another move everybody's share once.
    pub async fn follow_shares(&self) {
        loop {
            self.shares_changed.notified().await;
            let latest = Instant::now() + SHARES_LATEST;
            while Instant::now() < latest {
                let quiet = latest.min(Instant::now() + SHARES_QUIET);
                if timeout_at(quiet, self.shares_changed.notified()).await.is_err() {
                    break;
                }
            }
            let due = self.shares().due(self.clock.passed());
            for channel in &due {
                self.kick(channel);
            }
        }
    }

    pub fn add_scope(&self, scope: Arc<Scope>) {
        self.scopes.write().unwrap_or_else(PoisonError::into_inner).push(scope);
    }

    pub fn scopes(&self) -> Vec<Arc<Scope>> {
        self.scopes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for a pass over a channel.
    pub fn kick(&self, channel: &ChannelRef) {
        if let Some(scope) = self.scopes().iter().find(|scope| scope.covers(&channel.namespace)) {
            scope.kick(channel);
        }
    }

    /// What is kept of a channel, made by `new` where there is nothing yet.
    pub fn channel_state(
        &self,
        channel: &ChannelRef,
        new: impl FnOnce() -> ChannelState,
    ) -> Arc<tokio::sync::Mutex<ChannelState>> {
        let mut state = self.state();
        let Record { state, kept, .. } = state.channels.entry(channel.clone()).or_default();
        let new = || Arc::new(tokio::sync::Mutex::new(new().with(std::mem::take(kept))));
        state.get_or_insert_with(new).clone()
    }

    /// Forgets what was kept of channels: another replica may change everything of them now. What
    /// is known by its version stays, so that one that leads again a moment later, as after an
    /// outage of the API server, does not read everything again.
    pub fn forget(&self, is_lost: impl Fn(&ChannelRef) -> bool) {
        let mut state = self.state();
        for (_, record) in state.channels.iter_mut().filter(|(channel, _)| is_lost(channel)) {
            if let Some(state) = record.state.take()
                && let Ok(mut state) = state.try_lock()
            {
                record.kept = state.keep();
            }
            record.attempts = 0;
            record.receipt = None;
        }
        self.metrics.objects_in_backoff.set(state.failing());
        drop(state);
        for channel in self.rollouts.all() {
            if is_lost(&channel) {
                self.ended_rollout(&channel);
            }
        }
    }

    /// Nobody waits any more for a relay that this replica does not follow.
    pub fn ended_rollout(&self, channel: &ChannelRef) {
        self.rollouts.ended(channel).iter().for_each(|next| self.kick(next));
    }

    /// Cancelled by everything from now on that a pass under way should not ignore.
    pub fn interruption(&self, channel: &ChannelRef) -> CancellationToken {
        self.state().channels.entry(channel.clone()).or_default().interruption.get_or_insert_default().clone()
    }

    fn changed(&self, channel: &ChannelRef) {
        if let Some(interruption) = self.state().channels.get_mut(channel).and_then(|record| record.interruption.take())
        {
            interruption.cancel();
        }
    }

    /// Completes a channel's claim by what a pass has found out, and says who holds what it asks
    /// for. Those who are newly in each other's way, or no longer, are kicked.
    pub fn claim(&self, channel: &ChannelRef, api_key: Option<String>, bot: Option<i64>) -> Option<Conflict> {
        let kicked = {
            let mut state = self.state();
            let before = state.claim(channel)?;
            // What could not be found out this time is as before.
            let claim =
                Claim { api_key: api_key.or(before.api_key.clone()), bot: bot.or(before.bot), ..before.clone() };
            if state.put(claim) { state.settle() } else { Vec::new() }
        };
        kicked.iter().filter(|other| *other != channel).for_each(|other| self.kick(other));
        let mut state = self.state();
        if state.conflicts.is_none() {
            state.settle();
        }
        state.conflicts.as_ref().and_then(|conflicts| conflicts.get(channel).cloned())
    }

    /// How often in a row the passes of a channel have failed, with this one.
    pub fn failed(&self, channel: &ChannelRef) -> u32 {
        let mut state = self.state();
        let record = state.channels.entry(channel.clone()).or_default();
        record.attempts = record.attempts.saturating_add(1);
        let attempts = record.attempts;
        self.metrics.objects_in_backoff.set(state.failing());
        attempts
    }

    /// Counts channels by their conditions, and those that wait for a pass, for a scrape.
    pub fn count_channels(&self) {
        let waiting = self.scopes().iter().map(|scope| scope.queue.depth()).sum::<usize>();
        for (state, count) in self.rollouts.counts() {
            let relays = self.metrics.rollout.get_or_create(&RolloutLabels { state });
            relays.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.metrics.queue_depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let channels: Vec<_> = self.scopes().iter().flat_map(|scope| scope.channels.state()).collect();
        let mut counts: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for condition in channels.iter().flat_map(|channel| channel.conditions()) {
            *counts.entry((&condition.type_, &condition.status)).or_default() += 1;
        }
        self.metrics.conditions.clear();
        for ((type_, status), count) in counts {
            let labels = ConditionLabels { r#type: type_.to_owned(), status: status.to_owned() };
            self.metrics.conditions.get_or_create(&labels).set(count);
        }
        let receipts: Vec<ReceiptFacts> = self.state().channels.values().filter_map(|record| record.receipt).collect();
        self.metrics.set_receipt(&ReceiptFacts {
            to_crm: receipts.iter().map(|receipt| receipt.to_crm).sum(),
            to_max: receipts.iter().map(|receipt| receipt.to_max).sum(),
        });
        self.metrics.channels.set(i64::try_from(channels.len()).unwrap_or(i64::MAX));
    }

    /// Takes in what a relay says of its messages.
    pub fn hear_receipt(&self, channel: &ChannelRef, receipt: Option<ReceiptFacts>) {
        if let Some(record) = self.state().channels.get_mut(channel) {
            record.receipt = receipt.or(record.receipt);
        }
    }

    pub fn succeeded(&self, channel: &ChannelRef) {
        let mut state = self.state();
        let attempts = state.channels.get_mut(channel).map(|record| std::mem::take(&mut record.attempts));
        if attempts.is_some_and(|attempts| attempts > 0) {
            self.metrics.objects_in_backoff.set(state.failing());
        }
    }
}

/// How many claims name each account number, key and bot. As long as none is named twice there is
/// nothing to settle, and looking at all claims whenever one changes would take a time that grows
/// with the square of the channels.
#[derive(Debug, Default)]
struct Named {
    counts: HashMap<String, usize>,
    /// Names that are there more than once.
    named_twice: usize,
}

impl Named {
    fn names(claim: &Claim) -> impl Iterator<Item = String> {
        let key = claim.api_key.as_ref().map(|key| format!("key {key}"));
        let bot = claim.bot.map(|bot| format!("bot {bot}"));
        [Some(format!("number {}", claim.account_number)), key, bot].into_iter().flatten()
    }

    fn add(&mut self, claim: &Claim) {
        for name in Self::names(claim) {
            let count = self.counts.entry(name).or_default();
            *count += 1;
            self.named_twice += usize::from(*count == 2);
        }
    }

    fn remove(&mut self, claim: &Claim) {
        for name in Self::names(claim) {
            if let Some(count) = self.counts.get_mut(&name) {
                *count -= 1;
                self.named_twice -= usize::from(*count == 1);
                if *count == 0 {
                    self.counts.remove(&name);
                }
            }
        }
    }
}

impl State {
    /// False: it was the same before.
    fn put(&mut self, claim: Claim) -> bool {
        if self.claim(&claim.channel) == Some(&claim) {
            return false;
        }
        self.named.add(&claim);
        let record = self.channels.entry(claim.channel.clone()).or_default();
        if let Some(before) = record.claim.replace(claim) {
            self.named.remove(&before);
        }
        true
    }

    /// The channel is gone, and everything that was kept of it.
    fn take(&mut self, channel: &ChannelRef) {
        if let Some(claim) = self.channels.remove(channel).and_then(|record| record.claim) {
            self.named.remove(&claim);
        }
    }

    fn claim(&self, channel: &ChannelRef) -> Option<&Claim> {
        self.channels.get(channel)?.claim.as_ref()
    }

    /// How many channels' last passes have failed.
    fn failing(&self) -> i64 {
        let failing = self.channels.values().filter(|record| record.attempts > 0).count();
        i64::try_from(failing).unwrap_or(i64::MAX)
    }

    /// Finds the conflicts anew; answers whose have changed.
    fn settle(&mut self) -> Vec<ChannelRef> {
        let found = if self.named.named_twice == 0 {
            BTreeMap::new()
        } else {
            conflicts(&self.channels.values().filter_map(|record| record.claim.clone()).collect::<Vec<_>>())
        };
        let before = self.conflicts.replace(found.clone()).unwrap_or_default();
        let mut changed: Vec<ChannelRef> = found
            .iter()
            .filter(|(channel, conflict)| before.get(channel) != Some(conflict))
            .map(|(channel, _)| channel.clone())
            .collect();
        changed.extend(before.into_keys().filter(|channel| !found.contains_key(channel)));
        changed
    }
}

impl Listener for Context {
    fn channel(&self, channel: &Channel, happened: Happened, desired_changed: bool) {
        let name = channel.reference();
        if happened == Happened::Deleted {
            self.shares_out(&name);
            self.ended_rollout(&name);
        } else if self.shares().knows(&name) {
            // Of one that this replica leads a pass says so, when its relay is under the settings.
            if desired_changed && self.fence.check(&name).is_err() {
                match channel.crm() {
                    Some((site, limit)) => self.shares_in(&name, (&site, limit), Holds::Unheard),
                    None => self.shares_out(&name),
                }
            }
        } else if let Some((site, limit)) = channel.crm() {
            // Before any pass: who knows of some only would hand out what the others hold. A relay
            // may be there before the status tells of it, but never before the finalizer.
            let holds = if channel.has_finalizer() { Holds::Unheard } else { Holds::Nothing };
            self.shares_in(&name, (&site, limit), holds);
        }
        let kicked = {
            let mut state = self.state();
            if happened == Happened::Deleted {
                state.take(&name);
                state.settle()
            } else if desired_changed {
                let bot = channel.status.as_ref().and_then(|status| status.bot.as_ref());
                let claim = Claim {
                    channel: name.clone(),
                    created: channel.metadata.creation_timestamp.as_ref().map(|Time(time)| *time),
                    place: 0,
                    account_number: channel.account_number().unwrap_or_default(),
                    api_key: state.claim(&name).and_then(|claim| claim.api_key.clone()),
                    bot: bot.map(|bot| bot.user_id).or_else(|| state.claim(&name)?.bot),
                };
                if state.put(claim) {
                    // Found out anew when it is asked for: at the start thousands come in a row.
                    state.conflicts = None;
                }
                Vec::new()
            } else {
                Vec::new()
            }
        };
        if desired_changed {
            self.changed(&name);
        }
        for other in &kicked {
            self.kick(other);
        }
    }

    fn secret(&self, channel: &ChannelRef) {
        self.changed(channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_found_whichever_claim_changes_and_goes_with_either() {
        let claim = |name: &str, number: &str, key: Option<&str>, bot: Option<i64>| Claim {
            channel: ChannelRef::new("n", name),
            created: None,
            place: 0,
            account_number: number.to_owned(),
            api_key: key.map(ToOwned::to_owned),
            bot,
        };
        let mut state = State::default();
        for (change, in_conflict) in [
            (claim("a", "1", Some("k"), None), vec![]),
            (claim("b", "2", None, None), vec![]),
            (claim("b", "2", Some("k"), None), vec!["b"]),
            (claim("b", "2", Some("other"), Some(7)), vec![]),
            (claim("c", "3", None, Some(7)), vec!["c"]),
            (claim("d", "1", None, None), vec!["c", "d"]),
            (claim("c", "3", None, Some(8)), vec!["d"]),
        ] {
            state.put(change.clone());
            state.settle();
            let found: Vec<&str> = state.conflicts.iter().flatten().map(|(channel, _)| channel.name.as_str()).collect();
            assert_eq!(found, in_conflict, "after {change:?}");
        }
        state.take(&ChannelRef::new("n", "a"));
        assert_eq!(state.settle(), [ChannelRef::new("n", "d")]);
        for name in ["b", "c", "d"] {
            state.take(&ChannelRef::new("n", name));
        }
        assert!(state.named.counts.is_empty() && state.named.named_twice == 0);
    }
}
