//! What is wrong between manifests that are read together.

use super::Finding;
use crate::api::{
    MaxChannel, SecretProblem,
    manifest::{ChannelManifest, Manifests, SecretManifest},
    passphrase,
    path::FieldPath,
    secret_value,
};

/// Findings that only several manifests together show, each with the channel in which it is: an account or a token that two channels
/// have, and Secrets that are at hand but lack what a channel needs. A Secret that is not at hand is no finding; it may be in the
/// cluster.
pub fn across(manifests: &Manifests) -> Vec<(&ChannelManifest, Finding)> {
    let mut found = Vec::new();
    let channels: Vec<(&ChannelManifest, MaxChannel)> = manifests
        .channels
        .iter()
        .filter_map(|manifest| Some((manifest, serde_json::from_value(manifest.value.clone()).ok()?)))
        .collect();
    for (index, (manifest, channel)) in channels.iter().enumerate() {
        let spec = &channel.spec;
        let at = FieldPath::default().key("spec");
        for (other, other_channel) in &channels[..index] {
            let name = format!("{}/{} ({})", other.namespace, other.name, other.source);
            if other_channel.spec.mango.account_number == spec.mango.account_number {
                let message =
                    format!("is the account of {name} already: one account carries one channel, remove one of the two");
                found.push((*manifest, Finding::error(at.key("mango").key("accountNumber"), message)));
            }
            if other.namespace == manifest.namespace
                && other_channel.spec.mango.account_number != spec.mango.account_number
                && other_channel.spec.mango.credentials_secret_ref == spec.mango.credentials_secret_ref
            {
                let message = format!(
                    "are the keys of the account of {name}: a key opens one account, name the Secret of this one's own"
                );
                found.push((*manifest, Finding::error(at.key("mango").key("credentialsSecretRef"), message)));
            }
            if other.namespace == manifest.namespace && other_channel.spec.token_secret_ref == spec.token_secret_ref {
                let message =
                    format!("is the token of {name} already: one bot serves one channel, give this one its own");
                found.push((*manifest, Finding::error(at.key("tokenSecretRef"), message)));
            }
        }
        let mut report = |field: FieldPath, message: String| found.push((*manifest, Finding::error(field, message)));
        let secret = |name: &str| manifests.secret(&manifest.namespace, name);

        let token = &spec.token_secret_ref;
        if let Some(secret) = secret(&token.name) {
            needs(secret, &[&token.key], secret_value, &at.key("tokenSecretRef"), &mut report);
        }
        if let Some(secret) = secret(&spec.mango.credentials_secret_ref.name) {
            let field = at.key("mango").key("credentialsSecretRef");
            needs(secret, &["apiKey", "apiSalt"], secret_value, &field, &mut report);
        }
        if let Some(secret) = secret(&spec.creatio.credentials_secret_ref.name) {
            let field = at.key("creatio").key("credentialsSecretRef");
            if secret.data.contains_key("clientId") || secret.data.contains_key("clientSecret") {
                needs(secret, &["clientId", "clientSecret"], secret_value, &field, &mut report);
                if spec.creatio.identity_url.is_none() {
                    let message = "is missing, and clientId is used there: give the address of the identity service";
                    report(at.key("creatio").key("identityUrl"), message.to_owned());
                }
            } else if secret.data.contains_key("username") || secret.data.contains_key("password") {
                needs(secret, &["username", "password"], passphrase, &field, &mut report);
            } else {
                let message = format!(
                    "the Secret {} ({}) has neither clientId and clientSecret nor username and password: add one of the pairs",
                    secret.name, secret.source
                );
                report(field, message);
            }
        }
        let off_hours = spec.off_hours.as_ref().and_then(|off_hours| off_hours.bot.as_ref());
        let receiver = spec.receiver.as_ref().and_then(|receiver| receiver.bot.as_ref());
        for (bot, field) in [(receiver, "receiver"), (off_hours, "offHours")] {
            if let Some(reference) = bot.and_then(|bot| bot.credentials_secret_ref.as_ref())
                && let Some(secret) = secret(&reference.name)
            {
                let field = at.key(field).key("bot").key("credentialsSecretRef");
                needs(secret, &[&reference.key], secret_value, &field, &mut report);
            }
        }
    }
    found
}

fn needs(
    secret: &SecretManifest,
    keys: &[&str],
    read: fn(&str) -> Result<secrecy::SecretString, SecretProblem>,
    field: &FieldPath,
    report: &mut impl FnMut(FieldPath, String),
) {
    use secrecy::ExposeSecret as _;
    for key in keys {
        let problem = match secret.data.get(*key) {
            None => "has no such key: add it".to_owned(),
            Some(value) => match read(value.expose_secret()) {
                Ok(_) => continue,
                Err(problem) => problem.to_string(),
            },
        };
        report(field.clone(), format!("the key {key} of the Secret {} ({}): {problem}", secret.name, secret.source));
    }
}
