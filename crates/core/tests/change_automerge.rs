//! The guard takes every change Automerge makes, and reads it as Automerge does.

mod change_support;

use automerge::marks::{ExpandMark, Mark};
use automerge::transaction::{CommitOptions, Transactable};
use automerge::{AutoCommit, Automerge, Change as AmChange, ObjId, ObjType, ReadDoc, ScalarValue};
use change_support::*;
use rejoin_core::DocumentId;
use rejoin_core::change::{Admission, check_snapshot, parse};

/// Compares what the guard reads with what Automerge reads, in both forms.
fn assert_read_alike(change: &AmChange) {
    let mut packed = change.clone();
    for bytes in [change.raw_bytes().to_vec(), packed.bytes().to_vec()] {
        let ours = parse(&bytes).unwrap_or_else(|e| panic!("{e}: {:?}", change.decode()));
        assert_eq!(ours.hash().0, change.hash().0);
        assert_eq!(ours.deps().iter().map(|d| am(*d)).collect::<Vec<_>>(), change.deps());
        assert_eq!(ours.actor().0, change.actor_id().to_bytes());
        assert_eq!(ours.seq(), change.seq());
        assert_eq!(ours.start_op(), change.start_op().get());
        assert_eq!(ours.ops(), change.len() as u64);
        assert_eq!(ours.max_op(), change.max_op());
        assert_eq!(ours.time(), change.timestamp());
        assert_eq!(ours.message(), change.message());
        assert_eq!(ours.has_author(), change.author().is_some());
        assert!(!ours.is_genesis() && !ours.is_birth());
    }
}

/// One device's random edits.
struct Writer {
    doc: AutoCommit,
    dice: Dice,
    objects: Vec<(ObjId, ObjType)>,
}

impl Writer {
    fn edit(&mut self) {
        let (object, kind) = self.objects[self.dice.roll(self.objects.len())].clone();
        match kind {
            ObjType::Map | ObjType::Table => self.edit_map(&object),
            ObjType::List => self.edit_list(&object),
            ObjType::Text => self.edit_text(&object),
        }
    }

    fn edit_map(&mut self, object: &ObjId) {
        let key = format!("key {}", self.dice.roll(6));
        match self.dice.roll(8) {
            0 => self.make(object, &key, ObjType::Map),
            1 => self.make(object, &key, ObjType::List),
            2 => self.make(object, &key, ObjType::Text),
            3 => _ = self.doc.delete(object, key),
            4 => _ = self.doc.increment(object, key, self.dice.roll(100) as i64 - 50),
            5 => self.doc.put(object, key, ScalarValue::counter(3)).unwrap(),
            _ => {
                let value = self.scalar();
                self.doc.put(object, key, value).unwrap();
            }
        }
    }

    fn make(&mut self, object: &ObjId, key: &str, kind: ObjType) {
        let made = self.doc.put_object(object, key, kind).unwrap();
        self.objects.push((made, kind));
    }

    fn edit_list(&mut self, list: &ObjId) {
        let len = self.doc.length(list);
        let at = self.dice.roll(len + 1);
        let value = self.scalar();
        match self.dice.roll(4) {
            0 if at < len => _ = self.doc.delete(list, at),
            1 if at < len => _ = self.doc.put(list, at, value),
            2 => {
                let made = self.doc.insert_object(list, at, ObjType::Map).unwrap();
                self.objects.push((made, ObjType::Map));
            }
            _ => self.doc.insert(list, at, value).unwrap(),
        }
    }

    fn edit_text(&mut self, text: &ObjId) {
        let len = self.doc.length(text);
        let at = self.dice.roll(len + 1);
        let deleted = self.dice.roll((len - at).min(5) + 1) as isize;
        let words = ["", "leaky tap", "ümläut 🔧", "a", "boiler, 2nd floor"];
        let word = words[self.dice.roll(words.len())];
        self.doc.splice_text(text, at, deleted, word).unwrap();
        let len = self.doc.length(text);
        if len > 2 && self.dice.roll(3) == 0 {
            let expand = [ExpandMark::Before, ExpandMark::None, ExpandMark::Both];
            let mark = Mark::new("bold".into(), true, self.dice.roll(len - 1), len);
            self.doc.mark(text, mark, expand[self.dice.roll(3)]).unwrap();
        }
        if len > 2 && self.dice.roll(6) == 0 {
            self.doc.unmark(text, "bold", 0, len - 1, ExpandMark::None).unwrap();
        }
    }

