//! The promises at the head of `src/relay/mod.rs` as a model: slow, obvious, and over the whole of
//! what was done and what is to be seen in the two simulators. It knows nothing of how the relay
//! works.

use std::collections::HashMap;
use std::fmt::Write as _;

use maxchannel::contract::admin::{Direction, Tally};
use maxchannel::policy::{OffHours, ReplySet};
use maxchannel_simulator::max::{ChatCall, Entry};
use serde_json::Value;

use crate::plan::{AGAIN, AT_ONCE, CLOSED, GOODBYE, Habits, Odd, Plan, SOON, Step, Way};
use crate::play::{Customer, Play, Said, Sent};
use crate::stage::BEGINNING;

/// An update that came in the moment of an erasure may have been on its way into the CRM.
const UNDER_WAY: i64 = 130_000;
/// Of a closing the relay learns late, and what it sends then takes its time.
const HARDLY_LATE: i64 = 2_000;

const OF_THE_CHANNEL: [&str; 5] = [AT_ONCE, SOON, AGAIN, CLOSED, GOODBYE];

/// One entry of the CRM's history.
struct Line {
    text: String,
    incoming: bool,
    stored_at: i64,
    files: usize,
    names: Vec<String>,
}

/// What of the promises is not kept yet, but may be with time.
pub async fn missing(play: &Play, plan: &Plan) -> Vec<String> {
    let mut missing = Vec::new();
    for (number, customer) in play.customers.iter().enumerate() {
        let lines = lines(play, customer);
        for (place, said) in customer.said.iter().enumerate() {
            if is_owed(play, plan, customer, place) && !is_there(said, &lines) {
                missing.push(format!("promise 1/6: «{}» of {} is not with the agents", said.text, customer.sender()));
            }
        }
        for sent in &customer.sent {
            let state = state(play, sent);
            let erased = customer.erased_at.iter().any(|at| *at + UNDER_WAY > sent.at);
            if state.as_ref().is_none_or(|(state, _)| state == "Pending") && !erased {
                missing.push(format!("promise 4: nothing is told of «{}» to {}", sent.token, customer.sender()));
            }
        }
        let sessions = play.sessions(number);
        let closings = closings(play, customer);
        let could_come = |at: &&i64| play.stage.mango.is_none() || is_open_at(play, &sessions, customer, **at);
        let owed = closings.iter().filter(could_come).count();
        let (closings, goodbyes) = (owed, of_bot(play, customer, GOODBYE).len());
        // One that was perhaps sent is not sent again where nobody may look for it.
        let sure = plan.setting.reading && !customer.left && customer.erased_at.is_empty() && play.lost_at.is_empty();
        if plan.setting.close_message && sure && goodbyes < closings {
            missing.push(format!("promise 5: {closings} closings of {} and {goodbyes} farewells", customer.sender()));
        }
    }
    for (number, customer) in play.customers.iter().enumerate().filter(|_| play.stage.mango.is_some()) {
        ended_together(play, number, customer, &mut missing);
    }
    let waits = play.stage.relay().facts().await.undelivered;
    if waits.to_crm + waits.to_max > 0 {
        missing.push(format!("promise 6: something still waits: {waits:?}"));
    }
    missing
}

