//! Encrypts a redb file below redb, page by page.
//!
//! [`Sealed`] is a [`redb::StorageBackend`] around another one, and knows nothing of what redb keeps.
//! What it promises:
//!
//! - **Without the key, the file says how long it is, how often it was committed to, which pages were
//!   written in the same opening and which never**, and whether its key is a passphrase. Who sees it more
//!   than once learns which pages changed. Nothing of what is in them.
//! - **A page that was altered, moved or cut off is damage**, and damage costs that page only. A page
//!   that was put back as it was at an earlier time is not noticed, as little as a whole file that was. Of
//!   a file that was not closed, the commit before the last one may be read if one place of the first
//!   page was altered.
//! - **A power loss costs no more than it does without encryption**: the last commit or the one
//!   before it is there.
//! - **Who destroys the key has wiped the file.** [`destroy`] wipes it without the key.
//!
//! What is in memory is not encrypted, and neither is what the system swaps out of it.
//!
//! Read [`Sealed`] first, which has the layout of the file. `cipher` says how a page is encrypted,
//! `first` how the one page is written that redb writes in place, `header` where the keys are, and
//! `files` what is done with whole files.
//!
//! ```
//! use redb::backends::InMemoryBackend;
//! use redb::{Database, TableDefinition};
//! use rejoin_seal::{Key, Sealed};
//!
//! const NOTES: TableDefinition<'_, &str, &str> = TableDefinition::new("notes");
//!
//! let key = Key::bytes([7; 32]);
//! let file = Sealed::create(InMemoryBackend::new(), &key)?;
//! let database = Database::builder().create_with_backend(file)?;
//! let transaction = database.begin_write()?;
//! transaction.open_table(NOTES)?.insert("1", "gate code 4711")?;
//! transaction.commit()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod cipher;
mod error;
mod files;
mod first;
mod folder;
mod header;
mod key;
mod sealed;

pub use error::{FileError, SealError};
pub use files::{change_key, decrypt, destroy, encrypt, is_sealed};
pub use key::{Key, KeyError};
pub use sealed::Sealed;
