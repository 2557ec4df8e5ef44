//! Attacks in the language of replicas.

use std::future::pending;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rejoin_core::limits::{
    DEPTH_MAX, FRAME_CHANGES_MAX, OP_COUNTER_JUMP_MAX, PRESENCE_BYTES_MAX, REPAIR_SYMBOLS_MAX,
    SESSION_SPACES_MAX, WANT_DOCUMENTS_MAX,
};
use rejoin_core::wire::{Backfill, Frame, Listing, Offer, Presence, Repair};
use rejoin_core::{DocumentId, PeerId};
use tokio_tungstenite::tungstenite::Bytes;

use super::say_mutated;
use crate::hostile::chunks;
use crate::hostile::connection::{Language, again, either};
use crate::hostile::frames::{SPACE, enter, hello, numbered, push, space, unknown, want};
use crate::hostile::ground::Ground;

/// One of the spaces that one session may open at once.
pub(super) fn one_of_many(place: usize) -> String {
    format!("{SPACE}-{place}")
}

/// Frames of about 1 MiB that each want 1,024 documents.
pub(super) async fn wants(ground: &Ground) {
    let spaces: Vec<_> = (0..4).map(|place| space(&one_of_many(place))).collect();
    let page = |number: u32| {
        let documents = (0..WANT_DOCUMENTS_MAX).map(|_| unknown());
        Bytes::from(want(number % 4, documents, 100))
    };
    let pages: Vec<_> = (0..16).map(page).collect();
    again(ground, "wants", Language::Rejoin, async |connection| {
        enter(connection, spaces.clone()).await?;
        for page in pages.iter().cycle() {
            ground.count()?;
            connection.mouth.say(page.clone()).await?;
        }
        None
    })
    .await;
}

/// One space, as often as spaces may be named.
pub(super) async fn same_space(ground: &Ground) {
    let frame = hello((0..SESSION_SPACES_MAX).map(|_| space(&one_of_many(0))));
    again(ground, "the same space", Language::Rejoin, async |connection| {
        ground.count()?;
        connection.mouth.say(frame.clone()).await?;
        connection.ear.hear_all().await
    })
    .await;
}

/// A repair of each of as many spaces as may be named, each begun anew as soon as it was answered.
pub(super) async fn repairs(ground: &Ground) {
    let spaces: Vec<_> = (0..SESSION_SPACES_MAX).map(|place| space(&one_of_many(place))).collect();
    let begin = |space| {
        let (from, count, symbols) = (0, REPAIR_SYMBOLS_MAX, None);
        Frame::Repair(Repair { space, from, count, symbols }).encode()
    };
    again(ground, "repairs", Language::Rejoin, async |connection| {
        enter(connection, spaces.clone()).await?;
        for place in 0..SESSION_SPACES_MAX as u32 {
            ground.count()?;
            connection.mouth.say(begin(place)).await?;
        }
        loop {
            if let Ok(Some(Frame::Repair(answer))) = Frame::decode(&connection.ear.hear().await?) {
                ground.count()?;
                connection.mouth.say(begin(answer.space)).await?;
            }
        }
    })
    .await;
}

/// Frames of about 1 MiB of chunks that look right from outside.
pub(super) async fn bad_pushes(ground: &Ground) {
    let junk = |n: usize| {
        let mut body = [n as u8; 238];
        body[..8].copy_from_slice(&n.to_le_bytes());
        chunks::seal(1, &body)
    };
    let junk: Vec<_> = (0..FRAME_CHANGES_MAX).map(junk).collect();
    // As many as may be under way. The relay has to look at all of them.
    let frames: Vec<_> = (1..=32).map(|n| Bytes::from(push(0, n, numbered(n), &junk))).collect();
    again(ground, "bad pushes", Language::Rejoin, async |connection| {
        enter(connection, [space(SPACE)]).await?;
        for frame in &frames {
            ground.count()?;
            connection.mouth.say(frame.clone()).await?;
        }
        Some(())
    })
    .await;
}

/// One document, as often in a frame as documents may be named.
pub(super) async fn want_twice(ground: &Ground, document: DocumentId) {
    let frame = Bytes::from(want(0, (0..WANT_DOCUMENTS_MAX).map(|_| document), 1));
    again(ground, "want twice", Language::Rejoin, async |connection| {
        enter(connection, [space(SPACE)]).await?;
        ground.count()?;
        connection.mouth.say(frame.clone()).await?;
        connection.ear.hear_all().await
    })
    .await;
}

