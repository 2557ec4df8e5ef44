//! Older documents: those that come in parts, those that are wanted, and, if a replica held some
//! before it had a cursor, lists of the documents that each side has.
//!
//! The progress is kept in the commit of the changes that came, so the next session goes on where
//! this one ended.

use rejoin_core::change::Refusal;
use rejoin_core::limits::BEGUN_BYTES_MAX;
use rejoin_core::wire::{Backfill, BegunPiece, Listed, Piece, PieceOf, Wanted};
use rejoin_core::{ChangeHash, CollectionName, DocumentId, HeadsHash, heads_hash};
use tracing::{info, warn};

use super::Session;
use crate::engine::apply::{ReceiveError, Received};
use crate::engine::{Engine, EngineError, Turn};
use crate::store::{BegunRow, CursorRow, WriteTxn};

/// Something of one document from the relay.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The space's number in the session.
    pub(super) space: u32,
    pub(super) document: DocumentId,
    pub(super) collection: CollectionName,
    pub(super) piece: Option<Piece>,
    pub(super) changes: Vec<Vec<u8>>,
    pub(super) position: Option<u64>,
    pub(super) more: Option<bool>,
}

impl Engine {
    pub(super) fn stage_arrival(
        &mut self,
        turn: &mut Turn,
        arrival: Arrival,
    ) -> Result<(), EngineError> {
        let Some(session) = &self.session else { return Ok(()) };
        let Arrival { space: number, document, collection, piece, changes, position, more } =
            arrival;
        let (relay, space) = (session.relay.clone(), session.name(number));
        let mut received =
            Received { space, collection, document, snapshot: None, changes, position };
        let mut begun = match more {
            Some(_) => turn.txn.begun_row(&relay, &received.space, &document)?,
            None => BegunRow::default(),
        };
        // The last piece of something of which the first ones are not here.
        let mut is_broken = false;
        if let Some(piece) = piece {
            turn.dirty = true;
            match stage_piece(&turn.txn, &relay, &document, &mut begun, &piece)? {
                Some(whole) if piece.kind == PieceOf::Snapshot => received.snapshot = Some(whole),
                Some(whole) => received.changes.insert(0, whole),
                None => {
                    is_broken = more == Some(false);
                    #[cfg(feature = "mutants")]
                    if self.options.mutant == Some(crate::engine::Mutant::ForgottenPiece) {
                        turn.txn.remove_pieces(&relay, &document)?;
                    }
                }
            }
        } else if let Some(position) = position {
            begun.through = position;
        }
        let space = received.space.clone();
        if received.snapshot.is_some() || !received.changes.is_empty() {
            self.stage_taken(turn, number, received)?;
        }
        match more {
            Some(true) => {
                turn.txn.put_begun(&relay, &space, &document, Some(&begun))?;
                if begun.piece.is_some() {
                    turn.txn.shed_begun(&relay, &space, &document, BEGUN_BYTES_MAX)?;
                }
            }
            Some(false) => {
                turn.txn.put_begun(&relay, &space, &document, None)?;
                self.stage_answered(turn, number, &document)?;
                if is_broken {
                    self.want_again(turn, number, &document)?;
                }
            }
            None => return self.want_what_left_the_list(turn, number, &document),
        }
        turn.dirty = true;
        Ok(())
    }

    fn stage_taken(
        &mut self,
        turn: &mut Turn,
        number: u32,
        received: Received,
    ) -> Result<(), EngineError> {
        let document = received.document;
        let error = match self.stage_received(turn, received) {
            Ok(()) => return Ok(()),
            Err(ReceiveError::Engine(error @ EngineError::Store(_))) => return Err(error),
            Err(error) => error,
        };
        // One bad document must not stop the others. Only its sound part is in the transaction; the
        // digest will tell that something is missing.
        drop(self.loaded.take(&document));
        let Some(session) = &mut self.session else { return Ok(()) };
        session.spaces[number as usize].equal = false;
        let lacks = matches!(error, ReceiveError::Refused { source: Refusal::Missing(_), .. });
        // It builds on changes that are still to come of a document that was held in part.
        if lacks && self.want_again(turn, number, &document)? {
            return Ok(());
        }
        warn!(doc = %document, error = &error as &dyn std::error::Error, "not taken");
        self.status.trouble = Some(error.to_string());
        Ok(())
    }

