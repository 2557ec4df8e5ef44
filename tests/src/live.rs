//! A relay served on a loopback port, for replicas that dial it over real sockets.

use std::net::SocketAddr;
use std::path::PathBuf;

use rejoin_relay::{Config, ServeError, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A served relay.
#[derive(Debug)]
pub struct LiveRelay {
    data: PathBuf,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl LiveRelay {
    /// Serves a relay on a free port.
    pub async fn start(data: impl Into<PathBuf>) -> Self {
        Self::start_at(data.into(), "127.0.0.1:0").await
    }

    /// Stops the relay and serves it again on the same port.
    pub async fn restart(self) -> Self {
        let (data, address) = (self.data.clone(), self.address);
        self.stop().await;
        Self::start_at(data, &address.to_string()).await
    }

    /// Stops the relay in good order.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.served.await.unwrap().unwrap();
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    async fn start_at(data: PathBuf, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let config = Config::new(&data);
        let served = tokio::spawn(serve(config, listener, async {
            let _ = stopped.await;
        }));
        Self { data, address, stop, served }
    }
}
