//! The endpoint for automerge-repo with samod, the client that speaks its protocol in Rust: repos
//! and native replicas that meet at a relay.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use automerge::transaction::Transactable;
use automerge::{AutoSerde, Automerge, ObjType, ROOT, ReadDoc};
use futures_util::future::{BoxFuture, ready};
use futures_util::{Stream, StreamExt, sink::SinkExt};
use rejoin::WatchEvent;
use rejoin_tests::foreign::{automerge_of, made_up_document, recorded_document};
use rejoin_tests::native::{Native, patiently};
use rejoin_tests::node::{Node, Version, count, set, splice};
use rejoin_tests::processes::RelayProcess;
use samod::{BackoffConfig, DialError, Dialer, DialerHandle, DocHandle, Repo, SearchState};
use samod::{Transport, Url};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{Error, Message};

/// A relay, and a folder for everybody.
struct World {
    folder: TempDir,
    relay: RelayProcess,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let relay = RelayProcess::start(folder.path().join("relay"));
        Self { folder, relay }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self) -> String {
        format!("{}/automerge", self.relay.url())
    }

    async fn peer(&self) -> Peer {
        let peer = Peer::alone().await;
        Peer { relay: Some(peer.dial(&self.url()).await), ..peer }
    }

    async fn native(&self, name: &str) -> Native {
        Native::dial(self.path(name), "main", &self.relay.url()).await
    }
}

/// A repo that keeps documents in memory.
struct Peer {
    repo: Repo,
    /// Its connection, if it dialled.
    relay: Option<DialerHandle>,
}

impl Peer {
    async fn alone() -> Self {
        Self { repo: Repo::build_tokio().load().await, relay: None }
    }

    /// Dials a relay for ever, and waits for it the first time.
    async fn dial(&self, url: &str) -> DialerHandle {
        let url = Url::parse(url).expect("an address");
        let delays = BackoffConfig { max_delay: Duration::from_millis(200), ..Default::default() };
        let relay = self.repo.dial(delays, Arc::new(WebSocket { url })).expect("the repo runs");
        patiently("the relay answers", relay.established()).await.expect("it goes on dialling");
        relay
    }

    async fn create(&self, fill: impl FnOnce(&mut Automerge)) -> Opened {
        let mut document = Automerge::new();
        fill(&mut document);
        Opened(self.repo.create(document).await.expect("the repo runs"))
    }

    /// Looks for a document that is somewhere.
    async fn find(&self, address: &str) -> Opened {
        self.seek(address).await.unwrap_or_else(|| panic!("{address} is unavailable"))
    }

    /// Looks for a document that may be nowhere.
    async fn seek(&self, address: &str) -> Option<Opened> {
        let found = patiently("looking for a document ends", self.repo.find(id(address))).await;
        found.expect("the repo runs").map(Opened)
    }

    /// Waits until a document is here.
    async fn found(&self, address: &str) -> Opened {
        let (mut state, mut later) = self.repo.search(id(address)).expect("the repo runs");
        patiently("a document comes", async {
            loop {
                match state {
                    SearchState::Found(document) => return Opened(document),
                    _ => state = later.next().await.expect("the repo runs"),
                }
            }
        })
        .await
    }

    /// Waits until the relay said that it has all that is here of a document.
    async fn saved(&self, document: &Opened) {
        let relay = self.relay.as_ref().and_then(DialerHandle::connection_id);
        let told = document.0.they_have_our_changes(relay.expect("it is connected"));
        patiently("the relay has a document", told).await;
    }
}

fn id(address: &str) -> samod::DocumentId {
    let address: samod::AutomergeUrl = address.parse().expect("the address of a document");
    address.document_id().clone()
}

/// A document that a repo has.
#[derive(Clone)]
struct Opened(DocHandle);

impl Opened {
    fn address(&self) -> String {
        self.0.url().to_string()
    }

    fn value(&self) -> Value {
        self.0.with_document(|document| value_of(document))
    }

    /// The heads in hexadecimal digits, sorted.
    fn heads(&self) -> Vec<String> {
        let heads = self.0.with_document(|document| document.get_heads());
        let mut heads: Vec<_> = heads.iter().map(ToString::to_string).collect();
        heads.sort();
        heads
    }

    fn edit(&self, edit: impl FnOnce(&mut Automerge)) {
        self.0.with_document(edit);
    }

