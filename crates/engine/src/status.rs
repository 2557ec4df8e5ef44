//! Where the replica stands towards its relay.

/// What a person wants to know: is my work safe?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The connection.
    pub link: Link,
    /// Edits that no relay has acknowledged.
    pub waiting: u64,
    /// When a relay last acknowledged everything, in seconds since 1970 by the device's clock.
    /// `None` if it has not happened since the replica was opened.
    pub safe_at_s: Option<i64>,
    /// When the latest edit that waits was made, in seconds since 1970 by the device's clock.
    pub edited_at_s: Option<i64>,
    /// Changes that a relay will never take, kept aside: those that were not made anew, and of which
    /// nobody has said that they know.
    pub set_aside: u64,
    /// Whether a relay held documents before that have not all come.
    pub is_partial: bool,
    /// How far those have come, while they come.
    pub progress: Option<Progress>,
    /// Documents that are still to be looked at again because their schema changed. Until then lists
    /// and reviews tell of them what followed from the schema before.
    pub behind: u64,
    /// Why the last attempt to connect failed, for a person.
    pub trouble: Option<String>,
    /// How often something was heard of edits that waited. Whoever waits for one looks again.
    pub answers: u64,
}

/// How far a first sync, or one after a long time, has come.
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
    /// A relay is being dialled, or will be again shortly.
    Connecting,
    /// Connected; changes are on their way.
    Syncing,
    /// Connected; the relay holds everything durably, and so do we.
    Safe,
}

impl Status {
    /// An open replica that has not dialled.
    pub(crate) fn offline() -> Self {
        Self {
            link: Link::Offline,
            waiting: 0,
            safe_at_s: None,
            edited_at_s: None,
            set_aside: 0,
            is_partial: false,
            progress: None,
            behind: 0,
            trouble: None,
            answers: 0,
        }
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Offline => "offline",
            Self::Connecting => "connecting",
            Self::Syncing => "syncing",
            Self::Safe => "safe",
        })
    }
}
