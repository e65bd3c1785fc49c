//! The way in changes on a running channel, in every direction, with messages under way on both
//! sides: the customer writes to a bot whose token MANGO OFFICE has, too, so what they write is
//! with both, and what either brings is theirs.

use std::time::Duration;

use maxchannel::contract::config::Intake;
use maxchannel_simulator::mango::{self, EventFaults, Outage};
use maxchannel_simulator::max::{Fault, Outcome};

use crate::ways::bare;
use crate::world::{Customer, Setup, World, lost_send, quiet_rules};

const WAYS: [Intake; 3] = [Intake::Webhook, Intake::LongPoll, Intake::MangoDialogs];

/// A channel whose bot is connected in MANGO's cabinet, whatever the way in.
struct Both {
    world: World,
}

impl Both {
    async fn start(intake: &Intake) -> Self {
        let setup = Setup { is_connected: true, ..Setup::default() };
        Self { world: World::start_with(quiet_rules(), intake.clone(), setup).await }
    }

    fn mango(&self) -> mango::Control {
        self.world.mango.as_ref().unwrap().control()
    }

    /// The customer writes: the message is with MAX, and soon with MANGO OFFICE.
    async fn say(&self, customer: &Customer, text: &str) {
        self.world.say(customer, text);
        // Neither side puts two messages into one millisecond.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }

    /// Nothing comes or goes the way that is in force.
    fn cut(&self, way: &Intake) {
        match way {
            Intake::Webhook => self.world.max.control().pause_webhooks(true),
            Intake::LongPoll => self.world.max.control().add_fault(Fault {
                path: Some("/updates".to_owned()),
                times: 0,
                outcome: Outcome::html(502),
                ..Fault::default()
            }),
            Intake::None => {}
            Intake::MangoDialogs => {
                self.mango().event_faults(EventFaults { hold: true, ..EventFaults::default() });
                self.mango().outage(Some(Outage::BadGateway));
            }
        }
    }

    fn mend(&self) {
        self.world.max.control().pause_webhooks(false);
        self.world.max.control().clear_faults();
        self.mango().event_faults(EventFaults::default());
        self.mango().outage(None);
    }

    /// The next answer of an agent leaves, and nobody hears that it has.
    fn lose_the_next_answer(&self, way: &Intake) {
        if *way == Intake::MangoDialogs {
            self.mango().fault(mango::Fault {
                path: "/cc/md/session/chat/send_message".to_owned(),
                answer: mango::Answer::Drop,
                ..mango::Fault::default()
            });
        } else {
            self.world.max.control().add_fault(lost_send());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_way_in_loses_doubles_and_reorders_nothing_and_open_dialogs_go_on() {
    for from in WAYS {
        for to in WAYS.into_iter().filter(|to| *to != from) {
            changes(&from, &to).await;
        }
    }
}

async fn changes(from: &Intake, to: &Intake) {
    let case = format!("from {from:?} to {to:?}");
    let mut both = Both::start(from).await;
    let anna = both.world.customer("Анна");
    both.say(&anna, "раз").await;
    let chat = both.world.accept(&anna).await;
    let agent = both.world.agent;
    let answer = |both: &Both, text: &str| both.world.crm.control().send(chat, agent, text, Vec::new()).unwrap();
    answer(&both, "ответ на раз");
    both.world.until_true("the first answer is shown", || both.world.seen(&anna) == ["ответ на раз"]).await;

    // Under way when the way changes: an answer that has left, one behind it, and two messages of
    // the customer's.
    both.lose_the_next_answer(from);
    answer(&both, "да");
    both.world.until_true("the second answer is shown", || both.world.seen(&anna).len() == 2).await;
    both.cut(from);
    both.say(&anna, "два").await;
    answer(&both, "ответ на два");
    both.say(&anna, "Алло?").await;
    both.world.switch(to.clone()).await;
    both.mend();
    both.say(&anna, "Алло?").await;
    both.say(&anna, "три").await;

    let said = ["раз", "два", "Алло?", "Алло?", "три"];
    let shown = ["ответ на раз", "да", "ответ на два"];
    both.world
        .until_true(&format!("{case}: all is told and shown"), || {
            both.world.received(&anna).len() >= said.len() && both.world.seen(&anna).len() >= shown.len()
        })
        .await;
    both.world.pass(120_000).await;
    assert_eq!(told(from, both.world.received(&anna)), told(from, said.map(str::to_owned).to_vec()), "{case}");
    assert_eq!(both.world.seen(&anna), shown, "{case}");
    assert_eq!(both.world.open_chat(&anna), Some(chat), "{case}: the dialog goes on");

    answer(&both, "до свидания");
    both.world.until_true(&format!("{case}: the last answer is shown"), || both.world.seen(&anna).len() > 3).await;
    // Nothing that either side still knows of the time before comes back.
    both.world.pass(900_000).await;
    both.say(&anna, "спасибо").await;
    both.world.until_true(&format!("{case}: the last word is told"), || both.world.received(&anna).len() > 5).await;
    let all = [&said[..], &["спасибо"]].concat().into_iter().map(str::to_owned).collect();
    assert_eq!(told(from, both.world.received(&anna)), told(from, all), "{case}");
    assert_eq!(both.world.seen(&anna), [&shown[..], &["до свидания"]].concat(), "{case}");
    assert_eq!(both.world.open_chat(&anna), Some(chat), "{case}: the dialog goes on");
    both.world.assert_contract_kept();
}

/// What MANGO OFFICE had taken before it ceased to be the way may come behind younger messages: of
/// those the order is not asked for.
fn told(from: &Intake, texts: Vec<String>) -> Vec<String> {
    let mut texts = bare(texts);
    if *from == Intake::MangoDialogs {
        texts.sort();
    }
    texts
}
