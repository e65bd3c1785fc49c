//! The HTTP floor of a double: whole requests in, whole answers out, and connections that can be
//! cut without an answer.
//!
//! Owns: listening, reading bodies, running a call to its end although the client has gone (as a
//! real site does), and cutting a connection before the first byte of an answer. Must not know
//! Creatio or MANGO OFFICE.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use axum::{Router, extract};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The longest request body taken; a longer one gets 413.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// One request, whole.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub method: Method,
    /// The path as sent, still percent-encoded.
    pub path: String,
    /// The query as sent, without `?`, still percent-encoded; empty where there is none.
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    pub fn new(parts: http::request::Parts, body: Bytes) -> Self {
        Self {
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or("").to_owned(),
            method: parts.method,
            headers: parts.headers,
            body,
        }
    }

    /// A header's text; empty where it is absent or not text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The query as decoded pairs, in order. `+` stays a plus: these sites decode only percent
    /// escapes.
    pub fn pairs(&self) -> Vec<(String, String)> {
        self.query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                (decode(name), decode(value))
            })
            .collect()
    }
}

/// Percent escapes decoded; bytes that are no UTF-8 become replacement characters.
pub(crate) fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}

/// One answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Reply {
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    pub fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        Self::body(status, "application/json; charset=utf-8", body.to_string())
    }

    pub fn html(status: StatusCode, title: &str) -> Self {
        let page =
            format!("<!DOCTYPE html>\r\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>");
        Self::body(status, "text/html; charset=utf-8", page)
    }

    pub fn body(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn into_response(self) -> http::Response<Body> {
        self.whole().map(Body::from)
    }

    /// The answer as one whole.
    pub fn whole(self) -> http::Response<Bytes> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            if let Ok(value) = http::HeaderValue::from_str(&value) {
                response.headers_mut().append(http::HeaderName::from_static(name), value);
            }
        }
        response
    }
}

/// Simulated time: the time of the async runtime since the start times `scale`, plus what control
/// has added. Milliseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    base_ms: i64,
    scale: f64,
    added_ms: i64,
}

impl Clock {
    /// A clock that shows the real time now and runs `scale` times as fast.
    pub fn new(scale: f64) -> Self {
        Self::starting_at(jiff::Timestamp::now().as_millisecond(), scale)
    }

    /// The same, showing another time now.
    pub fn starting_at(base_ms: i64, scale: f64) -> Self {
        Self { started: Instant::now(), base_ms, scale, added_ms: 0 }
    }

    #[allow(clippy::cast_possible_truncation, reason = "centuries of milliseconds fit")]
    #[allow(clippy::cast_precision_loss, reason = "whole milliseconds stay whole for a hundred days")]
    pub fn now_ms(&self) -> i64 {
        // By fractions of seconds some whole milliseconds would be one less.
        let elapsed = (self.started.elapsed().as_nanos() as f64 * self.scale / 1e6) as i64;
        self.base_ms.saturating_add(elapsed).saturating_add(self.added_ms)
    }

    pub fn advance(&mut self, ms: i64) {
        self.added_ms = self.added_ms.saturating_add(ms);
    }

    /// The time that it will be in `ms`.
    pub fn after(&self, ms: u64) -> i64 {
        self.now_ms().saturating_add(i64::try_from(ms).unwrap_or(i64::MAX))
    }

    /// How long to sleep before looking again whether it is `until`; none when it is. Short, so
    /// that a moved clock is seen soon.
    #[allow(clippy::cast_precision_loss, reason = "a pause needs no exact milliseconds")]
    pub fn pause(&self, until: i64) -> Option<Duration> {
        let left = until - self.now_ms();
        (left > 0).then(|| {
            let real = Duration::try_from_secs_f64(left as f64 / 1000.0 / self.scale).unwrap_or(Duration::MAX);
            real.clamp(Duration::from_millis(1), Duration::from_millis(20))
        })
    }
}

/// A listening server; dropping it stops it.
pub(crate) struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    down: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops listening and cuts every connection.
    pub async fn stop(mut self) {
        self.down.store(true, Ordering::SeqCst);
        self.stop.cancel();
        if tokio::time::timeout(Duration::from_millis(500), &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.down.store(true, Ordering::SeqCst);
        self.stop.cancel();
    }
}

/// Serves `handle` on `listen`; `None` from it cuts the connection without an answer.
pub(crate) async fn serve<F, Fut>(listen: SocketAddr, handle: F) -> io::Result<Server>
where
    F: Fn(Call) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Option<Reply>> + Send + 'static,
{
    let down = Arc::new(AtomicBool::new(false));
    let listener = CuttableListener { inner: TcpListener::bind(listen).await?, down: Arc::clone(&down) };
    let address = listener.inner.local_addr()?;
    let router = Router::new().fallback(move |ConnectInfo(wire): ConnectInfo<Wire>, request: extract::Request| {
        let handle = handle.clone();
        async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
                return Reply::html(StatusCode::PAYLOAD_TOO_LARGE, "413 Request Entity Too Large").into_response();
            };
            let call = Call::new(parts, body);
            // A task of its own: a site goes on working when the client has hung up.
            if let Ok(Some(reply)) = tokio::spawn(handle(call)).await {
                return reply.into_response();
            }
            wire.cut.store(true, Ordering::SeqCst);
            Reply::empty(StatusCode::BAD_GATEWAY).into_response()
        }
    });
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let service = router.into_make_service_with_connect_info::<Wire>();
        // Serving over a bound listener ends only by the token.
        drop(axum::serve(listener, service).with_graceful_shutdown(stopped.cancelled_owned()).await);
    });
    Ok(Server { address, stop, down, task })
}

struct CuttableListener {
    inner: TcpListener,
    down: Arc<AtomicBool>,
}

struct CuttableStream {
    inner: TcpStream,
    wire: Wire,
}

/// The switch by which one connection is cut.
#[derive(Clone)]
struct Wire {
    cut: Arc<AtomicBool>,
    down: Arc<AtomicBool>,
}

impl Wire {
    fn check(&self) -> io::Result<()> {
        if self.cut.load(Ordering::SeqCst) || self.down.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::ConnectionReset));
        }
        Ok(())
    }
}

impl Listener for CuttableListener {
    type Io = CuttableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (inner, address) = Listener::accept(&mut self.inner).await;
        // Only a matter of speed.
        drop(inner.set_nodelay(true));
        let wire = Wire { cut: Arc::new(AtomicBool::new(false)), down: Arc::clone(&self.down) };
        (CuttableStream { inner, wire }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

impl Connected<IncomingStream<'_, CuttableListener>> for Wire {
    fn connect_info(stream: IncomingStream<'_, CuttableListener>) -> Self {
        stream.io().wire.clone()
    }
}

impl AsyncRead for CuttableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.wire.check()?;
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.check()?;
        Pin::new(&mut self.inner).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
