//! Rows of the site in memory, with the database's refusals.
//!
//! Owns: tables, keys, foreign keys, sizes, and how values look on the wire (Creatio API reference,
//! 2.2 and 2.6). A stored value is JSON: Guids as lower-case text, times as microseconds since the
//! epoch, an empty value as null. Must not know HTTP or chats.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Dialect;
use super::schema::{self, Column, Entity, Kind};

pub(super) type Row = Map<String, Value>;

/// How exact a time is shown: 7 digits in the echo of a creation, 6 or 3 when read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Echo,
    Read,
}

/// A refusal of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DbError {
    Duplicate { entity: &'static str, key: String, value: String },
    MissingTarget { entity: &'static str, column: &'static str, target: &'static str },
    Referenced { entity: &'static str, by: &'static str, column: &'static str },
    TooLong { size: usize },
    Required { column: &'static str },
}

impl DbError {
    /// The type and the message of the innermost exception.
    pub fn wording(&self, dialect: Dialect) -> (&'static str, String) {
        match dialect {
            Dialect::PostgreSql => ("Npgsql.PostgresException", self.postgres()),
            Dialect::SqlServer => ("System.Data.SqlClient.SqlException", self.sql_server()),
        }
    }

    fn postgres(&self) -> String {
        match self {
            Self::Duplicate { entity, key, .. } if key == "Id" => {
                format!("23505: duplicate key value violates unique constraint \"PK{entity}Id\"")
            }
            Self::Duplicate { entity, key, .. } => {
                format!("23505: duplicate key value violates unique constraint \"IU{entity}{key}\"")
            }
            Self::MissingTarget { entity, column, .. } => {
                format!(
                    "23503: insert or update on table \"{entity}\" violates foreign key constraint \"FK{entity}{column}\""
                )
            }
            Self::Referenced { entity, by, column } => format!(
                "23503: update or delete on table \"{entity}\" violates foreign key constraint \"FK{by}{column}\" on table \"{by}\""
            ),
            Self::TooLong { size } => format!("22001: value too long for type character varying({size})"),
            Self::Required { column } => {
                format!("23502: null value in column \"{column}\" violates not-null constraint")
            }
        }
    }

    fn sql_server(&self) -> String {
        match self {
            Self::Duplicate { entity, key, value } if key == "Id" => format!(
                "Violation of PRIMARY KEY constraint 'PK{entity}Id'. Cannot insert duplicate key in object 'dbo.{entity}'. The duplicate key value is ({value})."
            ),
            Self::Duplicate { entity, key, value } => format!(
                "Cannot insert duplicate key row in object 'dbo.{entity}' with unique index 'IU{entity}{key}'. The duplicate key value is ({value})."
            ),
            Self::MissingTarget { entity, column, target } => format!(
                "The INSERT statement conflicted with the FOREIGN KEY constraint \"FK{entity}{column}\". The conflict occurred in table \"dbo.{target}\", column 'Id'."
            ),
            Self::Referenced { by, column, .. } => format!(
                "The DELETE statement conflicted with the REFERENCE constraint \"FK{by}{column}\". The conflict occurred in table \"dbo.{by}\", column '{column}'."
            ),
            Self::TooLong { .. } => "String or binary data would be truncated.".to_owned(),
            Self::Required { column } => format!("Cannot insert the value NULL into column '{column}'."),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Db {
    tables: BTreeMap<&'static str, BTreeMap<Uuid, Row>>,
    /// Looked up with every message, so kept beside the table.
    chats_of_contact: BTreeMap<Uuid, Vec<Uuid>>,
}

impl Db {
    pub fn rows(&self, entity: &str) -> impl Iterator<Item = &Row> {
        self.tables.get(entity).into_iter().flat_map(BTreeMap::values)
    }

    pub fn row(&self, entity: &str, id: Uuid) -> Option<&Row> {
        self.tables.get(entity)?.get(&id)
    }

    /// Chats of a contact in the order of their making.
    pub fn chats_of(&self, contact: Uuid) -> &[Uuid] {
        self.chats_of_contact.get(&contact).map_or(&[], Vec::as_slice)
    }

    /// Adds a row: gives it an id where it has none, sets the base columns, checks everything.
    pub fn insert(&mut self, entity: &'static Entity, mut row: Row, now_us: i64, by: Uuid) -> Result<Uuid, DbError> {
        let id = guid(&row, "Id").unwrap_or_else(Uuid::new_v4);
        row.insert("Id".to_owned(), json!(id));
        for column in ["CreatedOn", "ModifiedOn"] {
            if row.get(column).is_none_or(Value::is_null) {
                row.insert(column.to_owned(), json!(now_us));
            }
        }
        for column in ["CreatedById", "ModifiedById"] {
            row.insert(column.to_owned(), json!(by));
        }
        row.insert("ProcessListeners".to_owned(), json!(0));
        if self.row(entity.name, id).is_some() {
            return Err(DbError::Duplicate { entity: entity.name, key: "Id".to_owned(), value: id.to_string() });
        }
        self.check(entity, &row, id)?;
        if entity.name == "OmniChat"
            && let Some(contact) = guid(&row, "ContactId")
        {
            self.chats_of_contact.entry(contact).or_default().push(id);
        }
        self.tables.entry(entity.name).or_default().insert(id, row);
        Ok(id)
    }

    /// Changes columns of a row; `None` where there is no such row. With `touch` it counts as saved
    /// through the entity layer.
    pub fn update(
        &mut self,
        entity: &'static Entity,
        id: Uuid,
        changes: Row,
        touch: Option<(i64, Uuid)>,
    ) -> Option<Result<(), DbError>> {
        let mut row = self.row(entity.name, id)?.clone();
        row.extend(changes);
        if let Some((now_us, by)) = touch {
            row.insert("ModifiedOn".to_owned(), json!(now_us));
            row.insert("ModifiedById".to_owned(), json!(by));
        }
        if let Err(error) = self.check(entity, &row, id) {
            return Some(Err(error));
        }
        self.tables.entry(entity.name).or_default().insert(id, row);
        Some(Ok(()))
    }

    /// Sets columns past every check, as direct SQL does; nothing happens where there is no such
    /// row.
    pub fn set(&mut self, entity: &str, id: Uuid, changes: &[(&str, Value)]) {
        if let Some(row) = self.tables.get_mut(entity).and_then(|table| table.get_mut(&id)) {
            for (name, value) in changes {
                row.insert((*name).to_owned(), value.clone());
            }
        }
    }

    /// Deletes a row; `None` where there is no such row.
    pub fn delete(&mut self, entity: &'static Entity, id: Uuid) -> Option<Result<(), DbError>> {
        let row = self.row(entity.name, id)?;
        let contact = guid(row, "ContactId");
        for other in schema::ENTITIES {
            for column in other.columns() {
                if column.kind == Kind::Lookup(entity.name)
                    && self
                        .rows(other.name)
                        .any(|row| guid(row, column.name) == Some(id) && guid(row, "Id") != Some(id))
                {
                    return Some(Err(DbError::Referenced { entity: entity.name, by: other.name, column: column.name }));
                }
            }
        }
        if let Some(chats) = contact.and_then(|contact| self.chats_of_contact.get_mut(&contact)) {
            chats.retain(|chat| *chat != id);
        }
        if let Some(table) = self.tables.get_mut(entity.name) {
            table.remove(&id);
        }
        Some(Ok(()))
    }

    fn check(&self, entity: &'static Entity, row: &Row, id: Uuid) -> Result<(), DbError> {
        for column in entity.columns() {
            let value = row.get(column.name).unwrap_or(&Value::Null);
            if column.required && (value.is_null() || value.as_str() == Some("")) {
                return Err(DbError::Required { column: column.name });
            }
            match column.kind {
                Kind::Text(size)
                    if size > 0 && value.as_str().is_some_and(|text| text.encode_utf16().count() > size) =>
                {
                    return Err(DbError::TooLong { size });
                }
                Kind::Lookup(target) => {
                    // People of the site itself have no rows of their own.
                    let base = matches!(column.name, "CreatedById" | "ModifiedById");
                    if let Some(key) = guid(row, column.name)
                        && !base
                        && self.row(target, key).is_none()
                    {
                        return Err(DbError::MissingTarget { entity: entity.name, column: column.name, target });
                    }
                }
                _ => {}
            }
        }
        for key in entity.unique {
            let value =
                |row: &Row| key.iter().map(|name| row.get(*name).cloned().unwrap_or(Value::Null)).collect::<Vec<_>>();
            let own = value(row);
            if self.row(entity.name, id).is_some_and(|old| value(old) == own) {
                continue;
            }
            if self.rows(entity.name).any(|other| guid(other, "Id") != Some(id) && value(other) == own) {
                return Err(DbError::Duplicate {
                    entity: entity.name,
                    key: key.concat(),
                    value: own
                        .iter()
                        .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
                        .collect::<Vec<_>>()
                        .join(", "),
                });
            }
        }
        Ok(())
    }
}

/// A Guid column; none where it is empty.
pub(super) fn guid(row: &Row, name: &str) -> Option<Uuid> {
    Uuid::try_parse(row.get(name)?.as_str()?).ok().filter(|id| !id.is_nil())
}

/// A text column; empty where it is empty.
pub(super) fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or("")
}

/// A number or time column; none where it is empty.
pub(super) fn int(row: &Row, name: &str) -> Option<i64> {
    row.get(name)?.as_i64()
}

/// The value of a column as OData shows it: empty values as zeros.
pub(super) fn shown(column: &Column, value: &Value, dialect: Dialect, how: Shown) -> Value {
    match column.kind {
        Kind::Guid | Kind::Lookup(_) if value.is_null() => json!(Uuid::nil()),
        Kind::Text(_) if value.is_null() => json!(""),
        Kind::Int if value.is_null() => json!(0),
        Kind::Bool if value.is_null() => json!(false),
        Kind::Time => {
            json!(value.as_i64().map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |us| time(us, dialect, how)))
        }
        _ => value.clone(),
    }
}

fn time(us: i64, dialect: Dialect, how: Shown) -> String {
    let Ok(at) = jiff::Timestamp::from_microsecond(us) else {
        return "0001-01-01T00:00:00Z".to_owned();
    };
    match (how, dialect) {
        // The seventh digit that a read-back loses.
        (Shown::Echo, _) => at.strftime("%Y-%m-%dT%H:%M:%S.%6f3Z").to_string(),
        (Shown::Read, Dialect::PostgreSql) => at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        (Shown::Read, Dialect::SqlServer) => at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
    }
}

/// What is wrong with a member of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    Unknown(String),
    Type(String),
}

/// What the site makes of bodies where sources disagree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub unknown_ignored: bool,
    pub zoneless_refused: bool,
    pub zero_guid_clears: bool,
}

/// Reads a body of POST or PATCH into stored values.
pub(super) fn read_body(entity: &'static Entity, body: &Row, reading: Reading) -> Result<Row, Malformed> {
    let mut row = Row::new();
    for (name, value) in body {
        if name.starts_with('@') || name.contains("@odata.") {
            continue;
        }
        let Some(column) = entity.column(name) else {
            if reading.unknown_ignored {
                continue;
            }
            return Err(Malformed::Unknown(name.clone()));
        };
        let wrong = || Malformed::Type(name.clone());
        let stored = match (column.kind, value) {
            (_, Value::Null) => Value::Null,
            (Kind::Guid | Kind::Lookup(_), Value::String(text)) => {
                let id = Uuid::try_parse(text).map_err(|_| wrong())?;
                let clears = id.is_nil() && (column.kind == Kind::Guid || reading.zero_guid_clears);
                if clears {
                    Value::Null
                } else if id.is_nil() {
                    // Kept as it is: no row has this key, so the foreign key refuses it.
                    json!(ZERO_KEY)
                } else {
                    json!(id)
                }
            }
            (Kind::Text(_), Value::String(text)) => {
                if text.is_empty() {
                    Value::Null
                } else {
                    json!(text)
                }
            }
            (Kind::Int, Value::Number(number)) => {
                let number = number.as_i64().filter(|number| i32::try_from(*number).is_ok());
                json!(number.ok_or_else(wrong)?)
            }
            (Kind::Bool, Value::Bool(flag)) => json!(flag),
            (Kind::Time, Value::String(text)) => match text.parse::<jiff::Timestamp>() {
                Ok(at) => json!(at.as_microsecond()),
                Err(_) if reading.zoneless_refused => return Err(wrong()),
                Err(_) => Value::Null,
            },
            _ => return Err(wrong()),
        };
        row.insert(name.clone(), stored);
    }
    Ok(row)
}

/// Stands for a zero Guid that does not clear a lookup.
const ZERO_KEY: &str = "ffffffff-0000-0000-0000-000000000000";
