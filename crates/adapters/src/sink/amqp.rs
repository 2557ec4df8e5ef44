//! Deliveries as messages to an exchange of [RabbitMQ](https://www.rabbitmq.com), or whatever else
//! speaks AMQP 0-9-1 and confirms what it is given.
//!
//! ```toml
//! [adapter.board.sink]
//! kind = "amqp"
//! url = "amqps://rabbit.example/board"
//! user = "rejoin"
//! password = "env:RABBIT_PASSWORD"
//! exchange = "rejoin"
//! routing_key = "{name}.{key}"
//! ```
//!
//! A message counts as delivered when the server confirms that its queues have it; the queues that
//! are durable keep it over a restart. What no queue takes comes back, and counts as refused.
//! AMQP knows no repetition: after a lost confirmation a message is there twice, with the same
//! `message_id`, the delivery's key.
//!
//! In the routing key, `{name}` and `{key}` of the record are one word each: letters, digits, `-`
//! and `_` stand for themselves, other bytes as `%` and two hexadecimal digits.

mod check;

use std::collections::BTreeSet;
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::{Mutex as Lock, PoisonError};
use std::time::Duration;

use async_compat::Compat;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::tcp::RustlsConnector;
use lapin::types::ShortString;
use lapin::uri::{AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{
    AsyncTcpStream, BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    ErrorKind, PublisherConfirm,
};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::route::{BATCH, Route, TIMEOUT_S, check_address, timeout_s, word};
use super::{Found, Sink, SinkError, tls};
use crate::delivery::{Delivery, Fault};
use crate::mapping::Mapping;
use crate::option::Opt;
use crate::secret::SecretRef;

/// How an [`Amqp`] is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The server and the virtual host, `amqp://HOST:PORT/VHOST`, or `amqps` if nothing may go
    /// unencrypted. Without `/VHOST` it is the one called `/`.
    pub url: String,
    /// Who to sign in as.
    pub user: String,
    /// The password of `user`.
    pub password: SecretRef,
    /// The exchange. If that is not said, messages go to the queue that the routing key names.
    #[serde(default)]
    pub exchange: String,
    /// The routing key, with `{name}` and `{key}` of the record; `rejoin.{name}` if that is not
    /// said.
    #[serde(default = "routing_key")]
    pub routing_key: String,
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
        "\"amqp://127.0.0.1:5672\"",
        "the server and the virtual host, `amqp://HOST:PORT/VHOST`, or `amqps` if nothing may go unencrypted",
    ),
    Opt::required("user", "text", "\"rejoin\"", "who to sign in as"),
    Opt::required("password", "secret", "\"env:RABBIT_PASSWORD\"", "the password of `user`"),
    Opt::with_default(
        "exchange",
        "text",
        "\"\"",
        "the exchange; without one, messages go to the queue that the routing key names",
    ),
    Opt::with_default(
        "routing_key",
        "template",
        "\"rejoin.{name}\"",
        "the routing key, with `{name}` and `{key}` of the record",
    ),
    Opt::optional(
        "root_certificate",
        "path",
        "\"root.pem\"",
        "a certificate, PEM, of whoever vouches for the server besides the well-known ones",
    ),
    TIMEOUT_S,
];

fn routing_key() -> String {
    "rejoin.{name}".to_owned()
}

/// Publishes with confirmations. It connects when there is something to deliver, and again after
/// it lost the server.
pub struct Amqp {
    /// Without the password, which is looked up whenever it connects, so that it can be changed
    /// without a pause.
    uri: AMQPUri,
    user: String,
    password: SecretRef,
    exchange: ShortString,
    routing_key: Route,
    timeout: Duration,
    tls: RustlsConnector,
    /// Taken out while it is used: what is dropped half-way is not used again.
    line: Mutex<Option<Line>>,
}

/// A connection, until it breaks.
struct Line {
    connection: Connection,
    channel: Channel,
    socket: Socket,
}

/// Breaks a connection when it is dropped: the client waits for an answer for ever, in a thread of
/// its own.
struct Socket {
    stream: std::net::TcpStream,
    is_fine: bool,
}

/// What came of a delivery.
enum Outcome {
    Confirmed,
    Refused(Fault),
    /// The channel or the connection broke before it was confirmed.
    Unknown(Fault),
    /// The channel broke, as there is no such exchange.
    Missing(Fault),
}

impl std::fmt::Debug for Amqp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Amqp").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.is_fine {
            // It may be closed already.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

