//! The network: connections that carry messages in order, and everything that goes wrong with them.

use std::collections::BTreeMap;

use rejoin_core::wire::Frame;

use super::agenda::{Agenda, Event};
use super::faults::{Faults, Line};
use super::random::Random;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The replica's.
    Replica,
    /// The relay's.
    Relay,
}

/// What comes out of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parcel {
    /// A message.
    Message(Vec<u8>),
    /// The end of the connection.
    Closed(&'static str),
}

/// Every connection.
#[derive(Debug)]
pub struct Network {
    connections: BTreeMap<u64, Connection>,
    next: u64,
    random: Random,
    calm: bool,
    /// Bad lines of certain replicas, which are so in a calm world too.
    lines: BTreeMap<usize, Line>,
    /// Frames put on the wire.
    pub frames: u64,
}

#[derive(Debug)]
struct Connection {
    replica: usize,
    /// Towards the relay, and towards the replica.
    pipes: [Pipe; 2],
    /// Something was lost, changed or reordered on the way.
    mangled: bool,
}

#[derive(Debug, Default)]
struct Pipe {
    /// When the last parcel arrives; the next one does not overtake it.
    due: u64,
    /// Until when the line carries what was put on it.
    busy_until: u64,
    /// Bytes under way.
    bytes: usize,
    /// Nothing comes through until it flows again.
    blocked: bool,
    /// What waits for that.
    held: Vec<Parcel>,
    /// Whether the end it leads to is in use.
    open: bool,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Self {
        match self {
            Self::Replica => Self::Relay,
            Self::Relay => Self::Replica,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Relay => 0,
            Self::Replica => 1,
        }
    }
}

impl Network {
    /// A network without connections.
    pub fn new(random: Random) -> Self {
        Self {
            connections: BTreeMap::new(),
            next: 1,
            random,
            calm: false,
            lines: BTreeMap::new(),
            frames: 0,
        }
    }

    /// How long a message takes.
    pub fn delay(&mut self, faults: &Faults) -> u64 {
        let max = if self.calm { CALM_DELAY_MS } else { faults.delay_ms_max };
        if self.random.chance(800) {
            self.random.below(max / 10 + 2)
        } else {
            self.random.below(max + 1)
        }
    }

    /// How long a line lasts that lasts no longer than so long.
    pub fn lasts(&mut self, line: Line) -> u64 {
        self.random.between(line.lasts_ms_max / 4, line.lasts_ms_max)
    }

    /// Gives a replica a bad line, or takes it away.
    pub fn set_line(&mut self, replica: usize, line: Option<Line>) {
        match line {
            Some(line) => drop(self.lines.insert(replica, line)),
            None => drop(self.lines.remove(&replica)),
        }
    }

    /// The line of a replica, if it is a bad one.
    pub fn line(&self, replica: usize, faults: &Faults) -> Option<Line> {
        self.lines.get(&replica).copied().or_else(|| faults.line.filter(|_| !self.calm))
    }

    /// When a line has carried a message that is put on it now.
    fn carried(&mut self, now: u64, faults: &Faults, id: u64, to: Side, bytes: usize) -> u64 {
        let line = self.replica(id).and_then(|replica| self.line(replica, faults));
        let Some(line) = line else { return now };
        let Some(connection) = self.connections.get_mut(&id) else { return now };
        let pipe = &mut connection.pipes[to.index()];
        pipe.busy_until = pipe.busy_until.max(now) + bytes as u64 * 1000 / line.bytes_per_s;
        pipe.busy_until
    }

    /// Makes a connection; both ends are in use.
    pub fn connect(&mut self, replica: usize) -> u64 {
        let id = self.next;
        self.next += 1;
        let pipe = || Pipe { open: true, ..Pipe::default() };
        let connection = Connection { replica, pipes: [pipe(), pipe()], mangled: false };
        self.connections.insert(id, connection);
        id
    }

    /// Whether an end may send: less is under way than fits.
    pub fn has_room(&self, id: u64, to: Side, faults: &Faults) -> bool {
        let pipe = self.connections.get(&id).map(|connection| &connection.pipes[to.index()]);
        pipe.is_some_and(|pipe| pipe.bytes < faults.window_bytes)
    }

