//! The morning's jobs, and how jobs merge.

use rejoin::schema::{Field, Invariant, Kind, Rule, Schema};
use rejoin::{Counter, Text};
use serde::{Deserialize, Serialize};

/// A job as the devices hold it. The ways in which fields merge are in their types.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) starts_at: String,
    pub(super) task: String,
    pub(super) customer: String,
    pub(super) phone: String,
    pub(super) address: String,
    pub(super) technician: String,
    pub(super) status: String,
    /// Texts that two people write here at once are both kept.
    pub(super) notes: Text,
    /// Numbers that two people count here at once add up.
    pub(super) parts_used: Counter,
}

/// A job in a line: key, start, task, customer, telephone, address, technician, notes.
type Line = [&'static str; 8];

const LINES: &[Line] = &[
    ["W-201", "08:00", "boiler service", "E. Lindqvist", "555-0141", "3 Quarry Lane", "Ana", ""],
    ["W-202", "08:15", "no hot water", "Café Morgen", "555-0118", "17 Harbour St", "Ben", ""],
    ["W-203", "08:45", "leaking tap", "T. Okafor", "555-0173", "9 Elm Court", "Ana", ""],
    [
        "W-204",
        "09:00",
        "radiator cold",
        "School No. 4",
        "555-0102",
        "1 School Rd",
        "Ben",
        "Ask at the gate. ",
    ],
    ["W-205", "09:30", "pressure drops", "M. Duarte", "555-0166", "28 Mill Road", "Ana", ""],
    ["W-206", "10:00", "new thermostat", "R. and S. Chen", "555-0127", "5 Orchard Way", "Ben", ""],
    ["W-207", "10:15", "boiler noisy", "Villa Sonnhof", "555-0190", "44 Hill Drive", "Ana", ""],
    ["W-208", "10:30", "annual check", "A. Petrov", "555-0155", "12 Bridge St", "Ben", ""],
    [
        "W-209",
        "11:00",
        "pipe burst",
        "Hotel Linden",
        "555-0109",
        "2 Station Sq",
        "Ana",
        "Cellar door is open. ",
    ],
    ["W-210", "11:15", "pump replaced?", "J. Moreau", "555-0138", "31 Vine St", "Ben", ""],
    [
        "W-211",
        "11:45",
        "gas smell",
        "K. Haddad",
        "555-0184",
        "6 Dock Lane",
        "Ana",
        "Go there first if late. ",
    ],
    ["W-212", "12:00", "meter reading", "Bakery Aroma", "555-0121", "8 Market Pl", "Ben", ""],
];

/// The schema of jobs. Their types say most of how they merge, and this says the rest.
pub(super) fn schema() -> Schema {
    let free = Invariant::no_overlap("technician", "starts_at", "ends_at");
    Schema::new()
        .with("notes", Rule::Text)
        .with("parts_used", Rule::Counter)
        .with("status", Rule::order(["booked", "on_site", "done", "cancelled"]))
        .with("technician", Rule::Review)
        .with("starts_at", Field::new(Rule::Review).kind(Kind::Time))
        .with("ends_at", Field::new(Rule::Review).kind(Kind::Time))
        .invariant(free.unless("status", "cancelled"))
}

/// A time of the day of the demo.
pub(super) fn at(time: &str) -> String {
    format!("{DAY}T{time}Z")
}

/// The time of day within a time of the day of the demo.
pub(super) fn time_of(at: &str) -> &str {
    at.strip_prefix(DAY).map_or(at, |time| time.trim_matches(['T', 'Z']))
}

const DAY: &str = "2026-05-04";

/// The jobs of the morning, by key.
pub(super) fn morning() -> Vec<(&'static str, Job)> {
    LINES.iter().map(job).collect()
}

fn job(line: &Line) -> (&'static str, Job) {
    let [key, starts_at, task, customer, phone, address, technician, notes] = *line;
    let job = Job {
        starts_at: at(starts_at),
        task: task.to_owned(),
        customer: customer.to_owned(),
        phone: phone.to_owned(),
        address: address.to_owned(),
        technician: technician.to_owned(),
        status: "booked".to_owned(),
        notes: Text::from(notes),
        parts_used: Counter(0),
    };
    (key, job)
}
