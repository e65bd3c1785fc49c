//! A relay that was told of hosts which the installation no longer allows is held back: it takes
//! and sends nothing, and the addresses and credentials of the CRM and of the bots are taken out of
//! its configuration.
//!
//! Within one process the last good manifest names allowed hosts only. A new process, with other
//! hosts allowed, may find a relay that an earlier one has told of others, and a manifest from
//! which nothing else can be made.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use url::Url;

use super::context::Context;
use super::owned::is_seen_ours;
use super::resource::Channel;
use super::scope::Scope;
use super::writer::is_controlled_by;
use super::{Error, names};
use crate::api::AllowedHosts;
use crate::contract::digest::fingerprint;

/// What a relay is told of the external systems that a manifest chooses, and where the addresses in
/// it stand.
const OUTSIDE: [(&str, &[&str]); 3] =
    [("creatio", &["url", "identityUrl"]), ("bot", &["url"]), ("offHoursBot", &["url"])];
/// The settings file among the Secret's data.
const SETTINGS: &str = "channel.json";
/// The credentials that go with it: all but those for MAX.
const KEPT: [&str; 3] = [SETTINGS, "token", "webhookSecrets"];

/// What was found out of the relay's configuration.
#[derive(Debug, Default)]
pub struct Withheld {
    /// Of the Secret that was judged last.
    version: Option<String>,
    /// The revision that holds the relay back, where it is held back.
    pub revision: Option<String>,
}

impl Withheld {
    /// What is wrong with a manifest, and what that means for the relay.
    #[must_use]
    pub fn told(&self, mut problems: Vec<String>) -> Vec<String> {
        if self.revision.is_some() {
            problems.push(
                "until then the relay takes and sends nothing, for it was told of a host that is no longer allowed"
                    .to_owned(),
            );
        }
        problems
    }

    /// Looks at what the relay was told, where that is the channel's and has changed since the last
    /// time, and holds it back where it must be. To be called while there is no manifest that may
    /// be used.
    ///
    /// # Errors
    /// The API server refuses or does not answer.
    pub async fn observe(&mut self, context: &Context, scope: &Scope, channel: &Channel) -> Result<(), Error> {
        let name = channel.reference();
        let relay = names::relay(&name.name);
        let known = scope.secrets.seen(&name.namespace, &relay);
        let uid = channel.uid().unwrap_or_default();
        let Some(version) =
            known.filter(|known| is_seen_ours(known, channel)).and_then(|known| known.version).map(String::from)
        else {
            return Ok(());
        };
        if self.version.as_ref() == Some(&version) {
            return Ok(());
        }
        let api: Api<Secret> = Api::namespaced(context.writer.client().clone(), &name.namespace);
        let Some(secret) = api.get_opt(&relay).await?.filter(|found| is_controlled_by(found, &uid)) else {
            return Ok(());
        };
        let data = secret.data.clone().unwrap_or_default();
        let told: Value = data.get(SETTINGS).and_then(|text| serde_json::from_slice(&text.0).ok()).unwrap_or_default();
        let hosts = forbidden(&told, &context.settings.allowed_hosts);
        if hosts.is_empty() {
            // Held back already, maybe by an earlier process, or told of nothing that is forbidden.
            self.revision = told["withheld"].is_string().then(|| text(&told["revision"]));
            self.version = secret.resource_version();
            return Ok(());
        }
        let (settings, revision) = held_back(told);
        let others = data.keys().filter(|key| !KEPT.contains(&key.as_str()));
        let mut body = json!({
            "metadata": {
                "uid": secret.uid(), "resourceVersion": secret.resource_version(),
                "annotations": {names::APPLIED: "withheld"},
            },
            "stringData": {SETTINGS: settings.to_string()},
        });
        body["data"] = others.map(|key| (key.clone(), Value::Null)).collect::<serde_json::Map<_, _>>().into();
        context.fence.check(&name)?;
        let written = api.patch(&relay, &PatchParams::default(), &Patch::Merge(&body)).await?;
        self.version = written.resource_version();
        self.revision = Some(revision);
        let note = format!(
            "The relay takes and sends nothing any more: it was told of {}, which this installation no longer allows (allowedHosts)",
            hosts.join(", ")
        );
        context.writer.event(channel, EventType::Warning, "RelayWithheld", "Withhold", &note).await;
        Ok(())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The hosts in a relay's settings that are not allowed.
fn forbidden(told: &Value, allowed: &AllowedHosts) -> Vec<String> {
    let addresses = OUTSIDE.iter().flat_map(|(what, fields)| fields.iter().map(move |field| &told[*what][*field]));
    let hosts = addresses.filter_map(|address| Url::parse(address.as_str()?).ok()?.host_str().map(ToOwned::to_owned));
    let mut hosts: Vec<String> = hosts.filter(|host| !allowed.allows(host)).collect();
    hosts.dedup();
    hosts
}

/// The settings of a relay that is held back, and their revision.
fn held_back(mut told: Value) -> (Value, String) {
    let revision = fingerprint([text(&told["revision"]).as_str(), "withheld"]);
    for (what, _) in OUTSIDE {
        told[what] = Value::Null;
    }
    told["suspended"] = json!(true);
    told["revision"] = json!(revision);
    // For the next process.
    told["withheld"] = json!("allowedHosts");
    (told, revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_is_held_back_knows_no_address_that_a_manifest_has_chosen_and_takes_nothing() {
        let told = json!({
            "revision": "1", "suspended": false, "max": {"baseUrl": "https://platform.example"},
            "creatio": {"url": "https://crm.example", "identityUrl": "https://is.crm.example"},
            "bot": {"url": "https://bot.example/webhooks/rest/webhook"}, "offHoursBot": null,
        });
        let allowed = |hosts: &str| hosts.parse::<AllowedHosts>().unwrap();
        for (hosts, expected) in [
            ("", vec![]),
            ("*.example", vec![]),
            ("crm.example,is.crm.example,bot.example", vec![]),
            ("crm.example,bot.example", vec!["is.crm.example"]),
            ("*.crm.example,crm.example", vec!["bot.example"]),
            ("elsewhere.example", vec!["crm.example", "is.crm.example", "bot.example"]),
        ] {
            assert_eq!(forbidden(&told, &allowed(hosts)), expected, "{hosts}");
        }
        let (held, revision) = held_back(told);
        assert_eq!((held["suspended"].as_bool(), held["revision"].as_str()), (Some(true), Some(revision.as_str())));
        assert_eq!(forbidden(&held, &allowed("nobody.example")), Vec::<String>::new());
        assert_eq!(held["max"]["baseUrl"], "https://platform.example", "MAX is the installation's own");
    }
}
