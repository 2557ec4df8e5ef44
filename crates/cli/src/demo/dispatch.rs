//! The scene of a technician who is booked twice for 5:00: the double booking is found, asked about
//! and settled.

use anyhow::{Context, Result, ensure};
use rejoin::booking::BookingState;
use rejoin::review::ReviewKind;
use rejoin::{Decision, Op, Review};
use serde::Serialize;
use serde_json::{Value, json};

use super::device::Device;
use super::jobs::{at, time_of};
use super::scenes::Company;
use super::stage::Stage;
use crate::layout::Table;
use crate::reviews::{Two, side_by_side_documents};
use crate::short::short_id;

/// The findings on whether no edit was silently thrown away.
#[derive(Debug, Serialize)]
pub(super) struct Dispatch {
    /// The review of the double booking, which no device could see before they met.
    review: String,
    found_on_every_device: bool,
    settled_on_every_device: bool,
    both_bookings_confirmed: bool,
    /// The telephone number and the notes that two people wrote in one job.
    nothing_lost: bool,
}

impl Dispatch {
    pub(super) fn is_as_promised(&self) -> bool {
        self.found_on_every_device
            && self.settled_on_every_device
            && self.both_bookings_confirmed
            && self.nothing_lost
    }
}

impl Company {
    pub(super) async fn dispatch(&self, stage: &Stage) -> Result<Dispatch> {
        self.book_twice(stage).await?;
        let (review, found_on_every_device) = self.find(stage).await?;
        self.settle(stage, &review).await?;
        let (mut settled, mut confirmed, mut kept) = (true, true, true);
        for device in self.devices() {
            settled &= device.open_reviews().await?.is_empty();
            for key in ["W-301", "W-302"] {
                confirmed &= state(device, key).await? == Some(BookingState::Confirmed);
            }
            let job = device.value("W-208").await?;
            kept &= job["phone"] == NEW_PHONE && job["notes"] == NEW_NOTE;
        }
        Ok(Dispatch {
            review: review.id.to_string(),
            found_on_every_device,
            settled_on_every_device: settled,
            both_bookings_confirmed: confirmed,
            nothing_lost: kept,
        })
    }

    /// Two people book the same hour of a technician without knowing of each other.
    async fn book_twice(&self, stage: &Stage) -> Result<()> {
        stage.scene("At 4:10 a customer calls; at 4:11 Ana, offline, takes an urgent job");
        let (desk, ana) = (&self.desk, &self.ana);
        ana.go_offline().await?;
        desk.jobs.create("W-301", &visit("no heating", "B. Roth", "17:00", "18:00")).await?;
        desk.job("W-208")?.set("phone", NEW_PHONE).await?;
        ana.jobs.create("W-302", &visit("gas leak", "Bistro Lune", "17:00", "17:45")).await?;
        ana.job("W-208")?.append("notes", NEW_NOTE).await?;
        let mut table = Table::new(["time", "who", "does"]);
        table.row(["4:10", "Dora, at the desk", "books Ana for W-301, 5:00 to 6:00"]);
        table.row(["", "", "corrects the telephone number of W-208"]);
        table.row(["4:11", "Ana, offline", "takes the urgent W-302, 5:00 to 5:45"]);
        table.row(["", "", "writes a note in W-208"]);
        stage.table(table);
        for device in [desk, ana] {
            let asks = device.open_reviews().await?;
            ensure!(asks.iter().all(|it| it.kind != ReviewKind::DoubleBooking), "found too early");
        }
        stage.say("Each of them sees that Ana is free at 5:00.");
        Ok(())
    }