/// One document again and again, each time with another head that nobody has.
pub(super) async fn want_again(ground: &Ground, document: DocumentId, reads: bool) {
    let who = if reads { "want again" } else { "want again, unread" };
    again(ground, who, Language::Rejoin, async |connection| {
        enter(connection, [space(SPACE)]).await?;
        let (mouth, ear) = (&mut connection.mouth, &mut connection.ear);
        let ask = async {
            loop {
                ground.count()?;
                mouth.say(want(0, [document], 1)).await?;
            }
        };
        if !reads {
            return ask.await;
        }
        either(ask, ear.hear_all()).await
    })
    .await;
}

/// Connected, and never reads.
pub(super) async fn deaf(ground: &Ground) {
    again(ground, "deaf", Language::Rejoin, async |connection| {
        enter(connection, [space(SPACE)]).await?;
        pending().await
    })
    .await;
}

/// Presence of ever new peers, as large as may be.
pub(super) async fn present(ground: &Ground, document: DocumentId) {
    again(ground, "present", Language::Rejoin, async |connection| {
        enter(connection, [space(SPACE)]).await?;
        loop {
            ground.count()?;
            let value = Some(vec![1; PRESENCE_BYTES_MAX].into());
            let (peer, ttl_ms) = (PeerId(rand::random()), 300_000);
            let presence = Presence { space: 0, document, peer, value, ttl_ms };
            connection.mouth.say(Frame::Presence(presence).encode()).await?;
        }
    })
    .await;
}

/// Changes that are far ahead, concurrent with all others, or nested deeper than anybody reads.
pub(super) async fn counters(ground: &Ground) {
    let history = chunks::history(2, 16);
    let [first, second] = &history[..] else { unreachable!("two were asked for") };
    let far = [2 + OP_COUNTER_JUMP_MAX, 1 << 31, (1 << 32) - 6, (1 << 32) - 1];
    let far: Vec<_> = far.map(|start_op| chunks::renumbered(second, 7, start_op)).into();
    let concurrent = (0..ground.scale.heads).map(|actor| chunks::renumbered(second, actor, 2));
    let concurrent: Vec<_> = concurrent.collect();
    let nested = [DEPTH_MAX, DEPTH_MAX + 1, 2_000].map(chunks::nested).to_vec();
    again(ground, "counters", Language::Rejoin, async |connection| {
        enter(connection, [space(SPACE)]).await?;
        let (mouth, ear) = (&mut connection.mouth, &mut connection.ear);
        let spoil = async {
            let mut n = 0;
            loop {
                let document = unknown();
                let few = concurrent.chunks(FRAME_CHANGES_MAX / 4);
                let parts = [std::slice::from_ref(first), &far[..]].into_iter().chain(few);
                for changes in parts {
                    ground.count()?;
                    n += 1;
                    mouth.say(push(0, n, document, changes)).await?;
                }
                for change in &nested {
                    ground.count()?;
                    n += 1;
                    mouth.say(push(0, n, unknown(), std::slice::from_ref(change))).await?;
                }
            }
        };
        either(spoil, ear.hear_all()).await
    })
    .await;
}

/// Frames of all kinds, each with some bytes changed.
pub(super) async fn mutations(ground: &Ground) {
    let change = chunks::first(64);
    let known = numbered(1);
    let backfill = Backfill::of(0, 100);
    let frames = [
        hello([space(SPACE)]),
        push(0, 1, known, std::slice::from_ref(&change)),
        want(0, (0..8).map(numbered), 2),
        Frame::Repair(Repair { space: 0, from: 0, count: 16, symbols: None }).encode(),
        Frame::Listing(Listing { space: 0, backfill, documents: None }).encode(),
        Frame::Offer(Offer { space: 0, documents: Vec::new() }).encode(),
        Frame::Presence(Presence {
            space: 0,
            document: known,
            peer: PeerId([1; 16]),
            value: Some(vec![1; 16].into()),
            ttl_ms: 1_000,
        })
        .encode(),
    ];
    let seeds = std::cell::RefCell::new(ChaCha8Rng::seed_from_u64(ground.seed));
    again(ground, "mutations", Language::Rejoin, async |connection| {
        enter(connection, [space(SPACE)]).await?;
        let random = ChaCha8Rng::seed_from_u64(seeds.borrow_mut().random());
        say_mutated(ground, connection, &frames, random).await
    })
    .await;
}
