//! Simulated deliveries: an outbox on a disk that goes down in the middle of anything, and a target
//! that refuses, hangs, and loses its answers.
//!
//! What must hold in the end: the target holds what was last projected of every row, but for what is
//! a dead letter; no effect happened twice under different keys, or differently under one; those of
//! one document happened in their order; and no event is lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use redb::Database;
use rejoin::{ChangeHash, DocumentId};
use rejoin_adapters::delivery::{
    Action, Delivery, Fault, FaultClass, IdempotencyKey, Reach, Record, Row,
};
use rejoin_adapters::mapping::{Deletes, Mode, OnPoison, Retry};
use rejoin_adapters::outbox::{DeadClass, Outbox, OutboxError, Policy, Projected, Wanted};
use rejoin_adapters::projection::Misfit;
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use crate::sim::disk::{Disk, Strike, Trouble};
use crate::sim::random::Random;

/// A run that kept its promises.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// How often each thing happened.
    pub found: BTreeMap<&'static str, u64>,
}

/// A run that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Which promise.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "delivery {}: {}", self.seed, self.what)?;
        write!(f, "  replay: cargo xtask sim --adapters --seed {}", self.seed)
    }
}

/// Plays the run of a seed. `print` writes what happens to standard error.
///
/// # Errors
/// A promise was broken.
pub fn run(seed: u64, print: bool) -> Result<Report, Box<Failure>> {
    let mut world = World::new(seed, print);
    world.run().map_err(|what| Box::new(Failure { seed, what }))?;
    Ok(Report { found: world.found })
}

/// Plays a short day to a target that takes everything, and cuts the power at the nth operation of
/// the disk. Returns whether there are so many.
///
/// # Errors
/// A promise was broken.
pub fn crash_at(operation: u64, mode: Mode) -> Result<bool, Box<Failure>> {
    let mut world = World::new(operation, false);
    (world.policy.mode, world.calm) = (mode, true);
    let struck = world.day(operation);
    struck.map_err(|what| Box::new(Failure { seed: operation, what }))
}

const DOCUMENTS: u8 = 5;

/// What documents hold: a number for each of their rows, or that one is no row.
type Job = BTreeMap<u8, Option<u64>>;

struct World {
    random: Random,
    disk: Disk,
    outbox: Option<Outbox>,
    policy: Policy,
    now_ms: u64,
    /// Every document with how often it changed.
    jobs: BTreeMap<u8, (u64, Job)>,
    target: Target,
    /// Deliveries handed over whose outcome has not come back.
    under_way: VecDeque<(Delivery, Result<(), Fault>)>,
    /// What people replayed.
    replayed: BTreeSet<IdempotencyKey>,
    found: BTreeMap<&'static str, u64>,
    print: bool,
    /// Whether the target takes everything now.
    calm: bool,
    /// What is in the way of everything, or of rows of one kind.
    away: Away,
    /// How often each delivery was answered by what may be its own fault.
    failed: BTreeMap<IdempotencyKey, u32>,
}

/// What is in the way of deliveries for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// Nothing.
    Not,
    /// The target answers nothing that helps.
    Failing,
    /// It cannot be reached, or lets nobody in.
    Refusing,
    /// The table of one kind of row has another name.
    Renamed,
}

/// What the outside has seen.
#[derive(Debug, Default)]
struct Target {
    rows: BTreeMap<Record, Row>,
    /// What happened under each key.
    effects: BTreeMap<IdempotencyKey, Delivery>,
    /// The number of the last effect of each document.
    last: BTreeMap<DocumentId, u64>,
    /// And of each row.
    newest: BTreeMap<Record, u64>,
    /// What came after something newer, as only what a person replays does.
    late: BTreeSet<IdempotencyKey>,
}

type Check<T = ()> = Result<T, String>;

