//! The part of OData 4 that is used: one row, lists, create with an own id, patch, delete (Creatio
//! API reference, 2.1, 2.2, 2.6).

use bytes::Bytes;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;
use uuid::Uuid;

use super::Client;
use super::error::{Class, Error, fault};
use super::wire::{Call, Kind, encode};
use crate::transport::whole_characters;

/// Pages of one list, as the site cuts them, before they are taken for a circle.
const MOST_PAGES: usize = 1_000;

/// A row of a collection, as a typed read.
pub trait Entity: DeserializeOwned {
    /// Name of the collection.
    const COLLECTION: &'static str;
    /// Columns for `$select`; empty reads all.
    const COLUMNS: &'static str;
}

/// What [`Client::create`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The row is new.
    New,
    /// A row with this id (or with an equal unique key) was there; it is unchanged.
    AlreadyThere,
}

/// What [`Client::delete`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It was there and is gone.
    Now,
    /// It was not there.
    Gone,
}

/// Options of a read. Values inside a filter come from [`text_literal`], [`guid_literal`] and
/// [`time_literal`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    select: Option<String>,
    filter: Option<String>,
    order_by: Option<String>,
    expand: Option<String>,
    top: Option<usize>,
    skip: usize,
}

impl Query {
    /// Everything of the collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Columns, with commas between.
    #[must_use]
    pub fn select(mut self, columns: impl Into<String>) -> Self {
        self.select = Some(columns.into()).filter(|columns| !columns.is_empty());
        self
    }

    /// A condition.
    #[must_use]
    pub fn filter(mut self, condition: impl Into<String>) -> Self {
        self.filter = Some(condition.into());
        self
    }

    /// Columns to sort by.
    #[must_use]
    pub fn order_by(mut self, columns: impl Into<String>) -> Self {
        self.order_by = Some(columns.into());
        self
    }

    /// Lookups to read with the row.
    #[must_use]
    pub fn expand(mut self, lookups: impl Into<String>) -> Self {
        self.expand = Some(lookups.into());
        self
    }

    /// At most so many rows.
    #[must_use]
    pub fn top(mut self, rows: usize) -> Self {
        self.top = Some(rows);
        self
    }

    /// Leaves out so many rows at the beginning.
    #[must_use]
    pub fn skip(mut self, rows: usize) -> Self {
        self.skip = rows;
        self
    }

    fn render(&self) -> String {
        let number = |number: usize| Some(number.to_string());
        let options = [
            ("$select", self.select.clone()),
            ("$filter", self.filter.clone()),
            ("$orderby", self.order_by.clone()),
            ("$expand", self.expand.clone()),
            ("$top", self.top.and_then(number)),
            ("$skip", (self.skip > 0).then_some(self.skip).and_then(number)),
        ];
        let given: Vec<_> = options
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| format!("{name}={}", encode(&value))))
            .collect();
        if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
    }
}

/// A text in a filter: in single quotes, a quote inside doubled, U+0000 lost.
pub fn text_literal(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

/// A Guid in a filter or as a key: bare, lower case.
pub fn guid_literal(id: Uuid) -> String {
    id.hyphenated().to_string()
}

/// A time in a filter: ISO 8601 with `Z`, whole milliseconds, rounded down.
pub fn time_literal(time: Timestamp) -> String {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time).to_string()
}

/// Untyped reads, shared by the typed calls of this module.
impl Client {
    pub(super) async fn row<T: DeserializeOwned>(
        &self,
        collection: &str,
        id: Uuid,
        query: &Query,
    ) -> Result<Option<T>, Error> {
        let path = format!("odata/{collection}({}){}", guid_literal(id), query.render());
        let call = Call::get(Kind::OData, path, format!("reading {collection} {id}"));
        let answer = self.wire.send(&call).await?;
        let about = fault(&answer).unwrap_or_default();
        match answer.status() {
            StatusCode::NO_CONTENT => Ok(None),
            StatusCode::NOT_FOUND if !about.routing_miss && !about.html => Ok(None),
            StatusCode::OK if answer.body().trim_ascii().is_empty() => Ok(None),
            _ => {
                let value: Value = self.wire.parse(&call, &answer).map_err(|error| self.place(collection, error))?;
                if value.get("Id").is_none() {
                    return Err(self.place(collection, self.wire.refusal(&call, &answer)));
                }
                serde_json::from_value(value).map(Some).map_err(|error| self.wire.unreadable(&call, &error))
            }
        }
    }

