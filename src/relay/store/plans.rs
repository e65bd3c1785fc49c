//! No statement of the store looks through a table that grows with the messages: each finds its
//! rows by an index, so that a store of ten million rows answers as fast as an empty one.
//!
//! Read from the sources, so that a new statement is held against it without being listed.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;

use super as schema;

/// Tables that stay small whatever was carried.
const SMALL: [&str; 6] = ["meta", "gap", "tally", "receipt", "mango_held", "CONSTANT"];

/// What may look through a table, and why.
const ALLOWED: [(&str, &str); 7] = [
    ("SELECT 1 FROM inbox LIMIT 1", "ends at the first row"),
    (
        "SELECT at FROM inbox WHERE at < ?1 AND at > 0 ORDER BY id DESC",
        "goes back from the newest to the first that fits",
    ),
    ("DELETE FROM to_crm WHERE customer = ?1", "the erasure of one person"),
    ("DELETE FROM to_max WHERE customer = ?1", "the erasure of one person"),
    ("DELETE FROM sent WHERE customer = ?1", "the erasure of one person"),
    ("count(*) FROM to_max WHERE state = 'failed')", "of a store that no relay has open"),
    ("UPDATE mango_session SET body = json_set(body, '$.told'", "once at a change of the way in"),
];

/// What stands in the place of a name in a statement that is put together.
const PUT_IN: [(&str, &[&str]); 4] = [
    ("{column}", &["received"]),
    ("{WAITS_FOR}", &["(session = ?1 OR (session = '' AND chat = ?2))"]),
    (
        "SELECT DISTINCT customer FROM {rows}",
        &[
            "SELECT DISTINCT customer FROM inbox WHERE done = 0 AND customer IS NOT NULL",
            "SELECT DISTINCT customer FROM to_crm WHERE dead = 0",
            "SELECT DISTINCT customer FROM to_max WHERE state = 'queued'",
            "SELECT DISTINCT customer FROM to_bot WHERE 1",
        ],
    ),
    ("{rows}", &["inbox WHERE done = 0", "to_crm WHERE dead = 0", "to_max WHERE state = 'queued'"]),
];

/// The literals of a source that are statements, without the tests in it.
fn statements(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n").replace("\\\n", "\n");
    let literals = code.split('"').skip(1).step_by(2).map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let begins = ["SELECT ", "INSERT ", "UPDATE ", "DELETE "];
    literals.filter(|text| begins.iter().any(|word| text.starts_with(word))).collect()
}

fn put_together(statement: String) -> Vec<String> {
    let Some((name, texts)) = PUT_IN.iter().find(|(name, _)| statement.contains(name)) else { return vec![statement] };
    texts.iter().flat_map(|text| put_together(statement.replace(name, text))).collect()
}

/// Of an index that holds only some rows, which are those that wait.
fn partial(connection: &Connection) -> BTreeSet<String> {
    let mut named = connection.prepare("SELECT name FROM sqlite_master WHERE sql LIKE '%INDEX%WHERE%'").unwrap();
    named.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// The steps of a plan that look through a table.
fn looks_through(connection: &Connection, statement: &str) -> Vec<String> {
    let waiting = partial(connection);
    let mut explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    let steps: Vec<String> = explained.raw_query().mapped(|row| row.get("detail")).map(Result::unwrap).collect();
    let is_bad = |step: &&String| {
        let Some(scanned) = step.strip_prefix("SCAN ") else { return false };
        let table = scanned.split(' ').next().unwrap_or_default();
        let index = scanned.split("INDEX ").nth(1);
        !SMALL.contains(&table) && !index.is_some_and(|index| waiting.contains(index))
    };
    steps.iter().filter(is_bad).cloned().collect()
}

#[test]
fn every_statement_finds_its_rows_by_an_index() {
    let mut connection = Connection::open_in_memory().unwrap();
    schema::migrate(&mut connection).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/relay/store");
    let (mut seen, mut wrong) = (0, Vec::new());
    let mut unused: BTreeSet<&str> = ALLOWED.iter().map(|(statement, _)| *statement).collect();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if ["schema.rs", "plans.rs"].contains(&name.as_str()) {
            continue;
        }
        for statement in statements(&std::fs::read_to_string(&path).unwrap()).into_iter().flat_map(put_together) {
            seen += 1;
            let steps = looks_through(&connection, &statement);
            let allowed = ALLOWED.iter().find(|(part, _)| statement.contains(part));
            match (steps.is_empty(), allowed) {
                (false, Some((part, _))) => drop(unused.remove(part)),
                (false, None) => wrong.push(format!("{name}: {statement}\n    {}", steps.join("; "))),
                (true, _) => {}
            }
        }
    }
    assert!(seen > 120, "only {seen} statements were found");
    assert!(wrong.is_empty(), "these look through a table:\n{}", wrong.join("\n"));
    assert!(unused.is_empty(), "these need no permission any more: {unused:?}");
}

#[test]
fn a_statement_without_an_index_is_seen() {
    let mut connection = Connection::open_in_memory().unwrap();
    schema::migrate(&mut connection).unwrap();
    for (statement, is_seen) in [
        ("SELECT raw FROM inbox WHERE raw = ?1", true),
        ("SELECT parts FROM to_max WHERE customer = ?1", true),
        ("SELECT parts FROM to_max WHERE customer = ?1 AND state = 'sent'", false),
        ("SELECT id FROM inbox WHERE received_at > ?1 ORDER BY seq", false),
        ("SELECT count(*) FROM inbox", true),
        ("SELECT count(*) FROM inbox WHERE done = 0", false),
    ] {
        assert_eq!(!looks_through(&connection, statement).is_empty(), is_seen, "{statement}");
    }
}
