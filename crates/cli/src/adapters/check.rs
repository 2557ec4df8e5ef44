//! `rejoin adapters check`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use rejoin_adapters::sink::inspect;
use serde_json::json;

use super::Opened;
use crate::arguments::adapters::CheckArguments;
use crate::layout::one_line;
use crate::output::{Output, count};

/// Looks at targets, and tells all that is in the way of deliveries.
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
    let (mut said, mut lines, mut wrong) = (Vec::new(), Vec::new(), 0_u64);
    for name in names {
        let found = inspect(opened.mapping(name)?, &opened.folder, options.send).await;
        for one in found {
            wrong += u64::from(one.is_wrong);
            let sign = if one.is_wrong { "wrong" } else { "fine " };
            lines.push(one_line(&format!("{sign} {name}: {}", one.what)));
            said.push(json!({ "adapter": name, "is_wrong": one.is_wrong, "what": one.what }));
        }
    }
    lines.push(match wrong {
        0 => "nothing is in the way of deliveries".to_owned(),
        _ => format!("{} in the way of deliveries", count(wrong, "thing")),
    });
    output.result(&json!({ "wrong": wrong, "found": said }), || lines.join("\n"))?;
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
