//! Walks over a space in pages.

use rejoin_core::DocumentId;
use rejoin_relay::store::{ChangeStore, LogChunk, LogPage};

use crate::places::{framed, framed_in, space, stage, store};

/// Three documents in two collections, written to in turns: changes 1 to 9 with so many bytes.
fn three_documents() -> ChangeStore {
    let mut store = store();
    for round in 1..=3 {
        for document in 1..=3_u8 {
            let collection = if document == 3 { "rejoin.schemas" } else { "jobs" };
            let len = 100 * usize::from(document);
            stage(&mut store, ("acme", collection, document), round, framed_in(len, round));
        }
        // Another space has positions of its own.
        stage(&mut store, ("other", "jobs", 1), round, framed(&[round]));
        store.commit(0).unwrap();
    }
    store
}

fn positions(page: &LogPage) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.position).collect()
}

#[test]
fn the_log_is_walked_in_order_from_anywhere() {
    let mut store = three_documents();
    let acme = space("acme");
    let page = store.log_page(&acme, 0, u64::MAX, usize::MAX, usize::MAX).unwrap();
    assert_eq!((positions(&page), page.through), ((1..=9).collect(), 9));
    let third = &page.entries[2];
    assert_eq!(
        (third.document, third.collection.as_str()),
        (DocumentId([3; 16]), "rejoin.schemas")
    );
    assert_eq!(third.chunk, LogChunk::Inline(framed_in(300, 1)));
    let page = store.log_page(&acme, 4, 7, usize::MAX, usize::MAX).unwrap();
    assert_eq!((positions(&page), page.through), (vec![5, 6, 7], 7));
    let page = store.log_page(&acme, 4, u64::MAX, usize::MAX, 2).unwrap();
    assert_eq!((positions(&page), page.through), (vec![5, 6], 6));
    let page = store.log_page(&acme, 9, u64::MAX, usize::MAX, 2).unwrap();
    assert_eq!((positions(&page), page.through), (vec![], 9));
    let page = store.log_page(&space("nobody"), 0, u64::MAX, 1, 1).unwrap();
    assert_eq!((positions(&page), page.through), (vec![], 0));
}

#[test]
fn a_page_has_no_more_bytes_than_it_may_but_for_one_change() {
    let mut store = three_documents();
    let acme = space("acme");
    let page = store.log_page(&acme, 0, u64::MAX, 300, 100).unwrap();
    assert_eq!((positions(&page), page.through), (vec![1, 2], 2));
    let page = store.log_page(&acme, 2, u64::MAX, 299, 100).unwrap();
    assert_eq!((positions(&page), page.through), (vec![3], 3));
    let mut walked = Vec::new();
    let mut after = 0;
    while after < 9 {
        let page = store.log_page(&acme, after, 9, 1, 100).unwrap();
        assert_eq!(page.entries.len(), 1);
        walked.extend(positions(&page));
        after = page.through;
    }
    assert_eq!(walked, (1..=9).collect::<Vec<_>>());
}

#[test]
fn long_changes_are_named_in_pages_and_read_in_pieces() {
    let mut store = store();
    let long = framed(&(0..50_000_u32).map(|n| n as u8).collect::<Vec<_>>());
    stage(&mut store, ("acme", "jobs", 1), 1, framed_in(2000, 9));
    stage(&mut store, ("acme", "jobs", 1), 2, long.clone());
    stage(&mut store, ("acme", "jobs", 1), 3, framed(&[7]));
    store.commit(0).unwrap();
    let page = store.log_page(&space("acme"), 0, 3, 2011, 100).unwrap();
    let chunks: Vec<_> = page.entries.iter().map(|entry| entry.chunk.clone()).collect();
    let (first, last) = (LogChunk::Inline(framed_in(2000, 9)), LogChunk::Inline(framed(&[7])));
    assert_eq!(chunks, [first, LogChunk::Long { len: long.len() as u64 }, last]);
    let number = page.entries[0].number;
    let mut read = Vec::new();
    while read.len() < long.len() {
        let piece = store.chunk_piece(number, 2, read.len() as u64, 16_000).unwrap().unwrap();
        assert!((1..=16_000).contains(&piece.len()));
        read.extend(piece);
    }
    assert_eq!(read, long);
    assert_eq!(store.chunk_piece(number, 2, 60_000, 10).unwrap(), Some(Vec::new()));
    assert_eq!(store.chunk_piece(number, 3, 5, 100).unwrap(), Some(framed(&[7])[5..].to_vec()));
    assert_eq!(store.chunk_piece(number, 4, 0, 100).unwrap(), None);
}

