//! The relay's machine: its disk, its clock, and the process on it, which drives a real relay as
//! the server's own driver does.

use std::collections::{BTreeSet, VecDeque};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rejoin_core::change::{Change, is_reserved};
use rejoin_core::wire::{ByeCode, RefusedClass};
use rejoin_core::{DocumentId, limits};
use rejoin_relay::store::FoldInput;
use rejoin_relay::{
    CompactionPolicy, ConnectionId, Erased, Relay, RelayOptions, StoreError, TailPolicy,
    compact_in_process,
};

use super::agenda::{Event, Node};
use super::disk::{Backup, Disk, Strike};
use super::faults::Faults;
use super::net::{Parcel, Side};
use super::random::Random;
use super::replica::{REOPEN_MS, open_database};
use super::world::{Check, Failed, World, explain};

/// The machine of the relay.
#[derive(Debug)]
pub struct RelayMachine {
    /// Its disk.
    pub disk: Disk,
    /// There is a whole file on it.
    has_file: bool,
    /// What runs on it.
    pub process: Option<RelayProcess>,
    /// Milliseconds its calendar is off.
    pub calendar_ms: i64,
    /// Copies of its file.
    pub backups: Vec<Backup>,
    /// Its file was replaced by an older copy at some time.
    pub restored: bool,
    /// Nothing is refused on demand any more.
    pub calm: Arc<AtomicBool>,
    /// What the changes that are refused for ever have in common.
    refusal_salt: u64,
}

/// A running relay.
#[derive(Debug)]
pub struct RelayProcess {
    /// The relay.
    pub relay: Relay,
    inbox: VecDeque<(u64, Incoming)>,
    /// Connections that may have something to send.
    sending: BTreeSet<u64>,
    /// Connections it knows.
    connections: BTreeSet<u64>,
    /// What the compaction worker is at.
    folding: Option<FoldInput>,
    /// Documents folded in this process.
    folded: u64,
}

#[derive(Debug)]
enum Incoming {
    Connected,
    Parcel(Parcel),
}

impl RelayMachine {
    /// A new machine that is switched off.
    pub fn new(random: &mut Random) -> Self {
        Self {
            disk: Disk::new(),
            has_file: false,
            process: None,
            calendar_ms: 0,
            backups: Vec::new(),
            restored: false,
            calm: Arc::default(),
            refusal_salt: random.draw(),
        }
    }
}

impl World {
    /// Switches the relay on.
    pub(super) fn start_relay(&mut self) -> Check {
        if self.relay.process.is_some() {
            return Ok(());
        }
        match self.open_relay() {
            Ok(relay) => {
                let process = RelayProcess {
                    relay,
                    inbox: VecDeque::new(),
                    sending: BTreeSet::new(),
                    connections: BTreeSet::new(),
                    folding: None,
                    folded: 0,
                };
                self.relay.process = Some(process);
                self.relay.has_file = true;
                self.note(format_args!("relay starts"));
                self.agenda.wake(self.now, Node::Relay);
                self.strike_relay()?;
                self.audit()
            }
            Err(error) => {
                let disk = self.relay.disk.clone();
                if let Some(strike) = disk.struck() {
                    disk.go_down(strike, &mut self.random);
                } else if disk.injected() == 0 && self.relay.has_file {
                    return Err(Failed(format!("the relay does not open: {}", explain(&*error))));
                } else if disk.injected() == 0 {
                    // The first opening was interrupted, and left what is no file of redb's yet.
                    disk.erase();
                }
                self.note(format_args!("relay cannot start: {}", explain(&*error)));
                disk.close();
                self.agenda.at(self.now + REOPEN_MS, Event::Start(Node::Relay));
                Ok(())
            }
        }
    }

