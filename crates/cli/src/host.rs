//! A replica that is open in this process, for all the commands that the process carries out.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use rejoin::{Replica, Space, SpaceName};
use tokio::sync::Mutex;

use crate::sign_in::SignInArguments;

/// An open replica, which commands share.
pub(crate) struct Host {
    pub(crate) replica: Replica,
    link: Mutex<Link>,
}

/// The relay that commands want the replica to be connected to, and the spaces they want to sync.
#[derive(Debug, Default)]
struct Link {
    relay: Option<String>,
    spaces: BTreeSet<SpaceName>,
    /// How many commands want the connection.
    wanted: usize,
}

impl Host {
    pub(crate) fn new(replica: Replica) -> Self {
        Self { replica, link: Mutex::default() }
    }

    /// Connects to a relay. Every command that called this calls [`disconnect`](Self::disconnect) at
    /// its end.
    pub(crate) async fn connect(
        &self,
        relay: &str,
        sign_in: &SignInArguments,
        space: &Space,
    ) -> Result<()> {
        let mut link = self.link.lock().await;
        if let Some(other) = link.relay.as_ref().filter(|other| *other != relay) {
            let process = std::process::id();
            bail!(
                "process {process} has this replica open and syncs it with {other}; end that, or \
                 name the same relay"
            );
        }
        if link.relay.is_none() || !link.spaces.contains(space.name()) {
            self.replica.connect(sign_in.relay(relay)?, &[space]).await?;
            link.relay = Some(relay.to_owned());
            link.spaces.insert(space.name().clone());
        }
        link.wanted += 1;
        Ok(())
    }

    /// Ends one command's wish for the connection. The relay is left when no command wishes for it
    /// any more.
    pub(crate) async fn disconnect(&self) {
        let mut link = self.link.lock().await;
        link.wanted = link.wanted.saturating_sub(1);
        if link.wanted == 0 {
            *link = Link::default();
            self.replica.disconnect().await;
        }
    }

    /// Whether any command wants the replica to be connected.
    pub(crate) async fn is_connected(&self) -> bool {
        self.link.lock().await.wanted > 0
    }
}
