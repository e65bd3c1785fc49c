//! Our address towards MAX: what it is made of and whose a subscription is.
//!
//! The secret is derived from the token, so that nothing has to be kept, and the address carries the secret's fingerprint, so that
//! GET /subscriptions, which never returns a secret (MAX Bot API reference, "Webhook subscriptions"), still proves which one is in force.
//! Before the fingerprint stands the installation, so that another one's address is never taken for a stale one of ours.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use url::Url;

use super::{InstallationId, hex};
use crate::api::ChannelRef;

/// How many hex digits of the secret's SHA-256 stand in the address.
const FINGERPRINT: usize = 8;
/// Where every address of ours begins, behind the public base.
const PREFIX: &str = "/webhooks/max/";

/// base64url without padding of HMAC-SHA256(token, "webhook/<namespace>/<name>"): 43 characters of the alphabet that MAX allows.
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
    format!("{PREFIX}{}/{}/{}/{fingerprint}", channel.namespace, channel.name, installation.as_str())
}

/// The whole address that MAX is given.
#[must_use]
pub fn address(base: &Url, channel: &ChannelRef, installation: &InstallationId, fingerprint: &str) -> String {
    format!("{}{}", root(base), path(channel, installation, fingerprint))
}

/// Where the CRM tells of new rows in its outbox (wire contract, "Optional hint").
#[must_use]
pub fn notify_address(base: &Url, channel: &ChannelRef) -> String {
    format!("{}/webhooks/creatio/{}/{}", root(base), channel.namespace, channel.name)
}

fn root(base: &Url) -> &str {
    base.as_str().trim_end_matches('/')
}

/// Whose subscription an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The one that should be there.
    Current,
    /// Ours, of a token or a public address that is no longer in force, or of the form without the installation.
    Stale,
    /// Of another installation of this program, or of another channel of this one.
    Elsewhere,
    /// Another program's.
    Foreign,
}

/// What makes an address ours.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    pub base: Option<&'a Url>,
    pub channel: &'a ChannelRef,
    pub installation: &'a InstallationId,
    pub fingerprint: &'a str,
}

/// An address of this program, taken apart.
struct Address<'a> {
    base: &'a str,
    channel: ChannelRef,
    /// None: of the form from before installations had ids.
    installation: Option<&'a str>,
    fingerprint: &'a str,
}

impl<'a> Address<'a> {
    fn read(url: &'a str) -> Option<Self> {
        let (base, rest) = url.rsplit_once(PREFIX)?;
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

/// Whose `url` is, where `current` is the address that should be there (none with long poll).
///
/// Ours is what names this installation and this channel, wherever it stands. Of the form without an installation ours is what stands
/// under our own public base, and wherever it may stand, what carries our path with a fingerprint that only a holder of this very
/// token can know: so a move of the public address leaves nothing behind.
#[must_use]
pub fn whose(url: &str, current: Option<&str>, ours: Ours<'_>) -> Whose {
    if current == Some(url) {
        return Whose::Current;
    }
    let Some(address) = Address::read(url) else { return Whose::Foreign };
    let is_channel = address.channel == *ours.channel;
    match address.installation {
        Some(installation) if is_channel && ours.installation.is(installation) => Whose::Stale,
        Some(_) => Whose::Elsewhere,
        None => {
            let under_our_base = ours.base.is_some_and(|base| root(base) == address.base);
            let is_ours = is_channel && (under_our_base || address.fingerprint == ours.fingerprint);
            if is_ours { Whose::Stale } else { Whose::Foreign }
        }
    }
}

/// `<installation>/<namespace>/<name>` of an address of this program that names its installation.
#[must_use]
pub fn holder(url: &str) -> Option<String> {
    let address = Address::read(url)?;
    Some(format!("{}/{}", address.installation?, address.channel))
}

/// An address for people: without query and fragment, which may hold another program's secrets.
#[must_use]
pub fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) => {
            parsed.set_query(None);
            parsed.set_fragment(None);
            // Fails only for addresses that cannot have a user, which then have none.
            let _ = parsed.set_username("");
            let _ = parsed.set_password(None);
            parsed.to_string()
        }
        Err(_) => "an address that is no URL".to_owned(),
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

    #[test]
    fn subscriptions_are_told_apart_by_installation_path_base_and_fingerprint() {
        let (base, channel, installation) =
            (Url::parse("https://max.acme.ru/").unwrap(), channel(), InstallationId::of("prod"));
        let ours = Ours { base: Some(&base), channel: &channel, installation: &installation, fingerprint: "0a1b2c3d" };
        let current = "https://max.acme.ru/webhooks/max/crm/support/prod/0a1b2c3d";
        for (url, expected) in [
            (current, Whose::Current),
            ("https://max.acme.ru/webhooks/max/crm/support/prod/ffffffff", Whose::Stale),
            ("https://old.acme.ru/webhooks/max/crm/support/prod/0a1b2c3d", Whose::Stale),
            // The same token, and so the same fingerprint, in another installation.
            ("https://max.acme.ru/webhooks/max/crm/support/staging/0a1b2c3d", Whose::Elsewhere),
            ("https://staging.acme.ru/webhooks/max/crm/support/staging/ffffffff", Whose::Elsewhere),
            ("https://laptop.example/webhooks/max/default/x/laptop/ffffffff", Whose::Elsewhere),
            ("https://max.acme.ru/webhooks/max/crm/other/prod/0a1b2c3d", Whose::Elsewhere),
            // From before installations had ids.
            ("https://max.acme.ru/webhooks/max/crm/support/ffffffff", Whose::Stale),
            ("https://old.acme.ru/webhooks/max/crm/support/0a1b2c3d", Whose::Stale),
            ("https://old.acme.ru/webhooks/max/crm/support/ffffffff", Whose::Foreign),
            ("https://max.acme.ru/webhooks/max/crm/other/0a1b2c3d", Whose::Foreign),
            ("https://max.acme.ru/webhooks/max/crm/support/not-hex!", Whose::Foreign),
            ("https://max.acme.ru/webhooks/max/crm/support/staging/0a1b2c3d?x=y", Whose::Foreign),
            ("https://stranger.example/hook", Whose::Foreign),
        ] {
            assert_eq!(whose(url, Some(current), ours), expected, "{url}");
        }
        assert_eq!(whose(current, None, ours), Whose::Stale, "long poll needs none");
        assert_eq!(
            holder("https://x.example/webhooks/max/crm/support/staging/0a1b2c3d").as_deref(),
            Some("staging/crm/support")
        );
        assert_eq!(holder("https://x.example/webhooks/max/crm/support/0a1b2c3d"), None);
    }

    #[test]
    fn a_foreign_address_is_shown_without_what_may_be_secret() {
        assert_eq!(shown("https://user:pw@bot.example/hook?token=secret#x"), "https://bot.example/hook");
    }
}
