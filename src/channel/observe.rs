//! What external systems say: MAX about the bot and its subscriptions, MANGO OFFICE about people,
//! Creatio about the package, users and rows.
//!
//! Reads, never writes. A probe that fails leaves what was seen before in place beside the failure,
//! so that an outage neither removes an agent nor forgets a channel.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::SecretString;

use super::Installation;
use super::receiver::{CabinetChannel, Directory, Person, PersonGroup};
use super::schedule::Trouble;
use super::validate::{CrmAccess, CrmAddress, MangoAccess};
use crate::api::Reason;
use crate::creatio::{self, ids};
use crate::time::Millis;
use crate::transport::{Addresses, ReqwestTransport, Transport, Trust};
use crate::{mango, max};

/// The clients of one process. Those with equal credentials are one, so that limits and penalties
/// count once.
pub struct Clients {
    installation: Arc<Installation>,
    max: (Arc<dyn Transport>, Arc<dyn Transport>),
    mango: Arc<dyn Transport>,
    /// For CRMs with certificates of public authorities; others get a transport of their own.
    crm: Arc<dyn Transport>,
    mango_by_key: Mutex<HashMap<String, mango::Client>>,
    crm_by_access: Mutex<HashMap<String, creatio::Client>>,
    sites: creatio::Sites,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Clients").finish_non_exhaustive()
    }
}

impl Clients {
    /// The real ones.
    ///
    /// # Errors
    /// A certificate of the installation is broken.
    pub fn new(installation: Arc<Installation>) -> Result<Self, String> {
        let max =
            max::transports(installation.max_overridden, installation.max_ca_pem.as_deref(), &installation.max_url)?;
        let public = || ReqwestTransport::external(Trust::public(), Addresses::Any).map(Arc::new);
        Ok(Self::over(installation, max, public()?, public()?))
    }

    /// Over given transports.
    pub fn over(
        installation: Arc<Installation>,
        max: (Arc<dyn Transport>, Arc<dyn Transport>),
        mango: Arc<dyn Transport>,
        crm: Arc<dyn Transport>,
    ) -> Self {
        Self {
            installation,
            max,
            mango,
            crm,
            mango_by_key: Mutex::default(),
            crm_by_access: Mutex::default(),
            sites: creatio::Sites::default(),
        }
    }

    /// The CRMs whose limits are kept together with relays of this process.
    #[must_use]
    pub fn sites(&self) -> &creatio::Sites {
        &self.sites
    }

    #[must_use]
    pub fn installation(&self) -> &Arc<Installation> {
        &self.installation
    }

    /// One bot at MAX.
    #[must_use]
    pub fn max(&self, token: &SecretString) -> max::Client {
        let settings = max::Settings { base_url: self.installation.max_url.clone(), token: token.clone() };
        max::Client::new(self.max.0.clone(), self.max.1.clone(), settings)
    }

    /// One account at MANGO OFFICE.
    #[must_use]
    pub fn mango(&self, access: &MangoAccess) -> mango::Client {
        let mut clients = self.mango_by_key.lock().unwrap_or_else(PoisonError::into_inner);
        clients
            .entry(access.fingerprint.clone())
            .or_insert_with(|| {
                let settings = mango::Settings {
                    base_url: self.installation.mango_url.clone(),
                    api_key: access.api_key.clone(),
                    api_salt: access.api_salt.clone(),
                    dialogs_per_second: mango::OF_LOOKS,
                };
                mango::Client::new(self.mango.clone(), settings)
            })
            .clone()
    }

    /// One CRM as one user.
    ///
    /// # Errors
    /// The certificates of `caSecretRef` are broken.
    pub fn crm(&self, address: &CrmAddress, access: &CrmAccess) -> Result<creatio::Client, String> {
        let mut clients = self.crm_by_access.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&access.fingerprint) {
            client.set_pace(creatio::Pace::per_second(address.requests_per_second));
            return Ok(client.clone());
        }
        let transport: Arc<dyn Transport> = match &access.ca_pem {
            None => self.crm.clone(),
            Some(pem) => Arc::new(ReqwestTransport::external(Trust::with_pem(pem)?, Addresses::Any)?),
        };
        let client = creatio::Client::beside(
            &self.sites,
            transport,
            creatio::Settings {
                url: address.url.clone(),
                identity_url: address.identity_url.clone(),
                runtime: address.runtime,
                credentials: access.credentials.clone(),
                requests_per_second: address.requests_per_second,
                in_flight: address.in_flight,
            },
        );
        clients.insert(access.fingerprint.clone(), client.clone());
        Ok(client)
    }
}

/// Why a probe or a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    /// One sentence of this case, without times and counters that change from probe to probe.
    pub detail: String,
    pub trouble: Trouble,
}

