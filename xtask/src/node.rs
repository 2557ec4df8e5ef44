//! The npm packages that tests dial relays with, and relays of others, in folders of their own below
//! `target`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::run;

/// Installs the packages of the clients in `tests/node` as their lock files have them, unless they
/// are there.
///
/// # Errors
///
/// When there is no npm, or the packages cannot be had. The message says what to do.
pub(crate) fn install() -> Result<()> {
    install_each(&[("tests/node/current", "current"), ("tests/node/previous", "previous")])
}

/// The same for the relays in `tests/node-peers` that ours is measured beside.
///
/// # Errors
///
/// As [`install`].
pub(crate) fn install_peers() -> Result<()> {
    install_each(&[("tests/node-peers", "peers")])
}

/// Installs what the first of each pair lists into the second, below `target/node`.
fn install_each(places: &[(&str, &str)]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = root.join("target/node");
    fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    // Tests that run at the same time may all find nothing there. Released when it is closed.
    let lock = File::create(root.join("target/node.lock")).context("cannot make a lock")?;
    lock.lock().context("cannot wait for others who install")?;
    for (wanted, folder) in places {
        Place { wanted: root.join(wanted), folder: target.join(folder) }.install()?;
    }
    Ok(())
}

/// A folder of packages.
struct Place {
    /// What is to be there.
    wanted: PathBuf,
    folder: PathBuf,
}

impl Place {
    fn install(&self) -> Result<()> {
        let lock = self.wanted.join("package-lock.json");
        let wanted = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
        if self.has(&wanted) {
            return Ok(());
        }
        println!("installing npm packages into {}", self.folder.display());
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(self.wanted.join(file), self.folder.join(file))
                .with_context(|| format!("cannot copy {file} into {}", self.folder.display()))?;
        }
        run(Command::new("npm").args(CLEAN_INSTALL).current_dir(&self.folder))
            .context("the packages cannot be had; see to the network, or to the proxy of npm")?;
        fs::write(self.stamp(), wanted).context("cannot note what is installed")
    }

    /// A copy of the lock file whose packages were installed. It is among them, so that npm takes
    /// it away before it installs others.
    fn stamp(&self) -> PathBuf {
        self.folder.join("node_modules/.installed.json")
    }

    fn has(&self, wanted: &[u8]) -> bool {
        fs::read(self.stamp()).is_ok_and(|installed| installed == wanted)
    }
}

/// Nothing that packages bring along is run: none of these needs it.
const CLEAN_INSTALL: [&str; 5] = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_known_by_its_lock_file() {
        let folder = std::env::temp_dir().join(format!("rejoin-node-{}", std::process::id()));
        fs::create_dir_all(folder.join("node_modules")).expect("a folder");
        let place = Place { wanted: PathBuf::new(), folder: folder.clone() };
        let before = place.has(b"one 1");
        fs::write(place.stamp(), "one 1").expect("a file");
        let after = (place.has(b"one 1"), place.has(b"one 2"));
        fs::remove_dir_all(folder).expect("the folder was made");
        assert_eq!((before, after), (false, (true, false)));
    }
}
