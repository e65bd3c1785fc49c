//! What each relay may ask of a CRM, so that all relays of an installation together keep one limit.
//! Pure.
//!
//! Channels whose CRM has the same scheme, host and port share the lowest limit that any of them
//! names, in equal parts. Shares move with the number of channels: *nobody is told of a larger
//! share before the others have given up what it is made of*. What a relay holds is the share that
//! it says is in force, or whatever it was told since and has not confirmed, if that is more; the
//! sum of that over all relays never grows beyond the limit. A relay that this process has not
//! heard yet may hold anything, so until it has been heard nobody is told of more; one that stays
//! silent for [`SILENCE`] is taken to hold its part. Where channels are divided among several
//! replicas, so are those that another one leads: there the sum may be more while shares move. What
//! a channel held that is gone is free after [`GONE`], when its pod is gone too; until then it is
//! still its own, should it come back.

use std::collections::{BTreeMap, HashMap};

use crate::api::ChannelRef;
use crate::contract::share::{CrmShare, Share};
use crate::time::Millis;

/// How long a relay that is not heard keeps the others waiting.
const SILENCE: Millis = 60_000;
/// How long after its channel a relay may still ask.
const GONE: Millis = 60_000;

/// The shares of all relays.
#[derive(Debug, Default)]
pub struct Shares {
    sites: HashMap<String, Site>,
    of: HashMap<ChannelRef, String>,
}

#[derive(Debug, Default)]
struct Site {
    members: BTreeMap<ChannelRef, Member>,
    /// What those held that are gone, and until when.
    gone: Vec<(ChannelRef, u64, Millis)>,
    /// The parts and sums below are of other members.
    is_stale: bool,
    limit: usize,
    /// What all members hold together.
    held: u64,
    unheard: usize,
}

#[derive(Debug)]
struct Member {
    /// What the channel names.
    limit: usize,
    part: Share,
    holds: Holds,
    /// Told and not confirmed.
    told: Option<Share>,
    /// The most that was told since the last confirmation: it may have arrived.
    outstanding: u64,
    since: Millis,
}

/// What is known of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It may be there, and has not been heard.
    Unheard,
    /// There is none yet.
    Nothing,
    /// It says so.
    Share(Share),
    /// It knows nothing of shares: a relay of an older version.
    Older,
}

impl Member {
    /// What may be in force.
    fn held(&self) -> u64 {
        let confirmed = match self.holds {
            Holds::Nothing => 0,
            Holds::Share(share) => share.weight(),
            // An older one takes all of the limit whatever is reckoned here.
            Holds::Older | Holds::Unheard => self.part.weight(),
        };
        confirmed.max(self.outstanding)
    }
}

impl Site {
    /// Reckons anew after members have come or gone.
    fn settle(&mut self, now: Millis) {
        self.gone.retain(|(.., until)| *until > now);
        if self.is_stale || self.unheard > 0 {
            let silent = |member: &&mut Member| member.holds == Holds::Unheard && now - member.since >= SILENCE;
            for member in self.members.values_mut().filter(silent) {
                member.holds = Holds::Older;
                self.is_stale = true;
            }
        }
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        self.limit = self.members.values().map(|member| member.limit).min().unwrap_or(1);
        let among = self.members.len();
        for (place, member) in self.members.values_mut().enumerate() {
            member.part = Share::of(self.limit, among, place);
        }
        self.held = self.members.values().map(Member::held).sum();
        self.unheard = self.members.values().filter(|member| member.holds == Holds::Unheard).count();
    }

    /// What none of the members holds, and none that is gone.
    fn free(&self) -> u64 {
        let gone: u64 = self.gone.iter().map(|(_, weight, _)| weight).sum();
        let whole = u64::try_from(self.limit).unwrap_or(u64::MAX).saturating_mul(1_000_000_000);
        whole.saturating_sub(self.held).saturating_sub(gone)
    }

    fn change(&mut self, channel: &ChannelRef, change: impl FnOnce(&mut Member)) {
        let Some(member) = self.members.get_mut(channel) else { return };
        let (before, was_unheard) = (member.held(), member.holds == Holds::Unheard);
        change(member);
        self.held = self.held - before + member.held();
        self.unheard = self.unheard - usize::from(was_unheard) + usize::from(member.holds == Holds::Unheard);
    }

    /// What a member shall be told, were it asked now.
    fn next(&self, channel: &ChannelRef) -> Option<Share> {
        let member = self.members.get(channel)?;
        let holds = match member.holds {
            Holds::Share(share) => share,
            Holds::Unheard | Holds::Nothing | Holds::Older => return None,
        };
        if holds == member.part && member.told.is_none() {
            return None;
        }
        let grows = member.part.weight().saturating_sub(member.held());
        (grows == 0 || (self.unheard == 0 && grows <= self.free())).then_some(member.part)
    }
}