/// What of the promises is broken for good.
pub async fn broken(play: &Play, plan: &Plan) -> Vec<String> {
    let mut broken = Vec::new();
    for customer in &play.customers {
        way_in(play, plan, customer, &mut broken);
        way_out(play, plan, customer, &mut broken);
        own_words(play, plan, customer, &mut broken);
        erased(play, customer, &mut broken);
    }
    in_the_group(play, &mut broken);
    receipt(play, &mut broken).await;
    limits(play, &mut broken);
    for violation in play.stage.crm.control().violations() {
        // Whoever was forgotten while the CRM worked on a message of theirs: what comes next cannot
        // wait for its end.
        let at = violation["atMs"].as_i64().unwrap_or_default();
        let of = play.customers.iter().find(|customer| violation["sender"] == customer.sender());
        let forgotten = of.iter().flat_map(|customer| &customer.erased_at).chain(&play.lost_at);
        if matches!(violation["rule"].as_str(), Some("in_flight" | "overtaking")) && { forgotten }
            .any(|erased| (*erased..*erased + UNDER_WAY).contains(&at))
        {
            continue;
        }
        // A new store is given again what MAX has no answer for, and takes what is younger than
        // itself: the CRM knows it by its key, and by then it may be late.
        if violation["rule"] == "repeat" && !play.lost_at.is_empty() {
            continue;
        }
        // MANGO OFFICE shows an open session whole: what was erased in a store that is lost since
        // comes back behind younger ones.
        if violation["rule"] == "timestamp" && of.is_some_and(|of| has_lost_an_erasure(play, of)) {
            continue;
        }
        broken.push(format!("the package's contract: {violation}"));
    }
    let unreadable = plan
        .steps
        .iter()
        .any(|(step, _)| matches!(step, Step::SayTwisted(..) | Step::Odd(Odd::NoMessage | Odd::HalfEmoji)));
    let left = !plan.setting.reading
        || !play.lost_at.is_empty()
        || play.customers.iter().any(|customer| customer.left || !customer.erased_at.is_empty());
    for letter in play.stage.relay().dead_letters().await.unwrap().dead_letters {
        let excused = match letter.direction {
            Direction::ToCrm => unreadable,
            Direction::ToMax => left || (keeps_files(plan) && letter.reason.contains("файлы не передаются")),
        };
        if !excused {
            broken.push(format!("promise 6: a dead letter without a cause: {letter:?}"));
        }
    }
    broken
}

/// The store that knew of an erasure is lost, and MANGO OFFICE still has what was erased.
fn has_lost_an_erasure(play: &Play, customer: &Customer) -> bool {
    let is_lost = |erased: &i64| play.lost_at.iter().any(|lost| lost > erased);
    play.stage.mango.is_some() && customer.erased_at.iter().any(is_lost)
}

/// Whether MANGO OFFICE could surely bring the customer a farewell then: in a session that goes on
/// until the relay ends it, and of which that had heard. The next appeal is not said goodbye to.
fn is_open_at(play: &Play, sessions: &[Value], customer: &Customer, at: i64) -> bool {
    let is_known = |session: &Value| {
        let first = session["messages"][0]["payload"]["text"].as_str().unwrap_or_default();
        let mut said = customer.said.iter().filter(|said| !first.is_empty() && said.text == first);
        said.any(|said| heard_at(play, said).iter().any(|heard| *heard < at))
    };
    sessions.iter().filter(|session| !is_ended_at_desk(customer, session) && is_known(session)).any(|session| {
        let began = session["messages"][0]["time"].as_i64().unwrap_or_default();
        let ended = session["update_time"].as_i64().filter(|_| session["state"] == "closed").unwrap_or(i64::MAX);
        (began..=ended).contains(&at)
    })
}

fn is_ended_at_desk(customer: &Customer, session: &Value) -> bool {
    customer.ended_at_desk.iter().any(|id| session["session_id"] == id.as_str())
}

/// A close on either side ends both. Of who was erased the relay knows nothing more.
fn ended_together(play: &Play, number: usize, customer: &Customer, missing: &mut Vec<String>) {
    let chats = play.stage.crm.control().chats(Some(&customer.sender()));
    let is_known = customer.erased_at.is_empty() && play.lost_at.is_empty();
    let Some(session) = play.sessions(number).pop().filter(|_| is_known && !chats.is_empty()) else { return };
    let (at_mango, in_the_crm) = (session["state"] != "closed", chats.iter().any(|chat| chat["status"] != "Completed"));
    // What was written in the moment in which the relay closed a session begins a dialog without
    // one.
    let by_the_relay = !is_ended_at_desk(customer, &session);
    if at_mango != in_the_crm && (at_mango || !by_the_relay) {
        let (sender, state) = (customer.sender(), &session["state"]);
        missing.push(format!("a close ends both: the session of {sender} is {state}, its chat is open: {in_the_crm}"));
    }
}