impl Amqp {
    /// A sink for these options. Relative files are in `folder`.
    ///
    /// # Errors
    /// The address, the exchange or the routing key is none, a secret is missing, or the
    /// certificate cannot be read.
    pub fn open(options: Options, folder: &Path) -> Result<Self, SinkError> {
        let wrong = |what: String| SinkError::Setup { what };
        check_address(&options.url, ["amqp", "amqps"])?;
        let mut uri: AMQPUri =
            options.url.parse().map_err(|error| wrong(format!("the url: {error}")))?;
        if uri.vhost.is_empty() {
            uri.vhost = "/".to_owned();
        }
        let exchange = ShortString::try_new(options.exchange)
            .map_err(|_| wrong(format!("the name of the exchange is {TOO_LONG}")))?;
        let routing_key = Route::parse(&options.routing_key)?;
        options.password.resolve()?;
        let tls = tls::client(options.root_certificate.map(|it| folder.join(it)));
        Ok(Self {
            uri,
            user: options.user,
            password: options.password,
            exchange,
            routing_key,
            timeout: Duration::from_secs(options.timeout_s.max(1)),
            tls: tls?.into(),
            line: Mutex::default(),
        })
    }

    async fn apply_all(&self, deliveries: &[Delivery]) -> Vec<Result<(), Fault>> {
        let deadline = Instant::now() + self.timeout;
        let Ok(mut kept) = timeout_at(deadline, self.line.lock()).await else {
            return vec![Err(silent()); deliveries.len()];
        };
        let line = match kept.take().filter(Line::works) {
            Some(line) => line,
            None => match timeout_at(deadline, self.connect()).await {
                Ok(Ok(line)) => line,
                Ok(Err(fault)) => return vec![Err(fault); deliveries.len()],
                Err(_) => return vec![Err(Fault::trouble(silent().what)); deliveries.len()],
            },
        };
        let outcomes = self.publish_all(&line, deliveries, deadline).await;
        let is_broken = |it: &Outcome| matches!(it, Outcome::Missing(_) | Outcome::Unknown(_));
        if !outcomes.iter().any(is_broken) {
            *kept = Some(line);
        } else {
            line.cut();
        }
        outcomes.into_iter().map(Outcome::into_answer).collect()
    }

