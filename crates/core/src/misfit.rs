//! Values that do not fit their schema. They are kept as they are, and people are told.

use serde_json::Value;

use crate::invariant::{FaultyBooking, booking};
use crate::schema::{ANY, Field, Invariant, Kind, Rule, Schema};
use crate::{Path, Segment};

/// A value that does not fit the rules of its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The field.
    pub field: Path,
    /// The rule of the schema that the value breaks.
    pub reason: String,
    /// Whether the schema requires it, and it is not there.
    pub is_missing: bool,
}

impl Schema {
    /// The parts of a document that do not fit: times that make no sense of a booking, and values
    /// of fields.
    pub fn misfits(&self, value: &Value) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        for invariant in &self.invariants {
            let read = booking(value, invariant, self.zone_or_utc());
            let (Invariant::NoOverlap { start, .. }, Err(faulty)) = (invariant, read) else {
                continue;
            };
            let field = match &faulty {
                FaultyBooking::NotATime { field } => field,
                FaultyBooking::EndsBeforeStart => start,
            };
            let misfit =
                Misfit { field: field.clone(), reason: faulty.to_string(), is_missing: false };
            if !misfits.contains(&misfit) {
                misfits.push(misfit);
            }
        }
        for (path, field) in &self.fields {
            gather(value, Path::ROOT, path.segments(), field, &mut |misfit| {
                // A value that another field names more exactly belongs to that field.
                let is_own = self.field(&misfit.field).is_some_and(|it| std::ptr::eq(it, field));
                let is_told = misfits.iter().any(|known| known.field == misfit.field);
                if is_own && !is_told {
                    misfits.push(misfit);
                }
            });
        }
        misfits
    }
}

impl Field {
    /// The reason why a value does not fit the field, if it does not.
    pub fn misfit(&self, value: &Value) -> Option<String> {
        let wanted = match &self.merge {
            Rule::Text => Some(Kind::String),
            Rule::Counter => Some(Kind::Integer),
            Rule::Set | Rule::List => Some(Kind::List),
            Rule::Map => Some(Kind::Map),
            _ => self.kind,
        };
        if let Some(kind) = wanted.filter(|kind| !kind.fits(value)) {
            return Some(format!("it is not {kind}, as the schema says"));
        }
        match &self.merge {
            Rule::Order(order) if !order.iter().any(|known| value == known.as_str()) => {
                Some(format!("it is none of {}", order.join(", ")))
            }
            _ => None,
        }
    }
}

/// Tells the places where a value does not fit, or is absent although the map around it is there
/// and must have it.
fn gather(value: &Value, at: Path, rest: &[Segment], field: &Field, tell: &mut impl FnMut(Misfit)) {
    let Some((step, rest)) = rest.split_first() else {
        if let Some(reason) = field.misfit(value) {
            tell(Misfit { field: at, reason, is_missing: false });
        }
        return;
    };
    let Segment::Key(key) = step else { return };
    match value {
        Value::Object(map) if key == ANY => {
            for (key, value) in map {
                gather(value, at.join(key.as_str()), rest, field, tell);
            }
        }
        Value::Array(items) if key == ANY => {
            for (index, value) in items.iter().enumerate() {
                gather(value, at.join(index), rest, field, tell);
            }
        }
        Value::Object(map) => match map.get(key) {
            Some(value) => gather(value, at.join(key.as_str()), rest, field, tell),
            None if rest.is_empty() && field.required => {
                let reason = "required, and not there".to_owned();
                tell(Misfit { field: at.join(key.as_str()), reason, is_missing: true });
            }
            None => {}
        },
        _ => {}
    }
}
