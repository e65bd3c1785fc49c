//! The lines of a contact card that an agent needs (RFC 6350, properties FN, N and TEL; vCard 2.1
//! as old telephones write it, with quoted-printable values). Lenient: what it cannot read it
//! leaves out.

use base64::Engine as _;

/// What is readable of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// The first `FN`, else the name that the parts of the first `N` make.
    pub name: Option<String>,
    /// Every `TEL`, as written.
    pub phones: Vec<String>,
}

/// Reads a vCard of any version; of a text that is none, an empty card.
#[must_use]
pub fn read(vcf: &str) -> Card {
    let mut card = Card::default();
    let mut parts_of_name = None;
    for line in unfolded(vcf) {
        let Some(property) = Property::of(&line) else { continue };
        let value = property.decoded();
        match property.name.as_str() {
            "FN" if card.name.is_none() => card.name = Some(unescaped(value.trim())).filter(|name| !name.is_empty()),
            "N" if parts_of_name.is_none() => parts_of_name = Some(full_name(&value)).filter(|name| !name.is_empty()),
            "TEL" => {
                let phone = unescaped(value.trim());
                let phone = phone.strip_prefix("tel:").unwrap_or(&phone);
                card.phones.extend(Some(phone.to_owned()).filter(|phone| !phone.is_empty()));
            }
            _ => {}
        }
    }
    card.name = card.name.or(parts_of_name);
    card
}

/// A line that begins with a blank goes on with the one before (RFC 6350, "Line delimiting and
/// folding"), and so does what stands behind a quoted-printable value that ends with `=`.
fn unfolded(vcf: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in vcf.split(['\n', '\r']).filter(|line| !line.is_empty()) {
        match lines.last_mut() {
            Some(last) if last.ends_with('=') && Property::of(last).is_some_and(|last| last.is_quoted_printable()) => {
                last.pop();
                last.push_str(line.trim_start());
            }
            Some(last) if line.starts_with([' ', '\t']) => last.push_str(&line[1..]),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// A line of a card.
struct Property<'a> {
    /// Without its group, in capitals.
    name: String,
    /// In capitals.
    parameters: Vec<String>,
    value: &'a str,
}

impl<'a> Property<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let mut quoted = false;
        let (colon, _) = line.char_indices().find(|(_, c)| {
            quoted ^= *c == '"';
            *c == ':' && !quoted
        })?;
        let mut words = line[..colon].split(';').map(|word| word.trim().to_ascii_uppercase());
        let name = words.next()?.rsplit('.').next()?.trim().to_owned();
        Some(Self { name, parameters: words.collect(), value: &line[colon + 1..] })
    }

    fn is_quoted_printable(&self) -> bool {
        self.parameters.iter().any(|word| word.ends_with("QUOTED-PRINTABLE"))
    }

    /// The value in plain characters.
    fn decoded(&self) -> String {
        let bytes = if self.is_quoted_printable() {
            quoted_printable(self.value)
        } else if self.parameters.iter().any(|word| ["ENCODING=B", "ENCODING=BASE64", "BASE64"].contains(&&**word)) {
            let plain: String = self.value.split_whitespace().collect();
            base64::engine::general_purpose::STANDARD.decode(plain).unwrap_or_default()
        } else {
            return self.value.to_owned();
        };
        if self.parameters.iter().any(|word| word.contains("1251")) {
            return bytes.into_iter().map(windows_1251).collect();
        }
        String::from_utf8(bytes).unwrap_or_else(|error| error.into_bytes().into_iter().map(windows_1251).collect())
    }
}

/// RFC 2045, "Quoted-Printable Content-Transfer-Encoding".
fn quoted_printable(value: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *first == b'=').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

/// The letters of the code page in which Russian telephones write, where they do not write UTF-8.
fn windows_1251(byte: u8) -> char {
    match byte {
        0xc0..=0xff => char::from_u32(0x410 + u32::from(byte - 0xc0)).unwrap_or(char::REPLACEMENT_CHARACTER),
        0xa8 => 'Ё',
        0xb8 => 'ё',
        0xb9 => '№',
        0x80..=0xbf => char::REPLACEMENT_CHARACTER,
        ascii => char::from(ascii),
    }
}

/// `family;given;additional;prefixes;suffixes` as one is addressed.
fn full_name(value: &str) -> String {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for character in value.chars() {
        match parts.last_mut() {
            Some(_) if character == ';' && !escaped => parts.push(String::new()),
            Some(part) => part.push(character),
            None => {}
        }
        escaped = character == '\\' && !escaped;
    }
    let part = |index: usize| parts.get(index).map(|part| unescaped(part.trim())).filter(|part| !part.is_empty());
    [3, 1, 2, 0, 4].into_iter().filter_map(part).collect::<Vec<_>>().join(" ")
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
            // vCard 2.1 of an old telephone, with a soft line break inside a letter.
            (
                "BEGIN:VCARD\r\nVERSION:2.1\r\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=D0=9F=D0=B5;=D0=90=D0=\r\n=BD=D0=BD=D0=B0;;;\r\n\
                 FN;ENCODING=QUOTED-PRINTABLE;CHARSET=UTF-8:=D0=90=D0=BD=D0=BD=D0=B0=20=D0=9F\r\nTEL;CELL:+79001234567\r\nEND:VCARD",
                Some("Анна П"),
                vec!["+79001234567"],
            ),
            (
                "N;QUOTED-PRINTABLE;CHARSET=windows-1251:=CF=E5=F2=F0=EE=E2=E0;=C0=ED=ED=E0",
                Some("Анна Петрова"),
                vec![],
            ),
            ("FN;ENCODING=B;CHARSET=UTF-8:0JDQvdC90LA=", Some("Анна"), vec![]),
            ("FN:\nN:Петрова;Анна;Сергеевна;;", Some("Анна Сергеевна Петрова"), vec![]),
            ("N:Петрова\\; Иванова;Анна", Some("Анна Петрова; Иванова"), vec![]),
            ("FN;ENCODING=QUOTED-PRINTABLE:=ZZ=", Some("=ZZ="), vec![]),
            ("N:;;;;\nTEL;TYPE=CELL:=79", None, vec!["=79"]),
            ("no card at all", None, vec![]),
            ("", None, vec![]),
        ] {
            let card = read(vcf);
            assert_eq!((card.name.as_deref(), card.phones), (name, phones.into_iter().map(str::to_owned).collect()));
        }
    }
}
