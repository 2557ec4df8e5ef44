//! What a replica answers when it is asked whether a relay holds the edits made on it.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rejoin::sync::SetAside;
use rejoin::{Collection, Document, Edited, Link, Replica, SaveError, blocking};
use rejoin_tests::line::{Line, Quality};
use rejoin_tests::live::LiveRelay;
use rejoin_tests::processes::{Desk, RelayProcess};
use rejoin_tests::refusal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A desk, on which somebody edited the phone of job 1 while its clock showed no time.
struct Office {
    folder: TempDir,
    relay: LiveRelay,
    desk: Replica,
}

impl Office {
    async fn open() -> Self {
        let folder = TempDir::new().unwrap();
        refusal::add_part_at_no_time(&folder.path().join("desk"), "1");
        Self::open_in(folder).await
    }

    /// One without work that a relay refuses.
    async fn open_sound() -> Self {
        Self::open_in(TempDir::new().unwrap()).await
    }

    async fn open_in(folder: TempDir) -> Self {
        let relay = LiveRelay::start(folder.path().join("relay")).await;
        let desk = Replica::open(folder.path().join("desk")).await.unwrap();
        Self { folder, relay, desk }
    }

    fn jobs(&self) -> Collection {
        self.desk.space("main").unwrap().collection("jobs").unwrap()
    }

    async fn connect(&self, url: &str) {
        self.desk.connect(url, &[&self.desk.space("main").unwrap()]).await.unwrap();
    }

    /// An edit in a part that the relay will never take.
    async fn refused_edit(&self) -> (Document, Edited) {
        let job = self.jobs().document("1").unwrap();
        let edited = job.set("parts[0].name", "valve").await.unwrap();
        (job, edited)
    }

    /// What another device has of a job.
    async fn job_elsewhere(&self, key: &str) -> Option<Value> {
        let van = Replica::open(self.folder.path().join("van")).await.unwrap();
        let main = van.space("main").unwrap();
        van.connect(&self.relay.url(), &[&main]).await.unwrap();
        van.status_when(|status| status.link == Link::Safe).await.unwrap();
        let job = main.collection("jobs").unwrap().get(key).await.unwrap();
        van.close().await;
        job
    }
}

#[track_caller]
fn aside(answer: Result<(), SaveError>) -> Vec<SetAside> {
    match answer {
        Err(SaveError::SetAside(refused)) => refused,
        other => panic!("nothing was refused: {other:?}"),
    }
}

#[tokio::test]
async fn each_of_several_edits_has_an_answer_of_its_own() {
    let office = Office::open().await;
    let (job, edited) = office.refused_edit().await;
    let kept = office.jobs().put("2", json_map(json!({ "phone": "555-0101" }))).await.unwrap();
    let unchanged = office.jobs().put("2", json_map(json!({ "phone": "555-0101" }))).await.unwrap();
    assert!(!unchanged.changed());
    unchanged.saved().await.expect("what changed nothing needs no relay");
    office.connect(&office.relay.url()).await;
    kept.saved().await.unwrap();
    office.jobs().document("2").unwrap().saved().await.unwrap();
    let told = aside(edited.saved().await);
    assert_eq!((told[0].key.as_deref(), told[0].document), (Some("1"), job.id()));
    assert_eq!(told[0].fields, ["parts".to_owned()].into());
    assert!(told[0].reason.contains("no clock shows"), "{told:?}");
    let error = edited.saved().await.unwrap_err().to_string();
    assert!(error.contains("jobs 1 (parts): ") && error.contains("keeps it aside"), "{error}");
    assert_eq!(office.job_elsewhere("2").await, Some(json!({ "phone": "555-0101" })));
}

