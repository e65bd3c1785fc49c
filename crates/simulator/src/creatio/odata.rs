//! OData 4 over the rows of the site: lists, single rows, fields, counts, creation, change,
//! deletion, `$metadata` (Creatio API reference, 2). `$batch` is in [`super::batch`].
//!
//! Owns: paths, query options, bodies and error shapes of `/odata`, the rights on objects, and what
//! the relay may write into `MaxOutbox` (package contract, "From the CRM to the relay"). Must not
//! know chats.

use std::collections::HashSet;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::filter::{self, Dialects, Filter};
use super::schema::{self, Entity, Kind};
use super::site::World;
use super::store::{self, DbError, Malformed, Reading, Row, Shown, int};
use crate::floor::faults::shape;
use crate::floor::wire::{Call, Reply, decode};

/// Objects of the package that the technical user alone may read.
const PRIVATE: [&str; 2] = ["MaxOutbox", "MaxInbound"];
/// The deepest `$expand` (`ODataMaxExpansionDepth`).
const MAX_DEPTH: usize = 2;

pub(super) fn http(world: &mut World, call: &Call, rest: &str, user: Uuid) -> Reply {
    let limit = world.switches.query_limit;
    if limit > 0 && call.query.len() > limit {
        return Reply::html(StatusCode::NOT_FOUND, "404.15 - Query String Too Long");
    }
    let path = decode(rest);
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let base = base(world, call);
    match segments.as_slice() {
        [] => {
            let sets: Vec<Value> = known(world)
                .map(|entity| json!({"name": entity.name, "kind": "EntitySet", "url": entity.name}))
                .collect();
            odata(StatusCode::OK, &json!({"@odata.context": format!("{base}$metadata"), "value": sets}))
        }
        ["$batch"] => super::batch::http(world, call, user),
        ["$metadata"] => Reply::body(StatusCode::OK, "application/xml", metadata(world)),
        [first, more @ ..] => {
            let (name, key) = match first.split_once('(') {
                Some((name, key)) => (name, Some(key.trim_end_matches(')'))),
                None => (*first, None),
            };
            let Some(entity) = known(world).find(|entity| entity.name == name) else {
                return routing_miss(world, name);
            };
            if world.denied.iter().any(|object| object == name) || (PRIVATE.contains(&name) && user != world.technical)
            {
                return denied(world, name);
            }
            let id = match key.map(Uuid::try_parse) {
                None => None,
                Some(Ok(id)) => Some(id),
                Some(Err(_)) => return refused("The key is no Guid."),
            };
            collection(world, call, entity, id, more, user, &base)
        }
    }
}

fn known(world: &World) -> impl Iterator<Item = &'static Entity> + use<> {
    let installed = world.package_installed;
    schema::ENTITIES.iter().filter(move |entity| installed || !entity.package)
}

fn base(world: &World, call: &Call) -> String {
    let host = call.header("host");
    let root = if host.is_empty() { world.url.clone() } else { format!("http://{host}") };
    format!("{root}{}/odata/", world.options.runtime.prefix())
}

fn odata(status: StatusCode, body: &Value) -> Reply {
    Reply::body(
        status,
        "application/json; odata.metadata=minimal; odata.streaming=true; charset=utf-8",
        body.to_string(),
    )
    .with("odata-version", "4.0")
}

fn nothing(status: StatusCode) -> Reply {
    Reply::empty(status).with("odata-version", "4.0")
}

/// A refusal of the request itself.
fn refused(message: &str) -> Reply {
    odata(
        StatusCode::BAD_REQUEST,
        &json!({"error": {"code": "", "message": "The query specified in the URI is not valid.",
            "innererror": {"message": message, "type": "Microsoft.OData.ODataException", "stacktrace": ""}}}),
    )
}

fn routing_miss(world: &World, name: &str) -> Reply {
    let status = if world.switches.unknown_collection_ok { StatusCode::OK } else { StatusCode::NOT_FOUND };
    shape(status, 3, &format!("No type was found that matches the controller named '{name}'."))
}

