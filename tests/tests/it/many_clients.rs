//! Two thousand clients that come back at once.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rejoin::{Replica, SpaceName};
use rejoin_core::DeviceId;
use rejoin_core::wire::{Frame, Hello, PROTOCOL, SpaceWanted};
use rejoin_tests::hostile::peak;
use rejoin_tests::processes::RelayProcess;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const CLIENTS: usize = 2_000;

/// Bytes of memory that the relay may come to.
const MEMORY_MAX: u64 = 512 << 20;

/// Dials until it is in, tells so, and stays until the connection breaks; and again.
async fn client(url: String, number: usize, told: mpsc::Sender<usize>) {
    loop {
        // The port is nobody's while the relay is down.
        if session(&url, number, &told).await.is_none() {
            sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn session(url: &str, number: usize, told: &mpsc::Sender<usize>) -> Option<()> {
    let mut request = url.into_client_request().expect("an address");
    request.headers_mut().insert("sec-websocket-protocol", PROTOCOL.parse().expect("a header"));
    let (mut socket, _) = connect_async(request).await.ok()?;
    let mut device = [0; 16];
    device[..8].copy_from_slice(&(number as u64).to_le_bytes());
    let name = SpaceName::new("main").expect("a name");
    let hello = Hello {
        token: None,
        device: DeviceId(device),
        spaces: vec![SpaceWanted { name, cursor: None, holds: true, begun: None }],
        pushes: 0,
        app: Some("crowd".to_owned()),
        identity: None,
        upload: None,
        short: Some(true),
        waiting: None,
    };
    socket.send(Message::Binary(Frame::Hello(hello).encode().into())).await.ok()?;
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(bytes) = message
            && let Ok(Some(Frame::Welcome(_))) = Frame::decode(&bytes)
        {
            told.send(number).await.ok()?;
        }
    }
    Some(())
}

/// Waits until every client is in.
async fn all_in(told: &mut mpsc::Receiver<usize>) {
    let mut waiting = vec![true; CLIENTS];
    let mut left = CLIENTS;
    while left > 0 {
        let number = told.recv().await.expect("clients go on");
        left -= usize::from(std::mem::replace(&mut waiting[number], false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_clients_come_back_at_once_and_hurt_nobody() {
    rlimit::increase_nofile_limit(16_384).expect("sockets for all");
    let folder = tempfile::tempdir().expect("a folder");
    let mut relay = RelayProcess::start(folder.path().join("relay"));
    let (tell, mut told) = mpsc::channel(CLIENTS);
    let url = format!("{}/sync", relay.url());
    let clients =
        (0..CLIENTS).map(|number| tokio::spawn(client(url.clone(), number, tell.clone())));
    let clients: Vec<_> = clients.collect();
    all_in(&mut told).await;

    let replica = Replica::open(folder.path().join("desk.redb")).await.expect("a replica");
    let main = replica.space("main").expect("a name");
    replica.connect(&relay.url(), &[&main]).await.expect("an address");
    let jobs = main.collection("jobs").expect("a name");
    let job = jobs.create("1", &json!({ "status": "booked" })).await.expect("a document");
    let edit = async |number: usize| {
        let begun = Instant::now();
        let edited = job.set("number", number).await.expect("an edit");
        edited.saved().await.expect("the relay has it");
        begun.elapsed()
    };
    edit(0).await;
    relay.kill9();
    let begun = Instant::now();
    relay.restart();
    let edits = async {
        let mut took = Vec::new();
        for number in 1..100 {
            took.push(edit(number).await);
            sleep(Duration::from_millis(50)).await;
        }
        took.sort_unstable();
        took
    };
    let back = async {
        all_in(&mut told).await;
        begun.elapsed()
    };
    let (took, back) = tokio::join!(edits, back);
    let peak = peak(relay.id()).expect("there is /proc");
    println!(
        "{CLIENTS} are back after {:.1} s; edits of another meanwhile: median {:?}, 99 % {:?}; the \
         relay came to {} MiB",
        back.as_secs_f64(),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        peak >> 20
    );
    assert!(peak <= MEMORY_MAX, "{} MiB", peak >> 20);
    clients.iter().for_each(|client| client.abort());
    replica.close().await;
}
