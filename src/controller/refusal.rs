//! What the API server refuses: put into words for the status, remembered, and asked for again
//! after a while.
//!
//! A refusal ends nothing but its own step. What is no refusal (the server is away, asks to slow
//! down, or has a newer version of the object) ends the pass, which comes again by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Error;
use crate::api::Reason;
use crate::channel::report::Unapplied;
use crate::time::{Backoff, Millis};

/// Until the next repetition; seldom rarer, because nobody tells us of a quota that was raised.
const AGAIN: Backoff = Backoff::doubling(Duration::from_secs(2), Duration::from_secs(20));

/// What was refused, by step: the kind of the object, or another word for what was tried.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<&'static str, Refused>);

#[derive(Debug)]
struct Refused {
    unapplied: Unapplied,
    /// For which desired state: another one is tried at once.
    desired: String,
    times: u32,
    until: Millis,
}

impl Refusals {
    /// Whether a step was refused a moment ago, and nothing else is wanted since.
    pub fn waits(&self, step: &'static str, desired: &str, now: Millis) -> bool {
        self.0.get(step).is_some_and(|refused| refused.desired == desired && now < refused.until)
    }

    /// Takes in how a step on `object` went; none where it was refused.
    ///
    /// # Errors
    /// It failed, and was not refused.
    pub fn take<T>(
        &mut self,
        step: &'static str,
        object: &str,
        desired: &str,
        now: Millis,
        outcome: Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let error = match outcome {
            Ok(done) => {
                self.0.remove(step);
                return Ok(Some(done));
            }
            Err(error) => error,
        };
        let Some((reason, words)) = reason(&error) else { return Err(error) };
        self.put(step, desired, now, Unapplied { reason, detail: format!("{object}: {words}"), is_harmless: false });
        Ok(None)
    }

    /// Notes what is not as it shall be.
    pub fn put(&mut self, step: &'static str, desired: &str, now: Millis, unapplied: Unapplied) {
        let times = self.0.get(step).filter(|before| before.desired == desired).map_or(0, |before| before.times + 1);
        if times == 0 && !unapplied.is_harmless {
            tracing::warn!(step, reason = %unapplied.reason, "refused: {}", unapplied.detail);
        }
        let until = now + AGAIN.millis_after(times);
        self.0.insert(step, Refused { unapplied, desired: desired.to_owned(), times, until });
    }

    /// Whether a step could not be made, because another's object has the name.
    #[must_use]
    pub fn is_foreign(&self, step: &'static str) -> bool {
        self.0.get(step).is_some_and(|refused| refused.unapplied.reason == Reason::ForeignObject)
    }

