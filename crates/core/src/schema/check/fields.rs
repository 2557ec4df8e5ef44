//! Contradictions in and between fields.

use std::collections::BTreeSet;

use super::{Report, misfit, misnamed};
use crate::schema::read::in_words;
use crate::schema::{ANY, Fault, Field, Kind, Rule, Schema, Severity, is_any, stars};
use crate::{Path, Segment};

pub(super) fn check(schema: &Schema, faults: &mut Vec<Fault>) {
    for (path, field) in &schema.fields {
        let place = vec!["fields".to_owned(), path.to_string()];
        let mut report = Report { faults: &mut *faults, place };
        if let Some(wrong) = misnamed(path) {
            report.error(&[], wrong);
            continue;
        }
        let name = path.to_string();
        check_rule(&name, &field.merge, &mut report);
        check_kind(&name, field, &mut report);
        check_default(&name, field, &mut report);
        check_writers(&name, field, &mut report);
        check_index(path, field, &mut report);
        check_index_then(schema, path, field, &mut report);
        check_around(schema, path, &mut report);
        check_ambiguity(schema, path, field, &mut report);
    }
}

fn check_rule(name: &str, rule: &Rule, report: &mut Report<'_>) {
    match rule {
        Rule::Order(order) => check_order(name, order, report),
        Rule::Owner(owner) if owner.is_empty() => {
            let wrong = format!("the owner of field {name:?} is empty; write a role");
            report.error(&["owner"], wrong);
        }
        _ => {}
    }
}

fn check_order(name: &str, order: &[String], report: &mut Report<'_>) {
    if order.is_empty() {
        let wrong =
            format!("the order of field {name:?} is empty; write its values, first to last");
        report.error(&["order"], wrong);
    }
    let mut seen = BTreeSet::new();
    for (place, value) in order.iter().enumerate() {
        let place = place.to_string();
        if value.is_empty() {
            let wrong = format!("the order of field {name:?} holds an empty value; leave it out");
            report.error(&["order", &place], wrong);
        } else if !seen.insert(value) {
            let wrong = format!(
                "the order of field {name:?} goes in a circle: {value:?} is in it twice, and so \
                 comes before itself; leave one of them out"
            );
            report.error(&["order", &place], wrong);
        }
    }
}

fn check_kind(name: &str, field: &Field, report: &mut Report<'_>) {
    let Some(kind) = field.kind.filter(|kind| !fits(&field.merge, *kind)) else { return };
    let fitting: Vec<_> = Kind::ALL
        .into_iter()
        .filter(|kind| fits(&field.merge, *kind))
        .map(|kind| format!("{:?}", kind.name()))
        .collect();
    let wrong = format!(
        "field {name:?} has type = {:?}, and merge = {:?} is for {}; change one of them, or leave \
         type out",
        kind.name(),
        field.merge.name(),
        in_words(&fitting, "or")
    );
    report.error(&["type"], wrong);
}

/// No document is found by a field that stands for several, or by what has no order.
fn check_index(path: &Path, field: &Field, report: &mut Report<'_>) {
    if field.index && !has_order(field) {
        let wrong = format!("field {:?} holds several values; leave index out", path.to_string());
        report.error(&["index"], wrong);
    } else if field.index && stars(path) > 0 {
        let wrong = format!("field {:?} stands for many; leave index out", path.to_string());
        report.error(&["index"], wrong);
    }
}

fn has_order(field: &Field) -> bool {
    !matches!(field.merge, Rule::Set | Rule::List | Rule::Map)
        && !matches!(field.kind, Some(Kind::List | Kind::Map | Kind::Bytes))
}

/// The second field of an index is one that could have an index itself.
fn check_index_then(schema: &Schema, path: &Path, field: &Field, report: &mut Report<'_>) {
    for (place, then) in field.index_then.iter().enumerate() {
        let named = then.to_string();
        let why = match schema.fields.get(then) {
            _ if then == path => "is that field itself; name another",
            _ if field.index_then[..place].contains(then) => "is there twice; leave one out",
            _ if stars(then) > 0 => "stands for many; name one field",
            None => "is no field of the schema; correct the name, or add the field",
            Some(second) if !has_order(second) => "holds several values; name another",
            Some(_) => continue,
        };
        let name = path.to_string();
        let wrong = format!("field {name:?} has index_then = {named:?}, which {why}");
        report.error(&["index_then", &place.to_string()], wrong);
    }
}

