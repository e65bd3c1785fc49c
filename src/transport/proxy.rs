//! The way out through a company's proxy: a setting of the program, never the environment's
//! `HTTPS_PROXY`, and for outside addresses only.
//!
//! What is not outside is called directly whatever the settings say: literal private addresses,
//! this machine, names of the cluster (`*.svc`, `*.svc.…`), of the local network (`*.local`,
//! `*.internal`), names without a dot, and what the settings except.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::OnceLock;

use secrecy::SecretString;
use url::Url;

use super::reqwest_transport::is_public;

/// The proxy's address.
pub const ADDRESS: &str = "MAXCHANNEL_PROXY";
/// What is called without it, with commas between.
pub const EXCEPT: &str = "MAXCHANNEL_PROXY_EXCEPT";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
    except: Vec<Except>,
}

/// A host, or a domain with everything under it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Except {
    Host(String),
    Domain(String),
}

impl Except {
    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Host(name) => host == name,
            Self::Domain(name) => {
                host == name || host.strip_suffix(name.as_str()).is_some_and(|front| front.ends_with('.'))
            }
        }
    }
}

impl FromStr for Except {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        let domain = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let name = domain.unwrap_or(&text).trim_matches(['[', ']']);
        if name.is_empty() || name.contains(['/', '*', ' ', '@']) {
            return Err(format!(
                "{EXCEPT}: {text:?} is neither a host nor a domain; write it like crm.acme.ru or .acme.ru"
            ));
        }
        Ok(if domain.is_some() { Self::Domain(name.to_owned()) } else { Self::Host(name.to_owned()) })
    }
}

impl Proxy {
    /// # Errors
    /// The address is none of a proxy, or an exception is neither a host nor a domain.
    pub fn new(address: &str, except: &str) -> Result<Self, String> {
        let url = Url::parse(address.trim())
            .ok()
            .filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host() && url.path() == "/")
            .filter(|url| url.port() != Some(0))
            .ok_or_else(|| {
                // The text is not repeated: it may hold a password.
                format!("{ADDRESS} is not the address of a proxy: write it like http://proxy.acme.ru:3128")
            })?;
        let except = except.split(',').map(str::trim).filter(|text| !text.is_empty());
        Ok(Self { url, except: except.map(str::parse).collect::<Result<_, _>>()? })
    }

    /// Whether this host is called through the proxy.
    #[must_use]
    pub fn serves(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        !is_inside(&host) && !self.except.iter().any(|except| except.covers(&host))
    }

    /// The password in the proxy's address, which no log may show.
    #[must_use]
    pub fn password(&self) -> Option<SecretString> {
        self.url.password().map(SecretString::from)
    }

    pub(super) fn for_reqwest(&self) -> reqwest::Proxy {
        let this = self.clone();
        reqwest::Proxy::custom(move |url| {
            url.host_str().is_some_and(|host| this.serves(host)).then(|| this.url.clone())
        })
    }
}

/// Whether a host is this machine's, the cluster's or the local network's by its very name.
fn is_inside(host: &str) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return !is_public(address);
    }
    let domain = |name: &str| host.ends_with(name);
    !host.contains('.')
        || host.contains(".svc.")
        || [".svc", ".local", ".localhost", ".internal", ".home.arpa"].into_iter().any(domain)
}

static PROXY: OnceLock<Proxy> = OnceLock::new();

/// Sets the proxy of this process, before its first transport to external systems is made.
pub fn go_through(proxy: Proxy) {
    // A second setting of the same program is the same: both come from its environment.
    let _ = PROXY.set(proxy);
}

/// The proxy of this process.
pub(super) fn in_force() -> Option<&'static Proxy> {
    PROXY.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_outside_addresses_go_through_the_proxy() {
        let proxy = Proxy::new("http://proxy.acme.ru:3128", "crm.acme.ru, *.inside.acme.ru,.lan").unwrap();
        for (host, through) in [
            ("platform-api2.max.ru", true),
            ("acme.creatio.com", true),
            ("acme.ru", true),
            ("8.8.8.8", true),
            ("[2a00:1450:4010:c0f::65]", true),
            ("notinside.acme.ru", true),
            ("svc.example.ru", true),
            ("crm.acme.ru", false),
            ("CRM.acme.ru.", false),
            ("inside.acme.ru", false),
            ("bot.inside.acme.ru", false),
            ("files.lan", false),
            ("10.88.0.7", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("[::1]", false),
            ("[fd00::7]", false),
            ("localhost", false),
            ("creatio", false),
            ("creatio.crm.svc", false),
            ("creatio.crm.svc.cluster.local", false),
            ("kubernetes.default.svc.acme.cluster", false),
            ("host.docker.internal", false),
        ] {
            assert_eq!(proxy.serves(host), through, "{host}");
        }
    }

    #[test]
    fn a_setting_that_is_none_is_refused_without_repeating_it() {
        for address in ["", "proxy.acme.ru:3128", "socks5://proxy:1080", "http://", "http://user:word@proxy/path"] {
            let error = Proxy::new(address, "").unwrap_err();
            assert!(error.contains(ADDRESS) && !error.contains("word@"), "{error}");
        }
        for except in ["*", "10.0.0.0/8", "https://acme.ru"] {
            assert!(Proxy::new("http://proxy:3128", except).unwrap_err().contains(EXCEPT), "{except}");
        }
    }
}
