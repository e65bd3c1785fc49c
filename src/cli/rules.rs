//! `maxchannel rules`: what a channel would do in a dialog, told beforehand: which replies fire,
//! who gets the messages, what closes it.
//!
//! Nothing outside is asked and no time passes: the rules of [`crate::policy`] are played by
//! [`timeline`].

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Output, USAGE, files};
use crate::{
    api::{Duration, manifest::ChannelManifest, yaml},
    policy::{
        OffHours, Phase, Rules,
        timeline::{self, Act, Line, Party},
    },
    time::Millis,
};

/// What happens after the last event is told for so long: one day more than the longest auto-close.
const HORIZON: Millis = 31 * 86_400_000;

/// Tell what a channel would do in a dialog.
///
/// Plays a dialog by the rules of the manifest, in simulated time, and prints what would be sent to
/// whom, when and why. Without events, a customer writes one message at the given time and nobody
/// answers. Exit code 0: told; 1: the manifest has errors; 2: wrong usage, or a file cannot be
/// read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Events are a list in YAML, `at` from --at on or a time of its own:\n  \
        - {at: 0s, customer: starts}\n  \
        - {at: 20s, customer: writes, text: \"Здравствуйте\"}\n  \
        - {at: 2m, agent: answers, text: \"Слушаю вас\"}\n\
    customer: starts, writes, edits, leaves\nagent: accepts, answers, transfers, closes\n\
    bot: answers, handsOver, closes, fails, away, back\n\n\
    Examples:\n  maxchannel rules -f channel.yaml --at '2026-11-24 17:50'\n  \
        maxchannel rules -f channel.yaml --at 2026-11-24T17:50:00+03:00 --events events.yaml -o json")]
