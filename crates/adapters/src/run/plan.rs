//! What a mapping would change, before it does.

use std::collections::{BTreeMap, BTreeSet};

use rejoin::DocumentId;

use super::answer::{Changes, Example, ExampleChange};
use super::follow::{FollowError, TOGETHER, projected};
use super::{Adapter, Carried, reviews};
use crate::delivery::Record;
use crate::mapping::{Mapping, RecordMapping, Source};
use crate::outbox::{Planned, PlannedRow, Projected};

impl Changes {
    fn note(&mut self, row: PlannedRow, mapping: &Mapping, is_there: bool) {
        let PlannedRow { record, planned } = row;
        let change = match planned {
            Planned::Same => {
                self.same += 1;
                return;
            }
            Planned::Add(row) => {
                self.add += 1;
                ExampleChange::Add(row)
            }
            Planned::Change(fields) => {
                self.change += 1;
                let mut changed = BTreeMap::new();
                for (field, before, after) in fields {
                    // What is to be hidden now may have been delivered before.
                    let is_hidden = is_masked(mapping, &record, &field);
                    let before = if is_hidden { Some("(hidden)".into()) } else { before };
                    *self.fields.entry(format!("{}.{field}", record.name)).or_default() += 1;
                    changed.insert(field, [before, after].map(Option::unwrap_or_default));
                }
                ExampleChange::Change(changed)
            }
            Planned::Remove => {
                self.remove += 1;
                self.removed_by_mapping += u64::from(is_there);
                ExampleChange::Remove(true)
            }
            Planned::Misfit(fault) => {
                self.misfits += 1;
                ExampleChange::Misfit(fault)
            }
        };
        if self.examples.len() < EXAMPLES {
            self.examples.push(Example { name: record.name, record: record.key, change });
        }
    }
}

/// What a mapping would make of everything an adapter carries, compared with what was enqueued last.
pub(super) async fn plan(
    adapter: &Adapter,
    mapping: &Mapping,
    salt: &str,
    carried: &Carried,
) -> Result<Changes, FollowError> {
    let rules = carried.rules().await?;
    let mut changes = Changes::default();
    let mut seen = BTreeSet::new();
    match mapping.source {
        Source::Documents => {
            for some in carried.documents()?.chunks(TOGETHER) {
                let mut together = Vec::with_capacity(some.len());
                for id in some {
                    let document = carried.collection.document_by_id(*id);
                    let Some(entry) = document.read().await? else { continue };
                    let is_there = !entry.deleted;
                    let projected = projected(mapping, salt, &document, entry, &rules).await?;
                    together.push((projected, is_there));
                }
                compare(adapter, mapping, together, &mut changes, &mut seen).await?;
            }
        }
        Source::Reviews => {
            let reviews = reviews::projected(mapping, salt, carried, &rules).await?;
            let open = reviews.into_iter().map(|review| (review, true)).collect();
            compare(adapter, mapping, open, &mut changes, &mut seen).await?;
        }
    }
    // What is carried no more has no rows.
    let with_rows = adapter.outbox(|outbox| outbox.documents()).await?;
    let gone = carried.gone(with_rows.into_iter().filter(|document| !seen.contains(document)))?;
    // Those of another collection are there, and what an adapter carries of its own is not.
    let is_there = mapping.collection != adapter.mapping.collection;
    let gone = gone
        .into_iter()
        .map(|document| (Projected::gone(document, &rules.heads), is_there))
        .collect();
    compare(adapter, mapping, gone, &mut changes, &mut BTreeSet::new()).await?;
    Ok(changes)
}

async fn compare(
    adapter: &Adapter,
    mapping: &Mapping,
    some: Vec<(Projected, bool)>,
    changes: &mut Changes,
    seen: &mut BTreeSet<DocumentId>,
) -> Result<(), FollowError> {
    seen.extend(some.iter().map(|(projected, _)| projected.document));
    let rows = adapter.outbox(move |outbox| {
        let mut rows = Vec::new();
        for (projected, is_there) in &some {
            rows.extend(outbox.plan(projected)?.into_iter().map(|row| (row, *is_there)));
        }
        Ok(rows)
    });
    rows.await?.into_iter().for_each(|(row, is_there)| changes.note(row, mapping, is_there));
    Ok(())
}

fn is_masked(mapping: &Mapping, record: &Record, field: &str) -> bool {
    let of = |it: &&RecordMapping| it.name == record.name;
    let fields = mapping.records.iter().filter(of).filter_map(|record| record.fields.get(field));
    fields.into_iter().any(|field| field.mask.is_some())
}

/// Rows that are shown.
const EXAMPLES: usize = 20;
