//! What an outbox promises, case by case; the simulation has the rest.

mod erasing;
mod troubles;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redb::Database;
use redb::backends::InMemoryBackend;
use rejoin::{ChangeHash, DocumentId};
use rejoin_adapters::delivery::{Action, Delivery, Fault, FaultClass, Reach, Record, Row};
use rejoin_adapters::mapping::{Deletes, Mode, OnPoison, Retry};
use rejoin_adapters::outbox::{
    Attempt, DeadClass, FailingReach, Finished, Outbox, OutboxError, Policy, Projected, RowState,
    Selection,
};
use rejoin_adapters::projection::Misfit;
use serde_json::{Map, json};

const MINUTE: u64 = 60_000;

fn outbox(change: impl FnOnce(&mut Policy)) -> Outbox {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
    Outbox::open(database, policy(change), 7).unwrap()
}

fn policy(change: impl FnOnce(&mut Policy)) -> Policy {
    let mut policy = Policy {
        adapter: "board".to_owned(),
        mapping: "1".to_owned(),
        kinds: ["jobs", "parts"].map(str::to_owned).into(),
        mode: Mode::State,
        deletes: Deletes::Mark { ttl: Duration::from_mins(60) },
        retry: Retry {
            schedule: vec![Duration::from_secs(10), Duration::from_mins(5)],
            jitter: 0.5,
            disable_after: Duration::from_hours(1),
        },
        on_poison: OnPoison::Continue,
    };
    change(&mut policy);
    policy
}

fn row(town: &str) -> Row {
    Map::from_iter([("town".to_owned(), json!(town))])
}

/// A document at its nth change, with these rows.
fn projected(document: u8, change: u8, rows: &[(&str, &str)]) -> Projected {
    let row = |(key, town): &(&str, &str)| {
        (Record { name: "jobs".to_owned(), key: (*key).to_owned() }, Ok(row(town)))
    };
    Projected {
        document: DocumentId([document; 16]),
        heads: vec![ChangeHash([change; 32])],
        schema: Vec::new(),
        about: Vec::new(),
        by_heads: true,
        rows: rows.iter().map(row).collect::<BTreeMap<_, _>>(),
    }
}

fn take(outbox: &mut Outbox, now_ms: u64) -> Vec<Delivery> {
    outbox.take(now_ms, 8).unwrap().into_iter().map(|attempt| attempt.delivery).collect()
}

fn one(outbox: &mut Outbox, now_ms: u64) -> Delivery {
    let mut taken = take(outbox, now_ms);
    assert_eq!(taken.len(), 1, "{taken:?}");
    taken.remove(0)
}

fn finish(outbox: &mut Outbox, now_ms: u64, delivery: Delivery, class: Option<FaultClass>) {
    let fault = |class| Fault { class, ..Fault::transient("no") };
    outbox.finish(now_ms, &[(delivery, class.map_or(Ok(()), |class| Err(fault(class))))]).unwrap();
}

const AGAIN: Option<FaultClass> = Some(FaultClass::Transient { after: None });
const NEVER: Option<FaultClass> = Some(FaultClass::Permanent);

#[test]
fn only_what_differs_is_delivered_and_under_one_key() {
    let mut outbox = outbox(|_| {});
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm"), ("b", "Ulm")])]).unwrap();
    let first = one(&mut outbox, 0);
    assert!(take(&mut outbox, 0).is_empty(), "one of a document at a time");
    finish(&mut outbox, 0, first.clone(), None);
    let second = one(&mut outbox, 0);
    assert_eq!((first.seq, second.seq), (1, 2));
    assert_eq!(second.previous, Some(first.key.clone()));
    finish(&mut outbox, 0, second, None);
    let queued = outbox.enqueue(0, &[projected(1, 2, &[("a", "Ulm"), ("b", "Bonn")])]).unwrap();
    assert_eq!(queued.deliveries, 1, "one row changed");
    let third = one(&mut outbox, 0);
    finish(&mut outbox, 0, third.clone(), AGAIN);
    let mut again = take(&mut outbox, MINUTE);
    assert_eq!(again.pop(), Some(third), "every attempt is the same");
}

