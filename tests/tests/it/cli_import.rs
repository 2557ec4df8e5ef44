//! CSV files, good and bad, through the real binary.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use rejoin_tests::processes::{Ended, Rejoin, RelayProcess};
use serde_json::{Value, json};

/// A folder with a file `jobs.csv` and a replica `a.redb`.
struct Import {
    folder: tempfile::TempDir,
    rejoin: Rejoin,
}

impl Import {
    fn of(csv: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let import = Self { rejoin: Rejoin::in_dir(folder.path()), folder };
        import.write(csv);
        import
    }

    fn write(&self, csv: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join("jobs.csv"), csv).expect("a file");
    }

    fn run(&self, more: &[&str]) -> Ended {
        let arguments = "--replica a.redb import jobs.csv --collection jobs --key id".split(' ');
        self.rejoin.run(arguments.chain(more.iter().copied()))
    }

    #[track_caller]
    fn json(&self, code: i32) -> Value {
        let ended = self.run(&["--json"]);
        assert_eq!(ended.code, code, "{ended:?}");
        serde_json::from_str(&ended.stdout).expect("JSON")
    }

    /// The documents, by key.
    fn jobs(&self) -> Value {
        let documents = self.rejoin.json(["--replica", "a.redb", "list", "jobs"]);
        let documents = documents.as_array().expect("an array").iter().map(|document| {
            let key = document["key"].as_str().expect("a key");
            (key.to_owned(), document["value"].clone())
        });
        Value::Object(documents.collect())
    }

    fn digest(&self) -> String {
        self.rejoin.ok(["--replica", "a.redb", "digest"])
    }
}

#[test]
fn a_second_import_changes_nothing() {
    let import = Import::of("id,task,notes\n1,tap,\n2,boiler,\"Ring, twice\"\n");
    let first = import.run(&[]);
    assert_eq!(first.stdout, "jobs: 2 rows: 2 created, 0 changed, 0 unchanged\n");
    let digest = import.digest();
    let second = import.run(&[]);
    assert_eq!(second.stdout, "jobs: 2 rows: 0 created, 0 changed, 2 unchanged\n");
    assert_eq!((second.code, second.stderr.as_str()), (0, ""));
    assert_eq!(import.digest(), digest);
}

/// The file says what is a candidate already, and its importer said it: until somebody decides, that
/// is nothing new, however often it is imported.
#[test]
fn importing_again_while_a_review_is_open_adds_no_candidate() {
    let import = Import::of("id,phone,floor\n1,100,2\n2,500,1\n");
    let relay = RelayProcess::start(import.folder.path().join("relay"));
    let run = |line: &str| import.rejoin.ok(line.split(' '));
    let meet = || {
        for device in ["a.redb", "b.redb", "a.redb"] {
            run(&format!("--replica {device} sync {} --once", relay.url()));
        }
    };
    import.json(0);
    meet();
    run("--replica b.redb set jobs 1 phone=300");
    import.write("id,phone,floor\n1,200,2\n2,500,1\n");
    assert_eq!(import.json(0)["changed"], 1);
    meet();
    let candidates = || {
        let reviews = import.rejoin.json(["--replica", "a.redb", "reviews"]);
        assert_eq!(reviews.as_array().expect("reviews").len(), 1, "{reviews}");
        reviews[0]["candidates"].as_array().expect("candidates").len()
    };
    assert_eq!(candidates(), 2);
    let digest = import.digest();
    for _ in 0..2 {
        let taken = import.json(0);
        assert_eq!((&taken["changed"], &taken["unchanged"]), (&json!(0), &json!(2)));
    }
    assert_eq!((candidates(), import.digest()), (2, digest));
    // What it says anew is one more candidate still.
    import.write("id,phone,floor\n1,400,2\n2,500,1\n");
    assert_eq!(import.json(0)["changed"], 1);
    assert_eq!(candidates(), 3);
    // And so is what another says.
    run("--replica b.redb set jobs 1 phone=400");
    meet();
    assert_eq!(candidates(), 4);
}

