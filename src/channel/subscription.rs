//! Whose a subscription is that MAX lists.

use url::Url;

use crate::api::ChannelRef;
use crate::contract::InstallationId;
use crate::contract::webhook::{Address, root};

/// The domain of MANGO OFFICE.
const MANGO: &str = "mango-office.ru";

/// Whose subscription an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The one that should be there.
    Current,
    /// Ours, of a token or a public address that is no longer in force, or of the form without the
    /// installation.
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

/// Whose `url` is, where `current` is the address that should be there (none with long poll).
///
/// Ours is what names this installation and this channel, wherever it stands. Of the form without
/// an installation ours is what stands under our own public base, and wherever it may stand, what
/// carries our path with a fingerprint that only a holder of this very token can know: so a move of
/// the public address leaves nothing behind.
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

/// Whether an address is MANGO OFFICE's, as far as that can be known: no document names the address
/// that it gives to MAX, but its services stand under its own domain.
#[must_use]
pub fn is_of_mango(url: &str) -> bool {
    let parsed = Url::parse(url).ok();
    let host = parsed.as_ref().and_then(Url::host_str).unwrap_or_default().trim_end_matches('.');
    host == MANGO || host.strip_suffix(MANGO).is_some_and(|before| before.ends_with('.'))
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
