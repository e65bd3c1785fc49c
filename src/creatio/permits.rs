//! Who may have a request under way at the site, within the spec's limit of all together.
//!
//! Each kind of work has permits of its own, so that none waits for another: the outbox, the
//! reports, and everything else, of which files take few. Where a kind is full and others wait,
//! calls that take much longer than calls usually take keep half of its permits at most: the
//! youngest of them beyond that give way. Their answer is not awaited; every call of the relay may
//! be repeated.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::wire::Kind;

/// No call is slow before.
const SLOW: Duration = Duration::from_millis(500);
/// A call is slow that takes so many times as long as calls usually do.
const TIMES_USUAL: u32 = 4;

/// The permits of one site.
#[derive(Debug)]
pub(super) struct Permits {
    outbox: Arc<Room>,
    reports: Arc<Room>,
    work: Arc<Room>,
    /// Within `work`.
    files: Arc<Room>,
}

impl Permits {
    /// `all`: at most so many requests under way, 0 is taken as 1. Fewer than four cannot be
    /// divided.
    pub fn new(all: usize) -> Self {
        let all = all.max(1);
        let (outbox, reports) = match all {
            0..4 => (0, 0),
            4..8 => (1, 1),
            _ => (1, 2),
        };
        let work = Room::new(all - outbox - reports);
        let own = |permits: usize| if permits == 0 { Arc::clone(&work) } else { Room::new(permits) };
        Self { outbox: own(outbox), reports: own(reports), files: Room::new((all / 4).max(1)), work }
    }

    /// Waits for a permit.
    pub async fn acquire(&self, kind: Kind) -> (Permit, Option<Permit>) {
        match kind {
            Kind::Outbox => (self.outbox.enter(true).await, None),
            Kind::Report => (self.reports.enter(true).await, None),
            Kind::File => {
                let file = self.files.enter(false).await;
                (self.work.enter(false).await, Some(file))
            }
            // Nobody else can go on before it is done, so it takes the permit that is free first.
            Kind::SignIn | Kind::Probe => tokio::select! {
                permit = self.work.enter(false) => (permit, None),
                permit = self.outbox.enter(false) => (permit, None),
                permit = self.reports.enter(false) => (permit, None),
            },
            Kind::OData | Kind::Package | Kind::Chat => (self.work.enter(true).await, None),
        }
    }
}

/// The permits of one kind of work.
#[derive(Debug)]
struct Room {
    permits: usize,
    /// Whoever waits stands behind this, in order of coming.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    number: u64,
    held: Vec<Held>,
    /// How long calls take, as a moving mean.
    usual: Duration,
}

#[derive(Debug)]
struct Held {
    number: u64,
    /// When the request left; none while our own limits hold it back, which says nothing of the
    /// site.
    sent: Option<Instant>,
    may_give_way: bool,
    gives_way: Arc<Notify>,
}

/// A permit taken; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Permit {
    room: Arc<Room>,
    number: u64,
    gives_way: Arc<Notify>,
}

impl Permit {
    /// The request leaves now.
    pub fn sent(&self) {
        let mut state = self.room.lock();
        if let Some(held) = state.held.iter_mut().find(|held| held.number == self.number) {
            held.sent = Some(Instant::now());
        }
        drop(state);
        // Whoever waits may have to look at it later than at none.
        self.room.changed.notify_one();
    }

    /// Returns when this call shall give way to those who wait.
    pub async fn gives_way(&self) {
        self.gives_way.notified().await;
    }

    /// The call was answered.
    pub fn answered(&self) {
        let mut state = self.room.lock();
        let held = state.held.iter().find(|held| held.number == self.number);
        let Some(took) = held.and_then(|held| held.sent).map(|sent| sent.elapsed()) else { return };
        state.usual = (state.usual * 7 + took) / 8;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.room.lock().held.retain(|held| held.number != self.number);
        self.room.changed.notify_one();
    }
}

impl Room {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self { permits, turn: tokio::sync::Mutex::default(), state: Mutex::default(), changed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn enter(self: &Arc<Self>, may_give_way: bool) -> Permit {
        let _turn = self.turn.lock().await;
        loop {
            match self.try_enter(may_give_way) {
                Ok(permit) => return permit,
                Err(Some(look_at)) => {
                    tokio::select! { () = self.changed.notified() => {}, () = tokio::time::sleep_until(look_at) => {} }
                }
                Err(None) => self.changed.notified().await,
            }
        }
    }

    /// A permit, or when there may be too many slow calls. Where there are, the youngest of them is
    /// asked to give way.
    fn try_enter(self: &Arc<Self>, may_give_way: bool) -> Result<Permit, Option<Instant>> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.held.len() < self.permits {
            state.number += 1;
            let (number, gives_way) = (state.number, Arc::new(Notify::new()));
            state.held.push(Held { number, sent: None, may_give_way, gives_way: Arc::clone(&gives_way) });
            return Ok(Permit { room: Arc::clone(self), number, gives_way });
        }
        let slow = SLOW.max(state.usual * TIMES_USUAL);
        let kept = (self.permits / 2).max(1);
        // In order of their age: those held longest keep their permits.
        let sent = state.held.iter().filter(|held| held.may_give_way).filter_map(|held| Some((held.sent?, held)));
        let Some((next, _)) = sent.clone().nth(kept) else { return Err(None) };
        if now < next + slow {
            return Err(Some(next + slow));
        }
        if let Some((_, youngest)) = sent.rev().find(|(sent, _)| now >= *sent + slow) {
            youngest.gives_way.notify_one();
        }
        Err(Some(now + SLOW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_that_hang_keep_half_of_the_places_and_quick_ones_pass() {
        let permits = Arc::new(Permits::new(8));
        let call = |takes: Duration| {
            let permits = Arc::clone(&permits);
            async move {
                let (permit, _) = permits.acquire(Kind::Package).await;
                permit.sent();
                tokio::select! {
                    () = tokio::time::sleep(takes) => { permit.answered(); true }
                    () = permit.gives_way() => false,
                }
            }
        };
        let hanging: Vec<_> = (0..9).map(|_| tokio::spawn(call(Duration::from_secs(30)))).collect();
        tokio::task::yield_now().await;
        let began = Instant::now();
        for _ in 0..20 {
            assert!(call(Duration::from_millis(20)).await, "a quick call gave way");
        }
        assert!(began.elapsed() < Duration::from_millis(3_500), "the quick waited {:?}", began.elapsed());
        let (outbox, report) = tokio::join!(permits.acquire(Kind::Outbox), permits.acquire(Kind::Report));
        drop((outbox, report));
        assert!(began.elapsed() < Duration::from_millis(3_500));
        let mut answered = 0;
        for one in hanging {
            answered += usize::from(one.await.unwrap());
        }
        // Of the five permits of this kind two are kept, and as many more as the quick ones, one at
        // a time, leave.
        assert!((2..=4).contains(&answered), "{answered} of the hanging calls were awaited");
    }

    #[tokio::test(start_paused = true)]
    async fn where_every_call_is_slow_none_gives_way_for_long() {
        let permits = Arc::new(Permits::new(8));
        let mut gave_way = 0;
        for round in 0..20 {
            let calls = (0..10).map(|_| async {
                let (permit, _) = permits.acquire(Kind::Package).await;
                permit.sent();
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(3)) => { permit.answered(); 0 }
                    () = permit.gives_way() => 1,
                }
            });
            let lost: usize = futures::future::join_all(calls).await.into_iter().sum();
            gave_way += if round < 10 { 0 } else { lost };
        }
        assert_eq!(gave_way, 0, "calls gave way although all are slow");
    }
}