#[test]
fn waits_grow_and_end_in_a_dead_letter_while_others_are_taken() {
    let mut outbox = outbox(|_| {});
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let mut now = 0;
    for wait in [10_000, 5 * MINUTE] {
        let delivery = one(&mut outbox, now);
        finish(&mut outbox, now, delivery, AGAIN);
        let next = outbox.next_ms().unwrap().unwrap();
        assert!((now + wait..=now + wait * 3 / 2).contains(&next), "{next} after {now}");
        assert!(take(&mut outbox, next - 1).is_empty());
        outbox.enqueue(now, &[projected(2, wait as u8, &[("b", &wait.to_string())])]).unwrap();
        let other = one(&mut outbox, now);
        finish(&mut outbox, now, other, None);
        now = next;
    }
    let delivery = one(&mut outbox, now);
    finish(&mut outbox, now, delivery, AGAIN);
    let [(number, letter)] = &outbox.dead_letters().unwrap()[..] else { panic!("one letter") };
    assert_eq!((letter.class, letter.attempts), (DeadClass::Exhausted, 3));
    outbox.replay(now, *number).unwrap();
    let delivery = one(&mut outbox, now);
    finish(&mut outbox, now, delivery, None);
    assert_eq!((outbox.depth().unwrap().waiting, outbox.depth().unwrap().dead), (0, 0));
    let gone = outbox.replay(now, *number).unwrap_err();
    assert!(matches!(gone, OutboxError::NoDeadLetter(_)), "{gone}");
}

#[test]
fn while_nothing_is_taken_no_row_is_judged() {
    let mut outbox = outbox(|policy| policy.retry.schedule = vec![Duration::from_secs(10); 2]);
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    for _ in 0..100 {
        let now = outbox.next_ms().unwrap().unwrap();
        let delivery = one(&mut outbox, now);
        finish(&mut outbox, now, delivery, AGAIN);
    }
    assert_eq!(outbox.depth().unwrap().dead, 0);
    let [failing] = &outbox.failing().unwrap()[..] else { panic!("one cause") };
    assert_eq!((&failing.reach, failing.rows), (&FailingReach::Target, 1));
}

#[test]
fn a_target_says_when_it_wants_to_be_asked_again() {
    let mut outbox = outbox(|_| {});
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let delivery = one(&mut outbox, 0);
    let after = Some(FaultClass::Transient { after: Some(Duration::from_mins(20)) });
    finish(&mut outbox, 0, delivery, after);
    assert_eq!(outbox.next_ms().unwrap(), Some(20 * MINUTE));
}

#[test]
fn while_a_target_is_down_one_delivery_asks_for_all() {
    let mut outbox = outbox(|_| {});
    for document in 1..=9 {
        let key = document.to_string();
        outbox.enqueue(0, &[projected(document, 1, &[(&key, "Ulm")])]).unwrap();
    }
    for delivery in take(&mut outbox, 0).into_iter().take(5) {
        finish(&mut outbox, 0, delivery, AGAIN);
    }
    assert!(outbox.is_down());
    assert!(take(&mut outbox, 0).is_empty(), "not while others are under way");
    let left: Vec<_> = (6..=8).map(|document| DocumentId([document; 16])).collect();
    left.iter().for_each(|document| outbox.give_back(document));
    let next = outbox.next_ms().unwrap().unwrap();
    let probe = one(&mut outbox, next);
    finish(&mut outbox, next, probe, None);
    assert_eq!(take(&mut outbox, next).len(), 8, "it is back, for those that failed, too");
}

#[test]
fn a_target_that_is_given_up_gets_nothing_until_somebody_says_so() {
    let mut outbox = outbox(|_| {});
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let delivery = one(&mut outbox, 0);
    finish(&mut outbox, 0, delivery, Some(FaultClass::Gone));
    assert_eq!(outbox.endpoint().disabled.as_deref(), Some("no"));
    assert!(take(&mut outbox, MINUTE).is_empty());
    outbox.enqueue(0, &[projected(2, 1, &[("b", "Ulm")])]).unwrap();
    outbox.resume().unwrap();
    assert_eq!(take(&mut outbox, MINUTE).len(), 2, "nothing was lost meanwhile");
}