    async fn connect(&self) -> Result<Line, Fault> {
        let password =
            self.password.resolve().map_err(|error| Fault::trouble(error.to_string()))?;
        let mut uri = self.uri.clone();
        uri.authority.userinfo = AMQPUserInfo { username: self.user.clone(), password };
        let (stream, mut socket) = self
            .dial()
            .await
            .map_err(|error| Fault::trouble(format!("the server cannot be reached: {error}")))?;
        let stream = Lock::new(Some(stream));
        let hand_over = async move |_, _| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
        };
        let signed_in = async {
            let runtime = lapin::runtime::default_runtime()?;
            let properties = ConnectionProperties::default().with_connection_name("rejoin".into());
            let connection = Connection::connector(uri, runtime, hand_over, properties).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<_, lapin::Error>((connection, channel))
        };
        let (connection, channel) = signed_in.await.map_err(|error| {
            Fault::trouble(match code(&error) {
                Some(403) => {
                    "the server does not let us in; look at `user` and `password`, and at what \
                     the user may do in the virtual host"
                        .to_owned()
                }
                _ => format!("the server does not let us in: {error}"),
            })
        })?;
        socket.is_fine = true;
        Ok(Line { connection, channel, socket })
    }

    /// A connection, encrypted if it shall be, and what breaks it.
    async fn dial(&self) -> std::io::Result<(AsyncTcpStream<Compat<TcpStream>>, Socket)> {
        let authority = &self.uri.authority;
        let host = authority.host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, authority.port)).await?.into_std()?;
        let socket = Socket { stream: stream.try_clone()?, is_fine: false };
        let stream = AsyncTcpStream::Plain(Compat::new(TcpStream::from_std(stream)?));
        let stream = match self.uri.scheme {
            AMQPScheme::AMQP => stream,
            AMQPScheme::AMQPS => stream.into_rustls(&self.tls, host).await?,
        };
        Ok((stream, socket))
    }

    async fn publish_all(
        &self,
        line: &Line,
        deliveries: &[Delivery],
        deadline: Instant,
    ) -> Vec<Outcome> {
        let mut sent = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let publish = timeout_at(deadline, self.publish(line, delivery)).await;
            sent.push(publish.unwrap_or_else(|_| Err(Outcome::Unknown(silent()))));
        }
        let mut outcomes = Vec::with_capacity(deliveries.len());
        let mut returned = BTreeSet::new();
        for sent in sent {
            outcomes.push(match sent {
                Ok(confirm) => match timeout_at(deadline, confirm).await {
                    Ok(Ok(confirmation)) => {
                        let is_nack = confirmation.is_nack();
                        returned.extend(message_id(confirmation));
                        if is_nack { Outcome::Refused(nack()) } else { Outcome::Confirmed }
                    }
                    Ok(Err(error)) => self.broken(&error),
                    Err(_) => Outcome::Unknown(silent()),
                },
                Err(outcome) => outcome,
            });
        }
        // A server that confirms several at once does not say which of them came back.
        for (delivery, outcome) in deliveries.iter().zip(&mut outcomes) {
            if returned.contains(&delivery.key.0) {
                let key = self.routing_key.shown(&delivery.record, word);
                *outcome = Outcome::Refused(Fault::trouble_of_kind(format!(
                    "no queue takes what goes to the exchange {:?} with the routing key {key:?}; \
                     bind one",
                    self.exchange.as_str()
                )));
            }
        }
        // All of them went to the exchange that is not there.
        let missing = outcomes.iter().find_map(Outcome::missing).cloned();
        if let Some(missing) = missing {
            for outcome in &mut outcomes {
                if let Outcome::Unknown(fault) = outcome {
                    *fault = missing.clone();
                }
            }
        }
        outcomes
    }

    async fn publish(&self, line: &Line, delivery: &Delivery) -> Result<PublisherConfirm, Outcome> {
        let body = delivery.to_json();
        let op = body["op"].as_str().unwrap_or_default();
        let short = |what: &str, text: String| {
            ShortString::try_new(text).map_err(|_| {
                Outcome::Refused(Fault::permanent(format!(
                    "the {what} of the message is {TOO_LONG}"
                )))
            })
        };
        let routing_key = short("routing key", self.routing_key.fill(&delivery.record, word))?;
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(short("id", delivery.key.0.clone())?)
            .with_correlation_id(short("correlation", delivery.correlation.clone())?)
            .with_type(short("type", format!("{}.{op}", delivery.record.name))?)
            .with_content_type("application/json".into())
            .with_timestamp(delivery.enqueued_ms / 1000);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let body = body.to_string();
        let exchange = self.exchange.clone();
        line.channel
            .basic_publish(exchange, routing_key, options, body.as_bytes(), properties)
            .await
            .map_err(|error| self.broken(&error))
    }

    /// What it means that the channel or the connection broke.
    fn broken(&self, error: &lapin::Error) -> Outcome {
        let exchange = self.exchange.as_str();
        match code(error) {
            Some(404) => Outcome::Missing(Fault::trouble(format!(
                "there is no exchange {exchange:?}; declare it, or change `exchange`"
            ))),
            Some(403) => Outcome::Unknown(Fault::trouble(format!(
                "the server does not let us publish to the exchange {exchange:?}; permit it to \
                 the user"
            ))),
            // It was something about a message, or the server was ended.
            Some(code) if code != CONNECTION_FORCED => {
                Outcome::Unknown(Fault::transient(format!("the server broke it off: {error}")))
            }
            _ => Outcome::Unknown(Fault::trouble(format!(
                "the connection to the server broke: {error}"
            ))),
        }
    }
}

impl Line {
    fn works(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    fn cut(mut self) {
        self.socket.is_fine = false;
    }
}

impl Outcome {
    fn into_answer(self) -> Result<(), Fault> {
        match self {
            Self::Confirmed => Ok(()),
            Self::Refused(fault) | Self::Missing(fault) | Self::Unknown(fault) => Err(fault),
        }
    }

    fn missing(&self) -> Option<&Fault> {
        match self {
            Self::Missing(fault) => Some(fault),
            _ => None,
        }
    }
}

impl Sink for Amqp {
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

/// What the server called the trouble.
fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// Which message came back with a confirmation.
fn message_id(confirmation: Confirmation) -> Option<String> {
    let message = confirmation.take_message()?;
    message.properties.message_id().as_ref().map(ToString::to_string)
}

fn nack() -> Fault {
    Fault::transient("the server could not keep the message; its log says why")
}

fn silent() -> Fault {
    Fault::transient("the server did not answer in time")
}

/// A message that outlives the server's process.
const PERSISTENT: u8 = 2;

/// What a server says that somebody ends.
const CONNECTION_FORCED: u16 = 320;

const TOO_LONG: &str = "longer than 255 bytes, which AMQP does not allow; shorten it";
