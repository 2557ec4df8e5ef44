//! What a mapping says that the schema does not bear out.

use rejoin::Path;
use rejoin::schema::{Rule, Schema};

use super::{From, Known, Mapping, OutsideKind, Part, RecordMapping, Source, zone_of};
use crate::nearest::meant;

/// What is doubtful about the times of a mapping: people's clocks hardly show UTC. `schema` is that of its
/// collection, if it is known.
pub fn check_zone(mapping: &Mapping, schema: Option<&Schema>) -> Option<String> {
    let is_time = |record: &RecordMapping| {
        record.fields.values().any(|field| field.kind == Some(OutsideKind::Time))
    };
    let is_said = zone_of(&mapping.sink).is_some();
    if is_said || mapping.source == Source::Reviews || !mapping.records.iter().any(is_time) {
        return None;
    }
    let collection = &mapping.collection;
    match schema {
        Some(Schema { zone: Some(_), .. }) => None,
        Some(_) => Some(format!(
            "the schema of {collection} names no zone, so times without one are read as UTC; write \
             zone = \"Europe/Madrid\" in it, with yours"
        )),
        None => Some(format!(
            "times without a zone are read by the zone that the schema of {collection} names, and as UTC \
             if it names none; --schema FILE looks at it"
        )),
    }
}

/// What is doubtful about a mapping, given the schema of its collection: fields that are in no
/// document the schema knows, and lists that are none. Nothing if the schema names no field.
pub fn check(mapping: &Mapping, schema: &Schema) -> Vec<String> {
    if schema.fields.is_empty() || mapping.source == Source::Reviews {
        return Vec::new();
    }
    let collection = &mapping.collection;
    let unknown = |path: &Path| !is_named(schema, path);
    let mut doubts = Vec::new();
    for record in &mapping.records {
        let name = &record.name;
        if let Some(each) = &record.each {
            match schema.field(each) {
                None if unknown(each) => doubts.push(format!(
                    "{name}: the schema of {collection} names no {each}; every document will have no row"
                )),
                Some(field) if !matches!(field.merge, Rule::List | Rule::Set | Rule::Map) => doubts
                    .push(format!("{name}: {each} is {}, and has no items", field.merge.name())),
                _ => {}
            }
        }
        let whole = |path: &Path, in_item: bool| match (&record.each, in_item) {
            (Some(each), true) => {
                let item = each.join("*");
                path.segments().iter().fold(item, |path, step| path.join(step.clone()))
            }
            _ => path.clone(),
        };
        for part in record.key.parts() {
            if let Part::Field(path) = part
                && unknown(&whole(path, true))
            {
                doubts.push(format!(
                    "{name}: the key needs {path}, which the schema of {collection} does not name"
                ));
            }
        }
        for (outside, field) in &record.fields {
            if let From::Path { path, in_item } = &field.from
                && unknown(&whole(path, *in_item))
            {
                doubts.push(format!(
                    "{name}.{outside}: the schema of {collection} does not name {path}"
                ));
            }
        }
    }
    doubts
}

/// What is doubtful about a mapping, given what is known of the documents: a collection that has none,
/// and fields that no document has.
pub fn check_known(mapping: &Mapping, known: &Known) -> Vec<String> {
    let collection = mapping.collection.as_str();
    let names = known.names();
    if names.is_empty() {
        return Vec::new();
    }
    if !names.contains(collection) {
        let nearest = meant(collection, names.iter().copied());
        let names: Vec<_> = names.into_iter().collect();
        return vec![format!(
            "there is no document of {collection} here{nearest}; there are documents of {}",
            names.join(", ")
        )];
    }
    if mapping.source == Source::Reviews {
        return Vec::new();
    }
    let fields = || known.fields.get(collection).into_iter().flatten().map(|(name, _)| &**name);
    let mut doubts = Vec::new();
    let mut doubt = |place: String, path: &Path| {
        if known.has(collection, path) == Some(false) {
            let first = match path.segments().first() {
                Some(rejoin::value::Segment::Key(first)) => first.as_str(),
                _ => "",
            };
            let nearest = meant(first, fields());
            doubts.push(format!("{place}: no document of {collection} here has {path}{nearest}"));
        }
    };
    for record in &mapping.records {
        let name = &record.name;
        record.each.iter().for_each(|each| doubt(format!("{name}.each"), each));
        let is_whole = record.each.is_none();
        for part in record.key.parts() {
            if let Part::Field(path) = part
                && is_whole
            {
                doubt(format!("{name}.key"), path);
            }
        }
        for (outside, field) in &record.fields {
            if let From::Path { path, in_item: false } = &field.from {
                doubt(format!("{name}.{outside}"), path);
            }
        }
    }
    doubts
}

/// Whether the schema says something about a path, or about something it is in or that is in it.
fn is_named(schema: &Schema, path: &Path) -> bool {
    let wanted = path.segments();
    schema.fields.keys().any(|known| {
        let known = known.segments();
        let alike = |(one, other): (&rejoin::value::Segment, &rejoin::value::Segment)| {
            let any = |segment: &rejoin::value::Segment| {
                *segment == rejoin::value::Segment::Key("*".to_owned())
            };
            one == other || any(one) || any(other)
        };
        known.iter().zip(wanted).all(alike)
    })
}
