//! An API server in memory, as far as the controller uses one: lists, watches, server-side apply,
//! merge patches, preconditions, finalizers, the garbage collector, and the claims that
//! StatefulSets make.
//!
//! What a real one cannot be made to do on time it does by dice: it refuses, is slow, does and does
//! not answer, tells of things late and twice, breaks watches off and has forgotten where they
//! were. Between two calls a person may put an object of his own in the place of one of ours.
//!
//! Judges every write of a controller against what stands here at that moment: onto an object that
//! is not the channel's, by the uid of its controller reference, none may take effect.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response};
use kube::client::Body as Asked;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::random::Random;

pub const NAMESPACE: &str = "crm";
/// The kinds that a channel owns.
pub const OWNED: [&str; 6] = ["secrets", "services", "serviceaccounts", "statefulsets", "networkpolicies", "ingresses"];
/// What a person's object carries.
const PERSONS: &str = "example.com/persons";
const CLAIM_OF: &str = "maxchannel.dev/channel";

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Answer = Result<Response<Body>, Failure>;
/// Plural and name.
type Key = (String, String);

/// See the module. Clones are the same server.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    dice: Mutex<Random>,
    version: watch::Sender<u64>,
    stormy: AtomicBool,
    away: AtomicBool,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Key, Value>,
    /// Version, key, before, after.
    log: Vec<(u64, Key, Option<Value>, Option<Value>)>,
    /// What a controller has applied last.
    applied: BTreeMap<Key, Value>,
    violations: Vec<String>,
    /// Channels that were deleted while a person had taken their finalizer away, by uid.
    gone_unheld: HashSet<String>,
    writes: u64,
    /// Requests of controllers, by verb and kind; lists, watches and leases aside.
    requests: BTreeMap<String, u64>,
    /// Reasons of events.
    told: Vec<(String, String)>,
    counts: BTreeMap<&'static str, u64>,
}

fn kind(plural: &str) -> (&'static str, &'static str) {
    match plural {
        "maxchannels" => ("maxchannel.dev/v1alpha1", "MaxChannel"),
        "secrets" => ("v1", "Secret"),
        "services" => ("v1", "Service"),
        "serviceaccounts" => ("v1", "ServiceAccount"),
        "pods" => ("v1", "Pod"),
        "persistentvolumeclaims" => ("v1", "PersistentVolumeClaim"),
        "statefulsets" => ("apps/v1", "StatefulSet"),
        "networkpolicies" => ("networking.k8s.io/v1", "NetworkPolicy"),
        "ingresses" => ("networking.k8s.io/v1", "Ingress"),
        "leases" => ("coordination.k8s.io/v1", "Lease"),
        "events" => ("events.k8s.io/v1", "Event"),
        other => panic!("the stand-in does not know {other}"),
    }
}

/// Takes away what was applied before and is not any more.
fn forsake(object: &mut Value, before: &Value, now: &Value) {
    let (Some(object), Some(before)) = (object.as_object_mut(), before.as_object()) else { return };
    for (key, was) in before {
        match now.get(key) {
            None => drop(object.remove(key)),
            Some(now) => {
                if let Some(member) = object.get_mut(key) {
                    forsake(member, was, now);
                }
            }
        }
    }
}

/// Puts `change` over `object`; null takes away.
fn merge(object: &mut Value, change: &Value) {
    let Some(members) = change.as_object() else {
        *object = change.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in members {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key.as_str()], value);
        }
    }
}

/// A condition of a channel; null where it has none of that kind.
fn condition(channel: &Value, kind: &str) -> Value {
    let all = channel["status"]["conditions"].as_array();
    all.and_then(|all| all.iter().find(|one| one["type"] == kind)).cloned().unwrap_or_default()
}

