//! The file hosts: uploads and downloads on a port of their own (MAX Bot API, uploads; incoming
//! attachments).
//!
//! The bot's token has no business here. A request that carries it is refused and counted, because
//! it is a leak in the client.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequest, Multipart, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::Shared;
use super::api::met;
use super::link::Link;
use super::world::{MediaKind, World};

/// Answers one request to a file host.
pub(super) async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(link): ConnectInfo<Link>,
    request: Request,
) -> Response {
    let method = request.method().as_str().to_owned();
    let path = request.uri().path().to_owned();
    let name = match (method.as_str(), path.as_str()) {
        ("POST", "/uploadImage" | "/api/upload.do" | "/upload.do")
        | ("GET", "/i" | "/video" | "/audio" | "/getfile" | "/i/getSmile") => format!("{method} {path}"),
        _ => format!("{method} (unknown path of a file host)"),
    };
    shared.change(|world| world.statistics.request(&name));
    let fault = shared.change(|world| world.faults.meet(&method, &path, None));
    let response = met(&shared, &link, fault, serve(&shared, request)).await;
    let status = response.status().as_u16();
    shared.change(|world| world.statistics.answer(&name, status));
    response
}

async fn serve(shared: &Arc<Shared>, request: Request) -> Response {
    let leaks = shared.change(|world| {
        let leaks = carries_token(world, &request);
        world.statistics.report.tokens_at_file_hosts += u64::from(leaks);
        leaks
    });
    if leaks {
        return (StatusCode::FORBIDDEN, "The access token must not be sent to this host").into_response();
    }
    let query: HashMap<String, String> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    let path = request.uri().path().to_owned();
    match (request.method().as_str(), path.as_str()) {
        ("POST", "/uploadImage" | "/api/upload.do" | "/upload.do") => {
            match upload(shared, &path, &query, request).await {
                Ok(answer) => answer,
                Err((status, why)) => (status, why).into_response(),
            }
        }
        ("GET", "/i" | "/video" | "/audio" | "/getfile") => download(shared, &query),
        ("GET", "/i/getSmile") => ([(header::CONTENT_TYPE, "image/png")], PIXEL).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn carries_token(world: &World, request: &Request) -> bool {
    let known = |text: &str| world.tokens.keys().any(|token| text.contains(token.as_str()));
    request.headers().contains_key(header::AUTHORIZATION)
        || request.headers().values().any(|value| value.to_str().is_ok_and(known))
        || request.uri().query().is_some_and(|query| query.contains("access_token=") || known(query))
}

type Refused = (StatusCode, String);

async fn upload(
    shared: &Arc<Shared>,
    path: &str,
    query: &HashMap<String, String>,
    request: Request,
) -> Result<Response, Refused> {
    let refuse = |status: StatusCode, why: &str| (status, why.to_owned());
    let signature = query.get("sig").cloned().unwrap_or_default();
    let bound = shared.read(|world| {
        let upload = world.uploads.get(&signature).ok_or_else(|| refuse(StatusCode::FORBIDDEN, "Invalid sig"))?;
        let fits = match upload.kind {
            MediaKind::Image => path == "/uploadImage",
            MediaKind::File => path == "/api/upload.do",
            MediaKind::Video | MediaKind::Audio => path == "/upload.do",
        };
        if !fits {
            return Err(refuse(StatusCode::FORBIDDEN, "Invalid sig"));
        }
        if upload.used || upload.expires <= world.clock.now_ms() {
            return Err(refuse(StatusCode::FORBIDDEN, "The upload url has been used or has expired"));
        }
        Ok(world.switches.max_upload_bytes)
    })?;
    if let Some(range) = request.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok()) {
        let range =
            ContentRange::parse(range).ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "Invalid Content-Range"))?;
        return chunk(shared, &signature, range, bound, request).await;
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|value| value.starts_with("multipart/form-data")) {
        return Err(refuse(StatusCode::BAD_REQUEST, "Send multipart/form-data with the field `data`"));
    }
    let unreadable = |_| refuse(StatusCode::BAD_REQUEST, "The multipart body cannot be read");
    let mut form = Multipart::from_request(request, &()).await.map_err(|error| (error.status(), error.body_text()))?;
    let mut found: Option<(String, String, Bytes)> = None;
    while let Some(mut field) = form.next_field().await.map_err(unreadable)? {
        let is_data = field.name() == Some("data");
        let name = field.file_name().map(str::to_owned);
        let content_type = field.content_type().unwrap_or("application/octet-stream").to_owned();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = field.chunk().await.map_err(unreadable)? {
            if bytes.len() + chunk.len() > bound {
                return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "The file is too large"));
            }
            bytes.extend_from_slice(&chunk);
        }
        if is_data {
            let name = name.ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "The field `data` needs a file name"))?;
            found = Some((name, content_type, bytes.freeze()));
        }
    }
    let (name, content_type, bytes) = found.ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "Missing field `data`"))?;
    shared.change(|world| complete(world, &signature, name, content_type, bytes))
}

