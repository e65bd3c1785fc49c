//! Result codes and what they mean for us (MANGO OFFICE API reference, 2.8 and 4.1).

/// The use of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Success,
    Billing,
    /// 3xxx that says "not you": wrong key or signature.
    Credentials,
    /// Another 3xxx: the second one within two minutes blocks the key.
    BadRequest,
    Refused,
    Throttled,
    Transient,
}

/// Codes that decide something, with their words; all others count as their nearest known class.
const KNOWN: &[(u16, Meaning, &str)] = &[
    (1000, Meaning::Success, "ok"),
    (1210, Meaning::Transient, "the contact centre cannot take it"),
    (1211, Meaning::Transient, "maintenance"),
    (1212, Meaning::Transient, "its database is away"),
    (2000, Meaning::Billing, "billing restriction"),
    (2100, Meaning::Billing, "the account cannot be reached"),
    (2110, Meaning::Billing, "the account is blocked"),
    (2120, Meaning::Billing, "the account is closed"),
    (2130, Meaning::Billing, "the account is frozen"),
    (2140, Meaning::Billing, "the account is invalid"),
    (2200, Meaning::Billing, "the service is restricted"),
    (2210, Meaning::Billing, "the limit of the period is used up"),
    (2211, Meaning::Billing, "the limit of the day is used up"),
    (2212, Meaning::Billing, "the limit of the month is used up"),
    (2220, Meaning::Billing, "the limit of calls at once is reached"),
    (2230, Meaning::Billing, "the service is not connected"),
    (2240, Meaning::Billing, "there is not enough money on the account"),
    (2250, Meaning::Billing, "the paid quantity is used up"),
    (2300, Meaning::Billing, "the direction is blocked"),
    (2400, Meaning::Billing, "billing failed"),
    (3000, Meaning::BadRequest, "wrong request"),
    (3100, Meaning::BadRequest, "wrong parameters"),
    (3102, Meaning::Credentials, "the signature does not match: the salt (apiSalt) is wrong"),
    (3103, Meaning::BadRequest, "a required parameter is missing"),
    (3104, Meaning::BadRequest, "a parameter has the wrong format"),
    (3105, Meaning::Credentials, "the access key (apiKey) is wrong"),
    (3300, Meaning::BadRequest, "the object does not exist"),
    (3400, Meaning::BadRequest, "the JSON is malformed"),
    (4000, Meaning::Refused, "it cannot be done"),
    (4100, Meaning::Refused, "the account's logic does not allow it"),
    (4290, Meaning::Throttled, "too many requests"),
    (4500, Meaning::Refused, "a security restriction"),
    (5000, Meaning::Transient, "server error"),
    (5008, Meaning::Throttled, "service unavailable or too many requests"),
    (5009, Meaning::Refused, "the service cannot be added"),
    (5010, Meaning::Refused, "there is no money for the service"),
    (5011, Meaning::Transient, "time-out inside"),
    (5100, Meaning::Refused, "the product is not connected"),
    (5101, Meaning::Refused, "the contact centre is not connected"),
    (5200, Meaning::Refused, "groups are not connected (ALLOW_GROUPS)"),
    (5300, Meaning::Refused, "the API is not connected (API_CONNECT)"),
    (6000, Meaning::Refused, "fax error"),
];

/// The nearest known code: 2219 counts as 2210, else as 2200, else as 2000 (MANGO OFFICE API
/// reference, 2.8, the documented rule).
pub(super) fn meaning(code: u16) -> (Meaning, &'static str) {
    [1, 10, 100, 1000]
        .into_iter()
        .find_map(|step| {
            let near = code / step * step;
            KNOWN.iter().find(|(known, ..)| *known == near)
        })
        .map_or((Meaning::Transient, "a code of no known class"), |(_, meaning, words)| (*meaning, *words))
}
