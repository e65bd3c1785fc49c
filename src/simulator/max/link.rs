//! Connections that can be broken on demand: dropped without an answer, or reset.
//!
//! A handler marks its connection; the next write on it fails, so that not one byte of an answer leaves.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

const WHOLE: u8 = 0;
const DROP: u8 = 1;
const RESET: u8 = 2;

/// The connection that a request came in on.
#[derive(Clone, Debug)]
pub(super) struct Link(Arc<AtomicU8>);

impl Link {
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

/// A TCP listener whose connections can be broken.
#[derive(Debug)]
pub(super) struct Links(pub(super) TcpListener);

impl Listener for Links {
    type Io = Breakable;
    type Addr = (SocketAddr, Link);

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // Answers are small and single: waiting to fill a segment would only add latency. A failure leaves it slower, not wrong.
        let _ = stream.set_nodelay(true);
        let link = Link(Arc::new(AtomicU8::new(WHOLE)));
        (Breakable { stream, link: link.clone() }, (address, link))
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok((self.0.local_addr()?, Link(Arc::new(AtomicU8::new(WHOLE)))))
    }
}

/// A stream that its [`Link`] can break.
#[derive(Debug)]
pub(super) struct Breakable {
    stream: TcpStream,
    link: Link,
}

impl Breakable {
    fn broken(&self) -> Option<io::Error> {
        match self.link.0.load(Ordering::SeqCst) {
            WHOLE => None,
            DROP => Some(io::ErrorKind::BrokenPipe.into()),
            _ => {
                // Closing with zero linger is what sends the RST; where that is refused a FIN is the next best.
                let _ = self.stream.set_zero_linger();
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.broken() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.broken() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.broken() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
