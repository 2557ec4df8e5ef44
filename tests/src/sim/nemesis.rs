//! What breaks things, and what mends them.

use std::collections::BTreeSet;

use super::agenda::{Event, Node};
use super::disk::{Disk, Full, Strike, Trouble};
use super::model::Fate;
use super::net::Side;
use super::world::{Check, World};

/// One thing that can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reset,
    Partition,
    CrashReplica,
    CrashRelay,
    FailDisk,
    FillDisk,
    RestoreReplica,
    LoseReplica,
    RestoreRelay,
    MoveClock,
    Suspend,
    TakeBackup,
    Erase,
}

impl World {
    /// Something goes wrong, of what this world has.
    pub(super) fn fault(&mut self) -> Check {
        let faults = &self.faults;
        let restores = faults.replica_restores || faults.relay_restores;
        let kinds = [
            (Kind::Reset, faults.resets),
            (Kind::Reset, faults.resets),
            (Kind::Partition, faults.partitions),
            (Kind::CrashReplica, faults.replica_crashes),
            (Kind::CrashReplica, faults.replica_crashes),
            (Kind::CrashRelay, faults.relay_crashes),
            (Kind::FailDisk, faults.disk_errors),
            (Kind::FillDisk, faults.disk_full),
            (Kind::RestoreReplica, faults.replica_restores),
            (Kind::LoseReplica, faults.replica_losses),
            (Kind::RestoreRelay, faults.relay_restores),
            (Kind::MoveClock, faults.clock_jumps),
            (Kind::Suspend, faults.suspensions),
            (Kind::TakeBackup, restores),
            (Kind::TakeBackup, restores),
            (Kind::Erase, self.erases),
        ];
        let on: Vec<_> = kinds.iter().filter(|(_, on)| *on).map(|(kind, _)| *kind).collect();
        let Some(kind) = self.random.pick(&on).copied() else { return Ok(()) };
        let at = self.random.index(self.replicas.len());
        match kind {
            Kind::Reset => self.reset(),
            Kind::Partition => self.partition(at),
            Kind::CrashReplica => return self.crash_soon(Node::Replica(at)),
            Kind::CrashRelay => return self.crash_soon(Node::Relay),
            Kind::FailDisk => self.fail_disk(),
            Kind::FillDisk => self.fill_disk(),
            Kind::RestoreReplica => return self.restore_replica(at),
            Kind::LoseReplica => return self.lose_replica(at),
            Kind::RestoreRelay => return self.restore_relay(),
            Kind::MoveClock => self.move_clock(),
            Kind::Suspend => self.suspend(at),
            Kind::TakeBackup => self.take_backup(),
            Kind::Erase => return self.erase(),
        }
        Ok(())
    }

    fn any_node(&mut self) -> Node {
        let at = self.random.index(self.replicas.len());
        if self.random.chance(300) { Node::Relay } else { Node::Replica(at) }
    }

    fn disk(&self, node: Node) -> Disk {
        match node {
            Node::Relay => self.relay.disk.clone(),
            Node::Replica(at) => self.replicas[at].disk.clone(),
        }
    }

    fn reset(&mut self) {
        let all = self.net.all();
        if let Some(id) = self.random.pick(&all).copied() {
            self.note(format_args!("connection {id} is reset"));
            self.net.reset(self.now, &mut self.agenda, &self.faults, id);
        }
    }

    fn partition(&mut self, at: usize) {
        let for_ms = self.random.between(100, 90_000);
        let sides: &[Side] = match self.random.below(3) {
            0 => &[Side::Relay],
            1 => &[Side::Replica],
            _ => &[Side::Relay, Side::Replica],
        };
        self.note(format_args!("replica {at} is cut off towards {sides:?} for {for_ms}"));
        self.replicas[at].offline_until = self.now + for_ms;
        let process = self.replicas[at].process.as_ref();
        let Some(id) = process.and_then(|process| process.connection()) else { return };
        for side in sides {
            self.net.block(self.now, &mut self.agenda, id, *side, for_ms);
        }
    }

    /// At once, or in the middle of a disk operation to come.
    fn crash_soon(&mut self, node: Node) -> Check {
        let strike = self.strike();
        if self.random.chance(300) {
            return self.crash(node, strike);
        }
        let operations = self.random.below(120);
        self.note(format_args!("{node:?} is to go down after {operations} operations"));
        self.disk(node).arm(operations, Trouble::Strike(strike));
        Ok(())
    }

    fn fail_disk(&mut self) {
        let node = self.any_node();
        let for_good = self.random.chance(250);
        let trouble = if for_good { Trouble::FailForGood } else { Trouble::FailOnce };
        let operations = self.random.below(120);
        self.note(format_args!("disk of {node:?}: {trouble:?} after {operations} operations"));
        self.disk(node).arm(operations, trouble);
        if for_good {
            let wait = self.random.between(5000, 60_000);
            self.agenda.at(self.now + wait, Event::Space(node));
        }
    }

    fn fill_disk(&mut self) {
        let node = self.any_node();
        let full = if self.random.chance(500) { Full::AtGrowth } else { Full::AtWrite };
        self.note(format_args!("disk of {node:?} is full: {full:?}"));
        self.disk(node).set_full(Some(full));
        let wait = self.random.between(1000, 60_000);
        self.agenda.at(self.now + wait, Event::Space(node));
    }

