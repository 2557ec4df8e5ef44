//! Real processes: the `rejoin` binary, a relay, and what they print.
//!
//! Whatever is started here ends with the value that holds it, by its id.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The `rejoin` binary, in a folder of its own.
#[derive(Debug, Clone)]
pub struct Rejoin {
    folder: PathBuf,
}

/// A desk with one replica, `a.redb`, in a folder of its own.
#[derive(Debug)]
pub struct Desk {
    /// Its commands.
    pub rejoin: Rejoin,
    /// Where everything is, for as long as the desk is there.
    pub folder: tempfile::TempDir,
}

impl Desk {
    /// A desk without anything on it.
    ///
    /// # Panics
    /// There is no place for a folder.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { rejoin: Rejoin::in_dir(folder.path()), folder }
    }

    /// What a command about the replica prints for programs.
    ///
    /// # Panics
    /// It failed.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        self.rejoin.json(Self::arguments(line))
    }

    /// What it prints for people.
    ///
    /// # Panics
    /// It failed.
    #[track_caller]
    pub fn text(&self, line: &str) -> String {
        self.rejoin.ok(Self::arguments(line))
    }

    /// Why it failed.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn refused(&self, line: &str) -> String {
        self.rejoin.refused(Self::arguments(line))
    }

    /// Puts a file into its folder.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("a file");
    }

    fn arguments(line: &str) -> impl Iterator<Item = &str> {
        ["--replica", "a.redb"].into_iter().chain(line.split(' '))
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}

/// How a process ended, and what it printed.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Rejoin {
    /// Runs commands in this folder: relative files are in there.
    pub fn in_dir(folder: impl AsRef<Path>) -> Self {
        Self { folder: folder.as_ref().to_owned() }
    }

    /// A command that knows nothing of the environment of the tests.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .env_remove("REJOIN_REPLICA")
            .env_remove("REJOIN_KEY_FILE")
            .env_remove("REJOIN_AS")
            .env("RUST_LOG", "warn")
            .env("TZ", "UTC")
            .env("NO_COLOR", "1")
            .env("COLUMNS", "80");
        command
    }

    /// Runs to the end, whatever that is.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
        ended(self.command(arguments).output().expect("rejoin starts"))
    }

    /// The same, with text on its standard input.
    pub fn run_with_input(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &[u8],
    ) -> Ended {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("rejoin starts");
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        // A process that has seen enough reads no more.
        let _ = stdin.write_all(input);
        drop(stdin);
        ended(child.wait_with_output().expect("rejoin ends"))
    }

    /// Runs what must succeed, and returns what it printed.
    #[track_caller]
    pub fn ok(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout
    }

    /// Runs what must succeed and print one JSON document. `--json` comes last.
    #[track_caller]
    pub fn json(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Value {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        let printed = self.ok(arguments.chain(["--json".into()]));
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error} in {printed}"))
    }

    /// Runs what must fail, and returns what it said.
    #[track_caller]
    pub fn refused(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 1, "{ended:?}");
        ended.stderr
    }
}

fn ended(output: std::process::Output) -> Ended {
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("text on standard output"),
        stderr: String::from_utf8(output.stderr).expect("text on standard error"),
    }
}

/// A relay that listens on a free port of the loopback address, until it is dropped.
#[derive(Debug)]
pub struct RelayProcess {
    running: Running,
    data: PathBuf,
    address: String,
    more: Vec<String>,
}

impl RelayProcess {
    /// Starts a relay, and returns when it listens.
    pub fn start(data: impl AsRef<Path>) -> Self {
        Self::start_at(data.as_ref(), "127.0.0.1:0")
    }

    /// The same, with more arguments. Files that they name are in the folder of its data.
    pub fn start_as(data: impl AsRef<Path>, more: &[&str]) -> Self {
        Self::start_with(data.as_ref(), "127.0.0.1:0", more, Stdio::inherit())
    }

    /// The same, with what it logs in the file `relay.log` beside its data: who is attacked logs much.
    pub fn start_logging(data: impl AsRef<Path>) -> Self {
        let data = data.as_ref();
        let log = File::create(data.with_file_name("relay.log")).expect("a folder to write in");
        Self::start_with(data, "127.0.0.1:0", &[], log.into())
    }

    fn start_at(data: &Path, address: &str) -> Self {
        Self::start_with(data, address, &[], Stdio::inherit())
    }

