//! Who decided what over whom: each rule of closing, one case each, on changes spelled out by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use rejoin_core::change::ObjectId;
use rejoin_core::lineage::{Action, Lineage, Marks, NewChange, NewOp, OpKey, Question, Standing};
use rejoin_core::schema::{Field, Rule, Schema};
use rejoin_core::{ActorId, ChangeHash, DocumentId, Identity, ReviewId, Settlement};
use serde_json::{Value, json};

/// One document and the people who write in it, each with an actor of their own.
struct Job {
    lineage: Lineage,
    last: BTreeMap<u8, (u64, ChangeHash)>,
    op: u64,
}

/// What one change does beside writing.
#[derive(Default)]
struct How<'a> {
    time_s: i64,
    author: Option<&'a Identity>,
    settlement: Option<Settlement>,
}

impl Job {
    fn new(schema: Schema) -> Self {
        let lineage = Lineage::new(DocumentId([7; 16]), Arc::new(schema));
        Self { lineage, last: BTreeMap::new(), op: 0 }
    }

    /// A change of a person who knows these changes and their own.
    fn change(
        &mut self,
        who: u8,
        knows: &[ChangeHash],
        how: How<'_>,
        ops: Vec<NewOp>,
    ) -> ChangeHash {
        let (seq, own) = self.last.get(&who).map_or((1, None), |(seq, own)| (seq + 1, Some(*own)));
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.op.to_be_bytes());
        hash[8] = who;
        let hash = ChangeHash(hash);
        let mut deps = knows.to_vec();
        deps.extend(own.filter(|own| !knows.contains(own)));
        let (author, message) =
            (how.author.map(Identity::to_author), how.settlement.map(|it| it.to_message()));
        let change = NewChange {
            hash,
            deps: &deps,
            actor: &actor(who),
            seq,
            time_s: how.time_s,
            author: author.as_deref(),
            message: message.as_deref(),
        };
        self.lineage.add(&change, ops);
        self.last.insert(who, (seq, hash));
        hash
    }

    fn op(&mut self, object: ObjectId, key: &str, action: Action) -> NewOp {
        self.op += 1;
        let key = OpKey::Map(key.to_owned());
        NewOp { counter: self.op, object, key, action, preds: Vec::new() }
    }

    fn put_as(
        &mut self,
        who: u8,
        knows: &[ChangeHash],
        how: How<'_>,
        value: impl Into<Value>,
    ) -> ChangeHash {
        let op = self.op(ObjectId::Root, "field", Action::Put(value.into()));
        self.change(who, knows, how, vec![op])
    }

    fn put(&mut self, who: u8, knows: &[ChangeHash], value: impl Into<Value>) -> ChangeHash {
        self.put_as(who, knows, How::default(), value)
    }

    /// Decides between the values of these changes.
    fn settle(
        &mut self,
        who: u8,
        knows: &[ChangeHash],
        between: &[ChangeHash],
        value: &str,
    ) -> ChangeHash {
        let review = self.standing().unsettled[0].review;
        let closes = between.iter().map(ChangeHash::short).collect();
        let settlement = Some(Settlement { review, closes, dismissed: false, why: None });
        self.put_as(who, knows, How { settlement, ..How::default() }, value)
    }

    fn standing(&self) -> Standing {
        let standings = self.lineage.standings();
        let [standing] = &standings[..] else { panic!("one field in question: {standings:?}") };
        standing.clone()
    }

    /// The value that stands, and the values people are asked about.
    fn asked(&self) -> (Option<Value>, Question, Vec<Value>) {
        let standing = self.standing();
        let [unsettled] = &standing.unsettled[..] else { panic!("one question: {standing:?}") };
        let mut values: Vec<Value> =
            unsettled.candidates.iter().map(|it| it.value.clone().unwrap_or_default()).collect();
        values.sort_by_key(ToString::to_string);
        (standing.value, unsettled.question, values)
    }

    /// The value that stands, where nobody is asked anything.
    fn agreed(&self) -> Option<Value> {
        for standing in self.lineage.standings() {
            assert_eq!(standing.unsettled, [], "nothing to ask");
        }
        self.lineage.blame().into_iter().find(|it| it.place.to_string() == "field")?.value
    }
}

