pub mod meeting;
pub mod replay;
pub mod traces;
