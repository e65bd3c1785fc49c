//! Plays the steps of a plan, and writes down what was done: the verdict is given over that, and
//! over what the simulators show.

use std::sync::atomic::Ordering;

use maxchannel::contract::CustomerId;
use maxchannel_simulator::creatio::{self, Answer, OutFile};
use maxchannel_simulator::mango::{self, EventFaults};
use maxchannel_simulator::max::{self, DialogAction, Draft, DraftAttachment, Outcome, Twist, UpdateFault};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::plan::{CUSTOMERS, CrmFault, Desk, GroupOdd, MaxFault, Mood, Odd, Plan, Step};
use crate::stage::{AT_THE_DESK, Stage};

/// A message of a customer's.
#[derive(Clone, Debug)]
pub struct Said {
    pub mid: String,
    pub text: String,
    pub at: i64,
    /// MAX may bring it never, or in a shape that nobody can read.
    pub doubtful: bool,
    /// Nobody was subscribed when it was written.
    pub missed: bool,
    /// MAX bends it on its way.
    pub bent: bool,
    pub file: bool,
    /// The words of its edits.
    pub edits: Vec<String>,
    pub deleted: bool,
    /// Written before the person was erased.
    pub erased_at: Option<i64>,
}

/// A message of an agent's: one of them, or one with all files of a sending.
#[derive(Clone, Debug)]
pub struct Sent {
    pub message: Uuid,
    /// How it begins in MAX: its words, or the name of its file.
    pub token: String,
    pub at: i64,
    pub parts: usize,
}

#[derive(Debug, Default)]
pub struct Customer {
    pub id: i64,
    /// The chat of the dialog in MAX, once there is one.
    pub chat: Option<i64>,
    pub said: Vec<Said>,
    pub sent: Vec<Sent>,
    /// What was answered in MANGO's own desk.
    pub desk: Vec<String>,
    /// Sessions that were ended there.
    pub ended_at_desk: Vec<String>,
    /// When a dialog may have begun anew for another reason than a closing: the person left, or was
    /// erased.
    pub breaks: Vec<i64>,
    /// The person has stopped the bot or deleted the dialog at least once.
    pub left: bool,
    /// The person has left and not come back.
    pub away: bool,
    pub erased_at: Vec<i64>,
}

impl Customer {
    pub fn sender(&self) -> String {
        format!("max:{}", self.id)
    }
}

pub struct Play {
    pub stage: Stage,
    pub customers: Vec<Customer>,
    /// One who is only in the group.
    pub passer_by: i64,
    pub group: i64,
    /// One who writes at the end, so that nothing that MAX holds back stays there.
    pub last: i64,
    pub group_texts: Vec<String>,
    /// When the store was lost.
    pub lost_at: Vec<i64>,
    words: usize,
}

impl Play {
    pub async fn new(plan: &Plan) -> Self {
        let stage = Stage::new(plan.setting, plan.seed).await;
        let person = |name: &str| stage.max.control().create_user(max::NewUser::named(name)).unwrap();
        let customers = (0..CUSTOMERS)
            .map(|number| Customer { id: person(&format!("Клиент {number}")), ..Customer::default() });
        let customers: Vec<Customer> = customers.collect();
        let (passer_by, last) = (person("Прохожий"), person("Последний"));
        let group = stage.max.control().create_group(stage.bot, passer_by, "Наш дом", true).unwrap();
        Self { stage, customers, passer_by, group, last, group_texts: Vec::new(), lost_at: Vec::new(), words: 0 }
    }

    pub async fn play(&mut self, step: Step, pause: i64) {
        self.step(step).await;
        self.stage.carry();
        self.stage.pass_under_control(pause).await;
    }

    fn word(&mut self, what: &str) -> String {
        self.words += 1;
        format!("{what}-{:03}", self.words)
    }

    /// A person of the group.
    fn person(&self, number: usize) -> i64 {
        self.customers.get(number).map_or(self.passer_by, |customer| customer.id)
    }

