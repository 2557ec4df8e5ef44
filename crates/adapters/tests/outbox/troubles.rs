//! Troubles of the target and of the configuration, which are no row's fault.

use super::*;

#[test]
fn what_no_row_can_help_costs_none_an_attempt() {
    let mut outbox = outbox(|policy| policy.retry.disable_after = Duration::from_mins(1));
    let rows: Vec<_> = (1..=60).map(|it| projected(it, 1, &[(&*it.to_string(), "Ulm")])).collect();
    outbox.enqueue(0, &rows).unwrap();
    let (mut now, mut asked) = (0, BTreeSet::new());
    let first: Vec<_> = outbox.take(0, 8).unwrap();
    let refused = |taken: Vec<Attempt>| -> Vec<_> {
        taken.into_iter().map(|it| (it.delivery, Err(Fault::trouble("refused")))).collect()
    };
    let finished = outbox.finish(0, &refused(first)).unwrap();
    assert_eq!(finished.begun.len(), 1, "{finished:?}");
    assert!(outbox.is_down(), "at once");
    let mut waits = Vec::new();
    while now < 60 * MINUTE {
        let next = outbox.next_ms().unwrap().unwrap();
        waits.push(next - now);
        now = next;
        let probe = outbox.take(now, 8).unwrap();
        assert_eq!((probe.len(), probe[0].attempts), (1, 0), "one asks for all");
        asked.insert(probe[0].delivery.document);
        assert_eq!(outbox.finish(now, &refused(probe)).unwrap(), Finished::default());
    }
    assert!(asked.len() > 20, "another one each time");
    assert!(waits.iter().all(|wait| (1_000..=60_000).contains(wait)), "{waits:?}");
    assert!(waits.iter().take(10).all(|wait| *wait < 2_000), "{waits:?}");
    assert_eq!(outbox.endpoint().disabled, None, "it refused nothing");
    let [failing] = &outbox.failing().unwrap()[..] else { panic!("one cause") };
    assert_eq!((&*failing.what, failing.rows, failing.since_ms), ("refused", 60, 0));
    assert!(outbox.unsent(9).unwrap().iter().all(|it| it.fault.as_deref() == Some("refused")));

    // The first that is taken makes all others due.
    now = outbox.next_ms().unwrap().unwrap();
    let back = outbox.take(now, 8).unwrap().remove(0).delivery;
    let finished = outbox.finish(now, &[(back, Ok(()))]).unwrap();
    assert_eq!(finished.ended.len(), 1, "{finished:?}");
    let mut delivered = 1;
    while outbox.next_ms().unwrap().is_some_and(|next| next <= now) {
        let some = outbox.take(now, 8).unwrap();
        assert!((1..=8).contains(&some.len()), "at a bounded rate");
        delivered += some.len();
        let some: Vec<_> = some.into_iter().map(|it| (it.delivery, Ok(()))).collect();
        outbox.finish(now, &some).unwrap();
    }
    assert_eq!((delivered, outbox.depth().unwrap().waiting), (60, 0));
    assert_eq!(outbox.depth().unwrap().dead, 0);
}

#[test]
fn the_longer_an_outage_lasted_the_less_often_it_is_asked_about() {
    let mut outbox = outbox(|policy| policy.retry.jitter = 0.0);
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    for (at, wait) in
        [(0, 1_000), (20_000, 2_000), (60_000, 6_000), (5 * MINUTE, 30_000), (90 * MINUTE, 60_000)]
    {
        let delivery = one(&mut outbox, at);
        finish(&mut outbox, at, delivery, Some(FaultClass::Trouble(Reach::Target)));
        assert_eq!(outbox.next_ms().unwrap(), Some(at + wait));
    }
}

/// Documents whose rows are of two kinds, half and half.
fn two_kinds(outbox: &mut Outbox) {
    let rows: Vec<_> = (1..=20)
        .map(|it| {
            let mut projected = projected(it, 1, &[(&*it.to_string(), "Ulm")]);
            if it % 2 == 0 {
                let rows = std::mem::take(&mut projected.rows).into_iter();
                projected.rows =
                    rows.map(|(it, row)| (Record { name: "parts".into(), ..it }, row)).collect();
            }
            projected
        })
        .collect();
    outbox.enqueue(0, &rows).unwrap();
}

