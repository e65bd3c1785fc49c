//! Everything seen becomes the status: every condition on every pass, the same words as everywhere.
//! Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sha2::{Digest, Sha256};

use super::bot_at_max::BotAtMax;
use super::claims::Conflict;
use super::manual_steps::{self, Cabinet};
use super::observe::{Failure, Observation};
use super::plan::{self, KnownBot};
use super::receiver;
use super::schedule::Subject;
use super::subscription::{self, Whose};
use super::validate::{Desired, DesiredIntake, Unusable};
use crate::api::{
    BotStatus, ConditionType, IntakeKind, Language, MaxChannelStatus, Outcome, Pass, Reason, RelayStatus, Status,
    conditions,
};
use crate::contract::{Facts, Trouble, digest};
use crate::creatio_package;
use crate::time::Millis;

/// How long trouble with the delivery holds before it is written down.
pub const HOLD: Millis = 60_000;

/// How it stands with the relay.
#[derive(Clone, Debug, PartialEq)]
pub enum RelayState {
    /// There is none now, and why: it is starting, or something before it is wrong.
    Absent { detail: String },
    /// It runs, and has not been heard of yet: what was told of it before stands.
    Unheard,
    /// It cannot run, for a reason of `RelayAvailable`.
    Failed { reason: Reason, detail: String },
    /// It runs; `open` says that its store can be written, `wanted` is the revision that it shall
    /// have.
    Running { facts: Box<Facts>, open: bool, wanted: String },
}

impl RelayState {
    /// Whether somebody listens under the address that is to be subscribed.
    #[must_use]
    pub fn listens(&self) -> bool {
        matches!(self, Self::Running { facts, open: true, wanted } if facts.revision == *wanted)
    }

    /// Whether it runs and is on its way to what it shall be.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Running { .. }) && !self.listens()
    }

    const fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Running { facts, .. } => Some(facts),
            _ => None,
        }
    }
}

/// What of the channel's objects in the cluster is not as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unapplied {
    /// A reason of `ObjectsApplied`.
    pub reason: Reason,
    /// Which object, and the server's own words.
    pub detail: String,
    /// The relay goes on as it is, and nothing is wrong with the channel.
    pub is_harmless: bool,
}

/// Trouble with the delivery and since when it has been seen without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub reason: Reason,
    pub since: Millis,
}

/// The trouble to hold on to after a probe of the relay.
#[must_use]
pub fn hold(before: Option<Held>, relay: &RelayState, now: Millis) -> Option<Held> {
    if *relay == RelayState::Unheard {
        return before;
    }
    let facts = relay.facts()?;
    let reason = if !facts.crm.ok {
        Reason::CrmDown
    } else if !facts.max.ok && facts.max.code == Some(Trouble::Throttled) {
        Reason::MaxThrottled
    } else if facts.oldest_seconds > 60 {
        Reason::Backlog
    } else if facts.dead_letters > 0 {
        Reason::DeadLetters
    } else {
        return None;
    };
    Some(before.filter(|held| held.reason == reason).unwrap_or(Held { reason, since: now }))
}

/// Everything that a status is made of.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// None while the manifest was never usable.
    pub desired: Option<&'a Desired>,
    /// What is being looked at for the first time under the present credentials.
    pub looking: &'a [Subject],
    /// What is wrong with the newest manifest, while an older one is in force.
    pub problems: &'a [String],
    pub observation: &'a Observation,
    pub conflict: Option<&'a Conflict>,
    /// The bot of the channel.
    pub bot: Option<&'a KnownBot>,
    /// The token belongs to another bot than the channel's, and nobody has accepted it: its user
    /// id.
    pub unexpected_bot: Option<i64>,
    /// Why the last subscription was refused.
    pub intake_failure: Option<&'a Failure>,
    /// Why the last change in the CRM was refused.
    pub crm_failure: Option<&'a Failure>,
    pub relay: &'a RelayState,
    /// What of the objects in the cluster is not as it shall be; none where there is no cluster.
    pub unapplied: Option<&'a [Unapplied]>,
    pub held: Option<Held>,
    /// `metadata.generation`.
    pub generation: i64,
    /// The annotation that asks for a probe now.
    pub reconcile_at: Option<&'a str>,
    /// The annotation `adopt` has done its work.
    pub adopted: bool,
    /// Why the deletion waits, where it does.
    pub deletion: Option<&'a str>,
    pub now: Millis,
    pub language: Language,
}

