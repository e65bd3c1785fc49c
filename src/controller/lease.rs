//! Which replica leads, by a Lease of the cluster.
//!
//! Owns the one lease. Invariants: a holder is believed gone only when its lease has not changed
//! for the whole duration *as seen from here*, so that no clock of another machine is trusted;
//! every write carries the resource version that was read, so that of two who try at once one
//! fails; a leader that could not renew for two thirds of the duration stops writing, before
//! another may begin. Must not know what the leader does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a silent leader is waited for.
pub const DURATION: Duration = Duration::from_secs(15);

/// Whether this process may write now.
#[derive(Clone, Debug)]
pub struct Fence(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    until: Mutex<Option<Instant>>,
    leads: watch::Sender<bool>,
}

/// Another replica leads, or nobody can say who does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica does not lead any more, so it writes nothing")]
pub struct Lost;

impl Default for Fence {
    fn default() -> Self {
        Self(Arc::new(Inner { until: Mutex::new(None), leads: watch::Sender::new(false) }))
    }
}

impl Fence {
    /// # Errors
    /// Nothing may be written now.
    pub fn check(&self) -> Result<(), Lost> {
        let until = *self.0.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| Instant::now() < *until).map(|_| ()).ok_or(Lost)
    }

    /// True while this replica leads.
    #[must_use]
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.0.leads.subscribe()
    }

    fn set(&self, until: Option<Instant>) {
        let before = std::mem::replace(&mut *self.0.until.lock().unwrap_or_else(PoisonError::into_inner), until);
        // Renewed after it had lapsed, as by a process that stood still: passes were turned away
        // meanwhile, and whoever asks for them when the lease is won must do so again.
        let has_lapsed = until.is_some() && before.is_some_and(|before| before <= Instant::now());
        self.0
            .leads
            .send_if_modified(|leads| std::mem::replace(leads, until.is_some()) != until.is_some() || has_lapsed);
    }

    fn until(&self) -> Option<Instant> {
        *self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Takes part in the election until `stop`; then the lease is given up, so that another begins at
/// once.
pub async fn run(
    client: Client,
    namespace: &str,
    name: &str,
    identity: &str,
    duration: Duration,
    fence: Fence,
    stop: CancellationToken,
) {
    let api: Api<Lease> = Api::namespaced(client, namespace);
    let mut seen = None;
    let mut told = String::new();
    while !stop.is_cancelled() {
        let began = Instant::now();
        let attempt = tokio::time::timeout(duration / 3, attempt(&api, name, identity, &mut seen, duration));
        let outcome = tokio::select! {
            outcome = attempt => outcome.unwrap_or_else(|_| Err("no answer".to_owned())),
            () = stop.cancelled() => break,
        };
        match outcome {
            // Counted from before the request: the server's clock cannot have started later.
            Ok(true) => {
                fence.set(Some(began + duration * 2 / 3));
                told.clear();
            }
            Ok(false) => {
                fence.set(None);
                told.clear();
            }
            Err(error) => {
                if error != told {
                    tracing::warn!("the lease {namespace}/{name} cannot be read or renewed: {error}");
                    told = error;
                }
                if fence.check().is_err() {
                    fence.set(None);
                }
            }
        }
        // A follower looks more often than a leader renews, so that a lease given up is taken up
        // soon.
        let pause = if fence.until().is_some() { duration / 3 } else { duration / 8 };
        let next = fence.until().map_or(began + pause, |lapses| lapses.min(began + pause));
        tokio::select! {
            () = tokio::time::sleep_until(next.max(began + Duration::from_millis(200))) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Gives the lease up, so that another replica begins at once. Called when nothing is being written
/// any more.
pub async fn vacate(client: Client, namespace: &str, name: &str, identity: &str, fence: &Fence) {
    let led = fence.until().is_some();
    fence.set(None);
    if !led {
        return;
    }
    let api: Api<Lease> = Api::namespaced(client, namespace);
    let give_up = async {
        let mut lease = api.get(name).await?;
        if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(identity)) {
            spec.holder_identity = None;
            spec.acquire_time = None;
            api.replace(name, &PostParams::default(), &lease).await?;
        }
        Ok::<_, kube::Error>(())
    };
    match tokio::time::timeout(Duration::from_secs(5), give_up).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("the lease {namespace}/{name} could not be given up: {error}"),
        Err(_) => tracing::warn!("the lease {namespace}/{name} could not be given up in time"),
    }
}

/// True: this replica leads from now on.
async fn attempt(
    api: &Api<Lease>,
    name: &str,
    identity: &str,
    seen: &mut Option<Seen>,
    duration: Duration,
) -> Result<bool, String> {
    let lease = api.get_opt(name).await.map_err(|error| error.to_string())?;
    let write = match decide(lease.as_ref(), identity, seen, duration, Instant::now()) {
        Step::Wait => return Ok(false),
        Step::Create => {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
                spec: Some(renewed(None, identity, duration, Timestamp::now())),
            };
            api.create(&PostParams::default(), &lease).await
        }
        Step::Replace => {
            let mut lease = lease.unwrap_or_default();
            lease.spec = Some(renewed(lease.spec.take(), identity, duration, Timestamp::now()));
            api.replace(name, &PostParams::default(), &lease).await
        }
    };
    match write {
        Ok(_) => Ok(true),
        // Another was faster.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: Option<&str>, renewal: i64) -> Lease {
        Lease {
            metadata: ObjectMeta::default(),
            spec: Some(LeaseSpec {
                holder_identity: holder.map(ToOwned::to_owned),
                renew_time: Some(MicroTime(Timestamp::from_second(renewal).unwrap())),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_is_believed_gone_only_after_a_whole_duration_without_change_seen_from_here() {
        let mut seen = None;
        let mut step = |lease: Option<&Lease>| decide(lease, "me", &mut seen, DURATION, Instant::now());
        assert_eq!(step(None), Step::Create);
        assert_eq!(step(Some(&lease(None, 1))), Step::Replace, "given up");
        assert_eq!(step(Some(&lease(Some("me"), 1))), Step::Replace, "mine");
        // Whatever the other's clock says, even if its renewal seems to be years old.
        assert_eq!(step(Some(&lease(Some("other"), 1))), Step::Wait);
        tokio::time::advance(Duration::from_secs(14)).await;
        assert_eq!(step(Some(&lease(Some("other"), 1))), Step::Wait);
        assert_eq!(step(Some(&lease(Some("other"), 2))), Step::Wait, "it renews");
        tokio::time::advance(Duration::from_secs(14)).await;
        assert_eq!(step(Some(&lease(Some("other"), 2))), Step::Wait);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(step(Some(&lease(Some("other"), 2))), Step::Replace);
    }

    #[test]
    fn a_change_of_holders_is_counted_and_a_renewal_keeps_when_it_began() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = renewed(None, "a", DURATION, at(1));
        let second = renewed(Some(first.clone()), "a", DURATION, at(6));
        let third = renewed(Some(second.clone()), "b", DURATION, at(30));
        assert_eq!(
            (first.lease_transitions, second.lease_transitions, third.lease_transitions),
            (Some(1), Some(1), Some(2))
        );
        assert_eq!(second.acquire_time, first.acquire_time);
        assert_eq!(third.acquire_time, Some(MicroTime(at(30))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_renewed_after_it_had_lapsed_is_told_as_one_that_is_won() {
        let fence = Fence::default();
        let mut leads = fence.leads();
        fence.set(Some(Instant::now() + DURATION));
        assert!(*leads.borrow_and_update());
        fence.set(Some(Instant::now() + DURATION));
        assert!(!leads.has_changed().unwrap(), "renewed in time");
        tokio::time::advance(DURATION).await;
        assert_eq!(fence.check(), Err(Lost));
        fence.set(Some(Instant::now() + DURATION));
        assert!(leads.has_changed().unwrap() && *leads.borrow_and_update());
    }

    #[tokio::test(start_paused = true)]
    async fn the_fence_falls_by_itself_when_no_renewal_comes() {
        let fence = Fence::default();
        assert_eq!(fence.check(), Err(Lost));
        fence.set(Some(Instant::now() + DURATION * 2 / 3));
        assert_eq!(fence.check(), Ok(()));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(fence.check(), Err(Lost), "before another may take the lease after 15 s");
    }
}
