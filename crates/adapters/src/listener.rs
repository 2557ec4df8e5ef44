//! HTTP for what others fetch from adapters, at one address. TLS is left to a reverse proxy.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::delivery::Fault;

/// An address, and where it led: port 0 is any that is free.
#[derive(Debug)]
pub(crate) struct Listener {
    listen: SocketAddr,
    bound: watch::Sender<Option<SocketAddr>>,
}

/// Closes the connection that a request came by, at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Close(pub(crate) Arc<Notify>);

impl Listener {
    pub(crate) fn new(listen: SocketAddr) -> Self {
        Self { listen, bound: watch::Sender::new(None) }
    }

    /// Where it listens, once it does.
    pub(crate) async fn bound(&self) -> SocketAddr {
        let mut bound = self.bound.subscribe();
        match bound.wait_for(Option::is_some).await.map(|bound| *bound) {
            Ok(Some(address)) => address,
            // Neither can be: the sender is here, and nothing else was waited for.
            Ok(None) | Err(_) => self.listen,
        }
    }

    /// The address as it is known now: until it listens, port 0 stands for one that nobody knows.
    pub(crate) fn known(&self) -> SocketAddr {
        self.bound.borrow().unwrap_or(self.listen)
    }

    /// Answers requests for as long as it is polled. Connections end with it.
    pub(crate) async fn serve(&self, router: Router) -> Result<(), Fault> {
        self.bound.send_replace(None);
        let cannot = |error: std::io::Error| {
            Fault::transient(format!(
                "{} cannot be listened on: {error}; end whoever has it, or change `listen`",
                self.listen
            ))
        };
        let listener = TcpListener::bind(self.listen).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        info!(%address, "serving");
        self.bound.send_replace(Some(address));
        match serve(listener, router).await {}
    }
}

/// Answers requests for as long as it is polled. Connections end with it.
pub(crate) async fn serve(listener: TcpListener, router: Router) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, remote)) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(answer(socket, remote, router.clone()));
                }
                Ok((_, remote)) => warn!(%remote, "there are as many connections as there may be"),
                Err(error) => {
                    // As a rule the process has no descriptor left; some will be closed.
                    warn!(error = &error as &dyn std::error::Error, "socket not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(socket: TcpStream, remote: SocketAddr, router: Router) {
    // Without it small events wait for others.
    let _ = socket.set_nodelay(true);
    let close = Close::default();
    let service = TowerToHyperService::new(router.layer(Extension(close.clone())));
    let mut served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        served = &mut served => if let Err(error) = served {
            debug!(error = &error as &dyn std::error::Error, %remote, "request failed");
        },
        () = close.0.notified() => {
            // Without waiting for what was sent: the other side does not take it.
            let _ = served.into_parts().io.into_inner().set_zero_linger();
        }
    }
}

/// Connections at once: each costs a descriptor and up to [`BUFFER_BYTES_MAX`] bytes.
const CONNECTIONS_MAX: usize = 512;

/// How long a request's header may take, and a connection may be idle before it.
const HEADER_LIMIT: Duration = Duration::from_secs(30);

/// Bytes of a request's header, and of an answer that wait for the socket.
const BUFFER_BYTES_MAX: usize = 16 << 10;

/// How long to wait when no socket can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
