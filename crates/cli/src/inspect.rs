//! `rejoin status`, `digest` and `doctor`: what is in a replica, and whether it is sound.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use rejoin::Identity;
use rejoin::doctor::{self, Report};
use serde_json::{Value, json};

use crate::arguments::{DoctorArguments, PlaceArguments, StatusArguments};
use crate::beside;
use crate::clock::clock;
use crate::identity::{author_json, person, whole};
use crate::layout::one_line;
use crate::local::{Local, file, must_exist};
use crate::output::{Output, count};
use crate::sync::status_json;
use crate::{refused, unfit, unsent};

pub(crate) async fn status(
    place: &PlaceArguments,
    arguments: &StatusArguments,
    output: Output,
) -> Result<()> {
    if arguments.unsent {
        return unsent::run(place, output).await;
    }
    let local = Local::open(place).await?;
    let status = local.replica.status();
    let aside = local.replica.set_aside()?;
    let collections = local.space.collections()?;
    let identity = local.replica.identity()?;
    let unfit = local.space.unfit().await?;
    let open = local.space.reviews().open().await?;
    let is_mine = |user: &Identity| {
        open.iter().filter(|review| review.assignee.as_ref() == Some(&user.user)).count()
    };
    let mine = identity.as_ref().map_or(0, is_mine);
    let mut json = status_json(&status);
    let named = collections.iter().map(|(name, documents)| (name.to_string(), *documents));
    json["collections"] = json!(named.collect::<BTreeMap<_, _>>());
    json["device"] = json!(local.replica.device().to_string());
    json["acts_as"] = author_json(identity.as_ref());
    json["reviews"] = json!({ "open": open.len(), "mine": mine });
    let mut by_collection = BTreeMap::<String, u64>::new();
    unfit.iter().for_each(|it| *by_collection.entry(it.collection.to_string()).or_default() += 1);
    json["unfit"] = json!(by_collection);
    json["space"] = json!(local.space.name().as_str());
    json["set_aside"] = Value::from_iter(aside.iter().map(refused::json));
    let refused: Vec<_> = aside.iter().filter(|it| it.is_open()).cloned().collect();
    output.result(&json, || {
        let mut lines = vec![
            format!("device      {}", local.replica.device()),
            format!("acts as     {}", identity.as_ref().map_or_else(|| person(None), whole)),
            format!("space       {}", local.space.name()),
        ];
        lines.extend(collections.iter().map(|(name, documents)| {
            format!("collection  {name}: {}", count(*documents, "document"))
        }));
        lines.push(match status.edited_at_s {
            Some(time_s) => format!(
                "to send     {}, the last of {}; --unsent lists them, `rejoin sync` sends them",
                count(status.waiting, "edit"),
                clock(time_s)
            ),
            None if aside.iter().all(|it| it.made_anew) => {
                "to send     nothing: a relay holds every edit made here".to_owned()
            }
            None => "to send     nothing".to_owned(),
        });
        if status.is_partial {
            let text = "to come     not all that the relay held is here yet; `rejoin sync` goes on";
            lines.push(text.to_owned());
        }
        if status.behind > 0 {
            let behind = count(status.behind, "document");
            lines.push(format!(
                "behind      {behind} to be looked at again, as their schema changed"
            ));
        }
        if !open.is_empty() {
            let yours = if mine > 0 { format!(", {mine} for you") } else { String::new() };
            let open = count(open.len() as u64, "review");
            lines.push(format!("reviews     {open} open{yours}; `rejoin reviews` lists them"));
        }
        lines.extend(unfit::summary(&unfit).map(|unfit| format!("unfit       {unfit}")));
        let told = aside.iter().filter(|it| !it.acknowledged);
        lines.extend(told.map(|it| format!("set aside   {}", refused::line(it))));
        if !refused.is_empty() {
            let text = "make again what was refused, as the reasons say; `rejoin status \
                        --acknowledge` then keeps it out of here and of `rejoin sync`";
            lines.push(format!("            {text}"));
        }
        lines.join("\n")
    })?;
    // Only what was just printed.
    if arguments.acknowledge {
        local.replica.acknowledge(&aside).await?;
    }
    Ok(())
}

pub(crate) async fn digest(place: &PlaceArguments, output: Output) -> Result<()> {
    let local = Local::open(place).await?;
    let digest = local.space.digest()?.to_string();
    let json = json!({ "space": local.space.name().as_str(), "digest": digest });
    output.result(&json, || digest.clone())
}

pub(crate) fn doctor(
    place: &PlaceArguments,
    arguments: &DoctorArguments,
    output: Output,
) -> Result<ExitCode> {
    if let Some([from, to]) = arguments.salvage.as_deref() {
        return crate::salvage::run(from, to, output);
    }
    let file = file(place)?;
    must_exist(file)?;
    let report = doctor::check(file, arguments.repair).map_err(|error| {
        let error = anyhow::Error::from(error);
        match beside::is_held(&error) {
            true => error.context("`rejoin doctor` needs the file alone"),
            false => error,
        }
    })?;
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

/// Documents that are named where all are counted.
const UNFIT_NAMED: usize = 3;
