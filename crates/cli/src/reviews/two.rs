//! Reviews about two documents: double bookings and duplicates.

use anyhow::Result;
use rejoin::history::{Blame, Candidate};
use rejoin::review::{ReviewKind, ReviewedDocument};
use rejoin::schema::Invariant;
use rejoin::{Path, Review, Space};
use serde_json::Value;

use super::show::{aligned, bold, document};
use crate::output::Text;
use crate::place::{PlaceArguments, command_line, quoted};
use crate::questions::name;
use crate::short::short_id;
use crate::values::{at, shown};

/// The facts about the two documents of a review.
pub(crate) struct Two {
    /// The invariant they break together, if the schema still has it.
    invariant: Option<Invariant>,
    /// The values that make duplicates of the two documents, as each of them holds them.
    pub(super) values: Vec<String>,
    /// The person or thing that is booked twice.
    whose: Option<String>,
    /// For each document, the last write to the fields that the invariant is about.
    pub(super) last: Vec<Option<Candidate>>,
}

impl Two {
    pub(crate) async fn of(space: &Space, review: &Review) -> Result<Self> {
        let schema = space.schema(&review.collection).await?.unwrap_or_default();
        let invariant = schema.invariants.into_iter().find(|it| is_broken(review, it));
        let fields = invariant.as_ref().map(fields).unwrap_or_default();
        let (mut values, mut last, mut whose) = (Vec::new(), Vec::new(), None);
        for named in &review.documents {
            let document = document(space, review, named)?;
            let value = document.read().await?.map(|entry| entry.value).unwrap_or_default();
            let held = |path: &Path| shown(at(&value, path));
            match review.kind {
                ReviewKind::Duplicate => {
                    values.push(fields.iter().map(held).collect::<Vec<_>>().join(", "));
                }
                _ => whose = fields.first().map(held),
            }
            last.push(last_write(document.blame().await?, &fields));
        }
        Ok(Self { invariant, values, whose, last })
    }

    pub(super) fn headline(&self, review: &Review) -> Text {
        let (id, collection) = (short_id(&review.id), &review.collection);
        bold(&match (review.kind, &self.whose) {
            (ReviewKind::DoubleBooking, Some(whose)) => {
                format!("Review {id}: {} {whose} is booked twice in {collection}", review.field)
            }
            (ReviewKind::DoubleBooking, None) => {
                format!("Review {id}: {} is booked twice in {collection}", review.field)
            }
            _ => format!("Review {id}: the same {} twice in {collection}", review.field),
        })
    }

    /// The lines that say how to settle the review.
    pub(super) fn instructions(&self, place: &PlaceArguments, review: &Review) -> Vec<String> {
        let rejoin = command_line(place);
        let mut lines = vec!["\nTo settle it change one of them, for example:".to_owned()];
        lines.extend(aligned(&self.changes(&rejoin, review)));
        lines.push("or leave both as they are:".to_owned());
        lines.push(format!("  {rejoin} settle {} --dismiss WHY", short_id(&review.id)));
        lines
    }

    fn changes(&self, rejoin: &str, review: &Review) -> Vec<(String, String)> {
        // As a rule, the document that the relay got later is the one to move.
        let later = |named: &&ReviewedDocument| review.held_first != Some(named.document);
        let Some(named) = review.documents.iter().rev().find(later) else { return Vec::new() };
        let document = format!("{} {}", quoted(review.collection.as_str()), quoted(&name(named)));
        let set = |assignments: &[String]| {
            let assignments: Vec<_> = assignments.iter().map(|text| quoted(text)).collect();
            format!("{rejoin} set {document} {}", assignments.join(" "))
        };
        let mut ways = Vec::new();
        match &self.invariant {
            Some(Invariant::NoOverlap { key, start, end, unless }) => {
                let times = [format!("{start}=WHEN"), format!("{end}=WHEN")];
                ways.push((set(&times), "another time".to_owned()));
                ways.push((set(&[format!("{key}=WHO")]), format!("another {key}")));
                if let Some((field, value)) = unless.first_key_value() {
                    ways.push((set(&[assignment(field, value)]), String::new()));
                }
            }
            Some(Invariant::Unique { fields }) => {
                let fields: Vec<_> = fields.iter().map(|field| format!("{field}=VALUE")).collect();
                ways.push((set(&fields), "another value".to_owned()));
            }
            None => {}
        }
        ways.push((format!("{rejoin} delete {document}"), String::new()));
        ways
    }
}

fn is_broken(review: &Review, invariant: &Invariant) -> bool {
    match (review.kind, invariant) {
        (ReviewKind::DoubleBooking, Invariant::NoOverlap { key, .. }) => {
            key.to_string() == review.field
        }
        (ReviewKind::Duplicate, Invariant::Unique { fields }) => {
            let names: Vec<_> = fields.iter().map(ToString::to_string).collect();
            names.join(", ") == review.field
        }
        _ => false,
    }
}

/// The fields that an invariant is about.
fn fields(invariant: &Invariant) -> Vec<Path> {
    match invariant {
        Invariant::NoOverlap { key, start, end, .. } => {
            vec![key.clone(), start.clone(), end.clone()]
        }
        Invariant::Unique { fields } => fields.clone(),
    }
}

fn last_write(blames: Vec<Blame>, fields: &[Path]) -> Option<Candidate> {
    let concerns = |blame: &Blame| blame.path.as_ref().is_some_and(|path| fields.contains(path));
    let writes = blames.into_iter().filter(concerns).flat_map(|blame| blame.writes);
    let standing = writes.filter(|write| write.stands).map(|write| write.write);
    standing.max_by_key(|write| (write.time_s, write.change))
}

fn assignment(field: &Path, value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => format!("{field}={text}"),
        value => format!("{field}:={value}"),
    }
}
