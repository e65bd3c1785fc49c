//! `$batch` in its JSON form (Creatio API reference, 2.3).
//!
//! Owns: the limit of 100 parts, stopping at the first failure, atomicity groups. Each part goes
//! through [`super::odata`] like a call of its own.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::odata;
use super::site::World;
use crate::floor::faults::shape;
use crate::floor::wire::{Call, Reply};

/// The most parts of one batch.
const MAX_PARTS: usize = 100;

pub(super) fn http(world: &mut World, call: &Call, user: Uuid) -> Reply {
    let refused = |why: &str| shape(StatusCode::BAD_REQUEST, 1, why);
    if call.method != Method::POST || !call.header("content-type").to_ascii_lowercase().starts_with("application/json")
    {
        return refused("The batch is no POST of application/json.");
    }
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let Some(parts) = body["requests"].as_array() else { return refused("The batch has no requests.") };
    if parts.len() > MAX_PARTS {
        return refused("The batch has more than 100 requests.");
    }
    let go_on = call.header("prefer").contains("continue-on-error");
    let mut groups: HashMap<&str, (Uuid, super::store::Db)> = HashMap::new();
    let mut responses = Vec::new();
    for part in parts {
        let group = part["atomicityGroup"].as_str();
        if let Some(name) = group
            && !groups.contains_key(name)
        {
            groups.insert(name, (Uuid::new_v4(), world.db.clone()));
        }
        let reply = one(world, call, part, user);
        let failed = reply.status.as_u16() >= 400;
        let mut response = shown(part, &reply);
        if let Some((id, before)) = group.and_then(|name| groups.get(name)) {
            response["atomicityGroup"] = json!(id);
            if failed {
                world.db = before.clone();
            }
        }
        responses.push(response);
        if failed && !go_on {
            break;
        }
    }
    Reply::json(StatusCode::OK, &json!({"responses": responses})).with("odata-version", "4.0")
}

fn one(world: &mut World, outer: &Call, part: &Value, user: Uuid) -> Reply {
    let method = part["method"].as_str().and_then(|method| method.to_uppercase().parse::<Method>().ok());
    let (Some(method), Some(url)) = (method, part["url"].as_str()) else {
        return shape(StatusCode::BAD_REQUEST, 1, "A request of the batch has no method or url.");
    };
    let mut headers = HeaderMap::new();
    if let Some(host) = outer.headers.get("host") {
        headers.insert("host", host.clone());
    }
    for (name, value) in part["headers"].as_object().unwrap_or(&Map::new()) {
        let pair =
            name.parse::<HeaderName>().ok().zip(value.as_str().and_then(|value| HeaderValue::from_str(value).ok()));
        if let Some((name, value)) = pair {
            headers.insert(name, value);
        }
    }
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let path = path.rsplit_once("/odata/").map_or(path, |(_, rest)| rest).trim_start_matches('/');
    // In a part the key may also stand as `City/<guid>`.
    let path = match path.split_once('/') {
        Some((name, key)) if Uuid::try_parse(key).is_ok() => format!("/{name}({key})"),
        _ => format!("/{path}"),
    };
    let body = if part["body"].is_null() { Bytes::new() } else { Bytes::from(part["body"].to_string()) };
    let call = Call { method, path: path.clone(), query: query.to_owned(), headers, body };
    odata::http(world, &call, &path, user)
}

fn shown(part: &Value, reply: &Reply) -> Value {
    let headers: Map<String, Value> =
        reply.headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let mut response = json!({"id": part["id"], "status": reply.status.as_u16(), "headers": headers});
    if !reply.body.is_empty() {
        response["body"] =
            serde_json::from_slice(&reply.body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&reply.body)));
    }
    response
}
