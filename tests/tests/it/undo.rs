//! Taking back one's own edits: what others did stays, and it is said what cannot be taken back.

use rejoin::review::ReviewState;
use rejoin::schema::{Field, Rule, Schema};
use rejoin::undo::{KeptWhy, Way};
use rejoin::{
    Counter, Decision, Document, EditError, Identity, Link, Op, Replica, Review, Space, Text,
    UndoError,
};
use rejoin_tests::live::LiveRelay;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A desk and a van that act as somebody, and their relay.
struct Meeting {
    folder: TempDir,
    relay: LiveRelay,
    desk: Replica,
    van: Replica,
}

impl Meeting {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let relay = LiveRelay::start(folder.path().join("relay")).await;
        let desk = Replica::open(folder.path().join("desk")).await.unwrap();
        let van = Replica::open(folder.path().join("van")).await.unwrap();
        desk.act_as(Some(Identity::user("Dora").with_role("dispatch"))).await.unwrap();
        van.act_as(Some(Identity::user("Timo").with_role("technician"))).await.unwrap();
        Self { folder, relay, desk, van }
    }

    /// Lets both meet at the relay, and parts them again once they hold the same.
    async fn meet(&self) {
        for replica in [&self.desk, &self.van] {
            replica.connect(&self.relay.url(), &[&main(replica)]).await.unwrap();
        }
        let both = [&self.desk, &self.van];
        let is_safe =
            || both.iter().all(|it| it.status().link == Link::Safe && it.status().waiting == 0);
        let digest = |replica| main(replica).digest().unwrap();
        while digest(&self.desk) != digest(&self.van) || !is_safe() {
            tokio::task::yield_now().await;
        }
        for replica in both {
            replica.disconnect().await;
            replica.status_when(|status| status.link == Link::Offline).await.unwrap();
        }
    }

    async fn both(&self) -> Value {
        let (desk, van) = (value(&self.desk).await, value(&self.van).await);
        assert_eq!(desk, van, "one value");
        desk
    }
}

fn main(replica: &Replica) -> Space {
    replica.space("main").unwrap()
}

fn job(replica: &Replica) -> Document {
    main(replica).collection("jobs").unwrap().document("1").unwrap()
}

async fn value(replica: &Replica) -> Value {
    job(replica).get().await.unwrap().unwrap_or_default()
}

async fn put(replica: &Replica, fields: Value) {
    let Value::Object(fields) = fields else { panic!("fields") };
    main(replica).collection("jobs").unwrap().put("1", fields).await.unwrap();
}

async fn open(replica: &Replica) -> Vec<Review> {
    main(replica).reviews().open().await.unwrap()
}

async fn why_kept(replica: &Replica) -> Vec<KeptWhy> {
    match replica.undo().await {
        Err(UndoError::Kept(kept)) => kept.into_iter().map(|kept| kept.why).collect(),
        other => panic!("something was taken back: {other:?}"),
    }
}

#[tokio::test]
async fn fields_texts_counters_and_lists_go_back_beside_the_work_of_others() {
    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Job {
        status: String,
        phone: String,
        notes: Text,
        used: Counter,
        parts: Vec<Value>,
    }
    let meeting = Meeting::new().await;
    let first = Job { status: "booked".into(), notes: "Ring. ".into(), ..Job::default() };
    let jobs = main(&meeting.desk).collection("jobs").unwrap();
    jobs.create("1", &first).await.unwrap();
    meeting.meet().await;
    let edited = job(&meeting.desk)
        .edit(|job: &mut Job| {
            job.status = "done".into();
            job.notes.push_str("Gate 4711. ");
            job.used = Counter::from(3);
            job.parts.push(json!({ "name": "valve" }));
            job.parts.push(json!("tape"));
            job.parts.len()
        })
        .await
        .unwrap();
    assert_eq!(edited.returned, 2);
    job(&meeting.van)
        .edit(|job: &mut Job| {
            job.phone = "555-0100".into();
            job.notes.push_str("Dog! ");
            job.used = Counter::from(10);
            job.parts.push(json!("pipe"));
        })
        .await
        .unwrap();
    meeting.meet().await;

    let undone = meeting.desk.undo().await.unwrap();
    assert_eq!(undone.kept, []);
    let fields: Vec<_> = undone.documents[0].fields.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(fields, ["notes", "parts", "status", "used"]);
    let without = json!({
        "status": "booked", "phone": "555-0100", "notes": "Ring. Dog! ", "used": 10, "parts": ["pipe"],
    });
    assert_eq!(value(&meeting.desk).await, without);
    meeting.meet().await;
    assert_eq!(meeting.both().await, without);

    meeting.desk.redo().await.unwrap();
    meeting.meet().await;
    let again = meeting.both().await;
    assert_eq!(again["status"], "done");
    assert_eq!(again["used"], 13);
    assert_eq!(again["phone"], "555-0100");
    let notes = again["notes"].as_str().unwrap();
    assert!(notes.contains("Gate 4711. ") && notes.contains("Dog! "), "{notes}");
    let parts = again["parts"].as_array().unwrap();
    for part in [json!("tape"), json!("pipe"), json!({ "name": "valve" })] {
        assert_eq!(parts.iter().filter(|it| **it == part).count(), 1, "{parts:?}");
    }
    assert!(open(&meeting.desk).await.is_empty());
}

