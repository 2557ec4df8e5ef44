//! What happens when people decide differently: nobody silently wins.

use rejoin::booking::BookingState;
use rejoin::review::{ReviewKind, ReviewState};
use rejoin::schema::{Field, Invariant, Kind, Rule, Schema};
use rejoin::view::FieldState;
use rejoin::{
    Collection, Decision, Document, EditError, Identity, Link, Op, Replica, Review, SettleError,
    WatchEvent,
};
use rejoin_tests::live::LiveRelay;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Two replicas that act as somebody, and their relay.
struct Meeting {
    _folder: TempDir,
    relay: LiveRelay,
    desk: Replica,
    van: Replica,
}

impl Meeting {
    async fn new(schema: Option<Schema>) -> Self {
        let folder = TempDir::new().unwrap();
        let relay = LiveRelay::start(folder.path().join("relay")).await;
        let desk = Replica::open(folder.path().join("desk")).await.unwrap();
        let van = Replica::open(folder.path().join("van")).await.unwrap();
        desk.act_as(Some(Identity::user("Dora").with_role("dispatch"))).await.unwrap();
        van.act_as(Some(Identity::user("Timo").with_role("technician"))).await.unwrap();
        if let Some(schema) = schema {
            let main = desk.space("main").unwrap();
            main.apply_schema(&"jobs".parse().unwrap(), &schema).await.unwrap();
        }
        let meeting = Self { _folder: folder, relay, desk, van };
        meeting.meet().await;
        meeting
    }

    /// Lets both meet at the relay, and parts them again once they hold the same.
    async fn meet(&self) {
        for replica in [&self.desk, &self.van] {
            let main = replica.space("main").unwrap();
            replica.connect(&self.relay.url(), &[&main]).await.unwrap();
        }
        while digest(&self.desk) != digest(&self.van) || !self.is_safe() {
            tokio::task::yield_now().await;
        }
        for replica in [&self.desk, &self.van] {
            replica.disconnect().await;
            replica.status_when(|status| status.link == Link::Offline).await.unwrap();
        }
    }

    fn is_safe(&self) -> bool {
        [&self.desk, &self.van]
            .iter()
            .all(|replica| replica.status().link == Link::Safe && replica.status().waiting == 0)
    }

    /// The open reviews, which are the same on both sides.
    async fn reviews(&self) -> Vec<Review> {
        let desk = open(&self.desk).await;
        let hintless = |reviews: &[Review]| -> Vec<Review> {
            reviews.iter().map(|it| Review { held_first: None, ..it.clone() }).collect()
        };
        assert_eq!(hintless(&desk), hintless(&open(&self.van).await), "one inbox");
        desk
    }

    async fn reviews_of_van(&self) -> Vec<Review> {
        open(&self.van).await
    }

    async fn value(&self, key: &str) -> Value {
        let value = |replica| async move { job(replica, key).get::<Value>().await.unwrap() };
        let (desk, van) = (value(&self.desk).await, value(&self.van).await);
        assert_eq!(desk, van, "one value");
        desk.unwrap()
    }

    async fn settle(&self, by: &Replica, review: &Review, decision: Decision) {
        let reviews = by.space("main").unwrap().reviews();
        reviews.settle(&review.id, decision, Some("they called")).await.unwrap();
    }
}

fn digest(replica: &Replica) -> rejoin::sync::SetDigest {
    replica.space("main").unwrap().digest().unwrap()
}

async fn open(replica: &Replica) -> Vec<Review> {
    replica.space("main").unwrap().reviews().open().await.unwrap()
}

fn jobs(replica: &Replica) -> Collection {
    replica.space("main").unwrap().collection("jobs").unwrap()
}

fn job(replica: &Replica, key: &str) -> Document {
    jobs(replica).document(key).unwrap()
}

fn values(review: &Review) -> Vec<Value> {
    let values = review.candidates.iter().map(|it| it.value.clone().unwrap_or_default());
    let mut values: Vec<Value> = values.collect();
    values.sort_by_key(ToString::to_string);
    values
}

