//! Reads an object's difference to its parent and applies it, as a site does at installation
//! (docs/reference/creatio-package.md, "Objects"). A difference that this reader refuses never
//! leaves the program.

use serde_json::Value;

/// One line: operation, path and value.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub operation: Operation,
    /// Members from the root, elements of lists by their UId.
    pub path: Vec<Step>,
    /// Absent for a removal.
    pub value: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `=`: the member is there and gets another value.
    Set,
    /// `+`: a member that is not there, or another element of a list.
    Add,
    /// `-`: tolerated where the parent has no such member.
    Remove,
    /// `~`: the order of a list, by UId.
    Order,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Member(String),
    Element(String),
}

/// Why a difference cannot be read or applied: the line, counted from 1, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct DifferenceError {
    pub line: usize,
    pub reason: String,
}

/// Reads a difference.
///
/// # Errors
/// A line is none of the four operations, or its value is no JSON.
pub fn parse(text: &str) -> Result<Vec<(usize, Change)>, DifferenceError> {
    let mut changes = Vec::new();
    let mut begun: Option<(usize, Operation, Vec<Step>, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let wrong = |reason: &str| DifferenceError { line: number, reason: reason.to_owned() };
        let operation = match line.get(..2) {
            Some("= ") => Some(Operation::Set),
            Some("+ ") => Some(Operation::Add),
            Some("- ") => Some(Operation::Remove),
            Some("~ ") => Some(Operation::Order),
            _ => None,
        };
        let Some(operation) = operation else {
            let Some((.., value)) = &mut begun else { return Err(wrong("it continues nothing")) };
            value.push('\n');
            value.push_str(line);
            continue;
        };
        if let Some(begun) = begun.take() {
            changes.push(finished(begun)?);
        }
        let (path, value) = line[2..].split_once(' ').unwrap_or((&line[2..], ""));
        let path = steps(path).ok_or_else(|| wrong("the path is not one of members and elements"))?;
        begun = Some((number, operation, path, value.to_owned()));
    }
    if let Some(begun) = begun {
        changes.push(finished(begun)?);
    }
    Ok(changes)
}

fn finished(begun: (usize, Operation, Vec<Step>, String)) -> Result<(usize, Change), DifferenceError> {
    let (line, operation, path, text) = begun;
    let value = if operation == Operation::Remove {
        None
    } else {
        let value = serde_json::from_str(&text)
            .map_err(|error| DifferenceError { line, reason: format!("its value is no JSON: {error}") })?;
        Some(value)
    };
    Ok((line, Change { operation, path, value }))
}

/// `MetaData.Schema.D2.["<uid>"].E16`.
fn steps(path: &str) -> Option<Vec<Step>> {
    path.split('.')
        .map(|part| match part.strip_prefix("[\"") {
            Some(element) => Some(Step::Element(element.strip_suffix("\"]")?.to_owned())),
            None if part.is_empty() || part.contains(['[', ']', '"']) => None,
            None => Some(Step::Member(part.to_owned())),
        })
        .collect()
}

/// Applies a difference to the parent.
///
/// # Errors
/// A member is set that is not there or added that is, an element or a place does not exist, or an
/// order leaves an element out.
pub fn apply(parent: &Value, text: &str) -> Result<Value, DifferenceError> {
    let mut object = parent.clone();
    for (line, change) in parse(text)? {
        change.apply(&mut object).map_err(|reason| DifferenceError { line, reason })?;
    }
    Ok(object)
}