#[test]
fn nothing_but_failures_for_long_gives_it_up() {
    let mut outbox = outbox(|policy| policy.retry.schedule = vec![Duration::from_mins(20); 9]);
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let mut attempts = 0;
    while let Some(now) = outbox.next_ms().unwrap() {
        let delivery = one(&mut outbox, now);
        finish(&mut outbox, now, delivery, AGAIN);
        attempts += 1;
    }
    assert!((3..=4).contains(&attempts), "an hour of failures, in {attempts} attempts");
    assert!(outbox.endpoint().disabled.as_ref().is_some_and(|why| why.contains("1h")));
    assert_eq!(outbox.depth().unwrap().waiting, 1);
}

#[test]
fn a_letter_that_was_overtaken_is_made_good() {
    for is_taken in [true, false] {
        let mut outbox = outbox(|_| {});
        outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
        let delivery = one(&mut outbox, 0);
        finish(&mut outbox, 0, delivery, NEVER);
        let number = outbox.dead_letters().unwrap()[0].0;
        outbox.enqueue(0, &[projected(1, 2, &[("a", "Bonn")])]).unwrap();
        let newer = one(&mut outbox, 0);
        if is_taken {
            finish(&mut outbox, 0, newer, None);
        } else {
            outbox.replay(0, number).unwrap();
            finish(&mut outbox, 0, newer, None);
        }
        assert!(take(&mut outbox, MINUTE).is_empty(), "the target has Bonn");
        assert_eq!(outbox.depth().unwrap().dead, 0);
    }
}

#[test]
fn asking_for_everything_anew_clears_what_it_makes_good() {
    for mode in [Mode::State, Mode::Event] {
        let mut outbox = outbox(|policy| policy.mode = mode);
        let all =
            [projected(1, 1, &[("a", "Ulm"), ("b", "Ulm")]), projected(2, 1, &[("c", "Ulm")])];
        outbox.enqueue(0, &all).unwrap();
        while outbox.next_ms().unwrap().is_some() {
            for delivery in take(&mut outbox, 0) {
                finish(&mut outbox, 0, delivery, NEVER);
            }
        }
        assert_eq!(outbox.depth().unwrap().dead, 3);
        outbox.backfill(1_000).unwrap();
        outbox.enqueue(1_000, &all).unwrap();
        while outbox.next_ms().unwrap().is_some() {
            for delivery in take(&mut outbox, 1_000) {
                let is_refused = delivery.record.key == "b";
                finish(&mut outbox, 1_000, delivery, NEVER.filter(|_| is_refused));
            }
        }
        let letters = outbox.dead_letters().unwrap();
        match mode {
            Mode::State => {
                assert!(letters.iter().all(|(_, it)| it.record.key == "b"), "{letters:?}");
            }
            Mode::Event => assert_eq!(letters.len(), 4, "every event counts: {letters:?}"),
        }
    }
}

#[test]
fn letters_are_replayed_and_discarded_together() {
    let mut outbox = outbox(|_| {});
    let rows: Vec<_> = (1..=60).map(|it| projected(it, 1, &[(&*it.to_string(), "Ulm")])).collect();
    outbox.enqueue(0, &rows).unwrap();
    for at in 0.. {
        let some = take(&mut outbox, at);
        if some.is_empty() {
            break;
        }
        some.into_iter().for_each(|delivery| finish(&mut outbox, at, delivery, NEVER));
    }
    let of = |class, since_ms| Selection { class, since_ms };
    let count = |outbox: &Outbox, selection| outbox.selected(&selection).unwrap().len();
    assert_eq!(count(&outbox, of(None, None)), 60);
    assert_eq!(count(&outbox, of(Some(DeadClass::Exhausted), None)), 0);
    let late = outbox.selected(&of(Some(DeadClass::Permanent), Some(5))).unwrap();
    assert_eq!(late.len(), 20);
    assert_eq!(outbox.discard_all(9, &late).unwrap(), 20);
    let rest = outbox.selected(&Selection::default()).unwrap();
    assert_eq!(outbox.replay_all(9, &rest).unwrap(), 40);
    assert_eq!(outbox.replay_all(9, &rest).unwrap(), 0, "they are not there any more");
    assert_eq!((outbox.depth().unwrap().waiting, outbox.depth().unwrap().dead), (40, 0));
}

