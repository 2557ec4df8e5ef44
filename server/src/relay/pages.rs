//! Pages of the changes that a session is to be sent, made from the store.

use rejoin_core::limits::{FRAME_CHANGES_MAX, MARK_BYTES, PIECE_BYTES};
use rejoin_core::session::{BackfillPage, Batch, Large, LogPage, Part};
use rejoin_core::wire::{Backfill, CollectionDigest, Listed, Wanted};
use rejoin_core::{Collections, DocumentId, HeadsHash, SpaceName};

use crate::store::{ChangeStore, Latest, LogChunk, LogEntry, StoreError};

/// Changes in the order they came, up to one whose document goes by itself: because the replica
/// lacks older changes of it, or because the change is long, was folded away, or is the erasure of the
/// document.
pub(super) fn log_page(
    store: &mut ChangeStore,
    space: &SpaceName,
    after: u64,
    through: u64,
    backfill: Option<Backfill>,
    may_read: &Collections,
) -> Result<LogPage, StoreError> {
    let page = store.log_page(space, after, through, 2 * MARK_BYTES, FRAME_CHANGES_MAX)?;
    let mut made = LogPage { batches: Vec::new(), through: page.through, large: None };
    for entry in page.entries {
        let LogEntry { position, document, number, collection, chunk } = entry;
        if !may_read.contains(&collection) {
            continue;
        }
        let lacks = match backfill {
            Some(backfill) => lacked_from(store, number, position, backfill)?,
            None => None,
        };
        let from = match (lacks, chunk) {
            (None, LogChunk::Inline(chunk)) => {
                let same = |batch: &&mut Batch| batch.document == document;
                match made.batches.iter_mut().find(same) {
                    Some(batch) => batch.changes.push((position, chunk)),
                    None => {
                        let changes = vec![(position, chunk)];
                        made.batches.push(Batch { document, collection, changes });
                    }
                }
                continue;
            }
            (Some(from), _) => from,
            (None, LogChunk::Folded | LogChunk::Long { .. } | LogChunk::Erased) => position,
        };
        made.through = position - 1;
        made.large = Some(Large { document, from, position });
        break;
    }
    Ok(made)
}

/// The position from which a replica lacks a document of which it is to be sent the change at
/// `position`, if it lacks anything before that: then the document's change before belongs to the
/// backfill.
fn lacked_from(
    store: &ChangeStore,
    number: u64,
    position: u64,
    backfill: Backfill,
) -> Result<Option<u64>, StoreError> {
    match store.last_before(number, position)? {
        Some(last) if backfill.contains(last) => store.first_after(number, backfill.after),
        _ => Ok(None),
    }
}

/// Whole documents from the one that was changed last, up to one that goes by itself.
pub(super) fn backfill_page(
    store: &mut ChangeStore,
    space: &SpaceName,
    backfill: Backfill,
    begun: &[DocumentId],
    may_read: &Collections,
) -> Result<BackfillPage, StoreError> {
    let mut page = BackfillPage { batches: Vec::new(), left: Some(backfill), large: None };
    let mut room = PIECE_BYTES;
    while let Some(left) = page.left {
        let documents = store.latest_page(space, left.through, left.after, DOCUMENTS_AT_ONCE)?;
        if documents.is_empty() {
            page.left = None;
        }
        let looked = documents.len();
        for latest in documents {
            if !may_read.contains(&latest.collection) {
                page.left = Backfill::of(left.after, latest.position - 1);
                continue;
            }
            let from = match latest.first {
                first if first > left.after => first,
                _ => store.first_after(latest.number, left.after)?.unwrap_or(latest.position),
            };
            match whole(store, space, &latest, from, begun, room)? {
                Some(batch) => {
                    let bytes: usize = batch.changes.iter().map(|(_, chunk)| chunk.len()).sum();
                    room = room.saturating_sub(bytes + DOCUMENT_COST_BYTES);
                    page.batches.push(batch);
                }
                None if page.batches.is_empty() => {
                    let Latest { document, position, .. } = latest;
                    page.large = Some(Large { document, from, position });
                    return Ok(page);
                }
                None => return Ok(page),
            }
            page.left = Backfill::of(left.after, latest.position - 1);
            if room == 0 {
                return Ok(page);
            }
        }
        // A reader who may read little of much is not served in one go.
        room = room.saturating_sub(looked * LOOK_COST_BYTES);
        if room == 0 {
            return Ok(page);
        }
    }
    Ok(page)
}

