//! A relay that serves until it is told to stop.

use std::net::SocketAddr;
use std::path::Path;

use rejoin_relay::{Config, ServeError, serve};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
    _data: Option<TempDir>,
}

impl Serving {
    /// A new relay with the defaults.
    pub(crate) async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut serving = Self::over(data.path()).await;
        serving._data = Some(data);
        serving
    }

    /// The relay in this folder.
    pub(crate) async fn over(data: &Path) -> Self {
        Self::with(Config::new(data)).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(config, listener, async {
            let _ = stopped.await;
        }));
        Self { address, stop, served, _data: None }
    }

    /// Tells it to stop; the handle resolves when it has.
    pub(crate) fn stop(self) -> JoinHandle<Result<(), ServeError>> {
        self.stop.send(()).unwrap();
        self.served
    }

    /// Waits for it to end by itself.
    pub(crate) async fn ended(self) -> Result<(), ServeError> {
        self.served.await.unwrap()
    }

    /// A plain HTTP request; the whole answer as text.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !headers.iter().any(|(name, _)| *name == "Connection") {
            request.push_str("Connection: close\r\n");
        }
        request.push_str("\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}
