//! Files of spreadsheets through the real binary: what they say keeps its meaning on the way in and on
//! the way out, and undoes nothing that people decided.

use std::fs;

use rejoin_tests::processes::{Ended, Rejoin, RelayProcess};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder in which replicas and files are.
struct Desk {
    folder: TempDir,
    rejoin: Rejoin,
}

impl Desk {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        Self { rejoin: Rejoin::in_dir(folder.path()), folder }
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(file), text).expect("a file");
    }

    fn run(&self, replica: &str, line: &str) -> Ended {
        let arguments = ["--replica", replica].into_iter().chain(line.split(' '));
        self.rejoin.run(arguments)
    }

    #[track_caller]
    fn ok(&self, replica: &str, line: &str) -> String {
        let ended = self.run(replica, line);
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
        ended.stdout
    }

    #[track_caller]
    fn json(&self, replica: &str, line: &str) -> Value {
        serde_json::from_str(&self.ok(replica, &format!("{line} --json"))).expect("JSON")
    }

    /// What a replica exports, without ids.
    fn jobs(&self, replica: &str) -> Value {
        let documents = self.json(replica, "export jobs");
        let documents = documents.as_array().expect("an array").iter();
        let named = documents.map(|it| {
            let name = it["key"].as_str().or_else(|| it["id"].as_str()).expect("a name");
            (name.to_owned(), it["value"].clone())
        });
        Value::Object(named.collect())
    }

    fn edit(&self, replica: &str, key: &str, fields: &[&str]) {
        let arguments = ["--replica", replica, "set", "jobs", key];
        self.rejoin.ok(arguments.into_iter().chain(fields.iter().copied()));
    }
}

#[test]
fn what_is_exported_is_taken_back_without_a_change() {
    let desk = Desk::new();
    desk.edit(
        "a",
        "1",
        &["name=tap", "price:=12.10", "parts:=[\"valve\",{\"n\":2}]", "done:=true"],
    );
    desk.edit(
        "a",
        "2",
        &["name==SUM(A1)", "price:=7", "visit:={\"at\":{\"floor\":3}}", "note:=\"\""],
    );
    desk.edit(
        "a",
        "3",
        &[
            "name=-5",
            "at:={\"lat\":97.45424510282939}",
            "done=yes",
            "_key=x",
            "x:json=y",
            "big:=18446744073709551615",
        ],
    );
    desk.ok("a", "add jobs 1 used 3");
    desk.ok("a", "append jobs 2 notes Two\u{a0}dogs,\u{a0}\"big\"");
    let before = desk.jobs("a");
    let digest = desk.ok("a", "digest");
    for option in ["--format csv", "--for-spreadsheets"] {
        let csv = desk.ok("a", &format!("export jobs {option}"));
        desk.write("jobs.csv", &csv);
        let first = csv.trim_start_matches('\u{feff}').split(',').next().expect("a column");
        let import = format!("import jobs.csv --collection jobs --key {first}");
        let taken = desk.json("a", &import);
        assert_eq!((&taken["unchanged"], &taken["bad"]), (&json!(3), &json!(0)), "{csv}\n{taken}");
        assert_eq!((desk.jobs("a"), desk.ok("a", "digest")), (before.clone(), digest.clone()));
        let is_for_spreadsheets = option == "--for-spreadsheets";
        assert_eq!(csv.starts_with('\u{feff}'), is_for_spreadsheets);
        assert_eq!(csv.contains("'=SUM(A1)"), is_for_spreadsheets, "{csv}");
    }
    // A new replica has the same values.
    desk.write("jobs.csv", desk.ok("a", "export jobs --format csv"));
    desk.ok("b", "import jobs.csv --collection jobs --key _key");
    assert_eq!(desk.jobs("b"), before);
}

#[test]
fn a_file_may_name_documents_by_their_id() {
    let desk = Desk::new();
    desk.edit("a", "1", &["name=tap"]);
    // Any id of a document that is not in this file.
    desk.rejoin.ok(["--replica", "other", "set", "visits", "1", "x=1"]);
    let visits = desk.json("other", "list visits");
    let id = visits[0]["id"].as_str().expect("an id");
    desk.write("one.csv", format!("_key,name\n{id},pump\n"));
    // It is not made: another program may have made it already.
    let refused = desk.run("a", "import one.csv --collection jobs --key _key");
    assert!(refused.code == 1 && refused.stderr.contains("no such document"), "{refused:?}");
    assert_eq!(desk.json("other", "import one.csv --collection visits --key _key")["changed"], 1);
    // It is of another kind.
    let refused = desk.run("other", "import one.csv --collection jobs --key _key");
    assert!(refused.code == 1 && refused.stderr.contains("in collection visits"), "{refused:?}");
}