/// What was seen of one subject, and how the last probe of it went.
#[derive(Clone, Debug)]
pub struct Observed<T> {
    /// What was seen last, kept through failures.
    pub seen: Option<T>,
    /// Under which credentials and addresses the last probe was made.
    pub basis: String,
    /// Why the last probe failed; none where it succeeded.
    pub failure: Option<Failure>,
    /// Failures in a row.
    pub failures: u32,
    /// When the last probe ended.
    pub at: Option<Millis>,
}

impl<T> Default for Observed<T> {
    fn default() -> Self {
        Self { seen: None, basis: String::new(), failure: None, failures: 0, at: None }
    }
}

impl<T> Observed<T> {
    /// Takes in how a probe under `basis` went at `at`; whether it saw anything else than the one
    /// before.
    pub fn take(&mut self, basis: &str, at: Millis, outcome: Result<T, Failure>) -> bool
    where
        T: PartialEq,
    {
        let same_basis = self.basis == basis;
        let is_news = !same_basis || self.failure.is_some() || self.seen.as_ref() != outcome.as_ref().ok();
        basis.clone_into(&mut self.basis);
        self.at = Some(at);
        match outcome {
            Ok(seen) => {
                self.seen = Some(seen);
                self.failure = None;
                self.failures = 0;
            }
            Err(failure) => {
                self.failures = if same_basis { self.failures.saturating_add(1) } else { 1 };
                self.failure = Some(failure);
            }
        }
        is_news
    }

    /// What was seen, if the last probe was made under `basis` and succeeded.
    #[must_use]
    pub fn current(&self, basis: &str) -> Option<&T> {
        self.seen.as_ref().filter(|_| self.failure.is_none() && self.basis == basis)
    }
}

/// What was seen in the CRM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrmView {
    /// Version of the package.
    pub package: String,
    pub users: Arc<Vec<creatio::User>>,
    pub rules: Vec<creatio::RoutingRule>,
    /// The channel's own rows; none while the bot is not known.
    pub rows: Option<Rows>,
}

/// The rows made of one bot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub settings: Option<creatio::MaxChannelSettings>,
    pub channel: Option<creatio::Channel>,
    pub queue: Option<creatio::ChatQueue>,
    pub agents: Vec<creatio::ChatQueueAgent>,
}

/// Everything seen of one channel.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    pub bot: Observed<max::Bot>,
    /// Whom MAX calls for this bot.
    pub subscriptions: Observed<Vec<max::Subscription>>,
    pub mango: Observed<Directory>,
    pub crm: Observed<CrmView>,
}

/// GET /me.
///
/// # Errors
/// A reason of `TokenAuthorized`.
pub async fn bot(client: &max::Client, installation: &Installation) -> Result<max::Bot, Failure> {
    client.me().await.map_err(|error| max_failure(&error, installation))
}

/// GET /subscriptions.
///
/// # Errors
/// A reason of `TokenAuthorized`.
pub async fn subscriptions(
    client: &max::Client,
    installation: &Installation,
) -> Result<Vec<max::Subscription>, Failure> {
    client.subscriptions().await.map_err(|error| max_failure(&error, installation))
}

/// What a refusal of MAX to a question about the bot means.
#[must_use]
pub fn max_failure(error: &max::Error, installation: &Installation) -> Failure {
    let detail = error.to_string();
    let outage = |detail| Failure { reason: Reason::MaxUnreachable, detail, trouble: Trouble::Outage };
    match (error.class(), error.status()) {
        (max::Class::Transient | max::Class::Throttled { .. }, _) | (_, None) => outage(detail),
        (_, Some(status)) => {
            match installation.max_error_reasons.reason(status, error.code().unwrap_or_default(), error.message()) {
                Reason::MaxUnreachable => outage(detail),
                reason => Failure { reason, detail, trouble: Trouble::Refused },
            }
        }
    }
}

/// Employees and groups, everything listed and chosen from here: a question about one that is not
/// there would count as a wrong request (MANGO OFFICE API reference, "Penalty box for wrong
/// requests"). `had_people`: the probe before found some.
///
/// # Errors
/// A reason of `AccountReady`.
pub async fn mango(client: &mango::Client, had_people: bool, dialogs: bool) -> Result<Directory, Failure> {
    client.balance().await.map_err(|error| mango_failure(&error))?;
    let employees = client.employees().await.map_err(|error| mango_failure(&error))?;
    let groups = client.groups(true).await.map_err(|error| mango_failure(&error))?;
    let widgets = if dialogs { client.widgets().await.map_err(|error| mango_failure(&error))? } else { Vec::new() };
    let directory = Directory {
        channels: widgets.iter().flat_map(cabinet_channels).collect(),
        people: employees
            .into_iter()
            .map(|employee| Person {
                id: employee.user_id.map_or(0, |id| id.0),
                extension: employee.extension,
                name: employee.name,
                email: employee.email,
                groups: employee.groups.into_iter().map(|group| group.0).collect(),
            })
            .collect(),
        groups: groups
            .into_iter()
            .map(|group| PersonGroup {
                id: group.id.0,
                name: group.name,
                members: group.members.into_iter().map(|member| member.id.0).collect(),
            })
            .collect(),
    };
    if directory.people.is_empty() && had_people {
        // An account does not lose all its people at once; an empty list after a full one is taken
        // for a fault.
        return Err(Failure {
            reason: Reason::MangoUnreachable,
            detail: "the list of employees came back empty".to_owned(),
            trouble: Trouble::Outage,
        });
    }
    Ok(directory)
}

