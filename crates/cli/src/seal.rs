//! `rejoin seal`: files of replicas and relays that are encrypted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use rejoin::{Key, seal};
use serde_json::json;

use crate::confirm::confirmed;
use crate::output::Output;
use crate::place::{KeyArguments, quoted};

#[derive(Debug, Subcommand)]
pub(crate) enum SealCommand {
    /// Make a key that nobody can guess, in a new file that only its owner can read
    #[command(after_help = "\
Keep the key apart from what it encrypts, and a copy of it in a safe place: what is encrypted with a key \
that is lost is lost.")]
    Key(KeyFileArguments),
    /// Copy a file that is not encrypted into a new one that is
    #[command(after_help = "\
FROM stays as it is. Removing it later leaves its bytes on the disk until something is written over them: \
begin with an encrypted file where that matters, or encrypt the whole disk.")]
    Encrypt(CopyArguments),
    /// Copy an encrypted file into a new one that is not
    Decrypt(CopyArguments),
    /// Give an encrypted file another key, at once however large it is
    #[command(after_help = "\
--key-file or --passphrase-file names the key of now. Whoever had it may have a copy of the file from \
before, which it still opens.")]
    Rekey(RekeyArguments),
    /// Make an encrypted file unreadable for good, and remove it; this takes no key
    #[command(after_help = "\
Only the bytes that hold the file's own key are written over. A disk of flash may keep them for a while in \
blocks that it does not show: destroy the key as well, wherever it is kept.")]
    Destroy(DestroyArguments),
}

#[derive(Debug, Args)]
pub(crate) struct KeyFileArguments {
    /// The file to make
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// The file of a replica, or relay.redb in the folder of a relay that does not run
    from: PathBuf,
    /// A file that there is not yet
    to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RekeyArguments {
    /// The encrypted file
    file: PathBuf,
    /// The file with the key from now on
    #[arg(long, value_name = "FILE", required_unless_present = "new_passphrase_file")]
    new_key_file: Option<PathBuf>,
    /// The file with the passphrase from now on
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_file")]
    new_passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DestroyArguments {
    /// The encrypted file
    file: PathBuf,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(key: &KeyArguments, command: &SealCommand, output: Output) -> Result<ExitCode> {
    match command {
        SealCommand::Key(KeyFileArguments { file }) => {
            Key::make_file(file)?;
            told("key", file, output, || {
                format!("{} has a key; keep a copy of it in a safe place", file.display())
            })
        }
        SealCommand::Encrypt(CopyArguments { from, to }) => {
            seal::encrypt(from, to, &key.must_be_there()?)?;
            told("encrypted", to, output, || {
                let (from, to) = (from.display(), to.display());
                format!("{to} is {from}, encrypted; {from} is still there, and readable")
            })
        }
        SealCommand::Decrypt(CopyArguments { from, to }) => {
            seal::decrypt(from, to, &key.must_be_there()?)?;
            told("decrypted", to, output, || {
                let shown = quoted(&to.display().to_string());
                let (from, to) = (from.display(), to.display());
                format!("{to} is {from}, readable; `rejoin --replica {shown} doctor` looks it over")
            })
        }
        SealCommand::Rekey(arguments) => rekey(key, arguments, output),
        SealCommand::Destroy(arguments) => destroy(arguments, output),
    }
}

fn rekey(key: &KeyArguments, arguments: &RekeyArguments, output: Output) -> Result<ExitCode> {
    let RekeyArguments { file, new_key_file, new_passphrase_file } = arguments;
    let new = match (new_key_file, new_passphrase_file) {
        (Some(path), _) => Key::file(path)?,
        (None, Some(path)) => Key::passphrase_file(path)?,
        (None, None) => bail!("name the new key with --new-key-file or --new-passphrase-file"),
    };
    seal::change_key(file, &key.must_be_there()?, &new)?;
    told("rekeyed", file, output, || format!("{} opens with the new key only", file.display()))
}

fn destroy(arguments: &DestroyArguments, output: Output) -> Result<ExitCode> {
    let DestroyArguments { file, yes } = arguments;
    let named = file.display();
    if !yes {
        match confirmed(&format!("Destroy {named}, and all that only it has?"), output)? {
            Some(true) => {}
            Some(false) => bail!("nothing was destroyed"),
            None => bail!("nothing was destroyed; --yes says that you mean it: {named}"),
        }
    }
    seal::destroy(file)?;
    told("destroyed", file, output, || format!("{named} is gone; destroy its key as well"))
}

fn told(
    what: &str,
    file: &Path,
    output: Output,
    text: impl FnOnce() -> String,
) -> Result<ExitCode> {
    output.result(&json!({ what: file.display().to_string() }), text)?;
    Ok(ExitCode::SUCCESS)
}
