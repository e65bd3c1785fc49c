//! The way in for MAX's webhooks by the Gateway API: a route of the channel's own paths at a
//! Gateway that all channels share, whose listener has the one certificate of the host.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::Blueprint;
use super::ingress::paths;
use crate::controller::names;

/// The Gateway of the installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gateway {
    pub name: String,
    pub namespace: String,
    /// Its listener with the certificate; none: every listener that takes the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// What of an HTTPRoute (gateway.networking.k8s.io/v1) is used here.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(group = "gateway.networking.k8s.io", version = "v1", kind = "HTTPRoute", plural = "httproutes", namespaced)]
#[kube(schema = "disabled", derive = "PartialEq")]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    #[serde(default)]
    pub parent_refs: Vec<Gateway>,
    #[serde(default)]
    pub hostnames: Vec<String>,
    #[serde(default)]
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    #[serde(default)]
    pub matches: Vec<Match>,
    #[serde(default)]
    pub backend_refs: Vec<Backend>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    pub path: PathMatch,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathMatch {
    pub r#type: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    pub name: String,
    pub port: i32,
}

#[must_use]
pub fn http_route(blueprint: &Blueprint) -> Option<HTTPRoute> {
    let (host, gateway) = blueprint.gateway.as_ref()?;
    let matches = paths(&blueprint.channel).into_iter().map(|(value, exact)| Match {
        path: PathMatch { r#type: if exact { "Exact" } else { "PathPrefix" }.to_owned(), value },
    });
    let mut route = HTTPRoute::new(
        &names::relay(&blueprint.channel.name),
        HttpRouteSpec {
            parent_refs: vec![gateway.clone()],
            hostnames: vec![host.clone()],
            rules: vec![Rule {
                matches: matches.collect(),
                backend_refs: vec![Backend { name: names::relay(&blueprint.channel.name), port: super::service::PORT }],
            }],
        },
    );
    route.metadata = blueprint.metadata();
    Some(route)
}
