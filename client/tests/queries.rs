//! Lists of documents that fit conditions: the same with an index and without, and live.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rejoin::query::{Condition, Difference, Plan};
use rejoin::schema::{Field, Kind, Rule, Schema};
use rejoin::{Collection, Item, Query, ReadError, Replica, Space};
use serde_json::{Map, Value, json};

type Job = Map<String, Value>;

async fn open(folder: &Path) -> (Replica, Space) {
    let replica = Replica::open(folder.join("desk.redb")).await.unwrap();
    let space = replica.space("main").unwrap();
    (replica, space)
}

#[derive(Clone, Copy)]
enum Indexes {
    None,
    /// Of three fields.
    Single,
    /// And of each of them together with others.
    Double,
}

fn schema(indexes: Indexes) -> Schema {
    let field = |kind: Kind, then: &[&str]| {
        let field = Field::new(Rule::Any).kind(kind);
        match indexes {
            Indexes::None => field,
            Indexes::Single => field.indexed(),
            Indexes::Double => then.iter().fold(field.indexed(), |it, then| it.indexed_then(*then)),
        }
    };
    Schema::new()
        .with("technician", field(Kind::String, &["starts_at", "status", "price"]))
        .with("starts_at", field(Kind::Time, &["technician", "price"]))
        .with("price", field(Kind::Number, &["technician", "starts_at", "status"]))
        .with("status", Field::new(Rule::Any))
}

async fn rule(space: &Space, collection: &str, indexes: Indexes) {
    let name = collection.parse().unwrap();
    space.apply_schema(&name, &schema(indexes)).await.unwrap();
}

/// The numbers that a seed leads to, each below a bound.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_of<T: Clone>(&mut self, some: &[T]) -> T {
        some[self.below(some.len() as u64) as usize].clone()
    }

    fn value(&mut self, field: &str) -> Value {
        let long = "x".repeat(300);
        match field {
            "technician" => self.one_of(&[
                json!("ana"),
                json!("bo"),
                json!(""),
                json!(format!("{long}a")),
                json!(format!("{long}b")),
                json!(null),
            ]),
            "starts_at" => {
                let hour = self.below(24);
                self.one_of(&[
                    json!(format!("2026-05-04T{hour:02}:00:00Z")),
                    json!(format!("2026-05-04T{hour:02}:00:00+02:00")),
                    json!("2026-05-04"),
                    json!("some day"),
                ])
            }
            "price" => self.one_of(&[json!(5), json!(5.0), json!(-2.5), json!(u64::MAX), json!(0)]),
            _ => self.one_of(&[json!("booked"), json!("done"), json!(true)]),
        }
    }

    fn fields(&mut self) -> Job {
        let fields = ["technician", "starts_at", "price", "status"];
        let some: Vec<_> = fields.into_iter().filter(|_| self.below(5) > 0).collect();
        some.into_iter().map(|field| (field.to_owned(), self.value(field))).collect()
    }

    fn query(&mut self, jobs: &Collection) -> Query<Job> {
        let mut query = jobs.query::<Job>();
        let fields = ["technician", "starts_at", "price", "status"];
        for _ in 0..self.below(3) {
            let field = self.one_of(&fields);
            let (one, other) = (self.value(field), self.value(field));
            let condition = match self.below(4) {
                0 => Condition::from(one),
                1 => Condition::from(one..other),
                2 => Condition::from(one..),
                _ => Condition::from(..=other),
            };
            query = query.filter(field, condition);
        }
        for _ in 0..self.below(3) {
            let field = self.one_of(&fields);
            query = match self.below(2) {
                0 => query.sort(field),
                _ => query.sort_falling(field),
            };
        }
        if self.below(2) == 0 { query.limit(self.below(12) as usize) } else { query }
    }
}

/// What a query found, without what differs between two collections.
fn keys(items: &[Item<Job>]) -> Vec<(Option<String>, Job)> {
    items.iter().map(|item| (item.key.clone(), item.value.clone())).collect()
}

