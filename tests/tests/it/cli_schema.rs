//! Schemas through the real binary: from a file to the space, to other replicas, and back.

use std::fs;

use rejoin_tests::processes::{Ended, Rejoin, RelayProcess};
use serde_json::{Value, json};

/// A folder with schema files and replicas.
struct Folder {
    folder: tempfile::TempDir,
    rejoin: Rejoin,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { rejoin: Rejoin::in_dir(folder.path()), folder }
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(file), text).expect("a file");
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.rejoin.ok(line.split(' '))
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        self.rejoin.json(line.split(' '))
    }

    fn run(&self, line: &str) -> Ended {
        self.rejoin.run(line.split(' '))
    }
}

const JOBS: &str = r#"[jobs.fields]
notes = { merge = "text" }
phone = { merge = "owner", owner = "crm", required = true }
status = { merge = "order", order = ["booked", "done"] }
technician = { merge = "review", writers = ["dispatch"] }

[[jobs.invariants]]
unique = ["phone"]
"#;

#[test]
fn a_schema_is_applied_once_and_shown_as_it_was_written() {
    let folder = Folder::new();
    folder.write("jobs.toml", JOBS);
    assert_eq!(folder.ok("schema lint jobs.toml"), "jobs.toml: 1 collection, nothing is wrong\n");
    assert_eq!(
        folder.ok("--replica a.redb schema apply jobs.toml"),
        r#"jobs: new
  + notes = { merge = "text" }
  + phone = { merge = "owner", owner = "crm", required = true }
  + status = { merge = "order", order = ["booked", "done"] }
  + technician = { merge = "review", writers = ["dispatch"] }
  + unique = ["phone"]
applied; on this device, 1 edit to send to a relay
"#
    );
    assert_eq!(folder.ok("--replica a.redb schema show"), JOBS);
    assert_eq!(folder.ok("--replica a.redb schema show jobs"), JOBS);
    let digest = folder.ok("--replica a.redb digest");
    assert_eq!(
        folder.ok("--replica a.redb schema apply jobs.toml"),
        "jobs: the same\nunchanged; on this device, 1 edit to send to a relay\n"
    );
    assert_eq!(folder.ok("--replica a.redb digest"), digest);
}

#[test]
fn a_file_is_compared_with_the_space_and_changes_nothing() {
    let folder = Folder::new();
    folder.write("jobs.toml", JOBS);
    folder.ok("--replica a.redb schema apply jobs.toml");
    assert_eq!(folder.ok("--replica a.redb schema diff jobs.toml"), "jobs: the same\n");
    let edited = JOBS
        .replace("\"booked\", \"done\"", "\"booked\", \"on_site\", \"done\"")
        .replace("notes = { merge = \"text\" }\n", "color = { merge = \"any\" }\n")
        .replace("owner = \"crm\", required = true", "owner = \"crm\"");
    folder.write("jobs.toml", format!("{edited}[technicians]\n"));
    let told = r#"jobs: 4 differences
  + color = { merge = "any" }
  - notes = { merge = "text" }
  ~ phone: no required any more
  ~ status: order = ["booked", "on_site", "done"], was ["booked", "done"]
technicians: new
"#;
    assert_eq!(folder.ok("--replica a.redb schema diff jobs.toml"), told);
    assert_eq!(folder.ok("--replica a.redb schema show"), JOBS);
    let applied = folder.ok("--replica a.redb schema apply jobs.toml");
    assert_eq!(applied, format!("{told}applied; on this device, 3 edits to send to a relay\n"));
    assert_eq!(folder.json("--replica a.redb schema diff jobs.toml")["same"], true);
}

