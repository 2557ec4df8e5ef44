//! A relay's store in memory, and what arrives at the other end of a line.

use std::collections::BTreeMap;

use rejoin_core::limits::PIECE_BYTES;
use rejoin_core::session::{
    BackfillPage, Batch, Large, Located, LogPage, Part, Read, ReadAnswer, RelaySession, Transmit,
};
use rejoin_core::wire::{Backfill, BegunPiece, Frame, PieceOf};
use rejoin_core::{CollectionName, DocumentId};

pub(crate) fn jobs() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

pub(crate) fn document(n: u8) -> DocumentId {
    DocumentId([n; 16])
}

/// A space in memory: at each position a change of a document. The bytes of a change begin with its
/// position.
#[derive(Default)]
pub(crate) struct Space {
    log: Vec<(DocumentId, Vec<u8>)>,
}

impl Space {
    pub(crate) fn write(&mut self, document: DocumentId, len: usize) -> u64 {
        let position = self.log.len() as u64 + 1;
        let mut bytes = position.to_be_bytes().to_vec();
        bytes.resize(len.max(8), 7);
        self.log.push((document, bytes));
        position
    }

    pub(crate) fn end(&self) -> u64 {
        self.log.len() as u64
    }

    fn chunk(&self, position: u64) -> &[u8] {
        &self.log[position as usize - 1].1
    }

    /// Positions of a document from one on.
    fn of(&self, document: DocumentId, from: u64) -> Vec<u64> {
        (from.max(1)..=self.end()).filter(|at| self.log[*at as usize - 1].0 == document).collect()
    }

    fn batch(&self, document: DocumentId, positions: &[u64]) -> Batch {
        let changes = positions.iter().map(|at| (*at, self.chunk(*at).to_vec())).collect();
        Batch { document, collection: jobs(), changes }
    }

    pub(crate) fn answer(&self, read: &Read) -> ReadAnswer {
        match read {
            Read::Log { after, through, backfill, .. } => {
                ReadAnswer::Log(self.log_page(*after, *through, *backfill))
            }
            Read::Backfill { backfill, begun, .. } => {
                ReadAnswer::Backfill(self.backfill_page(*backfill, begun))
            }
            Read::Document { document, from, piece, .. } => {
                ReadAnswer::Document(self.part(*document, *from, *piece))
            }
            Read::Locate { document, heads, .. } => {
                // Heads name a position here.
                let held = heads.iter().map(|head| u64::from(head.0[0])).max().unwrap_or_default();
                let from = self.of(*document, held + 1).first().copied();
                ReadAnswer::Located(Located { from, wanted: None })
            }
            Read::Digests { .. } => ReadAnswer::Digests { digests: Vec::new(), lost: 0 },
            other => panic!("{other:?}"),
        }
    }

    fn log_page(&self, after: u64, through: u64, backfill: Option<Backfill>) -> LogPage {
        let mut page = LogPage { batches: Vec::new(), through, large: None };
        let mut room = PIECE_BYTES;
        for position in after + 1..=through {
            let (document, chunk) = &self.log[position as usize - 1];
            let before = self.of(*document, 1).into_iter().rfind(|at| *at < position);
            let lacks = backfill.filter(|it| before.is_some_and(|at| it.contains(at)));
            if lacks.is_some() || chunk.len() > PIECE_BYTES {
                let from = lacks.map_or(position, |it| self.of(*document, it.after + 1)[0]);
                page.through = position - 1;
                page.large = Some(Large { document: *document, from, position });
                break;
            }
            if chunk.len() > room {
                page.through = position - 1;
                break;
            }
            room -= chunk.len();
            let batch = page.batches.iter_mut().find(|batch| batch.document == *document);
            match batch {
                Some(batch) => batch.changes.push((position, chunk.clone())),
                None => page.batches.push(self.batch(*document, &[position])),
            }
        }
        page
    }

