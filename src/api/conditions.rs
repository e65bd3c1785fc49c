//! The conditions of a channel: their types, their order, how one pass becomes the next list, and
//! what `Ready` and `Stalled` say.
//!
//! Pure: the time and the previous list come in, the next list goes out. `lastTransitionTime` moves
//! only with the status, so that a steady channel is never written anew.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::catalogue::{self, Class, Language, Reason};

/// How long an outage that follows a success leaves `Ready` true.
pub const OUTAGE_GRACE: SignedDuration = SignedDuration::from_mins(15);

/// The types of conditions, in the order in which they stand in the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The sum of the others; see [`ConditionType::READY`].
    Ready,
    /// True while only a person can mend it.
    Stalled,
    /// The manifest has no errors.
    SpecValid,
    /// The API server has taken everything that the channel needs in the cluster.
    ObjectsApplied,
    /// MAX takes the bot's token.
    TokenAuthorized,
    /// The card in MAX is as the manifest wants it.
    BotCardInSync,
    /// MANGO OFFICE takes the credentials, and no other channel has the account.
    AccountReady,
    /// Somebody takes the dialogs.
    ReceiverResolved,
    /// Customers see automatic replies.
    AutoRepliesActive,
    /// The CRM takes what the relay brings.
    CrmConnected,
    /// Updates of MAX reach the relay.
    IntakeReady,
    /// The relay runs with the present configuration.
    RelayAvailable,
    /// Messages flow in good time.
    DeliveryHealthy,
    /// Nothing is left of what only a person can set in the cabinet of MANGO OFFICE. Only where
    /// dialogs come through Манго Диалоги.
    ManualSteps,
}

impl ConditionType {
    pub const ALL: [Self; 14] = [
        Self::Ready,
        Self::Stalled,
        Self::SpecValid,
        Self::ObjectsApplied,
        Self::TokenAuthorized,
        Self::BotCardInSync,
        Self::AccountReady,
        Self::ReceiverResolved,
        Self::AutoRepliesActive,
        Self::CrmConnected,
        Self::IntakeReady,
        Self::RelayAvailable,
        Self::DeliveryHealthy,
        Self::ManualSteps,
    ];

    /// Those of which `Ready` is made, in the order in which the first failing one is named.
    pub const READY: [Self; 8] = [
        Self::SpecValid,
        Self::ObjectsApplied,
        Self::TokenAuthorized,
        Self::AccountReady,
        Self::ReceiverResolved,
        Self::CrmConnected,
        Self::IntakeReady,
        Self::RelayAvailable,
    ];

    /// Whether every channel has it.
    pub const fn is_universal(self) -> bool {
        !matches!(self, Self::ManualSteps)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Stalled => "Stalled",
            Self::SpecValid => "SpecValid",
            Self::ObjectsApplied => "ObjectsApplied",
            Self::TokenAuthorized => "TokenAuthorized",
            Self::BotCardInSync => "BotCardInSync",
            Self::AccountReady => "AccountReady",
            Self::ReceiverResolved => "ReceiverResolved",
            Self::AutoRepliesActive => "AutoRepliesActive",
            Self::CrmConnected => "CrmConnected",
            Self::IntakeReady => "IntakeReady",
            Self::RelayAvailable => "RelayAvailable",
            Self::DeliveryHealthy => "DeliveryHealthy",
            Self::ManualSteps => "ManualSteps",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ConditionType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or(())
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    True,
    False,
    Unknown,
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What one pass found out about one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub condition: ConditionType,
    pub status: Status,
    pub reason: Reason,
    /// For people; no times, counters or ids that change from pass to pass, and never a secret.
    pub message: String,
}

impl Outcome {
    /// The condition holds; `message` says how, for instance who was resolved.
    pub fn holds(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, status: Status::True, reason, message: message.into() }
    }

    /// The condition does not hold; the message is made of the catalogue's cause, the detail, if it
    /// is not empty, and the remedy.
    pub fn fails(condition: ConditionType, reason: Reason, detail: &str, language: Language) -> Self {
        let message = catalogue::entry(condition, reason)
            .map_or_else(|| detail.to_owned(), |entry| entry.message(detail, language));
        Self { condition, status: Status::False, reason, message }
    }

    /// The condition holds, with something worth knowing from the catalogue, such as
    /// [`Reason::FallbackServing`].
    pub fn holds_but(condition: ConditionType, reason: Reason, detail: &str, language: Language) -> Self {
        Self { status: Status::True, ..Self::fails(condition, reason, detail, language) }
    }

    /// Nothing could be found out, because something before it is wrong.
    pub fn unknown(condition: ConditionType, language: Language) -> Self {
        let message = match language {
            Language::English => "Not looked at yet",
            Language::Russian => "Ещё не проверялось",
        };
        Self { condition, status: Status::Unknown, reason: Reason::NotChecked, message: message.to_owned() }
    }
}