#[test]
fn cells_become_what_their_field_is() {
    let desk = Desk::new();
    desk.write(
        "schema.toml",
        "[jobs.fields]\nnotes = { merge = \"text\" }\nused = { merge = \"counter\" }\n\
         price = { type = \"number\" }\nfloor = { type = \"integer\" }\npaid = { type = \"boolean\" }\n\
         tags = { merge = \"set\" }\nstarts_at = { type = \"time\" }\n",
    );
    desk.edit("a", "0", &["x=1"]);
    desk.ok("a", "schema apply schema.toml");
    let rows = "1,Two dogs,3,12.10,2,TRUE,\"[\"\"a\"\",\"\"a\"\"]\",5/4/2026 9:00 AM,007\n\
                2,,,five,2.5,maybe,a,,\n3,,,0.12345678901234567890,,,,,\n";
    desk.write("jobs.csv", format!("id,notes,used,price,floor,paid,tags,starts_at,code\n{rows}"));
    let ended = desk.run("a", "import jobs.csv --collection jobs --key id");
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("line 4") && ended.stderr.contains("more digits"), "{ended:?}");
    let said = ended.stdout;
    for misfit in [
        "starts_at: it is not a point in time",
        "price: it is not a number",
        "floor:",
        "paid:",
        "tags:",
    ] {
        assert!(said.contains(misfit), "{misfit} is not in {said}");
    }
    let job = &desk.jobs("a")["1"];
    let expected = json!({
        "id": "1", "notes": "Two dogs", "used": 3, "price": 12.1, "floor": 2, "paid": true,
        "tags": ["a"], "starts_at": "5/4/2026 9:00 AM", "code": "007",
    });
    assert_eq!(*job, expected);
    // It is a text and a counter, in which two may write at once.
    desk.ok("a", "append jobs 1 notes .");
    desk.ok("a", "add jobs 1 used 3");
    // What is a number stays one, without a schema too.
    desk.edit("a", "9", &["count:=5", "flag:=false"]);
    desk.write("more.csv", "id,count,flag\n9,6,true\n");
    desk.ok("a", "import more.csv --collection jobs --key id");
    let job = desk.jobs("a")["9"].clone();
    assert_eq!((&job["count"], &job["flag"]), (&json!(6), &json!(true)));
}

#[test]
fn semicolons_tabs_and_older_encodings_are_taken_and_said() {
    let desk = Desk::new();
    let taken = |text: &[u8], more: &str| {
        desk.write("jobs.csv", text);
        desk.run("a", &format!("import jobs.csv --collection jobs --key id{more}"))
    };
    let ended = taken(b"sep=;\r\nid;town;price\r\n1;Ulm;12,50\r\n", "");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("separated by semicolons"), "{ended:?}");
    let ended = taken(b"id\ttown\n2\tBonn\n", "");
    assert!(ended.code == 0 && ended.stderr.contains("separated by tabs"), "{ended:?}");
    let ended = taken(b"id,town\n3,K\xf6ln\n", "");
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("line 2") && ended.stderr.contains("--encoding windows-1252"));
    let ended = taken(b"id,town\n3,K\xf6ln\n", " --encoding windows-1252");
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = taken(b"id/town\n4/Kiel\n", " --delimiter /");
    assert_eq!(ended.code, 0, "{ended:?}");
    let expected = json!({
        "1": { "id": "1", "town": "Ulm", "price": "12,50" },
        "2": { "id": "2", "town": "Bonn" },
        "3": { "id": "3", "town": "K\u{f6}ln" },
        "4": { "id": "4", "town": "Kiel" },
    });
    assert_eq!(desk.jobs("a"), expected);
    let ended = taken(b"id,town\n5,\"Kiel\n6,Bonn\n", "");
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("line 2: a quote opens here and is never closed"), "{ended:?}");
    assert_eq!(desk.jobs("a"), expected, "nothing of what the quote swallows is taken");
}

