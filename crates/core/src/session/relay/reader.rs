//! The progress of one session in one space.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use minicbor::bytes::ByteVec;

use super::ask::{BackfillPage, Batch, Large, Located, LogPage, Part, Read};
use super::{CHECKPOINT_MS, Opened, Transmit};
use crate::limits;
use crate::wire::{
    Access, Backfill, Begun, BegunPiece, Changes, Checkpoint, CollectionDigest, Erased, Frame,
    Listed, Nothing, Piece, PieceOf, Start, Want, Wanted,
};
use crate::{CollectionName, DocumentId};

/// The progress of a session in one space: a mark in the log, the rest of the backfill, and at most
/// three documents that are sent in parts.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) access: Access,
    /// The highest position committed.
    position: u64,
    /// Everything up to here was sent, except the backfill.
    sent: u64,
    backfill: Option<Backfill>,
    /// Positions after `sent` that the replica itself pushed, and need not be sent.
    own: BTreeSet<u64>,
    /// Whether the replica holds documents of which nobody knows how far they go.
    is_unknown: bool,
    /// Documents that were sent by themselves, and so are further than the log.
    ahead: BTreeMap<DocumentId, u64>,
    /// Documents of which the replica had a part.
    begun: BTreeMap<DocumentId, Begun>,
    /// The document that the log waits for, the one that is backfilled, and one that was wanted.
    log: Option<Transfer>,
    back: Option<Transfer>,
    want: Option<Transfer>,
    pub(super) wanted: VecDeque<Wanted>,
    wanted_bytes: usize,
    /// Documents the relay wants from the replica, and whether they answer an offer.
    wants: Vec<Wanted>,
    answers_offer: bool,
    pub(super) repair: Option<(u32, u32)>,
    pub(super) listing: Option<Backfill>,
    pub(super) offer: Option<Vec<Listed>>,
    frames: VecDeque<Frame>,
    /// The marks told last, and the time.
    told: (u64, Option<Backfill>),
    told_at: u64,
    /// Bytes sent since.
    untold_bytes: usize,
    /// A digest is due as soon as nothing is unsent.
    pub(super) digest_due: bool,
}

/// A document under way.
#[derive(Debug)]
struct Transfer {
    document: DocumentId,
    from: u64,
    piece: Option<BegunPiece>,
    /// The position that is reached when all of it is sent.
    position: u64,
}

/// The transfer of a reader that a document's part is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Log,
    Back,
    Want,
}

impl Reader {
    pub(super) fn new(now: u64, opened: Opened, begun: Vec<Begun>) -> Self {
        let first = opened.first.into_iter();
        let first = first.map(|document| Wanted { document, heads: Vec::new() });
        let wanted = VecDeque::new();
        let mut reader = Self {
            access: opened.access,
            position: opened.position,
            sent: opened.sent,
            backfill: opened.backfill,
            own: BTreeSet::new(),
            is_unknown: opened.start == Start::Now,
            ahead: BTreeMap::new(),
            begun: begun.into_iter().map(|begun| (begun.document, begun)).collect(),
            log: None,
            back: None,
            want: None,
            wanted,
            wanted_bytes: 0,
            wants: Vec::new(),
            answers_offer: false,
            repair: None,
            listing: None,
            offer: None,
            frames: VecDeque::new(),
            told: (opened.sent, opened.backfill),
            told_at: now,
            untold_bytes: 0,
            digest_due: opened.access != Access::None,
        };
        reader.want(first.collect());
        reader
    }

    /// The replica wants documents.
    pub(super) fn want(&mut self, documents: Vec<Wanted>) {
        self.wanted_bytes += documents.iter().map(wanted_bytes).sum::<usize>();
        self.wanted.extend(documents);
    }

    /// Bytes kept until the replica reads.
    pub(super) fn unread_bytes(&self) -> usize {
        self.wanted_bytes + self.wants.iter().map(wanted_bytes).sum::<usize>()
    }

    /// A commit put changes at these positions. A replica's own changes need not be sent back to
    /// it: if all changes before them were sent and no older document is missing, the mark just
    /// moves beyond them, and else they are remembered.
    pub(super) fn committed(&mut self, positions: RangeInclusive<u64>, own: bool) {
        let next = self.sent + 1 == *positions.start() && self.log.is_none();
        self.position = self.position.max(*positions.end());
        if !own {
            return;
        }
        if next && self.backfill.is_none() {
            self.sent = *positions.end();
        } else if self.own.len() < limits::FRAME_CHANGES_MAX {
            self.own.extend(positions);
        }
    }

