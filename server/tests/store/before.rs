//! A file of the version before, and what is in it, read without the store.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::DeflateDecoder;
use minicbor::data::Type;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

type ById = TableDefinition<'static, (&'static [u8; 16], u64), &'static [u8]>;

pub(crate) const DOCUMENTS: ById = TableDefinition::new("documents-1");
const CHUNKS: ById = TableDefinition::new("chunks-1");
const SNAPSHOTS: ById = TableDefinition::new("snapshots-1");
const LOG: TableDefinition<'_, (&str, u64), &[u8; 32]> = TableDefinition::new("log-1");
const DIGESTS: TableDefinition<'_, (&str, &str), &[u8; 32]> = TableDefinition::new("digests-1");
const IDENTITY: TableDefinition<'_, &str, &[u8; 16]> = TableDefinition::new("identity-1");

/// The spaces of the fixture, and what `rejoin digest` said of them.
pub(crate) const SPACES: [(&str, &str); 3] = [
    ("acme", "321e770fa1dad2f612d3947c0ebf3130c62f0ce3a2fcea82d78b309d9fad8b0d"),
    ("harbour", "893befa6d4f2d198097c242951393047cf3c4666fdadafcb34c912d2c3673638"),
    ("solo", "2bcd7b1ea8d8e4cb595a27779e385f40d3f3395705a253cbf082793ba3d73dd4"),
];

/// The bytes of the fixture.
pub(crate) fn file() -> Vec<u8> {
    let deflated = include_bytes!("../fixtures/relay-1.redb.deflate");
    let mut bytes = Vec::new();
    DeflateDecoder::new(deflated.as_slice()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The fixture in memory, open.
pub(crate) fn database() -> Database {
    let bytes = file();
    let backend = InMemoryBackend::new();
    backend.set_len(bytes.len() as u64).unwrap();
    backend.write(0, &bytes).unwrap();
    Database::builder().create_with_backend(backend).unwrap()
}

/// What the file of the version before holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) relay: [u8; 16],
    /// By space and document id.
    pub(crate) documents: BTreeMap<(String, [u8; 16]), Document>,
    /// By space and collection.
    pub(crate) digests: BTreeMap<(String, String), [u8; 32]>,
}

#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) collection: String,
    /// The position of its last change, and a hash of its heads.
    pub(crate) last: u64,
    pub(crate) heads: [u8; 8],
    /// By position; nothing where only the snapshot has the change.
    pub(crate) changes: BTreeMap<u64, Option<Vec<u8>>>,
    pub(crate) snapshot: Vec<u8>,
}

impl Contents {
    pub(crate) fn read(database: &Database) -> Self {
        let transaction = database.begin_read().unwrap();
        let identity = transaction.open_table(IDENTITY).unwrap();
        let relay = *identity.get("relay").unwrap().unwrap().value();
        let mut contents = Self { relay, ..Self::default() };
        for entry in transaction.open_table(LOG).unwrap().iter().unwrap() {
            let (key, row) = entry.unwrap();
            let ((space, last), row) = (key.value(), row.value());
            let id: [u8; 16] = row[..16].try_into().unwrap();
            let heads = row[16..24].try_into().unwrap();
            let document = Document::read(&transaction, &id, last, heads);
            contents.documents.insert((space.to_owned(), id), document);
        }
        for entry in transaction.open_table(DIGESTS).unwrap().iter().unwrap() {
            let (key, digest) = entry.unwrap();
            let (space, collection) = key.value();
            contents.digests.insert((space.to_owned(), collection.to_owned()), *digest.value());
        }
        contents
    }

    /// The documents of a space, each with its id.
    pub(crate) fn of(&self, space: &str) -> impl Iterator<Item = (&[u8; 16], &Document)> {
        let of_space = self.documents.iter().filter(move |((of, _), _)| of == space);
        of_space.map(|((_, id), document)| (id, document))
    }
}

impl Document {
    fn read(transaction: &redb::ReadTransaction, id: &[u8; 16], last: u64, heads: [u8; 8]) -> Self {
        let rows = transaction.open_table(DOCUMENTS).unwrap();
        let chunks = transaction.open_table(CHUNKS).unwrap();
        let mut changes = BTreeMap::new();
        for entry in rows.range((id, 0)..(id, u64::MAX)).unwrap() {
            let (key, row) = entry.unwrap();
            let (position, row) = (key.value().1, row.value());
            let graph_len = usize::from(u16::from_le_bytes([row[1], row[2]]));
            let chunk = match row[0] {
                0 => None,
                1 => Some(row[3 + graph_len..].to_vec()),
                _ => Some(chunks.get((id, position)).unwrap().unwrap().value().to_vec()),
            };
            changes.insert(position, chunk);
        }
        let parts = transaction.open_table(SNAPSHOTS).unwrap();
        let parts = parts.range((id, 0)..=(id, u64::MAX)).unwrap();
        let snapshot = parts.flat_map(|part| part.unwrap().1.value().to_vec()).collect();
        let own = rows.get((id, u64::MAX)).unwrap().unwrap();
        Self { collection: collection(own.value()), last, heads, changes, snapshot }
    }

    /// The position of its first change.
    pub(crate) fn first(&self) -> u64 {
        *self.changes.first_key_value().unwrap().0
    }
}

/// The second field of a document's row.
fn collection(row: &[u8]) -> String {
    let mut decoder = minicbor::Decoder::new(row);
    for _ in 0..decoder.map().unwrap().unwrap() {
        let key = decoder.u32().unwrap();
        if key == 1 && decoder.datatype().unwrap() == Type::String {
            return decoder.str().unwrap().to_owned();
        }
        decoder.skip().unwrap();
    }
    panic!("a document without a collection");
}
