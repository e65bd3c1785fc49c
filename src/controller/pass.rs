//! One pass over one channel, as a table of contents: dereference -> validate -> observe -> build
//! -> apply -> plan and execute -> status.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::channel_state::ChannelState;
use super::context::Context;
use super::resource::Channel;
use super::scope::Scope;
use super::serve::{Serving, follow_rollout};
use super::start::Start;
use super::status::{report, tell_changes};
use super::withheld::Withheld;
use super::{Error, names, relay_link};
use crate::api::ChannelRef;
use crate::api::{ConditionType, Reason, conditions};
use crate::channel;
use crate::channel::errands::Awaiting;
use crate::channel::pass::{MOMENT, Shell};
use crate::channel::reconciler::{Brought, May, Side};
use crate::channel::report::RelayState;
use crate::time::Millis;

/// Between two checks of something that is about to change.
const SOON: Millis = 1_000;
/// A due probe that could not be made must not spin.
const NOT_SOONER: Millis = 2_000;
/// With more channels than that a relay that is well is asked only when MAX is: it makes half the
/// passes. Not while channels wait, for then every pause is longer.
const MANY: usize = 100;

/// What a pass did.
#[derive(Debug)]
pub struct Outcome {
    pub changed: bool,
    /// Something is on its way and nothing wrong with that.
    pub waiting: bool,
    pub again_in: Duration,
}

/// One pass over a channel that is not being deleted.
///
/// # Errors
/// The API server refuses or does not answer, or this replica leads no more.
pub async fn pass(
    context: &Context,
    scope: &Arc<Scope>,
    channel: &Arc<Channel>,
    state: &mut ChannelState,
) -> Result<Outcome, Error> {
    let clock = || context.clock.now();
    let name = channel.reference();
    if let Some(start) = &mut state.start {
        start.is_busy = scope.queue.is_busy();
    }
    let mut has_finalizer = true;
    if !channel.has_finalizer() {
        // Before anything is made outside. The watch brings the channel back with the finalizer.
        let outcome = context.writer.add_finalizer(channel).await;
        has_finalizer =
            state.refusals.take("finalizer", "the finalizer of the channel", "", clock(), outcome)?.is_some();
    }
    for kind in scope.take_deleted(&name) {
        state.applied.remove(kind);
    }

    state.dereference(channel, scope, context).await?;
    let judged = state.judge(channel, context);
    withhold(context, scope, channel, state).await?;
    let judged = judged.as_deref().map_err(|problems| state.withheld.told(problems.clone()));
    state.tell_reconciler(channel, judged, clock());
    state.recall_token(channel, scope, context).await?;
    state.reconciler.set_generation(channel.metadata.generation.unwrap_or(0));
    let relay = Serving::default();
    if !has_finalizer {
        claim(context, state, &name);
        // Whatever were made outside now could stay there for ever.
        let wrote = report(context, channel, state, &relay.found).await?;
        let again_in = next(context, (&name, state), false, false, clock());
        let again_in = Duration::from_millis(again_in.unsigned_abs());
        return Ok(Outcome { changed: wrote, waiting: true, again_in });
    }
    let mut steps = Steps { context, scope, channel, state, name, relay, awaiting: None, until: None, waiting: false };
    channel::pass::pass(&mut steps).await?;
    let Steps { waiting, ref relay, .. } = steps;
    Ok(Outcome { changed: relay.changed, waiting, again_in: steps.pause() })
}

/// The steps of a pass in a cluster.
struct Steps<'a> {
    context: &'a Context,
    scope: &'a Arc<Scope>,
    channel: &'a Arc<Channel>,
    state: &'a mut ChannelState,
    name: ChannelRef,
    relay: Serving,
    /// While it is there, nobody is kicked for what comes back.
    awaiting: Option<Awaiting>,
    /// Until when what was sent is waited for.
    until: Option<Instant>,
    /// Something is on its way to the relay.
    waiting: bool,
}

impl Steps<'_> {
    fn now(&self) -> Millis {
        self.context.clock.now()
    }

    fn pause(&self) -> Duration {
        let is_many = self.scope.channels.len() > MANY && !self.scope.queue.is_busy();
        let millis = next(self.context, (&self.name, self.state), is_many, self.waiting, self.now());
        Duration::from_millis(millis.unsigned_abs())
    }
}

