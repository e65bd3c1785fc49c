//! Takes what is secret out of what is said.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::fmt::MakeWriter;

/// What stands in a line where a secret was.
const BLOT: &str = "[secret]";
/// Shorter values occur by chance in ordinary words.
const SHORTEST: usize = 8;

static HIDDEN: RwLock<BTreeSet<String>> = RwLock::new(BTreeSet::new());

/// Blots a value out of every line from now on.
pub fn hide(secret: &SecretString) {
    let secret = secret.expose_secret().trim();
    if secret.len() >= SHORTEST && !HIDDEN.read().unwrap_or_else(PoisonError::into_inner).contains(secret) {
        HIDDEN.write().unwrap_or_else(PoisonError::into_inner).insert(secret.to_owned());
    }
}

/// A line without what is hidden.
#[must_use]
pub fn blotted(line: &str) -> String {
    let hidden = HIDDEN.read().unwrap_or_else(PoisonError::into_inner);
    hidden.iter().fold(line.to_owned(), |line, secret| {
        if line.contains(secret.as_str()) { line.replace(secret.as_str(), BLOT) } else { line }
    })
}

#[derive(Clone, Debug)]
pub(super) struct Blotting<M>(pub M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Blotting<M> {
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
            Ok(line) => self.0.write_all(blotted(line).as_bytes())?,
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
    fn what_is_hidden_is_blotted_out_of_every_line_and_short_values_are_left() {
        hide(&SecretString::from("canary-4711-token"));
        hide(&SecretString::from("abc"));
        let mut written = Vec::new();
        BlottingWriter(&mut written).write_all(b"GET /me with canary-4711-token said abc\n").unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), "GET /me with [secret] said abc\n");
    }
}