impl World {
    fn new(seed: u64, print: bool) -> Self {
        let mut random = Random::new(seed);
        let policy = Policy {
            adapter: "board".to_owned(),
            mapping: "1".to_owned(),
            kinds: ["jobs", "parts"].map(str::to_owned).into(),
            mode: if random.chance(500) { Mode::State } else { Mode::Event },
            deletes: match random.chance(500) {
                true => Deletes::Delete,
                false => Deletes::Mark { ttl: Duration::from_hours(1) },
            },
            retry: Retry {
                schedule: vec![Duration::from_secs(5); 6],
                jitter: 0.2,
                disable_after: Duration::from_hours(if random.chance(500) { 2 } else { 120 }),
            },
            on_poison: if random.chance(300) { OnPoison::Hold } else { OnPoison::Continue },
        };
        let jobs = (1..=DOCUMENTS).map(|job| (job, (0, Job::new()))).collect();
        Self {
            random,
            disk: Disk::new(),
            outbox: None,
            policy,
            now_ms: 1_000_000,
            jobs,
            target: Target::default(),
            under_way: VecDeque::new(),
            replayed: BTreeSet::new(),
            found: BTreeMap::new(),
            print,
            calm: false,
            away: Away::Not,
            failed: BTreeMap::new(),
        }
    }

    fn run(&mut self) -> Check {
        self.open()?;
        for _ in 0..self.random.between(60, 200) {
            match self.random.below(100) {
                0..25 => self.change(),
                25..50 => self.project()?,
                50..75 => self.send()?,
                75..90 => self.answer()?,
                90..93 => self.now_ms += self.random.below(20_000),
                93 => self.replay()?,
                94 if self.random.chance(200) => self.outage()?,
                94 => self.tamper(),
                95 => self.crash(Strike::PowerLoss)?,
                96 if self.random.chance(200) => self.backfill()?,
                96 => self.reconcile().map(drop)?,
                97 => self.crash(Strike::Kill)?,
                _ => {
                    let operations = self.random.below(25);
                    self.disk.arm(operations, Trouble::Strike(Strike::PowerLoss));
                }
            }
            if self.disk.struck().is_some() {
                self.crash(Strike::PowerLoss)?;
            }
        }
        self.come_to_rest()
    }

