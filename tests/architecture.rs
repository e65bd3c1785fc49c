//! The arrows between the modules, kept by reading the sources: who may know whom.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// For each module, what it may use of the crate. A module that is not named here may be used by nobody but `cli`.
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
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}
