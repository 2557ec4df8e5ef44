//! The progress of the replica at each relay: marks, documents of which a part has come, and
//! documents that are still wanted. All of it is durable, so that every byte that has come counts.

use redb::ReadableTable;
use rejoin_core::wire::Begun;
use rejoin_core::{DocumentId, SpaceName};

use super::rows::{BegunRow, CursorRow, decode, encode};
use super::tables::{BEGUN, CURSORS, PIECES, REPAIRS, WANTED};
use super::{ReadTxn, StoreError, WriteTxn, unavailable};

/// Reads common to a [`ReadTxn`] and a [`WriteTxn`].
macro_rules! reads {
    ($view:ident) => {
        impl $view {
            /// The marks of a space at a relay.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn cursor(
                &self,
                relay: &str,
                space: &SpaceName,
            ) -> Result<Option<CursorRow>, StoreError> {
                let table = self.txn.open_table(CURSORS).map_err(unavailable)?;
                let row = table.get((relay, space.as_str())).map_err(unavailable)?;
                row.map(|row| decode(row.value())).transpose()
            }

            /// The marks of every space at every relay, with the relay's address and the space.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn cursors(&self) -> Result<Vec<(String, String, CursorRow)>, StoreError> {
                let table = self.txn.open_table(CURSORS).map_err(unavailable)?;
                let mut cursors = Vec::new();
                for row in table.iter().map_err(unavailable)? {
                    let (key, row) = row.map_err(unavailable)?;
                    let (relay, space) = key.value();
                    cursors.push((relay.to_owned(), space.to_owned(), decode(row.value())?));
                }
                Ok(cursors)
            }

            /// The marks to begin a session with. Positions belong to a relay's store and not to
            /// its address, so the marks of another address count, too, if nothing that began there
            /// is unfinished: the relay finds out from the epoch whether they are of its store.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn cursor_to_begin(
                &self,
                relay: &str,
                space: &SpaceName,
            ) -> Result<Option<CursorRow>, StoreError> {
                let mut best = self.cursor(relay, space)?;
                let table = self.txn.open_table(CURSORS).map_err(unavailable)?;
                for row in table.iter().map_err(unavailable)? {
                    let (key, row) = row.map_err(unavailable)?;
                    let (address, name) = key.value();
                    let row: CursorRow = decode(row.value())?;
                    let goes_further = best.is_none_or(|best| {
                        best.is_whole() && best.epoch == row.epoch && best.position < row.position
                    });
                    if address != relay
                        && name == space.as_str()
                        && goes_further
                        && row.is_whole()
                        && self.wanted(address, space, 1)?.is_empty()
                        && self.begun(address, space, 1)?.is_empty()
                    {
                        best = Some(row);
                    }
                }
                Ok(best)
            }

            /// Whether a relay held documents before that have not all come from it.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn is_partial(&self) -> Result<bool, StoreError> {
                let table = self.txn.open_table(CURSORS).map_err(unavailable)?;
                for row in table.iter().map_err(unavailable)? {
                    let row: CursorRow = decode(row.map_err(unavailable)?.1.value())?;
                    if row.backfill.is_some() || row.listing.is_some() {
                        return Ok(true);
                    }
                }
                let wanted = self.txn.open_table(WANTED).map_err(unavailable)?;
                let first = wanted.iter().map_err(unavailable)?.next();
                Ok(first.is_some())
            }

            /// Documents of a space of which a part has come from a relay, at most `max`.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn begun(
                &self,
                relay: &str,
                space: &SpaceName,
                max: usize,
            ) -> Result<Vec<Begun>, StoreError> {
                let table = self.txn.open_table(BEGUN).map_err(unavailable)?;
                let of = |id| (relay, space.as_str(), id);
                let rows = table.range(of([0; 16])..=of([0xff; 16])).map_err(unavailable)?;
                rows.take(max)
                    .map(|row| {
                        let (key, row) = row.map_err(unavailable)?;
                        let BegunRow { through, piece } = decode(row.value())?;
                        Ok(Begun { document: DocumentId(key.value().2), through, piece })
                    })
                    .collect()
            }

            /// Documents of a space that are still wanted from a relay, at most `max`.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn wanted(
                &self,
                relay: &str,
                space: &SpaceName,
                max: usize,
            ) -> Result<Vec<DocumentId>, StoreError> {
                let table = self.txn.open_table(WANTED).map_err(unavailable)?;
                let of = |id| (relay, space.as_str(), id);
                let rows = table.range(of([0; 16])..=of([0xff; 16])).map_err(unavailable)?;
                rows.take(max)
                    .map(|row| Ok(DocumentId(row.map_err(unavailable)?.0.value().2)))
                    .collect()
            }

            /// Calls `each` with the rows of documents after an id, in the order of their ids,
            /// until it returns `false`.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn each_document_after(
                &self,
                after: &DocumentId,
                mut each: impl FnMut(DocumentId, super::DocumentRow) -> bool,
            ) -> Result<(), StoreError> {
                let numbers = self.txn.open_table(super::NUMBERS).map_err(unavailable)?;
                let table = self.txn.open_table(super::DOCUMENTS).map_err(unavailable)?;
                let after = (std::ops::Bound::Excluded(after.0), std::ops::Bound::Unbounded);
                for entry in numbers.range::<[u8; 16]>(after).map_err(unavailable)? {
                    let (id, number) = entry.map_err(unavailable)?;
                    let row = table.get(number.value()).map_err(unavailable)?;
                    let Some(row) = row else { continue };
                    if !each(DocumentId(id.value()), decode(row.value().1)?) {
                        break;
                    }
                }
                Ok(())
            }
        }
    };
}