    fn start_with(data: &Path, address: &str, more: &[&str], log: Stdio) -> Self {
        let folder = data.parent().expect("a folder in a folder");
        let arguments = ["relay", "--listen", address, "--data"].map(OsStr::new);
        let mut command =
            Rejoin::in_dir(folder).command(arguments.into_iter().chain([data.as_os_str()]));
        command.args(more).stderr(log);
        let mut running = Running::start(command);
        let line = running.line().expect("the relay listens; what it said is above");
        let address = line
            .strip_prefix("listening on ")
            .map(|url| url.trim_start_matches("ws://").trim_start_matches("wss://"))
            .and_then(|rest| rest.strip_suffix("/sync"))
            .unwrap_or_else(|| panic!("the relay says something else: {line}"));
        let more = more.iter().map(|&it| it.to_owned()).collect();
        Self { address: address.to_owned(), running, data: data.to_owned(), more }
    }

    /// Its address for a replica.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// Whether the process still runs.
    pub fn lives(&mut self) -> bool {
        self.running.lives()
    }

    /// Ends it as a power cut would.
    pub fn kill9(&mut self) {
        self.running.kill9();
    }

    /// Starts it again after [`kill9`](Self::kill9): the same folder, the same port.
    pub fn restart(&mut self) {
        let more: Vec<_> = self.more.iter().map(String::as_str).collect();
        *self = Self::start_with(&self.data, &self.address, &more, Stdio::inherit());
    }

    /// The same folder at another port, where those who know the old one do not come.
    pub fn start_apart(&self) -> Self {
        Self::start_at(&self.data, "127.0.0.1:0")
    }
}

/// A process whose lines are read as they come. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Nothing once nobody reads any more.
    lines: Option<std::io::Lines<BufReader<ChildStdout>>>,
}

impl Running {
    /// Starts a command. What it says on standard error goes where the test's goes.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the process starts");
        let stdout = child.stdout.take().expect("its output is a pipe");
        Self { child, lines: Some(BufReader::new(stdout).lines()) }
    }

    /// The next line; nothing when the process has ended.
    pub fn line(&mut self) -> Option<String> {
        self.lines.as_mut()?.next()?.ok()
    }

    /// Closes its standard output, as `head` does, and waits for the end.
    pub fn stop_reading(&mut self) -> Option<i32> {
        self.lines = None;
        self.child.wait().expect("a process ends").code()
    }

    /// Writes to its standard input, which the command made a pipe.
    pub fn say(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("its input is a pipe");
        stdin.write_all(text.as_bytes()).expect("the process reads");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().expect("a process of ours can be asked for").is_none()
    }

    /// Sends SIGKILL. What was printed before can still be read with [`line`](Self::line).
    pub fn kill9(&mut self) {
        self.child.kill().expect("a process of ours can be killed");
        self.child.wait().expect("a killed process ends");
    }

    /// Sends SIGTERM, as an operator would, and waits for the end.
    #[cfg(unix)]
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().expect("a process ends").code()
    }

    /// Sends SIGHUP, as one who has changed the process's settings would.
    #[cfg(unix)]
    pub fn hang_up(&self) {
        self.signal("-HUP");
    }

    #[cfg(unix)]
    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().expect("there is kill");
        assert!(sent.success(), "process {id} was gone already");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary under test, beside the tests in the target folder. `cargo xtask test` and `bench` build
/// it before; where it is missing it is built now.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| program(Path::new("rejoin")))
}

/// A program in the folder of the profile that the tests are built in. It is built where it is
/// missing: `rejoin`, or one of the client's examples.
///
/// # Panics
/// It does not build.
pub fn program(name: &Path) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let folder = test.parent().expect("tests are in a folder");
    // Tests are in the folder `deps` of a profile, programs in the profile itself.
    let profile = match folder.ends_with("deps") {
        true => folder.parent().expect("deps is in the folder of a profile"),
        false => folder,
    };
    let program = profile.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    if !program.exists() {
        let is_example = name.starts_with("examples");
        build(profile, if is_example { &["rejoin", "--examples"] } else { &["rejoin-cli"] });
    }
    program
}

fn build(profile: &Path, package: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--package"]).args(package);
    command.arg("--target-dir").arg(profile.join(".."));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let built = command.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(built.expect("there is cargo").success(), "{package:?} does not build");
}
