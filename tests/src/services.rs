//! Real servers that adapters deliver to: private instances, each in a folder and at ports of its
//! own, which end with the value that holds them.

pub mod nats;
pub mod postgres;
pub mod rabbitmq;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("a listener has an address").port()
}

/// A server's command: on the path, or where Debian puts what only root starts.
pub fn command(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    let found = on_path.chain([Path::new("/usr/sbin").join(name)]).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("there is no {name}; `cargo xtask test` installs it"))
}

/// Writes `certificate.pem` and `key.pem` of a server called `localhost`, vouched for by itself.
pub fn write_certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let made = made.expect("a certificate can be made");
    for (name, text) in
        [("certificate.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())]
    {
        std::fs::write(folder.join(name), text).expect("the folder can be written to");
    }
}
