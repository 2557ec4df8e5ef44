//! A schema as a value in the space, as a file, and beside another.

use proptest::prelude::*;
use rejoin_core::schema::{
    Change, Field, Invariant, Kind, Part, Rule, Schema, Schemas, diff, parse, to_toml,
};
use rejoin_core::{CollectionName, Path, Segment};
use serde_json::{Value, json};

fn jobs() -> Schema {
    Schema::new()
        .with("notes", Rule::Text)
        .with("status", Rule::order(["booked", "done"]))
        .with("technician", Field::new(Rule::Review).writers(["dispatch", "desk"]))
        .with("phone", Field::new(Rule::owner("crm")).kind(Kind::String).required())
        .with("seen_at", Field::new(Rule::latest()).default_to(json!({ "$time": 0 })))
        .with("a b.*", Rule::Max)
        .invariant(
            Invariant::no_overlap("technician", "starts_at", "a b.c").unless("status", "cancelled"),
        )
        .invariant(Invariant::unique(["phone", "x y"]))
}

fn named(schema: Schema) -> Schemas {
    Schemas::from([(CollectionName::new("jobs").unwrap(), schema)])
}

#[test]
fn the_stored_form_has_a_key_for_each_thing_that_is_edited_alone() {
    assert_eq!(
        jobs().to_value(),
        json!({
            "fields": {
                "notes": { "merge": "text" },
                "status": { "merge": "order", "order": "[\"booked\",\"done\"]" },
                "technician": { "merge": "review", "writers": "[\"desk\",\"dispatch\"]" },
                "phone": { "merge": "owner", "owner": "crm", "type": "string", "required": true },
                "seen_at": { "merge": "latest", "skew": "120s", "default": { "$time": 0 } },
                "a b.*": { "merge": "max" },
            },
            "invariants": {
                "no_overlap technician starts_at \"a b.c\"": { "no_overlap": {
                    "key": "technician", "start": "starts_at", "end": "a b.c",
                    "unless": { "status": "cancelled" },
                } },
                "unique phone \"x y\"": { "unique": "[\"phone\",\"x y\"]" },
            },
        })
    );
}

#[test]
fn the_file_of_a_schema_reads_well() {
    assert_eq!(
        to_toml(&named(jobs())),
        r#"[jobs.fields]
"a b.*" = { merge = "max" }
notes = { merge = "text" }
phone = { merge = "owner", owner = "crm", type = "string", required = true }
seen_at = { merge = "latest", skew = "120s", default = { "$time" = 0 } }
status = { merge = "order", order = ["booked", "done"] }
technician = { merge = "review", writers = ["desk", "dispatch"] }

[[jobs.invariants]]
no_overlap = { key = "technician", start = "starts_at", end = "a b.c", unless = { status = "cancelled" } }

[[jobs.invariants]]
unique = ["phone", "x y"]
"#
    );
    assert_eq!(to_toml(&named(Schema::new())), "[jobs]\n");
    assert_eq!(parse("[jobs]\n").schemas, named(Schema::new()));
}

#[test]
fn a_schema_of_a_newer_version_is_kept_and_merges_by_review() {
    let stored = json!({
        "fields": {
            "notes": { "merge": "text", "language": "de" },
            "status": { "merge": "vote", "order": "[\"a\"]", "type": "string", "quorum": 2 },
            "phone": { "merge": "owner", "owner": { "of": "crm" }, "required": true },
            "color": { "merge": "review", "type": "colour" },
            "size": 5,
        },
        "invariants": {
            "unique phone": { "unique": "[\"phone\"]" },
            "exclusive phone": { "exclusive": { "of": "phone" } },
            "no_overlap who from to": {
                "no_overlap": { "key": "who", "start": "from", "end": "to", "buffer": "15m" },
            },
            "no_overlap who from": { "no_overlap": { "key": "who", "start": "from" } },
        },
        "version": 2,
    });
    let (schema, unknown) = Schema::from_value(&stored);
    let field = |name: &str| schema.field(&name.into()).unwrap();
    assert_eq!(field("notes").merge, Rule::Text);
    assert_eq!(*field("status"), Field::new(Rule::Review).kind(Kind::String));
    assert_eq!(*field("phone"), Field::new(Rule::Review).required());
    assert_eq!(*field("color"), Field::default());
    assert_eq!(*field("size"), Field::default());
    assert_eq!(
        schema.invariants,
        [Invariant::no_overlap("who", "from", "to"), Invariant::unique(["phone"])]
    );
    let places: Vec<_> = unknown.iter().map(|unknown| unknown.place.join(" ")).collect();
    assert_eq!(
        places,
        [
            "fields color type",
            "fields notes language",
            "fields phone owner",
            "fields size",
            "fields status quorum",
            "fields status merge",
            "invariants exclusive phone exclusive",
            "invariants no_overlap who from no_overlap end",
            "invariants no_overlap who from to no_overlap buffer",
            "version",
        ]
    );
    assert!(unknown[5].to_string().contains("\"vote\""), "{}", unknown[5]);
    assert!(unknown[5].to_string().ends_with("it is kept as it is"), "{}", unknown[5]);
    assert_eq!(schema.to_value(), stored);
}

