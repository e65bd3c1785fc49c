//! What is looked at under which credentials, and when it is due.

use super::{HANDING_OVER, Reconciler, Side};
use crate::channel::claims::Conflict;
use crate::channel::observe::{self, Failure};
use crate::channel::plan::crm_basis;
use crate::channel::schedule::Subject;
use crate::time::Millis;

impl Reconciler {
    /// Under which credentials a subject is looked at now; none where it cannot be.
    pub(super) fn basis(&self, subject: Subject) -> Option<String> {
        let desired = self.desired.as_ref()?;
        if matches!(self.conflict, Some(Conflict::Account { .. })) {
            return None;
        }
        let bot_is_held = self.conflict.is_some();
        match subject {
            Subject::Bot => desired.token.as_ref().ok().map(|token| token.fingerprint.clone()),
            Subject::Subscriptions => {
                let taken = self.unexpected_bot.is_none()
                    && self.observation.bot.current(desired.token_fingerprint()).is_some();
                (taken && !bot_is_held).then(|| desired.token_fingerprint().to_owned())
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

    /// How the last probe of a subject stands: its basis, its end, and its trouble.
    pub(super) fn last(&self, subject: Subject) -> (&str, Option<Millis>, Option<&Failure>, u32) {
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

    /// Whether the bot is not known to be the channel's yet, and the look at the CRM that says so
    /// is still to come.
    #[must_use]
    pub fn awaits_marks(&self) -> bool {
        !self.is_ours() && self.is_first_look(Subject::Crm)
    }

    /// Whether a subject was not looked at yet under the present credentials, and is going to be.
    pub(super) fn is_first_look(&self, subject: Subject) -> bool {
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
        // A change that was refused is tried again with the pauses of a failed probe.
        let step = match subject {
            Subject::Subscriptions => self.intake_failure.as_ref(),
            Subject::Crm => self.crm_failure.as_ref(),
            _ => None,
        };
        let failing = failure.map(|failure| (failure.trouble, failures)).or(step.map(|failure| (failure.trouble, 2)));
        Some(at + self.cadence.pause(&self.channel, subject, at, failing))
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

    /// The basis of a subject that is due.
    pub(super) fn due_basis(&self, subject: Subject, now: Millis) -> Option<String> {
        self.due_of(subject).filter(|due| *due <= now).and_then(|_| self.basis(subject))
    }
}
