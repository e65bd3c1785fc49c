//! Who has the bot's webhook at MAX, where MANGO OFFICE is to have it: what `GET /subscriptions` of
//! the bot shows of others than us.
//!
//! Must not: judge what follows from it; [`super::report`] and [`super::manual_steps`] do.

use super::observe::Observation;
use super::plan;
use super::report::say;
use super::subscription::{self, Whose};
use super::validate::Desired;
use crate::api::Language;

pub(super) struct BotAtMax {
    is_mangos: bool,
    /// Addresses of others.
    others: String,
}

impl BotAtMax {
    /// None: it is not known.
    pub fn of(desired: &Desired, observation: &Observation) -> Option<Self> {
        if desired.token.is_err() || observation.subscriptions.seen.is_none() {
            return None;
        }
        let seen = plan::subscriptions(desired, observation);
        let others = seen.iter().filter(|(_, whose)| matches!(whose, Whose::Foreign | Whose::Elsewhere));
        let (mangos, others): (Vec<&str>, Vec<&str>) =
            others.map(|(seen, _)| seen.url.as_str()).partition(|url| subscription::is_of_mango(url));
        let others: Vec<String> = others.into_iter().map(subscription::shown).collect();
        Some(Self { is_mangos: !mangos.is_empty(), others: others.join(", ") })
    }

    pub fn is_not_mangos(&self) -> bool {
        !self.is_mangos
    }

    pub fn words(&self, language: Language) -> String {
        let others = &self.others;
        let (english, russian, others) = match (self.is_mangos, others.is_empty()) {
            (true, true) => (
                "MAX sends the bot's messages to MANGO OFFICE",
                "MAX присылает сообщения бота в MANGO OFFICE",
                String::new(),
            ),
            (true, false) => (
                "MAX sends the bot's messages to MANGO OFFICE and to another program",
                "MAX присылает сообщения бота в MANGO OFFICE и другой программе",
                format!(": {others}"),
            ),
            (false, true) => (
                "MAX shows no webhook of MANGO OFFICE for the bot",
                "MAX не показывает у бота вебхука MANGO OFFICE",
                String::new(),
            ),
            (false, false) => (
                "MAX sends the bot's messages to an address that is not known as MANGO OFFICE's",
                "MAX присылает сообщения бота по адресу, который не известен как адрес MANGO OFFICE",
                format!(" ({others})"),
            ),
        };
        format!("{}{others}", say(language, english, russian))
    }
}