impl Change {
    fn apply(&self, object: &mut Value) -> Result<(), String> {
        let (last, way) = self.path.split_last().ok_or("the path is empty")?;
        let mut place = object;
        for step in way {
            let next = match step {
                Step::Member(name) => place.get_mut(name),
                Step::Element(uid) => element(place, uid),
            };
            place = match next {
                Some(next) => next,
                None if self.operation == Operation::Remove => return Ok(()),
                None => return Err(format!("there is no {step:?} on the way")),
            };
        }
        let Step::Member(name) = last else { return Err("an element itself cannot be changed".to_owned()) };
        let members = place.as_object_mut().ok_or("the place is no object")?;
        match (self.operation, &self.value) {
            (Operation::Set, Some(value)) => match members.get_mut(name) {
                Some(member) => *member = value.clone(),
                None => return Err(format!("{name} is set and is not there")),
            },
            (Operation::Add, Some(value)) => match members.get_mut(name) {
                Some(Value::Array(elements)) => {
                    let taken = elements.iter().any(|own| own["UId"] == value["UId"]);
                    if taken {
                        return Err(format!("{name} has two elements {}", value["UId"]));
                    }
                    elements.push(value.clone());
                }
                Some(_) => return Err(format!("{name} is added and is there")),
                // A list begins with its first element.
                None if value.get("UId").is_some() => {
                    members.insert(name.clone(), Value::Array(vec![value.clone()]));
                }
                None => drop(members.insert(name.clone(), value.clone())),
            },
            (Operation::Remove, _) => drop(members.remove(name)),
            (Operation::Order, Some(Value::Array(order))) => {
                let elements = members.get_mut(name).and_then(Value::as_array_mut).ok_or("an order of no list")?;
                if order.len() != elements.len() {
                    return Err(format!("the order of {name} has {} elements of {}", order.len(), elements.len()));
                }
                let place = |element: &Value| order.iter().position(|uid| *uid == element["UId"]);
                if let Some(missing) = elements.iter().find(|element| place(element).is_none()) {
                    return Err(format!("the order of {name} leaves {} out", missing["UId"]));
                }
                elements.sort_by_key(place);
            }
            (operation, _) => return Err(format!("{operation:?} has no fitting value")),
        }
        Ok(())
    }
}

fn element<'a>(list: &'a mut Value, uid: &str) -> Option<&'a mut Value> {
    list.as_array_mut()?.iter_mut().find(|element| element["UId"] == uid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_operation_does_what_a_site_does_and_refuses_what_it_refuses() {
        let parent = json!({"S": {"A": 1, "L": [{"UId": "a"}], "X": {"Y": 1}}});
        for (text, expected) in [
            ("= S.A 2", Ok(json!({"S": {"A": 2, "L": [{"UId": "a"}], "X": {"Y": 1}}}))),
            ("+ S.L {\n  \"UId\": \"b\"\n}\n~ S.L [\"b\",\"a\"]", {
                Ok(json!({"S": {"A": 1, "L": [{"UId": "b"}, {"UId": "a"}], "X": {"Y": 1}}}))
            }),
            ("+ S.L.[\"a\"].E false", Ok(json!({"S": {"A": 1, "L": [{"UId": "a", "E": false}], "X": {"Y": 1}}}))),
            ("- S.X.Y\n- S.Z.Q", Ok(json!({"S": {"A": 1, "L": [{"UId": "a"}], "X": {}}}))),
            ("+ S.N {\"UId\": \"n\"}", {
                Ok(json!({"S": {"A": 1, "L": [{"UId": "a"}], "X": {"Y": 1}, "N": [{"UId": "n"}]}}))
            }),
            ("= S.B 2", Err("line 1: B is set and is not there")),
            ("+ S.A 2", Err("line 1: A is added and is there")),
            ("+ S.L {\"UId\": \"a\"}", Err("line 1: L has two elements \"a\"")),
            ("~ S.L []", Err("line 1: the order of L has 0 elements of 1")),
            ("~ S.L [\"b\"]", Err("line 1: the order of L leaves \"a\" out")),
            ("stray", Err("line 1: it continues nothing")),
        ] {
            let applied = apply(&parent, text).map_err(|error| error.to_string());
            assert_eq!(applied, expected.map_err(str::to_owned), "{text}");
        }
        let error = apply(&parent, "= S.A 1\n= S.A {\n  oops\n}").unwrap_err();
        assert!(error.line == 2 && error.reason.contains("no JSON"), "{error}");
    }
}
