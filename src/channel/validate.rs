//! From a manifest and its secrets to what is wanted: every reference resolved, every address
//! parsed, every default filled in. Pure.
//!
//! A credential that is missing fails only what needs it, so that a channel without its MANGO
//! Secret still shows whether MAX takes the token. What makes the whole manifest unusable comes
//! back as sentences, and the last good one stays in force.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::Installation;
use crate::api::ChannelRef;
use crate::api::{self, ACCEPT_BOT, MaxChannel, SecretProblem, key};
use crate::contract::config::{BotConfig, Source};
use crate::contract::digest::fingerprint;
use crate::contract::{InstallationId, webhook};
use crate::creatio;
use crate::policy::Rules;
use crate::time::Millis;

/// Take over rows in the CRM that another owner has marked (design: annotations).
pub const ADOPT: &str = "maxchannel.dev/adopt";
/// Any change of it asks for a probe of everything now; echoed in the status.
pub const RECONCILE_AT: &str = "maxchannel.dev/reconcile-at";

/// The Secrets of one namespace: their data by name and key.
pub type Secrets = BTreeMap<String, BTreeMap<String, SecretString>>;

/// Why a credential cannot be used, as one sentence that names the Secret and the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is not there.
    Missing(String),
    /// It is there and cannot be right.
    Malformed(String),
}

impl Unusable {
    #[must_use]
    pub fn sentence(&self) -> &str {
        match self {
            Self::Missing(sentence) | Self::Malformed(sentence) => sentence,
        }
    }
}

/// A credential, or why there is none.
pub type Credential<T> = Result<T, Unusable>;

/// A token of MAX and what follows from it, which is asked for in every pass.
#[derive(Clone, Debug)]
pub struct Token {
    pub value: SecretString,
    /// Names it without telling it.
    pub fingerprint: String,
    /// See [`webhook::secret`].
    pub webhook_secret: SecretString,
    /// See [`webhook::fingerprint`].
    pub webhook_fingerprint: String,
}

impl Token {
    fn new(value: SecretString, channel: &ChannelRef) -> Self {
        let webhook_secret = webhook::secret(&value, channel);
        let webhook_fingerprint = webhook::fingerprint(&webhook_secret);
        Self { fingerprint: fingerprint([value.expose_secret()]), webhook_secret, webhook_fingerprint, value }
    }
}

/// How updates shall reach the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DesiredIntake {
    /// MAX calls our paths under this base.
    Webhook {
        base: Url,
    },
    LongPoll,
    MangoDialogs,
}

/// The key and the salt of a MANGO account.
#[derive(Clone, Debug)]
pub struct MangoAccess {
    pub api_key: SecretString,
    pub api_salt: SecretString,
    /// Names the API key without telling it.
    pub key_fingerprint: String,
    /// Names key and salt.
    pub fingerprint: String,
}

/// How to reach the CRM and as whom.
#[derive(Clone, Debug)]
pub struct CrmAccess {
    pub credentials: creatio::Credentials,
    pub ca_pem: Option<String>,
    /// What the CRM proves itself with when it sends hints.
    pub notify: Option<SecretString>,
    /// Names address, credentials and authorities.
    pub fingerprint: String,
}

/// The address and the limits of the CRM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrmAddress {
    pub url: Url,
    pub identity_url: Option<Url>,
    pub runtime: creatio::Runtime,
    pub poll_interval: Millis,
    pub requests_per_second: usize,
    pub in_flight: usize,
}

/// A bot that takes dialogs.
#[derive(Clone, Debug)]
pub struct BotAccess {
    pub config: BotConfig,
    pub key: Option<SecretString>,
}

