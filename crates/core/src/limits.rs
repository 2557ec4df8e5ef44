//! Every limit of the protocol and the guard, with its unit and its reason.
//!
//! Names end in the unit and `_MAX`. A limit a peer can run into is checked where bytes from
//! outside are first read, before anything is allocated by a length they declare.

/// Bytes of one WebSocket message, and so of one frame. Keeps memory per connection small and
/// lets live edits pass between the parts of a large transfer.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Bytes of one change as stored and sent: a frame less room for its other fields.
pub const CHANGE_BYTES_MAX: usize = FRAME_BYTES_MAX - 4096;

/// Bytes of changes or snapshot put into one frame before the next is begun. A quarter of a frame:
/// small enough to interleave, large enough that headers do not count.
pub const FRAME_PAYLOAD_BYTES: usize = 256 << 10;

/// Bytes of one piece of a snapshot or long change, and bytes that are given to a line at once. A
/// line of 40 kB/s that lasts six seconds carries a dozen of them, so a cut costs little, and no
/// live edit waits behind more.
pub const PIECE_BYTES: usize = 16 << 10;

/// Bytes of changes within which a session says how far the replica has come, which takes some
/// twenty bytes itself: a cut costs half as much on average.
pub const MARK_BYTES: usize = 4 << 10;

/// Documents of which a part has come, named in one Hello: one that is backfilled, one that was
/// written to meanwhile, and some that were wanted.
pub const BEGUN_MAX: usize = 16;

/// Bytes of unfinished snapshots and long changes that a replica keeps of one relay. The largest
/// one fits. An honest relay has few under way: one that is backfilled, one that was written to, and one
/// that is wanted. A relay that begins many and ends none fills no disk.
pub const BEGUN_BYTES_MAX: u64 = SNAPSHOT_BYTES_MAX as u64;

/// Bytes a deflated change may inflate to. 1 MB of zeros deflated is otherwise gigabytes.
pub const INFLATED_BYTES_MAX: usize = 8 << 20;

/// Rows in any one column of a change. Run lengths let 69 bytes claim 10,000,000 operations.
pub const CHANGE_ROWS_MAX: u64 = 100_000;

/// Dependencies of one change. As many as a document may have heads, for an edit builds on them
/// all.
pub const CHANGE_DEPS_MAX: usize = HEADS_MAX;

/// Other actors named in one change. A write of a field takes the place of all its values, of which
/// there may be one for each head, and more in documents from before heads had a limit.
pub const CHANGE_ACTORS_MAX: usize = 1 << 15;

/// Columns of one change; Automerge writes at most 16.
pub const CHANGE_COLUMNS_MAX: usize = 64;

/// Bytes of a change's message.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Bytes of an actor id. Automerge draws 16 and appends a level when it writes at old heads.
pub const ACTOR_BYTES_MAX: usize = 64;

/// The highest operation counter: Automerge refuses changes that start above a `u32`.
pub const OP_COUNTER_MAX: u64 = u32::MAX as u64;

/// The highest counter at which a change may begin that a relay takes, a replica applies, or an
/// edit writes. It is half of what Automerge can count to, so no edit, however long, comes near the
/// end, where Automerge panics. A document of a million edits a year lasts two thousand years.
pub const OP_START_MAX: u64 = (1 << 31) - 1;

/// Counters that a change may leave out, over the highest that its document has at the relay. An
/// honest author counts on from the changes it knows, and the relay may lack some of those after
/// its backup was restored. Without a limit one change uses up the counters of a document for
/// everybody.
pub const OP_COUNTER_JUMP_MAX: u64 = 1 << 20;

/// Seconds before or after 1970 that a change may claim to be of. Automerge stores how far two of
/// them lie apart, which has room in 64 bits only within this.
pub const TIME_S_MAX: i64 = 1 << 62;

/// Maps, lists and texts inside each other, below the root, that are followed. Deeper ones read as
/// `null`, and writing there is refused. Real documents have a dozen at most; serde_json reads no
/// more than 127.
pub const DEPTH_MAX: usize = 100;

