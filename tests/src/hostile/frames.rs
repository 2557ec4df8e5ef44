//! Frames as hostile peers and those who prepare their ground send them.

use rejoin_core::automerge_repo::{Bloom, Flags, Have, RepoFrame, SyncFrame, SyncMessage};
use rejoin_core::limits::PUSHES_IN_FLIGHT_MAX;
use rejoin_core::wire::{Frame, Hello, Push, SpaceWanted, Want, Wanted};
use rejoin_core::{ChangeHash, CollectionName, DeviceId, DocumentId, ShortHash, SpaceName};

use super::connection::{Connection, Ear, Language};

/// The space that is attacked. Honest peers have another one at the same relay.
pub(super) const SPACE: &str = "siege";

pub(super) fn space(name: &str) -> SpaceName {
    SpaceName::new(name).expect("a short name")
}

/// Bytes of pushes that wait for an answer while the ground is prepared.
const UNDER_WAY: usize = 1 << 20;

/// A document by its number.
pub(super) fn numbered(number: u64) -> DocumentId {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    DocumentId::from_random(bytes)
}

/// A document that nobody has.
pub(super) fn unknown() -> DocumentId {
    DocumentId::from_random(rand::random())
}

/// Opens a session in these spaces, as a replica that holds something of each.
pub(super) fn hello(spaces: impl IntoIterator<Item = SpaceName>) -> Vec<u8> {
    let wanted = |name| SpaceWanted { name, cursor: None, holds: true, begun: None };
    let spaces = spaces.into_iter().map(wanted).collect();
    let (device, pushes) = (DeviceId(rand::random()), 0);
    let (token, app, identity) = (None, None, None);
    let (upload, short, waiting) = (None, None, None);
    let hello = Hello { token, device, spaces, pushes, app, identity, upload, short, waiting };
    Frame::Hello(hello).encode()
}

pub(super) fn push(space: u32, n: u64, document: DocumentId, changes: &[Vec<u8>]) -> Vec<u8> {
    let collection = CollectionName::new("documents").expect("a short name");
    let changes = changes.iter().cloned().map(Into::into).collect();
    Frame::Push(Push { space, n, document, collection, changes, piece: None }).encode()
}

/// Wants documents, as somebody who has so many heads of each that nobody else has.
pub(super) fn want(
    space: u32,
    documents: impl IntoIterator<Item = DocumentId>,
    heads: u64,
) -> Vec<u8> {
    let head = |_| ShortHash(rand::random());
    let wanted = |document| Wanted { document, heads: (0..heads).map(head).collect() };
    let documents = documents.into_iter().map(wanted).collect();
    Frame::Want(Want { space, documents, answers: false }).encode()
}

/// Puts documents into a space, and returns when the relay has them on its disk.
pub(super) async fn store(relay: &str, name: &str, documents: Vec<(DocumentId, Vec<Vec<u8>>)>) {
    let dialled = Connection::dial(relay, Language::Rejoin).await;
    let mut connection = dialled.expect("the relay listens");
    enter(&mut connection, [space(name)]).await.expect("the relay welcomes everybody");
    let (mut n, mut under_way) = (0, 0);
    let all = documents.len() as u64;
    for (document, changes) in documents {
        n += 1;
        let frame = push(0, n, document, &changes);
        under_way += frame.len();
        connection.mouth.say(frame).await.expect("the relay reads");
        // No more at once than a replica may have under way.
        if under_way >= UNDER_WAY || n % (PUSHES_IN_FLIGHT_MAX as u64 / 2) == 0 || n == all {
            acknowledged(&mut connection.ear, n).await;
            under_way = 0;
        }
    }
}

/// Opens a session in these spaces, and reads until the relay welcomes it; nothing if it does not.
pub(super) async fn enter(
    connection: &mut Connection,
    spaces: impl IntoIterator<Item = SpaceName>,
) -> Option<()> {
    connection.mouth.say(hello(spaces)).await?;
    loop {
        if let Ok(Some(Frame::Welcome(_))) = Frame::decode(&connection.ear.hear().await?) {
            return Some(());
        }
    }
}

async fn acknowledged(ear: &mut Ear, n: u64) {
    loop {
        let bytes = ear.hear().await.expect("the relay answers");
        match Frame::decode(&bytes).expect("the relay sends frames") {
            Some(Frame::Ack(ack)) if ack.n == n => break,
            Some(Frame::Refused(refused)) => panic!("it was refused: {}", refused.reason),
            _ => {}
        }
    }
}

/// Joins as a peer of automerge-repo, and returns what the relay calls itself.
pub(super) async fn join(connection: &mut Connection, me: &str) -> Option<String> {
    let storage = Some(me);
    let (is_ephemeral, speaks_version_1) = (false, true);
    let join = RepoFrame::Join { sender: me, storage, is_ephemeral, speaks_version_1 };
    connection.mouth.say(join.encode()).await?;
    let answer = connection.ear.hear().await?;
    match RepoFrame::decode(&answer) {
        Ok(RepoFrame::Peer { sender, .. }) => Some(sender.to_owned()),
        _ => None,
    }
}

/// A sync message of a peer of automerge-repo about a document.
pub(super) fn sync(me: &str, relay: &str, document: DocumentId, data: &[u8]) -> Vec<u8> {
    let (sender, target, is_request) = (me, relay, false);
    RepoFrame::Sync(SyncFrame { sender, target, document, is_request, data }).encode()
}

/// Says that a document is open, of which nothing is here.
pub(super) fn open(me: &str, relay: &str, document: DocumentId) -> Vec<u8> {
    let nothing = SyncMessage { flags: Some(Flags::default()), ..SyncMessage::default() };
    let data = nothing.encode();
    let (sender, target, is_request) = (me, relay, true);
    RepoFrame::Sync(SyncFrame { sender, target, document, is_request, data: &data }).encode()
}

/// A message of somebody who has these changes, and brings these chunks.
pub(super) fn bring(heads: &[ChangeHash], all: &[ChangeHash], chunks: &[u8]) -> Vec<u8> {
    let have = Have { last_sync: Vec::new(), bloom: Bloom::of(all.iter().copied()) };
    let (heads, have) = (heads.to_vec(), vec![have]);
    let flags = Some(Flags::default());
    SyncMessage { is_v2: true, heads, need: Vec::new(), have, changes: vec![chunks], flags }
        .encode()
}