/// What is wanted of one channel.
#[derive(Clone, Debug)]
pub struct Desired {
    pub channel: ChannelRef,
    pub installation: InstallationId,
    pub token: Credential<Token>,
    pub account_number: String,
    pub mango: Credential<MangoAccess>,
    pub crm: CrmAddress,
    pub crm_access: Credential<CrmAccess>,
    /// None: documented error 6.
    pub receiver: Option<api::Receiver>,
    pub intake: DesiredIntake,
    pub on_foreign: api::ForeignSubscription,
    /// Networks from which MANGO OFFICE may call without a signature.
    pub unsigned_from: Vec<String>,
    /// Agents' files go through MANGO OFFICE.
    pub sends_files: bool,
    /// What the world sees of us, whatever the intake: the CRM's hints go there.
    pub public_base: Option<Url>,
    pub card: Option<api::BotCard>,
    pub rules: Rules,
    pub bot: Option<BotAccess>,
    pub off_hours_bot: Option<BotAccess>,
    /// Where customers may come from.
    pub sources: Vec<Source>,
    pub retention_seconds: u64,
    pub suspended: bool,
    /// [`ADOPT`] is "true" and has not done its work yet.
    pub adopt: bool,
    /// [`ACCEPT_BOT`].
    pub accept_bot: Option<i64>,
}

impl Desired {
    /// The owner's mark of this channel in the CRM.
    #[must_use]
    pub fn mark(&self) -> String {
        self.installation.mark(&self.channel)
    }

    /// Names the token without telling it; empty without one.
    #[must_use]
    pub fn token_fingerprint(&self) -> &str {
        self.token.as_ref().map_or("", |token| token.fingerprint.as_str())
    }

    /// Where the CRM shall send its hints; empty without a secret for them or without a public
    /// address (wire contract, "Set-up through OData").
    #[must_use]
    pub fn notify_url(&self) -> String {
        let takes_hints = self.crm_access.as_ref().is_ok_and(|access| access.notify.is_some());
        match &self.public_base {
            Some(base) if takes_hints => webhook::notify_address(base, &self.channel),
            _ => String::new(),
        }
    }
}