#[test]
fn a_document_s_neighbouring_changes_are_found() {
    let mut store = three_documents();
    let page = store.log_page(&space("acme"), 0, 9, 1, 1).unwrap();
    let number = page.entries[0].number;
    assert_eq!(store.last_before(number, 8).unwrap(), Some(7));
    assert_eq!(store.last_before(number, 7).unwrap(), Some(4));
    assert_eq!(store.last_before(number, 1).unwrap(), None);
    assert_eq!(store.last_before(number, u64::MAX).unwrap(), Some(7));
    assert_eq!(store.first_after(number, 0).unwrap(), Some(1));
    assert_eq!(store.first_after(number, 4).unwrap(), Some(7));
    assert_eq!(store.first_after(number, 7).unwrap(), None);
    assert_eq!(store.first_after(99, 0).unwrap(), None);
}

#[test]
fn documents_are_walked_from_the_one_that_changed_last() {
    let mut store = three_documents();
    let acme = space("acme");
    stage(&mut store, ("acme", "jobs", 1), 4, framed(&[4]));
    store.commit(0).unwrap();
    let mut walk = |from: u64, floor: u64, count: usize| {
        let page = store.latest_page(&acme, from, floor, count).unwrap();
        page.iter().map(|it| (it.position, it.document.0[0])).collect::<Vec<_>>()
    };
    assert_eq!(walk(u64::MAX, 0, 100), [(10, 1), (9, 3), (8, 2)]);
    assert_eq!(walk(u64::MAX, 0, 1), [(10, 1)]);
    assert_eq!(walk(9, 8, 100), [(9, 3)]);
    assert_eq!(walk(8, 8, 100), []);
    assert_eq!(walk(7, 0, 100), []);
    let page = store.latest_page(&acme, 10, 9, 1).unwrap();
    assert_eq!((page[0].first, page[0].collection.as_str()), (1, "jobs"));
}

#[test]
fn how_much_there_is_costs_no_walk() {
    let mut store = three_documents();
    let acme = space("acme");
    assert_eq!(store.documents_of(&acme).unwrap(), 3);
    assert_eq!(store.documents_of(&space("nobody")).unwrap(), 0);
    let contents = store.contents(&acme).unwrap();
    let counts: Vec<_> = contents.iter().map(|it| (it.collection.as_str(), it.documents)).collect();
    assert_eq!(counts, [("jobs", 2), ("rejoin.schemas", 1)]);
}

#[test]
fn documents_that_come_first_are_listed() {
    let mut store = three_documents();
    let acme = space("acme");
    let first = store.first_documents(&acme).unwrap();
    assert_eq!(first.iter().map(|(_, id)| id.0[0]).collect::<Vec<_>>(), [3]);
    stage(&mut store, ("acme", "rejoin.schemas", 9), 1, framed(&[1]));
    stage(&mut store, ("acme", "jobs", 8), 1, framed(&[1]));
    store.commit(0).unwrap();
    let first = store.first_documents(&acme).unwrap();
    assert_eq!(first.iter().map(|(_, id)| id.0[0]).collect::<Vec<_>>(), [3, 9]);
    assert!(store.first_documents(&space("other")).unwrap().is_empty());
}
