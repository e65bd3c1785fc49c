//! The script of `demo --once`: what two customers and two agents do, and what each side must see
//! of it.
//!
//! Every step that has to come about is waited for with a limit of its own. The first one that does
//! not come about ends the play: what builds on it could only fail for the same reason.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::condition;
use super::stage::{Agent, IntakeChoice, ORDERS, SUPPORT, Stage, watch};
use super::table::{Table, compare};
use crate::api::{ConditionType, Reason, catalogue};
use maxchannel_simulator::creatio::OutFile;
use maxchannel_simulator::max::{Content, Draft, DraftAttachment};

/// How long the runner may take to start.
const START: Duration = Duration::from_secs(30);
/// How long a message may take.
const MESSAGE: Duration = Duration::from_secs(15);
/// The same after the kill: where an answer of MAX was lost with the process, the relay looks after
/// 5 s and after 15 s before it sends again, and MAX repeats its lost calls with growing pauses.
const RECOVERY: Duration = Duration::from_secs(40);
/// How many messages each customer and each agent sends around the kill.
const BURST: usize = 12;
/// After so many of them the runner is killed.
const BEFORE_KILL: usize = 6;

const AUTO_REPLY: &str = "Здравствуйте! Ищем свободного оператора.";
const CLOSE_MESSAGE: &str = "Спасибо за обращение! Если останутся вопросы, напишите нам снова.";
/// Small files with the beginnings of their kinds.
const PHOTO: &[u8] = b"\xff\xd8\xff\xe0 a photo of a damaged parcel";
const BILL: &[u8] = b"%PDF-1.7 a bill";
const PLAN: &[u8] = b"\x89PNG\r\n\x1a\n a plan of the way";
const CONTRACT: &[u8] = b"%PDF-1.7 a contract";

/// The play is over before its end; the table says where.
struct Ended;

type Step = Result<(), Ended>;

/// One dialog and everything that each side must have of it by now, in order. A file is named by
/// the beginning of its SHA-256.
struct Dialog {
    name: &'static str,
    user: i64,
    sender: String,
    agent: Agent,
    chat: Uuid,
    to_agent: Vec<String>,
    to_customer: Vec<String>,
}

struct Play<'a> {
    stage: &'a mut Stage,
    table: &'a mut Table,
}

/// Plays everything; the table says how it went, also where this is dropped before the end.
pub(super) async fn play(stage: &mut Stage, table: &mut Table) {
    if (Play { stage, table: &mut *table }).all().await.is_ok() {
        table.finish();
    }
}