    async fn value_when(&self, met: impl Fn(&Value) -> bool) -> Value {
        let mut changes = self.0.changes();
        patiently("a document gets its value", async {
            loop {
                let value = self.value();
                if met(&value) {
                    return value;
                }
                changes.next().await.expect("the repo runs");
            }
        })
        .await
    }

    async fn heads_are(&self, heads: &[String]) {
        let mut changes = self.0.changes();
        patiently("a document gets its heads", async {
            while self.heads() != heads {
                changes.next().await.expect("the repo runs");
            }
        })
        .await;
    }
}

fn value_of(document: &Automerge) -> Value {
    serde_json::to_value(AutoSerde::from(document)).expect("documents are like JSON")
}

/// Puts a plain value at the root.
fn put(document: &mut Automerge, field: &str, value: i64) {
    let mut edit = document.transaction();
    edit.put(ROOT, field, value).expect("the root takes everything");
    edit.commit();
}

/// Puts an empty text at the root.
fn put_text(document: &mut Automerge, field: &str) {
    let mut edit = document.transaction();
    edit.put_object(ROOT, field, ObjType::Text).expect("the root takes everything");
    edit.commit();
}

/// Writes at the beginning of a text at the root.
fn write(document: &mut Automerge, field: &str, words: &str) {
    let (_, text) = document.get(ROOT, field).expect("a map").expect("there is a text");
    let mut edit = document.transaction();
    edit.splice_text(&text, 0, 0, words).expect("it is a text");
    edit.commit();
}

/// What samod needs to dial. Its own takes another version of the WebSocket crate, and OpenSSL.
struct WebSocket {
    url: Url,
}

impl Dialer for WebSocket {
    type Error = Infallible;

    fn url(&self) -> Url {
        self.url.clone()
    }

    fn connect(&self) -> BoxFuture<'static, Result<Transport, DialError<Infallible>>> {
        let url = self.url.clone();
        Box::pin(async move {
            let (socket, _) = connect_async(url.as_str()).await.map_err(DialError::transient)?;
            let (sink, stream) = socket.split();
            let stream = stream.filter_map(|message| {
                ready(match message {
                    Ok(Message::Binary(message)) => Some(Ok(message.to_vec())),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                })
            });
            let sink =
                sink.with(|message| ready(Ok::<_, Error>(Message::binary::<Vec<u8>>(message))));
            Ok(Transport::new(stream, sink))
        })
    }
}

#[tokio::test]
async fn two_repos_share_what_either_makes() {
    let world = World::new();
    let (ada, bob) = (world.peer().await, world.peer().await);
    let document = ada
        .create(|document| {
            put(document, "floor", 3);
            put_text(document, "notes");
            write(document, "notes", "Ring twice.");
        })
        .await;
    ada.saved(&document).await;
    let at_bob = bob.find(&document.address()).await;
    assert_eq!(at_bob.value(), json!({ "floor": 3, "notes": "Ring twice." }));
    at_bob.edit(|document| write(document, "notes", "Gate code 4711. "));
    document.value_when(|held| held["notes"] == "Gate code 4711. Ring twice.").await;
    document.edit(|document| put(document, "floor", 4));
    at_bob.heads_are(&document.heads()).await;
    let other = bob.create(|_| ()).await;
    bob.saved(&other).await;
    assert_eq!(ada.find(&other.address()).await.heads(), other.heads());
}

#[tokio::test]
async fn edits_flow_both_ways_with_a_native_replica() {
    let world = World::new();
    let (ada, desk) = (world.peer().await, world.native("desk").await);
    let document = ada.create(|document| put_text(document, "notes")).await;
    let address = document.address();
    desk.value_when(&address, |held| held["notes"] == "").await;
    let here = desk.document(&address);
    here.set("status", "booked").await.unwrap();
    here.add("parts", 2).await.unwrap();
    document.value_when(|held| held["status"] == "booked" && held["parts"] == 2).await;
    document.edit(|document| write(document, "notes", "Ring twice."));
    desk.value_when(&address, |held| held["notes"] == "Ring twice.").await;
    here.splice("notes", 5, 5, "once").await.unwrap();
    document.value_when(|held| held["notes"] == "Ring once.").await;
    desk.heads_are(&address, &document.heads()).await;

    let job = desk.documents().create("2026-118", &json!({ "status": "booked" })).await.unwrap();
    job.saved().await.unwrap();
    let job = job.id().to_string();
    let at_ada = ada.find(&job).await;
    assert_eq!(at_ada.value()["status"], "booked");
    at_ada.edit(|document| put(document, "floor", 4));
    desk.value_when(&job, |held| held["floor"] == 4).await;
}