/// The next status.
#[must_use]
pub fn report(view: &View<'_>, previous: &MaxChannelStatus) -> MaxChannelStatus {
    let pass = Pass {
        generation: view.generation,
        now: whole_second(view.now),
        language: view.language,
        suspended: view.desired.is_some_and(|desired| desired.suspended),
        deletion: view.deletion,
    };
    MaxChannelStatus {
        observed_generation: Some(view.generation),
        last_handled_reconcile_at: view.reconcile_at.map(echo),
        adopted: view.adopted,
        bot: view.bot.map(|bot| BotStatus {
            user_id: bot.user_id,
            username: bot.username.clone(),
            name: Some(bot.name.clone()).filter(|name| !name.is_empty()),
        }),
        intake: view.desired.map(|desired| match desired.intake {
            DesiredIntake::Webhook { .. } => IntakeKind::Webhook,
            DesiredIntake::LongPoll => IntakeKind::LongPoll,
            DesiredIntake::MangoDialogs => IntakeKind::MangoDialogs,
        }),
        relay: match view.relay.facts() {
            Some(facts) => {
                Some(RelayStatus { version: Some(facts.version.clone()), revision: Some(facts.revision.clone()) })
            }
            // What it said last: a deletion knows by it that the relay has run.
            None => previous.relay.clone(),
        },
        conditions: {
            let previous = applicable(view, &previous.conditions);
            conditions::next(&previous, &told(view, &previous), pass)
        },
    }
}

/// The most characters of the annotation that the status takes.
const LONGEST_ECHO: usize = 256;

/// The annotation as the status shows it. One that is longer than the status takes is shown by its
/// hash, so that every change of it still shows.
fn echo(reconcile_at: &str) -> String {
    if reconcile_at.chars().count() <= LONGEST_ECHO {
        return reconcile_at.to_owned();
    }
    format!("sha256:{}", digest::hex(&Sha256::digest(reconcile_at.as_bytes())))
}

