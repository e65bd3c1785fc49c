//! What is kept of one channel between passes, and which step is due when; holds no clock of its
//! own.
//!
//! The order of the steps is [`pass`](super::pass). A shell gives [`Reconciler::set`] the manifest
//! and the secrets of the moment and [`Reconciler::set_conflict`] what other channels hold. Nobody
//! waits for the outside: [`Reconciler::errand`] hands out what is due at one side, which then goes
//! on by itself, and [`Reconciler::take`] takes in what it has brought. Until then a pass works
//! with what is known. [`Reconciler::relay`] is the configuration that the relay shall have,
//! [`Reconciler::report`] the status.
//!
//! A token counts once MAX has taken it: until then the relay keeps the one before, and a wrong
//! paste stops nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::claims::Conflict;
use super::execute::{self, Tools};
use super::observe::{self, Clients, CrmView, Failure, Observation, Rows};
use super::plan::{self, Action, KnownBot, crm_basis};
use super::receiver::Directory;
use super::relay_config::{self, Access};
use super::report::{self, Held, RelayState, Unapplied, View};
use super::schedule::{Cadence, Subject, Trouble};
use super::subscription::Whose;
use super::validate::{Desired, IntakeWish, Secrets, validate};
use crate::api::ChannelRef;
use crate::api::{MaxChannel, MaxChannelStatus, Reason};
use crate::contract::{Facts, RelayConfig, webhook};
use crate::time::Millis;
use crate::{creatio, max};

/// How long the relay takes calls under the address of a token that was replaced: MAX repeats a
/// lost call after 60 s and 210 s (MAX Bot API reference, "Webhook delivery").
const RETIREMENT: Millis = 10 * 60_000;

/// How long a bot that was taken over from another installation is left alone after our mark stands
/// in the CRM: the relay of the other one asks for the mark before it sends, and trusts an answer
/// for less than this (see `relay::owner`).
const HANDING_OVER: Millis = 5_000;

/// A look that takes longer has failed, so that one silent side never keeps the others waiting.
const LONGEST_LOOK: Duration = Duration::from_secs(45);

/// Tells the time.
pub type Clock<'a> = &'a (dyn Fn() -> Millis + Sync);

const fn side_of(action: &Action) -> Side {
    if action.is_intake() { Side::Max } else { Side::Crm }
}

/// The look that the changes of a side are planned from.
const fn subject_of(side: Side) -> Subject {
    match side {
        Side::Max => Subject::Subscriptions,
        Side::Mango => Subject::Mango,
        Side::Crm => Subject::Crm,
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>, late: Reason) -> Result<T, Failure> {
    tokio::time::timeout(LONGEST_LOOK, work).await.unwrap_or_else(|_| {
        let detail = format!("no whole answer within {} s", LONGEST_LOOK.as_secs());
        Err(Failure { reason: late, detail, trouble: Trouble::Outage })
    })
}

/// One of the systems outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Max,
    Mango,
    Crm,
}

impl Side {
    pub const ALL: [Self; 3] = [Self::Max, Self::Mango, Self::Crm];

    const fn subjects(self) -> &'static [Subject] {
        match self {
            Self::Max => &[Subject::Bot, Subject::Subscriptions],
            Self::Mango => &[Subject::Mango],
            Self::Crm => &[Subject::Crm],
        }
    }
}

/// A look or a few changes at one side. Owns all that it needs, so that it goes on while passes
/// over the channel come and go. Dropped, it leaves nothing that a later one would not find.
pub struct Errand {
    work: BoxFuture<'static, Brought>,
    /// The side did not answer last time.
    pub is_suspect: bool,
    /// It changes something.
    pub is_change: bool,
}

impl fmt::Debug for Errand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Errand").field("is_suspect", &self.is_suspect).finish_non_exhaustive()
    }
}

impl Errand {
    /// Goes to the other side and comes back, always within a bounded time.
    pub async fn run(self) -> Brought {
        self.work.await
    }
}

/// What an [`Errand`] has brought.
#[derive(Debug)]
pub struct Brought(News);

#[derive(Debug)]
enum News {
    Bot { basis: String, outcome: Result<max::Bot, Failure> },
    Subscriptions { basis: String, outcome: Result<Vec<max::Subscription>, Failure> },
    Mango { basis: String, outcome: Result<Directory, Failure> },
    Crm { basis: String, outcome: Result<CrmView, Failure> },
    Changed { side: Side, done: Vec<Done>, subscriptions: Option<(String, Seen)>, rows: Option<(String, Rows)> },
}

type Seen = Result<Vec<max::Subscription>, Failure>;