    fn open_relay(&mut self) -> Result<Relay, Box<dyn Error>> {
        let database = open_database(&self.relay.disk)?;
        let mut options = RelayOptions::default();
        options.graph_bytes_max = if self.random.chance(300) { 4 << 10 } else { 1 << 20 };
        options.mutant = self.mutant.and_then(|mutant| mutant.of_relay());
        options.compaction = self.faults.compaction.map(|changes_min| {
            let mut policy = CompactionPolicy::default();
            policy.changes_min = changes_min;
            policy.quiet_ms = *self.random.pick(&[0, 200, 3000]).unwrap_or(&0);
            let away_ms_max = *self.random.pick(&[0, 60_000, 30 * 86_400_000]).unwrap_or(&0);
            policy.tail = TailPolicy { away_ms_max, bytes_max: self.random.below(64 << 10) };
            policy
        });
        let mut random = self.random.fork();
        let mut relay = Relay::open(database, options, move || random.bytes())?;
        let (salt, faults) = (self.relay.refusal_salt, self.faults.clone());
        let (calm, mut random) = (Arc::clone(&self.relay.calm), self.random.fork());
        relay.refuse_changes(move |document, change| {
            if calm.load(Ordering::Relaxed) {
                return None;
            }
            refusal(&faults, salt, &mut random, document, change)
        });
        Ok(relay)
    }

    /// An operator erases a document, if the relay runs.
    pub(super) fn erase(&mut self) -> Check {
        let Some(document) = self.ledger.any_document(&mut self.random) else { return Ok(()) };
        let Some(space) = self.ledger.space_of(&document) else { return Ok(()) };
        let unix_ms = self.unix_ms(self.relay.calendar_ms);
        let Some(process) = &mut self.relay.process else { return Ok(()) };
        let erased = process.relay.erase(&space, &document, unix_ms);
        self.note(format_args!("an operator erases {document}: {erased:?}"));
        match erased {
            Ok(Erased::Unknown | Erased::Schema) | Err(StoreError::Busy) => {}
            // Whether a commit that failed is there is not known.
            result => *self.erased.entry(document).or_default() |= result.is_ok(),
        }
        self.agenda.wake(self.now, Node::Relay);
        self.strike_relay()
    }

    /// The relay looks at what has come, makes a turn of it, and answers.
    pub(super) fn wake_relay(&mut self) -> Check {
        let steps = [Self::take_relay_inbox, Self::turn_relay, Self::transmit_relay];
        for step in steps {
            if self.relay.process.is_none() {
                return Ok(());
            }
            step(self)?;
            self.strike_relay()?;
            self.maybe_crash(Node::Relay)?;
        }
        self.plan_relay_wake();
        Ok(())
    }

    /// Takes the machine down if its disk says that it went down.
    pub(super) fn strike_relay(&mut self) -> Check {
        match self.relay.disk.struck() {
            Some(strike) => self.crash_relay(strike),
            None => Ok(()),
        }
    }

    /// The relay ends where it stands, and starts again some time later.
    pub(super) fn crash_relay(&mut self, strike: Strike) -> Check {
        self.relay.disk.go_down(strike, &mut self.random);
        let Some(process) = self.relay.process.take() else { return Ok(()) };
        for id in &process.connections {
            match strike {
                Strike::Kill => {
                    self.net.close(self.now, &mut self.agenda, &self.faults, *id, Side::Relay);
                }
                Strike::PowerLoss => self.net.vanish(self.now, &mut self.agenda, *id, Side::Relay),
            }
        }
        drop(process);
        self.note(format_args!("relay goes down: {strike:?}"));
        let wait = if self.calm { 10 } else { self.random.between(10, 20_000) };
        self.agenda.at(self.now + wait, Event::Start(Node::Relay));
        Ok(())
    }

    /// A replica wants a connection.
    pub(super) fn knock(&mut self, replica: usize, attempt: u64) {
        let mut connection = None;
        if let Some(process) = &mut self.relay.process {
            let id = self.net.connect(replica);
            if let Some(line) = self.net.line(replica, &self.faults) {
                let lasts = self.net.lasts(line);
                self.agenda.at(self.now + lasts, Event::Cut { connection: id });
            }
            process.inbox.push_back((id, Incoming::Connected));
            process.connections.insert(id);
            connection = Some(id);
            self.agenda.wake(self.now, Node::Relay);
        }
        let wait = self.net.delay(&self.faults);
        self.agenda.at(self.now + wait, Event::Dialled { replica, attempt, connection });
    }

