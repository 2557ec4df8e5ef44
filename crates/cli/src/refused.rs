//! The edits that a relay will never take, in the words of every command that tells of them.

use anyhow::Result;
use rejoin::Replica;
use rejoin::sync::SetAside;
use serde_json::{Value, json};

use crate::clock::clock;
use crate::layout::one_line;
use crate::output::count;

/// The refused edits that are lost to others, and of which nobody has said that they know.
pub(crate) fn open(replica: &Replica) -> Result<Vec<SetAside>> {
    let mut open = replica.set_aside()?;
    open.retain(SetAside::is_open);
    Ok(open)
}

/// One refusal in a line: `jobs 1 (phone), 2026-11-29 15:04: why`.
pub(crate) fn line(refused: &SetAside) -> String {
    let SetAside { collection, document, key, fields, reason, .. } = refused;
    let key = key.clone().unwrap_or_else(|| document.to_string());
    let fields = fields.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let fields = if fields.is_empty() { fields } else { format!(" ({fields})") };
    let anew = if refused.made_anew { "; it was made anew" } else { "" };
    one_line(&format!("{collection} {key}{fields}, {}: {reason}{anew}", clock(refused.time_s)))
}

/// How much was refused: `2 changes of 1 document`.
pub(crate) fn what(refused: &[SetAside]) -> String {
    let changes: usize = refused.iter().map(|it| it.changes.len()).sum();
    let mut documents: Vec<_> = refused.iter().map(|it| it.document).collect();
    documents.sort_unstable();
    documents.dedup();
    format!("{} of {}", count(changes, "change"), count(documents.len(), "document"))
}

pub(crate) fn json(refused: &SetAside) -> Value {
    json!({
        "space": refused.space.as_str(),
        "collection": refused.collection.as_str(),
        "key": refused.key,
        "id": refused.document.to_string(),
        "fields": refused.fields,
        "changes": Value::from_iter(refused.changes.iter().map(ToString::to_string)),
        "reason": refused.reason,
        "made_anew": refused.made_anew,
        "acknowledged": refused.acknowledged,
        "time_s": refused.time_s,
    })
}
