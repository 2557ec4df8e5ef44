//! Schema files, good and bad: each contradiction is found where it stands, with what to do.

use proptest::prelude::*;
use rejoin_core::schema::{Fault, Field, Invariant, Kind, Rule, Schema, Severity, parse};

/// What is found in a file, each as `line:column: severity: message`, but for the doubt about zones.
fn lint(text: &str) -> Vec<String> {
    let findings = parse(text).findings.into_iter();
    let findings = findings.filter(|finding| !finding.message.starts_with(NO_ZONE));
    findings.map(|finding| finding.to_string()).collect()
}

/// How the doubt begins that times are read by the wrong clocks.
const NO_ZONE: &str = "times without a zone";

#[test]
fn whose_clocks_times_are_read_by_is_said_or_doubted() {
    let zone = |text: &str| {
        let parsed = parse(text);
        let zones = parsed.schemas.values().map(|it| it.zone.map(|zone| zone.to_string()));
        let findings = parsed.findings.iter().map(|it| it.to_string());
        (zones.collect::<Vec<_>>(), findings.collect::<Vec<_>>())
    };
    let madrid = || Some("Europe/Madrid".to_owned());
    let (zones, findings) = zone(
        "zone = 'Europe/Madrid'\n[a.fields]\nat = { type = 'time' }\n[b]\nzone = 'Asia/Tokyo'\n",
    );
    assert_eq!(zones, [madrid(), Some("Asia/Tokyo".to_owned())]);
    assert_eq!(findings, Vec::<String>::new());
    // A collection may be called so.
    let (zones, _) = zone("[zone]\nzone = 'Europe/Madrid'\n");
    assert_eq!(zones, [madrid()]);

    let (_, findings) = zone("[a.fields]\nat = { type = 'time' }\n");
    assert!(findings[0].starts_with("2:1: warning: times without a zone"), "{findings:?}");
    let (_, findings) =
        zone("[[a.invariants]]\nno_overlap = { key = 'k', start = 's', end = 'e' }\n");
    assert!(findings[0].starts_with("2:1: warning: times without a zone"), "{findings:?}");
    for (wrong, place) in [("zone = 'Madrid'\n[a]\n", "1:1"), ("[a]\nzone = 7\n", "2:1")] {
        let (_, findings) = zone(wrong);
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        assert!(finding.starts_with(&format!("{place}: error")), "{finding}");
        assert!(finding.contains("write one such as \"Europe/Madrid\""), "{finding}");
    }
    // What is written is read again, and stored as it is.
    let schema = Schema::new().zone("Europe/Madrid".parse().unwrap());
    let name = rejoin_core::CollectionName::new("jobs").unwrap();
    let text = rejoin_core::schema::to_toml(&[(name, schema.clone())].into());
    assert_eq!(text, "[jobs]\nzone = \"Europe/Madrid\"\n");
    assert_eq!(Schema::from_value(&schema.to_value()), (schema, Vec::new()));
}

/// Fields of a collection in lines from 2 on, and all that is wrong with them.
#[track_caller]
fn check_fields(fields: &str, expected: &[&str]) {
    assert_eq!(lint(&format!("[jobs.fields]\n{fields}")), expected, "{fields}");
}

/// Invariants over some fields, from line 10 on, and all that is wrong with them.
#[track_caller]
fn check_invariants(invariants: &str, expected: &[&str]) {
    let fields = r#"[jobs.fields]
who = { merge = "review" }
from = { type = "time" }
to = { type = "time" }
count = { type = "integer" }
notes = { merge = "text" }
status = { merge = "order", order = ["booked", "done"] }
urgent = { type = "boolean" }
"parts.*" = { merge = "any" }
"#;
    assert_eq!(lint(&format!("{fields}{invariants}")), expected, "{invariants}");
}

