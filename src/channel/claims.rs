//! One channel per account and per bot: who keeps it where two channels ask for the same. Pure.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::api::ChannelRef;

/// What a channel asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub channel: ChannelRef,
    /// `metadata.creationTimestamp`; files have none as a rule.
    pub created: Option<Timestamp>,
    /// Place among the files, where no times decide.
    pub place: usize,
    pub account_number: String,
    /// Fingerprint of the MANGO API key, where it is known: two numbers with one key are one
    /// account.
    pub api_key: Option<String>,
    /// The bot's user id, where it is known.
    pub bot: Option<i64>,
}

/// Why a channel must stand back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The account, by number or by key, is the holder's.
    Account { holder: ChannelRef },
    /// The bot is the holder's.
    Bot { holder: ChannelRef },
}

/// The channels that must stand back, each with the holder. The older resource keeps what both ask
/// for: by creation time, those without one last, then by place. A channel that stands back holds
/// nothing itself.
#[must_use]
pub fn conflicts(claims: &[Claim]) -> BTreeMap<ChannelRef, Conflict> {
    let mut by_age: Vec<&Claim> = claims.iter().collect();
    by_age.sort_by_key(|claim| (claim.created.is_none(), claim.created, claim.place, &claim.channel));
    let mut numbers: HashMap<&str, &ChannelRef> = HashMap::new();
    let mut keys: HashMap<&str, &ChannelRef> = HashMap::new();
    let mut bots: HashMap<i64, &ChannelRef> = HashMap::new();
    let mut conflicts = BTreeMap::new();
    for claim in by_age {
        let account = numbers.get(claim.account_number.as_str()).or_else(|| keys.get(claim.api_key.as_deref()?));
        let conflict = if let Some(holder) = account {
            Some(Conflict::Account { holder: (*holder).clone() })
        } else {
            claim.bot.and_then(|bot| bots.get(&bot)).map(|holder| Conflict::Bot { holder: (*holder).clone() })
        };
        if let Some(conflict) = conflict {
            conflicts.insert(claim.channel.clone(), conflict);
            continue;
        }
        numbers.insert(&claim.account_number, &claim.channel);
        if let Some(key) = &claim.api_key {
            keys.insert(key, &claim.channel);
        }
        if let Some(bot) = claim.bot {
            bots.insert(bot, &claim.channel);
        }
    }
    conflicts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, created: Option<i64>, place: usize, number: &str, key: &str, bot: Option<i64>) -> Claim {
        Claim {
            channel: ChannelRef::new("crm", name),
            created: created.map(|second| Timestamp::from_second(second).unwrap()),
            place,
            account_number: number.to_owned(),
            api_key: (!key.is_empty()).then(|| key.to_owned()),
            bot,
        }
    }

    #[test]
    fn the_older_resource_keeps_the_account_and_the_bot() {
        type Case = (&'static str, Vec<Claim>, Vec<(&'static str, Conflict)>);
        let held_by = |name| ChannelRef::new("crm", name);
        let cases: [Case; 6] = [
            (
                "same number, by creation time",
                vec![claim("new", Some(20), 0, "1", "a", None), claim("old", Some(10), 1, "1", "b", None)],
                vec![("new", Conflict::Account { holder: held_by("old") })],
            ),
            (
                "same key, by place",
                vec![claim("second", None, 1, "2", "a", None), claim("first", None, 0, "1", "a", None)],
                vec![("second", Conflict::Account { holder: held_by("first") })],
            ),
            (
                "a time beats none",
                vec![claim("timeless", None, 0, "1", "a", None), claim("timed", Some(99), 1, "1", "b", None)],
                vec![("timeless", Conflict::Account { holder: held_by("timed") })],
            ),
            (
                "same bot",
                vec![claim("one", None, 0, "1", "a", Some(7)), claim("two", None, 1, "2", "b", Some(7))],
                vec![("two", Conflict::Bot { holder: held_by("one") })],
            ),
            (
                "who stands back holds nothing",
                vec![
                    claim("one", None, 0, "1", "a", Some(7)),
                    claim("two", None, 1, "1", "b", Some(8)),
                    claim("three", None, 2, "3", "b", Some(8)),
                ],
                vec![("two", Conflict::Account { holder: held_by("one") })],
            ),
            (
                "nothing in common, keys and bots unknown",
                vec![claim("one", None, 0, "1", "", None), claim("two", None, 1, "2", "", None)],
                vec![],
            ),
        ];
        for (case, claims, expected) in cases {
            let expected = expected.into_iter().map(|(name, conflict)| (held_by(name), conflict)).collect();
            assert_eq!(conflicts(&claims), expected, "{case}");
        }
    }
}
