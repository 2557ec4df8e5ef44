//! The guard refuses crafted changes in time bounded by their bytes, and says why.

mod change_support;

use automerge::Change as AmChange;
use automerge::transaction::Transactable;
use change_support::*;
use rejoin_core::change::{AUTHOR_BYTES_MAX, GuardError, check_snapshot, parse};
use rejoin_core::limits::*;

fn refused(raw: &Raw) -> GuardError {
    parse(&raw.chunk()).unwrap_err()
}

#[test]
fn the_default_of_these_tests_is_sound() {
    let chunk = Raw::default().chunk();
    assert_eq!(parse(&chunk).unwrap().ops(), 1);
    assert_eq!(AmChange::from_bytes(chunk).unwrap().len(), 1);
}

#[test]
fn run_lengths_cannot_claim_operations() {
    for rows in [CHANGE_ROWS_MAX + 1, 10_000_000, 1_000_000_000_000, i64::MAX as u64] {
        let raw = Raw::default()
            .column(KEY_TEXT, &run(rows, &[1, b'k']))
            .column(INSERT, &uleb(rows))
            .column(ACTION, &run(rows, &[1]))
            .column(VALUE_META, &run(rows, &[2]))
            .column(PRED_COUNT, &run(rows, &[0]));
        assert!(raw.chunk().len() < 128);
        assert!(matches!(refused(&raw), GuardError::Rows { .. }), "{rows}");
    }
}

#[test]
fn any_column_alone_is_bounded() {
    let rows = 1 << 40;
    for spec in [OBJECT_ACTOR, OBJECT_COUNTER, KEY_ACTOR, KEY_COUNTER, PRED_COUNT] {
        let raw = Raw::default().column(spec, &run(rows, &[1]));
        assert!(matches!(refused(&raw), GuardError::Rows { .. }), "{spec:#x}");
    }
    for spec in [INSERT, EXPAND] {
        let raw = Raw::default().column(spec, &uleb(rows));
        assert!(matches!(refused(&raw), GuardError::Rows { .. }), "{spec:#x}");
    }
    let raw = Raw::default().column(PRED_COUNT, &[&[0x7f][..], &uleb(rows)].concat());
    assert!(matches!(refused(&raw), GuardError::Rows { .. }));
}

#[test]
fn a_change_of_as_many_rows_as_allowed_passes() {
    let rows = CHANGE_ROWS_MAX;
    let raw = Raw::default()
        .column(KEY_TEXT, &run(rows, &[1, b'k']))
        .column(INSERT, &uleb(rows))
        .column(ACTION, &run(rows, &[1]))
        .column(VALUE_META, &run(rows, &[2]))
        .column(PRED_COUNT, &run(rows, &[0]));
    assert_eq!(parse(&raw.chunk()).unwrap().max_op(), rows);
}

#[test]
fn deflate_cannot_claim_memory() {
    let bomb = deflate(&vec![0; INFLATED_BYTES_MAX + 1]);
    assert!(bomb.len() < 10_000);
    let refused = parse(&seal_deflated(&[], &bomb)).unwrap_err();
    assert!(matches!(refused, GuardError::InflatedBytes { max: INFLATED_BYTES_MAX, .. }));
    // At the limit it is inflated, and then not a change.
    let largest = vec![0; INFLATED_BYTES_MAX];
    let refused = parse(&seal_deflated(&largest, &deflate(&largest))).unwrap_err();
    assert!(!matches!(refused, GuardError::InflatedBytes { .. }));
}

#[test]
fn deflated_changes_are_whole() {
    let body = Raw::default().body();
    let deflated = deflate(&body);
    assert!(parse(&seal_deflated(&body, &deflated)).is_ok());
    let longer = [&deflated[..], &[0]].concat();
    let refused = parse(&seal_deflated(&body, &longer)).unwrap_err();
    assert!(matches!(refused, GuardError::Trailing { len: 1, .. }));
    let shorter = &deflated[..deflated.len() - 1];
    assert!(parse(&seal_deflated(&body, shorter)).is_err());
    let refused = parse(&seal_deflated(&body, &[0xff; 20])).unwrap_err();
    assert!(matches!(refused, GuardError::Deflate { .. }));
}

