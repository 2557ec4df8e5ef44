//! Documents that an operator erased: nothing of them is kept.
//!
//! The relay decides which documents are erased. One that it has after all, as after it was restored
//! from a backup of before, is taken as any other.

use std::collections::BTreeMap;

use rejoin_core::{CollectionName, DocumentId, HeadsHash};
use tracing::{info, warn};

use crate::engine::set_aside::Removed;
use crate::engine::{Engine, EngineError, Turn};
use crate::store::{DocumentRow, ErasedRow, StoreError, WriteTxn};

impl Engine {
    /// Removes everything of a document. Edits that no relay has are set aside.
    pub(super) fn stage_erased(
        &mut self,
        turn: &mut Turn,
        number: u32,
        document: DocumentId,
        collection: CollectionName,
    ) -> Result<(), EngineError> {
        let Some(session) = &self.session else { return Ok(()) };
        let space = session.name(number);
        let before = turn.txn.document(&document)?;
        if before.as_ref().is_some_and(|row| row.space != space) {
            warn!(doc = %document, "a document of another space is not erased");
            return Ok(());
        }
        // Some of it may be here before it is a document.
        let mut is_removed = turn.txn.remove_arrivals(&document)?;
        if let Some(row) = before {
            let unsent = unsent(&turn.txn, &document, &row)?;
            self.stage_all_aside(turn, &document, &row, &unsent, REASON)?;
            self.remove_document(turn, &document, &row, Removed::ByRelay)?;
            drop(self.loaded.take(&document));
            self.loaded.forget_actor(&document);
            is_removed = true;
            info!(%space, doc = %document, set_aside = unsent.len(), "erased by an operator");
        }
        if is_removed {
            turn.txn.mark_overwrite(true)?;
            // An operator may erase many, one after the other.
            self.overwrite_at = Some(turn.now + OVERWRITE_AFTER_MS);
        }
        if turn.txn.erased(&document)?.is_none() {
            let mut digest = turn.txn.digest(&space, &collection)?;
            digest.digest.insert(&document, &HeadsHash::ERASED);
            turn.txn.put_digest(&space, &collection, &digest)?;
            turn.txn.put_erased(&document, Some(&ErasedRow { space, collection }))?;
        }
        turn.dirty = true;
        self.stage_answered(turn, number, &document)
    }

    /// The relay has a document, or never had it, that was erased here by the word of a relay.
    pub(in crate::engine) fn stage_not_erased(
        &mut self,
        turn: &mut Turn,
        document: &DocumentId,
    ) -> Result<(), StoreError> {
        let Some(row) = turn.txn.erased(document)? else { return Ok(()) };
        let ErasedRow { space, collection } = row;
        warn!(%space, doc = %document, "a document that was erased is not erased at the relay any more");
        let mut digest = turn.txn.digest(&space, &collection)?;
        digest.digest.remove(document, &HeadsHash::ERASED);
        turn.txn.put_digest(&space, &collection, &digest)?;
        turn.txn.put_erased(document, None)?;
        turn.dirty = true;
        Ok(())
    }
}

/// The bytes of the changes of a document that wait in the outbox, whatever state they are in.
fn unsent(
    txn: &WriteTxn,
    document: &DocumentId,
    row: &DocumentRow,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut unsent = BTreeMap::new();
    for key in txn.waiting(document)? {
        let Some((_, edit)) = txn.outbox(key, 1)?.pop() else { continue };
        for at in edit.from..(edit.from + edit.count).min(row.next) {
            unsent.extend(txn.change(document, at)?.map(|chunk| (at, chunk)));
        }
    }
    Ok(unsent.into_values().collect())
}

/// Milliseconds of quiet after an erasure, before the file is written over.
const OVERWRITE_AFTER_MS: u64 = 5_000;

/// The reason for which edits are set aside.
const REASON: &str =
    "the document was erased by an operator; what has its key from now on is another one";
