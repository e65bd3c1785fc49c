//! The two steps of an upload and the download of an attachment: other hosts than the API's, which
//! never see the bot token (MAX Bot API reference, "Uploads and attachments").

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use url::Url;

use super::outgoing::UploadKind;

/// A file that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    pub bytes: Bytes,
    /// Of `Content-Type`, without parameters; `application/octet-stream` where none is given.
    pub mime: String,
    /// Of `Content-Disposition`: the last part of a path, without control characters.
    pub name: Option<String>,
}

/// The domains of MAX's own files. Addresses come in from outside, so nothing else is asked.
const FILE_DOMAINS: [&str; 3] = ["oneme.ru", "okcdn.ru", "max.ru"];

fn is_max_file_host(host: &str) -> bool {
    FILE_DOMAINS
        .iter()
        .any(|domain| host.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.')))
}

/// The address to fetch an attachment from, or `None` where nothing is fetched: hosts of MAX over
/// https (plain http is raised to it), and the host of the API itself, which tests may have put
/// elsewhere, on any port.
pub(super) fn download_address(url: &Url, api: &Url) -> Option<Url> {
    let host = url.host_str()?;
    match url.scheme() {
        "https" if is_max_file_host(host) => Some(url.clone()),
        "http" if is_max_file_host(host) => {
            let mut raised = url.clone();
            raised.set_scheme("https").ok()?;
            Some(raised)
        }
        "http" | "https" if api.host_str() == Some(host) => Some(url.clone()),
        _ => None,
    }
}

/// The address to upload to. The API has named it, so any host will do, but only over https (with
/// the exceptions of downloads).
pub(super) fn upload_address(url: &Url, api: &Url) -> Option<Url> {
    download_address(url, api).or_else(|| (url.scheme() == "https" && url.has_host()).then(|| url.clone()))
}

/// A form with the one field `data`. Names are escaped as browsers do (HTML standard, "Multipart
/// form data").
pub(super) fn multipart(boundary: &str, name: &str, mime: &str, bytes: &Bytes) -> Bytes {
    let name = name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
    let mime = if http::HeaderValue::from_str(mime).is_ok() && mime.contains('/') { mime } else { OCTETS };
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"data\"; filename=\"{name}\"\r\nContent-Type: {mime}\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let mut whole = BytesMut::with_capacity(head.len() + bytes.len() + tail.len());
    whole.put_slice(head.as_bytes());
    whole.put_slice(bytes);
    whole.put_slice(tail.as_bytes());
    whole.freeze()
}

/// The token to send, from what the upload host answered and what POST /uploads gave before it:
/// `photos` for images, `token` for files, and for video and audio the earlier one, with an answer
/// that is not JSON (`<retval>1</retval>`).
pub(super) fn upload_token(kind: UploadKind, earlier: Option<String>, answer: &[u8]) -> Option<String> {
    let json: Option<Value> = serde_json::from_slice(answer).ok();
    let object = json.as_ref().and_then(Value::as_object);
    let own = |object: &serde_json::Map<String, Value>| object.get("token")?.as_str().map(ToOwned::to_owned);
    match kind {
        UploadKind::Image => {
            let object = object?;
            let photo = object
                .get("photos")
                .and_then(Value::as_object)
                .and_then(|photos| photos.values().find_map(|photo| own(photo.as_object()?)));
            photo.or_else(|| own(object))
        }
        UploadKind::File => object.and_then(own),
        UploadKind::Video | UploadKind::Audio => {
            let failed = object.is_some_and(|object| object.contains_key("error_code") || object.contains_key("code"));
            if failed { None } else { earlier.or_else(|| object.and_then(own)) }
        }
    }
    .filter(|token| !token.is_empty())
}

const OCTETS: &str = "application/octet-stream";

impl Download {
    pub(super) fn new(headers: &HeaderMap, bytes: Bytes) -> Self {
        let mime = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
            .filter(|value| value.contains('/'))
            .unwrap_or_else(|| OCTETS.to_owned());
        let name = headers
            .get(CONTENT_DISPOSITION)
            .and_then(|value| disposition_name(&String::from_utf8_lossy(value.as_bytes())));
        Self { bytes, mime, name }
    }
}

/// `filename*` before `filename` (RFC 6266).
fn disposition_name(header: &str) -> Option<String> {
    let mut plain = None;
    for (key, value) in parameters(header) {
        match key.as_str() {
            "filename*" => {
                let mut parts = value.splitn(3, '\'');
                if let (Some(charset), Some(_), Some(encoded)) = (parts.next(), parts.next(), parts.next())
                    && charset.eq_ignore_ascii_case("utf-8")
                    && let Ok(name) = percent_decode_str(encoded).decode_utf8()
                    && let Some(name) = safe_name(&name)
                {
                    return Some(name);
                }
            }
            "filename" => plain = plain.or_else(|| safe_name(&value)),
            _ => {}
        }
    }
    plain
}

/// The last part of a path without control characters, as the name may reach a file system.
fn safe_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| !c.is_control()).collect();
    let clean = clean.trim();
    (!clean.trim_matches('.').is_empty()).then(|| clean.to_owned())
}