fn actor(who: u8) -> ActorId {
    ActorId(vec![who; 16])
}

fn rule(rule: Rule) -> Schema {
    Schema::new().with("field", rule)
}

const ANN: u8 = 1;
const BO: u8 = 2;
const CY: u8 = 3;

#[test]
fn concurrent_values_are_asked_about_and_what_was_agreed_stands() {
    let mut job = Job::new(Schema::new());
    let first = job.put(ANN, &[], "100");
    job.put(ANN, &[], "200");
    job.put(BO, &[first], "300");
    let asked = (Some(json!("100")), Question::Conflict, vec![json!("200"), json!("300")]);
    assert_eq!(job.asked(), asked);
}

#[test]
fn equal_values_are_agreement() {
    let mut job = Job::new(Schema::new());
    let first = job.put(ANN, &[], "100");
    job.put(ANN, &[], "200");
    job.put(BO, &[first], "200");
    assert_eq!(job.agreed(), Some(json!("200")));
}

#[test]
fn who_writes_on_unaware_adds_a_candidate() {
    let mut job = Job::new(Schema::new());
    let first = job.put(ANN, &[], "100");
    let ann = job.put(ANN, &[], "200");
    let bo = job.put(BO, &[first], "300");
    let review = job.standing().unsettled[0].review;
    job.put(CY, &[ann, bo], "400");
    let asked =
        (Some(json!("100")), Question::Conflict, vec![json!("200"), json!("300"), json!("400")]);
    assert_eq!(job.asked(), asked);
    assert_eq!(job.standing().unsettled[0].review, review, "the same review all the time");
}

#[test]
fn a_settlement_closes_what_it_names_and_nothing_else() {
    let mut job = Job::new(Schema::new());
    let first = job.put(ANN, &[], "100");
    let ann = job.put(ANN, &[], "200");
    let bo = job.put(BO, &[first], "300");
    job.put(CY, &[first], "400");
    let settled = job.settle(ANN, &[ann, bo], &[ann, bo], "300");
    let asked = (Some(json!("100")), Question::Conflict, vec![json!("300"), json!("400")]);
    assert_eq!(job.asked(), asked);
    let said = job.lineage.settlement(&settled).expect("it says so").closes.len();
    assert_eq!((said, job.lineage.settled().len()), (2, 1));
}

#[test]
fn two_decisions_that_differ_are_a_disagreement() {
    let mut job = Job::new(Schema::new());
    let first = job.put(ANN, &[], "100");
    let ann = job.put(ANN, &[], "200");
    let bo = job.put(BO, &[first], "300");
    let review = job.standing().unsettled[0].review;
    let settlement = |why: &str| {
        let closes = vec![ann.short(), bo.short()];
        Some(Settlement { review, closes, dismissed: false, why: Some(why.to_owned()) })
    };
    let how = How { settlement: settlement("she called"), ..How::default() };
    let one = job.put_as(ANN, &[ann, bo], how, "200");
    let how = How { settlement: settlement("he called"), ..How::default() };
    let other = job.put_as(BO, &[ann, bo], how, "300");
    let asked = (Some(json!("100")), Question::Disagreement, vec![json!("200"), json!("300")]);
    assert_eq!(job.asked(), asked);
    job.settle(CY, &[one, other], &[one, other], "300");
    assert_eq!(job.agreed(), Some(json!("300")));
}

