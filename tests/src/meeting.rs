//! Replicas and a relay at one table: the real engines on real redb in memory, their frames handed
//! over directly, so that bytes and round trips can be counted exactly.

use std::sync::Arc;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use redb::Database;
use redb::backends::InMemoryBackend;
use rejoin::{Link, SpaceName};
use rejoin_core::limits;
use rejoin_engine::store::Store;
use rejoin_engine::{Edit, EditOutcome, Engine, EngineOptions};
use rejoin_relay::{ConnectionId, Relay, RelayOptions, compact_in_process};

/// A relay and its replicas.
#[derive(Debug)]
pub struct Meeting {
    /// The relay.
    pub relay: Relay,
    /// The replicas, in the order they joined.
    pub replicas: Vec<Engine>,
    connections: Vec<Option<ConnectionId>>,
    connections_made: u64,
    now: u64,
    rng: ChaCha8Rng,
}

/// What one exchange in both directions carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// Frames to the relay, and from it.
    pub frames: (u64, u64),
    /// Their bytes.
    pub bytes: (u64, u64),
}

impl Exchanged {
    /// Whether nothing went either way.
    pub fn is_quiet(&self) -> bool {
        self.frames == (0, 0)
    }
}

impl Meeting {
    /// A relay without replicas.
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let relay = Relay::open(memory(), RelayOptions::default(), || rng.random()).unwrap();
        let (replicas, connections) = (Vec::new(), Vec::new());
        Self { relay, replicas, connections, connections_made: 0, now: 0, rng }
    }

    /// Another replica, not connected.
    pub fn join(&mut self, options: EngineOptions) -> usize {
        let mut rng = ChaCha8Rng::from_rng(&mut self.rng);
        let store = Store::open(memory(), rng.random()).unwrap();
        let mut engine = Engine::new(Arc::new(store), options, move || rng.random()).unwrap();
        engine.want_space(&SpaceName::new("main").unwrap());
        self.replicas.push(engine);
        self.connections.push(None);
        self.replicas.len() - 1
    }

    /// The relay loses everything and begins anew.
    pub fn replace_relay(&mut self) {
        let connected = self.connections.iter().all(Option::is_none);
        assert!(connected, "replicas are disconnected first");
        let options = RelayOptions::default();
        self.relay = Relay::open(memory(), options, || self.rng.random()).unwrap();
    }

    /// Edits at a replica in one commit; every edit must succeed.
    pub fn edit(&mut self, replica: usize, edits: Vec<Edit>) -> Vec<EditOutcome> {
        let results = self.replicas[replica].turn(self.now, 0, edits).unwrap();
        results.into_iter().map(|result| result.unwrap()).collect()
    }

    /// Opens a connection; nothing is sent yet.
    pub fn connect(&mut self, replica: usize) {
        self.connect_to(replica, "ws://table/sync");
    }

    /// Opens a connection by an address of the relay.
    pub fn connect_to(&mut self, replica: usize, address: &str) {
        self.connections_made += 1;
        let id = ConnectionId(self.connections_made);
        self.relay.handle_connected(self.now, id);
        self.replicas[replica].handle_connected(self.now, address, None).unwrap();
        self.connections[replica] = Some(id);
    }

    /// Ends a connection.
    pub fn disconnect(&mut self, replica: usize) {
        if let Some(id) = self.connections[replica].take() {
            self.relay.handle_disconnected(id);
            self.replicas[replica].handle_disconnected();
        }
    }

    /// A replica's line is dead. The relay does not notice.
    pub fn lose_line(&mut self, replica: usize) {
        self.connections[replica] = None;
        self.replicas[replica].handle_disconnected();
    }

    /// One round trip of one replica: everything it has to say goes to the relay, which commits,
    /// and everything the relay then has to say comes back and is committed.
    pub fn round_trip(&mut self, replica: usize) -> Exchanged {
        let Some(id) = self.connections[replica] else { return Exchanged::default() };
        let mut exchanged = Exchanged::default();
        let engine = &mut self.replicas[replica];
        while let Some(message) = engine.poll_transmit(self.now).unwrap() {
            exchanged.frames.0 += 1;
            exchanged.bytes.0 += message.len() as u64;
            self.relay.handle_message(id, message);
        }
        self.relay.turn(self.now, self.now).unwrap();
        loop {
            let messages = self.relay.poll_transmit(self.now, id, 1 << 20);
            if messages.is_empty() {
                break;
            }
            for message in &messages {
                exchanged.frames.1 += 1;
                exchanged.bytes.1 += message.len() as u64;
                engine.handle_message(message).unwrap();
            }
        }
        if let Some(close) = self.relay.poll_close(id) {
            panic!("the relay hung up: {}", close.message);
        }
        while engine.has_messages() {
            engine.turn(self.now, 0, Vec::new()).unwrap();
        }
        if let Some(closing) = engine.poll_close() {
            panic!("the replica hung up: {}", closing.reason);
        }
        exchanged
    }

    /// A session over a line that is cut after so many bytes to the relay, or so many from it.
    /// What is under way then is lost. Gives what came through, and whether the replica was safe at
    /// the end.
    pub fn short_session(&mut self, replica: usize, bytes_max: (u64, u64)) -> (Exchanged, bool) {
        self.connect(replica);
        let Some(id) = self.connections[replica] else { return (Exchanged::default(), false) };
        let mut through = Exchanged::default();
        let mut quiet = 0;
        'session: while quiet < 10 {
            let engine = &mut self.replicas[replica];
            let before = through;
            for _ in 0..FRAMES_AT_ONCE {
                let Some(message) = engine.poll_transmit(self.now).unwrap() else { break };
                through.bytes.0 += message.len() as u64;
                if through.bytes.0 > bytes_max.0 {
                    // What came through before is with the relay.
                    self.relay.turn(self.now, self.now).unwrap();
                    break 'session;
                }
                through.frames.0 += 1;
                self.relay.handle_message(id, message);
            }
            self.relay.turn(self.now, self.now).unwrap();
            for message in self.relay.poll_transmit(self.now, id, limits::PIECE_BYTES) {
                through.bytes.1 += message.len() as u64;
                if through.bytes.1 > bytes_max.1 {
                    break 'session;
                }
                through.frames.1 += 1;
                engine.handle_message(&message).unwrap();
                engine.turn(self.now, 0, Vec::new()).unwrap();
            }
            if let Some(close) = self.relay.poll_close(id) {
                panic!("the relay hung up: {}", close.message);
            }
            quiet = if through == before { quiet + 1 } else { 0 };
            self.wait(100);
            self.replicas[replica].handle_timeout(self.now).unwrap();
        }
        let is_safe = self.replicas[replica].status().link == Link::Safe;
        self.disconnect(replica);
        (through, is_safe)
    }

    /// Round trips of all connected replicas, letting time pass, until all are safe and nothing is
    /// said any more. Gives what one replica exchanged.
    pub fn settle(&mut self, of: usize) -> (Exchanged, usize) {
        let mut sum = Exchanged::default();
        let (mut round_trips, mut quiet) = (0, 0);
        for _ in 0..10_000 {
            let mut all_quiet = true;
            for replica in 0..self.replicas.len() {
                let exchanged = self.round_trip(replica);
                all_quiet &= exchanged.is_quiet();
                if replica == of && !exchanged.is_quiet() {
                    round_trips += 1;
                    sum.frames.0 += exchanged.frames.0;
                    sum.frames.1 += exchanged.frames.1;
                    sum.bytes.0 += exchanged.bytes.0;
                    sum.bytes.1 += exchanged.bytes.1;
                }
            }
            quiet = if all_quiet { quiet + 1 } else { 0 };
            if quiet > 2 && self.is_safe() {
                return (sum, round_trips);
            }
            self.now += 250;
        }
        let links: Vec<_> = self.replicas.iter().map(|engine| engine.status().clone()).collect();
        panic!("never settled: {links:?}");
    }

    /// Folds documents until there is none to fold.
    pub fn compact(&mut self) {
        while let Some(input) = self.relay.poll_compaction() {
            let compacted = compact_in_process(&input);
            self.relay.handle_compacted(compacted);
            self.relay.turn(self.now, self.now).unwrap();
        }
    }

    /// Lets time pass.
    pub fn wait(&mut self, ms: u64) {
        self.now += ms;
        self.relay.handle_timeout(self.now);
    }

    fn is_safe(&self) -> bool {
        let connected = self.replicas.iter().zip(&self.connections);
        connected
            .filter(|(_, id)| id.is_some())
            .all(|(engine, _)| engine.status().link == Link::Safe)
    }
}

/// Frames that a replica has under way at once.
const FRAMES_AT_ONCE: usize = 2;

fn memory() -> Database {
    Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
}
