//! A disk that fails at every single call in turn.

use std::collections::BTreeSet;

use rejoin_core::ChangeHash;
use rejoin_relay::{CompactionPolicy, Relay, RelayOptions, TailPolicy, compact_in_process};

use crate::disk::Disk;
use crate::harness::{Author, PLENTY, Peer, World, document, hashes, open};

/// After SQLite: fail the first call, then the second, and so on until nothing fails any more.
#[test]
fn nothing_acknowledged_is_lost_whichever_call_fails_once() {
    fail_every_call(false);
}

#[test]
fn nothing_acknowledged_is_lost_whichever_call_the_disk_breaks_at() {
    fail_every_call(true);
}

fn fail_every_call(stays_broken: bool) {
    let mut calls = 0;
    for number in 1.. {
        let script = Script::run(number, stays_broken);
        script.check(number);
        if script.untouched {
            break;
        }
        calls = number;
    }
    assert!(calls > 50, "only {calls} calls were made");
}

/// One run against one failure: what was acknowledged, and what the disk has afterwards.
struct Script {
    acked: BTreeSet<ChangeHash>,
    stored: BTreeSet<ChangeHash>,
    /// Nothing failed: there are fewer calls than that.
    untouched: bool,
}

impl Script {
    fn run(number: u64, stays_broken: bool) -> Self {
        let world = World::with(options());
        world.disk.fail_at(world.disk.calls() + number, stays_broken);
        Self::finish(world)
    }

    fn finish(mut world: World) -> Self {
        let mut acked = BTreeSet::new();
        let untouched = edit(&mut world, &mut acked).is_ok();
        let stored = stored_after_power_loss(&world);
        Self { acked, stored, untouched }
    }

    fn check(&self, number: u64) {
        let lost: Vec<_> = self.acked.difference(&self.stored).collect();
        assert!(lost.is_empty(), "call {number}: acknowledged and lost: {lost:?}");
    }
}

fn options() -> RelayOptions {
    let mut policy = CompactionPolicy::default();
    (policy.changes_min, policy.quiet_ms) = (4, 0);
    policy.tail = TailPolicy { away_ms_max: 0, bytes_max: 0 };
    let mut options = RelayOptions::default();
    options.compaction = Some(policy);
    options
}

/// Pushes, folds and pushes again, and notes what was acknowledged on the way.
fn edit(world: &mut World, acked: &mut BTreeSet<ChangeHash>) -> Result<(), String> {
    let mut alice = world.connect(None, false);
    let mut authors: Vec<_> = (1..=3).map(Author::new).collect();
    let mut pushed = Vec::new();
    for round in 0..4 {
        for (n, author) in authors.iter_mut().enumerate() {
            let chunks = author.puts(2);
            pushed.push(hashes(&chunks));
            alice.push(pushed.len() as u64 - 1, document(n as u8), chunks);
        }
        let turned = exchange(world, &mut alice);
        let now_acked = alice.acked();
        acked.extend(now_acked.iter().flat_map(|ticket| pushed[*ticket as usize].clone()));
        turned?;
        if round == 2 {
            fold(world)?;
        }
    }
    Ok(())
}

fn exchange(world: &mut World, alice: &mut Peer) -> Result<(), String> {
    world.send(alice);
    world.relay.turn(world.now, world.unix_ms).map_err(|error| error.to_string())?;
    world.receive(alice, PLENTY);
    world.now += 1000;
    Ok(())
}

fn fold(world: &mut World) -> Result<(), String> {
    while let Some(input) = world.relay.poll_compaction() {
        let compacted = compact_in_process(&input);
        drop(input);
        world.relay.handle_compacted(compacted);
        world.relay.turn(world.now, world.unix_ms).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Everything a new replica is sent after the machine lost power.
fn stored_after_power_loss(world: &World) -> BTreeSet<ChangeHash> {
    let mut world = World::over(world.disk.after_power_loss(), RelayOptions::default());
    let mut reader = world.connect(None, false);
    world.drive(&mut [&mut reader]);
    assert!(reader.agrees() || reader.documents.is_empty());
    let changes = reader.documents.values_mut().flat_map(|doc| doc.get_changes(&[]));
    changes.map(|change| ChangeHash(change.hash().0)).collect()
}

#[test]
fn a_store_that_cannot_be_opened_says_so_and_is_whole_later() {
    let mut calls = 0;
    for number in 1.. {
        let disk = Disk::default();
        let database = disk.database().unwrap();
        disk.fail_at(disk.calls() + number, true);
        let opened = Relay::open(database, RelayOptions::default(), || [1; 16]);
        drop(open(&disk.after_power_loss(), RelayOptions::default()));
        if opened.is_ok() {
            break;
        }
        calls = number;
    }
    assert!(calls > 2, "only {calls} calls were made");
}

/// A relay that tells before the disk has it would lose what it acknowledged, and this would notice.
#[cfg(feature = "mutants")]
#[test]
fn a_relay_that_does_not_wait_for_the_disk_is_found_out() {
    let mut options = options();
    options.mutant = Some(rejoin_relay::Mutant::AckBeforeCommit);
    let script = Script::finish(World::with(options));
    assert!(!script.acked.is_subset(&script.stored));
}

#[cfg(feature = "mutants")]
#[test]
fn a_relay_that_takes_orphans_is_found_out() {
    let mut options = RelayOptions::default();
    options.mutant = Some(rejoin_relay::Mutant::DroppedDepCheck);
    let mut world = World::with(options);
    let mut alice = world.connect(None, false);
    alice.push(1, document(1), Author::new(1).puts(3).split_off(1));
    world.drive(&mut [&mut alice]);
    assert!(alice.refused().is_empty());
}
