//! Where one document is delivered, and what of it is late: for pages and scripts beside the adapters.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use rejoin::DocumentId;
use serde::Serialize;
use serde_json::json;

use super::answer::Link;
use super::{Adapter, Operator};
use crate::clock::now_ms;
use crate::outbox::{OutboxError, RowState, Standing};

type Told = (StatusCode, [(HeaderName, &'static str); 1], String);

/// Answers `GET /deliveries?document=ID`.
pub(super) async fn deliveries(
    State(operator): State<Arc<Operator>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Told {
    let (code, answer) = match answer(&operator, &headers, query.as_deref()).await {
        Ok(answer) => (StatusCode::OK, json!(answer)),
        Err((code, why)) => (code, json!({ "error": why })),
    };
    (code, [(CONTENT_TYPE, "application/json")], format!("{answer}\n"))
}

async fn answer(
    operator: &Operator,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Deliveries, (StatusCode, String)> {
    let refused = |code: StatusCode, why: &str| Err((code, why.to_owned()));
    // Whoever asks from a page of another site has that site's name here, whatever address the name
    // leads to.
    if !headers.get(HOST).is_some_and(is_this_machine) {
        let why = "this is told to this machine alone; ask for it as 127.0.0.1 or localhost";
        return refused(StatusCode::FORBIDDEN, why);
    }
    let parts = query.unwrap_or_default().split('&');
    let Some(document) = parts.into_iter().find_map(|part| part.strip_prefix("document=")) else {
        return refused(StatusCode::BAD_REQUEST, "say which: /deliveries?document=ID");
    };
    let Ok(document) = document.parse::<DocumentId>() else {
        let why = "that is no document's id; `rejoin get --json` tells it as `document`";
        return refused(StatusCode::BAD_REQUEST, why);
    };
    match operator.deliveries(&document).await {
        Ok(answer) if answer.adapters.is_empty() => {
            let why = "no adapter carries this document, or none has heard of it yet";
            refused(StatusCode::NOT_FOUND, why)
        }
        Ok(answer) => Ok(answer),
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn is_this_machine(host: &HeaderValue) -> bool {
    let host = host.to_str().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    ["localhost", "127.0.0.1", "[::1]"].contains(&name)
}

impl Operator {
    /// How one document stands with every target that has or will have rows of it.
    ///
    /// # Errors
    /// An outbox cannot be read.
    pub async fn deliveries(&self, document: &DocumentId) -> Result<Deliveries, OutboxError> {
        let mut adapters = Vec::new();
        for adapter in self.adapters.values() {
            let asked = *document;
            let rows = adapter.outbox(move |outbox| outbox.standing(&asked)).await?;
            if !rows.is_empty() {
                adapters.push(of_adapter(adapter, rows));
            }
        }
        let (key, link) = (self.key(document), self.link());
        Ok(Deliveries { document: document.to_string(), key, link, adapters })
    }
}

fn of_adapter(adapter: &Adapter, rows: Vec<Standing>) -> AdapterDeliveries {
    let late_ms = u64::try_from(adapter.mapping.late_after.as_millis()).unwrap_or(u64::MAX);
    let is_late = |since_ms: u64| now_ms().saturating_sub(since_ms) > late_ms;
    let rows: Vec<_> = rows.into_iter().map(|row| of_row(row, is_late)).collect();
    let is_late =
        |row: &RowDeliveries| matches!(row.state, RowStanding::Waiting { is_late: true, .. });
    AdapterDeliveries { adapter: adapter.name.clone(), is_late: rows.iter().any(is_late), rows }
}

fn of_row(row: Standing, is_late: impl Fn(u64) -> bool) -> RowDeliveries {
    let state = match row.state {
        RowState::Delivered => RowStanding::Delivered,
        RowState::Gone => RowStanding::Gone,
        RowState::Discarded => RowStanding::Discarded,
        RowState::Waiting { since_ms, attempts, fault, next_ms } => {
            let is_late = is_late(since_ms);
            RowStanding::Waiting { since_ms, is_late, attempts, fault, next_ms }
        }
        RowState::Dead { number, fault } => RowStanding::DeadLetter { number, fault },
    };
    let (name, record) = (row.record.name, row.record.key);
    RowDeliveries { name, record, delivered_ms: row.taken_ms, state }
}

/// How one document stands with every target that has or will have rows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deliveries {
    /// The document's id.
    pub document: String,
    /// The document's natural key, if it has one and the replica is at hand.
    pub key: Option<String>,
    /// How the replica stands towards its relay.
    pub link: Link,
    /// The adapters that have heard of the document.
    pub adapters: Vec<AdapterDeliveries>,
}

/// How a document's rows stand with one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdapterDeliveries {
    /// The adapter's name.
    pub adapter: String,
    /// Whether a row waits longer than the mapping allows.
    pub is_late: bool,
    /// The rows.
    pub rows: Vec<RowDeliveries>,
}

/// How one row stands with a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowDeliveries {
    /// The row's kind.
    pub name: String,
    /// The row's key.
    pub record: String,
    /// When the target took something of it last, in milliseconds since 1970.
    pub delivered_ms: Option<u64>,
    /// How it stands.
    #[serde(flatten)]
    pub state: RowStanding,
}

/// How a row stands with a target, in a word and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RowStanding {
    /// The target has it as it is.
    Delivered,
    /// The document does not become it any more, and the target knows.
    Gone,
    /// The target does not hold it as it is, as somebody let its dead letter be.
    Discarded,
    /// A delivery waits.
    Waiting {
        /// Since when, in milliseconds since 1970.
        since_ms: u64,
        /// Whether that is longer than the mapping allows.
        is_late: bool,
        /// Attempts that failed.
        attempts: u32,
        /// What the last of them came to.
        fault: Option<String>,
        /// When it may be tried next, in milliseconds since 1970; `None` while it waits for somebody.
        next_ms: Option<u64>,
    },
    /// It will not be delivered unless somebody does something about it.
    DeadLetter {
        /// The dead letter's number.
        number: u64,
        /// What happened, for people.
        fault: String,
    },
}
