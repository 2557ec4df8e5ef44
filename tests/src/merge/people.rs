//! What people do on a device: they write and clear fields, at the top and further in, add, change
//! and remove items, remove maps and documents and bring them back.

use rejoin::{ChangeHash, Op, Path};
use rejoin_engine::{Content, Edit, Target};
use serde_json::{Map, Value, json};

use super::device::{DOCUMENTS, Device, JOB, collection, id, space};
use super::schemas::ORDER;
use crate::sim::random::Random;

/// An edit of a document, which is made if it is not there.
pub fn edit(document: usize, content: Content) -> Edit {
    let target = match content {
        Content::Decide { .. } => Target::Document(id(document)),
        _ => Target::Key(DOCUMENTS[document].1.to_owned()),
    };
    let create = !matches!(content, Content::Decide { .. });
    Edit {
        space: space(),
        collection: collection(document),
        target,
        create,
        author: None,
        content,
        batch: None,
    }
}

/// Something that somebody does to the job, on what they see now or saw before.
pub fn invent(device: &mut Device, habit: Habit, random: &mut Random) -> Edit {
    let seen = device.engine.view(0, &id(JOB)).map(|view| view.value);
    let now = seen.unwrap_or_else(|_| json!({}));
    if random.chance(200) {
        return edit(JOB, Content::Fields(fields(&now, random)));
    }
    let base = random.pick(&device.seen).filter(|_| random.chance(350)).cloned();
    let value = match &base {
        Some(base) => device.engine.value_at(0, &id(JOB), Some(base)).expect("it was seen here"),
        None => now,
    };
    let mut ops = Vec::new();
    for _ in 0..if random.chance(150) { 2 } else { 1 } {
        ops.push(step(&value, habit, random));
    }
    edit(JOB, Content::Ops { base, ops })
}

/// The heads somebody sees now, to come back to.
pub fn look(device: &mut Device) {
    let view = device.engine.store().read().expect("the store can be read");
    let row = view.document(&id(JOB)).expect("a sound row");
    let heads: Option<Vec<ChangeHash>> = row.map(|row| row.heads);
    device.seen.extend(heads.filter(|heads| device.seen.last() != Some(heads)));
}

/// What people of one history do more than others.
#[derive(Debug, Clone, Copy)]
pub struct Habit(u64);

impl Habit {
    /// Any.
    pub fn any(random: &mut Random) -> Self {
        Self(random.below(100))
    }
}

/// One step, on a value.
fn step(value: &Value, habit: Habit, random: &mut Random) -> Op {
    match if random.chance(300) { habit.0 } else { random.below(100) } {
        0..32 => field(value, random),
        32..46 => address(value, random),
        46..61 => parts(value, random),
        61..71 => tags(value, random),
        71..75 => Op::Append { path: path("notes"), text: word(random) },
        75..78 => Op::Increment { path: path("used"), by: 1 + random.below(3) as i64 },
        78..84 => extra(random),
        84..90 => document(value, random),
        90..97 => memo(random),
        _ => Op::Set { path: path("status"), before: None, after: status(random) },
    }
}

/// A plain field at the top.
fn field(value: &Value, random: &mut Random) -> Op {
    let name = *random.pick(&FIELDS).expect("there are some");
    let path = path(name);
    if random.chance(180) {
        return Op::Remove { path };
    }
    Op::Set { path, before: value.get(name).cloned(), after: plain(name, random) }
}

/// Plain fields at the top.
pub const FIELDS: [&str; 8] =
    ["status", "technician", "phone", "finished", "started", "eta", "color", "priority"];

/// A value that a field may get: one of few, so that different people write the same.
fn plain(name: &str, random: &mut Random) -> Value {
    match name {
        "status" => status(random),
        "finished" | "started" => match random.below(14) {
            0 => json!("later"),
            1 => json!(2.5),
            2 => json!(3.0),
            3 => json!((1_u64 << 53) + 1),
            4 => json!((1_u64 << 53) as f64),
            5 => json!(u64::MAX),
            6 => json!({ "$time": random.below(3) as i64 }),
            7 => json!(true),
            _ => json!(random.below(5)),
        },
        _ if random.chance(100) => Value::Null,
        _ => json!(word(random)),
    }
}

fn status(random: &mut Random) -> Value {
    if random.chance(40) {
        return json!("lost");
    }
    json!(random.pick(&ORDER).expect("there are some"))
}

fn word(random: &mut Random) -> String {
    (*random.pick(&["a", "b", "c", "d"]).expect("there are some")).to_owned()
}

