//! What `run`, `plan` and `remove` are told about the installation as a whole: public address,
//! languages, and addresses set for tests.

use std::path::{Path, PathBuf};

use url::Url;

use crate::api::{self, ErrorReasons, Language};
use crate::channel::Installation;
use crate::contract::InstallationId;
use crate::transport::{self, Proxy};
use crate::{local, mango, max, telemetry};

/// Addresses set for tests; documented, not shown in every help text.
const MAX_URL: &str = "MAXCHANNEL_MAX_URL";
const MANGO_URL: &str = "MAXCHANNEL_MANGO_URL";

#[derive(Debug, clap::Args)]
pub(super) struct InstallationArgs {
    /// The address under which the world reaches this program, like `https://max.acme.ru`; beats
    /// the host in the manifests. Without it and without a host MAX is polled.
    #[arg(long, value_name = "URL", env = "MAXCHANNEL_PUBLIC_URL")]
    public_url: Option<String>,
    /// What this installation is called in marks and addresses outside, so that two that serve
    /// channels of the same names never take each other's. Default: the uid of the namespace
    /// kube-system in a cluster, else one that is kept in the data folder.
    #[arg(long, value_name = "ID", env = "MAXCHANNEL_INSTALLATION_ID")]
    installation_id: Option<String>,
    /// A file (YAML or JSON) with rows {status, code, messageContains, reason} that say what a
    /// refusal of MAX means.
    #[arg(long, value_name = "FILE", env = "MAXCHANNEL_MAX_ERROR_REASONS")]
    max_error_reasons: Option<PathBuf>,
    /// A PEM file with the authorities to trust for MAX in place of the built-in one.
    #[arg(long, value_name = "FILE", env = "MAXCHANNEL_MAX_CA")]
    max_ca: Option<PathBuf>,
    /// The language of messages: `en` or `ru`. Default: by LC_ALL, LC_MESSAGES, LANG.
    #[arg(long, value_name = "LANGUAGE", env = "MAXCHANNEL_LANGUAGE")]
    lang: Option<Language>,
    #[command(flatten)]
    pub(super) proxy: ProxyArgs,
}

/// The way out. The environment's `HTTPS_PROXY` and its like count for nothing.
#[derive(Debug, Default, PartialEq, Eq, clap::Args)]
pub(super) struct ProxyArgs {
    /// The proxy through which MAX, MANGO OFFICE, Creatio and bots are reached, like
    /// `http://proxy.acme.ru:3128`; what is on this machine, in the cluster or at a private address
    /// is reached directly.
    #[arg(long, value_name = "URL", env = transport::PROXY_ADDRESS, hide_env_values = true)]
    proxy: Option<String>,
    /// Hosts (`crm.acme.ru`) and domains (`.acme.ru`) that are reached without the proxy, with
    /// commas between.
    #[arg(long, value_name = "NAMES", env = transport::PROXY_EXCEPT)]
    proxy_except: Option<String>,
    /// A PEM file, or its text, with authorities that are trusted beside the public ones for
    /// everything outside, such as that of a proxy which opens TLS.
    #[arg(long, value_name = "FILE", env = CA_BUNDLE, hide_env_values = true)]
    ca_bundle: Option<String>,
}

const CA_BUNDLE: &str = "MAXCHANNEL_CA_BUNDLE";

impl ProxyArgs {
    /// What the environment says, for whoever parses without clap.
    pub(super) fn of_environment(env: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            proxy: env(transport::PROXY_ADDRESS),
            proxy_except: env(transport::PROXY_EXCEPT),
            ca_bundle: env(CA_BUNDLE),
        }
    }

    /// The value of an option by its name.
    pub(super) fn option(&mut self, name: &str) -> Option<&mut Option<String>> {
        match name {
            "proxy" => Some(&mut self.proxy),
            "proxy-except" => Some(&mut self.proxy_except),
            "ca-bundle" => Some(&mut self.ca_bundle),
            _ => None,
        }
    }

    /// Takes the setting up for this process.
    ///
    /// # Errors
    /// One sentence about what cannot be used.
    pub(super) fn take(&self) -> Result<(), String> {
        if let Some(pem) = self.ca_bundle()? {
            transport::trust_too(&pem).map_err(|error| format!("--ca-bundle: {error}"))?;
        }
        let Some(address) = self.proxy.as_deref().filter(|text| !text.trim().is_empty()) else { return Ok(()) };
        let proxy = Proxy::new(address, self.proxy_except.as_deref().unwrap_or_default())?;
        if let Some(password) = proxy.password() {
            telemetry::hide(&password);
        }
        transport::go_through(proxy);
        Ok(())
    }

    fn ca_bundle(&self) -> Result<Option<String>, String> {
        let Some(given) = self.ca_bundle.as_deref().filter(|text| !text.trim().is_empty()) else { return Ok(None) };
        if given.contains("-----BEGIN") { Ok(Some(given.to_owned())) } else { text(Path::new(given)).map(Some) }
    }

    /// The same as environment variables, for relays: a file is read here, for they do not have it.
    pub(super) fn env(&self) -> Result<impl Iterator<Item = (String, String)>, String> {
        let values = [
            (transport::PROXY_ADDRESS, self.proxy.clone()),
            (transport::PROXY_EXCEPT, self.proxy_except.clone()),
            (CA_BUNDLE, self.ca_bundle()?),
        ];
        let given = |(name, value): (&str, Option<String>)| {
            Some((name.to_owned(), value.filter(|text| !text.trim().is_empty())?))
        };
        Ok(values.into_iter().filter_map(given))
    }
}

