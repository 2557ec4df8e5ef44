//! Conversations with Automerge's own sync protocol: random edits by several documents that meet
//! only through a change graph, over connections that break.

use automerge::sync::{Message, State, SyncDoc};
use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ROOT};
use rejoin_core::automerge_repo::{Conversation, Orphans, SyncMessage, Takes};
use rejoin_core::change::{self, Admission, Place, admit};
use rejoin_core::{ChangeGraph, ChangeHash, CollectionName, DocumentId, GraphEntry, SpaceName};

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

/// The relay's end: a graph and the bytes of its changes.
#[derive(Default)]
struct Hub {
    graph: ChangeGraph,
    chunks: Vec<Vec<u8>>,
}

struct Peer {
    document: AutoCommit,
    state: State,
    conversation: Conversation,
    orphans: Orphans,
}

impl Hub {
    fn take(&mut self, peer: &mut Peer, message: &[u8]) {
        let message = SyncMessage::decode(message).expect("Automerge's message");
        let parsed = message.changes.iter().map(|chunk| {
            let change = change::parse(chunk).expect("Automerge's change");
            (change, chunk.to_vec())
        });
        let parsed = parsed.collect();
        for (change, chunk) in peer.orphans.sort(&self.graph, parsed) {
            self.keep(&change, chunk);
        }
        peer.conversation.receive(&message, &self.graph);
    }

    fn keep(&mut self, change: &change::Change, chunk: Vec<u8>) {
        let (space, collection) =
            (SpaceName::new("main").unwrap(), CollectionName::new("documents").unwrap());
        let document = DocumentId([7; 16]);
        let place = Place { space: &space, collection: &collection, document: &document };
        assert_eq!(admit(change, &place, &self.graph), Ok(Admission::New));
        self.graph.insert(GraphEntry::from(change)).expect("its dependencies are known");
        self.chunks.push(chunk);
    }

    /// What the peer is sent, at most `most` changes at once.
    fn say(&self, peer: &mut Peer, most: usize) -> Option<Vec<u8>> {
        let owed = peer.conversation.owed(&self.graph, &peer.orphans)?;
        let taken = owed.ranks.len().min(most);
        let chunks = owed.ranks[..taken].iter().map(|rank| &*self.chunks[*rank as usize]).collect();
        Some(
            peer.conversation
                .tell(&self.graph, owed, taken, chunks, false, Takes::Documents)
                .encode(),
        )
    }
}

impl Peer {
    fn new(actor: u8) -> Self {
        Self {
            document: AutoCommit::new().with_actor(ActorId::from(vec![actor; 8])),
            state: State::new(),
            conversation: Conversation::default(),
            orphans: Orphans::default(),
        }
    }

    /// A connection like any other: what the relay knew is gone, and the peer remembers what it
    /// keeps, or nothing.
    fn reconnect(&mut self, remembers: bool) {
        self.state = match remembers {
            true => State::decode(&self.state.encode()).expect("its own bytes"),
            false => State::new(),
        };
        (self.conversation, self.orphans) = Default::default();
    }

    fn edit(&mut self, random: &mut Random) {
        let key = format!("k{}", random.below(5));
        self.document.put(ROOT, key, random.below(1000)).expect("a put");
        self.document.commit();
    }

    fn message(&mut self) -> Option<Vec<u8>> {
        self.document.sync().generate_sync_message(&mut self.state).map(Message::encode)
    }

    fn take(&mut self, message: &[u8]) {
        let message = Message::decode(message).expect("our message");
        self.document.sync().receive_sync_message(&mut self.state, message).expect("applies");
    }

    fn heads(&mut self) -> Vec<ChangeHash> {
        self.document.get_heads().iter().map(|head| ChangeHash(head.0)).collect()
    }
}

/// Exchanges messages until nobody has more to say; fails if that never comes.
fn settle(hub: &mut Hub, peers: &mut [Peer], most: usize) {
    for _ in 0..500 {
        let mut is_quiet = true;
        for peer in peers.iter_mut() {
            while let Some(message) = peer.message() {
                hub.take(peer, &message);
                is_quiet = false;
            }
            while let Some(message) = hub.say(peer, most) {
                peer.take(&message);
                is_quiet = false;
            }
        }
        if is_quiet {
            return;
        }
    }
    panic!("they never stop talking");
}

#[test]
fn documents_meet_through_a_graph_whatever_happens_between() {
    for seed in 1..=150 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut hub = Hub::default();
        let mut peers: Vec<Peer> = (1..=3).map(Peer::new).collect();
        let most = 1 + random.below(40) as usize;
        for _ in 0..random.below(30) {
            let peer = random.below(3) as usize;
            match random.below(10) {
                0 => peers[peer].reconnect(true),
                1 => peers[peer].reconnect(false),
                2 => settle(&mut hub, &mut peers, most),
                3 => (0..random.below(300)).for_each(|_| peers[peer].edit(&mut random)),
                4 | 5 => {
                    // Half a conversation.
                    if let Some(message) = peers[peer].message() {
                        hub.take(&mut peers[peer], &message);
                    }
                }
                6 => {
                    if let Some(message) = hub.say(&mut peers[peer], most) {
                        peers[peer].take(&message);
                    }
                }
                _ => peers[peer].edit(&mut random),
            }
        }
        settle(&mut hub, &mut peers, most);
        for peer in &mut peers {
            assert_eq!(peer.heads(), hub.graph.heads(), "seed {seed}");
            assert!(peer.orphans.is_empty(), "seed {seed}");
        }
    }
}