#[test]
fn a_schema_without_contradictions_has_no_findings() {
    let text = r#"
zone = "Europe/Madrid"
[jobs.fields]
notes      = { merge = "text" }
parts_used = { merge = "counter", type = "integer" }
photos     = { merge = "set" }
parts      = { merge = "list" }
"parts.*.name" = { merge = "any", type = "string" }
extra      = { merge = "map" }
"extra.*"  = { merge = "latest" }
"extra.floor" = { merge = "max" }
status     = { merge = "order", order = ["booked", "en_route", "done", "cancelled"], default = "booked" }
technician = { merge = "review", writers = ["dispatch"] }
phone      = { merge = "owner", owner = "crm", writers = ["crm", "dispatch"] }
"address.street" = { type = "string", required = true, default = "" }
seen_at    = { merge = "latest", skew = "2m" }
starts_at  = { type = "time", default = 2026-11-20T08:30:00Z }
ends_at    = { type = "time", default = { "$time" = 1500 } }
'["a.b"]'  = {}
[jobs.fields.color]
merge = "any"

[[jobs.invariants]]
no_overlap = { key = "technician", start = "starts_at", end = "ends_at", unless = { status = "cancelled" } }

[customers.fields]
phone = {}
name = {}
[[customers.invariants]]
unique = ["phone"]
unique_is_fine_beside = "what is not known"

[technicians]
"#;
    let parsed = parse(text);
    assert!(parsed.is_sound(), "{:?}", parsed.findings);
    assert_eq!(parsed.count(Severity::Warning), 1);
    let names: Vec<_> = parsed.schemas.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["customers", "jobs", "technicians"]);
    let jobs = parsed.schemas.values().nth(1).unwrap();
    let field = |name: &str| jobs.field(&name.into()).unwrap();
    assert_eq!(field("seen_at").merge, Rule::Latest { skew_s: 120 });
    assert_eq!(field("parts[7].name").kind, Some(Kind::String));
    assert_eq!(field("extra.floor").merge, Rule::Max);
    assert_eq!(field("extra.door").merge, Rule::latest());
    assert_eq!(*jobs.rule(&"never.named".into()), Rule::Review);
    assert_eq!(jobs.fields[&["a.b"].into()], Field::default());
}

#[test]
fn two_owners_are_a_contradiction() {
    check_fields(
        r#"phone = { merge = "owner", owner = ["crm", "dispatch"] }"#,
        &[
            "2:28: error: field \"phone\" has two owners, \"crm\" and \"dispatch\", and only one value \
           can count; keep one of them, and name the others in writers",
        ],
    );
    check_fields(
        "phone = { merge = \"owner\", owner = \"crm\" }\nphone = { merge = \"owner\", owner = \"desk\" }",
        &["3:1: error: phone is written twice; leave one of them out"],
    );
    check_fields(
        r#"phone = { merge = "owner", owner = "crm", writers = ["dispatch"] }"#,
        &[
            "2:43: error: field \"phone\" takes the value of \"crm\", who is not among its writers; add \
           \"crm\" to writers",
        ],
    );
}

#[test]
fn an_index_is_of_fields_with_an_order() {
    check_fields(
        "notes = { merge = \"text\", index_then = [\"at\"] }\nat = { type = \"time\" }",
        &[],
    );
    check_fields(
        "at    = { type = \"time\", index_then = [\"at\", \"parts\", \"who\", \"x.*\"] }\n\
         parts = { merge = \"list\", index = true }\n\
         \"x.*\" = { index = true }",
        &[
            "2:40: error: field \"at\" has index_then = \"at\", which is that field itself; name another",
            "2:46: error: field \"at\" has index_then = \"parts\", which holds several values; name \
             another",
            "2:55: error: field \"at\" has index_then = \"who\", which is no field of the schema; correct \
             the name, or add the field",
            "2:62: error: field \"at\" has index_then = \"x.*\", which stands for many; name one field",
            "3:27: error: field \"parts\" holds several values; leave index out",
            "4:11: error: field \"x.*\" stands for many; leave index out",
        ],
    );
}

#[test]
fn an_owner_must_be_somebody() {
    let wanted = "field \"phone\" merges by owner and does not say whose value counts";
    check_fields(
        r#"phone = { merge = "owner" }"#,
        &[&format!("2:11: error: {wanted}; add owner = \"ROLE\"")],
    );
    for (owner, is) in [("[]", "a list"), ("[\"crm\"]", "a list"), ("5", "a number")] {
        check_fields(
            &format!("phone = {{ merge = \"owner\", owner = {owner} }}"),
            &[&format!("2:28: error: owner of field \"phone\" is {is}; write owner = \"ROLE\"")],
        );
    }
    check_fields(
        r#"phone = { merge = "owner", owner = "" }"#,
        &["2:28: error: the owner of field \"phone\" is empty; write a role"],
    );
}