#[tokio::test]
async fn a_refusal_is_told_to_whoever_asks_later_until_somebody_knows() {
    let office = Office::open().await;
    let (job, edited) = office.refused_edit().await;
    office.connect(&office.relay.url()).await;
    office.desk.status_when(|status| status.set_aside > 0).await.unwrap();
    office.jobs().create("2", &json!({ "phone": "555-0101" })).await.unwrap();
    for _ in 0..2 {
        let told = aside(office.desk.saved().await);
        assert_eq!(told.len(), 2, "the part, and what was written in it: {told:?}");
        assert!(told.iter().all(|it| it.fields == ["parts".to_owned()].into()), "{told:?}");
    }
    assert_eq!(office.job_elsewhere("2").await, Some(json!({ "phone": "555-0101" })));
    aside(job.saved().await);
    office.jobs().document("2").unwrap().saved().await.expect("it is another document");
    // Also after the replica was closed and opened, and while there is no relay.
    office.desk.close().await;
    let desk = Replica::open(office.folder.path().join("desk")).await.unwrap();
    let told = aside(desk.saved().await);
    desk.acknowledge(&told).await.unwrap();
    desk.saved().await.unwrap();
    desk.status_when(|status| status.set_aside == 0).await.unwrap();
    let all = desk.set_aside().unwrap();
    assert!(all.len() == 2 && all.iter().all(|it| it.acknowledged), "the work is kept: {all:?}");
    let closed = edited.saved().await.unwrap_err();
    assert!(matches!(closed, SaveError::Closed), "{closed:?}");
}

/// One edit that is refused costs none of those that follow it.
#[tokio::test]
async fn edits_after_a_refused_one_are_kept() {
    let folder = TempDir::new().unwrap();
    refusal::edit_at_no_time(&folder.path().join("desk"), "1");
    let office = Office::open_in(folder).await;
    let job = office.jobs().document("1").unwrap();
    let status = job.set("status", "booked").await.unwrap();
    let notes = job.append("notes", "Dog in yard.").await.unwrap();
    let more = job.append("notes", " Ring twice.").await.unwrap();
    office.connect(&office.relay.url()).await;
    for edited in [&status, &notes, &more] {
        edited.saved().await.unwrap();
    }
    let told = aside(office.desk.saved().await);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].fields, ["phone".to_owned()].into());
    let kept = json!({ "status": "booked", "notes": "Dog in yard. Ring twice." });
    assert_eq!(office.job_elsewhere("1").await, Some(kept.clone()));
    assert_eq!(office.jobs().get::<Value>("1").await.unwrap(), Some(kept));
}

#[tokio::test]
async fn an_edit_that_is_made_anew_is_saved_when_the_new_one_is() {
    let office = Office::open_sound().await;
    let first = office.jobs().put("1", json_map(json!({ "phone": "555-0100" }))).await.unwrap();
    let job = office.jobs().document("1").unwrap();
    let second = job.append("notes", "Dog in yard.").await.unwrap();
    let actor = job.history(1).await.unwrap().remove(0).actor;
    refusal::act_as(&office.relay.url(), &actor, "1").await;
    office.connect(&office.relay.url()).await;
    second.saved().await.unwrap();
    let elsewhere = office.job_elsewhere("1").await.unwrap();
    assert_eq!(elsewhere["notes"], "Dog in yard.");
    first.saved().await.unwrap();
    job.saved().await.unwrap();
    office.desk.saved().await.unwrap();
    let aside = office.desk.set_aside().unwrap();
    assert!(!aside.is_empty() && aside.iter().all(|it| it.made_anew), "{aside:?}");
    assert_eq!(office.desk.status().set_aside, 0, "nothing is lost");
    assert_eq!(office.job_elsewhere("1").await.unwrap()["phone"], "555-0100");
}