/// Whether everything in `part` stands in `whole`.
pub fn contains(whole: &Value, part: &Value) -> bool {
    match part.as_object() {
        Some(members) => members.iter().all(|(key, part)| {
            whole.get(key).is_some_and(|whole| contains(whole, part)) || (part.is_null() && whole.get(key).is_none())
        }),
        None => whole == part,
    }
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

fn controller(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

fn is_persons(object: &Value) -> bool {
    object["metadata"]["annotations"][PERSONS].is_string()
}

fn matches(object: &Value, selector: &[(String, String)]) -> bool {
    selector.iter().all(|(label, value)| object["metadata"]["labels"][label.as_str()] == value.as_str())
}

fn refusal(code: u16, reason: &str, message: &str) -> Refused {
    Refused { code, reason: reason.to_owned(), message: message.to_owned() }
}

struct Refused {
    code: u16,
    reason: String,
    message: String,
}

impl Refused {
    fn status(&self) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": self.code,
            "reason": self.reason, "message": self.message})
    }

    fn answer(&self) -> Response<Body> {
        respond(self.code, &self.status())
    }
}

fn respond(code: u16, body: &Value) -> Response<Body> {
    let answer = Response::builder().status(code).header("content-type", "application/json");
    answer.body(Body::from(body.to_string())).unwrap()
}

impl State {
    fn commit(&mut self, key: &Key, after: Option<Value>) -> Value {
        let before = self.objects.get(key).cloned();
        self.version += 1;
        let version = self.version;
        let after = after.map(|mut object| {
            let (api_version, kind) = kind(&key.0);
            object["apiVersion"] = json!(api_version);
            object["kind"] = json!(kind);
            let metadata = &mut object["metadata"];
            metadata["name"] = json!(key.1);
            metadata["namespace"] = json!(NAMESPACE);
            match &before {
                None => {
                    metadata["uid"] = json!(Uuid::new_v4());
                    metadata["creationTimestamp"] = json!(jiff::Timestamp::now().round(jiff::Unit::Second).unwrap());
                    metadata["generation"] = json!(1);
                }
                Some(before) => {
                    let generation = before["metadata"]["generation"].as_i64().unwrap_or(1);
                    let changed = i64::from(before["spec"] != object["spec"]);
                    object["metadata"]["generation"] = json!(generation + changed);
                }
            }
            object["metadata"]["resourceVersion"] = json!(version.to_string());
            object
        });
        let shown = after.clone().or_else(|| before.clone()).unwrap_or_default();
        if let Some(object) = &after {
            self.objects.insert(key.clone(), object.clone());
        } else {
            self.objects.remove(key);
            self.applied.remove(key);
        }
        // A deletion is told with the version at which it happened.
        let last = before.clone().map(|mut last| {
            if after.is_none() {
                last["metadata"]["resourceVersion"] = json!(version.to_string());
            }
            last
        });
        if key.0 == "statefulsets" && before.is_none() {
            self.claim(&shown);
        }
        self.log.push((version, key.clone(), last, after));
        shown
    }

    /// What the StatefulSet's own controller makes.
    fn claim(&mut self, set: &Value) {
        let template = &set["spec"]["volumeClaimTemplates"][0];
        let key =
            ("persistentvolumeclaims".to_owned(), format!("data-{}-0", set["metadata"]["name"].as_str().unwrap()));
        if template.is_null() || self.objects.contains_key(&key) {
            return;
        }
        let labels = &set["spec"]["selector"]["matchLabels"];
        let annotations = &template["metadata"]["annotations"];
        let claim = json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": template["spec"]});
        self.commit(&key, Some(claim));
    }

    /// Writes unless nothing changes; a held object that nothing holds any more goes.
    fn put(&mut self, key: &Key, object: Value) -> Value {
        if let Some(before) = self.objects.get(key)
            && *before == object
        {
            return object;
        }
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        if object["metadata"]["deletionTimestamp"].is_string() && !held {
            return self.commit(key, None);
        }
        self.commit(key, Some(object))
    }

