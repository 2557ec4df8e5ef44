//! Deliveries as HTTP requests, signed as [Standard Webhooks](https://www.standardwebhooks.com)
//! says, each the envelope of a [CloudEvent](https://cloudevents.io).

mod address;
mod answer;
mod check;

use std::collections::BTreeSet;
use std::error::Error;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Found, Sink, SinkError, tls};
use crate::delivery::{Action, Delivery, Fault};
use crate::mapping::Mapping;
use crate::option::Opt;
use crate::secret::SecretRef;
use address::{Guarded, NotPublic, is_public};

/// How a [`Webhook`] is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Where requests go, `https://HOST/PATH`.
    pub url: String,
    /// What they are signed with: `whsec_` and base64. With several, receivers may take any of
    /// them, so that one can be changed without a pause.
    pub secrets: Vec<SecretRef>,
    /// Seconds a target has to answer; 20 if that is not said.
    #[serde(default = "timeout_s")]
    pub timeout_s: u64,
    /// Hosts that may have addresses which are not public.
    #[serde(default)]
    pub allow_hosts: BTreeSet<String>,
    /// A certificate, PEM, of whoever vouches for the target besides the well-known ones.
    pub root_certificate: Option<std::path::PathBuf>,
    /// The field of an answer in JSON that says an error although the status does not.
    pub error_field: Option<String>,
    /// Statuses by which a target refuses the row for good, as `[422]`. Every other failure is tried
    /// again by the schedule.
    #[serde(default)]
    pub permanent: BTreeSet<u16>,
}

/// The options, for people.
pub(super) const OPTIONS: &[Opt] = &[
    Opt::required("url", "address", "\"https://crm.example/hooks/jobs\"", "where requests go"),
    Opt::required(
        "secrets",
        "list of secrets",
        "[\"env:WEBHOOK_SECRET\"]",
        "what they are signed with, `whsec_` and at least 24 bytes in base64; with several, the receiver may take any",
    ),
    Opt::with_default("timeout_s", "number", "20", "seconds a target has to answer"),
    Opt::with_default(
        "allow_hosts",
        "list of texts",
        "[]",
        "hosts that may have addresses which are not public",
    ),
    Opt::optional(
        "root_certificate",
        "path",
        "\"root.pem\"",
        "a certificate, PEM, of whoever vouches for the server besides the well-known ones",
    ),
    Opt::optional(
        "error_field",
        "text",
        "\"error\"",
        "the field of an answer in JSON that says an error although the status does not",
    ),
    Opt::with_default(
        "permanent",
        "list of numbers",
        "[]",
        "statuses by which the target refuses a row for good, as `[422]`; every other failure is tried again",
    ),
];

fn timeout_s() -> u64 {
    20
}

/// Hands each delivery over as a request of its own.
#[derive(Debug)]
pub struct Webhook {
    client: Client,
    url: Url,
    /// Looked up for every request, so that one can be changed without a pause.
    secrets: Vec<SecretRef>,
    error_field: Option<String>,
    permanent: BTreeSet<u16>,
    /// Hosts that may have addresses which are not public.
    allowed: BTreeSet<String>,
    /// The address that stands in the URL itself, if it must not be used.
    not_public: Option<NotPublic>,
}

