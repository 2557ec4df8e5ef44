//! The Python packages that the tests ask, in a folder of their own below `target`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::run;
use crate::tools;

/// Installs the packages that `tests/python/requirements.txt` names, unless they are there.
///
/// # Errors
///
/// When there is no Python, it has no `venv`, or the packages cannot be had. The message says what
/// to do.
pub(crate) fn install() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let requirements = root.join("tests/python/requirements.txt");
    let wanted = fs::read(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let place = Place { folder: root.join("target/python") };
    fs::create_dir_all(&place.folder)
        .with_context(|| format!("cannot make {}", place.folder.display()))?;
    // Tests that run at the same time may all find nothing there. Released when it is closed.
    let lock = File::create(root.join("target/python.lock")).context("cannot make a lock")?;
    lock.lock().context("cannot wait for others who install")?;
    if place.has(&wanted) {
        return Ok(());
    }
    println!("installing Python packages into {}", place.folder.display());
    place.make().or_else(|_| {
        // Debian's Python comes without what a folder of packages begins with.
        tools::install(&["python3-venv"])?;
        place.make()
    })?;
    let python = place.python();
    run(Command::new(python).args(PIP).arg(&requirements))
        .context("the packages cannot be had; see to the network, or to the proxy of pip")?;
    fs::write(place.stamp(), wanted).context("cannot note what is installed")
}

/// A folder of packages.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// A copy of the requirements that were installed.
    fn stamp(&self) -> PathBuf {
        self.folder.join("requirements.txt")
    }

    fn has(&self, wanted: &[u8]) -> bool {
        fs::read(self.stamp()).is_ok_and(|installed| installed == wanted)
    }

    /// Makes it anew, with nothing in it.
    fn make(&self) -> Result<()> {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&self.folder))
    }
}

const PIP: [&str; 7] =
    ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_known_by_its_requirements() {
        let folder = std::env::temp_dir().join(format!("rejoin-python-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let place = Place { folder: folder.clone() };
        let before = place.has(b"one==1");
        fs::write(place.stamp(), "one==1").expect("a file");
        let after = (place.has(b"one==1"), place.has(b"one==2"));
        fs::remove_dir_all(folder).expect("the folder was made");
        assert_eq!((before, after), (false, (true, false)));
    }
}
