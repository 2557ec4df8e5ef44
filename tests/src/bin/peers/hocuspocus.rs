//! The language of Hocuspocus, as `src/MessageReceiver.ts` and `src/ClientConnection.ts` of
//! @hocuspocus/server 4.7 have it. Every message is about a document.

mod lib0;
pub(crate) mod updates;

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::timeout;

use self::lib0::{Rest, write_bytes, write_number};
use self::updates::{Updates, brought};
use crate::client::Session;
use crate::socket::{ANSWER, Socket};

/// The document of those who want none: nobody is let in without.
pub(crate) const NOTHING: &str = "nothing";

// Kinds of messages.
const SYNC: usize = 0;
const AUTHENTICATION: usize = 2;
const SYNC_REPLY: usize = 4;
const CLOSE: usize = 7;
const SYNC_STATUS: usize = 8;

// Kinds of those about authentication.
const TOKEN: usize = 0;
const AUTHENTICATED: usize = 2;

// Kinds of those about syncing.
const QUESTION: usize = 0;
const ANSWERED: usize = 1;
const UPDATE: usize = 2;

/// A message of the server.
#[derive(Debug, PartialEq)]
pub(crate) struct Message<'a> {
    pub(crate) document: &'a str,
    pub(crate) said: Said<'a>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Said<'a> {
    Authenticated,
    /// It has applied one of our updates.
    Applied,
    /// An update, of somebody or as the answer to a question.
    Update(&'a [u8]),
    /// Something that we need not know.
    Other,
}

impl<'a> Message<'a> {
    /// Reads a message.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self> {
        let mut rest = Rest(bytes);
        let document = str::from_utf8(rest.bytes()?).context("a document's name is no text")?;
        let said = match rest.number()? {
            AUTHENTICATION => {
                ensure!(rest.number()? == AUTHENTICATED, "the server does not let us in");
                Said::Authenticated
            }
            SYNC | SYNC_REPLY => match rest.number()? {
                ANSWERED | UPDATE => Said::Update(rest.bytes()?),
                _ => Said::Other,
            },
            SYNC_STATUS => {
                ensure!(rest.number()? == 1, "the server refuses an update");
                Said::Applied
            }
            CLOSE => bail!("the server closes: {}", String::from_utf8_lossy(rest.bytes()?)),
            _ => Said::Other,
        };
        Ok(Self { document, said })
    }
}

/// The first message about a document.
pub(crate) fn authenticate(document: &str) -> Vec<u8> {
    message(document, AUTHENTICATION, TOKEN, b"")
}

/// Asks for all that is in the document.
pub(crate) fn ask(document: &str) -> Vec<u8> {
    // We have the changes of no author.
    message(document, SYNC, QUESTION, &[0])
}

pub(crate) fn update(document: &str, update: &[u8]) -> Vec<u8> {
    message(document, SYNC, UPDATE, update)
}

fn message(document: &str, kind: usize, of: usize, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(document.len() + body.len() + 8);
    write_bytes(&mut message, document.as_bytes());
    write_number(&mut message, kind);
    write_number(&mut message, of);
    write_bytes(&mut message, body);
    message
}

/// Connects, and is let in to a document.
pub(crate) async fn join(url: &str, document: &str) -> Result<Socket> {
    let joined = timeout(ANSWER, async {
        let mut socket = Socket::connect(url).await?;
        socket.send(authenticate(document)).await?;
        while Message::decode(&socket.receive().await?)?.said != Said::Authenticated {}
        anyhow::Ok(socket)
    });
    joined.await.context("nobody is let in")?.with_context(|| format!("no server at {url}"))
}

/// Joins, to write this history into a document, or to read it.
pub(crate) async fn open(
    url: &str,
    document: &str,
    history: Arc<Updates>,
) -> Result<(Socket, Provider)> {
    let socket = join(url, document).await?;
    Ok((socket, Provider { document: document.to_owned(), history, applied: 0, here: 0 }))
}

/// What is said of one document, by what Yjs calls a provider.
#[derive(Debug)]
pub(crate) struct Provider {
    document: String,
    history: Arc<Updates>,
    /// How many of our updates the server has applied. It does so in their order.
    applied: usize,
    here: usize,
}

impl Session for Provider {
    fn ask(&self) -> Vec<u8> {
        ask(&self.document)
    }

    fn bring(&self, change: usize, _acknowledged: usize) -> Vec<u8> {
        update(&self.document, &self.history.updates[change])
    }

    /// A provider relies on the connection for what it has sent.
    fn insist(&self, _changes: Range<usize>) -> Option<Vec<u8>> {
        None
    }

    fn acknowledged(&mut self, frame: &[u8]) -> Result<usize> {
        // The others are our own changes, which authors get back too.
        if Message::decode(frame)?.said == Said::Applied {
            self.applied += 1;
        }
        Ok(self.applied)
    }

    fn read(&mut self, frame: &[u8]) -> Result<(usize, Option<Vec<u8>>)> {
        if let Said::Update(update) = Message::decode(frame)?.said {
            let brought = brought(update)?;
            // What comes before its predecessors comes again, in the answer to our question.
            if brought.start <= self.here {
                self.here = self.here.max(brought.end);
            }
        }
        Ok((self.here, None))
    }
}
