//! Replicas and a relay over real sockets.

use std::collections::BTreeSet;

use rejoin::{Collection, Counter, Link, Replica, Text, WatchEvent};
use rejoin_tests::live::LiveRelay;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

async fn replica(folder: &TempDir, name: &str) -> Replica {
    Replica::open(folder.path().join(name)).await.unwrap()
}

fn jobs(replica: &Replica) -> Collection {
    replica.space("main").unwrap().collection("jobs").unwrap()
}

async fn connect(replica: &Replica, relay: &LiveRelay) {
    let main = replica.space("main").unwrap();
    replica.connect(&relay.url(), &[&main]).await.unwrap();
}

async fn safe(replica: &Replica) {
    replica.status_when(|status| status.link == Link::Safe).await.unwrap();
}

/// Waits until a job's value meets a condition.
async fn job_when(jobs: &Collection, key: &str, met: impl Fn(&Value) -> bool) -> Value {
    let document = jobs.document(key).unwrap();
    let mut watcher = document.watch().await.unwrap();
    loop {
        if let Some(value) = document.get::<Value>().await.unwrap().filter(|value| met(value)) {
            return value;
        }
        watcher.next().await.expect("the replica is open");
    }
}

fn digest(replica: &Replica) -> rejoin::sync::SetDigest {
    replica.space("main").unwrap().digest().unwrap()
}

#[tokio::test]
async fn an_edit_reaches_the_other_clients_watcher() {
    let folder = TempDir::new().unwrap();
    let relay = LiveRelay::start(folder.path().join("relay")).await;
    let (desk, van) = (replica(&folder, "desk").await, replica(&folder, "van").await);
    connect(&desk, &relay).await;
    connect(&van, &relay).await;
    safe(&van).await;
    let mut watcher = jobs(&van).watch().await.unwrap();
    let job = jobs(&desk).create("1", &json!({ "status": "booked" })).await.unwrap();
    job.saved().await.unwrap();
    let Some(WatchEvent::Changed(change)) = watcher.next().await else { panic!("a change") };
    assert_eq!(change.key.as_deref(), Some("1"));
    assert_eq!(change.fields, BTreeSet::from(["status".to_owned()]));
    assert!(change.remote && !change.local);
    safe(&desk).await;
    assert_eq!(desk.status().waiting, 0);
    assert_eq!(digest(&desk), digest(&van));
    relay.stop().await;
}

#[tokio::test]
async fn presence_reaches_peers_and_is_not_stored() {
    let folder = TempDir::new().unwrap();
    let relay = LiveRelay::start(folder.path().join("relay")).await;
    let (desk, van) = (replica(&folder, "desk").await, replica(&folder, "van").await);
    let job = jobs(&desk).create("1", &json!({ "status": "booked" })).await.unwrap();
    connect(&desk, &relay).await;
    connect(&van, &relay).await;
    safe(&desk).await;
    job_when(&jobs(&van), "1", |job| job["status"] == "booked").await;
    let before = digest(&van);
    let here = jobs(&van).document_by_id(job.id());
    let mut watcher = here.watch().await.unwrap();
    let customers = van.space("main").unwrap().collection("customers").unwrap();
    let mut others = customers.watch().await.unwrap();
    job.present(Some(b"editing notes".to_vec()), 60_000).await.unwrap();
    assert_eq!(watcher.next().await, Some(WatchEvent::Presence(job.id())));
    let present = here.presences().await.unwrap();
    assert_eq!(present.len(), 1);
    assert_eq!(present[0].1, b"editing notes");
    job.present(None, 0).await.unwrap();
    assert_eq!(watcher.next().await, Some(WatchEvent::Presence(job.id())));
    assert!(here.presences().await.unwrap().is_empty());
    assert_eq!(others.try_next(), None, "other collections hear nothing of it");
    assert_eq!(digest(&van), before);
    relay.stop().await;
}