impl InstallationArgs {
    /// The installation of a data folder, as far as that has one, and whether it has: who only
    /// looks makes no id for others to find.
    ///
    /// # Errors
    /// One sentence about an address or file that cannot be used.
    pub(super) fn of_folder(&self, data_dir: &Path) -> Result<(Installation, bool), String> {
        let installation = self.installation()?;
        let mut is_there = installation.id.is_known();
        if !is_there {
            let known = local::known_installation_id(data_dir)?;
            is_there = known.is_some();
            installation.id.set(known.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()), None);
        }
        Ok((installation, is_there))
    }

    /// The id is known only where it was given.
    ///
    /// # Errors
    /// One sentence about an address or file that cannot be used.
    pub(super) fn installation(&self) -> Result<Installation, String> {
        self.proxy.take()?;
        let given = self.installation_id.as_deref().filter(|text| !text.trim().is_empty());
        let id = given.map(InstallationId::given).transpose()?.unwrap_or_default();
        let max_override = overridden(MAX_URL)?;
        let max_overridden = max_override.is_some();
        let built_in = |text: &str| Url::parse(text).map_err(|error| error.to_string());
        let max_error_reasons = match &self.max_error_reasons {
            None => ErrorReasons::default(),
            Some(file) => {
                let value = api::yaml::read(&text(file)?)
                    .map_err(|error| format!("{}:{}: {}", file.display(), error.line, error.message))?;
                serde_json::from_value(value).map_err(|error| format!("{}: {error}", file.display()))?
            }
        };
        Ok(Installation {
            id,
            max_url: max_override.map_or_else(|| built_in(max::DEFAULT_BASE_URL), Ok)?,
            max_overridden,
            max_ca_pem: self.max_ca.as_deref().map(text).transpose()?,
            mango_url: overridden(MANGO_URL)?.map_or_else(|| built_in(mango::DEFAULT_URL), Ok)?,
            public_url: self.public_url.as_deref().map(|text| public_url(text, max_overridden)).transpose()?,
            mango_base: None,
            max_error_reasons,
            language: language(self.lang),
        })
    }
}

fn text(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

fn overridden(variable: &str) -> Result<Option<Url>, String> {
    let Ok(text) = std::env::var(variable) else { return Ok(None) };
    if text.trim().is_empty() {
        return Ok(None);
    }
    match Url::parse(text.trim()) {
        Ok(url) if url.has_host() => Ok(Some(url)),
        _ => Err(format!("{variable} is no address: write it like http://127.0.0.1:9001, or unset it")),
    }
}

/// MAX calls `https://` on port 443 only, and without a port in the address (MAX Bot API reference,
/// "Webhook subscriptions").
fn public_url(text: &str, max_overridden: bool) -> Result<Url, String> {
    let url = Url::parse(text.trim())
        .ok()
        .filter(|url| url.has_host() && url.query().is_none() && url.fragment().is_none())
        .ok_or_else(|| format!("--public-url {text:?} is no address: write it like https://max.acme.ru"))?;
    if max_overridden || (url.scheme() == "https" && url.port().is_none()) {
        Ok(url)
    } else {
        Err(format!("--public-url {text}: MAX calls https:// on port 443 only; put a proxy with a certificate there"))
    }
}

/// The language asked for, else that of the environment.
pub(super) fn language(given: Option<Language>) -> Language {
    given.unwrap_or_else(|| {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        match set("LC_ALL").or_else(|| set("LC_MESSAGES")).or_else(|| set("LANG")) {
            Some(value) if value.starts_with("ru") => Language::Russian,
            _ => Language::English,
        }
    })
}

/// Where stores and what is remembered stand unless `--data-dir` says otherwise.
pub(super) fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, String> {
    given
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/share/maxchannel")))
        .ok_or_else(|| "there is no home folder: give --data-dir".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_one_that_max_can_call() {
        for (text, overridden, good) in [
            ("https://max.acme.ru", false, true),
            ("https://max.acme.ru/gate", false, true),
            ("https://max.acme.ru:443/", false, true),
            ("https://max.acme.ru:8443", false, false),
            ("http://max.acme.ru", false, false),
            ("http://127.0.0.1:8080", true, true),
            ("max.acme.ru", true, false),
            ("https://max.acme.ru/?a=b", true, false),
        ] {
            assert_eq!(public_url(text, overridden).is_ok(), good, "{text}");
        }
    }
}
