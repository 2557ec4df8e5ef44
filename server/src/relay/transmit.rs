//! The frames that a connection is sent next.

use rejoin_core::limits::PIECE_BYTES;
use rejoin_core::session::{Read, ReadAnswer, RelaySession, Transmit};
use rejoin_core::wire::{ByeCode, Frame};

use super::connections::{Closing, Connection};
use super::pages::{backfill_page, compare, listing, log_page};
use super::{ConnectionId, Relay};
use crate::store::StoreError;

/// Frames for one connection, encoded.
pub type Outgoing = Vec<Vec<u8>>;

impl Relay {
    /// The frames to send on a connection that can take more: about `budget_bytes` of them, made
    /// now from the store. Empty if there are none; after a long search it may be empty while
    /// [`poll_ready`](Self::poll_ready) still names the connection.
    pub fn poll_transmit(&mut self, now: u64, id: ConnectionId, budget_bytes: usize) -> Outgoing {
        self.shared.ready.remove(&id);
        let frames = self.frames_for(now, id, budget_bytes);
        self.weigh(id);
        frames
    }

    fn frames_for(&mut self, now: u64, id: ConnectionId, budget_bytes: usize) -> Outgoing {
        let mut frames = Outgoing::new();
        let mut spent = 0;
        while spent < budget_bytes {
            match self.step(now, id) {
                Step::Send(frame, cost) => {
                    self.shared.counters.frames_out += 1;
                    self.shared.counters.bytes_out += frame.len() as u64;
                    spent += frame.len() + cost;
                    frames.push(frame);
                }
                Step::Searched(cost) => spent += cost,
                Step::Idle => {
                    self.set_timer(now, id);
                    return frames;
                }
            }
        }
        self.shared.ready.insert(id);
        frames
    }

    fn step(&mut self, now: u64, id: ConnectionId) -> Step {
        let replica = match self.connections.get_mut(id) {
            Some(Connection::Replica(replica)) => replica,
            Some(Connection::Peer(peer)) => return peer.step(&mut self.shared),
            None => return Step::Idle,
        };
        if let Some(closing) = &mut replica.closing {
            let frame = last_frame(now, &mut replica.session, closing);
            return frame.map_or(Step::Idle, |frame| Step::Send(frame, 0));
        }
        match replica.session.poll_transmit(now) {
            None => Step::Idle,
            Some(Transmit::Frame(frame)) => Step::Send(frame.encode(), 0),
            Some(Transmit::Read(read)) => self.step_read(now, id, read),
        }
    }

    fn step_read(&mut self, now: u64, id: ConnectionId, read: Read) -> Step {
        let cost = self.read_cost(id, &read);
        let answer = match self.answer(id, &read) {
            Ok(Some(answer)) => answer,
            Ok(None) => return Step::Searched(cost),
            Err(error) => self.answer_failure(id, &error),
        };
        let Some(replica) = self.connections.replica_mut(id) else { return Step::Idle };
        match replica.session.handle_read(now, read, answer) {
            // A costly read ends the poll with the frame it found: other connections come first
            // then.
            Some(frame) => Step::Send(frame.encode(), cost),
            None => Step::Searched(cost),
        }
    }

    /// The cost of a read in a budget of bytes: about a kilobyte for ten microseconds.
    fn read_cost(&mut self, id: ConnectionId, read: &Read) -> usize {
        let per_document = match read {
            Read::Symbols { space, from: 0, .. } => {
                let Some(name) = self.space_of(id, *space) else { return READ_COST_BYTES };
                // Each goes into a set, with its heads.
                100 * self.shared.store.documents_of(&name).unwrap_or_default() as usize
            }
            Read::Locate { space, document, heads } if !heads.is_empty() => {
                let Some(name) = self.space_of(id, *space) else { return READ_COST_BYTES };
                // Each change may be looked at.
                8 * self.shared.store.changes_of(&name, document).unwrap_or_default()
            }
            Read::Listing { .. } => PIECE_BYTES,
            Read::Compare { documents, .. } => 200 * documents.len(),
            _ => 0,
        };
        READ_COST_BYTES + per_document
    }

