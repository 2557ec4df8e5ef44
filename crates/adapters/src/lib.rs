//! Adapters: what carries the agreed state of documents to outside systems.
//!
//! An adapter is a client like any other. It projects views to rows, keeps what is to be delivered
//! in an outbox, and hands it to a sink until the target has it.
//!
//! - [`config`]: the file that describes them all; [`mapping`]: what one carries, and as which rows;
//! - [`projection`]: from a document to rows;
//! - [`delivery`]: one row's journey to a target; [`outbox`]: what waits, what is tried when;
//! - [`sink`]: the targets; [`run`]: following documents and delivering.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod clock;
pub mod config;
pub mod control;
pub mod delivery;
mod disk;
mod listener;
pub mod mapping;
pub mod nearest;
pub mod option;
pub mod outbox;
pub mod projection;
pub mod reference;
pub mod run;
pub mod secret;
pub mod sink;