fn finish_by(
    outbox: &mut Outbox,
    now_ms: u64,
    taken: Vec<Attempt>,
    judge: impl Fn(&Delivery) -> Result<(), Fault>,
) -> Finished {
    let outcomes: Vec<_> = taken
        .into_iter()
        .map(|attempt| (judge(&attempt.delivery), attempt.delivery))
        .map(|(outcome, delivery)| (delivery, outcome))
        .collect();
    outbox.finish(now_ms, &outcomes).unwrap()
}

#[test]
fn a_missing_table_stops_the_rows_of_that_table_only() {
    let mut outbox = outbox(|_| {});
    two_kinds(&mut outbox);
    let no_parts = |delivery: &Delivery| match &*delivery.record.name {
        "parts" => Err(Fault::trouble_of_kind("create the table")),
        _ => Ok(()),
    };
    let taken = outbox.take(0, 5).unwrap();
    assert_eq!(finish_by(&mut outbox, 0, taken, no_parts).begun.len(), 1);
    assert!(!outbox.is_down());
    let mut asked = 0;
    for _ in 0..400 {
        let Some(now) = outbox.next_ms().unwrap() else { break };
        let taken = outbox.take(now, 5).unwrap();
        let parts = taken.iter().filter(|it| it.delivery.record.name == "parts").count();
        assert!(parts <= 1 && taken.iter().all(|it| it.attempts == 0));
        asked += parts;
        finish_by(&mut outbox, now, taken, no_parts);
    }
    assert!(asked > 100, "{asked}");
    assert_eq!((outbox.depth().unwrap().waiting, outbox.depth().unwrap().dead), (10, 0));
    let [failing] = &outbox.failing().unwrap()[..] else { panic!("one cause") };
    assert_eq!((&failing.reach, failing.rows), (&FailingReach::Kind("parts".to_owned()), 10));
    assert_eq!(failing.next_ms, outbox.next_ms().unwrap());

    let now = failing.next_ms.unwrap();
    let taken = outbox.take(now, 5).unwrap();
    assert_eq!(finish_by(&mut outbox, now, taken, |_| Ok(())).ended.len(), 1);
    let taken = outbox.take(now, 20).unwrap();
    assert_eq!(taken.len(), 9, "all at once");
    finish_by(&mut outbox, now, taken, |_| Ok(()));
    assert_eq!((outbox.depth().unwrap().waiting, outbox.next_ms().unwrap()), (0, None));
}

#[test]
fn what_waits_behind_a_row_in_trouble_goes_when_that_row_does() {
    let mut outbox = outbox(|_| {});
    let of_parts = |mut it: Projected| {
        let rows = std::mem::take(&mut it.rows).into_iter();
        it.rows = rows.map(|(it, row)| (Record { name: "parts".into(), ..it }, row)).collect();
        it
    };
    outbox.enqueue(0, &[of_parts(projected(1, 1, &[("a", "Ulm")]))]).unwrap();
    let taken = outbox.take(0, 8).unwrap();
    finish_by(&mut outbox, 0, taken, |_| Err(Fault::trouble_of_kind("create the table")));
    let both = |change, town| {
        let mut both = projected(1, change, &[("b", "Ulm")]);
        both.rows.extend(of_parts(projected(1, change, &[("a", town)])).rows);
        both
    };
    outbox.enqueue(1, &[both(2, "Ulm")]).unwrap();
    outbox.enqueue(2, &[both(3, "Bonn"), projected(2, 1, &[("c", "Ulm")])]).unwrap();
    let taken = outbox.take(3, 8).unwrap();
    assert!(taken.iter().all(|it| it.delivery.record.name == "jobs"), "{taken:?}");
    assert_eq!(taken.len(), 2, "what was replaced waits behind now");
    finish_by(&mut outbox, 3, taken, |_| Ok(()));
    // What follows is parked first, and judged when the kind is asked about again.
    let parked = outbox.next_ms().unwrap().unwrap();
    assert!(outbox.take(parked, 8).unwrap().is_empty());
    let now = outbox.next_ms().unwrap().unwrap();
    let taken = outbox.take(now, 8).unwrap();
    finish_by(&mut outbox, now, taken, |_| Err(Fault::permanent("no")));
    assert!(outbox.endpoint().troubles.is_empty());
    assert_eq!((outbox.depth().unwrap().waiting, outbox.next_ms().unwrap()), (0, None));
}