/// Promise 13: the receipt adds up day by day, and says what is to be seen on either side.
async fn receipt(play: &Play, broken: &mut Vec<String>) {
    let relay = play.stage.relay();
    let receipt = relay.receipt(None).await.unwrap();
    for day in receipt.days.iter().filter(|day| !day.adds_up() || !day.known) {
        broken.push(format!("promise 13: the receipt does not add up: {day:?}"));
    }
    let sum = |of: fn(&Tally) -> i64, to_max: bool| -> i64 {
        let tallies = receipt.days.iter().filter_map(|day| if to_max { day.to_max } else { day.to_crm });
        tallies.map(|tally| of(&tally)).sum()
    };
    let waits = relay.facts().await.undelivered;
    // Of what waits the relay's own notes are not counted.
    if sum(|tally| tally.waiting, false) > waits.to_crm || sum(|tally| tally.waiting, true) > waits.to_max {
        broken.push(format!("promise 13: more waits by the receipt than there is: {waits:?}, {receipt:?}"));
    }
    // A lost store took its receipt along, and whoever was erased is no more to be seen here.
    if !play.lost_at.is_empty() || play.customers.iter().any(|customer| !customer.erased_at.is_empty()) {
        return;
    }
    let shown = |customer: &Customer| lines(play, customer).iter().filter(|line| line.incoming).count();
    let with_agents: usize = play.customers.iter().map(shown).sum();
    let delivered = sum(|tally| tally.delivered, false);
    // Edits are delivered, too, and so is what the person writes who writes last.
    if i64::try_from(with_agents).unwrap() > delivered + notes(play) {
        broken.push(format!("promise 13: {delivered} are delivered by the receipt, and the agents have {with_agents}"));
    }
    let shown = |customer: &Customer| {
        let tokens: Vec<String> = bot_messages(play, customer).iter().map(token).collect();
        let told = customer.sent.iter().filter(|sent| state(play, sent).is_some_and(|(state, _)| state == "Delivered"));
        told.filter(|sent| tokens.contains(&sent.token)).count()
    };
    let with_customers: usize = play.customers.iter().map(shown).sum();
    let delivered = sum(|tally| tally.delivered, true);
    if i64::try_from(with_customers).unwrap() > delivered {
        broken
            .push(format!("promise 13: {delivered} are delivered by the receipt, and customers have {with_customers}"));
    }
}

/// Incoming lines of the CRM that are the relay's own: about what could not be read.
fn notes(play: &Play) -> i64 {
    let is_note = |line: &Line| line.incoming && line.text.starts_with('[');
    let of = |customer| lines(play, customer).iter().filter(|line| is_note(line)).count();
    play.customers.iter().map(|customer| i64::try_from(of(customer)).unwrap()).sum()
}

/// Promises 1, 2, 3, 6: what the customer wrote is with the agents, once and in its order.
fn way_in(play: &Play, plan: &Plan, customer: &Customer, broken: &mut Vec<String>) {
    let lines = lines(play, customer);
    let mut newest: Option<&Said> = None;
    for line in lines.iter().filter(|line| line.incoming) {
        let Some(said) = customer.said.iter().find(|said| said.text == line.text) else { continue };
        if let Some(before) = newest
            .filter(|_| !has_lost_an_erasure(play, customer))
            .filter(|before| before.at > said.at || (before.at == said.at && before.mid > said.mid))
        {
            broken.push(format!(
                "promise 3: «{}» stands behind «{}» with the agents of {}",
                said.text,
                before.text,
                customer.sender()
            ));
        }
        newest = Some(said);
    }
    for said in &customer.said {
        let is_shown = |line: &&Line| line.incoming && line.text.contains(&said.text) && !is_file_alone(line, said);
        let shown: Vec<&Line> = lines.iter().filter(is_shown).collect();
        if shown.len() > 1 {
            broken.push(format!("promise 2: «{}» is {} times with the agents", said.text, shown.len()));
        }
        let plain = said.edits.is_empty() && !said.deleted && !said.bent;
        if let [line] = shown[..]
            && plain
        {
            if line.text != said.text && !plan.disturbs_order() {
                broken.push(format!("promise 3: «{}» is shown as late, and nothing was: {}", said.text, line.text));
            }
            // MANGO OFFICE tells of a file as of a message of its own.
            let is_with_it = line.files == 1 || (play.stage.mango.is_some() && has_file(&lines, said));
            if said.file && !is_with_it && said.erased_at.is_none() {
                broken.push(format!("promise 6: the file of «{}» is not with the agents: {}", said.text, line.text));
            }
        }
        for edit in &said.edits {
            // Read back, the message itself bears the words already. What went under a closed chat,
            // where nobody looks, is told once more with an original that comes later.
            let is_edit = |line: &&Line, after_the_close: bool| {
                line.text.contains("[Сообщение изменено]")
                    && line.text.contains(edit.as_str())
                    && line.text.contains("[После закрытия диалога]") == after_the_close
            };
            for after_the_close in [false, true] {
                let shown = lines.iter().filter(|line| is_edit(line, after_the_close)).count();
                if shown > 1 {
                    broken.push(format!("promise 2: the edit «{edit}» is {shown} times with the agents"));
                }
            }
        }
    }
}

