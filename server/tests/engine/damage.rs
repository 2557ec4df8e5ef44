//! Rows that were damaged on the disk.

use redb::{ReadableTable, TableDefinition};
use rejoin_core::change::Place;
use rejoin_core::wire::RefusedClass;
use rejoin_core::{ChangeHash, limits};
use rejoin_relay::{CompactionPolicy, RelayOptions, TailPolicy, compact_in_process};

use crate::harness::{Author, World, document, hash, hashes, jobs, space};

const DOCUMENTS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("documents-2");
const CHUNKS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("chunks-2");
const SNAPSHOTS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("snapshots-2");

/// The number of the document that came first.
const FIRST: u64 = 1;

/// The place of a document's own row.
const OWN: u64 = u64::MAX;

/// Two documents, each by an author of its own who pushed three changes.
fn two_documents() -> (World, [Author; 2]) {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut authors = [Author::new(1), Author::new(2)];
    for (n, author) in authors.iter_mut().enumerate() {
        alice.push(n as u64, document(n as u8), author.puts(3));
    }
    world.drive(&mut [&mut alice]);
    (world, authors)
}

/// Changes a row while the relay is closed.
fn damage_row(
    world: &mut World,
    table: TableDefinition<'static, (u64, u64), &'static [u8]>,
    key: (u64, u64),
    damage: impl FnOnce(&mut Vec<u8>),
) {
    world.close();
    let database = world.disk.database().unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut rows = transaction.open_table(table).unwrap();
        let mut row = rows.get(key).unwrap().unwrap().value().to_vec();
        damage(&mut row);
        rows.insert(key, row.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    world.reopen(RelayOptions::default());
}

/// Flips a bit in the bytes of a change, which stand at the end of its row.
fn flip_last(row: &mut [u8]) {
    *row.last_mut().unwrap() ^= 1;
}

fn heads(world: &mut World, n: u8) -> Vec<ChangeHash> {
    let (space, collection, document) = (space(), jobs(), document(n));
    let place = Place { space: &space, collection: &collection, document: &document };
    let known = world.relay.store_mut().known(&place).unwrap();
    known.map(|known| known.graph.heads()).unwrap_or_default()
}

#[test]
fn a_document_that_is_damaged_beyond_mending_stops_no_other() {
    let (mut world, mut authors) = two_documents();
    damage_row(&mut world, DOCUMENTS, (FIRST, OWN), |row| *row = vec![0xff]);
    // Not even the row of its last change tells which it is.
    world.close();
    let database = world.disk.database().unwrap();
    let transaction = database.begin_write().unwrap();
    let latest: TableDefinition<'_, (u32, u64), &[u8; 44]> = TableDefinition::new("latest-2");
    transaction.open_table(latest).unwrap().remove((1, 3)).unwrap();
    transaction.commit().unwrap();
    drop(database);
    world.reopen(RelayOptions::default());

    let mut bob = world.connect(None, false);
    let more = [authors[0].puts(1), authors[1].puts(1)];
    for (n, chunks) in more.iter().enumerate() {
        bob.session.push(n as u64, 0, document(n as u8), jobs(), chunks.clone());
    }
    world.drive(&mut [&mut bob]);
    assert_eq!(bob.acked(), [0, 1]);
    assert_eq!(bob.refusal(), (RefusedClass::Later, hashes(&more[0])));
    assert_eq!(bob.documents.len(), 1);
    assert_eq!(bob.digests, None, "nobody is to take it for whole");
    assert_eq!(world.relay.counters().documents_damaged, 1);
}

#[test]
fn rows_that_can_be_made_anew_are() {
    let (mut world, mut authors) = two_documents();
    damage_row(&mut world, DOCUMENTS, (FIRST, OWN), |row| *row = vec![0xff]);
    damage_row(&mut world, DOCUMENTS, (FIRST, 1), |row| row[10] ^= 1);
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    // What was damaged are the rows beside the changes, which say all that was in them. It is mended
    // when it was seen, and the digests send who passed it over to ask again.
    assert!(bob.documents.len() == 2 || !bob.agrees());
    bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert_eq!(bob.documents.len(), 2);
    assert!(bob.agrees());
    let counters = world.relay.counters();
    assert_eq!((counters.documents_damaged, counters.changes_damaged), (1, 0));
    bob.push(9, document(0), authors[0].puts(1));
    world.drive(&mut [&mut bob]);
    assert_eq!(bob.acked(), [9]);
    assert!(bob.refused().is_empty());
}

#[test]
fn a_damaged_change_is_not_sent_and_not_claimed_until_it_was_pushed_again() {
    let (mut world, mut authors) = two_documents();
    let all: Vec<Vec<u8>> =
        authors[0].doc.get_changes(&[]).iter().map(|it| it.raw_bytes().to_vec()).collect();
    damage_row(&mut world, DOCUMENTS, (FIRST, 2), |row| flip_last(row));

    // A new replica completes with what is sound, and the relay claims no more than that.
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert!(bob.received().iter().all(|chunk| all[0] == *chunk || !all.contains(chunk)));
    assert_eq!(heads(&mut world, 0), [hash(&all[0])]);
    let counters = world.relay.counters();
    assert_eq!((counters.documents_damaged, counters.changes_damaged), (1, 1));
    // Another holds all that the relay has, and that is not all there is.
    let mut dora = world.connect(None, false);
    world.drive(&mut [&mut bob, &mut dora]);
    assert_eq!((dora.agrees(), dora.lost), (true, 1));
    // Something else that is new makes up for nothing.
    dora.push(1, document(1), authors[1].puts(1));
    world.drive(&mut [&mut bob, &mut dora]);
    assert_eq!(dora.lost, 1);

    // Who holds it offers it, as any repair does: only the lost one has to come.
    let mut alice = world.connect(None, true);
    alice.push(1, document(0), vec![all[1].clone()]);
    world.drive(&mut [&mut alice, &mut bob, &mut dora]);
    assert_eq!(alice.acked(), [1]);
    assert!(alice.refused().is_empty());
    assert_eq!(heads(&mut world, 0), [hash(&all[2])], "what was held back is in again");
    assert!(!bob.agrees(), "he passed over the first change, and is told that he lacks something");
    assert_eq!((bob.lost, dora.lost), (0, 0));
    let mut carol = world.connect(None, false);
    world.drive(&mut [&mut carol]);
    assert!(carol.agrees());
    world.reopen(RelayOptions::default());
    let mut dave = world.connect(None, false);
    world.drive(&mut [&mut dave]);
    assert!(dave.agrees());
    assert_eq!(world.relay.counters().documents_damaged, 0, "it is whole");
}

#[test]
fn a_document_whose_first_change_is_damaged_is_a_new_one() {
    let (mut world, mut authors) = two_documents();
    let all: Vec<Vec<u8>> =
        authors[0].doc.get_changes(&[]).iter().map(|it| it.raw_bytes().to_vec()).collect();
    damage_row(&mut world, DOCUMENTS, (FIRST, 1), |row| flip_last(row));
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert_eq!(bob.documents.len(), 1);
    assert_eq!((bob.agrees(), bob.lost), (true, 1));
    world.reopen(RelayOptions::default());
    let mut alice = world.connect(None, true);
    // Somebody who has the first change only brings back what others wrote on it.
    alice.push(1, document(0), all[..1].to_vec());
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.acked(), [1]);
    assert_eq!(heads(&mut world, 0), [hash(&all[2])]);
    let mut carol = world.connect(None, false);
    world.drive(&mut [&mut carol]);
    assert_eq!(carol.documents.len(), 2);
    assert_eq!((carol.agrees(), carol.lost), (true, 0));
}