#[tokio::test]
async fn concurrent_values_are_a_review_until_one_side_settles_it() {
    let meeting = Meeting::new(None).await;
    jobs(&meeting.desk).create("1", &json!({ "phone": "100", "town": "Ulm" })).await.unwrap();
    meeting.meet().await;
    job(&meeting.desk, "1").set("phone", "200").await.unwrap();
    job(&meeting.van, "1").set("phone", "300").await.unwrap();
    job(&meeting.van, "1").set("town", "Bonn").await.unwrap();
    meeting.meet().await;

    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    assert_eq!((review.kind, &*review.field), (ReviewKind::FieldConflict, "phone"));
    assert_eq!(values(review), ["200", "300"]);
    assert_eq!(review.standing, Some(json!("100")));
    let who = |it: &rejoin::history::Candidate| it.author.clone().map(|author| author.user);
    let mut people: Vec<_> = review.candidates.iter().map(who).collect();
    people.sort();
    assert_eq!(people, [Some("Dora".to_owned()), Some("Timo".to_owned())]);
    assert_eq!(meeting.value("1").await, json!({ "phone": "100", "town": "Bonn" }));
    assert_eq!(meeting.van.reviews().open().await.unwrap(), open(&meeting.van).await);
    let listed = jobs(&meeting.van).list().await.unwrap();
    assert_eq!(listed[0].value["phone"], "100", "lists show what stands, too");

    let mut watcher = meeting.van.reviews().watch().await.unwrap();
    // Somebody writes on, unaware: one more candidate, and nothing is gone.
    job(&meeting.van, "1").set("phone", "400").await.unwrap();
    meeting.meet().await;
    let Some(WatchEvent::Changed(told)) = watcher.try_next() else { panic!("told of it") };
    assert_eq!(told.key.as_deref(), Some("1"));
    let [again] = &meeting.reviews().await[..] else { panic!("one review") };
    assert_eq!((again.id, values(again).len()), (review.id, 3));

    let taken = again.candidates.iter().find(|it| it.value == Some(json!("300"))).unwrap().change;
    meeting.settle(&meeting.desk, again, Decision::Take(taken)).await;
    assert!(open(&meeting.desk).await.is_empty());
    assert_eq!(open(&meeting.van).await.len(), 1, "offline, it does not know yet");
    meeting.meet().await;
    assert!(meeting.reviews().await.is_empty());
    assert_eq!(meeting.value("1").await["phone"], "300");

    let all = meeting.van.space("main").unwrap().reviews();
    let settled = all.get(&review.id).await.unwrap().unwrap();
    let ReviewState::Settled { by, why } = settled.state else { panic!("settled") };
    assert_eq!((by.author.unwrap().user, why.as_deref()), ("Dora".to_owned(), Some("they called")));
    let gone = all.settle(&review.id, Decision::Dismiss, None).await;
    assert!(matches!(gone, Err(SettleError::NoReview(_))), "{gone:?}");
}

#[tokio::test]
async fn a_review_settled_twice_differently_is_a_disagreement() {
    let meeting = Meeting::new(None).await;
    jobs(&meeting.desk).create("1", &json!({ "phone": "100" })).await.unwrap();
    meeting.meet().await;
    job(&meeting.desk, "1").set("phone", "200").await.unwrap();
    job(&meeting.van, "1").set("phone", "300").await.unwrap();
    meeting.meet().await;
    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    let take = |value: &str| {
        let wanted = Some(json!(value));
        let taken = review.candidates.iter().find(|it| it.value == wanted);
        Decision::Take(taken.unwrap().change)
    };
    meeting.settle(&meeting.desk, review, take("200")).await;
    meeting.settle(&meeting.van, review, take("300")).await;
    meeting.meet().await;
    let [disagreement] = &meeting.reviews().await[..] else { panic!("one review") };
    assert_eq!(disagreement.kind, ReviewKind::Disagreement);
    assert_eq!(values(disagreement), ["200", "300"]);
    assert_eq!(meeting.value("1").await["phone"], "100");
    meeting.settle(&meeting.van, disagreement, Decision::Value(Some(json!("500")))).await;
    meeting.meet().await;
    assert!(meeting.reviews().await.is_empty());
    assert_eq!(meeting.value("1").await["phone"], "500");
}

