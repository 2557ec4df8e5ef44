//! Names of fields that a command would take for something else: whatever name is printed is one that
//! every command takes.

use rejoin_tests::processes::{Desk, RelayProcess};
use serde_json::{Value, json};

/// Names as columns of files and other programs have them.
const NAMES: [&str; 14] = [
    "Geo.Lat",
    "a,b",
    "x=y",
    "due:",
    "say \"hi\"",
    "[0]",
    "[#1@ab]",
    "a[b]",
    "-v",
    " sp ",
    "line\nbreak",
    "esc\u{1b}[2J\u{202e}",
    "back\\slash",
    "X Coordinate (State Plane)*",
];

fn replica<'a>(file: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    ["--replica", file].iter().chain(arguments).copied().collect()
}

/// A desk with one document that holds every name, each with its number as a text.
fn desk() -> Desk {
    let desk = Desk::new();
    let mut csv = "id".to_owned();
    for name in NAMES {
        csv += &format!(",\"{}\"", name.replace('"', "\"\""));
    }
    csv += "\n1";
    for number in 0..NAMES.len() {
        csv += &format!(",v{number}");
    }
    std::fs::write(desk.folder.path().join("odd.csv"), csv).expect("a file");
    desk.text("import odd.csv --collection jobs --key id");
    desk
}

/// The printed names, each with what it is the name of.
fn printed(desk: &Desk) -> Vec<(&'static str, String)> {
    let history = desk.json("history jobs 1");
    let changes = history.as_array().expect("changes").iter();
    let fields: Vec<&str> = changes
        .flat_map(|change| change["fields"].as_array().expect("fields"))
        .filter_map(Value::as_str)
        .collect();
    let value = desk.json("get jobs 1")["value"].clone();
    let names = NAMES.iter().map(|name| {
        let number = value[*name].as_str().expect("what was imported");
        let is_it = |field: &&&str| {
            let condition = format!("{field}={number}");
            let list = ["list", "jobs", "--where", &condition, "--json"];
            desk.rejoin.run(replica("a.redb", &list)).stdout.contains("\"id\"")
        };
        let found: Vec<_> = fields.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{name:?} is {found:?} of {fields:?}");
        (*name, (*found[0]).to_owned())
    });
    names.collect()
}

#[test]
fn a_printed_name_is_one_that_every_command_takes() {
    let desk = desk();
    let run = |arguments: &[&str]| desk.rejoin.ok(replica("a.redb", arguments));
    let json = |arguments: &[&str]| desk.rejoin.json(replica("a.redb", arguments));
    let value = |name: &str| desk.json("get jobs 1")["value"][name].clone();
    for (name, printed) in printed(&desk) {
        assert!(!printed.contains(char::is_control), "{printed:?}");
        for shown in [run(&["history", "jobs", "1", "--last", "500"]), run(&["get", "jobs", "1"])] {
            assert!(shown.contains(&printed) || shown.contains('…'), "{printed} is not in {shown}");
        }
        let two = format!("{printed},id");
        let listed = run(&["list", "jobs", "--fields", &two]);
        let heading = listed.lines().next().expect("a heading");
        assert!(heading.contains(&printed) && heading.contains("id"), "{printed}: {heading}");
        let blamed = json(&["blame", "jobs", "1", &printed]);
        assert_eq!(blamed[0]["field"], json!(printed));
        assert_eq!(blamed.as_array().map(Vec::len), Some(1), "{blamed}");

        json(&["set", "jobs", "1", &format!("{printed}=a=b,c")]);
        assert_eq!(value(name), "a=b,c", "{printed}");
        json(&["set", "jobs", "1", &format!("{printed}=")]);
        assert_eq!(value(name), Value::Null, "{printed}");
        json(&["set", "jobs", "1", &format!("{printed}:={{\"in\": 5}}")]);
        assert_eq!(value(name), json!({ "in": 5 }), "{printed}");
        json(&["set", "jobs", "1", &format!("{printed}.in=6")]);
        assert_eq!(value(name), json!({ "in": "6" }), "{printed}");
        json(&["append", "jobs", "1", &format!("{printed}.notes"), "hello"]);
        json(&["add", "jobs", "1", &format!("{printed}.parts"), "2"]);
        let all = json!({ "in": "6", "notes": "hello", "parts": 2 });
        assert_eq!(value(name), all, "{printed}");
    }
}

