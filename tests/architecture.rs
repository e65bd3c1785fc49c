//! The arrows between the modules, kept by reading the sources: who may know whom.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// For each module, what it may use of the crate. A module that is not named here may be used by nobody but `cli`; a file of `cli` that
/// is named is linked into `maxchannel-relay`, which must not reach the rest.
const MAY_USE: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("api", &["time"]),
    ("transport", &["time"]),
    ("telemetry", &["time", "transport"]),
    ("policy", &["api", "time"]),
    ("max", &["time", "transport"]),
    ("mango", &["time", "transport"]),
    ("creatio", &["time", "transport"]),
    ("creatio_package", &[]),
    ("relay", &["api", "policy", "max", "creatio", "telemetry", "time", "transport"]),
    ("channel", &["api", "policy", "max", "mango", "creatio", "creatio_package", "time", "transport", "relay"]),
    ("local", &["api", "channel", "creatio", "mango", "max", "policy", "relay", "telemetry", "time", "transport"]),
    ("controller", &["api", "channel", "creatio", "mango", "max", "policy", "relay", "telemetry", "time", "transport"]),
    ("cli/relay.rs", &["relay", "creatio", "telemetry", "time", "transport"]),
];

#[test]
fn dependencies_point_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (module, allowed) in MAY_USE {
        for file in sources(&src.join(module)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for used in used_modules(&text) {
                if used != *module && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{} uses crate::{used}", file.strip_prefix(&src).unwrap().display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these arrows point the wrong way:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_of_the_crate_has_its_place() {
    let root = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules: BTreeSet<&str> =
        root.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let placed: BTreeSet<&str> = MAY_USE.iter().map(|(module, _)| *module).chain(["cli"]).collect();
    let missing: Vec<_> = modules.difference(&placed).collect();
    assert!(missing.is_empty(), "say in MAY_USE what these may use: {missing:?}");
}

#[test]
fn only_the_store_speaks_to_the_database() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_outside = |file: &PathBuf| !file.starts_with(src.join("relay/store"));
    let named = |file: &PathBuf| std::fs::read_to_string(file).unwrap().contains("rusqlite");
    let wrong: Vec<_> = sources(&src).into_iter().filter(|file| is_outside(file) && named(file)).collect();
    assert!(wrong.is_empty(), "SQL has its rooms in src/relay/store, but these name rusqlite: {wrong:?}");
}

/// The first path segment after each `crate::`, also of the members of `use crate::{…}`. Comments do not count.
fn used_modules(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut used = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        if let Some(group) = after.strip_prefix('{') {
            let mut depth = 1;
            let mut name = String::new();
            let mut at_start = true;
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => at_start = true,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if at_start && depth == 1 && (c.is_alphanumeric() || c == '_') {
                    name.push(c);
                } else if !name.is_empty() {
                    used.insert(std::mem::take(&mut name));
                    at_start = c == ',' && depth == 1;
                }
            }
            if !name.is_empty() {
                used.insert(name);
            }
        } else {
            used.insert(after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    used
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    if folder.is_file() {
        return vec![folder.to_owned()];
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The pages of `docs/reference` and the name by which comments cite them.
const REFERENCES: &[(&str, &str)] = &[
    ("MAX Bot API reference", "max-bot-api.md"),
    ("MANGO OFFICE API reference", "mango-office-api.md"),
    ("Creatio API reference", "creatio-api.md"),
];

#[test]
fn every_citation_of_a_reference_opens() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut dead = Vec::new();
    let mut seen = 0;
    for (name, page) in REFERENCES {
        let text = std::fs::read_to_string(root.join("docs/reference").join(page)).unwrap();
        let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
        for folder in ["src", "crates/simulator", "tests"] {
            for file in sources(&root.join(folder)) {
                // A citation may go on in the next line of its comment.
                let source = std::fs::read_to_string(&file).unwrap();
                let prose = source.lines().map(|line| line.trim().trim_start_matches(['/', '!'])).collect::<String>();
                for cited in prose.split(&format!("{name}, ")).skip(1) {
                    let cited = cited.strip_prefix("section ").or(cited.strip_prefix("sections ")).unwrap_or(cited);
                    let found = if let Some(title) = cited.strip_prefix('"') {
                        let title = title.split('"').next().unwrap();
                        headings.iter().any(|heading| heading.ends_with(title))
                    } else {
                        let number: String = cited.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
                        let number = number.trim_end_matches('.');
                        headings.iter().any(|heading| {
                            let own = heading.trim_start_matches(['#', ' ']).split(' ').next().unwrap();
                            own.trim_end_matches('.') == number
                        })
                    };
                    seen += 1;
                    if !found {
                        let cited: String = cited.chars().take(40).collect();
                        dead.push(format!("{}: {name}, {cited}", file.strip_prefix(root).unwrap().display()));
                    }
                }
            }
        }
    }
    assert!(dead.is_empty(), "docs/reference has no such section:\n{}", dead.join("\n"));
    assert!(seen > 50, "only {seen} citations were found: has their form changed?");
}
