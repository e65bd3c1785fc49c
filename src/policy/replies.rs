//! Which automatic replies a dialog sends now, and when it has to be asked again.

use serde::{Deserialize, Serialize};

use super::{
    AutoReply, Dialog, Effect, ReplySet, Rules,
    dialog::{Closing, Current, Holder, Shown},
};
use crate::time::Millis;

/// An overdue reply is sent if it is at most this late.
pub const LATE: Millis = 5 * 60 * 1000;

/// Replies that are due within this span belong together: if they are overdue, they are sent or
/// skipped as one.
pub const TOGETHER: Millis = 2 * 1000;

/// One showing of one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplyPlace {
    /// [`Dialog::number`].
    pub dialog: u32,
    pub set: ReplySet,
    pub index: usize,
    pub occurrence: u32,
}

/// Whether a reply that was decided before is still to be sent now: its dialog still waits for an
/// agent, it is at most [`LATE`] late, and nothing that was due later has taken its place.
pub fn is_wanted(rules: &Rules, dialog: &Dialog, reply: &ReplyPlace, now: Millis) -> bool {
    let mut dialog = dialog.clone();
    dialog.follow_clock(now);
    let set = if rules.is_open(now) { ReplySet::Hours } else { ReplySet::OffHours };
    let replies = rules.replies(set);
    if reply.dialog != dialog.number || reply.set != set {
        return false;
    }
    let Some((_, since)) = waiting_since(&dialog) else { return false };
    let Some(begin) = rules.in_force_from(set, since).filter(|begin| *begin <= now) else { return false };
    let due_by_now = |known: &AutoReply| {
        let due: Vec<Millis> =
            (0..known.occurrences_by(now - begin)).map(|occurrence| begin + known.due(occurrence)).collect();
        due.into_iter().rev().find(|at| rules.in_force(set, *at))
    };
    let latest = replies.iter().filter_map(due_by_now).max();
    let Some(known) = replies.get(reply.index).filter(|known| reply.occurrence < known.occurrences()) else {
        return false;
    };
    let due = begin + known.due(reply.occurrence);
    now - due <= LATE && rules.in_force(set, due) && latest.is_none_or(|latest| due + TOGETHER >= latest)
}

/// From when the replies of a dialog count; none: they do not run.
fn waiting_since(dialog: &Dialog) -> Option<(&Current, Millis)> {
    let current = dialog.current.as_ref()?;
    match current.holder {
        Holder::People { since }
            if !dialog.gone && !current.answered && current.closing == Closing::No && dialog.before.is_empty() =>
        {
            Some((current, since))
        }
        _ => None,
    }
}

/// Decides everything that is due by now and sends what is to be sent.
pub(super) fn send(rules: &Rules, dialog: &mut Dialog, effects: &mut Vec<Effect>) {
    let now = dialog.seen;
    if rules.auto_replies.is_empty() && rules.replies(ReplySet::OffHours).is_empty() {
        return;
    }
    let Some((current, since)) = waiting_since(dialog) else { return };
    let set = if rules.is_open(now) { ReplySet::Hours } else { ReplySet::OffHours };
    let replies = rules.replies(set);
    if replies.is_empty() {
        return;
    }
    let Some(begin) = rules.in_force_from(set, since).filter(|begin| *begin <= now) else { return };

    let mut due = Vec::new();
    let mut decided = Vec::new();
    for (index, reply) in replies.iter().enumerate() {
        let first = current.shown.next_occurrence(set, index);
        let next = first.max(reply.occurrences_by(now - begin));
        if next > first {
            decided.push((index, next));
        }
        due.extend((first..next).map(|occurrence| (begin + reply.due(occurrence), index, occurrence)));
    }
    if decided.is_empty() {
        return;
    }
    due.sort_unstable();
    let latest =
        due.iter().map(|(at, ..)| *at).rev().take_while(|at| now - at <= LATE).find(|at| rules.in_force(set, *at));
    if let Some(latest) = latest {
        for (at, index, occurrence) in due {
            if latest - TOGETHER <= at && at <= latest && rules.in_force(set, at) {
                let text = replies[index].text.clone();
                effects.push(Effect::SendAutoReply { set, index, occurrence, text });
            }
        }
    }
    if let Some(current) = &mut dialog.current {
        for (index, next) in decided {
            current.shown.decide(set, index, next);
        }
    }
}

/// What a dialog has decided of its replies after that moment.
pub(super) fn shown_since(rules: &Rules, ended: &Current, at: Millis) -> Shown {
    let mut shown = Shown::default();
    let Holder::People { since } = ended.holder else { return shown };
    for set in [ReplySet::Hours, ReplySet::OffHours] {
        let Some(begin) = rules.in_force_from(set, since) else { continue };
        for (index, reply) in rules.replies(set).iter().enumerate() {
            let decided = 0..ended.shown.next_occurrence(set, index);
            let after = decided.fold(0, |count, occurrence| count + u32::from(begin + reply.due(occurrence) > at));
            if after > 0 {
                shown.decide(set, index, after);
            }
        }
    }
    shown
}

/// When the next reply is due that is not decided by now.
pub(super) fn next_due(rules: &Rules, dialog: &Dialog) -> Option<Millis> {
    let (current, since) = waiting_since(dialog)?;
    let mut earliest: Option<Millis> = None;
    for set in [ReplySet::Hours, ReplySet::OffHours] {
        let replies = rules.replies(set);
        if replies.is_empty() {
            continue;
        }
        let Some(begin) = rules.in_force_from(set, since) else { continue };
        for (index, reply) in replies.iter().enumerate() {
            let first = current.shown.next_occurrence(set, index).max(reply.occurrences_by(dialog.seen - begin));
            let due = (first..reply.occurrences())
                .map(|occurrence| begin + reply.due(occurrence))
                .take_while(|at| earliest.is_none_or(|earliest| *at < earliest))
                .find(|at| rules.in_force(set, *at));
            earliest = due.or(earliest);
        }
    }
    earliest
}
