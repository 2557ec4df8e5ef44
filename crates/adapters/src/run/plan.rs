//! What a mapping would change, before it does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::follow::{FollowError, TOGETHER, projected};
use super::{Adapter, Carried, reviews};
use crate::delivery::Record;
use crate::mapping::{Mapping, RecordMapping, Source};
use crate::outbox::{Planned, PlannedRow, Projected};

/// How many rows a mapping would change, in which fields, and some of them as examples.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) same: u64,
    pub(super) add: u64,
    pub(super) change: u64,
    pub(super) remove: u64,
    pub(super) misfits: u64,
    /// How many rows would have another value in each field.
    fields: BTreeMap<String, u64>,
    examples: Vec<Value>,
}

impl Plan {
    fn note(&mut self, row: PlannedRow, mapping: &Mapping) {
        let PlannedRow { record, planned } = row;
        let mut example = json!({ "name": record.name, "record": record.key });
        match planned {
            Planned::Same => {
                self.same += 1;
                return;
            }
            Planned::Add(row) => {
                self.add += 1;
                example["add"] = Value::Object(row);
            }
            Planned::Change(fields) => {
                self.change += 1;
                for (field, before, after) in fields {
                    // What is to be hidden now may have been delivered before.
                    let is_hidden = is_masked(mapping, &record, &field);
                    let before = if is_hidden { json!("(hidden)") } else { json!(before) };
                    *self.fields.entry(format!("{}.{field}", record.name)).or_default() += 1;
                    example["change"][field] = json!([before, after]);
                }
            }
            Planned::Remove => {
                self.remove += 1;
                example["remove"] = Value::Bool(true);
            }
            Planned::Misfit(fault) => {
                self.misfits += 1;
                example["misfit"] = Value::String(fault);
            }
        }
        if self.examples.len() < EXAMPLES {
            self.examples.push(example);
        }
    }

    /// Deliveries it would come to.
    pub(super) fn deliveries(&self) -> u64 {
        self.add + self.change + self.remove
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "same": self.same,
            "add": self.add,
            "change": self.change,
            "remove": self.remove,
            "misfits": self.misfits,
            "fields": self.fields,
            "examples": self.examples,
        })
    }
}

/// What a mapping would make of everything an adapter carries, compared with what was enqueued last.
pub(super) async fn plan(
    adapter: &Adapter,
    mapping: &Mapping,
    salt: &str,
    carried: &Carried,
) -> Result<Plan, FollowError> {
    let rules = carried.rules().await?;
    let mut plan = Plan::default();
    let mut seen = BTreeSet::new();
    match mapping.source {
        Source::Documents => {
            for some in carried.documents()?.chunks(TOGETHER) {
                let mut together = Vec::with_capacity(some.len());
                for id in some {
                    let document = carried.collection.document_by_id(*id);
                    let Some(entry) = document.read().await? else { continue };
                    together.push(projected(mapping, salt, &document, entry, &rules).await?);
                }
                compare(adapter, mapping, together, &mut plan, &mut seen).await?;
            }
        }
        Source::Reviews => {
            let reviews = reviews::projected(mapping, salt, carried, &rules).await?;
            compare(adapter, mapping, reviews, &mut plan, &mut seen).await?;
        }
    }
    // What is carried no more has no rows.
    let known = adapter.outbox(|outbox| outbox.documents()).await?;
    let gone = known.into_iter().filter(|document| !seen.contains(document));
    let gone: Vec<_> = gone.map(|document| Projected::gone(document, &rules.heads)).collect();
    compare(adapter, mapping, gone, &mut plan, &mut BTreeSet::new()).await?;
    Ok(plan)
}

async fn compare(
    adapter: &Adapter,
    mapping: &Mapping,
    some: Vec<Projected>,
    plan: &mut Plan,
    seen: &mut BTreeSet<rejoin::DocumentId>,
) -> Result<(), FollowError> {
    seen.extend(some.iter().map(|projected| projected.document));
    let rows = adapter.outbox(move |outbox| {
        let mut rows = Vec::new();
        for projected in &some {
            rows.extend(outbox.plan(projected)?);
        }
        Ok(rows)
    });
    rows.await?.into_iter().for_each(|row| plan.note(row, mapping));
    Ok(())
}

fn is_masked(mapping: &Mapping, record: &Record, field: &str) -> bool {
    let of = |it: &&RecordMapping| it.name == record.name;
    let fields = mapping.records.iter().filter(of).filter_map(|record| record.fields.get(field));
    fields.into_iter().any(|field| field.mask.is_some())
}

/// Rows that are shown.
const EXAMPLES: usize = 20;