impl Shell for Steps<'_> {
    type Error = Error;
    type Brought = Brought;

    async fn claim(&mut self) {
        claim(self.context, self.state, &self.name);
    }

    /// What is remembered needs no answer from outside: a relay that lost an object has it back
    /// before anybody is asked.
    async fn serve(&mut self) -> Result<(), Error> {
        Box::pin(self.relay.serve(self.context, self.scope, self.channel, self.state)).await
    }

    fn send(&mut self, side: Side) -> bool {
        let now = self.now();
        let (fence, channel) = (self.context.fence.clone(), self.name.clone());
        let may: May = Arc::new(move || fence.check(&channel).is_ok());
        let ChannelState { reconciler, errands, .. } = &mut *self.state;
        self.awaiting.get_or_insert_with(|| errands.expect());
        let (scope, name) = (self.scope.clone(), self.name.clone());
        errands.send_due(reconciler, (side, &self.relay.found), &may, now, move || scope.kick(&name))
    }

    async fn next(&mut self, is_awaited: bool) -> Option<Brought> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + MOMENT);
        self.state.errands.next_or_arrived(is_awaited, until).await
    }

    fn take(&mut self, brought: Brought) -> bool {
        let now = self.now();
        self.relay.take(self.state, brought, now)
    }

    async fn report(&mut self) -> Result<(), Error> {
        drop(self.awaiting.take());
        while let Some(brought) = self.state.errands.arrived() {
            self.take(brought);
            // Between the last probe and this one: the rest is for the next pass.
            self.scope.kick(&self.name);
        }
        let (context, channel) = (self.context, self.channel);
        tell_changes(context, channel, &self.relay.done).await;
        follow_rollout(context, self.scope, channel, &self.relay.found).await;
        let mut is_told = relay_link::tell_subscription(context, self.scope, self.state, &self.name).await;
        if let Some(config) = &self.relay.config {
            is_told &= relay_link::tell_share(context, self.scope, self.state, (channel, config)).await;
        }
        self.waiting = !is_told || self.relay.found.is_pending();
        let is_first = channel.conditions().is_empty() && self.state.written.is_none();
        if is_first
            && is_coming(self.state, &self.relay.found)
            && context.clock.now() < self.state.first_until(context, self.scope)
        {
            return Ok(());
        }
        self.relay.changed |= report(context, channel, self.state, &self.relay.found).await?;
        Ok(())
    }
}

/// Holds a relay back that an earlier process has told of hosts which are not allowed any more,
/// while there is nothing else to tell it.
async fn withhold(context: &Context, scope: &Scope, channel: &Channel, state: &mut ChannelState) -> Result<(), Error> {
    let now = context.clock.now();
    let ChannelState { withheld, refusals, good, .. } = state;
    if good.is_some() {
        *withheld = Withheld::default();
    } else if !refusals.waits("withheld", "", now) {
        let object = format!("Secret {}", names::relay(&channel.reference().name));
        let outcome = withheld.observe(context, scope, channel).await;
        refusals.take("withheld", &object, "", now, outcome)?;
    }
    Ok(())
}

/// Whether all is as it shall be, and the relay has nothing to do.
fn is_well(state: &ChannelState) -> bool {
    let ready = conditions::find(&state.reconciler.status().conditions, ConditionType::Ready);
    ready.is_some_and(|ready| ready.status == "True") && state.undelivered.is_some_and(|left| left.total() == 0)
}

/// How long until the next pass.
fn next(
    context: &Context,
    (name, state): (&ChannelRef, &ChannelState),
    is_many: bool,
    waits_for_relay: bool,
    now: Millis,
) -> Millis {
    let due = state
        .reconciler
        .due_at(|side| !state.errands.is_busy(side))
        .map(|due| if due <= now { NOT_SOONER } else { due - now });
    let pause = context.settings.relay_pause(name, now);
    let with_max = due.filter(|due| (pause..=2 * pause).contains(due) && is_many && is_well(state));
    let steady = if waits_for_relay { SOON } else { with_max.unwrap_or(pause) };
    let refused = state.refusals.due().map(|due| due - now);
    let told = state.warnings.due().map(|due| due - now);
    let first = state.first_until.filter(|_| state.written.is_none()).map(|due| due - now).filter(|due| *due > 0);
    let start = state.start.as_ref().and_then(Start::due).map(|due| due - now);
    [due, refused, told, first, start].into_iter().flatten().fold(steady, Millis::min).max(200)
}

/// Says what the channel asks for and finds out whether another holds it.
pub fn claim(context: &Context, state: &mut ChannelState, name: &ChannelRef) {
    let (_, api_key, bot) = state.reconciler.claim().unwrap_or_default();
    state.conflict = context.claim(name, api_key, bot);
    state.reconciler.set_conflict(state.conflict.clone());
}

/// Whether more is known in a moment: somebody is being asked or told.
fn is_coming(state: &ChannelState, relay: &RelayState) -> bool {
    let is_relay_coming = match relay {
        RelayState::Unheard => true,
        RelayState::Failed { reason, .. } => *reason == Reason::RelayUnreachable,
        RelayState::Running { .. } => relay.is_pending() || !state.reconciler.plan().is_empty(),
        RelayState::Absent { .. } => false,
    };
    is_relay_coming || state.errands.is_any()
}