#[test]
fn a_review_names_its_field_as_commands_take_it() {
    let desk = desk();
    let relay = RelayProcess::start(desk.folder.path().join("relay"));
    let sync = |file| desk.rejoin.ok(replica(file, &["sync", &relay.url(), "--once"]));
    sync("a.redb");
    sync("b.redb");
    let printed = printed(&desk);
    for (file, value) in [("a.redb", "ours"), ("b.redb", "theirs")] {
        let set: Vec<_> = printed.iter().map(|(_, name)| format!("{name}={value}")).collect();
        let set = ["set", "jobs", "1"].into_iter().chain(set.iter().map(String::as_str));
        desk.rejoin.ok(replica(file, &set.collect::<Vec<_>>()));
    }
    for file in ["a.redb", "b.redb", "a.redb"] {
        sync(file);
    }
    let reviews = desk.json("reviews");
    let reviews = reviews.as_array().expect("reviews");
    assert_eq!(reviews.len(), NAMES.len(), "{reviews:?}");
    let view = desk.json("get jobs 1 --view")["view"].clone();
    for review in reviews {
        let (id, field) = (&review["id"], review["field"].as_str().expect("a field"));
        let id = id.as_str().expect("an id");
        let (name, _) = printed.iter().find(|(_, printed)| printed == field).expect("a name");
        assert_eq!(view[field]["states"][0]["review"], json!(id), "{field}");
        let settled = desk.rejoin.json(replica("a.redb", &["settle", id, "--value", "mine"]));
        assert_eq!(settled["field"], json!(field));
        let blamed = desk.rejoin.json(replica("a.redb", &["blame", "jobs", "1", field]));
        assert_eq!(blamed[0]["field"], json!(field));
        assert_eq!(desk.json("get jobs 1")["value"][*name], "mine");
    }
    assert_eq!(desk.json("reviews"), json!([]));
}

#[test]
fn columns_are_named_as_fields_are() {
    let desk = desk();
    for (name, printed) in printed(&desk) {
        let import = ["import", "odd.csv", "--dry-run", "--collection", "others", "--key"];
        let arguments = [&import[..], &[&printed]].concat();
        let taken = desk.rejoin.json(replica("a.redb", &arguments));
        assert_eq!(taken["created"], 1, "{printed}: {taken}");
        let rename = format!("{printed}=renamed");
        let arguments = [&import[..], &["id", "--rename", &rename]].concat();
        assert_eq!(desk.rejoin.json(replica("a.redb", &arguments))["created"], 1, "{printed}");
        // To a name of that kind as well.
        let file =
            format!("id,plain\n{},x\n", NAMES.iter().position(|it| *it == name).unwrap_or(0));
        std::fs::write(desk.folder.path().join("plain.csv"), file).expect("a file");
        let rename = format!("plain={printed}");
        let import = ["import", "plain.csv", "--collection", "renamed", "--key", "id", "--rename"];
        desk.rejoin.ok(replica("a.redb", &[&import[..], &[&rename]].concat()));
    }
    let renamed = desk.json("list renamed");
    for (number, name) in NAMES.iter().enumerate() {
        let documents = renamed.as_array().expect("documents");
        let key = number.to_string();
        let document = documents.iter().find(|it| it["key"] == key.as_str());
        assert_eq!(document.expect("a document")["value"][*name], "x");
    }
    let arguments = ["import", "odd.csv", "--collection", "jobs", "--key", "none"];
    let said = desk.rejoin.refused(replica("a.redb", &arguments));
    assert!(said.contains("[\"Geo.Lat\"], [\"a,b\"], [\"x=y\"]"), "{said}");
}

#[test]
fn schema_files_name_fields_as_they_are_printed() {
    let desk = desk();
    let printed = printed(&desk);
    let fields: String =
        printed.iter().map(|(_, name)| format!("'{name}' = {{ type = \"integer\" }}\n")).collect();
    let file = format!("[jobs.fields]\n{fields}");
    std::fs::write(desk.folder.path().join("jobs.toml"), file).expect("a file");
    desk.json("schema apply jobs.toml");
    let schema = desk.json("schema show");
    let view = desk.json("get jobs 1 --view")["view"].clone();
    for (_, name) in &printed {
        assert!(schema["jobs"]["fields"][name].is_object(), "{name}: {schema}");
        assert_eq!(view[name]["states"][0]["state"], "held", "{name}: {view}");
    }
    std::fs::write(desk.folder.path().join("shown.toml"), desk.text("schema show"))
        .expect("a file");
    assert_eq!(desk.json("schema diff shown.toml")["same"], true);
}

#[test]
fn shells_and_manuals_know_the_commands() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = desk.rejoin.ok(["completions", shell]);
        assert!(script.contains("reviews") && script.contains("dry-run"), "{shell}");
    }
    desk.rejoin.ok(["man", "pages"]);
    for page in ["rejoin.1", "rejoin-sync.1", "rejoin-adapters-lint.1"] {
        let text = std::fs::read_to_string(desk.folder.path().join("pages").join(page));
        assert!(text.is_ok_and(|text| text.starts_with(".ie")), "{page}");
    }
}
