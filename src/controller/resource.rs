//! A channel as the API server has it: typed metadata around a value that nobody has judged yet.
//!
//! The watch takes whatever stands in the cluster, so that one object that no longer fits the types
//! (after a change of the definition, or where rules were loosened by hand) neither stalls the
//! others nor itself: it gets `SpecValid=False`, and can still be deleted.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::names;
use crate::api::ChannelRef;
use crate::api::{self, API_VERSION, CreatioLimits, GROUP, KIND, MaxChannel, MaxChannelStatus, VERSION};
use crate::creatio::site;

/// See the module.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Channel {
    #[serde(default)]
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    /// None where there is none, or none that is understood.
    #[serde(default, deserialize_with = "as_far_as_understood", skip_serializing_if = "Option::is_none")]
    pub status: Option<Arc<MaxChannelStatus>>,
}

/// What a person has written, as text: read when it changes, and kept for as long as the channel.
#[derive(Clone, Debug)]
struct Spec(Box<str>);

impl Default for Spec {
    fn default() -> Self {
        Self("null".into())
    }
}

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|spec| Self(spec.to_string().into()))
    }
}

impl Serialize for Spec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

impl Spec {
    fn value(&self) -> Value {
        // It was made from a value.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

fn as_far_as_understood<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<MaxChannelStatus>>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok().map(Arc::new))
}

impl Resource for Channel {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "maxchannels".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Channel {
    #[must_use]
    pub fn reference(&self) -> ChannelRef {
        ChannelRef::new(self.namespace().unwrap_or_default(), self.name_any())
    }

    /// The manifest, judged by the same rules as everywhere.
    ///
    /// # Errors
    /// One sentence per finding.
    pub fn manifest(&self) -> Result<MaxChannel, Vec<String>> {
        let whole = serde_json::json!({
            "apiVersion": API_VERSION, "kind": KIND, "metadata": self.metadata, "spec": self.spec,
        });
        api::parse(&whole).map_err(|findings| {
            let errors = findings.iter().filter(|finding| finding.severity == api::Severity::Error);
            errors.map(ToString::to_string).collect()
        })
    }

    /// A member of what a person has written, where it is one of these.
    #[must_use]
    pub fn member<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_value(self.spec.value().get_mut(name)?.take()).ok()
    }

    /// The conditions as they stand in the cluster.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    #[must_use]
    pub fn has_finalizer(&self) -> bool {
        self.finalizers().iter().any(|name| name == names::FINALIZER)
    }

    #[must_use]
    pub const fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    #[must_use]
    pub fn owner(&self) -> Option<OwnerReference> {
        self.controller_owner_ref(&())
    }

    /// The number of the account, also of a manifest that is otherwise wrong: it still holds the
    /// account.
    #[must_use]
    pub fn account_number(&self) -> Option<String> {
        self.spec.value().pointer("/mango/accountNumber").and_then(Value::as_str).map(ToOwned::to_owned)
    }

    /// The site of the CRM and the requests a second that the channel names, as far as the manifest
    /// can be read.
    #[must_use]
    pub fn crm(&self) -> Option<(String, usize)> {
        let spec = self.spec.value();
        if spec.get("suspend") == Some(&Value::Bool(true)) {
            return None;
        }
        let url = spec.pointer("/creatio/url").and_then(Value::as_str)?;
        let limit = spec.pointer("/creatio/limits/requestsPerSecond").and_then(Value::as_u64);
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        let usual = || usize::try_from(CreatioLimits::default().requests_per_second).unwrap_or(1);
        Some((site(&url.parse().ok()?), limit.unwrap_or_else(usual)))
    }

    /// The names of all Secrets that the manifest refers to: the members `…SecretRef` wherever they
    /// stand.
    #[must_use]
    pub fn secret_names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        collect(&self.spec.value(), &mut names);
        names
    }

    /// Changes with everything that a person writes: spec, annotations, deletion.
    #[must_use]
    pub fn desired_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.metadata.uid.hash(&mut hasher);
        self.metadata.generation.hash(&mut hasher);
        self.annotations().hash(&mut hasher);
        self.is_deleted().hash(&mut hasher);
        hasher.finish()
    }
}

fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member.get("name").and_then(Value::as_str) {
                    Some(name) if key.ends_with("SecretRef") => {
                        names.insert(name.to_owned());
                    }
                    _ => collect(member, names),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_to_a_secret_is_found_wherever_it_stands() {
        let spec = serde_json::json!({
            "tokenSecretRef": {"name": "a", "key": "k"},
            "mango": {"credentialsSecretRef": {"name": "b"}},
            "creatio": {"credentialsSecretRef": {"name": "c"}, "caSecretRef": {"name": "d"}},
            "receiver": {"bot": {"credentialsSecretRef": {"name": "e"}, "fallback": {"group": {"name": "no"}}}},
            "relay": {"imagePullSecrets": [{"name": "no"}]},
        });
        let channel = Channel { spec: Spec(spec.to_string().into()), ..Channel::default() };
        assert_eq!(channel.secret_names().into_iter().collect::<String>(), "abcde");
    }

    #[test]
    fn an_object_that_fits_no_type_is_still_an_object() {
        let text = r#"{"metadata": {"name": "x", "namespace": "n", "finalizers": ["maxchannel.dev/cleanup"]},
            "spec": [1, {"a": null}], "status": {"conditions": "none"}}"#;
        let channel: Channel = serde_json::from_str(text).unwrap();
        assert_eq!(channel.status, None);
        assert!(channel.has_finalizer());
        assert!(channel.manifest().is_err_and(|problems| !problems.is_empty()));
        assert_eq!(channel.secret_names(), BTreeSet::new());
    }
}
