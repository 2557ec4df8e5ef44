//! The relay's engine over a real redb, with real replica sessions as peers and no network.

mod automerge_repo;
mod automerge_repo_faults;
mod backups;
mod bounds;
mod breaches;
mod catch_up;
mod compaction;
mod damage;
mod disk;
mod erasing;
mod faults;
mod harness;
mod hostile;
mod identities;
mod other_names;
mod pushes;
mod repair;
mod repo_peer;
mod uploads;
mod walls;