/// Maps inside each other, which are removed and come back.
fn address(value: &Value, random: &mut Random) -> Op {
    let geo = Path::from(["address", "geo"]);
    match random.below(100) {
        0..35 => set(Path::from(["address", "city"]), json!(word(random))),
        35..45 => Op::Remove { path: Path::from(["address", "city"]) },
        45..62 => set(geo.join("lat"), json!(random.below(4))),
        62..68 => Op::Remove { path: geo.join("lat") },
        68..76 => Op::Remove { path: geo },
        76..90 => Op::Remove { path: path("address") },
        _ => Op::Set {
            path: path("address"),
            before: value.get("address").cloned(),
            after: json!({ "city": word(random), "geo": { "lat": 1 } }),
        },
    }
}

/// A list of plain items, maps and lists.
fn parts(value: &Value, random: &mut Random) -> Op {
    let path = path("parts");
    let items = value["parts"].as_array().map_or(&[][..], Vec::as_slice);
    if items.is_empty() || random.chance(250) {
        let value = match random.below(10) {
            0..4 => json!({ "name": word(random), "qty": random.below(3) }),
            4 => json!([word(random), { "name": word(random) }]),
            5..7 => status(random),
            _ => json!(word(random)),
        };
        return Op::Insert { path, index: random.index(items.len() + 1), value };
    }
    let index = random.index(items.len());
    if random.chance(250) {
        return Op::RemoveAt { path, index };
    }
    let item = path.join(index);
    match &items[index] {
        Value::Object(_) if random.chance(150) => Op::Remove { path: item.join("name") },
        Value::Object(_) if random.chance(500) => set(item.join("name"), json!(word(random))),
        Value::Object(_) => set(item.join("qty"), json!(random.below(5))),
        Value::Array(inner) if !inner.is_empty() => {
            let at = item.join(random.index(inner.len()));
            let value = random.chance(500).then(|| json!(word(random)));
            match value {
                Some(value) => set(at, value),
                None => Op::Remove { path: at },
            }
        }
        Value::Array(_) => Op::Insert { path: item, index: 0, value: json!(word(random)) },
        _ if random.chance(300) => set(item, status(random)),
        _ => set(item, json!(word(random))),
    }
}

/// A set of words.
fn tags(value: &Value, random: &mut Random) -> Op {
    let path = path("tags");
    let len = value["tags"].as_array().map_or(0, Vec::len);
    match random.below(100) {
        _ if len == 0 => Op::Insert { path, index: 0, value: json!(word(random)) },
        0..55 => Op::Insert { path, index: random.index(len + 1), value: json!(word(random)) },
        55..75 => Op::RemoveAt { path, index: random.index(len) },
        75..95 => set(path.join(random.index(len)), json!(word(random))),
        _ => Op::Remove { path },
    }
}

/// A map in which an arbitrary value wins, if the schema says so.
fn extra(random: &mut Random) -> Op {
    let inside = Path::from(["extra", ["one", "two"][random.index(2)]]);
    match random.below(10) {
        0 => Op::Remove { path: path("extra") },
        1 | 2 => Op::Remove { path: inside },
        _ => set(inside, json!(word(random))),
    }
}

/// Deletes the document or brings it back.
fn document(value: &Value, random: &mut Random) -> Op {
    match value["deleted"] == true || random.chance(200) {
        true => Op::Restore,
        false => Op::Delete,
    }
}

/// What some take for a text, some for a map, some for a counter, and some for a word.
fn memo(random: &mut Random) -> Op {
    match random.below(5) {
        0 => Op::Append { path: path("memo"), text: word(random) },
        4 => Op::Increment { path: path("memo"), by: 1 },
        1 => set(Path::from(["memo", "by"]), json!(word(random))),
        2 => Op::Remove { path: path("memo") },
        _ => set(path("memo"), json!(word(random))),
    }
}

/// Some fields of a form, changed or not.
fn fields(now: &Value, random: &mut Random) -> Map<String, Value> {
    let mut form = Map::new();
    for _ in 0..random.between(1, 4) {
        let name = *random.pick(&FIELDS).expect("there are some");
        let value = match random.below(10) {
            0..2 => Value::Null,
            2..5 => now.get(name).cloned().unwrap_or_default(),
            _ => plain(name, random),
        };
        form.insert(name.to_owned(), value);
    }
    if random.chance(250) {
        let mut address = now.get("address").cloned().unwrap_or_else(|| json!({}));
        if let Some(address) = address.as_object_mut() {
            address.insert("city".to_owned(), json!(word(random)));
        }
        form.insert("address".to_owned(), address);
    }
    if random.chance(150) {
        let mut tags = now.get("tags").cloned().unwrap_or_else(|| json!([]));
        if let Some(tags) = tags.as_array_mut() {
            tags.push(json!(word(random)));
        }
        form.insert("tags".to_owned(), tags);
    }
    form
}

fn set(path: Path, after: Value) -> Op {
    Op::Set { path, before: None, after }
}

fn path(name: &str) -> Path {
    Path::from([name])
}