    fn delete(&mut self, key: &Key) {
        let Some(mut object) = self.objects.get(key).cloned() else { return };
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        if !held {
            if key.0 == "maxchannels" {
                self.gone_unheld.insert(uid(&object).to_owned());
            }
            self.commit(key, None);
        } else if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!(jiff::Timestamp::now());
            self.commit(key, Some(object));
        }
    }

    fn preconditions(&self, key: &Key, wanted: &Value) -> Result<(), Refused> {
        let conflict =
            |what: &str| Err(refusal(409, "Conflict", &format!("Operation cannot be fulfilled: another {what}")));
        let found = self.objects.get(key);
        if let Some(wanted) = wanted["uid"].as_str()
            && found.map(uid) != Some(wanted)
        {
            return conflict("uid");
        }
        if let Some(wanted) = wanted["resourceVersion"].as_str()
            && found.and_then(|found| found["metadata"]["resourceVersion"].as_str()) != Some(wanted)
        {
            return conflict("version");
        }
        Ok(())
    }

    /// A controller's write is about to take effect.
    fn judge(&mut self, key: &Key, what: &str) {
        if ["maxchannels", "leases", "events"].contains(&key.0.as_str()) {
            return;
        }
        self.writes += 1;
        let Some(found) = self.objects.get(key) else { return };
        let channel = key.1.strip_prefix("data-").unwrap_or(&key.1);
        let channel = channel.strip_suffix("-0").unwrap_or(channel).strip_suffix("-relay").unwrap_or_default();
        let channel = self.objects.get(&("maxchannels".to_owned(), channel.to_owned()));
        // Of a channel that has just gone its objects may still be there.
        let is_channels =
            |uid_of: Option<&str>| uid_of.is_some() && channel.is_none_or(|channel| uid_of == Some(uid(channel)));
        let is_ours = match key.0.as_str() {
            "persistentvolumeclaims" if what != "DELETE" => true,
            "persistentvolumeclaims" => is_channels(found["metadata"]["annotations"][CLAIM_OF].as_str()),
            _ => is_channels(controller(found)),
        };
        if !is_ours {
            let shown = &found["metadata"];
            self.violations.push(format!("{what} {} {} onto what is not the channel's: {shown}", key.0, key.1));
        }
    }

    fn serve(&mut self, call: &Call) -> Result<(u16, Value), Refused> {
        if call.plural != "leases" && !(call.method == Method::GET && call.name.is_none()) {
            let sub = if call.is_status { "/status" } else { "" };
            *self.requests.entry(format!("{} {}{sub}", call.method, call.plural)).or_default() += 1;
        }
        let missing = || refusal(404, "NotFound", &format!("{} {:?} not found", call.plural, call.name));
        let key = (call.plural.clone(), call.name.clone().unwrap_or_default());
        match (&call.method, &call.name) {
            (&Method::GET, None) => {
                let of_kind = self.objects.iter().filter(|((plural, _), _)| *plural == call.plural);
                let items: Vec<&Value> =
                    of_kind.map(|(_, object)| object).filter(|object| matches(object, &call.selector)).collect();
                let (api_version, kind) = kind(&call.plural);
                let metadata = json!({"resourceVersion": self.version.to_string()});
                let list = json!({"apiVersion": api_version, "kind": format!("{kind}List"), "metadata": metadata, "items": items});
                Ok((200, list))
            }
            (&Method::GET, Some(_)) => Ok((200, self.objects.get(&key).cloned().ok_or_else(missing)?)),
            (&Method::POST, None) => {
                let name = call.body["metadata"]["name"].as_str().map_or_else(
                    || {
                        format!(
                            "{}{}",
                            call.body["metadata"]["generateName"].as_str().unwrap_or_default(),
                            self.version
                        )
                    },
                    ToOwned::to_owned,
                );
                let key = (call.plural.clone(), name);
                if call.plural == "events" {
                    let text = |member: &str| call.body[member].as_str().unwrap_or_default().to_owned();
                    self.told.push((text("reason"), text("note")));
                }
                if self.objects.contains_key(&key) {
                    return Err(refusal(409, "AlreadyExists", "already exists"));
                }
                self.judge(&key, "POST");
                Ok((201, self.commit(&key, Some(call.body.clone()))))
            }
            (&Method::PUT, Some(_)) => {
                self.objects.get(&key).ok_or_else(missing)?;
                self.preconditions(&key, &call.body["metadata"])?;
                self.judge(&key, "PUT");
                let mut object = call.body.clone();
                object["metadata"]["uid"] = json!(uid(&self.objects[&key]));
                Ok((200, self.put(&key, object)))
            }
            (&Method::PATCH, Some(_)) => self.patch(call, &key),
            (&Method::DELETE, Some(_)) => {
                self.objects.get(&key).ok_or_else(missing)?;
                self.preconditions(&key, &call.body["preconditions"])?;
                self.judge(&key, "DELETE");
                self.delete(&key);
                Ok((200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})))
            }
            other => panic!("the stand-in does not know {other:?}"),
        }
    }

    fn patch(&mut self, call: &Call, key: &Key) -> Result<(u16, Value), Refused> {
        self.preconditions(key, &call.body["metadata"])?;
        let found = self.objects.get(key).cloned();
        if found.is_none() && (!call.is_apply || call.is_status) {
            return Err(refusal(404, "NotFound", "not found"));
        }
        self.judge(key, "PATCH");
        let mut object = found.clone().unwrap_or_else(|| json!({"metadata": {}}));
        let mut body = call.body.clone();
        if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.remove("uid");
            metadata.remove("resourceVersion");
        }
        if call.is_status {
            // One who applies it has it as a whole.
            object["status"] = body["status"].clone();
            self.writes += u64::from(found.as_ref() != Some(&object));
        } else if call.is_apply {
            if let Some(before) = self.applied.get(key) {
                forsake(&mut object, before, &body);
            }
            merge(&mut object, &body);
            object["apiVersion"] = body["apiVersion"].clone();
            object["kind"] = body["kind"].clone();
        } else {
            merge(&mut object, &body);
        }
        let answer = self.put(key, object);
        if call.is_apply && !call.is_status {
            self.applied.insert(key.clone(), body);
        }
        Ok((if found.is_some() { 200 } else { 201 }, answer))
    }

    /// What refers to an owner that is gone goes, too.
    fn collect(&mut self) {
        let there: HashSet<String> = self.objects.values().map(|object| uid(object).to_owned()).collect();
        let orphans = self.objects.iter().filter(|(_, object)| {
            !is_persons(object) && controller(object).is_some_and(|owner| !there.contains(owner))
        });
        let orphans: Vec<Key> = orphans.map(|(key, _)| key.clone()).collect();
        for key in orphans {
            self.delete(&key);
        }
    }
}

