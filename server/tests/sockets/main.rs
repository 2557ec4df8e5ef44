//! A serving relay and real WebSockets.

mod automerge_repo;
mod connections;
mod health;
mod replica;
mod serving;
mod startup;