/// The parameters behind the first `;`, names in lower case, quotes and escapes undone.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ';', '\t']).to_ascii_lowercase();
        let after = after.trim_start();
        let mut value = String::new();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut end = quoted.len();
            let mut chars = quoted.char_indices();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                    other => value.push(other),
                }
            }
            rest = &quoted[end..];
        } else {
            let (bare, next) = after.split_once(';').unwrap_or((after, ""));
            bare.trim().clone_into(&mut value);
            rest = next;
        }
        found.push((key, value));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn attachments_are_fetched_from_hosts_of_max_over_https_and_from_nowhere_else() {
        let real = url("https://platform-api2.max.ru");
        let test = url("http://127.0.0.1:8081/api");
        for (api, address, expected) in [
            (&real, "https://fd.oneme.ru/getfile?sig=1", Some("https://fd.oneme.ru/getfile?sig=1")),
            (&real, "https://oneme.ru/x", Some("https://oneme.ru/x")),
            (&real, "http://vd1.okcdn.ru/x?srcIp=1", Some("https://vd1.okcdn.ru/x?srcIp=1")),
            (&real, "https://max.ru/x", Some("https://max.ru/x")),
            (&real, "https://evil-oneme.ru/x", None),
            (&real, "https://oneme.ru.evil.example/x", None),
            (&real, "https://oneme.ru@evil.example/x", None),
            (&real, "https://127.0.0.1/x", None),
            (&real, "http://127.0.0.1:9000/x", None),
            (&real, "ftp://fd.oneme.ru/x", None),
            (&real, "file:///etc/passwd", None),
            (&test, "http://127.0.0.1:9000/x", Some("http://127.0.0.1:9000/x")),
            (&test, "http://127.0.0.2:9000/x", None),
            (&test, "http://vd1.okcdn.ru/x", Some("https://vd1.okcdn.ru/x")),
        ] {
            assert_eq!(download_address(&url(address), api).as_ref().map(Url::as_str), expected, "{address}");
        }
    }

    #[test]
    fn uploads_go_where_the_api_says_but_never_in_the_clear() {
        let real = url("https://platform-api2.max.ru");
        for (address, allowed) in [
            ("https://iu.oneme.ru/uploadImage?sig=1", true),
            ("https://new-host.example/upload", true),
            ("http://new-host.example/upload", false),
        ] {
            assert_eq!(upload_address(&url(address), &real).is_some(), allowed, "{address}");
        }
    }

    #[test]
    fn each_type_of_upload_has_its_own_place_for_the_token() {
        let earlier = || Some("FROM_STEP_1".to_owned());
        let photos = br#"{"photos":{"KBLVd3jYmQ+/==":{"token":"PHOTO"}}}"#;
        let retval = br#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?><retval>1</retval>"#;
        for (kind, step1, answer, expected) in [
            (UploadKind::Image, None, &photos[..], Some("PHOTO")),
            (UploadKind::Image, None, br#"{"photos":{}}"#, None),
            (UploadKind::Image, None, b"File extension is forbidden", None),
            (UploadKind::File, None, br#"{"fileId":3399100200,"token":"FILE"}"#, Some("FILE")),
            (UploadKind::File, None, br#"{"fileId":1,"token":null}"#, None),
            (UploadKind::Video, earlier(), b"<retval>1</retval>", Some("FROM_STEP_1")),
            (UploadKind::Audio, earlier(), retval, Some("FROM_STEP_1")),
            (UploadKind::Video, earlier(), b"", Some("FROM_STEP_1")),
            (UploadKind::Video, earlier(), br#"{"error_code":"4","error_msg":"no"}"#, None),
            (UploadKind::Video, None, br#"{"token":"LATE"}"#, Some("LATE")),
        ] {
            assert_eq!(upload_token(kind, step1, answer).as_deref(), expected, "{kind:?} {answer:?}");
        }
    }

    #[test]
    fn a_file_name_of_a_header_is_never_a_path() {
        for (header, expected) in [
            (r#"attachment; filename="invoice.pdf""#, Some("invoice.pdf")),
            ("attachment; filename=invoice.pdf; size=3", Some("invoice.pdf")),
            ("attachment; filename=\"x.pdf\"; filename*=UTF-8''%D1%81%D1%87%D1%91%D1%82.pdf", Some("счёт.pdf")),
            ("attachment; filename*=UTF-8'ru'a%20b.pdf; filename=x", Some("a b.pdf")),
            ("attachment; filename*=koi8-r''%ff; filename=x.txt", Some("x.txt")),
            ("attachment; filename=\"счёт.pdf\"", Some("счёт.pdf")),
            (r#"attachment; filename="a;b=\"c\".txt""#, Some("a;b=\"c\".txt")),
            (r#"attachment; filename="../../etc/passwd""#, Some("passwd")),
            (r"attachment; filename=..\..\evil.exe", Some("evil.exe")),
            (r#"attachment; filename="..""#, None),
            (r#"attachment; filename="""#, None),
            ("inline", None),
            ("", None),
        ] {
            assert_eq!(disposition_name(header).as_deref(), expected, "{header}");
        }
    }
}