/// Agents' files go through MANGO OFFICE by a setting only.
fn keeps_files(plan: &Plan) -> bool {
    matches!(plan.setting.way, Way::MangoDialogs(Habits { takes_files: false, .. }))
}

/// Promises 3 and 4: what an agent wrote is with the customer, once and in its order, or the agent
/// knows that it is not.
fn way_out(play: &Play, plan: &Plan, customer: &Customer, broken: &mut Vec<String>) {
    let shown = bot_messages(play, customer);
    let tokens: Vec<String> = shown.iter().map(token).collect();
    let mut last = None;
    for found in &tokens {
        let Some(place) = customer.sent.iter().position(|sent| sent.token == *found) else { continue };
        if last.is_some_and(|last| last > place) {
            broken.push(format!("promise 3: «{found}» came to {} out of its order: {tokens:?}", customer.sender()));
        }
        last = Some(place);
    }
    for sent in &customer.sent {
        let count = tokens.iter().filter(|token| **token == sent.token).count();
        if count > 1 {
            broken.push(format!("promise 4: «{}» came to {} {count} times", sent.token, customer.sender()));
        }
        let Some((state, error)) = state(play, sent) else { continue };
        match state.as_str() {
            "Delivered" if count == 0 => {
                broken.push(format!("promise 4: «{}» is told as delivered and did not come", sent.token));
            }
            "Failed" if count > 0 && sent.parts == 1 => {
                broken.push(format!("promise 4: «{}» is told as failed and has come ({error})", sent.token));
            }
            // Files go by a setting only, and the agent is told.
            "Failed" if keeps_files(plan) && sent.token.strip_suffix(".pdf").is_some() => {}
            "Failed" if !customer.left && !customer.erased_at.iter().any(|at| *at + UNDER_WAY > sent.at) => {
                broken.push(format!("promise 4: «{}» failed without a cause ({error})", sent.token));
            }
            // Without reading nothing can be proved, nor where the dialog's chat was forgotten with
            // the person.
            "Uncertain" if !plan.setting.reading || !customer.erased_at.is_empty() => {}
            // What a lost store had begun to send is not sent again.
            "Uncertain" if play.lost_at.iter().any(|at| *at > sent.at) => {}
            "Uncertain" => broken.push(format!("promise 4: «{}» could have been looked for ({error})", sent.token)),
            _ => {}
        }
    }
    let bot = play.stage.network.bot.answers.lock().unwrap();
    for found in &tokens {
        let known = OF_THE_CHANNEL.contains(&found.as_str())
            || bot.iter().any(|answer| answer.sender == customer.sender() && answer.token == *found)
            || found.starts_with("слово")
            || customer.desk.contains(found)
            || customer.sent.iter().any(|sent| sent.token == *found);
        if !known {
            broken.push(format!("«{found}» came to {} and nobody wrote it", customer.sender()));
        }
    }
    let lines = lines(play, customer);
    for token in &customer.desk {
        let told = lines.iter().filter(|line| line.text.contains(token.as_str())).count();
        if told > 1 {
            broken.push(format!("promise 2: «{token}» of MANGO's desk is {told} times with the agents"));
        }
    }
    for answer in bot.iter().filter(|answer| answer.sender == customer.sender()) {
        if tokens.iter().filter(|token| **token == answer.token).count() > 1 {
            broken.push(format!("promise 4: «{}» of the bot came to {} twice", answer.token, answer.sender));
        }
    }
    let rules = plan.setting.rules();
    for (text, wanted) in [
        (AT_ONCE, rules.auto_replies.iter().any(|reply| reply.text == AT_ONCE)),
        (SOON, rules.auto_replies.iter().any(|reply| reply.text == SOON)),
        (AGAIN, rules.auto_replies.iter().any(|reply| reply.text == AGAIN)),
        (CLOSED, matches!(rules.off_hours, OffHours::AutoReplies(_))),
        (GOODBYE, rules.close_message.is_some()),
    ] {
        if !wanted && tokens.iter().any(|token| token == text) {
            broken.push(format!("promise 5: «{text}» came to {} and is in no rule", customer.sender()));
        }
    }
}

