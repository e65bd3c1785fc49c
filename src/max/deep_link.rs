//! The link that starts a bot, and the payload by which it says where the customer came from (MAX
//! Bot API reference, "Deep links").
//!
//! `<source>` or `<source>_<page>`: a name of the manifest, and the page's path in base64url.
//! Whoever holds the link may write what he likes into it, so what comes back is text to be shown
//! and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The longest payload that MAX takes.
pub const LONGEST: usize = 128;
/// Between source and page; no name of a source holds it.
const MARK: char = '_';

/// Where a start came from, as far as its payload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub source: String,
    /// The path of the page, as people read it.
    pub page: Option<String>,
    /// What follows the source and is no page.
    pub rest: Option<String>,
}

/// `https://max.ru/<nick>?start=<payload>`; without a payload the bare link.
#[must_use]
pub fn link(nick: &str, payload: &str) -> String {
    if payload.is_empty() { format!("https://max.ru/{nick}") } else { format!("https://max.ru/{nick}?start={payload}") }
}

/// The payload of a source and a page. A page that is too long is cut.
#[must_use]
pub fn payload(source: &str, page: Option<&str>) -> String {
    let Some(page) = page else { return source.to_owned() };
    let room = LONGEST.saturating_sub(source.len() + MARK.len_utf8()) * 3 / 4;
    let mut end = page.len().min(room);
    while !page.is_char_boundary(end) {
        end -= 1;
    }
    format!("{source}{MARK}{}", URL_SAFE_NO_PAD.encode(&page[..end]))
}

/// Reads a payload.
#[must_use]
pub fn origin(payload: &str) -> Origin {
    let (source, rest) = payload.split_once(MARK).map_or((payload, None), |(source, rest)| (source, Some(rest)));
    let page = rest
        .and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|page| page.starts_with('/') && !page.contains(char::is_control));
    let rest = rest.filter(|_| page.is_none()).map(str::to_owned);
    Origin { source: source.to_owned(), page, rest }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_payload_is_one_that_max_takes_and_says_the_source_and_the_beginning_of_the_page(
            source in "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?",
            page in "/[a-zа-я0-9/ ._-]{0,200}",
        ) {
            let payload = payload(&source, Some(&page));
            prop_assert!(payload.len() <= LONGEST, "{payload}");
            prop_assert!(payload.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)), "{payload}");
            let read = origin(&payload);
            prop_assert_eq!(read.source, source);
            let shown = read.page.unwrap();
            prop_assert!(page.starts_with(&shown), "{shown} of {page}");
            prop_assert!(shown == page || payload.len() + 8 > LONGEST, "{shown} of {page}");
        }

        #[test]
        fn anything_at_all_is_read_as_text(payload in "\\PC*") {
            let read = origin(&payload);
            prop_assert!(read.page.is_none_or(|page| page.starts_with('/') && !page.contains('\n')));
        }
    }

    #[test]
    fn what_is_no_page_stays_as_it_came() {
        let read = origin("promo_2026");
        assert_eq!((read.source.as_str(), read.page, read.rest.as_deref()), ("promo", None, Some("2026")));
        assert_eq!(origin("delivery"), Origin { source: "delivery".to_owned(), page: None, rest: None });
    }
}
