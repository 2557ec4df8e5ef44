//! Nothing that was acknowledged is lost when processes are killed at random moments.
//!
//! Two writers edit the same documents through one relay. In each round a seed says who is killed
//! (SIGKILL) and after which line of which writer. After a writer died, its file must hold every
//! edit it said was on disk. After the relay died, it is started again at an address that no writer
//! knows, and a new replica must get every edit from it that any writer was told is safe: writers
//! cannot make up for what a relay lost.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rejoin::Link;
use rejoin::blocking::Replica;
use rejoin_tests::processes::{RelayProcess, Running};

const ROUNDS: u32 = 50;
const SEED: u64 = 20_220_501;

#[test]
fn nothing_acknowledged_is_lost_when_processes_are_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut load = Load::start(folder.path());
    for round in 0..ROUNDS {
        let victim = Victim::draw(&mut random);
        let moment = Moment::draw(&mut random);
        println!("round {round} of seed {SEED}: {victim:?} dies {moment:?}");
        load.run_until(moment);
        load.kill(victim);
    }
    load.end();
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Relay,
    Writer(usize),
    RelayAndWriter(usize),
}

impl Victim {
    fn draw(random: &mut ChaCha8Rng) -> Self {
        let writer = random.random_range(0..2);
        match random.random_range(0..5) {
            0 | 1 => Self::Relay,
            2 | 3 => Self::Writer(writer),
            _ => Self::RelayAndWriter(writer),
        }
    }
}

/// When to kill: at a line of a writer, never at a time.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// After so many more edits are on the disk of a writer.
    Local { writer: usize, edits: u64 },
    /// As soon as an edit of this round is safe at the relay.
    Safe { writer: usize },
}

impl Moment {
    fn draw(random: &mut ChaCha8Rng) -> Self {
        let writer = random.random_range(0..2);
        match random.random_range(0..2) {
            0 => Self::Local { writer, edits: random.random_range(1..=EDITS_PER_ROUND) },
            _ => Self::Safe { writer },
        }
    }
}

/// Edits each writer is asked for in a round.
const EDITS_PER_ROUND: u64 = 24;

struct Load {
    folder: PathBuf,
    relay: RelayProcess,
    writers: [Writer; 2],
}

impl Load {
    fn start(folder: &Path) -> Self {
        let relay = RelayProcess::start(folder.join("relay"));
        let writers = ["ana", "ben"].map(|name| Writer::start(folder, &relay.url(), name));
        Self { folder: folder.to_owned(), relay, writers }
    }

    fn run_until(&mut self, moment: Moment) {
        for writer in &mut self.writers {
            writer.ask(EDITS_PER_ROUND);
        }
        match moment {
            Moment::Local { writer, edits } => {
                let writer = &mut self.writers[writer];
                let until = writer.local + edits;
                writer.read_until(|writer| writer.local >= until);
            }
            Moment::Safe { writer } => {
                let writer = &mut self.writers[writer];
                let before = writer.local;
                writer.read_until(|writer| writer.safe > before);
            }
        }
    }

    fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Relay => self.kill_relay(),
            Victim::Writer(writer) => self.kill_writer(writer),
            Victim::RelayAndWriter(writer) => {
                self.relay.kill9();
                self.kill_writer(writer);
                self.kill_relay();
            }
        }
    }

    /// What a writer was told before is in its pipe, and must be in its file.
    fn kill_writer(&mut self, writer: usize) {
        let writer = &mut self.writers[writer];
        writer.running.kill9();
        writer.read_all();
        let held = held_in(&writer.file);
        writer.assert_held("its own file", writer.local, &held);
        *writer = writer.again(&self.relay.url());
    }

    fn kill_relay(&mut self) {
        self.relay.kill9();
        // Whatever the writers were told, they were told before.
        for writer in &mut self.writers {
            writer.read_until(|writer| writer.local >= writer.asked);
        }
        let apart = self.relay.start_apart();
        let held = fresh(&self.folder, &apart.url());
        for writer in &self.writers {
            writer.assert_held("the relay", writer.safe, &held);
        }
        drop(apart);
        self.relay.restart();
    }

    /// Lets everything meet, and looks for every edit everywhere.
    fn end(mut self) {
        for writer in &mut self.writers {
            writer.running.kill9();
            writer.read_all();
        }
        let held = fresh(&self.folder, &self.relay.url());
        for writer in &self.writers {
            writer.assert_held("the relay", writer.safe, &held);
        }
        let url = self.relay.url();
        // The first once more, for what the second brought.
        let order = [&self.writers[0], &self.writers[1], &self.writers[0]];
        let digests = order.map(|writer| sync(&writer.file, &url));
        assert_eq!(digests[1], digests[2], "the replicas differ");
        let held = held_in(&self.writers[0].file);
        for writer in &self.writers {
            assert!(writer.local > u64::from(ROUNDS), "{} hardly wrote anything", writer.name);
            writer.assert_held("everyone's documents", writer.local, &held);
        }
        println!("{} and {} edits, none lost", self.writers[0].local, self.writers[1].local);
    }
}

