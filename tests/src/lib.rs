pub mod adapters;
pub mod live;
pub mod meeting;
pub mod merge;
pub mod processes;
pub mod replay;
pub mod sim;
pub mod traces;
