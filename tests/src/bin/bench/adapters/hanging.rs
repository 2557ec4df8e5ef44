//! A target that hangs, beside another that does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rejoin::{Replica, Watcher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::edits::{Company, connected};
use super::seen::Seen;
use super::{JOBS_EDITED, Target, adapter};
use crate::{Figure, quantile};

const ROUNDS: usize = 8;
const EDITS: usize = 100;
const WARM: usize = 40;

/// What stands beside the adapter of the database.
#[derive(Clone, Copy)]
enum Second {
    None,
    Answers,
    Hangs,
}

/// Three companies take turns with every edit, so that whatever else the machine does meets all.
pub(super) async fn beside(target: &Target) -> Vec<Figure> {
    let mut alone = Watched::start(target, "alone", Second::None).await;
    let mut answering = Watched::start(target, "answering", Second::Answers).await;
    let mut hanging = Watched::start(target, "hanging", Second::Hangs).await;
    for n in 0..WARM + ROUNDS * EDITS {
        let is_warm = n >= WARM;
        alone.edit(n, is_warm).await;
        answering.edit(n, is_warm).await;
        hanging.edit(n, is_warm).await;
    }
    for watched in [&answering, &hanging] {
        assert!(
            watched.reached.load(Ordering::Relaxed) > 0,
            "{} and was never asked",
            watched.name
        );
    }
    let figure = |to: &str, part: &str, of: fn(&Watched) -> &Vec<Duration>, beside: &Watched| {
        let at = if part == "p50" { 0.5 } else { 0.99 };
        let (ours, theirs) = (of(&hanging), of(beside));
        let name = beside.name;
        Figure::new(
            format!("edit to {to}, a target hangs, {part} ({})", spread(ours, at)),
            quantile(&mut ours.clone(), at),
            &format!("{name} ({})", spread(theirs, at)),
            quantile(&mut theirs.clone(), at),
        )
    };
    let mut figures = Vec::new();
    for part in ["p50", "p99"] {
        for beside in [&alone, &answering] {
            figures.push(figure("row", part, |watched| &watched.to_row, beside));
            figures.push(figure("watcher", part, |watched| &watched.to_watcher, beside));
        }
    }
    figures
}

/// The least and the most of the rounds.
fn spread(took: &[Duration], part: f64) -> String {
    let mut rounds: Vec<_> =
        took.chunks(EDITS).map(|round| quantile(&mut round.to_vec(), part)).collect();
    rounds.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!("{:.1} to {:.1} ms", ms(rounds.first()), ms(rounds.last()))
}

/// A company whose rows and documents somebody watches.
struct Watched {
    name: &'static str,
    company: Company,
    /// Connections that the second target took.
    reached: Arc<AtomicUsize>,
    seen: Seen,
    watcher: Watcher,
    _van: Replica,
    to_row: Vec<Duration>,
    to_watcher: Vec<Duration>,
}

impl Watched {
    async fn start(target: &Target, table: &str, second: Second) -> Self {
        let seen = Seen::listen(target, table).await;
        let reached = Arc::default();
        let (name, more) = match second {
            Second::None => ("no second target", vec![]),
            Second::Answers => {
                ("the second target answers", vec![webhook(target, &reached, true).await])
            }
            Second::Hangs => {
                ("the second target hangs", vec![webhook(target, &reached, false).await])
            }
        };
        let company = Company::start(target, table, &more).await;
        let van = connected(&company.folder, "van", &company.relay).await;
        let jobs = van.space("main").and_then(|main| main.collection("jobs")).expect("names");
        while jobs.list().await.expect("open").len() < JOBS_EDITED {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let watcher = jobs.watch().await.expect("open");
        let (to_row, to_watcher) = (Vec::new(), Vec::new());
        Self { name, company, reached, seen, watcher, _van: van, to_row, to_watcher }
    }

    async fn edit(&mut self, n: usize, is_kept: bool) {
        let notes = format!("edit {n}");
        let started = Instant::now();
        self.company.edit(n, &notes).await;
        let row = async {
            self.seen.row(&notes).await;
            started.elapsed()
        };
        let change = async {
            self.watcher.next().await.expect("open");
            started.elapsed()
        };
        let (to_row, to_watcher) = tokio::join!(row, change);
        if is_kept {
            self.to_row.push(to_row);
            self.to_watcher.push(to_watcher);
        }
    }
}

/// An adapter whose target takes every request, and answers it or never does.
async fn webhook(target: &Target, reached: &Arc<AtomicUsize>, answers: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("a port").port();
    let reached = Arc::clone(reached);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            reached.fetch_add(1, Ordering::Relaxed);
            match answers {
                true => drop(tokio::spawn(answer(stream))),
                false => open.push(stream),
            }
        }
    });
    let secret = target.folder.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a file");
    let sink = format!(
        "{{ kind = \"webhook\", url = \"http://127.0.0.1:{port}/\", secrets = [\"file:{}\"], \
         allow_hosts = [\"127.0.0.1\"] }}",
        secret.display()
    );
    adapter("hook", &sink)
}

/// Takes requests until the connection ends.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    loop {
        match whole(&request) {
            Some(bytes) => {
                request.drain(..bytes);
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            }
            None if stream.read_buf(&mut request).await? == 0 => return Ok(()),
            None => {}
        }
    }
}

/// The bytes of a request, once it is whole.
fn whole(request: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(request).ok()?;
    let head = text.find("\r\n\r\n")? + 4;
    let lines = text[..head].lines();
    let length = lines.filter_map(|line| line.split_once(':'));
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let body: usize = length.filter_map(|(_, length)| length.trim().parse().ok()).next()?;
    (request.len() >= head + body).then_some(head + body)
}
