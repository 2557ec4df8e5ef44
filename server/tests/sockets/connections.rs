//! What connections may do, and what ends them.

use std::process::Command;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rejoin_core::limits::FRAME_BYTES_MAX;
use rejoin_core::wire::{ByeCode, Frame, OLD_PROTOCOL, PROTOCOL, old_bye};
use rejoin_relay::Config;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::replica::Replica;
use crate::serving::Serving;

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_reaches_another_replica() {
    let relay = Serving::start().await;
    let mut alice = Replica::dial(relay.address, 1).await;
    let mut bob = Replica::dial(relay.address, 2).await;
    let chunk = alice.edit(1);
    alice.until_acked(1).await;
    assert_eq!(bob.until_received().await, [chunk]);
    relay.stop().await.unwrap().unwrap();
}

/// Each of these is said by one session while another works on, before and after.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_end_their_session_and_no_other() {
    let relay = Serving::start().await;
    let mut alice = Replica::dial(relay.address, 1).await;
    let whole = Frame::Ack(rejoin_core::wire::Ack { n: 1 }).encode();
    let malformed = [
        ("truncated", Message::Binary(whole[..whole.len() - 1].to_vec().into())),
        ("empty", Message::Binary(Vec::new().into())),
        ("not CBOR", Message::Binary(vec![0xff; 100].into())),
        ("a count beyond the message", Message::Binary(vec![0x9a, 0xff, 0xff, 0xff, 0xff].into())),
        ("deeply nested", Message::Binary(vec![0x81; 100_000].into())),
        ("no frame of a replica", Message::Binary(whole.into())),
        ("text", Message::Text("hello".into())),
        ("oversized", Message::Binary(vec![0; FRAME_BYTES_MAX + 1].into())),
    ];
    for (ticket, (what, message)) in malformed.into_iter().enumerate() {
        let mut mallory = Replica::dial(relay.address, 9).await;
        mallory.send().await;
        // The relay may hang up before an oversized message is all written.
        let _ = mallory.socket.send(message).await;
        let ended = mallory.until_closed().await;
        let bye = ended.bye.unwrap_or_else(|| panic!("{what}: closed without a reason"));
        assert_eq!(bye.code, ByeCode::Protocol, "{what}");
        assert!(!bye.message.is_empty(), "{what}");
        alice.edit(ticket as u64);
        alice.until_acked(ticket as u64).await;
    }
    relay.stop().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_subprotocol_is_told_which_to_ask_for() {
    let relay = Serving::start().await;
    let mut upgrade = vec![
        ("Connection", "upgrade, close"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let none = relay.get("/sync", &upgrade).await;
    upgrade.push(("Sec-WebSocket-Protocol", "rejoin.v0"));
    let other = relay.get("/sync", &upgrade).await;
    for answer in [none, other] {
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains(PROTOCOL), "{answer}");
    }
    relay.stop().await.unwrap().unwrap();
}

/// A replica of the version before says Hello as it always did, and is told in its own words.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_the_version_before_is_told_to_update_and_hung_up_on() {
    let relay = Serving::start().await;
    let mut request = format!("ws://{}/sync", relay.address).into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", OLD_PROTOCOL.parse().unwrap());
    let (mut socket, answer) = connect_async(request).await.unwrap();
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], OLD_PROTOCOL);
    // [0, [{1: device, 2: [{0: "acme", 2: false}], 3: 0}]], as that version wrote it.
    let mut hello = vec![0x82, 0x00, 0x81, 0xa3, 0x01, 0x50];
    hello.extend([7; 16]);
    hello.extend([0x02, 0x81, 0xa2, 0x00, 0x64]);
    hello.extend(b"acme");
    hello.extend([0x02, 0xf4, 0x03, 0x00]);
    socket.send(Message::Binary(hello.into())).await.unwrap();
    let mut said = Vec::new();
    let mut closed = false;
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Binary(bytes)) => said.push(bytes.to_vec()),
            Ok(Message::Close(_)) => closed = true,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(said, [old_bye()]);
    assert!(closed, "with a close frame");
    let health = relay.get("/healthz", &[]).await;
    assert!(health.contains("\"sessions\":0"), "{health}");
    // Who speaks both gets the later one.
    let mut request = format!("ws://{}/sync", relay.address).into_client_request().unwrap();
    let both = format!("{OLD_PROTOCOL}, {PROTOCOL}").parse().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", both);
    let (_socket, answer) = connect_async(request).await.unwrap();
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], PROTOCOL);
    relay.stop().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_gets_no_session() {
    let relay = Serving::start().await;
    let evil = relay.get("/sync", &[("Origin", "https://evil.example")]).await;
    assert!(evil.starts_with("HTTP/1.1 403"), "{evil}");
    let own = relay.get("/sync", &[("Origin", "http://localhost:8080")]).await;
    assert!(!own.starts_with("HTTP/1.1 403"), "{own}");
    relay.stop().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_says_goodbye_and_keeps_what_was_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let relay = Serving::over(data.path()).await;
    let mut alice = Replica::dial(relay.address, 1).await;
    let chunk = alice.edit(1);
    alice.until_acked(1).await;
    let stopped = relay.stop();
    let ended = alice.until_closed().await;
    let bye = ended.bye.unwrap();
    assert_eq!(bye.code, ByeCode::Stopping);
    assert!(bye.retry_after_ms > 0);
    assert_eq!(u16::from(ended.close.unwrap().code), 1001);
    stopped.await.unwrap().unwrap();

    let relay = Serving::over(data.path()).await;
    let mut bob = Replica::dial(relay.address, 2).await;
    assert_eq!(bob.until_received().await, [chunk]);
    relay.stop().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_read_holds_up_nobody() {
    let relay = Serving::start().await;
    let mut slow = Replica::dial(relay.address, 8).await;
    slow.send().await;
    let mut alice = Replica::dial(relay.address, 1).await;
    let mut bob = Replica::dial(relay.address, 2).await;
    for ticket in 0..500 {
        alice.edit(ticket);
        alice.until_acked(ticket).await;
        bob.until_received().await;
    }
    // Whatever it missed, it gets when it reads.
    let mut received = 0;
    while received < 500 {
        received += slow.until_received().await.len();
    }
    relay.stop().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_gone_without_a_word_is_noticed() {
    let data = tempfile::tempdir().unwrap();
    let mut config = Config::new(data.path());
    config.ping_interval = Duration::from_millis(20);
    let relay = Serving::with(config).await;
    let mut alice = Replica::dial(relay.address, 1).await;
    alice.send().await;
    // Its WebSocket is not polled, so pings are not answered; the socket stays open.
    loop {
        let health = relay.get("/healthz", &[]).await;
        if health.contains("\"sessions\":0") {
            break;
        }
        tokio::task::yield_now().await;
    }
    relay.stop().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_process_that_fails_costs_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let mut config = Config::new(data.path());
    let policy = config.options.compaction.as_mut().unwrap();
    (policy.changes_min, policy.quiet_ms) = (1, 0);
    let command = vec!["false".into()];
    assert!(Command::new("false").status().is_ok());
    let time_limit = Duration::from_secs(60);
    config.compaction_worker = Some(rejoin_relay::WorkerProcess { command, time_limit });
    let relay = Serving::with(config).await;
    let mut alice = Replica::dial(relay.address, 1).await;
    for ticket in 0..20 {
        alice.edit(ticket);
        alice.until_acked(ticket).await;
    }
    relay.stop().await.unwrap().unwrap();
}
