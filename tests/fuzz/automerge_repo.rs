//! Messages of automerge-repo, as anybody may send them: `cargo xtask fuzz`.
//!
//! The first byte of an input says what the others are, a frame or the sync message in one. Whatever
//! comes is an error or a message; a message is read again as it is written, and can be answered.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rejoin_core::ChangeGraph;
use rejoin_core::automerge_repo::{Conversation, Orphans, RepoFrame, SyncMessage, Takes};
use rejoin_core::change;

fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((0, bytes)) => frame(bytes),
        Some((1, bytes)) => message(bytes),
        _ => {}
    }
});

fn frame(bytes: &[u8]) {
    let Ok(frame) = RepoFrame::decode(bytes) else { return };
    let written = frame.encode();
    assert_eq!(RepoFrame::decode(&written).ok().as_ref(), Some(&frame));
    if let RepoFrame::Sync(sync) = frame {
        message(sync.data);
    }
}

fn message(bytes: &[u8]) {
    let Ok(message) = SyncMessage::decode(bytes) else { return };
    let written = message.encode();
    assert_eq!(SyncMessage::decode(&written).as_ref(), Ok(&message));
    let mut graph = ChangeGraph::new();
    let mut orphans = Orphans::default();
    let _ = SyncMessage::is_document(bytes);
    let chunks = message.changes.iter().flat_map(|item| change::chunks(item).map_while(Result::ok));
    let came = chunks.filter_map(|(_, chunk)| {
        let change = change::parse(chunk).ok()?;
        Some((change, chunk.to_vec()))
    });
    for (change, _) in orphans.sort(&graph, came.collect()) {
        let _ = graph.insert((&change).into());
    }
    let mut conversation = Conversation::default();
    conversation.receive(&message, &graph);
    if let Some(owed) = conversation.owed(&graph, &orphans) {
        let answer = conversation.tell(&graph, owed, 0, Vec::new(), false, Takes::Changes);
        assert!(SyncMessage::decode(&answer.encode()).is_ok());
    }
}