#[test]
fn everything_wrong_is_reported_with_its_place_and_nothing_is_applied() {
    let folder = Folder::new();
    folder.write(
        "jobs.toml",
        r#"zone = "Europe/Madrid"
[jobs.fields]
status = { merge = "order", order = ["booked", "done", "booked"] }
phone = { merge = "owner", owner = ["crm", "dispatch"] }
[[jobs.invariants]]
no_overlap = { key = "technician", start = "status", end = "status", buffer = "15m" }
"#,
    );
    let ended = folder.run("schema lint jobs.toml");
    assert_eq!(ended.code, 1);
    let places: Vec<_> = ended
        .stdout
        .lines()
        .map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        places,
        [
            "jobs.toml:3:56 error",
            "jobs.toml:4:28 error",
            "jobs.toml:6:16 error",
            "jobs.toml:6:36 error",
            "jobs.toml:6:54 error",
            "jobs.toml:6:54 error",
            "jobs.toml:6:70 warning",
            "jobs.toml 6 errors, 1 warning",
        ]
    );
    let refused = folder.run("--replica a.redb schema apply jobs.toml");
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.contains("jobs.toml:4:28: error: field \"phone\" has two owners"));
    assert!(!folder.folder.path().join("a.redb").exists());
    folder.ok("--replica a.redb set jobs 1 status=booked");
    assert_eq!(folder.run("--replica a.redb schema diff jobs.toml").code, 1);
    assert_eq!(folder.run("--replica a.redb schema apply jobs.toml --json").code, 1);
    assert_eq!(folder.json("--replica a.redb schema show"), json!({}));
}

#[test]
fn programs_are_told_the_same() {
    let folder = Folder::new();
    folder.write("jobs.toml", "[jobs.fields]\nnotes = { merge = \"text\", language = \"de\" }\n");
    let lint = folder.json("schema lint jobs.toml");
    assert_eq!(
        (&lint["sound"], &lint["errors"], &lint["warnings"]),
        (&json!(true), &json!(0), &json!(1))
    );
    let finding = &lint["findings"][0];
    assert_eq!(
        (&finding["line"], &finding["column"], &finding["severity"]),
        (&json!(2), &json!(27), &json!("warning"))
    );
    let notes = json!({ "merge": "text", "language": "de" });
    let added = json!({
        "change": "added", "part": "field", "name": "notes", "before": null, "after": notes,
    });
    let touches = json!({
        "documents": 0, "read_otherwise": 0, "count_less": 0, "reviews_opened": 0, "reviews_ended": 0,
    });
    let collections =
        json!({ "jobs": { "new": true, "differences": [added], "touches": touches } });
    let diff = folder.rejoin.run("--replica a.redb schema diff jobs.toml".split(' '));
    assert!(diff.stderr.contains("there is no replica at a.redb"), "{}", diff.stderr);
    assert_eq!(
        folder.json("--replica a.redb schema apply jobs.toml"),
        json!({ "changed": true, "waiting": 1, "collections": collections })
    );
    assert_eq!(folder.json("--replica a.redb schema apply jobs.toml")["changed"], false);
    assert_eq!(
        folder.json("--replica a.redb schema show jobs"),
        json!({ "jobs": { "fields": { "notes": notes }, "invariants": {} } })
    );
    assert_eq!(folder.json("--replica a.redb schema diff jobs.toml")["same"], true);
}

#[test]
fn what_a_newer_version_said_is_kept_and_named() {
    let folder = Folder::new();
    folder.ok(
        "--replica a.redb set rejoin.schemas jobs fields:={\"notes\":{\"merge\":\"vote\",\"quorum\":2}}",
    );
    let ended = folder.run("--replica a.redb schema show");
    assert_eq!(ended.stdout, "[jobs.fields]\nnotes = { merge = \"vote\", quorum = 2 }\n");
    let told: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("jobs: ")).collect();
    assert_eq!(told.len(), 2, "{}", ended.stderr);
    assert!(told[1].contains("merges by \"vote\""), "{}", told[1]);
    assert!(told[1].ends_with("it is kept as it is"), "{}", told[1]);
}

