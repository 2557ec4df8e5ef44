//! `rejoin adapters init` and `rejoin adapters ddl`: from nothing to the first row.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rejoin::CollectionName;
use rejoin_adapters::config::{adapter_section, parse, replica_section};
use rejoin_adapters::mapping::Known;
use rejoin_adapters::sink::kind_of_sink;
use rejoin_adapters::sink::{self, postgres};
use serde_json::json;

use super::arguments::{DdlArguments, InitArguments};
use super::known::known;
use super::{Opened, lint};
use crate::output::Output;
use crate::place::PlaceArguments;

pub(super) async fn init(
    path: &Path,
    options: &InitArguments,
    place: &PlaceArguments,
    output: Output,
) -> Result<()> {
    let kind = kind_of_sink(&options.kind).with_context(|| {
        format!("there is no sink of kind {:?}; there are {}", options.kind, sink::KINDS.join(", "))
    })?;
    let before = match path.exists() {
        true => super::read(path)?,
        false => String::new(),
    };
    let parsed = parse(&before);
    let name = name(options, &parsed.adapters.keys().map(String::as_str).collect::<Vec<_>>())?;
    let mut known = known(path, Some(&parsed), place, output).await?.0;
    if let Some(file) = &options.schema {
        let schemas = lint::schemas(file)?;
        schemas.iter().for_each(|(of, schema)| known.take_schema(of.as_str(), schema));
    }
    let collection = match &options.collection {
        Some(collection) => collection.clone(),
        None => most(&known).unwrap_or("jobs").to_owned(),
    };
    CollectionName::new(collection.as_str()).context("--collection")?;
    let mut text = before;
    if text.trim().is_empty() {
        text = replica_section();
    }
    text += &adapter_section(&name, kind, &collection, &known);
    if parse(&text).config.is_none() {
        bail!("{} has errors; `rejoin adapters lint` tells them", path.display());
    }
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    let file = path.display();
    let json = json!({ "file": file.to_string(), "adapter": name, "kind": kind.kind });
    output.result(&json, || {
        let ddl = match kind.kind {
            "postgres" => format!("rejoin adapters ddl {name}     # the table, as SQL\n"),
            _ => String::new(),
        };
        format!(
            "{file}: adapter {name} carries {collection}; change what is not yours, and then\n\
             rejoin adapters lint\n{ddl}rejoin adapters check {name}   # looks at the target\n\
             rejoin adapters run"
        )
    })
}

/// A name that no adapter has yet.
fn name(options: &InitArguments, taken: &[&str]) -> Result<String> {
    if let Some(name) = &options.name {
        if taken.contains(&&**name) {
            bail!("there is an adapter {name} already; give another --name");
        }
        return Ok(name.clone());
    }
    let kind = &options.kind;
    let later = (2..).map(|number| format!("{kind}-{number}"));
    let mut names = std::iter::once(kind.clone()).chain(later);
    names.find(|name| !taken.contains(&&**name)).context("no name is free")
}

/// The collection with most documents, or else any that a schema describes.
fn most(known: &Known) -> Option<&str> {
    let most = known.collections.iter().max_by_key(|(_, documents)| **documents);
    most.map(|(name, _)| name.as_str()).or_else(|| known.names().into_iter().next())
}

pub(super) async fn ddl(
    path: &Path,
    options: &DdlArguments,
    place: &PlaceArguments,
    output: Output,
) -> Result<()> {
    let opened = Opened::read(path, output)?;
    let mapping = opened.mapping(&options.adapter)?;
    let schemas = match &options.schema {
        Some(file) => lint::schemas(file)?,
        None => known(path, Some(&parse(&super::read(path)?)), place, output).await?.1,
    };
    let sql = postgres::ddl(mapping, schemas.get(&mapping.collection))?;
    output.result(&json!({ "adapter": options.adapter, "sql": sql }), || sql.clone())
}
