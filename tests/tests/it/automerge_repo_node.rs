//! The endpoint for automerge-repo with the JavaScript clients people have: Node processes and
//! native replicas that meet at a relay. Every story is played with both versions of the packages.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rejoin::sync::PeerId;
use rejoin::{Counter, Text, WatchEvent};
use rejoin_tests::foreign::{automerge_of, made_up_document, recorded_document};
use rejoin_tests::native::{Native, patiently};
use rejoin_tests::node::{Found, Node, Version, count, push, set, splice};
use rejoin_tests::processes::{Rejoin, RelayProcess};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

macro_rules! with_both_versions {
    ($($story:ident),* $(,)?) => {
        with_both_versions!(@ current = Current: $($story)*);
        with_both_versions!(@ previous = Previous: $($story)*);
    };
    (@ $module:ident = $version:ident: $($story:ident)*) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $story() {
                    super::$story(super::Version::$version).await;
                }
            )*
        }
    };
}

with_both_versions![
    two_clients_share_what_either_makes,
    edits_flow_both_ways_with_a_native_replica,
    edits_made_while_the_relay_is_dead_meet_when_it_is_back,
    what_a_client_was_told_is_saved_survives_a_killed_relay,
    a_thousand_documents_reach_everybody,
    ephemeral_messages_reach_clients_and_native_presence,
    a_document_nobody_has_is_unavailable_until_a_client_brings_it,
    a_document_nobody_has_is_unavailable_until_a_native_replica_brings_it,
    a_made_up_document_comes_whole,
    a_recorded_document_comes_whole,
    a_client_with_a_folder_comes_back_with_its_edits,
    a_client_that_hung_up_comes_back,
    three_writers_of_one_text_end_equal,
    spaces_do_not_see_each_other,
    a_native_document_with_a_key_is_found_and_edited,
    the_command_line_takes_the_ids_it_shows,
];