    /// Something came out of a connection at the relay.
    pub(super) fn arrive_at_relay(&mut self, connection: u64, parcel: Parcel) {
        let Some(process) = &mut self.relay.process else { return };
        process.inbox.push_back((connection, Incoming::Parcel(parcel)));
        let soon = if self.random.chance(700) { 0 } else { self.random.below(20) };
        self.agenda.wake(self.now + soon, Node::Relay);
    }

    /// A connection has room again.
    pub(super) fn drained_to_replica(&mut self, connection: u64) {
        if let Some(process) = &self.relay.process
            && process.sending.contains(&connection)
        {
            self.agenda.wake(self.now, Node::Relay);
        }
    }

    /// The compaction worker is done.
    pub(super) fn folded(&mut self) -> Check {
        let Some(process) = &mut self.relay.process else { return Ok(()) };
        let Some(input) = process.folding.take() else { return Ok(()) };
        let result = compact_in_process(&input);
        drop(input);
        if let Err(error) = &result
            && self.relay.disk.injected() == 0
        {
            return Err(Failed(format!("a document was not folded: {}", explain(error))));
        }
        process.folded += u64::from(result.is_ok());
        process.relay.handle_compacted(result);
        self.note(format_args!("relay folded a document"));
        self.agenda.wake(self.now, Node::Relay);
        self.strike_relay()
    }

    fn take_relay_inbox(&mut self) -> Check {
        let now = self.now;
        let Some(process) = &mut self.relay.process else { return Ok(()) };
        let mut gone = Vec::new();
        for _ in 0..MESSAGES_PER_TURN {
            let Some((id, incoming)) = process.inbox.pop_front() else { break };
            match incoming {
                Incoming::Connected => process.relay.handle_connected(now, ConnectionId(id)),
                Incoming::Parcel(Parcel::Message(message)) => {
                    process.relay.handle_message(ConnectionId(id), message);
                }
                Incoming::Parcel(Parcel::Closed(_)) => gone.push(id),
            }
        }
        if !process.inbox.is_empty() {
            self.agenda.wake(now, Node::Relay);
        }
        for id in gone {
            process.relay.handle_disconnected(ConnectionId(id));
            process.sending.remove(&id);
            process.connections.remove(&id);
        }
        process.relay.handle_timeout(now);
        Ok(())
    }

    fn turn_relay(&mut self) -> Check {
        let unix_ms = self.unix_ms(self.relay.calendar_ms);
        let Some(process) = &mut self.relay.process else { return Ok(()) };
        if let Err(error) = process.relay.turn(self.now, unix_ms) {
            return self.fail_relay(&error);
        }
        self.check_relay()?;
        let Some(process) = &mut self.relay.process else { return Ok(()) };
        if process.folding.is_none() {
            process.folding = process.relay.poll_compaction();
            if process.folding.is_some() {
                let wait = self.random.below(5000);
                self.agenda.at(self.now + wait, Event::Folded);
            }
        }
        Ok(())
    }

    fn transmit_relay(&mut self) -> Check {
        loop {
            let Some(process) = &mut self.relay.process else { return Ok(()) };
            // A connection may have nothing to send and still be named: its search is not over. It may
            // be named by that only after it was asked.
            let mut any = false;
            while let Some(ConnectionId(id)) = process.relay.poll_ready() {
                process.sending.insert(id);
                any = true;
            }
            for id in process.sending.iter().copied().collect::<Vec<_>>() {
                any |= self.transmit_to(id)?;
            }
            let process = self.relay.process.as_ref();
            if !any && !process.is_some_and(|process| process.relay.has_ready()) {
                return Ok(());
            }
        }
    }

    /// Sends on one connection what it takes. Returns whether there may be more at once.
    fn transmit_to(&mut self, id: u64) -> Check<bool> {
        if !self.net.has_room(id, Side::Replica, &self.faults) {
            return Ok(false);
        }
        let budget = *self.random.pick(&[1, 16 << 10, 256 << 10]).unwrap_or(&1);
        let Some(process) = &mut self.relay.process else { return Ok(false) };
        let messages = process.relay.poll_transmit(self.now, ConnectionId(id), budget);
        let idle = messages.is_empty();
        if idle {
            process.sending.remove(&id);
        }
        let close = process.relay.poll_close(ConnectionId(id));
        for message in messages {
            self.send_to_replica(id, message)?;
            self.maybe_crash(Node::Relay)?;
            if self.relay.process.is_none() {
                return Ok(false);
            }
        }
        if let Some(close) = close {
            self.note(format_args!("relay closes {id}: {:?} {}", close.code, close.message));
            self.relay_hangs_up(id);
            let protocol = close.code == ByeCode::Protocol;
            if protocol && !self.faults.mangle() {
                return Err(Failed(format!("a replica broke the protocol: {}", close.message)));
            }
            return Ok(true);
        }
        Ok(!idle)
    }

