//! What an option of the file is: the documentation and the sections that `rejoin adapters init` writes
//! are made from lists of these.

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    /// Its name in the file.
    pub name: &'static str,
    /// What kind of value it takes.
    pub kind: &'static str,
    /// What it is unless somebody says it.
    pub unless_said: Unless,
    /// What it is for.
    pub meaning: &'static str,
    /// A value, in TOML, as a section for beginners has it.
    pub example: &'static str,
}

/// What an option is unless somebody says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unless {
    /// It has to be said.
    Required,
    /// Nothing.
    Nothing,
    /// This, in TOML.
    Default(&'static str),
}

impl Opt {
    /// One that has to be said.
    pub(crate) const fn required(
        name: &'static str,
        kind: &'static str,
        example: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self { name, kind, unless_said: Unless::Required, meaning, example }
    }

    /// One without which there is nothing of what it is for.
    pub(crate) const fn optional(
        name: &'static str,
        kind: &'static str,
        example: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self { name, kind, unless_said: Unless::Nothing, meaning, example }
    }

    /// One with a default.
    pub(crate) const fn with_default(
        name: &'static str,
        kind: &'static str,
        default: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self { name, kind, unless_said: Unless::Default(default), meaning, example: default }
    }
}

/// The options of a table of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The table, as it is headed in the file.
    pub table: &'static str,
    /// What the table is for.
    pub about: &'static str,
    /// Its options, in the order people need them.
    pub options: &'static [Opt],
}

/// A kind of sink, for those who choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindOfSink {
    /// What `kind` says.
    pub kind: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What becomes of a delivery that arrives twice, as after a crash.
    pub twice: &'static str,
    /// What the name of a record is to it.
    pub name_is: &'static str,
    /// Its options, but for `kind`.
    pub options: &'static [Opt],
}
