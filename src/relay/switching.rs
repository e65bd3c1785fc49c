//! A change of the way in: nothing is lost, doubled or reordered, and open dialogs go on.
//!
//! - *Nothing lost*: at a change every dialog that MAX shows is read back ([`super::gaps`]), and
//!   MANGO OFFICE, where it was the way, is asked for a while longer: what it has taken before the
//!   change comes from it alone.
//! - *Nothing reordered*: MAX shows the whole dialog with its own times, so it is read back before
//!   anything behind the change is taken, as soon as a message tells which chat that is. What then
//!   comes from MANGO OFFICE alone bears the time at which that got it: it stands before whatever
//!   MAX has brought within the time by which the two clocks may differ, and where that is with the
//!   agents already it says that it is late. What has a twin stands where MAX shows that.
//! - *Nothing doubled*: what the customer wrote around a change may come both ways, each time under
//!   another id. Such twins have the same words at nearly the same time; the second to come is
//!   left. One message is the twin of one other only, so who says the same twice is heard twice.
//!   MANGO OFFICE may have got a message long after MAX: where it is not the way any more, MAX
//!   shows all that it has, and such a message is no other. A send that may have left one way is
//!   looked for in the dialog at MAX, where both ways end, before it goes the other way.
//! - *Open dialogs go on*: what MANGO OFFICE closed while it was not the way closes nothing here.
//!
//! Must not: leave a message because of its words alone.

use super::dialogs::Taken;
use super::render;
use super::step::Stepper;
use super::store::customer::Customer;
use super::store::meta::{self, Moment};
use super::store::{Position, StoreError, Tx, gap, inbox, mango, to_crm};
use crate::contract::config::Intake;
use crate::max::update::{self, Event};
use crate::max::{Message, MessageId};
use crate::time::Millis;

/// Ids of messages that MANGO OFFICE brought begin so.
pub(super) const OF_MANGO: &str = "mango.";
/// The way through MANGO OFFICE, as it is noted.
const OF_DIALOGS: &str = "mangoDialogs";
/// How long MANGO OFFICE is asked after it was the way.
const OVERLAP: Millis = 600_000;
/// How far the clocks of twins may be apart that are both from before the change; MANGO OFFICE may
/// tell when it got a message.
const APART: Millis = 30_000;
/// The same where one is from before the change and the other from after it: then the customer may
/// have said it again.
const ACROSS: Millis = 2_000;
/// How much later MANGO OFFICE may have got what MAX shows, too: it was away, and an hour back is
/// read.
const LATE: Millis = 2 * 3_600_000;

/// Notes the way in that is in force from `now` on, by MAX's clock as far as it is known and by
/// ours. Where it is another than before, what may be missing between the two is noted with it.
/// Returns whether it is.
pub(super) fn note(tx: &Tx<'_>, intake: &Intake, max_time: Option<Millis>, now: Millis) -> Result<bool, StoreError> {
    let name = match intake {
        Intake::Webhook => "webhook",
        Intake::LongPoll => "longPoll",
        Intake::MangoDialogs => OF_DIALOGS,
        Intake::None => "none",
    };
    let before = meta::get(tx, meta::INTAKE)?;
    if before.as_deref() == Some(name) {
        return Ok(false);
    }
    meta::set(tx, meta::INTAKE, name)?;
    // A store of before names none.
    let Some(before) = before else { return Ok(false) };
    meta::set_moment(tx, Moment::Switched, max_time.unwrap_or(now), max_time.is_some())?;
    gap::note(tx, gap::newest_update(tx, Millis::MAX)?, gap::Kind::Lasting, now)?;
    if *intake == Intake::MangoDialogs {
        mango::begin_anew(tx)?;
        super::mango::mended(tx)?;
    }
    if before == OF_DIALOGS {
        meta::set(tx, meta::LEFT_MANGO_AT, &now.to_string())?;
    }
    Ok(true)
}