    /// Whether an end is in use.
    pub fn is_open(&self, id: u64, side: Side) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.pipes[side.index()].open)
    }

    /// The replica of a connection.
    pub fn replica(&self, id: u64) -> Option<usize> {
        self.connections.get(&id).map(|connection| connection.replica)
    }

    /// Connections in use at either end.
    pub fn all(&self) -> Vec<u64> {
        self.connections.keys().copied().collect()
    }

    /// Puts a message on the way.
    pub fn send(
        &mut self,
        now: u64,
        agenda: &mut Agenda,
        faults: &Faults,
        id: u64,
        to: Side,
        message: Vec<u8>,
    ) {
        self.frames += 1;
        let carried = self.carried(now, faults, id, to, message.len());
        if self.calm || !faults.mangle() {
            let arrives = carried + self.delay(faults);
            self.put(agenda, id, to, Parcel::Message(message), arrives, true);
            return;
        }
        if self.random.chance(faults.drop) {
            self.mark_mangled(id);
            return;
        }
        let mut message = message;
        if self.random.chance(faults.corrupt) {
            self.mark_mangled(id);
            match damaged(&message, &mut self.random) {
                Some(damaged) => message = damaged,
                None => return self.reset(now, agenda, faults, id),
            }
        }
        if self.random.chance(faults.duplicate) {
            self.mark_mangled(id);
            let arrives = carried + self.delay(faults);
            self.put(agenda, id, to, Parcel::Message(message.clone()), arrives, true);
        }
        let overtaken = self.random.chance(faults.reorder);
        let mut arrives = carried + self.delay(faults);
        if overtaken {
            self.mark_mangled(id);
            arrives += self.random.between(1, 2000);
        }
        self.put(agenda, id, to, Parcel::Message(message), arrives, !overtaken);
    }

    /// One end closes; the other one learns of it, unless the last packets are lost.
    pub fn close(&mut self, now: u64, agenda: &mut Agenda, faults: &Faults, id: u64, side: Side) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !std::mem::replace(&mut connection.pipes[side.index()].open, false) {
            return;
        }
        let lost = !self.calm && faults.half_open && self.random.chance(500);
        self.end(now, agenda, faults, id, side.other(), lost);
    }

    /// The machine at one end is gone without a word.
    pub fn vanish(&mut self, now: u64, agenda: &mut Agenda, id: u64, side: Side) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.pipes[side.index()].open = false;
        let arrives = now + self.random.between(SILENCE_MS / 2, SILENCE_MS);
        agenda.at(arrives, Event::Silence { connection: id, at: side.other() });
    }

    /// The connection breaks; what is under way is lost, and each end learns of it in its own time.
    pub fn reset(&mut self, now: u64, agenda: &mut Agenda, faults: &Faults, id: u64) {
        for side in [Side::Relay, Side::Replica] {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let pipe = &mut connection.pipes[side.index()];
            pipe.held.clear();
            pipe.bytes = 0;
            pipe.due = BROKEN;
            let lost = !self.calm && faults.half_open && self.random.chance(500);
            let wait = match lost {
                true => self.random.between(SILENCE_MS / 2, SILENCE_MS),
                false => self.delay(faults),
            };
            let parcel = Parcel::Closed("connection reset");
            agenda.at(now + wait, Event::Arrive { connection: id, to: side, parcel });
        }
    }

    /// Stops bytes towards an end for a while.
    pub fn block(&mut self, now: u64, agenda: &mut Agenda, id: u64, to: Side, for_ms: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.pipes[to.index()].blocked = true;
        agenda.at(now + for_ms, Event::Flow { connection: id, to });
        // Neither end gets an answer to its pings.
        for at in [Side::Relay, Side::Replica] {
            let patience = self.random.between(SILENCE_MS / 2, SILENCE_MS);
            agenda.at(now + patience, Event::Silence { connection: id, at });
        }
    }

    /// Lets bytes through again, and gives what waited for that.
    #[must_use]
    pub fn flow(&mut self, id: u64, to: Side) -> Vec<Parcel> {
        let Some(connection) = self.connections.get_mut(&id) else { return Vec::new() };
        let pipe = &mut connection.pipes[to.index()];
        pipe.blocked = false;
        std::mem::take(&mut pipe.held)
    }

    /// Whether an end that waited long enough hears nothing: bytes stop in either direction, or
    /// nobody is at the other end.
    pub fn is_silent(&self, id: u64, at: Side) -> bool {
        let Some(connection) = self.connections.get(&id) else { return false };
        let blocked = connection.pipes.iter().any(|pipe| pipe.blocked);
        connection.pipes[at.index()].open && (blocked || !connection.pipes[at.other().index()].open)
    }

    /// A parcel comes out of the connection; `None` if there is nobody to take it.
    pub fn arrive(&mut self, id: u64, to: Side, parcel: Parcel) -> Option<Parcel> {
        let connection = self.connections.get_mut(&id)?;
        let pipe = &mut connection.pipes[to.index()];
        let is_message = matches!(parcel, Parcel::Message(_));
        if is_message && pipe.due == BROKEN {
            return None;
        }
        if pipe.blocked {
            pipe.held.push(parcel);
            return None;
        }
        if let Parcel::Message(message) = &parcel {
            pipe.bytes = pipe.bytes.saturating_sub(message.len());
        }
        if !pipe.open {
            return None;
        }
        if matches!(parcel, Parcel::Closed(_)) {
            pipe.open = false;
        }
        Some(parcel)
    }

    /// Forgets connections that are in use at neither end.
    pub fn sweep(&mut self) {
        self.connections.retain(|_, connection| connection.pipes.iter().any(|pipe| pipe.open));
    }

    /// Ends every fault, now that everything flows. Connections that lost something break.
    pub fn heal(&mut self, now: u64, agenda: &mut Agenda, faults: &Faults) {
        self.calm = true;
        for id in self.all() {
            let Some(connection) = self.connections.get(&id) else { continue };
            let whole = connection.pipes.iter().all(|pipe| pipe.open);
            if connection.mangled || !whole {
                self.reset(now, agenda, faults, id);
            }
        }
    }

    fn mark_mangled(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.mangled = true;
        }
    }

    fn end(
        &mut self,
        now: u64,
        agenda: &mut Agenda,
        faults: &Faults,
        id: u64,
        to: Side,
        lost: bool,
    ) {
        if lost {
            let arrives = now + self.random.between(SILENCE_MS / 2, SILENCE_MS);
            agenda.at(arrives, Event::Silence { connection: id, at: to });
            return;
        }
        let arrives = now + self.delay(faults);
        self.put(agenda, id, to, Parcel::Closed("closed by the other end"), arrives, true);
    }

    fn put(
        &mut self,
        agenda: &mut Agenda,
        id: u64,
        to: Side,
        parcel: Parcel,
        arrives: u64,
        in_order: bool,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let pipe = &mut connection.pipes[to.index()];
        if pipe.due == BROKEN {
            return;
        }
        if let Parcel::Message(message) = &parcel {
            pipe.bytes += message.len();
        }
        let mut at = arrives;
        if in_order {
            at = at.max(pipe.due);
            pipe.due = at;
        }
        agenda.at(at, Event::Arrive { connection: id, to, parcel });
    }
}