    async fn step(&mut self, step: Step) {
        let (bot, now) = (self.stage.bot, self.stage.now());
        let (max, crm) = (self.stage.max.control(), self.stage.crm.control());
        match step {
            Step::Start(c) => {
                self.act(c, DialogAction::Start(None));
                self.come_back(c);
            }
            Step::Say(c) => drop(self.write(c, false)),
            Step::SayTwisted(c, twist) => self.twisted(c, twist),
            Step::File(c) => drop(self.write(c, true)),
            Step::Edit(c, back) => {
                let text = self.word("правка");
                if let Some(said) = self.recent(c, back)
                    && max.edit(said.0, &said.1, &text).is_ok()
                {
                    self.customers[c].said[said.2].edits.push(text);
                }
            }
            Step::Delete(c, back) => {
                if let Some(said) = self.recent(c, back)
                    && max.delete(said.0, &said.1).is_ok()
                {
                    self.customers[c].said[said.2].deleted = true;
                }
            }
            Step::Stop(c) | Step::RemoveDialog(c) => {
                self.leave(c, if matches!(step, Step::Stop(_)) { DialogAction::Stop } else { DialogAction::Remove });
                // Nobody comes back within the same millisecond.
                self.stage.pass(5).await;
            }
            Step::Clear(c) if self.customers[c].chat.is_some() => self.act(c, DialogAction::Clear),
            Step::Mute(c) if self.customers[c].chat.is_some() => self.act(c, DialogAction::Mute(now + 60_000)),
            Step::Clear(_) | Step::Mute(_) => {}
            Step::GroupSay(c) => {
                let text = self.word("группе");
                if max.write_in_group(self.person(c), self.group, Draft::text(&text)).is_ok() {
                    self.group_texts.push(text);
                }
            }
            Step::GroupMember(c, joins) => drop(max.set_member(self.group, self.person(c), None, joins)),
            Step::GroupOdd(c, odd) => {
                let update = self.group_update(c, odd);
                self.stage.bring(update.to_string().into_bytes()).await;
            }
            Step::Odd(odd) => self.stage.bring(self.odd(odd)).await,
            Step::Repeat(back) => {
                self.stage.bring_again(back).await;
            }
            Step::LoseSubscription => {
                max.drop_subscriptions(bot).unwrap();
                self.miss_what_is_on_its_way();
            }
            Step::Events(lose, double, swap) => self.disturb_events(EventFaults { lose, double, swap, hold: false }),
            Step::Desk(c, act) => self.at_the_desk(c, act),
            Step::Accept(c) => {
                if let Some((chat, _)) = self.open_chat(c) {
                    let agent = self.stage.agents[usize::from(self.words.is_multiple_of(3))];
                    let _ = crm.accept(chat, agent);
                }
            }
            Step::Answer(c) => self.answer(c, false, false),
            Step::AnswerLong(c) => self.answer(c, true, false),
            Step::AnswerWithFile(c) => self.answer(c, false, true),
            Step::Close(c) => {
                if let Some((chat, agent)) = self.taken_chat(c) {
                    let _ = crm.close(chat, agent);
                }
            }
            Step::Transfer(c) => {
                if let Some((chat, agent)) = self.taken_chat(c) {
                    let to = self.stage.agents.into_iter().find(|other| *other != agent).unwrap();
                    let _ = crm.transfer_to_agent(chat, agent, to);
                }
            }
            Step::CrmAway(outage) => crm.outage(Some(outage)),
            Step::CrmUnreachable => self.stage.network.crm_unreachable.store(true, Ordering::Relaxed),
            Step::CrmBack => {
                crm.outage(None);
                self.stage.network.crm_unreachable.store(false, Ordering::Relaxed);
            }
            Step::CrmFault(fault, count) => crm.fault(crm_fault(fault, count)),
            Step::CrmRestart => crm.restart(),
            Step::SignOut => crm.revoke_tokens(),
            Step::HoldOutbox(c, ms) => crm.hold_outbox(&self.customers[c].sender(), ms),
            Step::Lock(c, calls) => crm.lock(&format!("max-bot:{bot}"), &self.customers[c].sender(), calls),
            Step::MaxUnreachable => self.stage.network.max_unreachable.store(true, Ordering::Relaxed),
            Step::MaxBack => self.stage.network.max_unreachable.store(false, Ordering::Relaxed),
            Step::MaxFault(fault, times) => match &self.stage.mango {
                Some(mango) if fault == MaxFault::Throttled => mango.control().throttle(times),
                Some(mango) if fault != MaxFault::FileFails => mango.control().fault(mango_fault(fault, times)),
                _ => max.add_fault(max_fault(fault, times)),
            },
            Step::HangUp(times) => drop(self.stage.door.hang_ups.fetch_add(times, Ordering::Relaxed)),
            Step::LoseAnswers(times) => drop(self.stage.door.lost_answers.fetch_add(times, Ordering::Relaxed)),
            Step::Bot(mood) => *self.stage.network.bot.mood.lock().unwrap() = mood,
            Step::Restart(down) | Step::Kill(down) => {
                self.stage.end(matches!(step, Step::Kill(_))).await;
                self.begin_again(down).await;
            }
            Step::SayAndKill(c, down) => {
                // The next word of this customer's.
                *self.stage.door.deadly.lock().unwrap() = Some(format!("клиент{c}-{:03}", self.words + 1));
                self.write(c, false);
                self.stage.carry();
                self.stage.pass(500).await;
                self.stage.door.deadly.lock().unwrap().take();
                self.stage.end(true).await;
                self.begin_again(down).await;
            }
            Step::SetClock(by) => self.stage.set_clock(by),
            Step::Erase(c) => {
                // On a full disk nobody can be erased, and the administrator is told so.
                if self.stage.relay().erase(CustomerId::new(self.customers[c].id)).await.is_err() {
                    return;
                }
                // What comes while it is done may be news.
                let customer = &mut self.customers[c];
                customer.erased_at.push(now);
                customer.breaks.push(now);
                for said in &mut customer.said {
                    said.erased_at.get_or_insert(now);
                }
            }
            Step::LoseStore(down) => {
                self.stage.lose_store().await;
                self.lose_what_only_the_store_had();
                self.begin_again(down).await;
            }
            Step::DiskFull | Step::DiskBack => {
                // On a full disk it may share the fate of what waits beside it; what it says of the
                // disk holds then, too.
                let _ = self.stage.relay().fill_disk(step == Step::DiskFull).await;
            }
        }
    }