pub(super) fn denied(world: &World, object: &str) -> Reply {
    let message = format!("Current user does not have permissions for the \"{object}\" object");
    let status = if world.switches.denied_as_error { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::FORBIDDEN };
    odata(
        status,
        &json!({"error": {"code": "", "message": "An error has occurred.",
            "innererror": {"message": message, "type": "System.Security.SecurityException", "stacktrace": ""}}}),
    )
}

fn database(world: &World, error: &DbError) -> Reply {
    let (kind, message) = error.wording(world.options.dialect);
    failed(world, kind, &message)
}

fn failed(world: &World, kind: &str, message: &str) -> Reply {
    let status =
        StatusCode::from_u16(world.switches.database_error_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut error = json!({"code": "", "message": "An error has occurred."});
    if world.switches.detailed_errors {
        error["innererror"] = json!({"message": "Exception of type 'Terrasoft.Common.DbOperationException' was thrown.",
            "type": "Terrasoft.Common.DbOperationException", "stacktrace": "   at Terrasoft.Core.DB",
            "internalexception": {"message": message, "type": kind, "stacktrace": ""}});
    }
    odata(status, &json!({"error": error}))
}

fn missing() -> Reply {
    odata(
        StatusCode::NOT_FOUND,
        &json!({"error": {"code": "", "message": "The resource was not found.",
            "innererror": {"message": "Item not found", "type": "Terrasoft.Common.ItemNotFoundException", "stacktrace": ""}}}),
    )
}

fn collection(
    world: &mut World,
    call: &Call,
    entity: &'static Entity,
    id: Option<Uuid>,
    more: &[&str],
    user: Uuid,
    base: &str,
) -> Reply {
    let outbox = entity.name == "MaxOutbox";
    let keys = entity.name == "MaxInbound";
    match (call.method.clone(), id, more) {
        (Method::GET, None, []) => list(world, call, entity, base),
        (Method::GET, None, ["$count"]) => match matching(world, call, entity) {
            Ok(rows) => Reply::body(StatusCode::OK, "text/plain", rows.len().to_string()).with("odata-version", "4.0"),
            Err(why) => refused(&why),
        },
        (Method::GET, Some(id), []) => single(world, call, entity, id, base),
        (Method::GET, Some(id), [field, rest @ ..]) => field_of(world, entity, id, field, rest, base),
        (Method::POST | Method::DELETE, ..) if outbox => denied(world, entity.name),
        (Method::POST | Method::DELETE | Method::PATCH, ..) if keys => denied(world, entity.name),
        (Method::POST, None, []) => match body(world, call, entity) {
            Ok(row) => create(world, entity, row, user, base),
            Err(reply) => reply,
        },
        (Method::PATCH, Some(id), []) => match body(world, call, entity) {
            Ok(row) if outbox => report(world, entity, id, &row, user),
            Ok(row) => {
                let now = world.now_us();
                match world.db.update(entity, id, row, Some((now, user))) {
                    None => missing(),
                    Some(Ok(())) => nothing(StatusCode::NO_CONTENT),
                    Some(Err(error)) => database(world, &error),
                }
            }
            Err(reply) => reply,
        },
        (Method::DELETE, Some(id), []) => match world.db.delete(entity, id) {
            None if world.switches.delete_missing_status == 204 => nothing(StatusCode::NO_CONTENT),
            None => missing(),
            Some(Ok(())) => nothing(StatusCode::NO_CONTENT),
            Some(Err(error)) => database(world, &error),
        },
        _ => shape(StatusCode::METHOD_NOT_ALLOWED, 2, "The requested resource does not support this method."),
    }
}

fn dialects(world: &World) -> Dialects {
    Dialects {
        dialect: world.options.dialect,
        lookup_columns: world.switches.lookup_column_filter,
        in_operator: world.switches.in_operator,
    }
}

fn body(world: &World, call: &Call, entity: &'static Entity) -> Result<Row, Reply> {
    if !call.header("content-type").to_ascii_lowercase().starts_with("application/json") {
        return Err(shape(StatusCode::UNSUPPORTED_MEDIA_TYPE, 2, "The request entity's media type is not supported."));
    }
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(&call.body) else {
        return Err(refused("The body is no JSON object."));
    };
    if body.values().any(|value| value.as_str().is_some_and(|text| text.contains('\0'))) {
        return Err(failed(
            world,
            "Npgsql.PostgresException",
            "22021: invalid byte sequence for encoding \"UTF8\": 0x00",
        ));
    }
    let reading = Reading {
        unknown_ignored: world.switches.unknown_members_ignored,
        zoneless_refused: world.switches.zoneless_time_refused,
        zero_guid_clears: world.switches.zero_guid_clears,
    };
    store::read_body(entity, &body, reading).map_err(|malformed| match malformed {
        Malformed::Unknown(name) => refused(&format!(
            "The property '{name}' does not exist on type 'Terrasoft.Configuration.OData.{}'.",
            entity.name
        )),
        Malformed::Type(name) => refused(&format!("Cannot convert the value of '{name}' to its type.")),
    })
}

fn create(world: &mut World, entity: &'static Entity, row: Row, user: Uuid, base: &str) -> Reply {
    let now = world.now_us();
    let id = match world.db.insert(entity, row, now, user) {
        Ok(id) => id,
        Err(error) => return database(world, &error),
    };
    let Some(row) = world.db.row(entity.name, id) else { return missing() };
    let mut shown = render(world, entity, row, None, Shown::Echo);
    shown.insert("@odata.context".to_owned(), json!(format!("{base}$metadata#{}/$entity", entity.name)));
    odata(StatusCode::CREATED, &Value::Object(shown)).with("location", format!("{base}{}({id})", entity.name))
}

/// A report of the relay on an outbox row: `State` and `Error` only; `Delivered` is final.
fn report(world: &mut World, entity: &'static Entity, id: Uuid, row: &Row, user: Uuid) -> Reply {
    let Some(before) = world.db.row(entity.name, id).cloned() else { return missing() };
    let recipient = store::text(&before, "Recipient").to_owned();
    if let Some(other) = row.keys().find(|name| !matches!(name.as_str(), "State" | "Error")) {
        world.violation("outbox_column", &recipient, format!("PATCH of {other}"));
        return failed(world, "Terrasoft.Common.InvalidOperationException", "Only State and Error can be changed.");
    }
    let (old, new) = (store::text(&before, "State"), store::text(row, "State"));
    let allowed = match (old, new) {
        // What was not delivered may have been sent again since, and ends in its own way.
        ("Pending" | "Failed" | "Uncertain", "Delivered" | "Failed" | "Uncertain") => true,
        // The answer to the first report was lost.
        (old, new) => old == new && old != "Pending",
    };
    if !allowed {
        let detail = format!("row {id}: {old} -> {new}");
        world.violation("outbox_state", &recipient, detail);
        return failed(world, "Terrasoft.Common.InvalidOperationException", "This change of State is not allowed.");
    }
    let now = world.now_us();
    match world.db.update(entity, id, row.clone(), Some((now, user))) {
        None => missing(),
        Some(Err(error)) => database(world, &error),
        Some(Ok(())) => {
            if old != new {
                let (new, error) = (new.to_owned(), store::text(row, "Error").to_owned());
                world.reported(&before, &new, &error);
            }
            nothing(StatusCode::NO_CONTENT)
        }
    }
}

fn option(call: &Call, name: &str) -> Option<String> {
    call.pairs().into_iter().find(|(own, _)| own == name).map(|(_, value)| value)
}

fn number(call: &Call, name: &str) -> Result<Option<usize>, String> {
    option(call, name)
        .map(|text| text.parse::<usize>().map_err(|_| format!("The value '{text}' of '{name}' is not valid.")))
        .transpose()
}

/// The rows of a list, filtered and in order.
fn matching<'a>(world: &'a World, call: &Call, entity: &'static Entity) -> Result<Vec<&'a Row>, String> {
    const OPTIONS: [&str; 9] =
        ["$filter", "$select", "$orderby", "$top", "$skip", "$expand", "$count", "$skiptoken", "$format"];
    if let Some((unknown, _)) =
        call.pairs().iter().find(|(name, _)| name.starts_with('$') && !OPTIONS.contains(&name.as_str()))
    {
        return Err(format!("The query parameter '{unknown}' is not supported."));
    }
    let dialects = dialects(world);
    let filter = option(call, "$filter").map(|text| Filter::parse(entity, &text, dialects)).transpose()?;
    let mut rows: Vec<&Row> = world
        .db
        .rows(entity.name)
        .filter(|row| filter.as_ref().is_none_or(|filter| filter.matches(&world.db, row)))
        .filter(|row| store::guid(row, "Id").is_none_or(|id| !world.hidden.contains(&id)))
        .collect();
    if let Some(text) = option(call, "$orderby") {
        let keys = filter::order_by(entity, &text, dialects)?;
        rows.sort_by(|left, right| filter::compare(&world.db, &keys, left, right, dialects.dialect));
    }
    Ok(rows)
}

fn list(world: &World, call: &Call, entity: &'static Entity, base: &str) -> Reply {
    match list_body(world, call, entity, base) {
        Ok(body) => spoiled(world, &body),
        Err(why) => refused(&why),
    }
}

/// The list with what control has put in the place of columns: text that need not be JSON.
fn spoiled(world: &World, body: &Value) -> Reply {
    let mut reply = odata(StatusCode::OK, body);
    let rows = body["value"].as_array().into_iter().flatten();
    let ids = rows.filter_map(|row| Uuid::try_parse(row["Id"].as_str()?).ok());
    let here: HashSet<Uuid> = ids.collect();
    let spoiled: Vec<_> = world.spoiled.iter().filter(|((id, _), _)| here.contains(id)).collect();
    if spoiled.is_empty() {
        return reply;
    }
    let mut body = body.clone();
    for row in body["value"].as_array_mut().into_iter().flatten() {
        let id = row["Id"].as_str().and_then(|id| Uuid::try_parse(id).ok());
        for ((of, column), _) in spoiled.iter().filter(|((of, _), _)| Some(*of) == id) {
            row[column] = json!(format!("spoiled:{of}:{column}"));
        }
    }
    let mut text = body.to_string();
    for ((of, column), raw) in spoiled {
        text = text.replace(&format!("\"spoiled:{of}:{column}\""), raw);
    }
    reply.body = text.into();
    reply
}

fn list_body(world: &World, call: &Call, entity: &'static Entity, base: &str) -> Result<Value, String> {
    let shape = Shape::parse(world, entity, option(call, "$select").as_deref(), option(call, "$expand").as_deref(), 1)?;
    let rows = matching(world, call, entity)?;
    let count = rows.len();
    let top = number(call, "$top")?;
    let page = match world.switches.page_size {
        0 => world.switches.max_rows,
        size => size.min(world.switches.max_rows),
    };
    let token = number(call, "$skiptoken")?.unwrap_or(0);
    let skip = number(call, "$skip")?.unwrap_or(0) + token;
    let left = top.map(|top| top.saturating_sub(token));
    let available = count.saturating_sub(skip).min(left.unwrap_or(usize::MAX));
    let shown: Vec<Value> = rows
        .iter()
        .skip(skip)
        .take(available.min(page))
        .map(|row| Value::Object(render(world, entity, row, Some(&shape), Shown::Read)))
        .collect();
    let mut body = json!({"@odata.context": format!("{base}$metadata#{}", entity.name), "value": shown});
    if option(call, "$count").as_deref() == Some("true") {
        body["@odata.count"] = json!(count);
    }
    if available > page && world.switches.page_size > 0 {
        let rest: Vec<&str> =
            call.query.split('&').filter(|part| !decode(part).starts_with("$skiptoken") && !part.is_empty()).collect();
        let rest = rest.join("&");
        let next = token + page;
        let separator = if rest.is_empty() { "" } else { "&" };
        body["@odata.nextLink"] = json!(format!("{base}{}?{rest}{separator}$skiptoken={next}", entity.name));
    }
    Ok(body)
}

fn single(world: &World, call: &Call, entity: &'static Entity, id: Uuid, base: &str) -> Reply {
    let shape =
        match Shape::parse(world, entity, option(call, "$select").as_deref(), option(call, "$expand").as_deref(), 1) {
            Ok(shape) => shape,
            Err(why) => return refused(&why),
        };
    let Some(row) = world.db.row(entity.name, id).filter(|_| !world.hidden.contains(&id)) else { return missing() };
    let mut shown = render(world, entity, row, Some(&shape), Shown::Read);
    shown.insert("@odata.context".to_owned(), json!(format!("{base}$metadata#{}/$entity", entity.name)));
    odata(StatusCode::OK, &Value::Object(shown))
}

fn field_of(world: &World, entity: &'static Entity, id: Uuid, field: &str, rest: &[&str], base: &str) -> Reply {
    let Some(row) = world.db.row(entity.name, id) else { return missing() };
    if field == "Data"
        && let Some(bytes) = world.files.get(&id)
    {
        return Reply::body(StatusCode::OK, "application/octet-stream", bytes.clone());
    }
    let Some(column) = entity.column(field) else {
        return refused(&filter::no_property(entity, field));
    };
    let value = store::shown(column, row.get(column.name).unwrap_or(&Value::Null), world.options.dialect, Shown::Read);
    match rest {
        [] => odata(
            StatusCode::OK,
            &json!({"@odata.context": format!("{base}$metadata#{}({id})/{field}", entity.name), "value": value}),
        ),
        ["$value"] => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Reply::body(StatusCode::OK, "text/plain", text).with("odata-version", "4.0")
        }
        _ => missing(),
    }
}

