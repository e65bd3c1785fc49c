//! What was expected of the scripted conversation and what was seen, as rows, and how they are
//! printed.
//!
//! Pure. A script has succeeded only where it was played to its end and every row was seen as
//! expected: nothing that was left out counts as seen.

use std::fmt::Write as _;

/// The width of a cell, in characters; longer texts go on in the next line.
const WIDTHS: [usize; 3] = [40, 48, 48];

/// One expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    what: String,
    expected: String,
    seen: String,
    ok: bool,
}

/// The rows so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    finished: bool,
}

impl Table {
    /// Notes a row, and whether what was seen is what was expected.
    pub(super) fn note(&mut self, what: &str, expected: &str, seen: &str, ok: bool) {
        let (what, expected, seen) = (what.to_owned(), expected.to_owned(), seen.to_owned());
        self.rows.push(Row { what, expected, seen, ok });
    }

    /// The script has come to its end.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// Played to the end, and all of it happened.
    pub(super) fn all_happened(&self) -> bool {
        self.finished && !self.rows.is_empty() && self.rows.iter().all(|row| row.ok)
    }

    /// For people; the last line is the verdict.
    pub(super) fn text(&self, colours: bool) -> String {
        let paint =
            |code: &str, text: &str| if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() };
        let mut text = String::new();
        line(&mut text, &["WHAT", "EXPECTED", "SEEN"].map(str::to_owned), "OK");
        for row in &self.rows {
            let ok = if row.ok { paint("32", "yes") } else { paint("31", "NO") };
            // A long text that was seen as expected need not be read twice.
            let same = row.ok && row.seen == row.expected && row.seen.chars().count() > WIDTHS[2];
            let seen = if same { "the same" } else { row.seen.as_str() };
            let cells = [&row.what, &row.expected, seen];
            let wrapped: Vec<Vec<String>> = cells.iter().zip(WIDTHS).map(|(cell, width)| wrap(cell, width)).collect();
            let height = wrapped.iter().map(Vec::len).max().unwrap_or(1);
            for number in 0..height {
                let cell = |column: usize| wrapped[column].get(number).cloned().unwrap_or_default();
                line(&mut text, &[cell(0), cell(1), cell(2)], if number == 0 { &ok } else { "" });
            }
        }
        let good = self.rows.iter().filter(|row| row.ok).count();
        let verdict = match (self.all_happened(), self.finished) {
            (true, _) => paint("32", "all of it happened"),
            (false, true) => paint("31", "not all of it happened"),
            (false, false) => paint("31", "not all of it happened; what follows was not tried"),
        };
        let _ = writeln!(text, "\n{good} of {} seen as expected: {verdict}", self.rows.len());
        text
    }
}

fn line(text: &mut String, cells: &[String; 3], last: &str) {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(WIDTHS) {
        let _ = write!(line, "{cell}{}  ", " ".repeat(width.saturating_sub(cell.chars().count())));
    }
    line.push_str(last);
    let _ = writeln!(text, "{}", line.trim_end());
}

/// The text in lines of at most `width` characters, broken between words where there is a place for
/// it.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for word in text.split(' ') {
        let characters: Vec<char> = word.chars().collect();
        for (number, part) in characters.chunks(width).enumerate() {
            let blank = usize::from(length > 0);
            if number > 0 || length + blank + part.len() > width {
                lines.push(String::new());
                length = 0;
            }
            if let Some(line) = lines.last_mut() {
                if length > 0 {
                    line.push(' ');
                    length += 1;
                }
                line.extend(part);
                length += part.len();
            }
        }
    }
    lines
}

/// How one side of a conversation arrived: `all N, once each, in order`, or what is wrong with it.
pub(super) fn compare(expected: &[String], seen: &[String]) -> String {
    if expected == seen {
        return format!("all {}, once each, in order", expected.len());
    }
    let count = |list: &[String], text: &String| list.iter().filter(|other| *other == text).count();
    let mut names: Vec<&String> = expected.iter().chain(seen).collect();
    names.sort();
    names.dedup();
    let mut wrong = Vec::new();
    for (word, more, less) in [("lost", expected, seen), ("too many", seen, expected)] {
        let found: Vec<String> =
            names.iter().filter(|name| count(more, name) > count(less, name)).map(|name| format!("«{name}»")).collect();
        if !found.is_empty() {
            wrong.push(format!("{word}: {}", found.join(", ")));
        }
    }
    if wrong.is_empty() {
        let at = expected.iter().zip(seen).position(|(expected, seen)| expected != seen).unwrap_or_default();
        wrong.push(format!("out of order: «{}» where «{}» was expected", seen[at], expected[at]));
    }
    format!("{} of {}; {}", seen.len(), expected.len(), wrong.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn only_a_script_played_to_its_end_with_every_row_seen_has_happened() {
        let played = |rows: &[bool], finished: bool| {
            let mut table = Table::default();
            for ok in rows {
                table.note("what", "a", "b", *ok);
            }
            if finished {
                table.finish();
            }
            (table.all_happened(), table.text(false))
        };
        for (rows, finished, happened) in [
            (&[true, true][..], true, true),
            (&[true, false], true, false),
            (&[false, true], true, false),
            (&[true, true], false, false),
            (&[], true, false),
        ] {
            let (all, text) = played(rows, finished);
            assert_eq!(all, happened, "{rows:?} {finished}");
            assert_eq!(text.contains("expected: all of it happened"), happened, "{text}");
        }
    }

    #[test]
    fn a_row_shows_what_was_seen_in_place_of_what_was_expected() {
        let mut table = Table::default();
        table.note(
            "the answer",
            "Здравствуйте, это очень длинный ответ, который не помещается в одну строку",
            "ничего",
            false,
        );
        let lines: Vec<String> = table.text(false).lines().map(str::to_owned).collect();
        assert!(
            lines[1].contains("Здравствуйте") && lines[1].contains("ничего") && lines[1].ends_with("NO"),
            "{lines:?}"
        );
        assert!(lines[2].contains("строку"), "{lines:?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 145), "{lines:?}");
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_named() {
        for (seen, says) in [
            ("1 2 3", "all 3, once each, in order"),
            ("1 3", "2 of 3; lost: «2»"),
            ("1 2 2 3", "4 of 3; too many: «2»"),
            ("1 3 2", "3 of 3; out of order: «3» where «2» was expected"),
            ("1 4 3", "3 of 3; lost: «2»; too many: «4»"),
            ("", "0 of 3; lost: «1», «2», «3»"),
        ] {
            assert_eq!(compare(&list("1 2 3"), &list(seen)), says);
        }
    }
}
