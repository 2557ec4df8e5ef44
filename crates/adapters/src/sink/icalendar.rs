//! Appointments as calendars that people subscribe to ([RFC 5545](https://www.rfc-editor.org/rfc/rfc5545)):
//! one for every technician, team or whatever else a field of the rows says.
//!
//! Subscribers ask when they please, some only a few times a day, and nobody can make them ask
//! sooner. So a calendar tells of what will be, and nothing that has to be known at once.

mod event;
mod store;
mod text;
mod zone;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{self, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LAST_MODIFIED, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono_tz::Tz;
use data_encoding::BASE32_NOPAD;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tracing::{error, info};

use super::kept::{self, File};
use super::{Address, Held, Sink, SinkError};
use crate::clock::now_ms;
use crate::delivery::{Delivery, Fault};
use crate::listener::Listener;
use crate::option::Opt;
use crate::secret::SecretRef;
use event::Appointment;

/// How an [`Icalendar`] is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder the appointments are kept in.
    pub folder: PathBuf,
    /// The address where calendars are served over HTTP, `ADDRESS:PORT`. A reverse proxy before it
    /// does TLS.
    pub listen: SocketAddr,
    /// What the secret part of each calendar's address is made with. Who changes it changes all
    /// addresses.
    pub secret: SecretRef,
    /// The field that says in whose calendar a row is: a name, or a list of names. `technician` if
    /// that is not said.
    #[serde(default = "feed")]
    pub feed: String,
    /// The fields that an appointment is made of.
    #[serde(default)]
    pub fields: Fields,
    /// The states in which an appointment does not take place.
    #[serde(default = "cancelled")]
    pub cancelled: Vec<String>,
    /// The states in which it is not certain yet.
    #[serde(default = "tentative")]
    pub tentative: Vec<String>,
    /// What subscribers see before the name of whose calendar it is.
    pub name: Option<String>,
    /// The time zone that times are given in, as `Europe/Berlin`; UTC if that is not said. Times
    /// without a zone are read by it too, unless the schema names one.
    pub timezone: Option<Tz>,
}

/// The options, for people.
pub(super) const OPTIONS: &[Opt] = &[
    Opt::required("folder", "path", "\"calendars\"", "the folder the appointments are kept in"),
    Opt::required(
        "listen",
        "address",
        "\"127.0.0.1:4480\"",
        "where calendars are served over HTTP; a reverse proxy before it does TLS",
    ),
    Opt::required(
        "secret",
        "secret",
        "\"env:CALENDAR_SECRET\"",
        "what the secret part of addresses is made with, at least 24 characters; another makes other addresses",
    ),
    Opt::with_default(
        "feed",
        "text",
        "\"technician\"",
        "the field that says in whose calendar a row is: a name, or a list of names",
    ),
    Opt::with_default(
        "fields.start",
        "text",
        "\"start\"",
        "the field with its start: a time, or a date for a whole day",
    ),
    Opt::with_default(
        "fields.end",
        "text",
        "\"end\"",
        "the field with its end; a date is the last day",
    ),
    Opt::with_default("fields.summary", "text", "\"summary\"", "the field with what it is called"),
    Opt::with_default(
        "fields.description",
        "text",
        "\"description\"",
        "the field with what else there is to say",
    ),
    Opt::with_default("fields.location", "text", "\"location\"", "the field with where it is"),
    Opt::with_default("fields.status", "text", "\"status\"", "the field with its state"),
    Opt::with_default(
        "cancelled",
        "list of texts",
        "[\"cancelled\"]",
        "the states in which it does not take place",
    ),
    Opt::with_default(
        "tentative",
        "list of texts",
        "[\"tentative\"]",
        "the states in which it is not certain yet",
    ),
    Opt::optional(
        "name",
        "text",
        "\"Visits\"",
        "what subscribers see before the name of whose calendar it is",
    ),
    Opt::optional(
        "timezone",
        "text",
        "\"Europe/Madrid\"",
        "the zone that times are given in, and by which those without one are read unless the schema names another; UTC unless it is said",
    ),
];