/// Resolves a manifest that has no findings.
///
/// # Errors
/// Sentences about what cannot be used, each with its field.
pub fn validate(manifest: &MaxChannel, secrets: &Secrets, installation: &Installation) -> Result<Desired, Vec<String>> {
    let spec = &manifest.spec;
    let metadata = &manifest.metadata;
    let annotation = |key: &str| metadata.annotations.as_ref()?.get(key);
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    let channel = ChannelRef::new(namespace, metadata.name.as_deref().unwrap_or_default());
    let mut problems = Vec::new();
    let mut url = |field: &str, text: &str| match Url::parse(text) {
        Ok(url) if url.has_host() => Some(url),
        _ => {
            problems.push(format!("{field}: {text:?} is not an address; write it like https://acme.example"));
            None
        }
    };
    let crm_url = url("spec.creatio.url", &spec.creatio.url);
    let identity_url = spec.creatio.identity_url.as_deref().and_then(|text| url("spec.creatio.identityUrl", text));
    let given_base = spec.intake.as_ref().and_then(|intake| intake.webhook.as_ref()).and_then(|webhook| {
        let host = webhook.host.as_ref().map(|host| format!("https://{host}"));
        webhook.url.clone().or(host).and_then(|text| url("spec.intake.webhook", &text))
    });
    let bot = spec
        .receiver
        .as_ref()
        .and_then(|receiver| receiver.bot.as_ref())
        .and_then(|bot| bot_access("spec.receiver.bot", bot, secrets, &mut problems));
    let off_hours_bot = spec
        .off_hours
        .as_ref()
        .and_then(|off| off.bot.as_ref())
        .and_then(|bot| bot_access("spec.offHours.bot", bot, secrets, &mut problems));
    let public_base = installation.public_url.clone().or(given_base);
    let intake = intake(spec.intake.as_ref(), public_base.as_ref());
    let by_mango = intake == DesiredIntake::MangoDialogs;
    let public_base = public_base.or_else(|| installation.mango_base.clone().filter(|_| by_mango));
    if let DesiredIntake::Webhook { base } = &intake
        && base.scheme() != "https"
        && !installation.max_overridden
    {
        problems.push(format!(
            "spec.intake.webhook: MAX calls https:// addresses only, {base} is none; serve it with a certificate on port 443"
        ));
    }
    let rules = Rules::from_spec(spec).map_err(|error| problems.push(format!("spec.workingHours: {error}"))).ok();
    let accept_bot = annotation(ACCEPT_BOT).and_then(|text| {
        let id = text.trim().parse().ok();
        if id.is_none() {
            problems.push(format!("metadata.annotations[{ACCEPT_BOT}]: {text:?} is not the user id of a bot"));
        }
        id
    });
    let (Some(crm_url), Some(rules), true) = (crm_url, rules, problems.is_empty()) else {
        return Err(problems);
    };
    let crm = CrmAddress {
        url: crm_url,
        identity_url,
        runtime: match spec.creatio.runtime {
            api::Runtime::Auto => creatio::Runtime::Auto,
            api::Runtime::Net => creatio::Runtime::Net,
            api::Runtime::Framework => creatio::Runtime::Framework,
        },
        poll_interval: spec.creatio.poll_interval.millis(),
        requests_per_second: usize::try_from(spec.creatio.limits.requests_per_second).unwrap_or(1),
        in_flight: usize::try_from(spec.creatio.limits.in_flight).unwrap_or(1),
    };
    Ok(Desired {
        token: word(secrets, &spec.token_secret_ref.name, &spec.token_secret_ref.key)
            .map(|token| Token::new(token, &channel)),
        account_number: spec.mango.account_number.clone(),
        mango: mango_access(secrets, &spec.mango.credentials_secret_ref.name, intake == DesiredIntake::MangoDialogs),
        crm_access: crm_access(secrets, &spec.creatio, &crm),
        crm,
        receiver: spec.receiver.clone(),
        intake,
        on_foreign: spec.intake.as_ref().map(|intake| intake.on_foreign_subscription).unwrap_or_default(),
        unsigned_from: spec
            .intake
            .as_ref()
            .and_then(|intake| intake.mango_dialogs.as_ref()?.unsigned_from.clone())
            .unwrap_or_default(),
        sends_files: { spec.intake.as_ref() }
            .and_then(|intake| intake.mango_dialogs.as_ref()?.send_files)
            .unwrap_or_default(),
        public_base,
        card: spec.bot_card.clone(),
        rules,
        bot,
        off_hours_bot,
        sources: spec
            .widget
            .iter()
            .flat_map(|widget| &widget.sources)
            .map(|source| Source { name: source.name.clone(), title: source.title.clone() })
            .collect(),
        retention_seconds: spec.relay.retention.seconds(),
        suspended: spec.suspend,
        adopt: annotation(ADOPT).is_some_and(|value| value == "true"),
        accept_bot,
        installation: installation.id.clone(),
        channel,
    })
}

fn intake(given: Option<&api::Intake>, public_base: Option<&Url>) -> DesiredIntake {
    let long_poll = given.is_some_and(|intake| intake.long_poll.is_some());
    if given.is_some_and(|intake| intake.mango_dialogs.is_some()) {
        return DesiredIntake::MangoDialogs;
    }
    match public_base {
        Some(base) if !long_poll => DesiredIntake::Webhook { base: base.clone() },
        _ => DesiredIntake::LongPoll,
    }
}

/// A value of a Secret as it was written.
fn raw<'a>(secrets: &'a Secrets, name: &str, key: &str) -> Credential<&'a str> {
    let Some(data) = secrets.get(name) else {
        return Err(Unusable::Missing(format!("the Secret {name} is not there")));
    };
    data.get(key)
        .map(ExposeSecret::expose_secret)
        .ok_or_else(|| Unusable::Missing(format!("the Secret {name} has no key {key}")))
}

fn checked(
    secrets: &Secrets,
    name: &str,
    key: &str,
    check: fn(&str) -> Result<SecretString, SecretProblem>,
) -> Credential<SecretString> {
    check(raw(secrets, name, key)?).map_err(|problem| {
        let sentence = format!("the key {key} of the Secret {name} cannot be used: {problem}");
        if problem == SecretProblem::Empty { Unusable::Missing(sentence) } else { Unusable::Malformed(sentence) }
    })
}

/// A token, key or salt.
fn word(secrets: &Secrets, name: &str, key: &str) -> Credential<SecretString> {
    checked(secrets, name, key, api::secret_value)
}

