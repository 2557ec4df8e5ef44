//! Simulated worlds: real replicas and a real relay, on disks, clocks and a network that fail as a
//! seed says. The same seed is the same world, to the byte.
//!
//! A world has two phases. First everything the seed drew breaks, again and again, while people
//! edit: nothing acknowledged may be lost, and no invariant broken. Then nothing breaks any more:
//! everybody must agree soon, hold exactly what the edits come to, and fall silent.
//!
//! - [`world`]: the event loop and the two phases; [`faults`], what a seed draws; `nemesis`, what
//!   carries it out;
//! - [`disk`] and [`net`], which fail; [`replica`] and [`relay`], the machines and what drives the
//!   engines on them;
//! - `edits` and `undo`, what people do; [`model`], what must come of it; `checkers`, the promises.

pub mod agenda;
mod checkers;
pub mod disk;
mod edits;
pub mod faults;
mod marks;
pub mod model;
mod nemesis;
pub mod net;
pub mod random;
pub mod relay;
pub mod replica;
pub mod trace;
mod undo;
pub mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use faults::Faults;
use world::{Failed, World};

/// A deliberate fault of replica or relay that the checkers must catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The relay acknowledges before the disk has it.
    AckBeforeCommit,
    /// The relay takes changes whose dependencies it does not have.
    DroppedDepCheck,
    /// Some edits of a replica never reach its outbox.
    SkippedOutboxRow,
    /// A replica pushes edits before it has them on disk.
    PushBeforeCommit,
    /// A replica takes what is older for received when the first of it has come.
    MarkTooEarly,
    /// A replica counts the pieces of what is long, and does not keep them.
    ForgottenPiece,
}

impl Mutant {
    /// Every mutant, with its name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("ack-before-commit", Self::AckBeforeCommit),
        ("dropped-dep-check", Self::DroppedDepCheck),
        ("skipped-outbox-row", Self::SkippedOutboxRow),
        ("push-before-commit", Self::PushBeforeCommit),
        ("mark-too-early", Self::MarkTooEarly),
        ("forgotten-piece", Self::ForgottenPiece),
    ];

    fn of_client(self) -> Option<rejoin_engine::Mutant> {
        match self {
            Self::SkippedOutboxRow => Some(rejoin_engine::Mutant::SkippedOutboxRow),
            Self::PushBeforeCommit => Some(rejoin_engine::Mutant::PushBeforeCommit),
            Self::MarkTooEarly => Some(rejoin_engine::Mutant::MarkTooEarly),
            Self::ForgottenPiece => Some(rejoin_engine::Mutant::ForgottenPiece),
            _ => None,
        }
    }

    fn of_relay(self) -> Option<rejoin_relay::Mutant> {
        match self {
            Self::AckBeforeCommit => Some(rejoin_relay::Mutant::AckBeforeCommit),
            Self::DroppedDepCheck => Some(rejoin_relay::Mutant::DroppedDepCheck),
            _ => None,
        }
    }
}

/// A world that kept its promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Over everything that happened.
    pub trace_hash: u64,
    /// Edits made.
    pub edits: u64,
    /// Events.
    pub events: u64,
    /// Virtual milliseconds.
    pub lasted_ms: u64,
}

/// A world that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Which promise.
    pub what: String,
    /// What could go wrong in it.
    pub faults: Faults,
    /// The last things that happened.
    pub tail: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        writeln!(f, "  faults: {}", self.faults)?;
        self.tail.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "  replay: cargo xtask sim --seed {}", self.seed)
    }
}

/// Plays the world of a seed. `print` writes all that happens to standard error.
///
/// # Errors
/// A promise was broken.
pub fn run(seed: u64, mutant: Option<Mutant>, print: bool) -> Result<Report, Box<Failure>> {
    let mut world = World::new(seed, mutant, print);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let what = match ran {
        Ok(Ok(())) => {
            return Ok(Report {
                trace_hash: world.trace.hash(),
                edits: world.edits_made,
                events: world.events,
                lasted_ms: world.now,
            });
        }
        Ok(Err(Failed(what))) => what,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!("panicked: {}", text.unwrap_or_default())
        }
    };
    let (faults, tail) = (world.faults.clone(), world.trace.tail());
    Err(Box::new(Failure { seed, what, faults, tail }))
}
