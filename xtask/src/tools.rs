//! What the tests need beside Rust, and how it gets there.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Commands the tests start, and what builds their dependencies, each with the Debian package that
/// brings it. A test that starts a program adds it here.
const TOOLS: &[(&str, &str)] = &[
    // librdkafka is built from C.
    ("g++", "g++"),
    ("make", "make"),
    ("nats-server", "nats-server"),
    ("openssl", "openssl"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("pg_ctlcluster", "postgresql"),
    ("python3", "python3"),
    ("promtool", "prometheus"),
    ("rabbitmq-server", "rabbitmq-server"),
];

/// Installs the packages whose commands are missing.
///
/// # Errors
///
/// When apt cannot be used or does not succeed. The message names the packages to install by hand.
pub(crate) fn install_missing() -> Result<()> {
    let packages = missing(TOOLS, is_installed);
    if packages.is_empty() {
        return Ok(());
    }
    install(&packages)?;
    match missing(TOOLS, is_installed).as_slice() {
        [] => Ok(()),
        still => bail!("apt installed {}, but its command is not there", still.join(" ")),
    }
}

/// Installs packages.
///
/// # Errors
///
/// As [`install_missing`].
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    println!("installing what the tests need: {}", packages.join(" "));
    apt_install(packages).with_context(|| advice(packages))
}

fn missing<'a>(tools: &[(&str, &'a str)], installed: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let mut packages: Vec<_> = tools
        .iter()
        .filter(|(command, _)| !installed(command))
        .map(|&(_, package)| package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn advice(packages: &[&str]) -> String {
    let packages = packages.join(" ");
    format!("the tests need {packages}; run `sudo apt-get install -y {packages}` and start again")
}

fn apt_install(packages: &[&str]) -> Result<()> {
    if !is_installed("apt-get") {
        bail!("this system has no apt-get; use its own package manager");
    }
    if !is_root()? {
        bail!("only root may use apt-get");
    }
    // One unreachable mirror fails the update, and the lists at hand may still do.
    if let Err(error) = apt_get(&["update"]) {
        eprintln!("{error:#}");
    }
    apt_get(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("cannot start apt-get")?;
    if !status.success() {
        bail!("`apt-get {}` failed ({status})", arguments.join(" "));
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("cannot ask `id -u` who we are")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// Whether a command is there: on the path, or where Debian puts servers, which is on the path of
/// root only.
fn is_installed(command: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.any(|folder| is_file(&folder.join(command)))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: &[(&str, &str)] =
        &[("nats-server", "nats-server"), ("psql", "postgresql"), ("pg_ctlcluster", "postgresql")];

    #[test]
    fn only_what_is_missing_is_installed_and_only_once() {
        assert_eq!(missing(SERVICES, |command| command == "nats-server"), ["postgresql"]);
        assert!(missing(SERVICES, |_| true).is_empty());
    }

    #[test]
    fn the_advice_can_be_pasted_into_a_shell() {
        let advice = advice(&["nats-server", "postgresql"]);
        assert!(advice.contains("`sudo apt-get install -y nats-server postgresql`"));
    }

    #[test]
    fn a_command_is_looked_for_on_the_path() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-command-anywhere"));
    }
}
