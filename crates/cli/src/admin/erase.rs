//! `rejoin admin erase`: documents are erased for good, those that somebody names or those that were
//! deleted long ago.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use rejoin_relay::admin::{self, Answer, Ask, ErasedAnswer, ErasedAnswers};

use super::OTHER;
use crate::clock::now_ms;
use crate::confirm::confirmed;
use crate::local::Local;
use crate::output::{Output, count};
use crate::place::PlaceArguments;
use crate::units::{duration, exact_duration};

#[derive(Debug, Args)]
pub(super) struct EraseArguments {
    /// Each document's id, or COLLECTION/KEY
    #[arg(required_unless_present = "deleted", value_name = "DOCUMENT")]
    documents: Vec<String>,
    /// The documents of this collection that were deleted, as the replica (--replica) knows
    #[arg(long, value_name = "COLLECTION", conflicts_with = "documents")]
    deleted: Option<String>,
    /// Of those only what was deleted so long ago, by the clock of the device that did it
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = duration)]
    older_than: Duration,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(
    place: &PlaceArguments,
    data: &Path,
    arguments: &EraseArguments,
    output: Output,
) -> Result<()> {
    let time = exact_duration(arguments.older_than);
    let (documents, heads, named) = match &arguments.deleted {
        Some(collection) => {
            let found = deleted(place, collection, arguments.older_than, output).await?;
            let (documents, heads): (Vec<_>, Vec<_>) = found.into_iter().unzip();
            let count = count(documents.len(), "document");
            let named = format!("{count} of {collection} that were deleted more than {time} ago");
            (documents, heads, named)
        }
        None => (arguments.documents.clone(), Vec::new(), arguments.documents.join(", ")),
    };
    let space = &place.space;
    if documents.is_empty() {
        let nothing = ErasedAnswers { documents: Vec::new(), left: None };
        return output.result(&nothing, || format!("nothing was deleted more than {time} ago"));
    }
    if !arguments.yes {
        match confirmed(&format!("Erase {named} of {space} for good, everywhere?"), output)? {
            Some(true) => {}
            Some(false) => bail!("nothing was erased"),
            None => bail!("nothing was erased; --yes says that you mean it: {named}"),
        }
    }
    let ask = Ask::Erase { space: space.clone(), documents, heads };
    let Answer::Erased(erased) = admin::ask(data, &ask)? else { bail!(OTHER) };
    tell(&erased, output)
}

/// The documents of a collection that were deleted so long ago, each with its heads: one that somebody
/// wrote to since, or brought back, is not erased.
async fn deleted(
    place: &PlaceArguments,
    collection: &str,
    older_than: Duration,
    output: Output,
) -> Result<Vec<(String, Vec<String>)>> {
    let local = Local::open(place).await?;
    let collection = local.collection(collection)?;
    local.caught_up(output).await?;
    let before_ms = now_ms().saturating_sub_unsigned(older_than.as_millis() as u64);
    let mut found = Vec::new();
    for entry in collection.deleted().await? {
        let deletion = collection.document_by_id(entry.document).deletion().await?;
        if deletion.is_some_and(|deletion| deletion.time_s.saturating_mul(1000) < before_ms) {
            let heads = entry.heads.iter().map(ToString::to_string);
            found.push((entry.document.to_string(), heads.collect()));
        }
    }
    Ok(found)
}

fn tell(erased: &ErasedAnswers, output: Output) -> Result<()> {
    let ErasedAnswers { documents, left } = erased;
    let troubles = documents.iter().filter(|it| it.trouble.is_some()).count();
    output.result(erased, || {
        let line = |it: &ErasedAnswer| match &it.trouble {
            Some(trouble) => format!("{}: {trouble}", it.document),
            None => format!("{} is erased, with {}", it.document, count(it.changes, "change")),
        };
        let mut lines: Vec<_> = documents.iter().map(line).collect();
        if troubles < documents.len() {
            lines.push("Replicas that are connected are told now, and others when they come".into());
        }
        if let Some(left) = left {
            lines.push(format!(
                "Their bytes are in free pages of the relay's file until it has written over those, which \
                 it tries again by itself: {left}"
            ));
        }
        lines.join("\n")
    })?;
    match (troubles, documents.len()) {
        (0, _) => Ok(()),
        (some, all) if some < all => bail!("{some} of {all} documents were not erased"),
        _ => bail!("nothing was erased"),
    }
}
