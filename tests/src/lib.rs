pub mod meeting;
pub mod processes;
pub mod replay;
pub mod traces;
pub mod sim;
pub mod live;