#[tokio::test]
async fn what_somebody_has_written_since_stays_and_is_named() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "status": "booked", "phone": "1" })).await;
    meeting.meet().await;
    put(&meeting.desk, json!({ "status": "en_route", "phone": "2" })).await;
    meeting.meet().await;
    put(&meeting.van, json!({ "status": "on_site" })).await;
    meeting.meet().await;

    let undone = meeting.desk.undo().await.unwrap();
    let [kept] = undone.kept.as_slice() else { panic!("one field stays: {:?}", undone.kept) };
    assert_eq!(kept.field.as_deref(), Some("status"));
    assert_eq!(kept.why.to_string(), "Timo has written there since");
    meeting.meet().await;
    assert_eq!(meeting.both().await, json!({ "status": "on_site", "phone": "1" }));
    assert!(open(&meeting.desk).await.is_empty(), "nobody is asked");
}

#[tokio::test]
async fn of_values_written_at_once_only_the_own_one_goes() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "phone": "1" })).await;
    meeting.meet().await;
    put(&meeting.desk, json!({ "phone": "2" })).await;
    put(&meeting.van, json!({ "phone": "3" })).await;
    meeting.meet().await;
    let [review] = open(&meeting.desk).await.try_into().unwrap();
    assert_eq!(meeting.both().await, json!({ "phone": "1" }));

    meeting.desk.undo().await.unwrap();
    meeting.meet().await;
    assert_eq!(meeting.both().await, json!({ "phone": "3" }));
    assert!(open(&meeting.van).await.is_empty(), "one value is left");

    // Made again, it is a candidate again, of the same review.
    meeting.desk.redo().await.unwrap();
    meeting.meet().await;
    let [again] = open(&meeting.van).await.try_into().unwrap();
    assert_eq!(again.id, review.id);
}

#[tokio::test]
async fn a_decision_is_taken_back_by_opening_its_review_again() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "phone": "1" })).await;
    meeting.meet().await;
    put(&meeting.desk, json!({ "phone": "2" })).await;
    put(&meeting.van, json!({ "phone": "3" })).await;
    meeting.meet().await;
    let [review] = open(&meeting.desk).await.try_into().unwrap();
    let reviews = main(&meeting.desk).reviews();
    let take = Decision::Take(review.candidates[0].change);
    reviews.settle(&review.id, take, Some("I called them")).await.unwrap();
    meeting.meet().await;
    assert!(open(&meeting.van).await.is_empty());
    let settled = meeting.both().await;

    meeting.desk.undo().await.unwrap();
    meeting.meet().await;
    let [again] = open(&meeting.van).await.try_into().unwrap();
    assert_eq!((again.id, &again.candidates), (review.id, &review.candidates));
    assert_eq!(meeting.both().await, json!({ "phone": "1" }));

    meeting.desk.redo().await.unwrap();
    meeting.meet().await;
    assert!(open(&meeting.van).await.is_empty());
    assert_eq!(meeting.both().await, settled);
    let settled = main(&meeting.van).reviews().get(&review.id).await.unwrap().unwrap();
    let ReviewState::Settled { why, .. } = settled.state else { panic!("{:?}", settled.state) };
    assert_eq!(why.as_deref(), Some("I called them"));

    // Somebody else settles what was opened again.
    meeting.desk.undo().await.unwrap();
    meeting.meet().await;
    let reviews = main(&meeting.van).reviews();
    reviews.settle(&review.id, Decision::Value(Some(json!("4"))), None).await.unwrap();
    meeting.meet().await;
    assert_eq!(meeting.both().await, json!({ "phone": "4" }));
    assert!(matches!(meeting.desk.redo().await, Err(UndoError::Kept(_))));
}

