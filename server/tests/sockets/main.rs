//! A serving relay and real WebSockets.

mod connections;
mod health;
mod replica;
mod serving;
mod startup;
