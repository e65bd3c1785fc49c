//! Every label, annotation, finalizer and field manager, in one place.

use std::collections::BTreeMap;

/// Who applies the owned objects, the status and the finalizer.
pub const MANAGER: &str = "maxchannel";
/// Reports events.
pub const REPORTER: &str = "maxchannel.dev/controller";
/// Keeps a channel until nothing of it is left outside.
pub const FINALIZER: &str = "maxchannel.dev/cleanup";
/// On owned objects: a hash of what was applied, so that a field that is no longer wanted is
/// noticed too.
pub const APPLIED: &str = "maxchannel.dev/applied";
/// On the relay's pod: changed after the configuration, which makes the kubelet bring the volume up
/// to date within a second.
pub const CONFIG: &str = "maxchannel.dev/config";

/// On the relay's volume claim, which the StatefulSet makes: the uid of the channel for which it
/// was made. A claim that was there before does not have it, whatever its name and labels are.
pub const CHANNEL: &str = "maxchannel.dev/channel";
/// On a channel: delete it at once, and let what is undelivered go with it.
pub const FORCE_DELETE: &str = "maxchannel.dev/force-delete";

pub const LABEL_NAME: &str = "app.kubernetes.io/name";
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

const APP: &str = "maxchannel";
const RELAY: &str = "relay";

/// Selects everything that belongs to any relay.
pub const RELAYS: &str =
    "app.kubernetes.io/name=maxchannel,app.kubernetes.io/component=relay,app.kubernetes.io/managed-by=maxchannel";

/// The name of a channel's owned objects.
#[must_use]
pub fn relay(channel: &str) -> String {
    format!("{channel}-relay")
}

/// The relay's pod, the only one of its StatefulSet.
#[must_use]
pub fn pod(channel: &str) -> String {
    format!("{channel}-relay-0")
}

/// The claim that the StatefulSet makes for the pod.
#[must_use]
pub fn claim(channel: &str) -> String {
    format!("data-{channel}-relay-0")
}

/// The labels of owned objects and their pods; a selector too, because they never change.
#[must_use]
pub fn labels(channel: &str) -> BTreeMap<String, String> {
    [(LABEL_NAME, APP), (LABEL_COMPONENT, RELAY), (LABEL_INSTANCE, channel), (LABEL_MANAGED_BY, APP)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
