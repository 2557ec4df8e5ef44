//! The relay, as a process that can be killed.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::stage::within;

/// A relay that runs. It ends when this is dropped, if it has not ended before.
pub(super) struct RelayProcess {
    child: Child,
    data: PathBuf,
    url: String,
}

impl RelayProcess {
    /// Starts a relay on a free port.
    pub(super) async fn start(data: &Path) -> Result<Self> {
        Self::start_at(data, "127.0.0.1:0").await
    }

    async fn start_at(data: &Path, address: &str) -> Result<Self> {
        let program = std::env::current_exe().context("this program does not know its own file")?;
        let mut child = Command::new(program)
            .args(["relay", "--listen", address, "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("the relay could not be started")?;
        let stdout = child.stdout.take().context("the relay has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = within("the relay to listen", lines.next_line()).await??;
        let url = line.as_deref().and_then(|line| line.strip_prefix("listening on "));
        let url = url.context("the relay ended at once")?.to_owned();
        Ok(Self { child, data: data.to_owned(), url })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Ends the process as a power cut would: it gets no chance to do anything more.
    pub(super) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("the relay could not be killed")
    }

    /// Starts a relay again that was killed, on the same folder and the same port.
    pub(super) async fn restart(&mut self) -> Result<()> {
        let address = self.url.trim_start_matches("ws://").trim_end_matches("/sync").to_owned();
        *self = Self::start_at(&self.data, &address).await?;
        Ok(())
    }
}
