//! The socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tracing::warn;

use super::{ControlError, socket};
use crate::run::{Ask, Operator};

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
    let answer = match serde_json::from_str::<Ask>(&line) {
        Ok(ask) => match operator.ask(&ask).await {
            Ok(answer) => json!({ "ok": answer }),
            Err(error) => json!({ "error": error.to_string() }),
        },
        Err(error) => json!({ "error": format!("not a command: {error}") }),
    };
    writer.write_all(format!("{answer}\n").as_bytes()).await
}

/// Asks adapters that run in a data folder.
///
/// # Errors
/// None run there, they do not answer, or they refuse.
pub async fn ask(data: &Path, ask: &Ask) -> Result<Value, ControlError> {
    let stream = UnixStream::connect(socket(data)).await.map_err(|_| ControlError::NotRunning)?;
    let asked = async {
        let (reader, mut writer) = stream.into_split();
        let line = serde_json::to_string(ask)?;
        writer.write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(reader).read_line(&mut answer).await?;
        Ok(serde_json::from_str::<Value>(&answer)?)
    };
    let silent = || io::Error::from(io::ErrorKind::TimedOut);
    let patience = if ask.reads_everything() { PATIENCE_FOR_ALL } else { PATIENCE };
    let answer = timeout(patience, asked).await.unwrap_or_else(|_| Err(silent()));
    let mut answer = answer.map_err(ControlError::Silent)?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(ControlError::Refused(error.to_owned())),
        None => Ok(answer["ok"].take()),
    }
}

/// Bytes of a command.
const ASK_BYTES_MAX: u64 = 4 << 20;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one may take for which every document is read.
const PATIENCE_FOR_ALL: Duration = Duration::from_hours(4);
