//! Events on channels. The library's recorder counts a repetition by reason and action alone and
//! keeps the words of the first; here another text is another event, and only the very same one is
//! counted.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::events::EventType;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::{action, names};
use crate::api::Language;
use crate::channel::plan::Action;
use crate::channel::reconciler::Done;
use crate::channel::subscription;

/// The same words within this time are one event that is counted.
const SERIES: Duration = Duration::from_mins(6);
/// So many are remembered at most.
const REMEMBERED: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct Known {
    /// See [`name`].
    id: Uuid,
    count: i32,
    at: Instant,
}

fn name(about: &ObjectReference, id: Uuid) -> String {
    format!("{}.{}", about.name.as_deref().unwrap_or_default(), id.simple())
}

/// See the module.
#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
    /// By a hash of what makes two events the same.
    known: Arc<Mutex<HashMap<u64, Known>>>,
    hashing: RandomState,
}

impl Events {
    pub fn new(client: Client, instance: &str) -> Self {
        Self { client, instance: instance.to_owned(), known: Arc::default(), hashing: RandomState::new() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of something on an object, or counts it.
    ///
    /// # Errors
    /// The API server refuses or does not answer.
    pub async fn tell(
        &self,
        about: &ObjectReference,
        type_: EventType,
        reason: &str,
        action: &str,
        note: &str,
    ) -> Result<(), kube::Error> {
        let namespace = about.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let key = self.hashing.hash_one((&about.uid, &about.namespace, &about.name, reason, action, note));
        let now = MicroTime(jiff::Timestamp::now());
        let before = self.known().get(&key).filter(|known| known.at.elapsed() < SERIES).copied();
        if let Some(mut known) = before {
            known.count += 1;
            known.at = Instant::now();
            let body = json!({"series": {"count": known.count, "lastObservedTime": now}});
            match api.patch(&name(about, known.id), &PatchParams::default(), &Patch::Merge(&body)).await {
                Ok(_) => {
                    self.known().insert(key, known);
                    return Ok(());
                }
                // The server forgets events after a while.
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let id = Uuid::new_v4();
        let mut event = Event {
            event_time: Some(now),
            type_: Some(if type_ == EventType::Warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(reason.to_owned()),
            action: Some(action.to_owned()),
            note: Some(note.to_owned()),
            regarding: Some(about.clone()),
            reporting_controller: Some(names::REPORTER.to_owned()),
            reporting_instance: Some(self.instance.chars().take(128).collect()),
            ..Event::default()
        };
        event.metadata.name = Some(name(about, id));
        event.metadata.namespace = Some(namespace.to_owned());
        api.create(&PostParams::default(), &event).await?;
        let mut all = self.known();
        if all.len() >= REMEMBERED {
            all.retain(|_, known| known.at.elapsed() < SERIES);
        }
        if all.len() < REMEMBERED {
            all.insert(key, Known { id, count: 1, at: Instant::now() });
        }
        Ok(())
    }
}

/// One event for people.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub reason: String,
    pub action: &'static str,
    pub note: String,
    /// What the note speaks of at its end.
    last: String,
}

/// What the changes outside that succeeded are to people: one event for all that was made in the
/// CRM at once, one for all that was changed there, and one for all that was removed.
#[must_use]
pub fn of_changes(done: &[Done], language: Language) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    for step in done.iter().filter(|step| step.outcome.is_ok()) {
        let Words { reason, action, did, what, object } = words(&step.action, language);
        let Some(same) = told.iter_mut().find(|told| told.action == action && told.reason.starts_with("Crm")) else {
            let note = if what.is_empty() { format!("{did}: {object}") } else { format!("{did}, {what}: {object}") };
            told.push(Told { reason, action, note, last: what });
            continue;
        };
        if same.last == what {
            same.note.push_str(", ");
        } else {
            same.note.push_str("; ");
            same.note.push_str(&what);
            same.note.push_str(": ");
            same.last = what;
        }
        same.note.push_str(&object);
        // By the name of the most that people would look for.
        if reason.starts_with("CrmChannel") {
            same.reason = reason;
        }
    }
    told
}

/// One change in words.
struct Words {
    reason: String,
    action: &'static str,
    did: String,
    /// In the CRM: what it is that was changed.
    what: String,
    object: String,
}

fn words(action: &Action, language: Language) -> Words {
    let say = |english: &str, russian: &str| match language {
        Language::English => english.to_owned(),
        Language::Russian => russian.to_owned(),
    };
    let at_max = |reason: &str, action, did, address: &str| Words {
        reason: reason.to_owned(),
        action,
        did,
        what: String::new(),
        object: subscription::shown(address),
    };
    let in_crm = |ends: &str, action, did, collection: &str, columns: Option<String>, id: &Uuid| {
        let (noun, what) = noun(collection, language);
        let what = columns.map_or_else(|| what.to_owned(), |columns| format!("{what} ({columns})"));
        Words { reason: format!("Crm{noun}{ends}"), action, did, what, object: id.to_string() }
    };
    match action {
        Action::Subscribe { address } => {
            let words = say("MAX is told to call the relay", "Канал подписан на обновления MAX");
            at_max("Subscribed", action::SUBSCRIBE, words, address)
        }
        Action::Unsubscribe { address, foreign: false } => {
            let words = say("MAX is told to call this address no more", "Подписка в MAX снята");
            at_max("Unsubscribed", action::UNSUBSCRIBE, words, address)
        }
        Action::Unsubscribe { address, foreign: true } => {
            let words =
                say("Another program's subscription in MAX is removed", "Подписка другой программы в MAX снята");
            at_max("ForeignSubscriptionRemoved", action::UNSUBSCRIBE, words, address)
        }
        Action::Create { collection, id, .. } => {
            let words = say("Made in Creatio", "Создано в Creatio");
            in_crm("Created", action::CREATE_IN_CRM, words, collection, None, id)
        }
        Action::Change { collection, id, columns } => {
            let names = columns.keys().cloned().collect::<Vec<_>>().join(", ");
            let words = say("Changed in Creatio", "Изменено в Creatio");
            in_crm("Changed", action::CHANGE_IN_CRM, words, collection, Some(names), id)
        }
        Action::Delete { collection, id } => {
            let words = say("Removed in Creatio", "Удалено в Creatio");
            in_crm("Removed", action::REMOVE_IN_CRM, words, collection, None, id)
        }
    }
}

fn noun(collection: &str, language: Language) -> (&str, &str) {
    let (noun, english, russian) = match collection {
        "Channel" => ("Channel", "the channel", "канал"),
        "ChatQueue" => ("Queue", "the queue", "очередь"),
        "ChatQueueOperator" => ("Agent", "agents of the queue", "операторы очереди"),
        "MaxChannelSettings" => ("Settings", "the channel's settings", "настройки канала"),
        other => (other, other, other),
    };
    match language {
        Language::English => (noun, english),
        Language::Russian => (noun, russian),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::api::Reason;
    use crate::channel::observe::Failure;
    use crate::channel::schedule::Trouble;

    #[test]
    fn what_is_done_outside_at_once_becomes_one_event_per_kind_and_what_failed_none() {
        let id = |number| Uuid::from_u128(number);
        let create = |collection, number| Action::Create { collection, id: id(number), columns: Map::new() };
        let ok = |action| Done { action, outcome: Ok(()) };
        let failure = Failure { reason: Reason::CrmUnreachable, detail: String::new(), trouble: Trouble::Outage };
        let address = "https://max.example/webhooks/max/n/a/00000000?x=secret".to_owned();
        let done = [
            ok(Action::Subscribe { address: address.clone() }),
            ok(Action::Unsubscribe { address: address.clone(), foreign: false }),
            ok(Action::Unsubscribe { address, foreign: true }),
            ok(create("MaxChannelSettings", 5)),
            ok(create("Channel", 1)),
            ok(create("ChatQueueOperator", 2)),
            ok(create("ChatQueueOperator", 3)),
            Done { action: Action::Delete { collection: "ChatQueue", id: id(4) }, outcome: Err(failure) },
        ];
        let told = of_changes(&done, Language::English);
        let reasons: Vec<&str> = told.iter().map(|told| told.reason.as_str()).collect();
        assert_eq!(reasons, ["Subscribed", "Unsubscribed", "ForeignSubscriptionRemoved", "CrmChannelCreated"]);
        assert_eq!(
            told[3].note,
            format!(
                "Made in Creatio, the channel's settings: {}; the channel: {}; agents of the queue: {}, {}",
                id(5),
                id(1),
                id(2),
                id(3)
            )
        );
        // Events of one reason and action are counted as one: what is done must be told apart.
        let actions: std::collections::BTreeSet<&str> = told.iter().map(|told| told.action).collect();
        assert_eq!(actions.len(), 3, "subscribing, unsubscribing and making rows are three actions: {actions:?}");
        assert!(told.iter().all(|told| !told.note.contains("secret")), "{told:?}");
        let russian = of_changes(&done, Language::Russian);
        assert!(russian.iter().all(|told| told.note.chars().any(|c| ('а'..='я').contains(&c))));
    }
}
