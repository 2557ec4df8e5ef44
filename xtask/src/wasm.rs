//! Whether core and engine compile for WebAssembly, which has no files, sockets, threads or clock of
//! its own.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What the crates are compiled for.
const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's compiler, which knows the target, and the sources it makes the standard library of.
const DEBIAN: [&str; 2] = ["/usr/bin/rustc", "/usr/lib/rustlib/src/rust/library"];

/// The packages of those.
pub(crate) const PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// What is missing.
pub(crate) const MISSING: &str = "no compiler for WebAssembly is here: `rustup target add wasm32-unknown-unknown`, or \
                           Debian's packages rustc-web and rust-web-src";

/// A compiler that knows the target.
pub(crate) enum Compiler {
    /// The one in use, with a standard library for the target.
    InUse,
    /// Debian's, which compiles the standard library first.
    Debian,
}

/// The compiler to use, if there is any.
pub(crate) fn compiler() -> Option<Compiler> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc).args(["--print=target-libdir", "--target", TARGET]).output();
    let folder = asked.ok().and_then(|answer| String::from_utf8(answer.stdout).ok());
    if folder.is_some_and(|folder| Path::new(folder.trim()).is_dir()) {
        return Some(Compiler::InUse);
    }
    DEBIAN.iter().all(|path| Path::new(path).exists()).then_some(Compiler::Debian)
}

/// Compiles core and engine as far as their types go. The engine is handed its random bytes, so
/// Automerge's source of them may be none.
pub(crate) fn check(compiler: &Compiler) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["check", "--package=rejoin-core", "--package=rejoin-engine"]);
    command.args(["--target", TARGET, "--target-dir", "target/wasm"]);
    command.env("RUSTFLAGS", "--cfg getrandom_backend=\"unsupported\"");
    if matches!(compiler, Compiler::Debian) {
        command.args(["-Z", "build-std=std,panic_abort"]);
        // A stable compiler makes its standard library only when it is told that it may.
        command.env("RUSTC", DEBIAN[0]).env("RUSTC_BOOTSTRAP", "1");
    }
    println!("$ {command:?}");
    let status = command.status().context("cargo could not be started")?;
    ensure!(status.success(), "core or engine do not compile for WebAssembly; see above");
    Ok(())
}