/// The fields that an appointment is made of, by their outside names. A row need not have any of
/// them; without a start it is in no calendar.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fields {
    /// When it begins: a time as RFC 3339 spells it, which may lack the zone, a date for a whole day, or
    /// milliseconds since 1970.
    pub start: String,
    /// When it ends, in the same way; a date is the last day.
    pub end: String,
    /// What it is called.
    pub summary: String,
    /// What else there is to say.
    pub description: String,
    /// Where it is.
    pub location: String,
    /// Its state, for [`Options::cancelled`] and [`Options::tentative`].
    pub status: String,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            start: "start".to_owned(),
            end: "end".to_owned(),
            summary: "summary".to_owned(),
            description: "description".to_owned(),
            location: "location".to_owned(),
            status: "status".to_owned(),
        }
    }
}

fn feed() -> String {
    "technician".to_owned()
}

fn cancelled() -> Vec<String> {
    vec!["cancelled".to_owned()]
}

fn tentative() -> Vec<String> {
    vec!["tentative".to_owned()]
}

/// Keeps appointments, and serves them as calendars.
#[derive(Debug)]
pub struct Icalendar {
    options: Arc<Options>,
    key: Key,
    file: File,
    listener: Listener,
}

/// What addresses are made with. Never shown.
#[derive(Clone)]
struct Key(Arc<str>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Icalendar {
    /// A sink for these options. A relative folder is in `folder`. Nothing listens yet.
    ///
    /// # Errors
    /// The secret is missing or too short, or the folder cannot be used.
    pub fn open(options: Options, folder: &Path) -> Result<Self, SinkError> {
        Ok(Self {
            key: secret(&options)?,
            file: File::open(folder.join(&options.folder), store::make)?,
            listener: Listener::new(options.listen),
            options: Arc::new(options),
        })
    }

    /// Where a calendar is, below the address: who knows this may read it.
    pub fn path(&self, feed: &str) -> String {
        path(&self.key.0, feed)
    }

    /// The names of the calendars there are, in ascending order.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn feeds(&self) -> Result<Vec<String>, Fault> {
        Ok(self.file.read(store::feeds).await?)
    }

    /// The address it listens at, once it does.
    pub async fn bound(&self) -> SocketAddr {
        self.listener.bound().await
    }

    async fn hand_over(&self, deliveries: &[Delivery]) -> Vec<Result<(), Fault>> {
        let made: Vec<_> = deliveries.iter().map(|it| event::made(it, &self.options)).collect();
        let taken: Vec<(Delivery, Appointment)> = deliveries
            .iter()
            .zip(&made)
            .filter_map(|(delivery, made)| Some((delivery.clone(), made.clone().ok()?)))
            .collect();
        let now_ms = now_ms();
        let written = self.file.write(move |txn| store::take(txn, now_ms, &taken)).await;
        if let Ok(new) = &written {
            new.iter().for_each(|feed| info!(feed, "there is a new calendar"));
        }
        let written = written.map(drop).map_err(Fault::from);
        made.into_iter().map(|made| made.and_then(|_| written.clone())).collect()
    }
}

impl Sink for Icalendar {
    fn batch(&self) -> usize {
        kept::BATCH
    }

    fn apply<'a>(&'a self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        self.hand_over(deliveries).boxed()
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
        async {
            let at = self.listener.known();
            let address = |name: String| {
                let url = format!("http://{at}{}", self.path(&name));
                Address { name, url, is_secret: true }
            };
            Ok(self.feeds().await?.into_iter().map(address).collect())
        }
        .boxed()
    }

    fn serve(&self) -> BoxFuture<'_, Result<(), Fault>> {
        async {
            let shared = Shared {
                options: Arc::clone(&self.options),
                key: self.key.clone(),
                file: self.file.clone(),
            };
            let router =
                Router::new().route("/calendars/{token}/{file}", get(calendar)).with_state(shared);
            let feeds = self.feeds().await?.join(", ");
            info!(feeds, "these calendars are served");
            self.listener.serve(router).await
        }
        .boxed()
    }
}

