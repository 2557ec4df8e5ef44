//! A system outside that takes deliveries over HTTP: it believes only signed requests, refuses one
//! request, loses one answer, and does nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The system, which listens until this is dropped.
pub(super) struct Receiver {
    pub(super) url: String,
    state: Arc<Mutex<State>>,
    listening: JoinHandle<()>,
}

/// The memory of the system.
#[derive(Default)]
struct State {
    /// The record whose deliveries run into trouble.
    watched: String,
    /// The keys of the deliveries that it acted on.
    known: BTreeSet<String>,
    arrived: Vec<Arrived>,
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    pub(super) event: Value,
    pub(super) answer: Answer,
}

/// The answer of the system to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    NotSigned,
    Busy,
    Taken,
    /// The system acted on the delivery, but the sender gets no answer.
    Lost,
    Known,
}

impl Answer {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::NotSigned => "401, not signed",
            Self::Busy => "503, try later",
            Self::Taken => "204, taken",
            Self::Lost => "taken, no answer",
            Self::Known => "204, known",
        }
    }

    fn head(self) -> Option<&'static str> {
        match self {
            Self::NotSigned => Some("401 Unauthorized"),
            Self::Busy => Some("503 Service Unavailable"),
            Self::Taken | Self::Known => Some("204 No Content"),
            Self::Lost => None,
        }
    }
}

impl Receiver {
    /// Listens on a free port, and rings the bell whenever a request arrives. Deliveries of the
    /// watched record run into trouble.
    pub(super) async fn listen(
        key: [u8; 32],
        watched: &str,
        bell: watch::Sender<u64>,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port is free")?;
        let url = format!("http://{}/jobs", listener.local_addr()?);
        let state = State { watched: watched.to_owned(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, bell) = (Arc::clone(&shared), bell.clone());
                tokio::spawn(async move {
                    // A sender that breaks off will try again.
                    let _ = take(stream, &key, &state).await;
                    bell.send_modify(|rung| *rung += 1);
                });
            }
        });
        Ok(Self { url, state, listening })
    }

    /// The requests that arrived, in this order.
    pub(super) fn arrived(&self) -> Vec<Arrived> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).arrived.clone()
    }

    /// How many different deliveries it acted on.
    pub(super) fn done(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).known.len()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl State {
    fn answer(&mut self, event: Value) -> Answer {
        let key = event["id"].as_str().unwrap_or_default().to_owned();
        let before = self.arrived.iter().filter(|it| it.event["subject"] == event["subject"]);
        let is_watched = event["subject"] == *self.watched;
        let answer = match before.count() {
            _ if self.known.contains(&key) => Answer::Known,
            0 if is_watched => Answer::Busy,
            2 if is_watched => Answer::Lost,
            _ => Answer::Taken,
        };
        if answer != Answer::Busy {
            self.known.insert(key);
        }
        self.arrived.push(Arrived { event, answer });
        answer
    }
}

/// Reads one request, and answers it.
async fn take(mut stream: TcpStream, key: &[u8], state: &Mutex<State>) -> Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES_MAX));
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    while reader.read_line(&mut line).await? > 0 && line.trim_end() != "" {
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        line.clear();
    }
    let length = headers.get("content-length").context("a request without a length")?.parse()?;
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body).await?;
    let answer = match is_signed(key, &headers, &body) {
        true => {
            let event = serde_json::from_str(&body)?;
            state.lock().unwrap_or_else(PoisonError::into_inner).answer(event)
        }
        false => Answer::NotSigned,
    };
    if let Some(head) = answer.head() {
        let text = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        writer.write_all(text.as_bytes()).await?;
    }
    Ok(())
}

/// Whether a request is signed by the owner of the key, and was not recorded by somebody to be sent
/// later, as Standard Webhooks has it.
fn is_signed(key: &[u8], headers: &BTreeMap<String, String>, body: &str) -> bool {
    let header = |name: &str| headers.get(name).map_or("", String::as_str);
    let (id, sent) = (header("webhook-id"), header("webhook-timestamp"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let is_fresh = sent.parse().is_ok_and(|sent| now.as_secs().abs_diff(sent) < FRESH.as_secs());
    let mut signatures = header("webhook-signature").split(' ');
    is_fresh
        && signatures.any(|signature| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
            mac.update(format!("{id}.{sent}.{body}").as_bytes());
            let signature = signature.strip_prefix("v1,").unwrap_or_default();
            let signature = BASE64.decode(signature.as_bytes());
            signature.is_ok_and(|signature| mac.verify_slice(&signature).is_ok())
        })
}

/// Bytes of the longest request that is read.
const REQUEST_BYTES_MAX: u64 = 64 << 10;

/// The greatest age of a request that is believed.
const FRESH: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use super::*;

    /// A request as it is signed, at a time in seconds since 1970.
    fn signed(key: &[u8], sent: u64, body: &str) -> BTreeMap<String, String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
        mac.update(format!("abc.{sent}.{body}").as_bytes());
        let signature = BASE64.encode(&mac.finalize().into_bytes());
        let headers = [
            ("webhook-id", "abc".to_owned()),
            ("webhook-timestamp", sent.to_string()),
            ("webhook-signature", format!("v1,AAAA v1,{signature}")),
        ];
        headers.map(|(name, value)| (name.to_owned(), value)).into()
    }

    #[test]
    fn only_what_is_signed_is_believed() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
        let headers = signed(b"key", now.as_secs(), "{}");
        assert!(is_signed(b"key", &headers, "{}"));
        assert!(!is_signed(b"other", &headers, "{}"));
        assert!(!is_signed(b"key", &headers, "{ }"));
        assert!(!is_signed(b"key", &signed(b"key", now.as_secs() - 600, "{}"), "{}"));
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut headers = headers.clone();
            headers.remove(name);
            assert!(!is_signed(b"key", &headers, "{}"), "without {name}");
        }
    }
}
