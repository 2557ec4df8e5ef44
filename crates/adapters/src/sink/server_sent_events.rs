//! Rows for pages and scripts, as they change: [server-sent
//! events](https://html.spec.whatwg.org/multipage/server-sent-events.html).
//!
//! Who connects to `/events` gets every row that is held as an event `put`, what changed meanwhile,
//! then `ready`, and then what changes, as `put`, `mark` or `delete`. The data is the delivery in JSON. Events that change
//! something, and `ready`, have an id; who comes back with the last one they had goes on after it. If
//! that is too long ago, `reset` comes first: what they have may be wrong, and all rows follow.

mod log;
mod tell;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, VARY, WWW_AUTHENTICATE,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info};

use super::kept::{self, File};
use super::{Address, Held, Sink, SinkError};
use crate::clock::now_ms;
use crate::delivery::{Delivery, Fault};
use crate::listener::{Close, Listener};
use crate::option::Opt;
use crate::secret::SecretRef;
use tell::{Ended, Reader};

/// How a [`ServerSentEvents`] is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder the rows and the last events are kept in.
    pub folder: PathBuf,
    /// The address where events are served over HTTP, `ADDRESS:PORT`. A reverse proxy before it does
    /// TLS.
    pub listen: SocketAddr,
    /// What readers show as `Authorization: Bearer TOKEN`. Without it only this machine is served.
    pub token: Option<SecretRef>,
    /// The site whose pages may read, `https://HOST`.
    pub allow_origin: Option<String>,
    /// Events that are kept for readers who come back; 10,000 if that is not said.
    #[serde(default = "log_max")]
    pub log_max: u64,
    /// Seconds after which a reader that takes nothing is disconnected; 30 if that is not said.
    #[serde(default = "timeout_s")]
    pub timeout_s: u64,
}

/// The options, for people.
pub(super) const OPTIONS: &[Opt] = &[
    Opt::required(
        "folder",
        "path",
        "\"events\"",
        "the folder the rows and the last events are kept in",
    ),
    Opt::required(
        "listen",
        "address",
        "\"127.0.0.1:4481\"",
        "where events are served over HTTP; a reverse proxy before it does TLS",
    ),
    Opt::optional(
        "token",
        "secret",
        "\"env:EVENTS_TOKEN\"",
        "what readers show as `Authorization: Bearer TOKEN`, at least 24 characters; without it only this machine is served",
    ),
    Opt::optional(
        "allow_origin",
        "text",
        "\"https://pages.example\"",
        "the site whose pages may read",
    ),
    Opt::with_default(
        "log_max",
        "number",
        "10000",
        "events that are kept for readers who come back",
    ),
    Opt::with_default(
        "timeout_s",
        "number",
        "30",
        "seconds after which a reader that takes nothing is disconnected",
    ),
];

fn log_max() -> u64 {
    10_000
}

fn timeout_s() -> u64 {
    30
}

/// Keeps rows, and tells of them as they change.
#[derive(Debug)]
pub struct ServerSentEvents {
    file: File,
    listener: Listener,
    log_max: u64,
    gate: Arc<Gate>,
    timeout: Duration,
    /// Where the log ends.
    end: watch::Sender<u64>,
}

impl ServerSentEvents {
    /// A sink for these options. A relative folder is in `folder`. Nothing listens yet.
    ///
    /// # Errors
    /// The token is missing or too short, others than this machine would be served without one, the
    /// origin is none, or the folder cannot be used.
    pub fn open(options: Options, folder: &Path) -> Result<Self, SinkError> {
        let gate = Gate::new(&options)?;
        let now_ms = now_ms();
        let file = File::open(folder.join(&options.folder), move |txn| log::make(txn, now_ms))?;
        Ok(Self {
            file,
            listener: Listener::new(options.listen),
            log_max: options.log_max.max(1),
            gate: Arc::new(gate),
            timeout: Duration::from_secs(options.timeout_s.max(1)),
            end: watch::Sender::new(0),
        })
    }

    /// The address it listens at, once it does.
    pub async fn bound(&self) -> SocketAddr {
        self.listener.bound().await
    }

    async fn hand_over(&self, deliveries: &[Delivery]) -> Result<(), Fault> {
        let (some, now_ms, max) = (deliveries.to_vec(), now_ms(), self.log_max);
        let end = self.file.write(move |txn| log::take(txn, now_ms, max, &some)).await?;
        self.end.send_replace(end);
        Ok(())
    }
}

impl Sink for ServerSentEvents {
    fn batch(&self) -> usize {
        kept::BATCH
    }

    fn apply<'a>(&'a self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        async { vec![self.hand_over(deliveries).await; deliveries.len()] }.boxed()
    }

    fn scan<'a>(
        &'a self,
        name: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<Vec<Held>>, Fault>> {
        self.file.scan(name, after, limit)
    }

    fn addresses(&self) -> BoxFuture<'_, Result<Vec<Address>, Fault>> {
        let url = format!("http://{}/events", self.listener.known());
        async { Ok(vec![Address { name: "events".to_owned(), url, is_secret: false }]) }.boxed()
    }

    fn serve(&self) -> BoxFuture<'_, Result<(), Fault>> {
        let shared = Shared {
            file: self.file.clone(),
            gate: Arc::clone(&self.gate),
            timeout: self.timeout,
            end: self.end.clone(),
        };
        let router =
            Router::new().route("/events", get(events).options(preflight)).with_state(shared);
        self.listener.serve(router).boxed()
    }
}

