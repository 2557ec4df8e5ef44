//! What foreign libraries say, which Python has: scripts in `tests/python`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Runs a script with text on its standard input, and returns what it printed.
#[track_caller]
pub fn run(script: &str, input: &[u8]) -> Vec<u8> {
    let root = root();
    let mut command = Command::new(python());
    command.arg(root.join("tests/python").join(script));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("Python starts");
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    // The script reads everything before it prints, unless it fails.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().expect("Python ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} failed: {said}");
    output.stdout
}

/// The interpreter that has the packages. `cargo xtask test` installs them before; where they are
/// missing they are installed now.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let (root, folder) = (root(), root().join("target/python"));
        let wanted = fs::read(root.join("tests/python/requirements.txt")).expect("a file");
        if !fs::read(folder.join("requirements.txt")).is_ok_and(|installed| installed == wanted) {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut command = Command::new(cargo);
            let installed =
                command.args(["run", "--package", "xtask", "--", "python"]).current_dir(root);
            let installed = installed.status().expect("there is cargo");
            assert!(installed.success(), "the Python packages are not installed; see above");
        }
        folder.join("bin/python")
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
