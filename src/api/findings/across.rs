//! What is wrong between manifests that are read together.

use std::collections::{BTreeMap, HashMap, HashSet};

use secrecy::ExposeSecret as _;

use super::{Finding, schema};
use crate::api::{
    MaxChannel, SecretProblem, key,
    manifest::{ChannelManifest, Manifests, SecretManifest},
    passphrase,
    path::FieldPath,
    secret_value,
};

/// Findings that only several manifests together show, each with the channel in which it is: an
/// account, a key or a token that two channels have, Secrets that are at hand but lack what a
/// channel needs, and names of Secrets that look mistyped. Each channel is held against the first
/// that has the same thing, so that there is one finding for each, however many there are.
pub fn across(manifests: &Manifests) -> Vec<(&ChannelManifest, Finding)> {
    let mut found = Vec::new();
    let channels: Vec<(&ChannelManifest, MaxChannel)> = manifests
        .channels
        .iter()
        .filter_map(|manifest| Some((manifest, serde_json::from_value(manifest.value.clone()).ok()?)))
        .collect();
    let mut firsts = Firsts::default();
    let names = Names::of(manifests, &channels);
    for (manifest, channel) in &channels {
        let mut report = |field: FieldPath, message: String| found.push((*manifest, Finding::error(field, message)));
        firsts.compare(manifests, manifest, channel, &mut report);
        secrets(manifests, manifest, channel, &mut report);
        found.extend(names.missing(manifests, manifest, channel).into_iter().map(|finding| (*manifest, finding)));
    }
    found
}

/// The first channel that has a thing of which there can be one only.
#[derive(Default)]
struct Firsts<'a> {
    accounts: HashMap<String, &'a ChannelManifest>,
    /// By namespace and name of the Secret, with the account.
    keys: HashMap<(&'a str, String), (&'a ChannelManifest, String)>,
    /// By namespace, name and key.
    tokens: HashMap<(&'a str, String, String), &'a ChannelManifest>,
    token_values: HashMap<&'a str, &'a ChannelManifest>,
    /// With the account.
    key_values: HashMap<&'a str, (&'a ChannelManifest, String)>,
}