#[tokio::test]
async fn creation_is_taken_back_unless_others_work_in_the_document() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "phone": "1" })).await;
    meeting.desk.undo().await.unwrap();
    assert!(job(&meeting.desk).read().await.unwrap().unwrap().deleted);
    meeting.desk.redo().await.unwrap();
    assert_eq!(value(&meeting.desk).await, json!({ "phone": "1" }));
    meeting.meet().await;
    put(&meeting.van, json!({ "status": "done" })).await;
    meeting.meet().await;
    let why = why_kept(&meeting.desk).await;
    assert!(
        matches!(&why[..], [KeptWhy::Written(by)] if by.author.as_ref().unwrap().user == "Timo")
    );
    // It is not asked about again.
    let again = meeting.desk.undo().await;
    assert!(matches!(again, Err(UndoError::Nothing { way: Way::Undo })), "{again:?}");
    assert_eq!(value(&meeting.desk).await, json!({ "phone": "1", "status": "done" }));
}

#[tokio::test]
async fn a_deletion_is_taken_back_and_a_deleted_document_is_not_written_in() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "phone": "1" })).await;
    job(&meeting.desk).set("phone", "2").await.unwrap();
    job(&meeting.desk).delete().await.unwrap();
    let edited = job(&meeting.desk).edit(|job: &mut Map<String, Value>| job.clear()).await;
    assert!(matches!(edited, Err(EditError::Deleted)));
    let set = job(&meeting.desk).set("phone", "3").await;
    assert!(matches!(set, Err(EditError::Deleted)));
    meeting.desk.undo().await.unwrap();
    assert_eq!(value(&meeting.desk).await, json!({ "phone": "2" }));
    meeting.meet().await;
    job(&meeting.van).delete().await.unwrap();
    meeting.meet().await;
    assert_eq!(why_kept(&meeting.desk).await, [KeptWhy::Removed]);
}

#[tokio::test]
async fn a_batch_is_one_commit_and_one_step() {
    let meeting = Meeting::new().await;
    let jobs = main(&meeting.desk).collection("jobs").unwrap();
    let one =
        jobs.create("1", &json!({ "technician": "ana", "used": { "$counter": 2 } })).await.unwrap();
    let before = meeting.desk.counters().await.unwrap().commits;
    let (jobs_too, one_too) = (jobs.clone(), one.clone());
    let was = meeting
        .desk
        .batch(move |batch| {
            let was = batch.edit(&one_too, |job: &mut Value| {
                std::mem::replace(&mut job["technician"], json!("ben"))
            })?;
            // It sees what it has written.
            assert_eq!(batch.get::<Value>(&one_too)?.unwrap()["technician"], "ben");
            batch.edit(&one_too, |job: &mut Value| job["status"] = json!("moved"))?;
            batch.apply(&one_too, vec![Op::Increment { path: "used".into(), by: 5 }])?;
            batch.create(&jobs_too, "2", &json!({ "technician": was }))?;
            Ok(was)
        })
        .await
        .unwrap();
    assert_eq!(was, "ana");
    assert_eq!(meeting.desk.counters().await.unwrap().commits, before + 1);

    // Nothing of a batch that fails is kept.
    let (jobs_too, one_too) = (jobs.clone(), one.clone());
    let failed = meeting.desk.batch(move |batch| {
        batch.create(&jobs_too, "3", &json!({}))?;
        batch.edit(&one_too, |job: &mut Value| job["technician"] = json!("eve"))?;
        batch.edit::<Value, _>(&jobs_too.document("4")?, |_| ())
    });
    assert!(matches!(failed.await, Err(EditError::NotFound)));
    assert_eq!(jobs.list().await.unwrap().len(), 2);

    let planned = meeting.desk.preview_undo(Way::Undo).await.unwrap();
    assert_eq!((planned.edits, planned.documents.len()), (4, 2));
    assert_eq!(value(&meeting.desk).await["technician"], "ben", "a preview keeps nothing");
    let undone = meeting.desk.undo().await.unwrap();
    assert_eq!(undone, planned_as(&undone, planned));
    assert_eq!(value(&meeting.desk).await, json!({ "technician": "ana", "used": 2 }));
    assert_eq!(jobs.list().await.unwrap().len(), 1);
    meeting.desk.redo().await.unwrap();
    let again = json!({ "technician": "ben", "used": 7, "status": "moved" });
    assert_eq!(value(&meeting.desk).await, again);
    assert_eq!(jobs.list().await.unwrap().len(), 2);
}

