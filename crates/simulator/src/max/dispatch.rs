//! The webhook dispatcher (MAX Bot API, webhook delivery): one update per POST, the secret in a
//! header, only a 200 in time counts, repeats with growing pauses, and the end of a subscription
//! that nobody answers.
//!
//! Every chat of a subscription has a lane. A lane's worker makes the first attempts one after the
//! other; what fails is repeated later by itself while newer updates go on. That is the reordering
//! that receivers must survive.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio::time::Instant;

use super::Shared;
use super::statistics::WebhookAttempt;
use super::switches::{DeliveryOrder, UnsubscribeWindow};

/// A receiver has 30 s, scaled.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The first pause, scaled; each next one is 2.5 times as long.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
const PAUSE_FACTOR: f64 = 2.5;
const RETRIES: u32 = 10;
/// Without a 200 for so long, scaled, the bot is unsubscribed.
const GIVE_UP_AFTER: Duration = Duration::from_hours(8);
/// POSTs under way at once, of all subscriptions.
pub(super) const POSTS_AT_ONCE: usize = 128;

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: u64,
    pub(super) url: String,
    pub(super) secret: Option<String>,
    pub(super) update_types: Option<Vec<String>>,
    pub(super) time: i64,
    /// The first failure since the last 200.
    failing_since: Option<Instant>,
    lanes: HashMap<i64, VecDeque<Job>>,
}

/// An update on its way to one subscription.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) number: i64,
    pub(super) chat: i64,
    pub(super) update: Arc<Value>,
    pub(super) attempt: u32,
}

impl Subscription {
    pub(super) fn new(
        id: u64,
        url: String,
        secret: Option<String>,
        update_types: Option<Vec<String>>,
        time: i64,
    ) -> Self {
        Self { id, url, secret, update_types, time, failing_since: None, lanes: HashMap::new() }
    }

    pub(super) fn wants(&self, update_type: &str) -> bool {
        self.update_types.as_ref().is_none_or(|types| types.iter().any(|wanted| wanted == update_type))
    }

    /// True: the lane is new and needs a worker.
    pub(super) fn enqueue(&mut self, lane: i64, job: Job) -> bool {
        let new = !self.lanes.contains_key(&lane);
        self.lanes.entry(lane).or_default().push_back(job);
        new
    }
}

enum Outcome {
    Delivered,
    Failed,
    /// The subscription is gone.
    Gone,
}

/// Works a lane off and ends.
pub(super) async fn work(shared: Arc<Shared>, bot: i64, subscription: u64, lane: i64) {
    loop {
        let job = shared.change(|world| {
            let found = world.bots.get_mut(&bot)?.subscriptions.iter_mut().find(|found| found.id == subscription)?;
            let job = found.lanes.get_mut(&lane)?.pop_front();
            if job.is_none() {
                found.lanes.remove(&lane);
            }
            job
        });
        let Some(job) = job else { return };
        if shared.read(|world| world.switches.delivery_order) == DeliveryOrder::Strict {
            repeat(shared.clone(), bot, subscription, job, None).await;
        } else if let Outcome::Failed = attempt(&shared, bot, subscription, &job).await {
            let next = Job { attempt: job.attempt + 1, ..job };
            shared.spawn(repeat(shared.clone(), bot, subscription, next, Some(Instant::now())));
        }
    }
}

/// Attempts until success or the last retry. `failed_at`: the moment of the first failure, where
/// there was one.
async fn repeat(shared: Arc<Shared>, bot: i64, subscription: u64, mut job: Job, failed_at: Option<Instant>) {
    let mut first_failure = failed_at;
    let window = shared.clock.shortened(GIVE_UP_AFTER);
    loop {
        if job.attempt > 1 {
            if job.attempt > RETRIES + 1 {
                shared.change(|world| world.statistics.report.webhook_given_up += 1);
                return;
            }
            let pause = Instant::now() + shared.clock.shortened(pause_before(job.attempt));
            let per_update = shared.read(|world| world.switches.unsubscribe_window) == UnsubscribeWindow::Update;
            let end = first_failure.map(|at| at + window).filter(|end| per_update && *end < pause);
            tokio::time::sleep_until(end.unwrap_or(pause)).await;
            if end.is_some() {
                shared.unsubscribe_silent(bot, subscription);
                return;
            }
        }
        match attempt(&shared, bot, subscription, &job).await {
            Outcome::Delivered | Outcome::Gone => return,
            Outcome::Failed => {
                first_failure.get_or_insert_with(Instant::now);
                job.attempt += 1;
            }
        }
    }
}

/// The pause before an attempt, the second being the first repeat.
fn pause_before(attempt: u32) -> Duration {
    let exponent = i32::try_from(attempt.saturating_sub(2)).unwrap_or(i32::MAX);
    FIRST_PAUSE.mul_f64(PAUSE_FACTOR.powi(exponent))
}