impl<'a> Firsts<'a> {
    fn compare(
        &mut self,
        manifests: &'a Manifests,
        manifest: &'a ChannelManifest,
        channel: &MaxChannel,
        report: &mut impl FnMut(FieldPath, String),
    ) {
        let spec = &channel.spec;
        let at = FieldPath::default().key("spec");
        let of = |other: &ChannelManifest| format!("{}/{} ({})", other.namespace, other.name, other.source);
        let value = |name: &str, key: &str| {
            let data = &manifests.secret(&manifest.namespace, name)?.data;
            Some(data.get(key)?.expose_secret().trim()).filter(|value| !value.is_empty())
        };

        let account = &spec.mango.account_number;
        match self.accounts.get(account) {
            None => drop(self.accounts.insert(account.clone(), manifest)),
            Some(other) => report(
                at.key("mango").key("accountNumber"),
                format!(
                    "is the account of {} already: one account carries one channel, remove one of the two",
                    of(other)
                ),
            ),
        }

        let keys = &spec.mango.credentials_secret_ref.name;
        let field = at.key("mango").key("credentialsSecretRef");
        let foreign = |(other, number): &(&'a ChannelManifest, String)| (number != account).then_some(*other);
        let by_name = self.keys.entry((&manifest.namespace, keys.clone())).or_insert((manifest, account.clone()));
        if let Some(other) = foreign(by_name) {
            report(
                field,
                format!(
                    "are the keys of the account of {}: a key opens one account, name the Secret of this one's own",
                    of(other)
                ),
            );
        } else if let Some(key) = value(keys, key::API_KEY)
            && let Some(other) = foreign(self.key_values.entry(key).or_insert((manifest, account.clone())))
        {
            report(
                field,
                format!(
                    "holds the same apiKey as the Secret of {}: a key opens one account, give this one its own",
                    of(other)
                ),
            );
        }

        let token = &spec.token_secret_ref;
        let field = at.key("tokenSecretRef");
        let key = (manifest.namespace.as_str(), token.name.clone(), token.key.clone());
        if let Some(other) = self.tokens.get(&key) {
            report(
                field,
                format!("is the token of {} already: one bot serves one channel, give this one its own", of(other)),
            );
            return;
        }
        self.tokens.insert(key, manifest);
        if let Some(token) = value(&token.name, &token.key) {
            match self.token_values.get(token) {
                None => drop(self.token_values.insert(token, manifest)),
                Some(other) => report(
                    field,
                    format!(
                        "holds the same token as the Secret of {}: one bot serves one channel, give this one its own",
                        of(other)
                    ),
                ),
            }
        }
    }
}

/// Whether the Secrets that are at hand have what the channel needs.
fn secrets(
    manifests: &Manifests,
    manifest: &ChannelManifest,
    channel: &MaxChannel,
    report: &mut impl FnMut(FieldPath, String),
) {
    let spec = &channel.spec;
    let at = FieldPath::default().key("spec");
    let secret = |name: &str| manifests.secret(&manifest.namespace, name);

    let token = &spec.token_secret_ref;
    if let Some(secret) = secret(&token.name) {
        needs(secret, &[&token.key], secret_value, &at.key("tokenSecretRef"), report);
    }
    if let Some(secret) = secret(&spec.mango.credentials_secret_ref.name) {
        let field = at.key("mango").key("credentialsSecretRef");
        needs(secret, &[key::API_KEY, key::API_SALT], secret_value, &field, report);
    }
    let creatio = at.key("creatio");
    if let Some(secret) = secret(&spec.creatio.credentials_secret_ref.name) {
        let field = creatio.key("credentialsSecretRef");
        let has = |key: &str| secret.data.contains_key(key) || secret.binary.contains(key);
        if has(key::CLIENT_ID) || has(key::CLIENT_SECRET) {
            needs(secret, &[key::CLIENT_ID, key::CLIENT_SECRET], secret_value, &field, report);
            if spec.creatio.identity_url.is_none() {
                let message = "is missing, and clientId is used there: give the address of the identity service";
                report(creatio.key("identityUrl"), message.to_owned());
            }
        } else if has(key::USERNAME) || has(key::PASSWORD) {
            needs(secret, &[key::USERNAME, key::PASSWORD], passphrase, &field, report);
        } else {
            let message = format!(
                "the Secret {} ({}) has neither clientId and clientSecret nor username and password: add one of the pairs",
                secret.name, secret.source
            );
            report(field.clone(), message);
        }
        if has(key::NOTIFY_SECRET) {
            needs(secret, &[key::NOTIFY_SECRET], secret_value, &field, report);
        }
    }
    if let Some(reference) = &spec.creatio.ca_secret_ref
        && let Some(secret) = secret(&reference.name)
    {
        needs(secret, &[&reference.key], certificates, &creatio.key("caSecretRef"), report);
    }
    let off_hours = spec.off_hours.as_ref().and_then(|off_hours| off_hours.bot.as_ref());
    let receiver = spec.receiver.as_ref().and_then(|receiver| receiver.bot.as_ref());
    for (bot, field) in [(receiver, "receiver"), (off_hours, "offHours")] {
        if let Some(reference) = bot.and_then(|bot| bot.credentials_secret_ref.as_ref())
            && let Some(secret) = secret(&reference.name)
        {
            let field = at.key(field).key("bot").key("credentialsSecretRef");
            needs(secret, &[&reference.key], secret_value, &field, report);
        }
    }
}

fn certificates(raw: &str) -> Result<secrecy::SecretString, SecretProblem> {
    if raw.trim().is_empty() { Err(SecretProblem::Empty) } else { Ok(raw.into()) }
}

fn needs(
    secret: &SecretManifest,
    keys: &[&str],
    read: fn(&str) -> Result<secrecy::SecretString, SecretProblem>,
    field: &FieldPath,
    report: &mut impl FnMut(FieldPath, String),
) {
    for key in keys {
        let problem = match secret.data.get(*key) {
            None if secret.binary.contains(*key) => {
                "its base64 is not that of a text in UTF-8: encode the value as it was given to you".to_owned()
            }
            None => "has no such key: add it".to_owned(),
            Some(value) => match read(value.expose_secret()) {
                Ok(_) => continue,
                Err(problem) => problem.to_string(),
            },
        };
        report(field.clone(), format!("the key {key} of the Secret {} ({}): {problem}", secret.name, secret.source));
    }
}

/// The Secrets that a channel needs, with the field that names each.
fn references(channel: &MaxChannel) -> Vec<(FieldPath, &str)> {
    let spec = &channel.spec;
    let at = FieldPath::default().key("spec");
    let mut found = vec![
        (at.key("tokenSecretRef"), spec.token_secret_ref.name.as_str()),
        (at.key("mango").key("credentialsSecretRef"), spec.mango.credentials_secret_ref.name.as_str()),
        (at.key("creatio").key("credentialsSecretRef"), spec.creatio.credentials_secret_ref.name.as_str()),
    ];
    if let Some(reference) = &spec.creatio.ca_secret_ref {
        found.push((at.key("creatio").key("caSecretRef"), &reference.name));
    }
    let receiver = spec.receiver.as_ref().and_then(|receiver| receiver.bot.as_ref());
    let off_hours = spec.off_hours.as_ref().and_then(|off_hours| off_hours.bot.as_ref());
    for (bot, field) in [(receiver, "receiver"), (off_hours, "offHours")] {
        if let Some(reference) = bot.and_then(|bot| bot.credentials_secret_ref.as_ref()) {
            found.push((at.key(field).key("bot").key("credentialsSecretRef"), &reference.name));
        }
    }
    found.into_iter().map(|(field, name)| (field.key("name"), name)).collect()
}

/// The Secrets of each namespace, and those that some channel names.
struct Names<'a> {
    present: BTreeMap<&'a str, Vec<&'a str>>,
    named: HashSet<(&'a str, &'a str)>,
}