    /// Wants a document of which something did not come, a few times in a session. Returns whether it
    /// does.
    fn want_again(
        &mut self,
        turn: &mut Turn,
        number: u32,
        document: &DocumentId,
    ) -> Result<bool, EngineError> {
        let Some(session) = &mut self.session else { return Ok(false) };
        let times = session.lacking.entry(*document).or_default();
        *times += 1;
        if *times > MISSING_MAX {
            return Ok(false);
        }
        let space = &session.spaces[number as usize].name;
        turn.txn.mark_wanted(&session.relay, space, document, true)?;
        turn.dirty = true;
        self.go_on(turn, number)?;
        Ok(true)
    }

    /// Somebody wrote to a document while lists are compared. Its last change is now beyond the
    /// positions that are still to be listed, and older changes of it may be missing, so it is
    /// wanted by itself.
    pub(super) fn want_what_left_the_list(
        &mut self,
        turn: &mut Turn,
        number: u32,
        document: &DocumentId,
    ) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let space = &session.spaces[number as usize];
        if space.cursor.is_none_or(|cursor| cursor.listing.is_none()) {
            return Ok(());
        }
        turn.txn.mark_wanted(&session.relay, &space.name, document, true)?;
        turn.dirty = true;
        self.go_on(turn, number)
    }

    /// The relay has answered a want for a document.
    pub(super) fn stage_answered(
        &mut self,
        turn: &mut Turn,
        number: u32,
        document: &DocumentId,
    ) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let space = &mut session.spaces[number as usize];
        if !turn.txn.mark_wanted(&session.relay, &space.name, document, false)? {
            return Ok(());
        }
        turn.dirty = true;
        space.wanting = space.wanting.saturating_sub(1);
        if space.wanting == 0 { self.go_on(turn, number) } else { Ok(()) }
    }

    /// Begins to find the documents that differ from lists, because a repair would cost more.
    pub(super) fn begin_listing(
        &mut self,
        turn: &mut Turn,
        number: u32,
    ) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let space = &mut session.spaces[number as usize];
        let Some(cursor) = space.listed_to.take().or(space.cursor) else { return Ok(()) };
        info!(space = %space.name, "listing what differs");
        turn.txn.end_repair(&session.relay, &space.name)?;
        // Documents that were written to since the digests differed are to be compared, too.
        let listing = Backfill::of(0, u64::MAX);
        let offered = space.is_open.then_some(DocumentId([0; 16]));
        space.cursor = Some(CursorRow { listing, offered, ..cursor });
        turn.dirty = true;
        session.protocol.trust(number);
        self.go_on(turn, number)
    }

    pub(super) fn stage_listed(
        &mut self,
        turn: &mut Turn,
        number: u32,
        documents: &[Listed],
        left: Option<Backfill>,
    ) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let space = &mut session.spaces[number as usize];
        for Listed { document, heads } in documents {
            let row = turn.txn.document(document)?.filter(|row| row.space == space.name);
            let here = match row {
                Some(row) => Some(heads_hash(&row.heads)),
                None => turn.txn.erased(document)?.map(|_| HeadsHash::ERASED),
            };
            if here.is_none_or(|here| here.short() != *heads) {
                turn.txn.mark_wanted(&session.relay, &space.name, document, true)?;
            }
        }
        if let Some(cursor) = &mut space.cursor {
            cursor.listing = left;
        }
        space.is_listing = false;
        turn.dirty = true;
        self.go_on(turn, number)
    }

    /// Asks for the next older documents, once those that were asked for before have come.
    pub(super) fn go_on(&mut self, turn: &mut Turn, number: u32) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let space = &mut session.spaces[number as usize];
        if space.wanting > 0 || space.is_listing {
            return Ok(());
        }
        let some = turn.txn.wanted(&session.relay, &space.name, WANTED_AT_ONCE)?;
        if !some.is_empty() {
            let mut wanted = Vec::with_capacity(some.len());
            for document in some {
                let row = turn.txn.document(&document)?;
                let heads = row.map(|row| row.heads.iter().map(ChangeHash::short).collect());
                wanted.push(Wanted { document, heads: heads.unwrap_or_default() });
            }
            space.wanting = wanted.len();
            session.protocol.want(number, wanted);
            return Ok(());
        }
        match space.cursor.and_then(|cursor| cursor.listing) {
            Some(listing) => {
                space.is_listing = true;
                session.protocol.list(number, listing);
                Ok(())
            }
            None => self.go_on_offering(turn),
        }
    }

    /// Offers the next documents, once all that the relay wanted of those before is with it.
    pub(super) fn go_on_offering(&mut self, turn: &mut Turn) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let pushing = session.is_pushing();
        let Session { spaces, protocol, .. } = session;
        for (number, space) in spaces.iter_mut().enumerate() {
            let Some(cursor) = &mut space.cursor else { continue };
            let Some(after) = cursor.offered.filter(|_| cursor.listing.is_none()) else { continue };
            let after = match space.offering {
                None => after,
                Some((last, true)) if !pushing => {
                    cursor.offered = Some(last);
                    turn.dirty = true;
                    last
                }
                Some(_) => continue,
            };
            let mut offer = Vec::new();
            turn.txn.each_document_after(&after, |document, row| {
                if row.space == space.name && space.write.contains(&row.collection) {
                    offer.push(Listed { document, heads: heads_hash(&row.heads).short() });
                }
                offer.len() < OFFERED_AT_ONCE
            })?;
            // A relay that does not know of an erasure wants the document, and so says that.
            let of_documents = offer.len();
            turn.txn.each_erased_after(&after, |document, row| {
                if row.space == space.name && space.write.contains(&row.collection) {
                    offer.push(Listed { document, heads: HeadsHash::ERASED.short() });
                }
                offer.len() < of_documents + OFFERED_AT_ONCE
            })?;
            offer.sort_unstable_by_key(|listed| listed.document);
            offer.truncate(OFFERED_AT_ONCE);
            space.offering = offer.last().map(|last| (last.document, false));
            if offer.is_empty() {
                cursor.offered = None;
                turn.dirty = true;
                protocol.ask_digests(number as u32);
            } else {
                protocol.offer(number as u32, offer);
            }
        }
        Ok(())
    }
}