#[tokio::test]
async fn an_index_changes_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (_replica, space) = open(folder.path()).await;
    let all = [("single", Indexes::Single), ("double", Indexes::Double), ("plain", Indexes::None)];
    for (name, indexes) in all {
        rule(&space, name, indexes).await;
    }
    let [single, double, plain] = all.map(|(name, _)| space.collection(name).unwrap());
    let mut random = Random(7);
    let (mut by_index, mut by_two) = (0, 0);
    for round in 0..120_u64 {
        let key = format!("{}", random.below(60));
        let fields = random.fields();
        for jobs in [&single, &double, &plain] {
            match round % 9 {
                8 if jobs.get::<Job>(&key).await.unwrap().is_some() => {
                    jobs.document(&key).unwrap().delete().await.unwrap();
                }
                _ => drop(jobs.put(&key, fields.clone()).await.unwrap()),
            }
        }
        if round < 40 {
            continue;
        }
        for seed in 0..6 {
            let seed = round * 100 + seed;
            let of = |jobs: &Collection| Random(seed).query(jobs);
            let other = of(&plain);
            assert!(matches!(other.plan().await.unwrap(), Plan::Scan(_)));
            let wanted = other.get().await.unwrap();
            for jobs in [&single, &double] {
                let one = of(jobs);
                let plan = one.plan().await.unwrap();
                by_index += u32::from(matches!(plan, Plan::Index { .. }));
                by_two += u32::from(matches!(plan, Plan::Index { then: Some(_), .. }));
                let found = one.get().await.unwrap();
                // Documents that are alike stand by their ids, which differ between collections.
                let sorted = |items: &[Item<Job>]| {
                    let mut keys = keys(items);
                    keys.sort_by_key(|(key, _)| key.clone());
                    keys
                };
                assert_eq!(found.len(), wanted.len(), "{one:?}");
                assert_eq!(one.count().await.unwrap(), other.count().await.unwrap(), "{one:?}");
                let unlimited = one.count().await.unwrap() == found.len() as u64;
                if unlimited {
                    assert_eq!(sorted(&found), sorted(&wanted), "{one:?}");
                }
            }
        }
    }
    assert!(by_two > 10, "{by_two} queries went by an index of two fields");
    assert!(by_index > 100, "{by_index} queries went by an index");
}

#[tokio::test]
async fn an_order_by_an_index_is_the_order_of_a_look_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (_replica, space) = open(folder.path()).await;
    let jobs = space.collection("jobs").unwrap();
    let mut random = Random(11);
    for key in 0..80 {
        jobs.put(&key.to_string(), random.fields()).await.unwrap();
    }
    rule(&space, "jobs", Indexes::None).await;
    // Any question, and then the one that an index of two fields is for.
    let query_of = |seed: u64| {
        let mut random = Random(seed);
        if seed < 200 {
            return random.query(&jobs);
        }
        let technician = random.value("technician");
        let query =
            jobs.query::<Job>().filter("technician", technician).limit(1 + seed as usize % 9);
        if seed.is_multiple_of(2) {
            query.sort("starts_at")
        } else {
            query.sort_falling("starts_at")
        }
    };
    let mut wanted = BTreeMap::new();
    for seed in 0..240 {
        wanted.insert(seed, keys(&query_of(seed).get().await.unwrap()));
    }
    for (indexes, least) in [(Indexes::Single, (50, 0)), (Indexes::Double, (50, 40))] {
        rule(&space, "jobs", indexes).await;
        let mut by = (0, 0);
        for (seed, wanted) in &wanted {
            let query = query_of(*seed);
            let plan = query.plan().await.unwrap();
            by.0 += u32::from(matches!(plan, Plan::Index { .. }));
            by.1 += u32::from(matches!(plan, Plan::Index { then: Some(_), order: Some(_), .. }));
            assert_eq!(keys(&query.get().await.unwrap()), *wanted, "{query:?}");
        }
        assert!(by.0 > least.0 && by.1 >= least.1, "{by:?} queries went by an index");
    }
}

#[tokio::test]
async fn a_plan_tells_how_a_query_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (_replica, space) = open(folder.path()).await;
    let jobs = space.collection("jobs").unwrap();
    let query = || jobs.query::<Job>();
    let said = async |query: Query<Job>| query.plan().await.unwrap().to_string();
    assert!(said(query().filter("technician", "ana")).await.contains("`index = true`"));
    rule(&space, "jobs", Indexes::Single).await;
    assert_eq!(
        said(query().filter("status", "done").filter("technician", "ana")).await,
        "looks technician up in its index"
    );
    let first = query().sort("starts_at").limit(5);
    assert_eq!(said(first).await, "follows the index of starts_at, and stops when it has enough");
    assert!(said(query().sort("starts_at")).await.starts_with("looks at all"), "all are wanted");
    assert!(said(query().filter("status", "done")).await.starts_with("looks at all"));
    rule(&space, "jobs", Indexes::Double).await;
    let ana = || query().filter("technician", "ana");
    assert_eq!(
        said(ana().filter("starts_at", "2026-05-04"..).sort_falling("starts_at").limit(5)).await,
        "looks technician and starts_at up in their index, and stops when it has enough"
    );
    assert_eq!(
        said(ana().filter("status", "done").sort("price")).await,
        "looks technician and status up in their index"
    );
    assert_eq!(said(ana()).await, "looks technician up in its index");
}

