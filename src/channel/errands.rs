//! What is under way outside for one channel: probes and changes, each a task of its own, so that a
//! side that hangs holds no pass.
//!
//! One errand per side and channel. A pass waits for them a moment, since most are quick, and goes
//! on with what is known; one that comes back later asks for another pass. An errand under other
//! credentials than those of now is dropped.
//!
//! All channels share the permits of a side. Those whose side did not answer last time have permits
//! of their own, so that a side that hangs for many takes none from the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::reconciler::{Brought, Errand, May, Reconciler, Side};
use super::report::RelayState;
use crate::time::Millis;

/// How many errands of all channels are under way at once.
#[derive(Debug)]
pub struct Permits {
    /// By side: for those that were answered last time, and for the others.
    by_side: [[Semaphore; 2]; 3],
}

impl Default for Permits {
    fn default() -> Self {
        let of = |answered| [Semaphore::new(answered), Semaphore::new(64)];
        Self { by_side: [of(64), of(32), of(256)] }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Errands {
    permits: Arc<Permits>,
    under_way: BTreeMap<Side, UnderWay>,
    sender: UnboundedSender<(u64, Side, Brought)>,
    receiver: UnboundedReceiver<(u64, Side, Brought)>,
    /// A pass waits for what comes; else the channel is asked for another one.
    awaited: Arc<AtomicBool>,
    last: u64,
}

/// While it is there, nobody needs to be kicked for what comes back.
#[derive(Debug)]
pub struct Awaiting(Arc<AtomicBool>);

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    basis: Option<String>,
    is_change: bool,
    _task: AbortOnDropHandle<()>,
}

impl Errands {
    pub fn new(permits: Arc<Permits>) -> Self {
        let (sender, receiver) = mpsc::unbounded();
        Self { permits, under_way: BTreeMap::new(), sender, receiver, awaited: Arc::default(), last: 0 }
    }

    pub fn is_busy(&self, side: Side) -> bool {
        self.under_way.contains_key(&side)
    }

    /// Whether something is being changed at a side.
    pub fn is_changing(&self, side: Side) -> bool {
        self.under_way.get(&side).is_some_and(|under_way| under_way.is_change)
    }

    pub fn is_any(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Sends on its way what is due at a side, unless something is under way there; whether there
    /// was anything. `kick` asks for a pass when it comes back while none waits.
    pub fn send_due(
        &mut self,
        reconciler: &mut Reconciler,
        (side, relay): (Side, &RelayState),
        may: &May,
        now: Millis,
        kick: impl FnOnce() + Send + 'static,
    ) -> bool {
        self.keep_only(|side| reconciler.basis_at(side));
        if self.is_busy(side) {
            return false;
        }
        let is_open = relay.listens() && !self.is_changing(Side::Crm);
        let Some(errand) = reconciler.errand(side, is_open, may, now) else { return false };
        self.send(side, reconciler.basis_at(side), errand, kick);
        true
    }

    /// Sends a probe on its way that is due at a side, and no change.
    pub fn observe(&mut self, reconciler: &mut Reconciler, side: Side, now: Millis) -> bool {
        self.keep_only(|side| reconciler.basis_at(side));
        if self.is_busy(side) {
            return false;
        }
        let Some(errand) = reconciler.look_due(side, now) else { return false };
        self.send(side, reconciler.basis_at(side), errand, || {});
        true
    }

    /// What has come back; it is waited for until then if `is_awaited`.
    pub async fn next_or_arrived(&mut self, is_awaited: bool, until: Instant) -> Option<Brought> {
        if is_awaited { self.next(until).await } else { self.arrived() }
    }

    /// Sends an errand on its way. `kick` asks for a pass when it comes back while none waits.
    fn send(&mut self, side: Side, basis: Option<String>, errand: Errand, kick: impl FnOnce() + Send + 'static) {
        self.last += 1;
        let number = self.last;
        let (permits, sender, awaited) = (self.permits.clone(), self.sender.clone(), self.awaited.clone());
        let (is_suspect, is_change) = (errand.is_suspect, errand.is_change);
        let work = async move {
            let permit = &permits.by_side[side as usize][usize::from(is_suspect)];
            // Never closed.
            let Ok(_permit) = permit.acquire().await else { return };
            let brought = errand.run().await;
            // The channel may be gone.
            let _ = sender.unbounded_send((number, side, brought));
            if !awaited.load(Ordering::SeqCst) {
                kick();
            }
        };
        let task = AbortOnDropHandle::new(tokio::spawn(work.instrument(tracing::Span::current())));
        self.under_way.insert(side, UnderWay { number, basis, is_change, _task: task });
    }

    /// Drops what is under way under another basis than that of now.
    fn keep_only(&mut self, basis: impl Fn(Side) -> Option<String>) {
        self.under_way.retain(|side, under_way| under_way.basis == basis(*side));
    }

    /// Drops everything that is under way.
    pub fn stop(&mut self) {
        self.under_way.clear();
    }

    /// A pass waits for what comes, until the answer is dropped.
    pub fn expect(&self) -> Awaiting {
        self.awaited.store(true, Ordering::SeqCst);
        Awaiting(self.awaited.clone())
    }

    /// What has come back by now.
    pub fn arrived(&mut self) -> Option<Brought> {
        while let Ok((number, side, brought)) = self.receiver.try_recv() {
            if let Some(brought) = self.mine(number, side, brought) {
                return Some(brought);
            }
        }
        None
    }

    /// The next that comes back before `until`.
    pub async fn next(&mut self, until: Instant) -> Option<Brought> {
        while self.is_any() {
            let (number, side, brought) = timeout_at(until, self.receiver.next()).await.ok()??;
            if let Some(brought) = self.mine(number, side, brought) {
                return Some(brought);
            }
        }
        None
    }

    fn mine(&mut self, number: u64, side: Side, brought: Brought) -> Option<Brought> {
        // Of one that was dropped just as it came back nothing is taken.
        self.under_way.get(&side).filter(|under_way| under_way.number == number)?;
        self.under_way.remove(&side);
        Some(brought)
    }
}
