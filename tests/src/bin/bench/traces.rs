//! Recorded typing through replicas, beside Automerge alone.

use std::time::Duration;

use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, ObjType, PatchLog, ROOT, ReadDoc};
use rejoin_tests::replay::replay;
use rejoin_tests::traces::{Trace, trace};

use crate::{Figure, timed};

/// Transactions of the long trace that are replayed, unless `BENCH_FULL` is set: all 259,778 take
/// minutes.
const PAPER_TRANSACTIONS: usize = 20_000;

/// One person typing a paper, a change for every key.
pub(crate) fn paper() -> Vec<Figure> {
    let limit = std::env::var_os("BENCH_FULL").map_or(PAPER_TRANSACTIONS, |_| usize::MAX);
    let Some(paper) = trace("automerge-paper", limit) else { return Vec::new() };
    vec![beside_automerge("automerge-paper", &paper)]
}

/// People typing at once. Everybody must end with the recorded text.
pub(crate) fn concurrent() -> Vec<Figure> {
    let names = ["friendsforever", "clownschool"];
    let traces = names.into_iter().filter_map(|name| Some((name, trace(name, usize::MAX)?)));
    traces.map(|(name, trace)| beside_automerge(name, &trace)).collect()
}

fn beside_automerge(name: &str, trace: &Trace) -> Figure {
    let (replayed, ours) = timed(|| replay(trace));
    let (text, theirs) = alone(trace);
    assert!(replayed.texts.iter().all(|replayed| *replayed == text), "{name}: other texts");
    if trace.agents > 1 {
        assert_eq!(text, trace.end_content, "{name}: not the recorded text");
    }
    let what = format!("{name}: {} changes", trace.transactions.len());
    Figure::new(what, ours, "Automerge alone, in memory", theirs)
}

/// The same edits at the same heads in one Automerge document.
fn alone(trace: &Trace) -> (String, Duration) {
    timed(|| {
        let mut doc = Automerge::new().with_actor(ActorId::from([0; 16]));
        let mut tx = doc.transaction();
        let text = tx.put_object(ROOT, "text", ObjType::Text).expect("the root is a map");
        tx.commit();
        let root = doc.get_heads();
        let mut versions = Vec::new();
        for transaction in &trace.transactions {
            let parents = transaction.parents.iter().map(|parent| versions[*parent]);
            let mut heads: Vec<_> = parents.collect();
            if heads.is_empty() {
                heads.clone_from(&root);
            }
            heads.sort_unstable();
            doc.set_actor(ActorId::from([transaction.agent as u8 + 1; 16]));
            let present = heads == doc.get_heads();
            let mut tx = if present {
                doc.transaction()
            } else {
                doc.transaction_at(PatchLog::inactive(), &heads).expect("a log of its own")
            };
            for (at, delete, insert) in &transaction.patches {
                tx.splice_text(&text, *at, *delete as isize, insert).expect("in the text");
            }
            versions.push(tx.commit().0.expect("something was typed"));
        }
        doc.text(&text).expect("a text")
    })
}
