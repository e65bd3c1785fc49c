//! The two lines of a contact card that an agent needs (RFC 6350, properties FN and TEL). Lenient: what it cannot read it leaves out.

/// What is readable of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// The first `FN`.
    pub name: Option<String>,
    /// Every `TEL`, as written.
    pub phones: Vec<String>,
}

/// Reads a vCard of any version; of a text that is none, an empty card.
#[must_use]
pub fn read(vcf: &str) -> Card {
    let _ = vcf;
    todo!()
}
