//! What is kept of one channel between passes, and lost with the process: everything in it can be
//! found out again.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};
use secrecy::SecretString;
use tokio::sync::OwnedMutexGuard;

use super::Error;
use super::cleanup::Tried;
use super::context::Context;
use super::names;
use super::owned::is_seen_ours;
use super::refusal::Refusals;
use super::relay_link::Talk;
use super::resource::Channel;
use super::scope::Scope;
use super::start::Start;
use super::warnings::Warnings;
use super::withheld::Withheld;
use super::writer::Memory;
use crate::api::{self, ConditionType, MaxChannel, MaxChannelStatus, Reason};
use crate::channel::claims::Conflict;
use crate::channel::errands::Errands;
use crate::channel::plan::KnownBot;
use crate::channel::reconciler::{Reconciler, Standing};
use crate::channel::validate::Secrets;
use crate::contract::config::file;
use crate::contract::{Facts, Undelivered};
use crate::telemetry;
use crate::time::Millis;

/// A manifest, or what is wrong with it, one sentence each.
pub type Judged = Result<Arc<MaxChannel>, Vec<String>>;

/// See [`ChannelState::first_until`].
const FIRST: Duration = Duration::from_secs(5);

/// The texts in a Secret.
type Values = BTreeMap<String, SecretString>;

/// Secrets as they were read, by namespace and name, as long as a channel keeps them: those that
/// many channels refer to, such as one CRM's, are read and kept once.
#[derive(Debug, Default)]
pub struct SharedSecrets {
    known: Mutex<HashMap<(String, String), Read>>,
    /// Held by whoever reads one that many refer to.
    reading: Mutex<HashMap<(String, String), Turn>>,
}

/// Of which version a Secret was read, and what was in it.
type Read = (String, Weak<Values>);

/// Who may read a Secret now.
type Turn = Arc<tokio::sync::Mutex<()>>;

impl SharedSecrets {
    fn get(&self, namespace: &str, name: &str, version: &str) -> Option<Arc<Values>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, values) = known.get(&(namespace.to_owned(), name.to_owned()))?;
        values.upgrade().filter(|_| held == version)
    }

    /// Returns once nobody else reads this one.
    async fn turn(&self, namespace: &str, name: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            reading.entry((namespace.to_owned(), name.to_owned())).or_default().clone()
        };
        turn.lock_owned().await
    }

    fn put(&self, namespace: &str, name: &str, version: &str, values: &Arc<Values>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() == known.capacity() {
            known.retain(|_, (_, values)| values.strong_count() > 0);
        }
        known.insert((namespace.to_owned(), name.to_owned()), (version.to_owned(), Arc::downgrade(values)));
    }
}

/// The state in which the owned objects were found to be as they shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Of the channel, see [`Channel::desired_hash`].
    pub desired: u64,
    /// Of the relay's configuration.
    pub revision: String,
    /// See [`Scope::events`].
    pub events: (u64, u64),
}

/// What counts for as long as the objects have the versions that are noted with it, whoever leads.
#[derive(Debug, Default)]
pub struct Kept {
    secrets: BTreeMap<String, (String, Arc<Values>)>,
    applied: Memory,
    token: Option<SecretString>,
}

/// See the module.
#[derive(Debug)]
pub struct ChannelState {
    pub reconciler: Reconciler,
    /// The last manifest without errors, with the installation's defaults filled in.
    pub good: Option<Arc<MaxChannel>>,
    judged: Option<(u64, Judged)>,
    secrets: BTreeMap<String, (String, Arc<Values>)>,
    /// For which channel, by [`Channel::desired_hash`], all Secrets that it refers to are held.
    holds_all_of: Option<u64>,
    /// Of which channel and Secrets the reconciler has been told, as a hash.
    told_of: Option<u64>,
    /// What the relay was told when this replica led before, as long as its Secret is the same.
    told_token: Option<SecretString>,
    has_recalled_token: bool,
    /// Secrets that were there before and are not any more: they serve to clean up when a whole
    /// namespace is deleted at once.
    pub gone: Secrets,
    pub applied: Memory,
    pub settled: Option<Settled>,
    /// What is under way outside.
    pub errands: Errands,
    /// What the cluster tells of a relay that does not run.
    pub warnings: Warnings,
    /// Whether an earlier process has told the relay of what is not allowed any more.
    pub withheld: Withheld,
    /// What the API server refuses.
    pub refusals: Refusals,
    /// Who holds what this channel asks for, if another does.
    pub conflict: Option<Conflict>,
    /// The status that was written last, and the version of the channel from which it was made.
    pub written: Option<(Option<String>, Arc<MaxChannelStatus>)>,
    /// Until when a new channel's first configuration and status wait for what is under way.
    pub first_until: Option<Millis>,
    pub facts: Option<Facts>,
    pub talk: Talk,
    /// The last touch of the pod: for which revision, how often, and when.
    pub touched: Option<(String, u32, Millis)>,
    /// Since when the relay has nothing to do any more, while the channel is being deleted.
    pub idle_since: Option<Millis>,
    /// Why the deletion waits, as it was told last.
    pub waits_for: Vec<String>,
    /// When our subscriptions were taken away, by passed time.
    pub left_at: Option<Millis>,
    /// For how long this process has tried to delete the channel.
    pub deleting: Tried,
    /// What was undelivered when the relay last said so; none while it has not said anything to
    /// this process.
    pub undelivered: Option<Undelivered>,
    pub was_ready: bool,
    /// While it is on its way to its first Ready and nothing is wrong.
    pub start: Option<Start>,
}

