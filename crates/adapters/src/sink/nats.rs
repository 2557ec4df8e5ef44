//! Deliveries as messages in a stream of [NATS JetStream](https://docs.nats.io/nats-concepts/jetstream).
//!
//! ```toml
//! [adapter.board.sink]
//! kind = "nats"
//! url = "tls://nats.example:4222"
//! subject = "rejoin.{name}.{key}"
//! user = "rejoin"
//! password = "env:NATS_PASSWORD"
//! ```
//!
//! A message counts as delivered when the server says that a stream has it. There must be such a
//! stream: whoever runs the server decides what it keeps and for how long. Its header `Nats-Msg-Id`
//! is the delivery's key, by which the stream knows what it has already, for as long as its
//! `duplicate_window` says.
//!
//! In the subject, `{name}` and `{key}` of the record are one word each: letters, digits, `-` and
//! `_` stand for themselves, other bytes as `%` and two hexadecimal digits.

mod check;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{ConnectErrorKind, ConnectOptions, Event, HeaderMap, HeaderValue, ServerAddr};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout_at};

use super::route::{BATCH, Route, TIMEOUT_S, check_address, timeout_s, word};
use super::{Found, Sink, SinkError, tls};
use crate::delivery::{Delivery, Fault};
use crate::mapping::Mapping;
use crate::option::Opt;
use crate::secret::{SecretError, SecretRef};

/// How a [`Nats`] is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The server, `nats://HOST:PORT`, or `tls://HOST:PORT` if nothing may go unencrypted.
    pub url: String,
    /// The subject, with `{name}` and `{key}` of the record; `rejoin.{name}` if that is not said.
    #[serde(default = "subject")]
    pub subject: String,
    /// Who to sign in as.
    pub user: Option<String>,
    /// The password of `user`.
    pub password: Option<SecretRef>,
    /// What to sign in with instead of `user` and `password`.
    pub token: Option<SecretRef>,
    /// A certificate, PEM, of whoever vouches for the server besides the well-known ones.
    pub root_certificate: Option<PathBuf>,
    /// Seconds the server has to take deliveries; 20 if that is not said.
    #[serde(default = "timeout_s")]
    pub timeout_s: u64,
}

/// The options, for people.
pub(super) const OPTIONS: &[Opt] = &[
    Opt::required(
        "url",
        "address",
        "\"nats://127.0.0.1:4222\"",
        "the server, or `tls://HOST:PORT` if nothing may go unencrypted",
    ),
    Opt::with_default(
        "subject",
        "template",
        "\"rejoin.{name}\"",
        "the subject, with `{name}` and `{key}` of the record",
    ),
    Opt::optional("user", "text", "\"rejoin\"", "who to sign in as"),
    Opt::optional("password", "secret", "\"env:NATS_PASSWORD\"", "the password of `user`"),
    Opt::optional("token", "secret", "\"env:NATS_TOKEN\"", "what to sign in with instead of those"),
    Opt::optional(
        "root_certificate",
        "path",
        "\"root.pem\"",
        "a certificate, PEM, of whoever vouches for the server besides the well-known ones",
    ),
    TIMEOUT_S,
];

fn subject() -> String {
    "rejoin.{name}".to_owned()
}

/// Publishes to JetStream. It connects when there is something to deliver, and again after it lost
/// the server.
#[derive(Debug)]
pub struct Nats {
    server: ServerAddr,
    sign_in: SignIn,
    subject: Route,
    timeout: Duration,
    tls: rustls::ClientConfig,
    line: Mutex<Option<Arc<Line>>>,
}

/// Secrets are looked up whenever it connects, so that one can be changed without a pause.
#[derive(Debug)]
enum SignIn {
    Nobody,
    User { user: String, password: SecretRef },
    Token(SecretRef),
}

/// A connection, until it breaks.
#[derive(Debug)]
struct Line {
    context: Context,
    seen: watch::Receiver<Seen>,
}