#[test]
fn lists_are_counted_before_they_are_read() {
    let mut dep = [0; 32];
    let deps = (0..=CHANGE_DEPS_MAX as u16).map(|n| {
        dep[..2].copy_from_slice(&n.to_be_bytes());
        dep
    });
    let raw = Raw { deps: deps.collect(), ..Raw::default() };
    assert!(matches!(refused(&raw), GuardError::Deps { count: 4097, .. }));
    let others = (0..=CHANGE_ACTORS_MAX as u32).map(|n| n.to_be_bytes().to_vec()).collect();
    let raw = Raw { others, ..Raw::default() };
    assert!(matches!(refused(&raw), GuardError::Actors { count: 32_769, .. }));
    let raw = Raw { columns: (0..65).map(|n| (n, vec![1])).collect(), ..Raw::default() };
    assert!(matches!(refused(&raw), GuardError::Columns { count: 65, .. }));
    // Only the count is there.
    let refused = parse(&seal(1, &uleb(u64::MAX))).unwrap_err();
    assert!(matches!(refused, GuardError::Deps { count: u64::MAX, .. }));
}

#[test]
fn fields_have_limits() {
    let long = Raw { message: vec![b'm'; MESSAGE_BYTES_MAX + 1], ..Raw::default() };
    assert!(matches!(refused(&long), GuardError::MessageBytes { len: 1025, .. }));
    for len in [0, ACTOR_BYTES_MAX + 1] {
        let raw = Raw { actor: vec![1; len], ..Raw::default() };
        assert!(matches!(refused(&raw), GuardError::ActorBytes { .. }), "{len}");
    }
    let not_text = Raw { message: vec![0xff], ..Raw::default() };
    assert_eq!(refused(&not_text), GuardError::Utf8 { what: "message" });
    assert_eq!(refused(&Raw { seq: 0, ..Raw::default() }), GuardError::Seq);
    for start_op in [0, OP_COUNTER_MAX + 1, u64::MAX] {
        let raw = Raw { start_op, ..Raw::default() };
        assert!(matches!(refused(&raw), GuardError::Counter { .. }), "{start_op}");
    }
    let last = Raw { start_op: OP_COUNTER_MAX, ..Raw::default() };
    assert_eq!(parse(&last.chunk()).unwrap().max_op(), OP_COUNTER_MAX);
    let over = last
        .column(KEY_TEXT, &[2, 1, b'k'])
        .column(INSERT, &[2])
        .column(ACTION, &[2, 1])
        .column(VALUE_META, &[2, 2])
        .column(PRED_COUNT, &[2, 0]);
    assert!(matches!(refused(&over), GuardError::Counter { .. }));
}

#[test]
fn an_actor_cannot_claim_a_length() {
    let mut body = Raw { actor: vec![], ..Raw::default() }.body();
    body.splice(1..2, uleb(1 << 63));
    assert_eq!(parse(&seal(1, &body)), Err(GuardError::Truncated { what: "actor" }));
}

#[test]
fn chunks_are_what_they_should_be() {
    let body = Raw::default().body();
    assert_eq!(parse(&seal(0, &body)), Err(GuardError::Document));
    assert_eq!(parse(&seal(3, &body)), Err(GuardError::Bundle));
    assert_eq!(parse(&seal(4, &body)), Err(GuardError::Kind { kind: 4 }));
    assert_eq!(check_snapshot(&seal(1, &body)), Err(GuardError::Kind { kind: 1 }));
    let mut chunk = seal(1, &body);
    chunk.push(0);
    assert_eq!(parse(&chunk), Err(GuardError::Trailing { what: "chunk", len: 1 }));
    chunk.pop();
    chunk[5] ^= 1;
    assert_eq!(parse(&chunk), Err(GuardError::Checksum));
    chunk[0] ^= 1;
    assert_eq!(parse(&chunk), Err(GuardError::Magic));
    let long = vec![0; CHANGE_BYTES_MAX + 1];
    assert!(matches!(parse(&long), Err(GuardError::ChunkBytes { .. })));
}

#[test]
fn columns_are_those_automerge_writes() {
    let unknown = Raw::default().column(0xb5, &[0x7f, 1, b'k']);
    assert_eq!(refused(&unknown), GuardError::Column { spec: 0xb5 });
    let deflated = Raw::default().column(KEY_TEXT | 8, &[0x7f, 1, b'k']);
    assert_eq!(refused(&deflated), GuardError::DeflatedColumn { spec: KEY_TEXT | 8 });
    let mut swapped = Raw::default();
    swapped.columns.swap(0, 1);
    assert_eq!(refused(&swapped), GuardError::Column { spec: KEY_TEXT });
    let mut twice = Raw::default();
    twice.columns.push(twice.columns[4].clone());
    assert_eq!(refused(&twice), GuardError::Column { spec: PRED_COUNT });
    let empty = Raw::default().column(VALUE, &[]);
    assert!(matches!(refused(&empty), GuardError::Form { .. }));
}