    /// All rows; the site's own pages are followed to the end.
    /// A row that cannot be read is left out: it never hides the others.
    pub(super) async fn rows<T: DeserializeOwned>(&self, collection: &str, query: &Query) -> Result<Vec<T>, Error> {
        let mut call = list(collection, query);
        let mut rows = Vec::new();
        for _ in 0..MOST_PAGES {
            let (more, next) = self.answer(collection, &call).await?;
            for raw in more {
                match serde_json::from_str(&whole_characters(raw.get().as_bytes())) {
                    Ok(row) => rows.push(row),
                    Err(error) => tracing::warn!(
                        collection,
                        column = error.column(),
                        "a row of the CRM has not the documented shape and is left out"
                    ),
                }
            }
            match next {
                Some(link) => call.absolute = Some(self.next_link(collection, &link)?),
                None => return Ok(rows),
            }
        }
        let sentence =
            format!("the list {collection} of {} has no end: its next pages go in a circle", self.wire.host());
        Err(Error::new(Class::Transient, false, sentence))
    }

    /// The rows of the first answer, which are of one moment, and whether there are more. The
    /// site's own next page goes on by an offset: where rows leave the list meanwhile, it passes
    /// over as many that are still in it.
    pub(super) async fn first_rows(
        &self,
        collection: &str,
        query: &Query,
    ) -> Result<(Vec<Box<RawValue>>, bool), Error> {
        let call = Call { kind: Kind::Outbox, ..list(collection, query) };
        let (rows, next) = self.answer(collection, &call).await?;
        Ok((rows, next.is_some()))
    }

    /// One answer: its rows as they came, each to be read by itself, and the link to the next.
    async fn answer(&self, collection: &str, call: &Call<'_>) -> Result<(Vec<Box<RawValue>>, Option<String>), Error> {
        let answer = self.wire.send(call).await?;
        let page: Page = self.wire.parse_raw(call, &answer).map_err(|error| self.place(collection, error))?;
        // An unknown collection may be told of with status 200 (Creatio API reference, 2.6).
        let rows = page.value.and_then(|value| serde_json::from_str(value.get()).ok());
        let Some(rows) = rows else { return Err(self.place(collection, self.wire.refusal(call, &answer))) };
        let next = page.next_link.and_then(|link| serde_json::from_str::<Option<String>>(link.get()).ok().flatten());
        Ok((rows, next))
    }
}

/// A page of a list, of which only the frame is read.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    value: Option<Box<RawValue>>,
    #[serde(default, rename = "@odata.nextLink")]
    next_link: Option<Box<RawValue>>,
}

fn list<'a>(collection: &str, query: &Query) -> Call<'a> {
    let path = format!("odata/{collection}{}", query.render());
    Call::get(Kind::OData, path, format!("reading the list {collection}"))
}

impl Client {
    /// One row by its id.
    ///
    /// # Errors
    /// The site refuses, or no answer came.
    pub async fn get<T: Entity>(&self, id: Uuid) -> Result<Option<T>, Error> {
        self.row(T::COLLECTION, id, &Query::new().select(T::COLUMNS)).await
    }

    /// The rows that a query names; the site's own pages are followed to the end.
    ///
    /// # Errors
    /// The site refuses, knows no such collection, or no answer came.
    pub async fn list<T: Entity>(&self, query: Query) -> Result<Vec<T>, Error> {
        let query = if query.select.is_none() { query.select(T::COLUMNS) } else { query };
        self.rows(T::COLLECTION, &query).await
    }

