//! What is kept of one channel between passes, and which step is due when; holds no clock of its
//! own.
//!
//! The order of the steps is [`pass`](super::pass). A shell gives [`Reconciler::set`] the manifest
//! and the secrets of the moment and [`Reconciler::set_conflict`] what other channels hold. Nobody
//! waits for external systems: [`Reconciler::errand`] hands out what is due at one side, which then
//! goes on by itself, and [`Reconciler::take`] takes in what it has brought. Until then a pass
//! works with what is known. [`Reconciler::relay`] is the configuration that the relay shall have,
//! [`Reconciler::report`] the status.
//!
//! A token counts once MAX has taken it: until then the relay keeps the one before, and a wrong
//! paste stops nothing.

mod due;
mod leaving;
mod work;

use std::collections::BTreeSet;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use work::News;
pub use work::{Brought, Errand, May};

use super::claims::Conflict;
use super::observe::{Clients, Failure, Observation};
use super::plan::{self, Action, KnownBot};
use super::relay_config::{self, Access};
use super::report::{self, Held, RelayState, Unapplied, View};
use super::schedule::{Cadence, Subject};
use super::subscription::Whose;
use super::validate::{Desired, DesiredIntake, Secrets, validate};
use crate::api::ChannelRef;
use crate::api::{MaxChannel, MaxChannelStatus, Reason};
use crate::contract::{Facts, RelayConfig};
use crate::max;
use crate::time::Millis;

/// How long the relay takes calls under the address of a token that was replaced: MAX repeats a
/// lost call after 60 s and 210 s (MAX Bot API reference, "Webhook delivery").
const RETIREMENT: Millis = 10 * 60_000;

/// How long a bot that was taken over from another installation is left alone after our mark stands
/// in the CRM: the relay of the other one asks for the mark before it sends, and trusts an answer
/// for less than this (see `relay::owner`).
const HANDING_OVER: Millis = 5_000;

/// Tells the time.
pub type Clock<'a> = &'a (dyn Fn() -> Millis + Sync);

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
    /// Subjects to probe now, whatever their time.
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
    /// A hash of the changes that were last tried at MAX and in the CRM, and of the time of the
    /// probe that they were made from: the same ones are not tried again before another probe.
    tried: [Option<u64>; 2],
    held: Option<Held>,
    unapplied: Option<Vec<Unapplied>>,
    status: Arc<MaxChannelStatus>,
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

/// What was taken in.
#[derive(Debug)]
pub struct Taken {
    /// The changes that were tried.
    pub done: Vec<Done>,
    /// Something may not be as it was before.
    pub is_news: bool,
}

/// One action and how it went.
#[derive(Clone, Debug)]
pub struct Done {
    pub action: Action,
    pub outcome: Result<(), Failure>,
}

impl Reconciler {
    /// `bot` and `status` are what was known before this process began.
    pub fn new(
        channel: ChannelRef,
        clients: Arc<Clients>,
        bot: Option<KnownBot>,
        status: Arc<MaxChannelStatus>,
    ) -> Self {
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

    /// Whether the last attempt at the subscription did not succeed.
    #[must_use]
    pub const fn is_refused_at_max(&self) -> bool {
        self.intake_failure.is_some()
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
    pub fn status(&self) -> &MaxChannelStatus {
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
            }
            Err(problems) => self.problems = problems,
        }
        self.go_on(now);
    }

    /// The manifest and the secrets are those of the pass before.
    pub fn go_on(&mut self, now: Millis) {
        if self.unexpected_bot.is_some() && self.problems.is_empty() {
            // The bot may have been accepted meanwhile.
            self.take_bot(now);
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

    /// Takes in what the relay says of both sides: a refusal that it met asks for a probe of that
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

    /// Asks for a probe of a subject now, for instance because the relay was refused.
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

    /// Whether the bot is this channel's, as far as can be known now: nobody else has it, what
    /// would say so has been looked at, and whoever had it has had the time to notice.
    ///
    /// A bot that was ours before this process began needs no probe: messages go on while the CRM
    /// is away. One that was not waits for the marks in the CRM, or, where its updates come by
    /// webhook and so show who is called, for the attempt to read them.
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
        let has_tried = observation.crm.failure.is_some() && desired.intake != DesiredIntake::LongPoll;
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

    /// Takes in what an errand has brought.
    pub fn take(&mut self, brought: Brought, now: Millis) -> Taken {
        let taken = self.take_in(brought, now);
        self.note_standing();
        taken
    }

    fn take_in(&mut self, brought: Brought, now: Millis) -> Taken {
        let is_news = match brought.0 {
            News::Bot { basis, outcome } => {
                self.asked.remove(&Subject::Bot);
                self.observation.bot.take(&basis, now, outcome);
                self.take_bot(now);
                true
            }
            News::Subscriptions { basis, outcome } => {
                self.asked.remove(&Subject::Subscriptions);
                if outcome.as_ref().is_err_and(|failure| failure.reason != Reason::MaxUnreachable) {
                    // A refusal says something about the token, and GET /me decides about that.
                    self.asked.insert(Subject::Bot);
                }
                self.observation.subscriptions.take(&basis, now, outcome)
            }
            News::Mango { basis, outcome } => {
                self.asked.remove(&Subject::Mango);
                self.observation.mango.take(&basis, now, outcome);
                true
            }
            News::Crm { basis, outcome } => {
                self.asked.remove(&Subject::Crm);
                self.observation.crm.take(&basis, now, outcome);
                true
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
                return Taken { done, is_news: true };
            }
        };
        Taken { done: Vec::new(), is_news }
    }

    /// What the last probe of the bot means for the channel.
    fn take_bot(&mut self, now: Millis) {
        let Some(desired) = &self.desired else { return };
        let (Some(seen), Ok(token)) = (self.observation.bot.current(desired.token_fingerprint()), &desired.token)
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
        let Some(seen) = self.observation.bot.current(desired.token_fingerprint()) else { return };
        self.bot = Some(KnownBot::from(seen));
        let client = self.candidate.as_ref().map(|(_, client)| client.clone());
        let is_new =
            self.token.as_ref().is_none_or(|(before, _)| before.expose_secret() != token.value.expose_secret());
        if let (true, Some(client)) = (is_new, client)
            && let Some((before, _)) = self.token.replace((token.value.clone(), client))
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
        let token = self.token().or(unproven.map(|token| &token.value))?;
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

    /// The token under which the relay works.
    #[must_use]
    pub fn token(&self) -> Option<&SecretString> {
        self.token.as_ref().map(|(token, _)| token)
    }

    /// The token that the relay was told before this process began: it counts until MAX has taken
    /// the manifest's.
    pub fn recall_token(&mut self, token: SecretString) {
        let client = self.clients.max(&token);
        self.token = Some((token, client));
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
        Some((made, token.webhook_secret.clone()))
    }

    /// Takes a status that is equal to that of the last report for its own, so that there is one of
    /// them.
    pub fn share_status(&mut self, same: &Arc<MaxChannelStatus>) {
        self.status.clone_from(same);
    }

    /// The status after this pass.
    pub fn report(&mut self, relay: &RelayState, now: Millis) -> &Arc<MaxChannelStatus> {
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
        let status = report::report(&view, &self.status);
        if status != *self.status {
            self.status = Arc::new(status);
        }
        &self.status
    }
}
