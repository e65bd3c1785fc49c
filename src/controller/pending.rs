//! A call that is under way while passes come and go, so that whoever hangs holds no pass.
//!
//! The pass that sends it waits a moment, since most answers are quick; every other one goes on
//! with what is known, and an answer that comes late asks for another pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::channel::pass::MOMENT;

/// Room for one call at a time; `W` says to whom, `T` is the answer.
#[derive(Debug)]
pub struct Pending<W, T>(Option<Call<W, T>>);

#[derive(Debug)]
struct Call<W, T> {
    whom: W,
    answer: oneshot::Receiver<T>,
    /// Nobody waits any more.
    is_late: Arc<AtomicBool>,
    _task: AbortOnDropHandle<()>,
}

impl<W, T> Default for Pending<W, T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<W: PartialEq, T: Send + 'static> Pending<W, T> {
    /// Whether a call to this one is under way, or back and not taken yet.
    pub fn is_to(&self, whom: &W) -> bool {
        self.0.as_ref().is_some_and(|call| call.whom == *whom)
    }

    /// Sends a call on its way; one before it is dropped. `kick` asks for a pass when the answer
    /// comes and nobody waits.
    pub fn begin(
        &mut self,
        whom: W,
        work: impl Future<Output = T> + Send + 'static,
        kick: impl FnOnce() + Send + 'static,
    ) {
        let (sender, answer) = oneshot::channel();
        let is_late = Arc::new(AtomicBool::new(false));
        let late = is_late.clone();
        let work = async move {
            // Nobody listens any more where the call is dropped.
            let _ = sender.send(work.await);
            if late.load(Ordering::SeqCst) {
                kick();
            }
        };
        let task = AbortOnDropHandle::new(tokio::spawn(work.instrument(tracing::Span::current())));
        self.0 = Some(Call { whom, answer, is_late, _task: task });
    }

    /// The answer. It is waited for a moment, by the first who asks; none: it is still under way.
    pub async fn answer(&mut self) -> Option<T> {
        let call = self.0.as_mut()?;
        if !call.is_late.load(Ordering::SeqCst) {
            match timeout(MOMENT, &mut call.answer).await {
                Ok(answer) => {
                    self.0 = None;
                    return answer.ok();
                }
                Err(_) => call.is_late.store(true, Ordering::SeqCst),
            }
        }
        let answer = call.answer.try_recv();
        if !matches!(answer, Err(TryRecvError::Empty)) {
            self.0 = None;
        }
        answer.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_quick_answer_is_waited_for_and_kicks_nobody() {
        let mut call = Pending::default();
        call.begin("relay", async { 7 }, || panic!("the pass has waited for it"));
        assert!(call.is_to(&"relay") && !call.is_to(&"another"));
        assert_eq!(call.answer().await, Some(7));
        assert!(!call.is_to(&"relay"), "the next one may be sent");
        assert_eq!(call.answer().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_waited_for_once_and_for_a_moment() {
        let mut call = Pending::<_, ()>::default();
        call.begin("relay", pending(), || {});
        let began = Instant::now();
        for _ in 0..100 {
            assert_eq!(call.answer().await, None);
            assert!(call.is_to(&"relay"), "it stays under way");
        }
        assert!(began.elapsed() < 2 * MOMENT, "waited for {:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_asks_for_a_pass_which_takes_it() {
        let kicked = Arc::new(Notify::new());
        let mut call = Pending::default();
        let (slow, kick) = (
            async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                7
            },
            kicked.clone(),
        );
        call.begin("relay", slow, move || kick.notify_one());
        assert_eq!(call.answer().await, None);
        kicked.notified().await;
        assert_eq!(call.answer().await, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_to_another_takes_the_place_of_the_one_before() {
        let mut call = Pending::default();
        call.begin("before", pending(), || panic!("it was dropped"));
        call.begin("after", async { 7 }, || {});
        assert!(!call.is_to(&"before"));
        assert_eq!(call.answer().await, Some(7));
    }
}
