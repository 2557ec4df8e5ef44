//! A WebSocket to a server, whatever is said over it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Who does not answer for so long does not answer at all.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let address = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next());
        let stream = TcpStream::connect(address.context("no address")?).await?;
        stream.set_nodelay(true)?;
        // The paper comes in one message.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, _) = client_async_with_config(url, stream, Some(config)).await?;
        Ok(Self(socket))
    }

    /// Makes a frame ready, to go with the next [`flush`](Self::flush).
    pub(crate) async fn feed(&mut self, frame: Vec<u8>) -> Result<()> {
        Ok(self.0.feed(frame.into()).await?)
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        Ok(self.0.flush().await?)
    }

    pub(crate) async fn send(&mut self, frame: Vec<u8>) -> Result<()> {
        Ok(self.0.send(frame.into()).await?)
    }

    /// The next frame. Pings are answered on the way.
    pub(crate) async fn receive(&mut self) -> Result<Bytes> {
        loop {
            match self.0.next().await.context("the server closed the connection")?? {
                tungstenite::Message::Binary(bytes) => return Ok(bytes),
                tungstenite::Message::Close(_) => bail!("the server closed the connection"),
                _ => {}
            }
        }
    }
}