/// Heads of a document above which an edit first merges some of them, and above which the relay
/// takes only few more from one connection. So many devices would have to write to one document
/// without hearing of each other.
pub const HEADS_EASY_MAX: usize = HEADS_MAX / 2;

/// Heads that one connection may add to a document that has more than [`HEADS_EASY_MAX`]. Offline
/// edits still arrive, and so does the whole history of a document that a relay lost and that had
/// thousands of heads before somebody brought them together; but no single connection fills a
/// document with heads.
pub const HEADS_ADDED_MAX: u32 = 1024;

/// Bytes of a space or collection name.
pub const NAME_BYTES_MAX: usize = 64;

/// Bytes of a natural key. The genesis change carries it as its message, with its incarnation.
pub const KEY_BYTES_MAX: usize = 512;

/// Bytes of a snapshot a replica will assemble and load.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;

/// Changes of one document that may wait for a missing dependency at a replica. Automerge keeps
/// orphans in memory and in every save; the relay stores none at all.
pub const ORPHANS_MAX: usize = 1000;

/// Spaces one session may open.
pub const SESSION_SPACES_MAX: usize = 64;

/// Bytes of an access token.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Changes in one Push or Changes frame.
pub const FRAME_CHANGES_MAX: usize = 4096;

/// Pushes a replica may have under way without an answer.
pub const PUSHES_IN_FLIGHT_MAX: usize = 256;

/// Bytes of changes a replica may have under way without an answer.
pub const PUSH_BYTES_IN_FLIGHT_MAX: usize = 4 << 20;

/// Documents in one Want frame.
pub const WANT_DOCUMENTS_MAX: usize = 1024;

/// Documents a relay keeps as wanted by one session; a replica asks for more when they came.
pub const WANTED_MAX: usize = 16_384;

/// Bytes that a relay keeps for one session while its replica does not read: documents it wants,
/// answers to its pushes, presence. A replica has one page of wanted documents under way in each
/// space and 256 pushes, so one that reads comes to some hundred kilobytes.
pub const SESSION_UNREAD_BYTES_MAX: usize = 4 << 20;

/// Heads named for one document.
pub const HEADS_MAX: usize = 4096;

/// Coded symbols one Repair frame may ask for.
pub const REPAIR_SYMBOLS_MAX: u32 = 4096;

/// Coded symbols after which a replica stops repairing and asks for everything: by then the sets
/// differ in thousands of documents.
pub const REPAIR_SYMBOLS_TOTAL_MAX: u32 = 16_384;

/// Bytes of one presence value.
pub const PRESENCE_BYTES_MAX: usize = 4 << 10;

/// Presence values kept for one session, or by one replica for one space.
pub const PRESENCES_MAX: usize = 1024;

/// Bytes of presence that wait for one session which does not read. Later ones are dropped: they
/// are renewed when it reads again.
pub const PRESENCES_BYTES_MAX: usize = 64 << 10;

/// Peers for whom one connection may speak at once, in all its spaces together: a replica is one in
/// each, and apps of automerge-repo pass on the presence of others behind them. Beyond it the
/// oldest are forgotten, so that nobody fills the relay's memory.
pub const PRESENCE_PEERS_MAX: usize = SESSION_SPACES_MAX;

/// Milliseconds a presence value may live without being renewed.
pub const PRESENCE_TTL_MS_MAX: u32 = 5 * 60 * 1000;

/// Bytes of the text in a Bye or Refused frame.
pub const REASON_BYTES_MAX: usize = 512;

/// Bytes of one message of automerge-repo's protocol, which sends a whole document in one. This is
/// the default limit of WebSockets in Rust.
pub const REPO_FRAME_BYTES_MAX: usize = 64 << 20;

/// Changes in one message of automerge-repo.
pub const REPO_CHANGES_MAX: usize = 1 << 20;

/// Bytes of a peer, session or storage id of automerge-repo, and of other texts in its messages.
pub const REPO_TEXT_BYTES_MAX: usize = 1024;

