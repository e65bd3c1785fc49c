//! Whole objects against what was looked at once: a field that appears or goes is seen.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::contract::RelayConfig;
use crate::contract::config::{ChannelConfig, FORMAT, Intake, MaxConfig, Secrets};

fn blueprint(spec: &Value) -> Blueprint {
    with_pods(spec, &pods(json!({})))
}

fn pods(network: Value) -> RelayPods {
    RelayPods {
        listen: "::".parse().unwrap(),
        run_as_user: Some(65532),
        network: serde_json::from_value(network).unwrap(),
        gateway: None,
        extras: PodExtras::default(),
    }
}

fn with_pods(spec: &Value, pods: &RelayPods) -> Blueprint {
    let mut whole = json!({
        "apiVersion": "maxchannel.dev/v1alpha1", "kind": "MaxChannel", "metadata": {"name": "support", "namespace": "crm"},
        "spec": {
            "tokenSecretRef": {"name": "max-bot"},
            "mango": {"accountNumber": "400012345", "credentialsSecretRef": {"name": "mango-api"}},
            "creatio": {"url": "https://acme.creatio.com", "credentialsSecretRef": {"name": "creatio"}},
        },
    });
    for (member, value) in spec.as_object().unwrap() {
        whole["spec"][member] = value.clone();
    }
    let manifest = api::parse(&whole).unwrap();
    let owner = OwnerReference {
        api_version: api::API_VERSION.to_owned(),
        kind: api::KIND.to_owned(),
        name: "support".to_owned(),
        uid: "4711".to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    Blueprint::new(
        &ChannelRef::new("crm", "support"),
        &manifest,
        Some(owner),
        "registry.example/maxchannel:1",
        None,
        &BTreeMap::new(),
        pods,
    )
}

#[test]
fn a_channel_that_says_nothing_gets_these_objects() {
    let blueprint = blueprint(&json!({}));
    insta::assert_yaml_snapshot!("stateful_set", stateful_set(&blueprint));
    insta::assert_yaml_snapshot!("service", service(&blueprint));
    insta::assert_yaml_snapshot!("service_account", service_account(&blueprint));
    insta::assert_yaml_snapshot!("network_policy", network_policy(&blueprint));
    assert_eq!(ingress(&blueprint), None);
}

#[test]
fn a_channel_that_says_everything_gets_these_objects() {
    let blueprint = blueprint(&json!({
        "intake": {"webhook": {"host": "max.acme.ru", "ingress": {"className": "nginx", "annotations": {"cert-manager.io/cluster-issuer": "acme"}}}},
        "relay": {
            "storage": {"volumeClaim": {"size": "5Gi", "storageClassName": "fast"}},
            "resources": {"requests": {"cpu": "20m"}, "limits": {"memory": "128Mi"}},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "relay", "operator": "Exists", "effect": "NoSchedule"}],
            "imagePullSecrets": [{"name": "registry"}],
        },
    }));
    insta::assert_yaml_snapshot!("stateful_set_of_everything", stateful_set(&blueprint));
    insta::assert_yaml_snapshot!("ingress", ingress(&blueprint));
}