#[test]
fn one_row_that_meets_what_others_of_its_kind_do_not_waits_alone() {
    let mut outbox = outbox(|_| {});
    two_kinds(&mut outbox);
    let one_alone = |delivery: &Delivery| match &*delivery.record.key {
        "8" => Err(Fault::trouble_of_kind("add the column")),
        _ => Ok(()),
    };
    for _ in 0..200 {
        let now = outbox.next_ms().unwrap().expect("it is asked about again");
        let taken = outbox.take(now, 1).unwrap();
        finish_by(&mut outbox, now, taken, one_alone);
    }
    assert!(outbox.dead_letters().unwrap().is_empty() && outbox.endpoint().troubles.is_empty());
    let [failing] = &outbox.failing().unwrap()[..] else { panic!("one cause") };
    assert_eq!((&*failing.what, failing.rows), ("add the column", outbox.depth().unwrap().waiting));
    let now = outbox.next_ms().unwrap().expect("it is asked about again");
    let taken = outbox.take(now, 1).unwrap();
    assert_eq!(taken[0].delivery.record.key, "8");
    finish_by(&mut outbox, now, taken, |_| Ok(()));
    assert!(outbox.failing().unwrap().is_empty());
}

#[test]
fn whoever_begins_anew_or_asks_for_it_tries_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let database = Database::create(folder.path().join("outbox.redb")).unwrap();
        Outbox::open(database, policy(|_| {}), 7).unwrap()
    };
    let mut outbox = open();
    two_kinds(&mut outbox);
    let taken = outbox.take(0, 20).unwrap();
    finish_by(&mut outbox, 0, taken, |delivery| match &*delivery.record.name {
        "parts" => Err(Fault::trouble_of_kind("create the table")),
        _ => Err(Fault::transient("no")),
    });
    assert!(outbox.take(900, 20).unwrap().is_empty());
    drop(outbox);
    let mut outbox = open();
    let taken = outbox.take(901, 20).unwrap();
    assert_eq!(taken.len(), 11, "those that wait, and one that asks for the other kind");
    finish_by(&mut outbox, 901, taken, |_| Err(Fault::trouble("refused")));
    assert!(outbox.take(902, 20).unwrap().is_empty());
    outbox.retry();
    assert_eq!(outbox.take(903, 20).unwrap().len(), 1, "it is down");
    outbox.give_back_all();
    outbox.retry();
    let taken = outbox.take(904, 20).unwrap();
    finish_by(&mut outbox, 904, taken, |_| Ok(()));
    let mut left = 0;
    while outbox.next_ms().unwrap().is_some_and(|next| next <= 904) {
        let taken = outbox.take(904, 20).unwrap();
        left += taken.len();
        finish_by(&mut outbox, 904, taken, |_| Ok(()));
    }
    assert_eq!((left, outbox.depth().unwrap().waiting), (19, 0));
}

