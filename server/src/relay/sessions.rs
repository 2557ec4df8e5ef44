//! Replicas' sessions: their connections come, talk and go.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use rejoin_core::limits::{FRAME_BYTES_MAX, PUSH_BYTES_IN_FLIGHT_MAX, SESSION_UNREAD_BYTES_MAX};
use rejoin_core::session::{Opened, RelaySession, SessionError};
use rejoin_core::wire::{
    Access, Backfill, Bye, ByeCode, Cursor, Frame, Presence, Push, SpaceWanted, Start, reason,
};
use rejoin_core::{CollectionName, Collections, DeviceId, Epoch, SpaceName, limits};
use thiserror::Error;

use super::breaches::Who;
use super::connections::{Close, Closing, Connection, Shared};
use super::entry::{Entry, scope};
use super::{ConnectionId, Relay};
use crate::access::{Principal, Rights};
use crate::store::{FIRST_COLLECTION, SpaceState, StoreError};

/// The marks of a space that a replica was told last, if it had any to begin with.
type Told = Option<(u64, Option<Backfill>)>;

/// A replica's connection and its session.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) id: ConnectionId,
    pub(super) session: RelaySession,
    /// The spaces it opened, by their numbers in its frames.
    pub(super) spaces: Vec<SpaceName>,
    /// The replica's id.
    pub(super) device: DeviceId,
    /// The program, the author bytes of the person, and the number of edits that waited, as its
    /// Hello said.
    pub(super) app: Option<String>,
    pub(super) identity: Option<Vec<u8>>,
    pub(super) waiting: u64,
    /// Changes that it brought and that are kept.
    pub(super) changes_kept: u64,
    /// How far it had come in each space when its session ended.
    ended_at: Option<Vec<Told>>,
    /// Bytes of its pushes that are not answered.
    pub(super) push_bytes: usize,
    /// Heads that it added to documents that have many.
    pub(super) heads_added: u32,
    /// Bytes that wait until it reads, as they were last counted.
    unread_bytes: usize,
    timer: Option<u64>,
    pub(super) closing: Option<Closing>,
    pub(super) entry: Entry,
    /// Who it is, by its token.
    pub(super) principal: Option<Principal>,
    /// Its rights in each of its spaces.
    pub(super) rights: Vec<Arc<Rights>>,
}

/// A replica went over a limit that only the relay knows of.
#[derive(Debug, Error)]
enum LimitError {
    #[error("more than {PUSH_BYTES_IN_FLIGHT_MAX} bytes of pushes wait for an answer")]
    PushBytes,
    #[error("more than {SESSION_UNREAD_BYTES_MAX} bytes wait for a replica that does not read")]
    Unread,
}

impl Replica {
    pub(super) fn who(&self) -> Who {
        let device = Some(self.device).filter(|device| device.0 != [0; 16]);
        Who { device, peer: None }
    }

    /// Whether what it sent is handled: not while its token is looked at, nor when it is being closed.
    pub(super) fn is_heard(&self) -> bool {
        let is_asked = matches!(self.entry, Entry::Asked(_) | Entry::Admitted(_));
        self.closing.is_none() && !is_asked
    }

    /// The marks of each space that it was told last.
    pub(super) fn marks(&self) -> Vec<Told> {
        self.ended_at.clone().unwrap_or_else(|| self.session.marks().collect())
    }

    pub(super) fn close(&mut self, shared: &mut Shared, bye: Bye, after_answers: bool) {
        if self.closing.is_some() {
            return;
        }
        let bye = Bye { message: reason(bye.message), ..bye };
        let close = Close { code: bye.code, message: bye.message.clone() };
        let last = Some(Frame::Bye(bye).encode());
        self.closing = Some(Closing { close, last, after_answers });
        self.ended_at = Some(self.session.marks().collect());
        self.session.handle_ending(after_answers);
        shared.unread_bytes -= std::mem::take(&mut self.unread_bytes);
        shared.ready.insert(self.id);
    }
}

impl Relay {
    /// A connection was accepted.
    pub fn handle_connected(&mut self, now: u64, id: ConnectionId) {
        let replica = Replica {
            id,
            session: RelaySession::new(now),
            spaces: Vec::new(),
            device: DeviceId([0; 16]),
            app: None,
            identity: None,
            waiting: 0,
            changes_kept: 0,
            ended_at: None,
            push_bytes: 0,
            heads_added: 0,
            unread_bytes: 0,
            timer: None,
            closing: None,
            entry: Entry::default(),
            principal: None,
            rights: Vec::new(),
        };
        self.accept(now, id, Connection::Replica(replica.into()));
        self.set_timer(now, id);
    }

    pub(super) fn accept(&mut self, now: u64, id: ConnectionId, connection: Connection) {
        let is_full = self.connections.len() >= self.shared.options.sessions_max;
        self.connections.insert(id, connection);
        self.shared.breaches.pass_time(now);
        if is_full {
            let max = self.shared.options.sessions_max;
            let message = format!(
                "the relay has {max} connections, as many as limits.connections allows; come back \
                 later"
            );
            self.close(id, ByeCode::Unavailable, &message);
        }
    }

