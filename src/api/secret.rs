//! What counts as a usable value of a Secret. Values stay in [`SecretString`]; no error quotes
//! them.

use secrecy::SecretString;

/// The keys of the Secrets that a manifest names, where it does not name the key itself.
pub mod key {
    pub const API_KEY: &str = "apiKey";
    pub const API_SALT: &str = "apiSalt";
    pub const CLIENT_ID: &str = "clientId";
    pub const CLIENT_SECRET: &str = "clientSecret";
    pub const USERNAME: &str = "username";
    pub const PASSWORD: &str = "password";
    pub const NOTIFY_SECRET: &str = "notifySecret";
}

/// Why a value of a Secret cannot be used; each is one sentence without the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    #[error("it is empty: put the value in")]
    Empty,
    #[error("it has a space or a line break inside: copy it once more, in one piece")]
    Blank,
    #[error("it has characters that no such value has (control, invisible or non-Latin ones): copy it once more")]
    Character,
}

/// A token, key or salt: visible Latin characters. Blanks, line ends and invisible marks around it
/// are trimmed, inside they are refused.
pub fn secret_value(raw: &str) -> Result<SecretString, SecretProblem> {
    // Copying from a page brings zero-width marks and byte-order marks along.
    let invisible = |c: char| c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    let value = raw.trim_matches(invisible);
    if value.is_empty() {
        return Err(SecretProblem::Empty);
    }
    if value.contains(char::is_whitespace) {
        return Err(SecretProblem::Blank);
    }
    if !value.chars().all(|c| c.is_ascii_graphic()) {
        return Err(SecretProblem::Character);
    }
    Ok(SecretString::from(value))
}

/// A login or password: any characters but control ones. Only line ends around it are trimmed,
/// because blanks may belong to it.
pub fn passphrase(raw: &str) -> Result<SecretString, SecretProblem> {
    let value = raw.trim_matches(['\r', '\n']);
    if value.is_empty() {
        return Err(SecretProblem::Empty);
    }
    if value.contains(char::is_control) {
        return Err(SecretProblem::Character);
    }
    Ok(SecretString::from(value))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn exposed(result: Result<SecretString, SecretProblem>) -> Result<String, SecretProblem> {
        result.map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn a_token_is_trimmed_at_its_ends_and_refused_with_blanks_inside() {
        for (raw, expected) in [
            ("f9LHod-token_1", Ok("f9LHod-token_1")),
            (" \t\r\nf9LHod\n", Ok("f9LHod")),
            ("\u{feff}f9LHod\u{200b}\u{a0}", Ok("f9LHod")),
            ("", Err(SecretProblem::Empty)),
            (" \n", Err(SecretProblem::Empty)),
            ("f9 LHod", Err(SecretProblem::Blank)),
            ("f9\nLHod", Err(SecretProblem::Blank)),
            ("f9\u{a0}LHod", Err(SecretProblem::Blank)),
            ("f9\0LHod", Err(SecretProblem::Character)),
            ("f9\u{200b}LHod", Err(SecretProblem::Character)),
            ("токен", Err(SecretProblem::Character)),
        ] {
            assert_eq!(exposed(secret_value(raw)), expected.map(str::to_owned), "{raw:?}");
        }
    }

    #[test]
    fn a_password_keeps_its_blanks_and_loses_line_ends() {
        for (raw, expected) in [
            (" пароль с пробелами \r\n", Ok(" пароль с пробелами ")),
            ("\n", Err(SecretProblem::Empty)),
            ("a\tb", Err(SecretProblem::Character)),
            ("a\nb", Err(SecretProblem::Character)),
        ] {
            assert_eq!(exposed(passphrase(raw)), expected.map(str::to_owned), "{raw:?}");
        }
    }
}
