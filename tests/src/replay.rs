//! Traces and documents, put through replicas and a relay.

use automerge::{Automerge, Change};
use rejoin::{ChangeHash, CollectionName, DocumentId, Op, SpaceName};
use rejoin_core::session::{Opening, ReplicaEvent, ReplicaSession, SpaceStart};
use rejoin_core::wire::Frame;
use rejoin_core::{DeviceId, limits};
use rejoin_engine::{Content, Edit, EngineOptions, Target};
use rejoin_relay::ConnectionId;
use serde_json::json;

use crate::meeting::Meeting;
use crate::traces::{Trace, Transaction};

/// What a replay came to.
#[derive(Debug)]
pub struct Replayed {
    /// The text at each replica.
    pub texts: Vec<String>,
    /// Edits made at other heads than those the replica had.
    pub at_old_heads: usize,
}

/// Replays a trace with one replica per agent, through a relay. Each edit is made at exactly its
/// parents: they are brought to the agent's replica first, and where it already holds more, the
/// edit is made at the older heads.
pub fn replay(trace: &Trace) -> Replayed {
    let mut meeting = Meeting::new(1);
    for agent in 0..trace.agents {
        meeting.join(EngineOptions::default());
        meeting.connect(agent);
    }
    let root = begin(&mut meeting);
    let mut versions: Vec<ChangeHash> = Vec::new();
    let mut at_old_heads = 0;
    for transaction in &trace.transactions {
        for parent in &transaction.parents {
            bring(&mut meeting, trace, *parent, versions[*parent], transaction.agent);
        }
        let parents = transaction.parents.iter().map(|parent| versions[*parent]);
        let mut base: Vec<_> = parents.collect();
        if base.is_empty() {
            base.clone_from(&root);
        }
        base.sort_unstable();
        at_old_heads += usize::from(base != heads(&meeting, transaction.agent));
        let edited = meeting.edit(transaction.agent, vec![edit(Some(base), ops(transaction))]);
        versions.push(edited[0].changes.last().copied().expect("every transaction changes text"));
    }
    meeting.settle(0);
    let texts = (0..trace.agents).map(|agent| text(&mut meeting, agent)).collect();
    Replayed { texts, at_old_heads }
}

/// Makes the document at the first agent's and brings it to the others.
fn begin(meeting: &mut Meeting) -> Vec<ChangeHash> {
    let op = Op::Set { path: "text".into(), before: None, after: json!({ "$text": "" }) };
    let mut first = edit(None, vec![op]);
    first.create = true;
    let edited = meeting.edit(0, vec![first]);
    meeting.settle(0);
    edited[0].heads.clone()
}

/// Brings a version to an agent's replica, if it does not hold it.
fn bring(meeting: &mut Meeting, trace: &Trace, parent: usize, version: ChangeHash, to: usize) {
    let from = trace.transactions[parent].agent;
    if from == to || meeting.replicas[to].holds(&document(), &version) {
        return;
    }
    meeting.round_trip(from);
    meeting.round_trip(to);
    let held = meeting.replicas[to].holds(&document(), &version);
    assert!(held, "transaction {parent} did not arrive");
}

fn edit(base: Option<Vec<ChangeHash>>, ops: Vec<Op>) -> Edit {
    Edit {
        space: space(),
        collection: collection(),
        target: Target::Key("paper".to_owned()),
        create: false,
        author: None,
        batch: None,
        content: Content::Ops { base, ops },
    }
}

fn ops(transaction: &Transaction) -> Vec<Op> {
    let splices = transaction.patches.iter().map(|(index, delete, insert)| Op::Splice {
        path: "text".into(),
        index: *index,
        delete: *delete,
        insert: insert.clone(),
    });
    splices.collect()
}

fn heads(meeting: &Meeting, agent: usize) -> Vec<ChangeHash> {
    let view = meeting.replicas[agent].store().read().unwrap();
    view.document(&document()).unwrap().unwrap().heads
}

fn text(meeting: &mut Meeting, agent: usize) -> String {
    let value = meeting.replicas[agent].value_at(0, &document(), None).unwrap();
    value["text"].as_str().unwrap().to_owned()
}

fn document() -> DocumentId {
    let genesis = rejoin_core::Genesis::first("paper").unwrap();
    DocumentId::derive(&space(), &collection(), &genesis)
}

fn space() -> SpaceName {
    SpaceName::new("main").unwrap()
}

fn collection() -> CollectionName {
    CollectionName::new("papers").unwrap()
}

/// Pushes all changes of a document made elsewhere, as some replica that has just written them.
pub fn push_document(meeting: &mut Meeting, document: &Automerge) -> DocumentId {
    let id = DocumentId::from_random([7; 16]);
    let connection = ConnectionId(u64::MAX);
    meeting.relay.handle_connected(0, connection);
    let (cursor, begun) = (None, Vec::new());
    let start = SpaceStart { name: space(), cursor, holds: false, begun };
    let opening = Opening {
        device: DeviceId([7; 16]),
        token: None,
        app: None,
        identity: None,
        spaces: vec![start],
        pushes: 0,
        upload: None,
        waiting: 0,
    };
    let mut session = ReplicaSession::new(0, opening);
    let mut changes = document.get_changes(&[]).into_iter().peekable();
    while changes.peek().is_some() || session.in_flight() > 0 {
        while session.can_push() && changes.peek().is_some() {
            let frame = changes.by_ref().take(limits::FRAME_CHANGES_MAX / 2);
            let chunks = frame.map(|mut change: Change| change.bytes().into_owned()).collect();
            session.push(0, 0, id, collection(), chunks);
        }
        while let Some(frame) = session.poll_transmit() {
            meeting.relay.handle_message(connection, frame.encode());
        }
        meeting.relay.turn(0, 0).unwrap();
        for message in meeting.relay.poll_transmit(0, connection, usize::MAX) {
            let frame = Frame::decode(&message).unwrap().expect("a frame of this version");
            session.handle_frame(frame).unwrap();
        }
        while let Some(event) = session.poll_event() {
            assert!(!matches!(event, ReplicaEvent::Refused { .. }), "{event:?}");
        }
    }
    meeting.relay.handle_disconnected(connection);
    id
}