    /// The step is not asked for any more, or has been done.
    pub fn clear(&mut self, step: &'static str) {
        self.0.remove(step);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next repetition is due.
    #[must_use]
    pub fn due(&self) -> Option<Millis> {
        // What is harmless is waiting, and is told when its turn has come.
        self.0.values().filter(|refused| !refused.unapplied.is_harmless).map(|refused| refused.until).min()
    }

    /// For the status.
    #[must_use]
    pub fn all(&self) -> Vec<Unapplied> {
        self.0.values().map(|refused| refused.unapplied.clone()).collect()
    }
}

/// Whether an answer is a policy's and says nothing about the object itself.
#[must_use]
pub fn is_policy(message: &str) -> bool {
    ["ValidatingAdmissionPolicy", "admission webhook", "violates PodSecurity", "failed calling webhook"]
        .iter()
        .any(|words| message.contains(words))
}

/// What a refusal means, and the server's own words; none where the answer is no refusal.
#[must_use]
pub fn reason(error: &Error) -> Option<(Reason, String)> {
    if let Error::Foreign(whose) = error {
        return Some((Reason::ForeignObject, whose.clone()));
    }
    let Error::Api(kube::Error::Api(status)) = error else { return None };
    let words = status.message.trim().to_owned();
    let reason = match status.code {
        _ if is_policy(&words) => Reason::PolicyRefused,
        403 => of_words(&words),
        // A newer version is there already: the pass comes again with it.
        409 if !status.is_already_exists() => return None,
        // Nobody is known here, or the server is busy or away.
        401 | 429 | 500.. => return None,
        _ => Reason::ObjectRefused,
    };
    Some((reason, words))
}

/// What words of refusal mean, whoever repeats them: the server's to us, or to one of its own
/// controllers in an event.
#[must_use]
pub fn of_words(words: &str) -> Reason {
    if is_policy(words) {
        Reason::PolicyRefused
    } else if words.contains("exceeded quota") || words.contains("failed quota") {
        Reason::QuotaExceeded
    } else if words.contains("cannot ") && words.contains(" resource ") {
        Reason::RightsMissing
    } else {
        Reason::ObjectRefused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, reason: &str, message: &str) -> Error {
        Error::Api(kube::Error::Api(Box::new(kube::core::Status {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..kube::core::Status::default()
        })))
    }

    #[test]
    fn the_servers_refusals_have_their_reasons_and_everything_else_is_tried_again() {
        for (code, kind, message, expected) in [
            (
                403,
                "Forbidden",
                "services \"a-relay\" is forbidden: exceeded quota: q, requested: services=1, used: services=0, limited: services=0",
                Some(Reason::QuotaExceeded),
            ),
            (403, "Forbidden", "failed quota: q: must specify limits.memory", Some(Reason::QuotaExceeded)),
            (
                403,
                "Forbidden",
                "secrets \"a-relay\" is forbidden: User \"system:serviceaccount:n:x\" cannot patch resource \"secrets\" in API group \"\"",
                Some(Reason::RightsMissing),
            ),
            (
                422,
                "Invalid",
                "statefulsets.apps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
                Some(Reason::PolicyRefused),
            ),
            (400, "", "admission webhook \"w.example\" denied the request: no", Some(Reason::PolicyRefused)),
            (
                500,
                "InternalError",
                "Internal error occurred: failed calling webhook \"w.example\": connection refused",
                Some(Reason::PolicyRefused),
            ),
            (422, "Invalid", "Ingress.networking.k8s.io \"a\" is invalid: spec", Some(Reason::ObjectRefused)),
            (403, "Forbidden", "unable to create new content in namespace n", Some(Reason::ObjectRefused)),
            (404, "NotFound", "namespaces \"n\" not found", Some(Reason::ObjectRefused)),
            (409, "AlreadyExists", "there is one", Some(Reason::ObjectRefused)),
            (409, "Conflict", "the object has been modified", None),
            (429, "TooManyRequests", "slow down", None),
            (503, "ServiceUnavailable", "not now", None),
            (401, "Unauthorized", "who?", None),
        ] {
            assert_eq!(reason(&answer(code, kind, message)).map(|(reason, _)| reason), expected, "{message}");
        }
        assert!(reason(&Error::Late).is_none());
    }

    #[test]
    fn a_refused_step_waits_longer_each_time_and_another_wish_does_not() {
        let mut refusals = Refusals::default();
        let mut now = 0;
        for pause in [2_000, 4_000, 8_000, 16_000, 20_000, 20_000] {
            let outcome: Result<(), _> = Err(answer(403, "Forbidden", "exceeded quota: q"));
            assert!(refusals.take("Service", "Service a-relay", "1", now, outcome).unwrap().is_none());
            assert_eq!(refusals.due(), Some(now + pause));
            assert!(refusals.waits("Service", "1", now + pause - 1) && !refusals.waits("Service", "1", now + pause));
            assert!(!refusals.waits("Service", "2", now) && !refusals.waits("Secret", "1", now));
            now += pause;
        }
        assert_eq!(refusals.all()[0].detail, "Service a-relay: exceeded quota: q");
        assert_eq!(refusals.take("Service", "Service a-relay", "1", now, Ok(7)).unwrap(), Some(7));
        assert!(refusals.is_empty());
        assert!(refusals.take("Service", "x", "1", now, Err::<(), _>(Error::Late)).is_err());
    }
}
