//! What a target's answer means.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use serde_json::Value;

use crate::delivery::{Fault, FaultClass, Reach};

/// Only 2xx is success, unless the body says otherwise.
pub(super) async fn judge(
    mut answer: Response,
    error_field: Option<&str>,
    permanent: &BTreeSet<u16>,
) -> Result<(), Fault> {
    let (status, headers) = (answer.status(), answer.headers().clone());
    if status.is_success() && error_field.is_none() {
        return Ok(());
    }
    let body = body(&mut answer).await;
    if status.is_success() {
        return match error_field.and_then(|field| said(&body, field)) {
            Some(error) => {
                Err(fault(FaultClass::Permanent, format!("the target says {error}"), &body))
            }
            None => Ok(()),
        };
    }
    let (class, what) = match status {
        StatusCode::GONE => (FaultClass::Gone, "the target wants nothing more (410)".to_owned()),
        _ if status.is_redirection() => {
            // The path may be a secret, here as in the mapping.
            let to = headers.get(LOCATION).and_then(|to| Url::parse(to.to_str().ok()?).ok());
            let another = || "another path".to_owned();
            let to = to.map_or_else(another, |to| to.origin().ascii_serialization());
            let what = format!("the target is at {to} now; change the url to that");
            (FaultClass::Trouble(Reach::Target), what)
        }
        _ if permanent.contains(&status.as_u16()) => {
            (FaultClass::Permanent, format!("the target answered {status}"))
        }
        // Whether 401 or 404 is for all or for this one alone, others tell.
        _ => (
            FaultClass::Transient { after: after(&headers) },
            format!("the target answered {status}"),
        ),
    };
    Err(fault(class, what, &body))
}

fn fault(class: FaultClass, what: String, body: &[u8]) -> Fault {
    let text: String = String::from_utf8_lossy(body).chars().take(EXCERPT_CHARS).collect();
    Fault { class, what, answer: Some(text).filter(|text| !text.is_empty()), field: None }
}

/// The beginning of the body. What is longer, or breaks off, is let be.
async fn body(answer: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        let room = BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == BODY_BYTES_MAX {
            break;
        }
    }
    body
}

/// The error that a body in JSON tells of.
fn said(body: &[u8], field: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    match body.get(field)? {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.chars().take(200).collect()),
        _ => Some(format!("an error in {field:?}")),
    }
}

/// How long a target wants to be left alone: seconds, or until a date.
fn after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let after = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()?,
    };
    Some(after.min(AFTER_MAX))
}

/// Bytes of an answer that are read.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Characters of an answer that are kept.
const EXCERPT_CHARS: usize = 1024;

/// Longer than this no target is left alone.
const AFTER_MAX: Duration = Duration::from_hours(24);
