//! The way in for webhooks by the Gateway API: a route of the channel's own paths at a
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

/// The Gateway that a route hangs on, as the server has it: with what it fills in, and with what
/// people may have written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentRef {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// What of an HTTPRoute (gateway.networking.k8s.io/v1) is used here. Whatever stands in the cluster
/// must be readable, or the pass would break off before it could be put right.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(group = "gateway.networking.k8s.io", version = "v1", kind = "HTTPRoute", plural = "httproutes", namespaced)]
#[kube(schema = "disabled", derive = "PartialEq")]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
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

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Match {
    pub path: PathMatch,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathMatch {
    pub r#type: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backend {
    pub name: String,
    pub port: i32,
}

#[must_use]
pub fn http_route(blueprint: &Blueprint) -> Option<HTTPRoute> {
    let (host, gateway) = blueprint.gateway.as_ref()?;
    let matches = paths(blueprint).into_iter().map(|(value, exact)| Match {
        path: PathMatch { r#type: if exact { "Exact" } else { "PathPrefix" }.to_owned(), value },
    });
    let mut route = HTTPRoute::new(
        &names::relay(&blueprint.channel.name),
        HttpRouteSpec {
            parent_refs: vec![ParentRef {
                name: gateway.name.clone(),
                namespace: Some(gateway.namespace.clone()),
                section_name: gateway.section_name.clone(),
            }],
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_is_read_whatever_the_server_has_filled_in_and_whatever_a_person_has_left() {
        for spec in [
            json!({"parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "edge"}],
                "rules": [{"matches": [{"path": {"type": "Exact", "value": "/x"}}],
                    "backendRefs": [{"group": "", "kind": "Service", "name": "x", "port": 80, "weight": 1}]}]}),
            json!({"parentRefs": [{"name": "public", "port": 443}], "rules": [{"matches": [{"headers": []}], "filters": []}]}),
            json!({}),
        ] {
            let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "x"}, "spec": spec});
            assert!(serde_json::from_value::<HTTPRoute>(route.clone()).is_ok(), "{route}");
        }
    }
}