#[test]
fn what_is_said_anew_replaces_what_was_not_understood() {
    let (schema, _) =
        Schema::from_value(&json!({ "fields": { "status": { "merge": "vote" } }, "more": 1 }));
    let value = schema.with("status", Rule::Any).to_value();
    assert_eq!(
        value,
        json!({ "fields": { "status": { "merge": "any" } }, "invariants": {}, "more": 1 })
    );
}

#[test]
fn an_option_that_two_edits_left_behind_changes_nothing() {
    // One made it `any`, the other edited the order.
    let stored = json!({ "fields": { "status": { "merge": "any", "order": "[\"a\"]" } } });
    let (schema, unknown) = Schema::from_value(&stored);
    assert_eq!(schema.fields[&"status".into()].merge, Rule::Any);
    assert_eq!(unknown.len(), 1);
}

#[test]
fn the_most_exact_field_says_how_a_place_merges() {
    let schema = Schema::new()
        .with("*.*.c", Rule::Min)
        .with("a.*.c", Rule::Max)
        .with("a.b.c", Rule::Text)
        .with("any", Rule::Any);
    for (path, rule) in [
        ("a.b.c", Rule::Text),
        ("a.x.c", Rule::Max),
        ("a[3].c", Rule::Max),
        ("x.x.c", Rule::Min),
        ("x.c", Rule::Review),
        ("any.thing.inside", Rule::Any),
    ] {
        assert_eq!(*schema.rule(&path.into()), rule, "{path}");
    }
}

#[test]
fn differences_are_lines() {
    let before = jobs();
    let mut after = jobs()
        .with("status", Rule::order(["booked", "on_site", "done"]))
        .with("phone", Field::new(Rule::Any).kind(Kind::String))
        .with("color.*", Rule::Any)
        .invariant(Invariant::unique(["color"]));
    after.fields.remove(&Path::from("notes"));
    after.invariants[0] = after.invariants[0].clone().unless("status", "done");
    after.invariants.remove(1);
    let differences = diff(&before, &after);
    let lines: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            r#"+ "color.*" = { merge = "any" }"#,
            r#"- notes = { merge = "text" }"#,
            r#"~ phone: merge = "any", was "owner"; no owner any more; no required any more"#,
            r#"~ status: order = ["booked", "on_site", "done"], was ["booked", "done"]"#,
            "~ no_overlap = { key = \"technician\", start = \"starts_at\", end = \"a b.c\", unless = \
             { status = \"done\" } }, was { key = \"technician\", start = \"starts_at\", end = \
             \"a b.c\", unless = { status = \"cancelled\" } }",
            r#"+ unique = ["color"]"#,
            r#"- unique = ["phone", "x y"]"#,
        ]
    );
    let changes: Vec<_> = differences.iter().map(|it| (it.part, it.change())).collect();
    assert_eq!(changes[1], (Part::Field, Change::Removed));
    assert_eq!(changes[5], (Part::Invariant, Change::Added));
    assert_eq!(diff(&before, &before), []);
}

#[test]
fn differences_in_what_is_not_understood_are_lines_too() {
    let of = |value: Value| Schema::from_value(&value).0;
    let before = of(json!({ "fields": { "a": { "merge": "vote", "x": null } }, "b": 1 }));
    let after = of(json!({ "fields": { "a": { "merge": "vote", "x": [{}] } }, "b": {} }));
    let lines: Vec<_> = diff(&before, &after).iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["~ a: x = [{}], was nothing", "~ b = {}, was 1"]);
}

fn paths() -> impl Strategy<Value = Path> {
    let segment = prop_oneof![
        "[a-c]".prop_map(Segment::Key),
        "[a-z. \\[\\]\"\\\\*\u{7f}\u{9b}\té]{0,4}".prop_map(Segment::Key),
        (0_usize..3).prop_map(Segment::Index),
    ];
    prop::collection::vec(segment, 0..4).prop_map(|segments| segments.into_iter().collect())
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has it", |number| number.is_finite()).prop_map(Value::from),
        "[a-z \"'\\\\\n\r\u{7f}\u{9b}\u{1}é]{0,8}".prop_map(Value::from),
        any::<i64>().prop_map(|time| json!({ "$time": time })),
        Just(json!({ "$bytes": "00ff" })),
        Just(json!(["a", { "b": [] }])),
    ]
}

