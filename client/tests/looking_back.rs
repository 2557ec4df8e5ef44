//! Who wrote what over what: history and blame of one replica that plays several people, by editing
//! at heads it saw earlier.

use rejoin::blocking::{Document, Replica, Space};
use rejoin::history::{BlamedWrite, HistoryEntry, Kind, Wrote};
use rejoin::review::ReviewState;
use rejoin::{ChangeHash, Decision, Identity, Op, Path};
use serde_json::{Value, json};

struct Desk {
    replica: Replica,
    space: Space,
    job: Document,
    _folder: tempfile::TempDir,
}

impl Desk {
    fn with(job: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let replica = Replica::open(folder.path().join("a.redb")).unwrap();
        replica.act_as(Some(ann())).unwrap();
        let space = replica.space("main").unwrap();
        let job = space.collection("jobs").unwrap().create("118", job).unwrap();
        Self { replica, space, job, _folder: folder }
    }

    fn heads(&self) -> Vec<ChangeHash> {
        self.job.read().unwrap().unwrap().heads
    }

    /// Sets a field as somebody who saw the job at `base`.
    fn set(&self, who: Identity, base: &[ChangeHash], path: &str, value: Value) -> ChangeHash {
        self.replica.act_as(Some(who)).unwrap();
        let set = Op::Set { path: path.into(), before: None, after: value };
        *self.job.apply_at(Some(base.to_vec()), vec![set]).unwrap().changes.last().unwrap()
    }

    fn entry(&self, change: ChangeHash) -> HistoryEntry {
        let history = self.job.history(usize::MAX).unwrap();
        history.into_iter().find(|entry| entry.hash == change).unwrap()
    }

    fn writes(&self, field: &str) -> Vec<BlamedWrite> {
        let blames = self.job.blame().unwrap();
        let is_it = |path: &Option<Path>| *path == Some(Path::from(field));
        blames.into_iter().find(|blame| is_it(&blame.path)).expect(field).writes
    }
}

fn ann() -> Identity {
    Identity::user("Ann").with_role("dispatch").with_device("desk")
}

fn bo() -> Identity {
    Identity::user("Bo").with_device("van")
}

#[test]
fn history_names_people_merges_and_what_was_settled() {
    let desk = Desk::with(&json!({ "phone": "1" }));
    let base = desk.heads();
    let one = desk.set(ann(), &base, "phone", json!("2"));
    let other = desk.set(bo(), &base, "phone", json!("3"));
    assert_eq!(desk.entry(one).author, Some(ann()));
    assert_eq!(desk.entry(other).author, Some(bo()));
    assert!(!desk.entry(other).merges);

    let reviews = desk.space.reviews();
    let review = reviews.open().unwrap().remove(0);
    let settled = reviews.settle(&review.id, Decision::Take(one), Some("called")).unwrap();
    let entry = desk.entry(settled.changes[0]);
    assert!(entry.merges && entry.kind == Kind::Edit);
    let settlement = entry.settles.unwrap();
    assert_eq!((settlement.review, settlement.why.as_deref()), (review.id, Some("called")));
    let Wrote::Value { mut before, after } = entry.writes[0].wrote.clone() else {
        panic!("a value")
    };
    before.sort_by_key(|value| value.as_ref().map(ToString::to_string));
    assert_eq!(before, [Some(json!("2")), Some(json!("3"))]);
    assert_eq!(after, Some(json!("2")));
}

#[test]
fn history_tells_where_texts_counters_and_nested_fields_were_written() {
    let desk = Desk::with(&json!({ "visit": { "floor": 3 } }));
    let notes = desk.job.append("visit.notes", "Ring. ").unwrap().changes.clone();
    let kinds: Vec<_> = notes.iter().map(|change| desk.entry(*change).kind).collect();
    assert_eq!(kinds, [Kind::Birth, Kind::Edit]);
    let edit = desk.entry(notes[1]);
    assert!(!edit.merges, "a birth is nobody's edit");
    assert_eq!(edit.writes[0].place.to_string(), "visit.notes");
    assert_eq!(edit.writes[0].wrote, Wrote::Text);
    assert_eq!(edit.fields.into_iter().collect::<Vec<_>>(), ["visit"]);
    let counted = *desk.job.add("parts", 2).unwrap().changes.last().unwrap();
    let counted = desk.entry(counted).writes.remove(0);
    assert_eq!((counted.place.to_string(), counted.wrote), ("parts".to_owned(), Wrote::Count));
    let floor = *desk.job.set("visit.floor", 4).unwrap().changes.last().unwrap();
    let written = desk.entry(floor).writes.remove(0);
    assert_eq!(written.place.to_string(), "visit.floor");
    assert_eq!(written.wrote, Wrote::Value { before: vec![Some(json!(3))], after: Some(json!(4)) });
}

