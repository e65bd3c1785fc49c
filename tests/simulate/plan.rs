//! What happens in one sequence: decided by the seed alone, and printable, so that a failure can be
//! read.

use std::fmt;

use maxchannel::contract::config::Intake;
use maxchannel::policy::{AutoReply, OffHours, Receiver, Rules};
use maxchannel_simulator::creatio::Outage;
use maxchannel_simulator::mango::BodyForm;
use maxchannel_simulator::max::Twist;
use serde_json::json;

use crate::random::Random;

/// Customers with a dialog. Beside them one more person is only ever seen in the group.
pub const CUSTOMERS: usize = 3;
pub const GOODBYE: &str = "Спасибо за обращение!";
pub const AT_ONCE: &str = "Ищем оператора";
pub const SOON: &str = "Ещё ищем";
pub const AGAIN: &str = "Вы в очереди";
pub const CLOSED: &str = "Мы ответим в рабочее время";
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
/// When hours that do so begin or end.
const STROKE: i64 = 2 * MINUTE;
/// Where nothing is asked for, every so many-th sequence goes through MANGO OFFICE.
const THROUGH_MANGO: u64 = 40;

/// One sequence.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub setting: Setting,
    /// Each step, and how long nothing else happens behind it, in milliseconds.
    pub steps: Vec<(Step, i64)>,
}

/// What holds for a whole sequence.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub way: Way,
    pub replies: Replies,
    pub hours: Hours,
    /// What happens outside the hours.
    pub off_hours: Off,
    pub auto_close: Option<i64>,
    pub close_message: bool,
    /// How far the relay's wall clock is ahead of the others'.
    pub clock_ahead: i64,
    /// The longest way of a request or an answer, in milliseconds.
    pub slowest: u64,
    /// MAX brings updates in no order at all.
    pub unordered: bool,
    /// MAX lets the bot read its dialogs.
    pub reading: bool,
    /// Both sides in their harder reading where their documents leave something open.
    pub hard: bool,
}

/// How messages reach the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Webhook,
    LongPoll,
    MangoDialogs(Habits),
}

/// What of MANGO OFFICE no document settles, and whether it has the relay's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    pub calls: bool,
    pub form: BodyForm,
    pub ids_differ: bool,
    pub messages_move_time: bool,
    pub transfer_tells_close: bool,
    pub auto_distribution: bool,
    /// Agents' files go this way, too.
    pub takes_files: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    None,
    AtOnce,
    Waiting,
}