    async fn begin_again(&mut self, down: i64) {
        self.stage.pass(down).await;
        self.stage.run().await;
        self.stage.look_after_subscription().await;
    }

    /// MAX brings nothing twice, and history from before the store's making is not asked for.
    fn lose_what_only_the_store_had(&mut self) {
        let now = self.stage.now();
        self.lost_at.push(now);
        for customer in &mut self.customers {
            customer.breaks.push(now);
            let lines = self.stage.crm.control().transcript(&customer.sender());
            for said in &mut customer.said {
                let is_there = |line: &Value| line["text"].as_str().is_some_and(|text| text.contains(&said.text));
                said.doubtful |= !lines.iter().any(is_there);
            }
        }
    }

    fn act(&mut self, c: usize, action: DialogAction) {
        let customer = &mut self.customers[c];
        if let Ok(chat) = self.stage.max.control().act(customer.id, self.stage.bot, action) {
            customer.chat = Some(chat);
        }
    }

    fn leave(&mut self, c: usize, action: DialogAction) {
        if self.customers[c].chat.is_some() {
            self.act(c, action);
            self.customers[c].left = true;
            self.customers[c].away = true;
            self.customers[c].breaks.push(self.stage.now());
        }
    }

    /// What MAX has not brought yet it never brings.
    fn miss_what_is_on_its_way(&mut self) {
        let acknowledged = self.stage.door.acknowledged.lock().unwrap();
        for said in self.customers.iter_mut().flat_map(|customer| &mut customer.said) {
            let mid = said.mid.as_bytes();
            let is_taken = acknowledged.keys().any(|body| body.windows(mid.len()).any(|window| window == mid));
            said.missed |= !is_taken;
        }
    }