/// What of a row is shown: chosen columns, and rows that hang on it.
struct Shape {
    select: Option<Vec<&'static str>>,
    expand: Vec<(String, Branch, Shape)>,
}

/// A lookup, or the rows of another object that look at this one.
#[derive(Clone, Copy)]
enum Branch {
    One(&'static str, &'static Entity),
    Many(&'static str, &'static Entity),
}

impl Shape {
    fn parse(
        world: &World,
        entity: &'static Entity,
        select: Option<&str>,
        expand: Option<&str>,
        depth: usize,
    ) -> Result<Self, String> {
        let select = match select {
            None | Some("" | "*") => None,
            Some(text) => Some(
                text.split(',')
                    .map(|name| {
                        let name = name.trim();
                        entity.column(name).map(|column| column.name).ok_or_else(|| filter::no_property(entity, name))
                    })
                    .collect::<Result<Vec<_>, _>>()?,
            ),
        };
        let mut branches = Vec::new();
        for item in expand.iter().flat_map(|text| split(text, ',')).filter(|item| !item.is_empty()) {
            if depth > MAX_DEPTH {
                return Err(format!(
                    "The request includes a $expand path which is too deep. The maximum depth allowed is {MAX_DEPTH}."
                ));
            }
            let (name, options) = match item.split_once('(') {
                Some((name, rest)) => (name.trim(), rest.strip_suffix(')').ok_or("Syntax error in '$expand'.")?),
                None => (item.trim(), ""),
            };
            let branch = branch(world, entity, name).ok_or_else(|| filter::no_property(entity, name))?;
            let target = match branch {
                Branch::One(_, target) | Branch::Many(_, target) => target,
            };
            if !options.is_empty() && !world.switches.nested_expand_options {
                return Err("Options within '$expand' are not supported.".to_owned());
            }
            let mut inner = (None, None);
            for part in split(options, ';').filter(|part| !part.is_empty()) {
                match part.split_once('=') {
                    Some(("$select", value)) => inner.0 = Some(value),
                    Some(("$expand", value)) => inner.1 = Some(value),
                    _ => return Err(format!("The option '{part}' within '$expand' is not supported.")),
                }
            }
            let shape = Self::parse(world, target, inner.0, inner.1, depth + 1)?;
            branches.push((name.to_owned(), branch, shape));
        }
        Ok(Self { select, expand: branches })
    }
}