/// A login or password.
fn phrase(secrets: &Secrets, name: &str, key: &str) -> Credential<SecretString> {
    checked(secrets, name, key, api::passphrase)
}

fn mango_access(secrets: &Secrets, name: &str, dialogs: bool) -> Credential<MangoAccess> {
    let key = word(secrets, name, key::API_KEY)?;
    let salt = word(secrets, name, key::API_SALT)?;
    Ok(MangoAccess {
        key_fingerprint: fingerprint([key.expose_secret()]),
        // With the dialogs more is looked at.
        fingerprint: fingerprint([key.expose_secret(), salt.expose_secret(), if dialogs { "dialogs" } else { "" }]),
        api_key: key,
        api_salt: salt,
    })
}

fn crm_access(secrets: &Secrets, spec: &api::Creatio, address: &CrmAddress) -> Credential<CrmAccess> {
    let name = spec.credentials_secret_ref.name.as_str();
    let oauth = || -> Credential<creatio::Credentials> {
        Ok(creatio::Credentials::OAuth {
            client_id: word(secrets, name, key::CLIENT_ID)?.expose_secret().to_owned(),
            client_secret: word(secrets, name, key::CLIENT_SECRET)?,
        })
    };
    let forms = || -> Credential<creatio::Credentials> {
        Ok(creatio::Credentials::Forms {
            username: phrase(secrets, name, key::USERNAME)?.expose_secret().to_owned(),
            password: phrase(secrets, name, key::PASSWORD)?,
        })
    };
    let has = |key| secrets.get(name).is_some_and(|data| data.contains_key(key));
    let credentials = if has(key::CLIENT_ID) || has(key::CLIENT_SECRET) {
        oauth()?
    } else if has(key::USERNAME) || has(key::PASSWORD) || !secrets.contains_key(name) {
        forms()?
    } else {
        return Err(Unusable::Missing(format!(
            "the Secret {name} has neither the keys clientId and clientSecret nor username and password"
        )));
    };
    let ca_pem = match &spec.ca_secret_ref {
        None => None,
        Some(reference) => Some(raw(secrets, &reference.name, &reference.key)?.to_owned()),
    };
    let notify = if has(key::NOTIFY_SECRET) { Some(word(secrets, name, key::NOTIFY_SECRET)?) } else { None };
    let (who, secret) = match &credentials {
        creatio::Credentials::OAuth { client_id, client_secret } => (client_id, client_secret),
        creatio::Credentials::Forms { username, password } => (username, password),
    };
    let fingerprint = fingerprint([
        address.url.as_str(),
        address.identity_url.as_ref().map_or("", Url::as_str),
        match address.runtime {
            creatio::Runtime::Auto => "auto",
            creatio::Runtime::Net => "net",
            creatio::Runtime::Framework => "framework",
        },
        who,
        secret.expose_secret(),
        ca_pem.as_deref().unwrap_or_default(),
    ]);
    Ok(CrmAccess { credentials, ca_pem, notify, fingerprint })
}

fn bot_access(field: &str, bot: &api::Bot, secrets: &Secrets, problems: &mut Vec<String>) -> Option<BotAccess> {
    let key = match bot.credentials_secret_ref.as_ref().map(|at| word(secrets, &at.name, &at.key)) {
        None => None,
        Some(Ok(key)) => Some(key),
        Some(Err(unusable)) => {
            problems.push(format!("{field}.credentialsSecretRef: {}", unusable.sentence()));
            return None;
        }
    };
    let Some(url) = Url::parse(&bot.url).ok().filter(Url::has_host) else {
        problems.push(format!("{field}.url: {:?} is not an address; write it like https://bot.acme.example", bot.url));
        return None;
    };
    let timeout_millis = u64::try_from(bot.timeout.millis()).unwrap_or(0);
    Some(BotAccess { config: BotConfig { url: with_rest_path(url), timeout_millis }, key })
}

/// Rasa's REST channel stands under this path unless the address names it already.
fn with_rest_path(mut url: Url) -> Url {
    const PATH: &str = "/webhooks/rest/webhook";
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with(PATH) {
        url.set_path(&format!("{path}{PATH}"));
    }
    url
}