/// Where a pass stands.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// `metadata.generation` of the resource that the pass looked at.
    pub generation: i64,
    pub now: Timestamp,
    pub language: Language,
    /// `spec.suspend`.
    pub suspended: bool,
    /// Why the deletion of the resource waits, where it is being deleted and does.
    pub deletion: Option<&'a str>,
}

/// The next list of conditions: the outcomes of this pass, those of earlier passes for what was not
/// looked at now, `Unknown` for what was never looked at, and `Ready` and `Stalled` on top of them.
///
/// Outcomes for `Ready` and `Stalled` themselves are ignored. The result has every type once, in
/// the order of [`ConditionType::ALL`], and is equal to `previous` where nothing has changed. What
/// not every channel has is there only where it was told, now or before.
pub fn next(previous: &[Condition], outcomes: &[Outcome], pass: Pass<'_>) -> Vec<Condition> {
    let mut conditions: Vec<Condition> = ConditionType::ALL
        .into_iter()
        .filter(|condition| !matches!(condition, ConditionType::Ready | ConditionType::Stalled))
        .filter_map(|condition| {
            let outcome = outcomes.iter().rfind(|outcome| outcome.condition == condition);
            match (outcome, find(previous, condition)) {
                (Some(outcome), _) => Some(merged(previous, outcome, pass)),
                (None, Some(kept)) => Some(kept.clone()),
                (None, None) if !condition.is_universal() => None,
                (None, None) => Some(merged(previous, &Outcome::unknown(condition, pass.language), pass)),
            }
        })
        .collect();
    let ready = ready(previous, &conditions, pass);
    let stalled = stalled(&conditions, pass);
    conditions.splice(0..0, [merged(previous, &ready, pass), merged(previous, &stalled, pass)]);
    conditions
}

/// The condition of that type.
pub fn find(conditions: &[Condition], condition: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|candidate| candidate.type_ == condition.as_str())
}

fn merged(previous: &[Condition], outcome: &Outcome, pass: Pass<'_>) -> Condition {
    let since = find(previous, outcome.condition)
        .filter(|before| before.status == outcome.status.as_str())
        .map_or_else(|| Time(pass.now), |before| before.last_transition_time.clone());
    Condition {
        type_: outcome.condition.as_str().to_owned(),
        status: outcome.status.as_str().to_owned(),
        reason: outcome.reason.as_str().to_owned(),
        message: outcome.message.clone(),
        observed_generation: Some(pass.generation),
        last_transition_time: since,
    }
}

/// `Ready`: true where all of [`ConditionType::READY`] are; else it carries the reason and the
/// message of the first that is not.
///
/// An outage after a success leaves it true for [`OUTAGE_GRACE`], with the outage's reason: every
/// condition that is false must be an outage younger than that. What is `Unknown` beside an outage
/// counts as its consequence.
fn ready(previous: &[Condition], conditions: &[Condition], pass: Pass<'_>) -> Outcome {
    let outcome =
        |status, reason, message: String| Outcome { condition: ConditionType::Ready, status, reason, message };
    if let Some(detail) = pass.deletion {
        let entry = catalogue::entry(ConditionType::Ready, Reason::DeletionWaits);
        let message = entry.map_or_else(String::new, |entry| entry.message(detail, pass.language));
        return outcome(Status::False, Reason::DeletionWaits, message);
    }
    if pass.suspended {
        // True: it is as its owner wants it, so that whoever waits for readiness (Flux,
        // `kubectl wait`) has what was asked for.
        let entry = catalogue::entry(ConditionType::Ready, Reason::Suspended);
        let message = entry.map_or_else(String::new, |entry| entry.message("", pass.language));
        return outcome(Status::True, Reason::Suspended, message);
    }
    let failing: Vec<(ConditionType, &Condition)> = ConditionType::READY
        .into_iter()
        .filter_map(|condition| Some((condition, find(conditions, condition)?)))
        .filter(|(_, condition)| condition.status != Status::True.as_str())
        .collect();
    // A condition that is only unknown says less than one that is known to fail, wherever they
    // stand.
    let refused = failing.iter().find(|(_, condition)| condition.status == Status::False.as_str());
    let Some((_, first)) = refused.or(failing.first()) else {
        let message = match pass.language {
            Language::English => "Messages are carried both ways",
            Language::Russian => "Сообщения передаются в обе стороны",
        };
        return outcome(Status::True, Reason::Ready, message.to_owned());
    };
    let reason = first.reason.parse().unwrap_or(Reason::NotChecked);
    if refused.is_none() {
        return outcome(Status::Unknown, reason, first.message.clone());
    }
    let was_ready = find(previous, ConditionType::Ready).is_some_and(|ready| ready.status == Status::True.as_str());
    let passing = |(condition, failed): &(ConditionType, &Condition)| {
        failed.status == Status::Unknown.as_str()
            || (class(*condition, failed) == Some(Class::Outage)
                && pass.now.duration_since(failed.last_transition_time.0) < OUTAGE_GRACE)
    };
    let status = if was_ready && failing.iter().all(passing) { Status::True } else { Status::False };
    outcome(status, reason, first.message.clone())
}