#[test]
fn what_is_missing_or_no_schema_is_said_with_what_to_do() {
    let folder = Folder::new();
    folder.write("latin.toml", b"[jobs.fields]\n\"\xe9\" = {}\n");
    folder.write("broken.toml", "[jobs.fields\n");
    folder.ok("--replica a.redb set jobs 1 status=booked");
    for (line, said) in [
        ("schema lint gone.toml", "gone.toml cannot be read"),
        ("schema lint latin.toml", "latin.toml is not UTF-8; save it as UTF-8"),
        ("--replica a.redb schema show jobs", "jobs has no schema here"),
        (
            "--replica a.redb schema apply broken.toml",
            "broken.toml:1:13: error: this is not TOML: unclosed table",
        ),
        ("--replica new.redb schema show", "there is no replica at new.redb"),
    ] {
        let told = folder.rejoin.refused(line.split(' '));
        assert!(told.contains(said), "{line}: {told}");
    }
    assert!(folder.ok("--replica a.redb schema show").starts_with("# No collection has a schema"));
    let ended = folder.rejoin.run_with_input("schema lint -".split(' '), b"[jobs]\n");
    assert_eq!(ended.stdout, "standard input: 1 collection, nothing is wrong\n");
}

#[test]
fn schemas_reach_every_replica_and_edits_of_different_fields_merge() {
    let folder = Folder::new();
    let relay = RelayProcess::start(folder.folder.path().join("relay"));
    let sync = |replica: &str| {
        folder.ok(&format!("--replica {replica} sync {} --once", relay.url()));
    };
    folder.write("jobs.toml", JOBS);
    folder.ok("--replica a.redb schema apply jobs.toml");
    sync("a.redb");
    sync("b.redb");
    assert_eq!(folder.ok("--replica b.redb schema show"), JOBS);

    // Both offline: one adds a status and a field, the other takes a field away and adds one.
    let one = JOBS
        .replace("\"booked\", \"done\"", "\"booked\", \"on_site\", \"done\"")
        .replace("status", "color = { merge = \"any\" }\nstatus");
    folder.write("one.toml", one);
    folder.ok("--replica a.redb schema apply one.toml");
    let other = JOBS
        .replace("notes = { merge = \"text\" }", "floor = { merge = \"max\" }")
        .replace("[\"dispatch\"]", "[\"desk\", \"dispatch\"]");
    folder.write("other.toml", other);
    folder.ok("--replica b.redb schema apply other.toml");
    for replica in ["a.redb", "b.redb", "a.redb"] {
        sync(replica);
    }
    let merged = r#"[jobs.fields]
color = { merge = "any" }
floor = { merge = "max" }
phone = { merge = "owner", owner = "crm", required = true }
status = { merge = "order", order = ["booked", "on_site", "done"] }
technician = { merge = "review", writers = ["desk", "dispatch"] }

[[jobs.invariants]]
unique = ["phone"]
"#;
    for replica in ["a.redb", "b.redb"] {
        assert_eq!(folder.ok(&format!("--replica {replica} schema show")), merged);
    }
}

#[test]
fn two_edits_of_one_order_are_a_review_and_neither_wins() {
    let folder = Folder::new();
    let relay = RelayProcess::start(folder.folder.path().join("relay"));
    let sync = |replica: &str| {
        folder.ok(&format!("--replica {replica} sync {} --once", relay.url()));
    };
    let orders = [r#"["booked", "on_site", "done"]"#, r#"["booked", "paid", "done"]"#];
    for (replica, order) in ["a.redb", "b.redb"].into_iter().zip(orders) {
        folder.write("jobs.toml", JOBS.replace(r#"["booked", "done"]"#, order));
        folder.ok(&format!("--replica {replica} schema apply jobs.toml"));
    }
    for replica in ["a.redb", "b.redb", "a.redb"] {
        sync(replica);
    }
    let shown = ["a.redb", "b.redb"].map(|it| folder.ok(&format!("--replica {it} schema show")));
    assert_eq!(shown[0], shown[1]);
    assert!(!orders.iter().any(|order| shown[0].contains(order)), "{}", shown[0]);
    let asked = ["a.redb", "b.redb"].map(|it| folder.ok(&format!("--replica {it} reviews --json")));
    assert_eq!(asked[0], asked[1]);
    assert!(asked[0].contains("rejoin.schemas") && asked[0].contains("paid"), "{}", asked[0]);
}
