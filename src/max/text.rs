//! Cutting of long texts: MAX takes at most 4000 characters a message (MAX Bot API reference, "POST
//! /messages"; the unit is not documented, so the strictest reading is kept: UTF-16 units).

/// UTF-16 units in one message.
pub const LONGEST: usize = 4000;

/// Parts of at most [`LONGEST`] UTF-16 units that together are the text again, byte for byte,
/// without its blank ends and without parts that show nothing, which MAX refuses. Cut after a
/// paragraph, else a line, else a word, else between characters, never inside what is shown as one
/// (an emoji of several code points, a letter with its accents). No part but the last is shorter
/// than half of what fits. A text that shows nothing has no parts.
#[must_use]
pub fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    // A text that fits goes as it was written.
    let shown = if text.encode_utf16().nth(LONGEST).is_some() { text.trim() } else { text };
    let mut rest = shown;
    while !rest.is_empty() {
        let (part, next) = rest.split_at(first_cut(rest));
        if !is_blank_text(part) {
            parts.push(part);
        }
        rest = next;
    }
    parts
}

/// Whether nothing of a text can be seen.
#[must_use]
pub fn is_blank_text(text: &str) -> bool {
    text.chars().all(shows_nothing)
}

/// Blanks of every kind, and characters without a width or a shape.
fn shows_nothing(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}')
}

/// Where to cut the first part off, in bytes; above 0.
fn first_cut(text: &str) -> usize {
    let mut units = 0;
    let mut half = 0;
    let mut end = text.len();
    for (at, character) in text.char_indices() {
        units += character.len_utf16();
        if units > LONGEST {
            end = at;
            break;
        }
        if units <= LONGEST / 2 {
            half = at + character.len_utf8();
        }
    }
    if end == text.len() {
        return end;
    }
    let window = &text[..end];
    let good = |cut: &usize| *cut > half && may_cut(text, *cut);
    let after = |pattern: &str| window.rmatch_indices(pattern).map(|(at, found)| at + found.len()).find(good);
    let after_word =
        || window.char_indices().rev().filter(|(_, c)| is_blank(*c)).map(|(at, c)| at + c.len_utf8()).find(good);
    let between_characters = || window.char_indices().rev().map(|(at, c)| at + c.len_utf8()).find(good);
    after("\n\n").or_else(|| after("\n")).or_else(after_word).or_else(between_characters).unwrap_or(end)
}

/// A blank that a line may be broken at: not one that binds.
fn is_blank(character: char) -> bool {
    character.is_whitespace() && !matches!(character, '\u{a0}' | '\u{202f}')
}

/// Whether what stands before and after `at` is not shown as one character: the part of Unicode
/// Standard Annex 29 that chat texts are made of.
fn may_cut(text: &str, at: usize) -> bool {
    let (before, after) = text.split_at(at);
    let (Some(previous), Some(next)) = (before.chars().next_back(), after.chars().next()) else { return true };
    if is_regional(next) {
        // Flags are pairs: a cut is right only behind an even number.
        return before.chars().rev().take_while(|c| is_regional(*c)).count() % 2 == 0;
    }
    !(joins(next) || previous == ZERO_WIDTH_JOINER || (previous == '\r' && next == '\n'))
}

const ZERO_WIDTH_JOINER: char = '\u{200d}';

fn is_regional(character: char) -> bool {
    ('\u{1f1e6}'..='\u{1f1ff}').contains(&character)
}

