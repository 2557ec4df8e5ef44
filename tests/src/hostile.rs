//! Hostile peers against a relay process, and what honest ones notice of them.
//!
//! `siege` plays one attack, or all of them at once, against a relay of its own: a pair of replicas and
//! a client of automerge-repo work through it meanwhile. Attackers have a thread of their own, so that
//! what they are busy with is not counted as the relay's delay.

mod attacks;
mod browser;
mod chunks;
mod connection;
mod frames;
mod ground;
mod honest;
mod process;
mod siege;

pub use attacks::Attack;
pub use honest::Latencies;
pub use process::peak;
pub use siege::{Outcome, Plan, Scale, besiege};
