//! One action at a time. Each is harmless when it is repeated, so a crash after any of them costs
//! nothing.

use secrecy::SecretString;
use uuid::Uuid;

use super::Installation;
use super::observe::{self, Failure};
use super::plan::Action;
use super::schedule::Trouble;
use crate::api::ChannelRef;
use crate::api::Reason;
use crate::creatio::{self, Class};
use crate::max;

/// The column of the owner's mark.
const OWNER: &str = "Owner";

/// What actions need.
#[derive(Debug)]
pub struct Tools<'a> {
    pub max: &'a max::Client,
    /// The secret that belongs to the address that is subscribed.
    pub webhook_secret: &'a SecretString,
    pub crm: Option<&'a creatio::Client>,
    pub installation: &'a Installation,
    pub channel: &'a ChannelRef,
}

/// Carries one action out.
///
/// # Errors
/// A reason of `IntakeReady` or `TokenAuthorized` for actions at MAX, of `CrmConnected` for those
/// in the CRM.
pub async fn execute(action: &Action, tools: &Tools<'_>) -> Result<(), Failure> {
    match action {
        Action::Subscribe { address } => tools
            .max
            .subscribe(address, tools.webhook_secret)
            .await
            .map_err(|error| intake_failure(&error, tools.installation)),
        Action::Unsubscribe { address, .. } => match tools.max.unsubscribe(address).await {
            // Whoever was faster has done what was wanted.
            Err(error) if *error.class() == max::Class::NotFound => Ok(()),
            other => other.map_err(|error| intake_failure(&error, tools.installation)),
        },
        Action::Create { collection, id, columns } => {
            let crm = in_crm(tools)?;
            match crm.create(collection, *id, columns).await.map_err(|error| observe::crm_failure(&error))? {
                creatio::Created::New => {}
                // Made by an earlier attempt whose answer was lost, or by hand: the columns count.
                creatio::Created::AlreadyThere => {
                    // Or by another installation that was faster.
                    if columns.contains_key(OWNER) {
                        is_still_ours(crm, *id, tools).await?;
                    }
                    crm.patch(collection, *id, columns).await.map_err(|error| observe::crm_failure(&error))?;
                }
            }
            if columns.contains_key(OWNER) { is_still_ours(crm, *id, tools).await } else { Ok(()) }
        }
        Action::Change { collection, id, columns } => {
            let crm = in_crm(tools)?;
            crm.patch(collection, *id, columns).await.map_err(|error| observe::crm_failure(&error))?;
            // Two may have found the row without an owner: the last to write has it.
            let marks = columns.get(OWNER).is_some_and(|owner| owner != "");
            if marks { is_still_ours(crm, *id, tools).await } else { Ok(()) }
        }
        Action::Delete { collection, id } => match in_crm(tools)?.delete(collection, *id).await {
            Ok(_) => Ok(()),
            Err(error) if error.class() == Class::NotFound => Ok(()),
            Err(error) => Err(observe::crm_failure(&error)),
        },
    }
}

/// Whether the channel's settings in the CRM bear no other's mark.
async fn is_still_ours(crm: &creatio::Client, settings: Uuid, tools: &Tools<'_>) -> Result<(), Failure> {
    let found: Option<creatio::MaxChannelSettings> =
        crm.get(settings).await.map_err(|error| observe::crm_failure(&error))?;
    let owner = found.map(|found| found.owner).unwrap_or_default();
    if owner.trim().is_empty() || tools.installation.id.has_marked(&owner, tools.channel) {
        return Ok(());
    }
    Err(Failure { reason: Reason::OwnedElsewhere, detail: owner, trouble: Trouble::Refused })
}

fn in_crm<'a>(tools: &Tools<'a>) -> Result<&'a creatio::Client, Failure> {
    tools.crm.ok_or_else(|| Failure {
        reason: Reason::CredentialsNotFound,
        detail: "the CRM has no credentials".to_owned(),
        trouble: Trouble::Refused,
    })
}

/// What a refused subscription means. MAX has no code for it, only words (MAX Bot API reference,
/// "Webhook subscriptions").
fn intake_failure(error: &max::Error, installation: &Installation) -> Failure {
    let detail = error.to_string();
    match error.class() {
        max::Class::Unauthorized | max::Class::AccountBlocked => observe::max_failure(error, installation),
        max::Class::Transient | max::Class::Throttled { .. } => {
            Failure { reason: Reason::NotSubscribed, detail, trouble: Trouble::Outage }
        }
        _ => {
            let words = error.message().to_lowercase();
            let about_certificate = ["certificate", "ssl", "tls", "сертификат", "x509"];
            let reason = if about_certificate.iter().any(|word| words.contains(word)) {
                Reason::CertificateRejected
            } else {
                Reason::NotSubscribed
            };
            Failure { reason, detail, trouble: Trouble::Refused }
        }
    }
}
