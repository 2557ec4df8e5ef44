//! `rejoin adapters lint`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use rejoin::DocumentId;
use rejoin::schema::{Finding, Schemas, Severity};
use rejoin_adapters::config::{Config, ReplicaConfig, parse};
use rejoin_adapters::mapping::{Known, Mapping, check, check_known, check_zone};
use rejoin_adapters::projection::{Input, project};
use rejoin_adapters::sink::{self, SinkError};
use serde_json::{Value, json};

use super::arguments::LintArguments;
use super::known::known;
use crate::output::{Output, count};
use crate::place::PlaceArguments;
use crate::values::DELETED;

pub(super) async fn lint(
    path: &Path,
    options: &LintArguments,
    place: &PlaceArguments,
    output: Output,
) -> Result<ExitCode> {
    let parsed = parse(&super::read(path)?);
    let mut report = Report::new(path, &parsed.findings);
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    for (adapter, mapping) in &parsed.adapters {
        report.add_faults(adapter, mapping, folder);
    }
    let (mut known, in_replica) = known(path, Some(&parsed), place, output).await?;
    let given = options.schema.as_deref().map(schemas).transpose()?;
    if let Some(given) = &given {
        given.iter().for_each(|(of, schema)| known.take_schema(of.as_str(), schema));
    }
    let schemas = given.or_else(|| Some(in_replica).filter(|schemas| !schemas.is_empty()));
    for (adapter, doubt) in doubts(&parsed.adapters, schemas.as_ref(), &known) {
        report.add(WARNING, &adapter, doubt);
    }
    if let Some(config) = &parsed.config {
        let doubts = doubts_of_addresses(&config.replica);
        doubts.into_iter().for_each(|doubt| report.add(WARNING, "[replica]", doubt));
    }
    let mut rows = Vec::new();
    if let (Some(config), Some(sample)) = (&parsed.config, &options.sample) {
        rows = sampled(config, sample, schemas.as_ref())?;
    }
    let adapters = parsed.config.as_ref().map_or(0, |config| config.adapters.len());
    report.tell(adapters, &rows, output)
}

/// What is wrong in a file, as it is told.
struct Report {
    /// The file's name.
    name: String,
    errors: u64,
    said: Vec<Value>,
    lines: Vec<String>,
}

impl Report {
    fn new(path: &Path, findings: &[Finding]) -> Self {
        let name = path.display().to_string();
        let errors = findings.iter().filter(|it| it.severity == Severity::Error).count() as u64;
        let said = findings.iter().map(|it| {
            let severity = it.severity.to_string();
            json!({ "line": it.line, "column": it.column, "severity": severity, "message": it.message })
        });
        let lines = findings.iter().map(|finding| format!("{name}:{finding}")).collect();
        Self { errors, said: said.collect(), lines, name }
    }

    fn add(&mut self, severity: &str, adapter: &str, message: String) {
        self.errors += u64::from(severity == ERROR);
        self.said.push(json!({ "severity": severity, "adapter": adapter, "message": message }));
        self.lines.push(format!("{}: {severity}: {adapter}: {message}", self.name));
    }

    /// Adds what can be said against a sink, and the secrets that are not here.
    fn add_faults(&mut self, adapter: &str, mapping: &Mapping, folder: &Path) {
        for fault in sink::faults(mapping, folder) {
            let severity = match fault {
                // Where it is written and where it runs may be two machines.
                SinkError::Secret(_) => WARNING,
                _ => ERROR,
            };
            self.add(severity, adapter, fault.to_string());
        }
        let salt = mapping.salt.as_ref().map(|salt| salt.resolve());
        if let Some(Err(missing)) = salt {
            self.add(WARNING, adapter, missing.to_string());
        }
    }

    fn tell(self, adapters: usize, rows: &[Value], output: Output) -> Result<ExitCode> {
        let Self { name, errors, said, mut lines } = self;
        lines.extend(rows.iter().map(Value::to_string));
        let json = json!({ "findings": said, "rows": rows });
        output.result(&json, || {
            let adapters = count(adapters as u64, "adapter");
            lines.push(match errors {
                0 if said.is_empty() => format!("{name}: {adapters}, nothing wrong"),
                0 => format!("{name}: {adapters}, {}", count(said.len() as u64, "warning")),
                _ => format!("{name}: {}", count(errors, "error")),
            });
            lines.join("\n")
        })?;
        Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

const ERROR: &str = "error";
const WARNING: &str = "warning";

pub(super) fn schemas(path: &Path) -> Result<Schemas> {
    let text =
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(rejoin::schema::parse(&text).schemas)
}

/// What the schema and the documents here do not bear out.
fn doubts(
    adapters: &BTreeMap<String, Mapping>,
    schemas: Option<&Schemas>,
    known: &Known,
) -> Vec<(String, String)> {
    let of = |(name, mapping): (&String, &Mapping)| {
        let schema = schemas.and_then(|schemas| schemas.get(&mapping.collection));
        let mut doubts = match (schemas, schema) {
            (_, Some(schema)) => check(mapping, schema),
            (Some(_), None) => vec![format!("the schema does not describe {}", mapping.collection)],
            (None, None) => Vec::new(),
        };
        let of_documents = check_known(mapping, known);
        doubts.extend(of_documents);
        doubts.extend(check_zone(mapping, schema));
        doubts.into_iter().map(|doubt| (name.clone(), doubt)).collect::<Vec<_>>()
    };
    adapters.iter().flat_map(of).collect()
}

/// What others could see on the way.
fn doubts_of_addresses(replica: &ReplicaConfig) -> Vec<String> {
    let host = replica.relay.as_deref().and_then(|relay| relay.strip_prefix("ws://"));
    let host = host.map(|rest| rest.split('/').next().unwrap_or_default());
    let host = host.map(|host| host.rsplit_once(':').map_or(host, |(host, _)| host));
    let is_here = |host: &str| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    };
    let away = host.filter(|host| !is_here(host)).map(|host| {
        format!(
            "everybody on the way to {host} can read and change what is said; write wss://{host} for TLS"
        )
    });
    let metrics = replica.metrics.filter(|address| !address.ip().is_loopback()).map(|address| {
        format!(
            "metrics at {address} are for everybody who reaches it, and deliveries are not told there; \
             127.0.0.1:{} is for this machine",
            address.port()
        )
    });
    away.into_iter().chain(metrics).collect()
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
        let source = Input { document: &document, key, deleted, value, asked, zone, salt: &salt };
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
