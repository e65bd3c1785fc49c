//! What can be done on the page: a customer's, an agent's or an owner's act, one JSON object each.

use base64::Engine as _;
use maxchannel_simulator::creatio::OutFile;
use maxchannel_simulator::max::{Content, DialogAction, Draft, DraftAttachment, PressWhat};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Playground;
use super::faults::{self, Fault};
use crate::cli::admin;
use crate::cli::demo::stage::{NAMESPACE, SUPPORT, Stage};
use crate::contract::admin::{Replay, Replayed, SOCKET};

/// The most messages that one act writes.
const BURST: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Act {
    /// A customer presses start.
    Start {
        user: i64,
    },
    /// A customer writes.
    Write {
        user: i64,
        #[serde(default)]
        text: String,
        #[serde(default)]
        files: Vec<Given>,
    },
    /// A customer presses a button of the bot.
    Press {
        user: i64,
        mid: String,
        button: String,
    },
    /// A customer writes many messages at once.
    Burst {
        user: i64,
        count: usize,
    },
    /// An agent takes a dialog.
    Accept {
        chat: Uuid,
        agent: Uuid,
    },
    /// An agent answers.
    Send {
        chat: Uuid,
        agent: Uuid,
        #[serde(default)]
        text: String,
        #[serde(default)]
        files: Vec<Given>,
    },
    Transfer {
        chat: Uuid,
        agent: Uuid,
        to: Uuid,
    },
    Close {
        chat: Uuid,
        agent: Uuid,
    },
    /// An employee joins or leaves the group in MANGO OFFICE.
    Member {
        employee: i64,
        member: bool,
    },
    Fault {
        name: Fault,
        on: bool,
    },
    /// Everything as it was at the beginning, but for what was said.
    Mend,
    Manifest {
        text: String,
    },
    /// The manifest as it was at the beginning.
    FirstManifest,
    /// Dead letters of the channel are tried again.
    Replay,
}

/// A file that somebody sends.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Given {
    name: String,
    #[serde(default)]
    mime_type: String,
    base64: String,
}

impl Given {
    fn bytes(&self) -> Result<Vec<u8>, String> {
        base64::engine::general_purpose::STANDARD
            .decode(&self.base64)
            .map_err(|_| format!("{} is no base64", self.name))
    }

    fn as_attachment(&self) -> Result<DraftAttachment, String> {
        let data = Some(Content(self.bytes()?.into()));
        Ok(match self.mime_type.split('/').next() {
            Some("image") => DraftAttachment::Image { data },
            Some("audio") => DraftAttachment::Audio { data },
            Some("video") => DraftAttachment::Video { data },
            _ => DraftAttachment::File { name: self.name.clone(), data },
        })
    }

    fn as_file(&self) -> Result<OutFile, String> {
        let mime = if self.mime_type.is_empty() { "application/octet-stream" } else { &self.mime_type };
        Ok(OutFile { name: self.name.clone(), mime_type: mime.to_owned(), bytes: self.bytes()? })
    }
}

/// Does it; the answer is for the page.
///
/// # Errors
/// One sentence: why not.
pub(super) async fn perform(playground: &Playground, act: Act) -> Result<Value, String> {
    match act {
        Act::Fault { name, on } => faults::turn(playground, name, on).await?,
        Act::Mend => {
            let on = playground.switches().on.clone();
            for fault in on {
                faults::turn(playground, fault, false).await?;
            }
        }
        Act::Manifest { text } => faults::write_manifest(playground, text).await?,
        Act::FirstManifest => {
            let text = playground.switches().first.clone();
            faults::write_manifest(playground, text).await?;
        }
        Act::Replay => return replay(playground).await,
        act => {
            let stage = playground.stage.lock().await;
            on_stage(&stage, act)?;
        }
    }
    Ok(json!({}))
}

fn on_stage(stage: &Stage, act: Act) -> Result<(), String> {
    let (max, crm) = (stage.max.control(), &stage.crm);
    let refused = |error: maxchannel_simulator::max::ControlError| error.to_string();
    match act {
        Act::Start { user } => max.act(user, stage.bot, DialogAction::Start(None)).map(drop).map_err(refused),
        Act::Write { user, text, files } => {
            let attachments = files.iter().map(Given::as_attachment).collect::<Result<_, _>>()?;
            let draft = Draft { text, attachments, ..Draft::default() };
            max.write(user, stage.bot, draft).map(drop).map_err(refused)
        }
        Act::Press { user, mid, button } => max.press(user, &mid, &PressWhat::Text(button)).map(drop).map_err(refused),
        Act::Burst { user, count } => {
            for number in 1..=count.min(BURST) {
                max.say(user, stage.bot, &format!("№ {number}")).map_err(refused)?;
            }
            Ok(())
        }
        Act::Accept { chat, agent } => {
            if crm.accept(chat, agent)? {
                Ok(())
            } else {
                Err("another agent was faster".to_owned())
            }
        }
        Act::Send { chat, agent, text, files } => {
            let files = files.iter().map(Given::as_file).collect::<Result<_, _>>()?;
            crm.send(chat, agent, &text, files)
        }
        Act::Transfer { chat, agent, to } => crm.transfer_to_agent(chat, agent, to).map(drop),
        Act::Close { chat, agent } => crm.close(chat, agent),
        Act::Member { employee, member } => {
            let mango = stage.mango.control();
            let mut group = mango.groups().into_iter().next().unwrap_or_default();
            group.members.retain(|one| *one != employee);
            if member {
                group.members.push(employee);
            }
            mango.put_group(group);
            Ok(())
        }
        // Done by whoever calls this.
        Act::Fault { .. } | Act::Mend | Act::Manifest { .. } | Act::FirstManifest | Act::Replay => Ok(()),
    }
}

async fn replay(playground: &Playground) -> Result<Value, String> {
    let folder = playground.stage.lock().await.folder.path().join("data").join(NAMESPACE).join(SUPPORT);
    let wanted = Replay { all: true, ..Replay::default() };
    let done: Replayed = admin::ask(&folder.join(SOCKET), "/dead-letters/replay", Some(&wanted)).await?;
    Ok(json!({"replayed": done.replayed.len()}))
}
