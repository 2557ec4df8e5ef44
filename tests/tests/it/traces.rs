//! People's typing, replayed through replicas that meet at a relay.

use automerge::Automerge;
use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjType, PatchLog, ROOT, ReadDoc};
use rejoin_engine::EngineOptions;
use rejoin_tests::meeting::Meeting;
use rejoin_tests::replay::{push_document, replay};
use rejoin_tests::traces::{self, Trace};

/// The same edits at the same heads in Automerge alone.
fn bare_automerge(trace: &Trace) -> String {
    let mut doc = Automerge::new().with_actor(automerge::ActorId::from([0; 16]));
    let mut tx = doc.transaction();
    let text = tx.put_object(ROOT, "text", ObjType::Text).unwrap();
    tx.commit();
    let root = doc.get_heads();
    let mut versions = Vec::new();
    for transaction in &trace.transactions {
        let parents: Vec<_> = transaction.parents.iter().map(|parent| versions[*parent]).collect();
        let heads = if parents.is_empty() { root.clone() } else { parents };
        doc.set_actor(automerge::ActorId::from([transaction.agent as u8 + 1; 16]));
        let mut tx = doc.transaction_at(PatchLog::inactive(), &heads).unwrap();
        for (at, delete, insert) in &transaction.patches {
            tx.splice_text(&text, *at, *delete as isize, insert).unwrap();
        }
        versions.push(tx.commit().0.unwrap());
    }
    doc.text(&text).unwrap()
}

fn people_typing_apart_end_with_the_same_text(trace: &Trace) {
    let replayed = replay(trace);
    assert!(replayed.at_old_heads > 0, "some edits were made by people who had not seen all");
    for text in &replayed.texts {
        assert_eq!(*text, replayed.texts[0]);
    }
    assert_eq!(replayed.texts[0], bare_automerge(trace));
}

fn recorded_people_end_with_the_same_text(name: &str) {
    if let Some(trace) = traces::trace(name, 3_000) {
        people_typing_apart_end_with_the_same_text(&trace);
    }
}

#[test]
fn made_up_people_typing_apart_end_with_the_same_text() {
    for (people, seed) in [(2, 1), (3, 2), (5, 3)] {
        let trace = traces::made(people, 600, seed);
        people_typing_apart_end_with_the_same_text(&trace);
        assert_eq!(bare_automerge(&trace), trace.end_content, "the trace is what was typed");
    }
}

#[test]
fn two_friends_typing_apart_end_with_the_same_text() {
    recorded_people_end_with_the_same_text("friendsforever");
}

#[test]
fn three_clowns_typing_apart_end_with_the_same_text() {
    recorded_people_end_with_the_same_text("clownschool");
}

#[test]
fn a_recorded_document_comes_in_about_the_bytes_of_its_save() {
    if let Some(saved) = traces::read("automerge-paper.am") {
        comes_in_about_the_bytes_of_its_save(&Automerge::load(&saved).unwrap());
    }
}

#[test]
fn a_made_up_document_comes_in_about_the_bytes_of_its_save() {
    let mut author = AutoCommit::new();
    let text = author.put_object(ROOT, "text", ObjType::Text).unwrap();
    for transaction in traces::made(1, 2_000, 4).transactions {
        for (at, delete, insert) in transaction.patches {
            author.splice_text(&text, at, delete as isize, &insert).unwrap();
        }
        author.commit();
    }
    comes_in_about_the_bytes_of_its_save(author.document());
}

fn comes_in_about_the_bytes_of_its_save(document: &Automerge) {
    let save = document.save().len() as u64;
    let mut meeting = Meeting::new(9);
    let id = push_document(&mut meeting, document);
    // A document that somebody may still be writing is folded later.
    meeting.wait(5_000);
    meeting.compact();
    let late = meeting.join(EngineOptions::default());
    meeting.connect(late);
    let (exchanged, round_trips) = meeting.settle(late);
    let view = meeting.replicas[late].store().read().unwrap();
    let row = view.document(&id).unwrap().unwrap();
    let heads: Vec<_> = row.heads.iter().map(|head| automerge::ChangeHash(head.0)).collect();
    assert_eq!(heads, document.get_heads());
    let bytes = exchanged.bytes.0 + exchanged.bytes.1;
    println!("{bytes} bytes in {round_trips} round trips; Automerge saves {save}");
    assert!(bytes * 10 <= save * 11, "{bytes} bytes for a document of {save}");
}
