//! `rejoin adapters`: carrying documents to other systems.

mod apply;
mod arguments;
mod begin;
mod check;
mod compare;
mod known;
mod lint;
mod run;
mod standing;
mod tell;

use std::fs;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use rejoin::Replica;
use rejoin_adapters::config::{Config, parse};
use rejoin_adapters::control::{self, ControlError};
use rejoin_adapters::mapping::Mapping;
use rejoin_adapters::nearest::nearest;
use rejoin_adapters::outbox::{DeadClass, Selection};
use rejoin_adapters::run::{Adapters, Answer, Ask, Letters, RunError};
use tokio::time::sleep;

use crate::clock::Since;
use crate::output::Output;
use crate::place::PlaceArguments;
pub(crate) use arguments::AdaptersArguments;
use arguments::{AdaptersCommand, AskCommand, LettersArguments};
pub(crate) use run::beside;

pub(crate) async fn run(
    arguments: &AdaptersArguments,
    place: &PlaceArguments,
    output: Output,
) -> Result<ExitCode> {
    let path = &arguments.config;
    match &arguments.command {
        AdaptersCommand::Init(options) => {
            begin::init(path, options, place, output).await?;
        }
        AdaptersCommand::Ddl(options) => {
            begin::ddl(path, options, place, output).await?;
        }
        AdaptersCommand::Check(options) => return check::check(path, options, output).await,
        AdaptersCommand::Lint(options) => return lint::lint(path, options, place, output).await,
        AdaptersCommand::Run => {
            run::run(&Opened::read(path, output)?, output).await?;
        }
        AdaptersCommand::Ask(command) => ask(command, path, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the adapters, and tells what they answer.
async fn ask(command: &AskCommand, path: &Path, output: Output) -> Result<()> {
    let (ask, opened) = (ask_of(command, path)?, Opened::read(path, output)?);
    if let (AskCommand::Apply(options), Ask::Apply { adapter, config }) = (command, &ask)
        && !options.yes
    {
        let plan = Ask::Plan { adapter: adapter.clone(), config: config.clone() };
        apply::confirm(&opened, &plan, output).await?;
    }
    let answer = {
        let busy = ask.reads_everything().then(|| busy(output));
        let answer = asked(&opened, &ask).await;
        busy.inspect(ProgressBar::finish_and_clear);
        answer?
    };
    if let (AskCommand::Show(letter), Answer::DeadLetters(letters)) = (command, &answer) {
        let found = letters.iter().find(|it| it.number == letter.number);
        let found = found.with_context(|| {
            let (name, number) = (&letter.adapter, letter.number);
            format!("{name} has no dead letter {number}; `rejoin adapters dead-letters` lists them")
        })?;
        return tell::tell_letter(found, output);
    }
    tell::tell(command, &answer, output)
}

/// What a command asks of adapters, wherever they run.
fn ask_of(command: &AskCommand, path: &Path) -> Result<Ask> {
    Ok(match command {
        AskCommand::Status => Ask::Status { config: Some(read(path)?) },
        AskCommand::DeadLetters(options) => Ask::DeadLetters {
            adapter: options.adapter.clone(),
            meant: meant(options.class, options.since.as_ref()),
        },
        AskCommand::Show(letter) => {
            Ask::DeadLetters { adapter: Some(letter.adapter.clone()), meant: Selection::default() }
        }
        AskCommand::Replay(letters) => {
            Ask::Replay { adapter: letters.adapter.clone(), letters: which(letters) }
        }
        AskCommand::Discard(letters) => {
            Ask::Discard { adapter: letters.adapter.clone(), letters: which(letters) }
        }
        AskCommand::Retry(name) => Ask::Retry { adapter: name.adapter.clone() },
        AskCommand::Pause(name) => Ask::Pause { adapter: name.adapter.clone() },
        AskCommand::Resume(name) => Ask::Resume { adapter: name.adapter.clone() },
        AskCommand::Backfill(name) => Ask::Backfill { adapter: name.adapter.clone() },
        AskCommand::Rewind(options) => {
            Ask::Rewind { adapter: options.adapter.clone(), to_ms: millis(&options.to) }
        }
        AskCommand::Plan(one) => Ask::Plan { adapter: one.adapter.clone(), config: read(path)? },
        AskCommand::Apply(one) => Ask::Apply { adapter: one.adapter.clone(), config: read(path)? },
        AskCommand::Reconcile(options) => Ask::Reconcile {
            adapter: options.adapter.clone(),
            dry_run: options.dry_run,
            delete_extra: options.delete_extra,
        },
        AskCommand::Feeds(one) => Ask::Feeds { adapter: one.adapter.clone() },
        AskCommand::Origin(row) => Ask::Origin {
            adapter: row.adapter.clone(),
            name: row.name.clone(),
            key: row.key.clone(),
        },
    })
}

/// The dead letters that a command means.
fn which(letters: &LettersArguments) -> Letters {
    match letters.number {
        Some(number) => Letters::One { number },
        None => Letters::All { meant: meant(letters.class, letters.since.as_ref()) },
    }
}

fn meant(class: Option<DeadClass>, since: Option<&Since>) -> Selection {
    Selection { class, since_ms: since.map(millis) }
}

fn millis(since: &Since) -> u64 {
    u64::try_from(since.0.saturating_mul(1000)).unwrap_or_default()
}

/// A configuration without errors, and where it is.
#[derive(Clone)]
pub(crate) struct Opened {
    config: Config,
    /// The folder that its relative files are in.
    folder: PathBuf,
}

/// Shows that something goes on that reads every document, for as long as it is held.
fn busy(output: Output) -> ProgressBar {
    let spinner = match output.is_json() || !stderr().is_terminal() {
        true => ProgressBar::hidden(),
        false => ProgressBar::new_spinner(),
    };
    spinner.set_message("reading every document ...");
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| {
        let name = path.display();
        format!("{name} cannot be read; name the file with --config, see `rejoin adapters --help`")
    })
}

impl Opened {
    pub(crate) fn read(path: &Path, output: Output) -> Result<Self> {
        let (name, text) = (path.display(), read(path)?);
        let parsed = parse(&text);
        for finding in &parsed.findings {
            output.note(&format!("{name}:{finding}"));
        }
        let Some(config) = parsed.config else {
            bail!("{name} cannot be used as it is; correct what is said above");
        };
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { config, folder })
    }

    /// The adapter of this name.
    fn mapping(&self, name: &str) -> Result<&Mapping> {
        let adapters = &self.config.adapters;
        adapters.get(name).with_context(|| {
            let known = adapters.keys().map(String::as_str);
            let meant = nearest(name, known.clone());
            let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            let known = known.collect::<Vec<_>>().join(", ");
            format!("there is no adapter {name}; the file has {known}{meant}")
        })
    }

    fn data(&self) -> PathBuf {
        self.folder.join(&self.config.replica.data)
    }
}

/// Asks the adapters that run, or else looks into their outboxes.
async fn asked(opened: &Opened, ask: &Ask) -> Result<Answer> {
    let began = Instant::now();
    let adapters = loop {
        match control::ask(&opened.data(), ask).await {
            Err(ControlError::NotRunning) => {}
            answered => return Ok(answered?),
        }
        match Adapters::open(&opened.config, &opened.folder) {
            // Adapters that begin have their outboxes open before they answer.
            Err(RunError::Open { .. }) if began.elapsed() < BEGINNING => sleep(SOON).await,
            opened => break opened?,
        }
    };
    let file = opened.data().join(REPLICA);
    if !file.exists() {
        return Ok(adapters.operator(None).ask(ask).await?);
    }
    let replica = Replica::open(file).await?;
    let space = replica.space(opened.config.replica.space.as_str())?;
    let answer = adapters.operator(Some((&replica, &space))).ask(ask).await;
    replica.close().await;
    Ok(answer?)
}

/// How long adapters may take until they answer.
const BEGINNING: Duration = Duration::from_secs(10);

/// How soon to look whether they do.
const SOON: Duration = Duration::from_millis(100);

/// The replica of adapters, in their data folder.
const REPLICA: &str = "replica.redb";