#[tokio::test]
async fn a_line_that_is_cut_and_a_relay_that_is_restarted_only_delay_the_answer() {
    let mut office = Office::open_sound().await;
    let quality = Quality { bytes_per_s: 400_000, lifetime: Duration::from_millis(300) };
    let line = Line::to(&office.relay.url(), quality);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let noise: String = (0..300_000).map(|_| char::from(rng.random_range(33..127_u8))).collect();
    let edited = office.jobs().put("1", json_map(json!({ "photo": noise }))).await.unwrap();
    office.connect(&line.url()).await;
    let (all, one) = tokio::join!(office.desk.saved(), edited.saved());
    all.unwrap();
    one.unwrap();
    assert!(office.job_elsewhere("1").await.is_some());
    let job = office.jobs().document("1").unwrap();
    office.relay = office.relay.restart().await;
    let edited = job.set("phone", "555-0100").await.unwrap();
    edited.saved().await.unwrap();
    assert_eq!(office.job_elsewhere("1").await.unwrap()["phone"], "555-0100");
}

#[tokio::test]
async fn closing_ends_the_wait_and_says_where_the_edits_are() {
    let office = Office::open().await;
    let edited = office.jobs().put("1", json_map(json!({ "phone": "1" }))).await.unwrap();
    let (one, all, ()) = tokio::join!(edited.saved(), office.desk.saved(), office.desk.close());
    for answer in [one, all] {
        let error = answer.unwrap_err();
        assert!(matches!(error, SaveError::Closed), "{error:?}");
        assert!(error.to_string().contains("will be sent when it is open"));
    }
}

#[test]
fn threads_without_async_get_the_same_answers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = TempDir::new().unwrap();
    let relay = runtime.block_on(LiveRelay::start(folder.path().join("relay")));
    let file = folder.path().join("desk");
    refusal::add_part_at_no_time(&file, "1");
    let desk = blocking::Replica::open(file).unwrap();
    let main = desk.space("main").unwrap();
    let jobs = main.collection("jobs").unwrap();
    let refused = jobs.document("1").unwrap().set("parts[0].name", "valve").unwrap();
    let kept = jobs.put("2", json_map(json!({ "status": "booked" }))).unwrap();
    desk.connect(relay.url(), &[&main]).unwrap();
    kept.saved().unwrap();
    aside(refused.saved());
    let told = aside(desk.saved());
    desk.acknowledge(&told).unwrap();
    desk.saved().unwrap();
    assert!(desk.set_aside().unwrap().iter().all(|it| it.acknowledged));
}

#[test]
fn the_command_line_names_what_was_refused_until_somebody_knows() {
    let desk = Desk::new();
    let relay = RelayProcess::start(desk.folder.path().join("relay"));
    refusal::edit_at_no_time(&desk.folder.path().join("a.redb"), "1");
    desk.text("set jobs 2 phone=555-0101");
    let sync = format!("sync {} --once", relay.url());
    for _ in 0..2 {
        let said = desk.refused(&sync);
        assert!(said.contains("jobs 1 (phone), ") && said.contains("no clock shows"), "{said}");
        assert!(said.contains("rejoin status --acknowledge"), "{said}");
    }
    let ended = desk.rejoin.run(["--replica", "a.redb", "sync", &relay.url(), "--once", "--json"]);
    assert_eq!(ended.code, 1);
    let json: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(json["refused"][0]["key"], "1");
    assert_eq!(json["refused"][0]["fields"], json!(["phone"]));
    assert!(json["refused"][0]["reason"].as_str().unwrap().contains("no clock shows"));
    assert!(desk.text("status --unsent").contains("nothing waits; a relay refused"));
    assert!(desk.text("status").contains("set aside   jobs 1 (phone), "));
    assert!(desk.text("status --acknowledge").contains("set aside   jobs 1 (phone), "));
    assert!(desk.text(&sync).contains("safe"));
    assert!(!desk.text("status").contains("jobs 1 ("));
    let kept = desk.json("status")["set_aside"].take();
    assert_eq!((&kept[0]["key"], &kept[0]["acknowledged"]), (&json!("1"), &json!(true)));
    for command in ["status", "status --unsent"] {
        let text = desk.text(command);
        assert!(!text.contains("holds every edit"), "{text}");
    }
}

fn json_map(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("no map: {other}"),
    }
}