#[test]
fn an_order_goes_one_way() {
    check_fields(
        "status = { merge = \"order\", order = [\n  \"booked\",\n  \"done\",\n  \"booked\",\n] }",
        &[
            "5:3: error: the order of field \"status\" goes in a circle: \"booked\" is in it twice, and \
           so comes before itself; leave one of them out",
        ],
    );
    check_fields(
        r#"status = { merge = "order" }"#,
        &["2:12: error: field \"status\" merges by order and does not say which; add order = \
           [\"first\", \"next\", \"last\"]"],
    );
    check_fields(
        r#"status = { merge = "order", order = [] }"#,
        &["2:29: error: the order of field \"status\" is empty; write its values, first to last"],
    );
    check_fields(
        r#"status = { merge = "order", order = ["a", ""] }"#,
        &["2:43: error: the order of field \"status\" holds an empty value; leave it out"],
    );
    check_fields(
        r#"status = { merge = "order", order = "booked" }"#,
        &[
            "2:29: error: order of field \"status\" is \"booked\"; write strings in brackets, as in \
           order = [\"one\", \"other\"]",
        ],
    );
}

#[test]
fn rules_are_those_there_are() {
    check_fields(
        "notes = { merge = \"txt\" }\ntags = { merge = [] }",
        &[
            "2:11: error: field \"notes\" merges by \"txt\", which is no rule; write text, counter, \
             set, list, map, review, order, owner, max, min, latest or any, in quotes",
            "3:10: error: merge of field \"tags\" is a list; write text, counter, set, list, map, \
             review, order, owner, max, min, latest or any, in quotes",
        ],
    );
}

#[test]
fn options_belong_to_their_rule() {
    check_fields(
        r#"a = { merge = "text", order = ["x"] }
b = { owner = "crm" }
c = { merge = "max", skew = "1s" }"#,
        &[
            "2:23: error: field \"a\" has an option order, which belongs to merge = \"order\", and \
             merges by text; leave order out or change merge",
            "3:7: error: field \"b\" has an option owner, which belongs to merge = \"owner\", and \
             merges by review; leave owner out or change merge",
            "4:22: error: field \"c\" has an option skew, which belongs to merge = \"latest\", and \
             merges by max; leave skew out or change merge",
        ],
    );
}

#[test]
fn a_skew_is_a_time_with_its_unit() {
    for skew in ["120", "\"120\"", "\"2 days\"", "\"\"", "\"99999999999999999999h\"", "\"é\""] {
        let found = lint(&format!("[jobs.fields]\na = {{ merge = \"latest\", skew = {skew} }}"));
        let how = "write a number and its unit in quotes: skew = \"120s\", \"2m\" or \"1h\"";
        assert_eq!(found, [format!("2:25: error: skew of field \"a\" is {skew}; {how}")]);
    }
}

#[test]
fn options_are_of_their_kind() {
    check_fields(
        r#"a = { type = "text", required = "yes", writers = "crm", merge = "any" }
b = 5"#,
        &[
            "2:7: error: type of field \"a\" is \"text\"; write string, integer, number, boolean, \
             time, bytes, list or map, in quotes",
            "2:22: error: required of field \"a\" is a string; write true or false",
            "2:40: error: writers of field \"a\" is \"crm\"; write strings in brackets, as in writers \
             = [\"one\", \"other\"]",
            "3:1: error: field \"b\" is a number; write its options in braces, as in { merge = \
             \"text\" }",
        ],
    );
}

