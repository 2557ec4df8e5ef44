//! Peers of automerge-repo over real sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use rejoin_core::automerge_repo::RepoFrame;
use rejoin_relay::Config;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::serving::Serving;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn dial(address: SocketAddr, path: &str) -> Socket {
    connect_async(format!("ws://{address}{path}")).await.unwrap().0
}

async fn join(address: SocketAddr, name: &str) -> Socket {
    let mut socket = dial(address, "/automerge").await;
    let join =
        RepoFrame::Join { sender: name, storage: None, is_ephemeral: true, speaks_version_1: true };
    socket.send(Message::Binary(join.encode().into())).await.unwrap();
    let answer = binary(&mut socket).await.expect("an answer");
    match RepoFrame::decode(&answer).unwrap() {
        RepoFrame::Peer { target, .. } => assert_eq!(target, name),
        other => panic!("{other:?}"),
    }
    socket
}

/// The next binary message; `None` at the end.
async fn binary(socket: &mut Socket) -> Option<Vec<u8>> {
    loop {
        match socket.next().await? {
            Ok(Message::Binary(bytes)) => return Some(bytes.to_vec()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_join_without_a_subprotocol_in_any_space() {
    let relay = Serving::start().await;
    let _main = join(relay.address, "anna").await;
    let _other = dial(relay.address, "/automerge/others").await;
    let long = format!("/automerge/{}", "x".repeat(100));
    let refused = relay.get(&long, &[]).await;
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("space"), "{refused}");
    let evil = relay.get("/automerge", &[("Origin", "https://evil.example")]).await;
    assert!(evil.starts_with("HTTP/1.1 403"), "{evil}");
    relay.stop().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_gets_an_error_and_the_end() {
    let relay = Serving::start().await;
    let mut other = join(relay.address, "other").await;
    for message in [Message::Text("hello".into()), Message::Binary(vec![1, 2, 3].into())] {
        let mut socket = join(relay.address, "anna").await;
        socket.send(message).await.unwrap();
        let answer = binary(&mut socket).await.expect("a word why");
        match RepoFrame::decode(&answer).unwrap() {
            RepoFrame::Error { message, .. } => assert!(!message.is_empty()),
            other => panic!("{other:?}"),
        }
        assert_eq!(binary(&mut socket).await, None);
    }
    // The other one is still served: it is told why it goes when it joins twice.
    let leave = RepoFrame::Peer { sender: "other", target: "", storage: "" };
    other.send(Message::Binary(leave.encode().into())).await.unwrap();
    assert!(binary(&mut other).await.is_some());
    relay.stop().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_pinged_and_those_that_are_gone_noticed() {
    let data = tempfile::tempdir().unwrap();
    let mut config = Config::new(data.path());
    config.peer_ping_interval = Duration::from_millis(20);
    config.ping_interval = Duration::from_secs(3600);
    let relay = Serving::with(config).await;
    let mut living = join(relay.address, "living").await;
    let _gone = join(relay.address, "gone").await;
    let mut pings = 0;
    loop {
        // Reading answers pings, which is what the other one does not do.
        match tokio::time::timeout(Duration::from_secs(10), living.next()).await {
            Ok(Some(Ok(Message::Ping(_)))) => pings += 1,
            Ok(Some(Ok(_))) => {}
            ended => panic!("{ended:?} after {pings} pings"),
        }
        if pings > 3 && relay.get("/healthz", &[]).await.contains("\"sessions\":1") {
            break;
        }
    }
    relay.stop().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_a_long_message_slowly_is_not_taken_for_dead() {
    let data = tempfile::tempdir().unwrap();
    let mut config = Config::new(data.path());
    config.peer_ping_interval = Duration::from_millis(300);
    let relay = Serving::with(config).await;
    let socket = join(relay.address, "slow").await;
    let MaybeTlsStream::Plain(mut socket) = socket.into_inner() else { panic!("no TLS here") };
    // A masked binary message of 1 MiB, of which no end comes.
    socket.write_all(&[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 2, 3, 4]).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        socket.write_all(&[0]).await.unwrap();
        let health = relay.get("/healthz", &[]).await;
        assert!(health.contains("\"sessions\":1"), "{health} after {:?}", begun.elapsed());
    }
    // Now it says nothing more.
    while !relay.get("/healthz", &[]).await.contains("\"sessions\":0") {
        tokio::task::yield_now().await;
    }
    relay.stop().await.unwrap().unwrap();
}
