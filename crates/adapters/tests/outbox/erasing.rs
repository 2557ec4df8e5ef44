//! Rows of documents that an operator erased.

use std::collections::BTreeSet;

use rejoin::DocumentId;
use rejoin_adapters::delivery::Action;
use rejoin_adapters::mapping::OnPoison;
use rejoin_adapters::outbox::Projected;

use super::{MINUTE, NEVER, finish, one, outbox, projected, take};

const ID: DocumentId = DocumentId([1; 16]);

#[test]
fn a_row_that_was_only_marked_is_deleted_when_its_document_is_erased() {
    let mut outbox = outbox(|_| {});
    outbox
        .enqueue(0, &[projected(1, 1, &[("a", "Ulm")]), projected(2, 1, &[("b", "Bonn")])])
        .unwrap();
    for delivery in take(&mut outbox, 0) {
        finish(&mut outbox, 0, delivery, None);
    }
    outbox.enqueue(0, &[projected(1, 2, &[])]).unwrap();
    let marked = one(&mut outbox, 0);
    assert_eq!(marked.action, Action::Mark { deleted_ms: 0 });
    finish(&mut outbox, 0, marked, None);

    let erased = BTreeSet::from([ID, DocumentId([9; 16])]);
    assert_eq!(outbox.erase(1, &erased).unwrap().deliveries, 1);
    assert!(!outbox.end_erasing(1).unwrap(), "the row is still at the target");
    let deleted = one(&mut outbox, 1);
    assert_eq!((&deleted.document, &deleted.action), (&ID, &Action::Delete));
    finish(&mut outbox, 1, deleted, None);
    assert!(outbox.is_erasing().unwrap() && outbox.end_erasing(1).unwrap());

    // Whoever looks at everything again asks again, and nothing is done again.
    assert_eq!(outbox.erase(2, &erased).unwrap().deliveries, 0);
    assert!(!outbox.is_erasing().unwrap());
    assert_eq!(outbox.documents().unwrap(), BTreeSet::from([DocumentId([2; 16])]));
}

#[test]
fn the_rows_of_reviews_about_an_erased_document_are_deleted_also_after_they_are_over() {
    for is_over in [false, true] {
        let mut outbox = outbox(|_| {});
        let about = |review: u8, documents: &[u8]| Projected {
            about: documents.iter().map(|document| DocumentId([*document; 16])).collect(),
            by_heads: false,
            ..projected(review, 1, &[(if review == 7 { "its" } else { "other" }, "who is there?")])
        };
        outbox.enqueue(0, &[about(7, &[3, 1]), about(8, &[2, 3])]).unwrap();
        for delivery in take(&mut outbox, 0) {
            finish(&mut outbox, 0, delivery, None);
        }
        if is_over {
            outbox.enqueue(0, &[projected(7, 2, &[])]).unwrap();
            let marked = one(&mut outbox, 0);
            finish(&mut outbox, 0, marked, None);
        }
        assert_eq!(outbox.erase(1, &BTreeSet::from([ID])).unwrap().deliveries, 1);
        let deleted = one(&mut outbox, 1);
        assert_eq!((&*deleted.record.key, &deleted.action), ("its", &Action::Delete));
        finish(&mut outbox, 1, deleted, None);
        assert!(outbox.end_erasing(1).unwrap());
        // The question may come again, about others.
        assert_eq!(outbox.enqueue(2, &[about(7, &[3, 4])]).unwrap().deliveries, 1);
    }
}

#[test]
fn a_deletion_does_not_wait_for_a_dead_letter_that_is_gone() {
    let mut outbox = outbox(|policy| policy.on_poison = OnPoison::Hold);
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let first = one(&mut outbox, 0);
    finish(&mut outbox, 0, first, None);
    outbox.enqueue(0, &[projected(1, 2, &[("a", "unheard-of")])]).unwrap();
    let refused = one(&mut outbox, 0);
    finish(&mut outbox, 0, refused, NEVER);
    assert_eq!(outbox.dead_letters().unwrap().len(), 1);
    assert!(take(&mut outbox, MINUTE).is_empty(), "it is held");

    outbox.erase(MINUTE, &BTreeSet::from([ID])).unwrap();
    assert!(outbox.dead_letters().unwrap().is_empty());
    let deleted = one(&mut outbox, MINUTE);
    assert_eq!(deleted.action, Action::Delete);
    finish(&mut outbox, MINUTE, deleted, None);
    assert!(outbox.end_erasing(MINUTE).unwrap());
}

#[test]
fn a_row_is_its_documents_until_the_target_has_deleted_it() {
    let mut outbox = outbox(|_| {});
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let first = one(&mut outbox, 0);
    finish(&mut outbox, 0, first, None);
    outbox.erase(1, &BTreeSet::from([ID])).unwrap();
    let refused = one(&mut outbox, 1);
    finish(&mut outbox, 1, refused, NEVER);
    assert!(!outbox.end_erasing(1).unwrap(), "the row is still there");
    // Its key is another document's by now, whose row would be deleted with it later.
    let queued = outbox.enqueue(2, &[projected(2, 1, &[("a", "Bonn")])]).unwrap();
    assert_eq!((queued.deliveries, queued.misfits), (0, 1));
    let letters = outbox.dead_letters().unwrap();
    let (number, _) = letters.iter().find(|(_, it)| it.document == ID).unwrap();
    outbox.replay(3, *number).unwrap();
    let deleted = one(&mut outbox, 3);
    assert_eq!((&deleted.document, &deleted.action), (&ID, &Action::Delete));
    finish(&mut outbox, 3, deleted, None);
    assert!(outbox.end_erasing(3).unwrap());
    assert_eq!(outbox.enqueue(4, &[projected(2, 2, &[("a", "Bonn")])]).unwrap().deliveries, 1);
}
