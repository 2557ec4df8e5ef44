//! `rejoin backup`: takes a relay's backup, looks at one, and restores a relay from it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use rejoin::Key;
use rejoin_relay::admin::{self, AskError};
use rejoin_relay::store::backup::{self, Chain, Found, Restored, Verified};
use rejoin_relay::{STORE_FILE, take_apart_in_process};
use serde_json::{Value, json};

use crate::clock::{Since, clock_of_ms, now_ms, rfc3339, since};
use crate::output::{Output, count};
use crate::place::KeyArguments;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
A backup is of one moment, whether the relay runs or not. A copy of the relay's file that was made while \
it runs is not: it mixes moments, and may not open.

`[backup]` in relay.toml makes the relay write backups by itself, every minute."
)]
pub(crate) struct BackupArguments {
    #[command(subcommand)]
    command: Option<BackupCommand>,
    /// The relay's folder
    #[arg(long, value_name = "DIR", required = true)]
    data: Option<PathBuf>,
    /// Where to write the backup: a file that there is not yet, or `-` for standard output
    #[arg(value_name = "FILE", required = true)]
    to: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Look at everything in a backup: every change, head and digest
    Verify(VerifyArguments),
    /// Make a relay's folder from a backup
    Restore(RestoreArguments),
}

#[derive(Debug, Args)]
struct VerifyArguments {
    /// A backup, or a folder of backups, of which the last ones are looked at
    #[arg(value_name = "FILE|DIR")]
    from: PathBuf,
    /// A folder with room for all of it, for the time of the look
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RestoreArguments {
    /// A backup, or a folder of backups, of which the last ones are taken
    #[arg(value_name = "FILE|DIR")]
    from: PathBuf,
    /// The folder of the new relay, made if there is none; there must be no store in it
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// From a folder: leave out what was backed up after this time, as `'2026-11-30 08:00'` or `2h`
    /// ago
    #[arg(long, value_name = "TIME", value_parser = since)]
    until: Option<Since>,
}

pub(crate) fn run(
    key: &KeyArguments,
    arguments: &BackupArguments,
    output: Output,
) -> Result<ExitCode> {
    match (&arguments.command, &arguments.data, &arguments.to) {
        (Some(BackupCommand::Verify(arguments)), ..) => verify(arguments, output),
        (Some(BackupCommand::Restore(arguments)), ..) => restore(key, arguments, output),
        (None, Some(data), Some(to)) => take(key, data, to, output),
        _ => bail!("name the relay's folder with --data, and the file to write"),
    }
}

/// Takes a backup of the relay in a folder.
pub(crate) fn take(key: &KeyArguments, data: &Path, to: &Path, output: Output) -> Result<ExitCode> {
    let key = key.read()?;
    let key = key.as_ref();
    if to == Path::new("-") {
        let bar = bar(output);
        write(data, key, io::stdout().lock(), &mut |bytes| bar.set_position(bytes))?;
        bar.finish_and_clear();
        return Ok(ExitCode::SUCCESS);
    }
    if to.exists() {
        bail!("{} exists already; name a file that does not", to.display());
    }
    let mut name = to.as_os_str().to_owned();
    name.push(".unfinished");
    let unfinished = PathBuf::from(name);
    let cannot = || format!("{} cannot be written", unfinished.display());
    let file = private(&unfinished).with_context(cannot)?;
    let bar = bar(output);
    let written = write(data, key, &file, &mut |bytes| bar.set_position(bytes))
        .and_then(|()| Ok(backup::check(&unfinished)?));
    bar.finish_and_clear();
    let header = match written {
        Ok(header) => header,
        Err(error) => {
            // The error is told; half a backup helps nobody.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
    };
    file.sync_all().with_context(cannot)?;
    let bytes = file.metadata().with_context(cannot)?.len();
    fs::rename(&unfinished, to).with_context(|| format!("{} cannot be written", to.display()))?;
    let changes: u64 = header.spaces.iter().map(|mark| mark.position).sum();
    let json = json!({
        "file": to.display().to_string(),
        "bytes": bytes,
        "at": rfc3339(header.unix_ms as i64 / 1000),
        "changes": changes,
    });
    output.result(&json, || {
        let (changes, spaces) = (count(changes, "change"), header.spaces.len() as u64);
        format!(
            "{}: {changes} of {}, {} bytes, its checksum is right",
            to.display(),
            count(spaces, "space"),
            bytes
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a file that only its owner can read: a backup has everything.
fn private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Writes a backup: from the relay that runs, or from its file.
fn write(
    data: &Path,
    key: Option<&Key>,
    to: impl Write,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut to = Some(to);
    let asked = admin::back_up(data, Once(&mut to), progress);
    match asked {
        Ok(_) => Ok(()),
        Err(AskError::NotRunning { .. }) => {
            let to = to.take().context("the relay ended while it was asked")?;
            let unix_ms = u64::try_from(now_ms()).unwrap_or_default();
            let store = data.join(STORE_FILE);
            backup::write_file(&store, key, rand::random(), unix_ms, to, progress)?;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// A writer that is still there if nothing was written to it.
struct Once<'a, W>(&'a mut Option<W>);

impl<W: Write> Write for Once<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(bytes.len()), |to| to.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), Write::flush)
    }
}

fn verify(arguments: &VerifyArguments, output: Output) -> Result<ExitCode> {
    let (chain, loose) = chain(&arguments.from, None)?;
    let scratch = match &arguments.scratch {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let scratch = scratch.context("no room can be had for the look; name a folder by --scratch")?;
    let bar = bar(output);
    let (whole, more) = chain.parts();
    let verified =
        backup::verify(whole, more, scratch.path(), &take_apart, rand::random, &mut |bytes| {
            bar.set_position(bytes);
        });
    bar.finish_and_clear();
    let Verified { restored, mut findings, .. } = verified?;
    findings.extend(unused(&loose));
    let mut json = restored_json(&restored);
    json["findings"] = Value::from(findings.clone());
    output.result(&json, || {
        let mut lines = vec![held(&restored)];
        lines.extend(findings.iter().map(|finding| format!("- {finding}")));
        if findings.is_empty() {
            lines.push("every change, head and digest is right".to_owned());
        }
        lines.join("\n")
    })?;
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn restore(key: &KeyArguments, arguments: &RestoreArguments, output: Output) -> Result<ExitCode> {
    let key = key.read()?;
    let RestoreArguments { from, data, until } = arguments;
    let (chain, loose) = chain(from, until.as_ref())?;
    fs::create_dir_all(data).with_context(|| format!("{} cannot be made", data.display()))?;
    let (whole, more) = chain.parts();
    let bar = bar(output);
    let restored = backup::restore(
        whole,
        more,
        &data.join(STORE_FILE),
        key.as_ref(),
        &take_apart,
        rand::random,
        &mut |bytes| {
            bar.set_position(bytes);
        },
    );
    bar.finish_and_clear();
    let restored = restored?;
    restored.partly.iter().cloned().chain(unused(&loose)).for_each(|text| output.note(&text));
    output.result(&restored_json(&restored), || {
        format!(
            "{}\nEverything that the relay had then is there. What came after is there again when \
             a replica that has it connects; what no replica has is lost.\nStart it with: rejoin \
             relay --data {}",
            held(&restored),
            data.display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn take_apart(snapshot: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    take_apart_in_process(snapshot).map_err(|error| error.to_string())
}

/// The backups that a path names.
///
/// Beside them those of a folder that are of no use: something that they follow is missing.
fn chain(from: &Path, until: Option<&Since>) -> Result<(Chain, Vec<PathBuf>)> {
    if !from.is_dir() {
        if until.is_some() {
            bail!("--until chooses from a folder of backups, and this is one backup");
        }
        return Ok((backup::alone(from)?, Vec::new()));
    }
    let Found { chains, loose } = backup::chains(from)?;
    if let Some(chain) = chains.iter().find(|chain| chain.last().relay != chains[0].last().relay) {
        bail!(
            "{} has backups of several relays, as {} of another; name a folder with those of one",
            from.display(),
            chain.files[0].display()
        );
    }
    let last = match until {
        None => chains.into_iter().next_back(),
        Some(Since(until_s)) => {
            let until_ms = u64::try_from(*until_s).unwrap_or_default().saturating_mul(1000);
            chains.into_iter().rev().find_map(|chain| chain.until(until_ms))
        }
    };
    let last = last.with_context(|| match until {
        None => format!("there is no whole backup in {}", from.display()),
        Some(_) => format!("there is no whole backup in {} from before that time", from.display()),
    })?;
    Ok((last, loose))
}

/// Backups of no use, in words.
fn unused(loose: &[PathBuf]) -> Option<String> {
    let first = loose.first()?;
    let (number, first) = (count(loose.len() as u64, "backup"), first.display());
    Some(format!(
        "{number} in the folder left out, as {first}: one before is missing, or it cannot be read"
    ))
}

fn restored_json(restored: &Restored) -> Value {
    json!({
        "documents": restored.documents,
        "changes": restored.changes,
        "at": rfc3339(restored.header.unix_ms as i64 / 1000),
        "incremental": restored.followed,
        "partly": restored.partly,
    })
}

fn held(restored: &Restored) -> String {
    let more = match restored.followed {
        0 => String::new(),
        followed => format!(", with {}", count(followed as u64, "incremental backup")),
    };
    format!(
        "{} and {}, as of {}{more}",
        count(restored.documents, "document"),
        count(restored.changes, "change"),
        clock_of_ms(restored.header.unix_ms as i64)
    )
}

/// Progress in bytes, on standard error.
fn bar(output: Output) -> ProgressBar {
    let bar = match output.is_json() {
        true => ProgressBar::hidden(),
        false => ProgressBar::new_spinner(),
    };
    bar.set_style(
        ProgressStyle::with_template("{spinner} {bytes} {binary_bytes_per_sec}")
            .expect("the template is one that the library knows"),
    );
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