/// One request, taken apart.
struct Call {
    method: Method,
    plural: String,
    name: Option<String>,
    is_status: bool,
    is_apply: bool,
    selector: Vec<(String, String)>,
    watch_from: Option<u64>,
    body: Value,
}

impl Call {
    async fn read(request: Request<Asked>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let query: HashMap<String, String> =
            url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let is_watch = query.get("watch").is_some_and(|watch| watch == "true" || watch == "1");
        let from = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
        let selector = query.get("labelSelector").map_or_else(Vec::new, |selector| {
            selector
                .split(',')
                .filter_map(|one| one.split_once('='))
                .map(|(label, value)| (label.to_owned(), value.trim_start_matches('=').to_owned()))
                .collect()
        });
        let mut path = parts.uri.path().split('/').skip_while(|part| *part != "namespaces").skip(1);
        let namespace = path.next().unwrap_or_default();
        let (plural, name, sub) = match path.next() {
            Some(plural) => (plural.to_owned(), path.next().map(ToOwned::to_owned), path.next()),
            None => ("namespaces".to_owned(), Some(namespace.to_owned()), None),
        };
        let is_apply =
            parts.headers.get("content-type").is_some_and(|kind| kind.to_str().unwrap().contains("apply-patch"));
        Ok(Self {
            method: parts.method,
            plural,
            name,
            is_status: sub == Some("status"),
            is_apply,
            selector,
            watch_from: is_watch.then_some(from),
            body: if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? },
        })
    }

    fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The server is not reached.
    Lost,
    /// It does what it is asked and the answer is lost.
    Unanswered,
    /// It is busy.
    Busy,
    /// Somebody was faster, it says.
    Conflict,
    /// A person puts an object of his own in the place of ours just before.
    Swapped,
    /// A field of the object cannot be changed.
    Immutable,
}

