//! Connections that can be broken on demand: dropped without an answer, or reset.
//!
//! A handler marks its connection; the next write on it fails, so that not one byte of an answer
//! leaves. With a certificate the connections are TLS, so that a client can be shown a root that it
//! does not trust.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const WHOLE: u8 = 0;
const DROP: u8 = 1;
const RESET: u8 = 2;

/// The connection that a request came in on.
#[derive(Clone, Debug)]
pub(super) struct Link(Arc<AtomicU8>);

impl Link {
    /// One that nobody has broken yet.
    pub(super) fn whole() -> Self {
        Self(Arc::new(AtomicU8::new(WHOLE)))
    }

    pub(super) fn is_whole(&self) -> bool {
        self.0.load(Ordering::SeqCst) == WHOLE
    }

    /// Ends the connection in good order (FIN) before an answer.
    pub(super) fn drop_it(&self) {
        self.0.store(DROP, Ordering::SeqCst);
    }

    /// Resets the connection (RST) before an answer.
    pub(super) fn reset(&self) {
        self.0.store(RESET, Ordering::SeqCst);
    }
}

impl Connected<IncomingStream<'_, Links>> for Link {
    fn connect_info(stream: IncomingStream<'_, Links>) -> Self {
        stream.remote_addr().1.clone()
    }
}

/// A handshake that takes longer is given up, so that a silent caller holds nobody up for long.
const HANDSHAKE: Duration = Duration::from_secs(2);

/// A TCP listener whose connections can be broken.
pub(super) struct Links {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<TlsAcceptor>,
}

impl Listener for Links {
    type Io = Breakable;
    type Addr = (SocketAddr, Link);

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            // Answers are small and single: waiting to fill a segment would only add latency. A
            // failure leaves it slower, not wrong.
            let _ = stream.set_nodelay(true);
            let stream = match &self.tls {
                None => Stream::Plain(stream),
                Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                    Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                    // A caller that does not believe the certificate hangs up: that is its answer.
                    Ok(Err(_)) | Err(_) => continue,
                },
            };
            let link = Link::whole();
            return (Breakable { stream, link: link.clone() }, (address, link));
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok((self.listener.local_addr()?, Link::whole()))
    }
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Everything that can be read and written.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    fn duplex(&mut self) -> Pin<&mut dyn Duplex> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

/// A stream that its [`Link`] can break.
#[derive(Debug)]
pub(super) struct Breakable {
    stream: Stream,
    link: Link,
}

impl Breakable {
    fn broken(&self) -> Option<io::Error> {
        match self.link.0.load(Ordering::SeqCst) {
            WHOLE => None,
            DROP => Some(io::ErrorKind::BrokenPipe.into()),
            _ => {
                // Closing with zero linger is what sends the RST; where that is refused a FIN is
                // the next best.
                let _ = self.stream.tcp().set_zero_linger();
                Some(io::ErrorKind::ConnectionReset.into())
            }
        }
    }
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.duplex().poll_read(context, buffer)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.broken() {
            Some(error) => Poll::Ready(Err(error)),
            None => self.stream.duplex().poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.broken() {
            Some(error) => Poll::Ready(Err(error)),
            None => self.stream.duplex().poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.broken() {
            Some(error) => Poll::Ready(Err(error)),
            None => self.stream.duplex().poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.duplex().poll_shutdown(context)
    }
}
