//! The socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tracing::warn;

use super::{ControlError, socket};
use crate::run::{Answer, Ask, Operator};

/// Answers what comes on the socket of a data folder, for as long as it is polled. The outboxes must
/// be open: whoever has them owns the socket.
///
/// # Errors
/// The socket cannot be made.
pub async fn serve(operator: Operator, data: &Path) -> io::Result<()> {
    let path = socket(data);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let operator = Arc::new(operator);
    loop {
        let (stream, _) = listener.accept().await?;
        let operator = Arc::clone(&operator);
        tokio::spawn(async move {
            if let Err(error) = answer(&operator, stream).await {
                warn!(%error, "a command was not answered");
            }
        });
    }
}

async fn answer(operator: &Operator, stream: UnixStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(ASK_BYTES_MAX));
    timeout(PATIENCE, reader.read_line(&mut line))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let reply = match serde_json::from_str::<Ask>(&line) {
        Ok(ask) => match operator.ask(&ask).await {
            Ok(answer) => Reply::Ok(answer),
            Err(error) => Reply::Error(error.to_string()),
        },
        Err(error) => Reply::Error(format!("not a command: {error}")),
    };
    writer.write_all(format!("{}\n", serde_json::to_string(&reply)?).as_bytes()).await
}

/// What is written back.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Ok(Answer),
    Error(String),
}

/// Asks adapters that run in a data folder.
///
/// # Errors
/// None run there, they do not answer, they refuse, or they are of another version.
pub async fn ask(data: &Path, ask: &Ask) -> Result<Answer, ControlError> {
    let stream = UnixStream::connect(socket(data)).await.map_err(|_| ControlError::NotRunning)?;
    let asked = async {
        let (reader, mut writer) = stream.into_split();
        let line = serde_json::to_string(ask)?;
        writer.write_all(format!("{line}\n").as_bytes()).await?;
        let mut reply = String::new();
        BufReader::new(reader).read_line(&mut reply).await?;
        // Whoever ends in the middle of an answer gave none.
        match reply.ends_with('\n') {
            true => Ok(reply),
            false => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    };
    let silent = || io::Error::from(io::ErrorKind::TimedOut);
    let patience = if ask.reads_everything() { PATIENCE_FOR_ALL } else { PATIENCE };
    let reply = timeout(patience, asked).await.unwrap_or_else(|_| Err(silent()));
    match serde_json::from_str(&reply.map_err(ControlError::Silent)?) {
        Ok(Reply::Ok(answer)) => Ok(answer),
        Ok(Reply::Error(error)) => Err(ControlError::Refused(error)),
        Err(_) => Err(ControlError::AnotherVersion),
    }
}

/// Bytes of a command.
const ASK_BYTES_MAX: u64 = 4 << 20;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one may take for which every document is read.
const PATIENCE_FOR_ALL: Duration = Duration::from_hours(4);
