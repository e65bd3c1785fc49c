//! What is wrong with one side, as classes that both halves know: the relay names one, the
//! controller decides by it.

use serde::{Deserialize, Serialize};

/// Why a side is not well. On the wire it is its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Trouble {
    /// MAX gives no answer, or fails at the moment.
    MaxUnreachable,
    /// MAX answers what nobody here can read.
    MaxNotUnderstood,
    /// MAX does not take the token.
    Unauthorized,
    /// MAX has blocked the bot.
    AccountBlocked,
    /// MAX does not let this bot poll now.
    PollRefused,
    /// Too many requests.
    Throttled,
    /// The CRM gives no answer, or fails at the moment.
    CrmUnreachable,
    /// The CRM answers what nobody here can read.
    CrmNotUnderstood,
    /// The CRM refuses the sign-in.
    CredentialsInvalid,
    /// The technical user lacks a right.
    AccessDenied,
    /// The CRM lacks the package, or has an older one.
    PackageMissing,
    /// The CRM has no channel of this bot.
    ChannelNotFound,
    /// The channel in the CRM is switched off.
    ChannelInactive,
    /// The rows in the CRM carry another owner's mark.
    OwnedElsewhere,
    /// The receiver's bot gives no answer, or fails at the moment.
    BotUnreachable,
    /// The receiver's bot answers what nobody here can read.
    BotNotUnderstood,
    /// The store was taken out, to another installation.
    StoreMoved,
    /// The store is being written out or brought in, and opens again after that.
    StoreHeld,
    /// What a relay of another version says.
    Other(String),
}

/// The names on the wire; the first of a class is the one that is written.
const NAMES: &[(&str, Trouble)] = &[
    ("MaxUnreachable", Trouble::MaxUnreachable),
    ("MaxNotUnderstood", Trouble::MaxNotUnderstood),
    ("Unauthorized", Trouble::Unauthorized),
    ("AccountBlocked", Trouble::AccountBlocked),
    ("PollRefused", Trouble::PollRefused),
    ("Throttled", Trouble::Throttled),
    ("CrmUnreachable", Trouble::CrmUnreachable),
    ("CrmNotUnderstood", Trouble::CrmNotUnderstood),
    ("CredentialsInvalid", Trouble::CredentialsInvalid),
    ("AccessDenied", Trouble::AccessDenied),
    ("PackageMissing", Trouble::PackageMissing),
    ("channel_not_found", Trouble::ChannelNotFound),
    ("channel_inactive", Trouble::ChannelInactive),
    ("OwnedElsewhere", Trouble::OwnedElsewhere),
    ("BotUnreachable", Trouble::BotUnreachable),
    ("BotNotUnderstood", Trouble::BotNotUnderstood),
    ("StoreMoved", Trouble::StoreMoved),
    ("StoreHeld", Trouble::StoreHeld),
    // Of relays of an older version.
    ("throttled", Trouble::Throttled),
];

impl Trouble {
    /// The name on the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        if let Self::Other(name) = self {
            return name;
        }
        NAMES.iter().find(|(_, trouble)| trouble == self).map_or("", |(name, _)| name)
    }
}

impl From<String> for Trouble {
    fn from(name: String) -> Self {
        NAMES.iter().find(|(known, _)| *known == name).map_or_else(|| Self::Other(name), |(_, trouble)| trouble.clone())
    }
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> Self {
        trouble.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_name_that_the_other_half_reads_as_the_same_class() {
        for (name, trouble) in NAMES {
            assert_eq!(Trouble::from((*name).to_owned()), *trouble);
            let written = serde_json::to_string(trouble).unwrap();
            assert_eq!(serde_json::from_str::<Trouble>(&written).unwrap(), *trouble, "{written}");
        }
        let unknown: Trouble = serde_json::from_str("\"OfTomorrow\"").unwrap();
        assert_eq!(unknown, Trouble::Other("OfTomorrow".to_owned()));
        assert_eq!(serde_json::to_string(&unknown).unwrap(), "\"OfTomorrow\"");
    }
}
