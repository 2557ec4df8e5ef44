//! The arguments by which a command line names its replica, its space and its document, and how they
//! are typed again in the texts that commands print.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use rejoin::{Key, ReplicaFile};

use crate::acting::Acting;
use crate::caller::Terminal;
use crate::layout::one_line;

/// Which documents a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceArguments {
    /// The file with this device's copy
    #[arg(long, global = true, env = "REJOIN_REPLICA", value_name = "FILE", help_heading = GLOBAL)]
    pub(crate) replica: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) key: KeyArguments,
    /// The space: what is shared together
    #[arg(long, global = true, default_value = DEFAULT_SPACE, value_name = "NAME", help_heading = GLOBAL)]
    pub(crate) space: String,
    /// As whom this command acts; `rejoin whoami --user` says it for all that follow
    #[arg(long = "as", global = true, env = "REJOIN_AS", value_name = "USER[:ROLE]", help_heading = GLOBAL)]
    pub(crate) acts_as: Option<Acting>,
}

impl PlaceArguments {
    /// The file that the command line or the environment names.
    pub(crate) fn file(&self) -> Result<&Path> {
        self.replica.as_deref().context(
            "which replica? Give --replica FILE, or set REJOIN_REPLICA to the file of this device",
        )
    }

    /// That file, with the key that opens it.
    pub(crate) fn replica_file(&self) -> Result<ReplicaFile> {
        Ok(ReplicaFile::at(self.file()?).with(self.key.read()?))
    }
}

/// What opens an encrypted file.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyArguments {
    /// A file with the key that encrypts the replica, or the relay's store; `rejoin seal key` makes one
    #[arg(long, global = true, env = "REJOIN_KEY_FILE", value_name = "FILE", help_heading = GLOBAL)]
    pub(crate) key_file: Option<PathBuf>,
    /// A file with a passphrase, which goes before a key file
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

impl KeyArguments {
    /// The key, if there is one. A passphrase goes before a key, which the environment may name.
    pub(crate) fn read(&self) -> Result<Option<Key>> {
        match (&self.passphrase_file, &self.key_file) {
            (Some(path), _) => Ok(Some(Key::passphrase_file(path)?)),
            (None, Some(path)) => Ok(Some(Key::file(path)?)),
            (None, None) => Ok(None),
        }
    }

    /// The key, where nothing can be done without one.
    pub(crate) fn must_be_there(&self) -> Result<Key> {
        self.read()?.context(
            "with which key? Give --key-file FILE, which `rejoin seal key FILE` makes, or \
             --passphrase-file FILE",
        )
    }
}

#[derive(Debug, Args)]
pub(crate) struct DocumentArguments {
    /// A kind of document, such as jobs
    pub(crate) collection: String,
    /// Which document, by its natural key, or by its id if it has none
    pub(crate) key: String,
}

/// The beginning of a command line about the same replica and space, to be typed: `rejoin --replica
/// van.redb`.
pub(crate) fn command_line(place: &PlaceArguments) -> String {
    let mut line = "rejoin".to_owned();
    let from_environment = Terminal::current().replica.map(PathBuf::from);
    if let Some(file) =
        place.replica.as_ref().filter(|file| from_environment.as_ref() != Some(file))
    {
        line += &format!(" --replica {}", quoted(&file.display().to_string()));
    }
    if place.space != DEFAULT_SPACE {
        line += &format!(" --space {}", quoted(&place.space));
    }
    line
}

/// A word of a command line, with quotes around it if a shell needs them.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_alphanumeric() || "-_./=:,@%+".contains(char);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", one_line(word).replace('\'', r"'\''"))
}

/// Fails if there is no file of a replica at this path.
pub(crate) fn must_exist(file: &Path) -> Result<()> {
    match file.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => bail!(
            "there is no replica at {}; `rejoin import`, `rejoin set` and `rejoin sync` make one",
            file.display()
        ),
        Err(error) => Err(error).with_context(|| format!("{} cannot be looked at", file.display())),
    }
}

/// The space of a command line that names none.
pub(crate) const DEFAULT_SPACE: &str = "main";

/// The heading in `--help` above the options that every command has.
pub(crate) const GLOBAL: &str = "Options of every command";
