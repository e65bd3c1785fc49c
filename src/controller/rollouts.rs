//! A changed relay comes to a few channels at a time, and no further once one of them does not come
//! up.
//!
//! Counted is what was written, not what a watch shows that may be late: a relay is away from the
//! moment of the write until the StatefulSet as written, by its generation, has the new pod ready.
//! Those that an earlier process has begun show by their StatefulSets.
//!
//! A relay that does not run takes its turn like the others where another image is tried on it, for
//! that may be worse than what it has; those that do not run are asked first. Anything else that is
//! changed of it goes at once: nothing is lost by it, and it may be what mends it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tokio::time::Instant;

use crate::api::ChannelRef;

/// A relay that takes longer has not come up.
const PATIENCE: Duration = Duration::from_mins(3);

/// How many relays may be replaced at once: a number, or a share of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parallelism {
    Number(usize),
    Percent(usize),
}

impl Default for Parallelism {
    fn default() -> Self {
        Self::Number(1)
    }
}

impl Parallelism {
    fn of(self, all: usize) -> usize {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => all * percent / 100,
        }
        .max(1)
    }
}

impl fmt::Display for Parallelism {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Percent(percent) => write!(formatter, "{percent}%"),
        }
    }
}

impl FromStr for Parallelism {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, most) = match text.trim().strip_suffix('%') {
            Some(percent) => (percent, 100),
            None => (text.trim(), 10_000),
        };
        let number: usize = number
            .parse()
            .ok()
            .filter(|number| (1..=most).contains(number))
            .ok_or_else(|| format!("{text:?} is no number of relays: give 1 to 10000, or a share such as 10%"))?;
        Ok(if most == 100 { Self::Percent(number) } else { Self::Number(number) })
    }
}

/// Whether a relay may be replaced now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    Go,
    /// Others are being replaced: who.
    Wait(String),
    /// One did not come up: which, and why.
    Halted(String),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Rollouts {
    parallelism: Parallelism,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    away: BTreeMap<ChannelRef, Away>,
    /// And whether each runs.
    waiting: BTreeMap<ChannelRef, bool>,
}

#[derive(Debug)]
struct Away {
    since: Instant,
    /// Of the StatefulSet, as the server answered the write.
    generation: Option<i64>,
    failed: Option<String>,
    /// It did not come up, and something else is tried now.
    is_tried_again: bool,
}

impl Away {
    fn new(generation: Option<i64>) -> Self {
        Self { since: Instant::now(), generation, failed: None, is_tried_again: false }
    }
}

/// What became of a relay that was being replaced.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    pub came_up: bool,
    /// It has just turned out not to come up.
    pub failed: Option<String>,
    /// Whose turn it may be now.
    pub next: Vec<ChannelRef>,
}

