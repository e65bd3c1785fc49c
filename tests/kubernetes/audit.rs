//! What the API server's audit log says about who did what.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};

use serde_json::Value;

use crate::world::Cluster;

/// A place in the log.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// One request that was answered.
#[derive(Clone, Debug)]
pub struct Request {
    pub user: String,
    pub agent: String,
    pub verb: String,
    pub group: String,
    /// With the subresource, as in a rule: `maxchannels/status`.
    pub resource: String,
    #[allow(dead_code, reason = "shown where a test fails")]
    pub name: String,
    pub code: u64,
    /// The authorizer's own word, which tells a missing right from a quota, a policy or a namespace
    /// that is going, all of them 403.
    pub is_unauthorized: bool,
    /// When it was received.
    pub at: jiff::Timestamp,
}

impl Request {
    /// Whether it needs this right.
    pub fn asks(&self, (group, resource, verb): &Right) -> bool {
        self.group == *group && self.resource == *resource && self.verb == *verb
    }

    pub fn is_write(&self) -> bool {
        !["get", "list", "watch"].contains(&self.verb.as_str())
    }

    pub fn read(line: &Value) -> Option<Self> {
        let text = |pointer: &str| line.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        // A watch has two stages; either shows it.
        let object = line.get("objectRef")?;
        let sub = object["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
        let impersonated = text("/impersonatedUser/username");
        Some(Self {
            user: if impersonated.is_empty() { text("/user/username") } else { impersonated },
            agent: text("/userAgent"),
            verb: text("/verb"),
            group: text("/objectRef/apiGroup"),
            resource: format!("{}{sub}", object["resource"].as_str().unwrap_or_default()),
            name: text("/objectRef/name"),
            is_unauthorized: text("/annotations/authorization.k8s.io~1decision") == "forbid",
            code: line.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or(0),
            at: text("/requestReceivedTimestamp").parse().ok()?,
        })
    }
}

/// The end of the log now.
pub fn mark(cluster: &Cluster) -> Mark {
    Mark(std::fs::metadata(path(cluster)).unwrap().len())
}

/// All requests since, by users that `of` takes.
pub fn since(cluster: &Cluster, mark: Mark, of: impl Fn(&str) -> bool) -> Vec<Request> {
    let mut file = File::open(path(cluster)).unwrap();
    file.seek(SeekFrom::Start(mark.0)).unwrap();
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    let parsed = lines.filter_map(|line| Request::read(&serde_json::from_str(&line).ok()?));
    parsed.filter(|request| of(&request.user)).collect()
}

/// Group, resource and verb of a request.
pub type Right = (String, String, String);

/// The rights that were used since `mark`, and those that were asked for and not given.
#[derive(Debug, Default)]
pub struct Rights {
    pub used: BTreeSet<Right>,
    pub refused: BTreeSet<Right>,
}

pub fn rights(cluster: &Cluster, mark: Mark, of: impl Fn(&str) -> bool) -> Rights {
    rights_of(since(cluster, mark, of))
}

/// The rights that requests have used or asked for.
pub fn rights_of(requests: impl IntoIterator<Item = Request>) -> Rights {
    let mut rights = Rights::default();
    for request in requests {
        // An apply that makes an object needs both rights.
        let made = (request.verb == "patch" && request.code == 201).then(|| "create".to_owned());
        let Request { group, resource, verb, .. } = request;
        let asked = made.into_iter().chain([verb]).map(|verb| (group.clone(), resource.clone(), verb));
        if request.is_unauthorized {
            rights.refused.extend(asked);
        } else if request.code != 403 {
            rights.used.extend(asked);
        }
    }
    rights
}

/// From the beginning of the cluster.
pub fn beginning() -> Mark {
    Mark(0)
}

/// The ServiceAccounts of releases in the tests' namespaces.
pub fn is_controller(user: &str) -> bool {
    user.starts_with("system:serviceaccount:t") && user.ends_with("-maxchannel")
}

fn path(cluster: &Cluster) -> std::path::PathBuf {
    let given = std::env::var_os("CLUSTER_AUDIT_LOG");
    given.map_or_else(|| cluster.state.join("audit.log"), Into::into)
}