/// Whether MANGO OFFICE is the way.
pub(super) fn is_by_mango(tx: &Tx<'_>) -> Result<bool, StoreError> {
    Ok(meta::get(tx, meta::INTAKE)?.as_deref() == Some(OF_DIALOGS))
}

/// Until when MANGO OFFICE is still asked although it is not the way any more.
pub(super) fn asked_until(tx: &Tx<'_>) -> Result<Millis, StoreError> {
    Ok(meta::number(tx, meta::LEFT_MANGO_AT)?.map_or(Millis::MIN, |left| left + OVERLAP))
}

impl Stepper<'_> {
    /// Whether the customer's message has come the other way already.
    pub(super) fn is_twin(
        &self,
        customer: &mut Customer,
        message: &Message,
        taken: &Taken<'_>,
    ) -> Result<bool, StoreError> {
        let Some(switched_at) = meta::moment(self.tx, Moment::Switched)? else { return Ok(false) };
        let at = taken.position.0;
        let late = if is_by_mango(self.tx)? { APART } else { LATE };
        let (before, behind) = if is_of_mango(message) { (late, APART) } else { (APART, late) };
        let rows = inbox::messages_between(self.tx, customer.id, (at - before, at + behind))?;
        let others: Vec<Other> = rows.iter().filter_map(Other::read).collect();
        let change = Change { at: switched_at, late };
        let Some(twins) = twins(&Said::of(message), at, &others, change) else { return Ok(false) };
        if is_of_mango(message) {
            inbox::set_twin(self.tx, taken.row, twins[0])?;
            return Ok(true);
        }
        for other in others.iter().filter(|other| twins.contains(&other.row)) {
            inbox::set_twin(self.tx, other.row, taken.row)?;
            self.stand_where_max_shows(customer, other, taken.position)?;
        }
        Ok(true)
    }

    /// What MANGO OFFICE brought first takes the place that it has at MAX, as far as the agents
    /// have not been told, and what comes is held against that.
    fn stand_where_max_shows(
        &self,
        customer: &mut Customer,
        other: &Other,
        position: Position,
    ) -> Result<(), StoreError> {
        to_crm::move_to(self.tx, customer.id, &render::id_in_crm(other.mid.as_str()), position)?;
        let mut marks = vec![&mut customer.taken, &mut customer.newest];
        // What may have been told is told again in the same words, late or not.
        if !to_crm::is_under_way(self.tx, customer.id)? {
            marks.push(&mut customer.delivered);
        }
        for mark in marks {
            if mark.is_some_and(|(_, seq)| seq == other.seq) {
                *mark = Some(position);
            }
        }
        Ok(())
    }

    /// The place of a message that is no twin. Where MANGO OFFICE brings it although it is not the
    /// way any more, its time tells nothing of what MAX has brought at nearly the same time: that
    /// came by the younger way.
    pub(super) fn place(
        &self,
        customer: &Customer,
        message: &Message,
        (at, seq): Position,
    ) -> Result<Position, StoreError> {
        let newest_of_max = customer.taken.filter(|(_, seq)| is_of_mango(message) && *seq > 0);
        match newest_of_max {
            Some((newest, _)) if (newest..newest + APART).contains(&at) && !is_by_mango(self.tx)? => {
                Ok((newest - 1, seq))
            }
            _ => Ok((at, seq)),
        }
    }

    /// Whether these words, which MANGO OFFICE shows as an employee's, went out from here around a
    /// change.
    pub(super) fn is_own_echo(&self, customer: &Customer, text: &str, at: Millis) -> Result<bool, StoreError> {
        if meta::moment(self.tx, Moment::Switched)?.is_none() {
            return Ok(false);
        }
        let sent = super::store::to_max::sent_between(self.tx, customer.id, (at - APART, at + APART))?;
        Ok(sent.iter().any(|part| same_words(part, text)))
    }
}

fn is_of_mango(message: &Message) -> bool {
    message.mid.as_str().starts_with(OF_MANGO)
}

pub(super) fn same_words(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

/// What a message says, as far as both ways show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    by_mango: bool,
    text: String,
    files: usize,
}