/// The working hours, of which a sequence sees two minutes and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hours {
    Always,
    Closing,
    Opening,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    Replies,
    Bot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    // The customer.
    Start(usize),
    Say(usize),
    SayTwisted(usize, Twist),
    File(usize),
    Edit(usize, usize),
    Delete(usize, usize),
    Stop(usize),
    RemoveDialog(usize),
    Clear(usize),
    Mute(usize),
    // In a group where the bot is, too.
    GroupSay(usize),
    GroupMember(usize, bool),
    /// An update about the group that bears the customer's id.
    GroupOdd(usize, GroupOdd),
    // What MAX does beside.
    Odd(Odd),
    /// An update that was brought before comes once more.
    Repeat(usize),
    LoseSubscription,
    /// So many of the next webhooks of MANGO OFFICE are lost, come twice, and are mixed up.
    Events(u32, u32, u32),
    /// An employee works in MANGO's own desk, or the time of a session is over.
    Desk(usize, Desk),
    // The agents.
    Accept(usize),
    Answer(usize),
    AnswerLong(usize),
    AnswerWithFile(usize),
    Close(usize),
    Transfer(usize),
    /// What the bot does from now on.
    Bot(Mood),
    // What breaks.
    CrmAway(Outage),
    CrmUnreachable,
    CrmBack,
    CrmFault(CrmFault, u32),
    CrmRestart,
    SignOut,
    HoldOutbox(usize, i64),
    Lock(usize, u32),
    // MAX is MANGO OFFICE here where that is the way.
    MaxUnreachable,
    MaxBack,
    MaxFault(MaxFault, u32),
    /// MAX hangs up on so many of its own calls.
    HangUp(u32),
    /// So many answers to MAX's calls are lost on their way.
    LoseAnswers(u32),
    // The relay and whoever runs it.
    Restart(i64),
    Kill(i64),
    /// It is killed in the moment in which it has answered MAX for this message.
    SayAndKill(usize, i64),
    SetClock(i64),
    Erase(usize),
    /// The store is gone, and another relay begins with none.
    LoseStore(i64),
    DiskFull,
    DiskBack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desk {
    Take,
    Answer,
    /// To somebody else, as another session.
    HandOn,
    Close,
    Expire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Answers,
    HandsOver,
    Closes,
    Hangs,
    Fails,
    Busy,
    Odd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOdd {
    Removed,
    Pressed,
    Stopped,
    Written,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    UnknownType,
    NoJson,
    NotAnObject,
    HalfEmoji,
    NoMessage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrmFault {
    /// The message is taken and the answer lost.
    ReceiveLost,
    ReceiveRefused,
    ReceiveSlow,
    ReceiveHangs,
    ReportLost,
    OutboxPage,
    OutboxCut,
    Busy,
    AnyDrop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxFault {
    /// The message is sent and the answer lost.
    SendLost,
    SendDropped,
    SendHangs,
    SendCut,
    SendFails,
    Throttled,
    Busy,
    ReadFails,
    ReadHangs,
    UploadFails,
    FileFails,
    AnySlow,
}

impl Plan {
    /// `intake`: the way in, as manifests call it; none: the seed decides.
    pub fn new(seed: u64, intake: Option<&str>) -> Self {
        let mut random = Random::new(seed);
        let setting = Setting::new(&mut random).by(seed, intake);
        let count = 8 + random.index(40);
        // Most sequences have one kind of trouble, some all, some none: what is rare alone is seen
        // with what is rare beside it.
        let trouble = random.pick(&[0, 5, 15, 30, 45]);
        let steps = (0..count).map(|_| (step(&mut random, trouble, setting), pause(&mut random))).collect();
        Self { seed, setting, steps }
    }

    /// Whether anything in it may bring an update of a customer's late, in the wrong order or not
    /// at all.
    pub fn disturbs_order(&self) -> bool {
        self.setting.unordered
            || self.steps.iter().any(|(step, _)| {
                matches!(
                    step,
                    Step::SayTwisted(..)
                        | Step::Repeat(_)
                        | Step::LoseSubscription
                        | Step::Events(..)
                        | Step::HangUp(_)
                        | Step::LoseAnswers(_)
                        | Step::Restart(_)
                        | Step::Kill(_)
                        | Step::SayAndKill(..)
                        | Step::MaxUnreachable
                        | Step::MaxFault(..)
                        | Step::SetClock(_)
                        | Step::LoseStore(_)
                        | Step::DiskFull
                )
            })
    }
}

impl Setting {
    fn new(random: &mut Random) -> Self {
        Self {
            way: if random.percent(25) { Way::LongPoll } else { Way::Webhook },
            replies: random.pick(&[Replies::None, Replies::AtOnce, Replies::Waiting]),
            hours: random.pick(&[Hours::Always, Hours::Always, Hours::Closing, Hours::Opening, Hours::Never]),
            off_hours: random.pick(&[Off::Replies, Off::Bot]),
            auto_close: random.pick(&[None, None, Some(2 * MINUTE), Some(10 * MINUTE)]),
            close_message: random.percent(60),
            clock_ahead: random.pick(&[0, 0, 0, 3 * MINUTE, -3 * MINUTE]),
            slowest: random.pick(&[3, 40, 40, 400]),
            unordered: random.percent(15),
            reading: random.percent(80),
            hard: random.percent(25),
        }
    }

    /// The same with the way in that is wanted.
    fn by(self, seed: u64, intake: Option<&str>) -> Self {
        let way = match intake {
            Some("webhook") => Way::Webhook,
            Some("longPoll") => Way::LongPoll,
            Some("mangoDialogs") => Way::MangoDialogs(Habits::new(seed)),
            Some(other) => panic!("INTAKE={other}: webhook, longPoll or mangoDialogs"),
            None if seed.is_multiple_of(THROUGH_MANGO) => Way::MangoDialogs(Habits::new(seed)),
            None => self.way,
        };
        // Nothing is read at MAX where it is not the way.
        Self { way, reading: self.reading || matches!(way, Way::MangoDialogs(_)), ..self }
    }

    /// Whether the hours are on, so long after the beginning.
    pub fn is_open(&self, passed: i64) -> bool {
        match self.hours {
            Hours::Always => true,
            Hours::Closing => passed < STROKE,
            Hours::Opening => passed >= STROKE,
            Hours::Never => false,
        }
    }

    pub fn has_bot(&self) -> bool {
        self.off_hours == Off::Bot && self.hours != Hours::Always
    }

    pub fn intake(&self) -> Intake {
        match self.way {
            Way::Webhook => Intake::Webhook,
            Way::LongPoll => Intake::LongPoll,
            Way::MangoDialogs(_) => Intake::MangoDialogs,
        }
    }

    pub fn is_by_mango(&self) -> bool {
        matches!(self.way, Way::MangoDialogs(_))
    }

    pub fn rules(&self) -> Rules {
        let reply =
            |after: i64, text: &str| AutoReply { after, repeat_every: None, repeat_limit: 0, text: text.to_owned() };
        let auto_replies = match self.replies {
            Replies::None => Vec::new(),
            Replies::AtOnce => vec![reply(0, AT_ONCE)],
            Replies::Waiting => vec![
                reply(30 * SECOND, SOON),
                AutoReply { repeat_every: Some(2 * MINUTE), repeat_limit: 2, ..reply(MINUTE, AGAIN) },
            ],
        };
        let (from, to) = match self.hours {
            Hours::Always => ("00:00", "24:00"),
            Hours::Closing => ("09:00", "12:02"),
            Hours::Opening => ("12:02", "18:00"),
            Hours::Never => ("18:00", "19:00"),
        };
        let week = json!([{"days": ["Mon"], "from": from, "to": to}]);
        let hours = serde_json::from_value(json!({"timeZone": "Europe/Moscow", "week": week})).unwrap();
        Rules {
            receiver: Receiver::People,
            working_hours: (self.hours != Hours::Always).then_some(hours),
            off_hours: match (self.hours, self.off_hours) {
                (Hours::Always, _) => OffHours::None,
                (_, Off::Replies) => OffHours::AutoReplies(vec![reply(0, CLOSED)]),
                (_, Off::Bot) => OffHours::Bot,
            },
            auto_replies,
            auto_close: self.auto_close,
            close_message: self.close_message.then(|| GOODBYE.to_owned()),
        }
    }
}

impl Habits {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x000F_F1CE);
        Self {
            calls: random.percent(80),
            form: random.pick(&[BodyForm::Form, BodyForm::Wrapped, BodyForm::WrappedText]),
            ids_differ: random.percent(50),
            messages_move_time: random.percent(70),
            transfer_tells_close: random.percent(50),
            auto_distribution: random.percent(30),
            takes_files: random.percent(60),
        }
    }
}

fn pause(random: &mut Random) -> i64 {
    random.pick(&[0, 0, 0, 20, 200, 1_000, 1_000, 3_000, 8_000, 20_000, 70_000])
}

fn step(random: &mut Random, trouble: u64, setting: Setting) -> Step {
    // One customer has most of it, so that things meet.
    let customer = if random.percent(60) { 0 } else { random.index(CUSTOMERS) };
    if random.percent(trouble) {
        let step = broken(random, customer, setting);
        return if setting.is_by_mango() { through_mango(step) } else { step };
    }
    let step = match random.below(100) {
        0..8 => Step::Start(customer),
        8..34 => Step::Say(customer),
        34..38 => Step::File(customer),
        38..42 => Step::Edit(customer, random.index(3)),
        42..45 => Step::Delete(customer, random.index(3)),
        45..47 => Step::Stop(customer),
        47 => Step::RemoveDialog(customer),
        48 => Step::Clear(customer),
        49 => Step::Mute(customer),
        50..53 => Step::GroupSay(random.index(CUSTOMERS + 1)),
        53 => Step::GroupMember(random.index(CUSTOMERS + 1), random.percent(60)),
        54..67 => Step::Accept(customer),
        67..85 => Step::Answer(customer),
        85..87 => Step::AnswerLong(customer),
        87..90 => Step::AnswerWithFile(customer),
        90..96 => Step::Close(customer),
        _ => Step::Transfer(customer),
    };
    if setting.is_by_mango() { through_mango(step) } else { step }
}

/// MANGO OFFICE tells nothing of what is changed, deleted, stopped or removed, and has no
/// subscription and no groups: what it has comes in the place of that.
fn through_mango(step: Step) -> Step {
    match step {
        Step::Edit(c, 0) => Step::Desk(c, Desk::Take),
        Step::Edit(c, 1) | Step::Clear(c) => Step::Desk(c, Desk::HandOn),
        Step::Edit(c, _) | Step::Delete(c, 0) => Step::Desk(c, Desk::Answer),
        Step::Delete(c, _) | Step::RemoveDialog(c) => Step::Desk(c, Desk::Expire),
        Step::Stop(c) | Step::Mute(c) => Step::Desk(c, Desk::Close),
        Step::LoseSubscription => Step::Events(6, 0, 0),
        Step::GroupOdd(c, GroupOdd::Removed | GroupOdd::Pressed) => Step::Events(0, 2, u32::try_from(c).unwrap()),
        Step::GroupOdd(c, _) => Step::Events(u32::try_from(c).unwrap(), 1, 2),
        step => step,
    }
}

fn broken(random: &mut Random, customer: usize, setting: Setting) -> Step {
    let times = 1 + u32::try_from(random.below(4)).unwrap();
    let down = random.pick(&[0, 500, 5_000, 40_000]);
    match random.below(112) {
        100..106 if setting.has_bot() => Step::Bot(random.pick(&[
            Mood::Answers,
            Mood::HandsOver,
            Mood::Closes,
            Mood::Hangs,
            Mood::Fails,
            Mood::Busy,
            Mood::Odd,
        ])),
        106 | 107 => Step::LoseStore(down),
        108 | 109 => Step::DiskFull,
        110.. => Step::DiskBack,
        0..12 => Step::Restart(down),
        12..18 => Step::Kill(down),
        18..24 => Step::SayAndKill(customer, down),
        24..28 => Step::CrmAway(random.pick(&[Outage::Drop, Outage::BadGateway, Outage::Unavailable])),
        28..30 => Step::CrmUnreachable,
        30..38 => Step::CrmBack,
        38..50 => Step::CrmFault(
            random.pick(&[
                CrmFault::ReceiveLost,
                CrmFault::ReceiveLost,
                CrmFault::ReceiveRefused,
                CrmFault::ReceiveSlow,
                CrmFault::ReceiveHangs,
                CrmFault::ReportLost,
                CrmFault::OutboxPage,
                CrmFault::OutboxCut,
                CrmFault::Busy,
                CrmFault::AnyDrop,
            ]),
            times,
        ),
        50..52 => Step::CrmRestart,
        52 => Step::SignOut,
        53..55 => Step::HoldOutbox(customer, 5_000),
        55..58 => Step::Lock(customer, times),
        58..60 => Step::MaxUnreachable,
        60..63 => Step::MaxBack,
        63..76 => Step::MaxFault(
            random.pick(&[
                MaxFault::SendLost,
                MaxFault::SendLost,
                MaxFault::SendDropped,
                MaxFault::SendHangs,
                MaxFault::SendCut,
                MaxFault::SendFails,
                MaxFault::Throttled,
                MaxFault::Busy,
                MaxFault::ReadFails,
                MaxFault::ReadHangs,
                MaxFault::UploadFails,
                MaxFault::FileFails,
                MaxFault::AnySlow,
            ]),
            times,
        ),
        76..82 => Step::SayTwisted(
            customer,
            random.pick(&[
                Twist::Duplicate,
                Twist::Duplicate,
                Twist::OutOfOrder,
                Twist::OutOfOrder,
                Twist::Lose,
                Twist::WithoutMessage,
                Twist::UnknownType,
                Twist::UnknownAttachment,
                Twist::ExtraFields,
                Twist::Nulls,
            ]),
        ),
        82..85 => Step::Repeat(random.index(20)),
        // A poll has no calls of MAX's.
        85..89 if setting.way == Way::LongPoll => Step::Repeat(random.index(20)),
        85 | 86 => Step::HangUp(times),
        87 | 88 => Step::LoseAnswers(times),
        89..91 => Step::LoseSubscription,
        91..94 => {
            let kinds = [GroupOdd::Removed, GroupOdd::Pressed, GroupOdd::Stopped, GroupOdd::Written];
            Step::GroupOdd(customer, random.pick(&kinds))
        }
        94..96 => {
            Step::Odd(random.pick(&[Odd::UnknownType, Odd::NoJson, Odd::NotAnObject, Odd::HalfEmoji, Odd::NoMessage]))
        }
        96..98 => Step::SetClock(random.pick(&[-3_600_000, -60_000, 60_000, 600_000])),
        _ => Step::Erase(customer),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:?}", self.setting)?;
        for (number, (step, pause)) in self.steps.iter().enumerate() {
            writeln!(formatter, "{number:>3}. {step:?}, then {pause} ms")?;
        }
        Ok(())
    }
}
