//! What may go to a terminal: colours only where they are shown and wanted, and no character that
//! steers the terminal.

use std::io::IsTerminal;

/// Whether a stream takes colours: a terminal that shows them, unless `NO_COLOR` is set.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    // A terminal without a name can do no more than a dumb one.
    let dumb = set("TERM").is_none_or(|name| name == "dumb");
    stream.is_terminal() && !dumb && set("NO_COLOR").is_none()
}

/// A text from a file or a name, with what steers a terminal or turns the direction of writing made
/// visible, as `\u{1b}`.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        let steers = (letter.is_control() && letter != '\n')
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || matches!(letter, '\u{2028}' | '\u{2029}');
        if steers {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_made_visible_and_nothing_else_is_touched() {
        for (text, expected) in [
            ("Служба 🙂\nline", "Служба 🙂\nline"),
            ("\u{1b}[2J\u{7}", "\\u{1b}[2J\\u{7}"),
            ("a\rb\u{9b}31m\u{7f}", "a\\u{d}b\\u{9b}31m\\u{7f}"),
            ("a\u{202e}b", "a\\u{202e}b"),
        ] {
            assert_eq!(plain(text), expected);
        }
    }
}
