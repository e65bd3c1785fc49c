//! Events on channels. The library's recorder counts a repetition by reason and action alone and
//! keeps the words of the first; here another text is another event, and only the very same one is
//! counted.

use std::collections::HashMap;
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

use super::{action, names};
use crate::api::Language;
use crate::channel::plan::Action;
use crate::channel::reconciler::Done;
use crate::channel::subscription;

/// The same words within this time are one event that is counted.
const SERIES: Duration = Duration::from_mins(6);
/// So many are remembered at most.
const REMEMBERED: usize = 4_096;

/// What makes two events the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    about: (Option<String>, Option<String>, Option<String>),
    reason: String,
    action: String,
    note: String,
}

#[derive(Clone, Debug)]
struct Known {
    name: String,
    count: i32,
    at: Instant,
}

/// See the module.
#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
    known: Arc<Mutex<HashMap<Key, Known>>>,
}

impl Events {
    pub fn new(client: Client, instance: &str) -> Self {
        Self { client, instance: instance.to_owned(), known: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
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
        let key = Key {
            about: (about.uid.clone(), about.namespace.clone(), about.name.clone()),
            reason: reason.to_owned(),
            action: action.to_owned(),
            note: note.to_owned(),
        };
        let now = MicroTime(jiff::Timestamp::now());
        let before = self.known().get(&key).filter(|known| known.at.elapsed() < SERIES).cloned();
        if let Some(mut known) = before {
            known.count += 1;
            known.at = Instant::now();
            let body = json!({"series": {"count": known.count, "lastObservedTime": now}});
            match api.patch(&known.name, &PatchParams::default(), &Patch::Merge(&body)).await {
                Ok(_) => {
                    self.known().insert(key, known);
                    return Ok(());
                }
                // The server forgets events after a while.
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let name = format!("{}.{}", about.name.as_deref().unwrap_or_default(), uuid::Uuid::new_v4().simple());
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
        event.metadata.name = Some(name.clone());
        event.metadata.namespace = Some(namespace.to_owned());
        api.create(&PostParams::default(), &event).await?;
        let mut all = self.known();
        if all.len() >= REMEMBERED {
            all.retain(|_, known| known.at.elapsed() < SERIES);
        }
        if all.len() < REMEMBERED {
            all.insert(key, Known { name, count: 1, at: Instant::now() });
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
}

/// What the changes outside that succeeded are to people: one event per reason.
#[must_use]
pub fn of_changes(done: &[Done], language: Language) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    for step in done.iter().filter(|step| step.outcome.is_ok()) {
        let (reason, action, words, object) = words(&step.action, language);
        match told.iter_mut().find(|told| told.reason == reason) {
            Some(same) => {
                same.note.push_str(", ");
                same.note.push_str(&object);
            }
            None => told.push(Told { reason, action, note: format!("{words}: {object}") }),
        }
    }
    told
}

fn words(action: &Action, language: Language) -> (String, &'static str, String, String) {
    let say = |english: &str, russian: &str| match language {
        Language::English => english.to_owned(),
        Language::Russian => russian.to_owned(),
    };
    match action {
        Action::Subscribe { address } => (
            "Subscribed".to_owned(),
            action::SUBSCRIBE,
            say("MAX is told to call the relay", "Канал подписан на обновления MAX"),
            subscription::shown(address),
        ),
        Action::Unsubscribe { address, foreign: false } => (
            "Unsubscribed".to_owned(),
            action::UNSUBSCRIBE,
            say("MAX is told to call this address no more", "Подписка в MAX снята"),
            subscription::shown(address),
        ),
        Action::Unsubscribe { address, foreign: true } => (
            "ForeignSubscriptionRemoved".to_owned(),
            action::UNSUBSCRIBE,
            say("Another program's subscription in MAX is removed", "Подписка другой программы в MAX снята"),
            subscription::shown(address),
        ),
        Action::Create { collection, id, .. } => {
            let (noun, what) = noun(collection, language);
            (
                format!("Crm{noun}Created"),
                action::CREATE_IN_CRM,
                format!("{}{what}", say("Made in Creatio, ", "Создано в Creatio: ")),
                id.to_string(),
            )
        }
        Action::Change { collection, id, columns } => {
            let (noun, what) = noun(collection, language);
            let names = columns.keys().cloned().collect::<Vec<_>>().join(", ");
            (
                format!("Crm{noun}Changed"),
                action::CHANGE_IN_CRM,
                format!("{}{what} ({names})", say("Changed in Creatio, ", "Изменено в Creatio: ")),
                id.to_string(),
            )
        }
        Action::Delete { collection, id } => {
            let (noun, what) = noun(collection, language);
            (
                format!("Crm{noun}Removed"),
                action::REMOVE_IN_CRM,
                format!("{}{what}", say("Removed in Creatio, ", "Удалено в Creatio: ")),
                id.to_string(),
            )
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
    use uuid::Uuid;

    use super::*;
    use crate::api::Reason;
    use crate::channel::observe::Failure;
    use crate::channel::schedule::Trouble;

    #[test]
    fn every_change_outside_becomes_one_event_per_reason_and_a_failed_one_none() {
        let id = |number| Uuid::from_u128(number);
        let create = |collection, number| Action::Create { collection, id: id(number), columns: Map::new() };
        let ok = |action| Done { action, outcome: Ok(()) };
        let failure = Failure { reason: Reason::CrmUnreachable, detail: String::new(), trouble: Trouble::Outage };
        let address = "https://max.example/webhooks/max/n/a/00000000?x=secret".to_owned();
        let done = [
            ok(Action::Subscribe { address: address.clone() }),
            ok(Action::Unsubscribe { address: address.clone(), foreign: false }),
            ok(Action::Unsubscribe { address, foreign: true }),
            ok(create("Channel", 1)),
            ok(create("ChatQueueOperator", 2)),
            ok(create("ChatQueueOperator", 3)),
            Done { action: Action::Delete { collection: "ChatQueue", id: id(4) }, outcome: Err(failure) },
        ];
        let told = of_changes(&done, Language::English);
        let reasons: Vec<&str> = told.iter().map(|told| told.reason.as_str()).collect();
        assert_eq!(
            reasons,
            ["Subscribed", "Unsubscribed", "ForeignSubscriptionRemoved", "CrmChannelCreated", "CrmAgentCreated"]
        );
        // Events of one reason and action are counted as one: what is done must be told apart.
        let actions: std::collections::BTreeSet<&str> = told.iter().map(|told| told.action).collect();
        assert_eq!(actions.len(), 3, "subscribing, unsubscribing and making rows are three actions: {actions:?}");
        assert!(told[4].note.contains(&id(2).to_string()) && told[4].note.contains(&id(3).to_string()));
        assert!(told.iter().all(|told| !told.note.contains("secret")), "{told:?}");
        let russian = of_changes(&done, Language::Russian);
        assert!(russian.iter().all(|told| told.note.chars().any(|c| ('а'..='я').contains(&c))));
    }
}
