//! One pass over a channel: the order of its steps, written once for every shell.
//!
//! The controller, the local runner and the commands that only observe bring a [`Shell`] each: what
//! a step means there. What the order promises:
//!
//! - A relay whose bot is remembered is served before anybody outside is asked.
//! - Whatever comes back from outside and says anything new counts at once: who else holds the bot
//!   and what the relay shall be are judged anew before the next errand is sent.
//! - The CRM goes before MAX, because the mark in it says whose the bot is.
//! - An address is subscribed only after the relay listens under it.
//! - A side that hangs delays nobody: what has not come back is for a later pass.
//! - The status is told once, at the end, of everything that was found.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::errands::Errands;
use super::reconciler::{Brought, Clock, Reconciler, Side};

/// How long a pass waits for what it has sent outside. Most of it is back by then, and one pass
/// tells all of it.
pub const MOMENT: Duration = Duration::from_millis(250);

/// What the steps of a pass mean for whoever runs it.
pub trait Shell: Send {
    /// Why a pass ends before its end.
    type Error;
    /// What comes back from outside.
    type Brought;

    /// Says among the other channels what this one asks for, and learns who stands in its way.
    fn claim(&mut self) -> impl Future<Output = ()> + Send;

    /// Brings the relay to what it shall be, and learns how it stands.
    ///
    /// # Errors
    /// The pass cannot go on; another one comes.
    fn serve(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Sends on its way what is due at a side; false: nothing is, or something is under way there.
    fn send(&mut self, side: Side) -> bool;

    /// What has come back; it is waited for if `is_awaited`. None: nothing more in this pass.
    fn next(&mut self, is_awaited: bool) -> impl Future<Output = Option<Self::Brought>> + Send;

    /// Takes in what has come back; whether anything is not as it was before.
    fn take(&mut self, brought: Self::Brought) -> bool;

    /// Tells how the channel stands.
    ///
    /// # Errors
    /// It could not be told; another pass comes.
    fn report(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// One pass.
///
/// # Errors
/// Those of the shell; what is under way outside goes on.
pub async fn pass<S: Shell>(shell: &mut S) -> Result<(), S::Error> {
    shell.claim().await;
    shell.serve().await?;
    let mut is_sent = false;
    loop {
        for side in [Side::Crm, Side::Mango, Side::Max] {
            is_sent |= shell.send(side);
        }
        // What an earlier pass has sent and waited for already is not waited for again.
        let Some(brought) = shell.next(is_sent).await else { break };
        if shell.take(brought) {
            shell.claim().await;
            shell.serve().await?;
        }
    }
    shell.report().await
}

/// Looks at everything that is due, waits for all of it and changes nothing.
pub async fn observe(reconciler: &mut Reconciler, clock: Clock<'_>) {
    let mut shell = Observer { reconciler, clock, errands: Errands::new(std::sync::Arc::default()) };
    let Ok(()) = pass(&mut shell).await;
}

/// The shell of whoever only observes.
struct Observer<'a> {
    reconciler: &'a mut Reconciler,
    clock: Clock<'a>,
    errands: Errands,
}

impl Shell for Observer<'_> {
    type Error = Infallible;
    type Brought = Brought;

    async fn claim(&mut self) {}

    async fn serve(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn send(&mut self, side: Side) -> bool {
        let now = (self.clock)();
        // What is looked at in the CRM depends on the bot.
        let is_max_due = self.reconciler.due_at(|side| side == Side::Max).is_some_and(|due| due <= now);
        if side != Side::Max && (is_max_due || self.errands.is_busy(Side::Max)) {
            return false;
        }
        self.errands.observe(self.reconciler, side, now)
    }

    async fn next(&mut self, _: bool) -> Option<Brought> {
        // Every errand ends within a bounded time.
        self.errands.next(Instant::now() + Duration::from_hours(1)).await
    }

    fn take(&mut self, brought: Brought) -> bool {
        self.reconciler.take(brought, (self.clock)()).is_news
    }

    async fn report(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A shell that writes down what it is asked, and whose errands are given beforehand.
    #[derive(Default)]
    struct Fake {
        log: Vec<String>,
        /// What is due, in the order in which it falls due: each is sent once its condition holds.
        due: Vec<Due>,
        /// Sent and not back.
        under_way: VecDeque<Due>,
        /// Of an earlier pass, and back by now.
        arrived: VecDeque<Due>,
        listens: bool,
        fails: bool,
    }

    /// What is so after something came back.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Brings {
        News,
        NothingNew,
        /// The relay listens from then on.
        Relay,
    }

    #[derive(Clone, Copy, Debug)]
    struct Due {
        side: Side,
        what: &'static str,
        /// Only once the relay listens.
        needs_relay: bool,
        brings: Brings,
        hangs: bool,
    }

    fn due(side: Side, what: &'static str) -> Due {
        Due { side, what, needs_relay: false, brings: Brings::News, hangs: false }
    }

    impl Shell for Fake {
        type Error = &'static str;
        type Brought = Due;

        async fn claim(&mut self) {
            self.log.push("claim".to_owned());
        }

        async fn serve(&mut self) -> Result<(), &'static str> {
            self.log.push(if self.listens { "serve" } else { "serve, not listening" }.to_owned());
            if self.fails { Err("refused") } else { Ok(()) }
        }

        fn send(&mut self, side: Side) -> bool {
            let is_busy = self.under_way.iter().any(|due| due.side == side);
            let may = |due: &Due| due.side == side && !is_busy && (self.listens || !due.needs_relay);
            let Some(place) = self.due.iter().position(may) else { return false };
            let due = self.due.remove(place);
            self.log.push(format!("send {}", due.what));
            self.under_way.push_back(due);
            true
        }

        async fn next(&mut self, is_awaited: bool) -> Option<Due> {
            if let Some(arrived) = self.arrived.pop_front() {
                return Some(arrived);
            }
            let place = self.under_way.iter().position(|due| !due.hangs).filter(|_| is_awaited)?;
            self.under_way.remove(place)
        }

        fn take(&mut self, brought: Due) -> bool {
            self.log.push(format!("take {}", brought.what));
            self.listens |= brought.brings == Brings::Relay;
            brought.brings != Brings::NothingNew
        }

        async fn report(&mut self) -> Result<(), &'static str> {
            self.log.push("report".to_owned());
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_order_of_a_pass_keeps_its_promises() {
        let fake = |due: &[Due]| Fake { due: due.to_vec(), ..Fake::default() };
        let max = due(Side::Max, "probe the bot");
        let mango = due(Side::Mango, "probe the account");
        let crm = due(Side::Crm, "probe the CRM");
        let subscribe = Due { needs_relay: true, ..due(Side::Max, "subscribe") };
        let mark = Due { brings: Brings::Relay, ..due(Side::Crm, "mark the rows") };
        for (promise, shell, expected) in [
            (
                "where nothing is due, the relay is served and the status told",
                fake(&[]),
                "claim; serve, not listening; report",
            ),
            (
                "the relay is served before anybody is asked, and the CRM is asked before MAX",
                fake(&[max, mango, crm]),
                "claim; serve, not listening; send probe the CRM; send probe the account; \
                 send probe the bot; take probe the CRM; claim; serve, not listening; \
                 take probe the account; claim; serve, not listening; \
                 take probe the bot; claim; serve, not listening; report",
            ),
            (
                "what says nothing new changes nothing about the relay",
                fake(&[Due { brings: Brings::NothingNew, ..max }, crm]),
                "claim; serve, not listening; send probe the CRM; send probe the bot; \
                 take probe the CRM; claim; serve, not listening; take probe the bot; report",
            ),
            (
                "an address is subscribed only after the relay was served and listens",
                fake(&[subscribe, mark]),
                "claim; serve, not listening; send mark the rows; take mark the rows; claim; serve; \
                 send subscribe; take subscribe; claim; serve; report",
            ),
            (
                "what a probe has made due is sent in the same pass",
                fake(&[max, Due { brings: Brings::Relay, ..crm }, subscribe]),
                "claim; serve, not listening; send probe the CRM; send probe the bot; \
                 take probe the CRM; claim; serve; take probe the bot; claim; serve; \
                 send subscribe; take subscribe; claim; serve; report",
            ),
            (
                "a side that hangs keeps neither the others nor the status",
                fake(&[Due { hangs: true, ..crm }, max]),
                "claim; serve, not listening; send probe the CRM; send probe the bot; \
                 take probe the bot; claim; serve, not listening; report",
            ),
            (
                "what an earlier pass has sent is not waited for again",
                Fake { under_way: [crm].into(), ..Fake::default() },
                "claim; serve, not listening; report",
            ),
            (
                "what an earlier pass has sent and is back counts",
                Fake { arrived: [crm].into(), ..Fake::default() },
                "claim; serve, not listening; take probe the CRM; claim; serve, not listening; report",
            ),
        ] {
            let mut shell = shell;
            assert_eq!(pass(&mut shell).await, Ok(()), "{promise}");
            assert_eq!(shell.log.join("; "), expected, "{promise}");
        }
    }

    #[tokio::test]
    async fn a_relay_that_cannot_be_served_ends_the_pass_before_anything_is_sent_or_told() {
        let mut shell = Fake { fails: true, due: vec![due(Side::Max, "probe the bot")], ..Fake::default() };
        assert_eq!(pass(&mut shell).await, Err("refused"));
        assert_eq!(shell.log, ["claim", "serve, not listening"]);
    }
}
