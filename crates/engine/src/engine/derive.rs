//! The consequences of a document's lineage: its effective value, and the reviews that name it.

use std::collections::BTreeMap;
use std::sync::Arc;

use automerge::{Automerge, ReadDoc};
use minicbor::bytes::ByteVec;
use rejoin_core::change::ObjectId;
use rejoin_core::lineage::{Candidate, FieldPath, Question, Settled, Standing, Unsettled};
use rejoin_core::schema::Schema;
use rejoin_core::{CollectionName, DocumentId, ReviewId, Segment};
use serde_json::Value;

use super::loaded::fenced;
use super::{EngineError, LoadedDocument};
use crate::reserved::REVIEWS;
use crate::store::{
    CandidateRow, DocumentRow, ReviewKind, ReviewRow, ReviewedDocument, SettledRow,
};
use crate::value::{At, Effective, Found, to_effective_json, to_json};
use crate::write::{found, object};

/// The consequences of a lineage.
#[derive(Debug, Default)]
pub(super) struct Derived {
    /// Whether the lineage was looked at. Otherwise the document reads as Automerge shows it, and
    /// its reviews are those it had.
    looked: bool,
    effective: Effective,
    /// For a document in which people see values that do not count: the values that do, and those
    /// that edits are written against.
    uncounted: Option<Box<Uncounted>>,
    standings: Vec<Standing>,
    settled: Vec<Settled>,
}

#[derive(Debug)]
struct Uncounted {
    agreed: Effective,
    for_edit: Effective,
}

/// Looks at the lineage of a document that may differ from what Automerge shows: if it did so
/// before, if a change came that does not build on all others (`branched`), or if there is a
/// schema.
pub(super) fn derive(
    id: &DocumentId,
    row: &mut DocumentRow,
    document: &mut LoadedDocument,
    schema: &Arc<Schema>,
    branched: bool,
) -> Result<Derived, EngineError> {
    if !row.uneasy && !branched && **schema == Schema::default() {
        return Ok(Derived::default());
    }
    let lineage = document.lineage(id, schema)?;
    let mut standings = lineage.standings();
    let effective = Effective::seen(lineage, &standings);
    let counts =
        |standing: &Standing| standing.holds_container || standing.value == standing.agreed;
    let uncounted = (!standings.iter().all(counts)).then(|| Uncounted {
        agreed: Effective::agreed(lineage, &standings),
        for_edit: Effective::for_edit(lineage, &standings),
    });
    let uncounted = uncounted.map(Box::new);
    let settled = lineage.settled();
    let containers = fenced(|| {
        let at = At::new(&document.doc, None, document.marks());
        standings.iter_mut().for_each(|it| read_containers(&document.doc, at, &effective, it));
        Ok(())
    });
    containers.map_err(|reason| EngineError::Unreadable { document: *id, reason })?;
    row.uneasy = !standings.is_empty() || !effective.is_empty();
    Ok(Derived { looked: true, effective, uncounted, standings, settled })
}

impl Derived {
    /// The values that do not read as Automerge shows them, if there are any.
    pub(super) fn effective(&self) -> Option<&Effective> {
        Some(&self.effective).filter(|effective| !effective.is_empty())
    }

    /// The same for a caller that edits the document.
    pub(super) fn effective_for_edit(&self) -> Option<&Effective> {
        match &self.uncounted {
            Some(uncounted) => Some(&uncounted.for_edit),
            None => self.effective(),
        }
    }

    /// Whether people see the document as deleted.
    pub(super) fn is_deleted(&self, document: &LoadedDocument) -> bool {
        let at = At::new(&document.doc, None, document.marks()).with(self.effective());
        at.find(&automerge::ROOT, at.marks().deleted).is_some_and(|found| found.is_true())
    }

    /// The fields with several open values.
    pub(super) fn standings(&self) -> &[Standing] {
        &self.standings
    }

    /// The document as people should see it.
    pub(super) fn value(&self, document: &LoadedDocument, schema: &Schema) -> Value {
        with_defaults(read(document, &self.effective), schema)
    }

    /// The document with the values that count, if these are not the ones that people see.
    pub(super) fn agreed(&self, document: &LoadedDocument, schema: &Schema) -> Option<Value> {
        let uncounted = self.uncounted.as_ref()?;
        Some(with_defaults(read(document, &uncounted.agreed), schema))
    }

    /// The value that an edit is compared with: without defaults of the schema, and without values
    /// that do not count.
    pub(super) fn value_for_edit(&self, document: &LoadedDocument) -> Value {
        let effective = self.uncounted.as_ref().map(|uncounted| &uncounted.for_edit);
        read(document, effective.unwrap_or(&self.effective))
    }

