//! The control API as far as it is the same for every site: faults, the outage, counters,
//! violations and switches.

use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::faults::{Counters, Fault, Faults, Outage};
use super::wire::{Call, Reply, decode};

/// A control call taken apart: the path below `/control`, and the body, `{}` where there is none.
pub struct Request {
    pub parts: Vec<String>,
    pub body: Value,
}

impl Request {
    /// `Err` is the answer to a body that is no JSON.
    pub fn read(call: &Call) -> Result<Self, Reply> {
        let body = if call.body.is_empty() {
            json!({})
        } else {
            serde_json::from_slice(&call.body).map_err(|_| bad("The body is no JSON."))?
        };
        let path = call.path.trim_start_matches("/control").trim_matches('/');
        Ok(Self { parts: path.split('/').map(decode).collect(), body })
    }
}

pub fn ok(body: &Value) -> Reply {
    Reply::json(StatusCode::OK, body)
}

pub fn done() -> Reply {
    ok(&json!({"ok": true}))
}

pub fn bad(message: &str) -> Reply {
    Reply::json(StatusCode::BAD_REQUEST, &json!({"error": message}))
}

/// What every site has. `Switches` are its own.
pub struct Common<'a, Switches> {
    pub faults: &'a mut Faults,
    pub counters: &'a mut Counters,
    pub violations: &'a mut Vec<Value>,
    pub switches: &'a mut Switches,
}

impl<Switches: Serialize + DeserializeOwned> Common<'_, Switches> {
    /// The answer to a call that every site knows; 404 with the site's `routes` to any other.
    pub fn answer(self, method: &str, parts: &[&str], body: &Value, routes: &[&str]) -> Reply {
        match (method, parts) {
            ("GET", ["violations"]) => return ok(&json!(self.violations)),
            ("DELETE", ["violations"]) => self.violations.clear(),
            ("GET", ["counters"]) => return ok(&self.counters.json()),
            ("DELETE", ["counters"]) => self.counters.reset(),
            ("GET", ["faults"]) => return ok(&json!(self.faults.rules)),
            ("DELETE", ["faults"]) => self.faults.rules.clear(),
            ("POST", ["faults"]) => {
                let list = if body.is_array() { body.clone() } else { json!([body]) };
                match serde_json::from_value::<Vec<Fault>>(list) {
                    Ok(rules) => self.faults.rules.extend(rules),
                    Err(error) => return bad(&error.to_string()),
                }
            }
            ("POST", ["outage"]) => match serde_json::from_value::<Option<Outage>>(body["mode"].clone()) {
                Ok(mode) => self.faults.outage = mode,
                Err(error) => return bad(&error.to_string()),
            },
            ("GET", ["switches"]) => return ok(&json!(self.switches)),
            ("PATCH", ["switches"]) => {
                let mut all = json!(self.switches);
                if let (Value::Object(all), Value::Object(changes)) = (&mut all, body) {
                    all.extend(changes.clone());
                }
                match serde_json::from_value(all) {
                    Ok(switches) => *self.switches = switches,
                    Err(error) => return bad(&error.to_string()),
                }
                return ok(&json!(self.switches));
            }
            _ => {
                let body = json!({"error": "There is no such control route.", "routes": routes});
                return Reply::json(StatusCode::NOT_FOUND, &body);
            }
        }
        done()
    }
}