#[test]
fn a_type_fits_its_rule() {
    let found = |rule: &str, kind: &str| {
        let text = format!("[jobs.fields]\na = {{ merge = \"{rule}\", type = \"{kind}\" }}");
        !parse(&text).is_sound()
    };
    for (rule, fitting) in [
        ("text", &["string"][..]),
        ("counter", &["integer", "number"]),
        ("set", &["list"]),
        ("list", &["list"]),
        ("map", &["map"]),
        ("review", &["string", "integer", "number", "boolean", "time", "bytes", "list", "map"]),
        ("any", &["string", "integer", "number", "boolean", "time", "bytes", "list", "map"]),
        ("max", &["string", "integer", "number", "boolean", "time"]),
        ("min", &["string", "integer", "number", "boolean", "time"]),
        ("latest", &["string", "integer", "number", "boolean", "time", "bytes"]),
    ] {
        for kind in Kind::ALL {
            let fits = fitting.contains(&kind.name());
            assert_eq!(found(rule, kind.name()), !fits, "{rule} {kind:?}");
        }
    }
    check_fields(
        r#"n = { merge = "text", type = "integer" }"#,
        &[
            "2:23: error: field \"n\" has type = \"integer\", and merge = \"text\" is for \"string\"; \
           change one of them, or leave type out",
        ],
    );
    check_fields(
        r#"s = { merge = "order", order = ["a"], type = "boolean" }"#,
        &[
            "2:39: error: field \"s\" has type = \"boolean\", and merge = \"order\" is for \"string\"; \
           change one of them, or leave type out",
        ],
    );
}

#[test]
fn a_default_fits_its_field() {
    check_fields(
        r#"a = { merge = "text", default = "x" }
b = { type = "integer", default = 1.5 }
c = { merge = "order", order = ["x", "y"], default = "z" }
d = { default = [1] }
e = { default = { a = 1 } }
f = { type = "time", default = "today" }
g = { default = nan }
h = { default = 18446744073709551616 }
i = { default = 0.1000000000000000055 }
j = { default = 1e400 }
k = { default = 18446744073709551615 }
l = { default = +1_000.5 }"#,
        &[
            "2:23: error: field \"a\" merges by text, which begins empty and takes no default; leave \
             default out",
            "3:25: error: the default of field \"b\", 1.5, is not of the field's type; write a value \
             of type \"integer\"",
            "4:44: error: the default of field \"c\", \"z\", is not in the field's order; write \"x\" \
             or \"y\"",
            "5:7: error: the default of field \"d\", [1], must be one value, such as a string, a \
             number, true or false",
            "6:7: error: the default of field \"e\", {\"a\":1}, must be one value, such as a string, \
             a number, true or false",
            "7:22: error: the default of field \"f\", \"today\", is not of the field's type; write a \
             value of type \"time\"",
            "8:7: error: nan is no number; write another value",
            "9:7: error: 18446744073709551616 is larger than a number here is; write another one",
            "10:7: error: 0.1000000000000000055 has more digits than a number keeps exactly; write it \
             as text, in quotes, or with fewer digits",
            "11:7: error: 1e400 has more digits than a number keeps exactly; write it as text, in \
             quotes, or with fewer digits",
        ],
    );
}

#[test]
fn somebody_may_write() {
    check_fields(
        "a = { writers = [] }\nb = { writers = [\"\"] }",
        &[
            "2:7: error: nobody may write field \"a\": its writers are empty; name roles, or leave \
             writers out to let anybody write",
            "3:7: error: a writer of field \"b\" is empty; write a role",
        ],
    );
}

#[test]
fn fields_stand_in_what_can_hold_them() {
    check_fields(
        r#"a = { merge = "text" }
"a.b" = {}
l = { merge = "list" }
"l.name" = {}
s = { type = "string" }
"s.x.y" = {}
"*.deep" = {}"#,
        &[
            "3:1: error: field \"a.b\" stands inside of \"a\", which merges by text and so is one \
             value; leave one of the two fields out, or make \"a\" a map",
            "5:1: error: field \"l.name\" stands inside of \"l\", which is a list; name its items \
             \"l.*\"",
            "7:1: error: field \"s.x.y\" stands inside of \"s\", whose type is \"string\"; leave one \
             of the two fields out, or make \"s\" a map",
        ],
    );
}

#[test]
fn names_of_fields_mean_something() {
    let marks = "is how Rejoin itself marks what was deleted; take another name";
    check_fields(
        r#""" = {}
"a..b" = {}
"p[0]" = {}
"p[*]" = {}
deleted = {}
"x.removed" = {}
"x.deleted" = {}"#,
        &[
            "2:1: error: a field has no name; write one",
            "3:1: error: a part of the name \"a[\\\"\\\"].b\" is empty; leave out a dot",
            "4:1: error: field \"p[0]\" is about item 0 of a list, and items move; write * for any \
             item, as in \"parts.*\"",
            "5:1: error: \"p[*]\" is not how any item is named; write \"p.*\"",
            &format!("6:1: error: field \"deleted\": \"deleted\" {marks}"),
            &format!("7:1: error: field \"x.removed\": \"removed\" {marks}"),
        ],
    );
}

