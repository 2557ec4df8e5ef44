//! What is handed out: `cargo xtask dist`.

use std::env::consts::{ARCH, OS};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::steps::{cargo, run};

/// Builds the program as it is handed out.
///
/// # Errors
/// When it does not compile.
pub(crate) fn build() -> Result<()> {
    cargo(&["build", "--release", "--locked", "--package", "rejoin-cli"])
}

/// Makes a tarball of the program, completions for shells, pages of the manual, examples and licences.
///
/// # Errors
/// When the program is larger than it may be, or a file cannot be written.
pub(crate) fn pack() -> Result<()> {
    let program = root().join("target/release/rejoin");
    let bytes = fs::metadata(&program).context("the program was not built")?.len();
    ensure!(
        bytes <= PROGRAM_BYTES_MAX,
        "the program has {bytes} bytes, and may have {PROGRAM_BYTES_MAX}; see [profile.release] in Cargo.toml"
    );
    let name = format!("rejoin-{}-{ARCH}-{OS}", env!("CARGO_PKG_VERSION"));
    let dist = root().join("target/dist");
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let copies = ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"];
    let copies = copies.map(|file| (root().join(file), folder.join(file)));
    let examples = [
        "adapters.toml",
        "schema.toml",
        "relay.default.toml",
        "monitoring/alerts.yml",
        "monitoring/dashboard.json",
        "monitoring/prometheus.yml",
        "systemd/rejoin-relay.service",
    ];
    let examples = examples
        .map(|file| (root().join("examples").join(file), folder.join("examples").join(file)));
    let program_there = folder.join("bin/rejoin");
    let all = copies.into_iter().chain(examples).chain([(program, program_there.clone())]);
    for (from, to) in all {
        fs::create_dir_all(to.parent().context("a file in a folder")?)?;
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    let completions = folder.join("completions");
    fs::create_dir_all(&completions)?;
    for (shell, file) in [("bash", "rejoin.bash"), ("zsh", "_rejoin"), ("fish", "rejoin.fish")] {
        let script = Command::new(&program_there)
            .args(["completions", shell])
            .stdin(Stdio::null())
            .output()
            .context("the program does not start")?;
        ensure!(script.status.success(), "`rejoin completions {shell}` failed");
        fs::write(completions.join(file), script.stdout)?;
    }
    run(Command::new(&program_there).arg("man").arg(folder.join("man/man1")))?;
    let tarball = dist.join(format!("{name}.tar.gz"));
    run(Command::new("tar").arg("-C").arg(&dist).arg("-czf").arg(&tarball).arg(&name))?;
    let packed = fs::metadata(&tarball)?.len();
    println!("\n{}: {packed} bytes, the program {bytes}", tarball.display());
    Ok(())
}

/// Bytes of the program at most.
const PROGRAM_BYTES_MAX: u64 = 40_000_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