    /// The reviews of the document's own fields; `None` if they are those it had.
    pub(super) fn reviews(
        &self,
        row: &DocumentRow,
        id: &DocumentId,
    ) -> Option<BTreeMap<ReviewId, ReviewRow>> {
        if !self.looked {
            return None;
        }
        let mut reviews = BTreeMap::new();
        let review = |question, place: &FieldPath| ReviewRow {
            kind: kind(question),
            collection: row.collection.clone(),
            documents: vec![ReviewedDocument {
                document: *id,
                key: row.key.clone(),
                booked_ms: None,
            }],
            field: place.to_string(),
            standing: None,
            candidates: Vec::new(),
            settled: None,
        };
        for settled in &self.settled {
            let (dismissed, why) = (settled.dismissed, settled.why.clone());
            let by = candidate_row(&settled.by);
            reviews.entry(settled.review).or_insert_with(|| ReviewRow {
                settled: Some(SettledRow { by, dismissed, why, document: None }),
                ..review(settled.question, &settled.place)
            });
        }
        for standing in &self.standings {
            for unsettled in &standing.unsettled {
                let row = ReviewRow {
                    standing: standing.stays(unsettled.question).map(json_bytes),
                    candidates: unsettled.candidates.iter().map(candidate_row).collect(),
                    ..review(unsettled.question, &standing.place)
                };
                reviews.insert(unsettled.review, row);
            }
        }
        Some(reviews)
    }
}

/// Reads the value of a container that hides something people are asked about, and the content of
/// hidden containers. There is no question about a hidden container that is empty or has the same
/// content as the visible one.
fn read_containers(doc: &Automerge, at: At<'_>, effective: &Effective, standing: &mut Standing) {
    let as_read = at.with(Some(effective));
    let is_about_containers = |unsettled: &Unsettled| unsettled.question == Question::Containers;
    let is_about_one = standing.unsettled.iter().any(is_about_containers);
    if !is_about_one && (!standing.holds_container || standing.unsettled.is_empty()) {
        return;
    }
    let shown =
        found(doc, standing).and_then(|(object, prop)| as_read.content(at.find(&object, prop)?));
    let read = |container: &ObjectId| {
        let id = object(container);
        let kind = doc.object_type(&id).ok()?;
        as_read.content(Found::Object(kind, id))
    };
    for unsettled in standing.unsettled.iter_mut().filter(|it| is_about_containers(it)) {
        let candidates = std::mem::take(&mut unsettled.candidates).into_iter();
        let containers = std::mem::take(&mut unsettled.containers);
        for (mut candidate, container) in candidates.zip(containers) {
            candidate.value = candidate.value.or_else(|| read(&container));
            if says_more(candidate.value.as_ref(), shown.as_ref()) {
                unsettled.candidates.push(candidate);
                unsettled.containers.push(container);
            }
        }
    }
    standing.unsettled.retain(|it| !is_about_containers(it) || !it.candidates.is_empty());
    if standing.holds_container {
        standing.agreed.clone_from(&shown);
        standing.value = shown;
    }
}

fn read(document: &LoadedDocument, effective: &Effective) -> Value {
    match effective.is_empty() {
        true => to_json(&document.doc, None, document.marks()),
        false => to_effective_json(&document.doc, None, effective, document.marks()),
    }
}

/// Whether a hidden container holds anything that is not seen anyway.
fn says_more(hidden: Option<&Value>, shown: Option<&Value>) -> bool {
    let is_empty = match hidden {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(value) => *value == 0,
    };
    !is_empty && hidden != shown
}

/// The collection under whose name changes of reviews are told.
pub(super) fn reviews_collection() -> CollectionName {
    CollectionName::new(REVIEWS).expect("the name is short and plain")
}

fn kind(question: Question) -> ReviewKind {
    match question {
        Question::Conflict => ReviewKind::FieldConflict,
        Question::Disagreement => ReviewKind::Disagreement,
        Question::Refused => ReviewKind::RefusedWrite,
        Question::Removal => ReviewKind::Removal,
        Question::Hidden => ReviewKind::Hidden,
        Question::Containers => ReviewKind::Containers,
    }
}

fn candidate_row(candidate: &Candidate) -> CandidateRow {
    CandidateRow {
        change: candidate.change,
        value: candidate.value.as_ref().map(json_bytes),
        author: candidate.author.clone(),
        time_s: candidate.time_s,
        settles: candidate.settles,
    }
}

fn json_bytes(value: &Value) -> ByteVec {
    serde_json::to_vec(value).expect("JSON with text keys always serialises").into()
}

/// A value with the schema's defaults for absent fields.
pub(super) fn with_defaults(mut value: Value, schema: &Schema) -> Value {
    for (path, field) in &schema.fields {
        if let Some(default) = &field.default {
            put_default(&mut value, path.segments(), default);
        }
    }
    value
}

/// Puts a default at a place that is absent in a map that is there.
fn put_default(value: &mut Value, path: &[Segment], default: &Value) {
    let Some((Segment::Key(key), rest)) = path.split_first() else { return };
    let Some(map) = value.as_object_mut() else { return };
    if rest.is_empty() {
        map.entry(key.clone()).or_insert_with(|| default.clone());
    } else if let Some(inner) = map.get_mut(key) {
        put_default(inner, rest, default);
    }
}