/// What was foreseen, with the hashes of what was done: a preview makes other ones.
fn planned_as(
    done: &rejoin::undo::Undone,
    mut planned: rejoin::undo::Undone,
) -> rejoin::undo::Undone {
    for (planned, done) in planned.documents.iter_mut().zip(&done.documents) {
        planned.edited = done.edited.clone();
    }
    planned
}

#[tokio::test]
async fn steps_are_remembered_one_after_the_other_also_when_the_file_is_opened_again() {
    let mut meeting = Meeting::new().await;
    for phone in ["1", "2", "3"] {
        put(&meeting.desk, json!({ "phone": phone })).await;
    }
    meeting.desk.undo().await.unwrap();
    meeting.desk.close().await;
    meeting.desk = Replica::open(meeting.folder.path().join("desk")).await.unwrap();
    meeting.desk.undo().await.unwrap();
    assert_eq!(value(&meeting.desk).await, json!({ "phone": "1" }));
    meeting.desk.redo().await.unwrap();
    meeting.desk.redo().await.unwrap();
    assert_eq!(value(&meeting.desk).await, json!({ "phone": "3" }));
    let more = meeting.desk.redo().await;
    assert!(matches!(more, Err(UndoError::Nothing { way: Way::Redo })), "{more:?}");
    meeting.desk.undo().await.unwrap();
    // After another edit there is nothing to make again.
    put(&meeting.desk, json!({ "phone": "4" })).await;
    assert!(matches!(meeting.desk.redo().await, Err(UndoError::Nothing { way: Way::Redo })));
    for phone in ["2", "1"] {
        meeting.desk.undo().await.unwrap();
        assert_eq!(value(&meeting.desk).await, json!({ "phone": phone }));
    }
    meeting.desk.undo().await.unwrap();
    assert_eq!(value(&meeting.desk).await, Value::Null);
}

#[tokio::test]
async fn everybody_takes_back_their_own() {
    let meeting = Meeting::new().await;
    let eve = meeting.desk.acting_as(Identity::user("Eve"));
    put(&meeting.desk, json!({ "phone": "1" })).await;
    put(&eve, json!({ "status": "done" })).await;
    put(&meeting.desk, json!({ "phone": "2" })).await;
    eve.undo().await.unwrap();
    assert_eq!(value(&meeting.desk).await, json!({ "phone": "2" }));
    meeting.desk.undo().await.unwrap();
    assert_eq!(value(&meeting.desk).await, json!({ "phone": "1" }));
    assert!(matches!(eve.undo().await, Err(UndoError::Nothing { .. })));
}

#[tokio::test]
async fn an_order_and_a_maximum_lose_only_the_own_value() {
    let meeting = Meeting::new().await;
    let steps = ["booked", "en_route", "done"].map(str::to_owned).to_vec();
    let schema = Schema::new()
        .with("status", Field::new(Rule::Order(steps)))
        .with("price", Field::new(Rule::Max));
    main(&meeting.desk).apply_schema(&"jobs".parse().unwrap(), &schema).await.unwrap();
    put(&meeting.desk, json!({ "status": "booked", "price": 1 })).await;
    meeting.meet().await;
    put(&meeting.desk, json!({ "status": "done", "price": 9 })).await;
    put(&meeting.van, json!({ "status": "en_route", "price": 5 })).await;
    meeting.meet().await;
    assert_eq!(meeting.both().await, json!({ "status": "done", "price": 9 }));
    meeting.desk.undo().await.unwrap();
    meeting.meet().await;
    assert_eq!(meeting.both().await, json!({ "status": "en_route", "price": 5 }));
    assert!(open(&meeting.desk).await.is_empty());
}

