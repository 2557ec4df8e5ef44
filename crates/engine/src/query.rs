//! Documents of a collection that fit conditions, in an order: looked up in an index where the schema
//! names one, and else by a look at all stored values. No document is loaded.

mod condition;
mod live;
mod plan;

use std::collections::BTreeMap;

use rejoin_core::invariant::look_up;
use rejoin_core::order::order_key;
use rejoin_core::schema::{ANY, Field, Schema};
use rejoin_core::time::Zone;
use rejoin_core::{CollectionName, DocumentId, Path, Segment, SpaceName};
use serde_json::Value;

pub use condition::Condition;
pub use live::{Difference, Live, Look};
use plan::Ready;
pub use plan::{Plan, ScanReason};

use crate::store::{ReadTxn, StoreError, ValueRow};

/// Which documents of a collection, in which order, and how many.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The space of the collection.
    pub space: SpaceName,
    /// The collection.
    pub collection: CollectionName,
    /// What holds of every document that is found.
    pub filters: Vec<(Path, Condition)>,
    /// By which fields they are sorted, the most important first; by their ids alone if there is none.
    pub sort: Vec<Sort>,
    /// How many are found at most.
    pub limit: Option<usize>,
}

/// A field that documents are sorted by. Documents without the field come before the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// The field.
    pub field: Path,
    /// Whether the largest value comes first.
    pub is_falling: bool,
}

/// A document that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Which document.
    pub document: DocumentId,
    /// What is stored of it.
    pub row: ValueRow,
    /// Its place in the order of the query, as bytes that compare so.
    rank: Vec<u8>,
}

impl Query {
    /// All documents of a collection, in the order of their ids.
    pub fn new(space: SpaceName, collection: CollectionName) -> Self {
        Self { space, collection, filters: Vec::new(), sort: Vec::new(), limit: None }
    }

    /// How it is answered by a file as it is.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn plan(&self, txn: &ReadTxn) -> Result<Plan, StoreError> {
        Ok(Ready::of(self, txn, &self.schema(txn)?)?.plan)
    }

    /// The documents that fit, in order.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn find(&self, txn: &ReadTxn) -> Result<Vec<Found>, StoreError> {
        let schema = self.schema(txn)?;
        let judge = Judge { query: self, schema: &schema };
        Ready::of(self, txn, &schema)?.find(self, txn, &judge)
    }

    /// How many documents fit, the limit left aside. Where one indexed field alone is asked about, no
    /// document's value is read.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn count(&self, txn: &ReadTxn) -> Result<u64, StoreError> {
        let schema = self.schema(txn)?;
        let all = Self { sort: Vec::new(), limit: None, ..self.clone() };
        let judge = Judge { query: &all, schema: &schema };
        Ready::of(&all, txn, &schema)?.count(&all, txn, &judge)
    }

    /// The schema of the collection in the same state of the file.
    fn schema(&self, txn: &ReadTxn) -> Result<Schema, StoreError> {
        txn.schema(&self.space, &self.collection)
    }
}

/// Tells whether documents fit a query, and where they stand.
struct Judge<'a> {
    query: &'a Query,
    schema: &'a Schema,
}

impl Judge<'_> {
    fn zone(&self) -> Zone {
        self.schema.zone_or_utc()
    }

    /// What a value of a field is compared by.
    fn key(&self, field: &Path, value: &Value) -> Vec<u8> {
        let kind = self.schema.field(field).and_then(|field| field.kind);
        order_key(value, kind, self.zone())
    }

    /// The document as it is found, if it fits.
    fn found(&self, document: DocumentId, row: ValueRow) -> Option<Found> {
        if row.deleted {
            return None;
        }
        // What cannot be read has no fields.
        let json: Value = serde_json::from_slice(&row.json).unwrap_or_default();
        let fits = self.query.filters.iter().all(|(field, condition)| {
            condition.holds(at(&json, field), |value| self.key(field, value))
        });
        fits.then(|| {
            let rank = self.rank(document, &json);
            Found { document, row, rank }
        })
    }

    /// Bytes that compare as documents stand in the order of the query: each value between bytes that no
    /// value holds, all of it turned round where the order falls, and the id at last.
    fn rank(&self, document: DocumentId, json: &Value) -> Vec<u8> {
        let mut rank = Vec::new();
        for Sort { field, is_falling } in &self.query.sort {
            let begin = rank.len();
            end_by_zeros(&mut rank, &self.key(field, at(json, field)));
            turn(&mut rank[begin..], *is_falling);
        }
        let begin = rank.len();
        rank.extend(document.0);
        turn(&mut rank[begin..], self.query.sort.first().is_some_and(|sort| sort.is_falling));
        rank
    }
}

/// What a document holds at a field, which may be nothing.
fn at<'v>(json: &'v Value, field: &Path) -> &'v Value {
    look_up(json, field).unwrap_or(&Value::Null)
}

fn turn(bytes: &mut [u8], is_falling: bool) {
    if is_falling {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
}

/// The fields that have an index. One that stands for several fields has none.
fn index_of(schema: &Schema) -> impl Iterator<Item = (&Path, &Field)> {
    let is_one = |path: &Path| !path.segments().iter().any(|step| *step == Segment::from(ANY));
    schema.fields.iter().filter(move |(path, field)| field.index && is_one(path))
}

/// The values of a document's indexed fields, by the name of the index.
pub(crate) fn index_keys(schema: &Schema, json: &Value) -> BTreeMap<String, Vec<u8>> {
    let key = |path: &Path| {
        let kind = schema.field(path).and_then(|field| field.kind);
        order_key(at(json, path), kind, schema.zone_or_utc())
    };
    let mut keys = BTreeMap::new();
    for (path, field) in index_of(schema) {
        let value = key(path);
        for then in &field.index_then {
            let mut both = within(&value);
            both.extend(key(then));
            keys.insert(index_name(path, Some(then)), both);
        }
        keys.insert(index_name(path, None), value);
    }
    keys
}

/// The name of the index of a field, or of that field and then another.
fn index_name(field: &Path, then: Option<&Path>) -> String {
    match then {
        Some(then) => format!("{field}\0{then}"),
        None => field.to_string(),
    }
}

/// The bytes by which all keys of an index of two fields begin that have this value of the first.
fn within(key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 16);
    end_by_zeros(&mut bytes, key);
    bytes
}

/// Adds a key and an end that compares as less than any more of a key.
fn end_by_zeros(bytes: &mut Vec<u8>, key: &[u8]) {
    for byte in key {
        bytes.push(*byte);
        if *byte == 0 {
            bytes.push(0xff);
        }
    }
    bytes.extend([0, 0]);
}