    pub(super) fn poll(&mut self, now: u64, space: u32, settled: bool) -> Option<Transmit> {
        if self.access == Access::None {
            return None;
        }
        if let Some(frame) = self.frames.pop_front() {
            return Some(Transmit::Frame(frame));
        }
        if self.untold_bytes >= limits::MARK_BYTES && self.is_untold() {
            return Some(self.checkpoint(now, space, settled));
        }
        if let Some((from, count)) = self.repair.take() {
            return Some(Transmit::Read(Read::Symbols { space, from, count }));
        }
        if let Some(transfer) = &self.log {
            return Some(transfer.read(space));
        }
        if self.sent < self.position {
            let (after, through, backfill) = (self.sent, self.position, self.backfill);
            return Some(Transmit::Read(Read::Log { space, after, through, backfill }));
        }
        if let Some(backfill) = self.listing.take() {
            return Some(Transmit::Read(Read::Listing { space, backfill }));
        }
        if let Some(documents) = self.offer.take() {
            return Some(Transmit::Read(Read::Compare { space, documents }));
        }
        if !self.wants.is_empty() || self.answers_offer {
            let rest = self.wants.split_off(self.wants.len().min(limits::WANT_DOCUMENTS_MAX));
            let documents = std::mem::replace(&mut self.wants, rest);
            let answers = self.wants.is_empty() && std::mem::take(&mut self.answers_offer);
            return Some(Transmit::Frame(Frame::Want(Want { space, documents, answers })));
        }
        if now >= self.told_at + CHECKPOINT_MS && self.is_untold() {
            return Some(self.checkpoint(now, space, settled));
        }
        self.poll_older(space, settled)
    }

    /// The next thing to send when nothing new is left.
    fn poll_older(&mut self, space: u32, settled: bool) -> Option<Transmit> {
        if let Some(transfer) = &self.want {
            return Some(transfer.read(space));
        }
        if let Some(wanted) = self.wanted.pop_front() {
            self.wanted_bytes -= wanted_bytes(&wanted);
            let Wanted { document, heads } = wanted;
            return Some(Transmit::Read(Read::Locate { space, document, heads }));
        }
        if let Some(transfer) = &self.back {
            return Some(transfer.read(space));
        }
        if let Some(backfill) = self.backfill {
            let begun = self.begun.keys().copied().collect();
            return Some(Transmit::Read(Read::Backfill { space, backfill, begun }));
        }
        (self.digest_due && settled).then_some(Transmit::Read(Read::Digests { space }))
    }

    /// The time at which to poll although nothing happens. While something is unsent, the socket
    /// sets the pace.
    pub(super) fn timeout(&self, patience: u64) -> Option<u64> {
        if self.access == Access::None || !self.is_drained() {
            return None;
        }
        if self.is_untold() {
            return Some(self.told_at + CHECKPOINT_MS);
        }
        self.digest_due.then_some(patience)
    }

    pub(super) fn is_drained(&self) -> bool {
        let under_way = [&self.log, &self.back, &self.want].into_iter().any(Option::is_some);
        !under_way
            && self.sent == self.position
            && self.backfill.is_none()
            && self.frames.is_empty()
            && self.wanted.is_empty()
            && self.wants.is_empty()
            && !self.answers_offer
            && self.listing.is_none()
            && self.offer.is_none()
    }

    /// Entries kept for this reader.
    pub(super) fn queued(&self) -> usize {
        self.own.len() + self.ahead.len() + self.wanted.len() + self.wants.len() + self.frames.len()
    }

    pub(super) fn take_log(&mut self, space: u32, page: LogPage) {
        for mut batch in page.batches {
            let ahead = self.ahead.get(&batch.document).copied().unwrap_or_default();
            batch.changes.retain(|(at, _)| *at > ahead && !self.own.contains(at));
            self.send_batch(space, batch);
        }
        self.reach(page.through);
        let Some(large) = page.large else { return };
        let ahead = self.ahead.get(&large.document).is_some_and(|ahead| *ahead >= large.position);
        let own = large.from == large.position && self.own.contains(&large.position);
        if ahead || own {
            return self.reach(large.position);
        }
        // The part of it that was sent as backfill counts.
        let back = self.back.take_if(|back| back.document == large.document);
        let transfer = match back {
            Some(back) => Transfer { position: large.position, ..back },
            None => self.transfer(large),
        };
        self.log = Some(transfer);
    }