/// A document, if all of it fits and no part of it has come. A damaged document is passed over, as
/// if it had no changes: the digest will not let its readers take it for whole.
fn whole(
    store: &mut ChangeStore,
    space: &SpaceName,
    latest: &Latest,
    from: u64,
    begun: &[DocumentId],
    room: usize,
) -> Result<Option<Batch>, StoreError> {
    let Latest { document, collection, .. } = latest;
    if begun.contains(document) {
        return Ok(None);
    }
    let batch = |changes| Batch { document: *document, collection: collection.clone(), changes };
    match store.part(space, document, from, None, room) {
        Ok(Some(Part::Changes { changes, next: None, .. })) => {
            let bytes: usize = changes.iter().map(|(_, chunk)| chunk.len()).sum();
            Ok((bytes <= room).then(|| batch(changes)))
        }
        Ok(Some(_)) => Ok(None),
        Ok(None) => Ok(Some(batch(Vec::new()))),
        Err(error) if error.is_confined() => {
            store.suspect(&error);
            Ok(Some(batch(Vec::new())))
        }
        Err(error) => Err(error),
    }
}

/// Documents and their heads from the one that was changed last, and the positions that are left.
pub(super) fn listing(
    store: &mut ChangeStore,
    space: &SpaceName,
    backfill: Backfill,
    may_read: &Collections,
) -> Result<(Vec<Listed>, Option<Backfill>), StoreError> {
    let Backfill { after, through } = backfill;
    let page = store.latest_page(space, through, after, LISTED_AT_ONCE)?;
    let left = match page.last() {
        Some(last) if page.len() == LISTED_AT_ONCE => Backfill::of(after, last.position - 1),
        _ => None,
    };
    let readable = page.iter().filter(|it| may_read.contains(&it.collection));
    let listed = readable.map(|it| Listed { document: it.document, heads: it.heads });
    Ok((listed.collect(), left))
}

/// The documents among these that the relay has with other heads, or not at all, each with the
/// heads it has.
pub(super) fn compare(
    store: &mut ChangeStore,
    space: &SpaceName,
    documents: &[Listed],
    may_read: &Collections,
) -> Result<Vec<Wanted>, StoreError> {
    let mut wanted = Vec::new();
    for Listed { document, heads } in documents {
        if *may_read != Collections::All
            && let Ok(Some(collection)) = store.collection_of(space, document)
            && !may_read.contains(&collection)
        {
            // It looks like one that is not here.
            wanted.push(Wanted { document: *document, heads: Vec::new() });
            continue;
        }
        let here = match store.known_heads(space, document) {
            // What the replica still has of it is to go there, and not to come here.
            Ok(Some(here)) if here == HeadsHash::ERASED => continue,
            Ok(here) => here.map(|here| here.short()),
            // The digests tell of it when it is mended.
            Err(error) if error.is_confined() => {
                store.suspect(&error);
                continue;
            }
            Err(error) => return Err(error),
        };
        if here != Some(*heads) {
            let (document, heads) = (*document, store.short_heads(space, document)?);
            wanted.push(Wanted { document, heads });
        }
    }
    Ok(wanted)
}

/// The digests of the collections that a replica may read.
pub(super) fn digests(
    store: &mut ChangeStore,
    space: &SpaceName,
    may_read: &Collections,
) -> Result<Vec<CollectionDigest>, StoreError> {
    let mut digests = store.digests(space)?;
    digests.retain(|digest| may_read.contains(&digest.collection));
    Ok(digests)
}

/// Documents that are looked up at once.
const DOCUMENTS_AT_ONCE: usize = 128;

/// Documents in one listing: 12 KiB.
const LISTED_AT_ONCE: usize = 512;

/// The cost of looking whether a document is to be in a page.
const LOOK_COST_BYTES: usize = 4;

/// The cost of a document in a page beside its changes.
const DOCUMENT_COST_BYTES: usize = 48;
