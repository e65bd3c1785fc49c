//! `maxchannel check`: what is wrong with manifests and with a logo, for people and for the CI of a
//! GitOps repository.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;

use super::installation::{InstallationArgs, data_dir};
use super::reports::{self, Found};
use super::{Output, USAGE, external, files};
use crate::api::manifest::{ChannelManifest, Manifests};
use crate::api::{self, AllowedHosts, FieldPath, Finding, Severity, logo};
use crate::telemetry;

/// Check manifests before they are applied.
///
/// Reads MaxChannel and Secret manifests and tells everything that is wrong with them, one line
/// each: file, line, field, and what to do. Nothing outside is asked unless --online is given;
/// nothing outside is ever changed. Exit code 0: no errors; 1: errors; 2: wrong usage, or a file
/// cannot be read.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel check -f channels/\n  maxchannel check -f channel.yaml -f secrets.yaml -o json\n  \
                        maxchannel check -f channels/ --online\n  maxchannel check -f channels/ -o sarif > maxchannel.sarif\n  \
                        maxchannel check --logo logo.png"
)]
pub(super) struct Args {
    /// Files or folders with manifests; `-` is stdin.
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1.., required_unless_present = "logo")]
    paths: Vec<PathBuf>,
    /// Where nothing is wrong with the manifests, ask MAX, MANGO OFFICE and Creatio too: the token,
    /// the accounts, the receiver, the CRM.
    #[arg(long, requires = "paths")]
    online: bool,
    /// The data folder of the `maxchannel run` that serves the channels, for --online. Default
    /// ~/.local/share/maxchannel. Of a cluster give --installation-id.
    #[arg(long, value_name = "DIR", requires = "online")]
    data_dir: Option<PathBuf>,
    /// A picture for the bot's card: 500x500, at most 5 MB, JPG or PNG.
    #[arg(long, value_name = "FILE")]
    logo: Option<PathBuf>,
    /// What the installation allows: a file with `allowedHosts`, such as the values of its chart.
    #[arg(long, value_name = "FILE", requires = "paths")]
    policy: Option<PathBuf>,
    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
    #[command(flatten)]
    installation: InstallationArgs,
}

/// The form of the findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// JUnit XML, a test case a file: the test report of GitLab and others.
    Junit,
    /// SARIF 2.1.0: code scanning of GitHub and others, editors.
    Sarif,
    /// Workflow commands of GitHub Actions, which become notes in the pull request.
    Github,
}

impl Form {
    /// How it is told that nothing could be checked.
    fn complaint(self) -> Output {
        if self == Self::Json { Output::Json } else { Output::Text }
    }
}

/// One line of the result.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    file: String,
    /// 0 where the file has no lines.
    number: usize,
    finding: Finding,
    /// `<namespace>/<name>`, where the finding is about a channel.
    channel: Option<String>,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let fails = |message: &str| {
        super::complain("check", args.output.complaint(), message);
        ExitCode::from(USAGE)
    };
    let (manifests, mut unread) = files::read(&args.paths);
    let empty = manifests.channels.is_empty() && manifests.errors.is_empty() && unread.is_empty();
    if !args.paths.is_empty() && empty {
        let places: Vec<String> = args.paths.iter().map(|path| path.display().to_string()).collect();
        return fails(&format!("no MaxChannel in {}: is the path right?", places.join(", ")));
    }
    let mut lines = lines(&manifests);
    if let Some(path) = &args.policy {
        match fs::read_to_string(path).map_err(|error| error.to_string()).and_then(|text| AllowedHosts::read(&text)) {
            Ok(allowed) => lines.extend(forbidden(&manifests, &allowed)),
            Err(error) => return fails(&format!("the policy {} cannot be used: {error}", path.display())),
        }
    }
    if let Some(path) = &args.logo {
        match files::read_bytes(path, 16 * logo::MAX_BYTES) {
            Ok(bytes) => lines.extend(logo::logo_findings(&bytes).into_iter().map(|message| of_file(path, message))),
            Err(error) => unread.push(error),
        }
    }
    for error in &unread {
        eprintln!("maxchannel check: {}", telemetry::plain(&error.to_string()));
        lines.push(of_file(&error.path, format!("cannot be read: {}", error.reason)));
    }
    if args.online && lines.iter().all(|line| line.finding.severity != Severity::Error) {
        match online(args, &manifests) {
            Ok(found) => lines.extend(found),
            Err(message) => return fails(&message),
        }
    }
    let errors = lines.iter().filter(|line| line.finding.severity == Severity::Error).count();
    let text = match args.output {
        Form::Json => as_json(&lines, &manifests),
        Form::Text => as_text(&lines, &manifests, super::colours()),
        Form::Junit => reports::junit(&checked(&lines, &manifests), &found(&lines)),
        Form::Sarif => reports::sarif(&found(&lines)),
        Form::Github => reports::github(&found(&lines)),
    };
    let printed = super::print(&text);
    match (unread.is_empty(), errors) {
        (false, _) => ExitCode::from(USAGE),
        (true, 0) => printed,
        (true, _) => ExitCode::from(1),
    }
}