#[test]
fn a_row_is_tried_once_before_its_time_when_the_target_takes_another() {
    let mut outbox = outbox(|policy| policy.retry.jitter = 0.0);
    let other = |outbox: &mut Outbox, now: u64| {
        outbox.enqueue(now, &[projected(2, now as u8, &[("b", &now.to_string())])]).unwrap();
    };
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let first = one(&mut outbox, 0);
    finish(&mut outbox, 0, first, AGAIN);
    assert_eq!(outbox.next_ms().unwrap(), Some(10_000));
    other(&mut outbox, 1_000);
    let taken = one(&mut outbox, 1_000);
    finish(&mut outbox, 1_000, taken, None);
    assert!(outbox.next_ms().unwrap().is_some_and(|next| next <= 1_000), "it may go by now");
    let early = outbox.take(1_000, 8).unwrap().remove(0);
    assert_eq!((&*early.delivery.record.key, early.attempts), ("a", 1));
    finish(&mut outbox, 1_000, early.delivery, AGAIN);
    assert_eq!(outbox.next_ms().unwrap(), Some(10_000), "its time by the schedule is as it was");
    // However often others are taken, it is not asked about again before that time.
    for now in (2_000..10_000).step_by(1_000) {
        other(&mut outbox, now);
        let taken = one(&mut outbox, now);
        assert_eq!(taken.record.key, "b");
        finish(&mut outbox, now, taken, None);
    }
    let again = outbox.take(10_000, 8).unwrap().remove(0);
    assert_eq!(again.attempts, 1, "what was tried early cost no attempt");
    finish(&mut outbox, 10_000, again.delivery, AGAIN);
    assert_eq!(outbox.next_ms().unwrap(), Some(10_000 + 5 * MINUTE));
    // A target that wants to be left alone for some time is.
    other(&mut outbox, 11_000);
    let taken = one(&mut outbox, 11_000);
    finish(&mut outbox, 11_000, taken, None);
    let early = one(&mut outbox, 11_000);
    let after = Some(Duration::from_mins(30));
    finish(&mut outbox, 11_000, early, Some(FaultClass::Transient { after }));
    assert_eq!(outbox.next_ms().unwrap(), Some(11_000 + 30 * MINUTE));
}

#[test]
fn what_is_tried_early_says_nothing_of_the_target() {
    let mut outbox = outbox(|policy| policy.retry.jitter = 0.0);
    let rows: Vec<_> = (1..=8).map(|it| projected(it, 1, &[(&*it.to_string(), "Ulm")])).collect();
    outbox.enqueue(0, &rows).unwrap();
    let taken = outbox.take(0, 20).unwrap();
    finish_by(&mut outbox, 0, taken, |delivery| match &*delivery.record.key {
        "8" => Ok(()),
        _ => Err(Fault::transient("no")),
    });
    let early = outbox.take(1, 20).unwrap();
    assert_eq!(early.len(), 7, "the target takes others");
    for attempt in early {
        assert!(
            finish_by(&mut outbox, 1, vec![attempt], |_| Err(Fault::transient("no")))
                .begun
                .is_empty()
        );
    }
    assert!(!outbox.is_down() && outbox.endpoint().failures == 0);
    assert_eq!(outbox.next_ms().unwrap(), Some(10_000));
    assert!(outbox.take(10_000, 20).unwrap().iter().all(|it| it.attempts == 1));
}

#[test]
fn a_row_that_was_corrected_does_not_wait_for_what_it_was_answered_before() {
    let mut outbox = outbox(|_| {});
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let wrong = one(&mut outbox, 0);
    finish(&mut outbox, 0, wrong, AGAIN);
    assert!(take(&mut outbox, 1_000).is_empty());
    outbox.enqueue(1_000, &[projected(1, 2, &[("a", "Bonn")])]).unwrap();
    let corrected = outbox.take(1_000, 8).unwrap().remove(0);
    assert_eq!((corrected.delivery.action, corrected.attempts), (Action::Put(row("Bonn")), 0));
}

#[test]
fn what_was_under_way_when_its_row_was_corrected_is_not_tried_again() {
    let no_table = Some(FaultClass::Trouble(Reach::NoPlace));
    let away = Some(FaultClass::Trouble(Reach::Target));
    for class in [AGAIN, NEVER, no_table, away] {
        let mut outbox = outbox(|_| {});
        outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
        let wrong = one(&mut outbox, 0);
        outbox.enqueue(1, &[projected(1, 2, &[("a", "Bonn")])]).unwrap();
        finish(&mut outbox, 2, wrong, class);
        assert_eq!(outbox.depth().unwrap().waiting, 1, "{class:?}");
        assert!(outbox.dead_letters().unwrap().is_empty(), "{class:?}");
        let now = outbox.next_ms().unwrap().unwrap().max(2);
        assert_eq!(now > 2, class == away, "a target that is away is not asked at once");
        let corrected = one(&mut outbox, now);
        assert_eq!(corrected.action, Action::Put(row("Bonn")));
        finish(&mut outbox, now, corrected, None);
        assert_eq!(outbox.depth().unwrap().waiting, 0);
    }
}

