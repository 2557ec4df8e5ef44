//! A world: some replicas, a relay, a network and a clock, all from one seed.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Arguments;

use rejoin::{ChangeHash, DocumentId, SpaceName};
use rejoin_core::change::parse;
use rejoin_core::limits;
use rejoin_core::wire::Frame;

use super::Mutant;
use super::agenda::{Agenda, Event, Node};
use super::disk::Strike;
use super::faults::Faults;
use super::model::{Ledger, tokens_in};
use super::net::{Network, Parcel, Side};
use super::random::Random;
use super::relay::RelayMachine;
use super::replica::Replica;
use super::trace::Trace;

/// A promise was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed(pub String);

/// Whether all is well so far.
pub type Check<T = ()> = Result<T, Failed>;

/// Everything there is.
#[derive(Debug)]
pub struct World {
    /// Milliseconds since the beginning.
    pub now: u64,
    pub(super) agenda: Agenda,
    pub(super) random: Random,
    /// What may go wrong.
    pub faults: Faults,
    pub(super) mutant: Option<Mutant>,
    /// What happened.
    pub trace: Trace,
    pub(super) net: Network,
    pub(super) relay: RelayMachine,
    pub(super) replicas: Vec<Replica>,
    pub(super) ledger: Ledger,
    /// Nothing breaks any more.
    pub(super) calm: bool,
    /// Edits that were kept.
    pub edits_made: u64,
    /// Edits of tens of kilobytes.
    pub(super) large_edits: u64,
    /// Whether people take back what they did.
    pub(super) undoes: bool,
    /// How often they did.
    pub(super) undone: u64,
    /// Whether an operator erases documents.
    pub(super) erases: bool,
    /// Documents that an operator erased, or was about to, each with whether that is sure. A relay that
    /// is restored has them again.
    pub(super) erased: BTreeMap<DocumentId, bool>,
    /// Events so far.
    pub events: u64,
    /// Pushes sent and acknowledged on each connection.
    pushes: BTreeMap<u64, (u64, u64)>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, mutant: Option<Mutant>, print: bool) -> Self {
        let mut random = Random::new(seed);
        let faults = Faults::draw(&mut random);
        let spaces: Vec<_> = ["north", "south"]
            .iter()
            .take(faults.spaces)
            .filter_map(|name| SpaceName::new(*name).ok())
            .collect();
        let replicas = (0..faults.replicas).map(|at| {
            // The first two share everything.
            let one = at > 1 && random.chance(300);
            let spaces = match random.pick(&spaces).filter(|_| one) {
                Some(space) => vec![space.clone()],
                None => spaces.clone(),
            };
            Replica::new(spaces)
        });
        let replicas = replicas.collect();
        Self {
            now: 0,
            agenda: Agenda::default(),
            net: Network::new(random.fork()),
            relay: RelayMachine::new(&mut random),
            random,
            faults,
            mutant,
            trace: Trace::new(print),
            replicas,
            ledger: Ledger::default(),
            calm: false,
            edits_made: 0,
            large_edits: 0,
            undoes: seed % 5 == 2,
            undone: 0,
            erases: seed % 7 == 4,
            erased: BTreeMap::new(),
            events: 0,
            pushes: BTreeMap::new(),
        }
    }

    /// Lets the seed play: first everything breaks and nothing may be lost; then nothing breaks any
    /// more and everybody must agree, soon and for good.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn run(&mut self) -> Check {
        self.agenda.at(0, Event::Start(Node::Relay));
        for at in 0..self.replicas.len() {
            self.agenda.at(self.random.clone().below(1000), Event::Start(Node::Replica(at)));
        }
        self.agenda.at(1000, Event::Edit);
        self.agenda.at(5000, Event::Fault);
        self.agenda.at(10_000, Event::Audit);
        while self.edits_made < self.faults.edits {
            if self.now > CHAOS_MS_MAX {
                return Err(Failed(format!("only {} edits in a day", self.edits_made)));
            }
            self.step()?;
        }
        self.heal()?;
        self.converge()?;
        if self.random.chance(300) {
            self.restart_all()?;
            self.converge()?;
        }
        self.check_newcomers()?;
        self.converge()?;
        self.check_agreement()?;
        self.check_quiet()
    }

    /// The next event happens.
    pub(super) fn step(&mut self) -> Check {
        let Some((at, event)) = self.agenda.pop() else {
            return Err(Failed("nothing is going to happen any more".to_owned()));
        };
        self.events += 1;
        if self.events > EVENTS_MAX {
            return Err(Failed(format!("more than {EVENTS_MAX} events")));
        }
        self.now = self.now.max(at);
        if self.events > EVENTS_MAX - 20 {
            self.trace.note(self.now, format_args!("{event:?}"));
        }
        match event {
            Event::Wake(Node::Relay) => self.wake_relay(),
            Event::Wake(Node::Replica(at)) => self.wake_replica(at),
            Event::Arrive { connection, to, parcel } => {
                self.arrive(connection, to, parcel);
                Ok(())
            }
            Event::Knock { replica, attempt } => {
                self.knock(replica, attempt);
                Ok(())
            }
            Event::Dialled { replica, attempt, connection } => {
                self.dialled(replica, attempt, connection)
            }
            Event::Silence { connection, at } => {
                if self.net.is_silent(connection, at) {
                    self.arrive(connection, at, Parcel::Closed("no answer to pings"));
                }
                Ok(())
            }
            Event::Cut { connection } => {
                let replica = self.net.replica(connection);
                if replica.is_some_and(|it| self.net.line(it, &self.faults).is_some()) {
                    self.net.reset(self.now, &mut self.agenda, &self.faults, connection);
                }
                Ok(())
            }
            Event::Flow { connection, to } => {
                self.flow(connection, to);
                Ok(())
            }
            Event::Edit => {
                let wait = self.random.around(self.faults.edit_ms);
                self.agenda.at(self.now + wait, Event::Edit);
                self.edit()
            }
            Event::Fault => {
                let wait = self.random.around(self.faults.fault_ms);
                self.agenda.at(self.now + wait, Event::Fault);
                self.fault()
            }
            Event::Audit => {
                let wait = self.random.between(1000, 10_000);
                self.agenda.at(self.now + wait, Event::Audit);
                self.net.sweep();
                self.audit()?;
                self.audit_marks()
            }
            Event::Start(Node::Relay) => self.start_relay(),
            Event::Start(Node::Replica(at)) => self.start_replica(at),
            Event::Space(node) => self.repair_disk(node),
            Event::Resume(at) => {
                self.resume(at);
                Ok(())
            }
            Event::Folded => self.folded(),
        }
    }

    /// Adds a line to the trace.
    pub(super) fn note(&mut self, what: Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    /// A message leaves a replica.
    pub(super) fn send_to_relay(&mut self, at: usize, id: u64, message: Vec<u8>) -> Check {
        let frame = self.note_message(id, Side::Relay, &message)?;
        if let Frame::Push(push) = &frame {
            let replica = &mut self.replicas[at];
            for chunk in &push.changes {
                let hash = parse(chunk).map(|change| change.hash());
                let hash = hash.map_err(|error| Failed(format!("a push is wrong: {error}")))?;
                replica.pushed.push_back((push.document, ChangeHash(hash.0)));
            }
            while replica.pushed.len() > PUSHED_REMEMBERED {
                replica.pushed.pop_front();
            }
            let (sent, acknowledged) = self.pushes.entry(id).or_default();
            *sent = push.n;
            if *sent - *acknowledged > limits::PUSHES_IN_FLIGHT_MAX as u64 {
                return Err(Failed(format!("replica {at} has {sent} pushes in flight")));
            }
        }
        self.net.send(self.now, &mut self.agenda, &self.faults, id, Side::Relay, message);
        Ok(())
    }

    /// A message leaves the relay.
    pub(super) fn send_to_replica(&mut self, id: u64, message: Vec<u8>) -> Check {
        if let Frame::Ack(ack) = self.note_message(id, Side::Replica, &message)? {
            self.pushes.entry(id).or_default().1 = ack.n;
        }
        self.net.send(self.now, &mut self.agenda, &self.faults, id, Side::Replica, message);
        Ok(())
    }

    fn note_message(&mut self, id: u64, to: Side, message: &[u8]) -> Check<Frame> {
        let frame = Frame::decode(message);
        let frame = frame.map_err(|error| Failed(format!("a frame is wrong: {error}")))?;
        let frame = frame.ok_or_else(|| Failed("a frame of another version".to_owned()))?;
        let arrow = if to == Side::Relay { "->" } else { "<-" };
        let replica = self.net.replica(id).unwrap_or_default();
        let (name, bytes) = (frame.name(), message.len());
        self.trace.mix(message);
        match &frame {
            Frame::Refused(refused) => {
                let (n, class, count) = (refused.n, refused.class, refused.hashes.len());
                self.note(format_args!(
                    "{replica} {arrow} relay [{id}] {name} {n} {class:?} {count}"
                ));
            }
            Frame::Push(push) => {
                let (n, document, count) = (push.n, push.document, push.changes.len());
                let tokens: Vec<_> =
                    push.changes.iter().flat_map(|chunk| tokens_in(chunk)).collect();
                self.note(format_args!(
                    "{replica} {arrow} relay [{id}] {name} {n} {document} {count} {tokens:?}"
                ));
            }
            _ => self.note(format_args!("{replica} {arrow} relay [{id}] {name} {bytes}")),
        }
        Ok(frame)
    }

    /// Bytes flow again towards an end of a connection.
    pub(super) fn flow(&mut self, id: u64, to: Side) {
        for parcel in self.net.flow(id, to) {
            self.arrive(id, to, parcel);
        }
    }

    fn arrive(&mut self, id: u64, to: Side, parcel: Parcel) {
        let Some(parcel) = self.net.arrive(id, to, parcel) else { return };
        let Some(replica) = self.net.replica(id) else { return };
        if let Parcel::Closed(reason) = &parcel {
            self.trace.note(self.now, format_args!("[{id}] {reason} at {to:?}"));
        }
        match to {
            Side::Relay => {
                self.arrive_at_relay(id, parcel);
                self.drained_to_relay(replica);
            }
            Side::Replica => {
                self.arrive_at_replica(replica, id, parcel);
                self.drained_to_replica(id);
            }
        }
    }

    /// Sometimes a process dies between two steps.
    pub(super) fn maybe_crash(&mut self, node: Node) -> Check {
        let on = match node {
            Node::Relay => self.faults.relay_crashes,
            Node::Replica(_) => self.faults.replica_crashes,
        };
        if self.calm || !on || !self.random.chance(1) {
            return Ok(());
        }
        let strike = self.strike();
        self.crash(node, strike)
    }

    /// A way to go down.
    pub(super) fn strike(&mut self) -> Strike {
        let loss = self.faults.power_losses && self.random.chance(600);
        if loss { Strike::PowerLoss } else { Strike::Kill }
    }

    /// A machine goes down.
    pub(super) fn crash(&mut self, node: Node, strike: Strike) -> Check {
        match node {
            Node::Relay => self.crash_relay(strike),
            Node::Replica(at) => self.crash_replica(at, strike),
        }
    }

    /// What a calendar shows that is off by so many seconds.
    pub(super) fn unix_s(&self, off_s: i64) -> i64 {
        UNIX_S + (self.now / 1000) as i64 + off_s
    }

    /// What a calendar shows that is off by so many milliseconds.
    pub(super) fn unix_ms(&self, off_ms: i64) -> u64 {
        (UNIX_S * 1000 + self.now as i64 + off_ms) as u64
    }
}

/// An error with its causes.
pub(super) fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// When every world begins, in seconds since 1970.
const UNIX_S: i64 = 1_795_000_000;

/// Milliseconds in which the edits must be made.
const CHAOS_MS_MAX: u64 = 24 * 3_600_000;

/// Events in a world: far more than any needs.
const EVENTS_MAX: u64 = 1_000_000;

/// Changes that left a device and are looked for on it when it starts again.
const PUSHED_REMEMBERED: usize = 64;