/// The last change of a document is gone with its whole row: nothing names it.
fn without_the_last() -> (World, Vec<Vec<u8>>) {
    let (mut world, mut authors) = two_documents();
    let all = authors[0].doc.get_changes(&[]).iter().map(|it| it.raw_bytes().to_vec()).collect();
    damage_row(&mut world, DOCUMENTS, (FIRST, 3), |row| *row = vec![0xff]);
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert_eq!((bob.agrees(), bob.lost), (true, 1));
    // The relay knows of it when it is started anew, too.
    world.reopen(RelayOptions::default());
    bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert_eq!((bob.agrees(), bob.lost), (true, 1));
    (world, all)
}

#[test]
fn a_change_that_nothing_names_is_known_by_the_heads_it_made() {
    let (mut world, all) = without_the_last();
    let losses = world.relay.store().losses().unwrap();
    assert_eq!((losses.len(), losses[0].changes, losses[0].more), (1, 0, true));
    // Another change beside it is not it.
    let mut author = Author::new(9);
    author.doc = automerge::AutoCommit::load(&all[..2].concat()).unwrap();
    author.doc.set_actor(automerge::ActorId::from([9; 16]));
    let mut alice = world.connect(None, true);
    alice.push(1, document(0), author.puts(1));
    world.drive(&mut [&mut alice]);
    assert_eq!((alice.acked(), alice.lost), (vec![1], 1));
    world.reopen(RelayOptions::default());
    alice = world.connect(None, true);
    alice.push(1, document(0), vec![all[2].clone()]);
    world.drive(&mut [&mut alice]);
    let mut carol = world.connect(None, false);
    world.drive(&mut [&mut carol]);
    assert_eq!((carol.agrees(), carol.lost), (true, 0));
}

