//! Attacks in the language of automerge-repo.

use std::collections::BTreeMap;
use std::future::pending;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rejoin_core::automerge_repo::{Ephemeral, RemoteHeads, RepoFrame, StorageHeads};
use rejoin_core::limits::EPHEMERAL_BYTES_MAX;
use rejoin_core::{ChangeHash, DocumentId};
use tokio_tungstenite::tungstenite::Bytes;

use super::say_mutated;
use crate::hostile::chunks::{self, Expanding};
use crate::hostile::connection::{Language, again, either};
use crate::hostile::frames::{bring, join, numbered, open, sync, unknown};
use crate::hostile::ground::Ground;

/// How many storages are told of at once.
const STORAGES: usize = 512;

/// Each has a name of its own: whoever joins under another's ends that one's connection.
fn name_of(kind: &str, number: usize) -> String {
    format!("{kind}-{number}")
}

fn storage(number: usize) -> String {
    format!("storage-{number:04}-of-somebody-who-is-made-up")
}

/// Messages that hold as many chunks as their bytes allow.
pub(super) async fn chunks(ground: &Ground, number: usize) {
    let me = name_of("chunks", number);
    // Ten bytes: a change without a body.
    let chunk = chunks::seal(1, &[]);
    let data = bring(&[], &[], &chunk.repeat(ground.scale.message_bytes / chunk.len()));
    again(ground, "chunks", Language::AutomergeRepo, async |connection| {
        let relay = join(connection, &me).await?;
        let message = Bytes::from(sync(&me, &relay, unknown(), &data));
        loop {
            ground.count()?;
            connection.mouth.say(message.clone()).await?;
        }
    })
    .await;
}

/// Wants to know of many storages, has the document open, and never reads.
pub(super) async fn subscriber(ground: &Ground, document: DocumentId, number: usize) {
    let me = name_of("subscriber", number);
    let storages: Vec<_> = (0..STORAGES).map(storage).collect();
    again(ground, "subscriber", Language::AutomergeRepo, async |connection| {
        let relay = join(connection, &me).await?;
        let (add, remove) = (storages.iter().map(String::as_str).collect(), Vec::new());
        let subscribe = RepoFrame::RemoteSubscriptionChange { sender: &me, add, remove };
        connection.mouth.say(subscribe.encode()).await?;
        connection.mouth.say(open(&me, &relay, document)).await?;
        pending().await
    })
    .await;
}

/// Tells of all those storages, each time something newer.
pub(super) async fn gossip(ground: &Ground, document: DocumentId, number: usize) {
    let me = format!("gossip-{number}");
    let storages: Vec<_> = (0..STORAGES).map(storage).collect();
    let mut random = ChaCha8Rng::seed_from_u64(ground.seed);
    let heads: Vec<_> = (0..8).map(|_| ChangeHash(random.random())).collect();
    again(ground, "gossip", Language::AutomergeRepo, async |connection| {
        let relay = join(connection, &me).await?;
        connection.mouth.say(open(&me, &relay, document)).await?;
        for timestamp in 1.. {
            ground.count()?;
            let news = || StorageHeads { heads: heads.clone(), timestamp };
            let heads: BTreeMap<_, _> =
                storages.iter().map(|storage| (storage.as_str(), news())).collect();
            let (sender, target) = (me.as_str(), relay.as_str());
            let remote = RemoteHeads { sender, target, document, heads };
            connection.mouth.say(RepoFrame::RemoteHeadsChanged(remote).encode()).await?;
        }
        None
    })
    .await;
}

/// Has the document open, and never reads.
pub(super) async fn deaf(ground: &Ground, document: DocumentId, number: usize) {
    let me = name_of("deaf", number);
    again(ground, "deaf peer", Language::AutomergeRepo, async |connection| {
        let relay = join(connection, &me).await?;
        connection.mouth.say(open(&me, &relay, document)).await?;
        pending().await
    })
    .await;
}

/// Ephemeral messages as large as they are passed on.
pub(super) async fn ephemeral(ground: &Ground, document: DocumentId) {
    let me = "loud".to_owned();
    let data = vec![1; EPHEMERAL_BYTES_MAX];
    again(ground, "loud peer", Language::AutomergeRepo, async |connection| {
        let relay = join(connection, &me).await?;
        connection.mouth.say(open(&me, &relay, document)).await?;
        let session = format!("{:016x}", rand::random::<u64>());
        for count in 1.. {
            ground.count()?;
            let (sender, target) = (me.as_str(), relay.as_str());
            let (session, data) = (session.as_str(), data.as_slice());
            let message = Ephemeral { sender, target, session, count, document, data };
            connection.mouth.say(RepoFrame::Ephemeral(message).encode()).await?;
        }
        None
    })
    .await;
}

/// Uploads a document that expands, each time as another one.
pub(super) async fn upload(ground: &Ground, number: usize) {
    let me = name_of("upload", number);
    let expanding = Expanding::new(ground.scale.expanding_changes, 50_000);
    let data = bring(&expanding.heads, &expanding.all, &expanding.saved);
    again(ground, "upload", Language::AutomergeRepo, async |connection| {
        let relay = join(connection, &me).await?;
        let (mouth, ear) = (&mut connection.mouth, &mut connection.ear);
        let send = async {
            loop {
                ground.count()?;
                mouth.say(sync(&me, &relay, unknown(), &data)).await?;
            }
        };
        either(send, ear.hear_all()).await
    })
    .await;
}

/// Messages of all kinds, each with some bytes changed.
pub(super) async fn mutations(ground: &Ground) {
    let me = "mutant".to_owned();
    let change = chunks::first(64);
    let seeds = std::cell::RefCell::new(ChaCha8Rng::seed_from_u64(ground.seed ^ 1));
    again(ground, "mutant peer", Language::AutomergeRepo, async |connection| {
        let relay = join(connection, &me).await?;
        let random = ChaCha8Rng::seed_from_u64(seeds.borrow_mut().random());
        let (sender, target, document) = (me.as_str(), relay.as_str(), numbered(1));
        let heads = StorageHeads { heads: vec![ChangeHash([1; 32])], timestamp: 1 };
        let heads = BTreeMap::from([("a storage", heads)]);
        let (session, data) = ("a session", [1; 16].as_slice());
        let subscribe = RepoFrame::RemoteSubscriptionChange {
            sender,
            add: vec!["a storage"],
            remove: Vec::new(),
        };
        let frames = [
            open(sender, target, document),
            sync(sender, target, document, &bring(&[], &[], &change)),
            RepoFrame::RemoteHeadsChanged(RemoteHeads { sender, target, document, heads }).encode(),
            RepoFrame::Ephemeral(Ephemeral { sender, target, session, count: 1, document, data })
                .encode(),
            subscribe.encode(),
        ];
        say_mutated(ground, connection, &frames, random).await
    })
    .await;
}
