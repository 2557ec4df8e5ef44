//! Connections coming, talking and going.

use std::error::Error;

use bytes::Bytes;
use rejoin_core::limits::{FRAME_BYTES_MAX, PUSH_BYTES_IN_FLIGHT_MAX, SESSION_HELD_BYTES_MAX};
use rejoin_core::session::{Opened, RelaySession, SessionError};
use rejoin_core::wire::{
    Access, Backfill, Bye, ByeCode, Cursor, Frame, Presence, Push, SpaceWanted, Start, reason,
};
use rejoin_core::{DeviceId, SpaceName, limits};
use thiserror::Error;

use super::breaches::Breach;
use super::{ConnectionId, Relay};
use crate::store::{SpaceState, StoreError};

/// One connection and its session.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) session: RelaySession,
    /// The spaces it opened, by their numbers in its frames.
    pub(super) spaces: Vec<SpaceName>,
    /// Which replica it is.
    pub(super) device: DeviceId,
    /// Bytes of its pushes that are not answered.
    pub(super) push_bytes: usize,
    /// Heads that it added to documents that have many.
    pub(super) heads_added: u32,
    /// Bytes that wait until it reads, as they were last counted.
    pub(super) held_bytes: usize,
    pub(super) timer: Option<u64>,
    pub(super) closing: Option<Closing>,
}

/// How a connection ends.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) close: Close,
    /// What is still to be said; nothing to a replica that said goodbye itself.
    pub(super) bye: Option<Bye>,
    /// Whether answers that the session has go first.
    pub(super) after_answers: bool,
}

/// Hang up, now that everything was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Why, for a machine.
    pub code: ByeCode,
    /// Why, for a person.
    pub message: String,
}

/// A replica went over a limit that only the relay knows of.
#[derive(Debug, Error)]
enum LimitError {
    #[error("more than {PUSH_BYTES_IN_FLIGHT_MAX} bytes of pushes wait for an answer")]
    PushBytes,
    #[error("more than {SESSION_HELD_BYTES_MAX} bytes wait for a replica that does not read")]
    Held,
}

impl Connection {
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }
}

impl Relay {
    /// A connection was accepted.
    pub fn handle_connected(&mut self, now: u64, id: ConnectionId) {
        let is_full = self.connections.len() + self.peers.len() >= self.options.sessions_max;
        let connection = Connection {
            session: RelaySession::new(now),
            spaces: Vec::new(),
            device: DeviceId([0; 16]),
            push_bytes: 0,
            heads_added: 0,
            held_bytes: 0,
            timer: None,
            closing: None,
        };
        self.connections.insert(id, connection);
        self.breaches.pass_time(now);
        self.set_timer(now, id);
        if is_full {
            let message = "the relay has as many sessions as it may; come back later".to_owned();
            self.close(id, ByeCode::Unavailable, message, self.options.retry_after_ms);
        }
    }

    /// A binary message came in.
    pub fn handle_message(&mut self, id: ConnectionId, message: impl Into<Bytes>) {
        let message = message.into();
        if self.peers.contains(id) {
            return self.handle_peer_message(id, &message);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.is_closing() {
            return;
        }
        self.counters.frames_in += 1;
        self.counters.bytes_in += message.len() as u64;
        match Frame::decode(&message) {
            Ok(Some(frame)) => self.handle_frame(id, frame),
            // A later version may say what this one does not know.
            Ok(None) => {}
            Err(error) => self.close_for_protocol(id, &error),
        }
    }

    /// The driver will not take this connection's messages: it broke a rule below the frames.
    pub fn handle_violation(&mut self, id: ConnectionId, violation: &dyn Error) {
        if self.peers.contains(id) {
            return self.close_peer_for_protocol(id, violation);
        }
        self.close_for_protocol(id, violation);
    }

    /// The connection is gone.
    pub fn handle_disconnected(&mut self, id: ConnectionId) {
        self.end_breaches(id);
        self.speakers.end(id);
        self.handle_peer_disconnected(id);
        let Some(connection) = self.connections.remove(&id) else { return };
        if let Some(at) = connection.timer {
            self.timers.remove(&(at, id));
        }
        self.held_bytes -= connection.held_bytes;
        for (number, name) in connection.spaces.iter().enumerate() {
            if let Some(listeners) = self.listeners.get_mut(name) {
                listeners.remove(&(id, number as u32));
                if listeners.is_empty() {
                    self.listeners.remove(name);
                }
            }
        }
        self.repairs.end_all_of(id);
        self.eventful.remove(&id);
        self.ready.remove(&id);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: u64) {
        self.fold_quiet(now);
        self.breaches.pass_time(now);
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            self.handle_peer_timeout(id);
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.timer = None;
            match connection.session.handle_timeout(now) {
                Ok(()) => drop(self.ready.insert(id)),
                Err(error) => self.close(id, ByeCode::Timeout, error.to_string(), 0),
            }
        }
    }

    /// Ends every session: each is sent the answers it is owed and then Bye, and is to be closed
    /// then. `retry_after_ms` spreads their return.
    pub fn stop(
        &mut self,
        code: ByeCode,
        message: &str,
        mut retry_after_ms: impl FnMut(ConnectionId) -> u32,
    ) {
        let ids: Vec<_> = self.connections.keys().copied().collect();
        for id in ids {
            let bye = Bye { code, message: message.to_owned(), retry_after_ms: retry_after_ms(id) };
            self.end_session(id, bye, true);
            self.end_breaches(id);
        }
        for id in self.peers.ids() {
            self.close_peer(id, code, message);
            self.end_breaches(id);
        }
    }

