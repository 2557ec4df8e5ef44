//! A socket that tells whether any bytes came, even a part of a message, and reads only as many as
//! there is room for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::room::Account;

/// Notes every byte that comes. A long message over a slow line takes minutes, and no pong can pass
/// it: without this note its sender would be taken for dead.
pub(super) struct Heard<S> {
    socket: S,
    heard: Arc<AtomicBool>,
    account: Arc<Account>,
    /// It waits for room.
    waits: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Heard<S> {
    pub(super) fn new(socket: S, account: Arc<Account>) -> Self {
        Self { socket, heard: Arc::new(AtomicBool::new(true)), account, waits: None }
    }

    /// Set whenever something came; for others to reset.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.heard)
    }

    /// The account that is charged for bytes that come.
    pub(super) fn account(&self) -> Arc<Account> {
        Arc::clone(&self.account)
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.waits.is_none() && self.account.has_to_wait() {
            self.waits = Some(Box::pin(Arc::clone(&self.account).has_room()));
        }
        if let Some(waits) = &mut self.waits {
            ready!(waits.as_mut().poll(context));
            self.waits = None;
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_room(context));
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.heard.store(true, Ordering::Relaxed);
            self.account.arrive(bytes);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