#[tokio::test]
async fn edits_made_while_the_relay_is_dead_meet_when_it_is_back() {
    let mut world = World::new();
    let (ada, bob) = (world.peer().await, world.peer().await);
    let desk = world.native("desk").await;
    let document = ada.create(|document| put_text(document, "notes")).await;
    let address = document.address();
    ada.saved(&document).await;
    let at_bob = bob.find(&address).await;
    desk.value_when(&address, |held| held["notes"] == "").await;
    world.relay.kill9();
    desk.alone().await;
    document.edit(|document| write(document, "notes", "Ada. "));
    at_bob.edit(|document| write(document, "notes", "Bob. "));
    desk.document(&address).set("desk", 3).await.unwrap();
    let of_ada = ada.create(|document| put(document, "ada", 1)).await.address();
    world.relay.restart();

    let whole = |held: &Value| {
        let notes = held["notes"].as_str().unwrap_or_default();
        held["desk"] == 3 && ["Ada. Bob. ", "Bob. Ada. "].contains(&notes)
    };
    let value = desk.value_when(&address, whole).await;
    let heads = desk.heads(&address).await;
    for document in [&document, &at_bob] {
        document.heads_are(&heads).await;
        assert_eq!(document.value(), value);
    }
    desk.value_when(&of_ada, |held| held["ada"] == 1).await;
    bob.find(&of_ada).await;
}

#[tokio::test]
async fn what_a_repo_was_told_is_saved_survives_a_killed_relay() {
    let mut world = World::new();
    for round in 0..10 {
        let ada = world.peer().await;
        let document = ada.create(|document| put(document, "round", round)).await;
        document.edit(|document| put(document, "edited", round));
        ada.saved(&document).await;
        world.relay.kill9();
        // The repo is gone as well, so that it cannot make up for what was lost.
        ada.repo.stop().await;
        world.relay.restart();
        let bob = world.peer().await;
        let at_bob = bob.find(&document.address()).await;
        assert_eq!(at_bob.value(), json!({ "round": round, "edited": round }));
    }
}

#[tokio::test]
async fn a_thousand_documents_reach_everybody() {
    let world = World::new();
    let ada = world.peer().await;
    let mut documents = Vec::new();
    for number in 0..1000 {
        documents.push(ada.create(|document| put(document, "number", number)).await);
    }
    for document in &documents {
        ada.saved(document).await;
    }
    ada.repo.stop().await;
    let bob = world.peer().await;
    for (number, document) in documents.iter().enumerate() {
        let found = bob.find(&document.address()).await;
        assert_eq!(found.value(), json!({ "number": number }));
    }
    let desk = world.native("desk").await;
    desk.count_is(1000).await;
    let entries = desk.documents().list().await.unwrap();
    let held = entries.iter().map(|entry| (entry.document.to_string(), &entry.value["number"]));
    let held: BTreeMap<_, _> = held.collect();
    for (number, document) in documents.iter().enumerate() {
        assert_eq!(held.get(&document.address()), Some(&&json!(number)));
    }
}

#[tokio::test]
async fn a_made_up_document_comes_whole() {
    comes_whole(&made_up_document()).await;
}

#[tokio::test]
async fn a_recorded_document_comes_whole() {
    let Some(saved) = recorded_document() else { return };
    comes_whole(&saved).await;
}

/// One repo has a document; another one and a native replica get it.
async fn comes_whole(saved: &[u8]) {
    let world = World::new();
    let (heads, text) = automerge_of(saved);
    let ada = world.peer().await;
    let document = Automerge::load(saved).expect("Automerge saved it");
    let document = Opened(ada.repo.create(document).await.expect("the repo runs"));
    ada.saved(&document).await;
    assert_eq!(document.heads(), heads);
    ada.repo.stop().await;
    let bob = world.peer().await;
    let at_bob = bob.find(&document.address()).await;
    at_bob.heads_are(&heads).await;
    assert_eq!(at_bob.value()["text"], text);
    let desk = world.native("desk").await;
    desk.heads_are(&document.address(), &heads).await;
    let held: Option<Value> = desk.document(&document.address()).get().await.unwrap();
    assert_eq!(held.expect("it is here")["text"], text);
}

