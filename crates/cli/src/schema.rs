//! `rejoin schema`: reads how the fields of collections merge from a file, and writes it to the
//! space, and back.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use indicatif::HumanCount;
use rejoin::CollectionName;
use rejoin::schema::Foreseen;
use rejoin::schema::{
    Change, Difference, Finding, Parsed, Part, Schema, Schemas, Severity, diff, parse, to_toml,
};
use rejoin::sync::EngineOptions;
use serde_json::{Map, Value, json};

use crate::caller::Input;
use crate::confirm::confirmed;
use crate::layout::one_line;
use crate::local::Local;
use crate::output::{Output, count};
use crate::place::PlaceArguments;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A schema is a TOML file with tables for each collection:

    [jobs.fields]
    notes  = { merge = \"text\" }
    status = { merge = \"order\", order = [\"booked\", \"en_route\", \"done\"] }
    phone  = { merge = \"owner\", owner = \"crm\", required = true }
    \"address.street\" = { type = \"string\", default = \"\", writers = [\"dispatch\"] }
    [[jobs.invariants]]
    unique = [\"phone\"]

merge is text, counter, set, list, map, review, order, owner, max, min, latest or any; a field without \
it, and one that is not named, merges by review. Applied, it is shared like any document.")]
pub(crate) enum SchemaCommand {
    /// Find what is wrong in a schema file, each with its line and column
    Lint(SchemaFileArguments),
    /// Print the schemas of the space as such a file
    Show(SchemaShowArguments),
    /// Make the schemas of a file those of the space; collections not in the file are left alone
    Apply(SchemaApplyArguments),
    /// Show what applying a file would change
    Diff(SchemaFileArguments),
}

#[derive(Debug, Args)]
pub(crate) struct SchemaFileArguments {
    /// The schema file; - reads standard input
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaApplyArguments {
    #[command(flatten)]
    pub(crate) file: SchemaFileArguments,
    /// Apply it also where documents that are there would read otherwise or open reviews, without
    /// asking
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaShowArguments {
    /// Only this collection
    pub(crate) collection: Option<CollectionName>,
}

pub(crate) async fn run(
    place: &PlaceArguments,
    command: &SchemaCommand,
    output: Output,
) -> Result<ExitCode> {
    match command {
        SchemaCommand::Lint(arguments) => return lint(&File::read(&arguments.file)?, output),
        SchemaCommand::Show(arguments) => show(place, arguments.collection.as_ref(), output).await,
        SchemaCommand::Apply(arguments) => apply(place, arguments, output).await,
        SchemaCommand::Diff(arguments) => compare(place, &arguments.file, output).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

/// A schema file that was read.
struct File {
    name: String,
    parsed: Parsed,
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let name = match path == Path::new("-") {
            true => "standard input".to_owned(),
            false => path.display().to_string(),
        };
        let mut bytes = Vec::new();
        let read = Input::open(path).and_then(|mut input| input.bytes.read_to_end(&mut bytes));
        read.with_context(|| format!("{name} cannot be read"))?;
        let text = String::from_utf8(bytes)
            .with_context(|| format!("{name} is not UTF-8; save it as UTF-8"))?;
        let parsed = parse(&text);
        Ok(Self { name, parsed })
    }

    /// The schemas of a file; an error if anything is wrong with them.
    fn sound(path: &Path, output: Output) -> Result<Schemas> {
        let file = Self::read(path)?;
        let found = file.parsed.findings.iter().map(|finding| file.line(finding));
        let found = found.collect::<Vec<_>>().join("\n");
        if !file.parsed.is_sound() {
            bail!("{} is no schema that can be applied; put this right first\n{found}", file.name);
        }
        if !found.is_empty() {
            output.note(&found);
        }
        Ok(file.parsed.schemas)
    }

    fn line(&self, finding: &Finding) -> String {
        format!("{}:{finding}", self.name)
    }
}

fn lint(file: &File, output: Output) -> Result<ExitCode> {
    let File { name, parsed } = file;
    let [errors, warnings] = [Severity::Error, Severity::Warning].map(|it| parsed.count(it));
    let findings = parsed.findings.iter().map(|finding| {
        json!({
            "line": finding.line,
            "column": finding.column,
            "severity": finding.severity.to_string(),
            "message": finding.message,
        })
    });
    let json = json!({
        "file": name,
        "sound": parsed.is_sound(),
        "errors": errors,
        "warnings": warnings,
        "findings": findings.collect::<Value>(),
    });
    output.result(&json, || {
        let mut lines: Vec<_> = parsed.findings.iter().map(|it| file.line(it)).collect();
        let described = count(parsed.schemas.len() as u64, "collection");
        lines.push(match (errors, warnings) {
            (0, 0) => format!("{name}: {described}, nothing is wrong"),
            _ => format!(
                "{name}: {}, {}",
                count(errors as u64, "error"),
                count(warnings as u64, "warning")
            ),
        });
        lines.join("\n")
    })?;
    Ok(if parsed.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn show(
    place: &PlaceArguments,
    collection: Option<&CollectionName>,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let mut schemas = local.space.schemas().await?;
    if let Some(collection) = collection {
        schemas.retain(|name, _| name == collection);
    }
    if let (Some(name), true) = (collection, schemas.is_empty()) {
        bail!(
            "{name} has no schema here, so all of it merges by review; `rejoin schema apply` a \
             file, or `rejoin sync` one from a relay"
        );
    }
    for (name, schema) in &schemas {
        for unknown in Schema::from_value(&schema.to_value()).1 {
            output.note(&one_line(&format!("{name}: {unknown}")));
        }
    }
    let json: Map<_, _> =
        schemas.iter().map(|(name, schema)| (name.to_string(), schema.to_json())).collect();
    output.result(&json, || match to_toml(&schemas).trim_end() {
        "" => "# No collection has a schema here, so everything merges by review.".to_owned(),
        text => text.to_owned(),
    })
}

async fn apply(
    place: &PlaceArguments,
    arguments: &SchemaApplyArguments,
    output: Output,
) -> Result<()> {
    // If another process has the replica open, that has to be known before the file is read, as the
    // file may be standard input.
    let there = Local::open_if_there(place, EngineOptions::default()).await?;
    let schemas = File::sound(&arguments.file.file, output)?;
    let local = match there {
        Some(local) => local,
        None => Local::open_or_create(place).await?,
    };
    let steps = steps(&local, &schemas, output).await?;
    if !arguments.yes && steps.iter().any(|step| step.foreseen.touches_anything()) {
        ask(&steps, output)?;
    }
    let mut changed = false;
    for (name, schema) in &schemas {
        changed |= local.space.apply_schema(name, schema).await?.changed();
    }
    let waiting = local.replica.status().waiting;
    let json = json!({ "changed": changed, "waiting": waiting, "collections": to_json(&steps) });
    output.result(&json, || {
        let waiting = count(waiting, "edit");
        let done = if changed { "applied" } else { "unchanged" };
        format!("{}\n{done}; on this device, {waiting} to send to a relay", to_text(&steps))
    })
}

async fn compare(place: &PlaceArguments, file: &Path, output: Output) -> Result<()> {
    let local = Local::open(place).await?;
    let schemas = File::sound(file, output)?;
    let steps = steps(&local, &schemas, output).await?;
    let same = steps.iter().all(|step| !step.is_new && step.differences.is_empty());
    let json = json!({ "same": same, "collections": to_json(&steps) });
    output.result(&json, || to_text(&steps))
}

/// Asks a person whether to apply schemas that would change how existing documents read.
fn ask(steps: &[Step], output: Output) -> Result<()> {
    let touched = steps.iter().filter(|step| step.foreseen.touches_anything());
    let touched: Vec<_> =
        touched.map(|step| format!("{}: {}", step.collection, told(step))).collect();
    let touched = touched.join("; ");
    match confirmed(&format!("{}\nApply it?", to_text(steps)), output)? {
        Some(true) => Ok(()),
        Some(false) => bail!("nothing was applied"),
        None => {
            bail!("{touched}. Nothing was applied; `rejoin schema diff` shows it, --yes applies it")
        }
    }
}

/// The differences that a file makes for one collection.
struct Step {
    collection: CollectionName,
    /// Whether the collection has no schema yet.
    is_new: bool,
    differences: Vec<Difference>,
    /// The effect on the documents of this replica.
    foreseen: Foreseen,
}

async fn steps(local: &Local, schemas: &Schemas, output: Output) -> Result<Vec<Step>> {
    local.caught_up(output).await?;
    let stored = local.space.schemas().await?;
    let nothing = Schema::new();
    let mut steps = Vec::new();
    for (name, schema) in schemas {
        let before = stored.get(name);
        let differences = diff(before.unwrap_or(&nothing), schema);
        let foreseen = match differences.is_empty() {
            true => Foreseen::default(),
            false => local.space.foresee_schema(name, schema).await?,
        };
        steps.push(Step {
            collection: name.clone(),
            is_new: before.is_none(),
            differences,
            foreseen,
        });
    }
    Ok(steps)
}

/// The effect on the documents of this replica, in words.
fn told(step: &Step) -> String {
    let Foreseen { documents, read_otherwise, count_less, opened, ended } = step.foreseen;
    let mut said = vec![format!("of {} here", count(documents, "document"))];
    let mut say = |number: u64, what: &str| {
        if number > 0 {
            said.push(format!("{} {what}", HumanCount(number)));
        }
    };
    say(read_otherwise, "would read otherwise");
    say(count_less, "would show values that do not count until somebody takes them who may");
    let mut said = said.join(", ");
    for (number, what) in [(opened, "would open"), (ended, "would end")] {
        if number > 0 {
            said += &format!("; {} {what}", count(number, "review"));
        }
    }
    said
}

fn to_text(steps: &[Step]) -> String {
    let lines = steps.iter().flat_map(|step| {
        let Step { collection, is_new, differences, .. } = step;
        let heading = match (is_new, differences.len()) {
            (true, _) => format!("{collection}: new"),
            (false, 0) => format!("{collection}: the same"),
            (false, some) => format!("{collection}: {}", count(some as u64, "difference")),
        };
        let foreseen = Some(step).filter(|step| step.foreseen.touches_anything());
        let foreseen = foreseen.map(|step| format!("  {}", told(step)));
        let differences = differences.iter().map(|it| format!("  {it}"));
        std::iter::once(heading).chain(differences).chain(foreseen)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn to_json(steps: &[Step]) -> Value {
    let collections = steps.iter().map(|step| {
        let differences: Value = step.differences.iter().map(difference_json).collect();
        let Foreseen { documents, read_otherwise, count_less, opened, ended } = step.foreseen;
        let json = json!({
            "new": step.is_new,
            "differences": differences,
            "touches": {
                "documents": documents,
                "read_otherwise": read_otherwise,
                "count_less": count_less,
                "reviews_opened": opened,
                "reviews_ended": ended,
            },
        });
        (step.collection.to_string(), json)
    });
    Value::Object(collections.collect())
}

fn difference_json(difference: &Difference) -> Value {
    let change = match difference.change() {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Changed => "changed",
    };
    let part = match difference.part {
        Part::Field => "field",
        Part::Invariant => "invariant",
        Part::Other => "other",
    };
    json!({
        "change": change,
        "part": part,
        "name": difference.name,
        "before": difference.before,
        "after": difference.after,
    })
}
