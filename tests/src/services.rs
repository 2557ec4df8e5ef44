//! Real servers, each private to the test that started it: on a free port of the loopback address,
//! in a folder of its own, and ended by its id with the value that holds it.

pub mod postgres;

use std::net::TcpListener;

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