/// Whether events can be served by these options.
pub(super) fn check(options: &Options) -> Result<(), SinkError> {
    Gate::new(options).map(drop)
}

/// Who may read.
#[derive(Debug)]
struct Gate {
    /// The hash of what readers show.
    token: Option<[u8; 32]>,
    origin: Option<HeaderValue>,
}

impl Gate {
    fn new(options: &Options) -> Result<Self, SinkError> {
        let wrong = |what: String| SinkError::Setup { what };
        let token = options.token.as_ref().map(|token| Ok((token, token.resolve()?)));
        let token = token.transpose().map_err(SinkError::Secret)?;
        match &token {
            None if !options.listen.ip().is_loopback() => {
                return Err(wrong(format!(
                    "{} can be reached by others, who would read everything; listen on \
                     127.0.0.1, or set token = \"env:NAME\"",
                    options.listen
                )));
            }
            Some((place, token)) if token.len() < TOKEN_BYTES_MIN => {
                return Err(wrong(format!(
                    "the token at {place:?} can be guessed; it has at least {TOKEN_BYTES_MIN} \
                     characters"
                )));
            }
            _ => {}
        }
        let origin = options.allow_origin.as_ref().map(|origin| {
            let site = origin.parse::<Uri>().ok();
            let is_site = site.is_some_and(|site| {
                matches!(site.scheme_str(), Some("http" | "https")) && site.path() == "/"
            });
            let value = HeaderValue::from_str(origin).ok();
            value.filter(|_| is_site && !origin.ends_with('/')).ok_or_else(|| {
                wrong(format!("allow_origin = {origin:?} is no site; write https://HOST"))
            })
        });
        let token = token.map(|(_, token)| Sha256::digest(token).into());
        Ok(Self { token, origin: origin.transpose()? })
    }

    /// What who may not read is told; `None` if they may.
    fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(token) = &self.token else {
            // A page whose name leads to this machine would be of the same origin as this.
            let host = header(HOST).and_then(|host| host.parse::<Authority>().ok());
            if host.is_some_and(|host| is_this_machine(host.host())) {
                return None;
            }
            let text = "without a token this serves only http://localhost and 127.0.0.1";
            return Some((StatusCode::FORBIDDEN, text).into_response());
        };
        let shown = header(AUTHORIZATION).and_then(|shown| shown.split_once(' '));
        let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // Of hashes, the time it takes to compare them tells nothing.
        if shown.is_some_and(|(_, shown)| Sha256::digest(shown.trim())[..] == token[..]) {
            return None;
        }
        Some((StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")]).into_response())
    }

    /// What lets pages of the site read.
    fn for_pages(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(origin) = &self.origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(VARY, HeaderValue::from_static("origin"));
        }
        headers
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// What every request has at hand.
#[derive(Debug, Clone)]
struct Shared {
    file: File,
    gate: Arc<Gate>,
    timeout: Duration,
    end: watch::Sender<u64>,
}

/// What a browser asks before it lets a page show a token.
async fn preflight(State(shared): State<Shared>) -> Response {
    let mut headers = shared.gate.for_pages();
    if !headers.is_empty() {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET"));
        let allowed = HeaderValue::from_static("authorization, cache-control, last-event-id");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Tells for as long as the reader listens.
async fn events(
    State(shared): State<Shared>,
    Extension(close): Extension<Close>,
    headers: HeaderMap,
) -> Response {
    let for_pages = shared.gate.for_pages();
    if let Some(refusal) = shared.gate.refusal(&headers) {
        return (for_pages, refusal).into_response();
    }
    let last = headers.get(LAST_EVENT_ID).filter(|last| !last.is_empty());
    // What is no number was never an event's.
    let last = last.map(|last| last.to_str().ok().and_then(|last| last.parse().ok()).unwrap_or(0));
    let (to, chunks) = mpsc::channel::<Bytes>(1);
    let reader =
        Reader { file: shared.file, end: shared.end.subscribe(), to, timeout: shared.timeout };
    tokio::spawn(async move {
        match reader.tell(last).await {
            Ended::Left => debug!("a reader is gone"),
            Ended::Kept(error) => {
                error!(error = &error as &dyn std::error::Error, "a reader was told no more");
            }
            ended @ (Ended::Stuck | Ended::Behind) => {
                info!(%ended, "a reader was disconnected");
                close.0.notify_one();
            }
        }
    });
    let chunks = stream::unfold(chunks, async |mut chunks| {
        let chunk = chunks.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), chunks))
    });
    let about = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        // Some proxies collect what they pass on.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (for_pages, about, Body::from_stream(chunks)).into_response()
}

/// What a reader that comes back says it had last.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Characters of a token.
const TOKEN_BYTES_MIN: usize = 24;