    /// A disk is emptied, or replaced by one that works: the machine starts anew then.
    pub(super) fn repair_disk(&mut self, node: Node) -> Check {
        let disk = self.disk(node);
        disk.set_full(None);
        if disk.is_broken() {
            self.crash(node, Strike::Kill)?;
        }
        Ok(())
    }

    fn take_backup(&mut self) {
        let node = match self.any_node() {
            Node::Relay if !self.faults.relay_restores => return,
            Node::Replica(_) if !self.faults.replica_restores => return,
            node => node,
        };
        self.note(format_args!("backup of {node:?}"));
        let backup = self.disk(node).backup();
        match node {
            Node::Relay => self.relay.backups.push(backup),
            Node::Replica(at) => {
                let of_replica = self.ledger.of_replica(at);
                let held =
                    of_replica.filter(|(_, entry)| entry.fate == Fate::Kept && !entry.author_lost);
                let held = held.map(|(id, _)| id).collect();
                self.replicas[at].backups.push((backup, held));
            }
        }
    }

    fn restore_replica(&mut self, at: usize) -> Check {
        let Some((backup, held)) = self.random.pick(&self.replicas[at].backups).cloned() else {
            return Ok(());
        };
        self.crash(Node::Replica(at), Strike::Kill)?;
        self.note(format_args!("replica {at} is restored from a backup"));
        self.replicas[at].disk.restore(&backup);
        self.lose_work(at, &held);
        Ok(())
    }

    fn lose_replica(&mut self, at: usize) -> Check {
        // Rarely: a device that lost everything has little left to lose.
        if self.random.chance(500) {
            return Ok(());
        }
        self.crash(Node::Replica(at), Strike::PowerLoss)?;
        self.note(format_args!("replica {at} is lost and begins anew"));
        self.replicas[at].disk = Disk::new();
        self.replicas[at].has_file = false;
        self.replicas[at].backups.clear();
        self.lose_work(at, &BTreeSet::new());
        Ok(())
    }

    /// The store of a replica holds only these of its edits any more.
    fn lose_work(&mut self, at: usize, held: &BTreeSet<u64>) {
        for (id, entry) in self.ledger.of_replica(at) {
            // A relay may have taken a part of an undo and asked to wait with the rest.
            entry.torn |= entry.undone;
            if !held.contains(&id) {
                entry.author_lost = true;
                self.replicas[at].waiting.remove(&id);
            }
        }
        self.replicas[at].forget_disk();
    }

    fn restore_relay(&mut self) -> Check {
        let Some(backup) = self.random.pick(&self.relay.backups).cloned() else { return Ok(()) };
        self.crash(Node::Relay, Strike::Kill)?;
        self.note(format_args!("the relay is restored from a backup"));
        self.relay.disk.restore(&backup);
        self.relay.restored = true;
        Ok(())
    }

    fn move_clock(&mut self) {
        let years = self.random.between(0, 20) as i64 - 10;
        let off_s = years * 365 * 86_400 + self.random.below(86_400) as i64;
        match self.any_node() {
            Node::Relay => self.relay.calendar_ms = off_s * 1000,
            Node::Replica(at) => self.replicas[at].calendar_s = off_s,
        }
    }

    fn suspend(&mut self, at: usize) {
        if std::mem::replace(&mut self.replicas[at].asleep, true) {
            return;
        }
        self.note(format_args!("replica {at} sleeps"));
        let wait = self.random.between(1000, 120_000);
        self.agenda.at(self.now + wait, Event::Resume(at));
    }

    /// A device wakes up thirty days later, as its own clocks have it.
    pub(super) fn resume(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        if !std::mem::replace(&mut replica.asleep, false) {
            return;
        }
        replica.skew_ms += THIRTY_DAYS_MS;
        replica.calendar_s += (THIRTY_DAYS_MS / 1000) as i64;
        self.note(format_args!("replica {at} wakes up"));
        self.agenda.wake(self.now, Node::Replica(at));
    }

    /// Nothing goes wrong any more, and what is down starts.
    pub(super) fn heal(&mut self) -> Check {
        self.note(format_args!("everything is mended"));
        self.calm = true;
        self.agenda.retain(|event| !matches!(event, Event::Edit | Event::Fault | Event::Audit));
        self.relay.calm.store(true, std::sync::atomic::Ordering::Relaxed);
        self.relay.disk.heal();
        for id in self.net.all() {
            self.flow(id, Side::Relay);
            self.flow(id, Side::Replica);
        }
        self.net.heal(self.now, &mut self.agenda, &self.faults);
        for at in 0..self.replicas.len() {
            self.replicas[at].disk.heal();
            self.replicas[at].offline_until = 0;
            self.resume(at);
            self.agenda.at(self.now, Event::Start(Node::Replica(at)));
            self.agenda.wake(self.now, Node::Replica(at));
        }
        self.agenda.at(self.now, Event::Start(Node::Relay));
        self.agenda.wake(self.now, Node::Relay);
        if self.random.chance(200) { self.restart_all() } else { Ok(()) }
    }

    /// Every machine loses power and starts again.
    pub(super) fn restart_all(&mut self) -> Check {
        for at in 0..self.replicas.len() {
            self.crash(Node::Replica(at), Strike::PowerLoss)?;
        }
        self.crash(Node::Relay, Strike::PowerLoss)
    }
}

const THIRTY_DAYS_MS: u64 = 30 * 86_400_000;
