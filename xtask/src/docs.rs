//! The book of `docs/`: `cargo xtask docs`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::{cargo, run};

/// The version that the pages are looked at with.
const MDBOOK: &str = "0.5.4";

/// Puts mdBook below `target`, unless this machine has it.
///
/// # Errors
/// When it does not compile.
pub(crate) fn install() -> Result<()> {
    if program().is_some() {
        return Ok(());
    }
    let folder = tools();
    let folder = folder.to_str().context("the workspace has a path that is no text")?;
    cargo(&[
        "install",
        "mdbook",
        "--version",
        MDBOOK,
        "--locked",
        "--no-default-features",
        "--root",
        folder,
    ])
}

/// Makes the book.
///
/// # Errors
/// When a page is missing, or mdBook is.
pub(crate) fn build() -> Result<()> {
    let mdbook = program().context("mdBook is not there; `cargo install mdbook --locked`")?;
    run(Command::new(mdbook).arg("build").arg(root().join("docs")))?;
    println!("\nopen {}", root().join("target/book/index.html").display());
    Ok(())
}

fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([tools().join("bin")]);
    folders.map(|folder| folder.join("mdbook")).find(|program| program.is_file())
}

fn tools() -> PathBuf {
    root().join("target/tools")
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