#[test]
fn a_loss_ends_when_the_document_is_as_it_was_or_when_an_operator_gives_it_up() {
    let (mut world, all) = without_the_last();
    let mut alice = world.connect(None, true);
    alice.push(1, document(0), vec![all[2].clone()]);
    world.drive(&mut [&mut alice]);
    let mut carol = world.connect(None, false);
    world.drive(&mut [&mut carol]);
    assert_eq!((carol.agrees(), carol.lost), (true, 0));

    let (mut world, _) = without_the_last();
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert!(!world.relay.accept_loss(&space(), document(1)).unwrap(), "it lost nothing");
    assert!(world.relay.accept_loss(&space(), document(0)).unwrap());
    world.drive(&mut [&mut bob]);
    assert_eq!((bob.agrees(), bob.lost), (true, 0));
    world.reopen(RelayOptions::default());
    bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert_eq!((bob.agrees(), bob.lost), (true, 0));
}

#[test]
fn a_long_change_is_checked_before_its_first_piece_goes_out() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    let mut seed = 1_u32;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'0' + (seed >> 24) as u8 % 70)
    });
    let long = author.put("photo", &noise.take(50_000).collect::<String>());
    assert!(long.len() > 2 * limits::PIECE_BYTES);
    alice.push(1, document(0), vec![long.clone()]);
    world.drive(&mut [&mut alice]);
    damage_row(&mut world, CHUNKS, (FIRST, 1), |row| flip_last(row));
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert_eq!(bob.received(), Vec::<Vec<u8>>::new());
    assert!(bob.digests.is_some());
    alice = world.connect(None, true);
    alice.push(1, document(0), vec![long.clone()]);
    world.drive(&mut [&mut alice, &mut bob]);
    assert_eq!(bob.received(), [long]);
    assert!(bob.agrees());
}

fn folding() -> RelayOptions {
    let mut policy = CompactionPolicy::default();
    (policy.changes_min, policy.quiet_ms) = (4, 0);
    policy.tail = TailPolicy { away_ms_max: 0, bytes_max: 0 };
    let mut options = RelayOptions::default();
    options.compaction = Some(policy);
    options
}