    /// `None` when the session is to be closed instead.
    fn answer(&mut self, id: ConnectionId, read: &Read) -> Result<Option<ReadAnswer>, StoreError> {
        let Some(name) = self.space_of(id, read.space()) else { return Ok(None) };
        let answer = match read {
            Read::Log { after, through, backfill, .. } => ReadAnswer::Log(log_page(
                &mut self.shared.store,
                &name,
                *after,
                *through,
                *backfill,
            )?),
            Read::Backfill { backfill, begun, .. } => ReadAnswer::Backfill(backfill_page(
                &mut self.shared.store,
                &name,
                *backfill,
                begun,
            )?),
            Read::Document { document, from, piece, .. } => {
                let part = self.shared.store.part(&name, document, *from, *piece, PIECE_BYTES)?;
                ReadAnswer::Document(part)
            }
            Read::Locate { space, document, heads } => {
                // A replica that wants certain documents is done with its repair.
                self.repairs.end(&(id, *space));
                ReadAnswer::Located(self.shared.store.locate(&name, document, heads)?)
            }
            Read::Symbols { space, from, count } => return self.symbols(id, *space, *from, *count),
            Read::Digests { .. } if self.shared.store.is_unsound(&name) => ReadAnswer::Withheld,
            Read::Digests { .. } => ReadAnswer::Digests {
                digests: self.shared.store.digests(&name)?,
                lost: self.shared.store.documents_lost(&name)?,
            },
            Read::Listing { backfill, .. } => {
                let (documents, left) = listing(&mut self.shared.store, &name, *backfill)?;
                ReadAnswer::Listing(documents, left)
            }
            Read::Compare { documents, .. } => {
                ReadAnswer::Compared(compare(&mut self.shared.store, &name, documents)?)
            }
        };
        Ok(Some(answer))
    }

    fn symbols(
        &mut self,
        id: ConnectionId,
        space: u32,
        from: u32,
        count: u32,
    ) -> Result<Option<ReadAnswer>, StoreError> {
        if from == 0 {
            let Some(name) = self.space_of(id, space) else { return Ok(None) };
            self.repairs.begin((id, space), self.shared.store.repair_items(&name)?);
        }
        match self.repairs.symbols((id, space), from, count) {
            Some(Ok(symbols)) => Ok(Some(ReadAnswer::Symbols(symbols))),
            Some(Err(error)) => {
                self.close_for_protocol(id, &error);
                Ok(None)
            }
            None => {
                let message = "the repair was dropped for others; begin a new session";
                self.close(id, ByeCode::Unavailable, message);
                Ok(None)
            }
        }
    }

    /// One damaged document is passed over, and no digest is told until it is mended: no replica is
    /// to take it for whole. Any other error ends the session, so that no checkpoint claims changes
    /// that were not read, and the next turn fails.
    fn answer_failure(&mut self, id: ConnectionId, error: &StoreError) -> ReadAnswer {
        if error.is_confined() {
            self.shared.store.suspect(error);
            return ReadAnswer::Failed;
        }
        tracing::error!(conn = id.0, error = error as &dyn std::error::Error, "read failed");
        self.shared.store.fail();
        let message = "the relay cannot read its store at present";
        self.close(id, ByeCode::Unavailable, message);
        ReadAnswer::Failed
    }
}

/// The result of asking a connection once.
pub(super) enum Step {
    /// This frame, encoded, and the cost of finding it beside its bytes.
    Send(Vec<u8>, usize),
    /// The store was read at this cost, and there is nothing to send from it.
    Searched(usize),
    Idle,
}

/// The answers a session is owed, if it is to have them, and then Bye.
fn last_frame(now: u64, session: &mut RelaySession, closing: &mut Closing) -> Option<Vec<u8>> {
    if closing.after_answers {
        if let Some(Transmit::Frame(frame)) = session.poll_transmit(now)
            && matches!(frame, Frame::Welcome(_) | Frame::Ack(_) | Frame::Refused(_))
        {
            return Some(frame.encode());
        }
        closing.after_answers = false;
    }
    closing.last.take()
}

/// The least cost of a read in a budget of bytes, so that a thousand fruitless ones end a poll,
/// too.
const READ_COST_BYTES: usize = 1024;