#[tokio::test]
async fn a_document_is_given_the_value_it_had_before() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "phone": "1", "notes": { "$text": "Ring. " }, "tags": ["a", "b"] }))
        .await;
    let then = job(&meeting.desk).read().await.unwrap().unwrap();
    put(&meeting.desk, json!({ "phone": "2", "tags": ["b", "c"], "status": "done" })).await;
    job(&meeting.desk).append("notes", "Gate 4711.").await.unwrap();
    let now = value(&meeting.desk).await;
    job(&meeting.desk).delete().await.unwrap();
    job(&meeting.desk).restore(&then.heads).await.unwrap();
    assert_eq!(value(&meeting.desk).await, then.value);
    // It is an edit like others.
    meeting.desk.undo().await.unwrap();
    meeting.desk.undo().await.unwrap();
    assert_eq!(value(&meeting.desk).await, now);
    let nowhere = job(&meeting.desk).restore(&[rejoin::ChangeHash([7; 32])]).await;
    assert!(matches!(nowhere, Err(EditError::Write(_))), "{nowhere:?}");
}

#[tokio::test]
async fn a_right_that_is_gone_is_said() {
    let meeting = Meeting::new().await;
    put(&meeting.van, json!({ "price": 1 })).await;
    put(&meeting.van, json!({ "price": 2 })).await;
    let schema = Schema::new().with("price", Field::new(Rule::Review).writers(["dispatch"]));
    main(&meeting.desk).apply_schema(&"jobs".parse().unwrap(), &schema).await.unwrap();
    meeting.meet().await;
    meeting.van.caught_up().await.unwrap();
    assert_eq!(why_kept(&meeting.van).await, [KeptWhy::NotAllowed]);
}

/// Fields and items that one edit wrote are taken back together, though a deleted item moves those after
/// it.
#[tokio::test]
async fn items_and_fields_of_one_edit_go_back_and_come_again() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "tags": ["a"] })).await;
    put(&meeting.desk, json!({ "phone": "1" })).await;
    let insert = |index, value| Op::Insert { path: "tags".into(), index, value: json!(value) };
    job(&meeting.desk).apply(vec![insert(1, "b")]).await.unwrap();
    meeting.meet().await;
    job(&meeting.van).apply(vec![insert(2, "c")]).await.unwrap();
    meeting.meet().await;
    let remove = |index| Op::RemoveAt { path: "tags".into(), index };
    let set = Op::Set { path: "phone".into(), before: None, after: json!("2") };
    job(&meeting.desk).apply(vec![remove(0), remove(0), set]).await.unwrap();
    let after = json!({ "phone": "2", "tags": ["c"] });
    assert_eq!(value(&meeting.desk).await, after);
    for _ in 0..2 {
        meeting.desk.undo().await.unwrap();
        assert_eq!(value(&meeting.desk).await, json!({ "phone": "1", "tags": ["a", "b", "c"] }));
        meeting.desk.redo().await.unwrap();
        assert_eq!(value(&meeting.desk).await, after);
    }
    meeting.meet().await;
    assert_eq!(meeting.both().await, after);
    assert!(open(&meeting.desk).await.is_empty());
}

#[tokio::test]
async fn making_and_deleting_are_taken_back_one_after_the_other() {
    let meeting = Meeting::new().await;
    // A document without fields is made, too.
    put(&meeting.desk, json!({})).await;
    job(&meeting.desk).delete().await.unwrap();
    meeting.desk.undo().await.unwrap();
    meeting.desk.undo().await.unwrap();
    assert!(job(&meeting.desk).read().await.unwrap().unwrap().deleted);
    meeting.desk.redo().await.unwrap();
    meeting.desk.redo().await.unwrap();
    assert!(job(&meeting.desk).read().await.unwrap().unwrap().deleted);
    meeting.desk.undo().await.unwrap();

    let insert = |value| Op::Insert { path: "parts".into(), index: 0, value };
    job(&meeting.desk).apply(vec![insert(json!({ "name": "valve" }))]).await.unwrap();
    job(&meeting.desk).apply(vec![Op::RemoveAt { path: "parts".into(), index: 0 }]).await.unwrap();
    let parts = |value: Value| value["parts"].clone();
    for _ in 0..2 {
        meeting.desk.undo().await.unwrap();
        assert_eq!(parts(value(&meeting.desk).await), json!([{ "name": "valve" }]));
        meeting.desk.undo().await.unwrap();
        assert_eq!(parts(value(&meeting.desk).await), json!([]));
        meeting.desk.redo().await.unwrap();
        meeting.desk.redo().await.unwrap();
        assert_eq!(parts(value(&meeting.desk).await), json!([]));
    }
    meeting.meet().await;
    assert!(open(&meeting.van).await.is_empty(), "nobody is asked");
}

