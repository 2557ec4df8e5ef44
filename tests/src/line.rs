//! A line between processes and a relay, as slow and as short-lived as is asked for.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// What a line is like.
#[derive(Debug, Clone, Copy)]
pub struct Quality {
    /// Bytes a second, each way.
    pub bytes_per_s: u64,
    /// How long each connection lasts.
    pub lifetime: Duration,
}

impl Quality {
    /// As good as the loopback interface.
    pub const GOOD: Self = Self { bytes_per_s: u64::MAX, lifetime: Duration::from_secs(3600) };
}

/// A port on the loopback address behind which the relay is found, over a line of some quality. It
/// takes nobody any more once it is dropped.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    carried: Arc<Carried>,
    is_down: Arc<AtomicBool>,
}

/// Bytes that came out at the other end.
#[derive(Debug, Default)]
struct Carried {
    up: AtomicU64,
    down: AtomicU64,
}

impl Line {
    /// A line to the relay at a `ws://` URL.
    pub fn to(relay: &str, quality: Quality) -> Self {
        let relay = relay.trim_start_matches("ws://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (carried, is_down) = (Arc::new(Carried::default()), Arc::new(AtomicBool::new(false)));
        let line = Self { address, carried: carried.clone(), is_down: is_down.clone() };
        thread::spawn(move || {
            for client in listener.incoming() {
                if is_down.load(Ordering::Relaxed) {
                    return;
                }
                let (relay, carried) = (relay.clone(), carried.clone());
                // A client that is gone already, or a relay that is not there, is a line cut early.
                let _ = client.map(|client| {
                    thread::spawn(move || connect(&client, &relay, quality, &carried))
                });
            }
        });
        line
    }

    /// Where a replica dials.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Bytes carried so far, to the relay and from it.
    pub fn carried(&self) -> (u64, u64) {
        let Carried { up, down } = &*self.carried;
        (up.load(Ordering::Relaxed), down.load(Ordering::Relaxed))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.is_down.store(true, Ordering::Relaxed);
        // The listener looks at the flag when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

fn connect(client: &TcpStream, relay: &str, quality: Quality, carried: &Carried) -> io::Result<()> {
    let relay = &TcpStream::connect(relay)?;
    if quality.bytes_per_s < u64::MAX {
        // Otherwise the system takes megabytes in at once, and the line is slow behind them only. With
        // less than a segment of the loopback interface, a sender waits for timers.
        for end in [client, relay] {
            SockRef::from(end).set_recv_buffer_size(128 << 10)?;
        }
    }
    let until = Instant::now() + quality.lifetime;
    thread::scope(|scope| {
        scope.spawn(|| carry(client, relay, quality, until, &carried.up));
        carry(relay, client, quality, until, &carried.down)
    })
}

/// Carries bytes one way, until an end hangs up or the time is over; then both ends are told.
fn carry(
    mut from: &TcpStream,
    mut to: &TcpStream,
    quality: Quality,
    until: Instant,
    carried: &AtomicU64,
) -> io::Result<()> {
    let carried = (|| {
        let mut block = [0; 2048];
        let mut due = Instant::now();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            from.set_read_timeout(Some(left))?;
            let read = from.read(&mut block)?;
            if read == 0 {
                return Ok(());
            }
            let takes = Duration::from_secs_f64(read as f64 / quality.bytes_per_s as f64);
            due = due.max(Instant::now()) + takes;
            // This is the rate of the line, not a wait for something.
            thread::sleep(due.min(until).saturating_duration_since(Instant::now()));
            if Instant::now() >= until {
                return Ok(());
            }
            to.write_all(&block[..read])?;
            carried.fetch_add(read as u64, Ordering::Relaxed);
        }
    })();
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
    carried
}