impl<'a> Names<'a> {
    fn of(manifests: &'a Manifests, channels: &'a [(&'a ChannelManifest, MaxChannel)]) -> Self {
        let mut present: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for secret in &manifests.secrets {
            present.entry(&secret.namespace).or_default().push(&secret.name);
        }
        let named = channels.iter().flat_map(|(manifest, channel)| {
            references(channel).into_iter().map(move |(_, name)| (manifest.namespace.as_str(), name))
        });
        Self { present, named: named.collect() }
    }

    /// A Secret that is not at hand may be in the cluster. Where Secrets of that namespace are at
    /// hand it is worth a word, and where one with nearly that name is at hand and nobody asks for
    /// it, the name is mistyped.
    fn missing(&self, manifests: &Manifests, manifest: &ChannelManifest, channel: &MaxChannel) -> Vec<Finding> {
        let namespace = manifest.namespace.as_str();
        let Some(present) = self.present.get(namespace) else { return Vec::new() };
        let missing = references(channel).into_iter().filter(|(_, name)| !manifests.has_secret(namespace, name));
        missing
            .map(|(field, name)| {
                // A namespace of thousands is not searched for each name.
                let idle = present.iter().take(200).filter(|one| !self.named.contains(&(namespace, **one)));
                let idle: Vec<&str> = idle.copied().collect();
                match schema::nearest(name, &idle) {
                    Some(near) => {
                        Finding::error(field, format!("is the name of no Secret that was given: is {near:?} meant?"))
                    }
                    None => Finding::warning(
                        field,
                        "is the name of no Secret that was given, though others of the namespace were: is it mistyped?",
                    ),
                }
            })
            .collect()
    }
}