#[test]
fn after_a_restart_a_row_that_fails_alone_does_not_hold_up_its_kind() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let database = Database::create(folder.path().join("outbox.redb")).unwrap();
        Outbox::open(database, policy(|_| {}), 7).unwrap()
    };
    let mut outbox = open();
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let lacking = one(&mut outbox, 0);
    finish(&mut outbox, 0, lacking, Some(FaultClass::Trouble(Reach::Kind)));
    outbox.enqueue(100, &[projected(2, 1, &[("b", "Ulm")])]).unwrap();
    assert!(outbox.take(100, 8).unwrap().is_empty(), "it is parked, as the kind is in trouble");
    let now = outbox.next_ms().unwrap().unwrap();
    let other = one(&mut outbox, now);
    assert_eq!(other.record.key, "b", "what did not meet the trouble asks about it");
    finish(&mut outbox, now, other, None);
    drop(outbox);
    let mut outbox = open();
    let lacking = one(&mut outbox, now + 1);
    assert_eq!(lacking.record.key, "a");
    finish(&mut outbox, now + 1, lacking, Some(FaultClass::Trouble(Reach::Kind)));
    assert!(outbox.endpoint().troubles.is_empty(), "others of the kind were taken since");
    outbox.enqueue(now + 2, &[projected(3, 1, &[("c", "Ulm")])]).unwrap();
    assert_eq!(one(&mut outbox, now + 2).record.key, "c");
}

#[test]
fn rows_of_a_kind_that_nobody_makes_any_more_are_gone_with_their_table() {
    for (kinds, is_left) in [(vec!["parts"], false), (vec!["parts", "jobs"], true)] {
        let mut outbox = outbox(|policy| {
            policy.deletes = Deletes::Delete;
            policy.kinds = kinds.into_iter().map(str::to_owned).collect();
        });
        outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
        let taken = one(&mut outbox, 0);
        finish(&mut outbox, 0, taken, None);
        outbox.enqueue(1, &[projected(1, 2, &[])]).unwrap();
        let deletion = one(&mut outbox, 1);
        assert_eq!(deletion.action, Action::Delete);
        finish(&mut outbox, 1, deletion, Some(FaultClass::Trouble(Reach::NoPlace)));
        let depth = outbox.depth().unwrap();
        assert_eq!((depth.waiting > 0, depth.dead), (is_left, 0));
        assert_eq!(outbox.failing().unwrap().is_empty(), !is_left, "the table may come back");
    }
}

#[test]
fn a_mapping_that_nobody_applied_takes_no_deletion_for_done() {
    let folder = tempfile::tempdir().unwrap();
    let open = |mapping: &str, kind: &str| {
        let database = Database::create(folder.path().join("outbox.redb")).unwrap();
        let policy = policy(|policy| {
            policy.deletes = Deletes::Delete;
            (policy.mapping, policy.kinds) = (mapping.to_owned(), [kind.to_owned()].into());
        });
        Outbox::open(database, policy, 7).unwrap()
    };
    let mut outbox = open("1", "jobs");
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let delivery = one(&mut outbox, 0);
    finish(&mut outbox, 0, delivery, None);
    outbox.enqueue(1, &[projected(1, 2, &[])]).unwrap();
    drop(outbox);
    // The file says otherwise by now, and the table of before is away for a moment.
    let mut outbox = open("2", "orders");
    let deletion = one(&mut outbox, 2);
    finish(&mut outbox, 2, deletion, Some(FaultClass::Trouble(Reach::NoPlace)));
    assert_eq!(outbox.depth().unwrap().waiting, 1, "the row may still be there");
}

#[test]
fn without_its_only_table_nothing_is_delivered() {
    let mut outbox = outbox(|policy| policy.kinds = [String::from("jobs")].into());
    outbox.enqueue(0, &[projected(1, 1, &[("a", "Ulm")])]).unwrap();
    let delivery = one(&mut outbox, 0);
    finish(&mut outbox, 0, delivery, Some(FaultClass::Trouble(Reach::NoPlace)));
    assert!(outbox.delivers_nothing() && !outbox.is_down());
}