#[test]
fn a_held_document_waits_and_others_do_not() {
    let mut outbox = outbox(|policy| {
        policy.on_poison = OnPoison::Hold;
        policy.mode = Mode::Event;
    });
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let delivery = one(&mut outbox, 0);
    finish(&mut outbox, 0, delivery.clone(), NEVER);
    outbox.enqueue(0, &[projected(1, 2, &[("a", "Bonn")])]).unwrap();
    outbox.enqueue(0, &[projected(2, 1, &[("b", "Ulm")])]).unwrap();
    let other = one(&mut outbox, MINUTE);
    assert_eq!(other.document, DocumentId([2; 16]));
    finish(&mut outbox, MINUTE, other, None);
    let number = outbox.dead_letters().unwrap()[0].0;
    outbox.replay(MINUTE, number).unwrap();
    let replayed = one(&mut outbox, MINUTE);
    assert_eq!(replayed, delivery, "in its order");
    finish(&mut outbox, MINUTE, replayed, None);
    assert_eq!(one(&mut outbox, MINUTE).action, Action::Put(row("Bonn")));
}

#[test]
fn a_row_belongs_to_one_document_at_a_time() {
    let mut outbox = outbox(|_| {});
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let first = one(&mut outbox, 0);
    finish(&mut outbox, 0, first, None);
    let queued = outbox.enqueue(0, &[projected(2, 1, &[("a", "Bonn")])]).unwrap();
    assert_eq!((queued.deliveries, queued.misfits), (0, 1));
    // The first gives it up, which the target does not know yet.
    outbox.enqueue(0, &[projected(1, 2, &[])]).unwrap();
    assert_eq!(outbox.enqueue(0, &[projected(2, 2, &[("a", "Bonn")])]).unwrap().deliveries, 0);
    let gone = one(&mut outbox, 0);
    assert_eq!(gone.action, Action::Mark { deleted_ms: 0 });
    finish(&mut outbox, 0, gone, None);
    assert_eq!(outbox.enqueue(0, &[projected(2, 3, &[("a", "Bonn")])]).unwrap().deliveries, 1);
    assert!(outbox.dead_letters().unwrap().is_empty(), "it fits now");
}

#[test]
fn what_is_gone_is_remembered_as_long_as_was_said() {
    let mut outbox = outbox(|_| {});
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let first = one(&mut outbox, 0);
    finish(&mut outbox, 0, first, None);
    outbox.enqueue(0, &[projected(1, 2, &[])]).unwrap();
    assert_eq!(outbox.purge(90 * MINUTE).unwrap(), 0, "the target does not know it yet");
    let gone = one(&mut outbox, 0);
    finish(&mut outbox, 0, gone, None);
    let record = Record { name: "jobs".to_owned(), key: "a".to_owned() };
    assert_eq!(outbox.purge(59 * MINUTE).unwrap(), 0);
    let (document, shadow) = outbox.origin(&record).unwrap().unwrap();
    assert_eq!((document, shadow.taken.len()), (DocumentId([1; 16]), 2));
    assert_eq!(outbox.purge(60 * MINUTE).unwrap(), 1);
    assert_eq!(outbox.origin(&record).unwrap(), None);
}