reads!(ReadTxn);
reads!(WriteTxn);

impl WriteTxn {
    /// Writes the marks of a space at a relay.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_cursor(
        &self,
        relay: &str,
        space: &SpaceName,
        cursor: Option<&CursorRow>,
    ) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(CURSORS).map_err(unavailable)?;
        let key = (relay, space.as_str());
        match cursor {
            Some(cursor) => table.insert(key, encode(cursor).as_slice()).map_err(unavailable)?,
            None => table.remove(key).map_err(unavailable)?,
        };
        Ok(())
    }

    /// The part of a document that has come so far.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn begun_row(
        &self,
        relay: &str,
        space: &SpaceName,
        id: &DocumentId,
    ) -> Result<BegunRow, StoreError> {
        let table = self.txn.open_table(BEGUN).map_err(unavailable)?;
        let row = table.get((relay, space.as_str(), id.0)).map_err(unavailable)?;
        row.map_or_else(|| Ok(BegunRow::default()), |row| decode(row.value()))
    }

    /// Notes the part of a document that has come; `None` once it is whole.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_begun(
        &self,
        relay: &str,
        space: &SpaceName,
        id: &DocumentId,
        row: Option<&BegunRow>,
    ) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(BEGUN).map_err(unavailable)?;
        let key = (relay, space.as_str(), id.0);
        let was = match row {
            Some(row) => table.insert(key, encode(row).as_slice()).map_err(unavailable)?,
            None => table.remove(key).map_err(unavailable)?,
        };
        if row.is_none() && was.is_some() {
            self.remove_pieces(relay, id)?;
        }
        Ok(())
    }

    /// Forgets unfinished snapshots and long changes of a relay, the largest first, until all come to no
    /// more than `max` bytes; that of `id` in `space` last. Whoever wants them begins anew.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn shed_begun(
        &self,
        relay: &str,
        space: &SpaceName,
        id: &DocumentId,
        max: u64,
    ) -> Result<(), StoreError> {
        let mut begun = Vec::new();
        let mut sum = 0;
        {
            let table = self.txn.open_table(BEGUN).map_err(unavailable)?;
            for row in table.range((relay, "", [0; 16])..).map_err(unavailable)? {
                let (key, row) = row.map_err(unavailable)?;
                let (of, of_space, document) = key.value();
                if of != relay {
                    break;
                }
                let row: BegunRow = decode(row.value())?;
                let bytes = row.piece.map_or(0, |piece| piece.bytes);
                sum += bytes;
                if bytes > 0 {
                    let is_other = of_space != space.as_str() || document != id.0;
                    begun.push(((is_other, bytes), of_space.to_owned(), document, row));
                }
            }
        }
        begun.sort_unstable_by_key(|(order, ..)| *order);
        while sum > max
            && let Some(((_, bytes), space, document, row)) = begun.pop()
        {
            sum -= bytes;
            self.remove_pieces(relay, &DocumentId(document))?;
            let mut table = self.txn.open_table(BEGUN).map_err(unavailable)?;
            let row = encode(&BegunRow { piece: None, ..row });
            table.insert((relay, space.as_str(), document), row.as_slice()).map_err(unavailable)?;
        }
        Ok(())
    }

    /// Keeps a piece of a snapshot or of a long change.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_piece(
        &self,
        relay: &str,
        id: &DocumentId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(PIECES).map_err(unavailable)?;
        table.insert((relay, id.0, offset), bytes).map_err(unavailable)?;
        Ok(())
    }

    /// The pieces of a document, put together.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn pieces(&self, relay: &str, id: &DocumentId) -> Result<Vec<u8>, StoreError> {
        let table = self.txn.open_table(PIECES).map_err(unavailable)?;
        let range = (relay, id.0, 0)..=(relay, id.0, u64::MAX);
        let mut whole = Vec::new();
        for row in table.range(range).map_err(unavailable)? {
            whole.extend_from_slice(row.map_err(unavailable)?.1.value());
        }
        Ok(whole)
    }

    /// Forgets the pieces of a document.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn remove_pieces(&self, relay: &str, id: &DocumentId) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(PIECES).map_err(unavailable)?;
        let range = (relay, id.0, 0)..=(relay, id.0, u64::MAX);
        table.retain_in(range, |_, _| false).map_err(unavailable)
    }

    /// Notes that a document is still wanted from a relay, or no more. Returns whether it was.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn mark_wanted(
        &self,
        relay: &str,
        space: &SpaceName,
        id: &DocumentId,
        wanted: bool,
    ) -> Result<bool, StoreError> {
        let mut table = self.txn.open_table(WANTED).map_err(unavailable)?;
        let key = (relay, space.as_str(), id.0);
        let was = match wanted {
            true => table.insert(key, ()).map_err(unavailable)?,
            false => table.remove(key).map_err(unavailable)?,
        };
        Ok(was.is_some())
    }

    /// Counts a repair that begins, and gives how many before it have not ended.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn count_repair(&self, relay: &str, space: &SpaceName) -> Result<u32, StoreError> {
        let mut table = self.txn.open_table(REPAIRS).map_err(unavailable)?;
        let key = (relay, space.as_str());
        let before = table.get(key).map_err(unavailable)?.map_or(0, |row| row.value());
        table.insert(key, before.saturating_add(1)).map_err(unavailable)?;
        Ok(before)
    }

    /// The repair has ended, with any result.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn end_repair(&self, relay: &str, space: &SpaceName) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(REPAIRS).map_err(unavailable)?;
        table.remove((relay, space.as_str())).map_err(unavailable)?;
        Ok(())
    }

    /// Forgets which documents of a space are wanted, and the parts of documents that have come:
    /// the relay's store is another one, or everything is here.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn forget_arrivals(&self, relay: &str, space: &SpaceName) -> Result<(), StoreError> {
        let of = |id| (relay, space.as_str(), id);
        let all = of([0; 16])..=of([0xff; 16]);
        let mut wanted = self.txn.open_table(WANTED).map_err(unavailable)?;
        wanted.retain_in(all.clone(), |_, ()| false).map_err(unavailable)?;
        for begun in self.begun(relay, space, usize::MAX)? {
            self.put_begun(relay, space, &begun.document, None)?;
        }
        Ok(())
    }
}
