//! Documents that an operator erases.

use std::fs::File;

use redb::{ReadableTable, TableDefinition};
use rejoin_core::session::ReplicaEvent;
use rejoin_core::wire::{RefusedClass, Wanted};
use rejoin_relay::store::backup::{restore, verify, write_more, write_whole};
use rejoin_relay::{Erased, Relay, RelayOptions, take_apart_in_process};

use crate::harness::{Author, World, document, hashes, noise, space};
use crate::repo_peer::{RepoPeer, drive};

/// Three documents, the last of which is long.
fn three() -> (World, Vec<Author>) {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut authors: Vec<_> = (1..=3).map(Author::new).collect();
    for (n, author) in (0..).zip(&mut authors) {
        let mut changes = author.puts(3);
        if n == 2 {
            changes.push(author.put("photo", &noise(3, 50_000)));
        }
        alice.push(u64::from(n), document(n), changes);
    }
    world.drive(&mut [&mut alice]);
    world.disconnect(&alice);
    (world, authors)
}

fn erase(world: &mut World, n: u8) -> Erased {
    world.relay.erase(&space(), &document(n), 1_800_000_000_000).unwrap()
}

#[test]
fn everybody_is_told_whether_they_follow_come_back_or_begin() {
    for n in 0..3 {
        let (mut world, _) = three();
        let mut bob = world.connect(None, false);
        let mut away = world.connect(None, false);
        world.drive(&mut [&mut bob, &mut away]);
        world.disconnect(&away);
        assert!(matches!(erase(&mut world, n), Erased::Now(erasure) if erasure.changes >= 3));
        assert_eq!(erase(&mut world, n), Erased::Before);
        assert_eq!(erase(&mut world, 9), Erased::Unknown);
        world.drive(&mut [&mut bob]);
        assert_eq!((bob.documents.len(), bob.erased.len()), (2, 1));
        assert!(bob.agrees(), "who follows, document {n}");

        world.reopen(RelayOptions::default());
        let mut back = world.reconnect(away);
        world.drive(&mut [&mut back]);
        assert!(back.erased.contains(&document(n)) && back.agrees(), "who comes back");
        let mut new = world.connect(None, false);
        world.drive(&mut [&mut new]);
        assert!(new.erased.contains(&document(n)) && new.agrees(), "who begins");
        assert_eq!(world.relay.counters().documents_damaged, 0);
    }
}

#[test]
fn who_lost_their_mark_finds_it_by_comparing() {
    let (mut world, _) = three();
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    world.disconnect(&bob);
    erase(&mut world, 1);
    let mut returned = world.connect(None, true);
    returned.documents = std::mem::take(&mut bob.documents);
    world.drive(&mut [&mut returned]);
    assert!(!returned.agrees());
    let items = returned.items();
    returned.session.start_repair(0, items, 4096);
    world.drive(&mut [&mut returned]);
    let differing = returned.events.iter().find_map(|event| match event {
        ReplicaEvent::Difference(difference) => Some(difference.differing.clone()),
        _ => None,
    });
    assert_eq!(differing.unwrap(), [document(1)]);
    returned.session.want(0, vec![Wanted { document: document(1), heads: Vec::new() }]);
    world.drive(&mut [&mut returned]);
    assert!(returned.agrees() && returned.erased.contains(&document(1)));
}

#[test]
fn what_is_erased_takes_no_changes() {
    let (mut world, mut authors) = three();
    erase(&mut world, 0);
    let mut alice = world.connect(None, true);
    let late = authors[0].puts(1);
    alice.push(1, document(0), late.clone());
    alice.push(2, document(1), authors[1].puts(1));
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.refusal(), (RefusedClass::Never, hashes(&late)));
    assert_eq!(alice.acked(), [1, 2]);
}

/// The row of an erased document, or the row of its last change, is damaged.
#[test]
fn damage_does_not_bring_it_back() {
    const DOCUMENTS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("documents-2");
    const LATEST: TableDefinition<'_, (u32, u64), &[u8; 44]> = TableDefinition::new("latest-2");
    for with_row in [true, false] {
        let (mut world, _) = three();
        erase(&mut world, 0);
        world.close();
        let database = world.disk.database().unwrap();
        let transaction = database.begin_write().unwrap();
        if with_row {
            let mut documents = transaction.open_table(DOCUMENTS).unwrap();
            documents.insert((1, u64::MAX), [0xff].as_slice()).unwrap();
        } else {
            let mut latest = transaction.open_table(LATEST).unwrap();
            let row = latest.remove((1, 11)).unwrap();
            assert!(row.is_some(), "three, three, four changes and an erasure");
        }
        transaction.commit().unwrap();
        drop(database);
        world.reopen(RelayOptions::default());
        for _ in 0..3 {
            let mut bob = world.connect(None, false);
            world.drive(&mut [&mut bob]);
            if bob.erased.contains(&document(0)) && bob.agrees() && bob.lost == 0 {
                break;
            }
            world.now += 600_000;
            world.turn();
        }
        let mut bob = world.connect(None, false);
        world.drive(&mut [&mut bob]);
        assert!(bob.erased.contains(&document(0)), "with its row: {with_row}");
        assert_eq!((bob.agrees(), bob.lost), (true, 0));
    }
}

