//! The switches of the page: each brings about one condition of the real thing, by what the
//! simulators can do, by an edit of the manifest that the page shows, or by the runner's clock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use maxchannel_simulator::creatio::{Answer, Fault as CrmFault, Installation, Outage};
use maxchannel_simulator::max::{BotAnswer, BotState, Fault as MaxFault, Outcome};
use serde::{Deserialize, Serialize};

use super::{Playground, edit};
use crate::cli::demo::stage::{MANIFESTS, SUPPORT_TOKEN, Stage, with_addresses};
use crate::time::Clock;

/// How much slower a slow Creatio works.
const SLOW_MS: u64 = 4_000;
/// As good as for ever.
const ALWAYS: u32 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Fault {
    CrmDown,
    CrmSlow,
    /// What reaches Creatio and MAX takes effect, and every second answer is lost.
    AnswersCut,
    RelayKilled,
    SubscriptionLost,
    PackageMissing,
    PackageOutdated,
    BotTakesDialogs,
    BotAway,
    Evening,
    Holiday,
    TokenNotFound,
    TokenInvalid,
    BotUnderModeration,
    LegalEntityAccessDenied,
    AuthorizationFailed,
    ReceiverNotSelected,
    AutoRepliesNotConfigured,
}

/// Which switches are on, and the manifest as the page shows it.
#[derive(Debug)]
pub(super) struct Switches {
    pub on: BTreeSet<Fault>,
    pub manifest: String,
    /// The manifest of the beginning.
    pub first: String,
    /// What a switch has taken out of the manifest.
    taken: BTreeMap<&'static str, String>,
    /// Counts the changes, so that each is looked at at once.
    changes: u64,
}

impl Switches {
    pub(super) fn new(stage: &Stage) -> Result<Self, String> {
        let text = MANIFESTS.iter().find(|(name, _)| *name == "support.yaml").ok_or("there is no manifest")?.1;
        let first = edit::with_hours(&with_addresses(text, &stage.crm), Clock::real().now());
        Ok(Self { on: BTreeSet::new(), manifest: first.clone(), first, taken: BTreeMap::new(), changes: 0 })
    }

    /// Puts other lines in a member's place; `None`: those that it had before.
    fn replace(&mut self, key: &'static str, lines: Option<&str>) {
        let lines = match lines {
            Some(lines) => {
                self.taken.entry(key).or_insert_with(|| edit::member(&self.manifest, key));
                lines.to_owned()
            }
            None => self.taken.remove(key).unwrap_or_default(),
        };
        self.manifest = edit::with_member(&self.manifest, key, &lines);
    }
}

/// Writes the manifest as it is shown, with the annotation that makes the runner look at everything
/// at once.
pub(super) fn apply(stage: &Stage, switches: &mut Switches) -> Result<(), String> {
    switches.changes += 1;
    let plain = "metadata: {name: support, namespace: demo}\n";
    let mark = format!(
        "metadata: {{name: support, namespace: demo, annotations: {{maxchannel.dev/reconcile-at: \"{}\"}}}}\n",
        switches.changes
    );
    let text = switches.manifest.replacen(plain, &mark, 1);
    stage.folder.write(Path::new("channels/support.yaml"), &text)
}

/// Turns a switch.
///
/// # Errors
/// One sentence.
pub(super) async fn turn(playground: &Playground, fault: Fault, on: bool) -> Result<(), String> {
    let mut stage = playground.stage.lock().await;
    if playground.switches().on.contains(&fault) == on && fault != Fault::SubscriptionLost {
        return Ok(());
    }
    external(playground, &mut stage, fault, on)?;
    let mut switches = playground.switches();
    if on {
        for other in excluded(fault) {
            switches.on.remove(other);
        }
        switches.on.insert(fault);
    } else {
        switches.on.remove(&fault);
    }
    in_manifest(playground, &mut switches, fault, on);
    // A lost subscription is found by the runner itself, within a minute: to look at once would
    // only hide it. The runner reads the files when it starts.
    match fault {
        Fault::SubscriptionLost | Fault::RelayKilled => Ok(()),
        _ => apply(&stage, &mut switches),
    }
}

/// Switches that cannot be on together with this one.
fn excluded(fault: Fault) -> &'static [Fault] {
    match fault {
        Fault::Evening => &[Fault::Holiday],
        Fault::Holiday => &[Fault::Evening],
        Fault::BotUnderModeration => &[Fault::LegalEntityAccessDenied, Fault::AuthorizationFailed],
        Fault::LegalEntityAccessDenied => &[Fault::BotUnderModeration, Fault::AuthorizationFailed],
        Fault::AuthorizationFailed => &[Fault::BotUnderModeration, Fault::LegalEntityAccessDenied],
        Fault::BotTakesDialogs => &[Fault::ReceiverNotSelected],
        Fault::ReceiverNotSelected => &[Fault::BotTakesDialogs],
        _ => &[],
    }
}

