//! The relay's engine over a real redb, with real replica sessions as peers and no network.

mod catch_up;
mod compaction;
mod damage;
mod disk;
mod faults;
mod harness;
mod pushes;
mod repair;