#[tokio::test]
async fn work_in_something_deleted_is_a_review_and_stays() {
    let meeting = Meeting::new(None).await;
    let job_1 = json!({ "notes": { "$text": "Ring." }, "parts": [{ "name": "fan", "count": 1 }] });
    jobs(&meeting.desk).create("1", &job_1).await.unwrap();
    meeting.meet().await;
    job(&meeting.desk, "1").delete().await.unwrap();
    job(&meeting.van, "1").append("notes", " Twice.").await.unwrap();
    meeting.meet().await;
    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    assert_eq!((review.kind, &*review.field), (ReviewKind::Removal, "deleted"));
    assert_eq!(meeting.value("1").await["notes"], "Ring. Twice.");
    let removal = review.candidates.iter().find(|it| it.value == Some(json!(true))).unwrap();
    meeting.settle(&meeting.van, review, Decision::Take(removal.change)).await;
    meeting.meet().await;
    assert!(meeting.reviews().await.is_empty());
    assert_eq!(job(&meeting.desk, "1").get::<Value>().await.unwrap(), None);

    jobs(&meeting.desk).create("2", &job_1).await.unwrap();
    meeting.meet().await;
    job(&meeting.desk, "2").remove("parts[0]").await.unwrap();
    job(&meeting.van, "2").set("parts[0].count", 3).await.unwrap();
    meeting.meet().await;
    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    assert_eq!(review.kind, ReviewKind::Removal);
    assert_eq!(meeting.value("2").await["parts"], json!([{ "name": "fan", "count": 3 }]));
    // What is shown can be edited, though Automerge takes it for removed.
    job(&meeting.van, "2").set("parts[0].name", "big fan").await.unwrap();
    meeting.meet().await;
    assert_eq!(meeting.value("2").await["parts"][0]["name"], "big fan");
    let [review] = &meeting.reviews().await[..] else { panic!("still one review") };
    meeting.settle(&meeting.desk, review, Decision::Dismiss).await;
    meeting.meet().await;
    assert!(meeting.reviews().await.is_empty());
    assert_eq!(meeting.value("2").await["parts"], json!([{ "name": "big fan", "count": 3 }]));
}

fn dispatch_schema() -> Schema {
    let order = Rule::order(["booked", "en_route", "done", "cancelled"]);
    Schema::new()
        .with("status", order)
        .with("technician", Field::new(Rule::Review).writers(["dispatch"]))
        .with("phone", Rule::owner("crm"))
        .with("tags", Rule::Set)
        .with("starts_at", Field::new(Rule::Review).kind(Kind::Time))
        .with("ends_at", Field::new(Rule::Review).kind(Kind::Time))
        .with("ticket", Rule::Review)
        .invariant(
            Invariant::no_overlap("technician", "starts_at", "ends_at")
                .unless("status", "cancelled"),
        )
        .invariant(Invariant::unique(["ticket"]))
}

fn booking(technician: &str, from: &str, to: &str) -> Value {
    json!({
        "technician": technician,
        "starts_at": format!("2026-05-04T{from}:00Z"),
        "ends_at": format!("2026-05-04T{to}:00Z"),
        "status": "booked",
    })
}