fn rules() -> impl Strategy<Value = Rule> {
    prop_oneof![
        prop::sample::select(vec![
            Rule::Text,
            Rule::Counter,
            Rule::Set,
            Rule::List,
            Rule::Map,
            Rule::Review,
            Rule::Max,
            Rule::Min,
            Rule::Any
        ]),
        prop::collection::vec("[a-c, \"]{0,2}", 0..4).prop_map(Rule::Order),
        "[a-z]{0,3}".prop_map(Rule::Owner),
        any::<u64>().prop_map(|skew_s| Rule::Latest { skew_s }),
    ]
}

fn fields() -> impl Strategy<Value = Field> {
    (
        rules(),
        prop::option::of(prop::sample::select(Kind::ALL.to_vec())),
        any::<bool>(),
        prop::option::of(values()),
        prop::option::of(prop::collection::btree_set("[a-z ]{0,3}", 0..3)),
        any::<bool>(),
        prop::collection::vec(paths(), 0..3),
    )
        .prop_map(|(merge, kind, required, default, writers, index, index_then)| Field {
            index: index || !index_then.is_empty(),
            index_then,
            merge,
            kind,
            required,
            default,
            writers,
        })
}

fn invariants() -> impl Strategy<Value = Invariant> {
    prop_oneof![
        (paths(), paths(), paths(), prop::collection::btree_map(paths(), values(), 0..3))
            .prop_map(|(key, start, end, unless)| Invariant::NoOverlap { key, start, end, unless }),
        prop::collection::vec(paths(), 0..3).prop_map(|fields| Invariant::Unique { fields }),
    ]
}

/// Schemas, contradictions and all, with their invariants as they are read: by name, each once.
fn schemas() -> impl Strategy<Value = Schema> {
    let invariants = prop::collection::vec(invariants(), 0..4);
    (prop::collection::btree_map(paths(), fields(), 0..5), invariants).prop_map(
        |(fields, mut invariants)| {
            invariants.sort_by_key(Invariant::name);
            invariants.dedup_by_key(|invariant| invariant.name());
            Schema { fields, invariants, ..Schema::default() }
        },
    )
}

fn json_values() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "fields",
        "invariants",
        "merge",
        "order",
        "text",
        "unique",
        "no_overlap",
        "key",
        "start",
        "end",
        "unless",
        "a",
        "[\"a\"]",
        "",
        "[\"b\"]",
        "deleted",
    ]);
    let leaf = prop_oneof![Just(Value::Null), Just(json!(1)), word.clone().prop_map(Value::from)];
    leaf.prop_recursive(4, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_stored_is_read_again(schema in schemas()) {
        let (read, unknown) = Schema::from_value(&schema.to_value());
        prop_assert_eq!(unknown, []);
        prop_assert_eq!(&read, &schema);
        prop_assert_eq!(Schema::from_value(&schema.to_json()).0, schema);
    }

    #[test]
    fn what_is_shown_is_parsed_again(schema in schemas()) {
        let schemas = named(schema);
        let text = to_toml(&schemas);
        let parsed = parse(&text);
        prop_assert_eq!(parsed.schemas, schemas, "{}\n{:?}", text, parsed.findings);
    }

    #[test]
    fn whatever_is_stored_is_kept(stored in json_values(), fields in json_values()) {
        let mut stored = stored;
        if let Value::Object(parts) = &mut stored {
            parts.insert("fields".to_owned(), fields.clone());
        }
        let (schema, _) = Schema::from_value(&stored);
        let kept = schema.to_value();
        prop_assert_eq!(&Schema::from_value(&kept).0.to_value(), &kept);
        for (name, options) in stored.get("fields").and_then(Value::as_object).into_iter().flatten() {
            let usual = Path::from(name).to_string();
            let kept = kept["fields"].get(name).or_else(|| kept["fields"].get(usual));
            let Some(options) = options.as_object() else {
                prop_assert_eq!(kept, Some(options));
                continue;
            };
            for (option, value) in options {
                let packed = Value::from(value.to_string());
                let is = kept.and_then(|kept| kept.get(option));
                prop_assert!(is == Some(value) || is == Some(&packed), "{name} {option} {is:?}");
            }
        }
    }
}