/// Keeps a piece, and gives the whole if it was the last. A piece that does not follow the ones
/// that are here is left: the relay begins anew then, or repeats itself.
fn stage_piece(
    txn: &WriteTxn,
    relay: &str,
    document: &DocumentId,
    begun: &mut BegunRow,
    piece: &Piece,
) -> Result<Option<Vec<u8>>, EngineError> {
    let Piece { kind, position, offset, total, ref bytes } = *piece;
    let here = begun.piece.filter(|here| here.kind == kind && here.position == position);
    if offset == 0 {
        txn.remove_pieces(relay, document)?;
    } else if here.is_none_or(|here| here.bytes != offset) {
        return Ok(None);
    }
    txn.put_piece(relay, document, offset, bytes)?;
    let here = offset + bytes.len() as u64;
    if here < total {
        begun.piece = Some(BegunPiece { kind, position, bytes: here });
        return Ok(None);
    }
    let whole = txn.pieces(relay, document)?;
    txn.remove_pieces(relay, document)?;
    *begun = BegunRow { through: position, piece: None };
    Ok(Some(whole))
}

/// Documents that are asked for at once: some 10 KiB of heads.
const WANTED_AT_ONCE: usize = 256;

/// Documents that are offered at once: 6 KiB.
const OFFERED_AT_ONCE: usize = 256;

/// Times in a session that a document is asked for because something it builds on was missing.
const MISSING_MAX: u32 = 3;