/// The whole content has arrived: the address is used up, and the answer is that of its kind.
fn complete(
    world: &mut World,
    signature: &str,
    name: String,
    content_type: String,
    bytes: Bytes,
) -> Result<Response, Refused> {
    let refuse = |status: StatusCode, why: &str| (status, why.to_owned());
    let now = world.clock.now_ms();
    let upload = world.uploads.get_mut(signature).ok_or_else(|| refuse(StatusCode::FORBIDDEN, "Invalid sig"))?;
    if std::mem::replace(&mut upload.used, true) {
        return Err(refuse(StatusCode::FORBIDDEN, "The upload url has been used or has expired"));
    }
    upload.chunks.clear();
    let (bot, kind, existing) = (upload.bot, upload.kind, upload.media);
    let id = if let Some(id) = existing {
        world.fill(id, bytes);
        id
    } else {
        world.store(kind, bot, String::new(), String::new(), Some(bytes))
    };
    let ready_at = now + world.clock.shortened_ms(world.switches.not_ready_ms);
    let refusals = world.switches.not_ready_sends;
    world.statistics.report.uploads += 1;
    let declaration = if world.switches.xml_declaration { "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" } else { "" };
    let media = world.media.get_mut(&id).ok_or_else(|| refuse(StatusCode::INSUFFICIENT_STORAGE, "No room"))?;
    media.name = name;
    media.content_type = content_type;
    if kind != MediaKind::Image {
        media.ready_at = ready_at;
        media.refusals_left = refusals;
    }
    let token = &media.token;
    Ok(match kind {
        MediaKind::Image => {
            let photo = base64::engine::general_purpose::STANDARD.encode(id.to_be_bytes());
            axum::Json(json!({"photos": {photo: {"token": token}}})).into_response()
        }
        MediaKind::File => axum::Json(json!({"fileId": id, "token": token})).into_response(),
        MediaKind::Video | MediaKind::Audio => {
            ([(header::CONTENT_TYPE, "text/xml")], format!("{declaration}<retval>1</retval>")).into_response()
        }
    })
}

/// `bytes <first>-<last>/<total>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentRange {
    first: usize,
    last: usize,
    total: usize,
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let range = Self { first: first.parse().ok()?, last: last.parse().ok()?, total: total.parse().ok()? };
        (range.first <= range.last && range.last < range.total).then_some(range)
    }
}

/// One chunk of a resumable upload; the last one to arrive completes it (MAX Bot API, uploads,
/// resumable variant).
async fn chunk(
    shared: &Arc<Shared>,
    signature: &str,
    range: ContentRange,
    bound: usize,
    request: Request,
) -> Result<Response, Refused> {
    let refuse = |status: StatusCode, why: &str| (status, why.to_owned());
    if range.total > bound {
        return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "The file is too large"));
    }
    let name = request.headers().get("x-file-name").and_then(|value| value.to_str().ok()).unwrap_or("file").to_owned();
    let unreadable = |_| refuse(StatusCode::BAD_REQUEST, "The body cannot be read");
    let bytes = axum::body::to_bytes(request.into_body(), bound).await.map_err(unreadable)?;
    if bytes.len() != range.last - range.first + 1 {
        return Err(refuse(StatusCode::BAD_REQUEST, "Content-Range does not fit the body"));
    }
    shared.change(|world| {
        let upload = world.uploads.get_mut(signature).ok_or_else(|| refuse(StatusCode::FORBIDDEN, "Invalid sig"))?;
        upload.chunks.insert(range.first, bytes);
        let mut whole = BytesMut::new();
        for (first, chunk) in &upload.chunks {
            if *first != whole.len() {
                break;
            }
            whole.extend_from_slice(chunk);
        }
        if whole.len() < range.total {
            return Ok((StatusCode::CREATED, arrived(&upload.chunks, range.total)).into_response());
        }
        complete(world, signature, name, "application/octet-stream".to_owned(), whole.freeze())
    })
}

/// What has arrived of a resumable upload: `<first>-<last>/<total>` per chunk.
fn arrived(chunks: &std::collections::BTreeMap<usize, Bytes>, total: usize) -> String {
    let chunks =
        chunks.iter().map(|(first, bytes)| format!("{first}-{}/{total}", (first + bytes.len()).saturating_sub(1)));
    chunks.collect::<Vec<_>>().join(",")
}

fn download(shared: &Arc<Shared>, query: &HashMap<String, String>) -> Response {
    let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    if text("r").starts_with("avatar") || text("r").starts_with("thumbnail") {
        return ([(header::CONTENT_TYPE, "image/png")], PIXEL).into_response();
    }
    shared.change(|world| {
        let (id, expires) = (text("id"), text("expires"));
        let signature = if text("sig").is_empty() { text("r") } else { text("sig") };
        if signature != world.signature(&format!("{id}|{expires}")) {
            return (StatusCode::FORBIDDEN, "Invalid sig").into_response();
        }
        if expires.parse::<i64>().is_ok_and(|at| at <= world.clock.now_ms()) {
            world.statistics.report.expired_downloads += 1;
            return (StatusCode::FORBIDDEN, "The url has expired").into_response();
        }
        let media = id.parse().ok().and_then(|id: u64| world.media.get(&id));
        let Some((media, bytes)) = media.and_then(|media| media.bytes.clone().map(|bytes| (media, bytes))) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        world.statistics.report.downloads += 1;
        let content_type = match media.kind {
            MediaKind::Image => image_type(&bytes),
            _ if media.content_type.is_empty() => "application/octet-stream",
            _ => &media.content_type,
        };
        let disposition = format!("attachment; filename=\"{}\"", media.id);
        let headers = [(header::CONTENT_TYPE, content_type.to_owned()), (header::CONTENT_DISPOSITION, disposition)];
        (headers, bytes).into_response()
    })
}

/// What a picture is by its first bytes; the live service mostly gives WebP.
fn image_type(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, ..] => "image/jpeg",
        [b'G', b'I', b'F', ..] => "image/gif",
        _ => "image/webp",
    }
}

/// One transparent pixel as PNG.
pub(super) const PIXEL: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8,
    6, 0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 0x0d, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63, 0, 1, 0, 0, 5, 0, 1,
    0x0d, 0x0a, 0x2d, 0xb4, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];
