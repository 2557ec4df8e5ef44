//! Who may come in, and what each may do: a token says who somebody is, and `access.toml` says what
//! the roles in it may read and write.
//!
//! Nothing here reads a file or a clock, so all of it can be tested with any time.

mod keys;
mod mint;
mod rights;
mod rules;
mod signature;
mod token;

pub use keys::{Key, KeyError, Keys};
pub use mint::{Claims, NewKey, SigningKey, SigningKeyError};
pub use rights::{Explanation, Rights};
pub use rules::{AccessFault, Allow, Rules, TokenRules};
pub use signature::install as install_signatures;
pub use token::{LEEWAY_S, Principal, TokenError};
