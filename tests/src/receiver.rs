//! A receiver of webhooks, which verifies what it gets with the specification's own library, and
//! misbehaves when it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use standardwebhooks::Webhook;

/// How a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It takes what comes.
    Calm,
    /// 500.
    Failing,
    /// 401: it knows no such sender, or not any more.
    Forbidding,
    /// 429, with the wish to be left alone for a second.
    Busy,
    /// It takes what comes, and nobody gets to know: the answer never comes.
    Silent,
}

/// Receives until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    /// What it took, in the order it came, those that came again as well.
    taken: Vec<Value>,
    refused: u64,
    is_over: bool,
}

impl Receiver {
    /// Listens on a free port, and takes what is signed with a secret.
    pub fn start(secret: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let taken = Vec::new();
        let state = State { mood: Mood::Calm, taken, refused: 0, is_over: false };
        let state = Arc::new(Mutex::new(state));
        let verifier = Arc::new(Webhook::new(secret).expect("a secret of the specification"));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if lock(&shared).is_over {
                    return;
                }
                let (state, verifier) = (Arc::clone(&shared), Arc::clone(&verifier));
                // A connection that breaks off is the sender's to care about.
                std::thread::spawn(move || _ = answer_all(&stream, &state, &verifier));
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers so from now on.
    pub fn set_mood(&self, mood: Mood) {
        lock(&self.state).mood = mood;
    }

    /// Everything it took, in the order it came, what came again as well.
    pub fn taken(&self) -> Vec<Value> {
        lock(&self.state).taken.clone()
    }

    /// How often it refused.
    pub fn refused(&self) -> u64 {
        lock(&self.state).refused
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        lock(&self.state).is_over = true;
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the requests of one connection.
fn answer_all(stream: &TcpStream, state: &Mutex<State>, verifier: &Webhook) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut headers = http::HeaderMap::new();
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            let name: http::HeaderName = name.parse().expect("a header's name");
            headers.insert(name, value.parse().expect("a header's value"));
        }
        let length = headers["content-length"].to_str().expect("text").parse().expect("a number");
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        verifier.verify(&body, &headers).expect("it is signed with the secret");
        let event: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(event["id"], headers["webhook-id"].to_str().expect("text"));
        let mood = {
            let mut state = lock(state);
            match state.mood {
                Mood::Calm | Mood::Silent => state.taken.push(event),
                Mood::Failing | Mood::Forbidding | Mood::Busy => state.refused += 1,
            }
            state.mood
        };
        let answer = match mood {
            Mood::Calm => "204 No Content\r\n",
            Mood::Failing => "500 Internal Server Error\r\ncontent-length: 0\r\n",
            Mood::Forbidding => "401 Unauthorized\r\ncontent-length: 0\r\n",
            Mood::Busy => "429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n",
            Mood::Silent => {
                // Until the sender hangs up.
                stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                let _ = reader.read(&mut [0]);
                return Ok(());
            }
        };
        let mut writer = stream;
        writer.write_all(format!("HTTP/1.1 {answer}\r\n").as_bytes())?;
    }
}
