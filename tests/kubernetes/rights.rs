//! The rights that the chart grants are those that are used, no more and no fewer.
//!
//! Read from the audit log of all tests before it, so it is run after them: `cargo test --test kubernetes -- --ignored rights`.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::audit;
use crate::world::{Cluster, helm, root};

type Right = (String, String, String);

/// Granted and not seen in the log.
const UNSEEN: &[(&str, &str, &str, &str)] = &[(
    "maxchannel.dev",
    "maxchannels/finalizers",
    "update",
    "asked for by an admission plugin (OwnerReferencesPermissionEnforcement), which is off by default",
)];

fn granted() -> BTreeSet<Right> {
    let mut command = Command::new(helm());
    command.args(["template", "x"]).arg(root().join("charts/maxchannel")).args(["--set", "watchNamespaces={n}"]);
    let output = command.output().unwrap();
    assert!(output.status.success());
    let mut rights = BTreeSet::new();
    for document in serde_yaml::Deserializer::from_slice(&output.stdout) {
        let object: Value = serde::Deserialize::deserialize(document).unwrap();
        if object["kind"] != "Role" {
            continue;
        }
        let texts = |rule: &Value, member: &str| -> Vec<String> {
            rule[member].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        for rule in object["rules"].as_array().unwrap() {
            for group in texts(rule, "apiGroups") {
                for resource in texts(rule, "resources") {
                    for verb in texts(rule, "verbs") {
                        rights.insert((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
    }
    rights
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "reads what all other tests have done: run after them"]
async fn the_rights_granted_are_the_rights_used() {
    let Some(cluster) = Cluster::with_node().await else { return };
    let used = audit::used(&cluster);
    let granted = granted();
    let unseen: BTreeSet<Right> =
        UNSEEN.iter().map(|(group, resource, verb, _)| ((*group).into(), (*resource).into(), (*verb).into())).collect();
    let superfluous: Vec<&Right> =
        granted.iter().filter(|right| !used.contains(*right) && !unseen.contains(*right)).collect();
    let missing: Vec<&Right> = used.iter().filter(|right| !granted.contains(*right)).collect();
    assert!(
        superfluous.is_empty() && missing.is_empty(),
        "granted and not used: {superfluous:#?}\nused and not granted: {missing:#?}"
    );
}
