//! Sans-IO core of Rejoin.
#![warn(missing_docs)]

pub mod change;
mod digest;
mod graph;
mod history;
mod ids;
pub mod limits;
mod repair;
pub mod session;
pub mod wire;

pub use history::{History, KnownChange, LastChange};
pub use ids::{
    ActorId, ChangeHash, CollectionName, DeviceId, DocumentId, Epoch, Genesis, NameError, PeerId,
    RelayId, ShortHash, SpaceName,
};