#[test]
fn in_an_order_the_furthest_stands_and_a_step_back_is_asked_about() {
    let mut job = Job::new(rule(Rule::order(["booked", "en_route", "done"])));
    let first = job.put(ANN, &[], "booked");
    let ann = job.put(ANN, &[], "en_route");
    let bo = job.put(BO, &[first], "done");
    assert_eq!(job.agreed(), Some(json!("done")));
    job.put(CY, &[ann, bo], "booked");
    let (stands, question, _) = job.asked();
    assert_eq!((stands, question), (Some(json!("done")), Question::Conflict));
    let between: Vec<_> =
        job.standing().unsettled[0].candidates.iter().map(|it| it.change).collect();
    job.settle(ANN, &between, &between, "booked");
    assert_eq!(job.agreed(), Some(json!("booked")), "a person may go back");
}

#[test]
fn the_owner_decides_unless_the_owner_is_of_two_minds() {
    let crm = Identity::user("CRM").with_role("crm");
    let as_crm = || How { author: Some(&crm), ..How::default() };
    let mut job = Job::new(rule(Rule::owner("crm")));
    let first = job.put(ANN, &[], "100");
    job.put_as(BO, &[first], as_crm(), "200");
    job.put(ANN, &[], "300");
    assert_eq!(job.agreed(), Some(json!("200")));
    job.put_as(CY, &[first], as_crm(), "400");
    let (stands, question, values) = job.asked();
    assert_eq!((stands, question), (Some(json!("100")), Question::Conflict));
    assert_eq!(values, [json!("200"), json!("300"), json!("400")]);
}

#[test]
fn the_largest_the_smallest_and_the_latest_stand() {
    let written = |rule_of: Rule, skew: i64| {
        let mut job = Job::new(rule(rule_of));
        let first = job.put(ANN, &[], 5);
        job.put_as(ANN, &[], How { time_s: 1_000, ..How::default() }, 9);
        job.put_as(BO, &[first], How { time_s: 1_000 + skew, ..How::default() }, 2);
        job
    };
    assert_eq!(written(Rule::Max, 0).agreed(), Some(json!(9)));
    assert_eq!(written(Rule::Min, 0).agreed(), Some(json!(2)));
    let Rule::Latest { skew_s } = Rule::latest() else { panic!("the latest") };
    assert_eq!(written(Rule::latest(), skew_s as i64).agreed(), Some(json!(2)));
    let (stands, question, values) = written(Rule::latest(), skew_s as i64 + 1).asked();
    assert_eq!((stands, question), (Some(json!(5)), Question::Conflict));
    assert_eq!(values, [json!(2), json!(9)], "beyond what clocks can tell, people decide");
    assert!([Some(json!(2)), Some(json!(9))].contains(&written(Rule::Any, 0).agreed()));
}

fn dispatch_only() -> Schema {
    Schema::new().with("field", Field::new(Rule::Review).writers(["dispatch"]))
}

#[test]
fn who_may_not_write_changes_nothing_until_somebody_takes_it() {
    let ann = Identity::user("Ann").with_role("dispatch");
    let mut job = Job::new(dispatch_only());
    let first = job.put_as(ANN, &[], How { author: Some(&ann), ..How::default() }, "timo");
    let refused = job.put(BO, &[first], "ana");
    assert_eq!(job.asked(), (Some(json!("timo")), Question::Refused, vec![json!("ana")]));
    job.settle(ANN, &[refused], &[refused], "ana");
    assert_eq!(job.agreed(), Some(json!("ana")));
}

#[test]
fn a_role_is_claimed_at_the_first_change_or_never() {
    let bo = Identity::user("Bo").with_role("dispatch");
    let mut job = Job::new(dispatch_only());
    let first = job.put(BO, &[], "timo");
    job.put_as(BO, &[first], How { author: Some(&bo), ..How::default() }, "ana");
    let (stands, question, values) = job.asked();
    assert_eq!(
        (stands, question, values),
        (Some(json!("ana")), Question::Refused, vec![json!("ana")])
    );
    assert_eq!(job.standing().agreed, None, "it is seen, and counts for nothing");
    assert_eq!(job.lineage.author(&first), None);
}

