//! Cutting of long texts: MAX takes at most 4000 characters a message (MAX Bot API reference, "POST /messages"; the unit is not
//! documented, so the strictest reading is kept: UTF-16 units).

/// UTF-16 units in one message.
pub const LONGEST: usize = 4000;

/// Parts of at most [`LONGEST`] UTF-16 units that together are the text again, byte for byte. Cut after a paragraph, else a line, else
/// a word, else between characters, never inside what is shown as one (an emoji of several code points, a letter with its accents).
/// An empty text has no parts.
#[must_use]
pub fn split(text: &str) -> Vec<&str> {
    let _ = text;
    todo!()
}
