//! A NATS server with JetStream.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{command, free_port};

/// A server. It is killed when this is dropped.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    port: u16,
    folder: TempDir,
    arguments: Vec<String>,
}

impl NatsServer {
    /// Starts one that keeps what it is given, with more arguments, for instance who may sign in.
    pub fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let arguments: Vec<String> = arguments.iter().copied().map(str::to_owned).collect();
        let port = free_port();
        let child = spawn(port, &folder, &arguments);
        let mut server = Self { child, port, folder, arguments };
        server.wait();
        server
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends it as a power cut would.
    pub fn kill9(&mut self) {
        self.child.kill().expect("a process of ours can be killed");
        self.child.wait().expect("a killed process ends");
    }

    /// Starts it again after [`kill9`](Self::kill9): the same folder, the same port.
    pub fn restart(&mut self) {
        self.kill9();
        self.child = spawn(self.port, &self.folder, &self.arguments);
        self.wait();
    }

    /// Waits until it accepts connections.
    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().expect("a process of ours can be asked");
            assert!(ended.is_none(), "nats-server ended: {ended:?}");
            assert!(Instant::now() < deadline, "nats-server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, folder: &TempDir, arguments: &[String]) -> Child {
    Command::new(command("nats-server"))
        .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
        .arg(folder.path())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server starts")
}
