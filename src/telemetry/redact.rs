//! Takes what is secret out of what is said.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::{PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::fmt::MakeWriter;

/// What stands in a line where a secret was.
const REDACTED: &str = "[secret]";
/// Shorter values occur by chance in ordinary words.
const SHORTEST: usize = 8;

/// By their first bytes: a line is gone through once, however many there are.
static HIDDEN: RwLock<BTreeMap<[u8; SHORTEST], BTreeSet<String>>> = RwLock::new(BTreeMap::new());

/// Redacts a value in every line from now on.
pub fn hide(secret: &SecretString) {
    let secret = secret.expose_secret().trim();
    let Some(first) = secret.as_bytes().first_chunk() else { return };
    let known = |hidden: &BTreeMap<_, BTreeSet<String>>| hidden.get(first).is_some_and(|all| all.contains(secret));
    if !known(&HIDDEN.read().unwrap_or_else(PoisonError::into_inner)) {
        let mut hidden = HIDDEN.write().unwrap_or_else(PoisonError::into_inner);
        hidden.entry(*first).or_default().insert(secret.to_owned());
    }
}

/// A line without what is hidden; of several values that begin at one place the longest counts.
#[must_use]
pub fn redacted(line: &str) -> String {
    let hidden = HIDDEN.read().unwrap_or_else(PoisonError::into_inner);
    let (mut kept, mut shown, mut at) = (0, String::new(), 0);
    while let Some(first) = line.as_bytes()[at..].first_chunk::<SHORTEST>() {
        let here = hidden.get(first).into_iter().flatten().map(String::as_bytes);
        // Of two valid texts one begins in the other only between characters.
        let found = here.filter(|secret| line.as_bytes()[at..].starts_with(secret)).map(<[u8]>::len).max();
        at += found.unwrap_or(1);
        if let Some(length) = found {
            shown += &line[kept..at - length];
            shown += REDACTED;
            kept = at;
        }
    }
    shown + &line[kept..]
}

#[derive(Clone, Debug)]
pub(super) struct Redacting<M>(pub M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Redacting<M> {
    type Writer = BlottingWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        BlottingWriter(self.0.make_writer())
    }
}

pub(super) struct BlottingWriter<W>(W);

impl<W: Write> Write for BlottingWriter<W> {
    /// A line comes in one piece.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(line) => self.0.write_all(redacted(line).as_bytes())?,
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_redacted_in_every_line_and_short_values_are_left() {
        hide(&SecretString::from("canary-4711-token"));
        hide(&SecretString::from("canary-4711-token-and-more"));
        hide(&SecretString::from("канарейка"));
        hide(&SecretString::from("abc"));
        for (line, shown) in [
            ("GET /me with canary-4711-token said abc\n", "GET /me with [secret] said abc\n"),
            ("canary-4711-token-and-morecanary-4711-token", "[secret][secret]"),
            ("ц канарейка, канарей, canary-4711-toke", "ц [secret], канарей, canary-4711-toke"),
            ("", ""),
        ] {
            let mut written = Vec::new();
            BlottingWriter(&mut written).write_all(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), shown);
        }
    }
}