/// Automerge would apply each of these, and could not load what it then saves.
#[test]
fn only_the_form_automerge_writes_is_taken() {
    let forms = [
        Raw::default().column(ACTION, &[1, 1]),
        Raw::default().column(PRED_COUNT, &[2, 0]),
        Raw::default().column(INSERT, &[2]),
        Raw::default().column(EXPAND, &[1]),
        Raw::default().column(MARK_NAME, &[0, 1]),
        Raw { others: vec![vec![1; 16]], ..Raw::default() },
        Raw { others: vec![vec![0xaa; 16]], ..Raw::default() },
    ];
    for (index, raw) in forms.iter().enumerate() {
        let refused = refused(raw);
        let known = matches!(
            refused,
            GuardError::Form { .. } | GuardError::RowsDiffer { .. } | GuardError::ActorsOrder
        );
        assert!(known, "{index}: {refused}");
    }
}

#[test]
fn operations_are_possible() {
    let place = |raw: Raw, counter: &[u8]| {
        let mut raw = raw.column(KEY_COUNTER, counter);
        raw.columns.retain(|(spec, _)| *spec != KEY_TEXT);
        raw
    };
    let operations = [
        Raw::default().column(ACTION, &[0x7f, 8]),
        Raw::default().column(ACTION, &[0x7f, 3]).column(VALUE_META, &[0x7f, 0]),
        Raw::default().column(ACTION, &[0x7f, 5]),
        Raw::default().column(ACTION, &[0x7f, 7]),
        Raw::default().column(INSERT, &[0, 1]),
        Raw::default().column(OBJECT_ACTOR, &[0x7f, 0]),
        Raw::default().column(VALUE_META, &[0x7f, 0x12]).column(VALUE, &[0]),
        place(Raw::default().column(INSERT, &[0, 1]), &[0x7f, 0]),
    ];
    for (index, raw) in operations.iter().enumerate() {
        assert!(matches!(refused(raw), GuardError::Operation { row: 0, .. }), "{index}");
    }
    let text = Raw::default().column(VALUE_META, &[0x7f, 0x16]).column(VALUE, &[0xff]);
    assert_eq!(refused(&text), GuardError::Utf8 { what: "value" });
    let more = Raw::default().column(VALUE, &[0]);
    assert!(matches!(refused(&more), GuardError::Trailing { what: "values", .. }));
    let key = Raw::default().column(KEY_TEXT, &[0x7f, 1, 0xff]);
    assert_eq!(refused(&key), GuardError::Utf8 { what: "key text" });
}

#[test]
fn references_point_back() {
    let object = |actor: u8, counter: u8| {
        Raw { start_op: 5, ..Raw::default() }
            .column(OBJECT_ACTOR, &[0x7f, actor])
            .column(OBJECT_COUNTER, &[0x7f, counter])
    };
    assert!(parse(&object(0, 4).chunk()).is_ok());
    assert!(matches!(refused(&object(0, 5)), GuardError::Counter { max: 4, .. }));
    assert!(matches!(refused(&object(0, 0)), GuardError::Counter { min: 1, .. }));
    assert!(matches!(refused(&object(1, 4)), GuardError::ActorIndex { index: 1, count: 1, .. }));
}

#[test]
fn an_author_stands_alone() {
    let author = |len: usize| [&[1][..], &prefixed(&vec![b'a'; len])].concat();
    let with = |extra: Vec<u8>| Raw { extra, ..Raw::default() };
    assert!(parse(&with(author(5)).chunk()).unwrap().has_author());
    assert!(parse(&with(author(AUTHOR_BYTES_MAX)).chunk()).unwrap().has_author());
    let mut longer = author(5);
    longer.push(0);
    for extra in [author(AUTHOR_BYTES_MAX + 1), longer, vec![1], vec![2, 0], vec![1, 9, 0]] {
        assert!(matches!(refused(&with(extra)), GuardError::Author { .. }));
    }
}

#[test]
fn snapshots_are_bounded() {
    let mut doc = device(1);
    doc.put(automerge::ROOT, "note", "x".repeat(5000)).unwrap();
    let saved = doc.save();
    assert_eq!(check_snapshot(&saved), Ok(()));
    for len in 0..saved.len() {
        assert!(check_snapshot(&saved[..len]).is_err());
    }
    let bomb = deflate(&vec![0; 1 << 20]);
    let columns = 300;
    let mut body = [0, 0, 1, 0x0f].to_vec();
    body.extend(uleb(bomb.len() as u64));
    body.push(0);
    body.extend(&bomb);
    assert_eq!(check_snapshot(&seal(0, &body)), Ok(()));
    let large = deflate(&vec![0; SNAPSHOT_BYTES_MAX + 1]);
    assert!(large.len() < columns * bomb.len());
    let mut body = [0, 0, 1, 0x0f].to_vec();
    body.extend(uleb(large.len() as u64));
    body.push(0);
    body.extend(&large);
    let refused = check_snapshot(&seal(0, &body)).unwrap_err();
    assert!(matches!(refused, GuardError::InflatedBytes { .. }));
}
