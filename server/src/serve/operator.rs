//! The operator's socket: a line of JSON each way, in the relay's folder, for its owner alone.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::database::STORE_FILE;
use super::engine::EngineHandle;
use crate::admin::{Answer, Ask, Reply, socket};
use crate::store::backup::write_whole;

/// Binds the socket. The folder's store is open here, so a socket that is there is one that a killed
/// process left.
pub(super) fn bind(data: &Path) -> io::Result<UnixListener> {
    let path = socket(data);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers for as long as it is polled.
pub(super) async fn serve(listener: UnixListener, engine: EngineHandle, data: PathBuf) {
    let owner = std::fs::metadata(socket(&data)).map(|socket| socket.uid()).ok();
    let data: Arc<Path> = data.into();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // The file's mode keeps others out already, where the system looks at it.
                let peer = stream.peer_cred().ok().map(|peer| peer.uid());
                if peer != Some(ROOT) && (peer.is_none() || peer != owner) {
                    tracing::warn!(uid = peer, "another user asked at the operator's socket");
                    continue;
                }
                let (engine, data) = (engine.clone(), Arc::clone(&data));
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &engine, &data).await {
                        let error = &error as &dyn std::error::Error;
                        tracing::debug!(error, "an operator was not answered");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "operator not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, engine: &EngineHandle, data: &Path) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(ASK_BYTES_MAX));
    let read = timeout(PATIENCE, reader.read_line(&mut line)).await;
    read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let ask: Ask = match serde_json::from_str(&line) {
        Ok(ask) => ask,
        Err(error) => {
            let text = format!("another version asks: {error}");
            return write_line(&mut writer, &Reply::Error(text)).await;
        }
    };
    // The relay tells what is erased, and not by its key.
    let is_quiet = matches!(ask, Ask::Connections | Ask::Spaces | Ask::Devices)
        || matches!(ask, Ask::Documents { .. } | Ask::Erase { .. });
    if !is_quiet {
        tracing::info!(?ask, "the operator asks");
    }
    match ask {
        Ask::Backup => back_up(&mut writer, engine).await,
        Ask::Shrink => {
            let bytes = || std::fs::metadata(data.join(STORE_FILE)).map_or(0, |file| file.len());
            let before = bytes();
            let reply = match engine.ask(ask).await {
                Ok(_) => Reply::Ok(Answer::Done(before.saturating_sub(bytes()))),
                Err(error) => Reply::Error(error),
            };
            write_line(&mut writer, &reply).await
        }
        ask => {
            let reply = engine.ask(ask).await.map_or_else(Reply::Error, Reply::Ok);
            write_line(&mut writer, &reply).await
        }
    }
}

/// Streams a whole backup. A reader that goes away ends it; one that is cut off has a backup without
/// an end, which nobody takes for whole.
async fn back_up(
    writer: &mut (impl AsyncWriteExt + Unpin),
    engine: &EngineHandle,
) -> io::Result<()> {
    let moment = match engine.moment().await {
        Some(Ok(moment)) => moment,
        Some(Err(error)) => return write_line(writer, &Reply::Error(error.to_string())).await,
        None => {
            let text = "the store is not open; look at the log".to_owned();
            return write_line(writer, &Reply::Error(text)).await;
        }
    };
    write_line(writer, &Reply::Ok(Answer::Backup)).await?;
    let (sender, mut blocks) = mpsc::channel(BLOCKS_MAX);
    let written = spawn_blocking(move || {
        let unix_ms = super::driver::unix_ms();
        write_whole(&moment, rand::random(), unix_ms, Blocks(sender), &mut |_| {})
    });
    while let Some(block) = blocks.recv().await {
        // A reader that stands still keeps the store from using its free pages again.
        let written = timeout(READER_PATIENCE, writer.write_all(&block)).await;
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
    match written.await {
        Ok(Ok(_)) => writer.flush().await,
        Ok(Err(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the backup broke off");
            Err(io::Error::other(error))
        }
        Err(panic) => Err(io::Error::other(panic)),
    }
}

async fn write_line(writer: &mut (impl AsyncWriteExt + Unpin), reply: &Reply) -> io::Result<()> {
    writer.write_all(format!("{}\n", serde_json::to_string(reply)?).as_bytes()).await
}

/// Hands blocks of bytes to a task that writes them to a socket.
struct Blocks(mpsc::Sender<Vec<u8>>);

impl io::Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(bytes.to_vec()).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The user who may do everything.
const ROOT: u32 = 0;

/// Bytes of a question.
const ASK_BYTES_MAX: u64 = 64 << 10;

/// The time that a question may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time that the reader of a backup may take for a block.
const READER_PATIENCE: Duration = Duration::from_secs(60);

/// Blocks of a backup that wait for their reader.
const BLOCKS_MAX: usize = 8;

/// The time to wait when no operator can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