#[test]
fn blame_tells_which_write_stands() {
    let desk = Desk::with(&json!({ "phone": "1" }));
    let base = desk.heads();
    desk.set(ann(), &base, "phone", json!("2"));
    desk.set(bo(), &base, "phone", json!("3"));
    let stand = |writes: &[BlamedWrite]| -> Vec<Option<Value>> {
        writes.iter().filter(|it| it.stands).map(|it| it.write.value.clone()).collect()
    };
    assert_eq!(stand(&desk.writes("phone")), [Some(json!("1"))], "the last agreed one");
    let reviews = desk.space.reviews();
    let review = reviews.open().unwrap().remove(0);
    let settled = reviews.settle(&review.id, Decision::Value(Some(json!("4"))), None).unwrap();
    let writes = desk.writes("phone");
    assert_eq!(stand(&writes), [Some(json!("4"))]);
    let last = writes.last().unwrap();
    assert_eq!((last.write.change, last.write.settles), (settled.changes[0], Some(review.id)));
    assert_eq!(last.superseded.len(), 2);
}

#[test]
fn blame_numbers_the_list_items_that_show() {
    let desk =
        Desk::with(&json!({ "parts": [{ "name": "a" }, { "name": "b" }], "tags": ["x", "y"] }));
    desk.job.remove("parts[0]").unwrap();
    desk.job.set("tags[1]", "z").unwrap();
    desk.job.set("parts[0].name", "c").unwrap();
    assert_eq!(desk.writes("parts[0].name").len(), 2);
    let tag = desk.writes("tags[1]");
    assert_eq!(tag.last().unwrap().write.value, Some(json!("z")));
    let blames = desk.job.blame().unwrap();
    let gone: Vec<_> = blames.iter().filter(|blame| blame.path.is_none()).collect();
    assert!(gone.iter().all(|blame| blame.place.to_string().starts_with("parts[#")), "{gone:?}");
    assert_eq!(gone.len(), 2, "its name, and that it was removed");
}

#[test]
fn history_numbers_the_texts_in_lists_that_show() {
    let note = |text: &str| json!({ "text": { "$text": text } });
    let desk = Desk::with(&json!({ "notes": [note("a"), note("b"), note("c")] }));
    desk.job.remove("notes[0]").unwrap();
    let appended =
        desk.job.apply(vec![Op::Append { path: "notes[0].text".into(), text: "!".into() }]);
    let appended = *appended.unwrap().changes.last().unwrap();
    let written = desk.entry(appended).writes.remove(0);
    assert_eq!((written.path, written.wrote), (Some("notes[0].text".into()), Wrote::Text));
    let history = desk.job.history(usize::MAX).unwrap();
    let writes = history.iter().flat_map(|entry| &entry.writes);
    let gone = writes.filter(|written| written.path.is_none() && written.wrote == Wrote::Text);
    assert_eq!(gone.count(), 1, "that of the removed item");
}

#[test]
fn a_dismissed_review_tells_who_did_it() {
    let desk = Desk::with(&json!({ "phone": "1" }));
    let base = desk.heads();
    desk.set(ann(), &base, "phone", json!("2"));
    desk.set(bo(), &base, "phone", json!("3"));
    let reviews = desk.space.reviews();
    let review = reviews.open().unwrap().remove(0);
    reviews.settle(&review.id, Decision::Dismiss, Some("neither")).unwrap();
    let ReviewState::Dismissed { by: Some(by), why } =
        reviews.get(&review.id).unwrap().unwrap().state
    else {
        panic!("it is not dismissed")
    };
    assert_eq!((by.author, why.as_deref()), (Some(bo()), Some("neither")));
}

#[test]
fn looking_at_every_document_does_not_fill_the_memory() {
    let desk = Desk::with(&json!({ "phone": "1" }));
    let jobs = desk.space.collection("jobs").unwrap();
    for number in 0..300 {
        jobs.create(&format!("job-{number}"), &json!({ "phone": "1" })).unwrap();
    }
    let listed = desk.space.documents().unwrap();
    assert_eq!(listed.len(), 301);
    for one in listed {
        let job = jobs.document_by_id(one.document);
        assert_eq!(job.history(usize::MAX).unwrap().len(), 2);
        assert!(job.view().unwrap().is_agreed());
    }
    let held = futures_executor::block_on(desk.replica.as_async().documents_in_memory()).unwrap();
    assert!(held <= 256, "{held}");
}

#[test]
fn the_last_changes_are_the_end_of_all() {
    let desk = Desk::with(&json!({ "phone": "1" }));
    let base = desk.heads();
    for (who, value) in [(ann(), "2"), (bo(), "3"), (ann(), "4"), (Identity::user("Cy"), "5")] {
        desk.set(who, &base, "phone", json!(value));
    }
    desk.job.append("notes", "Ring. ").unwrap();
    desk.set(bo(), &base, "town", json!("Ulm"));
    let all = desk.job.history(usize::MAX).unwrap();
    assert_eq!(all.len(), 9, "genesis, birth of the notes and seven edits");
    for last in 0..=all.len() + 1 {
        let skipped = all.len().saturating_sub(last);
        assert_eq!(desk.job.history(last).unwrap(), all[skipped..], "the last {last}");
    }
}
