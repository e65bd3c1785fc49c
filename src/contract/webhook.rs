//! Our addresses towards MAX and the CRM: what they are made of, so that whoever subscribes and
//! whoever listens mean the same one.
//!
//! The secret is derived from the token, so that nothing has to be kept, and the address carries
//! the secret's fingerprint, so that GET /subscriptions, which never returns a secret (MAX Bot API
//! reference, "Webhook subscriptions"), still proves which one is in force. Before the fingerprint
//! stands the installation, so that another one's address is never taken for a stale one of ours.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use url::Url;

use super::digest::hex;
use super::installation::InstallationId;
use crate::api::ChannelRef;

/// How many hex digits of the secret's SHA-256 stand in the address.
const FINGERPRINT: usize = 8;
/// Where every address of ours begins, behind the public base.
const MAX: &str = "/webhooks/max/";
const CREATIO: &str = "/webhooks/creatio/";
const MANGO: &str = "/webhooks/mango/";
/// The header in which MAX shows the secret of a subscription (MAX Bot API reference, "Webhook
/// subscriptions").
pub const SECRET_HEADER: &str = "x-max-bot-api-secret";

/// What a relay listens to, as its router takes it.
pub mod route {
    pub const MAX: &str = "/webhooks/max/{namespace}/{name}/{installation}/{fingerprint}";
    /// From before installations had ids: such a subscription works until the new one stands.
    pub const MAX_WITHOUT_INSTALLATION: &str = "/webhooks/max/{namespace}/{name}/{fingerprint}";
    /// The cabinet appends its own paths to the address that it is given.
    pub const MANGO: &str = "/webhooks/mango/{namespace}/{name}/{*path}";
    pub const CREATIO: &str = "/webhooks/creatio/{namespace}/{name}";
}

/// base64url without padding of HMAC-SHA256(token, "webhook/<namespace>/<name>"): 43 characters of
/// the alphabet that MAX allows.
#[must_use]
pub fn secret(token: &SecretString, channel: &ChannelRef) -> SecretString {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(token.expose_secret().as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("webhook/{channel}").as_bytes());
    SecretString::from(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// The first 8 hex digits of the secret's SHA-256.
#[must_use]
pub fn fingerprint(secret: &SecretString) -> String {
    let mut digits = hex(&Sha256::digest(secret.expose_secret().as_bytes()));
    digits.truncate(FINGERPRINT);
    digits
}

/// The path under which the relay takes updates.
#[must_use]
pub fn path(channel: &ChannelRef, installation: &InstallationId, fingerprint: &str) -> String {
    format!("{}{}/{fingerprint}", all_of_max(channel), installation.as_str())
}

/// What every address of a channel towards MAX begins with, whatever its token.
#[must_use]
pub fn all_of_max(channel: &ChannelRef) -> String {
    format!("{MAX}{}/{}/", channel.namespace, channel.name)
}

/// What every address of a channel towards MANGO OFFICE begins with.
#[must_use]
pub fn all_of_mango(channel: &ChannelRef) -> String {
    format!("{MANGO}{}/{}/", channel.namespace, channel.name)
}

/// The path under which the relay takes the CRM's hints.
#[must_use]
pub fn notify_path(channel: &ChannelRef) -> String {
    format!("{CREATIO}{}/{}", channel.namespace, channel.name)
}

/// The whole address that MAX is given.
#[must_use]
pub fn address(base: &Url, channel: &ChannelRef, installation: &InstallationId, fingerprint: &str) -> String {
    format!("{}{}", root(base), path(channel, installation, fingerprint))
}

/// Where the CRM tells of new rows in its outbox (wire contract, "Optional hint").
#[must_use]
pub fn notify_address(base: &Url, channel: &ChannelRef) -> String {
    format!("{}{}", root(base), notify_path(channel))
}

/// What the cabinet of MANGO OFFICE is given; it appends paths of its own.
#[must_use]
pub fn mango_address(base: &Url, channel: &ChannelRef) -> String {
    format!("{}{MANGO}{}/{}", root(base), channel.namespace, channel.name)
}

/// A public base without the slash at its end.
#[must_use]
pub fn root(base: &Url) -> &str {
    base.as_str().trim_end_matches('/')
}

/// An address of this program, taken apart.
#[derive(Debug)]
pub struct Address<'a> {
    pub base: &'a str,
    pub channel: ChannelRef,
    /// None: of the form from before installations had ids.
    pub installation: Option<&'a str>,
    pub fingerprint: &'a str,
}

impl<'a> Address<'a> {
    #[must_use]
    pub fn read(url: &'a str) -> Option<Self> {
        let (base, rest) = url.rsplit_once(MAX)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let (namespace, name, installation, fingerprint) = match parts.as_slice() {
            [namespace, name, fingerprint] => (namespace, name, None, fingerprint),
            [namespace, name, installation, fingerprint] => (namespace, name, Some(*installation), fingerprint),
            _ => return None,
        };
        let is_fingerprint =
            fingerprint.len() == FINGERPRINT && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
        let whole = !namespace.is_empty() && !name.is_empty() && installation != Some("");
        (is_fingerprint && whole).then(|| Self {
            base,
            channel: ChannelRef::new(*namespace, *name),
            installation,
            fingerprint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> ChannelRef {
        ChannelRef::new("crm", "support")
    }

    #[test]
    fn the_secret_is_derived_from_the_token_and_the_name_and_fits_the_alphabet_of_max() {
        let token = SecretString::from("invented-token".to_owned());
        let secret = secret(&token, &channel());
        // Computed independently: HMAC-SHA256 with key "invented-token" over "webhook/crm/support".
        assert_eq!(secret.expose_secret(), "QRRv62K6FkCjOS1ISLTSjYIgS6Bmi48CCDMcVN09SOs");
        assert!(secret.expose_secret().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_ne!(
            secret.expose_secret(),
            super::secret(&token, &ChannelRef::new("crm", "other")).expose_secret(),
            "two channels must not share a secret"
        );
    }

    #[test]
    fn the_address_carries_installation_and_fingerprint_and_no_double_slash() {
        for base in ["https://max.acme.ru", "https://max.acme.ru/", "https://max.acme.ru/gate/"] {
            let address = address(&Url::parse(base).unwrap(), &channel(), &InstallationId::of("prod"), "0a1b2c3d");
            let expected = format!("{}/webhooks/max/crm/support/prod/0a1b2c3d", base.trim_end_matches('/'));
            assert_eq!(address, expected);
        }
    }
}