    /// What comes now belongs to another dialog than what was before.
    fn come_back(&mut self, c: usize) {
        if std::mem::take(&mut self.customers[c].away) {
            self.customers[c].breaks.push(self.stage.now());
        }
    }

    fn write(&mut self, c: usize, with_file: bool) -> Option<usize> {
        let text = self.word(&format!("клиент{c}"));
        let missed = self.stage.has_subscription()
            && self.stage.max.control().bot(self.stage.bot).unwrap().subscriptions.is_empty();
        let customer = &mut self.customers[c];
        let mut draft = Draft::text(&text);
        if with_file {
            draft.attachments.push(DraftAttachment::File { name: format!("{text}.pdf"), data: None });
        }
        let max = self.stage.max.control();
        // Whoever has no dialog, or has left it, presses start first.
        let mid = max.write(customer.id, self.stage.bot, draft.clone()).or_else(|_| {
            max.start(customer.id, self.stage.bot)?;
            max.write(customer.id, self.stage.bot, draft)
        });
        let mid = mid.ok()?;
        let transcript = self.stage.max.control().transcript(customer.id, self.stage.bot).unwrap();
        customer.chat = Some(transcript.chat_id);
        let at = self.stage.now();
        customer.said.push(Said {
            mid,
            text,
            at,
            doubtful: false,
            missed,
            bent: false,
            file: with_file,
            edits: Vec::new(),
            deleted: false,
            erased_at: None,
        });
        let place = customer.said.len() - 1;
        self.come_back(c);
        Some(place)
    }

    fn twisted(&mut self, c: usize, twist: Twist) {
        if self.stage.mango.is_some() {
            let none = EventFaults::default();
            match twist {
                Twist::Duplicate => self.disturb_events(EventFaults { double: 1, ..none }),
                Twist::OutOfOrder => self.disturb_events(EventFaults { swap: 1, ..none }),
                Twist::Lose => self.disturb_events(EventFaults { lose: 1, ..none }),
                _ => {}
            }
            self.write(c, false);
            return;
        }
        // A first message also starts the dialog, and other updates come before it.
        let fault = UpdateFault { update_type: Some("message_created".to_owned()), twist, ..UpdateFault::default() };
        self.stage.max.control().add_update_fault(fault);
        if let Some(said) = self.write(c, false) {
            let said = &mut self.customers[c].said[said];
            said.doubtful = matches!(twist, Twist::Lose | Twist::WithoutMessage | Twist::UnknownType);
            said.bent = twist == Twist::UnknownAttachment;
        }
    }

    fn disturb_events(&self, faults: EventFaults) {
        if let Some(mango) = &self.stage.mango {
            mango.control().event_faults(faults);
        }
    }

    /// What is done in MANGO's own desk with the customer's open session, if there is one.
    fn at_the_desk(&mut self, c: usize, act: Desk) {
        let Some(mango) = self.stage.mango.as_ref().map(|mango| mango.control()) else { return };
        let (what, by) = match act {
            Desk::Take => ("take", AT_THE_DESK),
            Desk::Answer => ("answer", AT_THE_DESK),
            Desk::HandOn => ("transfer", AT_THE_DESK),
            Desk::Close => ("close", AT_THE_DESK),
            Desk::Expire => ("expire", 0),
        };
        let ends = matches!(act, Desk::Close | Desk::Expire);
        let session = self.sessions(c).pop().filter(|session| session["state"] != "closed");
        let Some(session) = session else { return };
        // One that the relay knows nothing of is gone for good with its end.
        let is_known = self.is_heard(session["session_id"].as_str().unwrap_or_default());
        let token = self.word(&format!("кабинет{c}"));
        let now = self.stage.now();
        let customer = &mut self.customers[c];
        if mango.desk(what, &customer.id.to_string(), by, &token).is_err() {
            return;
        }
        if act == Desk::Answer {
            customer.desk.push(token);
        }
        if ends {
            customer.breaks.push(now);
            customer.ended_at_desk.push(session["session_id"].as_str().unwrap_or_default().to_owned());
            let said_in_it = |said: &Said| {
                let messages = session["messages"].as_array().into_iter().flatten();
                { messages }.any(|message| message.to_string().contains(&said.text))
            };
            for said in customer.said.iter_mut().filter(|said| said_in_it(said)) {
                said.doubtful |= !is_known;
            }
        }
    }

