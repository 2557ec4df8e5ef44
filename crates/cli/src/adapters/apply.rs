//! `rejoin adapters apply`: what a person is asked before rows go.

use anyhow::{Context, Result, bail};
use rejoin_adapters::control::ControlError;
use rejoin_adapters::run::answer::{Answer, Outlook, Plan, Status};
use rejoin_adapters::run::{Ask, OperateError};

use super::{Opened, asked, busy, compare};
use crate::confirm::confirmed;
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
        Err(error) if matches!(error.downcast_ref(), Some(OperateError::NoReplica)) => {
            return without_documents(opened).await;
        }
        planned => planned.context("nothing was changed")?,
    };
    let Answer::Plan(plans) = planned else { return Err(ControlError::AnotherVersion.into()) };
    let removed: Vec<_> = plans.iter().filter_map(removed).collect();
    if removed.is_empty() {
        return Ok(());
    }
    let removed = removed.join("; ");
    match confirmed(&format!("{removed}\nApply it?"), output)? {
        Some(true) => Ok(()),
        Some(false) => bail!("nothing was applied"),
        None => {
            bail!(
                "{removed}. Nothing was applied; `rejoin adapters plan` shows it, --yes applies it"
            )
        }
    }
}

/// Nobody can foresee what becomes of rows while there are no documents to make them of: that is fine
/// before the first of them, and else for a person to say.
async fn without_documents(opened: &Opened) -> Result<()> {
    let Answer::Status(adapters) = asked(opened, &Ask::Status { config: None }).await? else {
        return Err(ControlError::AnotherVersion.into());
    };
    let with_rows = adapters.iter().find(|it| it.begun().is_some_and(|begun| begun.documents > 0));
    match with_rows {
        None => Ok(()),
        Some(Status { adapter, .. }) => bail!(
            "{adapter} delivered rows before, and there are no documents here to compare them with; \
             `rejoin adapters run` brings them. Nothing was applied; --yes applies it"
        ),
    }
}

/// How many rows a plan removes, and why.
fn removed(plan: &Plan) -> Option<String> {
    let Outlook::Foreseen(foreseen) = &plan.outlook else { return None };
    // What goes with its document goes whatever is applied.
    let rows = Some(foreseen.changes.removed_by_mapping).filter(|rows| *rows > 0)?;
    let why = compare::why_removed(plan).map(|why| format!(", as {why}")).unwrap_or_default();
    let name = &plan.adapter;
    Some(format!("{name}: {} would be removed at the target{why}", count(rows, "row")))
}
