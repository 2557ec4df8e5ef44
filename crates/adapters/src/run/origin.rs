//! From a row outside back to the changes and the people it comes from.

use std::collections::BTreeMap;

use rejoin::history::{Blame, BlamedWrite, HistoryEntry};
use rejoin::value::Zone;
use rejoin::{Document, Path, ReadError};

use super::answer::{Author, FieldOrigin, Origin, TakenDelivery};
use super::error::OperateError;
use super::{Adapter, Carried};
use crate::delivery::Record;
use crate::mapping::Source;
use crate::projection::{self, places};

/// Which document a row comes from, when it was delivered, and who wrote what is in its fields.
pub(super) async fn origin(
    adapter: &Adapter,
    carried: Option<&Carried>,
    record: Record,
) -> Result<Origin, OperateError> {
    let (name, key) = (record.name.clone(), record.key.clone());
    let asked = record.clone();
    let found = adapter.outbox(move |outbox| outbox.origin(&asked)).await?;
    let Some((document, shadow)) = found else {
        let adapter = adapter.name.clone();
        return Err(OperateError::NoRow { adapter, name, key });
    };
    let deliveries = shadow.taken.into_iter().map(|taken| {
        let heads: Vec<_> = taken.heads.iter().map(ToString::to_string).collect();
        let correlation = heads.last().cloned();
        TakenDelivery { key: taken.key.0, at_ms: taken.at_ms, heads, correlation }
    });
    let origin = Origin {
        adapter: adapter.name.clone(),
        name,
        record: key,
        document: document.to_string(),
        row: shadow.wanted.map(|row| row.0),
        deliveries: deliveries.collect(),
        fields: None,
        key: None,
    };
    let (Some(carried), Source::Documents) = (carried, adapter.mapping.source) else {
        return Ok(origin);
    };
    let document = carried.collection.document_by_id(document);
    let fields = fields(adapter, &document, &record).await.map_err(OperateError::Replica)?;
    let entry = document.read().await.map_err(OperateError::Replica)?;
    let key = entry.and_then(|entry| entry.key);
    Ok(Origin { fields: Some(fields), key: Some(key), ..origin })
}

/// The last change that wrote in each field of a row.
async fn fields(
    adapter: &Adapter,
    document: &Document,
    record: &Record,
) -> Result<Vec<FieldOrigin>, ReadError> {
    let Some(entry) = document.read().await? else { return Ok(Vec::new()) };
    let (id, asked) = (document.id(), std::collections::BTreeSet::new());
    let source = projection::Input {
        document: &id,
        key: entry.key.as_deref(),
        deleted: entry.deleted,
        value: entry.agreed(),
        asked: &asked,
        // Where fields come from does not depend on what times they say.
        zone: Zone::UTC,
        salt: &adapter.salt,
    };
    let places: BTreeMap<String, Path> = places(&adapter.mapping, &source, record);
    let (blames, history) = (document.blame().await?, document.history(usize::MAX).await?);
    let fields = places.into_iter().map(|(field, path)| {
        let told = FieldOrigin { field, path: path.to_string(), ..FieldOrigin::default() };
        if let Some(write) = standing(&blames, &path) {
            let write = &write.write;
            FieldOrigin {
                change: Some(write.change.to_string()),
                author: Some(write.author.clone().map(Author::from)),
                time_s: Some(write.time_s),
                settles: Some(write.settles.map(|review| review.to_string())),
                ..told
            }
        } else if let Some(change) = last(&history, &path) {
            FieldOrigin {
                change: Some(change.hash.to_string()),
                author: Some(change.author.clone().map(Author::from)),
                time_s: Some(change.time_s),
                ..told
            }
        } else {
            told
        }
    });
    Ok(fields.collect())
}

/// The last write that stands at a path or in what is there.
fn standing<'a>(blames: &'a [Blame], path: &Path) -> Option<&'a BlamedWrite> {
    let is_in = |blame: &&Blame| {
        let at = blame.path.as_ref();
        at.is_some_and(|at| at.segments().starts_with(path.segments()))
    };
    let writes = blames.iter().filter(is_in).flat_map(|blame| &blame.writes);
    writes.filter(|write| write.stands).max_by_key(|write| write.op.clone())
}

/// The last change of a text or counter at a path.
fn last<'a>(history: &'a [HistoryEntry], path: &Path) -> Option<&'a HistoryEntry> {
    let wrote = |change: &&HistoryEntry| {
        change.writes.iter().any(|part| part.place.path().as_ref() == Some(path))
    };
    history.iter().filter(wrote).max_by_key(|change| change.time_s)
}