    /// Sessions of the customer at MANGO OFFICE, oldest first.
    pub fn sessions(&self, c: usize) -> Vec<Value> {
        let Some(mango) = &self.stage.mango else { return Vec::new() };
        let id = self.customers[c].id.to_string();
        let is_theirs = |session: &Value| session["variables"]["social_user"]["social_user_id"] == id.as_str();
        mango.control().dialogs().into_iter().filter(is_theirs).collect()
    }

    /// Whether the relay has had a call with these words, or an answer.
    fn is_heard(&self, words: &str) -> bool {
        let contains = |bytes: &[u8]| bytes.windows(words.len()).any(|window| window == words.as_bytes());
        let since = self.lost_at.last().copied().unwrap_or_default();
        let called = self.stage.door.acknowledged.lock().unwrap();
        let asked = self.stage.network.polled.lock().unwrap();
        called.iter().any(|(body, at)| self.stage.time_of(*at) > since && contains(body))
            || asked.iter().any(|(at, body)| self.stage.time_of(*at) > since && contains(body))
    }

    /// One of the customer's last messages: whose, which, and its place.
    fn recent(&self, c: usize, back: usize) -> Option<(i64, String, usize)> {
        let customer = &self.customers[c];
        let place = customer.said.len().checked_sub(1 + back)?;
        Some((customer.id, customer.said[place].mid.clone(), place))
    }

    /// The customer's chat that is not over, and who has it.
    fn open_chat(&self, c: usize) -> Option<(Uuid, Option<Uuid>)> {
        let chats = self.stage.crm.control().chats(Some(&self.customers[c].sender()));
        let open = chats.iter().rev().find(|chat| chat["status"] != "Completed")?;
        let id = |name: &str| open[name].as_str().and_then(|id| id.parse().ok());
        Some((id("id")?, id("agentId")))
    }

    /// The same once an agent has it: whoever wants to act in a chat that waits takes it first.
    fn taken_chat(&self, c: usize) -> Option<(Uuid, Uuid)> {
        let (chat, agent) = self.open_chat(c)?;
        if let Some(agent) = agent {
            return Some((chat, agent));
        }
        let agent = self.stage.agents[0];
        self.stage.crm.control().accept(chat, agent).is_ok_and(|taken| taken).then_some((chat, agent))
    }

    fn answer(&mut self, c: usize, long: bool, with_file: bool) {
        let token = self.word(&format!("агент{c}"));
        let Some((chat, agent)) = self.taken_chat(c) else { return };
        let text = if long { format!("{token} {}", "слово ".repeat(700).trim_end()) } else { token.clone() };
        let file = OutFile {
            name: format!("{token}.pdf"),
            mime_type: "application/pdf".to_owned(),
            bytes: token.clone().into_bytes(),
        };
        let files = if with_file { vec![file] } else { Vec::new() };
        let Ok(sent) = self.stage.crm.control().send(chat, agent, &text, files) else { return };
        let at = self.stage.now();
        let tokens = [(token.clone(), 1 + usize::from(long)), (format!("{token}.pdf"), 1)];
        for (message, (token, parts)) in sent.messages.into_iter().zip(tokens) {
            self.customers[c].sent.push(Sent { message, token, at, parts });
        }
    }

