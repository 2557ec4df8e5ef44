//! Random histories of one document, on several devices, compared with a fold that is written from
//! the rules alone: who closed what, what stands, and what people are asked must be the same on
//! every device at every moment, in whatever order changes came.
//!
//! - [`history`], [`fold`], [`rules`], [`reading`]: the rules once more, by definition, over explicit
//!   sets of ancestors;
//! - [`meant`]: what an index in an edit must have meant;
//! - [`device`], [`people`], [`foreign`], [`schemas`]: what happens, through real engines;
//! - [`golden`]: worlds that are kept, and what they come to;
//! - [`world`]: one history from a seed; [`checks`]: devices against the fold.

pub mod checks;
pub mod device;
pub mod fold;
pub mod foreign;
pub mod golden;
pub mod history;
pub mod meant;
pub mod people;
pub mod reading;
pub mod rules;
pub mod schemas;
pub mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

/// A history that kept its promises.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Changes of the job before everybody met.
    pub changes: usize,
    /// How often a device was compared with the fold.
    pub checks: u64,
    /// How many questions of each kind were found there, and other things that must not be rare.
    pub found: BTreeMap<&'static str, u64>,
}

/// A history in which a device showed something else than the fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What was not as it should be.
    pub what: String,
    /// The last things that happened.
    pub tail: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tail.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        writeln!(f, "history {}: {}", self.seed, self.what)?;
        write!(f, "  replay: cargo xtask sim --merge --seed {}", self.seed)
    }
}

/// Plays the history of a seed. `print` writes all that happens to standard error.
///
/// # Errors
/// A device showed something else than the fold.
pub fn run(seed: u64, print: bool) -> Result<Report, Box<Failure>> {
    let mut world = World::new(seed, print);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let what = match ran {
        Ok(Ok(())) => return Ok(world.report()),
        Ok(Err(what)) => what,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!("panicked: {}", text.unwrap_or_default())
        }
    };
    Err(Box::new(Failure { seed, what, tail: world.tail() }))
}
