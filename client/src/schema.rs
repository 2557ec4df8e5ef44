//! stub
pub const SCHEMAS: &str = "rejoin.schemas";