/// Whether changes outside may still be made: asked before each of them.
pub type May = Arc<dyn Fn() -> bool + Send + Sync>;

/// What must be remembered over restarts of whose the bot is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Standing {
    /// The annotation `adopt` has done its work. It counts again once it was taken away: else two
    /// installations with the same manifest would take the bot from each other for ever.
    pub adopted: bool,
    /// Another has the bot, as was seen last.
    pub elsewhere: bool,
}

/// Everything that is kept of one channel between passes.
#[derive(Debug)]
pub struct Reconciler {
    channel: ChannelRef,
    clients: Arc<Clients>,
    cadence: Cadence,
    desired: Option<Desired>,
    problems: Vec<String>,
    generation: i64,
    reconcile_at: Option<String>,
    conflict: Option<Conflict>,
    observation: Observation,
    /// Subjects to look at now, whatever their time.
    asked: BTreeSet<Subject>,
    bot: Option<KnownBot>,
    unexpected_bot: Option<i64>,
    /// The token that MAX took last, and its client.
    token: Option<(SecretString, max::Client)>,
    /// The client under the manifest's token, which may not be taken yet.
    candidate: Option<(String, max::Client)>,
    retired: Vec<(SecretString, Millis)>,
    /// The time of the last attempt at a plan that did not fully succeed, and how often in a row.
    intake_failure: Option<Failure>,
    crm_failure: Option<Failure>,
    /// The changes that were last tried at MAX and in the CRM, and the time of the look that they
    /// were made from: the same ones are not tried again before another look.
    tried: [Option<(Option<Millis>, Vec<Action>)>; 2],
    held: Option<Held>,
    unapplied: Option<Vec<Unapplied>>,
    status: MaxChannelStatus,
    /// When our subscription was last made by this process.
    subscribed_at: Option<Millis>,
    standing: Standing,
    /// Why the deletion of the channel waits.
    deletion: Option<String>,
    /// The bot was this channel's before this process began.
    was_ours: bool,
    /// When our mark was put in the place of another's, until whoever it was has noticed.
    taken_over: Option<Millis>,
}

/// One action and how it went.
#[derive(Clone, Debug)]
pub struct Done {
    pub action: Action,
    pub outcome: Result<(), Failure>,
}

impl Reconciler {
    /// `bot` and `status` are what was known before this process began.
    pub fn new(channel: ChannelRef, clients: Arc<Clients>, bot: Option<KnownBot>, status: MaxChannelStatus) -> Self {
        let was_ours = bot.is_some();
        Self {
            channel,
            clients,
            cadence: Cadence::default(),
            desired: None,
            problems: Vec::new(),
            generation: 0,
            reconcile_at: None,
            conflict: None,
            observation: Observation::default(),
            asked: BTreeSet::new(),
            bot,
            unexpected_bot: None,
            token: None,
            candidate: None,
            retired: Vec::new(),
            intake_failure: None,
            crm_failure: None,
            tried: [None, None],
            held: None,
            unapplied: None,
            status,
            subscribed_at: None,
            standing: Standing::default(),
            deletion: None,
            was_ours,
            taken_over: None,
        }
    }

    /// Why the deletion of the channel waits, for the status.
    pub fn set_deletion(&mut self, waits: Option<String>) {
        self.deletion = waits;
    }

