//! The replica on this device that a command works on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rejoin::{Collection, EditError, EngineOptions, Entry, Replica, Space, SpaceName};

use crate::arguments::{DEFAULT_SPACE, DocumentArguments, PlaceArguments};
use crate::beside::{Holding, Host};
use crate::caller::{Terminal, guest, sees_motion};
use crate::layout::one_line;
use crate::output::{Output, count};

/// An open replica, and the space the command is about.
///
/// What a command wrote is on disk before it prints. When this is dropped the file is closed in good
/// order: of one that was not, the next process has to look at every page before it can begin, and
/// takes none of it if one is damaged.
pub(crate) struct Local {
    pub(crate) replica: Replica,
    pub(crate) space: Space,
    host: Arc<Host>,
    /// Nothing where the replica is not this command's, but open already in the process that carries
    /// it out for somebody.
    own: Option<Own>,
    is_connected: bool,
}

/// A replica that a command of this process has opened, and has to close.
struct Own(Option<Holding>);

impl Local {
    /// Opens the replica, or makes a new one.
    pub(crate) async fn open_or_create(place: &PlaceArguments) -> Result<Self> {
        Self::open_or_create_with(place, EngineOptions::default()).await
    }

    /// The same, with limits of its own.
    pub(crate) async fn open_or_create_with(
        place: &PlaceArguments,
        options: EngineOptions,
    ) -> Result<Self> {
        SpaceName::new(place.space.as_str()).context("--space is not a name")?;
        let (host, own) = match guest() {
            Some(guest) => (Arc::clone(&guest.host), None),
            None => {
                let file = file(place)?;
                let host = Arc::new(Host::new(Replica::open_with(file, options).await?));
                let holding = Holding::listen(Arc::clone(&host), file);
                (host, Some(Own(holding)))
            }
        };
        let (replica, is_connected) = (host.replica.clone(), false);
        let space = replica.space(&place.space)?;
        let mut local = Self { replica, space, host, own, is_connected };
        if let Some(acting) = &place.acts_as {
            // What is kept is changed by `rejoin whoami` alone.
            let known = local.replica.identity()?;
            local.replica = local.replica.acting_as(acting.on_the_device_of(known));
            local.space = local.replica.space(&place.space)?;
        }
        Ok(local)
    }

    /// The same, if there is a replica.
    pub(crate) async fn open_if_there(
        place: &PlaceArguments,
        options: EngineOptions,
    ) -> Result<Option<Self>> {
        match guest().is_some() || file(place)?.exists() {
            true => Self::open_or_create_with(place, options).await.map(Some),
            false => Ok(None),
        }
    }

    /// Opens the replica. Whoever only looks does not want a new, empty one.
    pub(crate) async fn open(place: &PlaceArguments) -> Result<Self> {
        // One that is open is there, wherever its file is by now.
        if guest().is_none() {
            must_exist(file(place)?)?;
        }
        Self::open_or_create(place).await
    }

    /// Syncs the space with a relay until this is closed.
    pub(crate) async fn connect(&mut self, relay: &str) -> Result<()> {
        self.host.connect(relay, &self.space).await?;
        self.is_connected = true;
        Ok(())
    }

    /// Whether this command or another one syncs the replica with a relay.
    pub(crate) async fn is_connected(&self) -> bool {
        self.host.is_connected().await
    }

    /// Waits until every document was looked at again whose schema changed, or all of them after an
    /// update that changed the rules, and shows how far that is: half a minute for 100,000 documents.
    pub(crate) async fn caught_up(&self, output: Output) -> Result<()> {
        let all = self.replica.status().behind;
        if all >= BEHIND_TOLD {
            let documents = count(all, "document");
            output.note(&format!("looking at {documents} again, as the rules about them changed"));
        }
        let is_seen = !output.is_json() && sees_motion();
        let bar = if is_seen { ProgressBar::new(all) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len}, {eta} left");
        let bar = bar.with_style(style.expect("the template is well formed"));
        let shown = async {
            let mut behind = all;
            loop {
                behind = self.replica.status_when(|status| status.behind != behind).await?.behind;
                bar.set_position(all.saturating_sub(behind));
            }
        };
        let caught_up: Result<(), EditError> = tokio::select! {
            done = self.replica.caught_up() => done,
            closed = shown => closed,
        };
        bar.finish_and_clear();
        Ok(caught_up?)
    }

