//! Rows that were damaged on the disk.

use redb::{ReadableTable, TableDefinition};
use rejoin_core::wire::RefusedClass;
use rejoin_relay::RelayOptions;

use crate::harness::{Author, World, document, hashes, jobs};

const DOCUMENTS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("documents-2");

/// The number of the document that came first.
const FIRST: u64 = 1;

#[test]
fn a_damaged_document_stops_no_other() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut authors = [Author::new(1), Author::new(2)];
    for (n, author) in authors.iter_mut().enumerate() {
        alice.push(n as u64, document(n as u8), author.puts(3));
    }
    world.drive(&mut [&mut alice]);
    world.close();
    damage(&world);
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
    assert!(!bob.agrees(), "the digest does not let a reader take it for whole");
}

/// Flips a bit in a graph row of the first document.
fn damage(world: &World) {
    let database = world.disk.database().unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut documents = transaction.open_table(DOCUMENTS).unwrap();
        let key = (FIRST, 1);
        let mut row = documents.get(key).unwrap().unwrap().value().to_vec();
        row[10] ^= 1;
        documents.insert(key, row.as_slice()).unwrap();
        let own = (FIRST, u64::MAX);
        documents.insert(own, [0xff].as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}
