//! What is known of documents when somebody writes a mapping.

use std::path::Path;

use anyhow::Result;
use rejoin::Replica;
use rejoin::schema::{Schemas, parse};
use rejoin_adapters::config::Parsed;
use rejoin_adapters::control::{self, ControlError};
use rejoin_adapters::mapping::Known;
use rejoin_adapters::run::Ask;
use rejoin_adapters::run::answer::Answer;

use super::REPLICA;
use crate::output::Output;
use crate::place::PlaceArguments;

/// The documents and schemas of the replica that the command line names, or else of the one that the
/// adapters of a file follow; while they run they are asked. Nothing is known where there is no
/// replica, or another program has it open.
pub(super) async fn known(
    path: &Path,
    parsed: Option<&Parsed>,
    place: &PlaceArguments,
    output: Output,
) -> Result<(Known, Schemas)> {
    let config = parsed.and_then(|parsed| parsed.config.as_ref());
    let own = config.map(|config| {
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        folder.join(&config.replica.data).join(REPLICA)
    });
    let space = match (&place.replica, config) {
        (None, Some(config)) => config.replica.space.as_str(),
        _ => &place.space,
    };
    if let (None, Some(config)) = (&place.replica, config) {
        let data = path.parent().unwrap_or_else(|| Path::new("")).join(&config.replica.data);
        match control::ask(&data, &Ask::Known).await {
            Ok(Answer::Known(here)) => return Ok((here.known, parse(&here.schemas).schemas)),
            Ok(_) => return Err(ControlError::AnotherVersion.into()),
            Err(ControlError::NotRunning) => {}
            Err(error) => output.note(&format!("the documents are not looked at: {error}")),
        }
    }
    let Some(file) = place.replica.clone().or(own).filter(|file| file.exists()) else {
        return Ok((Known::default(), Schemas::default()));
    };
    let replica = match Replica::open(&file).await {
        Ok(replica) => replica,
        Err(error) => {
            output.note(&format!("{} is not looked at: {error}", file.display()));
            return Ok((Known::default(), Schemas::default()));
        }
    };
    let looked = async {
        let space = replica.space(space)?;
        Ok((Known::of(&space).await?, space.schemas().await?))
    };
    let looked = looked.await;
    replica.close().await;
    looked
}