#[test]
fn a_relay_lets_in_the_controller_webhooks_and_the_reader_of_metrics_and_nobody_else_where_they_are_known() {
    let peer = |label: &str| json!({"podSelector": {"matchLabels": {"app": label}}});
    let (controller, ingress, monitoring) = (peer("controller"), peer("ingress"), peer("monitoring"));
    let webhook = json!({"intake": {"webhook": {"host": "max.acme.ru"}}});
    let polls = json!({"intake": {"longPoll": {}}});
    for (spec, ingress_from, scrape_from, expected) in [
        (&webhook, vec![&ingress], vec![&monitoring], Some(vec![&controller, &ingress, &monitoring])),
        (&polls, vec![&ingress], vec![&monitoring], Some(vec![&controller, &monitoring])),
        (&polls, vec![], vec![&monitoring], Some(vec![&controller, &monitoring])),
        (&webhook, vec![], vec![&monitoring], None),
        (&webhook, vec![&ingress], vec![], None),
        (&webhook, vec![], vec![], None),
    ] {
        let network = json!({"controller": [controller], "ingress": ingress_from, "monitoring": scrape_from});
        let policy = network_policy(&with_pods(spec, &pods(network.clone())));
        let policy = serde_json::to_value(policy).unwrap();
        assert_eq!(policy["spec"]["ingress"][0].get("from"), expected.map(|peers| json!(peers)).as_ref(), "{network}");
        assert_eq!(policy["spec"]["ingress"][0]["ports"], json!([{"port": "http", "protocol": "TCP"}]));
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]), "it may go anywhere");
    }
    let rule = json!({"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"port": 3128, "protocol": "TCP"}]});
    let policy = network_policy(&with_pods(&webhook, &pods(json!({"egress": [rule]}))));
    let policy = serde_json::to_value(policy).unwrap();
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"], json!([rule]));
}

#[test]
fn a_host_has_one_gateway_with_one_certificate_and_each_channel_a_route_of_its_own_paths() {
    let gateway = json!({"name": "public", "namespace": "edge", "sectionName": "https"});
    let shared = RelayPods { gateway: Some(serde_json::from_value(gateway).unwrap()), ..pods(json!({})) };
    let webhook = json!({"intake": {"webhook": {"host": "max.acme.ru"}}});
    let blueprint = with_pods(&webhook, &shared);
    assert_eq!(ingress(&blueprint), None, "no certificate of its own");
    insta::assert_yaml_snapshot!("http_route", http_route(&blueprint));
    let own = json!({"intake": {"webhook": {"host": "max.acme.ru", "ingress": {"className": "nginx"}}}});
    let own = with_pods(&own, &shared);
    assert!(ingress(&own).is_some() && http_route(&own).is_none(), "a channel's own ingress counts");
    for no_host in [json!({"intake": {"longPoll": {}}}), json!({"intake": {"webhook": {"url": "https://acme.ru"}}})] {
        assert_eq!(http_route(&with_pods(&no_host, &shared)), None, "{no_host}");
    }
}

/// Its intake names no host: the installation's is the only one that it can have.
#[test]
fn what_mango_office_calls_has_its_own_path_at_the_host_of_the_installation_and_lets_it_in() {
    let gateway = json!({"name": "public", "namespace": "edge"});
    let shared = RelayPods { gateway: Some(serde_json::from_value(gateway).unwrap()), ..pods(json!({})) };
    let class: api::Ingress = serde_json::from_value(json!({"className": "nginx"})).unwrap();
    let (mango, polls) = (json!({"intake": {"mangoDialogs": {}}}), json!({"intake": {"longPoll": {}}}));
    let at = |spec, pods, host, ingress| with_pods(spec, pods).with_public_host(host, ingress);
    let alone = pods(json!({}));
    let own = at(&mango, &alone, Some("max.acme.ru"), Some(&class));
    assert!(own.takes_webhooks && http_route(&own).is_none());
    let made = serde_json::to_value(ingress(&own).unwrap()).unwrap();
    assert_eq!(made["spec"]["rules"][0]["host"], "max.acme.ru");
    let path =
        |path: &Value| (path["path"].as_str().unwrap().to_owned(), path["pathType"].as_str().unwrap().to_owned());
    let paths: Vec<_> = made["spec"]["rules"][0]["http"]["paths"].as_array().unwrap().iter().map(path).collect();
    let pair = |path: &str, kind: &str| (path.to_owned(), kind.to_owned());
    let expected = [pair("/webhooks/mango/crm/support/", "Prefix"), pair("/webhooks/creatio/crm/support", "Exact")];
    assert_eq!(paths, expected);
    let by_route = at(&mango, &shared, Some("max.acme.ru"), None);
    let route = http_route(&by_route).unwrap();
    assert!(by_route.takes_webhooks && ingress(&by_route).is_none());
    assert_eq!(route.spec.rules[0].matches[0].path.value, "/webhooks/mango/crm/support/");
    for (spec, host) in [(&mango, None), (&polls, Some("max.acme.ru"))] {
        let closed = at(spec, &shared, host, None);
        assert!(!closed.takes_webhooks && ingress(&closed).is_none() && http_route(&closed).is_none(), "{spec}");
    }
}

#[test]
fn what_the_installation_puts_on_every_relays_pod_is_there_and_never_in_the_place_of_what_selects_it() {
    let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"});
    let affinity =
        json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}});
    let extras = serde_json::from_value(json!({
        "affinity": affinity, "topologySpreadConstraints": [constraint], "priorityClassName": "high",
        "labels": {"team": "crm", "app.kubernetes.io/component": "another"}, "annotations": {"note": "yes"},
    }));
    let given = RelayPods { extras: extras.unwrap(), ..pods(json!({})) };
    let set = serde_json::to_value(stateful_set(&with_pods(&json!({}), &given))).unwrap();
    let (selector, template) = (&set["spec"]["selector"]["matchLabels"], &set["spec"]["template"]);
    assert_eq!(template["metadata"]["annotations"], json!({"note": "yes"}));
    let mut labels = selector.clone();
    labels["team"] = json!("crm");
    assert_eq!(template["metadata"]["labels"], labels);
    assert_eq!(selector["app.kubernetes.io/component"], "relay");
    assert_eq!(template["spec"]["affinity"], affinity);
    assert_eq!(template["spec"]["topologySpreadConstraints"], json!([constraint]));
    assert_eq!(template["spec"]["priorityClassName"], "high");
}

