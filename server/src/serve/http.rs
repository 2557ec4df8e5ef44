//! Accepts sockets, answers HTTP, and upgrades to WebSockets.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rejoin_core::SpaceName;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::addresses::Addresses;
use super::callers::Callers;
use super::command::Protocol;
use super::connection::Pump;
use super::connection::say_old_bye;
use super::engine::EngineHandle;
use super::limits::Limits;
use super::ticket_office::{self, TicketOffice};
use super::upgrade::Upgrade;
use super::{Config, Phase};
use crate::relay::ConnectionId;

/// The state that every request has at hand.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pump: Pump,
    sockets: Arc<Semaphore>,
    next_connection: Arc<AtomicU64>,
    handshake_limit: Duration,
    peer_ping_interval: Duration,
    automerge_space: SpaceName,
    addresses: Addresses,
    limits: watch::Receiver<Limits>,
    /// `None` where the relay speaks without TLS.
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    pub(super) callers: Arc<Callers>,
    pub(super) office: TicketOffice,
    /// It lives as long as a connection does. Nothing is sent through it.
    alive: mpsc::Sender<()>,
}

/// The socket a request came by.
#[derive(Debug, Clone)]
struct Accepted {
    remote: SocketAddr,
    /// Counts the socket as long as anything holds it.
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Shared {
    pub(super) fn new(
        config: &Config,
        engine: EngineHandle,
        limits: watch::Receiver<Limits>,
        (tls, office): (Option<watch::Receiver<Arc<ServerConfig>>>, TicketOffice),
        phases: watch::Receiver<Phase>,
    ) -> (Self, mpsc::Receiver<()>) {
        let (alive, drained) = mpsc::channel(1);
        let pump = Pump {
            engine,
            write_limit: config.write_limit,
            ping_interval: config.ping_interval,
            pace: (None, None),
            phases,
        };
        let sockets = config.options.sessions_max.saturating_add(SPARE_SOCKETS);
        let shared = Self {
            pump,
            sockets: Arc::new(Semaphore::new(sockets.min(Semaphore::MAX_PERMITS))),
            next_connection: Arc::new(AtomicU64::new(1)),
            handshake_limit: config.handshake_limit,
            peer_ping_interval: config.peer_ping_interval,
            automerge_space: config.automerge_space.clone(),
            addresses: Addresses::default(),
            limits,
            tls,
            callers: Arc::new(Callers::of(config)),
            office,
            alive,
        };
        (shared, drained)
    }
}

/// Accepts sockets for as long as it is polled.
pub(super) async fn accept(listener: TcpListener, shared: Shared) {
    let router = Router::new()
        .route("/sync", get(sync))
        .route("/automerge", get(automerge))
        .route("/automerge/{space}", get(automerge_of))
        .route("/ticket", post(ticket_office::give).options(ticket_office::may_ask))
        .route("/healthz", get(health))
        .with_state(shared.clone());
    loop {
        match listener.accept().await {
            Ok((socket, remote)) => take(socket, remote, &shared, &router),
            Err(error) => {
                // As a rule the process has no descriptor left; some will be closed.
                tracing::warn!(error = &error as &dyn Error, "socket not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves HTTP on a socket, unless there are too many.
fn take(socket: TcpStream, remote: SocketAddr, shared: &Shared, router: &Router) {
    if !shared.callers.may_connect(remote) {
        tracing::warn!(%remote, "socket dropped: it is not from the networks of --behind-proxy");
        return;
    }
    let Ok(permit) = Arc::clone(&shared.sockets).try_acquire_owned() else {
        tracing::warn!(%remote, "socket dropped: there are as many as there may be");
        return;
    };
    // Without it small frames wait for others.
    let _ = socket.set_nodelay(true);
    // A live edit waits behind the bytes that the system keeps for a slow line.
    let _ = SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER_BYTES);
    let accepted = Accepted { remote, _permit: Arc::new(permit) };
    let service = TowerToHyperService::new(router.clone().layer(Extension(accepted)));
    let mut phases = shared.pump.phases.clone();
    let limit = shared.handshake_limit;
    let acceptor = shared.tls.as_ref().map(|tls| TlsAcceptor::from(tls.borrow().clone()));
    tokio::spawn(async move {
        let served = async {
            match acceptor {
                None => serve_http(socket, service, limit).await,
                Some(acceptor) => match timeout(limit, acceptor.accept(socket)).await {
                    Ok(Ok(socket)) => serve_http(socket, service, limit).await,
                    Ok(Err(error)) => Err(error.into()),
                    Err(late) => Err(late.into()),
                },
            }
        };
        tokio::select! {
            served = served => if let Err(error) = served {
                tracing::debug!(%error, %remote, "request failed");
            },
            _ = phases.wait_for(|phase| *phase != Phase::Serving) => {}
        }
    });
}

async fn serve_http(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: TowerToHyperService<Router>,
    limit: Duration,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    Ok(served.await?)
}

/// Upgrades to a session of a replica.
async fn sync(
    State(shared): State<Shared>,
    Extension(accepted): Extension<Accepted>,
    request: Request,
) -> Response {
    upgrade(shared, accepted, request, Protocol::Rejoin)
}

/// Upgrades to a connection of automerge-repo, in the space for peers that name no space.
async fn automerge(
    State(shared): State<Shared>,
    Extension(accepted): Extension<Accepted>,
    request: Request,
) -> Response {
    let space = shared.automerge_space.clone();
    upgrade(shared, accepted, request, Protocol::AutomergeRepo(space))
}

/// Upgrades to a connection of automerge-repo.
async fn automerge_of(
    State(shared): State<Shared>,
    Extension(accepted): Extension<Accepted>,
    Path(space): Path<String>,
    request: Request,
) -> Response {
    match SpaceName::new(space) {
        Ok(space) => upgrade(shared, accepted, request, Protocol::AutomergeRepo(space)),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

fn upgrade(
    shared: Shared,
    accepted: Accepted,
    mut request: Request,
    protocol: Protocol,
) -> Response {
    if let Err(text) = shared.callers.check(request.headers()) {
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let principal = match shared.office.ticket_of(&protocol, &request) {
        Ok(principal) => principal,
        Err(error) => return (StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
    };
    let upgrade = match Upgrade::take(&mut request, &protocol) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refusal.into_response(),
    };
    if upgrade.is_old() {
        tracing::info!(remote = %accepted.remote, "a replica of the version before was told to update");
        let account = shared.pump.engine.account();
        return upgrade.respond(account, move |socket| async move {
            say_old_bye(socket).await;
            drop(accepted);
        });
    }
    let limits = shared.limits.borrow().clone();
    let (address, max) = (accepted.remote.ip(), limits.connections_per_address);
    let Some(counted) = shared.addresses.count(address, max) else {
        let text = format!(
            "{address} has {max} connections, as many as limits.connections_per_address allows; \
             come back later"
        );
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let id = ConnectionId(shared.next_connection.fetch_add(1, Ordering::Relaxed));
    let Shared { mut pump, alive, peer_ping_interval, .. } = shared;
    pump.pace = (limits.messages_per_second, limits.bytes_per_second);
    if protocol != Protocol::Rejoin {
        pump.ping_interval = peer_ping_interval;
    }
    upgrade.respond(pump.engine.account(), move |socket| async move {
        pump.run(id, (protocol, principal), accepted.remote, socket).await;
        drop((accepted, counted, alive));
    })
}

/// Whether the engine answers and its store commits.
async fn health(State(shared): State<Shared>) -> Response {
    match shared.pump.engine.health().await {
        Some(health) => {
            let sessions = health.sessions;
            let body = serde_json::json!({ "status": "ok", "sessions": sessions });
            ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
        }
        None => {
            let body = serde_json::json!({ "status": "unavailable" });
            let json = [(CONTENT_TYPE, "application/json")];
            (StatusCode::SERVICE_UNAVAILABLE, json, body.to_string()).into_response()
        }
    }
}

/// Sockets beside those of sessions, to ask for health and to be told that the relay is full.
const SPARE_SOCKETS: usize = 64;

/// Bytes of a request's header.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// The time to wait when no socket can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes written to a socket that the system keeps until they are sent, about: a second and a half
/// of a slow mobile line, and as much in flight as a fast one needs over 50 ms for 10 Mbit/s.
const SEND_BUFFER_BYTES: usize = 64 << 10;