#[tokio::test]
async fn very_much_is_taken_back_whole() {
    let meeting = Meeting::new().await;
    let tags: Vec<String> = (0..150).map(|number| format!("tag {number}")).collect();
    let fields: Map<String, Value> =
        (0..150).map(|number| (format!("field {number}"), json!(number))).collect();
    put(&meeting.desk, json!({ "tags": tags })).await;
    put(&meeting.desk, Value::Object(fields)).await;
    let full = value(&meeting.desk).await;
    job(&meeting.desk).edit(|job: &mut Map<String, Value>| job["tags"] = json!([])).await.unwrap();
    for number in 0..150 {
        job(&meeting.desk).set(format!("field {number}").as_str(), number + 1).await.unwrap();
    }
    let emptied = value(&meeting.desk).await;
    for _ in 0..2 {
        for _ in 0..151 {
            meeting.desk.undo().await.unwrap();
        }
        assert_eq!(value(&meeting.desk).await, full);
        for _ in 0..151 {
            meeting.desk.redo().await.unwrap();
        }
        assert_eq!(value(&meeting.desk).await, emptied);
    }
    meeting.meet().await;
    assert_eq!(meeting.both().await, emptied);
    assert!(open(&meeting.van).await.is_empty(), "nobody is asked");
}

#[tokio::test]
async fn lists_in_lists_come_back_in_their_order() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "rows": [[1], [2], [3], [4]] })).await;
    let before = value(&meeting.desk).await;
    job(&meeting.desk)
        .edit(|job: &mut Value| _ = job["rows"].as_array_mut().unwrap().drain(1..3))
        .await
        .unwrap();
    let undone = meeting.desk.undo().await.unwrap();
    assert_eq!(undone.documents[0].renewed, ["rows"]);
    assert_eq!(value(&meeting.desk).await, before);
    meeting.desk.redo().await.unwrap();
    assert_eq!(value(&meeting.desk).await, json!({ "rows": [[1], [4]] }));
}

#[tokio::test]
async fn an_item_comes_back_with_the_decision_that_deleted_it() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "tags": ["gas", "urgent", "key"] })).await;
    meeting.meet().await;
    let path = rejoin::Path::from(["tags"]).join(1);
    let heads = job(&meeting.desk).read().await.unwrap().unwrap().heads;
    let remove = Op::RemoveAt { path: "tags".into(), index: 1 };
    job(&meeting.desk).apply_at(Some(heads), vec![remove]).await.unwrap();
    job(&meeting.van).set(path, "late").await.unwrap();
    meeting.meet().await;
    let [review] = open(&meeting.desk).await.try_into().unwrap();
    assert_eq!(meeting.both().await, json!({ "tags": ["gas", "urgent", "key"] }));
    let removal = review.candidates.iter().find(|it| it.value.is_none()).unwrap();
    let take = Decision::Take(removal.change);
    main(&meeting.desk).reviews().settle(&review.id, take, None).await.unwrap();
    meeting.meet().await;
    assert_eq!(meeting.both().await, json!({ "tags": ["gas", "key"] }));

    meeting.desk.undo().await.unwrap();
    meeting.meet().await;
    let [again] = open(&meeting.van).await.try_into().unwrap();
    assert_eq!((again.id, &again.candidates), (review.id, &review.candidates));
    assert_eq!(meeting.both().await, json!({ "tags": ["gas", "urgent", "key"] }));

    meeting.desk.redo().await.unwrap();
    meeting.meet().await;
    assert!(open(&meeting.van).await.is_empty());
    assert_eq!(meeting.both().await, json!({ "tags": ["gas", "key"] }));
    meeting.desk.undo().await.unwrap();
    meeting.meet().await;
    let take =
        Decision::Take(again.candidates.iter().find(|it| it.value.is_some()).unwrap().change);
    main(&meeting.van).reviews().settle(&again.id, take, None).await.unwrap();
    meeting.meet().await;
    assert_eq!(meeting.both().await, json!({ "tags": ["gas", "late", "key"] }));
}

