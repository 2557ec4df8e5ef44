//! `rejoin adapters lint`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use rejoin::DocumentId;
use rejoin::schema::{Schemas, Severity};
use rejoin_adapters::mapping::{Config, check, check_zone, parse};
use rejoin_adapters::projection::{Source, project};
use rejoin_adapters::sink;
use serde_json::{Value, json};

use crate::arguments::LintArguments;
use crate::local::DELETED;
use crate::output::{Output, count};

pub(super) fn lint(path: &Path, options: &LintArguments, output: Output) -> Result<ExitCode> {
    let name = path.display().to_string();
    let text = super::read(path)?;
    let parsed = parse(&text);
    let mut errors = parsed.findings.iter().filter(|it| it.severity == Severity::Error).count();
    let mut said: Vec<Value> = parsed
        .findings
        .iter()
        .map(|it| {
            let severity = it.severity.to_string();
            json!({ "line": it.line, "column": it.column, "severity": severity, "message": it.message })
        })
        .collect();
    let mut lines: Vec<String> =
        parsed.findings.iter().map(|finding| format!("{name}:{finding}")).collect();
    let mut rows = Vec::new();
    if let Some(config) = &parsed.config {
        for (adapter, mapping) in &config.adapters {
            if let Err(error) = sink::check(mapping) {
                errors += 1;
                said.push(json!({ "severity": "error", "adapter": adapter, "message": error.to_string() }));
                lines.push(format!("{name}: error: {adapter}: {error}"));
            }
        }
        let schemas = options.schema.as_deref().map(schemas).transpose()?;
        for (adapter, doubt) in doubts(config, schemas.as_ref()) {
            said.push(json!({ "severity": "warning", "adapter": adapter, "message": doubt }));
            lines.push(format!("{name}: warning: {adapter}: {doubt}"));
        }
        if let Some(sample) = &options.sample {
            rows = sampled(config, sample, schemas.as_ref())?;
        }
    }
    lines.extend(rows.iter().map(Value::to_string));
    let json = json!({ "findings": said, "rows": rows });
    output.result(&json, || {
        let adapters = parsed.config.as_ref().map_or(0, |config| config.adapters.len());
        let sum = match errors {
            0 if said.is_empty() => {
                format!("{name}: {}, nothing wrong", count(adapters as u64, "adapter"))
            }
            0 => format!(
                "{name}: {}, {}",
                count(adapters as u64, "adapter"),
                count(said.len() as u64, "warning")
            ),
            _ => format!("{name}: {}", count(errors as u64, "error")),
        };
        lines.push(sum);
        lines.join("\n")
    })?;
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn schemas(path: &Path) -> Result<Schemas> {
    let text =
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(rejoin::schema::parse(&text).schemas)
}

/// What the schema does not bear out.
fn doubts(config: &Config, schemas: Option<&Schemas>) -> Vec<(String, String)> {
    let of = |(name, mapping): (&String, _)| {
        let mapping: &rejoin_adapters::mapping::Mapping = mapping;
        let schema = schemas.and_then(|schemas| schemas.get(&mapping.collection));
        let mut doubts = match (schemas, schema) {
            (_, Some(schema)) => check(mapping, schema),
            (Some(_), None) => vec![format!("the schema does not describe {}", mapping.collection)],
            (None, None) => Vec::new(),
        };
        doubts.extend(check_zone(mapping, schema));
        doubts.into_iter().map(|doubt| (name.clone(), doubt)).collect::<Vec<_>>()
    };
    config.adapters.iter().flat_map(of).collect()
}

/// The rows that a document becomes.
fn sampled(config: &Config, path: &Path, schemas: Option<&Schemas>) -> Result<Vec<Value>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let sample: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    let value = sample.get("value").unwrap_or(&sample);
    let key = sample.get("key").and_then(Value::as_str);
    let mut rows = Vec::new();
    for (adapter, mapping) in &config.adapters {
        let salt = match &mapping.salt {
            Some(salt) => salt.resolve()?,
            None => String::new(),
        };
        let (document, asked) = (DocumentId([0; 16]), BTreeSet::new());
        let (deleted, asked) = (value.get(DELETED) == Some(&Value::Bool(true)), &asked);
        let schema = schemas.and_then(|schemas| schemas.get(&mapping.collection));
        let zone = mapping.zone(schema);
        let source = Source { document: &document, key, deleted, value, asked, zone, salt: &salt };
        for (record, row) in project(mapping, &source) {
            let (row, fault) = match row {
                Ok(row) => (Some(row), None),
                Err(misfit) => (None, Some(misfit.to_string())),
            };
            rows.push(json!({
                "adapter": adapter,
                "name": record.name,
                "record": record.key,
                "row": row,
                "fault": fault,
            }));
        }
    }
    Ok(rows)
}
