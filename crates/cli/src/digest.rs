//! `rejoin digest`: a number that is equal on two replicas exactly when their documents are.

use anyhow::Result;
use serde_json::json;

use crate::local::Local;
use crate::output::Output;
use crate::place::PlaceArguments;

pub(crate) async fn run(place: &PlaceArguments, output: Output) -> Result<()> {
    let local = Local::open(place).await?;
    let digest = local.space.digest()?.to_string();
    let json = json!({ "space": local.space.name().as_str(), "digest": digest });
    output.result(&json, || digest.clone())
}