/// The message cut off, or with another byte. `None` where that would make it another sound
/// message: below the frames there is a checksum, and the connection breaks instead.
fn damaged(message: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut damaged = message.to_vec();
    if random.chance(500) {
        damaged.truncate(random.index(message.len()));
    } else {
        let at = random.index(damaged.len());
        damaged[at] ^= 1 << random.below(8);
    }
    let Ok(frame) = Frame::decode(&damaged) else { return Some(damaged) };
    // What reads as a frame of a later version would be passed over.
    let (frame, sound) = (frame?, Frame::decode(message).ok()??);
    (without_chunks(frame) == without_chunks(sound)).then_some(damaged)
}

/// A frame without what has a checksum of its own.
fn without_chunks(mut frame: Frame) -> Frame {
    match &mut frame {
        Frame::Push(push) => {
            push.changes.iter_mut().for_each(|chunk| chunk.fill(0));
            push.piece.iter_mut().for_each(|piece| piece.bytes.fill(0));
        }
        Frame::Changes(changes) => {
            changes.changes.iter_mut().for_each(|chunk| chunk.fill(0));
            changes.piece.iter_mut().for_each(|piece| piece.bytes.fill(0));
        }
        _ => {}
    }
    frame
}

/// Due time of a pipe that was reset.
const BROKEN: u64 = u64::MAX;

/// Milliseconds after which an end that hears nothing gives up, at the latest.
const SILENCE_MS: u64 = 40_000;

/// Milliseconds a message takes at most when nothing is wrong.
const CALM_DELAY_MS: u64 = 40;