struct Writer {
    name: &'static str,
    file: PathBuf,
    running: Running,
    /// Edits up to this one it is to make.
    asked: u64,
    /// Edits up to this one are on its disk: it said so.
    local: u64,
    /// Edits up to this one are at the relay: it was told so.
    safe: u64,
}

impl Writer {
    fn start(folder: &Path, relay: &str, name: &'static str) -> Self {
        let file = folder.join(name).with_extension("redb");
        let running = run(&file, relay, name, 1);
        Self { name, file, running, asked: 0, local: 0, safe: 0 }
    }

    fn again(&self, relay: &str) -> Self {
        let running = run(&self.file, relay, self.name, self.local + 1);
        Self { file: self.file.clone(), running, asked: self.local, ..*self }
    }

    fn ask(&mut self, edits: u64) {
        self.running.say(&"\n".repeat(edits as usize));
        self.asked += edits;
    }

    fn read_until(&mut self, met: impl Fn(&Self) -> bool) {
        while !met(self) {
            let line = self.running.line().unwrap_or_else(|| panic!("{} ended", self.name));
            self.note(&line);
        }
    }

    /// After its end.
    fn read_all(&mut self) {
        while let Some(line) = self.running.line() {
            self.note(&line);
        }
    }

    fn note(&mut self, line: &str) {
        match line.split_once(' ').map(|(what, number)| (what, number.parse())) {
            Some(("local", Ok(number))) => self.local = number,
            Some(("relay", Ok(number))) => self.safe = number,
            _ => panic!("{} says {line:?}", self.name),
        }
    }

    fn assert_held(&self, place: &str, up_to: u64, held: &BTreeSet<String>) {
        let lost: Vec<_> = (1..=up_to)
            .map(|number| format!("{}-{number}", self.name))
            .filter(|edit| !held.contains(edit))
            .collect();
        assert!(lost.is_empty(), "{place} lost {lost:?}, acknowledged up to {up_to}");
    }
}

fn run(file: &Path, relay: &str, name: &str, first: u64) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_writer"));
    command.arg(file).args([relay, name, &first.to_string()]).stdin(Stdio::piped());
    Running::start(command)
}

/// The edits in a file, read without a relay.
fn held_in(file: &Path) -> BTreeSet<String> {
    let replica = Replica::open(file).expect("the file of a killed process opens");
    let held = edits(&replica);
    replica.close();
    held
}

/// The edits that a new replica gets from a relay.
fn fresh(folder: &Path, relay: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let replica = Replica::open(folder.path().join("fresh.redb")).expect("a new file");
    connect(&replica, relay);
    let held = edits(&replica);
    replica.close();
    held
}

/// Syncs a file with a relay, and returns its digest then.
fn sync(file: &Path, relay: &str) -> String {
    let replica = Replica::open(file).expect("the file of a killed process opens");
    connect(&replica, relay);
    let digest = replica.space("main").expect("a name").digest().expect("the file is open");
    replica.close();
    digest.to_string()
}

fn connect(replica: &Replica, relay: &str) {
    let space = replica.space("main").expect("a name");
    replica.connect(relay, &[&space]).expect("an address");
    replica.status_when(|status| status.link == Link::Safe).expect("it is open");
}

fn edits(replica: &Replica) -> BTreeSet<String> {
    let load = replica.space("main").and_then(|space| space.collection("load")).expect("names");
    let entries = load.list().expect("the file is open");
    let fields = entries.iter().flat_map(|entry| entry.value.as_object()).flatten();
    fields.map(|(name, _)| name.clone()).collect()
}