/// The row of a document's last change has no checksum, and bytes that flash lost read as 0xff.
#[test]
fn damage_erases_nothing() {
    const LATEST: TableDefinition<'_, (u32, u64), &[u8; 44]> = TableDefinition::new("latest-2");
    for from in [8, 16, 28] {
        let (mut world, _) = three();
        world.close();
        let database = world.disk.database().unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut latest = transaction.open_table(LATEST).unwrap();
            let mut row = *latest.get((1, 3)).unwrap().unwrap().value();
            row[from..].fill(0xff);
            latest.insert((1, 3), &row).unwrap();
        }
        transaction.commit().unwrap();
        drop(database);
        world.reopen(RelayOptions::default());
        for _ in 0..3 {
            world.now += 600_000;
            world.turn();
        }
        let mut bob = world.connect(None, false);
        world.drive(&mut [&mut bob]);
        assert_eq!((bob.erased.len(), bob.documents.len()), (0, 3), "from byte {from}");
        assert!(bob.agrees());
    }
}

/// An operator can erase what nobody can read any more.
#[test]
fn a_damaged_document_is_erased_all_the_same() {
    const DOCUMENTS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("documents-2");
    for position in [2, u64::MAX] {
        let (mut world, _) = three();
        world.close();
        let database = world.disk.database().unwrap();
        let transaction = database.begin_write().unwrap();
        let mut documents = transaction.open_table(DOCUMENTS).unwrap();
        documents.insert((1, position), [0xff].as_slice()).unwrap();
        drop(documents);
        transaction.commit().unwrap();
        drop(database);
        world.reopen(RelayOptions::default());
        assert!(matches!(erase(&mut world, 0), Erased::Now(_)), "row {position}");
        let mut bob = world.connect(None, false);
        world.drive(&mut [&mut bob]);
        assert!(bob.erased.contains(&document(0)) && bob.agrees());
        assert_eq!(bob.lost, 0);
    }
}

#[test]
fn a_backup_and_the_ones_that_follow_it_know() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let apart = |snapshot: &[u8]| take_apart_in_process(snapshot).map_err(|it| it.to_string());
    let (mut world, _) = three();
    let moment = world.relay.store().moment().unwrap();
    let file = File::create(path("1")).unwrap();
    let whole = write_whole(&moment, [1; 16], 1000, file, &mut |_| {}).unwrap();
    let busy = world.relay.erase(&space(), &document(0), 0);
    assert!(busy.is_err(), "the backup still reads what is to be erased");
    drop(moment);
    erase(&mut world, 0);
    // One came and went between two backups.
    let mut alice = world.connect(None, true);
    alice.push(1, document(7), Author::new(7).puts(2));
    world.drive(&mut [&mut alice]);
    erase(&mut world, 7);
    let moment = world.relay.store().moment().unwrap();
    write_more(&moment, &whole, [2; 16], 2000, || File::create(path("2"))).unwrap().unwrap();
    drop(moment);
    let more = [path("2")];
    restore(&path("1"), &more, &path("new"), None, &apart, || [7; 16], &mut |_| {}).unwrap();
    let found = verify(&path("1"), &more, folder.path(), &apart, || [7; 16], &mut |_| {}).unwrap();
    assert_eq!(found.findings, Vec::<String>::new());
    let database = redb::Database::open(path("new")).unwrap();
    let relay = Relay::open(database, RelayOptions::default(), || [9; 16]).unwrap();
    let mut restored = World::of(relay);
    let mut bob = restored.connect(None, false);
    restored.drive(&mut [&mut bob]);
    assert_eq!((bob.documents.len(), bob.erased.len()), (2, 2));
    assert!(bob.agrees());
    let digests = |world: &mut World| world.relay.store_mut().digests(&space()).unwrap();
    assert_eq!(digests(&mut world), digests(&mut restored));
}

#[test]
fn a_peer_of_automerge_repo_finds_nothing_of_it_and_brings_nothing_back() {
    let (mut world, _) = three();
    let mut bob = world.connect(None, false);
    let mut anna = RepoPeer::join(&mut world, "anna");
    anna.doc(document(0));
    drive(&mut world, &mut [&mut anna]);
    assert!(!anna.heads(document(0)).is_empty());
    erase(&mut world, 0);
    drive(&mut world, &mut [&mut anna]);
    assert!(anna.close.is_some(), "who followed it is to begin anew");

    // Who has it offers it, who edits it pushes, and who heard of it asks.
    anna.put(document(0), "late", "an edit");
    let mut anna = anna.rejoin(&mut world);
    let mut ben = RepoPeer::join(&mut world, "ben");
    ben.doc(document(0));
    drive(&mut world, &mut [&mut anna, &mut ben]);
    assert_eq!((&*anna.unavailable, &*ben.unavailable), (&[document(0)][..], &[document(0)][..]));
    assert_eq!((&anna.close, &ben.close), (&None, &None));
    assert!(ben.heads(document(0)).is_empty());
    world.drive(&mut [&mut bob]);
    assert!(bob.erased.contains(&document(0)) && bob.agrees());

    // Whoever has it as one document, and not in changes, does no better.
    let whole = anna.doc(document(0)).save();
    let mut cleo = RepoPeer::join(&mut world, "cleo");
    cleo.doc(document(0)).load_incremental(&whole).unwrap();
    drive(&mut world, &mut [&mut cleo, &mut ben]);
    assert_eq!(cleo.unavailable, [document(0)]);
    assert!(ben.heads(document(0)).is_empty());
}