    /// A collection that has documents.
    pub(crate) fn collection(&self, name: &str) -> Result<Collection> {
        let collection = self.space.collection(name)?;
        let present = self.space.collections()?;
        if present.iter().any(|(present, _)| present == collection.name()) {
            return Ok(collection);
        }
        let space = self.space.name();
        if present.is_empty() {
            bail!(
                "there is no collection {name:?}: space {space:?} is empty here; `rejoin import` or \
                 `rejoin set` documents, or `rejoin sync` them from a relay",
                space = space.as_str()
            );
        }
        let present: Vec<_> = present
            .into_iter()
            .map(|(name, documents)| format!("{name} ({})", count(documents, "document")))
            .collect();
        bail!(
            "there is no collection {name:?}; space {:?} has {}",
            space.as_str(),
            present.join(", ")
        )
    }

    /// A document that is there and not deleted.
    pub(crate) async fn document(&self, arguments: &DocumentArguments) -> Result<rejoin::Document> {
        self.entry(arguments).await.map(|(document, _)| document)
    }

    /// The same, with what it holds.
    pub(crate) async fn entry(
        &self,
        arguments: &DocumentArguments,
    ) -> Result<(rejoin::Document, Entry)> {
        let DocumentArguments { collection: name, key } = arguments;
        let document = named(&self.collection(name)?, key)?;
        match document.read().await? {
            Some(entry) if entry.deleted => bail!(
                "{name} {key:?} is deleted; `rejoin restore` brings it back, `rejoin history` tells \
                 who deleted it"
            ),
            Some(entry) => Ok((document, entry)),
            None => bail!(
                "there is no document {key:?} in {name}; `rejoin list {name}` shows what there is, \
                 `rejoin set` makes a new one"
            ),
        }
    }

    /// Ends the session with a word to the relay, and frees the file. One that is not of this process
    /// stays as it was.
    pub(crate) async fn close(mut self) {
        self.let_go().await;
    }

    async fn let_go(&mut self) {
        if std::mem::take(&mut self.is_connected) && self.own.is_none() {
            self.host.disconnect().await;
        }
        let Some(Own(holding)) = self.own.take() else { return };
        if let Some(holding) = holding {
            holding.end().await;
        }
        self.replica.close().await;
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // It was closed already where there was a session to end.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(self.let_go());
        });
    }
}

/// The document with this natural key, or with the id that stands in its place where there is none.
pub(crate) fn named(collection: &Collection, key: &str) -> Result<rejoin::Document> {
    if !is_id(key) {
        return Ok(collection.document(key)?);
    }
    Ok(collection.document_by_id(key.parse()?))
}

/// Whether a key is the id of a document.
pub(crate) fn is_id(key: &str) -> bool {
    key.starts_with("automerge:")
}

/// How to type a command about the same place: `rejoin --replica van.redb`.
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

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_alphanumeric() || "-_./=:,@%+".contains(char);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", one_line(word).replace('\'', r"'\''"))
}

/// The file the command line or the environment names.
pub(crate) fn file(place: &PlaceArguments) -> Result<&Path> {
    place.replica.as_deref().context(
        "which replica? Give --replica FILE, or set REJOIN_REPLICA to the file of this device",
    )
}

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

/// So many documents are looked at within a second.
const BEHIND_TOLD: u64 = 2000;

/// The field that says a document is deleted.
pub(crate) const DELETED: &str = "deleted";
