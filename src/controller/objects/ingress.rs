//! The way in for webhooks of MAX or MANGO OFFICE and of the CRM, where the channel or the
//! installation asks for one.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    IngressTLS, ServiceBackendPort,
};

use super::{Blueprint, PORT_NAME};
use crate::contract::webhook;
use crate::controller::names;

/// Only this channel's own paths, for many channels share one host; true: exactly this path, else
/// everything under it.
pub(super) fn paths(blueprint: &Blueprint) -> [(String, bool); 2] {
    let channel = &blueprint.channel;
    let updates =
        if blueprint.is_called_by_mango { webhook::all_of_mango(channel) } else { webhook::all_of_max(channel) };
    [(updates, false), (webhook::notify_path(channel), true)]
}

#[must_use]
pub fn ingress(blueprint: &Blueprint) -> Option<Ingress> {
    let (host, desired) = blueprint.ingress.as_ref()?;
    let channel = &blueprint.channel;
    let mut metadata = blueprint.metadata();
    if !desired.annotations.is_empty() {
        metadata.annotations = Some(desired.annotations.clone());
    }
    let path = |path: String, path_type: &str| HTTPIngressPath {
        path: Some(path),
        path_type: path_type.to_owned(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: names::relay(&channel.name),
                port: Some(ServiceBackendPort { name: Some(PORT_NAME.to_owned()), number: None }),
            }),
            resource: None,
        },
    };
    let paths = paths(blueprint).into_iter();
    let paths = paths.map(|(value, exact)| path(value, if exact { "Exact" } else { "Prefix" })).collect();
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: desired.class_name.clone(),
            rules: Some(vec![IngressRule { host: Some(host.clone()), http: Some(HTTPIngressRuleValue { paths }) }]),
            tls: Some(vec![IngressTLS {
                hosts: Some(vec![host.clone()]),
                secret_name: Some(desired.tls_secret_name.clone().unwrap_or_else(|| format!("{}-tls", channel.name))),
            }]),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    })
}