/// Whether calendars can be served by these options.
pub(super) fn check(options: &Options) -> Result<(), SinkError> {
    secret(options).map(drop)
}

fn secret(options: &Options) -> Result<Key, SinkError> {
    let secret = options.secret.resolve()?;
    if secret.len() < SECRET_BYTES_MIN {
        return Err(SinkError::Setup {
            what: format!(
                "the secret at {:?} can be guessed; it has at least {SECRET_BYTES_MIN} characters",
                options.secret
            ),
        });
    }
    Ok(Key(secret.into()))
}

/// Where a calendar is: `/calendars/TOKEN/FEED.ics`. Every calendar has a token of its own, which
/// tells nothing of the others'.
pub fn path(secret: &str, feed: &str) -> String {
    let token = BASE32_NOPAD.encode(&mac(secret, feed).finalize().into_bytes()).to_lowercase();
    format!("/calendars/{token}/{}.ics", utf8_percent_encode(feed, ENCODED))
}

fn mac(secret: &str, feed: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(secret.as_bytes()).expect("a key may have any length");
    mac.update(feed.as_bytes());
    mac
}

/// What every request has at hand.
#[derive(Debug, Clone)]
struct Shared {
    options: Arc<Options>,
    key: Key,
    file: File,
}

/// Answers with a calendar. What is absent and what one may not see look the same.
async fn calendar(
    State(Shared { options, key, file }): State<Shared>,
    path: Result<extract::Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    let Ok(extract::Path((token, name))) = path else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let feed = name.strip_suffix(".ics").filter(|feed| is_token(&token, &key, feed));
    let Some(feed) = feed.map(str::to_owned) else { return StatusCode::NOT_FOUND.into_response() };
    let of = feed.clone();
    let events = match file.read(move |txn| store::events(txn, &of, now_ms())).await {
        Ok(Some(events)) => events,
        Ok(None) => return StatusCode::NOT_FOUND.into_response(),
        Err(fault) => {
            error!(error = &fault as &dyn std::error::Error, feed, "a calendar cannot be read");
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    };
    let title = match &options.name {
        Some(name) => format!("{name}: {feed}"),
        None => feed,
    };
    let body = text::calendar(&title, options.timezone, &events);
    let etag = format!("\"{}\"", BASE32_NOPAD.encode(&Sha256::digest(&body)).to_lowercase());
    let changed_ms = events.iter().map(|event| event.changed_ms).max().unwrap_or_default();
    let changed = UNIX_EPOCH + Duration::from_millis(changed_ms.min(event::TIME_MS_MAX));
    let about = [
        (ETAG, etag.clone()),
        (LAST_MODIFIED, httpdate::fmt_http_date(changed)),
        (CACHE_CONTROL, format!("private, max-age={}", FRESH.as_secs())),
        (CONTENT_TYPE, "text/calendar; charset=utf-8".to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    if is_known(&headers, &etag) {
        (StatusCode::NOT_MODIFIED, about).into_response()
    } else {
        (about, body).into_response()
    }
}

fn is_token(token: &str, key: &Key, feed: &str) -> bool {
    let token = BASE32_NOPAD.decode(token.to_uppercase().as_bytes());
    token.is_ok_and(|token| mac(&key.0, feed).verify_slice(&token).is_ok())
}

/// Whether who asks has this state of the calendar already.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).into_iter().filter_map(|known| known.to_str().ok());
    known.flat_map(|known| known.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag
    })
}

/// How long a calendar is fresh: subscribers that listen to it ask no sooner.
const FRESH: Duration = Duration::from_mins(5);

/// Characters of a secret. Who has one calendar's address could guess at a shorter one at leisure.
const SECRET_BYTES_MIN: usize = 24;

/// What stands for something else in addresses and identifiers.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
