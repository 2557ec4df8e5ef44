//! The attacks by name: what each needs in the relay before, and who takes part in it.

mod native;
mod repo;

use futures_util::future::join_all;
use rand::{Rng, RngExt};

use super::chunks;
use super::connection::{Connection, either};
use super::frames::{SPACE, numbered, store};
use super::ground::Ground;
use super::siege::Scale;

/// One kind of hostile peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Wants as much as a frame holds, over four spaces, and never reads.
    Wants,
    /// Names one space 64 times; and begins a repair of each of 64 spaces, again and again.
    Hello,
    /// Pushes as many chunks as a frame holds, which are no sound changes, and never reads.
    BadPushes,
    /// Wants one large document many times in a frame, and in a frame each.
    WantTwice,
    /// Messages of automerge-repo that are all chunks of ten bytes.
    RepoChunks,
    /// Heads of others' storages, for subscribers that do not read.
    RepoHeads,
    /// Presence and ephemeral messages for many who do not read.
    Presence,
    /// Uploads a small document that expands enormously.
    RepoUpload,
    /// Sound changes that would use up their documents.
    Counters,
    /// Frames of all kinds with some bytes changed.
    Mutations,
}

/// The large document that is wanted again and again, or that peers have open.
const DOCUMENT: u64 = u64::MAX;

impl Attack {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Wants,
        Self::Hello,
        Self::BadPushes,
        Self::WantTwice,
        Self::RepoChunks,
        Self::RepoHeads,
        Self::Presence,
        Self::RepoUpload,
        Self::Counters,
        Self::Mutations,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wants => "wants",
            Self::Hello => "hello",
            Self::BadPushes => "bad-pushes",
            Self::WantTwice => "want-twice",
            Self::RepoChunks => "repo-chunks",
            Self::RepoHeads => "repo-heads",
            Self::Presence => "presence",
            Self::RepoUpload => "repo-upload",
            Self::Counters => "counters",
            Self::Mutations => "mutations",
        }
    }

    /// Whether it breaks the protocol, or its limits, so that the relay has to close connections.
    pub fn is_to_be_closed(self) -> bool {
        matches!(self, Self::Wants | Self::Hello | Self::WantTwice | Self::Mutations)
    }

    /// Puts into the relay what the attack is about.
    pub(super) async fn prepare(self, relay: &str, scale: Scale) {
        match self {
            Self::Hello => {
                // Half of the documents are in one space, the others in as many as one may open.
                let change = chunks::first(16);
                let mut number = 0;
                for place in 0..64 {
                    let count =
                        if place == 0 { scale.documents / 2 } else { scale.documents / 126 };
                    let documents = (number..number + count).map(numbered);
                    number += count;
                    let documents = documents.map(|document| (document, vec![change.clone()]));
                    store(relay, &native::one_of_many(place), documents.collect()).await;
                }
            }
            Self::WantTwice => {
                let changes = chunks::history(scale.large_changes, 64 << 10);
                let pushes = changes.into_iter().map(|change| (numbered(DOCUMENT), vec![change]));
                store(relay, SPACE, pushes.collect()).await;
            }
            Self::RepoHeads | Self::Presence => {
                store(relay, SPACE, vec![(numbered(DOCUMENT), vec![chunks::first(16)])]).await;
            }
            _ => {}
        }
    }

    /// Attacks until the time is up.
    pub(super) async fn play(self, ground: &Ground) {
        match self {
            Self::Wants => several(2, |_| native::wants(ground)).await,
            Self::Hello => {
                let (same, repairs) = (native::same_space(ground), |_| native::repairs(ground));
                tokio::join!(same, several(2, repairs));
            }
            Self::BadPushes => several(2, |_| native::bad_pushes(ground)).await,
            Self::WantTwice => {
                let document = numbered(DOCUMENT);
                let twice = native::want_twice(ground, document);
                let reads = native::want_again(ground, document, true);
                let never_reads = native::want_again(ground, document, false);
                tokio::join!(twice, reads, never_reads);
            }
            Self::RepoChunks => several(2, |number| repo::chunks(ground, number)).await,
            Self::RepoHeads => {
                let document = numbered(DOCUMENT);
                let deaf = several(20, |number| repo::subscriber(ground, document, number));
                let loud = several(2, |number| repo::gossip(ground, document, number));
                tokio::join!(deaf, loud);
            }
            Self::Presence => {
                let document = numbered(DOCUMENT);
                let deaf = several(100, |_| native::deaf(ground));
                let deaf_peers = several(100, |number| repo::deaf(ground, document, number));
                let loud = native::present(ground, document);
                let loud_peer = repo::ephemeral(ground, document);
                tokio::join!(deaf, deaf_peers, loud, loud_peer);
            }
            Self::RepoUpload => several(2, |number| repo::upload(ground, number)).await,
            Self::Counters => native::counters(ground).await,
            Self::Mutations => {
                tokio::join!(native::mutations(ground), repo::mutations(ground));
            }
        }
    }
}

/// So many who do the same.
async fn several<F: Future<Output = ()>>(count: usize, one: impl Fn(usize) -> F) {
    join_all((0..count).map(one)).await;
}

/// Sends these frames in any order, each with some bytes changed, until the connection ends.
async fn say_mutated(
    ground: &Ground,
    connection: &mut Connection,
    frames: &[Vec<u8>],
    mut random: impl Rng,
) -> Option<()> {
    let Connection { mouth, ear } = connection;
    let say = async {
        loop {
            ground.count()?;
            let frame = &frames[random.random_range(0..frames.len())];
            mouth.say(mutated(frame, &mut random)).await?;
        }
    };
    either(say, ear.hear_all()).await
}

/// Changes some bytes of a frame.
fn mutated(frame: &[u8], random: &mut impl Rng) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for _ in 0..random.random_range(1..=8) {
        let at = random.random_range(0..bytes.len());
        bytes[at] = random.random();
    }
    bytes
}