#[tokio::test]
async fn a_document_nobody_has_is_unavailable_until_a_repo_brings_it() {
    let world = World::new();
    let (ada, bob) = (Peer::alone().await, world.peer().await);
    let document = ada.create(|document| put(document, "late", 1)).await;
    assert!(bob.seek(&document.address()).await.is_none());
    let _relay = ada.dial(&world.url()).await;
    let at_bob = bob.found(&document.address()).await;
    at_bob.value_when(|held| held["late"] == 1).await;
    at_bob.edit(|document| put(document, "late", 2));
    document.value_when(|held| held["late"] == 2).await;
}

#[tokio::test]
async fn a_document_nobody_has_is_unavailable_until_a_native_replica_brings_it() {
    let world = World::new();
    let (bob, desk) = (world.peer().await, Native::open(world.path("desk"), "main").await);
    let job = desk.documents().create("118", &json!({ "late": 1 })).await.unwrap();
    let address = job.id().to_string();
    assert!(bob.seek(&address).await.is_none());
    desk.connect("main", &world.relay.url()).await;
    let at_bob = bob.found(&address).await;
    at_bob.value_when(|held| held["late"] == 1).await;
    at_bob.edit(|document| put(document, "late", 2));
    desk.value_when(&address, |held| held["late"] == 2).await;
}

#[tokio::test]
async fn ephemeral_messages_reach_repos_and_native_presence() {
    let world = World::new();
    let (ada, bob) = (world.peer().await, world.peer().await);
    let desk = world.native("desk").await;
    let document = ada.create(|document| put(document, "floor", 3)).await;
    let address = document.address();
    ada.saved(&document).await;
    let at_bob = bob.find(&address).await;
    bob.saved(&at_bob).await;
    desk.value_when(&address, |held| held["floor"] == 3).await;
    let here = desk.document(&address);
    let mut watcher = here.watch().await.unwrap();
    let (mut to_ada, mut to_bob) = (document.0.ephemera(), at_bob.0.ephemera());

    document.0.broadcast(cursor("3"));
    assert_eq!(next(&mut to_bob).await, cursor("3"));
    let present = patiently("somebody is present", async {
        loop {
            let present = here.presences().await.unwrap();
            if !present.is_empty() {
                return present;
            }
            assert_eq!(watcher.next().await, Some(WatchEvent::Presence(here.id())));
        }
    });
    let present = present.await;
    assert_eq!(present.len(), 1, "one repo is one peer: {present:?}");
    assert_eq!(present[0].1, cursor("3"));

    here.present(Some(cursor("7")), 60_000).await.unwrap();
    assert_eq!(next(&mut to_ada).await, cursor("7"));
    assert_eq!(next(&mut to_bob).await, cursor("7"));
    at_bob.0.broadcast(cursor("9"));
    assert_eq!(next(&mut to_ada).await, cursor("9"));
}

/// A message that both worlds read.
fn cursor(at: &str) -> Vec<u8> {
    minicbor::to_vec(BTreeMap::from([("cursor", at)])).expect("a vector grows")
}

async fn next(messages: &mut (impl Stream<Item = Vec<u8>> + Unpin)) -> Vec<u8> {
    patiently("a message comes", messages.next()).await.expect("the repo runs")
}

#[tokio::test]
async fn samod_node_and_a_native_replica_edit_one_document() {
    let world = World::new();
    let (ada, desk) = (world.peer().await, world.native("desk").await);
    let mut bob = Node::start(Version::Current, &world.url());
    let document = ada.create(|document| put_text(document, "notes")).await;
    let address = document.address();
    ada.saved(&document).await;
    bob.find(&address);
    desk.value_when(&address, |held| held["notes"] == "").await;
    document.edit(|document| write(document, "notes", "Ada. "));
    bob.change(&address, &[splice("notes", 0, 0, "Bob. "), count("parts", 2), set("bob", 2)]);
    desk.document(&address).append("notes", "Desk. ").await.unwrap();
    let whole = |held: &Value| {
        let notes = held["notes"].as_str().unwrap_or_default();
        held["bob"] == 2 && ["Ada. ", "Bob. ", "Desk. "].iter().all(|part| notes.contains(part))
    };
    let value = desk.value_when(&address, whole).await;
    let heads = desk.heads(&address).await;
    document.heads_are(&heads).await;
    bob.heads_are(&address, &heads);
    assert_eq!(document.value(), value);
    assert_eq!(bob.value(&address), value);
}