    fn backfill_page(&self, backfill: Backfill, begun: &[DocumentId]) -> BackfillPage {
        let mut page = BackfillPage { batches: Vec::new(), left: Some(backfill), large: None };
        let mut room = PIECE_BYTES;
        for position in (backfill.after + 1..=backfill.through).rev() {
            let document = self.log[position as usize - 1].0;
            let positions = self.of(document, backfill.after + 1);
            if positions.last() != Some(&position) {
                continue;
            }
            let bytes: usize = positions.iter().map(|at| self.chunk(*at).len()).sum();
            if bytes > room || begun.contains(&document) {
                if page.batches.is_empty() {
                    page.large = Some(Large { document, from: positions[0], position });
                }
                return page;
            }
            room -= bytes;
            page.batches.push(self.batch(document, &positions));
            page.left = Backfill::of(backfill.after, position - 1);
        }
        page.left = None;
        page
    }

    fn part(&self, document: DocumentId, from: u64, piece: Option<BegunPiece>) -> Option<Part> {
        let positions = self.of(document, from);
        let first = *positions.first()?;
        let collection = jobs();
        let chunk = self.chunk(first);
        if chunk.len() > PIECE_BYTES {
            let begun = piece.filter(|it| it.kind == PieceOf::Change && it.position == first);
            let offset = begun.map_or(0, |it| it.bytes);
            let end = (offset as usize + PIECE_BYTES).min(chunk.len());
            let bytes = chunk[offset as usize..end].to_vec();
            let (total, next) = (chunk.len() as u64, positions.get(1).copied());
            let (kind, position) = (PieceOf::Change, first);
            return Some(Part::Piece { collection, kind, position, offset, total, bytes, next });
        }
        let (mut bytes, mut taken) = (0, 0);
        while let Some(at) = positions.get(taken)
            && self.chunk(*at).len() <= PIECE_BYTES
            && bytes < PIECE_BYTES
        {
            bytes += self.chunk(*at).len();
            taken += 1;
        }
        let changes = self.batch(document, &positions[..taken]).changes;
        Some(Part::Changes { collection, changes, next: positions.get(taken).copied() })
    }
}

/// What a replica has at the other end of a line that may be cut.
#[derive(Default)]
pub(crate) struct Line {
    pub(crate) frames: Vec<Frame>,
    /// Positions in the order they came, those of whole changes only.
    pub(crate) came: Vec<u64>,
    pub(crate) pieces: BTreeMap<u64, u64>,
    pub(crate) marks: Option<(u64, Option<Backfill>)>,
    pub(crate) digests: usize,
}

impl Line {
    /// Takes what the relay has to send, up to so many frames.
    pub(crate) fn take(
        &mut self,
        session: &mut RelaySession,
        space: &Space,
        now: u64,
        frames: usize,
    ) {
        let mut left = frames;
        while left > 0 {
            let frame = match session.poll_transmit(now) {
                None => return,
                Some(Transmit::Frame(frame)) => Some(frame),
                Some(Transmit::Read(read)) => {
                    let answer = space.answer(&read);
                    session.handle_read(now, read, answer)
                }
            };
            if let Some(frame) = frame {
                self.note(frame);
                left -= 1;
            }
        }
    }

    pub(crate) fn take_all(&mut self, session: &mut RelaySession, space: &Space, now: u64) {
        self.take(session, space, now, usize::MAX);
    }

    fn note(&mut self, frame: Frame) {
        match &frame {
            Frame::Changes(changes) => {
                for chunk in &changes.changes {
                    self.came.push(u64::from_be_bytes(chunk[..8].try_into().unwrap()));
                }
                if let Some(piece) = &changes.piece {
                    let held = self.pieces.entry(piece.position).or_default();
                    assert_eq!(*held, piece.offset, "pieces come in order, each once");
                    *held += piece.bytes.len() as u64;
                    if *held == piece.total {
                        self.came.push(piece.position);
                    }
                }
            }
            Frame::Checkpoint(checkpoint) => {
                self.marks = Some((checkpoint.position, checkpoint.backfill));
                self.digests += usize::from(checkpoint.digests.is_some());
            }
            _ => {}
        }
        self.frames.push(frame);
    }

    /// Whether every position came, and once.
    pub(crate) fn has_each_once(&self, positions: impl IntoIterator<Item = u64>) {
        let mut came = self.came.clone();
        came.sort_unstable();
        assert_eq!(came, positions.into_iter().collect::<Vec<_>>());
    }

    pub(crate) fn documents(&self) -> Vec<DocumentId> {
        let changes = self.frames.iter().filter_map(|frame| match frame {
            Frame::Changes(changes) => Some(changes.document),
            _ => None,
        });
        changes.collect()
    }
}
