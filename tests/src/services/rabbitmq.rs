//! A RabbitMQ server.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{command, free_port, write_certificate};

/// Who may sign in.
pub const USER: &str = "rejoin";

/// The password of [`USER`].
pub const PASSWORD: &str = "correct-horse";

/// A node of its own, with a port mapper of its own. Both are killed when this is dropped.
#[derive(Debug)]
pub struct RabbitServer {
    node: Child,
    // Fields are dropped in this order: the node asks the mapper, and both write to the folder.
    _mapper: Mapper,
    ports: Ports,
    folder: TempDir,
}

/// Erlang's port mapper. The node would start one that outlives it.
#[derive(Debug)]
struct Mapper(Child);

#[derive(Debug, Clone, Copy)]
struct Ports {
    amqp: u16,
    amqps: u16,
    nodes: u16,
    mapper: u16,
}

impl RabbitServer {
    /// Starts one, which takes some seconds.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let ports = Ports {
            amqp: free_port(),
            amqps: free_port(),
            nodes: free_port(),
            mapper: free_port(),
        };
        write_certificate(folder.path());
        let files =
            [("plugins", "[].\n".to_owned()), ("node.conf", configuration(ports, folder.path()))];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("the folder can be written to");
        }
        let mapper = Command::new(command("epmd"))
            .args(["-port", &ports.mapper.to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd starts");
        let mapper = Mapper(mapper);
        let node = spawn(ports, &folder);
        Self { node, _mapper: mapper, ports, folder }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.ports.amqp)
    }

    /// Where it listens for TLS, as `localhost`.
    pub fn tls_url(&self) -> String {
        format!("amqps://localhost:{}", self.ports.amqps)
    }

    /// The file of who vouches for it.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// Ends it as a power cut would.
    pub fn kill9(&mut self) {
        self.node.kill().expect("a process of ours can be killed");
        self.node.wait().expect("a killed process ends");
    }

    /// Starts it again after [`kill9`](Self::kill9): the same folder, the same port.
    pub fn restart(&mut self) {
        self.kill9();
        self.node = spawn(self.ports, &self.folder);
    }
}

impl Drop for RabbitServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn configuration(ports: Ports, folder: &Path) -> String {
    let amqps = ports.amqps;
    let at = |name: &str| folder.join(name).display().to_string();
    let (certificate, key) = (at("certificate.pem"), at("key.pem"));
    format!(
        "default_user = {USER}
default_pass = {PASSWORD}
listeners.ssl.1 = 127.0.0.1:{amqps}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
"
    )
}

/// Starts the node and waits until it takes messages.
fn spawn(ports: Ports, folder: &TempDir) -> Child {
    let at = |name: &str| folder.path().join(name);
    // The script itself: what is on the path insists on being a certain user. Told that systemd
    // looks after it, it becomes the node instead of waiting for it.
    let mut node = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server")
        .env_remove("NOTIFY_SOCKET")
        .env("RUNNING_UNDER_SYSTEMD", "true")
        .env("HOME", folder.path())
        .env("RABBITMQ_NODENAME", format!("rejoin{}@localhost", ports.amqp))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", ports.amqp.to_string())
        .env("RABBITMQ_DIST_PORT", ports.nodes.to_string())
        .env("ERL_EPMD_PORT", ports.mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
        .env("RABBITMQ_LOG_BASE", at("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_CONFIG_FILE", at("node.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("rabbitmq-server starts");
    let lines = node.stdout.take().expect("its output is a pipe");
    if let Err(said) = wait(lines) {
        let _ = node.kill();
        let _ = node.wait();
        panic!("rabbitmq-server does not start: {said}");
    }
    node
}

/// Waits for the line that says it is ready. The log is read to its end, or the node would wait for
/// a reader.
fn wait(stdout: ChildStdout) -> Result<(), String> {
    let (tell, told) = sync_channel(1024);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens any more once it has started.
            let _ = tell.try_send(line);
        }
    });
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut said = String::new();
    loop {
        match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains("Server startup complete") => return Ok(()),
            Ok(line) => said = said + &line + "\n",
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err(said),
        }
    }
}