#[test]
fn a_path_is_written_in_quotes() {
    check_fields(
        r#"address.street = { merge = "text" }"#,
        &[
            "2:9: error: field \"address\" has an option \"street\" that looks like a field inside of \
           it; write its whole path in quotes, as in \"address.street\" = { .. }",
        ],
    );
    check_fields(
        "'[\"a\"]' = {}\na = {}",
        &["2:1: error: field \"[\\\"a\\\"]\" is there twice; leave one of them out"],
    );
}

#[test]
fn two_patterns_do_not_say_two_things() {
    check_fields(
        "\"*.b\" = { merge = \"any\" }\n\"a.*\" = { merge = \"max\" }",
        &[
            "3:1: error: fields \"*.b\" and \"a.*\" both are about \"a.b\" and differ; name \"a.b\", \
           too, to say which it is",
        ],
    );
    check_fields("\"*.b\" = { merge = \"any\" }\n\"a.*\" = { merge = \"any\" }", &[]);
    check_fields("\"*.b\" = { merge = \"any\" }\n\"a.*\" = {}\n\"a.b\" = {}", &[]);
    check_fields("\"*.b\" = { merge = \"any\" }\n\"*.*\" = {}", &[]);
}

#[test]
fn what_is_not_understood_is_kept_and_named() {
    let known = "which this version does not understand; it knows";
    let text = r#"
[jobs]
colour = "red"
[jobs.fields]
notes = { merge = "text", language = "de" }
[[jobs.invariants]]
exclusive = { of = "notes" }
"#;
    assert_eq!(
        lint(text),
        [
            format!(
                "3:1: warning: there is \"colour\", {known} fields, invariants and zone; it is kept as it \
                 is"
            ),
            format!(
                "5:27: warning: field \"notes\" has an option \"language\", {known} merge, order, \
                 owner, skew, type, required, default, writers, index and index_then; it is kept as it is"
            ),
            format!(
                "7:1: warning: there is an invariant \"exclusive\", {known} no_overlap and unique; \
                 it is kept as it is"
            ),
        ]
    );
    let parsed = parse(text);
    assert!(parsed.is_sound());
    let kept = parsed.schemas.values().next().unwrap().to_value();
    assert_eq!(kept["colour"], "red");
    assert_eq!(kept["fields"]["notes"]["language"], "de");
    let exclusive = &kept["invariants"]["exclusive {\"of\":\"notes\"}"]["exclusive"];
    assert_eq!(exclusive["of"], "notes");
}

#[test]
fn invariants_name_fields_of_the_schema() {
    check_invariants(
        r#"[[jobs.invariants]]
no_overlap = { key = "woh", start = "form", end = "to", unless = { gone = true } }
[[jobs.invariants]]
unique = ["phone"]
[[jobs.invariants]]
unique = ["parts.*"]"#,
        &[
            "11:16: error: the key of no_overlap is \"woh\", which is no field of this schema; add it \
             to the fields, or write the name of one of them",
            "11:29: error: the start of no_overlap is \"form\", which is no field of this schema; add \
             it to the fields, or write the name of one of them",
            "11:68: error: a field in unless is \"gone\", which is no field of this schema; add it to \
             the fields, or write the name of one of them",
            "13:11: error: a field in unique is \"phone\", which is no field of this schema; add it \
             to the fields, or write the name of one of them",
            "15:11: error: a field in unique is \"parts.*\", which names many places; name one field \
             without *",
        ],
    );
}

