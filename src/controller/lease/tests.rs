//! What the leases promise: by rule, and over many runs of several replicas on a played server.

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::json;

use super::*;

fn lease(holder: Option<&str>, renewal: i64) -> Lease {
    Lease {
        metadata: kube::core::ObjectMeta::default(),
        spec: Some(LeaseSpec {
            holder_identity: holder.map(ToOwned::to_owned),
            renew_time: Some(MicroTime(Timestamp::from_second(renewal).unwrap())),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }),
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_is_believed_gone_only_after_a_whole_duration_without_change_seen_from_here() {
    let mut seen = None;
    let mut step = |lease: Option<&Lease>| decide(lease, "me", &mut seen, DURATION, Instant::now());
    assert_eq!(step(None), Step::Create);
    assert_eq!(step(Some(&lease(None, 1))), Step::Replace, "given up");
    assert_eq!(step(Some(&lease(Some("me"), 1))), Step::Replace, "mine");
    // Whatever the other's clock says, even if its renewal seems to be years old.
    assert_eq!(step(Some(&lease(Some("other"), 1))), Step::Wait);
    tokio::time::advance(Duration::from_secs(14)).await;
    assert_eq!(step(Some(&lease(Some("other"), 1))), Step::Wait);
    assert_eq!(step(Some(&lease(Some("other"), 2))), Step::Wait, "it renews");
    tokio::time::advance(Duration::from_secs(14)).await;
    assert_eq!(step(Some(&lease(Some("other"), 2))), Step::Wait);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(step(Some(&lease(Some("other"), 2))), Step::Replace);
}

#[test]
fn a_change_of_holders_is_counted_and_a_renewal_keeps_when_it_began() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let first = renewed(None, "a", DURATION, at(1));
    let second = renewed(Some(first.clone()), "a", DURATION, at(6));
    let third = renewed(Some(second.clone()), "b", DURATION, at(30));
    assert_eq!(
        (first.lease_transitions, second.lease_transitions, third.lease_transitions),
        (Some(1), Some(1), Some(2))
    );
    assert_eq!(second.acquire_time, first.acquire_time);
    assert_eq!(third.acquire_time, Some(MicroTime(at(30))));
}

#[tokio::test(start_paused = true)]
async fn a_lease_renewed_after_it_had_lapsed_is_told_as_one_that_is_won() {
    let fence = Fence::default();
    let mut changes = fence.changes();
    fence.set(0, Some(Instant::now() + DURATION));
    assert!(fence.is_first() && changes.has_changed().unwrap());
    changes.mark_unchanged();
    fence.set(0, Some(Instant::now() + DURATION));
    assert!(!changes.has_changed().unwrap(), "renewed in time");
    tokio::time::advance(DURATION).await;
    assert!(!fence.is_first());
    fence.set(0, Some(Instant::now() + DURATION));
    assert!(changes.has_changed().unwrap() && fence.is_first());
}

#[tokio::test(start_paused = true)]
async fn the_fence_falls_by_itself_when_no_renewal_comes() {
    let (fence, channel) = (Fence::default(), ChannelRef::new("n", "a"));
    assert_eq!(fence.check(&channel), Err(Lost));
    fence.set(0, Some(Instant::now() + DURATION * 2 / 3));
    assert_eq!(fence.check(&channel), Ok(()));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(fence.check(&channel), Err(Lost), "before another may take the lease after 15 s");
}

#[tokio::test(start_paused = true)]
async fn of_several_shards_only_the_channels_of_those_held_are_written() {
    let fence = Fence::default();
    let channels: Vec<_> = (0..600).map(|number| ChannelRef::new("crm", format!("c{number}"))).collect();
    fence.divide(3);
    fence.set(1, Some(Instant::now() + DURATION));
    let is_written = |channel: &&ChannelRef| fence.check(channel).is_ok();
    let held = channels.iter().filter(is_written).count();
    assert!((150..250).contains(&held), "{held} of 600 in one of three shards");
    assert!(channels.iter().filter(is_written).all(|channel| shard_of(channel, 3) == 1));
    // Nothing begins in a shard that is about to be given up, and what is under way may end.
    let mine = channels.iter().find(is_written).unwrap();
    let pass = fence.begin(mine).unwrap();
    let draining = fence.clone();
    let drained = tokio::spawn(async move { draining.drain(1, DURATION).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(fence.begin(mine).is_none() && fence.check(mine).is_ok() && !drained.is_finished());
    drop(pass);
    drained.await.unwrap();
    // Divided otherwise: nothing is held that was not won again.
    fence.divide(2);
    assert!(channels.iter().all(|channel| fence.check(channel).is_err()));
}

#[test]
fn a_channel_keeps_its_shard_over_versions() {
    let shards: Vec<u32> = ["a", "b", "support", "sales"].map(|name| shard_of(&ChannelRef::new("crm", name), 3)).into();
    assert_eq!(shards, [1, 1, 2, 0]);
}

/// An API server that knows leases alone, by the dice of a seed slow, silent or in a hurry.
struct Server {
    leases: Mutex<BTreeMap<String, Lease>>,
    dice: Mutex<u64>,
    /// Of a request, both ways together.
    slowest: Duration,
    /// One of so many has no answer; half of those take effect.
    lost: u64,
}

impl Server {
    /// Below `limit`.
    fn dice(&self, limit: u64) -> u64 {
        let mut state = self.dice.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(self.dice(u64::try_from(self.slowest.as_millis() / 2).unwrap()))
    }

    fn serve(&self, method: &Method, name: &str, body: &[u8]) -> Result<Lease, (u16, &'static str)> {
        let mut leases = self.leases.lock().unwrap();
        let stands = leases.get(name);
        if *method == Method::GET {
            return stands.cloned().ok_or((404, "NotFound"));
        }
        let mut lease: Lease = serde_json::from_slice(body).unwrap();
        let name = lease.name_any();
        let version = leases.get(&name).and_then(kube::ResourceExt::resource_version);
        match (method == Method::POST, &version) {
            (true, Some(_)) => return Err((409, "AlreadyExists")),
            (false, None) => return Err((404, "NotFound")),
            (false, version) if *version != lease.resource_version() => return Err((409, "Conflict")),
            _ => {}
        }
        let next = version.map_or(1, |version| version.parse::<u64>().unwrap() + 1);
        lease.metadata.resource_version = Some(next.to_string());
        leases.insert(name, lease.clone());
        Ok(lease)
    }

    async fn answer(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let name = parts.uri.path().rsplit('/').next().unwrap().to_owned();
        tokio::time::sleep(self.pause()).await;
        let is_lost = self.lost > 0 && self.dice(self.lost) == 0;
        if is_lost && self.dice(2) == 0 {
            std::future::pending::<()>().await;
        }
        let answer = self.serve(&parts.method, &name, &body);
        if is_lost {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.pause()).await;
        let (code, answer) = match answer {
            Ok(lease) => (200, serde_json::to_vec(&lease).unwrap()),
            Err((code, reason)) => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": reason, "reason": reason, "code": code});
                (code, serde_json::to_vec(&status).unwrap())
            }
        };
        Ok(Response::builder().status(code).body(Body::from(answer)).unwrap())
    }

    fn said(&self) -> String {
        let leases = self.leases.lock().unwrap();
        let said = leases.iter().map(|(name, lease)| {
            let holder = lease.spec.clone().and_then(|spec| spec.holder_identity).unwrap_or_default();
            format!("{name}: {holder:?} {:?}", lease.annotations())
        });
        said.collect::<Vec<_>>().join("; ")
    }
}

struct Replica {
    name: String,
    fence: Fence,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// Replicas that come, go and are killed, on one server.
struct Play {
    server: Arc<Server>,
    replicas: Vec<Replica>,
    /// For which nobody but one may write at any time.
    channels: Vec<ChannelRef>,
}

impl Play {
    fn new(seed: u64) -> Self {
        let server = Server {
            leases: Mutex::default(),
            dice: Mutex::new(seed),
            slowest: Duration::from_millis([50, 800, 2500][usize::try_from(seed % 3).unwrap()]),
            lost: [0, 100, 30][usize::try_from(seed / 3 % 3).unwrap()],
        };
        let channels = (0..12).map(|number| ChannelRef::new("crm", format!("c{number}"))).collect();
        Self { server: Arc::new(server), replicas: Vec::new(), channels }
    }

    fn start(&mut self, name: &str, shards: u32) {
        let server = self.server.clone();
        let service = tower::service_fn(move |request: Request<Body>| server.clone().answer(request));
        let fence = Fence::default();
        let mut election = Election {
            api: Api::namespaced(Client::new(service, "max"), "max"),
            namespace: "max".to_owned(),
            name: "lease".to_owned(),
            identity: name.to_owned(),
            duration: Duration::from_secs(9),
            wanted: shards,
            fence: fence.clone(),
            seen: BTreeMap::new(),
            free: BTreeMap::new(),
            barred: BTreeMap::new(),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            election.run(&stopped).await;
            election.vacate().await;
        });
        self.replicas.push(Replica { name: name.to_owned(), fence, stop, task });
    }

    fn take(&mut self, name: &str) -> Replica {
        let index = self.replicas.iter().position(|replica| replica.name == name).unwrap();
        self.replicas.remove(index)
    }

    fn kill(&mut self, name: &str) {
        self.take(name).task.abort();
    }

    fn stop(&mut self, name: &str) {
        // It writes nothing once it has been told to stop.
        self.take(name).stop.cancel();
    }

    /// The time passes, in which no channel may be written by two.
    async fn pass(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            for channel in &self.channels {
                let writers: Vec<&str> = self
                    .replicas
                    .iter()
                    .filter(|replica| replica.fence.check(channel).is_ok())
                    .map(|replica| replica.name.as_str())
                    .collect();
                assert!(writers.len() < 2, "{writers:?} write for {channel}: {}", self.server.said());
            }
            for replica in &self.replicas {
                let channel = usize::try_from(self.server.dice(self.channels.len() as u64)).unwrap();
                if let Some(pass) = replica.fence.begin(&self.channels[channel]) {
                    let time = Duration::from_millis(self.server.dice(3000));
                    tokio::spawn(async move {
                        tokio::time::sleep(time).await;
                        drop(pass);
                    });
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Each replica has shards, and together they have all.
    async fn until_held(&self, shards: u32) {
        let limit = Instant::now() + Duration::from_mins(3);
        let is_held = || {
            let held: Vec<_> = self.replicas.iter().map(|replica| replica.fence.held()).collect();
            held.iter().all(|(number, held)| *number == shards && !held.is_empty())
                && held.iter().map(|(_, held)| held.len()).sum::<usize>() == shards as usize
        };
        while !is_held() {
            let names: Vec<_> = self.replicas.iter().map(|replica| &replica.name).collect();
            assert!(Instant::now() < limit, "{names:?} do not have the {shards} shards: {}", self.server.said());
            self.pass(Duration::from_millis(200)).await;
        }
    }
}

/// Deterministic but for the order in which the clock's waiters are woken: a seed replays.
#[test]
fn whoever_comes_goes_or_is_killed_each_shard_is_ones_alone_and_all_are_taken_again() {
    for seed in 0..100 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let play = async {
            let mut play = Play::new(seed);
            play.start("one", 2);
            play.start("two", 2);
            play.until_held(2).await;
            play.kill("two");
            play.until_held(2).await;
            play.start("three", 2);
            play.until_held(2).await;
            // Another number of shards, as by an upgrade.
            for name in ["four", "five", "six"] {
                play.start(name, 3);
                play.pass(Duration::from_millis(play.server.dice(2000))).await;
            }
            play.stop("one");
            play.pass(Duration::from_millis(play.server.dice(3000))).await;
            play.stop("three");
            play.until_held(3).await;
            // And back.
            play.start("seven", 1);
            for name in ["four", "five", "six"] {
                play.stop(name);
                play.pass(Duration::from_millis(play.server.dice(2000))).await;
            }
            play.until_held(1).await;
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(play)));
        if let Err(panic) = outcome {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
