//! HTTP by hand: what was sent and what came back, byte for byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// By their names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header that must be there.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("there is no {name} in {:?}", self.headers)).1
    }
}

/// Sends a request, and waits for the whole answer.
pub async fn request(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let all = [headers, &[("connection", "close")]].concat();
    let (mut stream, mut answer) = begin(to, method, path, &all).await;
    stream.read_to_end(&mut answer.body).await.expect("the whole answer");
    answer
}

/// Sends a request, and waits for the head of the answer. The body is what came with it.
pub async fn begin(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (TcpStream, Answer) {
    let mut stream = TcpStream::connect(to).await.expect("somebody listens");
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        head.push_str(&format!("host: {to}\r\n"));
    }
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{head}\r\n").as_bytes()).await.expect("somebody reads");
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        assert!(stream.read_buf(&mut bytes).await.expect("an answer") > 0, "it breaks off");
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head of text");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let body = bytes[end + 4..].to_vec();
    (stream, Answer { status: status.expect("a status"), headers, body })
}
