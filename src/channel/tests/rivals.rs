//! Two new installations with the same manifest, whose probes and changes meet in any order:
//! exactly one of them goes on.

use super::*;
use crate::channel::plan::{marked_elsewhere, other_address, other_owner};

/// One installation: what it has seen, and the changes that it has planned and not made yet.
struct Rival {
    desired: Desired,
    seen: Observation,
    planned: Vec<Action>,
}

impl Rival {
    fn new(id: &str, polls: bool) -> Self {
        let intake = if polls { json!({"longPoll": {}}) } else { Value::Null };
        let manifest = manifest(|value| {
            if polls {
                value["spec"]["intake"] = intake;
            }
        });
        let given = Installation { id: InstallationId::of(id), ..installation() };
        let desired = validate(&manifest, &secrets(), &given).unwrap();
        let mut seen = fresh(&desired);
        // Nothing is looked at yet.
        seen.subscriptions = Observed::default();
        seen.crm.seen.as_mut().unwrap().rows = None;
        Self { desired, seen, planned: Vec::new() }
    }

    fn looks_at_max(&mut self, world: &Observation) {
        let token = self.desired.token_fingerprint();
        self.seen.subscriptions.take(token, NOW, Ok(world.subscriptions.seen.clone().unwrap()));
    }

    fn looks_at_crm(&mut self, world: &Observation) {
        self.seen.crm.seen.as_mut().unwrap().rows.clone_from(&world.crm.seen.as_ref().unwrap().rows);
    }

    /// As the reconciler of a channel decides what may be done: the marks first, and nobody is
    /// called before they have been seen.
    fn plans(&mut self, at_max: bool) {
        let planned = plan::plan(&self.desired, &self.seen, Some(&bot()));
        let mark_is_due = planned.iter().any(|action| !action.is_intake());
        let has_seen_marks = self.seen.crm.seen.as_ref().unwrap().rows.is_some();
        let is_ours = has_seen_marks
            && marked_elsewhere(&self.desired, &self.seen).is_none()
            && other_address(&self.desired, &self.seen).is_none();
        let may = |action: &Action| match action {
            Action::Subscribe { .. } => is_ours && !mark_is_due,
            _ => !at_max || !mark_is_due,
        };
        self.planned = planned.into_iter().filter(|action| action.is_intake() == at_max && may(action)).collect();
    }

    /// Makes the changes in their order up to the first that fails, and probes again what was
    /// changed.
    fn acts(&mut self, world: &mut Observation) {
        for action in std::mem::take(&mut self.planned) {
            let rows = world.crm.seen.as_ref().unwrap().rows.as_ref().unwrap();
            let is_there = match &action {
                Action::Create { collection: "MaxChannelSettings", .. } => rows.settings.is_some(),
                Action::Create { collection: "Channel", .. } => rows.channel.is_some(),
                Action::Create { collection: "ChatQueue", .. } => rows.queue.is_some(),
                Action::Create { id, .. } => rows.agents.iter().any(|row| row.id == *id),
                _ => false,
            };
            if is_there {
                break;
            }
            let at_max = action.is_intake();
            *world = applied(world.clone(), &[action]);
            if at_max {
                self.looks_at_max(world);
            } else {
                self.looks_at_crm(world);
            }
        }
    }

    fn stands_back(&self) -> bool {
        other_owner(&self.desired, &self.seen).is_some() || other_address(&self.desired, &self.seen).is_some()
    }
}

#[test]
fn of_two_new_installations_exactly_one_goes_on_even_if_both_subscribed_in_the_same_millisecond() {
    let mut dice = 1_u64;
    let mut throw = |end: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % end
    };
    let mut won = [0; 2];
    for schedule in 0..1_000 {
        let polls = schedule % 5 == 0;
        let mut rivals = [Rival::new("blue", polls), Rival::new("green", polls)];
        let mut world = fresh(&rivals[0].desired);
        let mut told = Vec::new();
        let mut step = |rivals: &mut [Rival; 2], world: &mut Observation, who: usize, what: u64| {
            told.push((who, what));
            match what {
                0 => rivals[who].looks_at_max(world),
                1 => rivals[who].looks_at_crm(world),
                2 => rivals[who].plans(false),
                3 => rivals[who].plans(true),
                _ => rivals[who].acts(world),
            }
        };
        for _ in 0..throw(30) {
            let (who, what) = (usize::try_from(throw(2)).unwrap(), throw(6));
            step(&mut rivals, &mut world, who, what);
        }
        // Each goes on as it does for ever, in either order.
        for _ in 0..8 {
            let first = usize::try_from(throw(2)).unwrap();
            for who in [first, 1 - first] {
                for what in [4, 0, 1, 2, 4, 0, 1, 3, 4] {
                    step(&mut rivals, &mut world, who, what);
                }
            }
        }
        let back = [rivals[0].stands_back(), rivals[1].stands_back()];
        assert!(back[0] != back[1], "schedule {schedule} ends with {back:?} after {told:?}");
        let winner = usize::from(back[0]);
        won[winner] += 1;
        let owner = plan::mark(&world).unwrap();
        assert_eq!(owner, rivals[winner].desired.mark(), "schedule {schedule}");
        let called = world.subscriptions.seen.as_ref().unwrap();
        assert_eq!(called.len(), usize::from(!polls), "schedule {schedule}: {called:?}");
    }
    assert!(won.iter().all(|times| *times > 100), "whoever it is: {won:?}");
}