/// What the simulators and the processes do.
fn external(playground: &Playground, stage: &mut Stage, fault: Fault, on: bool) -> Result<(), String> {
    let max = stage.max.control();
    let refused = |status: u16, code: &str, message: &str| {
        let answer = BotAnswer { status, code: code.to_owned(), message: message.to_owned() };
        let becomes = if on { BotState::Refused(answer) } else { BotState::Active };
        max.set_bot_state(stage.bot, becomes).map_err(|error| error.to_string())
    };
    match fault {
        Fault::CrmDown => stage.crm.simulator()?.outage(on.then_some(Outage::BadGateway)),
        Fault::CrmSlow | Fault::AnswersCut => {
            let crm = stage.crm.simulator()?;
            crm.clear_faults();
            max.clear_faults();
            let mut wanted = playground.switches().on.clone();
            if on {
                wanted.insert(fault)
            } else {
                wanted.remove(&fault)
            };
            let receive = |rule: CrmFault| CrmFault { path: "/rest/MaxChannelService/receive".to_owned(), ..rule };
            if wanted.contains(&Fault::AnswersCut) {
                for skip in 0..8 {
                    crm.fault(receive(CrmFault { skip, answer: Answer::Drop, ..CrmFault::default() }));
                }
                max.add_fault(MaxFault {
                    method: Some("POST".to_owned()),
                    path: Some("/messages".to_owned()),
                    times: 3,
                    effect: true,
                    outcome: Outcome::Drop,
                    ..MaxFault::default()
                });
            }
            if wanted.contains(&Fault::CrmSlow) {
                crm.fault(receive(CrmFault { work_ms: SLOW_MS, count: ALWAYS, ..CrmFault::default() }));
            }
        }
        Fault::RelayKilled if on => stage.runner.kill(),
        Fault::RelayKilled => stage.runner.spawn()?,
        Fault::SubscriptionLost if on => max.drop_subscriptions(stage.bot).map_err(|error| error.to_string())?,
        Fault::PackageMissing => stage.crm.simulator()?.install_package(!on),
        Fault::PackageOutdated => {
            let version = if on { "0.9.0" } else { "1.0.0" };
            stage.crm.simulator()?.installer(version, Installation::default(), 0);
        }
        Fault::BotAway => playground.bot.set_away(on),
        Fault::TokenNotFound => {
            let secrets = MANIFESTS.iter().find(|(name, _)| *name == "secrets.yaml").map_or("", |(_, text)| *text);
            let token = format!("stringData: {{token: {SUPPORT_TOKEN}}}");
            let text = if on { secrets.replace(&token, "stringData: {}") } else { secrets.to_owned() };
            stage.folder.write(Path::new("channels/secrets.yaml"), &text)?;
        }
        Fault::TokenInvalid if on => max.revoke_token(stage.bot).map_err(|error| error.to_string())?,
        Fault::TokenInvalid => {
            let given = max.issue_token(stage.bot, Some(SUPPORT_TOKEN.to_owned()));
            given.map(drop).map_err(|error| error.to_string())?;
        }
        Fault::BotUnderModeration => refused(403, "chat.denied", "Бот ещё на модерации")?,
        Fault::LegalEntityAccessDenied => refused(403, "chat.denied", "Доступ юридического лица закрыт")?,
        Fault::AuthorizationFailed => refused(403, "access.denied", "Нет доступа")?,
        Fault::Evening | Fault::Holiday => {
            let now = Clock::real().now();
            let manifest = playground.switches().manifest.clone();
            let at = match (on, fault) {
                (false, _) => now,
                (true, Fault::Evening) => edit::evening(&manifest, now)?,
                (true, _) => edit::holiday(&manifest, now)?,
            };
            stage.runner.move_clock(at - now)?;
        }
        Fault::SubscriptionLost
        | Fault::BotTakesDialogs
        | Fault::ReceiverNotSelected
        | Fault::AutoRepliesNotConfigured => {}
    }
    Ok(())
}

/// What is written into the manifest, where everybody can read it.
fn in_manifest(playground: &Playground, switches: &mut Switches, fault: Fault, on: bool) {
    match fault {
        Fault::BotTakesDialogs => {
            let url = &playground.bot.url;
            let bot = format!(
                "  receiver:\n    bot: {{url: \"{url}\", timeout: 2s, fallback: {{group: {{name: Поддержка}}}}}}\n"
            );
            switches.replace("receiver", on.then_some(bot.as_str()));
        }
        Fault::ReceiverNotSelected => switches.replace("receiver", on.then_some("")),
        Fault::AutoRepliesNotConfigured => {
            switches.replace("autoReplies", on.then_some(""));
            switches.replace("offHours", on.then_some(""));
        }
        _ => {}
    }
}

/// A manifest typed on the page: what switches have changed in the old one is no longer remembered.
pub(super) async fn write_manifest(playground: &Playground, text: String) -> Result<(), String> {
    let stage = playground.stage.lock().await;
    let mut switches = playground.switches();
    switches.manifest = text;
    switches.taken.clear();
    let edits = [Fault::BotTakesDialogs, Fault::ReceiverNotSelected, Fault::AutoRepliesNotConfigured];
    switches.on.retain(|fault| !edits.contains(fault));
    apply(&stage, &mut switches)
}