/// What the server did besides answering.
#[derive(Debug, Default)]
struct Seen {
    is_gone: bool,
    has_forbidden: bool,
}

impl Nats {
    /// A sink for these options. Relative files are in `folder`.
    ///
    /// # Errors
    /// The address or the subject is none, a secret is missing, or the certificate cannot be read.
    pub fn open(options: Options, folder: &Path) -> Result<Self, SinkError> {
        let wrong = |what: String| SinkError::Setup { what };
        check_address(&options.url, ["nats", "tls"])?;
        let server = options.url.parse().map_err(|error| wrong(format!("the url: {error}")))?;
        let subject = Route::parse(&options.subject)?;
        let sign_in = match (options.user, options.password, options.token) {
            (None, None, None) => SignIn::Nobody,
            (Some(user), Some(password), None) => SignIn::User { user, password },
            (None, None, Some(token)) => SignIn::Token(token),
            _ => return Err(wrong("set both `user` and `password`, or only `token`".to_owned())),
        };
        if let SignIn::User { password: secret, .. } | SignIn::Token(secret) = &sign_in {
            secret.resolve()?;
        }
        Ok(Self {
            server,
            sign_in,
            subject,
            timeout: Duration::from_secs(options.timeout_s.max(1)),
            tls: tls::client(options.root_certificate.map(|it| folder.join(it)))?,
            line: Mutex::default(),
        })
    }

    async fn apply_all(&self, deliveries: &[Delivery]) -> Vec<Result<(), Fault>> {
        let deadline = Instant::now() + self.timeout;
        let line = match timeout_at(deadline, self.line()).await {
            Ok(Ok(line)) => line,
            Ok(Err(fault)) => return vec![Err(fault); deliveries.len()],
            Err(_) => return vec![Err(Fault::trouble(SILENT)); deliveries.len()],
        };
        let mut sent = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let publish = timeout_at(deadline, self.publish(&line, delivery)).await;
            sent.push(publish.unwrap_or_else(|_| Err(silent())));
        }
        let mut outcomes = Vec::with_capacity(deliveries.len());
        for (delivery, sent) in deliveries.iter().zip(sent) {
            outcomes.push(match sent {
                Ok(answer) => self.confirmed(&line, delivery, answer, deadline).await,
                Err(fault) => Err(fault),
            });
        }
        outcomes
    }

    /// The connection, made if there is none that works.
    async fn line(&self) -> Result<Arc<Line>, Fault> {
        let mut line = self.line.lock().await;
        if let Some(line) = line.as_ref().filter(|line| line.works()) {
            return Ok(Arc::clone(line));
        }
        *line = None;
        let made = Arc::new(self.connect().await?);
        *line = Some(Arc::clone(&made));
        Ok(made)
    }

    async fn connect(&self) -> Result<Line, Fault> {
        let (seeing, seen) = watch::channel(Seen::default());
        let mut options = ConnectOptions::new()
            .name("rejoin")
            .tls_client_config(self.tls.clone())
            .require_tls(self.server.tls_required())
            .connection_timeout(self.timeout)
            .ignore_discovered_servers()
            // It connects anew by itself; whatever was under way is lost then, and known to be.
            .max_reconnects(1)
            .event_callback(move |event| {
                seeing.send_modify(|seen| seen.note(&event));
                async {}
            });
        let missing = |error: SecretError| Fault::trouble(error.to_string());
        match &self.sign_in {
            SignIn::Nobody => {}
            SignIn::User { user, password } => {
                let password = password.resolve().map_err(missing)?;
                options = options.user_and_password(user.clone(), password);
            }
            SignIn::Token(token) => options = options.token(token.resolve().map_err(missing)?),
        }
        let client = options.connect(self.server.clone()).await.map_err(|error| {
            Fault::trouble(match error.kind() {
                ConnectErrorKind::AuthorizationViolation => {
                    "the server does not let us in; look at `user` and `password`, or `token`"
                        .to_owned()
                }
                ConnectErrorKind::TimedOut => SILENT.to_owned(),
                _ => format!("the server cannot be reached: {error}"),
            })
        })?;
        let mut context = jetstream::new(client);
        context.set_timeout(self.timeout);
        Ok(Line { context, seen })
    }

    async fn publish(&self, line: &Line, delivery: &Delivery) -> Result<PublishAckFuture, Fault> {
        let subject = self.subject.fill(&delivery.record, word);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Nats-Msg-Id", delivery.key.0.as_str()),
            ("correlation-id", &delivery.correlation),
            ("content-type", "application/json"),
        ] {
            let value: HeaderValue = value
                .parse()
                .map_err(|error| Fault::permanent(format!("the header {name}: {error}")))?;
            headers.insert(name, value);
        }
        let body = delivery.to_json().to_string();
        let sent = line.context.publish_with_headers(subject, headers, body.into()).await;
        sent.map_err(|error| self.refused(line, delivery, &error))
    }

    async fn confirmed(
        &self,
        line: &Line,
        delivery: &Delivery,
        answer: PublishAckFuture,
        deadline: Instant,
    ) -> Result<(), Fault> {
        let mut seen = line.seen.clone();
        tokio::select! {
            // What was answered before it broke is known.
            biased;
            answer = timeout_at(deadline, answer.into_future()) => match answer {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(self.refused(line, delivery, &error)),
                Err(_) => Err(line.silent()),
            },
            _ = seen.wait_for(|seen| seen.is_gone) => Err(Fault::trouble(GONE)),
        }
    }

    /// What it means that a message was not taken.
    fn refused(&self, line: &Line, delivery: &Delivery, error: &PublishError) -> Fault {
        match error.kind() {
            // Also what a server says whose stream is still starting.
            PublishErrorKind::StreamNotFound => {
                let subject = self.subject.shown(&delivery.record, word);
                Fault::trouble_of_kind(format!(
                    "no stream takes {subject:?}; create one: `nats stream add` with that subject"
                ))
            }
            PublishErrorKind::TimedOut => line.silent(),
            PublishErrorKind::BrokenPipe => Fault::trouble(GONE),
            PublishErrorKind::MaxPayloadExceeded => {
                Fault::permanent("it is larger than the server's `max_payload`")
            }
            kind => match said(error) {
                Some(said) if TOO_LARGE.contains(&said.error_code()) => {
                    Fault::permanent(format!("the stream does not take it: {said}"))
                }
                Some(said) => Fault::transient(format!("the stream does not take it: {said}")),
                None => Fault::transient(format!("it cannot be published: {kind}")),
            },
        }
    }
}

