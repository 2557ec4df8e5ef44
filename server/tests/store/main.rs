//! The relay's store by itself, over a real redb.

mod before;
mod migration;
mod pages;
mod places;
