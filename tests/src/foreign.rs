//! Documents that others made: no genesis of ours, many authors, long histories.

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ObjType, ROOT, ReadDoc};

use crate::traces;

/// What Automerge saved of a paper that was written in it, if that is here: 260,000 changes.
pub fn recorded_document() -> Option<Vec<u8>> {
    traces::read("automerge-paper.am")
}

/// What Automerge saves of a text by three authors who do not always see each other: about 3,000
/// changes.
pub fn made_up_document() -> Vec<u8> {
    let mut first = author(1);
    let text = first.put_object(ROOT, "text", ObjType::Text).expect("a new field");
    first.put(ROOT, "title", "made up").expect("a new field");
    first.commit();
    let mut authors = [first.clone(), first.fork(), first.fork()];
    for (number, author) in (1..).zip(&mut authors) {
        author.set_actor(ActorId::from([number; 16]));
    }
    for round in 0..100 {
        for (number, author) in authors.iter_mut().enumerate() {
            for word in 0..10 {
                let at = (round * 31 + word * 17 + number * 7) % (author.length(&text) + 1);
                let word = format!("{number}.{round}.{word} ");
                author.splice_text(&text, at, 0, &word).expect("a place in the text");
                author.commit();
            }
        }
        // Everybody sees what one neighbour has; after three rounds it has gone round.
        let mut neighbour = authors[round % 3].clone();
        authors[(round + 1) % 3].merge(&mut neighbour).expect("the same document");
    }
    let [mut whole, mut second, mut third] = authors;
    whole.merge(&mut second).expect("the same document");
    whole.merge(&mut third).expect("the same document");
    whole.save()
}

fn author(number: u8) -> AutoCommit {
    AutoCommit::new().with_actor(ActorId::from([number; 16]))
}

/// The heads, in hexadecimal digits and sorted, and the field `text` of what Automerge saved.
///
/// # Panics
/// When it is no such thing.
pub fn automerge_of(saved: &[u8]) -> (Vec<String>, String) {
    let mut document = AutoCommit::load(saved).expect("Automerge saved it");
    let mut heads: Vec<_> = document.get_heads().iter().map(ToString::to_string).collect();
    heads.sort();
    let (_, text) = document.get(ROOT, "text").expect("a map").expect("there is a text");
    (heads, document.text(text).expect("it is a text"))
}