#[tokio::test]
async fn what_differs_leads_from_each_list_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, space) = open(folder.path()).await;
    let jobs = space.collection("jobs").unwrap();
    rule(&space, "jobs", Indexes::Single).await;
    for (key, price) in [("a", 3), ("b", 1), ("c", 2), ("d", 9)] {
        jobs.put(key, job("ana", price)).await.unwrap();
    }
    let query = jobs.query::<Job>().filter("technician", "ana").sort("price").limit(3);
    let mut live = query.watch().await.unwrap();
    let mut list = live.first();
    assert_eq!(named(&list), ["b", "c", "a"]);
    assert!(live.first().is_empty(), "it is handed out once");
    let steps: [(&str, Job, &[&str]); 6] = [
        ("e", job("ana", 0), &["e", "b", "c"]),
        ("e", job("bo", 0), &["b", "c", "a"]),
        ("b", job("ana", 5), &["c", "a", "b"]),
        ("d", job("ana", 1), &["d", "c", "a"]),
        (
            "c",
            job("ana", 2).into_iter().chain([("note".to_owned(), json!(1))]).collect(),
            &["d", "c", "a"],
        ),
        ("d", job("", 1), &["c", "a", "b"]),
    ];
    for (key, fields, wanted) in steps {
        jobs.put(key, fields).await.unwrap();
        let differences = live.next().await.unwrap().expect("it is open");
        differences.into_iter().for_each(|it| it.carry_out(&mut list));
        assert_eq!(named(&list), wanted);
        assert_eq!(list, query.get().await.unwrap());
    }
    jobs.document("a").unwrap().delete().await.unwrap();
    let differences = live.next().await.unwrap().expect("it is open");
    assert!(matches!(differences[0], Difference::Removed { at: 1, .. }), "{differences:?}");
    // What does not touch the list is not told of.
    jobs.put("z", job("bo", 1)).await.unwrap();
    jobs.put("c", job("ana", 1)).await.unwrap();
    let differences = live.next().await.unwrap().expect("it is open");
    assert!(matches!(&differences[..], [Difference::Changed { at: 0, .. }]), "{differences:?}");
    replica.close().await;
    assert_eq!(live.next().await.unwrap(), None);
}

#[tokio::test]
async fn live_lists_come_to_what_a_look_finds() {
    let folder = tempfile::tempdir().unwrap();
    let (_replica, space) = open(folder.path()).await;
    let jobs = space.collection("jobs").unwrap();
    rule(&space, "jobs", Indexes::Single).await;
    let mut random = Random(23);
    for key in 0..30 {
        jobs.put(&key.to_string(), random.fields()).await.unwrap();
    }
    let mut watched = Vec::new();
    for seed in 0..24 {
        let query = Random(seed).query(&jobs);
        let mut live = query.watch().await.unwrap();
        let list = live.first();
        watched.push((query, live, list));
    }
    for _ in 0..80 {
        for _ in 0..=random.below(3) {
            let key = random.below(30).to_string();
            match random.below(6) {
                0 if jobs.get::<Job>(&key).await.unwrap().is_some() => {
                    jobs.document(&key).unwrap().delete().await.unwrap();
                }
                _ => drop(jobs.put(&key, random.fields()).await.unwrap()),
            }
        }
        for (query, live, list) in &mut watched {
            let wanted = query.get().await.unwrap();
            while *list != wanted {
                let next = tokio::time::timeout(Duration::from_secs(20), live.next()).await;
                let differences = next.unwrap_or_else(|_| panic!("{query:?} tells of nothing"));
                let differences = differences.unwrap().expect("it is open");
                differences.into_iter().for_each(|it| it.carry_out(list));
            }
        }
    }
}

