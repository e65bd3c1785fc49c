//! What is done at one side: probes and changes, each an errand that goes on by itself and never
//! longer than a bounded time.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::{Done, Reconciler, Side};
use crate::api::Reason;
use crate::channel::execute::{self, Tools};
use crate::channel::observe::{self, CrmView, Failure, Rows};
use crate::channel::plan::Action;
use crate::channel::receiver::Directory;
use crate::channel::schedule::{Subject, Trouble};
use crate::channel::validate::DesiredIntake;
use crate::time::Millis;
use crate::{creatio, max};

/// A probe that takes longer has failed, so that one silent side never keeps the others waiting.
const LONGEST_LOOK: Duration = Duration::from_secs(45);

async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>, late: Reason) -> Result<T, Failure> {
    tokio::time::timeout(LONGEST_LOOK, work).await.unwrap_or_else(|_| {
        let detail = format!("no whole answer within {} s", LONGEST_LOOK.as_secs());
        Err(Failure { reason: late, detail, trouble: Trouble::Outage })
    })
}

/// A probe or a few changes at one side. Owns all that it needs, so that it goes on while passes
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
pub struct Brought(pub(super) News);

#[derive(Debug)]
pub(super) enum News {
    Bot { basis: String, outcome: Result<max::Bot, Failure> },
    Subscriptions { basis: String, outcome: Result<Vec<max::Subscription>, Failure> },
    Mango { basis: String, outcome: Result<Directory, Failure> },
    Crm { basis: String, outcome: Result<CrmView, Failure> },
    Changed { side: Side, done: Vec<Done>, subscriptions: Option<(String, Seen)>, rows: Option<(String, Rows)> },
}

pub(super) type Seen = Result<Vec<max::Subscription>, Failure>;

/// Whether changes outside may still be made: asked before each of them.
pub type May = Arc<dyn Fn() -> bool + Send + Sync>;

pub(super) const fn side_of(action: &Action) -> Side {
    if action.is_intake() { Side::Max } else { Side::Crm }
}

/// The probe that the changes of a side are planned from.
pub(super) const fn subject_of(side: Side) -> Subject {
    match side {
        Side::Max => Subject::Subscriptions,
        Side::Mango => Subject::Mango,
        Side::Crm => Subject::Crm,
    }
}

impl Reconciler {
    /// What is to be done at a side now: a probe that is due, else the changes that the plan asks
    /// for. Changes at MAX wait until `intake_open`: somebody listens.
    pub fn errand(&mut self, side: Side, intake_open: bool, may: &May, now: Millis) -> Option<Errand> {
        if side.subjects().iter().any(|subject| self.due_basis(*subject, now).is_some()) {
            return self.look_due(side, now);
        }
        // At MANGO OFFICE nothing is changed.
        if side == Side::Mango { None } else { self.changes(side, intake_open, may) }
    }

    /// The next probe that is due at a side.
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
                let dialogs = self.desired.as_ref()?.intake == DesiredIntake::MangoDialogs;
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

    /// Whether the last probe of a subject had no answer.
    fn is_away(&self, subject: Subject) -> bool {
        self.last(subject).2.is_some_and(|failure| failure.trouble == Trouble::Outage)
    }

    /// The changes that are to be made at a side now, if they were not tried already since the last
    /// probe.
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
        let mark_is_due = !rest.is_empty() && self.tried[1] != Some(self.attempt(Subject::Crm, &rest));
        if side == Side::Max && mark_is_due {
            // The mark in the CRM says whose the bot is: it goes first.
            return None;
        }
        if actions.is_empty() {
            let (seen_under, _, failure, _) = self.last(subject_of(side));
            let is_unseen = self.basis(subject_of(side)).is_some_and(|now| failure.is_some() || now != seen_under);
            if !is_unseen {
                // What was refused is not wanted any more, or is there.
                *self.failure_at(side) = None;
            }
            return None;
        }
        let now = Some(self.attempt(subject_of(side), &actions));
        let place = usize::from(side == Side::Crm);
        if self.tried[place] == now {
            return None;
        }
        let errand = self.change(side, actions, may)?;
        self.tried[place] = now;
        Some(errand)
    }

    /// See `tried`.
    fn attempt(&self, subject: Subject, actions: &[Action]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.last(subject).1, actions).hash(&mut hasher);
        hasher.finish()
    }

    pub(super) const fn failure_at(&mut self, side: Side) -> &mut Option<Failure> {
        match side {
            Side::Crm => &mut self.crm_failure,
            Side::Max | Side::Mango => &mut self.intake_failure,
        }
    }

    /// Carries changes of one side out, in their order up to the first that fails, and probes again
    /// what was changed.
    pub(super) fn change(&mut self, side: Side, actions: Vec<Action>, may: &May) -> Option<Errand> {
        let max = self.candidate_client()?;
        let crm = self.crm_client().and_then(Result::ok);
        let webhook_secret = self.desired.as_ref()?.token.as_ref().ok()?.webhook_secret.clone();
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

    /// The client under the manifest's token.
    pub(super) fn candidate_client(&mut self) -> Option<max::Client> {
        let desired = self.desired.as_ref()?;
        let token = desired.token.as_ref().ok()?;
        if self.candidate.as_ref().is_none_or(|(known, _)| *known != token.fingerprint) {
            self.candidate = Some((token.fingerprint.clone(), self.clients.max(&token.value)));
        }
        self.candidate.as_ref().map(|(_, client)| client.clone())
    }

    pub(super) fn crm_client(&self) -> Option<Result<creatio::Client, Failure>> {
        let desired = self.desired.as_ref()?;
        let access = desired.crm_access.as_ref().ok()?;
        Some(self.clients.crm(&desired.crm, access).map_err(|detail| Failure {
            reason: Reason::CrmUnreachable,
            detail: format!("creatio.caSecretRef cannot be used: {detail}"),
            trouble: Trouble::Refused,
        }))
    }
}