#[tokio::test]
async fn a_double_booking_made_offline_is_found_when_it_meets() {
    let meeting = Meeting::new(Some(dispatch_schema())).await;
    meeting.van.act_as(Some(Identity::user("Timo").with_role("dispatch"))).await.unwrap();
    jobs(&meeting.desk).create("call", &booking("timo", "17:00", "18:00")).await.unwrap();
    jobs(&meeting.desk).create("later", &booking("timo", "18:00", "19:00")).await.unwrap();
    let state = |replica: &Replica, key: &str| {
        let job = job(replica, key);
        async move { job.bookings().await.unwrap()[0].state }
    };
    assert_eq!(state(&meeting.desk, "call").await, BookingState::Tentative);
    meeting.meet().await;
    assert_eq!(state(&meeting.desk, "call").await, BookingState::Confirmed);
    let at = |time: &str| rejoin::value::time_ms(&json!(time), rejoin::value::Zone::UTC).unwrap();
    let (five, half) = (at("2026-05-04T17:00:00Z"), at("2026-05-04T17:30:00Z"));
    let taken = jobs(&meeting.van).booked(&json!("timo"), five, half).await.unwrap();
    assert_eq!(taken.iter().map(|it| it.key.as_deref()).collect::<Vec<_>>(), [Some("call")]);
    assert!(jobs(&meeting.van).booked(&json!("ana"), five, half).await.unwrap().is_empty());
    assert!(jobs(&meeting.van).booked(&json!("timo"), five - 1, five).await.unwrap().is_empty());
    jobs(&meeting.van).create("urgent", &booking("timo", "17:30", "17:45")).await.unwrap();
    jobs(&meeting.desk).create("another", &booking("ana", "17:00", "18:00")).await.unwrap();
    let [offline] = &open(&meeting.van).await[..] else { panic!("found at once, offline") };
    assert_eq!(offline.kind, ReviewKind::DoubleBooking);
    meeting.meet().await;

    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    let mut keys: Vec<_> = review.documents.iter().map(|it| it.key.clone().unwrap()).collect();
    keys.sort();
    assert_eq!(keys, ["call", "urgent"]);
    let first = job(&meeting.desk, "call").id();
    assert_eq!(review.held_first, Some(first), "the desk's booking was at the relay first");
    assert_eq!(open(&meeting.van).await[0].held_first, Some(first));
    assert_eq!(state(&meeting.van, "urgent").await, BookingState::Tentative);
    let impossible = meeting.desk.space("main").unwrap().reviews();
    let impossible = impossible.settle(&review.id, Decision::Value(None), None).await;
    assert!(matches!(impossible, Err(SettleError::ChangeOne)));

    job(&meeting.desk, "urgent").set("technician", "ana").await.unwrap();
    let [moved] = &open(&meeting.desk).await[..] else { panic!("now Ana is booked twice") };
    assert_ne!(moved.id, review.id);
    job(&meeting.desk, "another").set("status", "cancelled").await.unwrap();
    meeting.meet().await;
    assert!(meeting.reviews().await.is_empty(), "a cancellation frees the time");
    assert_eq!(state(&meeting.van, "urgent").await, BookingState::Confirmed);
}

#[tokio::test]
async fn duplicates_are_a_review_that_can_be_dismissed() {
    let meeting = Meeting::new(Some(dispatch_schema())).await;
    jobs(&meeting.desk).create("a", &json!({ "ticket": "T-1" })).await.unwrap();
    jobs(&meeting.van).create("b", &json!({ "ticket": "T-1" })).await.unwrap();
    jobs(&meeting.van).create("c", &json!({ "ticket": "" })).await.unwrap();
    jobs(&meeting.van).create("d", &json!({ "ticket": "" })).await.unwrap();
    meeting.meet().await;
    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    assert_eq!((review.kind, review.documents.len()), (ReviewKind::Duplicate, 2));
    let reviews = meeting.van.space("main").unwrap().reviews();
    reviews.assign(&review.id, Some("Dora"), Some("2026-05-05")).await.unwrap();
    meeting.meet().await;
    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    assert_eq!(review.assignee.as_deref(), Some("Dora"));
    meeting.settle(&meeting.desk, review, Decision::Dismiss).await;
    meeting.meet().await;
    assert!(meeting.reviews().await.is_empty());
    let all = meeting.van.space("main").unwrap().reviews().list().await.unwrap();
    let why = Some("they called".to_owned());
    assert_eq!(all[0].state, ReviewState::Dismissed { by: None, why });
}