    fn scalar(&mut self) -> ScalarValue {
        let number = self.dice.roll(1 << 40) as i64 - (1 << 39);
        match self.dice.roll(10) {
            0 => ScalarValue::Null,
            1 => true.into(),
            2 => false.into(),
            3 => ScalarValue::Uint(number.unsigned_abs()),
            4 => ScalarValue::Int(number),
            5 => ScalarValue::F64(number as f64 / 3.0),
            6 => ScalarValue::Timestamp(number),
            7 => ScalarValue::Bytes(vec![7; self.dice.roll(40)]),
            8 => "x".repeat(self.dice.roll(400)).into(),
            _ => "booked".into(),
        }
    }

    fn commit(&mut self) {
        let mut options = CommitOptions::default().with_time(self.dice.roll(1 << 40) as i64);
        if self.dice.roll(3) == 0 {
            options.set_message("from the phone, in the cellar");
        }
        self.doc.commit_with(options);
    }
}

/// A few devices edit and merge; some work at old heads, some have an author.
fn random_history(seed: u64) -> AutoCommit {
    let mut writers: Vec<_> = (1..=3).map(|name| writer(name, seed)).collect();
    for _ in 0..5 {
        for writer in &mut writers {
            round(writer);
        }
        let (one, rest) = writers.split_first_mut().unwrap();
        let other = one.dice.roll(rest.len());
        one.doc.merge(&mut rest[other].doc).unwrap();
        rest[other].doc.merge(&mut one.doc).unwrap();
    }
    let mut doc = writers.remove(0).doc;
    writers.iter_mut().for_each(|writer| _ = doc.merge(&mut writer.doc).unwrap());
    doc
}

fn writer(name: u8, seed: u64) -> Writer {
    let mut doc = device(name);
    if name == 2 {
        doc.set_author(Some(automerge::Author::from(b"dispatch@acme".to_vec())));
    }
    let dice = Dice(seed * 1000 + u64::from(name));
    Writer { doc, dice, objects: vec![(automerge::ROOT, ObjType::Map)] }
}

fn round(writer: &mut Writer) {
    let heads = writer.doc.get_heads();
    for _ in 0..=writer.dice.roll(3) {
        let edits = [1, 3, 8, 60][writer.dice.roll(4)];
        (0..edits).for_each(|_| writer.edit());
        writer.commit();
    }
    match writer.dice.roll(6) {
        0 => {
            writer.doc.isolate(&heads);
            writer.doc.put(automerge::ROOT, "imported", writer.dice.roll(9) as i64).unwrap();
            writer.commit();
            writer.doc.integrate();
        }
        1 => _ = writer.doc.empty_change(CommitOptions::default()),
        _ => {}
    }
}

#[test]
fn every_change_automerge_makes_is_taken_and_admitted() {
    for seed in 0..20 {
        let mut doc = random_history(seed);
        let mut memory = Memory::of(DocumentId::from_random([1; 16]));
        for change in doc.get_changes(&[]) {
            assert_read_alike(&change);
            let ours = parse(change.raw_bytes()).unwrap();
            assert_eq!(memory.admit(&ours), Ok(Admission::New), "seed {seed}");
            assert_eq!(memory.admit(&ours), Ok(Admission::Known));
        }
        check_snapshot(&doc.save()).unwrap();
        check_snapshot(&doc.save_nocompress()).unwrap();
    }
}

#[test]
fn big_changes_are_taken_deflated_and_raw() {
    let mut doc = device(1);
    let text = doc.put_object(automerge::ROOT, "notes", ObjType::Text).unwrap();
    doc.splice_text(&text, 0, 0, &"the boiler again ".repeat(700)).unwrap();
    doc.commit();
    let list = doc.put_object(automerge::ROOT, "list", ObjType::List).unwrap();
    doc.splice(&list, 0, 0, (0..11_000_i64).map(ScalarValue::from)).unwrap();
    doc.commit();
    for change in doc.get_changes(&[]) {
        assert!(change.len() > 10_000);
        assert_read_alike(&change);
    }
    check_snapshot(&doc.save()).unwrap();
}

#[test]
fn the_empty_document_is_a_snapshot() {
    check_snapshot(&Automerge::new().save()).unwrap();
}
