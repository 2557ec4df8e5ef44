//! Who is here and who was: for the log, for the operator, and for the question why a device is
//! behind.

use rejoin_core::wire::{Backfill, ByeCode, Cursor, Hello};
use rejoin_core::{DeviceId, Identity, SpaceName};

use super::breaches::shown;
use super::connections::Connection;
use super::sessions::Replica;
use super::{ConnectionId, Relay};
use crate::store::{DeviceMark, DeviceRow, SpaceState, StoreError};

/// The other end of a connection, as an operator knows it. All texts may be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Visitor {
    /// The replica's id.
    pub device: Option<DeviceId>,
    /// The name as which a peer of automerge-repo joined.
    pub peer: Option<String>,
    /// The person, as the replica claims.
    pub user: Option<String>,
    /// The program and its version.
    pub app: Option<String>,
    /// The spaces it opened.
    pub spaces: Vec<SpaceName>,
    /// Changes that it brought and that are kept.
    pub changes: u64,
    /// Changes that it was not sent yet.
    pub behind: u64,
    /// Bytes that wait until it reads.
    pub unread_bytes: usize,
}

/// Devices of which something is to be noted in the store.
#[derive(Debug, Default)]
pub(super) struct Departures {
    rows: Vec<(DeviceId, DeviceRow)>,
    /// The time at which rows that no commit took along get one of their own.
    due: Option<u64>,
}

impl Relay {
    /// The other end of a connection.
    pub fn visitor(&self, id: ConnectionId) -> Option<Visitor> {
        Some(match self.connections.get(id)? {
            Connection::Replica(replica) => replica.visitor(),
            Connection::Peer(peer) => peer.visitor(),
        })
    }

    /// The row of a device that is here, with what it was sent since it came.
    pub fn mark_of(&self, id: ConnectionId, before: &DeviceRow) -> Option<DeviceRow> {
        let (_, now) = self.connections.replica(id)?.departure()?;
        let of_before = before.marks.iter();
        let others = of_before.filter(|mark| now.marks.iter().all(|it| it.space != mark.space));
        let marks = now.marks.iter().chain(others).cloned().collect();
        Some(DeviceRow { marks, ..before.clone() })
    }

    /// Ends a connection because an operator wants it.
    pub fn kick(&mut self, id: ConnectionId) {
        self.close(id, ByeCode::Unavailable, "the operator of the relay ended this connection");
    }

    /// The number of connected replicas that were not sent everything, and how many changes the one
    /// furthest behind was not sent.
    pub fn behind(&self) -> (usize, u64) {
        let lags = self.connections.replicas().map(|replica| replica.session.behind());
        lags.filter(|lag| *lag > 0).fold((0, 0), |(count, most), lag| (count + 1, most.max(lag)))
    }

    /// Notes a device whose session was opened.
    pub(super) fn note_arrival(
        &mut self,
        now: u64,
        unix_ms: u64,
        hello: &Hello,
    ) -> Result<(), StoreError> {
        let mut marks = Vec::new();
        for wanted in &hello.spaces {
            let SpaceState { epoch, position } = self.shared.store.space(&wanted.name)?;
            // A mark of another store, or one that nobody was told, says nothing here.
            let is_true = |cursor: &Cursor| {
                let is_range = cursor.backfill.is_none_or(|it| it.after < it.through);
                cursor.epoch == epoch && cursor.position <= position && is_range
            };
            let Some(cursor) = wanted.cursor.filter(is_true) else { continue };
            marks.push(mark(&wanted.name, cursor.position, cursor.backfill, false));
        }
        let row = DeviceRow {
            first_ms: unix_ms,
            seen_ms: unix_ms,
            app: hello.app.as_deref().map(shown),
            identity: hello.identity.clone().map(Vec::from),
            waiting: hello.waiting.unwrap_or_default(),
            marks,
        };
        self.shared.store.note_device(hello.device, row)?;
        self.departures.due.get_or_insert(now + NOTED_AFTER_MS);
        Ok(())
    }

    /// Remembers how far a replica has come that goes, until the next turn notes it.
    pub(super) fn note_departure(&mut self, replica: &Replica) {
        // A device that came back before its old connection was found dead is here.
        let is_here = self.connections.replicas().any(|it| it.device == replica.device);
        if !is_here {
            self.departures.rows.extend(replica.departure());
        }
    }

    /// Notes those who have gone, and commits what is noted if nothing else did for a while.
    pub(super) fn note_departures(&mut self, now: u64, unix_ms: u64) -> Result<(), StoreError> {
        for (device, mut row) in std::mem::take(&mut self.departures.rows) {
            row.seen_ms = unix_ms;
            self.shared.store.note_device(device, row)?;
            self.departures.due.get_or_insert(now + NOTED_AFTER_MS);
        }
        if self.departures.due.is_some_and(|due| due <= now) {
            self.departures.due = None;
            if self.shared.store.has_devices() {
                self.shared.store.commit_devices()?;
            }
        }
        Ok(())
    }

    pub(super) fn departures_timeout(&self) -> Option<u64> {
        self.departures.due
    }

    /// Notes everybody who is here as gone, for a relay that stops. What cannot be noted is only
    /// missing in what an operator is told.
    ///
    /// # Errors
    /// The store could not write.
    pub fn note_everybody(&mut self, unix_ms: u64) -> Result<(), StoreError> {
        let here = self.connections.replicas().filter_map(Replica::departure);
        let here: Vec<_> = here.collect();
        self.departures.rows.extend(here);
        self.departures.due = Some(0);
        self.note_departures(0, unix_ms)
    }
}

impl Replica {
    fn visitor(&self) -> Visitor {
        let user = self.identity.as_deref().map(|bytes| shown(&Identity::from_author(bytes).user));
        Visitor {
            device: self.who().device,
            peer: None,
            user,
            app: self.app.as_deref().map(shown),
            spaces: self.spaces.clone(),
            changes: self.changes_kept,
            behind: self.session.behind(),
            unread_bytes: self.session.unread_bytes(),
        }
    }

    /// The row of a device that goes now. `None` if its session was never opened.
    fn departure(&self) -> Option<(DeviceId, DeviceRow)> {
        let device = self.who().device?;
        let marks = self.marks();
        let marks = self.spaces.iter().zip(marks).filter_map(|(space, told)| {
            told.map(|(position, backfill)| mark(space, position, backfill, true))
        });
        let row = DeviceRow {
            first_ms: u64::MAX,
            seen_ms: 0,
            app: self.app.as_deref().map(shown),
            identity: self.identity.clone(),
            waiting: self.waiting,
            marks: marks.collect(),
        };
        Some((device, row))
    }
}

fn mark(space: &SpaceName, position: u64, backfill: Option<Backfill>, is_sent: bool) -> DeviceMark {
    DeviceMark { space: space.as_str().to_owned(), position, backfill, is_sent }
}

/// Milliseconds for which a row about a device waits for another commit.
const NOTED_AFTER_MS: u64 = 60_000;
