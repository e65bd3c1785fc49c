//! The proof of a webhook call of Манго Диалоги. How its body looks is not settled (MANGO OFFICE
//! API reference, 1.7), so every form that carries a signature is read; one without is read only
//! where a setting says so.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;

use super::client::sign;

/// What came, once it is known who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The text of the event.
    pub json: String,
    /// False: it carried no signature, and the caller has to know otherwise from whom it came.
    pub signed: bool,
}

#[derive(Deserialize)]
struct Wrapped<'a> {
    vpbx_api_key: String,
    sign: String,
    #[serde(borrow)]
    json: &'a RawValue,
}

/// The event of a body. None: a wrong key or signature, or nothing that can be read.
#[must_use]
pub fn prove(body: &[u8], key: &SecretString, salt: &SecretString) -> Option<Proved> {
    let Some((given, signature, json)) = triple(body) else {
        let json = std::str::from_utf8(body).ok()?.trim();
        let is_object = serde_json::from_str::<serde_json::Value>(json).ok()?.is_object();
        return is_object.then(|| Proved { json: json.to_owned(), signed: false });
    };
    let expected = sign(key.expose_secret(), salt.expose_secret(), &json);
    let equal = |ours: &str, shown: &str| bool::from(ours.as_bytes().ct_eq(shown.as_bytes()));
    // Both are compared whatever the first says.
    let proved = equal(key.expose_secret(), &given) & equal(&expected, &signature.to_ascii_lowercase());
    proved.then_some(Proved { json, signed: true })
}

/// Key, signature and the text that was signed.
fn triple(body: &[u8]) -> Option<(String, String, String)> {
    if let Ok(wrapped) = serde_json::from_slice::<Wrapped<'_>>(body) {
        // The event is an object, whose bytes are signed as they stand, or a text, which is signed
        // as it reads.
        let raw = wrapped.json.get();
        let json = serde_json::from_str::<String>(raw).unwrap_or_else(|_| raw.to_owned());
        return Some((wrapped.vpbx_api_key, wrapped.sign, json));
    }
    let mut found: [Option<String>; 3] = [None, None, None];
    for (name, value) in url::form_urlencoded::parse(body) {
        if let Some(place) = ["vpbx_api_key", "sign", "json"].iter().position(|known| *known == name) {
            found[place].get_or_insert(value.into_owned());
        }
    }
    let [key, sign, json] = found;
    Some((key?, sign?, json?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EVENT: &str = r#"{"id": "e", "text":"Привет & пока"}"#;

    fn proved(body: &str) -> Option<Proved> {
        prove(body.as_bytes(), &SecretString::from("testkey"), &SecretString::from("testsalt"))
    }

    fn bodies(key: &str, signature: &str) -> [String; 3] {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("vpbx_api_key", key)
            .append_pair("sign", signature)
            .append_pair("json", EVENT)
            .finish();
        [
            form,
            format!("{{\"vpbx_api_key\": \"{key}\", \"sign\": \"{signature}\", \"json\": {EVENT}}}"),
            json!({"vpbx_api_key": key, "sign": signature, "json": EVENT}).to_string(),
        ]
    }

    #[test]
    fn every_signed_form_is_proved_by_the_bytes_that_were_signed_and_by_nothing_else() {
        let right = sign("testkey", "testsalt", EVENT);
        for body in bodies("testkey", &right) {
            assert_eq!(proved(&body), Some(Proved { json: EVENT.to_owned(), signed: true }), "{body}");
            assert_eq!(proved(&body.replacen("text", "texd", 1)), None, "{body}");
        }
        for (key, signature) in [("testkey", "00"), ("testkez", right.as_str()), ("testkey", "")] {
            for body in bodies(key, signature) {
                assert_eq!(proved(&body), None, "{body}");
            }
        }
    }

    #[test]
    fn a_bare_event_is_never_taken_for_a_signed_one() {
        assert_eq!(proved(EVENT), Some(Proved { json: EVENT.to_owned(), signed: false }));
        assert_eq!(proved("[]"), None);
        assert_eq!(proved("nonsense"), None);
        assert_eq!(proved(r#"{"vpbx_api_key":"testkey","sign":"00","json":{}}"#), None);
    }
}
