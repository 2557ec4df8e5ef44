//! `rejoin adapters`: carrying documents to other systems.

mod lint;
mod run;
mod tell;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rejoin_adapters::control::{self, ControlError};
use rejoin_adapters::mapping::{Config, parse};
use rejoin_adapters::run::{Adapters, Ask};
use serde_json::Value;

use crate::arguments::{AdaptersArguments, AdaptersCommand};
use crate::output::Output;

pub(crate) async fn run(arguments: &AdaptersArguments, output: Output) -> Result<ExitCode> {
    let path = &arguments.config;
    let ask = match &arguments.command {
        AdaptersCommand::Lint(options) => return lint::lint(path, options, output),
        AdaptersCommand::Run => {
            run::run(&Opened::read(path, output)?, output).await?;
            return Ok(ExitCode::SUCCESS);
        }
        AdaptersCommand::Status => Ask::Status,
        AdaptersCommand::DeadLetters(options) => {
            Ask::DeadLetters { adapter: options.adapter.clone() }
        }
        AdaptersCommand::Show(letter) => Ask::DeadLetters { adapter: Some(letter.adapter.clone()) },
        AdaptersCommand::Replay(letter) => {
            Ask::Replay { adapter: letter.adapter.clone(), number: letter.number }
        }
        AdaptersCommand::Discard(letter) => {
            Ask::Discard { adapter: letter.adapter.clone(), number: letter.number }
        }
        AdaptersCommand::Pause(name) => Ask::Pause { adapter: name.adapter.clone() },
        AdaptersCommand::Resume(name) => Ask::Resume { adapter: name.adapter.clone() },
        AdaptersCommand::Backfill(name) => Ask::Backfill { adapter: name.adapter.clone() },
    };
    let mut answer = asked(&Opened::read(path, output)?, &ask).await?;
    if let AdaptersCommand::Show(letter) = &arguments.command {
        let letters = answer.as_array_mut().map(std::mem::take).unwrap_or_default();
        let found = letters.into_iter().find(|it| it["number"] == letter.number);
        answer = found.with_context(|| {
            let (name, number) = (&letter.adapter, letter.number);
            format!("{name} has no dead letter {number}; `rejoin adapters dead-letters` lists them")
        })?;
    }
    tell::tell(&arguments.command, &answer, output)?;
    Ok(ExitCode::SUCCESS)
}

/// A configuration without errors, and where it is.
struct Opened {
    config: Config,
    /// The folder that its relative files are in.
    folder: PathBuf,
}

impl Opened {
    fn read(path: &Path, output: Output) -> Result<Self> {
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| {
            format!(
                "{name} cannot be read; name the file with --config, see `rejoin adapters --help`"
            )
        })?;
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

    fn data(&self) -> PathBuf {
        self.folder.join(&self.config.replica.data)
    }
}

/// Asks the adapters that run, or else looks into their outboxes.
async fn asked(opened: &Opened, ask: &Ask) -> Result<Value> {
    match control::ask(&opened.data(), ask).await {
        Err(ControlError::NotRunning) => {}
        answered => return Ok(answered?),
    }
    let adapters = Adapters::open(&opened.config, &opened.folder)?;
    Ok(adapters.operator(None).ask(ask).await?)
}
