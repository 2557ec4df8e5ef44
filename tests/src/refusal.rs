//! Work that a relay refuses by what its rules are, and not on demand.

use std::path::Path;
use std::sync::Arc;

use rejoin::history::ActorId;
use rejoin::{Op, Replica};
use rejoin_engine::store::Store;
use rejoin_engine::{Content, Edit, Engine, EngineOptions, Target};
use serde_json::json;

/// Edits the phone of a job, as a device whose clock shows no time would: a relay never takes that.
pub fn edit_at_no_time(file: &Path, key: &str) {
    drop(edited(file, rand::random(), i64::MAX, key, set("phone")));
}

/// Adds a part to a job, likewise: what anybody writes in that part is gone with it.
pub fn add_part_at_no_time(file: &Path, key: &str) {
    let value = json!({ "name": "pipe" });
    let op = Op::Insert { path: "parts".into(), index: 0, value };
    drop(edited(file, rand::random(), i64::MAX, key, op));
}

/// Has made at the relay the first change of the same actor in the job with this key: a relay takes no
/// other for that place, and whoever made one makes it anew.
pub async fn act_as(relay: &str, actor: &ActorId, key: &str) {
    let actor = actor.0.as_slice().try_into().expect("an actor of a replica");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rival.redb");
    drop(edited(&file, actor, 0, key, set("rival")));
    let replica = Replica::open(&file).await.expect("the same file");
    let main = replica.space("main").expect("a name");
    replica.connect(relay, &[&main]).await.expect("an address");
    replica.saved().await.expect("the relay holds it");
    replica.close().await;
}

fn set(field: &str) -> Op {
    Op::Set { path: field.into(), before: None, after: json!("555-0100") }
}

/// The engine of a replica that has edited a job as this actor.
fn edited(file: &Path, actor: [u8; 16], unix_s: i64, key: &str, op: Op) -> Engine {
    let database = redb::Database::create(file).expect("a file");
    let store = Arc::new(Store::open(database, rand::random()).expect("a replica"));
    let mut engine = Engine::new(store, EngineOptions::default(), move || actor).expect("it reads");
    let edit = Edit {
        space: "main".parse().expect("a name"),
        collection: "jobs".parse().expect("a name"),
        target: Target::Key(key.to_owned()),
        create: true,
        author: None,
        batch: None,
        content: Content::Ops { base: None, ops: vec![op] },
    };
    engine.turn(0, unix_s, vec![edit]).expect("it is written").remove(0).expect("it fits");
    engine
}