impl Server {
    pub fn new(seed: u64) -> Self {
        let server = Self(Arc::new(Shared {
            state: Mutex::default(),
            dice: Mutex::new(Random::new(seed)),
            version: watch::Sender::new(0),
            stormy: AtomicBool::new(false),
            away: AtomicBool::new(false),
        }));
        let weak = Arc::downgrade(&server.0);
        tokio::spawn(async move {
            // The garbage collector, which takes its time.
            while let Some(shared) = weak.upgrade() {
                Self(shared).change(State::collect);
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let done = change(&mut state);
        let version = state.version;
        drop(state);
        self.0.version.send_if_modified(|known| std::mem::replace(known, version) != version);
        done
    }

    /// Whether things go wrong from now on.
    pub fn storm(&self, stormy: bool) {
        self.0.stormy.store(stormy, Ordering::SeqCst);
    }

    /// Whether nobody is reached from now on.
    pub fn away(&self, away: bool) {
        self.0.away.store(away, Ordering::SeqCst);
        if away {
            // Watches notice.
            self.0.version.send_modify(|_| {});
        }
    }

    fn dice<T>(&self, throw: impl FnOnce(&mut Random) -> T) -> T {
        throw(&mut self.0.dice.lock().unwrap())
    }

    fn is_stormy(&self) -> bool {
        self.0.stormy.load(Ordering::SeqCst)
    }

    fn is_away(&self) -> bool {
        self.0.away.load(Ordering::SeqCst)
    }

    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Asked>| {
            let server = server.clone();
            async move { server.answer(Call::read(request).await?).await }
        });
        kube::Client::new(service, NAMESPACE)
    }

    fn fault(&self, call: &Call) -> Option<Fault> {
        if !self.is_stormy() || call.plural == "leases" || call.plural == "namespaces" {
            return None;
        }
        let is_owned = OWNED.contains(&call.plural.as_str());
        let one_of = self.dice(|dice| dice.below(100));
        let fault = match one_of {
            0..3 => Some(Fault::Lost),
            3..6 => Some(Fault::Busy),
            6..12 if call.is_write() => Some(Fault::Unanswered),
            12..15 if call.is_write() && call.plural != "events" => Some(Fault::Conflict),
            15..20 if call.is_write() && is_owned => Some(Fault::Swapped),
            // One that is there is changed rarely, and made by a POST.
            20..80 if call.method == Method::PATCH && call.plural == "statefulsets" => Some(Fault::Immutable),
            _ => None,
        };
        if let Some(fault) = fault {
            let name = match fault {
                Fault::Lost => "calls lost",
                Fault::Unanswered => "answers lost",
                Fault::Busy => "refused as busy",
                Fault::Conflict => "conflicts",
                Fault::Swapped => "objects swapped",
                Fault::Immutable => "fields that cannot change",
            };
            *self.state().counts.entry(name).or_default() += 1;
        }
        fault
    }

    async fn answer(&self, call: Call) -> Answer {
        if self.is_away() {
            return Err("connection refused".into());
        }
        if let Some(from) = call.watch_from {
            return Ok(self.watch(call, from));
        }
        let fault = self.fault(&call);
        if self.is_stormy() && self.dice(|dice| dice.below(10)) == 0 {
            let pause = self.dice(|dice| dice.below(400));
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        match fault {
            Some(Fault::Lost) => return Err("connection reset".into()),
            Some(Fault::Busy) => return Ok(refusal(503, "ServiceUnavailable", "etcd is away").answer()),
            Some(Fault::Conflict) => return Ok(refusal(409, "Conflict", "Operation cannot be fulfilled").answer()),
            Some(Fault::Immutable) if self.get(&call.plural, call.name.as_deref().unwrap_or_default()).is_some() => {
                let words = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden: field is immutable";
                return Ok(refusal(422, "Invalid", words).answer());
            }
            // The weather may have changed meanwhile, and nobody takes the object away again.
            Some(Fault::Swapped) if self.is_stormy() => {
                self.swap(&call.plural, call.name.as_deref().unwrap_or_default());
            }
            _ => {}
        }
        if call.plural == "namespaces" {
            // As old as the cluster.
            return Ok(respond(
                200,
                &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "cluster-1"}}),
            ));
        }
        if call.plural == "events" && call.method == Method::GET {
            return Ok(respond(200, &json!({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": []})));
        }
        let outcome = self.change(|state| state.serve(&call));
        if fault == Some(Fault::Unanswered) {
            return Err("connection reset before the answer".into());
        }
        Ok(match outcome {
            Ok((code, body)) => respond(code, &body),
            Err(refused) => refused.answer(),
        })
    }

    fn watch(&self, call: Call, from: u64) -> Response<Body> {
        if self.is_stormy() && self.dice(|dice| dice.below(20)) == 0 {
            return refusal(410, "Expired", "too old resource version").answer();
        }
        let (sender, mut receiver) = mpsc::channel::<Bytes>(16);
        let server = self.clone();
        tokio::spawn(async move {
            let mut position = from;
            let mut changed = server.0.version.subscribe();
            loop {
                changed.borrow_and_update();
                if server.is_away() {
                    return;
                }
                let next = {
                    let state = server.state();
                    let begin = state.log.partition_point(|(version, ..)| *version <= position);
                    state.log[begin..].iter().find(|(_, key, ..)| key.0 == call.plural).cloned()
                };
                let Some((version, _, before, after)) = next else {
                    tokio::select! {
                        _ = changed.changed() => continue,
                        () = sender.closed() => return,
                    }
                };
                position = version;
                let (before, after) = (
                    before.filter(|object| matches(object, &call.selector)),
                    after.filter(|object| matches(object, &call.selector)),
                );
                let (type_, object) = match (before, after) {
                    (None, Some(object)) => ("ADDED", object),
                    (Some(_), Some(object)) => ("MODIFIED", object),
                    (Some(object), None) => ("DELETED", object),
                    (None, None) => continue,
                };
                let mut line = json!({"type": type_, "object": object}).to_string().into_bytes();
                line.push(b'\n');
                let mut times = 1;
                if server.is_stormy() {
                    let (late, luck) = server.dice(|dice| (dice.below(100), dice.below(100)));
                    let pause = match late {
                        0..70 => 0,
                        70..95 => 20 + late * 3,
                        _ => 1_500,
                    };
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    match luck {
                        0..3 => return,
                        3..5 => {
                            let expired = refusal(410, "Expired", "too old resource version").status();
                            let line = format!("{}\n", json!({"type": "ERROR", "object": expired}));
                            let _ = sender.send(Bytes::from(line)).await;
                            return;
                        }
                        5..20 => times = 2,
                        _ => {}
                    }
                }
                for _ in 0..times {
                    if sender.send(Bytes::from(line.clone())).await.is_err() {
                        return;
                    }
                }
            }
        });
        let lines = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        let lines = futures::StreamExt::map(lines, Ok::<_, std::io::Error>);
        Response::builder().status(200).body(Body::from_stream(lines)).unwrap()
    }

    // ---- What people do
    // --------------------------------------------------------------------------------

    pub fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.state().objects.get(&(plural.to_owned(), name.to_owned())).cloned()
    }

    pub fn create(&self, plural: &str, name: &str, object: Value) {
        self.change(|state| state.commit(&(plural.to_owned(), name.to_owned()), Some(object)));
    }

    pub fn edit(&self, plural: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        self.change(|state| {
            let key = (plural.to_owned(), name.to_owned());
            let Some(mut object) = state.objects.get(&key).cloned() else { return };
            edit(&mut object);
            state.put(&key, object);
        });
    }

    pub fn delete(&self, plural: &str, name: &str) {
        self.change(|state| state.delete(&(plural.to_owned(), name.to_owned())));
    }

    /// A person deletes an object of ours and makes one of his own under its name, with all its
    /// labels.
    pub fn swap(&self, plural: &str, name: &str) {
        self.change(|state| {
            let key = (plural.to_owned(), name.to_owned());
            let Some(ours) =
                state.objects.get(&key).filter(|object| controller(object).is_some() && !is_persons(object)).cloned()
            else {
                return;
            };
            state.commit(&key, None);
            let mut persons = ours;
            let labels = persons["metadata"]["labels"].take();
            persons["metadata"] = json!({"labels": labels, "annotations": {PERSONS: "kept as it is"}});
            // Every other one has a controller, and that is not the channel.
            if state.log.len().is_multiple_of(2) {
                persons["metadata"]["ownerReferences"] = json!([{"apiVersion": "maxchannel.dev/v1alpha1",
                    "kind": "MaxChannel", "name": name.trim_end_matches("-relay"), "uid": "of-another-cluster",
                    "controller": true}]);
            }
            persons.as_object_mut().unwrap().remove("status");
            state.commit(&key, Some(persons));
        });
    }

    /// People take their objects away from under our names; answers how many there were.
    pub fn give_way(&self) -> usize {
        self.change(|state| {
            let persons = state.objects.iter().filter(|(_, object)| is_persons(object));
            let persons: Vec<Key> = persons.map(|(key, _)| key.clone()).collect();
            for key in &persons {
                state.commit(key, None);
            }
            persons.len()
        })
    }

    // ---- What has become of it
    // --------------------------------------------------------------------------------

    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// Writes of controllers that took effect; events and the lease aside.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    pub fn told(&self, reason: &str) -> Vec<String> {
        self.state().told.iter().filter(|(told, _)| told == reason).map(|(_, note)| note.clone()).collect()
    }

    /// Requests of controllers so far, by verb and kind; lists, watches and leases aside.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.state().requests.clone()
    }

