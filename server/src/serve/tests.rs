//! A relay whose disk breaks while it serves.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{SinkExt, StreamExt};
use redb::backends::InMemoryBackend;
use redb::{Database, StorageBackend};
use rejoin_core::change::genesis;
use rejoin_core::session::{Opening, ReplicaEvent, ReplicaSession, SpaceStart};
use rejoin_core::wire::{ByeCode, Frame, PROTOCOL};
use rejoin_core::{CollectionName, DeviceId, DocumentId, SpaceName};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::doors::Entrance;
use super::engine::EngineThread;
use super::file::Written;
use super::ticket_office::TicketOffice;
use super::{Config, Listener, ServeError, run};
use crate::relay::{Relay, RelayOptions};

/// A disk in memory that takes no writes while it is full.
#[derive(Debug, Clone, Default)]
struct Disk {
    bytes: Arc<InMemoryBackend>,
    is_full: Arc<AtomicBool>,
}

impl Disk {
    fn write(&self, write: impl FnOnce(&InMemoryBackend) -> io::Result<()>) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        write(&self.bytes)
    }

    fn open(&self) -> Result<Relay, ServeError> {
        let path = "memory".into();
        let opened = Database::builder().create_with_backend(self.clone());
        let database = opened.map_err(|error| ServeError::Database {
            path: std::path::PathBuf::clone(&path),
            source: Box::new(error),
        })?;
        Relay::open(database, RelayOptions::default(), || [1; 16])
            .map_err(|source| ServeError::Store { path, source })
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write(|bytes| bytes.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.write(InMemoryBackend::sync_data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(|bytes| bytes.write(offset, data))
    }
}

struct Replica {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: ReplicaSession,
}

impl Replica {
    async fn dial(address: SocketAddr) -> Self {
        let mut request = format!("ws://{address}/sync").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", PROTOCOL.parse().unwrap());
        let (socket, _) = connect_async(request).await.unwrap();
        let name = SpaceName::new("acme").unwrap();
        let start = SpaceStart { name, cursor: None, holds: false, begun: Vec::new() };
        let opening = Opening {
            device: DeviceId([1; 16]),
            token: None,
            app: None,
            identity: None,
            spaces: vec![start],
            pushes: 0,
            upload: None,
            waiting: 0,
        };
        let session = ReplicaSession::new(0, opening);
        Self { socket, session }
    }

    /// Pushes the genesis of a document and says how that ended: with an acknowledgement, or with
    /// goodbye.
    async fn push(&mut self, document: u8) -> Result<(), ByeCode> {
        let id = DocumentId::from_random([document; 16]);
        let jobs = CollectionName::new("jobs").unwrap();
        self.session.push(1, 0, id, jobs, vec![genesis(&id, None)]);
        loop {
            while let Some(frame) = self.session.poll_transmit() {
                let _ = self.socket.send(Message::Binary(frame.encode().into())).await;
            }
            let message = self.socket.next().await.expect("goodbye comes first").unwrap();
            let Message::Binary(bytes) = message else { continue };
            let frame = Frame::decode(&bytes).unwrap().expect("a frame of this version");
            self.session.handle_frame(frame).unwrap();
            while let Some(event) = self.session.poll_event() {
                match event {
                    ReplicaEvent::Acked { .. } => return Ok(()),
                    ReplicaEvent::Bye(bye) => return Err(bye.code),
                    _ => {}
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_sends_everyone_away_until_there_is_room() {
    let disk = Disk::default();
    let config = Config::new("memory");
    let opener = disk.clone();
    let open = Box::new(move || opener.open());
    let (unknown, _asked) = mpsc::channel(1);
    let entrance = Entrance { doors: None, unknown };
    let engine = EngineThread::over(&config, open, Written::default(), entrance).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handle = engine.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = Listener { socket: listener, tls: None, office: TicketOffice::default() };
    let served = tokio::spawn(run(config, engine, listener, None, async {
        let _ = stopped.await;
    }));

    let mut alice = Replica::dial(address).await;
    assert_eq!(alice.push(1).await, Ok(()));
    disk.is_full.store(true, Ordering::SeqCst);
    assert_eq!(alice.push(2).await, Err(ByeCode::Unavailable));
    assert!(handle.health().await.is_none());
    assert_eq!(Replica::dial(address).await.push(2).await, Err(ByeCode::Unavailable));

    disk.is_full.store(false, Ordering::SeqCst);
    while handle.health().await.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(Replica::dial(address).await.push(2).await, Ok(()));
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
}
