//! The arrows between the modules, kept by reading the sources: who may know whom.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// For each module, what it may use of the crate. A module that is not named here may be used by
/// nobody but `cli`; a file of `cli` that is named is linked into `maxchannel-relay`, which must
/// not reach the rest.
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
    ("web", &["api"]),
    ("status_page", &["api", "contract", "telemetry", "web"]),
    ("contract", &["api", "creatio", "policy", "time"]),
    ("relay", &["api", "contract", "creatio", "mango", "max", "policy", "telemetry", "time", "transport"]),
    (
        "channel",
        &["api", "contract", "creatio", "creatio_package", "mango", "max", "policy", "telemetry", "time", "transport"],
    ),
    (
        "local",
        &[
            "api",
            "channel",
            "contract",
            "creatio",
            "mango",
            "max",
            "policy",
            "relay",
            "status_page",
            "telemetry",
            "time",
            "transport",
        ],
    ),
    (
        "controller",
        &[
            "api",
            "channel",
            "contract",
            "creatio",
            "mango",
            "max",
            "policy",
            "status_page",
            "telemetry",
            "time",
            "transport",
        ],
    ),
    ("cli/relay.rs", &["contract", "creatio", "relay", "telemetry", "time", "transport"]),
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

/// The first path segment after each `crate::`, also of the members of `use crate::{…}`. Comments
/// do not count.
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

/// Where the Kubernetes client may be named. The resource itself is derived by it and judged by its
/// CEL.
#[test]
fn only_the_controller_and_its_commands_know_the_kubernetes_client() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_home =
        |path: &str| path.starts_with("controller/") || ["cli/controller.rs", "cli/status.rs"].contains(&path);
    let is_schema = |path: &str, line: &str| {
        path.starts_with("api/")
            && ["KubeSchema", "CustomResource", "core::Rule", "core::cel"].iter().any(|of| line.contains(of))
    };
    let mut wrong = Vec::new();
    for file in sources(&src) {
        let path = file.strip_prefix(&src).unwrap().display().to_string();
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let named = code.filter(|line| line.contains("kube::") && !is_home(&path) && !is_schema(&path, line));
        wrong.extend(named.map(|line| format!("{path}: {}", line.trim())));
    }
    assert!(wrong.is_empty(), "these belong under controller/:\n{}", wrong.join("\n"));
}

/// The longest line of code that has no text in it; sentences are not broken.
const CODE_COLUMNS: usize = 120;
/// The longest line of prose, but for rows of tables and for what is quoted.
const PROSE_COLUMNS: usize = 100;
/// The longest function of the product, in lines. Tests are tables, and as long as what they
/// promise.
const FUNCTION_LINES: usize = 120;

#[test]
fn the_sources_are_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches", "crates/simulator"] {
        for file in sources(&root.join(folder)) {
            let path = file.strip_prefix(root).unwrap().display().to_string();
            let text = std::fs::read_to_string(&file).unwrap();
            if !text.starts_with("//!") {
                wrong.push(format!("{path}: the first line says nothing of what the file is for (//!)"));
            }
            for (number, line) in (1..).zip(text.lines()) {
                let columns = line.chars().count();
                let is_prose = line.trim_start().starts_with("//");
                let is_row = line.trim_start().trim_start_matches(['/', '!', ' ']).starts_with(['|', '`']);
                if is_prose && !is_row && columns > PROSE_COLUMNS {
                    wrong.push(format!("{path}:{number}: a comment of {columns} columns"));
                }
                if !is_prose && columns > CODE_COLUMNS && !line.contains(['"', '\u{1b}']) && is_code(&text, number) {
                    wrong.push(format!("{path}:{number}: code of {columns} columns"));
                }
            }
            let is_test = path.contains("tests") || path.starts_with("benches");
            for (name, lines) in functions(&text).into_iter().filter(|(_, lines)| !is_test && *lines > FUNCTION_LINES) {
                wrong.push(format!("{path}: the function {name} has {lines} lines"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a line stands outside of a text of several lines: an even number of quotes before it.
fn is_code(text: &str, number: usize) -> bool {
    let before = text.lines().take(number - 1).filter(|line| !line.trim_start().starts_with("//"));
    before.map(|line| line.replace("\\\"", "").replace("'\"'", "").matches('"').count()).sum::<usize>() % 2 == 0
}

/// The functions of a file with their lengths, as rustfmt lays them out.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let head = line.trim_start();
        let indent = &line[..line.len() - head.len()];
        let words = head.split(['(', '<']).next().unwrap_or_default();
        let Some((modifiers, name)) = words.split_once("fn ") else { continue };
        if !modifiers
            .split_whitespace()
            .all(|word| ["pub", "pub(crate)", "pub(super)", "const", "async"].contains(&word))
        {
            continue;
        }
        let end = lines[start..].iter().position(|line| *line == format!("{indent}}}"));
        found.extend(end.map(|length| (name, length + 1)));
    }
    found
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

#[test]
fn every_link_of_the_architecture_page_opens() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let links: Vec<&str> = page.split("](../").skip(1).map(|after| after.split(')').next().unwrap()).collect();
    let dead: Vec<_> = links.iter().filter(|link| !root.join(link).exists()).collect();
    assert!(dead.is_empty(), "docs/architecture.md links to what is not there: {dead:?}");
    assert!(links.len() > 20, "only {} links were found", links.len());
}

#[test]
fn every_row_of_the_comparison_rests_on_what_is_there_and_the_totals_are_counted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut evidence = Vec::new();
    for page in ["docs/comparison.md", "docs/comparison.en.md"] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        // The header and the line below it are no rows.
        let table = text.lines().filter(|line| line.starts_with('|')).skip(2);
        let rows = table.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
        let (bold, rows): (Vec<_>, Vec<_>) = rows.partition(|row| row[0].starts_with("**"));
        let mut filled = [0; 3];
        let mut rests_on = Vec::new();
        for row in &rows {
            let [what, marks @ .., shown] = row.as_slice() else { panic!("{page}: {row:?}") };
            assert!(marks.len() == 3 && marks.iter().all(|mark| ["●", "◐", "○"].contains(mark)), "{page}: {row:?}");
            for (count, mark) in filled.iter_mut().zip(marks) {
                *count += usize::from(*mark == "●");
            }
            let files: Vec<String> = shown.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            assert!(!files.is_empty(), "{page}: nothing is shown for: {what}");
            let dead: Vec<_> = files.iter().filter(|file| !root.join(file).exists()).collect();
            assert!(dead.is_empty(), "{page}: {what}: there is no {dead:?}");
            rests_on.push((files, marks.join("")));
        }
        let total = bold.last().unwrap();
        assert!(total[0].contains(&rows.len().to_string()), "{page}: {} rows, and not: {}", rows.len(), total[0]);
        let told: Vec<&str> = total[1..4].iter().map(|count| count.trim_matches('*')).collect();
        assert_eq!(told, filled.map(|count| count.to_string()), "{page}: filled circles");
        evidence.push(rests_on);
    }
    assert_eq!(evidence[0], evidence[1], "the two languages say the same");
}
