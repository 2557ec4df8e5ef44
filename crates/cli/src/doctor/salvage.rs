//! `rejoin doctor --salvage FROM TO`: takes everything that can still be read of a damaged file into
//! a fresh one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rejoin::salvage::{self, DamagedFile, Salvaged};
use rejoin::{Key, ReplicaFile};
use rejoin_relay::{STORE_FILE, store};
use serde_json::{Value, json};

use crate::output::{Output, count};

pub(crate) fn run(from: &Path, to: &Path, key: Option<Key>, output: Output) -> Result<ExitCode> {
    let (from, to) = (file_of(from)?, target(from, to)?);
    if to.exists() {
        bail!("{} exists already; name a file that does not", to.display());
    }
    // What is saved of an encrypted file is encrypted, with the same key.
    let damaged = DamagedFile::open(ReplicaFile::at(&from).with(key.clone()), &to)?;
    let bar = if output.is_json() { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len}, {eta} left");
    let bar = bar.with_style(style.expect("the template is well formed"));
    let begun = Instant::now();
    let mut progress = |done: u64, all: u64| {
        if begun.elapsed() > PATIENCE {
            bar.set_length(all);
            bar.set_position(done);
        }
    };
    let told = match damaged.is_relay() {
        true => {
            let salvaged = store::salvage(
                damaged.transaction(),
                &to,
                key.as_ref(),
                rand::random,
                &mut progress,
            )?;
            of_relay(&salvaged)
        }
        false => {
            let to = ReplicaFile::at(&to).with(key);
            of_replica(&salvage::salvage(damaged.transaction(), to, &mut progress)?)
        }
    };
    bar.finish_and_clear();
    let Told { mut json, mut lines, mut is_everything } = told;
    if damaged.may_be_older() {
        is_everything = false;
        lines.push(
            "- the last commit could not be found: what was written last may be missing".to_owned(),
        );
    }
    json["may_be_older"] = json!(damaged.may_be_older());
    json["to"] = json!(to.display().to_string());
    json["everything"] = json!(is_everything);
    lines.push(match damaged.is_relay() {
        true => format!(
            "{} is a relay of its own: stop the damaged one and start this one in its place; \
             replicas bring back what they hold",
            to.display()
        ),
        false => format!(
            "{} is a replica of its own: `rejoin --replica {} sync` brings back what the relay has",
            to.display(),
            to.display()
        ),
    });
    output.result(&json, || lines.join("\n"))?;
    Ok(if is_everything { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The path of the damaged file, which in a relay's folder has a name of its own.
fn file_of(from: &Path) -> Result<PathBuf> {
    let file = if from.is_dir() { from.join(STORE_FILE) } else { from.to_owned() };
    if !file.exists() {
        bail!("there is no file at {}", file.display());
    }
    Ok(file)
}

/// The path of the new file. If a relay's folder is salvaged, this makes a folder for the new one.
fn target(from: &Path, to: &Path) -> Result<PathBuf> {
    if !from.is_dir() {
        return Ok(to.to_owned());
    }
    std::fs::create_dir_all(to).with_context(|| format!("{} cannot be made", to.display()))?;
    Ok(to.join(STORE_FILE))
}

/// The outcome of a salvage, for programs and for people.
struct Told {
    json: Value,
    lines: Vec<String>,
    is_everything: bool,
}

fn of_replica(salvaged: &Salvaged) -> Told {
    let Salvaged { whole, partly, lost, unnamed, edits, edits_lost, set_aside } = salvaged;
    let mut lines = vec![format!(
        "{} whole, {} in part, {} lost; {} to send saved, {edits_lost} lost",
        count(*whole, "document"),
        partly.len(),
        lost.len() as u64 + unnamed,
        count(*edits, "edit"),
    )];
    let name = |lost: &salvage::Lost| match &lost.key {
        Some(key) => format!("{} ({key})", lost.document),
        None => lost.document.clone(),
    };
    lines.extend(
        partly.iter().map(|lost| {
            format!("- in part: {}, {} saved", name(lost), count(lost.changes, "change"))
        }),
    );
    lines.extend(lost.iter().map(|lost| format!("- lost: {}", name(lost))));
    if *unnamed > 0 {
        lines.push(format!("- lost: {} that nothing names any more", count(*unnamed, "row")));
    }
    if *set_aside > 0 {
        let changes = count(*set_aside, "change");
        lines.push(format!("- {changes} set aside: what they build on is lost"));
    }
    let mut json = serde_json::to_value(salvaged).unwrap_or_default();
    json["kind"] = json!("replica");
    Told { json, lines, is_everything: salvaged.is_everything() }
}

fn of_relay(salvaged: &store::Salvaged) -> Told {
    let store::Salvaged { whole, partly, lost, unnamed, .. } = salvaged;
    let mut lines = vec![format!(
        "{} whole, {} in part, {} lost",
        count(*whole, "document"),
        partly.len(),
        lost.len() as u64 + unnamed,
    )];
    lines.extend(partly.iter().map(|it| {
        let (changes, lost) = (count(it.changes, "change"), it.lost);
        format!("- in part: {}, {changes} saved, {lost} lost", it.document)
    }));
    lines.extend(lost.iter().map(|document| format!("- lost: {document}")));
    if *unnamed > 0 {
        lines.push(format!("- lost: {} that nothing names any more", count(*unnamed, "document")));
    }
    let partly = partly.iter().map(
        |it| json!({ "document": it.document.to_string(), "changes": it.changes, "lost": it.lost }),
    );
    let lost = lost.iter().map(|document| json!({ "document": document.to_string() }));
    let json = json!({
        "kind": "relay",
        "whole": whole,
        "partly": partly.collect::<Vec<_>>(),
        "lost": lost.collect::<Vec<_>>(),
        "unnamed": unnamed,
    });
    Told { json, lines, is_everything: salvaged.is_everything() }
}

/// A salvage that takes longer shows a progress bar.
const PATIENCE: Duration = Duration::from_secs(1);
