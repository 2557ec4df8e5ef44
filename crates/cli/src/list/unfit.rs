//! `rejoin list --unfit`: the documents of a collection that do not fit its schema, with every value
//! that does not.

use anyhow::Result;
use rejoin::Collection;
use rejoin::view::Unfit;
use serde_json::{Value, json};

use crate::layout::{Table, width};
use crate::output::{Output, Text, count};
use crate::unfit::{key, misfits_json};

pub(super) async fn list(collection: &Collection, output: Output) -> Result<()> {
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
