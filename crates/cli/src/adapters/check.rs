//! `rejoin adapters check`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use rejoin_adapters::control::ControlError;
use rejoin_adapters::run::Ask;
use rejoin_adapters::run::answer::{Answer, Link, Status};
use rejoin_adapters::sink::{Found, inspect};
use serde_json::json;

use super::arguments::CheckArguments;
use super::standing::{link, of_one};
use super::{Opened, asked};
use crate::layout::one_line;
use crate::output::{Output, count};

/// Looks at targets and at how the adapters stand, and tells all that is in the way of deliveries.
pub(super) async fn check(
    path: &Path,
    options: &CheckArguments,
    output: Output,
) -> Result<ExitCode> {
    let opened = Opened::read(path, output)?;
    let names: Vec<&String> = match &options.adapter {
        Some(name) => {
            opened.mapping(name)?;
            vec![name]
        }
        None => opened.config.adapters.keys().collect(),
    };
    let own = Own::ask(path, &opened).await;
    let (mut said, mut lines, mut wrong) = (Vec::new(), Vec::new(), 0_u64);
    for name in names {
        let mut found = inspect(opened.mapping(name)?, &opened.folder, options.send).await;
        found.extend(own.wrong_with(name));
        for one in found {
            wrong += u64::from(one.is_wrong);
            let sign = if one.is_wrong { "wrong" } else { "fine " };
            lines.push(one_line(&format!("{sign} {name}: {}", one.what)));
            said.push(json!({ "adapter": name, "is_wrong": one.is_wrong, "what": one.what }));
        }
    }
    lines.push(match wrong {
        0 if !own.run => {
            "nothing is in the way of deliveries; `rejoin adapters run` begins".to_owned()
        }
        0 => "nothing is in the way of deliveries".to_owned(),
        _ => format!("{} in the way of deliveries", count(wrong, "thing")),
    });
    output
        .result(&json!({ "wrong": wrong, "run": own.run, "found": said }), || lines.join("\n"))?;
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How the adapters stand themselves, whatever their targets would take.
struct Own {
    adapters: Vec<Status>,
    /// Whether somebody runs them.
    run: bool,
    /// Why that is not known.
    unknown: Option<String>,
}

impl Own {
    /// Asks those that run, or looks into the outboxes; before the first run there are none.
    async fn ask(path: &Path, opened: &Opened) -> Self {
        let nothing = |unknown| Self { adapters: Vec::new(), run: false, unknown };
        if !opened.data().exists() {
            return nothing(None);
        }
        let config = super::read(path).ok();
        match asked(opened, &Ask::Status { config }).await {
            Err(error) => nothing(Some(format!("{error:#}"))),
            Ok(Answer::Status(adapters)) => {
                let run = adapters.first().is_some_and(|first| first.link != Link::NotRunning);
                Self { adapters, run, unknown: None }
            }
            Ok(_) => nothing(Some(ControlError::AnotherVersion.to_string())),
        }
    }

    /// What keeps an adapter from delivering beside its target.
    fn wrong_with(&self, name: &str) -> Vec<Found> {
        let unknown = self.unknown.iter().map(|why| format!("how it stands is not known: {why}"));
        let own = self.adapters.iter().filter(|adapter| adapter.adapter == name);
        let own = own.flat_map(|adapter| {
            let away = link(&adapter.link).filter(|_| self.run);
            away.into_iter().chain(of_one(adapter))
        });
        unknown.chain(own).map(Found::wrong).collect()
    }
}