#[test]
fn an_import_writes_only_what_differs() {
    let import = Import::of("id,task,floor\n1,tap,2\n2,boiler,3\n");
    import.json(0);
    // Someone works on it here; the file knows nothing of that.
    import.rejoin.ok("--replica a.redb set jobs 1 status=done".split(' '));
    import.write("id,task,floor\n1,leaking tap,\n2,boiler,3\n3,pipe,1\n");
    let taken = import.json(0);
    assert_eq!(
        (&taken["created"], &taken["changed"], &taken["unchanged"]),
        (&json!(1), &json!(1), &json!(1))
    );
    // The floor is gone: an empty cell is an absent field.
    assert_eq!(
        import.jobs(),
        json!({
            "1": { "id": "1", "task": "leaking tap", "status": "done" },
            "2": { "id": "2", "task": "boiler", "floor": "3" },
            "3": { "id": "3", "task": "pipe", "floor": "1" },
        })
    );
    let history = import.rejoin.json("--replica a.redb history jobs 1".split(' '));
    let last = history.as_array().and_then(|changes| changes.last()).expect("a change");
    assert_eq!(last["fields"], json!(["floor", "task"]));
}

#[test]
fn an_import_over_what_somebody_wrote_since_says_so() {
    let import = Import::of("id,notes,floor\n1,Gate.,2\n2,Dog.,3\n3,Cat.,4\n");
    let first = import.json(0);
    assert_eq!(first["written_over"]["rows"], 0);
    let run = |line: &str| drop(import.rejoin.ok(line.split(' ')));
    run("--replica a.redb set jobs 1 notes=Locked.");
    run("--replica a.redb set jobs 2 notes=Bites.");
    // The first is news over an edit, the second repeats what was said, and the third is news alone.
    import.write("id,notes,floor\n1,Open.,2\n2,Dog.,3\n3,Gone.,4\n");
    let taken = import.json(0);
    assert_eq!((&taken["changed"], &taken["written_over"]["lines"]), (&json!(2), &json!([2])));
    let notes = |key: &str| import.rejoin.json(["--replica", "a.redb", "get", "jobs", key]);
    assert_eq!(notes("1")["value"]["notes"], "Open.");
    assert_eq!(notes("2")["value"]["notes"], "Bites.");
}

#[test]
fn bad_rows_are_reported_with_their_lines_and_good_rows_kept() {
    let long = "k".repeat(600);
    let csv = [
        b"id,task\r\n1,tap\r\n".as_slice(), // lines 1 and 2
        b"2,boiler,and more\r\n",           // 3: ragged
        b"3\r\n",                           // 4: ragged
        b"\r\n",                            // 5: blank
        b",pipe\r\n",                       // 6: no key
        b"4,\xe9\r\n",                      // 7: Latin-1
        b"1,again\r\n",                     // 8: the key of line 2
        b"5,\"two\r\nlines\"\r\n",          // 9 and 10
        format!("{long},x\r\n").as_bytes(), // 11: no key can be that long
        b"6,last",                          // 12
    ]
    .concat();
    let import = Import::of(&csv);
    let taken = import.json(1);
    let faults: Vec<_> = taken["faults"]
        .as_array()
        .expect("faults")
        .iter()
        .map(|fault| format!("{} {}", fault["line"], fault["reason"].as_str().expect("a reason")))
        .collect();
    assert_eq!(
        faults,
        [
            "3 3 fields where the header has 2",
            "4 1 fields where the header has 2",
            "6 column \"id\" is empty, and it is the key",
            "7 column \"task\" is not UTF-8 (byte 0xe9); save the file as UTF-8, or give \
             --encoding windows-1252 if it comes from an older spreadsheet",
            "8 the key \"1\" is that of line 2 too",
            "11 the key has 600 bytes; use at most 512",
        ]
    );
    assert_eq!(
        (&taken["rows"], &taken["created"], &taken["bad"]),
        (&json!(9), &json!(3), &json!(6))
    );
    let jobs = import.jobs();
    let keys: Vec<_> = jobs.as_object().expect("documents").keys().collect();
    assert_eq!(keys, ["1", "5", "6"]);
    assert_eq!(jobs["5"]["task"], "two\r\nlines");
    assert_eq!(jobs["1"]["task"], "tap");
}

