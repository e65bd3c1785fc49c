//! Which replica writes for which channels, by Leases of the cluster: one, or one for each of the
//! shards into which the channels are divided.
//!
//! Owns the leases. Invariants: a holder is believed gone only when its lease has not changed
//! for the whole duration *as seen from here*, so that no clock of another machine is trusted;
//! every write carries the resource version that was read, so that of two who try at once one
//! fails; a leader that could not renew for two thirds of the duration stops writing, before
//! another may begin; a shard is given up to another replica only once no pass in it is under way;
//! the number of shards stands on the first one's lease, and is changed only by a replica that has
//! all shards. Must not know what the leader does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::settings::Settings;
use crate::api::ChannelRef;

/// So many shards at most.
pub const MOST: u32 = 16;
/// How long a silent leader is waited for.
pub const DURATION: Duration = Duration::from_secs(15);

/// On the lease of the first shard: into how many shards the channels are divided now.
const SHARDS: &str = "maxchannel.dev/shards";
/// On a shard's lease: who has fewer shards than its holder, and asks for this one.
const WANTED_BY: &str = "maxchannel.dev/wanted-by";

/// For which channels this process may write now: those of the shards whose leases it holds.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    table: Mutex<Table>,
    /// Grows whenever a shard is won or lost.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Table {
    /// How many there are.
    shards: u32,
    held: BTreeMap<u32, Hold>,
    /// Times that a shard was won.
    wins: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self { shards: 1, held: BTreeMap::new(), wins: 0 }
    }
}

#[derive(Debug)]
struct Hold {
    until: Instant,
    /// Which win this is.
    win: u64,
    /// It is about to be given up: what is under way may end, and nothing new begins.
    leaves: bool,
    /// Passes under way.
    passes: Arc<()>,
}

/// Another replica has the channel's shard, or nobody can say who does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica does not lead any more, so it writes nothing")]
pub struct Lost;

