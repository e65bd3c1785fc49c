//! The findings of `check` in the forms that CI systems read.

use std::fmt::Write as _;
use std::path::{Component, Path};

use serde_json::{Value, json};

use crate::api::Severity;
use crate::telemetry;

/// One finding and where it is.
#[derive(Clone, Debug)]
pub(super) struct Found<'a> {
    pub file: &'a str,
    /// None where the file has no lines.
    pub line: Option<usize>,
    pub severity: Severity,
    /// Field and sentence.
    pub text: String,
    /// The same wherever it is found: its field without the places in lists.
    pub rule: String,
}

/// Workflow commands of GitHub Actions: each becomes a note at the line in the pull request.
pub(super) fn github(found: &[Found]) -> String {
    // The characters that would end a property or the command.
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut text = String::new();
    for one in found {
        let line = one.line.map(|line| format!(",line={line}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "::{} file={}{line},title=maxchannel check::{}",
            one.severity,
            property(&relative(one.file)),
            data(&one.text)
        );
    }
    text
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// JUnit XML: a test case a file, which fails by its errors; warnings are among its output.
pub(super) fn junit(files: &[String], found: &[Found]) -> String {
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let failing = files.iter().filter(|file| errors_of(file, found).next().is_some()).count();
    let _ = writeln!(text, "<testsuites tests=\"{}\" failures=\"{failing}\">", files.len());
    let _ = writeln!(text, "  <testsuite name=\"maxchannel check\" tests=\"{}\" failures=\"{failing}\">", files.len());
    for file in files {
        let lines = |severity| {
            let of = found.iter().filter(move |one| one.file == file && one.severity == severity);
            of.map(said).collect::<Vec<_>>().join("\n")
        };
        let (errors, warnings) = (lines(Severity::Error), lines(Severity::Warning));
        let name = xml(file);
        let _ = write!(text, "    <testcase classname=\"maxchannel.check\" name=\"{name}\" file=\"{name}\"");
        if errors.is_empty() && warnings.is_empty() {
            text += "/>\n";
            continue;
        }
        text += ">\n";
        if !errors.is_empty() {
            let first = errors_of(file, found).next().map(|one| xml(&one.text)).unwrap_or_default();
            let _ = writeln!(text, "      <failure message=\"{first}\">{}</failure>", xml(&errors));
        }
        if !warnings.is_empty() {
            let _ = writeln!(text, "      <system-out>{}</system-out>", xml(&warnings));
        }
        text += "    </testcase>\n";
    }
    text + "  </testsuite>\n</testsuites>\n"
}

fn errors_of<'a>(file: &'a str, found: &'a [Found]) -> impl Iterator<Item = &'a Found<'a>> {
    found.iter().filter(move |one| one.file == file && one.severity == Severity::Error)
}

fn said(one: &Found) -> String {
    let line = one.line.map(|line| format!("{line}: ")).unwrap_or_default();
    format!("{}:{line}{}", one.file, if line.is_empty() { format!(" {}", one.text) } else { one.text.clone() })
}

/// Text and attribute values alike. What XML 1.0 cannot hold at all is left out.
fn xml(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\n' | '\t' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => safe.push(character),
            _ => safe.push('\u{fffd}'),
        }
    }
    safe
}