    fn day(&mut self, operation: u64) -> Check<bool> {
        self.open()?;
        self.disk.arm(operation, Trouble::Strike(Strike::PowerLoss));
        let mut is_struck = false;
        for _ in 0..3 {
            for _ in 0..DOCUMENTS {
                self.change();
            }
            for step in [Self::project, Self::project, Self::send, Self::answer, Self::answer] {
                step(self)?;
                if self.disk.struck().is_some() {
                    is_struck = true;
                    self.crash(Strike::PowerLoss)?;
                }
            }
        }
        self.come_to_rest()?;
        Ok(is_struck)
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.print {
            eprintln!("{:>9} {}", self.now_ms, what());
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.found.entry(what).or_default() += 1;
    }

    fn open(&mut self) -> Check {
        let database = Database::builder()
            .create_with_backend(self.disk.open())
            .map_err(|error| format!("the file does not open: {error}"))?;
        let seed = self.random.draw();
        let outbox = Outbox::open(database, self.policy.clone(), seed);
        self.outbox = Some(outbox.map_err(|error| format!("the outbox does not open: {error}"))?);
        Ok(())
    }

    /// The machine goes down, with everything that was under way.
    fn crash(&mut self, strike: Strike) -> Check {
        self.note(|| format!("{strike:?}"));
        self.count("crashes");
        let strike = self.disk.struck().unwrap_or(strike);
        self.disk.go_down(strike, &mut self.random);
        self.outbox = None;
        self.under_way.clear();
        self.open()
    }

    /// Somebody edits a job.
    fn change(&mut self) {
        let job = self.random.between(1, u64::from(DOCUMENTS)) as u8;
        let row = self.random.below(3) as u8;
        let value = self.random.below(4);
        let (changes, rows) = self.jobs.get_mut(&job).expect("it was made at the beginning");
        *changes += 1;
        match value {
            0 => _ = rows.remove(&row),
            1 if self.random.chance(150) => _ = rows.insert(row, None),
            _ => _ = rows.insert(row, Some(value)),
        }
    }

    fn projected(&self, job: u8) -> Projected {
        let (changes, rows) = &self.jobs[&job];
        let rows = rows.iter().map(|(row, value)| {
            let name = if *row == 2 { "parts" } else { "jobs" }.to_owned();
            let record = Record { name, key: format!("{job}/{row}") };
            let row = value.map(|value| Map::from_iter([("value".to_owned(), json!(value))]));
            (record, row.ok_or(Misfit::Twice))
        });
        Projected {
            document: document(job),
            heads: vec![ChangeHash(Sha256::digest(format!("{job} {changes}")).into())],
            schema: Vec::new(),
            about: Vec::new(),
            by_heads: true,
            rows: rows.collect(),
        }
    }

    /// A call of the outbox, which may be struck.
    fn ask<T>(
        &mut self,
        call: impl FnOnce(&mut Outbox) -> Result<T, OutboxError>,
    ) -> Check<Option<T>> {
        let outbox = self.outbox.as_mut().expect("it is open between crashes");
        match call(outbox) {
            Ok(done) => Ok(Some(done)),
            Err(_) if self.disk.struck().is_some() => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn project(&mut self) -> Check {
        let job = self.random.between(1, u64::from(DOCUMENTS)) as u8;
        let (projected, now_ms) = (self.projected(job), self.now_ms);
        let Projected { document, heads, .. } = projected.clone();
        if self.ask(|outbox| outbox.is_enqueued(&document, &heads, &[]))? == Some(false) {
            let queued = self.ask(|outbox| outbox.enqueue(now_ms, &[projected]))?;
            self.note(|| format!("{job} is projected: {queued:?}"));
            if let Some(queued) = queued {
                *self.found.entry("enqueued").or_default() += queued.deliveries;
                *self.found.entry("replaced").or_default() += queued.replaced;
                *self.found.entry("misfits").or_default() += queued.misfits;
            }
        }
        Ok(())
    }

    /// Hands over what is due. What the target does with it is known to the target first.
    fn send(&mut self) -> Check {
        let (now_ms, max) = (self.now_ms, 3);
        let Some(attempts) = self.ask(|outbox| outbox.take(now_ms, max))? else { return Ok(()) };
        for attempt in attempts {
            let outcome = self.outcome(&attempt.delivery)?;
            self.note(|| format!("{:?} comes to {outcome:?}", attempt.delivery.record));
            self.under_way.push_back((attempt.delivery, outcome));
        }
        Ok(())
    }

    fn outcome(&mut self, delivery: &Delivery) -> Check<Result<(), Fault>> {
        let fault = |class| Err(Fault { class, ..Fault::transient("the target said so") });
        let outcome = match self.random.below(100) {
            _ if self.calm => Ok(()),
            _ if self.away == Away::Failing => fault(FaultClass::Transient { after: None }),
            _ if self.away == Away::Refusing => fault(FaultClass::Trouble(Reach::Target)),
            _ if self.away == Away::Renamed => match &*delivery.record.name {
                "parts" => fault(FaultClass::Trouble(Reach::Kind)),
                _ => Ok(()),
            },
            0..25 => fault(FaultClass::Transient { after: None }),
            25..30 => fault(FaultClass::Transient { after: Some(Duration::from_secs(30)) }),
            30..34 => fault(FaultClass::Permanent),
            34..36 => fault(FaultClass::Gone),
            36..38 => fault(FaultClass::Trouble(Reach::Target)),
            38..41 => fault(FaultClass::Trouble(Reach::Kind)),
            _ => Ok(()),
        };
        match &outcome {
            Err(fault) if fault.is_trouble() => self.count("troubles"),
            Err(_) => *self.failed.entry(delivery.key.clone()).or_default() += 1,
            Ok(()) => {}
        }
        // An answer may be lost on the way although the target took it.
        let takes = outcome.is_ok()
            || matches!(&outcome, Err(Fault { class: FaultClass::Transient { .. }, .. }))
                && self.random.chance(300);
        if takes {
            let replayed = self.replayed.contains(&delivery.key);
            self.target.take(delivery, replayed)?;
            self.count(if outcome.is_ok() { "taken" } else { "answers lost" });
        }
        Ok(outcome)
    }

    fn answer(&mut self) -> Check {
        let some = self.random.between(1, 4) as usize;
        let some: Vec<_> = self.under_way.drain(..some.min(self.under_way.len())).collect();
        if some.is_empty() {
            return Ok(());
        }
        let now_ms = self.now_ms;
        self.ask(|outbox| outbox.finish(now_ms, &some)).map(drop)
    }

    /// Somebody replays a dead letter, and resumes what was given up.
    fn replay(&mut self) -> Check {
        self.ask(Outbox::resume)?;
        let Some(letters) = self.ask(|outbox| outbox.dead_letters())? else { return Ok(()) };
        if let Some((number, letter)) = self.random.pick(&letters).cloned() {
            let now_ms = self.now_ms;
            self.replayed.extend(letter.delivery.map(|delivery| delivery.key));
            self.ask(|outbox| outbox.replay(now_ms, number))?;
            self.count("replayed");
        }
        Ok(())
    }

    /// The target, or a part of it, is away for a day, in which people go on.
    fn outage(&mut self) -> Check {
        self.count("outages");
        self.away = *self
            .random
            .pick(&[Away::Failing, Away::Refusing, Away::Renamed])
            .expect("there are some");
        // What was answered before it began is known.
        while !self.under_way.is_empty() && self.disk.struck().is_none() {
            self.answer()?;
        }
        let was_disabled = self.is_disabled();
        for _ in 0..24 {
            self.now_ms += 3_600_000;
            self.change();
            self.project()?;
            self.send()?;
            self.answer()?;
            if self.disk.struck().is_some() {
                self.crash(Strike::PowerLoss)?;
            }
        }
        if self.away != Away::Failing && self.is_disabled() && !was_disabled {
            return Err("it was given up by what no row can help".to_owned());
        }
        self.away = Away::Not;
        Ok(())
    }

    fn is_disabled(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.endpoint().disabled.is_some())
    }

    /// Somebody changes what the target holds, behind everybody's back.
    fn tamper(&mut self) {
        let rows: Vec<_> = self.target.rows.keys().cloned().collect();
        match self.random.pick(&rows).cloned() {
            Some(record) if self.random.chance(500) => _ = self.target.rows.remove(&record),
            Some(record) => {
                self.target.rows.insert(record, Map::from_iter([("value".to_owned(), json!(-1))]));
            }
            None => return,
        }
        self.count("tampered with");
    }

    fn backfill(&mut self) -> Check {
        let now_ms = self.now_ms;
        self.count("backfills");
        self.ask(|outbox| outbox.backfill(now_ms)).map(drop)
    }

    /// Compares the target with what it should hold, and repairs it. Returns how much differed.
    fn reconcile(&mut self) -> Check<u64> {
        let mut wanted = Vec::new();
        for kind in ["jobs", "parts"] {
            let some = self.ask(|outbox| outbox.wanted(kind, None, usize::MAX))?;
            wanted.extend(some.unwrap_or_default());
        }
        let differs = |wanted: &&Wanted| {
            wanted.row.as_ref() != self.target.rows.get(&wanted.record) && !wanted.is_waiting
        };
        let repairs: Vec<_> =
            wanted.iter().filter(differs).map(|it| (it.document, it.record.clone())).collect();
        let now_ms = self.now_ms;
        let repaired = self.ask(|outbox| outbox.repair(now_ms, &repairs))?.unwrap_or_default();
        *self.found.entry("repaired").or_default() += repaired;
        Ok(repaired)
    }

    /// Ends every fault, and lets everything come to rest.
    fn come_to_rest(&mut self) -> Check {
        self.calm = true;
        self.disk.heal();
        self.crash(Strike::Kill)?;
        self.ask(Outbox::resume)?;
        // People look after the dead letters, but not after what is no row.
        for (number, letter) in self.ask(|outbox| outbox.dead_letters())?.unwrap_or_default() {
            let now_ms = self.now_ms;
            self.count("dead letters");
            let schedule = self.policy.retry.schedule.len() as u32;
            let failed = letter.delivery.as_ref().and_then(|it| self.failed.get(&it.key));
            let is_own = match letter.class {
                DeadClass::Misfit => true,
                DeadClass::Permanent => failed.is_some_and(|failed| *failed >= letter.attempts),
                DeadClass::Exhausted => {
                    failed.is_some_and(|failed| *failed >= letter.attempts)
                        && letter.attempts > schedule
                }
            };
            if !is_own {
                return Err(format!("it is not the row's fault: {letter:?}"));
            }
            if letter.class != DeadClass::Misfit {
                self.replayed.extend(letter.delivery.map(|delivery| delivery.key));
                self.ask(|outbox| outbox.replay(now_ms, number))?;
            }
        }
        for job in 1..=DOCUMENTS {
            let (projected, now_ms) = (self.projected(job), self.now_ms);
            self.ask(|outbox| outbox.enqueue(now_ms, &[projected]))?;
        }
        self.deliver_all()?;
        self.reconcile()?;
        self.deliver_all()?;
        match self.reconcile()? {
            0 => self.compare(),
            differing => Err(format!("{differing} rows differ after they were repaired")),
        }
    }

    fn deliver_all(&mut self) -> Check {
        while let Some(next) = self.ask(|outbox| outbox.next_ms())?.flatten() {
            self.now_ms = self.now_ms.max(next);
            self.send()?;
            if self.under_way.is_empty() {
                return Err("something is due, and nothing is tried".to_owned());
            }
            while !self.under_way.is_empty() {
                self.answer()?;
            }
        }
        let depth = self.ask(|outbox| outbox.depth())?.unwrap_or_default();
        if depth.waiting > 0 {
            return Err(format!("{} deliveries wait for nothing", depth.waiting));
        }
        Ok(())
    }

    /// What the target holds is what the documents say, but for rows that are none: of those it
    /// keeps what it had.
    fn compare(&mut self) -> Check {
        let (mut wanted, mut misfits) = (BTreeMap::new(), BTreeSet::new());
        for job in 1..=DOCUMENTS {
            for (record, row) in self.projected(job).rows {
                match row {
                    Ok(row) => _ = wanted.insert(record, row),
                    Err(_) => _ = misfits.insert(record),
                }
            }
        }
        let mut held = self.target.rows.clone();
        held.retain(|record, _| !misfits.contains(record));
        if held != wanted {
            return Err(format!("the target holds {held:?}, and should hold {wanted:?}"));
        }
        let letters = self.ask(|outbox| outbox.dead_letters())?.unwrap_or_default();
        let told: BTreeSet<_> = letters.into_iter().map(|(_, letter)| letter.record).collect();
        if told != misfits {
            return Err(format!("the dead letters are {told:?}, and should be {misfits:?}"));
        }
        let Target { effects, late, .. } = &self.target;
        let came = |key: &IdempotencyKey| effects.contains_key(key) || late.contains(key);
        let lost = effects.values().find(|it| it.previous.as_ref().is_some_and(|key| !came(key)));
        match lost.filter(|_| self.policy.mode == Mode::Event) {
            Some(after) => Err(format!("the event before {after:?} is lost")),
            None => Ok(()),
        }
    }
}

impl Target {
    fn take(&mut self, delivery: &Delivery, replayed: bool) -> Check {
        if let Some(known) = self.effects.get(&delivery.key) {
            return match known == delivery {
                true => Ok(()),
                false => Err(format!("one key, two effects: {known:?} and {delivery:?}")),
            };
        }
        let last = self.last.entry(delivery.document).or_default();
        if *last > delivery.seq && !replayed {
            return Err(format!("{} of {:?} after {last}", delivery.seq, delivery.document));
        }
        *last = delivery.seq.max(*last);
        let newest = self.newest.entry(delivery.record.clone()).or_default();
        if *newest > delivery.seq {
            // The row is newer than what was replayed.
            self.late.insert(delivery.key.clone());
            return Ok(());
        }
        *newest = delivery.seq;
        match &delivery.action {
            Action::Put(row) => _ = self.rows.insert(delivery.record.clone(), row.clone()),
            Action::Mark { .. } | Action::Delete => _ = self.rows.remove(&delivery.record),
        }
        self.effects.insert(delivery.key.clone(), delivery.clone());
        Ok(())
    }
}

fn document(job: u8) -> DocumentId {
    DocumentId([job; 16])
}
