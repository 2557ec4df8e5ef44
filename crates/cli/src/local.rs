//! The replica on this device that a command is about.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rejoin::sync::EngineOptions;
use rejoin::{Collection, Entry, ReadError, Replica, Space, SpaceName};

use crate::beside::Holding;
use crate::caller::{guest, sees_motion};
use crate::host::Host;
use crate::output::{Output, count};
use crate::place::{DocumentArguments, PlaceArguments, must_exist};
use crate::sign_in::SignInArguments;

/// An open replica, and the space that the command is about.
///
/// The edits of a command are on disk before the command prints. When this is dropped the file is closed
/// in good order. If it was not, the next process has to look at every page of the file before it can
/// begin, and cannot open a file of which a page is damaged.
pub(crate) struct Local {
    pub(crate) replica: Replica,
    pub(crate) space: Space,
    host: Arc<Host>,
    /// The replica as this command has opened it; `None` if this process has it open anyway, and
    /// carries the command out for a guest.
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

    /// Opens the replica, or makes a new one, with other limits than the usual ones.
    pub(crate) async fn open_or_create_with(
        place: &PlaceArguments,
        options: EngineOptions,
    ) -> Result<Self> {
        SpaceName::new(place.space.as_str()).context("--space is not a name")?;
        let (host, own) = match guest() {
            Some(guest) => (Arc::clone(&guest.host), None),
            None => {
                let file = place.file()?;
                let replica = Replica::open_with(place.replica_file()?, options).await?;
                let host = Arc::new(Host::new(replica));
                let holding = Holding::listen(Arc::clone(&host), file);
                (host, Some(Own(holding)))
            }
        };
        let (replica, is_connected) = (host.replica.clone(), false);
        let space = replica.space(&place.space)?;
        let mut local = Self { replica, space, host, own, is_connected };
        if let Some(acting) = &place.acts_as {
            // Only `rejoin whoami` changes the identity that the replica keeps.
            let known = local.replica.identity()?;
            local.replica = local.replica.acting_as(acting.on_the_device_of(known));
            local.space = local.replica.space(&place.space)?;
        }
        Ok(local)
    }

    /// Opens the replica if there is one, with other limits than the usual ones.
    pub(crate) async fn open_if_there(
        place: &PlaceArguments,
        options: EngineOptions,
    ) -> Result<Option<Self>> {
        match guest().is_some() || place.file()?.exists() {
            true => Self::open_or_create_with(place, options).await.map(Some),
            false => Ok(None),
        }
    }

    /// Opens the replica, and fails if there is none: a command that only reads has no use for a new,
    /// empty one.
    pub(crate) async fn open(place: &PlaceArguments) -> Result<Self> {
        // A replica that this process has open exists, even if its file was moved or removed.
        if guest().is_none() {
            must_exist(place.file()?)?;
        }
        Self::open_or_create(place).await
    }

    /// Syncs the space with a relay until this is closed.
    pub(crate) async fn connect(&mut self, relay: &str, sign_in: &SignInArguments) -> Result<()> {
        self.host.connect(relay, sign_in, &self.space).await?;
        self.is_connected = true;
        Ok(())
    }

    /// Whether this command or another one syncs the replica with a relay.
    pub(crate) async fn is_connected(&self) -> bool {
        self.host.is_connected().await
    }

    /// Waits until the rules were applied again to every document whose schema changed, or to all
    /// documents after an update that changed the rules. Shows a progress bar, as it takes half a
    /// minute for 100,000 documents.
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
        let caught_up: Result<(), ReadError> = tokio::select! {
            done = self.replica.caught_up() => done,
            closed = shown => closed,
        };
        bar.finish_and_clear();
        Ok(caught_up?)
    }

    /// The collection of this name, which has to have documents.
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

    /// A document that exists and is not deleted.
    pub(crate) async fn document(&self, arguments: &DocumentArguments) -> Result<rejoin::Document> {
        self.entry(arguments).await.map(|(document, _)| document)
    }

    /// A document that exists and is not deleted, with its content.
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

    /// A document that exists, or that is deleted, with its content.
    pub(crate) async fn entry_or_deleted(
        &self,
        arguments: &DocumentArguments,
    ) -> Result<(rejoin::Document, Entry)> {
        let DocumentArguments { collection: name, key } = arguments;
        let document = named(&self.collection(name)?, key)?;
        let Some(entry) = document.read().await? else {
            bail!(
                "there is no document {key:?} in {name}; `rejoin list {name}` shows what there is"
            );
        };
        Ok((document, entry))
    }

    /// Ends the session with a word to the relay, and closes the file. A replica that this process
    /// has open for others too stays open.
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
        // If there was a session with a relay, `close` has ended it before, and this does nothing.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(self.let_go());
        });
    }
}

/// The document with this natural key. A document without one is named by its id, which stands in the
/// key's place.
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

/// A command tells that it looks at documents again if there are this many; fewer take less than a
/// second.
const BEHIND_TOLD: u64 = 2000;
