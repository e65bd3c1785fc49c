//! The stock web services that a relay or an agent's page calls: chats, transfer, agents' states,
//! files (Creatio API reference, 2.8 and 3.5).
//!
//! Owns: their routes and envelopes. The work itself is the chat engine's.

use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::chat::{ChatError, Direction, Message, MessageType};
use super::schema::COMPLETED;
use super::site::{World, not_found};
use super::store::{self, Row};
use super::{Runtime, installer, odata};
use crate::floor::faults::shape;
use crate::floor::wire::{Call, Reply};

/// `lower` is the path in lower case, `path` as sent; both without the prefix.
pub(super) fn http(world: &mut World, call: &Call, lower: &str, path: &str, user: Uuid) -> Reply {
    let route = lower.strip_prefix("/rest/").map(str::to_owned).or_else(|| {
        let (service, method) = lower.strip_prefix("/servicemodel/")?.split_once(".svc/")?;
        Some(format!("{service}/{method}"))
    });
    let Some(route) = route else { return not_found() };
    let parts: Vec<&str> = route.split('/').collect();
    if let [service, method] = parts.as_slice()
        && let Some(reply) = installer::http(world, call, service, method, user)
    {
        return reply;
    }
    if let ["fileservice", "download", schema, id] = parts.as_slice() {
        return download(world, call, schema, id);
    }
    if call.method != http::Method::POST {
        return match parts.as_slice() {
            ["omnichannelchatservice" | "chattransferservice" | "omnichanneloperatorservice" | "fileapiservice", _] => {
                Reply::html(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
            }
            _ => not_found(),
        };
    }
    if parts.as_slice() == ["fileapiservice", "uploadfile"] {
        return upload(world, call, user);
    }
    let Ok(body) = serde_json::from_slice::<Value>(if call.body.is_empty() { b"{}" } else { &call.body }) else {
        return Reply::html(StatusCode::BAD_REQUEST, "Request Error");
    };
    match parts.as_slice() {
        ["omnichannelchatservice", method] => chats(world, method, &body, user),
        ["chattransferservice", method] => transfer(world, method, &body, user),
        ["omnichanneloperatorservice", method] => agents(world, method, &body, user),
        _ => {
            // Only for the log of who reads an unexpected 404.
            tracing::debug!(path, "the simulated site has no such service");
            not_found()
        }
    }
}

/// An exception that leaves a service (Creatio API reference, 3.4).
fn exception(world: &World, message: &str) -> Reply {
    match world.options.runtime {
        Runtime::Framework => Reply::html(StatusCode::INTERNAL_SERVER_ERROR, "Runtime Error"),
        Runtime::Net => shape(StatusCode::INTERNAL_SERVER_ERROR, 2, message),
    }
}

fn id_of(body: &Value, name: &str) -> Option<Uuid> {
    Uuid::try_parse(body[name].as_str()?).ok()
}

fn guid_text(world: &World, id: Uuid) -> Value {
    let text = id.to_string();
    json!(if world.switches.upper_case_guids { text.to_uppercase() } else { text })
}

fn chats(world: &mut World, method: &str, body: &Value, user: Uuid) -> Reply {
    let ok = |body: &Value| Reply::json(StatusCode::OK, body);
    if world.switches.chat_rights && world.denied.iter().any(|object| object == "OmniChat") {
        return shape(StatusCode::FORBIDDEN, 5, "Current user does not have permissions for the \"OmniChat\" object");
    }
    match method {
        "getunreadchatscount" => {
            let mine = |row: &&Row| {
                store::guid(row, "OperatorId") == Some(user)
                    && store::guid(row, "StatusId") != Some(COMPLETED)
                    && store::int(row, "UnprocessedMsgCount").unwrap_or(0) > 0
            };
            return ok(&json!({"GetUnreadChatsCountResult": world.db.rows("OmniChat").filter(mine).count()}));
        }
        "getchats" => {
            let operator = id_of(body, "operatorId");
            let open = world.db.rows("OmniChat").filter(|row| {
                store::guid(row, "StatusId") != Some(COMPLETED)
                    && (store::guid(row, "OperatorId") == operator
                        || store::guid(row, "DirectedOperatorId") == operator)
            });
            let list: Vec<Value> = open.map(|row| summary(world, row)).collect();
            return ok(&json!({"Chats": list}));
        }
        "getallconversation" => return all_conversation(world, body),
        _ => {}
    }
    let Some(chat) = id_of(body, "chatId") else {
        return exception(world, "Guid should contain 32 digits with 4 dashes");
    };
    match method {
        "acceptchat" => match world.accept(chat, user) {
            Ok(accepted) => ok(&json!(accepted)),
            Err(error) => exception(world, error.text()),
        },
        "closeactivechat" => {
            let reason = if user == world.technical { "relay" } else { "agent" };
            match world.close(chat, user, reason) {
                Ok(()) => Reply::empty(StatusCode::OK),
                Err(error) => exception(world, error.text()),
            }
        }
        "getconversation" | "gethistory" => {
            if world.chat(chat).is_none() {
                return ok(&json!([]));
            }
            let chain = if method == "gethistory" { vec![chat] } else { world.chain(chat) };
            let messages = world.messages_in(&chain);
            let list: Vec<Value> = messages.into_iter().map(|message| element(world, message, chat)).collect();
            ok(&json!(list))
        }
        "getunifiedmessagetemplate" => {
            let Some(first) = world.messages_in(&world.chain(chat)).first().map(|message| (*message).clone()) else {
                return exception(world, "Sequence contains no elements");
            };
            ok(
                &json!({"Id": Uuid::nil(), "Sender": first.channel_source, "Recipient": first.customer, "Message": null, "Timestamp": 0,
                "Source": 2, "ChatId": chat, "MessageType": 0, "MessageDirection": 2, "Attachments": null,
                "IsStandBy": false, "IsEcho": false, "IsGuestUser": false}),
            )
        }
        "markchatasread" => {
            world.db.set("OmniChat", chat, &[("UnprocessedMsgCount", json!(0))]);
            ok(&json!({}))
        }
        _ => not_found(),
    }
}

fn all_conversation(world: &World, body: &Value) -> Reply {
    let (Some(contact), Some(channel)) = (id_of(body, "contactId"), id_of(body, "channelId")) else {
        return exception(world, "Guid should contain 32 digits with 4 dashes");
    };
    let count = usize::try_from(body["rowCount"].as_u64().unwrap_or(50)).unwrap_or(50);
    let offset = usize::try_from(body["rowOffset"].as_u64().unwrap_or(0)).unwrap_or(0);
    let chats: Vec<Uuid> = world
        .db
        .chats_of(contact)
        .iter()
        .copied()
        .filter(|chat| world.chat(*chat).and_then(|row| store::guid(row, "ChannelId")) == Some(channel))
        .collect();
    let messages = world.messages_in(&chats);
    let list: Vec<Value> =
        messages.into_iter().skip(offset).take(count).map(|message| element(world, message, message.chat)).collect();
    Reply::json(StatusCode::OK, &json!(list))
}

/// A `ChatMessage`. The author of what went out is the agent of the *requested* chat.
fn element(world: &World, message: &Message, requested: Uuid) -> Value {
    let row = world.chat(requested);
    let author = if message.direction == Direction::Incoming {
        row.and_then(|row| store::guid(row, "ContactId"))
    } else {
        row.and_then(|row| store::guid(row, "OperatorId"))
            .and_then(|user| world.db.row("SysAdminUnit", user))
            .and_then(|row| store::guid(row, "ContactId"))
    };
    let name = author.and_then(|contact| world.db.row("Contact", contact)).map_or("", |row| store::text(row, "Name"));
    let time = jiff::Timestamp::from_millisecond(message.timestamp)
        .map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%dT%H:%M:%S").to_string());
    let attachments = if message.attachments.is_empty() {
        Value::Null
    } else {
        message
            .attachments
            .iter()
            .map(
                |file| json!({"fileName": file.name, "fileId": guid_text(world, file.id), "fileType": file.kind as u8}),
            )
            .collect()
    };
    let bot =
        message.direction == Direction::Outgoing && message.kind != MessageType::System && message.author != "agent";
    json!({"id": guid_text(world, message.id),
        "author": {"id": guid_text(world, author.unwrap_or_default()), "name": name, "photo": "", "email": "",
            "account": {"value": Uuid::nil(), "displayValue": ""}},
        "time": time, "text": message.text, "direction": message.direction as u8, "type": message.kind as u8,
        "attachments": attachments, "isBotMessage": bot})
}

fn summary(world: &World, row: &Row) -> Value {
    let lookup = |entity: &str, column: &str| {
        let Some(id) = store::guid(row, column) else { return Value::Null };
        let name = world.db.row(entity, id).map_or("", |row| store::text(row, "Name"));
        json!({"value": guid_text(world, id), "displayValue": name, "primaryImageValue": ""})
    };
    let channel = store::guid(row, "ChannelId").and_then(|id| world.db.row("Channel", id));
    json!({"Id": store::guid(row, "Id").map(|id| guid_text(world, id)), "Contact": lookup("Contact", "ContactId"),
        "Status": lookup("OmnichannelChatStatus", "StatusId"), "Operator": lookup("SysAdminUnit", "OperatorId"),
        "ChatPreview": store::text(row, "ChatPreview"), "UnprocessedMsgCount": store::int(row, "UnprocessedMsgCount"),
        "LastMessageDirection": store::int(row, "LastMessageDirection"),
        "Channel.Source": channel.map(|row| store::text(row, "Source")),
        "ChannelId": store::guid(row, "ChannelId").map(|id| guid_text(world, id)),
        "ChatQueueId": store::guid(row, "QueueId").map(|id| guid_text(world, id))})
}

fn transfer(world: &mut World, method: &str, body: &Value, user: Uuid) -> Reply {
    let chat = body["message"]["ChatId"].as_str().and_then(|text| Uuid::try_parse(text).ok());
    let outcome = match (method, chat) {
        ("transferchattoqueue", Some(chat)) => world.transfer(chat, user, None, id_of(body, "queueId")),
        ("transferchattooperator", Some(chat)) => world.transfer(chat, user, id_of(body, "operatorId"), None),
        ("transferchattoqueue" | "transferchattooperator", None) => Err(ChatError::NoChat),
        _ => return not_found(),
    };
    let body = match outcome {
        Ok(child) => json!({"Success": true, "Message": null, "NewChatId": guid_text(world, child)}),
        Err(error) => json!({"Success": false, "Message": error.text(), "NewChatId": Uuid::nil()}),
    };
    Reply::json(StatusCode::OK, &body)
}

fn agents(world: &mut World, method: &str, body: &Value, user: Uuid) -> Reply {
    match method {
        "changestate" => {
            if let (Some(agent), Some(state)) = (world.agents.get_mut(&user), body["newState"].as_str()) {
                agent.active = state == "Active";
            }
        }
        "getcurrentstate" => {}
        _ => return not_found(),
    }
    let active = world.agents.get(&user).is_some_and(|agent| agent.active);
    let state = if active { "Active" } else { "Inactive" };
    Reply::json(StatusCode::OK, &json!({"CurrentStateCode": state, "success": true, "errorInfo": null}))
}

fn download(world: &World, call: &Call, schema: &str, id: &str) -> Reply {
    if call.method != http::Method::GET {
        return Reply::html(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
    }
    let entity = super::schema::ENTITIES.iter().find(|entity| entity.name.eq_ignore_ascii_case(schema));
    let (Some(entity), Ok(id)) = (entity, Uuid::try_parse(id)) else { return not_found() };
    if world.denied.iter().any(|object| object == entity.name) {
        return odata::denied(world, entity.name);
    }
    let (Some(row), Some(bytes)) = (world.db.row(entity.name, id), world.files.get(&id)) else {
        return not_found();
    };
    let name = percent_encoding::utf8_percent_encode(store::text(row, "Name"), percent_encoding::NON_ALPHANUMERIC);
    Reply::body(StatusCode::OK, "application/octet-stream", bytes.clone())
        .with("content-disposition", format!("attachment; filename*=UTF-8''{name}"))
}

/// `FileApiService/UploadFile`: chunks with zero-based, inclusive ranges; the row appears with the
/// last one.
fn upload(world: &mut World, call: &Call, user: Uuid) -> Reply {
    let pairs = call.pairs();
    let value = |name: &str| pairs.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value.as_str());
    let refuse = |message: &str| shape(StatusCode::OK, 5, message);
    let entity = super::schema::entity(value("entitySchemaName"));
    let (Some(entity), Ok(id), Ok(total)) =
        (entity, Uuid::try_parse(value("fileId")), value("totalFileLength").parse::<usize>())
    else {
        return refuse("Invalid request parameters");
    };
    if total > world.switches.max_file_size {
        return refuse("The file is too big");
    }
    let range = call.header("content-range").strip_prefix("bytes ").and_then(|range| {
        let (start, rest) = range.split_once('-')?;
        let (end, _) = rest.split_once('/')?;
        Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?))
    });
    let Some((start, end)) = range.filter(|(start, end)| end + 1 == start + call.body.len()) else {
        return refuse("Invalid Content-Range");
    };
    let buffer = world.uploads.entry(id).or_default();
    if start > buffer.len() {
        return refuse("Chunks out of order");
    }
    buffer.truncate(start);
    buffer.extend_from_slice(&call.body);
    if end + 1 < total {
        return Reply::json(StatusCode::OK, &json!({"success": true, "errorInfo": null}));
    }
    let bytes = world.uploads.remove(&id).unwrap_or_default();
    let mut row = super::chat::row([
        ("Id", json!(id)),
        ("Name", json!(value("fileName"))),
        ("TypeId", json!(super::schema::FILE_TYPE)),
        ("Size", json!(bytes.len())),
    ]);
    let parent = format!("{}Id", value("parentColumnName"));
    if entity.column(&parent).is_some() {
        row.insert(parent, json!(value("parentColumnValue").to_lowercase()));
    }
    let now = world.now_us();
    match world.db.insert(entity, row, now, user) {
        Ok(_) => {
            world.files.insert(id, bytes.into());
            Reply::json(StatusCode::OK, &json!({"success": true, "errorInfo": null}))
        }
        Err(error) => refuse(&error.wording(world.options.dialect).1),
    }
}