impl Shares {
    /// Puts a channel among those of its CRM; `limit`: the requests a second that it names, `holds`
    /// what is known of its relay where the channel is new here. False: it was there already.
    pub fn put(&mut self, channel: &ChannelRef, (site, limit): (&str, usize), holds: Holds, now: Millis) -> bool {
        if self.of.get(channel).is_some_and(|known| known != site) {
            self.remove(channel, now);
        }
        self.of.entry(channel.clone()).or_insert_with(|| site.to_owned());
        let found = self.sites.entry(site.to_owned()).or_default();
        match found.members.get_mut(channel) {
            Some(member) if member.limit == limit => return false,
            Some(member) => member.limit = limit,
            None => {
                let part = Share::UNTOLD;
                let back = found.gone.extract_if(.., |(gone, _, until)| gone == channel && *until > now);
                let outstanding = back.map(|(_, weight, _)| weight).max().unwrap_or_default();
                let member = Member { limit, part, holds, told: None, outstanding, since: now };
                found.members.insert(channel.clone(), member);
            }
        }
        found.is_stale = true;
        true
    }

    /// Whether the channel has a share anywhere.
    #[must_use]
    pub fn knows(&self, channel: &ChannelRef) -> bool {
        self.of.contains_key(channel)
    }

    /// The channel is gone, or asks that CRM no more.
    pub fn remove(&mut self, channel: &ChannelRef, now: Millis) -> bool {
        let Some(name) = self.of.remove(channel) else { return false };
        let Some(site) = self.sites.get_mut(&name) else { return false };
        if let Some(member) = site.members.remove(channel) {
            site.gone.push((channel.clone(), member.held(), now + GONE));
            site.is_stale = true;
        }
        true
    }

    /// The channel has no relay yet, as far as nobody has heard one.
    pub fn has_none(&mut self, channel: &ChannelRef) {
        let Some(site) = self.of.get(channel).and_then(|name| self.sites.get_mut(name)) else { return };
        if let Some(member) = site.members.get_mut(channel).filter(|member| member.holds == Holds::Unheard) {
            member.holds = Holds::Nothing;
            site.is_stale = true;
        }
    }

    /// Others may have told the relays anything since they were heard.
    pub fn forget(&mut self, now: Millis) {
        for site in self.sites.values_mut() {
            site.is_stale = true;
            for member in site.members.values_mut() {
                *member = Member { holds: Holds::Unheard, told: None, outstanding: 0, since: now, ..*member };
            }
        }
    }

    /// Takes in what a relay says of itself, unless it was told something since: it may have said
    /// that before. Answers who may be told of more because of it.
    pub fn hear(&mut self, channel: &ChannelRef, holds: Holds, now: Millis) -> Vec<ChannelRef> {
        self.change(channel, now, |member| {
            if member.told.is_none() {
                member.holds = holds;
            }
        })
    }

    /// Takes in which share is in force after a relay was told of one.
    pub fn answered(&mut self, channel: &ChannelRef, share: Share, now: Millis) -> Vec<ChannelRef> {
        self.change(channel, now, |member| {
            member.holds = Holds::Share(share);
            if member.told == Some(share) {
                (member.told, member.outstanding) = (None, 0);
            }
        })
    }

    fn change(&mut self, channel: &ChannelRef, now: Millis, change: impl FnOnce(&mut Member)) -> Vec<ChannelRef> {
        let Some(site) = self.of.get(channel).and_then(|name| self.sites.get_mut(name)) else { return Vec::new() };
        site.settle(now);
        let (before, unheard) = (site.held, site.unheard);
        site.change(channel, change);
        if site.held < before || site.unheard < unheard { site.who_may_grow() } else { Vec::new() }
    }

    /// What the channel's relay shall be told now; none: it has its part, or has to wait until
    /// others have given up theirs. From here on it counts as told.
    pub fn next(&mut self, channel: &ChannelRef, now: Millis) -> Option<CrmShare> {
        let name = self.of.get(channel)?;
        let site = self.sites.get_mut(name)?;
        site.settle(now);
        let share = site.next(channel)?;
        site.change(channel, |member| {
            member.told = Some(share);
            member.outstanding = member.outstanding.max(share.weight());
        });
        Some(CrmShare { site: name.clone(), share })
    }

    /// Whom there is something to tell.
    pub fn due(&mut self, now: Millis) -> Vec<ChannelRef> {
        let mut due = Vec::new();
        for site in self.sites.values_mut() {
            site.settle(now);
            due.extend(site.members.keys().filter(|channel| site.next(channel).is_some()).cloned());
        }
        due
    }
}

