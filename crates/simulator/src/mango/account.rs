//! The people, groups and channels of one account, as the API shows them, and the signature of a
//! request (MANGO OFFICE reference §1.3, §2.2 - §2.4, §3). Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::floor::wire::hex;

/// `lowercase_hex(SHA256(key ‖ json ‖ salt))` over the exact bytes of `json` (§1.3). Plain SHA-256,
/// no HMAC.
#[must_use]
pub fn sign(key: &str, json: &[u8], salt: &str) -> String {
    hex(&Sha256::new().chain_update(key).chain_update(json).chain_update(salt).finalize())
}

/// An employee of the account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Employee {
    /// `general.user_id`; 0: the next free one.
    pub user_id: i64,
    pub name: String,
    pub email: Option<String>,
    /// The internal number; may be absent.
    pub extension: Option<String>,
    pub department: Option<String>,
    pub position: Option<String>,
    /// The id in Манго Диалоги; absent: `user_id` and the switch's offset.
    pub abonent_id: Option<i64>,
}

/// A group of employees.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Group {
    /// 0: the next free one.
    pub id: i64,
    pub name: String,
    pub extension: String,
    /// `user_id`s in order.
    pub members: Vec<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Account {
    pub employees: BTreeMap<i64, Employee>,
    pub groups: BTreeMap<i64, Group>,
    /// As in §3; `abonent_id`s are in the id space of Манго Диалоги.
    pub widgets: Vec<Value>,
    pub balance: f64,
}

impl Account {
    /// Adds or replaces an employee; answers the id.
    pub fn put_employee(&mut self, mut employee: Employee) -> i64 {
        if employee.user_id == 0 {
            employee.user_id = self.employees.keys().next_back().map_or(300_052_407, |last| last + 1);
        }
        let id = employee.user_id;
        self.employees.insert(id, employee);
        id
    }

    /// Adds or replaces a group; answers the id.
    pub fn put_group(&mut self, mut group: Group) -> i64 {
        if group.id == 0 {
            group.id = self.groups.keys().next_back().map_or(10_048_964, |last| last + 1);
        }
        let id = group.id;
        self.groups.insert(id, group);
        id
    }

    pub fn remove_employee(&mut self, id: i64) -> bool {
        for group in self.groups.values_mut() {
            group.members.retain(|member| *member != id);
        }
        self.employees.remove(&id).is_some()
    }

    /// `config/users/request`: ids and groups only where `ext_fields` asks for them.
    pub fn users(&self, extension: Option<&str>, ext: &[&str]) -> Value {
        let users: Vec<Value> = self
            .employees
            .values()
            .filter(|employee| extension.is_none_or(|wanted| employee.extension.as_deref() == Some(wanted)))
            .map(|employee| self.user(employee, ext))
            .collect();
        json!({"users": users})
    }

    fn user(&self, employee: &Employee, ext: &[&str]) -> Value {
        let mut general = json!({"name": employee.name, "email": employee.email, "department": employee.department,
            "position": employee.position});
        for (name, value) in [
            ("user_id", json!(employee.user_id)),
            ("access_role_id", json!(10451)),
            ("mobile", Value::Null),
            ("login", json!(employee.email)),
            ("use_status", json!(1)),
            ("use_cc_numbers", json!(0)),
            ("sips", json!([])),
        ] {
            if ext.contains(&format!("general.{name}").as_str()) {
                general[name] = value;
            }
        }
        let mut telephony = Map::new();
        if let Some(extension) = &employee.extension {
            telephony.insert("extension".to_owned(), json!(extension));
        }
        telephony.insert("outgoingline".to_owned(), Value::Null);
        telephony.insert("numbers".to_owned(), json!([]));
        for (name, value) in [("dial_alg", json!(1)), ("line_id", Value::Null), ("trunk_number_id", Value::Null)] {
            if ext.contains(&format!("telephony.{name}").as_str()) {
                telephony.insert(name.to_owned(), value);
            }
        }
        let mut user = json!({"general": general, "telephony": telephony});
        if ext.contains(&"groups") {
            let groups: Vec<i64> = self
                .groups
                .values()
                .filter(|group| group.members.contains(&employee.user_id))
                .map(|group| group.id)
                .collect();
            user["groups"] = json!(groups);
        }
        user
    }

    /// `groups`, with `operators` on demand; `None` where a named group does not exist.
    pub fn group_list(
        &self,
        group: Option<i64>,
        member: Option<i64>,
        extension: Option<&str>,
        show_users: bool,
    ) -> Option<Value> {
        if group.is_some_and(|id| !self.groups.contains_key(&id)) {
            return None;
        }
        let by_extension = extension.map(|extension| {
            self.employees
                .values()
                .find(|employee| employee.extension.as_deref() == Some(extension))
                .map(|employee| employee.user_id)
        });
        let groups: Vec<Value> = self
            .groups
            .values()
            .filter(|own| group.is_none_or(|id| own.id == id))
            .filter(|own| member.is_none_or(|id| own.members.contains(&id)))
            .filter(|own| by_extension.is_none_or(|found| found.is_some_and(|id| own.members.contains(&id))))
            .map(|own| self.group(own, show_users))
            .collect();
        Some(json!({"result": 1000, "groups": groups}))
    }

    fn group(&self, group: &Group, show_users: bool) -> Value {
        let mut shown = json!({"id": group.id, "name": group.name, "description": "", "extension": group.extension,
            "dial_alg_group": 1, "dial_alg_users": 1, "auto_redirect": 0, "auto_dial": null, "line_id": null,
            "use_dynamic_ivr": 0, "use_dynamic_seq_num": 0, "melody_id": null});
        if show_users {
            let operators: Vec<Value> = group
                .members
                .iter()
                .filter_map(|id| self.employees.get(id))
                .enumerate()
                .map(|(order, employee)| {
                    json!({"id": employee.user_id, "name": employee.name, "extension": employee.extension.clone().unwrap_or_default(),
                        "priority": 1, "order": order})
                })
                .collect();
            shown["operators"] = json!(operators);
        }
        shown
    }

    /// The `abonent_id` of an employee.
    pub fn abonent(&self, user_id: i64, offset: i64) -> i64 {
        self.employees.get(&user_id).and_then(|employee| employee.abonent_id).unwrap_or(user_id + offset)
    }
}

/// Every second number below `value` as a string, as the documents' own examples have them (§1.4).
pub(super) fn loosen(value: &mut Value, seen: &mut usize) {
    match value {
        Value::Number(number) if number.is_i64() => {
            *seen += 1;
            if seen.is_multiple_of(2) {
                *value = json!(number.to_string());
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| loosen(item, seen)),
        Value::Object(object) => object.values_mut().for_each(|item| loosen(item, seen)),
        _ => {}
    }
}