impl Rollouts {
    pub fn new(parallelism: Parallelism) -> Self {
        Self { parallelism, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this channel's relay, which runs or not, may be replaced now. `unfinished` are those
    /// whose StatefulSets say that they are not done.
    pub fn may_begin(&self, channel: &ChannelRef, is_running: bool, all: usize, unfinished: &[ChannelRef]) -> Turn {
        let mut state = self.state();
        let places = self.parallelism.of(all);
        if let Some(own) = state.away.get(channel) {
            // What mends one that did not come up is let through, as many at once as ever.
            let tried = state.away.values().filter(|away| away.failed.is_none() || away.is_tried_again).count();
            if own.failed.is_none() || own.is_tried_again || tried < places {
                if let Some(own) = state.away.get_mut(channel) {
                    own.is_tried_again = own.failed.is_some();
                }
                return Turn::Go;
            }
        }
        let turn =
            if let Some((who, why)) = state.away.iter().find_map(|(who, away)| Some((who, away.failed.as_ref()?))) {
                Turn::Halted(format!("{who}: {why}"))
            } else {
                let mut away: BTreeSet<&ChannelRef> = state.away.keys().collect();
                away.extend(unfinished.iter().filter(|other| *other != channel));
                let names: Vec<String> = away.iter().take(3).map(ToString::to_string).collect();
                if away.len() < places { Turn::Go } else { Turn::Wait(names.join(", ")) }
            };
        if turn == Turn::Go {
            state.waiting.remove(channel);
            state.away.insert(channel.clone(), Away::new(None));
        } else {
            state.waiting.insert(channel.clone(), is_running);
        }
        turn
    }

    /// The StatefulSet was written, be it because another of its name was deleted meanwhile.
    pub fn written(&self, channel: &ChannelRef, generation: Option<i64>) {
        let mut state = self.state();
        state.waiting.remove(channel);
        if let Some(away) = state.away.get_mut(channel) {
            away.generation = generation;
        }
    }

    /// There was nothing to write: the StatefulSet is as it shall be, whatever was going to be
    /// changed when its turn came.
    pub fn unchanged(&self, channel: &ChannelRef, generation: Option<i64>) {
        let mut state = self.state();
        state.waiting.remove(channel);
        if let Some(away) = state.away.get_mut(channel) {
            away.generation = away.generation.or(generation);
        }
    }

    /// Whether the relay is being replaced, by what this process knows.
    pub fn is_away(&self, channel: &ChannelRef) -> bool {
        self.state().away.contains_key(channel)
    }

    /// Takes in how it stands with a relay: what the watch has of its StatefulSet, and why it
    /// cannot run, if it says so.
    pub fn observe(&self, channel: &ChannelRef, found: Option<&StatefulSet>, failing: Option<&str>) -> News {
        let mut state = self.state();
        let mut news = News::default();
        if let Some(set) = found
            && failing.is_some()
            && is_unfinished(set)
        {
            // Begun by an earlier process.
            state.away.entry(channel.clone()).or_insert(Away::new(set.metadata.generation));
        }
        let Some(away) = state.away.get_mut(channel) else { return news };
        let is_as_written = |set: &StatefulSet| away.generation.is_some() && set.metadata.generation >= away.generation;
        if found.is_some_and(|set| is_as_written(set) && is_rolled_out(set)) {
            news.came_up = true;
            news.next = self.release(&mut state, channel);
            return news;
        }
        // What the pod before the change says of itself is no word about the change.
        let failing = failing.filter(|_| found.is_none_or(|set| is_as_written(set) && is_seen(set)));
        let late = (away.since.elapsed() > PATIENCE).then_some("it is not ready in time");
        if let (Some(why), None) = (failing.or(late), &away.failed) {
            away.failed = Some(why.to_owned());
            news.failed = Some(why.to_owned());
        }
        news
    }

    /// There is no relay any more, it is going, or its change was refused: it holds nobody up.
    pub fn ended(&self, channel: &ChannelRef) -> Vec<ChannelRef> {
        let mut state = self.state();
        state.waiting.remove(channel);
        if state.away.contains_key(channel) { self.release(&mut state, channel) } else { Vec::new() }
    }

    fn release(&self, state: &mut State, channel: &ChannelRef) -> Vec<ChannelRef> {
        state.away.remove(channel);
        let mut next: Vec<(&ChannelRef, bool)> = state.waiting.iter().map(|(who, runs)| (who, *runs)).collect();
        next.sort_by_key(|(_, is_running)| *is_running);
        // More than may begin are asked, since some may be gone meanwhile.
        next.into_iter().take(self.parallelism.of(state.waiting.len()) + 1).map(|(who, _)| who.clone()).collect()
    }

    /// All that are being replaced, wait for that, or did not come up.
    pub fn all(&self) -> Vec<ChannelRef> {
        let state = self.state();
        state.away.keys().chain(state.waiting.keys()).cloned().collect()
    }

    /// How many are being replaced, wait, and did not come up.
    pub fn counts(&self) -> [(&'static str, usize); 3] {
        let state = self.state();
        let failed = state.away.values().filter(|away| away.failed.is_some()).count();
        [("replacing", state.away.len() - failed), ("waiting", state.waiting.len()), ("failed", failed)]
    }
}

/// Whether the newest template is in force, and its pod ready.
fn is_rolled_out(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    is_seen(set) && status.ready_replicas.unwrap_or(0) >= 1 && status.update_revision == status.current_revision
}

/// Whether the StatefulSet's own controller has seen its newest template.
fn is_seen(set: &StatefulSet) -> bool {
    set.status.as_ref().is_some_and(|status| status.observed_generation >= set.metadata.generation)
}

/// Whether the pod is made from the newest template, and so what it says is about the change.
pub fn is_newest(set: &StatefulSet, pod: &Pod) -> bool {
    let newest = set.status.as_ref().and_then(|status| status.update_revision.as_ref());
    newest.is_none_or(|newest| pod.labels().get("controller-revision-hash").is_none_or(|of| of == newest))
}

/// Whether another image is wanted than the StatefulSet has.
pub fn has_another_image(found: &StatefulSet, wanted: &StatefulSet) -> bool {
    images(found) != images(wanted)
}

fn images(set: &StatefulSet) -> Vec<Option<&str>> {
    let pod = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    pod.into_iter().flat_map(|pod| &pod.containers).map(|container| container.image.as_deref()).collect()
}

/// Leaves the image that the StatefulSet has.
pub fn keep_image(wanted: &mut StatefulSet, found: &StatefulSet) {
    let image = images(found).first().copied().flatten().map(str::to_owned);
    let pod = wanted.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    if let Some(container) = pod.and_then(|pod| pod.containers.first_mut()) {
        container.image = image;
    }
}

/// Whether a pod of a newer template has not come up yet.
pub fn is_unfinished(set: &StatefulSet) -> bool {
    set.status.as_ref().is_some_and(|status| status.update_revision != status.current_revision)
}

/// Whose these StatefulSets are, by their namespaces and names.
pub fn channels_of(sets: impl IntoIterator<Item = (String, String)>, suffix: &str) -> Vec<ChannelRef> {
    let of = |(namespace, name): (String, String)| Some(ChannelRef::new(namespace, name.strip_suffix(suffix)?));
    sets.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn channel(name: &str) -> ChannelRef {
        ChannelRef::new("n", name)
    }

    fn set(generation: i64, observed: i64, ready: i32, is_done: bool) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "a-relay", "namespace": "n", "generation": generation},
            "status": {"observedGeneration": observed, "replicas": 1, "readyReplicas": ready,
                "currentRevision": if is_done { "new" } else { "old" }, "updateRevision": "new"}}))
        .unwrap()
    }

    #[test]
    fn what_was_written_counts_however_late_the_watch_is() {
        let rollouts = Rollouts::default();
        let (a, b) = (channel("a"), channel("b"));
        assert_eq!(rollouts.may_begin(&a, true, 3, &[]), Turn::Go);
        // The watch still has the StatefulSet from before the write, which is done and ready.
        assert_eq!(rollouts.observe(&a, Some(&set(1, 1, 1, true)), None), News::default());
        rollouts.written(&a, Some(2));
        for late in [set(1, 1, 1, true), set(2, 1, 1, true), set(2, 2, 1, false), set(2, 2, 0, true)] {
            assert_eq!(rollouts.observe(&a, Some(&late), None), News::default());
            assert_eq!(rollouts.may_begin(&b, true, 3, &[]), Turn::Wait("n/a".to_owned()));
        }
        let news = rollouts.observe(&a, Some(&set(2, 2, 1, true)), None);
        assert_eq!((news.came_up, news.next), (true, vec![b.clone()]));
        assert_eq!(rollouts.may_begin(&b, true, 3, &[]), Turn::Go);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_come_up_halts_the_rest_for_as_long_as_it_is_so() {
        let (a, b, c) = (channel("a"), channel("b"), channel("c"));
        for failing in [Some("the image cannot be pulled"), None] {
            let rollouts = Rollouts::new(Parallelism::Number(2));
            assert_eq!(rollouts.may_begin(&a, true, 3, &[]), Turn::Go);
            rollouts.written(&a, Some(2));
            if failing.is_none() {
                tokio::time::advance(PATIENCE + Duration::from_secs(1)).await;
            }
            let why = rollouts.observe(&a, Some(&set(2, 2, 0, false)), failing).failed.unwrap();
            assert_eq!(rollouts.observe(&a, Some(&set(2, 2, 0, false)), failing).failed, None, "told once");
            tokio::time::advance(Duration::from_hours(10)).await;
            for other in [&b, &c] {
                assert_eq!(rollouts.may_begin(other, true, 3, &[]), Turn::Halted(format!("n/a: {why}")));
            }
            assert_eq!(rollouts.may_begin(&a, true, 3, &[]), Turn::Go, "what mends it is let through");
            rollouts.written(&a, Some(3));
            assert_eq!(rollouts.observe(&a, Some(&set(3, 3, 1, true)), None).next, [b.clone(), c.clone()]);
            assert_eq!(rollouts.may_begin(&b, true, 3, &[]), Turn::Go);
            assert_eq!(rollouts.may_begin(&c, true, 3, &[]), Turn::Go);
        }
    }

    /// A fleet of which no relay runs, onto which a new image comes: three times, worse each time
    /// but the last.
    #[tokio::test(start_paused = true)]
    async fn those_that_do_not_run_take_their_turns_and_are_asked_first() {
        let (a, b, c, d) = (channel("a"), channel("b"), channel("c"), channel("d"));
        let rollouts = Rollouts::default();
        assert_eq!(rollouts.may_begin(&c, false, 4, &[]), Turn::Go);
        // What the pod that is going says of itself counts for nothing, before and after the write.
        let crashes = Some("it crashes");
        assert_eq!(rollouts.observe(&c, Some(&set(1, 1, 0, true)), crashes), News::default());
        rollouts.written(&c, Some(2));
        assert_eq!(rollouts.observe(&c, Some(&set(1, 1, 0, true)), crashes), News::default());
        assert_eq!(rollouts.observe(&c, Some(&set(2, 1, 0, true)), crashes), News::default());
        for (other, is_running) in [(&a, true), (&b, false), (&d, false)] {
            assert_eq!(rollouts.may_begin(other, is_running, 4, &[]), Turn::Wait("n/c".to_owned()));
        }
        assert!(rollouts.observe(&c, Some(&set(2, 2, 0, false)), crashes).failed.is_some());
        for other in [&b, &d] {
            assert_eq!(rollouts.may_begin(other, false, 4, &[]), Turn::Halted("n/c: it crashes".to_owned()));
        }
        assert_eq!(rollouts.may_begin(&c, false, 4, &[]), Turn::Go, "another try");
        rollouts.written(&c, Some(3));
        assert_eq!(rollouts.may_begin(&b, false, 4, &[]), Turn::Halted("n/c: it crashes".to_owned()));
        assert_eq!(rollouts.observe(&c, Some(&set(3, 3, 1, true)), None).next, [b.clone(), d.clone()]);
        assert_eq!(rollouts.may_begin(&b, false, 4, &[]), Turn::Go);
        assert_eq!(rollouts.may_begin(&d, false, 4, &[]), Turn::Wait("n/b".to_owned()));
    }

    #[test]
    fn of_many_that_did_not_come_up_as_many_are_tried_again_as_may_change_at_once() {
        let rollouts = Rollouts::default();
        let (a, b) = (channel("a"), channel("b"));
        // An earlier process has left both so.
        for one in [&a, &b] {
            assert!(rollouts.observe(one, Some(&set(2, 2, 0, false)), Some("it crashes")).failed.is_some());
        }
        assert_eq!(rollouts.may_begin(&b, false, 2, &[]), Turn::Go);
        rollouts.written(&b, Some(3));
        assert_eq!(rollouts.may_begin(&b, false, 2, &[]), Turn::Go, "and again, until it comes up");
        assert_eq!(rollouts.may_begin(&a, false, 2, &[]), Turn::Halted("n/a: it crashes".to_owned()));
        assert_eq!(rollouts.observe(&b, Some(&set(3, 3, 1, true)), None).next, std::slice::from_ref(&a));
        assert_eq!(rollouts.may_begin(&a, false, 2, &[]), Turn::Go);
    }

    #[test]
    fn those_begun_by_an_earlier_process_count_too() {
        let rollouts = Rollouts::default();
        let sets = [set(2, 2, 0, false), set(2, 2, 1, true)];
        let named = sets.iter().filter(|set| is_unfinished(set));
        let named = named.map(|set| (set.namespace().unwrap_or_default(), set.name_any()));
        let begun = channels_of(named, "-relay");
        assert_eq!(begun, [channel("a")]);
        assert_eq!(rollouts.may_begin(&channel("b"), true, 3, &begun), Turn::Wait("n/a".to_owned()));
        assert!(rollouts.observe(&channel("a"), Some(&sets[0]), Some("it crashes")).failed.is_some());
        assert_eq!(rollouts.may_begin(&channel("b"), true, 3, &begun), Turn::Halted("n/a: it crashes".to_owned()));
        assert_eq!(rollouts.ended(&channel("a")), [channel("b")], "a channel that is gone holds nobody up");
    }

    #[tokio::test(start_paused = true)]
    async fn one_whose_change_never_came_to_be_holds_nobody_up() {
        let (a, b) = (channel("a"), channel("b"));
        // It was taken back before it was written; or the StatefulSet was deleted and made again.
        for (is_written, found) in [(false, set(4, 4, 1, true)), (true, set(1, 1, 1, true))] {
            let rollouts = Rollouts::default();
            assert_eq!(rollouts.may_begin(&a, true, 2, &[]), Turn::Go);
            if is_written {
                rollouts.written(&a, Some(5));
                assert_eq!(rollouts.may_begin(&b, true, 2, &[]), Turn::Wait("n/a".to_owned()));
                rollouts.written(&a, Some(1));
            } else {
                rollouts.unchanged(&a, Some(4));
            }
            assert!(rollouts.observe(&a, Some(&found), None).came_up);
            assert_eq!(rollouts.may_begin(&b, true, 2, &[]), Turn::Go);
        }
        // The server refused it.
        let rollouts = Rollouts::default();
        assert_eq!(rollouts.may_begin(&a, true, 2, &[]), Turn::Go);
        assert_eq!(rollouts.may_begin(&b, true, 2, &[]), Turn::Wait("n/a".to_owned()));
        assert_eq!(rollouts.ended(&a), std::slice::from_ref(&b));
        tokio::time::advance(PATIENCE * 2).await;
        assert_eq!(rollouts.observe(&a, Some(&set(4, 4, 1, true)), None), News::default());
        assert_eq!(rollouts.may_begin(&b, true, 2, &[]), Turn::Go);
    }

    #[test]
    fn a_share_is_a_share_of_all_and_never_nobody() {
        for (text, all, number) in [("1", 100, 1), ("7", 100, 7), ("10%", 100, 10), ("10%", 3, 1), ("100%", 5, 5)] {
            let parallelism: Parallelism = text.parse().unwrap();
            assert_eq!((parallelism.of(all), parallelism.to_string()), (number, text.to_owned()));
        }
        for text in ["0", "0%", "101%", "-1", "", "half", "1.5"] {
            assert!(text.parse::<Parallelism>().is_err(), "{text}");
        }
    }
}
