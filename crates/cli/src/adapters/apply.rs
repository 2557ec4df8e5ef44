//! `rejoin adapters apply`: what a person is asked before rows go.

use std::io::BufRead;

use anyhow::{Context, Result, bail};
use rejoin_adapters::control::ControlError;
use rejoin_adapters::run::answer::{Answer, Outlook, Plan};
use rejoin_adapters::run::{Ask, OperateError};

use super::{Opened, asked, busy, compare};
use crate::caller::Terminal;
use crate::output::{Output, count};

/// Asks whether rows shall be removed at a target, if the mappings that a plan is asked for remove any.
pub(super) async fn confirm(opened: &Opened, plan: &Ask, output: Output) -> Result<()> {
    let planned = {
        let busy = busy(output);
        let planned = asked(opened, plan).await;
        busy.finish_and_clear();
        planned
    };
    let planned = match planned {
        // Without documents there were never rows.
        Err(error) if matches!(error.downcast_ref(), Some(OperateError::NoReplica)) => {
            return Ok(());
        }
        planned => planned.context("nothing was changed")?,
    };
    let Answer::Plan(plans) = planned else { return Err(ControlError::AnotherVersion.into()) };
    let removed: Vec<_> = plans.iter().filter_map(removed).collect();
    if removed.is_empty() {
        return Ok(());
    }
    let removed = removed.join("; ");
    if output.is_json() || !Terminal::current().is_typed {
        bail!("{removed}. Nothing was applied; `rejoin adapters plan` shows it, --yes applies it");
    }
    output.note(&format!("{removed}\nApply it? [y/N]"));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => bail!("nothing was applied"),
    }
}

/// How many rows a plan removes, and why.
fn removed(plan: &Plan) -> Option<String> {
    let Outlook::Foreseen(foreseen) = &plan.outlook else { return None };
    let rows = Some(foreseen.changes.remove).filter(|rows| *rows > 0)?;
    let why = compare::why_removed(plan).map(|why| format!(", as {why}")).unwrap_or_default();
    let name = &plan.adapter;
    Some(format!("{name}: {} would be removed at the target{why}", count(rows, "row")))
}