    /// A binary message came in.
    pub fn handle_message(&mut self, id: ConnectionId, message: impl Into<Bytes>) {
        let message = message.into();
        let connection = self.connections.get(id).filter(|connection| !connection.is_closing());
        let Some(connection) = connection else { return };
        self.shared.counters.frames_in += 1;
        self.shared.counters.bytes_in += message.len() as u64;
        match connection {
            Connection::Replica(_) => match Frame::decode(&message) {
                Ok(Some(frame)) => self.handle_frame(id, frame),
                // A later version may send frames that this one does not know.
                Ok(None) => {}
                Err(error) => self.close_for_protocol(id, &error),
            },
            Connection::Peer(_) => self.handle_peer_message(id, &message),
        }
    }

    /// The driver will not take this connection's messages: it broke a rule below the frames.
    pub fn handle_violation(&mut self, id: ConnectionId, violation: &dyn Error) {
        self.close_for_protocol(id, violation);
    }

    /// The connection is gone.
    pub fn handle_disconnected(&mut self, id: ConnectionId) {
        self.shared.breaches.end(id);
        self.speakers.end(id);
        match self.connections.remove(id) {
            Some(Connection::Replica(replica)) => self.forget_replica(&replica),
            Some(Connection::Peer(peer)) => self.forget_peer(*peer),
            None => {}
        }
        self.shared.ready.remove(&id);
    }