#[test]
fn invariants_are_about_fields_that_can_be_meant() {
    check_invariants(
        r#"[[jobs.invariants]]
no_overlap = { key = "notes", start = "status", end = "urgent" }
[[jobs.invariants]]
no_overlap = { key = "who", start = "from", end = "count" }
[[jobs.invariants]]
no_overlap = { key = "to", start = "to", end = "to" }"#,
        &[
            "11:16: error: the key of no_overlap is \"notes\", which merges by text and so is never \
             one value; name another field",
            "11:31: error: the start of no_overlap is \"status\", which merges by order and so is no \
             time; name a field with type = \"time\"",
            "11:49: error: the end of no_overlap is \"urgent\", whose type is \"boolean\"; give it \
             type = \"time\", \"integer\" or \"number\"",
            "13:45: error: no_overlap starts at a field of type \"time\" and ends at one of \
             type \"integer\"; give both the same",
            "15:28: error: \"to\" is both key and start of no_overlap; key names whom the time is \
             taken of",
            "15:42: error: \"to\" is both key and end of no_overlap; key names whom the time is taken \
             of",
            "15:42: error: no_overlap starts and ends at \"to\", so it takes no time; name the field \
             where it ends",
        ],
    );
}

#[test]
fn unless_names_values_the_field_can_have() {
    check_invariants(
        r#"[[jobs.invariants]]
no_overlap = { key = "who", start = "from", end = "to", unless = { status = "cancelled", urgent = "yes" } }"#,
        &[
            "11:68: error: unless \"status\" is \"cancelled\", which is not in the field's order; \
             write \"booked\" or \"done\"",
            "11:90: error: unless \"urgent\" is \"yes\", which is not of the field's type; write a \
             value of type \"boolean\"",
        ],
    );
}

#[test]
fn invariants_do_not_overlap() {
    let first =
        "[[jobs.invariants]]\nno_overlap = { key = \"who\", start = \"from\", end = \"to\" }\n";
    let second = |start: &str, end: &str| {
        let second = format!("{{ key = \"who\", start = \"{start}\", end = \"{end}\" }}");
        format!("{first}[[jobs.invariants]]\nno_overlap = {second}")
    };
    check_invariants(
        &second("from", "to"),
        &[
            "13:1: error: the same no_overlap of \"who\" is there before; put what both say of unless \
           into one of them",
        ],
    );
    check_invariants(
        &second("from", "until"),
        &[
            "13:1: error: two no_overlap of \"who\" start at \"from\", so their times overlap in \
             every document; keep the one with the longer time",
            "13:45: error: the end of no_overlap is \"until\", which is no field of this schema; add \
             it to the fields, or write the name of one of them",
        ],
    );
    check_invariants(
        &second("to", "from"),
        &[
            "13:1: error: a no_overlap of \"who\" from \"from\" to \"to\" is there before, the other \
           way round; keep the one that begins first",
        ],
    );
    let travel =
        "[[jobs.invariants]]\nno_overlap = { key = \"who\", start = \"to\", end = \"later\" }";
    let found = lint(&format!(
        "[jobs.fields]\nwho = {{}}\nfrom = {{}}\nto = {{}}\nlater = {{}}\n{first}{travel}"
    ));
    assert!(found.is_empty(), "one may begin where the other ends: {found:?}");
}

#[test]
fn what_is_unique_is_said_once() {
    check_invariants(
        r#"[[jobs.invariants]]
unique = ["who", "from"]
[[jobs.invariants]]
unique = ["from", "who"]
[[jobs.invariants]]
unique = []
[[jobs.invariants]]
unique = ["to", "to"]
[[jobs.invariants]]
unique = ["who"]"#,
        &[
            "13:1: error: the same unique is there before; leave one of them out",
            "15:1: error: unique names no field; name at least one",
            "17:17: error: unique names \"to\" twice; leave one out",
            "19:1: warning: two unique hold each other: what is unique in fewer fields is so in more; \
             leave out the one with more fields",
        ],
    );
}

#[test]
fn invariants_say_what_they_must() {
    check_invariants(
        r#"[[jobs.invariants]]
no_overlap = { start = 1, end = "to", unless = 5 }
[[jobs.invariants]]
no_overlap = "who"
[[jobs.invariants]]
unique = "who"
[[jobs.invariants]]"#,
        &[
            "11:1: error: no_overlap has no key; name a field, as in key = \"..\"",
            "11:16: error: start of no_overlap is a number; name a field, as in start = \"..\"",
            "11:39: error: unless is a number; write unless = { status = \"cancelled\" }",
            "13:1: error: no_overlap is a string; write no_overlap = { key = \"..\", start = \"..\", \
             end = \"..\" }",
            "15:1: error: unique is a list of fields; write unique = [\"phone\"]",
            "16:1: error: say what must hold: no_overlap = { .. } or unique = [ .. ]",
        ],
    );
}