impl Play<'_> {
    async fn all(&mut self) -> Step {
        self.is_ready("the channel becomes ready", START).await?;
        let mut dialogs = self.first_contact().await?;
        self.agents_accept(&mut dialogs).await?;
        self.text_and_files(&mut dialogs).await?;
        self.transfer(&mut dialogs).await?;
        self.kill_in_the_middle(&mut dialogs).await?;
        self.is_ready("the channel is ready again", START).await?;
        self.revoked_token().await?;
        self.close(&mut dialogs).await?;
        self.nothing_was_broken().await
    }

    /// Two customers press start at once, read the auto-reply, and write.
    async fn first_contact(&mut self) -> Result<[Dialog; 2], Ended> {
        let anna = self.done("Анна presses start", |stage| stage.customer("Анна"))?;
        let boris = self.done("Борис presses start", |stage| stage.customer("Борис"))?;
        let dialog = |name, user, agent: &Agent| Dialog {
            name,
            user,
            sender: format!("max:{user}"),
            agent: agent.clone(),
            chat: Uuid::nil(),
            to_agent: Vec::new(),
            to_customer: vec![AUTO_REPLY.to_owned()],
        };
        // Who gets whom is Creatio's decision, taken over when the chats are accepted.
        let first = &self.stage.agents[0];
        let mut dialogs = [dialog("Анна", anna, first), dialog("Борис", boris, first)];
        // Манго Диалоги tells of a customer with the first message; MAX tells of the start.
        let is_start_told = !self.by_mango();
        if is_start_told {
            self.auto_replies(&dialogs).await?;
        }
        self.say(&mut dialogs[0], "Здравствуйте! Где мой заказ № 1017?")?;
        self.say(&mut dialogs[1], "Добрый день! Пришлите, пожалуйста, договор.")?;
        for dialog in &dialogs {
            let what = format!("{}'s question is in Creatio", dialog.name);
            self.agent_sees(&what, dialog, &dialog.to_agent[0], MESSAGE).await?;
        }
        if !is_start_told {
            self.auto_replies(&dialogs).await?;
        }
        Ok(dialogs)
    }

    fn by_mango(&self) -> bool {
        self.stage.intake == IntakeChoice::MangoDialogs
    }

    async fn auto_replies(&mut self, dialogs: &[Dialog; 2]) -> Step {
        for dialog in dialogs {
            self.customer_sees(&format!("{} is shown the auto-reply", dialog.name), dialog, AUTO_REPLY, MESSAGE)
                .await?;
        }
        Ok(())
    }

    /// Creatio offers the two dialogs to two agents, who accept them.
    async fn agents_accept(&mut self, dialogs: &mut [Dialog; 2]) -> Step {
        let control = &self.stage.crm;
        let senders = [dialogs[0].sender.clone(), dialogs[1].sender.clone()];
        let offered = || async {
            senders.clone().map(|sender| {
                let chat = control.chats(Some(&sender)).pop()?;
                let id = |name: &str| chat[name].as_str().and_then(|id| Uuid::try_parse(id).ok());
                Some((id("id")?, id("directedAgentId")?))
            })
        };
        let offered = watch(MESSAGE, offered, |found| found.iter().all(Option::is_some)).await;
        let agents = self.stage.agents.clone();
        let named =
            |offer: &Option<(Uuid, Uuid)>| agents.iter().find(|agent| offer.is_some_and(|(_, id)| id == agent.id));
        let takers: BTreeSet<&str> = offered.iter().filter_map(named).map(|agent| agent.name).collect();
        let seen = takers.into_iter().collect::<Vec<_>>().join(", ");
        self.equal("Creatio offers each agent one dialog", "Мария Кузнецова, Пётр Соколов", &seen)?;
        for (dialog, offer) in dialogs.iter_mut().zip(&offered) {
            let (Some((chat, _)), Some(agent)) = (offer, named(offer)) else { return Err(Ended) };
            (dialog.chat, dialog.agent) = (*chat, agent.clone());
            let accepted = self.stage.crm.accept(dialog.chat, agent.id);
            let what = format!("{} accepts {}'s dialog", agent.name, dialog.name);
            self.equal(&what, "accepted", if accepted == Ok(true) { "accepted" } else { "refused" })?;
        }
        Ok(())
    }

    /// Text, an image and a file from either side.
    async fn text_and_files(&mut self, dialogs: &mut [Dialog; 2]) -> Step {
        let [anna, boris] = dialogs;
        let content = |bytes: &'static [u8]| Some(Content(bytes.into()));
        self.write(anna, PHOTO, DraftAttachment::Image { data: content(PHOTO) })?;
        self.write(boris, BILL, DraftAttachment::File { name: "счёт.pdf".to_owned(), data: content(BILL) })?;
        self.answer(anna, "Здравствуйте, Анна! Проверяю заказ 1017.", Vec::new())?;
        let file = |name: &str, mime: &str, bytes: &[u8]| OutFile {
            name: name.to_owned(),
            mime_type: mime.to_owned(),
            bytes: bytes.to_vec(),
        };
        let mut files = vec![file("схема.png", "image/png", PLAN), file("договор.pdf", "application/pdf", CONTRACT)];
        if self.by_mango() {
            // Agents' files do not go that way.
            files.clear();
        }
        let sent = files.len();
        self.answer(boris, "Добрый день, Борис! Договор и схема проезда:", files)?;
        for (what, dialog, bytes) in [("Анна's image", &*anna, PHOTO), ("Борис's file", &*boris, BILL)] {
            self.agent_sees(&format!("{what} is in Creatio, byte for byte"), dialog, &named(bytes), MESSAGE).await?;
        }
        let text = anna.to_customer[1].clone();
        self.customer_sees("the agent's text is with Анна", anna, &text, MESSAGE).await?;
        for (what, bytes) in [("image", PLAN), ("file", CONTRACT)].into_iter().take(sent) {
            let what = format!("the agent's {what} is with Борис, byte for byte");
            self.customer_sees(&what, boris, &named(bytes), MESSAGE).await?;
        }
        Ok(())
    }

    /// Анна's agent hands her over to the other one.
    async fn transfer(&mut self, dialogs: &mut [Dialog; 2]) -> Step {
        let anna = &mut dialogs[0];
        let Some(to) = self.stage.agents.iter().find(|agent| agent.id != anna.agent.id).cloned() else {
            return Err(Ended);
        };
        let what = format!("{} transfers Анна to {}", anna.agent.name, to.name);
        anna.chat = self.done(&what, |stage| stage.crm.transfer_to_agent(anna.chat, anna.agent.id, to.id))?;
        anna.agent = to;
        let text = "Анна, заказ уже у курьера.";
        self.answer(anna, text, Vec::new())?;
        self.customer_sees("the other agent's answer is with Анна", anna, text, MESSAGE).await?;
        self.say(anna, "Спасибо, жду!")?;
        self.agent_sees("Анна's next message is in Creatio", anna, "Спасибо, жду!", MESSAGE).await?;
        let in_chat = |entry: &Value| entry["text"] == "Спасибо, жду!" && entry["chatId"] == anna.chat.to_string();
        let found = self.stage.crm.transcript(&anna.sender).iter().any(in_chat);
        let expected = format!("in the chat of {}", anna.agent.name);
        self.equal("… and went to the other agent", &expected, if found { &expected } else { "in another chat" })
    }

    /// Everybody writes; in the middle of it the runner is killed, and started again while
    /// everybody goes on.
    async fn kill_in_the_middle(&mut self, dialogs: &mut [Dialog; 2]) -> Step {
        for number in 1..=BEFORE_KILL {
            self.everybody_writes(dialogs, number)?;
        }
        let sent = 4 * BEFORE_KILL;
        let settled: usize = dialogs.iter().map(|dialog| dialog.to_agent.len() + dialog.to_customer.len()).sum();
        let settled = settled - sent;
        let there = || dialogs.iter().map(|dialog| self.at_agent(dialog).len() + self.at_customer(dialog).len()).sum();
        let before = watch(MESSAGE, async || there(), |there: &usize| *there > settled + BEFORE_KILL).await - settled;
        self.stage.runner.kill();
        let arrived = format!("{before} of {sent}");
        let some = before > 0 && before < sent;
        self.row(
            "the relay is killed in the middle (SIGKILL)",
            "some, not all, of the messages have arrived",
            &arrived,
            some,
        )?;
        for number in BEFORE_KILL + 1..=BURST {
            self.everybody_writes(dialogs, number)?;
        }
        self.done("the relay is started again", |stage| stage.runner.spawn())?;
        for dialog in &*dialogs {
            let name = dialog.name;
            let expected = compare(&dialog.to_agent, &dialog.to_agent);
            let seen = || compare(&dialog.to_agent, &self.at_agent(dialog));
            let seen = watch(RECOVERY, async || seen(), |seen| *seen == expected).await;
            self.equal(&format!("all messages of {name} in Creatio"), &expected, &seen)?;
            let expected = compare(&dialog.to_customer, &dialog.to_customer);
            let seen = || compare(&dialog.to_customer, &self.at_customer(dialog));
            let seen = watch(RECOVERY, async || seen(), |seen| *seen == expected).await;
            self.equal(&format!("all messages to {name} in MAX"), &expected, &seen)?;
        }
        Ok(())
    }

    fn everybody_writes(&mut self, dialogs: &mut [Dialog; 2], number: usize) -> Step {
        for dialog in dialogs {
            self.say(dialog, &format!("Вопрос {number}"))?;
            self.answer(dialog, &format!("Ответ {number}"), Vec::new())?;
        }
        Ok(())
    }

    /// The second channel names the documented error and what mends it.
    async fn revoked_token(&mut self) -> Step {
        let Some(entry) = catalogue::entry(ConditionType::TokenAuthorized, Reason::TokenInvalid) else {
            return Err(Ended);
        };
        let number = entry.error.map_or_else(|| "no number".to_owned(), |number| number.to_string());
        self.equal("a revoked token is the documented error", "2", &number)?;
        let url = self.stage.runner.url.clone();
        let seen = watch(
            START,
            async || condition(&url, ORDERS, "TokenAuthorized").await,
            |seen| seen.as_ref().is_some_and(|(_, reason, _)| reason == Reason::TokenInvalid.as_str()),
        );
        let (status, reason, message) = seen.await.unwrap_or_default();
        let expected = format!("TokenAuthorized=False {}", Reason::TokenInvalid);
        self.equal("/status of the channel that has one", &expected, &format!("TokenAuthorized={status} {reason}"))?;
        let remedy = entry.text(self.stage.language).remedy;
        let seen = if message.contains(remedy) { remedy } else { &message };
        self.equal("… and its remedy", remedy, seen)
    }

    /// The agents close both dialogs.
    async fn close(&mut self, dialogs: &mut [Dialog; 2]) -> Step {
        for dialog in dialogs {
            let what = format!("{} closes {}'s dialog", dialog.agent.name, dialog.name);
            self.done(&what, |stage| stage.crm.close(dialog.chat, dialog.agent.id))?;
            dialog.to_customer.push(CLOSE_MESSAGE.to_owned());
            let what = format!("{} is shown the close message", dialog.name);
            self.customer_sees(&what, dialog, CLOSE_MESSAGE, MESSAGE).await?;
            let seen = compare(&dialog.to_customer, &self.at_customer(dialog));
            let expected = compare(&dialog.to_customer, &dialog.to_customer);
            self.equal(&format!("everything that {} was shown", dialog.name), &expected, &seen)?;
        }
        Ok(())
    }

    /// What the simulators have noticed about the whole play.
    async fn nothing_was_broken(&mut self) -> Step {
        let states = || -> Vec<String> {
            let rows = self.stage.crm.outbox();
            let of_messages = rows.iter().filter(|row| row["Kind"] == "message");
            of_messages.map(|row| row["State"].as_str().unwrap_or("not visible").to_owned()).collect()
        };
        let delivered = |states: &Vec<String>| states.iter().all(|state| state == "Delivered");
        let states = watch(MESSAGE, async || states(), delivered).await;
        let seen = states.iter().filter(|state| *state == "Delivered").count();
        let expected = format!("{} of {}", states.len(), states.len());
        let seen = format!("{seen} of {}", states.len());
        self.equal("Creatio shows its agents' messages as delivered", &expected, &seen)?;
        let violations = self.stage.crm.violations();
        let seen = violations.first().map_or_else(|| "kept".to_owned(), Value::to_string);
        self.equal("the contract with the CRM", "kept", &seen)?;
        let leaks = self.stage.max.control().statistics().tokens_at_file_hosts;
        self.equal("requests that took the bot's token to a file host", "0", &leaks.to_string())?;
        self.is_ready("the channel is ready at the end", START).await
    }

    async fn is_ready(&mut self, what: &str, at_most: Duration) -> Step {
        let url = self.stage.runner.url.clone();
        let said = async || condition(&url, SUPPORT, "Ready").await;
        let seen = watch(at_most, said, |seen| seen.as_ref().is_some_and(|seen| seen.0 == "True")).await;
        let ended = self.stage.runner.has_ended();
        let seen = match seen {
            _ if ended => "maxchannel run has ended".to_owned(),
            None => format!("no answer of /status for {} s", at_most.as_secs()),
            Some((status, _, _)) if status == "True" => "Ready=True".to_owned(),
            Some((status, reason, message)) => format!("Ready={status} {reason}: {message}"),
        };
        self.equal(what, "Ready=True", &seen)
    }

    // --- What people do.

    fn say(&mut self, dialog: &mut Dialog, text: &str) -> Step {
        dialog.to_agent.push(text.to_owned());
        self.may("the customer writes", |stage| {
            stage.max.control().say(dialog.user, stage.bot, text).map_err(|error| error.to_string())
        })
    }

    fn write(&mut self, dialog: &mut Dialog, bytes: &[u8], attachment: DraftAttachment) -> Step {
        dialog.to_agent.push(named(bytes));
        let draft = Draft::attachment(attachment);
        self.may("the customer sends a file", |stage| {
            stage.max.control().write(dialog.user, stage.bot, draft).map_err(|error| error.to_string())
        })
    }

    fn answer(&mut self, dialog: &mut Dialog, text: &str, files: Vec<OutFile>) -> Step {
        dialog.to_customer.push(text.to_owned());
        dialog.to_customer.extend(files.iter().map(|file| named(&file.bytes)));
        self.may("the agent answers", |stage| stage.crm.send(dialog.chat, dialog.agent.id, text, files))
    }

    // --- What people have.

    /// The customer's messages as Creatio shows them.
    fn at_agent(&self, dialog: &Dialog) -> Vec<String> {
        let control = &self.stage.crm;
        let name_of = |file: &Value| {
            let bytes = file["id"].as_str().and_then(|id| Uuid::try_parse(id).ok()).and_then(|id| control.file(id));
            bytes.map_or_else(|| "(a file without content)".to_owned(), |bytes| named(&bytes))
        };
        let mut all = Vec::new();
        for entry in control.transcript(&dialog.sender).iter().filter(|entry| entry["direction"] == "incoming") {
            all.extend(entry["text"].as_str().filter(|text| !text.is_empty()).map(str::to_owned));
            all.extend(entry["attachments"].as_array().into_iter().flatten().map(name_of));
        }
        all
    }

    /// The bot's messages as the customer sees them.
    fn at_customer(&self, dialog: &Dialog) -> Vec<String> {
        let control = self.stage.max.control();
        // Without a dialog nothing has been shown.
        let messages = control.transcript(dialog.user, self.stage.bot).map(|all| all.messages).unwrap_or_default();
        let name_of = |file: Option<u64>| {
            let bytes = file.and_then(|file| control.file(file).ok());
            bytes.map_or_else(|| "(a file without content)".to_owned(), |bytes| named(&bytes))
        };
        let mut all = Vec::new();
        for message in messages.into_iter().filter(|message| message.from_bot) {
            all.extend(Some(message.text).filter(|text| !text.is_empty()));
            all.extend(message.attachments.iter().map(|attachment| name_of(attachment.file)));
        }
        all
    }

    async fn agent_sees(&mut self, what: &str, dialog: &Dialog, text: &str, at_most: Duration) -> Step {
        let seen = watch(at_most, async || self.at_agent(dialog), |all| all.iter().any(|one| one == text)).await;
        self.comes(what, text, &seen, at_most)
    }

    async fn customer_sees(&mut self, what: &str, dialog: &Dialog, text: &str, at_most: Duration) -> Step {
        let seen = watch(at_most, async || self.at_customer(dialog), |all| all.iter().any(|one| one == text)).await;
        self.comes(what, text, &seen, at_most)
    }

    // --- Rows.

    /// A row about one message among those that are there.
    fn comes(&mut self, what: &str, text: &str, all: &[String], at_most: Duration) -> Step {
        if all.iter().any(|one| one == text) {
            return self.equal(what, text, text);
        }
        let last = all.last().map_or_else(|| "nothing".to_owned(), |last| format!("last: {last}"));
        self.row(what, text, &format!("not within {} s; {last}", at_most.as_secs()), false)
    }

    fn equal(&mut self, what: &str, expected: &str, seen: &str) -> Step {
        self.row(what, expected, seen, expected == seen)
    }

    /// A row about something that a person does or that is done to the runner.
    fn done<T>(&mut self, what: &str, act: impl FnOnce(&mut Stage) -> Result<T, String>) -> Result<T, Ended> {
        match act(self.stage) {
            Ok(done) => self.equal(what, "done", "done").map(|()| done),
            Err(why) => self.equal(what, "done", &why).and(Err(Ended)),
        }
    }

    /// The same where only a refusal is worth a row.
    fn may<T>(&mut self, what: &str, act: impl FnOnce(&mut Stage) -> Result<T, String>) -> Step {
        act(self.stage).map(drop).or_else(|why| self.equal(what, "done", &why))
    }

    fn row(&mut self, what: &str, expected: &str, seen: &str, ok: bool) -> Step {
        self.table.note(what, expected, seen, ok);
        if ok { Ok(()) } else { Err(Ended) }
    }
}

/// Names a file by its content.
fn named(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let beginning = hash.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    format!("{} bytes, SHA-256 {beginning:08x}…", bytes.len())
}
