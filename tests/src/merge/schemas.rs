//! The schemas that histories change between.

use rejoin::Path;
use rejoin_core::schema::{Field, Kind, Rule, Schema};

use crate::sim::random::Random;

/// The order of `status`, first to last.
pub const ORDER: [&str; 5] = ["booked", "en_route", "on_site", "done", "cancelled"];

/// What is wrong with none of them, in any combination.
pub fn any(random: &mut Random) -> Schema {
    let mut schema = Schema::new()
        .with("notes", Rule::Text)
        .with("used", Rule::Counter)
        .with("tags", Rule::Set)
        .with("parts", Rule::List)
        .with("parts.*.qty", Rule::Max)
        .with("parts.*.name", Rule::Review)
        .with("address", Rule::Map)
        .with("status", Rule::order(ORDER))
        .with("technician", Field::new(Rule::Review).writers(["dispatch"]))
        .with("phone", Rule::owner("crm"))
        .with("finished", Rule::Max)
        .with("started", Rule::Min)
        .with("eta", Rule::latest())
        .with("color", Rule::Any)
        .with("extra", Rule::Any);
    for _ in 0..random.between(0, 6) {
        schema = vary(schema, random);
    }
    schema
}

/// The same with one field defined otherwise.
fn vary(schema: Schema, random: &mut Random) -> Schema {
    match random.below(16) {
        0 => schema.with("status", Rule::order(ORDER.into_iter().rev())),
        1 => schema.with("status", Field::new(Rule::order(ORDER)).writers(["dispatch", "crm"])),
        2 => schema.with("technician", Rule::owner("dispatch")),
        3 => schema.with("technician", Field::new(Rule::Review).writers(["dispatch", "tech"])),
        4 => schema.with("phone", Field::new(Rule::owner("crm")).writers(["crm", "dispatch"])),
        5 => schema.with("finished", Rule::Min),
        6 => schema.with("started", Field::new(Rule::Max).kind(Kind::Integer)),
        7 => schema.with("eta", Rule::Latest { skew_s: [0, 30, 600][random.index(3)] }),
        8 => schema.with("color", Field::new(Rule::Review).default_to("grey")),
        9 => schema.with("address", Field::new(Rule::Map).writers(["dispatch", "crm"])),
        10 => schema.with("address.city", Field::new(Rule::Review).default_to("Bern")),
        11 => schema.with("parts", Field::new(Rule::List).writers(["tech", "dispatch"])),
        12 => schema.with("tags.*", [Rule::Max, Rule::Review][random.index(2)].clone()),
        13 => schema.with("parts.*", Rule::order(ORDER)),
        14 => schema.with("extra", [Rule::Map, Rule::Any][random.index(2)].clone()),
        _ => without(schema, random),
    }
}

fn without(mut schema: Schema, random: &mut Random) -> Schema {
    let paths: Vec<Path> = schema.fields.keys().cloned().collect();
    if let Some(path) = random.pick(&paths) {
        schema.fields.remove(path);
    }
    schema
}
