//! What the tests of `rejoin_core::change` share: changes written by hand, and a small history.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;

use automerge::{ActorId as AmActor, AutoCommit};
use rejoin_core::change::{Admission, Change, Place, Refusal, admit};
use rejoin_core::{
    ActorId, ChangeHash, CollectionName, DocumentId, Genesis, History, KnownChange, LastChange,
    SpaceName,
};
use sha2::{Digest, Sha256};

/// A change as bytes, each part of which a test can spoil. By default one that is sound.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) kind: u8,
    pub(crate) deps: Vec<[u8; 32]>,
    pub(crate) actor: Vec<u8>,
    pub(crate) seq: u64,
    pub(crate) start_op: u64,
    pub(crate) message: Vec<u8>,
    pub(crate) others: Vec<Vec<u8>>,
    pub(crate) columns: Vec<(u64, Vec<u8>)>,
    pub(crate) extra: Vec<u8>,
}

impl Default for Raw {
    /// Puts true at the key "k" of the root.
    fn default() -> Self {
        Self {
            kind: 1,
            deps: vec![],
            actor: vec![0xaa; 16],
            seq: 1,
            start_op: 1,
            message: vec![],
            others: vec![],
            columns: vec![
                (KEY_TEXT, vec![0x7f, 1, b'k']),
                (INSERT, vec![1]),
                (ACTION, vec![0x7f, 1]),
                (VALUE_META, vec![0x7f, 2]),
                (PRED_COUNT, vec![0x7f, 0]),
            ],
            extra: vec![],
        }
    }
}

pub(crate) const OBJECT_ACTOR: u64 = 0x01;
pub(crate) const OBJECT_COUNTER: u64 = 0x02;
pub(crate) const KEY_ACTOR: u64 = 0x11;
pub(crate) const KEY_COUNTER: u64 = 0x13;
pub(crate) const KEY_TEXT: u64 = 0x15;
pub(crate) const INSERT: u64 = 0x34;
pub(crate) const ACTION: u64 = 0x42;
pub(crate) const VALUE_META: u64 = 0x56;
pub(crate) const VALUE: u64 = 0x57;
pub(crate) const PRED_COUNT: u64 = 0x70;
pub(crate) const PRED_ACTOR: u64 = 0x71;
pub(crate) const PRED_COUNTER: u64 = 0x73;
pub(crate) const EXPAND: u64 = 0x94;
pub(crate) const MARK_NAME: u64 = 0xa5;

impl Raw {
    /// Sets a column, in its place.
    pub(crate) fn column(mut self, spec: u64, content: &[u8]) -> Self {
        self.columns.retain(|(other, _)| *other != spec);
        self.columns.push((spec, content.to_vec()));
        self.columns.sort();
        self
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = uleb(self.deps.len() as u64);
        body.extend(self.deps.iter().flatten());
        body.extend(prefixed(&self.actor));
        body.extend(uleb(self.seq));
        body.extend(uleb(self.start_op));
        body.push(0);
        body.extend(prefixed(&self.message));
        body.extend(uleb(self.others.len() as u64));
        body.extend(self.others.iter().flat_map(|actor| prefixed(actor)));
        body.extend(uleb(self.columns.len() as u64));
        for (spec, content) in &self.columns {
            body.extend(uleb(*spec));
            body.extend(uleb(content.len() as u64));
        }
        body.extend(self.columns.iter().flat_map(|(_, content)| content));
        body.extend(&self.extra);
        body
    }

    pub(crate) fn chunk(&self) -> Vec<u8> {
        seal(self.kind, &self.body())
    }
}

/// A chunk with a right checksum.
pub(crate) fn seal(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut head = vec![kind];
    head.extend(uleb(body.len() as u64));
    let hash = Sha256::new().chain_update(&head).chain_update(body).finalize();
    [&[0x85, 0x6f, 0x4a, 0x83], &hash[..4], &head, body].concat()
}

/// A deflated change: the checksum is that of what it inflates to.
pub(crate) fn seal_deflated(body: &[u8], deflated: &[u8]) -> Vec<u8> {
    let raw = seal(1, body);
    [&raw[..8], &[2], &uleb(deflated.len() as u64), deflated].concat()
}

pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut deflated = Vec::new();
    let level = flate2::Compression::default();
    flate2::bufread::DeflateEncoder::new(bytes, level).read_to_end(&mut deflated).unwrap();
    deflated
}

pub(crate) fn uleb(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A run of `rows` equal rows.
pub(crate) fn run(rows: u64, value: &[u8]) -> Vec<u8> {
    let mut run = uleb(rows);
    // A signed number ends with a clear sign bit.
    if run.last().unwrap() & 0x40 != 0 {
        *run.last_mut().unwrap() |= 0x80;
        run.push(0);
    }
    run.extend(value);
    run
}

pub(crate) fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let mut out = uleb(bytes.len() as u64);
    out.extend(bytes);
    out
}

/// A sequence of numbers that a seed determines.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

/// A document by actor `name`, which stands for a device.
pub(crate) fn device(name: u8) -> AutoCommit {
    AutoCommit::new().with_actor(AmActor::from(vec![name; 16]))
}

pub(crate) fn am(hash: ChangeHash) -> automerge::ChangeHash {
    automerge::ChangeHash(hash.0)
}

/// The changes admitted to one document.
pub(crate) struct Memory {
    pub(crate) space: SpaceName,
    pub(crate) collection: CollectionName,
    pub(crate) document: DocumentId,
    pub(crate) changes: BTreeMap<ChangeHash, KnownChange>,
}

impl Memory {
    pub(crate) fn of(document: DocumentId) -> Self {
        let space = SpaceName::new("acme").unwrap();
        let collection = CollectionName::new("jobs").unwrap();
        Self { space, collection, document, changes: BTreeMap::new() }
    }

    /// A document with the natural key `key`.
    pub(crate) fn derived(key: &str) -> (Self, Genesis) {
        let genesis = Genesis::first(key).unwrap();
        let mut memory = Self::of(DocumentId([0; 16]));
        memory.document = DocumentId::derive(&memory.space, &memory.collection, &genesis);
        (memory, genesis)
    }

    pub(crate) fn admit(&mut self, change: &Change) -> Result<Admission, Refusal> {
        let place =
            Place { space: &self.space, collection: &self.collection, document: &self.document };
        let admission = admit(change, &place, &*self)?;
        self.changes.insert(change.hash(), change.known());
        Ok(admission)
    }
}

impl History for Memory {
    fn change(&self, hash: &ChangeHash) -> Option<KnownChange> {
        self.changes.get(hash).cloned()
    }

    fn last(&self, actor: &ActorId) -> Option<LastChange> {
        let of_actor = self.changes.values().filter(|change| change.actor == *actor);
        of_actor.map(|c| LastChange { seq: c.seq, max_op: c.max_op }).max_by_key(|c| c.seq)
    }
}