/// SARIF 2.1.0: what code scanning of GitHub and GitLab, and editors, show at the line.
pub(super) fn sarif(found: &[Found]) -> String {
    let mut rules: Vec<&str> = found.iter().map(|one| one.rule.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    let results: Vec<Value> = found
        .iter()
        .map(|one| {
            let mut place = json!({"artifactLocation": {"uri": uri(&relative(one.file))}});
            if let Some(line) = one.line {
                place["region"] = json!({"startLine": line});
            }
            json!({
                "ruleId": one.rule,
                "ruleIndex": rules.binary_search(&one.rule.as_str()).ok(),
                "level": one.severity.to_string(),
                "message": {"text": one.text},
                "locations": [{"physicalLocation": place}],
            })
        })
        .collect();
    let described = |id: &&str| json!({"id": id, "shortDescription": {"text": format!("The manifest: {id}")}});
    let report = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "maxchannel",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(described).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{report:#}\n")
}

/// As seen from the working folder, where that is above it: reports are read beside the repository.
fn relative(file: &str) -> String {
    let path = Path::new(file);
    let here = std::env::current_dir().unwrap_or_default();
    let path = path.strip_prefix(&here).unwrap_or(path);
    path.components().filter(|part| *part != Component::CurDir).collect::<std::path::PathBuf>().display().to_string()
}

/// A path as a reference in the sense of RFC 3986.
fn uri(path: &str) -> String {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const OUTSIDE: &AsciiSet =
        &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}');
    utf8_percent_encode(path, OUTSIDE).to_string()
}

/// A finding's sentence for people, in one line.
pub(super) fn sentence(text: &str) -> String {
    telemetry::plain(text).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Vec<Found<'static>> {
        let one = |file, line, severity, text: &str, rule: &str| Found {
            file,
            line,
            severity,
            text: text.to_owned(),
            rule: rule.to_owned(),
        };
        vec![
            one("channels/a b.yaml", Some(7), Severity::Error, "spec.x: \"<&>\" is 100% wrong,\nreally", "spec.x"),
            one("channels/a b.yaml", Some(9), Severity::Warning, "spec.y[1].z: is odd", "spec.y[].z"),
            one("b.yaml", None, Severity::Error, "cannot be read: \u{1}", "file"),
        ]
    }

    #[test]
    fn a_github_command_stays_one_line_whatever_is_in_it() {
        let text = github(&found());
        assert_eq!(text.lines().count(), 3, "{text}");
        assert_eq!(
            text.lines().next().unwrap(),
            "::error file=channels/a b.yaml,line=7,title=maxchannel check::spec.x: \"<&>\" is 100%25 wrong,%0Areally"
        );
        assert!(text.contains("\n::error file=b.yaml,title=maxchannel check::"), "{text}");
    }

    #[test]
    fn junit_has_a_case_for_each_file_and_those_with_errors_fail() {
        let files = ["b.yaml", "c.yaml", "channels/a b.yaml"].map(ToOwned::to_owned);
        let text = junit(&files, &found());
        assert!(text.contains("<testsuite name=\"maxchannel check\" tests=\"3\" failures=\"2\">"), "{text}");
        assert!(text.contains("name=\"c.yaml\" file=\"c.yaml\"/>"), "{text}");
        assert!(text.contains("<failure message=\"spec.x: &quot;&lt;&amp;&gt;&quot; is 100% wrong,"), "{text}");
        assert!(text.contains("<system-out>channels/a b.yaml:9: spec.y[1].z: is odd</system-out>"), "{text}");
        assert!(!text.contains('\u{1}'), "XML cannot hold it");
    }

    #[test]
    fn sarif_names_file_line_level_and_rule() {
        let report: Value = serde_json::from_str(&sarif(&found())).unwrap();
        let run = &report["runs"][0];
        assert_eq!((&report["version"], run["results"].as_array().unwrap().len()), (&json!("2.1.0"), 3));
        let [wrong, odd, unread] = [0, 1, 2].map(|at| &run["results"][at]);
        assert_eq!(
            wrong["locations"][0]["physicalLocation"],
            json!({"artifactLocation": {"uri": "channels/a%20b.yaml"}, "region": {"startLine": 7}})
        );
        assert_eq!((&wrong["level"], &odd["level"]), (&json!("error"), &json!("warning")));
        assert_eq!(unread["locations"][0]["physicalLocation"].get("region"), None);
        for result in [wrong, odd, unread] {
            let rule = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(run["tool"]["driver"]["rules"][rule]["id"], result["ruleId"]);
        }
    }
}