impl Line {
    fn works(&self) -> bool {
        let is_connected = self.context.client().connection_state() == State::Connected;
        is_connected && !self.seen.borrow().is_gone
    }

    /// Nothing came back.
    fn silent(&self) -> Fault {
        if self.seen.borrow().has_forbidden {
            return Fault::trouble_of_kind(
                "the server does not let us publish to the subject; permit it to the user",
            );
        }
        silent()
    }
}

impl Seen {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed => self.is_gone = true,
            Event::ServerError(error) => {
                let said = error.to_string().to_lowercase();
                self.has_forbidden |= said.contains("permissions violation");
            }
            _ => {}
        }
    }
}

impl Sink for Nats {
    fn batch(&self) -> usize {
        BATCH
    }

    fn apply<'a>(&'a self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        self.apply_all(deliveries).boxed()
    }

    fn check<'a>(&'a self, mapping: &'a Mapping, _send: bool) -> BoxFuture<'a, Vec<Found>> {
        self.look(mapping).boxed()
    }
}

fn silent() -> Fault {
    Fault::transient(SILENT)
}

/// What the server itself said about a message.
fn said(error: &PublishError) -> Option<&jetstream::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

const SILENT: &str = "the server did not answer in time";

const GONE: &str = "the connection to the server broke";

/// What will be too large tomorrow, too.
const TOO_LARGE: [ErrorCode; 2] =
    [ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM, ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM];