/// What requests are signed with. Never shown.
struct Key(Vec<u8>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Webhook {
    /// A sink for these options. Relative files are in `folder`.
    ///
    /// # Errors
    /// The address is none, a secret is missing or no key, or the certificate cannot be read.
    pub fn open(options: Options, folder: &Path) -> Result<Self, SinkError> {
        let wrong = |what: String| SinkError::Setup { what };
        let url = Url::parse(&options.url).map_err(|error| {
            wrong(format!("{:?} is no address: {error}; write https://HOST/PATH", options.url))
        })?;
        if !["http", "https"].contains(&url.scheme()) || url.host().is_none() {
            return Err(wrong(format!("{url} is no web address; write https://HOST/PATH")));
        }
        if options.secrets.is_empty() {
            return Err(wrong(
                "it is signed with nothing; set secrets = [\"env:NAME\"]".to_owned(),
            ));
        }
        options.secrets.iter().try_for_each(|secret| key(secret).map(drop))?;
        if options.permanent.iter().any(|status| !(400..600).contains(status)) {
            return Err(wrong("`permanent` has statuses of failures: 400 to 599".to_owned()));
        }
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let not_public = literal
            .filter(|address| !is_public(*address) && !options.allow_hosts.contains(host))
            .map(|address| NotPublic { host: host.to_owned(), address });
        let mut client = Client::builder()
            .user_agent(concat!("rejoin/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(options.timeout_s.max(1)))
            .dns_resolver(Arc::new(Guarded { allowed: options.allow_hosts.clone() }))
            .tls_backend_preconfigured(tls::client(
                options.root_certificate.as_ref().map(|it| folder.join(it)),
            )?);
        if url.scheme() == "https" {
            client = client.https_only(true);
        }
        let client = client.build().map_err(|error| wrong(error.to_string()))?;
        let Options { secrets, error_field, permanent, allow_hosts: allowed, .. } = options;
        Ok(Self { client, url, secrets, error_field, permanent, allowed, not_public })
    }

    async fn send(&self, delivery: &Delivery) -> Result<(), Fault> {
        if let Some(not_public) = &self.not_public {
            return Err(Fault::trouble(not_public.to_string()));
        }
        let keys = self.secrets.iter().map(key).collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|error| Fault::trouble(error.to_string()))?;
        let body = event(delivery).to_string();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = since.as_secs().to_string();
        let signature = signature(&keys, &delivery.key.0, &timestamp, &body);
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"))
            .header("webhook-id", &delivery.key.0)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .header("correlation-id", &delivery.correlation)
            .body(body);
        let answer = request.send().await.map_err(|error| unsent(&error))?;
        answer::judge(answer, self.error_field.as_deref(), &self.permanent).await
    }
}

/// One signature for every key.
fn signature(keys: &[Key], id: &str, timestamp: &str, body: &str) -> String {
    let sign = |key: &Key| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("a key may have any length");
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
    };
    keys.iter().map(sign).collect::<Vec<_>>().join(" ")
}

impl Sink for Webhook {
    fn apply<'a>(&'a self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        async move {
            let mut outcomes = Vec::with_capacity(deliveries.len());
            for delivery in deliveries {
                outcomes.push(self.send(delivery).await);
            }
            outcomes
        }
        .boxed()
    }

    fn check<'a>(&'a self, _: &'a Mapping, send: bool) -> BoxFuture<'a, Vec<Found>> {
        self.look(send).boxed()
    }
}

/// The key behind a reference: base64 after `whsec_`.
fn key(secret: &SecretRef) -> Result<Key, SinkError> {
    let text = secret.resolve()?;
    let encoded = text.strip_prefix("whsec_").unwrap_or(&text);
    let key = BASE64.decode(encoded.as_bytes()).ok().filter(|key| key.len() >= KEY_BYTES_MIN);
    key.map(Key).ok_or_else(|| SinkError::Setup {
        what: format!(
            "the secret at {secret:?} is no key; it is `whsec_` and at least {KEY_BYTES_MIN} bytes \
             in base64"
        ),
    })
}

/// The event that tells of a delivery. It is the same on every attempt.
fn event(delivery: &Delivery) -> Value {
    let (op, data) = match &delivery.action {
        Action::Put(row) => ("put", json!(row)),
        Action::Mark { .. } => ("mark", Value::Null),
        Action::Delete => ("delete", Value::Null),
    };
    let time = chrono::DateTime::from_timestamp_millis(delivery.enqueued_ms.cast_signed());
    let time = time.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
    let heads: Vec<_> = delivery.heads.iter().map(ToString::to_string).collect();
    json!({
        "specversion": "1.0",
        "id": delivery.key.0,
        "source": format!("/adapters/{}/{}", delivery.adapter, delivery.document),
        "type": format!("{}.{op}", delivery.record.name),
        "subject": delivery.record.key,
        "time": time,
        "datacontenttype": "application/json",
        "dataschema": format!("urn:rejoin:mapping:{}", delivery.mapping),
        "data": data,
        "sequence": delivery.seq.to_string(),
        "previous": delivery.previous.as_ref().map(|key| &key.0),
        "heads": heads.join(" "),
        "correlation": delivery.correlation,
    })
}

/// Why a request did not get an answer.
fn unsent(error: &reqwest::Error) -> Fault {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = String::new();
    while let Some(at) = source {
        if let Some(not_public) = at.downcast_ref::<NotPublic>() {
            return Fault::trouble(not_public.to_string());
        }
        last = at.to_string();
        source = at.source();
    }
    // The address is the mapping's own, and may hold a secret path.
    let what = match error.is_timeout() {
        true => "the target did not answer in time".to_owned(),
        false => format!("the target cannot be reached: {last}"),
    };
    // What breaks later may be the row's doing.
    match error.is_connect() {
        true => Fault::trouble(what),
        false => Fault::transient(what),
    }
}

/// What the specification asks of keys.
const KEY_BYTES_MIN: usize = 24;
