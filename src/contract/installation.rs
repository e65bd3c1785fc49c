//! Which installation this is, and how what belongs to it is known outside: the owner's mark in the
//! CRM and the address towards MAX.
//!
//! Two installations may serve channels of the same namespace and name: staging with production's
//! manifests, the old cluster and the new one. So whatever is ours outside carries the
//! installation's id: the uid of the namespace `kube-system` in a cluster, one kept in the data
//! folder for `run`, or what the administrator gives.

use std::sync::{Arc, OnceLock};

use crate::api::ChannelRef;

/// The longest id that an administrator may give.
const LONGEST: usize = 63;

/// The id of an installation. Cheap to clone; clones share it, because a cluster tells it only once
/// it answers.
#[derive(Clone, Debug, Default)]
pub struct InstallationId(Arc<OnceLock<Known>>);

#[derive(Debug)]
struct Known {
    id: String,
    /// What the same installation was called while it could not read the uid of `kube-system`.
    former: Option<String>,
}

impl InstallationId {
    #[must_use]
    pub fn of(id: impl Into<String>) -> Self {
        let installation = Self::default();
        installation.set(id, None);
        installation
    }

    /// An id that an administrator gives. It stands in addresses and in marks whose parts a slash
    /// divides.
    ///
    /// # Errors
    /// One sentence.
    pub fn given(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let begins_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins_well && text.len() <= LONGEST && text.bytes().all(fits) {
            Ok(Self::of(text))
        } else {
            Err(format!(
                "the installation id {text:?} cannot be used: give 1 to {LONGEST} Latin letters, digits, hyphens, dots and \
                 underscores, a letter or digit first"
            ))
        }
    }

    /// Says what the id is; only the first time counts.
    pub fn set(&self, id: impl Into<String>, former: Option<String>) {
        // Set already: whoever was first has found the same.
        let _ = self.0.set(Known { id: id.into(), former });
    }

    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.get().is_some()
    }

    /// Empty while it is not known; no channel is served before that.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get().map_or("", |known| &known.id)
    }

    /// Whether this is what this installation is called, or was.
    #[must_use]
    pub fn is(&self, id: &str) -> bool {
        self.0.get().is_some_and(|known| known.id == id || known.former.as_deref() == Some(id))
    }

    /// The owner's mark of a channel in the CRM (wire contract, "Set-up through OData").
    #[must_use]
    pub fn mark(&self, channel: &ChannelRef) -> String {
        format!("{}/{channel}", self.as_str())
    }

    /// Whether a mark in the CRM says that the rows are this channel's. One of two parts is from
    /// before installations had ids: whoever serves a channel of that name takes it over.
    #[must_use]
    pub fn has_marked(&self, mark: &str, channel: &ChannelRef) -> bool {
        let channel = channel.to_string();
        match mark.trim().strip_suffix(channel.as_str()) {
            Some("") => true,
            Some(installation) => installation.strip_suffix('/').is_some_and(|id| self.is(id)),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_ours_by_installation_namespace_and_name_and_one_of_two_parts_by_its_name() {
        let ours = InstallationId::default();
        ours.set("prod", Some("before".to_owned()));
        let channel = ChannelRef::new("crm", "support");
        assert_eq!(ours.mark(&channel), "prod/crm/support");
        for (mark, is_ours) in [
            ("prod/crm/support", true),
            (" prod/crm/support ", true),
            ("before/crm/support", true),
            ("crm/support", true),
            ("staging/crm/support", false),
            ("nonprod/crm/support", false),
            ("prod/crm/other", false),
            ("prod/xcrm/support", false),
            ("sales/support", false),
            ("xcrm/support", false),
        ] {
            assert_eq!(ours.has_marked(mark, &channel), is_ours, "{mark}");
        }
        assert!(!InstallationId::default().has_marked("/crm/support", &channel), "what is not known is nobody");
    }

    #[test]
    fn an_id_that_would_break_an_address_or_a_mark_is_refused() {
        for (text, is_good) in [
            ("prod", true),
            ("eu-1.prod_2", true),
            ("8d6f0d53-6ad4-4b8f-9f3a-000000000001", true),
            ("", false),
            ("-prod", false),
            ("a/b", false),
            ("a b", false),
            ("прод", false),
            ("%2e", false),
            (&"x".repeat(64), false),
        ] {
            assert_eq!(InstallationId::given(text).is_ok(), is_good, "{text:?}");
        }
    }
}
