//! The receipt of a channel: what became of every message, day by day, and whether it adds up.
//!
//! The counts are the store's ([`super::store::receipt`]); here they become what the administrator
//! and the metrics are told.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::state::Shared;
use super::store::receipt::{self, Counts, day};
use super::store::{StoreError, Tx, restored};
use crate::contract::ReceiptFacts;
use crate::contract::admin::{Receipt, ReceiptDay, Restored, Tally};
use crate::time::Millis;

/// So many days are shown where none is named.
const SHOWN: i64 = 30;
const DAY: Millis = 86_400_000;

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    #[error("{0} is no day: write it like 2026-11-29")]
    Malformed(String),
    #[error("{0} has not begun yet: days are those of UTC")]
    Future(Date),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Counts {
    /// What has become of more or of fewer messages than came: the first is told as doubled, the
    /// second as lost.
    fn tally(self) -> Tally {
        let Self { received, delivered, dead, uncertain, withheld, erased, repeated, doubled, waiting } = self;
        let missing = received - (delivered + dead + uncertain + withheld + erased + waiting);
        let (lost, doubled) = (missing.max(0), doubled + (-missing).max(0));
        Tally { received, delivered, dead, uncertain, withheld, erased, waiting, repeated, lost, doubled }
    }
}

pub(super) async fn of(shared: &Shared, wanted: Option<&str>) -> Result<Receipt, ReceiptError> {
    let today = day(shared.clock.now());
    let wanted = wanted
        .map(|text| text.parse::<Date>().map_err(|_| ReceiptError::Malformed(text.to_owned())))
        .transpose()?
        .map(|date| match number_of(date) {
            number if number > today => Err(ReceiptError::Future(date)),
            number => Ok(number),
        })
        .transpose()?;
    let channel = shared.active().map_or_else(String::new, |active| {
        format!("{}/{}", active.config.channel.namespace, active.config.channel.name)
    });
    Ok(shared.store.transact(move |tx| read(tx, channel, wanted, today)).await?)
}

fn read(tx: &Tx<'_>, channel: String, wanted: Option<i64>, today: i64) -> Result<Receipt, StoreError> {
    let since = receipt::since(tx)?;
    let first = since.map_or(today, day);
    let wanted = match wanted {
        Some(one) => vec![one],
        None => receipt::days(tx, today - SHOWN + 1)?,
    };
    let mut days = Vec::new();
    for number in wanted {
        let known = number >= first;
        let tallies = known.then(|| receipt::read(tx, Some(number))).transpose()?;
        let [to_crm, to_max] = tallies.map_or([None, None], |tallies| tallies.map(|days| Some(sum(days))));
        days.push(ReceiptDay { day: date_of(number), known, to_crm, to_max });
    }
    let restored = restored::unknown(tx)?;
    let restored = restored.map(|(from, until)| Restored { from: moment(from), until: moment(until) });
    Ok(Receipt { channel, since: since.map(moment), restored, days })
}

/// Over all days.
pub(super) fn in_all(tx: &Tx<'_>) -> Result<ReceiptFacts, StoreError> {
    let [to_crm, to_max] = receipt::read(tx, None)?.map(sum);
    Ok(ReceiptFacts { to_crm, to_max })
}

/// Of each day by itself: what is lost on one is not made good by what is doubled on another.
fn sum(days: BTreeMap<i64, Counts>) -> Tally {
    days.into_values().map(Counts::tally).sum()
}

fn moment(at: Millis) -> String {
    Timestamp::from_millisecond(at).map_or_else(|_| String::new(), |at| format!("{at:.0}"))
}

fn date_of(number: i64) -> String {
    let at = Timestamp::from_millisecond(number.saturating_mul(DAY));
    at.map_or_else(|_| String::new(), |at| at.to_zoned(TimeZone::UTC).date().to_string())
}

fn number_of(date: Date) -> i64 {
    date.to_zoned(TimeZone::UTC).map_or(i64::MIN, |at| day(at.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_number_and_back() {
        for (text, number) in [("1970-01-01", 0), ("2026-11-29", 20_786), ("1969-12-31", -1)] {
            let date: Date = text.parse().unwrap();
            assert_eq!((number_of(date), date_of(number).as_str()), (number, text));
        }
    }

    #[test]
    fn a_day_that_is_off_is_not_made_good_by_another() {
        let of = |delivered: i64| Counts { received: 5, delivered, ..Counts::default() };
        let Tally { received, delivered, lost, doubled, .. } =
            sum(BTreeMap::from([(1, of(4)), (2, of(5)), (3, of(7))]));
        assert_eq!((received, delivered, lost, doubled), (15, 16, 1, 2));
    }

    #[test]
    fn what_does_not_add_up_is_lost_or_doubled() {
        let counts = Counts {
            received: 9,
            delivered: 3,
            dead: 1,
            uncertain: 1,
            withheld: 1,
            erased: 1,
            waiting: 2,
            ..Counts::default()
        };
        let of = |counts: Counts| (counts.tally().lost, counts.tally().doubled);
        assert_eq!(of(counts), (0, 0));
        assert_eq!(of(Counts { delivered: 2, ..counts }), (1, 0));
        assert_eq!(of(Counts { delivered: 4, ..counts }), (0, 1));
        assert_eq!(of(Counts { doubled: 2, ..counts }), (0, 2));
    }
}