#[tokio::test]
async fn who_may_not_write_is_refused_here_and_reviewed_from_elsewhere() {
    let meeting = Meeting::new(None).await;
    jobs(&meeting.desk).create("1", &json!({ "technician": "ana" })).await.unwrap();
    meeting.meet().await;
    // The technician's phone has not seen the schema yet.
    let main = meeting.desk.space("main").unwrap();
    main.apply_schema(&"jobs".parse().unwrap(), &dispatch_schema()).await.unwrap();
    job(&meeting.van, "1").set("technician", "timo").await.unwrap();
    meeting.meet().await;
    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    assert_eq!(review.kind, ReviewKind::RefusedWrite);
    assert_eq!(meeting.value("1").await["technician"], "ana", "it does not count");
    let view = job(&meeting.van, "1").view().await.unwrap();
    let states = &view.field("technician").unwrap().states;
    assert!(matches!(states[..], [FieldState::Refused { .. }]), "{states:?}");

    let refused = job(&meeting.van, "1").set("technician", "tim").await.unwrap_err();
    assert!(matches!(refused, EditError::NotAllowed { .. }), "{refused}");
    assert!(refused.to_string().contains("dispatch"), "{refused}");
    let reviews = meeting.van.space("main").unwrap().reviews();
    let taken = Decision::Take(review.candidates[0].change);
    let refused = reviews.settle(&review.id, taken.clone(), None).await.unwrap_err();
    assert!(matches!(refused, SettleError::Edit(EditError::NotAllowed { .. })), "{refused}");
    meeting.settle(&meeting.desk, review, taken).await;
    meeting.meet().await;
    assert!(meeting.reviews().await.is_empty());
    assert_eq!(meeting.value("1").await["technician"], "timo");
}

#[tokio::test]
async fn rules_decide_what_they_can() {
    let meeting = Meeting::new(Some(dispatch_schema())).await;
    meeting.van.act_as(Some(Identity::user("CRM").with_role("crm"))).await.unwrap();
    let before = json!({ "status": "booked", "phone": "1", "tags": ["roof"] });
    jobs(&meeting.desk).create("1", &before).await.unwrap();
    meeting.meet().await;
    let (desk, van) = (job(&meeting.desk, "1"), job(&meeting.van, "1"));
    desk.set("status", "done").await.unwrap();
    van.set("status", "en_route").await.unwrap();
    desk.set("phone", "2").await.unwrap();
    van.set("phone", "3").await.unwrap();
    let tag = |tags: &mut Value| tags["tags"].as_array_mut().unwrap().push(json!("urgent"));
    desk.edit(tag).await.unwrap();
    van.edit(tag).await.unwrap();
    meeting.meet().await;
    let merged = json!({ "status": "done", "phone": "3", "tags": ["roof", "urgent"] });
    assert_eq!(meeting.value("1").await, merged);
    assert!(meeting.reviews().await.is_empty());
    // Taking the tag away takes it away for good, though it was added twice.
    desk.edit(|job: &mut Value| job["tags"] = json!(["roof"])).await.unwrap();
    meeting.meet().await;
    assert_eq!(meeting.value("1").await["tags"], json!(["roof"]));
    // Going back is for people to decide.
    van.set("status", "booked").await.unwrap();
    meeting.meet().await;
    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    assert_eq!((review.standing.clone(), &*review.field), (Some(json!("done")), "status"));
    meeting.settle(&meeting.desk, review, Decision::Dismiss).await;
    meeting.meet().await;
    assert_eq!(meeting.value("1").await["status"], "done");
    assert!(meeting.reviews().await.is_empty());
}

#[tokio::test]
async fn what_does_not_fit_the_schema_is_kept_and_flagged() {
    let meeting = Meeting::new(None).await;
    let odd = json!({ "status": 7, "starts_at": "noon", "ends_at": "2026-05-04T10:00:00Z",
        "technician": "ana" });
    jobs(&meeting.desk).create("1", &odd).await.unwrap();
    let mut wrong = booking("ana", "12:00", "11:00");
    wrong["tags"] = json!("roof");
    jobs(&meeting.desk).create("2", &wrong).await.unwrap();
    let main = meeting.desk.space("main").unwrap();
    main.apply_schema(&"jobs".parse().unwrap(), &dispatch_schema()).await.unwrap();
    meeting.meet().await;
    assert_eq!(meeting.value("1").await, odd, "kept as it is");
    assert!(meeting.reviews().await.is_empty());
    for replica in [&meeting.desk, &meeting.van] {
        let held =
            |view: &rejoin::view::View, field: &str| match &view.field(field).unwrap().states[..] {
                [FieldState::Misfit { reason }] => reason.clone(),
                states => panic!("{field}: {states:?}"),
            };
        let view = job(replica, "1").view().await.unwrap();
        assert!(held(&view, "status").contains("booked, en_route"));
        assert!(held(&view, "starts_at").contains("not a time"));
        let view = job(replica, "2").view().await.unwrap();
        assert!(held(&view, "starts_at").contains("ends before it starts"));
        assert!(held(&view, "tags").contains("list"));
        assert!(!view.is_agreed());
    }
}

