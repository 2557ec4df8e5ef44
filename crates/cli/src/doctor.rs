//! `rejoin doctor`: looks the file of a replica over, and repairs it.

mod salvage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use rejoin::doctor::{self, Report};
use serde_json::Value;

use crate::beside;
use crate::layout::one_line;
use crate::output::{Output, count};
use crate::place::{PlaceArguments, must_exist};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0 when nothing is wrong any more, or everything was salvaged; 1 when something is left to \
do, or lost.")]
pub(crate) struct DoctorArguments {
    /// Repair what can be repaired
    #[arg(long)]
    pub(crate) repair: bool,
    /// Take what can still be read of a damaged replica, or of a relay's file or folder, into a
    /// fresh one. The damaged one is only read
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"], conflicts_with = "repair")]
    pub(crate) salvage: Option<Vec<PathBuf>>,
    /// Write what somebody who helps has to know into a file of JSON: numbers, times, the names of
    /// collections and the relay's address, but no contents, no keys and no names of people
    #[arg(long, value_name = "FILE", conflicts_with_all = ["repair", "salvage"])]
    pub(crate) bundle: Option<PathBuf>,
}

pub(crate) fn run(
    place: &PlaceArguments,
    arguments: &DoctorArguments,
    output: Output,
) -> Result<ExitCode> {
    if let Some([from, to]) = arguments.salvage.as_deref() {
        return salvage::run(from, to, place.key.read()?, output);
    }
    must_exist(place.file()?)?;
    let file = place.replica_file()?;
    let report = doctor::check(file.clone(), arguments.repair).map_err(|error| {
        let error = anyhow::Error::from(error);
        match beside::is_held(&error) {
            true => error.context("`rejoin doctor` needs the file alone"),
            false => error,
        }
    })?;
    if let Some(to) = &arguments.bundle {
        let bundle = doctor::bundle(file, &report)?;
        let text = serde_json::to_string_pretty(&bundle)?;
        std::fs::write(to, text + "\n")
            .with_context(|| format!("{} cannot be written", to.display()))?;
        output.result(&bundle, || {
            format!("{} has what is to be known; read it before you send it", to.display())
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut json = serde_json::to_value(&report)?;
    json["sound"] = Value::from(report.is_sound());
    output.result(&json, || examined(&report))?;
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examined(report: &Report) -> String {
    let Report { documents, waiting, set_aside, quarantined, unfit, findings } = report;
    let mut lines = vec![format!(
        "{}, {} to send, {set_aside} set aside, {quarantined} quarantined",
        count(*documents, "document"),
        count(*waiting, "edit"),
    )];
    if !unfit.is_empty() {
        let number = count(unfit.len() as u64, "document");
        let first: Vec<_> = unfit.iter().take(UNFIT_NAMED).map(String::as_str).collect();
        let text =
            format!("{number} not fitting the schema, which harms nothing: {}", first.join("; "));
        lines.push(one_line(&text));
    }
    lines.extend(findings.iter().map(|finding| one_line(&format!("- {finding}"))));
    if findings.is_empty() {
        lines.push("nothing is wrong".to_owned());
    }
    lines.join("\n")
}

/// How many documents are named beside the number of all.
const UNFIT_NAMED: usize = 3;
