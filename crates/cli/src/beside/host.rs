//! A replica that is open in this process, for all the commands it carries out.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use rejoin::{Replica, Space, SpaceName};
use tokio::sync::Mutex;

/// An open replica, which commands share.
pub(crate) struct Host {
    pub(crate) replica: Replica,
    link: Mutex<Link>,
}

/// The relay that commands want the replica to be connected to.
#[derive(Debug, Default)]
struct Link {
    relay: Option<String>,
    spaces: BTreeSet<SpaceName>,
    /// Commands that want it.
    wanted: usize,
}

impl Host {
    pub(crate) fn new(replica: Replica) -> Self {
        Self { replica, link: Mutex::default() }
    }

    /// Connects to a relay until [`disconnect`](Self::disconnect), which every command that wanted it
    /// calls.
    pub(crate) async fn connect(&self, relay: &str, space: &Space) -> Result<()> {
        let mut link = self.link.lock().await;
        if let Some(other) = link.relay.as_ref().filter(|other| *other != relay) {
            let process = std::process::id();
            bail!(
                "process {process} has this replica open and syncs it with {other}; end that, or \
                 name the same relay"
            );
        }
        if link.relay.is_none() || !link.spaces.contains(space.name()) {
            self.replica.connect(relay, &[space]).await?;
            link.relay = Some(relay.to_owned());
            link.spaces.insert(space.name().clone());
        }
        link.wanted += 1;
        Ok(())
    }

    /// Lets go of the relay, which is left when nobody wants it any more.
    pub(crate) async fn disconnect(&self) {
        let mut link = self.link.lock().await;
        link.wanted = link.wanted.saturating_sub(1);
        if link.wanted == 0 {
            *link = Link::default();
            self.replica.disconnect().await;
        }
    }

    /// Whether a command wants it to be connected.
    pub(crate) async fn is_connected(&self) -> bool {
        self.link.lock().await.wanted > 0
    }
}