#[tokio::test]
async fn a_client_redials_when_the_relay_is_back() {
    let folder = TempDir::new().unwrap();
    let relay = LiveRelay::start(folder.path().join("relay")).await;
    let (desk, van) = (replica(&folder, "desk").await, replica(&folder, "van").await);
    connect(&desk, &relay).await;
    connect(&van, &relay).await;
    let job = jobs(&desk).create("1", &json!({ "status": "booked" })).await.unwrap();
    job_when(&jobs(&van), "1", |job| job["status"] == "booked").await;
    let relay = relay.restart().await;
    // Made while nobody is connected, or while they are dialling.
    job.set("status", "done").await.unwrap();
    jobs(&van).document("1").unwrap().append("notes", "From the van.").await.unwrap();
    job.saved().await.unwrap();
    let both = |job: &Value| job["status"] == "done" && job["notes"] == "From the van.";
    job_when(&jobs(&van), "1", both).await;
    job_when(&jobs(&desk), "1", both).await;
    safe(&desk).await;
    safe(&van).await;
    assert_eq!(digest(&desk), digest(&van));
    relay.stop().await;
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Job {
    customer: String,
    notes: Text,
    parts: Counter,
    tags: Vec<String>,
    site: Site,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Site {
    access: Access,
    photos: Vec<String>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Access {
    hints: Text,
    tries: Counter,
    keys: Vec<String>,
}

async fn first_visit(replica: &Replica, who: &str) {
    let start = json!({ "customer": "Ada" });
    let job = jobs(replica).create("2026-118", &start).await.unwrap();
    let edit = |job: &mut Job| {
        job.notes.push_str(&format!("Notes of {who}. "));
        job.parts.0 += 2;
        job.tags.push(who.to_owned());
        job.site.photos.push(format!("{who}.jpg"));
        job.site.access.hints.push_str(&format!("Hint of {who}. "));
        job.site.access.tries.0 += 1;
        job.site.access.keys.push(format!("key of {who}"));
    };
    job.edit(edit).await.unwrap();
}

#[tokio::test]
async fn what_two_devices_first_use_offline_is_one_thing_three_levels_deep() {
    let folder = TempDir::new().unwrap();
    let relay = LiveRelay::start(folder.path().join("relay")).await;
    let (ann, bob) = (replica(&folder, "ann").await, replica(&folder, "bob").await);
    first_visit(&ann, "Ann").await;
    first_visit(&bob, "Bob").await;
    for replica in [&ann, &bob] {
        connect(replica, &relay).await;
    }
    let both = |job: &Value| {
        job["notes"].as_str().is_some_and(|notes| notes.contains("Ann") && notes.contains("Bob"))
    };
    job_when(&jobs(&ann), "2026-118", both).await;
    job_when(&jobs(&bob), "2026-118", both).await;
    safe(&ann).await;
    safe(&bob).await;
    assert_eq!(jobs(&ann).list().await.unwrap().len(), 1, "one record is one document");
    let at_ann: Job = jobs(&ann).get("2026-118").await.unwrap().unwrap();
    let at_bob: Job = jobs(&bob).get("2026-118").await.unwrap().unwrap();
    assert_eq!(at_ann, at_bob);
    assert_eq!(at_ann.parts.0, 4);
    let sorted = |list: &[String]| BTreeSet::from_iter(list.to_vec());
    assert_eq!(sorted(&at_ann.tags).len(), 2);
    assert_eq!(sorted(&at_ann.site.photos).len(), 2);
    let access = &at_ann.site.access;
    assert!(access.hints.contains("Hint of Ann. ") && access.hints.contains("Hint of Bob. "));
    assert_eq!(access.tries.0, 2);
    assert_eq!(sorted(&access.keys).len(), 2);
    relay.stop().await;
}

#[tokio::test]
async fn a_new_space_is_synced_though_the_session_began_without_it() {
    let folder = TempDir::new().unwrap();
    let relay = LiveRelay::start(folder.path().join("relay")).await;
    let (desk, van) = (replica(&folder, "desk").await, replica(&folder, "van").await);
    connect(&desk, &relay).await;
    safe(&desk).await;
    let branch = desk.space("branch").unwrap().collection("jobs").unwrap();
    branch.create("1", &json!({ "status": "booked" })).await.unwrap().saved().await.unwrap();
    let main = van.space("branch").unwrap();
    van.connect(&relay.url(), &[&main]).await.unwrap();
    safe(&van).await;
    assert_eq!(main.collection("jobs").unwrap().list().await.unwrap().len(), 1);
    relay.stop().await;
}

#[tokio::test]
async fn a_replica_without_a_relay_says_why() {
    let folder = TempDir::new().unwrap();
    let van = replica(&folder, "van").await;
    assert_eq!(van.status().link, Link::Offline);
    assert!(van.connect("http://example.com", &[]).await.is_err());
    assert!(van.connect("not an address", &[]).await.is_err());
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    van.connect(&format!("ws://{free}"), &[]).await.unwrap();
    let status = van.status_when(|status| status.trouble.is_some()).await.unwrap();
    assert_eq!(status.link, Link::Connecting);
    assert!(status.trouble.unwrap().contains("cannot be reached"));
    van.disconnect().await;
    van.status_when(|status| status.link == Link::Offline).await.unwrap();
}