    /// The devices meet, and each of them asks the same question.
    async fn find(&self, stage: &Stage) -> Result<(Review, bool)> {
        self.ana.connect(self.relay.url()).await?;
        self.converge(stage, "everyone to have both bookings").await?;
        stage.scene("Ana is back, and every device asks the same");
        let mut found = Vec::new();
        for device in self.devices() {
            let open = device.open_reviews().await?;
            found.push(open.into_iter().find(|it| it.kind == ReviewKind::DoubleBooking));
        }
        let same = found.windows(2).all(|pair| pair[0] == pair[1]);
        let review = found.swap_remove(0).context("the double booking was not found")?;
        let two = Two::of(&self.desk.space, &review).await?;
        let id = short_id(&review.id);
        stage.say(&format!(
            "Review {id}: Ana is booked twice. Neither booking was thrown away, and neither can be \
             counted on: both are {}.",
            tentative(state(&self.desk, "W-301").await?),
        ));
        stage.compare(&side_by_side_documents(&review, &two));
        Ok((review, same))
    }

    /// The desk decides, and every device gets the decision.
    async fn settle(&self, stage: &Stage, booked: &Review) -> Result<()> {
        let reviews = self.desk.space.reviews();
        reviews.assign(&booked.id, Some("Dora"), Some("4:30")).await?;
        let time = |field: &str, time| Op::Set {
            path: field.into(),
            before: None,
            after: Value::from(at(time)),
        };
        let later = vec![time("starts_at", "18:00"), time("ends_at", "19:00")];
        self.desk.job("W-301")?.apply(later).await?;
        let open = self.desk.open_reviews().await?;
        let start = open.iter().find(|it| it.field == "starts_at");
        let start = start.context("nobody asks when W-206 starts")?;
        let is_ana = |it: &&rejoin::history::Candidate| it.value == Some(Value::from(at("10:30")));
        let taken = start.candidates.iter().find(is_ana).context("a candidate is gone")?.change;
        let why = Some("the customer wants 10:30");
        reviews.settle(&start.id, Decision::Take(taken), why).await?;
        self.converge(stage, "everyone to have what was decided").await?;

        let mut table = Table::new(["job", "decided by Dora", "on every device now"]);
        for (key, decided) in [("W-301", "moved to 6:00"), ("W-302", "stays")] {
            let job = self.ben.value(key).await?;
            let time = |field: &str| time_of(job[field].as_str().unwrap_or_default()).to_owned();
            let state = tentative(state(&self.ben, key).await?);
            table.row([
                key,
                decided,
                &format!("{} to {}, {state}", time("starts_at"), time("ends_at")),
            ]);
        }
        let starts = self.ben.value("W-206").await?;
        let starts = time_of(starts["starts_at"].as_str().unwrap_or_default());
        table.row(["W-206", "takes 10:30, for the customer", starts]);
        let job = self.ben.value("W-208").await?;
        let both = format!("{}; {}", text(&job["phone"]), text(&job["notes"]).trim_end());
        table.row(["W-208", "-", &both]);
        stage.table(table);
        let mut open = 0;
        for device in self.devices() {
            open += device.open_reviews().await?.len();
        }
        let open =
            if open == 0 { "No reviews are open".to_owned() } else { format!("{open} open") };
        stage.say(&format!(
            "{open} on any device. Who decided what, when and why is in the documents, like \
             everything else: `rejoin history` and `rejoin blame` show it, `rejoin audit` prints it.",
        ));
        Ok(())
    }
}

fn visit(task: &str, customer: &str, from: &str, until: &str) -> Value {
    json!({
        "task": task,
        "customer": customer,
        "technician": "Ana",
        "starts_at": at(from),
        "ends_at": at(until),
        "status": "booked",
    })
}

async fn state(device: &Device, key: &str) -> Result<Option<BookingState>> {
    Ok(device.job(key)?.bookings().await?.first().map(|booking| booking.state))
}

fn tentative(state: Option<BookingState>) -> &'static str {
    match state {
        Some(BookingState::Confirmed) => "confirmed",
        Some(BookingState::Tentative) => "tentative",
        None => "not booked",
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

const NEW_PHONE: &str = "555-0156";
const NEW_NOTE: &str = "Dog in the yard. ";