/// Kubernetes keeps times of conditions in whole seconds.
fn whole_second(now: Millis) -> Timestamp {
    Timestamp::from_second(now.div_euclid(1_000)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Of what was told before what this channel still has.
fn applicable(view: &View<'_>, previous: &[Condition]) -> Vec<Condition> {
    let by_mango = view.desired.is_none_or(|desired| desired.intake == DesiredIntake::MangoDialogs);
    let manual = ConditionType::ManualSteps.as_str();
    previous.iter().filter(|condition| by_mango || condition.type_ != manual).cloned().collect()
}

/// What this pass found out, without what is only not known yet: until the probe is over, what was
/// found out before stands.
fn told(view: &View<'_>, previous: &[Condition]) -> Vec<Outcome> {
    let is_looked_at = |condition| {
        let subjects: &[Subject] = match condition {
            ConditionType::TokenAuthorized | ConditionType::BotCardInSync => &[Subject::Bot],
            ConditionType::IntakeReady => &[Subject::Bot, Subject::Subscriptions],
            ConditionType::CrmConnected => &[Subject::Crm],
            ConditionType::ManualSteps if view.relay.facts().is_none_or(|facts| facts.mango.is_none()) => return true,
            ConditionType::AccountReady | ConditionType::ReceiverResolved | ConditionType::ManualSteps => {
                &[Subject::Mango]
            }
            ConditionType::RelayAvailable | ConditionType::DeliveryHealthy => {
                return *view.relay == RelayState::Unheard;
            }
            _ => &[],
        };
        subjects.iter().any(|subject| view.looking.contains(subject))
    };
    let mut outcomes = outcomes(view);
    outcomes.retain(|outcome| {
        outcome.status != Status::Unknown
            || !is_looked_at(outcome.condition)
            || conditions::find(previous, outcome.condition).is_none()
    });
    outcomes
}

/// What this pass found out, one per condition but `Ready` and `Stalled`.
#[must_use]
pub fn outcomes(view: &View<'_>) -> Vec<Outcome> {
    let mut outcomes = vec![spec_valid(view), objects_applied(view)];
    let Some(desired) = view.desired else {
        let said =
            [ConditionType::Ready, ConditionType::Stalled, ConditionType::SpecValid, ConditionType::ObjectsApplied];
        let mut rest = ConditionType::ALL.to_vec();
        rest.retain(|condition| condition.is_universal() && !said.contains(condition));
        outcomes.extend(rest.into_iter().map(|condition| Outcome::unknown(condition, view.language)));
        return outcomes;
    };
    let of = Of { view, desired };
    outcomes.extend([
        of.token_authorized(),
        of.bot_card_in_sync(),
        of.account_ready(),
        of.receiver_resolved(),
        of.auto_replies_active(),
        of.crm_connected(),
        of.intake_ready(),
        of.relay_available(),
        of.delivery_healthy(),
    ]);
    outcomes.extend(of.manual_steps());
    outcomes
}

fn spec_valid(view: &View<'_>) -> Outcome {
    if view.problems.is_empty() {
        let message = say(view.language, "The manifest has no errors", "Ошибок в манифесте нет");
        Outcome::holds(ConditionType::SpecValid, Reason::Valid, message)
    } else {
        Outcome::fails(ConditionType::SpecValid, Reason::InvalidSpec, &view.problems.join("; "), view.language)
    }
}

/// The first of the worst is the reason; all are told.
fn objects_applied(view: &View<'_>) -> Outcome {
    use ConditionType::ObjectsApplied as This;
    let Some(unapplied) = view.unapplied else {
        let message =
            say(view.language, "Without a cluster there is nothing to apply", "Вне кластера применять нечего");
        return Outcome::holds(This, Reason::Applied, message);
    };
    let Some(first) = unapplied.iter().find(|one| !one.is_harmless).or(unapplied.first()) else {
        let message = say(
            view.language,
            "The API server has everything that the channel needs",
            "В кластере есть всё, что нужно каналу",
        );
        return Outcome::holds(This, Reason::Applied, message);
    };
    let same = |one: &&Unapplied| one.is_harmless == first.is_harmless;
    let detail = unapplied.iter().filter(same).map(|one| one.detail.as_str()).collect::<Vec<_>>().join("; ");
    if first.is_harmless {
        Outcome::holds_but(This, first.reason, &detail, view.language)
    } else {
        Outcome::fails(This, first.reason, &detail, view.language)
    }
}

pub(super) const fn say<'a>(language: Language, english: &'a str, russian: &'a str) -> &'a str {
    match language {
        Language::English => english,
        Language::Russian => russian,
    }
}

struct Of<'a> {
    view: &'a View<'a>,
    desired: &'a Desired,
}

impl Of<'_> {
    fn fails(&self, condition: ConditionType, reason: Reason, detail: &str) -> Outcome {
        Outcome::fails(condition, reason, detail, self.view.language)
    }

    fn failed(&self, condition: ConditionType, failure: &Failure) -> Outcome {
        self.fails(condition, failure.reason, &failure.detail)
    }

    fn unknown(&self, condition: ConditionType) -> Outcome {
        Outcome::unknown(condition, self.view.language)
    }

    fn say<'a>(&self, english: &'a str, russian: &'a str) -> &'a str {
        say(self.view.language, english, russian)
    }

    fn held_by(&self, holder: &crate::api::ChannelRef) -> String {
        format!("{} {holder}", self.say("held by", "занято каналом"))
    }

    fn token_authorized(&self) -> Outcome {
        use ConditionType::TokenAuthorized as This;
        match &self.desired.token {
            Err(Unusable::Missing(sentence)) => return self.fails(This, Reason::TokenNotFound, sentence),
            Err(Unusable::Malformed(sentence)) => return self.fails(This, Reason::TokenInvalid, sentence),
            Ok(_) => {}
        }
        match self.view.conflict {
            Some(Conflict::Account { .. }) => return self.unknown(This),
            Some(Conflict::Bot { holder }) => return self.fails(This, Reason::BotInUse, &self.held_by(holder)),
            None => {}
        }
        let observed = &self.view.observation.bot;
        if observed.basis == self.desired.token_fingerprint()
            && let Some(failure) = &observed.failure
        {
            return self.failed(This, failure);
        }
        let Some(seen) = observed.current(self.desired.token_fingerprint()) else { return self.unknown(This) };
        if let (Some(unexpected), Some(bot)) = (self.view.unexpected_bot, self.view.bot) {
            let detail = format!("userId {unexpected}, {} {}", self.say("before", "прежде"), bot.user_id);
            return self.fails(This, Reason::BotChanged, &detail);
        }
        if let Some(holder) = plan::other_address(self.desired, self.view.observation) {
            let detail = format!("{} {holder}", self.say("held by", "занято:"));
            return self.fails(This, Reason::BotInUse, &detail);
        }
        // GET /me speaks of the token here; only a delivery shows that the cabinet has one that MAX
        // refuses.
        if self.mango_facts().is_some_and(|facts| facts.refused_since.is_some()) {
            let said = "authorization-failed";
            let detail = match self.view.language {
                Language::English => format!(
                    "MANGO OFFICE does not deliver: {said}; paste the token in its cabinet again: {}",
                    manual_steps::CHANNEL_MENU
                ),
                Language::Russian => format!(
                    "MANGO OFFICE не доставляет сообщения: {said}; вставьте токен ещё раз в его кабинете: {}",
                    manual_steps::CHANNEL_MENU
                ),
            };
            return self.fails(This, Reason::AuthorizationFailed, &detail);
        }
        let nick = seen.username.as_ref().map_or_else(|| seen.user_id.to_string(), |nick| format!("@{nick}"));
        let message = format!("{} {nick}", self.say("MAX takes the token of", "MAX принимает токен бота"));
        Outcome::holds(This, Reason::Authorized, message)
    }

    /// What the relay has seen of Манго Диалоги, where the dialogs come through them.
    fn mango_facts(&self) -> Option<&crate::contract::MangoFacts> {
        self.view.relay.facts()?.mango.as_ref().filter(|_| self.desired.intake == DesiredIntake::MangoDialogs)
    }

    fn bot_card_in_sync(&self) -> Outcome {
        use ConditionType::BotCardInSync as This;
        let Some(card) = &self.desired.card else {
            let message = self.say("The manifest has no botCard to compare", "В манифесте нет botCard для сравнения");
            return Outcome::holds(This, Reason::CardNotGiven, message);
        };
        let Some(seen) = &self.view.observation.bot.seen else { return self.unknown(This) };
        let seen_username = seen.username.clone().unwrap_or_default();
        let seen_description = seen.description.clone().unwrap_or_default();
        let differs: Vec<&str> = [
            ("name", &card.name, &seen.name),
            ("username", &card.username, &seen_username),
            ("description", &card.description, &seen_description),
        ]
        .into_iter()
        .filter(|(_, wanted, seen)| wanted.as_ref().is_some_and(|wanted| wanted.trim() != seen.trim()))
        .map(|(field, _, _)| field)
        .collect();
        if differs.is_empty() {
            Outcome::holds(
                This,
                Reason::InSync,
                self.say("The card in MAX is as it should be", "Карточка в MAX совпадает"),
            )
        } else {
            self.fails(This, Reason::CardDiffers, &differs.join(", "))
        }
    }

    fn account_ready(&self) -> Outcome {
        use ConditionType::AccountReady as This;
        if let Some(Conflict::Account { holder }) = self.view.conflict {
            return self.fails(This, Reason::AccountInUse, &self.held_by(holder));
        }
        let access = match &self.desired.mango {
            Err(Unusable::Missing(sentence)) => return self.fails(This, Reason::CredentialsNotFound, sentence),
            Err(Unusable::Malformed(sentence)) => return self.fails(This, Reason::CredentialsInvalid, sentence),
            Ok(access) => access,
        };
        let observed = &self.view.observation.mango;
        match &observed.failure {
            Some(failure) if observed.basis == access.fingerprint => self.failed(This, failure),
            _ if observed.current(&access.fingerprint).is_some() => {
                let message =
                    self.say("MANGO OFFICE takes the credentials of account", "MANGO OFFICE принимает ключи счёта");
                Outcome::holds(This, Reason::Connected, format!("{message} {}", self.desired.account_number))
            }
            _ => self.unknown(This),
        }
    }

    fn receiver_resolved(&self) -> Outcome {
        use ConditionType::ReceiverResolved as This;
        if self.desired.receiver.is_none() {
            return self.fails(This, Reason::ReceiverNotSelected, "");
        }
        let Some(directory) = self.view.observation.mango.seen.as_ref().filter(|_| self.view.conflict.is_none()) else {
            return self.unknown(This);
        };
        let resolved = match receiver::resolve(self.desired.receiver.as_ref(), directory) {
            Ok(resolved) => resolved,
            Err(unresolved) => return self.fails(This, unresolved.reason, &unresolved.detail),
        };
        let kind = if resolved.is_group {
            self.say("group", "группа")
        } else {
            self.say("employee", "сотрудник")
        };
        let label = format!("{kind} {}", resolved.name);
        let mut missing = Vec::new();
        if let Some(view) = &self.view.observation.crm.seen {
            let agents = receiver::agents(&resolved, &view.users);
            missing = agents.missing;
            if agents.found.is_empty() {
                return self.fails(This, Reason::AgentsMissingInCrm, &missing.join("; "));
            }
        }
        let bot_is_away = self.view.relay.facts().is_some_and(|facts| !facts.bot.ok);
        let served_by_bot = resolved.behind_bot || self.desired.off_hours_bot.is_some();
        let mut outcome = if served_by_bot && bot_is_away {
            // Informational: dialogs are taken, only not by the bot.
            let outcome = self.fails(This, Reason::FallbackServing, &label);
            Outcome { status: crate::api::Status::True, ..outcome }
        } else {
            Outcome::holds(This, Reason::Resolved, label.clone())
        };
        if !missing.is_empty() && outcome.reason == Reason::Resolved {
            // Somebody takes the dialogs, so the condition holds; who cannot take them is named all
            // the same.
            outcome.reason = Reason::AgentsMissingInCrm;
            outcome.message =
                format!("{label}; {}: {}", self.say("not found in the CRM", "не найдены в CRM"), missing.join("; "));
        }
        outcome
    }

    fn auto_replies_active(&self) -> Outcome {
        use ConditionType::AutoRepliesActive as This;
        let rules = &self.desired.rules;
        let off_hours =
            matches!(&rules.off_hours, crate::policy::OffHours::AutoReplies(replies) if !replies.is_empty());
        if rules.off_hours_bot_active(self.view.now) {
            self.fails(This, Reason::OffHoursBotActive, "")
        } else if rules.auto_replies.is_empty() && !off_hours {
            self.fails(This, Reason::AutoRepliesNotConfigured, "")
        } else if self.mango_facts().is_some_and(crate::contract::MangoFacts::is_automatic) {
            Outcome::holds_but(This, Reason::RepliedTwice, "", self.view.language)
        } else {
            let message = self.say("Automatic replies are shown", "Автоответы показываются");
            Outcome::holds(This, Reason::Active, message)
        }
    }

    fn crm_connected(&self) -> Outcome {
        use ConditionType::CrmConnected as This;
        let access = match &self.desired.crm_access {
            Err(Unusable::Missing(sentence)) => return self.fails(This, Reason::CredentialsNotFound, sentence),
            Err(Unusable::Malformed(sentence)) => return self.fails(This, Reason::CredentialsInvalid, sentence),
            Ok(access) => access,
        };
        if self.view.conflict.is_some() {
            return self.unknown(This);
        }
        let observed = &self.view.observation.crm;
        let ours = observed.basis.starts_with(access.fingerprint.as_str());
        if let Some(failure) = observed.failure.as_ref().filter(|_| ours) {
            return self.failed(This, failure);
        }
        let Some(seen) = observed.seen.as_ref().filter(|_| ours) else { return self.unknown(This) };
        if let Some(owner) = plan::other_owner(self.desired, self.view.observation) {
            return self.fails(This, Reason::OwnedElsewhere, &owner);
        }
        if let Some(failure) = self.view.crm_failure {
            return self.failed(This, failure);
        }
        let connected = |note: &str| {
            if creatio_package::is_older(&seen.package) {
                let detail = format!("{} < {}{note}", seen.package, creatio_package::VERSION);
                return Outcome::holds_but(This, Reason::PackageOutdated, &detail, self.view.language);
            }
            let message = self.say("The CRM answers, package MaxChannel", "CRM отвечает, пакет MaxChannel");
            Outcome::holds(This, Reason::Connected, format!("{message} {}{note}", seen.package))
        };
        match seen.rows.as_ref().and_then(|rows| rows.channel.as_ref()) {
            // Without somebody to take the dialogs the channel is not made yet, and that has its
            // own condition.
            None if seen.rows.is_none() || plan::resolved(self.desired, self.view.observation).is_none() => {
                connected(self.say(
                    "; the channel is made once it is known who takes the dialogs",
                    "; канал создаётся, когда известен получатель",
                ))
            }
            None => self.fails(This, Reason::ChannelMissing, ""),
            Some(channel) if !channel.is_active => self.fails(This, Reason::ChannelInactive, ""),
            Some(_) => connected(""),
        }
    }

    fn intake_ready(&self) -> Outcome {
        use ConditionType::IntakeReady as This;
        if self.view.conflict.is_some() {
            return self.unknown(This);
        }
        if self.desired.intake == DesiredIntake::MangoDialogs {
            return self.mango_intake();
        }
        if let Some(owner) = plan::other_owner(self.desired, self.view.observation)
            .or_else(|| plan::other_address(self.desired, self.view.observation))
        {
            return self.fails(This, Reason::NotSubscribed, &owner);
        }
        if self.desired.token.is_err() || self.view.observation.subscriptions.seen.is_none() {
            return self.unknown(This);
        }
        let seen = plan::subscriptions(self.desired, self.view.observation);
        let foreign: Vec<String> = seen
            .iter()
            .filter(|(_, whose)| matches!(whose, Whose::Foreign | Whose::Elsewhere))
            .map(|(seen, _)| subscription::shown(&seen.url))
            .collect();
        let foreign = foreign.join(", ");
        if self.desired.intake == DesiredIntake::LongPoll {
            return if foreign.is_empty() {
                Outcome::holds(
                    This,
                    Reason::Polling,
                    self.say("The relay asks MAX for updates", "Ретранслятор сам запрашивает обновления у MAX"),
                )
            } else {
                self.fails(This, Reason::ForeignSubscription, &foreign)
            };
        }
        if seen.iter().any(|(_, whose)| *whose == Whose::Current) {
            let message = self.say("MAX calls the relay", "MAX присылает обновления ретранслятору");
            return if foreign.is_empty() {
                Outcome::holds(This, Reason::Subscribed, message)
            } else {
                // Both receive everything, so ours works; who else listens is named.
                let beside =
                    self.say("another program is subscribed beside it", "кроме него подписана другая программа");
                Outcome::holds(This, Reason::ForeignSubscription, format!("{message}; {beside}: {foreign}"))
            };
        }
        match self.view.intake_failure {
            Some(failure) if matches!(failure.reason, Reason::NotSubscribed | Reason::CertificateRejected) => {
                self.failed(This, failure)
            }
            Some(failure) => self.fails(This, Reason::NotSubscribed, &failure.detail),
            None => self.fails(This, Reason::NotSubscribed, ""),
        }
    }

    /// Dialogs come through the channel of MAX in the cabinet, which only the cabinet can set up.
    fn mango_intake(&self) -> Outcome {
        use ConditionType::IntakeReady as This;
        let Some(directory) = self.view.observation.mango.seen.as_ref() else { return self.unknown(This) };
        let Some(channel) = directory.channel() else { return self.fails(This, Reason::MangoNotConnected, "") };
        if !channel.enabled {
            let off = self.say(
                "its group of channels is switched off; switch it on under Инструменты → Манго Диалоги → Группы каналов",
                "её группа каналов выключена; включите её в разделе Инструменты → Манго Диалоги → Группы каналов",
            );
            return self.fails(This, Reason::MangoNotConnected, &format!("{off}: {}", channel.name));
        }
        let mut message =
            self.say("Dialogs come through Манго Диалоги", "Диалоги приходят через Манго Диалоги").to_owned();
        let held = BotAtMax::of(self.desired, self.view.observation);
        if let Some(held) = &held {
            message = format!("{message}; {}", held.words(self.view.language));
            let is_unseen = self.mango_facts().is_some_and(|facts| facts.called_at.is_none());
            if held.is_not_mangos() && is_unseen {
                message = format!("{message}: {}", manual_steps::token_step(self.view.language));
            }
        }
        let resolved = plan::resolved(self.desired, self.view.observation);
        match resolved.filter(|resolved| !channel.serves(resolved, directory)) {
            None => Outcome::holds(This, Reason::Subscribed, message),
            Some(resolved) => {
                let drift = self.say(
                    "the cabinet gives them to somebody else than the manifest",
                    "в кабинете выбран другой получатель, чем в манифесте",
                );
                let step = manual_steps::receiver_step(&resolved, self.view.language);
                Outcome::holds(This, Reason::Subscribed, format!("{message}; {drift}: {step}"))
            }
        }
    }

    /// What only a person can set in the cabinet; none where the dialogs come another way.
    fn manual_steps(&self) -> Option<Outcome> {
        use ConditionType::ManualSteps as This;
        if self.desired.intake != DesiredIntake::MangoDialogs {
            return None;
        }
        let seen = self.view.observation.mango.seen.as_ref().filter(|_| self.view.conflict.is_none());
        let Some(directory) = seen else { return Some(self.unknown(This)) };
        let resolved = plan::resolved(self.desired, self.view.observation);
        let is_not_mangos = BotAtMax::of(self.desired, self.view.observation).is_some_and(|held| held.is_not_mangos());
        let cabinet = Cabinet { directory, resolved: resolved.as_ref(), facts: self.mango_facts(), is_not_mangos };
        Some(match manual_steps::left(self.desired, cabinet, self.view.language) {
            Some(steps) => self.fails(This, Reason::ManualActionRequired, &steps),
            // What only the relay sees is not known.
            None if cabinet.facts.is_none() => self.unknown(This),
            None => {
                let message = self.say(
                    "Nothing is left to be set by hand in MANGO OFFICE",
                    "Настраивать вручную в MANGO OFFICE больше нечего",
                );
                Outcome::holds(This, Reason::StepsDone, message)
            }
        })
    }

    fn relay_available(&self) -> Outcome {
        use ConditionType::RelayAvailable as This;
        if self.view.conflict.is_some() {
            return self.unknown(This);
        }
        match self.view.relay {
            RelayState::Unheard => self.unknown(This),
            RelayState::Absent { detail } => self.fails(This, Reason::RelayStarting, detail),
            RelayState::Failed { reason, detail } => self.fails(This, *reason, detail),
            RelayState::Running { facts, .. } if let Some(trouble) = facts.store_away() => {
                let moved = *trouble == Trouble::StoreMoved;
                self.fails(This, if moved { Reason::StoreMoved } else { Reason::StoreHeld }, "")
            }
            RelayState::Running { facts, .. } if !facts.store_writable => self.fails(This, Reason::StoreUnwritable, ""),
            // It answers already, but its Service does not lead to it yet.
            RelayState::Running { open: false, .. } => self.fails(This, Reason::RelayStarting, ""),
            RelayState::Running { facts, wanted, .. } if facts.revision != *wanted => {
                self.fails(This, Reason::ConfigPending, "")
            }
            RelayState::Running { .. } => {
                Outcome::holds(This, Reason::Available, self.say("The relay runs", "Ретранслятор работает"))
            }
        }
    }

    fn delivery_healthy(&self) -> Outcome {
        use ConditionType::DeliveryHealthy as This;
        if self.view.relay.facts().is_none_or(|facts| facts.store_away().is_some()) {
            return self.unknown(This);
        }
        match self.view.held {
            Some(held) if self.view.now - held.since >= HOLD => self.fails(This, held.reason, ""),
            _ => Outcome::holds(This, Reason::Delivering, self.say("Messages flow", "Сообщения доставляются")),
        }
    }
}