impl Site {
    fn who_may_grow(&self) -> Vec<ChannelRef> {
        let mut free = self.free();
        let mut may = Vec::new();
        for (channel, member) in &self.members {
            let grows = member.part.weight().saturating_sub(member.held());
            if grows > 0 && grows <= free && self.next(channel).is_some() {
                free -= grows;
                may.push(channel.clone());
            }
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SITE: &str = "https://acme.creatio.com";

    fn name(number: usize) -> ChannelRef {
        ChannelRef::new("crm", format!("channel-{number:03}"))
    }

    #[test]
    fn a_limit_is_divided_into_equal_parts_that_are_together_no_more() {
        let of = |requests, among| -> Vec<(u32, u32)> {
            (0..among)
                .map(|place| Share::of(requests, among, place))
                .map(|share| (share.requests, share.millis))
                .collect()
        };
        for (requests, among, expected) in [
            (20, 1, vec![(20, 1_000)]),
            (20, 3, vec![(7, 1_000), (7, 1_000), (6, 1_000)]),
            (20, 20, vec![(1, 1_000); 20]),
            (5, 20, vec![(1, 4_000); 20]),
            (1, 3, vec![(1, 3_000); 3]),
            (3, 7, vec![(1, 2_334); 7]),
        ] {
            assert_eq!(of(requests, among), expected, "{requests} a second among {among}");
        }
        assert!((Share::of(5, 20, 0).per_second() - 0.25).abs() < 1e-9);
    }

    /// Relays as they are: each obeys what it is told, later.
    #[derive(Debug, Default)]
    struct Played {
        shares: Shares,
        relays: BTreeMap<usize, Share>,
        /// On its way.
        sent: Vec<(usize, Share)>,
        limits: BTreeMap<usize, usize>,
        now: Millis,
    }

    impl Played {
        fn tell(&mut self) {
            for number in self.relays.keys().copied().collect::<Vec<_>>() {
                self.now += 1;
                self.shares.hear(&name(number), Holds::Share(self.relays[&number]), self.now);
                if let Some(told) = self.shares.next(&name(number), self.now) {
                    // One call at a time.
                    self.sent.retain(|(other, _)| *other != number);
                    self.sent.push((number, told.share));
                }
            }
        }

        fn arrive(&mut self, count: usize, answers: bool) {
            for (number, share) in self.sent.drain(..count.min(self.sent.len())).collect::<Vec<_>>() {
                let Some(held) = self.relays.get_mut(&number) else { continue };
                *held = share;
                if answers {
                    self.shares.answered(&name(number), share, self.now);
                }
            }
        }

        fn sum(&self) -> f64 {
            let told = self.relays.values().filter(|share| **share != Share::UNTOLD);
            told.map(|share| share.per_second()).sum()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// However channels come and go and answers are late, the sum never exceeds the lowest
        /// limit that was named since the relays last agreed, nobody is left with nothing, and in
        /// the end each has its part.
        #[test]
        fn the_shares_of_all_relays_are_never_more_than_the_limit(
            steps in prop::collection::vec((0_usize..5, 0_usize..30, 0_usize..6), 1..120),
            limit in 1_u32..40,
        ) {
            let mut played = Played::default();
            let (limit, most) = (usize::try_from(limit).unwrap(), f64::from(limit) + 1e-6);
            for (kind, number, count) in steps {
                match kind {
                    0 | 1 => {
                        let is_new = played.shares.put(&name(number), (SITE, limit), Holds::Nothing, played.now);
                        if is_new {
                            played.relays.insert(number, Share::UNTOLD);
                            played.limits.insert(number, limit);
                        }
                    }
                    2 => {
                        if played.shares.remove(&name(number), played.now) {
                            // Its pod is gone within the time.
                            played.now += GONE / 2;
                            played.relays.remove(&number);
                            played.sent.retain(|(other, _)| *other != number);
                        }
                    }
                    3 => played.tell(),
                    // Some answers are lost on the way.
                    _ => played.arrive(count, number % 3 > 0),
                }
                prop_assert!(played.sum() <= most, "{} of {limit}: {:?}", played.sum(), played.relays);
            }
            // Quiet: all is told and heard.
            for _ in 0..6 {
                played.now += GONE;
                played.tell();
                played.arrive(usize::MAX, true);
                prop_assert!(played.sum() <= most);
            }
            played.tell();
            prop_assert!(played.sent.is_empty(), "in the steady state nobody is told anything: {:?}", played.sent);
            let among = played.relays.len();
            for (place, share) in played.relays.values().enumerate() {
                prop_assert_eq!(*share, Share::of(limit, among, place));
            }
        }
    }

    #[test]
    fn a_newcomer_waits_until_the_others_have_given_up_what_it_gets() {
        let mut shares = Shares::default();
        let told = |share: Option<CrmShare>| share.map(|told| told.share);
        assert!(shares.put(&name(0), (SITE, 20), Holds::Nothing, 0));
        assert_eq!(told(shares.next(&name(0), 0)), None, "there is no relay to tell");
        shares.hear(&name(0), Holds::Share(Share::UNTOLD), 0);
        let whole = Share { requests: 20, millis: 1_000 };
        assert_eq!(told(shares.next(&name(0), 0)), Some(whole));
        shares.answered(&name(0), whole, 0);
        // Another channel names less, which counts for both.
        assert!(shares.put(&name(1), (SITE, 10), Holds::Nothing, 0));
        shares.hear(&name(1), Holds::Share(Share::UNTOLD), 0);
        assert_eq!(told(shares.next(&name(1), 0)), None, "all is held");
        let half = Share { requests: 5, millis: 1_000 };
        assert_eq!(told(shares.next(&name(0), 0)), Some(half));
        assert_eq!(told(shares.next(&name(1), 0)), None, "it is told and not given up");
        shares.hear(&name(0), Holds::Share(half), 0);
        assert_eq!(told(shares.next(&name(1), 0)), None, "it may have said so before it was told");
        assert_eq!(shares.answered(&name(0), half, 0), [name(1)]);
        assert_eq!(told(shares.next(&name(1), 0)), Some(half));
        // One of another CRM has nothing to do with them.
        shares.put(&name(2), ("https://b.ru", 3), Holds::Nothing, 0);
        shares.hear(&name(2), Holds::Share(Share::UNTOLD), 0);
        assert_eq!(told(shares.next(&name(2), 0)), Some(Share { requests: 3, millis: 1_000 }));
    }

    #[test]
    fn a_new_process_gives_nobody_more_before_it_has_heard_all_or_waited_long_enough() {
        let mut shares = Shares::default();
        for number in 0..3 {
            shares.put(&name(number), (SITE, 6), Holds::Unheard, 0);
        }
        let two = Share { requests: 2, millis: 1_000 };
        let one = Share { requests: 1, millis: 1_000 };
        shares.hear(&name(0), Holds::Share(one), 0);
        assert_eq!(shares.next(&name(0), 1), None, "the others may hold the rest");
        shares.hear(&name(1), Holds::Share(two), 1);
        assert!(shares.next(&name(1), 1).is_none(), "it has its part");
        assert!(shares.next(&name(0), SILENCE - 1).is_none());
        assert_eq!(
            shares.next(&name(0), SILENCE).map(|told| told.share),
            Some(two),
            "the third is taken to hold its part"
        );
    }

    #[test]
    fn a_relay_of_an_older_version_keeps_nobody_from_a_part() {
        let mut shares = Shares::default();
        for number in 0..2 {
            shares.put(&name(number), (SITE, 6), Holds::Nothing, 0);
        }
        shares.hear(&name(0), Holds::Older, 0);
        shares.hear(&name(1), Holds::Share(Share::UNTOLD), 0);
        assert_eq!(shares.next(&name(0), 0), None);
        assert_eq!(shares.next(&name(1), 0).map(|told| told.share), Some(Share { requests: 3, millis: 1_000 }));
    }

    #[test]
    fn what_is_freed_by_a_channel_that_is_gone_is_given_when_its_pod_is_gone_too() {
        let mut shares = Shares::default();
        let (whole, half) = (Share { requests: 6, millis: 1_000 }, Share { requests: 3, millis: 1_000 });
        for number in 0..2 {
            shares.put(&name(number), (SITE, 6), Holds::Nothing, 0);
            shares.hear(&name(number), Holds::Share(half), 0);
        }
        assert!(shares.remove(&name(1), 0) && !shares.knows(&name(1)));
        assert_eq!(shares.next(&name(0), GONE - 1), None);
        // It comes back, and is told at once of what it had.
        shares.put(&name(1), (SITE, 6), Holds::Nothing, 1);
        shares.hear(&name(1), Holds::Share(Share::UNTOLD), 1);
        assert_eq!(shares.next(&name(0), 1), None);
        assert_eq!(shares.next(&name(1), 1).map(|told| told.share), Some(half));
        assert!(shares.remove(&name(1), 0));
        assert_eq!(shares.due(GONE), [name(0)]);
        assert_eq!(shares.next(&name(0), GONE).map(|told| told.share), Some(whole));
    }
}
