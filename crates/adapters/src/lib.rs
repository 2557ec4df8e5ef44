//! Adapters: what carries the agreed state of documents to outside systems.
//!
//! An adapter is a client like any other. It projects views to rows, keeps what is to be delivered
//! in an outbox, and hands it to a sink until the target has it.
//!
//! - [`delivery`]: one row's journey to a target;
//! - [`sink`]: the targets.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod delivery;
pub mod sink;
