//! The end of a channel: what is taken away outside, and what could not be seen there.

use std::sync::Arc;

use super::work::side_of;
use super::{Clock, Done, May, Reconciler, Side};
use crate::channel::observe;
use crate::channel::plan::{self, Action};
use crate::channel::subscription::{self, Whose};

impl Reconciler {
    /// Takes our subscriptions away and nothing else, so that what is under way can be brought to
    /// its end before [`Reconciler::remove`].
    pub async fn leave_intake(&mut self, clock: Clock<'_>) -> Vec<Done> {
        let actions = match &self.desired {
            Some(desired) => plan::removal(desired, &self.observation, self.bot.as_ref()),
            None => Vec::new(),
        };
        self.carry_out(actions.into_iter().filter(Action::is_intake).collect(), clock).await
    }

    /// Takes the channel's objects outside away. Looks at the rows first: meanwhile another
    /// installation may have taken them over.
    pub async fn remove(&mut self, clock: Clock<'_>) -> Vec<Done> {
        if let (Some(Ok(crm)), Some(source)) = (self.crm_client(), self.source())
            && let Some(view) = &mut self.observation.crm.seen
            && view.rows.is_some()
        {
            match observe::rows(&crm, &source).await {
                Ok(rows) => view.rows = Some(rows),
                Err(error) => {
                    let basis = self.observation.crm.basis.clone();
                    self.observation.crm.take(&basis, clock(), Err(observe::crm_failure(&error)));
                    return self.leave_intake(clock).await;
                }
            }
        }
        let actions = match &self.desired {
            Some(desired) => plan::removal(desired, &self.observation, self.bot.as_ref()),
            None => Vec::new(),
        };
        self.carry_out(actions, clock).await
    }

    /// What could not be looked at, so that something of ours may be there unseen: one sentence
    /// each.
    #[must_use]
    pub fn unseen(&self) -> Vec<String> {
        let Some(desired) = &self.desired else { return self.problems.clone() };
        let mut unseen = Vec::new();
        match &desired.token {
            Err(unusable) => unseen.push(unusable.sentence().to_owned()),
            Ok(_) if self.observation.subscriptions.current(desired.token_fingerprint()).is_none() => {
                let failure = self.observation.bot.failure.as_ref().or(self.observation.subscriptions.failure.as_ref());
                let why = failure.map_or("the bot is not this channel's", |failure| failure.detail.as_str());
                unseen.push(format!("the subscriptions in MAX cannot be looked at: {why}"));
            }
            Ok(_) => {}
        }
        match &desired.crm_access {
            Err(unusable) => unseen.push(unusable.sentence().to_owned()),
            Ok(_) if self.observation.crm.failure.is_some() || self.observation.crm.seen.is_none() => {
                let failure = self.observation.crm.failure.as_ref();
                let why = failure.map_or("another channel stands in the way", |failure| failure.detail.as_str());
                unseen.push(format!("the rows in the CRM cannot be looked at: {why}"));
            }
            Ok(_) => {}
        }
        unseen
    }

    /// What stands outside and another installation or channel has made, which is left to it: one
    /// sentence each.
    #[must_use]
    pub fn of_others(&self) -> Vec<String> {
        let Some(desired) = &self.desired else { return Vec::new() };
        let mut found = Vec::new();
        let remedy = "stays: if that is this channel under its former controller, give that one's --installation-id; \
                      if another serves it now, there is nothing to do";
        if let Some(owner) = plan::marked_elsewhere(desired, &self.observation) {
            found.push(format!("the channel in the CRM belongs to {owner} and {remedy}"));
        }
        for (seen, whose) in plan::subscriptions(desired, &self.observation) {
            let holder = subscription::holder(&seen.url).filter(|_| whose == Whose::Elsewhere);
            if let Some(holder) = holder {
                let address = subscription::shown(&seen.url);
                found.push(format!("the subscription in MAX {address} belongs to {holder} and {remedy}"));
            }
        }
        found
    }

    async fn carry_out(&mut self, actions: Vec<Action>, clock: Clock<'_>) -> Vec<Done> {
        let may: May = Arc::new(|| true);
        let mut done = Vec::new();
        for side in [Side::Max, Side::Crm] {
            let of_side: Vec<Action> = actions.iter().filter(|action| side_of(action) == side).cloned().collect();
            if of_side.is_empty() {
                continue;
            }
            if let Some(errand) = self.change(side, of_side, &may) {
                let brought = errand.run().await;
                done.extend(self.take(brought, clock()).done);
            }
        }
        done
    }
}