impl Said {
    fn of(message: &Message) -> Self {
        let inner = message.link.as_ref().filter(|link| link.kind != "reply");
        let own = message.text.as_deref().or(inner.and_then(|link| link.text.as_deref()));
        let attachments = message.attachments.iter().chain(inner.into_iter().flat_map(|link| &link.attachments));
        Self {
            by_mango: is_of_mango(message),
            text: own.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "),
            files: attachments.filter(|one| one.is_sent()).count(),
        }
    }

    /// Of a message of MAX: what remains when MANGO OFFICE has brought that much of it.
    fn without(&self, part: &Self) -> Option<Self> {
        let text_fits = part.text.is_empty() || part.text == self.text;
        (text_fits && part.files <= self.files).then(|| Self {
            by_mango: false,
            text: if part.text.is_empty() { self.text.clone() } else { String::new() },
            files: self.files - part.files,
        })
    }

    fn is_nothing(&self) -> bool {
        self.text.is_empty() && self.files == 0
    }
}

/// A message that was taken before.
struct Other {
    row: i64,
    mid: MessageId,
    at: Millis,
    seq: i64,
    /// The message of MAX whose twin it is.
    twin: Option<i64>,
    said: Said,
}

impl Other {
    fn read(row: &inbox::Message) -> Option<Self> {
        let Event::MessageCreated(message) = update::parse(&row.raw).event else { return None };
        let said = Said::of(&message);
        Some(Self { row: row.id, mid: message.mid, at: row.at, seq: row.seq, twin: row.twin, said })
    }
}

/// The last change of the way in.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: Millis,
    /// How much later than MAX the twin of MANGO OFFICE may be.
    late: Millis,
}

