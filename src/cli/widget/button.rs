//! The button for a site: a link that works as it stands, and a few lines that add the page and the
//! page's language.

use crate::api::Language;
use crate::max::deep_link::LONGEST;

/// What the button says.
struct Words {
    button: &'static str,
    region: &'static str,
    new_tab: &'static str,
}

const RUSSIAN: Words =
    Words {
        button: "Написать в MAX", region: "Связаться с нами", new_tab: "откроется в новой вкладке"
    };
const ENGLISH: Words = Words { button: "Write to us in MAX", region: "Contact us", new_tab: "opens in a new tab" };

const TEMPLATE: &str = include_str!("button.html");

/// The button as a piece of HTML. Without a source the page is not told either.
pub(super) fn html(link: &str, source: Option<&str>, greeting: Option<&str>, language: Language) -> String {
    let (words, lang) = match language {
        Language::Russian => (RUSSIAN, "ru"),
        Language::English => (ENGLISH, "en"),
    };
    let greeting = greeting.map(|text| format!("<p>{}</p>\n", escaped(text))).unwrap_or_default();
    let pair = |choose: fn(&Words) -> &str| format!("[\"{}\",\"{}\"]", choose(&RUSSIAN), choose(&ENGLISH));
    [
        ("@LINK@", escaped(link)),
        ("@SOURCE@", escaped(source.unwrap_or_default())),
        ("@LANG@", lang.to_owned()),
        ("@REGION@", words.region.to_owned()),
        ("@BUTTON@", words.button.to_owned()),
        ("@NEWTAB@", words.new_tab.to_owned()),
        ("@REGIONS@", pair(|words| words.region)),
        ("@BUTTONS@", pair(|words| words.button)),
        ("@NEWTABS@", pair(|words| words.new_tab)),
        ("@LONGEST@", LONGEST.to_string()),
        // Last, for nobody knows what stands in it.
        ("@GREETING@", greeting),
    ]
    .into_iter()
    .fold(TEMPLATE.to_owned(), |text, (mark, value)| text.replace(mark, &value))
}

/// A text as it may stand in HTML and XML.
pub(super) fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "https://max.ru/id7700000000_bot?start=delivery";

    #[test]
    fn the_longest_button_is_under_five_kilobytes_and_asks_nobody_else_for_anything() {
        let greeting = "я".repeat(250);
        for language in [Language::Russian, Language::English] {
            let html = html(LINK, Some(&"s".repeat(32)), Some(&greeting), language);
            assert!(html.len() < 5 * 1024, "{} bytes", html.len());
            assert!(!html.replace("@media", "").contains('@'), "{html}");
            let addresses: Vec<&str> = html.match_indices("http").map(|(at, _)| &html[at..at + 14]).collect();
            assert_eq!(addresses, ["https://max.ru"], "{html}");
            assert!(!html.contains("src="), "{html}");
        }
    }

    #[test]
    fn a_greeting_is_text_and_never_markup() {
        let html = html(LINK, Some("delivery"), Some("<img src=x onerror='alert(1)'> @LINK@"), Language::English);
        assert!(html.contains("&lt;img src=x onerror=&#39;alert(1)&#39;&gt; @LINK@"), "{html}");
    }
}
