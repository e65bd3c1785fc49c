//! What `plan` and `remove` have in common: every channel of some manifests, looked at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files;
use super::installation::InstallationArgs;
use crate::api::{ChannelRef, Severity};
use crate::channel::claims::{self, Claim};
use crate::channel::observe::Clients;
use crate::channel::pass;
use crate::channel::reconciler::Reconciler;
use crate::channel::report::RelayState;
use crate::channel::schedule::Subject;
use crate::channel::validate::Secrets;
use crate::local::Memory;
use crate::telemetry;
use crate::time::Clock;

/// One channel, looked at.
pub(super) struct Seen {
    pub channel: ChannelRef,
    pub reconciler: Reconciler,
    /// Why this cannot be all, one sentence each.
    pub problems: Vec<String>,
}

/// Reads the manifests and probes the external systems of every channel.
///
/// # Errors
/// A file or setting cannot be used.
pub(super) async fn observe(paths: &[PathBuf], data_dir: &Path, args: &InstallationArgs) -> Result<Vec<Seen>, String> {
    let manifests = files::read_all(paths)?;
    if let Some(error) = manifests.doubts().next() {
        return Err(error.to_string());
    }
    if manifests.channels.is_empty() {
        return Err("no MaxChannel in the files given: is the path right?".to_owned());
    }
    let (installation, is_there) = args.of_folder(data_dir)?;
    let clients = Arc::new(Clients::new(Arc::new(installation))?);
    let clock = Clock::real();
    let now = || clock.now();
    let mut secrets: BTreeMap<String, Secrets> = BTreeMap::new();
    for secret in &manifests.secrets {
        secret.data.values().for_each(telemetry::hide);
        secrets.entry(secret.namespace.clone()).or_default().insert(secret.name.clone(), secret.data.clone());
    }
    let mut seen = Vec::new();
    let mut asked = Vec::new();
    for (place, manifest) in manifests.channels.iter().enumerate() {
        let channel = ChannelRef::new(&manifest.namespace, &manifest.name);
        let memory = Memory::of(data_dir, &channel);
        let mut reconciler = Reconciler::new(channel.clone(), clients.clone(), memory.bot(), Arc::default());
        reconciler.recall(memory.standing());
        let parsed = manifest.parse().map_err(|findings| {
            let errors = findings.iter().filter(|(_, finding)| finding.severity == Severity::Error);
            errors.map(|(place, finding)| format!("{place}: {finding}")).collect::<Vec<_>>()
        });
        let own = secrets.get(&manifest.namespace).cloned().unwrap_or_default();
        reconciler.set(parsed.as_ref().map_err(Clone::clone), &own, now());
        if let Some((account_number, api_key, bot)) = reconciler.claim() {
            let created = parsed.ok().and_then(|manifest| manifest.metadata.creation_timestamp).map(|time| time.0);
            asked.push(Claim { channel: channel.clone(), created, place, account_number, api_key, bot });
        }
        seen.push(Seen { channel, reconciler, problems: Vec::new() });
    }
    let conflicts = claims::conflicts(&asked);
    for one in &mut seen {
        one.reconciler.set_conflict(conflicts.get(&one.channel).cloned());
        let absent = RelayState::Absent { detail: String::new() };
        pass::observe(&mut one.reconciler, &now).await;
        // MANGO OFFICE answers one list every two seconds, also where another command has just
        // asked.
        for _ in 0..2 {
            let status = one.reconciler.report(&absent, now());
            if !status.conditions.iter().any(|condition| condition.reason == "Throttled") {
                break;
            }
            clock.sleep(3_000).await;
            one.reconciler.ask(Subject::Mango);
            pass::observe(&mut one.reconciler, &now).await;
        }
        let status = one.reconciler.report(&absent, now());
        one.problems = status
            .conditions
            .iter()
            .filter(|condition| condition.status == "False" && LOOKS.contains(&condition.type_.as_str()))
            // What the plan is about to mend is no problem.
            .filter(|condition| !matches!(condition.reason.as_str(), "ChannelMissing" | "ChannelInactive"))
            .map(|condition| {
                let is_stranger = !is_there && ["OwnedElsewhere", "BotInUse"].contains(&condition.reason.as_str());
                let hint = if is_stranger { STRANGER } else { "" };
                format!("{} {}: {}{hint}", condition.type_, condition.reason, condition.message)
            })
            .collect();
    }
    Ok(seen)
}

/// What is said to whoever looks without an installation, where everything is another's.
const STRANGER: &str =
    " To look as the installation that serves the channel, give its --data-dir or --installation-id.";

/// The conditions that a probe alone can judge.
const LOOKS: [&str; 5] = ["SpecValid", "TokenAuthorized", "AccountReady", "ReceiverResolved", "CrmConnected"];