/// Whether values of this kind can merge by this rule.
fn fits(rule: &Rule, kind: Kind) -> bool {
    match rule {
        Rule::Text | Rule::Order(_) => kind == Kind::String,
        Rule::Counter => matches!(kind, Kind::Integer | Kind::Number),
        Rule::Set | Rule::List => kind == Kind::List,
        Rule::Map => kind == Kind::Map,
        Rule::Max | Rule::Min => !matches!(kind, Kind::Bytes | Kind::List | Kind::Map),
        Rule::Owner(_) | Rule::Latest { .. } => !matches!(kind, Kind::List | Kind::Map),
        Rule::Review | Rule::Any => true,
    }
}

fn check_default(name: &str, field: &Field, report: &mut Report<'_>) {
    let Some(default) = &field.default else { return };
    if field.merge.is_container() {
        let wrong = format!(
            "field {name:?} merges by {}, which begins empty and takes no default; leave default \
             out",
            field.merge.name()
        );
        return report.error(&["default"], wrong);
    }
    if let Some(wrong) = misfit(&field.merge, field.kind, default) {
        report.error(&["default"], format!("the default of field {name:?}, {default}, {wrong}"));
    }
}

fn check_writers(name: &str, field: &Field, report: &mut Report<'_>) {
    let Some(writers) = &field.writers else { return };
    if writers.is_empty() {
        let wrong = format!(
            "nobody may write field {name:?}: its writers are empty; name roles, or leave writers \
             out to let anybody write"
        );
        return report.error(&["writers"], wrong);
    }
    if writers.contains("") {
        let wrong = format!("a writer of field {name:?} is empty; write a role");
        report.error(&["writers"], wrong);
    }
    if matches!(field.merge, Rule::Text | Rule::Counter) {
        let doubt = format!(
            "field {name:?} merges by {}: its writers are asked where it is edited, but what \
             somebody else's program wrote into it cannot be told apart when it merges",
            field.merge.name()
        );
        report.fault(Severity::Warning, &["writers"], doubt);
    }
    if let Rule::Owner(owner) = &field.merge
        && !owner.is_empty()
        && !writers.contains(owner)
    {
        let wrong = format!(
            "field {name:?} takes the value of {owner:?}, who is not among its writers; add \
             {owner:?} to writers"
        );
        report.error(&["writers"], wrong);
    }
}

/// Looks for a field around this one that cannot hold it.
fn check_around(schema: &Schema, path: &Path, report: &mut Report<'_>) {
    let segments = path.segments();
    for len in 1..segments.len() {
        let around: Path = segments[..len].iter().cloned().collect();
        let Some(field) = schema.field(&around) else { continue };
        if let Some(wrong) = cannot_hold(&around, field, &segments[len]) {
            report.error(&[], format!("field {:?} stands inside of {wrong}", path.to_string()));
            return;
        }
    }
}

fn cannot_hold(around: &Path, field: &Field, inside: &Segment) -> Option<String> {
    let (name, rule) = (around.to_string(), field.merge.name());
    match (&field.merge, field.kind) {
        (Rule::Set | Rule::List, _) | (_, Some(Kind::List)) => {
            let items = around.join(ANY).to_string();
            let wrong = format!("{name:?}, which is a list; name its items {items:?}");
            (!is_any(inside)).then_some(wrong)
        }
        (Rule::Map, _) | (Rule::Review | Rule::Any, None | Some(Kind::Map)) => None,
        (Rule::Review | Rule::Any, Some(kind)) => Some(format!(
            "{name:?}, whose type is {:?}; leave one of the two fields out, or make {name:?} a map",
            kind.name()
        )),
        _ => Some(format!(
            "{name:?}, which merges by {rule} and so is one value; leave one of the two fields out, \
             or make {name:?} a map"
        )),
    }
}

/// Looks for another field with as many `*` that is about some of the same places.
fn check_ambiguity(schema: &Schema, path: &Path, field: &Field, report: &mut Report<'_>) {
    if stars(path) == 0 {
        return;
    }
    let rivals = schema.fields.range(..path).filter(|(other, _)| stars(other) == stars(path));
    for (other, _) in rivals.filter(|(_, rival)| *rival != field) {
        let Some(both) = common(other, path) else { continue };
        if !schema.fields.contains_key(&both) {
            let [path, other, both] = [path, other, &both].map(ToString::to_string);
            let wrong = format!(
                "fields {other:?} and {path:?} both are about {both:?} and differ; name {both:?}, \
                 too, to say which it is"
            );
            return report.error(&[], wrong);
        }
    }
}

/// The places that two paths with `*` are both about.
fn common(one: &Path, other: &Path) -> Option<Path> {
    let (one, other) = (one.segments(), other.segments());
    let both = one.iter().zip(other).map(|(one, other)| match (is_any(one), is_any(other)) {
        (true, _) => Some(other.clone()),
        (false, true) => Some(one.clone()),
        (false, false) => (one == other).then(|| one.clone()),
    });
    (one.len() == other.len()).then(|| both.collect())?
}