    fn group_update(&mut self, c: usize, odd: GroupOdd) -> Value {
        let (now, group, bot) = (self.stage.now(), self.group, self.stage.bot);
        let user = json!({"user_id": self.person(c), "first_name": "Клиент", "is_bot": false});
        match odd {
            GroupOdd::Removed => json!({"update_type": "message_removed", "timestamp": now,
                "message_id": self.word("mid"), "chat_id": group, "user_id": self.person(c)}),
            GroupOdd::Pressed => json!({"update_type": "message_callback", "timestamp": now,
                "callback": {"callback_id": self.word("press"), "timestamp": now, "payload": "группе-кнопка", "user": user},
                "message": {"sender": {"user_id": bot, "is_bot": true}, "timestamp": now - 5,
                    "recipient": {"chat_id": group, "chat_type": "chat", "user_id": self.person(c)},
                    "body": {"mid": self.word("mid"), "seq": now << 16, "text": "?"}}}),
            GroupOdd::Stopped => {
                json!({"update_type": "bot_stopped", "timestamp": now, "chat_id": group, "user": user})
            }
            GroupOdd::Written => {
                let text = self.word("группе");
                self.group_texts.push(text.clone());
                json!({"update_type": "message_created", "timestamp": now, "message": {"sender": user, "timestamp": now,
                    "recipient": {"chat_id": group, "chat_type": "chat"},
                    "body": {"mid": self.word("mid"), "seq": now << 16, "text": text}}})
            }
        }
    }

