//! Times at a desk: whose clocks they are by, whole days, forms of other countries, and what nobody can
//! read as a time.

use rejoin_tests::processes::Desk;
use serde_json::{Value, json};

const SCHEMA: &str = r#"zone = "Europe/Madrid"
[jobs.fields]
technician = {}
starts_at = { type = "time" }
ends_at = { type = "time" }
[[jobs.invariants]]
no_overlap = { key = "technician", start = "starts_at", end = "ends_at" }
"#;

fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("schema.toml", SCHEMA);
    desk.text("schema apply schema.toml");
    desk
}

fn book(desk: &Desk, key: &str, start: &str, end: &str) -> String {
    desk.text(&format!("set jobs {key} technician=ana starts_at={start} ends_at={end}"))
}

fn open_reviews(desk: &Desk) -> usize {
    desk.json("reviews").as_array().map_or(0, Vec::len)
}

#[test]
fn what_has_no_zone_is_by_the_clocks_of_the_schema() {
    let desk = desk();
    book(&desk, "1", "2026-08-20T16:00", "2026-08-20T17:00");
    // Half past four in Madrid, and half past four in UTC.
    let told = book(&desk, "2", "2026-08-20T14:30Z", "2026-08-20T14:45Z");
    assert!(told.contains("double booking with 1"), "{told}");
    let told = book(&desk, "3", "2026-08-20T16:30Z", "2026-08-20T16:45Z");
    assert!(!told.contains("double booking"), "{told}");
    assert_eq!(open_reviews(&desk), 1);
    // People see times by their own clocks, which are named.
    let shown = |zone: &str| {
        let mut command = desk.rejoin.command(["--replica", "a.redb", "reviews"]);
        let output = command.env("TZ", zone).env_remove("COLUMNS").output().expect("rejoin starts");
        String::from_utf8(output.stdout).expect("text")
    };
    let (lisbon, utc) = (shown("Europe/Lisbon"), shown("UTC"));
    assert!(lisbon.contains("twice at 2026-08-20 15:30 to 15:45 WEST"), "{lisbon}");
    assert!(utc.contains("twice at 2026-08-20 14:30 to 14:45Z"), "{utc}");
}

#[test]
fn a_date_alone_blocks_the_whole_day() {
    let desk = desk();
    book(&desk, "off", "2026-08-20", "2026-08-21");
    for (key, start, end, told_so) in [
        ("before", "2026-08-19T23:00", "2026-08-20T00:00", false),
        ("first", "2026-08-20T00:00", "2026-08-20T01:00", true),
        ("last", "2026-08-21T23:00", "2026-08-22T00:00", true),
        ("after", "2026-08-22T00:00", "2026-08-22T01:00", false),
    ] {
        let told = book(&desk, key, start, end);
        assert_eq!(told.contains("double booking with off"), told_so, "{key}: {told}");
    }
    assert_eq!(open_reviews(&desk), 2);
}

#[test]
fn what_nobody_can_read_as_a_time_is_told_wherever_people_look() {
    let desk = desk();
    let told = book(&desk, "9", "2026-08-20T17:00", "2026-08-20T16:00");
    assert!(told.contains("! starts_at: it ends before it starts"), "{told}");
    let csv = "id,technician,starts_at,ends_at\n1,ana,5/4/2026 9:00 AM,5/4/2026 10:00 AM\n\
               2,ana,5/4/2026 9:30 AM,5/4/2026 10:30 AM\n3,ana,,\n";
    desk.write("us.csv", csv);
    let told = desk.text("import us.csv --collection jobs --key id");
    assert!(told.contains("starts_at: it is not a time"), "{told}");
    assert!(told.contains("2 rows (lines 2, 3)"), "{told}");

    let summary = "3 documents hold what does not fit the schema: jobs 1, jobs 2, jobs 9";
    let flat = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for command in ["status", "reviews"] {
        let told = flat(desk.text(command));
        assert!(told.contains(summary), "{command}: {told}");
        assert!(told.contains("`rejoin list jobs --unfit` tells what"), "{command}: {told}");
    }
    assert_eq!(desk.json("status")["unfit"], json!({ "jobs": 3 }));
    let listed = desk.text("list jobs");
    assert!(listed.contains("4 documents, 3 not fitting the schema (!; --unfit"), "{listed}");
    assert!(listed.lines().any(|line| line.starts_with("1 !")), "{listed}");
    let unfit = desk.json("list jobs --unfit");
    let keys: Vec<_> = unfit.as_array().expect("a list").iter().map(|it| &it["key"]).collect();
    assert_eq!(keys, ["1", "2", "9"]);
    let fields: Vec<&Value> =
        unfit[0]["misfits"].as_array().expect("a list").iter().map(|it| &it["field"]).collect();
    assert_eq!(fields, ["starts_at", "ends_at"]);
    let sound = flat(desk.text("doctor"));
    assert!(sound.contains("3 documents not fitting the schema"), "{sound}");
    assert!(sound.contains("nothing is wrong"), "it is no damage: {sound}");

    // Corrected, it is not told any more.
    book(&desk, "9", "2026-08-20T17:00", "2026-08-20T18:00");
    desk.text("delete jobs 1");
    assert_eq!(desk.json("status")["unfit"], json!({ "jobs": 1 }));
}

#[test]
fn times_of_other_countries_are_read_by_their_form() {
    let desk = desk();
    let csv = "id,technician,starts_at,ends_at,day\n1,ana,5/4/2026 9:00 AM,5/4/2026 10:00 AM,04.05.2026\n\
               2,ana,5/4/2026 9:30 AM,5/4/2026 10:30 AM,\n3,bo,5/4/2026 9:30 AM,noon,05.05.2026\n";
    desk.write("us.csv", csv);
    let import = [
        "--replica",
        "a.redb",
        "import",
        "us.csv",
        "--collection",
        "jobs",
        "--key",
        "id",
        "--time-format",
        "%m/%d/%Y %I:%M %p",
        "--time-format",
        "day=%d.%m.%Y",
    ];
    let refused = desk.rejoin.refused(import);
    assert!(refused.contains("line 4") && refused.contains("\"noon\" is not a time"), "{refused}");
    let first = desk.json("get jobs 1")["value"].take();
    assert_eq!(first["starts_at"], "2026-05-04T09:00:00");
    assert_eq!(first["day"], "2026-05-04");
    assert_eq!(open_reviews(&desk), 1, "the two are at the same time");
    assert_eq!(desk.json("status")["unfit"], json!({}));

    let other = ["--replica", "a.redb", "import", "us.csv", "--collection", "other", "--key", "id"];
    let refused = desk.rejoin.refused(other.iter().chain(&["--time-format", "%m/%d/%Y"]));
    assert!(refused.contains("write --time-format COLUMN=%m/%d/%Y"), "{refused}");
    let wrong = desk.rejoin.run(other.iter().chain(&["--time-format", "day=dd.mm"]));
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("no form of times"), "{}", wrong.stderr);
}
