//! A page of a sorted list, and what an edit changes in it, among more and more documents.

use std::time::Duration;

use rejoin::blocking::{Collection, Replica, Space};
use rejoin::schema::{Field, Kind, Rule, Schema};
use serde_json::{Map, Value, json};

use crate::{Figure, quantile, timed};

const SIZES: [u64; 3] = [1_000, 10_000, 100_000];
const TECHNICIANS: u64 = 50;
const PAGE: usize = 50;
const ASKED: usize = 100;
const SCANNED: usize = 5;
const TOGETHER: u64 = 1_000;

type Job = Map<String, Value>;

/// The next 50 jobs of one technician by an index of two fields, beside a look at all documents; and an edit with the
/// difference that it makes of that list, beside the edit alone.
pub(crate) fn page() -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut pages = Vec::new();
    for size in SIZES {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let replica = Replica::open(folder.path().join("desk.redb")).expect("a new replica");
        let space = replica.space("main").expect("a name");
        let (indexed, plain) =
            (filled(&space, "jobs", size, true), filled(&space, "plain", size, false));
        let page = asked(&indexed, ASKED);
        let scan = asked(&plain, SCANNED);
        figures.push(Figure::new(format!("page of {PAGE} among {size}"), page, "all read", scan));
        let (edit, told) = followed(&indexed);
        let what = format!("edit until told among {size}");
        figures.push(Figure::new(what, told, "the edit alone", edit));
        pages.push(page);
        replica.close();
    }
    let growth = format!("growth to {}", SIZES[SIZES.len() - 1]);
    let (least, most) = (pages[0], pages[SIZES.len() - 1]);
    figures.push(Figure::new(growth, most, &format!("among {}", SIZES[0]), least));
    figures
}

fn filled(space: &Space, name: &str, size: u64, is_indexed: bool) -> Collection {
    let field = |kind| {
        let field = Field::new(Rule::Any).kind(kind);
        if is_indexed { field.indexed() } else { field }
    };
    let technician = match is_indexed {
        true => field(Kind::String).indexed_then("starts_at"),
        false => field(Kind::String),
    };
    let schema = Schema::new().with("technician", technician).with("starts_at", field(Kind::Time));
    let jobs = space.collection(name).expect("a name");
    space.apply_schema(&name.parse().expect("a name"), &schema).expect("a schema");
    for first in (0..size).step_by(TOGETHER as usize) {
        let rows = (first..(first + TOGETHER).min(size)).map(|at| (at.to_string(), job(at)));
        for edited in jobs.put_all(rows.collect()).expect("a commit") {
            edited.expect("an edit");
        }
    }
    jobs
}

/// Spread over technicians and a month, in no order.
fn job(at: u64) -> Job {
    let minute = at.wrapping_mul(7_919) % 40_320;
    let (day, hour, minute) = (1 + minute / 1_440, minute / 60 % 24, minute % 60);
    let value = json!({
        "technician": format!("technician {}", at % TECHNICIANS),
        "starts_at": format!("2026-05-{day:02}T{hour:02}:{minute:02}:00Z"),
        "status": "booked",
        "address": { "street": "Lange Gasse", "town": "Ulm" },
    });
    value.as_object().cloned().expect("an object")
}

fn asked(jobs: &Collection, times: usize) -> Duration {
    let mut took = Vec::new();
    for at in 0..times {
        let query = jobs
            .query::<Job>()
            .filter("technician", format!("technician {}", at as u64 % TECHNICIANS))
            .filter("starts_at", "2026-05-10T00:00:00Z"..)
            .sort("starts_at")
            .limit(PAGE);
        let (found, took_one) = timed(|| query.get().expect("a page"));
        assert!(!found.is_empty() && found.len() <= PAGE);
        took.push(took_one);
    }
    quantile(&mut took, 0.5)
}

/// How long an edit takes, and how long until what it changes in a page is told.
fn followed(jobs: &Collection) -> (Duration, Duration) {
    let query =
        jobs.query::<Job>().filter("technician", "technician 0").sort("starts_at").limit(PAGE);
    let mut live = query.watch().expect("a page");
    let first = live.first();
    let (mut edits, mut tolds) = (Vec::new(), Vec::new());
    for at in 0..ASKED {
        let document = jobs.document_by_id(first[at % first.len()].document);
        let ((), told) = timed(|| {
            let (edited, edit) = timed(|| document.set("note", at as u64));
            edited.expect("an edit");
            edits.push(edit);
            let differences = live.next().expect("it is open").expect("differences");
            assert_eq!(differences.len(), 1);
        });
        tolds.push(told);
    }
    (quantile(&mut edits, 0.5), quantile(&mut tolds, 0.5))
}