#[tokio::test]
async fn a_few_of_many_are_found_in_order_without_a_look_at_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (_replica, space) = open(folder.path()).await;
    let jobs = space.collection("jobs").unwrap();
    rule(&space, "jobs", Indexes::Single).await;
    let rows =
        (0..600).map(|at| (at.to_string(), job(["ana", "bo"][at % 2], (at * 7 % 600) as i64)));
    jobs.put_all(rows.collect()).await.unwrap();
    let query = jobs.query::<Job>().filter("technician", "ana").sort("price");
    let few = query.clone().limit(4);
    assert_eq!(
        few.plan().await.unwrap().to_string(),
        "follows the index of price among what it looked up in that of technician, and stops when it has enough"
    );
    let all = query.get().await.unwrap();
    assert_eq!(all.len(), 300);
    assert_eq!(few.get().await.unwrap(), all[..4]);
    let some = query.filter("price", 100..200);
    let wanted: Vec<_> = some.get().await.unwrap();
    assert_eq!(some.clone().limit(7).get().await.unwrap(), wanted[..7]);
    assert_eq!(some.limit(7).count().await.unwrap(), wanted.len() as u64);
}

fn job(technician: &str, price: i64) -> Job {
    let fields = json!({ "technician": technician, "price": price });
    fields.as_object().cloned().unwrap()
}

fn named(list: &[Item<Job>]) -> Vec<&str> {
    list.iter().map(|item| item.key.as_deref().unwrap_or_default()).collect()
}

#[tokio::test]
async fn an_index_is_whole_after_a_program_that_knows_of_none() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, space) = open(folder.path()).await;
    let jobs = space.collection("jobs").unwrap();
    rule(&space, "jobs", Indexes::Single).await;
    for key in 0..600 {
        jobs.put(&key.to_string(), job(if key < 400 { "ana" } else { "bo" }, key)).await.unwrap();
    }
    let ana = || jobs.query::<Job>().filter("technician", "ana");
    assert_eq!(ana().count().await.unwrap(), 400);
    replica.close().await;
    {
        // Such a program derives by rules with another number, and leaves that number behind.
        let database = redb::Database::open(folder.path().join("desk.redb")).unwrap();
        let txn = database.begin_write().unwrap();
        let index =
            redb::TableDefinition::<(&str, &str, &str, &[u8], [u8; 16]), u64>::new("index-1");
        let indexed = redb::TableDefinition::<(u64, &str), &[u8]>::new("indexed-1");
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta-2");
        txn.open_table(index).unwrap().retain(|_, number| number % 2 == 0).unwrap();
        txn.open_table(indexed).unwrap().retain(|(number, _), _| number % 2 == 0).unwrap();
        txn.open_table(meta).unwrap().insert("derived", [0, 0, 0, 2].as_slice()).unwrap();
        txn.commit().unwrap();
    }
    let (replica, space) = open(folder.path()).await;
    let jobs = space.collection("jobs").unwrap();
    let ana = || jobs.query::<Job>().filter("technician", "ana");
    assert_eq!(ana().get().await.unwrap().len(), 400, "nothing is missed meanwhile");
    assert_eq!(ana().count().await.unwrap(), 400);
    replica.caught_up().await.unwrap();
    assert!(matches!(ana().plan().await.unwrap(), Plan::Index { .. }));
    assert_eq!(ana().get().await.unwrap().len(), 400);
}

#[tokio::test]
async fn a_document_that_does_not_fit_the_type_costs_no_difference() {
    #[derive(Debug, Clone, PartialEq, serde::Deserialize)]
    struct Priced {
        price: i64,
    }
    let folder = tempfile::tempdir().unwrap();
    let (_replica, space) = open(folder.path()).await;
    let jobs = space.collection("jobs").unwrap();
    jobs.put("a", job("ana", 1)).await.unwrap();
    let mut live = jobs.query::<Priced>().sort("price").watch().await.unwrap();
    let mut list = live.first();
    jobs.put("b", json!({ "price": "many" }).as_object().cloned().unwrap()).await.unwrap();
    jobs.put("c", job("ana", 2)).await.unwrap();
    let named = jobs.document("b").unwrap().id();
    let error = live.next().await.expect_err("b has no price that is a number");
    assert!(matches!(error, ReadError::Type { document, .. } if document == named), "{error}");
    assert!(error.to_string().contains(&named.to_string()), "{error}");
    jobs.put("b", job("ana", 0)).await.unwrap();
    while list.len() < 3 {
        let differences = live.next().await.unwrap().expect("it is open");
        differences.into_iter().for_each(|it| it.carry_out(&mut list));
    }
    let prices: Vec<_> = list.iter().map(|item| item.value.price).collect();
    assert_eq!(prices, [0, 1, 2]);
}