#[test]
fn asked_for_again_everything_has_another_key() {
    let mut outbox = outbox(|_| {});
    let same = projected(1, 1, &[("a", "Ulm")]);
    outbox.enqueue(0, std::slice::from_ref(&same)).unwrap();
    let first = one(&mut outbox, 0);
    finish(&mut outbox, 0, first.clone(), None);
    assert!(outbox.is_enqueued(&same.document, &same.heads, &[]).unwrap());
    outbox.backfill(1_000).unwrap();
    assert!(!outbox.is_enqueued(&same.document, &same.heads, &[]).unwrap());
    outbox.enqueue(0, &[same]).unwrap();
    let again = one(&mut outbox, 0);
    assert_eq!(again.action, first.action);
    assert_ne!(again.key, first.key);
}

fn ok(outbox: &mut Outbox, now_ms: u64, delivery: Delivery) -> bool {
    outbox.finish(now_ms, &[(delivery, Ok(()))]).unwrap().freed
}

#[test]
fn a_row_that_moves_to_another_document_follows_its_deletion() {
    for is_taken in [true, false] {
        let mut outbox = outbox(|policy| policy.deletes = Deletes::Delete);
        let (first, second) = (projected(1, 1, &[("a", "Ulm")]), projected(2, 1, &[("a", "Bonn")]));
        outbox.enqueue(1, &[first]).unwrap();
        if is_taken {
            let put = one(&mut outbox, 1);
            ok(&mut outbox, 1, put);
        }
        outbox.enqueue(2, &[projected(1, 2, &[]), second.clone()]).unwrap();
        assert_eq!(outbox.purge(1_000 * MINUTE).unwrap(), 0, "the deletion waits");
        let deletion = one(&mut outbox, 2);
        assert_eq!(deletion.action, Action::Delete);
        assert!(take(&mut outbox, 2).is_empty(), "nothing overtakes it");
        let [(_, letter)] = &outbox.dead_letters().unwrap()[..] else { panic!("one misfit") };
        assert!(letter.fault.contains("this one follows"), "{}", letter.fault);

        assert!(ok(&mut outbox, 3, deletion), "somebody waits for it");
        let Projected { document, heads, .. } = &second;
        assert!(!outbox.is_enqueued(document, heads, &[]).unwrap());
        outbox.enqueue(3, std::slice::from_ref(&second)).unwrap();
        assert_eq!(one(&mut outbox, 3).document, second.document);
        assert!(outbox.dead_letters().unwrap().is_empty());
    }
}