/// Splits at a separator that stands outside parentheses.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |char| {
        match char {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        char == separator && depth == 0
    })
}

fn branch(world: &World, entity: &'static Entity, name: &str) -> Option<Branch> {
    if let Some((column, target)) = entity.lookup(name) {
        return Some(Branch::One(column.name, target));
    }
    let (other, by) = name.split_once("CollectionBy")?;
    let other = known(world).find(|candidate| candidate.name == other)?;
    let (column, _) = other.lookup(by).filter(|(_, target)| target.name == entity.name)?;
    Some(Branch::Many(column.name, other))
}

fn render(world: &World, entity: &'static Entity, row: &Row, shape: Option<&Shape>, how: Shown) -> Map<String, Value> {
    let select = shape.and_then(|shape| shape.select.as_ref());
    let mut shown: Map<String, Value> = entity
        .columns()
        .filter(|column| select.is_none_or(|names| names.contains(&column.name)))
        .map(|column| {
            let value = row.get(column.name).unwrap_or(&Value::Null);
            (column.name.to_owned(), store::shown(column, value, world.options.dialect, how))
        })
        .collect();
    if world.switches.etags {
        let version = int(row, "ModifiedOn").unwrap_or(0);
        shown.insert("@odata.etag".to_owned(), json!(format!("W/\"{version}\"")));
    }
    for (name, branch, inner) in shape.map(|shape| shape.expand.as_slice()).unwrap_or_default() {
        let value = match branch {
            Branch::One(column, target) => store::guid(row, column)
                .and_then(|id| world.db.row(target.name, id))
                .map_or(Value::Null, |row| Value::Object(render(world, target, row, Some(inner), how))),
            Branch::Many(column, target) => {
                let own = store::guid(row, "Id");
                Value::Array(
                    world
                        .db
                        .rows(target.name)
                        .filter(|row| own.is_some() && store::guid(row, column) == own)
                        .map(|row| Value::Object(render(world, target, row, Some(inner), how)))
                        .collect(),
                )
            }
        };
        shown.insert(name.clone(), value);
    }
    shown
}