impl ChannelState {
    pub fn new(context: &Context, channel: &Channel) -> Self {
        let status = channel.status.clone().unwrap_or_default();
        let bot = status.bot.clone().map(|bot| KnownBot {
            user_id: bot.user_id,
            username: bot.username,
            name: bot.name.unwrap_or_default(),
        });
        let ready = api::conditions::find(&status.conditions, api::ConditionType::Ready);
        let was_ready = ready.is_some_and(|ready| ready.status == "True");
        let standing = standing(&status);
        let mut reconciler = Reconciler::new(channel.reference(), context.clients.clone(), bot, status);
        reconciler.recall(standing);
        reconciler.set_cadence(context.settings.cadence.clone());
        Self {
            reconciler,
            good: None,
            judged: None,
            secrets: BTreeMap::new(),
            holds_all_of: None,
            told_of: None,
            told_token: None,
            has_recalled_token: false,
            gone: Secrets::new(),
            applied: Memory::new(),
            settled: None,
            errands: Errands::new(context.permits.clone()),
            warnings: Warnings::default(),
            withheld: Withheld::default(),
            refusals: Refusals::default(),
            conflict: None,
            written: None,
            first_until: None,
            facts: None,
            talk: Talk::default(),
            touched: None,
            idle_since: None,
            waits_for: Vec::new(),
            left_at: None,
            deleting: Tried::default(),
            undelivered: None,
            was_ready,
            start: (!was_ready).then(Start::default),
        }
    }

    /// Takes what stays of a state that is forgotten.
    pub fn keep(&mut self) -> Kept {
        Kept {
            secrets: std::mem::take(&mut self.secrets),
            applied: std::mem::take(&mut self.applied),
            token: self.reconciler.token().cloned(),
        }
    }

    /// With what has stayed of an earlier one.
    pub fn with(self, kept: Kept) -> Self {
        Self { secrets: kept.secrets, applied: kept.applied, told_token: kept.token, ..self }
    }

    /// The manifest as it stands in the cluster, judged once per change.
    pub fn judge(&mut self, channel: &Channel, context: &Context) -> Judged {
        let desired = channel.desired_hash();
        if let Some((_, judged)) = self.judged.as_ref().filter(|(known, _)| *known == desired) {
            return judged.clone();
        }
        let judged = channel.manifest().and_then(|manifest| {
            let forbidden = context.settings.forbidden(&manifest);
            if forbidden.is_empty() { Ok(Arc::new(context.settings.with_defaults(manifest))) } else { Err(forbidden) }
        });
        if let Ok(manifest) = &judged {
            self.good = Some(manifest.clone());
        }
        self.judged = Some((desired, judged.clone()));
        judged
    }

    /// Gives the manifest and the Secrets of the moment to the reconciler, where they are others
    /// than last time.
    pub fn tell_reconciler(&mut self, channel: &Channel, judged: Result<&MaxChannel, Vec<String>>, now: Millis) {
        let Ok(manifest) = judged else {
            self.told_of = None;
            return self.reconciler.set(judged, &Secrets::new(), now);
        };
        let mut hasher = DefaultHasher::new();
        channel.desired_hash().hash(&mut hasher);
        self.secrets.iter().for_each(|(name, (version, _))| (name, version).hash(&mut hasher));
        let told_of = Some(hasher.finish());
        if self.told_of == told_of {
            self.reconciler.go_on(now);
        } else {
            self.reconciler.set(Ok(manifest), &self.secrets(), now);
            self.told_of = told_of;
        }
    }

    /// Lets the relay go on under the token that it was told before this process began, until MAX
    /// has taken the manifest's: what was pasted meanwhile may be wrong, and the relay's own Secret
    /// may hold the only copy of the right one.
    ///
    /// # Errors
    /// The API server refuses or does not answer.
    pub async fn recall_token(&mut self, channel: &Channel, scope: &Scope, context: &Context) -> Result<(), Error> {
        if self.has_recalled_token || self.reconciler.token().is_some() || self.reconciler.bot().is_none() {
            return Ok(());
        }
        let name = channel.reference();
        let of_relay = names::relay(&name.name);
        let seen = scope.secrets.seen(&name.namespace, &of_relay).filter(|seen| is_seen_ours(seen, channel));
        if let Some(seen) = seen {
            let is_as_applied = self.applied.get("Secret").is_some_and(|applied| applied.is_version(&seen));
            let mut told = self.told_token.take().filter(|_| is_as_applied);
            if told.is_none() {
                let api: Api<Secret> = Api::namespaced(context.writer.client().clone(), &name.namespace);
                told = api.get_opt(&of_relay).await?.and_then(|secret| data(secret).remove(file::TOKEN));
            }
            if let Some(token) = told {
                self.reconciler.recall_token(token);
            }
        }
        self.has_recalled_token = true;
        Ok(())
    }

