//! Contradictions in and between invariants.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Report, has_star, misfit, misnamed};
use crate::Path;
use crate::schema::{Fault, Invariant, Kind, Rule, Schema, Severity};

pub(super) fn check(schema: &Schema, faults: &mut Vec<Fault>) {
    for (place, invariant) in schema.invariants.iter().enumerate() {
        let kind = invariant.kind().to_owned();
        let path = vec!["invariants".to_owned(), place.to_string(), kind];
        let mut report = Report { faults: &mut *faults, place: path };
        let before = &schema.invariants[..place];
        match invariant {
            Invariant::NoOverlap { key, start, end, unless } => {
                let interval = Interval { key, start, end };
                interval.check(schema, &mut report);
                check_unless(schema, unless, &mut report);
                interval.compare(before, &mut report);
            }
            Invariant::Unique { fields } => {
                check_unique(schema, fields, &mut report);
                compare_unique(fields, before, &mut report);
            }
        }
    }
}

/// The fields of a `no_overlap`.
#[derive(Clone, Copy, PartialEq)]
struct Interval<'a> {
    key: &'a Path,
    start: &'a Path,
    end: &'a Path,
}

impl Interval<'_> {
    fn check(&self, schema: &Schema, report: &mut Report<'_>) {
        check_field(schema, self.key, &["key"], "the key of no_overlap", report);
        let start = check_time(schema, self.start, "start", report);
        let end = check_time(schema, self.end, "end", report);
        if self.start == self.end {
            let same = self.start.to_string();
            let wrong = format!(
                "no_overlap starts and ends at {same:?}, so it takes no time; name the field where \
                 it ends"
            );
            report.error(&["end"], wrong);
        } else if let (Some(start), Some(end)) = (start, end)
            && (start == Kind::Time) != (end == Kind::Time)
        {
            let wrong = format!(
                "no_overlap starts at a field of type {:?} and ends at one of type {:?}; give both \
                 the same",
                start.name(),
                end.name()
            );
            report.error(&["end"], wrong);
        }
        for (option, path) in [("start", self.start), ("end", self.end)] {
            if path == self.key {
                let name = path.to_string();
                let wrong = format!(
                    "{name:?} is both key and {option} of no_overlap; key names whom the time is \
                     taken of"
                );
                report.error(&[option], wrong);
            }
        }
    }

    /// Compares with the invariants before it: two intervals of one document and one key that begin
    /// or end together always overlap, for any values of the fields.
    fn compare(&self, before: &[Invariant], report: &mut Report<'_>) {
        for other in before {
            let Invariant::NoOverlap { key, start, end, .. } = other else { continue };
            let other = Interval { key, start, end };
            if other.key != self.key {
                continue;
            }
            let name = self.key.to_string();
            let wrong = if other == *self {
                format!(
                    "the same no_overlap of {name:?} is there before; put what both say of unless \
                     into one of them"
                )
            } else if other.start == self.start || other.end == self.end {
                let at = if other.start == self.start { "start" } else { "end" };
                let field = if at == "start" { self.start } else { self.end }.to_string();
                format!(
                    "two no_overlap of {name:?} {at} at {field:?}, so their times overlap in every \
                     document; keep the one with the longer time"
                )
            } else if other.start == self.end && other.end == self.start {
                format!(
                    "a no_overlap of {name:?} from {:?} to {:?} is there before, the other way \
                     round; keep the one that begins first",
                    other.start.to_string(),
                    other.end.to_string()
                )
            } else {
                continue;
            };
            return report.error(&[], wrong);
        }
    }
}

/// Checks that a field begins or ends something. Returns its type.
fn check_time(schema: &Schema, path: &Path, option: &str, report: &mut Report<'_>) -> Option<Kind> {
    let role = format!("the {option} of no_overlap");
    if !check_field(schema, path, &[option], &role, report) {
        return None;
    }
    let (name, field) = (path.to_string(), schema.field(path)?);
    if let Rule::Order(_) = field.merge {
        let wrong = format!(
            "{role} is {name:?}, which merges by order and so is no time; name a \
                             field with type = \"time\""
        );
        report.error(&[option], wrong);
        return None;
    }
    let kind = field.kind?;
    if !matches!(kind, Kind::Time | Kind::Integer | Kind::Number) {
        let wrong = format!(
            "{role} is {name:?}, whose type is {:?}; give it type = \"time\", \"integer\" or \
             \"number\"",
            kind.name()
        );
        report.error(&[option], wrong);
        return None;
    }
    Some(kind)
}

/// Checks that a path names a field with one value in each document.
fn check_field(
    schema: &Schema,
    path: &Path,
    part: &[&str],
    role: &str,
    report: &mut Report<'_>,
) -> bool {
    let name = path.to_string();
    let wrong = if has_star(path) {
        format!("{role} is {name:?}, which names many places; name one field without *")
    } else if let Some(wrong) = misnamed(path) {
        wrong
    } else {
        match schema.field(path) {
            Some(field) if field.merge.is_container() => format!(
                "{role} is {name:?}, which merges by {} and so is never one value; name another \
                 field",
                field.merge.name()
            ),
            Some(_) => return true,
            None => format!(
                "{role} is {name:?}, which is no field of this schema; add it to the fields, or \
                 write the name of one of them"
            ),
        }
    };
    report.error(part, wrong);
    false
}

fn check_unless(schema: &Schema, unless: &BTreeMap<Path, Value>, report: &mut Report<'_>) {
    for (path, value) in unless {
        let name = path.to_string();
        let part = ["unless", name.as_str()];
        if !check_field(schema, path, &part, "a field in unless", report) {
            continue;
        }
        let wrong = schema.field(path).and_then(|it| misfit(&it.merge, it.kind, value));
        if let Some(wrong) = wrong {
            report.error(&part, format!("unless {name:?} is {value}, which {wrong}"));
        }
    }
}

fn check_unique(schema: &Schema, fields: &[Path], report: &mut Report<'_>) {
    if fields.is_empty() {
        report.error(&[], "unique names no field; name at least one".to_owned());
    }
    for (place, path) in fields.iter().enumerate() {
        let part = [&*place.to_string()];
        check_field(schema, path, &part, "a field in unique", report);
        if fields[..place].contains(path) {
            let wrong = format!("unique names {:?} twice; leave one out", path.to_string());
            report.error(&part, wrong);
        }
    }
}

fn compare_unique(fields: &[Path], before: &[Invariant], report: &mut Report<'_>) {
    let is_within = |one: &[Path], other: &[Path]| one.iter().all(|path| other.contains(path));
    for other in before {
        let Invariant::Unique { fields: other } = other else { continue };
        match (is_within(other, fields), is_within(fields, other)) {
            (true, true) => {
                let wrong = "the same unique is there before; leave one of them out";
                report.error(&[], wrong.to_owned());
            }
            (true, false) | (false, true) if !fields.is_empty() && !other.is_empty() => {
                let wrong = "two unique hold each other: what is unique in fewer fields is so in \
                             more; leave out the one with more fields";
                report.fault(Severity::Warning, &[], wrong.to_owned());
            }
            _ => {}
        }
    }
}