    pub(super) fn take_backfill(&mut self, space: u32, page: BackfillPage) {
        for batch in page.batches {
            let last = batch.changes.last().map(|(at, _)| *at);
            // A mark comes before the changes that would go beyond its distance, not after them.
            let bytes: usize = batch.changes.iter().map(|(_, chunk)| chunk.len()).sum();
            if self.untold_bytes + bytes > limits::MARK_BYTES && self.is_untold() {
                let frame = self.tell(self.told_at, space, None);
                self.frames.push_back(frame);
            }
            self.send_batch(space, batch);
            if let (Some(last), Some(backfill)) = (last, self.backfill) {
                self.backfill = Backfill::of(backfill.after, last - 1);
            }
            // When nothing is left, the mark goes with the digests.
            if self.untold_bytes >= limits::MARK_BYTES && self.backfill.is_some() {
                let frame = self.tell(self.told_at, space, None);
                self.frames.push_back(frame);
            }
        }
        self.backfill = page.left;
        self.back = page.large.map(|large| self.transfer(large));
        self.digest_due |= self.backfill.is_none();
    }

    pub(super) fn take_located(&mut self, space: u32, document: DocumentId, located: Located) {
        self.digest_due = true;
        match located.from {
            Some(from) => {
                self.want = Some(self.transfer(Large { document, from, position: 0 }));
            }
            None => self.frames.push_back(Frame::Nothing(Nothing { space, document })),
        }
        if let Some(heads) = located.wanted {
            self.wants.push(Wanted { document, heads });
        }
    }

    pub(super) fn take_compared(&mut self, wanted: Vec<Wanted>) {
        self.wants.extend(wanted);
        self.answers_offer = true;
        self.digest_due = true;
    }

    /// Takes a part of the document that is under way. `None` if there is no such document, or it
    /// could not be read: then it is passed over.
    pub(super) fn take_part(&mut self, space: u32, document: DocumentId, part: Option<Part>) {
        let Some((way, mut transfer)) = self.under_way(&document) else { return };
        let Some(part) = part else { return self.finish(way, &transfer) };
        let (frame, next) = transfer.frame(space, part, &self.own);
        self.untold_bytes += payload(&frame);
        let is_erased = matches!(frame, Frame::Erased(_));
        self.frames.push_back(frame);
        if is_erased && way == Way::Want {
            // A replica of before passes the erasure over, and waits for an answer that it knows.
            self.frames.push_back(Frame::Nothing(Nothing { space, document }));
        }
        match next {
            Some(next) => {
                transfer.from = next;
                *self.way(way) = Some(transfer);
            }
            None => self.finish(way, &transfer),
        }
    }

    pub(super) fn tell(
        &mut self,
        now: u64,
        space: u32,
        digests: Option<(Vec<CollectionDigest>, u64)>,
    ) -> Frame {
        self.told = (self.sent, self.backfill);
        self.told_at = now;
        self.untold_bytes = 0;
        let (position, backfill) = self.told;
        let (digests, lost) = digests.unzip();
        let lost = lost.filter(|lost| *lost > 0);
        Frame::Checkpoint(Checkpoint { space, position, digests, backfill, lost })
    }

    fn checkpoint(&mut self, now: u64, space: u32, settled: bool) -> Transmit {
        if settled && self.is_drained() {
            return Transmit::Read(Read::Digests { space });
        }
        Transmit::Frame(self.tell(now, space, None))
    }

    /// Positions of which nothing was sent.
    pub(super) fn behind(&self) -> u64 {
        let older = self.backfill.map_or(0, |it| it.through.saturating_sub(it.after));
        self.position.saturating_sub(self.sent) + older
    }

    /// The marks told last; `None` if the replica had no mark to begin with and compares what it has.
    pub(super) fn told(&self) -> Option<(u64, Option<Backfill>)> {
        (!self.is_unknown).then_some(self.told)
    }

    pub(super) fn is_untold(&self) -> bool {
        self.told != (self.sent, self.backfill)
    }

    /// Everything up to a position was sent.
    fn reach(&mut self, position: u64) {
        self.sent = self.sent.max(position);
        self.own = self.own.split_off(&(self.sent + 1));
        let sent = self.sent;
        self.ahead.retain(|_, ahead| *ahead > sent);
    }

    fn transfer(&self, large: Large) -> Transfer {
        let Large { document, from, position } = large;
        match self.begun.get(&document) {
            Some(begun) => Transfer {
                document,
                from: from.max(begun.through + 1),
                piece: begun.piece,
                position,
            },
            None => Transfer { document, from, piece: None, position },
        }
    }

    fn under_way(&mut self, document: &DocumentId) -> Option<(Way, Transfer)> {
        let ways = [Way::Log, Way::Want, Way::Back].into_iter();
        let is_it = |transfer: &mut Transfer| transfer.document == *document;
        ways.into_iter().find_map(|way| Some((way, self.way(way).take_if(is_it)?)))
    }