    fn relay_hangs_up(&mut self, id: u64) {
        self.net.close(self.now, &mut self.agenda, &self.faults, id, Side::Relay);
        let Some(process) = &mut self.relay.process else { return };
        process.relay.handle_disconnected(ConnectionId(id));
        process.sending.remove(&id);
        process.connections.remove(&id);
    }

    /// The store failed: every session ends with a word, and the file is opened again.
    fn fail_relay(&mut self, error: &dyn Error) -> Check {
        let disk = self.relay.disk.clone();
        if disk.struck().is_some() {
            return Ok(());
        }
        if disk.injected() == 0 {
            return Err(Failed(format!("the relay failed: {}", explain(error))));
        }
        self.note(format_args!("relay fails: {}", explain(error)));
        let Some(mut process) = self.relay.process.take() else { return Ok(()) };
        process.relay.stop(ByeCode::Unavailable, "the relay opens its store again", |_| 500);
        for id in &process.connections {
            for message in process.relay.poll_transmit(self.now, ConnectionId(*id), usize::MAX) {
                self.send_to_replica(*id, message)?;
            }
            self.net.close(self.now, &mut self.agenda, &self.faults, *id, Side::Relay);
        }
        drop(process);
        disk.close();
        self.agenda.at(self.now + REOPEN_MS, Event::Start(Node::Relay));
        Ok(())
    }

    /// What must always hold of the relay.
    fn check_relay(&mut self) -> Check {
        let documents = self.ledger.documents() + 8;
        let Some(process) = &self.relay.process else { return Ok(()) };
        let counters = process.relay.counters();
        if counters.documents_loaded != process.folded {
            let loaded = counters.documents_loaded;
            return Err(Failed(format!("the relay loaded {loaded} documents")));
        }
        let session_max = limits::PUSHES_IN_FLIGHT_MAX + 2 * documents + 16;
        if counters.queued > counters.sessions * session_max {
            let (queued, sessions) = (counters.queued, counters.sessions);
            return Err(Failed(format!("{queued} entries are queued for {sessions} sessions")));
        }
        Ok(())
    }

    fn plan_relay_wake(&mut self) {
        let Some(process) = &mut self.relay.process else { return };
        if process.relay.store().is_failed() {
            self.agenda.wake(self.now + 1, Node::Relay);
        }
        if let Some(due) = process.relay.poll_timeout() {
            self.agenda.wake(due.max(self.now + 1), Node::Relay);
        }
    }
}

/// Whether a new change is refused on demand, and how. What is refused for ever stays so, whoever
/// brings it; and since everyone would make the same births, those are taken, but in documents
/// that nobody may write.
fn refusal(
    faults: &Faults,
    salt: u64,
    random: &mut Random,
    document: &DocumentId,
    change: &Change,
) -> Option<RefusedClass> {
    if random.chance(faults.refuse_missing) {
        return Some(RefusedClass::Missing);
    }
    if random.chance(faults.refuse_later) {
        return Some(RefusedClass::Later);
    }
    let drawn = |bytes: &[u8]| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[..8]);
        Random::new(u64::from_le_bytes(word) ^ salt).below(1000)
    };
    if faults.refuse_never > 0 && !document.is_derived() && drawn(&document.0) < 100 {
        return Some(RefusedClass::Never);
    }
    if is_reserved(change.actor()) {
        return None;
    }
    let place = drawn(&change.hash().0);
    if place < faults.refuse_never {
        return Some(RefusedClass::Never);
    }
    (place >= 500 && place < 500 + faults.refuse_actor).then_some(RefusedClass::ActorReused)
}

/// Messages taken into one turn.
const MESSAGES_PER_TURN: usize = 256;