/// A pass under way; its shard is not given up before it is dropped.
#[derive(Debug)]
pub struct Pass(#[allow(dead_code, reason = "counted")] Arc<()>);

/// The shard of a channel: the same in every process and version.
#[must_use]
pub fn shard_of(channel: &ChannelRef, shards: u32) -> u32 {
    // FNV-1a: the hash of the standard library may change with the compiler.
    let name = [channel.namespace.as_bytes(), b"/", channel.name.as_bytes()].concat();
    let hash = name
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    // Both halves: the low one alone is mixed less well.
    u32::try_from((hash ^ (hash >> 32)) % u64::from(shards.max(1))).unwrap_or(0)
}

impl Fence {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// Nothing may be written for this channel now.
    pub fn check(&self, channel: &ChannelRef) -> Result<(), Lost> {
        let table = self.table();
        table
            .held
            .get(&shard_of(channel, table.shards))
            .filter(|hold| Instant::now() < hold.until)
            .map(|_| ())
            .ok_or(Lost)
    }

    /// Whether this process speaks for the whole installation: it has the first shard.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.table().held.get(&0).is_some_and(|hold| Instant::now() < hold.until)
    }

    /// Leave to begin a pass over a channel; none: it is another's, or about to be.
    #[must_use]
    pub fn begin(&self, channel: &ChannelRef) -> Option<Pass> {
        let table = self.table();
        let hold = table.held.get(&shard_of(channel, table.shards))?;
        (!hold.leaves && Instant::now() < hold.until).then(|| Pass(hold.passes.clone()))
    }

    /// How many shards there are, and which win each of the held ones is.
    #[must_use]
    pub fn held(&self) -> (u32, BTreeMap<u32, u64>) {
        let table = self.table();
        (table.shards, table.held.iter().map(|(shard, hold)| (*shard, hold.win)).collect())
    }

    /// Changes whenever a shard is won or lost.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Returns once this process may not write for the channel any more.
    pub async fn lost(&self, channel: &ChannelRef) {
        let mut changes = self.changes();
        let win = || {
            let table = self.table();
            table.held.get(&shard_of(channel, table.shards)).map(|hold| hold.win)
        };
        let before = win();
        while before.is_some() && win() == before {
            // The sender lives as long as this fence.
            let _ = changes.changed().await;
        }
    }

    /// Returns once this process has the first shard.
    pub async fn first(&self) {
        let mut changes = self.changes();
        while !self.is_first() {
            let _ = changes.changed().await;
        }
    }

    fn set(&self, shard: u32, until: Option<Instant>) {
        let mut table = self.table();
        let before = table.held.get(&shard).map(|hold| hold.until);
        // Renewed after it had lapsed, as by a process that stood still: passes were turned away
        // meanwhile, and whoever asks for them when the lease is won must do so again.
        let is_won = until.is_some() && before.is_none_or(|before| before <= Instant::now());
        let is_lost = until.is_none() && before.is_some();
        match until {
            None => drop(table.held.remove(&shard)),
            Some(until) if is_won => {
                table.wins += 1;
                let win = table.wins;
                table.held.insert(shard, Hold { until, win, leaves: false, passes: Arc::default() });
            }
            Some(until) => {
                if let Some(hold) = table.held.get_mut(&shard) {
                    hold.until = until;
                }
            }
        }
        drop(table);
        if is_won || is_lost {
            self.0.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// Another number of shards is in force: what was held of the others is none of this process's
    /// but for those that are won again.
    fn divide(&self, shards: u32) {
        let mut table = self.table();
        if table.shards == shards {
            return;
        }
        table.shards = shards;
        table.held.clear();
        drop(table);
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    fn until(&self, shard: u32) -> Option<Instant> {
        self.table().held.get(&shard).map(|hold| hold.until)
    }

    /// Begins nothing more in a shard, and waits for what is under way, but not for ever.
    async fn drain(&self, shard: u32, limit: Duration) {
        let passes = {
            let mut table = self.table();
            let Some(hold) = table.held.get_mut(&shard) else { return };
            hold.leaves = true;
            Arc::downgrade(&hold.passes)
        };
        let limit = Instant::now() + limit;
        // One is the table's own.
        while passes.strong_count() > 1 && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What one check of the lease asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Replace,
    Wait,
}

/// What was seen of another holder, and since when it has not changed.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    spec: LeaseSpec,
    since: Instant,
}

fn decide(lease: Option<&Lease>, identity: &str, seen: &mut Option<Seen>, duration: Duration, now: Instant) -> Step {
    let Some(lease) = lease else { return Step::Create };
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder.is_empty() || holder == identity {
        *seen = None;
        return Step::Replace;
    }
    // Whichever is longer: the holder may have been told another duration than this replica.
    let its = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(duration, Duration::from_secs);
    match seen {
        Some(before) if before.spec == spec => {
            if now.duration_since(before.since) >= its.max(duration) {
                Step::Replace
            } else {
                Step::Wait
            }
        }
        _ => {
            *seen = Some(Seen { spec, since: now });
            Step::Wait
        }
    }
}

fn renewed(before: Option<LeaseSpec>, identity: &str, duration: Duration, now: Timestamp) -> LeaseSpec {
    let before = before.unwrap_or_default();
    let is_new = before.holder_identity.as_deref() != Some(identity);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(15)),
        acquire_time: if is_new { Some(MicroTime(now)) } else { before.acquire_time },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(is_new)),
        ..before
    }
}

/// One process in the election.
pub struct Election {
    api: Api<Lease>,
    namespace: String,
    name: String,
    identity: String,
    duration: Duration,
    /// Into how many shards this process shall divide the channels.
    wanted: u32,
    fence: Fence,
    /// What was seen of each shard's lease.
    seen: BTreeMap<u32, Option<Seen>>,
    /// Since when each shard's lease has been free.
    free: BTreeMap<u32, Instant>,
    /// Since when each shard's lease may not be read: the role names fewer shards than before, so
    /// that nobody can renew it any more.
    barred: BTreeMap<u32, Instant>,
}

