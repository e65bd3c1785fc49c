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
    let mut card = Card::default();
    for line in unfolded(vcf) {
        let Some((property, value)) = property_and_value(&line) else { continue };
        let value = unescaped(value.trim());
        if value.is_empty() {
            continue;
        }
        match property.as_str() {
            "FN" if card.name.is_none() => card.name = Some(value),
            "TEL" => card.phones.push(value.strip_prefix("tel:").unwrap_or(&value).to_owned()),
            _ => {}
        }
    }
    card
}

/// A line that begins with a blank goes on with the one before (RFC 6350, "Line delimiting and folding").
fn unfolded(vcf: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in vcf.split(['\n', '\r']).filter(|line| !line.is_empty()) {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(more), Some(last)) => last.push_str(more),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// The property's name without its group and parameters, in capitals, and what stands behind the first colon outside quotes.
fn property_and_value(line: &str) -> Option<(String, &str)> {
    let mut quoted = false;
    let colon = line.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == ':' && !quoted
    })?;
    let name = line[..colon.0].split(';').next().unwrap_or_default();
    let name = name.rsplit('.').next().unwrap_or_default().trim().to_ascii_uppercase();
    Some((name, &line[colon.0 + 1..]))
}

fn unescaped(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(character) = chars.next() {
        match character {
            // A line end inside a value; the agent's line has none.
            '\\' => match chars.next() {
                Some('n' | 'N') => plain.push(' '),
                escaped => plain.extend(escaped),
            },
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_phones_are_read_and_everything_else_is_passed_over() {
        for (vcf, name, phones) in [
            (
                "BEGIN:VCARD\r\nVERSION:3.0\r\nTEL;TYPE=cell:79001234567\r\nFN:Анна Петрова\r\nEND:VCARD\r\n",
                Some("Анна Петрова"),
                vec!["79001234567"],
            ),
            (
                "item1.tel;TYPE=\"work:main\",voice:+7 900 123-45-67\nTEL;VALUE=uri:tel:+79007654321\nfn:A\\, B\\nC",
                Some("A, B C"),
                vec!["+7 900 123-45-67", "+79007654321"],
            ),
            ("FN:Анна \r\n Петрова\r\nFN:Другая\r\nTEL:", Some("Анна Петрова"), vec![]),
            ("no card at all", None, vec![]),
            ("", None, vec![]),
        ] {
            let card = read(vcf);
            assert_eq!((card.name.as_deref(), card.phones), (name, phones.into_iter().map(str::to_owned).collect()));
        }
    }
}
