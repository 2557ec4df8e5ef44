//! The arguments of `rejoin adapters`. Every other command declares its arguments in its own file.

pub(crate) mod adapters;

pub(crate) use adapters::{
    AdaptersArguments, AdaptersCommand, AskCommand, LettersArguments, LintArguments,
};