/// The messages that came the other way and say together what this one says, the nearest first.
fn twins(said: &Said, at: Millis, others: &[Other], change: Change) -> Option<Vec<i64>> {
    if said.is_nothing() {
        return None;
    }
    let near = |other: &&Other| {
        let across = (at > change.at) != (other.at > change.at);
        let behind_max = if said.by_mango { at - other.at } else { other.at - at };
        let is_late = change.late > APART && (0..=change.late).contains(&behind_max);
        is_late || behind_max.abs() <= if across { ACROSS } else { APART }
    };
    let mut candidates: Vec<&Other> =
        others.iter().filter(|other| other.said.by_mango != said.by_mango).filter(near).collect();
    candidates.sort_by_key(|other| (at - other.at).abs());
    if said.by_mango {
        // MANGO OFFICE may bring one message of MAX as several: each takes its part of it.
        let fits = |other: &&Other| {
            let mut parts = others.iter().filter(|one| one.twin == Some(other.row)).map(|one| &one.said);
            let left = parts.try_fold(other.said.clone(), |left, part| left.without(part));
            left.is_some_and(|left| left.without(said).is_some())
        };
        return candidates.into_iter().find(fits).map(|other| vec![other.row]);
    }
    let mut left = said.clone();
    let mut found = Vec::new();
    for other in candidates.into_iter().filter(|other| other.twin.is_none() && !other.said.is_nothing()) {
        if let Some(rest) = left.without(&other.said) {
            left = rest;
            found.push(other.row);
        }
        if left.is_nothing() {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCH: Millis = 1_000_000;

    fn said(by_mango: bool, text: &str, files: usize) -> Said {
        Said { by_mango, text: text.to_owned(), files }
    }

    fn other(row: i64, at: Millis, said: Said, twin: Option<i64>) -> Other {
        Other { row, mid: MessageId::new(row.to_string()), at, seq: row, twin, said }
    }

    #[test]
    fn twins_are_of_two_ways_have_the_same_words_and_nearly_the_same_time_and_are_no_others() {
        let before = SWITCH - 60_000;
        for (what, new, at, others, expected) in [
            ("alone", said(true, "да", 0), before, vec![], None),
            ("the same way", said(true, "да", 0), before, vec![other(1, before, said(true, "да", 0), None)], None),
            (
                "the other way",
                said(true, "да", 0),
                before + 900,
                vec![other(1, before, said(false, "да", 0), None)],
                Some(vec![1]),
            ),
            ("other words", said(true, "нет", 0), before, vec![other(1, before, said(false, "да", 0), None)], None),
            (
                "long before",
                said(true, "да", 0),
                before,
                vec![other(1, before - APART - 1, said(false, "да", 0), None)],
                None,
            ),
            (
                "said again after the change",
                said(true, "да", 0),
                SWITCH + 2_000,
                vec![other(1, SWITCH - 1_000, said(false, "да", 0), None)],
                None,
            ),
            (
                "on its way at the change",
                said(true, "да", 0),
                SWITCH + 500,
                vec![other(1, SWITCH - 500, said(false, "да", 0), None)],
                Some(vec![1]),
            ),
            (
                "each has one twin",
                said(true, "да", 0),
                before + 5_000,
                vec![
                    other(1, before, said(false, "да", 0), None),
                    other(2, before + 100, said(true, "да", 0), Some(1)),
                ],
                None,
            ),
            (
                "the nearest",
                said(false, "да", 0),
                before + 5_000,
                vec![other(1, before, said(true, "да", 0), None), other(2, before + 5_100, said(true, "да", 0), None)],
                Some(vec![2]),
            ),
            (
                "a caption and its photos are one message of MAX",
                said(false, "вот", 2),
                before,
                vec![
                    other(1, before, said(true, "вот", 1), None),
                    other(2, before + 100, said(true, "", 1), None),
                    other(3, before + 200, said(true, "", 1), None),
                ],
                Some(vec![1, 2]),
            ),
            (
                "and only in part they are none",
                said(false, "вот", 2),
                before,
                vec![other(1, before, said(true, "вот", 1), None)],
                None,
            ),
            (
                "its second photo",
                said(true, "", 1),
                before,
                vec![other(1, before, said(false, "вот", 2), None), other(2, before, said(true, "вот", 1), Some(1))],
                Some(vec![1]),
            ),
            (
                "no third photo",
                said(true, "", 1),
                before,
                vec![other(1, before, said(false, "вот", 1), None), other(2, before, said(true, "вот", 1), Some(1))],
                None,
            ),
            ("nothing to compare", said(true, "", 0), before, vec![other(1, before, said(false, "", 0), None)], None),
        ] {
            let change = Change { at: SWITCH, late: APART };
            assert_eq!(twins(&new, at, &others, change), expected, "{what}");
        }
    }

    #[test]
    fn what_mango_got_long_after_max_is_a_twin_where_mango_is_not_the_way_any_more() {
        let (change, long) = (Change { at: SWITCH, late: LATE }, 3_000_000);
        for (what, new, at, others, expected) in [
            (
                "MAX shows what MANGO brought",
                said(false, "да", 0),
                SWITCH - long,
                vec![other(1, SWITCH - 1_000, said(true, "да", 0), None)],
                Some(vec![1]),
            ),
            (
                "MANGO brings what MAX has shown",
                said(true, "да", 0),
                SWITCH + long,
                vec![other(1, SWITCH - 1_000, said(false, "да", 0), None)],
                Some(vec![1]),
            ),
            (
                "said twice, each has its own",
                said(false, "да", 0),
                SWITCH - long + 5_000,
                vec![
                    other(1, SWITCH - 1_000, said(true, "да", 0), Some(7)),
                    other(2, SWITCH - 900, said(true, "да", 0), None),
                ],
                Some(vec![2]),
            ),
            (
                "MANGO never has it before MAX",
                said(true, "да", 0),
                SWITCH - long,
                vec![other(1, SWITCH - 1_000, said(false, "да", 0), None)],
                None,
            ),
            (
                "later than anybody reads back",
                said(true, "да", 0),
                SWITCH + LATE,
                vec![other(1, SWITCH - 1_000, said(false, "да", 0), None)],
                None,
            ),
        ] {
            assert_eq!(twins(&new, at, &others, change), expected, "{what}");
        }
    }
}