    /// Creates a row under an id made by the caller, so that doing it twice makes one row. After an
    /// error that may have been done, call it again: it then answers [`Created::AlreadyThere`].
    ///
    /// # Errors
    /// The site refuses for another reason than the id, or no answer came.
    pub async fn create(&self, collection: &str, id: Uuid, columns: &impl Serialize) -> Result<Created, Error> {
        let call = Call {
            body: body(columns, Some(id))?,
            ..Call::write(Method::POST, format!("odata/{collection}"), format!("creating {collection} {id}"))
        };
        let answer = self.wire.send(&call).await?;
        match self.wire.expect_done(&call, &answer) {
            Ok(()) => Ok(Created::New),
            Err(error) if error.class() == Class::AlreadyExists => Ok(Created::AlreadyThere),
            // A site that hides its details says the same for a duplicate as for any fault, and a
            // fault may come after the row was stored (Creatio API reference, 2.6 and 7.1): only a
            // look tells.
            Err(error) if matches!(error.class(), Class::Transient | Class::BadRequest) => {
                match self.row::<Value>(collection, id, &Query::new().select("Id")).await {
                    Ok(Some(_)) => Ok(Created::AlreadyThere),
                    _ => Err(error),
                }
            }
            Err(error) => Err(self.place(collection, error)),
        }
    }

    /// Writes the columns given and leaves the others alone. Repeating is harmless.
    ///
    /// # Errors
    /// [`Class::NotFound`] where the row is not there.
    pub async fn patch(&self, collection: &str, id: Uuid, columns: &impl Serialize) -> Result<(), Error> {
        self.patch_as(Kind::OData, collection, id, columns).await
    }

    pub(super) async fn patch_as(
        &self,
        kind: Kind,
        collection: &str,
        id: Uuid,
        columns: &impl Serialize,
    ) -> Result<(), Error> {
        let path = format!("odata/{collection}({})", guid_literal(id));
        let call = Call {
            body: body(columns, None)?,
            kind,
            ..Call::write(Method::PATCH, path, format!("changing {collection} {id}"))
        };
        let answer = self.wire.send(&call).await?;
        let routing_miss = fault(&answer).is_some_and(|fault| fault.routing_miss);
        self.wire
            .expect_done(&call, &answer)
            .map_err(|error| if routing_miss { self.place(collection, error) } else { error })
    }

    /// Deletes a row. Repeating is harmless.
    ///
    /// # Errors
    /// [`Class::InUse`] where other rows refer to it.
    pub async fn delete(&self, collection: &str, id: Uuid) -> Result<Deleted, Error> {
        let path = format!("odata/{collection}({})", guid_literal(id));
        let call = Call::write(Method::DELETE, path, format!("deleting {collection} {id}"));
        let answer = self.wire.send(&call).await?;
        let about = fault(&answer).unwrap_or_default();
        if answer.status() == StatusCode::NOT_FOUND && !about.routing_miss && !about.html {
            return Ok(Deleted::Gone);
        }
        self.wire.expect_done(&call, &answer).map(|()| Deleted::Now).map_err(|error| self.place(collection, error))
    }

    /// A collection of the package that the site does not know means that the package is missing.
    fn place(&self, collection: &str, error: Error) -> Error {
        if error.class() == Class::NotFound && collection.starts_with("Max") {
            let sentence = format!(
                "{} does not know the object {collection}: install the package MaxChannel in the CRM",
                self.wire.host()
            );
            return Error::new(Class::PackageMissing, false, sentence);
        }
        error
    }

    /// The address of the next page, only on the host that the spec names: anything else would get
    /// the session.
    fn next_link(&self, collection: &str, link: &str) -> Result<Url, Error> {
        let foreign = || {
            Error::new(
                Class::Transient,
                false,
                format!(
                    "the list {collection} of {} goes on at an address of another host, which is not followed",
                    self.wire.host()
                ),
            )
        };
        let url = self.wire.odata_root(collection)?.join(link).map_err(|_| foreign())?;
        self.wire.on_site(&url).ok_or_else(foreign)
    }
}

/// The columns as JSON without U+0000 in any text, with the id where a row is made.
fn body(columns: &impl Serialize, id: Option<Uuid>) -> Result<Bytes, Error> {
    let broken =
        || Error::new(Class::BadRequest, false, "a row for the CRM cannot be written as JSON: it is no object");
    let mut value = serde_json::to_value(columns).map_err(|_| broken())?;
    clean(&mut value);
    let object = value.as_object_mut().ok_or_else(broken)?;
    if let Some(id) = id {
        object.insert("Id".to_owned(), Value::String(guid_literal(id)));
    }
    Ok(Bytes::from(value.to_string()))
}

fn clean(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', ""),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(members) => members.values_mut().for_each(clean),
        _ => {}
    }
}