    /// Whether another installation or channel has the bot.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.standing.elsewhere
    }

    /// Whose the bot was before this process began.
    pub fn recall(&mut self, standing: Standing) {
        self.was_ours &= !standing.elsewhere;
        self.standing = standing;
    }

    /// For the shell to remember over restarts.
    #[must_use]
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Other pauses than the usual ones.
    pub fn set_cadence(&mut self, cadence: Cadence) {
        self.cadence = cadence;
    }

    /// The channel's bot, for the shell to remember over restarts.
    #[must_use]
    pub fn bot(&self) -> Option<&KnownBot> {
        self.bot.as_ref()
    }

    /// What is wanted; none while the manifest was never usable.
    #[must_use]
    pub fn desired(&self) -> Option<&Desired> {
        self.desired.as_ref()
    }

    /// What was seen last.
    #[must_use]
    pub const fn observation(&self) -> &Observation {
        &self.observation
    }

    /// The status of the last report.
    #[must_use]
    pub const fn status(&self) -> &MaxChannelStatus {
        &self.status
    }

    /// The manifest and the secrets of the moment. A manifest with problems, its own or the
    /// caller's, leaves the last good one in force.
    pub fn set(&mut self, manifest: Result<&MaxChannel, Vec<String>>, secrets: &Secrets, now: Millis) {
        let outcome = manifest.and_then(|manifest| {
            let generation = manifest.metadata.generation.unwrap_or(0);
            let reconcile_at =
                manifest.metadata.annotations.as_ref().and_then(|all| all.get(super::validate::RECONCILE_AT));
            validate(manifest, secrets, self.clients.installation())
                .map(|desired| (desired, generation, reconcile_at.cloned()))
        });
        match outcome {
            Ok((mut desired, generation, reconcile_at)) => {
                self.standing.adopted &= desired.adopt;
                desired.adopt &= !self.standing.adopted;
                if self.reconcile_at != reconcile_at {
                    self.asked.extend([Subject::Bot, Subject::Subscriptions, Subject::Mango, Subject::Crm]);
                }
                self.problems.clear();
                self.generation = generation;
                self.reconcile_at = reconcile_at;
                self.desired = Some(desired);
                if self.unexpected_bot.is_some() {
                    // The bot may have been accepted meanwhile.
                    self.take_bot(now);
                }
            }
            Err(problems) => self.problems = problems,
        }
        self.retired.retain(|(_, until)| *until > now);
        self.taken_over = self.taken_over.filter(|at| now - at < HANDING_OVER);
    }

    /// The newest generation of the manifest, whether it can be used or not: the status speaks of
    /// it.
    pub const fn set_generation(&mut self, generation: i64) {
        self.generation = generation;
    }

    /// Who holds what this channel asks for, if another does.
    pub fn set_conflict(&mut self, conflict: Option<Conflict>) {
        if self.conflict.is_some() && conflict.is_none() {
            // What was seen then was the other's.
            self.asked.extend([Subject::Subscriptions, Subject::Crm]);
        }
        self.conflict = conflict;
    }

    /// What of the channel's objects in the cluster is not as it shall be.
    pub fn set_unapplied(&mut self, unapplied: Vec<Unapplied>) {
        self.unapplied = Some(unapplied);
    }

    /// Takes in what the relay says of both sides: a refusal that it met asks for a look at that
    /// side now, once per refusal.
    pub fn hear(&mut self, before: Option<&Facts>, now: &Facts) {
        if now.max.is_new_trouble(before.map(|facts| &facts.max)) {
            self.ask(Subject::Bot);
            self.ask(Subject::Subscriptions);
        }
        if now.crm.is_new_trouble(before.map(|facts| &facts.crm)) {
            self.ask(Subject::Crm);
        }
    }

    /// Asks for a look at a subject now, for instance because the relay was refused.
    pub fn ask(&mut self, subject: Subject) {
        self.asked.insert(subject);
    }

    /// The claim of this channel among the others, where its manifest was ever usable: account
    /// number, fingerprint of the API key, bot.
    #[must_use]
    pub fn claim(&self) -> Option<(String, Option<String>, Option<i64>)> {
        let desired = self.desired.as_ref()?;
        let key = desired.mango.as_ref().ok().map(|access| access.key_fingerprint.clone());
        Some((desired.account_number.clone(), key, self.bot.as_ref().map(|bot| bot.user_id)))
    }

    fn source(&self) -> Option<String> {
        self.bot.as_ref().map(KnownBot::source)
    }

    /// Under which credentials a subject is looked at now; none where it cannot be.
    fn basis(&self, subject: Subject) -> Option<String> {
        let desired = self.desired.as_ref()?;
        if matches!(self.conflict, Some(Conflict::Account { .. })) {
            return None;
        }
        let bot_is_held = self.conflict.is_some();
        match subject {
            Subject::Bot => desired.token.as_ref().ok().map(|_| desired.token_fingerprint()),
            Subject::Subscriptions => {
                let taken = self.unexpected_bot.is_none()
                    && self.observation.bot.current(&desired.token_fingerprint()).is_some();
                (taken && !bot_is_held).then(|| desired.token_fingerprint())
            }
            Subject::Mango => {
                desired.mango.as_ref().ok().filter(|_| !bot_is_held).map(|access| access.fingerprint.clone())
            }
            Subject::Crm => desired
                .crm_access
                .as_ref()
                .ok()
                .filter(|_| !bot_is_held)
                .map(|access| crm_basis(&access.fingerprint, self.source().as_deref())),
        }
    }

    /// How the last look at a subject stands: its basis, its end, and its trouble.
    fn last(&self, subject: Subject) -> (&str, Option<Millis>, Option<&Failure>, u32) {
        fn of<T>(observed: &observe::Observed<T>) -> (&str, Option<Millis>, Option<&Failure>, u32) {
            (&observed.basis, observed.at, observed.failure.as_ref(), observed.failures)
        }
        match subject {
            Subject::Bot => of(&self.observation.bot),
            Subject::Subscriptions => of(&self.observation.subscriptions),
            Subject::Mango => of(&self.observation.mango),
            Subject::Crm => of(&self.observation.crm),
        }
    }

    /// Whether MAX has not been asked yet whose the manifest's token is, and is going to be.
    #[must_use]
    pub fn awaits_bot(&self) -> bool {
        self.is_first_look(Subject::Bot)
    }

    /// Whether a subject was not looked at yet under the present credentials, and is going to be.
    fn is_first_look(&self, subject: Subject) -> bool {
        let (basis, at, ..) = self.last(subject);
        self.basis(subject).is_some_and(|now| at.is_none() || now != basis)
    }

    /// When a subject is due; none where it cannot be looked at.
    fn due_of(&self, subject: Subject) -> Option<Millis> {
        let basis = self.basis(subject)?;
        let (last_basis, at, failure, failures) = self.last(subject);
        let Some(at) = at.filter(|_| last_basis == basis && !self.asked.contains(&subject)) else {
            return Some(Millis::MIN);
        };
        // A change that was refused is tried again with the pauses of a failed look.
        let step = match subject {
            Subject::Subscriptions => self.intake_failure.as_ref(),
            Subject::Crm => self.crm_failure.as_ref(),
            _ => None,
        };
        let failing = failure.map(|failure| (failure.trouble, failures)).or(step.map(|failure| (failure.trouble, 2)));
        Some(at + self.cadence.pause(&self.channel, subject, at, failing))
    }

    /// Whether the bot is this channel's, as far as can be known now: nobody else has it, what
    /// would say so has been looked at, and whoever had it has had the time to notice.
    ///
    /// A bot that was ours before this process began needs no look: messages go on while the CRM is
    /// away. One that was not waits for the marks in the CRM, or, where its updates come by webhook
    /// and so show who is called, for the attempt to read them.
    fn is_ours(&self) -> bool {
        let Some(desired) = &self.desired else { return false };
        let observation = &self.observation;
        if self.taken_over.is_some()
            || plan::marked_elsewhere(desired, observation).is_some()
            || plan::other_address(desired, observation).is_some()
        {
            return false;
        }
        let has_seen_marks = observation.crm.seen.as_ref().is_some_and(|view| view.rows.is_some());
        let has_tried = observation.crm.failure.is_some() && desired.intake != IntakeWish::LongPoll;
        self.was_ours || desired.crm_access.is_err() || has_seen_marks || (has_tried && !self.standing.elsewhere)
    }

    /// Takes note of whose the bot is, after something was seen or changed.
    fn note_standing(&mut self) {
        let Some(desired) = &mut self.desired else { return };
        if desired.adopt && plan::is_undisputed(desired, &self.observation) == Some(true) {
            desired.adopt = false;
            self.standing.adopted = true;
        }
        let is_elsewhere = plan::other_owner(desired, &self.observation).is_some()
            || plan::other_address(desired, &self.observation).is_some();
        if is_elsewhere {
            if !self.standing.elsewhere {
                // Whether the mark says so too.
                self.asked.insert(Subject::Crm);
            }
            self.was_ours = false;
            self.standing.elsewhere = true;
        } else if self.observation.crm.seen.as_ref().is_some_and(|view| view.rows.is_some()) {
            self.standing.elsewhere = false;
        }
    }

    /// When the next pass is due, leaving out sides where an errand is under way.
    #[must_use]
    pub fn due_at(&self, sides: impl Fn(Side) -> bool) -> Option<Millis> {
        let subjects = Side::ALL.into_iter().filter(|side| sides(*side)).flat_map(Side::subjects);
        let handed_over = self.taken_over.map(|at| at + HANDING_OVER);
        subjects.filter_map(|subject| self.due_of(*subject)).chain(handed_over).min()
    }

    /// Under which credentials and address a side is asked now; none where it is not to be asked.
    #[must_use]
    pub fn basis_at(&self, side: Side) -> Option<String> {
        self.basis(match side {
            Side::Max => Subject::Bot,
            Side::Mango => Subject::Mango,
            Side::Crm => Subject::Crm,
        })
    }

    /// What is to be done at a side now: a look that is due, else the changes that the plan asks
    /// for. Changes at MAX wait until `intake_open`: somebody listens.
    pub fn errand(&mut self, side: Side, intake_open: bool, may: &May, now: Millis) -> Option<Errand> {
        if side.subjects().iter().any(|subject| self.due_basis(*subject, now).is_some()) {
            return self.look_due(side, now);
        }
        self.changes(side, intake_open, may)
    }

    /// The next look that is due at a side.
    pub fn look_due(&mut self, side: Side, now: Millis) -> Option<Errand> {
        let due = side.subjects().iter().find_map(|subject| Some((*subject, self.due_basis(*subject, now)?)));
        due.and_then(|(subject, basis)| self.look_at(subject, basis))
    }

    fn look_at(&mut self, subject: Subject, basis: String) -> Option<Errand> {
        let installation = self.clients.installation().clone();
        let is_suspect = self.is_away(subject);
        let work: BoxFuture<'static, Brought> = match subject {
            Subject::Bot => {
                let client = self.candidate_client()?;
                Box::pin(async move {
                    let outcome = in_time(observe::bot(&client, &installation), Reason::MaxUnreachable).await;
                    Brought(News::Bot { basis, outcome })
                })
            }
            Subject::Subscriptions => {
                let client = self.candidate_client()?;
                Box::pin(async move {
                    let outcome = in_time(observe::subscriptions(&client, &installation), Reason::MaxUnreachable).await;
                    Brought(News::Subscriptions { basis, outcome })
                })
            }
            Subject::Mango => {
                let client = self.clients.mango(self.desired.as_ref()?.mango.as_ref().ok()?);
                let had_people = self.observation.mango.seen.as_ref().is_some_and(|before| !before.people.is_empty());
                let dialogs = self.desired.as_ref()?.intake == IntakeWish::MangoDialogs;
                Box::pin(async move {
                    let outcome = in_time(observe::mango(&client, had_people, dialogs), Reason::MangoUnreachable).await;
                    Brought(News::Mango { basis, outcome })
                })
            }
            Subject::Crm => {
                let client = self.crm_client()?;
                let source = self.source();
                Box::pin(async move {
                    let work = async { observe::crm(&client?, source.as_deref()).await };
                    let outcome = in_time(work, Reason::CrmUnreachable).await;
                    Brought(News::Crm { basis, outcome })
                })
            }
        };
        Some(Errand { work, is_suspect, is_change: false })
    }

    /// Whether the last look at a subject had no answer.
    fn is_away(&self, subject: Subject) -> bool {
        self.last(subject).2.is_some_and(|failure| failure.trouble == Trouble::Outage)
    }

    /// The changes that are to be made at a side now, if they were not tried already since the last
    /// look.
    fn changes(&mut self, side: Side, intake_open: bool, may: &May) -> Option<Errand> {
        let is_ours = self.is_ours();
        let may_be_done = |action: &Action| match action {
            Action::Subscribe { .. } => intake_open && is_ours,
            Action::Unsubscribe { foreign: true, .. } => intake_open && self.taken_over.is_none(),
            Action::Unsubscribe { .. } => intake_open || !is_ours,
            Action::Create { .. } | Action::Change { .. } | Action::Delete { .. } => true,
        };
        let planned = self.plan();
        let is_here = |action: &&Action| side_of(action) == side;
        let is_wanted = planned.iter().any(|action| is_here(&action));
        let actions: Vec<Action> =
            planned.iter().filter(is_here).filter(|action| may_be_done(action)).cloned().collect();
        if actions.is_empty() && is_wanted {
            return None;
        }
        let rest: Vec<Action> = planned.into_iter().filter(|action| side_of(action) == Side::Crm).collect();
        let mark_is_due = !rest.is_empty() && self.tried[1].as_ref() != Some(&(self.last(Subject::Crm).1, rest));
        if side == Side::Max && mark_is_due {
            // The mark in the CRM says whose the bot is: it goes first.
            return None;
        }
        if actions.is_empty() {
            // What was refused is not wanted any more, or is there.
            *self.failure_at(side) = None;
            return None;
        }
        let now = (self.last(subject_of(side)).1, actions.clone());
        let tried = &mut self.tried[usize::from(side == Side::Crm)];
        if tried.as_ref() == Some(&now) {
            return None;
        }
        let errand = self.change(side, actions, may)?;
        self.tried[usize::from(side == Side::Crm)] = Some(now);
        Some(errand)
    }

    const fn failure_at(&mut self, side: Side) -> &mut Option<Failure> {
        match side {
            Side::Crm => &mut self.crm_failure,
            Side::Max | Side::Mango => &mut self.intake_failure,
        }
    }

    /// Carries changes of one side out, in their order up to the first that fails, and looks again
    /// at what was changed.
    fn change(&mut self, side: Side, actions: Vec<Action>, may: &May) -> Option<Errand> {
        let max = self.candidate_client()?;
        let crm = self.crm_client().and_then(Result::ok);
        let token = self.desired.as_ref()?.token.clone().ok()?;
        let webhook_secret = webhook::secret(&token, &self.channel);
        let installation = self.clients.installation().clone();
        let (basis, source) = (self.basis(Subject::Subscriptions), self.source());
        let is_suspect = self.is_away(subject_of(side));
        let (may, channel) = (may.clone(), self.channel.clone());
        let work = async move {
            let tools = Tools {
                max: &max,
                webhook_secret: &webhook_secret,
                crm: crm.as_ref(),
                installation: &installation,
                channel: &channel,
            };
            let mut done: Vec<Done> = Vec::new();
            for action in actions {
                // The order matters: what follows a failure waits.
                if done.last().is_some_and(|done| done.outcome.is_err()) || !may() {
                    break;
                }
                let outcome = execute::execute(&action, &tools).await;
                done.push(Done { action, outcome });
            }
            // The outside is the truth: what was changed is looked at again, and the next plan is
            // made from that.
            let is_changed = done.iter().any(|done| done.outcome.is_ok());
            let (mut subscriptions, mut rows) = (None, None);
            match (side, basis, crm.as_ref().zip(source)) {
                (Side::Max, Some(basis), _) if is_changed => {
                    subscriptions = Some((basis, observe::subscriptions(&max, &installation).await));
                }
                (Side::Crm, _, Some((crm, source))) if is_changed => {
                    rows = observe::rows(crm, &source).await.ok().map(|rows| (source, rows));
                }
                _ => {}
            }
            Brought(News::Changed { side, done, subscriptions, rows })
        };
        Some(Errand { work: Box::pin(work), is_suspect, is_change: true })
    }

    /// Takes in what an errand has brought; answers the changes that were tried.
    pub fn take(&mut self, brought: Brought, now: Millis) -> Vec<Done> {
        let done = self.take_in(brought, now);
        self.note_standing();
        done
    }

    fn take_in(&mut self, brought: Brought, now: Millis) -> Vec<Done> {
        match brought.0 {
            News::Bot { basis, outcome } => {
                self.asked.remove(&Subject::Bot);
                self.observation.bot.take(&basis, now, outcome);
                self.take_bot(now);
            }
            News::Subscriptions { basis, outcome } => {
                self.asked.remove(&Subject::Subscriptions);
                if outcome.as_ref().is_err_and(|failure| failure.reason != Reason::MaxUnreachable) {
                    // A refusal says something about the token, and GET /me decides about that.
                    self.asked.insert(Subject::Bot);
                }
                self.observation.subscriptions.take(&basis, now, outcome);
            }
            News::Mango { basis, outcome } => {
                self.asked.remove(&Subject::Mango);
                self.observation.mango.take(&basis, now, outcome);
            }
            News::Crm { basis, outcome } => {
                self.asked.remove(&Subject::Crm);
                self.observation.crm.take(&basis, now, outcome);
            }
            News::Changed { side, done, subscriptions, rows } => {
                if !done.is_empty() {
                    *self.failure_at(side) = done.iter().find_map(|done| done.outcome.clone().err());
                }
                if let Some((basis, outcome)) = subscriptions {
                    self.observation.subscriptions.take(&basis, now, outcome);
                }
                let mark = plan::mark(&self.observation).map(ToOwned::to_owned);
                if let (Some((source, rows)), Some(view)) = (rows, &mut self.observation.crm.seen)
                    && self.bot.as_ref().map(KnownBot::source).as_ref() == Some(&source)
                {
                    view.rows = Some(rows);
                }
                let installation = &self.clients.installation().id;
                let is_ours = |mark: &str| installation.has_marked(mark, &self.channel);
                if mark.is_some_and(|before| !is_ours(&before)) && plan::mark(&self.observation).is_some_and(is_ours) {
                    self.taken_over = Some(now);
                }
                if done.iter().any(|done| done.outcome.is_ok() && matches!(done.action, Action::Subscribe { .. })) {
                    self.subscribed_at = Some(now);
                }
                return done;
            }
        }
        Vec::new()
    }

    /// The basis of a subject that is due.
    fn due_basis(&self, subject: Subject, now: Millis) -> Option<String> {
        self.due_of(subject).filter(|due| *due <= now).and_then(|_| self.basis(subject))
    }

    /// The client under the manifest's token.
    fn candidate_client(&mut self) -> Option<max::Client> {
        let desired = self.desired.as_ref()?;
        let token = desired.token.as_ref().ok()?;
        let name = desired.token_fingerprint();
        if self.candidate.as_ref().is_none_or(|(known, _)| *known != name) {
            self.candidate = Some((name, self.clients.max(token)));
        }
        self.candidate.as_ref().map(|(_, client)| client.clone())
    }

    fn crm_client(&self) -> Option<Result<creatio::Client, Failure>> {
        let desired = self.desired.as_ref()?;
        let access = desired.crm_access.as_ref().ok()?;
        Some(self.clients.crm(&desired.crm, access).map_err(|detail| Failure {
            reason: Reason::CrmUnreachable,
            detail: format!("creatio.caSecretRef cannot be used: {detail}"),
            trouble: Trouble::Refused,
        }))
    }

    /// What the last look at the bot means for the channel.
    fn take_bot(&mut self, now: Millis) {
        let Some(desired) = &self.desired else { return };
        let (Some(seen), Ok(token)) = (self.observation.bot.current(&desired.token_fingerprint()), &desired.token)
        else {
            return;
        };
        let known = self.bot.as_ref().map(|bot| bot.user_id);
        // A bot that another channel holds was never this one's, so another one needs no
        // permission.
        let was_ours = !matches!(self.conflict, Some(Conflict::Bot { .. }));
        let accepted =
            known.is_none_or(|known| known == seen.user_id) || !was_ours || desired.accept_bot == Some(seen.user_id);
        if !accepted {
            self.unexpected_bot = Some(seen.user_id);
            return;
        }
        self.unexpected_bot = None;
        if known.is_some_and(|known| known != seen.user_id) {
            // Whose that one is, is another question.
            self.was_ours = false;
            if let Some(view) = &mut self.observation.crm.seen {
                view.rows = None;
            }
        }
        let Some(seen) = self.observation.bot.current(&desired.token_fingerprint()) else { return };
        self.bot = Some(KnownBot::from(seen));
        let client = self.candidate.as_ref().map(|(_, client)| client.clone());
        let is_new = self.token.as_ref().is_none_or(|(before, _)| before.expose_secret() != token.expose_secret());
        if let (true, Some(client)) = (is_new, client)
            && let Some((before, _)) = self.token.replace((token.clone(), client))
            && known == Some(seen.user_id)
        {
            self.retired.push((before, now + RETIREMENT));
        }
    }

    /// What the relay shall have; none where there shall be no relay (now): the bot is not known,
    /// or another channel holds it or the account.
    #[must_use]
    pub fn relay(&self) -> Option<RelayConfig> {
        let desired = self.desired.as_ref().filter(|_| self.conflict.is_none())?;
        let bot = self.bot.as_ref()?;
        // Before the first answer of MAX the manifest's token serves: after a restart MAX may be
        // away. One that MAX has refused or that is another bot's does not.
        let unproven = desired.token.as_ref().ok().filter(|_| self.unexpected_bot.is_none());
        let token = self.token.as_ref().map(|(token, _)| token).or(unproven)?;
        let ours = self.is_ours();
        let retired: Vec<SecretString> = self.retired.iter().map(|(token, _)| token.clone()).collect();
        let installation = self.clients.installation();
        let employees = plan::mango_employees(desired, &self.observation);
        Some(relay_config::relay_config(
            desired,
            installation,
            bot.user_id,
            token,
            &retired,
            Access { ours },
            employees,
        ))
    }

    /// The changes that the plan asks for now.
    #[must_use]
    pub fn plan(&self) -> Vec<Action> {
        match &self.desired {
            Some(desired) if self.conflict.is_none() && self.unexpected_bot.is_none() => {
                plan::plan(desired, &self.observation, self.bot.as_ref())
            }
            _ => Vec::new(),
        }
    }

    fn subscription(&self) -> Option<&max::Subscription> {
        let all = plan::subscriptions(self.desired.as_ref()?, &self.observation);
        all.into_iter().find(|(_, whose)| *whose == Whose::Current).map(|(subscription, _)| subscription)
    }

    /// When the subscription in force was made, as MAX says, and the secret that belongs to it.
    /// Another time than before means that updates may have been missed, whoever took the one
    /// before away: the relay must be told (`SideFacts::subscribed_at`).
    #[must_use]
    pub fn subscribed(&self) -> Option<(Millis, SecretString)> {
        let made = Some(self.subscription()?.time).filter(|time| *time > 0).or(self.subscribed_at)?;
        let token = self.desired.as_ref()?.token.as_ref().ok()?;
        Some((made, webhook::secret(token, &self.channel)))
    }

    /// Takes our subscriptions away and nothing else, so that what is under way can be brought to
    /// its end before [`Reconciler::remove`].
    pub async fn leave_intake(&mut self, clock: Clock<'_>) -> Vec<Done> {
        let actions = match &self.desired {
            Some(desired) => plan::removal(desired, &self.observation, self.bot.as_ref()),
            None => Vec::new(),
        };
        self.carry_out(actions.into_iter().filter(Action::is_intake).collect(), clock).await
    }

    /// Takes the channel's objects outside away. Looks at the rows first: meanwhile another
    /// installation may have taken them over.
    pub async fn remove(&mut self, clock: Clock<'_>) -> Vec<Done> {
        if let (Some(Ok(crm)), Some(source)) = (self.crm_client(), self.source())
            && let Some(view) = &mut self.observation.crm.seen
            && view.rows.is_some()
        {
            match observe::rows(&crm, &source).await {
                Ok(rows) => view.rows = Some(rows),
                Err(error) => {
                    let basis = self.observation.crm.basis.clone();
                    self.observation.crm.take(&basis, clock(), Err(observe::crm_failure(&error)));
                    return self.leave_intake(clock).await;
                }
            }
        }
        let actions = match &self.desired {
            Some(desired) => plan::removal(desired, &self.observation, self.bot.as_ref()),
            None => Vec::new(),
        };
        self.carry_out(actions, clock).await
    }

    /// What could not be looked at, so that something of ours may be there unseen: one sentence
    /// each.
    #[must_use]
    pub fn unseen(&self) -> Vec<String> {
        let Some(desired) = &self.desired else { return self.problems.clone() };
        let mut unseen = Vec::new();
        match &desired.token {
            Err(unusable) => unseen.push(unusable.sentence().to_owned()),
            Ok(_) if self.observation.subscriptions.current(&desired.token_fingerprint()).is_none() => {
                let failure = self.observation.bot.failure.as_ref().or(self.observation.subscriptions.failure.as_ref());
                let why = failure.map_or("the bot is not this channel's", |failure| failure.detail.as_str());
                unseen.push(format!("the subscriptions in MAX cannot be looked at: {why}"));
            }
            Ok(_) => {}
        }
        match &desired.crm_access {
            Err(unusable) => unseen.push(unusable.sentence().to_owned()),
            Ok(_) if self.observation.crm.failure.is_some() || self.observation.crm.seen.is_none() => {
                let failure = self.observation.crm.failure.as_ref();
                let why = failure.map_or("another channel stands in the way", |failure| failure.detail.as_str());
                unseen.push(format!("the rows in the CRM cannot be looked at: {why}"));
            }
            Ok(_) => {}
        }
        unseen
    }

    async fn carry_out(&mut self, actions: Vec<Action>, clock: Clock<'_>) -> Vec<Done> {
        let may: May = Arc::new(|| true);
        let mut done = Vec::new();
        for side in [Side::Max, Side::Crm] {
            let of_side: Vec<Action> = actions.iter().filter(|action| side_of(action) == side).cloned().collect();
            if of_side.is_empty() {
                continue;
            }
            if let Some(errand) = self.change(side, of_side, &may) {
                let brought = errand.run().await;
                done.extend(self.take(brought, clock()));
            }
        }
        done
    }

    /// The status after this pass.
    pub fn report(&mut self, relay: &RelayState, now: Millis) -> &MaxChannelStatus {
        self.held = report::hold(self.held, relay, now);
        // Handled is what has been looked at.
        let is_looking = self.asked.iter().any(|subject| self.basis(*subject).is_some());
        let handled = if is_looking { &self.status.last_handled_reconcile_at } else { &self.reconcile_at };
        let reconcile_at = handled.as_deref();
        let looking: Vec<Subject> = [Subject::Bot, Subject::Subscriptions, Subject::Mango, Subject::Crm]
            .into_iter()
            .filter(|subject| self.is_first_look(*subject))
            .collect();
        let view = View {
            desired: self.desired.as_ref(),
            looking: &looking,
            problems: &self.problems,
            observation: &self.observation,
            conflict: self.conflict.as_ref(),
            bot: self.bot.as_ref(),
            unexpected_bot: self.unexpected_bot,
            intake_failure: self.intake_failure.as_ref(),
            crm_failure: self.crm_failure.as_ref(),
            relay,
            unapplied: self.unapplied.as_deref(),
            held: self.held,
            generation: self.generation,
            reconcile_at,
            adopted: self.standing.adopted,
            deletion: self.deletion.as_deref(),
            now,
            language: self.clients.installation().language,
        };
        self.status = report::report(&view, &self.status);
        &self.status
    }
}
