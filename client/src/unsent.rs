//! Edits that wait for a relay.

use std::collections::BTreeMap;

use rejoin_core::{CollectionName, DocumentId, SpaceName};

use crate::replica::Replica;
use rejoin_engine::store::{OutboxRow, ReadTxn, StoreError};

/// A document with edits that no relay has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// The space it is in.
    pub space: SpaceName,
    /// The collection it is in.
    pub collection: CollectionName,
    /// The document.
    pub document: DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<String>,
    /// The number of edits that wait; [`Document::unsent`](crate::Document::unsent) tells their
    /// writes.
    pub edits: u64,
    /// The time at which the latest of them was made, in seconds since 1970 by the device's clock.
    pub edited_at_s: i64,
    /// Whether the first of them made the document.
    pub created: bool,
    /// Somebody who is not signed in here, whose edits of the document wait until they are. Later edits
    /// of it wait with them.
    pub held_for: Option<String>,
}

impl Replica {
    /// The documents with edits that no relay has acknowledged, the one that was edited last first.
    /// It loads none of them.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn unsent(&self) -> Result<Vec<Unsent>, StoreError> {
        self.read(unsent)
    }
}

fn unsent(view: &ReadTxn) -> Result<Vec<Unsent>, StoreError> {
    let mut waiting: BTreeMap<DocumentId, Waiting> = BTreeMap::new();
    let signed_in = view.signed_in()?.map(|row| row.user);
    for (key, row) in view.outbox(0, usize::MAX)? {
        waiting.entry(row.document).or_default().count(key, &row, signed_in.as_deref());
    }
    let mut unsent = Vec::with_capacity(waiting.len());
    for (document, Waiting { edits, edited_at_s, created, held_for, last }) in waiting {
        let Some(row) = view.document(&document)? else { continue };
        let (space, collection, key) = (row.space, row.collection, row.key);
        let of_it =
            Unsent { space, collection, document, key, edits, edited_at_s, created, held_for };
        unsent.push((last, of_it));
    }
    unsent.sort_unstable_by_key(|(last, _)| std::cmp::Reverse(*last));
    Ok(unsent.into_iter().map(|(_, unsent)| unsent).collect())
}

/// The rows of one document in the outbox.
#[derive(Debug, Default)]
struct Waiting {
    edits: u64,
    edited_at_s: i64,
    created: bool,
    held_for: Option<String>,
    /// The key of its latest edit in the outbox, where clocks do not matter.
    last: u64,
}

impl Waiting {
    fn count(&mut self, key: u64, row: &OutboxRow, signed_in: Option<&str>) {
        let is_other = |user: &&String| signed_in.is_some_and(|signed_in| signed_in != *user);
        if self.held_for.is_none() {
            self.held_for = row.user.as_ref().filter(is_other).cloned();
        }
        self.edits += 1;
        self.edited_at_s = self.edited_at_s.max(row.time_s);
        // The row at the first place has the changes that the document begins with.
        self.created |= row.from == 0;
        self.last = key;
    }
}
