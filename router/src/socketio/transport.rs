//! The TCP stream of one connection, as the library gets it.
//!
//! The library can neither say what it has written, nor stop reading, nor close one connection; and where a client takes
//! nothing, its writer waits for ever. All of that is done here, below it, as the [`Link`] is told.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::link::{Link, Reading};
use crate::edge::ConnectionPermit;

pub(super) struct Transport {
    stream: TcpStream,
    /// What came behind the handshake's head and was read along with it.
    ahead: Bytes,
    link: Arc<Link>,
    /// Held for as long as the connection is open.
    _permit: Option<ConnectionPermit>,
}

impl Transport {
    pub(super) fn new(stream: TcpStream, ahead: Bytes, link: Arc<Link>, permit: Option<ConnectionPermit>) -> Self {
        Self { stream, ahead, link, _permit: permit }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.link.reading(cx) {
            Reading::FromClient => {}
            Reading::Pause => return Poll::Pending,
            Reading::CloseFrame(frame) => {
                // The library's read buffer has room for more than these few bytes.
                buffer.put_slice(&frame[..frame.len().min(buffer.remaining())]);
                return Poll::Ready(Ok(()));
            }
            Reading::End => return Poll::Ready(Ok(())),
        }
        if this.ahead.has_remaining() {
            let bytes = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead.split_to(bytes));
        } else {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
        }
        this.link.heard();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // Asked again where it blocks: an abort meanwhile has to find the waker.
        for _ in 0..2 {
            if this.link.is_aborted() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if let Poll::Ready(written) = Pin::new(&mut this.stream).poll_write(cx, bytes) {
                let written = written?;
                this.link.wrote(&bytes[..written]);
                return Poll::Ready(Ok(written));
            }
            this.link.blocked(cx);
        }
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.link.gone();
    }
}
