//! `rejoin admin carried`: changes that were taken from others than their authors.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use rejoin_relay::admin::{self, Answer, Ask, CarriedAnswers};

use super::OTHER;
use crate::clock::clock_of_ms;
use crate::layout::{Table, width};
use crate::output::{Output, Text, count};
use crate::units::duration;

#[derive(Debug, Args)]
pub(super) struct CarriedArguments {
    /// Take them for so long from now on: 30m, 12h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    open: Option<Duration>,
    /// Take no more of them
    #[arg(long, conflicts_with = "open")]
    close: bool,
    /// List so many at most, the latest first
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
}

pub(super) fn run(data: &Path, arguments: &CarriedArguments, output: Output) -> Result<()> {
    let CarriedArguments { open, close, limit } = arguments;
    ensure!(open.is_none_or(|open| open <= OPEN_MAX), "for 7 days at most");
    let seconds = open.map(|open| open.as_secs().max(1)).or_else(|| close.then_some(0));
    if let Some(seconds) = seconds {
        admin::ask(data, &Ask::Carry { seconds })?;
    }
    let Answer::Carried(carried) = admin::ask(data, &Ask::Carried { limit: *limit })? else {
        bail!(OTHER)
    };
    output.result(&carried, || table(&carried))
}

fn table(carried: &CarriedAnswers) -> Text {
    let CarriedAnswers { until_ms, all, changes, .. } = carried;
    let open = match until_ms {
        Some(until_ms) => format!(
            "changes are taken from others than their authors until {}",
            clock_of_ms(i64::try_from(*until_ms).unwrap_or(i64::MAX))
        ),
        None => {
            "a change is taken from its author only; --open TIME lets others carry it".to_owned()
        }
    };
    let mut lines = vec![Text::from(open)];
    if !changes.is_empty() {
        let mut table = Table::new(["document", "by, as it says", "carried by", "at"]).keeping(2);
        for change in changes {
            let at = clock_of_ms(i64::try_from(change.time_ms).unwrap_or(i64::MAX));
            let (document, space) = (&change.document, &change.space);
            let place = format!("{space}/{document}");
            table.row([place, change.author.clone(), change.carrier.clone(), at]);
        }
        lines.push(table.fit(width()));
        let shown = changes.len() as u64;
        lines.push(match all - shown.min(*all) {
            0 => format!("{} carried", count(*all, "change")).into(),
            more => format!("... and {more} more; --limit {all} lists them all").into(),
        });
    }
    Text::lines(lines)
}

/// The longest time in which changes may be carried.
const OPEN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
