//! The questions of a relay's session to the store, and the answers.

use crate::wire::{Backfill, BegunPiece, CollectionDigest, Listed, PieceOf, Wanted};
use crate::{CollectionName, DocumentId, ShortHash};

/// A question to the store. `space` is the place in the Hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// About twice [`MARK_BYTES`](crate::limits::MARK_BYTES) of changes after a position, in the
    /// order of their positions.
    Log {
        /// The space.
        space: u32,
        /// The position before the first.
        after: u64,
        /// The last position.
        through: u64,
        /// The older documents that the replica lacks.
        backfill: Option<Backfill>,
    },
    /// About [`PIECE_BYTES`](crate::limits::PIECE_BYTES) of whole documents, those that were
    /// changed last first.
    Backfill {
        /// The space.
        space: u32,
        /// The documents, by the position of their last change.
        backfill: Backfill,
        /// Documents that are sent by themselves, because a part of them is there already.
        begun: Vec<DocumentId>,
    },
    /// About [`PIECE_BYTES`](crate::limits::PIECE_BYTES) of a document from a position on. If that
    /// needs changes that were folded away, a piece of the snapshot instead.
    Document {
        /// The space.
        space: u32,
        /// The document.
        document: DocumentId,
        /// The first position wanted.
        from: u64,
        /// The part that the replica has of the snapshot or long change that comes next.
        piece: Option<BegunPiece>,
    },
    /// The first position of a document that a holder of `heads` lacks.
    Locate {
        /// The space.
        space: u32,
        /// The document.
        document: DocumentId,
        /// The heads held.
        heads: Vec<ShortHash>,
    },
    /// Coded symbols; from 0 on over the present set.
    Symbols {
        /// The space.
        space: u32,
        /// The first symbol.
        from: u32,
        /// The number of symbols.
        count: u32,
    },
    /// The digests of the space's collections as committed.
    Digests {
        /// The space.
        space: u32,
    },
    /// Documents and their heads, those that were changed last first.
    Listing {
        /// The space.
        space: u32,
        /// The documents, by the position of their last change.
        backfill: Backfill,
    },
    /// The documents among these of which the relay lacks some or all changes.
    Compare {
        /// The space.
        space: u32,
        /// The documents with the heads that the replica holds.
        documents: Vec<Listed>,
    },
}

impl Read {
    /// The space it is about.
    pub fn space(&self) -> u32 {
        match self {
            Self::Log { space, .. }
            | Self::Backfill { space, .. }
            | Self::Document { space, .. }
            | Self::Locate { space, .. }
            | Self::Symbols { space, .. }
            | Self::Digests { space }
            | Self::Listing { space, .. }
            | Self::Compare { space, .. } => *space,
        }
    }
}

/// The store's answer to the [`Read`] just polled.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadAnswer {
    /// To [`Read::Log`].
    Log(LogPage),
    /// To [`Read::Backfill`].
    Backfill(BackfillPage),
    /// To [`Read::Document`]; `None` if there is no such document.
    Document(Option<Part>),
    /// To [`Read::Locate`].
    Located(Located),
    /// To [`Read::Symbols`].
    Symbols(Vec<u8>),
    /// To [`Read::Digests`].
    Digests {
        /// Of each collection.
        digests: Vec<CollectionDigest>,
        /// Documents of which changes were lost to damage and not brought back.
        lost: u64,
    },
    /// To [`Read::Listing`]: the documents, and the positions that are left.
    Listing(Vec<Listed>, Option<Backfill>),
    /// To [`Read::Compare`].
    Compared(Vec<Wanted>),
    /// To [`Read::Digests`] while something of the space is damaged: no replica is to be taken for
    /// equal by digests that count changes which cannot be read.
    Withheld,
    /// The store could not read. The question is passed over, and the digest will tell the
    /// difference.
    Failed,
}

/// Changes of one document that go into one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The document.
    pub document: DocumentId,
    /// Its collection.
    pub collection: CollectionName,
    /// Each with its position, in order.
    pub changes: Vec<(u64, Vec<u8>)>,
}

/// A part of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPage {
    /// The changes, each document's together.
    pub batches: Vec<Batch>,
    /// The position up to which nothing is left out.
    pub through: u64,
    /// A document that is sent by itself, and settles the log through its position.
    pub large: Option<Large>,
}

/// A part of the backfill.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackfillPage {
    /// Whole documents.
    pub batches: Vec<Batch>,
    /// The positions that are left after them.
    pub left: Option<Backfill>,
    /// A document that is sent by itself, and of which the last change is at its position.
    pub large: Option<Large>,
}

/// A document that takes more than its share of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Large {
    /// The document.
    pub document: DocumentId,
    /// The first position to send.
    pub from: u64,
    /// The position that is reached when all of it is sent.
    pub position: u64,
}

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Changes in the order of their positions.
    Changes {
        /// The document's collection.
        collection: CollectionName,
        /// Each with its position.
        changes: Vec<(u64, Vec<u8>)>,
        /// The first position not included, if there is more.
        next: Option<u64>,
    },
    /// Nothing: an operator erased it.
    Erased {
        /// The document's collection.
        collection: CollectionName,
    },
    /// A piece of the snapshot or of a long change.
    Piece {
        /// The document's collection.
        collection: CollectionName,
        /// The kind of whole that it is of.
        kind: PieceOf,
        /// The position of the change, or the last one that the snapshot covers.
        position: u64,
        /// The offset at which the piece begins, in bytes.
        offset: u64,
        /// The bytes of the whole.
        total: u64,
        /// The piece.
        bytes: Vec<u8>,
        /// The first position after the whole, if there is more.
        next: Option<u64>,
    },
}

/// The point at which a document's missing changes begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The first position the asker lacks, if it lacks any.
    pub from: Option<u64>,
    /// The heads the relay holds, if the asker has something the relay does not know.
    pub wanted: Option<Vec<ShortHash>>,
}