#[test]
fn a_mapping_that_is_applied_again_makes_other_keys() {
    let mut outbox = outbox(|_| ());
    outbox.enqueue(1, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let first = one(&mut outbox, 1);
    ok(&mut outbox, 1, first.clone());
    outbox.apply_mapping(5, "2").unwrap();
    assert!(!outbox.is_applied());
    outbox.enqueue(6, &[projected(1, 1, &[("a", "ULM")])]).unwrap();
    let second = one(&mut outbox, 6);
    ok(&mut outbox, 6, second);
    outbox.apply_mapping(7, "1").unwrap();
    assert!(outbox.is_applied());
    outbox.enqueue(8, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let third = one(&mut outbox, 8);
    assert_eq!(third.action, first.action);
    assert_ne!(third.key, first.key, "receivers would take it for the first");
}

#[test]
fn what_is_handed_over_together_fails_once() {
    let mut outbox = outbox(|_| ());
    let many: Vec<_> = (1..=64).map(|it| projected(it, 1, &[(&*it.to_string(), "Ulm")])).collect();
    outbox.enqueue(1, &many).unwrap();
    let fail = |deliveries: Vec<Delivery>| -> Vec<_> {
        deliveries.into_iter().map(|it| (it, Err(Fault::transient("away")))).collect()
    };
    let taken: Vec<_> =
        outbox.take(1, 64).unwrap().into_iter().map(|attempt| attempt.delivery).collect();
    outbox.finish(1, &fail(taken)).unwrap();
    assert_eq!(outbox.endpoint().failures, 1);
    assert!(!outbox.is_down());
    // Nor does it count where something of it was taken.
    let now = 1 + 16_000;
    let taken: Vec<_> =
        outbox.take(now, 64).unwrap().into_iter().map(|attempt| attempt.delivery).collect();
    let mut outcomes = fail(taken);
    outcomes[0].1 = Ok(());
    outbox.finish(now, &outcomes).unwrap();
    assert_eq!(outbox.endpoint().failures, 0);
}

#[test]
fn a_dead_letter_keeps_its_number_while_its_row_is_none() {
    let mut outbox = outbox(|policy| policy.on_poison = OnPoison::Hold);
    let misfit_by = |change, why| {
        let mut projected = projected(1, change, &[("a", "Ulm")]);
        let record = Record { name: "jobs".to_owned(), key: "b".to_owned() };
        projected.rows.insert(record, Err(why));
        projected
    };
    let misfit = |change| misfit_by(change, Misfit::Twice);
    outbox.enqueue(1, &[misfit(1)]).unwrap();
    let before = outbox.dead_letters().unwrap();
    assert_eq!(outbox.enqueue(9, &[misfit(2)]).unwrap().misfits, 0);
    assert_eq!(outbox.dead_letters().unwrap(), before);
    // For another reason it is the same letter, which says so.
    let another = misfit_by(5, Misfit::Key { path: "b".into() });
    assert_eq!(outbox.enqueue(9, std::slice::from_ref(&another)).unwrap().misfits, 1);
    let [(number, letter)] = &outbox.dead_letters().unwrap()[..] else { panic!("one letter") };
    assert_eq!((*number, letter.at_ms, &letter.heads), (before[0].0, 1, &another.heads));
    assert!(letter.fault.contains("needs a plain value at b"), "{}", letter.fault);
    // What is poison holds its document, and letting the misfit be does not release it.
    let poison = one(&mut outbox, 9);
    outbox.finish(9, &[(poison, Err(Fault::permanent("no")))]).unwrap();
    outbox.enqueue(10, &[projected(1, 3, &[("a", "Bonn")])]).unwrap();
    assert!(take(&mut outbox, 10).is_empty());
    outbox.enqueue(11, &[misfit(4)]).unwrap();
    let letters = outbox.dead_letters().unwrap();
    let (number, _) = letters.iter().find(|(_, letter)| letter.delivery.is_none()).unwrap();
    outbox.discard(12, *number).unwrap();
    assert!(take(&mut outbox, 12).is_empty(), "the poison is still there");
}

#[test]
fn a_row_that_came_back_is_deleted_when_it_goes_and_not_before() {
    let mut outbox = outbox(|_| ());
    outbox.enqueue(1, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let put = one(&mut outbox, 1);
    ok(&mut outbox, 1, put);
    outbox.enqueue(12, &[projected(1, 2, &[])]).unwrap();
    let mark = one(&mut outbox, 12);
    outbox.enqueue(13, &[projected(1, 3, &[("a", "Ulm")])]).unwrap();
    ok(&mut outbox, 14, mark);
    let back = one(&mut outbox, 14);
    ok(&mut outbox, 14, back);
    outbox.enqueue(9_000_000, &[projected(1, 4, &[])]).unwrap();
    assert_eq!(one(&mut outbox, 9_000_000).action, Action::Mark { deleted_ms: 9_000_000 });
}

#[test]
fn what_another_mapping_made_is_not_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let open = |mapping: &str| {
        let database = Database::create(folder.path().join("outbox.redb")).unwrap();
        let policy = policy(|policy| {
            (policy.mode, policy.mapping) = (Mode::Event, mapping.to_owned());
        });
        Outbox::open(database, policy, 7).unwrap()
    };
    let mut outbox = open("1");
    outbox.enqueue(1, &[projected(1, 1, &[("a", "0731 123")])]).unwrap();
    let refused = one(&mut outbox, 1);
    outbox.finish(1, &[(refused.clone(), Err(Fault::permanent("no")))]).unwrap();
    drop(outbox);
    let mut outbox = open("2");
    outbox.apply_mapping(2, "2").unwrap();
    outbox.enqueue(3, &[projected(1, 1, &[("a", "*** 123")])]).unwrap();
    let hidden = one(&mut outbox, 3);
    ok(&mut outbox, 3, hidden.clone());
    let (number, _) = outbox.dead_letters().unwrap()[0].clone();
    outbox.replay(4, number).unwrap();
    let replayed = one(&mut outbox, 4);
    assert_eq!(replayed.action, hidden.action, "not what was there before");
}

#[test]
fn a_row_whose_letter_was_discarded_is_not_called_delivered() {
    let mut outbox = outbox(|_| {});
    let document = DocumentId([1; 16]);
    let state = |outbox: &Outbox| outbox.standing(&document).unwrap().remove(0).state;
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let delivery = one(&mut outbox, 0);
    finish(&mut outbox, 0, delivery, None);
    assert_eq!(state(&outbox), RowState::Delivered);
    let refuse = |outbox: &mut Outbox, change: u8| {
        let now = u64::from(change);
        outbox.enqueue(now, &[projected(1, change, &[("a", &format!("no {change}"))])]).unwrap();
        let delivery = one(outbox, now);
        finish(outbox, now, delivery, NEVER);
        let letters = outbox.dead_letters().unwrap();
        assert_eq!(letters.len(), 1, "a row has one letter, for what it is last");
        letters[0].0
    };
    refuse(&mut outbox, 2);
    let number = refuse(&mut outbox, 3);
    outbox.discard(4, number).unwrap();
    assert_eq!(state(&outbox), RowState::Discarded);
    assert_eq!(outbox.depth().unwrap().discarded, 1);
    // By a change that makes the same row it is not judged anew.
    outbox.enqueue(5, &[projected(1, 4, &[("a", "no 3")])]).unwrap();
    assert_eq!(state(&outbox), RowState::Discarded);
    let number = refuse(&mut outbox, 6);
    assert_eq!(state(&outbox), RowState::Dead { number, fault: "no".to_owned() });
    outbox.discard(7, number).unwrap();
    outbox.enqueue(8, &[projected(1, 8, &[("a", "Bonn")])]).unwrap();
    let delivery = one(&mut outbox, 8);
    finish(&mut outbox, 8, delivery, None);
    assert_eq!(state(&outbox), RowState::Delivered);
    assert_eq!(outbox.depth().unwrap().discarded, 0);
    let number = refuse(&mut outbox, 9);
    outbox.discard(10, number).unwrap();
    // Back to what the target holds, which is something to deliver all the same.
    outbox.enqueue(11, &[projected(1, 11, &[("a", "Bonn")])]).unwrap();
    let delivery = one(&mut outbox, 11);
    finish(&mut outbox, 11, delivery, None);
    assert_eq!(state(&outbox), RowState::Delivered);
    // What a document does not become any more is not missed.
    let number = refuse(&mut outbox, 12);
    outbox.discard(12, number).unwrap();
    outbox.enqueue(13, &[projected(1, 13, &[])]).unwrap();
    let delivery = one(&mut outbox, 13);
    finish(&mut outbox, 13, delivery, None);
    assert_eq!(state(&outbox), RowState::Gone);
    assert_eq!(outbox.depth().unwrap().discarded, 0);
}

#[test]
fn a_refused_deletion_that_was_discarded_stays_known() {
    let mut outbox = outbox(|policy| policy.deletes = Deletes::Delete);
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let delivery = one(&mut outbox, 0);
    finish(&mut outbox, 0, delivery, None);
    outbox.enqueue(1, &[projected(1, 2, &[])]).unwrap();
    let deletion = one(&mut outbox, 1);
    finish(&mut outbox, 1, deletion, NEVER);
    let number = outbox.dead_letters().unwrap()[0].0;
    outbox.discard(2, number).unwrap();
    for change in 3..6 {
        outbox.enqueue(u64::from(change), &[projected(1, change, &[])]).unwrap();
        let standing = outbox.standing(&DocumentId([1; 16])).unwrap();
        assert_eq!(standing[0].state, RowState::Discarded, "the target has the row still");
        assert_eq!(outbox.depth().unwrap().discarded, 1);
    }
}