pub(super) struct Args {
    /// The file with the MaxChannel; `-` is stdin. Several channels are told one after another.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    file: PathBuf,
    /// When the dialog begins, like `2026-11-24 17:50` by the clock of the working hours (else
    /// UTC), or with an offset.
    #[arg(long, value_name = "TIME")]
    at: String,
    /// The file with what happens; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What there is to complain about, and the exit code.
type Complaint = (u8, String);

pub(super) fn run(args: &Args) -> ExitCode {
    match report(args) {
        Ok(text) => super::print(&text),
        Err((code, message)) => {
            super::complain("rules", args.output, &message);
            ExitCode::from(code)
        }
    }
}

fn usage(message: String) -> Complaint {
    (USAGE, message)
}

fn report(args: &Args) -> Result<String, Complaint> {
    let manifests = files::read_all(std::slice::from_ref(&args.file)).map_err(usage)?;
    if let Some(error) = manifests.errors.first() {
        return Err((1, error.to_string()));
    }
    if manifests.channels.is_empty() {
        return Err(usage(format!("no MaxChannel in {}: is the path right?", args.file.display())));
    }
    let events = match &args.events {
        Some(path) => {
            let text = files::read_file(path).map_err(|error| usage(error.to_string()))?;
            read_events(&text).map_err(|problem| usage(format!("{}: {problem}", path.display())))?
        }
        None => vec![Given { at: "0s".to_owned(), customer: Some(Customer::Writes), ..Given::default() }],
    };
    let told =
        manifests.channels.iter().map(|channel| tell(channel, &args.at, &events)).collect::<Result<Vec<_>, _>>()?;
    Ok(match args.output {
        Output::Text => told.iter().map(Told::as_text).collect::<Vec<_>>().join("\n"),
        Output::Json => format!("{:#}\n", json!({"channels": told.iter().map(Told::as_json).collect::<Vec<_>>()})),
    })
}

/// The same for the first channel of a manifest's text, as JSON; what is wrong in one sentence.
#[cfg(feature = "simulator")]
pub(super) fn of_text(text: &str, at: &str, events: &str) -> Result<Value, String> {
    let mut manifests = crate::api::manifest::Manifests::default();
    manifests.add("manifest.yaml", text);
    let channel = manifests.channels.first().ok_or("there is no MaxChannel in it")?;
    tell(channel, at, &read_events(events)?).map(|told| told.as_json()).map_err(|(_, message)| message)
}

/// One line of an events file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    at: String,
    customer: Option<Customer>,
    agent: Option<Agent>,
    bot: Option<Bot>,
    text: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Customer {
    Starts,
    Writes,
    Edits,
    Leaves,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Agent {
    Accepts,
    Answers,
    Transfers,
    Closes,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Bot {
    Answers,
    HandsOver,
    Closes,
    Fails,
    Away,
    Back,
}

fn read_events(text: &str) -> Result<Vec<Given>, String> {
    let value = yaml::read(text).map_err(|error| format!("line {}: {}", error.line, error.message))?;
    let Value::Array(lines) = value else {
        return Err("not a list: write lines like `- {at: 20s, customer: writes}`".to_owned());
    };
    let numbered = lines.into_iter().enumerate();
    let events = numbered.map(|(index, line)| {
        serde_json::from_value::<Given>(line)
            .map_err(|error| error.to_string())
            .and_then(|given| given.act().map(|_| given))
            .map_err(|error| format!("event {}: {error}", index + 1))
    });
    events.collect()
}

impl Given {
    fn act(&self) -> Result<Act, String> {
        let text = || self.text.clone().unwrap_or_else(|| "…".to_owned());
        Ok(match (self.customer, self.agent, self.bot) {
            (Some(Customer::Starts), None, None) => Act::CustomerStarts,
            (Some(Customer::Writes), None, None) => Act::CustomerWrites(text()),
            (Some(Customer::Edits), None, None) => Act::CustomerEdits,
            (Some(Customer::Leaves), None, None) => Act::CustomerLeaves,
            (None, Some(Agent::Accepts), None) => Act::AgentAccepts,
            (None, Some(Agent::Answers), None) => Act::AgentAnswers(text()),
            (None, Some(Agent::Transfers), None) => Act::AgentTransfers,
            (None, Some(Agent::Closes), None) => Act::AgentCloses,
            (None, None, Some(Bot::Answers)) => Act::BotAnswers(text()),
            (None, None, Some(Bot::HandsOver)) => Act::BotHandsOver,
            (None, None, Some(Bot::Closes)) => Act::BotCloses,
            (None, None, Some(Bot::Fails)) => Act::BotFails,
            (None, None, Some(Bot::Away)) => Act::BotsAway,
            (None, None, Some(Bot::Back)) => Act::BotsBack,
            _ => return Err("give exactly one of customer, agent and bot".to_owned()),
        })
    }
}

/// A moment by the clock of the zone, or with an offset of its own.
fn moment(text: &str, zone: &TimeZone) -> Result<Millis, String> {
    let given = text
        .parse::<Timestamp>()
        .or_else(|_| text.parse::<DateTime>()?.to_zoned(zone.clone()).map(|at| at.timestamp()));
    given
        .map(Timestamp::as_millisecond)
        .map_err(|_| format!("{text:?} is not a time; write it like 2026-11-24 17:50 or 2026-11-24T17:50:00+03:00"))
}

struct Told {
    namespace: String,
    name: String,
    zone: TimeZone,
    rules: Rules,
    at: Millis,
    lines: Vec<Line>,
    /// The state in which the dialog is left.
    end: Phase,
}

fn tell(channel: &ChannelManifest, at: &str, events: &[Given]) -> Result<Told, Complaint> {
    let parsed = channel.parse().map_err(|findings| {
        let lines = findings.iter().map(|(place, finding)| format!("{place} {finding}"));
        (1, lines.collect::<Vec<_>>().join("\n"))
    })?;
    let rules = Rules::from_spec(&parsed.spec).map_err(|problem| (1, format!("{}: {problem}", channel.source)))?;
    let zone = rules.working_hours.as_ref().map_or(TimeZone::UTC, |hours| hours.zone().clone());
    let at = moment(at, &zone).map_err(|problem| usage(format!("--at: {problem}")))?;
    let mut acts = Vec::new();
    for (index, given) in events.iter().enumerate() {
        let problem = |text: String| usage(format!("event {}: {text}", index + 1));
        let time = match given.at.parse::<Duration>() {
            Ok(after) => at.saturating_add(after.millis()),
            Err(_) => moment(&given.at, &zone).map_err(problem)?,
        };
        acts.push((time, given.act().map_err(problem)?));
    }
    acts.sort_by_key(|(time, _)| *time);
    let until = acts.last().map_or(at, |(time, _)| *time).saturating_add(HORIZON);
    let (lines, end) = timeline::play(&rules, &acts, until);
    Ok(Told { namespace: channel.namespace.clone(), name: channel.name.clone(), zone, rules, at, lines, end })
}

impl Told {
    fn time(&self, at: Millis, format: &str) -> String {
        let at = Timestamp::from_millisecond(at).unwrap_or_default().to_zoned(self.zone.clone());
        at.strftime(format).to_string()
    }

    /// What is in force at the beginning.
    fn hours(&self) -> &'static str {
        match (&self.rules.working_hours, &self.rules.off_hours, self.rules.is_open(self.at)) {
            (None, ..) => "no working hours are set",
            (_, OffHours::None, _) => "nothing is set for outside the working hours",
            (_, _, true) => "within the working hours",
            (_, OffHours::Bot, _) => "outside the working hours: the off-hours bot takes new dialogs",
            (_, OffHours::AutoReplies(_), _) => "outside the working hours: the off-hours replies stand in",
        }
    }

    fn as_text(&self) -> String {
        let mut text = String::new();
        let zone = self.zone.iana_name().unwrap_or("UTC");
        let begin = self.time(self.at, "%a %Y-%m-%d %H:%M:%S");
        let _ = writeln!(text, "{}/{}, from {begin} {zone}: {}", self.namespace, self.name, self.hours());
        for line in &self.lines {
            let time = self.time(line.at, "%a %Y-%m-%d %H:%M:%S");
            let said = line.text.as_ref().map(|said| format!(" «{said}»")).unwrap_or_default();
            let why = if line.why.is_empty() { String::new() } else { format!("  ({})", line.why) };
            let words = in_words(line);
            let arrow = if line.happened { "" } else { "  -> " };
            let _ = writeln!(text, "{time}  {arrow}{words}{said}{why}");
        }
        let _ = writeln!(
            text,
            "{}",
            match self.end {
                Phase::Idle => "then: the dialog is over",
                Phase::Started => "then: nothing more happens by itself; the customer has written nothing",
                Phase::WithBot => "then: nothing more happens by itself; the bot holds the dialog",
                Phase::Waiting => "then: nothing more happens by itself; the customer waits for an agent",
                Phase::Served => "then: nothing more happens by itself; an agent has the dialog",
                Phase::Closing => "then: the dialog is being closed",
                Phase::Left => "then: nothing more happens by itself; the customer has left",
            }
        );
        text
    }

    fn as_json(&self) -> Value {
        let zoned = |at: Millis| self.time(at, "%Y-%m-%dT%H:%M:%S%.f%:z");
        let lines: Vec<_> = self
            .lines
            .iter()
            .map(|line| {
                json!({
                    "at": zoned(line.at),
                    "direction": if line.happened { "from" } else { "to" },
                    "party": line.party,
                    "what": line.what,
                    "text": line.text,
                    "why": line.why,
                    "phase": line.phase,
                })
            })
            .collect();
        json!({
            "namespace": self.namespace,
            "name": self.name,
            "at": zoned(self.at),
            "open": self.rules.is_open(self.at),
            "timeline": lines,
            "end": self.end,
        })
    }
}

fn in_words(line: &Line) -> String {
    let party = match line.party {
        Party::Customer => "customer",
        Party::Crm => "CRM",
        Party::Agent => "agent",
        Party::Bot => "bot",
    };
    let what = match line.what {
        "handsOver" => "hands over",
        "away" => "is away",
        "back" => "is back",
        "message" | "ask" => "the message",
        "autoReply" => "reply",
        "closeMessage" => "close message",
        "botAnswer" => "the bot's answer",
        "handOver" => "hand-over",
        "history" => "the history",
        "closeChat" => "closing of the chat",
        "customerLeft" => "a note in the chat",
        other => other,
    };
    if line.happened { format!("{party} {what}") } else { format!("{party}: {what}") }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn told(arguments: &[&str]) -> Result<String, Complaint> {
        report(&Line::try_parse_from(["rules"].iter().chain(arguments)).unwrap().args)
    }

    fn examples() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"))
    }

    /// `examples/rules/README.md` names the command of each expected output; here they are run.
    #[test]
    fn each_example_is_told_as_its_file_says() {
        let readme = fs::read_to_string(examples().join("rules/README.md")).unwrap();
        let commands: Vec<_> = readme.lines().filter_map(|line| line.strip_prefix("    maxchannel rules ")).collect();
        let outputs = fs::read_dir(examples().join("rules")).unwrap().map(|entry| entry.unwrap().file_name());
        let outputs: Vec<_> = outputs.map(|name| name.into_string().unwrap()).collect();
        let is_output = |name: &&String| matches!(name.rsplit('.').next(), Some("txt" | "json"));
        assert_eq!(commands.len(), outputs.iter().filter(is_output).count(), "a command for each output");
        for command in commands {
            let (command, output) = command.split_once(" > ").unwrap();
            let mut arguments = Vec::new();
            for (number, part) in command.split('\'').enumerate() {
                if number % 2 == 1 {
                    arguments.push(part.to_owned());
                } else {
                    let place = |word: &str| match word.strip_prefix("examples/") {
                        Some(rest) => examples().join(rest).display().to_string(),
                        None => word.to_owned(),
                    };
                    arguments.extend(part.split_whitespace().map(place));
                }
            }
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let expected = examples().join(output.strip_prefix("examples/").unwrap());
            let told = told(&arguments).unwrap();
            if std::env::var_os("UPDATE_EXAMPLES").is_some() {
                fs::write(&expected, &told).unwrap();
            }
            assert_eq!(told, fs::read_to_string(&expected).unwrap(), "{command}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_refused_with_the_place_and_the_remedy() {
        let folder = std::env::temp_dir().join(format!("maxchannel-rules-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: &str| {
            fs::write(folder.join(name), text).unwrap();
            folder.join(name).display().to_string()
        };
        let good = examples().join("channel.yaml").display().to_string();
        let office = fs::read_to_string(&good).unwrap();
        let broken = file("broken.yaml", &office.replace("after: 24h", "after: 24 h"));
        let nothing = file("nothing.yaml", "kind: Secret\napiVersion: v1\nmetadata: {name: a}\n");
        for (manifest, at, events, code, part) in [
            (&good, "tomorrow", "[]", 2, "--at: \"tomorrow\" is not a time; write it like 2026-11-24 17:50"),
            (&good, "2026-11-24 17:50", "{}", 2, "not a list: write lines like"),
            (&good, "2026-11-24 17:50", "- {at: 1s, customer: sings}", 2, "event 1: unknown variant `sings`"),
            (
                &good,
                "2026-11-24 17:50",
                "- {at: 1s, agent: answers, bot: fails}",
                2,
                "event 1: give exactly one of customer, agent",
            ),
            (&good, "2026-11-24 17:50", "- {at: soon, agent: answers}", 2, "event 1: \"soon\" is not a time"),
            (&good, "2026-11-24 17:50", "- {at: 1s, operator: answers}", 2, "event 1: unknown field `operator`"),
            (&broken, "2026-11-24 17:50", "[]", 1, "spec.autoClose.after"),
            (&nothing, "2026-11-24 17:50", "[]", 2, "no MaxChannel in"),
        ] {
            let events = file("events.yaml", events);
            let (found, message) = told(&["-f", manifest, "--at", at, "--events", &events]).unwrap_err();
            assert!(message.contains(part) && found == code, "{found} {message}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
