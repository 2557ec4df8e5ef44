//! The state of a replica towards its relay.

use std::collections::BTreeMap;

/// The answer to a person's question: is my work safe?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The connection.
    pub link: Link,
    /// Edits that no relay has acknowledged.
    pub waiting: u64,
    /// Those of them that wait for other people than who is signed in, by user: a relay takes an edit
    /// only from whom it is by, so they wait until these sign in on this device.
    pub waiting_for: BTreeMap<String, u64>,
    /// The time at which a relay last acknowledged everything, in seconds since 1970 by the
    /// device's clock. `None` if none has since the replica was opened.
    pub safe_at_s: Option<i64>,
    /// The time of the latest edit that waits, in seconds since 1970 by the device's clock.
    pub edited_at_s: Option<i64>,
    /// Changes that a relay will never take and that are kept aside, except those that were made
    /// anew and those that somebody acknowledged.
    pub set_aside: u64,
    /// Whether a relay held documents before that have not all come.
    pub is_partial: bool,
    /// The progress of those documents, while they come.
    pub progress: Option<Progress>,
    /// Documents of which the relay lost changes to damage, and no device has brought them back yet,
    /// in the spaces of this session. Until that is done [`Link::Safe`] is not said, although the
    /// relay holds everything that this device does.
    pub lost: u64,
    /// Documents that are still to be derived anew because their schema changed. Until then lists
    /// and reviews tell their state by the schema before.
    pub behind: u64,
    /// The reason why the last attempt to connect failed, for a person.
    pub trouble: Option<String>,
    /// The user as whom the relay of this session knows the replica by its token; `None` where it takes
    /// no tokens.
    pub signed_in: Option<String>,
    /// A count that rises with every answer about edits that waited. A task that waits for one
    /// looks again.
    pub answers: u64,
}

/// The progress of a first sync, or of one after a long time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Documents that are here.
    pub documents: u64,
    /// Documents in all, as far as the relay said.
    pub of: u64,
    /// Bytes received in this session.
    pub bytes: u64,
}

/// The connection to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// No relay is being dialled.
    Offline,
    /// The relay lets nobody in without a token, and there is none that counts. Edits wait, and it is
    /// dialled again with the next token.
    SignedOut,
    /// A relay is being dialled, or will be again shortly.
    Connecting,
    /// Connected; changes are on their way.
    Syncing,
    /// Connected; the relay holds everything durably but [edits of people who are not signed
    /// in](Status::waiting_for), and later ones of the same documents; and so do we.
    Held,
    /// Connected; the relay holds everything durably, and so do we.
    Safe,
}

impl Status {
    /// An open replica that has not dialled.
    pub(crate) fn offline() -> Self {
        Self {
            link: Link::Offline,
            waiting: 0,
            waiting_for: BTreeMap::new(),
            safe_at_s: None,
            edited_at_s: None,
            set_aside: 0,
            is_partial: false,
            progress: None,
            lost: 0,
            behind: 0,
            trouble: None,
            signed_in: None,
            answers: 0,
        }
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Offline => "offline",
            Self::SignedOut => "signed out",
            Self::Connecting => "connecting",
            Self::Syncing => "syncing",
            Self::Held => "held",
            Self::Safe => "safe",
        })
    }
}
