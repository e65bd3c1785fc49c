//! The port on which strangers may call: how many connections are held, for how long, and with
//! what.
//!
//! Whatever a stranger does costs little before any secret is known: a connection holds a small
//! buffer, its head must be there within [`HEAD_LIMIT`], and it is closed when nothing has happened
//! on it for [`IDLE_LIMIT`]. At most [`CONNECTIONS`] are open. A newcomer beyond them takes the
//! place of the one that has been idle longest, so that silent ones never keep a webhook waiting;
//! one whose request is being answered is never closed for another.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections open at once: half of the files that a process may usually have open.
const CONNECTIONS: usize = 512;
/// How long the head of a request may take, from the end of the one before.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How long nothing may happen on a connection, for instance because nobody reads the answer.
const IDLE_LIMIT: Duration = Duration::from_mins(1);
/// What is read ahead of one connection, bytes; the head of a request must fit in.
const BUFFER: usize = 16 * 1024;
/// Between two tries to accept where the process has no file left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller(pub IpAddr);

/// Answers on the port until `stop`, then lets what is under way end. Dropping it closes every
/// connection.
pub async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) {
    serve_at_most(CONNECTIONS, listener, routes, stop).await;
}

async fn serve_at_most(most: usize, listener: TcpListener, routes: Router, stop: CancellationToken) {
    let open = Open::default();
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most likely there are no files left: a connection that nobody uses gives one
                // back.
                tracing::debug!(%error, "a connection could not be accepted");
                open.close_idlest();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while open.count() >= most {
            open.close_idlest();
            // Somebody's end, or a place is made by it.
            let ended = tokio::time::timeout(ACCEPT_PAUSE, tasks.join_next()).await;
            if ended.is_err() && stop.is_cancelled() {
                break;
            }
        }
        tasks.spawn(answer(stream, Caller(from.ip()), routes.clone(), open.enter(), stop.clone()));
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// The connections that are open, by the order in which they came.
#[derive(Clone, Debug, Default)]
struct Open(Arc<Mutex<Connections>>);

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    open: BTreeMap<u64, Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    /// A request of it is being answered.
    is_busy: AtomicBool,
    used_at: Mutex<Instant>,
    closing: Notify,
}

/// A connection's place; dropping it frees the place.
#[derive(Debug)]
struct Place {
    open: Open,
    number: u64,
    connection: Arc<Connection>,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> usize {
        self.lock().open.len()
    }

    fn enter(&self) -> Place {
        let connection = Arc::new(Connection {
            is_busy: AtomicBool::new(false),
            used_at: Mutex::new(Instant::now()),
            closing: Notify::new(),
        });
        let mut connections = self.lock();
        connections.next += 1;
        let number = connections.next;
        connections.open.insert(number, Arc::clone(&connection));
        Place { open: self.clone(), number, connection }
    }

    /// Closes the connection that has been idle longest. Its place is free once its task has ended.
    fn close_idlest(&self) {
        let connections = self.lock();
        let idle = connections.open.values().filter(|one| !one.is_busy.load(Ordering::Acquire));
        if let Some(idlest) = idle.min_by_key(|one| one.used_at()) {
            idlest.closing.notify_one();
        }
    }
}

impl Connection {
    fn used_at(&self) -> Instant {
        *self.used_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_busy(&self, busy: bool) {
        *self.used_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.is_busy.store(busy, Ordering::Release);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.lock().open.remove(&self.number);
    }
}

/// Answers one connection's requests.
async fn answer(stream: TcpStream, caller: Caller, routes: Router, place: Place, stop: CancellationToken) {
    // Answers are small and whole; where this cannot be set they are only slower.
    let _ = stream.set_nodelay(true);
    let connection = Arc::clone(&place.connection);
    let service = service_fn({
        let connection = Arc::clone(&connection);
        let routes = TowerToHyperService::new(routes);
        move |request: Request<Incoming>| {
            let (connection, routes) = (Arc::clone(&connection), routes.clone());
            async move {
                let _busy = Busy::new(&connection);
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(caller);
                let answer: Result<Response<Body>, Infallible> = hyper::service::Service::call(&routes, request).await;
                answer
            }
        }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(http);
    let mut stopping = false;
    loop {
        tokio::select! {
            // What went wrong is the caller's affair.
            _ = &mut http => return,
            () = connection.closing.notified() => {
                if !connection.is_busy.load(Ordering::Acquire) {
                    return;
                }
            }
            () = tokio::time::sleep(IDLE_LIMIT) => {
                if !connection.is_busy.load(Ordering::Acquire) && connection.used_at().elapsed() >= IDLE_LIMIT {
                    return;
                }
            }
            () = stop.cancelled(), if !stopping => {
                if !connection.is_busy.load(Ordering::Acquire) {
                    return;
                }
                stopping = true;
                http.as_mut().graceful_shutdown();
            }
        }
    }
}

/// For as long as a request is answered, however that ends.
struct Busy<'a>(&'a Connection);

impl<'a> Busy<'a> {
    fn new(connection: &'a Connection) -> Self {
        connection.set_busy(true);
        Self(connection)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set_busy(false);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn call(address: std::net::SocketAddr) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn silent_connections_beyond_the_bound_give_way_and_nobody_waits_for_them() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(|| async { "here" }));
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve_at_most(4, listener, routes, stop.clone()));
        let mut silent = Vec::new();
        for number in 0..40 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                stream.write_all(b"POST / HTTP/1.1\r\nHost:").await.unwrap();
            }
            silent.push(stream);
            let answer = call(address).await.unwrap();
            assert!(answer.ends_with("here"), "{answer}");
        }
        // The first of them was closed for a newcomer.
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(10), silent[0].read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "a connection beyond the bound is still held");
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap();
    }
}