fn metadata(world: &World) -> String {
    use std::fmt::Write as _;
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><edmx:Edmx Version=\"4.0\" xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\"><edmx:DataServices><Schema Namespace=\"Terrasoft.Configuration.OData\" xmlns=\"http://docs.oasis-open.org/odata/ns/edm\">",
    );
    for entity in known(world) {
        // Writing to a text cannot fail.
        let _ = write!(xml, "<EntityType Name=\"{}\"><Key><PropertyRef Name=\"Id\"/></Key>", entity.name);
        for column in entity.columns() {
            let kind = match column.kind {
                Kind::Guid | Kind::Lookup(_) => "Edm.Guid",
                Kind::Text(_) => "Edm.String",
                Kind::Int => "Edm.Int32",
                Kind::Bool => "Edm.Boolean",
                Kind::Time => "Edm.DateTimeOffset",
            };
            let _ = write!(xml, "<Property Name=\"{}\" Type=\"{kind}\"/>", column.name);
            if let (Kind::Lookup(target), Some(name)) = (column.kind, column.navigation()) {
                let _ = write!(
                    xml,
                    "<NavigationProperty Name=\"{name}\" Type=\"Terrasoft.Configuration.OData.{target}\"/>"
                );
            }
        }
        xml.push_str("</EntityType>");
    }
    xml.push_str("</Schema></edmx:DataServices></edmx:Edmx>");
    xml
}
