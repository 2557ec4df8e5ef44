//! Where one document is delivered, and what of it is late: for pages and scripts beside the adapters.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use rejoin::DocumentId;
use serde_json::{Value, json};

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
        Ok(answer) => (StatusCode::OK, answer),
        Err((code, why)) => (code, json!({ "error": why })),
    };
    (code, [(CONTENT_TYPE, "application/json")], format!("{answer}\n"))
}

async fn answer(
    operator: &Operator,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Value, (StatusCode, String)> {
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
        Ok(answer) if answer["adapters"].as_array().is_some_and(Vec::is_empty) => {
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
    pub async fn deliveries(&self, document: &DocumentId) -> Result<Value, OutboxError> {
        let mut adapters = Vec::new();
        for adapter in self.adapters.values() {
            let asked = *document;
            let rows = adapter.outbox(move |outbox| outbox.standing(&asked)).await?;
            if !rows.is_empty() {
                adapters.push(told(adapter, &rows));
            }
        }
        Ok(json!({
            "document": document.to_string(),
            "key": self.key(document),
            "link": self.link(),
            "adapters": adapters,
        }))
    }
}

fn told(adapter: &Adapter, rows: &[Standing]) -> Value {
    let late_ms = u64::try_from(adapter.mapping.late_after.as_millis()).unwrap_or(u64::MAX);
    let is_late = |row: &Standing| match row.state {
        RowState::Waiting { since_ms, .. } => now_ms().saturating_sub(since_ms) > late_ms,
        _ => false,
    };
    let rows_told: Vec<_> = rows.iter().map(|row| row_told(row, is_late(row))).collect();
    json!({
        "adapter": adapter.name,
        "is_late": rows.iter().any(is_late),
        "rows": rows_told,
    })
}

fn row_told(row: &Standing, is_late: bool) -> Value {
    let mut json = json!({
        "name": row.record.name,
        "record": row.record.key,
        "delivered_ms": row.taken_ms,
    });
    match &row.state {
        RowState::Delivered => json["state"] = "delivered".into(),
        RowState::Gone => json["state"] = "gone".into(),
        RowState::Discarded => json["state"] = "discarded".into(),
        RowState::Waiting { since_ms, attempts, fault, next_ms } => {
            json["state"] = "waiting".into();
            json["since_ms"] = (*since_ms).into();
            json["is_late"] = is_late.into();
            json["attempts"] = (*attempts).into();
            json["fault"] = fault.clone().into();
            json["next_ms"] = (*next_ms).into();
        }
        RowState::Dead { number, fault } => {
            json["state"] = "dead_letter".into();
            json["number"] = (*number).into();
            json["fault"] = fault.clone().into();
        }
    }
    json
}