#[tokio::test]
async fn what_stands_deep_inside_is_flagged_too() {
    let meeting = Meeting::new(None).await;
    let schema = Schema::new()
        .with("address.zip", Field::new(Rule::Review).kind(Kind::String))
        .with("address.street", Field::new(Rule::Review).required())
        .with("parts.*.count", Field::new(Rule::Review).kind(Kind::Integer));
    let odd = json!({ "address": { "zip": 89073 }, "parts": [{ "count": "two" }, { "count": 2 }] });
    jobs(&meeting.desk).create("1", &odd).await.unwrap();
    meeting.meet().await;
    job(&meeting.desk, "1").set("address.zip", 89075).await.unwrap();
    job(&meeting.van, "1").set("address.zip", 89077).await.unwrap();
    let main = meeting.desk.space("main").unwrap();
    main.apply_schema(&"jobs".parse().unwrap(), &schema).await.unwrap();
    meeting.meet().await;
    let view = job(&meeting.van, "1").view().await.unwrap();
    let states = |field: &str| &view.field(field).unwrap().states[..];
    let [FieldState::Misfit { .. }, FieldState::Conflict { .. }] = states("address.zip") else {
        panic!("of the wrong type, and not agreed: {:?}", states("address.zip"));
    };
    assert_eq!(states("address.street"), [FieldState::Missing]);
    assert!(matches!(states("parts[0].count"), [FieldState::Misfit { .. }]));
    assert_eq!(view.field("parts[1].count"), None, "nothing is wrong there");
}

#[tokio::test]
async fn a_value_that_a_text_hides_is_asked_about() {
    let meeting = Meeting::new(None).await;
    jobs(&meeting.desk).create("1", &json!({ "town": "Ulm" })).await.unwrap();
    meeting.meet().await;
    job(&meeting.van, "1").set("notes", "call first").await.unwrap();
    job(&meeting.desk, "1").append("notes", "Two dogs.").await.unwrap();
    meeting.meet().await;
    assert_eq!(meeting.value("1").await["notes"], "Two dogs.");
    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    assert_eq!((review.kind, values(review)), (ReviewKind::Hidden, vec![json!("call first")]));
    let reviews = meeting.van.space("main").unwrap().reviews();
    let taken = Decision::Take(review.candidates[0].change);
    let kept = reviews.settle(&review.id, taken, None).await.unwrap_err();
    assert!(matches!(kept, SettleError::Contained), "{kept}");
    job(&meeting.van, "1").append("notes", " Call first.").await.unwrap();
    meeting.settle(&meeting.van, review, Decision::Dismiss).await;
    meeting.meet().await;
    assert!(meeting.reviews().await.is_empty());
    assert_eq!(meeting.value("1").await["notes"], "Two dogs. Call first.");
}

