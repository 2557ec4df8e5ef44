//! The scene that shows how the edits merged that Ana and Ben made apart.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::device::Device;
use super::jobs::{at, time_of};
use super::scenes::Company;
use super::stage::Stage;
use crate::layout::Table;

/// One pair of edits, and the value that every device holds now.
#[derive(Debug, Serialize)]
pub(super) struct Merge {
    job: &'static str,
    what: &'static str,
    now: String,
    /// Whether the value is the promised one, so that nothing was lost.
    pub(super) as_promised: bool,
}

impl Company {
    pub(super) async fn merges(&self, stage: &Stage) -> Result<Vec<Merge>> {
        stage.scene("What became of the edits made apart");
        // One device is looked at here, as the last scene compares all documents of all devices.
        let merges = vec![
            fields(&self.desk.value("W-203").await?),
            text(&self.desk.value("W-204").await?),
            counter(&self.desk.value("W-204").await?),
            nested(&self.desk.value("W-207").await?),
            list(&self.desk.value("W-207").await?),
            birth(&self.desk.value("W-213").await?),
            scalar(&self.desk).await?,
        ];
        let mut table = Table::new(["job", "Ana and Ben", "on every device now"]);
        for Merge { job, what, now, as_promised } in &merges {
            let lost = if *as_promised { "" } else { "LOST: " };
            table.row([(*job).to_owned(), (*what).to_owned(), format!("{lost}{now}")]);
        }
        stage.table(table);
        stage.say(
            "The last one only a person can decide. Until then every device shows what was agreed \
             before, and asks: both values are in a review, with who wrote them, when and where.",
        );
        Ok(merges)
    }
}

fn fields(job: &Value) -> Merge {
    let (phone, status) = (&job["phone"], &job["status"]);
    Merge {
        job: "W-203",
        what: "different fields",
        now: format!("phone {}, status {}", plain(phone), plain(status)),
        as_promised: phone == "555-0199" && status == "on_site",
    }
}

fn text(job: &Value) -> Merge {
    let notes = plain(&job["notes"]);
    let all = ["Ask at the gate. ", "Valve stuck. ", "Pump is fine. "];
    let whole = all.iter().all(|part| notes.matches(part).count() == 1);
    let as_promised = whole && notes.len() == all.concat().len();
    Merge { job: "W-204", what: "one text", now: notes, as_promised }
}

fn counter(job: &Value) -> Merge {
    let parts = &job["parts_used"];
    Merge {
        job: "W-204",
        what: "one counter, + 2 and + 3",
        now: plain(parts),
        as_promised: *parts == 5,
    }
}

fn nested(job: &Value) -> Merge {
    let findings = plain(&job["visit"]["report"]["findings"]);
    let both = ["Fan worn. ", "Flue is clean. "].iter().all(|part| findings.contains(part));
    Merge { job: "W-207", what: "one new text, 3 deep", now: findings, as_promised: both }
}

fn list(job: &Value) -> Merge {
    let photos = job["visit"]["report"]["photos"].as_array().cloned().unwrap_or_default();
    let has = |name: &str| photos.iter().filter(|photo| **photo == name).count() == 1;
    let now = photos.iter().map(plain).collect::<Vec<_>>().join(", ");
    let as_promised = photos.len() == 2 && has("fan.jpg") && has("flue.jpg");
    Merge { job: "W-207", what: "one new list", now, as_promised }
}

fn birth(job: &Value) -> Merge {
    let whole = json!({ "customer": "Kiosk 7", "task": "no heating", "phone": "555-0111" });
    Merge {
        job: "W-213",
        what: "the same new job, twice",
        now: "one job, with task and phone".to_owned(),
        as_promised: *job == whole,
    }
}

/// The edits of a value that cannot keep both: the value of before stands, and both candidates are in
/// a review.
async fn scalar(device: &Device) -> Result<Merge> {
    let stands = plain(&device.value("W-206").await?["starts_at"]);
    let open = device.open_reviews().await?;
    let asks = open.first().filter(|_| open.len() == 1 && open[0].field == "starts_at");
    let candidates = asks.map(|review| &review.candidates[..]).unwrap_or_default();
    let mut values: Vec<_> =
        candidates.iter().filter_map(|it| it.value.as_ref()).map(plain).collect();
    values.sort();
    let times: Vec<_> = values.iter().map(|at| time_of(at)).collect();
    Ok(Merge {
        job: "W-206",
        what: "one value, 10:30 and 11:15",
        now: format!("{}; review: {}?", time_of(&stands), times.join(" or ")),
        as_promised: stands == at("10:00") && values == [at("10:30"), at("11:15")],
    })
}

fn plain(value: &Value) -> String {
    rejoin::view::shown(value).into_owned()
}