/// Promise 5: replies and farewells once for what brings them about, and none behind an agent's
/// answer.
fn own_words(play: &Play, plan: &Plan, customer: &Customer, broken: &mut Vec<String>) {
    let closings = closings(play, customer);
    let bot = play.stage.network.bot.answers.lock().unwrap();
    let bot: Vec<_> = bot.iter().filter(|answer| answer.sender == customer.sender()).collect();
    // A dialog without a word of the customer's has no chat to be closed.
    let by_bot: Vec<i64> =
        bot.iter().filter(|answer| answer.closes).map(|answer| play.stage.time_of(answer.at)).collect();
    // Of who came back the relay may hear late: that dialog begins when it does.
    let first_words = customer.breaks.iter().filter_map(|at| customer.said.iter().find(|said| said.at >= *at));
    let heard = first_words.flat_map(|said| heard_at(play, said));
    let mut ends: Vec<i64> = closings.iter().chain(&customer.breaks).chain(&by_bot).copied().chain(heard).collect();
    ends.sort_unstable();
    let shown = bot_messages(play, customer);
    let goodbyes = of_bot(play, customer, GOODBYE);
    if goodbyes.len() > closings.len() + by_bot.len() {
        broken.push(format!(
            "promise 5: {} farewells to {} and {} closings",
            goodbyes.len(),
            customer.sender(),
            closings.len()
        ));
    }
    let sets_clock = sets_clock(plan);
    // Nor does a bot go on where an agent has answered.
    for answer in &bot {
        for at in of_bot(play, customer, &answer.token) {
            for sent in answered_before(customer, &shown, &ends, at) {
                let (token, sender) = (&answer.token, &answer.sender);
                broken.push(format!(
                    "promise 5: «{token}» of the bot came to {sender} behind the answer «{}»",
                    sent.token
                ));
            }
        }
    }
    let rules = plan.setting.rules();
    let both =
        [ReplySet::Hours, ReplySet::OffHours].map(|set| rules.replies(set).iter().map(move |reply| (set, reply)));
    for (set, rule) in both.into_iter().flatten() {
        let (reply, at_most) = (rule.text.as_str(), usize::try_from(rule.occurrences()).unwrap());
        let times = of_bot(play, customer, reply);
        let outside = times.iter().filter(|at| {
            let passed = **at - BEGINNING;
            [passed, passed - HARDLY_LATE]
                .iter()
                .all(|passed| plan.setting.is_open(*passed) != (set == ReplySet::Hours))
        });
        if plan.setting.clock_ahead == 0 && !sets_clock && outside.count() > 0 {
            broken.push(format!("promise 5: «{reply}» came to {} outside its hours", customer.sender()));
        }
        for (number, at) in times.iter().enumerate() {
            for sent in answered_before(customer, &shown, &ends, *at) {
                broken.push(format!(
                    "promise 5: «{reply}» came to {} behind the answer «{}» in one dialog",
                    customer.sender(),
                    sent.token
                ));
            }
            let Some(first) = times.get(number.wrapping_sub(at_most)).filter(|_| number >= at_most) else { continue };
            // A dialog in which nobody has written closes by time without anything to be seen, and
            // by a clock that was set at any time.
            let silent_since = last_word_before(customer, *first);
            let by_time =
                plan.setting.auto_close.is_some_and(|after| at - silent_since >= after - HARDLY_LATE || sets_clock);
            if !by_time && !ends.iter().any(|end| (*first - 120_000..=*at).contains(end)) {
                broken.push(format!(
                    "promise 5: «{reply}» came to {} more than {at_most} times in one dialog",
                    customer.sender()
                ));
            }
        }
    }
}

fn sets_clock(plan: &Plan) -> bool {
    plan.steps.iter().any(|(step, _)| matches!(step, Step::SetClock(_)))
}

/// When somebody last wrote before that moment.
fn last_word_before(customer: &Customer, moment: i64) -> i64 {
    let words = customer.said.iter().map(|said| said.at).chain(customer.sent.iter().map(|sent| sent.at));
    words.filter(|at| *at < moment - HARDLY_LATE).max().unwrap_or(0)
}

/// When that message was brought: as calls that were taken, or by asking, which a full disk
/// repeats. MANGO OFFICE has another id for it.
fn heard_at(play: &Play, said: &Said) -> Vec<i64> {
    let mid = if play.stage.mango.is_some() { &said.text } else { &said.mid };
    let acknowledged = play.stage.door.acknowledged.lock().unwrap();
    let polled = play.stage.network.polled.lock().unwrap();
    let called = acknowledged.iter().filter(|(body, _)| contains(body, mid)).map(|(_, at)| *at);
    let polls = polled.iter().filter(|(_, body)| contains(body, mid)).map(|(at, _)| *at);
    called.chain(polls).map(|at| play.stage.time_of(at)).collect()
}