/// Bytes of the ids of all storages that one peer subscribed to: a thousand of the usual 36.
pub const REPO_SUBSCRIBED_BYTES_MAX: usize = 64 << 10;

/// Heads of storages that wait for one peer which does not read. Later ones are dropped: they come
/// again with the next change.
pub const REPO_HEADS_DUE_MAX: usize = 4096;

/// Bytes of the changes that a document which a peer of automerge-repo uploads comes to. The
/// largest known document of one person, a paper of 260,000 keystrokes, comes to 26 MB.
pub const UPLOADED_CHANGES_BYTES_MAX: usize = 48 << 20;

/// Storages whose heads one message of automerge-repo may tell of, or one peer may be told of.
pub const REPO_STORAGES_MAX: usize = 1024;

/// Bytes of one ephemeral message of automerge-repo; a longer one is not passed on.
pub const EPHEMERAL_BYTES_MAX: usize = 256 << 10;

/// Sessions of authors whose last ephemeral message is remembered for one connection, at 24 bytes
/// each: its own session, and those of peers whose messages it passes on. A message of a forgotten
/// session may pass twice.
pub const EPHEMERAL_SESSIONS_MAX: usize = 128;

/// Breaches of the protocol, by connection and kind, that a relay counts apart, at up to 1,200
/// bytes each. Further ones are counted together, for nobody reads about so many.
pub const BREACHES_MAX: usize = 4096;

/// Milliseconds between two lines in the log about the same breach.
pub const BREACH_TOLD_EVERY_MS: u64 = 60_000;

/// Lines in the log about breaches of further connections, in such a time. Beyond it an attacker
/// who dials again and again is only counted, and the log stays small enough to read.
pub const BREACH_LINES_MAX: usize = 60;

const _: () = assert!(PIECE_BYTES <= FRAME_PAYLOAD_BYTES);

/// Bytes of changes that the relay keeps for one device while it pushes them in parts: of one, and
/// of all together. Enough for a pasted picture, which is then not sent again from its beginning
/// over every bad connection.
pub const UPLOADS_DEVICE_BYTES_MAX: usize = 8 << 20;

/// Bytes of such changes that the relay keeps for all devices. A disk has room for them, and an
/// attacker who makes up devices does not fill it.
pub const UPLOADS_BYTES_MAX: usize = 256 << 20;

/// Milliseconds that the relay keeps such a change without another part of it. A device that was
/// away for longer pushes it anew.
pub const UPLOAD_MS_MAX: u64 = 30 * 24 * 3_600_000;

/// Milliseconds in which the relay looks over its whole store for damage. Rows that nobody reads
/// rot unseen, and if damage is found within a day, the devices that wrote the changes still hold
/// them.
pub const SCRUB_PASS_MS: u64 = 24 * 3_600_000;

/// Documents that one step of this looks at, and their bytes: a millisecond or two, in which nobody
/// else is served. Stores of more than some 8 KiB for each document take longer than a day.
pub const SCRUB_DOCUMENTS_MAX: u64 = 32;

/// Bytes that one step looks at; see [`SCRUB_DOCUMENTS_MAX`].
pub const SCRUB_BYTES_MAX: u64 = 256 << 10;

/// Milliseconds between two steps at least, so that a store of any size costs little.
pub const SCRUB_WAIT_MS_MIN: u64 = 100;

/// Milliseconds between two steps at most: a small store is looked over within minutes of a start.
pub const SCRUB_WAIT_MS_MAX: u64 = 60_000;

const _: () = assert!(SCRUB_WAIT_MS_MIN < SCRUB_WAIT_MS_MAX);
const _: () = assert!(UPLOADS_DEVICE_BYTES_MAX <= UPLOADS_BYTES_MAX);
const _: () = assert!(CHANGE_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(FRAME_PAYLOAD_BYTES <= CHANGE_BYTES_MAX);
const _: () = assert!(KEY_BYTES_MAX + 16 <= MESSAGE_BYTES_MAX);
const _: () = assert!(PRESENCE_BYTES_MAX < FRAME_BYTES_MAX / 16);
