//! `kubectl maxchannel`: the commands of day two for a channel in a cluster.
//!
//! Owns: how each is carried out, by `kubectl exec` in the relay's pod or by a command of this
//! program. What is asked for becomes the words of one command ([`Plugin::carried_out`], pure);
//! running them is all that is left. kubectl is there whenever this runs, and brings contexts,
//! credentials and proxies with it. Must not: know how a relay or the API server is spoken to.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{CommandFactory as _, Parser, Subcommand};

use super::{USAGE, moving};

/// The name under which kubectl finds the program as its plugin.
pub(super) const PLUGIN: &str = "kubectl-maxchannel";
/// The name under which kubectl asks what may come next on the command line.
pub(super) const COMPLETION: &str = "kubectl_complete-maxchannel";

/// Where a relay's data are in its pod.
const DATA: &str = "/var/lib/maxchannel";

/// Channels of MaxChannel: how they stand, what waits, and what to do about it.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl maxchannel",
    bin_name = "kubectl maxchannel",
    version,
    max_term_width = 100,
    after_help = "Without a command it is `status`:\n  kubectl maxchannel -A\n  kubectl maxchannel -n crm support --lang ru\n\nExamples:\n  \
                  kubectl maxchannel dead-letters list support -n crm\n  kubectl maxchannel dead-letters replay support max-17\n  \
                  kubectl maxchannel erase support --customer max:91234567\n  kubectl maxchannel logs support -- --since=1h\n  \
                  kubectl maxchannel backup support support.store"
)]
struct Plugin {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show how the channels stand, with cause and remedy.
    Status(Rest),
    /// Show what would change outside; takes manifests, as `maxchannel plan`.
    Plan(Rest),
    /// Make the link, the QR code and the site's button that lead customers to the bot.
    Widget(Rest),
    /// Show what could not be delivered, and have it delivered again.
    DeadLetters {
        #[command(subcommand)]
        command: DeadLetters,
    },
    /// Erase everything that the relay holds of one customer.
    Erase {
        #[command(flatten)]
        channel: Channel,
        /// The customer's user id in MAX, also written `max:<id>` as in the CRM.
        #[arg(long, value_name = "ID")]
        customer: String,
    },
    /// Show what became of every message, day by day.
    Receipt {
        #[command(flatten)]
        channel: Channel,
        /// Only this day. Default: the last thirty.
        #[arg(long, value_name = "YYYY-MM-DD")]
        day: Option<String>,
    },
    /// Show the log of the channel's relay.
    Logs {
        #[command(flatten)]
        channel: Channel,
        /// For `kubectl logs`, such as `--since=1h` or `--follow`.
        #[arg(last = true)]
        options: Vec<String>,
    },
    /// Write a copy of the channel's store; the relay goes on. The file holds customers' messages.
    Backup {
        #[command(flatten)]
        channel: Channel,
        /// Where to; a file that exists is not overwritten.
        file: PathBuf,
    },
    /// Put a copy of a store, or one that was moved here, into the channel's relay.
    Restore {
        #[command(flatten)]
        channel: Channel,
        /// What `backup` or `maxchannel export` wrote.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum DeadLetters {
    /// List them, oldest first: id, direction, customer, age, reason.
    List {
        #[command(flatten)]
        channel: Channel,
        /// Show the messages' texts too.
        #[arg(long)]
        show_text: bool,
    },
    /// Deliver them again.
    Replay {
        #[command(flatten)]
        channel: Channel,
        /// Ids as `list` shows them.
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<String>,
        /// All that have failed. Uncertain ones, which the customer may have, must be named.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Channel {
    /// The channel's name.
    #[arg(value_name = "CHANNEL")]
    name: String,
    /// Its namespace. Default: that of the context.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Context of the kubeconfig. Default: the current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// The one command that carries out what is asked for.
#[derive(Debug, PartialEq, Eq)]
enum CarriedOut {
    /// Of this program, by its words after the program's name.
    Own(Vec<String>),
    /// Of kubectl, with the file that is its input or output.
    Kubectl { words: Vec<String>, input: Option<PathBuf>, output: Option<PathBuf> },
}

impl Plugin {
    fn carried_out(self) -> CarriedOut {
        let own = |first: &[&str], rest: Vec<String>| {
            CarriedOut::Own(first.iter().map(ToString::to_string).chain(rest).collect())
        };
        let kubectl = |words: Vec<String>| CarriedOut::Kubectl { words, input: None, output: None };
        match self.command {
            Action::Status(Rest { rest }) => own(&["status", "--cluster"], rest),
            Action::Plan(Rest { rest }) => own(&["plan"], rest),
            Action::Widget(Rest { rest }) => own(&["widget", "--cluster"], rest),
            Action::DeadLetters { command: DeadLetters::List { channel, show_text } } => {
                let more = if show_text { vec!["--show-text".to_owned()] } else { Vec::new() };
                kubectl(channel.exec(&["dead-letters", "list"], more))
            }
            Action::DeadLetters { command: DeadLetters::Replay { channel, ids, all } } => {
                let more = if all { vec!["--all".to_owned()] } else { ids };
                kubectl(channel.exec(&["dead-letters", "replay"], more))
            }
            Action::Erase { channel, customer } => kubectl(channel.exec(&["erase", "--customer"], vec![customer])),
            Action::Receipt { channel, day } => {
                let more = day.map_or_else(Vec::new, |day| vec!["--day".to_owned(), day]);
                kubectl(channel.exec(&["receipt"], more))
            }
            Action::Logs { channel, options } => {
                let mut words = channel.kubectl("logs");
                words.push(channel.pod());
                words.extend(options);
                kubectl(words)
            }
            Action::Backup { channel, file } => {
                let words = channel.exec(&["export", "--keep"], Vec::new());
                CarriedOut::Kubectl { words, input: None, output: Some(file) }
            }
            Action::Restore { channel, file } => {
                let mut words = channel.exec(&["import"], Vec::new());
                words.insert(1, "-i".to_owned());
                CarriedOut::Kubectl { words, input: Some(file), output: None }
            }
        }
    }
}

impl Channel {
    fn pod(&self) -> String {
        format!("{}-relay-0", self.name)
    }

    /// `kubectl VERB` in the channel's context and namespace.
    fn kubectl(&self, verb: &str) -> Vec<String> {
        let mut words = vec![verb.to_owned()];
        for (option, value) in [("--context", &self.context), ("--namespace", &self.namespace)] {
            if let Some(value) = value {
                words.extend([option.to_owned(), value.clone()]);
            }
        }
        words
    }

    /// A command of the program in the relay's pod.
    fn exec(&self, command: &[&str], more: Vec<String>) -> Vec<String> {
        let mut words = self.kubectl("exec");
        words.extend([self.pod(), "--".to_owned(), "/maxchannel".to_owned()]);
        words.extend(command.iter().map(ToString::to_string));
        words.extend(more);
        words.extend(["--data-dir".to_owned(), DATA.to_owned()]);
        words
    }
}

/// What kubectl is asked of the plugin's own words: `arguments` without the program's name. `Err`:
/// to be carried out by a command of this program, with its words.
pub(super) fn run(arguments: Vec<OsString>) -> Result<ExitCode, Vec<OsString>> {
    let known = |word: &OsString| {
        let word = word.to_string_lossy();
        matches!(&*word, "help" | "--help" | "-h") || Plugin::command().find_subcommand(&*word).is_some()
    };
    // A name or an option first is `status`, as it was before there were commands.
    if !arguments.first().is_some_and(known) {
        return Err(["status", "--cluster"].map(OsString::from).into_iter().chain(arguments).collect());
    }
    let plugin = match Plugin::try_parse_from(std::iter::once(OsString::from("kubectl maxchannel")).chain(arguments)) {
        Ok(plugin) => plugin,
        Err(error) => {
            // A closed pipe leaves nobody to tell.
            let _ = error.print();
            return Ok(ExitCode::from(if error.use_stderr() { USAGE } else { 0 }));
        }
    };
    match plugin.carried_out() {
        CarriedOut::Own(words) => Err(words.into_iter().map(OsString::from).collect()),
        CarriedOut::Kubectl { words, input, output } => Ok(kubectl(&words, input.as_deref(), output.as_deref())
            .unwrap_or_else(|message| {
                eprintln!("kubectl maxchannel: {message}");
                ExitCode::from(USAGE)
            })),
    }
}

fn kubectl(words: &[String], input: Option<&Path>, output: Option<&Path>) -> Result<ExitCode, String> {
    let mut command = Command::new("kubectl");
    command.args(words);
    if let Some(path) = input {
        let file = File::open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        command.stdin(Stdio::from(file));
    }
    // Customers' messages: for its owner only, and never in the place of another copy.
    let begun = output.map(moving::begin).transpose()?;
    if let Some((file, unfinished)) = &begun {
        let file = file.try_clone().map_err(|error| format!("{} cannot be written: {error}", unfinished.display()))?;
        command.stdout(Stdio::from(file));
    }
    let status = command.status().map_err(|error| format!("kubectl cannot be started: {error}"))?;
    match (&begun, output) {
        (Some((file, unfinished)), Some(path)) if status.success() => moving::finish(file, unfinished, path)?,
        // Half a copy is none.
        (Some((_, unfinished)), _) => drop(std::fs::remove_file(unfinished)),
        (None, _) => {}
    }
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(USAGE)))
}

/// What may come next, in the form in which kubectl takes it from `kubectl_complete-maxchannel`:
/// commands first, then the channels of the cluster, a line each, and a last line that says that no
/// files are meant.
pub(super) fn complete(arguments: &[OsString]) -> ExitCode {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (begun, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let mut offered: Vec<String> = match before {
        [] => Plugin::command().get_subcommands().map(|command| command.get_name().to_owned()).collect(),
        [first] if first == "dead-letters" => vec!["list".to_owned(), "replay".to_owned()],
        _ => Vec::new(),
    };
    if offered.is_empty() || before.is_empty() {
        offered.extend(channels(before));
    }
    let mut lines: Vec<&str> = offered.iter().map(String::as_str).filter(|word| word.starts_with(begun)).collect();
    lines.push(":4\n");
    super::print(&lines.join("\n"))
}

/// The channels in the namespace and context that the line names so far; none where the cluster
/// does not answer.
fn channels(words: &[String]) -> Vec<String> {
    let mut command = Command::new("kubectl");
    command.args(["get", "mxc", "--output=jsonpath={.items[*].metadata.name}", "--request-timeout=3s"]);
    for pair in words.windows(2) {
        if matches!(&*pair[0], "-n" | "--namespace" | "--context") {
            command.arg(if pair[0] == "-n" { "--namespace" } else { &pair[0] }).arg(&pair[1]);
        }
    }
    let names = command.stderr(Stdio::null()).output().ok().filter(|output| output.status.success());
    names.map_or_else(Vec::new, |output| {
        String::from_utf8_lossy(&output.stdout).split_whitespace().map(ToOwned::to_owned).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried_out(line: &str) -> String {
        let words = std::iter::once("kubectl maxchannel").chain(line.split(' '));
        match Plugin::try_parse_from(words).expect(line).carried_out() {
            CarriedOut::Own(words) => format!("maxchannel {}", words.join(" ")),
            CarriedOut::Kubectl { words, input, output } => {
                let file = |sign: &str, path: Option<PathBuf>| {
                    path.map_or(String::new(), |path| format!(" {sign} {}", path.display()))
                };
                format!("kubectl {}{}{}", words.join(" "), file("<", input), file(">", output))
            }
        }
    }

    #[test]
    fn each_command_becomes_one_command_line() {
        for (line, expected) in [
            ("status -A --lang ru", "maxchannel status --cluster -A --lang ru"),
            ("plan -f channel.yaml", "maxchannel plan -f channel.yaml"),
            (
                "dead-letters list support -n crm",
                "kubectl exec --namespace crm support-relay-0 -- /maxchannel dead-letters list --data-dir /var/lib/maxchannel",
            ),
            (
                "dead-letters replay support max-17 crm-4",
                "kubectl exec support-relay-0 -- /maxchannel dead-letters replay max-17 crm-4 --data-dir /var/lib/maxchannel",
            ),
            (
                "dead-letters replay support --all --context old",
                "kubectl exec --context old support-relay-0 -- /maxchannel dead-letters replay --all --data-dir /var/lib/maxchannel",
            ),
            (
                "erase support --customer max:91234567",
                "kubectl exec support-relay-0 -- /maxchannel erase --customer max:91234567 --data-dir /var/lib/maxchannel",
            ),
            (
                "receipt support --day 2026-11-29",
                "kubectl exec support-relay-0 -- /maxchannel receipt --day 2026-11-29 --data-dir /var/lib/maxchannel",
            ),
            ("logs support -n crm -- --since=1h", "kubectl logs --namespace crm support-relay-0 --since=1h"),
            (
                "backup support support.store",
                "kubectl exec support-relay-0 -- /maxchannel export --keep --data-dir /var/lib/maxchannel > support.store",
            ),
            (
                "restore support support.store",
                "kubectl exec -i support-relay-0 -- /maxchannel import --data-dir /var/lib/maxchannel < support.store",
            ),
        ] {
            assert_eq!(carried_out(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_carried_out_in_the_pod_is_a_command_of_the_program() {
        for line in [
            "dead-letters list a --show-text",
            "dead-letters replay a --all",
            "erase a --customer 1",
            "receipt a --day 2026-11-29",
            "backup a f",
            "restore a f",
        ] {
            let shown = carried_out(line);
            let command = shown.split("/maxchannel ").nth(1).expect("in the pod");
            let command = command.split([' ']).take_while(|word| !matches!(*word, "<" | ">"));
            super::super::Cli::try_parse_from(std::iter::once("maxchannel").chain(command)).expect(line);
        }
    }

    #[test]
    fn a_name_or_an_option_first_is_status() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for line in ["support --lang ru", "-n crm support", "-A"] {
            let expected: Vec<OsString> = words(&format!("status --cluster {line}"));
            assert_eq!(run(words(line)).expect_err("not carried out by kubectl"), expected);
        }
    }
}