#[test]
fn collections_are_named_and_described() {
    for (text, found) in [
        ("", "1:1: error: no collection is described; write [jobs.fields], with the name of yours"),
        (
            "[\"rejoin.schemas\".fields]\na = {}",
            "1:2: error: collections that begin with \"rejoin.\" belong to Rejoin itself; take \
             another name",
        ),
        ("[\"\".fields]\na = {}", "1:2: error: the collection is empty; give it a name"),
        (
            "jobs = 5",
            "1:1: error: a schema is a table; write [NAME.fields] with the collection's name above it",
        ),
        (
            "[jobs]\nfields = 5",
            "2:1: error: fields is a number; write [NAME.fields] above the fields",
        ),
        (
            "[jobs]\ninvariants = 5",
            "2:1: error: invariants is a number; write [[NAME.invariants]] above each of them",
        ),
        (
            "[jobs]\nnotes = { merge = \"text\" }",
            "2:1: error: \"notes\" looks like a field; write it below [NAME.fields]",
        ),
        (
            "[jobs.field]\nnotes = { merge = \"text\" }",
            "1:7: error: \"field\" looks like fields; write [NAME.fields] above them",
        ),
    ] {
        assert_eq!(lint(text), [found]);
    }
}

#[test]
fn broken_toml_is_found_line_by_line() {
    assert_eq!(
        lint("[jobs.fields\nnotes = { merge = \"txt\" }\nb = [[["),
        [
            "1:13: error: this is not TOML: unclosed table, expected `]`; correct it to see what else \
             there is",
            "3:8: error: this is not TOML: unclosed array, expected `]`; correct it to see what else \
             there is",
        ]
    );
}

#[test]
fn everything_is_found_in_one_run_in_the_order_of_the_file() {
    let found = lint(
        "[jobs.fields]\nz = { merge = \"txt\" }\na = { merge = \"order\" }\nz = {}\n[b.fields]\n\
         [[b.invariants]]\nunique = [\"x\"]\n",
    );
    let places: Vec<_> = found.iter().map(|it| it.split(' ').next().unwrap()).collect();
    assert_eq!(places, ["2:7:", "3:7:", "4:1:", "7:11:"]);
}

#[test]
fn columns_count_characters() {
    assert_eq!(
        lint("[jobs.fields]\r\n\"é\" = { writers = [], merge = \"txt\" }")[0].split(' ').next(),
        Some("2:9:")
    );
}

#[test]
fn a_schema_written_in_rust_is_checked_alike() {
    let schema = Schema::new()
        .with("status", Rule::order(["a", "a"]))
        .with("phone", Field::new(Rule::owner("crm")).writers(["desk"]))
        .invariant(Invariant::unique(["gone"]));
    let faults = schema.check();
    let places: Vec<_> = faults.iter().map(|fault: &Fault| fault.place.join(" ")).collect();
    assert_eq!(places, ["fields phone writers", "fields status order 1", "invariants 0 unique 0"]);
}

proptest! {
    #[test]
    fn no_text_is_too_odd_to_be_read(text in "[a-z \"'\\[\\]{}=.,*\n#0-9\\\\é]{0,200}") {
        parse(&text);
    }

    #[test]
    fn no_field_is_too_odd_to_be_read(
        options in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "merge", "type", "order", "owner", "skew", "required", "default", "writers", "index",
                    "index_then", "x",
                ]),
                prop::sample::select(vec![
                    "\"text\"", "\"order\"", "\"owner\"", "\"latest\"", "\"\"", "[]", "[\"a\", \"a\"]",
                    "[1]", "{}", "{ \"$time\" = 1 }", "{ \"$bytes\" = \"é\" }", "-1", "1e400", "true",
                    "07:32:00", "\"list\"", "\"map\"",
                ]),
            ),
            0..6,
        ),
        name in "[a*\\[\\]\".0]{0,5}",
    ) {
        let options: Vec<_> = options.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let text = format!("[jobs.fields]\n'{name}' = {{ {} }}", options.join(", "));
        for finding in parse(&text).findings {
            prop_assert!(finding.line <= 2 && !finding.message.is_empty());
        }
    }
}
