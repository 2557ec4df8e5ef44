//! Worlds that are kept, and what they come to: the same documents must give the same by every program
//! that says that its rules are of one version.

use std::io::{Read, Write};

use automerge::{Automerge, Change};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use serde_json::{Value, json};

use super::device::{Device, JOB, SCHEMA, id, space};
use super::history::History;
use super::world::World;
use crate::sim::random::Random;

/// A job and the schema of its collection, each as Automerge saves it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Kept {
    /// The history they are of.
    #[n(0)]
    pub seed: u64,
    /// The job.
    #[n(1)]
    pub job: ByteVec,
    /// The schema, if there is one.
    #[n(2)]
    pub schema: Option<ByteVec>,
}

impl Kept {
    /// The documents of a history at some moment of it, before people have settled everything.
    pub fn of(seed: u64) -> Self {
        let mut world = World::new(seed, false);
        world.run().expect("a history that agrees with the fold");
        let mut random = Random::new(seed);
        let [job, schema] = world.histories();
        let known = random.between(job.changes.len() as u64 / 2, job.changes.len() as u64) as usize;
        let schema = Some(schema).filter(|schema| !schema.changes.is_empty());
        let schema = schema.map(|schema| saved(schema, schema.changes.len()));
        Self { seed, job: saved(job, known), schema }
    }

    /// What a replica that has them shows, counts and asks.
    pub fn derived(&self) -> Value {
        let mut device = Device::new(Random::new(self.seed));
        for (document, saved) in [(SCHEMA, self.schema.as_ref()), (JOB, Some(&self.job))] {
            if let Some(saved) = saved {
                device.receive_saved(document, saved);
                device.turn(0, Vec::new());
            }
        }
        device.catch_up();
        let view = device.engine.store().read().expect("the store can be read");
        let value = view.value(&id(JOB)).expect("a sound row").expect("it came");
        let read = |json: &[u8]| serde_json::from_slice::<Value>(json).expect("it is JSON");
        let reviews = view.reviews(&space()).expect("sound rows").into_iter();
        let reviews = reviews.map(|(id, row)| {
            let shown = |json: &Option<ByteVec>| json.as_ref().map(|json| read(json));
            let candidates = row.candidates.iter().map(|candidate| {
                json!({ "change": candidate.change.to_string(), "value": shown(&candidate.value) })
            });
            let settled = row.settled.as_ref().map(|settled| {
                json!({
                    "by": settled.by.change.to_string(),
                    "value": shown(&settled.by.value),
                    "dismissed": settled.dismissed,
                })
            });
            let review = json!({
                "asks": format!("{:?}", row.kind),
                "field": row.field,
                "stands": shown(&row.standing),
                "candidates": candidates.collect::<Value>(),
                "settled": settled,
            });
            (id.to_string(), review)
        });
        json!({
            "seed": self.seed,
            "seen": read(&value.json),
            "counts": value.agreed.as_ref().map(|agreed| read(agreed)),
            "deleted": value.deleted,
            "reviews": reviews.collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// Worlds as they are kept.
pub fn pack(worlds: &[Kept]) -> Vec<u8> {
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::best());
    let bytes = minicbor::to_vec(worlds).expect("encoding into a Vec cannot fail");
    packed.write_all(&bytes).and_then(|()| packed.finish()).expect("writing to a Vec cannot fail")
}

/// What [`pack`] made.
pub fn unpack(packed: &[u8]) -> Vec<Kept> {
    let mut bytes = Vec::new();
    DeflateDecoder::new(packed).read_to_end(&mut bytes).expect("it was packed");
    minicbor::decode(&bytes).expect("it was packed")
}

fn saved(history: &History, known: usize) -> ByteVec {
    let mut document = Automerge::new();
    let changes = history.changes[..known]
        .iter()
        .map(|change| Change::from_bytes(change.chunk.clone()).expect("it was one before"));
    document.apply_changes(changes).expect("they fit");
    document.save_nocompress().into()
}