#[test]
fn a_role_in_bytes_of_another_program_is_none() {
    let mut job = Job::new(dispatch_only());
    let op = job.op(ObjectId::Root, "field", Action::Put(json!("ana")));
    let change = NewChange {
        hash: ChangeHash([9; 32]),
        deps: &[],
        actor: &actor(BO),
        seq: 1,
        time_s: 0,
        author: Some(b"dispatch"),
        message: None,
    };
    job.lineage.add(&change, [op]);
    assert_eq!(job.asked(), (Some(json!("ana")), Question::Refused, vec![json!("ana")]));
    assert_eq!(job.standing().agreed, None, "it is seen, and counts for nothing");
}

/// What was there before a rule said who may write stays in sight, and is nobody's agreement.
#[test]
fn a_value_does_not_disappear_because_a_rule_came() {
    let ann = Identity::user("Ann").with_role("dispatch");
    let mut job = Job::new(Schema::new());
    let first = job.put(BO, &[], "timo");
    let second = job.put(CY, &[first], "ana");
    job.lineage.set_schema(Arc::new(dispatch_only()));
    let (stands, question, values) = job.asked();
    assert_eq!((stands, question), (Some(json!("ana")), Question::Refused), "the last is seen");
    assert_eq!(values, [json!("ana"), json!("timo")]);
    assert_eq!(job.standing().agreed, None);
    let standing = job.standing();
    assert_eq!(standing.stays(Question::Refused), None, "who dismisses it does not take it");

    job.put_as(ANN, &[second], How { author: Some(&ann), ..How::default() }, "bo");
    assert_eq!(job.agreed(), Some(json!("bo")), "who may write has seen it, and decided");
}

#[test]
fn people_correct_themselves_in_an_order_and_undo_nobody_else() {
    let order = || Rule::order(["booked", "en_route", "done"]);
    let by = |who: &'static str| Identity::user(who);
    let (ann, bo) = (by("Ann"), by("Bo"));
    let as_ann = || How { author: Some(&ann), ..How::default() };
    let as_bo = || How { author: Some(&bo), ..How::default() };
    let mut job = Job::new(Schema::new().with("field", order()));
    let booked = job.put_as(ANN, &[], as_ann(), "booked");
    let done = job.put_as(BO, &[booked], as_bo(), "done");
    let back = job.put_as(BO, &[done], How::default(), "booked");
    assert_eq!(job.agreed(), Some(json!("booked")), "Bo corrects himself");
    let on = job.put_as(ANN, &[back], How::default(), "en_route");
    let done = job.put_as(BO, &[on], How::default(), "done");
    let back = job.put_as(BO, &[done], How::default(), "en_route");
    assert_eq!(job.agreed(), Some(json!("en_route")), "and may come back to what Ann left");
    job.put_as(BO, &[back], How::default(), "booked");
    let (stands, question, _) = job.asked();
    assert_eq!(stands, Some(json!("en_route")));
    assert_eq!(question, Question::Conflict, "behind that somebody decides");
}

#[test]
fn two_who_delete_do_not_outvote_who_wrote_on() {
    let mut job = Job::new(Schema::new());
    let first = job.put(ANN, &[], "100");
    for who in [ANN, BO] {
        let op = job.op(ObjectId::Root, Marks::THEIRS.deleted, Action::Put(json!(true)));
        job.change(who, &[first], How::default(), vec![op]);
    }
    job.put(CY, &[first], "200");
    let (stands, question, values) = job.asked();
    assert_eq!((stands, question), (None, Question::Removal));
    assert_eq!(values, [Value::Null, json!(true), json!(true)]);
}

#[test]
fn a_plain_value_counts_again_once_the_container_beside_it_is_gone() {
    let mut job = Job::new(Schema::new());
    let text = job.op(ObjectId::Root, "field", Action::MakeText);
    let made = (text.counter, actor(ANN));
    let first = job.change(ANN, &[], How::default(), vec![text]);
    let one = job.put(ANN, &[], "one");
    job.put(BO, &[first], "two");
    assert!(job.standing().holds_container);
    let mut put = job.op(ObjectId::Root, "field", Action::Put(json!("three")));
    put.preds = vec![made];
    job.change(CY, &[one], How::default(), vec![put]);
    assert!(!job.standing().holds_container, "a program that knows no such rule wrote over it");
}