impl std::fmt::Debug for Election {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Election").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Election {
    pub fn new(client: Client, settings: &Settings, fence: Fence) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            namespace: settings.namespace.clone(),
            name: settings.lease.clone(),
            identity: settings.identity.clone(),
            duration: settings.lease_duration,
            wanted: settings.shards.max(1),
            fence,
            seen: BTreeMap::new(),
            free: BTreeMap::new(),
            barred: BTreeMap::new(),
        }
    }

    /// The lease of a shard; the first one's is that of an installation without shards.
    fn lease(&self, shard: u32) -> String {
        if shard == 0 { self.name.clone() } else { format!("{}-{shard}", self.name) }
    }

    /// Takes part in the election until `stop`; then [`Election::vacate`] gives up what it has.
    pub async fn run(&mut self, stop: &CancellationToken) {
        let mut told = String::new();
        while !stop.is_cancelled() {
            let began = Instant::now();
            let outcome = tokio::select! {
                outcome = self.round() => outcome,
                () = stop.cancelled() => break,
            };
            match outcome {
                Ok(()) => told.clear(),
                Err(error) if error != told => {
                    tracing::warn!("the leases {}/{} cannot be read or renewed: {error}", self.namespace, self.name);
                    told = error;
                }
                Err(_) => {}
            }
            let (shards, held) = self.fence.held();
            let now = Instant::now();
            for shard in held.keys().filter(|shard| self.fence.until(**shard).is_some_and(|until| until <= now)) {
                self.fence.set(*shard, None);
            }
            // A follower looks more often than a leader renews, so that a lease given up is taken
            // up soon.
            let has_all = held.len() == shards as usize;
            let pause = if has_all { self.duration / 3 } else { self.duration / 8 };
            let lapses = held.keys().filter_map(|shard| self.fence.until(*shard)).min();
            let next = lapses.map_or(began + pause, |lapses| lapses.min(began + pause));
            tokio::select! {
                () = tokio::time::sleep_until(next.max(began + Duration::from_millis(200))) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Looks at all leases once, and takes, renews or gives up what is to be.
    async fn round(&mut self) -> Result<(), String> {
        let first = self.read(0).await?;
        let shards = first.as_ref().map_or(self.wanted, divided);
        self.fence.divide(shards);
        self.seen.retain(|shard, _| *shard < shards);
        self.free.retain(|shard, _| *shard < shards);
        self.barred.retain(|shard, _| *shard < shards);
        // All at once: one after the other they could take longer than what they renew lasts.
        let asked = future::join_all((1..shards).map(|shard| self.ask(shard))).await;
        let mut leases = vec![first];
        for (shard, lease) in (1..shards).zip(asked) {
            let lease = lease?;
            if lease.is_none() {
                self.barred.entry(shard).or_insert_with(Instant::now);
                self.fence.set(shard, None);
            } else {
                self.barred.remove(&shard);
            }
            leases.push(lease.flatten());
        }
        let holder = |lease: &Option<Lease>| {
            let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
            spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty())
        };
        let mut by_holder: BTreeMap<String, usize> = BTreeMap::new();
        leases.iter().filter_map(holder).for_each(|holder| *by_holder.entry(holder).or_default() += 1);
        let mut mine = by_holder.get(&self.identity).copied().unwrap_or(0);
        let past = self.barred.values().filter(|since| since.elapsed() >= self.duration).count();
        let has_all = mine + past == shards as usize;
        // Whoever has the first shard and shall divide the channels otherwise needs all of them.
        let first_holder = holder(&leases[0]);
        let gathers = self.wanted != shards && first_holder.as_ref() == Some(&self.identity);
        let mut given_up = Vec::new();
        let mut taken = Vec::new();
        let mut asks = None;
        // Each begins at another one, so that they do not all try for the same.
        let offset = shard_of(&ChannelRef::new("", &self.identity), shards);
        for shard in (0..shards).map(|shard| (shard + offset) % shards) {
            if self.barred.contains_key(&shard) {
                continue;
            }
            let lease = leases[shard as usize].take();
            let is_mine = holder(&lease).as_ref() == Some(&self.identity);
            let asked_by = lease.as_ref().and_then(|lease| lease.annotations().get(WANTED_BY).cloned());
            let asked_by = asked_by.filter(|who| *who != self.identity);
            let step = decide(
                lease.as_ref(),
                &self.identity,
                self.seen.entry(shard).or_default(),
                self.duration,
                Instant::now(),
            );
            if step == Step::Wait {
                self.free.remove(&shard);
                self.fence.set(shard, None);
                let most = holder(&lease).and_then(|holder| by_holder.get(&holder).copied()).unwrap_or(0);
                if gathers || (most >= mine + 2 && asked_by.is_none()) {
                    asks = asks.or(lease.map(|lease| (shard, lease)));
                }
                continue;
            }
            let is_gathered = asked_by.is_some() && asked_by == first_holder && self.wanted != shards;
            if is_mine {
                let has = asked_by.as_ref().and_then(|who| by_holder.get(who).copied()).unwrap_or(0);
                let is_fair = asked_by.is_some() && mine >= has + 2 && given_up.is_empty() && !gathers;
                if is_fair || is_gathered {
                    mine -= 1;
                    given_up.push((shard, lease.unwrap_or_default()));
                    continue;
                }
            } else if is_gathered {
                // Given up for whoever gathers them, who would never have all if others took it.
                self.free.remove(&shard);
                continue;
            } else {
                // Whoever has none takes it at once, others only if nobody does.
                let since = *self.free.entry(shard).or_insert_with(Instant::now);
                let others = if gathers { 0 } else { usize::from(asked_by.is_some()) + mine };
                let wait = self.duration / 4 * u32::try_from(others).unwrap_or(u32::MAX);
                if since.elapsed() < wait {
                    continue;
                }
            }
            mine += usize::from(!is_mine);
            taken.push((shard, lease));
        }
        let took = future::join_all(taken.into_iter().map(|(shard, lease)| self.take(shard, shards, lease)));
        let gave_up = future::join_all(given_up.into_iter().map(|(shard, lease)| self.give_up(shard, lease)));
        let (took, gave_up) = future::join(took, gave_up).await;
        gave_up.into_iter().collect::<Result<(), String>>()?;
        for taken in took {
            if let Some(shard) = taken? {
                self.free.remove(&shard);
            }
        }
        if has_all && self.wanted != shards {
            return self.divide(shards).await;
        }
        if let (0, Some((shard, mut lease))) = (self.free.len(), asks)
            && lease.annotations().get(WANTED_BY) != Some(&self.identity)
        {
            lease.annotations_mut().insert(WANTED_BY.to_owned(), self.identity.clone());
            self.write(shard, &lease).await?;
        }
        Ok(())
    }

    /// Takes or renews a shard's lease. None: another was faster, or there is another number of
    /// shards meanwhile.
    async fn take(&self, shard: u32, shards: u32, lease: Option<Lease>) -> Result<Option<u32>, String> {
        let began = Instant::now();
        let is_new = self.fence.until(shard).is_none();
        let mut lease = lease.unwrap_or_default();
        lease.spec = Some(renewed(lease.spec.take(), &self.identity, self.duration, Timestamp::now()));
        if is_new && let Some(annotations) = &mut lease.metadata.annotations {
            annotations.remove(WANTED_BY);
        }
        if shard == 0 && shards > 1 {
            lease.annotations_mut().insert(SHARDS.to_owned(), shards.to_string());
        }
        if !self.write(shard, &lease).await? {
            self.fence.set(shard, None);
            return Ok(None);
        }
        if is_new && shard > 0 && self.read(0).await?.as_ref().map(divided) != Some(shards) {
            // Whoever changed the number had this lease, and so before it was taken here.
            return Ok(None);
        }
        // Counted from before the request: the server's clock cannot have started later.
        self.fence.set(shard, Some(began + self.duration * 2 / 3));
        Ok(Some(shard))
    }

    /// Gives a shard up to whoever asks for it, once nothing is under way in it.
    async fn give_up(&self, shard: u32, mut lease: Lease) -> Result<(), String> {
        tracing::info!(shard, "given up to a replica that has fewer");
        self.fence.drain(shard, self.duration / 4).await;
        self.fence.set(shard, None);
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.acquire_time = None;
        }
        self.write(shard, &lease).await.map(drop)
    }

    /// Divides the channels into as many shards as this process shall. It has all shards, so that
    /// nobody else writes; whoever takes one of the new ones reads the number after that.
    async fn divide(&self, before: u32) -> Result<(), String> {
        let (_, held) = self.fence.held();
        if held.len() + self.barred.len() != before as usize {
            return Ok(());
        }
        future::join_all(held.keys().map(|shard| self.fence.drain(*shard, self.duration / 4))).await;
        let Some(mut first) = self.read(0).await? else { return Ok(()) };
        let is_mine = |lease: &Lease| {
            lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(self.identity.as_str())
        };
        let now = Instant::now();
        let has_all = held.keys().all(|shard| self.fence.until(*shard).is_some_and(|until| until > now));
        // Nothing is written from here on until the shards are won again: whether a request without
        // an answer took effect nobody knows, and others believe the lease.
        self.fence.divide(self.wanted);
        if !has_all || !is_mine(&first) {
            return Ok(());
        }
        first.annotations_mut().insert(SHARDS.to_owned(), self.wanted.to_string());
        if !self.write(0, &first).await? {
            return Ok(());
        }
        tracing::info!(before, shards = self.wanted, "the channels are divided anew");
        let surplus = (self.wanted..before).filter(|shard| !self.barred.contains_key(shard));
        future::join_all(surplus.map(|shard| self.vacate_one(shard))).await.into_iter().collect()
    }

    /// Gives all shards up, so that other replicas begin at once. Called when nothing is being
    /// written any more.
    pub async fn vacate(&self) {
        let (_, held) = self.fence.held();
        for shard in held.into_keys() {
            self.fence.set(shard, None);
            match tokio::time::timeout(Duration::from_secs(5), self.vacate_one(shard)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("the lease {} could not be given up: {error}", self.lease(shard)),
                Err(_) => tracing::warn!("the lease {} could not be given up in time", self.lease(shard)),
            }
        }
    }

    async fn vacate_one(&self, shard: u32) -> Result<(), String> {
        loop {
            let Some(mut lease) = self.read(shard).await? else { return Ok(()) };
            let spec = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity));
            let Some(spec) = spec else { return Ok(()) };
            spec.holder_identity = None;
            spec.acquire_time = None;
            // Another may have asked for it meanwhile.
            if self.write(shard, &lease).await? {
                return Ok(());
            }
        }
    }

    async fn read(&self, shard: u32) -> Result<Option<Lease>, String> {
        self.in_time(self.api.get_opt(&self.lease(shard))).await?.map_err(|error| error.to_string())
    }

    /// The same; none: it may not be read.
    async fn ask(&self, shard: u32) -> Result<Option<Option<Lease>>, String> {
        match self.in_time(self.api.get_opt(&self.lease(shard))).await? {
            Ok(lease) => Ok(Some(lease)),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// False: another was faster.
    async fn write(&self, shard: u32, lease: &Lease) -> Result<bool, String> {
        let name = self.lease(shard);
        let mut lease = lease.clone();
        let answer = if lease.metadata.resource_version.is_some() {
            self.in_time(self.api.replace(&name, &PostParams::default(), &lease)).await?
        } else {
            lease.metadata.name = Some(name);
            self.in_time(self.api.create(&PostParams::default(), &lease)).await?
        };
        match answer {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn in_time<T>(&self, request: impl Future<Output = T>) -> Result<T, String> {
        tokio::time::timeout(self.duration / 3, request).await.map_err(|_| "no answer".to_owned())
    }
}

/// Into how many shards the first one's lease says that the channels are divided.
fn divided(first: &Lease) -> u32 {
    let said = first.annotations().get(SHARDS).and_then(|said| said.parse().ok());
    said.filter(|shards| (1..=MOST).contains(shards)).unwrap_or(1)
}

#[cfg(test)]
mod tests;