#[test]
fn fields_by_which_documents_say_that_they_were_deleted_are_refused_by_name() {
    let desk = Desk::new();
    desk.edit("a", "1", &["title=Old boiler"]);
    desk.write("jobs.csv", "id,deleted\n1,true\n2,false\n");
    let import = "import jobs.csv --collection jobs --key id";
    let refused = desk.run("a", import);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("--rename deleted=is_deleted"), "{refused:?}");
    desk.ok("a", &format!("{import} --rename deleted=is_deleted"));
    assert_eq!(
        desk.jobs("a")["1"],
        json!({ "title": "Old boiler", "id": "1", "is_deleted": "true" })
    );
    for field in ["deleted:=true", "lines:=[{\"part\":\"pump\",\"removed\":true}]"] {
        for key in ["1", "new"] {
            let refused = desk.rejoin.run(["--replica", "a", "set", "jobs", key, field]);
            assert_eq!(refused.code, 1, "{field}: {refused:?}");
            assert!(refused.stderr.contains("give the field another name"), "{refused:?}");
        }
    }
    desk.ok("a", "delete jobs 1");
    desk.edit("a", "1", &["title=New boiler"]);
    assert_eq!(desk.jobs("a")["1"]["title"], "New boiler");
}

#[test]
fn an_import_undoes_nothing_that_its_file_does_not_say_anew() {
    let desk = Desk::new();
    let relay = RelayProcess::start(desk.folder.path().join("relay"));
    let sync = |replica: &str| desk.ok(replica, &format!("sync {} --once", relay.url()));
    let import = "import jobs.csv --collection jobs --key id";
    desk.write("jobs.csv", "id,phone,town\n1,100,Ulm\n2,200,Ulm\n3,300,Ulm\n");
    desk.json("a", import);
    sync("a");
    sync("b");
    // Two people disagree, and somebody decides; another document is deleted.
    desk.edit("a", "1", &["phone=101"]);
    desk.edit("b", "1", &["phone=102"]);
    desk.ok("b", "delete jobs 2");
    for replica in ["a", "b", "a"] {
        sync(replica);
    }
    let csv = desk.ok("a", "export jobs --format csv");
    assert!(csv.contains("_disputed\n") && csv.contains("1,100,Ulm,phone\n"), "{csv}");
    let reviews = desk.json("a", "reviews");
    let id = reviews[0]["id"].as_str().expect("a review").to_owned();
    desk.ok("a", &format!("settle {id} --take 1"));
    let decided = desk.jobs("a")["1"]["phone"].clone();
    let digest = desk.ok("a", "digest");

    // The same file says nothing new.
    let said = desk.json("a", &format!("{import} --dry-run"));
    let taken = desk.json("a", import);
    for taken in [&said, &taken] {
        assert_eq!(
            (&taken["unchanged"], &taken["left_deleted"]),
            (&json!(2), &json!(1)),
            "{taken}"
        );
        assert_eq!(taken["changed"], 0);
    }
    assert_eq!(
        (desk.jobs("a")["1"]["phone"].clone(), desk.ok("a", "digest")),
        (decided, digest.clone())
    );

    // What it says anew is told before it is done.
    desk.write("jobs.csv", "id,phone,town\n1,109,Ulm\n2,209,Bonn\n3,300,Kiel\n4,400,Ulm\n");
    let dry = desk.ok("a", &format!("{import} --dry-run --revive"));
    for part in [
        "4 rows: 1 would be created, 3 changed, 0 stay as they are",
        "1 deleted document would come back",
        "1 row would write over what somebody decided in a review (line 2)",
    ] {
        assert!(dry.contains(part), "{part} is not in {dry}");
    }
    assert_eq!(desk.ok("a", "digest"), digest, "nothing was done");
    let taken = desk.json("a", import);
    assert_eq!(
        (&taken["created"], &taken["changed"], &taken["left_deleted"]),
        (&json!(1), &json!(2), &json!(1))
    );
    assert_eq!(taken["decided"], json!({ "rows": 1, "lines": [2] }));
    let jobs = desk.jobs("a");
    assert_eq!((&jobs["1"]["phone"], &jobs["2"]), (&json!("109"), &Value::Null));
    let taken = desk.json("a", &format!("{import} --revive"));
    assert_eq!((&taken["revived"], &taken["changed"]), (&json!(1), &json!(1)));
    assert_eq!(desk.jobs("a")["2"], json!({ "id": "2", "phone": "209", "town": "Bonn" }));

    // A dry run without a replica makes none.
    desk.json("none", &format!("{import} --dry-run"));
    assert!(!desk.folder.path().join("none").exists());
}
