//! A replica's session over a real WebSocket.

use std::net::SocketAddr;

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ROOT};
use futures_util::{SinkExt, StreamExt};
use rejoin_core::session::{Opening, ReplicaEvent, ReplicaSession, SpaceStart};
use rejoin_core::wire::{Bye, Cursor, Frame, PROTOCOL};
use rejoin_core::{CollectionName, DeviceId, DocumentId, SpaceName};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub(crate) struct Replica {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) session: ReplicaSession,
    pub(crate) cursor: Option<Cursor>,
    edits: AutoCommit,
}

/// How a connection ended, as the replica sees it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) bye: Option<Bye>,
    pub(crate) close: Option<CloseFrame>,
}

impl Replica {
    /// Dials and says Hello.
    pub(crate) async fn dial(address: SocketAddr, actor: u8) -> Self {
        let mut request = format!("ws://{address}/sync").into_client_request().unwrap();
        let protocol = PROTOCOL.parse().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let (socket, _) = connect_async(request).await.unwrap();
        let name = SpaceName::new("acme").unwrap();
        let start = SpaceStart { name, cursor: None, holds: false, begun: Vec::new() };
        let opening = Opening {
            device: DeviceId([actor; 16]),
            token: None,
            app: None,
            identity: None,
            spaces: vec![start],
            pushes: 0,
            upload: None,
            waiting: 0,
        };
        let session = ReplicaSession::new(0, opening);
        let edits = AutoCommit::new().with_actor(ActorId::from([actor; 16]));
        Self { socket, session, cursor: None, edits }
    }

    /// Pushes one new change of a document of its own.
    pub(crate) fn edit(&mut self, ticket: u64) -> Vec<u8> {
        self.edits.put(ROOT, "ticket", ticket).unwrap();
        self.edits.commit();
        let chunk = self.edits.get_last_local_change().unwrap().raw_bytes().to_vec();
        let actor = self.edits.get_actor().to_bytes()[0];
        let document = DocumentId::from_random([actor; 16]);
        let jobs = CollectionName::new("jobs").unwrap();
        self.session.push(ticket, 0, document, jobs, vec![chunk.clone()]);
        chunk
    }

    /// Sends what the session has to say.
    pub(crate) async fn send(&mut self) {
        while let Some(frame) = self.session.poll_transmit() {
            self.socket.send(Message::Binary(frame.encode().into())).await.unwrap();
        }
    }

    /// Works until an event of interest comes.
    pub(crate) async fn until<T>(&mut self, found: impl Fn(&ReplicaEvent) -> Option<T>) -> T {
        loop {
            self.send().await;
            while let Some(event) = self.session.poll_event() {
                if let ReplicaEvent::Checkpoint { cursor, .. } = &event {
                    self.cursor = Some(*cursor);
                }
                if let Some(found) = found(&event) {
                    return found;
                }
            }
            let message = self.socket.next().await.expect("still open").unwrap();
            if let Message::Binary(bytes) = message {
                let frame = Frame::decode(&bytes).unwrap().expect("a frame of this version");
                self.session.handle_frame(frame).unwrap();
            }
        }
    }

    pub(crate) async fn until_acked(&mut self, wanted: u64) {
        self.until(|event| match event {
            ReplicaEvent::Acked { ticket } if *ticket == wanted => Some(()),
            _ => None,
        })
        .await;
    }

    pub(crate) async fn until_received(&mut self) -> Vec<Vec<u8>> {
        self.until(|event| match event {
            ReplicaEvent::Received { changes, .. } => Some(changes.clone()),
            _ => None,
        })
        .await
    }

    /// Reads until the relay hangs up.
    pub(crate) async fn until_closed(&mut self) -> Ended {
        let mut ended = Ended { bye: None, close: None };
        while let Some(Ok(message)) = self.socket.next().await {
            match message {
                Message::Binary(bytes) => match Frame::decode(&bytes).unwrap() {
                    Some(Frame::Bye(bye)) => ended.bye = Some(bye),
                    _ => continue,
                },
                Message::Close(close) => {
                    ended.close = close;
                    break;
                }
                _ => {}
            }
        }
        ended
    }
}
