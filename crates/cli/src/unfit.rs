//! Documents with values that do not fit their schema, wherever people look.

use anyhow::Result;
use rejoin::{Collection, Misfit, Unfit};
use serde_json::{Value, json};

use crate::layout::{Table, one_line, width};
use crate::output::{Output, Text, count};

/// How many there are and which, such as `2 documents hold what does not fit the schema: jobs 7, jobs
/// 9`; `None` if there are none.
pub(crate) fn summary(unfit: &[Unfit]) -> Option<String> {
    let first = unfit.first()?;
    let hold = if unfit.len() == 1 { "holds" } else { "hold" };
    let named: Vec<_> = unfit
        .iter()
        .take(NAMED)
        .map(|document| format!("{} {}", document.collection, key(document)))
        .collect();
    let more = unfit.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(one_line(&format!(
        "{} {hold} what does not fit the schema: {}{more}; `rejoin list {} --unfit` tells what",
        count(unfit.len() as u64, "document"),
        named.join(", "),
        first.collection,
    )))
}

/// What does not fit, in a line.
pub(crate) fn line(misfit: &Misfit) -> String {
    one_line(&format!("{}: {}", misfit.field, misfit.reason))
}

/// `rejoin list --unfit`.
pub(crate) async fn list(collection: &Collection, output: Output) -> Result<()> {
    let mut unfit = collection.unfit().await?;
    unfit.sort_by_key(key);
    output.result(&Value::from_iter(unfit.iter().map(to_json)), || {
        if unfit.is_empty() {
            return Text::from("every document fits its schema");
        }
        let mut table = Table::new(["key", "field", "what does not fit"]).keeping(2);
        for document in &unfit {
            for misfit in &document.misfits {
                table.row([key(document), misfit.field.to_string(), misfit.reason.clone()]);
            }
        }
        let documents = count(unfit.len() as u64, "document");
        let said =
            format!("{documents}; what does not fit is kept as it is until somebody corrects it");
        Text::lines([table.fit(width()), said.into()])
    })
}

fn to_json(unfit: &Unfit) -> Value {
    json!({
        "collection": unfit.collection.as_str(),
        "key": unfit.key,
        "id": unfit.document.to_string(),
        "misfits": misfits_json(&unfit.misfits),
    })
}

/// For programs.
pub(crate) fn misfits_json(misfits: &[Misfit]) -> Value {
    let misfits = misfits.iter().map(|misfit| {
        json!({
            "field": misfit.field.to_string(),
            "reason": misfit.reason,
            "missing": misfit.is_missing,
        })
    });
    misfits.collect()
}

fn key(unfit: &Unfit) -> String {
    unfit.key.clone().unwrap_or_else(|| unfit.document.to_string())
}

/// Documents that are named where all are counted.
const NAMED: usize = 3;