    fn forget_replica(&mut self, replica: &Replica) {
        let id = replica.id;
        self.note_departure(replica);
        self.entries.forget(id, replica.principal.as_ref());
        if let Some(at) = replica.timer {
            self.timers.remove(&(at, id));
        }
        self.shared.unread_bytes -= replica.unread_bytes;
        for (number, name) in replica.spaces.iter().enumerate() {
            if let Some(listeners) = self.listeners.get_mut(name) {
                listeners.remove(&(id, number as u32));
                if listeners.is_empty() {
                    self.listeners.remove(name);
                }
            }
        }
        self.repairs.end_all_of(id);
        self.eventful.remove(&id);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: u64) {
        self.shared.fold_quiet(now);
        self.shared.breaches.pass_time(now);
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            match self.connections.get_mut(id) {
                Some(Connection::Replica(replica)) => {
                    replica.timer = None;
                    match replica.session.handle_timeout(now) {
                        Ok(()) => drop(self.shared.ready.insert(id)),
                        Err(error) => self.close(id, ByeCode::Timeout, &error.to_string()),
                    }
                }
                Some(Connection::Peer(peer)) => peer.handle_timeout(&mut self.shared),
                None => {}
            }
        }
    }

    pub(super) fn set_timer(&mut self, now: u64, id: ConnectionId) {
        let Some(replica) = self.connections.replica_mut(id) else { return };
        // A timer that is due already waits for something else to happen, and that will wake it.
        let due = replica.session.poll_timeout().filter(|at| *at > now);
        if replica.timer == due {
            return;
        }
        let before = std::mem::replace(&mut replica.timer, due);
        before.map(|at| self.timers.remove(&(at, id)));
        due.map(|at| self.timers.insert((at, id)));
    }

    pub(super) fn space_of(&mut self, id: ConnectionId, space: u32) -> Option<SpaceName> {
        let replica = self.connections.replica(id)?;
        let name = replica.spaces.get(space as usize).cloned();
        if name.is_none() {
            self.close_for_protocol(id, &SessionError::Space { space });
        }
        name
    }

    /// The state of one space of a Hello, and the point at which sending starts.
    ///
    /// A replica that was away for long gets the changes it missed like older documents: the newest
    /// first, and after changes that are written meanwhile.
    pub(super) fn opened(
        &mut self,
        wanted: &SpaceWanted,
        is_short: bool,
        rights: &Rights,
    ) -> Result<Opened, StoreError> {
        let Rights { read, write } = rights.clone();
        let SpaceState { epoch, position } = match read.is_empty() {
            // Whether there is such a space is not told.
            true => SpaceState { epoch: Epoch([0; 16]), position: 0 },
            false => self.shared.store.space(&wanted.name)?,
        };
        let access = match (read.is_empty(), write.is_empty()) {
            (true, _) => Access::None,
            (false, true) => Access::Read,
            (false, false) => Access::Write,
        };
        let scope = scope(&read);
        let is_of_here =
            |it: &Cursor| it.epoch == epoch && it.position <= position && it.scope == scope;
        let cursor = wanted.cursor.filter(is_of_here);
        let (start, sent, backfill) = match cursor {
            Some(Cursor { position: sent, backfill: None, .. }) if position - sent > MISSED_MAX => {
                (Start::Cursor, position, Backfill::of(sent, position))
            }
            Some(cursor) => (Start::Cursor, cursor.position, cursor.backfill),
            None if wanted.holds => (Start::Now, position, None),
            None => (Start::Beginning, position, Backfill::of(0, position)),
        };
        let (first, documents) = match (access, start) {
            (Access::None, _) => (Vec::new(), 0),
            (_, Start::Beginning) => {
                let first = self.shared.store.first_documents(&wanted.name)?;
                let first = first.into_iter().map(|(_, document)| document).collect();
                let is_first =
                    |it: &str| CollectionName::new(it).is_ok_and(|it| read.contains(&it));
                let first = if is_first(FIRST_COLLECTION) { first } else { Vec::new() };
                (first, self.documents_in(&wanted.name, &read)?)
            }
            _ => (Vec::new(), self.documents_in(&wanted.name, &read)?),
        };
        let usual = match access {
            Access::None => None,
            _ if is_short => {
                let usual = self.shared.store.usual_collection(&wanted.name)?;
                usual.filter(|usual| read.contains(usual))
            }
            _ => None,
        };
        Ok(Opened {
            epoch,
            access,
            start,
            position,
            sent,
            backfill,
            first,
            documents,
            read,
            write,
            scope,
            usual,
        })
    }

    /// The number of documents in some collections of a space.
    fn documents_in(&mut self, space: &SpaceName, read: &Collections) -> Result<u64, StoreError> {
        if *read == Collections::All {
            return self.shared.store.documents_of(space);
        }
        let contents = self.shared.store.contents(space)?.into_iter();
        Ok(contents.filter(|it| read.contains(&it.collection)).map(|it| it.documents).sum())
    }

    fn handle_frame(&mut self, id: ConnectionId, frame: Frame) {
        match frame {
            Frame::Bye(bye) => self.handle_bye(id, bye),
            Frame::Push(push) => self.handle_push(id, push),
            Frame::Presence(presence) => self.give(id, Frame::Presence(bounded(presence))),
            frame => self.give(id, frame),
        }
    }

    /// The replica leaves, so there is nothing more to say to it.
    fn handle_bye(&mut self, id: ConnectionId, bye: Bye) {
        self.close(id, bye.code, &bye.message);
        let replica = self.connections.replica_mut(id);
        if let Some(closing) = replica.and_then(|replica| replica.closing.as_mut()) {
            closing.last = None;
        }
    }

    /// A replica stops at [`PUSH_BYTES_IN_FLIGHT_MAX`], give or take the push that reaches it.
    fn handle_push(&mut self, id: ConnectionId, push: Push) {
        let Some(replica) = self.connections.replica_mut(id) else { return };
        replica.push_bytes += push_bytes(&push);
        if replica.push_bytes > PUSH_BYTES_IN_FLIGHT_MAX + FRAME_BYTES_MAX {
            self.close_for_protocol(id, &LimitError::PushBytes);
            return;
        }
        self.give(id, Frame::Push(push));
    }

    fn give(&mut self, id: ConnectionId, frame: Frame) {
        let Some(replica) = self.connections.replica_mut(id) else { return };
        match replica.session.handle_frame(frame) {
            Ok(()) => {
                self.eventful.insert(id);
                self.shared.ready.insert(id);
                self.weigh(id);
            }
            Err(error) => self.close_for_protocol(id, &error),
        }
    }

    /// Counts the bytes that wait until a replica reads. A replica for which too many wait is
    /// closed, and while too many wait for all together, so is the one for which most do.
    pub(super) fn weigh(&mut self, id: ConnectionId) {
        let Some(replica) = self.connections.replica_mut(id) else { return };
        let now = if replica.closing.is_some() { 0 } else { replica.session.unread_bytes() };
        let before = std::mem::replace(&mut replica.unread_bytes, now);
        self.shared.unread_bytes = self.shared.unread_bytes - before + now;
        if now > SESSION_UNREAD_BYTES_MAX {
            self.close_for_protocol(id, &LimitError::Unread);
        }
        while self.shared.unread_bytes > self.shared.options.unread_bytes_max {
            let most = self.connections.replicas().max_by_key(|replica| replica.unread_bytes);
            let Some(most) = most.filter(|replica| replica.unread_bytes > 0) else { return };
            let (id, bytes) = (most.id, self.shared.unread_bytes);
            tracing::warn!(conn = id.0, bytes, "too much waits for replicas");
            let message = "more waits for replicas that do not read than limits.unread allows; \
                           come back later";
            self.close(id, ByeCode::Unavailable, message);
        }
    }
}

pub(super) fn push_bytes(push: &Push) -> usize {
    let piece = push.piece.as_ref().map_or(0, |piece| piece.bytes.len());
    piece + push.changes.iter().map(|chunk| chunk.len()).sum::<usize>()
}

fn bounded(presence: Presence) -> Presence {
    let ttl_ms = presence.ttl_ms.min(limits::PRESENCE_TTL_MS_MAX);
    Presence { ttl_ms, ..presence }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Changes that a replica may have missed and still gets in the order they came, before changes
/// that are written meanwhile: some 200 KB of small ones.
const MISSED_MAX: u64 = 1024;