/// What an agent had answered before, where no dialog has ended since.
fn answered_before<'a>(
    customer: &'a Customer,
    shown: &'a [Entry],
    ends: &'a [i64],
    at: i64,
) -> impl Iterator<Item = &'a Sent> {
    customer.sent.iter().filter(move |sent| {
        shown.iter().any(|entry| token(entry) == sent.token && entry.timestamp < at - HARDLY_LATE)
            && !ends.iter().any(|end| (sent.at - 100..=at).contains(end))
    })
}

/// Promise 9: of who was erased nothing comes back.
fn erased(play: &Play, customer: &Customer, broken: &mut Vec<String>) {
    let lines = lines(play, customer);
    let acknowledged = play.stage.door.acknowledged.lock().unwrap();
    for said in &customer.said {
        let Some(erased_at) = said.erased_at.filter(|at| !play.lost_at.iter().any(|lost| lost > at)) else { continue };
        let came_before = acknowledged.iter().any(|(body, at)| {
            let is_it = contains(body, &said.mid) && contains(body, "message_created");
            let is_it = is_it || (play.stage.mango.is_some() && contains(body, &said.text));
            play.stage.time_of(*at) < erased_at && is_it
        });
        let back = lines.iter().any(|line| line.text.contains(&said.text) && line.stored_at > erased_at + UNDER_WAY);
        if back && came_before {
            broken.push(format!("promise 9: «{}» of somebody who was erased came back", said.text));
        }
    }
}

/// After the relay has ended: nothing of an erased person is in any file of the store.
pub fn in_the_files(play: &Play) -> Vec<String> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(play.stage.folder()).unwrap() {
        bytes.extend(std::fs::read(entry.unwrap().path()).unwrap_or_default());
    }
    let acknowledged = play.stage.door.acknowledged.lock().unwrap();
    let mut broken = Vec::new();
    for said in play.customers.iter().flat_map(|customer| &customer.said) {
        // A store that was lost has taken the erasure with it.
        let Some(erased_at) = said.erased_at.filter(|at| !play.lost_at.iter().any(|lost| lost > at)) else { continue };
        let times: Vec<i64> = acknowledged
            .iter()
            .filter(|(body, _)| contains(body, &said.text))
            .map(|(_, at)| play.stage.time_of(*at))
            .collect();
        // What came later for the first time (an edit bears the words, too) is news.
        if !times.is_empty()
            && times.iter().all(|at| *at < erased_at)
            && said.edits.is_empty()
            && contains(&bytes, &said.text)
        {
            broken.push(format!("promise 9: «{}» is still in a file of the store", said.text));
        }
    }
    broken
}

/// What happens in a group touches no dialog.
fn in_the_group(play: &Play, broken: &mut Vec<String>) {
    let crm = play.stage.crm.control();
    let passer_by = format!("max:{}", play.passer_by);
    if !crm.transcript(&passer_by).is_empty() || !crm.chats(Some(&passer_by)).is_empty() {
        broken.push("promise 3: somebody who was only in the group is with the agents".to_owned());
    }
    for sender in crm.customers() {
        for line in crm.transcript(&sender) {
            let text = line["text"].as_str().unwrap_or_default();
            if text.contains("группе-кнопка") || play.group_texts.iter().any(|written| text.contains(written))
            {
                broken.push(format!("promise 3: «{text}» of the group is with the agents of {sender}"));
            }
        }
    }
    let group = play.stage.max.control().chat(play.group, true).unwrap();
    if let Some(entry) = group.messages.iter().find(|entry| entry.from_bot) {
        broken.push(format!("promise 3: «{}» was sent into the group", entry.text));
    }
}

/// Promise 8.
fn limits(play: &Play, broken: &mut Vec<String>) {
    if let Some(mango) = &play.stage.mango {
        for violation in mango.control().violations() {
            broken.push(format!("promise 8: MANGO OFFICE was asked wrongly or too often: {violation}"));
        }
        return;
    }
    let seen = play.stage.max.control().statistics();
    if let Some((_, highest)) = seen.highest_per_second.iter().find(|(_, highest)| **highest > 30) {
        broken.push(format!("promise 8: {highest} requests to MAX in one second"));
    }
    for chat in seen.highest_per_second_in_chat {
        if chat.call == ChatCall::Send && chat.highest > 2 {
            broken.push(format!("promise 8: {} sends into one dialog in one second", chat.highest));
        }
    }
    if seen.tokens_at_file_hosts > 0 {
        broken.push("the token was shown to a file host".to_owned());
    }
}