    fn odd(&self, odd: Odd) -> Vec<u8> {
        let now = self.stage.now();
        match odd {
            Odd::UnknownType => format!(r#"{{"update_type":"teleported","timestamp":{now},"to":[1,null]}}"#),
            Odd::NoJson => format!("<html>{now}</html>"),
            Odd::NotAnObject => format!("[{now}]"),
            Odd::HalfEmoji => format!(r#"{{"update_type":"teleported\ud83d","timestamp":{now}}}"#),
            Odd::NoMessage => format!(r#"{{"update_type":"message_created","timestamp":{now},"message":null}}"#),
        }
        .into_bytes()
    }

    /// Everything that breaks is whole again, and what is held back comes.
    pub async fn mend(&mut self) {
        self.stage.crm.control().clear_faults();
        self.stage.crm.control().outage(None);
        self.stage.max.control().clear_faults();
        self.stage.network.crm_unreachable.store(false, Ordering::Relaxed);
        self.stage.network.max_unreachable.store(false, Ordering::Relaxed);
        self.stage.door.hang_ups.store(0, Ordering::Relaxed);
        self.stage.door.lost_answers.store(0, Ordering::Relaxed);
        *self.stage.network.bot.mood.lock().unwrap() = Mood::Answers;
        self.stage.relay().fill_disk(false).await.unwrap();
        if let Some(mango) = &self.stage.mango {
            mango.control().clear_faults();
        }
        self.stage.look_after_subscription().await;
        self.stage.max.control().start(self.last, self.stage.bot).unwrap();
        self.stage.max.control().say(self.last, self.stage.bot, "последнее слово").unwrap();
        self.stage.carry();
    }
}

fn crm_fault(fault: CrmFault, count: u32) -> creatio::Fault {
    let receive = "/rest/MaxChannelService/receive".to_owned();
    let outbox = "/odata/MaxOutbox".to_owned();
    let (get, patch) = (Some("GET".to_owned()), Some("PATCH".to_owned()));
    let none = creatio::Fault { count, ..creatio::Fault::default() };
    match fault {
        CrmFault::ReceiveLost => creatio::Fault { path: receive, answer: Answer::Drop, ..none },
        CrmFault::ReceiveRefused => {
            creatio::Fault { path: receive, effect: false, answer: Answer::Empty { status: 503 }, ..none }
        }
        CrmFault::ReceiveSlow => creatio::Fault { path: receive, work_ms: 8_000, ..none },
        CrmFault::ReceiveHangs => creatio::Fault { path: receive, hold_ms: 90_000, ..none },
        CrmFault::ReportLost => creatio::Fault { method: patch, path: outbox, answer: Answer::Drop, ..none },
        CrmFault::OutboxPage => creatio::Fault {
            method: get,
            path: outbox,
            answer: Answer::Html { status: 200, text: "Login".to_owned() },
            ..none
        },
        CrmFault::OutboxCut => creatio::Fault { method: get, path: outbox, answer: Answer::Truncate, ..none },
        CrmFault::Busy => {
            creatio::Fault { effect: false, answer: Answer::Busy { status: 429, retry_after: "7".to_owned() }, ..none }
        }
        CrmFault::AnyDrop => creatio::Fault { effect: false, answer: Answer::Drop, ..none },
    }
}

/// The same of MANGO OFFICE: sends, readings and the list of sessions.
fn mango_fault(fault: MaxFault, count: u32) -> mango::Fault {
    let send = "/cc/md/session/chat/send_message".to_owned();
    let read = "/cc/md/session/chat/history".to_owned();
    let list = "/cc/md/sessions".to_owned();
    let html = |status| mango::Answer::Html { status, text: "MANGO OFFICE".to_owned() };
    let none = mango::Fault { count, ..mango::Fault::default() };
    let refused = mango::Fault { effect: false, ..none.clone() };
    match fault {
        MaxFault::SendLost => mango::Fault { path: send, answer: mango::Answer::Drop, ..none },
        MaxFault::SendDropped => mango::Fault { path: send, answer: mango::Answer::Drop, ..refused },
        MaxFault::SendHangs => mango::Fault { path: send, hold_ms: 90_000, ..none },
        MaxFault::SendCut => mango::Fault { path: send, answer: mango::Answer::Truncate, ..none },
        MaxFault::SendFails => mango::Fault { path: send, answer: html(502), ..refused },
        MaxFault::Busy => {
            let busy = mango::Answer::Busy { status: 429, retry_after: "9".to_owned() };
            mango::Fault { path: send, answer: busy, ..refused }
        }
        MaxFault::ReadFails => mango::Fault { path: read, answer: html(503), ..refused },
        MaxFault::ReadHangs => mango::Fault { path: read, hold_ms: 90_000, ..none },
        MaxFault::UploadFails => mango::Fault { path: list, answer: html(502), ..refused },
        MaxFault::AnySlow => mango::Fault { delay_ms: 12_000, ..none },
        // Not its own.
        MaxFault::Throttled | MaxFault::FileFails => none,
    }
}

fn max_fault(fault: MaxFault, times: u32) -> max::Fault {
    let (post, get) = (Some("POST".to_owned()), Some("GET".to_owned()));
    let send = max::Fault { method: post.clone(), path: Some("/messages".to_owned()), times, ..max::Fault::default() };
    let read = max::Fault { method: get.clone(), ..send.clone() };
    match fault {
        MaxFault::SendLost => max::Fault { effect: true, ..send },
        MaxFault::SendDropped => send,
        MaxFault::SendHangs => max::Fault { effect: true, outcome: Outcome::Hang, ..send },
        MaxFault::SendCut => max::Fault { outcome: Outcome::Truncate(20), ..send },
        MaxFault::SendFails => max::Fault { outcome: Outcome::html(502), ..send },
        MaxFault::Throttled => max::Fault { outcome: Outcome::error(429, "too.many.requests", "wait"), ..send },
        MaxFault::Busy => max::Fault { outcome: Outcome::Busy { status: 429, retry_after: "9".to_owned() }, ..send },
        MaxFault::ReadFails => max::Fault { outcome: Outcome::html(503), ..read },
        MaxFault::ReadHangs => max::Fault { outcome: Outcome::Hang, ..read },
        MaxFault::UploadFails => max::Fault { path: Some("/uploads".to_owned()), outcome: Outcome::html(502), ..send },
        MaxFault::FileFails => {
            max::Fault { method: get, path: Some("/getfile".to_owned()), times, ..max::Fault::default() }
        }
        MaxFault::AnySlow => max::Fault { times, delay_ms: 12_000, outcome: Outcome::Answer, ..max::Fault::default() },
    }
}
