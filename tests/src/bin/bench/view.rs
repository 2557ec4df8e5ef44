//! What people should see of a job, beside what Automerge shows of it.

use std::time::Duration;

use automerge::{Automerge, Change};
use rejoin::{DocumentId, Op};
use rejoin_engine::{Content, Edit, EngineOptions, Target};
use rejoin_tests::meeting::Meeting;
use serde_json::{Map, Value, json};

use crate::{Figure, quantile, timed};

const FIELDS: usize = 50;
const CONFLICTS: usize = 3;
const TIMES: usize = 500;

/// The view of a job with fifty fields, three of them in conflict: again and again of a loaded
/// document, and once from the store.
pub(crate) fn view() -> Vec<Figure> {
    let mut meeting = Meeting::new(1);
    for replica in 0..2 {
        meeting.join(EngineOptions::default());
        meeting.connect(replica);
    }
    let fields: Map<String, Value> =
        (0..FIELDS).map(|n| (format!("field {n}"), json!(format!("value {n}")))).collect();
    let edited = meeting.edit(0, vec![edit(Content::Fields(fields))]);
    let job = edited[0].document;
    meeting.settle(0);
    for replica in 0..2 {
        meeting.disconnect(replica);
        for n in 0..CONFLICTS {
            let (path, after) = (format!("field {n}").into(), json!(format!("from {replica}")));
            let ops = vec![Op::Set { path, before: None, after }];
            meeting.edit(replica, vec![edit(Content::Ops { base: None, ops })]);
        }
    }
    (0..2).for_each(|replica| meeting.connect(replica));
    meeting.settle(0);
    meeting.settle(1);

    let doc = document(&meeting, &job);
    let engine = &mut meeting.replicas[0];
    let seen = engine.view(0, &job).expect("a view");
    assert_eq!(seen.fields.values().filter(|field| field.states.len() == 1).count(), FIELDS);
    assert!(!seen.is_agreed(), "three fields are in conflict");
    let again = median(|| engine.view(0, &job).expect("a view"));
    let hydrated = median(|| doc.hydrate(None));
    let saved = doc.save();
    let loaded = median(|| {
        let doc = Automerge::load(&saved).expect("a document");
        doc.hydrate(None)
    });
    let first = median(|| {
        engine.forget();
        engine.handle_reopened().expect("a store");
        engine.view(0, &job).expect("a view")
    });
    let what = |how| format!("view of {FIELDS} fields, {CONFLICTS} in conflict, {how}");
    vec![
        Figure::new(what("loaded"), again, "Automerge hydrates it", hydrated),
        Figure::new(what("from disk"), first, "Automerge loads and hydrates it", loaded),
    ]
}

fn edit(content: Content) -> Edit {
    Edit {
        space: "main".parse().expect("a name"),
        collection: "jobs".parse().expect("a name"),
        target: Target::Key("1".to_owned()),
        create: true,
        author: None,
        batch: None,
        content,
    }
}

/// The same document, in Automerge alone.
fn document(meeting: &Meeting, id: &DocumentId) -> Automerge {
    let view = meeting.replicas[0].store().read().expect("a store");
    let chunks = view.changes(id, 0).expect("changes").into_iter();
    let changes = chunks.map(|(_, chunk)| Change::from_bytes(chunk).expect("a change"));
    let mut doc = Automerge::new();
    doc.apply_changes(changes).expect("changes that fit");
    doc
}

fn median<T>(mut work: impl FnMut() -> T) -> Duration {
    let mut durations: Vec<_> = (0..TIMES).map(|_| timed(&mut work).1).collect();
    quantile(&mut durations, 0.5)
}