/// Whether the agents must have this message in the end.
fn is_owed(play: &Play, plan: &Plan, customer: &Customer, place: usize) -> bool {
    let said = &customer.said[place];
    if said.doubtful || said.erased_at.is_some() || said.deleted {
        return false;
    }
    // What MAX did not bring can only be read, and only of a person of whom something was brought
    // before.
    !said.missed || (plan.setting.reading && was_known(play, customer, said))
}

/// The relay had an update of the customer's before, and has not forgotten the person since.
fn was_known(play: &Play, customer: &Customer, said: &Said) -> bool {
    let forgotten = customer.erased_at.iter().chain(&play.lost_at).copied();
    let since = forgotten.filter(|at| *at <= said.at).max().unwrap_or(0);
    let acknowledged = play.stage.door.acknowledged.lock().unwrap();
    acknowledged.iter().any(|(body, at)| {
        let at = play.stage.time_of(*at);
        (since..said.at).contains(&at)
            && contains(body, &format!("\"user_id\":{}", customer.id))
            && (contains(body, "message_created") || contains(body, "bot_started"))
            && contains(body, &format!("\"chat_id\":{}", customer.chat.unwrap_or_default()))
    })
}

fn is_there(said: &Said, lines: &[Line]) -> bool {
    lines
        .iter()
        .any(|line| line.text.contains(&said.text) || said.edits.iter().any(|edit| line.text.contains(edit.as_str())))
}

/// A file that MANGO OFFICE shows as a message of its own: it bears the name and nothing else.
fn is_file_alone(line: &Line, said: &Said) -> bool {
    !line.text.lines().any(|words| words == said.text)
        && line.names.iter().any(|name| *name == format!("{}.pdf", said.text))
}

fn has_file(lines: &[Line], said: &Said) -> bool {
    let files = lines.iter().flat_map(|line| &line.names).filter(|name| **name == format!("{}.pdf", said.text));
    files.count() == 1
}