async fn attempt(shared: &Arc<Shared>, bot: i64, subscription: u64, job: &Job) -> Outcome {
    let mut paused = shared.paused.subscribe();
    // The sender lives in `shared`, so waiting ends only by the pause being over.
    if paused.wait_for(|paused| !paused).await.is_err() {
        return Outcome::Gone;
    }
    let Ok(_permit) = shared.posts.acquire().await else { return Outcome::Gone };
    let Some((url, target, secret, floor)) = shared.read(|world| {
        let found = world.bots.get(&bot)?.subscriptions.iter().find(|found| found.id == subscription)?;
        let target = routed(&found.url, &world.routes);
        Some((found.url.clone(), target, found.secret.clone(), world.switches.webhook_timeout_floor_ms))
    }) else {
        return Outcome::Gone;
    };
    let within = shared.clock.shortened(ANSWER_WITHIN).max(Duration::from_millis(floor));
    let (status, error) = match tokio::time::timeout(within, post(shared, &target, secret, &job.update)).await {
        Ok(Ok(status)) => (Some(status), None),
        Ok(Err(error)) => (None, Some(error)),
        Err(_) => (None, Some(format!("no answer within {} ms", within.as_millis()))),
    };
    let delivered = status == Some(200);
    let window = shared.clock.shortened(GIVE_UP_AFTER);
    let watch = shared.change(|world| {
        world.statistics.attempt(WebhookAttempt {
            at: world.clock.now_ms(),
            bot,
            url,
            number: job.number,
            chat_id: job.chat,
            attempt: job.attempt,
            status,
            error,
        });
        let found = world.bots.get_mut(&bot)?.subscriptions.iter_mut().find(|found| found.id == subscription)?;
        if delivered {
            found.failing_since = None;
            return None;
        }
        if found.failing_since.is_none() {
            found.failing_since = Some(Instant::now());
            return found.failing_since;
        }
        None
    });
    if let Some(since) = watch {
        let watcher = shared.clone();
        shared.spawn(async move {
            tokio::time::sleep_until(since + window).await;
            let still = watcher.read(|world| {
                let found = world.bots.get(&bot)?.subscriptions.iter().find(|found| found.id == subscription)?;
                Some(found.failing_since == Some(since))
            });
            if still == Some(true) {
                watcher.unsubscribe_silent(bot, subscription);
            }
        });
    }
    if delivered { Outcome::Delivered } else { Outcome::Failed }
}

/// One webhook call, for a receiver that is in the same process.
#[derive(Clone, Debug)]
pub struct WebhookCall {
    /// The subscribed address.
    pub url: String,
    /// What the header `X-Max-Bot-Api-Secret` would hold.
    pub secret: Option<String>,
    /// The update.
    pub body: Bytes,
}

/// A receiver in the same process: answers the status, or why there is none.
pub type Receiver = Arc<dyn Fn(WebhookCall) -> BoxFuture<'static, Result<u16, String>> + Send + Sync>;

async fn post(shared: &Shared, target: &str, secret: Option<String>, update: &Value) -> Result<u16, String> {
    if let Some(receiver) = &shared.receiver {
        let body = serde_json::to_vec(update).map_err(|error| error.to_string())?.into();
        return receiver(WebhookCall { url: target.to_owned(), secret, body }).await;
    }
    let client = shared.client()?;
    guard(target)?;
    let mut request = client
        .post(target)
        .header("Content-Type", "application/json; charset=utf-8")
        .body(serde_json::to_vec(update).map_err(|error| error.to_string())?);
    if let Some(secret) = secret {
        request = request.header("X-Max-Bot-Api-Secret", secret);
    }
    let answer = request.send().await.map_err(|error| chain(&error))?;
    let status = answer.status().as_u16();
    // The answer's body means nothing; reading it lets the connection serve again.
    let _ = answer.bytes().await;
    Ok(status)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The address that stands in for `url`, where its host has a route.
fn routed(url: &str, routes: &std::collections::BTreeMap<String, String>) -> String {
    let Ok(parsed) = url::Url::parse(url) else { return url.to_owned() };
    let Some(base) = parsed.host_str().and_then(|host| routes.get(host)) else { return url.to_owned() };
    let query = parsed.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{}{query}", base.trim_end_matches('/'), parsed.path())
}

/// A simulator never talks to the outside: literal addresses are checked here, names by [`Near`].
pub(super) fn guard(url: &str) -> Result<(), String> {
    let parsed = url::Url::parse(url).map_err(|error| format!("not an address: {error}"))?;
    let literal = match parsed.host() {
        Some(url::Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(url::Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        _ => None,
    };
    match literal {
        Some(address) if !is_near(address) => Err(format!("{address} is not a loopback or private address")),
        _ => Ok(()),
    }
}

fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}

/// Resolves names to loopback and private addresses only.
#[derive(Debug)]
struct Near;

impl Resolve for Near {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.filter(|address| is_near(address.ip())).collect();
            if found.is_empty() {
                return Err(format!("{} has no loopback or private address", name.as_str()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The HTTP client of the dispatcher: no redirects, no proxies, and the roots of `pem` beside none.
pub(super) fn client(pem: &str) -> Result<reqwest::Client, String> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("not a PEM certificate: {error}"))?;
        roots.add(certificate).map_err(|error| format!("a root certificate is not usable: {error}"))?;
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .dns_resolver(Arc::new(Near))
        .user_agent("max-simulator")
        .build()
        .map_err(|error| format!("the HTTP client cannot be built: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_as_documented() {
        let pauses: Vec<f64> = (2..=9).map(|attempt| pause_before(attempt).as_secs_f64()).collect();
        assert_eq!(pauses, [60.0, 150.0, 375.0, 937.5, 2_343.75, 5_859.375, 14_648.437_5, 36_621.093_75]);
    }

    #[test]
    fn the_dispatcher_reaches_near_addresses_only() {
        for near in ["http://127.0.0.1:1/x", "http://10.1.2.3/x", "http://[::1]:2/", "https://max.example/x"] {
            assert_eq!(guard(near), Ok(()), "{near}");
        }
        for far in ["http://8.8.8.8/x", "https://[2001:db8::1]/"] {
            assert!(guard(far).is_err(), "{far}");
        }
    }

    #[test]
    fn a_route_replaces_the_host_and_keeps_path_and_query() {
        let routes = [("max.example".to_owned(), "http://127.0.0.1:9/".to_owned())].into();
        assert_eq!(routed("https://max.example/a/b?c=d", &routes), "http://127.0.0.1:9/a/b?c=d");
        assert_eq!(routed("https://other.example/a", &routes), "https://other.example/a");
    }
}
