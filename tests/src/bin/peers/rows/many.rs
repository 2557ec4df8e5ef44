//! What a server holds in memory when many documents came.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use automerge::ChangeHash;
use tokio::time::{sleep, timeout_at};

use super::{Figure, Unit};
use crate::automerge_repo::Connection;
use crate::automerge_repo::changes::type_text;
use crate::automerge_repo::wire::{self, Frame};
use crate::history::new_document;
use crate::hocuspocus::updates::typed;
use crate::hocuspocus::{self, Message, Said};
use crate::servers::{Kind, Server};
use crate::socket::Socket;

pub(super) const FIGURES: [&str; 2] =
    ["memory per document of 100 changes", "documents of 100 changes taken"];

const DOCUMENTS: usize = 10_000;
const CHANGES: usize = 100;
const LONGEST: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(3);
/// Documents on the way at a time. The JavaScript server cuts off whoever sends more than it works
/// off between two of its pings.
const TOGETHER: usize = 8;
/// What Yjs makes of text that was typed while nobody was connected.
const ONE_UPDATE: &str = "Yjs sends the 100 as one update, with one run of text";

/// What one document of Automerge consists of, and its last change.
type Content = (Vec<Vec<u8>>, ChangeHash);

/// How documents are brought, all over one connection.
enum Language<'a> {
    AutomergeRepo { connection: Connection, contents: &'a [Content] },
    Hocuspocus(Socket),
}

pub(super) async fn documents(kind: Kind) -> Result<Vec<Figure>> {
    static CONTENTS: OnceLock<Vec<Content>> = OnceLock::new();

    let contents = || CONTENTS.get_or_init(|| (0..DOCUMENTS).map(|_| content()).collect());
    let contents = (kind != Kind::Hocuspocus).then(contents);

    let server = Server::start(kind).await?;
    let empty = server.memory()?;
    let mut language = match contents {
        None => Language::Hocuspocus(Socket::connect(server.url()).await?),
        Some(contents) => {
            let connection = Connection::join(server.url()).await?;
            Language::AutomergeRepo { connection, contents }
        }
    };
    let started = Instant::now();
    let taken = upload(&mut language, started + LONGEST).await?;
    let took = started.elapsed();
    // The client stays: these documents are open.
    let listening = async { while language.socket().receive().await.is_ok() {} };
    tokio::select! { () = listening => {}, () = sleep(QUIET) => {} }

    let grown = server.memory()?.saturating_sub(empty);
    let late = (taken < DOCUMENTS)
        .then(|| format!("{taken} of {DOCUMENTS} documents within {} s", LONGEST.as_secs()));
    let one = (kind == Kind::Hocuspocus).then(|| ONE_UPDATE.to_owned());
    let memory = grown as f64 / 1024.0 / taken as f64;
    let rate = taken as f64 / took.as_secs_f64();
    Ok(vec![
        Figure::new(FIGURES[0], Unit::Kibibytes, memory).noted(late).noted(one.clone()),
        Figure::new(FIGURES[1], Unit::PerSecond, rate).noted(one),
    ])
}

fn content() -> Content {
    let (changes, hashes): (Vec<_>, Vec<_>) = type_text(CHANGES).into_iter().unzip();
    (changes, hashes[CHANGES - 1])
}

/// Uploads documents, some at a time; returns how many were acknowledged in time.
async fn upload(language: &mut Language<'_>, by: Instant) -> Result<usize> {
    let mut waiting = 0..DOCUMENTS;
    let mut on_the_way = HashMap::new();
    let mut taken = 0;
    while taken < DOCUMENTS {
        while on_the_way.len() < TOGETHER
            && let Some(number) = waiting.next()
        {
            let document = new_document();
            for frame in language.bring(number, &document) {
                language.socket().feed(frame).await?;
            }
            on_the_way.insert(document, number);
        }
        language.socket().flush().await?;
        let Ok(frame) = timeout_at(by.into(), language.socket().receive()).await else { break };
        let frame = frame.with_context(|| format!("after {taken} documents"))?;
        if let Some(document) = language.taken(&frame, &on_the_way)? {
            on_the_way.remove(document);
            taken += 1;
        }
    }
    Ok(taken)
}

impl Language<'_> {
    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::AutomergeRepo { connection, .. } => &mut connection.socket,
            Self::Hocuspocus(socket) => socket,
        }
    }

    /// All that is said to bring one document.
    fn bring(&self, number: usize, document: &str) -> Vec<Vec<u8>> {
        match self {
            Self::AutomergeRepo { connection, contents } => {
                let (changes, last) = &contents[number];
                let (heads, nothing) = (vec![*last], Vec::new());
                let data =
                    wire::message(heads, nothing.clone(), nothing, &[*last], changes.clone());
                vec![connection.frame("sync", document, &data)]
            }
            Self::Hocuspocus(_) => {
                let update = typed(rand::random(), 0..CHANGES);
                let bring = hocuspocus::update(document, &update);
                vec![hocuspocus::authenticate(document), hocuspocus::ask(document), bring]
            }
        }
    }

    /// Which of the documents on the way the server acknowledges with a frame.
    fn taken<'f>(
        &self,
        frame: &'f [u8],
        on_the_way: &HashMap<String, usize>,
    ) -> Result<Option<&'f str>> {
        match self {
            Self::AutomergeRepo { contents, .. } => {
                let frame = Frame::decode(frame)?;
                let number = on_the_way.get(frame.document).filter(|_| frame.kind == "sync");
                let Some(number) = number else { return Ok(None) };
                let (_, last) = &contents[*number];
                Ok(frame.message()?.heads.contains(last).then_some(frame.document))
            }
            Self::Hocuspocus(_) => {
                let message = Message::decode(frame)?;
                Ok((message.said == Said::Applied).then_some(message.document))
            }
        }
    }
}