    fn way(&mut self, way: Way) -> &mut Option<Transfer> {
        match way {
            Way::Log => &mut self.log,
            Way::Back => &mut self.back,
            Way::Want => &mut self.want,
        }
    }

    fn finish(&mut self, way: Way, transfer: &Transfer) {
        self.begun.remove(&transfer.document);
        if way != Way::Want {
            // Until the marks are told, a cut costs all of it.
            self.untold_bytes = self.untold_bytes.max(limits::MARK_BYTES);
        }
        match way {
            Way::Want => {}
            Way::Log => {
                // All of it was sent, beyond where the log stands.
                let last = transfer.from.saturating_sub(1).max(transfer.position);
                self.reach(transfer.position);
                if last > self.sent && self.ahead.len() < limits::WANTED_MAX {
                    self.ahead.insert(transfer.document, last);
                }
            }
            Way::Back => {
                let left = |it: Backfill| Backfill::of(it.after, transfer.position - 1);
                self.backfill = self.backfill.and_then(left);
                self.digest_due |= self.backfill.is_none();
            }
        }
    }

    fn send_batch(&mut self, space: u32, batch: Batch) {
        let Batch { document, collection, changes } = batch;
        if changes.is_empty() {
            return;
        }
        let frame = Frame::Changes(changes_frame(space, document, collection, changes, None));
        self.untold_bytes += payload(&frame);
        self.frames.push_back(frame);
    }
}

fn wanted_bytes(wanted: &Wanted) -> usize {
    64 + 8 * wanted.heads.len()
}

impl Transfer {
    fn read(&self, space: u32) -> Transmit {
        let Self { document, from, piece, .. } = *self;
        Transmit::Read(Read::Document { space, document, from, piece })
    }

    /// The frame with a part, and from where the rest begins.
    fn frame(&mut self, space: u32, part: Part, own: &BTreeSet<u64>) -> (Frame, Option<u64>) {
        let document = self.document;
        let (frame, next) = match part {
            Part::Erased { collection } => {
                return (Frame::Erased(Erased { space, document, collection }), None);
            }
            Part::Piece { collection, kind: PieceOf::Change, position, next, .. }
                if own.contains(&position) =>
            {
                (self.piece, self.from) = (None, position + 1);
                let frame = changes_frame(space, document, collection, Vec::new(), None);
                let (position, more) = (Some(position), Some(next.is_some()));
                (Changes { position, more, ..frame }, next)
            }
            Part::Changes { collection, mut changes, next } => {
                self.piece = None;
                if let Some((last, _)) = changes.last() {
                    self.from = last + 1;
                }
                let position = changes.last().map(|(at, _)| *at);
                changes.retain(|(at, _)| !own.contains(at));
                let more = Some(next.is_some());
                let frame = changes_frame(space, document, collection, changes, more);
                (Changes { position, ..frame }, next)
            }
            Part::Piece { collection, kind, position, offset, total, bytes, next } => {
                let end = offset + bytes.len() as u64;
                self.piece = (end < total).then_some(BegunPiece { kind, position, bytes: end });
                let next = if end < total { Some(self.from) } else { next };
                if end == total {
                    self.from = position + 1;
                }
                let bytes = ByteVec::from(bytes);
                let piece = Some(Piece { kind, position, offset, total, bytes });
                let (position, more) = (Some(position), Some(next.is_some()));
                let frame = changes_frame(space, document, collection, Vec::new(), more);
                (Changes { piece, position, ..frame }, next)
            }
        };
        (Frame::Changes(frame), next)
    }
}

fn changes_frame(
    space: u32,
    document: DocumentId,
    collection: CollectionName,
    changes: Vec<(u64, Vec<u8>)>,
    more: Option<bool>,
) -> Changes {
    let position = changes.last().map(|(at, _)| *at);
    let changes = changes.into_iter().map(|(_, chunk)| ByteVec::from(chunk)).collect();
    let (collection, piece, step) = (Some(collection), None, None);
    Changes { space, document, collection, piece, changes, position, more, step }
}

/// Bytes of a frame, about.
fn payload(frame: &Frame) -> usize {
    let Frame::Changes(frame) = frame else { return FRAME_COST_BYTES };
    let piece = frame.piece.as_ref().map_or(0, |piece| piece.bytes.len());
    FRAME_COST_BYTES + piece + frame.changes.iter().map(|chunk| chunk.len()).sum::<usize>()
}

/// Bytes of a frame beside its content.
const FRAME_COST_BYTES: usize = 48;
