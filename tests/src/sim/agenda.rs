//! What is going to happen, in the order of virtual time.

use std::collections::BTreeMap;

use super::net::{Parcel, Side};

/// One machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// The relay.
    Relay,
    /// A replica.
    Replica(usize),
}

/// Something that happens at one moment.
#[derive(Debug)]
pub enum Event {
    /// A process looks at what has come.
    Wake(Node),
    /// Something comes out of a connection.
    Arrive {
        /// Which connection.
        connection: u64,
        /// At which end.
        to: Side,
        /// What.
        parcel: Parcel,
    },
    /// A connection attempt reaches the relay.
    Knock {
        /// Of which replica.
        replica: usize,
        /// Its number, so that those of a dead process are known.
        attempt: u64,
    },
    /// A connection attempt has an answer.
    Dialled {
        /// Of which replica.
        replica: usize,
        /// Its number.
        attempt: u64,
        /// The connection, if there is one.
        connection: Option<u64>,
    },
    /// An end that heard nothing for long gives up, if it still hears nothing.
    Silence {
        /// Which connection.
        connection: u64,
        /// Which end.
        at: Side,
    },
    /// A line that lasts only so long ends.
    Cut {
        /// Which connection.
        connection: u64,
    },
    /// Bytes flow again.
    Flow {
        /// Which connection.
        connection: u64,
        /// To which end.
        to: Side,
    },
    /// Somebody edits something.
    Edit,
    /// Something breaks.
    Fault,
    /// A promise is checked in the middle of it all.
    Audit,
    /// A machine starts.
    Start(Node),
    /// A disk has space again.
    Space(Node),
    /// A suspended device is woken.
    Resume(usize),
    /// The compaction worker is done.
    Folded,
}

/// Everything that is going to happen.
#[derive(Debug, Default)]
pub struct Agenda {
    events: BTreeMap<(u64, u64), Event>,
    numbers: u64,
    wakes: BTreeMap<Node, (u64, u64)>,
}

impl Agenda {
    /// Something happens at `at`, after what was planned for that moment before.
    pub fn at(&mut self, at: u64, event: Event) {
        let key = self.key(at);
        self.events.insert(key, event);
    }

    /// A process is to wake at `at` or, if that is planned already, earlier.
    pub fn wake(&mut self, at: u64, node: Node) {
        if let Some(planned) = self.wakes.get(&node) {
            if planned.0 <= at {
                return;
            }
            self.events.remove(planned);
        }
        let key = self.key(at);
        self.wakes.insert(node, key);
        self.events.insert(key, Event::Wake(node));
    }

    /// The next event and its time.
    pub fn pop(&mut self) -> Option<(u64, Event)> {
        let (key, event) = self.events.pop_first()?;
        if let Event::Wake(node) = &event {
            self.wakes.remove(node);
        }
        Some((key.0, event))
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes back what is planned, but for what `keep` says.
    pub fn retain(&mut self, keep: impl Fn(&Event) -> bool) {
        self.events.retain(|_, event| matches!(event, Event::Wake(_)) || keep(event));
    }

    fn key(&mut self, at: u64) -> (u64, u64) {
        self.numbers += 1;
        (at, self.numbers)
    }
}