/// A finding about a file as a whole.
fn of_file(path: &Path, message: String) -> Line {
    Line {
        file: path.display().to_string(),
        number: 0,
        finding: Finding { severity: Severity::Error, field: FieldPath::default(), message },
        channel: None,
    }
}

/// What external systems say of channels whose manifests are right.
fn online(args: &Args, manifests: &Manifests) -> Result<Vec<Line>, String> {
    telemetry::start(telemetry::Format::Text, "warn");
    let seen = super::in_runtime(async {
        let folder = data_dir(args.data_dir.clone())?;
        external::observe(&args.paths, &folder, &args.installation).await
    })?;
    let problems = seen.iter().flat_map(|one| one.problems.iter().map(move |problem| (&one.channel, problem)));
    Ok(problems
        .map(|(channel, problem)| {
            let manifest = manifests
                .channels
                .iter()
                .find(|manifest| (&manifest.namespace, &manifest.name) == (&channel.namespace, &channel.name));
            let place = manifest.map(|manifest| manifest.place(&FieldPath::default()));
            let (file, number) = place.map_or_else(|| (channel.to_string(), 0), |place| (place.file, place.line));
            let message = telemetry::redacted(problem);
            let finding = Finding { severity: Severity::Error, field: FieldPath::default(), message };
            Line { file, number, finding, channel: Some(channel.to_string()) }
        })
        .collect())
}

/// Everything that is wrong, by file and line.
fn lines(manifests: &Manifests) -> Vec<Line> {
    let mut lines: Vec<Line> = manifests
        .errors
        .iter()
        .map(|error| Line {
            file: error.place.file.clone(),
            number: error.place.line,
            finding: Finding { severity: Severity::Error, field: error.field.clone(), message: error.message.clone() },
            channel: None,
        })
        .collect();
    let single = manifests
        .channels
        .iter()
        .flat_map(|channel| channel.findings().into_iter().map(move |(place, finding)| (channel, place, finding)));
    let across =
        api::across(manifests).into_iter().map(|(channel, finding)| (channel, channel.place(&finding.field), finding));
    for (channel, place, finding) in single.chain(across) {
        let name = format!("{}/{}", channel.namespace, channel.name);
        lines.push(Line { file: place.file, number: place.line, finding, channel: Some(name) });
    }
    lines.sort();
    lines.dedup();
    lines
}

/// What is wrong with a manifest's text, for the page of the demo.
#[cfg(feature = "simulator")]
pub(super) fn of_text(text: &str) -> Vec<serde_json::Value> {
    let mut manifests = Manifests::default();
    manifests.add("manifest.yaml", text);
    let told = |line: &Line| {
        let Finding { severity, field, message } = &line.finding;
        json!({"line": line.number, "severity": severity, "field": field, "message": message})
    };
    lines(&manifests).iter().map(told).collect()
}