    /// The Secrets that are held now.
    pub fn secrets(&self) -> Secrets {
        self.secrets.iter().map(|(name, (_, values))| (name.clone(), Values::clone(values))).collect()
    }

    /// Holds the Secrets that the channel refers to, each read once per version.
    ///
    /// # Errors
    /// The API server refuses or does not answer.
    pub async fn dereference(&mut self, channel: &Channel, scope: &Scope, context: &Context) -> Result<(), Error> {
        let namespace = channel.namespace().unwrap_or_default();
        let version_of = |name: &str| scope.secrets.seen(&namespace, name).and_then(|secret| secret.version);
        let desired = channel.desired_hash();
        let is_held = |(name, (held, _)): (&String, &(String, _))| version_of(name).as_deref() == Some(held.as_str());
        if self.holds_all_of.take_if(|of| *of == desired).is_some() && self.secrets.iter().all(is_held) {
            self.holds_all_of = Some(desired);
            return Ok(());
        }
        self.holds_all_of = None;
        let names = channel.secret_names();
        let count = names.len();
        self.secrets.retain(|name, _| names.contains(name));
        self.gone.retain(|name, _| names.contains(name));
        let mut is_refused = false;
        for name in names {
            let Some(version) = version_of(&name).map(String::from) else {
                self.forget(name);
                continue;
            };
            if self.secrets.get(&name).is_some_and(|(held, _)| *held == version) {
                continue;
            }
            let is_shared = scope.is_shared(&namespace, &name);
            let _turn = if is_shared { Some(context.secrets.turn(&namespace, &name).await) } else { None };
            if let Some(values) = context.secrets.get(&namespace, &name, &version) {
                self.gone.remove(&name);
                self.secrets.insert(name, (version, values));
                continue;
            }
            let api: Api<Secret> = Api::namespaced(context.writer.client().clone(), &namespace);
            let now = context.clock.now();
            if self.refusals.waits("reading", &version, now) {
                is_refused = true;
                continue;
            }
            let outcome = api.get_opt(&name).await.map_err(Error::from);
            let object = format!("Secret {name}, which cannot be read");
            let Some(found) = self.refusals.take("reading", &object, &version, now, outcome)? else {
                // What was read before goes on serving.
                is_refused = true;
                continue;
            };
            match found {
                Some(secret) => {
                    let version = secret.resource_version().unwrap_or(version);
                    let values = Arc::new(data(secret));
                    context.secrets.put(&namespace, &name, &version, &values);
                    self.gone.remove(&name);
                    self.secrets.insert(name, (version, values));
                }
                None => self.forget(name),
            }
        }
        if !is_refused {
            self.refusals.clear("reading");
        }
        self.holds_all_of = (!is_refused && self.secrets.len() == count).then_some(desired);
        Ok(())
    }

    /// Until when what a new channel's passes do not know yet is waited for, so that its relay is
    /// told and its status is written once, and not in steps that nobody could follow. Longer while
    /// many channels wait: then everything takes longer.
    pub fn first_until(&mut self, context: &Context, scope: &Scope) -> Millis {
        *self.first_until.get_or_insert_with(|| {
            let pause = FIRST * if scope.queue.is_busy() { 4 } else { 1 };
            context.clock.now() + i64::try_from(pause.as_millis()).unwrap_or(0)
        })
    }

    fn forget(&mut self, name: String) {
        if let Some((_, values)) = self.secrets.remove(&name) {
            self.gone.insert(name, Values::clone(&values));
        }
    }
}

/// Whose the bot was, as the status says.
fn standing(status: &MaxChannelStatus) -> Standing {
    let fails = |condition, reason: Reason| {
        let found = api::conditions::find(&status.conditions, condition);
        found.is_some_and(|found| found.status == "False" && found.reason == reason.as_str())
    };
    Standing {
        adopted: status.adopted,
        elsewhere: fails(ConditionType::CrmConnected, Reason::OwnedElsewhere)
            || fails(ConditionType::TokenAuthorized, Reason::BotInUse),
    }
}

/// The values of a Secret that are texts; each is redacted from the logs from here on.
pub fn data(secret: Secret) -> BTreeMap<String, SecretString> {
    let values = secret.data.unwrap_or_default().into_iter();
    values
        .filter_map(|(key, value)| Some((key, SecretString::from(String::from_utf8(value.0).ok()?))))
        .inspect(|(_, value)| telemetry::hide(value))
        .collect()
}