#[test]
fn bad_rows_are_shown_to_people_up_to_a_limit() {
    let bad: String = (0..30).map(|_| "lonely\n").collect();
    let ended = Import::of(format!("id,task\n1,tap\n{bad}2,pipe\n")).run(&[]);
    assert_eq!(ended.code, 1);
    assert_eq!(
        ended.stdout,
        "jobs: 32 rows: 2 created, 0 changed, 0 unchanged, 30 not taken (see above)\n"
    );
    let told: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(told.len(), 21);
    assert_eq!(told[0], "jobs.csv: line 3: 1 fields where the header has 2");
    assert_eq!(told[20], "... and 10 more");
}

#[test]
fn a_header_that_is_none_makes_no_replica() {
    for (csv, said) in [
        ("key,task\n1,tap\n", "line 1: no column is called \"id\"; the columns are key, task"),
        ("", "line 1: the file is empty"),
        ("id,task,task\n", "line 1: columns 2 and 3 are both called \"task\""),
    ] {
        let import = Import::of(csv);
        let ended = import.run(&[]);
        assert_eq!(ended.code, 1);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
        assert!(!import.folder.path().join("a.redb").exists());
    }
    let ended = Import::of("id\n")
        .rejoin
        .run("--replica a.redb import gone.csv --collection jobs --key id".split(' '));
    assert!(ended.stderr.contains("gone.csv cannot be opened"), "{}", ended.stderr);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_column() {
    let import = Import::of("\u{feff}id,task\n1,tap\n");
    assert_eq!(import.json(0)["created"], 1);
    assert_eq!(import.jobs(), json!({ "1": { "id": "1", "task": "tap" } }));
}

#[test]
fn an_export_can_be_imported_again() {
    let import = Import::of("id,task,notes\n1,tap,\"Ring, \"\"twice\"\"\n\"\n2,,\n");
    import.json(0);
    let digest = import.digest();
    let csv = import.rejoin.ok("--replica a.redb export jobs --format csv".split(' '));
    // In no order that means anything, but in the same one everywhere.
    let (header, rows) = csv.split_once('\n').expect("a header");
    assert_eq!(header, "id,notes,task");
    assert!(rows.contains("1,\"Ring, \"\"twice\"\"\n\",tap\n") && rows.contains("2,,\n"), "{rows}");
    import.write(&csv);
    assert_eq!(import.json(0)["unchanged"], 2);
    assert_eq!(import.digest(), digest);
}

/// The file comes through a pipe, so that the test knows how much of it was read: when all of it is
/// written, no more than the pipe holds is unread.
#[test]
#[cfg(target_os = "linux")]
fn a_large_file_is_not_held_in_memory() {
    const ROWS: usize = 4000;
    const ROW_BYTES: usize = 12_000;
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = "--replica a.redb import - --collection jobs --key id --json".split(' ');
    let mut command = Rejoin::in_dir(folder.path()).command(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("rejoin starts");
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    stdin.write_all(b"id,text\n").expect("rejoin reads");
    let mut random = Lines(7);
    for row in 0..ROWS {
        writeln!(stdin, "{row},{}", random.line(ROW_BYTES)).expect("rejoin reads");
    }
    let most = memory_high_water_kib(child.id());
    drop(stdin);
    let output = child.wait_with_output().expect("rejoin ends");
    let taken: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(taken["created"], ROWS);
    let (most_mib, file_mib) = (most >> 10, (ROWS * ROW_BYTES) >> 20);
    assert!(most_mib < 200, "{most_mib} MiB of memory for a file of {file_mib} MiB");
}

#[cfg(target_os = "linux")]
fn memory_high_water_kib(process: u32) -> u64 {
    let status = Path::new("/proc").join(process.to_string()).join("status");
    let status = fs::read_to_string(status).expect("the process is running");
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high water mark");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Text that does not compress to nothing.
struct Lines(u64);

impl Lines {
    fn line(&mut self, len: usize) -> String {
        (0..len).map(|_| self.letter()).collect()
    }

    fn letter(&mut self) -> char {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (self.0 >> 33) as u8 % 26)
    }
}
