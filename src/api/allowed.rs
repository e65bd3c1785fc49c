//! Which hosts an installation lets its channels send credentials and messages to. Pure.
//!
//! Whoever may write a MaxChannel names a Secret of his namespace and an address of his choice:
//! without this list he can have the one sent to the other.

use std::str::FromStr;

use serde_json::Value;
use url::Url;

use super::findings::Finding;
use super::path::FieldPath;
use super::yaml;

/// The fields with addresses outside that a manifest chooses.
const FIELDS: [&[&str]; 4] = [
    &["spec", "creatio", "url"],
    &["spec", "creatio", "identityUrl"],
    &["spec", "receiver", "bot", "url"],
    &["spec", "offHours", "bot", "url"],
];

/// Hosts (`acme.creatio.com`) and domains (`*.creatio.com`, with everything under them); none at
/// all: every host is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<Allowed>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    Host(String),
    Domain(String),
}

impl FromStr for AllowedHosts {
    type Err = String;

    /// With commas between.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(text.split(',').map(str::trim).filter(|one| !one.is_empty()))
    }
}

impl AllowedHosts {
    /// # Errors
    /// An entry is neither a host nor a domain.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let entry = |text: &str| {
            let text = text.trim().to_ascii_lowercase();
            let domain = text.strip_prefix("*.");
            let name = domain.unwrap_or(&text);
            let is_name = |c: char| c.is_ascii_alphanumeric() || "-.:[]_".contains(c);
            if name.is_empty() || !name.chars().all(is_name) || (name.contains(':') && !name.starts_with('[')) {
                return Err(format!(
                    "allowedHosts: {text:?} is neither a host nor a domain; write it like acme.creatio.com or *.creatio.com"
                ));
            }
            Ok(if domain.is_some() { Allowed::Domain(name.to_owned()) } else { Allowed::Host(name.to_owned()) })
        };
        entries.into_iter().map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// Reads a policy file: YAML or JSON with the member `allowedHosts`, such as the values of the
    /// chart.
    ///
    /// # Errors
    /// One sentence, with the line where there is one.
    pub fn read(text: &str) -> Result<Self, String> {
        let value = yaml::read(text).map_err(|error| format!("line {}: {}", error.line, error.message))?;
        let hosts = value.get("allowedHosts").and_then(Value::as_array).ok_or_else(|| {
            "there is no list allowedHosts in it; write it like allowedHosts: [acme.creatio.com]".to_owned()
        })?;
        let texts: Option<Vec<&str>> = hosts.iter().map(Value::as_str).collect();
        Self::new(texts.ok_or_else(|| "allowedHosts: every entry must be a text".to_owned())?)
    }

    #[must_use]
    pub fn allows(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.0.is_empty()
            || self.0.iter().any(|allowed| match allowed {
                Allowed::Host(name) => host == *name,
                Allowed::Domain(name) => {
                    host.strip_suffix(name.as_str()).is_some_and(|front| front.ends_with('.') && front.len() > 1)
                }
            })
    }

    /// Every address of a manifest whose host is not allowed. What is no address at all is for the
    /// other findings.
    #[must_use]
    pub fn findings(&self, manifest: &Value) -> Vec<Finding> {
        let judge = |keys: &&[&str]| {
            let text = keys.iter().try_fold(manifest, |value, key| value.get(key))?.as_str()?;
            let url = Url::parse(text).ok()?;
            let host = url.host_str()?;
            let field = keys.iter().fold(FieldPath::default(), |path, key| path.key(key));
            (!self.allows(host)).then(|| {
                let message = format!(
                    "the host {host} is not one that this installation allows; use one of those, or have it added to allowedHosts"
                );
                Finding::error(field, message)
            })
        };
        FIELDS.iter().filter_map(judge).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_host_is_allowed_by_its_name_or_its_domain_and_by_nothing_that_looks_like_it() {
        let allowed: AllowedHosts = "acme.creatio.com, *.acme.ru,10.1.2.3,[fd00::1]".parse().unwrap();
        for (host, good) in [
            ("acme.creatio.com", true),
            ("ACME.creatio.com.", true),
            ("bot.acme.ru", true),
            ("a.b.acme.ru", true),
            ("10.1.2.3", true),
            ("[fd00::1]", true),
            ("acme.ru", false),
            (".acme.ru", false),
            ("evilacme.ru", false),
            ("acme.ru.evil.example", false),
            ("acme.creatio.com.evil.example", false),
            ("sub.acme.creatio.com", false),
            ("10.1.2.30", false),
        ] {
            assert_eq!(allowed.allows(host), good, "{host}");
        }
        assert!(AllowedHosts::default().allows("anything.example"), "no list, no limit");
        for wrong in ["https://acme.ru", "acme.ru:443", "*", "*.*.ru", "a b", "acme.ru/x", "user@acme.ru"] {
            assert!(AllowedHosts::new([wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_address_that_a_manifest_chooses_is_judged_as_the_caller_would_read_it() {
        let allowed = AllowedHosts::read("replicaCount: 1\nallowedHosts: [good.example]\n").unwrap();
        let manifest = json!({"spec": {
            "creatio": {"url": "https://good.example@evil.example/", "identityUrl": "https://good.example:8443/x"},
            "receiver": {"bot": {"url": "http://evil.example/"}},
            "offHours": {"bot": {"url": "https://GOOD.example\\@evil.example/"}},
        }});
        let fields: Vec<String> = allowed.findings(&manifest).iter().map(|one| one.field.to_string()).collect();
        assert_eq!(fields, ["spec.creatio.url", "spec.receiver.bot.url"]);
        assert!(AllowedHosts::read("allowed: []").is_err());
        assert!(AllowedHosts::read("allowedHosts: [7]").is_err());
    }
}