/// `Stalled`: true while one of [`ConditionType::READY`] fails for a reason that only a person can
/// mend; it names the first.
fn stalled(conditions: &[Condition], pass: Pass<'_>) -> Outcome {
    let first = ConditionType::READY
        .into_iter()
        .filter_map(|condition| Some((condition, find(conditions, condition)?)))
        .filter(|(_, condition)| condition.status == Status::False.as_str())
        .find(|(condition, failed)| class(*condition, failed) == Some(Class::Stalled));
    match first {
        Some((_, failed)) if !pass.suspended => Outcome {
            condition: ConditionType::Stalled,
            status: Status::True,
            reason: failed.reason.parse().unwrap_or(Reason::NotChecked),
            message: failed.message.clone(),
        },
        _ => {
            let message = match pass.language {
                Language::English => "Nothing waits for a person",
                Language::Russian => "Ничто не ждёт человека",
            };
            Outcome {
                condition: ConditionType::Stalled,
                status: Status::False,
                reason: Reason::NotStalled,
                message: message.to_owned(),
            }
        }
    }
}

fn class(condition: ConditionType, failed: &Condition) -> Option<Class> {
    let reason = failed.reason.parse().ok()?;
    catalogue::entry(condition, reason).map(|entry| entry.class)
}

#[cfg(test)]
mod tests {
    use ConditionType::{
        AccountReady, AutoRepliesActive, CrmConnected, IntakeReady, Ready, ReceiverResolved, RelayAvailable, SpecValid,
        Stalled, TokenAuthorized,
    };

    use super::*;

