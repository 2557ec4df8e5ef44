//! A private PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::free_port;

/// A server with one superuser, `rejoin`, whose password is [`PASSWORD`].
#[derive(Debug)]
pub struct PostgresServer {
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

/// Where Debian's packages put servers, a folder for each version.
const INSTALLED: &str = "/usr/lib/postgresql";

/// The password of the one user.
pub const PASSWORD: &str = "canary-of-postgres";

impl PostgresServer {
    /// Whether Debian's packages installed a server.
    pub fn is_installed() -> bool {
        Path::new(INSTALLED).exists()
    }

    /// Makes a database cluster and starts its server.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with a certificate and its key, PEM: then it takes encrypted connections too.
    pub async fn start_encrypted(certificate: &str, key: &str) -> Self {
        Self::start_with(&[("server.crt", certificate), ("server.key", key)]).await
    }

    async fn start_with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let owner = owner();
        let own = |path: &Path| {
            if let Some((user, group)) = owner {
                std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root may do that");
            }
        };
        own(folder.path());
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).expect("a file");
        own(&password);
        let data = folder.path().join("data");
        let made = as_owner("initdb")
            .args(["--username=rejoin", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"])
            .args(["--locale=C.UTF-8"])
            .arg(format!("--pwfile={}", password.display()))
            .arg(&data)
            .current_dir(folder.path())
            .output()
            .expect("there is initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for (name, text) in files {
            let path = data.join(name);
            std::fs::write(&path, text).expect("a file");
            own(&path);
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, mode).expect("a file of ours");
        }
        let mut server = Self { folder, port: free_port(), server: None };
        server.start_again(!files.is_empty()).await;
        server
    }

    /// Starts the server after [`PostgresServer::kill`], with the same data on the same port.
    pub async fn restart(&mut self) {
        self.start_again(false).await;
    }

    async fn start_again(&mut self, is_encrypted: bool) {
        let mut command = as_owner("postgres");
        command
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "log_min_messages=fatal"])
            .args(["-c", "max_connections=40"])
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if is_encrypted {
            command.args(["-c", "ssl=on"]);
        }
        self.server = Some(command.spawn().expect("there is postgres"));
        let began = Instant::now();
        loop {
            match self.try_connect().await {
                Ok(_) => return,
                Err(error) => assert!(
                    began.elapsed() < Duration::from_secs(60),
                    "the database does not come up: {error}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the server as a crash would.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // Its own word for that: the children go too, and nothing is written any more.
        let id = server.id().to_string();
        let sent = Command::new("kill").args(["-QUIT", &id]).status().expect("there is kill");
        assert!(sent.success(), "the server {id} was gone already");
        server.wait().expect("a process ends");
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, without the password.
    pub fn url(&self) -> String {
        format!("postgresql://rejoin@127.0.0.1:{}/postgres", self.port)
    }

    /// A connection for the test itself.
    pub async fn connect(&self) -> Client {
        self.try_connect().await.expect("the database runs")
    }

    async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        let mut config: tokio_postgres::Config = self.url().parse()?;
        let (client, connection) = config.password(PASSWORD).connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Who runs the server: it refuses to run as root.
fn owner() -> Option<(u32, u32)> {
    let number = |arguments: &[&str]| -> u32 {
        let output = Command::new("id").args(arguments).output().expect("there is id");
        let text = String::from_utf8(output.stdout).expect("a number");
        text.trim().parse().expect("Debian's package makes the user postgres")
    };
    (number(&["-u"]) == 0).then(|| (number(&["-u", "postgres"]), number(&["-g", "postgres"])))
}

fn as_owner(program: &str) -> Command {
    let program = programs().join(program);
    let Some((user, group)) = owner() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={user}"), format!("--regid={group}")])
        .arg("--clear-groups")
        .arg(program);
    command
}

/// The folder of the newest server that Debian's packages installed.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir(INSTALLED).expect("Debian's postgresql is there");
    let versions = versions.map(|version| version.expect("a folder").path());
    let number = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.parse::<u32>().ok()).unwrap_or_default()
    };
    versions.max_by_key(number).expect("a version is there").join("bin")
}