#[test]
fn another_schema_decides_everything_anew() {
    let mut job = Job::new(Schema::new());
    let first = job.put(ANN, &[], 1);
    job.put(ANN, &[], 2);
    job.put(BO, &[first], 3);
    assert_eq!(job.asked().1, Question::Conflict);
    job.lineage.set_schema(Arc::new(rule(Rule::Max)));
    assert_eq!(job.agreed(), Some(json!(3)));
    job.lineage.set_schema(Arc::new(Schema::new()));
    assert_eq!(job.asked().0, Some(json!(1)));
}

#[test]
fn what_comes_twice_or_too_early_is_left_alone() {
    let mut job = Job::new(Schema::new());
    job.put(ANN, &[], "100");
    let before = job.lineage.blame();
    job.put(BO, &[ChangeHash([1; 32])], "200");
    assert_eq!((job.lineage.len(), job.lineage.blame()), (1, before));
    let again = NewChange {
        hash: job.last[&ANN].1,
        deps: &[],
        actor: &actor(ANN),
        seq: 1,
        time_s: 0,
        author: None,
        message: None,
    };
    job.lineage.add(&again, []);
    assert_eq!(job.lineage.len(), 1);
}

#[test]
fn a_settlement_that_names_what_was_never_asked_settles_nothing() {
    let mut job = Job::new(Schema::new());
    let first = job.put(ANN, &[], "100");
    let ann = job.put(ANN, &[], "200");
    let bo = job.put(BO, &[first], "300");
    let (review, closes) = (ReviewId([3; 16]), vec![ann.short(), bo.short()]);
    let settlement = Some(Settlement { review, closes, dismissed: true, why: None });
    job.put_as(CY, &[ann, bo], How { settlement, ..How::default() }, "300");
    assert_eq!(job.agreed(), Some(json!("300")), "it decided about what it names");
    assert_eq!(job.lineage.settled(), [], "and nobody's review was settled");
}

#[test]
fn reviews_have_these_ids_for_ever() {
    let mut job = Job::new(dispatch_only());
    let first = job.put(ANN, &[], "100");
    let refused = job.standing().unsettled[0].review.to_string();
    job.lineage.set_schema(Arc::new(Schema::new()));
    let ann = job.put(ANN, &[], "200");
    let bo = job.put(BO, &[first], "300");
    let conflict = job.standing().unsettled[0].review.to_string();
    job.settle(CY, &[ann, bo], &[ann, bo], "300");
    job.put(ANN, &[], "400");
    let again = job.standing().unsettled[0].review.to_string();
    let golden = [
        "1202f52c345d4e3e748e3a40f44332f2",
        "78d830e50f5dd230861e27fbac1969bf",
        "9c151d572d3f712ae2d749132e4fb6cf",
    ];
    assert_eq!([&*refused, &*conflict, &*again], golden);
}

/// A history of this many changes by as many actors, one after the other, takes no time worth
/// naming and little memory; with a number for every actor it would take gigabytes.
#[test]
fn many_actors_in_a_row_are_one_chain() {
    let mut job = Job::new(Schema::new());
    let mut last = Vec::new();
    for count in 0..30_000_u32 {
        job.op += 1;
        let op = NewOp {
            counter: job.op,
            object: ObjectId::Root,
            key: OpKey::Map("field".to_owned()),
            action: Action::Put(json!(count)),
            preds: Vec::new(),
        };
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&count.to_be_bytes());
        let change = NewChange {
            hash: ChangeHash(hash),
            deps: &last,
            actor: &ActorId(count.to_be_bytes().to_vec()),
            seq: 1,
            time_s: 0,
            author: None,
            message: None,
        };
        job.lineage.add(&change, [op]);
        last = vec![ChangeHash(hash)];
    }
    assert_eq!(job.agreed(), Some(json!(29_999)));
}