#[tokio::test]
async fn an_edit_means_what_its_author_saw() {
    let meeting = Meeting::new(Some(dispatch_schema())).await;
    let first = json!({ "tags": ["a", "c"], "town": "Ulm" });
    jobs(&meeting.desk).create("1", &first).await.unwrap();
    meeting.meet().await;
    let (desk, van) = (job(&meeting.desk, "1"), job(&meeting.van, "1"));
    // The same tag twice reads as one.
    let tag = |job: &mut Value| job["tags"] = json!(["a", "b", "c"]);
    desk.edit(tag).await.unwrap();
    van.edit(tag).await.unwrap();
    desk.set("town", "Bonn").await.unwrap();
    van.set("town", "Kiel").await.unwrap();
    meeting.meet().await;
    let seen = desk.read().await.unwrap().unwrap();
    assert_eq!(seen.value, json!({ "tags": ["a", "b", "c"], "town": "Ulm" }));
    // Meanwhile something else comes, and the towns are settled.
    van.set("floor", 3).await.unwrap();
    let town = meeting.reviews_of_van().await.remove(0);
    meeting.settle(&meeting.van, &town, Decision::Value(Some(json!("Jena")))).await;
    meeting.meet().await;
    let edits = vec![
        Op::RemoveAt { path: "tags".into(), index: 2 },
        Op::Set { path: "town".into(), before: None, after: json!("Bonn") },
    ];
    desk.apply_at(Some(seen.heads), edits).await.unwrap();
    meeting.meet().await;
    assert_eq!(meeting.value("1").await["tags"], json!(["a", "b"]), "the third tag was c");
    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    assert!(values(review).contains(&json!("Bonn")), "what was written is a candidate");
}

#[tokio::test]
async fn a_default_that_somebody_wrote_is_theirs() {
    let schema = |default: &str| {
        Schema::new().with("priority", Field::new(Rule::Review).default_to(default))
    };
    let meeting = Meeting::new(Some(schema("normal"))).await;
    jobs(&meeting.desk).put("1", Map::from_iter([("town".into(), json!("Ulm"))])).await.unwrap();
    let wanted = Map::from_iter([("priority".into(), json!("normal"))]);
    assert!(jobs(&meeting.desk).put("1", wanted.clone()).await.unwrap().changed());
    assert!(!jobs(&meeting.desk).put("1", wanted).await.unwrap().changed());
    let main = meeting.desk.space("main").unwrap();
    main.apply_schema(&"jobs".parse().unwrap(), &schema("low")).await.unwrap();
    meeting.meet().await;
    assert_eq!(meeting.value("1").await["priority"], "normal");
}

#[tokio::test]
async fn a_dismissal_is_about_what_was_seen_and_two_agree() {
    let meeting = Meeting::new(Some(dispatch_schema())).await;
    jobs(&meeting.desk).create("1", &booking("ana", "10:00", "11:00")).await.unwrap();
    jobs(&meeting.desk).create("2", &booking("ana", "10:30", "11:30")).await.unwrap();
    meeting.meet().await;
    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    for (replica, why) in [(&meeting.desk, "she has help"), (&meeting.van, "both next door")] {
        let reviews = replica.space("main").unwrap().reviews();
        reviews.settle(&review.id, Decision::Dismiss, Some(why)).await.unwrap();
    }
    meeting.meet().await;
    assert!(meeting.reviews().await.is_empty(), "both dismissed it");
    let state = job(&meeting.van, "2").bookings().await.unwrap()[0].state;
    assert_eq!(state, BookingState::Confirmed);

    let mut told = meeting.desk.reviews().watch().await.unwrap();
    for key in ["1", "2"] {
        job(&meeting.desk, key).set("technician", "timo").await.unwrap();
    }
    assert!(told.try_next().is_some());
    let [other] = &open(&meeting.desk).await[..] else { panic!("Timo has no help") };
    assert_ne!(other.id, review.id);
}

#[tokio::test]
async fn a_reason_that_does_not_fit_is_refused() {
    let meeting = Meeting::new(None).await;
    jobs(&meeting.desk).create("1", &json!({ "phone": "100" })).await.unwrap();
    meeting.meet().await;
    job(&meeting.desk, "1").set("phone", "200").await.unwrap();
    job(&meeting.van, "1").set("phone", "300").await.unwrap();
    meeting.meet().await;
    let [review] = &meeting.reviews().await[..] else { panic!("one review") };
    let reviews = meeting.desk.space("main").unwrap().reviews();
    let long = "because ".repeat(100);
    let refused = reviews.settle(&review.id, Decision::Dismiss, Some(&long)).await.unwrap_err();
    assert!(matches!(refused, SettleError::WhyTooLong { len: 800, .. }), "{refused}");
}
