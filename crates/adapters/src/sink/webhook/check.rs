//! Whether a webhook's address may be used and answers. Unless somebody wants it, nothing is sent.

use std::time::Duration;

use rejoin::DocumentId;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Webhook;
use super::address::{NotPublic, is_public};
use crate::clock::now_ms;
use crate::delivery::{Action, Delivery, IdempotencyKey, Record, Row};
use crate::sink::found::Found;

impl Webhook {
    pub(super) async fn look(&self, send: bool) -> Vec<Found> {
        let mut found = match self.reach().await {
            Ok(()) => vec![Found::fine("the address may be used, and somebody listens there")],
            Err(what) => return vec![Found::wrong(what)],
        };
        let keys = self.secrets.len();
        if !send {
            let what =
                "what is sent is signed; `--send` sends one event of the type rejoin.check.put";
            found.push(Found::fine(format!("{what} ({keys} in `secrets`)")));
            return found;
        }
        found.push(match self.send(&test_delivery()).await {
            Ok(()) => Found::fine("a signed event of the type rejoin.check.put was taken"),
            Err(fault) => Found::wrong(format!(
                "a signed event was not taken: {}; look at `secrets`",
                fault.what
            )),
        });
        found
    }

    /// Connects, and says nothing.
    async fn reach(&self) -> Result<(), String> {
        if let Some(not_public) = &self.not_public {
            return Err(not_public.to_string());
        }
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        let unreached = |error: std::io::Error| {
            format!("{host}:{port} cannot be reached: {error}; look at `url`")
        };
        let addresses =
            lookup_host((host.trim_matches(['[', ']']), port)).await.map_err(unreached)?;
        let addresses: Vec<_> = addresses.collect();
        let private = addresses.iter().map(std::net::SocketAddr::ip).find(|it| !is_public(*it));
        if let Some(address) = private.filter(|_| !self.allowed.contains(host)) {
            return Err(NotPublic { host: host.to_owned(), address }.to_string());
        }
        match timeout(PATIENCE, TcpStream::connect(&addresses[..])).await {
            Ok(connected) => connected.map(drop).map_err(unreached),
            Err(_) => Err(unreached(std::io::ErrorKind::TimedOut.into())),
        }
    }
}

/// Something that can be told from every delivery of a document.
fn test_delivery() -> Delivery {
    let now_ms = now_ms();
    Delivery {
        key: IdempotencyKey(format!("check-{now_ms}")),
        adapter: "check".to_owned(),
        document: DocumentId([0; 16]),
        seq: 0,
        previous: None,
        record: Record { name: "rejoin.check".to_owned(), key: "check".to_owned() },
        action: Action::Put(Row::new()),
        heads: Vec::new(),
        mapping: "check".to_owned(),
        correlation: "check".to_owned(),
        enqueued_ms: now_ms,
        generation: 0,
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
