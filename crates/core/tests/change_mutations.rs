//! Damaged changes with a right checksum: the guard never panics, and what it takes, Automerge
//! reads in the same way.

mod change_support;

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{Change as AmChange, ObjType, ScalarValue};
use change_support::*;
use rejoin_core::change::{check_snapshot, parse};

/// Changes with every column.
fn corpus() -> Vec<Vec<u8>> {
    let mut doc = device(1);
    doc.put(automerge::ROOT, "status", "booked").unwrap();
    doc.put(automerge::ROOT, "count", ScalarValue::counter(3)).unwrap();
    let text = doc.put_object(automerge::ROOT, "notes", ObjType::Text).unwrap();
    doc.splice_text(&text, 0, 0, "leaky tap").unwrap();
    doc.commit_with(CommitOptions::default().with_message("first").with_time(1_700_000_000));
    let mut other = doc.fork().with_actor(automerge::ActorId::from(vec![2; 16]));
    other.put(automerge::ROOT, "status", "done").unwrap();
    other.splice_text(&text, 2, 3, "ä").unwrap();
    let mark = automerge::marks::Mark::new("bold".into(), true, 0, 3);
    other.mark(&text, mark, automerge::marks::ExpandMark::Both).unwrap();
    other.commit();
    doc.put(automerge::ROOT, "status", "en route").unwrap();
    doc.increment(automerge::ROOT, "count", 2).unwrap();
    doc.commit();
    doc.merge(&mut other).unwrap();
    doc.put(automerge::ROOT, "status", 2.5).unwrap();
    doc.delete(automerge::ROOT, "count").unwrap();
    doc.commit();
    let mut chunks: Vec<_> =
        doc.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect();
    chunks.push(Raw::default().chunk());
    chunks
}

/// The content of a raw chunk of fewer than 16,384 bytes.
fn content(chunk: &[u8]) -> &[u8] {
    if chunk[9] & 0x80 == 0 { &chunk[10..] } else { &chunk[11..] }
}

#[test]
fn every_shorter_change_is_refused() {
    for chunk in corpus() {
        assert!(parse(&chunk).is_ok());
        let body = content(&chunk);
        for len in 0..chunk.len() {
            assert!(parse(&chunk[..len]).is_err());
        }
        for len in 0..body.len() {
            assert!(parse(&seal(1, &body[..len])).is_err(), "{len} of {}", body.len());
        }
    }
}

#[test]
fn what_is_taken_automerge_reads_alike() {
    let corpus = corpus();
    let (mut taken, mut dice) = (0, Dice(7));
    for _ in 0..60_000 {
        let chunk = &corpus[dice.roll(corpus.len())];
        let mut body = content(chunk).to_vec();
        for _ in 0..=dice.roll(3) {
            mutate(&mut body, &mut dice);
        }
        let chunk = seal(1, &body);
        let Ok(ours) = parse(&chunk) else { continue };
        let theirs = AmChange::from_bytes(chunk).expect("Automerge parses what the guard takes");
        assert_eq!(ours.hash().0, theirs.hash().0);
        assert_eq!((ours.ops(), ours.max_op()), (theirs.len() as u64, theirs.max_op()));
        assert_eq!(ours.has_author(), theirs.author().is_some());
        taken += 1;
    }
    assert!(taken > 1000, "only {taken} mutations were taken");
}

fn mutate(body: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.roll(body.len());
    match dice.roll(6) {
        0 => _ = body.remove(at),
        1 => body.insert(at, dice.roll(256) as u8),
        2 => body[at] = [0, 1, 0x7f, 0x80, 0xff][dice.roll(5)],
        3 => body[at] = body[at].wrapping_add(1),
        4 => body[at] ^= 1 << dice.roll(8),
        _ => body[at] = dice.roll(256) as u8,
    }
}

#[test]
fn damaged_snapshots_do_not_panic() {
    let mut doc = device(1);
    doc.put(automerge::ROOT, "note", "x".repeat(900)).unwrap();
    let saved = doc.save();
    let mut dice = Dice(11);
    for _ in 0..5000 {
        let mut body = content(&saved).to_vec();
        mutate(&mut body, &mut dice);
        _ = check_snapshot(&seal(0, &body));
    }
}