#[test]
fn the_platform_chooses_the_user_where_none_is_given_and_the_relay_listens_where_it_is_told() {
    let given = RelayPods { listen: "0.0.0.0".parse().unwrap(), run_as_user: None, ..pods(json!({})) };
    let set = serde_json::to_value(stateful_set(&with_pods(&json!({}), &given))).unwrap();
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(
        pod["securityContext"],
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}),
        "no user, no group"
    );
    assert_eq!(pod["volumes"][0]["secret"]["defaultMode"], 0o444, "and the image's user must read it");
    assert_eq!(pod["containers"][0]["args"][4], "0.0.0.0:8080");
}

#[test]
fn an_ephemeral_relay_has_no_claim_and_the_configuration_is_no_part_of_the_pod() {
    let blueprint = blueprint(&json!({"relay": {"storage": {"ephemeral": {}}}}));
    let set = serde_json::to_value(stateful_set(&blueprint)).unwrap();
    assert_eq!(set.pointer("/spec/volumeClaimTemplates"), None);
    assert_eq!(set.pointer("/spec/template/spec/volumes/1"), Some(&json!({"name": "data", "emptyDir": {}})));
    let other = super::tests::blueprint(&json!({
        "relay": {"storage": {"ephemeral": {}}}, "autoReplies": [{"after": "1s", "text": "x"}], "suspend": true,
    }));
    assert_eq!(stateful_set(&other), stateful_set(&blueprint), "only image and resources start the pod anew");
}

#[test]
fn the_secret_holds_what_the_relay_reads() {
    let config = RelayConfig {
        channel: ChannelConfig {
            format: FORMAT,
            revision: "1".to_owned(),
            namespace: "crm".to_owned(),
            name: "support".to_owned(),
            installation: Some("prod".to_owned()),
            bot_user_id: 7,
            max: MaxConfig { base_url: "https://platform.example".parse().unwrap(), overridden: false, ca_pem: None },
            intake: Intake::LongPoll,
            creatio: None,
            rules: crate::policy::Rules::default(),
            bot: None,
            off_hours_bot: None,
            retention_seconds: 1,
            suspended: false,
            mango: None,
            sources: Vec::new(),
            log_level: None,
        },
        secrets: Secrets {
            token: SecretString::from("invented-token"),
            webhook: Vec::new(),
            creatio: None,
            mango: None,
            notify: None,
            bot: None,
            off_hours_bot: None,
        },
    };
    let folder = tempfile::tempdir().unwrap();
    let secret = secret(&blueprint(&json!({})), &config);
    assert_eq!(secret.metadata.name.as_deref(), Some("support-relay"));
    for (name, value) in secret.data.unwrap() {
        std::fs::write(folder.path().join(name), value.0).unwrap();
    }
    assert_eq!(RelayConfig::read(folder.path()).unwrap().channel, config.channel);
}