/// Characters that belong to the one before: accents, variation selectors, skin tones, tags,
/// joiners.
fn joins(character: char) -> bool {
    matches!(character,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{200c}' | ZERO_WIDTH_JOINER | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}'
        | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each is shown as one character or one word.
    const PIECES: [&str; 12] = [
        "слово",
        " ",
        "\n",
        "\r\n",
        "\n\n",
        "a\u{301}",
        "👨\u{200d}👩\u{200d}👧",
        "🇷🇺",
        "👍🏽",
        "☎\u{fe0f}",
        "🏴\u{e0067}\u{e0062}\u{e007f}",
        "\u{a0}",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_is_lost_every_part_fits_and_nothing_shown_as_one_is_torn(
            runs in prop::collection::vec((0..PIECES.len(), 1_usize..900), 0..30),
        ) {
            let mut text = String::new();
            let mut inside = std::collections::HashSet::new();
            for (piece, times) in runs {
                for _ in 0..times {
                    let piece = PIECES[piece];
                    // Words may be cut where nothing better is near; what is shown as one may not.
                    if piece != "слово" && piece != "\n\n" {
                        inside.extend((1..piece.len()).map(|offset| text.len() + offset));
                    }
                    text.push_str(piece);
                }
            }
            let parts = split(&text);
            let shown = |text: &str| text.chars().filter(|c| !shows_nothing(*c)).collect::<String>();
            prop_assert_eq!(shown(&parts.concat()), shown(&text));
            prop_assert!(parts.iter().all(|part| !is_blank_text(part)));
            let mut at = 0;
            for (index, part) in parts.iter().enumerate() {
                let units = part.encode_utf16().count();
                prop_assert!(units <= LONGEST && units > 0);
                prop_assert!(units * 2 > LONGEST || index + 1 == parts.len(), "a part of {} units", units);
                at += text[at..].find(part).unwrap();
                prop_assert!(!inside.contains(&at), "torn at {}", at);
                at += part.len();
                prop_assert!(!inside.contains(&at), "torn at {}", at);
            }
        }

        #[test]
        fn any_text_at_all_is_cut_and_comes_together_again(text in "\\PC{0,200}", times in 1_usize..60) {
            let text = text.repeat(times);
            let parts = split(&text);
            prop_assert!(parts.iter().all(|part| part.encode_utf16().count() <= LONGEST));
            let shown = |text: &str| text.chars().filter(|c| !shows_nothing(*c)).collect::<String>();
            prop_assert_eq!(shown(&parts.concat()), shown(&text));
        }
    }

    #[test]
    fn blank_tails_and_blank_stretches_make_no_part_of_their_own() {
        let words = "слово ".repeat(700);
        for blank in [" ".repeat(5_000), "\n".repeat(9_000), "\u{200b}".repeat(4_500), "\u{a0}\u{2800}".repeat(3_000)] {
            for text in [format!("{words}{blank}"), format!("{blank}{words}"), format!("{words}{blank}{words}")] {
                let parts = split(&text);
                assert!(!parts.is_empty() && parts.iter().all(|part| !is_blank_text(part)), "{:?}", parts.len());
                let read = |text: &str| text.chars().filter(|c| c.is_alphabetic()).count();
                assert_eq!(parts.iter().map(|part| read(part)).sum::<usize>(), read(&text));
            }
            assert!(split(&blank).is_empty());
        }
        assert_eq!(split("  отступ\n"), ["  отступ\n"]);
    }

    #[test]
    fn paragraphs_come_before_lines_before_words_before_characters() {
        let long = |unit: &str, units: usize| unit.repeat(units);
        for (text, first) in [
            (format!("{}\n\n{}\n{}", long("a", 2500), long("b", 1000), long("c", 1000)), 2502),
            (format!("{}\n{} {}", long("a", 2500), long("b", 1000), long("c", 1000)), 2501),
            (format!("{} {}", long("a", 2500), long("b", 2000)), 2501),
            (long("a", 4500), 4000),
            // A paragraph that would leave a stub is passed over for the line near the end.
            (format!("hi\n\n{}\n{}", long("a", 3000), long("b", 2000)), 3005),
            (long("a", 4000), 4000),
        ] {
            assert_eq!(split(&text)[0].len(), first, "{}…", &text[..10]);
        }
        assert!(split("").is_empty());
    }

    #[test]
    fn an_endless_cluster_is_cut_all_the_same() {
        let text = format!("a{}", "\u{301}".repeat(9000));
        assert_eq!(split(&text).iter().map(|part| part.chars().count()).collect::<Vec<_>>(), [4000, 4000, 1001]);
    }
}
