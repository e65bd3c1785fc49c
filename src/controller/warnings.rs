//! What the cluster itself tells of a relay that does not run: the events of its StatefulSet, claim
//! and pod. Read only while the relay does not run, and more rarely the longer that lasts.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;

use super::context::Context;
use crate::api::ChannelRef;
use crate::time::{Backoff, Millis};

/// Until they are read again; each further time twice as long.
const AGAIN: Backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(15));

/// One warning, repeated as often as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub reason: String,
    pub words: String,
    pub times: i32,
}

/// The warnings about one object, newest first.
#[derive(Debug, Default)]
pub struct Warnings {
    pub about: String,
    pub all: Vec<Warning>,
    read: u32,
    due: Option<Millis>,
}

impl Warnings {
    /// The relay runs.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// When they are to be read again.
    #[must_use]
    pub const fn due(&self) -> Option<Millis> {
        self.due
    }

    /// Reads the warnings about an object, named by its uid or name as a field selector takes it,
    /// if that is due. Whether they were read.
    pub async fn read(&mut self, context: &Context, channel: &ChannelRef, about: &str) -> bool {
        let now = context.clock.now();
        if self.about != about {
            *self = Self { about: about.to_owned(), ..Self::default() };
        }
        if self.due.is_some_and(|due| now < due) {
            return false;
        }
        self.due = Some(now + AGAIN.millis_after(self.read));
        self.read = self.read.saturating_add(1);
        let api: Api<Event> = Api::namespaced(context.writer.client().clone(), &channel.namespace);
        match api.list(&ListParams::default().fields(&format!("involvedObject.{about}")).limit(200)).await {
            Ok(list) => self.all = warnings(list.items),
            // Without that right the relay's state is told without the cluster's words.
            Err(error) => tracing::debug!("events cannot be read: {error}"),
        }
        true
    }
}

/// The warnings that no later success has made void, newest first.
fn warnings(mut events: Vec<Event>) -> Vec<Warning> {
    let at = |event: &Event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
        series
            .or(event.last_timestamp.as_ref().map(|time| time.0))
            .or(event.event_time.as_ref().map(|time| time.0))
            .or(event.metadata.creation_timestamp.as_ref().map(|time| time.0))
    };
    events.sort_by_key(|event| std::cmp::Reverse(at(event)));
    let is_success = |event: &Event| {
        event.reason.as_deref() == Some("SuccessfulCreate")
            && event.message.as_deref().is_some_and(|words| words.contains("create Pod"))
    };
    events
        .into_iter()
        .take_while(|event| !is_success(event))
        .filter(|event| event.type_.as_deref() == Some("Warning"))
        .map(|event| Warning {
            reason: event.reason.unwrap_or_default(),
            words: event.message.unwrap_or_default().trim().to_owned(),
            times: event.series.and_then(|series| series.count).or(event.count).unwrap_or(1),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_warning_stands_first_and_a_later_success_makes_earlier_ones_void() {
        let event = |type_: &str, reason: &str, message: &str, second: u32| -> Event {
            serde_json::from_value(json!({"metadata": {}, "involvedObject": {}, "type": type_, "reason": reason,
                "message": message, "count": second, "lastTimestamp": format!("2026-01-01T00:00:{second:02}Z")}))
            .unwrap()
        };
        let events = vec![
            event("Warning", "FailedCreate", "exceeded quota: q", 1),
            event("Normal", "SuccessfulCreate", "create Pod a-relay-0 in StatefulSet a-relay successful", 2),
            event("Warning", "FailedCreate", "violates PodSecurity", 3),
            event("Normal", "SuccessfulCreate", "create Claim data-a-relay-0 Pod a-relay-0 success", 4),
            event("Warning", "FailedCreate", "denied the request", 5),
        ];
        let found: Vec<(String, i32)> = warnings(events).into_iter().map(|one| (one.words, one.times)).collect();
        assert_eq!(found, [("denied the request".to_owned(), 5), ("violates PodSecurity".to_owned(), 3)]);
    }
}