/// What the installation does not allow.
fn forbidden(manifests: &Manifests, allowed: &AllowedHosts) -> Vec<Line> {
    let judge = |channel: &ChannelManifest| {
        let name = format!("{}/{}", channel.namespace, channel.name);
        let line = |finding: Finding| {
            let place = channel.place(&finding.field);
            Line { file: place.file, number: place.line, finding, channel: Some(name.clone()) }
        };
        allowed.findings(&channel.value).into_iter().map(line).collect::<Vec<_>>()
    };
    manifests.channels.iter().flat_map(judge).collect()
}

/// The findings as reports take them.
fn found(lines: &[Line]) -> Vec<Found<'_>> {
    fn of(line: &Line) -> Found<'_> {
        // Items of a list are told apart by their number, which says nothing of the rule.
        let field = line.finding.field.to_string();
        let mut rule = String::new();
        for part in field.split_inclusive(']') {
            let (name, number) = part.split_once('[').map_or((part, ""), |(name, _)| (name, "[]"));
            rule += name;
            rule += number;
        }
        Found {
            file: &line.file,
            line: (line.number > 0).then_some(line.number),
            severity: line.finding.severity,
            text: reports::sentence(&line.finding.to_string()),
            rule: if rule.is_empty() { "manifest".to_owned() } else { rule },
        }
    }
    lines.iter().map(of).collect()
}

/// Every file that was looked at, by name: those of channels, and those that something is wrong
/// with.
fn checked(lines: &[Line], manifests: &Manifests) -> Vec<String> {
    let mut files: Vec<String> =
        manifests.channels.iter().map(|channel| channel.place(&FieldPath::default()).file).collect();
    files.extend(lines.iter().map(|line| line.file.clone()));
    files.sort();
    files.dedup();
    files
}

fn as_json(lines: &[Line], manifests: &Manifests) -> String {
    let count = |severity| lines.iter().filter(|line| line.finding.severity == severity).count();
    let findings: Vec<_> = lines
        .iter()
        .map(|line| {
            json!({
                "file": line.file,
                "line": if line.number > 0 { Some(line.number) } else { None },
                "channel": line.channel,
                "field": line.finding.field,
                "severity": line.finding.severity,
                "message": line.finding.message,
            })
        })
        .collect();
    let report = json!({
        "channels": manifests.channels.len(),
        "skipped": manifests.notes.len(),
        "errors": count(Severity::Error),
        "warnings": count(Severity::Warning),
        "findings": findings,
    });
    format!("{report:#}\n")
}

fn as_text(lines: &[Line], manifests: &Manifests, colours: bool) -> String {
    let paint =
        |code: &str, text: &str| if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() };
    let mut text = String::new();
    for Line { file, number: line, finding, .. } in lines {
        let severity = finding.severity;
        let (file, finding) = (telemetry::plain(file), telemetry::plain(&finding.to_string()).replace('\n', "\\n"));
        let place = if *line > 0 { format!("{file}:{line}:") } else { format!("{file}:") };
        let severity = match severity {
            Severity::Error => String::new(),
            Severity::Warning => format!("{} ", paint("33", "warning:")),
        };
        let _ = writeln!(text, "{} {severity}{finding}", paint("1", &place));
    }
    let count = |severity| lines.iter().filter(|line| line.finding.severity == severity).count();
    let number = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let verdict = match (errors, warnings) {
        (0, 0) => paint("32", "nothing is wrong"),
        (0, warnings) => number(warnings, "warning"),
        (errors, 0) => paint("31", &number(errors, "error")),
        (errors, warnings) => format!("{}, {}", paint("31", &number(errors, "error")), number(warnings, "warning")),
    };
    let skipped = match manifests.notes.len() {
        0 => String::new(),
        count => format!(" ({} skipped)", number(count, "other document")),
    };
    let _ = writeln!(text, "{} checked{skipped}: {verdict}", number(manifests.channels.len(), "channel"));
    text
}