    /// Whether the connection must not be used any more, now that its last frame was polled.
    pub fn poll_close(&mut self, id: ConnectionId) -> Option<Close> {
        if self.peers.contains(id) {
            return self.poll_peer_close(id);
        }
        let closing = self.connections.get(&id)?.closing.as_ref()?;
        closing.bye.is_none().then(|| closing.close.clone())
    }

    pub(super) fn close_for_protocol(&mut self, id: ConnectionId, error: &dyn Error) {
        self.counters.protocol_errors += 1;
        self.breach(id, Breach::Protocol, 1, || chain(error));
        self.close(id, ByeCode::Protocol, chain(error), 0);
    }

    pub(super) fn close(
        &mut self,
        id: ConnectionId,
        code: ByeCode,
        message: String,
        retry_after_ms: u32,
    ) {
        self.end_session(id, Bye { code, message, retry_after_ms }, false);
    }

    fn end_session(&mut self, id: ConnectionId, bye: Bye, after_answers: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.is_closing() {
            return;
        }
        let bye = Bye { message: reason(bye.message), ..bye };
        let close = Close { code: bye.code, message: bye.message.clone() };
        connection.closing = Some(Closing { close, bye: Some(bye), after_answers });
        connection.session.handle_ending(after_answers);
        self.held_bytes -= std::mem::take(&mut connection.held_bytes);
        self.ready.insert(id);
    }

    pub(super) fn set_timer(&mut self, now: u64, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        // What is due already waits for something else to happen, and that will wake it.
        let due = connection.session.poll_timeout().filter(|at| *at > now);
        if connection.timer == due {
            return;
        }
        let before = std::mem::replace(&mut connection.timer, due);
        before.map(|at| self.timers.remove(&(at, id)));
        due.map(|at| self.timers.insert((at, id)));
    }

    pub(super) fn space_of(&mut self, id: ConnectionId, space: u32) -> Option<SpaceName> {
        let connection = self.connections.get(&id)?;
        let name = connection.spaces.get(space as usize).cloned();
        if name.is_none() {
            self.close_for_protocol(id, &SessionError::Space { space });
        }
        name
    }

    /// How one space of a Hello stands, and where sending starts.
    ///
    /// A replica that was away for long gets what it missed as it gets what is older: the newest
    /// first, and behind what is written meanwhile.
    pub(super) fn opened(&mut self, wanted: &SpaceWanted) -> Result<Opened, StoreError> {
        let SpaceState { epoch, position } = self.store.space(&wanted.name)?;
        let access = self.options.access;
        let cursor = wanted.cursor.filter(|it| it.epoch == epoch && it.position <= position);
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
                let first = self.store.first_documents(&wanted.name)?;
                let first = first.into_iter().map(|(_, document)| document).collect();
                (first, self.store.documents_of(&wanted.name)?)
            }
            _ => (Vec::new(), self.store.documents_of(&wanted.name)?),
        };
        Ok(Opened { epoch, access, start, position, sent, backfill, first, documents })
    }

    fn handle_frame(&mut self, id: ConnectionId, frame: Frame) {
        match frame {
            Frame::Bye(bye) => self.handle_bye(id, bye),
            Frame::Push(push) => self.handle_push(id, push),
            Frame::Presence(presence) => self.give(id, Frame::Presence(bounded(presence))),
            frame => self.give(id, frame),
        }
    }

    /// The replica leaves; there is nothing more to say to it.
    fn handle_bye(&mut self, id: ConnectionId, bye: Bye) {
        self.close(id, bye.code, bye.message, 0);
        let connection = self.connections.get_mut(&id);
        if let Some(closing) = connection.and_then(|connection| connection.closing.as_mut()) {
            closing.bye = None;
        }
    }

    /// A replica stops at [`PUSH_BYTES_IN_FLIGHT_MAX`], give or take the push that reaches it.
    fn handle_push(&mut self, id: ConnectionId, push: Push) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.push_bytes += push_bytes(&push);
        if connection.push_bytes > PUSH_BYTES_IN_FLIGHT_MAX + FRAME_BYTES_MAX {
            self.close_for_protocol(id, &LimitError::PushBytes);
            return;
        }
        self.give(id, Frame::Push(push));
    }

    fn give(&mut self, id: ConnectionId, frame: Frame) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match connection.session.handle_frame(frame) {
            Ok(()) => {
                self.eventful.insert(id);
                self.ready.insert(id);
                self.weigh(id);
            }
            Err(error) => self.close_for_protocol(id, &error),
        }
    }

    /// Counts what waits until a replica reads. One for which too much waits is closed, and while too
    /// much waits for all together, the one for which most does.
    pub(super) fn weigh(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let now = if connection.is_closing() { 0 } else { connection.session.held_bytes() };
        let before = std::mem::replace(&mut connection.held_bytes, now);
        self.held_bytes = self.held_bytes - before + now;
        if now > SESSION_HELD_BYTES_MAX {
            self.close_for_protocol(id, &LimitError::Held);
        }
        while self.held_bytes > self.options.held_bytes_max {
            let most = self.connections.iter().max_by_key(|(_, connection)| connection.held_bytes);
            let Some((id, _)) = most.filter(|(_, connection)| connection.held_bytes > 0) else {
                return;
            };
            let id = *id;
            tracing::warn!(conn = id.0, bytes = self.held_bytes, "too much waits for replicas");
            let message = "too much waits for replicas that do not read; come back later";
            self.close(id, ByeCode::Unavailable, message.to_owned(), self.options.retry_after_ms);
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
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Changes that a replica may have missed and still gets in the order they came, before what is
/// written meanwhile: some 200 KB of small ones.
const MISSED_MAX: u64 = 1024;