/// A document of twenty changes in a snapshot, and two more.
fn folded() -> (World, Author, Vec<Vec<u8>>) {
    let mut world = World::with(folding());
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    let mut all = author.puts(20);
    alice.push(1, document(0), all.clone());
    world.drive(&mut [&mut alice]);
    let input = world.relay.poll_compaction().unwrap();
    let compacted = compact_in_process(&input);
    drop(input);
    world.relay.handle_compacted(compacted);
    world.turn();
    assert_eq!(world.relay.counters().compactions, 1);
    let more = author.puts(2);
    all.extend(more.clone());
    alice.push(2, document(0), more);
    world.drive(&mut [&mut alice]);
    (world, author, all)
}

#[test]
fn a_damaged_snapshot_is_not_sent_and_what_it_held_is_asked_for() {
    let (mut world, _, all) = folded();
    damage_row(&mut world, SNAPSHOTS, (FIRST, 0), |part| part[40] ^= 4);
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert!(bob.documents.is_empty(), "a snapshot that is damaged is not sent");
    assert_eq!(bob.digests, Some(bob.digests.clone().unwrap()), "and no more is claimed");
    assert!(world.relay.counters().changes_damaged > 0);
    let mut alice = world.connect(None, true);
    alice.push(1, document(0), all.clone());
    world.drive(&mut [&mut alice, &mut bob]);
    assert_eq!(alice.acked(), [1]);
    assert_eq!(bob.heads(&document(0)), [hash(&all[21])]);
    assert!(bob.agrees());
}

#[test]
fn a_damaged_change_beside_a_sound_snapshot_costs_only_that() {
    let (mut world, _, all) = folded();
    damage_row(&mut world, DOCUMENTS, (FIRST, 21), |row| flip_last(row));
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert_eq!(heads(&mut world, 0), [hash(&all[19])], "the snapshot still serves");
    let mut carol = world.connect(None, false);
    world.drive(&mut [&mut carol]);
    assert_eq!(carol.heads(&document(0)), [hash(&all[19])]);
    assert!(carol.agrees());
    carol.push(1, document(0), vec![all[20].clone()]);
    carol.documents.get_mut(&document(0)).unwrap().load_incremental(&all[20]).unwrap();
    world.drive(&mut [&mut carol, &mut bob]);
    assert_eq!(heads(&mut world, 0), [hash(&all[21])]);
    assert!(carol.agrees());
}

#[test]
fn what_nobody_reads_is_found_by_the_look_over_the_store() {
    let (mut world, _) = two_documents();
    damage_row(&mut world, DOCUMENTS, (FIRST, 2), |row| flip_last(row));
    world.unix_ms = 0;
    for _ in 0..10 {
        world.turn();
        world.now += limits::SCRUB_WAIT_MS_MAX;
        world.relay.handle_timeout(world.now);
    }
    let counters = world.relay.counters();
    assert_eq!((counters.documents_damaged, counters.changes_damaged), (1, 1));
    assert!(counters.documents_scrubbed >= 2, "{counters:?}");
    // A pass is over, and the next is not due before a day is.
    assert!(world.relay.poll_timeout().unwrap() > world.now + limits::SCRUB_PASS_MS / 2);
}

#[test]
fn a_replica_that_is_connected_is_told_digests_anew_when_damage_is_found() {
    let (mut world, mut authors) = two_documents();
    damage_row(&mut world, DOCUMENTS, (FIRST, 3), |row| flip_last(row));
    let mut alice = world.connect(None, true);
    for (n, author) in authors.iter_mut().enumerate() {
        alice.documents.insert(document(n as u8), author.doc.fork());
    }
    world.drive(&mut [&mut alice]);
    assert!(alice.agrees(), "nobody has looked yet");
    world.unix_ms = 0;
    for _ in 0..3 {
        world.turn();
        world.now += limits::SCRUB_WAIT_MS_MAX;
    }
    world.drive(&mut [&mut alice]);
    assert!(!alice.agrees(), "what the relay has lost it does not claim");
    let all: Vec<Vec<u8>> =
        authors[0].doc.get_changes(&[]).iter().map(|it| it.raw_bytes().to_vec()).collect();
    alice.push(1, document(0), vec![all[2].clone()]);
    world.drive(&mut [&mut alice]);
    assert!(alice.agrees());
}