/// The channels of MAX in one group of channels.
fn cabinet_channels(widget: &mango::Widget) -> Vec<CabinetChannel> {
    let of_max = widget.channels.iter().filter(|channel| channel.kind == mango::ChannelType::Max);
    of_max
        .map(|channel| {
            let (group, employee) = match &channel.serving {
                mango::Serving::Group(group) => (group.map(|id| id.0), None),
                mango::Serving::Employee(employee) => (None, employee.map(|id| id.0)),
                mango::Serving::Question(_) | mango::Serving::Other(_) => (None, None),
            };
            let asks = matches!(channel.serving, mango::Serving::Question(_));
            CabinetChannel { name: widget.name.clone(), enabled: widget.enabled, group, employee, asks }
        })
        .collect()
}

fn mango_failure(error: &mango::Error) -> Failure {
    let (reason, trouble, detail) = match error.class() {
        mango::Class::CredentialsInvalid | mango::Class::Refused { .. } => {
            (Reason::CredentialsInvalid, Trouble::Penalty, error.to_string())
        }
        mango::Class::Billing { .. } => (Reason::CredentialsInvalid, Trouble::Refused, error.to_string()),
        mango::Class::Throttled => (Reason::Throttled, Trouble::Outage, error.to_string()),
        // The error's own sentence counts seconds, which a condition must not.
        mango::Class::Penalty { .. } => (
            Reason::Throttled,
            Trouble::Penalty,
            "the key is blocked for two minutes after wrong requests, or would be after one more".to_owned(),
        ),
        mango::Class::Transient | mango::Class::Unreachable => {
            (Reason::MangoUnreachable, Trouble::Outage, error.to_string())
        }
    };
    Failure { reason, detail, trouble }
}

/// The package, the users, and the rows of `source` where the bot is known.
///
/// # Errors
/// A reason of `CrmConnected`.
pub async fn crm(client: &creatio::Client, source: Option<&str>) -> Result<CrmView, Failure> {
    let work = async {
        let package = client.ping().await?.version;
        let users = client.users().await?;
        let rules = client.routing_rules().await?;
        let rows = match source {
            Some(source) => Some(rows(client, source).await?),
            None => None,
        };
        Ok(CrmView { package, users, rules, rows })
    };
    work.await.map_err(|error: creatio::Error| crm_failure(&error))
}

/// The rows of one bot.
///
/// # Errors
/// As the client's.
pub async fn rows(client: &creatio::Client, source: &str) -> Result<Rows, creatio::Error> {
    let queue: Option<creatio::ChatQueue> = client.get(ids::queue(source)).await?;
    let agents = match &queue {
        Some(queue) => client.queue_agents(queue.id).await?,
        None => Vec::new(),
    };
    Ok(Rows {
        settings: client.get(ids::settings(source)).await?,
        channel: client.get(ids::channel(source)).await?,
        queue,
        agents,
    })
}

/// What a refusal of the CRM means.
#[must_use]
pub fn crm_failure(error: &creatio::Error) -> Failure {
    use creatio::Class;
    let (reason, trouble) = match error.class() {
        Class::CredentialsInvalid => (Reason::CredentialsInvalid, Trouble::Delicate),
        Class::AccessDenied => (Reason::AccessDenied, Trouble::Refused),
        Class::PackageMissing => (Reason::PackageMissing, Trouble::Refused),
        Class::BadRequest | Class::WrongAddress => (Reason::CrmUnreachable, Trouble::Refused),
        _ => (Reason::CrmUnreachable, Trouble::Outage),
    };
    Failure { reason, detail: error.to_string(), trouble }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage() -> Failure {
        Failure { reason: Reason::CrmUnreachable, detail: "no answer".to_owned(), trouble: Trouble::Outage }
    }

    #[test]
    fn a_failed_look_keeps_what_was_seen_and_counts() {
        let mut observed = Observed::default();
        observed.take("a", 1, Ok(7));
        observed.take("a", 2, Err(outage()));
        observed.take("a", 3, Err(outage()));
        assert_eq!((observed.seen, observed.failures, observed.current("a")), (Some(7), 2, None));
        observed.take("b", 4, Err(outage()));
        assert_eq!(observed.failures, 1, "other credentials begin to count anew");
        observed.take("b", 5, Ok(8));
        assert_eq!((observed.current("a"), observed.current("b")), (None, Some(&8)));
    }
}