fn contains(bytes: &[u8], text: &str) -> bool {
    !text.is_empty() && bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn lines(play: &Play, customer: &Customer) -> Vec<Line> {
    let transcript = play.stage.crm.control().transcript(&customer.sender());
    let lines = transcript.iter().map(|line| Line {
        text: line["text"].as_str().unwrap_or_default().to_owned(),
        incoming: line["direction"] == "incoming",
        stored_at: line["storedMs"].as_i64().unwrap_or_default(),
        files: line["attachments"].as_array().map_or(0, Vec::len),
        names: {
            let files = line["attachments"].as_array().into_iter().flatten();
            files.filter_map(|file| file["name"].as_str().map(str::to_owned)).collect()
        },
    });
    lines.collect()
}

/// What the bot wrote into the dialog, whatever the customer has done with it since.
fn bot_messages(play: &Play, customer: &Customer) -> Vec<Entry> {
    let Some(chat) = customer.chat else { return Vec::new() };
    let transcript = play.stage.max.control().chat(chat, true).unwrap();
    transcript.messages.into_iter().filter(|entry| entry.from_bot).collect()
}

fn of_bot(play: &Play, customer: &Customer, text: &str) -> Vec<i64> {
    let messages = bot_messages(play, customer).into_iter().filter(|entry| entry.text == text);
    messages.map(|entry| entry.timestamp).collect()
}

/// What a message of the bot's is known by.
fn token(entry: &Entry) -> String {
    if let Some(name) = entry.attachments.iter().find_map(|attachment| attachment.name.clone()) {
        return name;
    }
    let own = OF_THE_CHANNEL.contains(&entry.text.as_str());
    // Of a long one only the beginning.
    if own { entry.text.clone() } else { entry.text.split(' ').next().unwrap_or_default().to_owned() }
}

/// What the agent was told of a message, and why; none: there is no row.
fn state(play: &Play, sent: &Sent) -> Option<(String, String)> {
    let id = sent.message.to_string();
    let outbox = play.stage.crm.control().outbox();
    let row =
        outbox.iter().find(|row| row["MessageId"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(&id)))?;
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    Some((text("State"), text("Error")))
}

/// When chats of this customer's were closed.
fn closings(play: &Play, customer: &Customer) -> Vec<i64> {
    let rows = play.stage.crm.control().outbox();
    let rows = rows.iter().filter(|row| row["Kind"] == "closed" && row["Recipient"] == customer.sender());
    rows.map(|row| time(&row["CreatedOn"])).collect()
}

fn time(value: &Value) -> i64 {
    let text = value.as_str().unwrap_or_default();
    let parsed = text.parse::<jiff::Timestamp>().or_else(|_| format!("{text}Z").parse());
    parsed.map_or(0, jiff::Timestamp::as_millisecond)
}

/// All that can be seen, for a person who looks for the fault.
pub fn shown(play: &Play) -> String {
    let mut text = String::new();
    for customer in &play.customers {
        let _ = writeln!(text, "{} (chat {:?})", customer.sender(), customer.chat);
        let mut events: Vec<(i64, String)> = Vec::new();
        for line in play.stage.crm.control().transcript(&customer.sender()) {
            let (at, from) =
                (line["storedMs"].as_i64().unwrap_or_default(), line["author"].as_str().unwrap_or_default());
            events.push((at, format!("CRM {from} [{}]: {}", short(&line["chatId"]), line["text"])));
        }
        if let Some(chat) = customer.chat {
            for entry in play.stage.max.control().chat(chat, true).unwrap().messages {
                let from = if entry.from_bot { "bot" } else { "customer" };
                events.push((entry.timestamp, format!("MAX {from}: {} ({})", token(&entry), entry.mid)));
            }
        }
        for message in
            play.stage.mango.iter().flat_map(|mango| mango.control().dialogs()).filter(|session| {
                session["variables"]["social_user"]["social_user_id"] == customer.id.to_string().as_str()
            })
        {
            let words = format!("MANGO {} {} {}", message["session_id"], message["state"], message["abonent_id"]);
            events.push((message["update_time"].as_i64().unwrap_or_default(), words));
            for entry in message["messages"].as_array().into_iter().flatten() {
                let words: String = entry["payload"]["text"].as_str().unwrap_or("file").chars().take(40).collect();
                let words = format!("MANGO {} {} {words}", message["session_id"], entry["direction"]);
                events.push((entry["time"].as_i64().unwrap_or_default(), words));
            }
        }
        for row in play.stage.crm.control().outbox().iter().filter(|row| row["Recipient"] == customer.sender()) {
            let (kind, state) = (&row["Kind"], &row["State"]);
            let words = format!("outbox {kind} [{}] {} {state} {}", short(&row["ChatId"]), row["Text"], row["Error"]);
            events.push((time(&row["CreatedOn"]), words.chars().take(160).collect()));
        }
        for chat in play.stage.crm.control().chats(Some(&customer.sender())) {
            let _ = writeln!(text, "  chat {chat}");
        }
        for at in &customer.breaks {
            events.push((*at, "left or erased".to_owned()));
        }
        events.sort_by_key(|(at, _)| *at);
        for (at, event) in events {
            let _ = writeln!(text, "  {:>9} {event}", at - BEGINNING);
        }
    }
    text
}

fn short(id: &Value) -> String {
    id.as_str().unwrap_or_default().chars().take(4).collect()
}

/// What came how often, for a look at what the sequences cover.
pub fn coverage(play: &Play, counts: &mut HashMap<&'static str, usize>) {
    for customer in &play.customers {
        *counts.entry("said").or_default() += customer.said.len();
        *counts.entry("sent").or_default() += customer.sent.len();
        *counts.entry("closed").or_default() += closings(play, customer).len();
        *counts.entry("farewells").or_default() += of_bot(play, customer, GOODBYE).len();
        for reply in [AT_ONCE, SOON, AGAIN, CLOSED] {
            *counts.entry("replies").or_default() += of_bot(play, customer, reply).len();
        }
        *counts.entry("at MANGO's desk").or_default() += customer.desk.len();
        let late = lines(play, customer).iter().filter(|line| line.text.contains("получено с опозданием")).count();
        *counts.entry("late").or_default() += late;
    }
    *counts.entry("by the bot").or_default() += play.stage.network.bot.answers.lock().unwrap().len();
    *counts.entry("acknowledged").or_default() += play.stage.door.acknowledged.lock().unwrap().len();
}