    /// Reasons and words of all events.
    pub fn all_told(&self) -> Vec<(String, String)> {
        self.state().told.clone()
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.state().counts.clone()
    }

    /// Why a channel is not Ready as it is written now.
    pub fn not_ready(&self, name: &str) -> Option<String> {
        let Some(channel) = self.get("maxchannels", name) else { return Some(format!("{name} is not there")) };
        let ready = condition(&channel, "Ready");
        let is_new = ready["observedGeneration"] == channel["metadata"]["generation"];
        let is_ready = is_new && ready["status"] == "True";
        (!is_ready).then(|| format!("{name} is not Ready: {}", channel["status"]))
    }

    /// Why a condition of a channel has another reason than this.
    pub fn not_for(&self, name: &str, kind: &str, reason: &str) -> Option<String> {
        let found = condition(&self.get("maxchannels", name).unwrap_or_default(), kind);
        (found["reason"] != reason).then(|| format!("{name} is not {reason}: {found}"))
    }

    /// Why an object is not as a controller has last made it, if it is not.
    pub fn drift(&self, plural: &str, name: &str) -> Option<String> {
        let state = self.state();
        let key = (plural.to_owned(), name.to_owned());
        let Some(found) = state.objects.get(&key) else { return Some(format!("{plural} {name} is not there")) };
        let owner = name
            .strip_suffix("-relay")
            .and_then(|name| state.objects.get(&("maxchannels".to_owned(), name.to_owned())));
        if controller(found) != owner.map(uid) {
            return Some(format!("{plural} {name} is not the channel's: {}", found["metadata"]));
        }
        let wanted = state.applied.get(&key)?;
        (!contains(found, wanted)).then(|| format!("{plural} {name} is {found} and not {wanted}"))
    }

    /// Everything of a channel that is left. The volume claim of one that went while it had no
    /// finalizer stays for a person: nobody was asked to clean up, and to the next channel of that
    /// name it is another's.
    pub fn left(&self) -> Vec<String> {
        let state = self.state();
        let of_one_unheld = |object: &Value| {
            object["metadata"]["annotations"][CLAIM_OF].as_str().is_some_and(|uid| state.gone_unheld.contains(uid))
        };
        let ours = |(key, object): &(&Key, &Value)| match key.0.as_str() {
            "maxchannels" => true,
            "persistentvolumeclaims" => !of_one_unheld(object),
            _ => controller(object).is_some() && !is_persons(object),
        };
        state.objects.iter().filter(ours).map(|(key, object)| format!("{key:?} {}", object["metadata"])).collect()
    }
}