async fn the_command_line_takes_the_ids_it_shows(version: Version) {
    let world = World::new(version);
    let mut ada = world.node();
    let document = ada.create(json!({ "title": "Boiler", "tasks": [{ "done": false }] }));
    ada.saved(&document);
    let rejoin = Rejoin::in_dir(world.folder.path());
    let run = |line: &[&str]| rejoin.json([&["--replica", "desk.redb"], line].concat());
    let (url, once) = (world.relay.url(), "--once");
    run(&["sync", &url, once]);
    let shown = run(&["get", "documents", &document]);
    assert_eq!(shown["value"]["title"], "Boiler", "{shown}");
    run(&["append", "documents", &document, "title", ", 2nd floor"]);
    run(&["set", "documents", &document, "tasks[0].done:=true"]);
    run(&["history", "documents", &document]);
    run(&["blame", "documents", &document]);
    run(&["sync", &url, once]);
    ada.value_is(&document, "title", "Boiler, 2nd floor");
    assert_eq!(ada.value(&document)["tasks"], json!([{ "done": true }]));
    let listed = run(&["list", "documents"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let unknown = "automerge:4NMNnkMhL8jXrdJ9jamS58PAVdXu";
    let refused = rejoin.refused(["--replica", "desk.redb", "set", "documents", unknown, "a=1"]);
    assert!(refused.contains("there is no document"), "{refused}");
}

/// A relay, and a folder for everybody.
struct World {
    folder: TempDir,
    relay: RelayProcess,
    version: Version,
}

impl World {
    fn new(version: Version) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let relay = RelayProcess::start(folder.path().join("relay"));
        Self { folder, relay, version }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where clients of the space `main` dial.
    fn url(&self) -> String {
        format!("{}/automerge", self.relay.url())
    }

    fn node(&self) -> Node {
        Node::start(self.version, &self.url())
    }

    async fn native(&self, name: &str) -> Native {
        Native::dial(self.path(name), "main", &self.relay.url()).await
    }
}

async fn two_clients_share_what_either_makes(version: Version) {
    let world = World::new(version);
    let (mut ada, mut bob) = (world.node(), world.node());
    let relay = ada.connected();
    assert_eq!(relay["isEphemeral"], false, "a relay is there tomorrow: {relay}");
    let job = json!({ "title": "Leak", "open": true, "floor": 3, "rate": 1.5, "due": null,
        "site": { "tags": ["roof", "urgent"], "rooms": [{ "name": "attic" }] } });
    let document = ada.create(job.clone());
    ada.saved(&document);
    bob.find(&document);
    assert_eq!(bob.value(&document), job);
    bob.change(&document, &[set("site.access", "back door"), push("site.tags", "wet")]);
    ada.value_is(&document, "site.tags", json!(["roof", "urgent", "wet"]));
    ada.value_is(&document, "site.access", "back door");
    let heads = ada.change(&document, &[splice("title", 4, 0, "y tap"), count("visits", 2)]);
    bob.heads_are(&document, &heads);
    assert_eq!(bob.value(&document)["title"], "Leaky tap");
    assert_eq!(bob.value(&document)["visits"], 2);
    let other = bob.create(Value::Null);
    bob.saved(&other);
    ada.find(&other);
    assert_eq!(ada.heads(&other), bob.heads(&other));
}

async fn edits_flow_both_ways_with_a_native_replica(version: Version) {
    let world = World::new(version);
    let (mut ada, desk) = (world.node(), world.native("desk").await);
    let value = json!({ "status": "booked", "notes": "Ring twice.", "tags": ["roof"], "floor": 3 });
    let document = ada.create(value.clone());
    assert_eq!(desk.value_when(&document, |held| *held == value).await, value);
    assert_eq!(desk.heads(&document).await, ada.heads(&document));

    let job = desk.document(&document);
    job.set("status", "done").await.unwrap();
    ada.value_is(&document, "status", "done");
    job.splice("notes", 5, 5, "once").await.unwrap();
    ada.value_is(&document, "notes", "Ring once.");
    job.add("parts", 2).await.unwrap();
    ada.value_is(&document, "parts", 2);
    ada.change(&document, &[count("parts", 3), push("tags", "urgent")]);
    ada.change(&document, &[splice("notes", 9, 1, " or knock."), set("floor", 4)]);
    let value = json!({ "status": "done", "notes": "Ring once or knock.", "floor": 4,
        "tags": ["roof", "urgent"], "parts": 5 });
    desk.value_when(&document, |held| *held == value).await;
    assert_eq!(ada.value(&document), value);
    assert_eq!(desk.heads(&document).await, ada.heads(&document));
}

async fn edits_made_while_the_relay_is_dead_meet_when_it_is_back(version: Version) {
    let mut world = World::new(version);
    let (mut ada, mut bob, desk) = (world.node(), world.node(), world.native("desk").await);
    let document = ada.create(json!({ "notes": "" }));
    ada.saved(&document);
    bob.find(&document);
    desk.value_when(&document, |held| held["notes"] == "").await;
    world.relay.kill9();
    ada.alone();
    bob.alone();
    desk.alone().await;
    ada.change(&document, &[set("ada", 1), splice("notes", 0, 0, "Ada. ")]);
    bob.change(&document, &[set("bob", 2), splice("notes", 0, 0, "Bob. ")]);
    desk.document(&document).set("desk", 3).await.unwrap();
    let of_ada = ada.create(json!({ "by": "ada" }));
    let of_desk = desk.documents().create_unkeyed(&json!({ "by": "desk" })).await.unwrap();
    let of_desk = of_desk.id().to_string();
    world.relay.restart();

    let whole = |held: &Value| {
        let notes = held["notes"].as_str().unwrap_or_default();
        (&held["ada"], &held["bob"], &held["desk"]) == (&json!(1), &json!(2), &json!(3))
            && ["Ada. Bob. ", "Bob. Ada. "].contains(&notes)
    };
    let value = desk.value_when(&document, whole).await;
    let heads = desk.heads(&document).await;
    for client in [&mut ada, &mut bob] {
        client.heads_are(&document, &heads);
        assert_eq!(client.value(&document), value);
    }
    ada.saved(&of_ada);
    bob.find(&of_ada);
    desk.value_when(&of_ada, |held| held["by"] == "ada").await;
    desk.safe().await;
    bob.find(&of_desk);
    bob.value_is(&of_desk, "by", "desk");
}

async fn what_a_client_was_told_is_saved_survives_a_killed_relay(version: Version) {
    let mut world = World::new(version);
    let mut ada = world.node();
    let document = ada.create(json!({ "title": "kept" }));
    for round in 0..20 {
        let edit = |round: i32| format!("edit {round}");
        ada.change(&document, &[set(&edit(round), round)]);
        ada.saved(&document);
        world.relay.kill9();
        // At another address, where the client cannot make up for what was lost.
        let apart = world.relay.start_apart();
        let fresh = world.path(&format!("fresh {round}"));
        let fresh = Native::dial(fresh, "main", &apart.url()).await;
        fresh.safe().await;
        let held: Value = fresh.document(&document).get().await.unwrap().unwrap_or_default();
        let lost = (0..=round).filter(|round| held[edit(*round)] != *round);
        assert_eq!(lost.collect::<Vec<_>>(), [0; 0], "lost in round {round}");
        fresh.close().await;
        drop(apart);
        world.relay.restart();
    }
}

async fn a_thousand_documents_reach_everybody(version: Version) {
    let world = World::new(version);
    let mut ada = world.node();
    // From one on: the current version writes zero, and what is below it, as floats.
    let values = (1..=1000).map(|number| json!({ "number": number }));
    let documents = ada.create_all(values.collect());
    ada.all_saved(&documents);
    drop(ada);

    let mut bob = world.node();
    // Looking for so many takes it longer than the second after which it no longer waits for a peer.
    bob.connected();
    let found = bob.seek_all(&documents);
    let missing = documents.iter().zip(found).filter(|(_, found)| *found != Found::Ready);
    assert_eq!(missing.count(), 0);
    for (number, document) in (1..).zip(&documents).step_by(97) {
        assert_eq!(bob.value(document), json!({ "number": number }));
    }
    let desk = world.native("desk").await;
    desk.count_is(1000).await;
    let entries = desk.documents().list().await.unwrap();
    let held = entries.iter().map(|entry| (entry.document.to_string(), &entry.value["number"]));
    let held: BTreeMap<_, _> = held.collect();
    for (number, document) in (1..).zip(&documents) {
        assert_eq!(held.get(document), Some(&&json!(number)));
    }
}

async fn ephemeral_messages_reach_clients_and_native_presence(version: Version) {
    let world = World::new(version);
    let mut ada = Node::start_as(version, &world.url(), "ada");
    let (mut bob, desk) = (world.node(), world.native("desk").await);
    let document = ada.create(json!({ "notes": "" }));
    ada.saved(&document);
    bob.find(&document);
    desk.value_when(&document, |held| held["notes"] == "").await;
    let here = desk.document(&document);
    let mut watcher = here.watch().await.unwrap();

    ada.broadcast(&document, json!({ "cursor": "3" }));
    assert_eq!(bob.heard(&document, 1), [("ada".to_owned(), json!({ "cursor": "3" }))]);
    let (of_ada, said) =
        presence(&desk, &document, &mut watcher, |said| said["cursor"] == "3").await;
    assert_eq!(said, BTreeMap::from([("cursor".to_owned(), "3".to_owned())]));

    ada.broadcast(&document, json!({ "cursor": "4" }));
    let (again, _) = presence(&desk, &document, &mut watcher, |said| said["cursor"] == "4").await;
    assert_eq!(again, of_ada, "one client is one peer");
    bob.broadcast(&document, json!({ "cursor": "9" }));
    let (of_bob, _) = presence(&desk, &document, &mut watcher, |said| said["cursor"] == "9").await;
    assert_ne!(of_bob, of_ada);
    assert_eq!(ada.heard(&document, 1).len(), 1);

    let message = minicbor::to_vec(BTreeMap::from([("cursor", "7")])).expect("a vector grows");
    here.present(Some(message), 60_000).await.unwrap();
    let (from, said) = bob.heard(&document, 3).remove(2);
    assert_eq!(said, json!({ "cursor": "7" }));
    assert!(from.len() == 32 && from.chars().all(|c| c.is_ascii_hexdigit()), "{from}");
    assert_eq!(ada.heard(&document, 2).pop(), Some((from, json!({ "cursor": "7" }))));
    assert_eq!(bob.heads(&document), ada.heads(&document), "nothing of it is kept");
}

/// Waits until somebody says something in a document, and returns who.
async fn presence(
    native: &Native,
    document: &str,
    watcher: &mut rejoin::Watcher,
    met: impl Fn(&BTreeMap<String, String>) -> bool,
) -> (PeerId, BTreeMap<String, String>) {
    let document = native.document(document);
    patiently("somebody is present", async {
        loop {
            let present = document.presences().await.unwrap().into_iter();
            let said = |bytes: &[u8]| minicbor::decode(bytes).expect("the message as it was sent");
            let mut said = present.map(|(peer, bytes)| (peer, said(&bytes)));
            if let Some(found) = said.find(|(_, said)| met(said)) {
                return found;
            }
            let event = watcher.next().await.expect("the replica is open");
            assert_eq!(event, WatchEvent::Presence(document.id()));
        }
    })
    .await
}

async fn a_document_nobody_has_is_unavailable_until_a_client_brings_it(version: Version) {
    let world = World::new(version);
    let (mut ada, mut bob) = (world.node(), world.node());
    ada.connected();
    ada.disconnect();
    let document = ada.create(json!({ "title": "late" }));
    assert_eq!(bob.seek(&document), Found::Unavailable);
    // Version 2.4 asks twice at once, and may have one answer to both.
    let (asked, answered) = (bob.sent("request"), bob.received("doc-unavailable"));
    assert!((1..=asked).contains(&answered), "{answered} answers to {asked} requests");
    ada.reconnect();
    bob.value_is(&document, "title", "late");
    bob.find(&document);
    bob.change(&document, &[set("title", "found")]);
    ada.value_is(&document, "title", "found");
}

async fn a_document_nobody_has_is_unavailable_until_a_native_replica_brings_it(version: Version) {
    let world = World::new(version);
    let mut bob = world.node();
    let desk = Native::open(world.path("desk"), "main").await;
    let job = desk.documents().create("118", &json!({ "title": "late" })).await.unwrap();
    let document = job.id().to_string();
    assert_eq!(bob.seek(&document), Found::Unavailable);
    desk.connect("main", &world.relay.url()).await;
    bob.value_is(&document, "title", "late");
    bob.find(&document);
    bob.change(&document, &[set("title", "found")]);
    desk.value_when(&document, |held| held["title"] == "found").await;
}

async fn a_made_up_document_comes_whole(version: Version) {
    comes_whole(version, &made_up_document()).await;
}

async fn a_recorded_document_comes_whole(version: Version) {
    let Some(saved) = recorded_document() else { return };
    comes_whole(version, &saved).await;
}

/// One client imports a document; another one and a native replica get it.
async fn comes_whole(version: Version, saved: &[u8]) {
    let world = World::new(version);
    let file = world.path("saved.automerge");
    std::fs::write(&file, saved).expect("a file");
    let (heads, text) = automerge_of(saved);
    let mut ada = world.node();
    let document = ada.import(&file);
    ada.saved(&document);
    assert_eq!(ada.heads(&document), heads);
    drop(ada);
    let mut bob = world.node();
    bob.find(&document);
    bob.heads_are(&document, &heads);
    assert_eq!(bob.value(&document)["text"], text);
    let desk = world.native("desk").await;
    desk.heads_are(&document, &heads).await;
    let held: Value = desk.document(&document).get().await.unwrap().expect("it is here");
    assert_eq!(held["text"], text);
}

async fn a_client_with_a_folder_comes_back_with_its_edits(version: Version) {
    let world = World::new(version);
    let folder = world.path("client");
    let mut ada = Node::start_in(version, &world.url(), &folder);
    let (mut bob, desk) = (world.node(), world.native("desk").await);
    let document = ada.create(json!({ "notes": "", "parts": 1 }));
    let (idle, idle_heads) = {
        let idle = ada.create(json!({ "title": "nobody edits this" }));
        ada.saved(&idle);
        let heads = ada.heads(&idle);
        (idle, heads)
    };
    ada.saved(&document);
    bob.find(&document);
    ada.shutdown();

    bob.change(&document, &[set("bob", 2), splice("notes", 0, 0, "Bob. ")]);
    desk.value_when(&document, |held| held["bob"] == 2).await;
    desk.document(&document).set("desk", 3).await.unwrap();
    // Nobody answers here: what it has, it has from its folder.
    let mut ada = Node::start_in(version, &nowhere(), &folder);
    ada.find(&document);
    ada.change(&document, &[set("ada", 1), splice("notes", 0, 0, "Ada. ")]);
    let new = ada.create(json!({ "title": "made offline" }));
    ada.shutdown();

    let mut ada = Node::start_in(version, &world.url(), &folder);
    ada.find(&document);
    ada.find(&new);
    ada.find(&idle);
    let whole = |held: &Value| {
        (&held["ada"], &held["bob"], &held["desk"]) == (&json!(1), &json!(2), &json!(3))
    };
    let value = desk.value_when(&document, whole).await;
    let heads = desk.heads(&document).await;
    ada.heads_are(&document, &heads);
    bob.heads_are(&document, &heads);
    assert_eq!(ada.value(&document), value);
    assert!(["Ada. Bob. ", "Bob. Ada. "].contains(&value["notes"].as_str().unwrap_or_default()));
    ada.all_saved(&[document, new.clone(), idle.clone()]);
    assert_eq!(ada.heads(&idle), idle_heads);
    bob.find(&new);
    desk.value_when(&new, |held| held["title"] == "made offline").await;
}

/// An address where nobody listens.
fn nowhere() -> String {
    format!("ws://127.0.0.1:{}", rejoin_tests::services::free_port())
}

async fn a_client_that_hung_up_comes_back(version: Version) {
    let world = World::new(version);
    let (mut ada, mut bob) = (world.node(), world.node());
    let document = ada.create(json!({ "notes": "" }));
    ada.saved(&document);
    bob.find(&document);
    ada.saved(&document);
    ada.disconnect();
    ada.change(&document, &[set("ada", 1)]);
    bob.change(&document, &[set("bob", 2)]);
    bob.saved(&document);
    assert_eq!(ada.value(&document), json!({ "notes": "", "ada": 1 }));
    // It says nothing of itself this time: neither storage nor whether it is ephemeral.
    ada.reconnect();
    ada.value_is(&document, "bob", 2);
    bob.value_is(&document, "ada", 1);
    bob.heads_are(&document, &ada.heads(&document));
}

async fn three_writers_of_one_text_end_equal(version: Version) {
    let world = World::new(version);
    let (mut ada, mut bob, desk) = (world.node(), world.node(), world.native("desk").await);
    let document = ada.create(json!({ "text": "" }));
    ada.saved(&document);
    bob.find(&document);
    desk.value_when(&document, |held| held["text"] == "").await;
    let words = |who: &str| (0..200).map(|n| format!("[{who}{n}]")).collect::<Vec<_>>();
    let (by_ada, by_bob, by_desk) = (words("a"), words("b"), words("d"));
    let typed = [
        ada.start_typing(&document, "text", &by_ada, 5),
        bob.start_typing(&document, "text", &by_bob, 7),
    ];
    let here = desk.document(&document);
    for (number, word) in by_desk.iter().enumerate() {
        let held: Value = here.get().await.unwrap().expect("it is here");
        let len = held["text"].as_str().expect("a text").chars().count();
        here.splice("text", (number * 7919) % (len + 1), 0, word).await.unwrap();
    }
    let [of_ada, of_bob] = typed;
    ada.answer(of_ada);
    bob.answer(of_bob);

    let letters: usize = [&by_ada, &by_bob, &by_desk].into_iter().flatten().map(String::len).sum();
    let whole = |held: &Value| held["text"].as_str().is_some_and(|text| text.len() == letters);
    let value = desk.value_when(&document, whole).await;
    let heads = desk.heads(&document).await;
    for client in [&mut ada, &mut bob] {
        client.heads_are(&document, &heads);
        assert_eq!(client.value(&document), value);
    }
    // Insertions tear words of others apart, and lose no letter of them.
    let sorted = |text: &str| {
        let mut letters: Vec<_> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    let typed = [by_ada, by_bob, by_desk].concat().concat();
    assert_eq!(sorted(value["text"].as_str().expect("a text")), sorted(&typed));
}

async fn spaces_do_not_see_each_other(version: Version) {
    let world = World::new(version);
    let mut ada = Node::start(version, &world.url());
    let mut bob = Node::start(version, &format!("{}/branch", world.url()));
    let of_ada = ada.create(json!({ "space": "main" }));
    let of_bob = bob.create(json!({ "space": "branch" }));
    ada.saved(&of_ada);
    bob.saved(&of_bob);
    assert_eq!(bob.seek(&of_ada), Found::Unavailable);
    assert_eq!(ada.seek(&of_bob), Found::Unavailable);
    let mut second = Node::start(version, &format!("{}/branch", world.url()));
    second.find(&of_bob);
    for (space, mine) in [("main", &of_ada), ("branch", &of_bob)] {
        let native = Native::dial(world.path(space), space, &world.relay.url()).await;
        native.value_when(mine, |held| held["space"] == space).await;
        native.safe().await;
        let held = native.documents().list().await.unwrap();
        assert_eq!(held.len(), 1, "{space}");
    }
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Job {
    status: String,
    notes: Text,
    parts: Counter,
    tags: Vec<String>,
}

async fn a_native_document_with_a_key_is_found_and_edited(version: Version) {
    let world = World::new(version);
    let (mut ada, desk) = (world.node(), world.native("desk").await);
    let job = Job {
        status: "booked".into(),
        notes: "Ring twice.".into(),
        parts: Counter(2),
        tags: vec!["roof".into()],
    };
    let here = desk.documents().create("2026-118", &job).await.unwrap();
    here.saved().await.unwrap();
    let document = here.id().to_string();
    ada.find(&document);
    let value = json!({ "status": "booked", "notes": "Ring twice.", "parts": 2, "tags": ["roof"] });
    assert_eq!(ada.value(&document), value);
    let steps = [
        set("status", "done"),
        splice("notes", 0, 4, "Knock"),
        count("parts", 3),
        push("tags", "urgent"),
    ];
    let heads = ada.change(&document, &steps);
    desk.heads_are(&document, &heads).await;
    let held = desk.documents().get::<Job>("2026-118").await.unwrap().expect("it is here");
    let edited = Job {
        status: "done".into(),
        notes: "Knock twice.".into(),
        parts: Counter(5),
        tags: vec!["roof".into(), "urgent".into()],
    };
    assert_eq!(held, edited);
    let van = world.native("van").await;
    van.heads_are(&document, &heads).await;
    let entry = van.document(&document).read().await.unwrap().expect("it is here");
    assert_eq!(entry.key.as_deref(), Some("2026-118"), "it still has its key");
}