#[tokio::test]
async fn a_decision_made_again_leaves_what_came_since() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "phone": "1" })).await;
    meeting.meet().await;
    let heads = job(&meeting.van).read().await.unwrap().unwrap().heads;
    put(&meeting.desk, json!({ "phone": "2" })).await;
    put(&meeting.van, json!({ "phone": "3" })).await;
    meeting.meet().await;
    let [review] = open(&meeting.desk).await.try_into().unwrap();
    let take = Decision::Take(review.candidates[0].change);
    main(&meeting.desk).reviews().settle(&review.id, take, None).await.unwrap();
    meeting.desk.undo().await.unwrap();
    meeting.meet().await;
    let set = Op::Set { path: "phone".into(), before: None, after: json!("4") };
    job(&meeting.van).apply_at(Some(heads), vec![set]).await.unwrap();
    meeting.meet().await;
    meeting.desk.redo().await.unwrap();
    meeting.meet().await;
    let [left] = open(&meeting.van).await.try_into().unwrap();
    assert!(left.candidates.iter().any(|it| it.value == Some(json!("4"))), "{left:?}");
}

#[tokio::test]
async fn what_is_in_something_removed_stays() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "parts": [{ "name": "valve" }] })).await;
    job(&meeting.desk)
        .set(rejoin::Path::from(["parts"]).join(0).join("name"), "pump")
        .await
        .unwrap();
    meeting.meet().await;
    job(&meeting.van).apply(vec![Op::RemoveAt { path: "parts".into(), index: 0 }]).await.unwrap();
    meeting.meet().await;
    assert_eq!(why_kept(&meeting.desk).await, [KeptWhy::Removed]);
}

#[tokio::test]
async fn steps_stay_apart_by_person_and_whole_beside_previews() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "phone": "1" })).await;
    let one = meeting.desk.as_one_step();
    put(&one, json!({ "phone": "2" })).await;
    put(&one.acting_as(Identity::user("Eve")), json!({ "status": "done" })).await;
    meeting.desk.preview_undo(Way::Undo).await.unwrap();
    put(&one, json!({ "phone": "3" })).await;
    let undone = meeting.desk.undo().await.unwrap();
    assert_eq!(undone.edits, 2);
    assert_eq!(value(&meeting.desk).await, json!({ "phone": "1", "status": "done" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hears_that_something_was_taken_back_sees_it_in_the_status() {
    let folder = TempDir::new().unwrap();
    let replica = Replica::open(folder.path().join("desk")).await.unwrap();
    put(&replica, json!({ "status": "booked" })).await;
    for round in 0..100 {
        job(&replica).set("status", round).await.unwrap();
        let before = replica.status().waiting;
        replica.undo().await.unwrap();
        assert_eq!(replica.status().waiting, before + 1);
    }
}

#[tokio::test]
async fn what_was_taken_back_is_not_taken_back_again_by_a_restored_file() {
    let meeting = Meeting::new().await;
    put(&meeting.desk, json!({ "used": { "$counter": 5 } })).await;
    job(&meeting.desk).add("used", 3).await.unwrap();
    meeting.meet().await;
    let (file, copy) = (meeting.folder.path().join("desk"), meeting.folder.path().join("copy"));
    meeting.desk.close().await;
    std::fs::copy(&file, &copy).unwrap();
    let desk = Replica::open(&file).await.unwrap();
    desk.undo().await.unwrap();
    let meeting = Meeting { desk, ..meeting };
    meeting.meet().await;
    assert_eq!(meeting.both().await["used"], 5);
    meeting.desk.close().await;
    std::fs::copy(&copy, &file).unwrap();
    let desk = Replica::open(&file).await.unwrap();
    let meeting = Meeting { desk, ..meeting };
    meeting.meet().await;
    assert_eq!(why_kept(&meeting.desk).await, [KeptWhy::Done]);
    meeting.meet().await;
    assert_eq!(meeting.both().await["used"], 5);
}