    fn at(minute: i64) -> Pass<'static> {
        Pass {
            generation: 3,
            now: Timestamp::from_second(1_800_000_000 + minute * 60).unwrap(),
            language: Language::English,
            suspended: false,
            deletion: None,
        }
    }

    fn all_hold() -> Vec<Outcome> {
        ConditionType::ALL.into_iter().map(|condition| Outcome::holds(condition, Reason::Ready, "fine")).collect()
    }

    fn with(changes: &[(ConditionType, Reason)]) -> Vec<Outcome> {
        let mut outcomes = all_hold();
        for (condition, reason) in changes {
            let place = outcomes.iter_mut().find(|outcome| outcome.condition == *condition).unwrap();
            *place = match reason {
                Reason::NotChecked => Outcome::unknown(*condition, Language::English),
                reason => Outcome::fails(*condition, *reason, "", Language::English),
            };
        }
        outcomes
    }

    fn shown(conditions: &[Condition], condition: ConditionType) -> (&str, &str) {
        let found = find(conditions, condition).unwrap();
        (&found.status, &found.reason)
    }

    #[test]
    fn ready_names_the_first_failure_in_the_order_of_the_design_and_stalled_the_first_that_needs_a_person() {
        type Row = (&'static [(ConditionType, Reason)], (&'static str, &'static str), (&'static str, &'static str));
        let table: [Row; 9] = [
            (&[], ("True", "Ready"), ("False", "NotStalled")),
            (&[(AutoRepliesActive, Reason::OffHoursBotActive)], ("True", "Ready"), ("False", "NotStalled")),
            (&[(ConditionType::DeliveryHealthy, Reason::Backlog)], ("True", "Ready"), ("False", "NotStalled")),
            (&[(TokenAuthorized, Reason::TokenInvalid)], ("False", "TokenInvalid"), ("True", "TokenInvalid")),
            (
                &[(TokenAuthorized, Reason::BotUnderModeration)],
                ("False", "BotUnderModeration"),
                ("False", "NotStalled"),
            ),
            (
                &[(RelayAvailable, Reason::RelayStarting), (ReceiverResolved, Reason::ReceiverNotSelected)],
                ("False", "ReceiverNotSelected"),
                ("True", "ReceiverNotSelected"),
            ),
            (
                &[(IntakeReady, Reason::NotSubscribed), (RelayAvailable, Reason::CrashLooping)],
                ("False", "NotSubscribed"),
                ("True", "CrashLooping"),
            ),
            (&[(SpecValid, Reason::NotChecked)], ("Unknown", "NotChecked"), ("False", "NotStalled")),
            (
                &[(AccountReady, Reason::NotChecked), (CrmConnected, Reason::PackageMissing)],
                ("False", "PackageMissing"),
                ("True", "PackageMissing"),
            ),
        ];
        for (changes, ready, stalled) in table {
            let conditions = next(&[], &with(changes), at(0));
            assert_eq!((shown(&conditions, Ready), shown(&conditions, Stalled)), (ready, stalled), "{changes:?}");
        }
    }

    #[test]
    fn an_outage_after_a_success_leaves_ready_true_for_fifteen_minutes_and_no_longer() {
        let outage = with(&[(CrmConnected, Reason::CrmUnreachable), (ReceiverResolved, Reason::NotChecked)]);
        let good = next(&[], &all_hold(), at(0));
        let mut conditions = next(&good, &outage, at(10));
        assert_eq!(shown(&conditions, Ready), ("True", "CrmUnreachable"));
        conditions = next(&conditions, &outage, at(24));
        assert_eq!(shown(&conditions, Ready), ("True", "CrmUnreachable"));
        conditions = next(&conditions, &outage, at(25));
        assert_eq!(shown(&conditions, Ready), ("False", "CrmUnreachable"));
        assert_eq!(shown(&conditions, Stalled), ("False", "NotStalled"));
        conditions = next(&conditions, &outage, at(26));
        assert_eq!(
            shown(&conditions, Ready),
            ("False", "CrmUnreachable"),
            "a grace that has ended does not begin again"
        );
        conditions = next(&conditions, &all_hold(), at(27));
        assert_eq!(shown(&conditions, Ready), ("True", "Ready"));
    }

    #[test]
    fn an_outage_before_the_first_success_or_beside_a_real_failure_has_no_grace() {
        let outage = with(&[(TokenAuthorized, Reason::MaxUnreachable)]);
        assert_eq!(shown(&next(&[], &outage, at(0)), Ready), ("False", "MaxUnreachable"));
        let good = next(&[], &all_hold(), at(0));
        let both = with(&[(TokenAuthorized, Reason::MaxUnreachable), (CrmConnected, Reason::CredentialsInvalid)]);
        assert_eq!(shown(&next(&good, &both, at(1)), Ready), ("False", "MaxUnreachable"));
        assert_eq!(shown(&next(&good, &both, at(1)), Stalled), ("True", "CredentialsInvalid"));
    }

    #[test]
    fn the_time_of_a_condition_moves_with_its_status_only() {
        let first = next(&[], &with(&[(CrmConnected, Reason::CrmUnreachable)]), at(0));
        let second = next(&first, &with(&[(CrmConnected, Reason::PackageMissing)]), at(5));
        let time = |conditions: &[Condition]| find(conditions, CrmConnected).unwrap().last_transition_time.0;
        assert_eq!(time(&second), at(0).now);
        assert_eq!(shown(&second, CrmConnected), ("False", "PackageMissing"));
        assert_eq!(time(&next(&second, &all_hold(), at(9))), at(9).now);
        assert_eq!(next(&second, &with(&[(CrmConnected, Reason::PackageMissing)]), at(6)), second, "nothing changed");
    }

    #[test]
    fn every_type_stands_once_in_a_fixed_order_and_what_was_not_looked_at_is_kept() {
        let everywhere = ConditionType::ALL.into_iter().filter(|condition| condition.is_universal());
        let names: Vec<&str> = everywhere.map(ConditionType::as_str).collect();
        let first = next(&[], &[Outcome::fails(CrmConnected, Reason::PackageMissing, "", Language::English)], at(0));
        assert_eq!(first.iter().map(|condition| condition.type_.as_str()).collect::<Vec<_>>(), names);
        assert_eq!(shown(&first, SpecValid), ("Unknown", "NotChecked"));
        let second = next(&first, &[Outcome::holds(SpecValid, Reason::Valid, "")], Pass { generation: 4, ..at(1) });
        assert_eq!(second.iter().map(|condition| condition.type_.as_str()).collect::<Vec<_>>(), names);
        assert_eq!(shown(&second, CrmConnected), ("False", "PackageMissing"));
        assert_eq!(find(&second, CrmConnected).unwrap().observed_generation, Some(3));
        assert_eq!(find(&second, SpecValid).unwrap().observed_generation, Some(4));
    }

    #[test]
    fn a_suspended_channel_is_as_it_is_wanted_and_waits_for_nobody() {
        let conditions =
            next(&[], &with(&[(TokenAuthorized, Reason::TokenInvalid)]), Pass { suspended: true, ..at(0) });
        assert_eq!(shown(&conditions, Ready), ("True", "Suspended"));
        assert_eq!(shown(&conditions, Stalled), ("False", "NotStalled"));
    }
}
